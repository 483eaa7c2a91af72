//! Findings about flows that are lost: refused now, or in another world. Checks share the craft and differ in which flows they
//! take and what they advise.

use serde_json::json;

use super::check::Check;
use super::context::Context;
use super::finding::{Bites, Finding};
use super::judged::{Answer, Judged, Reason};
use crate::analysis::conversation::Outcome;
use crate::analysis::flows::Flow;
use crate::packet::Direction;

/// A finding for each flow that `wanted` takes and that is refused now as a new conversation.
#[must_use]
pub fn refused(
    context: &Context<'_>,
    check: &Check,
    bites: Bites,
    wanted: impl Fn(&Flow) -> bool,
    fix: &str,
) -> Vec<Finding> {
    let refused = flows(context).filter(|(judged, flow)| judged.is_refused() && wanted(flow));
    let of = |(judged, flow): (&Judged, &Flow)| {
        let finding = told(check, judged, flow, bites, &format!("{}: {}", flow.name, judged.refusal()));
        let finding = match &judged.decided {
            Some((place, text)) => finding.evidence(place, text),
            None => finding,
        };
        finding.evidence(&flow.source, &flow.evidence).fix(fix)
    };
    refused.map(of).collect()
}

/// A finding for each flow that `wanted` takes, that works now and fails in the world that `answer` gives.
pub fn lost<'c>(
    context: &'c Context<'_>,
    check: &Check,
    bites: Bites,
    answer: impl Fn(&Judged) -> Option<&Answer>,
    wanted: impl Fn(&Flow) -> bool,
    title: &str,
) -> Vec<(Finding, &'c Flow)> {
    let mut found = Vec::new();
    for (judged, flow) in flows(context).filter(|(judged, _)| judged.now.outcome == Outcome::Works) {
        let Some((held, words)) = answer(judged).filter(|(held, _)| held.outcome == Outcome::Broken) else { continue };
        if !wanted(flow) {
            continue;
        }
        let verb = held.verdict().name();
        let mut finding = told(check, judged, flow, bites, &format!("{} {title} ({verb})", flow.name));
        if let Some((place, text)) = words {
            finding = finding.evidence(place, text);
        }
        found.push((finding.evidence(&flow.source, &flow.evidence), flow));
    }
    found
}

fn flows<'c>(context: &'c Context<'_>) -> impl Iterator<Item = (&'c Judged, &'c Flow)> {
    context.judged.iter().filter_map(|judged| match &judged.reason {
        Reason::Flow(flow) => Some((judged, &**flow)),
        Reason::RemovedEntry(_) => None,
    })
}

fn told(check: &Check, judged: &Judged, flow: &Flow, bites: Bites, title: &str) -> Finding {
    let packet = &judged.packet;
    let subject = json!({
        "flow": flow.name,
        "family": packet.family().name(),
        "direction": if packet.direction == Direction::In { "in" } else { "out" },
        "proto": packet.protocol.to_string(),
        "port": packet.dport,
    });
    let mut finding = Finding::new(check, subject, title).bites(bites).witness(judged.witness());
    if let Some(weight) = flow.severity {
        finding = finding.severity(weight.into());
    }
    if bites == Bites::Renewal {
        finding.bites_at = flow.clock.first().map(|moment| moment.at.clone());
    }
    finding
}
