//! What became of report lines met before, by their text, so that one that says the same again is only counted.
//!
//! A table of fixed size. Nothing rests on a hash alone: the text itself is kept and compared.

use super::groups::{Seed, halves};
use super::usual::Said;

/// Longest text kept; two IPv6 addresses and names of ordinary length fit.
const TEXT: usize = 240;

/// Texts kept at most: some 2 MB.
const ENTRIES: usize = 8192;

/// Length of `action="deny" dstIP="`, which tells no flow from another.
const HEAD: usize = 21;

/// What became of a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The filter does not want it.
    Unwanted,
    /// Counted in a group.
    Counted {
        /// Number of the group.
        group: u32,
        /// It is on a failsafe port.
        failsafe: bool,
    },
}

#[derive(Clone)]
struct Entry {
    text: [u8; TEXT],
    length: u8,
    outcome: Option<Outcome>,
}

/// The table.
pub struct Memo {
    entries: Vec<Entry>,
    seed: Seed,
}

impl Memo {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self { entries: Vec::new(), seed: Seed::new() }
    }

    /// Where a text is kept, if it is. Destination, port and source tell most flows apart, and two with one place only cost
    /// time: the rest need not be hashed.
    pub(super) fn place(&self, said: &Said<'_>) -> usize {
        let [first, second, _] = said.text;
        let end = second.get(second.len().saturating_sub(16)..).unwrap_or(second);
        let start = first.get(HEAD..).unwrap_or(first);
        halves(self.seed.hash(&[start, end])).1 & (ENTRIES - 1)
    }

    /// What became of a line that said this.
    pub(super) fn recall(&self, said: &Said<'_>, place: usize) -> Option<Outcome> {
        let entry = self.entries.get(place)?;
        let mut kept = entry.text.get(..usize::from(entry.length))?;
        for text in said.text {
            kept = kept.strip_prefix(text)?;
        }
        entry.outcome.filter(|_| kept.is_empty())
    }

    /// Keeps what became of a line.
    pub(super) fn learn(&mut self, said: &Said<'_>, place: usize, outcome: Outcome) {
        let length = said.text.iter().map(|text| text.len()).sum::<usize>();
        let Some(kept) = u8::try_from(length).ok().filter(|_| length <= TEXT) else { return };
        if self.entries.is_empty() {
            self.forget();
        }
        let Some(entry) = self.entries.get_mut(place) else { return };
        let mut room = entry.text.as_mut_slice();
        for text in said.text {
            let Some((to, rest)) = room.split_at_mut_checked(text.len()) else { return };
            to.copy_from_slice(text);
            room = rest;
        }
        (entry.length, entry.outcome) = (kept, Some(outcome));
    }

    /// Forgets everything: groups got other numbers.
    pub(super) fn forget(&mut self) {
        self.entries.clear();
        self.entries.resize(ENTRIES, Entry { text: [0; TEXT], length: 0, outcome: None });
    }
}

impl Default for Memo {
    fn default() -> Self {
        Self::new()
    }
}
