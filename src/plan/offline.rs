//! An offline plan, as in a code review: of the host only policies and settings are known. Its rules are then those that Felix
//! would write for them, and nothing is proven by live ones.

use crate::analysis::trace::is_listed;
use crate::calico::predict::{Knowledge, Situation, predict};
use crate::packet::Family;
use crate::snapshot::Snapshot;

/// A host with rendered rules.
#[derive(Clone, Debug)]
pub struct Offline {
    /// The host.
    pub before: Snapshot,
    /// Remarks on how its rules came about.
    pub notes: Vec<String>,
    /// What of the rules is not known, each by its name.
    pub unknown: Vec<String>,
}

/// The host with the rules that Felix would write; `None` where somebody looked for its rules, or no resource is known.
#[must_use]
pub fn offline(snapshot: &Snapshot, known: &Knowledge) -> Option<Offline> {
    let listed = [Family::Ipv4, Family::Ipv6].into_iter().any(|family| is_listed(snapshot, family));
    if listed || !snapshot.ruleset.tables.is_empty() || known.resources.is_empty() {
        return None;
    }
    let written = predict(&Situation { ruleset: &snapshot.ruleset, host: &snapshot.host, known }, known);
    let mut notes = vec![
        "an offline plan: no rules of the host are given, so Felix's are rendered from its policies and settings; \
         rules of others are not in it"
            .to_owned(),
    ];
    notes.extend(written.notes);
    let before = Snapshot { ruleset: written.ruleset, rendered: true, ..snapshot.clone() };
    Some(Offline { before, notes, unknown: written.unknown })
}
