//! `hepguard plan` as its users call it, on the lab and on hosts made from it.

mod break_nine;
mod commands;
mod node;
mod offline;
mod settings;

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn hepguard(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hepguard")).args(arguments).output().expect("hepguard runs")
}

fn path(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name).display().to_string()
}

fn plan(snapshot: &str, more: &[&str]) -> Output {
    hepguard(&[&["plan", "--snapshot", snapshot], more].concat())
}

/// The JSON answer, checked against the shipped schema.
fn json(snapshot: &str, change: &[&str], code: i32) -> Value {
    let output = plan(snapshot, &[&["--format", "json"], change].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let value: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{change:?}: {said}"));
    let found = (&value["findings"], &value["limits"], &value["not_compared"]);
    assert_eq!(output.status.code(), Some(code), "{change:?}: {said}{found:#?}");
    let schema: Value =
        serde_json::from_str(include_str!("../../src/report/schemas/plan.v1.json")).expect("the schema is JSON");
    let mut schemas = boon::Schemas::new();
    let mut compiler = boon::Compiler::new();
    compiler.enable_format_assertions();
    compiler.add_resource("plan.v1.json", schema).expect("a resource");
    let index = compiler.compile("plan.v1.json", &mut schemas).expect("a schema");
    if let Err(error) = schemas.validate(&value, index) {
        panic!("{error}\n{value:#}");
    }
    value
}

fn flow<'a>(plan: &'a Value, name: &str) -> &'a Value {
    let all = plan["protected"].as_array().expect("protected flows");
    all.iter().find(|flow| flow["name"] == name).unwrap_or_else(|| panic!("no flow {name:?} in {all:#?}"))
}

fn about<'a>(plan: &'a Value, code: &str, name: &str) -> &'a Value {
    let all = plan["findings"].as_array().expect("findings");
    let among = |flows: &Value| flows.as_array().is_some_and(|flows| flows.iter().any(|flow| flow == name));
    let fits = |finding: &&Value| {
        let subject = &finding["subject"];
        finding["code"] == code && (subject["flow"] == name || among(&subject["flows"]))
    };
    all.iter().find(fits).unwrap_or_else(|| panic!("no {code} about {name:?} in {all:#?}"))
}

const WORKER: &str = "tcp/22 out to 10.0.1.30";
const WITHOUT_SSH: &str = "FailsafeOutboundHostPorts=udp:53,udp:67,tcp:179,tcp:6443";
const WITH_SSH: &str = "FailsafeOutboundHostPorts=udp:53,udp:67,tcp:179,tcp:6443,tcp:22";

/// The lab's policy without the rule that denies SSH to worker1.
fn without_the_deny() -> String {
    let policies = include_str!("../../src/demo/before/calico/globalnetworkpolicies.yaml");
    let start = policies.find("    # the lab's break 9").expect("the lab's deny");
    let end = policies.find("    - action: Allow\n      destination:\n        selector: all()").expect("the next rule");
    let whole = format!("{}{}", &policies[..start], &policies[end..]);
    whole.split("---").next().expect("the first policy").to_owned()
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("made");
    for entry in std::fs::read_dir(from).expect("a folder").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copied");
        }
    }
}
