//! Why a condition cannot be decided, in words.

use crate::ruleset::{Expr, Field, Match, OpaqueKind, SetRef};

/// What a condition hangs on.
pub(super) fn of(condition: &Match) -> String {
    match condition {
        Match::Opaque { kind: OpaqueKind::Stateful, text } => format!("depends on what was counted so far: {text}"),
        Match::Opaque { kind: OpaqueKind::Property, text } => format!("cannot be decided: {text}"),
        Match::Ipset { name, options: Some(_), .. } => format!("the entry's counters in set {name} decide"),
        Match::Ipset { name, .. } => format!("what set {name} holds for the packet is not all known"),
        Match::Lookup { left, set: SetRef::Named(name), .. } if fields(left).is_empty() => {
            format!("what set {name} holds for the packet is not all known")
        }
        Match::Not(inner) => of(inner),
        Match::Any(inner) | Match::All(inner) => {
            let mut reasons: Vec<String> = inner.iter().filter(|one| !fields_of(one).is_empty()).map(of).collect();
            reasons.dedup();
            reasons.truncate(3);
            if reasons.is_empty() { unknown(&[]) } else { reasons.join("; ") }
        }
        other => unknown(&fields_of(other)),
    }
}

fn unknown(fields: &[&'static str]) -> String {
    match fields {
        [] => "asks for something that is not known".to_owned(),
        names => format!("depends on {}", names.join(" and ")),
    }
}

fn fields_of(condition: &Match) -> Vec<&'static str> {
    match condition {
        Match::Compare { left, right, .. } => {
            let mut all = fields(left);
            all.extend(fields(right));
            all
        }
        Match::Lookup { left, .. } => fields(left),
        Match::Not(inner) => fields_of(inner),
        Match::Any(inner) | Match::All(inner) => inner.iter().flat_map(fields_of).collect(),
        Match::Xtables { test, .. } => vec![test.needs()],
        Match::Opaque { .. } | Match::Ipset { .. } => vec!["a set or a program"],
    }
}

/// Names of the fields in an expression.
fn fields(expr: &Expr) -> Vec<&'static str> {
    let mut found = Vec::new();
    let mut todo = vec![expr];
    while let Some(expr) = todo.pop() {
        match expr {
            Expr::Field(field) => found.push(name(field)),
            Expr::Concat(parts) => todo.extend(parts),
            Expr::And(a, b) | Expr::Or(a, b) | Expr::Xor(a, b) | Expr::Shl(a, b) | Expr::Shr(a, b) => {
                todo.extend([&**a, &**b]);
            }
            Expr::Map { key, .. } => todo.push(key),
            Expr::Fib(_) => found.push("the routing table"),
            Expr::Payload { .. } => found.push("bytes of the packet"),
            Expr::Number(_) | Expr::Opaque(_) => {}
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// A field's name for people.
fn name(field: &Field) -> &'static str {
    match field {
        Field::Ip4Saddr | Field::Ip6Saddr => "the source address",
        Field::Ip4Daddr | Field::Ip6Daddr => "the destination address",
        Field::L4proto | Field::Ip4Protocol | Field::Ip6Nexthdr => "the protocol",
        Field::Ip4Ttl | Field::Ip6Hoplimit => "the TTL",
        Field::Dscp | Field::Ecn | Field::Tos => "the TOS byte",
        Field::Sport => "the source port",
        Field::Dport => "the destination port",
        Field::TcpFlags => "the TCP flags",
        Field::IcmpType | Field::Icmp6Type | Field::IcmpCode | Field::Icmp6Code => "the ICMP type",
        Field::Iifname | Field::Iif | Field::Iiftype | Field::Iifgroup => "the incoming interface",
        Field::Oifname | Field::Oif | Field::Oiftype | Field::Oifgroup => "the outgoing interface",
        Field::Mark => "the mark",
        Field::Length | Field::Ip4Length | Field::Ip6Length => "the packet's length",
        Field::Pkttype => "the link-layer packet type",
        Field::EtherSaddr => "the source MAC address",
        Field::EtherDaddr => "the destination MAC address",
        Field::Skuid => "the user of the socket",
        Field::Skgid => "the group of the socket",
        Field::Cgroup => "the socket's control group",
        Field::CtState => "the conntrack state",
        Field::CtStatus => "the conntrack status",
        Field::CtMark => "the connection mark",
        Field::CtDirection => "the conntrack direction",
        Field::Random => "a random number",
        Field::Time | Field::Day | Field::Hour => "the time",
        Field::CtBytes | Field::CtPackets => "the connection's counters",
        _ => "a part of the packet that is not known",
    }
}
