//! Hooks, tracking, NAT, routing, loopback, devices.

use super::build::*;
use crate::analysis::trace::TraceVerdict::{Accept, Drop, Unknown};
use crate::analysis::trace::{Trace, TraceOptions, TraceVerdict, trace};
use crate::host::{Host, Interface, InterfaceAddress};
use crate::packet::{ConntrackView, CtDirection, CtState, CtStatus, Direction, Hook, Packet, Tuple};
use crate::packet::{Family, Protocol, TcpFlags};
use crate::ruleset::Policy::{self, Accept as AcceptPolicy};
use crate::ruleset::{Effect, Field, Flowtable, Match, NatKind, Ruleset, Step, interface_number};

fn with_host(rules: &Ruleset, packet: &Packet) -> Trace {
    trace(rules, &bastion(), packet, &TraceOptions::default())
}

#[track_caller]
fn on_bastion(rules: &Ruleset, packet: &Packet, verdict: TraceVerdict) {
    let trace = with_host(rules, packet);
    assert_eq!(trace.verdict, verdict, "{trace:?}");
}

fn refuse(hook: Hook) -> crate::ruleset::Chain {
    base(hook, 0, Policy::Drop, [])
}

fn state(state: CtState) -> Step {
    on(Match::equals(Field::CtState, state.0.into()))
}

#[test]
fn each_direction_crosses_its_hooks() {
    let hooks = |direction| -> Vec<Hook> {
        Hook::ALL
            .into_iter()
            .filter(|hook| !matches!(hook, Hook::Ingress | Hook::Egress))
            .filter(|hook| run(&ruleset([table([refuse(*hook)])]), &Packet { direction, ..tcp_in(22) }).verdict == Drop)
            .collect()
    };
    assert_eq!(hooks(Direction::In), [Hook::Prerouting, Hook::Input]);
    assert_eq!(hooks(Direction::Out), [Hook::Output, Hook::Postrouting]);
    assert_eq!(hooks(Direction::Forward), [Hook::Prerouting, Hook::Forward, Hook::Postrouting]);
}

#[test]
fn one_hook_can_be_asked_alone() {
    let rules = ruleset([table([refuse(Hook::Input)])]);
    let at = |hook| {
        let options = TraceOptions { at: Some(hook), ..TraceOptions::default() };
        trace(&rules, &Host::default(), &tcp_in(22), &options).verdict
    };
    assert_eq!((at(Hook::Prerouting), at(Hook::Input)), (Accept, Drop));
}

#[test]
fn to_itself_a_host_speaks_over_lo_out_and_in_again() {
    let lo = |field| on(Match::equals(field, interface_number(b"lo")));
    let rules = ruleset([table([
        base(Hook::Output, 0, Policy::Drop, [rule([lo(Field::Oifname), set(Field::Mark, 5), accept()])]),
        base(Hook::Input, 0, Policy::Drop, [rule([lo(Field::Iifname), bits(Field::Mark, 5, 5), accept()])]),
    ])]);
    let own = Packet { dst: ip("10.0.1.10"), oif: None, ..tcp_out(22) };
    on_bastion(&rules, &own, Accept);
    on_bastion(&rules, &tcp_out(22), Drop);
    on_bastion(&ruleset([table([refuse(Hook::Input)])]), &own, Drop);
    on_bastion(&ruleset([table([refuse(Hook::Input)])]), &tcp_out(22), Accept);
}

#[test]
fn the_route_tells_the_outgoing_interface() {
    let tun = on(Match::equals(Field::Oifname, interface_number(b"tun0")));
    let rules = ruleset([table([base(Hook::Forward, 0, Policy::Drop, [rule([tun, accept()])])])]);
    let packet = Packet { direction: Direction::Forward, dst: ip("10.8.3.3"), ..tcp_in(22) };
    on_bastion(&rules, &packet, Accept);
    expect(&rules, &packet, Unknown);
}

#[test]
fn a_packet_in_for_another_host_is_remarked() {
    let trace = with_host(&Ruleset::default(), &Packet { dst: ip("10.9.9.9"), ..tcp_in(22) });
    assert_eq!(trace.notes, ["10.9.9.9 is not an address of this host: the packet is forwarded"]);
    assert_eq!(
        with_host(&ruleset([table([refuse(Hook::Input)])]), &Packet { dst: ip("10.9.9.9"), ..tcp_in(22) }).verdict,
        Accept
    );
}

#[test]
fn notrack_counts_only_for_packets_without_a_connection() {
    let notrack = || rule([Step::Effect(Effect::NoTrack)]);
    let at = |priority| {
        ruleset([table([
            base(Hook::Prerouting, priority, AcceptPolicy, [notrack()]),
            base(Hook::Input, 0, Policy::Drop, [rule([state(CtState::UNTRACKED), accept()])]),
        ])])
    };
    expect(&at(-300), &tcp_in(22), Accept);
    expect(&at(-150), &tcp_in(22), Drop);
    // an invalid packet has no connection to keep
    expect(&at(-150), &Packet { state: CtState::INVALID, ..tcp_in(22) }, Accept);
}

#[test]
fn before_tracking_every_packet_is_invalid() {
    let rules =
        ruleset([table([base(Hook::Prerouting, -300, AcceptPolicy, [rule([state(CtState::INVALID), drop()])])])]);
    expect(&rules, &tcp_in(22), Drop);
}

#[test]
fn neighbour_discovery_is_never_tracked() {
    let rules = input([rule([state(CtState::UNTRACKED), accept()])]);
    let packet = Packet {
        src: ip("fe80::1"),
        dst: ip("fe80::2"),
        protocol: Protocol::ICMPV6,
        icmp: Some((135, 0)),
        ..tcp_in(22)
    };
    expect(&rules, &packet, Accept);
    expect(&rules, &Packet { icmp: Some((128, 0)), ..packet }, Drop);
}

#[test]
fn redirected_packets_come_in_with_their_new_port() {
    let rules = ruleset([table([
        nat_base(Hook::Prerouting, [rule([dport(80), nat(NatKind::Redirect, None, Some(8080))])]),
        base(
            Hook::Input,
            0,
            Policy::Drop,
            [rule([dport(8080), on(Match::Not(Box::new(Match::equals(Field::CtStatus, 0)))), accept()])],
        ),
    ])]);
    let at_bastion = |port| trace(&rules, &bastion(), &tcp_in(port), &TraceOptions::default()).verdict;
    assert_eq!([at_bastion(80), at_bastion(8080)], [Accept, Accept]);
    // without the host's addresses nobody knows whether the redirect finds one
    expect(&rules, &tcp_in(80), Unknown);
    expect(&rules, &tcp_in(8080), Accept);
}

#[test]
fn status_of_a_translated_packet_holds_the_done_bits() {
    let status = |value| {
        ruleset([table([
            nat_base(Hook::Output, [rule([dport(80), nat(NatKind::Dnat, Some("10.8.0.9"), None)])]),
            base(Hook::Output, 0, Policy::Drop, [rule([on(Match::equals(Field::CtStatus, value)), accept()])]),
        ])])
    };
    on_bastion(&status(0x120), &tcp_out(80), Accept);
    on_bastion(&status(0x100), &tcp_out(81), Accept);
}

#[test]
fn a_destination_elsewhere_turns_in_into_through() {
    let rules = |target| {
        ruleset([table([
            nat_base(Hook::Prerouting, [rule([nat(NatKind::Dnat, Some(target), None)])]),
            base(
                Hook::Forward,
                0,
                Policy::Drop,
                [rule([
                    on(Match::equals(Field::Oifname, interface_number(b"tun0"))),
                    on(Match::equals(Field::CtOrigDaddr4, number("10.0.1.10"))),
                    accept(),
                ])],
            ),
            refuse(Hook::Input),
        ])])
    };
    on_bastion(&rules("10.8.0.9"), &tcp_in(22), Accept);
    on_bastion(&rules("10.0.1.10"), &tcp_in(22), Drop);
    // without routes nobody knows which way it goes
    expect(&rules("10.8.0.9"), &tcp_in(22), Unknown);
}

#[test]
fn a_destination_translated_at_output_is_routed_again() {
    let rules = ruleset([table([
        nat_base(Hook::Output, [rule([nat(NatKind::Dnat, Some("10.8.0.9"), None)])]),
        base(
            Hook::Output,
            0,
            AcceptPolicy,
            [rule([on(Match::equals(Field::Oifname, interface_number(b"tun0"))), drop()])],
        ),
        base(
            Hook::Postrouting,
            0,
            Policy::Drop,
            [rule([
                on(Match::equals(Field::Oifname, interface_number(b"tun0"))),
                on(Match::equals(Field::Ip4Daddr, number("10.8.0.9"))),
                accept(),
            ])],
        ),
    ])]);
    on_bastion(&rules, &tcp_out(22), Accept);
}

#[test]
fn masqueraded_sources_are_seen_after_postrouting_nat_only() {
    let own = || on(Match::equals(Field::Ip4Saddr, number("10.0.1.10")));
    let rules = ruleset([table([
        nat_base(Hook::Postrouting, [rule([nat(NatKind::Masquerade, None, None)])]),
        base(Hook::Postrouting, 50, AcceptPolicy, [rule([own(), drop()])]),
        base(Hook::Postrouting, 200, Policy::Drop, [rule([own(), accept()])]),
    ])]);
    let through = Packet { direction: Direction::Forward, src: ip("10.8.0.1"), dst: ip("9.9.9.9"), ..tcp_in(22) };
    on_bastion(&rules, &through, Accept);
}

#[test]
fn nat_chains_do_not_see_later_packets_of_a_connection() {
    let rules = ruleset([table([
        nat_base(Hook::Prerouting, [rule([drop()])]),
        base(Hook::Input, 0, Policy::Drop, [rule([on(Match::equals(Field::Ip4Daddr, number("10.0.1.10"))), accept()])]),
    ])]);
    expect(&rules, &tcp_in(22), Drop);
    let mut old = Packet { state: CtState::ESTABLISHED, ..tcp_in(22) };
    // whether that connection is translated decides what the filter sees
    expect(&rules, &old, Unknown);
    old.ct.status = Some(CtStatus(0x0e));
    expect(&rules, &old, Accept);
    let original = Tuple { src: ip("10.0.1.10"), sport: Some(22), dst: ip("203.0.113.7"), dport: Some(51522) };
    old.ct =
        ConntrackView { direction: Some(CtDirection::Reply), original: Some(original), ..ConntrackView::default() };
    expect(&rules, &old, Accept);
}

#[test]
fn chains_of_one_priority_are_followed_in_every_order() {
    let marks = table([base(Hook::Input, 0, AcceptPolicy, [rule([set(Field::Mark, 1)])])]);
    let asks = table([base(Hook::Input, 0, AcceptPolicy, [rule([bits(Field::Mark, 1, 1), drop()])])]);
    let trace = run(&ruleset([marks, asks]), &tcp_in(22));
    assert_eq!((trace.verdict, trace.may), (Unknown, vec![Accept, Drop]));
    assert!(trace.notes[0].contains("every order"), "{:?}", trace.notes);
}

#[test]
fn nat_chains_of_one_priority_are_followed_in_every_order() {
    let to = |address| table([nat_base(Hook::Prerouting, [rule([nat(NatKind::Dnat, Some(address), None)])])]);
    let guard = || {
        let own = on(Match::equals(Field::Ip4Daddr, number("10.8.0.8")));
        table([base(Hook::Forward, 0, AcceptPolicy, [rule([own, drop()])])])
    };
    let trace = with_host(&ruleset([to("10.8.0.8"), guard()]), &tcp_in(22));
    assert_eq!(trace.may, vec![Drop]);
    let trace = with_host(&ruleset([to("10.8.0.8"), to("10.8.0.9"), guard()]), &tcp_in(22));
    assert_eq!((trace.verdict, trace.may), (Unknown, vec![Accept, Drop]));
    assert!(trace.notes[0].contains("every order"), "{:?}", trace.notes);
}

#[test]
fn device_chains_are_met_on_their_device() {
    let mut guard = table([base(Hook::Ingress, 0, Policy::Drop, [])]);
    guard.family = Family::Netdev;
    let on_devices = |devices: &[&str]| {
        let mut guard = guard.clone();
        if let Some(base) = &mut guard.chains[0].base {
            base.devices = devices.iter().map(|device| Box::from(*device)).collect();
        }
        ruleset([guard])
    };
    expect(&on_devices(&["ens5"]), &tcp_in(22), Drop);
    expect(&on_devices(&["ens6"]), &tcp_in(22), Accept);
    expect(&on_devices(&["eth0", "ens*"]), &tcp_in(22), Drop);
    expect(&on_devices(&["eth*", r"ens\*"]), &tcp_in(22), Accept);
    expect(&on_devices(&[]), &tcp_in(22), Unknown);
}

#[test]
fn bridge_tables_are_named_where_a_frame_may_meet_them() {
    let mut bridge = table([base(Hook::Input, 0, Policy::Drop, [])]);
    (bridge.family, bridge.name) = (Family::Bridge, "guard".into());
    let rules = ruleset([bridge]);
    let trace = run(&rules, &tcp_in(22));
    assert_eq!(trace.verdict, Unknown);
    assert!(trace.because[0].reason.contains("bridge table guard"), "{:?}", trace.because);
    on_bastion(&rules, &tcp_in(22), Accept);
}

#[test]
fn a_protocol_without_ports_may_be_translated_into_a_connection_that_exists() {
    let rules = ruleset([table([nat_base(Hook::Output, [rule([nat(NatKind::Dnat, Some("10.8.0.9"), None)])])])]);
    let tunnel = Packet { protocol: Protocol(4), sport: None, dport: None, ..tcp_out(22) };
    let trace = with_host(&rules, &tunnel);
    assert_eq!((trace.verdict, trace.may), (Unknown, vec![Accept, Drop]));
    assert!(trace.because[0].reason.contains("no ports"), "{:?}", trace.because);
    // ports and identifiers tell connections apart; what is not changed clashes with nothing
    on_bastion(&rules, &tcp_out(22), Accept);
    on_bastion(&rules, &Packet { protocol: Protocol::ICMP, icmp: Some((8, 0)), ..tunnel.clone() }, Accept);
    on_bastion(&rules, &Packet { dst: ip("10.8.0.9"), ..tunnel }, Accept);
}

#[test]
fn forwarding_takes_one_off_the_ttl_before_the_rules_see_it() {
    let dies = |hook| ruleset([table([base(hook, 0, AcceptPolicy, [rule([bits(Field::Ip4Ttl, 0xff, 63), drop()])])])]);
    let ttl = |ttl, direction| Packet { ttl: Some(ttl), direction, ..tcp_in(22) };
    expect(&dies(Hook::Prerouting), &ttl(64, Direction::Forward), Accept);
    expect(&dies(Hook::Forward), &ttl(64, Direction::Forward), Drop);
    expect(&dies(Hook::Postrouting), &ttl(64, Direction::Forward), Drop);
    expect(&dies(Hook::Input), &ttl(64, Direction::In), Accept);
}

/// The bastion, but ens5 has no addresses.
fn bare_ens5() -> Host {
    let mut host = bastion();
    for interface in host.interfaces.iter_mut().flatten() {
        interface.addresses.clear();
    }
    host
}

#[test]
fn a_redirect_without_an_address_to_go_to_drops() {
    let rules = ruleset([table([nat_base(Hook::Prerouting, [rule([nat(NatKind::Redirect, None, Some(22))])])])]);
    on_bastion(&rules, &tcp_in(80), Accept);
    let bare = |packet: &Packet| trace(&rules, &bare_ens5(), packet, &TraceOptions::default()).verdict;
    assert_eq!(bare(&tcp_in(80)), Drop);
    // ens5 has no IPv6 address
    on_bastion(&rules, &Packet { src: ip("2001:db8::7"), dst: ip("2001:db8::10"), ..tcp_in(80) }, Drop);
}

#[test]
fn masquerade_over_lo_borrows_an_address_nobody_can_tell() {
    let mut host = bastion();
    let address = InterfaceAddress {
        address: ip("127.0.0.1"),
        prefix_length: 8,
        broadcast: None,
        scope: "host".into(),
        dynamic: false,
        valid: None,
    };
    let lo = Interface { index: 1, name: "lo".into(), up: true, addresses: vec![address], ..Interface::default() };
    host.interfaces.get_or_insert_default().push(lo);
    let from = |text| {
        let source = on(Match::equals(Field::Ip4Saddr, number(text)));
        ruleset([table([
            nat_base(Hook::Postrouting, [rule([nat(NatKind::Masquerade, None, None)])]),
            base(Hook::Input, 0, AcceptPolicy, [rule([source, drop()])]),
        ])])
    };
    let own = Packet { dst: ip("10.0.1.10"), oif: None, ..tcp_out(22) };
    let verdict = |rules: &Ruleset| trace(rules, &host, &own, &TraceOptions::default()).verdict;
    // lo has one address, of scope host: the kernel never takes that one
    assert_eq!(verdict(&from("127.0.0.1")), Unknown);
    assert_eq!(verdict(&from("10.0.1.10")), Unknown);
}

#[test]
fn a_device_without_link_layer_hands_every_packet_to_the_host() {
    let multicast = |kind: &str| {
        let mut host = bastion();
        for interface in host.interfaces.iter_mut().flatten() {
            interface.link_type = kind.into();
        }
        let rules = input([rule([on(Match::equals(Field::Pkttype, 2)), accept()])]);
        trace(&rules, &host, &Packet { dst: ip("224.0.0.5"), ..tcp_in(22) }, &TraceOptions::default()).verdict
    };
    assert_eq!((multicast("ether"), multicast("none"), multicast("ppp")), (Accept, Drop, Unknown));
}

/// A forward chain that drops all but `first`'s connections, which it puts into a flowtable on `device`.
fn offloading(device: &str) -> Ruleset {
    let mut table = table([base(
        Hook::Forward,
        0,
        Policy::Drop,
        [rule([dport(443), Step::Effect(Effect::Offload("ft".into()))]), rule([dport(443), accept()])],
    )]);
    table.flowtables.push(Flowtable { name: "ft".into(), devices: vec![device.into()] });
    ruleset([table])
}

#[test]
fn connections_in_a_flowtable_skip_the_rules() {
    let later = Packet {
        direction: Direction::Forward,
        dst: ip("10.8.3.3"),
        state: CtState::ESTABLISHED,
        tcp_flags: TcpFlags::ACK,
        ..tcp_in(22)
    };
    let rules = offloading("ens5");
    let trace = with_host(&rules, &later);
    assert_eq!((trace.verdict, &*trace.may), (Unknown, &[Accept, Drop][..]));
    assert_eq!(trace.because[0].reason, "connections in flowtable inet t ft skip the rules");
    on_bastion(&rules, &Packet { dport: Some(443), ..later.clone() }, Accept);
    let udp = Packet { protocol: Protocol::UDP, tcp_flags: TcpFlags(0), ..later.clone() };
    on_bastion(&rules, &udp, Unknown);
    on_bastion(&rules, &Packet { iif: None, ..later.clone() }, Unknown);
    // a drop before routing is no more certain
    let mut early = rules.clone();
    early.tables.push(table([refuse(Hook::Prerouting)]));
    on_bastion(&early, &later, Unknown);
    // nor where the listing does not have the flowtable, or its devices
    let mut unlisted = rules.clone();
    unlisted.tables[0].flowtables.clear();
    on_bastion(&unlisted, &later, Unknown);
    // a bridge, or a VLAN, over its device
    on_bastion(&offloading("ens6"), &later, Drop);
    let mut host = bastion();
    let ens5 = host.interfaces.as_mut().and_then(|all| all.first_mut()).expect("ens5");
    ens5.lower = Some("ens6".into());
    let over = trace_on(&offloading("ens6"), &host, &later);
    assert_eq!(over.verdict, Unknown, "{over:?}");
}

fn trace_on(rules: &Ruleset, host: &Host, packet: &Packet) -> Trace {
    trace(rules, host, packet, &TraceOptions::default())
}

#[test]
fn packets_that_cannot_be_in_a_flowtable_meet_the_rules() {
    let rules = offloading("ens5");
    let first = Packet { direction: Direction::Forward, dst: ip("10.8.3.3"), ..tcp_in(22) };
    on_bastion(&rules, &first, Drop);
    for state in [CtState::INVALID, CtState::UNTRACKED] {
        on_bastion(&rules, &Packet { state, ..first.clone() }, Drop);
    }
    let sctp = Packet { protocol: Protocol::SCTP, state: CtState::ESTABLISHED, ..first.clone() };
    on_bastion(&rules, &sctp, Drop);
    // a rule for this host's own packets stays certain, unless its address may stand for another's
    let mut local = rules.clone();
    local.tables[0].chains.push(refuse(Hook::Input));
    let own = Packet { state: CtState::ESTABLISHED, tcp_flags: TcpFlags::ACK, ..tcp_in(22) };
    on_bastion(&local, &own, Drop);
    local.tables[0].chains.push(nat_base(Hook::Postrouting, []));
    on_bastion(&local, &own, Unknown);
    let from_peer = Tuple { src: own.src, sport: own.sport, dst: own.dst, dport: own.dport };
    let to_peer = Tuple { src: own.dst, sport: own.dport, dst: own.src, dport: own.sport };
    let ct = ConntrackView {
        status: Some(CtStatus(0x18e)),
        direction: Some(CtDirection::Original),
        original: Some(from_peer),
        reply: Some(to_peer),
        mark: Some(0),
    };
    on_bastion(&local, &Packet { ct, ..own.clone() }, Drop);
    on_bastion(&local, &Packet { direction: Direction::Out, ..tcp_out(22) }, Accept);
    // declared, and never added to
    let mut unused = rules;
    unused.tables[0].chains[0].rules.clear();
    on_bastion(&unused, &Packet { direction: Direction::Forward, dst: ip("10.8.3.3"), ..own }, Drop);
}
