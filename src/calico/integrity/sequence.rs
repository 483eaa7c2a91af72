//! One chain's walk along its hash chain.

use std::collections::{HashSet, VecDeque};

use super::MismatchKind;
use super::budget::{Budget, GRANT};
use super::suspects::{Effort, Pool, Suspects};
use crate::calico::hash::{ChainHash, ShortHash};
use crate::calico::spelling::{MAX_TEXTS, Spelling};
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
        Self { index, rule, hash, status: Status::Pending }
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
    appends: Option<String>,
    pub(super) backend: Backend,
    family: Family,
    /// The listing was filtered, rules may be missing from it.
    fragment: bool,
    live: Vec<Live<'a>>,
    findings: Vec<Finding>,
    /// Proven texts that the pool has not seen yet.
    pub(super) proven: Vec<String>,
    /// Hashes of verified rules.
    verified: HashSet<ShortHash>,
    walk: Walk,
}

/// Where a chain stands, apart from its rules.
pub(super) struct Place<'a> {
    pub(super) table: usize,
    pub(super) chain: usize,
    pub(super) name: &'a str,
    pub(super) appends: Option<String>,
    pub(super) backend: Backend,
    pub(super) family: Family,
    pub(super) fragment: bool,
}

/// Where the hash chain stands: after inserted rules, and for kernel chains after appended ones.
#[derive(Clone, Copy)]
struct State {
    main: ChainHash,
    appends: Option<ChainHash>,
}

/// How far the check has come along the chain.
struct Walk {
    state: State,
    /// Something before was not as Felix wrote it.
    broken: bool,
    /// Positions still to be placed, in listing order.
    pending: VecDeque<usize>,
    /// Those that a later rule overtook; they come first again.
    overtaken: VecDeque<usize>,
    retries: usize,
    /// The efforts made in vain at this place.
    tried: Option<Effort>,
    /// The budget was not enough.
    cut: bool,
}

impl<'a> Sequence<'a> {
    pub(super) fn new(place: Place<'a>, live: Vec<Live<'a>>) -> Self {
        let Place { table, chain, name, appends, backend, family, fragment } = place;
        let hashed = |(position, live): (usize, &Live<'_>)| live.hash.map(|_| position);
        let walk = Walk {
            state: State::before(name, appends.as_deref()),
            broken: false,
            pending: live.iter().enumerate().filter_map(hashed).collect(),
            overtaken: VecDeque::new(),
            retries: RETRIES,
            tried: None,
            cut: false,
        };
        let mut sequence = Self {
            table,
            chain,
            name: name.to_owned(),
            appends,
            backend,
            family,
            fragment,
            live,
            findings: Vec::new(),
            proven: Vec::new(),
            verified: HashSet::new(),
            walk,
        };
        for position in 0..sequence.live.len() {
            if sequence.live.get(position).is_some_and(|live| live.hash.is_none()) {
                sequence.fail(position, MismatchKind::Foreign, None, true);
            }
        }
        sequence
    }

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

    /// Whether some rule has not found its place.
    pub(super) fn is_open(&self) -> bool {
        !self.walk.pending.is_empty()
    }

    /// Whether `effort` can do more for the chain than the ones below it.
    pub(super) fn gains_from(&self, effort: Effort) -> bool {
        self.is_open() && (effort != Effort::Search || self.name.contains("cali-failsafe-"))
    }

    fn start(&self) -> State {
        State::before(&self.name, self.appends.as_deref())
    }

    /// Walks as far as the live texts lead, each rule on its own grant.
    pub(super) fn verify(&mut self, budget: &mut Budget) {
        while let Some(position) = self.walk.pending.front().copied() {
            let Some(live) = self.live.get(position) else { return };
            budget.grant(&live.rule.text);
            let fits = self.fits(self.walk.state, position, GRANT, budget).or_else(|| {
                // a filtered listing may hold the same chain of several tables one after the other
                self.fragment.then(|| self.fits(self.start(), position, GRANT, budget)).flatten()
            });
            if let Some((next, text)) = fits {
                self.walk.state = next;
                self.accept(position, text, false);
            } else if self.is_copy(position) {
                self.fail(position, MismatchKind::Foreign, None, true);
            } else {
                return;
            }
            self.walk.pending.pop_front();
        }
    }

    /// The state after the rule, and its text, if its hash follows from `state`; `most` of its texts are tried.
    fn fits(&self, state: State, position: usize, most: usize, budget: &mut Budget) -> Option<(State, String)> {
        let live = self.live.get(position)?;
        let hash = live.hash?;
        let mut text = |name: &str, before: ChainHash| {
            if !budget.spell(&live.rule.text) {
                return None;
            }
            let spelling = Spelling::of(live.rule, name, self.backend, self.family)?;
            budget.find(&spelling, most, |text| before.after(text).short() == hash)
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
        self.proven.push(text);
        live.status = if after_break { Status::Failed } else { Status::Verified };
        if !after_break {
            self.verified.extend(live.hash);
        } else {
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

    /// Walks on, and looks for the cause wherever the walk stops, as far as the share and `effort` go.
    pub(super) fn explain(&mut self, effort: Effort, pool: &mut Pool, budget: &mut Budget) {
        while self.is_open() {
            let next = [Effort::Near, Effort::Far, Effort::Search]
                .into_iter()
                .filter(|level| *level <= effort && self.walk.tried.is_none_or(|tried| tried < *level))
                .collect::<Vec<Effort>>();
            let goes_on = next.into_iter().any(|level| {
                let goes_on = self.step(level, pool, budget);
                if !goes_on && !budget.was_short() {
                    self.walk.tried = Some(level);
                }
                goes_on
            });
            if !goes_on {
                break;
            }
            self.walk.tried = None;
        }
        self.walk.cut = budget.was_short();
    }

    /// One step of the walk with the means of one level; `false` when it leads nowhere.
    fn step(&mut self, level: Effort, pool: &mut Pool, budget: &mut Budget) -> bool {
        level != Effort::Search && self.place_next(level, budget) || self.name_cause(level, pool, budget)
    }

    /// Places the next rule that fits, is a copy, or begins the chain again.
    fn place_next(&mut self, level: Effort, budget: &mut Budget) -> bool {
        let most = if level == Effort::Near { GRANT } else { MAX_TEXTS };
        let state = self.walk.state;
        let again = self.walk.overtaken.len().min(self.walk.retries).min(WINDOW);
        self.walk.retries -= again;
        if let Some((slot, next, text)) = self.first_fit(&self.walk.overtaken, again, most, budget) {
            if let Some(position) = self.walk.overtaken.remove(slot) {
                self.fail(position, MismatchKind::OutOfOrder, Some(text), true);
            }
            (self.walk.state, self.walk.broken) = (next, true);
            return true;
        }
        if let Some((slot, next, text)) = self.first_fit(&self.walk.pending, WINDOW, most, budget) {
            let skipped = self.walk.pending.drain(..slot);
            self.walk.overtaken.extend(skipped);
            if let Some(position) = self.walk.pending.pop_front() {
                self.accept(position, text, self.walk.broken);
            }
            self.walk.state = next;
            return true;
        }
        let Some(first) = self.walk.pending.front().copied() else { return false };
        if self.is_copy(first) {
            self.walk.pending.pop_front();
            self.fail(first, MismatchKind::Foreign, None, true);
            return true;
        }
        // a filtered listing may hold a chain of the same name again
        let start = self.start();
        if self.fragment && state.main != start.main && self.fits(start, first, most, budget).is_some() {
            self.walk.state = start;
            return true;
        }
        false
    }

    /// The first among `window` of `positions` whose hash follows.
    fn first_fit(
        &self,
        positions: &VecDeque<usize>,
        window: usize,
        most: usize,
        budget: &mut Budget,
    ) -> Option<(usize, State, String)> {
        positions.iter().take(window).enumerate().find_map(|(slot, position)| {
            let (next, text) = self.fits(self.walk.state, *position, most, budget)?;
            Some((slot, next, text))
        })
    }

    /// Finds what Felix wrote where the walk stands: the original of the next rule, or a rule that is gone.
    fn name_cause(&mut self, level: Effort, pool: &mut Pool, budget: &mut Budget) -> bool {
        let state = self.walk.state;
        let Some((position, live)) =
            self.walk.pending.front().and_then(|position| Some((*position, self.live.get(*position)?)))
        else {
            return false;
        };
        let Some(hash) = live.hash else { return false };
        let (index, rule) = (live.index, live.rule);
        let appended = self.appends.as_deref().zip(state.appends).map(|(name, before)| (name, before, true));
        let found = [Some((self.name.as_str(), state.main, false)), appended].into_iter().flatten().find_map(
            |(name, before, appended)| {
                let suspects = Suspects::new(name, self.backend, self.family, rule, pool, budget)?;
                let (kind, text) = suspects.cause(level, before, hash, budget)?;
                Some((before.after(&text), appended, kind, text))
            },
        );
        let Some((after, appended, kind, text)) = found else { return false };
        self.proven.push(text.clone());
        if kind == MismatchKind::Edited {
            self.walk.pending.pop_front();
            self.fail(position, kind, Some(text), true);
        } else {
            let (rule, hash) = (index, Some(hash));
            self.findings.push(Finding { rule, kind, hash, expected: Some(text), proven: true, intact: true });
        }
        self.walk.broken = true;
        self.walk.state =
            if appended { State { appends: Some(after), ..state } } else { State { main: after, ..state } };
        true
    }

    /// Ends the walk: what found no place is reported.
    pub(super) fn close(&mut self) {
        // overtaken by later rules, and fits nowhere behind them
        let kind = if self.walk.cut { MismatchKind::Edited } else { MismatchKind::Foreign };
        for position in std::mem::take(&mut self.walk.overtaken) {
            self.fail(position, kind, None, false);
        }
        self.give_up();
    }

    /// No cause was found: the first rule that does not fit was edited, or one before it is gone; the others follow it.
    /// Nothing is said about a filtered listing, nor about a rule whose words are not all known to be Felix's: its original
    /// may be one this program cannot spell. Where the budget ended the search, even such a rule is reported.
    fn give_up(&mut self) {
        let pending = std::mem::take(&mut self.walk.pending);
        let understood = |live: &Live<'_>| {
            Spelling::of(live.rule, &self.name, self.backend, self.family).is_some_and(|spelling| spelling.understood)
        };
        let first = pending.front().and_then(|position| self.live.get(*position));
        let silent = self.fragment || (!self.walk.cut && !first.is_some_and(understood));
        let mut kind = if self.walk.broken { MismatchKind::Follows } else { MismatchKind::Edited };
        for position in pending {
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
        !self.fragment && hash.is_some_and(|hash| self.verified.contains(&hash))
    }
}

impl State {
    fn before(name: &str, appends: Option<&str>) -> Self {
        Self { main: ChainHash::of_chain(name), appends: appends.map(ChainHash::of_chain) }
    }
}
