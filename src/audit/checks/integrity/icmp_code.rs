//! # HG320 icmp-code-on-nft
//!
//! ## What it checks
//! Exported policies and profiles for rules that ask an ICMP type **and** a code (`icmp` or `notICMP`), on a host where Felix
//! is in nftables mode.
//!
//! ## Why it matters
//! Felix of 3.29 and newer writes them as `icmp type 3 code 4`, which nft 1.0.6 and 1.1.3 refuse ("No symbol type
//! information"). Felix sends all its rules of a family as one transaction: one such rule in a policy that is in force, and
//! nothing of that family is written any more. Felix tries again, crashes after ten times, and so on; the old rules stay,
//! and no change of policy, not even the one that mends it, takes effect through the crashing Felix.
//!
//! ## How to fix
//! Remove the code: a rule with the type alone is fine. For path MTU discovery allow ICMP type 3 as a whole.
//!
//! ## Limits
//! Measured with stock nft. Images of Calico bring a patched nft 1.1.1, which was not tried: there the rule may work.

use serde_json::json;

use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Finding, Severity};
use crate::calico::integrity::is_felix_table;
use crate::calico::names::Direction;
use crate::calico::resources::{Field, Icmp, Rule, Spec};

/// The check.
pub const CHECK: Check = Check {
    code: "HG320",
    name: "icmp-code-on-nft",
    severity: Severity::High,
    summary: "a policy asks an ICMP type and code, which stops Felix in nftables mode",
    source: include_str!("icmp_code.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let felix = |table: &crate::ruleset::Table| is_felix_table(table) && &*table.name == "calico";
    if !context.ruleset().tables.iter().any(felix) {
        return Vec::new();
    }
    let resources = &context.snapshot.resources;
    let mut findings = Vec::new();
    for resource in resources.iter().filter(|resource| !resource.refused && !resource.meta.kind.is_staged()) {
        let lists: [(Direction, &[Rule]); 2] = match &resource.spec {
            Spec::Policy(policy) => {
                [Direction::In, Direction::Out].map(|direction| (direction, policy.rules(direction)))
            }
            Spec::Profile(profile) => [(Direction::In, &profile.ingress), (Direction::Out, &profile.egress)],
            _ => continue,
        };
        for (direction, rules) in lists {
            for (number, rule) in rules.iter().enumerate() {
                let coded = |icmp: &Option<Field<Icmp>>| {
                    icmp.as_ref().is_some_and(|icmp| icmp.value.kind.is_some() && icmp.value.code.is_some())
                };
                if !coded(&rule.icmp) && !coded(&rule.not_icmp) {
                    continue;
                }
                let title = resource.meta.title();
                let subject = json!({ "resource": title, "direction": direction.calico(), "rule": number });
                let text = format!("{} rule {number} of {title} asks an ICMP type and code", direction.calico());
                let place = format!("{}:{}", resource.meta.place.file, rule.line);
                findings.push(
                    Finding::new(check, subject, format!("{text}: Felix in nftables mode stops at it"))
                        .bounded()
                        .evidence(place, text)
                        .fix("remove `code` from the rule, and apply the policy; safe over SSH: the rules stay until Felix \
                              writes them"),
                );
            }
        }
    }
    findings
}
