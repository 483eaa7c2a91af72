//! # HG321 dnat-policed-twice
//!
//! ## What it checks
//! Felix in nftables mode with host endpoints, on a host whose own packets are translated (DNAT at output).
//!
//! ## Why it matters
//! Felix leaves translated packets to their final chain by asking `ct status != dnat`. nftables compares the whole status, which
//! has other bits beside that one: the question is true for translated packets, too. They are judged at output by the host
//! endpoint of the interface they do not leave by (`lo` for a service address), and again where they do leave. What iptables mode
//! let through is dropped (trap 25 of Felix: host traffic to service addresses).
//!
//! ## How to fix
//! Allow the translated destination for the endpoint of every interface, `lo` included, or go back to iptables mode until Felix
//! asks the bit.
//!
//! ## Limits
//! Known for every version up to 3.34. What a packet meets is judged as the kernel compares: `hepguard trace out …` shows the rule.

use std::collections::HashSet;

use serde_json::json;

use crate::audit::check::Check;
use crate::audit::context::{Context, place_text};
use crate::audit::finding::{Bites, Finding, Severity};
use crate::calico::integrity::plain_name;
use crate::calico::names::{ChainRole, Direction, chain_role};
use crate::packet::Hook;
use crate::ruleset::{Backend, ChainKind, Expr, Field, Match, Operator, Rule, Step, Table, Verdict};

/// The check.
pub const CHECK: Check = Check {
    code: "HG321",
    name: "dnat-policed-twice",
    severity: Severity::Medium,
    summary: "Felix in nftables mode polices translated packets of this host twice",
    source: include_str!("dnat_twice.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let ruleset = context.ruleset();
    let mut findings = Vec::new();
    for table in ruleset.tables.iter().filter(|table| table.backend == Backend::Nft) {
        let mut roles = table.chains.iter().map(|chain| chain_role(plain_name(&chain.name)));
        let endpoint = |role: Option<ChainRole<'_>>| {
            matches!(role, Some(ChainRole::HostEndpoint { direction: Direction::Out, forward: false, .. }))
        };
        if !roles.any(endpoint) {
            continue;
        }
        let asked = table.chains.iter().find_map(|chain| {
            let output = chain_role(plain_name(&chain.name)) == Some(ChainRole::Hook("OUTPUT"));
            let rule = chain.rules.iter().position(asks_whole_status).filter(|_| output)?;
            Some((chain, rule))
        });
        let Some((chain, number)) = asked else { continue };
        let mut of_family = ruleset.tables.iter().filter(|other| other.family.sees(table.family));
        let Some((place, text)) = of_family.find_map(translates) else { continue };
        let title = format!("translated packets of this host are policed twice ({})", table.family);
        let rule = chain.rules.get(number).map(|rule| rule.text.to_string()).unwrap_or_default();
        findings.push(
            Finding::new(check, json!({ "family": table.family.name(), "table": &*table.name }), title)
                .bites(Bites::Now)
                .evidence(place_text(table, chain, number), rule)
                .evidence(place, text)
                .fix(
                    "allow the translated destinations out of every host endpoint, that of lo included; `hepguard trace out` \
                     with the service's address shows which rule stops it; safe over SSH",
                ),
        );
    }
    findings
}

/// `ct status != dnat`, which nft compares as a whole.
fn asks_whole_status(rule: &Rule) -> bool {
    rule.steps.iter().any(|step| {
        let Step::Match(Match::Compare { left, operator, .. }) = step else { return false };
        *left == Expr::Field(Field::CtStatus) && *operator == Operator::Ne
    })
}

/// The first rule that gives packets of this host another destination.
fn translates(table: &Table) -> Option<(String, String)> {
    let mut seen: HashSet<&str> = HashSet::new();
    let base = |chain: &&crate::ruleset::Chain| {
        chain.base.as_ref().is_some_and(|base| base.kind == ChainKind::Nat && base.hook == Hook::Output)
    };
    let mut todo: Vec<&crate::ruleset::Chain> = table.chains.iter().filter(base).collect();
    while let Some(chain) = todo.pop() {
        for (number, rule) in chain.rules.iter().enumerate() {
            for step in &rule.steps {
                match step {
                    Step::Verdict(Verdict::Nat(nat)) if nat.kind.rewrites_destination(Hook::Output) => {
                        return Some((place_text(table, chain, number), rule.text.to_string()));
                    }
                    Step::Verdict(Verdict::Jump(name) | Verdict::Goto(name)) if seen.insert(name) => {
                        todo.extend(table.chain(name).map(|(_, chain)| chain));
                    }
                    _ => {}
                }
            }
        }
    }
    None
}
