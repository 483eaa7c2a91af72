//! # HG908 set-not-listed
//!
//! ## What it checks
//! Sets and maps whose members are not all known: too large to be listed (nft needs minutes for a million), listed without
//! contents (`nft -t`), or with members that could not be read.
//!
//! ## Why it matters
//! Whether a packet meets a rule that asks such a set is *unknown* unless a member that is known matches.
//!
//! ## How to fix
//! `nft list set FAMILY TABLE NAME` lists one set; added behind `nft-ruleset.json` of a snapshot it is read. Large lists
//! of addresses belong into an ipset or into a set with `flags interval` and aggregated networks.
//!
//! ## Limits
//! nft sets above 200,000 elements (as the kernel counts, both ends of an interval) are not expanded.

use serde_json::json;

use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Finding, Severity};
use crate::ruleset::Set;

/// The check.
pub const CHECK: Check = Check {
    code: "HG908",
    name: "set-not-listed",
    severity: Severity::Low,
    summary: "not all members of a set are known",
    source: include_str!("set_not_listed.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let ruleset = context.ruleset();
    let of_tables = ruleset.tables.iter().flat_map(|table| table.sets.iter().map(move |set| (Some(table), set)));
    let all = of_tables.chain(ruleset.ipsets.iter().map(|set| (None, set)));
    let incomplete = |set: &Set| set.incomplete.is_some();
    all.filter(|(_, set)| incomplete(set))
        .map(|(table, set)| {
            let place = table.map_or_else(|| "ipset".to_owned(), |table| format!("set of {}", table.title()));
            let why = set.incomplete.as_deref().unwrap_or_default();
            let subject = json!({
                "table": table.map(|table| &*table.name),
                "family": table.map(|table| table.family.name()),
                "set": &*set.name,
            });
            let holds = context.snapshot.authors.of_set(&set.name);
            let holds = holds.map(|selector| format!(" ({selector})")).unwrap_or_default();
            Finding::new(check, subject, format!("members of the {place} {}{holds} are not all known", set.name))
                .evidence(&*set.source, why)
                .fix("nothing to do unless an answer says *unknown* because of this set; then list it by itself")
        })
        .collect()
}
