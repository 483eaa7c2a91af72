//! Felix's grammar of a failsafe list: the string form of `FailsafeInboundHostPorts` and `FailsafeOutboundHostPorts`.
//!
//! The algorithm is Felix's own, step by step, because its corners matter: a token that looks harmless can stop Felix, and a
//! value that looks like "off" can mean "default".

use std::fmt;
use std::net::IpAddr;

use serde::{Serialize, Serializer};

use crate::packet::{Family, Prefix, Protocol};

/// One entry of a failsafe list: peers of `net` may always reach (in) or be reached at (out) `port`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct Entry {
    /// TCP or UDP; what is read back from the kernel may hold others.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
    /// The peers; `None` is everybody, of both families.
    pub net: Option<Prefix>,
}

impl Entry {
    /// An entry for everybody.
    #[must_use]
    pub fn any(protocol: Protocol, port: u16) -> Self {
        Self { protocol, port, net: None }
    }

    /// Whether Felix writes a rule for it in `family`: an entry with a net has no rule at all in the other family.
    #[must_use]
    pub fn applies_to(&self, family: Family) -> bool {
        self.net.is_none_or(|net| net.is_ipv4() == (family == Family::Ipv4))
    }
}

impl fmt::Display for Entry {
    /// As Felix reads it: `tcp:22`, `tcp:10.0.0.0/8:22`, `tcp:[fd00::/8]:22`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.net {
            None => write!(f, "{}:{}", self.protocol, self.port),
            Some(net) if net.is_ipv4() => write!(f, "{}:{net}:{}", self.protocol, self.port),
            Some(net) => write!(f, "{}:[{net}]:{}", self.protocol, self.port),
        }
    }
}

impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Why Felix refuses a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryError {
    /// Which token of the list, 1-based, empty ones counted.
    pub token: usize,
    /// The token, cut to a length fit for a message.
    pub text: String,
    /// What is wrong with it.
    pub kind: EntryErrorKind,
}

/// What is wrong with a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryErrorKind {
    /// More than three parts; often an IPv6 net without brackets.
    Parts,
    /// The first part is not tcp or udp.
    Protocol,
    /// The last part is not a whole number.
    Port,
    /// The port is not in 0 to 65535.
    PortRange,
    /// The net is neither a CIDR nor an address.
    Net,
    /// Brackets without `]:` behind the net: Felix does not refuse it, it crashes.
    Brackets,
}

impl EntryError {
    /// Whether Felix panics instead of logging an error and trying again.
    #[must_use]
    pub fn panics(&self) -> bool {
        self.kind == EntryErrorKind::Brackets
    }
}

impl fmt::Display for EntryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { token, text, kind } = self;
        write!(f, "entry {token}, {text:?}: ")?;
        f.write_str(match kind {
            EntryErrorKind::Parts => {
                "too many parts; expected PORT, PROTO:PORT, PROTO:NET:PORT or PROTO:[IPV6NET]:PORT"
            }
            EntryErrorKind::Protocol => "the protocol must be tcp or udp, and come first",
            EntryErrorKind::Port => "the port must be one whole number without spaces; ranges and names are not read",
            EntryErrorKind::PortRange => "the port must be in 0 to 65535",
            EntryErrorKind::Net => "the net must be a CIDR or an address",
            EntryErrorKind::Brackets => "brackets need a port behind them, as in tcp:[fd00::/8]:22",
        })
    }
}

impl std::error::Error for EntryError {}

/// A failsafe list as Felix reads it. The caller has dealt with the empty value (ignored) and `none` (no entries), which are
/// rules for every parameter; a value of blanks and commas only is an empty list here.
///
/// # Errors
/// The first token Felix refuses; Felix then takes nothing of the list.
pub fn parse_list(raw: &str) -> Result<Vec<Entry>, EntryError> {
    let mut entries = Vec::new();
    for (index, token) in raw.split(',').enumerate() {
        let token = token.trim_matches(' ');
        if token.is_empty() {
            continue;
        }
        let entry = parse_token(token).map_err(|kind| EntryError { token: index + 1, text: shortened(token), kind })?;
        entries.push(entry);
    }
    Ok(entries)
}

/// `text`, cut to 60 characters.
pub(crate) fn shortened(text: &str) -> String {
    match text.char_indices().nth(60) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
    }
}

fn parse_token(token: &str) -> Result<Entry, EntryErrorKind> {
    let mut net = String::new();
    let mut rest = token.to_owned();
    if let (Some(open), Some(_)) = (token.find('['), token.find(']')) {
        let close = token.find("]:").ok_or(EntryErrorKind::Brackets)?;
        token.get(open + 1..close).ok_or(EntryErrorKind::Brackets)?.clone_into(&mut net);
        rest = [token.get(..open).unwrap_or_default(), token.get(close + 2..).unwrap_or_default()].concat();
    }
    let parts: Vec<&str> = rest.splitn(5, ':').collect();
    let (protocol, port) = match parts.as_slice() {
        [port] => ("tcp", *port),
        [protocol, port] => (*protocol, *port),
        [protocol, middle, port] => {
            (*middle).clone_into(&mut net);
            (*protocol, *port)
        }
        _ => return Err(EntryErrorKind::Parts),
    };
    let protocol = match protocol.to_lowercase().as_str() {
        "tcp" => Protocol::TCP,
        "udp" => Protocol::UDP,
        _ => return Err(EntryErrorKind::Protocol),
    };
    let port = super::value::atoi(port).ok_or(EntryErrorKind::Port)?;
    let port = u16::try_from(port).map_err(|_| EntryErrorKind::PortRange)?;
    let net = if net.is_empty() { None } else { Some(parse_net(&net).ok_or(EntryErrorKind::Net)?) };
    Ok(Entry { protocol, port, net })
}

/// A CIDR or an address as Go's `net` package reads it: no zones, no leading zeros in IPv4, host bits cleared, IPv4-mapped
/// IPv6 taken as IPv4.
pub(crate) fn parse_net(text: &str) -> Option<Prefix> {
    let (address, length) = match text.split_once('/') {
        None => (text, None),
        Some((address, length)) => (address, Some(length)),
    };
    let address: IpAddr = address.parse().ok()?;
    let length = match length {
        None => return Some(Prefix::host(address.to_canonical())),
        Some(digits) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok()?,
        Some(_) => return None,
    };
    let net = Prefix::new(address, length)?;
    match net.address() {
        IpAddr::V6(v6) if length >= 96 => match v6.to_ipv4_mapped() {
            Some(v4) => Prefix::new(IpAddr::V4(v4), length - 96),
            None => Some(net),
        },
        _ => Some(net),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> String {
        match parse_list(text) {
            Ok(entries) => entries.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            Err(error) if error.panics() => "panic".to_owned(),
            Err(error) => format!("{:?} in {}", error.kind, error.token),
        }
    }

    #[test]
    fn every_form_felix_accepts() {
        for (text, expected) in [
            ("22", "tcp:22"),
            ("tcp:22", "tcp:22"),
            ("TCP:22", "tcp:22"),
            ("udp:68", "udp:68"),
            ("tcp:10.0.0.0/8:22", "tcp:10.0.0.0/8:22"),
            ("tcp:10.1.2.3:22", "tcp:10.1.2.3/32:22"),
            ("tcp:10.1.2.3/8:22", "tcp:10.0.0.0/8:22"),
            ("tcp:[fd00::/8]:22", "tcp:[fd00::/8]:22"),
            ("tcp:[10.0.0.0/8]:22", "tcp:10.0.0.0/8:22"),
            ("tcp:[::ffff:10.0.0.0/104]:22", "tcp:10.0.0.0/8:22"),
            ("tcp:[::ffff:10.1.2.3]:22", "tcp:10.1.2.3/32:22"),
            ("[::1]:22", "tcp:[::1/128]:22"),
            ("tcp::22", "tcp:22"),
            ("tcp:[]:22", "tcp:22"),
            ("tcp:[fd00::/8]::22", "tcp:22"),
            ("+22", "tcp:22"),
            ("0022", "tcp:22"),
            ("tcp:-0", "tcp:0"),
            ("tcp:65535", "tcp:65535"),
            (" tcp:22 , udp:53,,", "tcp:22 udp:53"),
            ("tcp:10.0.0.0/08:22", "tcp:10.0.0.0/8:22"),
            (" ", ""),
            (",", ""),
            (", ,", ""),
        ] {
            assert_eq!(read(text), expected, "{text:?}");
        }
    }

    #[test]
    fn every_form_felix_refuses() {
        for (text, expected) in [
            ("10.0.0.0/8:22", "Protocol in 1"),
            ("10.0.0.0/8:tcp:22", "Protocol in 1"),
            ("tcp:fd00::/8:22", "Parts in 1"),
            ("tcp: 22", "Port in 1"),
            ("tcp :22", "Protocol in 1"),
            ("\ttcp:22", "Protocol in 1"),
            ("tcp:22-25", "Port in 1"),
            ("tcp:ssh", "Port in 1"),
            ("sctp:22", "Protocol in 1"),
            (":22", "Protocol in 1"),
            ("icmp", "Port in 1"),
            ("none,22", "Port in 1"),
            ("tcp:70000", "PortRange in 1"),
            ("tcp:-1", "PortRange in 1"),
            ("tcp:99999999999999999999", "Port in 1"),
            ("tcp:0x16", "Port in 1"),
            ("tcp:2_2", "Port in 1"),
            ("tcp:", "Port in 1"),
            ("22,,tcp:10.0.0.0/33:22", "Net in 3"),
            ("tcp:010.0.0.0/8:22", "Net in 1"),
            ("tcp:[fe80::1%eth0]:22", "Net in 1"),
            ("tcp:10.0.0.0/255.0.0.0:22", "Net in 1"),
            ("\"tcp:22", "Protocol in 1"),
            ("22\"", "Port in 1"),
            ("tcp:\u{fffd}:22", "Net in 1"),
        ] {
            assert_eq!(read(text), expected, "{text:?}");
        }
    }

    #[test]
    fn brackets_without_a_port_crash_felix() {
        for text in ["tcp:[fd00::/8]", "[::1]", "]:[22", "22,a]:[b]:22"] {
            assert_eq!(read(text), "panic", "{text:?}");
        }
    }

    #[test]
    fn a_net_belongs_to_one_family() {
        let entries = parse_list("22,tcp:0.0.0.0/0:22,tcp:[::/0]:22").expect("a good list");
        let families: Vec<(bool, bool)> =
            entries.iter().map(|e| (e.applies_to(Family::Ipv4), e.applies_to(Family::Ipv6))).collect();
        assert_eq!(families, [(true, true), (true, false), (false, true)]);
    }

    #[test]
    fn huge_lists_are_read_in_one_pass() {
        let text = "tcp:22,".repeat(100_000);
        assert_eq!(parse_list(&text).expect("a good list").len(), 100_000);
        assert!(parse_list(&":".repeat(10_000_000)).is_err());
        let error = parse_list(&"x".repeat(10_000_000)).expect_err("not a port");
        assert!(error.to_string().len() < 300);
    }
}
