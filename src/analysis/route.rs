//! Routing as the kernel does it: policy rules in order of priority, in each table the longest prefix, then the lowest
//! metric (`ip-rule(8)`, `ip-route(8)`). What the host's facts do not decide is [`Routed::Unknown`].

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::host::{Host, Route, RouteKind, RoutingRule};
use crate::packet::address_bits;
use crate::ruleset::interface_number;

/// Number of the table that holds the host's own addresses.
const LOCAL_TABLE: u32 = 255;

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
        let standard = |(priority, table)| RoutingRule { priority, table: Some(table), ..RoutingRule::default() };
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
        if query.destination.is_loopback() {
            return Routed::Route { kind: RouteKind::Local, device: Some("lo") };
        }
        if self.host.routes.is_none() {
            return match self.host.is_local(query.destination) {
                Some(true) => Routed::Route { kind: RouteKind::Local, device: Some("lo") },
                _ => Routed::Unknown,
            };
        }
        match self.find(query) {
            Ok(found) => found.map_or(Routed::None, routed),
            Err(NotTold) => Routed::Unknown,
        }
    }

    /// The route that policy rules and tables lead to.
    fn find(&self, query: &RouteQuery) -> Result<Option<&'a Route>, NotTold> {
        for rule in &self.rules {
            if !applies(rule, query).ok_or(NotTold)? {
                continue;
            }
            let (Some(table), None) = (rule.table, &rule.other) else { return Err(NotTold) };
            match self.table(table, query.destination) {
                Some(route) if route.kind != RouteKind::Throw => return Ok(Some(route)),
                _ => {}
            }
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
        let found = self.table(LOCAL_TABLE, address).map_or(Routed::None, routed);
        let on_device = device.is_none() || found_on(found, device);
        match found {
            Routed::Route { kind, .. } if on_device => Some(kind),
            Routed::Route { .. } | Routed::None => Some(RouteKind::Unicast),
            Routed::Unknown => None,
        }
    }

    fn address_type6(&self, address: IpAddr, device: Option<u128>) -> Option<RouteKind> {
        if address.is_multicast() {
            return Some(RouteKind::Multicast);
        }
        if device.is_some() || address == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
            return None;
        }
        let query =
            RouteQuery { destination: address, source: None, mark: Some(0), iif: Some(interface_number(b"lo")) };
        if address.is_loopback() || self.host.routes.is_none() {
            return match self.lookup(&query) {
                Routed::Route { kind, .. } => Some(kind),
                Routed::None => Some(RouteKind::Unreachable),
                Routed::Unknown => None,
            };
        }
        let Some(route) = self.find(&query).ok()? else { return Some(RouteKind::Unreachable) };
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

    fn table(&self, table: u32, destination: IpAddr) -> Option<&'a Route> {
        let bits = address_bits(destination);
        let width: u32 = if destination.is_ipv4() { 32 } else { 128 };
        let lengths = self.tables.get(&(table, !destination.is_ipv4()))?;
        for (length, prefixes) in lengths {
            let free = width.saturating_sub(u32::from(*length));
            let low = if free >= 128 { 0 } else { bits >> free << free };
            let Some(routes) = prefixes.get(&low) else { continue };
            let all = self.host.routes.as_deref().unwrap_or_default();
            let best = routes.iter().filter_map(|&index| all.get(index)).min_by_key(|route| route.metric);
            if best.is_some() {
                return best;
            }
        }
        None
    }
}

/// The host's facts do not tell.
struct NotTold;

fn routed(route: &Route) -> Routed<'_> {
    let device = if route.multipath { None } else { route.device.as_deref() };
    Routed::Route { kind: route.kind, device }
}

fn found_on(found: Routed<'_>, device: Option<u128>) -> bool {
    match found {
        Routed::Route { device: Some(name), .. } => device == Some(interface_number(name.as_bytes())),
        _ => false,
    }
}

/// Whether a policy rule applies; `None` when a selector asks for something that is not known.
fn applies(rule: &RoutingRule, query: &RouteQuery) -> Option<bool> {
    if rule.ipv6.is_some_and(|v6| v6 == query.destination.is_ipv4()) {
        return Some(false);
    }
    let name = |wanted: &Option<Box<str>>, have: Option<u128>| match wanted {
        None => Some(true),
        Some(wanted) => have.map(|have| have == interface_number(wanted.as_bytes())),
    };
    let selectors = [
        rule.source.map_or(Some(true), |prefix| query.source.map(|source| prefix.contains(source))),
        Some(rule.destination.is_none_or(|prefix| prefix.contains(query.destination))),
        name(&rule.iif, query.iif),
        // only sockets bound to a device have one before routing
        Some(rule.oif.is_none()),
        rule.mark.map_or(Some(true), |(value, mask)| query.mark.map(|mark| mark & mask == value)),
    ];
    let holds = if selectors.contains(&Some(false)) {
        false
    } else if selectors.contains(&None) {
        return None;
    } else {
        true
    };
    Some(holds != rule.inverted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(destination: &str, table: u32, kind: RouteKind, device: &str) -> Route {
        Route {
            destination: destination.parse().expect("prefix"),
            kind,
            table,
            device: Some(device.into()),
            gateway: None,
            source: None,
            metric: 0,
            multipath: false,
        }
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
        let destination = destination.parse().expect("address");
        RouteQuery { destination, source: None, mark: Some(0), iif: Some(interface_number(b"lo")) }
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
        let rule = |priority, table, mark| RoutingRule { priority, table: Some(table), mark, ..RoutingRule::default() };
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
}
