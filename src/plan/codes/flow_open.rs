//! # HG254 plan-flow-undecided
//!
//! ## What it checks
//! Flows whose fate after the change hangs on something hepguard cannot decide: a rule with a string match or a rate, a
//! listing that could not be read.
//!
//! ## Why it matters
//! A plan that stays silent about such a flow would look like "it works". It may, or it may not, so the plan's verdict is not
//! *safe*.
//!
//! ## How to fix
//! Look at the rules and files named in the evidence. Where a rate limit is the reason, the flow works until the limit is
//! reached.
//!
//! ## Limits
//! Flows that were undecided before the change and stay so are reported, too: the change may still decide them.

use super::needs_a_change;
use crate::audit::check::Check;
use crate::audit::finding::Severity;

/// The check.
pub const CHECK: Check = Check {
    code: "HG254",
    name: "plan-flow-undecided",
    severity: Severity::Low,
    summary: "whether a protected flow works after the change cannot be decided",
    source: include_str!("flow_open.rs"),
    run: needs_a_change,
};
