//! # HG524 outlet-failed
//!
//! ## What it checks
//! Each write of state, metrics, message of the day and journal.
//!
//! ## Why it matters
//! Without state a crash loses places in logs, so denies since the last good write are read again or, of rotated files, missed.
//!
//! ## How to fix
//! Check disk and folder (`df`, `ls -ld`). It is tried again by itself.
//!
//! ## Limits
//! What cannot be written is kept in memory only, within its bounds.

use super::needs_time;
use crate::audit::check::Check;
use crate::audit::finding::Severity;

/// The check.
pub const CHECK: Check = Check {
    code: "HG524",
    name: "outlet-failed",
    severity: Severity::Medium,
    summary: "the daemon cannot write its state or an outlet",
    source: include_str!("outlet_failed.rs"),
    run: needs_time,
};
