//! # HG307 felix-rules-reordered
//!
//! ## What it checks
//! Felix's rules whose hashes fit in another order than the one they stand in.
//!
//! ## Why it matters
//! Order decides: an accept moved behind a deny is gone, a deny moved behind an accept is open. It happens when somebody
//! restores parts of a dump or two writers race.
//!
//! ## How to fix
//! Restart Felix or wait for its refresh (180 s by default); find the second writer.
//!
//! ## Limits
//! Found for neighbours that changed places; larger shuffles show as edited rules.

use crate::audit::check::Check;
use crate::audit::context::{Context, rules};
use crate::audit::finding::{Finding, Severity};
use crate::calico::integrity::MismatchKind;

/// The check.
pub const CHECK: Check = Check {
    code: "HG307",
    name: "felix-rules-reordered",
    severity: Severity::High,
    summary: "Felix's own rules stand in another order",
    source: include_str!("reordered.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    super::per_chain(
        context,
        check,
        |one| one.kind == MismatchKind::OutOfOrder,
        |count| format!("{} out of order", rules(count)),
        |mismatch| {
            format!("wait for Felix's refresh (180 s) or restart Felix; {} is then written anew", mismatch.chain)
        },
    )
}
