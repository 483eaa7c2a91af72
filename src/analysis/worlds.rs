//! The same firewall in other worlds: what if the failsafes were not there, what if Felix restarted now.
//!
//! A world is a ruleset like any other, so every question can be asked of it.

use crate::calico::settings::Entry;
use crate::packet::{Direction, Family};
use crate::ruleset::{Chain, Field, Interval, Match, Rule, Ruleset, Step, Table, Verdict};

/// Which failsafe chain a chain is, by the name Felix gives it in iptables tables or in its nft table.
#[must_use]
pub fn failsafe_direction(chain: &str) -> Option<Direction> {
    let name = ["filter-", "mangle-", "raw-"].iter().find_map(|layer| chain.strip_prefix(layer)).unwrap_or(chain);
    match name {
        "cali-failsafe-in" => Some(Direction::In),
        "cali-failsafe-out" => Some(Direction::Out),
        _ => None,
    }
}

/// The firewall with policy alone: failsafe chains empty.
#[must_use]
pub fn without_failsafes(ruleset: &Ruleset) -> Ruleset {
    with_chains(ruleset, |_, _, _| Vec::new())
}

/// The firewall with other failsafe lists, as Felix would write them: per entry an accept of its port, limited to its net,
/// in the families the net allows; in the raw table the answers' direction too.
#[must_use]
pub fn with_failsafes(ruleset: &Ruleset, inbound: &[Entry], outbound: &[Entry]) -> Ruleset {
    with_chains(ruleset, |table, chain, direction| {
        let (own, other) = if direction == Direction::In { (inbound, outbound) } else { (outbound, inbound) };
        let raw = &*table.name == "raw" || chain.name.starts_with("raw-");
        let mut rules: Vec<Rule> =
            own.iter().filter_map(|entry| accept(table.family, direction, entry, false)).collect();
        if raw {
            rules.extend(other.iter().filter_map(|entry| accept(table.family, direction, entry, true)));
        }
        rules
    })
}

fn with_chains(ruleset: &Ruleset, rules: impl Fn(&Table, &Chain, Direction) -> Vec<Rule>) -> Ruleset {
    let mut world = ruleset.clone();
    for (table, original) in world.tables.iter_mut().zip(&ruleset.tables) {
        for (chain, old) in table.chains.iter_mut().zip(&original.chains) {
            if let Some(direction) = failsafe_direction(&chain.name) {
                chain.rules = rules(original, old, direction);
            }
        }
    }
    world
}

/// One failsafe rule. `answers`: the reply direction in the raw table, where the port is the source's.
fn accept(family: Family, direction: Direction, entry: &Entry, answers: bool) -> Option<Rule> {
    if !entry.applies_to(family) {
        return None;
    }
    let mut steps = vec![
        Step::Match(Match::equals(Field::L4proto, u128::from(entry.protocol.0))),
        Step::Match(Match::equals(if answers { Field::Sport } else { Field::Dport }, u128::from(entry.port))),
    ];
    if let Some(net) = entry.net {
        let field = match (direction, net.is_ipv4()) {
            (Direction::In, true) => Field::Ip4Saddr,
            (Direction::In, false) => Field::Ip6Saddr,
            (_, true) => Field::Ip4Daddr,
            (_, false) => Field::Ip6Daddr,
        };
        let (low, high) = net.range();
        steps.push(Step::Match(Match::within(field, false, [Interval { low, high }])));
    }
    steps.push(Step::Verdict(Verdict::Accept));
    Some(Rule { steps, text: format!("failsafe {entry} (predicted)").into(), ..Rule::default() })
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
            let Step::Match(Match::Lookup { left: crate::ruleset::Expr::Field(field), set, .. }) = step else {
                continue;
            };
            let address = match family {
                Family::Ipv4 => matches!(field, Field::Ip4Saddr | Field::Ip4Daddr),
                _ => matches!(field, Field::Ip6Saddr | Field::Ip6Daddr),
            };
            if let (true, crate::ruleset::SetRef::Anonymous(elements)) = (address, set) {
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
