//! # HG306 felix-rules-missing
//!
//! ## What it checks
//! Gaps in the hash chain of Felix's rules: a rule's hash builds on a rule that is not there.
//!
//! ## Why it matters
//! A deleted rule leaves no trace in a listing. If it was a failsafe or an accept, the way in may be gone; if it was a deny,
//! the host is open. So it is when another tool flushes what is Felix's (cause C22).
//!
//! ## How to fix
//! Felix puts the rule back at its next refresh (180 s by default). If it stays away, Felix is not running or stuck.
//!
//! ## Limits
//! Rules deleted at the end of a chain leave no gap behind them and are noticed only where Felix's usual ending is known.

use crate::audit::check::Check;
use crate::audit::context::{Context, rules};
use crate::audit::finding::{Finding, Severity};
use crate::calico::integrity::MismatchKind;

/// The check.
pub const CHECK: Check = Check {
    code: "HG306",
    name: "felix-rules-missing",
    severity: Severity::High,
    summary: "rules that Felix wrote are gone from its chain",
    source: include_str!("missing.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    super::per_chain(
        context,
        check,
        |one| one.kind == MismatchKind::Missing,
        |count| format!("{} after a gap: Felix wrote more before", rules(count)),
        |mismatch| {
            format!(
                "restart Felix or wait for its refresh (180 s); {} is then written anew, which is safe over SSH when `hepguard failsafe` shows no removed entry",
                mismatch.chain
            )
        },
    )
}
