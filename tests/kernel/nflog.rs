//! The probe's eye: packets the kernel hands over through NFLOG (`linux/netfilter/nfnetlink_log.h`).

use std::os::fd::{AsRawFd, OwnedFd};

use std::net::IpAddr;

use hepguard::packet::{CtState, Protocol, Tuple};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt, socket,
    sockopt,
};

use crate::wire::Tag;

/// NFLOG group of the probe; the rulesets under test use others.
pub(crate) const GROUP: u16 = 7;
/// Before conntrack makes connections permanent: `INT_MAX`, but for IPv6 input one less.
const PRIORITY: i32 = i32::MAX - 2;
/// Bytes of each packet that are copied out: an IP header and what tells a refusal.
pub(crate) const COPIED: u32 = 60;

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
    /// What it tells its receiver, where it is a refusal.
    pub(crate) refusal: Option<Refusal>,
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
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl Log {
    /// Listens on [`GROUP`] of the calling thread's namespace.
    pub(crate) fn open() -> Result<Self, String> {
        let problem = |what: &str, error: nix::Error| format!("NFLOG: {what}: {error}");
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkNetFilter)
            .map_err(|error| problem("socket", error))?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0)).map_err(|error| problem("bind", error))?;
        setsockopt(&socket, sockopt::RcvBufForce, &(32 << 20)).map_err(|error| problem("receive buffer", error))?;
        let mut log = Self { socket, buffer: vec![0; 64 * 1024] };
        // NFULA_CFG_CMD = bind; NFULA_CFG_MODE = copy packet; NFULA_CFG_QTHRESH = 1
        let mut mode = COPIED.to_be_bytes().to_vec();
        mode.extend([2, 0]);
        log.configure(&[(1, vec![1]), (2, mode), (5, 1u32.to_be_bytes().to_vec())])?;
        Ok(log)
    }

    fn configure(&mut self, attributes: &[(u16, Vec<u8>)]) -> Result<(), String> {
        const REQUEST_ACK: u16 = 1 | 4;
        let mut payload = vec![0, 0];
        payload.extend(GROUP.to_be_bytes());
        for (kind, value) in attributes {
            payload.extend((4 + value.len() as u16).to_ne_bytes());
            payload.extend(kind.to_ne_bytes());
            payload.extend(value);
            payload.resize(payload.len().next_multiple_of(4), 0);
        }
        let mut message = (16 + payload.len() as u32).to_ne_bytes().to_vec();
        message.extend(MESSAGE_CONFIG.to_ne_bytes());
        message.extend(REQUEST_ACK.to_ne_bytes());
        message.extend([0; 8]);
        message.extend(payload);
        send(self.socket.as_raw_fd(), &message, MsgFlags::empty()).map_err(|error| format!("NFLOG: {error}"))?;
        let got = recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty())
            .map_err(|error| format!("NFLOG: {error}"))?;
        // NLMSG_ERROR with code 0 is the acknowledgement
        let answer = &self.buffer[..got];
        match (half(answer, 4), answer.get(16..20)) {
            (Some(2), Some([0, 0, 0, 0])) => Ok(()),
            _ => Err(format!("NFLOG: group {GROUP} refused: {answer:?} (kernel without nfnetlink_log?)")),
        }
    }

    /// Everything logged since the last call; never waits.
    pub(crate) fn drain(&mut self) -> Result<Vec<Seen>, String> {
        let mut seen = Vec::new();
        loop {
            match recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(got) => read_messages(&self.buffer[..got], &mut seen),
                Err(nix::Error::EAGAIN) => return Ok(seen),
                Err(error) => return Err(format!("NFLOG: {error}: packets were lost, nothing seen can be trusted")),
            }
        }
    }
}

fn half(bytes: &[u8], place: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(place..place + 2)?.try_into().ok()?))
}

fn read_messages(mut bytes: &[u8], seen: &mut Vec<Seen>) {
    while let Some(length) = bytes.get(..4).and_then(|four| four.try_into().ok()).map(u32::from_ne_bytes) {
        let length = (length as usize).clamp(16, bytes.len());
        if half(bytes, 4) == Some(MESSAGE_PACKET) {
            seen.extend(read_packet(&bytes[..length]));
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
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
    let refusal = match (Protocol(protocol), body.first(), body.get(1), body.get(13)) {
        (Protocol::TCP, _, _, Some(flags)) if flags & 4 != 0 => Some(Refusal::Reset),
        (Protocol::ICMP, Some(3), Some(code), _) | (Protocol::ICMPV6, Some(1), Some(code), _) => {
            Some(Refusal::Unreachable(*code))
        }
        (Protocol::ICMP, Some(11), ..) | (Protocol::ICMPV6, Some(3), ..) => Some(Refusal::Exceeded),
        _ => None,
    };
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

/// The probe: logs and drops, behind everything else, what the firewall let through. Its drop keeps connections out of
/// the conntrack table, so the next packet of the same addresses is NEW again. Only packets to the host itself go on,
/// to be judged where they arrive again.
pub(crate) fn probe_rules() -> String {
    let mut rules = format!("table inet {PROBE_TABLE} {{\n");
    for (place, hook, first) in [("in", "input", ""), ("out", "postrouting", "oifname \"lo\" accept\n")] {
        rules += &format!("chain {place} {{ type filter hook {hook} priority {PRIORITY}; policy accept;\n{first}");
        for (_, state) in CtState::NAMES {
            let log = format!("log prefix \"{place} {state}\" group {GROUP} snaplen {COPIED} queue-threshold 1");
            rules += &format!("ct state {state} {log} drop\n");
        }
        rules += "drop\n}\n";
    }
    rules + "}\n"
}

/// Name of the probe's table.
pub(crate) const PROBE_TABLE: &str = "hepguard_probe";
