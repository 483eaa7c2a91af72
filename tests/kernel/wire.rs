//! Real bytes for a [`Packet`]: headers and checksums as RFC 791, 8200, 9293, 768, 792, 4443 and 9260 want them.

use std::net::IpAddr;

use hepguard::packet::{Packet, Protocol, TcpFlags, Tuple};

/// Marks a packet so that it is known again behind the firewall: IPv4 identification, IPv6 flow label. Never 0.
pub(crate) type Tag = u16;

/// Where TCP's sequence and acknowledgement numbers hold the tag; below is room for what the packet carries.
pub(crate) const TAG_SHIFT: u32 = 12;

/// What the model's packet does not say but a wire needs.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Extra {
    /// ICMP echo identifier.
    pub(crate) echo_id: u16,
    /// The packet an ICMP error complains about.
    pub(crate) quoted: Option<(Protocol, Tuple)>,
    /// TCP sequence and acknowledgement numbers within a conversation.
    pub(crate) numbers: Option<(u32, u32)>,
    /// It answers another packet.
    pub(crate) answer: bool,
    /// It is sent in two pieces.
    pub(crate) in_pieces: bool,
}

/// The packet's bytes, from the IP header on.
pub(crate) fn encode(packet: &Packet, extra: &Extra, tag: Tag) -> Vec<u8> {
    let mut body = Vec::new();
    let extensions = packet.details.extensions.as_deref().filter(|_| packet.dst.is_ipv6()).unwrap_or_default();
    for (at, extension) in extensions.iter().enumerate() {
        body.push(extensions.get(at + 1).map_or(packet.protocol, |next| next.header).0);
        body.extend(&extension.bytes[1..]);
    }
    body.extend(transport(packet, extra, tag));
    let first = extensions.first().map_or(packet.protocol, |first| first.header);
    let mut bytes = header(packet.src, packet.dst, first, body.len(), tag, packet.ttl, packet.tos);
    bytes.extend(body);
    bytes
}

/// A TCP header with these options (a multiple of four bytes).
pub(crate) fn tcp_with(packet: &Packet, options: &[u8]) -> Vec<u8> {
    tagged_tcp_with(packet, options, 0)
}

/// The same of a packet that is known again by its tag.
pub(crate) fn tagged_tcp_with(packet: &Packet, options: &[u8], tag: Tag) -> Vec<u8> {
    let mut header = transport(packet, &Extra::default(), tag);
    header.extend(options);
    header[12] = u8::try_from((header.len() / 4) << 4).expect("few options");
    header
}

/// The packet cut in two (RFC 791 §3.2, RFC 8200 §4.5), the first piece 8 bytes of its body long.
pub(crate) fn fragments(bytes: &[u8], tag: Tag) -> [Vec<u8>; 2] {
    if bytes[0] >> 4 == 4 {
        return [(20, 28, 0x2000u16), (28, bytes.len(), 1)].map(|(from, to, place)| {
            let mut piece = bytes[..20].to_vec();
            patch(&mut piece, 2, short(20 + to - from));
            patch(&mut piece, 6, place);
            patch(&mut piece, 10, 0);
            let sum = checksum(&piece);
            patch(&mut piece, 10, sum);
            piece.extend(&bytes[from..to]);
            piece
        });
    }
    [(40, 48, 1u16), (48, bytes.len(), 8)].map(|(from, to, place)| {
        let mut piece = bytes[..40].to_vec();
        piece[6] = 44;
        patch(&mut piece, 4, short(8 + to - from));
        piece.extend([bytes[6], 0]);
        piece.extend(place.to_be_bytes());
        piece.extend([0, 0]);
        piece.extend(tag.to_be_bytes());
        piece.extend(&bytes[from..to]);
        piece
    })
}

/// Length of the whole packet, for [`Packet::length`].
pub(crate) fn length(packet: &Packet, extra: &Extra) -> u16 {
    short(encode(packet, extra, 1).len())
}

fn short(length: usize) -> u16 {
    u16::try_from(length).expect("test packets are short")
}

fn header(
    src: IpAddr,
    dst: IpAddr,
    protocol: Protocol,
    body: usize,
    tag: Tag,
    ttl: Option<u8>,
    tos: Option<u8>,
) -> Vec<u8> {
    let (ttl, tos) = (ttl.unwrap_or(64), tos.unwrap_or(0));
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let mut bytes = vec![0x45, tos];
            bytes.extend(short(20 + body).to_be_bytes());
            bytes.extend(tag.to_be_bytes());
            bytes.extend([0, 0, ttl, protocol.0, 0, 0]);
            bytes.extend(src.octets());
            bytes.extend(dst.octets());
            let sum = checksum(&bytes);
            patch(&mut bytes, 10, sum);
            bytes
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let word = 6u32 << 28 | u32::from(tos) << 20 | u32::from(tag);
            let mut bytes = word.to_be_bytes().to_vec();
            bytes.extend(short(body).to_be_bytes());
            bytes.extend([protocol.0, ttl]);
            bytes.extend(src.octets());
            bytes.extend(dst.octets());
            bytes
        }
        _ => panic!("source and destination are of two families"),
    }
}

fn transport(packet: &Packet, extra: &Extra, tag: Tag) -> Vec<u8> {
    if let (Protocol::TCP, Some(told)) = (packet.protocol, &packet.details.transport) {
        let mut header = told.to_vec();
        patch(&mut header, 16, 0);
        return seal(packet, header, 16);
    }
    if let Some(told) = &packet.details.transport {
        return told.to_vec();
    }
    let payload = b"hepguard";
    let (sport, dport) = (packet.sport.unwrap_or(0), packet.dport.unwrap_or(0));
    let mut body = Vec::new();
    match packet.protocol {
        Protocol::TCP => {
            body.extend(sport.to_be_bytes());
            body.extend(dport.to_be_bytes());
            // both numbers tell the tag, because a reset repeats one of them
            let number = u32::from(tag) << TAG_SHIFT;
            let alone = (number, if packet.tcp_flags.0 & 16 != 0 { number } else { 0 });
            let (sequence, acked) = extra.numbers.unwrap_or(alone);
            body.extend(sequence.to_be_bytes());
            body.extend(acked.to_be_bytes());
            body.extend([0x50, packet.tcp_flags.0]);
            body.extend(64240u16.to_be_bytes());
            body.extend([0, 0, 0, 0]);
            if extra.numbers.is_some() && packet.tcp_flags.0 & TcpFlags::PSH.0 != 0 {
                body.extend(payload);
            }
            seal(packet, body, 16)
        }
        Protocol::UDP | Protocol::UDPLITE => {
            body.extend(sport.to_be_bytes());
            body.extend(dport.to_be_bytes());
            body.extend(short(8 + payload.len()).to_be_bytes());
            body.extend([0, 0]);
            body.extend(payload);
            seal(packet, body, 6)
        }
        Protocol::ICMP | Protocol::ICMPV6 => icmp(packet, extra, payload),
        Protocol::SCTP => {
            body.extend(sport.to_be_bytes());
            body.extend(dport.to_be_bytes());
            // verification tag, checksum, then an INIT or INIT ACK chunk with the sender's own tag
            let (verification, kind, own) = if extra.answer { (7, 2, 9) } else { (0, 1, 7) };
            body.extend([0, 0, 0, verification, 0, 0, 0, 0]);
            body.extend([kind, 0, 0, 20, 0, 0, 0, own, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 9]);
            let sum = crc32c(&body).to_le_bytes();
            body.splice(8..12, sum);
            body
        }
        _ => {
            // GRE version 0 without options, and good enough for protocols that nobody looks into
            body.extend([0, 0, 8, 0]);
            body.extend(payload);
            body
        }
    }
}

fn icmp(packet: &Packet, extra: &Extra, payload: &[u8]) -> Vec<u8> {
    let (kind, code) = packet.icmp.unwrap_or((8, 0));
    let mut body = vec![kind, code, 0, 0];
    match extra.quoted {
        Some((protocol, tuple)) => {
            body.extend([0; 4]);
            body.extend(header(tuple.src, tuple.dst, protocol, 8, 1, Some(60), None));
            body.extend(tuple.sport.unwrap_or(0).to_be_bytes());
            body.extend(tuple.dport.unwrap_or(0).to_be_bytes());
            body.extend([0, 8, 0, 0]);
        }
        None => {
            body.extend(extra.echo_id.to_be_bytes());
            body.extend([0, 1]);
            body.extend(payload);
            if packet.protocol == Protocol::ICMPV6 && (133..=137).contains(&kind) {
                // neighbour discovery carries at least a target address
                body.resize(40, 0);
            }
        }
    }
    let sum = match packet.protocol {
        Protocol::ICMP => checksum(&body),
        _ => return seal(packet, body, 2),
    };
    patch(&mut body, 2, sum);
    body
}

/// Writes the checksum over pseudo-header and `body` at `place`.
pub(crate) fn seal(packet: &Packet, mut body: Vec<u8>, place: usize) -> Vec<u8> {
    let mut pseudo = Vec::new();
    match (packet.src, packet.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            pseudo.extend(src.octets());
            pseudo.extend(dst.octets());
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            pseudo.extend(src.octets());
            pseudo.extend(dst.octets());
        }
        _ => panic!("source and destination are of two families"),
    }
    pseudo.extend([0, packet.protocol.0]);
    pseudo.extend(short(body.len()).to_be_bytes());
    pseudo.extend(&body);
    let sum = checksum(&pseudo);
    let sum = if sum == 0 && packet.protocol != Protocol::TCP { 0xffff } else { sum };
    patch(&mut body, place, sum);
    body
}

fn patch(bytes: &mut [u8], place: usize, value: u16) {
    bytes[place..place + 2].copy_from_slice(&value.to_be_bytes());
}

/// The internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded to 16 bits")
}

/// CRC-32C (RFC 3309), bit by bit: test packets are tiny.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}

#[test]
fn checksums_have_their_published_values() {
    assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
}
