//! Sets of numbers in place: bits of the packet against intervals.

use super::bdd::{Bdd, Built, Set};
use super::quick::QuickMap;
use crate::ruleset::Interval;

/// Sorts intervals and joins those that touch or overlap.
#[must_use]
pub fn joined(mut intervals: Vec<Interval>) -> Vec<Interval> {
    intervals.retain(|interval| interval.low <= interval.high);
    intervals.sort_unstable();
    let mut joined: Vec<Interval> = Vec::with_capacity(intervals.len());
    for interval in intervals {
        match joined.last_mut() {
            Some(last) if last.high == u128::MAX || interval.low <= last.high + 1 => {
                last.high = last.high.max(interval.high);
            }
            _ => joined.push(interval),
        }
    }
    joined
}

/// What `intervals` (as from [`joined`]) leave out of the numbers of `width` bits.
#[must_use]
pub fn gaps(intervals: &[Interval], width: u32) -> Vec<Interval> {
    let most = mask(width);
    let mut gaps = Vec::with_capacity(intervals.len() + 1);
    let mut next = Some(0);
    for interval in intervals {
        let Some(low) = next.filter(|low| *low <= most) else { break };
        if interval.low > low {
            gaps.push(Interval { low, high: (interval.low - 1).min(most) });
        }
        next = interval.high.checked_add(1);
    }
    if let Some(low) = next.filter(|low| *low <= most) {
        gaps.push(Interval { low, high: most });
    }
    gaps
}

/// An aligned block of numbers: the first one, and how many low bits are free.
pub type Block = (u128, u16);

/// The fewest aligned blocks that make up an interval, in order.
#[must_use]
pub fn blocks(interval: Interval) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut next = Some(interval.low);
    while let Some(low) = next.filter(|low| *low <= interval.high) {
        let mut free = low.trailing_zeros();
        while low | mask(free) > interval.high {
            free -= 1;
        }
        blocks.push((low, u16::try_from(free).unwrap_or(128)));
        next = (low | mask(free)).checked_add(1);
    }
    blocks
}

/// The largest number of `width` bits.
#[must_use]
pub fn mask(width: u32) -> u128 {
    if width >= 128 { u128::MAX } else { (1 << width) - 1 }
}

/// Sets of so many intervals are worth counting their nodes first.
const MANY: usize = 1000;

/// How many low bits are free where an interval is an aligned block.
fn free_bits(low: u128, high: u128) -> Option<u32> {
    let differ = low ^ high;
    (differ & differ.wrapping_add(1) == 0 && low & differ == 0).then(|| differ.count_ones())
}

/// About how many nodes a set of intervals (as from [`joined`]) of numbers of `width` bits needs.
///
/// An interval that shares its first bits with no neighbour has a chain of nodes of its own below them, for each end that is not
/// aligned. Of chains over the last few bits there are no more than numbers of so many bits.
fn nodes_needed(intervals: &[Interval], width: u32) -> usize {
    // chains that start above each bit, less those that ended before
    let mut starts = [0isize; 129];
    let highest = |one: u128, other: u128| u128::BITS - (one ^ other).leading_zeros();
    for (at, Interval { low, high }) in intervals.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|at| intervals.get(at)).map_or(width, |one| highest(one.high, *low));
        let after = intervals.get(at + 1).map_or(width, |one| highest(*high, one.low));
        let top = before.min(after).saturating_sub(1);
        let ends = match free_bits(*low, *high) {
            Some(free) => [free, top],
            None => [low.trailing_zeros(), high.trailing_ones()],
        };
        for end in ends.into_iter().filter(|end| *end < top) {
            starts[end as usize] += 1;
            starts[top as usize] -= 1;
        }
    }
    let (mut chains, mut nodes) = (0, 2 * intervals.len());
    for (bit, start) in (0u32..).zip(starts) {
        chains += start;
        nodes += usize::try_from(chains).unwrap_or(0).min(1usize.checked_shl(bit + 2).unwrap_or(usize::MAX));
    }
    nodes
}

impl Bdd {
    /// The set in which the number made of `bits`, most significant first, lies in one of `intervals` (as from [`joined`]).
    ///
    /// One pass over the intervals: where bits are variables in order each node is made directly, where they are constants
    /// only one branch is looked at. Recursion is as deep as there are bits, at most 128.
    ///
    /// # Errors
    /// When the budget is used up.
    pub fn within(&mut self, bits: &[Set], intervals: &[Interval]) -> Built {
        let width = u32::try_from(bits.len()).unwrap_or(128).min(128);
        let most = mask(width);
        let end = intervals.partition_point(|interval| interval.low <= most);
        let intervals = intervals.get(..end).unwrap_or_default();
        if intervals.len() >= MANY && width > 64 {
            self.reserve(nodes_needed(intervals, width));
        }
        self.block(bits, 0, intervals)
    }

    /// Numbers that start with the bits decided so far, which make `low`.
    fn block(&mut self, bits: &[Set], low: u128, intervals: &[Interval]) -> Built {
        let Some(first) = intervals.first() else { return Ok(Set::NONE) };
        let width = u32::try_from(bits.len()).unwrap_or(128);
        let high = low | mask(width);
        if first.low <= low && first.high >= high {
            return Ok(Set::ALL);
        }
        let Some((bit, rest)) = bits.split_first() else { return Ok(Set::ALL) };
        if let [one] = intervals
            && let Some(free) = free_bits(one.low.max(low), one.high.min(high))
        {
            return self.prefix(bits, one.low.max(low), free);
        }
        let middle = low | 1 << (width - 1);
        let lower = if *bit == Set::ALL {
            Set::NONE
        } else {
            let end = intervals.partition_point(|interval| interval.low < middle);
            self.block(rest, low, intervals.get(..end).unwrap_or_default())?
        };
        if *bit == Set::NONE {
            return Ok(lower);
        }
        let start = intervals.partition_point(|interval| interval.high < middle);
        let upper = self.block(rest, middle, intervals.get(start..).unwrap_or_default())?;
        self.choose(*bit, upper, lower)
    }

    /// Numbers whose bits but the last `free` ones are those of `number`.
    fn prefix(&mut self, bits: &[Set], number: u128, free: u32) -> Built {
        let mut set = Set::ALL;
        for (at, bit) in bits.iter().rev().enumerate().skip(free as usize) {
            let (one, zero) = if number >> at & 1 == 1 { (set, Set::NONE) } else { (Set::NONE, set) };
            set = self.choose(*bit, one, zero)?;
        }
        Ok(set)
    }

    /// The set that is another one for each piece of the number in the variables of `place` (the first one and how many).
    /// The pieces are in order and leave nothing out.
    ///
    /// # Errors
    /// When the budget is used up.
    pub(crate) fn spread(&mut self, place: (u16, u16), pieces: &[(Interval, Set)]) -> Built {
        let (first, width) = place;
        let mut line: Vec<(Interval, Set)> = Vec::with_capacity(pieces.len());
        for (interval, set) in pieces {
            match line.last_mut() {
                Some((last, known)) if known == set => last.high = interval.high,
                _ => line.push((*interval, *set)),
            }
        }
        if line.iter().all(|(_, set)| self.level(*set) >= first + width) {
            return self.spread_below(place, 0, &line);
        }
        // what depends on earlier variables is joined set by set
        let mut kinds: Vec<(Set, Vec<Interval>)> = Vec::new();
        let mut numbers: QuickMap<Set, usize> = QuickMap::default();
        for (interval, set) in line.into_iter().filter(|(_, set)| !set.is_empty()) {
            let number = *numbers.entry(set).or_insert(kinds.len());
            match kinds.get_mut(number) {
                Some((_, intervals)) => intervals.push(interval),
                None => kinds.push((set, vec![interval])),
            }
        }
        let bits: Vec<Set> = (first..first + width).map(|variable| self.variable(variable)).collect::<Built<_>>()?;
        let mut all = Vec::with_capacity(kinds.len());
        for (set, intervals) in kinds {
            let inside = self.within(&bits, &joined(intervals))?;
            all.push(self.and(inside, set)?);
        }
        self.union(all)
    }

    /// Pieces over the numbers from `low` on that the variables of `place` make.
    fn spread_below(&mut self, (first, width): (u16, u16), low: u128, pieces: &[(Interval, Set)]) -> Built {
        if let [(_, set)] = pieces {
            return Ok(*set);
        }
        if width == 0 {
            return Ok(pieces.first().map_or(Set::NONE, |(_, set)| *set));
        }
        let middle = low | 1 << (width - 1);
        let end = pieces.partition_point(|(interval, _)| interval.low < middle);
        let start = pieces.partition_point(|(interval, _)| interval.high < middle);
        let lower = self.spread_below((first + 1, width - 1), low, pieces.get(..end).unwrap_or_default())?;
        let upper = self.spread_below((first + 1, width - 1), middle, pieces.get(start..).unwrap_or_default())?;
        self.node(first, lower, upper)
    }

    /// The set in which the number made of `bits` is `number`.
    ///
    /// # Errors
    /// When the budget is used up.
    pub fn equal(&mut self, bits: &[Set], number: u128) -> Built {
        self.within(bits, &[Interval::single(number)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_the_fewest_aligned_blocks() {
        let of = |low, high| blocks(Interval { low, high });
        assert_eq!(of(0, u128::MAX), [(0, 128)]);
        assert_eq!(of(5, 5), [(5, 0)]);
        assert_eq!(of(1, 8), [(1, 0), (2, 1), (4, 2), (8, 0)]);
        assert_eq!(of(u128::MAX - 1, u128::MAX), [(u128::MAX - 1, 1)]);
        assert_eq!(of(1, u128::MAX).len(), 128);
    }

    #[test]
    fn nodes_of_large_sets_are_counted_before_they_are_made() {
        let mut rng = fastrand::Rng::with_seed(2);
        for shortest in [64, 96, 128] {
            let members = (0..5000).map(|_| {
                let free = 128 - rng.u32(shortest..=128);
                let low = rng.u128(..) >> free << free;
                Interval { low, high: low | mask(free) }
            });
            let members = joined(members.collect());
            let mut bdd = Bdd::new(Bdd::BUDGET);
            let bits: Vec<Set> = (0..128).map(|bit| bdd.variable(bit).expect("room")).collect();
            let set = bdd.within(&bits, &members).expect("room");
            let (made, counted) = (bdd.size(set), nodes_needed(&members, 128));
            assert!(made <= counted && counted < made + made / 8, "{made} {counted}");
            let bit = |number: u128| move |variable: u16| number >> (127 - variable) & 1 == 1;
            for Interval { low, high } in members.iter().step_by(50) {
                assert!(bdd.contains(set, bit(*low)) && bdd.contains(set, bit(*high)));
                let (before, after) = (low.wrapping_sub(1), high.wrapping_add(1));
                for other in [before, after] {
                    let inside = members.iter().any(|one| one.contains(other));
                    assert_eq!(bdd.contains(set, bit(other)), inside);
                }
            }
        }
    }
}
