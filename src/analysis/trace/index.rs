//! Lookups in sets in microseconds: an index over [`Elements`], built once and shared by all packets.
//!
//! One dimension: the line of values is cut into disjoint segments, each owned by the *narrowest* interval that covers it
//! (ipset's most specific prefix; nft intervals never overlap), and searched by bisection. Several dimensions: elements
//! whose intervals are aligned blocks (addresses, prefixes, single ports) are hashed by shape, narrowest shape first;
//! whatever is left is scanned.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use crate::ruleset::{Elements, Interval};

/// Most dimensions an index takes; nft allows fewer.
pub(super) const MAX_DIMENSIONS: usize = 8;

/// Below this size a scan is as fast as an index.
pub(super) const SCAN: usize = 8;

/// How a lookup with a partly unknown key ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Found {
    /// This element holds the key.
    Element(usize),
    /// No element can hold it.
    Nothing,
    /// Whether one holds it depends on a value that is not known.
    Open,
}

/// The index.
#[derive(Debug)]
pub(super) enum SetIndex {
    /// Few elements: look at each.
    Scan,
    /// One dimension: disjoint segments in order.
    Line(Vec<Segment>),
    /// Several dimensions.
    Shapes(Shapes),
}

/// Values `interval`, owned by `element`.
#[derive(Debug)]
pub(super) struct Segment {
    interval: Interval,
    element: usize,
}

/// Elements by the lowest values of their blocks.
type Table = HashMap<Box<[u128]>, usize>;

/// Hash tables by block size of each dimension, narrowest first, and the elements that are no blocks.
#[derive(Debug)]
pub(super) struct Shapes {
    tables: Vec<(Vec<u128>, Table)>,
    rest: Vec<usize>,
}

impl SetIndex {
    /// Indexes `elements`.
    pub(super) fn new(elements: &Elements) -> Self {
        if elements.len() <= SCAN {
            Self::Scan
        } else if elements.dimensions() == 1 {
            Self::Line(disjoint(elements).unwrap_or_else(|| segments(elements)))
        } else {
            Self::Shapes(shapes(elements))
        }
    }

    /// The narrowest element that holds `key` (all of it known). Of equals, the first listed.
    pub(super) fn find(&self, elements: &Elements, key: &[u128]) -> Option<usize> {
        match self {
            Self::Scan => scan(elements, key),
            Self::Line(segments) => {
                let value = *key.first()?;
                let after = segments.partition_point(|segment| segment.interval.low <= value);
                let segment = segments.get(after.checked_sub(1)?)?;
                segment.interval.contains(value).then_some(segment.element)
            }
            Self::Shapes(shapes) => shapes.find(elements, key),
        }
    }

    /// Like [`Self::find`] with a key some of whose values are not known (`None`).
    pub(super) fn find_partly(&self, elements: &Elements, key: &[Option<u128>]) -> Found {
        let mut known = [0u128; MAX_DIMENSIONS];
        if key.len() <= MAX_DIMENSIONS && key.iter().all(Option::is_some) {
            for (slot, value) in known.iter_mut().zip(key) {
                *slot = value.unwrap_or_default();
            }
            let known = known.get(..key.len()).unwrap_or_default();
            return self.find(elements, known).map_or(Found::Nothing, Found::Element);
        }
        let possible = elements.keys().any(|element| {
            element.iter().zip(key).all(|(interval, value)| value.is_none_or(|value| interval.contains(value)))
        });
        if possible { Found::Open } else { Found::Nothing }
    }
}

impl Shapes {
    fn find(&self, elements: &Elements, key: &[u128]) -> Option<usize> {
        let mut masked = [0u128; MAX_DIMENSIONS];
        let mut best = self.tables.iter().find_map(|(shape, table)| {
            for ((slot, value), span) in masked.iter_mut().zip(key).zip(shape) {
                *slot = value & !span;
            }
            table.get(masked.get(..key.len())?).copied()
        });
        for &candidate in &self.rest {
            let Some(element) = elements.key(candidate) else { continue };
            if !holds(element, key) {
                continue;
            }
            let narrower = best.and_then(|best| elements.key(best)).is_none_or(|best| width(element) < width(best));
            if narrower {
                best = Some(candidate);
            }
        }
        best
    }
}

fn holds(element: &[Interval], key: &[u128]) -> bool {
    element.len() == key.len() && element.iter().zip(key).all(|(interval, value)| interval.contains(*value))
}

/// Sizes of an element's intervals, comparable: the first dimension counts most.
fn width(element: &[Interval]) -> [u128; MAX_DIMENSIONS] {
    let mut widths = [0; MAX_DIMENSIONS];
    for (slot, interval) in widths.iter_mut().zip(element) {
        *slot = interval.high.saturating_sub(interval.low);
    }
    widths
}

fn scan(elements: &Elements, key: &[u128]) -> Option<usize> {
    elements
        .keys()
        .enumerate()
        .filter(|(_, element)| holds(element, key))
        .min_by_key(|(_, element)| width(element))
        .map(|(index, _)| index)
}

/// The elements in order of their lowest value. `None` when some overlap.
fn disjoint(elements: &Elements) -> Option<Vec<Segment>> {
    let intervals = elements.keys().filter_map(|key| key.first().copied()).enumerate();
    let mut segments: Vec<Segment> = intervals
        .filter(|(_, interval)| interval.low <= interval.high)
        .map(|(element, interval)| Segment { interval, element })
        .collect();
    segments.sort_unstable_by_key(|segment| segment.interval.low);
    let apart = segments.iter().zip(segments.iter().skip(1)).all(|(one, next)| one.interval.high < next.interval.low);
    apart.then_some(segments)
}

/// Cuts the line at every border; between two borders the narrowest open interval owns the values.
fn segments(elements: &Elements) -> Vec<Segment> {
    let intervals: Vec<Interval> =
        elements.keys().map(|key| key.first().copied().unwrap_or(Interval { low: 1, high: 0 })).collect();
    let mut order: Vec<usize> =
        intervals.iter().enumerate().filter(|(_, interval)| interval.low <= interval.high).map(|(i, _)| i).collect();
    order.sort_by_key(|&i| intervals.get(i).map(|interval| (interval.low, Reverse(interval.high))));
    let mut segments: Vec<Segment> = Vec::with_capacity(order.len());
    // open intervals: by width, then by listing order; and by end
    let mut open: BTreeSet<(u128, usize)> = BTreeSet::new();
    let mut ends: BTreeSet<(u128, usize)> = BTreeSet::new();
    let mut at = 0u128;
    let mut starts = order.into_iter().peekable();
    loop {
        let next_start = starts.peek().and_then(|&i| intervals.get(i)).map(|interval| interval.low);
        let next_end = ends.first().map(|&(high, _)| high);
        match (next_start, next_end) {
            (Some(low), end) if end.is_none_or(|high| low <= high) => {
                if low > at {
                    emit(&mut segments, &open, at, low - 1);
                }
                at = low;
                if let Some(index) = starts.next() {
                    let span = intervals.get(index).map_or(0, |interval| interval.high - interval.low);
                    open.insert((span, index));
                    ends.insert((intervals.get(index).map_or(low, |interval| interval.high), index));
                }
            }
            (_, Some(high)) => {
                emit(&mut segments, &open, at, high);
                while let Some(&(end, index)) = ends.first().filter(|&&(end, _)| end == high) {
                    ends.remove(&(end, index));
                    let span = intervals.get(index).map_or(0, |interval| interval.high - interval.low);
                    open.remove(&(span, index));
                }
                let Some(after) = high.checked_add(1) else { break };
                at = after;
            }
            // the first arm takes every start that comes before an end
            _ => break,
        }
    }
    segments
}

fn emit(segments: &mut Vec<Segment>, open: &BTreeSet<(u128, usize)>, low: u128, high: u128) {
    let Some(&(_, element)) = open.first() else { return };
    if low > high {
        return;
    }
    match segments.last_mut() {
        Some(last) if last.element == element && last.interval.high.checked_add(1) == Some(low) => {
            last.interval.high = high;
        }
        _ => segments.push(Segment { interval: Interval { low, high }, element }),
    }
}

/// The block's size minus one when `interval` is an aligned block.
fn block(interval: Interval) -> Option<u128> {
    let span = interval.high.checked_sub(interval.low)?;
    let aligned = span == u128::MAX || ((span + 1).is_power_of_two() && interval.low & span == 0);
    aligned.then_some(span)
}

fn shapes(elements: &Elements) -> Shapes {
    let mut tables: HashMap<Vec<u128>, Table> = HashMap::new();
    let mut rest = Vec::new();
    for (index, element) in elements.keys().enumerate() {
        let shape: Option<Vec<u128>> = element.iter().map(|interval| block(*interval)).collect();
        match shape {
            Some(shape) => {
                let key: Box<[u128]> = element.iter().map(|interval| interval.low).collect();
                tables.entry(shape).or_default().entry(key).or_insert(index);
            }
            None => rest.push(index),
        }
    }
    let mut tables: Vec<_> = tables.into_iter().collect();
    tables.sort_by(|a, b| a.0.cmp(&b.0));
    Shapes { tables, rest }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random_interval(rng: &mut fastrand::Rng, bits: u32, blocks: bool) -> Interval {
        let max = (1u128 << bits) - 1;
        let low = rng.u128(0..=max);
        if blocks {
            let span = (1u128 << rng.u32(0..=bits)) - 1;
            return Interval { low: low & !span, high: (low & !span) | span };
        }
        Interval { low, high: low + rng.u128(0..=(max - low).min(40)) }
    }

    #[test]
    fn the_index_agrees_with_a_scan_on_random_sets() {
        let mut rng = fastrand::Rng::with_seed(11);
        for round in 0..300 {
            let dimensions = 1 + round % 3;
            let bits = [4, 8, 12][rng.usize(0..3)];
            let mut elements = Elements::new(dimensions);
            for _ in 0..rng.usize(SCAN + 1..80) {
                let blocks = rng.u8(0..4) > 0;
                let key: Vec<Interval> = (0..dimensions).map(|_| random_interval(&mut rng, bits, blocks)).collect();
                elements.push(&key, None, None);
            }
            let index = SetIndex::new(&elements);
            assert!(!matches!(index, SetIndex::Scan));
            for _ in 0..200 {
                let key: Vec<u128> = (0..dimensions).map(|_| rng.u128(0..1 << bits)).collect();
                let (fast, slow) = (index.find(&elements, &key), scan(&elements, &key));
                let widths = |found: Option<usize>| found.and_then(|i| elements.key(i)).map(width);
                assert_eq!(widths(fast), widths(slow), "{key:?} in {elements:?}");
            }
        }
    }

    #[test]
    fn elements_that_do_not_overlap_need_no_cutting() {
        let mut rng = fastrand::Rng::with_seed(12);
        let mut intervals: Vec<Interval> =
            (0u128..500).map(|n| Interval { low: n * 10, high: n * 10 + rng.u128(0..10) }).collect();
        rng.shuffle(&mut intervals);
        let mut elements = Elements::from_intervals(intervals);
        let short = SetIndex::Line(disjoint(&elements).expect("none overlap"));
        let long = SetIndex::Line(segments(&elements));
        for value in 0..5_010 {
            assert_eq!(short.find(&elements, &[value]), long.find(&elements, &[value]), "{value}");
        }
        assert!(elements.push(&[Interval { low: 9, high: 10 }], None, None));
        assert!(disjoint(&elements).is_none(), "10 is in two elements");
    }

    #[test]
    fn whole_lines_and_last_values_are_found() {
        let full = Interval { low: 0, high: u128::MAX };
        let last = Interval::single(u128::MAX);
        let elements = Elements::from_intervals([full, last].into_iter().chain((0..10).map(Interval::single)));
        let index = SetIndex::new(&elements);
        assert_eq!(index.find(&elements, &[u128::MAX]), Some(1));
        assert_eq!(index.find(&elements, &[3]), Some(5));
        assert_eq!(index.find(&elements, &[77]), Some(0));
    }

    #[test]
    fn unknown_values_leave_the_lookup_open_only_where_they_matter() {
        let mut elements = Elements::new(2);
        elements.push(&[Interval::single(6), Interval { low: 1, high: 1024 }], None, None);
        let index = SetIndex::new(&elements);
        assert_eq!(index.find_partly(&elements, &[Some(6), None]), Found::Open);
        assert_eq!(index.find_partly(&elements, &[Some(17), None]), Found::Nothing);
        assert_eq!(index.find_partly(&elements, &[Some(6), Some(22)]), Found::Element(0));
    }
}
