//! Numbers of rows, found by the hash of what the rows hold: open addressing in one piece of memory.
//!
//! The rows themselves are somewhere else, so that the index is small, and it grows without looking at them.

/// Places of an index that was never used.
const SMALLEST: usize = 64;

/// At the place a hash names, or the next free one: the hash, and the number of its row plus one.
pub(super) struct Index {
    places: Vec<(u32, u32)>,
    taken: usize,
}

impl Index {
    /// None yet.
    pub(super) fn new() -> Self {
        Self { places: vec![(0, 0); SMALLEST], taken: 0 }
    }

    /// The row with this hash of which `same` says that it is the one.
    #[inline]
    pub(super) fn find(&self, hash: u32, same: impl Fn(usize) -> bool) -> Option<usize> {
        let mut place = self.first(hash);
        loop {
            let (known, number) = *self.places.get(place)?;
            let row = usize::try_from(number.checked_sub(1)?).ok()?;
            if known == hash && same(row) {
                return Some(row);
            }
            place = (place + 1) & (self.places.len() - 1);
        }
    }

    /// What is at the place that a hash names: to ask for it before it is needed.
    #[inline]
    pub(super) fn touch(&self, hash: u32) -> u32 {
        self.places.get(self.first(hash)).map_or(0, |(known, _)| *known)
    }

    /// Adds a row.
    pub(super) fn enter(&mut self, hash: u32, row: usize) {
        // half full at most, so that most rows are at the first place looked at
        if (self.taken + 1) * 2 > self.places.len() {
            let larger = vec![(0, 0); self.places.len() * 2];
            for (hash, number) in std::mem::replace(&mut self.places, larger) {
                if number != 0 {
                    self.put(hash, number);
                }
            }
        }
        if let Some(number) = u32::try_from(row).ok().and_then(|row| row.checked_add(1)) {
            self.put(hash, number);
            self.taken += 1;
        }
    }

    /// Forgets all rows.
    pub(super) fn clear(&mut self) {
        self.places.fill((0, 0));
        self.taken = 0;
    }

    fn put(&mut self, hash: u32, number: u32) {
        let mut place = self.first(hash);
        while let Some(found) = self.places.get_mut(place) {
            if found.1 == 0 {
                *found = (hash, number);
                return;
            }
            place = (place + 1) & (self.places.len() - 1);
        }
    }

    fn first(&self, hash: u32) -> usize {
        usize::try_from(hash).unwrap_or(0) & (self.places.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn rows_are_found_by_what_they_hold() {
        let mut random = fastrand::Rng::with_seed(5);
        let (mut index, mut rows, mut known) = (Index::new(), Vec::new(), HashMap::new());
        for round in 0..30_000u32 {
            // few hashes, so that many rows share one, and some at the end of the table
            let (hash, value) = (random.u32(..40).wrapping_mul(0x0fff_ffff), random.u32(..400));
            let row = index.find(hash, |row| rows[row] == (hash, value));
            assert_eq!(row, known.get(&(hash, value)).copied(), "{hash} {value}");
            if row.is_none() {
                index.enter(hash, rows.len());
                known.insert((hash, value), rows.len());
                rows.push((hash, value));
            }
            if round == 20_000 {
                index.clear();
                (rows, known) = (Vec::new(), HashMap::new());
            }
        }
        assert!(rows.len() > 3_000, "{}", rows.len());
        assert_eq!(index.find(1, |_| true), None);
    }
}
