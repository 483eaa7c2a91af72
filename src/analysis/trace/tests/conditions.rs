//! Fields, operators, sets, ipsets, routing questions.

use super::build::*;
use crate::analysis::trace::TraceVerdict::{Accept, Drop, Unknown};
use crate::analysis::trace::{TraceOptions, trace};
use crate::host::Host;
use crate::packet::{ConntrackView, CtState, CtStatus, Family, Hook, Packet, Protocol};
use crate::ruleset::SetDirection::{Dst, Src};
use crate::ruleset::{
    DataType, ElementExtra, Elements, Expr, FibField, FibResult, Field, Interval, Match, Operator, PayloadBase, Policy,
    Ruleset, SetRef, Step, interface_interval,
};

fn allows(step: Step, packet: &Packet) -> bool {
    let trace = run(&input([rule([step, accept()])]), packet);
    assert!(trace.certain, "{trace:?}");
    trace.verdict == Accept
}

fn icmp() -> Packet {
    Packet { protocol: Protocol::ICMP, sport: None, dport: None, icmp: Some((8, 0)), ..tcp_in(0) }
}

fn v6() -> Packet {
    Packet { src: ip("2001:db8::7"), dst: ip("2001:db8::10"), ..tcp_in(22) }
}

#[test]
fn a_missing_field_ends_the_rule_but_iptables_not_turns_it_round() {
    let field = |operator| on(Match::Compare { left: Expr::Field(Field::Ip4Saddr), operator, right: Expr::Number(1) });
    assert!(!allows(field(Operator::Eq), &v6()));
    assert!(!allows(field(Operator::Ne), &v6()), "nft: no such field, no match, whatever the operator");
    assert!(allows(field(Operator::Ne), &tcp_in(22)));
    let lookup = |negate| on(Match::within(Field::Ip4Saddr, negate, [prefix("10.0.0.0/8")]));
    assert!(!allows(lookup(true), &v6()));
    assert!(allows(lookup(true), &tcp_in(22)));
    let not = on(Match::Not(Box::new(Match::equals(Field::Ip4Saddr, 1))));
    assert!(allows(not, &v6()), "iptables: what does not hold is not");
}

#[test]
fn every_operator() {
    use Operator::{AnyBit, Eq, Ge, Gt, Le, Lt, Ne, NoBit};
    for (operator, right, holds) in [
        (Eq, 22, true),
        (Ne, 22, false),
        (Lt, 23, true),
        (Gt, 22, false),
        (Le, 22, true),
        (Ge, 23, false),
        (AnyBit, 0b10010, true),
        (AnyBit, 0b01001, false),
        (NoBit, 0b01001, true),
    ] {
        let step = on(Match::Compare { left: Expr::Field(Field::Dport), operator, right: Expr::Number(right) });
        assert_eq!(allows(step, &tcp_in(22)), holds, "22 {operator:?} {right}");
    }
}

#[test]
fn bitwise_expressions_and_raw_bytes() {
    let dport = || Box::new(Expr::Field(Field::Dport));
    let number = |n| Box::new(Expr::Number(n));
    let payload = |offset, length| Expr::Payload { base: PayloadBase::Network, offset, length };
    for (left, right) in [
        (Expr::Or(dport(), number(1)), 23),
        (Expr::Xor(dport(), number(22)), 0),
        (Expr::Shl(dport(), number(4)), 22 << 4),
        (Expr::Shr(dport(), number(1)), 11),
        (payload(72, 8), 6),
        (payload(96, 32), u128::from(0xcb00_7107u32)),
        (Expr::Payload { base: PayloadBase::Transport, offset: 16, length: 16 }, 22),
        (Expr::Payload { base: PayloadBase::Transport, offset: 110, length: 1 }, 1),
    ] {
        let text = format!("{left:?}");
        let step = on(Match::Compare { left, operator: Operator::Eq, right: Expr::Number(right) });
        assert!(allows(step, &tcp_in(22)), "{text}");
    }
}

#[test]
fn unknown_fields_make_unknown_verdicts_only_where_they_matter() {
    let ttl = on(Match::equals(Field::Ip4Ttl, 1));
    let trace = run(&input([rule([ttl.clone(), accept()])]), &tcp_in(22));
    assert_eq!(trace.verdict, Unknown);
    assert_eq!(trace.because[0].reason, "asks for TTL, which is not known");
    // a port that rules the packet out first leaves nothing to ask
    expect(&input([rule([dport(80), ttl, accept()])]), &tcp_in(22), Drop);
}

#[test]
fn concatenations_look_up_all_dimensions() {
    let mut elements = Elements::new(3);
    elements.push(&[prefix("203.0.113.0/24"), Interval::single(6), Interval { low: 20, high: 30 }], None, None);
    let left = Expr::Concat([Field::Ip4Saddr, Field::L4proto, Field::Dport].map(Expr::Field).into());
    let step = on(Match::Lookup { left, negate: false, set: SetRef::Anonymous(Box::new(elements)) });
    assert!(allows(step.clone(), &tcp_in(22)));
    assert!(!allows(step, &tcp_in(31)));
}

#[test]
fn interfaces_match_by_pattern_and_none_is_not_any_name() {
    let iif = |pattern: &str| {
        let interval = interface_interval(&crate::packet::InterfacePattern::from_nft(pattern));
        on(Match::within(Field::Iifname, false, [interval]))
    };
    assert!(allows(iif("ens*"), &tcp_in(22)) && !allows(iif("ens"), &tcp_in(22)));
    let rules = ruleset([table([base(Hook::Output, 0, Policy::Drop, [rule([iif("ens5"), accept()])])])]);
    expect(&rules, &tcp_out(22), Drop);
}

fn with_ipset(set: crate::ruleset::Set, step: Step) -> Ruleset {
    Ruleset { ipsets: vec![set], ..input([rule([step, accept()])]) }
}

#[test]
fn the_most_specific_prefix_wins_and_nomatch_is_an_exception() {
    let mut elements = Elements::new(1);
    let nomatch = ElementExtra { nomatch: true, ..ElementExtra::default() };
    elements.push(&[prefix("203.0.0.0/8")], None, None);
    elements.push(&[prefix("203.0.113.0/24")], None, Some(nomatch));
    elements.push(&[prefix("203.0.113.7")], None, None);
    let rules = with_ipset(ipset("s", "hash:net", &[DataType::Ipv4Addr], elements), in_ipset("s", &[Src]));
    for (source, verdict) in [("203.0.113.7", Accept), ("203.0.113.8", Drop), ("203.9.9.9", Accept), ("9.9.9.9", Drop)]
    {
        expect(&rules, &Packet { src: ip(source), ..tcp_in(22) }, verdict);
    }
}

#[test]
fn ports_of_ipsets_carry_the_protocol_and_icmp_its_type() {
    let key = [DataType::Ipv4Addr, DataType::InetProto, DataType::InetService];
    let mut elements = Elements::new(3);
    let me = Interval::single(number("10.0.1.10"));
    elements.push(&[me, Interval::single(6), Interval::single(22)], None, None);
    elements.push(&[me, Interval::single(1), Interval::single(0x0800)], None, None);
    let rules = with_ipset(ipset("s", "hash:ip,port", &key, elements), in_ipset("s", &[Dst, Dst]));
    expect(&rules, &tcp_in(22), Accept);
    expect(&rules, &Packet { protocol: Protocol::UDP, ..tcp_in(22) }, Drop);
    expect(&rules, &icmp(), Accept);
}

#[test]
fn ipsets_of_the_other_family_or_with_too_few_directions_never_match() {
    let mut elements = Elements::new(1);
    elements.push(&[Interval { low: 0, high: u128::MAX }], None, None);
    let mut set = ipset("s", "hash:net", &[DataType::Ipv6Addr], elements);
    set.family = Some(Family::Ipv6);
    expect(&with_ipset(set.clone(), in_ipset("s", &[Src])), &tcp_in(22), Drop);
    expect(&with_ipset(set.clone(), in_ipset("s", &[Src])), &v6(), Accept);
    expect(&with_ipset(set, in_ipset("s", &[])), &v6(), Drop);
}

#[test]
fn lists_of_sets_ask_each_member_and_stop_at_circles() {
    let mut elements = Elements::new(1);
    elements.push(&[prefix("203.0.113.0/24")], None, None);
    let member = ipset("m", "hash:net", &[DataType::Ipv4Addr], elements);
    let mut list = ipset("l", "list:set", &[], Elements::new(1));
    (list.family, list.member_sets) = (None, vec!["empty".into(), "m".into()]);
    let empty = ipset("empty", "hash:ip", &[DataType::Ipv4Addr], Elements::new(1));
    let mut rules = input([rule([in_ipset("l", &[Src]), accept()])]);
    rules.ipsets = vec![list.clone(), member, empty];
    expect(&rules, &tcp_in(22), Accept);
    list.member_sets = vec!["l".into()];
    rules.ipsets = vec![list];
    expect(&rules, &tcp_in(22), Unknown);
}

#[test]
fn in_interface_sets_the_most_specific_network_hides_wider_ones_on_other_interfaces() {
    let interface = |name: &[u8]| Interval::single(crate::ruleset::interface_number(name));
    let mut elements = Elements::new(2);
    elements.push(&[prefix("203.0.0.0/8"), interface(b"ens5")], None, None);
    elements.push(&[prefix("203.0.113.0/24"), interface(b"eth1")], None, None);
    let set = ipset("s", "hash:net,iface", &[DataType::Ipv4Addr, DataType::Ifname], elements);
    let rules = with_ipset(set, in_ipset("s", &[Src, Src]));
    expect(&rules, &tcp_in(22), Drop);
    expect(&rules, &Packet { src: ip("203.0.114.7"), ..tcp_in(22) }, Accept);
    expect(&rules, &Packet { iif: Some("eth1".into()), ..tcp_in(22) }, Accept);
}

#[test]
fn interface_sets_and_port_bitmaps() {
    let mut elements = Elements::new(2);
    let ens5 = Interval::single(crate::ruleset::interface_number(b"ens5"));
    elements.push(&[prefix("203.0.113.0/24"), ens5], None, None);
    let set = ipset("s", "hash:net,iface", &[DataType::Ipv4Addr, DataType::Ifname], elements);
    expect(&with_ipset(set.clone(), in_ipset("s", &[Src, Src])), &tcp_in(22), Accept);
    expect(&with_ipset(set, in_ipset("s", &[Src, Dst])), &tcp_in(22), Drop);
    // as the reader has it: once for TCP, once for UDP
    let listing = b"create s bitmap:port range 0-1024\nadd s 20-25\n";
    let set = crate::ruleset::readers::ipset_save::read(&"ipset-save.txt".into(), listing).value.remove(0);
    let rules = with_ipset(set, in_ipset("s", &[Dst]));
    expect(&rules, &tcp_in(22), Accept);
    expect(&rules, &Packet { protocol: Protocol::SCTP, ..tcp_in(22) }, Drop);
}

#[test]
fn incomplete_sets_are_sure_of_what_they_hold() {
    let mut elements = Elements::new(1);
    elements.push(&[Interval::single(number("203.0.113.7"))], None, None);
    let mut set = ipset("s", "hash:ip", &[DataType::Ipv4Addr], elements);
    set.incomplete = Some("cut short".into());
    let rules = with_ipset(set, in_ipset("s", &[Src]));
    expect(&rules, &tcp_in(22), Accept);
    expect(&rules, &Packet { src: ip("9.9.9.9"), ..tcp_in(22) }, Unknown);

    // what is not seen of nets may be an exception inside them, unless there are none
    let mut elements = Elements::new(1);
    elements.push(&[Interval { low: number("203.0.113.0"), high: number("203.0.113.255") }], None, None);
    let mut set = ipset("s", "hash:net", &[DataType::Ipv4Addr], elements);
    set.incomplete = Some("cut short".into());
    expect(&with_ipset(set.clone(), in_ipset("s", &[Src])), &tcp_in(22), Unknown);
    set.without_exceptions = true;
    let rules = with_ipset(set, in_ipset("s", &[Src]));
    expect(&rules, &tcp_in(22), Accept);
    expect(&rules, &Packet { src: ip("9.9.9.9"), ..tcp_in(22) }, Unknown);
}

#[test]
fn maps_give_values_and_their_absence_ends_the_rule() {
    let mut elements = Elements::new(1);
    let data = crate::ruleset::Data::Value(vec![Interval::single(7)]);
    elements.push(&[Interval::single(22)], Some(data), None);
    let value = Expr::Map { key: Box::new(Expr::Field(Field::Dport)), map: SetRef::Anonymous(Box::new(elements)) };
    let assign = Step::Effect(crate::ruleset::Effect::Set { field: Field::Mark, value });
    let rules = input([rule([assign, accept()]), rule([bits(Field::Mark, 7, 7), accept()])]);
    expect(&rules, &tcp_in(22), Accept);
    expect(&rules, &tcp_in(23), Drop);
}

#[test]
fn fib_answers_come_from_the_host() {
    let fib = |source, result, iif| Expr::Fib(FibField { source, mark: false, iif, oif: false, result });
    let is = |left, value| {
        let step = on(Match::Compare { left, operator: Operator::Eq, right: Expr::Number(value) });
        input([rule([step, accept()])])
    };
    let ask =
        |rules: &Ruleset, host: &Host, packet: &Packet| trace(rules, host, packet, &TraceOptions::default()).verdict;
    let host = bastion();
    let local = is(fib(false, FibResult::Type, false), 2);
    assert_eq!(ask(&local, &host, &tcp_in(22)), Accept);
    assert_eq!(ask(&local, &host, &Packet { dst: ip("10.0.1.255"), ..tcp_in(22) }), Drop);
    assert_eq!(ask(&local, &Host::default(), &tcp_in(22)), Unknown);
    // reverse path: the source's route leaves by another interface
    let no_way_back = is(fib(true, FibResult::Oif, true), 0);
    assert_eq!(ask(&no_way_back, &host, &tcp_in(22)), Drop);
    assert_eq!(ask(&no_way_back, &host, &Packet { src: ip("10.8.0.1"), ..tcp_in(22) }), Accept);
}

#[test]
fn conntrack_details_of_a_new_packet_are_its_own() {
    let is = |field: Field, value| input([rule([on(Match::equals(field, value)), accept()])]);
    expect(&is(Field::CtState, CtState::NEW.0.into()), &tcp_in(22), Accept);
    expect(&is(Field::CtStatus, 0), &tcp_in(22), Accept);
    expect(&is(Field::CtDirection, 0), &tcp_in(22), Accept);
    expect(&is(Field::CtMark, 0), &tcp_in(22), Accept);
    expect(&is(Field::CtOrigDaddr4, number("10.0.1.10")), &tcp_in(22), Accept);
    let mut old = tcp_in(22);
    old.state = CtState::ESTABLISHED;
    expect(&is(Field::CtMark, 0), &old, Unknown);
    old.ct = ConntrackView { status: Some(CtStatus(0x0e)), mark: Some(0), ..ConntrackView::default() };
    expect(&is(Field::CtStatus, 0x0e), &old, Accept);
    // without a connection there is nothing to read but the state
    let invalid = Packet { state: CtState::INVALID, ..tcp_in(22) };
    expect(&is(Field::CtMark, 0), &invalid, Drop);
    expect(&is(Field::CtState, CtState::INVALID.0.into()), &invalid, Accept);
}
