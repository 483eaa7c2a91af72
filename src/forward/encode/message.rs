//! What goes to a SIEM: a deny, a finding, or a word about hepguard itself; each with an id that stays the same however often
//! it is sent.

use sha2::{Digest as _, Sha256};

use crate::audit::finding::{Finding, Severity};
use crate::logs::event::Event;
use crate::logs::time::Micros;

/// One message.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    /// Stable identity: receivers that meet it twice may drop one. [`id_of`] makes it.
    pub id: String,
    /// When it happened; for a deny without a time, when it was read.
    pub time: Micros,
    /// The host that speaks.
    pub host: &'a str,
    /// What it says.
    pub body: Body<'a>,
}

/// What a message says.
#[derive(Clone, Debug)]
pub enum Body<'a> {
    /// A deny (or another event of a log) and its line.
    Event {
        /// The event.
        event: &'a Event<'a>,
        /// Its line, as logged.
        raw: &'a [u8],
    },
    /// A finding of an audit.
    Finding {
        /// The finding.
        finding: &'a Finding,
        /// Whether it is there, still there or gone.
        state: State,
    },
    /// About hepguard itself.
    Notice(Notice),
}

/// Where a finding stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Seen for the first time.
    New,
    /// Still there.
    Open,
    /// Gone.
    Resolved,
}

impl State {
    /// Its name, as in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Open => "open",
            Self::Resolved => "resolved",
        }
    }
}

/// A word about hepguard itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Notice {
    /// What kind of word.
    pub kind: NoticeKind,
    /// In a sentence.
    pub text: String,
    /// The same in numbers: short names and values.
    pub fields: Vec<(&'static str, String)>,
}

/// Kinds of notices.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoticeKind {
    /// Events between two sequence numbers are lost: dropped for want of room, or damaged on the disk.
    Gap,
    /// All is well, and how much has passed so far.
    Heartbeat,
    /// Someone tries the way.
    Test,
}

impl NoticeKind {
    /// Its name, as in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gap => "gap",
            Self::Heartbeat => "heartbeat",
            Self::Test => "test",
        }
    }

    fn severity(self) -> Severity {
        match self {
            Self::Gap => Severity::High,
            Self::Heartbeat | Self::Test => Severity::Info,
        }
    }
}

impl Message<'_> {
    /// How bad: a resolved finding is good news.
    #[must_use]
    pub fn severity(&self) -> Severity {
        match &self.body {
            Body::Event { event, .. } if event.failsafe => Severity::Medium,
            Body::Event { .. } => Severity::Low,
            Body::Finding { state: State::Resolved, .. } => Severity::Info,
            Body::Finding { finding, .. } => finding.severity,
            Body::Notice(notice) => notice.kind.severity(),
        }
    }

    /// Its kind in one word, the MSGID of RFC 5424.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match &self.body {
            Body::Event { .. } => "DENY",
            Body::Finding { .. } => "FINDING",
            Body::Notice(_) => "HEALTH",
        }
    }
}

/// An id of 32 hex digits from what makes a message itself: its source, its place there, its text. Never from chance or the
/// time of sending, so that what is sent again has the same id.
#[must_use]
pub fn id_of(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        // lengths keep ("ab", "c") and ("a", "bc") apart
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_stable_and_know_where_a_part_ends() {
        assert_eq!(id_of(&[b"ab", b"c"]), id_of(&[b"ab", b"c"]));
        assert_ne!(id_of(&[b"ab", b"c"]), id_of(&[b"a", b"bc"]));
        assert_eq!(id_of(&[]).len(), 32);
    }
}
