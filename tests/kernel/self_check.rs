//! The oracle judges others, so it is judged first: against rulesets whose effect nobody doubts.

use std::net::IpAddr;

use hepguard::packet::{ConntrackView, CtDirection, CtState, CtStatus, Details, Direction, Packet, Protocol, TcpFlags};

use crate::harness::{in_namespace, tool};
use crate::lab::{Lab, Outcome, Shot};
use crate::wire::Extra;

/// The first packet of something; it comes in by ens5.
pub(crate) fn shot(direction: Direction, protocol: Protocol, src: &str, dst: &str, sport: u16, dport: u16) -> Shot {
    let address = |text: &str| text.parse::<IpAddr>().expect("an address");
    let ports = protocol.has_ports();
    let packet = Packet {
        direction,
        src: address(src),
        dst: address(dst),
        protocol,
        sport: ports.then_some(sport),
        dport: ports.then_some(dport),
        tcp_flags: if protocol == Protocol::TCP { TcpFlags::SYN } else { TcpFlags(0) },
        icmp: match protocol {
            Protocol::ICMP => Some((8, 0)),
            Protocol::ICMPV6 => Some((128, 0)),
            _ => None,
        },
        iif: (direction != Direction::Out).then(|| "ens5".into()),
        oif: None,
        state: CtState::NEW,
        ct: ConntrackView {
            status: Some(CtStatus(0)),
            direction: Some(CtDirection::Original),
            mark: Some(0),
            ..ConntrackView::default()
        },
        mark: 0,
        uid: None,
        gid: None,
        ttl: Some(64),
        tos: Some(0),
        length: None,
        packet_type: None,
        details: Details::ordinary(),
    };
    Shot { packet, extra: Extra::default(), entry: None }
}

fn state_of(lab: &mut Lab, shot: &Shot) -> CtState {
    match lab.shoot(shot).expect("the probe works") {
        Outcome::Passed(seen) => seen.state,
        other => panic!("{other:?}: {:?}", shot.packet),
    }
}

#[test]
fn every_kind_of_packet_passes_an_empty_firewall_and_arrives_in_the_state_it_was_made_for() {
    in_namespace("empty firewall", || {
        let mut lab = Lab::build().expect("a lab");
        lab.open_eyes().expect("the probe loads");
        let mut passed = 0;
        for (local, near, far) in
            [("10.0.1.10", "10.0.1.77", "198.51.100.9"), ("fd00:1::10", "fd00:1::77", "fd00:51::9")]
        {
            let icmp = if local.contains(':') { Protocol::ICMPV6 } else { Protocol::ICMP };
            for protocol in [Protocol::TCP, Protocol::UDP, icmp, Protocol::SCTP, Protocol(47), Protocol(50)] {
                for (direction, src, dst) in
                    [(Direction::In, near, local), (Direction::Out, local, far), (Direction::Forward, near, far)]
                {
                    let shot = shot(direction, protocol, src, dst, 40_000, 22);
                    assert_eq!(state_of(&mut lab, &shot), CtState::NEW, "{:?}", shot.packet);
                    passed += 1;
                }
            }
            for flags in ["none", "syn,fin", "rst", "rst,ack", "all", "syn,ack", "fin,ack"] {
                let mut invalid = shot(Direction::In, Protocol::TCP, near, local, 40_000, 22);
                invalid.packet.tcp_flags = flags.parse().expect("flags");
                assert_eq!(state_of(&mut lab, &invalid), CtState::INVALID, "{flags}");
                passed += 1;
            }
        }
        println!("empty firewall: {passed} packets, all passed in the expected state");
    });
}

#[test]
fn connections_can_be_made_known_before_a_packet_is_sent() {
    in_namespace("states", || {
        let mut lab = Lab::build().expect("a lab");
        lab.open_eyes().expect("the probe loads");
        let mut tcp = shot(Direction::In, Protocol::TCP, "10.0.1.77", "10.0.1.10", 5555, 22);
        tcp.packet.tcp_flags = TcpFlags::ACK;
        let known = "-I -p tcp -s 10.0.1.77 -d 10.0.1.10 --sport 5555 --dport 22 --state ESTABLISHED -u ASSURED,SEEN_REPLY -t 600";
        tcp.entry = Some(known.to_owned());
        let mut answer = shot(Direction::In, Protocol::UDP, "fd00:1::77", "fd00:1::10", 53, 40_001);
        answer.entry = Some("-I -p udp -s fd00:1::10 -d fd00:1::77 --sport 40001 --dport 53 -t 600".to_owned());
        let mut echo = shot(Direction::In, Protocol::ICMP, "10.0.1.77", "10.0.1.10", 0, 0);
        echo.packet.icmp = Some((0, 0));
        echo.extra.echo_id = 99;
        let asked = "-I -p icmp -s 10.0.1.10 -d 10.0.1.77 --icmp-type 8 --icmp-code 0 --icmp-id 99 -t 600";
        echo.entry = Some(asked.to_owned());
        let shots = [tcp, answer, echo];
        lab.reset_connections(&shots).expect("entries");
        for shot in &shots {
            assert_eq!(state_of(&mut lab, shot), CtState::ESTABLISHED, "{:?}", shot.packet);
        }
        lab.reset_connections(&[]).expect("no entries");
        let states: Vec<CtState> = shots.iter().map(|shot| state_of(&mut lab, shot)).collect();
        // a lone ACK may be a connection picked up half way; an echo reply without its request is nothing
        assert_eq!(states, [CtState::NEW, CtState::NEW, CtState::INVALID]);
    });
}

#[test]
fn the_probe_sees_exactly_what_each_backend_lets_through() {
    let legacy = "*filter\n-A INPUT -p tcp --dport 22 -j DROP\n-A OUTPUT -m owner --uid-owner 1000 -j REJECT\n\
                  -A FORWARD -o eth1 -j DROP\nCOMMIT\n";
    let native = "table inet t { chain i { type filter hook input priority 5; tcp dport 23 reject; }; }";
    for backend in ["iptables-legacy-restore", "iptables-nft-restore"] {
        in_namespace(backend, || {
            let mut lab = Lab::build().expect("a lab");
            tool(backend, &[], legacy).expect("the rules load");
            tool("nft", &["-f", "-"], native).expect("the rules load");
            lab.open_eyes().expect("the probe loads");
            let mut passes = |shot: &Shot| match lab.shoot(shot).expect("the probe works") {
                Outcome::Passed(_) => true,
                Outcome::Stopped(_) => false,
                other => panic!("{other:?}: {:?}", shot.packet),
            };
            let tcp = |direction, src, dst, dport| shot(direction, Protocol::TCP, src, dst, 40_000, dport);
            for (dport, expected) in [(21, true), (22, false), (23, false), (24, true)] {
                assert_eq!(passes(&tcp(Direction::In, "10.0.1.77", "10.0.1.10", dport)), expected, "{dport}");
            }
            let mut out = tcp(Direction::Out, "10.0.1.10", "203.0.113.1", 443);
            assert!(passes(&out));
            out.packet.uid = Some(1000);
            assert!(!passes(&out), "the socket's owner counts");
            assert!(passes(&tcp(Direction::Forward, "10.0.1.77", "172.17.0.9", 80)));
            assert!(!passes(&tcp(Direction::Forward, "10.0.1.77", "198.51.100.9", 80)));
            let to_self = tcp(Direction::Out, "10.0.1.10", "10.0.1.11", 22);
            assert!(!passes(&to_self), "a packet to the host itself meets INPUT too");
            assert!(passes(&tcp(Direction::Out, "10.0.1.10", "10.0.1.11", 24)));
        });
    }
}
