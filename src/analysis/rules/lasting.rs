//! A ruleset for questions about rules: what may be otherwise at the next packet is left open in it.
//!
//! A rule is dead when no packet can hit it *whatever the sets hold*: members come and go, and a rule about an empty set only
//! waits for the first. So membership in a named set is a property of the packet, the same one everywhere; that also makes the
//! answer cheap, however large the sets are. Marks are left open too, but for the bits that Felix keeps for itself and clears
//! first: any program may mark its packets. And Felix's failsafe lists let nothing through here: they are the net below the
//! policy, and a policy rule for one of their ports is what holds when the net is taken away.

use std::collections::HashSet;

use crate::analysis::worlds::is_failsafe_chain;
use crate::calico::integrity::plain_name;
use crate::ruleset::{
    Chain, Effect, Elements, Expr, Field, Match, Name, OpaqueKind, Operator, Rule, Ruleset, SetRef, Step, Table,
    asks_counters,
};

/// A ruleset in which only what lasts is decided; rules stand where they stood.
pub(super) struct Lasting {
    /// The ruleset, without texts.
    pub(super) ruleset: Ruleset,
    /// Bits of the mark that Felix keeps for itself; 0 where there is no Felix.
    pub(super) felix_bits: u32,
}

/// What conditions are rewritten by.
struct Rewriting {
    felix_bits: u32,
    /// Sets that rules themselves change.
    changed: HashSet<Name>,
}

/// Rewrites a ruleset; of tables that `judged` refuses only the chains are kept.
pub(super) fn lasting(ruleset: &Ruleset, judged: &dyn Fn(usize) -> bool) -> Lasting {
    let felix_bits = felix_bits(ruleset);
    let rules = ruleset.tables.iter().flat_map(|table| &table.chains).flat_map(|chain| &chain.rules);
    let changed = rules.flat_map(|rule| &rule.steps).filter_map(|step| match step {
        Step::Effect(Effect::UpdateSet { set, .. }) => Some(Name::clone(set)),
        _ => None,
    });
    let rewriting = Rewriting { felix_bits, changed: changed.collect() };
    let rule = |rule: &Rule, idle: bool| {
        let steps = if idle { Vec::new() } else { rule.steps.iter().map(|step| rewriting.step(step)).collect() };
        Rule { steps, ..Rule::default() }
    };
    let chain = |chain: &Chain, judged: bool| {
        let idle = is_failsafe_chain(&chain.name);
        Chain {
            name: Name::clone(&chain.name),
            base: chain.base.clone(),
            rules: chain.rules.iter().filter(|_| judged).map(|one| rule(one, idle)).collect(),
            line: 0,
        }
    };
    let table = |(index, table): (usize, &Table)| Table {
        backend: table.backend,
        family: table.family,
        name: Name::clone(&table.name),
        dormant: table.dormant,
        chains: table.chains.iter().map(|one| chain(one, judged(index))).collect(),
        // verdict maps are followed with what they hold now
        sets: table.sets.clone(),
        flowtables: Vec::new(),
        source: Name::clone(&table.source),
        other: Vec::new(),
    };
    let tables = ruleset.tables.iter().enumerate().map(table).collect();
    Lasting { ruleset: Ruleset { tables, ipsets: Vec::new() }, felix_bits }
}

/// Bits of the mark that rules in Felix's chains change.
fn felix_bits(ruleset: &Ruleset) -> u32 {
    let chains = ruleset.tables.iter().flat_map(|table| &table.chains);
    let felix = chains.filter(|chain| plain_name(&chain.name).starts_with("cali-"));
    let steps = felix.flat_map(|chain| &chain.rules).flat_map(|rule| &rule.steps);
    let bits = steps.map(|step| match step {
        Step::Effect(Effect::Set { field: Field::Mark, value }) => changed_bits(value),
        _ => 0,
    });
    bits.fold(0, |all, bits| all | bits)
}

/// Bits of the mark that differ after `mark = value`.
fn changed_bits(value: &Expr) -> u32 {
    match value {
        Expr::Field(Field::Mark) => 0,
        Expr::And(left, right) => match **right {
            Expr::Number(kept) => changed_bits(left) | !low32(kept),
            _ => u32::MAX,
        },
        Expr::Or(left, right) | Expr::Xor(left, right) => match **right {
            Expr::Number(set) => changed_bits(left) | low32(set),
            _ => u32::MAX,
        },
        _ => u32::MAX,
    }
}

fn low32(number: u128) -> u32 {
    (number & u128::from(u32::MAX)) as u32
}

impl Rewriting {
    fn step(&self, step: &Step) -> Step {
        match step {
            Step::Match(condition) => Step::Match(self.condition(condition)),
            other => other.clone(),
        }
    }

    fn condition(&self, condition: &Match) -> Match {
        match condition {
            Match::Ipset { name, directions, negate, options } => {
                let text = format!("set {name} {directions:?} {options:?}");
                let member = self.member(name, text, asks_counters(options.as_deref()));
                if *negate { Match::Not(Box::new(member)) } else { member }
            }
            Match::Lookup { left, negate, set: SetRef::Named(name) } => {
                let member = self.member(name, format!("set {name} {left:?}"), false);
                let member = if *negate { Match::Not(Box::new(member)) } else { member };
                // a packet without the field never gets to the set
                let there = Match::Lookup { left: left.clone(), negate: true, set: SetRef::Anonymous(nothing(left)) };
                Match::All(vec![there, member])
            }
            Match::Any(all) => Match::Any(all.iter().map(|one| self.condition(one)).collect()),
            Match::All(all) => Match::All(all.iter().map(|one| self.condition(one)).collect()),
            Match::Not(inner) => Match::Not(Box::new(self.condition(inner))),
            other if self.asks_foreign_mark(other) => open("a mark"),
            other => other.clone(),
        }
    }

    fn member(&self, name: &Name, text: String, counted: bool) -> Match {
        let kind = if counted || self.changed.contains(name) { OpaqueKind::Stateful } else { OpaqueKind::Property };
        Match::Opaque { kind, text: text.into() }
    }

    /// Whether a condition hangs on marks that are not Felix's alone. Without Felix all marks are unknown anyway.
    fn asks_foreign_mark(&self, condition: &Match) -> bool {
        if self.felix_bits == 0 {
            return false;
        }
        match condition {
            Match::Compare { left: Expr::And(field, mask), operator, right: Expr::Number(_) } => {
                let own = matches!(**mask, Expr::Number(mask) if low32(mask) & !self.felix_bits == 0);
                let plain = **field == Expr::Field(Field::Mark) && matches!(operator, Operator::Eq | Operator::Ne);
                !(plain && own) && asks_mark(condition)
            }
            other => asks_mark(other),
        }
    }
}

fn open(text: &str) -> Match {
    Match::Opaque { kind: OpaqueKind::Stateful, text: text.into() }
}

/// A set without elements, as wide as a key.
fn nothing(key: &Expr) -> Box<Elements> {
    Box::new(Elements::new(if let Expr::Concat(parts) = key { parts.len() } else { 1 }))
}

fn asks_mark(condition: &Match) -> bool {
    match condition {
        Match::Compare { left, right, .. } => holds_mark(left) || holds_mark(right),
        Match::Lookup { left, .. } => holds_mark(left),
        _ => false,
    }
}

/// Whether a value hangs on the packet's or the connection's mark.
pub(super) fn holds_mark(value: &Expr) -> bool {
    match value {
        Expr::Field(field) => matches!(field, Field::Mark | Field::CtMark),
        Expr::Fib(fib) => fib.mark,
        Expr::Concat(parts) => parts.iter().any(holds_mark),
        Expr::And(a, b) | Expr::Or(a, b) | Expr::Xor(a, b) | Expr::Shl(a, b) | Expr::Shr(a, b) => {
            holds_mark(a) || holds_mark(b)
        }
        Expr::Map { key, .. } => holds_mark(key),
        Expr::Number(_) | Expr::Payload { .. } | Expr::Opaque(_) => false,
    }
}
