//! Events in the forms SIEMs take: a document or line each. Whatever a log holds stays data: escaped by each form's rules,
//! control characters included.

mod cef;
mod ecs;
mod ocsf;
#[cfg(test)]
mod tests;

use crate::logs::event::{Action, Event};
use crate::report::denies::event_line;
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

/// Packets and bytes of all events the line stands for.
fn sums(event: &Event<'_>) -> (u64, u64) {
    (event.packets.saturating_mul(event.count), event.bytes.saturating_mul(event.count))
}
