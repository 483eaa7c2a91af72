//! # HG905 rules-withheld
//!
//! ## What it checks
//! Rules written by iptables-nft that are known only from nft's JSON, which gives the name of each xtables match and target
//! and nothing of what it asks: no set, no port, no comment.
//!
//! ## Why it matters
//! Felix's hashes, policy names, IP sets and failsafe ports are all in the part that is withheld. An audit of such a listing
//! sees chains and jumps, and can neither prove nor judge them.
//!
//! ## How to fix
//! Add `iptables-nft-save -c` and `ip6tables-nft-save -c` to the snapshot folder, or run the audit as root on the host. Where
//! they are there, their rules did not fit nft's: take the snapshot again while nothing writes rules.
//!
//! ## Limits
//! Nothing is said about what the rules do; answers that need them are *unknown*.

use serde_json::json;

use crate::audit::check::Check;
use crate::audit::context::{Context, place_text, rules};
use crate::audit::finding::{Finding, Severity};
use crate::ruleset::Rule;

/// The check.
pub const CHECK: Check = Check {
    code: "HG905",
    name: "rules-withheld",
    severity: Severity::Medium,
    summary: "nft's listing withholds what iptables-nft rules ask",
    source: include_str!("rules_withheld.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let mut findings = Vec::new();
    for table in &context.ruleset().tables {
        let withheld = |rule: &&Rule| rule.is_withheld();
        let count = table.chains.iter().flat_map(|chain| &chain.rules).filter(withheld).count();
        if count == 0 {
            continue;
        }
        let subject = json!({ "family": table.family.name(), "table": &*table.name });
        let title = format!("{} of {} are withheld by nft's listing", rules(count), table.title());
        let mut finding = Finding::new(check, subject, title);
        for chain in &table.chains {
            if let Some(rule) = chain.rules.iter().position(Rule::is_withheld).filter(|_| finding.evidence.len() < 3) {
                let text = chain.rules.get(rule).map(|rule| &*rule.text).unwrap_or_default();
                finding = finding.evidence(place_text(table, chain, rule), text);
            }
        }
        findings.push(finding.fix(
            "add `iptables-nft-save -c` as iptables-nft-save.txt (and the ip6tables twin) to the snapshot folder, or run \
             as root on the host",
        ));
    }
    findings
}
