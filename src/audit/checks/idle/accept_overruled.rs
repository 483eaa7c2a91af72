//! # HG607 accept-overruled
//!
//! ## What it checks
//! Rules that accept (in Calico: Allow) and that no packet ever hits, because earlier rules drop or reject everything they ask
//! for. The refusing rules are named: the fewest that do it.
//!
//! ## Why it matters
//! Whoever wrote the accept believes that something works, and it is refused. Where that is a flow which must work, other
//! findings say so (HG201, HG211 and their kin); this one names the rule that was meant to allow it.
//!
//! ## How to fix
//! Move the accept in front of the rules that refuse (in Calico: a lower `order`, or an earlier rule of the policy), or delete
//! it.
//!
//! ## Limits
//! Each base chain is judged by itself, with every packet its hook could see and whatever the named sets hold: a rule about an
//! empty set waits for its first member and is not reported. A rule that cannot be decided (a rate, a mark of another program)
//! covers nothing. Rules that Felix, kube-proxy, Docker and the like write by rote are left out; failsafe lists cover nothing,
//! for policy has to hold without them.

use super::report;
use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Finding, Severity};
use crate::audit::idle::Fault;

/// The check.
pub const CHECK: Check = Check {
    code: "HG607",
    name: "accept-overruled",
    severity: Severity::Low,
    summary: "an accept never lets anything through: earlier rules refuse all it asks for",
    source: include_str!("accept_overruled.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let says = |rule: &crate::audit::idle::IdleRule| {
        format!("{} lets nothing through: {} refuses first", rule.called, rule.because())
    };
    let found = report(context, check, Fault::AcceptOverruled, "accepts", says);
    found.into_iter().map(|finding| finding.fix(FIX)).collect()
}

const FIX: &str = "move the accept in front of the rules that refuse its packets, if it is meant; that opens what it asks for. Deleting it changes nothing, over SSH too";
