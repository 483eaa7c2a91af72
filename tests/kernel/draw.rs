//! Draws packets that hit a ruleset where it decides: on the addresses, ports and marks its text names, and just beside.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use fastrand::Rng;
use hepguard::packet::{
    ConntrackView, CtDirection, CtState, CtStatus, Details, Direction, ExtensionHeader, Packet, PacketType, Prefix,
    Protocol, TcpFlags, Tuple, address_bits,
};

use crate::conntrack::Connection;
use crate::generate::UNTRACKED_TOS;
use crate::lab::DEVICES;
use crate::tun::{OWN_MAC, PEER_MAC};
use crate::wire::{self, Extra, Tag};

/// Prefixes that are local in the lab (`lab.rs`), with a weight for how often they are drawn.
const LOCAL: [&str; 12] = [
    "10.0.1.10/32",
    "10.0.1.10/32",
    "10.0.1.11/32",
    "192.168.7.10/32",
    "172.17.0.1/32",
    "10.20.0.0/16",
    "fd00:1::10/128",
    "fd00:1::10/128",
    "fd00:7::10/128",
    "fd00:17::1/128",
    "fd00:20::/32",
    "fd00:20::/32",
];

/// Peers worth meeting whatever the ruleset says: neighbours on each link and the world behind them.
const PEERS: [&str; 14] = [
    "10.0.1.77",
    "192.168.7.33",
    "172.17.0.2",
    "10.65.0.2",
    "198.51.100.9",
    "203.0.113.70",
    "147.75.40.148",
    "fd00:1::77",
    "fd00:7::33",
    "fd00:17::2",
    "fd00:65::2",
    "fd00:51::9",
    "2001:db8:113:40::1",
    "2604:1380::148",
];

const FLAGS: [u8; 16] = [2, 2, 2, 2, 2, 16, 16, 18, 4, 20, 17, 1, 0, 0x29, 0x3f, 0xc2];
/// TCP options: none, a SYN's usual ones, a size that is too small, one that nobody knows, padding alone.
const OPTIONS: [&[u8]; 7] = [
    &[],
    &[],
    &[2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 1, 2, 0, 0, 0, 0, 1, 3, 3, 7],
    &[2, 4, 5, 180],
    &[2, 4, 1, 0, 1, 3, 3, 7],
    &[254, 4, 9, 9],
    &[1, 1, 1, 0],
];

/// IPv6 extension headers: number, and bytes without the first one.
const PADDING: (u8, &[u8]) = (60, &[0, 1, 4, 0, 0, 0, 0]);
const LONG_PADDING: (u8, &[u8]) = (60, &[1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
const HOPS: (u8, &[u8]) = (0, &[0, 1, 4, 0, 0, 0, 0]);
/// One segment, at its end (RFC 8754).
const SEGMENT: (u8, &[u8]) = (43, &[2, 4, 0, 0, 0, 0x12, 0x12, 0xfd, 0, 0, 0x51, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
const EXTENSIONS: [&[(u8, &[u8])]; 5] = [&[HOPS], &[PADDING], &[LONG_PADDING], &[HOPS, PADDING], &[SEGMENT]];

const PROTOCOLS: [Protocol; 14] = [
    Protocol::TCP,
    Protocol::TCP,
    Protocol::TCP,
    Protocol::TCP,
    Protocol::TCP,
    Protocol::TCP,
    Protocol::UDP,
    Protocol::UDP,
    Protocol::UDP,
    Protocol::ICMP,
    Protocol::ICMP,
    Protocol::SCTP,
    Protocol(47),
    Protocol(4),
];
const ICMP4: [(u8, u8); 9] = [(8, 0), (8, 0), (8, 0), (0, 0), (13, 0), (3, 1), (3, 4), (11, 0), (9, 0)];
const ICMP6: [(u8, u8); 9] = [(128, 0), (128, 0), (128, 0), (129, 0), (135, 0), (136, 0), (1, 4), (3, 0), (2, 0)];

/// Status of a connection with packets both ways: the ones `conntrack -I … -u ASSURED,SEEN_REPLY` makes.
const ESTABLISHED: CtStatus = CtStatus(2 | 4 | 8 | NAT_DONE);
/// `IPS_SRC_NAT_DONE | IPS_DST_NAT_DONE`: every entry made through ctnetlink has its (empty) NAT set up.
const NAT_DONE: u32 = 128 | 256;

/// A packet to send, and what it needs.
#[derive(Clone, Debug)]
pub(crate) struct Drawn {
    /// What it is, as the library is told.
    pub(crate) packet: Packet,
    /// What only the wire needs.
    pub(crate) extra: Extra,
    /// Its connection, where one must be known.
    pub(crate) connection: Option<Connection>,
    /// What it is known by behind the firewall.
    pub(crate) tag: Tag,
    /// It, from the IP header on.
    pub(crate) bytes: Vec<u8>,
}

impl Drawn {
    /// What its connection is known by, the same for both directions.
    pub(crate) fn ends(&self) -> (u8, [(IpAddr, u16); 2]) {
        let (protocol, tuple) = match self.extra.quoted {
            Some((protocol, tuple)) => (protocol, tuple),
            None => (self.packet.protocol, tuple_of(&self.packet)),
        };
        // one protocol's ports, another's identifier
        let port = |port: Option<u16>| port.unwrap_or(self.extra.echo_id);
        let mut ends = [(tuple.src, port(tuple.sport)), (tuple.dst, port(tuple.dport))];
        ends.sort_unstable();
        (protocol.0, ends)
    }
}

/// Values worth trying, taken from a ruleset's text.
#[derive(Debug, Default)]
pub(crate) struct Pools {
    ipv4: Vec<Ipv4Addr>,
    ipv6: Vec<Ipv6Addr>,
    ports: Vec<u16>,
    marks: Vec<u32>,
    /// An Ethernet device by which some packets come in.
    ethernet: Option<&'static str>,
}

impl Pools {
    /// The same, with packets that come in by an Ethernet device of [`PEER_MAC`].
    pub(crate) fn with_ethernet(self, device: Option<&'static str>) -> Self {
        Self { ethernet: device, ..self }
    }

    /// Every address, number and hexadecimal mark in `text`, with its neighbours.
    pub(crate) fn of(text: &str) -> Self {
        let mut pools = Self::default();
        for word in text.split(|c: char| !(c.is_ascii_alphanumeric() || "./:".contains(c))) {
            pools.word(word);
        }
        for peer in PEERS.iter().chain(&LOCAL) {
            pools.word(peer);
        }
        pools.ports.extend([0, 1, 22, 53, 1023, 1024, 32_768, u16::MAX]);
        pools.marks.extend([0, 0, 1, 0x10000, 0x20000, 0x40000, u32::MAX]);
        pools.ipv4.sort_unstable();
        pools.ipv4.dedup();
        pools.ipv6.sort_unstable();
        pools.ipv6.dedup();
        pools.ports.sort_unstable();
        pools.ports.dedup();
        pools.marks.dedup();
        pools
    }

    fn word(&mut self, word: &str) {
        if let Ok(prefix) = word.trim_end_matches('.').parse::<Prefix>() {
            let (low, high) = prefix.range();
            for bits in [low.wrapping_sub(1), low, low + (high - low) / 2, high, high.wrapping_add(1)] {
                match prefix.is_ipv4() {
                    true => self.ipv4.extend(u32::try_from(bits).ok().map(Ipv4Addr::from)),
                    false => self.ipv6.push(Ipv6Addr::from(bits)),
                }
            }
            return;
        }
        for part in word.split([':', '/', '.']) {
            if let Some(mark) = part.strip_prefix("0x").and_then(|hex| u32::from_str_radix(hex, 16).ok()) {
                self.marks.extend([mark, mark ^ 1]);
            } else if let Ok(number) = part.parse::<u16>() {
                self.ports.extend([number.saturating_sub(1), number, number.saturating_add(1)]);
            }
        }
    }

    fn address(&self, rng: &mut Rng, ipv4: bool) -> IpAddr {
        match ipv4 {
            true => IpAddr::V4(choice(rng, &self.ipv4)),
            false => IpAddr::V6(choice(rng, &self.ipv6)),
        }
    }

    fn port(&self, rng: &mut Rng) -> u16 {
        if rng.u8(..8) == 0 { rng.u16(1..) } else { choice(rng, &self.ports) }
    }

    /// One packet, with the connection it needs.
    pub(crate) fn packet(&self, rng: &mut Rng, tag: Tag) -> Drawn {
        let ipv4 = rng.bool();
        let mut packet = self.fresh(rng, ipv4);
        let extra = Extra { echo_id: rng.u16(..), ..Extra::default() };
        let mut shot = Drawn { packet: packet.clone(), extra, connection: None, tag, bytes: Vec::new() };
        let answerable = packet.protocol.has_ports() && packet.protocol != Protocol::SCTP;
        match rng.u8(..10) {
            0 | 1 if answerable => self.establish(rng, &mut shot),
            2 if answerable => self.relate(rng, &mut shot),
            _ => {
                if packet.protocol == Protocol::TCP {
                    packet.tcp_flags = TcpFlags(choice(rng, &FLAGS));
                }
                shot.packet = packet;
            }
        }
        let details_told = self.dress(rng, &mut shot);
        shot.bytes = wire::encode(&shot.packet, &shot.extra, tag);
        shot.packet.length = u16::try_from(shot.bytes.len()).ok();
        shot.packet.details.transport = Some(shot.bytes[details_told..].into());
        shot
    }

    /// What is in front of the transport header and behind it, and the way the packet comes in. Says where the transport
    /// header begins.
    fn dress(&self, rng: &mut Rng, shot: &mut Drawn) -> usize {
        let packet = &mut shot.packet;
        let (v6, arrives) = (packet.dst.is_ipv6(), packet.direction != Direction::Out);
        if packet.protocol == Protocol::TCP {
            let options = choice(rng, &OPTIONS);
            packet.details.transport = Some(wire::tagged_tcp_with(packet, options, shot.tag).into());
        }
        if let Some(device) = self.ethernet.filter(|_| arrives && rng.u8(..8) == 0) {
            packet.iif = Some(device.into());
            (packet.details.source_mac, packet.details.destination_mac) = (Some(PEER_MAC), Some(OWN_MAC));
            packet.packet_type = Some(PacketType::Host);
        }
        let mut start = if v6 { 40 } else { 20 };
        if shot.connection.is_none() && arrives {
            match rng.u8(..12) {
                0 | 1 if v6 => {
                    let headers = choice(rng, &EXTENSIONS);
                    let numbers = headers.iter().map(|header| header.0).chain([packet.protocol.0]);
                    let each = headers.iter().zip(numbers.skip(1)).map(|((number, rest), next)| ExtensionHeader {
                        header: Protocol(*number),
                        bytes: [&[next], *rest].concat().into(),
                    });
                    packet.details.extensions = Some(each.collect());
                    start += headers.iter().map(|(_, rest)| 1 + rest.len()).sum::<usize>();
                }
                2 => shot.extra.in_pieces = true,
                _ => {}
            }
        }
        start
    }

    /// The first packet of something.
    pub(crate) fn fresh(&self, rng: &mut Rng, ipv4: bool) -> Packet {
        let mut protocol = choice(rng, &PROTOCOLS);
        if protocol == Protocol::ICMP && !ipv4 {
            protocol = Protocol::ICMPV6;
        }
        let direction = match rng.u8(..20) {
            0..10 => Direction::In,
            10..16 => Direction::Out,
            _ => Direction::Forward,
        };
        let (src, dst) = match direction {
            Direction::In => (self.remote(rng, ipv4), self.local(rng, ipv4)),
            Direction::Out if rng.u8(..12) == 0 => {
                // these connections become permanent, so NAT must be able to tell them apart by a port
                if protocol != Protocol::UDP {
                    protocol = Protocol::TCP;
                }
                (self.local(rng, ipv4), self.local(rng, ipv4))
            }
            Direction::Out => (self.local(rng, ipv4), self.remote(rng, ipv4)),
            Direction::Forward => (self.remote(rng, ipv4), self.remote(rng, ipv4)),
        };
        let out = direction == Direction::Out;
        let ports = protocol.has_ports();
        let icmp = match protocol {
            Protocol::ICMP => Some(choice(rng, &ICMP4)),
            Protocol::ICMPV6 => Some(choice(rng, &ICMP6)),
            _ => None,
        };
        let discovery = icmp.is_some_and(|(kind, _)| protocol == Protocol::ICMPV6 && (133..=137).contains(&kind));
        let owner = [0, 0, 1000, 1001];
        Packet {
            direction,
            src,
            dst,
            protocol,
            sport: ports.then(|| if rng.bool() { rng.u16(32_768..) } else { self.port(rng) }),
            dport: ports.then(|| self.port(rng)),
            tcp_flags: if protocol == Protocol::TCP { TcpFlags::SYN } else { TcpFlags(0) },
            icmp,
            iif: (!out).then(|| if rng.bool() { "ens5".into() } else { choice(rng, &DEVICES).into() }),
            // which one is for routing to say; here only that it is told
            oif: (out && rng.bool()).then(|| "?".into()),
            state: CtState::NEW,
            ct: ConntrackView {
                status: Some(CtStatus(0)),
                direction: Some(CtDirection::Original),
                mark: Some(0),
                ..ConntrackView::default()
            },
            mark: if out && rng.u8(..3) == 0 { choice(rng, &self.marks) } else { 0 },
            uid: out.then(|| choice(rng, &owner)),
            gid: out.then(|| choice(rng, &owner)),
            ttl: Some(if discovery { 255 } else { choice(rng, &[64, 64, 128, 255, 2, 63, 65]) }),
            tos: Some(choice(rng, &[0, 0, 0, 0x10, 0xb8, 0x02, 0x20, UNTRACKED_TOS])),
            length: None,
            packet_type: None,
            details: Details::ordinary(),
        }
        .with_tuple()
    }

    /// Makes the packet one of a known connection, in either direction; half of UDP's are the first answer.
    fn establish(&self, rng: &mut Rng, shot: &mut Drawn) {
        let packet = &mut shot.packet;
        let reply = rng.bool();
        let own = tuple_of(packet);
        let original = if reply { reversed(own) } else { own };
        let unanswered = reply && packet.protocol == Protocol::UDP && rng.bool();
        let mark = if rng.bool() { choice(rng, &self.marks) } else { 0 };
        packet.tcp_flags = TcpFlags(if packet.protocol == Protocol::TCP { 16 } else { 0 });
        packet.state = CtState::ESTABLISHED;
        let status = if unanswered { CtStatus(2 | 8 | NAT_DONE) } else { ESTABLISHED };
        let direction = if reply { CtDirection::Reply } else { CtDirection::Original };
        packet.ct = ConntrackView {
            status: Some(status),
            direction: Some(direction),
            original: Some(original),
            reply: Some(reversed(original)),
            mark: Some(mark),
        };
        shot.connection = Some(Connection { protocol: packet.protocol, original, answered: !unanswered, mark });
    }

    /// Makes the packet an ICMP error about a known connection.
    fn relate(&self, rng: &mut Rng, shot: &mut Drawn) {
        let quoted = reversed(tuple_of(&shot.packet));
        let protocol = shot.packet.protocol;
        let mark = if rng.bool() { choice(rng, &self.marks) } else { 0 };
        let packet = &mut shot.packet;
        packet.protocol = if packet.dst.is_ipv4() { Protocol::ICMP } else { Protocol::ICMPV6 };
        packet.icmp = Some(if packet.dst.is_ipv4() { (3, 1) } else { (1, 3) });
        (packet.sport, packet.dport, packet.tcp_flags) = (None, None, TcpFlags(0));
        packet.state = CtState::RELATED;
        packet.ct = ConntrackView {
            status: Some(ESTABLISHED),
            direction: Some(CtDirection::Reply),
            original: Some(quoted),
            reply: Some(reversed(quoted)),
            mark: Some(mark),
        };
        shot.extra.quoted = Some((protocol, quoted));
        shot.connection = Some(Connection { protocol, original: quoted, answered: true, mark });
    }

    fn local(&self, rng: &mut Rng, ipv4: bool) -> IpAddr {
        for _ in 0..20 {
            let address = self.address(rng, ipv4);
            if is_local(address) {
                return address;
            }
        }
        LOCAL[if ipv4 { 0 } else { 6 }].parse::<Prefix>().expect("a prefix").address()
    }

    fn remote(&self, rng: &mut Rng, ipv4: bool) -> IpAddr {
        for _ in 0..20 {
            let address = self.address(rng, ipv4);
            if !is_local(address) && is_ordinary(address) {
                return address;
            }
        }
        PEERS[if ipv4 { 0 } else { 7 }].parse().expect("an address")
    }
}

trait WithTuple {
    fn with_tuple(self) -> Self;
}

impl WithTuple for Packet {
    /// Tells conntrack's view the packet's own addresses.
    fn with_tuple(mut self) -> Self {
        self.ct.original = Some(tuple_of(&self));
        self.ct.reply = Some(reversed(tuple_of(&self)));
        self
    }
}

fn choice<T: Copy>(rng: &mut Rng, values: &[T]) -> T {
    values[rng.usize(..values.len())]
}

fn tuple_of(packet: &Packet) -> Tuple {
    Tuple { src: packet.src, sport: packet.sport, dst: packet.dst, dport: packet.dport }
}

fn reversed(tuple: Tuple) -> Tuple {
    Tuple { src: tuple.dst, sport: tuple.dport, dst: tuple.src, dport: tuple.sport }
}

fn is_local(address: IpAddr) -> bool {
    static PREFIXES: LazyLock<Vec<Prefix>> =
        LazyLock::new(|| LOCAL.iter().map(|prefix| prefix.parse().expect("a prefix")).collect());
    PREFIXES.iter().any(|prefix| prefix.contains(address))
}

/// Neither unspecified, loopback, multicast, broadcast nor reserved: the kernel judges those before the firewall.
fn is_ordinary(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !(v4.octets()[0] == 0 || v4.is_loopback() || v4.octets()[0] >= 224),
        IpAddr::V6(_) => {
            let bits = address_bits(address);
            bits >> 112 != 0 && bits >> 120 != 0xff && bits >> 118 != 0xfe80 >> 6
        }
    }
}
