//! What the host says of addresses, for all of them at once: routing lookups as pieces of the address line.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;

use crate::analysis::devices::{Device, Devices, custom_routing4};
use crate::analysis::route::{RouteQuery, Routed, Router, route_type};
use crate::host::{Host, Interface, RouteKind};
use crate::packet::{Family, Hook, Prefix};
use crate::ruleset::{FibResult, Interval, interface_number};
use crate::space::describe::address;
use crate::space::encode::{Facts, FibQuestion, Piece};
use crate::space::ranges::mask;

/// A host's routes and addresses, cut into pieces on which every lookup gives one answer.
#[derive(Debug)]
pub struct HostFacts<'a> {
    router: Router<'a>,
    family: Family,
    /// First addresses of the pieces, in order, from 0 on.
    cuts: Vec<u128>,
    known: RefCell<HashMap<FibQuestion, Rc<Vec<Piece>>>>,
    devices: Devices,
    custom_routing4: bool,
    /// By the mark that counts, and whether the packet goes through this host.
    ways_back: RefCell<AllWaysBack>,
}

/// Pieces of the address line with the way back to each.
pub(super) type WaysBack = Vec<(Interval, Back)>;

type AllWaysBack = HashMap<(Option<u32>, bool), Rc<WaysBack>>;

/// Where an answer to a source would go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Back {
    /// To one of these interfaces.
    By(Vec<u128>),
    /// To this host itself.
    Local,
    /// To everybody on a link.
    Group,
    /// Nowhere.
    Nowhere,
    /// The facts do not tell.
    NotTold(String),
}

/// Ranges that lookups treat apart whatever the routes say.
const SPECIAL: [&str; 11] = [
    "0.0.0.0/8",
    "127.0.0.0/8",
    "224.0.0.0/4",
    "255.255.255.255/32",
    "0.0.0.0/32",
    "::/128",
    "::1/128",
    "fe80::/10",
    "fe80::/64",
    "ff00::/8",
    "::ffff:0:0/96",
];

impl<'a> HostFacts<'a> {
    /// For packets of `family`.
    #[must_use]
    pub fn new(host: &'a Host, family: Family) -> Self {
        let ipv4 = family == Family::Ipv4;
        let width = if ipv4 { 32 } else { 128 };
        let routes = host.routes.iter().flatten().map(|route| route.destination);
        let rules = host.rules.iter().flatten().filter_map(|rule| rule.destination);
        let interfaces = host.interfaces.iter().flatten().flat_map(|interface| &interface.addresses);
        let own = interfaces.map(|own| Prefix::host(own.address));
        let special = SPECIAL.iter().filter_map(|text| text.parse::<Prefix>().ok());
        let mut cuts = vec![0];
        for prefix in routes.chain(rules).chain(own).chain(special).filter(|prefix| prefix.is_ipv4() == ipv4) {
            let (low, high) = prefix.range();
            // the first address of a network is a router's anycast address in IPv6
            cuts.extend([Some(low), low.checked_add(1), high.checked_add(1)].into_iter().flatten());
        }
        cuts.retain(|cut| *cut <= mask(width));
        cuts.sort_unstable();
        cuts.dedup();
        Self {
            router: Router::new(host),
            family,
            cuts,
            known: RefCell::default(),
            devices: Devices::new(host),
            custom_routing4: custom_routing4(host),
            ways_back: RefCell::default(),
        }
    }

    /// First addresses of the pieces on which every lookup gives one answer.
    #[must_use]
    pub fn cuts(&self) -> &[u128] {
        &self.cuts
    }

    /// The host.
    #[must_use]
    pub fn host(&self) -> &'a Host {
        self.router.host()
    }

    /// The family.
    #[must_use]
    pub fn family(&self) -> Family {
        self.family
    }

    /// Pieces of the address line with what `ask` says of each.
    fn pieces<T: PartialEq>(&self, ask: impl Fn(IpAddr) -> T) -> Vec<(Interval, T)> {
        let most = mask(if self.family == Family::Ipv4 { 32 } else { 128 });
        let mut pieces: Vec<(Interval, T)> = Vec::new();
        for (at, &low) in self.cuts.iter().enumerate() {
            let high = self.cuts.get(at + 1).map_or(most, |next| next - 1);
            let answer = ask(address(low, self.family));
            match pieces.last_mut() {
                Some((interval, last)) if *last == answer => interval.high = high,
                _ => pieces.push((Interval { low, high }, answer)),
            }
        }
        pieces
    }

    /// Which interface packets to each address leave by; `None` where it is not known.
    #[must_use]
    pub fn devices(&self, iif: Option<u128>) -> Vec<(Interval, Option<u128>)> {
        let query = |destination| RouteQuery { iif, ..RouteQuery::from_here(destination) };
        self.pieces(|destination| self.router.lookup(&query(destination)).device_number())
    }

    /// Settings of a device.
    pub(super) fn settings(&self, number: u128) -> &Device {
        self.devices.get(number)
    }

    /// Whether sources are judged by routes even where nothing is filtered.
    pub(super) fn custom_routing4(&self) -> bool {
        self.custom_routing4
    }

    /// The way back to every source; `mark` counts, and the answer's interface when the packet went `through`.
    pub(super) fn ways_back(&self, mark: Option<u32>, through: bool) -> Rc<WaysBack> {
        if let Some(known) = self.ways_back.borrow().get(&(mark, through)) {
            return Rc::clone(known);
        }
        let here = Some(interface_number(b"lo"));
        let ask = |source| {
            let iif = if through { None } else { here };
            let query = RouteQuery { mark, iif, uid: Some(0), ..RouteQuery::from_here(source) };
            match self.router.find(&query) {
                Err(why) => Back::NotTold(why),
                Ok(None) => Back::Nowhere,
                Ok(Some(found)) => match found.kind {
                    RouteKind::Unicast => {
                        let devices = found.route.into_iter().flat_map(crate::host::Route::devices);
                        Back::By(devices.map(|name| interface_number(name.as_bytes())).collect())
                    }
                    RouteKind::Local => Back::Local,
                    RouteKind::Blackhole | RouteKind::Unreachable | RouteKind::Prohibit | RouteKind::Throw => {
                        Back::Nowhere
                    }
                    _ => Back::Group,
                },
            }
        };
        let pieces = Rc::new(self.pieces(ask));
        self.ways_back.borrow_mut().insert((mark, through), Rc::clone(&pieces));
        pieces
    }

    /// Every address that routing takes for this host's own, or for a group.
    #[must_use]
    pub fn local(&self) -> Vec<Interval> {
        let local = self.pieces(|address| self.router.lookup(&RouteQuery::from_here(address)).is_local());
        local.into_iter().filter(|(_, local)| *local == Some(true)).map(|(interval, _)| interval).collect()
    }

    /// Whether `number` is an address of this host; `None` when not known.
    #[must_use]
    pub fn is_local(&self, number: u128, mark: Option<u32>) -> Option<bool> {
        let query = RouteQuery { mark, iif: None, ..RouteQuery::from_here(address(number, self.family)) };
        self.router.lookup(&query).is_local()
    }

    /// The interface packets to `number` leave by.
    #[must_use]
    pub fn device(&self, number: u128, mark: Option<u32>) -> Option<u128> {
        let query = RouteQuery { mark, ..RouteQuery::from_here(address(number, self.family)) };
        self.router.lookup(&query).device_number()
    }

    /// What a lookup of one address gives, as `nft_fib` and `xt_addrtype` see it.
    fn answer(&self, question: &FibQuestion, wanted: IpAddr) -> Option<u128> {
        let fib = question.fib;
        let device = match (fib.iif, fib.oif) {
            (true, _) => Some(question.iif?),
            (_, true) => Some(question.oif?),
            _ => None,
        };
        let device = device.filter(|device| *device != 0);
        if fib.result == FibResult::Type {
            return self.router.address_type(wanted, device).and_then(route_type).map(u128::from);
        }
        let lo = interface_number(b"lo");
        // on loopback the answer is the interface itself; at input older kernels look the route up all the same
        if question.iif == Some(lo) {
            match question.hook {
                Hook::Prerouting if fib.result == FibResult::Present => return Some(1),
                Hook::Prerouting => return Some(lo),
                Hook::Input => return None,
                _ => {}
            }
        }
        let query = RouteQuery {
            source: question.other.map(|other| address(other, self.family)),
            mark: question.mark.and_then(|mark| u32::try_from(mark).ok()),
            uid: Some(0),
            ..RouteQuery::from_here(wanted)
        };
        let routed = self.router.lookup(&query);
        let found = match routed {
            Routed::Route { kind: RouteKind::Unicast, .. } => {
                let found = routed.device_number()?;
                device.is_none_or(|device| device == found).then_some(found)
            }
            // a local address answers nothing in IPv4; in IPv6 it depends on the kernel
            Routed::Route { .. } if self.family != Family::Ipv4 => return None,
            Routed::Unknown => return None,
            _ => None,
        };
        Some(match fib.result {
            FibResult::Present => found.is_some().into(),
            _ => found.unwrap_or(0),
        })
    }
}

impl Facts for HostFacts<'_> {
    fn fib(&self, question: &FibQuestion) -> Rc<Vec<Piece>> {
        if let Some(known) = self.known.borrow().get(question) {
            return Rc::clone(known);
        }
        let pieces = Rc::new(self.pieces(|wanted| self.answer(question, wanted)));
        self.known.borrow_mut().insert(*question, Rc::clone(&pieces));
        pieces
    }

    fn interface_group(&self, interface: u128) -> Option<u128> {
        interface_of(self.host(), interface)?.group.map(u128::from)
    }

    fn interface_type(&self, interface: u128) -> Option<u128> {
        match interface_of(self.host(), interface).map(|found| &*found.link_type) {
            Some("ether") => Some(1),
            Some("loopback") => Some(772),
            Some("none") => Some(0xfffe),
            _ if interface == interface_number(b"lo") => Some(772),
            _ => None,
        }
    }
}

/// The interface with this number.
fn interface_of(host: &Host, number: u128) -> Option<&Interface> {
    let all = host.interfaces.as_deref().unwrap_or_default();
    all.iter().find(|one| interface_number(one.name.as_bytes()) == number)
}
