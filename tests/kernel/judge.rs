//! The library's side: the listings read back, and one packet's verdict with its reasons.

use std::fmt::Write as _;

use hepguard::analysis::conversation::{Conversation, Exchange, Ways, converse};
use hepguard::analysis::trace::{Engine, StepKind, Trace, TraceOptions, TraceStep, TraceVerdict, Undecided};
use hepguard::diagnostic::Level;
use hepguard::files::SnapshotFiles;
use hepguard::packet::Packet;
use hepguard::ruleset::{RuleRef, Ruleset, Step, Verdict};
use hepguard::snapshot::{self, Snapshot};

use crate::lab::Outcome;

/// What the library says of one packet.
pub(crate) struct Judgement {
    /// It may get through.
    pub(crate) may_pass: bool,
    /// It may be stopped.
    pub(crate) may_stop: bool,
    /// Its sender may be told.
    pub(crate) may_reject: bool,
    /// What could not be decided.
    pub(crate) because: Vec<Undecided>,
}

impl Judgement {
    /// Whether this may have become of the packet.
    pub(crate) fn allows(&self, outcome: Outcome) -> bool {
        match outcome {
            _ if outcome.passed() => self.may_pass,
            Outcome::Stopped(Some(_)) => self.may_reject,
            _ => self.may_stop,
        }
    }

    /// Both ends are possible.
    pub(crate) fn unknown(&self) -> bool {
        self.may_pass && self.may_stop
    }
}

/// The listings, read.
pub(crate) struct Listings {
    snapshot: Snapshot,
}

impl Listings {
    pub(crate) fn read(files: SnapshotFiles) -> Self {
        Self { snapshot: snapshot::read(files) }
    }

    /// Makes the library ready to judge packets.
    pub(crate) fn judge(&self) -> Judge<'_> {
        Judge { engine: Engine::new(&self.snapshot.ruleset, &self.snapshot.host) }
    }

    /// Ruleset and host as they were read.
    pub(crate) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// What the readers had to say, apart from notes.
    pub(crate) fn remarks(&self) -> String {
        let told = self.snapshot.diagnostics.iter().filter(|remark| remark.level > Level::Note);
        told.map(|remark| format!("{remark}\n")).collect()
    }
}

/// The library, ready to judge.
pub(crate) struct Judge<'a> {
    engine: Engine<'a>,
}

impl Judge<'_> {
    /// May the packet pass, may it be stopped?
    pub(crate) fn judge(&self, packet: &Packet) -> Judgement {
        let Trace { may, verdict, certain, because, .. } = self.engine.trace(packet, &TraceOptions::default());
        assert_eq!(certain, verdict != TraceVerdict::Unknown, "certain and unknown at once: {packet:?}");
        let may_pass = may.contains(&TraceVerdict::Accept);
        let may_stop = may.iter().any(|verdict| *verdict != TraceVerdict::Accept);
        Judgement { may_pass, may_stop, may_reject: may.contains(&TraceVerdict::Reject), because }
    }

    /// The conversation a packet opens.
    pub(crate) fn converse(&self, first: &Packet) -> Conversation {
        converse(&self.engine, first, &Ways::default(), &TraceOptions::default())
    }

    /// The walks of a conversation's packets, for a person.
    pub(crate) fn explain_conversation(&self, first: &Packet) -> String {
        let options = TraceOptions { record: true, ..TraceOptions::default() };
        let conversation = converse(&self.engine, first, &Ways::default(), &options);
        let mut text = format!("library: {:?} at {:?}\n", conversation.outcome, conversation.broken_at());
        for exchange in &conversation.exchanges {
            let Exchange { name, packet, hidden, states, trace, .. } = exchange;
            let _ =
                writeln!(text, "{name} ({states}): {:?}, may {:?}\n{packet:?} {hidden:?}", trace.verdict, trace.may);
            for undecided in &trace.because {
                let place = undecided.rule.map(|rule| self.place(rule)).unwrap_or_default();
                let _ = writeln!(text, "undecided: {place}: {}", undecided.reason);
            }
            self.write_steps(&mut text, &trace.steps, 1);
        }
        text
    }

    /// The verdict alone.
    pub(crate) fn verdict(&self, packet: &Packet) -> TraceVerdict {
        self.engine.trace(packet, &TraceOptions::default()).verdict
    }

    /// How the deciding rule refuses, in the model's words.
    pub(crate) fn refusal(&self, packet: &Packet) -> Option<&str> {
        let decided = self.engine.trace(packet, &TraceOptions::default()).decided_by?;
        self.engine.ruleset().rule(decided)?.steps.iter().find_map(|step| match step {
            Step::Verdict(Verdict::Reject(how)) => Some(&**how),
            _ => None,
        })
    }

    /// The whole walk, for a person.
    pub(crate) fn explain(&self, packet: &Packet) -> String {
        let trace = self.engine.trace(packet, &TraceOptions { record: true, ..TraceOptions::default() });
        let mut text = format!("library: {:?}, may {:?}\n", trace.verdict, trace.may);
        for undecided in &trace.because {
            let _ = writeln!(
                text,
                "undecided: {}: {}",
                undecided.rule.map(|rule| self.place(rule)).unwrap_or_default(),
                undecided.reason
            );
        }
        for note in &trace.notes {
            let _ = writeln!(text, "note: {note}");
        }
        self.write_steps(&mut text, &trace.steps, 1);
        text
    }

    fn write_steps(&self, text: &mut String, steps: &[TraceStep], depth: usize) {
        for step in steps {
            let what = match &step.kind {
                StepKind::Hook(hook) => format!("hook {hook}"),
                StepKind::Chain(place) => format!("chain {}", self.chain(*place)),
                StepKind::Rule(place, outcome) => format!("{outcome:?} {}", self.place(*place)),
                StepKind::Policy(place) => format!("policy of {}", self.chain(*place)),
                StepKind::Routing => "routing".to_owned(),
            };
            let _ = writeln!(text, "{:1$}{what}  [{2}]", "", depth * 2, step.why);
            self.write_steps(text, &step.inner, depth + 1);
        }
    }

    fn ruleset(&self) -> &Ruleset {
        self.engine.ruleset()
    }

    fn chain(&self, place: RuleRef) -> String {
        let table = self.ruleset().tables.get(place.table);
        let chain = table.and_then(|table| table.chains.get(place.chain));
        match (table, chain) {
            (Some(table), Some(chain)) => {
                format!("{} {} {} {}", table.backend.name(), table.family, table.name, chain.name)
            }
            _ => format!("{place:?}"),
        }
    }

    fn place(&self, place: RuleRef) -> String {
        match self.ruleset().rule(place) {
            Some(rule) => format!("{}", rule.text),
            None => self.chain(place),
        }
    }
}
