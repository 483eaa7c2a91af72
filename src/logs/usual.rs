//! The report line that nearly every Felix writes: sixteen pairs in their usual order, without escapes.
//!
//! Read from front to back without looking for keys or ends of words. Whatever differs, even in one byte, is left to the
//! tolerant reader of [`super::felix`], which takes several times as long and reads usual lines to the same result.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};

use super::event::{Action, Direction};
use super::felix::{Flow, address};

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

/// A usual line cut at the values that differ from one report of a flow to the next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Said<'a> {
    /// All but counters and source port, as written, one part after the other.
    pub(super) text: [&'a [u8]; 3],
    /// Packets, both ways.
    pub(super) packets: u64,
    /// Bytes, both ways.
    pub(super) bytes: u64,
}

/// Cuts a usual line's pairs. A line that is cut need not be sound; but when [`read`] reads one line, it reads each other one
/// with the same text alike, counters and source port excepted.
#[inline]
pub(super) fn cut(pairs: &[u8]) -> Option<Said<'_>> {
    let mut text = Text(pairs);
    text.skip(b"action=\"")?;
    text.name()?;
    text.skip(b"\" dstIP=\"")?;
    text.name()?;
    text.skip(b"\" dstPort=\"")?;
    text.name()?;
    let first = pairs.len() - text.0.len();
    text.skip(b"\" inBytes=")?;
    let in_bytes = text.number()?;
    text.skip(b" inPackets=")?;
    let in_packets = text.number()?;
    text.skip(b" outBytes=")?;
    let out_bytes = text.number()?;
    text.skip(b" outPackets=")?;
    let out_packets = text.number()?;
    let middle = text.0;
    text.skip(b" policy=\"")?;
    text.name()?;
    text.skip(b"\" proto=\"")?;
    text.name()?;
    text.skip(b"\" rule=\"")?;
    text.name()?;
    text.skip(b"\" ruleDir=\"")?;
    text.name()?;
    text.skip(b"\" srcIP=\"")?;
    text.name()?;
    let second = middle.len() - text.0.len();
    text.skip(b"\" srcPort=\"")?;
    u16::try_from(text.number()?).ok()?;
    Some(Said {
        text: [pairs.get(..first)?, middle.get(..second)?, text.0],
        packets: in_packets + out_packets,
        bytes: in_bytes + out_bytes,
    })
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

/// The top bit of the first byte that equals `byte`, bits below it clear; those above may be set wrongly.
#[inline(always)]
fn equal(word: u64, byte: u8) -> u64 {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    let zero_where_equal = word ^ (ONES * u64::from(byte));
    zero_where_equal.wrapping_sub(ONES) & !zero_where_equal & (ONES << 7)
}

#[cfg(test)]
mod tests {
    use super::super::felix;
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
    fn lines_with_the_same_text_are_read_alike() {
        let known = cut(LINE.as_bytes()).expect("a usual line");
        let mut alike = 0;
        for at in 0..LINE.len() {
            for byte in *b"0159.:-\"\\ =abr]#\x00\x1b\xff" {
                let mut changed = LINE.as_bytes().to_vec();
                for insert in [false, true] {
                    if insert {
                        changed.insert(at, byte);
                    } else {
                        changed[at] = byte;
                    }
                    let Some(said) = cut(&changed).filter(|said| said.text == known.text) else { continue };
                    let flow = felix::read_pairs(&changed);
                    let event = super::super::event::Event::of_flow(&flow);
                    assert_eq!((flow.flaw, said.packets, said.bytes), (None, event.packets, event.bytes));
                    let usual = read(LINE.as_bytes()).expect("a usual line");
                    let Flow { in_bytes, in_packets, out_bytes, out_packets, src_port, .. } = flow.clone();
                    assert_eq!(flow, Flow { in_bytes, in_packets, out_bytes, out_packets, src_port, ..usual });
                    alike += 1;
                }
            }
        }
        assert!(alike > 50, "only {alike} lines were alike");
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
