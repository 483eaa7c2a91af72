//! Policies and profiles: one chain a direction, a few dataplane rules for each rule.

use super::endpoint::{letter, nflog_group};
use super::rule::{Criterion, FelixRule, RuleAction, Side};
use super::{Entity, Input, Policy, PolicyRule, RenderedTable, Settings, Unrendered};
use crate::calico::names::{
    Action, Direction, Generation, MAX_IPTABLES_CHAIN, chain_name, nflog_prefix, selector_set_name,
};
use crate::calico::render::rule::ProtocolName;
use crate::packet::{Family, PortRange};

/// Name of a policy's chain in iptables mode.
pub(super) fn policy_chain(policy: &Policy, direction: Direction, generation: Generation) -> String {
    let prefix = if direction == Direction::In { "cali-pi-" } else { "cali-po-" };
    chain_name(prefix, &policy.name.id(generation, &policy.tier), MAX_IPTABLES_CHAIN)
}

/// Adds every policy's and profile's chains; those that nothing jumps to are removed later.
pub(super) fn add(table: &mut RenderedTable, input: &Input, family: Family) -> Result<(), Unrendered> {
    let settings = &input.settings;
    let untracked = table.name == "raw";
    for policy in &input.policies {
        for (direction, rules) in [(Direction::In, &policy.ingress), (Direction::Out, &policy.egress)] {
            let id = policy.name.id(settings.generation, &policy.tier);
            let owner = Owner {
                name: &policy.name.name,
                log: format!("P{}", letter(direction)),
                id,
                comment: policy.name.comment(settings.generation, direction == Direction::In),
                direction,
                untracked,
            };
            let chain = policy_chain(policy, direction, settings.generation);
            table.chains.insert(chain, owner.rules(rules, settings, family)?);
        }
    }
    for profile in &input.profiles {
        let directions =
            [(Direction::In, "cali-pri-", &profile.ingress), (Direction::Out, "cali-pro-", &profile.egress)];
        for (direction, prefix, rules) in directions {
            let owner = Owner {
                name: &profile.name,
                log: format!("R{}", letter(direction)),
                id: profile.name.clone(),
                comment: format!("Profile {} {}", profile.name, direction.calico()),
                direction,
                untracked,
            };
            let chain = chain_name(prefix, &profile.name, MAX_IPTABLES_CHAIN);
            table.chains.insert(chain, owner.rules(rules, settings, family)?);
        }
    }
    Ok(())
}

struct Owner<'a> {
    name: &'a str,
    /// Owner and direction letters of log prefixes.
    log: String,
    id: String,
    comment: String,
    direction: Direction,
    untracked: bool,
}

impl Owner<'_> {
    fn rules(
        &self,
        policy_rules: &[PolicyRule],
        settings: &Settings,
        family: Family,
    ) -> Result<Vec<FelixRule>, Unrendered> {
        let mut rules = Vec::new();
        for (index, rule) in policy_rules.iter().enumerate() {
            let unrendered = |needs| Unrendered { owner: self.name.to_owned(), rule: index, needs };
            if let Some(criteria) = criteria(rule, family).map_err(unrendered)? {
                self.add_rule(&mut rules, rule.action, index, criteria, settings);
            }
        }
        // a return at the end of a chain does nothing
        while rules.last().is_some_and(|rule| rule.action == Some(RuleAction::Return)) {
            rules.pop();
        }
        if rules.is_empty() {
            rules.push(FelixRule::default());
        }
        if let Some(first) = rules.first_mut() {
            *first = std::mem::take(first).comment(self.comment.clone());
        }
        Ok(rules)
    }

    fn add_rule(
        &self,
        rules: &mut Vec<FelixRule>,
        action: Action,
        index: usize,
        criteria: Vec<Criterion>,
        settings: &Settings,
    ) {
        let marks = settings.marks;
        let (mark, end, letter) = match action {
            Action::Log => {
                rules.push(FelixRule::new(criteria, RuleAction::Log { prefix: settings.log_prefix.clone() }));
                return;
            }
            Action::Allow => (Some(marks.accept), RuleAction::Return, 'A'),
            Action::Pass => (Some(marks.pass), RuleAction::Return, 'P'),
            Action::Deny => (marks.drop, settings.deny.rule(), 'D'),
        };
        let mut condition = criteria;
        if let Some(mark) = mark {
            rules.push(FelixRule::new(condition, RuleAction::SetMark(mark)));
            condition = vec![Criterion::MarkSet(mark)];
        }
        if settings.flow_logs && !self.untracked {
            let prefix = nflog_prefix(&format!("{letter}{}{index}|{}", self.log, self.id));
            let group = nflog_group(self.direction);
            rules.push(FelixRule::new(condition.clone(), RuleAction::Nflog { group, prefix }));
        }
        rules.push(FelixRule::new(condition, end));
    }
}

/// The conditions of a rule in one family, in Felix's order. `Ok(None)` when the rule is not about this family.
fn criteria(rule: &PolicyRule, family: Family) -> Result<Option<Vec<Criterion>>, &'static str> {
    let ipv6 = family == Family::Ipv6;
    if let Some(protocol) = &rule.protocol {
        let (icmp, icmp6) = match protocol {
            ProtocolName::Name(name) => (name == "icmp", name == "icmpv6"),
            ProtocolName::Number(_) => (false, false),
        };
        if (icmp && ipv6) || (icmp6 && !ipv6) {
            return Ok(None);
        }
    }
    let mut criteria = Vec::new();
    criteria.extend(rule.protocol.clone().map(|protocol| Criterion::Protocol { protocol, negate: false }));
    for (side, entity) in [(Side::Source, &rule.source), (Side::Destination, &rule.destination)] {
        if !add_entity(&mut criteria, side, entity, family)? {
            return Ok(None);
        }
    }
    criteria.extend(rule.icmp.map(|(kind, code)| Criterion::Icmp { version: family, kind, code, negate: false }));
    Ok(Some(criteria))
}

/// Whether the rule is about this family at all.
fn add_entity(
    criteria: &mut Vec<Criterion>,
    side: Side,
    entity: &Entity,
    family: Family,
) -> Result<bool, &'static str> {
    let nets: Vec<_> = entity.nets.iter().copied().filter(|net| net.is_ipv4() == (family == Family::Ipv4)).collect();
    match nets.as_slice() {
        [] if !entity.nets.is_empty() => return Ok(false),
        [] => {}
        [net] => criteria.push(Criterion::Net { side, net: *net, negate: false }),
        _ => return Err("several match blocks: more than one net"),
    }
    criteria.extend(entity.selector.iter().map(|selector| Criterion::Set {
        side,
        set: selector_set_name(selector, family),
        negate: false,
    }));
    let slots: usize = entity.ports.iter().map(|port: &PortRange| if port.low == port.high { 1 } else { 2 }).sum();
    if slots > 15 {
        return Err("several match blocks: more than 15 ports");
    }
    if slots > 0 {
        criteria.push(Criterion::Ports { side, ports: entity.ports.clone(), negate: false });
    }
    Ok(true)
}
