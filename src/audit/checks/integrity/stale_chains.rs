//! # HG305 stale-chains
//!
//! ## What it checks
//! Felix chains in the kernel that no running Felix keeps: no Felix process was found, or Felix chains exist in two
//! backends, of which Felix keeps one.
//!
//! ## Why it matters
//! Felix never removes its rules when it stops or is uninstalled: they keep dropping until reboot, and nobody repairs or
//! updates them. IP sets freeze, new peers stay out, policy changes have no effect. After the reboot there is nothing:
//! the host is open, or closed by whatever another tool left behind.
//!
//! ## How to fix
//! Start Felix again (`systemctl status calico` tells why it stopped; a malformed failsafe entry is a usual reason, see
//! HG106). If Calico is gone for good, remove its chains in a maintenance window with console access.
//!
//! ## Limits
//! Needs to know whether Felix runs: in a snapshot without `felix/environ` nothing is said about the process.

use serde_json::json;

use crate::audit::check::Check;
use crate::audit::context::{Context, rules, uses_nf_tables};
use crate::audit::finding::{Bites, Finding, Severity};
use crate::packet::Family;
use crate::ruleset::Table;
use crate::snapshot::FileState;

/// The check.
pub const CHECK: Check = Check {
    code: "HG305",
    name: "stale-chains",
    severity: Severity::High,
    summary: "Felix chains are in the kernel that no running Felix keeps",
    source: include_str!("stale_chains.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let felix: Vec<&Table> = context
        .ruleset()
        .tables
        .iter()
        .filter(|table| table.has_felix_chains() && table.chains.iter().any(|chain| !chain.rules.is_empty()))
        .collect();
    let mut findings = Vec::new();
    if !felix.is_empty() && context.file("felix/environ") == Some(&FileState::Absent) {
        let finding = Finding::new(
            check,
            json!({ "felix": "not running" }),
            "Felix is not running; its chains stay in the kernel as they were",
        )
        .bites(Bites::Reboot)
        .fix(
            "start Felix (`systemctl status calico`, then `systemctl start calico`); its rules do not change until it is \
             in sync, so this is safe over SSH when `hepguard failsafe` shows no removed entry",
        );
        findings.push(with_tables(finding, &felix));
    }
    for family in [Family::Ipv4, Family::Ipv6] {
        let of = |nf: bool| {
            let felix = &felix;
            felix.iter().copied().filter(move |t| t.family == family && uses_nf_tables(t.backend) == Some(nf))
        };
        if of(false).next().is_some() && of(true).next().is_some() {
            let finding = Finding::new(
                check,
                json!({ "family": family.name(), "felix": "two backends" }),
                format!("Felix chains for {family} are in both iptables-legacy and nf_tables; one of them is stale"),
            )
            .fix(
                "find the backend Felix writes now (its log says which at start); remove the other's `cali-` jumps from \
                 the kernel chains, first those that can drop; keep a console at hand",
            );
            let both: Vec<&Table> = of(false).chain(of(true)).collect();
            findings.push(with_tables(finding, &both));
        }
    }
    findings
}

fn with_tables(mut finding: Finding, tables: &[&Table]) -> Finding {
    for table in tables {
        let count = table.chains.iter().map(|chain| chain.rules.len()).sum();
        finding = finding.evidence(&*table.source, format!("{}: {}", table.title(), rules(count)));
    }
    finding
}
