//! `hepguard lint` as a user calls it: formats, exit codes, input forms, bad input.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const PLATFORM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lint/platform.yaml");

fn hepguard(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_hepguard"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    // a command that refuses its arguments does not read its input
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    child.wait_with_output().expect("ends")
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn json(arguments: &[&str], input: &str) -> Value {
    let output = hepguard(&[arguments, &["--format", "json"]].concat(), input);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output)))
}

fn valid(value: &Value) {
    let schema: Value =
        serde_json::from_str(include_str!("../src/report/schemas/lint.v1.json")).expect("the schema is JSON");
    let mut schemas = boon::Schemas::new();
    let mut compiler = boon::Compiler::new();
    compiler.add_resource("lint", schema).expect("a schema");
    let index = compiler.compile("lint", &mut schemas).expect("compiles");
    schemas.validate(value, index).unwrap_or_else(|error| panic!("{error:#}"));
}

const TIER: &str = "apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {name: t}\nspec: {order: 1}\n";

#[test]
fn exit_codes_are_those_of_the_contract() {
    for (arguments, input, code) in [
        (vec!["lint", "-"], TIER, 0),
        (vec!["lint", PLATFORM], "", 1),
        (vec!["lint", PLATFORM, "--fail-on", "critical"], "", 0),
        (vec!["lint", "/nowhere/at/all"], "", 2),
        (vec!["lint"], "", 2),
        (vec!["lint", "-", "--format", "csv"], TIER, 2),
        (vec!["lint", "-", "/nowhere/at/all"], TIER, 3),
        (vec!["lint", "-"], "kind: [", 1),
        (vec!["lint", "-", "--fail-on", "critical"], "kind: [", 3),
        (vec!["lint", "-", "--flow-logs", "/nowhere/at/all"], TIER, 3),
    ] {
        let output = hepguard(&arguments, input);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
    }
}

#[test]
fn json_fits_its_schema_and_names_the_place() {
    let report = json(&["lint", PLATFORM], "");
    valid(&report);
    valid(&json(&["lint", "-"], "kind: [\n---\na: b\n"));
    let findings = report["findings"].as_array().expect("findings");
    let twice = findings.iter().find(|finding| finding["code"] == "HG481").expect("9900 is there twice");
    let line =
        std::fs::read_to_string(PLATFORM).expect("text").lines().position(|l| l.contains("9900")).expect("there");
    assert_eq!(twice["location"]["line"].as_u64(), Some(line as u64 + 2), "the second of the two");
    assert_eq!(twice["location"]["file"].as_str(), Some(PLATFORM));
    assert!(findings.iter().any(|finding| finding["code"] == "HG461"), "loopback: {findings:?}");
}

/// What SARIF 2.1.0 asks of a log file (sections 3.13, 3.14, 3.19, 3.27, 3.30, 3.49 of the standard).
#[test]
fn sarif_has_what_the_standard_asks() {
    let output = hepguard(&["lint", PLATFORM, "--format", "sarif"], "");
    let log: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(log["version"], "2.1.0");
    let run = &log["runs"][0];
    let rules = run["tool"]["driver"]["rules"].as_array().expect("rules");
    assert_eq!(run["tool"]["driver"]["name"], "hepguard");
    let results = run["results"].as_array().expect("results");
    assert!(results.len() > 3, "{results:?}");
    for result in results {
        let index = usize::try_from(result["ruleIndex"].as_i64().expect("an index")).expect("not negative");
        assert_eq!(rules[index]["id"], result["ruleId"]);
        assert!(["error", "warning", "note"].contains(&result["level"].as_str().expect("a level")));
        assert!(!result["message"]["text"].as_str().expect("a message").is_empty());
        let physical = &result["locations"][0]["physicalLocation"];
        assert!(physical["artifactLocation"]["uri"].as_str().expect("a reference").ends_with("platform.yaml"));
        assert!(physical["region"]["startLine"].as_u64().is_some_and(|line| line > 0));
    }
    for rule in rules {
        assert!(rule["shortDescription"]["text"].is_string() && rule["help"]["text"].is_string(), "{rule}");
    }
}

#[test]
fn markdown_and_text_lead_with_the_verdict() {
    let markdown = text(&hepguard(&["lint", PLATFORM, "--format", "markdown"], ""));
    assert!(markdown.starts_with("**hepguard lint**: HIGH") && markdown.contains("| **HG461** "), "{markdown}");
    let plain = text(&hepguard(&["lint", PLATFORM], ""));
    assert!(plain.starts_with("HIGH  ") && plain.lines().all(|line| line.chars().count() <= 80), "{plain}");
    assert!(text(&hepguard(&["lint", "-"], TIER)).starts_with("CLEAN  no findings in 1 file, 1 resource"));
}

#[test]
fn folders_and_run_books_are_read_and_hostile_text_stays_harmless() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, text).expect("written");
    };
    write("a/tier.yaml", TIER);
    write(
        "run-book.md",
        &format!("# Book\n```\nkubectl apply -f -<<EOF\n{}EOF\n```\n", TIER.replace("name: t", "name: u")),
    );
    write(".git/x.yaml", "kind: [");
    write("note.txt", "kind: [");
    let root = folder.path().display().to_string();
    let report = json(&["lint", &root, &format!("{root}/run-book.md")], "");
    assert_eq!(report["summary"]["resources"], 2, "{report}");
    let evil = format!("{}  evil\u{1b}[2J: 1\n", TIER.replace("{order: 1}", "\n  order: 1"));
    let output = hepguard(&["lint", "-"], &evil);
    assert!(!output.stdout.contains(&0x1b) && !output.stderr.contains(&0x1b), "{output:?}");
    let explained = text(&hepguard(&["explain", "HG461"], ""));
    assert!(explained.contains("loopback-denied") && explained.contains("How to fix"), "{explained}");
}
