//! Reduced ordered binary decision diagrams with complement edges (Bryant 1986; Brace, Rudell and Bryant 1990).
//!
//! A diagram is a function from variables to yes or no; here each is a set of packets. The manager keeps every node once,
//! so two sets are equal exactly when their edges are. A complemented edge is the complement of its node's set, which makes
//! negation free.
//!
//! **Recursion** goes one variable deeper with each call, so it is never deeper than [`MAX_VARIABLES`] frames of some
//! hundred bytes. **Memory** is bounded by the node budget: a set that does not fit is [`TooLarge`], never a hang.

use std::fmt;

use super::quick::QuickMap;

/// Most variables a diagram may have; bounds recursion.
pub const MAX_VARIABLES: u16 = 1152;

/// The level of the terminal node: below every variable.
const TERMINAL: u16 = u16::MAX;

/// A set of packets: an edge to a node of one [`Bdd`], complemented or not. Equal sets are equal values.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Set(u32);

impl Set {
    /// Everything.
    pub const ALL: Self = Self(0);
    /// Nothing.
    pub const NONE: Self = Self(1);

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self == Self::NONE
    }

    fn index(self) -> usize {
        (self.0 >> 1) as usize
    }

    fn is_constant(self) -> bool {
        self.0 <= 1
    }

    /// The complement when `condition` holds.
    fn not_if(self, condition: bool) -> Self {
        Self(self.0 ^ u32::from(condition))
    }

    fn is_complemented(self) -> bool {
        self.0 & 1 == 1
    }
}

impl std::ops::Not for Set {
    type Output = Self;

    /// Everything else.
    fn not(self) -> Self {
        Self(self.0 ^ 1)
    }
}

impl fmt::Debug for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ALL => f.write_str("ALL"),
            Self::NONE => f.write_str("NONE"),
            Self(edge) => write!(f, "{}{}", if edge & 1 == 1 { "!" } else { "" }, edge >> 1),
        }
    }
}

/// The sets do not fit into the node budget.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooLarge {
    /// Nodes the budget allows.
    pub budget: usize,
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the sets of packets need more than {} nodes", self.budget)
    }
}

impl std::error::Error for TooLarge {}

/// The result of building a set.
pub type Built<T = Set> = Result<T, TooLarge>;

#[derive(Clone, Copy, PartialEq, Eq)]
struct Node {
    variable: u16,
    low: Set,
    /// Never complemented: that makes nodes unique.
    high: Set,
}

impl Node {
    fn hash(&self) -> usize {
        hash(u32::from(self.variable), self.low.0, self.high.0)
    }
}

/// The part of an entry of the unique table that is the number of a node; the rest is of its hash, so that another node is mostly
/// told by the entry alone, without a look at the node, which is in no cache.
const INDEX: u32 = (1 << INDEX_BITS) - 1;
const INDEX_BITS: u32 = 24;

fn tagged(hash: usize, index: u32) -> u32 {
    (hash.rotate_left(u32::BITS - INDEX_BITS) as u32) << INDEX_BITS | index
}

/// A remembered operation; `low == u32::MAX` marks an empty slot.
#[derive(Clone, Copy)]
struct Remembered {
    operation: u32,
    left: Set,
    right: Set,
    result: Set,
}

const EMPTY: Remembered = Remembered { operation: u32::MAX, left: Set::ALL, right: Set::ALL, result: Set::ALL };
const AND: u32 = 0;
/// Operations from here on quantify: the number of the group of variables follows.
const QUANTIFY: u32 = 1;

/// Variables to quantify: known to one manager, see [`Bdd::group`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Group(u32);

/// The manager: all nodes, each once, and what was computed lately.
///
/// Indices come from edges the manager itself gave out, hence the plain indexing.
pub struct Bdd {
    nodes: Vec<Node>,
    /// Open addressing; 0 is free (the terminal is never looked up). See [`INDEX`].
    unique: Vec<u32>,
    cache: Vec<Remembered>,
    /// Sorted variables of each group.
    groups: Vec<Vec<u16>>,
    budget: usize,
}

impl fmt::Debug for Bdd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bdd").field("nodes", &self.nodes.len()).field("budget", &self.budget).finish_non_exhaustive()
    }
}

/// Largest cache in entries of 16 bytes.
const MAX_CACHE: usize = 1 << 20;

impl Bdd {
    /// Nodes allowed where nobody says otherwise: about 350 MB at the very most.
    pub const BUDGET: usize = 16_000_000;

    /// A manager without sets that may hold `budget` nodes, 16,777,216 at most.
    #[must_use]
    pub fn new(budget: usize) -> Self {
        Self {
            nodes: vec![Node { variable: TERMINAL, low: Set::ALL, high: Set::ALL }],
            unique: vec![0; 1 << 10],
            cache: vec![EMPTY; 1 << 10],
            groups: Vec::new(),
            budget: budget.min(INDEX as usize + 1),
        }
    }

    /// Nodes it may hold.
    pub(crate) fn budget(&self) -> usize {
        self.budget
    }

    /// Nodes made so far.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// Nodes of one set.
    #[must_use]
    pub fn size(&self, set: Set) -> usize {
        let mut seen = std::collections::HashSet::new();
        let mut todo = vec![set.index()];
        while let Some(index) = todo.pop() {
            if seen.insert(index) && index != 0 {
                let node = self.nodes[index];
                todo.extend([node.low.index(), node.high.index()]);
            }
        }
        seen.len()
    }

    /// The set in which `variable` is one.
    ///
    /// # Errors
    /// When the budget is used up.
    pub fn variable(&mut self, variable: u16) -> Built {
        self.node(variable, Set::NONE, Set::ALL)
    }

    /// The set that is `low` where `variable` is zero and `high` where it is one. Both must only depend on later variables.
    ///
    /// # Errors
    /// When the budget is used up.
    pub(super) fn node(&mut self, variable: u16, low: Set, high: Set) -> Built {
        debug_assert!(variable < MAX_VARIABLES && variable < self.level(low) && variable < self.level(high));
        if low == high {
            return Ok(low);
        }
        let complemented = high.is_complemented();
        let node = Node { variable, low: low.not_if(complemented), high: high.not_if(complemented) };
        let mask = self.unique.len() - 1;
        let hash = node.hash();
        let mut slot = hash & mask;
        loop {
            let found = self.unique[slot];
            if found == 0 {
                break;
            }
            let index = found & INDEX;
            if found == tagged(hash, index) && self.nodes[index as usize] == node {
                return Ok(Set(index << 1).not_if(complemented));
            }
            slot = (slot + 1) & mask;
        }
        if self.nodes.len() >= self.budget {
            return Err(TooLarge { budget: self.budget });
        }
        let index = self.nodes.len() as u32;
        self.nodes.push(node);
        self.unique[slot] = tagged(hash, index);
        if self.nodes.len() * 3 > self.unique.len() * 2 {
            self.grow_to(self.unique.len() * 2);
        }
        Ok(Set(index << 1).not_if(complemented))
    }

    /// Makes room for so many more nodes at once, as far as the budget goes: tables that grow step by step are filled again with
    /// each step, and need twice the memory for a while.
    pub(super) fn reserve(&mut self, more: usize) {
        let all = self.nodes.len().saturating_add(more).min(self.budget);
        self.nodes.reserve_exact(all - self.nodes.len());
        let mut size = self.unique.len();
        while all * 3 > size * 2 {
            size *= 2;
        }
        if size > self.unique.len() {
            self.grow_to(size);
        }
    }

    fn grow_to(&mut self, size: usize) {
        let mask = size - 1;
        let mut unique = vec![0u32; size];
        for (index, node) in self.nodes.iter().enumerate().skip(1) {
            let hash = node.hash();
            let mut slot = hash & mask;
            while unique[slot] != 0 {
                slot = (slot + 1) & mask;
            }
            unique[slot] = tagged(hash, index as u32);
        }
        self.unique = unique;
        if self.cache.len() < MAX_CACHE {
            let known = std::mem::replace(&mut self.cache, vec![EMPTY; size.min(MAX_CACHE)]);
            for one in known.into_iter().filter(|one| one.operation != EMPTY.operation) {
                self.remember(one.operation, one.left, one.right, one.result);
            }
        }
    }

    /// The first variable `set` depends on; larger than all for constants.
    pub(super) fn level(&self, set: Set) -> u16 {
        self.nodes[set.index()].variable
    }

    /// `set` where its first variable is zero, and where it is one.
    pub(super) fn branches(&self, set: Set) -> (Set, Set) {
        let node = self.nodes[set.index()];
        let complemented = set.is_complemented();
        (node.low.not_if(complemented), node.high.not_if(complemented))
    }

    fn branches_at(&self, set: Set, level: u16) -> (Set, Set) {
        if self.level(set) == level { self.branches(set) } else { (set, set) }
    }

    fn recall(&self, operation: u32, left: Set, right: Set) -> Result<Set, usize> {
        let slot = hash(operation, left.0, right.0) & (self.cache.len() - 1);
        let entry = self.cache[slot];
        if entry.operation == operation && entry.left == left && entry.right == right {
            Ok(entry.result)
        } else {
            Err(slot)
        }
    }

    fn remember(&mut self, operation: u32, left: Set, right: Set, result: Set) {
        // the cache may have grown since the slot was looked up
        let slot = hash(operation, left.0, right.0) & (self.cache.len() - 1);
        self.cache[slot] = Remembered { operation, left, right, result };
    }

    /// What is in both.
    ///
    /// # Errors
    /// When the budget is used up.
    pub fn and(&mut self, left: Set, right: Set) -> Built {
        if left == right || right == Set::ALL {
            return Ok(left);
        }
        if left == Set::ALL {
            return Ok(right);
        }
        if left == Set::NONE || right == Set::NONE || left == !right {
            return Ok(Set::NONE);
        }
        let (left, right) = if left <= right { (left, right) } else { (right, left) };
        if let Ok(known) = self.recall(AND, left, right) {
            return Ok(known);
        }
        let level = self.level(left).min(self.level(right));
        let (left_low, left_high) = self.branches_at(left, level);
        let (right_low, right_high) = self.branches_at(right, level);
        let low = self.and(left_low, right_low)?;
        let high = self.and(left_high, right_high)?;
        let result = self.node(level, low, high)?;
        self.remember(AND, left, right, result);
        Ok(result)
    }

    /// What is in one of them.
    ///
    /// # Errors
    /// When the budget is used up.
    pub fn or(&mut self, left: Set, right: Set) -> Built {
        Ok(!self.and(!left, !right)?)
    }

    /// What is in `left` and not in `right`.
    ///
    /// # Errors
    /// When the budget is used up.
    pub fn minus(&mut self, left: Set, right: Set) -> Built {
        self.and(left, !right)
    }

    /// `yes` where `condition` holds, `no` elsewhere.
    ///
    /// # Errors
    /// When the budget is used up.
    pub fn choose(&mut self, condition: Set, yes: Set, no: Set) -> Built {
        if yes == no || condition == Set::ALL {
            return Ok(yes);
        }
        if condition == Set::NONE {
            return Ok(no);
        }
        let level = self.level(condition);
        if self.branches(condition) == (Set::NONE, Set::ALL) && level < self.level(yes) && level < self.level(no) {
            return self.node(level, no, yes);
        }
        let yes = self.and(condition, yes)?;
        let no = self.and(!condition, no)?;
        self.or(yes, no)
    }

    /// What is in one of many, joined in a balanced tree.
    ///
    /// # Errors
    /// When the budget is used up.
    pub fn union(&mut self, sets: impl IntoIterator<Item = Set>) -> Built {
        let mut sets: Vec<Set> = sets.into_iter().filter(|set| !set.is_empty()).collect();
        while sets.len() > 1 {
            let mut joined = Vec::with_capacity(sets.len().div_ceil(2));
            for pair in sets.chunks(2) {
                joined.push(match *pair {
                    [left, right] => self.or(left, right)?,
                    [one] => one,
                    _ => Set::NONE,
                });
            }
            sets = joined;
        }
        Ok(sets.first().copied().unwrap_or(Set::NONE))
    }

    /// Declares variables that will be quantified together.
    pub fn group(&mut self, variables: impl IntoIterator<Item = u16>) -> Group {
        let mut variables: Vec<u16> = variables.into_iter().collect();
        variables.sort_unstable();
        variables.dedup();
        let known = self.groups.iter().position(|group| *group == variables);
        let number = known.unwrap_or_else(|| {
            self.groups.push(variables);
            self.groups.len() - 1
        });
        Group(number as u32)
    }

    /// What is in `set` for some values of the group's variables; the result does not depend on them.
    ///
    /// # Errors
    /// When the budget is used up.
    pub fn exists(&mut self, set: Set, group: Group) -> Built {
        self.and_exists(set, Set::ALL, group)
    }

    /// What is in both sets for some values of the group's variables, without building what is in both.
    ///
    /// # Errors
    /// When the budget is used up.
    pub fn and_exists(&mut self, left: Set, right: Set, group: Group) -> Built {
        let last = self.groups[group.0 as usize].last().copied();
        match last {
            Some(last) => self.and_exists_at(left, right, group, last),
            None => self.and(left, right),
        }
    }

    fn and_exists_at(&mut self, left: Set, right: Set, group: Group, last: u16) -> Built {
        if left.is_empty() || right.is_empty() || left == !right {
            return Ok(Set::NONE);
        }
        let right = if left == right { Set::ALL } else { right };
        // everything is the smallest set, so it is the left one
        let (left, right) = if left <= right { (left, right) } else { (right, left) };
        let level = self.level(left).min(self.level(right));
        if level > last {
            return self.and(left, right);
        }
        let operation = QUANTIFY + group.0;
        if let Ok(known) = self.recall(operation, left, right) {
            return Ok(known);
        }
        let (left_low, left_high) = self.branches_at(left, level);
        let (right_low, right_high) = self.branches_at(right, level);
        let low = self.and_exists_at(left_low, right_low, group, last)?;
        let quantified = self.groups[group.0 as usize].binary_search(&level).is_ok();
        let result = if quantified && low == Set::ALL {
            low
        } else {
            let high = self.and_exists_at(left_high, right_high, group, last)?;
            if quantified { self.or(low, high)? } else { self.node(level, low, high)? }
        };
        self.remember(operation, left, right, result);
        Ok(result)
    }

    /// What is in `set` for all values of the group's variables.
    ///
    /// # Errors
    /// When the budget is used up.
    pub fn for_all(&mut self, set: Set, group: Group) -> Built {
        Ok(!self.exists(!set, group)?)
    }

    /// Whether `set` depends on one of the group's variables. `known` remembers the answers of nodes for one group.
    pub(crate) fn depends_on(&self, set: Set, group: Group, known: &mut QuickMap<usize, bool>) -> bool {
        let variables = self.groups.get(group.0 as usize).map(Vec::as_slice).unwrap_or_default();
        self.mentions(set.index(), variables, known)
    }

    /// The same set as `set` of another diagram; `known` remembers the sets of its nodes.
    ///
    /// # Errors
    /// When the budget is used up.
    pub(crate) fn copied(&mut self, other: &Self, set: Set, known: &mut QuickMap<usize, Set>) -> Built {
        let index = set.index();
        if index == 0 {
            return Ok(set);
        }
        if let Some(known) = known.get(&index) {
            return Ok(known.not_if(set.is_complemented()));
        }
        let Node { variable, low, high } = other.nodes[index];
        let low = self.copied(other, low, known)?;
        let high = self.copied(other, high, known)?;
        let copy = self.node(variable, low, high)?;
        known.insert(index, copy);
        Ok(copy.not_if(set.is_complemented()))
    }

    /// The variables `set` depends on, in order.
    pub(crate) fn support(&self, set: Set) -> Vec<u16> {
        let (mut seen, mut found) = (QuickMap::default(), [false; MAX_VARIABLES as usize]);
        let mut todo = vec![set.index()];
        while let Some(index) = todo.pop() {
            let Node { variable, low, high } = self.nodes[index];
            if index != 0 && seen.insert(index, ()).is_none() {
                found[usize::from(variable)] = true;
                todo.extend([low.index(), high.index()]);
            }
        }
        (0..MAX_VARIABLES).filter(|variable| found[usize::from(*variable)]).collect()
    }

    fn mentions(&self, node: usize, variables: &[u16], known: &mut QuickMap<usize, bool>) -> bool {
        let Node { variable, low, high } = self.nodes[node];
        if variables.last().is_none_or(|last| variable > *last) {
            return false;
        }
        if variables.binary_search(&variable).is_ok() {
            return true;
        }
        if let Some(known) = known.get(&node) {
            return *known;
        }
        let mentions = self.mentions(low.index(), variables, known) || self.mentions(high.index(), variables, known);
        known.insert(node, mentions);
        mentions
    }

    /// Whether every value of `set` is in `other`.
    ///
    /// # Errors
    /// When the budget is used up.
    pub fn is_subset(&mut self, set: Set, other: Set) -> Built<bool> {
        Ok(self.minus(set, other)?.is_empty())
    }

    /// `set` where the number in the variables of `place` (the first one and how many) is `number`; it must not depend on
    /// variables before them.
    pub(crate) fn descend(&self, mut set: Set, (first, width): (u16, u16), number: u128) -> Set {
        while self.level(set) < first + width {
            let (low, high) = self.branches(set);
            let bit = number >> (first + width - 1 - self.level(set)) & 1;
            set = if bit == 1 { high } else { low };
        }
        set
    }

    /// Whether a point is in `set`; `value` tells each variable's bit.
    #[must_use]
    pub fn contains(&self, set: Set, value: impl Fn(u16) -> bool) -> bool {
        let mut set = set;
        while !set.is_constant() {
            let (low, high) = self.branches(set);
            set = if value(self.level(set)) { high } else { low };
        }
        set == Set::ALL
    }
}

/// Spreads three words over the table (multiplicative hashing, Knuth 6.4).
fn hash(a: u32, b: u32, c: u32) -> usize {
    let mut h = u64::from(a).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    h = (h ^ u64::from(b)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    h ^= h >> 32;
    h = (h ^ u64::from(c)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    (h ^ (h >> 29)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_the_same_set_in_another_diagram() {
        let mut from = Bdd::new(Bdd::BUDGET);
        let [a, b, c] = [3, 5, 9].map(|variable| from.variable(variable).expect("room"));
        let set = from.choose(a, b, !c).expect("room");
        assert_eq!((from.support(set), from.support(Set::ALL)), (vec![3, 5, 9], Vec::new()));
        let mut to = Bdd::new(Bdd::BUDGET);
        let other = to.variable(1).expect("room");
        let mut known = QuickMap::default();
        let copies = [set, !set, Set::NONE].map(|set| to.copied(&from, set, &mut known).expect("room"));
        assert_eq!((copies[1], copies[2]), (!copies[0], Set::NONE));
        for row in 0..1024u32 {
            let bit = |variable: u16| row >> variable & 1 == 1;
            assert_eq!(to.contains(copies[0], bit), from.contains(set, bit));
        }
        assert_ne!(to.and(copies[0], other), Ok(copies[0]));
        assert_eq!(Bdd::new(3).copied(&from, set, &mut QuickMap::default()), Err(TooLarge { budget: 3 }));
    }
}
