//! Groups by key: sums in one piece of memory, keys in another, found through an index of small numbers.
//!
//! No group costs an allocation of its own. Memory is what the groups take, and 16 to 32 bytes a group for the index.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

use super::index::Index;
use super::tally::Group;

/// Where a key is among the keys, and its hash.
#[derive(Clone, Copy)]
struct Key {
    from: usize,
    length: u32,
    hash: u32,
}

impl Key {
    fn of(self, keys: &[u8]) -> &[u8] {
        let length = usize::try_from(self.length).unwrap_or(usize::MAX);
        keys.get(self.from..).and_then(|key| key.get(..length)).unwrap_or_default()
    }
}

/// Groups in the order they were met.
pub(super) struct Groups {
    rows: Vec<(Key, Group)>,
    /// One key behind the other.
    keys: Vec<u8>,
    index: Index,
    seed: Seed,
}

/// Groups of another thread that are looked up at once.
const BATCH: usize = 16;

impl Groups {
    pub(super) fn new() -> Self {
        Self { rows: Vec::new(), keys: Vec::new(), index: Index::new(), seed: Seed::shared() }
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// What a key is found by, here and in the groups of other threads.
    pub(super) fn hash(&self, key: &[u8]) -> u32 {
        lower(self.seed.hash(&[key]))
    }

    /// The number of a key's row.
    pub(super) fn find(&self, key: &[u8], hash: u32) -> Option<usize> {
        self.index.find(hash, |row| self.rows.get(row).is_some_and(|(known, _)| *known.of(&self.keys) == *key))
    }

    pub(super) fn get(&self, row: usize) -> Option<&Group> {
        self.rows.get(row).map(|(_, group)| group)
    }

    pub(super) fn get_mut(&mut self, row: usize) -> Option<&mut Group> {
        self.rows.get_mut(row).map(|(_, group)| group)
    }

    /// Adds a key that is not there yet, and gives the number of its row.
    pub(super) fn insert(&mut self, key: &[u8], hash: u32, group: Group) -> usize {
        let (row, from) = (self.rows.len(), self.keys.len());
        self.keys.extend_from_slice(key);
        self.rows.push((Key { from, length: u32::try_from(key.len()).unwrap_or(u32::MAX), hash }, group));
        self.index.enter(hash, row);
        row
    }

    /// Takes the groups of another thread: `add` is for those that are there already, and `make_room` for the others.
    pub(super) fn merge(&mut self, other: Self, add: impl Fn(&mut Group, Group), mut make_room: impl FnMut(&mut Self)) {
        let Self { rows, keys, .. } = other;
        let mut rows = rows.into_iter();
        while !rows.as_slice().is_empty() {
            // where the next ones may be is asked of memory for all before it is waited for
            let next = rows.as_slice().get(..BATCH).unwrap_or(rows.as_slice());
            let places = next.iter().fold(0, |sum, (key, _)| sum ^ self.index.touch(key.hash));
            let near = next.iter().filter_map(|(key, _)| self.get(self.index.find(key.hash, |_| true)?));
            std::hint::black_box(near.fold(u64::from(places), |sum, group| sum ^ group.count));
            for (key, group) in rows.by_ref().take(BATCH) {
                let (key, hash) = (key.of(&keys), key.hash);
                match self.find(key, hash).and_then(|row| self.get_mut(row)) {
                    Some(own) => add(own, group),
                    None => {
                        make_room(self);
                        self.insert(key, hash, group);
                    }
                }
            }
        }
    }

    /// Keeps some groups; all of them may get other numbers.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&Group) -> bool) {
        let Self { rows, keys, .. } = std::mem::replace(self, Self::new());
        for (key, group) in rows {
            if keep(&group) {
                self.insert(key.of(&keys), key.hash, group);
            }
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Group> {
        self.rows.iter().map(|(_, group)| group)
    }

    /// The groups that `keep` wants, with their keys.
    pub(super) fn into_rows(self, keep: impl Fn(&Group) -> bool) -> impl Iterator<Item = (Box<[u8]>, Group)> {
        let Self { rows, keys, .. } = self;
        let rows = rows.into_iter().filter(move |(_, group)| keep(group));
        rows.map(move |(key, group)| (key.of(&keys).into(), group))
    }
}

/// The lower half of a hash.
pub(super) fn lower(hash: u64) -> u32 {
    u32::try_from(hash & u64::from(u32::MAX)).unwrap_or(0)
}

/// A hash for short texts that attackers may choose: words are folded by wide multiplication, seeded for each run.
#[derive(Clone, Copy)]
pub(super) struct Seed(u64);

impl Seed {
    /// That of this process, so that what one thread found can be looked up by another.
    #[inline]
    pub(super) fn shared() -> Self {
        static SHARED: LazyLock<Seed> = LazyLock::new(|| Seed(RandomState::new().hash_one(0u8) | 1));
        *SHARED
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
        let (mut parts, mut map) = ([Groups::new(), Groups::new()], HashMap::new());
        let mut random = fastrand::Rng::with_seed(7);
        for step in 0..20_000u64 {
            let key = vec![random.u8(..8); random.usize(..400)];
            let groups = &mut parts[random.usize(..2)];
            let hash = groups.hash(&key);
            match groups.find(&key, hash) {
                Some(row) => groups.get_mut(row).expect("a group").count += 1,
                None => {
                    let row = groups.insert(&key, hash, group(1));
                    assert_eq!(groups.find(&key, hash), Some(row));
                }
            }
            *map.entry(key).or_insert(0u64) += 1;
            if step % 7_000 == 6_999 {
                parts.iter_mut().for_each(|groups| groups.retain(|group| group.count % 3 > 0));
                let mut left = HashMap::new();
                for groups in &parts {
                    for key in map.keys() {
                        let row = groups.find(key, groups.hash(key));
                        *left.entry(key.clone()).or_insert(0) +=
                            row.map_or(0, |row| groups.get(row).expect("it").count);
                    }
                }
                left.retain(|_, count| *count > 0);
                map = left;
            }
        }
        let [mut groups, other] = parts;
        groups.merge(other, |known, more| known.count += more.count, |_| {});
        let found: HashMap<Vec<u8>, u64> =
            groups.into_rows(|_| true).map(|(key, group)| (key.into_vec(), group.count)).collect();
        assert_eq!(found, map);
    }
}
