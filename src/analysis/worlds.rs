//! The same firewall in another world: what if the failsafes were not there.
//!
//! A world is a ruleset like any other, so every question can be asked of it.

use crate::calico::integrity::plain_name;
use crate::calico::names::{ChainRole, chain_role};
use crate::packet::Family;
use crate::ruleset::{Expr, Field, Interval, Match, Ruleset, SetRef, Step};

/// Whether a chain holds failsafe rules, by the name Felix gives it in iptables tables or in its nft table.
#[must_use]
pub fn is_failsafe_chain(name: &str) -> bool {
    matches!(chain_role(plain_name(name)), Some(ChainRole::Failsafe(_)))
}

/// The firewall with policy alone: failsafe chains empty.
#[must_use]
pub fn without_failsafes(ruleset: &Ruleset) -> Ruleset {
    let mut world = ruleset.clone();
    for chain in world.tables.iter_mut().flat_map(|table| &mut table.chains) {
        if is_failsafe_chain(&chain.name) {
            chain.rules.clear();
        }
    }
    world
}

/// Peers that rules and sets speak of, with the port where a rule names one: the places where a policy may differ from what
/// it does to everybody else. At most `most` addresses, smallest sets first.
#[must_use]
pub fn spoken_of(ruleset: &Ruleset, family: Family, most: usize) -> Vec<u128> {
    let mut found: Vec<u128> = Vec::new();
    let mut sets: Vec<_> = ruleset
        .ipsets
        .iter()
        .chain(ruleset.tables.iter().filter(|table| table.family.sees(family)).flat_map(|table| &table.sets))
        .filter(|set| set.family == Some(family))
        .collect();
    sets.sort_by_key(|set| set.elements.len());
    for set in sets {
        found.extend(set.elements.keys().filter_map(|key| key.first()).take(4).map(a_host));
        if found.len() >= most {
            break;
        }
    }
    let tables = ruleset.tables.iter().filter(|table| table.family.sees(family));
    for rule in tables.flat_map(|table| &table.chains).flat_map(|chain| &chain.rules) {
        for step in &rule.steps {
            let Step::Match(Match::Lookup { left: Expr::Field(field), set, .. }) = step else {
                continue;
            };
            let address = match family {
                Family::Ipv4 => matches!(field, Field::Ip4Saddr | Field::Ip4Daddr),
                _ => matches!(field, Field::Ip6Saddr | Field::Ip6Daddr),
            };
            if let (true, SetRef::Anonymous(elements)) = (address, set) {
                found.extend(elements.keys().filter_map(|key| key.first()).take(2).map(a_host));
            }
        }
    }
    found.sort_unstable();
    found.dedup();
    found.truncate(most);
    found
}

/// An address of an interval that a host may have: not the network's own when it is one.
fn a_host(interval: &Interval) -> u128 {
    if interval.high - interval.low > 1 { interval.low + 1 } else { interval.low }
}
