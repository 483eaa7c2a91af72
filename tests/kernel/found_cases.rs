//! Hand-written rulesets for what random ones have shown.

use hepguard::analysis::trace::TraceVerdict::{self, Unknown};
use hepguard::packet::{
    ConntrackView, CtDirection, CtState, CtStatus, Direction, Packet, Protocol, TcpFlags, Tuple, address_bits,
};

use crate::cases::{arriving, ask, packet, with};
use crate::firewall::Firewall;
use crate::harness::in_namespace;
use crate::lab::{Outcome, Shot};
use crate::wire;

/// A packet from the peer of a TCP connection that this host opened, and the connection.
fn known(mut shot: Shot, sport: u16, dport: u16) -> Shot {
    let Packet { src, dst, .. } = shot.packet;
    let original = Tuple { src: dst, sport: Some(dport), dst: src, dport: Some(sport) };
    let reply = Tuple { src, sport: Some(sport), dst, dport: Some(dport) };
    assert!(address_bits(src) != address_bits(dst), "two hosts");
    shot.packet.ct = ConntrackView {
        status: Some(CtStatus(0x18e)),
        direction: Some(CtDirection::Reply),
        original: Some(original),
        reply: Some(reply),
        mark: Some(0),
    };
    shot.entry = Some(format!(
        "-I -p tcp -s {dst} -d {src} --sport {dport} --dport {sport} -t 600 --state ESTABLISHED -u ASSURED,SEEN_REPLY"
    ));
    shot
}

/// What the kernel did with one packet, and what the library says: both families' rules, either backend.
fn asked(name: &str, rules: &str, shot: &Shot, check: impl Fn(bool, TraceVerdict, &str) + Sync) {
    let tables = || [rules.to_owned(), String::new()];
    for firewall in [
        Firewall { legacy: tables(), ..Firewall::default() },
        Firewall { xtables_nft: tables(), ..Firewall::default() },
    ] {
        in_namespace(name, || {
            let answers = ask(&firewall, std::slice::from_ref(shot));
            let passed = matches!(answers[0].outcome, Outcome::Passed(_));
            check(passed, answers[0].verdict, &answers[0].story);
        });
    }
}

#[test]
fn a_limit_of_connections_may_drop_what_it_cannot_count() {
    let rules = "*filter\n-A INPUT -p tcp -m connlimit --connlimit-above 1000 -j LOG\nCOMMIT\n";
    let answer = with(arriving("10.0.1.77", "10.0.1.10", 22), |packet| {
        packet.state = CtState::ESTABLISHED;
        packet.tcp_flags = TcpFlags::ACK;
    });
    let answer = known(answer, 40_000, 22);
    // whether this kernel drops it is its own affair: older ones count packets of connections that exist
    asked("connlimit, established", rules, &answer, |_, verdict, story| assert_eq!(verdict, Unknown, "{story}"));
}

#[test]
fn the_connection_of_an_icmp_error_is_the_one_it_is_about() {
    let error = || {
        let mut shot = packet(Direction::In, Protocol::ICMP, "10.0.1.77", "10.0.1.10", 0);
        shot.packet.icmp = Some((3, 1));
        shot.packet.state = CtState::RELATED;
        let mut shot = known(shot, 79, 5555);
        let original = shot.packet.ct.original.expect("just told");
        shot.extra.quoted = Some((Protocol::TCP, original));
        shot.packet.length = Some(wire::length(&shot.packet, &shot.extra));
        shot
    };
    for (protocol, kernel_passes) in [("1", true), ("6", false)] {
        let rules = format!("*filter\n-A INPUT -m conntrack --ctproto {protocol} -j DROP\nCOMMIT\n");
        asked("protocol of a related connection", &rules, &error(), |passed, verdict, story| {
            assert_eq!((passed, verdict), (kernel_passes, Unknown), "{story}");
        });
    }
}
