//! The flows that must work on a host, each with its evidence and its first packet.
//!
//! Taken from what is there: listening sshd ports, live sessions, resolvers, DHCP. A flow that nothing points to is not
//! invented.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::route::{RouteQuery, Routed, Router};
use crate::host::{Host, Interface, InterfaceAddress, RouteKind, Socket};
use crate::packet::{Direction, Family, Packet, Prefix, Protocol, address_bits};
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
    let links = Links::new(host);
    let mut flows = ssh_in(host, &links);
    let resolvers = resolvers(snapshot, &links);
    // a tracked query is a session, too; the resolver says more
    flows.extend(sessions(host, &links).into_iter().filter(|one| resolvers.iter().all(|dns| dns.packet != one.packet)));
    flows.extend(resolvers);
    flows.extend(dhcp(host));
    let mut seen: BTreeSet<String> = BTreeSet::new();
    flows.retain(|flow| seen.insert(flow.name.clone()));
    flows.sort_by_key(|flow| flow.kind);
    let left_out = flows.len().saturating_sub(MAX_FLOWS);
    flows.truncate(MAX_FLOWS);
    Inventory { flows, left_out }
}

/// Source port of example packets; any port of the ephemeral range would do.
pub const EPHEMERAL: u16 = 51_522;

/// Where this host's packets leave, and with which address.
#[derive(Debug)]
pub struct Links<'a> {
    router: Router<'a>,
}

impl<'a> Links<'a> {
    /// Of this host.
    #[must_use]
    pub fn new(host: &'a Host) -> Self {
        Self { router: Router::new(host) }
    }

    /// The interface towards `peer`, and an address of this host there; `None` where routes do not tell, or `peer` is this
    /// host.
    #[must_use]
    pub fn towards(&self, peer: IpAddr) -> Option<(&'a Interface, IpAddr)> {
        let query = RouteQuery::from_here(peer);
        let Routed::Route { kind: RouteKind::Unicast, device: Some(device) } = self.router.lookup(&query) else {
            return None;
        };
        let interface = self.router.host().interface(device)?;
        let own = interface.addresses.iter().filter(|own| own.address.is_ipv4() == peer.is_ipv4());
        let on_link = |own: &&InterfaceAddress| {
            Prefix::new(own.address, own.prefix_length).is_some_and(|network| network.contains(peer))
        };
        let global = |own: &&InterfaceAddress| &*own.scope == "global";
        let best = own.clone().find(on_link).or_else(|| own.clone().find(global)).or_else(|| own.clone().next())?;
        Some((interface, best.address))
    }

    /// The first packet from `peer` to a port of this host.
    #[must_use]
    pub fn incoming(
        &self,
        protocol: Protocol,
        peer: (IpAddr, u16),
        local: Option<IpAddr>,
        port: u16,
    ) -> Option<Packet> {
        let (interface, own) = self.towards(peer.0)?;
        let mut packet = Packet::first(Direction::In, protocol, peer, (local.unwrap_or(own), port));
        packet.iif = Some(interface.name.clone());
        Some(packet)
    }

    /// The first packet from this host to a port of `peer`.
    #[must_use]
    pub fn outgoing(
        &self,
        protocol: Protocol,
        local: Option<IpAddr>,
        sport: u16,
        peer: (IpAddr, u16),
    ) -> Option<Packet> {
        let (interface, own) = self.towards(peer.0)?;
        let mut packet = Packet::first(Direction::Out, protocol, (local.unwrap_or(own), sport), peer);
        packet.oif = Some(interface.name.clone());
        Some(packet)
    }
}

/// A peer that stands for "some address out there" (documentation ranges, RFC 5737 and RFC 3849).
#[must_use]
pub fn somebody(family: Family) -> IpAddr {
    match family {
        Family::Ipv6 => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7)),
        _ => IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7)),
    }
}

fn ssh_in(host: &Host, links: &Links<'_>) -> Vec<Flow> {
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
            let Some(packet) = links.incoming(Protocol::TCP, (somebody(family), EPHEMERAL), None, port) else {
                continue;
            };
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

fn sessions(host: &Host, links: &Links<'_>) -> Vec<Flow> {
    let sockets = || host.sockets.iter().flatten();
    let listening: BTreeSet<(u8, u16)> =
        sockets().filter(|s| s.listening).map(|s| (s.protocol.0, s.local_port)).collect();
    let mut flows = Vec::new();
    for socket in sockets().filter(|socket| !socket.local.is_loopback()) {
        let Some((peer, peer_port)) = socket.peer else { continue };
        flows.extend(session(
            links,
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
        flows.extend(session(links, &listening, tracked.protocol, mine, theirs, None));
    }
    flows
}

fn session(
    links: &Links<'_>,
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
        (name, links.incoming(protocol, (peer, EPHEMERAL), Some(local), local_port)?)
    } else {
        let name = format!("{protocol}/{peer_port} out to {peer}");
        (name, links.outgoing(protocol, Some(local), EPHEMERAL, (peer, peer_port))?)
    };
    Some(Flow { kind: FlowKind::Session, name, source, evidence, packet })
}

fn resolvers(snapshot: &Snapshot, links: &Links<'_>) -> Vec<Flow> {
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
            let Some(packet) = links.outgoing(protocol, None, EPHEMERAL, (server, 53)) else { continue };
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
            Packet::first(Direction::Out, Protocol::UDP, (lease.address, 68), (IpAddr::V4(Ipv4Addr::BROADCAST), 67));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::World;
    use crate::snapshot;

    #[test]
    fn the_labs_inventory_is_what_its_files_point_to() {
        let inventory = inventory(&snapshot::read(World::Before.files()));
        let names: Vec<&str> = inventory.flows.iter().map(|flow| flow.name.as_str()).collect();
        let expected = [
            "SSH in (tcp/22, ipv4)",
            "tcp/22 in from 203.0.113.7",
            "tcp/6443 out to 10.0.1.20",
            "tcp/179 in from 10.0.1.20",
            "tcp/179 in from 10.0.1.30",
            "tcp/179 in from 10.0.1.31",
            "tcp/22 out to 10.0.1.30",
            "DNS out (udp/53) to 10.0.0.2",
            "DNS out (tcp/53) to 10.0.0.2",
            "DHCP out (udp/67) on ens5",
        ];
        assert_eq!(names, expected);
        assert_eq!(inventory.left_out, 0);
        let ssh = &inventory.flows[0].packet;
        assert_eq!((ssh.iif.as_deref(), ssh.dst.to_string().as_str()), (Some("ens5"), "10.0.1.10"));
    }

    #[test]
    fn without_facts_there_are_no_flows() {
        assert_eq!(inventory(&Snapshot::default()), Inventory::default());
    }
}
