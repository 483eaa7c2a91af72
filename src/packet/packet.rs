//! One concrete packet, as rules see it at the first hook it meets.

use std::net::IpAddr;

use super::{CtDirection, CtState, CtStatus, Details, Family, Protocol, TcpFlags};

/// Which way a packet goes, seen from this host.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum Direction {
    /// To a local process.
    In,
    /// From a local process.
    Out,
    /// Through this host.
    Forward,
}

/// The link layer's view of the destination (`meta pkttype`, `-m pkttype`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum PacketType {
    /// To this host.
    Host,
    /// To everyone on the link.
    Broadcast,
    /// To a group.
    Multicast,
    /// To somebody else.
    OtherHost,
}

/// Addresses and ports of one direction of a connection. ICMP has no ports.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Tuple {
    /// Source address.
    pub src: IpAddr,
    /// Source port.
    pub sport: Option<u16>,
    /// Destination address.
    pub dst: IpAddr,
    /// Destination port.
    pub dport: Option<u16>,
}

/// What conntrack knows of the packet's connection before the first rule.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct ConntrackView {
    /// Status bits; `None` when unknown.
    pub status: Option<CtStatus>,
    /// The side the packet travels on; `None` when unknown.
    pub direction: Option<CtDirection>,
    /// The first packet's addresses; `None` when unknown (a NEW packet's are its own).
    pub original: Option<Tuple>,
    /// The answer's addresses; `None` when unknown (without NAT the original's, turned round).
    pub reply: Option<Tuple>,
    /// The connection's mark; `None` when unknown (0 for a NEW packet).
    pub mark: Option<u32>,
}

/// One packet. What is `None` is unknown, and a rule that asks for it cannot be decided.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Packet {
    /// Which way it goes.
    pub direction: Direction,
    /// Source address before any NAT.
    pub src: IpAddr,
    /// Destination address before any NAT.
    pub dst: IpAddr,
    /// Upper-layer protocol.
    pub protocol: Protocol,
    /// Source port, for protocols that have ports.
    pub sport: Option<u16>,
    /// Destination port, for protocols that have ports.
    pub dport: Option<u16>,
    /// TCP flags; of no meaning for other protocols.
    pub tcp_flags: TcpFlags,
    /// ICMP or ICMPv6 type and code.
    pub icmp: Option<(u8, u8)>,
    /// Interface it came in by; `None` for packets of this host, or when routing decides and is not known.
    pub iif: Option<Box<str>>,
    /// Interface it leaves by; `None` where routing is to tell.
    pub oif: Option<Box<str>>,
    /// Conntrack state.
    pub state: CtState,
    /// The connection's details.
    pub ct: ConntrackView,
    /// Packet mark.
    pub mark: u32,
    /// Owner of the local socket (`meta skuid`, `-m owner --uid-owner`).
    pub uid: Option<u32>,
    /// Group of the local socket.
    pub gid: Option<u32>,
    /// IPv4 TTL or IPv6 hop limit.
    pub ttl: Option<u8>,
    /// IPv4 TOS or IPv6 traffic class byte.
    pub tos: Option<u8>,
    /// Length of the IP packet in bytes.
    pub length: Option<u16>,
    /// Link-layer packet type.
    pub packet_type: Option<PacketType>,
    /// Whatever else is known.
    pub details: Details,
}

impl Packet {
    /// The first packet of a conversation as ordinary stacks send it: whole, a SYN for TCP, without IPv6 extension headers,
    /// state NEW, everything else unknown. ICMP takes no ports.
    #[must_use]
    pub fn first(direction: Direction, protocol: Protocol, src: (IpAddr, u16), dst: (IpAddr, u16)) -> Self {
        let ports = protocol.has_ports();
        Self {
            direction,
            src: src.0,
            dst: dst.0,
            protocol,
            sport: ports.then_some(src.1),
            dport: ports.then_some(dst.1),
            tcp_flags: if protocol == Protocol::TCP { TcpFlags::SYN } else { TcpFlags(0) },
            icmp: None,
            iif: None,
            oif: None,
            state: CtState::NEW,
            ct: ConntrackView::default(),
            mark: 0,
            uid: None,
            gid: None,
            ttl: None,
            tos: None,
            length: None,
            packet_type: None,
            details: Details::ordinary(),
        }
    }

    /// Whether connection tracking makes a new entry for it: it is new, and no earlier packet has left an entry behind.
    #[must_use]
    pub fn opens_connection(&self) -> bool {
        let known = self.ct.status.is_some_and(|status| status.0 & CtStatus::CONFIRMED.0 != 0);
        self.state == CtState::NEW && !known
    }

    /// The packet's family, `Ipv4` or `Ipv6`.
    #[must_use]
    pub fn family(&self) -> Family {
        Family::of(self.dst)
    }
}
