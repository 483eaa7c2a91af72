//! # HG512 deny-burst
//!
//! ## What it checks
//! How many denies of each kind are read within a minute, against `alerts.burst`.
//!
//! ## Why it matters
//! A burst is a scan, a client that retries for ever, or a policy that just cut something off that many need.
//!
//! ## How to fix
//! See who it is with `hepguard denies --histogram --group-by src_ip`. If it is a scan, there is nothing to do here.
//!
//! ## Limits
//! Felix reports denies in intervals and by connection, not by packet, so a burst may come late and be larger than its lines.

use super::needs_time;
use crate::audit::check::Check;
use crate::audit::finding::Severity;

/// The check.
pub const CHECK: Check = Check {
    code: "HG512",
    name: "deny-burst",
    severity: Severity::Medium,
    summary: "many denies of one kind within a minute",
    source: include_str!("deny_burst.rs"),
    run: needs_time,
};
