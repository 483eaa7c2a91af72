//! Random rulesets, random packets: a packet is in the set exactly when its trace accepts it.

use std::net::IpAddr;

use fastrand::Rng;
use hepguard::analysis::trace::{Engine, TraceOptions, TraceVerdict};
use hepguard::files::{FileState, SnapshotFiles};
use hepguard::packet::{
    ConntrackView, CtDirection, CtState, CtStatus, Direction, Packet, Prefix, Protocol, TcpFlags, Tuple, address_bits,
};
use hepguard::snapshot::{self, Snapshot};
use hepguard::space::Order;

use crate::generate;
use crate::sets::{Sets, facts};

const ADDRESSES: &str = include_str!("host/ip-addr.json");
const ROUTES: &str = include_str!("host/ip-route.json");

/// The IP stack itself refuses as little as it can: what is compared is what the rules do.
const SYSCTLS: &str = "net.ipv4.ip_forward = 1\nnet.ipv6.conf.all.forwarding = 1\nnet.ipv4.conf.all.forwarding = 1
net.ipv4.conf.all.rp_filter = 0\nnet.ipv4.conf.default.rp_filter = 0\nnet.ipv4.conf.all.accept_local = 1
net.ipv4.conf.ens5.rp_filter = 0\nnet.ipv4.conf.eth1.rp_filter = 0\nnet.ipv4.conf.docker0.rp_filter = 0
net.ipv4.conf.cali0a1b2c3d4e5.rp_filter = 0
net.netfilter.nf_conntrack_tcp_loose = 1\n";

/// Sources are filtered: strictly, loosely, with marks, and on one device nobody knows how.
const FILTERED: &str = "net.ipv4.ip_forward = 1\nnet.ipv6.conf.all.forwarding = 1\nnet.ipv4.conf.all.forwarding = 1
net.ipv4.conf.all.rp_filter = 0\nnet.ipv4.conf.default.rp_filter = 1\nnet.ipv4.conf.all.accept_local = 0
net.ipv4.conf.all.src_valid_mark = 0\nnet.ipv4.conf.all.route_localnet = 0\nnet.ipv4.conf.all.send_redirects = 0
net.ipv4.conf.ens5.rp_filter = 1\nnet.ipv4.conf.eth1.rp_filter = 1\nnet.ipv4.conf.docker0.rp_filter = 2
net.ipv4.conf.ens5.accept_local = 0\nnet.ipv4.conf.eth1.accept_local = 0\nnet.ipv4.conf.docker0.accept_local = 1
net.ipv4.conf.ens5.src_valid_mark = 0\nnet.ipv4.conf.eth1.src_valid_mark = 1\nnet.ipv4.conf.docker0.src_valid_mark = 0
net.ipv4.conf.ens5.route_localnet = 0\nnet.ipv4.conf.eth1.route_localnet = 1\nnet.ipv4.conf.docker0.route_localnet = 0
net.ipv4.conf.ens5.send_redirects = 0\nnet.ipv4.conf.eth1.send_redirects = 0\nnet.ipv4.conf.docker0.send_redirects = 0
net.netfilter.nf_conntrack_tcp_loose = 1\n";

pub(crate) fn read(ipsets: &str, tables: &[(&str, &str)]) -> Snapshot {
    read_on(SYSCTLS, ipsets, tables)
}

fn read_on(sysctls: &str, ipsets: &str, tables: &[(&str, &str)]) -> Snapshot {
    let mut files = SnapshotFiles::default();
    let mut put = |name: &str, text: &str| {
        files.files.insert(name.to_owned(), FileState::Present(text.as_bytes().to_vec()));
    };
    put("ip-addr.json", ADDRESSES);
    put("ip-route.json", ROUTES);
    put("sysctl.txt", sysctls);
    put("ipset-save.txt", ipsets);
    for (name, text) in tables {
        put(name, text);
    }
    snapshot::read(files)
}

/// Words of a ruleset that look like addresses and ports.
pub(crate) struct Words {
    addresses: Vec<IpAddr>,
    ports: Vec<u16>,
}

const LOCAL: [&str; 5] = ["10.0.1.10", "192.168.7.10", "172.17.0.1", "fd00:1::10", "fd00:17::1"];

impl Words {
    pub(crate) fn of(text: &str) -> Self {
        let mut words = Self { addresses: Vec::new(), ports: vec![22, 53, 80, 1024] };
        for word in text.split(|c: char| !(c.is_ascii_alphanumeric() || "./:".contains(c))) {
            if let Ok(prefix) = word.parse::<Prefix>() {
                words.addresses.push(prefix.address());
            }
            for part in word.split([':', ',']) {
                words.ports.extend(part.parse::<u16>().ok().map(|port| port.wrapping_add(1)));
                words.ports.extend(part.parse::<u16>().ok());
            }
        }
        words.addresses.extend(LOCAL.iter().map(|text| text.parse::<IpAddr>().expect("an address")));
        words.addresses.extend(["203.0.113.7", "8.8.8.8", "2001:db8::7"].map(|t| t.parse::<IpAddr>().expect("one")));
        words
    }

    pub(crate) fn packet(&self, rng: &mut Rng) -> Packet {
        let v4 = rng.bool();
        let of_family: Vec<IpAddr> = self.addresses.iter().copied().filter(|address| address.is_ipv4() == v4).collect();
        let any = |rng: &mut Rng| of_family[rng.usize(..of_family.len())];
        let local = |rng: &mut Rng| {
            let own: Vec<IpAddr> = LOCAL.iter().map(|text| text.parse().expect("one")).collect();
            let own: Vec<IpAddr> = own.into_iter().filter(|address: &IpAddr| address.is_ipv4() == v4).collect();
            own[rng.usize(..own.len())]
        };
        let direction = [Direction::In, Direction::In, Direction::Out, Direction::Forward][rng.usize(..4)];
        let (src, dst) = match direction {
            Direction::In => (any(rng), local(rng)),
            Direction::Out => (local(rng), any(rng)),
            Direction::Forward => (any(rng), any(rng)),
        };
        let icmp = if v4 { Protocol::ICMP } else { Protocol::ICMPV6 };
        let protocol =
            [Protocol::TCP, Protocol::TCP, Protocol::UDP, icmp, Protocol::SCTP, Protocol(47)][rng.usize(..6)];
        let port = |rng: &mut Rng| self.ports[rng.usize(..self.ports.len())];
        let (sport, dport) = (port(rng), port(rng));
        let mut packet = Packet::first(direction, protocol, (src, sport), (dst, dport));
        let devices = ["ens5", "ens5", "eth1", "docker0", "cali0a1b2c3d4e5"];
        if direction != Direction::Out {
            packet.iif = Some(devices[rng.usize(..devices.len())].into());
        }
        if protocol == icmp {
            let kinds = if v4 { [(8, 0), (3, 1), (0, 0), (13, 0)] } else { [(128, 0), (135, 0), (1, 4), (129, 0)] };
            packet.icmp = Some(kinds[rng.usize(..4)]);
        }
        if protocol == Protocol::TCP && rng.bool() {
            packet.tcp_flags = TcpFlags([2, 16, 18, 4, 1, 0x29][rng.usize(..6)]);
        }
        let own = Tuple { src, sport: packet.sport, dst, dport: packet.dport };
        let turned = Tuple { src: dst, sport: packet.dport, dst: src, dport: packet.sport };
        match rng.u8(..8) {
            0 | 1 => {
                packet.state = CtState::ESTABLISHED;
                let reply = rng.bool();
                let (original, reply_tuple) = if reply { (turned, own) } else { (own, turned) };
                packet.ct = ConntrackView {
                    status: Some(CtStatus(2 | 4 | 8 | 0x180)),
                    direction: Some(if reply { CtDirection::Reply } else { CtDirection::Original }),
                    original: Some(original),
                    reply: Some(reply_tuple),
                    mark: Some([0, 0x10000, 1][rng.usize(..3)]),
                };
            }
            2 => packet.state = CtState::INVALID,
            3 => packet.state = CtState::UNTRACKED,
            _ => {}
        }
        packet.mark = [0, 0, 0x10000, 1][rng.usize(..4)];
        if direction == Direction::Out {
            packet.uid = Some([0, 1000][rng.usize(..2)]);
            packet.gid = Some([0, 1001][rng.usize(..2)]);
        }
        packet.ttl = Some([64, 2, 63, 255][rng.usize(..4)]);
        packet.tos = Some([0, 0x10, 0xb8][rng.usize(..3)]);
        packet.length = Some([40, 60, 128, 1500][rng.usize(..4)]);
        packet
    }
}

/// Figures of a search.
#[derive(Default, Debug)]
pub(crate) struct Tally {
    packets: usize,
    /// Refused by the IP stack itself, and not compared.
    outside: usize,
    /// Of those, for their source, which the sets judge, too.
    sources: usize,
    /// Of those, left open by the sets.
    open_sources: usize,
    accepted: usize,
    pub(crate) unknown: usize,
    /// The sets leave it open, the trace does not.
    duller: usize,
    /// The trace leaves it open, the sets do not.
    sharper: usize,
}

/// Whether the kernel refused a packet for its source.
fn is_about_source(why: &str) -> bool {
    why.starts_with("rp_filter=") || why.starts_with("martian source")
}

#[test]
fn sources_the_kernel_refuses_are_refused_in_the_sets() {
    let mut tally = Tally::default();
    for seed in 40..52 {
        let (ipsets, tables) = generate::iptables(seed, true);
        let snapshot = read_on(FILTERED, &ipsets, &[("iptables-legacy-save.txt", &tables)]);
        compare(&snapshot, &format!("{ipsets}{tables}"), seed, Order::Host, &mut tally);
    }
    assert!(tally.sources > 100 && tally.accepted > 20, "{tally:?}");
    assert!(tally.open_sources * 4 <= tally.sources, "{tally:?}");
}

/// Of a set that is not all known, what is known counts: for certain where there can be no exceptions.
#[test]
fn sets_that_are_not_all_known_are_judged_alike() {
    let mut tally = Tally::default();
    for seed in 60..72 {
        let (ipsets, tables) = generate::iptables(seed, true);
        let mut snapshot = read(&ipsets, &[("iptables-legacy-save.txt", &tables)]);
        for (number, set) in snapshot.ruleset.ipsets.iter_mut().enumerate() {
            let elements = &set.elements;
            let excepted = (0..elements.len()).any(|at| elements.extra(at).is_some_and(|extra| extra.nomatch));
            set.without_exceptions = number.is_multiple_of(2) && !excepted;
            set.incomplete = Some("cut short".into());
        }
        compare(&snapshot, &format!("{ipsets}{tables}"), seed, Order::Forward, &mut tally);
    }
    assert!(tally.unknown > 50 && tally.accepted > 50, "{tally:?}");
    assert!(tally.duller * 20 <= tally.packets, "{tally:?}");
}

pub(crate) fn compare(snapshot: &Snapshot, text: &str, seed: u64, order: Order, tally: &mut Tally) {
    let trace = Engine::new(&snapshot.ruleset, &snapshot.host);
    let facts = facts(&snapshot.host);
    let [four, six] = &facts;
    let mut sets = [Sets::new(&snapshot.ruleset, four, order), Sets::new(&snapshot.ruleset, six, order)];
    let words = Words::of(text);
    let mut rng = Rng::with_seed(seed);
    for _ in 0..250 {
        let mut packet = words.packet(&mut rng);
        if packet.direction != Direction::Out {
            // routing says where it goes, not we
            let facts = if packet.dst.is_ipv4() { four } else { six };
            let here = facts.is_local(address_bits(packet.dst), Some(packet.mark)) == Some(true);
            packet.direction = if here { Direction::In } else { Direction::Forward };
        }
        let answer = trace.trace(&packet, &TraceOptions::default());
        let pass = answer.may.contains(&TraceVerdict::Accept);
        let stop = answer.may.iter().any(|verdict| *verdict != TraceVerdict::Accept);
        let (may_pass, may_stop) = sets[usize::from(packet.dst.is_ipv6())].judge(&packet);
        // refused by the IP stack itself: no rule has a say
        if !pass && answer.decided_by.is_none() && answer.certain {
            tally.outside += 1;
            let why = answer.stopped_by.clone().unwrap_or_default();
            if !is_about_source(&why) {
                continue;
            }
            assert!(may_stop, "seed {seed}: {why}, the sets let it through\n{packet:?}\n{text}");
            tally.sources += 1;
            tally.open_sources += usize::from(may_pass);
            continue;
        }
        tally.packets += 1;
        tally.accepted += usize::from(pass && !stop);
        tally.unknown += usize::from(pass && stop);
        tally.duller += usize::from(may_pass && may_stop && !(pass && stop));
        tally.sharper += usize::from(pass && stop && !(may_pass && may_stop));
        let disagree = (pass && !stop && !may_pass) || (stop && !pass && !may_stop);
        assert!(
            !disagree && (may_pass || may_stop),
            "seed {seed}, {order:?}: trace {:?} by {:?} of {:?}, sets pass {may_pass} stop {may_stop}\n{packet:?}\n{text}",
            answer.verdict,
            answer.decided_by.and_then(|rule| snapshot.ruleset.rule(rule)).map(|rule| &rule.text),
            answer.may,
        );
    }
}

#[test]
fn a_packet_is_in_the_set_when_its_trace_accepts_it() {
    let mut tally = Tally::default();
    for seed in 0..16 {
        let (sets4, tables4) = generate::iptables(seed, true);
        let (sets6, tables6) = generate::iptables(seed, false);
        let ipsets = sets4 + &sets6;
        let snapshot =
            read(&ipsets, &[("iptables-legacy-save.txt", &tables4), ("ip6tables-legacy-save.txt", &tables6)]);
        let text = format!("{ipsets}{tables4}{tables6}");
        let order = if seed % 2 == 0 { Order::Host } else { Order::Forward };
        compare(&snapshot, &text, seed, order, &mut tally);
    }
    assert!(tally.accepted * 20 > tally.packets, "{tally:?}");
    // deep in a packet the sets know less than a trace that is told every field
    assert!(tally.duller * 40 <= tally.packets, "{tally:?}");
}
