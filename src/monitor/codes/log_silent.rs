//! # HG513 log-silent
//!
//! ## What it checks
//! Counters of rules that log denies, against the denies read from the followed logs, over `alerts.silence`.
//!
//! ## Why it matters
//! The log is how anybody learns what is refused. A logger that died, a full disk, a rate limit or a rotated file nobody reopened
//! makes a blind spot that looks like peace.
//!
//! ## How to fix
//! Check the logger, the disk and `logs.files`. `hepguard denies --follow` shows whether lines arrive.
//!
//! ## Limits
//! Rules without counters (nft counts only where told) say nothing. Fewer than ten packets are not judged. Counters are read with
//! every comparison of legacy tables, and of others only when the firewall is judged.

use super::needs_time;
use crate::audit::check::Check;
use crate::audit::finding::Severity;

/// The check.
pub const CHECK: Check = Check {
    code: "HG513",
    name: "log-silent",
    severity: Severity::High,
    summary: "the kernel counts denies that no log tells of",
    source: include_str!("log_silent.rs"),
    run: needs_time,
};
