//! What `hepguard diff` says two firewalls treat differently, packet by packet: both are loaded in turn, and the example of
//! each piece goes through both. Also a ruleset beside its own translation by iptables' tool.

use fastrand::Rng;
use hepguard::analysis::diff::{Part, Piece, Wanted, compare};
use hepguard::packet::{CtState, Direction, Family, Packet, Protocol, TcpFlags};

use crate::firewall::{self, Firewall};
use crate::harness::{in_namespace, tool};
use crate::judge::Listings;
use crate::lab::{Lab, Shot};
use crate::self_check::shot;
use crate::tun::PEER_MAC;

/// A filter table about the lab's hosts.
fn rules(rng: &mut Rng) -> Vec<String> {
    let mut lines: Vec<String> = ["*filter", ":INPUT DROP [0:0]", ":FORWARD DROP [0:0]", ":OUTPUT ACCEPT [0:0]"]
        .into_iter()
        .chain([":web - [0:0]"])
        .map(str::to_owned)
        .collect();
    for chain in ["INPUT", "FORWARD", "OUTPUT", "web"] {
        for _ in 0..6 {
            let mut rule = format!("-A {chain}");
            let (sources, destinations) = match chain {
                "OUTPUT" => (["10.0.1.10/32", "10.0.0.0/8"], ["198.51.100.9/32", "10.0.1.0/24"]),
                _ => (["203.0.113.0/24", "10.0.1.64/26"], ["192.168.7.0/24", "10.0.1.10/32"]),
            };
            if rng.bool() {
                rule += &format!(" -s {}", rng.choice(sources).expect("one"));
            }
            if rng.u8(0..3) == 0 {
                rule += &format!(" -d {}", rng.choice(destinations).expect("one"));
            }
            if rng.u8(0..4) == 0 && !["OUTPUT", "web"].contains(&chain) {
                rule += &format!(" -i {}", rng.choice(["ens5", "eth1", "cali+"]).expect("one"));
            }
            if rng.u8(0..3) > 0 {
                let port = rng.choice(["22", "53", "80:1024"]).expect("one");
                rule += &format!(" -p {} --dport {port}", rng.choice(["tcp", "udp"]).expect("one"));
            }
            let targets = ["ACCEPT", "ACCEPT", "DROP", "RETURN", "web"];
            let usable = if chain == "web" { 4 } else { 5 };
            rule += &format!(" -j {}", targets[rng.usize(..usable)]);
            lines.push(rule);
        }
    }
    lines
}

/// The same with some rules gone, swapped, turned round, or about another port.
fn changed(lines: &[String], rng: &mut Rng) -> Vec<String> {
    let mut lines = lines.to_vec();
    for _ in 0..3 {
        let at = rng.usize(5..lines.len() - 1);
        match rng.u8(..4) {
            0 => drop(lines.remove(at)),
            1 => lines[at] = lines[at].replace("--dport 22", "--dport 443").replace("-j ACCEPT", "-j DROP"),
            2 => lines[at] = lines[at].replace("-j DROP", "-j ACCEPT").replace("-j RETURN", "-j ACCEPT"),
            _ if lines[at][..6] == lines[at + 1][..6] => lines.swap(at, at + 1),
            _ => {}
        }
    }
    lines
}

fn text(lines: &[String]) -> [String; 2] {
    [lines.join("\n") + "\nCOMMIT\n", String::new()]
}

/// The packet as one that can be sent: a first packet of a protocol the lab speaks.
fn sendable(packet: &Packet) -> Option<Shot> {
    let ordinary = match packet.protocol {
        Protocol::TCP => packet.tcp_flags == TcpFlags::SYN,
        Protocol::UDP => true,
        Protocol::ICMP => packet.icmp == Some((8, 0)),
        Protocol::ICMPV6 => packet.icmp == Some((128, 0)),
        _ => false,
    };
    if !ordinary || packet.state != CtState::NEW {
        return None;
    }
    let (src, dst) = (packet.src.to_string(), packet.dst.to_string());
    let ports = (packet.sport.unwrap_or(0), packet.dport.unwrap_or(0));
    let mut shot = shot(packet.direction, packet.protocol, &src, &dst, ports.0, ports.1);
    shot.packet.iif.clone_from(&packet.iif);
    shot.packet.details.extensions.clone_from(&packet.details.extensions);
    shot.packet.details.source_mac = packet.details.source_mac;
    Some(shot)
}

/// Sends each packet through the firewall that is loaded; whether it passed.
fn passed(lab: &mut Lab, shots: &[Shot]) -> Vec<bool> {
    let mut all = Vec::new();
    for shot in shots {
        lab.reset_connections(std::slice::from_ref(shot)).expect("no old connections");
        all.push(lab.shoot(shot).expect("the probe works").passed());
    }
    all
}

/// Examples sent of what is gained, and of what is lost; and how many of them had extension headers.
fn replayed(before: &Firewall, after: &Firewall, family: Family) -> [usize; 3] {
    let mut lab = Lab::build().expect("a lab");
    before.load().expect("the rules load");
    let listed_before = Listings::read(firewall::list().expect("the rules are listed"));
    before.unload().expect("the rules go");
    after.load().expect("the other rules load");
    let listed_after = Listings::read(firewall::list().expect("the rules are listed"));
    let wanted = Wanted { families: vec![family], ..Wanted::default() };
    let diff = compare(listed_before.snapshot(), listed_after.snapshot(), &wanted);
    let (mut shots, mut gained) = (Vec::new(), Vec::new());
    for part in &diff.parts {
        let changes = part.changes.as_ref().expect("small");
        // what stays undecided is told as such, and nothing is claimed of it
        for (pieces, gains) in [(&changes.gained, true), (&changes.lost, false)] {
            let witness = |piece: &Piece| piece.witness.as_ref().and_then(sendable);
            for shot in pieces.iter().filter_map(witness) {
                shots.push(shot);
                gained.push(gains);
            }
        }
    }
    lab.open_eyes().expect("the probe loads");
    let with_after = passed(&mut lab, &shots);
    lab.close_eyes().expect("the probe goes");
    after.unload().expect("the rules go");
    before.load().expect("the rules load again");
    lab.open_eyes().expect("the probe loads");
    let with_before = passed(&mut lab, &shots);
    let mut sent = [0; 3];
    for (((shot, gains), was), is) in shots.iter().zip(gained).zip(with_before).zip(with_after) {
        let told =
            || format!("{:?}\n-- before --\n{}\n-- after --\n{}", shot.packet, before.describe(), after.describe());
        assert_eq!((was, is), (!gains, gains), "{}", told());
        sent[usize::from(!gains)] += 1;
        let headers = shot.packet.details.extensions.as_deref().unwrap_or_default();
        sent[2] += usize::from(!headers.is_empty());
    }
    sent
}

#[test]
fn examples_of_what_differs_pass_one_firewall_and_not_the_other() {
    let mut all = [0; 2];
    for seed in 0..32 {
        let mut rng = Rng::with_seed(seed);
        let old = rules(&mut rng);
        let new = changed(&old, &mut rng);
        let of = |lines: &[String]| match seed % 2 {
            0 => Firewall { legacy: text(lines), ..Firewall::default() },
            _ => Firewall { xtables_nft: text(lines), ..Firewall::default() },
        };
        let (before, after) = (of(&old), of(&new));
        in_namespace("diff", || {
            let sent = replayed(&before, &after, Family::Ipv4);
            println!("diff, seed {seed}: {} gained and {} lost packets went as told", sent[0], sent[1]);
            all = [all[0] + sent[0], all[1] + sent[1]];
        });
    }
    if all != [0; 2] {
        assert!(all.iter().all(|count| *count > 5), "both kinds: {all:?}");
    }
}

/// A table about protocols and what the IPv6 header says comes next.
fn native6(rng: &mut Rng) -> Firewall {
    let mut text = "table ip6 t {\n".to_owned();
    for (hook, policy) in [("input", "drop"), ("forward", "accept"), ("output", "accept")] {
        text += &format!("chain {hook} {{\ntype filter hook {hook} priority 0; policy {policy};\n");
        for _ in 0..4 {
            let mut rule = String::new();
            for _ in 0..rng.usize(1..3) {
                rule += match rng.u8(..8) {
                    0 => "ip6 nexthdr 6 ",
                    1 => "ip6 nexthdr { 0, 6, 58 } ",
                    2 => "ip6 nexthdr != 17 ",
                    3 => "ip6 nexthdr { 0, 43, 60 } ",
                    4 => "exthdr hbh missing ",
                    5 => "ip6 daddr fd00:1::/64 ",
                    _ => rng.choice(["meta l4proto 6 ", "meta l4proto { 6, 17 } ", "meta l4proto 58 "]).expect("one"),
                };
            }
            text += &format!("{rule}{}\n", rng.choice(["accept", "drop"]).expect("one"));
        }
        text += "}\n";
    }
    Firewall { nft: text + "}\n", ..Firewall::default() }
}

#[test]
fn examples_with_extension_headers_pass_one_firewall_and_not_the_other() {
    let mut all = [0; 3];
    for seed in 0..10 {
        let mut rng = Rng::with_seed(seed);
        let (before, after) = (native6(&mut rng), native6(&mut rng));
        in_namespace("diff of extension headers", || {
            let sent = replayed(&before, &after, Family::Ipv6);
            all = [0, 1, 2].map(|at| all[at] + sent[at]);
        });
    }
    println!(
        "diff of IPv6: {} gained, {} lost packets went as told, {} with extension headers",
        all[0], all[1], all[2]
    );
    if all != [0; 3] {
        assert!(all.iter().all(|count| *count > 20), "all kinds: {all:?}");
    }
}

/// A list of devices, as offices keep it, with that of the lab's peer or without.
fn devices(with_peer: bool) -> Firewall {
    let mut text = "*filter\n:INPUT DROP [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n".to_owned();
    for number in 0u32..3000 {
        let [_, _, c, d] = number.to_be_bytes();
        text += &format!("-A INPUT -m mac --mac-source 02:aa:00:00:{c:02x}:{d:02x} -j ACCEPT\n");
    }
    if with_peer {
        let mac = PEER_MAC.map(|byte| format!("{byte:02x}")).join(":");
        text += &format!("-A INPUT -p udp -m mac --mac-source {mac} -j ACCEPT\n");
    }
    Firewall { legacy: [text + "COMMIT\n", String::new()], ..Firewall::default() }
}

#[test]
fn one_link_layer_address_of_thousands_is_the_difference() {
    in_namespace("thousands of link-layer addresses", || {
        let mut lab = Lab::build().expect("a lab");
        lab.attach_ethernet("wlan0", "10.99.0.1/24").expect("an Ethernet device");
        let (before, after) = (devices(true), devices(false));
        before.load().expect("the rules load");
        let listed_before = Listings::read(firewall::list().expect("the rules are listed"));
        after.load().expect("the other rules load");
        let listed_after = Listings::read(firewall::list().expect("the rules are listed"));
        let wanted = Wanted { families: vec![Family::Ipv4], ways: vec![Direction::In], ..Wanted::default() };
        let diff = compare(listed_before.snapshot(), listed_after.snapshot(), &wanted);
        let [Part { changes: Ok(changes), .. }] = diff.parts.as_slice() else { panic!("{diff:?}") };
        assert!(changes.gained.is_empty() && changes.undecided.is_empty(), "{changes:#?}");
        let witness = |piece: &Piece| piece.witness.as_ref().and_then(sendable);
        let shots: Vec<Shot> = changes.lost.iter().filter_map(witness).collect();
        assert!(!shots.is_empty(), "{changes:#?}");
        for shot in &shots {
            assert_eq!((shot.packet.iif.as_deref(), shot.packet.details.source_mac), (Some("wlan0"), Some(PEER_MAC)));
        }
        for (firewall, passes) in [(&before, true), (&after, false)] {
            firewall.load().expect("the rules load");
            lab.open_eyes().expect("the probe loads");
            assert!(passed(&mut lab, &shots).iter().all(|passed| *passed == passes), "{shots:?}");
            lab.close_eyes().expect("the probe goes");
        }
    });
}

/// What people write by hand; limits are open conditions that both spellings share. (The lab's devices are no Ethernet, so no
/// packet has a link-layer address.)
const TRANSLATED: &str = "*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:admin - [0:0]
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -m conntrack --ctstate INVALID -j DROP
-A INPUT -i lo -j ACCEPT
-A INPUT -s 10.0.0.0/8 ! -d 10.0.1.99/32 -p tcp -m tcp --dport 22 -j admin
-A INPUT -p tcp -m multiport --dports 80,443,8000:8080 -j ACCEPT
-A INPUT -p udp -m udp --sport 67:68 --dport 67:68 -j ACCEPT
-A INPUT -p icmp -m icmp --icmp-type 8 -j ACCEPT
-A INPUT -p udp -m udp --dport 123 -m limit --limit 5/min -j ACCEPT
-A INPUT -p udp -m udp --dport 124 -m limit --limit 30/sec --limit-burst 9 -j ACCEPT
-A INPUT -p tcp -m tcp --dport 8443 -m mac --mac-source 02:00:00:00:00:07 -j ACCEPT
-A INPUT -p tcp -m tcp --dport 9443 -m mac ! --mac-source 02:00:00:00:00:08 -j ACCEPT
-A INPUT -p tcp -m tcp --dport 113 -j REJECT --reject-with tcp-reset
-A FORWARD -i eth1 -o ens5 -m iprange --src-range 192.168.7.10-192.168.7.99 -j ACCEPT
-A FORWARD ! -i eth1 -m mark --mark 0x1/0xff -j ACCEPT
-A FORWARD -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -d 172.17.0.0/16 -j ACCEPT
-A OUTPUT -m owner --uid-owner 1000 -d 203.0.113.0/24 -j DROP
-A admin -s 10.9.0.0/16 -j RETURN
-A admin -j ACCEPT
COMMIT
";

/// A table that keeps counts in each way that has an nft spelling.
const COUNTED: &str = "*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT -p tcp -m tcp --dport 22 -m hashlimit --hashlimit-above 5/min --hashlimit-burst 8 --hashlimit-mode srcip --hashlimit-name ssh -j DROP
-A INPUT -p tcp -m tcp --dport 23 -m hashlimit --hashlimit-upto 7/hour --hashlimit-mode srcip,dstport --hashlimit-name two -j ACCEPT
-A INPUT -p tcp -m hashlimit --hashlimit-upto 5/sec --hashlimit-burst 5 --hashlimit-mode srcip --hashlimit-srcmask 24 --hashlimit-name a -j ACCEPT
-A INPUT -p udp -m hashlimit --hashlimit-above 1mb/s --hashlimit-mode dstip --hashlimit-name b -j DROP
-A INPUT -p tcp -m tcp --dport 80 -m connlimit --connlimit-above 10 -j REJECT
-A INPUT -p tcp -m connlimit --connlimit-upto 11 --connlimit-mask 24 -j ACCEPT
-A INPUT -p udp -m connlimit --connlimit-above 12 --connlimit-daddr -j DROP
-A INPUT -p icmp -m statistic --mode random --probability 0.33 -j DROP
-A INPUT -p icmp -m statistic --mode random ! --probability 0.25 -j ACCEPT
-A INPUT -p udp -m statistic --mode nth --every 3 --packet 0 -j DROP
-A INPUT -p udp -m statistic --mode nth ! --every 4 --packet 1 -j ACCEPT
-A INPUT -s 10.0.0.0/8 -p tcp -m tcp --dport 22 -j ACCEPT
COMMIT
";

/// A ruleset's listing, and iptables' own translation of it.
fn translated(rules: &str) -> (Listings, String) {
    let legacy = Firewall { legacy: [rules.to_owned(), String::new()], ..Firewall::default() };
    // removal leaves empty tables, and with one for NAT errors about translated connections are another question
    legacy.unload().expect("there are all tables");
    legacy.load().expect("the rules load");
    let before = Listings::read(firewall::list().expect("the rules are listed"));
    legacy.unload().expect("the rules go");
    let translated = tool("iptables-restore-translate", &["-f", "/dev/stdin"], rules).expect("iptables translates");
    (before, String::from_utf8(translated).expect("UTF-8"))
}

/// The ways on which a script differs from a ruleset, those on which that cannot be decided, and all of it in words.
fn differences(before: &Listings, script: &str) -> (Vec<Direction>, Vec<Direction>, String) {
    let native = Firewall { nft: script.to_owned(), ..Firewall::default() };
    native.load().unwrap_or_else(|error| panic!("{error}\n{script}"));
    let after = Listings::read(firewall::list().expect("the rules are listed"));
    native.unload().expect("the rules go");
    let wanted = Wanted { families: vec![Family::Ipv4], ..Wanted::default() };
    let diff = compare(before.snapshot(), after.snapshot(), &wanted);
    let ways: Vec<Direction> = diff.parts.iter().filter(|part| part.is_different()).map(|part| part.way).collect();
    let open = |part: &&Part| part.changes.as_ref().is_ok_and(|changes| !changes.undecided.is_empty());
    let undecided: Vec<Direction> = diff.parts.iter().filter(open).map(|part| part.way).collect();
    (ways, undecided, format!("{diff:#?}\n{script}"))
}

#[test]
fn counts_by_key_connection_limits_and_dice_are_the_same_in_their_translation() {
    in_namespace("translation of counts", || {
        let _lab = Lab::build().expect("a lab");
        let (before, script) = translated(COUNTED);
        let (ways, undecided, told) = differences(&before, &script);
        assert!(ways.is_empty() && undecided.is_empty(), "{told}");
        for (from, to) in [
            ("over 5/minute", "over 6/minute"),
            ("burst 8", "burst 9"),
            ("timeout 60s", "timeout 61s"),
            ("meter ssh { ip saddr", "meter ssh { ip daddr"),
            ("tcp dport . ip saddr", "ip saddr"),
            ("255.255.255.0 limit", "255.255.0.0 limit"),
            ("1 mbytes", "2 mbytes"),
            ("ct count over 10", "ct count 10"),
            ("ct count 11", "ct count 13"),
            ("@connlimit2 { ip daddr", "@connlimit2 { ip saddr"),
            // one set for two rules
            ("@connlimit2", "@connlimit0"),
            ("< 708669604", "< 708669605"),
            (">= 536870912", "< 536870912"),
            ("mod 3 0", "mod 3 1"),
            ("mod 4 != 1", "mod 5 != 1"),
        ] {
            let changed = script.replace(from, to);
            assert_ne!(changed, script, "{from}");
            let (ways, undecided, told) = differences(&before, &changed);
            assert!(ways.is_empty() && undecided.contains(&Direction::In), "{from}: {told}");
        }
        // what has no translation is left out of it, and said to be open
        let recent = COUNTED
            .replace("-A INPUT -s", "-A INPUT -p tcp -m recent --name x --update --seconds 60 -j DROP\n-A INPUT -s");
        let (before, script) = translated(&recent);
        assert!(script.contains("# -t filter -A INPUT -p tcp -m recent"), "{script}");
        let (ways, undecided, told) = differences(&before, &script);
        assert!(ways.is_empty() && undecided.contains(&Direction::In) && told.contains("-m recent"), "{told}");
    });
}

#[test]
fn a_ruleset_and_its_translation_by_iptables_own_tool_are_equal() {
    in_namespace("translation", || {
        let _lab = Lab::build().expect("a lab");
        let (before, script) = translated(TRANSLATED);
        assert!(script.contains("add rule ip filter admin"), "{script}");
        let differences = |script: &str| differences(&before, script);
        let (ways, undecided, told) = differences(&script);
        assert!(ways.is_empty() && !undecided.contains(&Direction::In), "{told}");
        // another limit: it hangs on both
        for (from, to) in [("limit rate 5/minute", "limit rate 6/minute"), ("burst 9", "burst 8")] {
            let (ways, undecided, told) = differences(&script.replace(from, to));
            assert!(ways.is_empty() && undecided.contains(&Direction::In), "{from}: {told}");
        }
        // a difference of one port is seen through the other spelling
        let (ways, _, told) = differences(&script.replace("dport 113", "dport 114"));
        assert!(ways.is_empty(), "a refusal of what is dropped anyway: {told}");
        let (ways, _, told) = differences(&script.replace("192.168.7.99", "192.168.7.98"));
        assert!(ways == [Direction::Forward], "{told}");
    });
}
