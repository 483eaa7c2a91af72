//! Plans in a code review: policies, settings and some facts of the host, and no rules.

use std::path::Path;

use crate::{WITH_SSH, WORKER, about, copy_folder, flow, json, path, plan};

/// The lab's host without the listings of its rules, and without what tells which ones there were.
fn without_rules(folder: &Path) -> String {
    copy_folder(Path::new(&path("src/demo/before")), folder);
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let name = entry.file_name().into_string().expect("text");
        if name.contains("tables") || name.starts_with("nft-") || name == "meta.json" {
            std::fs::remove_file(entry.path()).expect("removed");
        }
    }
    folder.display().to_string()
}

#[test]
fn the_rules_are_the_rendered_ones_and_that_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let host = without_rules(folder.path());
    let restart = json(&host, &["--felix", "restart"], 1);
    assert_eq!((&restart["ruleset"], &restart["verdict"]), (&"rendered".into(), &"lockout".into()), "{restart:#}");
    let lost = about(&restart, "HG251", WORKER);
    assert!(lost["evidence"].to_string().contains("security.hep-external in tier security, egress rule 0 (deny)"));
    assert_eq!(restart["fidelity"]["rules"], 0, "rendered rules prove nothing");
    assert!(restart["notes"].to_string().contains("an offline plan"), "{:#}", restart["notes"]);
    let repaired = json(&host, &["--set", WITH_SSH], 0);
    assert_eq!((&repaired["verdict"], &flow(&repaired, WORKER)["state"]), (&"safe".into(), &"kept".into()));
    let text = String::from_utf8(plan(&host, &["--set", WITH_SSH]).stdout).expect("text");
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("no live ones prove the model") && text.contains("an offline plan"), "{text}");
    // without the host's sets it stays open whom the selectors stand for
    std::fs::remove_file(folder.path().join("ipset-save.txt")).expect("removed");
    let open = json(&host, &["--felix", "restart"], 3);
    assert_eq!((&open["verdict"], &flow(&open, WORKER)["state"]), (&"unknown".into(), &"unknown".into()));
    assert!(open["limits"].to_string().contains("the members of kubernetes.io/hostname == "), "{:#}", open["limits"]);
    // what was listed is no offline plan
    assert_eq!(json(&path("src/demo/before"), &["--felix", "restart"], 1)["ruleset"], "listed");
}

#[test]
fn policies_may_come_from_elsewhere() {
    let folder = tempfile::tempdir().expect("a folder");
    let host = without_rules(folder.path());
    std::fs::remove_dir_all(folder.path().join("calico")).expect("removed");
    // without any resource there is nothing to render
    let nothing = json(&host, &["--felix", "restart"], 3);
    assert_eq!((&nothing["ruleset"], &nothing["verdict"]), (&"listed".into(), &"unknown".into()));
    assert!(nothing["limits"].to_string().contains("there is no listing of the ipv4 firewall"));
    let policies = path("src/demo/before/calico");
    let given = json(&host, &["--felix", "restart", "--policies", &policies], 1);
    assert_eq!((&given["ruleset"], &given["verdict"]), (&"rendered".into(), &"lockout".into()));
}
