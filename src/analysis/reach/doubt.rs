//! Packets of which nobody knows what happens to them.

use super::chains::Passed;
use super::walk::{Flow, Walk};
use crate::packet::Hook;
use crate::ruleset::RuleRef;
use crate::space::bdd::{Built, Set};
use crate::space::header::Header;

impl Walk<'_> {
    /// Packets that go one of two ways, and nobody knows which: those that may go the first, and those that may go the second.
    /// Where rulesets are compared, each packet goes the same way in both.
    pub(super) fn either(&mut self, set: Set, words: &str, hook: Hook, header: Option<&Header>) -> Built<(Set, Set)> {
        if !self.encoder.answers_alike() {
            return Ok((set, set));
        }
        // the way is a question of the path, not of a rule
        let first = self.encoder.answer(0, words, hook, header)?;
        let bdd = &mut self.encoder.bdd;
        Ok((bdd.and(set, first.possible)?, bdd.minus(set, first.certain)?))
    }

    /// Splits flows in the same way.
    pub(super) fn either_way(&mut self, flows: Vec<Flow>, words: &str, hook: Hook) -> Built<(Vec<Flow>, Vec<Flow>)> {
        let (mut one, mut other) = (Vec::new(), Vec::new());
        for flow in flows {
            let header = self.header(flow.header);
            let (first, second) = self.either(flow.set, words, hook, Some(&header))?;
            one.extend((!first.is_empty()).then_some(Flow { set: first, ..flow }));
            other.extend((!second.is_empty()).then_some(Flow { set: second, ..flow }));
        }
        Ok((one, other))
    }

    /// Nobody knows what happens to them.
    pub(super) fn lose(
        &mut self,
        passed: &mut Passed,
        set: Set,
        rule: Option<RuleRef>,
        why: impl FnOnce() -> String,
    ) -> Built<()> {
        passed.in_doubt = true;
        if !self.encoder.answers_alike() && self.notes.is_none() {
            passed.lost = self.encoder.bdd.or(passed.lost, set)?;
            return Ok(());
        }
        let why = why();
        let mut lost = set;
        if self.encoder.answers_alike() {
            // rules are told apart from conditions, which go by their place in memory
            let place = rule.map_or(0, |rule| usize::MAX - (rule.table << 48 | rule.chain << 24 | rule.rule));
            let answer = self.encoder.answer(place, &why, Hook::Prerouting, None)?;
            lost = self.encoder.bdd.and(set, answer.possible)?;
            let refused = self.encoder.bdd.minus(set, answer.certain)?;
            passed.refused = self.encoder.bdd.or(passed.refused, refused)?;
        }
        passed.lost = self.encoder.bdd.or(passed.lost, lost)?;
        if let Some(notes) = &mut self.notes {
            notes.asked(rule, why, set);
        }
        Ok(())
    }
}
