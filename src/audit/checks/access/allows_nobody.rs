//! # HG227 allow-selects-nothing
//!
//! ## What it checks
//! Policy rules in force that allow by a selector whose IP set is empty in the kernel.
//!
//! ## Why it matters
//! A selector with a typo, or labels that changed, leave an Allow that admits nobody, and the tier ends with its deny
//! (causes C24, C17). Host endpoints without expectedIPs have no address and make such sets, too.
//!
//! ## How to fix
//! Name the set: `hepguard lint` with the policy file, or `calicoctl get` with the selector, shows what it was meant to
//! select. Give host endpoints their expectedIPs.
//!
//! ## Limits
//! A set may be empty on purpose until somebody joins it. Sets of domain names fill only when a name is asked, and do
//! not count.

use serde_json::json;

use crate::audit::check::Check;
use crate::audit::context::{Context, place_text};
use crate::audit::finding::{Bites, Finding, Severity};
use crate::calico::integrity::plain_name;
use crate::calico::names::{Action, ChainRole, Meaning, chain_role};
use crate::ruleset::{Match, Rule, RuleRef, Ruleset, Set, SetRef, Step, Table, without_comments};

/// The check.
pub const CHECK: Check = Check {
    code: "HG227",
    name: "allow-selects-nothing",
    severity: Severity::Low,
    summary: "an Allow rule in force selects nobody: its set is empty",
    source: include_str!("allows_nobody.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let ruleset = context.ruleset();
    let meanings = context.snapshot.meanings();
    let mut findings = Vec::new();
    for (t, table) in ruleset.tables.iter().enumerate() {
        for (c, chain) in table.chains.iter().enumerate() {
            if !matches!(chain_role(plain_name(&chain.name)), Some(ChainRole::Policy(..))) {
                continue;
            }
            for (r, rule) in chain.rules.iter().enumerate() {
                let mut asked = asked(ruleset, table, rule);
                let Some(set) = asked.find(|set| is_empty(set) && !has_twin(ruleset, set)) else { continue };
                let place = RuleRef { table: t, chain: c, rule: r };
                let meaning = meanings.of(place);
                let Some(Meaning::Policy { policy, action: Some(Action::Allow), .. }) = meaning.as_deref() else {
                    continue;
                };
                let subject = json!({ "family": table.family.name(), "policy": policy, "set": &*set.name });
                if findings.iter().any(|finding: &Finding| finding.subject == subject) {
                    continue;
                }
                let holds = context.snapshot.authors.of_set(&set.name);
                let holds = holds.map(|selector| format!(" of {selector}")).unwrap_or_default();
                let title =
                    format!("policy {policy} allows by set {}{holds}, which is empty ({})", set.name, table.family);
                findings.push(
                    Finding::new(check, subject, title)
                        .bites(Bites::Now)
                        .evidence(place_text(table, chain, r), without_comments(&rule.text))
                        .fix("look at the rule's selector and the labels it is to fit; safe over SSH"),
                );
            }
        }
    }
    findings
}

/// Sets a rule asks without "not".
fn asked<'r>(ruleset: &'r Ruleset, table: &'r Table, rule: &'r Rule) -> impl Iterator<Item = &'r Set> {
    rule.steps.iter().filter_map(move |step| match step {
        Step::Match(Match::Ipset { name, negate: false, .. }) => ruleset.ipset(name),
        Step::Match(Match::Lookup { set: SetRef::Named(name), negate: false, .. }) => table.set(name),
        _ => None,
    })
}

fn is_empty(set: &Set) -> bool {
    let selector = set.name.contains("40s:")
        || set.name.contains("60s:")
        || set.name.contains("40s-")
        || set.name.contains("60s-");
    selector && set.elements.is_empty() && set.member_sets.is_empty() && set.incomplete.is_none()
}

/// Whether the selector has members in the other IP version: then it selects somebody.
fn has_twin(ruleset: &Ruleset, set: &Set) -> bool {
    let twin = match set.name.strip_prefix("cali4") {
        Some(rest) => format!("cali6{rest}"),
        None => format!("cali4{}", set.name.strip_prefix("cali6").unwrap_or_default()),
    };
    // in nftables mode it stands in the other family's table
    let in_tables = ruleset.tables.iter().filter_map(|table| table.sets.iter().find(|set| *set.name == *twin));
    ruleset.ipset(&twin).into_iter().chain(in_tables).any(|twin| !is_empty(twin))
}
