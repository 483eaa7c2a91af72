//! Routing as the kernel does it: policy rules in order of priority, in each table the longest prefix, then the lowest
//! metric (`ip-rule(8)`, `ip-route(8)`). What the host's facts do not decide is [`Routed::Unknown`].

mod rules;

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::host::{Host, Route, RouteKind, RoutingRule, RuleAction};
use crate::packet::{Prefix, Protocol, address_bits};
use crate::ruleset::interface_number;

/// Number of the table that holds the host's own addresses.
const LOCAL_TABLE: u32 = 255;
/// Bits of the type of service that IPv4 routing looks at (`IPTOS_RT_MASK`).
const TOS_MASK: u8 = 0x1c;

/// What the kernel knows when it looks a route up. Interfaces are [`interface_number`]s; `None` is "not known".
#[derive(Clone, Copy, Debug)]
pub struct RouteQuery {
    /// Where to.
    pub destination: IpAddr,
    /// Where from.
    pub source: Option<IpAddr>,
    /// Packet mark.
    pub mark: Option<u32>,
    /// Incoming interface; `lo`'s number for packets of this host.
    pub iif: Option<u128>,
    /// The interface the socket is bound to (`SO_BINDTODEVICE`, an IPv6 scope); `Some(None)` for none.
    pub bound: Option<Option<u128>>,
    /// Type of service or traffic class.
    pub tos: Option<u8>,
    /// Owner of the socket; root for packets that came in.
    pub uid: Option<u32>,
    /// Upper-layer protocol.
    pub protocol: Option<Protocol>,
    /// Source and destination port.
    pub ports: Option<(u16, u16)>,
}

impl RouteQuery {
    /// From an unbound socket of this host, without a mark; nothing else is known.
    #[must_use]
    pub fn from_here(destination: IpAddr) -> Self {
        Self {
            destination,
            source: None,
            mark: Some(0),
            iif: Some(interface_number(b"lo")),
            bound: Some(None),
            tos: None,
            uid: None,
            protocol: None,
            ports: None,
        }
    }

    /// IPv6 addresses that mean something on one link only.
    fn needs_link(&self) -> bool {
        match self.destination {
            IpAddr::V4(_) => false,
            IpAddr::V6(v6) => v6.is_multicast() || v6.is_unicast_link_local(),
        }
    }

    /// The link that IPv6 prefers among equal routes: the socket's, or the one the packet came in by.
    fn link(&self) -> Option<Option<u128>> {
        match self.iif {
            Some(iif) if iif != interface_number(b"lo") => Some(Some(iif)),
            Some(_) => self.bound,
            None => None,
        }
    }
}

/// Why a lookup cannot be followed, in words.
pub type NotTold = String;

/// What a lookup found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found<'a> {
    /// Its kind.
    pub kind: RouteKind,
    /// The route; `None` where a policy rule itself ends the lookup.
    pub route: Option<&'a Route>,
    /// Its device; `None` when several share the load or the listing does not tell.
    pub device: Option<&'a str>,
}

/// How a lookup ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Routed<'a> {
    /// This route.
    Route {
        /// Its kind.
        kind: RouteKind,
        /// Its device; `None` when several next hops share the load or the listing does not tell.
        device: Option<&'a str>,
    },
    /// No table has a route.
    None,
    /// The facts do not tell.
    Unknown,
}

impl Routed<'_> {
    /// Whether the destination is this host (or all on its link); `None` when not known.
    #[must_use]
    pub fn is_local(self) -> Option<bool> {
        match self {
            Self::Route { kind, .. } => Some(matches!(
                kind,
                RouteKind::Local | RouteKind::Broadcast | RouteKind::Anycast | RouteKind::Multicast
            )),
            Self::None => Some(false),
            Self::Unknown => None,
        }
    }

    /// Number of the device packets leave by; `None` when not known.
    #[must_use]
    pub fn device_number(self) -> Option<u128> {
        match self {
            // IPv6 anycast addresses (the subnet-router address of each network of a router) stay inside like its own
            Self::Route { kind: RouteKind::Local | RouteKind::Anycast, .. } => Some(interface_number(b"lo")),
            Self::Route { device: Some(device), .. } => Some(interface_number(device.as_bytes())),
            _ => None,
        }
    }
}

/// Routes of one prefix length by first address.
type Prefixes = HashMap<u128, Vec<usize>>;
/// Routes of one table and family by prefix length, longest first.
type Lengths = Vec<(u8, Prefixes)>;

/// An index over a host's routes.
#[derive(Debug)]
pub struct Router<'a> {
    host: &'a Host,
    rules: Vec<RoutingRule>,
    tables: HashMap<(u32, bool), Lengths>,
}

impl<'a> Router<'a> {
    /// Indexes the routes of `host`.
    #[must_use]
    pub fn new(host: &'a Host) -> Self {
        let mut sorted: HashMap<(u32, bool), BTreeMap<Reverse<u8>, Prefixes>> = HashMap::new();
        for (index, route) in host.routes.iter().flatten().enumerate() {
            let prefix = route.destination;
            let lengths = sorted.entry((route.table, !prefix.is_ipv4())).or_default();
            lengths.entry(Reverse(prefix.length())).or_default().entry(prefix.range().0).or_default().push(index);
        }
        let tables = sorted
            .into_iter()
            .map(|(key, lengths)| (key, lengths.into_iter().map(|(Reverse(length), all)| (length, all)).collect()))
            .collect();
        let standard = |(priority, table)| {
            let action = RuleAction::Table(table);
            RoutingRule { priority, action, ..RoutingRule::default() }
        };
        let mut rules =
            host.rules.clone().unwrap_or_else(|| [(0, LOCAL_TABLE), (32766, 254), (32767, 253)].map(standard).into());
        rules.sort_by_key(|rule| rule.priority);
        Self { host, rules, tables }
    }

    /// The host the routes belong to.
    #[must_use]
    pub fn host(&self) -> &'a Host {
        self.host
    }

    /// Looks a route up.
    #[must_use]
    pub fn lookup(&self, query: &RouteQuery) -> Routed<'a> {
        match self.find(query) {
            Ok(Some(found)) => Routed::Route { kind: found.kind, device: found.device },
            Ok(None) => Routed::None,
            Err(_) => Routed::Unknown,
        }
    }

    /// Looks a route up: `None` when no table has one.
    ///
    /// # Errors
    /// In words, what the facts do not tell.
    pub fn find(&self, query: &RouteQuery) -> Result<Option<Found<'a>>, NotTold> {
        if self.host.routes.is_none() {
            return match self.host.is_local(query.destination) {
                Some(true) => Ok(Some(Found { kind: RouteKind::Local, route: None, device: Some("lo") })),
                _ => Err("the routes are not known (ip-route.json)".to_owned()),
            };
        }
        let mut from = 0;
        while let Some(rule) = self.rules.get(from) {
            from += 1;
            if !self.applies(rule, query)? {
                continue;
            }
            let table = match &rule.action {
                RuleAction::Table(table) => *table,
                RuleAction::Nop => continue,
                // always forwards, so this ends; a target that is not there is passed over
                RuleAction::Goto(target) => {
                    let place =
                        self.rules.iter().position(|other| other.priority == *target && self.same(other, query));
                    from = place.filter(|place| *place >= from).unwrap_or(from);
                    continue;
                }
                RuleAction::End(kind) => return Ok(Some(Found { kind: *kind, route: None, device: None })),
                RuleAction::Opaque(text) => return Err(format!("policy routing rule {}: {text}", rule.priority)),
            };
            match self.table(table, query)? {
                Some(found) if found.kind == RouteKind::Throw || suppressed(rule, &found) => {}
                Some(found) => return Ok(Some(found)),
                None => {}
            }
        }
        if query.destination.is_loopback() {
            // the listing leaves it out, or is not whole
            return Ok(Some(Found { kind: RouteKind::Local, route: None, device: Some("lo") }));
        }
        Ok(None)
    }

    /// The type `fib … type` and IPv4's addrtype give: only the local table is asked. `device`: only addresses of this
    /// interface count. `None` when not known.
    #[must_use]
    pub fn address_type(&self, address: IpAddr, device: Option<u128>) -> Option<RouteKind> {
        let IpAddr::V4(v4) = address else { return self.address_type6(address, device) };
        if v4 == Ipv4Addr::BROADCAST || v4.octets()[0] == 0 {
            return Some(RouteKind::Broadcast);
        }
        if v4.is_multicast() {
            return Some(RouteKind::Multicast);
        }
        if self.host.routes.is_none() {
            // addresses alone tell what is local, not what is broadcast
            let local = self.host.is_local(address)? && device.is_none();
            return local.then_some(RouteKind::Local);
        }
        let found = self.table(LOCAL_TABLE, &RouteQuery::from_here(address)).ok()?;
        let on_device = |found: &Found<'_>| {
            device.is_none_or(|device| found.device.is_some_and(|name| interface_number(name.as_bytes()) == device))
        };
        Some(found.filter(on_device).map_or(RouteKind::Unicast, |found| found.kind))
    }

    fn address_type6(&self, address: IpAddr, device: Option<u128>) -> Option<RouteKind> {
        if address.is_multicast() {
            return Some(RouteKind::Multicast);
        }
        if device.is_some() || address == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
            return None;
        }
        if address.is_loopback() {
            return Some(RouteKind::Local);
        }
        let Some(found) = self.find(&RouteQuery::from_here(address)).ok()? else { return Some(RouteKind::Unreachable) };
        let Some(route) = found.route else { return Some(found.kind) };
        // the first address of a network without a gateway counts as its routers' anycast address
        let first =
            route.destination.length() < 127 && route.gateway.is_none() && route.destination.address() == address;
        match route.kind {
            // where the network is the host's own, nftables says anycast and x_tables says both
            RouteKind::Local if first => None,
            RouteKind::Unicast if first => Some(RouteKind::Anycast),
            kind => Some(kind),
        }
    }

    /// One table's answer: the longest prefix with a route that fits.
    fn table(&self, table: u32, query: &RouteQuery) -> Result<Option<Found<'a>>, NotTold> {
        let destination = query.destination;
        let bits = address_bits(destination);
        let width: u32 = if destination.is_ipv4() { 32 } else { 128 };
        let Some(lengths) = self.tables.get(&(table, !destination.is_ipv4())) else { return Ok(None) };
        let all = self.host.routes.as_deref().unwrap_or_default();
        for (length, prefixes) in lengths {
            let free = width.saturating_sub(u32::from(*length));
            let low = if free >= 128 { 0 } else { bits >> free << free };
            let Some(indices) = prefixes.get(&low) else { continue };
            let routes = indices.iter().filter_map(|&index| all.get(index));
            let found = if destination.is_ipv4() { among4(routes, query)? } else { among6(routes, query)? };
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }
}

/// Among routes of one prefix IPv4 takes those of the packet's type of service, then the lowest metric; a bound socket
/// takes only routes through its device.
fn among4<'a>(routes: impl Iterator<Item = &'a Route>, query: &RouteQuery) -> Result<Option<Found<'a>>, NotTold> {
    let mut routes: Vec<&Route> = routes.collect();
    routes.sort_by_key(|route| (Reverse(route.tos), route.metric));
    for route in routes {
        if let Some(wanted) = route.tos.filter(|tos| *tos != 0) {
            match query.tos {
                Some(tos) if tos & TOS_MASK == wanted => {}
                Some(_) => continue,
                None => return Err(format!("the route to {} is for one type of service only", route.destination)),
            }
        }
        let found = Found { kind: route.kind, route: Some(route), device: one_device(route) };
        match query.bound {
            // these end the search whatever the device
            _ if is_end(route.kind) => return Ok(Some(found)),
            Some(None) => return Ok(Some(found)),
            Some(Some(bound)) => {
                if let Some(device) = route.devices().find(|name| interface_number(name.as_bytes()) == bound) {
                    return Ok(Some(Found { device: Some(device), ..found }));
                }
            }
            None => return Err("whether the socket is bound to an interface is not known".to_owned()),
        }
    }
    Ok(None)
}

/// Among routes of one prefix IPv6 takes the most specific source, then the lowest metric; among equals the one on the
/// packet's link, and addresses of one link only that one.
fn among6<'a>(routes: impl Iterator<Item = &'a Route>, query: &RouteQuery) -> Result<Option<Found<'a>>, NotTold> {
    let mut fitting: Vec<&Route> = Vec::new();
    for route in routes {
        match (route.from, query.source) {
            (Some(from), Some(source)) if !from.contains(source) => {}
            (Some(from), None) => return Err(format!("a route is for packets from {from} only")),
            _ => fitting.push(route),
        }
    }
    let from = |route: &Route| route.from.map_or(0, Prefix::length);
    let longest = fitting.iter().map(|route| from(route)).max();
    fitting.retain(|route| Some(from(route)) == longest);
    fitting.sort_by_key(|route| route.metric);
    for equals in fitting.chunk_by(|one, next| one.metric == next.metric) {
        let mut equals: Vec<&Route> = equals.to_vec();
        let on = |route: &&Route, link: u128| route.devices().any(|name| interface_number(name.as_bytes()) == link);
        match query.link() {
            Some(Some(link)) if query.needs_link() || equals.iter().any(|route| on(route, link)) => {
                equals.retain(|route| on(route, link));
            }
            None if query.needs_link() && equals.len() > 1 => return Err("the packet's link is not known".to_owned()),
            _ => {}
        }
        let Some(first) = equals.first() else { continue };
        if equals.iter().any(|route| route.kind != first.kind) {
            return Err(format!("several equal routes lead to {}", first.destination));
        }
        let device = one_device(first).filter(|device| equals.iter().all(|route| one_device(route) == Some(*device)));
        return Ok(Some(Found { kind: first.kind, route: Some(first), device }));
    }
    Ok(None)
}

/// The device of all next hops, when they have but one.
fn one_device(route: &Route) -> Option<&str> {
    let first = route.device.as_deref()?;
    route.devices().all(|device| device == first).then_some(first)
}

/// Kinds of routes that lead nowhere.
fn is_end(kind: RouteKind) -> bool {
    matches!(kind, RouteKind::Blackhole | RouteKind::Unreachable | RouteKind::Prohibit | RouteKind::Throw)
}

/// Whether the rule does not count this route: too short a prefix. Routes that lead nowhere are errors, not routes.
fn suppressed(rule: &RoutingRule, found: &Found<'_>) -> bool {
    let length = found.route.map_or(0, |route| route.destination.length());
    !is_end(found.kind) && rule.suppress_prefix_length.is_some_and(|longest| length <= longest)
}

/// The kernel's number of a route's type, `RTN_*` (rtnetlink(7)); `throw` is no answer.
#[must_use]
pub fn route_type(kind: RouteKind) -> Option<u8> {
    Some(match kind {
        RouteKind::Unicast => 1,
        RouteKind::Local => 2,
        RouteKind::Broadcast => 3,
        RouteKind::Anycast => 4,
        RouteKind::Multicast => 5,
        RouteKind::Blackhole => 6,
        RouteKind::Unreachable => 7,
        RouteKind::Prohibit => 8,
        RouteKind::Throw => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(destination: &str, table: u32, kind: RouteKind, device: &str) -> Route {
        Route::plain(destination.parse().expect("prefix"), table, kind, Some(device))
    }

    fn host() -> Host {
        Host {
            routes: Some(vec![
                route("0.0.0.0/0", 254, RouteKind::Unicast, "ens5"),
                route("10.0.0.0/8", 254, RouteKind::Unicast, "tun0"),
                route("10.0.1.10", LOCAL_TABLE, RouteKind::Local, "ens5"),
                route("10.0.1.255", LOCAL_TABLE, RouteKind::Broadcast, "ens5"),
                route("0.0.0.0/0", 100, RouteKind::Blackhole, "ens5"),
                route("fd00:17::", LOCAL_TABLE, RouteKind::Anycast, "docker0"),
                route("fd00:20::/32", LOCAL_TABLE, RouteKind::Local, "lo"),
                route("fd00:51::/64", 254, RouteKind::Unicast, "eth1"),
            ]),
            ..Host::default()
        }
    }

    fn query(destination: &str) -> RouteQuery {
        RouteQuery::from_here(destination.parse().expect("address"))
    }

    #[test]
    fn the_longest_prefix_wins_and_local_comes_first() {
        let host = host();
        let router = Router::new(&host);
        assert_eq!(router.lookup(&query("10.9.9.9")), Routed::Route { kind: RouteKind::Unicast, device: Some("tun0") });
        assert_eq!(router.lookup(&query("10.0.1.10")).is_local(), Some(true));
        assert_eq!(router.lookup(&query("8.8.8.8")).device_number(), Some(interface_number(b"ens5")));
        assert_eq!(router.lookup(&query("fd00::1")), Routed::None);
        let anycast = router.lookup(&query("fd00:17::"));
        assert_eq!((anycast.is_local(), anycast.device_number()), (Some(true), Some(interface_number(b"lo"))));
    }

    #[test]
    fn policy_rules_choose_the_table_by_mark() {
        let mut host = host();
        let rule = |priority, table, mark| {
            let action = RuleAction::Table(table);
            RoutingRule { priority, action, mark, ..RoutingRule::default() }
        };
        host.rules = Some(vec![rule(32766, 254, None), rule(0, 255, None), rule(100, 100, Some((1, 0xff)))]);
        let router = Router::new(&host);
        let marked = RouteQuery { mark: Some(0x101), ..query("8.8.8.8") };
        assert!(matches!(router.lookup(&marked), Routed::Route { kind: RouteKind::Blackhole, .. }));
        assert!(matches!(router.lookup(&query("8.8.8.8")), Routed::Route { kind: RouteKind::Unicast, .. }));
        assert_eq!(router.lookup(&RouteQuery { mark: None, ..query("8.8.8.8") }), Routed::Unknown);
    }

    #[test]
    fn address_types_come_from_the_local_table() {
        let host = host();
        let router = Router::new(&host);
        let kind = |text: &str| router.address_type(text.parse().expect("address"), None);
        assert_eq!(kind("10.0.1.10"), Some(RouteKind::Local));
        assert_eq!(kind("10.0.1.255"), Some(RouteKind::Broadcast));
        assert_eq!(kind("224.0.0.1"), Some(RouteKind::Multicast));
        assert_eq!(kind("192.0.2.1"), Some(RouteKind::Unicast));
        assert_eq!(kind("fd00:17::"), Some(RouteKind::Anycast));
        assert_eq!((kind("fd00:51::"), kind("fd00:51::1")), (Some(RouteKind::Anycast), Some(RouteKind::Unicast)));
        assert_eq!((kind("fd00:20::"), kind("fd00:20::1")), (None, Some(RouteKind::Local)));
        assert_eq!(Router::new(&Host::default()).address_type("10.0.1.10".parse().expect("address"), None), None);
    }

    fn device<'a>(router: &Router<'a>, query: &RouteQuery) -> Option<&'a str> {
        router.find(query).expect("decided").and_then(|found| found.device)
    }

    #[test]
    fn policy_rules_go_on_skip_suppress_and_end() {
        let mut host = host();
        let table = |priority, table| {
            let action = RuleAction::Table(table);
            RoutingRule { priority, action, ..RoutingRule::default() }
        };
        let to = |text: &str| text.parse().ok();
        host.rules = Some(vec![
            table(0, LOCAL_TABLE),
            RoutingRule { uids: Some((1000, 1999)), ..table(10, 100) },
            RoutingRule { dports: Some((53, 53)), protocol: Some(Protocol::UDP), ..table(11, 100) },
            RoutingRule { tos: Some(0x10), ..table(12, 100) },
            RoutingRule {
                priority: 20,
                destination: to("10.9.0.0/16"),
                action: RuleAction::Goto(32766),
                ..table(0, 0)
            },
            RoutingRule {
                priority: 21,
                destination: to("10.0.0.0/8"),
                action: RuleAction::End(RouteKind::Prohibit),
                ..table(0, 0)
            },
            RoutingRule { suppress_prefix_length: Some(0), ..table(30, 254) },
            RoutingRule { oif: Some("eth7".into()), ..table(31, 100) },
            table(32766, 254),
        ]);
        let router = Router::new(&host);
        let told = |destination: &str| RouteQuery {
            tos: Some(0),
            uid: Some(0),
            protocol: Some(Protocol::UDP),
            ports: Some((1, 2)),
            ..query(destination)
        };
        let kind = |query: &RouteQuery| router.find(query).expect("decided").map(|found| found.kind);
        assert_eq!(device(&router, &told("10.9.9.9")), Some("tun0"), "goto passes over the end");
        assert_eq!(kind(&told("10.7.7.7")), Some(RouteKind::Prohibit));
        assert_eq!(device(&router, &told("8.8.8.8")), Some("ens5"), "the default route is suppressed once");
        for other in [
            RouteQuery { uid: Some(1500), ..told("8.8.8.8") },
            RouteQuery { ports: Some((1, 53)), ..told("8.8.8.8") },
            RouteQuery { tos: Some(0x13), ..told("8.8.8.8") },
            RouteQuery { bound: Some(Some(interface_number(b"eth7"))), ..told("8.8.8.8") },
        ] {
            assert_eq!(kind(&other), Some(RouteKind::Blackhole), "{other:?}");
        }
        let why = router.find(&RouteQuery { uid: None, ..told("8.8.8.8") }).expect_err("not known");
        assert_eq!(why, "policy routing rule 10 depends on the user of the socket");
    }

    #[test]
    fn bound_sockets_and_links_take_routes_of_their_device() {
        let mut host = host();
        let routes = host.routes.as_mut().expect("routes");
        routes.push(Route { metric: 9, ..route("10.9.0.0/16", 254, RouteKind::Unicast, "eth1") });
        routes.push(Route {
            more_devices: vec!["eth2".into()],
            ..route("10.10.0.0/16", 254, RouteKind::Unicast, "eth1")
        });
        for name in ["eth1", "eth2"] {
            routes.push(Route { metric: 256, ..route("fe80::/64", 254, RouteKind::Unicast, name) });
        }
        let router = Router::new(&host);
        let bound = |destination: &str, name: &str| RouteQuery {
            bound: Some(Some(interface_number(name.as_bytes()))),
            ..query(destination)
        };
        assert_eq!(device(&router, &query("10.9.9.9")), Some("eth1"), "the longer prefix");
        assert_eq!(device(&router, &bound("10.9.9.9", "tun0")), Some("tun0"));
        assert_eq!(device(&router, &bound("10.9.9.9", "ens5")), Some("ens5"));
        assert_eq!(router.find(&bound("10.9.9.9", "eth9")).expect("decided"), None);
        assert_eq!(device(&router, &query("10.10.1.1")), None, "two next hops share the load");
        assert_eq!(device(&router, &bound("10.10.1.1", "eth2")), Some("eth2"));
        assert_eq!(device(&router, &query("fe80::5")), None);
        assert_eq!(device(&router, &bound("fe80::5", "eth2")), Some("eth2"));
        let arrived = RouteQuery { iif: Some(interface_number(b"eth1")), ..query("fe80::5") };
        assert_eq!(device(&router, &arrived), Some("eth1"));
    }

    #[test]
    fn types_of_service_and_sources_choose_among_routes_of_one_prefix() {
        let mut host = host();
        let routes = host.routes.as_mut().expect("routes");
        routes.push(Route { tos: Some(0x10), ..route("10.0.0.0/8", 254, RouteKind::Unicast, "eth1") });
        let from = "fd00:7::/32".parse().ok();
        routes.push(Route { from, ..route("fd00:51::/64", 254, RouteKind::Unicast, "eth2") });
        let router = Router::new(&host);
        assert_eq!(device(&router, &RouteQuery { tos: Some(0x10), ..query("10.3.3.3") }), Some("eth1"));
        assert_eq!(device(&router, &RouteQuery { tos: Some(0x08), ..query("10.3.3.3") }), Some("tun0"));
        assert!(router.find(&query("10.3.3.3")).is_err(), "the packet's type of service is not known");
        let source = |text: &str| RouteQuery { source: text.parse().ok(), ..query("fd00:51::9") };
        assert_eq!(device(&router, &source("fd00:7::1")), Some("eth2"));
        assert_eq!(device(&router, &source("fd00:8::1")), Some("eth1"));
        assert!(router.find(&query("fd00:51::9")).is_err());
    }
}
