//! Packets of which nobody knows what happens to them.

use super::walk::{Passed, Walk};
use crate::packet::Hook;
use crate::ruleset::RuleRef;
use crate::space::bdd::{Built, Set};

impl Walk<'_> {
    /// Nobody knows what happens to them.
    pub(super) fn lose(
        &mut self,
        passed: &mut Passed,
        set: Set,
        rule: Option<RuleRef>,
        why: impl FnOnce() -> String,
    ) -> Built<()> {
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
