//! # HG521 felix-ended
//!
//! ## What it checks
//! Felix's process, by a handle on it: the kernel tells the moment it ends.
//!
//! ## Why it matters
//! The rules stay as they were: they go on dropping, IP sets freeze, new peers stay out, and nobody repairs a flush. At its next
//! start Felix takes the failsafe lists that are on disk then.
//!
//! ## How to fix
//! See why it ended (`journalctl -u calico-felix`), compare `hepguard failsafe`, start it again.
//!
//! ## Limits
//! A restart by systemd ends the process, too; the alert is over as soon as the new one is seen.

use super::needs_time;
use crate::audit::check::Check;
use crate::audit::finding::Severity;

/// The check.
pub const CHECK: Check = Check {
    code: "HG521",
    name: "felix-ended",
    severity: Severity::High,
    summary: "Felix's process ended while its rules stay",
    source: include_str!("felix_ended.rs"),
    run: needs_time,
};
