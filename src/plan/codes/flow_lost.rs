//! # HG251 plan-flow-lost
//!
//! ## What it checks
//! Every flow of the inventory (`hepguard flows`), as a whole conversation, before the change and after it: established
//! sessions as they are, new connections, and new connections after the next restart of Felix.
//!
//! ## Why it matters
//! This is the lockout, seen before it happens. Most losses are not noticed at once, because established sessions go on: the
//! finding says when this one is.
//!
//! ## How to fix
//! Do not apply the change. Admit the flow before the rule named in the evidence, or keep the failsafe entry that holds it, and
//! plan again. Keep an open session until a new connection has proved itself.
//!
//! ## Limits
//! A flow that nothing on the host points to is not in the inventory; name it in a `[[protect]]` entry. Firewalls outside the
//! host are not seen.

use super::needs_a_change;
use crate::audit::check::Check;
use crate::audit::finding::Severity;

/// The check.
pub const CHECK: Check = Check {
    code: "HG251",
    name: "plan-flow-lost",
    severity: Severity::High,
    summary: "a protected flow works now and is refused after the change",
    source: include_str!("flow_lost.rs"),
    run: needs_a_change,
};
