//! What an expression is for every packet of a set.

use crate::ruleset::{Interval, Operator};
use crate::space::bdd::{Bdd, Built, Set};
use crate::space::header::Binding;
use crate::space::line::Line;
use crate::space::ranges::{gaps, joined, mask};

/// A condition over sets: holds for certain, may hold. Where the two differ it cannot be decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Truth {
    /// Packets for which it holds whatever is not known.
    pub certain: Set,
    /// Packets for which it can hold; includes `certain`.
    pub possible: Set,
}

impl Truth {
    /// Holds for all.
    pub const YES: Self = Self { certain: Set::ALL, possible: Set::ALL };
    /// Holds for none.
    pub const NO: Self = Self { certain: Set::NONE, possible: Set::NONE };
    /// Nobody knows.
    pub const OPEN: Self = Self { certain: Set::NONE, possible: Set::ALL };

    /// Decided for every packet.
    #[must_use]
    pub fn exactly(set: Set) -> Self {
        Self { certain: set, possible: set }
    }

    /// Whether it is decided for every packet.
    #[must_use]
    pub fn is_exact(self) -> bool {
        self.certain == self.possible
    }

    /// Both hold.
    ///
    /// # Errors
    /// When the budget is used up.
    pub fn and(self, bdd: &mut Bdd, other: Self) -> Built<Self> {
        let possible = bdd.and(self.possible, other.possible)?;
        if self.is_exact() && other.is_exact() {
            return Ok(Self::exactly(possible));
        }
        Ok(Self { certain: bdd.and(self.certain, other.certain)?, possible })
    }

    /// One of them holds.
    ///
    /// # Errors
    /// When the budget is used up.
    pub fn or(self, bdd: &mut Bdd, other: Self) -> Built<Self> {
        Ok(!(!self).and(bdd, !other)?)
    }

    /// The same where `undecided` packets are in doubt.
    ///
    /// # Errors
    /// When the budget is used up.
    pub fn doubted(self, bdd: &mut Bdd, undecided: Set) -> Built<Self> {
        Ok(Self { certain: bdd.minus(self.certain, undecided)?, possible: bdd.or(self.possible, undecided)? })
    }
}

impl std::ops::Not for Truth {
    type Output = Self;

    fn not(self) -> Self {
        Self { certain: !self.possible, possible: !self.certain }
    }
}

/// The number an expression is.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Value {
    pub(super) number: Number,
    /// Packets that do not have it: the rule ends.
    pub(super) missing: Set,
    /// Packets whose number is not known.
    pub(super) unknown: Set,
}

/// How the number is given where it is known.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Number {
    /// One of these, each for some packets; they cover what is neither missing nor unknown.
    Cases(Vec<(Set, u128)>),
    /// Bit by bit, most significant first.
    Bits(Vec<Set>),
    /// An address by the number of its class on a line, bit by bit.
    Class(Vec<Set>, Line),
}

impl Number {
    /// Somebody looks at single bits: not those of a class, whose line remembers it.
    pub(super) fn by_bits(self) -> Self {
        match self {
            Self::Class(_, line) => {
                line.note_bits();
                Self::Bits(vec![Set::NONE; line.width() as usize])
            }
            other => other,
        }
    }
}

impl Value {
    pub(super) fn constant(number: u128) -> Self {
        Self::cases(vec![(Set::ALL, number)])
    }

    pub(super) fn absent() -> Self {
        Self { missing: Set::ALL, ..Self::cases(Vec::new()) }
    }

    pub(super) fn unknown() -> Self {
        Self { unknown: Set::ALL, ..Self::cases(Vec::new()) }
    }

    pub(super) fn cases(cases: Vec<(Set, u128)>) -> Self {
        Self { number: Number::Cases(cases), missing: Set::NONE, unknown: Set::NONE }
    }

    pub(super) fn bits(bits: Vec<Set>) -> Self {
        Self { number: Number::Bits(bits), missing: Set::NONE, unknown: Set::NONE }
    }

    /// The number, when it is the same for all packets.
    pub(super) fn known(&self) -> Option<u128> {
        match &self.number {
            Number::Cases(cases) => match cases.as_slice() {
                [(Set::ALL, number)] => Some(*number),
                _ => None,
            },
            Number::Bits(bits) => bits.iter().try_fold(0u128, |number, bit| match *bit {
                Set::ALL => Some(number << 1 | 1),
                Set::NONE => Some(number << 1),
                _ => None,
            }),
            Number::Class(..) => None,
        }
        .filter(|_| self.missing.is_empty() && self.unknown.is_empty())
    }

    /// Packets that do not have it.
    #[must_use]
    pub fn missing(&self) -> Set {
        self.missing
    }

    /// What the number can be bound to: each value with the packets that have it, at most `most` of them, the rest as one
    /// that is not known. Packets without the number are in none.
    ///
    /// # Errors
    /// When the budget is used up.
    pub fn bindings(&self, bdd: &mut Bdd, most: usize) -> Built<Vec<(Set, Binding)>> {
        let mut rest = !self.missing;
        let mut bindings = Vec::new();
        if let Some(number) = self.known() {
            return Ok(vec![(rest, Binding::Known(number))]);
        }
        if let Number::Cases(cases) = &self.number {
            let doubt = bdd.or(self.missing, self.unknown)?;
            for (set, number) in cases.iter().take(most) {
                let set = bdd.minus(*set, doubt)?;
                rest = bdd.minus(rest, set)?;
                bindings.push((set, Binding::Known(*number)));
            }
        }
        bindings.push((rest, Binding::Unknown));
        bindings.retain(|(set, _)| !set.is_empty());
        Ok(bindings)
    }

    /// The same for packets in `present`; others do not have it.
    pub(super) fn only(mut self, bdd: &mut Bdd, present: Set) -> Built<Self> {
        self.missing = bdd.or(self.missing, !present)?;
        self.unknown = bdd.and(self.unknown, present)?;
        Ok(self)
    }

    /// The same for packets in `told`; that of others is not known.
    pub(super) fn told(mut self, bdd: &mut Bdd, told: Set) -> Built<Self> {
        let more = bdd.minus(!told, self.missing)?;
        self.unknown = bdd.or(self.unknown, more)?;
        Ok(self)
    }

    /// Bits of the number, `width` of them.
    pub(super) fn to_bits(&self, bdd: &mut Bdd, width: u32) -> Built<Vec<Set>> {
        match &self.number {
            Number::Bits(bits) => {
                let have = bits.len();
                let width = width as usize;
                let mut wide = vec![Set::NONE; width.saturating_sub(have)];
                wide.extend(bits.iter().skip(have.saturating_sub(width)));
                Ok(wide)
            }
            Number::Cases(cases) => (0..width)
                .rev()
                .map(|bit| bdd.union(cases.iter().filter(|(_, number)| number >> bit & 1 == 1).map(|(set, _)| *set)))
                .collect(),
            Number::Class(_, line) => {
                line.note_bits();
                Ok(vec![Set::NONE; width as usize])
            }
        }
    }

    /// Bits it needs at least.
    pub(super) fn width(&self) -> u32 {
        match &self.number {
            Number::Bits(bits) => u32::try_from(bits.len()).unwrap_or(128),
            Number::Cases(cases) => cases.iter().map(|(_, number)| 128 - number.leading_zeros()).max().unwrap_or(0),
            Number::Class(_, line) => line.width(),
        }
    }

    /// A new number from the old one, in cases or bits.
    pub(super) fn mapped(self, number: impl FnOnce(Number) -> Number) -> Self {
        Self { number: number(self.number), ..self }
    }

    /// Whether it lies in one of `intervals` (as from [`joined`]).
    pub(super) fn within(&self, bdd: &mut Bdd, intervals: &[Interval]) -> Built<Truth> {
        if intervals.is_empty() {
            return Ok(Truth::NO);
        }
        let inside = match &self.number {
            Number::Bits(bits) => bdd.within(bits, intervals)?,
            Number::Class(bits, line) => bdd.within(bits, &line.numbers(intervals))?,
            Number::Cases(cases) => {
                let holds = |number: u128| {
                    let after = intervals.partition_point(|interval| interval.low <= number);
                    after.checked_sub(1).and_then(|at| intervals.get(at)).is_some_and(|one| one.contains(number))
                };
                match cases.as_slice() {
                    [(set, number)] => {
                        if holds(*number) {
                            *set
                        } else {
                            Set::NONE
                        }
                    }
                    cases => bdd.union(cases.iter().filter(|(_, number)| holds(*number)).map(|(set, _)| *set))?,
                }
            }
        };
        self.judged(bdd, inside)
    }

    /// `holds` where the number is known; no without one, open where it is not known.
    fn judged(&self, bdd: &mut Bdd, holds: Set) -> Built<Truth> {
        let holds = bdd.minus(holds, self.missing)?;
        Truth::exactly(holds).doubted(bdd, self.unknown)
    }

    /// `self operator other`.
    pub(super) fn compare(&self, bdd: &mut Bdd, operator: Operator, other: &Self) -> Built<Truth> {
        if let Some(number) = other.known() {
            return self.compare_number(bdd, operator, number);
        }
        if let Some(number) = self.known() {
            let turned = match operator {
                Operator::Lt => Operator::Gt,
                Operator::Gt => Operator::Lt,
                Operator::Le => Operator::Ge,
                Operator::Ge => Operator::Le,
                other => other,
            };
            return other.compare_number(bdd, turned, number);
        }
        let both = Self {
            missing: bdd.or(self.missing, other.missing)?,
            unknown: bdd.or(self.unknown, other.unknown)?,
            ..Self::cases(Vec::new())
        };
        let width = self.width().max(other.width());
        let (left, right) = (self.to_bits(bdd, width)?, other.to_bits(bdd, width)?);
        let mut holds = if matches!(operator, Operator::Eq | Operator::Ne) { Set::ALL } else { Set::NONE };
        for (left, right) in left.into_iter().zip(right).rev() {
            let same = bdd.choose(left, right, !right)?;
            holds = match operator {
                Operator::Eq | Operator::Ne => bdd.and(holds, same)?,
                Operator::AnyBit | Operator::NoBit => {
                    let common = bdd.and(left, right)?;
                    bdd.or(holds, common)?
                }
                // from the least significant bit up: the highest difference decides
                Operator::Lt | Operator::Ge => bdd.choose(same, holds, right)?,
                Operator::Gt | Operator::Le => bdd.choose(same, holds, left)?,
            };
        }
        let negated = matches!(operator, Operator::Ne | Operator::NoBit | Operator::Ge | Operator::Le);
        both.judged(bdd, if negated { !holds } else { holds })
    }

    fn compare_number(&self, bdd: &mut Bdd, operator: Operator, number: u128) -> Built<Truth> {
        let most = mask(self.width().max(128 - number.leading_zeros()));
        let up_to = |last: Option<u128>| last.map(|high| Interval { low: 0, high });
        let from = |first: Option<u128>| first.map(|low| Interval { low, high: u128::MAX });
        let intervals: Vec<Interval> = match operator {
            Operator::Eq => vec![Interval::single(number)],
            Operator::Ne => gaps(&[Interval::single(number)], 128),
            Operator::Lt => up_to(number.checked_sub(1)).into_iter().collect(),
            Operator::Le => up_to(Some(number)).into_iter().collect(),
            Operator::Gt => from(number.checked_add(1)).into_iter().collect(),
            Operator::Ge => from(Some(number)).into_iter().collect(),
            Operator::AnyBit | Operator::NoBit => {
                let masked = self.clone().masked(number & most);
                let zero = masked.within(bdd, &[Interval::single(0)])?;
                if operator == Operator::NoBit {
                    return Ok(zero);
                }
                let positive = gaps(&[Interval::single(0)], 128);
                return masked.within(bdd, &positive);
            }
        };
        self.within(bdd, &joined(intervals))
    }

    /// Bitwise and with a constant.
    pub(super) fn masked(self, bits_kept: u128) -> Self {
        self.mapped(|number| match number {
            Number::Cases(cases) => Number::Cases(cases.into_iter().map(|(set, n)| (set, n & bits_kept)).collect()),
            Number::Bits(bits) => {
                let width = bits.len();
                let kept = |at: usize| bits_kept >> (width - 1 - at) & 1 == 1;
                let bits = bits.into_iter().enumerate();
                Number::Bits(bits.map(|(at, bit)| if kept(at) { bit } else { Set::NONE }).collect())
            }
            class => class.by_bits(),
        })
    }
}
