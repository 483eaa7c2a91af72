use serde_json::Value;

use super::message::{Notice, NoticeKind, State};
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

/// Every sample of every source, under the published schemas, by somebody else's validator.
#[test]
fn documents_are_valid_under_the_published_schemas() {
    let mut log = LAB.to_owned();
    for samples in [
        include_str!("../../../tests/fixtures/logs/felix-samples.jsonl"),
        include_str!("../../../tests/fixtures/logs/kernel-samples.jsonl"),
        include_str!("../../../tests/fixtures/logs/flowlog-samples.jsonl"),
    ] {
        for sample in samples.lines() {
            let sample: Value = serde_json::from_str(sample).expect("a sample");
            log.push_str(sample["line"].as_str().expect("a line").trim_end());
            log.push('\n');
        }
    }
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/siem/");
    for (form, file, time, example) in [
        (Form::Ecs, "ecs-9.4.0.json", "@timestamp", Value::from("2022-08-04T16:14:12Z")),
        (Form::Ocsf, "ocsf-1.8.0.json", "time", 1_659_629_652_000i64.into()),
    ] {
        let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
        compiler.enable_format_assertions();
        let index = compiler.compile(&format!("{folder}{file}"), &mut schemas).expect("the schema compiles");
        let lines = shown(form, log.as_bytes());
        assert!(lines.len() > 60, "{} events", lines.len());
        let mut undated = 0;
        for line in lines {
            let mut document: Value = serde_json::from_str(&line).expect("JSON");
            if document.get(time).is_none() {
                undated += 1;
                assert!(schemas.validate(&document, index).is_err());
                document[time] = example.clone();
            }
            if let Err(error) = schemas.validate(&document, index) {
                panic!("{file}: {error:#}\n{document:#}");
            }
            // and the schema is one that can refuse
            for (pointer, wrong) in
                [("/event/category", "firewall"), ("/src_endpoint/ip", "300.1.1.1"), ("/source/ip", "x")]
            {
                if let Some(value) = document.clone().pointer_mut(pointer) {
                    let mut document = document.clone();
                    *document.pointer_mut(pointer).expect("it is there") = wrong.into();
                    assert_ne!(*value, Value::from(wrong));
                    assert!(schemas.validate(&document, index).is_err(), "{pointer}: {document:#}");
                }
            }
            document["firewall"] = "unknown field".into();
            assert!(schemas.validate(&document, index).is_err());
        }
        assert!(undated < 3, "{undated} events without a time");
    }
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

/// Messages of every kind for each event of a log.
struct Messages<'e>(&'e Encoding, Vec<String>);

impl Sink for Messages<'_> {
    fn event(&mut self, event: &Event<'_>, origin: Origin<'_>) {
        let message = message(Body::Event { event, raw: origin.line });
        self.1.push(payload(self.0, &message, ("denies", 7)));
    }
}

fn payload(encoding: &Encoding, message: &Message<'_>, lane: (&str, u64)) -> String {
    String::from_utf8(encoding.payload(message, lane)).expect("text")
}

fn message(body: Body<'_>) -> Message<'_> {
    Message { id: "00112233445566778899aabbccddeeff".to_owned(), time: 1_659_629_652_345_678, host: "bastion", body }
}

fn written(encoding: &Encoding, log: &[u8]) -> Vec<String> {
    let query = Query { filter: Filter { action: Vec::new(), ..Filter::default() }, ..Query::new() };
    let mut sink = Messages(encoding, Vec::new());
    Scan::new(&query, Clock::utc(LATER), 0, true).block(log, log.len(), 0, &mut sink);
    sink.1
}

fn finding() -> crate::audit::finding::Finding {
    let check = crate::audit::registry::find("HG101").expect("the check");
    crate::audit::finding::Finding::new(check, serde_json::json!({ "port": 22 }), "SSH \u{1b}[31m is | gone\nx=\"1\"]")
        .severity(crate::audit::finding::Severity::Critical)
        .evidence("calico.env:4", "x".repeat(10_000))
        .evidence("b", "y")
}

fn syslog() -> Encoding {
    Encoding { shape: Shape::Text, envelope: Envelope::Syslog(Header::default()) }
}

/// The structured data of a line, read by another parser.
fn read_back(line: &str) -> (Vec<(String, String)>, String) {
    let read = syslog_loose::parse_message_with_year_exact(line, |_| 2022, syslog_loose::Variant::RFC5424)
        .unwrap_or_else(|error| panic!("{error}: {line}"));
    assert_eq!((read.hostname, read.appname, read.facility.is_some()), (Some("bastion"), Some("hepguard"), true));
    let data = read.structured_data.iter().flat_map(|element| {
        element.params().map(move |(name, value)| (format!("{}.{name}", element.id), value.clone()))
    });
    (data.collect(), read.msg.to_owned())
}

#[test]
fn syslog_messages_say_everything_before_the_text() {
    let lines = written(&syslog(), LAB.as_bytes());
    assert!(lines[0].starts_with("<132>1 2022-08-04T16:14:12.345Z bastion hepguard 1 DENY ["), "{}", lines[0]);
    let (data, text) = read_back(&lines[0]);
    let value = |name: &str| data.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    for (name, expected) in [
        ("hepguard@32473.id", "00112233445566778899aabbccddeeff"),
        ("hepguard@32473.lane", "denies"),
        ("hepguard@32473.seq", "7"),
        ("deny@32473.src", "10.0.1.10"),
        ("deny@32473.dpt", "443"),
        ("deny@32473.policy", "hep-external"),
        ("deny@32473.rule", "-1"),
    ] {
        assert_eq!(value(name), Some(expected), "{name} in {}", lines[0]);
    }
    assert!(text.starts_with("denied egress 10.0.1.10"), "{text}");
}

#[test]
fn findings_and_notices_are_syslog_too() {
    let finding = finding();
    let line = payload(&syslog(), &message(Body::Finding { finding: &finding, state: State::New }), ("findings", 1));
    let (data, text) = read_back(&line);
    assert!(data.contains(&("finding@32473.code".to_owned(), "HG101".to_owned())), "{line}");
    assert!(text.contains("HG101") && !line.contains(['\u{1b}', '\n']), "{line}");
    assert!(line.starts_with("<130>1 "), "critical: {line}");
    let gone =
        payload(&syslog(), &message(Body::Finding { finding: &finding, state: State::Resolved }), ("findings", 1));
    assert!(gone.starts_with("<134>1 "), "good news: {gone}");
    let notice = Notice { kind: NoticeKind::Gap, text: "3 lost".to_owned(), fields: vec![("lost", "3".to_owned())] };
    let line = payload(&syslog(), &message(Body::Notice(notice)), ("denies", 1));
    assert!(read_back(&line).0.contains(&("health@32473.lost".to_owned(), "3".to_owned())), "{line}");
}

/// Whatever a log holds: one line, no control character, no forged structure, within the length.
#[test]
fn hostile_lines_stay_data_in_every_shape() {
    let hostile = "Aug  4 16:14:12 ba]st\"ion calico-felix[1]: 2022-08-04 16:14:12.000 [INFO][1] x: \u{1b}]0;pwned\u{7} \
         <script>alert(1)</script> action=deny";
    let kernel = "Aug  4 16:14:12 bastion kernel: [1.0] x\"]|=\\y\u{1b}[0m\u{202e}: IN=e\"] OUT= SRC=10.0.0.1 DST=10.0.0.2 LEN=60 \
         TOS=0x00 PREC=0x00 TTL=64 ID=1 PROTO=TCP SPT=1 DPT=22 WINDOW=1 RES=0x00 SYN URGP=0\n";
    let log = format!("{hostile}\n{kernel}{LAB}");
    for (shape, name) in Shape::NAMES {
        let header = Header { max_bytes: 4000, ..Header::default() };
        for envelope in [Envelope::Bare, Envelope::Syslog(header.clone()), Envelope::Local(header)] {
            let (in_syslog, local) = (envelope != Envelope::Bare, matches!(envelope, Envelope::Local(_)));
            let lines = written(&Encoding { shape, envelope }, log.as_bytes());
            assert!(lines.len() >= 5, "{name}: {lines:?}");
            for line in lines {
                // between the pairs of LEEF stand tabs
                let tab = |c: char| c == '\t' && shape == Shape::Leef;
                assert!(!line.contains(|c: char| c.is_control() && !tab(c) || c == '\u{202e}'), "{name}: {line:?}");
                assert!(!in_syslog || line.len() <= 4000, "{name}: {}", line.len());
                if local {
                    assert!(line.starts_with("<132>hepguard[1]: DENY [hepguard@32473 id=\""), "{line}");
                } else if in_syslog {
                    let (data, _) = read_back(&line);
                    assert_eq!(data.iter().filter(|(name, _)| name == "hepguard@32473.id").count(), 1, "{line}");
                } else if matches!(shape, Shape::Json | Shape::Ecs | Shape::Ocsf) {
                    let _: Value =
                        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{name}: {error}: {line}"));
                }
            }
        }
    }
}

#[test]
fn documents_of_findings_have_what_their_schema_asks_for() {
    let finding = finding();
    let of = |shape| {
        let bare = Encoding { shape, envelope: Envelope::Bare };
        let line = payload(&bare, &message(Body::Finding { finding: &finding, state: State::New }), ("findings", 1));
        serde_json::from_str::<Value>(&line).expect("JSON")
    };
    let ecs = of(Shape::Ecs);
    assert_eq!((&ecs["event"]["kind"], &ecs["event"]["code"]), (&"alert".into(), &"HG101".into()));
    let ocsf = of(Shape::Ocsf);
    assert_eq!(
        (&ocsf["class_uid"], &ocsf["type_uid"], &ocsf["severity_id"]),
        (&2003.into(), &200_301.into(), &5.into())
    );
    assert_eq!(ocsf["finding_info"]["uid"], finding.fingerprint);
    let own = of(Shape::Json);
    assert_eq!((&own["schema"], &own["finding"]["code"]), (&"hepguard/alert/v1".into(), &"HG101".into()));
    let text = own["finding"]["evidence"][0]["text"].as_str().expect("text");
    assert!(text.chars().count() < 400, "evidence is cut to what a message carries: {}", text.len());
}

/// Findings in every state and notices of every kind, under the published schemas, by somebody else's validator.
#[test]
fn documents_of_findings_and_notices_are_valid_under_the_published_schemas() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/siem/");
    let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
    compiler.enable_format_assertions();
    let mut schema =
        |place: &str| compiler.compile(&format!("{folder}{place}"), &mut schemas).expect("the schema compiles");
    let ecs = schema("ecs-9.4.0.json");
    let [compliance, detection, application] = ["compliance_finding", "detection_finding", "application_lifecycle"]
        .map(|class| schema(&format!("ocsf-findings-1.8.0.json#/$defs/{class}")));
    let checked = |message: &Message<'_>, class| {
        for (shape, index) in [(Shape::Ecs, ecs), (Shape::Ocsf, class)] {
            let line = payload(&Encoding { shape, envelope: Envelope::Bare }, message, ("findings", 1));
            let document: Value = serde_json::from_str(&line).expect("JSON");
            if let Err(error) = schemas.validate(&document, index) {
                panic!("{shape:?}: {error:#}\n{document:#}");
            }
            // and the schema is one that can refuse
            for (pointer, wrong) in [("/event/kind", "finding"), ("/severity", "Grave"), ("/class_name", "Finding")] {
                let mut document = document.clone();
                if let Some(value) = document.pointer_mut(pointer) {
                    *value = wrong.into();
                    assert!(schemas.validate(&document, index).is_err(), "{pointer}: {document:#}");
                }
            }
        }
    };
    let mut logs = finding();
    (logs.code, logs.name) = ("HG511", "new-deny");
    let mut without = finding();
    without.fix = String::new();
    for (finding, class) in [(finding(), compliance), (logs, detection), (without, compliance)] {
        for state in [State::New, State::Open, State::Resolved] {
            checked(&message(Body::Finding { finding: &finding, state }), class);
        }
    }
    for kind in [NoticeKind::Gap, NoticeKind::Heartbeat, NoticeKind::Test] {
        let notice = Notice { kind, text: "3 lost\n".to_owned(), fields: vec![("lost", "3".to_owned())] };
        checked(&message(Body::Notice(notice)), application);
    }
}

#[test]
fn leef_pairs_are_tabs_apart_and_nothing_else_is() {
    let lines = written(&Encoding { shape: Shape::Leef, envelope: Envelope::Bare }, LAB.as_bytes());
    let parts: Vec<&str> = lines[0].splitn(7, '|').collect();
    assert_eq!(parts[..2], ["LEEF:2.0", "hepguard"]);
    let pairs: Vec<(&str, &str)> = parts[6].split('\t').map(|pair| pair.split_once('=').expect("a pair")).collect();
    assert!(pairs.contains(&("src", "10.0.1.10")) && pairs.contains(&("dstPort", "443")), "{pairs:?}");
}
