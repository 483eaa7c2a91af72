//! What the configuration of a host's services says about whom they talk to.
//!
//! Each reader takes the text of one file and gives what it names, with lines. These files are other programs': what is not
//! understood is passed over, a line that names nobody says nothing.

pub mod collectors;
pub mod directory;
pub mod leases;
pub mod mounts;
pub mod routing;
pub mod sshd;
pub mod time;

use std::fmt;
use std::net::IpAddr;

use crate::packet::Protocol;

/// Most destinations taken of one file.
const MAX_FOUND: usize = 64;

/// The other side as a file names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    /// By address.
    Address(IpAddr),
    /// By name, which somebody has to resolve.
    Name(String),
}

impl Peer {
    /// An address, in brackets or not, or a host name. `None` when it is neither.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let text = text.trim_matches(['"', '\'', ' ', '[', ']']);
        let text = text.strip_suffix('.').unwrap_or(text);
        if let Ok(address) = text.parse() {
            return Some(Self::Address(address));
        }
        let letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        let name = !text.is_empty()
            && text.len() <= 253
            && text.chars().all(letters)
            && text.chars().any(|c| c.is_ascii_alphabetic())
            && !text.starts_with(['-', '.']);
        name.then(|| Self::Name(text.to_ascii_lowercase()))
    }

    /// Whether it is this host by a loopback address or its name.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match self {
            Self::Address(address) => address.is_loopback() || address.is_unspecified(),
            Self::Name(name) => name == "localhost",
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// Whom a service talks to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The other side.
    pub peer: Peer,
    /// Protocol.
    pub protocol: Protocol,
    /// Its port.
    pub port: u16,
    /// Line of the file, 1-based.
    pub line: u32,
}

/// `host:port`, `[address]:port`, `host` alone, or an address alone.
#[must_use]
pub fn host_and_port(text: &str) -> Option<(Peer, Option<u16>)> {
    let text = text.trim().trim_matches(['"', '\'']);
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let port = port.strip_prefix(':').and_then(|port| port.parse().ok());
        return Some((Peer::read(address)?, port));
    }
    match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') => Some((Peer::read(host)?, Some(port.parse().ok()?))),
        _ => Some((Peer::read(text)?, None)),
    }
}

/// The authority of a URL: `https://user@host:port/path`. The port is the scheme's where the URL tells none.
#[must_use]
pub fn url(text: &str) -> Option<(Peer, u16)> {
    let (scheme, rest) = text.split_once("://")?;
    let scheme = scheme.rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '+').next().unwrap_or(scheme);
    let authority = rest.split(['/', '?', '#', '"', '\'', ',', ' ', ']', ')']).next()?;
    // a bracket closes an address as well as a list
    let authority = match rest.strip_prefix('[').and_then(|rest| rest.find(']')) {
        Some(end) => rest.split(['/', '?', '"', '\'', ',', ' ']).next().filter(|all| all.len() > end + 1)?,
        None => authority,
    };
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (peer, port) = host_and_port(authority)?;
    let usual = match scheme {
        "https" | "wss" => 443,
        "http" | "ws" => 80,
        _ => return port.map(|port| (peer, port)),
    };
    Some((peer, port.unwrap_or(usual)))
}

/// Lines with their numbers, without comments that begin with one of `marks`, and without blanks around them.
fn lines<'a>(text: &'a str, marks: &'a [char]) -> impl Iterator<Item = (u32, &'a str)> {
    text.lines().zip(1..).filter_map(move |(line, number)| {
        let line = line.trim();
        (!line.is_empty() && !line.starts_with(marks)).then_some((number, line))
    })
}

/// Addresses that `/etc/hosts` gives a name.
#[must_use]
pub fn in_hosts_file(text: &str, name: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for (_, line) in lines(text, &['#']) {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let Some(address) = words.next().and_then(|word| word.parse().ok()) else { continue };
        if words.any(|word| word.eq_ignore_ascii_case(name)) && found.len() < MAX_FOUND {
            found.push(address);
        }
    }
    found
}

/// The value of `name = value` or `name=value`, without quotes.
fn value_of<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (key, value) = line.split_once('=')?;
    key.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_addresses_or_names() {
        let read = |text: &str| host_and_port(text).map(|(peer, port)| (peer.to_string(), port));
        assert_eq!(read("10.0.0.1:514"), Some(("10.0.0.1".to_owned(), Some(514))));
        assert_eq!(read("[2001:db8::1]:514"), Some(("2001:db8::1".to_owned(), Some(514))));
        assert_eq!(read("2001:db8::1"), Some(("2001:db8::1".to_owned(), None)));
        assert_eq!(read("Logs.Example.org."), Some(("logs.example.org".to_owned(), None)));
        for text in ["", "a b", "host:notaport", "*", "-x", "514"] {
            assert_eq!(read(text), None, "{text}");
        }
        let url = |text: &str| url(text).map(|(peer, port)| (peer.to_string(), port));
        assert_eq!(url("server: https://u:p@10.0.0.9:6443/x"), Some(("10.0.0.9".to_owned(), 6443)));
        assert_eq!(url("https://[fd00::1]:6443"), Some(("fd00::1".to_owned(), 6443)));
        assert_eq!(url("[\"https://a.example\", \"b\"]"), Some(("a.example".to_owned(), 443)));
        assert_eq!(url("http://a.example"), Some(("a.example".to_owned(), 80)));
        assert_eq!(url("tcp://a.example"), None);
    }

    #[test]
    fn the_hosts_file_knows_names() {
        let text = "127.0.0.1 localhost\n# 10.0.0.1 a\n10.0.0.2 b.example A # c\n10.0.0.3 c\n";
        assert_eq!(in_hosts_file(text, "a"), ["10.0.0.2".parse::<IpAddr>().expect("an address")]);
        assert!(in_hosts_file(text, "d").is_empty());
    }
}
