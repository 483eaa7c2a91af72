//! A finding: what is wrong, how sure we are, when it bites, what to do.

use serde::Serialize;
use serde_json::Value;

use crate::calico::failsafe::Weight;

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

/// A failsafe problem's weight: calico, below this room, has its own word for it.
impl From<Weight> for Severity {
    fn from(weight: Weight) -> Self {
        match weight {
            Weight::Info => Self::Info,
            Weight::Low => Self::Low,
            Weight::Medium => Self::Medium,
            Weight::High => Self::High,
            Weight::Critical => Self::Critical,
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

impl Finding {
    /// A finding of `check` about `subject` (a JSON object), exact, biting now, with the check's severity. The builder
    /// methods below change the rest.
    #[must_use]
    pub fn new(check: &super::check::Check, subject: Value, title: impl Into<String>) -> Self {
        Self::coded(check.code, check.name, check.severity, subject, title)
    }

    /// A finding of something else than a check of hosts.
    #[must_use]
    pub fn coded(
        code: &'static str,
        name: &'static str,
        severity: Severity,
        subject: Value,
        title: impl Into<String>,
    ) -> Self {
        let fingerprint = fingerprint(code, &subject);
        Self {
            code,
            name,
            severity,
            confidence: Confidence::Exact,
            bites: Bites::Now,
            bites_at: None,
            title: title.into(),
            subject,
            evidence: Vec::new(),
            witness: None,
            fix: String::new(),
            fingerprint,
        }
    }

    /// With another severity.
    #[must_use]
    pub fn severity(mut self, severity: Severity) -> Self {
        self.severity = severity;
        self
    }

    /// Biting then.
    #[must_use]
    pub fn bites(mut self, bites: Bites) -> Self {
        self.bites = bites;
        self
    }

    /// Resting on a bound.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        self.confidence = Confidence::Bounded;
        self
    }

    /// With one more piece of evidence.
    #[must_use]
    pub fn evidence(mut self, source: impl Into<String>, text: impl Into<String>) -> Self {
        self.evidence.push(Evidence { source: source.into(), text: text.into() });
        self
    }

    /// With a packet that shows it.
    #[must_use]
    pub fn witness(mut self, packet: Value) -> Self {
        self.witness = Some(packet);
        self
    }

    /// With what to do.
    #[must_use]
    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = fix.into();
        self
    }
}

/// First 16 hex digits of SHA-256 over the code and the subject with sorted keys: the same on every run and host.
fn fingerprint(code: &str, subject: &Value) -> String {
    use sha2::{Digest, Sha256};
    // serde_json's maps are sorted by key, so equal subjects have equal texts
    let digest = Sha256::digest(format!("{code}\n{subject}"));
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
