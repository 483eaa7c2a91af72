//! # HG308 refused-by-another-firewall
//!
//! ## What it checks
//! Flows of the inventory that are refused by a rule outside Felix's chains, on a host that Felix polices: another base
//! chain of the same hook, or a chain of ufw, firewalld, Docker or somebody's own.
//!
//! ## Why it matters
//! An accept ends its own base chain only; a later base chain sees the packet again and may drop it. Policy and
//! failsafe lists say yes, `calicoctl` shows nothing, and the packet is gone (cause F17).
//!
//! ## How to fix
//! Open the flow in that firewall, too, or take that firewall away. The evidence names its chain and rule.
//!
//! ## Limits
//! Rules ahead of Felix's jump are HG303's and are named here only when a flow of the inventory falls to them.

use serde_json::json;

use crate::audit::check::Check;
use crate::audit::context::{Context, is_felix_chain};
use crate::audit::finding::{Bites, Finding, Severity};
use crate::audit::judged::Reason;

/// The check.
pub const CHECK: Check = Check {
    code: "HG308",
    name: "refused-by-another-firewall",
    severity: Severity::High,
    summary: "a flow that Felix's chains accept is refused by another firewall on the same host",
    source: include_str!("refused_elsewhere.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let mut findings = Vec::new();
    for judged in context.judged.iter().filter(|judged| judged.is_refused()) {
        let Reason::Flow(flow) = &judged.reason else { continue };
        let place = judged.now.decisive().and_then(|packet| packet.trace.decided_by);
        let (Some(place), Some((words, text))) = (place, &judged.decided) else { continue };
        let Some(table) = context.ruleset().tables.get(place.table) else { continue };
        let Some(chain) = table.chains.get(place.chain) else { continue };
        if is_felix_chain(&chain.name) || !context.has_felix_chains(judged.packet.family()) {
            continue;
        }
        let subject = json!({ "flow": flow.name, "chain": &*chain.name });
        let title = format!("{}: refused by {} of {}, not by Calico", flow.name, chain.name, table.title());
        findings.push(
            Finding::new(check, subject, title)
                .bites(Bites::Reconnect)
                .witness(judged.witness())
                .evidence(words, text)
                .evidence(&flow.source, &flow.evidence)
                .fix("open the flow in that firewall, too, or take that firewall away with a console at hand; opening is safe over SSH"),
        );
    }
    findings
}
