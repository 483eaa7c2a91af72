//! Neighbouring unequal tests, which nft joins into one comparison and lists as two (or does not: newer ones).

use hepguard::analysis::trace::TraceVerdict::{Accept, Drop, Unknown};
use hepguard::packet::{Direction, Protocol};

use crate::cases::{Answer, ask, ask_with_kernel, with};
use crate::firewall::Firewall;
use crate::harness::in_namespace;
use crate::lab::{Outcome, Shot};
use crate::self_check::shot;
use crate::wire;

/// A packet from ens5 to this host, of either family; the first of two values is what rules ask to be unequal.
fn arriving(ipv4: bool, protocol: Protocol, sport: u16, dport: u16, ttl: u8) -> Shot {
    let (src, dst) = if ipv4 { ("10.0.1.77", "10.0.1.10") } else { ("fd00:1::77", "fd00:1::10") };
    let shot = shot(Direction::In, protocol, src, dst, sport, dport);
    let mut shot = with(shot, |packet| packet.ttl = Some(ttl));
    shot.packet.length = Some(wire::length(&shot.packet, &shot.extra));
    shot
}

/// Every combination of equal and unequal: ports 1000 and 100, TTL 64, TCP and UDP, both families.
fn all() -> Vec<Shot> {
    let mut shots = Vec::new();
    for ipv4 in [true, false] {
        for protocol in [Protocol::TCP, Protocol::UDP] {
            for (sport, dport) in [(1000, 100), (1000, 101), (1001, 100), (1001, 101)] {
                shots.extend([64, 65].map(|ttl| arriving(ipv4, protocol, sport, dport, ttl)));
            }
        }
    }
    shots
}

type Asks = fn(&Firewall, &[Shot]) -> Vec<Answer>;

/// Loads `firewall`, sends every packet and looks what the library leaves undecided: nothing where the kernel was asked, and
/// never a wrong word without.
fn undecided(name: &str, firewall: &Firewall, expect_some: bool) {
    let asks: [(bool, Asks); 2] = [(true, ask_with_kernel), (false, ask)];
    for (with_kernel, asking) in asks {
        in_namespace(name, || {
            let (mut unknown, mut stories) = (0, Vec::new());
            for answer in asking(firewall, &all()) {
                let passed = matches!(answer.outcome, Outcome::Passed(_));
                unknown += usize::from(answer.verdict == Unknown);
                let agrees = answer.verdict == if passed { Accept } else { Drop };
                assert!(agrees || (answer.verdict == Unknown && !with_kernel), "{name}: {}", answer.story);
                stories.push(answer.story);
            }
            assert_eq!(unknown > 0, expect_some && !with_kernel, "{name}, {with_kernel}: {}", stories.join("\n"));
        });
    }
}

fn native(rule: &str) -> Firewall {
    let nft = format!("table inet t {{\nchain i {{ type filter hook input priority 0;\n{rule} drop\n}}\n}}\n");
    Firewall { nft, ..Firewall::default() }
}

#[test]
fn unequal_neighbours_that_nft_may_have_joined_are_certain_where_both_readings_agree() {
    for rule in [
        "tcp dport != 100 tcp sport != 1000",
        "tcp sport != 1000 tcp dport != 100",
        "udp sport != 1000 udp dport != 100",
        "tcp sport != 1000 counter tcp dport != 100",
        "tcp sport != 1000 ct state new tcp dport != 100",
        "tcp sport != 7 tcp sport != 1000 tcp dport != 100",
        "ip ttl != 64 ip protocol != 6",
        "ip6 nexthdr != 17 ip6 hoplimit != 64",
    ] {
        undecided(rule, &native(rule), true);
    }
}

#[test]
fn unequal_tests_that_are_no_neighbours_are_certain() {
    for rule in [
        "ip saddr != 10.0.1.77 ip daddr != 10.0.1.11",
        "ip6 saddr != fd00:1::77 ip6 daddr != fd00:1::10",
        "tcp sport != 1000 tcp dport != 100-101",
        "tcp sport != { 1000, 1002 } tcp dport != 100",
        "tcp sport 1000 tcp dport != 100",
        "tcp sport & 1000 != 1000 tcp dport != 100",
        "ip ttl != 64 tcp dport != 100",
        "tcp dport != 100 tcp dport != 101",
        "meta l4proto != 6 th dport != 100",
    ] {
        undecided(rule, &native(rule), false);
    }
}

#[test]
fn one_comparison_of_eight_bytes_is_known_where_the_kernel_was_asked() {
    // every nft lists it as `ip saddr != 10.0.1.77 ip daddr != 10.0.1.11`
    let firewall = native("@nh,96,64 != 0x0a00014d0a00010b");
    in_namespace("eight bytes", || {
        for answer in ask_with_kernel(&firewall, &all()) {
            let passed = matches!(answer.outcome, Outcome::Passed(_));
            assert_eq!(answer.verdict, if passed { Accept } else { Drop }, "{}", answer.story);
        }
    });
}

#[test]
fn iptables_nft_joins_the_ports_of_tcp_and_udp() {
    let rules = |rule: &str| format!("*filter\n-A INPUT {rule} -j DROP\nCOMMIT\n");
    let both = |rule: &str| [rules(rule), rules(rule)];
    for (rule, doubtful) in [
        ("-p tcp -m tcp ! --sport 1000 ! --dport 100", true),
        ("-p udp -m udp ! --sport 1000 ! --dport 100", true),
        ("-p tcp -m tcp ! --sport 1000 ! --dport 100:101", false),
        ("-p tcp -m tcp ! --sport 1000 --dport 101", false),
        ("-p udp -m multiport ! --sports 1000 -m multiport ! --dports 100", false),
    ] {
        undecided(rule, &Firewall { xtables_nft: both(rule), ..Firewall::default() }, doubtful);
        undecided(rule, &Firewall { legacy: both(rule), ..Firewall::default() }, false);
    }
}
