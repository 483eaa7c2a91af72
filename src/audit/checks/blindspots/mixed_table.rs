//! # HG909 mixed-table
//!
//! ## What it checks
//! A table of iptables-nft (`filter`, `nat`, …) that also holds rules iptables cannot have written.
//!
//! ## Why it matters
//! `iptables-nft-save` prints such rules wrongly, with exit status 0: `ip saddr { 192.0.2.1, 192.0.2.2 } accept` becomes
//! `-A INPUT -j ACCEPT`. Others make it give up on the table or stop in its middle. Who saves the table that way and
//! restores it at boot opens the host, or fails to load anything. Felix stops working with tables it cannot list.
//!
//! ## How to fix
//! Move the rules named here into a table of their own (`nft add table inet site`), with a chain at the same hook. Until
//! then list and store the table with nft only.
//!
//! ## Limits
//! hepguard itself judges such rules by nft's listing. The first native rule of each table is named. Needs both listings.

use serde_json::json;

use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Bites, Finding, Severity};
use crate::ruleset::merge::NATIVE;

/// The check.
pub const CHECK: Check = Check {
    code: "HG909",
    name: "mixed-table",
    severity: Severity::Low,
    summary: "iptables lists a table wrongly because nft wrote rules into it",
    source: include_str!("mixed_table.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let mut findings = Vec::new();
    for table in &context.ruleset().tables {
        let Some(rule) = table.other.iter().find_map(|line| line.strip_prefix(NATIVE)) else { continue };
        let subject = json!({ "family": table.family.name(), "table": &*table.name });
        let (family, name) = (table.family.nft_name(), &table.name);
        let title = format!("iptables does not show what table {family} {name} really does: nft wrote rules into it");
        findings.push(
            Finding::new(check, subject, title).evidence(&*table.source, rule.trim_start()).bites(Bites::Reboot).fix(
                format!(
                    "move these rules to a table of their own; do not store `{name}` with iptables-save; nft shows it: \
                     `nft -a list table {family} {name}`"
                ),
            ),
        );
    }
    findings
}
