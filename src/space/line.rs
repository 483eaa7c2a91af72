//! The address line in pieces that no rule tells apart, each with a number: a few bits instead of all of an address.
//!
//! Rulesets cut the line of all addresses in some thousands of places. Where a question is about addresses that rules treat
//! alike, the number of the piece says all there is to say, and diagrams over a dozen variables replace those over 32 or 128.
//! The numbers keep the order of the addresses, so an interval of addresses is an interval of pieces.
//!
//! **Nothing is rounded.** A line notes each end of an interval that it is not cut at, and each look at an address that is
//! not by intervals; then nothing that was built with it counts, and [`Line::verdict`] says with which line to start again.

use std::cell::{Cell, RefCell};
use std::hash::{Hash, Hasher};
use std::rc::Rc;

use super::ranges::mask;
use crate::ruleset::Interval;

/// A cut address line; clones are the same line.
#[derive(Clone, Debug)]
pub struct Line(Rc<Cuts>);

#[derive(Debug)]
struct Cuts {
    /// Bits of an address.
    width: u32,
    /// First addresses of the pieces, in order, from 0 on.
    starts: Vec<u128>,
    /// Starts that were asked for and are none.
    missing: RefCell<Vec<u128>>,
    /// Somebody looked at single bits.
    by_bits: Cell<bool>,
}

/// What became of a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Every condition fitted: what was built is exact.
    Exact,
    /// Start again with these cuts as well.
    Missing(Vec<u128>),
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

impl Line {
    /// The line of addresses of `width` bits, with a piece that starts at each of `starts` that is one.
    #[must_use]
    pub fn new(width: u32, mut starts: Vec<u128>) -> Self {
        starts.push(0);
        starts.retain(|start| *start <= mask(width));
        starts.sort_unstable();
        starts.dedup();
        Self(Rc::new(Cuts { width, starts, missing: RefCell::default(), by_bits: Cell::new(false) }))
    }

    /// Bits of an address.
    #[must_use]
    pub fn width(&self) -> u32 {
        self.0.width
    }

    /// Bits of the number of a piece. Numbers past the last piece mean the last.
    #[must_use]
    pub fn bits(&self) -> u16 {
        let last = self.0.starts.len().saturating_sub(1);
        u16::try_from(usize::BITS - last.leading_zeros()).unwrap_or(64)
    }

    /// The pieces that `intervals` of addresses are.
    #[must_use]
    pub fn numbers(&self, intervals: &[Interval]) -> Vec<Interval> {
        let most = mask(self.0.width);
        let inside = intervals.iter().filter(|interval| interval.low <= most);
        let numbers = |interval: &Interval| {
            let low = self.piece(interval.low);
            let next = interval.high.checked_add(1).filter(|next| *next <= most);
            Interval { low, high: next.map_or(u128::MAX, |next| self.piece(next).saturating_sub(1)) }
        };
        inside.map(numbers).collect()
    }

    /// The piece that starts at an address.
    fn piece(&self, start: u128) -> u128 {
        let found = self.0.starts.binary_search(&start);
        if found.is_err() {
            self.0.missing.borrow_mut().push(start);
        }
        found.unwrap_or_else(|after| after.saturating_sub(1)) as u128
    }

    /// The addresses that some pieces in a row are; `None` when there are no such pieces.
    #[must_use]
    pub fn addresses(&self, pieces: Interval) -> Option<Interval> {
        let low = self.0.starts.get(usize::try_from(pieces.low).ok()?).copied()?;
        let next = pieces.high.checked_add(1).and_then(|next| usize::try_from(next).ok());
        let next = next.and_then(|next| self.0.starts.get(next));
        Some(Interval { low, high: next.map_or(mask(self.0.width), |next| next - 1) })
    }

    /// The first address of a piece.
    #[must_use]
    pub fn first_of(&self, piece: u128) -> u128 {
        let last = self.0.starts.len().saturating_sub(1);
        let piece = usize::try_from(piece).unwrap_or(last).min(last);
        self.0.starts.get(piece).copied().unwrap_or(0)
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
        let mut missing = self.0.missing.borrow().clone();
        if missing.is_empty() {
            return Verdict::Exact;
        }
        missing.extend(&self.0.starts);
        missing.sort_unstable();
        missing.dedup();
        Verdict::Missing(missing)
    }
}

/// Lines tried before all bits are.
const MAX_LINES: usize = 3;

/// What `ask` answers exactly: on a line of addresses of `width` bits that starts with `cuts` and gets those it turns out to
/// miss; where no line will do, with all bits.
pub fn exactly<T>(width: u32, mut cuts: Vec<u128>, mut ask: impl FnMut(Option<&Line>) -> T) -> T {
    for _ in 0..MAX_LINES {
        let line = Line::new(width, cuts);
        let answer = ask(Some(&line));
        match line.verdict() {
            Verdict::Exact => return answer,
            Verdict::Missing(more) => cuts = more,
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

    #[test]
    fn intervals_of_addresses_are_intervals_of_pieces_and_back() {
        let line = Line::new(32, vec![10, 20, 1 << 40, 10]);
        assert_eq!(line.bits(), 2, "0-9, 10-19, 20-");
        let all = [interval(0, 9), interval(10, 19), interval(20, u128::MAX), interval(10, 0xffff_ffff)];
        let pieces = [interval(0, 0), interval(1, 1), interval(2, u128::MAX), interval(1, u128::MAX)];
        assert_eq!(line.numbers(&all), pieces);
        assert_eq!(line.verdict(), Verdict::Exact);
        assert_eq!(line.addresses(interval(1, 1)), Some(interval(10, 19)));
        assert_eq!(line.addresses(interval(1, 3)), Some(interval(10, 0xffff_ffff)));
        assert_eq!(line.addresses(interval(3, 3)), None);
        assert_eq!([0, 1, 2, 3].map(|piece| line.first_of(piece)), [0, 10, 20, 20]);
        assert_eq!(line.numbers(&[interval(1 << 33, 1 << 34)]), [], "no address of this family");
        assert_eq!(Line::new(128, Vec::new()).bits(), 0);
    }

    #[test]
    fn questions_are_asked_again_until_the_line_fits() {
        let ask = |line: Option<&Line>| line.map(|line| line.numbers(&[interval(7, 9)]));
        assert_eq!(exactly(32, Vec::new(), ask), Some(vec![interval(1, 1)]));
        let mut asked = 0;
        let ask = |line: Option<&Line>| {
            asked += 1;
            line.map(Line::note_bits)
        };
        assert_eq!((exactly(32, vec![7], ask), asked), (None, 2));
        let mut end = 0;
        let ask = |line: Option<&Line>| {
            end += 1;
            line.map(|line| line.numbers(&[interval(end, end)]).len())
        };
        assert_eq!((exactly(32, Vec::new(), ask), end), (None, 4), "it never stops asking for more");
    }

    #[test]
    fn what_does_not_fit_is_noted() {
        let line = Line::new(128, vec![10]);
        let other = line.clone();
        assert_eq!(other, line);
        assert_ne!(Line::new(128, vec![10]), line);
        let _ = other.numbers(&[interval(10, 14), interval(12, 20)]);
        assert_eq!(line.verdict(), Verdict::Missing(vec![0, 10, 12, 15, 21]));
        line.note_bits();
        assert_eq!(line.verdict(), Verdict::ByBits);
    }
}
