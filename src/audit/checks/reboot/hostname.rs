//! # HG702 boot-hostname
//!
//! ## What it checks
//! Save files that boot loads: sources and destinations that are host names instead of addresses.
//!
//! ## Why it matters
//! Rules are loaded before the network is up, so no name can be resolved. The restore fails and the table is not
//! loaded: what works today by `iptables-restore` at the prompt fails at boot (cause F19).
//!
//! ## How to fix
//! Write addresses. Where they change, keep them in an ipset that a timer fills.
//!
//! ## Limits
//! Names that `/etc/hosts` resolves do work; they are reported all the same, because the file may change.

use crate::analysis::reboot::ProblemKind;
use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Bites, Finding, Severity};

/// The check.
pub const CHECK: Check = Check {
    code: "HG702",
    name: "boot-hostname",
    severity: Severity::High,
    summary: "a saved ruleset names a host, which cannot be resolved at boot",
    source: include_str!("hostname.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    super::of_file(context, check, ProblemKind::Hostname, |about, file| {
        format!(
            "{file} names the host {about}, which cannot be resolved while rules are loaded: its table is not loaded"
        )
    })
    .into_iter()
    .map(|finding| {
        finding.bites(Bites::Reboot).fix("replace the name by its addresses; editing the file is safe over SSH")
    })
    .collect()
}
