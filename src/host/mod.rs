//! Facts about the host around the firewall: interfaces, addresses, routes, sockets, sessions.
//!
//! Each part is `None` when nothing was read about it: "unknown" is not "none".

pub mod bpf;
pub mod conntrack;
pub mod ip;
pub mod names;
pub mod services;
pub mod sockets;
pub mod sysctl;

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::packet::{CtState, CtStatus, Prefix, Protocol, Tuple};

/// Everything known about the host.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// Network interfaces with their addresses (`ip -j addr`, `ip -j link`).
    pub interfaces: Option<Vec<Interface>>,
    /// Routes of all tables (`ip -j route show table all`).
    pub routes: Option<Vec<Route>>,
    /// Policy routing rules (`ip -j rule`), by priority; both families.
    pub rules: Option<Vec<RoutingRule>>,
    /// Sockets (`ss -H -tuanp` or procfs).
    pub sockets: Option<Vec<Socket>>,
    /// Tracked connections.
    pub sessions: Option<Vec<Session>>,
    /// Multicast groups by interface (`ip -j maddr`).
    pub groups: Option<ip::Groups>,
    /// Programs and tc filters that see packets outside netfilter.
    pub programs: Vec<bpf::Program>,
    /// Relevant sysctls by dotted name.
    pub sysctls: Option<BTreeMap<String, String>>,
    /// Which clocks rules go by.
    pub clocks: Clocks,
}

/// In which time zones rules and their listings tell times of day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clocks {
    /// nft's listing has UTC: hepguard itself took it. Else the zone of whoever did is unknown.
    pub listed_in_utc: bool,
    /// The kernel's own zone is UTC for sure. systemd sets it to the local one where the hardware clock runs in local time
    /// (`LOCAL` in `/etc/adjtime`), and to UTC else. nftables tells days of the week by it.
    pub kernel_in_utc: bool,
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Interface {
    /// Kernel index.
    pub index: u32,
    /// Its name.
    pub name: Box<str>,
    /// `UP` flag.
    pub up: bool,
    /// `LOOPBACK` flag.
    pub loopback: bool,
    /// `link_type`: `ether`, `loopback`, `none`, …
    pub link_type: Box<str>,
    /// Its group; `None` when not told, or by a name that only the host's own list knows.
    pub group: Option<u32>,
    /// `info_kind`: `veth`, `bridge`, `vlan`, `vrf`, …; empty for plain devices.
    pub kind: Box<str>,
    /// Bridge, bond or VRF it belongs to.
    pub master: Option<Box<str>>,
    /// The device a VLAN, macvlan or the like stands on.
    pub lower: Option<Box<str>>,
    /// Of a bridge: whether its own options send frames through the IP hooks (`nf_call_iptables`, `nf_call_ip6tables`).
    pub frames_cross: Option<[bool; 2]>,
    /// XDP programs on it.
    pub programs: Vec<bpf::Program>,
    /// Addresses.
    pub addresses: Vec<InterfaceAddress>,
}

/// An address on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceAddress {
    /// The local address.
    pub address: IpAddr,
    /// Prefix length of the connected network.
    pub prefix_length: u8,
    /// Broadcast address, IPv4.
    pub broadcast: Option<IpAddr>,
    /// `global`, `link`, `host`, …
    pub scope: Box<str>,
    /// Came from DHCP or a router advertisement, with a life time.
    pub dynamic: bool,
    /// Seconds for which it stays valid from when it was listed; `None` for ever, or not told.
    pub valid: Option<u32>,
}

/// Kind of a route (`RTN_*`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RouteKind {
    /// To a gateway or a link.
    Unicast,
    /// To this host.
    Local,
    /// Broadcast address.
    Broadcast,
    /// Anycast address.
    Anycast,
    /// Multicast.
    Multicast,
    /// Silently dropped.
    Blackhole,
    /// ICMP unreachable.
    Unreachable,
    /// ICMP prohibited.
    Prohibit,
    /// Look in the next table.
    Throw,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Destination.
    pub destination: Prefix,
    /// Kind.
    pub kind: RouteKind,
    /// Table number (254 main, 255 local, 253 default).
    pub table: u32,
    /// Output interface.
    pub device: Option<Box<str>>,
    /// Next hop.
    pub gateway: Option<IpAddr>,
    /// Preferred source.
    pub source: Option<IpAddr>,
    /// Metric; lower wins.
    pub metric: u32,
    /// Output interfaces of further next hops, which share the load.
    pub more_devices: Vec<Box<str>>,
    /// Only packets of this type of service, IPv4.
    pub tos: Option<u8>,
    /// Only packets from there, IPv6.
    pub from: Option<Prefix>,
    /// Who put it there (`dhcp`, `ra`, `bird`, `kernel`, …); empty when the listing does not tell.
    pub origin: Box<str>,
}

impl Route {
    /// A plain route through `device`, without gateway, metric or selectors.
    #[must_use]
    pub fn plain(destination: Prefix, table: u32, kind: RouteKind, device: Option<&str>) -> Self {
        Self {
            destination,
            kind,
            table,
            device: device.map(Into::into),
            gateway: None,
            source: None,
            metric: 0,
            more_devices: Vec::new(),
            tos: None,
            from: None,
            origin: "".into(),
        }
    }

    /// Interfaces of all next hops.
    pub fn devices(&self) -> impl Iterator<Item = &str> {
        self.device.iter().chain(&self.more_devices).map(|name| &**name)
    }
}

/// What a policy routing rule does with packets it selects.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum RuleAction {
    /// Asks this table.
    Table(u32),
    /// Goes on at the first rule of this priority.
    Goto(u32),
    /// Nothing.
    #[default]
    Nop,
    /// An end as routes of this kind have it: blackhole, unreachable or prohibit.
    End(RouteKind),
    /// Not modelled: text.
    Opaque(Box<str>),
}

/// A policy routing rule.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct RoutingRule {
    /// Priority; lower is asked first.
    pub priority: u32,
    /// Whether it is an IPv6 rule; `None` when the listing does not tell (the standard three).
    pub ipv6: Option<bool>,
    /// Source selector.
    pub source: Option<Prefix>,
    /// Destination selector.
    pub destination: Option<Prefix>,
    /// Incoming interface selector.
    pub iif: Option<Box<str>>,
    /// Outgoing interface selector (bound sockets).
    pub oif: Option<Box<str>>,
    /// Mark selector: value and mask.
    pub mark: Option<(u32, u32)>,
    /// Type of service.
    pub tos: Option<u8>,
    /// Range of the socket's owner.
    pub uids: Option<(u32, u32)>,
    /// Upper-layer protocol.
    pub protocol: Option<Protocol>,
    /// Range of source ports.
    pub sports: Option<(u16, u16)>,
    /// Range of destination ports.
    pub dports: Option<(u16, u16)>,
    /// Packets of a VRF, whose table it asks.
    pub l3mdev: bool,
    /// Holds when the selectors do not.
    pub inverted: bool,
    /// What it does.
    pub action: RuleAction,
    /// Routes of this prefix length or a shorter one do not count.
    pub suppress_prefix_length: Option<u8>,
    /// A selector that is not modelled: text.
    pub other: Option<Box<str>>,
}

/// A socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Local address; unspecified means any.
    pub local: IpAddr,
    /// Bound to any IPv6 address and may take IPv4 too.
    pub dual_stack: bool,
    /// Local port.
    pub local_port: u16,
    /// Device it is bound to.
    pub device: Option<Box<str>>,
    /// The peer, for connected sockets.
    pub peer: Option<(IpAddr, u16)>,
    /// Listening (TCP) or unconnected (UDP).
    pub listening: bool,
    /// Name of the owning process, when readable.
    pub process: Option<Box<str>>,
    /// Its pid.
    pub pid: Option<u32>,
}

/// A tracked connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Protocol.
    pub protocol: Protocol,
    /// First packet's addresses.
    pub original: Tuple,
    /// The answer's addresses.
    pub reply: Tuple,
    /// State as rules would see the next packet.
    pub state: CtState,
    /// Status bits told by the listing.
    pub status: CtStatus,
    /// Protocol state text (`ESTABLISHED`, `SYN_SENT`, …), for TCP.
    pub protocol_state: Option<Box<str>>,
    /// Connection mark.
    pub mark: u32,
}

impl RoutingRule {
    /// The table it asks.
    #[must_use]
    pub fn table(&self) -> Option<u32> {
        match self.action {
            RuleAction::Table(table) => Some(table),
            _ => None,
        }
    }
}

impl Host {
    /// Whether interfaces, addresses and routes are the same.
    #[must_use]
    pub fn same_network(&self, other: &Self) -> bool {
        self.interfaces == other.interfaces && self.routes == other.routes && self.rules == other.rules
    }

    /// Whether both route alike, so that only rules can make a difference: the same network, and the kernel's settings.
    #[must_use]
    pub fn same_routing(&self, other: &Self) -> bool {
        self.same_network(other) && self.sysctls == other.sysctls
    }

    /// Whether all that decides about a packet beside the rules is the same, programs and clocks included.
    #[must_use]
    pub fn acts_as(&self, other: &Self) -> bool {
        self.same_routing(other)
            && self.groups == other.groups
            && self.programs == other.programs
            && self.clocks == other.clocks
    }

    /// Whether `address` is this host's; `None` when interfaces and routes are unknown.
    #[must_use]
    pub fn is_local(&self, address: IpAddr) -> Option<bool> {
        if address.is_loopback() {
            return Some(true);
        }
        let local_route = |route: &Route| route.kind == RouteKind::Local && route.destination.contains(address);
        let on_interface = |interface: &Interface| interface.addresses.iter().any(|a| a.address == address);
        match (&self.interfaces, &self.routes) {
            (None, None) => None,
            (interfaces, routes) => Some(
                interfaces.as_ref().is_some_and(|all| all.iter().any(on_interface))
                    || routes.as_ref().is_some_and(|all| all.iter().any(local_route)),
            ),
        }
    }

    /// Whether an interface has exactly this address.
    #[must_use]
    pub fn has_address(&self, address: IpAddr) -> bool {
        self.interface_of(address).is_some()
    }

    /// Name of the interface that has this address.
    #[must_use]
    pub fn interface_of(&self, address: IpAddr) -> Option<&str> {
        let has = |interface: &&Interface| interface.addresses.iter().any(|own| own.address == address);
        self.interfaces.iter().flatten().find(has).map(|interface| &*interface.name)
    }

    /// The interface called `name`.
    #[must_use]
    pub fn interface(&self, name: &str) -> Option<&Interface> {
        self.interfaces.as_ref()?.iter().find(|interface| &*interface.name == name)
    }
}
