//! Hand-written rulesets, one for each thing that surprised somebody: the kernel must do what the test says, and the library
//! must say the same.

use hepguard::analysis::trace::TraceVerdict::{self, Accept, Drop, Reject, Unknown};
use hepguard::files::{FileState, SnapshotFiles};
use hepguard::packet::{Direction, Packet, Protocol};

use crate::firewall::{self, Firewall};
use crate::harness::in_namespace;
use crate::judge::Listings;
use crate::lab::{Lab, Outcome, Shot};
use crate::nflog::Refusal;
use crate::self_check::shot;
use crate::wire;

/// What became of one packet, and what the library says of it.
pub(crate) struct Answer {
    pub(crate) outcome: Outcome,
    pub(crate) verdict: TraceVerdict,
    /// How the rule that decides refuses.
    pub(crate) refusal: Option<String>,
    pub(crate) story: String,
}

/// Sends `shots` one after the other.
pub(crate) fn ask(firewall: &Firewall, shots: &[Shot]) -> Vec<Answer> {
    ask_in(Lab::build().expect("a lab"), firewall, shots, &|_| {})
}

/// Like [`ask`], where the kernel's own words of its tables are at hand, too.
pub(crate) fn ask_with_kernel(firewall: &Firewall, shots: &[Shot]) -> Vec<Answer> {
    ask_in(Lab::build().expect("a lab"), firewall, shots, &|files| {
        firewall::add_kernel(files).expect("the kernel tells");
    })
}

/// Like [`ask`], with a lab of one's own, and the listings told otherwise.
fn ask_in(mut lab: Lab, firewall: &Firewall, shots: &[Shot], told: &dyn Fn(&mut SnapshotFiles)) -> Vec<Answer> {
    firewall.load().expect("the rules load");
    let mut files = firewall::list().expect("the rules are listed");
    told(&mut files);
    let listings = Listings::read(files);
    let judge = listings.judge();
    lab.open_eyes().expect("the probe loads");
    lab.reset_connections(shots).expect("entries");
    let mut answers = Vec::new();
    for shot in shots {
        let outcome = lab.shoot(shot).expect("the probe works");
        let verdict = judge.verdict(&shot.packet);
        let refusal = judge.refusal(&shot.packet).map(str::to_owned);
        let story = format!("{outcome:?}\n{:?}\n{}{}", shot.packet, judge.explain(&shot.packet), listings.remarks());
        answers.push(Answer { outcome, verdict, refusal, story });
    }
    answers
}

/// Sends `shots`, and expects kernel and library to agree on what is given beside each.
pub(crate) fn agree(name: &str, firewall: &Firewall, shots: Vec<(Shot, TraceVerdict)>) {
    agree_with(name, || Lab::build().expect("a lab"), firewall, shots, |listing| listing);
}

/// Like [`agree`], in a lab of one's own.
pub(crate) fn agree_in(
    name: &str,
    lab: impl FnOnce() -> Lab + Send,
    firewall: &Firewall,
    shots: Vec<(Shot, TraceVerdict)>,
) {
    agree_with(name, lab, firewall, shots, |listing| listing);
}

/// Like [`agree_in`], with nft's listing told otherwise.
pub(crate) fn agree_with(
    name: &str,
    lab: impl FnOnce() -> Lab + Send,
    firewall: &Firewall,
    shots: Vec<(Shot, TraceVerdict)>,
    told: impl Fn(String) -> String + Sync,
) {
    in_namespace(name, || {
        let (shots, expected): (Vec<Shot>, Vec<TraceVerdict>) = shots.into_iter().unzip();
        let tell = |files: &mut SnapshotFiles| {
            if let Some(FileState::Present(listing)) = files.files.get_mut("nft-ruleset.json") {
                *listing = told(String::from_utf8_lossy(listing).into_owned()).into_bytes();
            }
        };
        for (answer, expected) in ask_in(lab(), firewall, &shots, &tell).iter().zip(expected) {
            let kernel = match answer.outcome {
                Outcome::Passed(_) => Accept,
                Outcome::Stopped(None) => Drop,
                Outcome::Stopped(Some(_)) => Reject,
                other => panic!("{name}: {other:?}\n{}", answer.story),
            };
            assert_eq!((kernel, answer.verdict), (expected, expected), "{name}: {}", answer.story);
        }
    });
}

pub(crate) fn packet(direction: Direction, protocol: Protocol, src: &str, dst: &str, dport: u16) -> Shot {
    let mut shot = shot(direction, protocol, src, dst, 40_000, dport);
    shot.packet.length = Some(wire::length(&shot.packet, &shot.extra));
    shot
}

pub(crate) fn arriving(src: &str, dst: &str, dport: u16) -> Shot {
    packet(Direction::In, Protocol::TCP, src, dst, dport)
}

pub(crate) fn with(mut shot: Shot, change: impl Fn(&mut Packet)) -> Shot {
    change(&mut shot.packet);
    shot
}

pub(crate) const PEERS: [(&str, &str); 2] = [("10.0.1.77", "10.0.1.10"), ("fd00:1::77", "fd00:1::10")];

/// What a refusal's words make the kernel send (RFC 792, RFC 4443).
fn told(how: &str, ipv4: bool) -> Refusal {
    let code = match (how, ipv4) {
        ("tcp reset", _) => return Refusal::Reset,
        ("icmp-net-unreachable" | "icmp net-unreachable" | "icmpx no-route", true) => 0,
        ("icmp-host-unreachable" | "icmp host-unreachable" | "icmpx host-unreachable", true) => 1,
        ("icmp-proto-unreachable" | "icmp prot-unreachable", true) => 2,
        ("icmp-port-unreachable" | "icmp port-unreachable" | "icmpx port-unreachable", true) => 3,
        ("icmp-net-prohibited" | "icmp net-prohibited", true) => 9,
        ("icmp-host-prohibited" | "icmp host-prohibited", true) => 10,
        ("icmp-admin-prohibited" | "icmp admin-prohibited" | "icmpx admin-prohibited", true) => 13,
        ("icmp6-no-route" | "icmpv6 no-route" | "icmpx no-route", false) => 0,
        ("icmp6-adm-prohibited" | "icmpv6 admin-prohibited" | "icmpx admin-prohibited", false) => 1,
        ("icmp6-addr-unreachable" | "icmpv6 addr-unreachable" | "icmpx host-unreachable", false) => 3,
        ("icmp6-port-unreachable" | "icmpv6 port-unreachable" | "icmpx port-unreachable", false) => 4,
        ("icmp6-policy-fail" | "icmpv6 policy-fail", false) => 5,
        ("icmp6-reject-route" | "icmpv6 reject-route", false) => 6,
        other => panic!("no such refusal: {other:?}"),
    };
    Refusal::Unreachable(code)
}

/// Each way to refuse has a port of its own, from 100 on; the kernel must answer as the deciding rule's words say.
fn refuse(name: &str, firewall: &Firewall, ways: u16) {
    in_namespace(name, || {
        let places = [
            (Direction::In, PEERS),
            (Direction::Forward, [("10.0.1.77", "198.51.100.9"), ("fd00:1::77", "fd00:51::9")]),
            (Direction::Out, [("10.0.1.10", "198.51.100.9"), ("fd00:1::10", "fd00:51::9")]),
        ];
        let mut shots = Vec::new();
        for (direction, ends) in places {
            for (src, dst) in ends {
                shots.extend((100..100 + ways).map(|dport| packet(direction, Protocol::TCP, src, dst, dport)));
            }
        }
        for (answer, shot) in ask(firewall, &shots).iter().zip(&shots) {
            assert_eq!(answer.verdict, Reject, "{name}: {}", answer.story);
            let how = answer.refusal.as_deref().expect("a rule decides");
            let expected = Outcome::Stopped(Some(told(how, shot.packet.dst.is_ipv4())));
            assert_eq!(answer.outcome, expected, "{name}: {}", answer.story);
        }
    });
}

/// Every way iptables refuses, in the three chains of both families.
fn refusing_tables() -> ([String; 2], u16) {
    let ways = [
        ("icmp-net-unreachable", "icmp6-no-route"),
        ("icmp-host-unreachable", "icmp6-adm-prohibited"),
        ("icmp-proto-unreachable", "icmp6-addr-unreachable"),
        ("icmp-port-unreachable", "icmp6-port-unreachable"),
        ("icmp-net-prohibited", "icmp6-policy-fail"),
        ("icmp-host-prohibited", "icmp6-reject-route"),
        ("icmp-admin-prohibited", "icmp6-port-unreachable"),
        ("tcp-reset", "tcp-reset"),
    ];
    let mut tables = ["*filter\n".to_owned(), "*filter\n".to_owned()];
    for chain in ["INPUT", "FORWARD", "OUTPUT"] {
        for (dport, (v4, v6)) in (100..).zip(ways) {
            for (table, way) in tables.iter_mut().zip([v4, v6]) {
                *table += &format!("-A {chain} -p tcp --dport {dport} -j REJECT --reject-with {way}\n");
            }
        }
    }
    (tables.map(|table| table + "COMMIT\n"), 8)
}

#[test]
fn legacy_iptables_refuses_in_the_words_of_the_rule() {
    let (legacy, ways) = refusing_tables();
    refuse("refusals, iptables-legacy", &Firewall { legacy, ..Firewall::default() }, ways);
}

#[test]
fn iptables_nft_refuses_in_the_words_of_the_rule() {
    let (xtables_nft, ways) = refusing_tables();
    refuse("refusals, iptables-nft", &Firewall { xtables_nft, ..Firewall::default() }, ways);
}

#[test]
fn nftables_refuses_in_the_words_of_the_rule() {
    let ways = [
        ("icmp", "net-unreachable", "icmpv6", "no-route"),
        ("icmp", "host-unreachable", "icmpv6", "admin-prohibited"),
        ("icmp", "prot-unreachable", "icmpv6", "addr-unreachable"),
        ("icmp", "port-unreachable", "icmpv6", "port-unreachable"),
        ("icmp", "net-prohibited", "icmpv6", "policy-fail"),
        ("icmp", "host-prohibited", "icmpv6", "reject-route"),
        ("icmp", "admin-prohibited", "icmpv6", "no-route"),
        ("icmpx", "no-route", "icmpx", "no-route"),
        ("icmpx", "host-unreachable", "icmpx", "host-unreachable"),
        ("icmpx", "port-unreachable", "icmpx", "port-unreachable"),
        ("icmpx", "admin-prohibited", "icmpx", "admin-prohibited"),
    ];
    let mut nft = "table inet t {\n".to_owned();
    for hook in ["input", "forward", "output"] {
        nft += &format!("chain {hook} {{ type filter hook {hook} priority 0;\n");
        for (dport, (v4, code4, v6, code6)) in (100..).zip(ways) {
            nft += &format!("meta nfproto ipv4 tcp dport {dport} reject with {v4} {code4}\n");
            nft += &format!("meta nfproto ipv6 tcp dport {dport} reject with {v6} {code6}\n");
        }
        nft += "tcp dport 111 reject with tcp reset\ntcp dport 112 reject\n}\n";
    }
    nft += "}\n";
    refuse("refusals, nft", &Firewall { nft, ..Firewall::default() }, 13);
}

#[test]
fn several_address_types_are_an_or_in_ipv4_and_an_and_in_ipv6() {
    let rules = "*filter\n\
        -A INPUT -p tcp --dport 100 -m addrtype ! --src-type UNICAST,LOCAL -j DROP\n\
        -A INPUT -p tcp --dport 101 -m addrtype --src-type UNICAST,LOCAL -j DROP\n\
        -A INPUT -p tcp --dport 102 -m addrtype --dst-type UNICAST,LOCAL -j DROP\n\
        -A INPUT -p tcp --dport 103 -m addrtype --dst-type UNICAST,MULTICAST -j DROP\n\
        -A INPUT -p tcp --dport 104 -m addrtype --dst-type LOCAL,ANYCAST -j DROP\n\
        -A INPUT -p tcp --dport 105 -m addrtype --dst-type LOCAL,ANYCAST,UNICAST -j DROP\n\
        -A INPUT -p tcp --dport 106 -m addrtype --dst-type UNICAST -j DROP\n\
        -A INPUT -p tcp --dport 107 -m addrtype --src-type UNREACHABLE -j DROP\nCOMMIT\n";
    let expected = [
        // an IPv4 address has one type: a peer's is UNICAST, the host's own LOCAL
        [Accept, Drop, Drop, Accept, Drop, Drop, Accept, Accept],
        // an IPv6 address has several: the host's own is UNICAST and LOCAL; among LOCAL and ANYCAST one is enough
        [Drop, Accept, Drop, Accept, Drop, Drop, Drop, Accept],
    ];
    for (name, legacy) in [("address types, legacy", true), ("address types, nft", false)] {
        let tables = [rules.to_owned(), rules.to_owned()];
        let firewall = match legacy {
            true => Firewall { legacy: tables, ..Firewall::default() },
            false => Firewall { xtables_nft: tables, ..Firewall::default() },
        };
        let mut shots = Vec::new();
        for ((src, dst), expected) in PEERS.iter().zip(&expected) {
            shots.extend((100..).zip(expected).map(|(dport, verdict)| (arriving(src, dst, dport), *verdict)));
        }
        agree(name, &firewall, shots);
    }
}

#[test]
fn a_set_with_more_dimensions_than_directions_never_matches() {
    let ipsets = "create three hash:ip,port,net\nadd three 10.0.1.77,tcp:100,10.0.1.0/24\n\
                  create two hash:ip,port\nadd two 10.0.1.77,tcp:101\nadd two 10.0.1.77,tcp:102\n\
                  create list list:set\nadd list two\n"
        .to_owned();
    let rules = "*filter\n\
        -A INPUT -p tcp --dport 100 -m set --match-set three src,dst -j DROP\n\
        -A INPUT -p tcp --dport 100 -m set --match-set three src,dst,dst -j REJECT\n\
        -A INPUT -p tcp --dport 101 -m set --match-set two src -j DROP\n\
        -A INPUT -p tcp --dport 101 -m set --match-set two src,dst,dst -j REJECT\n\
        -A INPUT -p tcp --dport 102 -m set --match-set list src -j DROP\n\
        -A INPUT -p tcp --dport 102 -m set ! --match-set list src -j REJECT\nCOMMIT\n";
    let shots = || (100..103).map(|dport| (arriving("10.0.1.77", "10.0.1.10", dport), Reject)).collect();
    let rules = || [rules.to_owned(), String::new()];
    let legacy = Firewall { ipsets: ipsets.clone(), legacy: rules(), ..Firewall::default() };
    agree("set directions, legacy", &legacy, shots());
    agree("set directions, nft", &Firewall { ipsets, xtables_nft: rules(), ..Firewall::default() }, shots());
}

#[test]
fn in_interface_sets_the_most_specific_network_hides_wider_ones_on_other_interfaces() {
    let ipsets = "create s hash:net,iface\nadd s 10.0.0.0/8,ens5\nadd s 10.0.1.64/26,eth1\n\
                  add s 10.0.1.80/28,eth1 nomatch\nadd s 10.0.1.80/28,docker0\n"
        .to_owned();
    let rules = "*filter\n-A INPUT -m set --match-set s src,src -j DROP\nCOMMIT\n";
    let from =
        |src: &str, device: &str| with(arriving(src, "10.0.1.10", 22), |packet| packet.iif = Some(device.into()));
    let shots = vec![
        (from("10.0.1.1", "ens5"), Drop),
        (from("10.0.1.1", "eth1"), Accept),
        (from("10.0.1.77", "ens5"), Accept),
        (from("10.0.1.77", "eth1"), Drop),
        (from("10.0.1.81", "ens5"), Accept),
        (from("10.0.1.81", "eth1"), Accept),
        (from("10.0.1.81", "docker0"), Drop),
    ];
    let xtables_nft = [rules.to_owned(), String::new()];
    agree("interface sets", &Firewall { ipsets, xtables_nft, ..Firewall::default() }, shots);
}

#[test]
fn transport_bytes_are_ports_or_icmp_type_and_code() {
    let nft = "table inet t {\nchain i { type filter hook input priority 0;\n\
        th dport 100 reject\n@th,16,16 101 reject\n@th,0,16 0x0800 reject\n@th,0,8 128 reject\n\
        th sport 40001 drop\n}\n}\n"
        .to_owned();
    let mut shots = Vec::new();
    for (src, dst) in PEERS {
        for protocol in [Protocol::TCP, Protocol::UDP, Protocol::SCTP, Protocol::UDPLITE] {
            let shot = |dport| packet(Direction::In, protocol, src, dst, dport);
            shots.extend([(shot(100), Reject), (shot(101), Reject), (shot(102), Accept)]);
            shots.push((with(shot(103), |packet| packet.sport = Some(40_001)), Drop));
            shots.push((with(shot(104), |packet| packet.sport = Some(0x0800)), Reject));
        }
    }
    shots.push((packet(Direction::In, Protocol::ICMP, "10.0.1.77", "10.0.1.10", 0), Reject));
    shots.push((packet(Direction::In, Protocol::ICMPV6, "fd00:1::77", "fd00:1::10", 0), Reject));
    let timestamp = packet(Direction::In, Protocol::ICMP, "10.0.1.78", "10.0.1.10", 0);
    // its checksum is where ports are in others, and nobody knows it
    let other = with(timestamp, |packet| packet.icmp = Some((13, 0)));
    agree("transport bytes", &Firewall { nft: nft.clone(), ..Firewall::default() }, shots);
    in_namespace("transport bytes, ICMP checksum", || {
        let answers = ask(&Firewall { nft, ..Firewall::default() }, &[other]);
        assert_eq!(answers[0].verdict, Unknown, "{}", answers[0].story);
    });
}

#[test]
fn one_map_may_give_the_new_address_and_port() {
    let nft = "table inet t {\n\
        map both { type inet_service : ipv4_addr . inet_service; elements = { 80 : 10.0.1.11 . 8080, 81 : 10.0.1.11 . 81 }; }\n\
        chain n { type nat hook prerouting priority -100;\n\
        meta nfproto ipv4 dnat ip to tcp dport map @both\n\
        ip6 daddr fd00:1::10 dnat ip6 to tcp dport map { 80 : fd00:7::10 . 8080 }\n}\n\
        chain i { type filter hook input priority 0;\n\
        ip daddr 10.0.1.11 tcp dport 8080 ct original proto-dst 80 drop\n\
        ip daddr 10.0.1.11 tcp dport 81 ct status dnat reject\n\
        ip6 daddr fd00:7::10 tcp dport 8080 drop\n}\n}\n"
        .to_owned();
    let shots = vec![
        (arriving("10.0.1.77", "10.0.1.10", 80), Drop),
        (arriving("10.0.1.77", "10.0.1.10", 81), Reject),
        (arriving("10.0.1.77", "10.0.1.10", 82), Accept),
        (arriving("fd00:1::77", "fd00:1::10", 80), Drop),
        (arriving("fd00:1::77", "fd00:1::10", 8080), Accept),
    ];
    agree("nat map", &Firewall { nft, ..Firewall::default() }, shots);
}

#[test]
fn forwarding_takes_one_off_the_ttl_before_the_rules_see_it() {
    let nft = "table inet t {\n\
        chain p { type filter hook prerouting priority 0; ip ttl 63 drop\n ip6 hoplimit 63 drop\n}\n\
        chain f { type filter hook forward priority 0; ip ttl 63 reject\n ip6 hoplimit 63 reject\n}\n\
        chain i { type filter hook input priority 0; ip ttl 63 reject\n ip6 hoplimit 63 reject\n}\n}\n"
        .to_owned();
    let mut shots = Vec::new();
    for ((src, dst), far) in PEERS.iter().zip(["198.51.100.9", "fd00:51::9"]) {
        let ttl = |ttl| move |packet: &mut Packet| packet.ttl = Some(ttl);
        shots.push((with(packet(Direction::Forward, Protocol::TCP, src, far, 100), ttl(64)), Reject));
        shots.push((with(packet(Direction::Forward, Protocol::TCP, src, far, 101), ttl(65)), Accept));
        shots.push((with(arriving(src, dst, 102), ttl(64)), Accept));
        shots.push((with(arriving(src, dst, 103), ttl(63)), Drop));
    }
    agree("ttl", &Firewall { nft, ..Firewall::default() }, shots);
}

#[test]
fn the_kernel_drops_what_a_translation_without_ports_makes_alike() {
    let nft = "table ip t {\n\
        chain n { type nat hook output priority -100; ip daddr 198.51.100.0/24 dnat to 10.0.1.11; }\n}\n"
        .to_owned();
    for protocol in [Protocol(4), Protocol(47), Protocol(50), Protocol::SCTP, Protocol::ICMP, Protocol::TCP] {
        in_namespace("translation without ports", || {
            let shot = |dst| packet(Direction::Out, protocol, "10.0.1.10", dst, 22);
            // two connections that get the same addresses, and one that is not translated
            let shots = [shot("198.51.100.9"), shot("198.51.100.10"), shot("203.0.113.1")];
            let answers = ask(&Firewall { nft: nft.clone(), ..Firewall::default() }, &shots);
            let passed = |answer: &Answer| matches!(answer.outcome, Outcome::Passed(_));
            let kernel: Vec<bool> = answers.iter().map(passed).collect();
            let library: Vec<TraceVerdict> = answers.iter().map(|answer| answer.verdict).collect();
            match protocol.has_ports() || protocol == Protocol::ICMP {
                true => assert_eq!((kernel, library), (vec![true; 3], vec![Accept; 3]), "{protocol}"),
                false => assert_eq!(
                    (kernel, library),
                    (vec![true, false, true], vec![Unknown, Unknown, Accept]),
                    "{protocol}"
                ),
            }
        });
    }
}
