//! Connections made known to the kernel before packets are sent (`linux/netfilter/nfnetlink_conntrack.h`).

use std::net::IpAddr;

use hepguard::packet::{Protocol, Tuple};

use crate::netlink::{ACK, CREATE, Messages, Netlink, REQUEST};

const SUBSYSTEM: u16 = 1 << 8;
const NEW: u16 = SUBSYSTEM;
const DELETE: u16 = SUBSYSTEM | 2;
/// `IPS_CONFIRMED`: every entry in the table has it.
const CONFIRMED: u32 = 8;
/// `IPS_SEEN_REPLY | IPS_ASSURED`.
const ANSWERED: u32 = 2 | 4;
/// Bytes sent in one piece.
const PIECE: usize = 32 * 1024;

/// A TCP or UDP connection without NAT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Connection {
    /// TCP or UDP.
    pub(crate) protocol: Protocol,
    /// The first packet's addresses.
    pub(crate) original: Tuple,
    /// Packets were seen both ways.
    pub(crate) answered: bool,
    /// Its mark.
    pub(crate) mark: u32,
}

/// Forgets every connection.
pub(crate) fn forget_all(netlink: &mut Netlink) -> Result<(), String> {
    let mut messages = Messages::default();
    messages.message(DELETE, REQUEST | ACK, &[0; 4]);
    messages.end();
    netlink.request(&messages).map_err(|error| format!("conntrack: {error}"))
}

/// Makes `connections` known.
pub(crate) fn make_known<'c>(
    netlink: &mut Netlink,
    connections: impl Iterator<Item = &'c Connection>,
) -> Result<(), String> {
    let mut connections = connections.peekable();
    let mut messages = Messages::default();
    while let Some(connection) = connections.next() {
        let last = connections.peek().is_none() || messages.len() > PIECE;
        write(&mut messages, connection, if last { ACK } else { 0 });
        if last {
            // the same connection twice is one connection
            match netlink.request(&messages) {
                Ok(()) | Err(nix::Error::EEXIST) => {}
                Err(error) => return Err(format!("conntrack: {error}: {connection:?}")),
            }
            messages = Messages::default();
        }
    }
    Ok(())
}

fn write(messages: &mut Messages, connection: &Connection, ack: u16) {
    let Connection { protocol, original, answered, mark } = *connection;
    let family = if original.dst.is_ipv4() { 2 } else { 10 };
    messages.message(NEW, REQUEST | CREATE | ack, &[family, 0, 0, 0]);
    let Tuple { src, sport, dst, dport } = original;
    tuple(messages, 1, protocol, original);
    tuple(messages, 2, protocol, Tuple { src: dst, sport: dport, dst: src, dport: sport });
    let status = if answered { CONFIRMED | ANSWERED } else { CONFIRMED };
    messages.attribute(3, &status.to_be_bytes());
    if protocol == Protocol::TCP {
        // CTA_PROTOINFO, CTA_PROTOINFO_TCP, its state: ESTABLISHED
        messages.nested(4, |inside| inside.nested(1, |inside| inside.attribute(1, &[3])));
    }
    messages.attribute(7, &600u32.to_be_bytes());
    messages.attribute(8, &mark.to_be_bytes());
    messages.end();
}

fn tuple(messages: &mut Messages, kind: u16, protocol: Protocol, tuple: Tuple) {
    messages.nested(kind, |inside| {
        inside.nested(1, |inside| {
            for (v4, address) in [(1, tuple.src), (2, tuple.dst)] {
                match address {
                    IpAddr::V4(address) => inside.attribute(v4, &address.octets()),
                    IpAddr::V6(address) => inside.attribute(v4 + 2, &address.octets()),
                }
            }
        });
        inside.nested(2, |inside| {
            inside.attribute(1, &[protocol.0]);
            inside.attribute(2, &tuple.sport.unwrap_or(0).to_be_bytes());
            inside.attribute(3, &tuple.dport.unwrap_or(0).to_be_bytes());
        });
    });
}
