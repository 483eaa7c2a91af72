//! HG3xx: what is in the kernel is not what Felix wrote, or not only that.

pub mod dnat_twice;
pub mod edited;
pub mod foreign;
pub mod icmp_code;
pub mod missing;
pub mod reordered;
pub mod rules_ahead_of_felix;
pub mod stale_chains;
pub mod two_backends_live;

use std::collections::BTreeMap;

use serde_json::json;

use crate::audit::check::Check;
use crate::audit::context::{Context, rules};
use crate::audit::finding::Finding;
use crate::calico::integrity::{Mismatch, MismatchKind};
use crate::ruleset::RuleRef;

/// One finding a chain that has `wanted` mismatches. `what` says in the title what happened to so many rules.
fn per_chain(
    context: &Context<'_>,
    check: &Check,
    wanted: impl Fn(&Mismatch) -> bool,
    what: impl Fn(usize) -> String,
    fix: impl Fn(&Mismatch) -> String,
) -> Vec<Finding> {
    let mut chains: BTreeMap<(usize, usize), Vec<&Mismatch>> = BTreeMap::new();
    for mismatch in &context.integrity().mismatches {
        let RuleRef { table, chain, .. } = mismatch.place;
        chains.entry((table, chain)).or_default().push(mismatch);
    }
    let mut findings = Vec::new();
    for mismatches in chains.values() {
        let told: Vec<&Mismatch> = mismatches.iter().copied().filter(|mismatch| wanted(mismatch)).collect();
        let Some(first) = told.first() else { continue };
        let table = if &*first.table == "?" { String::new() } else { format!("{} ", first.table) };
        let title = format!("{table}{} ({}): {}", first.chain, first.family, what(told.len()));
        let subject = json!({
            "backend": first.backend.name(),
            "family": first.family.name(),
            "table": &*first.table,
            "chain": &*first.chain,
        });
        let mut finding = Finding::new(check, subject, title).fix(fix(first));
        for mismatch in told.iter().take(3) {
            let place = place(mismatch);
            let wrote = match &mismatch.expected {
                Some(expected) if mismatch.proven => format!("; Felix wrote: {expected}"),
                Some(expected) => format!("; Felix probably wrote: {expected}"),
                None => String::new(),
            };
            finding = finding.evidence(place, format!("{}{wrote}", mismatch.text));
        }
        let later = mismatches.iter().filter(|mismatch| mismatch.kind == MismatchKind::Follows).count();
        if later > 0 {
            let which = format!("{table}{}", first.chain);
            finding = finding.evidence(which, format!("{} after it cannot be proven from their hashes", rules(later)));
        }
        let sure = told.iter().all(|mismatch| mismatch.proven || mismatch.kind == MismatchKind::Foreign);
        findings.push(if sure { finding } else { finding.bounded() });
    }
    findings
}

/// Where the rule stands: `iptables-legacy filter cali-INPUT rule 3`.
fn place(mismatch: &Mismatch) -> String {
    // a fragment of a listing does not say which table it is of
    let table = if &*mismatch.table == "?" { String::new() } else { format!("{} ", mismatch.table) };
    format!("{} {table}{} rule {}", mismatch.backend.name(), mismatch.chain, mismatch.rule)
}
pub mod endpoint_address;
pub mod endpoint_interface;
pub mod felix_blocked;
pub mod refused_elsewhere;
