//! Hand-written conversations: what the kernel lets through, in which state, and that the library foretells it.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc;
use std::time::Duration;

use hepguard::analysis::conversation::Outcome::{self, Broken, Works};
use hepguard::analysis::trace::TraceVerdict;
use hepguard::packet::{ConntrackView, CtDirection, CtState, CtStatus, Direction, Packet, Protocol, Tuple};
use nix::sched::{CloneFlags, unshare};

use crate::dialogue::{self, Said};
use crate::firewall::{self, Firewall};
use crate::harness::{in_namespace, sysctl, tool};
use crate::judge::Listings;
use crate::lab::{Lab, Shot};
use crate::self_check::shot;
use crate::wire::Extra;

/// A conversation, and what becomes of it: how it ends, at which packet, and the states of those that passed.
struct Case {
    first: Packet,
    outcome: Outcome,
    broken_at: Option<usize>,
    states: &'static [&'static str],
}

fn opening(direction: Direction, protocol: Protocol, src: &str, dst: &str, ports: (u16, u16)) -> Packet {
    let mut packet = shot(direction, protocol, src, dst, ports.0, ports.1).packet;
    (packet.ct.original, packet.ct.reply) = (None, None);
    packet
}

fn works(first: Packet, states: &'static [&'static str]) -> Case {
    Case { first, outcome: Works, broken_at: None, states }
}

fn broken(first: Packet, states: &'static [&'static str]) -> Case {
    Case { first, outcome: Broken, broken_at: Some(states.len() + 1), states }
}

fn hold(name: &str, firewall: &Firewall, cases: Vec<Case>) {
    in_namespace(name, || {
        let mut lab = Lab::build().expect("a lab");
        firewall.load().expect("the rules load");
        let listings = Listings::read(firewall::list().expect("the rules are listed"));
        let judge = listings.judge();
        lab.watch().expect("the eye loads");
        for (echo_id, case) in (1..).zip(cases) {
            let (said, _) = dialogue::ask(&mut lab, &judge, &case.first, echo_id)
                .unwrap_or_else(|error| panic!("{name}: {error}{}", listings.remarks()));
            let kernel: Vec<String> = said.iter().filter_map(Said::seen).map(|seen| seen.state.to_string()).collect();
            let held = judge.converse(&case.first);
            let story = || format!("{name}: {said:?}\n{}", judge.explain_conversation(&case.first));
            assert_eq!((held.outcome, held.broken_at()), (case.outcome, case.broken_at), "{}", story());
            assert_eq!(kernel, case.states, "{}", story());
        }
    });
}

const LOGIN: [&str; 5] = ["new", "established", "established", "established", "established"];
const NEAR: &str = "10.0.1.77";
const OWN: &str = "10.0.1.10";
const FAR: &str = "198.51.100.9";

fn login(dport: u16) -> Packet {
    opening(Direction::In, Protocol::TCP, NEAR, OWN, (40_000 + dport, dport))
}

/// The same iptables rules, once for each backend.
fn both_backends(name: &str, ipv4: &str, cases: impl Fn() -> Vec<Case>) {
    let rules = || [ipv4.to_owned(), String::new()];
    hold(&format!("{name}, legacy"), &Firewall { legacy: rules(), ..Firewall::default() }, cases());
    hold(&format!("{name}, nft"), &Firewall { xtables_nft: rules(), ..Firewall::default() }, cases());
}

#[test]
fn answers_need_an_accept_of_their_own() {
    let rules = "*filter\n:INPUT DROP\n:FORWARD DROP\n:OUTPUT DROP\n\
        -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT\n\
        -A INPUT -p tcp -m multiport --dports 22,23,24 -j ACCEPT\n\
        -A INPUT -p udp -j ACCEPT\n-A INPUT -p icmp -j ACCEPT\n\
        -A OUTPUT -p tcp --sport 22 -m conntrack --ctstate ESTABLISHED --ctdir REPLY -j ACCEPT\n\
        -A OUTPUT -p tcp --sport 23 -m conntrack --ctstatus ASSURED -j ACCEPT\n\
        -A OUTPUT -p tcp --sport 24 --tcp-flags SYN,ACK SYN,ACK -j ACCEPT\n\
        -A OUTPUT -p udp -m conntrack --ctstatus SEEN_REPLY --ctorigdstport 53 -j ACCEPT\nCOMMIT\n";
    both_backends("answers", rules, || {
        let asked = |protocol, dport| opening(Direction::In, protocol, NEAR, OWN, (40_000, dport));
        vec![
            works(login(22), &LOGIN),
            broken(login(23), &["new"]),
            // a handshake without data
            broken(login(24), &["new", "established", "established", "established"]),
            works(asked(Protocol::UDP, 53), &["new", "established"]),
            broken(asked(Protocol::UDP, 54), &["new"]),
            broken(asked(Protocol::ICMP, 0), &["new"]),
        ]
    });
}

#[test]
fn what_is_not_tracked_stays_unknown_to_tracking() {
    let rules = "*raw\n-A PREROUTING -p tcp -m multiport --dports 22,24 -j CT --notrack\n\
        -A OUTPUT -p tcp -m multiport --sports 22,23 -j CT --notrack\n-A PREROUTING -p udp -j CT --notrack\nCOMMIT\n\
        *filter\n:INPUT ACCEPT\n:FORWARD ACCEPT\n:OUTPUT ACCEPT\n\
        -A INPUT -p tcp --dport 25 -m conntrack --ctstate INVALID -j DROP\nCOMMIT\n";
    both_backends("not tracked", rules, || {
        let dns = opening(Direction::In, Protocol::UDP, NEAR, OWN, (40_000, 53));
        vec![
            works(login(22), &["untracked"; 5]),
            // only the answers are not tracked: to tracking the handshake never ends
            works(login(23), &["new", "untracked", "invalid", "invalid", "untracked"]),
            // only the questions are not tracked: the SYN-ACK is nothing, later data a connection picked up half way
            works(login(24), &["untracked", "invalid", "untracked", "untracked", "new"]),
            works(dns, &["untracked", "new"]),
        ]
    });
}

#[test]
fn translations_are_undone_for_answers() {
    let rules = "*nat\n-A PREROUTING -i ens5 -p tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80\n\
        -A PREROUTING -p tcp --dport 81 -j REDIRECT --to-ports 8081\n\
        -A POSTROUTING -s 172.17.0.0/16 -o eth1 -j MASQUERADE\n\
        -A POSTROUTING -s 172.17.0.0/16 -d 172.17.0.2 -j MASQUERADE\n\
        -A PREROUTING -i docker0 -d 10.0.1.10/32 -p tcp --dport 82 -j DNAT --to-destination 172.17.0.2:80\n\
        -A OUTPUT -d 203.0.113.5/32 -p udp -j DNAT --to-destination 198.51.100.9:5353\nCOMMIT\n\
        *filter\n:INPUT DROP\n:FORWARD DROP\n:OUTPUT DROP\n\
        -A FORWARD -m conntrack --ctstate ESTABLISHED --ctdir REPLY -j ACCEPT\n\
        -A FORWARD -d 172.17.0.2/32 -p tcp --dport 80 -m conntrack --ctstate DNAT -j ACCEPT\n\
        -A FORWARD -s 172.17.0.0/16 -o eth1 -j ACCEPT\n\
        -A INPUT -p tcp --dport 8081 -m conntrack --ctorigdst 10.0.1.10 --ctorigdstport 81 -j ACCEPT\n\
        -A OUTPUT -p tcp --sport 8081 -m conntrack --ctstate DNAT -j ACCEPT\n\
        -A OUTPUT -d 198.51.100.9/32 -p udp --dport 5353 -j ACCEPT\n\
        -A INPUT -s 203.0.113.5/32 -p udp -m conntrack --ctreplsrc 198.51.100.9 -j ACCEPT\n\
        -A INPUT -s 198.51.100.9/32 -p udp -m conntrack --ctreplsrc 198.51.100.9 -j ACCEPT\nCOMMIT\n";
    both_backends("translations", rules, || {
        let inside = |dst: &str, dport| {
            let mut packet = opening(Direction::Forward, Protocol::TCP, "172.17.0.9", dst, (40_000, dport));
            packet.iif = Some("docker0".into());
            packet
        };
        let hairpin = Packet { direction: Direction::In, ..inside(OWN, 82) };
        vec![
            works(login(8080), &LOGIN),
            works(login(81), &LOGIN),
            works(inside(FAR, 443), &LOGIN),
            works(hairpin, &LOGIN),
            works(opening(Direction::Out, Protocol::UDP, OWN, "203.0.113.5", (40_001, 53)), &["new", "established"]),
        ]
    });
}

#[test]
fn marks_and_zones_belong_to_the_connection() {
    let nft = "table inet t {\n\
        chain zones { type filter hook prerouting priority -300; tcp dport 26 ct zone set 5; }\n\
        chain back { type filter hook output priority -300; tcp sport 27 ct zone set 5; }\n\
        chain p { type filter hook prerouting priority -150; ct state new ct mark set 0x5; }\n\
        chain i { type filter hook input priority 0; tcp dport 22 accept\n\
        tcp dport { 26, 27 } accept\n meta l4proto tcp drop; }\n\
        chain o { type filter hook output priority 0; tcp sport 22 ct mark != 0x5 drop\n\
        tcp sport { 26, 27 } ct state invalid drop; }\n}\n";
    let firewall = Firewall { nft: nft.to_owned(), ..Firewall::default() };
    hold(
        "marks and zones",
        &firewall,
        vec![works(login(22), &LOGIN), broken(login(26), &["new"]), broken(login(27), &["new"])],
    );
}

#[test]
fn what_is_looked_up_in_another_zone_is_not_found() {
    let rules = "*raw\n-A PREROUTING -p tcp --dport 22 -j CT --zone 5\n-A OUTPUT -p tcp --sport 22 -j CT --zone 5\n\
        -A PREROUTING -p tcp --dport 23 -j CT --zone 5\n-A PREROUTING -p tcp --dport 24 -j CT --zone-orig 6\nCOMMIT\n\
        *filter\n:INPUT ACCEPT\n:FORWARD ACCEPT\n:OUTPUT ACCEPT\n-A OUTPUT -m conntrack --ctstate INVALID -j DROP\nCOMMIT\n";
    both_backends("zones", rules, || vec![works(login(22), &LOGIN), broken(login(23), &["new"])]);
    // a zone for one direction alone is not followed
    in_namespace("zone of one direction", || {
        let _lab = Lab::build().expect("a lab");
        let firewall = Firewall { legacy: [rules.to_owned(), String::new()], ..Firewall::default() };
        firewall.load().expect("the rules load");
        let listings = Listings::read(firewall::list().expect("the rules are listed"));
        let judge = listings.judge();
        let held = judge.converse(&login(24));
        assert_eq!(held.outcome, Outcome::Unknown, "{}", judge.explain_conversation(&login(24)));
    });
}

#[test]
fn an_error_about_a_translated_conversation_is_related() {
    let rules = "*nat\n-A POSTROUTING -s 172.17.0.0/16 -o eth1 -j MASQUERADE\nCOMMIT\n\
        *filter\n:INPUT DROP\n:FORWARD DROP\n:OUTPUT DROP\n-A FORWARD -i docker0 -j ACCEPT\n\
        -A FORWARD -s 192.168.7.1/32 -d 172.17.0.9/32 -m conntrack --ctstate RELATED -j ACCEPT\nCOMMIT\n";
    in_namespace("related error", || {
        let mut lab = Lab::build().expect("a lab");
        let firewall = Firewall { legacy: [rules.to_owned(), String::new()], ..Firewall::default() };
        firewall.load().expect("the rules load");
        let listings = Listings::read(firewall::list().expect("the rules are listed"));
        let judge = listings.judge();
        lab.watch().expect("the eye loads");
        let mut syn = opening(Direction::Forward, Protocol::TCP, "172.17.0.9", FAR, (40_000, 443));
        syn.iif = Some("docker0".into());
        let said = dialogue::talk(&mut lab, &syn, 1).expect("the probe works");
        let sent = said.first().and_then(Said::seen).expect("the SYN goes out").ends;
        assert_eq!(sent.src, IpAddr::from([192, 168, 7, 10]), "the SYN is masqueraded");
        let own = Tuple { src: syn.src, sport: syn.sport, dst: syn.dst, dport: syn.dport };
        let back = Tuple { src: sent.dst, sport: sent.dport, dst: sent.src, dport: sent.sport };
        // a router on the way says that the packet is too big
        let about = |src: &str| {
            let mut error = opening(Direction::Forward, Protocol::ICMP, src, "192.168.7.10", (0, 0));
            (error.icmp, error.iif, error.state) = (Some((3, 4)), Some("eth1".into()), CtState::RELATED);
            let status = CtStatus::CONFIRMED.0 | CtStatus::SNAT.0 | 0x180;
            error.ct = ConntrackView {
                status: Some(CtStatus(status)),
                direction: Some(CtDirection::Reply),
                original: Some(own),
                reply: Some(back),
                mark: Some(0),
            };
            let extra = Extra { quoted: Some((Protocol::TCP, sent)), ..Extra::default() };
            Shot { packet: error, extra, entry: None }
        };
        for (src, passes) in [("192.168.7.1", true), ("192.168.7.2", false)] {
            let error = about(src);
            let outcome = lab.shoot(&error).expect("the probe works");
            let passed = matches!(outcome, crate::lab::Outcome::Passed(seen) if seen.state == CtState::RELATED);
            let verdict = if passes { TraceVerdict::Accept } else { TraceVerdict::Drop };
            let story = format!("{outcome:?}\n{}", judge.explain(&error.packet));
            assert_eq!((passed, judge.verdict(&error.packet)), (passes, verdict), "{src}: {story}");
        }
    });
}

/// Rules of the host, whether a TCP echo on port 2200 works from outside, and a UDP echo on port 5300.
const SOCKETS: [(&str, bool, bool); 6] = [
    ("", true, true),
    ("-P OUTPUT DROP", false, false),
    ("-P OUTPUT DROP\n-A OUTPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT", true, true),
    ("-A OUTPUT -p tcp --tcp-flags SYN,ACK SYN,ACK -j DROP", false, true),
    ("-A INPUT -p tcp --tcp-flags SYN,PSH PSH -j DROP", false, true),
    ("-A INPUT -p udp -j DROP", true, false),
];

#[test]
fn real_sockets_fare_as_foretold() {
    in_namespace("real sockets", || {
        let (tell, told) = mpsc::channel::<(i32, mpsc::Sender<()>)>();
        let (ask, asked) = mpsc::channel::<mpsc::Sender<(bool, bool)>>();
        let peer = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("root may make a network namespace");
            let (ready, linked) = mpsc::channel();
            tell.send((nix::unistd::gettid().as_raw(), ready)).expect("the host listens");
            linked.recv().expect("a link");
            tool("ip", &["-batch", "-"], "addr add 10.99.0.2/24 dev peer\nlink set peer up\n").expect("an address");
            while let Ok(answer) = asked.recv() {
                answer.send((tcp_echo(), udp_echo())).expect("the host listens");
            }
        });
        let (thread, ready) = told.recv().expect("a peer");
        let link = format!(
            "link set lo up\nlink add veth0 type veth peer name peer netns {thread}\naddr add 10.99.0.1/24 dev veth0\n\
             link set veth0 up\n"
        );
        tool("ip", &["-batch", "-"], &link).expect("a link");
        sysctl("net/ipv4/conf/all/rp_filter", "0").expect("a sysctl");
        ready.send(()).expect("the peer listens");
        serve();
        let first = |protocol, dport| {
            let mut packet = opening(Direction::In, protocol, "10.99.0.2", "10.99.0.1", (40_000, dport));
            packet.iif = Some("veth0".into());
            packet
        };
        for (rules, tcp, udp) in SOCKETS {
            let policies: String =
                rules.lines().filter_map(|line| line.strip_prefix("-P ")).map(|p| format!(":{p}\n")).collect();
            let lines: String =
                rules.lines().filter(|line| line.starts_with("-A")).map(|line| format!("{line}\n")).collect();
            let firewall = Firewall {
                legacy: [
                    format!("*filter\n:INPUT ACCEPT\n:FORWARD ACCEPT\n:OUTPUT ACCEPT\n{policies}{lines}COMMIT\n"),
                    String::new(),
                ],
                ..Firewall::default()
            };
            firewall.load().expect("the rules load");
            let listings = Listings::read(firewall::list().expect("the rules are listed"));
            let judge = listings.judge();
            let foretold = |protocol, dport| judge.converse(&first(protocol, dport)).outcome == Works;
            let (answer, answered) = mpsc::channel();
            ask.send(answer).expect("the peer listens");
            let real = answered.recv_timeout(Duration::from_secs(30)).expect("the peer answers");
            assert_eq!(real, (tcp, udp), "the sockets, under {rules:?}");
            assert_eq!(
                (foretold(Protocol::TCP, 2200), foretold(Protocol::UDP, 5300)),
                (tcp, udp),
                "the library, under {rules:?}"
            );
            firewall.unload().expect("the rules go");
            tool("conntrack", &["-F"], "").expect("no entries");
        }
        drop(ask);
        peer.join().expect("the peer ends");
    });
}

/// Echoes one message a connection, for as long as the test runs.
fn serve() {
    let listener = TcpListener::bind("10.99.0.1:2200").expect("a port");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut buffer = [0; 4];
                let _ = stream.read_exact(&mut buffer).and_then(|()| stream.write_all(&buffer));
            });
        }
    });
    let socket = UdpSocket::bind("10.99.0.1:5300").expect("a port");
    std::thread::spawn(move || {
        let mut buffer = [0; 16];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..length], from);
        }
    });
}

const PATIENCE: Duration = Duration::from_millis(600);

fn tcp_echo() -> bool {
    let server = SocketAddr::from(([10, 99, 0, 1], 2200));
    let Ok(mut stream) = TcpStream::connect_timeout(&server, PATIENCE) else { return false };
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut buffer = [0; 4];
    stream.write_all(b"ping").is_ok() && stream.read_exact(&mut buffer).is_ok() && &buffer == b"ping"
}

fn udp_echo() -> bool {
    let socket = UdpSocket::bind("10.99.0.2:0").expect("a port");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut buffer = [0; 16];
    socket.send_to(b"ping", "10.99.0.1:5300").is_ok()
        && socket.recv(&mut buffer).is_ok_and(|length| &buffer[..length] == b"ping")
}
