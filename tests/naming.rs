//! Names behind hashes: with the policies at hand, chains and sets of Felix are told by policy, file, line and selector.
//!
//! The chain and the set are those of a lab's listing of a live node; `tests/fixtures/naming` is a node with that chain.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

/// The lab's policy, as its run-book applies it, with the rule turned to Deny.
const POLICY: &str = "\
kubectl apply -f -<<EOF
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata:
  name: app-hipstershop.checkoutservice
  namespace: hipstershop
spec:
  tier: app-hipstershop
  order: 650
  selector: app == \"checkoutservice\"
  ingress:
    - action: Deny
      protocol: TCP
      source:
        selector: app == \"frontend\"
      destination:
        ports:
          - \"5050\"
EOF
";
/// A part of the lab bastion's policy, as of 3.32: the deny of its break.
const BASTION: &str = "\
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata:
  name: security.hep-external
spec:
  tier: security
  selector: has(bastion)
  egress:
    - action: Deny
      protocol: TCP
      destination:
        selector: kubernetes.io/hostname == 'ip-10-0-1-30.ca-central-1.compute.internal'
        ports: [22]
";
const NODE: &str = "tests/fixtures/naming";
const SET: &str = "cali40s:_DJYf5MR3V3B4fL2YDPlFn7";
const SELECTOR: &str = "(projectcalico.org/namespace == \"hipstershop\" && app == \"frontend\")";
const PACKET: [&str; 8] =
    ["forward", "tcp", "10.48.116.157:40000", "10.48.127.224:5050", "-i", "eth0", "-o", "cali0ef24b1a2d3"];

fn hepguard(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hepguard"));
    command.args(args).current_dir(env!("CARGO_MANIFEST_DIR")).env("TZ", "UTC").output().expect("hepguard runs")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn json(output: &Output) -> Value {
    let errors = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {errors}"))
}

/// A folder with these policies, and the file's path.
fn policies(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("lab.yaml");
    fs::write(&path, text).expect("the file is written");
    (folder, path)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path")
}

/// Without blanks and line breaks: long words are broken at the end of a line.
fn tight(text: &str) -> String {
    text.split_whitespace().collect()
}

#[test]
fn a_trace_names_the_policy_its_file_and_the_selector() {
    let (_folder, path) = policies(POLICY);
    let given = ["--snapshot", NODE, "--policies", text(&path)];
    let output = hepguard(&[&["trace"][..], &PACKET, &given].concat());
    let place = format!("{}:12", path.display());
    let wanted = format!(
        "drop: NetworkPolicy hipstershop/app-hipstershop.checkoutservice in tier app-hipstershop, ingress rule 0 (deny) \
         at {place}; {SET} is {SELECTOR}"
    );
    assert!(tight(&stdout(&output)).contains(&tight(&wanted)), "{}", stdout(&output));

    let document = json(&hepguard(&[&["trace"][..], &PACKET, &given, &["--format", "json"]].concat()));
    let calico = json!({
        "kind": "policy", "resource": "NetworkPolicy", "namespace": "hipstershop",
        "policy": "app-hipstershop.checkoutservice", "tier": "app-hipstershop", "direction": "in", "rule": 0,
        "action": "deny", "written": place, "sets": { SET: SELECTOR },
    });
    assert_eq!(document["decided_by"]["chain"], "cali-pi-_sQdl6e7ekf9DS2UYNem");
    assert_eq!(document["decided_by"]["calico"], calico);
    let mut schemas = boon::Schemas::new();
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/report/schemas/trace.v1.json");
    let index = boon::Compiler::new().compile(text(&schema), &mut schemas).expect("the schema compiles");
    schemas.validate(&document, index).expect("the answer is as the schema says");
}

#[test]
fn without_the_policies_no_file_and_no_selector_is_claimed() {
    let output = hepguard(&[&["trace"][..], &PACKET, &["--snapshot", NODE, "--format", "json"]].concat());
    let document = json(&output);
    let calico = document["decided_by"]["calico"].as_object().expect("Felix's rule");
    assert_eq!(calico["resource"], "Policy", "the chain does not tell the kind");
    assert!(!calico.contains_key("written") && !calico.contains_key("sets"), "{calico:?}");
}

#[test]
fn a_rule_that_the_file_has_changed_is_told_by_its_policy_alone() {
    let (_folder, path) = policies(&POLICY.replace("Deny", "Allow"));
    let given = ["--snapshot", NODE, "--policies", text(&path), "--format", "json"];
    let document = json(&hepguard(&[&["trace"][..], &PACKET, &given].concat()));
    let calico = &document["decided_by"]["calico"];
    assert_eq!(calico["action"], "deny", "the kernel's");
    assert_eq!(calico["written"], format!("{}:2", path.display()), "the policy's first line");
}

#[test]
fn policies_of_the_snapshot_name_as_those_given_do() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let into = folder.path().join("lab");
    let output = hepguard(&["demo", "--write", text(&into)]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::create_dir_all(into.join("after/calico")).expect("a folder");
    fs::write(into.join("after/calico/policies.yaml"), BASTION).expect("the file is written");
    let after = into.join("after");
    let snapshot = ["--snapshot", text(&after)];
    let by = "GlobalNetworkPolicy security.hep-external in tier security, egress rule 0 (deny) at \
              calico/policies.yaml:9; cali40s:";
    let set = "kubernetes.io/hostname == \"ip-10-0-1-30.ca-central-1.compute.internal\"";

    let audit = stdout(&hepguard(&[&["audit"][..], &snapshot, &["-v"]].concat()));
    assert!(tight(&audit).contains(&tight(by)) && tight(&audit).contains(&tight(set)), "{audit}");

    let reach = ["reach", "out", "tcp/22", "--from", "10.0.1.30/32", "--explain"];
    let said = stdout(&hepguard(&[&reach[..], &snapshot].concat()));
    assert!(tight(&said).contains(&tight(by)) && tight(&said).contains(&tight(set)), "{said}");
    let line = json(&hepguard(&[&reach[..], &snapshot, &["--format", "json", "--family", "ipv4"]].concat()));
    let parts = line["parts"].as_array().expect("parts").iter();
    let causes = parts.filter_map(|part| part["causes"].as_array()).flatten();
    let written: Vec<&Value> = causes.map(|cause| &cause["decided_by"]["calico"]["written"]).collect();
    assert!(written.contains(&&json!("calico/policies.yaml:9")), "{written:?}");
}

#[test]
fn denies_name_the_file_and_line_of_the_rule() {
    let (folder, path) = policies(BASTION);
    let log = folder.path().join("flows.log");
    let flow = json!({
        "start_time": 1_754_000_000, "end_time": 1_754_000_300, "action": "deny", "reporter": "src", "proto": "tcp",
        "source_ip": "10.0.1.10", "source_type": "hep", "source_name": "bastion-ens5", "source_port": 50_000,
        "dest_ip": "10.0.1.30", "dest_type": "net", "dest_name": "pvt", "dest_port": 22, "num_flows": 1,
        "packets_in": 0, "packets_out": 3, "bytes_in": 0, "bytes_out": 180,
        "policies": { "all_policies": ["0|security|security.hep-external|deny|0"] },
    });
    fs::write(&log, format!("{flow}\n")).expect("the log is written");
    let document = json(&hepguard(&["denies", text(&log), "--policies", text(&path), "--format", "json"]));
    let place = format!("{}:9", path.display());
    assert_eq!(document["groups"][0]["written"], place, "{document:#}");
    let said = stdout(&hepguard(&["denies", text(&log), "--policies", text(&path)]));
    assert!(tight(&said).contains(&tight(&format!("written at {place}"))), "{said}");
}

#[test]
fn policies_that_are_none_are_an_error_with_its_file() {
    let (_folder, path) = policies("nothing: here\n");
    let output = hepguard(&["audit", "--snapshot", NODE, "--policies", text(&path)]);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(errors.contains("lab.yaml holds no resource of Calico"), "{errors}");
    let output = hepguard(&["trace", "in", "tcp", "192.0.2.1", "192.0.2.2:22", "--policies", "/nonexistent"]);
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn an_audit_tells_what_lints_say_of_the_snapshots_policies() {
    let document = json(&hepguard(&["audit", "--snapshot", "src/demo/before", "--format", "json"]));
    let first = &document["policies"][0];
    assert_eq!((&first["code"], &first["severity"]), (&json!("HG433"), &json!("high")), "{first:#}");
    assert_eq!(first["at"], "calico/globalnetworkpolicies.yaml:63");
    let repeated = document["policies"].as_array().expect("groups").iter().find(|group| group["code"] == "HG449");
    assert_eq!(repeated.expect("the tier's end")["count"], 2);
    let said = stdout(&hepguard(&["audit", "--snapshot", "src/demo/before"]));
    let wanted = "policies HG433 policy-for-everything (high, calico/globalnetworkpolicies.yaml:63)";
    assert!(tight(&said).contains(&tight(wanted)), "{said}");
    let without = json(&hepguard(&["audit", "--snapshot", NODE, "--format", "json"]));
    assert_eq!(without["policies"], json!([]));
}
