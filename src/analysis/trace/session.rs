//! The connections the host had when the snapshot was taken: they tell what a later packet's connection is translated to.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;

use super::Engine;
use crate::analysis::path;
use crate::host::{Host, Session};
use crate::packet::{ConntrackView, CtDirection, CtState, CtStatus, Packet, Tuple};

/// Protocol, source, destination.
type Key = (u8, (IpAddr, u16), (IpAddr, u16));

/// Sessions with ports, by the addresses of either direction's packets before translation.
pub(super) type SessionIndex<'a> = HashMap<Key, (&'a Session, CtDirection)>;

fn index(host: &Host) -> SessionIndex<'_> {
    let mut found = HashMap::new();
    for session in host.sessions.iter().flatten() {
        for (tuple, direction) in [(session.original, CtDirection::Original), (session.reply, CtDirection::Reply)] {
            if let Some(key) = key(session.protocol.0, tuple) {
                found.insert(key, (session, direction));
            }
        }
    }
    found
}

fn key(protocol: u8, tuple: Tuple) -> Option<Key> {
    Some((protocol, (tuple.src, tuple.sport?), (tuple.dst, tuple.dport?)))
}

/// Fills in what the snapshot's connections tell about a packet of an established one.
pub(super) fn complete(engine: &Engine<'_>, packet: &mut Cow<'_, Packet>, notes: &mut Vec<String>) {
    let host = engine.router.host();
    let told = packet.ct != ConntrackView::default();
    if packet.state != CtState::ESTABLISHED || told || host.sessions.is_none() {
        return;
    }
    let own = Tuple { src: packet.src, sport: packet.sport, dst: packet.dst, dport: packet.dport };
    let Some(wanted) = key(packet.protocol.0, own) else { return };
    let Some((session, direction)) = engine.sessions.get_or_init(|| index(host)).get(&wanted) else {
        notes.push("the snapshot's connections hold none with these addresses and ports".to_owned());
        return;
    };
    // a listing does not tell which ends NAT has settled: all that it sees
    let settled = if path::nat_is_set_up(engine.ruleset, packet.family()) { 0x180 } else { 0 };
    packet.to_mut().ct = ConntrackView {
        status: Some(CtStatus(session.status.0 | settled)),
        direction: Some(*direction),
        original: Some(session.original),
        reply: Some(session.reply),
        mark: Some(session.mark),
    };
}
