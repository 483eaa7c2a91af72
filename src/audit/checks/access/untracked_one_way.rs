//! # HG225 untracked-one-way
//!
//! ## What it checks
//! Felix's raw chains of each host endpoint: policy without connection tracking for incoming packets needs its twin for
//! outgoing ones, since no connection says that the answer belongs to anything.
//!
//! ## Why it matters
//! The first packet is let through untracked, and the answer, untracked too, meets ordinary policy as an unknown
//! packet: the flow is dead in one direction, and it looks like a fault of the network (cause C14).
//!
//! ## How to fix
//! Write both directions into the doNotTrack policy: ingress to the port, and egress from the port (source port in the
//! rule). Check with `hepguard trace --conversation`.
//!
//! ## Limits
//! Told by the raw chains alone: where only one of the pair holds policies. A policy that has both directions and rules
//! that do not mirror each other is not seen.

use std::collections::BTreeSet;

use serde_json::json;

use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Bites, Finding, Severity};
use crate::calico::integrity::plain_name;
use crate::calico::names::{ChainRole, chain_role};
use crate::ruleset::Chain;

/// The check.
pub const CHECK: Check = Check {
    code: "HG225",
    name: "untracked-one-way",
    severity: Severity::High,
    summary: "doNotTrack policy is in force in one direction only: answers are refused",
    source: include_str!("untracked_one_way.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let mut findings = Vec::new();
    for table in &context.ruleset().tables {
        let policed = |name: &str| {
            let chain =
                table.chains.iter().find(|chain| plain_name(&chain.name) == name && is_raw(&table.name, &chain.name));
            let policies = |chain: &Chain| {
                let targets = chain.rules.iter().filter_map(|rule| rule.target());
                targets
                    .filter(|target| {
                        matches!(chain_role(plain_name(target)), Some(ChainRole::Policy(..) | ChainRole::Group(..)))
                    })
                    .count()
            };
            chain.map_or(0, policies)
        };
        let endpoints = table.chains.iter().filter(|chain| is_raw(&table.name, &chain.name)).filter_map(|chain| {
            let name = plain_name(&chain.name);
            name.strip_prefix("cali-fh-").or_else(|| name.strip_prefix("cali-th-"))
        });
        let endpoints: BTreeSet<&str> = endpoints.collect();
        for endpoint in endpoints {
            let (inbound, outbound) =
                (policed(&format!("cali-fh-{endpoint}")), policed(&format!("cali-th-{endpoint}")));
            let (has, lacks) = match (inbound, outbound) {
                (1.., 0) => ("incoming", "outgoing"),
                (0, 1..) => ("outgoing", "incoming"),
                _ => continue,
            };
            let subject = json!({ "family": table.family.name(), "interface": endpoint });
            let title = format!(
                "doNotTrack policy of {endpoint} is about {has} packets only: their {lacks} answers are not admitted untracked"
            );
            findings.push(Finding::new(check, subject, title).bites(Bites::Now).evidence(&*table.source, table.title()).fix(
                "write the mirror rules into the doNotTrack policy (answers have the port as source port); safe over SSH when SSH \
                 itself is not in it",
            ));
        }
    }
    findings
}

fn is_raw(table: &str, chain: &str) -> bool {
    table == "raw" || chain.starts_with("raw-")
}
