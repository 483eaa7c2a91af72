//! Through chains and rules, with all packets at once.
//!
//! A [`Flow`] is a set of packets and the header rules see of them. Each rule sends parts of it on: to the next rule, into a
//! chain, out with a verdict. Where a condition cannot be decided both parts get the packets in doubt, so the parts say what
//! *may* happen; what happens for certain is what may and nothing else may.
//!
//! A chain is summed up once for each header that reaches it, from the set of all packets ([`super::chains`]); a call cuts
//! the summary to its packets. To tell *why*, the same walk follows just the packets asked about and notes what decides
//! ([`Notes`]).

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::chains::{Block, Name, Passed, Summary};
use super::facts::HostFacts;
use super::notes::{self, Decision, Notes, Tag};
use super::reasons;
use super::sources::{Asked, Rulings};
use crate::analysis::path::BaseRef;
use crate::packet::Hook;
use crate::ruleset::{
    Backend, ChainKind, Data, Effect, Expr, Field, Match, OpaqueKind, Policy, Rule, RuleRef, SetChange, SetRef, Step,
    Verdict,
};
use crate::space::bdd::{Built, Set};
use crate::space::encode::{Encoder, Site, Truth};
use crate::space::header::{Binding, Header, Tracking};

/// Chains nest no deeper in a kernel that took them (nf_tables stops at 16).
const MAX_DEPTH: u32 = 100;
/// Different values of an assignment followed each on its own.
const MAX_VALUES: usize = 16;
/// Rules followed to explain one ruleset's answers: chains that call each other in many ways are summed up once for the
/// answer, and would be followed way by way for the reasons.
const MAX_RULES: u64 = 500_000;
/// A packet adds no more elements than this to one set.
const ADDED: u64 = 64;

/// Packets with one header on their way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Flow {
    /// Number of the header.
    pub(super) header: usize,
    /// Number of the tag: what is remembered for the explanation; 0 where nobody asked.
    pub(super) tag: usize,
    /// The packets.
    pub(super) set: Set,
}

/// Where a rule stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) site: Site,
    pub(super) rule: RuleRef,
}

/// One ruleset being walked.
pub(super) struct Walk<'a> {
    pub(super) encoder: Encoder<'a>,
    pub(super) facts: &'a HostFacts<'a>,
    /// By table: chain name to index.
    chains: Vec<HashMap<&'a str, usize>>,
    headers: Vec<Header>,
    header_numbers: HashMap<Header, usize>,
    pub(super) summaries: HashMap<Name, Rc<Summary>>,
    /// By the name of the chain's summary and the numbers of the first block and the one after the last.
    pub(super) parts: HashMap<(Name, usize, usize), Rc<Summary>>,
    /// By table and chain.
    pub(super) blocks: HashMap<(usize, usize), Rc<Vec<Block>>>,
    /// Whether somebody asks what is refused.
    pub(super) refusals: bool,
    /// What the kernel says of sources.
    pub(super) sources: HashMap<Asked, Rc<Rulings>>,
    /// Chains being walked: a jump to one of them goes in a circle.
    pub(super) open: HashSet<(usize, usize)>,
    /// What decides, where somebody asked.
    pub(super) notes: Option<Notes>,
    /// Which flows rules send into which chains, where somebody asked.
    pub(super) calls: Option<Vec<(usize, Flow)>>,
    /// Rules still to be followed.
    pub(super) rules_left: u64,
}

impl<'a> Walk<'a> {
    pub(super) fn new(encoder: Encoder<'a>, facts: &'a HostFacts<'a>) -> Self {
        let names = |table: &'a crate::ruleset::Table| {
            table.chains.iter().enumerate().rev().map(|(index, chain)| (&*chain.name, index)).collect()
        };
        let chains = encoder.ruleset().tables.iter().map(names).collect();
        Self {
            encoder,
            facts,
            chains,
            headers: Vec::new(),
            header_numbers: HashMap::new(),
            summaries: HashMap::new(),
            parts: HashMap::new(),
            blocks: HashMap::new(),
            refusals: true,
            sources: HashMap::new(),
            open: HashSet::new(),
            notes: None,
            calls: None,
            rules_left: MAX_RULES,
        }
    }

    /// The number of a header.
    pub(super) fn number(&mut self, header: Header) -> usize {
        if let Some(known) = self.header_numbers.get(&header) {
            return *known;
        }
        self.headers.push(header.clone());
        self.header_numbers.insert(header, self.headers.len() - 1);
        self.headers.len() - 1
    }

    /// A copy of a flow's header, to change it.
    pub(super) fn header(&self, number: usize) -> Header {
        self.headers.get(number).cloned().unwrap_or_else(Header::open)
    }

    /// Gives every flow another header.
    pub(super) fn rewrite(&mut self, flows: Vec<Flow>, mut change: impl FnMut(&mut Header)) -> Vec<Flow> {
        let mut changed = Vec::with_capacity(flows.len());
        for flow in flows {
            let mut header = self.header(flow.header);
            change(&mut header);
            changed.push(Flow { header: self.number(header), ..flow });
        }
        changed
    }

    /// Puts flows with equal headers together.
    pub(super) fn merged(&mut self, flows: Vec<Flow>) -> Built<Vec<Flow>> {
        let mut merged: Vec<Flow> = Vec::with_capacity(flows.len());
        for flow in flows.into_iter().filter(|flow| !flow.set.is_empty()) {
            match merged.iter_mut().find(|other| (other.header, other.tag) == (flow.header, flow.tag)) {
                Some(other) => other.set = self.encoder.bdd.or(other.set, flow.set)?,
                None => merged.push(flow),
            }
        }
        Ok(merged)
    }

    /// Leads flows through a base chain; `passed.accepted` are those it lets pass.
    pub(super) fn base(&mut self, base: BaseRef, hook: Hook, flows: Vec<Flow>) -> Built<Passed> {
        let ruleset = self.encoder.ruleset();
        let table = ruleset.tables.get(base.table);
        let chain = table.and_then(|table| table.chains.get(base.chain));
        let Some((table, settings)) = table.zip(chain.and_then(|chain| chain.base.as_ref())) else {
            return Ok(Passed { accepted: flows, ..Passed::nothing() });
        };
        let site = Site { hook, table: base.table, family: table.family };
        let mut passed = self.enter(site, base.chain, flows, 0)?;
        let main = matches!(hook, Hook::Input | Hook::Forward | Hook::Output) && settings.kind != ChainKind::Nat;
        let returned = std::mem::take(&mut passed.returned);
        if let Some(notes) = &mut self.notes {
            for flow in &mut passed.accepted {
                flow.tag = notes.credited(flow.tag, if main { 3 } else { 1 }, None);
            }
        }
        for mut flow in returned {
            let policy = Decision::by(base.policy_ref());
            if settings.policy == Policy::Drop {
                self.refuse(&mut passed, flow, policy);
                continue;
            }
            if let Some(notes) = &mut self.notes {
                flow.tag = notes.credited(flow.tag, if main { 2 } else { 0 }, Some(policy));
            }
            passed.accepted.push(flow);
        }
        passed.accepted = self.merged(passed.accepted)?;
        self.settle(&mut passed)?;
        Ok(passed)
    }

    /// Packets end here.
    pub(super) fn refuse(&mut self, passed: &mut Passed, flow: Flow, by: Decision) {
        if self.refusals {
            passed.refuse(flow.set);
        }
        if let Some(notes) = &mut self.notes {
            notes.refused(by, flow.set);
        }
    }

    /// Applies one rule; gives the flows that go on to the next.
    pub(super) fn rule(
        &mut self,
        place: Place,
        rule: &'a Rule,
        flows: Vec<Flow>,
        passed: &mut Passed,
        depth: u32,
    ) -> Built<Vec<Flow>> {
        if rule.steps.iter().all(is_harmless) {
            return Ok(flows);
        }
        let mut turn = Turn { place, depth, next: Vec::with_capacity(flows.len()), passed };
        let several = flows.len() > 1;
        for flow in flows {
            if self.is_out(rule, place.site, flow.header)? {
                turn.next.push(flow);
            } else {
                self.steps(rule, 0, flow, &mut turn)?;
            }
        }
        let next = turn.next;
        if several || next.len() > 1 { self.merged(next) } else { Ok(next) }
    }

    /// Runs a rule's steps from number `from` on for one flow.
    fn steps(&mut self, rule: &'a Rule, from: usize, mut flow: Flow, turn: &mut Turn<'_>) -> Built<()> {
        let mut header = self.header(flow.header);
        for (at, step) in rule.steps.iter().enumerate().skip(from) {
            match step {
                Step::Match(condition) => {
                    let truth = self.encoder.truth(condition, turn.place.site, &header)?;
                    self.note_doubt(turn.place, truth, flow.set, || reasons::of(condition))?;
                    let Some(matched) = self.split(&flow, truth, turn)? else { return Ok(()) };
                    flow.set = matched;
                }
                Step::Effect(Effect::Set { field, value }) => {
                    let changed = self.assign(field, value, flow, &header, turn)?;
                    if let [one] = *changed {
                        header = self.header(one.header);
                        flow = one;
                        continue;
                    }
                    for flow in changed {
                        self.steps(rule, at + 1, flow, turn)?;
                    }
                    return Ok(());
                }
                Step::Effect(effect) => {
                    let Some(changed) = self.effect(effect, flow, &header, turn)? else { return Ok(()) };
                    if changed.header != flow.header {
                        header = self.header(changed.header);
                    }
                    flow = changed;
                }
                Step::Vmap { key, map } => match self.vmap(key, map, flow, &header, turn)? {
                    Some(rest) => flow = rest,
                    None => return Ok(()),
                },
                Step::Verdict(Verdict::Continue) => {}
                Step::Verdict(verdict) => {
                    let wanted = if self.notes.is_some() { notes::wanted_marks(rule) } else { 0 };
                    return self.verdict(wanted, verdict, flow, turn);
                }
            }
        }
        turn.next.push(flow);
        Ok(())
    }

    /// Sends those for whom `truth` does not hold to the next rule; gives the others, if there can be one.
    fn split(&mut self, flow: &Flow, truth: Truth, turn: &mut Turn<'_>) -> Built<Option<Set>> {
        turn.passed.in_doubt |= !truth.is_exact();
        let bdd = &mut self.encoder.bdd;
        let others = bdd.minus(flow.set, truth.certain)?;
        if !others.is_empty() {
            turn.next.push(Flow { set: others, ..*flow });
        }
        let matched = bdd.and(flow.set, truth.possible)?;
        Ok((!matched.is_empty()).then_some(matched))
    }

    /// Remembers for whom a condition could not be decided, where somebody asked.
    pub(super) fn note_doubt(
        &mut self,
        place: Place,
        truth: Truth,
        set: Set,
        words: impl FnOnce() -> String,
    ) -> Built<()> {
        let Some(hidden) = self.notes.as_ref().map(|notes| notes.hidden) else { return Ok(()) };
        if truth.is_exact() && !self.is_hidden(truth.certain) {
            return Ok(());
        }
        let bdd = &mut self.encoder.bdd;
        let (holds, fails) = (bdd.and(set, truth.possible)?, bdd.minus(set, truth.certain)?);
        let (holds, fails) = (bdd.exists(holds, hidden)?, bdd.exists(fails, hidden)?);
        let doubt = bdd.and(holds, fails)?;
        if let Some(notes) = self.notes.as_mut().filter(|_| !doubt.is_empty()) {
            notes.asked(Some(place.rule), words(), doubt);
        }
        Ok(())
    }

    /// Whether a set depends on what nobody shows.
    pub(super) fn is_hidden(&mut self, set: Set) -> bool {
        let bdd = &self.encoder.bdd;
        self.notes.as_mut().is_some_and(|notes| bdd.depends_on(set, notes.hidden, &mut notes.depend))
    }

    fn vmap(
        &mut self,
        key: &'a Expr,
        map: &'a SetRef,
        flow: Flow,
        header: &Header,
        turn: &mut Turn<'_>,
    ) -> Built<Option<Flow>> {
        let place = turn.place;
        let found = self.encoder.find(key, map, place.site, header)?;
        let lost = self.encoder.bdd.and(flow.set, found.lost)?;
        if !lost.is_empty() {
            let why = || "what the verdict map holds is not all known".to_owned();
            self.lose(turn.passed, lost, Some(place.rule), why)?;
        }
        let mut rest = self.encoder.bdd.minus(flow.set, found.lost)?;
        let mut go_on = Set::NONE;
        for (data, truth) in found.entries {
            let of_entry = std::ptr::from_ref(data) as usize;
            let words = || format!("the entry {data:?} of a verdict map is found");
            let truth = self.encoder.settled(truth, of_entry, words, place.site.hook, header)?;
            turn.passed.in_doubt |= !truth.is_exact();
            self.note_doubt(place, truth, flow.set, || "what is looked up in the verdict map is not known".to_owned())?;
            let set = self.encoder.bdd.and(flow.set, truth.possible)?;
            rest = self.encoder.bdd.minus(rest, truth.certain)?;
            if set.is_empty() {
                continue;
            }
            let part = Flow { set, ..flow };
            match data {
                Data::Verdict(Verdict::Continue) => go_on = self.encoder.bdd.or(go_on, set)?,
                Data::Verdict(verdict) => self.verdict(0, verdict, part, turn)?,
                _ => {
                    let why = || "the verdict map holds no verdict".to_owned();
                    self.lose(turn.passed, set, Some(place.rule), why)?;
                }
            }
        }
        if !rest.is_empty() {
            turn.next.push(Flow { set: rest, ..flow });
        }
        Ok((!go_on.is_empty()).then_some(Flow { set: go_on, ..flow }))
    }

    /// An effect; `None` when the rule ends for all.
    fn effect(&mut self, effect: &'a Effect, flow: Flow, header: &Header, turn: &mut Turn<'_>) -> Built<Option<Flow>> {
        let place = turn.place;
        let mut header = header.clone();
        match effect {
            // what is offloaded shows in later packets
            Effect::Log { .. } | Effect::Count | Effect::Harmless(_) | Effect::Offload(_) | Effect::Set { .. } => {
                return Ok(Some(flow));
            }
            Effect::Opaque(text) => {
                self.lose(turn.passed, flow.set, Some(place.rule), || format!("cannot be decided: {text}"))?;
                return Ok(None);
            }
            Effect::NoTrack => {
                // a packet that belongs to a connection keeps it; one that tracking called invalid has none
                if !header.is_tracked() && header.tracking != Tracking::Answer {
                    header.tracking = Tracking::Untracked;
                }
            }
            Effect::UpdateSet { set, change, text } => {
                let table = self.encoder.ruleset().tables.get(place.site.table);
                let native = table.is_some_and(|table| table.backend == Backend::Nft);
                let touched = (if native { place.site.table } else { usize::MAX }, set.clone());
                let seen = !native || self.encoder.is_looked_up(place.site.table, set);
                if seen && !header.touched.contains(&touched) {
                    header.touched.push(touched);
                }
                // a key the packet does not have, a set that is full, an element's own rate or quota can end the rule
                let room = table.and_then(|table| table.set(set)).and_then(crate::ruleset::Set::room);
                let full = room.is_some_and(|room| room < ADDED);
                let counted = ["limit", "quota", "ct count"].iter().any(|word| text.contains(word));
                // whatever ends the rule here, the condition behind it that hangs on the count asks for, too
                let asked = self.encoder.ruleset().rule(place.rule).is_some_and(|rule| asks_count(rule, text));
                if !asked && (counted || full || self.may_lack(change.as_deref(), &flow, &header, place.site)?) {
                    let words = || format!("depends on what was counted so far: {text}");
                    self.note_doubt(place, Truth::OPEN, flow.set, words)?;
                    turn.passed.in_doubt = true;
                    let hook = place.site.hook;
                    let (goes_on, ends) =
                        self.either(flow.set, &format!("{text} of a full set"), hook, Some(&header))?;
                    turn.next.push(Flow { header: self.number(header.clone()), set: ends, ..flow });
                    return Ok(Some(Flow { header: self.number(header), set: goes_on, ..flow }));
                }
            }
        }
        Ok(Some(Flow { header: self.number(header), ..flow }))
    }

    /// Whether some packets of a flow do not have the key a set statement names.
    fn may_lack(&mut self, change: Option<&'a SetChange>, flow: &Flow, header: &Header, site: Site) -> Built<bool> {
        let parts = match change.map(|change| &change.key) {
            Some(Expr::Concat(parts)) => parts.as_slice(),
            Some(part) => std::slice::from_ref(part),
            None => &[],
        };
        for part in parts {
            let missing = self.encoder.value(part, site, header)?.missing();
            if !self.encoder.bdd.and(missing, flow.set)?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A field gets a new value: a flow for each value it can be, none when the rule ends for all.
    fn assign(
        &mut self,
        field: &Field,
        value: &'a Expr,
        flow: Flow,
        header: &Header,
        turn: &mut Turn<'_>,
    ) -> Built<Vec<Flow>> {
        let place = turn.place;
        let bindings = match value {
            Expr::Field(Field::CtMark) if header.is_tracked() => vec![(Set::ALL, header.ct_mark)],
            Expr::Field(Field::Mark) => vec![(Set::ALL, header.mark)],
            value => {
                let value = self.encoder.value(value, place.site, header)?;
                self.split(&flow, Truth::exactly(!value.missing()), turn)?;
                value.bindings(&mut self.encoder.bdd, MAX_VALUES)?
            }
        };
        let mut flows = Vec::with_capacity(bindings.len());
        for (set, binding) in bindings {
            let set = self.encoder.bdd.and(set, flow.set)?;
            if set.is_empty() {
                continue;
            }
            let mut changed = header.clone();
            let mut flow = Flow { set, ..flow };
            set_field(&mut changed, field, binding);
            if let Some(notes) = self.notes.as_mut().filter(|_| *field == Field::Mark) {
                flow.tag = notes.marked(flow.tag, header.mark, changed.mark, place.rule);
            }
            flow.header = self.number(changed);
            flows.push(flow);
        }
        Ok(flows)
    }

    /// What a verdict does to a flow.
    fn verdict(&mut self, wanted: u32, verdict: &'a Verdict, mut flow: Flow, turn: &mut Turn<'_>) -> Built<()> {
        let place = turn.place;
        let decision = match &self.notes {
            Some(notes) => notes.decision(flow.tag, place.rule, wanted),
            None => Decision::by(place.rule),
        };
        match verdict {
            Verdict::Accept => {
                if let Some(notes) = &mut self.notes {
                    flow.tag = notes.accepted(flow.tag, decision);
                }
                turn.passed.accepted.push(flow);
            }
            Verdict::Drop | Verdict::Reject(_) => self.refuse(turn.passed, flow, decision),
            Verdict::Return => turn.passed.returned.push(flow),
            Verdict::Continue => turn.next.push(flow),
            Verdict::Jump(name) | Verdict::Goto(name) => {
                return self.call(name, matches!(verdict, Verdict::Goto(_)), flow, turn);
            }
            Verdict::Nat(nat) => return self.translate(nat, flow, decision, turn),
            Verdict::Queue { .. } => {
                self.lose(turn.passed, flow.set, Some(place.rule), || "a program decides (queue)".to_owned())?;
            }
            Verdict::Opaque(text) => {
                self.lose(turn.passed, flow.set, Some(place.rule), || format!("cannot be decided: {text}"))?;
            }
        }
        Ok(())
    }

    /// The chain a name stands for in a table.
    pub(super) fn chain_called(&self, table: usize, name: &str) -> Option<usize> {
        self.chains.get(table).and_then(|chains| chains.get(name)).copied()
    }

    fn call(&mut self, name: &str, goto: bool, flow: Flow, turn: &mut Turn<'_>) -> Built<()> {
        let place = turn.place;
        let Some(chain) = self.chain_called(place.site.table, name) else {
            let why = || format!("chain {name} is not in the snapshot");
            return self.lose(turn.passed, flow.set, Some(place.rule), why);
        };
        if turn.depth >= MAX_DEPTH || self.open.contains(&(place.site.table, chain)) {
            let why = || format!("jumps nest deeper than {MAX_DEPTH}, or in a circle");
            return self.lose(turn.passed, flow.set, Some(place.rule), why);
        }
        if let Some(calls) = &mut self.calls {
            calls.push((chain, flow));
        }
        let mut inner = self.enter(place.site, chain, vec![flow], turn.depth + 1)?;
        // goto leaves no way back here: its chain's end is this chain's
        if goto { &mut turn.passed.returned } else { &mut turn.next }.append(&mut inner.returned);
        turn.passed.take(inner, &mut self.encoder.bdd)
    }

    /// The tag of a flow that nobody has decided about yet.
    pub(super) fn no_tag(&mut self) -> usize {
        self.notes.as_mut().map_or(0, |notes| notes.tag(Tag::default()))
    }
}

/// What one rule has sent where.
pub(super) struct Turn<'p> {
    pub(super) place: Place,
    pub(super) depth: u32,
    pub(super) next: Vec<Flow>,
    pub(super) passed: &'p mut Passed,
}

/// Whether a step neither changes nor decides anything.
pub(super) fn is_harmless(step: &Step) -> bool {
    matches!(
        step,
        Step::Match(_)
            | Step::Effect(Effect::Log { .. } | Effect::Count | Effect::Harmless(_) | Effect::Offload(_))
            | Step::Verdict(Verdict::Continue)
    )
}

/// Gives `field` a new value.
fn set_field(header: &mut Header, field: &Field, binding: Binding) {
    let low32 = |binding: Binding| binding.map(|mark| mark & 0xffff_ffff);
    match field {
        Field::Mark => header.mark = low32(binding),
        Field::CtMark if header.is_tracked() => header.ct_mark = low32(binding),
        // without a connection there is nothing to mark
        Field::CtMark => {}
        Field::Pkttype => header.packet_type = binding,
        other => {
            header.epoch += 1;
            let with = |part: u128, kept: u128, by: u32| match (binding.known(), header.tos.known()) {
                (Some(new), Some(tos)) => Binding::Known(tos & kept | (new & part) << by),
                _ => Binding::Unknown,
            };
            let tos = match other {
                Field::Dscp => with(63, 3, 2),
                _ => with(3, !3, 0),
            };
            match other {
                Field::Ip4Saddr | Field::Ip6Saddr => header.ends.src = binding,
                Field::Ip4Daddr | Field::Ip6Daddr => header.ends.dst = binding,
                Field::Sport => header.ends.sport = binding,
                Field::Dport => header.ends.dport = binding,
                Field::Ip4Ttl | Field::Ip6Hoplimit => header.ttl = binding,
                Field::Tos => header.tos = binding,
                Field::Dscp | Field::Ecn => header.tos = tos,
                other => {
                    header.assigned.retain(|(field, _)| field != other);
                    header.assigned.push((other.clone(), binding));
                }
            }
        }
    }
}

/// Whether a rule goes on only by what the statement `text` counts.
fn asks_count(rule: &Rule, text: &str) -> bool {
    let asks = |step: &Step| matches!(step, Step::Match(Match::Opaque { kind: OpaqueKind::Stateful, text: own }) if **own == *text);
    rule.steps.iter().any(asks)
}
