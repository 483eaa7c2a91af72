//! iptables matches that look at more than addresses and ports: the kernel must do what the test says, and the library must
//! say the same. Each rule stands in a port or address of its own.

use hepguard::analysis::trace::TraceVerdict::{self, Accept, Drop};
use hepguard::packet::{Details, Direction, ExtensionHeader, Protocol};

use crate::cases::{PEERS, agree, agree_in, arriving, packet, with};
use crate::firewall::Firewall;
use crate::lab::{Lab, Shot};
use crate::tun::PEER_MAC;
use crate::wire;

type Expected = Vec<(Shot, TraceVerdict)>;

/// Rules for both families in both variants of the tool, sets beside them.
fn both_variants(name: &str, ipsets: &str, tables: &[String; 2], shots: impl Fn() -> Expected) {
    for legacy in [true, false] {
        let (legacy_tables, nft) =
            if legacy { (tables.clone(), Default::default()) } else { (Default::default(), tables.clone()) };
        let firewall =
            Firewall { ipsets: ipsets.to_owned(), legacy: legacy_tables, xtables_nft: nft, ..Firewall::default() };
        agree(&format!("{name}, {}", if legacy { "legacy" } else { "nft" }), &firewall, shots());
    }
}

fn filter(rules: &[&str]) -> String {
    rules.iter().fold("*filter\n".to_owned(), |text, rule| text + "-A " + rule + "\n") + "COMMIT\n"
}

fn input(rules: &[&str]) -> String {
    rules.iter().fold("*filter\n".to_owned(), |text, rule| format!("{text}-A INPUT {rule} -j DROP\n")) + "COMMIT\n"
}

fn detailed(shot: Shot, change: impl Fn(&mut Details)) -> Shot {
    let mut shot = with(shot, |packet| change(&mut packet.details));
    shot.packet.length = Some(wire::length(&shot.packet, &shot.extra));
    shot
}

/// A packet whose transport header is `bytes`, with the checksum at `place` made right.
fn carrying(shot: Shot, bytes: &[u8], place: Option<usize>) -> Shot {
    let sealed = match place {
        Some(place) => wire::seal(&shot.packet, bytes.to_vec(), place),
        None => bytes.to_vec(),
    };
    detailed(shot, |details| details.transport = Some(sealed.clone().into()))
}

/// A SYN with these options.
fn syn(ends: (&str, &str), dport: u16, options: &[u8]) -> Shot {
    let shot = arriving(ends.0, ends.1, dport);
    let mut bytes = shot.packet.sport.unwrap_or(0).to_be_bytes().to_vec();
    bytes.extend(dport.to_be_bytes());
    bytes.extend([0, 0, 3, 232, 0, 0, 0, 0]);
    let words = u8::try_from(5 + options.len().div_ceil(4)).expect("few options");
    bytes.extend([words << 4, shot.packet.tcp_flags.0, 250, 240, 0, 0, 0, 0]);
    bytes.extend(options);
    bytes.resize(usize::from(words) * 4, 0);
    carrying(shot, &bytes, Some(16))
}

#[test]
fn tcp_options_are_found_by_their_numbers() {
    let rules = input(&[
        "-p tcp --dport 100 --tcp-option 8",
        "-p tcp --dport 101 ! --tcp-option 8",
        "-p tcp --dport 102 -m tcpmss --mss 536:1400",
        "-p tcp --dport 103 -m tcpmss ! --mss 536:1400",
        "-p tcp --dport 104 --tcp-option 2 --syn",
    ]);
    let shots = || {
        let sized = |mss: u16| [2, 4, (mss >> 8) as u8, mss as u8];
        let stamps = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
        let both = |mss| [&stamps[..], &sized(mss)].concat();
        // sizes: none, no such option, inside, outside, behind others
        let kinds = [vec![], stamps.to_vec(), sized(536).to_vec(), sized(1460).to_vec(), both(1400)];
        let dropped = [
            [false, true, false, false, true],
            [true, false, true, true, false],
            [false, false, true, false, true],
            [true, true, false, true, false],
            [false, false, true, true, true],
        ];
        let mut shots = Vec::new();
        for ends in PEERS {
            for (dport, dropped) in (100..).zip(dropped) {
                for (options, dropped) in kinds.iter().zip(dropped) {
                    shots.push((syn(ends, dport, options), if dropped { Drop } else { Accept }));
                }
            }
        }
        shots
    };
    both_variants("tcp options", "", &[rules.clone(), rules.clone()], shots);
}

#[test]
fn sctp_chunks_and_their_flags_count() {
    let rules = input(&[
        "-p sctp --dport 100 -m sctp --chunk-types any DATA:Be,SACK",
        "-p sctp --dport 101 -m sctp --chunk-types all DATA,SACK",
        "-p sctp --dport 102 -m sctp --chunk-types only DATA,SACK",
        "-p sctp --dport 103 -m sctp ! --chunk-types only DATA:E",
    ]);
    // a chunk of 8 bytes: type, flags, length, value
    let chunk = |kind: u8, flags: u8| vec![kind, flags, 0, 8, 0, 0, 0, 0];
    let packets = [
        (chunk(0, 2), [true, false, true, true]),
        (chunk(0, 3), [false, false, true, false]),
        (chunk(3, 0), [true, false, true, true]),
        ([chunk(0, 1), chunk(3, 0)].concat(), [true, true, true, true]),
        ([chunk(0, 1), chunk(4, 0)].concat(), [false, false, false, true]),
        (chunk(1, 0), [false, false, false, true]),
    ];
    let shots = || {
        let mut shots = Vec::new();
        for (src, dst) in PEERS {
            for (dport, at) in (100u16..).zip(0..4) {
                for (chunks, dropped) in &packets {
                    let mut bytes = [&40_000u16.to_be_bytes()[..], &dport.to_be_bytes()].concat();
                    bytes.extend([0, 0, 0, 9, 0, 0, 0, 0]);
                    bytes.extend(chunks);
                    let sum = wire::crc32c(&bytes).to_le_bytes();
                    bytes.splice(8..12, sum);
                    let shot = carrying(packet(Direction::In, Protocol::SCTP, src, dst, dport), &bytes, None);
                    shots.push((shot, if dropped[at] { Drop } else { Accept }));
                }
            }
        }
        shots
    };
    both_variants("sctp chunks", "", &[rules.clone(), rules.clone()], shots);
}

#[test]
fn dccp_types_and_options_are_found() {
    let rules = input(&[
        "-p dccp --dport 100 -m dccp --dccp-types REQUEST,RESPONSE",
        "-p dccp --dport 101 -m dccp ! --dccp-types DATA",
        "-p dccp --dport 102 -m dccp --dccp-option 35",
        "-p dccp --dport 103 -m dccp ! --dccp-option 35",
    ]);
    // RFC 4340 §5: generic header with a 48 bit sequence number, what the type adds, options
    let dccp = |dport: u16, kind: u8, options: &[u8]| {
        let more = match kind {
            0 => 4,
            2 => 0,
            1 => 12,
            _ => 8,
        };
        let words = (16 + more + options.len()).div_ceil(4);
        let mut bytes = [&40_000u16.to_be_bytes()[..], &dport.to_be_bytes()].concat();
        bytes.extend([u8::try_from(words).expect("short"), 0, 0, 0, kind << 1 | 1, 0, 0, 0, 0, 0, 0, 5]);
        bytes.resize(16 + more, 0);
        bytes.extend(options);
        bytes.resize(words * 4, 0);
        bytes
    };
    let packets = [
        (0, &[][..], [true, true, false, true]),
        (1, &[35, 4, 0, 1][..], [true, true, true, false]),
        (2, &[1, 1, 35, 3, 9][..], [false, false, true, false]),
        (3, &[36, 4, 35, 0][..], [false, true, false, true]),
    ];
    let shots = || {
        let mut shots = Vec::new();
        for (src, dst) in PEERS {
            for (at, dport) in (100..104).enumerate() {
                for (kind, options, dropped) in packets {
                    let shot = packet(Direction::In, Protocol::DCCP, src, dst, dport);
                    let shot = carrying(shot, &dccp(dport, kind, options), Some(6));
                    shots.push((shot, if dropped[at] { Drop } else { Accept }));
                }
            }
        }
        shots
    };
    both_variants("dccp", "", &[rules.clone(), rules.clone()], shots);
}

#[test]
fn security_associations_are_told_by_their_number() {
    let (esp, ah, ipcomp) = (Protocol(50), Protocol(51), Protocol(108));
    let v4 =
        input(&["-p esp -m esp --espspi 256:512", "-p ah -m ah ! --ahspi 7", "-p ipcomp -m ipcomp --ipcompspi 18"]);
    let v6 = input(&["-p esp -m esp --espspi 256:512", "-p ipcomp -m ipcomp --ipcompspi 18"]);
    let shots = || {
        let mut shots = Vec::new();
        let long = |number: u32| number.to_be_bytes();
        for (src, dst) in PEERS {
            let shot = |protocol, bytes: &[u8]| carrying(packet(Direction::In, protocol, src, dst, 0), bytes, None);
            for (number, verdict) in [(255, Accept), (256, Drop), (512, Drop), (513, Accept)] {
                shots.push((shot(esp, &[&long(number)[..], &[0; 20]].concat()), verdict));
            }
            for (number, verdict) in [(17u8, Accept), (18, Drop)] {
                shots.push((shot(ipcomp, &[6, 0, 0, number, 1, 2, 3, 4]), verdict));
            }
        }
        for (number, verdict) in [(7, Accept), (8, Drop)] {
            let bytes = [&[6, 4, 0, 0][..], &long(number), &[0; 16]].concat();
            let (src, dst) = PEERS[0];
            shots.push((carrying(packet(Direction::In, ah, src, dst, 0), &bytes, None), verdict));
        }
        shots
    };
    both_variants("security associations", "", &[v4, v6], shots);
}

/// A header of 8 bytes or more, its "next header" left open.
fn extension(number: u8, rest: &[u8]) -> ExtensionHeader {
    let mut bytes = vec![0];
    bytes.extend(rest);
    ExtensionHeader { header: Protocol(number), bytes: bytes.into() }
}

fn extended(dport: u16, headers: &[ExtensionHeader]) -> Shot {
    let (src, dst) = PEERS[1];
    detailed(arriving(src, dst, dport), |details| details.extensions = Some(headers.into()))
}

#[test]
fn ipv6_extension_headers_are_told_apart() {
    let rules = [
        "-m rt --rt-type 4",
        "-m rt ! --rt-type 4 --rt-segsleft 0:1",
        "-m rt --rt-len 24 ! --rt-segsleft 1",
        "-m hbh --hbh-opts 1:4",
        "-m hbh ! --hbh-len 8",
        "-m dst --dst-opts 1:2,0,0",
        "-m dst",
        "-m ah --ahspi 5 --ahlen 24",
        "-m ah ! --ahspi 5",
        "-m ipv6header --header hop,dst --soft",
        "-m ipv6header ! --header hop,dst --soft",
        "-m ipv6header --header prot",
        "-m ipv6header ! --header hop,prot",
        "-m frag",
        "-m rt --rt-type 0 --rt-0-addrs fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd",
        "-m rt",
        "-m rt --rt-type 0 --rt-0-res",
    ];
    let numbered: Vec<String> =
        (100..).zip(rules).map(|(port, rule)| format!("-p tcp --dport {port} {rule}")).collect();
    let table = input(&numbered.iter().map(String::as_str).collect::<Vec<_>>());
    let hop = extension(0, &[0, 1, 4, 0, 0, 0, 0]);
    let wide_hop = extension(0, &[1, 30, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let destination = extension(60, &[0, 1, 2, 0, 0, 0, 0]);
    let routing = |kind: u8| extension(43, &[[2, kind, 0, 0, 0, 0, 9].to_vec(), vec![0xfd; 16]].concat());
    let authentication = extension(51, &[4, 0, 0, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let packets: [(&[ExtensionHeader], &[u16]); 7] = [
        (&[], &[110, 111, 112]),
        (std::slice::from_ref(&hop), &[103]),
        (&[wide_hop, destination.clone()], &[104, 105, 106, 109, 112]),
        (&[hop.clone(), destination], &[103, 105, 106, 109, 112]),
        (&[routing(4)], &[100, 102, 110, 112, 115]),
        (&[routing(0)], &[101, 102, 110, 112, 114, 115]),
        (&[authentication], &[107, 110, 112]),
    ];
    let ports = 100..100 + u16::try_from(rules.len()).expect("few");
    let shots = |legacy: bool| -> Expected {
        let one = |(headers, dropped): (&[ExtensionHeader], &[u16])| {
            // nf_tables takes the authentication header for the upper layer: no TCP, no match
            let seen = legacy || headers.iter().all(|header| header.header != Protocol(51));
            let verdict = |port| if seen && dropped.contains(&port) { Drop } else { Accept };
            ports.clone().map(|port| (extended(port, headers), verdict(port))).collect::<Vec<_>>()
        };
        packets.into_iter().flat_map(one).collect()
    };
    let tables = || [String::new(), table.clone()];
    agree("extension headers, legacy", &Firewall { legacy: tables(), ..Firewall::default() }, shots(true));
    agree("extension headers, nft", &Firewall { xtables_nft: tables(), ..Firewall::default() }, shots(false));
}

#[test]
fn mobility_headers_have_a_type() {
    let table = input(&["-p mobility-header -m mh --mh-type 1:3"]);
    let (src, dst) = PEERS[1];
    let shots = || {
        let one = |kind: u8| {
            let shot = packet(Direction::In, Protocol(135), src, dst, 0);
            carrying(shot, &[59, 1, kind, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], None)
        };
        vec![(one(0), Accept), (one(1), Drop), (one(3), Drop), (one(4), Accept)]
    };
    both_variants("mobility", "", &[String::new(), table], shots);
}

#[test]
fn fragments_are_put_together_before_the_rules_see_them() {
    let v4 = input(&["-f", "-m length --length 0:30", "-p udp --dport 101"]);
    let v6 = input(&["-m frag", "-m frag --fragfirst", "-m ipv6header --header frag --soft", "-p udp --dport 101"]);
    let shots = || {
        let mut shots = Vec::new();
        for (src, dst) in PEERS {
            for (dport, verdict) in [(100, Accept), (101, Drop)] {
                let mut shot = packet(Direction::In, Protocol::UDP, src, dst, dport);
                shot.extra.in_pieces = true;
                shots.push((shot, verdict));
            }
        }
        shots
    };
    both_variants("fragments", "", &[v4, v6], shots);
}

#[test]
fn hardware_addresses_are_known_on_ethernet_only() {
    let mac = PEER_MAC.map(|byte| format!("{byte:02x}")).join(":");
    let v4 = input(&[
        &format!("-p tcp --dport 100 -m mac --mac-source {mac}"),
        &format!("-p tcp --dport 101 -m mac ! --mac-source {mac}"),
        "-p tcp --dport 102 -m mac ! --mac-source 02:00:00:00:00:01",
    ]);
    let v6 = v4.clone().replace("COMMIT\n", "-A INPUT -p tcp --dport 103 -m eui64 -j DROP\nCOMMIT\n");
    for legacy in [true, false] {
        let tables = || [v4.clone(), v6.clone()];
        let firewall = match legacy {
            true => Firewall { legacy: tables(), ..Firewall::default() },
            false => Firewall { xtables_nft: tables(), ..Firewall::default() },
        };
        let lab = || {
            let mut lab = Lab::build().expect("a lab");
            lab.attach_ethernet("tap0", "10.9.0.1/24").expect("an Ethernet device");
            lab
        };
        let mut shots = Vec::new();
        for (src, dst) in [("10.9.0.77", "10.0.1.10"), ("fd00:9::77", "fd00:1::10")] {
            for (dport, verdict) in [(100, Drop), (101, Accept), (102, Drop)] {
                let ethernet = with(arriving(src, dst, dport), |packet| packet.iif = Some("tap0".into()));
                shots.push((detailed(ethernet, |details| details.source_mac = Some(PEER_MAC)), verdict));
                // by a device without hardware addresses nothing holds
                shots.push((arriving(src, dst, dport), Accept));
            }
        }
        for (src, verdict) in [("fd00:9::11:22ff:fe33:4455", Drop), ("fd00:9::11:22ff:fe33:4456", Accept)] {
            let ethernet = with(arriving(src, "fd00:1::10", 103), |packet| packet.iif = Some("tap0".into()));
            shots.push((detailed(ethernet, |details| details.source_mac = Some(PEER_MAC)), verdict));
        }
        agree_in(&format!("hardware addresses, legacy {legacy}"), lab, &firewall, shots);
    }
}

#[test]
fn sockets_have_groups_and_a_control_group() {
    let rules = filter(&[
        "OUTPUT -p tcp --dport 100 -m owner --gid-owner 7 --suppl-groups -j DROP",
        "OUTPUT -p tcp --dport 101 -m owner ! --gid-owner 7 --suppl-groups -j DROP",
        "OUTPUT -p tcp --dport 102 -m cgroup --path / -j DROP",
        "OUTPUT -p tcp --dport 103 -m cgroup ! --path / -j DROP",
        "INPUT -p tcp --dport 104 -m cgroup ! --cgroup 5 -j DROP",
    ]);
    let groups: Vec<u32> = nix::unistd::getgroups().expect("groups").iter().map(|group| group.as_raw()).collect();
    assert!(!groups.contains(&7), "the test's own groups get in the way");
    let shots = || {
        let mut shots = Vec::new();
        for (src, dst) in [("10.0.1.10", "203.0.113.1"), ("fd00:1::10", "fd00:51::9")] {
            let own = |dport: u16, gid: u32| {
                let shot =
                    with(packet(Direction::Out, Protocol::TCP, src, dst, dport), |packet| packet.gid = Some(gid));
                let shot = with(shot, |packet| packet.uid = Some(0));
                detailed(shot, |details| {
                    details.groups = Some(groups.clone().into());
                    details.cgroup = Some("/anywhere".into());
                })
            };
            shots.extend([(own(100, 7), Drop), (own(100, 8), Accept), (own(101, 7), Accept), (own(101, 8), Drop)]);
            shots.extend([(own(102, 0), Drop), (own(103, 0), Accept)]);
        }
        // a first packet that arrives has no socket yet, and without one even the negation fails
        shots.extend(PEERS.map(|(src, dst)| (arriving(src, dst, 104), Accept)));
        shots
    };
    both_variants("sockets", "", &[rules.clone(), rules.clone()], shots);
}

#[test]
fn what_crosses_no_bridge_has_no_bridge_ports() {
    let rules = input(&[
        "-p tcp --dport 100 -m physdev --physdev-in ens5",
        "-p tcp --dport 101 -m physdev ! --physdev-in ens5",
        "-p tcp --dport 102 -m physdev ! --physdev-is-in ! --physdev-is-out",
        "-p tcp --dport 103 -m physdev ! --physdev-is-in --physdev-in ens5",
        "-p tcp --dport 104 -m policy --dir in --pol none",
        "-p tcp --dport 105 -m policy --dir in --pol ipsec --proto esp",
    ]);
    let verdicts = [Accept, Drop, Drop, Accept, Drop, Accept];
    let shots = || {
        let clear = |shot| detailed(shot, |details| details.ipsec = Some(false));
        let of =
            |(src, dst)| (100..).zip(verdicts).map(move |(dport, verdict)| (clear(arriving(src, dst, dport)), verdict));
        PEERS.into_iter().flat_map(of).collect()
    };
    both_variants("bridge ports", "", &[rules.clone(), rules.clone()], shots);
}

#[test]
fn connection_marks_are_shifted() {
    let rules = "*mangle\n\
        -A PREROUTING -j CONNMARK --set-mark 0x3\n\
        -A PREROUTING -p tcp --dport 100 -j CONNMARK --restore-mark --left-shift-mark 8\n\
        -A PREROUTING -p tcp --dport 101 -j MARK --set-mark 0xabcd\n\
        -A PREROUTING -p tcp --dport 101 -j CONNMARK --save-mark --nfmask 0xff00 --ctmask 0xf0 --right-shift-mark 8\n\
        -A PREROUTING -p tcp --dport 102 -j CONNMARK --set-xmark 0x1/0x1 --left-shift-mark 4\nCOMMIT\n\
        *filter\n\
        -A INPUT -p tcp --dport 100 -m mark --mark 0x300 -j DROP\n\
        -A INPUT -p tcp --dport 101 -m connmark --mark 0xa8 -j DROP\n\
        -A INPUT -p tcp --dport 102 -m connmark --mark 0x30 -j DROP\nCOMMIT\n"
        .to_owned();
    // 0x3 without the bits of 0xf0, and 0xab on top of it: 0x3 ^ 0xab
    let shots = || {
        let of = |(src, dst)| {
            (100..).zip([Drop, Drop, Drop]).map(move |(dport, verdict)| (arriving(src, dst, dport), verdict))
        };
        PEERS.into_iter().flat_map(of).collect()
    };
    both_variants("mark shifts", "", &[rules.clone(), rules.clone()], shots);
}

#[test]
fn a_way_back_may_end_on_the_host_itself() {
    let table = "*raw\n\
        -A PREROUTING -p tcp --dport 100 -m rpfilter --accept-local -j DROP\n\
        -A PREROUTING -p tcp --dport 101 -m rpfilter --accept-local --loose -j DROP\n\
        -A PREROUTING -p tcp --dport 102 -m rpfilter --accept-local --invert -j DROP\n\
        -A PREROUTING -p tcp --dport 103 -m rpfilter -j DROP\nCOMMIT\n"
        .to_owned();
    let shots = || {
        let cases = [
            ("10.0.1.11", "ens5", [Drop, Drop, Accept, Accept]),
            ("10.0.1.11", "eth1", [Accept, Drop, Drop, Accept]),
            ("10.0.1.77", "ens5", [Drop, Drop, Accept, Drop]),
            ("10.0.1.77", "eth1", [Accept, Drop, Drop, Accept]),
        ];
        let of = |(src, device, verdicts): (&'static str, &'static str, [TraceVerdict; 4])| {
            (100..).zip(verdicts).map(move |(dport, verdict)| {
                (with(arriving(src, "10.0.1.10", dport), |packet| packet.iif = Some(device.into())), verdict)
            })
        };
        cases.into_iter().flat_map(of).collect()
    };
    both_variants("way back", "", &[table, String::new()], shots);
}

#[test]
fn times_are_those_of_the_world() {
    let now = chrono::Utc::now();
    let (weekday, monthday) = (now.format("%a").to_string(), now.format("%d").to_string());
    let rules = input(&[
        &format!("-p tcp --dport 100 -m time --weekdays {weekday}"),
        &format!("-p tcp --dport 101 -m time ! --weekdays {weekday}"),
        &format!("-p tcp --dport 102 -m time --monthdays {monthday}"),
        &format!("-p tcp --dport 103 -m time ! --monthdays {monthday}"),
        "-p tcp --dport 104 -m time --datestart 2020-01-01 --datestop 2037-12-31T23:59:59",
        "-p tcp --dport 105 -m time --datestop 2020-01-01T00:00:00",
        "-p tcp --dport 106 -m time --timestart 00:00 --timestop 23:59:59",
        &format!(
            "-p tcp --dport 107 -m time --timestart {0} --timestop {0}",
            (now + chrono::TimeDelta::hours(2)).format("%H:%M")
        ),
    ]);
    let verdicts = [Drop, Accept, Drop, Accept, Drop, Accept, Drop, Drop];
    let shots = || {
        let timed = |shot| detailed(shot, |details| details.time = Some(now.timestamp()));
        let of =
            |(src, dst)| (100..).zip(verdicts).map(move |(dport, verdict)| (timed(arriving(src, dst, dport)), verdict));
        PEERS.into_iter().flat_map(of).collect()
    };
    both_variants("times", "", &[rules.clone(), rules.clone()], shots);
}

#[test]
fn exceptions_of_a_set_can_be_asked_for() {
    let ipsets = "create s hash:net\nadd s 10.0.0.0/8\nadd s 10.0.1.64/26 nomatch\n";
    let table = input(&[
        "-p tcp --dport 100 -m set --match-set s src",
        "-p tcp --dport 101 -m set --match-set s src --return-nomatch",
        "-p tcp --dport 102 -m set ! --match-set s src --return-nomatch",
        "-p tcp --dport 103 -m set --match-set s src ! --update-counters",
    ]);
    let shots = || {
        let cases = [
            ("10.0.1.1", [Drop, Accept, Drop, Drop]),
            ("10.0.1.77", [Accept, Drop, Accept, Accept]),
            ("198.51.100.7", [Accept, Accept, Drop, Accept]),
        ];
        let of = |(src, verdicts): (&'static str, [TraceVerdict; 4])| {
            (100..).zip(verdicts).map(move |(dport, verdict)| (arriving(src, "10.0.1.10", dport), verdict))
        };
        cases.into_iter().flat_map(of).collect()
    };
    both_variants("set exceptions", ipsets, &[table, String::new()], shots);
}

#[test]
fn header_bytes_are_compared_as_they_are() {
    let common = [
        "-p tcp --dport 100 -m dscp --dscp 46",
        "-p tcp --dport 101 -m tos ! --tos 0x10/0x3f",
        "-p tcp --dport 102 -m ecn --ecn-ip-ect 1",
        "-p tcp --dport 103 -m length --length 0:59",
    ];
    let v4 = input(
        &[&common[..], &["-p tcp --dport 104 -m ttl --ttl-lt 10", "-p tcp --dport 105 -m ttl ! --ttl-eq 9"]].concat(),
    );
    let v6 = input(
        &[&common[..], &["-p tcp --dport 104 -m hl --hl-lt 10", "-p tcp --dport 105 -m hl ! --hl-eq 9"]].concat(),
    );
    let shots = || {
        let mut shots = Vec::new();
        for (src, dst) in PEERS {
            let small = src.contains('.');
            for (tos, ttl, dropped) in [
                (46 << 2, 9, [true, true, false, small, true, false]),
                (0x10, 10, [false, false, false, small, false, true]),
                (0x11, 255, [false, true, true, small, false, true]),
            ] {
                for (dport, dropped) in (100..).zip(dropped) {
                    let shot =
                        with(arriving(src, dst, dport), |packet| (packet.tos, packet.ttl) = (Some(tos), Some(ttl)));
                    shots.push((shot, if dropped { Drop } else { Accept }));
                }
            }
        }
        shots
    };
    both_variants("header bytes", "", &[v4, v6], shots);
}
