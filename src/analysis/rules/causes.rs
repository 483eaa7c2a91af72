//! Which rules take the packets that a dead rule asks for.

use std::collections::HashMap;

use super::{Cause, Outcome, Why};
use crate::analysis::reach::Engine;
use crate::analysis::reach::passages::Passages;
use crate::packet::CtState;
use crate::ruleset::{Effect, Expr, Field, Match, Operator, Rule, RuleRef, Ruleset, Step, Verdict};
use crate::space::Dimension;
use crate::space::bdd::{Built, Set};
use crate::space::layout::STATES;

/// Chains looked through one behind another.
const MAX_DEPTH: u32 = 12;
/// Rules found for one dead rule.
const MAX_TAKERS: usize = 64;
/// Rules among which the fewest are looked for.
const MAX_CHOICE: usize = 16;
/// Rules that call one chain and are all looked at.
const MAX_CALLERS: usize = 16;
/// Rules looked at for one choice; beyond, only what a rule took counts.
const MAX_LOOKS: usize = 256;

/// A look for the causes of dead rules below one base chain.
pub(super) struct Search<'s, 'a> {
    ruleset: &'s Ruleset,
    engine: &'s mut Engine<'a>,
    passages: &'s Passages,
    /// Packets that come to each rule, where asked before.
    reached: HashMap<RuleRef, Set>,
    /// Rules that may still be looked at for the rule in question.
    looks: usize,
}

/// Rules with the packets they take.
type Takers = Vec<(RuleRef, Set)>;

impl<'s, 'a> Search<'s, 'a> {
    pub(super) fn new(ruleset: &'s Ruleset, engine: &'s mut Engine<'a>, passages: &'s Passages) -> Self {
        Self { ruleset, engine, passages, reached: HashMap::new(), looks: 0 }
    }

    /// Why `place` is dead, and which rules see to it.
    pub(super) fn causes(&mut self, place: RuleRef) -> Built<(Why, Vec<Cause>)> {
        let all = self.engine.asked_for(self.passages, place, Set::ALL)?;
        let all = self.possible(all)?;
        if all.is_empty() {
            return Ok((Why::Impossible, Vec::new()));
        }
        // packets of known connections are accepted first nearly everywhere: new ones show what decides
        let fresh = self.fresh(all)?;
        let wanted = if fresh.is_empty() { all } else { fresh };
        let mut takers = Takers::new();
        self.takers(place, wanted, 0, &mut takers)?;
        if takers.is_empty() {
            let callers = self.passages.callers.get(&place.chain).into_iter().flatten();
            let callers = callers.map(|caller| self.cause(*caller)).collect();
            return Ok((Why::NotSent, callers));
        }
        let takers = self.fewest(place, takers)?;
        Ok((Why::Covered, takers.into_iter().map(|(taker, _)| self.cause(taker)).collect()))
    }

    /// Of the packets in `set`, those whose fields can be: a new connection's or none's.
    fn fresh(&mut self, set: Set) -> Built {
        let encoder = self.engine.encoder();
        let new = encoder
            .layout
            .of_classes(&mut encoder.bdd, Dimension::State, |class| STATES.get(class) == Some(&CtState::NEW))?;
        encoder.bdd.and(set, new)
    }

    /// Those of `set` that start at the base chain at all.
    fn possible(&mut self, set: Set) -> Built {
        let base = RuleRef { table: self.passages.entry.table, chain: self.passages.entry.chain, rule: 0 };
        let start = self.reached(base)?;
        self.engine.bdd().and(set, start)
    }

    fn reached(&mut self, place: RuleRef) -> Built {
        if let Some(known) = self.reached.get(&place) {
            return Ok(*known);
        }
        let set = match self.passages.chains.get(&place.chain) {
            Some(passage) => passage.reached(self.engine, place.rule)?,
            None => Set::NONE,
        };
        self.reached.insert(place, set);
        Ok(set)
    }

    /// Rules that take packets of `wanted` before they come to `until`, in its chain and in those that call it.
    fn takers(&mut self, until: RuleRef, wanted: Set, depth: u32, found: &mut Takers) -> Built<()> {
        let entering = self.reached(RuleRef { rule: 0, ..until })?;
        let inside = self.engine.bdd().and(wanted, entering)?;
        let outside = self.engine.bdd().minus(wanted, entering)?;
        if !outside.is_empty() && depth < MAX_DEPTH {
            let passages = self.passages;
            for caller in passages.callers.get(&until.chain).into_iter().flatten() {
                let sent = self.engine.asked_for(passages, *caller, outside)?;
                if !sent.is_empty() && found.len() < MAX_TAKERS {
                    self.takers(*caller, sent, depth + 1, found)?;
                }
            }
        }
        if inside.is_empty() {
            return Ok(());
        }
        let at_end = self.reached(until)?;
        let left = self.engine.bdd().and(inside, at_end)?;
        self.between(RuleRef { rule: 0, ..until }, until.rule, (inside, left), depth, found)
    }

    /// Rules of one chain from `from` on and before `until` that take packets: `before` come to the first, `after` past the last.
    fn between(
        &mut self,
        from: RuleRef,
        until: usize,
        (before, after): (Set, Set),
        depth: u32,
        found: &mut Takers,
    ) -> Built<()> {
        let mut todo = vec![(from.rule, until, before, after)];
        while let Some((from_rule, until, before, after)) = todo.pop() {
            if before == after || from_rule >= until || found.len() >= MAX_TAKERS {
                continue;
            }
            if from_rule + 1 == until {
                let taken = self.engine.bdd().minus(before, after)?;
                self.taken(RuleRef { rule: from_rule, ..from }, taken, depth, found)?;
                continue;
            }
            let middle = from_rule.midpoint(until);
            let halfway = self.reached(RuleRef { rule: middle, ..from })?;
            let halfway = self.engine.bdd().and(before, halfway)?;
            todo.push((middle, until, halfway, after));
            todo.push((from_rule, middle, before, halfway));
        }
        Ok(())
    }

    /// `place` takes `taken`: where it calls a chain, rules of that do; where it obeys a mark, the rule that set it.
    fn taken(&mut self, place: RuleRef, taken: Set, depth: u32, found: &mut Takers) -> Built<()> {
        let count = found.len();
        let ruleset = self.ruleset;
        let Some(rule) = ruleset.rule(place) else { return Ok(()) };
        if depth < MAX_DEPTH {
            for called in self.called(place) {
                let end = self.length(called);
                let first = RuleRef { chain: called, rule: 0, ..place };
                let entering = self.reached(first)?;
                let inside = self.engine.bdd().and(taken, entering)?;
                let at_end = self.reached(RuleRef { rule: end, ..first })?;
                let left = self.engine.bdd().and(inside, at_end)?;
                self.between(first, end, (inside, left), depth + 1, found)?;
            }
            let bits = tested_bits(rule);
            if bits != 0 {
                self.markers(place, bits, taken, found)?;
            }
        }
        // what nobody behind it takes does not come back
        let others: Vec<Set> = found.iter().skip(count).map(|(_, set)| *set).collect();
        let others = self.engine.bdd().union(others)?;
        let own = self.engine.bdd().minus(taken, others)?;
        if !own.is_empty() {
            found.push((place, own));
        }
        Ok(())
    }

    /// Chains that a rule calls.
    fn called(&self, place: RuleRef) -> Vec<usize> {
        let callers = self.passages.callers.iter();
        let mut called: Vec<usize> =
            callers.filter(|(_, rules)| rules.contains(&place)).map(|(chain, _)| *chain).collect();
        called.sort_unstable();
        called
    }

    fn length(&self, chain: usize) -> usize {
        self.passages.chains.get(&chain).map_or(0, |passage| passage.matched.len())
    }

    /// Rules in chains called before `place` that set `bits` of packets in `wanted`: the nearest first, until all are found.
    fn markers(&mut self, place: RuleRef, bits: u32, wanted: Set, found: &mut Takers) -> Built<()> {
        let mut left = wanted;
        let mut markers = Vec::new();
        for before in (0..place.rule).rev() {
            if left.is_empty() {
                break;
            }
            let mut chains = self.called(RuleRef { rule: before, ..place });
            let mut seen = 0;
            while let Some(chain) = chains.get(seen).copied().filter(|_| seen < 64) {
                seen += 1;
                for rule in 0..self.length(chain) {
                    let marker = RuleRef { chain, rule, ..place };
                    chains.extend(self.called(marker));
                    if !self.ruleset.rule(marker).is_some_and(|rule| sets_bits(rule, bits)) {
                        continue;
                    }
                    let matched = self.passages.chains.get(&chain).and_then(|one| one.matched.get(rule));
                    let set = self.engine.bdd().and(left, matched.copied().unwrap_or(Set::NONE))?;
                    if !set.is_empty() {
                        markers.push((marker, set));
                        left = self.engine.bdd().minus(left, set)?;
                    }
                }
            }
        }
        markers.reverse();
        if left.is_empty() {
            found.extend(markers);
        }
        Ok(())
    }

    /// As few of the rules as take all; one that takes all by itself, if there is one.
    fn fewest(&mut self, place: RuleRef, takers: Takers) -> Built<Takers> {
        let mut joined = Takers::with_capacity(takers.len());
        for (taker, set) in takers {
            match joined.iter_mut().find(|(known, _)| *known == taker) {
                Some((_, known)) => *known = self.engine.bdd().or(*known, set)?,
                None => joined.push((taker, set)),
            }
        }
        let takers = joined;
        if takers.len() < 2 || takers.len() > MAX_CHOICE {
            return Ok(takers);
        }
        let all = self.engine.bdd().union(takers.iter().map(|(_, set)| *set).collect::<Vec<_>>())?;
        self.looks = MAX_LOOKS;
        let mut takes = Vec::with_capacity(takers.len());
        for (taker, set) in &takers {
            let kept = self.alone(*taker, place, all, 0)?;
            takes.push(self.engine.bdd().or(kept, *set)?);
        }
        if let Some(one) = takes.iter().position(|takes| *takes == all) {
            return Ok(takers.get(one).copied().into_iter().collect());
        }
        let mut needed = vec![true; takers.len()];
        for leave in (0..takers.len()).rev() {
            let others = takes.iter().zip(&needed).enumerate();
            let others: Vec<Set> =
                others.filter(|(at, (_, needed))| **needed && *at != leave).map(|(_, (set, _))| *set).collect();
            let covered = self.engine.bdd().union(others)? == all;
            if let Some(needed) = needed.get_mut(leave) {
                *needed = !covered;
            }
        }
        Ok(takers.into_iter().zip(needed).filter(|(_, needed)| *needed).map(|(taker, _)| taker).collect())
    }

    /// Packets of `all` that do not come to `place` for `taker` alone, were there nothing else but jumps.
    fn alone(&mut self, taker: RuleRef, place: RuleRef, all: Set, depth: u32) -> Built {
        if self.looks == 0 {
            return Ok(Set::NONE);
        }
        let kept = self.on_the_way(taker, place, all, 0)?;
        let passages = self.passages;
        let callers = passages.callers.get(&place.chain).map(Vec::as_slice).unwrap_or_default();
        if kept == all || callers.is_empty() || callers.len() > MAX_CALLERS || depth >= MAX_DEPTH {
            return Ok(kept);
        }
        let rest = self.engine.bdd().minus(all, kept)?;
        let mut open = Set::NONE;
        for caller in callers {
            let sent = self.engine.asked_for(passages, *caller, rest)?;
            if self.engine.bdd().is_subset(sent, open)? {
                continue;
            }
            let barred = self.alone(taker, *caller, sent, depth + 1)?;
            let come = self.engine.bdd().minus(sent, barred)?;
            open = self.engine.bdd().or(open, come)?;
        }
        self.engine.bdd().minus(all, open)
    }

    /// Packets of `all` that `taker` certainly keeps from `place` in its chain, or in chains called before it.
    fn on_the_way(&mut self, taker: RuleRef, place: RuleRef, all: Set, depth: u32) -> Built {
        self.looks = self.looks.saturating_sub(1);
        if self.looks == 0 {
            return Ok(Set::NONE);
        }
        if taker.chain == place.chain {
            let before = taker.rule < place.rule;
            return if before { self.engine.kept(self.passages, taker, all) } else { Ok(Set::NONE) };
        }
        // what only leaves a called chain comes back
        let ends = |rule| matches!(outcome(rule), Outcome::Accept | Outcome::Refuse);
        if depth >= MAX_DEPTH || (depth == 0 && !self.ruleset.rule(taker).is_some_and(ends)) {
            return Ok(Set::NONE);
        }
        let passages = self.passages;
        let callers = passages.callers.get(&taker.chain).map(Vec::as_slice).unwrap_or_default();
        if callers.is_empty() || callers.len() > MAX_CALLERS {
            return Ok(Set::NONE);
        }
        let kept = self.engine.kept(passages, taker, all)?;
        let mut through = Set::NONE;
        for caller in callers {
            if through == kept {
                break;
            }
            let sent = self.on_the_way(*caller, place, kept, depth + 1)?;
            through = self.engine.bdd().or(through, sent)?;
        }
        Ok(through)
    }

    fn cause(&self, place: RuleRef) -> Cause {
        let rule = self.ruleset.rule(place);
        Cause {
            place,
            outcome: rule.map_or(Outcome::Leave, outcome),
            known_connections: rule.is_some_and(is_about_known_connections),
        }
    }
}

/// What a rule does with packets.
#[must_use]
pub fn outcome(rule: &Rule) -> Outcome {
    let mut outcome = Outcome::Nothing;
    for step in &rule.steps {
        match step {
            Step::Verdict(Verdict::Accept | Verdict::Nat(_)) => return Outcome::Accept,
            Step::Verdict(Verdict::Drop | Verdict::Reject(_)) => return Outcome::Refuse,
            Step::Verdict(Verdict::Continue) | Step::Match(_) | Step::Effect(_) => {}
            Step::Verdict(_) | Step::Vmap { .. } => outcome = Outcome::Leave,
        }
    }
    outcome
}

/// Whether a rule only asks for packets of known connections, or such that belong to none.
#[must_use]
pub fn is_about_known_connections(rule: &Rule) -> bool {
    let known = u128::from(CtState::ESTABLISHED.union(CtState::RELATED).union(CtState::INVALID).0);
    rule.steps.iter().any(|step| match step {
        Step::Match(Match::Compare { left: Expr::Field(Field::CtState), operator, right: Expr::Number(value) }) => {
            matches!(operator, Operator::Eq | Operator::AnyBit) && value & !known == 0
        }
        _ => false,
    })
}

/// Mark bits a rule needs to be set.
fn tested_bits(rule: &Rule) -> u32 {
    let bits = |step: &Step| match step {
        Step::Match(Match::Compare {
            left: Expr::And(field, _),
            operator: Operator::Eq,
            right: Expr::Number(value),
        }) if **field == Expr::Field(Field::Mark) => u32::try_from(*value).unwrap_or(0),
        _ => 0,
    };
    rule.steps.iter().map(bits).fold(0, |all, bits| all | bits)
}

/// Whether a rule sets mark bits among `bits`.
fn sets_bits(rule: &Rule, bits: u32) -> bool {
    rule.steps.iter().any(|step| match step {
        Step::Effect(Effect::Set { field: Field::Mark, value: Expr::Xor(_, right) | Expr::Or(_, right) }) => {
            matches!(**right, Expr::Number(set) if set & u128::from(bits) != 0)
        }
        _ => false,
    })
}
