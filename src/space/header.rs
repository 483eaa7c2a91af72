//! The packets of a set as rules see them at one place: every field is open, fixed, or not known.
//!
//! Rewriting a packet (marks, NAT) changes the header, never the set: sets always speak of packets *as they were sent*. So a
//! rule behind a DNAT that asks for the new address is a constant, and no set needs to be transformed.

use crate::packet::{CtDirection, CtState, CtStatus, Protocol};
use crate::ruleset::{Field, Name};

use super::layout::Dimension;

/// Where a field's value comes from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Binding {
    /// Whatever the packet has in this dimension.
    Free(Dimension),
    /// This number.
    Known(u128),
    /// The packet has no such thing; asking for it ends the rule.
    Missing,
    /// Any value is possible.
    Unknown,
}

impl Binding {
    /// The number, when it is fixed.
    #[must_use]
    pub fn known(self) -> Option<u128> {
        match self {
            Self::Known(number) => Some(number),
            _ => None,
        }
    }

    /// The same with a fixed number changed.
    #[must_use]
    pub fn map(self, change: impl FnOnce(u128) -> u128) -> Self {
        match self {
            Self::Known(number) => Self::Known(change(number)),
            other => other,
        }
    }
}

/// The packet's place in connection tracking.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Tracking {
    /// Not seen yet.
    Before,
    /// Seen: its state is the header's.
    Seen,
    /// Taken out.
    Untracked,
    /// An answer of the kernel's own (a reset, an ICMP error) to a packet that was taken out: it got that one's place in
    /// tracking without a connection, which rules see as invalid and `notrack` leaves alone (`nf_conntrack_attach`).
    Answer,
}

/// Addresses and ports of one direction of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Ends {
    /// Source address.
    pub src: Binding,
    /// Source port.
    pub sport: Binding,
    /// Destination address.
    pub dst: Binding,
    /// Destination port.
    pub dport: Binding,
}

impl Ends {
    /// Nothing is known.
    pub const UNKNOWN: Self =
        Self { src: Binding::Unknown, sport: Binding::Unknown, dst: Binding::Unknown, dport: Binding::Unknown };

    /// The other direction.
    #[must_use]
    pub fn turned(self) -> Self {
        Self { src: self.dst, sport: self.dport, dst: self.src, dport: self.sport }
    }
}

/// The packets as rules see them now.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Header {
    /// Addresses and ports.
    pub ends: Ends,
    /// Upper-layer protocol.
    pub protocol: Binding,
    /// Number of the first IPv6 extension header, in [`super::layout::EXTENSIONS`].
    pub extension: Binding,
    /// TCP flags.
    pub tcp_flags: Binding,
    /// ICMP type.
    pub icmp_type: Binding,
    /// ICMP code.
    pub icmp_code: Binding,
    /// Incoming interface; `Known(0)`: none.
    pub iif: Binding,
    /// Outgoing interface; `Known(0)`: none.
    pub oif: Binding,
    /// Packet mark.
    pub mark: Binding,
    /// Connection mark.
    pub ct_mark: Binding,
    /// TTL or hop limit.
    pub ttl: Binding,
    /// TOS or traffic class.
    pub tos: Binding,
    /// Length of the IP packet.
    pub length: Binding,
    /// Sender's link-layer address, where its device has such.
    pub link_source: Binding,
    /// Receiver's.
    pub link_destination: Binding,
    /// Link-layer packet type; unknown means "as the address tells".
    pub packet_type: Binding,
    /// Owner of the local socket.
    pub user: Binding,
    /// Group of the local socket.
    pub user_group: Binding,
    /// Conntrack state, once tracking has seen the packet.
    pub state: CtState,
    /// Whether it has.
    pub tracking: Tracking,
    /// Conntrack status bits; `None`: not known.
    pub status: Option<u32>,
    /// Direction of the packet in its connection.
    pub direction: Option<CtDirection>,
    /// The connection's first packet.
    pub original: Ends,
    /// Its answer; of no meaning for new connections, whose answer goes where the packet now comes from.
    pub reply: Ends,
    /// Destination NAT is settled.
    pub destination_done: bool,
    /// Source NAT is settled.
    pub source_done: bool,
    /// NAT said it goes to this host.
    pub redirected: bool,
    /// Fields rules have assigned that have no place above.
    pub assigned: Vec<(Field, Binding)>,
    /// Sets rules have changed on the way: table (`usize::MAX` for ipsets) and name.
    pub touched: Vec<(usize, Name)>,
    /// Goes up when the packet's bytes change: undecidable conditions before and after are different questions.
    pub epoch: u32,
}

impl Header {
    /// A first packet with everything open that a packet space has, no mark, and no connection yet.
    #[must_use]
    pub fn open() -> Self {
        use Binding::Free;
        let ends = Ends {
            src: Free(Dimension::Source),
            sport: Free(Dimension::SourcePort),
            dst: Free(Dimension::Destination),
            dport: Free(Dimension::DestinationPort),
        };
        Self {
            ends,
            protocol: Free(Dimension::Protocol),
            extension: Free(Dimension::Extension),
            tcp_flags: Free(Dimension::TcpFlags),
            icmp_type: Free(Dimension::IcmpType),
            icmp_code: Free(Dimension::IcmpCode),
            iif: Free(Dimension::InInterface),
            oif: Free(Dimension::OutInterface),
            mark: Binding::Known(0),
            ct_mark: Binding::Known(0),
            ttl: Free(Dimension::Ttl),
            tos: Free(Dimension::Tos),
            length: Free(Dimension::Length),
            link_source: Binding::Unknown,
            link_destination: Binding::Unknown,
            packet_type: Binding::Unknown,
            user: Free(Dimension::User),
            user_group: Free(Dimension::UserGroup),
            state: CtState::NEW,
            tracking: Tracking::Before,
            status: Some(0),
            direction: Some(CtDirection::Original),
            original: ends,
            reply: ends.turned(),
            destination_done: false,
            source_done: false,
            redirected: false,
            assigned: Vec::new(),
            touched: Vec::new(),
            epoch: 0,
        }
    }

    /// The same in another state: of a connection that exists only `status` is known to be without translation.
    #[must_use]
    pub fn in_state(mut self, state: CtState) -> Self {
        self.state = state;
        if state != CtState::NEW {
            let confirmed = CtStatus::CONFIRMED.0 | CtStatus::SEEN_REPLY.0;
            self.status = if state == CtState::ESTABLISHED { Some(confirmed) } else { None };
            self.direction = None;
            self.ct_mark = Binding::Free(Dimension::ConnectionMark);
            (self.original, self.reply) = (Ends::UNKNOWN, Ends::UNKNOWN);
        }
        self
    }

    /// The protocol, when it is fixed.
    #[must_use]
    pub fn known_protocol(&self) -> Option<Protocol> {
        self.protocol.known().and_then(|number| u8::try_from(number).ok()).map(Protocol)
    }

    /// Whether connection tracking makes a new entry for it: it is new, and no earlier packet has left an entry behind.
    #[must_use]
    pub fn opens_connection(&self) -> bool {
        let known = self.status.is_some_and(|status| status & CtStatus::CONFIRMED.0 != 0);
        self.state == CtState::NEW && !known
    }

    /// Conntrack state as rules see it.
    #[must_use]
    pub fn seen_state(&self) -> CtState {
        match self.tracking {
            Tracking::Before | Tracking::Answer => CtState::INVALID,
            Tracking::Untracked => CtState::UNTRACKED,
            Tracking::Seen => self.state,
        }
    }

    /// Whether it belongs to a tracked connection.
    #[must_use]
    pub fn is_tracked(&self) -> bool {
        self.tracking == Tracking::Seen && self.state != CtState::INVALID && self.state != CtState::UNTRACKED
    }
}
