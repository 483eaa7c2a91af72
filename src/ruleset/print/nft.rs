//! Rules in nft's own syntax, as `nft -s list ruleset` prints them: without counter values, with conditions left out that
//! nft derives by itself.

use crate::packet::Family;
use crate::ruleset::nft_words::{Kind, Known, Needs, Word, kind_of, kinds_of, word_of};
use crate::ruleset::{
    Data, Effect, Elements, Expr, FibField, FibResult, Field, Interval, Match, Nat, NatKind, NatTarget, Operator,
    PayloadBase, Rule, SetRef, Step, Verdict,
};

/// A rule with its comments. What the model does not hold (log levels, NAT flags) is not in it; [`Rule::text`] has all.
#[must_use]
pub fn rule(family: Family, rule: &Rule) -> String {
    let mut text = steps(family, &rule.steps);
    for comment in &rule.comments {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str("comment ");
        text.push_str(&quoted(comment));
    }
    text
}

/// The steps of a rule of a table of `family`.
#[must_use]
pub fn steps(family: Family, steps: &[Step]) -> String {
    let implied = implied_steps(family, steps);
    steps_with(family, steps, |index| implied.get(index).copied().unwrap_or(false).then_some(""))
}

/// One condition as it would read in a rule of its own.
#[must_use]
pub fn condition(family: Family, condition: &Match) -> String {
    matched(&Known::new(family), condition)
}

/// The steps of a rule; `text` says of some steps what to print instead.
pub(crate) fn steps_with<'t>(family: Family, steps: &[Step], text: impl Fn(usize) -> Option<&'t str>) -> String {
    let mut known = Known::new(family);
    let mut out = String::new();
    let mut update = "";
    for (index, step) in steps.iter().enumerate() {
        let words = match (text(index), step) {
            (Some(text), _) => text.to_owned(),
            // the statement inside a set statement's braces
            (None, Step::Match(Match::Opaque { text, .. })) if &**text == update => String::new(),
            (None, step) => one_step(&known, step),
        };
        if !words.is_empty() {
            if !out.is_empty() {
                out.push(' ');
            }
            out.push_str(&words);
        }
        match step {
            Step::Match(condition) => known.observe(condition),
            Step::Effect(Effect::UpdateSet { text, .. }) => update = text,
            _ => {}
        }
    }
    out
}

fn one_step(known: &Known, step: &Step) -> String {
    match step {
        Step::Match(condition) => matched(known, condition),
        Step::Effect(effect) => match effect {
            Effect::Set { field: target, value: new } => {
                let left = Expr::Field(target.clone());
                let kind = match kind_of(&left) {
                    // names of protocols are keywords, which assignments do not take
                    Kind::Protocol => Kind::Integer(8),
                    kind => kind,
                };
                format!("{} set {}", expression(known, &left), value(known, new, kind))
            }
            Effect::NoTrack => "notrack".into(),
            Effect::Log { prefix, group, .. } => {
                let prefix = prefix.as_ref().map(|prefix| format!(" prefix {}", quoted(prefix))).unwrap_or_default();
                let group = group.map(|group| format!(" group {group}")).unwrap_or_default();
                format!("log{prefix}{group}")
            }
            Effect::Count => "counter".into(),
            Effect::Offload(flowtable) => format!("flow add @{flowtable}"),
            Effect::UpdateSet { text, .. } | Effect::Harmless(text) | Effect::Opaque(text) => text.to_string(),
        },
        Step::Vmap { key, map } => {
            format!("{} vmap {}", expression(known, key), set(known, map, &kinds_of(key), &[]))
        }
        Step::Verdict(verdict) => verdict_in(known, verdict),
    }
}

fn verdict_in(known: &Known, verdict: &Verdict) -> String {
    match verdict {
        Verdict::Accept => "accept".into(),
        Verdict::Drop => "drop".into(),
        Verdict::Return => "return".into(),
        Verdict::Continue => "continue".into(),
        Verdict::Jump(chain) => format!("jump {chain}"),
        Verdict::Goto(chain) => format!("goto {chain}"),
        Verdict::Reject(how) => match (known.family(), &**how) {
            (Family::Ipv4, "icmp port-unreachable") | (Family::Ipv6, "icmpv6 port-unreachable") => "reject".into(),
            (Family::Inet | Family::Bridge | Family::Netdev, "icmpx port-unreachable") => "reject".into(),
            (_, how) => format!("reject with {how}"),
        },
        Verdict::Nat(target) => nat(known, target),
        Verdict::Queue { bypass: true, .. } => "queue flags bypass".into(),
        Verdict::Queue { bypass: false, .. } => "queue".into(),
        Verdict::Opaque(text) => text.to_string(),
    }
}

/// Which steps are conditions that nft derives from the step behind them.
fn implied_steps(family: Family, steps: &[Step]) -> Vec<bool> {
    let mut known = Known::new(family);
    let mut needs = Vec::with_capacity(steps.len());
    for step in steps {
        needs.push(needs_of(&known, step));
        if let Step::Match(condition) = step {
            known.observe(condition);
        }
    }
    let mut implied = vec![false; steps.len()];
    let mut next: Option<usize> = None;
    for index in (0..steps.len()).rev() {
        let follows = next.and_then(|next| needs.get(next)).map(Vec::as_slice).unwrap_or_default();
        let derived = match steps.get(index) {
            Some(Step::Match(condition)) => follows.iter().any(|needs| known.conditions(*needs).contains(condition)),
            _ => false,
        };
        if let Some(slot) = implied.get_mut(index) {
            *slot = derived;
        }
        if !derived {
            next = Some(index);
        }
    }
    implied
}

fn needs_of(known: &Known, step: &Step) -> Vec<Needs> {
    let mut needs = Vec::new();
    match step {
        Step::Match(Match::Compare { left, right, .. }) => {
            needs_of_expr(known, left, &mut needs);
            needs_of_expr(known, right, &mut needs);
        }
        Step::Match(Match::Lookup { left: key, .. }) | Step::Vmap { key, .. } => needs_of_expr(known, key, &mut needs),
        Step::Effect(Effect::Set { field, value }) => {
            needs_of_expr(known, &Expr::Field(field.clone()), &mut needs);
            needs_of_expr(known, value, &mut needs);
        }
        Step::Verdict(Verdict::Reject(how)) => match how.split(' ').next() {
            Some("tcp") => needs.push(Needs::Protocol(6)),
            Some("icmp") => needs.push(Needs::Ipv4),
            Some("icmpv6") => needs.push(Needs::Ipv6),
            _ => {}
        },
        _ => {}
    }
    needs
}

fn needs_of_expr(known: &Known, expr: &Expr, needs: &mut Vec<Needs>) {
    match expr {
        Expr::Field(Field::Sport | Field::Dport) => needs.extend(known.protocol().map(|p| Needs::Protocol(p.0))),
        Expr::Field(Field::Dscp | Field::Ecn) => {
            needs.push(if known.ip() == Some(Family::Ipv6) { Needs::Ipv6 } else { Needs::Ipv4 });
        }
        Expr::Field(Field::EtherType) if known.is_ethernet() => needs.push(Needs::Ethernet),
        Expr::Field(Field::Other(text)) if text.starts_with("exthdr ") => needs.push(Needs::Ipv6),
        Expr::Field(field) => needs.extend(word_of(field).map(|word| word.needs)),
        Expr::Concat(parts) => parts.iter().for_each(|part| needs_of_expr(known, part, needs)),
        Expr::And(a, b) | Expr::Or(a, b) | Expr::Xor(a, b) | Expr::Shl(a, b) | Expr::Shr(a, b) => {
            needs_of_expr(known, a, needs);
            needs_of_expr(known, b, needs);
        }
        Expr::Map { key, .. } => needs_of_expr(known, key, needs),
        Expr::Number(_) | Expr::Fib(_) | Expr::Payload { .. } | Expr::Opaque(_) => {}
    }
}

fn matched(known: &Known, condition: &Match) -> String {
    match condition {
        Match::Compare { left, operator, right } => compare(known, left, *operator, right),
        Match::Lookup { left, negate, set: members } => {
            let sign = match (negate, is_computed(left)) {
                (true, _) => "!= ",
                (false, true) => "== ",
                (false, false) => "",
            };
            let kinds = kinds_of(left);
            let members = match (members, kinds.as_slice()) {
                (SetRef::Anonymous(elements), [kind]) => bare_interval(elements)
                    .map_or_else(|| set(known, members, &kinds, &[]), |interval| kind.print_interval(interval)),
                _ => set(known, members, &kinds, &[]),
            };
            format!("{} {sign}{members}", expression(known, left))
        }
        Match::Opaque { text, .. } | Match::Xtables { text, .. } => text.to_string(),
        Match::Ipset { name, directions, negate, .. } => {
            let not = if *negate { "! " } else { "" };
            format!("{not}xt match set {name} {directions:?}")
        }
        Match::Any(all) => joined(known, all, " or "),
        Match::All(all) => joined(known, all, " "),
        Match::Not(inner) => format!("not ({})", matched(known, inner)),
    }
}

fn joined(known: &Known, all: &[Match], separator: &str) -> String {
    all.iter().map(|inner| matched(known, inner)).collect::<Vec<_>>().join(separator)
}

/// The one interval of a set that is written without braces.
fn bare_interval(elements: &Elements) -> Option<Interval> {
    let mut keys = elements.keys();
    match (keys.next(), keys.next(), elements.catch_all(), elements.data(0)) {
        (Some([only]), None, None, None) if only.low < only.high => Some(*only),
        _ => None,
    }
}

fn compare(known: &Known, left: &Expr, operator: Operator, right: &Expr) -> String {
    let kind = kind_of(left);
    let words = |separator: &str| flag_words(known, right, kind, separator);
    let key = expression(known, left);
    if let (Expr::And(field, mask), Operator::Eq | Operator::Ne) = (left, operator)
        && let (Expr::Field(Field::TcpFlags), Expr::Number(bits), Expr::Number(_)) = (&**field, &**mask, right)
        && bits.count_ones() > 1
    {
        let not = if operator == Operator::Ne { "!= " } else { "" };
        let mask = flag_words(known, mask, kind, ",");
        return format!("{} {not}{} / {mask}", expression(known, field), words(","));
    }
    match operator {
        Operator::Eq if is_computed(left) || kind.is_flags() => format!("{key} == {}", words(" | ")),
        Operator::Eq => format!("{key} {}", value(known, right, kind)),
        Operator::Ne => format!("{key} != {}", words(" | ")),
        Operator::Lt => format!("{key} < {}", value(known, right, kind)),
        Operator::Gt => format!("{key} > {}", value(known, right, kind)),
        Operator::Le => format!("{key} <= {}", value(known, right, kind)),
        Operator::Ge => format!("{key} >= {}", value(known, right, kind)),
        Operator::AnyBit if kind.is_flags() || matches!(kind, Kind::Label) => format!("{key} {}", words(",")),
        Operator::NoBit if kind.is_flags() || matches!(kind, Kind::Label) => format!("{key} ! {}", words(",")),
        Operator::AnyBit => format!("{key} & {} != 0", value(known, right, kind)),
        Operator::NoBit => format!("{key} & {} == 0", value(known, right, kind)),
    }
}

fn is_computed(expr: &Expr) -> bool {
    matches!(expr, Expr::And(..) | Expr::Or(..) | Expr::Xor(..) | Expr::Shl(..) | Expr::Shr(..))
}

fn flag_words(known: &Known, right: &Expr, kind: Kind, separator: &str) -> String {
    let text = value(known, right, kind);
    if kind.is_flags() { text.replace(',', separator) } else { text }
}

/// Name of a field where the conditions before it are `known`.
fn field(known: &Known, field: &Field) -> String {
    let port = |name: &str| match known.protocol().filter(|protocol| protocol.has_ports()) {
        Some(protocol) => format!("{protocol} {name}"),
        None => format!("th {name}"),
    };
    let ip = if known.ip() == Some(Family::Ipv6) { "ip6" } else { "ip" };
    match field {
        Field::Sport => port("sport"),
        Field::Dport => port("dport"),
        Field::Dscp => format!("{ip} dscp"),
        Field::Ecn => format!("{ip} ecn"),
        Field::Tos => "@nh,8,8".into(),
        Field::EtherType if known.is_ethernet() => "ether type".into(),
        Field::Other(text) => text.to_string(),
        other => word_of(other).map_or_else(|| format!("{other:?}"), Word::text),
    }
}

/// An expression; numbers are plain.
pub(crate) fn expression(known: &Known, expr: &Expr) -> String {
    value(known, expr, Kind::Integer(128))
}

/// An expression whose constants are of `kind`.
pub(crate) fn value(known: &Known, expr: &Expr, kind: Kind) -> String {
    match expr {
        Expr::Field(name) => field(known, name),
        Expr::Number(number) => kind.print(*number),
        Expr::Concat(parts) => parts.iter().map(|part| expression(known, part)).collect::<Vec<_>>().join(" . "),
        Expr::And(a, b) => binary(known, "&", a, b, kind),
        Expr::Or(a, b) => binary(known, "|", a, b, kind),
        Expr::Xor(a, b) => binary(known, "^", a, b, kind),
        Expr::Shl(a, b) => binary(known, "<<", a, b, kind),
        Expr::Shr(a, b) => binary(known, ">>", a, b, kind),
        Expr::Map { key, map } => {
            format!("{} map {}", expression(known, key), set(known, map, &kinds_of(key), &[kind]))
        }
        Expr::Fib(fib) => fib_text(*fib),
        Expr::Payload { base, offset, length } => match (base, offset, length) {
            (PayloadBase::Transport, 0, 16) => "th sport".into(),
            (PayloadBase::Transport, 16, 16) => "th dport".into(),
            (PayloadBase::Link, ..) => format!("@ll,{offset},{length}"),
            (PayloadBase::Network, ..) => format!("@nh,{offset},{length}"),
            (PayloadBase::Transport, ..) => format!("@th,{offset},{length}"),
            (PayloadBase::Inner, ..) => format!("@ih,{offset},{length}"),
        },
        Expr::Opaque(text) => text.to_string(),
    }
}

fn binary(known: &Known, sign: &str, left: &Expr, right: &Expr, kind: Kind) -> String {
    let kind = match (kind_of(left), left) {
        (_, Expr::Number(_)) => kind,
        (kind, _) => kind,
    };
    let operand = |expr: &Expr, kind: Kind| {
        let text = value(known, expr, kind);
        let text = if kind.is_flags() { text.replace(',', " | ") } else { text };
        if strength(expr) < strength_of(sign) || text.contains(" | ") && sign == "&" {
            format!("({text})")
        } else {
            text
        }
    };
    let right_kind = if matches!(sign, "<<" | ">>") { Kind::Integer(8) } else { kind };
    format!("{} {sign} {}", operand(left, kind), operand(right, right_kind))
}

fn strength(expr: &Expr) -> u8 {
    match expr {
        Expr::Or(..) => 1,
        Expr::Xor(..) => 2,
        Expr::And(..) => 3,
        Expr::Shl(..) | Expr::Shr(..) => 4,
        _ => 9,
    }
}

fn strength_of(sign: &str) -> u8 {
    match sign {
        "|" => 1,
        "^" => 2,
        "&" => 3,
        _ => 4,
    }
}

fn fib_text(fib: FibField) -> String {
    let mut words = vec![if fib.source { "saddr" } else { "daddr" }];
    for (flag, name) in [(fib.mark, "mark"), (fib.iif, "iif"), (fib.oif, "oif")] {
        if flag {
            words.push(name);
        }
    }
    let result = match fib.result {
        FibResult::Type => "type",
        FibResult::Oif | FibResult::Present => "oif",
        FibResult::Oifname => "oifname",
    };
    format!("fib {} {result}", words.join(" . "))
}

/// A named set, or the elements of an anonymous one. `data` are the kinds of a map's values.
fn set(known: &Known, set: &SetRef, kinds: &[Kind], data: &[Kind]) -> String {
    let elements = match set {
        SetRef::Named(name) => return format!("@{name}"),
        SetRef::Anonymous(elements) => elements,
    };
    let mut words = Vec::with_capacity(elements.len());
    for (index, key) in elements.keys().enumerate() {
        let mut text = intervals(key, kinds);
        if let Some(comment) = elements.extra(index).and_then(|extra| extra.comment.as_deref()) {
            text = format!("{text} comment {}", quoted(comment));
        }
        if let Some(datum) = elements.data(index) {
            text = format!("{text} : {}", datum_text(known, datum, data));
        }
        words.push(text);
    }
    match elements.catch_all() {
        Some(Data::Object(name)) if name.is_empty() => words.push("*".into()),
        Some(datum) => words.push(format!("* : {}", datum_text(known, datum, data))),
        None => {}
    }
    format!("{{ {} }}", words.join(", "))
}

fn datum_text(known: &Known, datum: &Data, kinds: &[Kind]) -> String {
    match datum {
        Data::Verdict(verdict) => verdict_in(known, verdict),
        Data::Value(values) if values.len() == 2 && kinds.len() == 1 => {
            // a translation's address and port
            intervals(values, &[kinds.first().copied().unwrap_or(Kind::Integer(128)), Kind::Port])
        }
        Data::Value(values) => intervals(values, kinds),
        Data::Object(name) => quoted(name),
    }
}

fn intervals(values: &[Interval], kinds: &[Kind]) -> String {
    let kind = |index: usize| kinds.get(index).copied().unwrap_or(Kind::Integer(128));
    let print = |(index, interval): (usize, &Interval)| {
        let kind = kind(index);
        let text = kind.print_interval(*interval);
        if kind.is_flags() { text.replace(',', " | ") } else { text }
    };
    values.iter().enumerate().map(print).collect::<Vec<_>>().join(" . ")
}

/// An address translation.
pub(crate) fn nat(known: &Known, nat: &Nat) -> String {
    let word = match nat.kind {
        NatKind::Snat => "snat",
        NatKind::Dnat => "dnat",
        NatKind::Masquerade => "masquerade",
        NatKind::Redirect => "redirect",
        NatKind::Netmap => "netmap",
        NatKind::SnatPrefix => "snat",
        NatKind::DnatPrefix => "dnat",
    };
    let family = match (known.family(), known.ip(), &nat.address) {
        (Family::Inet, Some(Family::Ipv4), Some(_)) => " ip",
        (Family::Inet, Some(Family::Ipv6), Some(_)) => " ip6",
        (Family::Ipv4, ..) if matches!(nat.kind, NatKind::SnatPrefix | NatKind::DnatPrefix) => " ip",
        (Family::Ipv6, ..) if matches!(nat.kind, NatKind::SnatPrefix | NatKind::DnatPrefix) => " ip6",
        _ => "",
    };
    let kind = match (known.ip(), &nat.address) {
        (Some(Family::Ipv6), _) => Kind::Ipv6,
        (None, Some(NatTarget::Range(range))) if range.high > u128::from(u32::MAX) => Kind::Ipv6,
        _ => Kind::Ipv4,
    };
    let address = match &nat.address {
        Some(NatTarget::Range(range)) => {
            let one = |value: u128| match (kind, &nat.port) {
                (Kind::Ipv6, Some(_)) => format!("[{}]", kind.print(value)),
                _ => kind.print(value),
            };
            if matches!(nat.kind, NatKind::Netmap | NatKind::SnatPrefix | NatKind::DnatPrefix) {
                kind.print_interval(*range)
            } else if range.low == range.high {
                one(range.low)
            } else {
                format!("{}-{}", one(range.low), one(range.high))
            }
        }
        Some(NatTarget::Expr(expr)) => value(known, expr, kind),
        None => String::new(),
    };
    let port = match &nat.port {
        Some(NatTarget::Range(range)) => format!(":{}", Kind::Port.print_interval(*range)),
        Some(NatTarget::Expr(expr)) => format!(":{}", value(known, expr, Kind::Port)),
        None => String::new(),
    };
    let part = if matches!(nat.kind, NatKind::SnatPrefix | NatKind::DnatPrefix) { " prefix" } else { "" };
    match address.is_empty() && port.is_empty() {
        true => word.to_owned(),
        false => format!("{word}{family}{part} to {address}{port}"),
    }
}

/// A text in quotes. nft knows no escapes, so a quote inside cannot be written.
pub(crate) fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}
