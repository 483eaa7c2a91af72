//! # HG222 stale-connection
//!
//! ## What it checks
//! Entries of the connection table without an answer (`[UNREPLIED]`) for the addresses and port of a flow of the
//! inventory that policy admits now, where the answer is expected elsewhere than at the flow's own addresses.
//!
//! ## Why it matters
//! Connection tracking decides once. An entry made while a rule or a translation was wrong keeps its answer for as long
//! as packets come: policy is right again, and the flow stays dead (cause C16). UDP to a resolver or collector that
//! never stops asking is the usual case.
//!
//! ## How to fix
//! Delete the entry named: `conntrack -D -p PROTO -d ADDRESS --dport PORT`. Nothing else is lost.
//!
//! ## Limits
//! An unanswered entry alone is common (the server is slow or away), so it is reported only where a translation is in
//! it.

use serde_json::json;

use crate::analysis::conversation::Outcome;
use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Finding, Severity};
use crate::audit::judged::Reason;
use crate::packet::{CtStatus, Direction};

/// The check.
pub const CHECK: Check = Check {
    code: "HG222",
    name: "stale-connection",
    severity: Severity::Medium,
    summary: "an unanswered connection entry stands in the way of a flow that must work",
    source: include_str!("stale_connection.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let mut findings = Vec::new();
    for judged in &context.judged {
        let Reason::Flow(flow) = &judged.reason else { continue };
        if judged.now.outcome != Outcome::Works || judged.packet.direction != Direction::Out {
            continue;
        }
        let packet = &judged.packet;
        let stale = context.snapshot.host.sessions.iter().flatten().find(|session| {
            let original = &session.original;
            session.protocol == packet.protocol
                && (original.src, original.dst, original.dport) == (packet.src, packet.dst, packet.dport)
                && session.status.0 & CtStatus::SEEN_REPLY.0 == 0
                && (session.reply.src, session.reply.sport) != (original.dst, original.dport)
        });
        let Some(session) = stale else { continue };
        let (protocol, dst, port) = (packet.protocol, packet.dst, packet.dport.unwrap_or(0));
        let title =
            format!("{}: an old connection entry sends it to {}, where nobody answers", flow.name, session.reply.src);
        let finding = Finding::new(check, json!({ "flow": flow.name }), title).witness(judged.witness());
        let entry = format!("{protocol} to {dst} port {port}, answer expected from {}, UNREPLIED", session.reply.src);
        findings.push(
            finding
                .evidence("conntrack.txt", entry)
                .fix(format!("`conntrack -D -p {protocol} -d {dst} --dport {port}`; safe over SSH")),
        );
    }
    findings
}
