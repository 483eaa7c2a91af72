//! Denies for the terminal.

use std::fmt::Write as _;

use super::denies::{Answer, Key, Needed, Row, Suggested};
use super::text::{Style, Tone, count};
use crate::diagnostic::printable;
use crate::logs::query::{Field, Value};
use crate::logs::tally::text_of;

/// The answer for the terminal.
#[must_use]
pub fn text(answer: &Answer, style: Style) -> String {
    let mut out = String::new();
    let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let packets: u64 = answer.groups.iter().map(|row| row.packets).sum();
    let headline = if answer.events == 0 {
        "No denies found".to_owned()
    } else if let Some(new) = &answer.new_since {
        let groups = count(answer.groups_total, "new group");
        let time = new.time.as_deref().unwrap_or("that time");
        format!("{groups} of denies since {time}; {} seen before", count(new.seen_before, "group"))
    } else {
        let denies = if answer.events == 1 { "1 deny".to_owned() } else { format!("{} denies", answer.events) };
        let shown = answer.groups.len();
        let groups = count(answer.groups_total, "group");
        let cut = if shown < answer.groups_total { format!(", the largest {shown} shown") } else { String::new() };
        let packets = if cut.is_empty() { format!(", {}", count(number(packets), "packet")) } else { String::new() };
        format!("{denies} in {groups}{packets}{cut}")
    };
    out.push_str(&style.paint(Tone::Strong, &headline));
    out.push('\n');
    if let Some(range) = &answer.time_range {
        out.push_str(&style.wrap("", &format!("from {} to {}", range.first, range.last)));
    }
    if !answer.groups.is_empty() {
        out.push('\n');
        out.push_str(&style.paint(Tone::Dim, "   denies  what, and what decided"));
        out.push('\n');
    }
    for row in &answer.groups {
        group(row, style, &mut out);
    }
    if let Some(histogram) = &answer.histogram {
        super::histogram::text(histogram, style, &mut out);
    }
    let notes = notes(answer);
    if !notes.is_empty() {
        out.push('\n');
    }
    for note in notes {
        out.push_str(&style.wrap("note: ", &note));
    }
    out
}

fn group(row: &Row, style: Style, out: &mut String) {
    let indent = format!("{:>9}  ", row.count);
    let blank = " ".repeat(indent.len());
    let (flow, used) = flow(&row.key);
    let rest: Vec<String> = row
        .key
        .0
        .iter()
        .filter(|(field, value)| !used.contains(field) && *value != Value::Null)
        .filter(|(field, _)| row.why.is_none() || !in_words(*field))
        .map(|(field, value)| format!("{}={}", field.name(), text_of(value)))
        .collect();
    let first =
        [flow.as_str(), &rest.join(" ")].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("  ");
    let first = if first.is_empty() { "all events".to_owned() } else { first };
    out.push_str(&style.wrap(&indent, &first));
    if let Some(why) = &row.why {
        let written = row.written.as_ref().map(|place| format!(", written at {place}")).unwrap_or_default();
        out.push_str(&style.wrap(&blank, &format!("{why}{written}")));
    }
    let mut facts = count(usize::try_from(row.packets).unwrap_or(usize::MAX), "packet");
    match row.key.text(Field::Direction) {
        Some("egress") => facts.push_str(" out"),
        Some("ingress") => facts.push_str(" in"),
        _ => {}
    }
    match (&row.first, &row.last) {
        (Some(first), Some(last)) if first == last => {
            let _ = write!(facts, ", at {first}");
        }
        (Some(first), Some(last)) => {
            let _ = write!(facts, ", {first} to {last}");
        }
        _ => {}
    }
    out.push_str(&style.wrap(&blank, &facts));
    if let (Some(peer), Some(address)) = (&row.peer, row.far_end()) {
        out.push_str(&style.wrap(&blank, &format!("{address} is {} ({})", peer.name, peer.source)));
    }
    for reason in &row.despite_failsafe {
        out.push_str(&style.wrap(&blank, &format!("denied nevertheless: {reason}")));
    }
    if let Some(Needed { name, source, evidence }) = &row.needed {
        out.push_str(&style.wrap(&blank, &format!("must work on this host: {name} ({source}: {evidence})")));
    }
    match &row.suggestion {
        Some(Suggested::Rule { place, rule, admits, plan }) => {
            out.push_str(&style.wrap(&blank, &format!("would be admitted by this rule, {place}:")));
            for line in rule.lines() {
                let _ = writeln!(out, "{blank}  {}", printable(line));
            }
            out.push_str(&style.wrap(&blank, &format!("which also admits {admits}")));
            out.push_str(&style.wrap(&blank, &format!("put it into the policy's file, and plan that first: {plan}")));
        }
        Some(Suggested::Refused { refused }) => {
            out.push_str(&style.wrap(&blank, &format!("no rule is suggested: {refused}")));
        }
        None => {}
    }
}

/// Fields that `why` puts in words.
fn in_words(field: Field) -> bool {
    matches!(
        field,
        Field::Source | Field::Tier | Field::Policy | Field::RuleIndex | Field::EndOfTier | Field::LogPrefix
    )
}

/// `egress 10.0.1.10 -> 147.75.40.148 tcp/443`, as far as the key tells, and the fields it used.
pub(super) fn flow(key: &Key) -> (String, Vec<Field>) {
    let has = |field: Field| *key.get(field) != Value::Null;
    let mut used = Vec::new();
    let mut parts = Vec::new();
    let mut take = |field: Field| {
        used.push(field);
        text_of(key.get(field)).into_owned()
    };
    if has(Field::Direction) {
        parts.push(take(Field::Direction));
    }
    if has(Field::SrcIp) && has(Field::DstIp) {
        parts.push(format!("{} -> {}", take(Field::SrcIp), take(Field::DstIp)));
    }
    if has(Field::Proto) {
        let mut service = take(Field::Proto);
        if has(Field::DstPort) {
            let _ = write!(service, "/{}", take(Field::DstPort));
        }
        if has(Field::IcmpType) {
            let _ = write!(service, " type {}", take(Field::IcmpType));
            if has(Field::IcmpCode) {
                let _ = write!(service, " code {}", take(Field::IcmpCode));
            }
        }
        parts.push(service);
    }
    (parts.join(" "), used)
}

fn notes(answer: &Answer) -> Vec<String> {
    let mut notes = Vec::new();
    let malformed = answer.sum(|file| file.malformed);
    if malformed > 0 {
        notes.push(format!(
            "at least so many: {malformed} deny lines or JSON lines are broken (cut, torn, impossible values) and in no \
             group"
        ));
    }
    if answer.repeats > 0 {
        notes.push(format!("{} of the denies are known from \"message repeated\" notices only", answer.repeats));
    }
    let silent = answer.sum(|file| file.no_verdict);
    if silent > 0 {
        notes.push(format!(
            "{silent} logged packets are left out, because their rule's prefix says nothing about the verdict; --action log \
             shows them"
        ));
    }
    let undated = answer.sum(|file| file.undated);
    if undated > 0 {
        notes.push(format!("{undated} events without a time are left out, because a time was asked for"));
    }
    let long = answer.sum(|file| file.truncated);
    if long > 0 {
        notes.push(format!("of {long} very long lines only the first 64 KiB were read"));
    }
    if answer.given_up > 0 {
        notes.push(format!(
            "too many groups for memory: only the largest are kept, {} denies are in none, and counts are lower bounds; \
             --group-by fewer fields",
            answer.given_up
        ));
    }
    if answer.groups.iter().any(|row| row.failsafe) {
        notes.push(format!("failsafe ports are judged by {}", answer.failsafe_lists.source));
    }
    for file in &answer.unreadable {
        notes.push(format!("incomplete: {}: {}", file.path, file.error));
    }
    notes
}
