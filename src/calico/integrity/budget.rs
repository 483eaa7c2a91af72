//! Work that the search for causes may do, counted, so that every listing is judged in bounded time and always alike.
//!
//! A unit is one text of usual length put together and hashed. Two kinds of work: what each rule is granted whatever else
//! the listing holds ([`GRANT`]: rules in order are always verified), and a fixed amount for the whole listing, spent in
//! rounds from the cheap means to the costly ([`ROUNDS`]) and shared out evenly among the broken chains of a round.

use super::suspects::Effort;
use crate::calico::spelling::Spelling;

/// Texts that each rule is granted for its proof where it stands; rules of Felix need a handful.
pub(super) const GRANT: usize = 64;

/// What is added for each round; what one round leaves is the next one's.
pub(super) const ROUNDS: [(Effort, usize); 3] =
    [(Effort::Near, 250_000), (Effort::Far, 100_000), (Effort::Search, 700_000)];

/// What spelling a rule out costs, in texts.
const READING: usize = 8;

/// Bytes of a text that count as one unit.
const UNIT: usize = 160;

/// Counts work against the share of the chain at hand.
#[derive(Default)]
pub(super) struct Budget {
    left: usize,
    spent: usize,
    short: bool,
}

impl Budget {
    /// A chain's, or rule's, turn: it may spend `share`.
    pub(super) fn open(&mut self, share: usize) {
        (self.left, self.short) = (share, false);
    }

    /// Everything spent so far.
    pub(super) fn spent(&self) -> usize {
        self.spent
    }

    /// Whether something was left undone since [`Self::open`].
    pub(super) fn was_short(&self) -> bool {
        self.short
    }

    /// Takes `work` out of the share, if it has as much.
    pub(super) fn take(&mut self, work: usize) -> bool {
        let enough = work <= self.left;
        if enough {
            self.left -= work;
            self.spent += work;
        } else {
            self.short = true;
        }
        enough
    }

    /// A rule's own turn: what each is granted, by its length.
    pub(super) fn grant(&mut self, rule: &str) {
        self.open(granted(rule));
    }

    /// Takes what spelling a listed rule costs.
    pub(super) fn spell(&mut self, rule: &str) -> bool {
        self.take(READING * units(rule.len()))
    }

    /// Tries one text with `hashes` computations.
    pub(super) fn try_text(&mut self, text: &str, hashes: usize) -> bool {
        self.take(units(text.len()) * hashes)
    }

    /// The first text of `spelling` that `accept` takes, among the likeliest `most` and those the share is enough for.
    pub(super) fn find(
        &mut self,
        spelling: &Spelling,
        most: usize,
        accept: impl FnMut(&str) -> bool,
    ) -> Option<String> {
        let each = units(spelling.length());
        let affordable = self.left / each;
        let (found, texts) = spelling.find_among(most.min(affordable), accept);
        self.short |= found.is_none() && affordable < most && texts >= affordable;
        self.left = self.left.saturating_sub(texts * each);
        self.spent += texts * each;
        found
    }
}

/// What a listed rule is granted, by its length.
pub(super) fn granted(rule: &str) -> usize {
    (GRANT + READING) * units(rule.len())
}

fn units(bytes: usize) -> usize {
    1 + bytes / UNIT
}
