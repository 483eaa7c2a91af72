//! The daemon's decisions. Events go in with the time they are told at, actions come out; no file, clock or socket is touched.
//!
//! ```text
//! denies of the logs ─┐
//! changes of rules ───┤
//! looks (audits) ─────┼─► Monitor::step(event, now) ─► raise, resolve, tell, look again
//! Felix ends ─────────┤
//! troubles, timers ───┘
//! ```
//!
//! Alerts are findings with a life ([`alert`]): what the audit finds keeps its code and fingerprint, and what only a daemon can
//! see has codes of its own ([`codes`], HG51x and HG52x). All memory is bounded: kinds of denies, alerts, changes told.

pub mod alert;
pub mod codes;
pub mod deny;
mod firewall;
pub mod look;
mod said;

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::audit::check::Check;
use crate::audit::finding::{Finding, Severity};
use crate::calico::failsafe::Weight;
use crate::config;
use alert::{Alert, Book, Brought};
use deny::{Batch, Kind, Kinds, Known};
use look::{Change, Look};

/// Changes that are remembered for `hepguard status`.
const MAX_CHANGES: usize = 32;

/// After so long without one more, an alert about denies is over: milliseconds.
const QUIET: i64 = 3_600_000;

/// A finding that bites within this time is told once more: milliseconds.
const SOON: i64 = 900_000;

/// The time an event is told at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Wall clock, milliseconds since 1970.
    pub wall: i64,
    /// A clock that never jumps, milliseconds since some beginning.
    pub steady: u64,
}

/// What happens.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Logs were read.
    Logs(Batch),
    /// nf_tables changed.
    Changed(Change),
    /// A look at the host is done.
    Looked(Box<Look>),
    /// A look at the host failed: why.
    NotLooked(String),
    /// Felix's process ended.
    FelixEnded(u32),
    /// Something does not work as it should: about what (stable), and in words. `lost`: lines of a log may be lost.
    Trouble {
        /// What kind.
        kind: Trouble,
        /// About what: a path, a source.
        subject: String,
        /// In words.
        why: String,
    },
    /// It works again.
    Mended {
        /// What kind.
        kind: Trouble,
        /// About what.
        subject: String,
    },
    /// Time passes.
    Tick,
}

/// Kinds of trouble of the daemon itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Trouble {
    /// A log cannot be read, or is not there.
    Log,
    /// Lines of a log were lost.
    Lost,
    /// State, metrics or another outlet cannot be written.
    Outlet,
    /// A source of notices cannot be had, so changes are noticed late.
    Notices,
    /// The configuration that was to be read anew holds a mistake.
    Configuration,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// An alert that was not open, or got worse.
    Raise(Alert),
    /// An alert is over.
    Resolve(Alert),
    /// An open alert bites soon.
    Remind(Alert),
    /// Something worth a line, and no alert.
    Tell(String),
    /// Look again after so many milliseconds.
    LookIn(u64),
}

/// A judged change, as `hepguard status` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// When, milliseconds since 1970.
    pub time: i64,
    /// What changed, by whom.
    pub what: String,
}

/// Sums since the first start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Totals {
    /// Lines of logs.
    pub lines: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Denies.
    pub denies: u64,
    /// Deny lines that are broken.
    pub malformed: u64,
    /// Changes of the firewall.
    pub changes: u64,
    /// Looks at the host that judged it.
    pub audits: u64,
    /// Looks that failed.
    pub failed_looks: u64,
}

/// What survives a restart, to be written down.
#[derive(Debug, Serialize)]
pub struct Written<'a> {
    first_start: i64,
    totals: &'a Totals,
    kinds: Vec<(&'a Kind, &'a Known)>,
    changes: &'a VecDeque<Told>,
    alerts: Vec<&'a Alert>,
}

/// What the daemon knows and decides.
#[derive(Clone, Debug)]
pub struct Monitor {
    settings: config::Alerts,
    /// The alerts.
    pub book: Book,
    /// Kinds of denies.
    pub kinds: Kinds,
    /// Sums.
    pub totals: Totals,
    /// The latest changes, oldest first.
    pub changes: VecDeque<Told>,
    /// The last look that judged.
    pub last: Option<look::Judged>,
    /// When that was, wall clock.
    pub judged_at: Option<i64>,
    firewall: firewall::State,
    /// When the daemon started for the very first time, wall clock.
    pub first_start: i64,
    before: Option<Moment>,
}

impl Monitor {
    /// A monitor that knows nothing yet.
    #[must_use]
    pub fn new(settings: config::Alerts, now: Moment) -> Self {
        Self {
            settings,
            book: Book::default(),
            kinds: Kinds::default(),
            totals: Totals::default(),
            changes: VecDeque::new(),
            last: None,
            judged_at: None,
            firewall: firewall::State::default(),
            first_start: now.wall,
            before: None,
        }
    }

    /// Takes other settings from now on.
    pub fn set(&mut self, settings: config::Alerts) {
        self.settings = settings;
    }

    /// Takes an event in.
    pub fn step(&mut self, event: Event, now: Moment) -> Vec<Action> {
        let mut actions = Vec::new();
        self.clock(now, &mut actions);
        match event {
            Event::Logs(batch) => self.logs(&batch, now, &mut actions),
            Event::Changed(change) => self.changed(&change, now, &mut actions),
            Event::Looked(look) => self.looked(*look, now, &mut actions),
            Event::NotLooked(why) => {
                self.totals.failed_looks += 1;
                let finding = said::not_looked(&why);
                self.bring(finding, 1, now, &mut actions);
            }
            Event::FelixEnded(pid) => self.felix_ended(pid, now, &mut actions),
            Event::Trouble { kind, subject, why } => {
                let finding = said::trouble(kind, &subject, &why);
                self.bring(finding, 1, now, &mut actions);
            }
            Event::Mended { kind, subject } => {
                let fingerprint = said::trouble(kind, &subject, "").fingerprint;
                self.end(&fingerprint, "works again", now, &mut actions);
            }
            Event::Tick => self.tick(now, &mut actions),
        }
        actions
    }

    /// A wall clock that went another way than the steady one has jumped.
    fn clock(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let Some(before) = self.before.replace(now) else { return };
        let passed = i64::try_from(now.steady.saturating_sub(before.steady)).unwrap_or(i64::MAX);
        let jump = now.wall.saturating_sub(before.wall).saturating_sub(passed);
        if jump.abs() >= 60_000 {
            self.bring(said::clock_jumped(jump), 1, now, actions);
        }
    }

    fn logs(&mut self, batch: &Batch, now: Moment, actions: &mut Vec<Action>) {
        let denies = batch.denies();
        self.totals.lines = self.totals.lines.saturating_add(batch.lines);
        self.totals.bytes = self.totals.bytes.saturating_add(batch.bytes);
        self.totals.malformed = self.totals.malformed.saturating_add(batch.malformed);
        self.totals.denies = self.totals.denies.saturating_add(denies);
        if denies > 0 {
            self.heard(now, actions);
        }
        let learning = now.wall.saturating_sub(self.first_start) < milliseconds(self.settings.learn);
        let listed = self.failsafe_ports();
        for (kind, seen) in &batch.kinds {
            let own = |(direction, proto, port, _): &&(&str, u8, u16, String)| {
                *direction == kind.direction && Some(*proto) == kind.proto && Some(*port) == kind.port
            };
            let on_list = listed.iter().find(own);
            let (kind, new, minute) = self.kinds.add(kind, seen.count, now.wall);
            if let Some((.., entry)) = on_list {
                self.bring(said::failsafe_denied(&kind, seen, entry), seen.count, now, actions);
            } else if new && !learning {
                self.bring(said::new_kind(&kind, seen), seen.count, now, actions);
            }
            if self.settings.burst > 0 && minute >= self.settings.burst {
                self.bring(said::burst(&kind, seen, minute), seen.count, now, actions);
            }
        }
    }

    /// Entries of the failsafe lists that should have let a deny through: direction, protocol, port, text.
    fn failsafe_ports(&self) -> Vec<(&'static str, u8, u16, String)> {
        let Some(last) = &self.last else { return Vec::new() };
        let lists = [("ingress", &last.failsafe_in), ("egress", &last.failsafe_out)];
        let entries = lists.into_iter().flat_map(|(direction, list)| list.iter().map(move |entry| (direction, entry)));
        let read = |(direction, entry): (&'static str, &String)| {
            // an entry with a net holds for some peers only
            let (proto, port) = entry.split_once(':')?;
            let proto = match proto {
                "tcp" => 6,
                "udp" => 17,
                "sctp" => 132,
                _ => return None,
            };
            Some((direction, proto, port.parse().ok()?, entry.clone()))
        };
        entries.filter_map(read).collect()
    }

    /// Brings a finding to the book; what is new or worse is raised.
    fn bring(&mut self, finding: Finding, times: u64, now: Moment, actions: &mut Vec<Action>) {
        let fingerprint = finding.fingerprint.clone();
        if self.book.bring(finding, times, now) != Brought::Known
            && let Some(alert) = self.book.get(&fingerprint)
        {
            actions.push(Action::Raise(alert.clone()));
        }
    }

    fn end(&mut self, fingerprint: &str, how: &str, now: Moment, actions: &mut Vec<Action>) {
        if let Some(alert) = self.book.resolve(fingerprint, how, now) {
            actions.push(Action::Resolve(alert.clone()));
        }
    }

    fn tell(&mut self, what: String, now: Moment, actions: &mut Vec<Action>) {
        if self.changes.len() >= MAX_CHANGES {
            self.changes.pop_front();
        }
        self.changes.push_back(Told { time: now.wall, what: what.clone() });
        actions.push(Action::Tell(what));
    }

    fn tick(&mut self, now: Moment, actions: &mut Vec<Action>) {
        self.watch_repair(now, actions);
        // denies that stopped, bursts that are over
        let over = |alert: &&Alert| codes::ends_with_quiet(alert.finding.code) && now.wall - alert.last_seen >= QUIET;
        let over: Vec<String> = self.book.open().filter(over).map(|alert| alert.finding.fingerprint.clone()).collect();
        for fingerprint in over {
            self.end(&fingerprint, "not seen for an hour", now, actions);
        }
        let soon =
            |alert: &&Alert| !alert.reminded && bites_at(alert).is_some_and(|at| (0..=SOON).contains(&(at - now.wall)));
        let soon: Vec<String> = self.book.open().filter(soon).map(|alert| alert.finding.fingerprint.clone()).collect();
        for fingerprint in soon {
            if let Some(alert) = self.book.get_mut(&fingerprint) {
                alert.reminded = true;
                actions.push(Action::Remind(alert.clone()));
            }
        }
        self.book.forget(now.wall.saturating_sub(milliseconds(self.settings.remember)));
    }

    /// The open finding that bites next, with its time.
    #[must_use]
    pub fn next_bite(&self, now: i64) -> Option<(i64, &Alert)> {
        let timed = self.book.open().filter_map(|alert| Some((bites_at(alert)?, alert)));
        timed.filter(|(at, _)| *at >= now).min_by_key(|(at, alert)| (*at, &alert.finding.fingerprint))
    }

    /// Open alerts by severity, the worst first.
    #[must_use]
    pub fn open_by_severity(&self) -> [(Severity, usize); 5] {
        Severity::ALL.map(|severity| (severity, self.book.open().filter(|a| a.finding.severity == severity).count()))
    }

    /// Whether an alert goes to the outlets.
    #[must_use]
    pub fn is_loud(&self, alert: &Alert) -> bool {
        alert.finding.severity >= Severity::from(self.settings.minimum)
    }

    /// What survives a restart.
    #[must_use]
    pub fn written(&self) -> Written<'_> {
        Written {
            first_start: self.first_start,
            totals: &self.totals,
            kinds: self.kinds.all().collect(),
            changes: &self.changes,
            alerts: self.book.sorted(),
        }
    }

    /// Takes back what was written; what does not fit is left out.
    pub fn restore(&mut self, value: &Value) {
        let part = |name: &str| value.get(name).cloned().unwrap_or_default();
        self.first_start = value.get("first_start").and_then(Value::as_i64).unwrap_or(self.first_start);
        self.totals = serde_json::from_value(part("totals")).unwrap_or_default();
        let kinds: Vec<(Kind, Known)> = serde_json::from_value(part("kinds")).unwrap_or_default();
        self.kinds.restore(kinds);
        self.changes = serde_json::from_value(part("changes")).unwrap_or_default();
        self.changes.truncate(MAX_CHANGES);
        self.book.restore(value.get("alerts").and_then(Value::as_array).into_iter().flatten().filter_map(Alert::read));
    }

    /// What was known when the daemon started, by part; used by looks to see whether anything changed.
    #[must_use]
    pub fn parts(&self) -> &BTreeMap<String, look::Part> {
        &self.firewall.parts
    }
}

/// When an alert's finding bites, milliseconds since 1970.
fn bites_at(alert: &Alert) -> Option<i64> {
    let text = alert.finding.bites_at.as_deref()?;
    Some(chrono::DateTime::parse_from_rfc3339(text).ok()?.timestamp_millis())
}

fn milliseconds(span: config::Span) -> i64 {
    i64::try_from(span.0.as_millis()).unwrap_or(i64::MAX)
}

/// A finding of the daemon itself.
fn finding(check: &Check, subject: Value, title: impl Into<String>) -> Finding {
    Finding::new(check, subject, title)
}

/// The severity the configuration names.
#[must_use]
pub fn severity(weight: Weight) -> Severity {
    Severity::from(weight)
}

#[cfg(test)]
mod tests;
