//! Rendered rules as values of the firewall's model: what a listing of them would be read as.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::RenderedTable;
use super::rule::{Criterion, FelixRule, ProtocolName, RuleAction, Side, hashes};
use super::save::{SaveOptions, save_text};
use crate::calico::hash::appends;
use crate::calico::names::nft_set_name;
use crate::packet::Hook;
use crate::packet::{Family, InterfacePattern, PortRange, Prefix, Protocol};
use crate::ruleset::readers::iptables_save;
use crate::ruleset::{
    Backend, BaseChain, Chain, ChainKind, Effect, Expr, FibField, FibResult, Field, Interval, Match, OpaqueKind,
    Operator, Policy, Rule, Rules, SetRef, Step, Table, Verdict, interface_interval, print,
};

/// Felix's table in nft mode.
pub const NFT_TABLE: &str = "calico";

/// What rendered tables are said to be read from.
pub const SOURCE: &str = "rendered";

/// Felix's base chains in nft mode: layer, hook, priority.
const BASES: [(&str, &str, Hook, i32); 14] = [
    ("filter", "INPUT", Hook::Input, 0),
    ("filter", "FORWARD", Hook::Forward, 0),
    ("filter", "OUTPUT", Hook::Output, 0),
    ("raw", "PREROUTING", Hook::Prerouting, -300),
    ("raw", "OUTPUT", Hook::Output, -300),
    ("mangle", "PREROUTING", Hook::Prerouting, -150),
    ("mangle", "INPUT", Hook::Input, -150),
    ("mangle", "FORWARD", Hook::Forward, -150),
    ("mangle", "OUTPUT", Hook::Output, -150),
    ("mangle", "POSTROUTING", Hook::Postrouting, -150),
    ("nat", "PREROUTING", Hook::Prerouting, -100),
    ("nat", "INPUT", Hook::Input, -100),
    ("nat", "OUTPUT", Hook::Output, 110),
    ("nat", "POSTROUTING", Hook::Postrouting, 110),
];

/// The rendered tables as tables of `backend`, with nothing of others in them: four of iptables, or nft's one.
#[must_use]
pub fn ruleset_tables(tables: &[RenderedTable], backend: Backend, family: Family) -> Vec<Table> {
    if backend == Backend::Nft {
        return vec![nft_table(tables, family)];
    }
    let text = save_text(tables, family, &SaveOptions::default());
    iptables_save::read(&Arc::from(SOURCE), text.as_bytes(), backend, family).value
}

fn nft_table(tables: &[RenderedTable], family: Family) -> Table {
    let mut chains: BTreeMap<String, Chain> = BTreeMap::new();
    let empty = |name: &str, base| Chain { name: Arc::from(name), base, rules: Rules::default(), line: 0 };
    for (layer, hook, at, priority) in BASES {
        let kind = match (layer, at) {
            ("nat", _) => ChainKind::Nat,
            ("mangle", Hook::Output) => ChainKind::Route,
            _ => ChainKind::Filter,
        };
        let base = BaseChain { kind, hook: at, priority, policy: Policy::Accept, devices: Vec::new() };
        let name = format!("{layer}-{hook}");
        chains.insert(name.clone(), empty(&name, Some(base)));
    }
    for table in tables {
        let layer = table.name;
        let own = table.chains.iter().map(|(chain, rules)| (chain.as_str(), false, rules.clone()));
        let of = |list: &[(&'static str, FelixRule)], appended| {
            let mut hooks: BTreeMap<&'static str, Vec<FelixRule>> = BTreeMap::new();
            for (kernel, rule) in list {
                hooks.entry(kernel).or_default().push(rule.clone());
            }
            hooks.into_iter().map(move |(kernel, rules)| (kernel, appended, rules)).collect::<Vec<_>>()
        };
        for (chain, appended, rules) in own.chain(of(&table.inserts, false)).chain(of(&table.appends, true)) {
            let name = format!("{layer}-{chain}");
            let hashed = if appended { appends(&name) } else { name.clone() };
            let hashes = hashes(&hashed, rules.iter().map(|rule| rule.nft_text(layer, family)));
            let read = rules.iter().zip(hashes).map(|(rule, hash)| {
                let comment = format!("cali:{hash}; {}", rule.comments.join(" "));
                nft_rule(rule, layer, comment.trim_end(), family)
            });
            chains.entry(name.clone()).or_insert_with(|| empty(&name, None)).rules.extend(read);
        }
    }
    Table {
        backend: Backend::Nft,
        family,
        name: Arc::from(NFT_TABLE),
        dormant: false,
        chains: chains.into_values().collect(),
        sets: Vec::new(),
        flowtables: Vec::new(),
        source: Arc::from(SOURCE),
        other: Vec::new(),
    }
}

/// A rule as nft lists it.
fn nft_rule(rule: &FelixRule, layer: &str, comment: &str, family: Family) -> Rule {
    let mut steps: Vec<Step> = Vec::new();
    for (place, criterion) in rule.criteria.iter().enumerate() {
        let condition = condition(criterion, family);
        // ports and ICMP types bring their protocol along, and nft lists it only there
        let later = rule.criteria.iter().skip(place + 1);
        if later.filter_map(|later| implied_protocol(rule, later)).any(|implied| implied == condition) {
            continue;
        }
        if let Some(implied) = implied_protocol(rule, criterion)
            && !steps.iter().any(|step| *step == Step::Match(implied.clone()))
        {
            steps.push(Step::Match(implied));
        }
        steps.push(Step::Match(condition));
    }
    let mut words = None;
    match &rule.action {
        None if rule.criteria.is_empty() => steps.push(Step::Verdict(Verdict::Continue)),
        None => {}
        Some(action) => {
            steps.push(Step::Effect(Effect::Count));
            words = log_words(action).map(|words| (steps.len(), words));
            steps.push(act(action, layer, family));
        }
    }
    let mut built = Rule { steps, comments: vec![comment.into()], ..Rule::default() };
    built.text = match words {
        None => print::nft::rule(family, &built).into(),
        // the model does not hold a log line's level and size
        Some((at, words)) => {
            let text = print::nft::steps(family, built.steps.get(..at).unwrap_or_default());
            format!("{text} {words} comment \"{comment}\"").into()
        }
    };
    built
}

fn log_words(action: &RuleAction) -> Option<String> {
    match action {
        RuleAction::Nflog { group, prefix, .. } => Some(format!("log prefix \"{prefix}\" group {group} snaplen 80")),
        RuleAction::Log { prefix } => Some(format!("log prefix \"{prefix}: \" level info")),
        _ => None,
    }
}

fn implied_protocol(rule: &FelixRule, criterion: &Criterion) -> Option<Match> {
    let number = match criterion {
        Criterion::Ports { .. } | Criterion::DestinationPort(_) => {
            protocol_number(&ProtocolName::Name(rule.transport()))
        }
        Criterion::Icmp { version: Family::Ipv6, .. } => 58,
        Criterion::Icmp { .. } => 1,
        _ => return None,
    };
    Some(Match::equals(Field::L4proto, number))
}

fn protocol_number(protocol: &ProtocolName) -> u128 {
    match protocol {
        ProtocolName::Number(number) => u128::from(*number),
        ProtocolName::Name(name) if name == "icmpv6" => u128::from(Protocol::ICMPV6.0),
        // policy knows few names, and all of them are known here
        ProtocolName::Name(name) => name.parse::<Protocol>().map_or(u128::MAX, |protocol| u128::from(protocol.0)),
    }
}

fn compare(left: Expr, operator: Operator, right: u128) -> Match {
    Match::Compare { left, operator, right: Expr::Number(right) }
}

fn equal(negate: bool) -> Operator {
    if negate { Operator::Ne } else { Operator::Eq }
}

fn address(side: Side, family: Family) -> Field {
    match (side, family) {
        (Side::Source, Family::Ipv6) => Field::Ip6Saddr,
        (Side::Destination, Family::Ipv6) => Field::Ip6Daddr,
        (Side::Source, _) => Field::Ip4Saddr,
        (Side::Destination, _) => Field::Ip4Daddr,
    }
}

fn port(side: Side) -> Field {
    if side == Side::Source { Field::Sport } else { Field::Dport }
}

/// One interval; a single value is a comparison, as nft lists it.
fn interval(field: Field, negate: bool, low: u128, high: u128) -> Match {
    if low == high {
        compare(Expr::Field(field), equal(negate), low)
    } else {
        Match::within(field, negate, [Interval { low, high }])
    }
}

fn net(side: Side, net: Prefix, negate: bool, family: Family) -> Match {
    let (low, high) = net.range();
    interval(address(side, family), negate, low, high)
}

fn ports(side: Side, ports: &[PortRange], negate: bool) -> Match {
    let intervals = ports.iter().map(|port| Interval { low: port.low.into(), high: port.high.into() });
    match ports {
        [one] => interval(port(side), negate, one.low.into(), one.high.into()),
        _ => Match::within(port(side), negate, intervals),
    }
}

fn interface(field: Field, name: &str) -> Match {
    let pattern = match name.strip_suffix('*') {
        Some(prefix) => InterfacePattern::prefix(prefix),
        None => InterfacePattern::exact(name),
    };
    let Interval { low, high } = interface_interval(&pattern);
    interval(field, false, low, high)
}

fn mark_bits(bits: u32) -> Expr {
    Expr::And(Box::new(Expr::Field(Field::Mark)), Box::new(Expr::Number(bits.into())))
}

fn condition(criterion: &Criterion, family: Family) -> Match {
    match criterion {
        Criterion::Protocol { protocol, negate } => {
            compare(Expr::Field(Field::L4proto), equal(*negate), protocol_number(protocol))
        }
        Criterion::Net { side, net: prefix, negate } => net(*side, *prefix, *negate, family),
        Criterion::Set { side, set, negate } => Match::Lookup {
            left: Expr::Field(address(*side, family)),
            negate: *negate,
            set: SetRef::Named(nft_set_name(set).into()),
        },
        Criterion::PortSet { side, set, negate } => Match::Lookup {
            left: Expr::Concat([address(*side, family), Field::L4proto, port(*side)].map(Expr::Field).into()),
            negate: *negate,
            set: SetRef::Named(nft_set_name(set).into()),
        },
        Criterion::Ports { side, ports: all, negate } => ports(*side, all, *negate),
        Criterion::DestinationPort(port) => compare(Expr::Field(Field::Dport), Operator::Eq, (*port).into()),
        Criterion::Icmp { version, kind, code, negate } => icmp(*version, *kind, *code, *negate),
        Criterion::MarkSet(bits) => compare(mark_bits(*bits), Operator::Eq, (*bits).into()),
        Criterion::MarkClear(bits) => compare(mark_bits(*bits), Operator::Eq, 0),
        Criterion::MarkNotClear(bits) => compare(mark_bits(*bits), Operator::Ne, 0),
        Criterion::State(states) => {
            let bit = |state: &str| match state {
                "INVALID" => 1,
                "ESTABLISHED" => 2,
                "RELATED" => 4,
                "NEW" => 8,
                _ => 64,
            };
            let bits = states.split(',').map(bit).sum();
            compare(Expr::Field(Field::CtState), Operator::AnyBit, bits)
        }
        // nft compares the whole word where it is negated: Felix's mistake, not ours
        Criterion::Dnat { negate } => {
            let operator = if *negate { Operator::Ne } else { Operator::AnyBit };
            compare(Expr::Field(Field::CtStatus), operator, 32)
        }
        Criterion::InInterface(name) => interface(Field::Iifname, name),
        Criterion::OutInterface(name) => interface(Field::Oifname, name),
        Criterion::LocalAddress(side) => {
            let source = *side == Side::Source;
            let fib = FibField { source, mark: false, iif: false, oif: false, result: FibResult::Type };
            compare(Expr::Fib(fib), Operator::Eq, 2)
        }
        Criterion::ReversePathFails => {
            let fib = FibField { source: true, mark: true, iif: true, oif: false, result: FibResult::Oif };
            compare(Expr::Fib(fib), Operator::Eq, 0)
        }
        Criterion::Limit { rate, burst } => {
            // nft does not print the burst of 5 packets, which is the default
            let burst = if *burst == 5 { String::new() } else { format!(" burst {burst} packets") };
            Match::Opaque { kind: OpaqueKind::Stateful, text: format!("limit rate {rate}{burst}").into() }
        }
    }
}

fn icmp(version: Family, kind: u8, code: Option<u8>, negate: bool) -> Match {
    let (kind_field, code_field) = match version {
        Family::Ipv6 => (Field::Icmp6Type, Field::Icmp6Code),
        _ => (Field::IcmpType, Field::IcmpCode),
    };
    let of_kind = compare(Expr::Field(kind_field), equal(negate), kind.into());
    match code {
        None => of_kind,
        Some(code) => Match::All(vec![of_kind, compare(Expr::Field(code_field), equal(negate), code.into())]),
    }
}

fn act(action: &RuleAction, layer: &str, family: Family) -> Step {
    let number = |bits: u32| Box::new(Expr::Number(bits.into()));
    let mark = |value| Step::Effect(Effect::Set { field: Field::Mark, value });
    let old = || Box::new(Expr::Field(Field::Mark));
    match action {
        RuleAction::Accept => Step::Verdict(Verdict::Accept),
        RuleAction::Drop => Step::Verdict(Verdict::Drop),
        RuleAction::Reject => {
            let version = if family == Family::Ipv6 { "icmpv6" } else { "icmp" };
            Step::Verdict(Verdict::Reject(format!("{version} port-unreachable").into()))
        }
        RuleAction::Return => Step::Verdict(Verdict::Return),
        RuleAction::Jump(chain) => Step::Verdict(Verdict::Jump(format!("{layer}-{chain}").into())),
        RuleAction::Goto(chain) => Step::Verdict(Verdict::Goto(format!("{layer}-{chain}").into())),
        RuleAction::SetMark(bits) => mark(Expr::Or(old(), number(*bits))),
        RuleAction::ClearMark(bits) => mark(Expr::And(old(), number(!bits))),
        RuleAction::SetMaskedMark { mark: 0, mask } => mark(Expr::And(old(), number(!mask))),
        // nft lists the bits that are set among those that stay
        RuleAction::SetMaskedMark { mark: bits, mask } => {
            mark(Expr::Or(Box::new(Expr::And(old(), number(!mask | bits))), number(*bits)))
        }
        RuleAction::NoTrack => Step::Effect(Effect::NoTrack),
        RuleAction::Nflog { group, prefix, .. } => {
            Step::Effect(Effect::Log { prefix: Some(prefix.as_str().into()), group: Some(*group), options: "".into() })
        }
        RuleAction::Log { prefix } => {
            Step::Effect(Effect::Log { prefix: Some(format!("{prefix}: ").into()), group: None, options: "".into() })
        }
    }
}
