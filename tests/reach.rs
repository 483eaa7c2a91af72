//! `hepguard reach` as an admin calls it, and its answers held against single conversations.

use std::process::{Command, Output};

use serde_json::Value;

const LAB: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/demo/before");

/// A web port for two networks, one rule nobody can decide, and answers that only go to one of the networks.
const SAVE: &str = "*filter\n:INPUT DROP [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT DROP [0:0]\n:web - [0:0]\n\
    -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
    -A INPUT -p tcp -m tcp --dport 443 -j web\n\
    -A INPUT -p tcp -m tcp --dport 80 -s 10.0.0.0/8 -m limit --limit 5/min -j ACCEPT\n\
    -A web -s 10.1.0.0/16 -j DROP\n\
    -A web -s 10.0.0.0/8 -m comment --comment \"the \x1b[31moffice\" -j ACCEPT\n\
    -A web -s 192.168.0.0/16 -j ACCEPT\n\
    -A OUTPUT -d 10.0.0.0/8 -m conntrack --ctstate ESTABLISHED -j ACCEPT\nCOMMIT\n";

fn hepguard(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hepguard")).arg("reach").args(arguments).output().expect("hepguard runs")
}

/// Calls it with the small firewall above; `IPv4` rules only.
fn on_save(arguments: &[&str], code: i32) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("iptables-legacy-save.txt"), SAVE).expect("a file");
    let path = folder.path().to_string_lossy().into_owned();
    let output = hepguard(&[arguments, &["--snapshot", &path]].concat());
    assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(!text.contains('\x1b'), "a raw escape: {text:?}");
    text
}

fn conforms(value: &Value) {
    let schema: Value = serde_json::from_str(hepguard::report::reach::SCHEMA).expect("the schema is JSON");
    let mut schemas = boon::Schemas::new();
    let mut compiler = boon::Compiler::new();
    compiler.add_resource("reach.v1.json", schema).expect("a resource");
    let index = compiler.compile("reach.v1.json", &mut schemas).expect("a schema");
    if let Err(error) = schemas.validate(value, index) {
        panic!("{error}\n{value:#}");
    }
}

fn documents(text: &str) -> Vec<Value> {
    let all: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    all.iter().for_each(conforms);
    all
}

#[test]
fn a_peer_needs_the_answer_as_well() {
    let text = on_save(&["in", "tcp/443", "--family", "ipv4"], 0);
    // 192.168/16 gets a packet in and no answer out; 10.1/16 is taken out of 10/8
    let allowed = "10.0.0.0/16, 10.2.0.0/15, 10.4.0.0/14, 10.8.0.0/13, 10.16.0.0/12";
    assert!(text.contains(allowed), "{text}");
    assert!(text.contains("denied   everybody else"), "{text}");
    assert!(text.contains("not judged: forwarding, TTL") && text.contains("no peers"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
}

#[test]
fn the_json_is_as_promised() {
    let told = documents(&on_save(&["in", "tcp/443", "--family", "ipv4", "--explain", "--format", "json"], 0));
    let [document] = told.as_slice() else { panic!("one family: {told:?}") };
    assert_eq!(document["schema"], "hepguard/reach/v1");
    assert_eq!(document["allowed"].as_array().map(Vec::len), Some(8), "10/8 without 10.1/16: {document:#}");
    assert_eq!(document["unknown"], Value::Array(Vec::new()));
    let open = document["not_judged"].as_array().expect("a list");
    assert!(open.iter().any(|one| one.as_str().is_some_and(|one| one.starts_with("rp_filter"))), "{open:?}");
    let causes = document["parts"][0]["causes"].as_array().expect("causes");
    let stopped = |chain: &str| {
        let by = |cause: &&Value| cause["admitted"] == false && cause["decided_by"]["chain"] == chain;
        causes.iter().find(by).unwrap_or_else(|| panic!("{chain} stops somebody: {causes:#?}"))
    };
    assert_eq!(stopped("web")["cidrs"], serde_json::json!(["10.1.0.0/16"]));
    assert_eq!(stopped("OUTPUT")["cidrs"], serde_json::json!(["192.168.0.0/16"]));
    assert_eq!(stopped("OUTPUT")["packet"], "answer");
    assert!(stopped("INPUT")["cidrs"].as_array().is_some_and(|cidrs| cidrs.len() > 8));
}

#[test]
fn what_cannot_be_decided_is_unknown_and_says_why() {
    let told = documents(&on_save(&["in", "tcp/80", "--family", "ipv4", "--format", "json"], 3));
    assert_eq!(told[0]["allowed"], Value::Array(Vec::new()));
    assert_eq!(told[0]["unknown"][0]["cidrs"], serde_json::json!(["10.0.0.0/8"]));
    let because = &told[0]["unknown"][0]["because"][0];
    assert_eq!((&because["rule"]["chain"], &because["rule"]["rule"]), (&"INPUT".into(), &3.into()));
    assert!(because["reason"].as_str().is_some_and(|reason| reason.contains("limit")), "{because}");
    let text = on_save(&["in", "tcp/80", "--family", "ipv4"], 3);
    assert!(text.contains("unknown  10.0.0.0/8"), "{text}");
}

#[test]
fn only_the_peers_asked_for() {
    let text = on_save(&["in", "tcp/443", "--from", "10.0.0.0/15"], 0);
    assert!(text.contains("allowed  10.0.0.0/16") && text.contains("denied   "), "{text}");
    let told = documents(&on_save(&["in", "tcp/443", "--from", "10.0.0.0/15", "--format", "json"], 0));
    assert_eq!(told[0]["denied"], serde_json::json!(["10.1.0.0/16"]));
}

#[test]
fn a_family_that_was_not_listed_is_unknown() {
    let told = documents(&on_save(&["in", "tcp/443", "--format", "json"], 3));
    assert_eq!(told.len(), 2, "one object a family");
    assert_eq!(told[1]["family"], "ipv6");
    assert_eq!(
        (&told[1]["unknown"][0]["cidrs"], &told[1]["allowed"]),
        (&serde_json::json!(["::/0"]), &serde_json::json!([]))
    );
}

/// Two links and strict source checks on both.
fn on_filtered(format: &str) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("a file");
    put(
        "iptables-legacy-save.txt",
        "*filter\n:INPUT DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT\nCOMMIT\n",
    );
    let link = |index: u8, name: &str, own: &str| {
        format!(
            r#"{{"ifindex":{index},"ifname":"{name}","flags":["UP"],"link_type":"ether",
            "addr_info":[{{"family":"inet","local":"{own}","prefixlen":24,"scope":"global"}}]}}"#
        )
    };
    put("ip-addr.json", &format!("[{},{}]", link(2, "eth0", "10.0.0.1"), link(3, "eth1", "192.168.0.1")));
    put(
        "ip-route.json",
        r#"[{"dst":"default","gateway":"10.0.0.254","dev":"eth0"},{"dst":"10.0.0.0/24","dev":"eth0","scope":"link"},
        {"dst":"192.168.0.0/24","dev":"eth1","scope":"link"},
        {"type":"local","dst":"10.0.0.1","dev":"eth0","table":"local"},
        {"type":"local","dst":"192.168.0.1","dev":"eth1","table":"local"}]"#,
    );
    let setting = |of: &str, name: &str, value: u8| format!("net.ipv4.conf.{of}.{name} = {value}\n");
    let of =
        |of: &str| setting(of, "rp_filter", 1) + &setting(of, "accept_local", 0) + &setting(of, "src_valid_mark", 0);
    put("sysctl.txt", &(of("all") + &of("eth0") + &of("eth1")));
    let path = folder.path().to_string_lossy().into_owned();
    let output = hepguard(&["in", "tcp/22", "--family", "ipv4", "--explain", "--format", format, "--snapshot", &path]);
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn sources_on_the_wrong_link_are_denied_by_the_kernel() {
    let told = documents(&on_filtered("json"));
    let parts = told[0]["parts"].as_array().expect("parts");
    let over = |name: &str| parts.iter().find(|part| part["interfaces"][0] == name).expect("the link");
    assert_eq!(over("eth1")["allowed"], serde_json::json!(["192.168.0.0/24"]));
    assert_eq!(over("eth0")["denied"], serde_json::json!(["192.168.0.0/24"]));
    assert_eq!((&over("eth0")["unknown"], &over("eth1")["unknown"]), (&serde_json::json!([]), &serde_json::json!([])));
    assert!(told[0]["aside"].as_array().is_some_and(|aside| aside.contains(&"127.0.0.0/8".into())), "{}", told[0]);
    let text = on_filtered("text");
    let words: Vec<&str> = text.split_whitespace().collect();
    assert!(words.join(" ").contains("by the kernel, not the firewall: rp_filter=1 on eth0"), "{text}");
}

#[test]
fn sessions_that_exist_need_no_new_rule() {
    let text = on_save(&["in", "tcp/443", "--state", "established", "--family", "ipv4"], 0);
    assert!(text.contains("allowed  10.0.0.0/8"), "{text}");
}

#[test]
fn words_that_make_no_question_are_refused() {
    for (arguments, part) in [
        (vec!["in", "tcp"], "needs a port"),
        (vec!["in", "icmp/8"], "no ports"),
        (vec!["in", "tcp/70000"], "65535"),
        (vec!["inward", "tcp/22"], "in, out"),
        (vec!["in", "tcp/22", "--from", "10.0.0.0/8", "--family", "ipv6"], "address families"),
        (vec!["in", "tcp/22", "--format", "xml"], "json"),
    ] {
        let output = hepguard(&[&arguments[..], &["--snapshot", LAB]].concat());
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
        assert!(error.contains(part), "{arguments:?}: {error}");
    }
}

#[test]
fn the_lab_hangs_on_its_failsafes() {
    let output = hepguard(&["in", "tcp/22", "--snapshot", LAB, "--family", "ipv4", "--format", "json"]);
    let told = documents(&String::from_utf8(output.stdout).expect("UTF-8"));
    let [now, without, after] = told[0]["worlds"].as_array().expect("worlds").as_slice() else {
        panic!("three worlds")
    };
    assert_eq!(now["allowed"], serde_json::json!(["0.0.0.0/0"]));
    let few = without["allowed"].as_array().expect("a list");
    assert!(few.contains(&"10.0.1.20/32".into()) && few.len() < 20, "{few:?}");
    assert_eq!(now["left_out"], 0);
    // the environment file still has the inbound entry, and has lost the outbound one
    assert_eq!((&after["world"], &after["allowed"]), (&"felix-restart".into(), &now["allowed"]));
    let output = hepguard(&["out", "tcp/22", "--snapshot", LAB, "--family", "ipv4", "--format", "json"]);
    let told = documents(&String::from_utf8(output.stdout).expect("UTF-8"));
    let [now, without, after] = told[0]["worlds"].as_array().expect("worlds").as_slice() else {
        panic!("three worlds")
    };
    assert_eq!(after["allowed"], without["allowed"], "what the failsafe alone let through");
    assert_ne!(after["allowed"], now["allowed"]);
}
