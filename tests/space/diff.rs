//! What two snapshots treat differently, against traces of single packets in both.

use std::ops::AddAssign as _;

use fastrand::Rng;
use hepguard::analysis::diff::{Changes, Diff, Line, Piece, Values, Wanted, compare};
use hepguard::analysis::trace::{Engine, TraceOptions, TraceVerdict};
use hepguard::packet::{Direction, Family, Packet, address_bits};
use hepguard::ruleset::Interval;
use hepguard::snapshot::Snapshot;
use hepguard::space::Dimension;

use crate::against_trace::{Words, read};
use crate::generate;
use crate::sets::{class_of_extension, facts};

/// A link-layer address as a number.
pub(crate) fn mac_number(mac: Option<[u8; 6]>) -> u128 {
    mac.expect("it is told").into_iter().fold(0, |all, byte| all << 8 | u128::from(byte))
}

/// Whether a line, read as people read it, speaks of the packet.
fn speaks_of(line: &Line, packet: &Packet) -> bool {
    line.fields.iter().all(|field| {
        let number = |dimension| -> u128 {
            match dimension {
                Dimension::Source => address_bits(packet.src),
                Dimension::Destination => address_bits(packet.dst),
                Dimension::SourcePort => packet.sport.unwrap_or(0).into(),
                Dimension::DestinationPort => packet.dport.unwrap_or(0).into(),
                Dimension::Protocol => packet.protocol.0.into(),
                Dimension::TcpFlags => packet.tcp_flags.0.into(),
                Dimension::IcmpType => packet.icmp.unwrap_or_default().0.into(),
                Dimension::IcmpCode => packet.icmp.unwrap_or_default().1.into(),
                Dimension::Ttl => packet.ttl.expect("a TTL").into(),
                Dimension::Tos => packet.tos.expect("a TOS").into(),
                Dimension::Length => packet.length.expect("a length").into(),
                Dimension::User => packet.uid.unwrap_or(0).into(),
                Dimension::UserGroup => packet.gid.unwrap_or(0).into(),
                Dimension::ConnectionMark => packet.ct.mark.unwrap_or(0).into(),
                Dimension::PacketType => packet.packet_type.expect("a type") as u128,
                Dimension::SourceLink => mac_number(packet.details.source_mac),
                Dimension::DestinationLink => mac_number(packet.details.destination_mac),
                other => panic!("{other:?} is no number"),
            }
        };
        let inside = match &field.values {
            Values::Prefixes(list) => {
                let address = number(field.dimension);
                list.items.iter().map(|prefix| prefix.range()).any(|(low, high)| (low..=high).contains(&address))
            }
            Values::Names(names) if field.dimension == Dimension::Extension => {
                let class = class_of_extension(packet).expect("it is told");
                names.iter().any(|name| ["none", "hbh", "rt", "frag", "dst"][class] == name)
            }
            Values::Names(names) => {
                let name = if field.dimension == Dimension::InInterface { &packet.iif } else { &packet.oif };
                name.as_ref().is_some_and(|name| names.iter().any(|known| **known == **name))
            }
            Values::States(states) => states.contains(&packet.state),
            Values::Bits(value, mask) => packet.tcp_flags.0 & mask == *value,
            Values::Numbers(intervals, more) => {
                assert!(!more, "all of it");
                let number = number(field.dimension);
                intervals.iter().any(|interval| (interval.low..=interval.high).contains(&number))
            }
        };
        inside != field.except
    })
}

pub(crate) fn among(pieces: &[Piece], packet: &Packet) -> bool {
    assert!(pieces.iter().all(|piece| !piece.more), "all of it");
    pieces.iter().flat_map(|piece| &piece.lines).any(|line| speaks_of(line, packet))
}

fn of_packet<'d>(diff: &'d Diff, packet: &Packet) -> &'d Changes {
    let part = diff.parts.iter().find(|part| part.family == packet.family() && part.way == packet.direction);
    part.expect("its part").changes.as_ref().expect("room")
}

/// May it pass, may it be stopped? `None` when the kernel itself refuses it.
pub(crate) fn judge(snapshot: &Snapshot, packet: &Packet) -> Option<(bool, bool)> {
    let trace = Engine::new(&snapshot.ruleset, &snapshot.host).trace(packet, &TraceOptions::default());
    let pass = trace.may.contains(&TraceVerdict::Accept);
    let stop = trace.may.iter().any(|verdict| *verdict != TraceVerdict::Accept);
    if !pass && trace.decided_by.is_none() && trace.certain { None } else { Some((pass, stop)) }
}

/// A ruleset's text with a rule gone, moved, doubled, or with another port.
fn changed(text: &str, rng: &mut Rng) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for _ in 0..rng.usize(1..4) {
        let rules: Vec<usize> = (0..lines.len()).filter(|at| lines[*at].starts_with("-A ")).collect();
        let Some(&at) = rules.get(rng.usize(..rules.len().max(1))) else { break };
        match rng.u8(..5) {
            0 => drop(lines.remove(at)),
            1 if rules.contains(&(at + 1)) => lines.swap(at, at + 1),
            2 => lines[at] = lines[at].replace("--dport 22", "--dport 443").replace(" 53", " 54"),
            3 if rng.bool() => lines[at] = lines[at].replace("-j ACCEPT", "-j DROP"),
            3 => lines[at] = lines[at].replace("-j DROP", "-j ACCEPT").replace("-j RETURN", "-j ACCEPT"),
            _ => {
                let rule = lines[at].clone();
                lines.insert(at, rule.replace("-s ", "-d "));
            }
        }
    }
    lines.join("\n") + "\n"
}

/// Everything, with nothing left out.
pub(crate) fn whole() -> Wanted {
    Wanted { limit: 100_000, ..Wanted::default() }
}

#[derive(Default, Debug)]
struct Tally {
    packets: usize,
    gained: usize,
    lost: usize,
    /// Trace is sure of a difference, the sets leave it open.
    duller: usize,
    witnesses: usize,
}

fn against_traces(before: &Snapshot, after: &Snapshot, wanted: &Wanted, seed: u64, text: &str, tally: &mut Tally) {
    let diff = compare(before, after, wanted);
    let [four, six] = &facts(&before.host);
    let words = Words::of(text);
    let v6 = wanted.families.contains(&Family::Ipv6);
    let mut rng = Rng::with_seed(seed);
    for _ in 0..400 {
        let mut packet = words.packet(&mut rng);
        if packet.dst.is_ipv6() && !v6 {
            continue;
        }
        packet.mark = 0;
        packet.packet_type = Some(hepguard::packet::PacketType::Host);
        let facts = if packet.dst.is_ipv4() { four } else { six };
        if packet.direction != Direction::Out {
            let here = facts.is_local(address_bits(packet.dst), Some(0)) == Some(true);
            packet.direction = if here { Direction::In } else { Direction::Forward };
        }
        if packet.direction != Direction::In {
            let Some(device) = facts.device(address_bits(packet.dst), Some(0)) else { continue };
            let name = device.to_be_bytes().into_iter().take_while(|byte| *byte != 0).collect();
            packet.oif = Some(String::from_utf8(name).expect("a name").into_boxed_str());
        }
        let (Some(a), Some(b)) = (judge(before, &packet), judge(after, &packet)) else { continue };
        let changes = of_packet(&diff, &packet);
        let (gained, lost) = (among(&changes.gained, &packet), among(&changes.lost, &packet));
        let undecided = among(&changes.undecided, &packet);
        let told = format!(
            "seed {seed}: before {a:?}, after {b:?}, gained {gained}, lost {lost}, undecided {undecided}\n{packet:?}\n{changes:#?}\n{text}"
        );
        tally.packets += 1;
        tally.gained += usize::from(gained);
        tally.lost += usize::from(lost);
        // trace may be sharper or duller by what each does not know; neither may contradict the other
        assert!(!gained || (a.1 && b.0), "{told}");
        assert!(!lost || (a.0 && b.1), "{told}");
        let (sure_gain, sure_loss) =
            (a == (false, true) && b == (true, false), a == (true, false) && b == (false, true));
        assert!(!sure_gain || gained || undecided, "{told}");
        assert!(!sure_loss || lost || undecided, "{told}");
        tally.duller += usize::from((sure_gain || sure_loss) && undecided);
    }
    for part in &diff.parts {
        let changes = part.changes.as_ref().expect("room");
        for (pieces, was, is) in
            [(&changes.gained, (false, true), (true, false)), (&changes.lost, (true, false), (false, true))]
        {
            for piece in pieces {
                let packet = piece.witness.as_ref().expect("a packet of it");
                assert!(among(std::slice::from_ref(piece), packet), "seed {seed}: {packet:?} is not of {piece:#?}");
                let (Some(a), Some(b)) = (judge(before, packet), judge(after, packet)) else { continue };
                tally.witnesses += 1;
                let fits = |found: (bool, bool), wanted: (bool, bool)| found == wanted || found == (true, true);
                assert!(fits(a, was) && fits(b, is), "seed {seed}: {a:?} {b:?}\n{packet:?}\n{piece:#?}\n{text}");
            }
        }
    }
}

/// A filter table of plain rules: addresses, ports, interfaces, states, marks, calls.
fn plain(rng: &mut Rng) -> String {
    let mut text =
        String::from("*filter\n:INPUT DROP [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n:alpha - [0:0]\n");
    let pick = |rng: &mut Rng, from: &[&str]| from[rng.usize(..from.len())].to_owned();
    for chain in ["INPUT", "FORWARD", "OUTPUT", "alpha"] {
        for _ in 0..6 {
            let mut rule = format!("-A {chain}");
            if rng.bool() {
                let not = if rng.u8(..4) == 0 { "! " } else { "" };
                rule += &format!(" {not}-s {}", pick(rng, &["203.0.113.0/24", "10.0.0.0/8", "192.168.7.0/24"]));
            }
            if rng.u8(..3) == 0 {
                rule += &format!(" -d {}", pick(rng, &["10.0.1.10/32", "8.8.0.0/16", "172.17.0.0/16"]));
            }
            if rng.u8(..4) == 0 && chain != "OUTPUT" && chain != "alpha" {
                rule += &format!(" -i {}", pick(rng, &["ens5", "eth1", "cali+"]));
            }
            if rng.bool() {
                rule += &format!(" -p {} --dport {}", pick(rng, &["tcp", "udp"]), pick(rng, &["22", "53", "80:1024"]));
            }
            if rng.u8(..3) == 0 {
                rule += &format!(" -m conntrack --ctstate {}", pick(rng, &["NEW", "RELATED,ESTABLISHED", "INVALID"]));
            }
            if rng.u8(..8) == 0 {
                rule += " -m mark --mark 0x1/0x1";
            }
            let targets = ["ACCEPT", "ACCEPT", "DROP", "REJECT", "RETURN", "MARK --set-xmark 0x1/0x1", "alpha"];
            let target = pick(rng, if chain == "alpha" { &targets[..6] } else { &targets });
            text += &format!("{rule} -j {target}\n");
        }
    }
    text + "COMMIT\n"
}

#[test]
fn a_packet_is_gained_when_its_trace_drops_it_before_and_accepts_it_after() {
    let mut tally = Tally::default();
    for seed in 0..30 {
        let mut rng = Rng::with_seed(seed);
        let old = plain(&mut rng);
        let new = changed(&old, &mut rng);
        let (before, after) = (read("", &[("iptables-save.txt", &old)]), read("", &[("iptables-save.txt", &new)]));
        let text = format!("{old}\n-- after --\n{new}");
        let wanted = Wanted { families: vec![Family::Ipv4], ..whole() };
        against_traces(&before, &after, &wanted, seed, &text, &mut tally);
    }
    assert!(tally.gained > 10 && tally.lost > 20 && tally.witnesses > 10, "{tally:?}");
    assert_eq!(tally.duller, 0, "{tally:?}");
}

#[test]
fn what_cannot_be_decided_is_never_called_gained_or_lost_against_a_trace() {
    let mut tally = Tally::default();
    for seed in 0..2 {
        let (ipsets, tables) = generate::iptables(seed, seed != 1);
        let mut rng = Rng::with_seed(seed);
        let new = changed(&tables, &mut rng);
        let name = if seed == 1 { "ip6tables-legacy-save.txt" } else { "iptables-legacy-save.txt" };
        let (before, after) = (read(&ipsets, &[(name, &tables)]), read(&ipsets, &[(name, &new)]));
        let text = format!("{ipsets}{tables}\n-- after --\n{new}");
        against_traces(&before, &after, &whole(), seed, &text, &mut tally);
        // nor is a ruleset different from itself
        let diff = compare(&before, &before.clone(), &Wanted::default());
        assert!(diff.parts.iter().all(|part| !part.is_different()), "seed {seed}\n{tables}");
    }
    assert!(tally.packets > 500, "{tally:?}");
}

const OLD: &str = "*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:admin - [0:0]
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -i lo -j ACCEPT
-A INPUT -s 10.0.0.0/8 -p tcp -m tcp --dport 22 -j admin
-A INPUT -p tcp -m tcp --dport 443 -j ACCEPT
-A INPUT -p udp -m udp --dport 123 -m limit --limit 5/min -j ACCEPT
-A admin -s 10.9.0.0/16 -j RETURN
-A admin -j ACCEPT
COMMIT
";

/// The same in other words and another order.
const SAME: &str = "*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT -p udp -m udp --dport 123 -m limit --limit 5/min -j ACCEPT
-A INPUT -s 10.0.0.0/9 ! -i lo -p tcp -m multiport --dports 22 -m iprange ! --src-range 10.9.0.0-10.9.255.255 -j ACCEPT
-A INPUT -s 10.128.0.0/9 -p tcp -m tcp --dport 22 -j ACCEPT
-A INPUT -i lo -j ACCEPT
-A INPUT -p tcp -m tcp --dport 443 -j ACCEPT
-A INPUT -m conntrack --ctstate RELATED -j ACCEPT
-A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT
-A OUTPUT -j ACCEPT
COMMIT
";

fn of_v4(before: &str, after: &str) -> Diff {
    let (before, after) = (read("", &[("iptables-save.txt", before)]), read("", &[("iptables-save.txt", after)]));
    compare(&before, &after, &Wanted { families: vec![Family::Ipv4], ..whole() })
}

#[test]
fn the_same_in_other_words_is_no_difference() {
    for (before, after) in [(OLD, OLD), (OLD, SAME), (SAME, OLD)] {
        let diff = of_v4(before, after);
        assert!(diff.parts.iter().all(|part| part.changes.as_ref().expect("room").is_empty()), "{diff:#?}");
    }
}

#[test]
fn one_port_changed_is_that_port_and_nothing_else() {
    let diff = of_v4(OLD, &OLD.replace("--dport 443", "--dport 8443"));
    for part in &diff.parts {
        let changes = part.changes.as_ref().expect("room");
        if part.way != Direction::In {
            assert!(changes.is_empty(), "{part:#?}");
            continue;
        }
        assert!(changes.undecided.is_empty(), "{part:#?}");
        for (pieces, port) in [(&changes.gained, 8443), (&changes.lost, 443)] {
            let lines: Vec<&Line> = pieces.iter().flat_map(|piece| &piece.lines).collect();
            let [line] = lines.as_slice() else { panic!("{part:#?}") };
            let of = |dimension| line.fields.iter().find(|field| field.dimension == dimension).map(|f| &f.values);
            let single = |number| Values::Numbers(vec![Interval::single(number)], false);
            assert_eq!(of(Dimension::DestinationPort), Some(&single(port)));
            assert_eq!(of(Dimension::Protocol), Some(&single(6)));
            let source = line.fields.iter().any(|field| field.dimension == Dimension::Source);
            assert!(!source, "any source: {line:#?}");
        }
    }
}

#[test]
fn another_limit_is_undecided_and_too_small_a_budget_no_answer() {
    let diff = of_v4(OLD, &OLD.replace("5/min", "50/min"));
    let input = diff.parts.iter().find(|part| part.way == Direction::In).expect("it");
    let changes = input.changes.as_ref().expect("room");
    assert!(changes.gained.is_empty() && changes.lost.is_empty() && !changes.undecided.is_empty(), "{input:#?}");
    for piece in &changes.undecided {
        // the kernel's own checks of special sources hang on settings beside it
        let limits: Vec<(bool, bool)> = piece
            .because
            .iter()
            .filter(|one| one.rule.is_some())
            .map(|one| (one.before, one.reason.contains("limit")))
            .collect();
        assert_eq!(limits, [(true, true), (false, true)], "{input:#?}");
    }
    assert!(changes.undecided.iter().any(|piece| piece.because.len() == 2), "the limit alone: {input:#?}");
    let snapshot = read("", &[("iptables-save.txt", OLD)]);
    let other = read("", &[("iptables-save.txt", &OLD.replace("--dport 443", "--dport 8443"))]);
    let diff = compare(&snapshot, &other, &Wanted { budget: 50, ..Wanted::default() });
    assert!(diff.parts.iter().any(|part| part.changes.is_err() && !part.is_certain()));
}

/// A rule of the small space, as a table says what it does.
struct Plain {
    source: Option<(u32, u32)>,
    protocol: Option<(u8, Option<u16>)>,
    established: Option<bool>,
    target: usize,
}

const TARGETS: [&str; 4] = ["ACCEPT", "DROP", "RETURN", "side"];
const NETWORK: u32 = 0x0a00_0140;
const PORTS: [u16; 4] = [22, 53, 80, 443];

impl Plain {
    fn draw(rng: &mut Rng, targets: usize) -> Self {
        let length = rng.u32(27..=32);
        let kept = u32::MAX << (32 - length);
        let port = |rng: &mut Rng| rng.bool().then(|| PORTS[rng.usize(..4)]);
        Self {
            source: (rng.u8(..4) > 0).then(|| ((NETWORK + rng.u32(..16)) & kept, kept)),
            protocol: rng.bool().then(|| (if rng.bool() { 6 } else { 17 }, port(rng))),
            established: (rng.u8(..4) == 0).then(|| rng.bool()),
            target: rng.usize(..targets),
        }
    }

    fn text(&self, chain: &str) -> String {
        let mut text = format!("-A {chain}");
        if let Some((address, kept)) = self.source {
            text += &format!(" -s {}/{}", std::net::Ipv4Addr::from(address), kept.leading_ones());
        }
        if let Some((protocol, port)) = self.protocol {
            text += &format!(" -p {}", if protocol == 6 { "tcp" } else { "udp" });
            text += &port.map(|port| format!(" --dport {port}")).unwrap_or_default();
        }
        if let Some(established) = self.established {
            text += &format!(" -m conntrack --ctstate {}", if established { "ESTABLISHED" } else { "NEW" });
        }
        format!("{text} -j {}\n", TARGETS[self.target])
    }

    fn matches(&self, (source, protocol, port, established): (u32, u8, u16, bool)) -> bool {
        self.source.is_none_or(|(address, kept)| source & kept == address)
            && self.protocol.is_none_or(|(wanted, of)| wanted == protocol && of.is_none_or(|of| of == port))
            && self.established.is_none_or(|wanted| wanted == established)
    }
}

/// Rules of INPUT, rules of the chain it calls, and whether INPUT's policy accepts.
struct Small(Vec<Plain>, Vec<Plain>, bool);

impl Small {
    fn draw(rng: &mut Rng) -> Self {
        let input = (0..7).map(|_| Plain::draw(rng, 4)).collect();
        Self(input, (0..3).map(|_| Plain::draw(rng, 3)).collect(), rng.bool())
    }

    fn text(&self) -> String {
        let policy = if self.2 { "ACCEPT" } else { "DROP" };
        let input: String = self.0.iter().map(|rule| rule.text("INPUT")).collect();
        let side: String = self.1.iter().map(|rule| rule.text("side")).collect();
        format!(
            "*filter\n:INPUT {policy} [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT DROP [0:0]\n:side - [0:0]\n{input}{side}COMMIT\n"
        )
    }

    fn accepts(&self, packet: (u32, u8, u16, bool)) -> bool {
        for rule in self.0.iter().filter(|rule| rule.matches(packet)) {
            match rule.target {
                0 => return true,
                1 => return false,
                2 => return self.2,
                _ => match self.1.iter().find(|rule| rule.matches(packet)).map(|rule| rule.target) {
                    Some(0) => return true,
                    Some(1) => return false,
                    _ => {}
                },
            }
        }
        self.2
    }
}

#[test]
fn on_a_small_space_the_difference_is_what_two_tables_of_all_packets_say() {
    let (mut differing, mut equal) = (0, 0);
    for seed in 0..60 {
        let mut rng = Rng::with_seed(seed);
        let old = Small::draw(&mut rng);
        let mut new = Small(Small::draw(&mut Rng::with_seed(seed)).0, Vec::new(), old.2);
        new.1 = Small::draw(&mut Rng::with_seed(seed)).1;
        for _ in 0..rng.usize(..3) {
            let at = rng.usize(..new.0.len());
            match rng.u8(..3) {
                0 => drop(new.0.remove(at)),
                1 => new.0[at] = Plain::draw(&mut rng, 4),
                _ => new.0[at].target = rng.usize(..4),
            }
        }
        let (before, after) = (old.text(), new.text());
        let diff = of_v4_alone(&before, &after);
        for number in 0..16u32 * 2 * 4 * 2 {
            let (source, protocol) = (NETWORK + number % 16, if number / 16 % 2 == 0 { 6 } else { 17 });
            let (port, established) = (PORTS[number as usize / 32 % 4], number / 128 == 1);
            let point = (source, protocol, port, established);
            let (was, is) = (old.accepts(point), new.accepts(point));
            let mut packet = Packet::first(
                Direction::In,
                hepguard::packet::Protocol(protocol),
                (std::net::Ipv4Addr::from(source).into(), 40_000),
                (std::net::Ipv4Addr::new(10, 0, 1, 10).into(), port),
            );
            packet.iif = Some("eth0".into());
            packet.packet_type = Some(hepguard::packet::PacketType::Host);
            (packet.ttl, packet.tos, packet.length) = (Some(64), Some(0), Some(60));
            if established {
                packet.state = hepguard::packet::CtState::ESTABLISHED;
                packet.tcp_flags = hepguard::packet::TcpFlags(if protocol == 6 { 16 } else { 0 });
                packet.ct.mark = Some(0);
            }
            let changes = of_packet(&diff, &packet);
            let found = [&changes.gained, &changes.lost, &changes.undecided].map(|pieces| among(pieces, &packet));
            assert_eq!(found, [!was && is, was && !is, false], "seed {seed}: {packet:?}\n{before}\n{after}");
            if was == is { &mut equal } else { &mut differing }.add_assign(1);
        }
    }
    assert!(differing > 500 && equal > 5_000, "{differing} differ, {equal} do not");
}

/// The way in alone, without a host around the rules.
fn of_v4_alone(before: &str, after: &str) -> Diff {
    let read = |text: &str| {
        let mut files = hepguard::files::SnapshotFiles::default();
        let state = hepguard::files::FileState::Present(text.as_bytes().to_vec());
        files.files.insert("iptables-save.txt".to_owned(), state);
        hepguard::snapshot::read(files)
    };
    let wanted = Wanted { families: vec![Family::Ipv4], ways: vec![Direction::In], ..whole() };
    compare(&read(before), &read(after), &wanted)
}

/// Address translation, rates, a recent list, an opaque property and marks, where the host around the rules is not known.
const DOUBTFUL: &str = "*raw
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A PREROUTING -p udp -m udp --dport 123 -j CT --notrack
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A PREROUTING -p tcp -m tcp --dport 80 -j DNAT --to-destination 172.17.0.2:8080
-A PREROUTING -p tcp -m tcp --dport 81 -j DNAT --to-destination 172.17.0.2-172.17.0.9
-A PREROUTING -p tcp -m tcp --dport 3128 -j REDIRECT --to-ports 8080
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A POSTROUTING -s 10.8.0.0/24 -j SNAT --to-source 10.0.1.10-10.0.1.12
-A OUTPUT -d 10.96.0.10/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 172.17.0.2:8080
-A POSTROUTING -d 172.17.0.2/32 -p tcp -m tcp --dport 8080 -j MASQUERADE
COMMIT
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT -m conntrack --ctstate INVALID -j DROP
-A INPUT -p tcp -m tcp --dport 22 -m recent --update --seconds 60 --hitcount 4 --name ssh --rsource -j DROP
-A INPUT -p tcp -m tcp --dport 22 -m recent --set --name ssh --rsource -j ACCEPT
-A INPUT -p tcp -m string --string \"GET\" --algo bm --to 65535 -j ACCEPT
-A INPUT -p icmp -m limit --limit 5/sec -j ACCEPT
-A INPUT -p tcp -m tcp --dport 8080 -m connlimit --connlimit-upto 20 --connlimit-mask 32 --connlimit-saddr -j ACCEPT
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -m conntrack --ctstate DNAT -j ACCEPT
-A FORWARD -i docker0 -m statistic --mode random --probability 0.5 -j ACCEPT
-A FORWARD -d 172.17.0.0/16 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A OUTPUT -m owner --uid-owner 1000 -m quota --quota 1000 -j DROP
COMMIT
";

#[test]
fn nothing_differs_from_itself_whatever_cannot_be_decided() {
    let alone = |text: &str| {
        let mut files = hepguard::files::SnapshotFiles::default();
        let state = hepguard::files::FileState::Present(text.as_bytes().to_vec());
        files.files.insert("iptables-save.txt".to_owned(), state);
        hepguard::snapshot::read(files)
    };
    let hosted = read("", &[("iptables-save.txt", DOUBTFUL)]);
    // a rule that only counts makes the two be walked; what is the same is seen without
    let first = "-A INPUT -m conntrack --ctstate INVALID";
    let counting = DOUBTFUL.replace(first, &format!("-A INPUT -s 10.0.0.0/8\n{first}"));
    let hosted_counting = read("", &[("iptables-save.txt", &counting)]);
    let pairs = [
        (alone(DOUBTFUL), alone(DOUBTFUL)),
        (alone(DOUBTFUL), alone(&counting)),
        (hosted.clone(), hosted.clone()),
        (hosted.clone(), hosted_counting),
    ];
    for (before, after) in &pairs {
        let diff = compare(before, after, &Wanted { families: vec![Family::Ipv4], ..whole() });
        for part in &diff.parts {
            assert!(part.changes.as_ref().expect("room").is_empty(), "{part:#?}");
        }
    }
    // twenty translated addresses ask more than there are variables for: the same rules are equal all the same
    let first = "-A OUTPUT -d 10.96.0.10/32";
    let rule = |n: u8| {
        format!("-A OUTPUT -d 10.96.1.{n}/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 172.17.0.{n}:80\n")
    };
    let many: String = (10..30).map(rule).collect();
    let many = DOUBTFUL.replace(first, &format!("{many}{first}"));
    let diff = compare(&alone(&many), &alone(&many), &Wanted { families: vec![Family::Ipv4], ..whole() });
    assert!(diff.parts.iter().all(|part| part.changes.as_ref().expect("no walk").is_empty()), "{diff:#?}");
    // a rule that matters is still seen through all the doubt
    let without = DOUBTFUL.replace("-A FORWARD -m conntrack --ctstate DNAT -j ACCEPT\n", "");
    let diff = compare(&hosted, &read("", &[("iptables-save.txt", &without)]), &Wanted::default());
    let forward = diff.parts.iter().find(|part| part.way == Direction::Forward).expect("its part");
    assert!(!forward.changes.as_ref().expect("room").is_empty(), "{forward:#?}");
}
