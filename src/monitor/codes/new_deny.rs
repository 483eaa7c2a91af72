//! # HG511 new-deny
//!
//! ## What it checks
//! The kinds of denies in the followed logs: source, direction, tier, policy, rule, protocol and port. A kind that was not seen since
//! the first start, or within the kinds remembered, is new. During the first hour (`alerts.learn`) kinds are learnt only.
//!
//! ## Why it matters
//! A new kind is often the first trace of a change: a policy that grew, a service that moved, a peer with a new address. What the
//! host itself sends (egress) is graded higher, because it is something that was meant to work.
//!
//! ## How to fix
//! See who is denied with `hepguard denies`, and with `--suggest` the smallest Calico rule that would admit it. If the deny is
//! meant, there is nothing to do: the kind is known from now on.
//!
//! ## Limits
//! Of one policy and protocol 64 ports are told apart, then all others are one kind, so that a scan fills no memory. 4,096 kinds
//! are remembered; the one not seen for longest is forgotten first.

use super::needs_time;
use crate::audit::check::Check;
use crate::audit::finding::Severity;

/// The check.
pub const CHECK: Check = Check {
    code: "HG511",
    name: "new-deny",
    severity: Severity::Low,
    summary: "a kind of deny that was never seen before",
    source: include_str!("new_deny.rs"),
    run: needs_time,
};
