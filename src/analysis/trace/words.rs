//! Words for what rules read, and the walk over a condition that finds it.

use super::state::address;
use crate::packet::{CtState, CtStatus, Protocol, TcpFlags};
use crate::ruleset::{Expr, Field, Match, NatTarget, SetRef};

/// A field's name for people.
pub(super) fn field(field: &Field) -> String {
    let name = match field {
        Field::Ip4Saddr | Field::Ip6Saddr => "source address",
        Field::Ip4Daddr | Field::Ip6Daddr => "destination address",
        Field::Nfproto => "address family",
        Field::L4proto | Field::Ip4Protocol | Field::Ip6Nexthdr => "protocol",
        Field::Ip4Ttl => "TTL",
        Field::Ip6Hoplimit => "hop limit",
        Field::Sport => "source port",
        Field::Dport => "destination port",
        Field::TcpFlags => "TCP flags",
        Field::IcmpType | Field::Icmp6Type => "ICMP type",
        Field::IcmpCode | Field::Icmp6Code => "ICMP code",
        Field::Iifname | Field::Iif => "incoming interface",
        Field::Oifname | Field::Oif => "outgoing interface",
        Field::Mark => "mark",
        Field::Pkttype => "link-layer packet type",
        Field::Length | Field::Ip4Length | Field::Ip6Length => "packet length",
        Field::EtherSaddr => "source MAC address",
        Field::EtherDaddr => "destination MAC address",
        Field::Skuid => "user of the socket",
        Field::Skgid => "group of the socket",
        Field::CtState => "conntrack state",
        Field::CtStatus => "conntrack status",
        Field::CtMark => "connection mark",
        Field::CtDirection => "conntrack direction",
        Field::Random => "a random number",
        Field::Time | Field::Day | Field::Hour => "time",
        Field::Other(text) => return text.to_string(),
        other => return format!("{other:?}"),
    };
    name.to_owned()
}

/// A field's value for people.
pub(super) fn value(field: &Field, number: u128, v6: bool) -> String {
    let low32 = u32::try_from(number).unwrap_or(u32::MAX);
    let low8 = u8::try_from(number).unwrap_or(u8::MAX);
    match field {
        Field::Ip4Saddr | Field::Ip6Saddr | Field::Ip4Daddr | Field::Ip6Daddr => address(number, v6).to_string(),
        Field::CtOrigSaddr4 | Field::CtOrigDaddr4 | Field::CtReplySaddr4 | Field::CtReplyDaddr4 => {
            address(number, false).to_string()
        }
        Field::CtOrigSaddr6 | Field::CtOrigDaddr6 | Field::CtReplySaddr6 | Field::CtReplyDaddr6 => {
            address(number, true).to_string()
        }
        Field::L4proto | Field::Ip4Protocol | Field::Ip6Nexthdr | Field::CtOrigProto => Protocol(low8).to_string(),
        Field::TcpFlags => TcpFlags(low8).to_string(),
        Field::CtState => CtState(low32).to_string(),
        Field::CtStatus => CtStatus(low32).to_string(),
        Field::Mark | Field::CtMark => format!("{number:#x}"),
        Field::Iifname | Field::Oifname | Field::Iif | Field::Oif if number == 0 => "none".to_owned(),
        Field::Iifname | Field::Oifname | Field::Iif | Field::Oif => interface(number),
        Field::Nfproto => match number {
            2 => "ipv4".to_owned(),
            10 => "ipv6".to_owned(),
            other => other.to_string(),
        },
        _ => number.to_string(),
    }
}

/// An interface's name from its number.
pub(super) fn interface(number: u128) -> String {
    let bytes = number.to_be_bytes();
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}

/// A set's name, or what it is.
pub(super) fn set_name(set: &SetRef) -> &str {
    match set {
        SetRef::Named(name) => name,
        SetRef::Anonymous(_) => "written in the rule",
    }
}

/// Calls `see` with every field `condition` reads.
pub(super) fn fields_of(condition: &Match, see: &mut impl FnMut(&Field)) {
    let mut expressions = Vec::new();
    let mut conditions = vec![condition];
    while let Some(condition) = conditions.pop() {
        match condition {
            Match::Compare { left, right, .. } => expressions.extend([left, right]),
            Match::Lookup { left, .. } => expressions.push(left),
            Match::Any(inner) | Match::All(inner) => conditions.extend(inner),
            Match::Not(inner) => conditions.push(inner),
            Match::Ipset { .. } | Match::Xtables { .. } | Match::Opaque { .. } => {}
        }
    }
    while let Some(expression) = expressions.pop() {
        match expression {
            Expr::Field(field) => see(field),
            Expr::Concat(parts) => expressions.extend(parts),
            Expr::And(a, b) | Expr::Or(a, b) | Expr::Xor(a, b) | Expr::Shl(a, b) | Expr::Shr(a, b) => {
                expressions.extend([&**a, &**b]);
            }
            Expr::Map { key, .. } => expressions.push(key),
            Expr::Fib(fib) => {
                let field = if fib.source { Field::Ip4Saddr } else { Field::Ip4Daddr };
                see(&field);
            }
            Expr::Number(_) | Expr::Payload { .. } | Expr::Opaque(_) => {}
        }
    }
}

/// A field or a number, bits of them taken or not: it looks nothing up.
fn is_plain(expression: &Expr) -> bool {
    let simple = |expression: &Expr| matches!(expression, Expr::Field(_) | Expr::Number(_));
    match expression {
        Expr::And(a, b) => simple(a) && simple(b),
        other => simple(other),
    }
}

/// Calls `see` with every set reference of a rule's step.
pub(super) fn sets_of<'r>(step: &'r crate::ruleset::Step, see: &mut impl FnMut(&'r SetRef)) {
    use crate::ruleset::{Effect, Step, Verdict};
    // nearly every step: nothing inside that would have to be put on a list
    match step {
        Step::Match(Match::Compare { left, right, .. }) if is_plain(left) && is_plain(right) => return,
        Step::Match(Match::Lookup { left, set, .. }) if is_plain(left) => return see(set),
        _ => {}
    }
    let mut expressions: Vec<&'r Expr> = Vec::new();
    let mut conditions: Vec<&'r Match> = Vec::new();
    match step {
        Step::Match(condition) => conditions.push(condition),
        Step::Vmap { key, map } => {
            see(map);
            expressions.push(key);
        }
        Step::Effect(Effect::Set { value, .. }) => expressions.push(value),
        Step::Verdict(Verdict::Nat(nat)) => {
            for target in [&nat.address, &nat.port].into_iter().flatten() {
                if let NatTarget::Expr(expression) = target {
                    expressions.push(expression);
                }
            }
        }
        Step::Effect(_) | Step::Verdict(_) => {}
    }
    while let Some(condition) = conditions.pop() {
        match condition {
            Match::Compare { left, right, .. } => expressions.extend([left, right]),
            Match::Lookup { left, set, .. } => {
                see(set);
                expressions.push(left);
            }
            Match::Any(inner) | Match::All(inner) => conditions.extend(inner),
            Match::Not(inner) => conditions.push(inner),
            Match::Ipset { .. } | Match::Xtables { .. } | Match::Opaque { .. } => {}
        }
    }
    while let Some(expression) = expressions.pop() {
        match expression {
            Expr::Concat(parts) => expressions.extend(parts),
            Expr::And(a, b) | Expr::Or(a, b) | Expr::Xor(a, b) | Expr::Shl(a, b) | Expr::Shr(a, b) => {
                expressions.extend([&**a, &**b]);
            }
            Expr::Map { key, map } => {
                see(map);
                expressions.push(key);
            }
            Expr::Field(_) | Expr::Number(_) | Expr::Fib(_) | Expr::Payload { .. } | Expr::Opaque(_) => {}
        }
    }
}
