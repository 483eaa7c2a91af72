//! # HG522 look-failed
//!
//! ## What it checks
//! Whether each look at the host comes to an end within `audit.timeout` and gives an answer.
//!
//! ## Why it matters
//! While looks fail no change is judged, and a lockout that somebody prepares just now is not foretold.
//!
//! ## How to fix
//! Run `hepguard audit -v` as root to see what fails. Very large rulesets need a larger `audit.timeout`.
//!
//! ## Limits
//! A look that succeeds and could not read a part is not this finding; the audit names that part.

use super::needs_time;
use crate::audit::check::Check;
use crate::audit::finding::Severity;

/// The check.
pub const CHECK: Check = Check {
    code: "HG522",
    name: "look-failed",
    severity: Severity::High,
    summary: "the firewall could not be looked at",
    source: include_str!("not_looked.rs"),
    run: needs_time,
};
