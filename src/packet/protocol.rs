//! IP protocols, ports and TCP flags (IANA protocol numbers, RFC 9293 §3.1).

use std::fmt;
use std::str::FromStr;

/// An IP protocol number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Protocol(pub u8);

impl Protocol {
    /// ICMP, 1.
    pub const ICMP: Self = Self(1);
    /// TCP, 6.
    pub const TCP: Self = Self(6);
    /// UDP, 17.
    pub const UDP: Self = Self(17);
    /// DCCP, 33.
    pub const DCCP: Self = Self(33);
    /// ICMPv6, 58.
    pub const ICMPV6: Self = Self(58);
    /// SCTP, 132.
    pub const SCTP: Self = Self(132);
    /// UDP-Lite, 136.
    pub const UDPLITE: Self = Self(136);

    /// Names as `/etc/protocols` and iptables-save have them; the first of a number is the one printed.
    const NAMES: [(u8, &'static str); 50] = [
        (0, "ip"),
        (1, "icmp"),
        (2, "igmp"),
        (3, "ggp"),
        (4, "ipencap"),
        (5, "st"),
        (6, "tcp"),
        (8, "egp"),
        (9, "igp"),
        (12, "pup"),
        (17, "udp"),
        (20, "hmp"),
        (22, "xns-idp"),
        (27, "rdp"),
        (29, "iso-tp4"),
        (33, "dccp"),
        (36, "xtp"),
        (37, "ddp"),
        (38, "idpr-cmtp"),
        (41, "ipv6"),
        (43, "ipv6-route"),
        (44, "ipv6-frag"),
        (45, "idrp"),
        (46, "rsvp"),
        (47, "gre"),
        (50, "esp"),
        (51, "ah"),
        (57, "skip"),
        (58, "ipv6-icmp"),
        (58, "icmpv6"),
        (59, "ipv6-nonxt"),
        (60, "ipv6-opts"),
        (73, "rspf"),
        (81, "vmtp"),
        (88, "eigrp"),
        (89, "ospf"),
        (93, "ax.25"),
        (94, "ipip"),
        (97, "etherip"),
        (98, "encap"),
        (103, "pim"),
        (108, "ipcomp"),
        (112, "vrrp"),
        (115, "l2tp"),
        (124, "isis"),
        (132, "sctp"),
        (133, "fc"),
        (137, "mpls-in-ip"),
        (138, "manet"),
        (139, "hip"),
    ];

    /// Whether its header starts with source and destination port.
    #[must_use]
    pub fn has_ports(self) -> bool {
        matches!(self, Self::TCP | Self::UDP | Self::DCCP | Self::SCTP | Self::UDPLITE)
    }

    /// The IANA name, when known.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        if self == Self::UDPLITE {
            return Some("udplite");
        }
        Self::NAMES.iter().find(|(number, _)| *number == self.0).map(|(_, name)| *name)
    }
}

impl FromStr for Protocol {
    type Err = String;

    /// A number or a name, any case; `udplite`, `ospfigp`, `ah`, `esp` and iptables' aliases included.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(number) = text.parse::<u8>() {
            return Ok(Self(number));
        }
        let lower = text.to_ascii_lowercase();
        let known = Self::NAMES.iter().find(|(_, name)| *name == lower).map(|(number, _)| *number);
        let number = match lower.as_str() {
            "udplite" => Some(136),
            "ospfigp" => Some(89),
            "ipip" => Some(4),
            "mh" | "ipv6-mh" | "mobility-header" => Some(135),
            "hopopt" => Some(0),
            _ => known,
        };
        number.map(Self).ok_or_else(|| format!("expected a protocol name or a number of 0 to 255, found {text:?}"))
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{}", self.0),
        }
    }
}

impl fmt::Debug for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Ports `low..=high`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct PortRange {
    /// First port.
    pub low: u16,
    /// Last port.
    pub high: u16,
}

impl PortRange {
    /// One port.
    #[must_use]
    pub fn single(port: u16) -> Self {
        Self { low: port, high: port }
    }

    /// Whether `port` is inside.
    #[must_use]
    pub fn contains(self, port: u16) -> bool {
        (self.low..=self.high).contains(&port)
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.low == self.high { write!(f, "{}", self.low) } else { write!(f, "{}-{}", self.low, self.high) }
    }
}

/// TCP flags, the byte at offset 13 of the header.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// FIN.
    pub const FIN: Self = Self(1);
    /// SYN.
    pub const SYN: Self = Self(2);
    /// RST.
    pub const RST: Self = Self(4);
    /// PSH.
    pub const PSH: Self = Self(8);
    /// ACK.
    pub const ACK: Self = Self(16);
    /// URG.
    pub const URG: Self = Self(32);
    /// Every flag with its name.
    pub const NAMES: [(u8, &'static str); 8] =
        [(1, "fin"), (2, "syn"), (4, "rst"), (8, "psh"), (16, "ack"), (32, "urg"), (64, "ecn"), (128, "cwr")];
}

impl FromStr for TcpFlags {
    type Err = String;

    /// Comma-separated names in any case, `ALL`, `NONE`, or a number.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bits = 0;
        for name in text.split([',', '|']).map(str::trim).filter(|name| !name.is_empty()) {
            let lower = name.to_ascii_lowercase();
            bits |= match lower.as_str() {
                // iptables' ALL means the six flags of RFC 793
                "all" => 0x3f,
                "none" => 0,
                "ece" => 64,
                other => match Self::NAMES.iter().find(|(_, known)| *known == other) {
                    Some((bit, _)) => *bit,
                    None => other
                        .strip_prefix("0x")
                        .map_or_else(|| other.parse().ok(), |hex| u8::from_str_radix(hex, 16).ok())
                        .ok_or_else(|| format!("expected TCP flags such as syn,ack, found {name:?}"))?,
                },
            };
        }
        Ok(Self(bits))
    }
}

impl fmt::Display for TcpFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (bit, name) in Self::NAMES {
            if self.0 & bit != 0 {
                write!(f, "{separator}{name}")?;
                separator = ",";
            }
        }
        if separator.is_empty() { f.write_str("none") } else { Ok(()) }
    }
}

impl fmt::Debug for TcpFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TcpFlags({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocol_names() {
        assert_eq!("TCP".parse(), Ok(Protocol::TCP));
        assert_eq!("ipv6-icmp".parse(), Ok(Protocol::ICMPV6));
        assert_eq!("icmpv6".parse(), Ok(Protocol::ICMPV6));
        assert_eq!("253".parse(), Ok(Protocol(253)));
        assert!("tcpp".parse::<Protocol>().is_err());
        assert_eq!(Protocol(4).to_string(), "ipencap");
        assert_eq!(Protocol(58).to_string(), "ipv6-icmp");
        assert_eq!(Protocol(136).to_string(), "udplite");
    }

    #[test]
    fn flags() {
        assert_eq!("SYN,ACK".parse(), Ok(TcpFlags(18)));
        assert_eq!("NONE".parse(), Ok(TcpFlags(0)));
        assert_eq!("ALL".parse(), Ok(TcpFlags(0x3f)));
        assert_eq!(TcpFlags(18).to_string(), "syn,ack");
        assert!("sin".parse::<TcpFlags>().is_err());
    }
}
