//! Ports of bridges and bonds, and VRFs.

use super::build::*;
use crate::analysis::trace::TraceVerdict::{Accept, Drop, Unknown};
use crate::analysis::trace::{Trace, TraceOptions, TraceVerdict, trace};
use crate::host::{Host, Interface};
use crate::packet::{Direction, Family, Hook, Packet};
use crate::ruleset::{Field, Match, Policy, Ruleset, Table, interface_number};

fn device(name: &str, kind: &str, master: Option<&str>) -> Interface {
    Interface { name: name.into(), kind: kind.into(), master: master.map(Into::into), ..Interface::default() }
}

/// The bastion with more devices.
fn host(devices: &[(&str, &str, Option<&str>)]) -> Host {
    let mut host = bastion();
    let all = host.interfaces.get_or_insert_default();
    all.extend(devices.iter().map(|(name, kind, master)| device(name, kind, *master)));
    let settings = host.sysctls.get_or_insert_default();
    for (name, ..) in devices {
        for (setting, value) in
            [("rp_filter", "0"), ("accept_local", "1"), ("forwarding", "1"), ("route_localnet", "0")]
        {
            settings.insert(format!("net.ipv4.conf.{name}.{setting}"), value.to_owned());
        }
    }
    host
}

fn on_host(host: &Host, rules: &Ruleset, packet: &Packet) -> Trace {
    trace(rules, host, packet, &TraceOptions::default())
}

#[track_caller]
fn check(host: &Host, rules: &Ruleset, packet: &Packet, verdict: TraceVerdict, word: &str) {
    let trace = on_host(host, rules, packet);
    assert_eq!(trace.verdict, verdict, "{trace:?}");
    let told = trace.because.iter().map(|open| &open.reason).chain(&trace.notes).any(|text| text.contains(word));
    assert!(told || word.is_empty(), "{word}: {trace:?}");
}

fn by(iif: &str) -> Packet {
    Packet { iif: Some(iif.into()), ..tcp_in(22) }
}

/// Input lets in what arrives by `name` only.
fn input_of(name: &str) -> Ruleset {
    input([rule([on(Match::equals(Field::Iifname, interface_number(name.as_bytes()))), accept()])])
}

#[test]
fn a_vrf_is_not_followed() {
    let host = host(&[("red", "vrf", None), ("eth1", "", Some("red")), ("br0", "bridge", Some("red"))]);
    let rules = Ruleset::default();
    let belongs = "eth1 belongs to VRF red: its routing and hooks are not followed";
    check(&host, &rules, &by("eth1"), Unknown, belongs);
    check(&host, &rules, &by("red"), Unknown, "red is a VRF");
    check(&host, &rules, &by("br0"), Unknown, "br0 belongs to VRF red");
    check(&host, &rules, &Packet { iif: None, ..by("") }, Unknown, "is not told, and");
    check(&host, &rules, &by("ens5"), Accept, "");
    let out = |oif: &str| Packet { oif: Some(oif.into()), ..tcp_out(22) };
    check(&host, &rules, &out("eth1"), Unknown, belongs);
    check(&host, &rules, &out("red"), Unknown, "red is a VRF");
    check(&host, &rules, &out("ens5"), Accept, "");
    let through = Packet { direction: Direction::Forward, dst: ip("10.8.3.3"), oif: Some("eth1".into()), ..by("ens5") };
    check(&host, &rules, &through, Unknown, belongs);
}

#[test]
fn to_this_host_a_port_hands_packets_to_its_bridge_or_bond() {
    for kind in ["bridge", "bond", "team"] {
        let host = host(&[("m0", kind, None), ("eth1", "", Some("m0"))]);
        check(&host, &input_of("m0"), &by("eth1"), Accept, "");
        check(&host, &input_of("eth1"), &by("eth1"), Drop, "");
        let out = Packet { oif: Some("eth1".into()), ..tcp_out(22) };
        let only = |name: &str| {
            let to = on(Match::equals(Field::Oifname, interface_number(name.as_bytes())));
            ruleset([table([base(Hook::Output, 0, Policy::Drop, [rule([to, accept()])])])])
        };
        check(&host, &only("m0"), &out, Accept, "");
        check(&host, &only("eth1"), &out, Drop, "");
    }
    let nested = host(&[("br0", "bridge", None), ("bond0", "bond", Some("br0")), ("eth1", "", Some("bond0"))]);
    check(&nested, &input_of("br0"), &by("eth1"), Accept, "");
    let odd = host(&[("x0", "macsec", None), ("eth1", "", Some("x0")), ("eth2", "", Some("gone"))]);
    check(&odd, &Ruleset::default(), &by("eth1"), Unknown, "eth1 belongs to x0 of kind macsec");
    check(&odd, &Ruleset::default(), &by("eth2"), Unknown, "eth2 belongs to gone of kind unknown");
    let ring = host(&[("a", "bridge", Some("b")), ("b", "bridge", Some("a"))]);
    check(&ring, &Ruleset::default(), &by("a"), Unknown, "without end");
}

#[test]
fn frames_between_ports_are_decided_only_where_no_hook_sees_them() {
    let mut host = host(&[("br0", "bridge", None), ("p1", "veth", Some("br0")), ("p2", "veth", Some("br0"))]);
    let refuse = ruleset([table([base(Hook::Forward, 0, Policy::Drop, [])])]);
    let frame = Packet { direction: Direction::Forward, dst: ip("10.8.3.3"), oif: Some("p2".into()), ..by("p1") };
    check(&host, &refuse, &frame, Unknown, "bridge br0 may pass it on itself");
    let settings = host.sysctls.get_or_insert_default();
    settings.insert("net.bridge.bridge-nf-call-iptables".to_owned(), "0".to_owned());
    // the bridge's own option is not known
    check(&host, &refuse, &frame, Unknown, "bridge br0 may pass it on itself");
    for bridge in host.interfaces.iter_mut().flatten().filter(|one| &*one.name == "br0") {
        bridge.frames_cross = Some([false, false]);
    }
    check(&host, &refuse, &frame, Accept, "no rule of the IP hooks sees it");
    let routed = Packet { oif: Some("ens5".into()), ..frame.clone() };
    check(&host, &refuse, &routed, Drop, "");
    // by the route, back by the same bridge
    host.routes.get_or_insert_default().retain(|route| route.device.as_deref() != Some("tun0"));
    for route in host.routes.iter_mut().flatten() {
        route.device = Some("br0".into());
    }
    check(&host, &refuse, &Packet { oif: None, ..frame }, Unknown, "goes on by it");
}

#[test]
fn ingress_chains_of_ports_and_of_their_bridge_are_met() {
    let mut host = host(&[("br0", "bridge", None), ("eth1", "", Some("br0"))]);
    let at = |device: &str| {
        let mut chain = base(Hook::Ingress, 0, Policy::Drop, []);
        chain.base.as_mut().expect("a base chain").devices = vec![device.into()];
        let mut ingress = table([chain]);
        ingress.family = crate::packet::Family::Netdev;
        ruleset([ingress])
    };
    check(&host, &at("eth1"), &by("eth1"), Drop, "");
    check(&host, &at("br0"), &by("eth1"), Unknown, "eth1 is a port of bridge br0");
    let settings = host.sysctls.get_or_insert_default();
    settings.insert("net.bridge.bridge-nf-call-iptables".to_owned(), "0".to_owned());
    for bridge in host.interfaces.iter_mut().flatten().filter(|one| &*one.name == "br0") {
        bridge.frames_cross = Some([false, false]);
    }
    check(&host, &at("br0"), &by("eth1"), Drop, "");
}

/// A chain on a device that drops packets to `port`.
fn on_device(hook: Hook, name: &str, port: u16) -> Table {
    let mut chain = base(hook, 0, Policy::Accept, [rule([dport(port), drop()])]);
    if let Some(settings) = &mut chain.base {
        settings.devices = vec![name.into()];
    }
    Table { family: Family::Netdev, ..table([chain]) }
}

#[test]
fn a_packet_of_a_vlan_crosses_the_chains_of_what_carries_it() {
    let mut host = host(&[("eth1", "", None), ("v5", "vlan", None), ("v56", "vlan", None), ("tun0", "ipip", None)]);
    for (name, lower) in [("v5", "eth1"), ("v56", "v5"), ("tun0", "eth1")] {
        let all = host.interfaces.get_or_insert_default();
        let found = all.iter_mut().find(|interface| &*interface.name == name).expect("just made");
        found.lower = Some(lower.into());
    }
    for (hook, packet) in [(Hook::Ingress, tcp_in(22)), (Hook::Egress, tcp_out(22))] {
        let by = |name: &str| {
            let name = Some(Box::from(name));
            if hook == Hook::Ingress {
                Packet { iif: name, ..packet.clone() }
            } else {
                Packet { oif: name, ..packet.clone() }
            }
        };
        for (chain, crossing) in [("eth1", [true, true, true, false]), ("v5", [false, true, true, false])] {
            let rules = ruleset([on_device(hook, chain, 22)]);
            for (name, crosses) in ["eth1", "v5", "v56", "tun0"].into_iter().zip(crossing) {
                check(&host, &rules, &by(name), if crosses { Drop } else { Accept }, "");
            }
            check(&host, &ruleset([on_device(hook, chain, 23)]), &by("v56"), Accept, "");
        }
    }
}

#[test]
fn chains_on_a_port_nobody_told_leave_packets_of_its_master_open() {
    for kind in ["bridge", "bond"] {
        let host = host(&[("m0", kind, None), ("eth1", "", Some("m0")), ("eth2", "", Some("m0"))]);
        let ports = "chains hang on eth1, and by which port it goes is not told";
        let ingress = ruleset([on_device(Hook::Ingress, "eth1", 22)]);
        check(&host, &ingress, &by("m0"), Unknown, ports);
        check(&host, &ingress, &by("ens5"), Accept, "");
        check(&host, &ingress, &by("eth1"), Drop, "");
        let egress = ruleset([on_device(Hook::Egress, "eth1", 22)]);
        let out = |oif: &str| Packet { oif: Some(oif.into()), ..tcp_out(22) };
        check(&host, &egress, &out("m0"), Unknown, ports);
        check(&host, &egress, &out("eth1"), Drop, "");
        check(&host, &egress, &out("eth2"), Accept, "");
    }
}
