//! # HG202 session-not-readmitted
//!
//! ## What it checks
//! Every live session, from the socket table and from conntrack: would it come about today? A SYN that gets in is no use
//! if the SYN-ACK is dropped, so each packet of the handshake and data both ways are judged.
//!
//! ## Why it matters
//! Policy does not cut established connections. After a change everything looks fine, because the session goes on; the
//! next login fails. The person who could repair it holds the last open session and does not know (causes C15, F06, F07).
//! What Felix itself holds open to its datastore is HG204's.
//!
//! ## How to fix
//! Keep the live session open and repair policy from it: the evidence names the rule that refuses the new connection. Prove
//! it with a second, new connection before you close the first.
//!
//! ## Limits
//! Sessions that were only passing through are not looked at. Source ports are examples; policies rarely look at them.

use serde_json::json;

use crate::analysis::flows::{Flow, FlowKind, sshd_ports};
use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Bites, Finding, Severity};
use crate::audit::judged::{Judged, Reason};
use crate::packet::Direction;

/// The check.
pub const CHECK: Check = Check {
    code: "HG202",
    name: "session-not-readmitted",
    severity: Severity::High,
    summary: "a live session would not be admitted again",
    source: include_str!("session_not_readmitted.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let refused = context.judged.iter().filter(|judged| judged.is_refused());
    refused
        .filter_map(|judged| match &judged.reason {
            Reason::Flow(flow)
                if flow.live && !matches!(flow.kind, FlowKind::Datastore | FlowKind::Typha | FlowKind::Fallback) =>
            {
                Some(finding(context, check, judged, flow))
            }
            _ => None,
        })
        .collect()
}

fn finding(context: &Context<'_>, check: &Check, judged: &Judged, flow: &Flow) -> Finding {
    let packet = &judged.packet;
    let inbound = packet.direction == Direction::In;
    let subject = json!({
        "family": packet.family().name(),
        "direction": if inbound { "in" } else { "out" },
        "proto": packet.protocol.to_string(),
        "port": packet.dport,
        "peer": if inbound { packet.src } else { packet.dst },
    });
    let verb = judged.refusal();
    let title = format!("{} works now and would not be admitted again ({verb})", flow.name);
    let mut finding = Finding::new(check, subject, title).bites(Bites::Reconnect).witness(judged.witness());
    if let Some((place, text)) = &judged.decided {
        finding = finding.evidence(place, text);
    }
    let way_in = inbound && packet.dport.is_some_and(|port| sshd_ports(&context.snapshot.host).contains(&port));
    let finding = finding.evidence(&flow.source, &flow.evidence).fix(
        "keep this session open; allow the flow in policy before the rule named above, then prove it with a new \
         connection before closing anything",
    );
    if way_in { finding.severity(Severity::Critical) } else { finding }
}
