//! The path outside the rules: what the kernel itself does with a packet, under settings, routes and addresses of every
//! kind. Each packet is sent for real, and what became of it is compared with what the library says.
//!
//! Where a packet leaves is told by its fate, too: ports 101 to 104 are refused on one interface each.

use std::net::IpAddr;

use hepguard::analysis::trace::TraceVerdict::{self, Accept, Drop, Reject};
use hepguard::packet::{Direction, Packet, Protocol};

use crate::firewall::{self, Firewall};
use crate::harness::{in_namespace, sysctl, tool};
use crate::judge::{Judgement, Listings};
use crate::lab::{DEVICES, Lab, Outcome, Shot};
use crate::self_check::shot;

/// A host and what is sent to it.
#[derive(Default)]
struct Scene {
    /// Lines of `ip -batch` and `ip -6 -batch`, on top of the lab's.
    routing: [&'static str; 2],
    /// Settings by path below `net`, on top of the lab's; `*` as a device stands for all of them.
    settings: Vec<(String, &'static str)>,
    /// Makes an Ethernet device `port0`, a port of the bridge `br0`, which has 10.99.0.1/24.
    bridged: bool,
    /// A table of nft on top.
    nft: &'static str,
    shots: Vec<Shot>,
}

/// Figures of one scene.
#[derive(Default, Debug)]
struct Counts {
    passed: usize,
    stopped: usize,
    unknown: usize,
}

/// Refuses, where packets leave, port 101 on the first interface, 102 on the second and so on.
fn by_interface(more: &str) -> Firewall {
    let mut nft = "table inet t {\nchain o { type filter hook postrouting priority 0;\n".to_owned();
    for (port, device) in (101..).zip(DEVICES) {
        nft += &format!("oifname {device} udp dport {port} drop\n");
    }
    nft += "}\n}\n";
    nft += more;
    Firewall { nft, ..Firewall::default() }
}

fn udp(direction: Direction, src: &str, dst: &str, dport: u16) -> Shot {
    shot(direction, Protocol::UDP, src, dst, 40_000, dport)
}

fn with(mut shot: Shot, change: impl Fn(&mut Packet)) -> Shot {
    change(&mut shot.packet);
    shot
}

fn from(device: &str, src: &str, dst: &str) -> Shot {
    with(udp(Direction::In, src, dst, 100), |packet| packet.iif = Some(device.into()))
}

/// One packet for each interface it could leave by, and one that is refused nowhere.
fn every_way(shot: &Shot) -> impl Iterator<Item = Shot> {
    (100..105).map(|port| with(shot.clone(), |packet| packet.dport = Some(port)))
}

const BRIDGE: &str = "link add br0 type bridge\nlink set port0 master br0\nlink set br0 up\naddr flush dev port0\n\
    addr add 10.99.0.1/24 dev br0\n";

fn settle(scene: &Scene) {
    for (family, lines) in [&[][..], &["-6"]].into_iter().zip(scene.routing) {
        if !lines.is_empty() {
            tool("ip", &[family, &["-batch", "-"]].concat(), lines).expect("routing");
        }
    }
    for (path, value) in &scene.settings {
        let devices: &[&str] = if path.contains('*') { &DEVICES } else { &["*"] };
        for device in devices {
            sysctl(&format!("net/{}", path.replace('*', device)), value).expect("setting");
        }
    }
}

/// Sends everything and compares. Certain answers must be right; `check` sees each answer.
fn play(name: &str, scene: &Scene, mut check: impl FnMut(&Shot, TraceVerdict, &Judgement, &str)) -> Counts {
    let mut lab = Lab::build().expect("a lab");
    if scene.bridged {
        lab.attach_ethernet("port0", "10.99.1.1/32").expect("an Ethernet device");
        tool("ip", &["-batch", "-"], BRIDGE).expect("a bridge");
    }
    settle(scene);
    by_interface(scene.nft).load().expect("rules load");
    let listings = Listings::read(firewall::list().expect("a listing"));
    let judge = listings.judge();
    lab.open_eyes().expect("the probe loads");
    let mut counts = Counts::default();
    let mut wrong = Vec::new();
    for shot in &scene.shots {
        lab.reset_connections(&[]).expect("no connections");
        let outcome = lab.shoot(shot).expect("the probe works");
        let kernel = match outcome {
            Outcome::Passed(_) | Outcome::Doubled => Accept,
            Outcome::Stopped(Some(_)) => Reject,
            Outcome::Stopped(None) => Drop,
            Outcome::Refused(nix::Error::EINVAL) => Drop,
            Outcome::Refused(_) => Reject,
        };
        let judgement = judge.judge(&shot.packet);
        let possible = match kernel {
            Accept => judgement.may_pass,
            Reject => judgement.may_reject,
            // an answer that finds no way back is not seen
            _ => judgement.may_stop,
        };
        let unknown = judgement.may_pass && judgement.may_stop;
        counts.unknown += usize::from(unknown);
        *(if kernel == Accept { &mut counts.passed } else { &mut counts.stopped }) += 1;
        let story = || format!("{outcome:?}\n{:?}\n{}", shot.packet, judge.explain(&shot.packet));
        if !possible {
            wrong.push(story());
        }
        check(shot, kernel, &judgement, &story());
    }
    by_interface(scene.nft).unload().expect("rules unload");
    assert!(
        wrong.is_empty(),
        "{name}: {} of {} wrong\n{:?}\n{}\n{}",
        wrong.len(),
        scene.shots.len(),
        scene.settings,
        wrong.iter().take(3).cloned().collect::<String>(),
        listings.remarks()
    );
    counts
}

/// Everything the scene sends is decided.
fn decided(name: &str, scene: &Scene) {
    in_namespace(name, || {
        let counts = play(name, scene, |shot, _, judgement, story| {
            // kernels differ
            let old = [shot.packet.src, shot.packet.dst].contains(&IpAddr::from([0, 1, 2, 3]));
            assert!(old || !(judgement.may_pass && judgement.may_stop), "{name}: undecided: {story}");
        });
        println!("{name}: {counts:?}");
        assert!(counts.passed > 0 && counts.stopped > 0, "{name}: one-sided: {counts:?}");
    });
}

/// Sources and destinations of every kind, IPv4.
const SOURCES4: [&str; 16] = [
    "10.0.1.77",
    "192.168.7.77",
    "172.17.0.9",
    "10.65.0.2",
    "9.9.9.9",
    "10.0.1.10",
    "192.168.7.10",
    "10.0.1.255",
    "10.20.3.4",
    "203.0.113.200",
    "0.0.0.0",
    "0.1.2.3",
    "127.0.0.1",
    "127.9.9.9",
    "224.0.0.5",
    "255.255.255.255",
];
const DESTINATIONS4: [&str; 16] = [
    "10.0.1.10",
    "192.168.7.10",
    "10.20.3.4",
    "10.0.1.255",
    "255.255.255.255",
    "224.0.0.1",
    "224.0.0.77",
    "239.1.2.3",
    "127.0.0.1",
    "0.0.0.0",
    "0.1.2.3",
    "240.0.0.9",
    "198.51.100.9",
    "10.0.1.99",
    "203.0.113.200",
    "172.17.0.9",
];
const SOURCES6: [&str; 11] = [
    "fd00:1::77",
    "fd00:7::77",
    "2001:db8::7",
    "fd00:1::10",
    "fd00:20::5",
    "::",
    "::1",
    "fe80::77",
    "ff02::1",
    "::ffff:10.0.1.77",
    "fd00:bad::1",
];
const DESTINATIONS6: [&str; 16] = [
    "fd00:1::10",
    "fd00:7::10",
    "fd00:20::5",
    "fd00:1::",
    "fd00:51::9",
    "2001:db8::99",
    "fd00:1::99",
    "fd00:dead::1",
    "ff02::1",
    "ff02::1:ff00:10",
    "ff02::1:ff00:9999",
    "ff02::5",
    "ff01::1",
    "ff00::5",
    "::1",
    "fe80::10",
];

fn grid(sources: &[&str], destinations: &[&str], devices: &[&str]) -> Vec<Shot> {
    let mut shots = Vec::new();
    for device in devices {
        for src in sources {
            shots.extend(destinations.iter().map(|dst| from(device, src, dst)));
        }
    }
    shots
}

fn setting(path: &str, value: &'static str) -> (String, &'static str) {
    (path.to_owned(), value)
}

#[test]
fn ipv4_sources_and_destinations_of_every_kind_under_every_setting() {
    const DEAD_END: &str = "route add unreachable 240.0.0.0/24\nroute add prohibit 203.0.113.0/25\n";
    let settings: [&[(&str, &'static str)]; 10] = [
        &[("ipv4/conf/all/accept_local", "0"), ("ipv4/conf/*/accept_local", "0")],
        &[("ipv4/conf/all/accept_local", "0"), ("ipv4/conf/*/accept_local", "0"), ("ipv4/conf/all/rp_filter", "1")],
        &[("ipv4/conf/all/rp_filter", "1")],
        &[("ipv4/conf/ens5/rp_filter", "1"), ("ipv4/conf/eth1/rp_filter", "2")],
        &[("ipv4/conf/all/rp_filter", "2"), ("ipv4/conf/ens5/rp_filter", "1")],
        &[("ipv4/conf/*/route_localnet", "1"), ("ipv4/conf/all/rp_filter", "2")],
        &[("ipv4/ip_forward", "0"), ("ipv4/conf/all/accept_local", "0"), ("ipv4/conf/ens5/accept_local", "0")],
        &[("ipv4/conf/ens5/forwarding", "0")],
        &[("ipv4/conf/all/send_redirects", "1"), ("ipv4/conf/all/accept_local", "0")],
        &[("ipv4/conf/all/bc_forwarding", "1"), ("ipv4/conf/*/bc_forwarding", "1")],
    ];
    for (number, settings) in settings.iter().enumerate() {
        let settings = settings.iter().map(|(path, value)| setting(path, value)).collect();
        let shots = grid(&SOURCES4, &DESTINATIONS4, &["ens5", "eth1", "cali0a1b2c3d4e5"]);
        decided(
            &format!("IPv4 grid {number}"),
            &Scene { routing: [DEAD_END, ""], settings, shots, ..Scene::default() },
        );
    }
}

#[test]
fn ipv6_sources_and_destinations_of_every_kind_under_every_setting() {
    const DEAD_END: &str = "route add unreachable fd00:dead::/64\nroute add blackhole 2001:db8:1::/64\n";
    let settings: [&[(&str, &'static str)]; 3] =
        [&[], &[("ipv6/conf/all/forwarding", "0")], &[("ipv6/conf/eth1/disable_ipv6", "1")]];
    for (number, settings) in settings.iter().enumerate() {
        let settings = settings.iter().map(|(path, value)| setting(path, value)).collect();
        let shots = grid(&SOURCES6, &DESTINATIONS6, &["ens5", "eth1"]);
        decided(
            &format!("IPv6 grid {number}"),
            &Scene { routing: ["", DEAD_END], settings, shots, ..Scene::default() },
        );
    }
}

#[test]
fn sources_of_redirected_packets_are_looked_at_too() {
    const REDIRECT: &str =
        "table ip r {\nchain p { type nat hook prerouting priority -100;\nudp dport 100 redirect to :5353\n}\n}\n";
    for rp_filter in ["0", "1", "2"] {
        let settings = vec![setting("ipv4/conf/all/rp_filter", rp_filter), setting("ipv4/conf/*/accept_local", "0")];
        let shots = grid(&SOURCES4, &["10.0.1.10", "192.168.7.10", "198.51.100.9"], &["ens5", "eth1"]);
        let scene = Scene { settings, shots, nft: REDIRECT, ..Scene::default() };
        decided(&format!("redirect, rp_filter {rp_filter}"), &scene);
    }
}

#[test]
fn a_hop_limit_is_used_up_by_forwarding_only() {
    let mut shots = Vec::new();
    for (src, own, other) in [("10.0.1.77", "10.0.1.10", "198.51.100.9"), ("fd00:1::77", "fd00:1::10", "fd00:51::9")] {
        for ttl in 1..3 {
            for dst in [own, other] {
                shots.push(with(from("ens5", src, dst), |packet| packet.ttl = Some(ttl)));
            }
        }
    }
    decided("hop limit", &Scene { shots, ..Scene::default() });
}

#[test]
fn policy_rules_and_tables_lead_arriving_packets() {
    const RULES: &str = "route add default dev eth1 table 100\n\
        route add blackhole default table 101\n\
        route add unreachable default table 102\n\
        route add throw 198.18.0.0/24 table 103\nroute add default dev docker0 table 103\n\
        route add 198.18.0.0/15 dev docker0 tos 0x10\nroute add 198.18.0.0/15 dev eth1\n\
        rule add pref 10 fwmark 0x1/0xf lookup 100\n\
        rule add pref 20 from 10.0.1.64/26 to 198.51.100.0/24 lookup 103\n\
        rule add pref 30 iif docker0 lookup 101\n\
        rule add pref 40 tos 0x8 lookup 102\n\
        rule add pref 50 ipproto udp dport 104 lookup 103\n\
        rule add pref 60 not from 10.0.0.0/8 iif eth1 lookup 100\n\
        rule add pref 70 to 203.0.113.0/26 goto 90\n\
        rule add pref 80 to 203.0.113.0/24 prohibit\n\
        rule add pref 90 lookup main suppress_prefixlength 0\n\
        rule add pref 100 from 9.0.0.0/8 lookup 103\n\
        rule add pref 110 uidrange 0-0 to 8.8.8.0/24 lookup 100\n\
        rule add pref 120 oif eth1 blackhole\n";
    const RULES6: &str = "route add default dev eth1 table 100\n\
        route add blackhole default table 101\n\
        route add prohibit default table 102\n\
        rule add pref 10 fwmark 0x1/0xf lookup 100\n\
        rule add pref 20 from fd00:1::/64 to 2001:db8::/33 lookup 102\n\
        rule add pref 30 iif docker0 lookup 101\n\
        rule add pref 40 tos 0x8 lookup 102\n\
        rule add pref 50 ipproto udp dport 104 lookup 100\n\
        rule add pref 70 to 2001:db8:8000::/34 goto 90\n\
        rule add pref 80 to 2001:db8:8000::/33 unreachable\n\
        rule add pref 90 lookup main suppress_prefixlength 0\n\
        rule add pref 100 from fd00:7::/64 lookup 100\n";
    let mut shots = Vec::new();
    for device in ["ens5", "eth1", "docker0"] {
        for src in ["10.0.1.77", "10.0.1.7", "192.168.7.7", "9.9.9.9"] {
            for dst in
                ["198.51.100.9", "198.18.0.9", "198.19.0.9", "203.0.113.9", "203.0.113.99", "8.8.8.8", "10.0.1.10"]
            {
                for tos in [0, 0x8, 0x10, 0x1b] {
                    shots.extend(every_way(&with(from(device, src, dst), |packet| packet.tos = Some(tos))));
                }
            }
        }
        for src in ["fd00:1::77", "fd00:7::7", "2001:db9::7"] {
            for dst in ["2001:db8::9", "2001:db8:8000::9", "2001:db8:c000::9", "fd00:51::9", "fd00:1::10"] {
                for tos in [0, 0x8, 0x10] {
                    shots.extend(every_way(&with(from(device, src, dst), |packet| packet.tos = Some(tos))));
                }
            }
        }
    }
    for rp_filter in ["0", "1", "2"] {
        let settings = vec![setting("ipv4/conf/all/rp_filter", rp_filter), setting("ipv4/conf/all/accept_local", "0")];
        let shots = shots.clone();
        decided(
            &format!("policy routing, rp_filter {rp_filter}"),
            &Scene { routing: [RULES, RULES6], settings, shots, ..Scene::default() },
        );
    }
}

#[test]
fn policy_rules_and_tables_lead_the_packets_of_this_host() {
    const RULES: &str = "route add default dev eth1 table 100\n\
        route add prohibit default table 102\n\
        route add default dev docker0 table 103\n\
        rule add pref 10 fwmark 0x1/0xf lookup 100\n\
        rule add pref 20 uidrange 1000-1999 to 8.8.8.0/24 lookup 103\n\
        rule add pref 25 to 8.8.4.0/24 ipproto udp dport 103 lookup 102\n\
        rule add pref 30 iif lo to 203.0.113.0/24 lookup 103\n\
        rule add pref 40 from 192.168.7.10 to 9.9.9.0/24 lookup 100\n\
        rule add pref 50 to 1.1.1.0/24 blackhole\nrule add pref 51 to 1.0.0.0/24 unreachable\n";
    const RULES6: &str = "route add default dev eth1 table 100\n\
        rule add pref 10 fwmark 0x1/0xf lookup 100\n\
        rule add pref 20 uidrange 1000-1999 to 2001:db8:1::/48 lookup 100\n\
        rule add pref 50 to 2001:db8:2::/48 prohibit\n";
    let mut shots = Vec::new();
    let v4 = ["8.8.8.8", "8.8.4.4", "203.0.113.9", "9.9.9.9", "1.1.1.1", "1.0.0.1", "198.51.100.9", "10.0.1.11"];
    let v6 = ["2001:db8:1::9", "2001:db8:2::9", "fd00:51::9", "2001:db8:3::9", "fd00:7::10"];
    let all = v4.iter().map(|dst| ("10.0.1.10", *dst)).chain(v6.iter().map(|dst| ("fd00:1::10", *dst)));
    let all = all.chain(v4.iter().map(|dst| ("192.168.7.10", *dst)));
    for (src, dst) in all {
        for uid in [0, 1500] {
            for mark in [0, 0x21] {
                shots.extend(every_way(&with(udp(Direction::Out, src, dst, 100), |packet| {
                    (packet.uid, packet.mark) = (Some(uid), mark);
                })));
            }
        }
    }
    let scene = Scene { routing: [RULES, RULES6], shots, ..Scene::default() };
    in_namespace("policy routing, out", || {
        let counts = play("policy routing, out", &scene, |_, _, _, _| {});
        println!("policy routing, out: {counts:?}");
        assert!(counts.passed > 100 && counts.stopped > 50, "one-sided: {counts:?}");
        // a socket that chose no source may be routed otherwise
        assert!(counts.unknown * 20 < counts.passed + counts.stopped, "too much is unknown: {counts:?}");
    });
}

/// tc's filters of each device and way, as a snapshot holds them.
fn tc_filters() -> String {
    let mut text = String::new();
    for device in DEVICES {
        for way in ["ingress", "egress"] {
            let arguments = ["filter", "show", "dev", device, way];
            let listed = tool("tc", &arguments, "").expect("tc lists");
            text += &format!("# tc {}\n{}", arguments.join(" "), String::from_utf8_lossy(&listed));
        }
    }
    text
}

#[test]
fn behind_a_program_outside_netfilter_nothing_is_certain() {
    in_namespace("programs", || {
        let mut lab = Lab::build().expect("a lab");
        for (device, way) in [("ens5", "ingress"), ("eth1", "egress")] {
            tool("tc", &["qdisc", "add", "dev", device, "clsact"], "").expect("a place for filters");
            // one instruction of classic BPF: return TC_ACT_SHOT
            let filter = ["filter", "add", "dev", device, way, "bpf", "direct-action", "bytecode", "1,6 0 0 2,"];
            tool("tc", &filter, "").expect("a filter");
        }
        let mut files = firewall::list().expect("a listing");
        let filters = hepguard::files::FileState::Present(tc_filters().into_bytes());
        files.files.insert("tc.txt".to_owned(), filters);
        let listings = Listings::read(files);
        let judge = listings.judge();
        lab.open_eyes().expect("the probe loads");
        let cases = [
            (from("ens5", "10.0.1.77", "10.0.1.10"), Drop, Some("tc ingress of ens5")),
            (from("eth1", "192.168.7.77", "10.0.1.10"), Accept, None),
            // its egress filter stands behind the probe, which sees the packet first
            (from("docker0", "172.17.0.9", "198.51.100.9"), Accept, Some("tc egress of eth1")),
            (from("docker0", "172.17.0.9", "10.0.1.99"), Accept, None),
        ];
        for (shot, kernel, program) in cases {
            let outcome = lab.shoot(&shot).expect("the probe works");
            let story = judge.explain(&shot.packet);
            assert_eq!(matches!(outcome, Outcome::Passed(_)), kernel == Accept, "{outcome:?} {story}");
            let judgement = judge.judge(&shot.packet);
            assert_eq!(judgement.may_pass && judgement.may_stop, program.is_some(), "{story}");
            assert!(program.is_none_or(|program| story.contains(program)), "{story}");
        }
    });
}

#[test]
fn packets_of_a_bridge_port_arrive_by_the_bridge() {
    const RULES: &str = "table inet b {\n\
        chain p { type filter hook prerouting priority 0;\n\
        iifname br0 udp dport 111 drop\niifname port0 udp dport 112 drop\n}\n\
        chain i { type filter hook input priority 0;\n\
        iifname br0 udp dport 113 drop\niifname port0 udp dport 114 drop\n}\n\
        chain f { type filter hook forward priority 0;\n\
        iifname br0 udp dport 115 drop\niifname port0 udp dport 116 drop\n}\n}\n";
    let ports = |direction, dst| {
        (110..117).map(move |port| {
            let shot = udp(direction, "10.99.0.77", dst, port);
            with(shot, |packet| packet.iif = Some("port0".into()))
        })
    };
    for crosses in ["0", "1"] {
        // without the module br_netfilter there is no such setting, and nothing crosses
        let settings = match std::path::Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables").exists() {
            true => vec![setting("bridge/bridge-nf-call-iptables", crosses)],
            false => Vec::new(),
        };
        let shots = ports(Direction::In, "10.99.0.1").chain(ports(Direction::Forward, "198.51.100.9")).collect();
        let scene = Scene { bridged: true, nft: RULES, settings, shots, ..Scene::default() };
        decided(&format!("bridge {crosses}"), &scene);
    }
}
