//! # HG514 log-unreadable
//!
//! ## What it checks
//! Each file of `logs.files` and the journal: whether it can be opened, read on, and is still where it was.
//!
//! ## Why it matters
//! Denies written meanwhile are not seen at once. They are read later if the file is there then.
//!
//! ## How to fix
//! Check that the folder and file exist and that the daemon's group may read them. It is tried again by itself.
//!
//! ## Limits
//! A file that is missing because its logger writes nothing looks the same; name in `logs.files` only what this host writes.

use super::needs_time;
use crate::audit::check::Check;
use crate::audit::finding::Severity;

/// The check.
pub const CHECK: Check = Check {
    code: "HG514",
    name: "log-unreadable",
    severity: Severity::High,
    summary: "a log that is to be followed cannot be read",
    source: include_str!("log_unreadable.rs"),
    run: needs_time,
};
