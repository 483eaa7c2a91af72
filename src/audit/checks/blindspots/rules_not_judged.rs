//! # HG910 rules-not-judged
//!
//! ## What it checks
//! Base chains whose rules could not be judged for whether they ever act (HG606 to HG609): the sets of packets are too large
//! for what an audit spends on them, or a verdict map is not all known.
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

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let ruleset = context.ruleset();
    let unjudged = context.idle().unjudged.iter().filter_map(|one| {
        let table = ruleset.tables.get(one.place.table)?;
        let chain = table.chains.get(one.place.chain)?;
        let subject = json!({
            "backend": table.backend.name(),
            "family": one.family.name(),
            "table": &*table.name,
            "chain": &*chain.name,
        });
        let title = format!(
            "whether the rules behind {} {} ever act was not judged ({})",
            table.title(),
            chain.name,
            one.family
        );
        let finding =
            Finding::new(check, subject, title).evidence(format!("{} {}", table.title(), chain.name), &*one.why);
        Some(finding.fix("nothing to do; findings about rules that never act leave these chains out"))
    });
    unjudged.collect()
}
