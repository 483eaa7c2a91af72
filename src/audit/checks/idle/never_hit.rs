//! # HG609 rule-never-hit
//!
//! ## What it checks
//! Rules that no packet can hit: their conditions contradict each other, or none of the rules that call their chain sends what
//! they ask for (`udp` in a chain that is called for `tcp`).
//!
//! ## Why it matters
//! Such a rule is mostly a slip: a wrong interface, protocol or chain. What it was meant to do is not done.
//!
//! ## How to fix
//! Correct the condition, or call the chain for the packets in question; else delete the rule.
//!
//! ## Limits
//! Each base chain is judged by itself, with every packet its hook could see and whatever the named sets hold: a rule about an
//! empty set waits for its first member and is not reported. A rule that cannot be decided (a rate, a mark of another program)
//! covers nothing. Rules that Felix, kube-proxy, Docker and the like write by rote are left out; failsafe lists cover nothing,
//! for policy has to hold without them.

use super::report;
use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Finding, Severity};
use crate::audit::idle::Fault;

/// The check.
pub const CHECK: Check = Check {
    code: "HG609",
    name: "rule-never-hit",
    severity: Severity::Low,
    summary: "a rule never acts: no packet that it asks for can come to it",
    source: include_str!("never_hit.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let says = |rule: &crate::audit::idle::IdleRule| match rule.because() {
        by if by.is_empty() => format!("{} never acts: its conditions contradict each other", rule.called),
        by => format!("{} never acts: no packet it asks for comes through {by}", rule.called),
    };
    let found = report(context, check, Fault::NeverAsked, "rules", says);
    found.into_iter().map(|finding| finding.fix(FIX)).collect()
}

const FIX: &str = "correct its condition or the rule that calls its chain; deleting it changes nothing, over SSH too";
