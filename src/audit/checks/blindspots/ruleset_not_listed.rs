//! # HG903 ruleset-not-listed
//!
//! ## What it checks
//! No listing of the host's filter rules was there at all, for IPv4 or for IPv6.
//!
//! ## Why it matters
//! Without a listing nothing can be said about what the firewall does for that family. The audit would look clean because
//! it was blind.
//!
//! ## How to fix
//! Run `hepguard audit` as root on the host, or add the output of `iptables-save -c` and `ip6tables-save -c` (better: of the
//! `-legacy-save` and `-nft-save` tools and `nft -j list ruleset`) to the snapshot folder.
//!
//! ## Limits
//! A listing that exists but could not be read is HG901.

use serde_json::json;

use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Finding, Severity};
use crate::packet::Family;

/// The check.
pub const CHECK: Check = Check {
    code: "HG903",
    name: "ruleset-not-listed",
    severity: Severity::Medium,
    summary: "no listing of the filter rules of a family was given",
    source: include_str!("ruleset_not_listed.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let tables = &context.ruleset().tables;
    [Family::Ipv4, Family::Ipv6]
        .into_iter()
        // a listing that failed is HG901
        .filter(|family| {
            !context.was_listed(*family)
                && !context.is_blind(*family)
                && !tables.iter().any(|table| table.family.sees(*family))
        })
        .map(|family| {
            let tool = if family == Family::Ipv4 { "iptables-save" } else { "ip6tables-save" };
            Finding::new(
                check,
                json!({ "family": family.name() }),
                format!("no listing of the {family} rules was given"),
            )
            .severity(if family == Family::Ipv4 { Severity::Medium } else { Severity::Low })
            .fix(format!("add `{tool} -c` to the snapshot folder as {tool}.txt, or run as root on the host"))
        })
        .collect()
}
