//! The set engine asked about one packet, so that it can be compared with whoever judges packets one by one.

use std::collections::HashMap;
use std::net::IpAddr;

use hepguard::analysis::reach::{Engine, HostFacts, Settings, Verdicts, Way};
use hepguard::packet::{CtDirection, CtState, Direction, Family, Packet, Tuple, address_bits};
use hepguard::ruleset::interface_number;
use hepguard::space::header::{Binding, Ends, Header};
use hepguard::space::layout::EXTENSIONS;
use hepguard::space::{Dimension, Order, Set};

/// One family's engine and what it has answered.
pub(crate) struct Sets<'a> {
    engine: Engine<'a>,
    facts: &'a HostFacts<'a>,
    answers: HashMap<(Way, Header), Verdicts>,
}

impl<'a> Sets<'a> {
    pub(crate) fn new(ruleset: &'a hepguard::ruleset::Ruleset, facts: &'a HostFacts<'a>, order: Order) -> Self {
        let settings = Settings { order, ..Settings::default() };
        Self { engine: Engine::new(ruleset, facts, &settings), facts, answers: HashMap::new() }
    }

    /// May the packet pass, may it be stopped?
    pub(crate) fn judge(&mut self, packet: &Packet) -> (bool, bool) {
        let (way, header) = self.question(packet);
        if !self.answers.contains_key(&(way, header.clone())) {
            let mut answer = self.engine.walk(way, header.clone(), Set::ALL).expect("room");
            // what the packet does not tell is open, as are questions nobody can answer
            let told = told(packet);
            let group = self.engine.hidden(&told);
            answer.accepted = self.engine.bdd().exists(answer.accepted, group).expect("room");
            answer.refused = self.engine.bdd().exists(answer.refused, group).expect("room");
            self.answers.insert((way, header.clone()), answer);
        }
        let bits = self.bits(packet);
        let answer = self.answers[&(way, header)].clone();
        let at = |set| self.engine.bdd_ref().contains(set, |variable| bits[usize::from(variable)]);
        (at(answer.accepted), at(answer.refused))
    }

    /// The packets that are like this one in all that sets leave open.
    fn question(&self, packet: &Packet) -> (Way, Header) {
        let mut header = Header::open().in_state(packet.state);
        let free = |told: bool, dimension| if told { Binding::Free(dimension) } else { Binding::Unknown };
        header.ttl = free(packet.ttl.is_some(), Dimension::Ttl);
        header.tos = free(packet.tos.is_some(), Dimension::Tos);
        header.length = packet.length.map_or(Binding::Unknown, |length| Binding::Known(length.into()));
        header.user = free(packet.uid.is_some(), Dimension::User);
        header.user_group = free(packet.gid.is_some(), Dimension::UserGroup);
        header.extension = free(class_of_extension(packet).is_some(), Dimension::Extension);
        header.icmp_type = free(packet.icmp.is_some(), Dimension::IcmpType);
        header.icmp_code = free(packet.icmp.is_some(), Dimension::IcmpCode);
        header.packet_type = packet.packet_type.map_or(Binding::Unknown, |kind| Binding::Known(kind as u128));
        header.mark = Binding::Known(packet.mark.into());
        let new = packet.state == CtState::NEW;
        let mark = packet.ct.mark.or(new.then_some(0));
        header.ct_mark = mark.map_or(Binding::Unknown, |mark| Binding::Known(mark.into()));
        header.status = packet.ct.status.map(|status| status.0).or(new.then_some(0));
        header.direction = packet.ct.direction.or(new.then_some(CtDirection::Original));
        let own = Tuple { src: packet.src, sport: packet.sport, dst: packet.dst, dport: packet.dport };
        let ends = header.ends;
        header.original = packet.ct.original.map_or(if new { ends } else { Ends::UNKNOWN }, |t| bound(t, own, ends));
        header.reply = packet.ct.reply.map_or(Ends::UNKNOWN, |tuple| bound(tuple, own, ends));
        header.iif = free(packet.iif.is_some(), Dimension::InInterface);
        let own = packet.src == packet.dst || packet.dst.is_loopback();
        header.oif = match (&packet.oif, packet.direction) {
            (Some(_), _) => Binding::Free(Dimension::OutInterface),
            (None, Direction::Out) if own => Binding::Known(interface_number(b"lo")),
            _ => {
                self.facts.device(address_bits(packet.dst), Some(packet.mark)).map_or(Binding::Unknown, Binding::Known)
            }
        };
        let way = match packet.direction {
            Direction::In => Way::In,
            Direction::Out => Way::Out,
            Direction::Forward => Way::Forward,
        };
        (way, header)
    }

    /// The packet's point in the space.
    fn bits(&self, packet: &Packet) -> Vec<bool> {
        let layout = self.engine.layout();
        let mut bits = vec![false; usize::from(hepguard::space::bdd::MAX_VARIABLES)];
        let mut put = |dimension: Dimension, number: u128| {
            let (first, width) = layout.place(dimension);
            for at in 0..width {
                bits[usize::from(first + at)] = number >> (width - 1 - at) & 1 == 1;
            }
        };
        let class = |name: &str| {
            let names = layout.interfaces().names();
            let number = interface_number(name.as_bytes());
            names.iter().position(|known| *known == number).expect("an interface of the host") as u128
        };
        put(Dimension::Source, address_bits(packet.src));
        put(Dimension::Destination, address_bits(packet.dst));
        put(Dimension::Protocol, packet.protocol.0.into());
        put(Dimension::Extension, class_of_extension(packet).unwrap_or(0) as u128);
        put(Dimension::SourcePort, packet.sport.unwrap_or(0).into());
        put(Dimension::DestinationPort, packet.dport.unwrap_or(0).into());
        put(Dimension::TcpFlags, packet.tcp_flags.0.into());
        let (kind, code) = packet.icmp.unwrap_or((0, 0));
        put(Dimension::IcmpType, kind.into());
        put(Dimension::IcmpCode, code.into());
        put(Dimension::Ttl, packet.ttl.unwrap_or(0).into());
        put(Dimension::Tos, packet.tos.unwrap_or(0).into());
        put(Dimension::User, packet.uid.unwrap_or(0).into());
        put(Dimension::UserGroup, packet.gid.unwrap_or(0).into());
        packet.iif.iter().for_each(|name| put(Dimension::InInterface, class(name)));
        packet.oif.iter().for_each(|name| put(Dimension::OutInterface, class(name)));
        bits
    }
}

/// The number of its first IPv6 extension header, where that is known.
pub(crate) fn class_of_extension(packet: &Packet) -> Option<usize> {
    let first = packet.details.extensions.as_deref()?.first().map(|first| first.header);
    EXTENSIONS.iter().position(|known| *known == first)
}

/// Dimensions a packet tells.
fn told(packet: &Packet) -> Vec<Dimension> {
    use Dimension as D;
    let mut told = vec![
        D::Source,
        D::Destination,
        D::Protocol,
        D::SourcePort,
        D::DestinationPort,
        D::TcpFlags,
        D::IcmpType,
        D::IcmpCode,
        D::Ttl,
        D::Tos,
        D::User,
        D::UserGroup,
    ];
    told.extend(class_of_extension(packet).map(|_| D::Extension));
    told.extend(packet.iif.is_some().then_some(D::InInterface));
    told.extend(packet.oif.is_some().then_some(D::OutInterface));
    told
}

/// A connection's ends in terms of the packet's own, where they are the same.
fn bound(tuple: Tuple, own: Tuple, ends: Ends) -> Ends {
    let turned = Tuple { src: own.dst, sport: own.dport, dst: own.src, dport: own.sport };
    if tuple == own {
        return ends;
    }
    if tuple == turned {
        return ends.turned();
    }
    let address = |address: IpAddr| Binding::Known(address_bits(address));
    let port = |port: Option<u16>| port.map_or(Binding::Unknown, |port| Binding::Known(port.into()));
    Ends { src: address(tuple.src), sport: port(tuple.sport), dst: address(tuple.dst), dport: port(tuple.dport) }
}

/// The facts of both families.
pub(crate) fn facts(host: &hepguard::host::Host) -> [HostFacts<'_>; 2] {
    [Family::Ipv4, Family::Ipv6].map(|family| HostFacts::new(host, family))
}
