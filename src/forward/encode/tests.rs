use serde_json::Value;

use super::*;
use crate::logs::query::Filter;
use crate::logs::scan::Scan;
use crate::logs::tally::{Origin, Query, Sink};
use crate::logs::time::Clock;

const LAB: &str = include_str!("../../../tests/fixtures/logs/lab-syslog.log");
/// 2022-08-04T17:00:00Z
const LATER: i64 = 1_659_632_400;

struct Shown(Form, Vec<String>);

impl Sink for Shown {
    fn event(&mut self, event: &Event<'_>, origin: Origin<'_>) {
        self.1.push(self.0.line(event, origin.line));
    }
}

fn shown(form: Form, log: &[u8]) -> Vec<String> {
    let query = Query { filter: Filter { action: Vec::new(), ..Filter::default() }, ..Query::new() };
    let mut sink = Shown(form, Vec::new());
    Scan::new(&query, Clock::utc(LATER), 0, true).block(log, log.len(), 0, &mut sink);
    sink.1
}

fn first(form: Form) -> Value {
    serde_json::from_str(shown(form, LAB.as_bytes()).first().expect("an event")).expect("JSON")
}

#[test]
fn ecs_has_the_fields_a_rule_asks_for() {
    let document = first(Form::Ecs);
    for (pointer, expected) in [
        ("/@timestamp", Value::from("2022-08-04T16:14:12Z")),
        ("/ecs/version", "9.4.0".into()),
        ("/event/kind", "event".into()),
        ("/event/category/0", "network".into()),
        ("/event/type/1", "denied".into()),
        ("/event/outcome", "failure".into()),
        ("/source/ip", "10.0.1.10".into()),
        ("/destination/ip", "147.75.40.148".into()),
        ("/destination/port", 443.into()),
        ("/network/transport", "tcp".into()),
        ("/network/iana_number", "6".into()),
        ("/network/direction", "egress".into()),
        ("/network/type", "ipv4".into()),
        ("/rule/name", "hep-external".into()),
        ("/rule/ruleset", "security".into()),
        ("/rule/id", "-1".into()),
    ] {
        assert_eq!(document.pointer(pointer), Some(&expected), "{pointer}\n{document:#}");
    }
    let original = document.pointer("/event/original").and_then(Value::as_str).expect("the line");
    assert_eq!(original, LAB.lines().next().expect("a line").trim_end());
}

#[test]
fn ocsf_identifiers_fit_each_other() {
    let document = first(Form::Ocsf);
    let number = |key: &str| document[key].as_i64().unwrap_or_else(|| panic!("{key}: {document:#}"));
    assert_eq!(number("class_uid"), number("category_uid") * 1000 + 1);
    assert_eq!(number("type_uid"), number("class_uid") * 100 + number("activity_id"));
    assert_eq!((number("action_id"), number("disposition_id"), number("status_id")), (2, 2, 2));
    assert_eq!(number("time"), 1_659_629_652_000);
    assert_eq!(document["connection_info"]["direction_id"], 2);
    assert_eq!(document["dst_endpoint"]["ip"], "147.75.40.148");
    assert_eq!(document["firewall_rule"]["category"], "tier:security");
}

#[test]
fn cef_is_one_header_and_pairs() {
    let lines = shown(Form::Cef, LAB.as_bytes());
    assert_eq!(lines.len(), 4);
    let parts: Vec<&str> = lines[0].splitn(8, '|').collect();
    assert_eq!((parts[0], parts[1], parts[4], parts[6]), ("CEF:0", "hepguard", "deny", "3"));
    for pair in [
        "rt=1659629652000",
        "src=10.0.1.10",
        "dst=147.75.40.148",
        "dpt=443",
        "proto=TCP",
        "deviceDirection=1",
        "cs1=security",
        "cs2=hep-external",
        "cn1=-1",
        "dvchost=bastion",
        "cnt=1",
    ] {
        assert!(parts[7].contains(&format!("{pair} ")), "{pair}: {}", parts[7]);
    }
    let six = LAB.lines().next().expect("a line").replace("147.75.40.148", "2606:4700::6810:84e5");
    let line = shown(Form::Cef, six.as_bytes()).concat();
    assert!(
        line.contains("c6a3=2606:4700::6810:84e5 c6a3Label=Destination IPv6 Address") && !line.contains(" dst="),
        "{line}"
    );
}

/// What somebody may get into a log who names policies or chooses log prefixes.
const HOSTILE: &str = "x\\x1b]0;t\\x07|act=allow\\ncnt=9 \\u009b31m\\u202e<script>=cmd";

#[test]
fn hostile_names_stay_inside_their_field() {
    let log = LAB.lines().next().expect("a line").replace("hep-external", HOSTILE);
    let log = format!(
        "{log}\nAug  4 16:14:12 h\u{1b}st kernel: a=b|c\u{9b}: IN=eth0 OUT= SRC=10.0.0.1 DST=10.0.0.2 PROTO=TCP DPT=1\n"
    );
    for (form, _) in Form::NAMES {
        let lines = shown(form, log.as_bytes());
        assert_eq!(lines.len(), 2, "{form:?}");
        for line in lines {
            assert!(!line.contains(|c: char| c.is_control() || c == '\u{202e}'), "{form:?}: {line:?}");
            if form != Form::Cef {
                serde_json::from_str::<Value>(&line).expect("JSON");
            }
        }
    }
    let cef = shown(Form::Cef, log.as_bytes()).remove(0);
    let pairs = cef.split_once("cs2=").expect("the policy").1;
    let value = pairs.split(" cn1Label=").next().expect("a value");
    assert!(value.contains(r"act\=allow") && value.contains(r"\\ncnt\=9"), "{value}");
    assert_eq!(cef.matches(" act=").count() + cef.matches("|act=").count(), 1, "one pair only: {cef}");
}

#[test]
fn an_event_without_a_time_gets_none() {
    let log = b"[ 1.5] calico-drop: IN=eth0 OUT= SRC=10.0.0.1 DST=10.0.0.2 PROTO=TCP SPT=1 DPT=2\n";
    let ecs: Value = serde_json::from_str(&shown(Form::Ecs, log).concat()).expect("JSON");
    assert_eq!((ecs.get("@timestamp"), &ecs["tags"][0]), (None, &Value::from("undated")));
    let ocsf: Value = serde_json::from_str(&shown(Form::Ocsf, log).concat()).expect("JSON");
    assert_eq!((ocsf.get("time"), &ocsf["unmapped"]["undated"]), (None, &Value::from(true)));
    assert!(!shown(Form::Cef, log).concat().contains("rt="));
}
