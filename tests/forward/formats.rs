//! Messages of every kind in CEF and LEEF, taken apart by readers that know nothing of what wrote them.

use hepguard::audit::finding::{Finding, Severity};
use hepguard::forward::encode::message::{Body, Message, Notice, NoticeKind, State};
use hepguard::forward::encode::{Encoding, Envelope, Shape};
use hepguard::logs::event::{Action, Direction, Event, Source};
use serde_json::{Value, json};

use crate::rig::{python, skip};

/// What somebody may get into a log or a policy's name.
const HOSTILE: [&str; 5] = [
    "plain",
    "x|y=z",
    "two\nlines\r\nLEEF:2.0|a|b|1|c|x09|\tsrc=6.6.6.6\tsev=10",
    "a\\\" src=6.6.6.6 act=allow CEF:0|q|r|s|1|t|10|src=6.6.6.6 ",
    "\u{1b}[31mred\u{9b}\u{7} Zürich 東京",
];

pub(crate) fn event(policy: &'static str, six: bool) -> Event<'static> {
    let address = |text: &str| Some(text.parse().expect("an address"));
    Event {
        time: Some(1_795_241_652_345_678),
        host: Some(b"bastion"),
        source: Source::Felix,
        action: Action::Deny,
        direction: Some(Direction::Ingress),
        proto: Some(6),
        src_ip: address(if six { "2001:db8::7" } else { "203.0.113.7" }),
        src_port: Some(51_522),
        dst_ip: address(if six { "2001:db8::10" } else { "10.0.1.10" }),
        dst_port: Some(22),
        icmp_type: None,
        icmp_code: None,
        in_iface: None,
        out_iface: None,
        tier: Some(b"security".as_slice().into()),
        policy: Some(policy.as_bytes().into()),
        rule_index: Some(-1),
        log_prefix: None,
        packets: 2,
        bytes: 120,
        count: 3,
        repeats: 0,
        totals: Some((7, 500)),
        workload: false,
        failsafe: true,
    }
}

/// Lines of all kinds of messages in one format, and what each is.
fn lines(shape: Shape) -> Vec<(String, &'static str)> {
    let encoding = Encoding { shape, envelope: Envelope::Bare };
    let mut lines = Vec::new();
    let mut add = |body: Body<'_>, kind| {
        let message = Message { id: "0123456789abcdef".to_owned(), time: 1_795_241_652_345_678, host: "bastion", body };
        lines.push((String::from_utf8(encoding.payload(&message, ("denies", 7))).expect("text"), kind));
    };
    for text in HOSTILE {
        for six in [false, true] {
            let event = event(text, six);
            add(Body::Event { event: &event, raw: text.as_bytes() }, if six { "six" } else { "deny" });
        }
        let mut finding = Finding::coded("HG251", "plan-flow-lost", Severity::Critical, json!({ "port": 22 }), text)
            .evidence("x", text);
        finding.fix = text.to_owned();
        for state in [State::New, State::Open, State::Resolved] {
            add(Body::Finding { finding: &finding, state }, state.name());
        }
        for kind in [NoticeKind::Gap, NoticeKind::Heartbeat, NoticeKind::Test] {
            let fields = vec![("lost", "3".to_owned()), ("queue", text.to_owned())];
            add(Body::Notice(Notice { kind, text: text.to_owned(), fields }), kind.name());
        }
    }
    lines
}

fn read(script: &str, lines: &[(String, &'static str)]) -> Vec<Value> {
    let input: String = lines.iter().map(|(line, _)| format!("{line}\n")).collect();
    let read = python(script, &input).unwrap_or_else(|| panic!("it reads every line:\n{input}"));
    let read: Vec<Value> = read.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(read.len(), lines.len(), "one line, one message");
    read
}

/// Fields of a message that was read, by name.
fn fields<'v, const N: usize>(message: &'v Value, keys: [&str; N]) -> [&'v str; N] {
    keys.map(|key| message[key].as_str().unwrap_or("-"))
}

#[test]
fn a_strict_reader_takes_leef_of_every_kind_apart() {
    let script = include_str!("leef.py");
    if python("import ipaddress", "").is_none() {
        return skip("a_strict_reader_takes_leef_of_every_kind_apart", "needs python3");
    }
    let lines = lines(Shape::Leef);
    for (message, (line, kind)) in read(script, &lines).iter().zip(&lines) {
        let head = fields(message, ["vendor", "product", "devTime", "identHostName", "eventUid"]);
        assert_eq!(head, ["hepguard", "hepguard", "1795241652345", "bastion", "0123456789abcdef"], "{line}");
        let keys =
            ["event", "cat", "sev", "src", "dst", "dstPort", "srcPackets", "srcBytes", "eventCount", "state", "lost"];
        let expected = match *kind {
            "deny" => ["deny", "deny", "5", "203.0.113.7", "10.0.1.10", "22", "7", "500", "3", "-", "-"],
            "six" => ["deny", "deny", "5", "2001:db8::7", "2001:db8::10", "22", "7", "500", "3", "-", "-"],
            "new" => ["HG251", "finding", "10", "-", "-", "-", "-", "-", "-", "new", "-"],
            "open" => ["HG251", "finding", "10", "-", "-", "-", "-", "-", "-", "open", "-"],
            "resolved" => ["HG251", "finding", "1", "-", "-", "-", "-", "-", "-", "resolved", "-"],
            "gap" => ["gap", "health", "8", "-", "-", "-", "-", "-", "-", "-", "3"],
            other => [other, "health", "1", "-", "-", "-", "-", "-", "-", "-", "3"],
        };
        assert_eq!(fields(message, keys), expected, "{line}");
    }
    // and the reader is one that can refuse
    let good = &lines[0].0;
    for bad in [
        good.replace("LEEF:2.0", "LEEF:9"),
        good.replace("|x09|", "|xyz|"),
        good.replace("sev=5", "sev=11"),
        good.replace("src=203.0.113.7", "src=nowhere"),
        good.replace("\tdst=", "\tsrc=6.6.6.6\tdst="),
        format!("{good}\tno pair"),
        format!("{good}\tx=\u{1b}"),
    ] {
        assert!(python(script, &format!("{bad}\n")).is_none(), "{bad}");
    }
}

#[test]
fn somebody_elses_reader_takes_cef_of_every_kind_apart() {
    if python("import pycef", "").is_none() {
        return skip("somebody_elses_reader_takes_cef_of_every_kind_apart", "needs Python's pycef");
    }
    let script = "import sys, json, pycef\nfor line in sys.stdin: print(json.dumps(pycef.parse(line.rstrip('\\n'))))";
    let lines = lines(Shape::Cef);
    for (message, (line, kind)) in read(script, &lines).iter().zip(&lines) {
        let head = fields(message, ["CEFVersion", "DeviceVendor", "rt", "dvchost", "externalId"]);
        assert_eq!(head, ["0", "hepguard", "1795241652345", "bastion", "0123456789abcdef"], "{line}");
        // fields that have a label are read under it
        let keys =
            ["DeviceEventClassID", "DeviceSeverity", "act", "src", "Source IPv6 Address", "dpt", "cnt", "in", "cat"];
        let expected = match *kind {
            "deny" => ["deny", "3", "deny", "203.0.113.7", "-", "22", "3", "500", "-"],
            "six" => ["deny", "3", "deny", "-", "2001:db8::7", "22", "3", "500", "-"],
            "new" | "open" => ["HG251", "10", kind, "-", "-", "-", "-", "-", "finding"],
            "resolved" => ["HG251", "1", "resolved", "-", "-", "-", "-", "-", "finding"],
            "gap" => ["health", "8", "-", "-", "-", "-", "-", "-", "health"],
            _ => ["health", "1", "-", "-", "-", "-", "-", "-", "health"],
        };
        assert_eq!(fields(message, keys), expected, "{line}");
    }
}
