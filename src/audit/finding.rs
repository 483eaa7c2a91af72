//! A finding: what is wrong, how sure we are, when it bites, what to do.

use serde::Serialize;
use serde_json::Value;

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Untidy, or a risk that needs a second mistake.
    Low,
    /// Should be planned for.
    Medium,
    /// Access or protection hangs on one thread.
    High,
    /// Access or protection is lost, or will be at the next ordinary event.
    Critical,
}

impl Severity {
    /// Most severe first.
    pub const ALL: [Self; 5] = [Self::Critical, Self::High, Self::Medium, Self::Low, Self::Info];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

/// How sure the finding is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Confidence {
    /// Follows from what was read.
    Exact,
    /// Rests on a bound: something on the way could not be decided.
    Bounded,
}

/// When it bites.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bites {
    /// Already.
    Now,
    /// At the next new connection.
    Reconnect,
    /// When a lease, cache, timer or credential runs out.
    Renewal,
    /// When Felix restarts or resyncs.
    FelixRestart,
    /// When the host boots.
    Reboot,
}

impl Bites {
    /// In the order they come.
    pub const ALL: [Self; 5] = [Self::Now, Self::Reconnect, Self::Renewal, Self::FelixRestart, Self::Reboot];

    /// Its name, as in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Now => "now",
            Self::Reconnect => "reconnect",
            Self::Renewal => "renewal",
            Self::FelixRestart => "felix-restart",
            Self::Reboot => "reboot",
        }
    }
}

/// A place and what stands there.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Evidence {
    /// File and line, or backend, table and chain: `calico.env:4`, `iptables-legacy filter cali-failsafe-in rule 3`.
    pub source: String,
    /// The text found there.
    pub text: String,
}

/// One finding (`product.md` §4; fields are only ever added).
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Finding {
    /// Code for ever, `HG101`.
    pub code: &'static str,
    /// Name for people, `failsafe-in-missing`.
    pub name: &'static str,
    /// How bad.
    pub severity: Severity,
    /// How sure.
    pub confidence: Confidence,
    /// When it bites.
    pub bites: Bites,
    /// Clock time, RFC 3339, when one is known.
    pub bites_at: Option<String>,
    /// One line.
    pub title: String,
    /// What it is about: an object of short keys (`family`, `direction`, `proto`, `port`, `chain`, …). Part of the fingerprint.
    pub subject: Value,
    /// What it rests on.
    pub evidence: Vec<Evidence>,
    /// A packet that shows it, in the form of `trace --batch`.
    pub witness: Option<Value>,
    /// What to do, with a command to copy, and whether it is safe over SSH.
    pub fix: String,
    /// Stable across runs: hash of code and subject.
    pub fingerprint: String,
}
