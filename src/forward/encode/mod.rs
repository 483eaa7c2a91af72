//! Events in the forms SIEMs take: a document or line each. Whatever a log holds stays data: escaped by each form's rules,
//! control characters included.

mod cef;
mod ecs;
mod findings;
pub mod journal;
mod leef;
pub mod message;
mod ocsf;
pub mod rfc5424;
#[cfg(test)]
mod tests;

use self::message::{Body, Message};
use self::rfc5424::Header;
use crate::logs::event::{Action, Event};
use crate::report::denies_event::event_line;
use crate::report::json_text;

/// A form of events, one a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// `hepguard/event/v1`.
    Jsonl,
    /// Elastic Common Schema 9.4.
    Ecs,
    /// OCSF 1.8, class 4001 (Network Activity).
    Ocsf,
    /// ArcSight's Common Event Format, version 0.
    Cef,
}

impl Form {
    /// All forms with their names.
    pub const NAMES: [(Self, &'static str); 4] =
        [(Self::Jsonl, "jsonl"), (Self::Ecs, "ecs"), (Self::Ocsf, "ocsf"), (Self::Cef, "cef")];

    /// A form by name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known)| *known == name).map(|(form, _)| *form)
    }

    /// One event and its line of the log as a line, without line end.
    #[must_use]
    pub fn line(self, event: &Event<'_>, raw: &[u8]) -> String {
        match self {
            Self::Jsonl => event_line(event, raw),
            Self::Ecs => json_text(&ecs::document(event, raw)),
            Self::Ocsf => json_text(&ocsf::document(event, raw)),
            Self::Cef => cef::line(event),
        }
    }
}

/// How the text of a message is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Shape {
    /// A sentence; with syslog the fields are structured data in front of it.
    #[default]
    Text,
    /// hepguard's own JSON: `hepguard/event/v1`, `hepguard/alert/v1`, `hepguard/notice/v1`.
    Json,
    /// Elastic Common Schema 9.4.
    Ecs,
    /// OCSF 1.8: Network Activity, Detection Finding, Compliance Finding, Application Lifecycle.
    Ocsf,
    /// Common Event Format, version 0.
    Cef,
    /// Log Event Extended Format 2.0.
    Leef,
}

impl Shape {
    /// All shapes with their names.
    pub const NAMES: [(Self, &'static str); 6] = [
        (Self::Text, "rfc5424"),
        (Self::Json, "json"),
        (Self::Ecs, "ecs"),
        (Self::Ocsf, "ocsf"),
        (Self::Cef, "cef"),
        (Self::Leef, "leef"),
    ];

    /// A shape by name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known)| *known == name).map(|(shape, _)| *shape)
    }

    /// Its name in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(shape, _)| *shape == self).map_or("rfc5424", |(_, name)| name)
    }
}

/// Longest line of a log that travels with its event, in bytes: the fields are what counts.
const MAX_RAW: usize = 2048;

/// What the text travels in.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Envelope {
    /// Nothing: the text alone.
    #[default]
    Bare,
    /// A syslog message with this header.
    Syslog(Header),
    /// A syslog message as the host's own `/dev/log` takes it.
    Local(Header),
    /// An entry of systemd's journal, with facility, process id and greatest length of the header.
    Journal(Header),
}

/// How messages are written for one output.
#[derive(Clone, Debug, Default)]
pub struct Encoding {
    /// The text.
    pub shape: Shape,
    /// And what it travels in.
    pub envelope: Envelope,
}

impl Encoding {
    /// A message as it is sent, without the end of its line. `lane` names the queue it stands in and its number there, by which
    /// a receiver sees what is missing.
    #[must_use]
    pub fn payload(&self, message: &Message<'_>, lane: (&str, u64)) -> Vec<u8> {
        match &self.envelope {
            Envelope::Bare => self.text(message, lane).into_bytes(),
            Envelope::Syslog(header) => rfc5424::line(message, header, lane, &self.text(message, lane)).into_bytes(),
            Envelope::Local(header) => rfc5424::local(message, header, lane, &self.text(message, lane)).into_bytes(),
            Envelope::Journal(header) => journal::entry(message, header, lane, &self.text(message, lane)),
        }
    }

    /// The text, in one line.
    fn text(&self, message: &Message<'_>, lane: (&str, u64)) -> String {
        match self.shape {
            Shape::Text => rfc5424::words(message),
            Shape::Cef => cef::message(message),
            Shape::Leef => leef::line(message),
            Shape::Json | Shape::Ecs | Shape::Ocsf => json_text(&document(self.shape, message, lane)),
        }
    }
}

/// The message as a document.
fn document(shape: Shape, message: &Message<'_>, (lane, sequence): (&str, u64)) -> serde_json::Value {
    let Body::Event { event, raw } = &message.body else {
        return match shape {
            Shape::Ecs => findings::ecs(message),
            Shape::Ocsf => findings::ocsf(message),
            _ => findings::own(message),
        };
    };
    let raw = raw.get(..MAX_RAW).unwrap_or(raw);
    let mut out = match shape {
        Shape::Ecs => ecs::document(event, raw),
        Shape::Ocsf => ocsf::document(event, raw),
        _ => serde_json::from_str(&event_line(event, raw)).unwrap_or_default(),
    };
    let (under, name) = match shape {
        Shape::Ecs => ("/event", "id"),
        Shape::Ocsf => ("/metadata", "uid"),
        _ => ("", "id"),
    };
    if let Some(fields) = out.pointer_mut(under).and_then(serde_json::Value::as_object_mut) {
        fields.insert(name.to_owned(), message.id.as_str().into());
    }
    if shape == Shape::Ecs
        && let Some(fields) = out.pointer_mut("/hepguard").and_then(serde_json::Value::as_object_mut)
    {
        fields.insert("lane".to_owned(), lane.into());
        fields.insert("sequence".to_owned(), sequence.into());
    }
    out
}

/// What SIEMs distinguish.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Denied,
    Allowed,
    Observed,
}

fn fate(action: Action) -> Fate {
    match action {
        Action::Deny | Action::Drop | Action::Reject => Fate::Denied,
        Action::Allow => Fate::Allowed,
        Action::Pass | Action::Log | Action::Unknown => Fate::Observed,
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
