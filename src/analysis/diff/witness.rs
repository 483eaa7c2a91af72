//! One packet of a set, like those the hosts really see.

use std::net::IpAddr;

use super::{Comparison, own_addresses};
use crate::analysis::flows::somebody;
use crate::analysis::reach::Engine;
use crate::packet::{
    ConntrackView, CtState, CtStatus, Direction, ExtensionHeader, Family, Packet, PacketType, Protocol, TcpFlags,
    address_bits,
};
use crate::ruleset::{Interval, interface_number};
use crate::space::bdd::{Built, Set};
use crate::space::describe::address;
use crate::space::header::Binding;
use crate::space::layout::{EXTENSIONS, STATES};
use crate::space::ranges::joined;
use crate::space::witness::{Witness, witness};
use crate::space::{Dimension, Layout};

/// Peers of sessions looked at.
const MAX_PEERS: usize = 4096;

/// A packet of `set` that is as many of the wishes as there can be; `None` when the set is empty.
pub(super) fn packet(
    engine: &mut Engine<'_>,
    wishes: &[Set],
    direction: Direction,
    family: Family,
    set: Set,
) -> Built<Option<Packet>> {
    let point = witness(engine.bdd(), set, wishes)?;
    Ok(point.map(|point| of_point(engine.layout(), &point, direction, family)))
}

/// Link-layer addresses of examples: locally administered ones of single devices.
pub(super) const LINK: Interval = Interval { low: 0x0200_0000_0000, high: 0x02ff_ffff_ffff };

/// What an ordinary packet is like, most important first.
pub(super) fn wishes(engine: &mut Engine<'_>, comparison: &Comparison<'_>, direction: Direction) -> Built<Vec<Set>> {
    use Dimension as D;
    let family = comparison.family;
    let hosts = comparison.snapshots.map(|snapshot| &snapshot.host);
    let (own, peers) = ends(comparison);
    let stranger = Interval::single(address_bits(somebody(family)));
    let links: Vec<Interval> = hosts
        .iter()
        .flat_map(|host| host.interfaces.iter().flatten())
        .filter(|one| !one.loopback)
        .map(|one| Interval::single(interface_number(one.name.as_bytes())))
        .collect();
    let lo = interface_number(b"lo");
    let elsewhere = vec![Interval { low: 0, high: lo - 1 }, Interval { low: lo + 1, high: u128::MAX }];
    let single = |number: u128| vec![Interval::single(number)];
    let icmp = if family == Family::Ipv4 { Protocol::ICMP } else { Protocol::ICMPV6 };
    let echo = if family == Family::Ipv4 { 8 } else { 128 };
    let usual: Vec<Interval> =
        joined([Protocol::TCP, Protocol::UDP, icmp].map(|one| Interval::single(one.0.into())).to_vec());
    let mut wanted: Vec<(Dimension, Vec<Interval>)> = vec![
        (D::Protocol, usual),
        (D::Protocol, single(Protocol::TCP.0.into())),
        (D::Extension, single(0)),
        (D::PacketType, single(PacketType::Host as u128)),
        (D::InInterface, joined(links.clone())),
        (D::OutInterface, joined(links)),
        (D::InInterface, elsewhere.clone()),
        (D::OutInterface, elsewhere),
    ];
    let [from, to] = match direction {
        Direction::In => [peers.clone(), own.clone()],
        Direction::Out => [own.clone(), peers.clone()],
        Direction::Forward => [peers.clone(), peers.clone()],
    };
    wanted.push((D::Source, joined(from)));
    wanted.push((D::Destination, joined(to)));
    if direction != Direction::Out {
        wanted.push((D::Source, vec![stranger]));
    }
    if direction != Direction::In {
        wanted.push((D::Destination, vec![stranger]));
    }
    wanted.extend([
        (D::Source, unicast(family)),
        (D::Destination, unicast(family)),
        (D::DestinationPort, single(22)),
        (D::DestinationPort, single(443)),
        (D::DestinationPort, single(53)),
        (D::DestinationPort, vec![Interval { low: 1, high: 65_535 }]),
        (D::SourcePort, single(51_522)),
        (D::SourcePort, vec![Interval { low: 1024, high: 65_535 }]),
        (D::IcmpType, single(echo)),
        (D::Ttl, single(64)),
        (D::Ttl, vec![Interval { low: 2, high: 255 }]),
        (D::Length, single(60)),
        (D::Length, vec![Interval { low: 60, high: 1500 }]),
    ]);
    let mut wishes = vec![of_state(engine, CtState::NEW)?];
    let (syn, ack) = (bound(engine, D::TcpFlags, &single(2))?, bound(engine, D::TcpFlags, &single(16))?);
    if engine.layout().place(D::SourceLink).1 > 0 {
        wanted.extend([D::SourceLink, D::DestinationLink].map(|dimension| (dimension, vec![LINK])));
    }
    for (dimension, intervals) in wanted {
        if !intervals.is_empty() {
            wishes.push(bound(engine, dimension, &intervals)?);
        }
    }
    let new = wishes.first().copied().unwrap_or(Set::ALL);
    let flags = engine.bdd().choose(new, syn, ack)?;
    wishes.insert(3, flags);
    Ok(wishes)
}

/// Addresses of the hosts, and of those who talk to them.
fn ends(comparison: &Comparison<'_>) -> (Vec<Interval>, Vec<Interval>) {
    let family = comparison.family;
    let hosts = comparison.snapshots.map(|snapshot| &snapshot.host);
    let own: Vec<Interval> = hosts.iter().flat_map(|host| own_addresses(host, family)).collect();
    let sessions = hosts.iter().flat_map(|host| host.sessions.iter().flatten()).take(MAX_PEERS);
    let ends = sessions.flat_map(|session| [session.original.src, session.original.dst]);
    let peers = ends.filter(|end| end.is_ipv4() == (family == Family::Ipv4)).map(address_bits).map(Interval::single);
    let peers = joined(peers.filter(|peer| !own.contains(peer)).collect());
    (own, peers)
}

/// Addresses that examples prefer.
pub(super) fn addresses(comparison: &Comparison<'_>) -> Vec<Interval> {
    let (mut all, peers) = ends(comparison);
    all.extend(peers);
    all.extend(unicast(comparison.family));
    all.push(Interval::single(address_bits(somebody(comparison.family))));
    all
}

/// Addresses an ordinary packet may have.
fn unicast(family: Family) -> Vec<Interval> {
    match family {
        Family::Ipv4 => {
            vec![Interval { low: 0x0100_0000, high: 0x7eff_ffff }, Interval { low: 0x8000_0000, high: 0xdfff_ffff }]
        }
        _ => vec![Interval { low: 0x2000 << 112, high: (0xfe00 << 112) - 1 }],
    }
}

fn of_state(engine: &mut Engine<'_>, state: CtState) -> Built {
    let encoder = engine.encoder();
    let is = |number: usize| STATES.get(number) == Some(&state);
    encoder.layout.of_classes(&mut encoder.bdd, Dimension::State, is)
}

fn bound(engine: &mut Engine<'_>, dimension: Dimension, intervals: &[Interval]) -> Built {
    Ok(engine.encoder().bound_within(Binding::Free(dimension), intervals)?.certain)
}

fn mac(number: u128) -> [u8; 6] {
    let [.., a, b, c, d, e, f] = number.to_be_bytes();
    [a, b, c, d, e, f]
}

/// An extension header that does nothing, in front of `next`.
fn extension(header: Protocol, next: Protocol) -> ExtensionHeader {
    let rest: [u8; 7] = match header.0 {
        // no segments left; options: six bytes of padding
        43 => [0, 4, 0, 0, 0, 0, 0],
        _ => [0, 1, 4, 0, 0, 0, 0],
    };
    let mut bytes = vec![next.0];
    bytes.extend(rest);
    ExtensionHeader { header, bytes: bytes.into() }
}

fn of_point(layout: &Layout, point: &Witness, direction: Direction, family: Family) -> Packet {
    use Dimension as D;
    let number = |dimension| point.number(layout, dimension);
    let byte = |dimension| u8::try_from(number(dimension)).unwrap_or(0);
    let port = |dimension| u16::try_from(number(dimension)).unwrap_or(0);
    let word = |dimension| u32::try_from(number(dimension)).unwrap_or(0);
    let ip = |dimension| -> IpAddr { address(number(dimension), family) };
    let protocol = Protocol(byte(D::Protocol));
    let ends = ((ip(D::Source), port(D::SourcePort)), (ip(D::Destination), port(D::DestinationPort)));
    let mut packet = Packet::first(direction, protocol, ends.0, ends.1);
    if protocol == Protocol::TCP {
        packet.tcp_flags = TcpFlags(byte(D::TcpFlags));
    }
    if [Protocol::ICMP, Protocol::ICMPV6].contains(&protocol) {
        packet.icmp = Some((byte(D::IcmpType), byte(D::IcmpCode)));
    }
    let class = usize::try_from(number(D::Extension)).unwrap_or(0);
    if let (Family::Ipv6, Some(Some(header))) = (family, EXTENSIONS.get(class)) {
        packet.details.extensions = Some([extension(*header, protocol)].into());
    }
    let name = |dimension| {
        let class = usize::try_from(number(dimension)).unwrap_or(0);
        let name = layout.interfaces().names().get(class).copied().unwrap_or_default().to_be_bytes();
        let name: Vec<u8> = name.into_iter().take_while(|byte| *byte != 0).collect();
        Some(String::from_utf8_lossy(&name).into_owned().into_boxed_str())
    };
    if direction != Direction::Out {
        packet.iif = name(D::InInterface);
    } else {
        (packet.uid, packet.gid) = (Some(word(D::User)), Some(word(D::UserGroup)));
    }
    if direction != Direction::In {
        packet.oif = name(D::OutInterface);
    }
    if direction != Direction::Out && layout.place(D::SourceLink).1 > 0 {
        packet.details.source_mac = Some(mac(number(D::SourceLink)));
        packet.details.destination_mac = Some(mac(number(D::DestinationLink)));
    }
    packet.state = STATES.get(usize::try_from(number(D::State)).unwrap_or(0)).copied().unwrap_or(CtState::NEW);
    if packet.state == CtState::ESTABLISHED {
        let status = CtStatus::CONFIRMED.0 | CtStatus::SEEN_REPLY.0;
        packet.ct = ConntrackView { status: Some(CtStatus(status)), ..ConntrackView::default() };
    }
    if packet.state != CtState::NEW {
        packet.ct.mark = Some(word(D::ConnectionMark));
    }
    packet.ttl = Some(byte(D::Ttl));
    packet.tos = Some(byte(D::Tos));
    packet.length = Some(port(D::Length));
    packet.packet_type = [PacketType::Host, PacketType::Broadcast, PacketType::Multicast, PacketType::OtherHost]
        .into_iter()
        .find(|kind| *kind as u128 == number(D::PacketType));
    packet
}
