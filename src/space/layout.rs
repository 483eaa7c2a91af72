//! Which variable stands for which bit of the packet, and in which order.
//!
//! The order decides how large sets get (by factors of a hundred). Two orders cover what firewalls are: [`Order::Forward`]
//! for rulesets that pair many addresses, [`Order::Host`] for few ports over large address sets. Fields that rules test
//! together stand together; what cannot be decided stands next to the addresses it guards, never first.

use super::bdd::{Bdd, Built, Set};
use super::line::Line;
use crate::packet::Family;
use crate::ruleset::Interval;

/// A part of the packet that is open in a set; fixed parts need no variables.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum Dimension {
    /// Incoming interface, by [`Interfaces`] number.
    InInterface,
    /// Outgoing interface.
    OutInterface,
    /// Source address.
    Source,
    /// Destination address.
    Destination,
    /// Sender's link-layer address.
    SourceLink,
    /// Receiver's link-layer address.
    DestinationLink,
    /// Source port.
    SourcePort,
    /// Destination port.
    DestinationPort,
    /// Upper-layer protocol.
    Protocol,
    /// What stands between an IPv6 header and it first, by [`EXTENSIONS`] number.
    Extension,
    /// Conntrack state, by [`STATES`] number.
    State,
    /// TCP flags.
    TcpFlags,
    /// ICMP or ICMPv6 type.
    IcmpType,
    /// ICMP or ICMPv6 code.
    IcmpCode,
    /// TTL or hop limit.
    Ttl,
    /// TOS or traffic class byte.
    Tos,
    /// Length of the IP packet.
    Length,
    /// Link-layer packet type.
    PacketType,
    /// Owner of the local socket.
    User,
    /// Group of the local socket.
    UserGroup,
    /// Connection mark.
    ConnectionMark,
    /// Answers to conditions that cannot be decided, one bit each.
    Question,
}

use Dimension as D;

/// Undecidable conditions that get a variable of their own and so stay correlated.
pub const MAX_QUESTIONS: u16 = 128;

/// The same where rulesets are compared: without a variable the answer to a condition is not the same in both.
pub const MAX_ANSWERS: u16 = 512;

/// The order of the variables.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Order {
    /// Addresses before ports: for forwarding chains.
    Forward,
    /// Ports before addresses: for host chains with large sets.
    Host,
}

const FORWARD: [Dimension; 22] = [
    D::InInterface,
    D::Source,
    D::SourceLink,
    D::Question,
    D::OutInterface,
    D::Destination,
    D::DestinationLink,
    D::State,
    D::Protocol,
    D::Extension,
    D::DestinationPort,
    D::SourcePort,
    D::TcpFlags,
    D::IcmpType,
    D::IcmpCode,
    D::PacketType,
    D::Ttl,
    D::Tos,
    D::Length,
    D::ConnectionMark,
    D::User,
    D::UserGroup,
];

const HOST: [Dimension; 22] = [
    D::InInterface,
    D::OutInterface,
    D::Protocol,
    D::Extension,
    D::State,
    D::TcpFlags,
    D::IcmpType,
    D::IcmpCode,
    D::DestinationPort,
    D::SourcePort,
    D::PacketType,
    D::Ttl,
    D::Tos,
    D::Length,
    D::ConnectionMark,
    D::User,
    D::UserGroup,
    D::Question,
    D::Destination,
    D::Source,
    D::SourceLink,
    D::DestinationLink,
];

/// Interfaces told apart: a packet's interface is one of these classes.
///
/// Rules compare names as numbers in intervals; names that no rule tells apart are one class, shown by one of its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interfaces {
    /// One name of each class, as [`crate::ruleset::interface_number`]. Never empty.
    names: Vec<u128>,
    /// How many of them, from the first on, are names that exist.
    known: usize,
    /// Names that rules ask for by themselves: classes of their own. The others stand for every other name like them.
    asked: Vec<u128>,
}

impl Interfaces {
    /// Classes of the names in `known`, and of every other name as far as `intervals` tell them apart.
    #[must_use]
    pub fn new(known: &[u128], intervals: impl IntoIterator<Item = Interval>) -> Self {
        // ends of intervals cut the line of all names into pieces that no rule tells apart
        let mut cuts: Vec<u128> = vec![1];
        let mut asked = Vec::new();
        for interval in intervals {
            asked.extend((interval.low == interval.high).then_some(interval.low));
            cuts.push(interval.low);
            cuts.extend(interval.high.checked_add(1));
        }
        cuts.sort_unstable();
        cuts.dedup();
        let mut names: Vec<u128> = known.to_vec();
        names.sort_unstable();
        names.dedup();
        let known = names.len();
        for (at, cut) in cuts.iter().enumerate().filter(|(_, cut)| **cut != 0) {
            let end = cuts.get(at + 1).map_or(u128::MAX, |next| next - 1);
            names.extend(a_name(*cut, end, names.get(..known).unwrap_or_default()));
        }
        if names.is_empty() {
            names.push(crate::ruleset::interface_number(b"any0"));
        }
        Self { names, known, asked }
    }

    /// One name of each class.
    #[must_use]
    pub fn names(&self) -> &[u128] {
        &self.names
    }

    /// Whether class `number` is one interface that exists.
    #[must_use]
    pub fn is_known(&self, number: usize) -> bool {
        number < self.known
    }

    /// Whether class `number` is one name and no other.
    #[must_use]
    pub fn is_named(&self, number: usize) -> bool {
        self.is_known(number) || self.names.get(number).is_some_and(|name| self.asked.contains(name))
    }

    fn width(&self) -> u16 {
        let last = self.names.len().saturating_sub(1);
        u16::try_from(usize::BITS - last.leading_zeros()).unwrap_or(16)
    }
}

/// A printable name within `low..=high` that is not `taken`, if the kernel could have one.
fn a_name(low: u128, high: u128, taken: &[u128]) -> Option<u128> {
    let fits = |number: u128| {
        let bytes = number.to_be_bytes();
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(16);
        let (name, padding) = bytes.split_at(end);
        (1..=15).contains(&end)
            && padding.iter().all(|byte| *byte == 0)
            && name.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'/' && *byte != b':')
            && (low..=high).contains(&number)
            && !taken.contains(&number)
    };
    let start = low.to_be_bytes();
    let length = start.iter().position(|byte| *byte == 0).unwrap_or(16).min(15);
    let stem = start.get(..length).unwrap_or_default();
    // one that says that it is any, then the first one within, and a bit more at every length
    let mut tries: Vec<Vec<u8>> = vec![b"any0".to_vec(), stem.to_vec()];
    for keep in (0..=length).rev() {
        for last in b"0abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ123456789_-.!~" {
            let mut name = stem.get(..keep).unwrap_or_default().to_vec();
            name.push(*last);
            tries.push(name);
        }
    }
    tries.iter().map(|name| crate::ruleset::interface_number(name)).find(|number| fits(*number))
}

/// Conntrack states by their number in [`Dimension::State`]; numbers past the last mean the last.
pub const STATES: [crate::packet::CtState; 5] = {
    use crate::packet::CtState as S;
    [S::NEW, S::ESTABLISHED, S::RELATED, S::UNTRACKED, S::INVALID]
};

/// First IPv6 extension headers by their number in [`Dimension::Extension`]: none, hop-by-hop options, routing, fragment,
/// destination options; numbers past the last mean the last.
///
/// Connection tracking puts fragments together, which takes their header away; before it, and without it, rules see it. An authentication header is none of them: nf_tables takes it for the upper layer's, and so do the sets (the packet's protocol
/// is 51). So is what the kernel does not look behind (mobility, host identity, encrypted payloads).
pub const EXTENSIONS: [Option<crate::packet::Protocol>; 5] = {
    use crate::packet::Protocol as P;
    [None, Some(P(0)), Some(P(43)), Some(P(44)), Some(P(60))]
};

/// Bits of an address of `family` (`Ipv4`, else IPv6).
#[must_use]
pub fn address_width(family: Family) -> u32 {
    if family == Family::Ipv4 { 32 } else { 128 }
}

/// The variables of one packet space: a family, an order, and the interfaces rules tell apart.
#[derive(Clone, Debug)]
pub struct Layout {
    family: Family,
    /// First variable and width of each dimension.
    places: Vec<(Dimension, u16, u16)>,
    interfaces: Interfaces,
    /// Addresses are numbers of its classes.
    line: Option<Line>,
    /// Link-layer addresses are numbers of its classes.
    links: Option<Line>,
}

/// Bits of a link-layer address.
pub const LINK_WIDTH: u16 = 48;

impl Layout {
    /// A space for packets of `family` (`Ipv4`, else IPv6).
    #[must_use]
    pub fn new(family: Family, order: Order, interfaces: Interfaces) -> Self {
        Self::on_line(family, order, interfaces, None, None)
    }

    /// The same; with a line, addresses are the numbers of its classes, and so are those of the link layer with `links`.
    #[must_use]
    pub fn on_line(
        family: Family,
        order: Order,
        interfaces: Interfaces,
        line: Option<Line>,
        links: Option<Line>,
    ) -> Self {
        let order = match order {
            Order::Forward => FORWARD,
            Order::Host => HOST,
        };
        let mut first = 0;
        let places = order.map(|dimension| {
            let width = match dimension {
                D::InInterface | D::OutInterface => interfaces.width(),
                D::Source | D::Destination => match &line {
                    Some(line) => line.bits(),
                    None => u16::try_from(address_width(family)).unwrap_or(128),
                },
                D::SourceLink | D::DestinationLink => links.as_ref().map_or(LINK_WIDTH, Line::bits),
                D::SourcePort | D::DestinationPort | D::Length => 16,
                D::Protocol | D::TcpFlags | D::IcmpType | D::IcmpCode | D::Ttl | D::Tos => 8,
                D::State | D::Extension => 3,
                D::PacketType => 2,
                D::User | D::UserGroup | D::ConnectionMark => 32,
                D::Question => MAX_ANSWERS,
            };
            let place = (dimension, first, width);
            first += width;
            place
        });
        Self { family, places: places.to_vec(), interfaces, line, links }
    }

    /// The family, `Ipv4` or `Ipv6`.
    #[must_use]
    pub fn family(&self) -> Family {
        self.family
    }

    /// The interfaces told apart.
    #[must_use]
    pub fn interfaces(&self) -> &Interfaces {
        &self.interfaces
    }

    /// The line that addresses are numbers of.
    #[must_use]
    pub fn line(&self) -> Option<&Line> {
        self.line.as_ref()
    }

    /// The line of whose classes the values of a dimension are numbers.
    #[must_use]
    pub fn line_of(&self, dimension: Dimension) -> Option<&Line> {
        match dimension {
            D::Source | D::Destination => self.line.as_ref(),
            D::SourceLink | D::DestinationLink => self.links.as_ref(),
            _ => None,
        }
    }

    /// First variable and number of variables of a dimension; most significant bit first.
    #[must_use]
    pub fn place(&self, dimension: Dimension) -> (u16, u16) {
        let found = self.places.iter().find(|(known, _, _)| *known == dimension);
        found.map_or((0, 0), |(_, first, width)| (*first, *width))
    }

    /// Variables of a dimension.
    pub fn variables(&self, dimension: Dimension) -> impl Iterator<Item = u16> + use<> {
        let (first, width) = self.place(dimension);
        first..first + width
    }

    /// Every dimension in order.
    pub fn dimensions(&self) -> impl Iterator<Item = Dimension> + '_ {
        self.places.iter().map(|(dimension, _, _)| *dimension)
    }

    /// The bits of a dimension as sets, most significant first.
    ///
    /// # Errors
    /// When the budget is used up.
    pub fn bits(&self, bdd: &mut Bdd, dimension: Dimension) -> Built<Vec<Set>> {
        self.variables(dimension).map(|variable| bdd.variable(variable)).collect()
    }

    /// How many numbers of a dimension mean something; higher ones mean the last. `None`: all do.
    #[must_use]
    pub fn classes(&self, dimension: Dimension) -> Option<usize> {
        match dimension {
            D::InInterface | D::OutInterface => Some(self.interfaces.names.len()),
            D::State => Some(STATES.len()),
            D::Extension => Some(EXTENSIONS.len()),
            _ => None,
        }
    }

    /// The set in which a dimension of classes has one of the numbers that `wanted` picks.
    ///
    /// # Errors
    /// When the budget is used up.
    pub fn of_classes(&self, bdd: &mut Bdd, dimension: Dimension, wanted: impl Fn(usize) -> bool) -> Built {
        let bits = self.bits(bdd, dimension)?;
        let count = self.classes(dimension).unwrap_or(0);
        let mut intervals: Vec<Interval> = (0..count)
            .filter(|number| wanted(*number))
            .map(|number| Interval { low: number as u128, high: number as u128 })
            .collect();
        if let Some(last) = intervals.last_mut().filter(|last| last.low + 1 == count as u128) {
            last.high = u128::MAX;
        }
        bdd.within(&bits, &super::ranges::joined(intervals))
    }
}
