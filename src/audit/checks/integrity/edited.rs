//! # HG301 felix-rule-edited
//!
//! ## What it checks
//! The hash in each Felix rule's comment against the rule's own text and the rules before it.
//!
//! ## Why it matters
//! Somebody changed a rule and kept its comment: a policy or failsafe in the kernel is not the one Calico shows. Each hash
//! builds on the one before it, so from the edited rule on the rest of the chain cannot be proven either.
//!
//! ## How to fix
//! Felix rewrites the chain at its next refresh (180 s by default) when it runs. If the edit stays, Felix is not running or
//! stuck: look at its log. Then find out who edited: `iptables -R`, a restored dump, a script.
//!
//! ## Limits
//! A rule in a spelling of an unknown Felix version looks edited, too; then all chains of its kind are, and `bounded` says
//! that the original was not found.

use crate::audit::check::Check;
use crate::audit::context::{Context, rules};
use crate::audit::finding::{Finding, Severity};
use crate::calico::integrity::MismatchKind;

/// The check.
pub const CHECK: Check = Check {
    code: "HG301",
    name: "felix-rule-edited",
    severity: Severity::High,
    summary: "a rule carries Felix's hash, but its text is not what Felix wrote",
    source: include_str!("edited.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    super::per_chain(
        context,
        check,
        MismatchKind::Edited,
        |count| format!("{} edited behind Felix's back", rules(count)),
        |mismatch| {
            format!(
                "wait for Felix's refresh (180 s) or restart Felix, then check `hepguard audit` again; {} is rewritten as a whole, which is safe over SSH when `hepguard failsafe` shows no removed entry",
                mismatch.chain
            )
        },
    )
}
