//! # HG611 rule-redundant
//!
//! ## What it checks
//! Rules that are hit and may as well not be there: later rules of the same chain do the same (accept, drop, or the same
//! reject) with every packet that hits them, with nothing different in between. Those later rules are named.
//!
//! ## Why it matters
//! Nothing is wrong. But whoever later changes the wider rule believes it to be the only one, and whoever deletes the narrow one
//! believes that something changes.
//!
//! ## How to fix
//! Delete the rule, or leave it where it is there for its counter or to spare the common packets a longer walk.
//!
//! ## Limits
//! Only later rules of the same chain count, not the chain's policy: a last `DROP` above the policy `DROP` is good practice. Rules
//! that log, count for others or go by a rate are left out, as are those that Felix and other generators write, and replies of
//! known connections: accepting them early is for speed.

use serde_json::json;

use crate::audit::check::Check;
use crate::audit::context::{Context, rules};
use crate::audit::finding::{Finding, Severity};

/// The check.
pub const CHECK: Check = Check {
    code: "HG611",
    name: "rule-redundant",
    severity: Severity::Info,
    summary: "later rules do the same: taking a rule away changes nothing",
    source: include_str!("redundant.rs"),
    run,
};

/// Rules shown of one chain.
const SHOWN: usize = 5;

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let ruleset = context.ruleset();
    let all = &context.idle().redundant;
    let chains = all.chunk_by(|one, next| one.author == next.author);
    let finding = |all: &[crate::audit::idle::IdleRule]| {
        let first = all.first()?;
        let crate::audit::idle::Author::Chain(place) = &first.author else { return None };
        let table = ruleset.tables.get(place.table)?;
        let chain = table.chains.get(place.chain)?;
        let author = first.author.words(ruleset);
        let says = format!("{} changes nothing: {} would do the same", first.called, first.because());
        let title = match all.len() {
            1 => format!("{author}: {says}"),
            count => format!("{author}: {} could go; {says}", rules(count)),
        };
        let subject = json!({
            "backend": table.backend.name(),
            "family": table.family.name(),
            "table": &*table.name,
            "chain": &*chain.name,
        });
        let mut finding = Finding::new(check, subject, title);
        for (source, text) in all.iter().take(SHOWN).flat_map(|rule| rule.evidence(ruleset, "later", 2)) {
            finding = finding.evidence(source, text);
        }
        Some(finding.fix("nothing has to be done; deleting the rule changes no verdict, over SSH neither"))
    };
    chains.filter_map(finding).collect()
}
