//! Alerts: findings with a life. The book of them is bounded, and can be written down and read back.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Moment;
use super::codes;
use crate::audit::check::Check;
use crate::audit::finding::{Bites, Confidence, Evidence, Finding, Severity};
use crate::audit::registry;
use crate::plan;

/// Alerts kept at most, open and resolved together.
pub const MAX_ALERTS: usize = 2000;

/// Pieces of evidence and bytes of one that are kept.
const MAX_EVIDENCE: usize = 8;

/// A finding with its life.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Alert {
    /// What it says; its fingerprint is the alert's.
    #[serde(flatten)]
    pub finding: Finding,
    /// When it was first seen, milliseconds since 1970.
    pub first_seen: i64,
    /// When it was last seen.
    pub last_seen: i64,
    /// How often.
    pub count: u64,
    /// When it was over; `null` while it is not.
    pub resolved: Option<i64>,
    /// What ended it, in words.
    pub resolution: Option<String>,
    /// It was said that it bites soon.
    #[serde(skip)]
    pub reminded: bool,
}

impl Alert {
    /// Whether it still holds.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.resolved.is_none()
    }

    /// Reads back what was written as JSON. `None` when the code is not known any more, or a field is missing.
    #[must_use]
    pub fn read(value: &Value) -> Option<Self> {
        Some(Self {
            finding: read_finding(value)?,
            first_seen: value.get("first_seen")?.as_i64()?,
            last_seen: value.get("last_seen")?.as_i64()?,
            count: value.get("count")?.as_u64()?,
            resolved: value.get("resolved").and_then(Value::as_i64),
            resolution: value.get("resolution").and_then(Value::as_str).map(str::to_owned),
            reminded: false,
        })
    }
}

/// The check with this code, wherever it is listed.
#[must_use]
pub fn find_code(code: &str) -> Option<&'static Check> {
    registry::find(code).or_else(|| plan::codes::find(code)).or_else(|| codes::find(code))
}

#[derive(Deserialize)]
struct Fields {
    code: String,
    severity: String,
    confidence: String,
    bites: String,
    bites_at: Option<String>,
    title: String,
    subject: Value,
    #[serde(default)]
    evidence: Vec<OwnEvidence>,
    witness: Option<Value>,
    #[serde(default)]
    fix: String,
    fingerprint: String,
}

#[derive(Deserialize)]
struct OwnEvidence {
    source: String,
    text: String,
}

/// A finding from its JSON: code and name are those of the registry. `None` for codes nobody knows.
#[must_use]
pub fn read_finding(value: &Value) -> Option<Finding> {
    let fields = Fields::deserialize(value).ok()?;
    let check = find_code(&fields.code)?;
    let severity = Severity::ALL.into_iter().find(|known| known.name() == fields.severity)?;
    let mut finding = Finding::new(check, fields.subject, fields.title).severity(severity).fix(fields.fix);
    finding.confidence = if fields.confidence == "exact" { Confidence::Exact } else { Confidence::Bounded };
    finding.bites = Bites::ALL.into_iter().find(|known| known.name() == fields.bites)?;
    finding.bites_at = fields.bites_at;
    finding.witness = fields.witness;
    let evidence = fields.evidence.into_iter().take(MAX_EVIDENCE);
    finding.evidence = evidence.map(|one| Evidence { source: one.source, text: one.text }).collect();
    finding.fingerprint = fields.fingerprint;
    Some(finding)
}

/// What became of a finding that was brought to the book.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Brought {
    /// It was not open before.
    New,
    /// It is worse than it was.
    Worse,
    /// It was open already.
    Known,
}

/// The alerts, by fingerprint.
#[derive(Clone, Debug, Default)]
pub struct Book {
    alerts: HashMap<String, Alert>,
    /// Alerts that were given up to stay within memory.
    pub given_up: u64,
}

impl Book {
    /// Brings a finding: a new alert, or one more sight of an open one. A resolved one opens again and keeps its first sight.
    pub fn bring(&mut self, finding: Finding, times: u64, now: Moment) -> Brought {
        match self.alerts.get_mut(&finding.fingerprint) {
            Some(alert) => {
                let brought = match alert.resolved.take() {
                    Some(_) => Brought::New,
                    None if finding.severity > alert.finding.severity => Brought::Worse,
                    None => Brought::Known,
                };
                alert.resolution = None;
                alert.last_seen = now.wall;
                alert.count = alert.count.saturating_add(times);
                alert.reminded &= alert.finding.bites_at == finding.bites_at;
                alert.finding = finding;
                brought
            }
            None => {
                self.make_room();
                let alert = Alert {
                    first_seen: now.wall,
                    last_seen: now.wall,
                    count: times,
                    resolved: None,
                    resolution: None,
                    reminded: false,
                    finding,
                };
                self.alerts.insert(alert.finding.fingerprint.clone(), alert);
                Brought::New
            }
        }
    }

    /// Ends an alert; gives it when it was open.
    pub fn resolve(&mut self, fingerprint: &str, how: &str, now: Moment) -> Option<&Alert> {
        let alert = self.alerts.get_mut(fingerprint).filter(|alert| alert.is_open())?;
        alert.resolved = Some(now.wall);
        alert.resolution = Some(how.to_owned());
        Some(alert)
    }

    /// The alert with this fingerprint.
    #[must_use]
    pub fn get(&self, fingerprint: &str) -> Option<&Alert> {
        self.alerts.get(fingerprint)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, fingerprint: &str) -> Option<&mut Alert> {
        self.alerts.get_mut(fingerprint)
    }

    /// All of them: open ones first, the worst first, the latest first.
    #[must_use]
    pub fn sorted(&self) -> Vec<&Alert> {
        let mut all: Vec<&Alert> = self.alerts.values().collect();
        all.sort_by(|a, b| {
            let key = |alert: &Alert| (alert.is_open(), alert.finding.severity, alert.last_seen);
            key(b).cmp(&key(a)).then_with(|| a.finding.fingerprint.cmp(&b.finding.fingerprint))
        });
        all
    }

    /// Those that still hold.
    pub fn open(&self) -> impl Iterator<Item = &Alert> {
        self.alerts.values().filter(|alert| alert.is_open())
    }

    /// Puts back what was written down.
    pub fn restore(&mut self, alerts: impl IntoIterator<Item = Alert>) {
        for alert in alerts.into_iter().take(MAX_ALERTS) {
            self.alerts.insert(alert.finding.fingerprint.clone(), alert);
        }
    }

    /// Forgets what was resolved before this time.
    pub fn forget(&mut self, before: i64) {
        self.alerts.retain(|_, alert| alert.resolved.is_none_or(|at| at >= before));
    }

    /// Room for one more: the resolved go first, then the mildest, then the oldest.
    fn make_room(&mut self) {
        if self.alerts.len() < MAX_ALERTS {
            return;
        }
        let least = |alert: &&Alert| (alert.is_open(), alert.finding.severity, alert.last_seen);
        let victim = self.alerts.values().min_by_key(least).map(|alert| alert.finding.fingerprint.clone());
        if let Some(victim) = victim {
            self.alerts.remove(&victim);
            self.given_up += 1;
        }
    }
}
