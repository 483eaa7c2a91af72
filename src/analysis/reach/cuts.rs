//! Where rules cut the line of addresses: the ends of the intervals their conditions compare with.
//!
//! More than needed does no harm, and what is overlooked here is told by [`Line::verdict`](crate::space::line::Line::verdict).

use std::collections::HashSet;

use super::HostFacts;
use crate::packet::Family;
use crate::ruleset::{
    Effect, Elements, Expr, Field, Interval, Match, NatTarget, Ruleset, SetRef, Step, Table, Verdict,
};

/// First addresses of the pieces that the rules and the host tell apart, and some more, in no order.
#[must_use]
pub fn cuts(ruleset: &Ruleset, facts: &HostFacts<'_>) -> Vec<u128> {
    let mut cuts = facts.cuts().to_vec();
    let family = facts.family();
    let mut seen = HashSet::new();
    for table in ruleset.tables.iter().filter(|table| table.family == family || table.family == Family::Inet) {
        let mut rules = Rules { ruleset, table, cuts: &mut cuts, seen: &mut seen };
        for step in table.chains.iter().flat_map(|chain| &chain.rules).flat_map(|rule| &rule.steps) {
            match step {
                Step::Match(condition) => rules.condition(condition),
                Step::Vmap { key, map } => rules.lookup(key, map),
                Step::Effect(Effect::Set { value, .. }) => rules.expr(value),
                Step::Verdict(Verdict::Nat(nat)) => match &nat.address {
                    Some(NatTarget::Range(addresses)) => rules.cut(*addresses),
                    Some(NatTarget::Expr(expr)) => rules.expr(expr),
                    None => {}
                },
                Step::Effect(_) | Step::Verdict(_) => {}
            }
        }
    }
    cuts
}

/// First link-layer addresses of the pieces that rules tell apart, where they ask for some.
#[must_use]
pub fn link_cuts(ruleset: &Ruleset) -> Vec<u128> {
    let mut cuts = Vec::new();
    for table in &ruleset.tables {
        let rules = table.chains.iter().flat_map(|chain| &chain.rules);
        for step in rules.flat_map(|rule| &rule.steps) {
            match step {
                Step::Match(condition) => link_conditions(table, condition, &mut cuts),
                Step::Vmap { key, map } => link_elements(table, key, map, &mut cuts),
                Step::Effect(_) | Step::Verdict(_) => {}
            }
        }
    }
    cuts.sort_unstable();
    cuts.dedup();
    cuts
}

fn link_conditions(table: &Table, condition: &Match, cuts: &mut Vec<u128>) {
    match condition {
        Match::Compare { left, right: Expr::Number(number), .. } if is_link(left) => {
            cuts.extend([*number, number.saturating_add(1)]);
        }
        Match::Lookup { left, set, .. } => link_elements(table, left, set, cuts),
        Match::Any(all) | Match::All(all) => all.iter().for_each(|one| link_conditions(table, one, cuts)),
        Match::Not(inner) => link_conditions(table, inner, cuts),
        _ => {}
    }
}

fn link_elements(table: &Table, key: &Expr, set: &SetRef, cuts: &mut Vec<u128>) {
    let parts = match key {
        Expr::Concat(parts) => parts.as_slice(),
        single => std::slice::from_ref(single),
    };
    let elements = match set {
        SetRef::Anonymous(elements) => Some(&**elements),
        SetRef::Named(name) => table.set(name).map(|set| &set.elements),
    };
    for at in (0..parts.len()).filter(|at| parts.get(*at).is_some_and(is_link)) {
        let ends = elements.into_iter().flat_map(Elements::keys).filter_map(|key| key.get(at));
        cuts.extend(ends.flat_map(|interval| [interval.low, interval.high.saturating_add(1)]));
    }
}

fn is_link(expr: &Expr) -> bool {
    matches!(expr, Expr::Field(Field::EtherSaddr | Field::EtherDaddr))
}

struct Rules<'r, 'c> {
    ruleset: &'r Ruleset,
    table: &'r Table,
    cuts: &'c mut Vec<u128>,
    /// Elements looked at, by their place in memory, and in which dimensions: many rules share a large set.
    seen: &'c mut HashSet<(usize, Vec<bool>)>,
}

impl<'r> Rules<'r, '_> {
    fn condition(&mut self, condition: &'r Match) {
        match condition {
            Match::Compare { left, right, .. } => {
                for (one, other) in [(left, right), (right, left)] {
                    match other {
                        Expr::Number(number) if is_address(one) => self.cut(Interval::single(*number)),
                        _ => self.expr(other),
                    }
                }
            }
            Match::Lookup { left, set, .. } => self.lookup(left, set),
            Match::Ipset { name, .. } => {
                let sets = &self.ruleset.ipsets;
                let set = sets.iter().find(|set| set.name == *name);
                let members = set.into_iter().flat_map(|set| &set.member_sets);
                let members = members.filter_map(|name| sets.iter().find(|set| set.name == *name));
                for set in set.into_iter().chain(members) {
                    self.elements(&set.elements, |_| true);
                }
            }
            Match::Any(all) | Match::All(all) => all.iter().for_each(|one| self.condition(one)),
            Match::Not(inner) => self.condition(inner),
            Match::Xtables { .. } | Match::Opaque { .. } => {}
        }
    }

    fn cut(&mut self, interval: Interval) {
        self.cuts.push(interval.low);
        self.cuts.extend(interval.high.checked_add(1));
    }

    fn lookup(&mut self, key: &'r Expr, set: &'r SetRef) {
        let parts = match key {
            Expr::Concat(parts) => parts.as_slice(),
            single => std::slice::from_ref(single),
        };
        let elements = match set {
            SetRef::Anonymous(elements) => Some(&**elements),
            SetRef::Named(name) => self.table.set(name).map(|set| &set.elements),
        };
        if let Some(elements) = elements {
            self.elements(elements, |at| parts.get(at).is_some_and(is_address));
        }
        parts.iter().for_each(|part| self.expr(part));
    }

    fn expr(&mut self, expr: &'r Expr) {
        if let Expr::Map { key, map } = expr {
            self.lookup(key, map);
        }
    }

    /// Ends of the intervals in the dimensions that `wanted` picks.
    fn elements(&mut self, elements: &'r Elements, wanted: impl Fn(usize) -> bool) {
        let wanted: Vec<bool> = (0..elements.dimensions()).map(wanted).collect();
        if !self.seen.insert((std::ptr::from_ref(elements) as usize, wanted.clone())) {
            return;
        }
        for key in elements.keys() {
            for (interval, _) in key.iter().zip(&wanted).filter(|(_, wanted)| **wanted) {
                self.cut(*interval);
            }
        }
    }
}

fn is_address(expr: &Expr) -> bool {
    use Field as F;
    matches!(expr, Expr::Field(F::Ip4Saddr | F::Ip4Daddr | F::Ip6Saddr | F::Ip6Daddr))
}
