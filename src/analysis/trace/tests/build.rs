//! Small words to build rulesets and packets with.

use std::net::IpAddr;
use std::sync::Arc;

use crate::analysis::trace::{Trace, TraceOptions, TraceVerdict, trace};
use crate::host::{Host, Interface, InterfaceAddress, Route, RouteKind};
use crate::packet::{Direction, Family, Hook, Packet, Protocol};
use crate::ruleset::{
    Backend, BaseChain, Chain, ChainKind, DataType, Effect, Elements, Expr, Field, Interval, Match, Nat, NatKind,
    NatTarget, OpaqueKind, Operator, Policy, Rule, Ruleset, Set, SetDirection, SetKind, Step, Table, Verdict,
};

/// A packet from 203.0.113.7:51522 to 10.0.1.10.
pub(super) fn tcp_in(dport: u16) -> Packet {
    let peer = (ip("203.0.113.7"), 51522);
    let packet = Packet::first(Direction::In, Protocol::TCP, peer, (ip("10.0.1.10"), dport));
    Packet { iif: Some("ens5".into()), ..packet }
}

/// A packet from 10.0.1.10 to 147.75.40.148.
pub(super) fn tcp_out(dport: u16) -> Packet {
    Packet {
        direction: Direction::Out,
        src: ip("10.0.1.10"),
        dst: ip("147.75.40.148"),
        iif: None,
        oif: Some("ens5".into()),
        ..tcp_in(dport)
    }
}

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

pub(super) fn number(text: &str) -> u128 {
    crate::packet::address_bits(ip(text))
}

pub(super) fn rule(steps: impl IntoIterator<Item = Step>) -> Rule {
    Rule { steps: steps.into_iter().collect(), ..Rule::default() }
}

pub(super) fn on(condition: Match) -> Step {
    Step::Match(condition)
}

pub(super) fn dport(port: u16) -> Step {
    on(Match::equals(Field::Dport, port.into()))
}

pub(super) fn accept() -> Step {
    Step::Verdict(Verdict::Accept)
}

pub(super) fn drop() -> Step {
    Step::Verdict(Verdict::Drop)
}

pub(super) fn jump(name: &str) -> Step {
    Step::Verdict(Verdict::Jump(name.into()))
}

pub(super) fn goto(name: &str) -> Step {
    Step::Verdict(Verdict::Goto(name.into()))
}

pub(super) fn ret() -> Step {
    Step::Verdict(Verdict::Return)
}

pub(super) fn set(field: Field, value: u128) -> Step {
    Step::Effect(Effect::Set { field, value: Expr::Number(value) })
}

pub(super) fn opaque(text: &str) -> Step {
    on(Match::Opaque { kind: OpaqueKind::Property, text: text.into() })
}

pub(super) fn limited() -> Step {
    on(Match::Opaque { kind: OpaqueKind::Stateful, text: "limit".into() })
}

pub(super) fn bits(field: Field, mask: u128, value: u128) -> Step {
    let left = Expr::And(Box::new(Expr::Field(field)), Box::new(Expr::Number(mask)));
    on(Match::Compare { left, operator: Operator::Eq, right: Expr::Number(value) })
}

pub(super) fn nat(kind: NatKind, address: Option<&str>, port: Option<u16>) -> Step {
    let single = |value| NatTarget::Range(Interval::single(value));
    Step::Verdict(Verdict::Nat(Nat {
        kind,
        address: address.map(|text| single(number(text))),
        port: port.map(|port| single(port.into())),
        options: Box::default(),
    }))
}

pub(super) fn chain(name: &str, rules: impl IntoIterator<Item = Rule>) -> Chain {
    Chain { name: name.into(), base: None, rules: rules.into_iter().collect(), line: 0 }
}

pub(super) fn base(hook: Hook, priority: i32, policy: Policy, rules: impl IntoIterator<Item = Rule>) -> Chain {
    let base = BaseChain { kind: ChainKind::Filter, hook, priority, policy, devices: Vec::new() };
    Chain { base: Some(base), ..chain(&format!("{hook}{priority}"), rules) }
}

pub(super) fn nat_base(hook: Hook, rules: impl IntoIterator<Item = Rule>) -> Chain {
    let mut chain = base(hook, if hook == Hook::Output { -100 } else { 100 }, Policy::Accept, rules);
    if let Some(base) = &mut chain.base {
        base.kind = ChainKind::Nat;
    }
    chain
}

pub(super) fn table(chains: impl IntoIterator<Item = Chain>) -> Table {
    Table {
        backend: Backend::Nft,
        family: Family::Inet,
        name: "t".into(),
        dormant: false,
        chains: chains.into_iter().collect(),
        sets: Vec::new(),
        source: "test".into(),
        flowtables: Vec::new(),
        other: Vec::new(),
    }
}

pub(super) fn ruleset(tables: impl IntoIterator<Item = Table>) -> Ruleset {
    Ruleset { tables: tables.into_iter().collect(), ipsets: Vec::new() }
}

/// One input chain with policy drop.
pub(super) fn input(rules: impl IntoIterator<Item = Rule>) -> Ruleset {
    ruleset([table([base(Hook::Input, 0, Policy::Drop, rules)])])
}

pub(super) fn ipset(name: &str, type_name: &str, key: &[DataType], elements: Elements) -> Set {
    Set {
        name: name.into(),
        family: Some(Family::Ipv4),
        kind: SetKind::Ipset { type_name: type_name.into(), options: "family inet hashsize 1024".into() },
        key: key.to_vec(),
        elements,
        member_sets: Vec::new(),
        incomplete: None,
        without_exceptions: false,
        source: Arc::from("test"),
        line: 0,
    }
}

pub(super) fn in_ipset(name: &str, directions: &[SetDirection]) -> Step {
    on(Match::Ipset { name: name.into(), directions: directions.to_vec(), negate: false, options: None })
}

pub(super) fn prefix(text: &str) -> Interval {
    let (low, high) = text.parse::<crate::packet::Prefix>().expect("a prefix").range();
    Interval { low, high }
}

/// A bastion: ens5 with 10.0.1.10/24 and a default route, tun0 to 10.8.0.0/16. It forwards, and takes every source.
pub(super) fn bastion() -> Host {
    let route = |destination: &str, table, kind, device: &str| {
        Route::plain(destination.parse().expect("a prefix"), table, kind, Some(device))
    };
    let address = InterfaceAddress {
        address: ip("10.0.1.10"),
        prefix_length: 24,
        broadcast: Some(ip("10.0.1.255")),
        scope: "global".into(),
        dynamic: false,
        valid: None,
    };
    let ens5 = Interface { index: 2, name: "ens5".into(), up: true, addresses: vec![address], ..Interface::default() };
    let settings = [("rp_filter", "0"), ("accept_local", "1"), ("forwarding", "1"), ("route_localnet", "0")];
    let sysctls = ["all", "ens5", "tun0"]
        .into_iter()
        .flat_map(|device| settings.map(|(name, value)| (format!("net.ipv4.conf.{device}.{name}"), value.to_owned())));
    let forwarding6 = ("net.ipv6.conf.all.forwarding".to_owned(), "1".to_owned());
    Host {
        sysctls: Some(sysctls.chain([forwarding6]).collect()),
        interfaces: Some(vec![ens5]),
        routes: Some(vec![
            route("0.0.0.0/0", 254, RouteKind::Unicast, "ens5"),
            route("10.8.0.0/16", 254, RouteKind::Unicast, "tun0"),
            route("10.0.1.0/24", 254, RouteKind::Unicast, "ens5"),
            route("10.0.1.10", 255, RouteKind::Local, "ens5"),
            route("10.0.1.255", 255, RouteKind::Broadcast, "ens5"),
        ]),
        ..Host::default()
    }
}

pub(super) fn run(ruleset: &Ruleset, packet: &Packet) -> Trace {
    trace(ruleset, &Host::default(), packet, &TraceOptions::default())
}

#[track_caller]
pub(super) fn expect(ruleset: &Ruleset, packet: &Packet, verdict: TraceVerdict) {
    let trace = run(ruleset, packet);
    assert_eq!(trace.verdict, verdict, "{trace:?}");
    assert_eq!(trace.certain, verdict != TraceVerdict::Unknown);
}
