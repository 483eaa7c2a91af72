//! # HG229 policy-only-logs
//!
//! ## What it checks
//! Policy chains in force whose rules only log: Log goes on with the next rule, and behind the last one the tier ends.
//!
//! ## Why it matters
//! A policy without selector selects every host endpoint, and the first policy of a tier switches the tier's deny on. A
//! Log-only policy, meant to watch, denies everything that no other policy of the tier allows (cause C08).
//!
//! ## How to fix
//! Add an Allow or Pass rule at its end, narrow its selector, or make it a staged policy, which only watches.
//!
//! ## Limits
//! Chains are told by their comments or flow log prefixes; where a listing withholds them nothing is said.

use serde_json::json;

use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Bites, Finding, Severity};
use crate::calico::integrity::plain_name;
use crate::calico::names::{ChainRole, chain_role};
use crate::ruleset::{Effect, Rule, Step, Verdict};

/// The check.
pub const CHECK: Check = Check {
    code: "HG229",
    name: "policy-only-logs",
    severity: Severity::High,
    summary: "a policy in force decides nothing, and its tier denies what it does not decide",
    source: include_str!("decides_nothing.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let mut findings = Vec::new();
    for table in &context.ruleset().tables {
        for chain in &table.chains {
            let Some(ChainRole::Policy(_, id)) = chain_role(plain_name(&chain.name)) else { continue };
            let kernel_log = |rule: &&Rule| {
                rule.steps.iter().any(|step| matches!(step, Step::Effect(Effect::Log { group: None, .. })))
            };
            // anything but logging may decide
            let decides = |rule: &Rule| {
                rule.is_withheld()
                    || rule.steps.iter().any(|step| {
                        !matches!(
                            step,
                            Step::Match(_)
                                | Step::Effect(Effect::Log { .. } | Effect::Count)
                                | Step::Verdict(Verdict::Continue)
                        )
                    })
            };
            let Some(first) = chain.rules.iter().find(kernel_log) else { continue };
            if chain.rules.iter().any(decides) {
                continue;
            }
            let called = |rule: &Rule| rule.target() == Some(&*chain.name);
            if !table.chains.iter().flat_map(|chain| &chain.rules).any(called) {
                continue;
            }
            let subject = json!({ "family": table.family.name(), "chain": &*chain.name });
            let title =
                format!("policy {id} only logs: its tier denies what no other policy of it decides ({})", table.family);
            findings.push(
                Finding::new(check, subject, title)
                    .bites(Bites::Now)
                    .evidence(
                        format!("{} {} ({}:{})", table.title(), chain.name, table.source, first.line),
                        &*first.text,
                    )
                    .fix("add an Allow or Pass rule at its end, or make it a staged policy; safe over SSH"),
            );
        }
    }
    findings
}
