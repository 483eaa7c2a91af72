//! # HG525 notices-missing
//!
//! ## What it checks
//! Whether the daemon may listen to nf_tables, links, the xtables lock, programs and configuration files.
//!
//! ## Why it matters
//! Without notices a change is found at the next comparison, up to `audit.compare-every` later.
//!
//! ## How to fix
//! Give the unit the capability its comments name. In a container mount what is missing.
//!
//! ## Limits
//! Legacy tables and IP sets have no notices of the kernel at all; their tools are watched instead.

use super::needs_time;
use crate::audit::check::Check;
use crate::audit::finding::Severity;

/// The check.
pub const CHECK: Check = Check {
    code: "HG525",
    name: "notices-missing",
    severity: Severity::Medium,
    summary: "changes are noticed late, because a source of notices cannot be had",
    source: include_str!("notices_missing.rs"),
    run: needs_time,
};
