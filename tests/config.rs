//! `hepguard config check` as its users call it.

use std::fs;
use std::process::{Command, Output};

use serde_json::Value;

fn hepguard(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hepguard")).args(arguments).output().expect("hepguard runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// The JSON answer, checked against the shipped schema.
fn json(file: &str, code: i32) -> Value {
    let output = hepguard(&["config", "check", file, "--format", "json"]);
    assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
    let value: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let schema: Value = serde_json::from_str(hepguard::report::CONFIG_SCHEMA).expect("the schema is JSON");
    let mut schemas = boon::Schemas::new();
    let mut compiler = boon::Compiler::new();
    compiler.add_resource("config.v1.json", schema).expect("a resource");
    let index = compiler.compile("config.v1.json", &mut schemas).expect("a schema");
    if let Err(error) = schemas.validate(&value, index) {
        panic!("{error}\n{value:#}");
    }
    value
}

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/hepguard.toml");

#[test]
fn the_shipped_example_is_sound() {
    let value = json(EXAMPLE, 0);
    assert_eq!((&value["sound"], &value["config"]["audit"]["settle"]), (&Value::from(true), &Value::from("50ms")));
    let output = hepguard(&["config", "check", EXAMPLE, "-q"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stdout), format!("{EXAMPLE}: sound, 0 protected flows\n"));
}

#[test]
fn a_mistake_is_named_with_its_line_and_exits_with_1() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("mine.toml");
    fs::write(&path, "# mine\n[alerts]\nlern = \"1h\"\n").expect("written");
    let file = path.to_str().expect("text");
    let value = json(file, 1);
    assert_eq!((&value["mistake"]["line"], &value["config"]), (&Value::from(3), &Value::Null));
    let output = hepguard(&["config", "check", file]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stdout);
    assert!(said.starts_with(&format!("{file}:3: unknown key \"lern\"")), "{said}");
    assert!(said.ends_with("did you mean \"learn\"?\n"), "{said}");
    // --config names the same file, and other commands refuse it
    assert_eq!(hepguard(&["--config", file, "config", "check"]).status.code(), Some(1));
    assert_eq!(hepguard(&["--config", file, "audit"]).status.code(), Some(2));
}

#[test]
fn what_of_the_host_does_not_fit_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("mine.toml");
    let body = "[logs]\nfiles = [\"/nowhere/at all\"]\njournal = \"off\"\n[metrics]\nlisten = \"0.0.0.0:9707\"\ntextfile = \"/no/such/f.prom\"\n";
    fs::write(&path, body).expect("written");
    let value = json(path.to_str().expect("text"), 0);
    let remarks = value["remarks"].to_string();
    for expected in ["/nowhere/at all is not there", "0.0.0.0:9707 is reachable", "/no/such is not there"] {
        assert!(remarks.contains(expected), "{remarks} should contain {expected}");
    }
}

#[test]
fn what_cannot_be_read_is_no_verdict() {
    for arguments in [&["config", "check", "/nowhere.toml"][..], &["config", "check", "/"], &["config"]] {
        assert_eq!(hepguard(arguments).status.code(), Some(2), "{arguments:?}");
    }
    let output = hepguard(&["config", "check", EXAMPLE, "--format", "yaml"]);
    assert_eq!(output.status.code(), Some(2));
}
