//! # HG510 failsafe-port-denied
//!
//! ## What it checks
//! Every deny in the followed logs against the failsafe lists that are in the kernel: a TCP, UDP or SCTP port of the list of its
//! direction, for any peer.
//!
//! ## Why it matters
//! Failsafe rules come before policy, so such a deny means that something else decides: a rule ahead of Felix, a list that was
//! trimmed a moment ago, or a deny of a tier that failsafes do not reach. The next one may be the administrator's own session.
//!
//! ## How to fix
//! Compare the lists with `hepguard failsafe`, and find the rule with `hepguard trace` and the addresses of the example line. Keep an
//! open session until a new connection has proved itself.
//!
//! ## Limits
//! Entries for some networks only are not looked at. Lists are those of the last look, so a deny in the moment of a change may be
//! judged by the older list.

use super::needs_time;
use crate::audit::check::Check;
use crate::audit::finding::Severity;

/// The check.
pub const CHECK: Check = Check {
    code: "HG510",
    name: "failsafe-port-denied",
    severity: Severity::High,
    summary: "a port of the failsafe list is denied",
    source: include_str!("failsafe_denied.rs"),
    run: needs_time,
};
