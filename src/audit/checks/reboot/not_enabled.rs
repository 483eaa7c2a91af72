//! # HG707 boot-rules-not-loaded
//!
//! ## What it checks
//! Save files and nftables files with rules whose unit is disabled, masked or not installed (`units/list.txt`).
//!
//! ## Why it matters
//! The file looks like the firewall and is not loaded: after the next boot the host is open until Felix is in sync, and
//! stays open where Felix polices nothing (cause F03 from its other side).
//!
//! ## How to fix
//! `systemctl enable netfilter-persistent` (or nftables), after a look at what the file would do: HG701 to HG706 judge
//! it then. Remove a file that is no longer meant.
//!
//! ## Limits
//! Only where the list of units was taken. A unit of your own that loads the file is not known.

use crate::analysis::reboot::ProblemKind;
use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Bites, Finding, Severity};

/// The check.
pub const CHECK: Check = Check {
    code: "HG707",
    name: "boot-rules-not-loaded",
    severity: Severity::High,
    summary: "rules are saved in a file whose unit does not start at boot",
    source: include_str!("not_enabled.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    super::of_file(context, check, ProblemKind::NotEnabled, |about, file| {
        format!("{file} has rules, and {about} does not start at boot: they are not loaded")
    })
    .into_iter()
    .map(|finding| finding.bites(Bites::Reboot).fix("enable the unit after a look at the file, or remove the file; enabling changes nothing before the next boot, so it is safe over SSH"))
    .collect()
}
