//! The report line that nearly every Felix writes: sixteen pairs in their usual order, without escapes.
//!
//! Read from front to back without looking for keys or ends of words. Whatever differs, even in one byte, is left to the
//! tolerant reader of [`super::felix`], which takes several times as long and reads usual lines to the same result.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};

use super::event::{Action, Direction};
use super::felix::{Flow, address};
use super::vector::WINDOW;

/// Reads a usual line's pairs, from `action=` on and without blanks at the end; `None` for any other line, sound or not.
#[inline]
pub(super) fn read(pairs: &[u8]) -> Option<Flow<'_>> {
    let mut text = Text(pairs);
    text.skip(b"action=\"")?;
    let action = match text.name()? {
        b"deny" => Action::Deny,
        b"allow" => Action::Allow,
        b"pass" => Action::Pass,
        _ => return None,
    };
    text.skip(b"\" dstIP=\"")?;
    let dst_ip = text.address()?;
    text.skip(b"\" dstPort=\"")?;
    let dst_port = u16::try_from(text.number()?).ok()?;
    text.skip(b"\" inBytes=")?;
    let in_bytes = text.number()?;
    text.skip(b" inPackets=")?;
    let in_packets = text.number()?;
    text.skip(b" outBytes=")?;
    let out_bytes = text.number()?;
    text.skip(b" outPackets=")?;
    let out_packets = text.number()?;
    text.skip(b" policy=\"")?;
    let policy = text.name()?;
    text.skip(b"\" proto=\"")?;
    let proto = u8::try_from(text.number()?).ok()?;
    text.skip(b"\" rule=\"")?;
    let sign = if text.skip(b"-").is_some() { -1 } else { 1 };
    let rule = i32::try_from(text.number()?).ok()? * sign;
    text.skip(b"\" ruleDir=\"")?;
    let direction = match text.name()? {
        b"ingress" => Direction::Ingress,
        b"egress" => Direction::Egress,
        _ => return None,
    };
    text.skip(b"\" srcIP=\"")?;
    let src_ip = text.address()?;
    text.skip(b"\" srcPort=\"")?;
    let src_port = u16::try_from(text.number()?).ok()?;
    text.skip(b"\" tier=\"")?;
    let tier = text.name()?;
    text.skip(b"\" trafficDir=\"")?;
    text.name()?;
    text.skip(b"\" updateType=")?;
    let update = text.0;
    if !matches!(update, b"report" | b"expire") {
        return None;
    }
    Some(Flow {
        action,
        direction: Some(direction),
        proto: Some(proto),
        src_ip: Some(src_ip),
        dst_ip: Some(dst_ip),
        src_port: Some(src_port),
        dst_port: Some(dst_port),
        tier: Some(Cow::Borrowed(tier)),
        policy: Some(Cow::Borrowed(policy)),
        rule: Some(rule),
        in_packets,
        in_bytes,
        out_packets,
        out_bytes,
        packets: None,
        bytes: None,
        update: Some(update),
        flaw: None,
    })
}

/// A usual report or packet line cut at the values that differ from one line of a flow to the next. The other values are as
/// written.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Said<'a> {
    /// What kind of line it is: [`DENY`] and so on for report lines, [`PACKET`] and more for packets.
    pub(super) kind: u8,
    /// `dstIP` or `DST`.
    pub(super) dst: Words<'a>,
    /// `dstPort` or `DPT`, empty for ICMP packets.
    pub(super) port: Words<'a>,
    /// `srcIP` or `SRC`.
    pub(super) src: Words<'a>,
    /// From `policy` to the quote that `srcIP` opens with; of packets, what stands in front of the input interface's name.
    pub(super) middle: &'a [u8],
    /// From the quote that closes `srcPort` to the blank in front of `updateType`; of packets, the protocol, and of ICMP type
    /// and code.
    pub(super) tail: &'a [u8],
    /// Packets, both ways.
    pub(super) packets: u64,
    /// Bytes, both ways.
    pub(super) bytes: u64,
    /// Length of the pairs, or from `OUT=` on.
    pub(super) length: usize,
}

/// Kinds of report lines; the lowest three bits are never used.
pub(super) const DENY: u8 = 0x08;
/// As [`DENY`].
pub(super) const ALLOW: u8 = 0x10;
/// As [`DENY`].
pub(super) const PASS: u8 = 0x18;
/// Kinds of packet lines: this, and whether an interface is named on either side.
pub(super) const PACKET: u8 = 0x20;
/// As [`PACKET`].
pub(super) const PACKET_IN: u8 = 0x40;
/// As [`PACKET`].
pub(super) const PACKET_OUT: u8 = 0x80;

/// A value of at most [`LONG`] bytes and what follows it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Words<'a> {
    /// From the value on.
    text: &'a [u8],
    /// Length of the value.
    pub(super) length: usize,
}

/// Longest address text.
pub(super) const LONG: usize = 48;

impl<'a> Words<'a> {
    /// The value between two places of a text; none when it is too long.
    #[inline(always)]
    pub(super) fn of(text: &'a [u8], from: usize, to: usize) -> Option<Self> {
        let length = to.checked_sub(from).filter(|length| *length <= LONG)?;
        Some(Self { text: text.get(from..)?, length })
    }

    /// The value.
    #[inline]
    pub(super) fn value(&self) -> &'a [u8] {
        self.text.get(..self.length).unwrap_or_default()
    }

    /// Sixteen bytes of the value, with zeros behind its end; `None` when the text ends too near.
    #[inline(always)]
    pub(super) fn sixteen(&self, from: usize) -> Option<[u64; 2]> {
        let [low, high] = MASKS.get(self.length.saturating_sub(from).min(16))?;
        let chunk = self.text.get(from..)?.first_chunk::<16>()?;
        let (words, _) = chunk.as_chunks::<8>();
        let [first, second] = words else { return None };
        Some([u64::from_le_bytes(*first) & low, u64::from_le_bytes(*second) & high])
    }
}

/// The first n bytes of sixteen.
const MASKS: [[u64; 2]; 17] = {
    let mut masks = [[u64::MAX; 2]; 17];
    let mut kept = 0;
    while kept < 16 {
        let half = if kept % 8 == 0 { 0 } else { u64::MAX >> (64 - 8 * (kept % 8)) };
        masks[kept] = if kept < 8 { [half, 0] } else { [u64::MAX, half] };
        kept += 1;
    }
    masks
};

/// Finds bytes of a report line's pairs.
pub(super) trait Find: Copy {
    /// Where a byte is first among 64.
    fn find(self, block: &[u8; 64], byte: u8) -> Option<usize>;

    /// Where a byte is first from a place on, which is a multiple of 64.
    fn first(self, window: &[u8; WINDOW], from: usize, byte: u8) -> Option<usize>;

    /// Reads the counters that a text begins with, and says where the blank behind them is.
    fn counters(self, text: &[u8]) -> Option<([u64; 4], usize)> {
        counters(text)
    }
}

/// What stands in front of each counter.
const COUNTERS: [&[u8]; 4] = [b" inBytes=", b" inPackets=", b" outBytes=", b" outPackets="];

/// The counters one after the other.
fn counters(text: &[u8]) -> Option<([u64; 4], usize)> {
    let mut rest = Text(text);
    let mut values = [0; 4];
    for (value, key) in values.iter_mut().zip(COUNTERS) {
        rest = Text(rest.0.strip_prefix(key)?);
        *value = rest.digits()?;
    }
    (rest.0.first() == Some(&b' ')).then_some((values, text.len() - rest.0.len()))
}

/// The counters all at once: a bit for each blank among the first 64 bytes tells where they are.
#[inline(always)]
pub(super) fn counters_between(text: &[u8], mut blanks: u64) -> Option<([u64; 4], usize)> {
    // one in front of each counter, the first at once, and one behind the last
    if blanks.count_ones() <= 4 || blanks & 1 == 0 {
        return counters(text);
    }
    let mut values = [0; 4];
    let mut start = 0;
    for (value, key) in values.iter_mut().zip(COUNTERS) {
        blanks &= blanks - 1;
        let (from, to) = (usize::try_from(start).ok()?, usize::try_from(blanks.trailing_zeros()).ok()?);
        let number = text.get(from..)?.strip_prefix(key)?.first_chunk()?;
        let (digits, length) = digits(number)?;
        if from + key.len() + length != to {
            return None;
        }
        (*value, start) = (digits, blanks.trailing_zeros());
    }
    Some((values, usize::try_from(start).ok()?))
}

/// Before this place no usual line has `srcIP`, and before that one no `updateType`: even the shortest is longer.
const FIRST_SRC: usize = 64;
const FIRST_UPDATE: usize = 128;

/// Cuts the pairs of a usual line that `text` begins with; what follows the line end does not matter. What is cut need not be
/// sound, nor one line; but when [`read`] reads one line, it reads each other text with the same values alike, counters,
/// source port and kind of update excepted.
///
/// What is found first rests on as little as can be of what was found before, since the processor waits for that.
#[inline(always)]
pub(super) fn cut<'t>(text: &'t [u8], with: impl Find, said: &mut Said<'t>) -> Option<()> {
    let window = text.first_chunk::<WINDOW>()?;
    // no name that Kubernetes allows has a capital
    let src_key = with.first(window, FIRST_SRC, b'I')?.checked_sub(b" src".len())?;
    let last_end = with.first(window, FIRST_UPDATE, b'T')?.checked_sub(b" update".len())?;

    let mut rest = Text(text);
    rest.skip(b"action=\"")?;
    let kind = if rest.skip(b"deny").is_some() {
        DENY
    } else if rest.skip(b"allow").is_some() {
        ALLOW
    } else {
        rest.skip(b"pass")?;
        PASS
    };
    rest.skip(b"\" dstIP=\"")?;
    let dst_start = text.len() - rest.0.len();
    let dst_end = first(text, dst_start, b'"', with)?;
    rest = Text(text.get(dst_end..)?);
    rest.skip(b"\" dstPort=\"")?;
    let port_start = text.len() - rest.0.len();
    let port_end = first(text, port_start, b'"', with)?;
    let ([in_bytes, in_packets, out_bytes, out_packets], length) = with.counters(text.get(port_end + 1..)?)?;
    let numbers_end = port_end + 1 + length;

    rest = Text(text.get(src_key..)?);
    rest.skip(b" srcIP=\"")?;
    let src_start = src_key + b" srcIP=\"".len();
    let src_end = first(text, src_start, b'"', with)?;
    rest = Text(text.get(src_end..)?);
    rest.skip(b"\" srcPort=\"")?;
    u16::try_from(rest.digits()?).ok()?;
    let src_port_end = text.len() - rest.0.len();

    rest = Text(text.get(last_end..)?);
    rest.skip(b" updateType=")?;
    if rest.skip(b"report\n").is_none() {
        rest.skip(b"expire\n")?;
    }
    *said = Said {
        kind,
        dst: Words::of(text, dst_start, dst_end)?,
        port: Words::of(text, port_start, port_end)?,
        src: Words::of(text, src_start, src_end)?,
        middle: text.get(numbers_end..src_start)?,
        tail: text.get(src_port_end..last_end)?,
        packets: in_packets + out_packets,
        bytes: in_bytes + out_bytes,
        length: text.len() - rest.0.len() - 1,
    };
    Some(())
}

/// Where a byte is first among the next 64.
#[inline(always)]
fn first(text: &[u8], at: usize, byte: u8, with: impl Find) -> Option<usize> {
    Some(at + with.find(text.get(at..)?.first_chunk()?, byte)?)
}

/// What is left to read.
struct Text<'a>(&'a [u8]);

impl<'a> Text<'a> {
    /// Passes over what must come next. Its length is known when compiled, so that it is compared in a few instructions.
    #[inline(always)]
    fn skip<const N: usize>(&mut self, expected: &[u8; N]) -> Option<()> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        if head != expected {
            return None;
        }
        self.0 = rest;
        Some(())
    }

    /// Up to the closing quote; none when an escape comes first.
    #[inline(always)]
    fn name(&mut self) -> Option<&'a [u8]> {
        let mut at = 0;
        let end = loop {
            let rest = self.0.get(at..)?;
            let Some(eight) = rest.first_chunk::<8>() else {
                break at + rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
            };
            let word = u64::from_le_bytes(*eight);
            let hits = equal(word, b'"') | equal(word, b'\\');
            if hits != 0 {
                break at + usize::try_from(hits.trailing_zeros() / 8).ok()?;
            }
            at += 8;
        };
        let (name, rest) = self.0.split_at_checked(end)?;
        self.0 = rest;
        (rest.first() == Some(&b'"')).then_some(name)
    }

    /// One to seven digits, all at once.
    #[inline(always)]
    fn digits(&mut self) -> Option<u64> {
        let (value, length) = digits(self.0.first_chunk()?)?;
        self.0 = self.0.get(length..)?;
        Some(value)
    }

    /// One to nine digits.
    #[inline(always)]
    fn number(&mut self) -> Option<u64> {
        let mut value = 0;
        for (at, byte) in self.0.iter().enumerate().take(10) {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                self.0 = self.0.get(at..)?;
                return (at > 0).then_some(value);
            }
            value = value * 10 + u64::from(digit);
        }
        None
    }

    #[inline(always)]
    fn address(&mut self) -> Option<IpAddr> {
        match self.ipv4() {
            Some(address) => Some(IpAddr::V4(address)),
            None => address(self.name()?),
        }
    }

    /// Four numbers up to the closing quote; nothing is passed over when it is anything else.
    #[inline(always)]
    fn ipv4(&mut self) -> Option<Ipv4Addr> {
        let mut octets = [0u8; 4];
        let mut rest = self.0;
        for (place, octet) in octets.iter_mut().enumerate() {
            let (first, mut after) = rest.split_first()?;
            let mut value = u16::from(first.wrapping_sub(b'0'));
            if value > 9 {
                return None;
            }
            // no digit may follow a leading zero, and no fourth one the third
            while let Some((byte, next)) = after.split_first()
                && byte.is_ascii_digit()
            {
                if value == 0 || value > 25 {
                    return None;
                }
                value = value * 10 + u16::from(byte - b'0');
                after = next;
            }
            *octet = u8::try_from(value).ok()?;
            rest = match after.split_first()? {
                (b'.', next) if place < 3 => next,
                (b'"', _) if place == 3 => after,
                _ => return None,
            };
        }
        self.0 = rest;
        Some(Ipv4Addr::from(octets))
    }
}

/// The number that a text begins with, of one to seven digits, and how many they are.
#[inline(always)]
pub(super) fn digits(text: &[u8; 8]) -> Option<(u64, usize)> {
    let word = u64::from_le_bytes(*text) ^ (ONES * u64::from(b'0'));
    // the top bit of the first byte that is no digit; those behind it may be set wrongly
    let others = (word.wrapping_add(ONES * 0x76) | word) & (ONES << 7);
    let bits = others.trailing_zeros() & !7;
    if bits == 0 || others == 0 {
        return None;
    }
    // zeros in front, then neighbours are added up: digits, pairs, fours
    let eight = word << (64 - bits);
    let pairs = (eight.wrapping_mul(10 << 8 | 1) >> 8) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs.wrapping_mul(100 << 16 | 1) >> 16) & 0x0000_ffff_0000_ffff;
    Some((fours.wrapping_mul(10_000 << 32 | 1) >> 32, usize::try_from(bits / 8).ok()?))
}

const ONES: u64 = u64::from_le_bytes([1; 8]);

/// The top bit of the first byte that equals `byte`, bits below it clear; those above may be set wrongly.
#[inline(always)]
pub(super) fn equal(word: u64, byte: u8) -> u64 {
    let zero_where_equal = word ^ (ONES * u64::from(byte));
    zero_where_equal.wrapping_sub(ONES) & !zero_where_equal & (ONES << 7)
}

#[cfg(test)]
mod tests {
    use super::super::felix;
    use super::super::vector::cut_alike;
    use super::*;

    const LINE: &str = r#"action="deny" dstIP="147.75.40.148" dstPort="443" inBytes=0 inPackets=0 outBytes=120 outPackets=2 policy="hep-external" proto="6" rule="-1" ruleDir="egress" srcIP="10.0.1.10" srcPort="57312" tier="security" trafficDir="outbound" updateType=report"#;

    #[test]
    fn what_is_read_here_is_read_alike_by_the_tolerant_reader() {
        let mut read_here = 0;
        let mut check = |pairs: &[u8]| {
            if let Some(flow) = read(pairs) {
                assert_eq!(flow, felix::read_pairs(pairs), "{}", String::from_utf8_lossy(pairs));
                read_here += 1;
            }
        };
        let line = LINE.as_bytes();
        check(line);
        for at in 0..line.len() {
            for byte in *b"0159.:-\"\\ =abr]#\x00\x1b\xff" {
                let mut changed = line.to_vec();
                changed[at] = byte;
                check(&changed);
                changed.insert(at, byte);
                check(&changed);
            }
            check(&line[..at]);
            check(&[&line[..at], &line[at + 1..]].concat());
        }
        assert!(read_here > 100, "only {read_here} lines were usual ones");
    }

    #[test]
    fn digits_are_read_as_one_by_one() {
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..20_000 {
            let text: [u8; 8] = std::array::from_fn(|_| b"0123456789 \"/:\x00\xb5"[random.usize(..16)]);
            let length = text.iter().position(|byte| !byte.is_ascii_digit()).filter(|length| *length > 0);
            let number = |length| std::str::from_utf8(&text[..length]).expect("digits").parse().expect("a number");
            assert_eq!(digits(&text), length.map(|length| (number(length), length)), "{text:?}");
        }
    }

    #[test]
    fn a_usual_line_is_cut_in_front_of_any_other() {
        let cut_first = |text: &str| cut_alike(text.as_bytes()).map(|said| said.length);
        for behind in ["Aug  4 16:14:12 bastion sshd[12]: Invalid user x from 1.1.1.1", "", "\n\n\"", LINE] {
            let text = format!("{LINE}\n{behind}{}", "x".repeat(300));
            let said = cut_alike(text.as_bytes()).expect("a usual line");
            assert_eq!((said.packets, said.bytes, said.length), (2, 120, LINE.len()));
            assert_eq!(said.tail, b"\" tier=\"security\" trafficDir=\"outbound\"");
            assert!(said.middle.starts_with(b" policy=\"hep-") && said.middle.ends_with(b" srcIP=\""));
            assert_eq!(said.dst.sixteen(0).map(|[a, _]| a.to_le_bytes()), Some(*b"147.75.4"));
            assert_eq!(said.dst.sixteen(0).map(|[_, b]| b.to_le_bytes()), Some(*b"0.148\0\0\0"));
            assert_eq!(said.dst.sixteen(16), Some([0, 0]));
            assert_eq!(said.port.sixteen(0).map(|[a, _]| a.to_le_bytes()), Some(*b"443\0\0\0\0\0"));
        }
        let behind = "x".repeat(300);
        assert_eq!(cut_first(&format!("{LINE}\n{behind}")), Some(LINE.len()));
        for other in [" \n", "\r\n", "\t\n", " x\n", "\"\n", ""] {
            assert_eq!(cut_first(&format!("{LINE}{other}{behind}")), None, "{other:?}");
        }
    }

    #[test]
    fn counters_of_any_length_are_cut() {
        let lengths = 1..=7usize;
        let all = lengths.clone().flat_map(|a| lengths.clone().flat_map(move |b| [(a, b), (b, a)]));
        for (a, b) in all {
            let numbers = [a, b, b, a].map(|length| "1234567"[..length].to_owned());
            let [in_bytes, in_packets, out_bytes, out_packets] = &numbers;
            let line = LINE
                .replace("inBytes=0", &format!("inBytes={in_bytes}"))
                .replace("inPackets=0", &format!("inPackets={in_packets}"))
                .replace("outBytes=120", &format!("outBytes={out_bytes}"))
                .replace("outPackets=2", &format!("outPackets={out_packets}"));
            let said = format!("{line}\n{}", "x".repeat(300));
            let said = cut_alike(said.as_bytes()).expect("a usual line");
            let flow = felix::read_pairs(line.as_bytes());
            assert_eq!(said.packets, flow.in_packets + flow.out_packets, "{line}");
            assert_eq!(said.bytes, flow.in_bytes + flow.out_bytes, "{line}");
        }
        for (from, to) in [("inBytes=0", "inBytes="), ("outPackets=2 ", "outPackets=2"), ("=120", "=12345678")] {
            let text = format!("{}\n{}", LINE.replace(from, to), "x".repeat(300));
            assert_eq!(cut_alike(text.as_bytes()), None, "{to}");
        }
    }

    #[test]
    fn usual_lines_are_read_here() {
        for (from, to) in [
            ("147.75.40.148", "0.0.0.0"),
            ("147.75.40.148", "255.255.255.255"),
            ("10.0.1.10", "2606:4700::6810:84e5"),
            ("10.0.1.10", "::ffff:10.0.1.10"),
            ("rule=\"-1\"", "rule=\"12\""),
            ("report", "expire"),
            ("deny", "allow"),
            ("hep-external", "__NO_MATCH__"),
        ] {
            let line = LINE.replace(from, to);
            assert_eq!(read(line.as_bytes()), Some(felix::read_pairs(line.as_bytes())), "{line}");
        }
    }

    #[test]
    fn every_other_line_is_left_to_the_tolerant_reader() {
        for (from, to) in [
            ("147.75.40.148", "147.75.40.256"),
            ("147.75.40.148", "147.75.40.1480"),
            ("147.75.40.148", "147.75.040.148"),
            ("147.75.40.148", "147.75.40"),
            ("147.75.40.148", "147.75.40.148.1"),
            ("443", "65536"),
            ("443", ""),
            ("=120", "=1234567890"),
            ("hep-external", "a\\\"b"),
            ("hep-external\"", "hep-external"),
            (" tier", " newField=1 tier"),
            ("report", "report]"),
        ] {
            assert_eq!(read(LINE.replace(from, to).as_bytes()), None, "{to}");
        }
    }
}
