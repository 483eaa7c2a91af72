//! # HG713 legacy-tables-may-go
//!
//! ## What it checks
//! Rules in legacy tables (x_tables) under a kernel before 6.17; from then on distributions may leave legacy x_tables
//! out.
//!
//! ## Why it matters
//! After the kernel's next upgrade `iptables-legacy-restore` finds no tables: what was saved there is not loaded, and
//! Felix with its legacy backend cannot write (cause F20). The host comes up open, or Felix ends in a loop.
//!
//! ## How to fix
//! Move to iptables-nft or nftables before: `update-alternatives --set iptables /usr/sbin/iptables-nft`, and
//! `FELIX_IPTABLESBACKEND=NFT`, with a console at hand.
//!
//! ## Limits
//! Rests on the kernel's version alone; the configuration of the next kernel is not looked at.

use serde_json::json;

use crate::audit::check::Check;
use crate::audit::context::{Context, rules};
use crate::audit::finding::{Bites, Finding, Severity};
use crate::ruleset::Backend;

/// The check.
pub const CHECK: Check = Check {
    code: "HG713",
    name: "legacy-tables-may-go",
    severity: Severity::Medium,
    summary: "rules are in legacy iptables tables, which newer kernels are built without",
    source: include_str!("legacy_kernel.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let Some(kernel) = context.snapshot.meta.kernel.as_deref() else { return Vec::new() };
    let mut numbers = kernel.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    // older ones have years before them; those after have made their choice already
    if !((6, 12)..(6, 17)).contains(&version) {
        return Vec::new();
    }
    let legacy = context.ruleset().tables.iter().filter(|table| table.backend == Backend::IptablesLegacy);
    let count: usize = legacy.clone().flat_map(|table| &table.chains).map(|chain| chain.rules.len()).sum();
    if count == 0 {
        return Vec::new();
    }
    let title =
        format!("{} are in legacy iptables tables, which kernels from 6.17 on may be built without", rules(count));
    let mut finding = Finding::new(check, json!({ "backend": "iptables-legacy" }), title).bites(Bites::Reboot);
    finding = finding.evidence("meta.json", format!("kernel {kernel}"));
    for table in legacy.take(2) {
        finding = finding.evidence(&*table.source, table.title());
    }
    vec![finding.fix(
        "move to iptables-nft before the kernel does: set the alternatives and FELIX_IPTABLESBACKEND=NFT together, with a \
         console at hand; not over SSH alone",
    )]
}
