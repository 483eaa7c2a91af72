//! What became of report and packet lines met before, by their values, so that one that says the same again is only counted.
//!
//! Two tables, one for lines with short addresses, whose entries fill one cache line each, and one for the others. They grow as
//! lines are met, up to a limit, and begin anew then. Nothing rests on a hash alone: all values are kept and compared, those
//! that many flows share (policy, rule, tier) as the number of a text.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use super::groups::{Seed, lower};
use super::index::Index;
use super::usual::{LONG, Said};
use super::vector::Vector;

/// Lines kept at most: 4 MB, and one for the index.
const SHORT_ENTRIES: usize = 65_536;

/// Lines with addresses of more than sixteen bytes kept at most: 2 MB, and a quarter of one for the index.
const LONG_ENTRIES: usize = 16_384;

/// Lines looked up at once, at most.
pub(super) const BATCH: usize = 16;

/// Words of a line's own values: addresses, and one for the port and all lengths.
const SHORT: usize = 2 + 2 + 1;
const WIDE: usize = LONG / 8 * 2 + 1;

/// Texts kept at most; few firewalls have more rules that deny.
const TEXTS: usize = 4096;

/// What became of a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The filter does not want it.
    Unwanted,
    /// A packet line that says nothing about the verdict, otherwise wanted.
    NoVerdict,
    /// Counted in a group.
    Counted {
        /// Number of the group.
        group: u32,
        /// It is on a failsafe port.
        failsafe: bool,
    },
}

#[derive(Clone, Copy)]
#[repr(align(64))]
struct Entry<const N: usize> {
    words: [u64; N],
    /// Numbers of the texts in the middle and at the end of the line.
    texts: [u16; 2],
    outcome: Outcome,
}

/// Lines with addresses of one kind.
struct Table<const N: usize> {
    entries: Vec<Entry<N>>,
    index: Index,
}

impl<const N: usize> Table<N> {
    fn new() -> Self {
        Self { entries: Vec::new(), index: Index::new() }
    }

    /// Something of the entry that a hash finds first: to ask for it before it is needed.
    #[inline]
    fn touch(&self, hash: u32) -> u64 {
        let entry = self.index.find(hash, |_| true).and_then(|entry| self.entries.get(entry));
        entry.map_or(0, |entry| entry.words[0])
    }

    #[inline]
    fn find(&self, hash: u32, words: &[u64; N], same: impl Fn([u16; 2]) -> bool) -> Option<Outcome> {
        let differs = |entry: &Entry<N>| entry.words.iter().zip(words).fold(0, |all, (a, b)| all | (a ^ b)) != 0;
        let is = |entry: &Entry<N>| !differs(entry) && same(entry.texts);
        let entry = self.index.find(hash, |entry| self.entries.get(entry).is_some_and(is))?;
        self.entries.get(entry).map(|entry| entry.outcome)
    }

    /// Adds an entry, in the place of all others when there are too many.
    fn learn(&mut self, hash: u32, entry: Entry<N>, most: usize) {
        if self.entries.len() >= most {
            self.forget();
        }
        // memory that was never written takes no room, and none is taken twice while it grows
        self.entries.reserve_exact(most - self.entries.len());
        self.index.enter(hash, self.entries.len());
        self.entries.push(entry);
    }

    fn forget(&mut self) {
        self.entries.clear();
        self.index.clear();
    }
}

/// A line's own values as words when they are short, and where they are kept.
#[derive(Clone, Copy, Default)]
pub(super) struct Key {
    words: [u64; SHORT],
    hash: u32,
    long: bool,
}

impl Key {
    /// Makes this the key of what a line says; `None` when the block ends too near to tell at once.
    #[inline(always)]
    pub(super) fn set(&mut self, said: &Said<'_>, seed: Seed) -> Option<()> {
        let Said { dst, port, src, .. } = said;
        let [digits, 0] = port.sixteen(0)? else { return None };
        // five digits at most make a port; a value of more is in no sound line
        if port.length > 5 {
            return None;
        }
        let [dst_length, src_length, port_length] = [dst.length, src.length, port.length].map(small);
        let lengths = digits | dst_length << 40 | src_length << 48 | (port_length | u64::from(said.kind)) << 56;
        let ([a, b], [c, d]) = (dst.sixteen(0)?, src.sixteen(0)?);
        let long = dst.length > 16 || src.length > 16;
        let mut hash = seed.mix([a ^ lengths, b, c, d, hint(said)]);
        if long {
            let ([a, b], [c, d]) = (dst.sixteen(16)?, src.sixteen(16)?);
            hash = seed.mix([a ^ hash, b, c, d, 0]);
        }
        *self = Self { words: [a, b, c, d, lengths], hash: lower(hash), long };
        Some(())
    }

    /// As many words as long addresses take.
    fn wide(&self, said: &Said<'_>) -> Option<[u64; WIDE]> {
        let mut words = [0; WIDE];
        let (addresses, last) = words.as_chunks_mut::<6>();
        for (to, from) in addresses.iter_mut().zip([said.dst, said.src]) {
            let ([a, b], [c, d], [e, f]) = (from.sixteen(0)?, from.sixteen(16)?, from.sixteen(32)?);
            *to = [a, b, c, d, e, f];
        }
        let [.., lengths] = self.words;
        last.fill(lengths);
        Some(words)
    }
}

/// The tables.
pub struct Memo {
    short: Table<SHORT>,
    long: Table<WIDE>,
    texts: Texts,
    seed: Seed,
}

impl Memo {
    /// Empty tables.
    #[must_use]
    pub fn new() -> Self {
        let seed = Seed::shared();
        Self {
            short: Table::new(),
            long: Table::new(),
            texts: Texts { vector: Vector::new(), rows: Vec::new(), numbers: HashMap::with_hasher(Seeded(seed, 0)) },
            seed,
        }
    }

    /// What hashes start from.
    pub(super) fn seed(&self) -> Seed {
        self.seed
    }

    /// What became of lines that said this, [`BATCH`] at most. What was asked of memory is waited for together: first where the
    /// entries are, then the entries.
    pub(super) fn recall_all<'k, 't: 'k>(
        &self,
        lines: impl Iterator<Item = (&'k Said<'t>, &'k Key)> + Clone,
    ) -> [Option<Outcome>; BATCH] {
        let keys = lines.clone().map(|(_, key)| key);
        let places = keys.clone().fold(0, |sum, key| match key.long {
            true => sum ^ self.long.index.touch(key.hash),
            false => sum ^ self.short.index.touch(key.hash),
        });
        std::hint::black_box(keys.fold(u64::from(places), |sum, key| match key.long {
            true => sum ^ self.long.touch(key.hash),
            false => sum ^ self.short.touch(key.hash),
        }));
        let mut outcomes = [None; BATCH];
        for (outcome, (said, key)) in outcomes.iter_mut().zip(lines) {
            *outcome = self.recall(said, key);
        }
        outcomes
    }

    /// What became of a line that said this.
    #[inline]
    pub(super) fn recall(&self, said: &Said<'_>, key: &Key) -> Option<Outcome> {
        let same = |[middle, tail]: [u16; 2]| self.texts.is(middle, said.middle) && self.texts.is(tail, said.tail);
        if key.long {
            return self.long.find(key.hash, &key.wide(said)?, same);
        }
        self.short.find(key.hash, &key.words, same)
    }

    /// Keeps what became of a line that was not recalled.
    pub(super) fn learn(&mut self, said: &Said<'_>, key: &Key, outcome: Outcome) {
        let (Some(middle), Some(tail)) = (self.texts.number(said.middle), self.texts.number(said.tail)) else {
            return;
        };
        let texts = [middle, tail];
        match key.long.then(|| key.wide(said)) {
            None => self.short.learn(key.hash, Entry { words: key.words, texts, outcome }, SHORT_ENTRIES),
            Some(Some(words)) => self.long.learn(key.hash, Entry { words, texts, outcome }, LONG_ENTRIES),
            Some(None) => {}
        }
    }

    /// Forgets everything: groups got other numbers.
    pub(super) fn forget(&mut self) {
        self.short.forget();
        self.long.forget();
    }
}

impl Default for Memo {
    fn default() -> Self {
        Self::new()
    }
}

/// Some bytes by which lines with the same addresses and port mostly differ: of policy, rule, tier and kind of report.
#[inline]
fn hint(said: &Said<'_>) -> u64 {
    let eight = |text: &[u8], at: usize| {
        let chunk = text.get(at..).and_then(|text| text.first_chunk::<8>());
        chunk.map_or(0, |chunk| u64::from_le_bytes(*chunk))
    };
    let Said { middle, tail, .. } = said;
    let policy = eight(middle, b" policy=\"".len());
    let rule = eight(middle, middle.len().saturating_sub(b"\"-1\" ruleDir=\"egress\" srcIP=\"".len()));
    let tier = eight(tail, b"\" tier=\"".len());
    let report = eight(tail, tail.len().saturating_sub(8));
    policy ^ rule.rotate_left(13) ^ tier.rotate_left(29) ^ report.rotate_left(47)
}

fn small(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// Texts by number.
struct Texts {
    vector: Vector,
    rows: Vec<Arc<[u8]>>,
    numbers: HashMap<Arc<[u8]>, u16, Seeded>,
}

/// Hashes one text with a seed.
#[derive(Clone, Copy)]
struct Seeded(Seed, u64);

impl BuildHasher for Seeded {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        *self
    }
}

impl Hasher for Seeded {
    fn write(&mut self, bytes: &[u8]) {
        self.1 ^= self.0.hash(&[bytes]);
    }

    // of a slice only the bytes are hashed: their number is in the hash already
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.1
    }
}

impl Texts {
    /// Whether a text has this number.
    #[inline]
    fn is(&self, number: u16, text: &[u8]) -> bool {
        self.rows.get(usize::from(number)).is_some_and(|known| self.vector.same(known, text))
    }

    /// The number of a text, a new one when it was not met yet; `None` when there are too many.
    fn number(&mut self, text: &[u8]) -> Option<u16> {
        if let Some(number) = self.numbers.get(text) {
            return Some(*number);
        }
        let number = u16::try_from(self.rows.len()).ok().filter(|_| self.rows.len() < TEXTS)?;
        let text: Arc<[u8]> = text.into();
        self.rows.push(Arc::clone(&text));
        self.numbers.insert(text, number);
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::Event;
    use super::super::felix::{self, Flow};
    use super::super::usual::read;
    use super::super::vector::cut_alike;
    use super::*;

    const LINE: &str = r#"action="deny" dstIP="147.75.40.148" dstPort="443" inBytes=0 inPackets=0 outBytes=120 outPackets=2 policy="hep-external" proto="6" rule="-1" ruleDir="egress" srcIP="10.0.1.10" srcPort="57312" tier="security" trafficDir="outbound" updateType=report"#;
    /// The next line, and more.
    const BEHIND: &str = concat!(
        "\nAug  4 16:14:12 bastion sshd[12]: Invalid user x from 1.1.1.1 port 22 on a host with a",
        " name, and a name, and a name, and a name, and a name, and a name, and a name, and a name, and a name, and a name"
    );

    fn key(memo: &Memo, said: &Said<'_>) -> Option<Key> {
        let mut key = Key::default();
        key.set(said, memo.seed())?;
        Some(key)
    }

    fn recall(memo: &Memo, text: &[u8]) -> Option<Outcome> {
        let said = cut_alike(text)?;
        memo.recall(&said, &key(memo, &said)?)
    }

    fn learn(memo: &mut Memo, text: &[u8], group: u32) {
        let said = cut_alike(text).expect("a usual line");
        let key = key(memo, &said).expect("a key");
        memo.learn(&said, &key, Outcome::Counted { group, failsafe: false });
    }

    #[test]
    fn lines_that_are_recalled_are_read_alike() {
        let mut alike = 0;
        for known in [
            LINE.to_owned(),
            LINE.replace("10.0.1.10", "::ffff:10.0.1.10"),
            LINE.replace("147.75.40.148", "2606:4700:aaaa:bbbb:cccc:dddd:6810:84e5"),
            LINE.replace("10.0.1.10", "fd00:10:48:3a04::ef84").replace("147.75.40.148", "2001:db8::1"),
        ] {
            let mut memo = Memo::new();
            learn(&mut memo, (known.clone() + BEHIND).as_bytes(), 7);
            let usual = read(known.as_bytes()).expect("a usual line");
            for at in 0..known.len() {
                for byte in *b"0159.:-\"\\ =abr]#\n\x00\x1b\xff" {
                    for insert in [false, true] {
                        let mut changed = known.as_bytes().to_vec();
                        if insert {
                            changed.insert(at, byte);
                        } else {
                            changed[at] = byte;
                        }
                        let text = [&changed, BEHIND.as_bytes()].concat();
                        let Some(outcome) = recall(&memo, &text) else { continue };
                        assert_eq!(outcome, Outcome::Counted { group: 7, failsafe: false });
                        let said = cut_alike(&text).expect("a usual line");
                        let flow = felix::read_pairs(&changed);
                        let event = Event::of_flow(&flow);
                        assert_eq!((flow.flaw, said.packets, said.bytes), (None, event.packets, event.bytes));
                        assert_eq!(said.length, changed.len());
                        let Flow { in_bytes, in_packets, out_bytes, out_packets, src_port, .. } = flow.clone();
                        assert_eq!(
                            flow,
                            Flow { in_bytes, in_packets, out_bytes, out_packets, src_port, ..usual.clone() }
                        );
                        alike += 1;
                    }
                }
            }
        }
        assert!(alike > 200, "only {alike} lines were alike");
    }

    #[test]
    fn no_line_is_taken_for_another() {
        let mut memo = Memo::new();
        let policies = ["a", "a-much-longer-name-of-a-policy", "hep-external"];
        let line = |number: u32| {
            let (host, port) = (number % 251, number % 7);
            let policy = policies[(number % 3) as usize];
            let line = LINE.replace("40.148", &format!("{}.{host}", number / 251)).replace("443", &port.to_string());
            let line = line.replace("hep-external", policy);
            // what differs in one place only, where the hash may not look
            let line = if !number.is_multiple_of(2) { line.replace("outbound", "inbounds") } else { line };
            if !number.is_multiple_of(5) {
                line + BEHIND
            } else {
                line.replace("10.0.1.10", "fd00:10:48:3a04::ef84") + BEHIND
            }
        };
        let known = |numbers: std::ops::Range<u32>, memo: &Memo| {
            let recalled = numbers.filter(|number| match recall(memo, line(*number).as_bytes()) {
                Some(outcome) => {
                    assert_eq!(outcome, Outcome::Counted { group: *number, failsafe: false });
                    true
                }
                None => false,
            });
            recalled.count()
        };
        (0..60_000).for_each(|number| learn(&mut memo, line(number).as_bytes(), number));
        assert_eq!(known(0..90_000, &memo), 60_000);
        (60_000..90_000).for_each(|number| learn(&mut memo, line(number).as_bytes(), number));
        // there were too many of both kinds: what was learnt last stays
        assert_eq!(known(89_000..90_000, &memo), 1_000);
        assert_eq!(known(0..90_000, &memo), 90_000 - SHORT_ENTRIES - LONG_ENTRIES);
        memo.forget();
        assert_eq!(recall(&memo, line(89_999).as_bytes()), None);
    }
}
