//! Through chains and rules, with all states of a packet side by side.

use super::assign::assign;
use super::eval::{Eval, Looked, Truth};
use super::fields::{Site, View};
use super::nat::Translated;
use super::record::{Recorder, RuleOutcome, StepKind, readings};
use super::state::{Ct, Decision, Question, Questions, State, Value, Var, merge};
use super::tracking::PickUp;
use super::{Engine, Hidden, TraceOptions, TraceVerdict, Undecided};
use crate::analysis::path::BaseRef;
use crate::packet::{CtState, Hook, Packet};
use crate::ruleset::{
    Chain, ChainKind, Data, Effect, Expr, Field, Match, OpaqueKind, Operator, Policy, Rule, RuleRef, SetRef, Step,
    Verdict,
};

/// Chains nest no deeper in a kernel that took them (nf_tables stops at 16).
const MAX_DEPTH: u32 = 100;
/// Paths followed side by side.
const MAX_STATES: usize = 512;
/// Different verdicts of a verdict map followed when its key is not known.
const MAX_CHOICES: usize = 64;

/// One way the packet can end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct End {
    pub(super) verdict: TraceVerdict,
    pub(super) by: Option<Decision>,
}

/// One walk.
pub(super) struct Walk<'e, 'w> {
    pub(super) engine: &'w Engine<'e>,
    pub(super) packet: &'w Packet,
    pub(super) options: TraceOptions,
    pub(super) questions: Questions,
    pub(super) ends: Vec<End>,
    /// Why the kernel itself ended the packet's way, outside the rules.
    pub(super) stopped: Vec<String>,
    pub(super) because: Vec<Undecided>,
    pub(super) notes: Vec<String>,
    pub(super) recorder: Recorder,
    /// Addresses of the packet that are not known.
    pub(super) hidden: Hidden,
    /// Whether the packet ends at this host, where routing does not tell.
    pub(super) to_host: Option<bool>,
    /// It answers another packet.
    pub(super) answers: bool,
    /// Whether tracking takes it for new.
    pub(super) picked_up: PickUp,
    /// States tracking has given it, and the zones it was looked up in.
    pub(super) states: CtState,
    pub(super) zones: Vec<Option<u16>>,
    pub(super) rules_left: u32,
}

/// States that left a chain.
#[derive(Default)]
struct Passed {
    /// Accepted: the base chain is over for them.
    accepted: Vec<State>,
    /// Came to the end or returned.
    returned: Vec<State>,
}

/// Where a rule stands.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) site: Site,
    pub(super) rule: RuleRef,
}

/// How a rule ended for one state.
enum Ended<'e> {
    /// The next rule follows.
    Next,
    /// With a verdict.
    Verdict(&'e Verdict),
    /// One of these; `None` is the next rule.
    Choice(Vec<Option<&'e Verdict>>, String),
    /// On an open question.
    Open(Var),
    /// Nobody knows.
    Lost(String),
}

impl<'e, 'w> Walk<'e, 'w> {
    pub(super) fn new(engine: &'w Engine<'e>, packet: &'w Packet, options: TraceOptions) -> Self {
        Self {
            engine,
            packet,
            options,
            questions: Questions::default(),
            ends: Vec::new(),
            stopped: Vec::new(),
            because: Vec::new(),
            notes: Vec::new(),
            recorder: Recorder::new(options.record, options.verbose),
            hidden: Hidden::default(),
            to_host: None,
            answers: false,
            picked_up: PickUp::No,
            states: CtState(0),
            zones: Vec::new(),
            rules_left: options.max_rules,
        }
    }

    /// The packet ends here on one path.
    pub(super) fn end(&mut self, verdict: TraceVerdict, by: Option<Decision>) {
        let end = End { verdict, by };
        if !self.ends.contains(&end) {
            self.ends.push(end);
        }
    }

    /// The kernel itself ends the packet's way, whatever the rules say.
    pub(super) fn end_by_kernel(&mut self, verdict: TraceVerdict, why: String) {
        self.end(verdict, None);
        if !self.stopped.contains(&why) {
            self.stopped.push(why);
        }
    }

    /// Nobody knows what happens to the packet: every end is possible.
    pub(super) fn lose(&mut self, rule: Option<RuleRef>, reason: String) {
        for verdict in [TraceVerdict::Accept, TraceVerdict::Drop, TraceVerdict::Reject] {
            self.end(verdict, None);
        }
        self.undecided(rule, reason);
    }

    pub(super) fn undecided(&mut self, rule: Option<RuleRef>, reason: String) {
        let undecided = Undecided { rule, reason };
        if !self.because.contains(&undecided) {
            self.because.push(undecided);
        }
    }

    fn undecided_var(&mut self, var: Var) {
        if let Some(Question { rule, text }) = self.questions.question(var).cloned() {
            self.undecided(rule, text);
        }
    }

    /// Splits `states` by a question about path or host: those for whom `key` is answered yes, and no.
    pub(super) fn ask(&mut self, states: Vec<State>, key: &str, words: &str) -> (Vec<State>, Vec<State>) {
        let question = || Question { rule: None, text: words.to_owned() };
        let var = self.questions.var(key.to_owned(), question);
        let (mut yes, mut no) = (Vec::new(), Vec::new());
        for state in states {
            match state.answer(var) {
                Some(true) => yes.push(state),
                Some(false) => no.push(state),
                None => {
                    self.undecided_var(var);
                    no.push(state.assuming(var, false));
                    yes.push(state.assuming(var, true));
                }
            }
        }
        (yes, no)
    }

    /// Leads `states` through a base chain; gives those it lets pass.
    pub(super) fn base(&mut self, base: BaseRef, hook: Hook, states: Vec<State>) -> Vec<State> {
        let Some(table) = self.engine.ruleset.tables.get(base.table) else { return states };
        let Some(chain) = table.chains.get(base.chain) else { return states };
        let Some(settings) = &chain.base else { return states };
        let site = Site { hook, table: base.table, family: table.family };
        self.recorder.enter(StepKind::Chain(base.policy_ref()), String::new);
        let mut passed = self.chain(site, base.chain, chain, states, 0);
        let main = matches!(hook, Hook::Input | Hook::Forward | Hook::Output) && settings.kind != ChainKind::Nat;
        for state in &mut passed.accepted {
            if let Some(decision) = state.accepted_by.take() {
                state.credit(if main { 3 } else { 1 }, decision);
            }
        }
        if !passed.returned.is_empty() {
            let policy = match settings.policy {
                Policy::Accept => "accept",
                Policy::Drop => "drop",
            };
            self.recorder.add(StepKind::Policy(base.policy_ref()), || policy.to_owned());
            if settings.policy == Policy::Drop {
                self.end(TraceVerdict::Drop, Some(Decision::by(base.policy_ref())));
                passed.returned.clear();
            }
        }
        for state in &mut passed.returned {
            state.credit(if main { 2 } else { 0 }, Decision::by(base.policy_ref()));
        }
        self.recorder.leave();
        let mut states = passed.accepted;
        states.append(&mut passed.returned);
        merge(&mut states);
        states
    }

    fn chain(&mut self, site: Site, index: usize, chain: &'e Chain, states: Vec<State>, depth: u32) -> Passed {
        let mut passed = Passed::default();
        let mut states = states;
        for (number, rule) in chain.rules.iter().enumerate() {
            if states.is_empty() {
                return passed;
            }
            let place = Place { site, rule: RuleRef { table: site.table, chain: index, rule: number } };
            let cost = u32::try_from(states.len()).unwrap_or(u32::MAX);
            match self.rules_left.checked_sub(cost) {
                Some(left) if states.len() <= MAX_STATES => self.rules_left = left,
                left => {
                    let most = match left {
                        Some(_) => format!("{MAX_STATES} side by side"),
                        None => format!("{} rules looked at for one packet", self.options.max_rules),
                    };
                    self.lose(
                        Some(place.rule),
                        format!("too many paths lead here to follow them all: more than {most}"),
                    );
                    return passed;
                }
            }
            if let ([state], false) = (states.as_mut_slice(), self.recorder.on) {
                let view = View { engine: self.engine, packet: self.packet, state, site };
                if view.ends_at_once(rule) {
                    state.clock += 1;
                    continue;
                }
            }
            self.rule(place, rule, &mut states, &mut passed, depth);
            if states.len() > 1 {
                merge(&mut states);
            }
        }
        passed.returned.append(&mut states);
        passed
    }

    /// Applies one rule; `states` become those that go on to the next.
    fn rule(&mut self, place: Place, rule: &'e Rule, states: &mut Vec<State>, passed: &mut Passed, depth: u32) {
        let mut turn = Turn { calls: Vec::new(), next: Vec::new(), passed };
        let mut outcome = RuleOutcome::Failed;
        let before = if self.recorder.on { states.first().cloned() } else { None };
        let mut at = 0;
        let mut forked = false;
        while let Some(state) = states.get_mut(at) {
            let ended = self.steps(place, rule, state);
            if let Ended::Open(var) = ended
                && drops_by_itself(rule, state.resume)
            {
                self.end(TraceVerdict::Drop, Some(Decision::by(place.rule)));
                self.undecided_var(var);
            }
            match ended {
                Ended::Open(var) if harmless_from(rule, state.resume) => {
                    let _ = var;
                    state.resume = 0;
                    state.clock += 1;
                    outcome = RuleOutcome::Possible;
                    at += 1;
                }
                Ended::Open(var) => {
                    forked = true;
                    let no = state.assuming(var, false);
                    state.assumed.push((var, true));
                    self.undecided_var(var);
                    states.push(no);
                }
                Ended::Next => {
                    if state.resume >= rule.steps.len() && outcome == RuleOutcome::Failed {
                        outcome = RuleOutcome::Matched;
                    }
                    state.resume = 0;
                    state.clock += 1;
                    at += 1;
                }
                Ended::Verdict(verdict) => {
                    outcome = RuleOutcome::Matched;
                    let state = left(states.swap_remove(at));
                    self.verdict(place, rule, verdict, state, &mut turn);
                }
                Ended::Choice(choices, reason) => {
                    forked = true;
                    outcome = RuleOutcome::Possible;
                    let state = left(states.swap_remove(at));
                    self.undecided(Some(place.rule), reason);
                    for choice in choices {
                        match choice {
                            Some(verdict) => self.verdict(place, rule, verdict, state.clone(), &mut turn),
                            None => turn.next.push(state.clone()),
                        }
                    }
                }
                Ended::Lost(reason) => {
                    outcome = RuleOutcome::Possible;
                    states.swap_remove(at);
                    self.lose(Some(place.rule), reason);
                }
            }
        }
        let Turn { calls, next, passed } = turn;
        states.extend(next);
        if forked && outcome == RuleOutcome::Matched {
            outcome = RuleOutcome::Possible;
        }
        let shown = outcome != RuleOutcome::Failed || self.recorder.verbose;
        if let Some(before) = before.filter(|_| shown) {
            self.record(place, rule, &before, outcome);
        }
        for call in calls {
            self.call(place, call, states, passed, depth);
        }
        if shown {
            self.recorder.leave();
        }
    }

    fn call(&mut self, place: Place, call: Call, states: &mut Vec<State>, passed: &mut Passed, depth: u32) {
        let engine = self.engine;
        let table = engine.ruleset.tables.get(place.site.table);
        let Some(chain) = table.and_then(|table| table.chains.get(call.chain)) else { return };
        if depth >= MAX_DEPTH {
            let reason = format!("jumps nest deeper than {MAX_DEPTH}, or in a circle");
            self.lose(Some(place.rule), reason);
            return;
        }
        let mut called = call.states;
        merge(&mut called);
        let mut inner = self.chain(place.site, call.chain, chain, called, depth + 1);
        passed.accepted.append(&mut inner.accepted);
        // goto leaves no way back here: its chain's end is this chain's
        if call.goto {
            passed.returned.append(&mut inner.returned);
        } else {
            states.append(&mut inner.returned);
        }
    }

    fn record(&mut self, place: Place, rule: &'e Rule, before: &State, outcome: RuleOutcome) {
        let view = View { engine: self.engine, packet: self.packet, state: before, site: place.site };
        self.recorder.enter(StepKind::Rule(place.rule, outcome), || {
            let mut readings_of = Vec::new();
            for step in &rule.steps {
                if let Step::Match(condition) = step {
                    readings(condition, view, &mut readings_of);
                }
            }
            readings_of.join(", ")
        });
    }

    /// Runs a rule's steps for one state, from where it stopped.
    fn steps(&mut self, place: Place, rule: &'e Rule, state: &mut State) -> Ended<'e> {
        while let Some(step) = rule.steps.get(state.resume) {
            match step {
                Step::Match(condition) => {
                    let mut eval = self.eval(place, state);
                    match eval.truth(condition) {
                        Truth::Yes => {}
                        Truth::No => return Ended::Next,
                        Truth::Open(var) => return Ended::Open(var),
                    }
                }
                Step::Effect(effect) => match self.effect(place, effect, state) {
                    Done::Yes => {}
                    Done::RuleEnds => return Ended::Next,
                    Done::Open(var) => return Ended::Open(var),
                    Done::Lost(reason) => return Ended::Lost(reason),
                },
                Step::Vmap { key, map } => match self.vmap(place, key, map, state) {
                    Ended::Verdict(Verdict::Continue) => {}
                    other => return other,
                },
                Step::Verdict(Verdict::Continue) => {}
                Step::Verdict(Verdict::Nat(nat)) => match self.translate(place, nat, state) {
                    Translated::Done => return Ended::Verdict(&Verdict::Accept),
                    Translated::RuleEnds => return Ended::Next,
                    Translated::Nowhere => return Ended::Verdict(&Verdict::Drop),
                    Translated::Open(var) => return Ended::Open(var),
                },
                Step::Verdict(verdict) => return Ended::Verdict(verdict),
            }
            state.resume += 1;
        }
        Ended::Next
    }

    pub(super) fn eval<'s>(&'s mut self, place: Place, state: &'s State) -> Eval<'e, 's> {
        let view = View { engine: self.engine, packet: self.packet, state, site: place.site };
        Eval { view, rule: place.rule, questions: &mut self.questions, depth: 0 }
    }

    fn vmap(&mut self, place: Place, key: &'e Expr, map: &'e SetRef, state: &State) -> Ended<'e> {
        let engine = self.engine;
        let mut eval = self.eval(place, state);
        let keys = eval.keys(key);
        if keys.missing() {
            return Ended::Next;
        }
        let data = match eval.lookup(map, &keys) {
            Looked::Element(elements, at) => elements.data(at),
            Looked::CatchAll(data) => Some(data),
            // what it was put in with is not followed
            Looked::Grown => return Ended::Lost(super::eval::Reason::Touched.words(super::words::set_name(map))),
            Looked::Nothing => return Ended::Next,
            Looked::Open(reason) => {
                let words = reason.words(super::words::set_name(map));
                let elements = match map {
                    SetRef::Anonymous(elements) => Some(&**elements),
                    SetRef::Named(name) => {
                        let set = engine.set(place.site.table, name).map(|(set, _)| set);
                        set.filter(|set| set.incomplete.is_none()).map(|set| &set.elements)
                    }
                };
                return match elements {
                    Some(elements) if !reason.may_grow() => choices(elements, &keys, words),
                    _ => Ended::Lost(words),
                };
            }
        };
        match data {
            Some(Data::Verdict(verdict)) => Ended::Verdict(verdict),
            _ => Ended::Lost(format!("the verdict map {} holds no verdict", super::words::set_name(map))),
        }
    }

    fn effect(&mut self, place: Place, effect: &'e Effect, state: &mut State) -> Done {
        match effect {
            // what is offloaded shows in later packets
            Effect::Log { .. } | Effect::Count | Effect::Offload(_) => Done::Yes,
            Effect::Harmless(text) => {
                if text.starts_with("tcp option ") || text.starts_with("reset tcp option ") {
                    // what later rules find among the options is not known
                    assign(state, &Field::Other("TCP options".into()), Value::Unknown(0));
                }
                Done::Yes
            }
            Effect::Opaque(text) => Done::Lost(format!("cannot be decided: {text}")),
            Effect::NoTrack => {
                // a packet that belongs to a connection keeps it; one that tracking called invalid has none
                if matches!(state.flow.ct, Ct::Before | Ct::Invalid) {
                    state.flow.ct = Ct::Untracked;
                }
                Done::Yes
            }
            Effect::UpdateSet { set, change, text } => self.change_set(place, set, change.as_deref(), text, state),
            Effect::Set { field, value } => {
                let value = self.eval(place, state).value(value);
                if value == Value::Missing {
                    return Done::RuleEnds;
                }
                match field {
                    Field::Mark => state.set_mark(value.map(|mark| mark & 0xffff_ffff), place.rule),
                    field => assign(state, field, value),
                }
                Done::Yes
            }
        }
    }

    fn verdict(&mut self, place: Place, rule: &Rule, verdict: &'e Verdict, mut state: State, turn: &mut Turn<'_>) {
        let decision = || state.decision(place.rule, wanted_marks(rule));
        match verdict {
            Verdict::Accept | Verdict::Nat(_) => {
                state.accepted_by = Some(decision());
                turn.passed.accepted.push(state);
            }
            Verdict::Drop => self.end(TraceVerdict::Drop, Some(decision())),
            Verdict::Reject(_) => self.end(TraceVerdict::Reject, Some(decision())),
            Verdict::Return => turn.passed.returned.push(state),
            Verdict::Continue => turn.next.push(state),
            Verdict::Jump(name) | Verdict::Goto(name) => {
                let goto = matches!(verdict, Verdict::Goto(_));
                match self.engine.chain(place.site.table, name) {
                    Some(chain) => match turn.calls.iter_mut().find(|call| call.chain == chain && call.goto == goto) {
                        Some(call) => call.states.push(state),
                        None => turn.calls.push(Call { chain, goto, states: vec![state] }),
                    },
                    None => self.lose(Some(place.rule), format!("chain {name} is not in the snapshot")),
                }
            }
            Verdict::Queue { .. } => {
                // the program may accept, drop, change the packet or send it through the hook once more
                self.lose(Some(place.rule), "a program decides (queue)".to_owned());
            }
            Verdict::Opaque(text) => self.lose(Some(place.rule), format!("cannot be decided: {text}")),
        }
    }
}

/// Mark bits a rule needs to be set (`mark & 0x10000 == 0x10000`).
fn wanted_marks(rule: &Rule) -> u32 {
    let wanted = |step: &Step| match step {
        Step::Match(Match::Compare { left, operator: Operator::Eq | Operator::AnyBit, right: Expr::Number(bits) }) => {
            let mark = match left {
                Expr::And(left, _) => **left == Expr::Field(Field::Mark),
                left => *left == Expr::Field(Field::Mark),
            };
            if mark { u32::try_from(*bits).unwrap_or(0) } else { 0 }
        }
        _ => 0,
    };
    rule.steps.iter().map(wanted).fold(0, |all, bits| all | bits)
}

/// What one rule has sent where.
struct Turn<'p> {
    calls: Vec<Call>,
    next: Vec<State>,
    passed: &'p mut Passed,
}

/// States on their way into a chain.
struct Call {
    chain: usize,
    goto: bool,
    states: Vec<State>,
}

/// How an effect went.
pub(super) enum Done {
    Yes,
    RuleEnds,
    Open(Var),
    Lost(String),
}

/// A state that leaves its rule.
fn left(mut state: State) -> State {
    state.resume = 0;
    state.clock += 1;
    state
}

/// Whether the rest of a rule changes nothing, so that it does not matter whether it runs.
fn harmless_from(rule: &Rule, step: usize) -> bool {
    rule.steps.iter().skip(step).all(|step| {
        matches!(
            step,
            Step::Match(_)
                | Step::Effect(Effect::Log { .. } | Effect::Count | Effect::Harmless(_) | Effect::Offload(_))
                | Step::Verdict(Verdict::Continue)
        )
    })
}

/// Whether a condition met from `step` on may drop the packet itself: xt_connlimit does where it cannot count, and it
/// cannot count packets of connections that exist.
fn drops_by_itself(rule: &Rule, step: usize) -> bool {
    rule.steps.iter().skip(step).any(
        |step| matches!(step, Step::Match(Match::Opaque { kind: OpaqueKind::Stateful, text }) if text.contains("connlimit")),
    )
}

/// Every verdict a lookup of partly unknown `keys` can give.
fn choices<'e>(elements: &'e crate::ruleset::Elements, keys: &super::eval::Keys, words: String) -> Ended<'e> {
    let (numbers, length) = keys.numbers();
    let numbers = numbers.get(..length).unwrap_or_default();
    let mut found: Vec<Option<&Verdict>> = vec![None];
    let possible = elements.keys().enumerate().filter(|(_, key)| {
        key.iter().zip(numbers).all(|(interval, number)| number.is_none_or(|number| interval.contains(number)))
    });
    let data = possible.filter_map(|(at, _)| elements.data(at)).chain(elements.catch_all());
    for data in data {
        let Data::Verdict(verdict) = data else { return Ended::Lost(words) };
        if !found.contains(&Some(verdict)) {
            found.push(Some(verdict));
        }
        if found.len() > MAX_CHOICES {
            return Ended::Lost(words);
        }
    }
    Ended::Choice(found, words)
}
