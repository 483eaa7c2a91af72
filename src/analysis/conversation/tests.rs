//! Conversations on small firewalls, in iptables' words.

use super::{Conversation, Outcome, Ways, converse};
use crate::analysis::trace::{Engine, TraceOptions};
use crate::files::{FileState, SnapshotFiles};
use crate::packet::text::PacketSpec;
use crate::packet::{CtState, Packet};
use crate::snapshot::{self, Snapshot};

const ADDRESSES: &str = r#"[
{"ifindex":1,"ifname":"lo","flags":["LOOPBACK","UP"],"link_type":"loopback","addr_info":[
 {"family":"inet","local":"127.0.0.1","prefixlen":8,"scope":"host"}]},
{"ifindex":2,"ifname":"ens5","flags":["UP"],"link_type":"ether","addr_info":[
 {"family":"inet","local":"10.0.1.10","prefixlen":24,"scope":"global"}]},
{"ifindex":3,"ifname":"docker0","flags":["UP"],"link_type":"ether","addr_info":[
 {"family":"inet","local":"172.17.0.1","prefixlen":16,"scope":"global"}]}]"#;
const ROUTES: &str = r#"[{"dst":"default","gateway":"10.0.1.1","dev":"ens5"},
{"dst":"10.0.1.0/24","dev":"ens5"},{"dst":"172.17.0.0/16","dev":"docker0"},
{"type":"local","dst":"10.0.1.10","dev":"ens5","table":"local"},
{"type":"local","dst":"172.17.0.1","dev":"docker0","table":"local"}]"#;

fn host(rules: &str) -> Snapshot {
    let mut files = SnapshotFiles::default();
    for (name, text) in [
        ("iptables-save.txt", rules),
        ("ip-addr.json", ADDRESSES),
        ("ip-route.json", ROUTES),
        ("sysctl.txt", "net.netfilter.nf_conntrack_tcp_loose = 1\nnet.ipv4.ip_forward = 1\n"),
    ] {
        files.files.insert(name.to_owned(), FileState::Present(text.as_bytes().to_vec()));
    }
    let snapshot = snapshot::read(files);
    let told = |text: &str| text.ends_with("is not declared, its policy is taken as ACCEPT");
    assert!(snapshot.diagnostics.iter().all(|remark| told(&remark.message)), "{:?}", snapshot.diagnostics);
    snapshot
}

/// `in tcp 203.0.113.7:51522 10.0.1.10:22 ens5`
fn first(words: &str) -> Packet {
    let words: Vec<&str> = words.split(' ').collect();
    let mut spec = PacketSpec::new(words[0], words[1], words[2], words[3]).expect("a packet");
    let interface = words.get(4).map(|name| (*name).to_owned());
    if words[0] == "out" {
        spec.oif = interface;
    } else {
        spec.iif = interface;
    }
    spec.build().expect("a packet")
}

fn hold(rules: &str, words: &str) -> Conversation {
    let snapshot = host(rules);
    let engine = Engine::new(&snapshot.ruleset, &snapshot.host);
    converse(&engine, &first(words), &Ways::default(), &TraceOptions::default())
}

fn states(of: &Conversation) -> Vec<String> {
    of.exchanges.iter().map(|exchange| exchange.states.to_string()).collect()
}

const SSH: &str = "in tcp 203.0.113.7:51522 10.0.1.10:22 ens5";
const TRACKED: &str = "-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
    -A OUTPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT\n";

fn filter(rules: &str) -> String {
    format!("*filter\n:INPUT DROP [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT DROP [0:0]\n{rules}COMMIT\n")
}

#[test]
fn a_login_works_when_both_ways_are_open() {
    let held = hold(&filter(TRACKED), SSH);
    assert_eq!((held.outcome, held.exchanges.len(), held.broken_at()), (Outcome::Works, 5, None), "{held:?}");
    assert_eq!(states(&held), ["new", "established", "established", "established", "established"]);
    let names: Vec<&str> = held.exchanges.iter().map(|exchange| exchange.name).collect();
    assert_eq!(names, ["SYN", "SYN-ACK", "ACK", "data", "data back"]);
    let answer = &held.exchanges[1].packet;
    assert_eq!((answer.src.to_string().as_str(), answer.dport), ("10.0.1.10", Some(51522)));
}

#[test]
fn a_syn_that_gets_in_is_no_use_if_the_answer_is_dropped() {
    let held = hold(&filter("-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT\n"), SSH);
    assert_eq!((held.outcome, held.broken_at()), (Outcome::Broken, Some(2)));
    // the answer may leave, but what follows it may not come in
    let later = "-A INPUT -p tcp -m tcp --dport 22 --tcp-flags FIN,SYN,RST,ACK SYN -j ACCEPT\n\
                 -A OUTPUT -p tcp -m tcp --sport 22 -j ACCEPT\n";
    assert_eq!(hold(&filter(later), SSH).broken_at(), Some(3));
}

#[test]
fn what_is_not_tracked_is_not_established() {
    let raw = |rules: &str| format!("*raw\n{rules}COMMIT\n{}", filter(TRACKED));
    let to = "-A PREROUTING -p tcp -m tcp --dport 22 -j CT --notrack\n";
    let back = "-A OUTPUT -p tcp -m tcp --sport 22 -j CT --notrack\n";
    let one_way = hold(&raw(to), SSH);
    assert_eq!((one_way.broken_at(), states(&one_way)), (Some(2), vec!["untracked".into(), "invalid".into()]));
    let both = hold(&raw(&format!("{to}{back}")), SSH);
    assert_eq!((both.broken_at(), states(&both)), (Some(2), vec!["untracked".into(), "untracked".into()]));
    // the answer alone is not tracked: tracking takes the ACK for nothing it knows
    let without_drop = raw(back).replace(" DROP ", " ACCEPT ");
    assert_eq!(states(&hold(&without_drop, SSH)), ["new", "untracked", "invalid", "invalid", "untracked"]);
    // UDP is tracked from the answer on where only the request was not
    let dns = "*raw\n-A OUTPUT -p udp -j NOTRACK\nCOMMIT\n";
    let asked = hold(dns, "out udp 10.0.1.10:40000 10.0.0.2:53 ens5");
    assert_eq!((asked.outcome, states(&asked)), (Outcome::Works, vec!["untracked".into(), "new".into()]));
}

#[test]
fn translated_addresses_are_translated_back() {
    let nat = "*nat\n-A POSTROUTING -s 172.17.0.0/16 -o ens5 -j MASQUERADE\n\
        -A PREROUTING -i ens5 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80\nCOMMIT\n";
    let forward = "-A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT\n-A FORWARD -i docker0 -o ens5 -j ACCEPT\n\
        -A FORWARD -d 172.17.0.2 -p tcp -m tcp --dport 80 -m conntrack --ctstate DNAT -j ACCEPT\n";
    let rules = format!("{nat}{}", filter(forward));
    let out = hold(&rules, "forward tcp 172.17.0.2:40000 198.51.100.9:443 docker0");
    assert_eq!(out.outcome, Outcome::Works, "{out:?}");
    let answer = &out.exchanges[1].packet;
    assert_eq!(
        (answer.dst.to_string().as_str(), answer.dport, answer.iif.as_deref()),
        ("10.0.1.10", None, Some("ens5"))
    );
    let published = hold(&rules, "in tcp 203.0.113.7:51522 10.0.1.10:8080 ens5");
    assert_eq!(published.outcome, Outcome::Works, "{published:?}");
    assert_eq!(published.exchanges[1].packet.src.to_string(), "172.17.0.2");
}

#[test]
fn marks_saved_by_one_packet_are_read_by_the_next() {
    let mangle = "*mangle\n-A PREROUTING -m conntrack --ctstate NEW -j CONNMARK --set-xmark 0x5/0xffffffff\nCOMMIT\n";
    let rules = "-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT\n-A OUTPUT -m connmark --mark 0x5 -j ACCEPT\n";
    assert_eq!(hold(&format!("{mangle}{}", filter(rules)), SSH).outcome, Outcome::Works);
    assert_eq!(hold(&filter(rules), SSH).broken_at(), Some(2));
}

#[test]
fn status_and_direction_change_as_the_conversation_goes_on() {
    let rules = "-A INPUT -p tcp -m conntrack --ctstate NEW --ctdir ORIGINAL -j ACCEPT\n\
        -A OUTPUT -m conntrack --ctdir REPLY --ctstatus SEEN_REPLY -j ACCEPT\n\
        -A INPUT -m conntrack --ctstatus ASSURED -j ACCEPT\n";
    assert_eq!(hold(&filter(rules), SSH).outcome, Outcome::Works);
    let early = rules.replace("SEEN_REPLY", "ASSURED");
    assert_eq!(hold(&filter(&early), SSH).broken_at(), Some(2), "a SYN-ACK does not assure yet");
}

#[test]
fn what_cannot_be_decided_is_said_at_its_packet() {
    let rules = "-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT\n\
        -A OUTPUT -p tcp -m string --string \"x\" --algo bm -j ACCEPT\n";
    let held = hold(&filter(rules), SSH);
    assert_eq!((held.outcome, held.broken_at()), (Outcome::Unknown, None));
    let open = held.decisive().expect("a packet");
    assert_eq!((open.name, open.trace.because.len()), ("SYN-ACK", 1));
    // a first packet that may pass, and an answer that never does: broken either way
    let rules = "-A INPUT -p tcp -m string --string \"x\" --algo bm -j ACCEPT\n";
    assert_eq!(hold(&filter(rules), SSH).broken_at(), Some(2));
}

#[test]
fn a_mark_set_under_an_open_question_parts_the_conversation() {
    let mangle =
        "*mangle\n-A PREROUTING -m string --string \"x\" --algo bm -j CONNMARK --set-xmark 0x5/0xffffffff\nCOMMIT\n";
    let rules = "-A INPUT -p tcp -j ACCEPT\n-A OUTPUT -m connmark --mark 0x5 -j ACCEPT\n";
    let held = hold(&format!("{mangle}{}", filter(rules)), SSH);
    assert_eq!((held.outcome, held.exchanges[1].trace.certain), (Outcome::Unknown, false));
    assert!(held.exchanges[1].trace.because[0].reason.contains("string"), "{:?}", held.exchanges[1].trace.because);
}

#[test]
fn others_ask_and_are_answered_or_stand_alone() {
    let length = |words: &str| hold(&filter(""), words).length;
    assert_eq!(length("out udp 10.0.1.10:40000 10.0.0.2:53 ens5"), 2);
    assert_eq!(length("in icmp 203.0.113.7 10.0.1.10 ens5"), 2);
    assert_eq!(length("in 47 203.0.113.7 10.0.1.10 ens5"), 2);
    let broadcast = hold("*filter\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n", "out udp 10.0.1.10:68 255.255.255.255:67 ens5");
    assert_eq!((broadcast.length, broadcast.outcome, broadcast.notes.len()), (1, Outcome::Works, 1));
    let mut error = first("in icmp 203.0.113.7 10.0.1.10 ens5");
    (error.icmp, error.state) = (Some((3, 4)), CtState::RELATED);
    assert_eq!(super::script(&error).len(), 1);
    let ping = hold(
        &filter("-A INPUT -p icmp -j ACCEPT\n-A OUTPUT -m conntrack --ctstate NEW -j ACCEPT\n"),
        "in icmp 203.0.113.7 10.0.1.10 ens5",
    );
    assert_eq!((ping.broken_at(), states(&ping)), (Some(2), vec!["new".into(), "established".into()]));
}
