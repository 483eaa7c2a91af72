//! `hepguard trace` for people and machines.

use std::fmt::Write as _;
use std::rc::Rc;

use serde::Serialize;
use serde_json::Value;

use super::text::{Style, Tone};
use crate::analysis::trace::{RuleOutcome, StepKind, Trace, TraceStep, TraceVerdict};
use crate::calico::names::{Meaning, Meanings};
use crate::packet::{Family, Packet};
use crate::ruleset::{Backend, Policy, Rule, RuleRef, Ruleset, without_comments};

/// The schema of [`document`], as shipped.
pub const SCHEMA: &str = include_str!("schemas/trace.v1.json");

/// A rule's place in the words of the contract.
#[derive(Serialize)]
pub(super) struct Place<'r> {
    backend: Backend,
    family: Family,
    table: &'r str,
    chain: &'r str,
    rule: RuleNumber,
    #[serde(skip_serializing_if = "Option::is_none")]
    calico: Option<Rc<Meaning>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'r str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    carried_out_by: Option<Box<Place<'r>>>,
}

/// 1-based, or the word `policy`.
#[derive(Serialize)]
#[serde(untagged)]
enum RuleNumber {
    Rule(usize),
    Policy(&'static str),
}

#[derive(Serialize)]
pub(super) struct Because<'r> {
    pub(super) rule: Option<Place<'r>>,
    pub(super) reason: &'r str,
}

/// One line of a batch.
#[derive(Serialize)]
pub(super) struct Answer<'r> {
    verdict: TraceVerdict,
    certain: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    decided_by: Option<Place<'r>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped_by: Option<&'r str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    because: Vec<Because<'r>>,
    #[serde(skip_serializing_if = "<[TraceVerdict]>::is_empty")]
    may: &'r [TraceVerdict],
}

#[derive(Serialize)]
pub(super) struct Document<'r> {
    schema: &'static str,
    packet: Value,
    verdict: TraceVerdict,
    certain: bool,
    decided_by: Option<Place<'r>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped_by: Option<&'r str>,
    because: Vec<Because<'r>>,
    may: &'r [TraceVerdict],
    notes: &'r [String],
    steps: Vec<Step<'r>>,
}

#[derive(Serialize)]
pub(super) struct Step<'r> {
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hook: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<Place<'r>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<RuleOutcome>,
    #[serde(skip_serializing_if = "str::is_empty")]
    why: &'r str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    steps: Vec<Step<'r>>,
}

/// The place of a rule or policy; `None` for a stale reference.
pub(super) fn place<'r>(meanings: &Meanings<'r>, of: RuleRef, text: bool) -> Option<Place<'r>> {
    let table = meanings.ruleset().tables.get(of.table)?;
    let chain = table.chains.get(of.chain)?;
    let rule = match of.rule {
        RuleRef::POLICY => RuleNumber::Policy("policy"),
        number => RuleNumber::Rule(number + 1),
    };
    Some(Place {
        backend: table.backend,
        family: table.family,
        table: &table.name,
        chain: &chain.name,
        rule,
        calico: meanings.of(of),
        text: meanings.ruleset().rule(of).filter(|_| text).map(|rule| &*rule.text),
        carried_out_by: None,
    })
}

pub(super) fn decided_by<'r>(meanings: &Meanings<'r>, trace: &Trace, text: bool) -> Option<Place<'r>> {
    let mut decided = place(meanings, trace.decided_by?, text)?;
    decided.carried_out_by = trace.carried_out_by.and_then(|of| place(meanings, of, text)).map(Box::new);
    Some(decided)
}

pub(super) fn because<'t, 'r: 't>(meanings: &Meanings<'r>, trace: &'t Trace, text: bool) -> Vec<Because<'t>> {
    let one = |rule: Option<RuleRef>| rule.and_then(|of| place(meanings, of, text));
    trace.because.iter().map(|undecided| Because { rule: one(undecided.rule), reason: &undecided.reason }).collect()
}

/// One line of a batch answer, without the line end.
///
/// # Errors
/// Only when a value cannot be written as JSON, which these can.
pub fn line(meanings: &Meanings<'_>, trace: &Trace) -> serde_json::Result<String> {
    serde_json::to_string(&answer(meanings, trace))
}

pub(super) fn answer<'t, 'r: 't>(meanings: &Meanings<'r>, trace: &'t Trace) -> Answer<'t> {
    Answer {
        verdict: trace.verdict,
        certain: trace.certain,
        decided_by: decided_by(meanings, trace, false),
        stopped_by: trace.stopped_by.as_deref(),
        because: because(meanings, trace, false),
        may: if trace.certain { &[] } else { &trace.may },
    }
}

/// The whole answer as a JSON document (`hepguard/trace/v1`).
///
/// # Errors
/// Only when a value cannot be written as JSON, which these can.
pub fn document(meanings: &Meanings<'_>, packet: &Packet, trace: &Trace) -> serde_json::Result<String> {
    serde_json::to_string_pretty(&whole(meanings, packet, trace))
}

pub(super) fn whole<'t, 'r: 't>(meanings: &Meanings<'r>, packet: &Packet, trace: &'t Trace) -> Document<'t> {
    Document {
        schema: "hepguard/trace/v1",
        packet: crate::packet::text::to_json(packet),
        verdict: trace.verdict,
        certain: trace.certain,
        decided_by: decided_by(meanings, trace, true),
        stopped_by: trace.stopped_by.as_deref(),
        because: because(meanings, trace, true),
        may: &trace.may,
        notes: &trace.notes,
        steps: trace.steps.iter().map(|inner| step(meanings, inner)).collect(),
    }
}

pub(super) fn step<'t, 'r: 't>(meanings: &Meanings<'r>, of: &'t TraceStep) -> Step<'t> {
    let (kind, hook, at, outcome) = match of.kind {
        StepKind::Hook(hook) => ("hook", Some(hook.name()), None, None),
        StepKind::Chain(at) => ("chain", None, Some(at), None),
        StepKind::Rule(at, outcome) => ("rule", None, Some(at), Some(outcome)),
        StepKind::Policy(at) => ("policy", None, Some(at), None),
        StepKind::Routing => ("routing", None, None, None),
    };
    Step {
        kind,
        hook,
        place: at.and_then(|at| place(meanings, at, matches!(of.kind, StepKind::Rule(..)))),
        outcome,
        why: &of.why,
        steps: of.inner.iter().map(|inner| step(meanings, inner)).collect(),
    }
}

/// The answer for people: the verdict and who decided it, then the steps.
#[must_use]
pub fn text(meanings: &Meanings<'_>, packet: &Packet, trace: &Trace, style: Style) -> String {
    let ruleset = meanings.ruleset();
    let tone = match trace.verdict {
        TraceVerdict::Accept => Tone::Good,
        TraceVerdict::Drop | TraceVerdict::Reject => Tone::Bad,
        TraceVerdict::Unknown => Tone::Warn,
    };
    let verdict = trace.verdict.name();
    let mut out = style.wrap(&format!("{verdict}: "), &reason(meanings, trace));
    // the colour goes on after wrapping, which counts characters
    out.replace_range(..verdict.len(), &style.paint(tone, verdict));
    let indent = " ".repeat(verdict.len() + 2);
    for at in [trace.decided_by, trace.carried_out_by].into_iter().flatten() {
        let by = if Some(at) == trace.carried_out_by { "carried out by " } else { "" };
        out.push_str(&style.wrap(&indent, &format!("{by}{}", words(ruleset, at))));
    }
    for undecided in &trace.because {
        let at = undecided.rule.map(|at| format!("{}: ", words(ruleset, at))).unwrap_or_default();
        out.push_str(&style.wrap("  because ", &format!("{at}{}", undecided.reason)));
    }
    for note in &trace.notes {
        out.push_str(&style.wrap("  note: ", note));
    }
    if !trace.steps.is_empty() {
        out.push('\n');
        out.push_str(&style.wrap("", &packet.to_string()));
        for inner in &trace.steps {
            write_step(&mut out, meanings, inner, 1, style);
        }
    }
    out
}

/// Why, in the words of who wrote the rule.
pub(super) fn reason(meanings: &Meanings<'_>, trace: &Trace) -> String {
    let ruleset = meanings.ruleset();
    let Some(at) = trace.decided_by else {
        if let Some(why) = &trace.stopped_by {
            return format!("by the kernel, not the firewall: {why}");
        }
        if trace.certain {
            return "no rule and no policy stands in the way".to_owned();
        }
        let may: Vec<&str> = trace.may.iter().map(|verdict| verdict.name()).collect();
        return format!("{} possible", may.join(" or "));
    };
    if let Some(told) = told(meanings, at) {
        return told;
    }
    match ruleset.rule(at) {
        Some(rule) => match rule.comments.iter().find(|comment| !comment.starts_with("cali:")) {
            Some(comment) => comment.to_string(),
            None => short(rule),
        },
        None => {
            let chain = ruleset.tables.get(at.table).and_then(|table| table.chains.get(at.chain));
            format!("policy of chain {}", chain.map(|chain| &*chain.name).unwrap_or_default())
        }
    }
}

/// What Felix meant by a rule, where that says more than the rule.
pub(super) fn told(meanings: &Meanings<'_>, at: RuleRef) -> Option<String> {
    match &*meanings.of(at)? {
        Meaning::Plumbing { comment: None, .. } => None,
        meaning => Some(meaning.to_string()),
    }
}

/// A rule's place: `iptables-legacy ipv4 filter cali-failsafe-in rule 1`.
pub(super) fn words(ruleset: &Ruleset, at: RuleRef) -> String {
    let Some(table) = ruleset.tables.get(at.table) else { return String::new() };
    let chain = table.chains.get(at.chain).map(|chain| &*chain.name).unwrap_or_default();
    let rule = if at.rule == RuleRef::POLICY { "policy".to_owned() } else { format!("rule {}", at.rule + 1) };
    let line = ruleset.rule(at).filter(|rule| rule.line > 0);
    let line = line.map(|rule| format!(" ({}:{})", table.source, rule.line)).unwrap_or_default();
    format!("{} {} {} {chain} {rule}{line}", table.backend.name(), table.family, table.name)
}

/// A rule without the words that say where it stands.
pub(super) fn short(rule: &Rule) -> String {
    let rest = rule.text.strip_prefix("-A ").and_then(|rest| rest.split_once(' ')).map(|(_, rest)| rest);
    let mut text = without_comments(rest.unwrap_or(&rule.text).trim_start());
    // Felix's hash says nothing to people; what somebody else wrote does
    for comment in rule.comments.iter().filter(|comment| !comment.starts_with("cali:") && rest.is_some()) {
        let _ = write!(text, " /* {comment} */");
    }
    text
}

pub(super) fn write_step(out: &mut String, meanings: &Meanings<'_>, of: &TraceStep, level: usize, style: Style) {
    let ruleset = meanings.ruleset();
    // deep calls stay readable: the indent stops growing
    let indent = " ".repeat(2 * level.min(12));
    let room = style.width.saturating_sub(indent.len());
    match of.kind {
        StepKind::Hook(hook) => {
            let _ = writeln!(out, "{indent}{}", style.paint(Tone::Strong, hook.name()));
        }
        StepKind::Chain(at) => {
            let Some((table, chain)) =
                ruleset.tables.get(at.table).and_then(|table| Some((table, table.chains.get(at.chain)?)))
            else {
                return;
            };
            let priority = chain.base.as_ref().map(|base| format!(" (priority {})", base.priority)).unwrap_or_default();
            let line = format!("{} {} {} {}{priority}", table.backend.name(), table.family, table.name, chain.name);
            let _ = writeln!(out, "{indent}{}", style.clip(&line, room));
        }
        StepKind::Rule(at, outcome) => {
            let sign = match outcome {
                RuleOutcome::Matched => "+",
                RuleOutcome::Possible => "?",
                RuleOutcome::Failed => "-",
            };
            let text = told(meanings, at).or_else(|| ruleset.rule(at).map(short)).unwrap_or_default();
            let line = style.clip(&format!("{sign} {} {text}", at.rule + 1), room);
            let tone = if outcome == RuleOutcome::Failed { Tone::Dim } else { Tone::Plain };
            let _ = writeln!(out, "{indent}{}", style.paint(tone, &line));
            if !of.why.is_empty() {
                let why = style.clip(&format!("    {}", of.why), room);
                let _ = writeln!(out, "{indent}{}", style.paint(Tone::Dim, &why));
            }
        }
        StepKind::Policy(at) => {
            let chain = ruleset.tables.get(at.table).and_then(|table| table.chains.get(at.chain));
            let policy = chain.and_then(|chain| chain.base.as_ref()).map(|base| base.policy);
            let tone = if policy == Some(Policy::Drop) { Tone::Bad } else { Tone::Plain };
            let _ = writeln!(out, "{indent}{}", style.paint(tone, &format!("policy {}", of.why)));
        }
        StepKind::Routing => {
            let _ =
                writeln!(out, "{indent}{}", style.paint(Tone::Dim, &style.clip(&format!("route: {}", of.why), room)));
        }
    }
    for inner in &of.inner {
        write_step(out, meanings, inner, level + 1, style);
    }
}
