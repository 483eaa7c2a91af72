//! Flows that the configuration protects, and flows written as such entries.

use std::net::IpAddr;

use super::{EPHEMERAL, Flow, FlowKind, Seeker, calico::a_host_of, somebody};
use crate::analysis::worlds::spoken_of;
use crate::calico::failsafe::Weight;
use crate::config::Protect;
use crate::packet::{Direction, Family, Packet, PortRange, Prefix};

/// Most flows of one entry.
const MAX_OF_ENTRY: usize = 32;
/// Addresses that rules speak of, looked through for each network.
const MAX_SPOKEN: usize = 512;
/// Most of them taken of one network.
const MAX_OF_NETWORK: usize = 6;

impl Seeker<'_> {
    pub(super) fn protected(&mut self) {
        for entry in &self.snapshot.protect {
            let found = self.entry(entry);
            self.found.extend(found);
        }
    }

    /// Of each peer network one address, and those in it that rules and sets speak of; of each port range both ends.
    fn entry(&self, entry: &Protect) -> Vec<Flow> {
        let mut ports: Vec<u16> = entry.ports.iter().flat_map(|range| [range.low, range.high]).collect();
        ports.dedup();
        if ports.is_empty() {
            ports.push(0);
        }
        let anybody = [Family::Ipv4, Family::Ipv6].map(Prefix::any);
        let peers = if entry.peers.is_empty() { &anybody[..] } else { &entry.peers };
        let mut found = Vec::new();
        for peer in peers {
            let family = if peer.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 };
            let usual = if peer.length() == 0 { somebody(family) } else { a_host_of(*peer, family) };
            let spoken = self.spoken_in(*peer, family).into_iter().filter(|one| *one != usual).map(|one| (one, true));
            let asked = std::iter::once((usual, false)).chain(spoken);
            for ((address, named), port) in asked.flat_map(|one| ports.iter().map(move |port| (one, port))) {
                let packet = match entry.direction {
                    Direction::Out => self.links.outgoing(entry.protocol, None, EPHEMERAL, (address, *port)),
                    _ => self.links.incoming(entry.protocol, (address, EPHEMERAL), None, *port),
                };
                let Some(mut packet) = packet else { continue };
                if super::is_link_local(if entry.direction == Direction::Out { packet.src } else { packet.dst }) {
                    continue;
                }
                if let Some(interface) = &entry.interface {
                    let interface = Some(interface.as_str().into());
                    if entry.direction == Direction::Out { packet.oif = interface } else { packet.iif = interface }
                }
                let mut flow = Flow::new(
                    FlowKind::Protect,
                    name(entry, &packet, if named { Prefix::host(address) } else { *peer }),
                    entry.place.clone(),
                    entry.because.clone().unwrap_or_else(|| "the configuration protects it".to_owned()),
                    packet,
                );
                flow.severity = Some(entry.severity);
                found.push(flow);
            }
        }
        found.truncate(MAX_OF_ENTRY);
        found
    }

    /// Addresses of a network that rules treat apart, as far as they name them.
    fn spoken_in(&self, peer: Prefix, family: Family) -> Vec<IpAddr> {
        if peer.length() == 0 || peer.is_host() {
            return Vec::new();
        }
        let spoken = spoken_of(&self.snapshot.ruleset, family, MAX_SPOKEN);
        let found = spoken.into_iter().filter_map(|bits| match family {
            Family::Ipv6 => Some(IpAddr::from(std::net::Ipv6Addr::from(bits))),
            _ => Some(IpAddr::from(std::net::Ipv4Addr::from(u32::try_from(bits).ok()?))),
        });
        found.filter(|address| peer.contains(*address)).take(MAX_OF_NETWORK).collect()
    }
}

fn name(entry: &Protect, packet: &Packet, peer: Prefix) -> String {
    let (way, word) = if entry.direction == Direction::Out { ("out", "to") } else { ("in", "from") };
    let service = match packet.dport {
        Some(port) => format!("{}/{port}", packet.protocol),
        None => packet.protocol.to_string(),
    };
    let peer = match peer.length() {
        0 => format!("anybody over {}", packet.family()),
        _ => peer.to_string(),
    };
    format!("{} ({service} {way} {word} {peer})", entry.name)
}

/// Flows as `[[protect]]` entries. Those of an ICMP message, and those of this host with itself, have no such form.
#[must_use]
pub fn export(flows: &[Flow]) -> Vec<Protect> {
    let exported = |flow: &&Flow| flow.packet.icmp.is_none() && flow.packet.direction != Direction::Forward;
    let looped = |flow: &&Flow| !flow.packet.src.is_loopback() && flow.packet.oif.as_deref() != Some("lo");
    let entry = |flow: &Flow| {
        let packet = &flow.packet;
        let peer = flow.peer();
        let anybody = peer == somebody(packet.family());
        Protect {
            name: flow.name.clone(),
            direction: packet.direction,
            protocol: packet.protocol,
            ports: packet.dport.map(PortRange::single).into_iter().collect(),
            peers: if anybody { vec![Prefix::any(packet.family())] } else { vec![Prefix::host(peer)] },
            interface: packet.iif.as_deref().or(packet.oif.as_deref()).map(str::to_owned),
            severity: flow.severity.unwrap_or(Weight::Critical),
            because: Some(format!("{}: {}", flow.source, flow.evidence)),
            place: String::new(),
        }
    };
    flows.iter().filter(exported).filter(looped).map(entry).collect()
}
