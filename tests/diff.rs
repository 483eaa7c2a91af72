//! `hepguard diff` as an admin calls it.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const SAVE: &str = "*filter\n:INPUT DROP [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n\
    -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
    -A INPUT -p tcp -m tcp --dport 443 -m comment --comment \"the \x1b[31moffice\" -j ACCEPT\n\
    -A INPUT -s 10.0.0.0/8 -p tcp -m tcp --dport 22 -j ACCEPT\nCOMMIT\n";

fn hepguard(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hepguard")).arg("diff").args(arguments).output().expect("hepguard runs")
}

fn put(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("a file");
    path.to_string_lossy().into_owned()
}

/// The answer about two rulesets.
fn answer(after: &str, arguments: &[&str], code: i32) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let (a, b) = (put(folder.path(), "a", SAVE), put(folder.path(), "b", after));
    let output = hepguard(&[&[&*a, &*b], arguments].concat());
    assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(!text.contains('\x1b'), "a raw escape: {text:?}");
    text
}

fn document(text: &str) -> Value {
    let value: Value = serde_json::from_str(text).expect("JSON");
    let schema: Value = serde_json::from_str(hepguard::report::diff::SCHEMA).expect("the schema is JSON");
    let mut schemas = boon::Schemas::new();
    let mut compiler = boon::Compiler::new();
    compiler.add_resource("diff.v1.json", schema).expect("a resource");
    let index = compiler.compile("diff.v1.json", &mut schemas).expect("a schema");
    if let Err(error) = schemas.validate(&value, index) {
        panic!("{error}\n{value:#}");
    }
    value
}

#[test]
fn one_port_changed_is_shown_with_both_rules() {
    let text = answer(&SAVE.replace("443", "8443"), &[], 1);
    assert!(text.starts_with("different\n"), "{text}");
    assert!(text.contains("newly accepted\n    tcp, to port 8443, state any but established related\n"), "{text}");
    assert!(text.contains("newly dropped\n    tcp, to port 443, state any but established related\n"), "{text}");
    assert!(text.contains("policy") && text.contains("INPUT rule 2"), "{text}");
    assert!(text.contains("ipv4 forward: no difference") && !text.contains("ipv6"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
}

#[test]
fn the_json_is_as_promised() {
    let told = document(&answer(&SAVE.replace("443", "8443"), &["--format", "json"], 1));
    assert_eq!(told["equal"], false);
    let piece = &told["parts"][0]["newly_accepted"][0];
    assert_eq!(piece["packets"][0]["dport"]["values"][0], "8443");
    assert_eq!(piece["witness"]["dport"], 8443);
    assert_eq!((&piece["before"]["rule"]["rule"], &piece["after"]["rule"]["rule"]), (&"policy".into(), &2.into()));
    let equal = document(&answer(SAVE, &["--format", "json", "--direction", "in"], 0));
    assert_eq!((&equal["equal"], equal["parts"].as_array().map(Vec::len)), (&true.into(), Some(1)));
}

#[test]
fn a_difference_counts_as_high() {
    let after = SAVE.replace("443", "8443");
    for (least, code) in [("critical", 0), ("high", 1), ("medium", 1), ("low", 1)] {
        assert!(answer(&after, &["--fail-on", least], code).starts_with("different\n"), "{least}");
    }
    let rate = SAVE.replace("--dport 443", "--dport 443 -m limit --limit 5/min");
    assert!(answer(&rate, &["--fail-on", "low"], 3).starts_with("undecided\n"), "what is undecided is no finding");
}

#[test]
fn what_hangs_on_a_condition_is_undecided() {
    let rate = |rate: &str| SAVE.replace("--dport 443", &format!("--dport 443 -m limit --limit {rate}/min"));
    let text = answer(&rate("5"), &[], 3);
    assert!(text.starts_with("undecided\n") && text.contains("depends on what was counted so far"), "{text}");
    let told = document(&answer(&rate("5"), &["--format", "json"], 3));
    assert_eq!(told["equal"], Value::Null);
}

#[test]
fn the_same_in_nft_is_equal() {
    let rule = |expr: &str, handle: u32| {
        format!(r#",{{"rule":{{"family":"ip","table":"f","chain":"in","handle":{handle},"expr":[{expr}]}}}}"#)
    };
    let chain = |name: &str, policy: &str| {
        format!(
            r#",{{"chain":{{"family":"ip","table":"f","name":"{name}","handle":1,"type":"filter","hook":"{name}put","prio":0,"policy":"{policy}"}}}}"#
        )
    };
    let compare = |left: &str, right: &str| format!(r#"{{"match":{{"op":"==","left":{left},"right":{right}}}}}"#);
    let port = |port: u16| compare(r#"{"payload":{"protocol":"tcp","field":"dport"}}"#, &port.to_string());
    let office =
        compare(r#"{"payload":{"protocol":"ip","field":"saddr"}}"#, r#"{"prefix":{"addr":"10.0.0.0","len":8}}"#);
    let known = r#"{"match":{"op":"in","left":{"ct":{"key":"state"}},"right":["established","related"]}}"#;
    let accept = r#"{"accept":null}"#;
    let nft = format!(
        r#"{{"nftables":[{{"metainfo":{{"version":"1.0.6","json_schema_version":1}}}},{{"table":{{"family":"ip","name":"f","handle":1}}}}{}{}{}{}]}}"#,
        chain("in", "drop"),
        rule(&format!("{office},{},{accept}", port(22)), 2),
        rule(&format!("{},{accept}", port(443)), 3),
        rule(&format!("{known},{accept}"), 4),
    );
    let text = answer(&nft, &["--family", "ipv4"], 0);
    assert!(text.starts_with("equal"), "{text}");
}

#[test]
fn bad_input_says_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let save = put(folder.path(), "a", SAVE);
    let output = hepguard(&[&save, "/nowhere"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nowhere"));
    let output = hepguard(&[&save, &save, "--snapshot", &save]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("leave one out"));
    let output = hepguard(&[&save, &save, "--family", "ipv6"]);
    assert_eq!(output.status.code(), Some(3), "nothing is known of IPv6");
}

#[test]
fn link_layer_addresses_and_extension_headers_stand_in_the_answer() {
    let folder = tempfile::tempdir().expect("a folder");
    let host = |name: &str, file: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir(&path).expect("a folder");
        put(&path, file, text);
        put(
            &path,
            "ip-addr.json",
            r#"[{"ifname":"eth0","flags":["UP"],"link_type":"ether","addr_info":[{"family":"inet","local":"10.0.0.1","prefixlen":24,"scope":"global"},{"family":"inet6","local":"fd00::1","prefixlen":64,"scope":"global"}]}]"#,
        );
        path.to_string_lossy().into_owned()
    };
    let mac = "*filter\n:INPUT DROP [0:0]\n-A INPUT -m mac --mac-source 02:00:00:00:00:07 -j ACCEPT\nCOMMIT\n";
    let next = |field: &str| {
        format!(
            r#"{{"nftables":[{{"table":{{"family":"ip6","name":"t"}}}},{{"chain":{{"family":"ip6","table":"t","name":"in","type":"filter","hook":"input","prio":0,"policy":"drop"}}}},{{"rule":{{"family":"ip6","table":"t","chain":"in","expr":[{{"match":{{"op":"==","left":{field},"right":"tcp"}}}},{{"accept":null}}]}}}}]}}"#
        )
    };
    let one = host("one", "iptables-save.txt", mac);
    let other = host("other", "iptables-save.txt", &mac.replace("00:07", "00:08"));
    let (next, protocol) =
        (next(r#"{"payload":{"protocol":"ip6","field":"nexthdr"}}"#), next(r#"{"meta":{"key":"l4proto"}}"#));
    let narrow = host("narrow", "nft-ruleset.json", &next);
    let wide = host("wide", "nft-ruleset.json", &protocol);
    let run = |before: &str, after: &str, format: &str| {
        let output = hepguard(&[before, after, "--direction", "in", "--format", format]);
        assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let text = run(&one, &other, "text");
    assert!(text.contains("from MAC 02:00:00:00:00:07\n") && text.contains(", from MAC 02:00:00:00:00:08"), "{text}");
    let told = document(&run(&one, &other, "json"));
    let piece = &told["parts"][0]["newly_accepted"][0];
    assert_eq!(piece["packets"][0]["mac_src"]["values"][0], "02:00:00:00:00:08");
    assert_eq!(piece["witness"]["mac_src"], "02:00:00:00:00:08");
    let text = run(&narrow, &wide, "text");
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("tcp, first extension header any but none"), "{text}");
    assert!(words.contains(", behind extension header"), "{text}");
    let told = document(&run(&narrow, &wide, "json"));
    let parts = told["parts"].as_array().expect("parts");
    let piece = parts.iter().find_map(|part| part["newly_accepted"].get(0)).expect("a piece");
    assert_eq!(piece["packets"][0]["extension"], serde_json::json!({ "except": true, "values": ["none"] }));
    assert!(piece["witness"]["ext_headers"].is_array(), "{piece:#}");
}
