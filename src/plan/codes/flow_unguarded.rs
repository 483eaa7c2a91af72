//! # HG253 plan-flow-unguarded
//!
//! ## What it checks
//! Flows that use an entry of the failsafe list in the kernel which the change, or the restart of Felix that it brings, takes
//! off the list, and that policy goes on admitting.
//!
//! ## Why it matters
//! Nothing breaks today. The next mistake in policy is the one that locks out, because nothing catches it any more.
//!
//! ## How to fix
//! Keep the entry unless there is a reason against it. If it must go, restrict it to the networks that need it instead of
//! taking it away: `tcp:192.0.2.0/24:22`.
//!
//! ## Limits
//! Only flows of the inventory are looked at; HG101 and HG108 look at the lists themselves.

use super::needs_a_change;
use crate::audit::check::Check;
use crate::audit::finding::Severity;

/// The check.
pub const CHECK: Check = Check {
    code: "HG253",
    name: "plan-flow-unguarded",
    severity: Severity::Medium,
    summary: "a protected flow loses the failsafe entry that stands behind it",
    source: include_str!("flow_unguarded.rs"),
    run: needs_a_change,
};
