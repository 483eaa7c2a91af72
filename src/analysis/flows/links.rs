//! Where this host's packets leave and arrive.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::analysis::route::{RouteQuery, Routed, Router};
use crate::host::{Host, Interface, InterfaceAddress, RouteKind};
use crate::packet::{Direction, Family, Packet, Prefix, Protocol};

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

    /// The host.
    #[must_use]
    pub fn host(&self) -> &'a Host {
        self.router.host()
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

    /// The first packet from this host to itself: out and in again by `lo`.
    #[must_use]
    pub fn looped(protocol: Protocol, from: IpAddr, to: (IpAddr, u16)) -> Packet {
        let mut packet = Packet::first(Direction::Out, protocol, (from, EPHEMERAL), to);
        packet.oif = Some("lo".into());
        packet
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

/// Whether an address holds on one link only.
#[must_use]
pub fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}
