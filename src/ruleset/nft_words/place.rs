//! Where the fields lie that are plain bits of a packet (RFC 791, 8200, 9293, 768, 9260, 4340, 792, 4443, 4302, 4303, 2784,
//! 8754).

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::ruleset::{Field, PayloadBase};

/// Where the bits of a field are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// At a fixed place behind the start of a header: offset and length in bits.
    Header(PayloadBase, u32, u32),
    /// In the IPv6 extension header with this number.
    Extension(u8, Part),
    /// In the TCP option of this kind.
    TcpOption(u8, Part),
    /// In the first SCTP chunk of this type.
    SctpChunk(u8, Part),
    /// Whether the DCCP option of this type is there.
    DccpOption(u8),
}

/// What of a header or option is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// Whether it is there.
    Presence,
    /// Bits behind its start: offset and length.
    Bits(u32, u32),
    /// Bits whose place depends on what else is in it.
    Inside,
}

const NETWORK: PayloadBase = PayloadBase::Network;
const TRANSPORT: PayloadBase = PayloadBase::Transport;

/// Fields of the network and transport headers by nft's words, with offset and length in bits.
const HEADERS: &[(&str, PayloadBase, u32, u32)] = &[
    ("ip version", NETWORK, 0, 4),
    ("ip hdrlength", NETWORK, 4, 4),
    ("ip id", NETWORK, 32, 16),
    ("ip frag-off", NETWORK, 48, 16),
    ("ip checksum", NETWORK, 80, 16),
    ("ip6 version", NETWORK, 0, 4),
    ("ip6 flowlabel", NETWORK, 12, 20),
    ("ip6 nexthdr", NETWORK, 48, 8),
    ("tcp sequence", TRANSPORT, 32, 32),
    ("tcp ackseq", TRANSPORT, 64, 32),
    ("tcp doff", TRANSPORT, 96, 4),
    ("tcp reserved", TRANSPORT, 100, 4),
    ("tcp window", TRANSPORT, 112, 16),
    ("tcp checksum", TRANSPORT, 128, 16),
    ("tcp urgptr", TRANSPORT, 144, 16),
    ("udp length", TRANSPORT, 32, 16),
    ("udp checksum", TRANSPORT, 48, 16),
    ("udplite csumcov", TRANSPORT, 32, 16),
    ("udplite checksum", TRANSPORT, 48, 16),
    ("dccp type", TRANSPORT, 67, 4),
    ("sctp vtag", TRANSPORT, 32, 32),
    ("sctp checksum", TRANSPORT, 64, 32),
    ("icmp checksum", TRANSPORT, 16, 16),
    ("icmp id", TRANSPORT, 32, 16),
    ("icmp sequence", TRANSPORT, 48, 16),
    ("icmp gateway", TRANSPORT, 32, 32),
    ("icmp mtu", TRANSPORT, 48, 16),
    ("icmpv6 checksum", TRANSPORT, 16, 16),
    ("icmpv6 parameter-problem", TRANSPORT, 32, 32),
    ("icmpv6 packet-too-big", TRANSPORT, 32, 32),
    ("icmpv6 mtu", TRANSPORT, 32, 32),
    ("icmpv6 id", TRANSPORT, 32, 16),
    ("icmpv6 sequence", TRANSPORT, 48, 16),
    ("icmpv6 max-delay", TRANSPORT, 32, 16),
    ("icmpv6 taddr", TRANSPORT, 64, 128),
    ("icmpv6 daddr", TRANSPORT, 192, 128),
    ("igmp type", TRANSPORT, 0, 8),
    ("igmp mrt", TRANSPORT, 8, 8),
    ("igmp checksum", TRANSPORT, 16, 16),
    ("igmp group", TRANSPORT, 32, 32),
    ("ah nexthdr", TRANSPORT, 0, 8),
    ("ah hdrlength", TRANSPORT, 8, 8),
    ("ah reserved", TRANSPORT, 16, 16),
    ("ah spi", TRANSPORT, 32, 32),
    ("ah sequence", TRANSPORT, 64, 32),
    ("esp spi", TRANSPORT, 0, 32),
    ("esp sequence", TRANSPORT, 32, 32),
    ("comp nexthdr", TRANSPORT, 0, 8),
    ("comp flags", TRANSPORT, 8, 8),
    ("comp cpi", TRANSPORT, 16, 16),
    ("gre flags", TRANSPORT, 0, 5),
    ("gre version", TRANSPORT, 13, 3),
    ("gre protocol", TRANSPORT, 16, 16),
];

/// IPv6 extension headers by nft's words.
const EXTENSIONS: &[(&str, u8)] =
    &[("hbh", 0), ("rt", 43), ("rt0", 43), ("rt2", 43), ("srh", 43), ("frag", 44), ("dst", 60), ("mh", 135)];

/// Their fields that lie at a fixed place.
const IN_EXTENSION: &[(&str, u32, u32)] = &[
    ("hbh nexthdr", 0, 8),
    ("hbh hdrlength", 8, 8),
    ("rt nexthdr", 0, 8),
    ("rt hdrlength", 8, 8),
    ("rt type", 16, 8),
    ("rt seg-left", 24, 8),
    // routing types 0 (RFC 5095), 2 (RFC 6275) and 4 (RFC 8754); nft asks for none of these types by itself
    ("rt0 reserved", 32, 32),
    ("rt2 addr", 64, 128),
    ("srh last-entry", 32, 8),
    ("srh flags", 40, 8),
    ("srh tag", 48, 16),
    ("frag nexthdr", 0, 8),
    ("frag reserved", 8, 8),
    ("frag frag-off", 16, 13),
    ("frag reserved2", 29, 2),
    ("frag more-fragments", 31, 1),
    ("frag id", 32, 32),
    ("dst nexthdr", 0, 8),
    ("dst hdrlength", 8, 8),
    ("mh nexthdr", 0, 8),
    ("mh hdrlength", 8, 8),
    ("mh type", 16, 8),
    ("mh reserved", 24, 8),
    ("mh checksum", 32, 16),
];

/// TCP options by nft's words (the numbers are IANA's).
const TCP_OPTIONS: &[(&str, u8)] = &[
    ("eol", 0),
    ("nop", 1),
    ("noop", 1),
    ("maxseg", 2),
    ("window", 3),
    ("sack-perm", 4),
    ("sack-permitted", 4),
    ("sack", 5),
    ("sack0", 5),
    ("sack1", 5),
    ("sack2", 5),
    ("sack3", 5),
    ("timestamp", 8),
    ("md5sig", 19),
    ("mptcp", 30),
    ("fastopen", 34),
];

/// Their fields; every option has `kind` and `length` besides.
const IN_TCP_OPTION: &[(&str, u32, u32)] = &[
    ("maxseg size", 16, 16),
    ("window count", 16, 8),
    ("sack left", 16, 32),
    ("sack right", 48, 32),
    ("sack0 left", 16, 32),
    ("sack0 right", 48, 32),
    ("sack1 left", 80, 32),
    ("sack1 right", 112, 32),
    ("sack2 left", 144, 32),
    ("sack2 right", 176, 32),
    ("sack3 left", 208, 32),
    ("sack3 right", 240, 32),
    ("timestamp tsval", 16, 32),
    ("timestamp tsecr", 48, 32),
    ("mptcp subtype", 16, 4),
];

/// SCTP chunks by nft's words (RFC 9260 §3.2, 5061, 3758).
const SCTP_CHUNKS: &[(&str, u8)] = &[
    ("data", 0),
    ("init", 1),
    ("init-ack", 2),
    ("sack", 3),
    ("heartbeat", 4),
    ("heartbeat-ack", 5),
    ("abort", 6),
    ("shutdown", 7),
    ("shutdown-ack", 8),
    ("error", 9),
    ("cookie-echo", 10),
    ("cookie-ack", 11),
    ("ecne", 12),
    ("cwr", 13),
    ("shutdown-complete", 14),
    ("asconf-ack", 128),
    ("forward-tsn", 192),
    ("asconf", 193),
];

/// Their fields; every chunk has `type`, `flags` and `length` besides.
const IN_SCTP_CHUNK: &[(&str, u32, u32)] = &[
    ("data tsn", 32, 32),
    ("data stream", 64, 16),
    ("data ssn", 80, 16),
    ("data ppid", 96, 32),
    ("init init-tag", 32, 32),
    ("init a-rwnd", 64, 32),
    ("init num-outbound-streams", 96, 16),
    ("init num-inbound-streams", 112, 16),
    ("init initial-tsn", 128, 32),
    ("init-ack init-tag", 32, 32),
    ("init-ack a-rwnd", 64, 32),
    ("init-ack num-outbound-streams", 96, 16),
    ("init-ack num-inbound-streams", 112, 16),
    ("init-ack initial-tsn", 128, 32),
    ("sack cum-tsn-ack", 32, 32),
    ("sack a-rwnd", 64, 32),
    ("sack num-gap-ack-blocks", 96, 16),
    ("sack num-dup-tsns", 112, 16),
    ("shutdown cum-tsn-ack", 32, 32),
    ("ecne lowest-tsn", 32, 32),
    ("cwr lowest-tsn", 32, 32),
    ("asconf seqno", 32, 32),
    ("asconf-ack seqno", 32, 32),
    ("forward-tsn new-cum-tsn", 32, 32),
];

/// Where `field` lies; `None` for what is no bits of the packet, and for fields the kernel finds otherwise.
#[must_use]
pub fn place_of(field: &Field) -> Option<Place> {
    static INDEX: LazyLock<HashMap<&str, Place>> = LazyLock::new(|| {
        HEADERS.iter().map(|(text, base, offset, length)| (*text, Place::Header(*base, *offset, *length))).collect()
    });
    match field {
        Field::Other(text) => INDEX
            .get(&**text)
            .copied()
            .or_else(|| extension(text))
            .or_else(|| tcp_option(text))
            .or_else(|| sctp_chunk(text))
            .or_else(|| dccp_option(text)),
        other => INDEX.get(super::word_of(other)?.text().as_str()).copied(),
    }
}

fn extension(text: &str) -> Option<Place> {
    let number = |name: &str| EXTENSIONS.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
    if let Some(name) = text.strip_prefix("exthdr ") {
        return number(name).map(|number| Place::Extension(number, Part::Presence));
    }
    let header = number(text.split(' ').next()?)?;
    // `rt` names the routing header and the route
    let route = text.starts_with("rt ") && !IN_EXTENSION.iter().any(|(known, ..)| *known == text);
    if let Some(place) = segment(text) {
        return Some(Place::Extension(header, place));
    }
    let part = IN_EXTENSION.iter().find(|(known, ..)| *known == text);
    let part = part.map_or(Part::Inside, |(_, offset, length)| Part::Bits(*offset, *length));
    (!route).then_some(Place::Extension(header, part))
}

/// `rt0 addr[1]`, `srh sid[1]`: addresses stand behind the first 8 bytes and are counted from 1.
fn segment(text: &str) -> Option<Part> {
    let number = text.strip_prefix("rt0 addr[").or_else(|| text.strip_prefix("srh sid["))?;
    let number: u32 = number.strip_suffix(']')?.parse().ok()?;
    (1..=128).contains(&number).then(|| Part::Bits(64 + 128 * (number - 1), 128))
}

fn sctp_chunk(text: &str) -> Option<Place> {
    let text = text.strip_prefix("sctp chunk ")?;
    let (name, field) = text.split_once(' ').map_or((text, None), |(name, field)| (name, Some(field)));
    let kind = SCTP_CHUNKS.iter().find(|(known, _)| *known == name)?.1;
    let part = match field {
        None => Part::Presence,
        Some("type") => Part::Bits(0, 8),
        Some("flags") => Part::Bits(8, 8),
        Some("length") => Part::Bits(16, 16),
        Some(_) => {
            let (_, offset, length) = IN_SCTP_CHUNK.iter().find(|(known, ..)| *known == text)?;
            Part::Bits(*offset, *length)
        }
    };
    Some(Place::SctpChunk(kind, part))
}

fn dccp_option(text: &str) -> Option<Place> {
    text.strip_prefix("dccp option ")?.parse().ok().map(Place::DccpOption)
}

fn tcp_option(text: &str) -> Option<Place> {
    let text = text.strip_prefix("tcp option ")?;
    if let Some(raw) = text.strip_prefix('@') {
        let mut numbers = raw.split(',').map(str::parse::<u32>);
        let (kind, offset, length) = (numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?);
        return Some(Place::TcpOption(u8::try_from(kind).ok()?, Part::Bits(offset, length)));
    }
    let (name, field) = text.split_once(' ').map_or((text, None), |(name, field)| (name, Some(field)));
    let known = TCP_OPTIONS.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind);
    let kind = known.or_else(|| name.parse().ok())?;
    Some(Place::TcpOption(
        kind,
        match field {
            None => Part::Presence,
            Some("kind") => Part::Bits(0, 8),
            Some("length") => Part::Bits(8, 8),
            Some(_) => match IN_TCP_OPTION.iter().find(|(known, ..)| *known == text) {
                Some((_, offset, length)) => Part::Bits(*offset, *length),
                None => return None,
            },
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_lie_where_the_standards_put_them() {
        let place = |text: &str| place_of(&Field::Other(text.into()));
        assert_eq!(place("icmp mtu"), Some(Place::Header(TRANSPORT, 48, 16)));
        assert_eq!(place("exthdr frag"), Some(Place::Extension(44, Part::Presence)));
        assert_eq!(place("frag more-fragments"), Some(Place::Extension(44, Part::Bits(31, 1))));
        assert_eq!(place("srh tag"), Some(Place::Extension(43, Part::Bits(48, 16))));
        assert_eq!(place("srh sid[2]"), Some(Place::Extension(43, Part::Bits(192, 128))));
        assert_eq!(place("srh sid[0]"), Some(Place::Extension(43, Part::Inside)));
        assert_eq!(place("sctp chunk init-ack"), Some(Place::SctpChunk(2, Part::Presence)));
        assert_eq!(place("sctp chunk data ppid"), Some(Place::SctpChunk(0, Part::Bits(96, 32))));
        assert_eq!(place("dccp option 40"), Some(Place::DccpOption(40)));
        assert_eq!(place("rt classid"), None, "the route's, not the header's");
        assert_eq!(place("tcp option maxseg size"), Some(Place::TcpOption(2, Part::Bits(16, 16))));
        assert_eq!(place("tcp option 254"), Some(Place::TcpOption(254, Part::Presence)));
        assert_eq!(place("tcp option @5,16,8"), Some(Place::TcpOption(5, Part::Bits(16, 8))));
        assert_eq!(place("numgen inc mod 2"), None);
        assert_eq!(place_of(&Field::TcpSequence), Some(Place::Header(TRANSPORT, 32, 32)));
        assert_eq!(place_of(&Field::Mark), None);
    }
}
