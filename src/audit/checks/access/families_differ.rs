//! # HG228 families-differ
//!
//! ## What it checks
//! sshd's ports and protected flows that have a twin in the other IP version: both are judged as new connections, and
//! one works while the other does not.
//!
//! ## Why it matters
//! Names resolve to both addresses, and clients take IPv6 first: the login hangs for its timeout and works then, or
//! fails from networks that have one of them only (cause S05). Rules for one version only are the usual reason.
//!
//! ## How to fix
//! Write the rule for both versions. Calico policy without nets is for both; nets and failsafe entries with a net are
//! for the version of the net.
//!
//! ## Limits
//! Only where the host has a global address of both versions. Failsafe lists with one version only are HG103's.

use serde_json::json;

use crate::analysis::conversation::Outcome;
use crate::analysis::flows::{Flow, FlowKind};
use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Bites, Finding, Severity};
use crate::audit::judged::{Judged, Reason};
use crate::packet::Family;

/// The check.
pub const CHECK: Check = Check {
    code: "HG228",
    name: "families-differ",
    severity: Severity::Medium,
    summary: "the same service is admitted over one IP version and refused over the other",
    source: include_str!("families_differ.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let flows: Vec<(&Judged, &Flow)> = context
        .judged
        .iter()
        .filter_map(|judged| match &judged.reason {
            Reason::Flow(flow) if matches!(flow.kind, FlowKind::SshIn | FlowKind::Protect) => Some((judged, &**flow)),
            _ => None,
        })
        .collect();
    let mut findings = Vec::new();
    for (four, flow) in flows.iter().filter(|(judged, _)| judged.packet.family() == Family::Ipv4) {
        let same = |other: &&(&Judged, &Flow)| {
            let packet = &other.0.packet;
            packet.family() == Family::Ipv6
                && other.1.source == flow.source
                && (packet.direction, packet.protocol, packet.dport)
                    == (four.packet.direction, four.packet.protocol, four.packet.dport)
        };
        let Some((six, twin)) = flows.iter().find(same) else { continue };
        let (works, refused, lost) = match (four.now.outcome, six.now.outcome) {
            (Outcome::Works, Outcome::Broken) => (flow, six, twin),
            (Outcome::Broken, Outcome::Works) => (twin, four, flow),
            _ => continue,
        };
        let title = format!("{} is admitted and {} is refused", works.name, lost.name);
        let subject = json!({ "flow": lost.name });
        let mut finding = Finding::new(check, subject, title).bites(Bites::Reconnect).witness(refused.witness());
        if let Some((place, text)) = &refused.decided {
            finding = finding.evidence(place, text);
        }
        findings.push(finding.evidence(&lost.source, &lost.evidence).fix(
            "write the rule for both IP versions, or take the address of the refused one out of the name; safe over SSH",
        ));
    }
    findings
}
