//! `hepguard trace --conversation` for people and machines.

use serde::Serialize;
use serde_json::Value;

use super::text::{Style, Tone};
use super::trace::{self, Because, Place, Step, answer, because, decided_by, reason, step, words, write_step};
use crate::analysis::conversation::{Conversation, Exchange, Outcome};
use crate::analysis::trace::{Trace, TraceVerdict};
use crate::calico::names::Meanings;
use crate::packet::{CtState, CtStatus};

/// A conversation in JSON; `None` where a batch answer is to be short.
#[derive(Serialize)]
struct Whole<'r> {
    outcome: Outcome,
    /// The packet that is stopped, from 1.
    broken_at: Option<usize>,
    /// How many packets it has when it works.
    length: usize,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    notes: &'r [String],
    packets: Vec<Part<'r>>,
}

#[derive(Serialize)]
struct Part<'r> {
    name: &'static str,
    reply: bool,
    state: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    packet: Option<Value>,
    verdict: TraceVerdict,
    certain: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    decided_by: Option<Place<'r>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    because: Vec<Because<'r>>,
    may: &'r [TraceVerdict],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    notes: &'r [String],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    steps: Vec<Step<'r>>,
}

fn states(of: CtState) -> Vec<&'static str> {
    CtState::NAMES.into_iter().filter(|(state, _)| state.intersects(of)).map(|(_, name)| name).collect()
}

/// The packet without the addresses that are not known.
fn packet(of: &Exchange) -> Value {
    let mut packet = of.packet.clone();
    // bits without a name are the kernel's own
    let named = CtStatus::NAMES.iter().fold(0, |all, (bit, _)| all | bit.0);
    packet.ct.status = packet.ct.status.map(|status| CtStatus(status.0 & named));
    let mut value = crate::packet::text::to_json(&packet);
    if let Some(object) = value.as_object_mut() {
        for (name, hidden) in [("src", of.hidden.src), ("dst", of.hidden.dst)] {
            if hidden {
                object.remove(name);
            }
        }
        // the states that tracking gives are told beside it
        object.remove("state");
    }
    value
}

fn whole<'t, 'r: 't>(meanings: &Meanings<'r>, of: &'t Conversation, full: bool) -> Whole<'t> {
    let part = |exchange: &'t Exchange| {
        let trace = &exchange.trace;
        Part {
            name: exchange.name,
            reply: exchange.reply,
            state: states(exchange.states),
            packet: full.then(|| packet(exchange)),
            verdict: trace.verdict,
            certain: trace.certain,
            decided_by: decided_by(meanings, trace, full),
            because: because(meanings, trace, full),
            may: &trace.may,
            notes: &trace.notes,
            steps: trace.steps.iter().map(|inner| step(meanings, inner)).collect(),
        }
    };
    Whole {
        outcome: of.outcome,
        broken_at: of.broken_at(),
        length: of.length,
        notes: &of.notes,
        packets: of.exchanges.iter().map(part).collect(),
    }
}

/// What is told of the first packet, and the conversation behind it.
#[derive(Serialize)]
struct Opened<'t, First> {
    #[serde(flatten)]
    first: Option<First>,
    conversation: Whole<'t>,
}

/// One line of a batch answer: the first packet's, with the conversation.
///
/// # Errors
/// Only when a value cannot be written as JSON, which these can.
pub fn line(meanings: &Meanings<'_>, conversation: &Conversation) -> serde_json::Result<String> {
    let first = conversation.exchanges.first().map(|first| answer(meanings, &first.trace));
    serde_json::to_string(&Opened { first, conversation: whole(meanings, conversation, false) })
}

/// The whole answer as a JSON document (`hepguard/trace/v1`): the first packet's, with the conversation.
///
/// # Errors
/// Only when a value cannot be written as JSON, which these can.
pub fn document(meanings: &Meanings<'_>, conversation: &Conversation) -> serde_json::Result<String> {
    let first = conversation.exchanges.first().map(|first| trace::whole(meanings, &first.packet, &first.trace));
    serde_json::to_string_pretty(&Opened { first, conversation: whole(meanings, conversation, true) })
}

/// The answer for people: how it ends, then each packet with what decided it.
#[must_use]
pub fn text(meanings: &Meanings<'_>, conversation: &Conversation, style: Style, steps: bool) -> String {
    let tone = match conversation.outcome {
        Outcome::Works => Tone::Good,
        Outcome::Broken => Tone::Bad,
        Outcome::Unknown => Tone::Warn,
    };
    let outcome = conversation.outcome.name();
    let mut out = style.wrap(&format!("{outcome}: "), &headline(meanings, conversation));
    out.replace_range(..outcome.len(), &style.paint(tone, outcome));
    for (number, exchange) in (1..).zip(&conversation.exchanges) {
        write_exchange(&mut out, meanings, number, exchange, style);
        if steps {
            for inner in &exchange.trace.steps {
                write_step(&mut out, meanings, inner, 3, style);
            }
        }
    }
    for note in &conversation.notes {
        out.push_str(&style.wrap("  note: ", note));
    }
    out
}

fn headline(meanings: &Meanings<'_>, conversation: &Conversation) -> String {
    let (length, Some(decisive)) = (conversation.length, conversation.decisive()) else {
        return String::new();
    };
    let name = decisive.name;
    match (conversation.outcome, conversation.broken_at()) {
        (Outcome::Works, _) if length == 1 => "the packet passes".to_owned(),
        (Outcome::Works, _) => format!("all {length} packets pass, both ways"),
        (Outcome::Broken, Some(number)) => {
            let late = conversation.exchanges.iter().any(|exchange| !exchange.trace.certain);
            let late = if late { " at the latest" } else { "" };
            let how = ended(&decisive.trace);
            format!("packet {number} of {length}{late}, the {name}, {how} {}", reason(meanings, &decisive.trace))
        }
        _ => format!("the {name} may pass or not: {}", reason(meanings, &decisive.trace)),
    }
}

fn ended(trace: &Trace) -> &'static str {
    match trace.verdict {
        TraceVerdict::Reject => "is rejected:",
        TraceVerdict::Drop => "is dropped:",
        _ => "does not pass:",
    }
}

fn write_exchange(out: &mut String, meanings: &Meanings<'_>, number: usize, exchange: &Exchange, style: Style) {
    let trace = &exchange.trace;
    let way = if exchange.reply { "<-" } else { "->" };
    let state = states(exchange.states).join(" or ");
    let verdict = trace.verdict.name();
    let first = format!("  {number} {way} ");
    let line = format!("{}, {state}: {verdict}: {}", exchange.name, reason(meanings, trace));
    out.push_str(&style.wrap(&first, &line));
    let ruleset = meanings.ruleset();
    for at in [trace.decided_by, trace.carried_out_by].into_iter().flatten() {
        let by = if Some(at) == trace.carried_out_by { "carried out by " } else { "" };
        out.push_str(&style.wrap("         ", &format!("{by}{}", words(ruleset, at))));
    }
    for undecided in &trace.because {
        let at = undecided.rule.map(|at| format!("{}: ", words(ruleset, at))).unwrap_or_default();
        out.push_str(&style.wrap("         because ", &format!("{at}{}", undecided.reason)));
    }
    for note in &trace.notes {
        out.push_str(&style.wrap("         note: ", note));
    }
}
