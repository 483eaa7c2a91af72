//! # HG256 plan-limited
//!
//! ## What it checks
//! Whether all rules were readable, whether everything of the host could be put into the private copy, and whether Felix's next
//! restart can be foretold.
//!
//! ## Why it matters
//! An answer about half a firewall is no answer. The verdict is not *safe* while something is missing.
//!
//! ## How to fix
//! Run it as root, or add the missing listings to the snapshot; where the copy lacks a table or an interface, look at the named
//! part by hand.
//!
//! ## Limits
//! What is not listed at all (BPF programs that no tool shows, firewalls outside the host) is not known to be missing.

use super::needs_a_change;
use crate::audit::check::Check;
use crate::audit::finding::Severity;

/// The check.
pub const CHECK: Check = Check {
    code: "HG256",
    name: "plan-limited",
    severity: Severity::Low,
    summary: "parts of the host are not in the answer",
    source: include_str!("plan_limited.rs"),
    run: needs_a_change,
};
