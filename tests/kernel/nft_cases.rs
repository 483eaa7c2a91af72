//! Hand-written rulesets for what only native nftables can ask: headers behind headers, options, maps in expressions, sets
//! that grow by packets, chains on devices, and how chains of several tables follow each other.

use hepguard::analysis::trace::TraceVerdict::{self, Accept, Drop, Reject};
use hepguard::packet::{Direction, ExtensionHeader, Packet, Protocol};

use crate::cases::{PEERS, agree, arriving, packet, with};
use crate::firewall::Firewall;
use crate::lab::Shot;
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
