//! # HG527 change-flood
//!
//! ## What it checks
//! How many changes of the firewall come within a minute: more than 600 are a flood.
//!
//! ## Why it matters
//! Each change is judged as long as there is time for it. In a flood only the state after several of them is, and two tools
//! that undo each other's work look just like this.
//!
//! ## How to fix
//! See who changes rules with `hepguard status` or `nft monitor`, and stop one of the two.
//!
//! ## Limits
//! Only changes of nf_tables are told one by one; those of legacy tables and IP sets are not counted here.

use super::needs_time;
use crate::audit::check::Check;
use crate::audit::finding::Severity;

/// The check.
pub const CHECK: Check = Check {
    code: "HG527",
    name: "change-flood",
    severity: Severity::Medium,
    summary: "the firewall changes so often that single changes are not judged",
    source: include_str!("change_flood.rs"),
    run: needs_time,
};
