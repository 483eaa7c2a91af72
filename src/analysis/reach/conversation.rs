//! Who gets a conversation: the first packet through, its answer back, and for TCP the handshake's end and data both ways.

use super::{Engine, Way};
use crate::host::Interface;
use crate::packet::{CtDirection, CtState, CtStatus, Family, Prefix, Protocol, TcpFlags, address_bits};
use crate::ruleset::{Interval, interface_number};
use crate::space::bdd::{Built, Set};
use crate::space::header::{Binding, Ends, Header};
use crate::space::ranges::joined;
use crate::space::{Dimension, Group};

/// Source ports clients use; RFC 6056 §3.2.
pub const CLIENT_PORTS: Interval = Interval { low: 1024, high: 65_535 };

/// What is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Question {
    /// This host asks (`reach out`), else a peer does.
    pub outgoing: bool,
    /// The protocol.
    pub protocol: Protocol,
    /// The port of the side that is asked; ICMP has none and means an echo request.
    pub port: Option<u16>,
    /// State of the first packet: new, or of a connection that exists (without address translation).
    pub state: CtState,
}

/// Which packets get through, in terms of the first packet; what is neither shown nor certain is unknown.
#[derive(Clone, Debug)]
pub struct Conversation {
    /// May get a conversation.
    pub allowed: Set,
    /// May not get one.
    pub refused: Set,
    /// The dimension of the peers' addresses.
    pub peer: Dimension,
    /// Of this host's addresses.
    pub own: Dimension,
    /// Of the interface towards the peer.
    pub interface: Dimension,
    /// The packets of the conversation, first to last: how each goes, what it looks like, which first packets lead to it.
    pub legs: Vec<Leg>,
}

/// One packet of a conversation.
#[derive(Clone, Debug)]
pub struct Leg {
    /// In words: the first packet, the answer.
    pub name: &'static str,
    /// Which way it goes.
    pub way: Way,
    /// What it looks like.
    pub header: Header,
    /// For which first packets.
    pub set: Set,
}

/// What the walk of a leg gave, besides those refused.
struct Walked {
    ends: Vec<(Header, Set)>,
    lost: Set,
}

impl Engine<'_> {
    /// Answers `question` for all peers, interfaces and addresses of this host at once.
    ///
    /// # Errors
    /// When the node budget is used up.
    pub fn conversation(&mut self, question: &Question) -> Built<Conversation> {
        let (peer, own, interface) = match question.outgoing {
            true => (Dimension::Destination, Dimension::Source, Dimension::OutInterface),
            false => (Dimension::Source, Dimension::Destination, Dimension::InInterface),
        };
        let first = self.first_packet(question);
        let start = self.first_packets(question, own, interface)?;
        let way = if question.outgoing { Way::Out } else { Way::In };
        let mut talk = Conversation { allowed: Set::NONE, refused: Set::NONE, peer, own, interface, legs: Vec::new() };
        let opened = self.leg(&mut talk, "first packet", way, first.clone(), start)?;
        let mut allowed = opened.lost;
        for (answer, back, set) in self.answers(question, &first, opened.ends)? {
            let narrowed = self.routed_back(&answer, set)?;
            let walked = self.leg(&mut talk, "answer", back, answer.clone(), narrowed)?;
            let through = self.rest(&mut talk, question, (&first, way), (&answer, back), walked)?;
            allowed = self.bdd().or(allowed, through)?;
        }
        let group = self.hidden(&[peer, own, interface]);
        talk.allowed = self.bdd().exists(allowed, group)?;
        talk.refused = self.bdd().exists(talk.refused, group)?;
        Ok(talk)
    }

    /// The packets after the answer; gives the first packets for which all of them may pass.
    fn rest(
        &mut self,
        talk: &mut Conversation,
        question: &Question,
        (first, opened): (&Header, Way),
        (answer, answered): (&Header, Way),
        walked: Walked,
    ) -> Built {
        let beside = self.beside_dimensions(talk.interface);
        let mut through = walked.lost;
        let mut ends = walked.ends;
        for later in later_packets(question) {
            let mut legs: Vec<(Header, Way, Set)> = Vec::new();
            for (end, set) in ends {
                let set = self.bdd().exists(set, beside)?;
                let model = if later.reply { answer } else { first };
                let header = later.header(model, (first, answer), &end);
                // as the packet that it is like: the first one, or the answer
                let way = if later.reply { answered } else { opened };
                let set = if later.reply { self.routed_back(&header, set)? } else { set };
                match legs.iter_mut().find(|(known, with, _)| *known == header && *with == way) {
                    Some((_, _, known)) => *known = self.bdd().or(*known, set)?,
                    None => legs.push((header, way, set)),
                }
            }
            ends = Vec::new();
            for (header, way, set) in legs {
                let walked = self.leg(talk, later.name, way, header, set)?;
                through = self.bdd().or(through, walked.lost)?;
                ends.extend(walked.ends);
            }
        }
        let last = self.bdd().union(ends.iter().map(|(_, set)| *set))?;
        let last = self.bdd().exists(last, beside)?;
        self.bdd().or(through, last)
    }

    /// Walks one packet of the conversation.
    fn leg(
        &mut self,
        talk: &mut Conversation,
        name: &'static str,
        way: Way,
        header: Header,
        set: Set,
    ) -> Built<Walked> {
        let verdicts = self.walk(way, header.clone(), set)?;
        talk.legs.push(Leg { name, way, header, set });
        talk.refused = self.bdd().or(talk.refused, verdicts.refused)?;
        Ok(Walked { lost: verdicts.lost, ends: verdicts.ends })
    }

    /// The interface that is not shown: that of an answer is routing's to choose.
    fn beside_dimensions(&mut self, interface: Dimension) -> Group {
        let other = match interface {
            Dimension::InInterface => Dimension::OutInterface,
            _ => Dimension::InInterface,
        };
        let variables: Vec<u16> = self.layout().variables(other).collect();
        self.bdd().group(variables)
    }

    fn first_packet(&self, question: &Question) -> Header {
        let mut header = first_header(question.protocol, question.port, question.state);
        if question.state == CtState::ESTABLISHED {
            (header.original, header.reply) = (header.ends, header.ends.turned());
            header.direction = Some(CtDirection::Original);
        }
        if question.outgoing {
            header.ttl = Binding::Unknown;
            (header.iif, header.oif) = (Binding::Known(0), Binding::Free(Dimension::OutInterface));
        } else {
            (header.iif, header.oif) = (Binding::Free(Dimension::InInterface), Binding::Known(0));
        }
        header
    }

    /// First packets there can be: from a client's port, over interfaces and addresses the host has, as routing goes.
    fn first_packets(&mut self, question: &Question, own: Dimension, interface: Dimension) -> Built {
        let ports = match question.protocol.has_ports() {
            true => self.encoder().bound_within(Binding::Free(Dimension::SourcePort), &[CLIENT_PORTS])?.certain,
            false => Set::ALL,
        };
        let addresses = self.own_addresses();
        let addresses = match addresses.is_empty() {
            true => Set::ALL,
            false => self.encoder().bound_within(Binding::Free(own), &addresses)?.certain,
        };
        let links = self.links(interface)?;
        let set = self.bdd().union([!ports, !addresses, !links])?;
        let set = !set;
        if question.outgoing { self.routed_to(Dimension::Destination, interface, set) } else { Ok(set) }
    }

    /// Addresses of this host that others can reach; empty when not known.
    #[must_use]
    pub fn own_addresses(&self) -> Vec<Interval> {
        let interfaces = self.facts().host().interfaces.iter().flatten().filter(|interface| !interface.loopback);
        let addresses = interfaces.flat_map(|interface| &interface.addresses).map(|own| own.address);
        let v4 = self.facts().family() == Family::Ipv4;
        let numbers = addresses.filter(|address| address.is_ipv4() == v4).map(address_bits);
        let mut numbers: Vec<Interval> = numbers.map(Interval::single).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }

    /// Interfaces to the outside: those the host has, or every name when they are not known.
    fn links(&mut self, interface: Dimension) -> Built {
        let all = self.facts().host().interfaces.as_deref().unwrap_or_default();
        let outside = |one: &&Interface| !one.loopback && &*one.name != "lo";
        let known: Vec<u128> = all.iter().filter(outside).map(|one| interface_number(one.name.as_bytes())).collect();
        let names = self.layout().interfaces().names().to_vec();
        let lo = interface_number(b"lo");
        let encoder = self.encoder();
        encoder.layout.of_classes(&mut encoder.bdd, interface, |class| {
            names.get(class).is_some_and(|name| if known.is_empty() { *name != lo } else { known.contains(name) })
        })
    }

    /// Peers nobody asks about: this host's own addresses, loopback, multicast and broadcast.
    ///
    /// # Errors
    /// When the node budget is used up.
    pub fn no_peers(&mut self, peer: Dimension) -> Built {
        let special: &[&str] = match self.facts().family() {
            Family::Ipv4 => &["0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/4", "255.255.255.255"],
            _ => &["::/128", "::1", "ff00::/8"],
        };
        let prefixes = special.iter().filter_map(|text| text.parse::<Prefix>().ok()).map(Prefix::range);
        let mut intervals: Vec<Interval> = prefixes.map(|(low, high)| Interval { low, high }).collect();
        intervals.extend(self.own_addresses());
        intervals.extend(self.facts().local());
        Ok(self.encoder().bound_within(Binding::Free(peer), &joined(intervals))?.certain)
    }

    /// `set`, each packet with the interface by which the address in `towards` is reached; any, where routing is not known.
    fn routed_to(&mut self, towards: Dimension, interface: Dimension, set: Set) -> Built {
        let facts = self.facts();
        let routed = self.by_route(facts, Some(interface_number(b"lo")), towards, interface)?;
        self.bdd().and(set, routed)
    }

    /// Packets with the outgoing interface that a host's routes name for their destination, for packets that came in by
    /// `iif`; any, where that is not known.
    ///
    /// # Errors
    /// When the node budget is used up.
    pub fn routes_of(&mut self, facts: &super::HostFacts<'_>, iif: Option<u128>) -> Built {
        self.by_route(facts, iif, Dimension::Destination, Dimension::OutInterface)
    }

    fn by_route(
        &mut self,
        facts: &super::HostFacts<'_>,
        iif: Option<u128>,
        towards: Dimension,
        interface: Dimension,
    ) -> Built {
        let devices = facts.devices(iif);
        let names = self.layout().interfaces().names().to_vec();
        let mut by_device: std::collections::BTreeMap<Option<u128>, Vec<Interval>> = Default::default();
        for (interval, device) in devices {
            by_device.entry(device).or_default().push(interval);
        }
        let mut routed = Vec::new();
        for (device, intervals) in by_device {
            let addresses = self.encoder().bound_within(Binding::Free(towards), &joined(intervals))?.certain;
            let class = device.and_then(|device| names.iter().position(|name| *name == device));
            let by = match class {
                None => Set::ALL,
                Some(class) => {
                    let encoder = self.encoder();
                    encoder.layout.of_classes(&mut encoder.bdd, interface, |number| number == class)?
                }
            };
            routed.push(self.bdd().and(addresses, by)?);
        }
        self.bdd().union(routed)
    }

    /// First packets with the interface by which their answer leaves, where it is open.
    fn routed_back(&mut self, answer: &Header, set: Set) -> Built {
        match (answer.oif, answer.ends.dst) {
            (Binding::Free(Dimension::OutInterface), Binding::Free(peer)) => {
                self.routed_to(peer, Dimension::OutInterface, set)
            }
            _ => Ok(set),
        }
    }

    /// What answers look like, for each way first packets ended.
    fn answers(
        &mut self,
        question: &Question,
        first: &Header,
        ends: Vec<(Header, Set)>,
    ) -> Built<Vec<(Header, Way, Set)>> {
        let mut answers: Vec<(Header, Way, Set)> = Vec::new();
        for (end, set) in ends {
            let (answer, way) = self.answer(question, first, &end);
            match answers.iter_mut().find(|(header, known, _)| *header == answer && *known == way) {
                Some((_, _, known)) => *known = self.bdd().or(*known, set)?,
                None => answers.push((answer, way, set)),
            }
        }
        Ok(answers)
    }

    fn answer(&self, question: &Question, first: &Header, end: &Header) -> (Header, Way) {
        let tracked = end.is_tracked();
        let state = if tracked { CtState::ESTABLISHED } else { CtState::NEW };
        let mut answer = Header::open().in_state(state);
        answer.ends = end.ends.turned();
        (answer.protocol, answer.extension) = (first.protocol, Binding::Known(0));
        let flags = match question.state {
            CtState::NEW => TcpFlags(TcpFlags::SYN.0 | TcpFlags::ACK.0),
            _ => TcpFlags::ACK,
        };
        answer.tcp_flags = Binding::Known(flags.0.into());
        (answer.icmp_type, answer.icmp_code) = (Binding::Known(echo(question.protocol).1), Binding::Known(0));
        // another packet than the first: nothing else is known of it
        (answer.ttl, answer.tos, answer.length) = (Binding::Unknown, Binding::Unknown, Binding::Unknown);
        (answer.user, answer.user_group) = (Binding::Unknown, Binding::Unknown);
        answer.ct_mark = if tracked { end.ct_mark } else { Binding::Known(0) };
        (answer.original, answer.reply) = (answer.ends, answer.ends.turned());
        if tracked {
            let seen = CtStatus::CONFIRMED.0 | CtStatus::SEEN_REPLY.0;
            answer.status = end.status.map(|status| status | seen);
            answer.direction = Some(CtDirection::Reply);
            (answer.original, answer.reply) = (first.ends, answer.ends);
        }
        let delivered = end.oif == Binding::Known(0);
        let back = match answer.ends.dst {
            Binding::Known(number) => self.facts().device(number, None).map_or(Binding::Unknown, Binding::Known),
            _ => Binding::Free(Dimension::OutInterface),
        };
        let way = match (question.outgoing, delivered) {
            // sent to this host itself, or turned round by a redirect
            (true, true) => {
                (answer.iif, answer.oif) = (Binding::Known(0), Binding::Known(interface_number(b"lo")));
                Way::Out
            }
            // what left comes back by the interface it left by
            (true, false) => {
                (answer.iif, answer.oif) = (end.oif, Binding::Known(0));
                Way::In
            }
            (false, true) => {
                (answer.iif, answer.oif) = (Binding::Known(0), back);
                Way::Out
            }
            (false, false) => {
                (answer.iif, answer.oif) = (end.oif, back);
                Way::Forward
            }
        };
        (answer, way)
    }
}

/// A packet that asks for a service: a SYN when it is new, of ICMP an echo request.
#[must_use]
pub fn first_header(protocol: Protocol, port: Option<u16>, state: CtState) -> Header {
    let mut header = Header::open().in_state(state);
    header.protocol = Binding::Known(protocol.0.into());
    // ordinary stacks send no extension headers
    header.extension = Binding::Known(0);
    let new = state == CtState::NEW;
    let flags = if new { TcpFlags::SYN } else { TcpFlags::ACK };
    header.tcp_flags = Binding::Known(flags.0.into());
    header.ends.dport = port.map_or(Binding::Unknown, |port| Binding::Known(port.into()));
    (header.icmp_type, header.icmp_code) = (Binding::Known(echo(protocol).0), Binding::Known(0));
    if new {
        (header.original, header.reply) = (header.ends, header.ends.turned());
    }
    header
}

/// Types of echo request and reply.
fn echo(protocol: Protocol) -> (u128, u128) {
    if protocol == Protocol::ICMPV6 { (128, 129) } else { (8, 0) }
}

/// A packet after the answer.
#[derive(Clone, Copy, Debug)]
struct Later {
    name: &'static str,
    /// It goes against the first packet.
    reply: bool,
    flags: TcpFlags,
}

/// What TCP says after the answer to a first packet: the handshake's end and data, both ways. Others have said it all.
fn later_packets(question: &Question) -> Vec<Later> {
    if question.protocol != Protocol::TCP || question.state != CtState::NEW {
        return Vec::new();
    }
    let data = TcpFlags(TcpFlags::ACK.0 | TcpFlags::PSH.0);
    vec![
        Later { name: "third packet", reply: false, flags: TcpFlags::ACK },
        Later { name: "data", reply: false, flags: data },
        Later { name: "data back", reply: true, flags: data },
    ]
}

impl Later {
    /// What it looks like after the packet that ended as `end`.
    fn header(self, model: &Header, (first, answer): (&Header, &Header), end: &Header) -> Header {
        let mut header = model.clone();
        // another packet than the first: nothing else is known of it
        (header.ttl, header.tos, header.length) = (Binding::Unknown, Binding::Unknown, Binding::Unknown);
        if end.is_tracked() && answer.state == CtState::ESTABLISHED {
            header = header.in_state(CtState::ESTABLISHED);
            header.status = end.status.map(|status| status | CtStatus::ASSURED.0);
            header.direction = Some(if self.reply { CtDirection::Reply } else { CtDirection::Original });
            header.ct_mark = end.ct_mark;
            (header.original, header.reply) = (first.ends, answer.reply);
        } else {
            (header.original, header.reply) = (Ends::UNKNOWN, Ends::UNKNOWN);
        }
        header.tcp_flags = Binding::Known(self.flags.0.into());
        header
    }
}
