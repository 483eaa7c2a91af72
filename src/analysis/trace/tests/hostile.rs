//! Rulesets no kernel would take: unknown by name, never a panic, never endless.

use super::build::*;
use crate::analysis::trace::TraceVerdict::Unknown;
use crate::analysis::trace::{TraceOptions, trace};
use crate::host::Host;
use crate::packet::Hook;
use crate::ruleset::{
    DataType, Elements, Expr, Field, Interval, Match, Operator, Policy, Rule, SetDirection, SetRef, Step, Verdict,
};

fn reasons(rules: &crate::ruleset::Ruleset) -> String {
    let trace = run(rules, &tcp_in(22));
    assert_eq!(trace.verdict, Unknown, "{trace:?}");
    trace.because.into_iter().map(|undecided| undecided.reason).collect::<Vec<_>>().join("; ")
}

#[test]
fn jump_circles_end() {
    for step in [jump as fn(&str) -> Step, goto] {
        let rules = ruleset([table([
            base(Hook::Input, 0, Policy::Accept, [rule([step("a")])]),
            chain("a", [rule([step("b")])]),
            chain("b", [rule([step("a")])]),
        ])]);
        assert!(reasons(&rules).contains("in a circle"));
    }
}

#[test]
fn doubling_jumps_run_out_of_budget_and_not_of_time() {
    let chains = (0..60).map(|i| {
        let next = format!("c{}", i + 1);
        chain(&format!("c{i}"), [rule([jump(&next)]), rule([jump(&next)])])
    });
    let first = base(Hook::Input, 0, Policy::Accept, [rule([jump("c0")])]);
    let rules = ruleset([table([first].into_iter().chain(chains).chain([chain("c60", [Rule::default()])]))]);
    let options = TraceOptions { max_rules: 100_000, ..TraceOptions::default() };
    let trace = trace(&rules, &Host::default(), &tcp_in(22), &options);
    assert_eq!(trace.verdict, Unknown);
    assert!(trace.because.iter().any(|undecided| undecided.reason.contains("too many paths")), "{trace:?}");
}

#[test]
fn diverging_paths_are_bounded() {
    let rules = (0..40).map(|i| {
        let value = Expr::Or(Box::new(Expr::Field(Field::Mark)), Box::new(Expr::Number(1 << (i % 32))));
        rule([opaque(&format!("string {i}")), Step::Effect(crate::ruleset::Effect::Set { field: Field::Mark, value })])
    });
    let rules = input(rules.chain([rule([accept()])]));
    assert!(reasons(&rules).contains("too many paths"));
}

#[test]
fn what_is_not_there_is_named() {
    let missing = |step: Step| reasons(&input([rule([step, accept()])]));
    let lookup =
        on(Match::Lookup { left: Expr::Field(Field::Dport), negate: false, set: SetRef::Named("gone".into()) });
    assert_eq!(missing(lookup), "set gone is not in the snapshot");
    assert_eq!(missing(in_ipset("gone", &[SetDirection::Src])), "set gone is not in the snapshot");
    assert_eq!(reasons(&input([rule([jump("gone")])])), "chain gone is not in the snapshot");
    let text = Step::Verdict(Verdict::Opaque("TPROXY".into()));
    assert_eq!(reasons(&input([rule([text])])), "cannot be decided: TPROXY");
}

#[test]
fn keys_that_do_not_fit_their_set_are_open() {
    let mut wide = Elements::new(2);
    wide.push(&[Interval::single(1), Interval::single(2)], None, None);
    let step = on(Match::Lookup {
        left: Expr::Field(Field::Dport),
        negate: false,
        set: SetRef::Anonymous(Box::new(wide.clone())),
    });
    assert!(reasons(&input([rule([step, accept()])])).contains("does not fit"));
    let mut rules = input([rule([in_ipset("s", &[SetDirection::Src]), accept()])]);
    rules.ipsets = vec![ipset("s", "hash:net", &[DataType::Ipv4Addr], wide)];
    assert!(reasons(&rules).contains("does not fit"));
    rules.ipsets[0].kind = crate::ruleset::SetKind::Ipset { type_name: "hash:moon".into(), options: "".into() };
    assert!(reasons(&rules).contains("does not fit"));
}

#[test]
fn deep_nesting_is_open() {
    let mut condition = Match::equals(Field::Dport, 22);
    for _ in 0..2_000 {
        condition = Match::Not(Box::new(condition));
    }
    assert!(reasons(&input([rule([on(condition), accept()])])).contains("too deep"));
    let mut left = Expr::Field(Field::Dport);
    for _ in 0..2_000 {
        left = Expr::And(Box::new(left), Box::new(Expr::Number(0xffff)));
    }
    let deep = Match::Compare { left, operator: Operator::Eq, right: Expr::Number(22) };
    assert_eq!(run(&input([rule([on(deep), accept()])]), &tcp_in(22)).verdict, Unknown);
}

#[test]
fn odd_numbers_do_no_harm() {
    let shift = Expr::Shl(Box::new(Expr::Number(1)), Box::new(Expr::Number(u128::MAX)));
    let backwards = Match::within(Field::Dport, false, [Interval { low: 9, high: 3 }]);
    let far = Expr::Payload { base: crate::ruleset::PayloadBase::Network, offset: u32::MAX, length: 8 };
    for step in [
        on(Match::Compare { left: shift, operator: Operator::Eq, right: Expr::Number(1) }),
        on(backwards),
        on(Match::Compare { left: far, operator: Operator::Eq, right: Expr::Number(1) }),
    ] {
        let _ = run(&input([rule([step, accept()])]), &tcp_in(22));
    }
}
