//! Which packets two snapshots treat differently, exactly.
//!
//! Every packet of a way (in, out, through), a family and a conntrack state goes through both rulesets in one diagram; what
//! one drops for certain and the other accepts for certain is *gained*, the other way round *lost*. Where a condition cannot
//! be decided both rulesets get the same answers ([`crate::space::encode::Encoder::answer_alike`]): packets on which that
//! still leaves a difference for some answers are *undecided* and come with the conditions. So two rulesets that hang on the
//! same conditions in the same way are equal, however they are written.
//!
//! ```text
//! let diff = compare(&before, &after, &Wanted::default());
//! for part in &diff.parts { … part.changes … }      // Changes { gained, lost, undecided }, each a list of Piece
//! ```
//!
//! A [`Piece`] is a set with the same rules responsible on both sides: few readable [`Line`]s and one packet of it. The sets
//! speak of packets that the kernel itself would let through and routing can bring there: to an address of the host for *in*, out
//! of the interface of its route for *out*, over interfaces one of the hosts has; where the snapshots do not tell, of all.

mod lines;
mod pieces;
mod same;
mod witness;

pub use lines::{Field, Line, Values};
pub use pieces::{Cause, Condition, Piece};

use crate::analysis::reach::{Engine, HostFacts, Settings, Way, cuts, interfaces, link_cuts};
use crate::analysis::trace::blind_spots;
use crate::host::Host;
use crate::packet::{CtState, Direction, Family, Protocol};
use crate::ruleset::{Interval, Ruleset, Step, interface_number};
use crate::snapshot::Snapshot;
use crate::space::bdd::{Bdd, Built, Set, TooLarge};
use crate::space::encode::{Encoder, is_about_links};
use crate::space::header::{Binding, Header};
use crate::space::layout::{EXTENSIONS, LINK_WIDTH, STATES};
use crate::space::line;
use crate::space::{Dimension, Order, address_width};
use pieces::Sides;

/// What to compare.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The families.
    pub families: Vec<Family>,
    /// The ways.
    pub ways: Vec<Direction>,
    /// Most nodes of a diagram; a comparison that needs more has no answer.
    pub budget: usize,
    /// Most pieces of one list, and the lines they share (each gets sixteen at least).
    pub limit: usize,
}

impl Default for Wanted {
    /// Everything, in lists a person can read.
    fn default() -> Self {
        Self {
            families: vec![Family::Ipv4, Family::Ipv6],
            ways: vec![Direction::In, Direction::Out, Direction::Forward],
            budget: Bdd::BUDGET,
            limit: 200,
        }
    }
}

/// The answer.
#[derive(Clone, Debug, Default)]
pub struct Diff {
    /// Family by family, way by way.
    pub parts: Vec<Part>,
}

/// One way of one family.
#[derive(Clone, Debug)]
pub struct Part {
    /// The family.
    pub family: Family,
    /// The way.
    pub way: Direction,
    /// Why the rules of the first snapshot are not all known; empty when they are.
    pub blind_before: Vec<String>,
    /// Of the second.
    pub blind_after: Vec<String>,
    /// What changed, as far as the rules were read.
    pub changes: Result<Changes, TooLarge>,
}

/// Packets that are treated differently.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Dropped before, accepted after.
    pub gained: Vec<Piece>,
    /// Accepted before, dropped after.
    pub lost: Vec<Piece>,
    /// Possibly treated differently.
    pub undecided: Vec<Piece>,
    /// Pieces past the limit.
    pub left_out: usize,
}

impl Changes {
    /// Whether every packet is certainly treated as before.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.gained.is_empty() && self.lost.is_empty() && self.undecided.is_empty()
    }
}

impl Part {
    /// Whether all rules were read and every packet is decided.
    #[must_use]
    pub fn is_certain(&self) -> bool {
        let decided = self.changes.as_ref().is_ok_and(|changes| changes.undecided.is_empty());
        self.blind_before.is_empty() && self.blind_after.is_empty() && decided
    }

    /// Whether some packets are certainly treated differently.
    #[must_use]
    pub fn is_different(&self) -> bool {
        self.changes.as_ref().is_ok_and(|changes| !(changes.gained.is_empty() && changes.lost.is_empty()))
    }
}

/// Compares what `before` and `after` do with every packet.
#[must_use]
pub fn compare(before: &Snapshot, after: &Snapshot, wanted: &Wanted) -> Diff {
    let mut diff = Diff::default();
    let same = same::same(before, after);
    for family in &wanted.families {
        if same {
            let ways = wanted.ways.iter();
            diff.parts.extend(ways.map(|way| part(before, after, *family, *way, Ok(Changes::default()))));
            continue;
        }
        // host chains pair ports with large sets, forwarding pairs addresses: each in the order that suits it
        // answers about link-layer addresses stand behind the source they guard in one order only
        let links = [before, after].into_iter().any(|snapshot| asks_links(&snapshot.ruleset));
        let (first, second) = if links { (Order::Forward, Order::Host) } else { (Order::Host, Order::Forward) };
        let groups: [(&[Direction], Order, Order); 2] =
            [(&[Direction::In, Direction::Out], first, second), (&[Direction::Forward], Order::Forward, Order::Host)];
        for (ways, first, second) in groups {
            let ways: Vec<Direction> = ways.iter().copied().filter(|way| wanted.ways.contains(way)).collect();
            let comparison = Comparison::new(before, after, *family, wanted);
            match comparison.answer(&ways, first).or_else(|_| comparison.answer(&ways, second)) {
                Ok(changes) => {
                    diff.parts.extend(
                        ways.iter().zip(changes).map(|(way, changes)| part(before, after, *family, *way, Ok(changes))),
                    );
                }
                Err(too_large) => {
                    diff.parts.extend(ways.iter().map(|way| part(before, after, *family, *way, Err(too_large))));
                }
            }
        }
    }
    diff
}

/// Whether some rule asks for addresses of the link layer.
fn asks_links(ruleset: &Ruleset) -> bool {
    let rules = ruleset.tables.iter().flat_map(|table| &table.chains).flat_map(|chain| &chain.rules);
    rules.flat_map(|rule| &rule.steps).any(|step| matches!(step, Step::Match(condition) if is_about_links(condition)))
}

fn part(
    before: &Snapshot,
    after: &Snapshot,
    family: Family,
    way: Direction,
    changes: Result<Changes, TooLarge>,
) -> Part {
    let (blind_before, blind_after) = (blind_spots(before, family), blind_spots(after, family));
    Part { family, way, blind_before, blind_after, changes }
}

/// What both rulesets may do with the packets of one question.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Both {
    accepted: [Set; 2],
    refused: [Set; 2],
}

/// Sets of changes of one state, in terms of packets.
#[derive(Clone, Debug)]
struct Found {
    way: Direction,
    state: usize,
    header: Header,
    gained: Set,
    lost: Set,
    undecided: Set,
}

/// Two snapshots side by side.
struct Comparison<'s> {
    snapshots: [&'s Snapshot; 2],
    facts: [HostFacts<'s>; 2],
    family: Family,
    wanted: &'s Wanted,
}

impl<'s> Comparison<'s> {
    fn new(before: &'s Snapshot, after: &'s Snapshot, family: Family, wanted: &'s Wanted) -> Self {
        let facts = [HostFacts::new(&before.host, family), HostFacts::new(&after.host, family)];
        Self { snapshots: [before, after], facts, family, wanted }
    }

    /// The changes of each way, on the line of addresses as both rulesets, both hosts and the examples cut it.
    fn answer(&self, ways: &[Direction], order: Order) -> Built<Vec<Changes>> {
        let [mut all, after] = [0, 1].map(|at| cuts(&self.snapshots[at].ruleset, &self.facts[at]));
        all.extend(&after);
        witness::addresses(self).into_iter().for_each(|one| all.set(&[one]));
        let [mut links, after] = [0, 1].map(|at| link_cuts(&self.snapshots[at].ruleset));
        links.extend(&after);
        if !links.is_empty() {
            links.set(&[witness::LINK]);
        }
        line::exactly(LINK_WIDTH.into(), links, |links| {
            line::exactly(address_width(self.family), all.clone(), |line| self.run(ways, order, [line, links]))
        })
    }

    /// The changes of each way.
    fn run(&self, ways: &[Direction], order: Order, lines: [Option<&line::Line>; 2]) -> Built<Vec<Changes>> {
        if ways.is_empty() {
            return Ok(Vec::new());
        }
        let [before, after] = self.snapshots;
        let [facts_before, facts_after] = &self.facts;
        let known = interfaces(&[&before.ruleset, &after.ruleset], &both_hosts(&before.host, &after.host));
        let [line, links] = lines.map(Option::<&line::Line>::cloned);
        let settings = Settings { order, budget: self.wanted.budget, interfaces: Some(known), line, links };
        let questions: Vec<(Direction, usize, Header)> = ways
            .iter()
            .flat_map(|way| STATES.iter().enumerate().map(|(number, state)| (*way, number, header(*way, *state))))
            .collect();
        // without any rule the kernel alone decides
        let none = Ruleset::default();
        let mut engines = Engines::new(
            [
                (&before.ruleset, facts_before),
                (&after.ruleset, facts_after),
                (&none, facts_before),
                (&none, facts_after),
            ],
            &settings,
        );
        let (mut sides, mut real_of) = (Vec::new(), vec![Set::NONE; ways.len()]);
        for (about, (way, state, header)) in questions.into_iter().enumerate() {
            let first = walked(engines.at(BEFORE, about), way, &header)?;
            let second = walked(engines.at(AFTER, about), way, &header)?;
            let passed = [BARE_BEFORE, BARE_AFTER].map(|which| walked(engines.at(which, about), way, &header));
            if lines.into_iter().flatten().any(|line| !line.is_exact()) {
                // nothing of it counts: it is asked again
                return Ok(Vec::new());
            }
            let engine = engines.at(AFTER, about);
            let [passed, other] = passed;
            let passed = engine.bdd().or(passed?.0, other?.0)?;
            let both = Both { accepted: [first.0, second.0], refused: [first.1, second.1] };
            let mut one = differences(engine, both)?;
            let real = self.real(engine, way)?;
            let real = engine.bdd().and(real, passed)?;
            let real = engine.in_its_state(&header, real)?;
            let variables: Vec<u16> = engine.layout().variables(Dimension::Question).collect();
            let group = engine.bdd().group(variables);
            let real = engine.bdd().exists(real, group)?;
            let encoder = engine.encoder();
            let of_state = encoder.layout.of_classes(&mut encoder.bdd, Dimension::State, |one| one == state)?;
            let stated = encoder.bdd.and(real, of_state)?;
            for (_, all) in ways.iter().zip(&mut real_of).filter(|(one, _)| **one == way) {
                *all = encoder.bdd.or(*all, stated)?;
            }
            for set in &mut one {
                *set = engine.bdd().and(*set, real)?;
            }
            let [gained, lost, undecided] = one;
            if one != [Set::NONE; 3] {
                let found = Found { way, state, header, gained, lost, undecided };
                let after = pieces::told(engine, &found, false)?;
                let before = pieces::told(engines.at(BEFORE, about), &found, true)?;
                sides.push(Sides { found, before, after });
            }
        }
        let engine = engines.shared();
        let mut all = Vec::with_capacity(ways.len());
        for (way, real) in ways.iter().zip(real_of) {
            all.push(pieces::changes(engine, self, *way, &sides, real)?);
        }
        Ok(all)
    }

    /// Packets that routing of one of the snapshots can bring this way; all where neither tells.
    fn real(&self, engine: &mut Engine<'_>, way: Direction) -> Built {
        let mut real = Set::NONE;
        for (facts, snapshot) in self.facts.iter().zip(self.snapshots) {
            let one = match snapshot.host.routes {
                None => continue,
                Some(_) => routed(engine, facts, way)?,
            };
            real = engine.bdd().or(real, one)?;
        }
        let mut real = if real.is_empty() { Set::ALL } else { real };
        // connection tracking has put fragments together
        let encoder = engine.encoder();
        let whole = |class: usize| EXTENSIONS.get(class) != Some(&Some(Protocol(44)));
        let whole = encoder.layout.of_classes(&mut encoder.bdd, Dimension::Extension, whole)?;
        real = encoder.bdd.and(real, whole)?;
        if way == Direction::Forward {
            // what goes over loopback stays on this host
            let lo = [Interval::single(interface_number(b"lo"))];
            for dimension in [Dimension::InInterface, Dimension::OutInterface] {
                let over = engine.encoder().bound_within(Binding::Free(dimension), &lo)?.certain;
                real = engine.bdd().minus(real, over)?;
            }
        }
        if self.snapshots.iter().any(|snapshot| snapshot.host.interfaces.is_none()) {
            return Ok(real);
        }
        // over interfaces that one of the hosts has
        let known = engine.layout().interfaces().clone();
        let encoder = engine.encoder();
        let exists = |number: usize| known.is_known(number);
        let by = |encoder: &mut Encoder<'_>, dimension| encoder.layout.of_classes(&mut encoder.bdd, dimension, exists);
        let (into, from) = (by(encoder, Dimension::InInterface)?, by(encoder, Dimension::OutInterface)?);
        let over = match way {
            Direction::In => into,
            Direction::Out => from,
            Direction::Forward => encoder.bdd.and(into, from)?,
        };
        encoder.bdd.and(real, over)
    }
}

/// Packets that a host's routing sends this way.
fn routed(engine: &mut Engine<'_>, facts: &HostFacts<'_>, way: Direction) -> Built {
    let local = facts.local();
    let here = engine.encoder().bound_within(Binding::Free(Dimension::Destination), &local)?.certain;
    match way {
        Direction::In => Ok(here),
        Direction::Forward => {
            let by = engine.routes_of(facts, None)?;
            engine.bdd().minus(by, here)
        }
        Direction::Out => engine.routes_of(facts, Some(interface_number(b"lo"))),
    }
}

/// Interfaces of both hosts, so that one layout knows them all.
fn both_hosts(before: &Host, after: &Host) -> Host {
    let interfaces = before.interfaces.iter().chain(&after.interfaces).flatten().cloned().collect();
    Host { interfaces: Some(interfaces), ..Host::default() }
}

/// The packets of one way and state, with everything open that a packet can have.
fn header(way: Direction, state: CtState) -> Header {
    let mut header = Header::open().in_state(state);
    header.packet_type = Binding::Free(Dimension::PacketType);
    header.link_source = Binding::Free(Dimension::SourceLink);
    header.link_destination = Binding::Free(Dimension::DestinationLink);
    let none = Binding::Known(0);
    (header.iif, header.oif) = match way {
        Direction::In => (Binding::Free(Dimension::InInterface), none),
        Direction::Out => (none, Binding::Free(Dimension::OutInterface)),
        Direction::Forward => (Binding::Free(Dimension::InInterface), Binding::Free(Dimension::OutInterface)),
    };
    if way != Direction::Out {
        (header.user, header.user_group) = (Binding::Unknown, Binding::Unknown);
    }
    header
}

fn way(direction: Direction) -> Way {
    match direction {
        Direction::In => Way::In,
        Direction::Out => Way::Out,
        Direction::Forward => Way::Forward,
    }
}

/// What may be accepted and what refused.
fn walked(engine: &mut Engine<'_>, direction: Direction, header: &Header) -> Built<(Set, Set)> {
    let verdicts = engine.walk(way(direction), header.clone(), Set::ALL)?;
    Ok((verdicts.accepted, verdicts.refused))
}

/// Places in [`Engines`].
const BEFORE: usize = 0;
const AFTER: usize = 1;
const BARE_BEFORE: usize = 2;
const BARE_AFTER: usize = 3;

/// Engines that take turns with one diagram; each keeps what it has summed up.
struct Engines<'a> {
    all: Vec<Engine<'a>>,
    /// The one whose turn it is.
    turn: usize,
}

impl<'a> Engines<'a> {
    fn new<const N: usize>(sides: [(&'a Ruleset, &'a HostFacts<'a>); N], settings: &Settings) -> Self {
        let all = sides.map(|(ruleset, facts)| {
            let mut engine = Engine::new(ruleset, facts, settings);
            engine.encoder().answer_alike();
            engine
        });
        Self { all: all.into(), turn: BEFORE }
    }

    /// The engine at a place, with the diagram, for packets number `about`.
    fn at(&mut self, which: usize, about: usize) -> &mut Engine<'a> {
        if let Ok([from, to]) = self.all.get_disjoint_mut([self.turn, which]) {
            from.pass_on(to);
            self.turn = which;
        }
        let engine = self.shared();
        engine.ask_about(about);
        engine
    }

    /// The engine whose turn it is.
    fn shared(&mut self) -> &mut Engine<'a> {
        &mut self.all[self.turn]
    }
}

/// Packets gained, lost and undecided.
fn differences(engine: &mut Engine<'_>, both: Both) -> Built<[Set; 3]> {
    let Both { accepted, refused } = both;
    let [accepted_before, accepted_after] = accepted;
    let [refused_before, refused_after] = refused;
    let variables: Vec<u16> = engine.layout().variables(Dimension::Question).collect();
    let bdd = engine.bdd();
    let questions = bdd.group(variables);
    // whatever the answers are
    let in_before = bdd.minus(accepted_before, refused_before)?;
    let out_before = bdd.minus(refused_before, accepted_before)?;
    let in_after = bdd.minus(accepted_after, refused_after)?;
    let out_after = bdd.minus(refused_after, accepted_after)?;
    let gained = bdd.and(out_before, in_after)?;
    let lost = bdd.and(in_before, out_after)?;
    let (gained, lost) = (bdd.for_all(gained, questions)?, bdd.for_all(lost, questions)?);
    let may_gain = bdd.and(refused_before, accepted_after)?;
    let may_lose = bdd.and(accepted_before, refused_after)?;
    let may = bdd.or(may_gain, may_lose)?;
    let may = bdd.exists(may, questions)?;
    let decided = bdd.or(gained, lost)?;
    Ok([gained, lost, bdd.minus(may, decided)?])
}

/// Addresses of this host in a family, for examples.
fn own_addresses(host: &Host, family: Family) -> Vec<Interval> {
    let interfaces = host.interfaces.iter().flatten().filter(|interface| !interface.loopback);
    let addresses = interfaces.flat_map(|interface| &interface.addresses).map(|own| own.address);
    let own = addresses.filter(|address| address.is_ipv4() == (family == Family::Ipv4));
    own.map(|address| Interval::single(crate::packet::address_bits(address))).collect()
}
