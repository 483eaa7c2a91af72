//! Changes cut by what is responsible for them.

use super::lines::Line;
use super::{Changes, Comparison, Found, lines, way, witness};
use crate::analysis::reach::{Account, Decision, Engine};
use crate::packet::{Direction, Packet};
use crate::ruleset::RuleRef;
use crate::space::Dimension;
use crate::space::bdd::{Built, Set};
use crate::space::cover::cover;

/// Open conditions that cut undecided packets into pieces.
const MAX_REASONS: usize = 24;
/// Lines every piece may have, however many pieces share the limit.
const LEAST_LINES: usize = 16;

/// Packets with the same rules responsible.
#[derive(Clone, Debug)]
pub struct Piece {
    /// What decided about them in the first snapshot.
    pub before: Cause,
    /// In the second.
    pub after: Cause,
    /// The packets; together the lines are all of them, unless some are left out.
    pub lines: Vec<Line>,
    /// Whether there are more packets than the lines show.
    pub more: bool,
    /// One of them.
    pub witness: Option<Packet>,
    /// What could not be decided about them.
    pub because: Vec<Condition>,
}

/// What decided about packets.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Cause {
    /// A rule or a chain's policy.
    Decided(Decision),
    /// The kernel itself, and why.
    Kernel(String),
    /// No base chain stood in the way.
    Nothing,
    /// Different rules, or it could not be told.
    NotTold,
}

/// A condition that could not be decided.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Condition {
    /// Whether the first snapshot asks it, else the second.
    pub before: bool,
    /// The rule that asks.
    pub rule: Option<RuleRef>,
    /// Why it cannot be decided.
    pub reason: String,
}

/// What an account says of each set of packets that was asked about.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    gained: Cut<Cause>,
    lost: Cut<Cause>,
    undecided: Cut<Condition>,
}

/// Both sides of one way and state.
pub(super) struct Sides {
    pub(super) found: Found,
    pub(super) before: Told,
    pub(super) after: Told,
}

/// What one ruleset, the `first` or the second, says of what was found.
pub(super) fn told(engine: &mut Engine<'_>, found: &Found, first: bool) -> Built<Told> {
    let hidden = question_variables(engine);
    let mut told = Told::default();
    let of = |engine: &mut Engine<'_>, set: Set| -> Built<Account> {
        if set.is_empty() {
            return Ok(Account::default());
        }
        let hidden = engine.bdd().group(hidden.clone());
        engine.follow(way(found.way), found.header.clone(), set, hidden)
    };
    // who dropped what is gained, who let it through; for what is lost the other way round
    let gained = of(engine, found.gained)?;
    told.gained = causes(gained, !first);
    let lost = of(engine, found.lost)?;
    told.lost = causes(lost, first);
    let group = engine.bdd().group(hidden.clone());
    let (way, header) = (way(found.way), found.header.clone());
    let asked = engine.questions(way, header, found.undecided, group, MAX_REASONS)?;
    told.undecided = asked
        .into_iter()
        .map(|question| (Condition { before: first, rule: question.rule, reason: question.reason }, question.set))
        .collect();
    for set in told.gained.iter_mut().chain(&mut told.lost).map(|(_, set)| set) {
        let group = engine.bdd().group(hidden.clone());
        *set = engine.bdd().exists(*set, group)?;
    }
    for (_, set) in &mut told.undecided {
        let group = engine.bdd().group(hidden.clone());
        *set = engine.bdd().exists(*set, group)?;
    }
    Ok(told)
}

fn question_variables(engine: &Engine<'_>) -> Vec<u16> {
    engine.layout().variables(Dimension::Question).collect()
}

fn causes(account: Account, admitted: bool) -> Vec<(Cause, Set)> {
    if admitted {
        let cause = |decision: Option<Decision>| decision.map_or(Cause::Nothing, Cause::Decided);
        return account.admitted.into_iter().map(|(decision, set)| (cause(decision), set)).collect();
    }
    let refused = account.refused.into_iter().map(|(decision, set)| (Cause::Decided(decision), set));
    refused.chain(account.stopped.into_iter().map(|(why, set)| (Cause::Kernel(why), set))).collect()
}

/// Pieces by what is responsible, states together.
type Cut<K> = Vec<(K, Set)>;

/// Adds packets to the piece of `key`.
fn add<K: PartialEq>(engine: &mut Engine<'_>, cut: &mut Cut<K>, key: K, set: Set) -> Built<()> {
    if set.is_empty() {
        return Ok(());
    }
    match cut.iter_mut().find(|(known, _)| *known == key) {
        Some((_, known)) => *known = engine.bdd().or(*known, set)?,
        None => cut.push((key, set)),
    }
    Ok(())
}

/// The changes of one way.
pub(super) fn changes(
    engine: &mut Engine<'_>,
    comparison: &Comparison<'_>,
    direction: Direction,
    sides: &[Sides],
    real: Set,
) -> Built<Changes> {
    let (mut gained, mut lost, mut undecided) = (Vec::new(), Vec::new(), Vec::new());
    for side in sides.iter().filter(|side| side.found.way == direction) {
        let encoder = engine.encoder();
        let state = encoder.layout.of_classes(&mut encoder.bdd, Dimension::State, |one| one == side.found.state)?;
        let Told { gained: gained_before, lost: lost_before, undecided: asked_before } = &side.before;
        let Told { gained: gained_after, lost: lost_after, undecided: asked_after } = &side.after;
        cut(engine, &mut gained, side.found.gained, (gained_before, gained_after), state)?;
        cut(engine, &mut lost, side.found.lost, (lost_before, lost_after), state)?;
        let asked: Vec<&(Condition, Set)> = asked_before.iter().chain(asked_after).collect();
        cut_by_reason(engine, &mut undecided, side.found.undecided, &asked, state)?;
    }
    let mut changes = Changes::default();
    if gained.is_empty() && lost.is_empty() && undecided.is_empty() {
        return Ok(changes);
    }
    let limit = comparison.wanted.limit;
    let all = gained.len() + lost.len() + undecided.len();
    let mut teller =
        Teller { comparison, direction, real, wishes: witness::wishes(engine, comparison, direction)?, share: 0 };
    teller.share = teller.share_of(gained.len());
    for (causes, set) in gained.into_iter().take(limit) {
        changes.gained.push(teller.piece(engine, causes, Vec::new(), set)?);
    }
    teller.share = teller.share_of(lost.len());
    for (causes, set) in lost.into_iter().take(limit) {
        changes.lost.push(teller.piece(engine, causes, Vec::new(), set)?);
    }
    teller.share = teller.share_of(undecided.len());
    for (because, set) in undecided.into_iter().take(limit) {
        changes.undecided.push(teller.piece(engine, (Cause::NotTold, Cause::NotTold), because, set)?);
    }
    changes.left_out = all - changes.gained.len() - changes.lost.len() - changes.undecided.len();
    Ok(changes)
}

/// Cuts packets by the causes on both sides; what none of them tells goes into a piece of its own.
fn cut(
    engine: &mut Engine<'_>,
    into: &mut Cut<(Cause, Cause)>,
    set: Set,
    (before, after): (&Cut<Cause>, &Cut<Cause>),
    state: Set,
) -> Built<()> {
    let mut rest = set;
    for (first, of_first) in before {
        let part = engine.bdd().and(rest, *of_first)?;
        if part.is_empty() {
            continue;
        }
        let mut open = part;
        for (second, of_second) in after {
            let both = engine.bdd().and(open, *of_second)?;
            open = engine.bdd().minus(open, both)?;
            let stated = engine.bdd().and(both, state)?;
            add(engine, into, (first.clone(), second.clone()), stated)?;
        }
        let open = engine.bdd().and(open, state)?;
        add(engine, into, (first.clone(), Cause::NotTold), open)?;
        rest = engine.bdd().minus(rest, part)?;
    }
    let rest = engine.bdd().and(rest, state)?;
    add(engine, into, (Cause::NotTold, Cause::NotTold), rest)
}

/// Cuts packets by the conditions they hang on.
fn cut_by_reason(
    engine: &mut Engine<'_>,
    into: &mut Cut<Vec<Condition>>,
    set: Set,
    asked: &[&(Condition, Set)],
    state: Set,
) -> Built<()> {
    let mut groups: Vec<(Vec<Condition>, Set)> = vec![(Vec::new(), set)];
    for (condition, of_condition) in asked.iter().take(MAX_REASONS) {
        let mut split = Vec::new();
        for (because, set) in groups {
            let (with, without) = (engine.bdd().and(set, *of_condition)?, engine.bdd().minus(set, *of_condition)?);
            if !with.is_empty() {
                let mut longer = because.clone();
                longer.push(condition.clone());
                split.push((longer, with));
            }
            if !without.is_empty() {
                split.push((because, without));
            }
        }
        groups = split;
    }
    for (because, set) in groups {
        let set = engine.bdd().and(set, state)?;
        add(engine, into, because, set)?;
    }
    Ok(())
}

/// Tells the pieces of one way.
struct Teller<'c, 's> {
    comparison: &'c Comparison<'s>,
    direction: Direction,
    /// Packets that there can be.
    real: Set,
    /// What examples are like.
    wishes: Vec<Set>,
    /// Lines of each piece.
    share: usize,
}

impl Teller<'_, '_> {
    /// Lines for each of so many pieces.
    fn share_of(&self, pieces: usize) -> usize {
        let limit = self.comparison.wanted.limit;
        (limit / pieces.max(1)).max(LEAST_LINES.min(limit))
    }

    fn piece(
        &self,
        engine: &mut Engine<'_>,
        (before, after): (Cause, Cause),
        because: Vec<Condition>,
        set: Set,
    ) -> Built<Piece> {
        let witness = witness::packet(engine, &self.wishes, self.direction, self.comparison.family, set)?;
        let (lines, more) = engine.aside([set, self.real], |engine, [set, real]| {
            let layout = engine.layout().clone();
            let may = engine.bdd().or(set, !real)?;
            let covered = cover(engine.bdd(), &layout, (set, may), self.share)?;
            let mut known = lines::Known::new();
            let lines = covered.products.iter().map(|product| lines::line(engine, product, set, &mut known));
            Ok((lines.collect::<Built<Vec<Line>>>()?, !covered.rest.is_empty()))
        })?;
        Ok(Piece { before, after, lines, more, witness, because })
    }
}
