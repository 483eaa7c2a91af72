//! # HG224 flush-would-lock
//!
//! ## What it checks
//! Base chains of input or output in filter tables with policy DROP, on a host where SSH gets in now: `iptables -F`, a
//! failed restore or a cleaning script leaves the policy and takes the rules.
//!
//! ## Why it matters
//! It is the oldest lockout of all: the first line of a script flushes, the connection stops, and the second line never
//! runs (cause F02). Felix's failsafe chain goes with the flush.
//!
//! ## How to fix
//! In scripts set the policies to ACCEPT before any flush, or load the whole table at once with `iptables-restore`.
//! Test with `hepguard plan -- SCRIPT` first.
//!
//! ## Limits
//! An advice about the next change, not a fault: default deny by policy is sound.

use serde_json::json;

use crate::analysis::conversation::Outcome;
use crate::analysis::flows::FlowKind;
use crate::audit::check::Check;
use crate::audit::context::{Context, rules};
use crate::audit::finding::{Finding, Severity};
use crate::audit::judged::Reason;
use crate::packet::{Family, Hook};
use crate::ruleset::{ChainKind, Policy};

/// The check.
pub const CHECK: Check = Check {
    code: "HG224",
    name: "flush-would-lock",
    severity: Severity::Low,
    summary: "a flush of the rules would lock everybody out: a chain's policy is DROP and rules alone admit SSH",
    source: include_str!("flush_locks.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let admitted = |family: Family| {
        context.judged.iter().any(|judged| {
            let ssh =
                matches!(&judged.reason, Reason::Flow(flow) if matches!(flow.kind, FlowKind::SshIn | FlowKind::Caller));
            ssh && judged.packet.family() == family && judged.now.outcome == Outcome::Works
        })
    };
    let mut findings = Vec::new();
    for table in &context.ruleset().tables {
        for chain in &table.chains {
            let Some(base) = &chain.base else { continue };
            let hook = matches!(base.hook, Hook::Input | Hook::Output) && base.kind == ChainKind::Filter;
            let family =
                [Family::Ipv4, Family::Ipv6].into_iter().find(|family| table.family.sees(*family) && admitted(*family));
            if !hook || base.policy != Policy::Drop || chain.rules.is_empty() || family.is_none() {
                continue;
            }
            let subject = json!({ "backend": table.backend.name(), "family": table.family.name(), "table": &*table.name, "chain": &*chain.name });
            let title = format!(
                "{} of {} drops by policy: a flush of its rules would lock everybody out",
                chain.name,
                table.title()
            );
            findings.push(Finding::new(check, subject, title).evidence(&*table.source, format!("{} policy DROP, {}", chain.name, rules(chain.rules.len()))).fix(
                "nothing to do now; in scripts set the policy to ACCEPT before any flush, or load whole tables at once with \
                 `iptables-restore`",
            ));
        }
    }
    findings
}
