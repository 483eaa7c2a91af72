//! # HG605 published-port-around-policy
//!
//! ## What it checks
//! Destination translations of Docker's chain in nat, on a host with a host endpoint in force and no preDNAT policy
//! (Felix's mangle chains of the endpoint are empty).
//!
//! ## Why it matters
//! A published port is translated in PREROUTING and then forwarded: INPUT, ufw's rules and ordinary host policy never
//! see it. The firewall's listing says closed, and the port is open to the internet; the order changes after each
//! restart of Docker (cause F18).
//!
//! ## How to fix
//! Police it with a preDNAT policy (`preDNAT: true`, `applyOnForward: true`), or publish on one address only (`-p
//! 127.0.0.1:8080:80`).
//!
//! ## Limits
//! Whether a packet really gets through also hangs on forwarding; `hepguard trace forward` answers for one.

use serde_json::json;

use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Bites, Finding, Severity};
use crate::calico::integrity::plain_name;
use crate::calico::names::{ChainRole, chain_role};
use crate::ruleset::{Backend, Rule, Step, Verdict};

/// The check.
pub const CHECK: Check = Check {
    code: "HG605",
    name: "published-port-around-policy",
    severity: Severity::Medium,
    summary: "Docker publishes a port that host policy does not see: it is translated and forwarded before",
    source: include_str!("published_around.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let tables = &context.ruleset().tables;
    let policed = |layer: &str| {
        tables
            .iter()
            .filter(|table| &*table.name == layer || table.backend == Backend::Nft)
            .flat_map(|table| &table.chains)
            .any(|chain| {
                let name = plain_name(&chain.name);
                let own = &*chain.name == name || chain.name.starts_with(layer);
                own && name.starts_with("cali-fh-")
                    && chain.rules.iter().any(|rule| rule.target().is_some_and(is_policy))
            })
    };
    if !policed("filter") || policed("mangle") {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for table in tables.iter().filter(|table| &*table.name == "nat") {
        for chain in table.chains.iter().filter(|chain| &*chain.name == "DOCKER") {
            let loopback = |rule: &Rule| rule.text.contains("-d 127.0.0.1");
            let open = |rule: &&Rule| {
                rule.steps.iter().any(|step| matches!(step, Step::Verdict(Verdict::Nat(_)))) && !loopback(rule)
            };
            let published: Vec<&Rule> = chain.rules.iter().filter(open).collect();
            let Some(first) = published.first() else { continue };
            let title = format!(
                "{} published by Docker are translated before host policy sees them",
                count_ports(published.len())
            );
            let subject = json!({ "family": table.family.name(), "chain": "DOCKER" });
            findings.push(
                Finding::new(check, subject, title)
                    .bites(Bites::Now)
                    .evidence(format!("{}:{}", table.source, first.line), &*first.text)
                    .fix("write a preDNAT policy for them, or publish on 127.0.0.1 only; safe over SSH when SSH is not published"),
            );
        }
    }
    findings
}

fn is_policy(target: &str) -> bool {
    matches!(chain_role(plain_name(target)), Some(ChainRole::Policy(..) | ChainRole::Group(..)))
}

fn count_ports(count: usize) -> String {
    if count == 1 { "1 port".to_owned() } else { format!("{count} ports") }
}
