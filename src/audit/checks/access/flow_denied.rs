//! # HG201 flow-denied
//!
//! ## What it checks
//! Resolvers and DHCP, judged as new conversations by the rules that are in the kernel now: the question must get out and
//! its answer in.
//!
//! ## Why it matters
//! A host without name resolution loses its datastore, its time, its SIEM, one after the other; a host without DHCP
//! renewal loses its address hours later, when nobody thinks of the firewall any more (causes C20, S01, F07).
//!
//! ## How to fix
//! Let policy admit the flow (the evidence names the rule that refuses it), or put it on the failsafe list: `udp:53` and
//! `udp:67` are on Felix's default outbound list.
//!
//! ## Limits
//! Flows are taken from resolv.conf and from leases on interfaces. A refused flow may be one that is no longer used.

use serde_json::json;

use crate::analysis::flows::{Flow, FlowKind};
use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Bites, Finding, Severity};
use crate::audit::judged::{Judged, Reason};
use crate::packet::Protocol;

/// The check.
pub const CHECK: Check = Check {
    code: "HG201",
    name: "flow-denied",
    severity: Severity::High,
    summary: "a flow that must work is refused by the rules in the kernel",
    source: include_str!("flow_denied.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let refused = context.judged.iter().filter(|judged| judged.is_refused());
    refused
        .filter_map(|judged| match &judged.reason {
            // HG205 tells of IPv6 addresses, HG217 of the host with itself
            Reason::Flow(flow) if flow.packet.src.is_ipv6() && flow.kind == FlowKind::Dhcp => None,
            Reason::Flow(flow) if flow.packet.oif.as_deref() == Some("lo") => None,
            Reason::Flow(flow) if matches!(flow.kind, FlowKind::Resolver | FlowKind::Dhcp) => {
                Some(finding(check, judged, flow))
            }
            _ => None,
        })
        .collect()
}

fn finding(check: &Check, judged: &Judged, flow: &Flow) -> Finding {
    let packet = &judged.packet;
    let subject = json!({
        "flow": flow.name,
        "family": packet.family().name(),
        "direction": "out",
        "proto": packet.protocol.to_string(),
        "port": packet.dport,
    });
    let verb = judged.refusal();
    let mut finding = Finding::new(check, subject, format!("{}: {verb}", flow.name)).witness(judged.witness());
    if let Some((place, text)) = &judged.decided {
        finding = finding.evidence(place, text);
    }
    let finding = finding.evidence(&flow.source, &flow.evidence).fix(format!(
        "allow {}/{} in policy before the rule named above, or put it on the outbound failsafe list; safe over SSH",
        packet.protocol,
        packet.dport.unwrap_or(0)
    ));
    match flow.kind {
        FlowKind::Dhcp => {
            let mut finding = finding.bites(Bites::Renewal);
            finding.bites_at = flow.clock.first().map(|moment| moment.at.clone());
            finding
        }
        // answers over TCP are needed only when they are long
        _ if packet.protocol == Protocol::TCP => finding.severity(Severity::Low),
        _ => finding,
    }
}
