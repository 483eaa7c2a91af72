//! Who may open a connection to whom: the fewest classes of addresses that the rules treat alike, and which class may talk to
//! which.
//!
//! Two addresses are in one class exactly when every decision about them is the same, both as source and as destination. The
//! decisions are one set over pairs of addresses, made by [`reach`](super::reach) for packets whose other fields are fixed;
//! its part above the second address gives the classes of the first, its parts below those of the second
//! ([`crate::space::partition`]).
//!
//! A pair counts as accepted when some packet between them is: over some interface, with whatever nobody asks about (length,
//! TTL, …). Under [`Bound::May`] what cannot be decided counts as accepting, under [`Bound::Must`] as refusing.

use std::collections::HashMap;

use super::path::{self, BaseRef, Unit};
use super::reach::conversation::first_header;
use super::reach::{Engine, HostFacts, Question, Settings, Way, cuts};
use crate::packet::{CtState, Family, Hook, Prefix, Protocol};
use crate::ruleset::{Interval, Policy, RuleRef, Ruleset, interface_number};
use crate::space::bdd::{Built, Set, TooLarge};
use crate::space::describe::{address, of_classes};
use crate::space::header::{Binding, Header};
use crate::space::line::{self, Line};
use crate::space::partition::{Block, Diagrams, Partition};
use crate::space::ranges;
use crate::space::{Dimension, Layout, Order, address_width};

/// Prefixes of all classes together.
pub const MAX_PREFIXES: usize = 500_000;
/// Pairs of classes.
pub const MAX_EDGES: usize = 4_000_000;
/// Looks whether a class may talk to another, those that are alike counted once.
const MAX_LOOKS: usize = 64_000_000;
/// Nodes of the diagrams of classes.
const MAX_NODES: usize = 2_000_000;
/// Conditions named.
const MAX_REASONS: usize = 24;

/// What undecidable rules count as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bound {
    /// As accepting: who may talk at most.
    May,
    /// As refusing: who may talk for certain.
    Must,
}

/// What is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Query {
    /// The protocol.
    pub protocol: Protocol,
    /// Destination port, for protocols that have ports; ICMP means an echo request.
    pub port: Option<u16>,
    /// Source port.
    pub source_port: u16,
    /// Which rules: [`Way::At`] a hook or [`Way::Chain`].
    pub way: Way,
    /// The hook packets are at.
    pub hook: Hook,
    /// Incoming interface by number; `None`: any.
    pub iif: Option<u128>,
    /// Outgoing interface.
    pub oif: Option<u128>,
    /// What undecidable rules count as.
    pub bound: Bound,
}

/// The answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Matrix {
    /// Addresses of each class, as few prefixes as there are; classes in the order of their first addresses.
    pub classes: Vec<Vec<Prefix>>,
    /// Classes whose addresses may open a connection to those of another, sorted.
    pub edges: Vec<(u32, u32)>,
    /// Whether the other bound gives the same matrix.
    pub certain: bool,
    /// Conditions the other pairs hang on: the first `MAX_REASONS`.
    pub because: Vec<Question>,
}

/// Why there is no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TooBig {
    /// The sets of packets.
    Sets(TooLarge),
    /// The classes' prefixes.
    Prefixes,
    /// The pairs of classes.
    Edges,
}

impl std::fmt::Display for TooBig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sets(too_large) => too_large.fmt(f),
            Self::Prefixes => write!(f, "the classes need more than {MAX_PREFIXES} prefixes"),
            Self::Edges => write!(f, "there are more than {MAX_EDGES} pairs of classes"),
        }
    }
}

impl From<TooLarge> for TooBig {
    fn from(too_large: TooLarge) -> Self {
        Self::Sets(too_large)
    }
}

/// Answers a query about a ruleset on a host, on the line of addresses as the rules cut it if they do nothing else to
/// addresses; where one order of variables is too large, the other is tried.
///
/// # Errors
/// When it is too big in both.
pub fn answer(ruleset: &Ruleset, facts: &HostFacts<'_>, query: &Query) -> Result<Matrix, TooBig> {
    line::exactly(address_width(facts.family()), cuts(ruleset, facts), |line| answer_on(ruleset, facts, query, line))
}

/// The answer, which counts if the line says so.
fn answer_on(ruleset: &Ruleset, facts: &HostFacts<'_>, query: &Query, line: Option<&Line>) -> Result<Matrix, TooBig> {
    let with = |order| {
        let settings = Settings { order, line: line.cloned(), ..Settings::default() };
        let mut engine = Engine::new(ruleset, facts, &settings);
        let pairs = pairs(&mut engine, query)?;
        let set = if query.bound == Bound::May { pairs.may } else { pairs.must };
        let (classes, edges) = classes(&engine, set)?;
        let because = if pairs.may == pairs.must { Vec::new() } else { reasons(&mut engine, query, &pairs)? };
        Ok(Matrix { classes, edges, certain: pairs.may == pairs.must, because })
    };
    match with(Order::Forward) {
        Err(TooBig::Sets(_)) => with(Order::Host),
        answered => answered,
    }
}

/// Pairs of addresses between which a packet is accepted, as sets over source and destination.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pairs {
    /// May be.
    pub may: Set,
    /// Is for certain.
    pub must: Set,
    /// The packets asked about.
    start: Set,
}

/// Prefixes of each class, and pairs of classes.
pub type Classes = (Vec<Vec<Prefix>>, Vec<(u32, u32)>);

/// Computes the pairs a matrix is made of.
///
/// # Errors
/// When the node budget is used up.
pub fn pairs(engine: &mut Engine<'_>, query: &Query) -> Built<Pairs> {
    let start = first_packets(engine, query)?;
    let verdicts = engine.walk(query.way, header(query), start)?;
    let links = [Dimension::InInterface, Dimension::OutInterface];
    let unasked = engine.hidden(&[Dimension::Source, Dimension::Destination, links[0], links[1]]);
    let interfaces: Vec<u16> = links.iter().flat_map(|link| engine.layout().variables(*link)).collect();
    let bdd = engine.bdd();
    let interfaces = bdd.group(interfaces);
    let accepted = bdd.exists(verdicts.accepted, unasked)?;
    let refused = bdd.exists(verdicts.refused, unasked)?;
    let certain = bdd.minus(start, refused)?;
    Ok(Pairs { may: bdd.exists(accepted, interfaces)?, must: bdd.exists(certain, interfaces)?, start })
}

/// Base chains at other hooks that packets at `hook` meet and that are not empty, as places of their policies.
#[must_use]
pub fn beside(ruleset: &Ruleset, family: Family, hook: Hook) -> Vec<RuleRef> {
    let hooks: &[Hook] = match hook {
        Hook::Input => &[Hook::Prerouting],
        Hook::Output => &[Hook::Postrouting],
        _ => &[Hook::Prerouting, Hook::Postrouting],
    };
    let mut found = Vec::new();
    for base in hooks.iter().flat_map(|hook| bases_at(ruleset, family, *hook)) {
        let chain = ruleset.tables.get(base.table).and_then(|table| table.chains.get(base.chain));
        let does = |policy: Policy, empty: bool| !empty || policy == Policy::Drop;
        let settings = chain.and_then(|chain| Some((chain.base.as_ref()?.policy, chain.rules.is_empty())));
        found.extend(settings.filter(|(policy, empty)| does(*policy, *empty)).map(|_| base.policy_ref()));
    }
    found
}

fn bases_at(ruleset: &Ruleset, family: Family, hook: Hook) -> Vec<BaseRef> {
    let units = path::hook_groups(ruleset, family, hook).into_iter().flat_map(|group| group.units);
    let of = |unit| match unit {
        Unit::Chain(base) => vec![base],
        Unit::Nat(bases) => bases,
    };
    units.flat_map(of).collect()
}

/// The packets that ask.
#[must_use]
pub fn header(query: &Query) -> Header {
    let mut header = first_header(query.protocol, query.port, CtState::NEW);
    if query.protocol.has_ports() {
        header.ends.sport = Binding::Known(query.source_port.into());
    }
    (header.original, header.reply) = (header.ends, header.ends.turned());
    let bound = |there: bool, asked: Option<u128>, open| match asked {
        _ if !there => Binding::Known(0),
        Some(number) => Binding::Known(number),
        None => Binding::Free(open),
    };
    let comes = !matches!(query.hook, Hook::Output);
    let leaves = !matches!(query.hook, Hook::Prerouting | Hook::Input);
    header.iif = bound(comes, query.iif, Dimension::InInterface);
    header.oif = bound(leaves, query.oif, Dimension::OutInterface);
    header
}

/// Packets there can be: over interfaces the host has, where those are known, and over loopback only loopback's addresses.
fn first_packets(engine: &mut Engine<'_>, query: &Query) -> Built {
    let header = header(query);
    let loopback = match engine.facts().family() {
        Family::Ipv4 => Interval { low: 0x7f00_0000, high: 0x7fff_ffff },
        _ => Interval::single(1),
    };
    let lo = interface_number(b"lo");
    let host = engine.facts().host().interfaces.as_deref().unwrap_or_default();
    let known: Vec<u128> = host.iter().map(|one| interface_number(one.name.as_bytes())).collect();
    let names = engine.layout().interfaces().names().to_vec();
    let mut start = Set::ALL;
    for (link, end) in [(header.iif, Dimension::Source), (header.oif, Dimension::Destination)] {
        let encoder = engine.encoder();
        let inside = encoder.bound_within(Binding::Free(end), &[loopback])?.certain;
        let (there, over_lo) = match link {
            Binding::Free(link) => {
                let exists =
                    |class: usize| names.get(class).is_some_and(|name| known.is_empty() || known.contains(name));
                let is_lo = |class: usize| names.get(class) == Some(&lo);
                let layout = &encoder.layout;
                (layout.of_classes(&mut encoder.bdd, link, exists)?, layout.of_classes(&mut encoder.bdd, link, is_lo)?)
            }
            Binding::Known(number) if number == lo => (Set::ALL, Set::ALL),
            _ => (Set::ALL, Set::NONE),
        };
        let bdd = engine.bdd();
        let astray = bdd.minus(over_lo, inside)?;
        let fine = bdd.minus(there, astray)?;
        start = bdd.and(start, fine)?;
    }
    Ok(start)
}

/// Conditions that decide about pairs which only one bound accepts.
fn reasons(engine: &mut Engine<'_>, query: &Query, pairs: &Pairs) -> Built<Vec<Question>> {
    // which interface a packet takes is a choice, not a doubt
    let links = [Dimension::InInterface, Dimension::OutInterface];
    let hidden = engine.hidden(&[Dimension::Source, Dimension::Destination, links[0], links[1]]);
    let doubt = engine.bdd().minus(pairs.may, pairs.must)?;
    let start = engine.bdd().and(pairs.start, doubt)?;
    engine.questions(query.way, header(query), start, hidden, MAX_REASONS)
}

/// The classes of a set of pairs, and the pairs of classes in it.
///
/// # Errors
/// When they are too many.
pub fn classes(engine: &Engine<'_>, set: Set) -> Result<Classes, TooBig> {
    let (bdd, layout) = (engine.bdd_ref(), engine.layout());
    let (source, width) = layout.place(Dimension::Source);
    let (destination, _) = layout.place(Dimension::Destination);
    let sources_first = source < destination;
    let (upper, lower) = match sources_first {
        true => (Dimension::Source, Dimension::Destination),
        false => (Dimension::Destination, Dimension::Source),
    };
    let mut diagrams = Diagrams::new(width, MAX_NODES);
    let (above, rests) = diagrams.by_rest(bdd, layout, set, upper)?;
    let mut all: Vec<Partition> = Vec::with_capacity(rests.len() + 1);
    for rest in &rests {
        all.push(diagrams.by_rest(bdd, layout, *rest, lower)?.0);
    }
    all.push(above);
    let partition = diagrams.all(all)?;
    let blocks = diagrams.blocks(partition, MAX_PREFIXES).ok_or(TooBig::Prefixes)?;
    let first: Vec<u128> = blocks.iter().filter_map(|blocks| blocks.first()).map(|(low, _)| *low).collect();
    let mut edges = edges(engine, set, (upper, lower), &first)?;
    if !sources_first {
        edges = edges.into_iter().map(|(above, below)| (below, above)).collect();
        edges.sort_unstable();
    }
    let mut left = MAX_PREFIXES;
    let mut classes = Vec::with_capacity(blocks.len());
    for numbers in blocks {
        let blocks = match layout.line() {
            Some(line) => of_classes(line, &numbers).into_iter().flat_map(ranges::blocks).take(left + 1).collect(),
            None => numbers,
        };
        left = left.checked_sub(blocks.len()).ok_or(TooBig::Prefixes)?;
        classes.push(blocks.into_iter().filter_map(|block| prefix(layout, block)).collect());
    }
    Ok((classes, edges))
}

/// Pairs of addresses in `set`, by their places in `addresses`; the first of the pair in the upper dimension.
fn edges(
    engine: &Engine<'_>,
    set: Set,
    (upper, lower): (Dimension, Dimension),
    addresses: &[u128],
) -> Result<Vec<(u32, u32)>, TooBig> {
    let (bdd, layout) = (engine.bdd_ref(), engine.layout());
    // addresses of which the set says the same are looked up once
    let mut known: HashMap<Set, Vec<u32>> = HashMap::new();
    let mut edges = Vec::new();
    for (from, address) in addresses.iter().enumerate() {
        if known.len() * addresses.len() > MAX_LOOKS {
            return Err(TooBig::Edges);
        }
        let rest = bdd.descend(set, layout.place(upper), *address);
        let to = known.entry(rest).or_insert_with(|| {
            let inside = |to: &u128| bdd.descend(rest, layout.place(lower), *to) == Set::ALL;
            let found = addresses.iter().enumerate().filter(|(_, to)| inside(to));
            found.map(|(number, _)| number as u32).collect()
        });
        if edges.len() + to.len() > MAX_EDGES {
            return Err(TooBig::Edges);
        }
        edges.extend(to.iter().map(|to| (from as u32, *to)));
    }
    Ok(edges)
}

fn prefix(layout: &Layout, (low, free): Block) -> Option<Prefix> {
    let width = address_width(layout.family());
    Prefix::new(address(low, layout.family()), u8::try_from(width - u32::from(free)).ok()?)
}
