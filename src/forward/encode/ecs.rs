//! Elastic Common Schema 9.4: `event.kind` event, `event.category` network.

use serde_json::{Map, Value, json};

use super::{Fate, fate, lossy};
use crate::logs::event::{Direction, Event, Source};
use crate::logs::tally::family;
use crate::logs::time::rfc3339;
use crate::packet::Protocol;
use crate::report::events::{reason, sentence};

/// The document. An event without a time has no `@timestamp`, and the tag `undated` instead.
pub(super) fn document(event: &Event<'_>, raw: &[u8]) -> Value {
    let mut out = Map::new();
    match event.time.and_then(rfc3339) {
        Some(time) => out.insert("@timestamp".to_owned(), json!(time)),
        None => out.insert("tags".to_owned(), json!(["undated"])),
    };
    let fate = fate(event.action);
    let (kind, outcome) = match fate {
        Fate::Denied => ("denied", "failure"),
        Fate::Allowed => ("allowed", "success"),
        Fate::Observed => ("info", "unknown"),
    };
    out.insert("ecs".to_owned(), json!({ "version": "9.4.0" }));
    out.insert("message".to_owned(), json!(sentence(event)));
    let provider = match event.source {
        Source::Felix => "calico-felix",
        Source::Kernel => "kernel",
        Source::Flowlog => "calico-flowlog",
    };
    out.insert(
        "event".to_owned(),
        json!({
            "kind": "event", "category": ["network"], "type": ["connection", kind], "action": event.action.name(),
            "outcome": outcome, "reason": reason(event), "module": "hepguard", "dataset": "hepguard.deny",
            "provider": provider, "original": lossy(raw),
        }),
    );
    ends(event, fate, &mut out);
    out.insert("network".to_owned(), network(event));
    if event.policy.is_some() || event.log_prefix.is_some() {
        let name = event.policy.as_deref().or(event.log_prefix).map(lossy);
        out.insert(
            "rule".to_owned(),
            without_nulls(json!({
                "id": event.rule_index.map(|index| index.to_string()), "name": name,
                "ruleset": event.tier.as_deref().map(lossy),
            })),
        );
    }
    let host = event.host.map(lossy);
    let interface = |name: Option<&[u8]>| name.map(|name| json!({ "interface": { "name": lossy(name) } }));
    let product = if event.source == Source::Kernel { "netfilter" } else { "Calico" };
    out.insert(
        "observer".to_owned(),
        without_nulls(json!({
            "type": "firewall", "product": product, "hostname": host,
            "ingress": interface(event.in_iface), "egress": interface(event.out_iface),
        })),
    );
    if let Some(host) = &host {
        out.insert("host".to_owned(), json!({ "hostname": host, "name": host }));
    }
    let ips: Vec<String> = [event.src_ip, event.dst_ip].into_iter().flatten().map(|ip| ip.to_string()).collect();
    out.insert("related".to_owned(), json!({ "ip": ips, "hosts": host.into_iter().collect::<Vec<_>>() }));
    out.insert("agent".to_owned(), json!({ "type": "hepguard", "version": env!("CARGO_PKG_VERSION") }));
    out.insert(
        "hepguard".to_owned(),
        json!({ "count": event.count, "failsafe": event.failsafe, "end_of_tier": event.end_of_tier() }),
    );
    Value::Object(out)
}

fn ends(event: &Event<'_>, fate: Fate, out: &mut Map<String, Value>) {
    let end = |ip: Option<std::net::IpAddr>, port: Option<u16>| {
        ip.map(|ip| without_nulls(json!({ "address": ip.to_string(), "ip": ip.to_string(), "port": port })))
    };
    if let Some(mut source) = end(event.src_ip, event.src_port) {
        // what is denied has only the side of the one who asked
        if let (Fate::Denied, Some(fields)) = (fate, source.as_object_mut()) {
            let (packets, bytes) = event.totals();
            fields.insert("packets".to_owned(), json!(packets));
            fields.insert("bytes".to_owned(), json!(bytes));
        }
        out.insert("source".to_owned(), source);
    }
    if let Some(destination) = end(event.dst_ip, event.dst_port) {
        out.insert("destination".to_owned(), destination);
    }
}

fn network(event: &Event<'_>) -> Value {
    let (packets, bytes) = event.totals();
    let direction = match event.direction {
        Some(Direction::Ingress) => Some("ingress"),
        Some(Direction::Egress) => Some("egress"),
        Some(Direction::Forward) | None => None,
    };
    without_nulls(json!({
        "type": event.src_ip.or(event.dst_ip).map(family),
        "transport": event.proto.map(|proto| Protocol(proto).to_string()),
        "iana_number": event.proto.map(|proto| proto.to_string()),
        "direction": direction, "packets": packets, "bytes": bytes,
    }))
}

/// An object without the fields that are not known.
pub(super) fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(fields.into_iter().filter(|(_, value)| !value.is_null()).collect()),
        other => other,
    }
}
