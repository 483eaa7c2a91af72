//! Calico's flow logs, one JSON object a line: all generations of `policies`, and the Goldmane/Whisker form.

use std::net::IpAddr;

use serde_json::{Map, Value};

use super::event::{Action, Direction, Event, Source};
use super::felix::address;
use super::time::{Micros, Stamper};

/// One step of a policy trace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hit {
    /// Place in the trace.
    pub order: i64,
    /// Tier.
    pub tier: String,
    /// Kind prefix of newer names (`gnp`, `np`, `pro`, `eot`, …) or Whisker's kind.
    pub kind: Option<String>,
    /// Policy, with namespace in front when it has one.
    pub name: String,
    /// What it did.
    pub action: Action,
    /// Index of the rule; -1 for the end of the tier.
    pub rule: Option<i32>,
    /// A staged policy: what would be done.
    pub staged: bool,
    /// The policy an end of tier is reported with (Whisker).
    pub trigger: Option<String>,
}

/// One flow log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Verdict at the reporter.
    pub action: Action,
    /// Egress for a report of the source, ingress for one of the destination.
    pub direction: Option<Direction>,
    /// End of the aggregation window.
    pub end: Option<Micros>,
    /// Protocol number.
    pub proto: Option<u8>,
    /// Source address, unless aggregated away.
    pub src_ip: Option<IpAddr>,
    /// Destination address, unless aggregated away.
    pub dst_ip: Option<IpAddr>,
    /// Source port, unless aggregated away.
    pub src_port: Option<u16>,
    /// Destination port.
    pub dst_port: Option<u16>,
    /// The host that shipped the log.
    pub host: Option<String>,
    /// Enforced steps, in order.
    pub trace: Vec<Hit>,
    /// The enforced step that decided.
    pub deciding: Option<Hit>,
    /// A staged or pending step that would deny what is allowed.
    pub would_deny: Option<Hit>,
    /// Packets, both ways.
    pub packets: u64,
    /// Bytes, both ways.
    pub bytes: u64,
    /// The endpoint that reports is a workload.
    pub workload: bool,
}

/// Reads a flow log that was found to be one.
pub(super) fn read(object: &Map<String, Value>, stamper: &mut Stamper<'_>) -> Record {
    let text = |key: &str| object.get(key).and_then(Value::as_str);
    let number = |key: &str| object.get(key).and_then(Value::as_u64).unwrap_or(0);
    let port = |key: &str| object.get(key).and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok());
    let ip = |key: &str| text(key).and_then(|text| address(text.as_bytes()));
    let reporter = text("reporter").unwrap_or_default().to_ascii_lowercase();
    let action = action(text("action").unwrap_or_default());
    let policies = object.get("policies");
    let list = |key: &str| hits(policies.and_then(|policies| policies.get(key)));
    let all = list("all_policies");
    let mut trace = [list("enforced_policies"), list("enforced")].concat();
    if trace.is_empty() {
        trace = all.iter().filter(|hit| !hit.staged).cloned().collect();
    }
    let pending = [list("pending_policies"), list("pending")].concat();
    let deciding = trace.iter().rev().find(|hit| hit.action == action).or(trace.last()).cloned();
    let would_deny = (action == Action::Allow)
        .then(|| {
            let staged = all.iter().find(|hit| hit.staged && hit.action == Action::Deny);
            staged.or(pending.last().filter(|hit| hit.action == Action::Deny)).cloned()
        })
        .flatten();
    let end = match object.get("end_time") {
        Some(Value::Number(seconds)) => seconds.as_i64().and_then(|seconds| seconds.checked_mul(1_000_000)),
        Some(Value::String(stamp)) => stamper.iso(stamp.as_bytes()).and_then(|(time, _)| time),
        _ => None,
    };
    Record {
        action,
        direction: match reporter.as_str() {
            "dst" => Some(Direction::Ingress),
            "src" => Some(Direction::Egress),
            _ if reporter.contains("fwd") => Some(Direction::Forward),
            _ => None,
        },
        end,
        proto: text("proto").or_else(|| text("protocol")).and_then(protocol),
        src_ip: ip("source_ip"),
        dst_ip: ip("dest_ip"),
        src_port: port("source_port"),
        dst_port: port("dest_port"),
        host: text("host").map(str::to_owned),
        trace,
        deciding,
        would_deny,
        packets: number("packets_in").saturating_add(number("packets_out")),
        bytes: number("bytes_in").saturating_add(number("bytes_out")),
        // Whisker's flows are of pods and do not say so
        workload: match reporter.as_str() {
            "dst" => text("dest_type").is_none_or(|kind| kind == "wep"),
            "src" => text("source_type").is_none_or(|kind| kind == "wep"),
            _ => false,
        },
    }
}

fn protocol(text: &str) -> Option<u8> {
    match text {
        "icmp6" => Some(58),
        "ipip" => Some(4),
        _ => text.parse::<crate::packet::Protocol>().ok().map(|protocol| protocol.0),
    }
}

fn action(text: &str) -> Action {
    let lower = text.to_ascii_lowercase();
    [Action::Allow, Action::Deny, Action::Pass]
        .into_iter()
        .find(|action| action.name() == lower)
        .unwrap_or(Action::Unknown)
}

/// A list of steps in trace order; the log's order is random.
fn hits(list: Option<&Value>) -> Vec<Hit> {
    let Some(Value::Array(values)) = list else { return Vec::new() };
    let mut hits: Vec<Hit> = values
        .iter()
        .filter_map(|value| match value {
            Value::String(text) => hit(text),
            Value::Object(object) => Some(whisker_hit(object)),
            _ => None,
        })
        .collect();
    hits.sort_by_key(|hit| hit.order);
    hits
}

/// `0|security|security.hep-external|deny|-1` or `0|security|gnp:hep-external|deny|0`.
fn hit(text: &str) -> Option<Hit> {
    let mut parts = text.split('|');
    let (order, tier, name) = (parts.next()?, parts.next()?, parts.next()?);
    let (action_name, rule) = (parts.next()?, parts.next());
    const KINDS: [&str; 9] = ["gnp", "np", "knp", "kcnp", "sgnp", "snp", "sknp", "pro", "eot"];
    let (kind, name) = match name.split_once(':') {
        Some((kind, rest)) if KINDS.contains(&kind) => (Some(kind.to_owned()), rest),
        _ => (None, name),
    };
    let staged = name.contains("staged:") || matches!(kind.as_deref(), Some("sgnp" | "snp" | "sknp"));
    Some(Hit {
        order: order.parse().ok()?,
        tier: tier.to_owned(),
        kind,
        name: name.to_owned(),
        action: action(action_name),
        rule: rule.and_then(|rule| rule.parse().ok()),
        staged,
        trigger: None,
    })
}

fn whisker_hit(object: &Map<String, Value>) -> Hit {
    let full_name = |object: &Map<String, Value>| {
        let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
        match (text("namespace"), text("name")) {
            ("", name) => name.to_owned(),
            (namespace, name) => format!("{namespace}/{name}"),
        }
    };
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
    let number = |key: &str| object.get(key).and_then(Value::as_i64);
    Hit {
        order: number("policy_index").unwrap_or(0),
        tier: text("tier").to_owned(),
        kind: Some(text("kind").to_owned()),
        name: full_name(object),
        action: action(text("action")),
        rule: number("rule_index").and_then(|rule| i32::try_from(rule).ok()),
        staged: text("kind").starts_with("Staged"),
        trigger: object.get("trigger").and_then(Value::as_object).map(full_name),
    }
}

impl Record {
    /// The event of this flow log. A window with many connections is one event; packets and bytes are sums.
    #[must_use]
    pub fn event(&self) -> Event<'static> {
        let owned = |text: &str| std::borrow::Cow::Owned(text.as_bytes().to_vec());
        let deciding = self.deciding.as_ref();
        Event {
            time: self.end,
            host: None,
            source: Source::Flowlog,
            action: self.action,
            direction: self.direction,
            proto: self.proto,
            src_ip: self.src_ip,
            src_port: self.src_port,
            dst_ip: self.dst_ip,
            dst_port: self.dst_port,
            icmp_type: None,
            icmp_code: None,
            in_iface: None,
            out_iface: None,
            tier: deciding.map(|hit| owned(&hit.tier)),
            policy: deciding.map(|hit| owned(hit.trigger.as_deref().unwrap_or(&hit.name))),
            rule_index: deciding.and_then(|hit| hit.rule),
            log_prefix: None,
            packets: self.packets,
            bytes: self.bytes,
            count: 1,
            repeats: 0,
            totals: None,
            failsafe: false,
            workload: self.workload,
        }
    }
}
