//! # HG207 time-refused
//!
//! ## What it checks
//! The sources of chrony, ntpd and systemd-timesyncd, as new questions with their answers.
//!
//! ## Why it matters
//! The clock drifts for days before somebody notices: then one-time passwords and Kerberos tickets fail, TLS certificates are
//! not valid yet, and logs no longer sort (cause S06).
//!
//! ## How to fix
//! Allow UDP 123 to the sources; with NTS also TCP 4460, and the names they need.
//!
//! ## Limits
//! Sources known by name only are listed by `hepguard flows`. A source of a pool that is no longer used looks the same.

use crate::analysis::flows::FlowKind;
use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Bites, Finding, Severity};
use crate::audit::lost::refused;

/// The check.
pub const CHECK: Check = Check {
    code: "HG207",
    name: "time-refused",
    severity: Severity::Medium,
    summary: "a time source is refused",
    source: include_str!("time_refused.rs"),
    run,
};

const FIX: &str = "allow UDP 123 (TCP 4460 for NTS) to the source before the rule named above; safe over SSH";

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    refused(context, check, Bites::Renewal, |flow| flow.kind == FlowKind::Time, FIX)
}
