//! Which option of which extension is decided: from what the reader makes of each rule of `tests/fixtures/xtables`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::*;
use crate::ruleset::readers::iptables_save::draft::{self, Group};
use crate::ruleset::readers::iptables_save::extensions::{Extension, MATCHES, TARGETS};
use crate::ruleset::readers::iptables_save::tokens::Token;
use crate::ruleset::xtables::XtTest;
use crate::ruleset::{Effect, Expr, Field, Match, OpaqueKind, Step, Verdict, asks_counters, coverage};

/// How well an option is decided; the better comes first.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Answer {
    Exact,
    Given(BTreeSet<String>),
    Opaque(&'static str),
    NoEffect,
}

impl Answer {
    fn words(&self) -> String {
        match self {
            Self::Exact => "exact".to_owned(),
            Self::NoEffect => "no effect".to_owned(),
            Self::Given(what) => format!("given {}", what.iter().cloned().collect::<Vec<_>>().join(" and ")),
            Self::Opaque("") => "opaque".to_owned(),
            Self::Opaque(why) => format!("opaque, {why}"),
        }
    }

    /// Both must be decided.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Given(mut one), Self::Given(other)) => {
                one.extend(other);
                Self::Given(one)
            }
            (one, other) => one.max(other),
        }
    }
}

fn given(what: &str) -> Answer {
    Answer::Given(BTreeSet::from([what.to_owned()]))
}

/// What a packet must tell for a field to be known; all packets tell the others.
fn of_field(field: &Field) -> Answer {
    given(match field {
        Field::Ip4Ttl => "the TTL",
        Field::Ip6Hoplimit => "the hop limit",
        Field::Dscp | Field::Ecn | Field::Tos => "the TOS or traffic class",
        Field::Length => "the length",
        Field::EtherSaddr => "the sender's hardware address",
        Field::Pkttype => "the link layer's packet type",
        Field::Skuid | Field::Skgid => "the socket's owner",
        Field::CtMark | Field::CtStatus | Field::CtDirection => "what tracking knows of a connection that exists",
        Field::CtOrigSaddr4
        | Field::CtOrigSaddr6
        | Field::CtOrigDaddr4
        | Field::CtOrigDaddr6
        | Field::CtOrigSport
        | Field::CtOrigDport
        | Field::CtReplySaddr4
        | Field::CtReplySaddr6
        | Field::CtReplyDaddr4
        | Field::CtReplyDaddr6
        | Field::CtReplySport
        | Field::CtReplyDport => "what tracking knows of a connection that exists",
        Field::CtExpiration => return Answer::Opaque("the time a connection has left"),
        Field::Iifgroup | Field::Oifgroup => "the interface's group",
        _ => return Answer::Exact,
    })
}

fn of_expr(expr: &Expr) -> Answer {
    match expr {
        Expr::Field(field) => of_field(field),
        Expr::Number(_) => Answer::Exact,
        Expr::Fib(_) => given("the host's routes and addresses"),
        Expr::And(a, b) if **a == Expr::Field(Field::Ip4FragOff) => of_expr(b),
        Expr::And(a, b) | Expr::Or(a, b) | Expr::Xor(a, b) | Expr::Shl(a, b) | Expr::Shr(a, b) => {
            of_expr(a).and(of_expr(b))
        }
        Expr::Concat(_) | Expr::Map { .. } | Expr::Payload { .. } | Expr::Opaque(_) => {
            Answer::Opaque("a later rule that asks for the new value is undecided")
        }
    }
}

fn of_match(condition: &Match) -> Answer {
    let all = |inner: &[Match]| inner.iter().map(of_match).fold(Answer::Exact, Answer::and);
    match condition {
        Match::Compare { left, right, .. } => of_expr(left).and(of_expr(right)),
        Match::Lookup { left, .. } => of_expr(left),
        Match::Ipset { options, .. } if asks_counters(options.as_deref()) => Answer::Opaque("the entry's counters"),
        Match::Ipset { .. } => given("the set's members"),
        Match::Any(inner) | Match::All(inner) => all(inner),
        Match::Not(inner) => of_match(inner),
        Match::Xtables { test, .. } => given(match &**test {
            XtTest::BridgePort { .. } => "an interface that is no bridge",
            XtTest::Policy { elements: true, .. } => "that IPsec does not protect the packet",
            test => test.needs(),
        }),
        Match::Opaque { kind: OpaqueKind::Stateful, .. } => Answer::Opaque("each rule by itself"),
        Match::Opaque { kind: OpaqueKind::Property, .. } => Answer::Opaque(""),
    }
}

fn of_step(step: &Step) -> Answer {
    match step {
        Step::Match(condition) => of_match(condition),
        Step::Effect(Effect::Set { value, .. }) => match of_expr(value) {
            Answer::Given(_) => Answer::Exact,
            other => other,
        },
        Step::Effect(Effect::Opaque(_)) | Step::Verdict(Verdict::Opaque(_)) => {
            Answer::Opaque("any verdict is possible")
        }
        Step::Effect(Effect::UpdateSet { .. }) => Answer::Opaque("a later rule that asks for the set is undecided"),
        Step::Effect(Effect::NoTrack) => Answer::Exact,
        Step::Effect(_) => Answer::NoEffect,
        Step::Verdict(Verdict::Queue { .. }) => Answer::Opaque("a program decides"),
        Step::Verdict(_) | Step::Vmap { .. } => Answer::Exact,
    }
}

/// What a rule made of one match or target says.
fn answer(family: Family, words: &str) -> Answer {
    let text = format!("*filter\n:INPUT ACCEPT [0:0]\n-A INPUT {words}\nCOMMIT\n");
    let parsed = read(&Arc::from("coverage"), text.as_bytes(), Backend::Iptables, family);
    let rules = parsed.value.iter().flat_map(|table| &table.chains).flat_map(|chain| &chain.rules);
    rules.flat_map(|rule| &rule.steps).map(of_step).fold(Answer::Exact, Answer::and)
}

/// By family, extension and option; of several rules the one that is decided best tells what the option itself does.
type Found = BTreeMap<(bool, &'static str, &'static str), Answer>;

/// Notes the options of one group, read together with the rule's protocol.
fn note(found: &mut Found, family: Family, basics: &str, words: &[Token<'_>], group: &Group) {
    let Some(extension) = group.extension else { return };
    let spans = group.spans.iter().flat_map(|span| words.get(span.clone()).unwrap_or_default());
    let own: Vec<String> = spans.map(|word| String::from_utf8_lossy(word.raw).into_owned()).collect();
    let named = if group.name.is_some() { String::new() } else { format!("-m {}", extension.name) };
    let answer = answer(family, &format!("{basics} {named} {}", own.join(" ")));
    for option in group.args.iter().map(|arg| arg.name).chain(group.args.is_empty().then_some("")) {
        let known = found.entry((family == Family::Ipv4, extension.name, option)).or_insert_with(|| answer.clone());
        *known = known.clone().min(answer.clone());
    }
}

fn rules_of(name: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/xtables").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn found() -> Found {
    let mut found = Found::new();
    for (name, families) in [
        ("both.rules", &[Family::Ipv4, Family::Ipv6][..]),
        ("text.rules", &[Family::Ipv4]),
        ("ipv4.rules", &[Family::Ipv4]),
        ("ipv6.rules", &[Family::Ipv6]),
        ("text-ipv6.rules", &[Family::Ipv6]),
    ] {
        for (line, family) in rules_of(name).lines().flat_map(|line| families.iter().map(move |family| (line, *family)))
        {
            if line.starts_with(['#', '@', '*', ':']) || line.is_empty() {
                continue;
            }
            let rule = line.split(';').next().unwrap_or_default();
            let mut words = Vec::new();
            Cursor::new(rule.as_bytes()).words(&mut words).expect("a rule");
            let draft = draft::sort(&mut words, 0);
            let protocol = draft.basics.iter().find(|basic| basic.0 == draft::Basic::Protocol && !basic.1);
            let protocol =
                protocol.and_then(|basic| words.get(basic.2)).map(|word| String::from_utf8_lossy(&word.text));
            let basics = protocol.map(|protocol| format!("-p {protocol}")).unwrap_or_default();
            for group in draft.matches.iter().chain(&draft.target) {
                note(&mut found, family, &basics, &words, group);
            }
        }
    }
    found
}

/// What holds in both families, where both have the option.
fn both_families(found: &Found, extension: &'static str, option: &'static str) -> Option<Answer> {
    let answers = [true, false].map(|ipv4| found.get(&(ipv4, extension, option)).cloned());
    answers.into_iter().flatten().reduce(Answer::and)
}

fn section(title: &str, extensions: &'static [Extension], found: &Found) -> String {
    let mut text = format!("\n### {title}\n\n| Name | Options | Answer |\n|---|---|---|\n");
    let mut sorted: Vec<&Extension> = extensions.iter().collect();
    sorted.sort_by_key(|extension| extension.name.to_ascii_lowercase());
    for extension in sorted {
        let mut options: Vec<&'static str> = Vec::new();
        for (_, option, _) in extension.options {
            if !options.contains(option) {
                options.push(option);
            }
        }
        if options.is_empty() {
            options.push("");
        }
        let mut rows: Vec<(Answer, Vec<String>)> = Vec::new();
        for option in options {
            let answer = both_families(found, extension.name, option);
            let answer =
                answer.unwrap_or_else(|| panic!("no rule in tests/fixtures/xtables has {} --{option}", extension.name));
            let spelled = if option.is_empty() { String::new() } else { format!("`--{option}`") };
            match rows.iter_mut().find(|row| row.0 == answer) {
                Some(row) => row.1.push(spelled),
                None => rows.push((answer, vec![spelled])),
            }
        }
        for (at, (answer, options)) in rows.iter().enumerate() {
            let name = if at == 0 { format!("`{}`", extension.name) } else { String::new() };
            let _ = writeln!(text, "| {name} | {} | {} |", options.join(" "), answer.words());
        }
    }
    text
}

#[test]
fn coverage_of_iptables_is_what_the_table_says() {
    let found = found();
    let options: BTreeSet<_> = found.keys().map(|(_, extension, option)| (*extension, *option)).collect();
    let answers: Vec<Answer> = options.iter().filter_map(|one| both_families(&found, one.0, one.1)).collect();
    let count = |wanted: fn(&Answer) -> bool| answers.iter().filter(|answer| wanted(answer)).count();
    let mut text = String::from("\n## iptables, from 1.4 to 1.8.13, with xtables-addons\n\n");
    let _ = writeln!(
        text,
        "{} options of {} matches and targets: {} exact, {} decided where it is told what they ask for, {} without effect, {} \
         opaque. Conditions every rule may have (`-s`, `-d`, `-i`, `-o`, `-p`, `-f`) are exact.",
        options.len(),
        MATCHES.len() + TARGETS.len(),
        count(|answer| *answer == Answer::Exact),
        count(|answer| matches!(answer, Answer::Given(_))),
        count(|answer| *answer == Answer::NoEffect),
        count(|answer| matches!(answer, Answer::Opaque(_))),
    );
    text += &section("Matches", MATCHES, &found);
    text += &section("Targets", TARGETS, &found);
    text.push('\n');
    coverage::hold("iptables", &text);
}
