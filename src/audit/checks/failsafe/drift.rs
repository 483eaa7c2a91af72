//! # HG105 failsafe-drift
//!
//! ## What it checks
//! Whether the failsafe lists on disk, in the running Felix, in the datastore and in the kernel agree, and what the next
//! restart of Felix will take away or add.
//!
//! ## Why it matters
//! Felix reads its environment and felix.cfg only when it starts. An edited file does nothing today and everything at the
//! next restart, which may be a package upgrade at night: an entry that is gone from the file is gone from the kernel then
//! (cause C06).
//!
//! ## How to fix
//! Decide which list is right and make the file say so, before anybody restarts Felix. `hepguard failsafe` shows the lists
//! side by side.
//!
//! ## Limits
//! Sources that were not given (the datastore, a container's environment) may override what is on disk; such findings are
//! marked as bounded.

use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Finding, Severity};
use crate::calico::failsafe::ProblemKind;

/// The check.
pub const CHECK: Check = Check {
    code: "HG105",
    name: "failsafe-drift",
    severity: Severity::High,
    summary: "the lists on disk, in the running Felix and in the kernel differ",
    source: include_str!("drift.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    super::from_problems(
        context,
        check,
        &[
            ProblemKind::RemovedAtRestart,
            ProblemKind::AddedAtRestart,
            ProblemKind::KernelDrift,
            ProblemKind::OrderChanges,
            ProblemKind::TablesDiffer,
        ],
    )
}
