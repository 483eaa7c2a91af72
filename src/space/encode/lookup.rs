//! Lookups in sets and maps, whole sets at a time.

use std::collections::{BTreeMap, HashMap};

use super::value::{Truth, Value};
use super::{Encoder, Eval};
use crate::ruleset::{Data, Elements, Expr, Interval, SetRef};
use crate::space::bdd::{Built, Set};
use crate::space::ranges::joined;

/// Most dimensions of a key.
const MAX_DIMENSIONS: usize = 8;
/// Smaller sets are built as fast as they are found again.
const WORTH_REMEMBERING: usize = 4;

/// What a map gives.
#[derive(Clone, Debug)]
pub struct Found<'r> {
    /// Each different datum with the packets that get it.
    pub entries: Vec<(&'r Data, Truth)>,
    /// Packets for which the map may hold anything.
    pub lost: Set,
}

impl<'r> Eval<'_, 'r> {
    /// The values side by side in `expr`.
    fn keys(&mut self, expr: &'r Expr) -> Built<Vec<Value>> {
        match expr {
            Expr::Concat(parts) => parts.iter().map(|part| self.value(part)).collect(),
            single => Ok(vec![self.value(single)?]),
        }
    }

    pub(super) fn lookup_truth(&mut self, left: &'r Expr, negate: bool, set: &'r SetRef) -> Built<Truth> {
        let keys = self.keys(left)?;
        let missing = self.missing(&keys)?;
        let inside = match self.elements(set) {
            Some((elements, complete)) if elements.dimensions() == keys.len() => {
                let mut inside = self.encoder.inside(elements, &keys)?;
                if !complete || elements.catch_all().is_some() {
                    inside.possible = Set::ALL;
                }
                if complete && elements.catch_all().is_some() {
                    inside.certain = Set::ALL;
                }
                inside
            }
            _ => Truth::OPEN,
        };
        let inside = if negate { !inside } else { inside };
        inside.and(&mut self.encoder.bdd, Truth::exactly(!missing))
    }

    fn missing(&mut self, keys: &[Value]) -> Built {
        self.encoder.bdd.union(keys.iter().map(|key| key.missing))
    }

    /// The elements of a set and whether they are all; `None` when the set is not there or rules have changed it.
    fn elements(&self, set: &'r SetRef) -> Option<(&'r Elements, bool)> {
        match set {
            SetRef::Anonymous(elements) => Some((elements, true)),
            SetRef::Named(name) => {
                let table = self.site.table;
                let touched = |(place, touched): &(usize, _)| *place == table && touched == name;
                if self.header.touched.iter().any(touched) {
                    return None;
                }
                let set = self.encoder.named(table, name)?;
                Some((&set.elements, set.incomplete.is_none()))
            }
        }
    }

    /// What `map` holds under `key`.
    pub(super) fn find(&mut self, key: &'r Expr, map: &'r SetRef) -> Built<Found<'r>> {
        let keys = self.keys(key)?;
        let missing = self.missing(&keys)?;
        let elements = self.elements(map).filter(|(elements, _)| elements.dimensions() == keys.len());
        let Some((elements, complete)) = elements else {
            return Ok(Found { entries: Vec::new(), lost: !missing });
        };
        let present = Truth::exactly(!missing);
        // entries with equal data are one set of keys
        let mut by_data: HashMap<String, usize> = HashMap::new();
        let mut groups: Vec<(&'r Data, Elements)> = Vec::new();
        for (at, key) in elements.keys().enumerate() {
            let Some(data) = elements.data(at) else { continue };
            let group = *by_data.entry(format!("{data:?}")).or_insert_with(|| {
                groups.push((data, Elements::new(elements.dimensions())));
                groups.len() - 1
            });
            if let Some((_, keys)) = groups.get_mut(group) {
                keys.push(key, None, elements.extra(at).cloned());
            }
        }
        let mut entries = Vec::new();
        let mut rest = present;
        for (data, group) in groups {
            let inside = self.encoder.built(&group, &keys)?.and(&mut self.encoder.bdd, present)?;
            rest = rest.and(&mut self.encoder.bdd, !inside)?;
            entries.push((data, inside));
        }
        if let Some(data) = elements.catch_all() {
            entries.push((data, rest));
        }
        Ok(Found { entries, lost: if complete { Set::NONE } else { rest.possible } })
    }
}

/// Elements by the intervals of all dimensions but one, with the intervals of that one.
type Grouped = BTreeMap<Vec<Interval>, Vec<Interval>>;

impl Encoder<'_> {
    /// Whether `keys` are in the set.
    pub(super) fn inside(&mut self, elements: &Elements, keys: &[Value]) -> Built<Truth> {
        self.remembered(elements, keys, |encoder| encoder.built(elements, keys))
    }

    /// What `build` gives, remembered: sets are asked again and again.
    pub(super) fn remembered(
        &mut self,
        elements: &Elements,
        keys: &[Value],
        build: impl FnOnce(&mut Self) -> Built<Truth>,
    ) -> Built<Truth> {
        let Some(place) = elements.keys().next() else { return Ok(Truth::NO) };
        if elements.len() < WORTH_REMEMBERING {
            return build(self);
        }
        // the borrowed ruleset cannot move its keys, and copies of a set share them
        let name = (place.as_ptr().addr(), keys.to_vec());
        if let Some(known) = self.looked_up.get(&name) {
            return Ok(*known);
        }
        let truth = build(self)?;
        self.looked_up.insert(name, truth);
        Ok(truth)
    }

    /// Whether `keys` are in the set of all elements together; those with limits of their own only may hold.
    pub(super) fn built(&mut self, elements: &Elements, keys: &[Value]) -> Built<Truth> {
        let stateful = |at: usize| elements.extra(at).is_some_and(|extra| extra.stateful);
        if (0..elements.len()).any(stateful) {
            let (sure, unsure): (Vec<_>, Vec<_>) = elements.keys().enumerate().partition(|(at, _)| !stateful(*at));
            let list = |list: Vec<(usize, &[Interval])>| list.into_iter().map(|(_, key)| key.to_vec()).collect();
            let sure = self.of_keys(list(sure), keys)?;
            let unsure = self.of_keys(list(unsure), keys)?;
            return sure.or(&mut self.bdd, Truth { certain: Set::NONE, possible: unsure.possible });
        }
        if let [key] = keys {
            let intervals = joined(elements.keys().filter_map(|key| key.first().copied()).collect());
            return key.within(&mut self.bdd, &intervals);
        }
        self.of_keys(elements.keys().map(<[Interval]>::to_vec).collect(), keys)
    }

    /// Whether `keys` are in one of the elements listed, each as wide as the keys.
    pub(super) fn of_keys(&mut self, elements: Vec<Vec<Interval>>, keys: &[Value]) -> Built<Truth> {
        if keys.is_empty() || keys.len() > MAX_DIMENSIONS {
            return Ok(Truth::OPEN);
        }
        // what is the same for all packets is compared first and built never
        let fixed: Vec<Option<u128>> = keys.iter().map(Value::known).collect();
        let fits = |key: &Vec<Interval>| {
            key.iter().zip(&fixed).all(|(interval, value)| value.is_none_or(|value| interval.contains(value)))
        };
        let open: Vec<usize> = (0..keys.len()).filter(|at| fixed.get(*at).is_some_and(Option::is_none)).collect();
        let rows: Vec<Vec<Interval>> = elements
            .into_iter()
            .filter(fits)
            .map(|key| open.iter().filter_map(|at| key.get(*at).copied()).collect())
            .collect();
        if rows.is_empty() {
            return Ok(Truth::NO);
        }
        // the dimension built in one pass is the one that leaves the fewest groups
        let grouped = (0..open.len()).map(|main| (main, group(&rows, main)));
        let Some((main, groups)) = grouped.min_by_key(|(_, groups)| groups.len()) else { return Ok(Truth::YES) };
        let value = |at: usize| open.get(at).and_then(|at| keys.get(*at));
        let mut truths = Vec::with_capacity(groups.len());
        for (others, intervals) in groups {
            let Some(value_of_main) = value(main) else { continue };
            let mut truth = value_of_main.within(&mut self.bdd, &joined(intervals))?;
            let at_others = (0..open.len()).filter(|at| *at != main);
            for (at, interval) in at_others.zip(others) {
                let Some(value) = value(at) else { continue };
                let one = value.within(&mut self.bdd, &[interval])?;
                truth = truth.and(&mut self.bdd, one)?;
            }
            truths.push(truth);
        }
        let possible = self.bdd.union(truths.iter().map(|truth| truth.possible))?;
        if truths.iter().all(|truth| truth.is_exact()) {
            return Ok(Truth::exactly(possible));
        }
        Ok(Truth { certain: self.bdd.union(truths.iter().map(|truth| truth.certain))?, possible })
    }
}

fn group(rows: &[Vec<Interval>], main: usize) -> Grouped {
    let mut groups = Grouped::new();
    for row in rows {
        let mut others = row.clone();
        let own = others.remove(main);
        groups.entry(others).or_default().push(own);
    }
    groups
}
