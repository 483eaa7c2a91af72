//! Changes of single policies where the live chains are all that is known of the rest.

use std::collections::{BTreeMap, BTreeSet};

use super::compile::Compiled;
use super::observe::{LAYERS, Place};
use super::splice::{Fidelity, is_tier_end, put, uncall};
use crate::calico::integrity::{comment_hash, is_felix_chain, plain_name};
use crate::calico::names::{ChainRole, Direction, Generation, WILDCARD_ENDPOINT, chain_role};
use crate::calico::order::{Layer, Model, Ordered};
use crate::calico::render::model::ruleset_tables;
use crate::calico::render::rule::FelixRule;
use crate::calico::render::{self, HostEndpoint, Input, RenderedTable, policy_chain, policy_tables};
use crate::ruleset::{Chain, Match, OpaqueKind, Rule, Rules, Ruleset, Step, Table};

/// Whether the rendered chains of host endpoints are those that stand: as many, and with the same calls.
pub(super) fn explains(ruleset: &Ruleset, place: &Place, rendered: &[RenderedTable]) -> bool {
    rendered.iter().all(|table| {
        let Some(live) = place.tables.get(table.name).and_then(|index| ruleset.tables.get(*index)) else { return true };
        let endpoint = |name: &str| {
            matches!(
                chain_role(name),
                Some(ChainRole::HostEndpoint { .. } | ChainRole::Group(..) | ChainRole::Dispatch { .. })
            )
        };
        let standing: BTreeMap<&str, Vec<&str>> = live
            .chains
            .iter()
            .filter_map(|chain| Some((place.plain(live, &chain.name)?, chain)))
            .filter(|((layer, name), _)| *layer == table.name && endpoint(name))
            .map(|((_, name), chain)| (name, chain.rules.iter().filter_map(Rule::target).map(plain_name).collect()))
            .collect();
        let made: BTreeMap<&str, Vec<&str>> = table
            .chains
            .iter()
            .filter(|(name, _)| endpoint(name))
            .map(|(name, rules)| (name.as_str(), rules.iter().filter_map(FelixRule::target).collect()))
            .collect();
        standing == made
    })
}

/// Puts endpoints without policy for those that the live chains show, so that what all endpoints call is rendered.
pub(super) fn stand_in(input: &mut Input, ruleset: &Ruleset, place: &Place) {
    input.endpoints.clear();
    input.policies.clear();
    input.profiles.clear();
    let mut seen: BTreeSet<Option<String>> = BTreeSet::new();
    let mut indices: Vec<usize> = place.tables.values().copied().collect();
    indices.dedup();
    for table in indices.into_iter().filter_map(|index| ruleset.tables.get(index)) {
        for chain in table.chains.iter().filter(|chain| is_felix_chain(table, &chain.name)) {
            if let Some(ChainRole::HostEndpoint { forward: false, interface, .. }) = chain_role(plain_name(&chain.name))
            {
                seen.insert((interface != WILDCARD_ENDPOINT).then(|| interface.to_owned()));
            }
        }
    }
    let raw = calls_failsafes(ruleset, place, "raw");
    for interface in seen {
        let untracked_tiers = if raw { vec![render::TierPolicies::default()] } else { Vec::new() };
        let pre_dnat_tiers =
            if calls_failsafes(ruleset, place, "mangle") { vec![render::TierPolicies::default()] } else { Vec::new() };
        input.endpoints.push(HostEndpoint { interface, untracked_tiers, pre_dnat_tiers, ..HostEndpoint::default() });
    }
}

/// Whether a layer has failsafe chains that are called.
fn calls_failsafes(ruleset: &Ruleset, place: &Place, layer: &str) -> bool {
    let Some(table) = place.tables.get(layer).and_then(|index| ruleset.tables.get(*index)) else { return false };
    let called = place.name(layer, "cali-failsafe-in");
    table.chains.iter().flat_map(|chain| &chain.rules).any(|rule| rule.target() == Some(&called))
}

/// Fidelity of what can be rendered without knowing any policy: chains of endpoints are not judged.
pub(super) fn without_endpoints(mut fidelity: Fidelity, ruleset: &Ruleset, place: &Place) -> Fidelity {
    let mut indices: Vec<usize> = place.tables.values().copied().collect();
    indices.dedup();
    for table in indices.into_iter().filter_map(|index| ruleset.tables.get(index)) {
        for chain in &table.chains {
            if !is_endpoints(plain_name(&chain.name)) {
                continue;
            }
            let rules = chain.rules.iter().filter(|rule| comment_hash(rule).is_some()).count();
            // those that happen to be right are no proof either
            fidelity.not_modelled += rules;
            fidelity.rules = fidelity.rules.saturating_sub(rules);
        }
    }
    fidelity.verified = fidelity.verified.min(fidelity.rules);
    fidelity.differing.retain(|name| !name.split(' ').any(is_endpoints));
    fidelity
}

fn is_endpoints(name: &str) -> bool {
    matches!(chain_role(name), Some(ChainRole::HostEndpoint { .. } | ChainRole::Dispatch { .. }))
}

/// What became of the single policies.
#[derive(Default)]
pub(super) struct Edited {
    /// Some policy changed.
    pub(super) touched: bool,
    /// Their chains.
    pub(super) rendered: Vec<RenderedTable>,
    pub(super) unknown: Vec<String>,
    pub(super) notes: Vec<String>,
}

/// Changes the chains of the policies that differ.
pub(super) fn apply(
    world: &mut Ruleset,
    place: &Place,
    (old_model, old): (&Model<'_>, &mut Compiled),
    (new_model, new): (&Model<'_>, &mut Compiled),
) -> Edited {
    let mut edited = Edited::default();
    let generation = new.input.settings.generation;
    let find = |model: &Model<'_>, wanted: &Ordered<'_>| {
        let meta = &wanted.resource.meta;
        model.policies.iter().position(|other| other.resource.meta.kind == meta.kind && same_name(other, wanted))
    };
    for ordered in new_model.policies.iter().filter(|policy| !policy.staged) {
        let before = find(old_model, ordered).and_then(|at| old_model.policies.get(at));
        if before.is_some_and(|before| before.policy == ordered.policy) {
            continue;
        }
        edited.touched = true;
        let Some(policy) = new.render_policy(ordered, generation) else { continue };
        let title = ordered.resource.meta.title();
        if before.is_some_and(|before| moved(before, ordered)) {
            edited.unknown.push(format!("where {title} stands now: its tier, order, selector or layer changes"));
        }
        write(world, place, new, &policy, ordered, &mut edited);
    }
    for ordered in old_model.policies.iter().filter(|policy| !policy.staged) {
        if find(new_model, ordered).is_none()
            && let Some(policy) = old.render_policy(ordered, generation)
        {
            edited.touched = true;
            erase(world, place, &policy, &old.input.settings);
        }
    }
    edited
}

fn same_name(a: &Ordered<'_>, b: &Ordered<'_>) -> bool {
    let plain = |policy: &Ordered<'_>| {
        let name = &policy.resource.meta.name.value;
        name.strip_prefix("default.").unwrap_or(name).to_owned()
    };
    plain(a) == plain(b)
}

fn moved(before: &Ordered<'_>, after: &Ordered<'_>) -> bool {
    let order = |policy: &Ordered<'_>| policy.policy.order.as_ref().map(|order| order.value);
    before.policy.tier() != after.policy.tier()
        || order(before) != order(after)
        || before.selector != after.selector
        || Layer::ALL.iter().any(|layer| before.acts_in(*layer) != after.acts_in(*layer))
}

/// Writes a policy's chains where they stand; where they do not, it may act anywhere in its tier.
fn write(
    world: &mut Ruleset,
    place: &Place,
    new: &Compiled,
    policy: &render::Policy,
    ordered: &Ordered<'_>,
    edited: &mut Edited,
) {
    let settings = &new.input.settings;
    let title = ordered.resource.meta.title();
    let tables = match policy_tables(policy, settings, place.family) {
        Ok(tables) => tables,
        Err(refused) => {
            edited.notes.push(format!("{refused}: the rules stay as they are"));
            return;
        }
    };
    for direction in [Direction::In, Direction::Out] {
        let chain = policy_chain(policy, direction, settings);
        let stands = LAYERS.into_iter().any(|layer| {
            let table = place.tables.get(layer).and_then(|index| world.tables.get(*index));
            table.is_some_and(|table| table.chain(&place.name(layer, &chain)).is_some())
        });
        let acts = ordered.directions.has(direction);
        if stands && !acts {
            edited.notes.push(format!("{title} no longer acts on {}", direction.calico()));
            for layer in LAYERS {
                if let Some(table) = place.tables.get(layer).and_then(|index| world.tables.get_mut(*index)) {
                    uncall(table, &place.name(layer, &chain));
                }
            }
        }
        if !stands && acts {
            edited.unknown.push(format!(
                "where {title} acts on {}: which host endpoints it selects, and its place among the policies of tier {}",
                direction.calico(),
                policy.tier
            ));
            call_anywhere(world, place, policy, ordered, direction, settings);
        }
    }
    for made in ruleset_tables(&tables, place.backend, place.family) {
        for layer in LAYERS {
            let Some(table) = place.tables.get(layer).and_then(|index| world.tables.get_mut(*index)) else { continue };
            for direction in [Direction::In, Direction::Out] {
                let name = place.name(layer, &policy_chain(policy, direction, settings));
                let of_layer = place.backend == crate::ruleset::Backend::Nft || &*made.name == layer;
                let called =
                    table.chains.iter().flat_map(|chain| &chain.rules).any(|rule| rule.target() == Some(&name));
                if let Some((_, chain)) = made.chain(&name).filter(|_| of_layer && called) {
                    put(table, chain.clone());
                }
            }
        }
    }
    edited.rendered.extend(tables);
}

/// Removes a policy's chains and the calls of them.
fn erase(world: &mut Ruleset, place: &Place, policy: &render::Policy, settings: &render::Settings) {
    for layer in LAYERS {
        let Some(table) = place.tables.get(layer).and_then(|index| world.tables.get_mut(*index)) else { continue };
        for direction in [Direction::In, Direction::Out] {
            let name = place.name(layer, &policy_chain(policy, direction, settings));
            uncall(table, &name);
            table.chains.retain(|chain| *chain.name != *name);
        }
    }
}

/// The layers and forwarding of endpoint chains that call a policy of this kind.
fn calls(ordered: &Ordered<'_>, layer: &str, direction: Direction, forward: bool) -> bool {
    let of = |wanted| ordered.acts_in(wanted) && ordered.acts_on(wanted, direction);
    match (layer, direction, forward) {
        ("raw", ..) => of(Layer::Untracked),
        ("mangle", Direction::In, _) => of(Layer::PreDnat),
        ("mangle", Direction::Out, _) | ("filter", _, false) => of(Layer::Normal),
        ("filter", _, true) => of(Layer::Forward),
        _ => false,
    }
}

/// A policy whose place is not known may be called at each place of its tier, or at none.
fn call_anywhere(
    world: &mut Ruleset,
    place: &Place,
    policy: &render::Policy,
    ordered: &Ordered<'_>,
    direction: Direction,
    settings: &render::Settings,
) {
    let title = ordered.resource.meta.title();
    for layer in LAYERS {
        let name = place.name(layer, &policy_chain(policy, direction, settings));
        let Some(table) = place.tables.get(layer).and_then(|index| world.tables.get_mut(*index)) else { continue };
        let mut called = false;
        for chain in &mut table.chains {
            let role = chain_role(plain_name(&chain.name));
            let Some(ChainRole::HostEndpoint { direction: of, forward, .. }) = role else { continue };
            if of != direction || !calls(ordered, layer, direction, forward) {
                continue;
            }
            called = true;
            insert_calls(chain, &name, &title, &policy.tier, settings.generation, &accepted(settings));
        }
        if called {
            declare(table, &name);
        }
    }
}

fn declare(table: &mut Table, name: &str) {
    if table.chain(name).is_none() {
        table.chains.push(Chain { name: name.into(), base: None, rules: Rules::default(), line: 0 });
    }
}

/// "Return if policy accepted".
fn accepted(settings: &render::Settings) -> Rule {
    use crate::ruleset::{Expr, Field, Operator, Verdict};
    let bits = u128::from(settings.marks.accept);
    let left = Expr::And(Box::new(Expr::Field(Field::Mark)), Box::new(Expr::Number(bits)));
    let condition = Match::Compare { left, operator: Operator::Eq, right: Expr::Number(bits) };
    Rule {
        steps: vec![Step::Match(condition), Step::Verdict(Verdict::Return)],
        text: format!("-m mark --mark {bits:#x}/{bits:#x} -j RETURN").into(),
        ..Rule::default()
    }
}

/// Calls behind conditions that cannot be decided, at every place the policy may have.
fn insert_calls(chain: &mut Chain, target: &str, title: &str, tier: &str, generation: Generation, accepted: &Rule) {
    use crate::ruleset::Verdict;
    let opaque =
        |what: &str| Step::Match(Match::Opaque { kind: OpaqueKind::Property, text: format!("{title} {what}").into() });
    let tiered = generation >= Generation::V329;
    let here = |rule: &Rule| rule.comments.iter().any(|comment| comment.contains(&format!("Start of tier {tier}")));
    let known = !tiered || chain.rules.iter().any(here);
    let mut inside = !tiered;
    let mut rules = Vec::with_capacity(chain.rules.len() + 8);
    let mut number = 0;
    for rule in std::mem::take(&mut chain.rules) {
        let role = rule.target().and_then(|target| chain_role(plain_name(target)));
        let calls_policy = matches!(role, Some(ChainRole::Policy(..) | ChainRole::Group(..)));
        let profile = matches!(role, Some(ChainRole::Profile(..)))
            || rule.comments.iter().any(|comment| comment.contains("no profiles matched"));
        let starts = rule.comments.iter().any(|comment| comment.contains("Start of tier "));
        if starts {
            inside = here(&rule);
        }
        // an unknown tier stands before, between or behind the others
        let place =
            if known { inside && (calls_policy || is_tier_end(&rule)) } else { starts || (profile && number < 64) };
        if place {
            number += 1;
            let steps = vec![opaque(&format!("acts here ({number})")), Step::Verdict(Verdict::Jump(target.into()))];
            rules.push(Rule { text: format!("# {title} may be called here").into(), steps, ..Rule::default() });
            rules.push(accepted.clone());
            if !known {
                let steps = vec![opaque(&format!("ends tier {tier} here ({number})")), Step::Verdict(Verdict::Drop)];
                rules.push(Rule {
                    text: format!("# the end of tier {tier} may be here").into(),
                    steps,
                    ..Rule::default()
                });
            }
        }
        inside &= !(tiered && is_tier_end(&rule));
        rules.push(rule);
    }
    chain.rules = rules.into();
}
