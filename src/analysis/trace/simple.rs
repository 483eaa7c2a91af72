//! The common conditions, decided at once: a field compared with a number, or looked up among a few values.
//!
//! Most rules a packet meets do not take it. What can be said of them from known fields alone needs neither questions nor
//! keys nor an index ([`super::eval`] does the rest), and a rule that such a condition ends is passed over.

use super::eval::{compare, is_fragment_test};
use super::fields::View;
use super::index::SCAN;
use super::state::Value;
use crate::ruleset::{Effect, Expr, Field, Match, Rule, SetRef, Step};

impl View<'_, '_> {
    /// Whether `condition` holds; `None` where that takes a closer look.
    pub(super) fn simply(&self, condition: &Match) -> Option<bool> {
        match condition {
            Match::Compare { left, operator, right: Expr::Number(right) } => match self.simple(left)? {
                Value::Known(left) => Some(compare(left, *operator, *right)),
                Value::Missing => Some(false),
                Value::Unknown(_) => None,
            },
            Match::Lookup { left, negate, set: SetRef::Anonymous(elements) }
                if elements.is_plain() && elements.dimensions() == 1 && elements.len() <= SCAN =>
            {
                match self.simple(left)? {
                    Value::Known(value) => {
                        let inside = elements.keys().flatten().any(|interval| interval.contains(value));
                        Some(inside != *negate)
                    }
                    Value::Missing => Some(false),
                    Value::Unknown(_) => None,
                }
            }
            _ => None,
        }
    }

    /// The value of a field, or of some of its bits.
    fn simple(&self, expr: &Expr) -> Option<Value> {
        match expr {
            // whose unknown values have names of their own
            Expr::Field(Field::Other(_) | Field::Random) => None,
            Expr::Field(field) => Some(self.field(field)),
            Expr::And(left, right) if !is_fragment_test(left, right) => match (&**left, &**right) {
                (Expr::Field(_), Expr::Number(mask)) => Some(self.simple(left)?.map(|value| value & mask)),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether `rule` certainly ends before it does anything.
    pub(super) fn ends_at_once(&self, rule: &Rule) -> bool {
        for step in &rule.steps {
            match step {
                Step::Effect(Effect::Count) => {}
                Step::Match(condition) => match self.simply(condition) {
                    Some(true) => {}
                    Some(false) => return true,
                    None => return false,
                },
                _ => return false,
            }
        }
        false
    }
}
