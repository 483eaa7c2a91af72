//! One chain's walk along its hash chain.

use super::MismatchKind;
use super::suspects::{Pool, Suspects};
use crate::calico::hash::{ChainHash, ShortHash};
use crate::calico::spelling::Spelling;
use crate::packet::Family;
use crate::ruleset::{Backend, Rule};

/// How far ahead a rule is looked for that was moved.
const WINDOW: usize = 16;

/// How often rules that others overtook are tried again, in one chain.
const RETRIES: usize = 2048;

/// A live rule on its way through the check.
pub(super) struct Live<'a> {
    /// Index in the chain.
    pub(super) index: usize,
    pub(super) rule: &'a Rule,
    pub(super) hash: Option<ShortHash>,
    /// The text that was proven.
    pub(super) proven: Option<String>,
    status: Status,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Status {
    Pending,
    Verified,
    Failed,
    NotProvable,
}

impl<'a> Live<'a> {
    pub(super) fn new(index: usize, rule: &'a Rule, hash: Option<ShortHash>) -> Self {
        Self { index, rule, hash, proven: None, status: Status::Pending }
    }
}

/// Something that does not fit.
#[derive(Clone)]
pub(super) struct Finding {
    /// Index of the rule in the chain.
    pub(super) rule: usize,
    pub(super) kind: MismatchKind,
    pub(super) hash: Option<ShortHash>,
    pub(super) expected: Option<String>,
    pub(super) proven: bool,
    pub(super) intact: bool,
}

/// The rules of one chain that carry its hash chain.
pub(super) struct Sequence<'a> {
    pub(super) table: usize,
    pub(super) chain: usize,
    pub(super) name: String,
    /// Kernel chains: the name under which appended rules are hashed.
    pub(super) appends: Option<String>,
    pub(super) backend: Backend,
    pub(super) family: Family,
    /// The listing was filtered, rules may be missing from it.
    pub(super) fragment: bool,
    pub(super) live: Vec<Live<'a>>,
    pub(super) findings: Vec<Finding>,
}

/// Where the walk stands: after inserted rules, and for kernel chains after appended ones.
#[derive(Clone, Copy)]
struct State {
    main: ChainHash,
    appends: Option<ChainHash>,
}

impl Sequence<'_> {
    pub(super) fn rules(&self) -> usize {
        self.live.len()
    }

    pub(super) fn verified(&self) -> usize {
        self.live.iter().filter(|live| live.status == Status::Verified).count()
    }

    pub(super) fn not_provable(&self) -> usize {
        self.live.iter().filter(|live| live.status == Status::NotProvable).count()
    }

    pub(super) fn first_break(&self) -> Option<usize> {
        self.findings.iter().map(|finding| finding.rule + 1).min()
    }

    /// What does not fit, in listing order.
    pub(super) fn findings(&self) -> impl Iterator<Item = Finding> {
        let mut findings = self.findings.clone();
        findings.sort_by_key(|finding| finding.rule);
        findings.into_iter()
    }

    pub(super) fn is_broken(&self) -> bool {
        self.live.iter().any(|live| live.status != Status::Verified)
    }

    fn start(&self) -> State {
        State { main: ChainHash::of_chain(&self.name), appends: self.appends.as_deref().map(ChainHash::of_chain) }
    }

    /// Walks as far as the live texts lead.
    pub(super) fn verify(&mut self) {
        let mut state = self.start();
        for position in 0..self.live.len() {
            let fits = self.fits(state, position).or_else(|| {
                // a filtered listing may hold the same chain of several tables one after the other
                self.fragment.then(|| self.fits(self.start(), position)).flatten()
            });
            let Some((next, text)) = fits else { return };
            state = next;
            self.accept(position, text, false);
        }
    }

    /// The state after the rule, and its text, if its hash follows from `state`.
    fn fits(&self, state: State, position: usize) -> Option<(State, String)> {
        let live = self.live.get(position)?;
        let hash = live.hash?;
        let text = |name: &str, before: ChainHash| {
            let spelling = Spelling::of(live.rule, name, self.backend, self.family)?;
            spelling.find(|text| before.after(text).short() == hash)
        };
        if let Some(text) = text(&self.name, state.main) {
            return Some((State { main: state.main.after(&text), ..state }, text));
        }
        let (name, before) = (self.appends.as_deref()?, state.appends?);
        let text = text(name, before)?;
        Some((State { appends: Some(before.after(&text)), ..state }, text))
    }

    fn accept(&mut self, position: usize, text: String, after_break: bool) {
        let Some(live) = self.live.get_mut(position) else { return };
        live.proven = Some(text);
        live.status = if after_break { Status::Failed } else { Status::Verified };
        if after_break {
            let (rule, hash) = (live.index, live.hash);
            let kind = MismatchKind::Follows;
            self.findings.push(Finding { rule, kind, hash, expected: None, proven: true, intact: true });
        }
    }

    fn fail(&mut self, position: usize, kind: MismatchKind, expected: Option<String>, proven: bool) {
        let Some(live) = self.live.get_mut(position) else { return };
        live.status = Status::Failed;
        let (rule, hash) = (live.index, live.hash);
        self.findings.push(Finding { rule, kind, hash, expected, proven, intact: false });
    }

    /// Walks again, and looks for the cause wherever the walk stops.
    pub(super) fn explain(&mut self, pool: &mut Pool) {
        self.findings.clear();
        let mut state = self.start();
        let mut broken = false;
        // positions still to be placed, in listing order; those a later rule overtook come first again
        let mut pending: Vec<usize> = Vec::new();
        let mut overtaken: Vec<usize> = Vec::new();
        for position in 0..self.live.len() {
            let hashed = self.live.get(position).is_some_and(|live| live.hash.is_some());
            if hashed { pending.push(position) } else { self.fail(position, MismatchKind::Foreign, None, true) }
        }
        let mut retries = RETRIES;
        while !pending.is_empty() {
            let again = overtaken.get(..overtaken.len().min(retries)).unwrap_or_default();
            retries -= again.len();
            if let Some((slot, next, text)) = self.first_fit(state, again) {
                let position = overtaken.remove(slot);
                self.fail(position, MismatchKind::OutOfOrder, Some(text), true);
                (state, broken) = (next, true);
            } else if let Some((slot, next, text)) = self.first_fit(state, &pending) {
                overtaken.extend(pending.drain(..slot));
                let position = pending.remove(0);
                self.accept(position, text, broken);
                state = next;
            } else if pending.first().is_some_and(|position| self.is_copy(*position)) {
                let position = pending.remove(0);
                self.fail(position, MismatchKind::Foreign, None, true);
            } else if let Some(next) = self.restart(&pending) {
                state = next;
            } else if let Some(next) = self.name_cause(state, &mut pending, pool) {
                (state, broken) = (next, true);
            } else {
                break;
            }
        }
        self.place_overtaken(state, overtaken);
        self.give_up(&pending, broken);
    }

    /// The first of `positions` whose hash follows from `state`.
    fn first_fit(&self, state: State, positions: &[usize]) -> Option<(usize, State, String)> {
        positions.iter().take(WINDOW).enumerate().find_map(|(slot, position)| {
            let (next, text) = self.fits(state, *position)?;
            Some((slot, next, text))
        })
    }

    /// A filtered listing may hold a chain of the same name again.
    fn restart(&self, pending: &[usize]) -> Option<State> {
        let first = pending.first().filter(|_| self.fragment)?;
        self.fits(self.start(), *first).map(|_| self.start())
    }

    /// Finds what Felix wrote where the walk stands: the original of the next rule, or a rule that is gone.
    fn name_cause(&mut self, state: State, pending: &mut Vec<usize>, pool: &mut Pool) -> Option<State> {
        let position = *pending.first()?;
        let live = self.live.get(position)?;
        let hash = live.hash?;
        let names = [
            Some((self.name.as_str(), state.main, false)),
            self.appends.as_deref().zip(state.appends).map(|(n, s)| (n, s, true)),
        ];
        let mut found = None;
        for (name, before, appended) in names.into_iter().flatten() {
            let suspects = Suspects::new(name, self.backend, self.family, live.rule, pool);
            if let Some((kind, text)) = suspects.cause(before, hash, pool) {
                found = Some((before.after(&text), appended, kind, text));
            }
            if found.is_some() {
                break;
            }
        }
        let (after, appended, kind, text) = found?;
        if kind == MismatchKind::Edited {
            pending.remove(0);
            self.fail(position, kind, Some(text), true);
        } else {
            let (rule, hash) = self.live.get(position).map(|live| (live.index, live.hash))?;
            self.findings.push(Finding { rule, kind, hash, expected: Some(text), proven: true, intact: true });
        }
        Some(if appended { State { appends: Some(after), ..state } } else { State { main: after, ..state } })
    }

    /// Rules that later ones overtook and that never fitted: placed at the end, or not Felix's.
    fn place_overtaken(&mut self, mut state: State, mut overtaken: Vec<usize>) {
        while let Some((slot, next, text)) = self.first_fit(state, &overtaken) {
            let position = overtaken.remove(slot);
            self.fail(position, MismatchKind::OutOfOrder, Some(text), true);
            state = next;
        }
        for position in overtaken {
            self.fail(position, MismatchKind::Foreign, None, false);
        }
    }

    /// No cause was found: the first rule that does not fit was edited, or one before it is gone; the others follow it.
    /// Nothing is said about a filtered listing, nor about a rule whose words are not all known to be Felix's: its original
    /// may be one this program cannot spell.
    fn give_up(&mut self, pending: &[usize], broken: bool) {
        let understood = |live: &Live<'_>| {
            Spelling::of(live.rule, &self.name, self.backend, self.family).is_some_and(|spelling| spelling.understood)
        };
        let first = pending.first().and_then(|position| self.live.get(*position));
        let silent = self.fragment || !first.is_some_and(understood);
        let mut kind = if broken { MismatchKind::Follows } else { MismatchKind::Edited };
        for position in pending.iter().copied() {
            if !silent {
                self.fail(position, kind, None, false);
                kind = MismatchKind::Follows;
            } else if let Some(live) = self.live.get_mut(position) {
                live.status = Status::NotProvable;
            }
        }
    }

    /// Whether the rule carries the hash of a rule that was already proven.
    fn is_copy(&self, position: usize) -> bool {
        let hash = self.live.get(position).and_then(|live| live.hash);
        !self.fragment
            && self
                .live
                .iter()
                .enumerate()
                .any(|(other, live)| other != position && live.status == Status::Verified && live.hash == hash)
    }
}
