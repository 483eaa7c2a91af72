//! # HG704 boot-flush-ruleset
//!
//! ## What it checks
//! Whether nftables.service starts at boot with a file that begins with `flush ruleset`, while the kernel holds chains
//! of others in nf_tables (Felix in nftables or iptables-nft mode, Docker, kube-proxy, ufw).
//!
//! ## Why it matters
//! Every start and reload of the unit, also by a package upgrade, removes everybody's rules, and stopping it does, too.
//! Felix notices at its next refresh, up to three minutes later; until then the host is open, or closed by what the
//! file says (cause F11).
//!
//! ## How to fix
//! Let the file remove its own tables only (`table inet mine; delete table inet mine`), and take `flush ruleset` out.
//! Mask the unit when its file holds nothing.
//!
//! ## Limits
//! Legacy iptables tables are not touched by nft; then this stays silent.

use serde_json::json;

use crate::analysis::reboot::{ProblemKind, starts_at_boot};
use crate::audit::check::Check;
use crate::audit::context::{Context, uses_nf_tables};
use crate::audit::finding::{Bites, Finding, Severity};
use crate::ruleset::Table;

/// The check.
pub const CHECK: Check = Check {
    code: "HG704",
    name: "boot-flush-ruleset",
    severity: Severity::High,
    summary: "nftables.service empties the whole ruleset, Felix's and others' chains with it",
    source: include_str!("flush.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let starts = starts_at_boot(&context.snapshot.files, "nftables.service");
    let others: Vec<&Table> = context
        .ruleset()
        .tables
        .iter()
        .filter(|table| {
            uses_nf_tables(table.backend) == Some(true) && table.chains.iter().any(|chain| !chain.rules.is_empty())
        })
        .filter(|table| table.has_felix_chains() || table.chains.iter().any(|chain| is_of_daemon(&chain.name)))
        .collect();
    if others.is_empty() || starts == Some(false) {
        return Vec::new();
    }
    let flushes = context.boot.problems.iter().filter(|problem| problem.kind == ProblemKind::FlushRuleset);
    let finding = |problem: &crate::analysis::reboot::Problem| {
        let title = format!(
            "{} begins with flush ruleset: each start or reload of nftables.service removes all rules",
            problem.file
        );
        let mut finding = Finding::new(check, json!({ "file": problem.file }), title).bites(Bites::Reboot);
        if starts.is_none() {
            // nobody said whether the unit is on
            finding = finding.severity(Severity::Low).bounded();
        }
        finding = finding.evidence(format!("{}:{}", problem.file, problem.line), &problem.text);
        for table in others.iter().take(3) {
            finding = finding.evidence(&*table.source, format!("{} would be emptied", table.title()));
        }
        finding.fix(
            "replace `flush ruleset` by the deletion of the file's own tables, or `systemctl mask nftables`; do not reload the \
             unit over SSH before that",
        )
    };
    flushes.map(finding).collect()
}

fn is_of_daemon(chain: &str) -> bool {
    ["KUBE-", "DOCKER", "ufw-", "f2b-", "CNI-"].iter().any(|start| chain.starts_with(start))
}
