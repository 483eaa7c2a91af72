//! Set types: what their elements are made of, and the create options that change what they match.

use super::lines::word;
use crate::packet::Family;
use crate::ruleset::readers::iptables_save::values::{self, Expected};
use crate::ruleset::{DataType, Interval};

/// A part of an element as its type names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Dimension {
    /// An address, prefix or range.
    Address,
    /// Protocol and port.
    Port,
    /// A port of TCP or UDP.
    BarePort,
    /// A packet mark.
    Mark,
    /// A hardware address.
    Mac,
    /// A hardware address that need not be there.
    OptionalMac,
    /// An interface.
    Interface,
    /// Another set.
    Set,
}

/// A set type.
#[derive(Debug)]
pub(super) struct Kind {
    /// Its name.
    pub(super) name: &'static str,
    /// Its name in ipset 4.
    old: &'static str,
    /// Its parts.
    pub(super) dimensions: &'static [Dimension],
}

use Dimension::{Address, BarePort, Interface, Mac, Mark, OptionalMac, Port, Set};

static KINDS: &[Kind] = &[
    Kind { name: "hash:ip", old: "iphash", dimensions: &[Address] },
    Kind { name: "hash:net", old: "nethash", dimensions: &[Address] },
    Kind { name: "hash:ip,port", old: "ipporthash", dimensions: &[Address, Port] },
    Kind { name: "hash:net,port", old: "netporthash", dimensions: &[Address, Port] },
    Kind { name: "hash:ip,port,ip", old: "ipportiphash", dimensions: &[Address, Port, Address] },
    Kind { name: "hash:ip,port,net", old: "ipportnethash", dimensions: &[Address, Port, Address] },
    Kind { name: "hash:net,port,net", old: "netportnethash", dimensions: &[Address, Port, Address] },
    Kind { name: "hash:ip,mark", old: "ipmarkhash", dimensions: &[Address, Mark] },
    Kind { name: "hash:net,net", old: "netnethash", dimensions: &[Address, Address] },
    Kind { name: "hash:net,iface", old: "netifacehash", dimensions: &[Address, Interface] },
    Kind { name: "hash:mac", old: "machash", dimensions: &[Mac] },
    Kind { name: "hash:ip,mac", old: "ipmachash", dimensions: &[Address, Mac] },
    Kind { name: "bitmap:ip", old: "ipmap", dimensions: &[Address] },
    Kind { name: "bitmap:ip,mac", old: "macipmap", dimensions: &[Address, OptionalMac] },
    Kind { name: "bitmap:port", old: "portmap", dimensions: &[BarePort] },
    Kind { name: "list:set", old: "setlist", dimensions: &[Set] },
];

/// The type called `name`, old names included.
pub(super) fn named(name: &[u8]) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.name.as_bytes() == name || kind.old.as_bytes() == name)
}

impl Kind {
    /// The family of a set's addresses, given the `family` option.
    pub(super) fn family(&self, option: Option<Family>) -> Option<Family> {
        self.dimensions.contains(&Address).then(|| option.unwrap_or(Family::Ipv4))
    }
}

/// The key's data types; nothing for lists of sets.
pub(super) fn key(dimensions: &[Dimension], family: Family) -> Vec<DataType> {
    let mut key = Vec::new();
    for dimension in dimensions {
        match dimension {
            Address if family == Family::Ipv4 => key.push(DataType::Ipv4Addr),
            Address => key.push(DataType::Ipv6Addr),
            Port | BarePort => key.extend([DataType::InetProto, DataType::InetService]),
            Mark => key.push(DataType::Mark),
            Mac | OptionalMac => key.push(DataType::EtherAddr),
            Interface => key.push(DataType::Ifname),
            Set => {}
        }
    }
    key
}

/// Create options that matter.
#[derive(Default)]
pub(super) struct Options<'a> {
    /// `family`
    pub(super) family: Option<Family>,
    /// An option nobody knows.
    pub(super) unknown: Option<&'a [u8]>,
    netmask: Option<&'a [u8]>,
    bitmask: Option<&'a [u8]>,
    markmask: Option<&'a [u8]>,
}

/// Reads everything behind the type.
pub(super) fn options(mut rest: &[u8]) -> Options<'_> {
    let mut options = Options::default();
    loop {
        let (name, after) = word(rest);
        if name.is_empty() {
            return options;
        }
        let (value, behind) = word(after);
        let name = name.strip_prefix(b"--").unwrap_or(name);
        rest = match name {
            b"family" => {
                match value {
                    b"inet" | b"ipv4" | b"-4" => options.family = Some(Family::Ipv4),
                    b"inet6" | b"ipv6" | b"-6" => options.family = Some(Family::Ipv6),
                    _ => options.unknown = Some(value),
                }
                behind
            }
            b"inet" | b"-4" => {
                options.family = Some(Family::Ipv4);
                after
            }
            b"inet6" | b"-6" => {
                options.family = Some(Family::Ipv6);
                after
            }
            b"netmask" => {
                options.netmask = Some(value);
                behind
            }
            b"bitmask" => {
                options.bitmask = Some(value);
                behind
            }
            b"markmask" => {
                options.markmask = Some(value);
                behind
            }
            b"hashsize" | b"maxelem" | b"bucketsize" | b"initval" | b"timeout" | b"range" | b"size" | b"probes"
            | b"resize" | b"from" | b"to" | b"gc" => behind,
            b"counters" | b"comment" | b"skbinfo" | b"forceadd" | b"-exist" | b"-!" | b"noack" => after,
            _ => {
                options.unknown = Some(name);
                after
            }
        };
    }
}

impl Options<'_> {
    /// The masks elements and packets go through.
    pub(super) fn masks(&self, family: Family) -> Result<Masks, Expected> {
        let ones = values::all_ones(family);
        let mut masks = Masks::default();
        if let Some(text) = self.netmask {
            let width = if family == Family::Ipv4 { 32 } else { 128 };
            let length = values::number(text).filter(|length| *length <= width).ok_or("a prefix length as netmask")?;
            let free = u32::try_from(width - length).unwrap_or(128);
            masks.free = ones & !u128::MAX.checked_shl(free).unwrap_or(0);
        }
        if let Some(text) = self.bitmask {
            masks.free = ones & !values::address(text, family)?;
        }
        if let Some(text) = self.markmask {
            masks.free_mark = !values::word(text)?;
        }
        let contiguous = |free: u128| free & free.wrapping_add(1) == 0;
        if contiguous(masks.free) && contiguous(masks.free_mark.into()) {
            Ok(masks)
        } else {
            Err("a mask without holes (others are not evaluated)")
        }
    }
}

/// Bits that do not take part in a match; always the lowest ones.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Masks {
    free: u128,
    free_mark: u32,
}

impl Masks {
    /// All addresses that match an element.
    pub(super) fn widen(self, interval: Interval) -> Interval {
        Interval { low: interval.low & !self.free, high: interval.high | self.free }
    }

    /// All marks that match an element.
    pub(super) fn widen_mark(self, mark: u32) -> Interval {
        Interval { low: (mark & !self.free_mark).into(), high: (mark | self.free_mark).into() }
    }
}
