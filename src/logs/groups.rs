//! Groups by key: keys and sums in one row of memory, found through an index of small numbers.
//!
//! A key seen before costs no allocation. Memory is what the groups take, and 8 to 16 bytes a group for the index.

use std::hash::{BuildHasher, RandomState};

use super::tally::Group;

/// A key and its sums.
pub(super) type Row = (Box<[u8]>, Group);

/// Groups in the order they were met.
pub(super) struct Groups {
    rows: Vec<Row>,
    /// At the place a key hashes to, or the next free one: half of its hash, and the number of its row plus one.
    index: Vec<(u32, u32)>,
    seed: Seed,
}

/// Places of an index that was never used.
const SMALLEST: usize = 64;

impl Groups {
    pub(super) fn new() -> Self {
        Self { rows: Vec::new(), index: vec![(0, 0); SMALLEST], seed: Seed::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The number of a key's row.
    pub(super) fn find(&self, key: &[u8]) -> Option<usize> {
        let (tag, mut place) = self.place(key);
        loop {
            let (known, row) = *self.index.get(place)?;
            let row = usize::try_from(row.checked_sub(1)?).ok()?;
            if known == tag && self.rows.get(row).is_some_and(|(known, _)| **known == *key) {
                return Some(row);
            }
            place = (place + 1) & (self.index.len() - 1);
        }
    }

    pub(super) fn get(&self, row: usize) -> Option<&Group> {
        self.rows.get(row).map(|(_, group)| group)
    }

    pub(super) fn get_mut(&mut self, row: usize) -> Option<&mut Group> {
        self.rows.get_mut(row).map(|(_, group)| group)
    }

    /// Adds a key that is not there yet, and gives the number of its row.
    pub(super) fn insert(&mut self, key: Box<[u8]>, group: Group) -> usize {
        self.rows.push((key, group));
        // three quarters full at most, so that a free place is always near
        if self.rows.len() * 4 > self.index.len() * 3 {
            self.build(self.index.len() * 2);
        } else {
            self.enter(self.rows.len() - 1);
        }
        self.rows.len() - 1
    }

    /// Keeps some rows; all of them may get other numbers.
    pub(super) fn retain(&mut self, keep: impl FnMut(&Row) -> bool) {
        self.rows.retain(keep);
        self.build(self.index.len());
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Group> {
        self.rows.iter().map(|(_, group)| group)
    }

    pub(super) fn into_rows(self) -> Vec<Row> {
        self.rows
    }

    fn build(&mut self, places: usize) {
        self.index.clear();
        self.index.resize(places, (0, 0));
        for row in 0..self.rows.len() {
            self.enter(row);
        }
    }

    fn enter(&mut self, row: usize) {
        let Some((key, _)) = self.rows.get(row) else { return };
        let (tag, mut place) = self.place(key);
        let number = u32::try_from(row + 1).unwrap_or(u32::MAX);
        while let Some(found) = self.index.get_mut(place) {
            if found.1 == 0 {
                *found = (tag, number);
                return;
            }
            place = (place + 1) & (self.index.len() - 1);
        }
    }

    fn place(&self, key: &[u8]) -> (u32, usize) {
        let (tag, low) = halves(self.seed.hash(&[key]));
        (tag, low & (self.index.len() - 1))
    }
}

/// The upper half of a hash, and the lower one as a place.
pub(super) fn halves(hash: u64) -> (u32, usize) {
    let tag = u32::try_from(hash >> 32).unwrap_or(0);
    (tag, usize::try_from(hash & u64::from(u32::MAX)).unwrap_or(0))
}

/// A hash for short texts that attackers may choose: words are folded by wide multiplication, seeded for each run.
#[derive(Clone, Copy)]
pub(super) struct Seed(u64);

impl Seed {
    pub(super) fn new() -> Self {
        Self(RandomState::new().hash_one(0u8) | 1)
    }

    /// Of several texts, one after the other.
    pub(super) fn hash(self, texts: &[&[u8]]) -> u64 {
        let mut state = self.0;
        for text in texts {
            let (words, rest) = text.as_chunks::<16>();
            for word in words {
                let [low, high] = split(u128::from_le_bytes(*word));
                state = fold(low ^ state, high ^ self.0);
            }
            let mut tail = [0u8; 16];
            for (to, from) in tail.iter_mut().zip(rest) {
                *to = *from;
            }
            let [low, high] = split(u128::from_le_bytes(tail));
            let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
            state = fold(low ^ state ^ length, high ^ self.0 ^ 0x9e37_79b9_7f4a_7c15);
        }
        fold(state, 0xa076_1d64_78bd_642f)
    }

    /// Of a few words.
    #[inline(always)]
    pub(super) fn mix(self, [a, b, c, d, e]: [u64; 5]) -> u64 {
        let state =
            fold(a ^ self.0, b ^ 0x9e37_79b9_7f4a_7c15) ^ fold(c ^ self.0.rotate_left(32), d ^ 0xd6e8_feb8_6659_fd93);
        fold(state ^ e, self.0 ^ 0xa076_1d64_78bd_642f)
    }
}

fn fold(a: u64, b: u64) -> u64 {
    let (low, high) = a.carrying_mul(b, 0);
    low ^ high
}

fn split(wide: u128) -> [u64; 2] {
    let [a, b, c, d, e, f, g, h, rest @ ..] = wide.to_le_bytes();
    [u64::from_le_bytes([a, b, c, d, e, f, g, h]), u64::from_le_bytes(rest)]
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::tally::Place;
    use super::*;

    fn group(count: u64) -> Group {
        let example = Place { file: 0, offset: 0, length: 0 };
        Group { count, packets: 0, bytes: 0, first: None, last: None, failsafe: 0, example, text: None }
    }

    #[test]
    fn groups_are_found_as_in_a_map() {
        let (mut groups, mut map) = (Groups::new(), HashMap::new());
        let mut random = fastrand::Rng::with_seed(7);
        for step in 0..20_000u64 {
            let key = vec![random.u8(..8); random.usize(..400)];
            match groups.find(&key) {
                Some(row) => groups.get_mut(row).expect("a group").count += 1,
                None => {
                    let row = groups.insert(key.clone().into(), group(1));
                    assert_eq!(groups.find(&key), Some(row));
                }
            }
            *map.entry(key).or_insert(0u64) += 1;
            if step % 7_000 == 6_999 {
                groups.retain(|(key, _)| key.len() % 3 > 0);
                map.retain(|key, _| key.len() % 3 > 0);
            }
        }
        let found: HashMap<Vec<u8>, u64> =
            groups.into_rows().into_iter().map(|(key, group)| (key.into_vec(), group.count)).collect();
        assert_eq!(found, map);
    }
}
