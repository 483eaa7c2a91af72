//! Open conditions that are the same in two rulesets: whatever the answer is, both get it.

use super::Eval;
use super::value::{Truth, Value};
use crate::packet::Hook;
use crate::ruleset::{Backend, Expr, Field, Interval, Match, OpaqueKind, Operator, SetRef};
use crate::space::bdd::{Built, Set};
use crate::space::header::Binding;

/// Link-layer addresses of one set that get an answer each.
const MAX_ADDRESSES: usize = 64;

/// `ARPHRD_ETHER`, the kind of device whose packets have link-layer addresses.
const ETHERNET: u128 = 1;
/// `ARPHRD_NONE`, that of devices without a link layer.
const TUN: u128 = 0xfffe;

/// What an open condition is called where rulesets are compared: the same for both spellings of what keeps a count, as
/// `iptables-translate` turns one into the other. `width` are the bits of an address; `is_own` says whether only this rule has
/// to do with a set.
pub(super) fn words(condition: &Match, width: u32, is_own: &dyn Fn(&str) -> bool) -> String {
    match condition {
        Match::Opaque { kind: OpaqueKind::Stateful, text } => {
            let counted = || super::counted::words(text, width, is_own);
            let text = limit(text).or_else(|| quota(text)).or_else(counted).unwrap_or_else(|| text.to_string());
            format!("stateful {text}")
        }
        other => format!("{other:?}"),
    }
}

/// `-m limit --limit 5/min --limit-burst 3` in nft's words, `limit rate 5/minute burst 3 packets`; a burst of five is not told.
fn limit(text: &str) -> Option<String> {
    let (mut rate, mut burst) = ("3/hour", 5u32);
    let mut words = text.strip_prefix("-m limit")?.split_whitespace();
    while let Some(option) = words.next() {
        let value = words.next()?;
        match option {
            "--limit" => rate = value,
            "--limit-burst" => burst = value.parse().ok()?,
            _ => return None,
        }
    }
    let (count, unit) = rate.split_once('/').unwrap_or((rate, "second"));
    let count: u32 = count.parse().ok()?;
    let is = |name: &&str| !unit.is_empty() && name.starts_with(&unit.to_ascii_lowercase());
    let unit = ["second", "minute", "hour", "day"].into_iter().find(is)?;
    let burst = if burst == 5 { String::new() } else { format!(" burst {burst} packets") };
    Some(format!("limit rate {count}/{unit}{burst}"))
}

/// `-m quota --quota 1000` in nft's words, `quota 1000 bytes`.
fn quota(text: &str) -> Option<String> {
    let option = text.strip_prefix("-m quota ")?.trim();
    let (over, option) = match option.strip_prefix("! ") {
        Some(rest) => ("over ", rest),
        None => ("", option),
    };
    let bytes: u64 = option.strip_prefix("--quota ")?.trim().parse().ok()?;
    Some(format!("quota {over}{bytes} bytes"))
}

impl Eval<'_, '_> {
    /// An address of the link layer: Ethernet devices have such, and whether a packet of a device that nobody knows has one is a
    /// property of the packet.
    pub(super) fn link_address(&mut self, binding: Binding) -> Built<Value> {
        if binding == Binding::Unknown || matches!(self.site.hook, Hook::Postrouting | Hook::Egress) {
            return Ok(Value::unknown());
        }
        let kind = self.field(&Field::Iiftype)?;
        let ethernet = kind.within(&mut self.encoder.bdd, &[Interval::single(ETHERNET)])?;
        let tun = kind.within(&mut self.encoder.bdd, &[Interval::single(TUN)])?;
        let (epoch, hook) = (self.header.epoch, self.site.hook);
        let native = self.encoder.ruleset.tables.get(self.site.table).is_some_and(|one| one.backend == Backend::Nft);
        // xtables asks for Ethernet, nft for the header of any link layer
        let possible = if native { !tun.certain } else { ethernet.possible };
        let there = match ethernet.certain == possible {
            true => Truth::YES,
            false => self.encoder.question(format!("{epoch}:{hook}:link layer"))?,
        };
        let value = self.bound(binding)?;
        let bdd = &mut self.encoder.bdd;
        let open = bdd.minus(possible, ethernet.certain)?;
        let (certain, maybe) = (bdd.and(open, there.certain)?, bdd.and(open, there.possible)?);
        let present = bdd.or(ethernet.certain, maybe)?;
        let unknown = bdd.minus(maybe, certain)?;
        Ok(Value { missing: !present, unknown, ..value })
    }

    /// A test of the link layer's addresses where rulesets are compared: whether the packet has such an address, and whether it is
    /// this one, are properties of the packet that every rule finds the same. `None`: another condition, or not open.
    pub(super) fn link_truth(&mut self, condition: &Match) -> Built<Option<Truth>> {
        if !self.encoder.answers_alike() {
            return Ok(None);
        }
        let Some((field, negate, addresses)) = link(condition) else { return Ok(None) };
        if self.field(field)?.unknown != Set::ALL {
            return Ok(None);
        }
        let place = format!("{}:{}:{field:?}", self.header.epoch, self.site.hook);
        // devices of other kinds carry none that a rule would look at
        let kind = self.field(&Field::Iiftype)?;
        let ethernet = kind.within(&mut self.encoder.bdd, &[Interval::single(ETHERNET)])?;
        let there = self.encoder.question(format!("{place} is there"))?;
        let there = there.and(&mut self.encoder.bdd, Truth::exactly(ethernet.possible))?;
        let there = there.or(&mut self.encoder.bdd, Truth::exactly(ethernet.certain))?;
        let mut inside = Truth::NO;
        for address in addresses {
            let one = self.encoder.question(format!("{place} is {address:012x}"))?;
            inside = inside.or(&mut self.encoder.bdd, one)?;
        }
        let inside = if negate { !inside } else { inside };
        Ok(Some(inside.and(&mut self.encoder.bdd, there)?))
    }
}

/// Whether a condition asks for addresses of the link layer.
#[must_use]
pub fn is_about_links(condition: &Match) -> bool {
    link(condition).is_some()
}

/// The field, whether others than these are asked for, and single addresses.
fn link(condition: &Match) -> Option<(&Field, bool, Vec<u128>)> {
    let (field, negate, addresses) = match condition {
        Match::Compare { left: Expr::Field(field), operator, right: Expr::Number(number) } => match operator {
            Operator::Eq => (field, false, vec![*number]),
            Operator::Ne => (field, true, vec![*number]),
            _ => return None,
        },
        Match::Lookup { left: Expr::Field(field), negate, set: SetRef::Anonymous(elements) }
            if elements.dimensions() == 1 && elements.is_plain() && elements.len() <= MAX_ADDRESSES =>
        {
            let single = |key: &[Interval]| key.first().filter(|one| one.low == one.high).map(|one| one.low);
            (field, *negate, elements.keys().map(single).collect::<Option<Vec<_>>>()?)
        }
        _ => return None,
    };
    matches!(field, Field::EtherSaddr | Field::EtherDaddr).then_some((field, negate, addresses))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_a_limit_are_one() {
        for (iptables, nft) in [
            ("-m limit --limit 5/min", "limit rate 5/minute"),
            ("-m limit --limit 5/m --limit-burst 5", "limit rate 5/minute"),
            ("-m limit --limit-burst 3 --limit 100/SEC", "limit rate 100/second burst 3 packets"),
            ("-m limit --limit 7", "limit rate 7/second"),
            ("-m limit", "limit rate 3/hour"),
        ] {
            assert_eq!(limit(iptables).as_deref(), Some(nft), "{iptables}");
        }
        for other in [
            "limit rate 5/minute",
            "-m limit --limit",
            "-m limit --limit x/min",
            "-m limit --limit 5/week",
            "-m limit --limit 5/",
        ] {
            assert_eq!(limit(other), None, "{other}");
        }
        assert_eq!(quota("-m quota --quota 1000").as_deref(), Some("quota 1000 bytes"));
        assert_eq!(quota("-m quota ! --quota 1000").as_deref(), Some("quota over 1000 bytes"));
        assert_eq!(quota("-m quota --quota 1000 --more"), None);
    }
}
