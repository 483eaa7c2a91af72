//! # HG608 rule-shadowed
//!
//! ## What it checks
//! Rules that no packet ever hits because earlier rules decide everything they ask for, without contradicting them: the same
//! rule twice, a host behind its network, a rule behind one that leads its packets away.
//!
//! ## Why it matters
//! Nothing is wrong today. But rulesets that nobody can read are where mistakes hide, and a shadowed rule comes alive when the
//! one that covers it is changed or removed.
//!
//! ## How to fix
//! Delete the rule, or the wider one in front if the narrow one is what is meant.
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
    code: "HG608",
    name: "rule-shadowed",
    severity: Severity::Low,
    summary: "a rule never acts: earlier rules decide all it asks for",
    source: include_str!("shadowed.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let says = |rule: &crate::audit::idle::IdleRule| {
        let by = rule.because();
        let by = if by.is_empty() { "what stands before it".to_owned() } else { by };
        format!("{} never acts: {by} decides first", rule.called)
    };
    let found = report(context, check, Fault::Shadowed, "rules", says);
    found.into_iter().map(|finding| finding.fix(FIX)).collect()
}

const FIX: &str = "delete the rule: no packet hits it, so nothing changes, over SSH too";
