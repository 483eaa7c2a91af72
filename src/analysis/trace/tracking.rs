//! What connection tracking makes of a packet by itself, whatever the rules say (net/netfilter/nf_conntrack_proto_*.c).

use std::borrow::Cow;

use crate::host::Host;
use crate::packet::{CtState, Packet, Protocol, TcpFlags};

/// Whether tracking takes a TCP packet in the middle of a connection it does not know for a new one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum PickUp {
    /// The question does not arise, or is answered.
    No,
    /// The sysctl that decides is not in the snapshot.
    Unknown,
}

/// Flags that may come with any others.
const ANYWHERE: u8 = TcpFlags::PSH.0 | 64 | 128;

/// Gives `packet` the state tracking gives it where its own bytes decide, and says so.
pub(super) fn correct(host: &Host, packet: &mut Cow<'_, Packet>, notes: &mut Vec<String>) -> PickUp {
    match seen(host, packet) {
        Ok(pick_up) => pick_up,
        Err((state, note)) => {
            notes.push(note);
            packet.to_mut().state = state;
            PickUp::No
        }
    }
}

/// `Err` is another state than the packet was said to have, and why.
fn seen(host: &Host, packet: &Packet) -> Result<PickUp, (CtState, String)> {
    let invalid = |why: String| Err((CtState::INVALID, format!("{why}: the state of such a packet is invalid")));
    if never_tracked(packet) && packet.state != CtState::UNTRACKED {
        let note = "the kernel never tracks this ICMPv6 type: its state is untracked";
        return Err((CtState::UNTRACKED, note.to_owned()));
    }
    if matches!(packet.state, CtState::INVALID | CtState::UNTRACKED) {
        return Ok(PickUp::No);
    }
    match (packet.protocol, packet.icmp) {
        (Protocol::TCP, _) => {
            let flags = packet.tcp_flags;
            let main = TcpFlags(flags.0 & !ANYWHERE & !TcpFlags::URG.0);
            if !is_sound(flags) {
                return invalid(format!("TCP flags {flags} cannot stand together"));
            }
            if !packet.opens_connection() || main == TcpFlags::SYN {
                return Ok(PickUp::No);
            }
            match loose(host) {
                Some(true) if main == TcpFlags::ACK => Ok(PickUp::No),
                None if main == TcpFlags::ACK => Ok(PickUp::Unknown),
                _ => invalid(format!("TCP flags {flags} open no connection")),
            }
        }
        (protocol @ (Protocol::ICMP | Protocol::ICMPV6), Some((kind, _)))
            if packet.opens_connection() && !is_question(protocol, kind) =>
        {
            invalid(format!("{protocol} type {kind} opens no connection"))
        }
        _ => Ok(PickUp::No),
    }
}

/// Multicast listener and neighbour discovery messages bypass connection tracking.
fn never_tracked(packet: &Packet) -> bool {
    packet.protocol == Protocol::ICMPV6
        && packet.dst.is_ipv6()
        && packet.icmp.is_some_and(|(kind, _)| matches!(kind, 130..=136 | 143))
}

/// Flags that can stand together (`tcp_valid_flags`).
fn is_sound(flags: TcpFlags) -> bool {
    const SYN: u8 = TcpFlags::SYN.0;
    const ACK: u8 = TcpFlags::ACK.0;
    const RST: u8 = TcpFlags::RST.0;
    const FIN: u8 = TcpFlags::FIN.0;
    const URG: u8 = TcpFlags::URG.0;
    let main = flags.0 & !ANYWHERE;
    [SYN, SYN | URG, SYN | ACK, RST, RST | ACK, FIN | ACK, FIN | ACK | URG, ACK, ACK | URG].contains(&main)
}

/// ICMP types that open a connection: requests that have an answer.
fn is_question(protocol: Protocol, kind: u8) -> bool {
    match protocol {
        Protocol::ICMP => matches!(kind, 8 | 13 | 15 | 17),
        _ => matches!(kind, 128 | 139),
    }
}

/// Whether connections are picked up half way; `None` when the snapshot does not tell.
fn loose(host: &Host) -> Option<bool> {
    Some(host.sysctls.as_ref()?.get("net.netfilter.nf_conntrack_tcp_loose")?.trim() != "0")
}
