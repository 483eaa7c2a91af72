//! # HG523 clock-jumped
//!
//! ## What it checks
//! The wall clock against a clock that never jumps.
//!
//! ## Why it matters
//! Times of log lines, leases and alerts around the jump do not compare.
//!
//! ## How to fix
//! Check the time source (`timedatectl`, `chronyc tracking`). Time is often wrong because UDP 123 out is denied (see `hepguard audit`).
//!
//! ## Limits
//! Smaller steps are not told. A suspended machine is no jump.

use super::needs_time;
use crate::audit::check::Check;
use crate::audit::finding::Severity;

/// The check.
pub const CHECK: Check = Check {
    code: "HG523",
    name: "clock-jumped",
    severity: Severity::Low,
    summary: "the clock was set by a minute or more",
    source: include_str!("clock_jumped.rs"),
    run: needs_time,
};
