//! Listings written by an independent writer, the `nftables` crate, read as the rules they were built from.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use hepguard::packet::{Family, Hook, InterfacePattern};
use hepguard::ruleset::readers::nft_json;
use hepguard::ruleset::{
    Counters, Effect, Expr, Field, Interval, Match, Operator, Policy, Step, Verdict, interface_interval,
};
use nftables::expr::{
    BinaryOperation, CT, Expression, Meta, MetaKey, NamedExpression, Payload, PayloadField, Prefix, Range, SetItem,
};
use nftables::schema::{
    Chain, MetainfoObject, NfListObject, NfObject, Nftables, Rule, Set, SetFlag, SetType, SetTypeValue, Table,
};
use nftables::stmt::{
    AnonymousCounter, Counter, JumpTarget, Log, Mangle, Match as Matching, Operator as Op, Statement,
};
use nftables::types::{NfChainPolicy, NfChainType, NfFamily, NfHook};

/// A statement and the steps it must become.
type Pair = (Statement<'static>, Vec<Step>);

fn named(expression: NamedExpression<'static>) -> Expression<'static> {
    Expression::Named(expression)
}

fn text(text: impl Into<String>) -> Expression<'static> {
    Expression::String(Cow::Owned(text.into()))
}

fn meta(key: MetaKey) -> Expression<'static> {
    named(NamedExpression::Meta(Meta { key }))
}

fn payload(protocol: &'static str, field: &'static str) -> Expression<'static> {
    let field = PayloadField { protocol: Cow::Borrowed(protocol), field: Cow::Borrowed(field) };
    named(NamedExpression::Payload(Payload::PayloadField(field)))
}

fn matching(left: Expression<'static>, op: Op, right: Expression<'static>) -> Statement<'static> {
    Statement::Match(Matching { left, right, op })
}

fn range(low: u32, high: u32) -> Expression<'static> {
    Expression::Range(Box::new(Range { range: [Expression::Number(low), Expression::Number(high)] }))
}

/// A port condition, with the protocol condition nft leaves unsaid.
fn ports(random: &mut fastrand::Rng) -> Pair {
    let (protocol, number) = [("tcp", 6), ("udp", 17), ("sctp", 132)][random.usize(0..3)];
    let (name, field) = if random.bool() { ("sport", Field::Sport) } else { ("dport", Field::Dport) };
    let (low, high) = (random.u32(1..30_000), random.u32(30_000..65_536));
    let negate = random.bool();
    let (right, condition) = match random.u32(0..3) {
        0 => {
            let operator = if negate { Operator::Ne } else { Operator::Eq };
            let right = Expr::Number(low.into());
            (Expression::Number(low), Match::Compare { left: Expr::Field(field), operator, right })
        }
        1 => (range(low, high), Match::within(field, negate, [Interval { low: low.into(), high: high.into() }])),
        _ => {
            let items = vec![SetItem::Element(Expression::Number(low)), SetItem::Element(range(high, 65_535))];
            let members = [Interval::single(low.into()), Interval { low: high.into(), high: 65_535 }];
            (named(NamedExpression::Set(items)), Match::within(field, negate, members))
        }
    };
    let op = if negate { Op::NEQ } else { Op::EQ };
    let steps = vec![Step::Match(Match::equals(Field::L4proto, number)), Step::Match(condition)];
    (matching(payload(protocol, name), op, right), steps)
}

/// An address prefix, with the family condition nft leaves unsaid.
fn prefix(random: &mut fastrand::Rng) -> Pair {
    let (length, bits) = (random.u32(1..32), random.u32(..));
    let low = bits & (u32::MAX << (32 - length));
    let address = text(std::net::Ipv4Addr::from(low).to_string());
    let right = named(NamedExpression::Prefix(Prefix { addr: Box::new(address), len: length }));
    let interval = Interval { low: low.into(), high: (low | !(u32::MAX << (32 - length))).into() };
    let steps = vec![
        Step::Match(Match::equals(Field::Nfproto, 2)),
        Step::Match(Match::within(Field::Ip4Saddr, false, [interval])),
    ];
    (matching(payload("ip", "saddr"), Op::EQ, right), steps)
}

fn mark(random: &mut fastrand::Rng) -> Pair {
    let (mask, value) = (random.u32(..), random.u32(..));
    let both = BinaryOperation::AND(meta(MetaKey::Mark), Expression::Number(mask));
    let left = Expr::And(Box::new(Expr::Field(Field::Mark)), Box::new(Expr::Number(mask.into())));
    let condition = Match::Compare { left, operator: Operator::Eq, right: Expr::Number(value.into()) };
    let left = Expression::BinaryOperation(Box::new(both));
    (matching(left, Op::EQ, Expression::Number(value)), vec![Step::Match(condition)])
}

fn state(random: &mut fastrand::Rng) -> Pair {
    let names = [("invalid", 1), ("established", 2), ("related", 4), ("new", 8), ("untracked", 64)];
    let chosen: Vec<_> = names.into_iter().filter(|_| random.bool()).collect();
    let chosen = if chosen.is_empty() { vec![("new", 8)] } else { chosen };
    let left = named(NamedExpression::CT(CT { key: Cow::Borrowed("state"), family: None, dir: None }));
    let right = Expression::List(chosen.iter().map(|(name, _)| text(*name)).collect());
    let bits = chosen.iter().fold(0, |bits, (_, bit)| bits | bit);
    let (field, operator) = (Expr::Field(Field::CtState), Operator::AnyBit);
    let condition = Match::Compare { left: field, operator, right: Expr::Number(bits) };
    (matching(left, Op::IN, right), vec![Step::Match(condition)])
}

fn interface(random: &mut fastrand::Rng) -> Pair {
    let name: String = (0..random.usize(1..12)).map(|_| random.lowercase()).collect();
    let interval = interface_interval(&InterfacePattern::prefix(&name));
    let condition = Match::within(Field::Iifname, false, [interval]);
    (matching(meta(MetaKey::Iifname), Op::EQ, text(format!("{name}*"))), vec![Step::Match(condition)])
}

fn effect(random: &mut fastrand::Rng) -> Pair {
    match random.u32(0..3) {
        0 => {
            let value = random.u32(..);
            let step = Effect::Set { field: Field::Mark, value: Expr::Number(value.into()) };
            let mangle = Mangle { key: meta(MetaKey::Mark), value: Expression::Number(value) };
            (Statement::Mangle(mangle), vec![Step::Effect(step)])
        }
        1 => {
            let group = random.u16(..);
            let prefix: String = (0..random.usize(1..40)).map(|_| random.alphanumeric()).collect();
            let step = Effect::Log { prefix: Some(prefix.clone().into()), group: Some(group), options: Box::default() };
            let log = Log { prefix: Some(prefix.into()), ..Log::new(Some(group.into())) };
            (Statement::Log(Some(log)), vec![Step::Effect(step)])
        }
        _ => {
            let counter = AnonymousCounter { packets: Some(7), bytes: Some(700) };
            (Statement::Counter(Counter::Anonymous(Some(counter))), vec![Step::Effect(Effect::Count)])
        }
    }
}

fn verdict(random: &mut fastrand::Rng) -> Pair {
    let (statement, verdict) = match random.u32(0..4) {
        0 => (Statement::Accept(None), Verdict::Accept),
        1 => (Statement::Drop(None), Verdict::Drop),
        2 => (Statement::Return(None), Verdict::Return),
        _ => (Statement::Goto(JumpTarget { target: Cow::Borrowed("other") }), Verdict::Goto("other".into())),
    };
    (statement, vec![Step::Verdict(verdict)])
}

/// One condition at most of each kind, so that nothing unsaid is said twice.
fn rule(random: &mut fastrand::Rng) -> (Vec<Statement<'static>>, Vec<Step>) {
    let mut makers: Vec<fn(&mut fastrand::Rng) -> Pair> = vec![ports, prefix, mark, state, interface];
    random.shuffle(&mut makers);
    makers.truncate(random.usize(0..5));
    makers.extend([effect as fn(&mut fastrand::Rng) -> Pair, verdict]);
    let pairs: Vec<Pair> = makers.into_iter().map(|maker| maker(random)).collect();
    let (statements, steps): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
    (statements, steps.concat())
}

#[test]
fn a_written_ruleset_reads_as_it_was_meant() {
    let mut random = fastrand::Rng::with_seed(22);
    let (family, table) = (NfFamily::INet, Cow::Borrowed("t"));
    let mut objects = vec![
        NfListObject::MetainfoObject(MetainfoObject {
            version: Some("1.1.3".into()),
            json_schema_version: Some(1),
            ..MetainfoObject::default()
        }),
        NfListObject::Table(Table { family, name: table.clone(), handle: None }),
        NfListObject::Chain(Chain {
            family,
            table: table.clone(),
            name: "in".into(),
            _type: Some(NfChainType::Filter),
            hook: Some(NfHook::Input),
            prio: Some(-7),
            policy: Some(NfChainPolicy::Drop),
            ..Chain::default()
        }),
        NfListObject::Set(Box::new(Set {
            family,
            table: table.clone(),
            name: "s".into(),
            set_type: SetTypeValue::Concatenated(Cow::Owned(vec![SetType::Ipv4Addr, SetType::InetService])),
            flags: Some(HashSet::from([SetFlag::Interval])),
            elem: Some(Cow::Owned(vec![named(NamedExpression::Concat(vec![text("10.0.0.1"), range(80, 90)]))])),
            ..Set::default()
        })),
    ];
    let mut expected = Vec::new();
    for _ in 0..500 {
        let (statements, steps) = rule(&mut random);
        objects.push(NfListObject::Rule(Rule {
            family,
            table: table.clone(),
            chain: "in".into(),
            expr: Cow::Owned(statements),
            ..Rule::default()
        }));
        expected.push(steps);
    }
    let objects = objects.into_iter().map(NfObject::ListObject).collect();
    let written = serde_json::to_vec(&Nftables { objects: Cow::Owned(objects) }).expect("writes");
    let parsed = nft_json::read(&Arc::from("written.json"), &written);
    assert_eq!(parsed.diagnostics, []);
    let [table] = parsed.value.as_slice() else { panic!("one table") };
    assert_eq!(table.family, Family::Inet);
    let (_, chain) = table.chain("in").expect("the chain");
    let base = chain.base.as_ref().expect("a base chain");
    assert_eq!((base.hook, base.priority, base.policy), (Hook::Input, -7, Policy::Drop));
    let key = table.set("s").expect("the set").elements.key(0).map(<[Interval]>::to_vec);
    assert_eq!(key, Some(vec![Interval::single(0x0a00_0001), Interval { low: 80, high: 90 }]));
    assert_eq!(chain.rules.len(), expected.len());
    for (rule, steps) in chain.rules.iter().zip(expected) {
        assert_eq!(rule.steps, steps, "{}", rule.text);
        let counts = steps.contains(&Step::Effect(Effect::Count));
        assert_eq!(rule.counters, counts.then_some(Counters { packets: 7, bytes: 700 }));
    }
}
