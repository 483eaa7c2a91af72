//! # HG230 lease-cuts-session
//!
//! ## What it checks
//! Sessions that live and whose packets pass only because the kernel knows their connection, on an interface whose address is
//! a DHCP lease.
//!
//! ## Why it matters
//! When a renewal brings another address, or the network daemon sets the link up anew for it, the kernel forgets the connections
//! of the old address. The next packet of the session is then a new one, and the rules refuse it (cause S02). The session that
//! would be used for the repair ends together with all others.
//!
//! ## How to fix
//! Allow the flow in policy, so that it needs no entry in the connection table. Where the lease's time is known, the finding
//! says when.
//!
//! ## Limits
//! A renewal that changes nothing cuts nothing; whether this one will is not known. HG202 says the same session is not admitted
//! anew.

use serde_json::json;

use crate::analysis::flows::FlowKind;
use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Bites, Finding, Severity};
use crate::audit::judged::{Judged, Reason};

/// The check.
pub const CHECK: Check = Check {
    code: "HG230",
    name: "lease-cuts-session",
    severity: Severity::Medium,
    summary: "a session lives by its entry in the connection table, on an address that is a lease",
    source: include_str!("lease_cuts_session.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let flow_of = |judged: &'_ Judged| match &judged.reason {
        Reason::Flow(flow) => Some((**flow).clone()),
        Reason::RemovedEntry(_) => None,
    };
    let leases: Vec<_> = context.judged.iter().filter_map(flow_of).filter(|flow| flow.kind == FlowKind::Dhcp).collect();
    let mut findings = Vec::new();
    for judged in context.judged.iter().filter(|judged| judged.is_refused() && judged.established == Some(true)) {
        let Some(flow) = flow_of(judged).filter(|flow| flow.live) else { continue };
        let packet = &judged.packet;
        let Some(way) = packet.iif.as_ref().or(packet.oif.as_ref()) else { continue };
        let of_lease = |lease: &&crate::analysis::flows::Flow| {
            let there = lease.packet.iif.as_ref().or(lease.packet.oif.as_ref()) == Some(way);
            there && lease.packet.src.is_ipv4() == packet.src.is_ipv4()
        };
        let Some(lease) = leases.iter().find(of_lease) else { continue };
        let title = format!("{} would not outlive a renewal that changes the address on {way}", flow.name);
        let mut finding = Finding::new(check, json!({ "flow": flow.name, "interface": &**way }), title)
            .bites(Bites::Renewal)
            .witness(judged.witness())
            .evidence(&flow.source, &flow.evidence)
            .evidence(&lease.source, &lease.evidence);
        finding.bites_at = lease.clock.first().map(|moment| moment.at.clone());
        if let Some((place, text)) = &judged.decided {
            finding = finding.evidence(place, text);
        }
        findings.push(finding.fix(
            "allow the flow in policy before the rule named above, then prove it with a new connection while this session \
             is open; safe over SSH",
        ));
    }
    findings
}
