//! The inventory of flows that must work, each with its verdict in every world and what holds it up.

use serde::Serialize;
use serde_json::Value;

use super::finding::{Bites, Severity};
use super::judged::{Answer, Judged, Reason, judge_flows};
use crate::analysis::conversation::{Conversation, Outcome};
use crate::analysis::flows::{Flow, FlowKind, Moment, Unresolved, inventory};
use crate::analysis::reboot;
use crate::analysis::trace::blind_spots;
use crate::calico::failsafe;
use crate::packet::{Direction, Family};
use crate::snapshot::Snapshot;

/// What `hepguard flows` prints (schema `hepguard/flows/v1`).
#[derive(Clone, Debug, Serialize)]
pub struct FlowsReport {
    /// `hepguard/flows/v1`.
    pub schema: &'static str,
    /// The host's name, when the snapshot tells.
    pub host: Option<String>,
    /// When the snapshot was taken, RFC 3339.
    pub time: Option<String>,
    /// The flows, the most important first.
    pub flows: Vec<JudgedFlow>,
    /// Flows whose other side is known by name only.
    pub unresolved: Vec<Unresolved>,
    /// How many more were seen and left out.
    pub left_out: usize,
    /// What bites when, soonest first.
    pub calendar: Vec<CalendarEntry>,
    /// What the verdicts rest on.
    pub assumptions: Vec<String>,
    /// Counts.
    pub summary: Summary,
    /// The flows themselves, for `--export`.
    #[serde(skip)]
    pub inventory: Vec<Flow>,
}

/// A flow with its verdicts.
#[derive(Clone, Debug, Serialize)]
pub struct JudgedFlow {
    /// Why it must work.
    pub kind: FlowKind,
    /// In people's words.
    pub name: String,
    /// `in` or `out`.
    pub direction: &'static str,
    /// `ipv4` or `ipv6`.
    pub family: &'static str,
    /// Protocol by name or number.
    pub proto: String,
    /// The receiver's port, for protocols with ports.
    pub port: Option<u16>,
    /// The other side.
    pub peer: std::net::IpAddr,
    /// It is a session that lives now.
    pub live: bool,
    /// Where the evidence stands.
    pub source: String,
    /// The evidence.
    pub evidence: String,
    /// The verdict in each world.
    pub worlds: Worlds,
    /// What alone holds it up, where it works now and fails in some world.
    pub held_by: Option<String>,
    /// When it fails first; `null` when it fails in no world.
    pub bites: Option<Bites>,
    /// Clock time of that, where one is known.
    pub bites_at: Option<String>,
    /// How bad its loss is; `null` when it fails in no world.
    pub severity: Option<Severity>,
    /// Clock times at which it is needed next.
    pub clock: Vec<Moment>,
    /// The timer that needs it.
    pub timer: Option<&'static str>,
    /// Its first packet, in the form of `trace --batch`.
    pub witness: Value,
}

/// Verdicts by world. A world that does not differ from `new`, or is not known, is `null`.
#[derive(Clone, Debug, Serialize)]
pub struct Worlds {
    /// As it is: a session that lives with its connection, any other flow as a new one.
    pub now: Verdict,
    /// As a new connection.
    pub new: Verdict,
    /// By policy alone.
    pub no_failsafe: Option<Verdict>,
    /// After Felix has restarted with the failsafe lists on disk.
    pub felix_restart: Option<Verdict>,
    /// As the host boots, before Felix is in sync.
    pub reboot_before_felix: Option<Verdict>,
    /// After a boot, with Felix in sync.
    pub reboot: Option<Verdict>,
}

/// How a conversation ends, and what decided.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// `works`, `broken` or `unknown`.
    pub verdict: Outcome,
    /// The packet that decides: `SYN`, `reply`, …; the first one where all pass.
    pub packet: Option<&'static str>,
    /// The rule that decided, its place.
    pub place: Option<String>,
    /// Its text, with the meaning of Felix's rules.
    pub rule: Option<String>,
    /// Why it is unknown, or why the kernel itself stops it.
    pub because: Vec<String>,
}

/// Counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// All flows.
    pub flows: usize,
    /// Work in every world that is known.
    pub work: usize,
    /// Work now and fail in some world; failsafe entries, which do by their nature, are not counted.
    pub hang: usize,
    /// Are broken now.
    pub broken: usize,
    /// Cannot be decided.
    pub unknown: usize,
}

/// A line of the calendar.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CalendarEntry {
    /// When.
    pub bites: Bites,
    /// Clock time, RFC 3339, when known.
    pub at: Option<String>,
    /// What happens.
    pub what: String,
}

/// Judges the inventory of a host.
#[must_use]
pub fn report(snapshot: &Snapshot) -> FlowsReport {
    let found = inventory(snapshot);
    let failsafe = failsafe::compare(&snapshot.files, &snapshot.ruleset, &snapshot.host);
    let judged = judge_flows(snapshot, &failsafe, found.flows.clone());
    let blind = [Family::Ipv4, Family::Ipv6].map(|family| (family, blind_spots(snapshot, family)));
    let spots = |family: Family| blind.iter().find(|(of, _)| *of == family).map_or(&[][..], |(_, spots)| spots);
    let flows: Vec<JudgedFlow> =
        judged.iter().filter_map(|judged| one(judged, spots(judged.packet.family()))).collect();
    let mut assumptions: Vec<String> = Vec::new();
    for (family, spots) in &blind {
        let concerned = flows.iter().any(|flow| flow.family == family.name());
        assumptions.extend(spots.iter().filter(|_| concerned).cloned());
    }
    assumptions.extend(reboot::rehearse(snapshot, None).unknown.iter().map(|why| format!("reboot: {why}")));
    FlowsReport {
        schema: "hepguard/flows/v1",
        host: snapshot.meta.host.clone().or(failsafe.host),
        time: snapshot.meta.time.clone(),
        calendar: calendar(&flows),
        summary: summary(&flows),
        flows,
        unresolved: found.unresolved,
        left_out: found.left_out,
        assumptions,
        inventory: found.flows,
    }
}

fn one(judged: &Judged, blind: &[String]) -> Option<JudgedFlow> {
    let Reason::Flow(flow) = &judged.reason else { return None };
    let packet = &judged.packet;
    let verdict = |held: &Conversation, words: &Option<(String, String)>| verdict(held, words.as_ref(), blind);
    let answer = |answer: &Option<Answer>| answer.as_ref().map(|(held, words)| verdict(held, words));
    let new = verdict(&judged.now, &judged.decided);
    let now = match judged.established {
        Some(passes) if flow.live && blind.is_empty() && passes => Verdict {
            verdict: Outcome::Works,
            packet: None,
            place: None,
            rule: None,
            because: vec!["a session that exists".to_owned()],
        },
        Some(false) if flow.live && blind.is_empty() => {
            let because = vec!["its packets are refused although the session exists".to_owned()];
            Verdict { verdict: Outcome::Broken, packet: None, place: None, rule: None, because }
        }
        _ => new.clone(),
    };
    let worlds = Worlds {
        now,
        no_failsafe: judged.no_failsafe.as_ref().map(|held| verdict(held, &judged.no_failsafe_decided)),
        felix_restart: answer(&judged.felix_restart),
        reboot_before_felix: answer(&judged.before_felix),
        reboot: answer(&judged.reboot),
        new,
    };
    let bites = bites(flow, &worlds);
    let at = flow.clock.first().map(|moment| moment.at.clone());
    Some(JudgedFlow {
        kind: flow.kind,
        name: flow.name.clone(),
        direction: if packet.direction == Direction::In { "in" } else { "out" },
        family: packet.family().name(),
        proto: packet.protocol.to_string(),
        port: packet.dport,
        peer: flow.peer(),
        live: flow.live,
        source: flow.source.clone(),
        evidence: flow.evidence.clone(),
        held_by: held_by(judged, flow, &worlds),
        bites_at: if bites == Some(Bites::Renewal) { at } else { None },
        severity: bites.map(|bites| severity(flow, bites)),
        bites,
        worlds,
        clock: flow.clock.clone(),
        timer: flow.timer,
        witness: judged.witness(),
    })
}

fn verdict(held: &Conversation, words: Option<&(String, String)>, blind: &[String]) -> Verdict {
    if !blind.is_empty() {
        let because = blind.iter().take(3).cloned().collect();
        return Verdict { verdict: Outcome::Unknown, packet: None, place: None, rule: None, because };
    }
    let decisive = held.decisive();
    let mut because: Vec<String> = Vec::new();
    if let Some(decisive) = decisive {
        because.extend(decisive.trace.stopped_by.clone());
        because.extend(decisive.trace.because.iter().take(3).map(|open| open.reason.clone()));
    }
    Verdict {
        verdict: held.outcome,
        packet: decisive.map(|exchange| exchange.name),
        place: words.map(|(place, _)| place.clone()),
        rule: words.map(|(_, rule)| rule.clone()),
        because,
    }
}

fn is_broken(verdict: Option<&Verdict>) -> bool {
    verdict.is_some_and(|verdict| verdict.verdict == Outcome::Broken)
}

/// The first world in which the flow fails.
fn bites(flow: &Flow, worlds: &Worlds) -> Option<Bites> {
    if is_broken(Some(&worlds.new)) {
        // a timer's next run, a session's next connection; else somebody needs it already
        return Some(match (flow.timer, worlds.now.verdict) {
            (Some("lease" | "neighbour cache"), _) => Bites::Renewal,
            (_, Outcome::Works) => Bites::Reconnect,
            _ if flow.kind == FlowKind::SshIn => Bites::Reconnect,
            _ => Bites::Now,
        });
    }
    if is_broken(worlds.felix_restart.as_ref()) {
        return Some(Bites::FelixRestart);
    }
    is_broken(worlds.reboot.as_ref()).then_some(Bites::Reboot)
}

fn severity(flow: &Flow, bites: Bites) -> Severity {
    let usual = match flow.kind {
        FlowKind::Caller | FlowKind::SshIn | FlowKind::Datastore | FlowKind::Dhcp => Severity::Critical,
        FlowKind::Session | FlowKind::Protect | FlowKind::Typha | FlowKind::Resolver | FlowKind::Neighbour => {
            Severity::High
        }
        FlowKind::Routing | FlowKind::Storage | FlowKind::Siem | FlowKind::Node | FlowKind::Loopback => Severity::High,
        FlowKind::Tunnel | FlowKind::Cluster | FlowKind::Fallback | FlowKind::Directory => Severity::High,
        FlowKind::Time | FlowKind::Cloud | FlowKind::Gateway => Severity::Medium,
        FlowKind::Failsafe => Severity::Low,
    };
    match flow.severity {
        Some(weight) => weight.into(),
        None if flow.kind == FlowKind::Session && bites == Bites::FelixRestart => Severity::Critical,
        // what is broken already, and nobody has missed, may be no longer used
        None if bites == Bites::Now && usual == Severity::Critical => Severity::High,
        None => usual,
    }
}

/// The one thing that holds a flow up.
fn held_by(judged: &Judged, flow: &Flow, worlds: &Worlds) -> Option<String> {
    if flow.live && worlds.now.verdict == Outcome::Works && is_broken(Some(&worlds.new)) {
        return Some("its live connection: a new one would be refused".to_owned());
    }
    if worlds.new.verdict != Outcome::Works {
        return None;
    }
    if is_broken(worlds.no_failsafe.as_ref()) {
        let entry = judged.entry.map_or_else(|| "the failsafe list".to_owned(), |entry| format!("failsafe {entry}"));
        let goes = if judged.removed_at_restart { ", which the next restart of Felix removes" } else { "" };
        return Some(format!("{entry}{goes}"));
    }
    if is_broken(worlds.felix_restart.as_ref()) {
        return Some("the failsafe list of the running Felix".to_owned());
    }
    if is_broken(worlds.reboot.as_ref()) {
        return Some("rules that are in the kernel and not in the files that boot loads".to_owned());
    }
    None
}

fn summary(flows: &[JudgedFlow]) -> Summary {
    let count = |wanted: &dyn Fn(&&JudgedFlow) -> bool| flows.iter().filter(wanted).count();
    let broken = count(&|flow| flow.worlds.new.verdict == Outcome::Broken && flow.worlds.now.verdict != Outcome::Works);
    let unknown = count(&|flow| flow.worlds.new.verdict == Outcome::Unknown);
    // failsafe entries hang on the failsafe list by their nature
    let hang = count(&|flow| flow.held_by.is_some() && flow.kind != FlowKind::Failsafe);
    Summary { flows: flows.len(), work: flows.len().saturating_sub(broken + unknown + hang), hang, broken, unknown }
}

/// What fails by when it does, and the clock times to come.
fn calendar(flows: &[JudgedFlow]) -> Vec<CalendarEntry> {
    let mut entries = Vec::new();
    for flow in flows {
        if let Some(bites) = flow.bites {
            let what = match flow.timer {
                Some(timer) if bites == Bites::Renewal => format!("{} ({timer})", flow.name),
                _ => flow.name.clone(),
            };
            entries.push(CalendarEntry { bites, at: flow.bites_at.clone(), what: format!("lost: {what}") });
        }
        for moment in &flow.clock {
            let what = format!("{} ({})", moment.what, flow.evidence);
            entries.push(CalendarEntry { bites: Bites::Renewal, at: Some(moment.at.clone()), what });
        }
    }
    entries.sort_by(|a, b| (a.bites, a.at.is_none(), &a.at).cmp(&(b.bites, b.at.is_none(), &b.at)));
    let mut seen = std::collections::BTreeSet::new();
    entries.retain(|entry| seen.insert((entry.at.clone(), entry.what.clone())));
    entries
}
