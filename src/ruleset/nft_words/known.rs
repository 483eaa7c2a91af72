//! What the conditions so far say about a packet's family and protocol: tells which implied conditions are still missing.

use super::Needs;
use crate::packet::{Family, Protocol};
use crate::ruleset::{Expr, Field, Match, Operator, SetRef};

const IPV4: u128 = 2;
const IPV6: u128 = 10;
const ETHERTYPE_IPV4: u128 = 0x0800;
const ETHERTYPE_IPV6: u128 = 0x86dd;
const ETHERTYPE_VLAN: u128 = 0x8100;
const DEVICE_ETHERNET: u128 = 1;

/// What is certain at one place of a rule.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    family: Family,
    ip: Option<Family>,
    ethernet: bool,
    vlan: bool,
    /// The upper-layer protocols that are possible, when few.
    protocols: Option<Vec<u8>>,
}

impl Known {
    /// At the start of a rule of a table of `family`.
    pub(crate) fn new(family: Family) -> Self {
        let ip = matches!(family, Family::Ipv4 | Family::Ipv6).then_some(family);
        Self { family, ip, ethernet: matches!(family, Family::Bridge | Family::Arp), vlan: false, protocols: None }
    }

    /// The table's family.
    pub(crate) fn family(&self) -> Family {
        self.family
    }

    /// IPv4 or IPv6, when certain.
    pub(crate) fn ip(&self) -> Option<Family> {
        self.ip
    }

    /// Whether the packet certainly has an Ethernet header.
    pub(crate) fn is_ethernet(&self) -> bool {
        self.ethernet
    }

    /// The one upper-layer protocol that is possible.
    pub(crate) fn protocol(&self) -> Option<Protocol> {
        match self.protocols.as_deref() {
            Some([only]) => Some(Protocol(*only)),
            _ => None,
        }
    }

    /// Whether the packet certainly has a source and a destination port.
    pub(crate) fn has_ports(&self) -> bool {
        self.protocols.as_deref().is_some_and(|all| all.iter().all(|number| Protocol(*number).has_ports()))
    }

    /// Takes in a condition that held.
    pub(crate) fn observe(&mut self, condition: &Match) {
        let (field, values) = match condition {
            Match::Compare { left: Expr::Field(field), operator: Operator::Eq, right: Expr::Number(value) } => {
                (field, vec![*value])
            }
            Match::Lookup { left: Expr::Field(field), negate: false, set: SetRef::Anonymous(elements) }
                if elements.len() <= 8 && elements.catch_all().is_none() =>
            {
                let single = |key: &[crate::ruleset::Interval]| match key {
                    [only] if only.low == only.high => Some(only.low),
                    _ => None,
                };
                let Some(values) = elements.keys().map(single).collect::<Option<Vec<u128>>>() else { return };
                (field, values)
            }
            _ => return,
        };
        match (field, values.as_slice()) {
            (Field::Nfproto, [IPV4]) => self.ip = Some(Family::Ipv4),
            (Field::Nfproto, [IPV6]) => self.ip = Some(Family::Ipv6),
            (Field::EtherType, [ETHERTYPE_IPV4]) => self.ip = Some(Family::Ipv4),
            (Field::EtherType, [ETHERTYPE_IPV6]) => self.ip = Some(Family::Ipv6),
            (Field::EtherType, [ETHERTYPE_VLAN]) => self.vlan = true,
            (Field::Iiftype, [DEVICE_ETHERNET]) => self.ethernet = true,
            (Field::L4proto | Field::Ip4Protocol, values) => {
                self.protocols = values.iter().map(|value| u8::try_from(*value).ok()).collect();
            }
            _ => {}
        }
    }

    /// The conditions `needs` stands for that are not certain yet, in nft's order.
    pub(crate) fn missing(&self, needs: Needs) -> Vec<Match> {
        let mut missing = Self::new(self.family).conditions(needs);
        missing.retain(|condition| {
            let Match::Compare { left: Expr::Field(field), right: Expr::Number(value), .. } = condition else {
                return true;
            };
            match (field, *value) {
                (Field::Nfproto, IPV4) | (Field::EtherType, ETHERTYPE_IPV4) => self.ip != Some(Family::Ipv4),
                (Field::Nfproto, IPV6) | (Field::EtherType, ETHERTYPE_IPV6) => self.ip != Some(Family::Ipv6),
                (Field::EtherType, ETHERTYPE_VLAN) => !self.vlan,
                (Field::Iiftype, _) => !self.ethernet,
                (Field::L4proto, number) => self.protocol().map(|p| u128::from(p.0)) != Some(number),
                _ => true,
            }
        });
        missing
    }

    /// All conditions `needs` stands for in a table of this family.
    pub(crate) fn conditions(&self, needs: Needs) -> Vec<Match> {
        let ip = |family: Family| match (self.family, family) {
            (Family::Inet, Family::Ipv4) => Some(Match::equals(Field::Nfproto, IPV4)),
            (Family::Inet, _) => Some(Match::equals(Field::Nfproto, IPV6)),
            (Family::Bridge | Family::Netdev, Family::Ipv4) => Some(Match::equals(Field::EtherType, ETHERTYPE_IPV4)),
            (Family::Bridge | Family::Netdev, _) => Some(Match::equals(Field::EtherType, ETHERTYPE_IPV6)),
            _ => None,
        };
        let protocol = |number: u8| Some(Match::equals(Field::L4proto, u128::from(number)));
        let ethernet = || {
            let bare = matches!(self.family, Family::Bridge | Family::Arp);
            (!bare).then(|| Match::equals(Field::Iiftype, DEVICE_ETHERNET))
        };
        let pair = match needs {
            Needs::Nothing => [None, None],
            Needs::Ipv4 => [ip(Family::Ipv4), None],
            Needs::Ipv6 => [ip(Family::Ipv6), None],
            Needs::Protocol(number) => [protocol(number), None],
            Needs::Icmp => [ip(Family::Ipv4), protocol(Protocol::ICMP.0)],
            Needs::Igmp => [ip(Family::Ipv4), protocol(2)],
            Needs::Icmpv6 => [ip(Family::Ipv6), protocol(Protocol::ICMPV6.0)],
            Needs::Ethernet => [ethernet(), None],
            Needs::Vlan => [ethernet(), Some(Match::equals(Field::EtherType, ETHERTYPE_VLAN))],
        };
        pair.into_iter().flatten().collect()
    }
}
