//! # HG910 rules-not-judged
//!
//! ## What it checks
//! Base chains whose rules could not be judged for whether they ever act (HG606 to HG609): the sets of packets are too large
//! for what an audit spends on them, the rules too many (4,000 in all tables), or a verdict map is not all known.
//!
//! ## Why it matters
//! No finding about shadowed rules of these chains is not a clean bill for them.
//!
//! ## How to fix
//! Nothing needs fixing for its own sake. `hepguard diff` and `hepguard reach` spend more and answer about packets.
//!
//! ## Limits
//! What is judged is judged whole: there is no half answer for a chain.

use serde_json::json;

use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Finding, Severity};

/// The check.
pub const CHECK: Check = Check {
    code: "HG910",
    name: "rules-not-judged",
    severity: Severity::Info,
    summary: "rules of some chains were not judged for whether they ever act",
    source: include_str!("rules_not_judged.rs"),
    run,
};

/// Chains shown of one table.
const SHOWN: usize = 4;

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let ruleset = context.ruleset();
    let tables = context.idle().unjudged.chunk_by(|one, next| one.place.table == next.place.table);
    let finding = |all: &[crate::analysis::rules::Unjudged]| {
        let first = all.first()?;
        let table = ruleset.tables.get(first.place.table)?;
        let subject = json!({ "backend": table.backend.name(), "family": table.family.name(), "table": &*table.name });
        let title = format!("whether rules of {} ever act was not judged, or not for all of them", table.title());
        let mut finding = Finding::new(check, subject, title);
        for one in all.iter().take(SHOWN) {
            let chain = table.chains.get(one.place.chain)?;
            finding = finding.evidence(format!("{} {} ({})", table.title(), chain.name, one.family), &*one.why);
        }
        Some(finding.fix("nothing to do; findings about rules that never act leave these chains out"))
    };
    tables.filter_map(finding).collect()
}
