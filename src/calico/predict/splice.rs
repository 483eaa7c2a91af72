//! Felix's new chains in the place of its old ones; everything else of the ruleset stays.

use std::collections::BTreeSet;

use super::observe::{LAYERS, Place};
use crate::calico::hash::{ShortHash, appends};
use crate::calico::integrity::{comment_hash, is_felix_chain, plain_name};
use crate::calico::names::{ChainRole, chain_role};
use crate::calico::render::RenderedTable;
use crate::calico::render::model::ruleset_tables;
use crate::calico::render::rule::{FelixRule, hashes};
use crate::ruleset::{Backend, Chain, Effect, Rule, Ruleset, Step, Table, Verdict};

/// How far what is rendered from what is known is what stands in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Fidelity {
    /// Rules of Felix on the host, in chains that are rendered.
    pub rules: usize,
    /// Those that are rendered with the same hash in the same place.
    pub verified: usize,
    /// Rules of Felix in chains that are not rendered: of workloads and of features that are not modelled.
    pub not_modelled: usize,
    /// Chains that are rendered otherwise than they are, or not there: family, table and name, at most [`MAX_NAMED`].
    pub differing: Vec<String>,
}

/// Differing chains that are named.
pub const MAX_NAMED: usize = 20;

impl Fidelity {
    /// Everything rendered is as it stands.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.rules == self.verified && self.differing.is_empty()
    }

    pub(super) fn add(&mut self, other: Self) {
        self.rules += other.rules;
        self.verified += other.verified;
        self.not_modelled += other.not_modelled;
        self.differing.extend(other.differing);
        self.differing.truncate(MAX_NAMED);
    }
}

/// The hashes of rendered rules.
fn rendered_hashes(layer: &str, chain: &str, rules: &[FelixRule], appended: bool, place: &Place) -> Vec<ShortHash> {
    let name = place.name(layer, chain);
    let name = if appended { appends(&name) } else { name };
    if place.backend == Backend::Nft {
        hashes(&name, rules.iter().map(|rule| rule.nft_text(layer, place.family)))
    } else {
        hashes(&name, rules.iter().map(|rule| rule.iptables_text(&name)))
    }
}

fn live_hashes(chain: &Chain) -> Vec<ShortHash> {
    chain.rules.iter().filter_map(comment_hash).collect()
}

/// Compares what is rendered with what stands; in the layers that the host has.
pub(super) fn compare(ruleset: &Ruleset, place: &Place, rendered: &[RenderedTable]) -> Fidelity {
    let mut fidelity = Fidelity::default();
    for table in rendered {
        let Some(live) = place.tables.get(table.name).and_then(|index| ruleset.tables.get(*index)) else { continue };
        let mut missing: BTreeSet<&String> = table.chains.keys().collect();
        for chain in &live.chains {
            let Some((layer, name)) = place.plain(live, &chain.name) else { continue };
            if layer != table.name {
                continue;
            }
            let hashes = live_hashes(chain);
            let expected = match table.chains.get_key_value(name) {
                Some((key, rules)) => {
                    missing.remove(key);
                    rendered_hashes(layer, name, rules, false, place)
                }
                None if is_felix_chain(live, &chain.name) => {
                    fidelity.not_modelled += hashes.len();
                    continue;
                }
                None => {
                    let of = |list: &[(&'static str, FelixRule)]| -> Vec<FelixRule> {
                        list.iter().filter(|(kernel, _)| *kernel == name).map(|(_, rule)| rule.clone()).collect()
                    };
                    let mut all = rendered_hashes(layer, name, &of(&table.inserts), false, place);
                    all.extend(rendered_hashes(layer, name, &of(&table.appends), true, place));
                    all
                }
            };
            fidelity.rules += hashes.len();
            fidelity.verified += hashes.iter().zip(&expected).filter(|(live, rendered)| live == rendered).count();
            if hashes != expected {
                fidelity.differing.push(format!("{} {} {name}", place.family, table.name));
            }
        }
        let missing = missing.into_iter().map(|name| format!("{} {} {name} (not there)", place.family, table.name));
        fidelity.differing.extend(missing);
    }
    fidelity.differing.truncate(MAX_NAMED);
    fidelity
}

/// Whether a chain follows from resources and lists alone, and not from what else Felix knows of the host.
fn follows_from_policy(name: &str) -> bool {
    matches!(
        chain_role(name),
        Some(
            ChainRole::Failsafe(_)
                | ChainRole::Policy(..)
                | ChainRole::Profile(..)
                | ChainRole::Group(..)
                | ChainRole::HostEndpoint { .. }
                | ChainRole::Dispatch { .. }
        )
    )
}

/// Makes `world` what Felix makes of it when what it renders changes from `old` to `new`. Gives what could not be told.
pub(super) fn splice(world: &mut Ruleset, place: &Place, old: &[RenderedTable], new: &[RenderedTable]) -> Vec<String> {
    let made = ruleset_tables(new, place.backend, place.family);
    let mut doubts = Vec::new();
    for layer in LAYERS {
        let of = |tables: &'_ [RenderedTable]| tables.iter().position(|table| table.name == layer);
        let (Some(old), Some(new)) = (of(old).and_then(|at| old.get(at)), of(new).and_then(|at| new.get(at))) else {
            continue;
        };
        let source = made.iter().find(|table| place.backend == Backend::Nft || &*table.name == layer);
        let (Some(source), Some(index)) = (source, place.tables.get(layer)) else { continue };
        let Some(table) = world.tables.get_mut(*index) else { continue };
        let names: BTreeSet<&String> = old.chains.keys().chain(new.chains.keys()).collect();
        for name in names {
            let (before, after) = (old.chains.get(name), new.chains.get(name));
            if before == after {
                continue;
            }
            let live = place.name(layer, name);
            if !follows_from_policy(name) && !stands_as(table, &live, layer, name, before, place) {
                doubts.push(format!(
                    "{} {layer} {name} changes, and is not known well enough to tell how: it is left as it is",
                    place.family
                ));
                continue;
            }
            match source.chain(&live).filter(|_| after.is_some()) {
                Some((_, chain)) => put(table, chain.clone()),
                None => remove(table, &live),
            }
        }
        if old.appends != new.appends || old.inserts != new.inserts {
            put_hooks(table, source, place, layer, new);
        }
    }
    doubts
}

/// Whether the live chain is the one that is rendered.
fn stands_as(
    table: &Table,
    live: &str,
    layer: &str,
    name: &str,
    rendered: Option<&Vec<FelixRule>>,
    place: &Place,
) -> bool {
    match (table.chain(live), rendered) {
        (Some((_, chain)), Some(rules)) => live_hashes(chain) == rendered_hashes(layer, name, rules, false, place),
        (None, None) => true,
        _ => false,
    }
}

/// Puts a chain into the table, in the place of the one of its name. Its lines are no lines of the listing.
pub(super) fn put(table: &mut Table, mut chain: Chain) {
    chain.line = 0;
    chain.rules.iter_mut().for_each(|rule| rule.line = 0);
    match table.chains.iter_mut().find(|known| known.name == chain.name) {
        Some(known) => known.rules = chain.rules,
        None => table.chains.push(chain),
    }
}

/// Removes a chain that nothing calls any more.
fn remove(table: &mut Table, name: &str) {
    // what still calls it is replaced in the same pass, or not Felix's; then the kernel would not let the chain go
    if let Some(chain) = table.chains.iter_mut().find(|chain| &*chain.name == name) {
        chain.rules.clear();
    }
}

/// Removes empty chains that were Felix's and that nothing calls.
pub(super) fn sweep(world: &mut Ruleset, place: &Place, gone: &BTreeSet<String>) {
    let mut indices: Vec<usize> = place.tables.values().copied().collect();
    indices.dedup();
    for index in indices {
        let Some(table) = world.tables.get_mut(index) else { continue };
        let called: BTreeSet<String> = table
            .chains
            .iter()
            .flat_map(|chain| &chain.rules)
            .filter_map(|rule| rule.target().map(str::to_owned))
            .collect();
        table
            .chains
            .retain(|chain| !(gone.contains(&*chain.name) && chain.rules.is_empty() && !called.contains(&*chain.name)));
    }
}

/// Felix's rules in kernel chains, anew: each in the place of the old one of its kind.
fn put_hooks(table: &mut Table, source: &Table, place: &Place, layer: &str, new: &RenderedTable) {
    let kernels: BTreeSet<&'static str> = new.inserts.iter().chain(&new.appends).map(|(kernel, _)| *kernel).collect();
    for kernel in kernels {
        let name = place.name(layer, kernel);
        let Some((_, made)) = source.chain(&name) else { continue };
        let Some(chain) = table.chains.iter_mut().find(|chain| *chain.name == *name) else { continue };
        let mut made = made.rules.iter().filter(|rule| comment_hash(rule).is_some()).cloned();
        for rule in chain.rules.iter_mut().filter(|rule| comment_hash(rule).is_some()) {
            if let Some(new) = made.next() {
                *rule = Rule { line: 0, ..new };
            }
        }
    }
}

/// Takes the calls of a chain out of every chain, with what belongs to each call; a tier that has none left goes whole.
pub(super) fn uncall(table: &mut Table, target: &str) {
    for chain in &mut table.chains {
        let mut index = 0;
        while index < chain.rules.len() {
            if chain.rules.get(index).and_then(Rule::target) != Some(target) {
                index += 1;
                continue;
            }
            // NOTRACK and "Return if policy accepted" stand behind each call
            let follows = |rule: &&Rule| {
                comment_hash(rule).is_some() && rule.target().is_none() && (is_answer(rule) || is_no_track(rule))
            };
            let tail = chain.rules.iter().skip(index + 1).take_while(follows).count();
            chain.rules.drain(index..=index + tail);
        }
        drop_empty_tiers(&mut chain.rules);
    }
}

fn says(rule: &Rule, text: &str) -> bool {
    rule.comments.iter().any(|comment| comment.contains(text))
}

fn is_answer(rule: &Rule) -> bool {
    says(rule, "Return if policy accepted")
}

fn is_no_track(rule: &Rule) -> bool {
    rule.steps.iter().any(|step| matches!(step, Step::Effect(Effect::NoTrack)))
}

fn is_start(rule: &Rule) -> bool {
    says(rule, "Start of tier ") || says(rule, "Start of policies")
}

pub(super) fn is_tier_end(rule: &Rule) -> bool {
    let denies = |step: &Step| matches!(step, Step::Verdict(Verdict::Drop | Verdict::Reject(_)));
    says(rule, " if no policies passed packet") && rule.steps.iter().any(denies)
}

/// The flow log of a tier's end names the tier.
fn is_log_of_end(rule: &Rule) -> bool {
    rule.steps.iter().any(|step| match step {
        Step::Effect(Effect::Log { prefix: Some(prefix), group: Some(_), .. }) => prefix.contains('|'),
        _ => false,
    })
}

/// A tier without a call decides nothing: Felix does not write it.
fn drop_empty_tiers(rules: &mut Vec<Rule>) {
    let calls = |rule: &Rule| {
        let role = rule.target().and_then(|target| chain_role(plain_name(target)));
        matches!(role, Some(ChainRole::Policy(..) | ChainRole::Group(..)))
    };
    let mut index = 0;
    while let Some(rule) = rules.get(index) {
        let followed = rules.get(index + 1).is_some_and(calls);
        // 3.28 has no rule that begins a tier
        if (is_start(rule) && !followed)
            || ((is_tier_end(rule) || is_log_of_end(rule)) && !was_open(rules, index, calls))
        {
            rules.remove(index);
            continue;
        }
        index += 1;
    }
}

/// Whether a call stands between a tier's end and the end before it.
fn was_open(rules: &[Rule], end: usize, calls: impl Fn(&Rule) -> bool) -> bool {
    rules.iter().take(end).rev().take_while(|rule| !is_tier_end(rule)).any(calls)
}
