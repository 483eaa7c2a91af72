//! What connection tracking makes of packets by itself, and what the snapshot's connections tell.

use super::build::*;
use crate::analysis::trace::TraceVerdict::{Accept, Drop, Unknown};
use crate::analysis::trace::{Trace, TraceOptions, trace};
use crate::host::{Host, Session};
use crate::packet::{ConntrackView, CtDirection, CtState, CtStatus, Hook, Packet, Protocol, TcpFlags, Tuple};
use crate::ruleset::Policy::{self, Accept as AcceptPolicy};
use crate::ruleset::{Field, Match, NatKind, Ruleset, Step};

fn state(state: CtState) -> Step {
    on(Match::equals(Field::CtState, state.0.into()))
}

fn with_loose(value: Option<&str>) -> Host {
    let sysctl = |value: &str| ("net.netfilter.nf_conntrack_tcp_loose".to_owned(), value.to_owned());
    Host { sysctls: Some(value.map(sysctl).into_iter().collect()), ..bastion() }
}

fn on_host(rules: &Ruleset, host: &Host, packet: &Packet) -> Trace {
    trace(rules, host, packet, &TraceOptions::default())
}

#[test]
fn flags_that_open_no_connection_are_invalid() {
    let rules = input([rule([state(CtState::NEW), accept()])]);
    let with = |flags: &str| Packet { tcp_flags: flags.parse().expect("flags"), ..tcp_in(22) };
    let verdict = |flags, loose| on_host(&rules, &with_loose(loose), &with(flags)).verdict;
    for flags in ["syn", "syn,ece,cwr", "syn,urg"] {
        assert_eq!(verdict(flags, Some("1")), Accept, "{flags}");
    }
    for flags in ["syn,ack", "rst", "fin,ack", "syn,fin", "none", "fin"] {
        assert_eq!(verdict(flags, Some("1")), Drop, "{flags}");
    }
    assert_eq!([verdict("ack", Some("1")), verdict("ack", Some("0")), verdict("ack", None)], [Accept, Drop, Unknown]);
    let asked = on_host(&rules, &with_loose(None), &with("psh,ack"));
    assert!(asked.because[0].reason.contains("nf_conntrack_tcp_loose"), "{:?}", asked.because);
}

#[test]
fn icmp_that_asks_nothing_opens_no_connection() {
    let rules = input([rule([state(CtState::NEW), accept()])]);
    let icmp = |kind| Packet { protocol: Protocol::ICMP, icmp: Some((kind, 0)), sport: None, dport: None, ..tcp_in(0) };
    let verdict = |packet: &Packet| on_host(&rules, &bastion(), packet).verdict;
    assert_eq!(
        [verdict(&icmp(8)), verdict(&icmp(13)), verdict(&icmp(0)), verdict(&icmp(3))],
        [Accept, Accept, Drop, Drop]
    );
    let error = Packet { state: CtState::RELATED, ..icmp(3) };
    assert_eq!(verdict(&error), Drop, "an error about a connection is what it is said to be: related");
}

fn tuple(src: &str, sport: u16, dst: &str, dport: u16) -> Tuple {
    Tuple { src: ip(src), sport: Some(sport), dst: ip(dst), dport: Some(dport) }
}

#[test]
fn an_established_packets_connection_is_found_in_the_snapshot() {
    let rules = ruleset([table([
        nat_base(Hook::Prerouting, [rule([drop()])]),
        base(Hook::Input, 0, Policy::Drop, [rule([dport(22), bits(Field::CtMark, 7, 7), accept()])]),
    ])]);
    let session = Session {
        protocol: Protocol::TCP,
        original: tuple("203.0.113.7", 51522, "10.0.1.10", 2222),
        reply: tuple("10.0.1.10", 22, "203.0.113.7", 51522),
        state: CtState::ESTABLISHED,
        status: CtStatus(0x2e),
        protocol_state: None,
        mark: 7,
    };
    let host = Host { sessions: Some(vec![session]), ..bastion() };
    let later = |dport| Packet { state: CtState::ESTABLISHED, tcp_flags: TcpFlags::ACK, ..tcp_in(dport) };
    assert_eq!(on_host(&rules, &host, &later(2222)).verdict, Accept);
    let other = on_host(&rules, &host, &later(22));
    assert_eq!(other.verdict, Unknown, "{other:?}");
    assert!(other.notes[0].contains("hold none"), "{:?}", other.notes);
}

#[test]
fn a_translated_end_stays_translated_when_its_address_is_not_known() {
    let rules = ruleset([table([
        nat_base(Hook::Postrouting, []),
        base(
            Hook::Postrouting,
            200,
            AcceptPolicy,
            [rule([on(Match::equals(Field::Ip4Saddr, number("10.0.1.10"))), drop()])],
        ),
    ])]);
    let ct = |status| ConntrackView {
        status: Some(CtStatus(status)),
        direction: Some(CtDirection::Original),
        ..ConntrackView::default()
    };
    let later = |status| Packet { state: CtState::ESTABLISHED, ct: ct(status), ..tcp_out(22) };
    let verdict = |status| on_host(&rules, &bastion(), &later(status)).verdict;
    // only the source's translation matters at postrouting on the way out
    assert_eq!(
        [verdict(0x0e), verdict(0x0e | CtStatus::DNAT.0), verdict(0x0e | CtStatus::SNAT.0)],
        [Drop, Drop, Unknown]
    );
}

#[test]
fn nat_chains_do_not_see_a_second_packet_before_the_answer() {
    let rules = ruleset([table([
        nat_base(Hook::Prerouting, [rule([nat(NatKind::Dnat, Some("10.8.0.9"), None)])]),
        base(Hook::Forward, 0, Policy::Drop, []),
    ])]);
    let mut packet = tcp_in(22);
    assert_eq!(on_host(&rules, &bastion(), &packet).verdict, Drop);
    packet.ct.status = Some(CtStatus::CONFIRMED);
    assert_eq!(on_host(&rules, &bastion(), &packet).verdict, Accept);
}
