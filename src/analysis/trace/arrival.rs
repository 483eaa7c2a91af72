//! What the kernel itself decides about a packet that came in, between prerouting and the rules of input or forward:
//! martian addresses, `rp_filter`, routes that lead nowhere, forwarding that is off (`ip_route_input_slow`,
//! `fib_validate_source`, `ip_forward`, `ip6_forward`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::TraceVerdict;
use super::routing::{Lookup, Route};
use super::state::{Flow, Value};
use super::walk::Walk;
use crate::analysis::devices::Device;
use crate::analysis::route::Found;
use crate::host::RouteKind;
use crate::packet::{CtState, Direction, PacketType, Protocol};
use crate::ruleset::interface_number;

/// A reason of the kernel's own to stop a packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Stop {
    /// How.
    pub(super) verdict: TraceVerdict,
    /// Why, in words that name the setting.
    pub(super) why: String,
    /// `false` where something that is not known may let it pass all the same.
    pub(super) sure: bool,
}

impl Stop {
    fn drop(why: String) -> Self {
        Self { verdict: TraceVerdict::Drop, why, sure: true }
    }

    fn reject(why: String) -> Self {
        Self { verdict: TraceVerdict::Reject, why, sure: true }
    }
}

/// Where routing sends a packet that came in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Goes<'e> {
    /// To this host.
    Here,
    /// On, by this route.
    On(Found<'e>),
    /// Nowhere: it ends here.
    Nowhere,
    /// The facts do not tell.
    NotTold(String),
}

/// What becomes of a packet that came in: the reasons to stop it in the order they are met, then where it goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Received<'e> {
    pub(super) stops: Vec<Stop>,
    pub(super) goes: Goes<'e>,
}

impl Received<'_> {
    fn stopped(stop: Stop) -> Self {
        Self { stops: vec![stop], goes: Goes::Nowhere }
    }
}

/// What a reverse lookup says of a source address.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Source {
    Fine,
    Bad(String),
    NotTold(String),
}

/// The settings a source address is judged by.
#[derive(Clone, Copy)]
struct Settings {
    rp_filter: u32,
    accept_local: bool,
    vmark: bool,
    redirects: bool,
}

/// Both answers where a setting is not known.
fn either(known: Option<bool>) -> Vec<bool> {
    known.map_or_else(|| vec![false, true], |known| vec![known])
}

fn is_zeronet(address: Ipv4Addr) -> bool {
    address.octets()[0] == 0
}

fn is_local_group(address: Ipv4Addr) -> bool {
    matches!(address.octets(), [224, 0, 0, _])
}

impl<'e> Walk<'e, '_> {
    /// What becomes of the packet as it is now.
    pub(super) fn arrival(&self, flow: &Flow) -> Received<'e> {
        let looped = flow.iif == Value::Known(interface_number(b"lo"));
        let device = match flow.iif {
            Value::Known(number) if !looped && number != 0 => Some(self.engine.devices.get(number)),
            _ => None,
        };
        match (self.address(flow.src), self.address(flow.dst)) {
            (Some(IpAddr::V4(src)), Some(IpAddr::V4(dst))) => self.arrival4(flow, src, dst, device),
            (Some(IpAddr::V6(src)), Some(IpAddr::V6(dst))) => self.arrival6(flow, src, dst, device),
            // redirected to one of several addresses: to this host, and its source is looked at all the same
            (Some(IpAddr::V4(src)), None) if flow.redirected => {
                let stop = device.and_then(|device| self.source(flow, src, None, device, None));
                Received { stops: stop.into_iter().collect(), goes: Goes::Here }
            }
            _ => Received { stops: Vec::new(), goes: Goes::NotTold("the packet's addresses are not known".to_owned()) },
        }
    }

    fn arrival4(&self, flow: &Flow, src: Ipv4Addr, dst: Ipv4Addr, device: Option<&Device>) -> Received<'e> {
        let mut stops = Vec::new();
        if let Some(device) = device
            && let Some(stop) = martian4(src, dst, device, self.packet.protocol)
        {
            if stop.sure {
                return Received::stopped(stop);
            }
            stops.push(stop);
        }
        if dst.is_multicast() {
            if let Some(device) = device {
                stops.extend(not_joined4(dst, device));
                if !src.is_unspecified() {
                    stops.extend(self.source(flow, src, None, device, None));
                }
            }
            return Received { stops, goes: Goes::Here };
        }
        let broadcast = dst.is_broadcast() || (src.is_unspecified() && dst.is_unspecified());
        let found = if broadcast { Ok(None) } else { self.lookup(flow, Lookup::Arrived) };
        let kind = match &found {
            _ if broadcast => RouteKind::Broadcast,
            Ok(Some(found)) => found.kind,
            Ok(None) => RouteKind::Unreachable,
            Err(why) => return Received { stops, goes: Goes::NotTold(why.clone()) },
        };
        self.routed4(flow, (src, dst), device, stops, (kind, found.ok().flatten()))
    }

    /// Past `stops`, where a destination with this answer of routing leads.
    fn routed4(
        &self,
        flow: &Flow,
        (src, dst): (Ipv4Addr, Ipv4Addr),
        device: Option<&Device>,
        mut stops: Vec<Stop>,
        (kind, found): (RouteKind, Option<Found<'e>>),
    ) -> Received<'e> {
        // a broadcast to everybody is never passed on
        let everybody = dst.is_broadcast() || (src.is_unspecified() && dst.is_unspecified());
        let passed_on = device.and_then(|device| device.bc_forwarding) == Some(true) && !everybody;
        match (kind, found) {
            (RouteKind::Local, _) => {
                if let Some(device) = device {
                    stops.extend(self.source(flow, src, Some(dst), device, None));
                }
                Received { stops, goes: Goes::Here }
            }
            (RouteKind::Broadcast, _) if !passed_on => {
                if let Some(device) = device.filter(|_| !src.is_unspecified()) {
                    stops.extend(self.source(flow, src, None, device, None));
                }
                Received { stops, goes: Goes::Here }
            }
            (RouteKind::Blackhole, found) => {
                Received::stopped(Stop::drop(ends(dst.into(), RouteKind::Blackhole, found)))
            }
            (kind @ (RouteKind::Unreachable | RouteKind::Prohibit | RouteKind::Throw), found) => {
                self.no_way4(dst, device, &ends(dst.into(), kind, found))
            }
            // a broadcast that is passed on (bc_forwarding) does not ask whether forwarding is on
            (kind @ (RouteKind::Unicast | RouteKind::Broadcast), Some(found)) => {
                if let Some(device) = device {
                    match device.forwards4 {
                        _ if kind == RouteKind::Broadcast => {}
                        Some(false) => return Received::stopped(not_forwarding4(dst, device)),
                        None if !self.is_told_to_forward() => {
                            let why = format!(
                                "whether {} forwards IPv4 is not known (net.ipv4.conf.{}.forwarding)",
                                device.name, device.name
                            );
                            stops.push(Stop { sure: false, ..Stop::drop(why) });
                        }
                        _ => {}
                    }
                    stops.extend(self.source(flow, src, Some(dst), device, Some(found)));
                }
                stops.extend(self.hop_limit(flow));
                Received { stops, goes: Goes::On(found) }
            }
            (kind, _) => {
                Received::stopped(Stop::drop(format!("martian destination {dst}: routing has it as {kind:?}")))
            }
        }
    }

    /// Without a route the sender is told only by a host that forwards.
    fn no_way4(&self, dst: Ipv4Addr, device: Option<&Device>, why: &str) -> Received<'e> {
        match device.map(|device| (device.forwards4, device)) {
            Some((Some(false), device)) => Received::stopped(not_forwarding4(dst, device)),
            Some((None, device)) if !self.is_told_to_forward() => {
                let why = format!("{why} (forwarding on {} is not known)", device.name);
                Received {
                    stops: vec![Stop { sure: false, ..Stop::reject(why.clone()) }, Stop::drop(why)],
                    goes: Goes::Nowhere,
                }
            }
            _ => Received::stopped(Stop::reject(why.to_owned())),
        }
    }

    /// Who asks about a forwarded packet says that this host forwards; where that setting was not read it is taken so.
    pub(super) fn is_told_to_forward(&self) -> bool {
        self.packet.direction == Direction::Forward
    }

    /// Whether packets that come in by the packet's interface are forwarded; `None` when not known.
    pub(super) fn forwards(&self, flow: &Flow) -> Option<bool> {
        let device = self.engine.devices.get(flow.iif.known()?);
        if self.packet.dst.is_ipv4() { device.forwards4 } else { device.forwards6 }
    }

    /// Time to live, and what the link layer said, of a packet to be forwarded.
    fn hop_limit(&self, flow: &Flow) -> Option<Stop> {
        if self.packet.packet_type.is_some_and(|kind| kind != PacketType::Host) {
            return Some(Stop::drop("only frames to this host are forwarded, not broadcasts of the link".to_owned()));
        }
        let name = if self.packet.dst.is_ipv4() { "TTL" } else { "hop limit" };
        let ttl = flow.ttl.known().filter(|ttl| *ttl <= 1)?;
        Some(Stop::reject(format!("its {name} of {ttl} is used up: the sender is told that time was exceeded")))
    }

    /// Whether the kernel takes `src` as a source on `device` (`fib_validate_source`). `dst` is `None` for broadcast and
    /// multicast; `out` is the route of a packet that is forwarded.
    fn source(
        &self,
        flow: &Flow,
        src: Ipv4Addr,
        dst: Option<Ipv4Addr>,
        device: &Device,
        out: Option<Found<'_>>,
    ) -> Option<Stop> {
        let mut answers: Vec<Source> = Vec::new();
        for &rp_filter in &device.rp_filter {
            for accept_local in either(device.accept_local) {
                for vmark in either(device.src_valid_mark) {
                    for redirects in either(device.send_redirects) {
                        let settings = Settings { rp_filter, accept_local, vmark, redirects };
                        let answer = self.source_under(settings, flow, src, dst, device, out);
                        if !answers.contains(&answer) {
                            answers.push(answer);
                        }
                    }
                }
            }
        }
        let open = answers.contains(&Source::Fine);
        let told = answers.into_iter().find_map(|answer| match answer {
            Source::Bad(why) => Some((why, true)),
            Source::NotTold(why) => Some((why, false)),
            Source::Fine => None,
        });
        let (why, bad) = told?;
        // a socket of an established connection may remember the route it had (early demultiplexing)
        let socket = out.is_none()
            && matches!(self.packet.protocol, Protocol::TCP | Protocol::UDP)
            && self.packet.state != CtState::NEW;
        let doubt = match (open, bad) {
            (true, true) => " (a setting of this is not known)",
            (false, true) if socket => " (unless the connection's socket still knows a route)",
            _ => "",
        };
        // kernels before 5.3 ask nothing of 0.0.0.0/8 where they take it at all
        Some(Stop { sure: bad && !open && !socket && !is_zeronet(src), ..Stop::drop(format!("{why}{doubt}")) })
    }

    fn source_under(
        &self,
        settings: Settings,
        flow: &Flow,
        src: Ipv4Addr,
        dst: Option<Ipv4Addr>,
        device: &Device,
        out: Option<Found<'_>>,
    ) -> Source {
        let name = &device.name;
        let own = || {
            Source::Bad(format!("martian source {src}: an address of this host (net.ipv4.conf.{name}.accept_local=0)"))
        };
        let turns_back = out.is_some_and(|out| out.device == Some(name) || out.device.is_none());
        if settings.rp_filter == 0 && !(turns_back && settings.redirects) {
            if settings.accept_local {
                return Source::Fine;
            }
            if !self.engine.custom_routing4 {
                return match self.engine.router.host().interfaces {
                    None => Source::Fine,
                    Some(_) if self.engine.router.host().has_address(src.into()) => own(),
                    Some(_) => Source::Fine,
                };
            }
        }
        let strict = settings.rp_filter == 1;
        let setting = format!("rp_filter={} on {name} (net.ipv4.conf.{{all,{name}}}.rp_filter)", settings.rp_filter);
        let mark = if settings.vmark { flow.mark.known().and_then(|mark| u32::try_from(mark).ok()) } else { Some(0) };
        let towards = Lookup::Reverse {
            source: src.into(),
            destination: dst.map(IpAddr::from),
            mark,
            out: out.map(|out| out.device),
        };
        let found = match self.lookup(flow, towards) {
            Ok(found) => found,
            Err(why) => return Source::NotTold(format!("whether {setting} refuses {src} is not known: {why}")),
        };
        let last_resort = |why: &str| match settings.rp_filter {
            0 => Source::Fine,
            _ => Source::Bad(format!("{setting}: {why} {src}")),
        };
        let Some(found) = found else { return last_resort("there is no route back to") };
        match found.kind {
            RouteKind::Unicast => {}
            RouteKind::Local if settings.accept_local => {}
            RouteKind::Local => return own(),
            RouteKind::Blackhole | RouteKind::Unreachable | RouteKind::Prohibit | RouteKind::Throw => {
                return last_resort("the route back leads nowhere for");
            }
            _ => return Source::Bad(format!("martian source {src}: an address of everybody on a link")),
        }
        let devices: Vec<&str> = found.route.map(|route| route.devices().collect()).unwrap_or_default();
        if devices.iter().any(|one| **one == **name) {
            return Source::Fine;
        }
        match (device.has_ipv4, strict) {
            (Some(false), _) => last_resort("the interface has no IPv4 address to answer by to"),
            (_, true) => {
                let other = devices.first().copied().unwrap_or("another interface");
                Source::Bad(format!("{setting}: answers to {src} leave by {other}"))
            }
            (None, false) if settings.rp_filter != 0 => {
                Source::NotTold(format!("whether {name} has an IPv4 address, as {setting} asks, is not known"))
            }
            (_, false) => Source::Fine,
        }
    }

    fn arrival6(&self, flow: &Flow, src: Ipv6Addr, dst: Ipv6Addr, device: Option<&Device>) -> Received<'e> {
        let mut stops = Vec::new();
        if dst.is_multicast() {
            stops.extend(device.and_then(|device| not_joined6(dst, device)));
            return Received { stops, goes: Goes::Here };
        }
        let found = match self.lookup(flow, Lookup::Arrived) {
            Ok(found) => found,
            Err(why) => return Received { stops, goes: Goes::NotTold(why) },
        };
        let kind = found.map_or(RouteKind::Unreachable, |found| found.kind);
        match (kind, found) {
            (RouteKind::Local | RouteKind::Anycast, _) => Received { stops, goes: Goes::Here },
            (RouteKind::Unicast, Some(found)) => {
                match device.map(|device| device.forwards6) {
                    Some(Some(false)) => {
                        let why =
                            format!("{dst} is not this host, and forwarding is off (net.ipv6.conf.all.forwarding=0)");
                        return Received::stopped(Stop::drop(why));
                    }
                    Some(None) if !self.is_told_to_forward() => {
                        let why =
                            "whether this host forwards IPv6 is not known (net.ipv6.conf.all.forwarding)".to_owned();
                        stops.push(Stop { sure: false, ..Stop::drop(why) });
                    }
                    _ => {}
                }
                stops.extend(self.hop_limit(flow));
                if device.is_some_and(|device| found.device != Some(&device.name)) {
                    stops.extend(unroutable6(src, found.device.is_some()));
                }
                Received { stops, goes: Goes::On(found) }
            }
            (RouteKind::Blackhole, found) => {
                Received::stopped(Stop::drop(ends(dst.into(), RouteKind::Blackhole, found)))
            }
            (kind, found) => Received::stopped(Stop::reject(ends(dst.into(), kind, found))),
        }
    }

    /// What IPv6 refuses before any rule of the IP hooks (`ip6_rcv_core`).
    pub(super) fn refused_at_once(&self, flow: &Flow) -> Option<Stop> {
        let device = match flow.iif {
            Value::Known(number) if number != interface_number(b"lo") && number != 0 => self.engine.devices.get(number),
            _ => return None,
        };
        let (IpAddr::V6(src), IpAddr::V6(dst)) = (self.packet.src, self.packet.dst) else { return None };
        let scope = dst.octets()[1] & 0xf;
        let name = &device.name;
        if device.disable_ipv6 == Some(true) {
            return Some(Stop::drop(format!("IPv6 is off on {name} (net.ipv6.conf.{name}.disable_ipv6=1)")));
        }
        let why = if src.is_multicast() {
            format!("martian source {src}: nobody sends from a group's address")
        } else if src.is_loopback() || dst.is_loopback() {
            format!("::1 is taken from lo only, not from {name}")
        } else if dst.is_multicast() && scope <= 1 {
            format!("{dst} is a group of this host alone, not to be sent to it by {name}")
        } else {
            return None;
        };
        Some(Stop::drop(why))
    }
}

fn not_forwarding4(dst: Ipv4Addr, device: &Device) -> Stop {
    Stop::drop(format!("{dst} is not this host, and forwarding is off (net.ipv4.conf.{}.forwarding=0)", device.name))
}

/// Addresses that IPv4 takes from no device (RFC 1812, 5.3.7; `ip_route_input_slow`).
fn martian4(src: Ipv4Addr, dst: Ipv4Addr, device: &Device, protocol: Protocol) -> Option<Stop> {
    let source = |why: &str| Some(Stop::drop(format!("martian source {src}: {why}")));
    if src.is_multicast() || src.is_broadcast() {
        return source("nobody sends from a group's address");
    }
    if dst.is_multicast() {
        if is_zeronet(src) && !is_local_group(dst) && protocol != Protocol(2) {
            return source("an unconfigured sender speaks to groups of its link only");
        }
        return localnet(src, "source", device).filter(|_| src.is_loopback());
    }
    if dst.is_broadcast() || (src.is_unspecified() && dst.is_unspecified()) {
        return None;
    }
    // since Linux 5.3 the rest of 0.0.0.0/8 is as good as any
    if is_zeronet(src) {
        let sure = src.is_unspecified();
        let since = if sure { "" } else { ", before Linux 5.3 in all of 0.0.0.0/8" };
        let stop = source(&format!("an unconfigured sender speaks to 255.255.255.255 only{since}"));
        return stop.map(|stop| Stop { sure, ..stop });
    }
    if is_zeronet(dst) {
        let stop = Stop::drop(format!("martian destination {dst}: 0.0.0.0/8 was nobody's address before Linux 5.3"));
        return Some(Stop { sure: dst.is_unspecified(), ..stop });
    }
    if dst.is_loopback() {
        return localnet(dst, "destination", device);
    }
    if src.is_loopback() { localnet(src, "source", device) } else { None }
}

fn localnet(address: Ipv4Addr, end: &str, device: &Device) -> Option<Stop> {
    let setting = format!("net.ipv4.conf.{}.route_localnet", device.name);
    match device.route_localnet {
        Some(true) => None,
        Some(false) => {
            Some(Stop::drop(format!("martian {end} {address}: loopback addresses stay on lo ({setting}=0)")))
        }
        None => {
            let why = format!("martian {end} {address}, unless loopback addresses are taken ({setting} is not known)");
            Some(Stop { sure: false, ..Stop::drop(why) })
        }
    }
}

/// Without a listing of groups the packet is taken to be for one that was joined.
fn not_joined4(group: Ipv4Addr, device: &Device) -> Option<Stop> {
    let joined = device.groups.as_ref()?;
    let member = group == Ipv4Addr::new(224, 0, 0, 1) || joined.contains(&group.into());
    (!member).then(|| Stop::drop(format!("this host is not a member of {group} on {} (ip maddr)", device.name)))
}

fn not_joined6(group: Ipv6Addr, device: &Device) -> Option<Stop> {
    let joined = device.groups.as_ref()?;
    let member = group == Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1) || joined.contains(&group.into());
    (!member).then(|| Stop::drop(format!("this host is not a member of {group} on {} (ip maddr)", device.name)))
}

/// Sources that IPv6 does not carry from one link to another.
fn unroutable6(src: Ipv6Addr, sure: bool) -> Option<Stop> {
    let stop = if src.is_unspecified() || src.is_loopback() || src.is_multicast() {
        Stop::drop(format!("packets from {src} are not forwarded"))
    } else if src.is_unicast_link_local() {
        Stop::reject(format!("packets from {src}, an address of one link, are not forwarded to another"))
    } else {
        return None;
    };
    Some(Stop { sure, ..stop })
}

/// Why routing ends at a destination.
pub(super) fn ends(destination: IpAddr, kind: RouteKind, found: Option<Found<'_>>) -> String {
    let word = match kind {
        RouteKind::Blackhole => "blackhole",
        RouteKind::Prohibit => "prohibit",
        _ => "unreachable",
    };
    match found.map(|found| found.route) {
        None => format!("there is no route to {destination}"),
        Some(None) => format!("a policy routing rule has {destination} as {word}"),
        Some(Some(Route { destination: prefix, table, .. })) => {
            format!("the route {word} {prefix} (table {table}) ends here for {destination}")
        }
    }
}
