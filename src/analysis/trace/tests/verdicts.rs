//! How chains, verdicts and open questions work together.

use super::build::*;
use crate::analysis::trace::TraceVerdict::{Accept, Drop, Reject, Unknown};
use crate::analysis::trace::{TraceOptions, TraceVerdict, trace};
use crate::host::Host;
use crate::packet::Hook;
use crate::ruleset::{Data, Elements, Expr, Field, Interval, Match, Policy, RuleRef, Ruleset, SetRef, Step, Verdict};

#[test]
fn first_match_decides_and_is_named() {
    let rules = input([rule([dport(80), accept()]), rule([dport(22), accept()]), rule([dport(22), drop()])]);
    let trace = run(&rules, &tcp_in(22));
    assert_eq!((trace.verdict, trace.certain), (Accept, true));
    assert_eq!(trace.decided_by, Some(RuleRef { table: 0, chain: 0, rule: 1 }));
    let trace = run(&rules, &tcp_in(23));
    assert_eq!(trace.verdict, Drop);
    assert_eq!(trace.decided_by, Some(RuleRef { table: 0, chain: 0, rule: RuleRef::POLICY }));
}

#[test]
fn jump_comes_back_and_goto_does_not() {
    let with = |step| {
        ruleset([table([
            base(Hook::Input, 0, Policy::Accept, [rule([jump("outer")]), rule([drop()])]),
            chain("outer", [rule([step]), rule([accept()])]),
            chain("inner", [rule([dport(80), drop()])]),
        ])])
    };
    // back from a jump: the rule after it accepts; back from a goto: the caller's caller drops
    expect(&with(jump("inner")), &tcp_in(22), Accept);
    expect(&with(goto("inner")), &tcp_in(22), Drop);
}

#[test]
fn goto_from_a_base_chain_ends_in_its_policy() {
    let rules = ruleset([table([
        base(Hook::Input, 0, Policy::Accept, [rule([goto("x")]), rule([drop()])]),
        chain("x", [rule([ret()]), rule([drop()])]),
    ])]);
    expect(&rules, &tcp_in(22), Accept);
}

#[test]
fn return_in_a_base_chain_means_policy() {
    let rules = ruleset([table([base(Hook::Input, 0, Policy::Drop, [rule([ret()]), rule([accept()])])])]);
    expect(&rules, &tcp_in(22), Drop);
}

#[test]
fn accept_ends_its_base_chain_only() {
    let early = table([base(Hook::Input, -10, Policy::Drop, [rule([accept()])])]);
    let late = table([base(Hook::Input, 10, Policy::Accept, [rule([dport(22), drop()])])]);
    expect(&ruleset([early.clone()]), &tcp_in(22), Accept);
    // listed the other way round, priority still decides
    expect(&ruleset([late, early]), &tcp_in(22), Drop);
}

#[test]
fn dormant_tables_have_no_effect() {
    let mut asleep = table([base(Hook::Input, 0, Policy::Drop, [])]);
    expect(&ruleset([asleep.clone()]), &tcp_in(22), Drop);
    asleep.dormant = true;
    expect(&ruleset([asleep]), &tcp_in(22), Accept);
}

#[test]
fn reject_is_told_apart_from_drop() {
    let rules = input([rule([Step::Verdict(Verdict::Reject("tcp reset".into()))])]);
    expect(&rules, &tcp_in(22), Reject);
}

#[test]
fn nothing_at_all_accepts() {
    let trace = run(&Ruleset::default(), &tcp_in(22));
    assert_eq!((trace.verdict, trace.decided_by), (Accept, None));
}

#[test]
fn verdict_maps_decide_and_misses_go_on() {
    let mut elements = Elements::new(1);
    elements.push(&[Interval::single(22)], Some(Data::Verdict(Verdict::Jump("ssh".into()))), None);
    elements.push(&[Interval { low: 80, high: 90 }], Some(Data::Verdict(Verdict::Accept)), None);
    let vmap =
        |elements: Elements| Step::Vmap { key: Expr::Field(Field::Dport), map: SetRef::Anonymous(Box::new(elements)) };
    let with = |elements: Elements| {
        ruleset([table([
            base(Hook::Input, 0, Policy::Drop, [rule([vmap(elements)]), rule([dport(443), accept()])]),
            chain("ssh", [rule([accept()])]),
        ])])
    };
    let rules = with(elements.clone());
    for (port, verdict) in [(22, Accept), (85, Accept), (443, Accept), (91, Drop)] {
        expect(&rules, &tcp_in(port), verdict);
    }
    elements.set_catch_all(Data::Verdict(Verdict::Drop));
    expect(&with(elements), &tcp_in(443), Drop);
}

#[test]
fn an_open_key_of_a_verdict_map_tries_every_verdict_it_can_give() {
    let map = |last: Verdict| {
        let mut elements = Elements::new(2);
        elements.push(&[Interval::single(6), Interval::single(1)], Some(Data::Verdict(Verdict::Accept)), None);
        elements.push(&[Interval::single(17), Interval::single(2)], Some(Data::Verdict(last)), None);
        let key = Expr::Concat(vec![Expr::Field(Field::L4proto), Expr::Field(Field::Ip4Ttl)]);
        input([rule([Step::Vmap { key, map: SetRef::Anonymous(Box::new(elements)) }]), rule([accept()])])
    };
    // only the first entry fits the protocol, and going on accepts as well
    expect(&map(Verdict::Drop), &tcp_in(22), Accept);
    let mut udp = tcp_in(22);
    udp.protocol = crate::packet::Protocol::UDP;
    expect(&map(Verdict::Drop), &udp, Unknown);
}

#[test]
fn open_rules_fork_and_name_themselves() {
    let rules = input([rule([opaque("string evil"), drop()]), rule([accept()])]);
    let trace = run(&rules, &tcp_in(22));
    assert_eq!((trace.verdict, trace.certain, trace.decided_by), (Unknown, false, None));
    assert_eq!(trace.may, [Accept, Drop]);
    let places: Vec<_> = trace.because.iter().map(|undecided| undecided.rule).collect();
    assert_eq!(places, [Some(RuleRef { table: 0, chain: 0, rule: 0 })]);
}

#[test]
fn open_rules_that_change_nothing_do_not_matter() {
    let log = Step::Effect(crate::ruleset::Effect::Log { prefix: None, group: None, options: Box::default() });
    expect(&input([rule([limited(), log]), rule([accept()])]), &tcp_in(22), Accept);
    // and what both answers lead to is certain
    expect(&input([rule([opaque("string evil"), accept()]), rule([accept()])]), &tcp_in(22), Accept);
}

#[test]
fn the_same_property_keeps_its_answer_but_a_rate_does_not() {
    let twice = |step: fn() -> Step| {
        input([rule([step(), set(Field::Mark, 1)]), rule([step(), bits(Field::Mark, 1, 0), drop()]), rule([accept()])])
    };
    // no packet both is evil and was not marked as evil
    expect(&twice(|| opaque("string evil")), &tcp_in(22), Accept);
    expect(&twice(limited), &tcp_in(22), Unknown);
}

#[test]
fn a_property_is_asked_again_once_it_may_have_changed() {
    let rules = ruleset([table([
        base(Hook::Prerouting, 0, Policy::Accept, [rule([opaque("u32 x"), set(Field::Ip4Ttl, 1)])]),
        base(Hook::Input, 0, Policy::Accept, [rule([bits(Field::Ip4Ttl, 255, 1), opaque("u32 x"), drop()])]),
    ])]);
    let trace = run(&rules, &tcp_in(22));
    assert_eq!(trace.may, [Accept, Drop]);
}

#[test]
fn marks_carry_policy_verdicts_across_chains() {
    let rules = ruleset([table([
        base(Hook::Input, 0, Policy::Accept, [rule([jump("policy")]), rule([bits(Field::Mark, 0x10000, 0), drop()])]),
        chain("policy", [rule([dport(22), set(Field::Mark, 0x10000)]), rule([dport(23), set(Field::Mark, 0x20000)])]),
    ])]);
    expect(&rules, &tcp_in(22), Accept);
    expect(&rules, &tcp_in(23), Drop);
}

#[test]
fn many_open_rules_fold_together() {
    let rules = (0..200).map(|i| rule([opaque(&format!("string {i}")), set(Field::Mark, 1)]));
    let rules = input(rules.chain([rule([accept()])]));
    expect(&rules, &tcp_in(22), Accept);
}

#[test]
fn behind_a_user_space_queue_nothing_is_certain() {
    let rules = input([rule([Step::Verdict(Verdict::Queue { bypass: false, options: Box::default() })])]);
    let trace = run(&rules, &tcp_in(22));
    assert_eq!(trace.may, [Accept, Drop, Reject]);
}

#[test]
fn an_unreachable_chain_changes_nothing() {
    let mut rules = input([rule([dport(22), accept()])]);
    let before: Vec<TraceVerdict> = [22, 23].map(|port| run(&rules, &tcp_in(port)).verdict).into();
    rules.tables[0].chains.push(chain("nobody", [rule([drop()])]));
    let after: Vec<TraceVerdict> = [22, 23].map(|port| run(&rules, &tcp_in(port)).verdict).into();
    assert_eq!(before, after);
}

#[test]
fn steps_are_kept_for_people_when_asked() {
    let rules = input([rule([dport(80), drop()]), rule([dport(22), accept()])]);
    let options = TraceOptions { record: true, ..TraceOptions::default() };
    let quiet = format!("{:?}", trace(&rules, &Host::default(), &tcp_in(22), &options).steps);
    assert!(quiet.contains("destination port 22") && !quiet.contains("Failed"), "{quiet}");
    let options = TraceOptions { verbose: true, ..options };
    let verbose = format!("{:?}", trace(&rules, &Host::default(), &tcp_in(22), &options).steps);
    assert!(verbose.contains("Failed"), "{verbose}");
    assert!(matches!(rules.tables[0].chains[0].rules[0].steps[0], Step::Match(Match::Compare { .. })));
}

#[test]
fn a_verdict_by_mark_names_the_rule_that_set_the_mark() {
    let rules = ruleset([table([
        base(
            Hook::Input,
            0,
            Policy::Drop,
            [rule([jump("policy")]), rule([bits(Field::Mark, 0x10000, 0x10000), accept()])],
        ),
        chain("policy", [rule([dport(80), set(Field::Mark, 0x10000)]), rule([dport(22), set(Field::Mark, 0x10000)])]),
    ])]);
    let trace = run(&rules, &tcp_in(22));
    assert_eq!(trace.decided_by, Some(RuleRef { table: 0, chain: 1, rule: 1 }));
    assert_eq!(trace.carried_out_by, Some(RuleRef { table: 0, chain: 0, rule: 1 }));
    // a mark the packet came with is nobody's decision here
    let marked = crate::packet::Packet { mark: 0x10000, ..tcp_in(23) };
    let trace = run(&rules, &marked);
    assert_eq!((trace.decided_by, trace.carried_out_by), (Some(RuleRef { table: 0, chain: 0, rule: 1 }), None));
}
