//! Packet lines cut at their values, without reading them.
//!
//! Nearly all packets that a firewall logs are of a few protocols, and their lines differ in little from those before.

use super::super::event::{Action, Event};
use super::super::felix::address;
use super::super::usual::{PACKET, PACKET_IN, PACKET_OUT, Said, Words, digits};
use super::super::vector::{Ends, Vector, WINDOW};
use super::{Opening, Packet, bare, direction, small, some, tiny};

impl<'a> Opening<'a> {
    /// Cuts the words of a packet line, from `OUT=` on, at the values that an event has, but for source port and interfaces, when
    /// it is of a packet with ports and nothing is unusual. A line that is cut tells the same event as each other one that is cut
    /// alike.
    #[inline]
    pub(in crate::logs) fn cut<'t>(
        &self,
        text: &'t [u8],
        (vector, ends): (Vector, &mut Ends),
        said: &mut Said<'t>,
    ) -> Option<()>
    where
        'a: 't,
    {
        let line = text.first_chunk::<WINDOW>()?;
        vector.words(line, ends);
        let (end, blanks) = ends.places().split_last()?;
        let begins = |at: usize, expected: &[u8]| line.get(at..).is_some_and(|rest| rest.starts_with(expected));
        let mut words = blanks.iter().copied();
        if !begins(0, b"OUT=") {
            return None;
        }
        let out_end = words.next()?;
        let mut at = out_end;
        if begins(at, b" MAC=") {
            at = words.next()?;
        }
        let src_start = at + 5;
        let src_end = words.next().filter(|_| begins(at, b" SRC="))?;
        let dst_start = src_end + 5;
        let dst_end = words.next().filter(|_| begins(src_end, b" DST="))?;
        let length_end = words.next().filter(|_| begins(dst_end, b" LEN="))?;
        let bytes = number(line, dst_end + 5, length_end)?;
        at = length_end;
        // what no event has
        const OTHERS: [&[u8]; 8] =
            [b" TOS=", b" PREC=", b" TTL=", b" ID=", b" DF ", b" TC=", b" HOPLIMIT=", b" FLOWLBL="];
        while OTHERS.into_iter().any(|word| begins(at, word)) {
            at = words.next()?;
        }
        let proto_start = at + 7;
        let proto_end = words.next().filter(|_| begins(at, b" PROTO="))?;
        let (mut tail_end, mut port_start, mut port_end) = (proto_end, proto_end, proto_end);
        at = match line.get(proto_start..proto_end)? {
            b"TCP" | b"UDP" => {
                let src_port_end = words.next().filter(|_| begins(proto_end, b" SPT="))?;
                // one that is none would not hide anything, but it is nothing usual
                number(line, proto_end + 5, src_port_end).filter(|port| *port <= 0xffff)?;
                port_start = src_port_end + 5;
                port_end = words.next().or(Some(*end)).filter(|_| begins(src_port_end, b" DPT="))?;
                port_end
            }
            b"ICMP" | b"ICMPv6" => {
                let type_end = words.next().filter(|_| begins(proto_end, b" TYPE="))?;
                tail_end = words.next().or(Some(*end)).filter(|_| begins(type_end, b" CODE="))?;
                tail_end
            }
            _ => return None,
        };
        let mut idle = true;
        for next in words.chain([*end]) {
            // none when the last word was the one before
            let length = next.saturating_sub(at + 1);
            idle &= is_idle(line.get(at + 1..)?.first_chunk()?, length);
            at = next;
        }
        let only_blanks = blanks.iter().fold(true, |all, blank| all & (line.get(*blank) == Some(&b' ')));
        if !idle || !only_blanks {
            return None;
        }
        let side = |named: bool, kind: u8| if named { kind } else { 0 };
        *said = Said {
            kind: PACKET | side(!self.in_iface.is_empty(), PACKET_IN) | side(out_end > 4, PACKET_OUT),
            dst: Words::of(text, dst_start, dst_end)?,
            port: Words::of(text, port_start, port_end)?,
            src: Words::of(text, src_start, src_end)?,
            middle: self.raw,
            tail: line.get(proto_start..tail_end)?,
            packets: 1,
            bytes,
            length: *end,
        };
        Some(())
    }
}

impl<'a> Said<'a> {
    /// The event of a packet line that [`Opening::cut`] cut, interfaces and source port excepted.
    pub(in crate::logs) fn packet(&self, action: Action) -> Event<'a> {
        let Self { kind, dst, port, src, middle, tail, bytes, .. } = *self;
        let is = |bit: u8| kind & bit != 0;
        let prefix = bare(middle.strip_suffix(b"IN=").unwrap_or(middle));
        let mut words = tail.split(|byte| *byte == b' ');
        let proto = words.next();
        let mut icmp = |key: &[u8]| tiny(words.next()?.strip_prefix(key)?);
        Event {
            direction: direction(is(PACKET_IN), is(PACKET_OUT)),
            proto: Packet { proto, ..Packet::default() }.protocol(),
            icmp_type: icmp(b"TYPE="),
            icmp_code: icmp(b"CODE="),
            src_ip: address(src.value()),
            dst_ip: address(dst.value()),
            dst_port: small(port.value()),
            log_prefix: some(prefix),
            bytes,
            ..Event::of_judged_packet(&Packet::default(), action)
        }
    }
}

/// Whether a word of this length that begins so tells nothing that an event has; told without a branch, since the next word is
/// another one.
#[inline(always)]
pub(super) fn is_idle(start: &[u8; 4], length: usize) -> bool {
    const KEYS: [&[u8; 4]; 6] = [b"URGP", b"LEN=", b"MARK", b"WIND", b"RES=", b"SEQ="];
    let known = KEYS.iter().fold(false, |known, key| known | (start == *key));
    let [first, second, third, _] = *start;
    // flags, mostly
    let short = (length <= 3) & (first != b'=') & (second != b'=') & (third != b'=');
    known | short | ([first, second, third] == *b"ID=")
}

/// A number of one to seven digits between two places.
#[inline(always)]
fn number(line: &[u8; WINDOW], from: usize, to: usize) -> Option<u64> {
    let (number, length) = digits(line.get(from..)?.first_chunk()?)?;
    (from + length == to).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A packet line and the rest of a block.
    fn block(line: &str) -> Vec<u8> {
        let mut text = line.as_bytes().to_vec();
        text.push(b'\n');
        text.extend_from_slice(&[b'.'; WINDOW]);
        text
    }

    /// The event of a line that is cut; checks that the reader sees the same in it.
    fn check(text: &[u8]) -> Option<usize> {
        let out = text.windows(5).position(|word| word == b" OUT=")?;
        let opening = Opening::before(text, out)?;
        let (mut said, mut ends) = (Said::default(), Ends::new());
        opening.cut(text.get(out + 1..)?, (Vector::new(), &mut ends), &mut said)?;
        let line = text.get(..out + 1 + said.length)?;
        let shown = String::from_utf8_lossy(line);
        assert_eq!(text.get(line.len()), Some(&b'\n'), "{shown}");
        let packet = super::super::read(line.trim_ascii_end()).unwrap_or_else(|| panic!("no packet: {shown}"));
        let read = Event::of_packet(&packet);
        let unnamed = Event { in_iface: None, out_iface: None, src_port: None, ..read };
        assert_eq!(said.packet(packet.action()), unnamed, "{shown}");
        assert_eq!(said.kind & PACKET_IN != 0, packet.in_iface.is_some(), "{shown}");
        assert_eq!(said.kind & PACKET_OUT != 0, packet.out_iface.is_some(), "{shown}");
        Some(said.length)
    }

    #[test]
    fn what_is_cut_is_read_alike() {
        let mut cut = 0;
        for line in [
            "[ 12.5] calico-drop: IN=eth0 OUT=cali1 MAC=ee:ee:08:00 SRC=10.48.27.213 DST=10.0.1.99 LEN=60 TOS=0x00 PREC=0x00 \
             TTL=63 ID=43803 DF PROTO=TCP SPT=48472 DPT=3306 WINDOW=64240 RES=0x00 SYN URGP=0 MARK=0xa000000 ",
            "[UFW BLOCK] IN= OUT=eth0 SRC=fd00::1 DST=2001:0db8:0000:0000:0000:0000:0000:0077 LEN=47 TC=0 HOPLIMIT=64 \
             FLOWLBL=1 PROTO=UDP SPT=1 DPT=53 LEN=27",
            "x IN=eth0 OUT= MAC= SRC=1.2.3.4 DST=1.2.3.5 LEN=84 TOS=0x00 PREC=0x00 TTL=63 ID=8337 PROTO=ICMP TYPE=8 CODE=0 \
             ID=49412 SEQ=145 ",
        ] {
            assert_eq!(check(&block(line)), Some(line.len() - line.find("OUT=").expect("OUT=")), "{line}");
            let words: Vec<&str> = line.split(' ').collect();
            for from in 0..words.len() {
                for to in 0..words.len() {
                    let mut swapped = words.clone();
                    swapped.swap(from, to);
                    cut += usize::from(check(&block(&swapped.join(" "))).is_some());
                    let mut doubled = words.clone();
                    doubled.insert(to, words[from]);
                    cut += usize::from(check(&block(&doubled.join(" "))).is_some());
                }
            }
            for at in 0..line.len() {
                for byte in *b" =0A.:[]\"!\\\r\n\x00\xff" {
                    let mut changed = block(line);
                    changed[at] = byte;
                    cut += usize::from(check(&changed).is_some());
                    changed.insert(at, byte);
                    cut += usize::from(check(&changed).is_some());
                }
            }
        }
        assert!(cut > 1_000, "only {cut} of the changed lines were cut");
    }

    #[test]
    fn other_packets_are_left_to_the_reader() {
        let line = "x IN=a OUT= SRC=1.2.3.4 DST=1.2.3.5 LEN=60 TTL=9 ID=7 PROTO=TCP SPT=1 DPT=22 SYN URGP=0";
        assert!(check(&block(line)).is_some());
        for (from, to) in [
            ("PROTO=TCP SPT=1", "PROTO=SCTP SPT=1"),
            ("SPT=1 DPT=22", "SPT=1 DPT=22 [SRC=1.1.1.1 DST=2.2.2.2 ]"),
            ("SYN", "OPT (0204)"),
            ("SYN", "UID=0"),
            ("ID=7", "ID=7 FRAG:64"),
            ("SRC=1.2.3.4 ", ""),
            ("LEN=60", "LEN=60000000"),
            ("URGP=0", "URGP=0 SRC=9.9.9.9"),
        ] {
            assert_eq!(check(&block(&line.replace(from, to))), None, "{to}");
        }
    }
}
