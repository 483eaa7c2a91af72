//! # HG220 ends-in-earlier-tier
//!
//! ## What it checks
//! Flows that policy refuses because a tier ended without a decision. Each is judged again with the ends of all tiers
//! taken out: when a later tier or profile accepts it then, the allow is there, and never reached.
//!
//! ## Why it matters
//! A tier denies what none of its policies decided, as soon as one of them applies. A Log rule is no decision, and an
//! Allow in a later tier does not help (cause C25). Whoever wrote the Allow sees it in force and does not understand.
//!
//! ## How to fix
//! Add a Pass rule (or an Allow) for the flow at the end of the tier named, or `defaultAction: Pass` on the tier where
//! the version has it.
//!
//! ## Limits
//! Judged with the failsafe lists taken out, too, so that a masked flow is found. Only flows of the inventory are
//! looked at.

use serde_json::json;

use crate::analysis::conversation::{Outcome, Ways, converse};
use crate::analysis::trace::{Engine, TraceOptions};
use crate::analysis::worlds::without_failsafes;
use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Bites, Finding, Severity};
use crate::audit::judged::{Judged, Reason};
use crate::calico::integrity::plain_name;
use crate::calico::names::{ChainRole, Meaning, Meanings, chain_role};
use crate::ruleset::{RuleRef, Ruleset};

/// The check.
pub const CHECK: Check = Check {
    code: "HG220",
    name: "ends-in-earlier-tier",
    severity: Severity::Medium,
    summary: "a tier denies by its end what a later tier would allow",
    source: include_str!("ends_early.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let snapshot = context.snapshot;
    let ended = |judged: &Judged| {
        let words = if judged.is_refused() { judged.decided.as_ref() } else { judged.no_failsafe_decided.as_ref() };
        (judged.is_refused() || judged.is_masked()) && words.is_some_and(|(_, text)| text.starts_with("end of tier "))
    };
    let flows = context.judged.iter().filter(|judged| matches!(judged.reason, Reason::Flow(_)) && ended(judged));
    let flows: Vec<&Judged> = flows.take(MAX_FLOWS).collect();
    if flows.is_empty() {
        return Vec::new();
    }
    let world = without_tier_ends(&snapshot.ruleset);
    let engine = Engine::new(&world, &snapshot.host);
    let meanings = Meanings::with(&world, &context.snapshot.authors);
    let mut findings = Vec::new();
    for judged in flows {
        let Reason::Flow(flow) = &judged.reason else { continue };
        let held = converse(&engine, &judged.packet, &Ways::default(), &TraceOptions::default());
        let place = held.exchanges.first().and_then(|first| first.trace.decided_by);
        let (Outcome::Works, Some(place)) = (held.outcome, place) else { continue };
        // something of Calico's own must accept it, not the end of the chain
        let Some(meaning) = meanings.of(place) else { continue };
        if !matches!(
            *meaning,
            Meaning::Policy { .. }
                | Meaning::Profile { .. }
                | Meaning::PolicyAccepted { .. }
                | Meaning::ProfileAccepted { .. }
        ) {
            continue;
        }
        let words = if judged.is_refused() { &judged.decided } else { &judged.no_failsafe_decided };
        let Some((source, text)) = words else { continue };
        let masked = if judged.is_masked() { ", once the failsafe entry is gone" } else { "" };
        let title = format!("{} is allowed by a later tier, and an earlier one ends before it{masked}", flow.name);
        let bites = if judged.is_masked() { Bites::FelixRestart } else { Bites::Now };
        let finding = Finding::new(check, json!({ "flow": flow.name }), title).bites(bites).witness(judged.witness());
        findings.push(
            finding
                .evidence(source, text)
                .evidence("a later tier", format!("{meaning}"))
                .fix("add a Pass or Allow rule for the flow to the tier named above; safe over SSH"),
        );
    }
    findings
}

/// Flows looked at.
const MAX_FLOWS: usize = 24;

/// Policy alone, with no tier that denies by its end.
fn without_tier_ends(ruleset: &Ruleset) -> Ruleset {
    let mut world = without_failsafes(ruleset);
    let meanings = Meanings::new(ruleset);
    for (table_number, table) in world.tables.iter_mut().enumerate() {
        for (chain_number, chain) in table.chains.iter_mut().enumerate() {
            // a tier ends in the chain of an endpoint, nowhere else
            if !matches!(chain_role(plain_name(&chain.name)), Some(ChainRole::HostEndpoint { .. })) {
                continue;
            }
            let mut number = 0;
            chain.rules.retain(|_| {
                let place = RuleRef { table: table_number, chain: chain_number, rule: number };
                number += 1;
                !matches!(meanings.of(place).as_deref(), Some(Meaning::EndOfTier { .. }))
            });
        }
    }
    world
}
