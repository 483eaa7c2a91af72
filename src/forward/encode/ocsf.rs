//! OCSF 1.8.0, class 4001 (Network Activity) with the profiles `security_control` and `host`.

use serde_json::{Value, json};

use super::ecs::without_nulls;
use super::{Fate, fate, lossy};
use crate::logs::event::{Direction, Event, Source};
use crate::packet::Protocol;
use crate::report::events::{reason, sentence};

/// The document. An event without a time has no `time`, and says so in `unmapped`.
pub(super) fn document(event: &Event<'_>, raw: &[u8]) -> Value {
    let fate = fate(event.action);
    let (activity, activity_name) = if fate == Fate::Denied { (5, "Refuse") } else { (6, "Traffic") };
    let (action, action_name) = match fate {
        Fate::Denied => (2, "Denied"),
        Fate::Allowed => (1, "Allowed"),
        Fate::Observed => (3, "Observed"),
    };
    let (disposition, disposition_name) = match fate {
        Fate::Denied => (2, "Blocked"),
        Fate::Allowed => (1, "Allowed"),
        Fate::Observed => (17, "Logged"),
    };
    let (status, status_name) = match fate {
        Fate::Denied => (2, "Failure"),
        Fate::Allowed => (1, "Success"),
        Fate::Observed => (0, "Unknown"),
    };
    let (severity, severity_name) = if fate == Fate::Denied { (2, "Low") } else { (1, "Informational") };
    let (direction, direction_name) = match event.direction {
        Some(Direction::Ingress) => (1, "Inbound"),
        Some(Direction::Egress) => (2, "Outbound"),
        Some(Direction::Forward) | None => (0, "Unknown"),
    };
    let provider = match event.source {
        Source::Felix => "calico-felix",
        Source::Kernel => "kernel",
        Source::Flowlog => "calico-flowlog",
    };
    let version = env!("CARGO_PKG_VERSION");
    let (packets, bytes) = event.totals();
    // the schema wants a name where there is no address, as in flow logs that were aggregated
    let end = |ip: Option<std::net::IpAddr>, port: Option<u16>, interface: Option<&[u8]>| {
        let name = (ip.is_none() && interface.is_none()).then_some("unknown");
        let ip = ip.map(|ip| ip.to_string());
        (ip.is_some() || port.is_some() || interface.is_some()).then(|| {
            without_nulls(json!({ "ip": ip, "port": port, "interface_name": interface.map(lossy), "name": name }))
        })
    };
    let source = end(event.src_ip, event.src_port, event.in_iface);
    let destination = end(event.dst_ip, event.dst_port, event.out_iface);
    // and one end at least
    let destination = destination.or_else(|| source.is_none().then(|| json!({ "name": "unknown" })));
    let observed = |name: &str, ip: Option<std::net::IpAddr>| {
        ip.map(|ip| json!({ "name": name, "type_id": 2, "type": "IP Address", "value": ip.to_string() }))
    };
    let observables: Vec<Value> =
        [observed("src_endpoint.ip", event.src_ip), observed("dst_endpoint.ip", event.dst_ip)]
            .into_iter()
            .flatten()
            .collect();
    let address = event.src_ip.or(event.dst_ip);
    let policy = event.policy.as_deref().or(event.log_prefix).map(lossy);
    let rule = policy.as_ref().map(|name| {
        without_nulls(json!({
            "uid": event.rule_index.map(|index| index.to_string()), "name": name,
            "type": event.direction.map(Direction::name),
            "category": event.tier.as_deref().map(|tier| format!("tier:{}", lossy(tier))),
        }))
    });
    let group = event.tier.as_deref().map(|tier| json!({ "name": lossy(tier) }));
    without_nulls(json!({
        "activity_id": activity, "activity_name": activity_name,
        "category_uid": 4, "category_name": "Network Activity",
        "class_uid": 4001, "class_name": "Network Activity",
        "type_uid": 400_100 + activity, "type_name": format!("Network Activity: {activity_name}"),
        "time": event.time.map(|time| time.div_euclid(1000)),
        "severity_id": severity, "severity": severity_name,
        "status_id": status, "status": status_name, "status_detail": reason(event),
        "count": event.count,
        "action_id": action, "action": action_name,
        "disposition_id": disposition, "disposition": disposition_name,
        "message": sentence(event),
        "metadata": {
            "version": "1.8.0", "profiles": ["security_control", "host"], "log_provider": provider,
            "product": { "name": "hepguard", "vendor_name": "hepguard", "version": version },
        },
        "device": event.host.map(|host| json!({ "type_id": 1, "type": "Server", "hostname": lossy(host) })),
        "src_endpoint": source,
        "dst_endpoint": destination,
        "connection_info": without_nulls(json!({
            "direction_id": direction, "direction": direction_name, "protocol_num": event.proto,
            "protocol_name": event.proto.map(|proto| Protocol(proto).to_string()),
            "protocol_ver_id": address.map(|address| if address.is_ipv4() { 4 } else { 6 }),
        })),
        // what is denied has only the side of the one who asked
        "traffic": without_nulls(json!({
            "packets": packets, "bytes": bytes,
            "packets_out": (fate == Fate::Denied).then_some(packets),
            "bytes_out": (fate == Fate::Denied).then_some(bytes),
        })),
        "firewall_rule": rule,
        "policy": (event.source != Source::Kernel)
            .then(|| policy.map(|name| without_nulls(json!({ "name": name, "group": group, "is_applied": true }))))
            .flatten(),
        "observables": observables,
        "raw_data": lossy(raw),
        "unmapped": { "failsafe": event.failsafe, "undated": event.time.is_none() },
    }))
}
