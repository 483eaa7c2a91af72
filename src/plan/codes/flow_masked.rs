//! # HG252 plan-flow-masked
//!
//! ## What it checks
//! Flows that work after the change, but would not with policy alone, and that policy admitted before.
//!
//! ## Why it matters
//! A deny behind a failsafe does nothing, so the change looks harmless when it is tested. When somebody trims the list later,
//! the flow dies, and neither change alone looked dangerous.
//!
//! ## How to fix
//! Let policy admit the flow before the rule named in the evidence, in the same change; or write down why the failsafe entry
//! must stay.
//!
//! ## Limits
//! A flow that is masked already before the change is not reported again: `hepguard audit` does that (HG104).

use super::needs_a_change;
use crate::audit::check::Check;
use crate::audit::finding::Severity;

/// The check.
pub const CHECK: Check = Check {
    code: "HG252",
    name: "plan-flow-masked",
    severity: Severity::Medium,
    summary: "after the change only the failsafe list keeps a protected flow alive",
    source: include_str!("flow_masked.rs"),
    run: needs_a_change,
};
