//! # HG302 foreign-rule-in-felix-chain
//!
//! ## What it checks
//! Rules in Felix's chains without Felix's hash, or with one that fits nowhere.
//!
//! ## Why it matters
//! A foreign rule in a Felix chain decides where only policy should. It lives until Felix next rewrites that chain, then it
//! vanishes, and with it perhaps somebody's way in.
//!
//! ## How to fix
//! Move the rule to a chain of its own or express it as Calico policy. Felix removes it at its next refresh of the chain.
//!
//! ## Limits
//! Rules in kernel chains beside Felix's jump are not in Felix's chains; HG303 and HG602 look at those.

use crate::audit::check::Check;
use crate::audit::context::{Context, rules};
use crate::audit::finding::{Finding, Severity};
use crate::calico::integrity::MismatchKind;

/// The check.
pub const CHECK: Check = Check {
    code: "HG302",
    name: "foreign-rule-in-felix-chain",
    severity: Severity::High,
    summary: "a rule in one of Felix's chains is not Felix's",
    source: include_str!("foreign.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    super::per_chain(
        context,
        check,
        |one| one.kind == MismatchKind::Foreign,
        |count| format!("{} not by Felix", rules(count)),
        |mismatch| {
            format!(
                "move what the rule does out of {} into Calico policy or a chain of its own before Felix removes it; check your own way in with `hepguard trace` first",
                mismatch.chain
            )
        },
    )
}
