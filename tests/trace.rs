//! `hepguard trace` as an admin calls it: words and lines in, text and JSON out, exit codes.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

/// A small host firewall with one rule nobody can decide and a comment that tries to talk to the terminal.
const SAVE: &str = "*filter\n:INPUT DROP [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:ssh - [0:0]\n\
    -A INPUT -p tcp -m tcp --dport 22 -j ssh\n\
    -A INPUT -p tcp -m tcp --dport 80 -m string --string \"evil\" --algo bm -j ACCEPT\n\
    -A INPUT -p tcp -m tcp --dport 443 -m comment --comment \"web \x1b[31mred\" -j ACCEPT\n\
    -A ssh -s 203.0.113.0/24 -m comment --comment \"the office may log in, and a very long comment says why it may do so\" -j ACCEPT\n\
    -A ssh -j REJECT --reject-with icmp-port-unreachable\nCOMMIT\n";

fn snapshot() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("iptables-legacy-save.txt"), SAVE).expect("a file");
    std::fs::write(folder.path().join("ip6tables-legacy-save.txt"), "*filter\n:INPUT ACCEPT [0:0]\nCOM")
        .expect("a file");
    folder
}

fn hepguard(snapshot: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hepguard"))
        .arg("trace")
        .arg("--snapshot")
        .arg(snapshot)
        .args(arguments)
        .output()
        .expect("hepguard runs")
}

fn text(arguments: &[&str], code: i32) -> String {
    let folder = snapshot();
    let output = hepguard(folder.path(), arguments);
    assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "wider than 80 columns: {line:?}");
        assert!(!line.contains('\x1b'), "a raw escape: {line:?}");
    }
    text
}

/// Checks `value` against the schema, or one of its parts.
fn conforms(value: &Value, part: &str) {
    let schema: Value = serde_json::from_str(hepguard::report::trace::SCHEMA).expect("the schema is JSON");
    let mut schemas = boon::Schemas::new();
    let mut compiler = boon::Compiler::new();
    compiler.add_resource("trace.v1.json", schema).expect("a resource");
    let index = compiler.compile(&format!("trace.v1.json{part}"), &mut schemas).expect("a schema");
    if let Err(error) = schemas.validate(value, index) {
        panic!("{error}\n{value:#}");
    }
}

fn document(arguments: &[&str], code: i32) -> Value {
    let folder = snapshot();
    let output = hepguard(folder.path(), &[&["--format", "json"], arguments].concat());
    assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stderr));
    let value = serde_json::from_slice(&output.stdout).expect("JSON");
    conforms(&value, "");
    value
}

const SSH: [&str; 4] = ["in", "tcp", "203.0.113.7:51522", "10.0.1.10:22"];

#[test]
fn the_first_line_is_the_verdict_in_the_words_of_who_wrote_the_rule() {
    let accepted = text(&SSH, 0);
    assert!(accepted.starts_with("accept: the office may log in"), "{accepted}");
    assert!(accepted.contains("iptables-legacy ipv4 filter ssh rule 1 (iptables-legacy-save.txt:9)"), "{accepted}");
    assert!(accepted.contains("source address 203.0.113.7"), "{accepted}");
    let rejected = text(&["in", "tcp", "198.51.100.1:40000", "10.0.1.10:22"], 0);
    assert!(rejected.starts_with("reject: -j REJECT"), "{rejected}");
    let dropped = text(&["in", "udp", "198.51.100.1", "10.0.1.10:53", "-i", "ens5"], 0);
    assert!(dropped.starts_with("drop: policy of chain INPUT"), "{dropped}");
}

#[test]
fn unknown_says_why_and_what_is_possible() {
    let unknown = text(&["in", "tcp", "198.51.100.1:40000", "10.0.1.10:80"], 3);
    assert!(unknown.starts_with("unknown: accept or drop possible\n  because "), "{unknown}");
    assert!(unknown.contains("filter INPUT rule 2") && unknown.contains("evil"), "{unknown}");
}

#[test]
fn what_rules_say_cannot_reach_the_terminal() {
    let coloured = text(&["in", "tcp", "198.51.100.1:40000", "10.0.1.10:443", "--color", "never", "-v"], 0);
    assert!(coloured.contains("\\u{1b}[31mred"), "{coloured}");
}

#[test]
fn documents_follow_their_schema() {
    let accepted = document(&SSH, 0);
    assert_eq!(accepted["decided_by"]["chain"], "ssh");
    assert_eq!(accepted["packet"]["dport"], 22);
    assert_eq!(
        document(&["in", "tcp", "198.51.100.1:40000", "10.0.1.10:80", "-v"], 3)["may"],
        json!(["accept", "drop"])
    );
    assert_eq!(document(&["out", "icmp", "10.0.1.10", "198.51.100.1", "--at", "output"], 0)["verdict"], "accept");
}

#[test]
fn a_damaged_listing_makes_its_family_unknown() {
    let unknown = document(&["in", "tcp", "[2001:db8::7]:51522", "[2001:db8::10]:22"], 3);
    assert!(unknown["because"].to_string().contains("ip6tables-legacy-save.txt"), "{unknown}");
    assert_eq!(unknown["verdict"], "unknown");
}

#[test]
fn a_conversation_is_told_packet_by_packet() {
    let works = text(&["--conversation", "in", "tcp", "203.0.113.7:51522", "10.0.1.10:22"], 0);
    assert!(works.starts_with("works: all 5 packets pass, both ways\n  1 -> SYN, new: accept: the office"), "{works}");
    assert!(works.contains("\n  5 <- data back, established: accept: policy of chain OUTPUT"), "{works}");
    let denied = text(&["--conversation", "in", "udp", "203.0.113.7:51522", "10.0.1.10:53"], 0);
    assert!(denied.starts_with("broken: packet 1 of 2, the request, is dropped: policy of chain INPUT"), "{denied}");
    // the request goes out, and nothing admits the reply
    let deaf = text(&["--conversation", "out", "udp", "10.0.1.10:40000", "10.0.0.2:53", "-o", "ens5"], 0);
    assert!(deaf.starts_with("broken: packet 2 of 2, the reply, is dropped"), "{deaf}");
    let open = text(&["--conversation", "in", "tcp", "203.0.113.7:51522", "10.0.1.10:80", "-v"], 3);
    assert!(open.starts_with("unknown: the SYN may pass or not: accept or drop possible\n"), "{open}");
    assert!(
        open.contains("because iptables-legacy ipv4 filter INPUT rule 2") && open.contains("      input\n"),
        "{open}"
    );
    // where routes do not tell, -o says where the answers leave
    assert!(works.contains("note: the outgoing interface is not known"), "{works}");
    let told = text(&["--conversation", "in", "tcp", "203.0.113.7:51522", "10.0.1.10:22", "-o", "ens5"], 0);
    assert!(told.starts_with("works: ") && !told.contains("not known"), "{told}");
}

#[test]
fn conversations_follow_the_schema() {
    let broken = document(&["--conversation", "out", "udp", "10.0.1.10:40000", "10.0.0.2:53", "-o", "ens5"], 0);
    let conversation = &broken["conversation"];
    assert_eq!((&conversation["outcome"], &conversation["broken_at"]), (&json!("broken"), &json!(2)));
    assert_eq!(conversation["packets"][1]["state"], json!(["established"]));
    assert_eq!(conversation["packets"][1]["packet"]["iif"], "ens5");
    assert_eq!(broken["verdict"], "accept", "the document's own verdict is the first packet's");
    let blind = document(&["--conversation", "in", "tcp", "[2001:db8::7]:51522", "[2001:db8::10]:22", "-v"], 3);
    assert_eq!(blind["conversation"]["outcome"], "unknown");
}

#[test]
fn a_batch_answers_conversations_too() {
    let folder = snapshot();
    let file = folder.path().join("packets.jsonl");
    let lines = [
        r#"{"dir":"in","proto":"tcp","src":"203.0.113.7","sport":51522,"dst":"10.0.1.10","dport":22}"#,
        r#"{"dir":"in","proto":"tcp","src":"203.0.113.7","dst":"10.0.1.10","dport":22,"state":"established"}"#,
        r#"{"dir":"in","proto":"tcp","src":"203.0.113.7","dst":"10.0.1.10","dport":22,"at":"input"}"#,
        r#"{"dir":"in","proto":"tcp","src":"203.0.113.7","dst":"10.0.1.10","dport":22,"flags":"ack"}"#,
    ];
    std::fs::write(&file, lines.join("\n")).expect("a file");
    let output = hepguard(folder.path(), &["--conversation", "--batch", &file.to_string_lossy()]);
    assert_eq!(output.status.code(), Some(3));
    let answers: Vec<Value> =
        String::from_utf8_lossy(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    conforms(&answers[0], "#/$defs/answer");
    assert_eq!((&answers[0]["verdict"], &answers[0]["conversation"]["outcome"]), (&json!("accept"), &json!("works")));
    for (answer, part) in answers[1..].iter().zip(["state", "at", "syn"]) {
        conforms(answer, "#/$defs/error");
        assert!(answer["error"].as_str().is_some_and(|error| error.contains(part)), "{answer}");
    }
}

#[test]
fn bad_words_are_a_usage_error_that_says_what_was_expected() {
    for (arguments, part) in [
        (["in", "tcp", "203.0.113.7", "10.0.1:22"].as_slice(), "destination"),
        (&["in", "icmp", "203.0.113.7", "10.0.1.1:22"], "no ports"),
        (&["in", "tcp", "203.0.113.7", "10.0.1.1", "--state", "old"], "established"),
        (&["in", "tcp", "203.0.113.7", "10.0.1.1", "--mark", "0xg"], "mark"),
        (&["in", "tcp", "203.0.113.7", "10.0.1.1", "--format", "yaml"], "text, json"),
        (&["in", "tcp", "203.0.113.7"], "DST"),
        (&["--conversation", "in", "tcp", "203.0.113.7", "10.0.1.1", "--state", "invalid"], "new or related"),
        (&["--conversation", "in", "tcp", "203.0.113.7", "10.0.1.1", "--at", "input"], "cannot be used"),
        (&["--conversation", "in", "tcp", "203.0.113.7", "10.0.1.1", "--flags", "fin,ack"], "syn"),
        (&[], "required"),
    ] {
        let folder = snapshot();
        let output = hepguard(folder.path(), arguments);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
        assert!(error.contains(part), "{arguments:?}: {error}");
    }
}

#[test]
fn a_batch_answers_a_line_each_from_standard_input() {
    let folder = snapshot();
    let mut child = Command::new(env!("CARGO_BIN_EXE_hepguard"))
        .args(["trace", "--batch", "-", "--snapshot"])
        .arg(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("hepguard runs");
    let lines = [
        r#"{"dir":"in","proto":"tcp","src":"203.0.113.7","sport":51522,"dst":"10.0.1.10","dport":22,"iif":"ens5","state":"new","mark":0}"#,
        r#"{"dir":"in","colour":"red"}"#,
        r#"{"dir":"in","proto":"tcp","src":"203.0.113.7","sport":51522,"dst":"10.0.1.10","dport":80}"#,
    ];
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(lines.join("\n").as_bytes()).expect("it listens");
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(3));
    let answers: Vec<Value> =
        String::from_utf8_lossy(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(
        answers[0],
        json!({"verdict": "accept", "certain": true, "decided_by": {
            "backend": "iptables-legacy", "family": "ipv4", "table": "filter", "chain": "ssh", "rule": 1}})
    );
    conforms(&answers[0], "#/$defs/answer");
    conforms(&answers[1], "#/$defs/error");
    assert_eq!(answers[1]["line"], 2);
    conforms(&answers[2], "#/$defs/answer");
    assert_eq!(answers[2]["may"], json!(["accept", "drop"]));
    let missing = hepguard(folder.path(), &["--batch", "/nowhere/at/all"]);
    assert_eq!(missing.status.code(), Some(2));
}
