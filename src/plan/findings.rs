//! What a plan has to say, as findings.

use std::collections::BTreeMap;

use serde_json::json;

use super::Rehearsal;
use super::codes::{change_failed, flow_lost, flow_masked, flow_open, flow_unguarded, plan_limited};
use super::impact::{Detail, Impact, JudgedFlows, State};
use super::worlds::WorldName;
use crate::analysis::flows::{Flow, FlowKind};
use crate::audit::check::Check;
use crate::audit::finding::{Bites, Finding, Severity};
use crate::calico::settings::Entry;
use crate::packet::{Direction, Protocol};

/// Flows of one finding that are told with what admits them.
const SHOWN_FLOWS: usize = 6;

/// A list, inbound or not, and the entry that leaves it.
type Guard = (bool, Option<Entry>);

/// Findings about protected flows.
pub(super) fn of_flows(judged: &JudgedFlows, last: WorldName) -> Vec<Finding> {
    let pairs = || judged.impacts.iter().zip(&judged.details);
    let mut findings: Vec<Finding> = pairs().filter_map(|(impact, detail)| of_flow(impact, detail, last)).collect();
    let mut unguarded: BTreeMap<Guard, Vec<(&Impact, &Detail)>> = BTreeMap::new();
    for (impact, detail) in pairs().filter(|(impact, _)| impact.state == State::Unguarded) {
        let inbound = detail.flow.packet.direction == Direction::In;
        unguarded.entry((inbound, detail.guard)).or_default().push((impact, detail));
    }
    findings.extend(unguarded.iter().filter_map(|((inbound, guard), flows)| lost_guard(*inbound, *guard, flows)));
    findings
}

fn is_known(impact: &Impact, world: WorldName) -> bool {
    impact.worlds.get(world.name()).is_some_and(|change| change.after.is_some())
}

/// Whether a finding is about this flow.
pub fn is_about(finding: &Finding, flow: &str) -> bool {
    let named = |value: &serde_json::Value| value.as_str() == Some(flow);
    let subject = &finding.subject;
    subject.get("flow").is_some_and(named)
        || subject.get("flows").and_then(serde_json::Value::as_array).is_some_and(|flows| flows.iter().any(named))
}

fn of_flow(impact: &Impact, detail: &Detail, last: WorldName) -> Option<Finding> {
    let finding = match impact.state {
        State::Lost => lost(impact, detail, last),
        State::Masked => masked(impact, detail),
        // a world that is not known at all is told once, among the limits
        State::Unknown => Some(open(impact, detail)).filter(|_| is_known(impact, detail.world))?,
        // told once for each entry
        State::Unguarded | State::Gained | State::Refused | State::Kept => return None,
    };
    let finding = finding.evidence(detail.flow.source.clone(), &*detail.flow.evidence);
    let mut finding = finding.witness(impact.witness.clone()).bites(impact.bites.unwrap_or(Bites::Reconnect));
    finding.bites_at.clone_from(&impact.bites_at);
    Some(finding)
}

fn start(check: &Check, detail: &Detail, title: String) -> Finding {
    let packet = &detail.flow.packet;
    let inbound = packet.direction == Direction::In;
    let subject = json!({
        "flow": detail.flow.name,
        "family": packet.family().name(),
        "direction": if inbound { "in" } else { "out" },
        "proto": packet.protocol.to_string(),
        "port": packet.dport,
        "peer": if inbound { packet.src } else { packet.dst },
    });
    Finding::new(check, subject, title)
}

fn rule(finding: Finding, decided: Option<&(String, String)>, words: &str) -> Finding {
    match decided {
        Some((place, text)) => finding.evidence(place, format!("{words}: {text}")),
        None => finding,
    }
}

fn lost(impact: &Impact, detail: &Detail, last: WorldName) -> Finding {
    let flow = &detail.flow;
    let what = detail.stopped.map_or_else(String::new, |packet| format!(" (its {packet} is dropped)"));
    let when = match detail.world {
        WorldName::Now => " at once, open sessions included",
        WorldName::FelixRestart if last == WorldName::FelixRestart => " when Felix restarts, as this change does",
        WorldName::FelixRestart => " when Felix restarts next",
        WorldName::RebootBeforeFelix => " as the host boots, before Felix is in sync",
        WorldName::Reboot => " after the next boot",
        WorldName::New | WorldName::NoFailsafe => ", for new connections",
    };
    let title = format!("{} is lost{when}{what}", flow.name);
    let finding = start(&flow_lost::CHECK, detail, title).severity(severity(flow));
    let finding = rule(finding, detail.decided_after.as_ref(), "refuses it then");
    let finding = rule(finding, detail.decided_before.as_ref(), "admits it now");
    let entry = listed_as(flow);
    let keep = match (detail.world, detail.guard) {
        (WorldName::FelixRestart, Some(guard)) => {
            format!("keep {guard} on the failsafe list, or let policy admit the flow")
        }
        _ => format!("admit {entry} before the rule named above, in the same change"),
    };
    let keep_open = if impact.bites == Some(Bites::Now) { "" } else { "; sessions that are open stay open: keep one" };
    finding.fix(format!("do not apply it like this: {keep}, then plan again{keep_open}"))
}

fn masked(_impact: &Impact, detail: &Detail) -> Finding {
    let title =
        format!("{} goes on only because the failsafe list hides that policy refuses it from now on", detail.flow.name);
    let severity = if severity(&detail.flow) == Severity::Critical { Severity::High } else { Severity::Medium };
    let finding = start(&flow_masked::CHECK, detail, title).severity(severity);
    let finding = rule(finding, detail.decided_after.as_ref(), "would refuse it alone");
    let finding = rule(finding, detail.decided_before.as_ref(), "admits it now");
    finding.fix(format!(
        "let policy admit {} before the rule named above; until then nobody may take {} off the failsafe list",
        listed_as(&detail.flow),
        detail.guard.map_or_else(|| "its entry".to_owned(), |guard| guard.to_string())
    ))
}

/// One entry that leaves the list, with all flows it stands behind.
fn lost_guard(inbound: bool, guard: Option<Entry>, flows: &[(&Impact, &Detail)]) -> Option<Finding> {
    let (first, detail) = flows.first()?;
    let guard = guard.map_or_else(|| "an entry".to_owned(), |guard| guard.to_string());
    let (direction, list) = if inbound { ("in", "inbound") } else { ("out", "outbound") };
    let what = match flows {
        [(impact, _)] => impact.name.clone(),
        flows => format!("{} protected flows", flows.len()),
    };
    let title = format!("{guard} leaves the {list} failsafe list, and policy alone keeps {what}");
    let packet = &detail.flow.packet;
    let names: Vec<&str> = flows.iter().map(|(impact, _)| impact.name.as_str()).collect();
    let subject = json!({
        "flows": names,
        "guard": guard,
        "direction": direction,
        "proto": packet.protocol.to_string(),
        "port": packet.dport,
    });
    let mut finding = Finding::new(&flow_unguarded::CHECK, subject, title);
    finding = rule(finding, detail.decided_before.as_ref(), "admits it now");
    for (impact, detail) in flows.iter().take(SHOWN_FLOWS) {
        let by = detail.decided_after.as_ref().map_or("", |(place, _)| place);
        finding = finding.evidence(&*impact.name, format!("admitted then, alone, by {by}"));
    }
    if let Some(hidden) = flows.len().checked_sub(SHOWN_FLOWS).filter(|hidden| *hidden > 0) {
        finding = finding.evidence("and", format!("{hidden} more"));
    }
    let finding = finding.witness(first.witness.clone()).bites(first.bites.unwrap_or(Bites::FelixRestart));
    Some(finding.fix(format!("keep {guard} on the list, or make sure that no policy denies these flows from now on")))
}

fn open(_impact: &Impact, detail: &Detail) -> Finding {
    let title = format!("{}: whether it works after the change cannot be decided", detail.flow.name);
    let mut finding = start(&flow_open::CHECK, detail, title).bounded();
    for reason in &detail.because {
        finding = finding.evidence(detail.world.name(), reason);
    }
    finding.fix("look at the rules named above; `hepguard trace -v` with the packet given shows its whole way")
}

/// How bad the loss of a flow is.
fn severity(flow: &Flow) -> Severity {
    let ssh = flow.packet.protocol == Protocol::TCP && flow.packet.dport == Some(22);
    match (flow.severity, flow.kind) {
        (Some(told), _) => told.into(),
        (None, FlowKind::Caller | FlowKind::SshIn) => Severity::Critical,
        (None, FlowKind::Failsafe) if ssh && flow.packet.direction == Direction::In => Severity::Critical,
        // a port of the list that nothing here uses
        (None, FlowKind::Failsafe) => Severity::Medium,
        (None, FlowKind::Session | FlowKind::Protect) if ssh => Severity::Critical,
        // answers over TCP are needed only when they are long
        (None, FlowKind::Resolver) if flow.packet.protocol == Protocol::TCP => Severity::Medium,
        (None, FlowKind::Gateway | FlowKind::Cloud | FlowKind::Siem | FlowKind::Time) => Severity::Medium,
        (None, _) => Severity::High,
    }
}

/// The flow as people write it in a rule: `tcp/22 to 10.0.1.30`.
fn listed_as(flow: &Flow) -> String {
    let packet = &flow.packet;
    let port = packet.dport.map(|port| format!("/{port}")).unwrap_or_default();
    match packet.direction {
        Direction::In => format!("{}{port} from {}", packet.protocol, packet.src),
        _ => format!("{}{port} to {}", packet.protocol, packet.dst),
    }
}

/// Findings about parts of the change that failed on the copy.
pub(super) fn of_failures(rehearsal: &Rehearsal) -> Vec<Finding> {
    let failures = rehearsal.failures.iter();
    failures
        .map(|failure| {
            let title = if failure.partial {
                format!("{} fails half-way: it has changed something before it stops", failure.part)
            } else {
                format!("{} fails and changes nothing", failure.part)
            };
            let severity = if failure.partial { Severity::High } else { Severity::Medium };
            let finding =
                Finding::new(&change_failed::CHECK, json!({ "part": failure.part }), title).severity(severity);
            finding
                .evidence("on the copy", &*failure.how)
                .fix("repair the command or file and plan again; what is judged here is what it leaves behind")
        })
        .collect()
}

/// A finding about what limits the answer.
pub(super) fn of_limits(limits: &[String]) -> Vec<Finding> {
    if limits.is_empty() {
        return Vec::new();
    }
    let mut finding =
        Finding::new(&plan_limited::CHECK, json!({}), "the answer is not whole: parts of the host are not in it")
            .bounded();
    for limit in limits.iter().take(8) {
        finding = finding.evidence("not in it", &**limit);
    }
    vec![finding.fix("make what is named above readable, or judge it by hand before you apply the change")]
}
