//! `hepguard plan` as its users call it: what it says of changes to the lab, in every format.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::{WITH_SSH, WITHOUT_SSH, WORKER, about, copy_folder, flow, json, path, plan, without_the_deny};

/// The list is trimmed on disk, policy denies: the restart is what cuts.
#[test]
fn the_restart_of_break_nine_is_a_lockout_with_rule_witness_and_fix() {
    let plan = json(&path("src/demo/before"), &["--felix", "restart"], 1);
    assert_eq!(plan["verdict"], "lockout");
    let lost = about(&plan, "HG251", WORKER);
    assert_eq!((&lost["severity"], &lost["bites"]), (&"critical".into(), &"felix-restart".into()));
    assert_eq!(lost["witness"]["dst"], "10.0.1.30");
    let evidence = lost["evidence"].to_string();
    for words in ["hep-external", "egress rule 0 (deny)", "failsafe tcp:22", "live session of ssh"] {
        assert!(evidence.contains(words), "the evidence names {words:?}: {evidence}");
    }
    assert!(lost["fix"].as_str().is_some_and(|fix| fix.contains("tcp:22 on the failsafe list")), "{lost:#}");
    let worker = flow(&plan, WORKER);
    assert_eq!(
        (&worker["state"], &worker["before"], &worker["after"]),
        (&"lost".into(), &"works".into(), &"broken".into())
    );
    assert_eq!(worker["worlds"]["now"]["after"], "works", "the open session goes on");
    assert_eq!(plan["calendar"][0]["bites"], "felix-restart");
    assert_eq!(plan["fidelity"]["rules"], plan["fidelity"]["verified"]);
}

/// The same edit, given as the change on a host whose file is still whole.
#[test]
fn the_edit_and_its_repair_are_told_apart() {
    let before = path("src/demo/before");
    let edit = json(&before, &["--set", WITHOUT_SSH], 1);
    assert_eq!((&edit["verdict"], &flow(&edit, WORKER)["state"]), (&"lockout".into(), &"lost".into()));
    let repair = json(&before, &["--set", WITH_SSH], 0);
    assert_eq!((&repair["verdict"], &flow(&repair, WORKER)["state"]), (&"safe".into(), &"kept".into()));
    assert_eq!(repair["findings"], Value::Array(Vec::new()));
    // after the lockout the repair gives the flow back
    let gained = json(&path("src/demo/after"), &["--set", WITH_SSH], 0);
    assert_eq!((&gained["verdict"], &flow(&gained, WORKER)["state"]), (&"safe".into(), &"gained".into()));
}

/// Entries of one family are no news when the list loses another; a new one is.
#[test]
fn troubles_that_were_there_before_are_not_brought_by_the_change() {
    let folder = tempfile::tempdir().expect("a folder");
    let host = folder.path().join("host");
    copy_folder(Path::new(&path("src/demo/before")), &host);
    let list = |entries: &str| format!("FELIX_FAILSAFEOUTBOUNDHOSTPORTS={entries}\n");
    let all = "tcp:0.0.0.0/0:22,udp:0.0.0.0/0:53,udp:0.0.0.0/0:67,tcp:0.0.0.0/0:179,tcp:0.0.0.0/0:6443";
    let environment = std::fs::read_to_string(host.join("felix/calico.env")).expect("the lab's");
    let kept = environment.lines().filter(|line| !line.to_ascii_uppercase().contains("FAILSAFEOUTBOUND"));
    let kept: String = kept.map(|line| format!("{line}\n")).collect();
    std::fs::write(host.join("felix/calico.env"), format!("{kept}{}", list(all))).expect("written");
    let codes = |entries: &str| -> Vec<String> {
        let plan = plan(
            &host.display().to_string(),
            &["--format", "json", "--set", &format!("FailsafeOutboundHostPorts={entries}")],
        );
        let plan: Value = serde_json::from_slice(&plan.stdout).expect("JSON");
        plan["findings"].as_array().expect("findings").iter().map(|one| one["code"].to_string()).collect()
    };
    let fewer = all.replace(",tcp:0.0.0.0/0:6443", "");
    assert!(!codes(&fewer).contains(&"\"HG103\"".to_owned()), "{:?}", codes(&fewer));
    let more = format!("{all},tcp:0.0.0.0/0:8443");
    assert!(codes(&more).contains(&"\"HG103\"".to_owned()), "{:?}", codes(&more));
}

/// SSH in hangs on the inbound list; BGP has policy as well, so it only loses its guard.
#[test]
fn an_emptied_list_cuts_what_hangs_on_it_and_unguards_the_rest() {
    let plan = json(&path("src/demo/before"), &["--set", WITH_SSH, "--set", "FailsafeInboundHostPorts=none"], 1);
    assert_eq!(plan["verdict"], "lockout");
    about(&plan, "HG251", "SSH in (tcp/22, ipv4)");
    let bird = about(&plan, "HG253", "tcp/179 in from 10.0.1.20");
    assert_eq!((&bird["severity"], &bird["bites"]), (&"medium".into(), &"felix-restart".into()));
    assert_eq!(bird["subject"]["flows"].as_array().map(Vec::len), Some(3), "one finding an entry: {bird:#}");
    let guards = plan["findings"].as_array().expect("findings").iter().filter(|finding| finding["code"] == "HG253");
    assert_eq!(guards.count(), 2, "tcp:179 and udp:68");
    assert_eq!(flow(&plan, WORKER)["state"], "kept");
    let codes: Vec<&str> =
        plan["findings"].as_array().expect("findings").iter().filter_map(|finding| finding["code"].as_str()).collect();
    assert!(codes.contains(&"HG102"), "what the audit would say of the new list is said: {codes:?}");
}

#[test]
fn a_list_on_disk_that_nobody_saved_leaves_the_answer_open() {
    let folder = tempfile::tempdir().expect("a folder");
    for file in [
        "iptables-legacy-save.txt",
        "ip6tables-legacy-save.txt",
        "ipset-save.txt",
        "sockets.txt",
        "ip-addr.json",
        "ip-route.json",
    ] {
        std::fs::copy(path(&format!("src/demo/before/{file}")), folder.path().join(file)).expect("copied");
    }
    let plan = json(&folder.path().display().to_string(), &["--felix", "restart"], 3);
    assert_eq!(plan["verdict"], "unknown");
    assert!(plan["limits"].to_string().contains("failsafe list on disk is not known"), "{:#}", plan["limits"]);
}

#[test]
fn text_fits_eighty_columns_says_the_verdict_first_and_the_calendar_last() {
    for change in [&["--felix", "restart"][..], &["--set", WITH_SSH], &["--set", "FailsafeInboundHostPorts=none", "-v"]]
    {
        let output = plan(&path("src/demo/before"), change);
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "wider than 80 columns: {line:?}");
        }
        let first = text.lines().next().expect("a first line");
        let word = if change.contains(&WITH_SSH) { "SAFE" } else { "LOCKOUT" };
        assert!(first.starts_with(word), "{first}");
        assert!(text.find("Calendar") > text.find("How it was found"), "the calendar comes last");
    }
}

#[test]
fn the_other_formats_say_the_same() {
    let formatted = |format: &str| {
        let output = plan(&path("src/demo/before"), &["--felix", "restart", "--format", format]);
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let junit = formatted("junit");
    assert!(junit.contains("tests=\"25\" failures=\"2\" skipped=\"0\""), "{junit}");
    assert_eq!(junit.matches("<testcase ").count(), 25);
    assert!(junit.contains("name=\"tcp/22 out to 10.0.1.30\">\n      <failure type=\"lost\""), "{junit}");
    let sarif: Value = serde_json::from_str(&formatted("sarif")).expect("JSON");
    let result = &sarif["runs"][0]["results"][0];
    assert_eq!(
        (&sarif["version"], &result["ruleId"], &result["level"]),
        (&"2.1.0".into(), &"HG251".into(), &"error".into())
    );
    assert_eq!(result["locations"][0]["physicalLocation"]["region"]["startLine"], 216);
    let markdown = formatted("markdown");
    assert!(markdown.starts_with("## hepguard plan: lockout\n"), "{markdown}");
    assert!(markdown.contains("| tcp/22 out to 10.0.1.30 | works | broken | lost |"), "{markdown}");
}

/// Beyond the protected flows: every packet, with the rules responsible on both sides.
#[test]
fn the_exact_packets_of_a_change_are_told_in_every_format() {
    let before = path("src/demo/before");
    let restart = json(&before, &["--felix", "restart"], 1);
    let denied = restart["newly_denied"].as_array().expect("a list");
    let worker = denied.iter().find(|set| set["witness"]["dst"] == "10.0.1.30").expect("the worker's");
    assert_eq!(
        (&worker["family"], &worker["hook"], &worker["more"]),
        (&"ipv4".into(), &"output".into(), &false.into())
    );
    assert_eq!(worker["packets"][0]["dport"]["values"], serde_json::json!(["22"]));
    assert_eq!(worker["packets"][0]["dst"]["values"], serde_json::json!(["10.0.1.30"]));
    assert_eq!(worker["before"]["rule"]["chain"], "cali-failsafe-out");
    assert_eq!(worker["after"]["rule"]["chain"], "cali-po-_kyBV9b1MY9iBlyOGLNE");
    let others = denied.iter().filter(|set| set["witness"]["dst"] != "10.0.1.30");
    assert_eq!(others.count(), 1, "everybody else's port 22: {denied:#?}");
    assert_eq!((&restart["newly_allowed"], &restart["not_compared"]), (&serde_json::json!([]), &serde_json::json!([])));
    let back = json(&path("src/demo/after"), &["--set", WITH_SSH], 0);
    assert_eq!(back["newly_denied"], serde_json::json!([]));
    let allowed = back["newly_allowed"].as_array().expect("a list");
    let ipv4 = allowed.iter().filter(|set| set["family"] == "ipv4");
    // these entries hold for both families, the live ones for IPv4 alone
    assert_eq!((ipv4.count(), allowed.len()), (2, 6), "{allowed:#?}");

    let formatted = |format: &str| {
        let output = plan(&before, &["--felix", "restart", "--format", format]);
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let text = formatted("text");
    assert!(text.contains("  newly denied ipv4 out\n    tcp, to port 22, "), "{text}");
    assert!(text.contains("tcp, to port 22, to 10.0.1.30, state new untracked\n"), "{text}");
    assert!(formatted("markdown").contains("| newly denied: ipv4 out | tcp, to port 22, to 10.0.1.30, "));
    let nothing = plan(&before, &["--felix", "stop"]);
    assert!(String::from_utf8_lossy(&nothing.stdout).contains("All packets\n  none is treated differently\n"));
}

#[test]
fn bad_changes_are_refused_with_what_was_expected() {
    let says = |change: &[&str], words: &str| {
        let output = plan(&path("src/demo/before"), change);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{change:?}: {said}");
        assert!(said.contains(words) && output.stdout.is_empty(), "{change:?}: {said}");
    };
    says(&[], "no change was given");
    says(&["--set", "tcp:22"], "expected NAME=VALUE");
    says(&["--set", "FailsafeInbondHostPorts=tcp:22"], "did you mean FailsafeInboundHostPorts?");
    says(&["--felix-env", "/does/not/exist"], "cannot read /does/not/exist");
    says(&["--felix", "restart", "--format", "yaml"], "expected one of text, json, sarif, markdown, junit");
    let folder = tempfile::tempdir().expect("a folder");
    let empty: PathBuf = folder.path().join("empty.env");
    std::fs::write(&empty, "# nothing\n").expect("written");
    says(&["--felix-env", &empty.display().to_string()], "no line sets a variable of Felix");
}

/// The policy repaired: safe by itself, and the restart that cut the flow does so no more.
#[test]
fn a_repaired_policy_keeps_the_flow_through_the_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("repaired.yaml");
    std::fs::write(&file, without_the_deny()).expect("the policy is written");
    let (before, file) = (path("src/demo/before"), file.display().to_string());
    let repaired = json(&before, &["-f", &file], 0);
    assert_eq!(repaired["verdict"], "safe");
    assert_eq!(flow(&repaired, WORKER)["worlds"]["no-failsafe"]["before"], "broken");
    assert_eq!(flow(&repaired, WORKER)["worlds"]["no-failsafe"]["after"], "works");
    let both = json(&before, &["-f", &file, "--felix", "restart"], 1);
    assert_ne!(flow(&both, WORKER)["state"], "lost");
    assert_ne!(both["verdict"], "lockout");
}

#[test]
fn resources_that_cannot_change_anything_are_refused() {
    let before = path("src/demo/before");
    let said = |change: &[&str]| {
        let output = plan(&before, change);
        assert_eq!(output.status.code(), Some(2), "{change:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(said(&["--delete", "gnp/security.hep-externl"]).contains("did you mean"), "a typo");
    assert!(said(&["-f", "/nowhere.yaml"]).contains("/nowhere.yaml"), "a missing file");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("empty.yaml");
    std::fs::write(&file, "a: 1\n").expect("the file is written");
    assert!(said(&["-f", &file.display().to_string()]).contains("no Calico resource"), "nothing in it");
}
