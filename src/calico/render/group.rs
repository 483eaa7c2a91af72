//! Groups: policies that follow each other in a tier, in one direction, with the same selector share a chain of their own.

use super::policy::policy_chain;
use super::rule::{Criterion, FelixRule, RuleAction};
use super::{Input, Policy, RenderedTable, Settings};
use crate::calico::names::{Direction, Generation, PolicyName, group_chain};

/// So many policies are called before the chain looks whether one decided.
const STRIDE: usize = 5;

/// Policies of a tier that follow each other with one selector.
pub(super) struct Group<'i> {
    members: Vec<&'i Policy>,
    /// Its chain; `None` when it is too small for one.
    pub(super) chain: Option<String>,
}

impl<'i> Group<'i> {
    /// Its policies that take effect, in order.
    pub(super) fn enforced(&self) -> impl Iterator<Item = &'i Policy> {
        self.members.iter().copied().filter(|policy| !policy.staged)
    }
}

/// The groups of a tier; `policies` are indices into [`Input::policies`].
pub(super) fn groups<'i>(tier: &str, policies: &[usize], direction: Direction, input: &'i Input) -> Vec<Group<'i>> {
    let generation = input.settings.generation;
    let mut groups: Vec<Group<'i>> = Vec::new();
    for policy in policies.iter().filter_map(|index| input.policies.get(*index)) {
        let last = groups.last_mut().filter(|_| generation >= Generation::V328 && policy.selector.is_some());
        match last.filter(|group| group.members.last().is_some_and(|last| last.selector == policy.selector)) {
            Some(group) => group.members.push(policy),
            None => groups.push(Group { members: vec![policy], chain: None }),
        }
    }
    for group in &mut groups {
        let selector = group.members.first().and_then(|policy| policy.selector.as_deref());
        if let Some(selector) = selector.filter(|_| group.enforced().count() > 1) {
            let names: Vec<&PolicyName> = group.members.iter().map(|policy| &policy.name).collect();
            group.chain = Some(group_chain(generation, tier, selector, direction, &names));
        }
    }
    groups
}

/// Adds the chains of all groups; those that nothing jumps to are removed later.
pub(super) fn add(table: &mut RenderedTable, input: &Input) {
    for endpoint in &input.endpoints {
        let lists = [&endpoint.tiers, &endpoint.forward_tiers, &endpoint.untracked_tiers, &endpoint.pre_dnat_tiers];
        for tier in lists.into_iter().flatten() {
            for (direction, policies) in [(Direction::In, &tier.ingress), (Direction::Out, &tier.egress)] {
                for group in groups(&tier.tier, policies, direction, input) {
                    if let Some(chain) = &group.chain {
                        table.chains.insert(chain.clone(), rules(&group, direction, &input.settings));
                    }
                }
            }
        }
    }
}

fn rules(group: &Group<'_>, direction: Direction, settings: &Settings) -> Vec<FelixRule> {
    let verdict = settings.marks.accept | settings.marks.pass;
    let mut rules = Vec::new();
    for (number, policy) in group.enforced().enumerate() {
        let first = number.is_multiple_of(STRIDE);
        if first && number > 0 {
            let decided = vec![Criterion::MarkNotClear(verdict)];
            rules.push(FelixRule::new(decided, RuleAction::Return).comment("Return on verdict"));
        }
        let undecided = if first { Vec::new() } else { vec![Criterion::MarkClear(verdict)] };
        rules.push(FelixRule::new(undecided, RuleAction::Jump(policy_chain(policy, direction, settings))));
    }
    rules
}
