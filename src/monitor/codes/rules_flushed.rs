//! # HG520 felix-rules-flushed
//!
//! ## What it checks
//! After each change: how many rules Felix's chains have, and for nf_tables which process changed them. Rules that Felix itself
//! replaces are back in the same step.
//!
//! ## Why it matters
//! Until Felix puts them back the host is open where policy denied, and failsafes are gone where another policy drops. Felix checks
//! every 90 seconds by default, and never when it does not run.
//!
//! ## How to fix
//! Find the tool (its name is in the title for nf_tables) and stop it from flushing tables: `iptables-restore --noflush`, and no `nft
//! flush ruleset` in scripts. A restart of Felix restores its rules at once; compare `hepguard failsafe` first.
//!
//! ## Limits
//! Who changed legacy tables is not known: the kernel does not tell. A writer that ends at once may leave only its name.

use super::needs_time;
use crate::audit::check::Check;
use crate::audit::finding::Severity;

/// The check.
pub const CHECK: Check = Check {
    code: "HG520",
    name: "felix-rules-flushed",
    severity: Severity::High,
    summary: "somebody else took rules of Felix away",
    source: include_str!("rules_flushed.rs"),
    run: needs_time,
};
