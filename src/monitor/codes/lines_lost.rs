//! # HG515 log-lines-lost
//!
//! ## What it checks
//! Files that were truncated or replaced: whether what had not been read yet is found in a copy beside them.
//!
//! ## Why it matters
//! Denies among those lines are in no count, and nobody will be told of them.
//!
//! ## How to fix
//! Rotate by rename and a signal to the logger instead of `copytruncate`, and keep at least one old file uncompressed.
//!
//! ## Limits
//! How many lines were lost is not known. A file that is created and removed between two looks is not seen at all.

use super::needs_time;
use crate::audit::check::Check;
use crate::audit::finding::Severity;

/// The check.
pub const CHECK: Check = Check {
    code: "HG515",
    name: "log-lines-lost",
    severity: Severity::Medium,
    summary: "lines of a log were lost before they were read",
    source: include_str!("lines_lost.rs"),
    run: needs_time,
};
