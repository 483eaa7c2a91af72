//! `hepguard forward` as its users call it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use hepguard::forward::encode::{Encoding, Shape};
use hepguard::forward::sender::Forwarder;
use hepguard::forward::transport::Target;
use serde_json::Value;

use crate::rig::{Rsyslog, apart, input, now, numbered, numbers, output};

fn hepguard(config: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hepguard"))
        .arg("--config")
        .arg(config)
        .args(arguments)
        .output()
        .expect("hepguard runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

fn checked(schema: &str, value: &Value) {
    let schema: Value = serde_json::from_str(schema).expect("the schema is JSON");
    let mut schemas = boon::Schemas::new();
    let mut compiler = boon::Compiler::new();
    compiler.add_resource("one.json", schema).expect("a resource");
    let index = compiler.compile("one.json", &mut schemas).expect("a schema");
    if let Err(error) = schemas.validate(value, index) {
        panic!("{error}\n{value:#}");
    }
}

fn json(output: &Output) -> Value {
    let value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output.stderr)));
    checked(hepguard::report::FORWARD_SCHEMA, &value);
    value
}

#[test]
fn a_drill_rings_in_a_file_and_a_way_that_is_shut_is_told() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("out.jsonl");
    let config = dir.path().join("hepguard.toml");
    let entries = format!(
        "[[forward]]\nname = \"here\"\ntransport = \"file\"\nformat = \"json\"\npath = \"{}\"\n\
         [[forward]]\nname = \"nowhere\"\ntransport = \"unix\"\npath = \"{}/absent\"\n",
        file.display(),
        dir.path().display()
    );
    fs::write(&config, entries).expect("written");
    let both = hepguard(&config, &["forward", "test", "--format", "json"]);
    assert_eq!(both.status.code(), Some(1));
    let value = json(&both);
    assert_eq!((&value["outputs"][0]["delivered"], &value["outputs"][0]["failure"]), (&1.into(), &Value::Null));
    assert_eq!(value["outputs"][1]["delivered"], 0);
    let said = text(&hepguard(&config, &["forward", "test", "nowhere"]).stdout);
    assert!(said.starts_with("nowhere (unix ") && said.contains("not delivered"), "{said}");
    let drill = hepguard(&config, &["forward", "drill", "here"]);
    assert_eq!((drill.status.code(), text(&drill.stdout).contains("3 messages delivered")), (Some(0), true));
    let lines: Vec<Value> = fs::read_to_string(&file)
        .expect("written")
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    checked(hepguard::report::NOTICE_SCHEMA, &lines[0]);
    for (line, state) in [(&lines[1], "new"), (&lines[3], "resolved")] {
        checked(hepguard::report::ALERT_SCHEMA, line);
        assert_eq!((&line["state"], &line["finding"]["subject"]["drill"]), (&state.into(), &true.into()));
    }
    assert_eq!((&lines[2]["schema"], &lines[2]["dst_port"]), (&"hepguard/event/v1".into(), &22.into()));
}

#[test]
fn what_is_not_configured_is_a_mistake_in_words() {
    let dir = tempfile::tempdir().expect("a folder");
    let config = dir.path().join("hepguard.toml");
    fs::write(&config, "").expect("written");
    let none = hepguard(&config, &["forward", "status"]);
    assert_eq!((none.status.code(), text(&none.stderr).contains("no [[forward]] entry")), (Some(2), true));
    fs::write(&config, "[[forward]]\nname = \"a\"\ntransport = \"udp\"\naddress = \"127.0.0.1:9\"\n").expect("written");
    let other = hepguard(&config, &["forward", "test", "b"]);
    assert_eq!((other.status.code(), text(&other.stderr).contains("no output \"b\"; it has a")), (Some(2), true));
    assert_eq!(hepguard(&config, &["forward", "test", "--format", "xml"]).status.code(), Some(2));
}

#[test]
fn queues_are_looked_at_and_sent_again() {
    apart("queues_are_looked_at_and_sent_again", || {
        let dir = tempfile::tempdir().expect("a folder");
        let state = dir.path().join("state");
        let mut to = output(Target::Relp { address: "127.0.0.1:2514".to_owned(), tls: None });
        to.encoding = Encoding { shape: Shape::Text, ..to.encoding };
        let (forwarder, _) = Forwarder::start(&state.join("spool"), vec![to], "bastion", now).expect("started");
        for number in 0..70 {
            forwarder.submit(&numbered(number, "kept"));
        }
        let _ = forwarder.stop(Duration::ZERO);
        let config = dir.path().join("hepguard.toml");
        let entry = format!(
            "[state]\ndirectory = \"{}\"\n[[forward]]\nname = \"siem\"\ntransport = \"relp\"\naddress = \"127.0.0.1:2514\"\n",
            state.display()
        );
        fs::write(&config, entry).expect("written");
        let status = json(&hepguard(&config, &["forward", "status", "--format", "json"]));
        assert_eq!(status["outputs"][0]["queues"]["findings"]["waiting"], 70);
        assert_eq!(status["outputs"][0]["queues"]["denies"]["waiting"], 0);
        let away = hepguard(&config, &["forward", "replay", "siem"]);
        assert_eq!((away.status.code(), text(&away.stdout).contains("not delivered")), (Some(1), true));
        let collector = Rsyslog::start(dir.path(), &input("imrelp", 2514, ""));
        let again = hepguard(&config, &["forward", "replay", "siem"]);
        assert_eq!(again.status.code(), Some(0), "{}", text(&again.stdout));
        let lines = collector.wait_for(Duration::from_secs(10), |lines| lines.len() >= 70);
        assert_eq!(numbers(&lines), (0..70).collect::<Vec<_>>());
    });
}
