//! # HG606 deny-overruled
//!
//! ## What it checks
//! Rules that drop or reject (in Calico: Deny) and that no packet ever hits, because earlier rules accept everything they ask
//! for. The accepting rules are named: the fewest that do it.
//!
//! ## Why it matters
//! Whoever wrote the deny believes that something is blocked, and it is open. The usual causes are a wide accept higher up, a
//! ban that a tool appends behind it, and policies of a tier or of `order` that come first.
//!
//! ## How to fix
//! Move the deny in front of the rules that accept (in Calico: a lower `order`, or an earlier rule of the policy), or narrow
//! those. If it is no longer meant, delete it: a rule that no packet hits can go without anybody noticing.
//!
//! ## Limits
//! Each base chain is judged by itself, with every packet its hook could see and whatever the named sets hold: a rule about an
//! empty set waits for its first member and is not reported. A rule that cannot be decided (a rate, a mark of another program)
//! covers nothing. Rules that Felix, kube-proxy, Docker and the like write by rote are left out; failsafe lists cover nothing,
//! for policy has to hold without them.
//! Replies of known connections that are accepted first overrule nobody: a deny counts as overruled when new connections, too,
//! never get to it.

use super::report;
use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Finding, Severity};
use crate::audit::idle::Fault;

/// The check.
pub const CHECK: Check = Check {
    code: "HG606",
    name: "deny-overruled",
    severity: Severity::Medium,
    summary: "a deny never stops anything: earlier rules accept all it asks for",
    source: include_str!("deny_overruled.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let says = |rule: &crate::audit::idle::IdleRule| {
        format!("{} stops nothing: {} accepts first", rule.called, rule.because())
    };
    let found = report(context, check, Fault::DenyOverruled, "denies", says);
    found.into_iter().map(|finding| finding.fix(FIX)).collect()
}

const FIX: &str = "move the deny in front of the rules that accept its packets; check with `hepguard plan` first, a deny that begins to act can cut your session. Deleting it changes nothing";
