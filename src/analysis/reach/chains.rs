//! Chains summed up: what a chain does to all packets with one header.
//!
//! A chain is cut in two again and again; each part is summed up from the set of all packets, and two parts are put together
//! in one operation for each kind of outcome. So a condition that only looks at destinations meets the others that do before
//! it meets the sets of sources in front of it, and what hundreds of rules let through is joined in a balanced tree. Rules in
//! a row that look at the same address are summed up without any diagram for a single rule ([`super::runs`]).
//!
//! **What is refused** follows from the rest where every packet has one outcome, and is then never built: see
//! [`Summary::refused`]. To tell *why*, [`Walk::enter`] follows just the packets asked about, rule by rule, and notes what
//! decides ([`super::notes`]).

use std::ops::Range;
use std::rc::Rc;

use super::notes::Notes;
use super::runs::{self, Side};
use super::walk::{Flow, Place, Walk, is_harmless};
use crate::packet::Hook;
use crate::ruleset::{Rule, RuleRef};
use crate::space::bdd::{Bdd, Built, Set};
use crate::space::encode::Site;

/// Different headers followed side by side; beyond it anything may happen.
const MAX_FLOWS: usize = 512;
/// Rules walked one after the other.
const LEAF: usize = 4;

/// How packets left a chain.
#[derive(Clone, Debug)]
pub(super) struct Passed {
    /// Accepted: the base chain is over for them.
    pub(super) accepted: Vec<Flow>,
    /// Came to the end or returned.
    pub(super) returned: Vec<Flow>,
    /// Dropped or rejected, as far as [`Walk::settle`] has joined it.
    pub(super) refused: Set,
    /// The same by rule, not joined yet.
    pub(super) parts: Vec<Part>,
    /// Anything may happen to them.
    pub(super) lost: Set,
    /// Whether some packets may have several outcomes.
    pub(super) in_doubt: bool,
}

/// Refused packets before they are built.
#[derive(Clone, Debug)]
pub(super) enum Part {
    /// These.
    Set(Set),
    /// The first without the others.
    Rest(Set, Vec<Set>),
}

impl Passed {
    pub(super) fn nothing() -> Self {
        Self {
            accepted: Vec::new(),
            returned: Vec::new(),
            refused: Set::NONE,
            parts: Vec::new(),
            lost: Set::NONE,
            in_doubt: false,
        }
    }

    /// These packets end here.
    pub(super) fn refuse(&mut self, set: Set) {
        self.parts.push(Part::Set(set));
    }

    /// Takes over what ended in a chain that was called.
    pub(super) fn take(&mut self, mut inner: Self, bdd: &mut Bdd) -> Built<()> {
        self.accepted.append(&mut inner.accepted);
        self.parts.append(&mut inner.parts);
        self.parts.push(Part::Set(inner.refused));
        self.in_doubt |= inner.in_doubt;
        self.lost = bdd.or(self.lost, inner.lost)?;
        Ok(())
    }
}

/// What rules in a row do to all packets with one header.
#[derive(Clone, Debug)]
pub(super) struct Summary {
    pub(super) accepted: Vec<Flow>,
    pub(super) returned: Vec<Flow>,
    /// Go on after the last rule.
    pub(super) next: Vec<Flow>,
    /// What may be refused; `None`: all that nothing else is said of, or nobody asked.
    pub(super) refused: Option<Set>,
    pub(super) lost: Set,
}

impl Summary {
    /// Rules that do nothing.
    pub(super) fn idle(header: usize) -> Self {
        let next = vec![Flow { header, tag: 0, set: Set::ALL }];
        Self { accepted: Vec::new(), returned: Vec::new(), next, refused: None, lost: Set::NONE }
    }

    /// Whether all packets go on as they came, for certain.
    fn is_idle(&self, header: usize) -> bool {
        matches!(*self.next, [Flow { header: same, set: Set::ALL, .. }] if same == header)
            && self.refused.is_none()
            && self.lost.is_empty()
            && self.accepted.is_empty()
            && self.returned.is_empty()
    }

    fn flows(&self) -> impl Iterator<Item = &Flow> {
        self.accepted.iter().chain(&self.returned).chain(&self.next)
    }
}

/// Rules of a chain that are summed up together.
#[derive(Clone, Debug)]
pub(super) enum Block {
    /// One after the other.
    Rules(Range<usize>),
    /// All look at the same address.
    Run(Side, Range<usize>),
}

/// Names a summary: table, chain, hook, header, and whether it says what is refused.
pub(super) type Name = (usize, usize, Hook, usize, bool);

/// Part of a chain being summed up or followed.
#[derive(Clone, Copy)]
struct Scene<'a, 'b> {
    site: Site,
    chain: usize,
    rules: &'a [Rule],
    /// All blocks of the chain.
    blocks: &'b [Block],
    /// The number of the first block, and of the one after the last.
    part: (usize, usize),
    depth: u32,
}

impl Scene<'_, '_> {
    /// Two halves.
    fn halves(self) -> (Self, Self) {
        let (first, end) = self.part;
        let middle = first + (end - first) / 2;
        (Self { part: (first, middle), ..self }, Self { part: (middle, end), ..self })
    }
}

/// A way to lead flows through a part of a chain; gives those that go on after it.
type Lead<'a> = for<'s> fn(&mut Walk<'a>, Scene<'a, 's>, Vec<Flow>, &mut Passed) -> Built<Vec<Flow>>;

impl<'a> Walk<'a> {
    /// Joins what was refused rule by rule: in a balanced tree, because the union gets large long before the last rule.
    pub(super) fn settle(&mut self, passed: &mut Passed) -> Built<()> {
        if self.notes.as_ref().is_some_and(|notes| !notes.joins) {
            passed.parts.clear();
            return Ok(());
        }
        let mut sets = vec![passed.refused];
        for part in std::mem::take(&mut passed.parts) {
            sets.push(match part {
                Part::Set(set) => set,
                Part::Rest(set, others) => self.without(set, &others)?,
            });
        }
        passed.refused = self.encoder.bdd.union(sets)?;
        Ok(())
    }

    fn without(&mut self, mut set: Set, others: &[Set]) -> Built {
        for other in others {
            set = self.encoder.bdd.minus(set, *other)?;
        }
        Ok(set)
    }

    /// Leads flows through a chain, by its summary or, where somebody asks why, step by step.
    pub(super) fn enter(&mut self, site: Site, chain: usize, flows: Vec<Flow>, depth: u32) -> Built<Passed> {
        if let Some(notes) = &self.notes {
            return if notes.questions_only.is_some() {
                self.questioned(site, chain, flows, depth)
            } else {
                self.followed(site, chain, flows, depth)
            };
        }
        let mut passed = Passed::nothing();
        for flow in flows {
            let summary = self.summary(site, chain, flow.header, depth)?;
            let accepted = self.cut(&summary.accepted, flow.set)?;
            let returned = self.cut(&summary.returned, flow.set)?;
            let bdd = &mut self.encoder.bdd;
            let lost = bdd.and(summary.lost, flow.set)?;
            passed.lost = bdd.or(passed.lost, lost)?;
            passed.in_doubt |= summary.refused.is_some();
            match summary.refused {
                _ if !self.refusals => {}
                Some(refused) => passed.refuse(bdd.and(refused, flow.set)?),
                None => {
                    let others = accepted.iter().chain(&returned).map(|flow| flow.set).collect();
                    passed.parts.push(Part::Rest(flow.set, others));
                }
            }
            passed.accepted.extend(accepted);
            passed.returned.extend(returned);
        }
        Ok(passed)
    }

    /// Those of `flows` that are in `set`.
    fn cut(&mut self, flows: &[Flow], set: Set) -> Built<Vec<Flow>> {
        let mut cut = Vec::with_capacity(flows.len());
        for flow in flows {
            let set = self.encoder.bdd.and(flow.set, set)?;
            if !set.is_empty() {
                cut.push(Flow { set, ..*flow });
            }
        }
        Ok(cut)
    }

    /// What a chain does to all packets with this header; nothing goes on after its last rule.
    fn summary(&mut self, site: Site, chain: usize, header: usize, depth: u32) -> Built<Rc<Summary>> {
        let name = (site.table, chain, site.hook, header, self.refusals);
        if let Some(known) = self.summaries.get(&name) {
            return Ok(Rc::clone(known));
        }
        let rules = self.rules(site, chain);
        let blocks = self.blocks(site, chain, rules);
        let scene = Scene { site, chain, rules, blocks: &blocks, part: (0, blocks.len()), depth };
        self.open.insert((site.table, chain));
        let calls = self.calls.take();
        let summary = self.part(scene, header);
        self.calls = calls;
        self.open.remove(&(site.table, chain));
        let mut summary = (*summary?).clone();
        summary.returned.append(&mut summary.next);
        summary.returned = self.merged(std::mem::take(&mut summary.returned))?;
        let summary = Rc::new(summary);
        self.summaries.insert(name, Rc::clone(&summary));
        Ok(summary)
    }

    fn rules(&self, site: Site, chain: usize) -> &'a [Rule] {
        let table = self.encoder.ruleset().tables.get(site.table);
        table.and_then(|table| table.chains.get(chain)).map_or(&[], |chain| &chain.rules)
    }

    fn blocks(&mut self, site: Site, chain: usize, rules: &[Rule]) -> Rc<Vec<Block>> {
        let blocks = self.blocks.entry((site.table, chain)).or_insert_with(|| Rc::new(blocks(rules)));
        Rc::clone(blocks)
    }

    /// Sums up the blocks of a scene.
    fn part(&mut self, scene: Scene<'a, '_>, header: usize) -> Built<Rc<Summary>> {
        let (first, end) = scene.part;
        let name = ((scene.site.table, scene.chain, scene.site.hook, header, self.refusals), first, end);
        if let Some(known) = self.parts.get(&name) {
            return Ok(Rc::clone(known));
        }
        let summary = match scene.blocks.get(first..end).unwrap_or_default() {
            [] => Rc::new(Summary::idle(header)),
            [Block::Rules(rules)] => Rc::new(self.leaf(scene, rules.clone(), header)?),
            [Block::Run(side, rules)] => {
                let some = scene.rules.get(rules.clone()).unwrap_or_default();
                Rc::new(match self.run(scene.site, some, *side, header)? {
                    Some(summary) => summary,
                    None => self.leaf(scene, rules.clone(), header)?,
                })
            }
            _ => {
                let (first, second) = scene.halves();
                let before = self.part(first, header)?;
                if before.next.is_empty() {
                    before
                } else if before.is_idle(header) {
                    self.part(second, header)?
                } else {
                    Rc::new(self.continued(&before, second)?)
                }
            }
        };
        self.parts.insert(name, Rc::clone(&summary));
        Ok(summary)
    }

    /// What follows on `before`.
    fn continued(&mut self, before: &Summary, scene: Scene<'a, '_>) -> Built<Summary> {
        let mut whole = Summary { next: Vec::new(), ..before.clone() };
        if before.next.len() > MAX_FLOWS {
            let mut passed = Passed { lost: before.lost, ..Passed::nothing() };
            passed.refused = if self.refusals { self.refused(before)? } else { Set::NONE };
            self.lose_all(&mut passed, before.next.clone(), None)?;
            whole.lost = passed.lost;
            whole.refused = self.refusals.then_some(passed.refused);
            return Ok(whole);
        }
        let mut parts = Vec::with_capacity(before.next.len());
        for flow in &before.next {
            let after = self.part(scene, flow.header)?;
            whole.accepted.append(&mut self.cut(&after.accepted, flow.set)?);
            whole.returned.append(&mut self.cut(&after.returned, flow.set)?);
            whole.next.append(&mut self.cut(&after.next, flow.set)?);
            let lost = self.encoder.bdd.and(after.lost, flow.set)?;
            whole.lost = self.encoder.bdd.or(whole.lost, lost)?;
            parts.push((flow.set, after));
        }
        whole.accepted = self.merged(whole.accepted)?;
        whole.returned = self.merged(whole.returned)?;
        whole.next = self.merged(whole.next)?;
        let decided = before.refused.is_none() && parts.iter().all(|(_, after)| after.refused.is_none());
        whole.refused = None;
        if self.refusals && !decided {
            let mut refused = self.refused(before)?;
            for (set, after) in parts {
                // what is refused already needs no second reason
                let rest = self.encoder.bdd.minus(set, refused)?;
                if !rest.is_empty() {
                    let more = self.refused(&after)?;
                    let more = self.encoder.bdd.and(rest, more)?;
                    refused = self.encoder.bdd.or(refused, more)?;
                }
            }
            whole.refused = Some(refused);
        }
        Ok(whole)
    }

    /// What a summary may refuse.
    fn refused(&mut self, summary: &Summary) -> Built {
        match summary.refused {
            Some(refused) => Ok(refused),
            None => {
                let others: Vec<Set> = summary.flows().map(|flow| flow.set).collect();
                self.without(Set::ALL, &others)
            }
        }
    }

    /// Rules one after the other, from the set of all packets.
    fn leaf(&mut self, scene: Scene<'a, '_>, range: Range<usize>, header: usize) -> Built<Summary> {
        let mut passed = Passed::nothing();
        let mut flows = vec![Flow { header, tag: 0, set: Set::ALL }];
        for number in range {
            let Some(rule) = scene.rules.get(number).filter(|_| !flows.is_empty()) else { break };
            if flows.len() > MAX_FLOWS {
                self.lose_all(&mut passed, std::mem::take(&mut flows), None)?;
                break;
            }
            let rule_ref = RuleRef { table: scene.site.table, chain: scene.chain, rule: number };
            let place = Place { site: scene.site, rule: rule_ref };
            flows = self.rule(place, rule, flows, &mut passed, scene.depth)?;
        }
        let accepted = self.merged(std::mem::take(&mut passed.accepted))?;
        let returned = self.merged(std::mem::take(&mut passed.returned))?;
        let mut summary = Summary { accepted, returned, next: flows, refused: None, lost: passed.lost };
        if self.refusals && passed.in_doubt {
            self.settle(&mut passed)?;
            summary.refused = Some(passed.refused);
            if self.is_decided(&summary)? {
                summary.refused = None;
            }
        }
        Ok(summary)
    }

    /// There are more ways than can be followed.
    fn lose_all(&mut self, passed: &mut Passed, flows: Vec<Flow>, rule: Option<RuleRef>) -> Built<()> {
        for flow in flows {
            let why = || "too many paths lead here to follow them all".to_owned();
            self.lose(passed, flow.set, rule, why)?;
        }
        Ok(())
    }

    /// Whether every packet has exactly one outcome.
    fn is_decided(&mut self, summary: &Summary) -> Built<bool> {
        if !summary.lost.is_empty() {
            return Ok(false);
        }
        let mut seen = summary.refused.unwrap_or(Set::NONE);
        for flow in summary.flows() {
            if !self.encoder.bdd.and(seen, flow.set)?.is_empty() {
                return Ok(false);
            }
            seen = self.encoder.bdd.or(seen, flow.set)?;
        }
        Ok(seen == Set::ALL)
    }

    /// Leads flows through a chain rule by rule, but for parts that all of them leave as they came.
    fn followed(&mut self, site: Site, chain: usize, flows: Vec<Flow>, depth: u32) -> Built<Passed> {
        self.led((site, chain, depth), flows, Self::follow)
    }

    /// Leads flows through a chain, where only open questions are asked for: parts that leave nothing open by their
    /// summaries, others rule by rule.
    fn questioned(&mut self, site: Site, chain: usize, flows: Vec<Flow>, depth: u32) -> Built<Passed> {
        self.led((site, chain, depth), flows, Self::question)
    }

    /// Leads flows through a chain, with `lead` for its parts.
    fn led(&mut self, (site, chain, depth): (Site, usize, u32), flows: Vec<Flow>, lead: Lead<'a>) -> Built<Passed> {
        let mut passed = Passed::nothing();
        let rules = self.rules(site, chain);
        let blocks = self.blocks(site, chain, rules);
        let scene = Scene { site, chain, rules, blocks: &blocks, part: (0, blocks.len()), depth };
        self.open.insert((site.table, chain));
        let mut flows = lead(self, scene, flows, &mut passed)?;
        self.open.remove(&(site.table, chain));
        passed.returned.append(&mut flows);
        passed.accepted = self.merged(passed.accepted)?;
        passed.returned = self.merged(passed.returned)?;
        self.settle(&mut passed)?;
        Ok(passed)
    }

    /// Leads flows through a part of a chain; gives those that go on after it.
    fn follow(&mut self, scene: Scene<'a, '_>, flows: Vec<Flow>, passed: &mut Passed) -> Built<Vec<Flow>> {
        if self.nothing_happens(scene, &flows)? {
            return Ok(flows);
        }
        let (first, end) = scene.part;
        match scene.blocks.get(first..end).unwrap_or_default() {
            [] => Ok(flows),
            [Block::Rules(range) | Block::Run(_, range)] => {
                let rules = scene.rules.iter().enumerate().take(range.end).skip(range.start);
                self.along((scene.site, scene.chain, scene.depth), rules, flows, passed)
            }
            _ => {
                let (first, second) = scene.halves();
                let between = self.follow(first, flows, passed)?;
                self.follow(second, between, passed)
            }
        }
    }

    /// Whether flows leave a part of a chain as they came, for certain, and with nothing to note.
    fn nothing_happens(&mut self, scene: Scene<'a, '_>, flows: &[Flow]) -> Built<bool> {
        // somebody wants to know which chains they come to
        if self.calls.is_some() {
            return Ok(false);
        }
        for flow in flows {
            // bits of a mark that are taken away and set again have another author
            if self.header(flow.header).mark.known().is_some_and(|mark| mark != 0) {
                return Ok(false);
            }
            let summary = self.decided_part(scene, flow.header)?;
            let go_on = summary.and_then(|summary| match *summary.next {
                [Flow { header, set, .. }] if header == flow.header => Some(set),
                _ => None,
            });
            let Some(go_on) = go_on else { return Ok(false) };
            if !self.encoder.bdd.minus(flow.set, go_on)?.is_empty() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What a part of a chain does to packets with a header; `None` where it leaves something open.
    fn decided_part(&mut self, scene: Scene<'a, '_>, header: usize) -> Built<Option<Rc<Summary>>> {
        // a summary notes nothing
        let notes = self.notes.take();
        let summary = self.part(scene, header);
        self.notes = notes;
        let summary = summary?;
        let decided = summary.refused.is_none() && !summary.flows().any(|flow| self.is_hidden(flow.set));
        Ok(decided.then_some(summary))
    }

    /// Leads flows through a part of a chain; gives those that go on after it.
    fn question(&mut self, scene: Scene<'a, '_>, flows: Vec<Flow>, passed: &mut Passed) -> Built<Vec<Flow>> {
        let mut next = Vec::new();
        for flow in flows {
            if self.asked_enough() {
                break;
            }
            if let Some(summary) = self.decided_part(scene, flow.header)? {
                let tagged = |flows: Vec<Flow>| flows.into_iter().map(|one| Flow { tag: flow.tag, ..one });
                let mut others = Vec::new();
                for (from, to) in [
                    (&summary.accepted, &mut passed.accepted),
                    (&summary.returned, &mut passed.returned),
                    (&summary.next, &mut next),
                ] {
                    let cut = self.cut(from, flow.set)?;
                    others.extend(cut.iter().map(|flow| flow.set));
                    to.extend(tagged(cut));
                }
                passed.parts.push(Part::Rest(flow.set, others));
                continue;
            }
            let (first, end) = scene.part;
            next.append(&mut match scene.blocks.get(first..end).unwrap_or_default() {
                [] => vec![flow],
                [Block::Rules(range) | Block::Run(_, range)] => {
                    let rules = scene.rules.iter().enumerate().take(range.end).skip(range.start);
                    self.along((scene.site, scene.chain, scene.depth), rules, vec![flow], passed)?
                }
                _ => {
                    let (first, second) = scene.halves();
                    let between = self.question(first, vec![flow], passed)?;
                    self.question(second, between, passed)?
                }
            });
        }
        self.merged(next)
    }

    /// Whether nobody wants to know more: then the rest of the walk is empty.
    fn asked_enough(&self) -> bool {
        self.notes.as_ref().is_some_and(Notes::is_full)
    }

    /// Leads flows along rules; gives those that go on after the last.
    fn along(
        &mut self,
        (site, index, depth): (Site, usize, u32),
        rules: impl Iterator<Item = (usize, &'a Rule)>,
        flows: Vec<Flow>,
        passed: &mut Passed,
    ) -> Built<Vec<Flow>> {
        let mut flows = flows;
        for (number, rule) in rules {
            if flows.is_empty() || self.asked_enough() {
                flows.clear();
                break;
            }
            let place = Place { site, rule: RuleRef { table: site.table, chain: index, rule: number } };
            self.rules_left = self.rules_left.saturating_sub(flows.len() as u64);
            if flows.len() > MAX_FLOWS || self.rules_left == 0 {
                self.lose_all(passed, std::mem::take(&mut flows), Some(place.rule))?;
                break;
            }
            flows = self.rule(place, rule, flows, passed, depth)?;
        }
        Ok(flows)
    }
}

/// Cuts a chain into blocks; rules that do nothing are in none, or do no harm in one.
fn blocks(rules: &[Rule]) -> Vec<Block> {
    let mut blocks = Vec::new();
    for (number, rule) in rules.iter().enumerate() {
        if rule.steps.iter().all(is_harmless) {
            continue;
        }
        let side = runs::side(rule);
        let end = number + 1;
        match blocks.last_mut() {
            Some(Block::Run(known, range)) if side == Some(*known) => range.end = end,
            Some(Block::Rules(range)) if side.is_none() && end - range.start <= LEAF => range.end = end,
            _ => blocks.push(match side {
                Some(side) => Block::Run(side, number..end),
                None => Block::Rules(number..end),
            }),
        }
    }
    blocks
}
