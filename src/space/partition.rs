//! Numbers in classes: which of them a set treats alike.
//!
//! A partition is a decision diagram with class numbers at its ends, over the bits of one dimension. It is reduced: numbers
//! that no bit tells apart share a node, so its blocks are the fewest aligned ones there are. Recursion goes one bit deeper
//! with each call, at most 128.

use std::hash::Hash;

use super::bdd::{Bdd, Built, Set, TooLarge};
use super::layout::{Dimension, Layout};
use super::quick::QuickMap;

/// Where a diagram goes on: a node, or a class. Equal diagrams of one [`Diagrams`] are equal values.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Partition(u32);

/// Set in a [`Partition`] that is one class and not a node.
const CLASS: u32 = 1 << 31;

impl Partition {
    fn of_class(class: u32) -> Self {
        Self(class | CLASS)
    }

    /// The class, when every number is in one.
    fn class(self) -> Option<u32> {
        (self.0 & CLASS != 0).then_some(self.0 & !CLASS)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Node {
    /// Which bit is asked, from the most significant one.
    depth: u16,
    low: Partition,
    high: Partition,
}

pub use super::ranges::Block;

/// Partitions of numbers of one width.
pub struct Diagrams {
    width: u16,
    nodes: Vec<Node>,
    unique: QuickMap<Node, u32>,
    budget: usize,
}

impl std::fmt::Debug for Diagrams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Diagrams").field("nodes", &self.nodes.len()).finish_non_exhaustive()
    }
}

/// Gives equal things equal numbers, counted from 0 in the order they are met.
struct Numbered<T>(QuickMap<T, u32>);

impl<T: Eq + Hash> Numbered<T> {
    fn number(&mut self, thing: T) -> u32 {
        let next = self.0.len() as u32;
        *self.0.entry(thing).or_insert(next)
    }
}

impl Diagrams {
    /// Without partitions yet; at most `budget` nodes of some 40 bytes.
    #[must_use]
    pub fn new(width: u16, budget: usize) -> Self {
        Self { width, nodes: Vec::new(), unique: QuickMap::default(), budget: budget.min(CLASS as usize) }
    }

    fn node(&mut self, depth: u16, low: Partition, high: Partition) -> Built<Partition> {
        if low == high {
            return Ok(low);
        }
        let node = Node { depth, low, high };
        if let Some(known) = self.unique.get(&node) {
            return Ok(Partition(*known));
        }
        if self.nodes.len() >= self.budget {
            return Err(TooLarge { budget: self.budget });
        }
        self.nodes.push(node);
        self.unique.insert(node, self.nodes.len() as u32 - 1);
        Ok(Partition(self.nodes.len() as u32 - 1))
    }

    fn depth(&self, of: Partition) -> u16 {
        match of.class() {
            Some(_) => self.width,
            None => self.nodes[of.0 as usize].depth,
        }
    }

    fn branches_at(&self, of: Partition, depth: u16) -> (Partition, Partition) {
        if self.depth(of) == depth && of.class().is_none() {
            let node = self.nodes[of.0 as usize];
            (node.low, node.high)
        } else {
            (of, of)
        }
    }

    /// Numbers of `dimension` by what `set` says once they are fixed, and what it says of each class (in later variables).
    /// `set` must not depend on variables before those of `dimension`.
    ///
    /// # Errors
    /// When the budget is used up.
    pub fn by_rest(
        &mut self,
        bdd: &Bdd,
        layout: &Layout,
        set: Set,
        dimension: Dimension,
    ) -> Built<(Partition, Vec<Set>)> {
        let (first, _) = layout.place(dimension);
        let mut rests = Rests { bdd, first, known: QuickMap::default(), classes: Numbered(QuickMap::default()) };
        let partition = rests.walk(self, set)?;
        let mut sets = vec![Set::NONE; rests.classes.0.len()];
        for (set, class) in rests.classes.0 {
            if let Some(place) = sets.get_mut(class as usize) {
                *place = set;
            }
        }
        Ok((partition, sets))
    }

    /// The coarsest partition at least as fine as both: numbers are together when they are in both.
    ///
    /// # Errors
    /// When the budget is used up.
    pub fn both(&mut self, left: Partition, right: Partition) -> Built<Partition> {
        let mut product = Product { known: QuickMap::default(), classes: Numbered(QuickMap::default()) };
        product.walk(self, left, right)
    }

    /// The coarsest partition at least as fine as all, joined in a balanced tree.
    ///
    /// # Errors
    /// When the budget is used up.
    pub fn all(&mut self, mut partitions: Vec<Partition>) -> Built<Partition> {
        while partitions.len() > 1 {
            let mut joined = Vec::with_capacity(partitions.len().div_ceil(2));
            for pair in partitions.chunks(2) {
                joined.push(match *pair {
                    [left, right] => self.both(left, right)?,
                    [one] => one,
                    _ => Partition::of_class(0),
                });
            }
            partitions = joined;
        }
        Ok(partitions.first().copied().unwrap_or(Partition::of_class(0)))
    }

    /// The blocks of each class, in order, as few as there are; the classes in the order of their first numbers. `None` when
    /// there are more than `most` blocks.
    #[must_use]
    pub fn blocks(&self, partition: Partition, most: usize) -> Option<Vec<Vec<Block>>> {
        if self.count(partition, 0, &mut QuickMap::default()) > most as u128 {
            return None;
        }
        let mut classes: Vec<Vec<Block>> = Vec::new();
        let mut numbers = Numbered(QuickMap::default());
        self.list(partition, 0, 0, &mut |class, block| {
            let number = numbers.number(class) as usize;
            if number == classes.len() {
                classes.push(Vec::new());
            }
            if let Some(blocks) = classes.get_mut(number) {
                blocks.push(block);
            }
        });
        Some(classes)
    }

    fn list(&self, of: Partition, depth: u16, low: u128, found: &mut impl FnMut(u32, Block)) {
        if let Some(class) = of.class() {
            return found(class, (low, self.width - depth));
        }
        let (zero, one) = self.branches_at(of, depth);
        self.list(zero, depth + 1, low, found);
        self.list(one, depth + 1, low | 1 << (self.width - depth - 1), found);
    }

    /// Blocks of all classes from `depth` on; saturates.
    fn count(&self, of: Partition, depth: u16, known: &mut QuickMap<Partition, u128>) -> u128 {
        if of.class().is_some() {
            return 1;
        }
        let level = self.depth(of);
        let own = match known.get(&of) {
            Some(own) => *own,
            None => {
                let (low, high) = self.branches_at(of, level);
                let own = self.count(low, level + 1, known).saturating_add(self.count(high, level + 1, known));
                known.insert(of, own);
                own
            }
        };
        // where a bit does not matter both halves need the same blocks
        own.saturating_mul(1u128.checked_shl(u32::from(level - depth)).unwrap_or(u128::MAX))
    }
}

/// A set cut below the bits of one dimension.
struct Rests<'b> {
    bdd: &'b Bdd,
    first: u16,
    known: QuickMap<Set, Partition>,
    classes: Numbered<Set>,
}

impl Rests<'_> {
    fn walk(&mut self, diagrams: &mut Diagrams, set: Set) -> Built<Partition> {
        if let Some(known) = self.known.get(&set) {
            return Ok(*known);
        }
        let level = self.bdd.level(set);
        debug_assert!(level >= self.first);
        let partition = if level < self.first + diagrams.width {
            let (low, high) = self.bdd.branches(set);
            let (low, high) = (self.walk(diagrams, low)?, self.walk(diagrams, high)?);
            diagrams.node(level - self.first, low, high)?
        } else {
            Partition::of_class(self.classes.number(set))
        };
        self.known.insert(set, partition);
        Ok(partition)
    }
}

/// Two partitions at once.
struct Product {
    known: QuickMap<(Partition, Partition), Partition>,
    classes: Numbered<(u32, u32)>,
}

impl Product {
    fn walk(&mut self, diagrams: &mut Diagrams, left: Partition, right: Partition) -> Built<Partition> {
        if let (Some(left), Some(right)) = (left.class(), right.class()) {
            return Ok(Partition::of_class(self.classes.number((left, right))));
        }
        if let Some(known) = self.known.get(&(left, right)) {
            return Ok(*known);
        }
        let depth = diagrams.depth(left).min(diagrams.depth(right));
        let (left_low, left_high) = diagrams.branches_at(left, depth);
        let (right_low, right_high) = diagrams.branches_at(right, depth);
        let low = self.walk(diagrams, left_low, right_low)?;
        let high = self.walk(diagrams, left_high, right_high)?;
        let partition = diagrams.node(depth, low, high)?;
        self.known.insert((left, right), partition);
        Ok(partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Family;
    use crate::ruleset::Interval;
    use crate::space::{Interfaces, Order};

    /// Blocks of the whole line, each number exactly once.
    fn covered(classes: &[Vec<Block>]) -> u128 {
        classes.iter().flatten().map(|(_, free)| 1u128 << free).sum()
    }

    #[test]
    fn numbers_a_set_treats_alike_are_together() {
        let layout = Layout::new(Family::Ipv4, Order::Forward, Interfaces::new(&[], []));
        let mut bdd = Bdd::new(10_000);
        let source = layout.bits(&mut bdd, Dimension::Source).expect("small");
        let destination = layout.bits(&mut bdd, Dimension::Destination).expect("small");
        let office = bdd.within(&source, &[Interval { low: 0x0a00_0000, high: 0x0aff_ffff }]).expect("small");
        let server = bdd.equal(&destination, 0x0a01_0203).expect("small");
        let set = bdd.and(office, server).expect("small");
        let mut diagrams = Diagrams::new(32, 10_000);
        let (sources, rests) = diagrams.by_rest(&bdd, &layout, set, Dimension::Source).expect("small");
        assert_eq!(rests.len(), 2);
        assert!(rests.contains(&server) && rests.contains(&Set::NONE));
        let (destinations, _) = diagrams.by_rest(&bdd, &layout, server, Dimension::Destination).expect("small");
        let both = diagrams.all(vec![sources, destinations, sources]).expect("small");
        assert_eq!(both, diagrams.both(destinations, sources).expect("small"), "numbered by their first numbers");
        let classes = diagrams.blocks(both, 100).expect("small");
        assert_eq!(classes.len(), 3, "others, office, server: {classes:x?}");
        assert_eq!(classes[2], vec![(0x0a01_0203, 0)]);
        assert_eq!(classes[1].len(), 24);
        assert_eq!(covered(&classes), 1 << 32);
        assert!(diagrams.blocks(both, 10).is_none(), "more blocks than allowed");
        assert_eq!(diagrams.blocks(Partition::of_class(7), 1).expect("small"), vec![vec![(0, 32)]]);
    }

    #[test]
    fn a_small_budget_is_an_error_and_many_blocks_are_counted_not_listed() {
        let layout = Layout::new(Family::Ipv6, Order::Forward, Interfaces::new(&[], []));
        let mut bdd = Bdd::new(10_000);
        let last = bdd.variable(layout.variables(Dimension::Source).last().expect("bits")).expect("small");
        let mut diagrams = Diagrams::new(128, 1000);
        let (odd, _) = diagrams.by_rest(&bdd, &layout, last, Dimension::Source).expect("small");
        assert_eq!(diagrams.blocks(odd, 1_000_000), None, "2^128 blocks");
        let (first, _) = layout.place(Dimension::Source);
        let even = bdd.variable(first).expect("small");
        let mut small = Diagrams::new(128, 1);
        let (even, _) = small.by_rest(&bdd, &layout, even, Dimension::Source).expect("small");
        assert_eq!(small.blocks(even, 10).expect("small"), vec![vec![(0, 127)], vec![(1 << 127, 127)]]);
        assert!(small.by_rest(&bdd, &layout, last, Dimension::Source).is_err());
    }
}
