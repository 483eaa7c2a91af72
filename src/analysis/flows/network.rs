//! What keeps the host on its network: neighbour discovery, gateways, routing peers.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use super::{EPHEMERAL, Flow, FlowKind, Seeker, calico::a_host_of, is_link_local, somebody};
use crate::calico::resources::Spec;
use crate::host::Route;
use crate::host::services::{Destination, Peer, host_and_port, routing};
use crate::packet::{CtState, Direction, Family, Packet, Prefix, Protocol};

const BGP: u16 = 179;
/// BFD of one hop and of several (RFC 5881, RFC 5883).
const BFD: [u16; 2] = [3784, 4784];
const OSPF: Protocol = Protocol(89);
const VRRP: Protocol = Protocol(112);
/// All VRRP routers (RFC 5798).
const VRRP_ROUTERS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
/// WireGuard's usual port.
const WIREGUARD: u16 = 51_820;
/// All OSPF routers.
const OSPF_ROUTERS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 5);

/// An ICMPv6 message of the link: hop limit 255, not tracked by the kernel.
pub(super) fn icmp6(kind: (u8, u8), direction: Direction, src: IpAddr, dst: IpAddr, interface: &str) -> Packet {
    let mut packet = Packet::first(direction, Protocol::ICMPV6, (src, 0), (dst, 0));
    packet.icmp = Some(kind);
    packet.ttl = Some(255);
    packet.state = CtState::UNTRACKED;
    if direction == Direction::In {
        packet.iif = Some(interface.into());
    } else {
        packet.oif = Some(interface.into());
    }
    packet
}

/// A route for everything.
fn is_default(route: &&Route) -> bool {
    route.destination.length() == 0 && route.table == 254 && route.gateway.is_some()
}

impl Seeker<'_> {
    /// Neighbour solicitations both ways on every interface with an IPv6 address that reaches beyond the link.
    pub(super) fn discovery(&mut self) {
        for interface in self.host.interfaces.iter().flatten().filter(|one| one.up && !one.loopback) {
            let global = |a: &&crate::host::InterfaceAddress| a.address.is_ipv6() && &*a.scope == "global";
            let Some(own) = interface.addresses.iter().find(global) else { continue };
            let name = &interface.name;
            let routes = self.host.routes.iter().flatten().filter(is_default);
            let gateway = routes.filter(|route| route.device.as_ref() == Some(name)).filter_map(|route| route.gateway);
            let neighbour = gateway.clone().find(IpAddr::is_ipv6).or_else(|| {
                let net = Prefix::new(own.address, own.prefix_length)?;
                Some(a_host_of(net, Family::Ipv6)).filter(|other| *other != own.address && own.prefix_length < 127)
            });
            let Some(neighbour) = neighbour else { continue };
            let mine = interface
                .addresses
                .iter()
                .map(|own| own.address)
                .find(|own| is_link_local(*own) == is_link_local(neighbour) && own.is_ipv6());
            let mine = mine.unwrap_or(own.address);
            let evidence = format!("{} on {name} needs its neighbours' link addresses", own.address);
            let asks = icmp6((135, 0), Direction::Out, mine, neighbour, name);
            let asked = icmp6((135, 0), Direction::In, neighbour, mine, name);
            for (way, packet) in [("out to", asks), ("in from", asked)] {
                let what = format!("neighbour solicitation {way} {neighbour} on {name}");
                let flow = Flow::new(FlowKind::Neighbour, what, "ip-addr.json", evidence.clone(), packet);
                self.found.push(flow.timer("neighbour cache"));
            }
        }
    }

    /// "Packet too big" of the gateway for connections that exist: without it large packets vanish and SSH hangs after its
    /// banner.
    pub(super) fn gateways(&mut self) {
        let mut seen = BTreeSet::new();
        for route in self.host.routes.iter().flatten().filter(is_default) {
            let (Some(gateway), Some(device)) = (route.gateway, route.device.as_deref()) else { continue };
            let Some(interface) = self.host.interface(device).filter(|_| seen.insert(gateway)) else { continue };
            let of_family = |own: &&crate::host::InterfaceAddress| own.address.is_ipv4() == gateway.is_ipv4();
            let global = |own: &&crate::host::InterfaceAddress| &*own.scope == "global";
            let Some(own) = interface.addresses.iter().filter(of_family).find(global) else { continue };
            let (protocol, kind, words) = match gateway {
                IpAddr::V4(_) => (Protocol::ICMP, (3, 4), "fragmentation needed"),
                IpAddr::V6(_) => (Protocol::ICMPV6, (2, 0), "packet too big"),
            };
            let mut packet = Packet::first(Direction::In, protocol, (gateway, 0), (own.address, 0));
            (packet.icmp, packet.state, packet.iif) = (Some(kind), CtState::RELATED, Some(device.into()));
            let what = format!("path MTU: {words} ({protocol}) in from {gateway}");
            let evidence = format!("{gateway} is the default gateway by {device}");
            self.found.push(Flow::new(FlowKind::Gateway, what, "ip-route.json", evidence, packet));
        }
    }

    /// Neighbours of BIRD and FRR, by configuration and by session, with BFD and OSPF where they are on.
    pub(super) fn routing(&mut self) {
        let wanted = |name: &str| {
            name.starts_with("etc/bird") || name.starts_with("etc/frr/") || name.starts_with("etc/calico/confd/")
        };
        let mut peers: BTreeSet<IpAddr> = BTreeSet::new();
        let (mut bfd, mut ospf) = (None, None);
        let live = self.bgp_sessions(&mut peers);
        let mut configured = Vec::new();
        for (file, text) in self.texts(wanted) {
            let found = routing::read(&text);
            bfd = bfd.or_else(|| found.bfd.map(|line| format!("{file}:{line}")));
            ospf = ospf.or_else(|| found.ospf.map(|line| format!("{file}:{line}")));
            configured.extend(found.bgp.into_iter().map(|(peer, line)| (file.clone(), peer, line)));
        }
        self.found.extend(live);
        let configured = configured.into_iter().map(|(file, peer, line)| (file, peer, BGP, line));
        let configured: Vec<_> = configured.chain(self.peers_of_calico()).collect();
        for (file, peer, port, line) in configured {
            let Peer::Address(address) = &peer else { continue };
            // one direction is enough, and the session shows which
            if peers.insert(*address) {
                let to = Destination { peer: peer.clone(), protocol: Protocol::TCP, port, line };
                self.out(FlowKind::Routing, "BGP", &file, &to, Some("BGP hold timer"));
            }
        }
        let bound = |port: u16| {
            let mut sockets = self.host.sockets.iter().flatten();
            sockets.any(|socket| socket.protocol == Protocol::UDP && socket.listening && socket.local_port == port)
        };
        if let Some(port) = BFD.into_iter().find(|port| bound(*port)).or(bfd.as_ref().map(|_| BFD[0])) {
            let source = bfd.unwrap_or_else(|| "sockets.txt".to_owned());
            self.bfd(&peers, port, &source);
        }
        if let Some(source) = ospf {
            self.ospf(&source);
        }
    }

    /// Peers that Calico's BGPPeers give this node: file, peer, port, line. Which nodes a selector means is not known here; it
    /// counts where it says all.
    fn peers_of_calico(&self) -> Vec<(String, Peer, u16, u32)> {
        let mut found = Vec::new();
        for resource in self.snapshot.resources.iter() {
            let Spec::BgpPeer(peer) = &resource.spec else { continue };
            let host = self.snapshot.meta.host.as_deref();
            let elsewhere = peer.node.as_ref().is_some_and(|node| host != Some(node.value.as_str()));
            let some = peer.node_selector.as_ref().is_some_and(|selector| selector.value.trim() != "all()");
            let Some(ip) = peer.peer_ip.as_ref().filter(|_| !elsewhere && !some) else { continue };
            let Some((to @ Peer::Address(address), port)) = host_and_port(&ip.value) else { continue };
            if self.host.is_local(address) != Some(true) {
                let place = &resource.meta.place;
                found.push((place.file.to_string(), to, port.unwrap_or(BGP), ip.line));
            }
        }
        found
    }

    /// The outer flow of WireGuard interfaces: a UDP socket that no process owns is the kernel's.
    pub(super) fn tunnels(&mut self) {
        let wireguard: Vec<String> = self
            .host
            .interfaces
            .iter()
            .flatten()
            .filter(|interface| &*interface.kind == "wireguard")
            .map(|interface| interface.name.to_string())
            .collect();
        let sockets = self.host.sockets.iter().flatten();
        let kernel = sockets
            .filter(|s| s.protocol == Protocol::UDP && s.listening && s.process.is_none() && !s.local.is_loopback());
        let ports: BTreeSet<u16> = kernel.map(|socket| socket.local_port).filter(|port| *port >= 1024).collect();
        // which port is whose is not told: with one of each it is clear
        let (Some(name), Some(port)) = (wireguard.first(), ports.first()) else { return };
        if ports.len() > 1 && !ports.contains(&WIREGUARD) {
            return;
        }
        let port = if ports.contains(&WIREGUARD) { WIREGUARD } else { *port };
        let Some(packet) = self.links.incoming(Protocol::UDP, (somebody(Family::Ipv4), EPHEMERAL), None, port) else {
            return;
        };
        let what = format!("tunnel {name} (udp/{port}) in");
        let evidence = format!("{name} is a WireGuard interface, and the kernel listens on udp/{port}");
        self.found.push(Flow::new(FlowKind::Tunnel, what, "sockets.txt", evidence, packet).timer("tunnel handshake"));
    }

    /// VRRP of keepalived, and corosync where somebody listens on its ports.
    pub(super) fn heartbeats(&mut self) {
        let config = self.texts(|name| name == "etc/keepalived/keepalived.conf");
        for (file, text) in config {
            for (line, number) in text.lines().zip(1_u32..) {
                let words: Vec<&str> = line.split_whitespace().collect();
                let ["interface", device] = words.as_slice() else { continue };
                let Some(interface) = self.host.interface(device) else { continue };
                let Some(own) = interface.addresses.iter().find(|own| own.address.is_ipv4()) else { continue };
                let Some(net) = Prefix::new(own.address, own.prefix_length) else { continue };
                let group = IpAddr::V4(VRRP_ROUTERS);
                let mut out = Packet::first(Direction::Out, VRRP, (own.address, 0), (group, 0));
                out.oif = Some((*device).into());
                let mut partner = a_host_of(net, Family::Ipv4);
                if let (true, IpAddr::V4(address)) = (partner == own.address, partner) {
                    partner = IpAddr::V4(Ipv4Addr::from(u32::from(address).saturating_add(1)));
                }
                let mut inward = Packet::first(Direction::In, VRRP, (partner, 0), (group, 0));
                inward.iif = Some((*device).into());
                for (way, packet) in [("out", out), ("in", inward)] {
                    let what = format!("VRRP (protocol 112) {way} on {device}");
                    let source = format!("{file}:{number}");
                    let flow = Flow::new(FlowKind::Cluster, what, source, "keepalived speaks VRRP there", packet);
                    self.found.push(flow.timer("VRRP advertisement"));
                }
            }
        }
        let sockets: Vec<_> =
            self.host.sockets.iter().flatten().filter(|s| s.process.as_deref() == Some("corosync")).collect();
        for socket in sockets
            .iter()
            .filter(|s| s.protocol == Protocol::UDP && !s.local.is_loopback() && !s.local.is_unspecified())
        {
            let Some(name) = self.host.interface_of(socket.local) else { continue };
            let interface = self.host.interface(name);
            let own = interface.and_then(|one| one.addresses.iter().find(|own| own.address == socket.local));
            let Some(net) = own.and_then(|own| Prefix::new(own.address, own.prefix_length)) else { continue };
            let partner = a_host_of(net, Family::of(socket.local));
            let Some(packet) =
                self.links.incoming(Protocol::UDP, (partner, socket.local_port), Some(socket.local), socket.local_port)
            else {
                continue;
            };
            let what = format!("corosync (udp/{}) in on {name}", socket.local_port);
            let flow = Flow::new(FlowKind::Cluster, what, "sockets.txt", "corosync listens there", packet);
            self.found.push(flow.timer("token timeout"));
        }
    }

    fn bgp_sessions(&self, peers: &mut BTreeSet<IpAddr>) -> Vec<Flow> {
        let mut found = Vec::new();
        let sockets = self.host.sockets.iter().flatten().filter(|socket| socket.protocol == Protocol::TCP);
        for socket in sockets.filter(|socket| !socket.local.is_loopback()) {
            let Some((peer, port)) = socket.peer else { continue };
            let inbound = socket.local_port == BGP;
            if !inbound && port != BGP {
                continue;
            }
            let local = Some(socket.local);
            let (name, packet) = if inbound {
                let packet = self.links.incoming(Protocol::TCP, (peer, EPHEMERAL), local, BGP);
                (format!("tcp/179 in from {peer}"), packet)
            } else {
                (format!("tcp/179 out to {peer}"), self.links.outgoing(Protocol::TCP, local, EPHEMERAL, (peer, BGP)))
            };
            let Some(packet) = packet else { continue };
            peers.insert(peer);
            let who = socket.process.as_deref().map(|name| format!(" of {name}")).unwrap_or_default();
            let learned = self.learned_by(peer);
            let evidence =
                format!("live session{who} {}:{} with {peer}:{port}{learned}", socket.local, socket.local_port);
            let mut flow = Flow::new(FlowKind::Routing, name, "sockets.txt", evidence, packet).timer("BGP hold timer");
            flow.live = true;
            found.push(flow);
        }
        found
    }

    /// What routes the host has from a peer.
    fn learned_by(&self, peer: IpAddr) -> String {
        let routing = ["bird", "bgp", "zebra", "ospf", "isis", "babel"];
        let of_peer = |route: &&Route| route.gateway == Some(peer) && routing.contains(&&*route.origin);
        let routes: Vec<&Route> = self.host.routes.iter().flatten().filter(of_peer).collect();
        if routes.iter().any(|route| route.destination.length() == 0) {
            return "; the default route was learned from it".to_owned();
        }
        match routes.len() {
            0 => String::new(),
            1 => "; a route was learned from it".to_owned(),
            many => format!("; {many} routes were learned from it"),
        }
    }

    fn bfd(&mut self, peers: &BTreeSet<IpAddr>, port: u16, source: &str) {
        for peer in peers {
            let out = self.links.outgoing(Protocol::UDP, None, 49_152, (*peer, port));
            let inward = self.links.incoming(Protocol::UDP, (*peer, 49_152), None, port);
            for (way, packet) in [("out to", out), ("in from", inward)] {
                let Some(packet) = packet else { continue };
                let what = format!("BFD (udp/{port}) {way} {peer}");
                let flow = Flow::new(FlowKind::Routing, what, source, "BFD is on", packet);
                self.found.push(flow.timer("BFD detection time"));
            }
        }
    }

    fn ospf(&mut self, source: &str) {
        for interface in self.host.interfaces.iter().flatten().filter(|one| one.up && !one.loopback) {
            let Some(own) = interface.addresses.iter().find(|own| own.address.is_ipv4()) else { continue };
            let group = IpAddr::V4(OSPF_ROUTERS);
            let mut hello = Packet::first(Direction::Out, OSPF, (own.address, 0), (group, 0));
            hello.oif = Some(interface.name.clone());
            let what = format!("OSPF hello (protocol 89) on {}", interface.name);
            let flow = Flow::new(FlowKind::Routing, what, source, "OSPF is on", hello);
            self.found.push(flow.timer("OSPF dead interval"));
        }
    }
}
