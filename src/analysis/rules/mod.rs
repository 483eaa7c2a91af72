//! Rules that do nothing: shadowed by earlier ones, asked for what never comes, or done again by later ones.
//!
//! ```text
//! let report = judge(&snapshot.ruleset, &snapshot.host, &Limits::default());
//! for dead in &report.dead { … }     // no packet ever hits these, for certain
//! ```
//!
//! Every base chain is looked at by itself, with all packets that its hook could ever see; what other tables dropped before
//! does not count. A rule is dead when no packet hits it on any way that leads to it, in any family its table is for, whatever
//! the named sets and Felix's failsafe lists hold (`lasting.rs`). All sets are upper bounds, so where a rule cannot be decided the rules behind it are
//! taken to be hit: *dead* is certain, and silence is not.

mod causes;
mod lasting;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use self::causes::Search;
pub use self::causes::{is_about_known_connections, outcome};
use self::lasting::{Lasting, holds_mark, lasting};
use super::path::CONNTRACK_PRIORITY;
use super::reach::passages::{Entry, Passage, Passages};
use super::reach::{Engine, HostFacts, Settings, cuts, interfaces};
use crate::host::Host;
use crate::packet::{CtState, Family, Hook};
use crate::ruleset::{ChainKind, Expr, Field, Match, Operator, Rule, RuleRef, Ruleset, SetRef, Step, Table};
use crate::space::bdd::{Built, Set};
use crate::space::header::{Binding, Ends, Header, Tracking};
use crate::space::layout::STATES;
use crate::space::line::{self, Line};
use crate::space::{Dimension, Interfaces, Order};

/// How much is spent on an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Nodes for the rules below one base chain, in one family.
    pub nodes: usize,
    /// Nodes for all of them, one after the other; base chains beyond are not judged.
    pub all_nodes: usize,
    /// Dead rules whose causes are looked for.
    pub explained: usize,
    /// Rules looked at in all tables together; tables beyond are not judged.
    pub rules: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { nodes: 4_000_000, all_nodes: usize::MAX, explained: 20_000, rules: 1_000_000 }
    }
}

/// Which rules do nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// Rules that no packet ever hits, in the order of their places.
    pub dead: Vec<Dead>,
    /// Rules that are hit and that later rules do again, in the order of their places.
    pub redundant: Vec<Redundant>,
    /// Base chains whose rules were not judged.
    pub unjudged: Vec<Unjudged>,
    /// How many rules were judged.
    pub judged: usize,
}

/// A rule that no packet ever hits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dead {
    /// The rule.
    pub place: RuleRef,
    /// Why.
    pub why: Why,
    /// The rules that see to it, in the order packets meet them. Empty where nobody looked.
    pub causes: Vec<Cause>,
    /// Nothing comes into its chain at all: it is as dead as the rules that call the chain.
    pub behind_dead: bool,
}

/// A rule whose packets later rules of its chain would treat the same.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Redundant {
    /// The rule.
    pub place: RuleRef,
    /// The first of those later rules.
    pub by: Vec<RuleRef>,
}

/// Why no packet hits a rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum Why {
    /// Other rules decide about everything it asks for before.
    Covered,
    /// Nothing it asks for is sent into its chain: the rules that call the chain are the causes.
    NotSent,
    /// Its conditions contradict each other or the hook.
    Impossible,
}

/// A rule that takes packets away from a dead one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cause {
    /// The rule.
    pub place: RuleRef,
    /// What becomes of the packets.
    pub outcome: Outcome,
    /// It only takes packets of known connections.
    pub known_connections: bool,
}

/// What a rule does with the packets it takes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum Outcome {
    /// Accepts or translates them.
    Accept,
    /// Drops or rejects them.
    Refuse,
    /// Leads them out of the chain, or leaves the decision to others.
    Leave,
    /// Only marks, logs or counts them.
    Nothing,
}

/// A base chain whose rules were not judged, with those it calls.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unjudged {
    /// The base chain, as the place of its policy.
    pub place: RuleRef,
    /// For packets of this family.
    pub family: Family,
    /// Why, in words.
    pub why: String,
}

/// Judges every rule that packets of the IP stack can come to. Dead rules that `wanted` refuses are left out.
#[must_use]
pub fn judge(ruleset: &Ruleset, host: &Host, limits: &Limits, wanted: &dyn Fn(RuleRef) -> bool) -> Report {
    let judged = within(ruleset, limits.rules);
    let lasting = lasting(ruleset, &|table| judged.contains(&table));
    let interfaces = interfaces(&[&lasting.ruleset], host);
    let asked = Asked { lasting: &lasting, interfaces, limits, wanted };
    let facts = [Family::Ipv4, Family::Ipv6].map(|family| HostFacts::new(host, family));
    let mut report = Report::default();
    let mut left = limits.all_nodes;
    for (index, table) in lasting.ruleset.tables.iter().enumerate().filter(|(_, table)| !table.dormant) {
        if judged.contains(&index) {
            judge_exactly(&asked, &facts, (index, table), &mut left, &mut report);
        } else {
            report.unjudged.extend(too_many(ruleset, index));
        }
    }
    report.dead.sort_by_key(|dead| dead.place);
    report.redundant.sort_by_key(|one| one.place);
    report
}

/// Tables whose rules are judged: as many as `most` rules allow, in listing order.
fn within(ruleset: &Ruleset, most: usize) -> BTreeSet<usize> {
    let mut left = most;
    let mut judged = BTreeSet::new();
    for (index, table) in ruleset.tables.iter().enumerate().filter(|(_, table)| !table.dormant) {
        if let Some(rest) = left.checked_sub(rules_of(table)) {
            left = rest;
            judged.insert(index);
        }
    }
    judged
}

fn rules_of(table: &Table) -> usize {
    table.chains.iter().map(|chain| chain.rules.len()).sum()
}

/// The base chains of a table with more rules than are looked at.
fn too_many(ruleset: &Ruleset, index: usize) -> Vec<Unjudged> {
    let Some(table) = ruleset.tables.get(index) else { return Vec::new() };
    let why = format!("the table has {} rules, more than are looked at", rules_of(table));
    let family = if sees(table.family, Family::Ipv4) { Family::Ipv4 } else { Family::Ipv6 };
    let bases = table.chains.iter().enumerate().filter(|(_, chain)| chain.base.is_some());
    let place = |chain| RuleRef { table: index, chain, rule: RuleRef::POLICY };
    bases.map(|(chain, _)| Unjudged { place: place(chain), family, why: why.clone() }).collect()
}

/// What is asked of every table.
struct Asked<'q> {
    lasting: &'q Lasting,
    interfaces: Interfaces,
    limits: &'q Limits,
    wanted: &'q dyn Fn(RuleRef) -> bool,
}

/// One base chain walked.
struct Walked<'a> {
    engine: Engine<'a>,
    passages: Passages,
}

/// Judges the rules of one table on the lines of addresses as the rules cut them; what it costs goes from `left`, in nodes.
fn judge_exactly(
    asked: &Asked<'_>,
    facts: &[HostFacts<'_>; 2],
    table: (usize, &Table),
    left: &mut usize,
    report: &mut Report,
) {
    let [four, six] = facts;
    let cuts_of = |facts| cuts(&asked.lasting.ruleset, facts);
    let known = report.dead.len();
    let (part, rest) = line::exactly(32, cuts_of(four), |four| {
        line::exactly(128, cuts_of(six), |six| {
            let (mut part, mut rest) = (Report::default(), *left);
            judge_table(asked, facts, table, [four, six], known, &mut rest, &mut part);
            (part, rest)
        })
    });
    *left = rest;
    report.dead.extend(part.dead);
    report.redundant.extend(part.redundant);
    report.unjudged.extend(part.unjudged);
    report.judged += part.judged;
}

/// The same on given lines, which say whether it counts; `known` dead rules were found in other tables.
fn judge_table(
    asked: &Asked<'_>,
    facts: &[HostFacts<'_>; 2],
    (index, table): (usize, &Table),
    lines: [Option<&Line>; 2],
    known: usize,
    left: &mut usize,
    report: &mut Report,
) {
    let mut walked: Vec<Walked<'_>> = Vec::new();
    let mut hit: HashMap<RuleRef, bool> = HashMap::new();
    let mut spared: BTreeSet<usize> = BTreeSet::new();
    let mut again: BTreeMap<RuleRef, Option<Vec<RuleRef>>> = BTreeMap::new();
    for (facts, line) in facts.iter().zip(lines).filter(|(facts, _)| sees(table.family, facts.family())) {
        let bases = table.chains.iter().enumerate().filter(|(_, chain)| chain.base.is_some());
        for (chain, _) in bases {
            let place = RuleRef { table: index, chain, rule: RuleRef::POLICY };
            let below = reachable(table, chain);
            if below
                .iter()
                .any(|one| table.chains.get(*one).is_some_and(|chain| chain.rules.iter().any(asks_for_owner)))
            {
                // the sets give every packet an owner; those the kernel makes have none
                let why = "rules ask for a packet's owner, and packets without a socket have none".to_owned();
                spared.extend(below);
                report.unjudged.push(Unjudged { place, family: facts.family(), why });
                continue;
            }
            match walk_base(asked, (facts, line), place, left) {
                Ok(mut one) => {
                    let walked_with = one.engine.encoder().bdd.nodes();
                    if let Err(too_large) = note_again(asked, &mut one, &mut again) {
                        let why = format!("whether later rules do the same: {too_large}");
                        report.unjudged.push(Unjudged { place, family: facts.family(), why });
                    }
                    *left = left.saturating_sub(one.engine.encoder().bdd.nodes() - walked_with);
                    let mut explains = false;
                    for (chain, passage) in &one.passages.chains {
                        for (rule, matched) in passage.matched.iter().enumerate() {
                            let place = RuleRef { table: index, chain: *chain, rule };
                            *hit.entry(place).or_default() |= !matched.is_empty();
                            explains |= matched.is_empty() && (asked.wanted)(place);
                        }
                    }
                    // diagrams are large: those that explain nothing are not kept
                    walked.extend(explains.then_some(one));
                }
                Err(why) => {
                    spared.extend(reachable(table, chain));
                    report.unjudged.push(Unjudged { place, family: facts.family(), why });
                }
            }
        }
    }
    report.judged += hit.len();
    let again = again.into_iter().filter(|(place, _)| !spared.contains(&place.chain));
    report.redundant.extend(again.filter_map(|(place, by)| Some(Redundant { place, by: by? })));
    let dead: BTreeMap<RuleRef, bool> = hit
        .into_iter()
        .filter(|(place, hit)| !hit && !spared.contains(&place.chain) && (asked.wanted)(*place))
        .collect();
    for place in dead.into_keys() {
        let chains = walked.iter().filter_map(|one| one.passages.chains.get(&place.chain));
        let behind_dead = chains.into_iter().all(Passage::is_empty);
        let explain = known + report.dead.len() < asked.limits.explained;
        let found =
            if explain { explained(asked.lasting, &mut walked, place) } else { Some((Why::Covered, Vec::new())) };
        report.dead.extend(found.map(|(why, causes)| Dead { place, why, causes, behind_dead }));
    }
}

/// Notes which rules that are hit below a base chain are done again by later ones; one way where it is not so is enough.
fn note_again(
    asked: &Asked<'_>,
    one: &mut Walked<'_>,
    again: &mut BTreeMap<RuleRef, Option<Vec<RuleRef>>>,
) -> Built<()> {
    let table = one.passages.entry.table;
    let mut result = Ok(());
    for (chain, passage) in &one.passages.chains {
        let found = match result {
            Ok(()) => one.engine.done_again(&one.passages, *chain, asked.wanted),
            Err(too_large) => Err(too_large),
        };
        let found: HashMap<RuleRef, Vec<RuleRef>> = match found {
            Ok(found) => found.into_iter().collect(),
            Err(too_large) => {
                result = Err(too_large);
                HashMap::new()
            }
        };
        for (rule, _) in passage.matched.iter().enumerate().filter(|(_, matched)| !matched.is_empty()) {
            let place = RuleRef { table, chain: *chain, rule };
            match found.get(&place) {
                Some(by) => {
                    again.entry(place).or_insert_with(|| Some(by.clone()));
                }
                None => {
                    again.insert(place, None);
                }
            }
        }
    }
    result
}

/// Whether a rule asks for the owner of a packet's socket.
fn asks_for_owner(rule: &Rule) -> bool {
    fn asks(condition: &Match) -> bool {
        match condition {
            Match::Not(inner) => asks(inner),
            Match::Any(all) | Match::All(all) => all.iter().any(asks),
            Match::Lookup { left, .. } | Match::Compare { left, .. } => {
                matches!(left, Expr::Field(Field::Skuid | Field::Skgid))
            }
            _ => false,
        }
    }
    rule.steps.iter().any(|step| matches!(step, Step::Match(condition) if asks(condition)))
}

/// Whether a table's rules see packets of `family` on their way through the IP stack or at a device.
fn sees(table: Family, family: Family) -> bool {
    table.sees(family) || table == Family::Netdev
}

/// Why a rule is dead.
fn explained(lasting: &Lasting, walked: &mut [Walked<'_>], place: RuleRef) -> Option<(Why, Vec<Cause>)> {
    let mut best: Option<(Why, Vec<Cause>)> = None;
    for one in walked.iter_mut().filter(|one| one.passages.chains.contains_key(&place.chain)) {
        let mut search = Search::new(&lasting.ruleset, &mut one.engine, &one.passages);
        // where the nodes run out the rule is dead all the same
        let found = search.causes(place).unwrap_or((Why::Covered, Vec::new()));
        let better = match &best {
            None => true,
            Some((why, causes)) => (found.0, found.1.is_empty()) < (*why, causes.is_empty()),
        };
        if better {
            best = Some(found);
        }
    }
    best
}

fn walk_base<'a>(
    asked: &Asked<'a>,
    (facts, line): (&'a HostFacts<'a>, Option<&Line>),
    place: RuleRef,
    left: &mut usize,
) -> Result<Walked<'a>, String> {
    let lasting = asked.lasting;
    let ruleset = &lasting.ruleset;
    let table = ruleset.tables.get(place.table).ok_or("the table is gone")?;
    let base = table.chains.get(place.chain).and_then(|chain| chain.base.as_ref()).ok_or("the chain is gone")?;
    if let Some(why) = unfollowable(lasting, table, place.chain) {
        return Err(why);
    }
    let limits = asked.limits;
    if *left == 0 {
        return Err(format!("the sets of packets of all chains together need more than {} nodes", limits.all_nodes));
    }
    let budget = limits.nodes.min(*left);
    let interfaces = Some(asked.interfaces.clone());
    let settings = Settings { order: Order::Forward, budget, interfaces, line: line.cloned(), links: None };
    let mut engine = Engine::new(ruleset, facts, &settings);
    let early = base.priority < CONNTRACK_PRIORITY && matches!(base.hook, Hook::Prerouting | Hook::Output);
    let device = matches!(base.hook, Hook::Ingress | Hook::Egress);
    let nat = [CtState::NEW, CtState::RELATED];
    let states = if base.kind == ChainKind::Nat { nat.as_slice() } else { &STATES };
    let marks = if lasting.felix_bits == 0 { vec![Binding::Unknown] } else { felix_marks(lasting, table) };
    let mut starts = Vec::new();
    for mark in &marks {
        if early || device {
            let header = start(base.hook, CtState::NEW, *mark);
            if base.hook == Hook::Output {
                starts.push((Header { tracking: Tracking::Answer, ..header.clone() }, Set::ALL));
            }
            starts.push((Header { tracking: Tracking::Before, ..header }, Set::ALL));
        }
        // before tracking, too: what this host sends to itself was seen on its way out
        for state in states {
            let set = of_state(&mut engine, *state).map_err(|too_large| too_large.to_string())?;
            starts.push((start(base.hook, *state, *mark), set));
        }
    }
    if matches!(base.hook, Hook::Postrouting | Hook::Egress) {
        // packets of this host have no incoming interface, but an owner; forwarded ones the other way round
        let of_host = |(header, set): &(Header, Set)| (Header { iif: Binding::Known(0), ..header.clone() }, *set);
        let own: Vec<(Header, Set)> = starts.iter().map(of_host).collect();
        starts.extend(own);
    }
    let entry = Entry { table: place.table, chain: place.chain, hook: base.hook };
    let passages = engine.passages(entry, starts);
    *left = left.saturating_sub(engine.encoder().bdd.nodes());
    match passages {
        Ok(Some(passages)) => Ok(Walked { engine, passages }),
        Ok(None) => Err("its chains call each other in a circle".to_owned()),
        Err(too_large) => Err(too_large.to_string()),
    }
}

/// Packets of a conntrack state.
fn of_state(engine: &mut Engine<'_>, state: CtState) -> Built {
    let encoder = engine.encoder();
    let number = STATES.iter().position(|known| *known == state);
    encoder.layout.of_classes(&mut encoder.bdd, Dimension::State, |class| Some(class) == number)
}

/// Any packet of a state that a hook may see, whatever happened to it before.
fn start(hook: Hook, state: CtState, mark: Binding) -> Header {
    let mut header = Header::open().in_state(state);
    header.tracking = Tracking::Seen;
    header.mark = mark;
    header.ct_mark = Binding::Unknown;
    header.status = None;
    header.direction = None;
    (header.original, header.reply) = (Ends::UNKNOWN, Ends::UNKNOWN);
    match hook {
        Hook::Prerouting | Hook::Input | Hook::Ingress => header.oif = Binding::Known(0),
        Hook::Output => header.iif = Binding::Known(0),
        _ => {}
    }
    header
}

/// Marks in Felix's bits with which packets come into a table: none, or what its hook chains take as decided before.
fn felix_marks(lasting: &Lasting, table: &Table) -> Vec<Binding> {
    let hooks = ["cali-INPUT", "cali-OUTPUT", "cali-FORWARD", "cali-PREROUTING", "cali-POSTROUTING"];
    let chains = table
        .chains
        .iter()
        .filter(|chain| chain.base.is_some() || hooks.contains(&crate::calico::integrity::plain_name(&chain.name)));
    let mut marks = BTreeSet::from([0]);
    for step in chains.flat_map(|chain| &chain.rules).flat_map(|rule| &rule.steps) {
        if let Step::Match(Match::Compare { left: Expr::And(field, _), operator: Operator::Eq, right }) = step
            && **field == Expr::Field(Field::Mark)
            && let Expr::Number(value) = right
            && *value & u128::from(!lasting.felix_bits) == 0
        {
            marks.insert(*value);
        }
    }
    marks.into_iter().map(Binding::Known).collect()
}

/// What keeps a base chain from being followed for certain.
fn unfollowable(lasting: &Lasting, table: &Table, base: usize) -> Option<String> {
    for chain in reachable(table, base).into_iter().filter_map(|chain| table.chains.get(chain)) {
        for step in chain.rules.iter().flat_map(|rule| &rule.steps) {
            let Step::Vmap { key, map } = step else { continue };
            if lasting.felix_bits != 0 && holds_mark(key) {
                return Some(format!("a verdict map in {} asks for marks", chain.name));
            }
            if let SetRef::Named(name) = map
                && table.set(name).is_none_or(|set| set.incomplete.is_some())
            {
                return Some(format!("what verdict map {name} holds is not all known"));
            }
        }
    }
    None
}

/// A chain and all chains it leads to, through rules and every verdict map of the table.
fn reachable(table: &Table, start: usize) -> BTreeSet<usize> {
    let names: HashMap<&str, usize> =
        table.chains.iter().enumerate().rev().map(|(index, chain)| (&*chain.name, index)).collect();
    let mut found = BTreeSet::new();
    let mut todo = vec![start];
    while let Some(chain) = todo.pop() {
        if !found.insert(chain) {
            continue;
        }
        let rules = table.chains.get(chain).map(|chain| chain.rules.as_slice()).unwrap_or_default();
        let called = rules.iter().flat_map(|rule| table.chains_called(rule));
        todo.extend(called.filter_map(|name| names.get(name)));
    }
    found
}
