//! # HG906 listings-disagree
//!
//! ## What it checks
//! Tables of nf_tables of which two looks tell different things: nft's listing and the save listing of iptables-nft, nft's
//! listing and the kernel's own count of tables, chains and rules (`nft-kernel.json`), or a flag that nft before 1.1.0 prints
//! as garbage.
//!
//! ## Why it matters
//! `nft -j` omits chains it cannot print and dies of others, `iptables-nft-save` stops in the middle of a table, both with
//! little or no complaint. Rules that a listing leaves out still decide about packets.
//!
//! ## How to fix
//! List the table by other means: `nft list table FAMILY NAME`, a newer nft, `iptables-nft-save`. Where rules were written
//! at the same time, run the audit again.
//!
//! ## Limits
//! The kernel's count is in snapshots hepguard takes; in one made by hand only the two listings can be held against each
//! other. What the rules do that were left out is not known: answers that depend on them are *unknown*.

use serde_json::json;

use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Finding, Severity};

/// The check.
pub const CHECK: Check = Check {
    code: "HG906",
    name: "listings-disagree",
    severity: Severity::Medium,
    summary: "listings of a table contradict each other or the kernel's count",
    source: include_str!("listings_disagree.rs"),
    run,
};

/// Contradictions told of one table.
const MAX_TOLD: usize = 5;

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let mut findings = Vec::new();
    for table in &context.ruleset().tables {
        let count = table.disagreements().count();
        if count == 0 {
            continue;
        }
        let subject = json!({ "family": table.family.name(), "table": &*table.name });
        let mut finding = Finding::new(check, subject, format!("listings of {} contradict each other", table.title()));
        for how in table.disagreements().take(MAX_TOLD) {
            finding = finding.evidence(&*table.source, how);
        }
        if count > MAX_TOLD {
            finding = finding.evidence(&*table.source, format!("and {} more", count - MAX_TOLD));
        }
        let (family, name) = (table.family.nft_name(), &table.name);
        findings.push(finding.fix(format!(
            "look at it with `nft list table {family} {name}` or a newer nft, and run the audit again; safe over SSH"
        )));
    }
    findings
}
