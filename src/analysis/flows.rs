//! The flows that must work on a host, each with its evidence and its first packet.
//!
//! Taken from what is there: listening sshd ports, live sessions, resolvers, DHCP. A flow that nothing points to is not
//! invented.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::host::{Host, Interface, RouteKind, Socket};
use crate::packet::{ConntrackView, CtState, Direction, Family, Packet, Protocol, TcpFlags, address_bits};
use crate::snapshot::Snapshot;

/// Most flows an inventory holds; what is left out is counted.
pub const MAX_FLOWS: usize = 64;

/// Why a flow must work.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum FlowKind {
    /// New SSH logins.
    SshIn,
    /// A session that lives now, to a listening daemon or from this host.
    Session,
    /// Name resolution.
    Resolver,
    /// DHCP lease renewal.
    Dhcp,
}

/// A flow that must work.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Flow {
    /// Why it must.
    pub kind: FlowKind,
    /// In people's words: `SSH in (tcp/22) from 198.51.100.20`.
    pub name: String,
    /// Where the evidence stands (`sockets.txt`, `resolv.conf`, …).
    pub source: &'static str,
    /// The evidence.
    pub evidence: String,
    /// The first packet of a new conversation.
    pub packet: Packet,
}

/// The inventory, most important first.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Inventory {
    /// The flows.
    pub flows: Vec<Flow>,
    /// How many more were seen and left out.
    pub left_out: usize,
}

/// Ports on which an sshd listens: by process name, else port 22 when somebody listens there. Empty when sockets are
/// unknown or no sshd listens.
#[must_use]
pub fn sshd_ports(host: &Host) -> BTreeSet<u16> {
    let listening = host.sockets.iter().flatten().filter(|s| s.listening && s.protocol == Protocol::TCP);
    listening
        .filter(|socket| !socket.local.is_loopback())
        .filter(|socket| match socket.process.as_deref() {
            Some(process) => process == "sshd" || process.starts_with("sshd-") || process == "dropbear",
            None => socket.local_port == 22,
        })
        .map(|socket| socket.local_port)
        .collect()
}

/// Takes the inventory of a host.
#[must_use]
pub fn inventory(snapshot: &Snapshot) -> Inventory {
    let host = &snapshot.host;
    let mut flows = ssh_in(host);
    flows.extend(sessions(host));
    flows.extend(resolvers(snapshot));
    flows.extend(dhcp(host));
    let mut seen: BTreeSet<String> = BTreeSet::new();
    flows.retain(|flow| seen.insert(flow.name.clone()));
    flows.sort_by_key(|flow| flow.kind);
    let left_out = flows.len().saturating_sub(MAX_FLOWS);
    flows.truncate(MAX_FLOWS);
    Inventory { flows, left_out }
}

/// A first packet: TCP SYN, or a datagram.
#[must_use]
pub fn first_packet(direction: Direction, protocol: Protocol, src: (IpAddr, u16), dst: (IpAddr, u16)) -> Packet {
    Packet {
        direction,
        src: src.0,
        dst: dst.0,
        protocol,
        sport: Some(src.1),
        dport: Some(dst.1),
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
    }
}

/// Source port of example packets; any port of the ephemeral range would do.
const EPHEMERAL: u16 = 51_522;

/// The interface towards `peer` by the longest matching route of the main table, and the address this host uses there.
#[must_use]
pub fn towards(host: &Host, peer: IpAddr) -> Option<(&Interface, IpAddr)> {
    let routes = host.routes.as_ref()?;
    let route = routes
        .iter()
        .filter(|route| route.kind == RouteKind::Unicast && route.table == 254 && route.destination.contains(peer))
        .max_by_key(|route| (route.destination.length(), std::cmp::Reverse(route.metric)))?;
    let interface = host.interface(route.device.as_deref()?)?;
    let usable = |address: IpAddr| address.is_ipv4() == peer.is_ipv4();
    let own = route.source.filter(|source| usable(*source)).or_else(|| {
        let global = interface.addresses.iter().filter(|a| usable(a.address));
        global.clone().find(|a| &*a.scope == "global").or_else(|| global.clone().next()).map(|a| a.address)
    })?;
    Some((interface, own))
}

/// A peer that stands for "some address out there" (documentation ranges, RFC 5737 and RFC 3849).
#[must_use]
pub fn somebody(family: Family) -> IpAddr {
    match family {
        Family::Ipv6 => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7)),
        _ => IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7)),
    }
}

fn incoming(host: &Host, protocol: Protocol, peer: IpAddr, local: Option<IpAddr>, port: u16) -> Option<Packet> {
    let (interface, own) = towards(host, peer)?;
    let mut packet = first_packet(Direction::In, protocol, (peer, EPHEMERAL), (local.unwrap_or(own), port));
    packet.iif = Some(interface.name.clone());
    Some(packet)
}

fn outgoing(host: &Host, protocol: Protocol, peer: IpAddr, ports: (u16, u16), local: Option<IpAddr>) -> Option<Packet> {
    let (interface, own) = towards(host, peer)?;
    let mut packet = first_packet(Direction::Out, protocol, (local.unwrap_or(own), ports.0), (peer, ports.1));
    packet.oif = Some(interface.name.clone());
    Some(packet)
}

fn ssh_in(host: &Host) -> Vec<Flow> {
    let mut flows = Vec::new();
    for port in sshd_ports(host) {
        let listens = |family: Family| {
            host.sockets.iter().flatten().any(|socket| {
                socket.listening
                    && socket.local_port == port
                    && (Family::of(socket.local) == family || (socket.local.is_unspecified() && socket.local.is_ipv6()))
            })
        };
        for family in [Family::Ipv4, Family::Ipv6].into_iter().filter(|family| listens(*family)) {
            let Some(packet) = incoming(host, Protocol::TCP, somebody(family), None, port) else { continue };
            if packet.dst.is_ipv6() && is_link_local(packet.dst) {
                continue;
            }
            flows.push(Flow {
                kind: FlowKind::SshIn,
                name: format!("SSH in (tcp/{port}, {family})"),
                source: "sockets.txt",
                evidence: format!("sshd listens on port {port}"),
                packet,
            });
        }
    }
    flows
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

fn sessions(host: &Host) -> Vec<Flow> {
    let sockets = || host.sockets.iter().flatten();
    let listening: BTreeSet<(u8, u16)> =
        sockets().filter(|s| s.listening).map(|s| (s.protocol.0, s.local_port)).collect();
    let mut flows = Vec::new();
    for socket in sockets().filter(|socket| !socket.local.is_loopback()) {
        let Some((peer, peer_port)) = socket.peer else { continue };
        flows.extend(session(
            host,
            &listening,
            socket.protocol,
            (socket.local, socket.local_port),
            (peer, peer_port),
            Some(socket),
        ));
    }
    for tracked in host.sessions.iter().flatten() {
        let (Some(sport), Some(dport)) = (tracked.original.sport, tracked.original.dport) else { continue };
        let ends = [(tracked.original.src, sport), (tracked.reply.src, dport)];
        let local: Vec<bool> = ends.iter().map(|(address, _)| host.is_local(*address) == Some(true)).collect();
        let (mine, theirs) = match local.as_slice() {
            [true, false] => (ends[0], ends[1]),
            [false, true] => (ends[1], ends[0]),
            _ => continue,
        };
        flows.extend(session(host, &listening, tracked.protocol, mine, theirs, None));
    }
    flows
}

fn session(
    host: &Host,
    listening: &BTreeSet<(u8, u16)>,
    protocol: Protocol,
    (local, local_port): (IpAddr, u16),
    (peer, peer_port): (IpAddr, u16),
    socket: Option<&Socket>,
) -> Option<Flow> {
    let who = socket.and_then(|socket| socket.process.as_deref()).map(|name| format!(" of {name}")).unwrap_or_default();
    let source = if socket.is_some() { "sockets.txt" } else { "conntrack.txt" };
    let evidence = format!("live session{who} {local}:{local_port} with {peer}:{peer_port}");
    let (name, packet) = if listening.contains(&(protocol.0, local_port)) {
        let name = format!("{protocol}/{local_port} in from {peer}");
        (name, incoming(host, protocol, peer, Some(local), local_port)?)
    } else {
        let name = format!("{protocol}/{peer_port} out to {peer}");
        (name, outgoing(host, protocol, peer, (EPHEMERAL, peer_port), Some(local))?)
    };
    Some(Flow { kind: FlowKind::Session, name, source, evidence, packet })
}

fn resolvers(snapshot: &Snapshot) -> Vec<Flow> {
    let Some(bytes) = snapshot.files.bytes("resolv.conf") else { return Vec::new() };
    let text = String::from_utf8_lossy(bytes);
    let servers = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .filter_map(|rest| rest.split_whitespace().next()?.parse::<IpAddr>().ok())
        .filter(|server| !server.is_loopback());
    let mut flows = Vec::new();
    for server in servers.take(8) {
        for protocol in [Protocol::UDP, Protocol::TCP] {
            let Some(packet) = outgoing(&snapshot.host, protocol, server, (EPHEMERAL, 53), None) else { continue };
            flows.push(Flow {
                kind: FlowKind::Resolver,
                name: format!("DNS out ({protocol}/53) to {server}"),
                source: "resolv.conf",
                evidence: format!("nameserver {server}"),
                packet,
            });
        }
    }
    flows
}

fn dhcp(host: &Host) -> Vec<Flow> {
    let mut flows = Vec::new();
    for interface in host.interfaces.iter().flatten() {
        let lease = interface.addresses.iter().find(|a| a.dynamic && a.address.is_ipv4());
        let Some(lease) = lease else { continue };
        // the server is not known here; renewals go to it by unicast, rebinding to everybody
        let mut packet =
            first_packet(Direction::Out, Protocol::UDP, (lease.address, 68), (IpAddr::V4(Ipv4Addr::BROADCAST), 67));
        packet.oif = Some(interface.name.clone());
        flows.push(Flow {
            kind: FlowKind::Dhcp,
            name: format!("DHCP out (udp/67) on {}", interface.name),
            source: "ip-addr.json",
            evidence: format!("{} is a DHCP lease on {}", lease.address, interface.name),
            packet,
        });
    }
    flows.sort_by_key(|flow| address_bits(flow.packet.src));
    flows
}
