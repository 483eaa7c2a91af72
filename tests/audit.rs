//! `hepguard audit`, `demo` and `explain` as their users call them: what they say of the lab, in text and in JSON.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn hepguard(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hepguard")).args(arguments).output().expect("hepguard runs")
}

fn path(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name).display().to_string()
}

fn audit(snapshot: &str, more: &[&str]) -> Output {
    let mut arguments = vec!["audit", "--snapshot", snapshot];
    arguments.extend(more);
    hepguard(&arguments)
}

/// The JSON answer, checked against the shipped schema.
fn json(snapshot: &str, code: i32) -> Value {
    let output = audit(snapshot, &["--format", "json"]);
    assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stderr));
    let value: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let schema: Value =
        serde_json::from_str(include_str!("../src/report/schemas/audit.v1.json")).expect("the schema is JSON");
    let mut schemas = boon::Schemas::new();
    let mut compiler = boon::Compiler::new();
    compiler.enable_format_assertions();
    compiler.add_resource("audit.v1.json", schema).expect("a resource");
    let index = compiler.compile("audit.v1.json", &mut schemas).expect("a schema");
    if let Err(error) = schemas.validate(&value, index) {
        panic!("{error}\n{value:#}");
    }
    value
}

fn codes(audit: &Value) -> Vec<&str> {
    audit["findings"].as_array().expect("findings").iter().filter_map(|finding| finding["code"].as_str()).collect()
}

fn finding<'a>(audit: &'a Value, code: &str, words: &str) -> &'a Value {
    let findings = audit["findings"].as_array().expect("findings");
    let fits =
        |finding: &&Value| finding["code"] == code && finding["title"].as_str().is_some_and(|t| t.contains(words));
    findings.iter().find(fits).unwrap_or_else(|| panic!("no {code} about {words:?} in {findings:#?}"))
}

#[test]
fn break_nine_is_foretold_one_step_before() {
    let audit = json(&path("src/demo/before"), 1);
    let masked = finding(&audit, "HG104", "SSH out (tcp/22) to 10.0.1.30");
    assert_eq!(masked["severity"], "critical");
    assert_eq!(masked["bites"], "felix-restart");
    let evidence = masked["evidence"].to_string();
    for words in ["failsafe tcp:22", "hep-external", "tier security", "egress rule 0 (deny)"] {
        assert!(evidence.contains(words), "the evidence names {words:?}: {evidence}");
    }
    finding(&audit, "HG105", "removes tcp:22 outbound");
    assert_eq!(
        audit["integrity"]["verified"], audit["integrity"]["rules"],
        "every rule of the lab is as Felix wrote it"
    );
    assert_eq!(audit["dataplane"]["mode"], "iptables");
    assert_eq!(audit["host"], "bastion");
}

#[test]
fn after_the_restart_the_live_session_is_known_to_be_the_last() {
    let audit = json(&path("src/demo/after"), 1);
    let lost = finding(&audit, "HG202", "tcp/22 out to 10.0.1.30");
    assert_eq!(lost["bites"], "reconnect");
    assert_eq!(lost["witness"]["dst"], "10.0.1.30");
    assert!(!codes(&audit).contains(&"HG105"), "file, Felix and kernel agree now: {:?}", codes(&audit));
}

/// The auto-HEP lab: `iptables-save | grep failsafe`, as its page shows it.
#[test]
fn a_grepped_listing_is_proven_and_one_changed_port_breaks_its_chain() {
    let listing = path("tests/fixtures/auto-hep-grep-failsafe.txt");
    // nothing is wrong, and the rules of IPv6 were not given
    let whole = json(&listing, 3);
    for direction in ["in", "out"] {
        assert_eq!(whole["failsafe"][direction].as_array().map(Vec::len), Some(9), "{direction}");
    }
    assert_eq!(whole["integrity"]["mismatches"], Value::Array(Vec::new()));
    assert_eq!(whole["integrity"]["verified"], 27, "one inbound and two outbound chains of nine rules");

    let folder = tempfile::tempdir().expect("a folder");
    let copy: PathBuf = folder.path().join("listing.txt");
    let text = std::fs::read_to_string(&listing).expect("the fixture");
    let changed = text.replacen(
        "\"cali:cwZWoBSwVeIAZmVN\" -m multiport --dports 2379",
        "\"cali:cwZWoBSwVeIAZmVN\" -m multiport --dports 2378",
        1,
    );
    assert_ne!(text, changed);
    std::fs::write(&copy, changed).expect("written");
    let broken = json(&copy.display().to_string(), 1);
    let mismatches = broken["integrity"]["mismatches"].as_array().expect("mismatches");
    let rules: Vec<(u64, &str)> = mismatches
        .iter()
        .filter(|mismatch| mismatch["chain"] == "cali-failsafe-in")
        .filter_map(|mismatch| Some((mismatch["rule"].as_u64()?, mismatch["kind"].as_str()?)))
        .collect();
    let expected = [(4, "edited"), (5, "follows"), (6, "follows"), (7, "follows"), (8, "follows"), (9, "follows")];
    assert_eq!(rules, expected, "the rule and every later one of its chain");
    assert_eq!(mismatches.len(), expected.len(), "other chains are as they were");
    finding(&broken, "HG301", "cali-failsafe-in");
}

#[test]
fn text_fits_eighty_columns_and_says_the_verdict_first() {
    for world in ["before", "after"] {
        let output = audit(&path(&format!("src/demo/{world}")), &[]);
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "wider than 80 columns: {line:?}");
        }
        let first = text.lines().next().expect("a first line");
        let word = if world == "before" { "CRITICAL" } else { "HIGH" };
        assert!(first.starts_with(word), "{first}");
        assert!(!text.contains('\u{1b}'), "no colour into a pipe");
        let calendar = text.find("Calendar").expect("the calendar");
        assert!(calendar > text.rfind("    fix ").expect("fixes"), "the calendar comes last");
    }
}

#[test]
fn two_runs_are_the_same() {
    let run = || audit(&path("src/demo/before"), &["--format", "json"]).stdout;
    assert_eq!(run(), run());
}

#[test]
fn fail_on_decides_the_exit_code() {
    let code = |level: &str| audit(&path("src/demo/before"), &["--fail-on", level]).status.code();
    assert_eq!([code("critical"), code("low")], [Some(1), Some(1)]);
    let code = |level: &str| audit(&path("src/demo/after"), &["--fail-on", level]).status.code();
    assert_eq!([code("critical"), code("high")], [Some(0), Some(1)]);
    assert_eq!(audit(&path("src/demo/after"), &["--fail-on", "tiny"]).status.code(), Some(2));
    assert_eq!(audit(&path("src/demo/after"), &["--format", "yaml"]).status.code(), Some(2));
}

/// What stands in the host's files must not reach the terminal raw.
#[test]
fn hostile_names_are_escaped() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
    write(
        "iptables-save.txt",
        "*filter\n:INPUT ACCEPT [0:0]\n:cali-INPUT - [0:0]\n-A INPUT -m comment --comment \"\u{1b}]0;x\u{7}\" -s 192.0.2.1/32 -j DROP\n-A INPUT -j cali-INPUT\nCOMMIT\n",
    );
    let output = audit(&folder.path().display().to_string(), &["--verbose"]);
    for stream in [&output.stdout, &output.stderr] {
        assert!(!stream.contains(&0x1b) && !stream.contains(&7), "{}", String::from_utf8_lossy(stream));
    }
    assert!(String::from_utf8_lossy(&output.stdout).contains("HG303"));
}

#[test]
fn the_demo_tells_the_story_without_any_host() {
    let output = hepguard(&["demo"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    for words in ["4 denies in 1 group, 10 packets", "end of tier security", "HG104 critical", "HG202 high", "Calendar"]
    {
        assert!(text.contains(words), "the demo should show {words:?}:\n{text}");
    }
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "wider than 80 columns: {line:?}");
    }
    let output = hepguard(&["demo", "--format", "json"]);
    let value: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(value["denies"]["events"], 4);
    assert_eq!(value["before"]["summary"]["worst"], "critical");
}

#[test]
fn the_lab_can_be_written_out_and_audited() {
    let folder = tempfile::tempdir().expect("a folder");
    let lab = folder.path().join("lab").display().to_string();
    assert_eq!(hepguard(&["demo", "--write", &lab]).status.code(), Some(0));
    assert_eq!(json(&format!("{lab}/before"), 1), json(&path("src/demo/before"), 1));
    let again = hepguard(&["demo", "--write", &lab]);
    assert_eq!(again.status.code(), Some(2), "existing files are not overwritten");
}

#[test]
fn every_code_explains_itself() {
    for code in ["HG104", "hg301", "failsafe-drift"] {
        let output = hepguard(&["explain", code]);
        assert_eq!(output.status.code(), Some(0));
        assert!(String::from_utf8_lossy(&output.stdout).contains("How to fix"));
    }
    let unknown = hepguard(&["explain", "HG999"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("HG901"), "near codes are named");
}
