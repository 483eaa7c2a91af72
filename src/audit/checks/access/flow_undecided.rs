//! # HG203 flow-undecided
//!
//! ## What it checks
//! Flows that must work and whose fate hangs on something hepguard cannot decide.
//!
//! ## Why it matters
//! An audit that stays silent about such a flow would look like "it works". It may, or it may not.
//!
//! ## How to fix
//! Look at the rules named in the evidence. Where a rate limit is the reason, the flow works until the limit is reached.
//!
//! ## Limits
//! Only flows of the inventory are judged; `hepguard trace` answers for any other packet.

use serde_json::json;

use crate::analysis::conversation::Outcome;
use crate::audit::check::Check;
use crate::audit::context::{Context, place_text};
use crate::audit::finding::{Finding, Severity};
use crate::audit::judged::Reason;

/// The check.
pub const CHECK: Check = Check {
    code: "HG203",
    name: "flow-undecided",
    severity: Severity::Low,
    summary: "whether a flow that must work is admitted cannot be decided",
    source: include_str!("flow_undecided.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let mut findings = Vec::new();
    for judged in context.judged.iter().filter(|judged| judged.now.outcome == Outcome::Unknown) {
        let (Reason::Flow(flow), Some(open)) = (&judged.reason, judged.now.decisive()) else { continue };
        let may: Vec<&str> = open.trace.may.iter().map(|verdict| verdict.name()).collect();
        // the first packet goes without saying
        let first = judged.now.exchanges.first().is_some_and(|first| first.name == open.name);
        let what = if first { String::new() } else { format!("the {} ", open.name) };
        let title = format!("{}: {what}cannot be decided (may be {})", flow.name, may.join(" or "));
        let mut finding = Finding::new(check, json!({ "flow": flow.name }), title).bounded().witness(judged.witness());
        for undecided in open.trace.because.iter().take(3) {
            let place = undecided.rule.and_then(|place| {
                let table = context.ruleset().tables.get(place.table)?;
                Some(place_text(table, table.chains.get(place.chain)?, place.rule))
            });
            finding = finding.evidence(place.unwrap_or_else(|| "path".to_owned()), &*undecided.reason);
        }
        findings.push(finding.fix("look at the rules named above; `hepguard trace -v` shows the packet's whole way"));
    }
    findings
}
