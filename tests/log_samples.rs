//! Every sample line is read as its expectation says.

use std::net::IpAddr;

use hepguard::logs::event::{Action, Direction, Event};
use hepguard::logs::felix::{Flaw, Flow, caller};
use hepguard::logs::flowlog::{Hit, Record};
use hepguard::logs::header::Wrap;
use hepguard::logs::kernel::{FLAGS, Packet};
use hepguard::logs::line::{Read, Scratch, What, read};
use hepguard::logs::time::{Clock, Stamper, rfc3339};
use serde_json::{Map, Value, json};

/// 2026-08-21T12:00:00Z
const REFERENCE: i64 = 1_787_313_600;

fn text(bytes: &[u8]) -> Value {
    Value::String(String::from_utf8_lossy(bytes).into_owned())
}

fn ip(address: Option<IpAddr>) -> Value {
    json!(address.map(|address| address.to_string()))
}

fn flow(fields: &mut Map<String, Value>, flow: &Flow<'_>) {
    let event = Event::of_flow(flow);
    fields.extend([
        ("kind".to_owned(), json!("felix-flow")),
        ("action".to_owned(), json!(flow.action.name())),
        ("dir".to_owned(), json!(flow.direction.map(Direction::name))),
        ("proto".to_owned(), json!(flow.proto)),
        ("src".to_owned(), ip(flow.src_ip)),
        ("sport".to_owned(), json!(flow.src_port)),
        ("dst".to_owned(), ip(flow.dst_ip)),
        ("dport".to_owned(), json!(flow.dst_port)),
        ("tier".to_owned(), flow.tier.as_deref().map_or(Value::Null, text)),
        ("policy".to_owned(), flow.policy.as_deref().map_or(Value::Null, text)),
        ("rule".to_owned(), json!(flow.rule)),
        ("in_packets".to_owned(), json!(flow.in_packets)),
        ("in_bytes".to_owned(), json!(flow.in_bytes)),
        ("out_packets".to_owned(), json!(flow.out_packets)),
        ("out_bytes".to_owned(), json!(flow.out_bytes)),
        ("update".to_owned(), flow.update.map_or(Value::Null, text)),
        ("icmp_type".to_owned(), json!(event.icmp_type)),
        ("icmp_code".to_owned(), json!(event.icmp_code)),
        ("packets".to_owned(), json!(flow.packets)),
        ("bytes".to_owned(), json!(flow.bytes)),
        ("truncated".to_owned(), json!(flow.flaw == Some(Flaw::Truncated))),
    ]);
}

fn mac(packet: &Packet<'_>, from: usize, to: usize) -> Value {
    packet.mac.and_then(|mac| mac.get(from..to)).map_or(Value::Null, text)
}

fn packet(fields: &mut Map<String, Value>, packet: &Packet<'_>) {
    let flags: Vec<&str> =
        FLAGS.iter().enumerate().filter(|(bit, _)| packet.flags & (1 << bit) != 0).map(|(_, flag)| *flag).collect();
    let inner = packet.quoted_packet().map(|inner| {
        let mut fields = json!({
            "src": ip(inner.src), "dst": ip(inner.dst), "proto": inner.proto.map(text),
            "sport": inner.src_port, "dport": inner.dst_port,
        });
        if inner.incomplete.is_some() {
            fields["incomplete"] = json!(inner.incomplete);
        }
        fields
    });
    let hook = packet.direction().map(|direction| match direction {
        Direction::Ingress => "input",
        Direction::Egress => "output",
        Direction::Forward => "forward",
    });
    let ethertype = packet
        .mac
        .and_then(|mac| mac.get(36..))
        .map(|end| end.iter().filter(|byte| **byte != b':').copied().collect::<Vec<_>>());
    let verdict = match packet.action() {
        Action::Deny | Action::Drop | Action::Reject => "deny",
        other => other.name(),
    };
    for (key, value) in [
        ("kind", json!("kernel-log")),
        ("prefix", text(packet.prefix)),
        ("in", packet.in_iface.map_or(Value::Null, text)),
        ("out", packet.out_iface.map_or(Value::Null, text)),
        ("src", ip(packet.src)),
        ("dst", ip(packet.dst)),
        ("proto", packet.proto.map_or(Value::Null, text)),
        ("sport", json!(packet.src_port)),
        ("dport", json!(packet.dst_port)),
        ("flags", json!(flags)),
        ("len", json!(packet.length)),
        ("udp_len", json!(packet.udp_length)),
        ("ttl", json!(packet.ttl)),
        ("id", json!(packet.ip_id)),
        ("ip_id", json!(packet.ip_id)),
        ("df", json!(packet.dont_fragment)),
        ("mf", json!(packet.more_fragments)),
        ("ce", json!(packet.congestion)),
        ("frag", json!(packet.fragment)),
        ("seq", json!(packet.sequence)),
        ("ack", json!(packet.acknowledgement)),
        ("tcp_opt", packet.tcp_options.map_or(Value::Null, text)),
        ("uptime", json!(packet.uptime.and_then(|seconds| std::str::from_utf8(seconds).ok()?.parse::<f64>().ok()))),
        ("mac", packet.mac.map_or(Value::Null, text)),
        ("mac_dst", packet.mac_dst.map_or_else(|| mac(packet, 0, 17), text)),
        ("mac_src", packet.mac_src.map_or_else(|| mac(packet, 18, 35), text)),
        ("ethertype", ethertype.as_deref().map_or(Value::Null, text)),
        ("physin", packet.phys_in.map_or(Value::Null, text)),
        ("icmp_type", json!(packet.icmp_type)),
        ("icmp_code", json!(packet.icmp_code)),
        ("icmp_id", json!(packet.icmp_id)),
        ("icmp_seq", json!(packet.icmp_sequence)),
        ("gateway", ip(packet.gateway)),
        ("mtu", json!(packet.mtu)),
        ("spi", packet.spi.map_or(Value::Null, text)),
        ("mark", json!(packet.mark)),
        ("uid", json!(packet.uid)),
        ("gid", json!(packet.gid)),
        ("hook", json!(hook)),
        ("origin", json!(packet.origin())),
        ("verdict", json!(verdict)),
        ("truncated", json!(packet.truncated)),
        ("inner", json!(inner)),
    ] {
        fields.insert(key.to_owned(), value);
    }
}

fn hit_text(hit: &Hit) -> String {
    let kind = hit.kind.as_ref().map(|kind| format!("{kind}:")).unwrap_or_default();
    let rule = hit.rule.map(|rule| rule.to_string()).unwrap_or_default();
    format!("{}|{}|{kind}{}|{}|{rule}", hit.order, hit.tier, hit.name, hit.action.name())
}

fn record(fields: &mut Map<String, Value>, record: &Record) {
    let meaning = |hit: &Hit| match (hit.rule, hit.name.ends_with("__NO_MATCH__"), hit.tier.as_str()) {
        (_, true, "__PROFILE__") => "no profile matched".to_owned(),
        (Some(-1), _, _) => "end of tier".to_owned(),
        (rule, _, _) => format!("rule {}", rule.unwrap_or_default()),
    };
    let deciding = record.deciding.as_ref().map(|hit| {
        json!({"tier": hit.tier, "name": hit.name, "kind": hit.kind, "action": hit.action.name(), "rule": hit.rule,
            "meaning": meaning(hit), "trigger": hit.trigger})
    });
    let protocol = record.proto.map(|proto| hepguard::packet::Protocol(proto).to_string());
    for (key, value) in [
        ("kind", json!("flow-json")),
        ("action", json!(record.action.name())),
        (
            "reporter",
            json!(record.direction.map(|direction| if direction == Direction::Egress { "src" } else { "dst" })),
        ),
        ("proto", json!(protocol)),
        ("src", ip(record.src_ip)),
        ("dst", ip(record.dst_ip)),
        ("sport", json!(record.src_port)),
        ("dport", json!(record.dst_port)),
        ("trace", json!(record.trace.iter().map(hit_text).collect::<Vec<_>>())),
        ("deciding", json!(deciding)),
        (
            "would_deny",
            json!(
                record.would_deny.as_ref().map(|hit| json!({"tier": hit.tier, "name": hit.name, "staged": hit.staged}))
            ),
        ),
    ] {
        fields.insert(key.to_owned(), value);
    }
}

fn wrap(read: &Read<'_>) -> &'static str {
    match (read.envelope.wrap, read.envelope.pri) {
        (Wrap::Rfc3164, _) => "rfc3164",
        (Wrap::Rfc3339, Some(_)) => "rfc3339+pri",
        (Wrap::Rfc3339, None) => "rfc3339",
        (Wrap::ShortIso, _) => "short-iso",
        (Wrap::Rfc5424, _) => "rfc5424",
        (Wrap::JournalJson, _) => "journal-json",
        (Wrap::DockerJson, _) => "docker-json",
        (Wrap::Cri, _) => "cri",
        _ => "other",
    }
}

fn found(line: &str) -> Value {
    let mut scratch = Scratch::default();
    let mut stamper = Stamper::new(Clock::utc(REFERENCE));
    let read = read(line.as_bytes(), &mut scratch, &mut stamper);
    let mut fields = Map::new();
    match &read.what {
        What::Flow(line) => flow(&mut fields, line),
        What::Packet(line) => packet(&mut fields, line),
        What::FlowLog(line) => record(&mut fields, line),
        What::BrokenJson => {
            fields.insert("kind".to_owned(), json!("unparsed"));
        }
        What::RepeatPrevious(count) => {
            fields.extend([("kind".to_owned(), json!("repeat-previous")), ("count".to_owned(), json!(count))]);
        }
        What::Loss(count) => {
            fields.extend([("kind".to_owned(), json!("loss")), ("count".to_owned(), json!(count))]);
        }
        What::FelixOp { level, caller } => {
            fields.extend([
                ("kind".to_owned(), json!("felix-op")),
                ("level".to_owned(), text(level)),
                ("caller".to_owned(), text(caller)),
            ]);
        }
        What::KernelOther => {
            fields.insert("kind".to_owned(), json!("kernel-other"));
        }
        What::Other => {
            fields.insert("kind".to_owned(), json!("other"));
        }
    }
    fields.insert("host".to_owned(), read.envelope.host.map_or(Value::Null, text));
    fields.insert("tag".to_owned(), read.envelope.tag.map_or(Value::Null, text));
    fields.insert("pid".to_owned(), json!(read.envelope.pid));
    fields.insert("pri".to_owned(), json!(read.envelope.pri));
    fields.insert("repeat".to_owned(), json!(read.repeat));
    fields.insert("wrap".to_owned(), json!(wrap(&read)));
    fields.insert("ts".to_owned(), json!(read.envelope.time.and_then(rfc3339)));
    if let Some((_, place, _)) = caller(read.envelope.message) {
        fields.entry("caller").or_insert_with(|| text(place));
    }
    Value::Object(fields)
}

/// The expectation's stamp, as RFC 3339 UTC.
fn expected_time(stamp: &str) -> String {
    let words = stamp.split(" (").next().unwrap_or_default();
    let seconds = words.strip_suffix(" s since epoch").and_then(|seconds| seconds.parse::<f64>().ok());
    let mut stamper = Stamper::new(Clock::utc(REFERENCE));
    let time = match seconds {
        #[expect(clippy::cast_possible_truncation, reason = "a time of this century")]
        Some(seconds) => Some((seconds * 1e6).round() as i64),
        None => stamper.iso(words.as_bytes()).or_else(|| stamper.classic(words.as_bytes())).and_then(|(time, _)| time),
    };
    time.and_then(rfc3339).expect("the expectation's stamp is a time")
}

fn subset(id: &str, expected: &Value, found: &Value, problems: &mut Vec<String>) {
    let expected = expected.as_object().expect("an expectation is an object");
    for (key, value) in expected {
        // remarks for people, and what an event does not carry
        if matches!(
            key.as_str(),
            "finding"
                | "reason"
                | "trailing"
                | "flavour"
                | "src_type"
                | "src_name"
                | "src_host"
                | "dst_type"
                | "dst_name"
                | "packets_in"
                | "bytes_in"
        ) {
            continue;
        }
        let got = &found[key];
        if key == "ts" {
            let stamp = expected_time(value.as_str().expect("a stamp"));
            if got != &json!(stamp) {
                problems.push(format!("{id} ts: expected {stamp}, found {got}"));
            }
        } else if key == "deciding" {
            subset(id, value, got, problems);
        } else if got != value {
            problems.push(format!("{id} {key}: expected {value}, found {got}"));
        }
    }
}

fn check(samples: &str, least: usize) {
    let mut problems = Vec::new();
    let mut count = 0;
    for sample in samples.lines() {
        let sample: Value = serde_json::from_str(sample).expect("a sample is JSON");
        let line = sample["line"].as_str().expect("a sample has a line");
        let id = sample["id"].as_str().expect("a sample has an id");
        subset(id, &sample["expect"], &found(line), &mut problems);
        // line ends of any kind change nothing
        for end in ["\n", "\r\n", "  \n"] {
            subset(&format!("{id}+{end:?}"), &sample["expect"], &found(&format!("{line}{end}")), &mut problems);
        }
        count += 1;
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(count >= least, "only {count} samples");
}

#[test]
fn felix_lines_in_every_envelope() {
    check(include_str!("fixtures/logs/felix-samples.jsonl"), 33);
}

#[test]
fn kernel_lines_of_every_shape() {
    check(include_str!("fixtures/logs/kernel-samples.jsonl"), 38);
}

#[test]
fn flow_logs_of_every_generation() {
    check(include_str!("fixtures/logs/flowlog-samples.jsonl"), 8);
}
