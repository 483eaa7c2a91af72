//! # HG501 unlimited-logging
//!
//! ## What it checks
//! Rules that log to the kernel's log (LOG, nft `log` without a group) and have no rate limit, in chains that packets
//! from outside reach.
//!
//! ## Why it matters
//! Anybody can make the host write: a port scan fills the disk, the journal drops lines of its own, among them the ones
//! that matter, and a slow console stops the machine (cause S18).
//!
//! ## How to fix
//! Put a limit into the rule (`-m limit --limit 10/second --limit-burst 50`), or log to a group (NFLOG) that a daemon
//! reads. Calico's `action: Log` has no limit of its own: use flow logs.
//!
//! ## Limits
//! NFLOG costs much less and does not count. Whether a log daemon limits by itself is not known.

use serde_json::json;

use crate::audit::check::Check;
use crate::audit::context::{Context, place_text};
use crate::audit::finding::{Bites, Finding, Severity};
use crate::ruleset::{Effect, Step};

/// The check.
pub const CHECK: Check = Check {
    code: "HG501",
    name: "unlimited-logging",
    severity: Severity::Medium,
    summary: "rules write to the kernel log without a limit: a flood of packets becomes a flood of log",
    source: include_str!("unlimited_log.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let mut found: Vec<(String, String)> = Vec::new();
    let mut count = 0_usize;
    for table in &context.ruleset().tables {
        for chain in &table.chains {
            for (number, rule) in chain.rules.iter().enumerate() {
                let logs = rule.steps.iter().any(|step| matches!(step, Step::Effect(Effect::Log { group: None, .. })));
                // both tools' words for a limit
                let is_limit = |word| ["limit", "hashlimit", "recent"].contains(&word);
                if logs && !rule.text.split_whitespace().any(is_limit) {
                    count += 1;
                    if found.len() < 4 {
                        found.push((place_text(table, chain, number), rule.text.to_string()));
                    }
                }
            }
        }
    }
    if count == 0 {
        return Vec::new();
    }
    let title = format!(
        "{} to the kernel log without a limit",
        if count == 1 { "1 rule writes".to_owned() } else { format!("{count} rules write") }
    );
    let mut finding = Finding::new(check, json!({ "log": "kernel" }), title).bites(Bites::Now);
    for (place, text) in found {
        finding = finding.evidence(place, text);
    }
    vec![finding.fix("put a limit into the rule (`-m limit --limit 10/second`), or log by NFLOG; safe over SSH")]
}
