//! # HG218 protected-flow-refused
//!
//! ## What it checks
//! Every `[[protect]]` entry of the configuration, as a new conversation: each peer, of a network one address and those in it
//! that rules and IP sets speak of, both ends of each port range.
//!
//! ## Why it matters
//! Somebody wrote down that this flow must work. The severity is the one the entry gives.
//!
//! ## How to fix
//! The evidence names the entry by file and line, and the rule that refuses. Repair policy, or the entry.
//!
//! ## Limits
//! A network is judged by some of its addresses; `hepguard reach` gives the exact set.

use crate::analysis::flows::FlowKind;
use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Bites, Finding, Severity};
use crate::audit::lost::refused;

/// The check.
pub const CHECK: Check = Check {
    code: "HG218",
    name: "protected-flow-refused",
    severity: Severity::Critical,
    summary: "a flow that the configuration protects is refused",
    source: include_str!("protected_refused.rs"),
    run,
};

const FIX: &str = "allow the flow in policy before the rule named above, or take the entry out of the configuration when it is no \
    longer needed; safe over SSH";

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    refused(context, check, Bites::Now, |flow| flow.kind == FlowKind::Protect, FIX)
}
