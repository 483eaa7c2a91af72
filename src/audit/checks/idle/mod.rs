//! HG606 to HG609 and HG611: rules that do nothing.

pub mod accept_overruled;
pub mod deny_overruled;
pub mod never_hit;
pub mod redundant;
pub mod shadowed;

use serde_json::{Value, json};

use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::Finding;
use crate::audit::idle::{Author, Fault, IdleRule};
use crate::ruleset::Ruleset;

/// Rules shown of one author.
const SHOWN: usize = 5;
/// Causes shown of each.
const CAUSES: usize = 3;

/// A finding for every author of rules with this fault. `what` says what they are (`denies`), `says` what is wrong with one.
fn report(
    context: &Context<'_>,
    check: &Check,
    fault: Fault,
    what: &str,
    says: fn(&IdleRule) -> String,
) -> Vec<Finding> {
    let ruleset = context.ruleset();
    let rules: Vec<&IdleRule> = context.idle().rules.iter().filter(|rule| rule.fault == fault).collect();
    let authors = rules.chunk_by(|one, next| one.author == next.author);
    authors.filter_map(|all| finding(ruleset, check, all, what, says)).collect()
}

fn finding(
    ruleset: &Ruleset,
    check: &Check,
    all: &[&IdleRule],
    what: &str,
    says: fn(&IdleRule) -> String,
) -> Option<Finding> {
    let first = all.first()?;
    let author = first.author.words(ruleset);
    let title = match all.len() {
        1 => format!("{author}: {}", says(first)),
        count => format!("{author}: {count} {what} do nothing; {}", says(first)),
    };
    let mut finding = Finding::new(check, subject(ruleset, &first.author), title);
    for (source, text) in all.iter().take(SHOWN).flat_map(|rule| rule.evidence(ruleset, "first", CAUSES)) {
        finding = finding.evidence(source, text);
    }
    if let Some(more) = all.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        finding = finding.evidence(author, format!("{more} more"));
    }
    Some(finding)
}

fn subject(ruleset: &Ruleset, author: &Author) -> Value {
    match author {
        Author::Policy { name, direction } => json!({ "policy": name, "direction": direction }),
        Author::Chain(place) => {
            let table = ruleset.tables.get(place.table);
            let chain = table.and_then(|table| table.chains.get(place.chain));
            json!({
                "backend": table.map(|table| table.backend.name()),
                "family": table.map(|table| table.family.name()),
                "table": table.map(|table| &*table.name),
                "chain": chain.map(|chain| &*chain.name),
            })
        }
    }
}
