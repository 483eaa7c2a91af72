//! Netfilter hooks and families.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where in the stack a base chain hangs (`linux/netfilter.h`, nft(8) "ADDRESS FAMILIES").
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hook {
    /// netdev and inet: before anything else on a device.
    Ingress,
    /// Every packet that comes in, before routing.
    Prerouting,
    /// For this host.
    Input,
    /// Through this host.
    Forward,
    /// From this host.
    Output,
    /// Every packet that goes out, after routing.
    Postrouting,
    /// netdev: last before the device.
    Egress,
}

impl Hook {
    /// All hooks in the order packets meet them.
    pub const ALL: [Self; 7] =
        [Self::Ingress, Self::Prerouting, Self::Input, Self::Forward, Self::Output, Self::Postrouting, Self::Egress];

    /// nft's lower-case name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Prerouting => "prerouting",
            Self::Input => "input",
            Self::Forward => "forward",
            Self::Output => "output",
            Self::Postrouting => "postrouting",
            Self::Egress => "egress",
        }
    }

    /// The hook called `name`, any case (`INPUT` of iptables, `input` of nft).
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|hook| hook.name().eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Address families of tables.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4 (`ip` in nft, `iptables`).
    Ipv4,
    /// IPv6 (`ip6` in nft, `ip6tables`).
    Ipv6,
    /// Both.
    Inet,
    /// ARP.
    Arp,
    /// Frames on a bridge.
    Bridge,
    /// Frames on a device.
    Netdev,
}

impl Family {
    /// The family of an address.
    #[must_use]
    pub fn of(address: std::net::IpAddr) -> Self {
        if address.is_ipv4() { Self::Ipv4 } else { Self::Ipv6 }
    }

    /// hepguard's name, as in its JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
            Self::Inet => "inet",
            Self::Arp => "arp",
            Self::Bridge => "bridge",
            Self::Netdev => "netdev",
        }
    }

    /// nft's name (`ip`, `ip6`, …).
    #[must_use]
    pub fn nft_name(self) -> &'static str {
        match self {
            Self::Ipv4 => "ip",
            Self::Ipv6 => "ip6",
            other => other.name(),
        }
    }

    /// The family nft calls `name`.
    #[must_use]
    pub fn from_nft_name(name: &str) -> Option<Self> {
        [Self::Ipv4, Self::Ipv6, Self::Inet, Self::Arp, Self::Bridge, Self::Netdev]
            .into_iter()
            .find(|family| family.nft_name() == name)
    }

    /// Whether chains of this table family see packets of `packet` (`Ipv4` or `Ipv6`) at the IP hooks.
    #[must_use]
    pub fn sees(self, packet: Self) -> bool {
        self == packet || self == Self::Inet
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
