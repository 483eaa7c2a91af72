//! The exact packets that a change refuses or admits, besides the flows that are protected.

use std::sync::Arc;

use crate::analysis::diff::{Changes, Diff, Piece, Wanted, compare};
use crate::analysis::trace::is_listed;
use crate::calico::names::Authors;
use crate::packet::{Direction, Family};
use crate::ruleset::{Ruleset, Set, Table};
use crate::snapshot::Snapshot;

/// Nodes a comparison may need: a few seconds of work at most. What needs more is said to be not compared.
const BUDGET: usize = 4_000_000;

/// Lines of one piece, and pieces of one list.
const LIMIT: usize = 64;

/// Which packets are treated differently, with the rulesets that the answer speaks of.
#[derive(Clone, Debug, Default)]
pub struct Difference {
    /// The rules before the change.
    pub before: Ruleset,
    /// The rules once all of the change is in force.
    pub after: Ruleset,
    /// Who wrote them, as far as resources tell: before, and after.
    pub authors: [Arc<Authors>; 2],
    /// What differs.
    pub diff: Diff,
    /// Parts without an answer, and why.
    pub not_compared: Vec<String>,
}

impl Difference {
    /// Compares `before` with `after`, the host once all of the change is in force.
    pub(super) fn of(before: &Snapshot, after: &Snapshot) -> Self {
        Self::within(before, after, BUDGET)
    }

    /// No answer at all.
    pub(super) fn unknown(why: &str) -> Self {
        Self { not_compared: vec![why.to_owned()], ..Self::default() }
    }

    fn within(before: &Snapshot, after: &Snapshot, budget: usize) -> Self {
        let same_host = before.host.same_routing(&after.host);
        let listed = |family: &Family| is_listed(before, *family) || is_listed(after, *family);
        let may_differ = |family: &Family| !same_host || !same_rules(&before.ruleset, &after.ruleset, *family);
        let families = [Family::Ipv4, Family::Ipv6].into_iter().filter(listed).filter(may_differ).collect();
        let wanted = Wanted { families, budget, limit: LIMIT, ..Wanted::default() };
        let diff = compare(before, after, &wanted);
        let mut not_compared = Vec::new();
        for part in &diff.parts {
            let title = format!("{} {}", part.family, hook(part.way));
            match &part.changes {
                Err(too_large) => not_compared.push(format!("{title}: {too_large}")),
                Ok(changes) if changes.left_out > 0 => {
                    not_compared.push(format!(
                        "{title}: {} more differences, by other rules, are not listed",
                        changes.left_out
                    ));
                }
                Ok(_) => {}
            }
        }
        let authors = [before, after].map(|side| Arc::clone(&side.authors));
        Self { before: before.ruleset.clone(), after: after.ruleset.clone(), authors, diff, not_compared }
    }

    /// One list of all parts: family, way, piece.
    pub fn pieces(&self, of: fn(&Changes) -> &[Piece]) -> impl Iterator<Item = (Family, Direction, &Piece)> {
        let parts = self.diff.parts.iter().filter_map(|part| Some((part, part.changes.as_ref().ok()?)));
        parts.flat_map(move |(part, changes)| of(changes).iter().map(|piece| (part.family, part.way, piece)))
    }

    /// Whether every packet has an answer.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.not_compared.is_empty() && self.pieces(|changes| &changes.undecided).next().is_none()
    }
}

/// The hook at which packets of this way meet the firewall last.
#[must_use]
pub fn hook(way: Direction) -> &'static str {
    match way {
        Direction::In => "input",
        Direction::Out => "output",
        Direction::Forward => "forward",
    }
}

/// Whether the rules that see packets of a family are the same, whatever their counters, handles and lines.
fn same_rules(before: &Ruleset, after: &Ruleset, family: Family) -> bool {
    let own = |set: &Set| set.family.is_none_or(|of| of == family);
    let seen = |table: &Table| table.family.sees(family) || table.family == Family::Netdev;
    before.acts_as(after, seen, own)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::trace::{Engine, TraceOptions, TraceVerdict};
    use crate::demo::World;
    use crate::plan::change::Setting;
    use crate::snapshot;

    fn lab(changes: &[(&str, &str)]) -> Snapshot {
        let mut files = World::Before.files();
        for (name, value) in changes {
            let setting = Setting::Parameter { name: (*name).to_owned(), value: (*value).to_owned() };
            setting.apply(&mut files).expect("it is set");
        }
        snapshot::read(files)
    }

    /// The lab after a restart with these lists.
    fn restarted(changes: &[(&str, &str)]) -> Snapshot {
        let after = lab(changes);
        let lists = crate::calico::failsafe::compare(&after.files, &after.ruleset, &after.host);
        let ruleset = crate::analysis::worlds::after_felix_restart(&after.ruleset, &lists);
        Snapshot { ruleset: ruleset.expect("the restart changes something"), ..after }
    }

    /// The other engine says the same of each example.
    #[test]
    fn each_example_is_treated_as_it_is_told() {
        let before = lab(&[]);
        for (change, denied, allowed) in [
            (&[("FailsafeInboundHostPorts", "none")][..], 5, 0),
            (&[("FailsafeInboundHostPorts", "udp:68,tcp:2222"), ("FailsafeOutboundHostPorts", "none")], 6, 1),
        ] {
            let difference = Difference::of(&before, &restarted(change));
            assert!(difference.is_whole(), "{:?}", difference.not_compared);
            let (old, new) =
                (Engine::new(&difference.before, &before.host), Engine::new(&difference.after, &before.host));
            let replay = |of: fn(&Changes) -> &[Piece], wanted: [TraceVerdict; 2]| {
                let mut number = 0;
                for (_, _, piece) in difference.pieces(of) {
                    let packet = piece.witness.as_ref().expect("an example");
                    let told = [&old, &new].map(|engine| engine.trace(packet, &TraceOptions::default()).verdict);
                    assert_eq!(told, wanted, "{packet}");
                    number += 1;
                }
                number
            };
            let (accept, drop) = (TraceVerdict::Accept, TraceVerdict::Drop);
            let denials = replay(|changes| &changes.lost, [accept, drop]);
            let admissions = replay(|changes| &changes.gained, [drop, accept]);
            assert!(denials >= denied && admissions >= allowed, "{change:?}: {denials} denied, {admissions} allowed");
        }
    }

    #[test]
    fn what_does_not_change_costs_nothing() {
        let before = lab(&[]);
        let difference = Difference::within(&before, &before, 1);
        assert!(difference.is_whole() && difference.diff.parts.is_empty(), "{:?}", difference.not_compared);
    }

    #[test]
    fn a_comparison_past_its_budget_is_said_to_be_none() {
        let difference = Difference::within(&lab(&[]), &restarted(&[("FailsafeInboundHostPorts", "none")]), 1000);
        let titles: Vec<&str> = difference.not_compared.iter().filter_map(|text| text.split(':').next()).collect();
        assert_eq!(titles, ["ipv4 input", "ipv4 output", "ipv4 forward"], "IPv6 has no failsafe rules there");
        assert_eq!(difference.pieces(|changes| &changes.lost).count(), 0);
    }
}
