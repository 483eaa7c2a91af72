//! `-m addrtype` (xt_addrtype.c): routing's opinion of an address. IPv6 answers most types from the address itself, and
//! there several types are an *and*.

use super::draft::Group;
use super::matches::{Context, Trouble};
use super::values::compare;
use crate::packet::Family;
use crate::ruleset::{Elements, Expr, FibField, FibResult, Field, Interval, Match, SetRef};

/// Names of address types and their routing number (`RTN_*`).
pub(crate) const TYPES: &[(&str, u8)] = &[
    ("UNSPEC", 0),
    ("UNICAST", 1),
    ("LOCAL", 2),
    ("BROADCAST", 3),
    ("ANYCAST", 4),
    ("MULTICAST", 5),
    ("BLACKHOLE", 6),
    ("UNREACHABLE", 7),
    ("PROHIBIT", 8),
    ("THROW", 9),
    ("NAT", 10),
    ("XRESOLVE", 11),
];

/// `--src-type`, `--dst-type` and the interface limits.
pub(crate) fn lower(context: &Context<'_, '_>, group: &Group, out: &mut Vec<Match>) -> Result<(), Trouble> {
    let has = |name: &str| group.args.iter().any(|arg| arg.name == name && !arg.negate);
    for arg in group.args.iter().filter(|arg| matches!(arg.name, "src-type" | "dst-type")) {
        let lookup = FibField {
            source: arg.name == "src-type",
            mark: false,
            iif: has("limit-iface-in"),
            oif: has("limit-iface-out"),
            result: FibResult::Type,
        };
        let types = context.read(arg, types)?;
        let condition = if context.family == Family::Ipv4 {
            Some(of_types(lookup, &types, arg.negate))
        } else {
            ipv6(lookup, &types, arg.negate)
        };
        out.push(condition.ok_or_else(|| arg.trouble("an address type that IPv6 has"))?);
    }
    Ok(())
}

fn types(text: &[u8]) -> Result<Vec<u8>, &'static str> {
    let number = |name: &[u8]| TYPES.iter().find(|one| one.0.as_bytes().eq_ignore_ascii_case(name)).map(|one| one.1);
    let numbers: Option<Vec<u8>> = text.split(|byte| *byte == b',').map(number).collect();
    let mut numbers = numbers.ok_or("address types such as LOCAL or UNICAST, separated by commas")?;
    numbers.sort_unstable();
    numbers.dedup();
    Ok(numbers)
}

/// The looked-up type is one of `types`.
pub(crate) fn of_types(lookup: FibField, types: &[u8], negate: bool) -> Match {
    if let [one] = types {
        return compare(Expr::Fib(lookup), negate, u128::from(*one));
    }
    let elements = Elements::from_intervals(types.iter().map(|one| Interval::single(u128::from(*one))));
    Match::Lookup { left: Expr::Fib(lookup), negate, set: SetRef::Anonymous(Box::new(elements)) }
}

/// IPv6: UNICAST, MULTICAST and UNSPEC are properties of the address, the rest one look-up; all asked for must hold.
pub(crate) fn ipv6(lookup: FibField, types: &[u8], negate: bool) -> Option<Match> {
    let field = if lookup.source { Field::Ip6Saddr } else { Field::Ip6Daddr };
    let mut all = Vec::new();
    let mut routed = Vec::new();
    for kind in types {
        match kind {
            0 => all.push(compare(Expr::Field(field.clone()), false, 0)),
            1 => all.push(Match::within(field.clone(), true, NOT_UNICAST)),
            5 => all.push(Match::within(field.clone(), false, [MULTICAST])),
            2 | 4 | 7 => routed.push(*kind),
            _ => return None,
        }
    }
    if !routed.is_empty() {
        all.push(of_types(lookup, &routed, false));
    }
    let condition = if all.len() == 1 { all.pop()? } else { Match::All(all) };
    Some(if negate { Match::Not(Box::new(condition)) } else { condition })
}

const MULTICAST: Interval = Interval { low: 0xff << 120, high: u128::MAX };

/// What the kernel's IPv6 address classes do not count as unicast: unspecified, IPv4-mapped, multicast.
const NOT_UNICAST: [Interval; 3] =
    [Interval { low: 0, high: 0 }, Interval { low: 0xffff_0000_0000, high: 0xffff_ffff_ffff }, MULTICAST];
