//! # HG714 open-until-felix
//!
//! ## What it checks
//! The rehearsal of a boot: Felix polices this host, and no persisted file loads a rule that refuses anything on input.
//!
//! ## Why it matters
//! From the moment the network is up until Felix has its datastore, every port that listens is open, on a bastion to
//! the internet. It takes seconds when all is well, and lasts until somebody looks when the datastore is away (cause
//! C23).
//!
//! ## How to fix
//! Persist a small ruleset that admits SSH from where admins come, the datastore, DNS and DHCP, and drops the rest;
//! HG706 says whether it lets Felix come up.
//!
//! ## Limits
//! Only where all that boot loads is known. Services that start after Felix narrow the window; they are not looked at.

use serde_json::json;

use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Bites, Finding, Severity};
use crate::calico::integrity::plain_name;
use crate::ruleset::{Chain, Policy, Rule, Step, Verdict};

/// The check.
pub const CHECK: Check = Check {
    code: "HG714",
    name: "open-until-felix",
    severity: Severity::Low,
    summary: "after a boot nothing is policed until Felix is in sync",
    source: include_str!("open_until_felix.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let Some(rules) = &context.boot.before_felix else { return Vec::new() };
    let mut endpoints = context.ruleset().tables.iter().flat_map(|table| &table.chains);
    let policed = endpoints.any(|chain| plain_name(&chain.name).starts_with("cali-fh-"));
    let refuses = |chain: &Chain| {
        let drops = |rule: &Rule| {
            rule.steps.iter().any(|step| matches!(step, Step::Verdict(Verdict::Drop | Verdict::Reject(_))))
        };
        chain.base.as_ref().is_some_and(|base| base.policy == Policy::Drop) || chain.rules.iter().any(drops)
    };
    if !policed || rules.tables.iter().flat_map(|table| &table.chains).any(refuses) {
        return Vec::new();
    }
    let title = "after a boot nothing is policed until Felix is in sync: no file that boot loads refuses anything";
    let mut finding = Finding::new(check, json!({ "window": "until Felix is in sync" }), title).bites(Bites::Reboot);
    for stage in context.boot.stages.iter().take(4) {
        let loads = if stage.loads.is_empty() { "nothing".to_owned() } else { stage.loads.join(", ") };
        finding = finding.evidence(&stage.file, format!("{} loads {loads}", stage.unit));
    }
    if context.boot.stages.is_empty() {
        finding = finding.evidence("persisted/", "no rules are saved");
    }
    vec![finding.fix(
        "persist a ruleset that admits SSH, the datastore, DNS and DHCP and drops the rest until Felix takes over; load it in a \
         private namespace first; safe over SSH",
    )]
}
