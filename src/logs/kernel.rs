//! Packet lines of the kernel's log (`iptables -j LOG`, `nft log`), as `nf_log_syslog` writes them.
//!
//! `PREFIX IN=eth0 OUT= MAC=… SRC=… DST=… LEN=… … PROTO=TCP SPT=… DPT=… …`. The prefix is free text and may run into `IN=`.
//! A line proves that a packet reached the rule, no more; only the prefix may tell the verdict.

mod cut;
mod prefixes;

use std::net::IpAddr;
use std::sync::LazyLock;

use memchr::memmem;

use super::event::{Action, Direction};
use super::felix::address;
use super::header::decimal;
use super::usual::equal;
use super::vector::SOURCE;
pub(super) use prefixes::Prefixes;
use prefixes::action_of;

/// One packet line.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Packet<'a> {
    /// Free text of the rule, without the separator.
    pub prefix: &'a [u8],
    /// Seconds since boot, as text.
    pub uptime: Option<&'a [u8]>,
    /// `IN=`, absent for packets of this host.
    pub in_iface: Option<&'a [u8]>,
    /// `OUT=`, absent for packets to this host and before routing.
    pub out_iface: Option<&'a [u8]>,
    /// `PHYSIN=`: the bridge port.
    pub phys_in: Option<&'a [u8]>,
    /// `PHYSOUT=`: the bridge port.
    pub phys_out: Option<&'a [u8]>,
    /// `MAC=` as written, when not empty: on Ethernet destination, source and type in 14 octets.
    pub mac: Option<&'a [u8]>,
    /// `MACSRC=`.
    pub mac_src: Option<&'a [u8]>,
    /// `MACDST=`.
    pub mac_dst: Option<&'a [u8]>,
    /// `SRC=`, or `IPSRC=` of ARP; absent when masked or broken.
    pub src: Option<IpAddr>,
    /// `DST=`, or `IPDST=` of ARP; absent when masked or broken.
    pub dst: Option<IpAddr>,
    /// IP length.
    pub length: Option<u32>,
    /// TTL or hop limit.
    pub ttl: Option<u32>,
    /// IPv4 identification.
    pub ip_id: Option<u32>,
    /// IPv4 words `DF`, `MF`, `CE`.
    pub dont_fragment: bool,
    /// More fragments follow (IPv4).
    pub more_fragments: bool,
    /// Congestion experienced.
    pub congestion: bool,
    /// Fragment offset: units of eight bytes for IPv4, bytes for IPv6.
    pub fragment: Option<u32>,
    /// `PROTO=` as written; `ARP` for ARP lines.
    pub proto: Option<&'a [u8]>,
    /// `SPT=`.
    pub src_port: Option<u16>,
    /// `DPT=`.
    pub dst_port: Option<u16>,
    /// UDP length.
    pub udp_length: Option<u32>,
    /// TCP flags: bit n stands for the n-th word of [`FLAGS`].
    pub flags: u16,
    /// TCP sequence number.
    pub sequence: Option<u32>,
    /// TCP acknowledgement number.
    pub acknowledgement: Option<u32>,
    /// TCP options in hex.
    pub tcp_options: Option<&'a [u8]>,
    /// ICMP type.
    pub icmp_type: Option<u8>,
    /// ICMP code.
    pub icmp_code: Option<u8>,
    /// ICMP echo identifier.
    pub icmp_id: Option<u32>,
    /// ICMP echo sequence.
    pub icmp_sequence: Option<u32>,
    /// Gateway of an ICMP redirect.
    pub gateway: Option<IpAddr>,
    /// MTU of an ICMP error.
    pub mtu: Option<u32>,
    /// SPI of AH or ESP, as written.
    pub spi: Option<&'a [u8]>,
    /// Packet mark.
    pub mark: Option<u32>,
    /// User of the socket.
    pub uid: Option<u32>,
    /// Group of the socket.
    pub gid: Option<u32>,
    /// The packet quoted by an ICMP error, as written.
    pub quoted: Option<&'a [u8]>,
    /// Bytes there were, when the header was cut (`INCOMPLETE [8 bytes]`).
    pub incomplete: Option<u32>,
    /// The line was cut.
    pub truncated: bool,
}

/// TCP flag words in the order the kernel writes them.
pub const FLAGS: [&str; 9] = ["AE", "CWR", "ECE", "URG", "ACK", "PSH", "RST", "SYN", "FIN"];

static SRC: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new(SOURCE));
static OUT: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new(b" OUT="));

/// Reads a packet line's message; `None` when it is not one: `IN=`, then ` OUT=`, then an address must occur.
#[must_use]
pub fn read(message: &[u8]) -> Option<Packet<'_>> {
    Opening::of(message)?.packet()
}

/// A message that begins like a packet line, taken apart up to `OUT=`.
#[derive(Clone, Copy)]
pub(super) struct Opening<'a> {
    message: &'a [u8],
    /// As written, with its separator.
    prefix: &'a [u8],
    uptime: Option<&'a [u8]>,
    /// What stands between the bracket that closes the uptime, or the start, and the interface.
    raw: &'a [u8],
    in_iface: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Opening<'a> {
    pub(super) fn of(message: &'a [u8]) -> Option<Self> {
        Self::before(message, OUT.find(message)?)
    }

    /// Takes a message apart in front of its first ` OUT=`.
    pub(super) fn before(message: &'a [u8], out: usize) -> Option<Self> {
        let before = message.get(..out)?;
        // an interface name of at most fifteen bytes is all that may stand between the two
        let from = before.len().saturating_sub(18);
        let near = before.get(from..)?;
        // mostly it is the last equals sign that ends the key
        let last = memchr::memrchr(b'=', near)?;
        let usual = near.get(..last).filter(|before| before.ends_with(b"IN")).map(|_| last - 2);
        let start = from + usual.or_else(|| near.windows(3).rposition(|word| word == b"IN="))?;
        let in_iface = before.get(start + 3..)?;
        if in_iface.contains(&b' ') {
            return None;
        }
        let (uptime, prefix) = uptime(before.get(..start)?);
        let raw = before.get(start - prefix.len()..start + 3)?;
        Some(Self { message, prefix, uptime, raw, in_iface, rest: message.get(out + 1..)? })
    }

    /// Whether it is a packet line for sure.
    pub(super) fn has_source(&self) -> bool {
        SRC.find(self.message).is_some()
    }

    /// As [`Opening::packet`], of a packet with ports without what no event tells.
    pub(super) fn brief(self) -> Option<Packet<'a>> {
        let Self { prefix, in_iface, rest, .. } = self;
        let mut packet = Packet { prefix: bare(prefix), in_iface: some(in_iface), ..Packet::default() };
        let tail = packet.fill_usual(rest);
        let whole = packet.src.is_some() && packet.dst_port.is_some() && packet.proto.is_some() && is_idle(tail);
        if whole { Some(packet) } else { self.packet() }
    }

    pub(super) fn packet(self) -> Option<Packet<'a>> {
        let Self { message, prefix, uptime, in_iface, rest, .. } = self;
        let mut packet = Packet { prefix: bare(prefix), uptime, in_iface: some(in_iface), ..Packet::default() };
        let outer = match quotation(rest) {
            Some((from, to)) => {
                packet.quoted = rest.get(from..to);
                packet.fill(rest.get(..from.saturating_sub(1))?);
                rest.get(to + 1..).unwrap_or_default()
            }
            None => rest,
        };
        packet.fill(outer);
        (packet.saw_addresses(message)).then_some(packet)
    }
}

/// A prefix without its separator.
fn bare(prefix: &[u8]) -> &[u8] {
    let prefix = prefix.trim_ascii();
    prefix.strip_suffix(b":").unwrap_or(prefix).trim_ascii_end()
}

/// Whether the words behind the ports of a packet tell nothing that an event has.
fn is_idle(words: &[u8]) -> bool {
    words.split(|byte| *byte == b' ').all(|word| {
        let mut start = [b' '; 4];
        for (to, from) in start.iter_mut().zip(word) {
            *to = *from;
        }
        cut::is_idle(&start, word.len())
    })
}

/// The packet quoted in brackets, without them. `INCOMPLETE [8 bytes]` inside has brackets too.
fn quotation(rest: &[u8]) -> Option<(usize, usize)> {
    let from = memchr::memchr_iter(b'[', rest)
        .map(|at| at + 1)
        .find(|at| rest.get(*at..).is_some_and(|text| text.starts_with(b"SRC=")))?;
    let mut depth = 1usize;
    for (at, byte) in rest.iter().enumerate().skip(from) {
        match byte {
            b'[' => depth += 1,
            b']' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some((from, at));
        }
    }
    Some((from, rest.len()))
}

/// Splits `[  398.12] ` off; also the raw form `<5>[ 398.12]`.
fn uptime(text: &[u8]) -> (Option<&[u8]>, &[u8]) {
    let read = text.strip_prefix(b"[").and_then(|rest| {
        let close = rest.iter().take(24).position(|byte| *byte == b']')?;
        let seconds = rest.get(..close)?.trim_ascii();
        let number = seconds.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.');
        (number && !seconds.is_empty()).then_some((seconds, rest.get(close + 1..)?))
    });
    read.map_or((None, text), |(seconds, rest)| (Some(seconds), rest))
}

fn some(text: &[u8]) -> Option<&[u8]> {
    (!text.is_empty()).then_some(text)
}

fn tiny(text: &[u8]) -> Option<u8> {
    decimal(text).and_then(|value| u8::try_from(value).ok())
}

fn small(text: &[u8]) -> Option<u16> {
    decimal(text).and_then(|value| u16::try_from(value).ok())
}

/// From whether interfaces are named: input only is input or prerouting.
fn direction(has_in: bool, has_out: bool) -> Option<Direction> {
    match (has_in, has_out) {
        (true, false) => Some(Direction::Ingress),
        (false, true) => Some(Direction::Egress),
        (true, true) => Some(Direction::Forward),
        (false, false) => None,
    }
}

fn hex(text: &[u8]) -> Option<u32> {
    let digits = text.strip_prefix(b"0x").unwrap_or(text);
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// Where the first blank is.
#[inline(always)]
fn blank(text: &[u8]) -> Option<usize> {
    // most words are shorter than a search with vector instructions takes to begin
    match text.first_chunk::<8>().map(|eight| equal(u64::from_le_bytes(*eight), b' ')) {
        Some(0) => memchr::memchr(b' ', text.get(8..)?).map(|at| at + 8),
        Some(top) => usize::try_from(top.trailing_zeros() / 8).ok(),
        None => text.iter().position(|byte| *byte == b' '),
    }
}

/// The value of the next word and its blank, when the word has this key.
#[inline(always)]
fn take<'t, const N: usize>(text: &mut &'t [u8], key: &[u8; N]) -> Option<&'t [u8]> {
    let (head, rest) = text.split_first_chunk::<N>()?;
    if head != key {
        return None;
    }
    let end = blank(rest)?;
    let (value, after) = rest.split_at_checked(end)?;
    *text = after.get(1..)?;
    Some(value)
}

impl<'a> Packet<'a> {
    fn saw_addresses(&self, message: &[u8]) -> bool {
        self.src.is_some() || self.dst.is_some() || SRC.find(message).is_some()
    }

    /// Reads the tokens of one packet; after a quotation it goes on where it stopped.
    fn fill(&mut self, text: &'a [u8]) {
        let rest = self.fill_usual(text);
        self.fill_words(rest);
    }

    fn fill_words(&mut self, text: &'a [u8]) {
        let mut words = text.split(|byte| *byte == b' ').filter(|word| !word.is_empty()).peekable();
        while let Some(word) = words.next() {
            let last = words.peek().is_none();
            match memchr::memchr(b'=', word).and_then(|at| Some((word.get(..at)?, word.get(at + 1..)?))) {
                Some((key, value)) => self.set(key, value),
                None => self.word(word, last),
            }
            if word == b"OPT" {
                let bytes = words.next().and_then(|word| word.strip_prefix(b"(")?.strip_suffix(b")"));
                // before PROTO these are IP options
                self.tcp_options = bytes.filter(|_| self.proto.is_some()).or(self.tcp_options);
            }
            if word == b"INCOMPLETE"
                && let Some(count) = words.peek().and_then(|word| decimal(word.strip_prefix(b"[")?))
            {
                self.incomplete = Some(count);
            }
        }
    }

    /// Reads the words that most packet lines begin with, as far as they come in the usual order; gives the rest. It does
    /// what [`Packet::set`] does with each, without having to look for it.
    fn fill_usual(&mut self, text: &'a [u8]) -> &'a [u8] {
        if self.proto.is_some() {
            return text;
        }
        let mut rest = text;
        if let Some(value) = take(&mut rest, b"OUT=") {
            self.out_iface = some(value);
        }
        if let Some(value) = take(&mut rest, b"MAC=") {
            self.mac = some(value);
        }
        if let Some(value) = take(&mut rest, b"SRC=") {
            self.src = address(value);
        }
        if let Some(value) = take(&mut rest, b"DST=") {
            self.dst = address(value);
        }
        if let Some(value) = take(&mut rest, b"LEN=") {
            self.length = decimal(value);
        }
        // known, but not kept
        take(&mut rest, b"TOS=");
        take(&mut rest, b"PREC=");
        if let Some(value) = take(&mut rest, b"TTL=") {
            self.ttl = decimal(value);
        }
        if let Some(value) = take(&mut rest, b"ID=") {
            self.ip_id = decimal(value);
        }
        if let Some(after) = rest.strip_prefix(b"DF ") {
            self.dont_fragment = true;
            rest = after;
        }
        if let Some(value) = take(&mut rest, b"PROTO=") {
            self.proto = some(value);
        }
        if let Some(value) = take(&mut rest, b"SPT=") {
            self.src_port = small(value);
        }
        if let Some(value) = take(&mut rest, b"DPT=") {
            self.dst_port = small(value);
        }
        take(&mut rest, b"WINDOW=");
        take(&mut rest, b"RES=");
        rest
    }

    fn word(&mut self, word: &'a [u8], last: bool) {
        let ip = self.proto.is_none();
        match word {
            b"DF" if ip => self.dont_fragment = true,
            b"MF" if ip => self.more_fragments = true,
            b"CE" if ip => self.congestion = true,
            b"ARP" if ip => self.proto = Some(word),
            b"TRUNCATED" => self.truncated = true,
            _ if !ip => match FLAGS.iter().position(|flag| flag.as_bytes() == word) {
                Some(bit) => self.flags |= 1 << bit,
                // a key cut before its `=` is the end of a line that was cut
                _ => self.truncated |= last && word.iter().all(u8::is_ascii_uppercase),
            },
            _ => {
                if let Some(offset) = word.strip_prefix(b"FRAG:") {
                    self.fragment = decimal(offset);
                } else {
                    self.truncated |= last && word.iter().all(u8::is_ascii_uppercase);
                }
            }
        }
    }

    fn set(&mut self, key: &[u8], value: &'a [u8]) {
        let first = self.proto.is_none();
        match key {
            b"OUT" => self.out_iface = some(value),
            b"PHYSIN" => self.phys_in = some(value),
            b"PHYSOUT" => self.phys_out = some(value),
            b"MAC" => self.mac = some(value),
            b"MACSRC" => self.mac_src = some(value),
            b"MACDST" => self.mac_dst = some(value),
            b"SRC" | b"IPSRC" => self.src = address(value),
            b"DST" | b"IPDST" => self.dst = address(value),
            // twice for UDP (IP, then UDP) and for ICMP echo (IP id, then echo id)
            b"LEN" if first => self.length = decimal(value),
            b"LEN" => self.udp_length = decimal(value),
            b"ID" if first => self.ip_id = decimal(value),
            b"ID" => self.icmp_id = decimal(value),
            b"TTL" | b"HOPLIMIT" => self.ttl = decimal(value),
            b"PROTO" if first => self.proto = some(value),
            b"SPT" => self.src_port = small(value),
            b"DPT" => self.dst_port = small(value),
            b"SEQ" if self.icmp_type.is_some() => self.icmp_sequence = decimal(value),
            b"SEQ" => self.sequence = decimal(value),
            b"ACK" => self.acknowledgement = decimal(value),
            b"TYPE" => self.icmp_type = tiny(value),
            b"CODE" => self.icmp_code = tiny(value),
            b"GATEWAY" => self.gateway = address(value),
            b"MTU" => self.mtu = decimal(value),
            b"SPI" => self.spi = some(value),
            b"MARK" => self.mark = hex(value),
            b"UID" => self.uid = decimal(value),
            b"GID" => self.gid = decimal(value),
            _ => {}
        }
    }

    /// The packet quoted by an ICMP error.
    #[must_use]
    pub fn quoted_packet(&self) -> Option<Packet<'a>> {
        let mut packet = Packet::default();
        packet.fill(self.quoted?);
        Some(packet)
    }

    /// Protocol number of `PROTO=`.
    #[must_use]
    pub fn protocol(&self) -> Option<u8> {
        match self.proto? {
            b"TCP" => Some(6),
            b"UDP" => Some(17),
            b"UDPLITE" => Some(136),
            b"ICMP" => Some(1),
            b"ICMPv6" => Some(58),
            b"AH" => Some(51),
            b"ESP" => Some(50),
            number => decimal(number).and_then(|number| u8::try_from(number).ok()),
        }
    }

    /// From the interfaces: input only is input or prerouting.
    #[must_use]
    pub fn direction(&self) -> Option<Direction> {
        direction(self.in_iface.is_some(), self.out_iface.is_some())
    }

    /// What the prefix says about the verdict, in the words firewalls use; [`Action::Log`] when it says nothing.
    #[must_use]
    pub fn action(&self) -> Action {
        action_of(self.prefix)
    }

    /// The firewall front end whose prefix this is.
    #[must_use]
    pub fn origin(&self) -> Option<&'static str> {
        let firewalld = [&b"filter_"[..], b"FINAL_REJECT", b"STATE_INVALID_DROP", b"RFC3964_IPv4_REJECT"];
        if self.prefix.starts_with(b"[UFW ") {
            Some("ufw")
        } else if firewalld.iter().any(|prefix| self.prefix.starts_with(prefix)) {
            Some("firewalld")
        } else if self.prefix.starts_with(b"Shorewall:") {
            Some("shorewall")
        } else if self.prefix.starts_with(b"calico-") {
            Some("calico")
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_only_look_alike_are_refused() {
        for text in [
            "IPv4: martian source 10.9.0.5 from 127.0.0.1, on dev eth0",
            "app: IN=a b OUT=c SRC=1.2.3.4",
            "IN=eth0 OUT=eth1 no addresses at all",
            " OUT=",
            "IN=a_name_of_more_than_15 OUT= SRC=1.2.3.4",
        ] {
            assert_eq!(read(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn the_usual_order_is_read_as_any_other() {
        let line = "OUT=eth1 MAC=08:00 SRC=1.2.3.4 DST=::1 LEN=60 TOS=0x00 PREC=0x00 TTL=63 ID=7 DF PROTO=TCP SPT=1 DPT=22 \
                    WINDOW=64240 RES=0x00 SYN URGP=0 LEN=9 MARK=0x2";
        let check = |text: &[u8]| {
            let (mut fast, mut slow) = (Packet::default(), Packet::default());
            fast.fill(text);
            slow.fill_words(text);
            assert_eq!(fast, slow, "{}", String::from_utf8_lossy(text));
        };
        check(line.as_bytes());
        let words: Vec<&str> = line.split(' ').collect();
        for from in 0..words.len() {
            for to in 0..words.len() {
                let mut swapped = words.clone();
                swapped.swap(from, to);
                check(swapped.join(" ").as_bytes());
                let mut doubled = words.clone();
                doubled.insert(to, words[from]);
                check(doubled.join(" ").as_bytes());
            }
        }
        for at in 0..line.len() {
            check(&line.as_bytes()[..at]);
            for byte in *b" =0A\xff" {
                let mut changed = line.as_bytes().to_vec();
                changed[at] = byte;
                check(&changed);
            }
        }
    }

    #[test]
    fn masked_addresses_do_not_hide_the_rest() {
        let packet = read(b"calico-packet: IN=eth1 OUT= MAC= SRC=192.XXX.XX.X DST=192.XXX.XX.X PROTO=TCP SPT=1 DPT=22")
            .expect("a packet");
        assert_eq!((packet.src, packet.dst_port), (None, Some(22)));
    }
}
