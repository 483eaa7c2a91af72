//! The searches with the wide instructions of x86-64.
//!
//! A value of [`Avx2`] or [`Avx512`] is only made where the processor has these instructions, which is all that makes it safe
//! to use them; bytes are only taken from where a slice says that they are.
#![allow(unsafe_code, reason = "instructions that not every processor has")]

use std::arch::x86_64::{
    __m256i, __m512i, _MM_HINT_T0, _mm_prefetch, _mm256_and_si256, _mm256_cmpeq_epi8, _mm256_loadu_si256,
    _mm256_min_epu8, _mm256_movemask_epi8, _mm256_or_si256, _mm256_set1_epi8, _mm512_cmpeq_epi8_mask,
    _mm512_cmpneq_epi8_mask, _mm512_loadu_si512, _mm512_mask_cmpeq_epi8_mask, _mm512_maskz_loadu_epi8,
    _mm512_set1_epi8,
};

use super::{
    Ends, Hit, NOTICE_BYTES, NOTICE_LENGTH, NOTICE_WINDOW, PACKET_LENGTH, PACKET_WINDOW, Sought, WINDOW, usize,
};
use crate::logs::usual::{self, Find, Said};

/// Bytes looked at in one round, and those behind them that are needed for it.
const ROUND: usize = 64;
const AHEAD: usize = 4;
/// Bytes between a block and what is asked for meanwhile.
const NEAR: usize = 1024;
type Block = [u8; ROUND + AHEAD];

/// The right to use AVX2.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::logs) struct Avx2(());

/// The right to use AVX-512.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::logs) struct Avx512(());

impl Avx2 {
    pub(super) fn new() -> Option<Self> {
        let bits =
            is_x86_feature_detected!("popcnt") && is_x86_feature_detected!("bmi1") && is_x86_feature_detected!("lzcnt");
        (bits && is_x86_feature_detected!("avx2")).then_some(Self(()))
    }
}

impl Avx512 {
    pub(super) fn new() -> Option<Self> {
        let wide = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw");
        Avx2::new().filter(|_| wide).map(|_| Self(()))
    }
}

/// The searches, with the instructions that these features stand for; `$bytes` says what is looked for.
macro_rules! searches {
    ($wide:ident, $features:literal, $bytes:ident) => {
        impl $wide {
            /// As [`super::sweep`].
            pub(super) fn sweep(self, text: &[u8], end: usize, sought: Sought, hits: &mut Vec<Hit>) -> u64 {
                #[target_feature(enable = $features)]
                fn rounds(text: &[u8], end: usize, sought: Sought, swept: &mut Swept, hits: &mut [Hit]) -> usize {
                    let bytes = $bytes::of(sought);
                    let most = hits.len().saturating_sub(ROUND);
                    let (mut own, mut found) = (*swept, 0);
                    while let Some(block) = text.get(own.at..).and_then(|text| text.first_chunk())
                        && own.at + ROUND <= end
                        && found <= most
                    {
                        ask_for(block);
                        let (ends, marks) = bytes.round(block);
                        found = own.round(ends, marks, hits, found);
                    }
                    // a last one with fewer bytes of their own
                    if let Some(block) = text.get(own.at..).and_then(|text| text.first_chunk())
                        && own.at < end
                        && own.at + ROUND > end
                        && found <= most
                    {
                        let (ends, marks) = bytes.round(block);
                        let last = (1 << (end - own.at)) - 1;
                        found = own.round(ends & last, marks & last, hits, found);
                        own.at = end;
                    }
                    *swept = own;
                    found
                }

                // SAFETY: a value of this type is only made where the processor has these instructions
                sweep(text, end, sought, hits, |swept, room| unsafe { rounds(text, end, sought, swept, room) })
            }

            /// As [`usual::cut`].
            #[inline]
            pub(super) fn cut<'t>(self, text: &'t [u8], said: &mut Said<'t>) -> Option<()> {
                #[target_feature(enable = $features)]
                fn cut<'t>(text: &'t [u8], said: &mut Said<'t>) -> Option<()> {
                    usual::cut(text, $wide(()), said)
                }

                // SAFETY: as above
                unsafe { cut(text, said) }
            }

            /// As [`super::words`].
            #[inline]
            pub(super) fn words(self, text: &[u8; WINDOW], ends: &mut Ends) {
                #[target_feature(enable = $features)]
                fn all(text: &[u8; WINDOW], ends: &mut Ends) {
                    let (blocks, _) = text.as_chunks::<ROUND>();
                    for (base, block) in (0..).step_by(ROUND).zip(blocks) {
                        let (bits, end) = words(block);
                        if end != 0 {
                            // up to the first one
                            return ends.add(base, bits & (end ^ (end - 1)));
                        }
                        ends.add(base, bits);
                    }
                    ends.count = 0;
                }

                // SAFETY: as above
                unsafe { all(text, ends) }
            }

            /// Where the first line ends, and where the first `SR` is; not less than [`PACKET_LENGTH`] when there is none.
            #[inline]
            pub(super) fn packet_end(self, text: &[u8; PACKET_WINDOW]) -> (usize, usize) {
                #[target_feature(enable = $features)]
                fn both(text: &[u8; PACKET_WINDOW]) -> (usize, usize) {
                    let (mut end, mut source) = (0, 0);
                    for from in (0..PACKET_LENGTH).step_by(ROUND) {
                        let (ends, sources) = $bytes::ends_and_sources(text, from);
                        // each block counts when there was none in those in front, without a branch
                        let add = |at: u32, bits: u64| at + if usize(at) == from { bits.trailing_zeros() } else { 0 };
                        (end, source) = (add(end, ends), add(source, sources));
                    }
                    (usize(end), usize(source))
                }

                // SAFETY: as above
                unsafe { both(text) }
            }

            /// As [`super::Vector::may_hold_notice`].
            #[inline]
            pub(super) fn may_hold_notice(self, text: &[u8; NOTICE_WINDOW]) -> bool {
                #[target_feature(enable = $features)]
                fn any(text: &[u8; NOTICE_WINDOW]) -> bool {
                    $bytes::notice(text)
                }

                // SAFETY: as above
                unsafe { any(text) }
            }
        }
    };
}

searches!(Avx2, "avx2,popcnt,bmi1,lzcnt", Bytes);
searches!(Avx512, "avx512f,avx512bw,avx2,popcnt,bmi1,lzcnt", WideBytes);

impl Avx512 {
    /// As [`super::Vector::same`].
    #[inline]
    pub(super) fn same(self, one: &[u8], other: &[u8]) -> bool {
        #[target_feature(enable = "avx512f,avx512bw")]
        fn same(one: &[u8], other: &[u8]) -> bool {
            let kept = |from: usize| {
                let gone = u32::try_from((ROUND + from).saturating_sub(one.len())).unwrap_or(u32::MAX);
                u64::MAX.checked_shr(gone).unwrap_or(0)
            };
            let differ = |from: usize| {
                let load = |text: &[u8]| {
                    // SAFETY: bytes that are not kept are not read, and both texts have those that are
                    unsafe { _mm512_maskz_loadu_epi8(kept(from), text.as_ptr().wrapping_add(from).cast()) }
                };
                _mm512_cmpneq_epi8_mask(load(one), load(other))
            };
            differ(0) | differ(ROUND) == 0
        }

        if one.len() != other.len() || one.len() > 2 * ROUND {
            return one == other;
        }
        // SAFETY: as above
        unsafe { same(one, other) }
    }
}

/// The bytes of a report line, with the instructions that these features stand for; `$equal` tells where a byte is among 64.
macro_rules! finds {
    ($wide:ident, $equal:ident) => {
        impl Find for $wide {
            #[inline(always)]
            fn find(self, block: &[u8; ROUND], byte: u8) -> Option<usize> {
                // SAFETY: as above
                let all = unsafe { $equal(block, 0, byte) };
                if all == 0 { None } else { usize::try_from(all.trailing_zeros()).ok() }
            }

            #[inline(always)]
            fn first(self, window: &[u8; WINDOW], from: usize, byte: u8) -> Option<usize> {
                let mut place = from;
                for block in (from..WINDOW).step_by(ROUND) {
                    // SAFETY: as above
                    let bits = unsafe { $equal(window, block, byte) };
                    // a block counts when there was none in those in front, without a branch
                    place += if place == block { usize(bits.trailing_zeros()) } else { 0 };
                }
                (place < WINDOW).then_some(place)
            }

            #[inline(always)]
            fn counters(self, text: &[u8]) -> Option<([u64; 4], usize)> {
                let block: &[u8; ROUND] = text.first_chunk()?;
                // SAFETY: as above
                usual::counters_between(text, unsafe { $equal(block, 0, b' ') })
            }
        }
    };
}

finds!(Avx2, equal);
finds!(Avx512, wide_equal);

/// Where a byte is among 64.
#[inline]
#[target_feature(enable = "avx2,bmi1")]
fn equal<const N: usize>(block: &[u8; N], from: usize, byte: u8) -> u64 {
    let half = |from: usize| bits(_mm256_cmpeq_epi8(load(block, from), splat(byte)));
    half(from) | half(from + 32) << 32
}

/// As [`equal`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,bmi1")]
fn wide_equal<const N: usize>(block: &[u8; N], from: usize, byte: u8) -> u64 {
    _mm512_cmpeq_epi8_mask(wide_load(block, from), wide_splat(byte))
}

/// How far a sweep is.
#[derive(Clone, Copy, Default)]
struct Swept {
    at: usize,
    /// Start of the line there.
    start: u32,
    lines: u64,
}

impl Swept {
    /// Adds the hits of a round to those found already, and gives their number.
    #[inline(always)]
    fn round(&mut self, ends: u64, mut marks: u64, hits: &mut [Hit], mut found: usize) -> usize {
        let base = u32::try_from(self.at).unwrap_or(u32::MAX);
        while marks != 0 {
            let place = marks.trailing_zeros();
            let before = ends & ((1 << place) - 1);
            let start = if before == 0 { self.start } else { base + 64 - before.leading_zeros() };
            if let Some(hit) = hits.get_mut(found) {
                *hit = Hit { at: base + place, start };
            }
            found += 1;
            marks &= marks - 1;
        }
        self.lines += u64::from(ends.count_ones());
        self.start = if ends == 0 { self.start } else { base + 64 - ends.leading_zeros() };
        self.at += ROUND;
        found
    }
}

/// Sweeps with `rounds`, which goes on until the end or until there is no room for the hits of another round, and gives the
/// number of hits.
fn sweep(
    text: &[u8],
    end: usize,
    sought: Sought,
    hits: &mut Vec<Hit>,
    mut rounds: impl FnMut(&mut Swept, &mut [Hit]) -> usize,
) -> u64 {
    let end = end.min(text.len());
    let mut swept = Swept::default();
    while swept.at < end && swept.at + size_of::<Block>() <= text.len() {
        let known = hits.len();
        // room that is made here need not be made in the loop
        hits.resize(known + 4 * ROUND, Hit { at: 0, start: 0 });
        let found = rounds(&mut swept, hits.get_mut(known..).unwrap_or_default());
        hits.truncate(known + found);
    }
    // the last bytes of the text, which are too few for a round
    let [first, fifth] = sought.pair();
    for at in swept.at..end {
        let byte = |ahead: usize| text.get(at + ahead).copied();
        let place = u32::try_from(at).unwrap_or(u32::MAX);
        let object = byte(0) == Some(b'\n') && byte(1) == Some(b'{');
        let packet = sought.packets && byte(0) == Some(b'O') && byte(1) == Some(b'U');
        if object || packet || (byte(0) == Some(first) && byte(4) == Some(fifth)) {
            hits.push(Hit { at: place, start: swept.start });
        }
        if byte(0) == Some(b'\n') {
            (swept.lines, swept.start) = (swept.lines + 1, place + 1);
        }
    }
    swept.lines
}

/// Two bytes of packet lines; where none are wanted, bytes that are in no mark.
fn packet(sought: Sought) -> [u8; 2] {
    if sought.packets { *b"OU" } else { [0xff; 2] }
}

/// What is looked for, 32 times each.
struct Bytes {
    newline: __m256i,
    brace: __m256i,
    packet: [__m256i; 2],
    report: [__m256i; 2],
}

impl Bytes {
    #[target_feature(enable = "avx2")]
    fn of(sought: Sought) -> Self {
        let ([o, u], [first, fifth]) = (packet(sought), sought.pair());
        let (packet, report) = ([splat(o), splat(u)], [splat(first), splat(fifth)]);
        Self { newline: splat(b'\n'), brace: splat(b'{'), packet, report }
    }

    /// Where lines end and where marks may be.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn round(&self, block: &Block) -> (u64, u64) {
        let ((ends, marks), (more_ends, more_marks)) = (self.half(block, 0), self.half(block, 32));
        (ends | more_ends << 32, marks | more_marks << 32)
    }

    /// Where lines end, and where `SR` is, among 64 bytes.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn ends_and_sources(text: &[u8; PACKET_WINDOW], from: usize) -> (u64, u64) {
        let half = |from: usize| {
            let [one, two] = [load(text, from), load(text, from + 1)];
            let sources = _mm256_and_si256(_mm256_cmpeq_epi8(one, splat(b'S')), _mm256_cmpeq_epi8(two, splat(b'R')));
            (bits(_mm256_cmpeq_epi8(one, splat(b'\n'))), bits(sources))
        };
        let ((ends, sources), (more_ends, more_sources)) = (half(from), half(from + 32));
        (ends | more_ends << 32, sources | more_sources << 32)
    }

    /// Whether the bytes of a notice are somewhere.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn notice(text: &[u8; NOTICE_WINDOW]) -> bool {
        let found = |from: usize| {
            let [first, second, third] =
                NOTICE_BYTES.map(|(ahead, byte)| _mm256_cmpeq_epi8(load(text, from + ahead), splat(byte)));
            _mm256_and_si256(first, _mm256_and_si256(second, third))
        };
        let places = (0..NOTICE_LENGTH).step_by(32);
        bits(places.fold(splat(0), |all, from| _mm256_or_si256(all, found(from)))) != 0
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn half(&self, block: &Block, from: usize) -> (u64, u64) {
        let Self { newline, brace, packet: [o, u], report: [first, fifth] } = *self;
        let [one, two, five] = [load(block, from), load(block, from + 1), load(block, from + 4)];
        let ends = _mm256_cmpeq_epi8(one, newline);
        let objects = _mm256_and_si256(ends, _mm256_cmpeq_epi8(two, brace));
        let packets = _mm256_and_si256(_mm256_cmpeq_epi8(one, o), _mm256_cmpeq_epi8(two, u));
        let reports = _mm256_and_si256(_mm256_cmpeq_epi8(one, first), _mm256_cmpeq_epi8(five, fifth));
        (bits(ends), bits(_mm256_or_si256(objects, _mm256_or_si256(packets, reports))))
    }
}

/// Ends of words and of lines.
#[inline]
#[target_feature(enable = "avx2")]
fn words(block: &[u8; ROUND]) -> (u64, u64) {
    let half = |from: usize| {
        let bytes = load(block, from);
        let low = _mm256_cmpeq_epi8(_mm256_min_epu8(bytes, splat(0x22)), bytes);
        let end = _mm256_or_si256(low, _mm256_cmpeq_epi8(bytes, splat(b'\\')));
        (bits(end), bits(_mm256_cmpeq_epi8(bytes, splat(b'\n'))))
    };
    let ((low, low_end), (high, high_end)) = (half(0), half(32));
    (low | high << 32, low_end | high_end << 32)
}

/// Asks for what is [`NEAR`] behind a block: the processor does not go as far on its own.
#[inline]
fn ask_for(block: &Block) {
    let place = block.as_ptr().wrapping_add(NEAR);
    // SAFETY: a hint, which takes any address
    unsafe { _mm_prefetch::<_MM_HINT_T0>(place.cast()) }
}

/// 32 bytes from a place on.
#[inline]
#[target_feature(enable = "avx2")]
fn load<const N: usize>(block: &[u8; N], from: usize) -> __m256i {
    let bytes: &[u8; 32] = block[from..].first_chunk().expect("a place in front of the last 32 bytes");
    // SAFETY: these are 32 bytes, and the instruction does not ask how they are aligned
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn splat(byte: u8) -> __m256i {
    _mm256_set1_epi8(byte.cast_signed())
}

/// The top bit of each byte.
#[inline]
#[target_feature(enable = "avx2")]
fn bits(bytes: __m256i) -> u64 {
    u64::from(_mm256_movemask_epi8(bytes).cast_unsigned())
}

/// What is looked for, 64 times each.
struct WideBytes {
    newline: __m512i,
    brace: __m512i,
    packet: [__m512i; 2],
    report: [__m512i; 2],
}

impl WideBytes {
    #[target_feature(enable = "avx512f,avx512bw")]
    fn of(sought: Sought) -> Self {
        let ([o, u], [first, fifth]) = (packet(sought), sought.pair());
        let (packet, report) = ([wide_splat(o), wide_splat(u)], [wide_splat(first), wide_splat(fifth)]);
        Self { newline: wide_splat(b'\n'), brace: wide_splat(b'{'), packet, report }
    }

    /// As [`Bytes::round`].
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn round(&self, block: &Block) -> (u64, u64) {
        let Self { newline, brace, packet: [o, u], report: [first, fifth] } = *self;
        let [one, two, five] = [wide_load(block, 0), wide_load(block, 1), wide_load(block, 4)];
        let ends = _mm512_cmpeq_epi8_mask(one, newline);
        let objects = _mm512_mask_cmpeq_epi8_mask(ends, two, brace);
        let packets = _mm512_mask_cmpeq_epi8_mask(_mm512_cmpeq_epi8_mask(one, o), two, u);
        let reports = _mm512_mask_cmpeq_epi8_mask(_mm512_cmpeq_epi8_mask(one, first), five, fifth);
        (ends, objects | packets | reports)
    }

    /// As [`Bytes::ends_and_sources`].
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn ends_and_sources(text: &[u8; PACKET_WINDOW], from: usize) -> (u64, u64) {
        let [one, two] = [wide_load(text, from), wide_load(text, from + 1)];
        let sources = _mm512_cmpeq_epi8_mask(one, wide_splat(b'S'));
        (_mm512_cmpeq_epi8_mask(one, wide_splat(b'\n')), _mm512_mask_cmpeq_epi8_mask(sources, two, wide_splat(b'R')))
    }

    /// As [`Bytes::notice`].
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn notice(text: &[u8; NOTICE_WINDOW]) -> bool {
        let found = |from: usize| {
            let [first, second, third] = NOTICE_BYTES;
            let at = |(ahead, _): (usize, u8)| wide_load(text, from + ahead);
            let firsts = _mm512_cmpeq_epi8_mask(at(first), wide_splat(first.1));
            let seconds = _mm512_mask_cmpeq_epi8_mask(firsts, at(second), wide_splat(second.1));
            _mm512_mask_cmpeq_epi8_mask(seconds, at(third), wide_splat(third.1))
        };
        (0..NOTICE_LENGTH).step_by(64).fold(0, |all, from| all | found(from)) != 0
    }
}

/// 64 bytes from a place on.
#[inline]
#[target_feature(enable = "avx512f")]
fn wide_load<const N: usize>(block: &[u8; N], from: usize) -> __m512i {
    let bytes: &[u8; 64] = block[from..].first_chunk().expect("a place in front of the last 64 bytes");
    // SAFETY: these are 64 bytes, and the instruction does not ask how they are aligned
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn wide_splat(byte: u8) -> __m512i {
    _mm512_set1_epi8(byte.cast_signed())
}
