//! # HG610 match-block-not-enforced
//!
//! ## What it checks
//! Policy chains for rules that Felix had to split into three or more match blocks: of more than 15 port slots, more than
//! one source net and more than one destination net, a rule has at least three.
//!
//! ## Why it matters
//! Felix collects each block's answer in a bit of the packet's mark and never clears it in between. Once the second block
//! matched, the third and later ones count as matched, whatever they say: an Allow lets more through than the policy says,
//! a Deny stops more. Measured in the kernel; every known version, 3.34 in development included, writes it so, on iptables
//! and on nftables.
//!
//! ## How to fix
//! Split the policy rule, so that each part needs at most two of: a long or mixed list of source ports, of destination
//! ports, several source nets, several destination nets. Network sets with a selector need no block at all.
//!
//! ## Limits
//! Looks at the live chains. What the rule should have said is in the policy, not in the chain.

use serde_json::json;

use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Finding, Severity};
use crate::calico::integrity::plain_name;
use crate::calico::names::{ChainRole, Meaning, chain_role};
use crate::ruleset::{Effect, Expr, Field, Match, Operator, Rule, RuleRef, Step};

/// The check.
pub const CHECK: Check = Check {
    code: "HG610",
    name: "match-block-not-enforced",
    severity: Severity::High,
    summary: "a policy rule has conditions that Felix writes so that they cannot fail",
    source: include_str!("block_not_enforced.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let ruleset = context.ruleset();
    let meanings = context.snapshot.meanings();
    let mut findings = Vec::new();
    for (table_index, table) in ruleset.tables.iter().enumerate() {
        for (chain_index, chain) in table.chains.iter().enumerate() {
            let role = chain_role(plain_name(&chain.name));
            if !matches!(role, Some(ChainRole::Policy(..) | ChainRole::Profile(..))) {
                continue;
            }
            for (first, last) in idle_blocks(&chain.rules) {
                let place = RuleRef { table: table_index, chain: chain_index, rule: last };
                let whose = match meanings.of(place).as_deref() {
                    Some(Meaning::Policy { policy, rule: Some(number), direction, written, .. }) => {
                        let at = written.as_ref().map(|place| format!(" at {place}")).unwrap_or_default();
                        format!("{} rule {number} of policy {policy}{at}", direction.calico())
                    }
                    _ => format!("a rule of {}", chain.name),
                };
                let title = format!("{whose} has a third match block, which Felix does not enforce ({})", table.family);
                let subject = json!({ "family": table.family.to_string(), "chain": &*chain.name, "rule": last + 1 });
                let mut finding = Finding::new(check, subject, title);
                for (index, rule) in chain.rules.iter().enumerate().take(last + 1).skip(first).take(6) {
                    let source = format!("{} {} rule {}", table.title(), chain.name, index + 1);
                    finding = finding.evidence(source, &*rule.text);
                }
                findings.push(finding.fix(
                    "split the policy rule: each part may have two at most of a long port list a side and several nets a \
                     side; or put the nets into a GlobalNetworkSet and use a selector. Both are safe over SSH when \
                     `hepguard plan -f FILE` says so",
                ));
            }
        }
    }
    findings
}

/// First and last rule of each block behind the second positive one.
fn idle_blocks(rules: &[Rule]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let (mut ends, mut begin) = (0, 0);
    for (index, rule) in rules.iter().enumerate() {
        if begins(rule) {
            ends = 0;
        } else if ends_block(rule) {
            ends += 1;
            if ends > 1 {
                found.push((begin, index));
            }
            begin = index + 1;
        }
    }
    found
}

fn sets_mark(rule: &Rule) -> bool {
    rule.steps.iter().any(|step| matches!(step, Step::Effect(Effect::Set { field: Field::Mark, .. })))
}

/// The rule that resets both bits asks nothing.
fn begins(rule: &Rule) -> bool {
    sets_mark(rule) && !rule.steps.iter().any(|step| matches!(step, Step::Match(_)))
}

/// The rule behind a later block: where its bit is clear, the result is cleared.
fn ends_block(rule: &Rule) -> bool {
    let clear = |step: &Step| match step {
        Step::Match(Match::Compare { left: Expr::And(field, _), operator: Operator::Eq, right: Expr::Number(0) }) => {
            **field == Expr::Field(Field::Mark)
        }
        _ => false,
    };
    sets_mark(rule) && rule.steps.iter().any(clear)
}
