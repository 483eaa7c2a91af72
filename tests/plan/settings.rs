//! Felix's settings as a change: its file, and parameters that the model does not follow.

use std::path::Path;

use crate::{WITH_SSH, WORKER, copy_folder, flow, json, path, plan};

/// A `felix.cfg` with this outbound list.
fn file(folder: &Path, list: &str) -> String {
    let path = folder.join("new.cfg");
    let (_, entries) = list.split_once('=').expect("a list");
    std::fs::write(&path, format!("[global]\nFailsafeOutboundHostPorts = {entries}\n")).expect("written");
    path.display().to_string()
}

#[test]
fn a_new_felix_cfg_counts_where_the_environment_is_silent() {
    let folder = tempfile::tempdir().expect("a folder");
    let host = folder.path().join("host");
    copy_folder(Path::new(&path("src/demo/before")), &host);
    let snapshot = host.display().to_string();
    // the environment has a list of its own, without SSH, and wins
    let repaired = file(folder.path(), WITH_SSH);
    let beaten = json(&snapshot, &["--felix-cfg", &repaired], 1);
    assert_eq!((&beaten["verdict"], &flow(&beaten, WORKER)["state"]), (&"lockout".into(), &"lost".into()));
    let environment = std::fs::read_to_string(host.join("felix/calico.env")).expect("the lab's");
    let kept = environment.lines().filter(|line| !line.contains("FAILSAFEOUTBOUND"));
    let kept: String = kept.map(|line| format!("{line}\n")).collect();
    std::fs::write(host.join("felix/calico.env"), kept).expect("written");
    let counts = json(&snapshot, &["--felix-cfg", &repaired], 0);
    assert_eq!((&counts["verdict"], &flow(&counts, WORKER)["state"]), (&"safe".into(), &"kept".into()));
    assert!(counts["change"].to_string().contains("felix.cfg becomes"), "{:#}", counts["change"]);
    let trimmed = file(folder.path(), crate::WITHOUT_SSH);
    let cuts = json(&snapshot, &["--felix-cfg", &trimmed], 1);
    assert_eq!((&cuts["verdict"], &flow(&cuts, WORKER)["state"]), (&"lockout".into(), &"lost".into()));
    // no setting at all
    std::fs::write(folder.path().join("new.cfg"), "# nothing\n").expect("written");
    let refused = plan(&snapshot, &["--felix-cfg", &trimmed]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no setting of Felix is in it"), "{refused:?}");
}

#[test]
fn what_the_model_does_not_follow_is_named() {
    let before = path("src/demo/before");
    let plain = json(&before, &["--set", WITH_SSH, "--set", "LogSeverityScreen=Debug"], 0);
    assert_eq!(plain["verdict"], "safe", "the log's level changes no rule");
    for setting in ["VXLANEnabled=true", "BPFEnabled=true", "Ipv6Support=false"] {
        let plan = json(&before, &["--set", WITH_SSH, "--set", setting], 3);
        let (name, _) = setting.split_once('=').expect("a setting");
        assert_eq!(plan["verdict"], "unknown", "{setting}: {:#}", plan["findings"]);
        let limits = plan["limits"].to_string();
        assert!(limits.contains(&format!("what {name} = ")) && limits.contains("is not modelled"), "{limits}");
    }
}
