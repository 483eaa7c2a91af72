//! Hand-written rulesets for what only native nftables can ask: headers behind headers, options, maps in expressions, sets
//! that grow by packets, chains on devices, and how chains of several tables follow each other.

use hepguard::analysis::trace::TraceVerdict::{self, Accept, Drop, Reject, Unknown};
use hepguard::packet::{Direction, ExtensionHeader, Packet, Protocol};

use crate::cases::{PEERS, agree, agree_in, agree_with, arriving, ask, ask_with_kernel, packet, with};
use crate::firewall::Firewall;
use crate::harness::{in_namespace, tool};
use crate::lab::{Lab, Shot};
use crate::wire;

fn native(nft: &str) -> Firewall {
    Firewall { nft: nft.to_owned(), ..Firewall::default() }
}

/// One base chain at input with these rules.
fn input(rules: &str) -> Firewall {
    native(&format!("table inet t {{\nchain i {{ type filter hook input priority 0;\n{rules}\n}}\n}}\n"))
}

/// Number and bytes of an extension header; its first byte is the next one's number.
type Header<'h> = (u8, &'h [u8]);

/// The same packet with other details, and the length that comes of it.
fn detailed(shot: Shot, change: impl Fn(&mut Packet)) -> Shot {
    let mut shot = with(shot, change);
    shot.packet.length = Some(wire::length(&shot.packet, &shot.extra));
    shot
}

#[test]
fn ipv6_extension_headers_are_found_wherever_they_stand() {
    let firewall = input(
        "tcp dport 100 exthdr hbh exists reject\n tcp dport 101 exthdr dst missing reject\n\
         tcp dport 102 dst hdrlength 1 reject\n tcp dport 103 hbh nexthdr 60 reject\n\
         tcp dport 104 frag more-fragments 1 reject\n tcp dport 105 ip6 nexthdr 0 reject\n\
         tcp dport 106 ip6 nexthdr 6 reject\n tcp dport 107 exthdr rt exists reject\n\
         tcp dport 108 exthdr hbh missing reject\n tcp dport 109 @nh,48,8 60 reject\n\
         tcp dport 110 dst hdrlength != 1 reject",
    );
    let ports = || (100..111).map(|dport| arriving("fd00:1::77", "fd00:1::10", dport));
    let padding: &[u8] = &[0, 0, 1, 4, 0, 0, 0, 0];
    let long: &[u8] = &[0, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let chains: [(&[Header<'_>], [TraceVerdict; 11]); 4] = [
        (&[], [Accept, Reject, Accept, Accept, Accept, Accept, Reject, Accept, Reject, Accept, Accept]),
        (&[(0, padding)], [Reject, Reject, Accept, Accept, Accept, Reject, Accept, Accept, Accept, Accept, Accept]),
        (&[(60, long)], [Accept, Accept, Reject, Accept, Accept, Accept, Accept, Accept, Reject, Reject, Accept]),
        (
            &[(0, padding), (60, padding)],
            [Reject, Accept, Accept, Reject, Accept, Reject, Accept, Accept, Accept, Accept, Reject],
        ),
    ];
    for (headers, expected) in chains {
        let shots = ports().map(|shot| {
            let header = |(at, (number, bytes)): (usize, &Header<'_>)| {
                let mut bytes = bytes.to_vec();
                bytes[0] = headers.get(at + 1).map_or(6, |(next, _)| *next);
                ExtensionHeader { header: Protocol(*number), bytes: bytes.into() }
            };
            detailed(shot, |packet| packet.details.extensions = Some(headers.iter().enumerate().map(header).collect()))
        });
        agree("extension headers", &firewall, shots.zip(expected).collect());
    }
}

#[test]
fn tcp_options_are_found_wherever_they_stand() {
    let firewall = input(
        "tcp dport 100 tcp option maxseg exists reject\n tcp dport 101 tcp option maxseg size < 500 reject\n\
         tcp dport 102 tcp option window count 7 reject\n tcp dport 103 tcp option sack-perm missing reject\n\
         tcp dport 104 tcp option timestamp tsval 258 reject\n tcp dport 105 tcp option 254 exists reject\n\
         tcp dport 106 tcp doff 5 reject\n tcp dport 107 tcp option maxseg size != 1460 reject\n\
         tcp dport 108 tcp window 64240 reject\n tcp dport 109 tcp option nop exists reject\n\
         udp dport 110 tcp option maxseg missing reject",
    );
    let options: [(&[u8], [TraceVerdict; 10]); 4] = [
        (&[], [Accept, Accept, Accept, Reject, Accept, Accept, Reject, Accept, Reject, Accept]),
        (&[2, 4, 1, 0, 1, 3, 3, 7], [Reject, Reject, Reject, Reject, Accept, Accept, Accept, Reject, Reject, Reject]),
        (
            &[4, 2, 8, 10, 0, 0, 1, 2, 0, 0, 0, 0, 2, 4, 5, 180],
            [Reject, Accept, Accept, Accept, Reject, Accept, Accept, Accept, Reject, Accept],
        ),
        // an option longer than the header, and one that ends the list for good
        (
            &[254, 4, 9, 9, 2, 40, 0, 0],
            [Accept, Accept, Accept, Reject, Accept, Reject, Accept, Accept, Reject, Accept],
        ),
    ];
    for (src, dst) in PEERS {
        for (options, expected) in options {
            let shots = (100..110).map(|dport| {
                detailed(arriving(src, dst, dport), |packet| {
                    packet.details.transport = Some(wire::tcp_with(packet, options).into());
                })
            });
            agree("tcp options", &firewall, shots.zip(expected).collect());
        }
    }
}

#[test]
fn rules_on_whole_packets_do_not_see_fragments() {
    let firewall = input(
        "tcp dport 100 ip frag-off & 0x1fff != 0 reject\n tcp dport 101 ip frag-off & 0x3fff == 0 reject\n\
         tcp dport 102 exthdr frag exists reject\n tcp dport 103 exthdr frag missing reject",
    );
    let expected = [[Accept, Reject, Accept, Accept], [Accept, Accept, Accept, Reject]];
    let mut shots = Vec::new();
    for ((src, dst), expected) in PEERS.into_iter().zip(expected) {
        shots.extend((100..).zip(expected).map(|(dport, verdict)| (arriving(src, dst, dport), verdict)));
    }
    agree("fragments", &firewall, shots);
}

#[test]
fn the_direction_status_and_addresses_of_a_connection_decide() {
    let firewall = input(
        "ct direction reply tcp dport 100 reject\n ct direction original tcp dport 101 reject\n\
         ct status assured tcp dport 102 reject\n ct status != assured tcp dport 103 reject\n\
         ct status ! snat,dnat tcp dport 104 reject\n ct original ip saddr 10.0.1.77 tcp dport 105 reject\n\
         ct reply ip saddr 10.0.1.10 tcp dport 106 reject\n meta l4proto tcp ct original proto-dst 107 reject\n\
         ct original ip6 saddr fd00:1::77 tcp dport 108 reject\n meta l4proto tcp ct reply proto-dst 40000 tcp dport 109 drop\n\
         ct mark 0 tcp dport 110 reject",
    );
    let expected = [
        [Accept, Reject, Accept, Reject, Reject, Reject, Reject, Reject, Accept, Drop, Reject],
        [Accept, Reject, Accept, Reject, Reject, Accept, Accept, Reject, Reject, Drop, Reject],
    ];
    let mut shots = Vec::new();
    for ((src, dst), expected) in PEERS.into_iter().zip(expected) {
        shots.extend((100..).zip(expected).map(|(dport, verdict)| (arriving(src, dst, dport), verdict)));
    }
    agree("connection", &firewall, shots);
}

#[test]
fn verdict_maps_with_ranges_side_by_side_dispatch() {
    let firewall = native(
        "table inet t {\nmap v { type ipv4_addr . inet_service : verdict; flags interval;\n\
         elements = { 10.0.1.0/26 . 100-110 : drop, 10.0.1.64/26 . 100 : jump refuse, 10.0.1.64/26 . 101-65535 : goto through }; }\n\
         chain refuse { reject\n}\n chain through { tcp dport 102 return\n tcp dport 103 reject\n}\n\
         chain i { type filter hook input priority 0; policy drop;\n\
         meta l4proto . th dport vmap { tcp . 200-210 : accept, udp . 53 : drop }\n\
         ip saddr . tcp dport vmap @v\n\
         ip6 saddr . tcp dport vmap { fd00:1::/64 . 100 : reject_it }\n accept\n}\n}\n"
            .replace(": reject_it", ": jump refuse")
            .as_str(),
    );
    let from = |src: &str, dport| arriving(src, if src.contains(':') { "fd00:1::10" } else { "10.0.1.10" }, dport);
    let shots = vec![
        (from("10.0.1.5", 100), Drop),
        (from("10.0.1.5", 110), Drop),
        (from("10.0.1.5", 111), Accept),
        (from("10.0.1.77", 100), Reject),
        // goto leaves the base chain: its policy drops
        (from("10.0.1.77", 101), Drop),
        (from("10.0.1.77", 102), Drop),
        (from("10.0.1.77", 103), Reject),
        (from("10.0.1.77", 205), Accept),
        (from("10.0.1.77", 99), Accept),
        (from("fd00:1::77", 100), Reject),
        (from("fd00:1::77", 101), Accept),
        (from("fd00:7::77", 100), Accept),
    ];
    agree("verdict maps", &firewall, shots);
}

#[test]
fn maps_and_arithmetic_give_marks() {
    let firewall = input(
        "meta mark set tcp dport map { 100 : 0x1, 101-110 : 0x2, 120 : 0x0 }\n\
         meta mark set meta mark << 4\n tcp dport 104 meta mark set meta mark ^ 0xff\n\
         tcp dport 105 meta mark set meta mark & 0xf0 | 0x7\n tcp dport 106 meta mark set meta mark >> 5\n\
         meta mark 0x10 reject\n meta mark 0xdf reject\n meta mark 0x27 reject\n meta mark 0x1 reject\n\
         meta mark & 0x30 == 0x20 drop\n meta mark { 0x0, 0x70 } accept\n drop",
    );
    let expected =
        [(100, Reject), (101, Drop), (104, Reject), (105, Reject), (106, Reject), (120, Accept), (99, Accept)];
    let mut shots = Vec::new();
    for (src, dst) in PEERS {
        shots.extend(expected.map(|(dport, verdict)| (arriving(src, dst, dport), verdict)));
        // no entry in the map ends the rule only; the mark of the packet stays
        let marked = with(packet(Direction::Out, Protocol::TCP, dst, src, 99), |packet| packet.mark = 7);
        shots.push((marked, Accept));
    }
    agree("marks", &firewall, shots);
}

#[test]
fn an_accept_ends_its_base_chain_and_later_priorities_still_drop() {
    let firewall = native(
        "table inet one {\nchain deep { tcp dport 100 accept\n tcp dport 101 goto deeper\n tcp dport 102 return\n}\n\
         chain deeper { tcp dport 101 accept\n}\n\
         chain i { type filter hook input priority filter - 5; policy drop;\n jump deep\n tcp dport 102-106 accept\n}\n}\n\
         table ip two { chain i { type filter hook input priority filter + 5; tcp dport 103 reject; }; }\n\
         table ip6 two { chain i { type filter hook input priority security; tcp dport 104 drop; }; }\n\
         table inet three { chain i { type filter hook input priority -300; tcp dport 105 accept; tcp dport 106 drop; }; }\n",
    );
    let ipv4 = [Accept, Accept, Accept, Reject, Accept, Accept, Drop, Drop];
    let ipv6 = [Accept, Accept, Accept, Accept, Drop, Accept, Drop, Drop];
    let mut shots = Vec::new();
    for ((src, dst), expected) in PEERS.into_iter().zip([ipv4, ipv6]) {
        shots.extend((100..).zip(expected).map(|(dport, verdict)| (arriving(src, dst, dport), verdict)));
    }
    agree("priorities", &firewall, shots);
}

#[test]
fn a_packet_finds_itself_in_the_set_it_was_added_to_unless_the_set_is_full() {
    let firewall = native(
        "table inet t {\nset seen { type ipv4_addr; size 2; flags dynamic; elements = { 10.0.1.5 }; }\n\
         set full { type ipv4_addr; size 2; flags dynamic; elements = { 10.0.1.5, 10.0.1.6 }; }\n\
         set pairs { type ipv4_addr . inet_service; size 100; flags dynamic; }\n\
         set wide { type ipv6_addr; size 100; flags dynamic; elements = { fd00:1::5 }; }\n\
         chain i { type filter hook input priority 0;\n\
         tcp dport 100 ip saddr @seen drop\n tcp dport 101 add @seen { ip saddr } ip saddr @seen reject\n\
         tcp dport 102 add @full { ip saddr } reject\n tcp dport 103 update @full { ip daddr } drop\n\
         tcp dport 104 delete @full { ip saddr }\n tcp dport 104 ip saddr @full reject\n\
         tcp dport 105 add @pairs { ip saddr . tcp dport }\n tcp dport 105 ip saddr . tcp sport @pairs drop\n\
         tcp dport 105 ip saddr . tcp dport @pairs reject\n\
         tcp dport 106 delete @full { ip saddr } drop\n\
         tcp dport 107 add @wide { ip6 saddr } ip6 saddr != @wide drop\n tcp dport 107 ip6 saddr @wide reject\n}\n}\n",
    );
    let one = |src, dport, verdict| {
        let dst = if str::contains(src, ':') { "fd00:1::10" } else { "10.0.1.10" };
        agree("dynamic sets", &firewall, vec![(arriving(src, dst, dport), verdict)]);
    };
    // one packet a ruleset: the sets are listed before it is sent
    for (src, dport, verdict) in [
        ("10.0.1.5", 100, Drop),
        ("10.0.1.77", 100, Accept),
        ("10.0.1.77", 101, Reject),
        ("10.0.1.5", 101, Reject),
        ("10.0.1.77", 102, Accept),
        ("10.0.1.5", 102, Reject),
        ("10.0.1.5", 103, Accept),
        ("10.0.1.5", 104, Accept),
        ("10.0.1.77", 105, Reject),
        ("10.0.1.77", 106, Drop),
        ("10.0.1.5", 106, Drop),
        ("fd00:1::77", 107, Reject),
        ("fd00:1::5", 107, Reject),
    ] {
        one(src, dport, verdict);
    }
}

#[test]
fn chains_on_a_device_see_the_packet_first() {
    let firewall = native(
        "table netdev d {\nchain e { type filter hook ingress device ens5 priority -500;\n\
         tcp dport 100 drop\n ip saddr 10.0.1.77 tcp dport 101 drop\n ip6 saddr fd00:1::77 udp dport 102 drop\n\
         meta protocol ip6 tcp dport 103 drop\n meta protocol { arp, 0x9000 } drop\n\
         tcp dport 105 meta mark set 5\n tcp dport 108 accept\n tcp dport 108-109 drop\n iifname eth1 tcp dport 110 drop\n}\n}\n\
         table inet t {\nchain g { type filter hook ingress device ens5 priority 10;\n\
         meta nfproto ipv6 tcp dport 111 drop\n ip saddr 10.0.1.0/24 tcp dport 112 drop\n}\n\
         chain i { type filter hook input priority 0; meta mark 5 reject\n}\n}\n",
    );
    let expected = [
        [Drop, Drop, Accept, Accept, Accept, Reject, Accept, Accept, Accept, Drop, Accept, Accept, Drop],
        [Drop, Accept, Accept, Drop, Accept, Reject, Accept, Accept, Accept, Drop, Accept, Drop, Accept],
    ];
    let mut shots = Vec::new();
    for ((src, dst), expected) in PEERS.into_iter().zip(expected) {
        shots.extend((100..).zip(expected).map(|(dport, verdict)| (arriving(src, dst, dport), verdict)));
        let elsewhere = |packet: &mut Packet| packet.iif = Some("eth1".into());
        shots.push((with(arriving(src, dst, 100), elsewhere), Accept));
        shots.push((
            packet(
                Direction::Forward,
                Protocol::TCP,
                src,
                if src.contains(':') { "fd00:51::9" } else { "198.51.100.9" },
                100,
            ),
            Drop,
        ));
    }
    // older listings do not tell the device
    let told = |listing: String| match listing.contains("\"dev\"") {
        true => listing,
        false => listing.replace("\"hook\": \"ingress\"", "\"hook\": \"ingress\", \"dev\": \"ens5\""),
    };
    agree_with("devices", || Lab::build().expect("a lab"), &firewall, shots, told);
}

#[test]
fn rewriting_headers_without_tracking_moves_the_packet() {
    let firewall = native(
        "table ip raw4 {\nchain p { type filter hook prerouting priority -300;\n\
         tcp dport 100 ip daddr set 10.0.1.11\n tcp dport 101 tcp dport set 201\n\
         tcp dport 102 ip saddr set 192.168.7.33\n tcp dport 103 ip daddr set 198.51.100.9\n\
         tcp dport 104 ip daddr set ip daddr & 255.255.255.0 | 0.0.0.11\n tcp dport 105 ip ttl set 7\n tcp dport 106 ip dscp set 8\n}\n}\n\
         table ip t {\nchain i { type filter hook input priority 0;\n\
         ip daddr 10.0.1.11 reject\n tcp dport 201 reject\n ip saddr 192.168.7.0/24 drop\n tcp dport 103 drop\n\
         ip ttl 7 reject\n ip dscp cs1 drop\n}\n\
         chain f { type filter hook forward priority 0; ip daddr 198.51.100.9 tcp dport 103 reject\n}\n}\n",
    );
    let expected = [Reject, Reject, Drop, Reject, Reject, Reject, Drop, Accept];
    let shots = (100..).zip(expected).map(|(dport, verdict)| (arriving("10.0.1.77", "10.0.1.10", dport), verdict));
    agree("stateless translation", &firewall, shots.collect());
}

#[test]
fn routing_lookups_decide() {
    let firewall = input(
        "tcp dport 100 fib daddr type local reject\n tcp dport 101 fib saddr type local reject\n\
         tcp dport 102 fib saddr . iif oif missing drop\n tcp dport 103 fib saddr oifname \"ens5\" reject\n\
         meta nfproto ipv4 tcp dport 104 fib daddr . iif type { local, broadcast } reject\n tcp dport 105 fib saddr type unicast drop\n\
         tcp dport 106 fib daddr type vmap { local : drop, unicast : accept }\n tcp dport 107 fib saddr oif exists drop",
    );
    let ipv4 = [Reject, Accept, Accept, Reject, Reject, Drop, Drop, Drop];
    let ipv6 = [Reject, Accept, Accept, Reject, Accept, Drop, Drop, Drop];
    let mut shots = Vec::new();
    for ((src, dst), expected) in PEERS.into_iter().zip([ipv4, ipv6]) {
        shots.extend((100..).zip(expected).map(|(dport, verdict)| (arriving(src, dst, dport), verdict)));
        // the way back is another interface
        let other = with(arriving(src, dst, 102), |packet| packet.iif = Some("eth1".into()));
        shots.push((other, Drop));
    }
    agree("fib", &firewall, shots);
}

#[test]
fn masks_of_header_fields_are_the_kernels() {
    let firewall = input(
        "tcp dport & 0xfff0 == 0x60 tcp dport 100 reject\n tcp dport & 0xff00 | 0x65 == 0x65 tcp dport 101 reject\n\
         ip saddr & 255.255.255.0 == 10.0.1.0 tcp dport 102 reject\n ip6 saddr & ffff:: == fd00:: tcp dport 103 reject\n\
         tcp dport ^ 0xff == 0x97 tcp dport 104 reject\n ip daddr & 0.0.0.15 == 0.0.0.10 tcp dport 105 reject\n\
         tcp flags & (syn | ack) == syn tcp dport 106 reject\n tcp flags ! fin,rst tcp dport 107 reject\n\
         tcp dport & 1 == 0 tcp dport 108 reject",
    );
    let expected = [
        [Reject, Reject, Reject, Accept, Reject, Reject, Reject, Reject, Reject],
        [Reject, Reject, Accept, Reject, Reject, Accept, Reject, Reject, Reject],
    ];
    let mut shots = Vec::new();
    for ((src, dst), expected) in PEERS.into_iter().zip(expected) {
        shots.extend((100..).zip(expected).map(|(dport, verdict)| (arriving(src, dst, dport), verdict)));
    }
    agree("bitwise", &firewall, shots);
}

#[test]
fn groups_of_interfaces_are_those_ip_link_tells() {
    let grouped = || {
        let lab = Lab::build().expect("a lab");
        tool("ip", &["link", "set", "ens5", "group", "7"], "").expect("ens5 gets a group");
        lab
    };
    let native = input(
        "iifgroup 7 tcp dport 100 reject\n iifgroup != 7 tcp dport 101 reject\n iifgroup default tcp dport 102 drop\n\
         iifgroup { 3, 7 } tcp dport 103 drop",
    );
    let rules = "*filter\n-A INPUT -m devgroup --src-group 0x7 -p tcp --dport 100 -j REJECT --reject-with tcp-reset\n\
         -A INPUT -m devgroup ! --src-group 0x7 -p tcp --dport 101 -j REJECT --reject-with tcp-reset\n\
         -A INPUT -m devgroup --src-group 0x0/0xf -p tcp --dport 102 -j DROP\n\
         -A INPUT -m devgroup --src-group 0x3/0x3 -p tcp --dport 103 -j DROP\nCOMMIT\n";
    let both = || [rules.to_owned(), rules.to_owned()];
    let legacy = Firewall { legacy: both(), ..Firewall::default() };
    let xtables_nft = Firewall { xtables_nft: both(), ..Firewall::default() };
    for firewall in [native, legacy, xtables_nft] {
        let mut shots = Vec::new();
        for (src, dst) in PEERS {
            for (device, expected) in
                [("ens5", [Reject, Accept, Accept, Drop]), ("eth1", [Accept, Reject, Drop, Accept])]
            {
                let from = |packet: &mut Packet| packet.iif = Some(device.into());
                shots.extend(
                    (100..).zip(expected).map(|(dport, verdict)| (with(arriving(src, dst, dport), from), verdict)),
                );
            }
        }
        agree_in("groups", grouped, &firewall, shots);
    }
}

#[test]
fn a_table_that_sleeps_decides_nothing() {
    let rules = "chain i { type filter hook input priority 0; policy drop; }\n";
    for dormant in [true, false] {
        let flags = if dormant { "flags dormant;\n" } else { "" };
        let firewall = native(&format!("table inet t {{\n{flags}{rules}}}\n"));
        in_namespace("dormant", || {
            let shots: Vec<Shot> = PEERS.into_iter().map(|(src, dst)| arriving(src, dst, 100)).collect();
            for answer in ask_with_kernel(&firewall, &shots) {
                let expected = if dormant { Accept } else { Drop };
                assert_eq!((answer.outcome.passed(), answer.verdict), (dormant, expected), "{}", answer.story);
            }
        });
    }
}

#[test]
fn what_a_program_decides_is_unknown_whatever_the_kernel_does_without_one() {
    let rules = "*mangle\n-A PREROUTING -p tcp --dport 102 -j TPROXY --on-port 9 --tproxy-mark 0x1/0x1\nCOMMIT\n\
         *filter\n-A INPUT -p tcp --dport 100 -j NFQUEUE --queue-num 3\n\
         -A INPUT -p tcp --dport 101 -j NFQUEUE --queue-num 3 --queue-bypass\nCOMMIT\n";
    let both = || [rules.to_owned(), rules.to_owned()];
    for firewall in
        [Firewall { legacy: both(), ..Firewall::default() }, Firewall { xtables_nft: both(), ..Firewall::default() }]
    {
        in_namespace("queues", || {
            let ports = [(100, false, Unknown), (101, true, Unknown), (103, true, Accept)];
            let shots: Vec<Shot> = PEERS
                .into_iter()
                .flat_map(|(src, dst)| ports.map(|(dport, ..)| arriving(src, dst, dport)))
                .chain(PEERS.into_iter().map(|(src, dst)| arriving(src, dst, 102)))
                .collect();
            let answers = ask(&firewall, &shots);
            for (answer, (_, passes, verdict)) in answers.iter().zip(ports.into_iter().cycle()).take(6) {
                assert_eq!((answer.outcome.passed(), answer.verdict), (passes, verdict), "{}", answer.story);
            }
            // where nobody listens at the proxy's port the kernel decides by itself
            assert!(answers.iter().skip(6).all(|answer| answer.verdict == Unknown), "{}", answers[6].story);
        });
    }
}
