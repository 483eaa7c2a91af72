//! What a packet carries besides addresses and ports: facts few rules ask for.

use super::Protocol;

/// An IPv6 extension header.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ExtensionHeader {
    /// Its number: 0 hop-by-hop options, 43 routing, 44 fragment, 51 authentication, 60 destination options.
    pub header: Protocol,
    /// Its bytes, from its "next header" byte on.
    pub bytes: Box<[u8]>,
}

/// Facts about one packet. What is `None` is unknown, and a rule that asks for it cannot be decided.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Details {
    /// Sender's hardware address.
    pub source_mac: Option<[u8; 6]>,
    /// Receiver's hardware address.
    pub destination_mac: Option<[u8; 6]>,
    /// IPv6 extension headers in order; empty when there are none. Of no meaning for IPv4.
    pub extensions: Option<Box<[ExtensionHeader]>>,
    /// The packet from its transport header on, as far as it is known: options, chunks, security parameter indexes.
    pub transport: Option<Box<[u8]>>,
    /// Supplementary groups of the local socket's owner.
    pub groups: Option<Box<[u32]>>,
    /// Control group of the local socket, as a path below the hierarchy's root: `/system.slice/ssh.service`.
    pub cgroup: Option<Box<str>>,
    /// Class of the local socket's control group (`net_cls.classid`).
    pub classid: Option<u32>,
    /// When rules see it: seconds since 1970-01-01 UTC.
    pub time: Option<i64>,
    /// Whether IPsec protected it on its way in, or will on its way out.
    pub ipsec: Option<bool>,
}

impl Details {
    /// Of a packet as ordinary stacks send it: without IPv6 extension headers, all else unknown.
    #[must_use]
    pub fn ordinary() -> Self {
        Self { extensions: Some(Box::default()), ..Self::default() }
    }
}
