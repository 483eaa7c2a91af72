//! Sets that packets change on their way: `add @set`, `delete @set`, and ipsets.

use super::eval::{Keys, Looked, Truth};
use super::state::{State, Value};
use super::walk::{Done, Place, Walk};
use crate::ruleset::{Backend, Name, SetChange, SetOperation};

/// A change a rule has made to a set.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Touched {
    /// Index of its table; `usize::MAX` for ipsets.
    table: usize,
    set: Box<str>,
    /// What became of which key; `None` when the rule does not say.
    change: Option<(SetOperation, Vec<Value>)>,
}

impl Touched {
    pub(super) fn is_of(&self, table: usize, set: &str) -> bool {
        self.table == table && *self.set == *set
    }
}

/// What the packet itself did with a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Remembered {
    /// Nothing: the set is as it was.
    Nothing,
    /// It has put it in.
    There,
    /// It has taken it out.
    Gone,
    /// Not known.
    Open,
}

/// What `touched` says of `keys` in a set: the last change counts.
pub(super) fn remembered(touched: &[Touched], table: usize, set: &str, keys: &[Value]) -> Remembered {
    for change in touched.iter().rev().filter(|touched| touched.is_of(table, set)) {
        let Some((operation, changed)) = &change.change else { return Remembered::Open };
        let apart = |(one, other): (&Value, &Value)| matches!((one, other), (Value::Known(one), Value::Known(other)) if one != other);
        match operation {
            _ if changed.len() != keys.len() => return Remembered::Open,
            SetOperation::Add if changed == keys => return Remembered::There,
            SetOperation::Delete if changed == keys => return Remembered::Gone,
            _ if changed.iter().zip(keys).any(apart) => {}
            _ => return Remembered::Open,
        }
    }
    Remembered::Nothing
}

impl<'e> Walk<'e, '_> {
    /// A rule changes a set.
    pub(super) fn change_set(
        &mut self,
        place: Place,
        set: &'e Name,
        change: Option<&'e SetChange>,
        text: &str,
        state: &mut State,
    ) -> Done {
        let table = self.engine.ruleset.tables.get(place.site.table);
        let native = table.is_some_and(|table| table.backend == Backend::Nft);
        let owner = if native { place.site.table } else { usize::MAX };
        let keys = change.map(|change| (change.operation, self.eval(place, state).keys(&change.key)));
        if let Some((operation, keys)) = &keys {
            if keys.missing() {
                return Done::RuleEnds;
            }
            if native && *operation == SetOperation::Add {
                match self.finds_room(place, set, keys, state) {
                    Truth::Yes => {}
                    Truth::No => return Done::RuleEnds,
                    Truth::Open(var) => return Done::Open(var),
                }
            }
        }
        let change = keys.map(|(operation, keys)| (operation, keys.as_slice().to_vec()));
        let touched = Touched { table: owner, set: (&**set).into(), change };
        if state.flow.touched.last() != Some(&touched) {
            state.flow.touched.push(touched);
        }
        // an element's own rate or quota can end the rule
        if ["limit", "quota", "ct count"].iter().any(|word| text.contains(word)) {
            let key = format!("u:{:?}:{}", place.rule, state.clock);
            let words = || format!("depends on what was counted so far: {text}");
            return match self.eval(place, state).ask(key, words) {
                Truth::Yes => Done::Yes,
                Truth::No => Done::RuleEnds,
                Truth::Open(var) => Done::Open(var),
            };
        }
        Done::Yes
    }

    /// Whether a key is in the set already, or still fits. In a full set the kernel ends the rule.
    fn finds_room(&mut self, place: Place, set: &'e Name, keys: &Keys, state: &State) -> Truth {
        let engine = self.engine;
        let Some((found, _)) = engine.set(place.site.table, set) else { return Truth::Yes };
        let added = state.flow.touched.iter().filter(|touched| touched.is_of(place.site.table, set)).count();
        if found.room().is_none_or(|room| room > added as u64) {
            return Truth::Yes;
        }
        let changes = found.incomplete.is_some() || added > 0;
        let mut eval = self.eval(place, state);
        match eval.named(set, keys) {
            Looked::Element(..) | Looked::CatchAll(_) | Looked::Grown => Truth::Yes,
            Looked::Nothing if !changes => Truth::No,
            _ => {
                let key = format!("full:{set}:{:?}", keys.as_slice());
                eval.ask(key, || format!("whether set {set} is full, which ends the rule, is not known"))
            }
        }
    }
}
