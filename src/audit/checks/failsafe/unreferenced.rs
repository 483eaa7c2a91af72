//! # HG107 failsafe-unreferenced
//!
//! ## What it checks
//! Failsafe chains in the kernel that no rule jumps to.
//!
//! ## Why it matters
//! The chain looks right in every listing, and no packet ever meets it. Either no host endpoint is in force (the host is not
//! policed at all), or somebody removed the jump, and then policy decides without failsafes.
//!
//! ## How to fix
//! Check the host endpoint: `spec.node` must equal Felix's hostname, `interfaceName` or `expectedIPs` must fit
//! (`calicoctl get hostendpoint -o yaml`). If the jump was deleted, restart Felix.
//!
//! ## Limits
//! In a fragment of a listing (`iptables-save | grep failsafe`) jumps may simply be missing; fragments are not judged.

use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Finding, Severity};
use crate::calico::failsafe::ProblemKind;

/// The check.
pub const CHECK: Check = Check {
    code: "HG107",
    name: "failsafe-unreferenced",
    severity: Severity::High,
    summary: "a failsafe chain exists, and nothing jumps to it",
    source: include_str!("unreferenced.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    super::from_problems(context, check, &[ProblemKind::Unreferenced])
}
