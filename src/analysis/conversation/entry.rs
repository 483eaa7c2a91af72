//! The connection tracking entry of a conversation, as the first packet that is tracked leaves it behind and later ones
//! find it (nf_conntrack_core.c, nf_conntrack_proto_tcp.c).

use super::script::Leg;
use crate::analysis::trace::{Arrival, Hidden, Passage};
use crate::packet::{ConntrackView, CtDirection, CtState, CtStatus, Protocol, TcpFlags, Tuple};

/// How far TCP's handshake got in the eyes of connection tracking.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Handshake {
    SynSent,
    SynReceived,
    Established,
}

/// An entry.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Entry {
    protocol: Protocol,
    /// A packet of the answering side made it.
    by_answer: bool,
    original: Option<Tuple>,
    reply: Option<Tuple>,
    status: Option<CtStatus>,
    mark: Option<u32>,
    /// The zone it is found in; `None` is not known.
    pub(super) zone: Option<u16>,
    /// A packet was seen against the direction of the one that made it.
    replied: bool,
    tcp: Handshake,
    /// Rules rewrote the packet, so that the answer's addresses are not the entry's.
    pub(super) foreign: bool,
}

impl Entry {
    /// The entry that a packet without one makes as it leaves.
    pub(super) fn opened(leg: &Leg, arrival: &Arrival, passage: &Passage) -> Self {
        let packet = &arrival.packet;
        // rules that write addresses leave the entry with others than the packet's
        let foreign = passage.rewritten;
        let seen = arrival.hidden == Hidden::default() && !foreign;
        let own = Tuple { src: packet.src, sport: packet.sport, dst: packet.dst, dport: packet.dport };
        let ends = passage.dst.0.zip(passage.src.0).filter(|_| !foreign);
        let syn = packet.tcp_flags.0 & TcpFlags::SYN.0 != 0;
        Self {
            protocol: packet.protocol,
            by_answer: leg.reply,
            original: seen.then_some(own),
            reply: ends.map(|(src, dst)| Tuple { src, sport: passage.dst.1, dst, dport: passage.src.1 }),
            status: passage.status.map(confirmed),
            mark: passage.ct_mark,
            zone: passage.zone,
            replied: false,
            tcp: if syn { Handshake::SynSent } else { Handshake::Established },
            foreign,
        }
    }

    fn direction(&self, leg: &Leg) -> CtDirection {
        if leg.reply == self.by_answer { CtDirection::Original } else { CtDirection::Reply }
    }

    /// State and details of a packet that belongs to the entry, when tracking has seen it.
    pub(super) fn view(&self, leg: &Leg) -> (CtState, ConntrackView) {
        let direction = self.direction(leg);
        let original = direction == CtDirection::Original;
        if self.protocol == Protocol::TCP && original && self.tcp == Handshake::SynSent && !leg.first {
            // an acknowledgement of a SYN-ACK that tracking has not seen
            return (CtState::INVALID, ConntrackView::default());
        }
        let state = if original && !self.replied { CtState::NEW } else { CtState::ESTABLISHED };
        let mut bits = if original { 0 } else { CtStatus::SEEN_REPLY.0 };
        if self.protocol == Protocol::TCP && self.replied && self.next(leg) == Handshake::Established {
            bits |= CtStatus::ASSURED.0;
        }
        let status = self.status.map(|status| CtStatus(status.0 | bits));
        let view = ConntrackView {
            status,
            direction: Some(direction),
            original: self.original,
            reply: self.reply,
            mark: self.mark,
        };
        (state, view)
    }

    /// The handshake after a packet.
    fn next(&self, leg: &Leg) -> Handshake {
        let synack = leg.flags.0 & TcpFlags::SYN.0 != 0;
        match (self.tcp, self.direction(leg)) {
            (Handshake::SynSent, CtDirection::Reply) if synack => Handshake::SynReceived,
            (Handshake::SynReceived, CtDirection::Original) => Handshake::Established,
            (before, _) => before,
        }
    }

    /// The entry after a packet of its own has passed.
    pub(super) fn seen(&self, leg: &Leg, passage: &Passage) -> Self {
        Self {
            status: passage.status.map(confirmed),
            mark: passage.ct_mark,
            replied: self.replied || self.direction(leg) == CtDirection::Reply,
            tcp: self.next(leg),
            ..self.clone()
        }
    }
}

fn confirmed(status: CtStatus) -> CtStatus {
    CtStatus(status.0 | CtStatus::CONFIRMED.0)
}
