//! The packets of a conversation, by protocol.

use crate::packet::{CtState, Packet, PacketType, Protocol, TcpFlags};

/// One packet of the script.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leg {
    /// What it is called.
    pub name: &'static str,
    /// It goes against the first packet.
    pub reply: bool,
    /// It is the first.
    pub first: bool,
    /// Its TCP flags.
    pub flags: TcpFlags,
    /// The conversation's protocol.
    pub protocol: Protocol,
    /// Its ICMP type and code, where the script tells.
    pub icmp: Option<(u8, u8)>,
}

impl Leg {
    fn new(name: &'static str, reply: bool) -> Self {
        Self { name, reply, first: false, flags: TcpFlags(0), protocol: Protocol::TCP, icmp: None }
    }

    fn tcp(name: &'static str, reply: bool, flags: u8) -> Self {
        Self { flags: TcpFlags(flags), ..Self::new(name, reply) }
    }

    /// Gives `packet` what the script says; the first packet stays as it is.
    pub(super) fn dress(&self, packet: &mut Packet) {
        if self.first {
            return;
        }
        packet.tcp_flags = self.flags;
        packet.icmp = self.icmp;
        // another packet than the first: its length and service class are not told
        (packet.length, packet.tos) = (None, None);
    }

    /// The states such a packet may have where connection tracking has no entry for it; where its flags or type say more,
    /// the trace corrects it.
    pub(super) fn unheard(&self) -> &'static [CtState] {
        match (self.protocol, self.reply) {
            // an INIT ACK opens nothing
            (Protocol::SCTP, true) => &[CtState::INVALID],
            // kernels from 6.17 on do not look into it any more
            (Protocol::DCCP, true) => &[CtState::NEW, CtState::INVALID],
            _ => &[CtState::NEW],
        }
    }
}

/// What is said after `first`, itself included. A packet that nobody answers stands alone.
#[must_use]
pub fn script(first: &Packet) -> Vec<Leg> {
    const ACK: u8 = TcpFlags::ACK.0;
    const DATA: u8 = ACK | TcpFlags::PSH.0;
    let mut legs = match first.protocol {
        Protocol::TCP => vec![
            Leg::tcp("SYN", false, TcpFlags::SYN.0),
            Leg::tcp("SYN-ACK", true, TcpFlags::SYN.0 | ACK),
            Leg::tcp("ACK", false, ACK),
            Leg::tcp("data", false, DATA),
            Leg::tcp("data back", true, DATA),
        ],
        Protocol::ICMP | Protocol::ICMPV6 => match (first.icmp, answer_to(first)) {
            (_, Some(kind)) => {
                vec![Leg::new("request", false), Leg { icmp: Some((kind, 0)), ..Leg::new("reply", true) }]
            }
            (None, _) => vec![Leg::new("request", false), Leg::new("reply", true)],
            _ => vec![Leg::new("message", false)],
        },
        Protocol::UDP | Protocol::UDPLITE => vec![Leg::new("request", false), Leg::new("reply", true)],
        Protocol::SCTP => vec![Leg::new("INIT", false), Leg::new("INIT-ACK", true)],
        _ => vec![Leg::new("first", false), Leg::new("reply", true)],
    };
    if answers_from_anywhere(first) {
        legs.truncate(1);
    }
    for (number, leg) in legs.iter_mut().enumerate() {
        (leg.first, leg.protocol) = (number == 0, first.protocol);
    }
    legs
}

/// The ICMP type that answers the first packet's.
fn answer_to(first: &Packet) -> Option<u8> {
    let (kind, _) = first.icmp?;
    match (first.protocol, kind) {
        (Protocol::ICMP, 8) => Some(0),
        (Protocol::ICMP, 13 | 15 | 17) => Some(kind + 1),
        (Protocol::ICMPV6, 128 | 139) => Some(kind + 1),
        // neighbour and router discovery
        (Protocol::ICMPV6, 133 | 135) => Some(kind + 1),
        _ => None,
    }
}

/// Whether the first packet goes to many, so that nobody knows whose address answers it.
pub(super) fn answers_from_anywhere(first: &Packet) -> bool {
    let broadcast = matches!(first.dst, std::net::IpAddr::V4(address) if address.is_broadcast());
    broadcast
        || first.dst.is_multicast()
        || matches!(first.packet_type, Some(PacketType::Broadcast | PacketType::Multicast))
}
