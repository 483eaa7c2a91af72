use std::collections::BTreeMap;

use super::*;
use crate::calico::names::selector_set_name;
use crate::calico::resources::{Resources, Spec};
use crate::packet::Family;

fn parsed(text: &str) -> Selector {
    Selector::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn canonical_text_is_felixs() {
    for (text, canonical) in [
        ("", "all()"),
        (" \t", "all()"),
        ("role=='bastion'", "role == \"bastion\""),
        ("a  ==  'say \"x\"'", "a == 'say \"x\"'"),
        ("a in {'b','a', 'b',}", "a in {\"a\", \"b\"}"),
        ("a notin {}", "a not in {}"),
        ("has( a )&&!has(b)", "(has(a) && !has(b))"),
        ("!!a == 'x'", "a == \"x\""),
        ("!!!(a == 'x' || all())", "!(a == \"x\" || all())"),
        ("a == '1' && (b == '2' && c == '3')", "(a == \"1\" && (b == \"2\" && c == \"3\"))"),
        ("((a == '1'))", "a == \"1\""),
        (
            "a startswith 'x' || b ends  with \"y\" || c contains ''",
            "(a starts with \"x\" || b ends with \"y\" || c contains \"\")",
        ),
        ("in in {'in'}", "in in {\"in\"}"),
        ("global( )", "global()"),
        ("has == 'x'", "has == \"x\""),
        ("all-of == 'x'", "all-of == \"x\""),
    ] {
        assert_eq!(parsed(text).canonical(), canonical, "{text}");
        assert_eq!(parsed(canonical).canonical(), canonical, "canonical text stays");
    }
}

#[test]
fn truth_is_as_documented() {
    let b1 = labels(&[("role", "bastion"), ("empty", "")]);
    for (text, selected) in [
        ("role == 'bastion'", true),
        ("role == 'Bastion'", false),
        ("role != 'x'", true),
        ("gone != 'x'", true),
        ("gone == ''", false),
        ("empty == ''", true),
        ("has(empty)", true),
        ("has(gone)", false),
        ("gone not in {'x'}", true),
        ("role in {}", false),
        ("role not in {}", true),
        ("role contains 'sti'", true),
        ("gone contains ''", false),
        ("empty starts with ''", true),
        ("role ends with 'on' && !has(gone)", true),
        ("has(role) && !(role in {'db','web'})", true),
        ("!all()", false),
        ("a == 'x' || b == 'y' && role == 'bastion'", false),
        ("role == 'bastion' || b == 'y' && a == 'x'", true),
    ] {
        assert_eq!(parsed(text).matches(&b1), selected, "{text}");
    }
}

#[test]
fn errors_say_where_and_what_to_do() {
    for (text, column, word) in [
        ("a = 'x'", 3, "=="),
        ("a == x", 6, "quotes"),
        ("a", 2, "operator"),
        ("a == 'x' &", 10, "&&"),
        ("a == 'x' && ", 13, "the end"),
        ("a == 'x", 6, "quote"),
        ("()", 2, "expected"),
        ("(a == 'x'", 10, "\")\""),
        ("a == 'x' b == 'y'", 10, "&&"),
        ("a == 'x'\n&& b == 'y'", 9, "line break"),
        ("has (a)", 5, "operator"),
        ("has()", 5, "label"),
        ("é == 'x'", 1, "label"),
        ("a in 'x'", 6, "{"),
        ("a in {x}", 7, "quotes"),
        ("a inx {'x'}", 3, "operator"),
        ("a == 'é' | b", 10, "||"),
    ] {
        let error = Selector::parse(text).expect_err(text);
        assert_eq!(error.column, column, "{text}: {error}");
        assert!(error.to_string().contains(word), "{text}: {error}");
    }
}

#[test]
fn hostile_selectors_end() {
    assert!(Selector::parse(&"(".repeat(60_000)).is_err());
    assert!(Selector::parse(&"!".repeat(60_000)).is_err());
    assert!(Selector::parse(&"a".repeat(600)).is_err());
    assert!(Selector::parse(&"!(".repeat(290)).is_err());
    let deep = format!("{}has(a){}", "!(".repeat(290), ")".repeat(290));
    let deep = parsed(&deep);
    assert!(deep.matches(&labels(&[("a", "")])) && !deep.is_contradictory());
    let wide = vec!["a == 'x'"; 5_000].join(" && ");
    assert!(parsed(&wide).matches(&labels(&[("a", "x")])));
    let many = vec!["(a == 'x' || b == 'y')"; 40].join(" && ");
    assert!(!parsed(&many).is_contradictory(), "too many cases to tell");
}

#[test]
fn contradictions_are_seen() {
    for (text, contradictory) in [
        ("a == 'x' && a == 'y'", true),
        ("a in {'x','y'} && a in {'y','z'}", false),
        ("a in {'x'} && a not in {'x'}", true),
        ("has(a) && !has(a)", true),
        ("a == 'x' && !has(a)", true),
        ("a in {}", true),
        ("!all()", true),
        ("a == 'x' || a in {}", false),
        ("(a == 'x' || a == 'y') && a == 'z'", true),
        ("a == 'x' && a != 'x'", true),
        ("a != 'x' && a != 'y'", false),
        ("a == 'x' && a contains 'y'", true),
        ("!(a == 'x' || !(a == 'x'))", true),
        ("all()", false),
    ] {
        assert_eq!(parsed(text).is_contradictory(), contradictory, "{text}");
    }
    for (text, everything) in [("all()", true), ("has(a) || !has(a)", true), ("a not in {}", true), ("has(a)", false)] {
        assert_eq!(parsed(text).is_everything(), everything, "{text}");
    }
}

#[test]
fn terms_know_their_side() {
    let terms = parsed("a == 'x' && !(b in {'y','z'}) && !has(c)").terms();
    let shown: Vec<(&str, usize, bool)> = terms.iter().map(|t| (t.key.as_str(), t.values.len(), t.positive)).collect();
    assert_eq!(shown, [("a", 1, true), ("b", 2, false), ("c", 0, false)]);
}

/// The lab's policy, as its run-book has it; the set's name is in the same lab's listing of a live host.
#[test]
fn the_labs_policy_gives_the_labs_set() {
    let text = "kubectl apply -f -<<EOF\napiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata:\n  \
                name: app-hipstershop.checkoutservice\n  namespace: hipstershop\nspec:\n  tier: app-hipstershop\n  order: 650\n  \
                selector: app == \"checkoutservice\"\n  ingress:\n    - action: Allow\n      protocol: TCP\n      source:\n        \
                selector: app == \"frontend\"\n      destination:\n        ports:\n          - \"5050\"\nEOF\n";
    let resources = Resources::of([("lab.md", text.as_bytes())]);
    assert_eq!(resources.problems, []);
    let resource = resources.iter().next().expect("the policy");
    let Spec::Policy(policy) = &resource.spec else { panic!("a policy") };
    let rule = policy.rules(crate::calico::names::Direction::In).first().expect("a rule");
    let source = entity_selectors(&rule.source, resource.meta.namespace.as_deref()).expect("good selectors");
    let canonical = source.positive.expect("a selector").canonical();
    assert_eq!(canonical, "(projectcalico.org/namespace == \"hipstershop\" && app == \"frontend\")");
    assert_eq!(selector_set_name(&canonical, Family::Ipv4), "cali40s:_DJYf5MR3V3B4fL2YDPlFn7");
    let chosen = policy_selector(policy, Some("hipstershop")).expect("good");
    assert_eq!(chosen.canonical(), "(app == \"checkoutservice\" && projectcalico.org/namespace == \"hipstershop\")");
}
