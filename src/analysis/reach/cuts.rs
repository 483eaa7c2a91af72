//! How rules cut the line of addresses: the sets of addresses their conditions ask for.
//!
//! More than needed does no harm, and what is overlooked here is told by [`Line::verdict`](crate::space::line::Line::verdict).

use std::collections::HashSet;

use super::HostFacts;
use crate::packet::Family;
use crate::ruleset::{
    Effect, Elements, Expr, Field, Interval, Match, NatTarget, Operator, Ruleset, SetRef, Step, Table, Verdict,
};
use crate::space::line::Cuts;
use crate::space::ranges::joined;

/// Sets of addresses that the rules and the host tell apart, and some more.
#[must_use]
pub fn cuts(ruleset: &Ruleset, facts: &HostFacts<'_>) -> Cuts {
    let mut cuts = Cuts::default();
    facts.cuts().iter().for_each(|start| cuts.at(*start));
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
                    Some(NatTarget::Range(addresses)) => rules.cuts.set(&[*addresses]),
                    Some(NatTarget::Expr(expr)) => rules.expr(expr),
                    None => {}
                },
                Step::Effect(_) | Step::Verdict(_) => {}
            }
        }
    }
    cuts
}

/// Sets of link-layer addresses that the rules tell apart; empty where they ask for none.
#[must_use]
pub fn link_cuts(ruleset: &Ruleset) -> Cuts {
    let mut cuts = Cuts::default();
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
    cuts
}

fn link_conditions(table: &Table, condition: &Match, cuts: &mut Cuts) {
    match condition {
        Match::Compare { left, operator, right: Expr::Number(number) } if is_link(left) => {
            cuts.set(&[Interval::single(*number)]);
            if !matches!(operator, Operator::Eq | Operator::Ne) {
                cuts.at(*number);
            }
        }
        Match::Lookup { left, set, .. } => link_elements(table, left, set, cuts),
        Match::Any(all) | Match::All(all) => all.iter().for_each(|one| link_conditions(table, one, cuts)),
        Match::Not(inner) => link_conditions(table, inner, cuts),
        _ => {}
    }
}

fn link_elements(table: &Table, key: &Expr, set: &SetRef, cuts: &mut Cuts) {
    let parts = match key {
        Expr::Concat(parts) => parts.as_slice(),
        single => std::slice::from_ref(single),
    };
    let elements = match set {
        SetRef::Anonymous(elements) => Some(&**elements),
        SetRef::Named(name) => table.set(name).map(|set| &set.elements),
    };
    for at in (0..parts.len()).filter(|at| parts.get(*at).is_some_and(is_link)) {
        let intervals = elements.into_iter().flat_map(Elements::keys).filter_map(|key| key.get(at));
        intervals.for_each(|interval| cuts.set(&[*interval]));
    }
}

fn is_link(expr: &Expr) -> bool {
    matches!(expr, Expr::Field(Field::EtherSaddr | Field::EtherDaddr))
}

struct Rules<'r, 'c> {
    ruleset: &'r Ruleset,
    table: &'r Table,
    cuts: &'c mut Cuts,
    /// Elements looked at, by their place in memory, and in which dimensions: many rules share a large set.
    seen: &'c mut HashSet<(usize, Vec<bool>)>,
}

impl<'r> Rules<'r, '_> {
    fn condition(&mut self, condition: &'r Match) {
        match condition {
            Match::Compare { left, operator, right } => {
                for (one, other) in [(left, right), (right, left)] {
                    match other {
                        Expr::Number(number) if is_address(one) => {
                            self.cuts.set(&[Interval::single(*number)]);
                            if !matches!(operator, Operator::Eq | Operator::Ne) {
                                self.cuts.at(*number);
                            }
                        }
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

    /// The intervals in the dimensions that `wanted` picks: all in one set where they are asked for together.
    fn elements(&mut self, elements: &'r Elements, wanted: impl Fn(usize) -> bool) {
        let wanted: Vec<bool> = (0..elements.dimensions()).map(wanted).collect();
        if !self.seen.insert((std::ptr::from_ref(elements) as usize, wanted.clone())) {
            return;
        }
        let by_itself = |at| elements.extra(at).is_some_and(|extra| extra.nomatch || extra.stateful);
        if elements.dimensions() == 1
            && elements.data(0).is_none()
            && (elements.is_plain() || !(0..elements.len()).any(by_itself))
        {
            if wanted == [true] {
                self.cuts.set(&joined(elements.keys().flatten().copied().collect()));
            }
            return;
        }
        for key in elements.keys() {
            for (interval, _) in key.iter().zip(&wanted).filter(|(_, wanted)| **wanted) {
                self.cuts.set(&[*interval]);
            }
        }
    }
}

fn is_address(expr: &Expr) -> bool {
    use Field as F;
    matches!(expr, Expr::Field(F::Ip4Saddr | F::Ip4Daddr | F::Ip6Saddr | F::Ip6Daddr))
}
