//! What rules compare: fields, expressions over them, and conditions.

use super::Name;
use super::set::{Elements, Interval};
use super::xtables::XtTest;
use crate::packet::InterfacePattern;

/// A part of the packet or of what the kernel knows about it.
///
/// Reading a field the packet does not have (a port of ICMP, an IPv6 address of IPv4) ends the rule, whatever the operator.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[expect(missing_docs, reason = "the names are nft(8)'s and iptables-extensions(8)'s own")]
pub enum Field {
    // network header
    Ip4Saddr,
    Ip4Daddr,
    Ip6Saddr,
    Ip6Daddr,
    /// 2 (IPv4) or 10 (IPv6), `NFPROTO_*`.
    Nfproto,
    /// Upper-layer protocol after IPv6 extension headers (`meta l4proto`, iptables `-p`).
    L4proto,
    /// `ip protocol`, only IPv4.
    Ip4Protocol,
    /// `ip6 nexthdr`: first next header, only IPv6.
    Ip6Nexthdr,
    /// IPv4 TTL.
    Ip4Ttl,
    /// IPv6 hop limit.
    Ip6Hoplimit,
    /// DSCP (6 bits) of IPv4 TOS or IPv6 traffic class.
    Dscp,
    /// ECN (2 bits).
    Ecn,
    /// The whole TOS / traffic class byte.
    Tos,
    /// `ip length`, total length in bytes.
    Ip4Length,
    /// `ip6 length`, payload length in bytes.
    Ip6Length,
    Ip4Id,
    /// Fragment offset and flags word (`ip frag-off`).
    Ip4FragOff,
    // transport header
    /// Source port of a protocol with ports.
    Sport,
    /// Destination port of a protocol with ports.
    Dport,
    TcpFlags,
    TcpSequence,
    TcpAckseq,
    TcpWindow,
    TcpDoff,
    UdpLength,
    /// ICMP (IPv4) type and code.
    IcmpType,
    IcmpCode,
    /// ICMPv6 type and code.
    Icmp6Type,
    Icmp6Code,
    // meta
    /// Incoming interface name as [`interface_number`].
    Iifname,
    /// Outgoing interface name.
    Oifname,
    /// Incoming interface by index. Listings print the name it has now: the value is the [`interface_number`] of that name,
    /// or the bare index of an interface that is gone (which equals no name).
    Iif,
    /// Outgoing interface by index, see [`Self::Iif`].
    Oif,
    Iiftype,
    Oiftype,
    Iifgroup,
    Oifgroup,
    /// Bridge ports (physdev, ibrname, obrname).
    Ibrname,
    Obrname,
    Mark,
    Priority,
    /// 0 host, 1 broadcast, 2 multicast, 3 other.
    Pkttype,
    /// Packet length in bytes (`meta length`, `-m length`).
    Length,
    /// EtherType.
    EtherType,
    EtherSaddr,
    EtherDaddr,
    VlanId,
    Skuid,
    Skgid,
    Cgroup,
    Cpu,
    Random,
    Time,
    Day,
    Hour,
    Rtclassid,
    Secpath,
    // conntrack
    /// One [`crate::packet::CtState`] bit.
    CtState,
    /// [`crate::packet::CtStatus`] bits.
    CtStatus,
    CtMark,
    /// 0 original, 1 reply.
    CtDirection,
    CtZone,
    CtExpiration,
    CtHelper,
    CtBytes,
    CtPackets,
    CtOrigSaddr4,
    CtOrigDaddr4,
    CtOrigSaddr6,
    CtOrigDaddr6,
    CtOrigProto,
    CtOrigSport,
    CtOrigDport,
    CtReplySaddr4,
    CtReplyDaddr4,
    CtReplySaddr6,
    CtReplyDaddr6,
    CtReplySport,
    CtReplyDport,
    /// Anything else, by its listing text; never decidable.
    Other(Box<str>),
}

/// Results a FIB lookup can be asked for (`fib … type|oif|oifname|check`, `-m addrtype`, `-m rpfilter`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FibResult {
    /// Address type (`RTN_*`: 1 unicast, 2 local, 3 broadcast, 4 anycast, 5 multicast, 6 blackhole, 7 unreachable, 8 prohibit).
    Type,
    /// Output interface index, as [`Field::Iif`]; 0 when there is no route (`check` forms compare with 0 too).
    Oif,
    /// Output interface name; empty when there is no route.
    Oifname,
    /// Whether a route exists, 0 or 1.
    Present,
}

/// A FIB lookup.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FibField {
    /// Look the source address up (else the destination).
    pub source: bool,
    /// The packet's mark takes part.
    pub mark: bool,
    /// Only routes by the incoming interface count.
    pub iif: bool,
    /// Only routes by the outgoing interface count.
    pub oif: bool,
    /// What is asked.
    pub result: FibResult,
}

/// Where a raw payload expression counts from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PayloadBase {
    /// Link layer.
    Link,
    /// Network header (`@nh`).
    Network,
    /// Transport header (`@th`).
    Transport,
    /// Behind the transport header (`@ih`).
    Inner,
}

/// A value computed from the packet.
#[derive(Clone, PartialEq, Debug)]
pub enum Expr {
    /// A field.
    Field(Field),
    /// A constant.
    Number(u128),
    /// Several keys side by side.
    Concat(Vec<Expr>),
    /// Bitwise and.
    And(Box<Expr>, Box<Expr>),
    /// Bitwise or.
    Or(Box<Expr>, Box<Expr>),
    /// Bitwise exclusive or.
    Xor(Box<Expr>, Box<Expr>),
    /// Shift left.
    Shl(Box<Expr>, Box<Expr>),
    /// Shift right.
    Shr(Box<Expr>, Box<Expr>),
    /// Value of `map` under `key`; no entry ends the rule.
    Map {
        /// What is looked up.
        key: Box<Expr>,
        /// Where.
        map: SetRef,
    },
    /// A FIB lookup.
    Fib(FibField),
    /// Bits of the packet by position.
    Payload {
        /// Header counted from.
        base: PayloadBase,
        /// Offset in bits.
        offset: u32,
        /// Length in bits.
        length: u32,
    },
    /// Not understood.
    Opaque(Box<str>),
}

/// Comparison operators.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Operator {
    /// Equal.
    Eq,
    /// Not equal.
    Ne,
    /// Less.
    Lt,
    /// Greater.
    Gt,
    /// Less or equal.
    Le,
    /// Greater or equal.
    Ge,
    /// At least one common bit (nft's implicit bit test, `ct state new,established`).
    AnyBit,
    /// No common bit (nft's `!`).
    NoBit,
}

/// A set named by a rule.
#[derive(Clone, PartialEq, Debug)]
pub enum SetRef {
    /// nft: a set or map of the same table.
    Named(Name),
    /// Written in the rule.
    Anonymous(Box<Elements>),
}

/// Which address or port of the packet an ipset dimension takes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SetDirection {
    /// Source.
    Src,
    /// Destination.
    Dst,
}

/// Whether asking twice gives the same answer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum OpaqueKind {
    /// A property of the packet or its connection (string, bpf, time): the same text is the same condition everywhere.
    Property,
    /// Depends on state of this one rule (limit, recent, quota, statistic): each rule is a condition of its own.
    Stateful,
}

/// A condition.
#[derive(Clone, PartialEq, Debug)]
pub enum Match {
    /// `left op right`.
    Compare {
        /// Left side.
        left: Expr,
        /// Operator.
        operator: Operator,
        /// Right side.
        right: Expr,
    },
    /// `left` lies in a set; prefixes, ranges and interface wildcards are one-element anonymous sets.
    Lookup {
        /// What is looked up; a [`Expr::Concat`] for sets of several dimensions.
        left: Expr,
        /// Holds when it is *not* in the set.
        negate: bool,
        /// The set.
        set: SetRef,
    },
    /// iptables' `-m set`.
    Ipset {
        /// The set's name.
        name: Name,
        /// One direction a dimension. A set with more dimensions than directions never matches.
        directions: Vec<SetDirection>,
        /// Holds when it is *not* in the set.
        negate: bool,
        /// What else it asks or does, as text: see [`asks_counters`] and [`asks_exceptions`].
        options: Option<Box<str>>,
    },
    /// One holds; false when empty.
    Any(Vec<Match>),
    /// All hold; true when empty.
    All(Vec<Match>),
    /// It does not hold. A field that cannot be read is "does not hold" inside, hence true here (iptables' `!`).
    Not(Box<Match>),
    /// An xtables match that looks at packets in a way of its own.
    Xtables {
        /// What it asks.
        test: Box<XtTest>,
        /// Its text, which is also its identity.
        text: Box<str>,
    },
    /// Undecidable.
    Opaque {
        /// Same question, same answer?
        kind: OpaqueKind,
        /// Its text, which is also its identity.
        text: Box<str>,
    },
}

/// How values of a key are written.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[expect(missing_docs, reason = "the names are nft(8)'s data types")]
pub enum DataType {
    Ipv4Addr,
    Ipv6Addr,
    InetProto,
    InetService,
    Ifname,
    Mark,
    CtState,
    EtherAddr,
    EtherType,
    IcmpType,
    Icmpv6Type,
    Integer,
    /// Another type by nft's name.
    Other(Box<str>),
}

/// An interface name as a number: its bytes padded with zeros to 16, big-endian. Longer names are cut.
#[must_use]
pub fn interface_number(name: &[u8]) -> u128 {
    let mut bytes = [0u8; 16];
    for (slot, byte) in bytes.iter_mut().zip(name) {
        *slot = *byte;
    }
    u128::from_be_bytes(bytes)
}

/// All interface numbers a pattern matches.
#[must_use]
pub fn interface_interval(pattern: &InterfacePattern) -> Interval {
    let low = interface_number(pattern.name());
    if !pattern.is_wildcard() {
        return Interval { low, high: low };
    }
    let free = 128 - 8 * pattern.name().len().min(16) as u32;
    let span = if free == 128 { u128::MAX } else { (1u128 << free) - 1 };
    Interval { low, high: low | span }
}

impl Match {
    /// `field == value`.
    #[must_use]
    pub fn equals(field: Field, value: u128) -> Self {
        Self::Compare { left: Expr::Field(field), operator: Operator::Eq, right: Expr::Number(value) }
    }

    /// `field` lies in one of `intervals` (or in none, with `negate`).
    #[must_use]
    pub fn within(field: Field, negate: bool, intervals: impl IntoIterator<Item = Interval>) -> Self {
        let elements = Elements::from_intervals(intervals);
        Self::Lookup { left: Expr::Field(field), negate, set: SetRef::Anonymous(Box::new(elements)) }
    }
}

/// Whether options of `-m set` ask for counters of the entry, which makes the answer undecidable on a hit.
#[must_use]
pub fn asks_counters(options: Option<&str>) -> bool {
    options.is_some_and(|options| options.contains("--packets-") || options.contains("--bytes-"))
}

/// Whether options of `-m set` turn the answer round for sets of networks: only their exceptions (`nomatch`) match.
#[must_use]
pub fn asks_exceptions(options: Option<&str>) -> bool {
    options.is_some_and(|options| options.contains("--return-nomatch"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_intervals() {
        let cali = interface_interval(&InterfacePattern::prefix("cali"));
        for (name, inside) in [("cali", true), ("cali12345678901", true), ("calj", false), ("cal", false)] {
            let number = interface_number(name.as_bytes());
            assert_eq!((cali.low..=cali.high).contains(&number), inside, "{name}");
        }
        let any = interface_interval(&InterfacePattern::prefix(""));
        assert_eq!((any.low, any.high), (0, u128::MAX));
    }
}
