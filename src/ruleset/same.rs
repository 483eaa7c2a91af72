//! Whether two rulesets, or parts of them, treat every packet alike because they ask and do the same in the same order.
//!
//! Counters, handles, lines, comments and texts do nothing to packets and are not compared.

use super::{Rules, Ruleset, Set, Table};

/// Whether two sequences are equal, item by item.
fn all<T: Copy>(one: impl Iterator<Item = T>, other: impl Iterator<Item = T>, same: impl Fn(T, T) -> bool) -> bool {
    let (mut one, mut other) = (one, other);
    loop {
        match (one.next(), other.next()) {
            (None, None) => return true,
            (Some(one), Some(other)) if same(one, other) => {}
            _ => return false,
        }
    }
}

impl Rules {
    /// Whether both do the same with every packet.
    #[must_use]
    pub fn acts_as(&self, other: &Self) -> bool {
        self.shares(other) || all(self.iter(), other.iter(), |one, other| one.steps == other.steps)
    }
}

impl Set {
    /// Whether both hold the same under the same name.
    #[must_use]
    pub fn acts_as(&self, other: &Self) -> bool {
        (&self.name, self.family, &self.kind, &self.key, &self.member_sets, &self.incomplete, self.without_exceptions)
            == (
                &other.name,
                other.family,
                &other.kind,
                &other.key,
                &other.member_sets,
                &other.incomplete,
                other.without_exceptions,
            )
            && self.elements == other.elements
    }
}

impl Table {
    /// Whether both do the same with every packet, in the same places.
    #[must_use]
    pub fn acts_as(&self, other: &Self) -> bool {
        (self.backend, self.family, &self.name, self.dormant)
            == (other.backend, other.family, &other.name, other.dormant)
            && self.flowtables == other.flowtables
            && self.other == other.other
            && all(self.sets.iter(), other.sets.iter(), Set::acts_as)
            && all(self.chains.iter(), other.chains.iter(), |one, other| {
                (&one.name, &one.base) == (&other.name, &other.base) && one.rules.acts_as(&other.rules)
            })
    }
}

impl Ruleset {
    /// Whether what `tables` and `sets` choose of both does the same with every packet, in the same places.
    #[must_use]
    pub fn acts_as(&self, other: &Self, tables: impl Fn(&Table) -> bool, sets: impl Fn(&Set) -> bool) -> bool {
        all(self.ipsets.iter().filter(|set| sets(set)), other.ipsets.iter().filter(|set| sets(set)), Set::acts_as)
            && all(
                self.tables.iter().filter(|table| tables(table)),
                other.tables.iter().filter(|table| tables(table)),
                Table::acts_as,
            )
    }
}
