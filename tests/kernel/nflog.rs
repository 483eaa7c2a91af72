//! The probe's eye: packets the kernel hands over through NFLOG (`linux/netfilter/nfnetlink_log.h`).

use std::net::{IpAddr, Ipv4Addr};

use hepguard::packet::{CtState, Protocol, Tuple};

use crate::netlink::{ACK, Messages, Netlink, REQUEST, half};
use crate::wire::{TAG_SHIFT, Tag};

/// NFLOG group of the probe; the rulesets under test use others.
pub(crate) const GROUP: u16 = 7;
/// Before conntrack makes connections permanent: `INT_MAX`, but for IPv6 input one less.
const PRIORITY: i32 = i32::MAX - 2;
/// Bytes of each packet that are copied out: an IP header and what tells a refusal.
pub(crate) const COPIED: u32 = 60;

/// Packets the kernel may keep back in bulk.
const BULK: u32 = 64;

const SUBSYSTEM: u16 = 4 << 8;
const MESSAGE_PACKET: u16 = SUBSYSTEM;
const MESSAGE_CONFIG: u16 = SUBSYSTEM | 1;

/// A packet that reached the probe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Seen {
    /// The IPv4 identification or the low half of the IPv6 flow label.
    pub(crate) tag: Tag,
    /// Its protocol.
    pub(crate) protocol: Protocol,
    /// Its length in bytes, IP header included.
    pub(crate) length: u16,
    /// The conntrack state the kernel gave it.
    pub(crate) state: CtState,
    /// Its packet mark.
    pub(crate) mark: u32,
    /// Index of the device it leaves by.
    pub(crate) oif: Option<u32>,
    /// Logged where packets leave (else where they arrive).
    pub(crate) leaving: bool,
    /// What it tells its receiver, where it is a refusal, and the tag of the packet it refuses.
    pub(crate) refusal: Option<(Refusal, Tag)>,
    /// The packet that says "everything sent before has been judged" ([`END`]).
    pub(crate) end: bool,
    /// Its addresses and ports as they are there.
    pub(crate) ends: Tuple,
    /// Its identifier there, where it is an ICMP message.
    pub(crate) echo_id: Option<u16>,
}

/// How a sender learns that its packet is not welcome.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refusal {
    /// A TCP reset.
    Reset,
    /// ICMP or ICMPv6 destination unreachable, with its code.
    Unreachable(u8),
    /// ICMP or ICMPv6 time exceeded.
    Exceeded,
}

/// An open NFLOG group.
pub(crate) struct Log {
    netlink: Netlink,
}

impl Log {
    /// Listens on [`GROUP`] of the calling thread's namespace.
    pub(crate) fn open() -> Result<Self, String> {
        let mut log = Self { netlink: Netlink::open()? };
        // NFULA_CFG_CMD = bind; NFULA_CFG_MODE = copy packet
        let mut mode = COPIED.to_be_bytes().to_vec();
        mode.extend([2, 0]);
        log.configure(&[(1, &[1]), (2, &mode)])?;
        log.in_bulk(false)?;
        Ok(log)
    }

    /// Whether the kernel may keep packets back and hand over many at once.
    pub(crate) fn in_bulk(&mut self, bulk: bool) -> Result<(), String> {
        // NFULA_CFG_QTHRESH
        let threshold = if bulk { BULK } else { 1 };
        self.configure(&[(5, &threshold.to_be_bytes())])
    }

    fn configure(&mut self, attributes: &[(u16, &[u8])]) -> Result<(), String> {
        let mut messages = Messages::default();
        let [high, low] = GROUP.to_be_bytes();
        messages.message(MESSAGE_CONFIG, REQUEST | ACK, &[0, 0, high, low]);
        for (kind, value) in attributes {
            messages.attribute(*kind, value);
        }
        messages.end();
        let refused = |error| format!("NFLOG: group {GROUP}: {error} (kernel without nfnetlink_log?)");
        self.netlink.request(&messages).map_err(refused)
    }

    /// Everything logged since the last call; never waits.
    pub(crate) fn drain(&mut self) -> Result<Vec<Seen>, String> {
        let mut seen = Vec::new();
        while self.read(false, &mut seen)? {}
        Ok(seen)
    }

    /// Reads what the kernel handed over in one piece. `false`: nothing, after a second's wait where asked to wait.
    pub(crate) fn read(&mut self, wait: bool, seen: &mut Vec<Seen>) -> Result<bool, String> {
        let read = |message: &[u8]| {
            if half(message, 4) == Some(MESSAGE_PACKET) {
                seen.extend(read_packet(message));
            }
        };
        let lost = |error| format!("NFLOG: {error}: packets were lost, nothing seen can be trusted");
        self.netlink.receive(wait, read).map_err(lost)
    }
}

fn read_packet(message: &[u8]) -> Option<Seen> {
    let (mut prefix, mut payload, mut mark, mut oif) = (&[][..], &[][..], 0, None);
    let mut rest = message.get(20..)?;
    while let (Some(length), Some(kind)) = (half(rest, 0), half(rest, 2)) {
        let value = rest.get(4..usize::from(length))?;
        match kind {
            2 => mark = u32::from_be_bytes(value.try_into().ok()?),
            5 => oif = Some(u32::from_be_bytes(value.try_into().ok()?)),
            9 => payload = value,
            10 => prefix = value.strip_suffix(&[0]).unwrap_or(value),
            _ => {}
        }
        rest = rest.get(usize::from(length).next_multiple_of(4)..).unwrap_or_default();
    }
    let big = |place: usize| Some(u16::from_be_bytes([*payload.get(place)?, *payload.get(place + 1)?]));
    let (tag, protocol, length, body) = match payload.first()? >> 4 {
        4 => (big(4)?, *payload.get(9)?, big(2)?, payload.get(20..)?),
        _ => (big(2)?, *payload.get(6)?, big(4)? + 40, payload.get(40..)?),
    };
    let ends = ends(Protocol(protocol), payload, body)?;
    let refusal = refusal(Protocol(protocol), body);
    let text = std::str::from_utf8(prefix).ok()?;
    let (place, state) = text.split_once(' ')?;
    Some(Seen {
        tag,
        protocol: Protocol(protocol),
        length,
        state: CtState::from_name(state)?,
        mark,
        oif,
        leaving: place == "out",
        refusal,
        end: place == "end",
        ends,
        echo_id: matches!(Protocol(protocol), Protocol::ICMP | Protocol::ICMPV6)
            .then(|| Some(u16::from_be_bytes([*body.get(4)?, *body.get(5)?])))
            .flatten(),
    })
}

fn ends(protocol: Protocol, packet: &[u8], body: &[u8]) -> Option<Tuple> {
    let address = |from: usize, length: usize| {
        let bytes = packet.get(from..from + length)?;
        <[u8; 4]>::try_from(bytes).map(IpAddr::from).or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
    };
    let port = |from: usize| Some(u16::from_be_bytes([*body.get(from)?, *body.get(from + 1)?]));
    let ports = protocol.has_ports();
    let (sport, dport) = if ports { (port(0), port(2)) } else { (None, None) };
    let (src, dst) = if packet.first()? >> 4 == 4 {
        (address(12, 4)?, address(16, 4)?)
    } else {
        (address(8, 16)?, address(24, 16)?)
    };
    Some(Tuple { src, sport, dst, dport })
}

/// The eye for conversations: logs what the firewall let through and lets it go on, so that connections become permanent.
/// What the host's own stack would answer is dropped before any other rule sees it.
pub(crate) fn watch_rules() -> String {
    let mut rules = format!("table inet {PROBE_TABLE} {{\n");
    for (place, hook, first) in [("in", "input", ""), ("out", "postrouting", "oifname \"lo\" accept\n")] {
        rules += &format!("chain {place} {{ type filter hook {hook} priority {PRIORITY}; policy accept;\n{first}");
        for (_, state) in CtState::NAMES {
            let log = format!("log prefix \"{place} {state}\" group {GROUP} snaplen {COPIED} queue-threshold 1");
            rules += &format!("ct state {state} {log} accept\n");
        }
        rules += "}\n";
    }
    rules
        + "chain own { type filter hook output priority -2147483648; policy accept;\n\
           tcp flags & rst == rst drop\nicmp type { destination-unreachable, time-exceeded, parameter-problem } drop\n\
           icmpv6 type { destination-unreachable, time-exceeded, parameter-problem } drop\n}\n}\n"
}

/// Reads a refusal, and from what it repeats of the refused packet that one's tag.
fn refusal(protocol: Protocol, body: &[u8]) -> Option<(Refusal, Tag)> {
    let (kind, code) = (*body.first()?, *body.get(1)?);
    let big = |place: usize| Some(u16::from_be_bytes([*body.get(place)?, *body.get(place + 1)?]));
    match protocol {
        Protocol::TCP if body.get(13)? & 4 != 0 => {
            let place = if body.get(13)? & 16 != 0 { 8 } else { 4 };
            let number = u32::from_be_bytes(body.get(place..place + 4)?.try_into().ok()?);
            Some((Refusal::Reset, Tag::try_from(number >> TAG_SHIFT & 0xffff).ok()?))
        }
        Protocol::ICMP if kind == 3 => Some((Refusal::Unreachable(code), big(8 + 4)?)),
        Protocol::ICMPV6 if kind == 1 => Some((Refusal::Unreachable(code), big(8 + 2)?)),
        Protocol::ICMP if kind == 11 => Some((Refusal::Exceeded, big(8 + 4)?)),
        Protocol::ICMPV6 if kind == 3 => Some((Refusal::Exceeded, big(8 + 2)?)),
        _ => None,
    }
}

/// The probe: logs and drops, behind everything else, what the firewall let through. Its drop keeps connections out of
/// the conntrack table, so the next packet of the same addresses is NEW again. Only packets to the host itself go on,
/// to be judged where they arrive again.
pub(crate) fn probe_rules() -> String {
    let (from, to) = END;
    let mut rules = format!(
        "table inet {PROBE_TABLE} {{\nchain end {{ type filter hook prerouting priority {};\n\
         ip saddr {from} ip daddr {to} log prefix \"end new\" group {GROUP} snaplen {COPIED} queue-threshold 1 drop\n}}\n",
        i32::MIN
    );
    for (place, hook, first) in [("in", "input", ""), ("out", "postrouting", "oifname \"lo\" accept\n")] {
        rules += &format!("chain {place} {{ type filter hook {hook} priority {PRIORITY}; policy accept;\n{first}");
        for (_, state) in CtState::NAMES {
            let log = format!("log prefix \"{place} {state}\" group {GROUP} snaplen {COPIED} queue-threshold {BULK}");
            rules += &format!("ct state {state} {log} drop\n");
        }
        rules += "drop\n}\n";
    }
    rules + "}\n"
}

/// Addresses of a packet that is logged before any other rule sees it (RFC 5737): whatever was sent before it has been
/// judged when it is seen.
pub(crate) const END: (Ipv4Addr, Ipv4Addr) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));

/// Name of the probe's table.
pub(crate) const PROBE_TABLE: &str = "hepguard_probe";
