//! Link-layer addresses, thousands of them, in what two snapshots treat differently.

use fastrand::Rng;
use hepguard::analysis::diff::{Changes, Piece, Values, Wanted, compare};
use hepguard::files::FileState;
use hepguard::packet::{Direction, Family, Packet, PacketType, Protocol};
use hepguard::ruleset::Interval;
use hepguard::snapshot::{self, Snapshot};
use hepguard::space::Dimension;

use crate::against_trace::read;
use crate::diff::{among, judge, mac_number, whole};

/// On a host whose devices are Ethernet's, which the others of these tests are not.
fn on_ethernet(name: &str, text: &str) -> Snapshot {
    let mut files = std::mem::take(&mut read("", &[(name, text)]).files);
    let addresses = include_str!("host/ip-addr.json").replace(r#""link_type":"none""#, r#""link_type":"ether""#);
    files.files.insert("ip-addr.json".to_owned(), FileState::Present(addresses.into_bytes()));
    snapshot::read(files)
}

/// As many as an office with its phones has.
const DEVICES: u32 = 3000;

fn mac(number: u32) -> String {
    let [a, b, c, d] = number.to_be_bytes();
    format!("02:1f:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

fn of_iptables(rules: impl Iterator<Item = String>) -> Snapshot {
    let head = "*filter\n:INPUT DROP [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n:known - [0:0]\n";
    let tail = "-A FORWARD -i eth1 -j known\n-A INPUT -p tcp -m tcp --dport 22 -j known\nCOMMIT\n";
    on_ethernet("iptables-save.txt", &(head.to_owned() + &rules.collect::<String>() + tail))
}

fn accept(number: u32) -> String {
    format!("-A known -m mac --mac-source {} -j ACCEPT\n", mac(number * 7))
}

/// The same as one nft set.
fn of_nft(numbers: impl Iterator<Item = u32>) -> Snapshot {
    let all: Vec<String> = numbers.map(|number| format!("\"{}\"", mac(number * 7))).collect();
    let table = |text: &str| text.replace('@', r#""family":"ip","table":"filter","#);
    let matching = |left: &str, right: &str| format!(r#"{{"match":{{"op":"==","left":{left},"right":{right}}}}}"#);
    let payload =
        |protocol: &str, field: &str| format!(r#"{{"payload":{{"protocol":"{protocol}","field":"{field}"}}}}"#);
    let known = matching(&payload("ether", "saddr"), "\"\\u0040known\"");
    let ssh = matching(&payload("tcp", "dport"), "22");
    let inside = matching(r#"{"meta":{"key":"iifname"}}"#, r#""eth1""#);
    let text = format!(
        r#"{{"nftables":[{{"table":{{"family":"ip","name":"filter"}}}},
{{"set":{{@"name":"known","type":"ether_addr","elem":[{}]}}}},
{{"chain":{{@"name":"INPUT","type":"filter","hook":"input","prio":0,"policy":"drop"}}}},
{{"chain":{{@"name":"FORWARD","type":"filter","hook":"forward","prio":0,"policy":"drop"}}}},
{{"rule":{{@"chain":"INPUT","expr":[{ssh},{known},{{"accept":null}}]}}}},
{{"rule":{{@"chain":"FORWARD","expr":[{inside},{known},{{"accept":null}}]}}}}]}}"#,
        all.join(",")
    );
    on_ethernet("nft-ruleset.json", &table(&text))
}

fn changes(before: &Snapshot, after: &Snapshot) -> Vec<(Direction, Changes)> {
    let diff = compare(before, after, &Wanted { families: vec![Family::Ipv4], ..whole() });
    diff.parts.into_iter().map(|part| (part.way, part.changes.expect("room"))).collect()
}

/// The one link-layer address a piece is about.
fn address(piece: &Piece) -> u128 {
    let fields = piece.lines.iter().flat_map(|line| &line.fields);
    let mut links: Vec<&Values> = fields
        .filter(|field| field.dimension == Dimension::SourceLink && !field.except)
        .map(|field| &field.values)
        .collect();
    assert_eq!(links.len(), piece.lines.len(), "{piece:#?}");
    links.dedup();
    let [Values::Numbers(intervals, false)] = links.as_slice() else { panic!("{piece:#?}") };
    let [Interval { low, high }] = intervals.as_slice() else { panic!("{piece:#?}") };
    assert_eq!(low, high);
    assert_eq!(mac_number(piece.witness.as_ref().expect("one").details.source_mac), *low);
    *low
}

#[test]
fn thousands_of_link_layer_addresses_are_compared_exactly() {
    let straight = of_iptables((0..DEVICES).map(accept));
    let turned = of_iptables((0..DEVICES).rev().map(accept));
    let set = of_nft(0..DEVICES);
    for other in [&turned, &set] {
        for (way, found) in changes(&straight, other) {
            assert!(found.is_empty(), "{way:?}: {:?} {:?} {:?}", found.gained.len(), found.lost.len(), found.undecided);
        }
    }
    // one that has gone, and one that has come
    let other = of_nft((0..DEVICES).filter(|number| *number != 1234).chain([9999]));
    let number = |number: u32| 0x021f_0000_0000 + u128::from(number * 7);
    for (way, found) in changes(&straight, &other) {
        assert!(found.undecided.is_empty(), "{way:?}: {:#?}", found.undecided);
        let [gained, lost] = [&found.gained, &found.lost].map(|pieces| pieces.iter().map(address).collect::<Vec<_>>());
        match way {
            Direction::Out => assert!(gained.is_empty() && lost.is_empty()),
            _ => assert!(
                gained.iter().all(|one| *one == number(9999))
                    && lost.iter().all(|one| *one == number(1234))
                    && !gained.is_empty()
                    && !lost.is_empty(),
                "{way:?}: {gained:x?} {lost:x?}"
            ),
        }
        for (pieces, was, is) in
            [(&found.gained, (false, true), (true, false)), (&found.lost, (true, false), (false, true))]
        {
            for packet in pieces.iter().filter_map(|piece| piece.witness.as_ref()) {
                assert_eq!((judge(&straight, packet), judge(&other, packet)), (Some(was), Some(is)), "{packet:?}");
            }
        }
    }
}

/// Rules about a few of them, single and in lists, beside other conditions.
fn drawn(rng: &mut Rng) -> Snapshot {
    let mut rules = Vec::new();
    for _ in 0..8 {
        let mut rule = "-A known".to_owned();
        if rng.bool() {
            rule += &format!(" -s 192.168.7.{}/31", rng.u8(76..80));
        }
        if rng.u8(..4) > 0 {
            rule += &format!(" -m mac {}--mac-source {}", if rng.u8(..4) == 0 { "! " } else { "" }, mac(rng.u32(..4)));
        }
        if rng.u8(..4) == 0 {
            rule += " -p udp";
        }
        rules.push(format!("{rule} -j {}\n", ["ACCEPT", "DROP", "RETURN"][rng.usize(..3)]));
    }
    of_iptables(rules.into_iter())
}

#[test]
fn what_differs_about_link_layer_addresses_is_what_traces_say() {
    let (mut gained, mut lost, mut same) = (0, 0, 0);
    for seed in 0..40 {
        let mut rng = Rng::with_seed(seed);
        let (before, after) = (drawn(&mut rng), drawn(&mut rng));
        let found = changes(&before, &after);
        for number in 0..5 {
            for (source, dst, protocol) in (75..80)
                .flat_map(|last| ["192.168.7.10", "10.0.1.77"].map(|dst| (last, dst)))
                .flat_map(|(last, dst)| [Protocol::TCP, Protocol::UDP].map(|protocol| (last, dst, protocol)))
            {
                let src = format!("192.168.7.{source}").parse().expect("an address");
                let dst: std::net::IpAddr = dst.parse().expect("an address");
                let way = if dst.to_string() == "192.168.7.10" { Direction::In } else { Direction::Forward };
                let mut packet = Packet::first(way, protocol, (src, 40_000), (dst, 22));
                packet.iif = Some("eth1".into());
                packet.oif = (way == Direction::Forward).then(|| "ens5".into());
                (packet.ttl, packet.tos, packet.length) = (Some(64), Some(0), Some(60));
                packet.packet_type = Some(PacketType::Host);
                let [a, b, c, d] = u32::to_be_bytes(number);
                packet.details.source_mac = Some([2, 0x1f, a, b, c, d]);
                packet.details.destination_mac = Some([2, 0, 0, 0, 0, 1]);
                let (Some(was), Some(is)) = (judge(&before, &packet), judge(&after, &packet)) else { continue };
                let (_, changes) = found.iter().find(|(one, _)| *one == way).expect("its part");
                assert!(changes.undecided.is_empty(), "seed {seed}: {:#?}", changes.undecided);
                let told = (among(&changes.gained, &packet), among(&changes.lost, &packet));
                let wanted = (was == (false, true) && is == (true, false), was == (true, false) && is == (false, true));
                assert_eq!(told, wanted, "seed {seed}: {was:?} {is:?} {packet:?}\n{changes:#?}");
                gained += usize::from(told.0);
                lost += usize::from(told.1);
                same += usize::from(told == (false, false));
            }
        }
    }
    assert!(gained > 100 && lost > 100 && same > 100, "{gained} {lost} {same}");
}

#[test]
fn hundreds_of_link_layer_addresses_are_one_condition_each_in_both_rulesets() {
    let guard = |address: u32| {
        let mac = format!("02:00:00:00:{:02x}:{:02x}", address >> 8, address & 255);
        format!("-A INPUT -s 10.0.{}.{}/32 -m mac --mac-source {mac} -j guarded\n", address >> 8, address & 255)
    };
    let listing = |rules: String| {
        let head = "*filter\n:INPUT DROP [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n:guarded - [0:0]\n";
        format!("{head}{rules}-A guarded -p tcp -m tcp --dport 22 -j ACCEPT\nCOMMIT\n")
    };
    let all: Vec<u32> = (1..=300).collect();
    let straight = listing(all.iter().map(|address| guard(*address)).collect());
    let turned = listing(all.iter().rev().map(|address| guard(*address)).collect());
    let twice = listing(all.iter().chain(&all).map(|address| guard(*address)).collect());
    // of the devices nothing is known: packets may have such addresses
    let of_unknown = |before: &str, after: &str| {
        let [before, after] = [before, after].map(|text| {
            let mut files = hepguard::files::SnapshotFiles::default();
            let state = hepguard::files::FileState::Present(text.as_bytes().to_vec());
            files.files.insert("iptables-save.txt".to_owned(), state);
            hepguard::snapshot::read(files)
        });
        compare(&before, &after, &Wanted { families: vec![Family::Ipv4], ..whole() })
    };
    for other in [turned, twice] {
        let diff = of_unknown(&straight, &other);
        assert!(diff.parts.iter().all(|part| part.changes.as_ref().expect("room").is_empty()), "{diff:#?}");
    }
    let one_less = listing(all.iter().skip(1).map(|address| guard(*address)).collect());
    let diff = of_unknown(&straight, &one_less);
    let input = diff.parts.iter().find(|part| part.way == Direction::In).expect("it");
    let changes = input.changes.as_ref().expect("room");
    assert!(changes.gained.is_empty() && changes.lost.is_empty(), "{input:#?}");
    let sources = changes.undecided.iter().flat_map(|piece| &piece.lines).flat_map(|line| &line.fields);
    let sources: Vec<&Values> =
        sources.filter(|field| field.dimension == Dimension::Source).map(|field| &field.values).collect();
    let only = |values: &&Values| match values {
        Values::Prefixes(list) => list.items.iter().all(|prefix| prefix.to_string() == "10.0.0.1/32"),
        _ => false,
    };
    assert!(!sources.is_empty() && sources.iter().all(only), "{input:#?}");
}
