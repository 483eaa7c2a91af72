//! Interface names that rules tell apart.

use crate::host::Host;
use crate::packet::InterfacePattern;
use crate::ruleset::{DataType, Effect, Elements, Expr, Field, Interval, Match, Ruleset, Set, SetKind, SetRef, Step};
use crate::ruleset::{NatTarget, Verdict, interface_interval, interface_number};
use crate::space::Interfaces;

/// Classes of interfaces for a ruleset on a host: each of the host's own, and every other name as far as rules care.
#[must_use]
pub fn interfaces(rulesets: &[&Ruleset], host: &Host) -> Interfaces {
    let mut known: Vec<u128> = vec![interface_number(b"lo")];
    known.extend(host.interfaces.iter().flatten().map(|interface| interface_number(interface.name.as_bytes())));
    let mut seen = Vec::new();
    for ruleset in rulesets {
        let bases = ruleset.tables.iter().flat_map(|t| &t.chains).filter_map(|chain| chain.base.as_ref());
        let flowtables = ruleset.tables.iter().flat_map(|table| &table.flowtables);
        for device in bases.flat_map(|base| &base.devices).chain(flowtables.flat_map(|known| &known.devices)) {
            seen.push(interface_interval(&InterfacePattern::from_nft(&**device)));
        }
        for step in ruleset.tables.iter().flat_map(|t| &t.chains).flat_map(|c| &c.rules).flat_map(|r| &r.steps) {
            of_step(step, &mut seen);
        }
        for set in ruleset.tables.iter().flat_map(|table| &table.sets).chain(&ruleset.ipsets) {
            of_set(set, &mut seen);
        }
    }
    Interfaces::new(&known, seen)
}

fn of_set(set: &Set, seen: &mut Vec<Interval>) {
    let ipset = matches!(&set.kind, SetKind::Ipset { type_name, .. } if type_name.ends_with("iface"));
    if ipset || set.key.contains(&DataType::Ifname) {
        of_elements(&set.elements, seen);
    }
}

/// All keys: too many classes are no harm.
fn of_elements(elements: &Elements, seen: &mut Vec<Interval>) {
    for key in elements.keys() {
        seen.extend(key);
    }
}

fn of_step(step: &Step, seen: &mut Vec<Interval>) {
    match step {
        Step::Match(condition) => of_match(condition, seen),
        Step::Vmap { key, map } => of_lookup(key, map, seen),
        Step::Effect(Effect::Set { value, .. }) => of_expr(value, seen),
        Step::Verdict(Verdict::Nat(nat)) => {
            for target in [&nat.address, &nat.port].into_iter().flatten() {
                if let NatTarget::Expr(expr) = target {
                    of_expr(expr, seen);
                }
            }
        }
        Step::Effect(_) | Step::Verdict(_) => {}
    }
}

fn of_match(condition: &Match, seen: &mut Vec<Interval>) {
    let mut todo = vec![condition];
    while let Some(condition) = todo.pop() {
        match condition {
            Match::Compare { left, right, .. } => {
                for (one, other) in [(left, right), (right, left)] {
                    if let (true, Expr::Number(number)) = (asks_interface(one), other) {
                        // one below and above, for comparisons of order
                        seen.extend([Interval::single(*number)]);
                    }
                    of_expr(one, seen);
                }
            }
            Match::Lookup { left, set, .. } => of_lookup(left, set, seen),
            Match::Any(inner) | Match::All(inner) => todo.extend(inner),
            Match::Not(inner) => todo.push(inner),
            Match::Ipset { .. } | Match::Xtables { .. } | Match::Opaque { .. } => {}
        }
    }
}

fn of_lookup(key: &Expr, set: &SetRef, seen: &mut Vec<Interval>) {
    if let (true, SetRef::Anonymous(elements)) = (asks_interface(key), set) {
        of_elements(elements, seen);
    }
    of_expr(key, seen);
}

/// Maps inside an expression.
fn of_expr(expr: &Expr, seen: &mut Vec<Interval>) {
    let mut todo = vec![expr];
    while let Some(expr) = todo.pop() {
        if let Expr::Map { key, map } = expr
            && asks_interface(key)
            && let SetRef::Anonymous(elements) = map
        {
            of_elements(elements, seen);
        }
        todo.extend(parts(expr));
    }
}

/// Whether an interface's name is part of an expression.
fn asks_interface(expr: &Expr) -> bool {
    let mut todo = vec![expr];
    while let Some(expr) = todo.pop() {
        if matches!(expr, Expr::Field(Field::Iifname | Field::Oifname | Field::Iif | Field::Oif)) {
            return true;
        }
        todo.extend(parts(expr));
    }
    false
}

fn parts(expr: &Expr) -> Vec<&Expr> {
    match expr {
        Expr::Concat(parts) => parts.iter().collect(),
        Expr::And(a, b) | Expr::Or(a, b) | Expr::Xor(a, b) | Expr::Shl(a, b) | Expr::Shr(a, b) => vec![a, b],
        Expr::Map { key, .. } => vec![key],
        Expr::Field(_) | Expr::Number(_) | Expr::Fib(_) | Expr::Payload { .. } | Expr::Opaque(_) => Vec::new(),
    }
}
