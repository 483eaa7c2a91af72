//! Sets in few words: prefixes, intervals, classes, how much is in them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::bdd::{Bdd, Set};
use super::layout::{Dimension, Layout, address_width};
use super::line::Line;
use super::quick::QuickMap;
use super::ranges::{Block, joined, mask};
use crate::packet::{Family, Prefix};
use crate::ruleset::Interval;

/// A list that may have been cut.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listing<T> {
    /// The first ones.
    pub items: Vec<T>,
    /// How many there are in all; saturates.
    pub total: u128,
}

impl<T> Listing<T> {
    /// How many were left out.
    #[must_use]
    pub fn left_out(&self) -> u128 {
        self.total.saturating_sub(self.items.len() as u128)
    }
}

/// Aligned blocks of numbers: a block is its first number and how many low bits are free.
struct Blocks<'b> {
    bdd: &'b Bdd,
    first: u16,
    width: u16,
    limit: usize,
    found: Vec<Block>,
}

impl Blocks<'_> {
    /// Blocks within `may` that hold some of `must`. Recursion is as deep as the dimension is wide.
    fn walk(&mut self, must: Set, may: Set, depth: u16, low: u128) {
        if must.is_empty() || self.found.len() >= self.limit {
            return;
        }
        if may == Set::ALL {
            self.found.push((low, self.width - depth));
            return;
        }
        if depth >= self.width {
            return;
        }
        let bit = 1u128 << (self.width - depth - 1);
        let (must_low, must_high) = self.halves(must, depth);
        let (may_low, may_high) = self.halves(may, depth);
        self.walk(must_low, may_low, depth + 1, low);
        self.walk(must_high, may_high, depth + 1, low | bit);
    }

    fn halves(&self, set: Set, depth: u16) -> (Set, Set) {
        if self.bdd.level(set) == self.first + depth { self.bdd.branches(set) } else { (set, set) }
    }

    /// How many such blocks there are.
    fn count(&self, must: Set, may: Set, depth: u16, known: &mut QuickMap<(Set, Set), u128>) -> u128 {
        if must.is_empty() {
            return 0;
        }
        if may == Set::ALL || depth >= self.width {
            return 1;
        }
        // where a bit does not matter both halves need the same blocks
        let level = self.bdd.level(must).min(self.bdd.level(may)).saturating_sub(self.first).max(depth);
        let own = match known.get(&(must, may)) {
            Some(own) => *own,
            None => {
                let (must_low, must_high) = self.halves(must, level);
                let (may_low, may_high) = self.halves(may, level);
                let low = self.count(must_low, may_low, level + 1, known);
                let own = low.saturating_add(self.count(must_high, may_high, level + 1, known));
                known.insert((must, may), own);
                own
            }
        };
        own.saturating_mul(1u128.checked_shl(u32::from(level - depth)).unwrap_or(u128::MAX))
    }
}

type Found = Listing<Block>;

fn blocks(bdd: &Bdd, layout: &Layout, (must, may): (Set, Set), dimension: Dimension, limit: usize) -> Found {
    let (first, width) = layout.place(dimension);
    let mut blocks = Blocks { bdd, first, width, limit, found: Vec::new() };
    blocks.walk(must, may, 0, 0);
    let total = match blocks.found.len() < limit {
        true => blocks.found.len() as u128,
        false => blocks.count(must, may, 0, &mut QuickMap::default()),
    };
    Listing { items: blocks.found, total }
}

/// The fewest prefixes that hold all of `must` and nothing outside `may`, in order, at most `limit` of them; for the same set
/// twice they make it up exactly. Both must depend on the addresses of `dimension` alone, and `may` include `must`.
#[must_use]
pub fn prefixes(
    bdd: &Bdd,
    layout: &Layout,
    (must, may): (Set, Set),
    dimension: Dimension,
    limit: usize,
) -> Listing<Prefix> {
    let width = u16::try_from(address_width(layout.family())).unwrap_or(128);
    let blocks = match layout.line() {
        Some(line) => {
            let addresses = |set| of_classes(line, &blocks(bdd, layout, (set, set), dimension, usize::MAX).items);
            let inside = addresses(must);
            let around = (must != may).then(|| addresses(may));
            between((&inside, around.as_ref().unwrap_or(&inside)), width, limit)
        }
        None => blocks(bdd, layout, (must, may), dimension, limit),
    };
    let prefix = |(low, free): &Block| {
        let length = u8::try_from(width - free).unwrap_or(0);
        Prefix::new(address(*low, layout.family()), length)
    };
    Listing { items: blocks.items.iter().filter_map(prefix).collect(), total: blocks.total }
}

/// The addresses that blocks of classes of a line are, as few intervals in order.
#[must_use]
pub fn of_classes(line: &Line, classes: &[Block]) -> Vec<Interval> {
    let numbers = |(low, free): &Block| Interval { low: *low, high: low | mask(u32::from(*free)) };
    line.addresses(classes.iter().map(numbers))
}

/// The fewest aligned blocks of numbers of `width` bits that hold all of `must` and nothing outside `may`, in order, at most
/// `limit` of them. Both as from [`joined`].
fn between((must, may): (&[Interval], &[Interval]), width: u16, limit: usize) -> Found {
    let (mut items, mut cut) = (Vec::new(), false);
    halve((must, may), width, |block| {
        cut = items.len() >= limit;
        if !cut {
            items.push(block);
        }
        !cut
    });
    // no block reaches from one interval into the next
    let total = if cut { may.iter().map(|one| count_in(must, *one, width)).sum() } else { items.len() as u128 };
    Listing { items, total }
}

/// How many blocks there are within one of the intervals they may not leave.
fn count_in(must: &[Interval], may: Interval, width: u16) -> u128 {
    let inside = must.partition_point(|one| one.high < may.low)..must.partition_point(|one| one.low <= may.high);
    match must.get(inside).unwrap_or_default() {
        [] => 0,
        // nothing is left to choose
        [one] if *one == may => count_of(may).into(),
        must => {
            let mut count = 0;
            halve((must, &[may]), width, |_| {
                count += 1;
                true
            });
            count
        }
    }
}

/// Finds these blocks in order until `found` has enough.
fn halve((must, may): (&[Interval], &[Interval]), width: u16, mut found: impl FnMut(Block) -> bool) {
    // the next block to look at is on top
    let mut todo = vec![(0u128, u32::from(width))];
    while let Some((low, free)) = todo.pop() {
        let high = low | mask(free);
        let inside =
            must.partition_point(|interval| interval.high < low)..must.partition_point(|interval| interval.low <= high);
        let Some([first, .., last] | [first @ last]) = must.get(inside) else { continue };
        // the smallest block around what must be in it: between the two there is one half each time, and nothing to choose
        let (from, to) = (first.low.max(low), last.high.min(high));
        let mut shared = u128::BITS - (from ^ to).leading_zeros();
        let allowed = may.get(may.partition_point(|interval| interval.high < from));
        let fits = |free: u32| {
            let (low, high) = (from & !mask(free), from | mask(free));
            allowed.is_some_and(|interval| interval.low <= low && high <= interval.high)
        };
        if shared > 0 && !fits(shared) {
            let low = from & !mask(shared);
            todo.extend([(low | 1 << (shared - 1), shared - 1), (low, shared - 1)]);
            continue;
        }
        while shared < free && fits(shared + 1) {
            shared += 1;
        }
        if !found((from & !mask(shared), u16::try_from(shared).unwrap_or(128))) {
            break;
        }
    }
}

/// How many aligned blocks make up an interval.
///
/// Below the highest bit in which it and its end differ, the interval goes up to that bit's number in blocks of growing size, one for
/// each bit of the distance, and on from there in shrinking ones.
fn count_of(Interval { low, high }: Interval) -> u32 {
    let Some(end) = high.checked_add(1) else {
        // the end is 2^128, and all of it is the way up
        return if low == 0 { 1 } else { low.wrapping_neg().count_ones() };
    };
    let middle = end & !(mask(u128::BITS - (low ^ end).leading_zeros()) >> 1);
    (middle - low).count_ones() + (end - middle).count_ones()
}

/// The numbers of `dimension` in `set`, as few intervals in order; cut when they need more than `limit` aligned blocks, which
/// the flag tells. `set` must depend on that dimension alone, which is no IP address on a line.
#[must_use]
pub fn intervals(bdd: &Bdd, layout: &Layout, set: Set, dimension: Dimension, limit: usize) -> (Vec<Interval>, bool) {
    if let Some(line) = layout.line_of(dimension) {
        let mut all = of_classes(line, &blocks(bdd, layout, (set, set), dimension, usize::MAX).items);
        let cut = all.len() > limit;
        all.truncate(limit);
        return (all, cut);
    }
    let blocks = blocks(bdd, layout, (set, set), dimension, limit);
    let cut = blocks.left_out() > 0;
    let interval = |(low, free): Block| Interval { low, high: low | mask(u32::from(free)) };
    (joined(blocks.items.into_iter().map(interval).collect()), cut)
}

/// An address from its number.
#[must_use]
pub fn address(number: u128, family: Family) -> IpAddr {
    match family {
        Family::Ipv4 => IpAddr::V4(Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX))),
        _ => IpAddr::V6(Ipv6Addr::from(number)),
    }
}

/// How many numbers of `dimension` are in `set`, which must depend on it alone; exact up to 2^53.
#[must_use]
pub fn size(bdd: &Bdd, layout: &Layout, set: Set, dimension: Dimension) -> f64 {
    let (_, width) = layout.place(dimension);
    fraction(bdd, set, &mut QuickMap::default()) * f64::from(width).exp2()
}

/// The part of all packets that is in `set`, of 1. Recursion is as deep as there are variables.
fn fraction(bdd: &Bdd, set: Set, known: &mut QuickMap<Set, f64>) -> f64 {
    match set {
        Set::ALL => return 1.0,
        Set::NONE => return 0.0,
        _ => {}
    }
    if let Some(fraction) = known.get(&set) {
        return *fraction;
    }
    let (low, high) = bdd.branches(set);
    let result = f64::midpoint(fraction(bdd, low, known), fraction(bdd, high, known));
    known.insert(set, result);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_between_two_lists_are_as_few_as_there_are() {
        let interval = |low, high| Interval { low, high };
        let (must, may) = ([interval(3, 4), interval(9, 9)], [interval(2, 12)]);
        assert_eq!(between((&must, &may), 4, 10).items, [(2, 1), (4, 2), (8, 2)]);
        let cut = between((&may, &may), 4, 2);
        assert_eq!((cut.items, cut.total), (vec![(2, 1), (4, 2)], 4));
        assert_eq!(between((&[], &may), 128, 10).total, 0);
        assert_eq!(
            [(0, u128::MAX), (1, u128::MAX), (3 << 126, u128::MAX), (0, 0)]
                .map(|(low, high)| count_of(interval(low, high))),
            [1, 128, 1, 1]
        );
        assert_eq!(
            between((&[interval(7, 7), interval(1 << 99, 1 << 99)], &[]), 128, 10).items,
            [(7, 0), (1 << 99, 0)]
        );
        assert_eq!(between((&[interval(0, u128::MAX)], &[interval(0, u128::MAX)]), 128, 10).items, [(0, 128)]);
    }

    /// Blocks found by halving from the top, one bit after the other.
    fn halved(must: u64, may: u64, low: u32, free: u16, found: &mut Vec<Block>) {
        let all = if free == 6 { u64::MAX } else { ((1 << (1u64 << free)) - 1) << low };
        if must & all == 0 {
            return;
        }
        if free == 0 || may & all == all {
            return found.push((low.into(), free));
        }
        halved(must, may, low, free - 1, found);
        halved(must, may, low + (1 << (free - 1)), free - 1, found);
    }

    #[test]
    fn blocks_are_those_that_halving_finds() {
        let mut rng = fastrand::Rng::with_seed(3);
        let intervals = |bits: u64| {
            let single = |number: u32| Interval::single(number.into());
            joined((0..64u32).filter(|number| bits >> number & 1 == 1).map(single).collect())
        };
        for _ in 0..2000 {
            let may = (0..rng.u32(0..4)).fold(rng.u64(..), |may, _| may | rng.u64(..));
            let must = (0..rng.u32(0..4)).fold(may, |must, _| must & rng.u64(..));
            let mut wanted = Vec::new();
            halved(must, may, 0, 6, &mut wanted);
            assert_eq!(between((&intervals(must), &intervals(may)), 6, 64).items, wanted, "{must:064b} {may:064b}");
            // the same when few are told and the rest counted
            let (must, may) = (intervals(must), intervals(may));
            let few = between((&must, &may), 6, 2);
            assert_eq!((few.total, &few.items[..]), (wanted.len() as u128, &wanted[..wanted.len().min(2)]));
            let all = between((&must, &must), 6, 64);
            let few = between((&must, &must), 6, 2);
            assert_eq!((few.total, &few.items[..]), (all.total, &all.items[..all.items.len().min(2)]));
            assert_eq!(all.total, must.iter().map(|interval| u128::from(count_of(*interval))).sum());
        }
    }
}
