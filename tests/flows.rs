//! `hepguard flows` as its users call it: the lab in text and JSON, export and import, mistakes.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn hepguard(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hepguard")).args(arguments).output().expect("hepguard runs")
}

fn lab(world: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/demo").join(world).display().to_string()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// The JSON answer, checked against the shipped schema.
fn json(arguments: &[&str], code: i32) -> Value {
    let output = hepguard(&[&["flows", "--format", "json"], arguments].concat());
    assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
    let value: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let schema: Value = serde_json::from_str(hepguard::report::flows::SCHEMA).expect("the schema is JSON");
    let mut schemas = boon::Schemas::new();
    let mut compiler = boon::Compiler::new();
    compiler.enable_format_assertions();
    compiler.add_resource("flows.v1.json", schema).expect("a resource");
    let index = compiler.compile("flows.v1.json", &mut schemas).expect("a schema");
    if let Err(error) = schemas.validate(&value, index) {
        panic!("{error}\n{value:#}");
    }
    value
}

fn flow<'a>(report: &'a Value, name: &str) -> &'a Value {
    let flows = report["flows"].as_array().expect("flows");
    flows.iter().find(|flow| flow["name"] == name).unwrap_or_else(|| panic!("no {name:?} in {report:#}"))
}

fn verdict<'a>(flow: &'a Value, world: &str) -> &'a str {
    flow["worlds"][world]["verdict"].as_str().unwrap_or("-")
}

#[test]
fn the_labs_session_hangs_on_one_thread_before_the_restart_and_on_its_connection_after() {
    let before = json(&["--snapshot", &lab("before")], 1);
    let ssh = flow(&before, "tcp/22 out to 10.0.1.30");
    let worlds = ["now", "new", "no_failsafe", "felix_restart", "reboot_before_felix", "reboot"];
    assert_eq!(worlds.map(|world| verdict(ssh, world)), ["works", "works", "broken", "broken", "works", "broken"]);
    assert_eq!(ssh["bites"], "felix-restart");
    assert!(ssh["held_by"].as_str().is_some_and(|held| held.contains("failsafe tcp:22")), "{ssh:#}");

    let after = json(&["--snapshot", &lab("after")], 1);
    let ssh = flow(&after, "tcp/22 out to 10.0.1.30");
    assert_eq!(["now", "new"].map(|world| verdict(ssh, world)), ["works", "broken"]);
    assert_eq!(ssh["bites"], "reconnect");
    assert!(ssh["held_by"].as_str().is_some_and(|held| held.contains("live connection")), "{ssh:#}");
}

#[test]
fn the_lease_has_its_clock_times() {
    let before = json(&["--snapshot", &lab("before")], 1);
    let lease = flow(&before, "DHCP renewal (udp/67) to 10.0.1.1 on ens5");
    let times: Vec<&str> =
        lease["clock"].as_array().expect("times").iter().filter_map(|one| one["at"].as_str()).collect();
    assert_eq!(times, ["2022-08-04T16:31:42Z", "2022-08-04T16:54:12Z", "2022-08-04T17:01:42Z"]);
    assert_eq!(verdict(lease, "no_failsafe"), "broken", "the lab's policy allows TCP 67");
}

#[test]
fn every_line_fits_eighty_columns() {
    let output = hepguard(&["flows", "-v", "--snapshot", &lab("before")]);
    let text = text(&output.stdout);
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert!(text.starts_with("CRITICAL  bastion: 25 flows must work, 5 held up by one thing\n"), "{text}");
}

#[test]
fn an_export_protects_what_it_names() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("must-work.toml").display().to_string();
    hepguard(&["flows", "--snapshot", &lab("before"), "--export", &file]);
    let written = fs::read_to_string(&file).expect("written");
    assert!(written.contains("name = \"tcp/22 out to 10.0.1.30\"") && !written.contains("icmp"), "{written}");
    let imported = json(&["--snapshot", &lab("after"), "--import", &file], 1);
    let lost = flow(&imported, "tcp/22 out to 10.0.1.30 (tcp/22 out to 10.0.1.30/32)");
    assert_eq!((lost["kind"].as_str(), lost["severity"].as_str()), (Some("protect"), Some("critical")));
    assert!(lost["source"].as_str().is_some_and(|source| source.starts_with(&file)), "{lost:#}");
    let again = hepguard(&["flows", "--snapshot", &lab("before"), "--export", &file]);
    assert_eq!(again.status.code(), Some(2), "an export overwrites nothing");
}

#[test]
fn what_is_protected_counts_in_an_audit_too_and_mistakes_have_their_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("hepguard.toml").display().to_string();
    let entry =
        "[[protect]]\nname = \"api\"\ndirection = \"out\"\nproto = \"tcp\"\nport = 6443\npeers = [\"10.0.1.20\"]\n";
    fs::write(&file, entry).expect("written");
    let report = json(&["--snapshot", &lab("before"), "--config", &file], 1);
    assert_eq!(flow(&report, "api (tcp/6443 out to 10.0.1.20/32)")["source"], format!("{file}:1"));
    fs::write(&file, format!("{entry}peer = []\n")).expect("written");
    let output = hepguard(&["flows", "--snapshot", &lab("before"), "--config", &file]);
    let words = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        words.contains(&format!("{file}:7: unknown key \"peer\"")) && words.contains("did you mean \"peers\"?"),
        "{words}"
    );
}

#[test]
fn without_rules_nothing_is_claimed() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["ip-addr.json", "ip-route.json", "sockets.txt", "meta.json"] {
        fs::copy(Path::new(&lab("before")).join(name), folder.path().join(name)).expect("copied");
    }
    let path = folder.path().display().to_string();
    let meta = fs::read_to_string(folder.path().join("meta.json")).expect("there");
    fs::write(folder.path().join("meta.json"), meta.replace("\"nft-ruleset.json\",", "")).expect("written");
    fs::write(folder.path().join("iptables-legacy-save.txt"), "*filter\n:INPUT DROP [0:0]\n").expect("written");
    let report = json(&["--snapshot", &path], 3);
    let ssh = flow(&report, "SSH in (tcp/22, ipv4)");
    assert_eq!(verdict(ssh, "new"), "unknown", "{ssh:#}");
}
