//! # HG907 rules-changing
//!
//! ## What it checks
//! Rules that changed each of three times hepguard listed them (nf_tables' generation moved on, two saves of x_tables
//! differed).
//!
//! ## Why it matters
//! Listings taken one after the other are then of different rulesets. Held together they may show a firewall that never
//! existed.
//!
//! ## How to fix
//! Find the writer (`nft monitor` names the process behind each change) and run the audit while it rests.
//!
//! ## Limits
//! Changes between two equal states are not seen in x_tables, which tells nobody.

use serde_json::json;

use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Finding, Severity};
use crate::files::Doubt;

/// The check.
pub const CHECK: Check = Check {
    code: "HG907",
    name: "rules-changing",
    severity: Severity::Medium,
    summary: "the rules changed each time they were listed",
    source: include_str!("rules_changing.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let changed = context.snapshot.files.doubts.iter().filter_map(|(name, doubt)| match doubt {
        Doubt::Changed(why) => Some((name, why)),
        Doubt::Partial(_) => None,
    });
    let findings = changed.map(|(name, why)| {
        Finding::new(check, json!({ "input": name }), format!("the rules in {name} changed while they were listed"))
            .evidence(name, why)
            .fix("see who writes with `nft monitor`, then run the audit again; safe over SSH")
    });
    findings.collect()
}
