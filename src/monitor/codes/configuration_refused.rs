//! # HG526 configuration-refused
//!
//! ## What it checks
//! The configuration file at each reload (`systemctl reload hepguard`): whether it can be read and used.
//!
//! ## Why it matters
//! The daemon goes on with the configuration it had, so what was meant to change did not.
//!
//! ## How to fix
//! Correct it, check with `hepguard config check`, then `systemctl reload hepguard`.
//!
//! ## Limits
//! Outlets that moved keep their old place until the reload succeeds.

use super::needs_time;
use crate::audit::check::Check;
use crate::audit::finding::Severity;

/// The check.
pub const CHECK: Check = Check {
    code: "HG526",
    name: "configuration-refused",
    severity: Severity::Medium,
    summary: "the configuration to be read anew holds a mistake",
    source: include_str!("configuration_refused.rs"),
    run: needs_time,
};
