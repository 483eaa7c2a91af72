//! The same firewall in another world: what if the failsafes were not there, or Felix restarted.
//!
//! A world is a ruleset like any other, so every question can be asked of it.

use std::sync::Arc;

use crate::calico::failsafe::kernel::{self, Keeper, Layer};
use crate::calico::failsafe::{Direction as ListDirection, FailsafeReport};
use crate::calico::integrity::plain_name;
use crate::calico::names::{ChainRole, chain_role};
use crate::calico::settings::Entry;
use crate::packet::Family;
use crate::ruleset::readers::iptables_save;
use crate::ruleset::{Backend, Expr, Field, Interval, Match, Rule, Ruleset, SetRef, Step, Table};

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

/// The firewall after Felix has restarted with the failsafe lists now on disk; `None` where that changes nothing, or what it
/// changes is not known. Entries that come are put behind those that stay.
#[must_use]
pub fn after_felix_restart(ruleset: &Ruleset, failsafe: &FailsafeReport) -> Option<Ruleset> {
    // the lists are in maps then, and no rule changes
    if failsafe.ebpf == Some(true) {
        return None;
    }
    let mut world: Option<Ruleset> = None;
    for direction in ListDirection::ALL {
        let chains = kernel::chains(ruleset, direction);
        for change in &failsafe.direction(direction).next_restart {
            if change.frozen.is_some() || change.is_none() {
                continue;
            }
            for chain in chains.iter().filter(|chain| chain.family == change.family && !chain.withheld) {
                let world = world.get_or_insert_with(|| ruleset.clone());
                let gone: Vec<usize> = chain
                    .entries
                    .iter()
                    .filter(|entry| change.removes.contains(&entry.entry))
                    .map(|entry| entry.rule)
                    .collect();
                let of_chain = |table: &&mut Table| {
                    Keeper::Rules(table.backend) == chain.backend
                        && table.family == chain.family
                        && *table.source == *chain.place.file
                };
                for table in world.tables.iter_mut().filter(of_chain) {
                    let layer = Layer::of_table(&table.name, &chain.chain);
                    let Some(live) = table.chains.iter_mut().find(|live| live.name == chain.chain) else { continue };
                    if layer != Some(chain.table) {
                        continue;
                    }
                    let mut number = 0;
                    live.rules.retain(|_| {
                        number += 1;
                        !gone.contains(&number)
                    });
                    live.rules
                        .extend(change.adds.iter().filter_map(|entry| accepting(*entry, chain.family, direction)));
                }
            }
        }
    }
    world
}

/// The same for one family, with a reason where it is not known; no ruleset where nothing changes.
///
/// # Errors
/// Says why it is not known.
pub fn next_restart(
    ruleset: &Ruleset,
    failsafe: &FailsafeReport,
    family: Family,
) -> Result<Option<Ruleset>, &'static str> {
    let mut changes = false;
    for direction in ListDirection::ALL {
        let mut all = failsafe.direction(direction).next_restart.iter();
        let change =
            all.find(|change| change.family == family).ok_or("a restart of Felix: its lists on disk are not known")?;
        if !change.certain && change.frozen.is_none() {
            return Err("a restart of Felix: not every source of its lists was read");
        }
        if kernel::chains(ruleset, direction).iter().any(|chain| chain.family == family && chain.withheld) {
            return Err("a restart of Felix: the listing withholds what the failsafe rules ask");
        }
        changes |= change.frozen.is_none() && !change.is_none();
    }
    Ok(if changes { after_felix_restart(ruleset, failsafe) } else { None })
}

/// The rule of an entry, as a save listing would have it.
fn accepting(entry: Entry, family: Family, direction: ListDirection) -> Option<Rule> {
    let side = if direction == ListDirection::In { "-s" } else { "-d" };
    let net = entry.net.filter(|net| net.length() > 0).map(|net| format!("{side} {net} ")).unwrap_or_default();
    let (protocol, port) = (entry.protocol, entry.port);
    let text = format!("*filter\n:c - [0:0]\n-A c {net}-p {protocol} -m multiport --dports {port} -j ACCEPT\nCOMMIT\n");
    let source: Arc<str> = Arc::from("the next restart of Felix");
    let read = iptables_save::read(&source, text.as_bytes(), Backend::Iptables, family);
    let chains = read.value.into_iter().flat_map(|table| table.chains);
    let mut rule = chains.flat_map(|chain| chain.rules).next()?;
    rule.line = 0;
    Some(rule)
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
