//! What the kernel's settings say of each network device, looked up once.
//!
//! A setting that was not read is `None`: the answers that hang on it are open, those that do not stay certain.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use crate::host::{Host, Interface, RouteKind, RoutingRule, RuleAction};
use crate::ruleset::interface_number;

/// A device and the settings that decide about its packets.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Device {
    /// Its name.
    pub name: Box<str>,
    /// `rp_filter`: the larger of `all` and its own; several values where one of them is not known.
    pub rp_filter: Vec<u32>,
    /// `accept_local`, by `all` or its own.
    pub accept_local: Option<bool>,
    /// `route_localnet`, by `all` or its own.
    pub route_localnet: Option<bool>,
    /// `src_valid_mark`, by `all` or its own.
    pub src_valid_mark: Option<bool>,
    /// `send_redirects`, by `all` or its own.
    pub send_redirects: Option<bool>,
    /// IPv4 `forwarding` of packets that come in by it.
    pub forwards4: Option<bool>,
    /// IPv6 forwarding: of the whole host, or forced for this device.
    pub forwards6: Option<bool>,
    /// `bc_forwarding`, by `all` and its own.
    pub bc_forwarding: Option<bool>,
    /// `disable_ipv6`.
    pub disable_ipv6: Option<bool>,
    /// Whether it has an IPv4 address.
    pub has_ipv4: Option<bool>,
    /// Groups it has joined.
    pub groups: Option<BTreeSet<IpAddr>>,
    /// What it hands its packets to before any rule of the IP hooks sees them.
    pub master: Option<Master>,
    /// Whether frames its ports pass on cross the IP hooks (br_netfilter), IPv4 and IPv6, of a bridge.
    pub frames_cross: [Option<bool>; 2],
}

/// What takes a device's packets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Master {
    /// A bridge: packets to this host arrive by it.
    Bridge(Box<str>),
    /// A bond or team: all packets arrive by it.
    Bond(Box<str>),
    /// Something whose ways are not followed, in words.
    Other(String),
}

/// Devices that stand on each other are followed so far.
pub const MAX_LEVELS: usize = 8;

/// The device, what it stands on, and its ports, as interface numbers, so many levels down.
#[must_use]
pub fn below(host: &Host, device: u128, levels: usize) -> Vec<u128> {
    let number = |interface: &Interface| interface_number(interface.name.as_bytes());
    let named = |name: &Option<Box<str>>| name.as_deref().map(|name| interface_number(name.as_bytes()));
    let mut found = vec![device];
    for _ in 0..levels {
        let before = found.len();
        for interface in host.interfaces.iter().flatten() {
            let own = number(interface);
            let lower = named(&interface.lower).filter(|_| found.contains(&own));
            let port = named(&interface.master).filter(|master| found.contains(master)).map(|_| own);
            for next in lower.into_iter().chain(port) {
                if !found.contains(&next) {
                    found.push(next);
                }
            }
        }
        if found.len() == before {
            break;
        }
    }
    found
}

/// The device and those that carry its packets, each below the one before: a VLAN or macvlan stands on another device. What
/// tunnels send through a device are other packets.
#[must_use]
pub fn carriers(host: &Host, device: u128) -> Vec<u128> {
    let mut stack = vec![device];
    while let Some(last) = stack.last().filter(|_| stack.len() <= MAX_LEVELS) {
        let mut all = host.interfaces.iter().flatten();
        let found = all.find(|interface| interface_number(interface.name.as_bytes()) == *last);
        let carried =
            |interface: &&Interface| matches!(&*interface.kind, "vlan" | "macvlan" | "macvtap" | "ipvlan" | "ipvtap");
        let Some(lower) = found.filter(carried).and_then(|interface| interface.lower.as_deref()) else { break };
        stack.push(interface_number(lower.as_bytes()));
    }
    stack
}

/// Ports of these devices, and what is below those: interface numbers and names.
#[must_use]
pub fn ports<'h>(host: &'h Host, devices: &[u128]) -> Vec<(u128, &'h str)> {
    let mut masters = devices.to_vec();
    let mut found: Vec<(u128, &str)> = Vec::new();
    for _ in 0..MAX_LEVELS {
        let before = found.len();
        for interface in host.interfaces.iter().flatten() {
            let (own, master) = (interface_number(interface.name.as_bytes()), interface.master.as_deref());
            let is_port = master.is_some_and(|master| masters.contains(&interface_number(master.as_bytes())));
            if is_port && found.iter().all(|(known, _)| *known != own) {
                found.push((own, &*interface.name));
                masters.extend(carriers(host, own));
            }
        }
        if found.len() == before {
            break;
        }
    }
    found
}

/// The devices of a host.
#[derive(Debug)]
pub struct Devices {
    by_number: HashMap<u128, Device>,
    /// What is known of a device nobody listed.
    other: Device,
}

impl Devices {
    /// Of this host.
    #[must_use]
    pub fn new(host: &Host) -> Self {
        let settings = Settings { sysctls: host.sysctls.as_ref() };
        let mut names: BTreeSet<&str> = host.interfaces.iter().flatten().map(|interface| &*interface.name).collect();
        let set: BTreeSet<String> =
            host.sysctls.iter().flat_map(BTreeMap::keys).filter_map(|name| named_in(name)).collect();
        names.extend(set.iter().map(String::as_str));
        names.extend(host.groups.iter().flatten().map(|(name, _)| &**name));
        let device = |name: &str| {
            let mut device = settings.device(name);
            device.groups = host.groups.as_ref().map(|all| all.get(name).cloned().unwrap_or_default());
            if let Some(interface) = host.interface(name) {
                known(&mut device, interface, host);
            }
            device
        };
        let by_number = names.into_iter().map(|name| (interface_number(name.as_bytes()), device(name))).collect();
        Self { by_number, other: settings.device("") }
    }

    /// Why packets may go ways that are not followed although nobody told their device: some device has such a master.
    #[must_use]
    pub fn any_not_followed(&self) -> Option<&str> {
        let mut reasons: Vec<&str> = self
            .by_number
            .values()
            .filter_map(|device| match &device.master {
                Some(Master::Other(why)) => Some(why.as_str()),
                _ => None,
            })
            .collect();
        reasons.sort_unstable();
        reasons.first().copied()
    }

    /// The device with this [`interface_number`].
    #[must_use]
    pub fn get(&self, number: u128) -> &Device {
        self.by_number.get(&number).unwrap_or(&self.other)
    }
}

/// Whether IPv4 routing knows more rules, or more local routes, than the kernel makes by itself.
#[must_use]
pub fn custom_routing4(host: &Host) -> bool {
    let standard = |rule: &RoutingRule| {
        let table = matches!(
            (rule.priority, &rule.action),
            (0, RuleAction::Table(255)) | (32766, RuleAction::Table(254)) | (32767, RuleAction::Table(253))
        );
        table && rule.source.is_none() && rule.destination.is_none() && rule.mark.is_none()
    };
    let own_rules = host.rules.iter().flatten().any(|rule| rule.ipv6 != Some(true) && !standard(rule));
    let locals = host.routes.iter().flatten().filter(|route| route.kind == RouteKind::Local);
    own_rules
        || locals.filter(|route| route.destination.is_ipv4()).any(|route| {
            let address = route.destination.address();
            !(address.is_loopback() || route.destination.length() == 32 && host.has_address(address))
        })
}

fn known(device: &mut Device, interface: &Interface, host: &Host) {
    device.has_ipv4 = Some(interface.addresses.iter().any(|own| own.address.is_ipv4()));
    let own = &interface.name;
    let master = interface.master.as_deref().map(|name| (name, host.interface(name).map(|master| &*master.kind)));
    device.master = match (&*interface.kind, master) {
        ("vrf", _) => Some(Master::Other(format!("{own} is a VRF: its routing and hooks are not followed"))),
        (_, None) => None,
        (_, Some((name, Some("vrf")))) => {
            Some(Master::Other(format!("{own} belongs to VRF {name}: its routing and hooks are not followed")))
        }
        (_, Some((name, Some("bridge")))) => Some(Master::Bridge(name.into())),
        (_, Some((name, Some("bond" | "team")))) => Some(Master::Bond(name.into())),
        (_, Some((name, kind))) => {
            let kind = kind.filter(|kind| !kind.is_empty()).unwrap_or("unknown");
            Some(Master::Other(format!("{own} belongs to {name} of kind {kind}: its ways are not followed")))
        }
    };
    let crosses = |family: usize, setting: &str| {
        let own = interface.frames_cross.and_then(|both| both.get(family).copied());
        let all = host.sysctls.as_ref().and_then(|all| all.get(setting)).map(|value| value != "0");
        match (all, own) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (Some(false), Some(false)) => Some(false),
            _ => None,
        }
    };
    device.frames_cross =
        [crosses(0, "net.bridge.bridge-nf-call-iptables"), crosses(1, "net.bridge.bridge-nf-call-ip6tables")];
}

/// The device a setting is about: `net.ipv4.conf.eth0/1.rp_filter`.
fn named_in(setting: &str) -> Option<String> {
    let rest = setting.strip_prefix("net.ipv4.conf.").or_else(|| setting.strip_prefix("net.ipv6.conf."))?;
    let name = rest.split('.').next()?;
    (name != "all" && name != "default").then(|| name.replace('/', "."))
}

/// Settings by name, as `sysctl` prints them.
struct Settings<'a> {
    sysctls: Option<&'a BTreeMap<String, String>>,
}

impl Settings<'_> {
    fn number(&self, name: &str) -> Option<u32> {
        self.sysctls?.get(name)?.parse().ok()
    }

    /// `net.ipv4.conf.eth0/1.rp_filter`: dots of names are slashes.
    fn of(&self, family: &str, device: &str, name: &str) -> Option<u32> {
        self.number(&format!("net.{family}.conf.{}.{name}", device.replace('.', "/")))
    }

    fn either(&self, device: &str, name: &str) -> Option<bool> {
        match ["all", device].map(|of| self.of("ipv4", of, name).map(|value| value != 0)) {
            [Some(true), _] | [_, Some(true)] => Some(true),
            [Some(false), Some(false)] => Some(false),
            _ => None,
        }
    }

    fn device(&self, name: &str) -> Device {
        let rp_filter: BTreeSet<u32> = {
            let possible = |of: &str| self.of("ipv4", of, "rp_filter").map_or(vec![0, 1, 2], |value| vec![value]);
            let own = possible(name);
            possible("all").into_iter().flat_map(|all| own.iter().map(move |own| all.max(*own))).collect()
        };
        let both = ["all", name].map(|of| self.of("ipv4", of, "bc_forwarding").map(|value| value != 0));
        let all6 = self.of("ipv6", "all", "forwarding").map(|value| value != 0);
        // kernels before 6.17 have no such setting
        let forced = self.of("ipv6", name, "force_forwarding").unwrap_or(0) != 0;
        Device {
            name: name.into(),
            rp_filter: rp_filter.into_iter().collect(),
            accept_local: self.either(name, "accept_local"),
            route_localnet: self.either(name, "route_localnet"),
            src_valid_mark: self.either(name, "src_valid_mark"),
            send_redirects: self.either(name, "send_redirects"),
            forwards4: self
                .of("ipv4", name, "forwarding")
                .or_else(|| self.number("net.ipv4.ip_forward"))
                .map(|value| value != 0),
            forwards6: if forced { Some(true) } else { all6 },
            // rare, and off unless somebody turns it on
            bc_forwarding: match both {
                [Some(true), Some(true)] => Some(true),
                _ => Some(false),
            },
            disable_ipv6: self.of("ipv6", name, "disable_ipv6").map(|value| value != 0),
            ..Device::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(lines: &[(&str, &str)]) -> BTreeMap<String, String> {
        lines.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn settings_of_all_and_of_one_device_are_combined_as_the_kernel_does() {
        let sysctls = settings(&[
            ("net.ipv4.conf.all.rp_filter", "1"),
            ("net.ipv4.conf.eth0/1.rp_filter", "2"),
            ("net.ipv4.conf.eth1.rp_filter", "0"),
            ("net.ipv4.conf.all.accept_local", "0"),
            ("net.ipv4.conf.eth1.accept_local", "1"),
            ("net.ipv4.conf.all.route_localnet", "0"),
            ("net.ipv4.ip_forward", "1"),
            ("net.ipv4.conf.eth1.forwarding", "0"),
            ("net.ipv6.conf.all.forwarding", "0"),
            ("net.ipv6.conf.eth1.force_forwarding", "1"),
        ]);
        let settings = Settings { sysctls: Some(&sysctls) };
        let [vlan, eth1, gone] = ["eth0.1", "eth1", "eth9"].map(|name| settings.device(name));
        assert_eq!((vlan.rp_filter, eth1.rp_filter, gone.rp_filter), (vec![2], vec![1], vec![1, 2]));
        assert_eq!((vlan.accept_local, eth1.accept_local), (None, Some(true)));
        assert_eq!((vlan.forwards4, eth1.forwards4), (Some(true), Some(false)));
        assert_eq!((vlan.forwards6, eth1.forwards6), (Some(false), Some(true)));
        let nothing = Settings { sysctls: None }.device("eth0");
        assert_eq!((nothing.rp_filter, nothing.forwards4, nothing.route_localnet), (vec![0, 1, 2], None, None));
    }
}
