//! # HG103 failsafe-ipv4-only
//!
//! ## What it checks
//! Failsafe entries whose network is of one family (`tcp:0.0.0.0/0:22`), while the other family is in use.
//!
//! ## Why it matters
//! Felix writes a rule only in the family of the entry's network. `tcp:0.0.0.0/0:22` opens nothing for IPv6: the admin who
//! comes over IPv6 has no failsafe at all, and finds out on the day a policy is wrong (cause C03).
//!
//! ## How to fix
//! Use the entry without a network (`tcp:22`: both families), or add its twin for the other family (`tcp:[::/0]:22`).
//!
//! ## Limits
//! Felix before 3.28 (3.27 without the back-port) opened the port in the other family for everybody instead.

use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Finding, Severity};
use crate::calico::failsafe::ProblemKind;

/// The check.
pub const CHECK: Check = Check {
    code: "HG103",
    name: "failsafe-ipv4-only",
    severity: Severity::Medium,
    summary: "a failsafe entry has a network of one family, so the other family has no rule",
    source: include_str!("one_family.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    super::from_problems(context, check, &[ProblemKind::OneFamily])
}
