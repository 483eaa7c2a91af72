//! Policies and profiles: one chain a direction, a few dataplane rules for each rule.

use std::collections::BTreeMap;

use super::blocks::{Conditions, conditions};
use super::endpoint::{letter, nflog_group};
use super::rule::{Criterion, FelixRule, RuleAction};
use super::{Input, Policy, PolicyRule, RenderedTable, Settings, Unrendered};
use crate::calico::names::{Action, Direction, Generation, chain_name, nflog_prefix, short_kind};
use crate::packet::Family;

/// Name of a policy's chain.
#[must_use]
pub fn policy_chain(policy: &Policy, direction: Direction, settings: &Settings) -> String {
    let prefix = if direction == Direction::In { "cali-pi-" } else { "cali-po-" };
    chain_name(prefix, &policy.name.id(settings.generation, &policy.tier), settings.longest_policy_chain())
}

/// Name of a profile's chain.
#[must_use]
pub fn profile_chain(profile: &str, direction: Direction, settings: &Settings) -> String {
    let prefix = if direction == Direction::In { "cali-pri-" } else { "cali-pro-" };
    chain_name(prefix, profile, settings.longest_policy_chain())
}

/// The chains of one policy in each table, whether or not something calls them there.
///
/// # Errors
/// The first rule at which Felix would stop.
pub fn policy_tables(policy: &Policy, settings: &Settings, family: Family) -> Result<Vec<RenderedTable>, Unrendered> {
    let input = Input {
        settings: settings.clone(),
        endpoints: Vec::new(),
        policies: vec![policy.clone()],
        profiles: Vec::new(),
    };
    let tables = ["raw", "mangle", "filter"].map(|name| {
        let mut table = RenderedTable { name, chains: BTreeMap::new(), inserts: Vec::new(), appends: Vec::new() };
        add(&mut table, &input, family).map(|()| table)
    });
    tables.into_iter().collect()
}

/// Adds every policy's and profile's chains; those that nothing jumps to are removed later.
pub(super) fn add(table: &mut RenderedTable, input: &Input, family: Family) -> Result<(), Unrendered> {
    let settings = &input.settings;
    let untracked = table.name == "raw";
    for policy in input.policies.iter().filter(|policy| !policy.staged) {
        for (direction, rules) in [(Direction::In, &policy.ingress), (Direction::Out, &policy.egress)] {
            let owner = Owner {
                name: &policy.name.name,
                log: format!("P{}", letter(direction)),
                id: policy.name.log_id(settings.generation, &policy.tier),
                log_prefix: log_prefix(settings, Some(policy), &policy.name.name),
                comment: policy.name.comment(settings.generation, direction == Direction::In),
                direction,
                untracked,
            };
            let chain = policy_chain(policy, direction, settings);
            table.chains.insert(chain, owner.rules(rules, settings, family)?);
        }
    }
    for profile in &input.profiles {
        for (direction, rules) in [(Direction::In, &profile.ingress), (Direction::Out, &profile.egress)] {
            let owner = Owner {
                name: &profile.name,
                log: format!("R{}", letter(direction)),
                id: profile.name.clone(),
                log_prefix: log_prefix(settings, None, &profile.name),
                comment: format!("Profile {} {}", profile.name, direction.calico()),
                direction,
                untracked,
            };
            let chain = profile_chain(&profile.name, direction, settings);
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
    /// Of `Log` rules.
    log_prefix: String,
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
            let Some(Conditions { blocks, criteria }) = conditions(rule, settings.marks, family) else { continue };
            let first = rules.len();
            rules.extend(blocks);
            self.add_rule(&mut rules, rule.action, index, criteria, settings);
            for new in rules.iter_mut().skip(first) {
                for (key, value) in &rule.annotations {
                    *new = std::mem::take(new).comment(format!("{key}={value}"));
                }
                if settings.is_nft() && !new.can_be_sent() {
                    let needs = "a protocol with ports: Felix in nftables mode stops at it";
                    return Err(Unrendered { owner: self.name.to_owned(), rule: index, needs });
                }
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
                // the limit stands first, so packets that the rule is not about use it up too
                let limit = settings.log_limit.clone().filter(|_| settings.generation == Generation::From332);
                let limit = limit.map(|(rate, burst)| Criterion::Limit { rate, burst });
                let all = limit.into_iter().chain(criteria).collect();
                rules.push(FelixRule::new(all, RuleAction::Log { prefix: self.log_prefix.clone() }));
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
            rules.push(FelixRule::new(condition.clone(), settings.nflog(group, prefix)));
        }
        rules.push(FelixRule::new(condition, end));
    }
}

/// The prefix of `Log` rules; from 3.32 on with the tier (`%t`), kind (`%k`) and name (`%n`, `%p`) of who logs.
fn log_prefix(settings: &Settings, policy: Option<&Policy>, profile: &str) -> String {
    let prefix = if settings.log_prefix.is_empty() { "calico-packet" } else { &settings.log_prefix };
    if settings.generation < Generation::From332 || !prefix.contains('%') {
        return prefix.to_owned();
    }
    let (tier, kind, name, full) = match policy {
        Some(policy) => {
            (policy.tier.as_str(), short_kind(&policy.name.kind), policy.name.name.clone(), policy.name.full())
        }
        None => ("", "pro", profile.to_owned(), profile.to_owned()),
    };
    let mut out = String::with_capacity(prefix.len());
    let mut rest = prefix;
    while let Some(at) = rest.find('%') {
        out.push_str(rest.get(..at).unwrap_or_default());
        let word = match rest.get(at..at + 2) {
            Some("%t") => tier,
            Some("%k") => kind,
            Some("%n") => name.as_str(),
            Some("%p") => full.as_str(),
            _ => {
                out.push('%');
                rest = rest.get(at + 1..).unwrap_or_default();
                continue;
            }
        };
        out.push_str(word);
        rest = rest.get(at + 2..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}
