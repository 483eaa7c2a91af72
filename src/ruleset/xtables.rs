//! Conditions of xtables matches that look at packets in a way of their own, with the parameters the kernel keeps
//! (net/netfilter/xt_*.c, net/ipv6/netfilter/ip6t_*.c).

use super::set::Interval;

/// One condition. Where it says `negate`, it holds when it otherwise would not; what cannot be read fails it all the same.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum XtTest {
    /// `tcp --tcp-option`: the option is there.
    TcpOption {
        /// Option number.
        number: u8,
        /// See above.
        negate: bool,
    },
    /// `tcpmss`: the maximum segment size option.
    TcpMss {
        /// Sizes in bytes.
        sizes: Interval,
        /// See above.
        negate: bool,
    },
    /// `sctp --chunk-types`.
    SctpChunks {
        /// Which of the packet's chunks must be among these.
        which: Chunks,
        /// Chunk types, each with the flags looked at and their values.
        chunks: Vec<(u8, Option<(u8, u8)>)>,
        /// See above.
        negate: bool,
    },
    /// `dccp --dccp-types`.
    DccpTypes {
        /// One bit a type (RFC 4340 §5.1).
        types: u16,
        /// See above.
        negate: bool,
    },
    /// `dccp --dccp-option`: the option is there.
    DccpOption {
        /// Option number.
        number: u8,
        /// See above.
        negate: bool,
    },
    /// `esp`, `ah` of IPv4, `ipcomp`: the number of the security association.
    Association {
        /// Where it stands in the transport header, in bytes, and how long it is.
        place: (usize, usize),
        /// Numbers.
        numbers: Interval,
        /// See above.
        negate: bool,
    },
    /// `mh`: type of the mobility header.
    Mobility {
        /// Types.
        types: Interval,
        /// See above.
        negate: bool,
    },
    /// An IPv6 extension header is there, and so.
    Extension(ExtensionTest),
    /// `ipv6header`: which extension headers there are.
    ExtensionSet {
        /// One bit a header, see [`extension_bit`].
        wanted: u8,
        /// Others may be there too.
        soft: bool,
        /// `!`: with `soft` none may be there, else the set must differ.
        negate: bool,
    },
    /// `eui64`: the source address ends in the sender's hardware address.
    Eui64,
    /// `time`.
    Time(TimeTest),
    /// `owner --gid-owner … --suppl-groups`.
    Groups {
        /// Groups.
        groups: Interval,
        /// See above.
        negate: bool,
    },
    /// `cgroup --path`: the socket's control group or one above it.
    CgroupPath {
        /// Path below the root of the hierarchy, without slashes at its ends.
        path: Box<str>,
        /// See above; a packet without a socket fails it even so.
        negate: bool,
    },
    /// `cgroup --cgroup`.
    CgroupClass {
        /// Class.
        class: u32,
        /// See above; a packet without a socket fails it even so.
        negate: bool,
    },
    /// `physdev`: bridge ports.
    BridgePort {
        /// Some condition is not negated: a packet that crosses no bridge fails.
        positive: bool,
    },
    /// `policy`.
    Policy {
        /// `--pol none`.
        none: bool,
        /// Properties of the transformation are asked for too.
        elements: bool,
    },
}

/// Which of a packet's chunks a test is about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Chunks {
    /// One of the named is there.
    Any,
    /// All of the named are there.
    All,
    /// No others are there.
    Only,
}

/// A number compared: holds when it is inside, or outside with the flag.
pub type Bound = Option<(Interval, bool)>;

/// A condition on one IPv6 extension header; the first of its kind counts, and without one it fails.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum ExtensionTest {
    /// `hbh`, `dst`.
    Options {
        /// 0 or 60.
        header: u8,
        /// Header length in bytes.
        length: Bound,
        /// The first options: type, and length of the value.
        options: Vec<(u8, Option<u8>)>,
    },
    /// `rt`.
    Routing {
        /// Routing type.
        kind: Bound,
        /// Segments left.
        segments: Bound,
        /// Header length in bytes.
        length: Bound,
        /// The reserved word must be 0.
        reserved: bool,
        /// Addresses of a type 0 header, from the first on.
        addresses: Vec<u128>,
        /// They are all there are; else they only come in this order.
        strict: bool,
    },
    /// `srh`: a routing header of type 4 (RFC 8754).
    Segments(SegmentTest),
    /// `frag`.
    Fragment,
    /// `ah` of IPv6.
    Authentication {
        /// Security parameter index.
        index: Bound,
        /// Header length in bytes.
        length: Bound,
        /// The reserved word must be 0.
        reserved: bool,
    },
}

/// `srh`: all of these hold.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct SegmentTest {
    /// Next header, header length in units of 8 bytes beyond the first, segments left, last entry, tag: several for one
    /// number are all asked.
    pub numbers: Vec<(SegmentNumber, Interval, bool)>,
    /// Addresses of the segment list: each equals the value where the mask has bits, or does not, with the flag.
    pub addresses: Vec<(Segment, (u128, u128), bool)>,
}

/// A number in a segment routing header.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SegmentNumber {
    /// Next header.
    NextHeader,
    /// Header length in units of 8 bytes, the first not counted.
    Length,
    /// Segments left.
    Left,
    /// Index of the last entry.
    Last,
    /// Tag.
    Tag,
}

/// A place in a segment list, which stands in reverse order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Segment {
    /// The one before the active one; a packet at its first has none.
    Previous,
    /// The one behind the active one; a packet at its last has none.
    Next,
    /// The final one.
    Last,
}

/// `time`: all of these hold.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TimeTest {
    /// Seconds since 1970.
    pub dates: (i64, i64),
    /// Seconds of the day; the end may come before the start.
    pub day: (u32, u32),
    /// The hours past midnight belong to the day before.
    pub contiguous: bool,
    /// One bit a day, Monday is bit 1, Sunday bit 7.
    pub weekdays: u8,
    /// One bit a day of the month, the first is bit 1.
    pub monthdays: u32,
    /// Times are those of the kernel's time zone.
    pub local: bool,
}

/// Bit of an extension header in [`XtTest::ExtensionSet`].
#[must_use]
pub fn extension_bit(header: u8) -> Option<u8> {
    Some(match header {
        0 => 0x80,
        60 => 0x40,
        43 => 0x20,
        44 => 0x10,
        51 => 0x08,
        50 => 0x04,
        59 => 0x02,
        255 => 0x01,
        _ => return None,
    })
}

impl XtTest {
    /// What a packet must tell for the answer to be known.
    #[must_use]
    pub fn needs(&self) -> &'static str {
        match self {
            Self::TcpOption { .. } | Self::TcpMss { .. } => "the TCP options",
            Self::SctpChunks { .. } => "the SCTP chunks",
            Self::DccpTypes { .. } | Self::DccpOption { .. } => "the DCCP header",
            Self::Association { .. } => "the security association's number",
            Self::Mobility { .. } => "the mobility header",
            Self::Extension(_) | Self::ExtensionSet { .. } => "the IPv6 extension headers",
            Self::Eui64 => "the sender's hardware address",
            Self::Time(test) if test.local => "the time in the kernel's time zone",
            Self::Time(_) => "the time",
            Self::Groups { .. } => "the groups of the socket's owner",
            Self::CgroupPath { .. } | Self::CgroupClass { .. } => "the socket's control group",
            Self::BridgePort { .. } => "the bridge port",
            Self::Policy { elements: true, .. } => "which IPsec transformation the packet goes through",
            Self::Policy { .. } => "whether IPsec protects the packet",
        }
    }
}
