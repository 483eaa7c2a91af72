//! The rules of a chain: a list whose clones share it until one of them is changed.
//!
//! What-if worlds are copies of the live ruleset in which a few chains differ. So a world costs what differs, and whether a
//! chain is the same in two worlds is mostly one comparison of addresses.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use super::Rule;

/// Rules in order.
#[derive(Clone, Debug, Default)]
pub struct Rules(Arc<Vec<Rule>>);

impl Rules {
    /// Takes all rules out, without a copy of what other clones hold.
    pub fn clear(&mut self) {
        self.0 = Arc::default();
    }

    /// Whether they are the very same in memory, as a clone's are until one is changed.
    #[must_use]
    pub fn shares(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Deref for Rules {
    type Target = Vec<Rule>;

    fn deref(&self) -> &Vec<Rule> {
        &self.0
    }
}

impl DerefMut for Rules {
    /// The rules of this clone alone from now on.
    fn deref_mut(&mut self) -> &mut Vec<Rule> {
        Arc::make_mut(&mut self.0)
    }
}

impl From<Vec<Rule>> for Rules {
    fn from(rules: Vec<Rule>) -> Self {
        Self(Arc::new(rules))
    }
}

impl FromIterator<Rule> for Rules {
    fn from_iter<T: IntoIterator<Item = Rule>>(rules: T) -> Self {
        rules.into_iter().collect::<Vec<Rule>>().into()
    }
}

impl<'r> IntoIterator for &'r Rules {
    type Item = &'r Rule;
    type IntoIter = std::slice::Iter<'r, Rule>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'r> IntoIterator for &'r mut Rules {
    type Item = &'r mut Rule;
    type IntoIter = std::slice::IterMut<'r, Rule>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}

impl IntoIterator for Rules {
    type Item = Rule;
    type IntoIter = std::vec::IntoIter<Rule>;

    fn into_iter(self) -> Self::IntoIter {
        Arc::unwrap_or_clone(self.0).into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_shares_its_rules_until_it_changes() {
        let own: Rules = [Rule::default(), Rule { line: 7, ..Rule::default() }].into_iter().collect();
        let mut other = own.clone();
        assert!(own.shares(&other) && own.acts_as(&other));
        other.retain(|rule| rule.line == 7);
        assert!(!own.shares(&other) && !own.acts_as(&other));
        assert_eq!((own.len(), other.len()), (2, 1));
        let mut cleared = own.clone();
        cleared.clear();
        assert_eq!((own.len(), cleared.len()), (2, 0));
        assert!(other.acts_as(&vec![Rule::default()].into()), "lines and texts do nothing");
    }
}
