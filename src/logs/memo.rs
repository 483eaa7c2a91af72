//! What became of report and packet lines met before, by their values, so that one that says the same again is only counted.
//!
//! Two tables of fixed size, one for lines with short addresses, whose entries fill one cache line each, and one for the
//! others. Nothing rests on a hash alone: all values are kept and compared, those that many flows share (policy, rule, tier)
//! as the number of a text.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use super::groups::{Seed, halves};
use super::usual::{LONG, Said};

/// Lines kept at most, in pairs of places: 2 MB.
const SHORT_ENTRIES: usize = 32_768;

/// Lines with addresses of more than sixteen bytes kept at most: half a megabyte.
const LONG_ENTRIES: usize = 4096;

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
    outcome: Option<Outcome>,
}

/// A line's own values as words when they are short, and where they are kept.
#[derive(Clone, Copy, Default)]
pub(super) struct Key {
    words: [u64; SHORT],
    place: u32,
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
        *self = Self { words: [a, b, c, d, lengths], place: halves(hash).0, long };
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

    fn place(&self) -> usize {
        usize::try_from(self.place).unwrap_or(0)
    }
}

/// The tables.
pub struct Memo {
    short: Vec<Entry<SHORT>>,
    long: Vec<Entry<WIDE>>,
    texts: Texts,
    seed: Seed,
}

impl Memo {
    /// Empty tables.
    #[must_use]
    pub fn new() -> Self {
        let seed = Seed::new();
        Self {
            short: Vec::new(),
            long: Vec::new(),
            texts: Texts { rows: Vec::new(), numbers: HashMap::with_hasher(Seeded(seed, 0)) },
            seed,
        }
    }

    /// What hashes start from.
    pub(super) fn seed(&self) -> Seed {
        self.seed
    }

    /// Asks for the places of keys at once, so that they are near when they are looked at: what was asked of memory is
    /// waited for together.
    pub(super) fn call<'k>(&self, keys: impl Iterator<Item = &'k Key>) {
        let first = |key: &Key| match key.long {
            true => place(&self.long, key.place()).map(|entry| entry.words[0]),
            false => place(&self.short, key.place()).map(|entry| entry.words[0]),
        };
        std::hint::black_box(keys.filter_map(first).fold(0, |sum, word| sum ^ word));
    }

    /// What became of a line that said this.
    #[inline]
    pub(super) fn recall(&self, said: &Said<'_>, key: &Key) -> Option<Outcome> {
        let same = |[middle, tail]: [u16; 2]| self.texts.is(middle, said.middle) && self.texts.is(tail, said.tail);
        if key.long {
            return known(&self.long, &key.wide(said)?, key.place(), same);
        }
        known(&self.short, &key.words, key.place(), same)
    }

    /// Keeps what became of a line.
    pub(super) fn learn(&mut self, said: &Said<'_>, key: &Key, outcome: Outcome) {
        if self.short.is_empty() {
            self.forget();
        }
        let (Some(middle), Some(tail)) = (self.texts.number(said.middle), self.texts.number(said.tail)) else {
            return;
        };
        match key.long.then(|| key.wide(said)) {
            None => keep(&mut self.short, key.words, key.place(), [middle, tail], outcome),
            Some(Some(words)) => keep(&mut self.long, words, key.place(), [middle, tail], outcome),
            Some(None) => {}
        }
    }

    /// Forgets everything: groups got other numbers.
    pub(super) fn forget(&mut self) {
        self.short.clear();
        self.short.resize(SHORT_ENTRIES, Entry { words: [0; SHORT], texts: [0; 2], outcome: None });
        self.long.clear();
        self.long.resize(LONG_ENTRIES, Entry { words: [0; WIDE], texts: [0; 2], outcome: None });
    }
}

impl Default for Memo {
    fn default() -> Self {
        Self::new()
    }
}

/// The first of the two places of an entry.
#[inline]
fn place<const N: usize>(entries: &[Entry<N>], place: usize) -> Option<&Entry<N>> {
    entries.get(place & entries.len().wrapping_sub(1))
}

/// Looks for an entry at its two places.
#[inline]
fn known<const N: usize>(
    entries: &[Entry<N>],
    words: &[u64; N],
    place: usize,
    same: impl Fn([u16; 2]) -> bool,
) -> Option<Outcome> {
    let first = place & entries.len().wrapping_sub(1);
    [first, first ^ 1].into_iter().find_map(|place| {
        let entry = entries.get(place)?;
        entry.outcome.filter(|_| entry.words == *words && same(entry.texts))
    })
}

/// Puts an entry at the first of its places, and what was there at the second.
fn keep<const N: usize>(entries: &mut [Entry<N>], words: [u64; N], place: usize, texts: [u16; 2], outcome: Outcome) {
    let first = place & entries.len().wrapping_sub(1);
    let Some(older) = entries.get(first).copied() else { return };
    if let Some(entry) = entries.get_mut(first ^ 1) {
        *entry = older;
    }
    if let Some(entry) = entries.get_mut(first) {
        *entry = Entry { words, texts, outcome: Some(outcome) };
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
        self.rows.get(usize::from(number)).is_some_and(|known| **known == *text)
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
        for number in 0..60_000 {
            learn(&mut memo, line(number).as_bytes(), number);
        }
        let mut known = 0;
        for number in 0..60_000 {
            match recall(&memo, line(number).as_bytes()) {
                Some(Outcome::Counted { group, .. }) => assert_eq!(group, number),
                Some(Outcome::Unwanted | Outcome::NoVerdict) => panic!("never learnt"),
                None => continue,
            }
            known += 1;
        }
        // what was learnt last stays
        assert!((15_000..=SHORT_ENTRIES + LONG_ENTRIES).contains(&known), "{known} are known");
        memo.forget();
        assert_eq!(recall(&memo, line(59_999).as_bytes()), None);
    }
}
