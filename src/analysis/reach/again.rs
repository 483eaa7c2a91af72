//! Rules that may as well not be there: later rules of their chain do the same with every packet they hit.
//!
//! A chain is gone through from its end: for each verdict the packets to which the rules from here on give it *for certain*,
//! each rule by itself. What changes packets, leaves the chain or cannot be decided gives nothing for certain. A rule is done
//! again when all packets that hit it get its own verdict from the rules behind it.

use std::rc::Rc;

use super::Engine;
use super::chains::Passed;
use super::passages::Passages;
use super::walk::{Flow, Walk, is_harmless};
use crate::ruleset::{Match, OpaqueKind, Rule, RuleRef, Step, Verdict};
use crate::space::bdd::{Built, Set};
use crate::space::encode::{Site, Truth};

/// Different verdicts told apart in one chain.
const MAX_VERDICTS: usize = 4;
/// Later rules named for one.
const MAX_NAMED: usize = 8;

/// A rule that later ones do again, and those.
pub type DoneAgain = (RuleRef, Vec<RuleRef>);

impl<'a> Engine<'a> {
    /// Rules of `chain` that `asked` picks and later rules of the chain do again. Rules about counted things are none.
    ///
    /// # Errors
    /// When the node budget is used up.
    pub fn done_again(
        &mut self,
        passages: &Passages,
        chain: usize,
        asked: &dyn Fn(RuleRef) -> bool,
    ) -> Built<Vec<DoneAgain>> {
        let ruleset = self.walk.encoder.ruleset();
        let table = passages.entry.table;
        let content = ruleset.tables.get(table);
        let (Some(site), Some(passage)) = (self.site(passages.entry), passages.chains.get(&chain)) else {
            return Ok(Vec::new());
        };
        let rules: &'a [Rule] =
            content.and_then(|table| table.chains.get(chain)).map(|chain| chain.rules.as_slice()).unwrap_or_default();
        let place = |rule| RuleRef { table, chain, rule };
        let candidates: Vec<usize> = (0..rules.len())
            .filter(|rule| rules.get(*rule).is_some_and(decides_plainly) && asked(place(*rule)))
            .filter(|rule| passage.matched.get(*rule).is_some_and(|matched| !matched.is_empty()))
            .collect();
        let (Some(first), false) = (candidates.first(), passage.is_empty()) else { return Ok(Vec::new()) };
        let mut again = vec![true; rules.len()];
        let mut headers: Vec<usize> = candidates.iter().flat_map(|rule| passage.headers(*rule)).collect();
        headers.sort_unstable();
        headers.dedup();
        for header in headers {
            let mut sure: Vec<(&Verdict, Set)> = Vec::new();
            for (number, rule) in rules.iter().enumerate().skip(*first).rev() {
                let truth = self.walk.conditions(site, rule, header)?;
                if let (Some(verdict), true) = (plain_verdict(rule), candidates.binary_search(&number).is_ok()) {
                    let hit = passage.arriving(number, header);
                    let hit = self.bdd().and(hit, truth.possible)?;
                    let given = sure.iter().find(|(known, _)| *known == verdict).map_or(Set::NONE, |(_, set)| *set);
                    let same = self.bdd().is_subset(hit, given)?;
                    if let Some(again) = again.get_mut(number) {
                        *again &= same;
                    }
                }
                self.walk.before(site, rule, header, truth, &mut sure)?;
            }
        }
        let mut found = Vec::new();
        for rule in candidates.into_iter().filter(|rule| again.get(*rule) == Some(&true)) {
            let by = self.by(site, passages, place(rule), rules)?;
            if !by.is_empty() {
                found.push((place(rule), by));
            }
        }
        Ok(found)
    }

    /// The later rules that do again what `place` does.
    fn by(&mut self, site: Site, passages: &Passages, place: RuleRef, rules: &'a [Rule]) -> Built<Vec<RuleRef>> {
        let mut by = Vec::new();
        let Some(passage) = passages.chains.get(&place.chain) else { return Ok(by) };
        let Some(verdict) = rules.get(place.rule).and_then(plain_verdict) else { return Ok(by) };
        let headers: Vec<usize> = passage.headers(place.rule).collect();
        let mut left = passage.matched.get(place.rule).copied().unwrap_or(Set::NONE);
        for (number, rule) in rules.iter().enumerate().skip(place.rule + 1) {
            if left.is_empty() || by.len() == MAX_NAMED {
                break;
            }
            if plain_verdict(rule) != Some(verdict) {
                continue;
            }
            let mut certain = Set::ALL;
            for header in &headers {
                let truth = self.walk.conditions(site, rule, *header)?;
                certain = self.bdd().and(certain, truth.certain)?;
            }
            let rest = self.bdd().minus(left, certain)?;
            if rest != left {
                by.push(RuleRef { rule: number, ..place });
                left = rest;
            }
        }
        Ok(by)
    }
}

impl<'a> Walk<'a> {
    /// For which packets with a header all conditions of a rule hold.
    fn conditions(&mut self, site: Site, rule: &'a Rule, header: usize) -> Built<Truth> {
        let header = self.header(header);
        let mut all = Truth::YES;
        for step in &rule.steps {
            if let Step::Match(condition) = step {
                let truth = self.encoder.truth(condition, site, &header)?;
                all = all.and(&mut self.encoder.bdd, truth)?;
            }
        }
        Ok(all)
    }

    /// From what the rules behind `rule` do for certain to what it and they do.
    fn before(
        &mut self,
        site: Site,
        rule: &'a Rule,
        header: usize,
        truth: Truth,
        sure: &mut Vec<(&'a Verdict, Set)>,
    ) -> Built<()> {
        if rule.steps.iter().all(is_harmless) {
            return Ok(());
        }
        let own = plain_verdict(rule);
        let mut open = truth.possible;
        if let Some(back) = self.surely_back(site, rule, header)? {
            open = self.encoder.bdd.minus(open, back)?;
        }
        for (verdict, set) in sure.iter_mut().filter(|(verdict, _)| Some(*verdict) != own) {
            let _: &Verdict = verdict;
            *set = self.encoder.bdd.minus(*set, open)?;
        }
        let Some(own) = own else { return Ok(()) };
        if let Some((_, set)) = sure.iter_mut().find(|(verdict, _)| *verdict == own) {
            *set = self.encoder.bdd.or(*set, truth.certain)?;
        } else if sure.len() < MAX_VERDICTS {
            sure.push((own, truth.certain));
        }
        Ok(())
    }

    /// Packets that come back from the chain a rule jumps to as they went in; `None` when it jumps to none.
    fn surely_back(&mut self, site: Site, rule: &'a Rule, header: usize) -> Built<Option<Set>> {
        let jump = match rule.steps.last() {
            Some(Step::Verdict(Verdict::Jump(name))) if is_plain(rule) => name,
            _ => return Ok(None),
        };
        let Some(chain) = self.chain_called(site.table, jump) else { return Ok(None) };
        if self.open.contains(&(site.table, chain)) {
            return Ok(None);
        }
        let flow = Flow { header, tag: 0, set: Set::ALL };
        let passed: Rc<Passed> = Rc::new(self.enter(site, chain, vec![flow], 1)?);
        let elsewhere = passed.accepted.iter().chain(passed.returned.iter().filter(|flow| flow.header != header));
        let elsewhere: Vec<Set> = elsewhere.map(|flow| flow.set).chain([passed.refused, passed.lost]).collect();
        Ok(Some(!self.encoder.bdd.union(elsewhere)?))
    }
}

/// Nothing but conditions, harmless effects and one verdict at the end.
fn is_plain(rule: &Rule) -> bool {
    rule.steps.split_last().is_some_and(|(_, before)| before.iter().all(is_harmless))
}

/// The verdict of a rule that decides by itself and does nothing else.
fn plain_verdict(rule: &Rule) -> Option<&Verdict> {
    match rule.steps.last() {
        Some(Step::Verdict(verdict @ (Verdict::Accept | Verdict::Drop | Verdict::Reject(_)))) if is_plain(rule) => {
            Some(verdict)
        }
        _ => None,
    }
}

/// Whether taking the rule away can only change what it decides: it logs nothing and counts nothing but itself.
fn decides_plainly(rule: &Rule) -> bool {
    let quiet = rule.steps.iter().all(|step| match step {
        Step::Match(condition) => !is_stateful(condition),
        Step::Effect(effect) => matches!(effect, crate::ruleset::Effect::Count),
        Step::Verdict(_) => true,
        Step::Vmap { .. } => false,
    });
    quiet && plain_verdict(rule).is_some()
}

fn is_stateful(condition: &Match) -> bool {
    match condition {
        Match::Opaque { kind, .. } => *kind == OpaqueKind::Stateful,
        Match::Any(all) | Match::All(all) => all.iter().any(is_stateful),
        Match::Not(inner) => is_stateful(inner),
        _ => false,
    }
}
