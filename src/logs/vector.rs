//! Many bytes at once: where lines end, which of them may hold an event, and where the words of one end.
//!
//! Each search is written for processors with AVX-512, for those with AVX2 (nearly every x86-64 one since 2013), and for any
//! other one. All find the same.

#[cfg(target_arch = "x86_64")]
mod x86;

use std::sync::LazyLock;

use memchr::{memchr, memchr_iter, memmem, memrchr};

use super::sift::Rare;
use super::usual::{self, Find, Said};

/// Bytes in which a line's words are told at once: longer than nearly every report line's pairs.
pub(super) const WINDOW: usize = 384;

/// Words told at most, in places for eight.
const MOST: usize = 64;

/// How a notice that the line before it was repeated begins.
const NOTICE: &[u8] = b"last message repeated ";

/// Longest line that is looked at for one: a stamp, a host name and the notice. Nearly every other line is longer.
pub(super) const NOTICE_LENGTH: usize = 192;

/// Bytes that tell whether there is one: those of the longest line, and some for what stands ahead of a byte.
const NOTICE_WINDOW: usize = NOTICE_LENGTH + 8;

/// Three bytes of a notice, two and five apart, that other texts do not have so.
const NOTICE_BYTES: [(usize, u8); 3] = [(0, b'g'), (2, b' '), (5, b'p')];

/// What a packet's source address stands behind.
pub(super) const SOURCE: &[u8] = b" SRC=";

/// Bytes in which the end of a packet line is looked for.
const PACKET_LENGTH: usize = 256;

/// As many, and one for the second byte of two.
const PACKET_WINDOW: usize = PACKET_LENGTH + 1;

/// Where the words of a line end.
pub(super) struct Ends {
    places: [usize; MOST],
    count: usize,
}

impl Ends {
    /// None yet.
    pub(super) fn new() -> Self {
        Self { places: [0; MOST], count: 0 }
    }

    /// Where word after word ends, the last one at the end of the line; none when that is too far away.
    #[inline]
    pub(super) fn places(&self) -> &[usize] {
        self.places.get(..self.count).unwrap_or_default()
    }

    /// Adds those of eight words and more at once: the bits of a word that begins at `base`.
    #[inline(always)]
    fn add(&mut self, base: usize, mut bits: u64) {
        let mut at = self.count;
        self.count += usize(bits.count_ones());
        while bits != 0 {
            let Some(eight) = self.places.get_mut(at..).and_then(|places| places.first_chunk_mut::<8>()) else {
                return;
            };
            for place in eight {
                *place = base + usize(bits.trailing_zeros());
                bits &= bits.wrapping_sub(1);
            }
            at += 8;
        }
    }
}

/// Which report lines are looked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reports {
    /// None.
    No,
    /// Those of something denied.
    Denies,
    /// All.
    All,
}

/// What a text is searched for; objects of JSON at the start of a line always are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Sought {
    /// Report lines of Felix.
    pub(super) reports: Reports,
    /// Packet lines of the kernel.
    pub(super) packets: bool,
}

/// A place to look at, and the start of its line.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Hit {
    pub(super) at: u32,
    pub(super) start: u32,
}

impl Hit {
    /// Offset of the place.
    #[inline]
    pub(super) fn place(self) -> usize {
        usize(self.at)
    }

    /// Offset of the line's first byte.
    #[inline]
    pub(super) fn start(self) -> usize {
        usize(self.start)
    }
}

/// What stands at a hit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mark {
    /// The pairs of a report line.
    Report,
    /// ` OUT=` of a packet line.
    Packet,
    /// Something for which the whole line must be looked at.
    Other,
}

const DENY: &[u8] = b"action=\"deny\"";
const ACTION: &[u8] = b"action=\"";
const OUT: &[u8] = b" OUT=";

impl Sought {
    /// What is at a hit, and where it begins; none when only a few bytes are alike.
    pub(super) fn mark(self, text: &[u8], at: usize) -> Option<(Mark, usize)> {
        let begins = |back: usize, needle: &[u8]| {
            let from = at.checked_sub(back)?;
            text.get(from..)?.starts_with(needle).then_some(from)
        };
        match (text.get(at)?, self) {
            (b'O', Self { packets: true, .. }) => begins(1, OUT).map(|from| (Mark::Packet, from)),
            (b'"', Self { reports: Reports::Denies, .. }) => begins(7, DENY).map(|from| (Mark::Report, from)),
            (b't', Self { reports: Reports::All, .. }) => begins(2, ACTION).map(|from| (Mark::Report, from)),
            (b'\n', _) => Some((Mark::Other, at + 1)),
            (b' ' | b'{' | 0x1e, _) => Some((Mark::Other, at)),
            _ => None,
        }
    }

    /// The marks of a line, as [`kinds`] tells them.
    pub(super) fn marks(self, line: &[u8]) -> Option<(bool, Option<usize>)> {
        kinds((0..line.len()).filter_map(|at| self.mark(line, at)))
    }

    /// Two bytes of the pairs, four apart, by which they are found: few other texts of a log have them so.
    fn pair(self) -> [u8; 2] {
        match self.reports {
            Reports::Denies => *b"\"y",
            Reports::All => *b"t=",
            // no text has these, and if one had, it would be no mark
            Reports::No => [0xff; 2],
        }
    }
}

/// Whether a report is among a line's marks, and where the first packet is; none when there is no mark at all.
pub(super) fn kinds(marks: impl Iterator<Item = (Mark, usize)>) -> Option<(bool, Option<usize>)> {
    marks.fold(None, |known, (mark, at)| {
        let (report, packet) = known.unwrap_or((false, None));
        Some((report || mark == Mark::Report, packet.or((mark == Mark::Packet).then_some(at))))
    })
}

/// The instructions that there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Vector {
    /// Those of any processor.
    Plain,
    /// 32 bytes at once.
    #[cfg(target_arch = "x86_64")]
    Avx2(x86::Avx2),
    /// 64 bytes at once.
    #[cfg(target_arch = "x86_64")]
    Avx512(x86::Avx512),
}

impl Default for Vector {
    fn default() -> Self {
        Self::new()
    }
}

impl Vector {
    /// What this processor can do.
    pub(super) fn new() -> Self {
        #[cfg(target_arch = "x86_64")]
        if let Some(wide) = x86::Avx512::new() {
            return Self::Avx512(wide);
        } else if let Some(wide) = x86::Avx2::new() {
            return Self::Avx2(wide);
        }
        Self::Plain
    }

    /// Adds the hits among the first `end` bytes of a text in their order, and gives the number of line ends among them. What
    /// follows is only looked at for the rest of what begins there.
    pub(super) fn sweep(self, text: &[u8], end: usize, sought: Sought, hits: &mut Vec<Hit>) -> u64 {
        match self {
            Self::Plain => sweep(text, end, sought, hits),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(wide) => wide.sweep(text, end, sought, hits),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(wide) => wide.sweep(text, end, sought, hits),
        }
    }

    /// Whether two texts are the same. Where it can be told, without a branch that depends on their length: texts of a log are
    /// of many.
    #[inline]
    pub(super) fn same(self, one: &[u8], other: &[u8]) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(wide) => wide.same(one, other),
            _ => one == other,
        }
    }

    /// What stands behind a text that another one begins with.
    #[inline]
    pub(super) fn strip<'t>(self, text: &'t [u8], start: &[u8]) -> Option<&'t [u8]> {
        let (head, rest) = text.split_at_checked(start.len())?;
        self.same(head, start).then_some(rest)
    }

    /// As [`usual::cut`].
    #[inline]
    pub(super) fn cut<'t>(self, text: &'t [u8], said: &mut Said<'t>) -> Option<()> {
        match self {
            Self::Plain => usual::cut(text, Plain, said),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(wide) => wide.cut(text, said),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(wide) => wide.cut(text, said),
        }
    }

    /// Finds the ends of the words of the line that a text begins with: quotes, backslashes, blanks, exclamation marks and
    /// control characters.
    #[inline]
    pub(super) fn words(self, text: &[u8; WINDOW], ends: &mut Ends) {
        ends.count = 0;
        match self {
            Self::Plain => words(text, ends),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(wide) => wide.words(text, ends),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(wide) => wide.words(text, ends),
        }
    }

    /// Where the line that a text begins with ends, when a packet's source is named in it; none when that cannot be told at once.
    #[inline]
    pub(super) fn packet_end(self, text: &[u8]) -> Option<usize> {
        let window = text.first_chunk::<PACKET_WINDOW>()?;
        let (end, source) = match self {
            Self::Plain => {
                let end = memchr(b'\n', window)?;
                (end, 1 + FINDERS.source.find(window.get(..end)?)?)
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(wide) => wide.packet_end(window),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(wide) => wide.packet_end(window),
        };
        let named = source < end && window.get(source.checked_sub(1)?..)?.starts_with(SOURCE);
        (named && end < PACKET_LENGTH).then_some(end)
    }

    /// Whether [`NOTICE`] may be in the first [`NOTICE_LENGTH`] bytes of a text.
    #[inline]
    pub(super) fn may_hold_notice(self, text: &[u8]) -> bool {
        let Some(window) = text.first_chunk::<NOTICE_WINDOW>() else { return !text.is_empty() };
        match self {
            Self::Plain => holds_notice(window),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(wide) => wide.may_hold_notice(window),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(wide) => wide.may_hold_notice(window),
        }
    }
}

struct Finders {
    deny: memmem::Finder<'static>,
    action: memmem::Finder<'static>,
    packet: memmem::Finder<'static>,
    notice: memmem::Finder<'static>,
    source: memmem::Finder<'static>,
}

static FINDERS: LazyLock<Finders> = LazyLock::new(|| {
    let finder = |mark: &'static [u8]| memmem::FinderBuilder::new().build_forward_with_ranker(Rare, mark);
    Finders {
        deny: finder(DENY),
        action: finder(ACTION),
        packet: finder(OUT),
        notice: finder(NOTICE),
        source: finder(SOURCE),
    }
});

/// Whether a text has [`NOTICE`] in it.
pub(super) fn holds_notice(text: &[u8]) -> bool {
    FINDERS.notice.find(text).is_some()
}

fn sweep(text: &[u8], end: usize, sought: Sought, hits: &mut Vec<Hit>) -> u64 {
    let own = text.get(..end).unwrap_or(text);
    let Finders { deny, action, packet, .. } = &*FINDERS;
    let first = hits.len();
    let near = text.get(..end.saturating_add(DENY.len())).unwrap_or(text);
    let mut seek = |finder: &memmem::Finder<'_>, skip: usize| {
        hits.extend(finder.find_iter(near).map(|at| hit(text, at + skip)).take_while(|hit| hit.place() < own.len()));
    };
    match sought.reports {
        Reports::No => {}
        Reports::Denies => seek(deny, 7),
        Reports::All => seek(action, 2),
    }
    if sought.packets {
        seek(packet, 1);
    }
    // one byte is found sooner than two, and most logs have none
    let objects = memchr_iter(b'{', near).filter_map(|brace| brace.checked_sub(1));
    let objects = objects.filter(|at| *at < own.len() && text.get(*at) == Some(&b'\n'));
    hits.extend(objects.map(|at| hit(text, at)));
    if let Some(added) = hits.get_mut(first..) {
        added.sort_unstable();
    }
    u64::try_from(memchr_iter(b'\n', own).count()).unwrap_or(0)
}

/// A hit at this place.
pub(super) fn hit(text: &[u8], at: usize) -> Hit {
    let start = text.get(..at).and_then(|before| memrchr(b'\n', before)).map_or(0, |newline| newline + 1);
    Hit { at: u32::try_from(at).unwrap_or(u32::MAX), start: u32::try_from(start).unwrap_or(u32::MAX) }
}

fn usize(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn words(text: &[u8; WINDOW], ends: &mut Ends) {
    let (blocks, _) = text.as_chunks::<8>();
    for (base, block) in (0..).step_by(8).zip(blocks) {
        let bits = eight_ends(u64::from_le_bytes(*block));
        if let Some(newline) = block.iter().position(|byte| *byte == b'\n') {
            return ends.add(base, bits & ((2 << newline) - 1));
        }
        ends.add(base, bits);
    }
    ends.count = 0;
}

/// Bytes found without wide instructions.
#[derive(Clone, Copy)]
struct Plain;

impl Find for Plain {
    fn find(self, block: &[u8; 64], byte: u8) -> Option<usize> {
        memchr(byte, block)
    }

    fn first(self, window: &[u8; WINDOW], from: usize, byte: u8) -> Option<usize> {
        Some(from + memchr(byte, window.get(from..)?)?)
    }
}

/// A bit for each byte that is less than 0x23 or a backslash.
fn eight_ends(bytes: u64) -> u64 {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const TOPS: u64 = ONES << 7;
    let low_bits = bytes & !TOPS;
    // no sum of two bytes below 0x80 carries into the next
    let at_least = (low_bits + ONES * (0x80 - 0x23)) | bytes;
    let slash = low_bits ^ (ONES * 0x5c);
    let other = (slash + ONES * 0x7f) | bytes;
    let tops = !(at_least & other) & TOPS;
    // each top bit to a place of its own in the highest byte
    (tops >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56
}

/// What this processor can do, and what any can.
#[cfg(test)]
fn all() -> Vec<Vector> {
    #[cfg(target_arch = "x86_64")]
    let wide = [x86::Avx2::new().map(Vector::Avx2), x86::Avx512::new().map(Vector::Avx512)];
    #[cfg(not(target_arch = "x86_64"))]
    let wide = [None];
    wide.into_iter().flatten().chain([Vector::Plain]).collect()
}

/// What [`Vector::cut`] makes of a text, whatever the instructions.
#[cfg(test)]
pub(super) fn cut_alike(text: &[u8]) -> Option<Said<'_>> {
    let mut cuts = all().into_iter().map(|vector| {
        let mut said = Said::default();
        vector.cut(text, &mut said).map(|()| said)
    });
    let first = cuts.next()?;
    cuts.for_each(|other| assert_eq!(other, first));
    first
}

#[cfg(test)]
mod tests;
