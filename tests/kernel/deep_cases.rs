//! Hand-written rulesets for what rules look for deep in a packet, and for the clock.
//!
//! `dccp option` is missing: nft before 1.0.8 does not write it, and kernels from 6.18 on take it only when built so.

use hepguard::analysis::trace::TraceVerdict::{self, Accept, Reject};
use hepguard::packet::{Direction, ExtensionHeader, Protocol};

use crate::cases::{PEERS, agree, agree_in, arriving, packet, with};
use crate::firewall::Firewall;
use crate::lab::{Lab, Shot};
use crate::tun::PEER_MAC;
use crate::wire;

/// One base chain at input with these rules.
fn input(rules: &str) -> Firewall {
    let nft = format!("table inet t {{\nchain i {{ type filter hook input priority 0;\n{rules}\n}}\n}}\n");
    Firewall { nft, ..Firewall::default() }
}

/// The rule with this index refuses a packet to port 100 and that index; these are the packets that it refuses.
fn refused(shot: impl Fn(u16) -> Shot, refused: &[bool]) -> Vec<(Shot, TraceVerdict)> {
    (100..).zip(refused).map(|(port, refused)| (shot(port), if *refused { Reject } else { Accept })).collect()
}

/// An SCTP packet with these chunks.
fn sctp(ends: (&str, &str), dport: u16, chunks: &[u8]) -> Shot {
    let mut bytes = [&40_000u16.to_be_bytes()[..], &dport.to_be_bytes(), &[0, 0, 0, 9, 0, 0, 0, 0], chunks].concat();
    let sum = wire::crc32c(&bytes).to_le_bytes();
    bytes.splice(8..12, sum);
    let mut shot = with(packet(Direction::In, Protocol::SCTP, ends.0, ends.1, dport), |packet| {
        packet.details.transport = Some(bytes.clone().into());
    });
    shot.packet.length = Some(wire::length(&shot.packet, &shot.extra));
    shot
}

#[test]
fn nft_finds_the_first_sctp_chunk_of_a_type() {
    let firewall = input(
        "sctp dport 100 sctp chunk data exists reject\n sctp dport 101 sctp chunk sack missing reject\n\
         sctp dport 102 sctp chunk data flags 3 reject\n sctp dport 103 sctp chunk data ppid 7 reject\n\
         sctp dport 104 sctp chunk sack cum-tsn-ack > 5 reject\n sctp dport 105 sctp chunk data length != 8 reject\n\
         udp dport 106 sctp chunk data missing reject",
    );
    let data = |flags: u8, ppid: u8| [0, flags, 0, 16, 0, 0, 0, 1, 0, 2, 0, 3, 0, 0, 0, ppid];
    let short = [0, 3, 0, 8, 0, 0, 0, 7];
    let sack = [3, 0, 0, 16, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 0];
    let packets: [(Vec<u8>, [bool; 6]); 5] = [
        (data(3, 7).to_vec(), [true, true, true, true, false, true]),
        (short.to_vec(), [true, true, true, false, false, false]),
        ([&sack[..], &data(1, 7)].concat(), [true, false, false, true, true, true]),
        // only the first one of a type counts
        ([&short[..], &data(3, 7), &sack].concat(), [true, false, true, false, true, false]),
        // padded to a multiple of four bytes
        ([&[5, 0, 0, 5, 1, 0, 0, 0][..], &data(0, 8)].concat(), [true, true, false, false, false, true]),
    ];
    for ends in PEERS {
        for (chunks, wanted) in &packets {
            agree("sctp chunks of nft", &firewall, refused(|port| sctp(ends, port, chunks), wanted));
        }
        let udp = packet(Direction::In, Protocol::UDP, ends.0, ends.1, 106);
        agree("chunks of another protocol", &firewall, vec![(udp, Reject)]);
    }
}

/// Its own segments, last first; the packet is at the one `left` before the end.
fn segments(dport: u16, kind: u8, left: u8, addresses: &[&str]) -> Shot {
    let count = u8::try_from(addresses.len()).expect("few");
    let mut bytes = vec![6, count * 2, kind, left, count.saturating_sub(1), 0, 0x12, 0x12];
    for address in addresses {
        bytes.extend(address.parse::<std::net::Ipv6Addr>().expect("an address").octets());
    }
    let header = ExtensionHeader { header: Protocol(43), bytes: bytes.into() };
    let mut shot = with(arriving("fd00:1::77", "fd00:1::10", dport), |packet| {
        packet.details.extensions = Some([header.clone()].into());
    });
    shot.packet.length = Some(wire::length(&shot.packet, &shot.extra));
    shot
}

const SEGMENTS: [&str; 3] = ["fd00:9::3", "fd00:9::2", "fd00:8::1"];

#[test]
fn segment_routing_headers_tell_their_segments() {
    let rules = [
        "--srh-tag 4626",
        "! --srh-segs-left-gt 0",
        "--srh-last-entry-eq 2 --srh-hdr-len-gt 5",
        "--srh-psid fd00:8::/32",
        "! --srh-nsid fd00:9::3",
        "--srh-lsid fd00:9::3/128",
        "--srh-segs-left-lt 2 --srh-next-hdr 6",
        "! --srh-tag 4627",
    ];
    let list: String = (100..)
        .zip(rules)
        .map(|(port, rule)| format!("-A INPUT -p tcp --dport {port} -m srh {rule} -j REJECT\n"))
        .collect();
    let tables = ["".to_owned(), format!("*filter\n{list}COMMIT\n")];
    let firewalls = [
        Firewall { legacy: tables.clone(), ..Firewall::default() },
        Firewall { xtables_nft: tables, ..Firewall::default() },
    ];
    for firewall in firewalls {
        for (kind, left, wanted) in [
            (4, 0, [true, true, true, false, false, true, true, true]),
            (4, 1, [true, false, true, true, false, true, true, true]),
            (4, 2, [true, false, true, false, true, true, false, true]),
            // more segments left than there are; another type of routing header
            (4, 3, [false; 8]),
            (3, 0, [false; 8]),
        ] {
            agree("srh", &firewall, refused(|port| segments(port, kind, left, &SEGMENTS), &wanted));
        }
        agree("no srh", &firewall, refused(|port| arriving("fd00:1::77", "fd00:1::10", port), &[false; 8]));
    }
}

#[test]
fn nft_reads_routing_headers_whatever_their_type() {
    let firewall = input(
        "tcp dport 100 srh tag 4626 reject\n tcp dport 101 srh last-entry 2 reject\n tcp dport 102 srh flags 0 reject\n\
         tcp dport 103 srh sid[1] fd00:9::3 reject\n tcp dport 104 rt0 addr[2] fd00:9::2 reject\n\
         tcp dport 105 rt seg-left 1 reject\n tcp dport 106 rt type 4 reject\n tcp dport 107 srh tag != 1 reject",
    );
    for (kind, left) in [(4, 0), (4, 1), (3, 1)] {
        let wanted = [true, true, true, true, true, left == 1, kind == 4, true];
        agree("routing headers", &firewall, refused(|port| segments(port, kind, left, &SEGMENTS), &wanted));
    }
    agree("no routing header", &firewall, refused(|port| arriving("fd00:1::77", "fd00:1::10", port), &[false; 8]));
}

#[test]
fn link_layer_bytes_are_there_on_ethernet_only() {
    let mac = PEER_MAC.map(|byte| format!("{byte:02x}")).concat();
    let firewall = input(&format!(
        "tcp dport 100 @ll,48,48 0x{mac} reject\n tcp dport 101 @ll,0,8 2 reject\n tcp dport 102 @ll,96,8 0x08 reject\n\
         tcp dport 103 @ll,48,48 != 1 reject"
    ));
    let lab = || {
        let mut lab = Lab::build().expect("a lab");
        lab.attach_ethernet("tap0", "10.9.0.1/24").expect("an Ethernet device");
        lab
    };
    let mut shots = Vec::new();
    for ((src, dst), ethernet) in PEERS.into_iter().zip([[true; 4], [true, true, false, true]]) {
        let tap = |port| {
            with(arriving(src, dst, port), |packet| {
                packet.iif = Some("tap0".into());
                packet.details.source_mac = Some(PEER_MAC);
                packet.details.destination_mac = Some([2, 0, 0, 0, 0, 0x77]);
            })
        };
        shots.extend(refused(tap, &ethernet));
        shots.extend(refused(|port| arriving(src, dst, port), &[false; 4]));
    }
    agree_in("link layer", lab, &firewall, shots);
}

#[test]
fn bitmaps_hold_addresses_with_and_without_a_hardware_address() {
    let mac = PEER_MAC.map(|byte| format!("{byte:02x}")).join(":");
    let ipsets = format!(
        "create plain bitmap:ip range 10.9.0.0/24\nadd plain 10.9.0.9\nadd plain 10.9.0.32/28\n\
         create hard bitmap:ip,mac range 10.9.0.0/24\nadd hard 10.9.0.9,{mac}\nadd hard 10.9.0.10,02:00:00:00:00:01\n"
    );
    let rules = "*filter\n-A INPUT -p tcp --dport 100 -m set --match-set plain src -j REJECT\n\
                 -A INPUT -p tcp --dport 101 -m set --match-set hard src,src -j REJECT\n\
                 -A INPUT -p tcp --dport 102 -m set ! --match-set hard src,src -j REJECT\nCOMMIT\n";
    let firewall = Firewall { ipsets, legacy: [rules.to_owned(), String::new()], ..Firewall::default() };
    let lab = || {
        let mut lab = Lab::build().expect("a lab");
        lab.attach_ethernet("tap0", "10.9.0.1/24").expect("an Ethernet device");
        lab
    };
    let mut shots = Vec::new();
    for (src, wanted) in [
        ("10.9.0.9", [true, true, false]),
        ("10.9.0.10", [false, false, true]),
        ("10.9.0.40", [true, false, true]),
        ("10.9.1.9", [false, false, true]),
    ] {
        let tap = |port| {
            with(arriving(src, "10.9.0.1", port), |packet| {
                packet.iif = Some("tap0".into());
                packet.details.source_mac = Some(PEER_MAC);
            })
        };
        shots.extend(refused(tap, &wanted));
    }
    agree_in("bitmaps", lab, &firewall, shots);
}

#[test]
fn inner_bytes_stand_behind_the_transport_header() {
    let firewall = input(
        "tcp dport 100 @ih,0,16 0x6865 reject\n tcp dport 101 @ih,8,8 0x65 reject\n udp dport 102 @ih,0,64 0x6865706775617264 reject\n\
         udp dport 103 @ih,0,8 != 1 reject\n meta l4proto sctp @ih,0,8 != 1 reject",
    );
    for (src, dst) in PEERS {
        let tcp = |options: &'static [u8]| {
            move |port| {
                let mut shot = with(arriving(src, dst, port), |packet| {
                    let bytes = [wire::tcp_with(packet, options), b"hepguard".to_vec()].concat();
                    packet.details.transport = Some(bytes.into());
                });
                shot.packet.length = Some(wire::length(&shot.packet, &shot.extra));
                shot
            }
        };
        agree("inner header of tcp", &firewall, refused(tcp(&[]), &[true, true]));
        agree("inner header behind options", &firewall, refused(tcp(&[2, 4, 5, 180]), &[true, true]));
        let udp = |port| {
            let mut shot = packet(Direction::In, Protocol::UDP, src, dst, port);
            let bytes = wire::encode(&shot.packet, &shot.extra, 1);
            let start = if src.contains(':') { 40 } else { 20 };
            // not the checksum, which nobody can tell beforehand
            shot.packet.details.transport = Some(bytes[start..].into());
            shot
        };
        agree("inner header of udp", &firewall, (102..104).map(|port| (udp(port), Reject)).collect());
        let sctp = packet(Direction::In, Protocol::SCTP, src, dst, 104);
        agree("no inner header", &firewall, vec![(sctp, Accept)]);
    }
}

#[test]
fn the_clock_decides_as_nftables_counts_it() {
    let now = chrono::Utc::now();
    let at = |minutes: i64, form: &str| (now + chrono::Duration::minutes(minutes)).format(form).to_string();
    // a night that the hours around now would begin before and end behind is another question
    let hours = [at(-20, "%H:%M"), at(20, "%H:%M")];
    let (from, to) = if hours[0] < hours[1] { (hours[0].as_str(), hours[1].as_str()) } else { ("00:00", "23:59") };
    let date = "%Y-%m-%d %H:%M:%S";
    let day = |days: i64| (now + chrono::Duration::days(days)).format("%A").to_string();
    let rules = [
        (format!("meta hour \"{from}\"-\"{to}\""), true),
        (format!("meta hour != \"{from}\"-\"{to}\""), false),
        (format!("meta day \"{}\"", day(0)), true),
        (format!("meta day {{ \"{}\", \"{}\" }}", day(1), day(3)), false),
        (format!("meta time > \"{}\"", at(-5, date)), true),
        (format!("meta time < \"{}\"", at(-5, date)), false),
        (format!("meta time \"{}\"-\"{}\"", at(-60, date), at(60, date)), true),
    ];
    let list: Vec<String> =
        (100..).zip(&rules).map(|(port, (rule, _))| format!("tcp dport {port} {rule} reject")).collect();
    let wanted: Vec<bool> = rules.iter().map(|(_, holds)| *holds).collect();
    // in the last minutes of a day the test may end on the next one
    let late = (now + chrono::Duration::minutes(3)).date_naive() != now.date_naive();
    for (src, dst) in PEERS.into_iter().filter(|_| !late) {
        let shot = |port| with(arriving(src, dst, port), |packet| packet.details.time = Some(now.timestamp()));
        agree("clock", &input(&list.join("\n")), refused(shot, &wanted));
    }
}
