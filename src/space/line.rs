//! The address line in classes that no rule tells apart, each with a number: a few bits instead of all of an address.
//!
//! Rulesets cut the line of all addresses in some thousands of places, and of the pieces between many are in the same sets of
//! addresses: all those in no set, all members of one large set that are in no other. Where a question is about addresses that
//! rules treat alike, the number of the class says all there is to say, and diagrams over a dozen variables replace those over 32
//! or 128 (Yang and Lam's atomic predicates, 2013). Classes are numbered by their first addresses, so nested prefixes are intervals
//! of numbers.
//!
//! **Nothing is rounded.** A line notes each set that is not made up of whole classes, and each look at an address that is not by
//! sets; then nothing that was built with it counts, and [`Line::verdict`] says with what to start again.

use std::cell::{Cell, RefCell};
use std::hash::{Hash, Hasher};
use std::rc::Rc;

use super::quick::QuickMap;
use super::ranges::{joined, mask};
use crate::ruleset::Interval;

/// Sets of addresses that a line tells apart.
#[derive(Clone, Default, Debug)]
pub struct Cuts {
    /// Where the line enters or leaves a set, and the number of the set.
    ends: Vec<(u128, u32)>,
    sets: u32,
}

impl Cuts {
    /// Addresses in this set and others; the intervals must not overlap.
    pub fn set(&mut self, intervals: &[Interval]) {
        for interval in intervals {
            self.ends.push((interval.low, self.sets));
            self.ends.extend(interval.high.checked_add(1).map(|end| (end, self.sets)));
        }
        self.sets += 1;
    }

    /// Addresses before this one, and those from there on.
    pub fn at(&mut self, start: u128) {
        self.ends.push((start, self.sets));
        self.sets += 1;
    }

    /// Whether nothing is told apart.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// All that `other` tells apart as well.
    pub fn extend(&mut self, other: &Self) {
        self.ends.extend(other.ends.iter().map(|(start, set)| (*start, set + self.sets)));
        self.sets += other.sets;
    }
}

/// A cut address line; clones are the same line.
#[derive(Clone, Debug)]
pub struct Line(Rc<Pieces>);

/// Pieces in a row: the first, and the one after the last.
type Ranges = Vec<(u32, u32)>;

#[derive(Debug)]
struct Pieces {
    /// Bits of an address.
    width: u32,
    /// First addresses of the pieces, in order, from 0 on.
    starts: Vec<u128>,
    /// The class of each piece.
    classes: Vec<u32>,
    /// Pieces by class, each class in order.
    members: Vec<u32>,
    /// Where each class starts in `members`, and the end of the last.
    firsts: Vec<u32>,
    /// Numbers of the classes of small sets, by the ranges of their pieces.
    known: RefCell<QuickMap<Ranges, Vec<Interval>>>,
    /// Sets that were asked for and are not made up of classes.
    missing: RefCell<Cuts>,
    /// Somebody looked at single bits.
    by_bits: Cell<bool>,
}

/// What became of a line.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// Every condition fitted: what was built is exact.
    Exact,
    /// Start again with these sets as well.
    Missing(Cuts),
    /// Conditions look at single bits: start again without a line.
    ByBits,
}

impl PartialEq for Line {
    fn eq(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Line {}

impl Hash for Line {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Rc::as_ptr(&self.0).hash(state);
    }
}

/// Sets of so many intervals are remembered.
const MAX_KNOWN: usize = 64;

impl Line {
    /// The line of addresses of `width` bits, cut into classes of addresses that are in the same sets.
    #[must_use]
    pub fn new(width: u32, cuts: &Cuts) -> Self {
        let mut ends = cuts.ends.clone();
        ends.retain(|(start, _)| *start <= mask(width));
        // sets come sorted: this sort merges what is
        ends.sort();
        let (mut starts, mut classes) = (vec![0u128], vec![0u32]);
        let mut numbers: QuickMap<(u64, u64), u32> = QuickMap::default();
        // the sets a piece is in, as the sum of their random names (Zobrist 1970); that equal sums are equal sets is not relied on
        let mut sum = (0u64, 0u64);
        let mut rest = ends.as_slice();
        while let Some((start, _)) = rest.first() {
            let (here, after) = rest.split_at(rest.iter().position(|(other, _)| other != start).unwrap_or(rest.len()));
            for (_, set) in here {
                let name = (scattered(u64::from(*set) << 1), scattered(u64::from(*set) << 1 | 1));
                sum = (sum.0 ^ name.0, sum.1 ^ name.1);
            }
            if *start > 0 && numbers.is_empty() {
                numbers.insert((0, 0), 0);
            }
            let next = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
            let class = *numbers.entry(sum).or_insert(next);
            if *start > 0 && classes.last() != Some(&class) {
                starts.push(*start);
                classes.push(class);
            }
            rest = after;
        }
        let (members, firsts) = by_class(&classes, numbers.len().max(1));
        let (known, missing, by_bits) = (RefCell::default(), RefCell::default(), Cell::new(false));
        Self(Rc::new(Pieces { width, starts, classes, members, firsts, known, missing, by_bits }))
    }

    /// Bits of an address.
    #[must_use]
    pub fn width(&self) -> u32 {
        self.0.width
    }

    fn class_count(&self) -> usize {
        self.0.firsts.len() - 1
    }

    /// Bits of the number of a class. Numbers past the last class mean the last.
    #[must_use]
    pub fn bits(&self) -> u16 {
        let last = self.class_count().saturating_sub(1);
        u16::try_from(usize::BITS - last.leading_zeros()).unwrap_or(64)
    }

    /// Pieces of a class, in order.
    fn members(&self, class: usize) -> &[u32] {
        let place = |at: usize| self.0.firsts.get(at).map_or(0, |place| *place as usize);
        self.0.members.get(place(class)..place(class + 1)).unwrap_or_default()
    }

    /// The numbers of the classes that `intervals` of addresses (as from [`joined`]) are.
    #[must_use]
    pub fn numbers(&self, intervals: &[Interval]) -> Vec<Interval> {
        let most = mask(self.0.width);
        let mut fits = true;
        let mut piece = |start: u128| {
            let found = self.0.starts.binary_search(&start);
            fits &= found.is_ok();
            found.unwrap_or_else(|after| after.saturating_sub(1)) as u32
        };
        let mut ranges = Ranges::with_capacity(intervals.len());
        for interval in intervals.iter().filter(|interval| interval.low <= most) {
            let next = interval.high.checked_add(1).filter(|next| *next <= most);
            ranges.push((piece(interval.low), next.map_or(self.0.starts.len() as u32, &mut piece)));
        }
        if let Some(known) = self.0.known.borrow().get(&ranges).filter(|_| fits) {
            return known.clone();
        }
        let (numbers, whole) = self.numbers_of(&ranges);
        if !(fits && whole) {
            self.0.missing.borrow_mut().set(intervals);
        } else if ranges.len() <= MAX_KNOWN {
            self.0.known.borrow_mut().insert(ranges, numbers.clone());
        }
        numbers
    }

    /// The numbers of the classes that ranges of pieces are, and whether these are all of their pieces.
    fn numbers_of(&self, ranges: &[(u32, u32)]) -> (Vec<Interval>, bool) {
        let all = self.0.starts.len() as u32;
        let count =
            |ranges: &[(u32, u32)]| ranges.iter().map(|(from, to)| to.saturating_sub(*from) as usize).sum::<usize>();
        let mut pieces = count(ranges);
        // what is left out is looked at where it is less
        let turned = pieces > self.0.starts.len() / 2;
        let gaps: Ranges;
        let mut ranges = ranges;
        if turned {
            let from = std::iter::once(0).chain(ranges.iter().map(|(_, to)| *to));
            let to = ranges.iter().map(|(from, _)| *from).chain([all]);
            gaps = from.zip(to).filter(|(from, to)| from < to).collect();
            ranges = &gaps;
            pieces = count(ranges);
        }
        let inside = ranges.iter().filter_map(|(from, to)| self.0.classes.get(*from as usize..*to as usize));
        let mut classes: Vec<u32> = inside.flatten().copied().collect();
        classes.sort_unstable();
        classes.dedup();
        let members: usize = classes.iter().map(|class| self.members(*class as usize).len()).sum();
        let mut numbers = Vec::new();
        let mut add = |low: u32, high: u32| {
            let last = high as usize + 1 == self.class_count();
            numbers.push(Interval { low: low.into(), high: if last { u128::MAX } else { high.into() } });
        };
        let mut next = 0;
        for run in classes.chunk_by(|one, other| one + 1 == *other) {
            let (Some(low), Some(high)) = (run.first(), run.last()) else { continue };
            match turned {
                true if next < *low => add(next, low - 1),
                true => {}
                false => add(*low, *high),
            }
            next = high + 1;
        }
        if turned && (next as usize) < self.class_count() {
            add(next, self.class_count() as u32 - 1);
        }
        (numbers, members == pieces)
    }

    /// The addresses that classes with these numbers are, as few intervals in order.
    #[must_use]
    pub fn addresses(&self, numbers: impl IntoIterator<Item = Interval>) -> Vec<Interval> {
        let mut pieces: Vec<u32> = Vec::new();
        for interval in numbers {
            let last = usize::try_from(interval.high).unwrap_or(usize::MAX).min(self.class_count() - 1);
            let first = usize::try_from(interval.low).unwrap_or(usize::MAX);
            (first..=last).for_each(|class| pieces.extend(self.members(class)));
        }
        pieces.sort_unstable();
        let start = |piece: u32| self.0.starts.get(piece as usize).copied();
        let interval = |run: &[u32]| {
            let high = start(run.last()? + 1).map_or(mask(self.0.width), |next| next - 1);
            Some(Interval { low: start(*run.first()?)?, high })
        };
        joined(pieces.chunk_by(|one, other| one + 1 == *other).filter_map(interval).collect())
    }

    /// The first address of a class.
    #[must_use]
    pub fn first_of(&self, class: u128) -> u128 {
        let last = self.class_count().saturating_sub(1);
        let class = usize::try_from(class).unwrap_or(last).min(last);
        let piece = self.members(class).first().copied().unwrap_or(0);
        self.0.starts.get(piece as usize).copied().unwrap_or(0)
    }

    /// Somebody needs the bits of the address.
    pub(super) fn note_bits(&self) {
        self.0.by_bits.set(true);
    }

    /// Whether what was built so far is exact.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        if self.0.by_bits.get() {
            return Verdict::ByBits;
        }
        let missing = self.0.missing.borrow();
        if missing.sets == 0 { Verdict::Exact } else { Verdict::Missing(missing.clone()) }
    }

    /// Whether what was built so far is exact: nothing has to be asked again.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        matches!(self.verdict(), Verdict::Exact)
    }
}

/// Pieces by class, and where each of so many classes starts.
fn by_class(classes: &[u32], count: usize) -> (Vec<u32>, Vec<u32>) {
    let mut firsts = vec![0u32; count + 1];
    for class in classes {
        firsts[*class as usize + 1] += 1;
    }
    for at in 0..count {
        firsts[at + 1] += firsts[at];
    }
    let mut next = firsts.clone();
    let mut members = vec![0u32; classes.len()];
    for (piece, class) in classes.iter().enumerate() {
        let place = &mut next[*class as usize];
        members[*place as usize] = piece as u32;
        *place += 1;
    }
    (members, firsts)
}

/// A number that looks random for each number (Steele, Lea and Flood's SplitMix, 2014).
fn scattered(number: u64) -> u64 {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// Lines tried before all bits are.
const MAX_LINES: usize = 3;

/// What `ask` answers exactly: on a line of addresses of `width` bits that starts with `cuts` and gets those it turns out to
/// miss; where no line will do, with all bits.
pub fn exactly<T>(width: u32, mut cuts: Cuts, mut ask: impl FnMut(Option<&Line>) -> T) -> T {
    for _ in 0..MAX_LINES {
        let line = Line::new(width, &cuts);
        let answer = ask(Some(&line));
        match line.verdict() {
            Verdict::Exact => return answer,
            Verdict::Missing(more) => cuts.extend(&more),
            Verdict::ByBits => break,
        }
    }
    ask(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(low: u128, high: u128) -> Interval {
        Interval { low, high }
    }

    fn line(width: u32, sets: &[&[Interval]]) -> Line {
        let mut cuts = Cuts::default();
        sets.iter().for_each(|set| cuts.set(set));
        Line::new(width, &cuts)
    }

    #[test]
    fn sets_of_addresses_are_sets_of_classes_and_back() {
        let (net, hosts) = ([interval(10, 29)], [interval(12, 12), interval(20, 21), interval(40, 40)]);
        let line = line(32, &[&net, &hosts, &[interval(1 << 40, 1 << 41)]]);
        // in none, in the net, in both, in the hosts alone
        assert_eq!(line.bits(), 2);
        assert_eq!(line.numbers(&net), [interval(1, 2)]);
        assert_eq!(line.numbers(&hosts), [interval(2, u128::MAX)]);
        assert_eq!(line.numbers(&[interval(0, 9), interval(30, u128::MAX)]), [interval(0, 0), interval(3, u128::MAX)]);
        assert_eq!(line.numbers(&[interval(0, u128::MAX)]), [interval(0, u128::MAX)]);
        assert_eq!(line.numbers(&[]), []);
        assert_eq!(line.numbers(&[interval(1 << 33, 1 << 34)]), [], "no address of this family");
        assert!(line.is_exact());
        assert_eq!(line.addresses([interval(1, 2)]), net);
        assert_eq!(line.addresses([interval(2, 9)]), hosts);
        assert_eq!(line.addresses([interval(0, 0)]).last(), Some(&interval(41, 0xffff_ffff)));
        assert_eq!(line.addresses([interval(4, 9)]), []);
        assert_eq!([0, 1, 2, 3, 4].map(|class| line.first_of(class)), [0, 10, 12, 40, 40]);
        assert_eq!(Line::new(128, &Cuts::default()).bits(), 0);
    }

    #[test]
    fn a_cut_parts_what_is_before_from_what_is_after() {
        let mut cuts = Cuts::default();
        cuts.set(&[interval(2, 3), interval(12, 13)]);
        cuts.at(8);
        let line = Line::new(4, &cuts);
        let all = [interval(0, 7), interval(8, 15), interval(2, 3), interval(12, 13)].map(|one| line.numbers(&[one]));
        let wanted = [interval(0, 1), interval(2, u128::MAX), interval(1, 1), interval(3, u128::MAX)];
        assert_eq!(all, wanted.map(|one| vec![one]));
        assert!(line.is_exact());
    }

    #[test]
    fn random_sets_and_what_is_made_of_them() {
        let mut rng = fastrand::Rng::with_seed(5);
        let of_bits = |bits: u64| {
            let single = |number: u32| Interval::single(number.into());
            joined((0..64u32).filter(|number| bits >> number & 1 == 1).map(single).collect())
        };
        for _ in 0..500 {
            let sets: Vec<u64> = (0..rng.usize(1..6)).map(|_| rng.u64(..) & rng.u64(..) & rng.u64(..)).collect();
            let mut cuts = Cuts::default();
            sets.iter().for_each(|set| cuts.set(&of_bits(*set)));
            let line = Line::new(6, &cuts);
            let made = sets.iter().fold(0, |made, set| if rng.bool() { made | set } else { !made & *set });
            for set in [sets[0], made, !made] {
                let numbers = line.numbers(&of_bits(set));
                assert_eq!(line.addresses(numbers.clone()), of_bits(set), "{set:064b}");
                // asked again it is remembered
                assert_eq!(line.numbers(&of_bits(set)), numbers);
            }
            assert!(line.is_exact());
            // one address of a class of several is no set of classes
            let alike = |one: u32, other: u32| sets.iter().all(|set| set >> one & 1 == set >> other & 1);
            let lonely = (0..64).all(|other| other == 7 || !alike(7, other));
            let _ = line.numbers(&[interval(7, 7)]);
            assert_eq!(line.is_exact(), lonely);
        }
    }

    #[test]
    fn questions_are_asked_again_until_the_line_fits() {
        let ask = |line: Option<&Line>| line.map(|line| line.numbers(&[interval(7, 9)]));
        assert_eq!(exactly(32, Cuts::default(), ask), Some(vec![interval(1, u128::MAX)]));
        let mut asked = 0;
        let ask = |line: Option<&Line>| {
            asked += 1;
            line.map(Line::note_bits)
        };
        assert_eq!((exactly(32, Cuts::default(), ask), asked), (None, 2));
        let mut end = 0;
        let ask = |line: Option<&Line>| {
            end += 1;
            line.map(|line| line.numbers(&[interval(end, end)]).len())
        };
        assert_eq!((exactly(32, Cuts::default(), ask), end), (None, 4), "it never stops asking for more");
    }

    #[test]
    fn what_does_not_fit_is_noted() {
        let line = line(128, &[&[interval(10, 19)]]);
        let other = line.clone();
        assert_eq!(other, line);
        assert_ne!(Line::new(128, &Cuts::default()), line);
        let _ = other.numbers(&[interval(10, 14)]);
        let Verdict::Missing(cuts) = line.verdict() else { panic!("10 to 14 is no class") };
        assert_eq!(cuts.ends, [(10, 0), (15, 0)]);
        line.note_bits();
        assert!(matches!(line.verdict(), Verdict::ByBits));
    }
}
