//! The steps of a walk, kept for people.

use super::fields::View;
use super::state::Value;
use super::words;
use crate::packet::Hook;
use crate::ruleset::{Match, RuleRef};

/// Steps kept of one trace; a walk through more says so in its last step.
const MAX_STEPS: usize = 5_000;

/// Whether a rule matched.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RuleOutcome {
    /// It did.
    Matched,
    /// It may have.
    Possible,
    /// It did not.
    Failed,
}

/// What a step is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StepKind {
    /// The packet comes to a hook.
    Hook(Hook),
    /// It enters a base chain, named by its policy.
    Chain(RuleRef),
    /// It meets a rule.
    Rule(RuleRef, RuleOutcome),
    /// It reaches the end of a base chain.
    Policy(RuleRef),
    /// Routing decides.
    Routing,
}

/// One step of the walk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TraceStep {
    /// What it is.
    pub kind: StepKind,
    /// Why: the values the rule read, or what routing found. May hold text of the ruleset.
    pub why: String,
    /// What happened inside: chains of a hook, rules of a chain, the rules a jump led to.
    pub inner: Vec<TraceStep>,
}

/// Collects steps as a tree.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    pub(super) on: bool,
    pub(super) verbose: bool,
    levels: Vec<Vec<TraceStep>>,
    kept: usize,
}

impl Recorder {
    pub(super) fn new(on: bool, verbose: bool) -> Self {
        Self { on, verbose, levels: vec![Vec::new()], kept: 0 }
    }

    /// Adds a step; what comes until [`Self::leave`] is inside it.
    pub(super) fn enter(&mut self, kind: StepKind, why: impl FnOnce() -> String) {
        if self.on {
            self.add(kind, why);
            self.levels.push(Vec::new());
        }
    }

    /// Ends the step entered last.
    pub(super) fn leave(&mut self) {
        if !self.on {
            return;
        }
        let inner = self.levels.pop().unwrap_or_default();
        if let Some(step) = self.levels.last_mut().and_then(|level| level.last_mut()) {
            step.inner.extend(inner);
        }
    }

    /// Adds a step without inside.
    pub(super) fn add(&mut self, kind: StepKind, why: impl FnOnce() -> String) {
        if !self.on {
            return;
        }
        self.kept += 1;
        let Some(level) = self.levels.last_mut() else { return };
        // past the limit only the frame of hooks and chains grows, and that is small
        if self.kept > MAX_STEPS && !matches!(kind, StepKind::Hook(_) | StepKind::Chain(_)) {
            return;
        }
        level.push(TraceStep { kind, why: why(), inner: Vec::new() });
    }

    /// All steps.
    pub(super) fn finish(mut self) -> Vec<TraceStep> {
        while self.levels.len() > 1 {
            self.leave();
        }
        self.levels.pop().unwrap_or_default()
    }
}

/// The values `condition` read: `source address 10.0.1.10, destination port 22`.
pub(super) fn readings(condition: &Match, view: View<'_, '_>, into: &mut Vec<String>) {
    words::fields_of(condition, &mut |field| {
        let value = match view.field(field) {
            Value::Known(number) => words::value(field, number, view.packet.dst.is_ipv6()),
            Value::Missing => "none".to_owned(),
            Value::Unknown(_) => "not known".to_owned(),
        };
        let reading = format!("{} {value}", words::field(field));
        if !into.contains(&reading) {
            into.push(reading);
        }
    });
}
