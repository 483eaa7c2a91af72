//! # HG311 felix-cannot-save
//!
//! ## What it checks
//! Tables of iptables-nft that hold Felix's chains and rules which nft wrote itself: `iptables-nft-save` calls such a
//! table incompatible.
//!
//! ## Why it matters
//! Felix reads its tables with that tool before it writes. It fails, tries again, and ends in a loop: the rules in the
//! kernel stay as they are, new policy never arrives, and nobody sees it in the rules themselves (cause C21). VPN
//! clients that add native rules to `ip filter` are the usual guest.
//!
//! ## How to fix
//! Take the native rules out of the table (the evidence names it): let their owner use a table of its own, or iptables.
//!
//! ## Limits
//! Told by the listing of nft, or by the save tool's own words. Newer iptables tools print some native rules, so that
//! Felix may get by.

use serde_json::json;

use crate::audit::check::Check;
use crate::audit::context::{Context, uses_nf_tables};
use crate::audit::finding::{Bites, Finding, Severity};
use crate::packet::Family;
use crate::ruleset::Table;
use crate::snapshot::FileState;

/// The check.
pub const CHECK: Check = Check {
    code: "HG311",
    name: "felix-cannot-save",
    severity: Severity::High,
    summary: "rules of another owner in iptables' tables keep Felix from reading them: policy is frozen",
    source: include_str!("felix_blocked.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, state) in &context.snapshot.files.files {
        let FileState::Present(bytes) = state else { continue };
        if !name.contains("tables-nft-save") {
            continue;
        }
        let text = String::from_utf8_lossy(bytes);
        let line =
            text.lines().zip(1..).find(|(line, _)| line.starts_with("# Table `") && line.contains("is incompatible"));
        let Some((line, number)) = line else { continue };
        let table = line.split(['`', '\'']).nth(1).unwrap_or("?");
        let family = if name.starts_with("ip6") { Family::Ipv6 } else { Family::Ipv4 };
        let of_felix = |known: &&Table| {
            known.family == family
                && &*known.name == table
                && uses_nf_tables(known.backend) != Some(false)
                && known.has_felix_chains()
        };
        if !context.ruleset().tables.iter().any(|known| of_felix(&known)) {
            continue;
        }
        let subject = json!({ "family": family.name(), "table": table });
        let title =
            format!("native nft rules in {family} table {table} keep Felix from reading it: its policy is frozen");
        findings.push(
            Finding::new(check, subject, title)
                .bites(Bites::Now)
                .evidence(format!("{}:{number}", context.snapshot.files.label(name)), line)
                .fix(format!(
                    "find the native rules (`nft -a list table {} {table}`) and let their owner use a table of its own; safe over \
                     SSH when they do not admit your session",
                    if family == Family::Ipv6 { "ip6" } else { "ip" }
                )),
        );
    }
    findings
}
