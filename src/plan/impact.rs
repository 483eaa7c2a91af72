//! Each protected flow before a change and after it, in every world.

use std::collections::BTreeMap;

use serde::Serialize;

use super::worlds::WorldName;
use crate::analysis::conversation::{Conversation, Outcome};
use crate::analysis::flows::{Flow, inventory};
use crate::analysis::trace::blind_spots;
use crate::audit::finding::Bites;
use crate::audit::judged::{Judged, Reason, judge_flows};
use crate::calico::failsafe::FailsafeReport;
use crate::calico::settings::Entry;
use crate::packet::Family;
use crate::snapshot::Snapshot;

/// What becomes of a flow.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It worked, and it is refused in some world from now on.
    Lost,
    /// It works only because a failsafe entry hides that policy refuses it; before, policy admitted it.
    Masked,
    /// It works by policy alone; before, a failsafe entry stood behind it.
    Unguarded,
    /// Whether it works after the change cannot be decided.
    Unknown,
    /// It was refused, and works.
    Gained,
    /// It is refused as before.
    Refused,
    /// It works as before.
    Kept,
}

impl State {
    /// Its name, as in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Masked => "masked",
            Self::Unguarded => "unguarded",
            Self::Unknown => "unknown",
            Self::Gained => "gained",
            Self::Refused => "refused",
            Self::Kept => "kept",
        }
    }
}

/// A flow in one world.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Change {
    /// Before the change; `null` when this world cannot be told.
    pub before: Option<Outcome>,
    /// After it.
    pub after: Option<Outcome>,
}

/// What a change does to one protected flow.
#[derive(Clone, Debug, Serialize)]
pub struct Impact {
    /// The flow.
    pub name: String,
    /// Why it is protected: the evidence.
    pub why: String,
    /// What becomes of it.
    pub state: State,
    /// A new connection before the change.
    pub before: Outcome,
    /// A new connection once all of the change is in force.
    pub after: Outcome,
    /// Every world by its name.
    pub worlds: BTreeMap<&'static str, Change>,
    /// When a loss is noticed.
    pub bites: Option<Bites>,
    /// Clock time of that, RFC 3339, where one is known.
    pub bites_at: Option<String>,
    /// Code of the finding about it.
    pub finding: Option<&'static str>,
    /// The packet that opens it, in the form of `trace --batch`.
    pub witness: serde_json::Value,
}

/// What the findings say more about a flow.
#[derive(Clone, Debug)]
pub struct Detail {
    /// The flow.
    pub flow: Flow,
    /// Where the conversation is decided before the change: place and rule.
    pub decided_before: Option<(String, String)>,
    /// Where it is decided after it, in the world that decides its state.
    pub decided_after: Option<(String, String)>,
    /// The packet that is stopped, where it is not the first.
    pub stopped: Option<&'static str>,
    /// Why it cannot be decided.
    pub because: Vec<String>,
    /// The failsafe entry that guards it before the change.
    pub guard: Option<Entry>,
    /// The world that decides its state.
    pub world: WorldName,
}

/// All flows.
#[derive(Clone, Debug, Default)]
pub struct JudgedFlows {
    /// Results, in the order of the inventory.
    pub impacts: Vec<Impact>,
    /// Their details, in the same order.
    pub details: Vec<Detail>,
    /// Flows left out of the inventory.
    pub left_out: usize,
}

/// Judges the inventory of the host as it is before the change. `last` is the world in which all of the change is in force;
/// the failsafe lists are those of each side.
#[must_use]
pub fn judge(
    (before, old): (&Snapshot, &FailsafeReport),
    (after, new): (&Snapshot, &FailsafeReport),
    last: WorldName,
) -> JudgedFlows {
    let inventory = inventory(before);
    let earlier = judge_flows(before, old, inventory.flows.clone());
    let later = judge_flows(after, new, inventory.flows);
    let blind = |snapshot: &Snapshot, family: Family| !blind_spots(snapshot, family).is_empty();
    let sides = [Family::Ipv4, Family::Ipv6].map(|family| (family, blind(before, family), blind(after, family)));
    let mut judged = JudgedFlows { left_out: inventory.left_out, ..JudgedFlows::default() };
    for (one, other) in earlier.iter().zip(&later) {
        let Reason::Flow(flow) = &one.reason else { continue };
        let family = one.packet.family();
        let (_, blind_before, blind_after) =
            sides.iter().find(|side| side.0 == family).copied().unwrap_or((family, true, true));
        let one = Side { judged: one, blind: blind_before };
        let other = Side { judged: other, blind: blind_after };
        let (impact, detail) = compare(one, other, flow, last);
        judged.impacts.push(impact);
        judged.details.push(detail);
    }
    judged
}

/// A flow on one side of the change.
#[derive(Clone, Copy)]
struct Side<'a> {
    judged: &'a Judged,
    /// Not all rules were read: nothing is certain.
    blind: bool,
}

impl<'a> Side<'a> {
    /// The conversation in a world, and where it is decided; a world that does not differ from `new` is that one.
    fn held(self, world: WorldName) -> Option<(&'a Conversation, Option<&'a (String, String)>)> {
        let judged = self.judged;
        let new = || (&judged.now, judged.decided.as_ref());
        let other = |answer: &'a Option<(Conversation, Option<(String, String)>)>| {
            answer.as_ref().map(|(held, decided)| (held, decided.as_ref()))
        };
        match world {
            WorldName::Now => None,
            WorldName::New => Some(new()),
            WorldName::NoFailsafe => {
                Some(judged.no_failsafe.as_ref().map_or_else(new, |held| (held, judged.no_failsafe_decided.as_ref())))
            }
            WorldName::FelixRestart => Some(other(&judged.felix_restart).unwrap_or_else(new)),
            WorldName::RebootBeforeFelix => other(&judged.before_felix),
            WorldName::Reboot => other(&judged.reboot),
        }
    }

    fn outcome(self, world: WorldName) -> Option<Outcome> {
        let known = match world {
            WorldName::Now => {
                self.judged.established.map(|passes| if passes { Outcome::Works } else { Outcome::Broken })
            }
            world => self.held(world).map(|(held, _)| held.outcome),
        };
        known.map(|outcome| if self.blind { Outcome::Unknown } else { outcome })
    }
}

fn compare(before: Side<'_>, after: Side<'_>, flow: &Flow, last: WorldName) -> (Impact, Detail) {
    let (state, world) = state_of(|name| before.outcome(name), |name| after.outcome(name), last);
    let at_first = before.outcome(WorldName::New).unwrap_or(Outcome::Unknown);
    let at_last = after.outcome(last).unwrap_or(Outcome::Unknown);
    let guard = before.judged.entry;
    let restarts = matches!(last, WorldName::FelixRestart | WorldName::Reboot);
    let guarded = after.judged.entry.is_some() && !(restarts && after.judged.removed_at_restart);
    let unguarded = state == State::Kept && guard.is_some() && !guarded && at_first == Outcome::Works;
    let state = if unguarded { State::Unguarded } else { state };
    let bites = matches!(state, State::Lost | State::Masked | State::Unguarded).then(|| match (state, world) {
        // the guard is missed when policy changes, or Felix is restarted without the entry
        (State::Masked | State::Unguarded, _) | (_, WorldName::FelixRestart) => Bites::FelixRestart,
        (_, WorldName::RebootBeforeFelix | WorldName::Reboot) => Bites::Reboot,
        (_, WorldName::Now) => Bites::Now,
        _ if flow.timer.is_some() => Bites::Renewal,
        _ => Bites::Reconnect,
    });
    let bites_at = flow.clock.first().filter(|_| bites == Some(Bites::Renewal)).map(|moment| moment.at.clone());
    let decisive = after.held(world);
    let open =
        decisive.and_then(|(held, _)| held.decisive()).map(|one| one.trace.because.as_slice()).unwrap_or_default();
    let detail = Detail {
        decided_before: before.judged.decided.clone(),
        decided_after: decisive.and_then(|(held, decided)| decided.cloned().or_else(|| by_kernel(held))),
        stopped: decisive
            .filter(|(held, _)| held.broken_at().is_some_and(|number| number > 1))
            .and_then(|(held, _)| Some(held.decisive()?.name)),
        because: open.iter().take(3).map(|one| one.reason.clone()).collect(),
        guard,
        world,
        flow: flow.clone(),
    };
    let worlds = WorldName::ALL.into_iter().filter_map(|name| {
        let change = Change { before: before.outcome(name), after: after.outcome(name) };
        (change.before.is_some() || change.after.is_some()).then_some((name.name(), change))
    });
    let impact = Impact {
        name: flow.name.clone(),
        why: format!("{}: {}", flow.source, flow.evidence),
        state,
        before: at_first,
        after: at_last,
        worlds: worlds.collect(),
        bites,
        bites_at,
        finding: None,
        witness: before.judged.witness(),
    };
    (impact, detail)
}

/// Where no rule decides, the kernel itself may.
fn by_kernel(held: &Conversation) -> Option<(String, String)> {
    let why = held.decisive()?.trace.stopped_by.clone()?;
    Some(("the kernel itself".to_owned(), why))
}

/// What becomes of a flow, and the world that says so.
fn state_of(
    before: impl Fn(WorldName) -> Option<Outcome>,
    after: impl Fn(WorldName) -> Option<Outcome>,
    last: WorldName,
) -> (State, WorldName) {
    use Outcome::{Broken, Unknown, Works};
    for world in [WorldName::Now, WorldName::New, WorldName::FelixRestart] {
        if before(world) == Some(Works) && after(world) == Some(Broken) {
            return (State::Lost, world);
        }
    }
    let at_last = (before(WorldName::New), after(last));
    if at_last == (Some(Works), Some(Broken)) {
        return (State::Lost, last);
    }
    for world in [WorldName::RebootBeforeFelix, WorldName::Reboot] {
        if before(world) == Some(Works) && after(world) == Some(Broken) {
            return (State::Lost, world);
        }
    }
    let open = |world| before(world) == Some(Works) && matches!(after(world), Some(Unknown) | None);
    if at_last.1 == Some(Works) {
        let alone = |outcome: Option<Outcome>| outcome == Some(Broken);
        if alone(after(WorldName::NoFailsafe)) && !alone(before(WorldName::NoFailsafe)) {
            return (State::Masked, WorldName::NoFailsafe);
        }
    }
    for world in [WorldName::New, WorldName::FelixRestart] {
        if open(world) {
            return (State::Unknown, world);
        }
    }
    match at_last {
        (_, Some(Unknown) | None) => (State::Unknown, last),
        (Some(Broken), Some(Works)) => (State::Gained, last),
        (Some(Broken), Some(Broken)) => (State::Refused, last),
        _ => (State::Kept, last),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(before: [Outcome; 3], after: [Outcome; 3], last: WorldName) -> (State, WorldName) {
        let at = |all: [Outcome; 3]| {
            move |name| match name {
                WorldName::New => Some(all[0]),
                WorldName::NoFailsafe => Some(all[1]),
                WorldName::FelixRestart => Some(all[2]),
                WorldName::Now | WorldName::RebootBeforeFelix | WorldName::Reboot => None,
            }
        };
        state_of(at(before), at(after), last)
    }

    #[test]
    fn each_state_has_its_world() {
        use Outcome::{Broken, Unknown, Works};
        use WorldName::{FelixRestart, New, NoFailsafe};
        let all = [Works; 3];
        assert_eq!(state(all, all, New), (State::Kept, New));
        assert_eq!(state(all, [Broken, Works, Works], New), (State::Lost, New));
        assert_eq!(state(all, [Works, Works, Broken], New), (State::Lost, FelixRestart));
        assert_eq!(state(all, [Works, Broken, Works], New), (State::Masked, NoFailsafe));
        assert_eq!(state(all, [Unknown, Works, Works], New), (State::Unknown, New));
        assert_eq!(state([Broken; 3], [Works; 3], New), (State::Gained, New));
        assert_eq!(state([Broken; 3], [Broken; 3], New), (State::Refused, New));
        // refused after a restart already; the change is the restart
        let trimmed = [Works, Broken, Broken];
        assert_eq!(state(trimmed, trimmed, FelixRestart), (State::Lost, FelixRestart));
        // masked already: nothing new
        assert_eq!(state([Works, Broken, Works], [Works, Broken, Works], New), (State::Kept, New));
    }
}
