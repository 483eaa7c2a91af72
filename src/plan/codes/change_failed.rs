//! # HG255 plan-change-failed
//!
//! ## What it checks
//! The exit status of the command, or of the tool that loads the ruleset, in the private copy of this host's network; and
//! whether it had changed rules, sets, addresses or routes by then.
//!
//! ## Why it matters
//! A script that stops half-way leaves half a firewall, often the half with the default drop and without the accepts. An
//! `iptables-restore` file is loaded table by table: tables before the bad line are changed.
//!
//! ## How to fix
//! Repair the command or the file, and plan again. What the plan judges is the state that the failed change leaves behind.
//!
//! ## Limits
//! A command that needs a daemon of the host (firewalld over D-Bus, Docker, systemd) fails in the copy although it may work on
//! the host: plan the rules it would make instead.

use super::needs_a_change;
use crate::audit::check::Check;
use crate::audit::finding::Severity;

/// The check.
pub const CHECK: Check = Check {
    code: "HG255",
    name: "plan-change-failed",
    severity: Severity::High,
    summary: "a part of the change fails when it is made on a copy of the host",
    source: include_str!("change_failed.rs"),
    run: needs_a_change,
};
