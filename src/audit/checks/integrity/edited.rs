//! # HG301 felix-rule-edited
//!
//! ## What it checks
//! The hash in each Felix rule's comment against the rule's own text and the rules before it.
//!
//! ## Why it matters
//! Somebody changed a rule and kept its comment: a policy or failsafe in the kernel is not the one Calico shows. Each hash
//! builds on the one before it, so from the edited rule on the rest of the chain cannot be proven either.
//!
//! ## How to fix
//! Felix rewrites the chain at its next refresh (180 s by default) when it runs. If the edit stays, Felix is not running or
//! stuck: look at its log. Then find out who edited: `iptables -R`, a restored dump, a script.
//!
//! ## Limits
//! A rule in a spelling of an unknown Felix version looks edited, too; then all chains of its kind are, and `bounded` says
//! that the original was not found.

use serde_json::json;

use crate::audit::check::Check;
use crate::audit::context::{Context, rules};
use crate::audit::finding::{Finding, Severity};
use crate::calico::integrity::{Mismatch, MismatchKind};

/// So many rules that do not fit, and whose original was not found, have one cause when most others do not fit either.
const MANY: usize = 5;

/// The check.
pub const CHECK: Check = Check {
    code: "HG301",
    name: "felix-rule-edited",
    severity: Severity::High,
    summary: "a rule carries Felix's hash, but its text is not what Felix wrote",
    source: include_str!("edited.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let integrity = context.integrity();
    let unproven: Vec<&Mismatch> =
        integrity.mismatches.iter().filter(|one| one.kind == MismatchKind::Edited && !one.proven).collect();
    // where hardly anything fits, one cause is likelier than many edits
    let strange = unproven.len() >= MANY && integrity.verified * 2 < integrity.rules;
    let mut findings = super::per_chain(
        context,
        check,
        |one| one.kind == MismatchKind::Edited && (one.proven || !strange),
        |count| format!("{} edited behind Felix's back", rules(count)),
        |mismatch| {
            format!(
                "wait for Felix's refresh (180 s) or restart Felix, then check `hepguard audit` again; {} is rewritten \
                 as a whole, which is safe over SSH when `hepguard failsafe` shows no removed entry",
                mismatch.chain
            )
        },
    );
    if strange {
        let title = format!(
            "{} of {} do not fit their hashes: edited, or written by a Felix in words hepguard does not know",
            rules(integrity.rules - integrity.verified),
            integrity.rules
        );
        let mut finding = Finding::new(check, json!({ "cause": "unknown spelling" }), title).bounded();
        for one in unproven.iter().take(5) {
            finding = finding.evidence(super::place(one), &*one.text);
        }
        findings.push(finding.severity(Severity::Medium).fix(
            "compare with a host of the same Felix version; if that one is alike, the version is the reason (worth a bug \
             report); else restart Felix, which writes its chains anew",
        ));
    }
    findings
}
