//! `-m conntrack` and `-m state` (xt_conntrack.c).

use super::draft::{Arg, Group};
use super::matches::{Context, Trouble};
use super::values::{Expected, address_match, all_ones, compare, interval_match, masked_address, number_range, ports};
use crate::packet::{CtState, CtStatus, Family};
use crate::ruleset::{Expr, Field, Interval, Match, Operator};

/// The states a packet without a connection can have.
const WITHOUT_CONNECTION: u32 = CtState::INVALID.0 | CtState::UNTRACKED.0;

/// All conditions of one match.
///
/// A quirk of the kernel is kept: a packet without a connection that passes `--ctstate` passes the match's other
/// conditions unasked; without `--ctstate` it fails.
pub(crate) fn lower(context: &Context<'_, '_>, group: &Group, out: &mut Vec<Match>) -> Result<(), Trouble> {
    let mut may_lack_connection = false;
    let mut others = Vec::new();
    for arg in &group.args {
        if arg.name == "ctstate" {
            let wanted = context.read(arg, states)?;
            may_lack_connection = arg.negate || wanted.state & WITHOUT_CONNECTION != 0;
            out.push(state_match(wanted, arg.negate));
        } else {
            others.push(other(context, arg)?);
        }
    }
    if may_lack_connection && !others.is_empty() {
        out.push(Match::Any(vec![without_connection(), Match::All(others)]));
    } else {
        out.append(&mut others);
    }
    Ok(())
}

/// The packet has no connection.
pub(crate) fn without_connection() -> Match {
    bits(Field::CtState, WITHOUT_CONNECTION, false)
}

/// States of `--ctstate`: real ones, and the two that are status bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct States {
    /// [`CtState`] bits.
    pub(crate) state: u32,
    /// SNAT and DNAT of [`CtStatus`].
    pub(crate) status: u32,
}

fn states(text: &[u8]) -> Result<States, Expected> {
    let mut states = States::default();
    for name in text.split(|byte| *byte == b',') {
        let name = std::str::from_utf8(name).unwrap_or_default();
        if let Some(state) = CtState::from_name(name) {
            states.state |= state.0;
        } else if name.eq_ignore_ascii_case("SNAT") {
            states.status |= CtStatus::SNAT.0;
        } else if name.eq_ignore_ascii_case("DNAT") {
            states.status |= CtStatus::DNAT.0;
        } else {
            return Err("states: INVALID, ESTABLISHED, NEW, RELATED, UNTRACKED, SNAT, DNAT");
        }
    }
    Ok(states)
}

/// The condition of `--ctstate`.
pub(crate) fn state_match(wanted: States, negate: bool) -> Match {
    let status = bits(Field::CtStatus, wanted.status, false);
    let condition = match (wanted.state, wanted.status) {
        (state, 0) => return bits(Field::CtState, state, negate),
        (0, _) => status,
        (state, _) => Match::Any(vec![bits(Field::CtState, state, false), status]),
    };
    // a packet without a connection has no status, and passes the negation
    if negate { Match::Not(Box::new(condition)) } else { condition }
}

/// Some (or, negated, no) bit of `mask` is set in `field`.
fn bits(field: Field, mask: u32, negate: bool) -> Match {
    let operator = if negate { Operator::NoBit } else { Operator::AnyBit };
    Match::Compare { left: Expr::Field(field), operator, right: Expr::Number(mask.into()) }
}

/// Address options and their fields.
pub(crate) const ADDRESSES: [(&str, Field, Field); 4] = [
    ("ctorigsrc", Field::CtOrigSaddr4, Field::CtOrigSaddr6),
    ("ctorigdst", Field::CtOrigDaddr4, Field::CtOrigDaddr6),
    ("ctreplsrc", Field::CtReplySaddr4, Field::CtReplySaddr6),
    ("ctrepldst", Field::CtReplyDaddr4, Field::CtReplyDaddr6),
];

/// Port options and their fields.
pub(crate) const PORTS: [(&str, Field); 4] = [
    ("ctorigsrcport", Field::CtOrigSport),
    ("ctorigdstport", Field::CtOrigDport),
    ("ctreplsrcport", Field::CtReplySport),
    ("ctrepldstport", Field::CtReplyDport),
];

fn other(context: &Context<'_, '_>, arg: &Arg) -> Result<Match, Trouble> {
    if let Some((_, v4, v6)) = ADDRESSES.iter().find(|one| one.0 == arg.name) {
        let field = if context.family == Family::Ipv4 { v4 } else { v6 };
        let wanted = context.read(arg, |text| masked_address(text, context.family))?;
        let always = || Match::within(field.clone(), false, [Interval { low: 0, high: all_ones(context.family) }]);
        return Ok(address_match(field.clone(), wanted, arg.negate, context.family).unwrap_or_else(always));
    }
    if let Some((_, field)) = PORTS.iter().find(|one| one.0 == arg.name) {
        let wanted = context.read(arg, |text| ports(text, b':'))?;
        return Ok(interval_match(field.clone(), wanted, arg.negate));
    }
    Ok(match arg.name {
        "ctstatus" => bits(Field::CtStatus, context.read(arg, statuses)?, arg.negate),
        "ctproto" => {
            let wanted = context.read(arg, super::matches::protocol)?;
            compare(Expr::Field(Field::CtOrigProto), arg.negate, wanted.0.into())
        }
        "ctdir" => {
            let reply = context.read(arg, |text| match text.to_ascii_uppercase().as_slice() {
                b"ORIGINAL" => Ok(false),
                b"REPLY" => Ok(true),
                _ => Err("ORIGINAL or REPLY"),
            })?;
            compare(Expr::Field(Field::CtDirection), false, u128::from(reply != arg.negate))
        }
        "ctexpire" => {
            let wanted = context.read(arg, |text| number_range(text, b':', u32::MAX.into()))?;
            interval_match(Field::CtExpiration, wanted, arg.negate)
        }
        _ => super::rule::opaque_option(context, "conntrack", arg),
    })
}

fn statuses(text: &[u8]) -> Result<u32, Expected> {
    let mut bits = 0;
    for name in text.split(|byte| *byte == b',') {
        let name = std::str::from_utf8(name).unwrap_or_default();
        let known = [CtStatus::EXPECTED, CtStatus::SEEN_REPLY, CtStatus::ASSURED, CtStatus::CONFIRMED];
        bits |= match CtStatus::from_name(name) {
            Some(status) if known.contains(&status) => status.0,
            _ if name.eq_ignore_ascii_case("NONE") => 0,
            _ => return Err("statuses: NONE, EXPECTED, SEEN_REPLY, ASSURED, CONFIRMED"),
        };
    }
    Ok(bits)
}
