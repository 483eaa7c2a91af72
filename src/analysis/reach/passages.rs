//! Which packets come to each rule and which meet its conditions: for questions about rules rather than about packets.
//!
//! Chains are walked callers first, each once with all that any call sends into it; what a call brings back is the callee's
//! summary. So every set here is an upper bound: no packet outside it comes to the rule. Packets of which nobody knows what
//! happens to them are taken to go on everywhere, looking like anything.

use std::collections::HashMap;

use super::Engine;
use super::chains::Passed;
use super::walk::{Flow, Place, Walk, is_harmless};
use crate::packet::Hook;
use crate::ruleset::{Rule, RuleRef, Step};
use crate::space::bdd::{Built, Set};
use crate::space::encode::Site;
use crate::space::header::{Binding, Ends, Header};

/// Different headers in one chain side by side; beyond it they count as unknown.
const MAX_HEADERS: usize = 64;

/// What one chain does with the packets that come to it, rule by rule.
#[derive(Clone, Debug, Default)]
pub struct Passage {
    /// Number of the header and packets that come to each rule, and, as the last, to the end.
    flows: Vec<Vec<(usize, Set)>>,
    /// By rule: packets that meet all its conditions.
    pub matched: Vec<Set>,
}

impl Passage {
    /// Whether no packet ever comes into the chain.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.flows.first().is_none_or(Vec::is_empty)
    }

    /// Packets that come to rule `rule`; to the end for the number of rules.
    ///
    /// # Errors
    /// When the node budget is used up.
    pub fn reached(&self, engine: &mut Engine<'_>, rule: usize) -> Built {
        let sets: Vec<Set> = self.flows.get(rule).into_iter().flatten().map(|(_, set)| *set).collect();
        engine.bdd().union(sets)
    }

    /// Packets with one header that come to rule `rule`.
    pub(super) fn arriving(&self, rule: usize, header: usize) -> Set {
        let flows = self.flows.get(rule).into_iter().flatten();
        flows.filter(|(known, _)| *known == header).map(|(_, set)| *set).next().unwrap_or(Set::NONE)
    }

    /// The headers packets have that come to rule `rule`.
    pub(super) fn headers(&self, rule: usize) -> impl Iterator<Item = usize> + '_ {
        self.flows.get(rule).into_iter().flatten().map(|(header, _)| *header)
    }
}

/// Where walking of rules starts: a base chain, or any other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Index of the table.
    pub table: usize,
    /// Index of the chain.
    pub chain: usize,
    /// The hook.
    pub hook: Hook,
}

/// All chains that one chain leads to, with what happens in each.
#[derive(Clone, Debug)]
pub struct Passages {
    /// Where it started.
    pub entry: Entry,
    /// By index of the chain.
    pub chains: HashMap<usize, Passage>,
    /// Rules that call a chain, by its index.
    pub callers: HashMap<usize, Vec<RuleRef>>,
    starts: Vec<usize>,
}

impl<'a> Engine<'a> {
    /// Leads the packets of `starts` into `entry` and on into all chains it leads to. `None`: chains call each other in a
    /// circle, as no kernel takes them.
    ///
    /// # Errors
    /// When the node budget is used up.
    pub fn passages(&mut self, entry: Entry, starts: Vec<(Header, Set)>) -> Built<Option<Passages>> {
        let Some(site) = self.site(entry) else { return Ok(None) };
        let Some((order, callers)) = self.walk.order_from(entry) else { return Ok(None) };
        let flow = |(header, set)| Flow { header: self.walk.number(header), tag: 0, set };
        let flows: Vec<Flow> = starts.into_iter().map(flow).collect();
        let starts = flows.iter().map(|flow| flow.header).collect();
        let mut waiting: HashMap<usize, Vec<Flow>> = HashMap::from([(entry.chain, flows)]);
        let mut chains = HashMap::new();
        for chain in order {
            let flows = self.walk.merged(waiting.remove(&chain).unwrap_or_default())?;
            self.walk.calls = Some(Vec::new());
            let passage = self.walk.pass(site, chain, flows);
            let calls = self.walk.calls.take().unwrap_or_default();
            chains.insert(chain, passage?);
            for (called, flow) in calls {
                waiting.entry(called).or_default().push(flow);
            }
        }
        Ok(Some(Passages { entry, chains, callers, starts }))
    }

    pub(super) fn site(&self, entry: Entry) -> Option<Site> {
        let table = self.walk.encoder.ruleset().tables.get(entry.table)?;
        Some(Site { hook: entry.hook, table: entry.table, family: table.family })
    }

    /// Packets of `set` that meet all conditions of `rule`, as its chain's packets look when they come in; where none ever
    /// come in, as they look at the start.
    ///
    /// # Errors
    /// When the node budget is used up.
    pub fn asked_for(&mut self, passages: &Passages, place: RuleRef, set: Set) -> Built {
        let ruleset = self.walk.encoder.ruleset();
        let (Some(site), Some(rule)) = (self.site(passages.entry), ruleset.rule(place)) else { return Ok(Set::NONE) };
        let passage = passages.chains.get(&place.chain).filter(|passage| !passage.is_empty());
        let mut headers: Vec<usize> = passage.map_or_else(|| passages.starts.clone(), |one| one.headers(0).collect());
        headers.extend(passage.into_iter().flat_map(|one| one.headers(place.rule)));
        headers.sort_unstable();
        headers.dedup();
        let mut all = Vec::with_capacity(headers.len());
        for header in headers {
            all.push(self.walk.met(site, rule, Flow { header, tag: 0, set })?);
        }
        self.bdd().union(all)
    }

    /// Packets of `set` that rule `place` certainly keeps from the rules behind it, whatever stands before it.
    ///
    /// # Errors
    /// When the node budget is used up.
    pub fn kept(&mut self, passages: &Passages, place: RuleRef, set: Set) -> Built {
        let ruleset = self.walk.encoder.ruleset();
        let (Some(site), Some(rule)) = (self.site(passages.entry), ruleset.rule(place)) else { return Ok(Set::NONE) };
        let Some(passage) = passages.chains.get(&place.chain) else { return Ok(Set::NONE) };
        let mut headers: Vec<usize> = passage.headers(0).collect();
        headers.dedup();
        let mut go_on = Vec::new();
        for header in headers {
            let mut passed = Passed::nothing();
            let flows = vec![Flow { header, tag: 0, set }];
            let next = self.walk.rule(Place { site, rule: place }, rule, flows, &mut passed, 0)?;
            go_on.extend(next.iter().map(|flow| flow.set));
            go_on.push(passed.lost);
        }
        let go_on = self.bdd().union(go_on)?;
        self.bdd().minus(set, go_on)
    }
}

impl<'a> Walk<'a> {
    /// One chain with all that comes in.
    fn pass(&mut self, site: Site, index: usize, flows: Vec<Flow>) -> Built<Passage> {
        let ruleset = self.encoder.ruleset();
        let chain = ruleset.tables.get(site.table).and_then(|table| table.chains.get(index));
        let rules: &'a [Rule] = chain.map(|chain| chain.rules.as_slice()).unwrap_or_default();
        let mut passage = Passage::default();
        self.open.insert((site.table, index));
        let mut flows = flows;
        for (number, rule) in rules.iter().enumerate() {
            if flows.len() > MAX_HEADERS {
                flows = self.rewrite(flows, anything);
                flows = self.merged(flows)?;
            }
            passage.flows.push(flows.iter().map(|flow| (flow.header, flow.set)).collect());
            let place = Place { site, rule: RuleRef { table: site.table, chain: index, rule: number } };
            let mut matched = Vec::with_capacity(flows.len());
            let (mut there, mut aside) = (Vec::new(), Vec::new());
            for flow in flows {
                let met = self.met(site, rule, flow)?;
                let side = if met.is_empty() { &mut aside } else { &mut there };
                side.push(flow);
                matched.push(met);
            }
            passage.matched.push(self.encoder.bdd.union(matched)?);
            if there.is_empty() || rule.steps.iter().all(is_harmless) {
                aside.append(&mut there);
                flows = aside;
                continue;
            }
            let mut passed = Passed::nothing();
            let mut looks: Vec<usize> = there.iter().map(|flow| flow.header).collect();
            looks.dedup();
            aside.append(&mut self.rule(place, rule, there, &mut passed, 0)?);
            if !passed.lost.is_empty() {
                let lost = looks.into_iter().map(|header| Flow { header, tag: 0, set: passed.lost }).collect();
                aside.append(&mut self.rewrite(lost, anything));
            }
            flows = self.merged(aside)?;
        }
        self.open.remove(&(site.table, index));
        passage.flows.push(flows.iter().map(|flow| (flow.header, flow.set)).collect());
        Ok(passage)
    }

    /// Packets of a flow that may meet all conditions of a rule. Conditions behind a change of the packet do not count.
    fn met(&mut self, site: Site, rule: &'a Rule, flow: Flow) -> Built {
        let header = self.header(flow.header);
        let mut set = flow.set;
        for step in &rule.steps {
            match step {
                Step::Match(condition) if !set.is_empty() => {
                    let truth = self.encoder.truth(condition, site, &header)?;
                    set = self.encoder.bdd.and(set, truth.possible)?;
                }
                Step::Match(_) => {}
                step if is_harmless(step) => {}
                _ => break,
            }
        }
        Ok(set)
    }

    /// Chains that `entry` leads to, callers before those they call, and who calls each; `None` where they go in a circle.
    fn order_from(&self, entry: Entry) -> Option<Calls> {
        enum Visit {
            Enter(usize),
            Leave(usize),
        }
        let mut callers: HashMap<usize, Vec<RuleRef>> = HashMap::new();
        // false: on the way down from it
        let mut done: HashMap<usize, bool> = HashMap::new();
        let mut order = Vec::new();
        let mut todo = vec![Visit::Enter(entry.chain)];
        while let Some(visit) = todo.pop() {
            let chain = match visit {
                Visit::Leave(chain) => {
                    done.insert(chain, true);
                    order.push(chain);
                    continue;
                }
                Visit::Enter(chain) => chain,
            };
            match done.get(&chain) {
                Some(true) => continue,
                Some(false) => return None,
                None => {}
            }
            done.insert(chain, false);
            todo.push(Visit::Leave(chain));
            for (rule, called) in self.called(entry.table, chain) {
                callers.entry(called).or_default().push(RuleRef { table: entry.table, chain, rule });
                if done.get(&called) == Some(&false) {
                    return None;
                }
                todo.push(Visit::Enter(called));
            }
        }
        order.reverse();
        Some((order, callers))
    }

    /// Rules of a chain that call another.
    fn called(&self, table: usize, chain: usize) -> Vec<(usize, usize)> {
        let ruleset = self.encoder.ruleset();
        let Some(table_content) = ruleset.tables.get(table) else { return Vec::new() };
        let rules = table_content.chains.get(chain).map(|chain| chain.rules.as_slice()).unwrap_or_default();
        let called = rules.iter().enumerate().flat_map(|(number, rule)| {
            let names = table_content.chains_called(rule).into_iter();
            names.filter_map(move |name| Some((number, self.chain_called(table, name)?)))
        });
        called.collect()
    }
}

/// Chains, callers before those they call, and the rules that call each.
type Calls = (Vec<usize>, HashMap<usize, Vec<RuleRef>>);

/// What nobody knows looks like anything.
fn anything(header: &mut Header) {
    let known = header.clone();
    *header = Header {
        mark: Binding::Unknown,
        ct_mark: Binding::Unknown,
        ends: Ends::UNKNOWN,
        ttl: Binding::Unknown,
        tos: Binding::Unknown,
        packet_type: Binding::Unknown,
        status: None,
        direction: None,
        original: Ends::UNKNOWN,
        reply: Ends::UNKNOWN,
        assigned: Vec::new(),
        epoch: known.epoch.max(1 << 20),
        ..known
    };
}
