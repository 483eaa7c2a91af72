//! All packets at once: what the rules let through, as sets.
//!
//! [`Engine`] leads every packet of a [`Header`] through the hooks of one ruleset on one host and says which may get through
//! and which may not ([`Verdicts`]); packets that are in both cannot be decided. [`conversation`] asks it about peers: who
//! gets not just a first packet but an answer. It shares the model and the host's facts with [`super::trace`], and no
//! evaluation: each answer of one engine is replayed in the other by the tests.
//!
//! ```text
//! let facts = HostFacts::new(&snapshot.host, Family::Ipv4);
//! let mut engine = Engine::new(&snapshot.ruleset, &facts, &Settings::default());
//! let verdicts = engine.walk(Way::In, Header::open(), Set::ALL)?;   // Set: any set of engine.bdd()
//! ```
//!
//! **Not judged.** Of what the IP stack refuses by itself, sources are judged here (martians, `rp_filter`; where no settings
//! were read, nothing is filtered). A used up TTL, forwarding that is off and groups that were not joined are the trace's to
//! tell: a packet these sets let through may still meet them.
//!
//! **Unknown** is never a guess: a rule that cannot be decided sends packets both ways; deterministic properties keep one
//! answer (variables of [`Dimension::Question`]). [`Engine::hidden`] names the variables nobody asks about; quantify them
//! before showing a set.

pub mod again;
mod chains;
pub mod conversation;
mod cuts;
mod doubt;
mod drive;
mod facts;
mod interfaces;
mod masters;
mod nat;
mod notes;
mod offload;
pub mod passages;
pub mod peers;
mod reasons;
mod runs;
mod sources;
mod tracking;
mod walk;

pub use cuts::{cuts, link_cuts};
pub use facts::HostFacts;
pub use interfaces::interfaces;
pub use notes::Decision;

use crate::packet::Hook;
use crate::ruleset::{RuleRef, Ruleset};
use crate::space::bdd::{Bdd, Built, Group, Set};
use crate::space::encode::Encoder;
use crate::space::header::Header;
use crate::space::line::Line;
use crate::space::quick::QuickMap;
use crate::space::{Dimension, Interfaces, Layout, Order};
use chains::Passed;
use drive::{Drive, Hooks};
use notes::{Asked, Notes};
use walk::{Flow, Walk};

/// Which way packets go.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Way {
    /// From a device to this host.
    In,
    /// From this host.
    Out,
    /// From a device through this host.
    Forward,
    /// Just this hook.
    At(Hook),
    /// Just one chain, as packets at `hook` meet it: a base chain with its policy; what returns from another cannot be decided.
    Chain {
        /// Index of its table.
        table: usize,
        /// Its index in the table.
        chain: usize,
        /// The hook.
        hook: Hook,
    },
}

/// How an engine is built.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Order of the variables.
    pub order: Order,
    /// Most nodes.
    pub budget: usize,
    /// Interfaces told apart; `None`: as ruleset and host need it. Engines whose sets are compared need the same.
    pub interfaces: Option<Interfaces>,
    /// Addresses by the classes of a line; its verdict says whether answers count.
    pub line: Option<Line>,
    /// Link-layer addresses likewise.
    pub links: Option<Line>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { order: Order::Host, budget: Bdd::BUDGET, interfaces: None, line: None, links: None }
    }
}

/// What may happen to packets, in terms of the packets as they were sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verdicts {
    /// May get through.
    pub accepted: Set,
    /// May be dropped or rejected.
    pub refused: Set,
    /// Of both: nobody knows where they end.
    pub lost: Set,
    /// Those that may get through by the header they end with.
    pub ends: Vec<(Header, Set)>,
}

/// A condition that could not be decided.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Question {
    /// The rule that asked; `None` when the path itself is in doubt.
    pub rule: Option<RuleRef>,
    /// Why, in words; may hold text of the ruleset.
    pub reason: String,
    /// The packets it was asked for.
    pub set: Set,
}

/// What decided about packets.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Account {
    /// Packets let through and what let them; `None` when no base chain saw them.
    pub admitted: Vec<(Option<Decision>, Set)>,
    /// Packets refused and by what.
    pub refused: Vec<(Decision, Set)>,
    /// Packets the kernel itself refused, and why.
    pub stopped: Vec<(String, Set)>,
    /// What could not be decided, in the order it was met.
    pub questions: Vec<Question>,
}

/// A ruleset on a host, ready for sets of packets.
pub struct Engine<'a> {
    walk: Walk<'a>,
    hooks: Hooks,
}

impl<'a> Engine<'a> {
    /// Makes everything ready that does not depend on the packets. The family is the facts'.
    #[must_use]
    pub fn new(ruleset: &'a Ruleset, facts: &'a HostFacts<'a>, settings: &Settings) -> Self {
        let names = settings.interfaces.clone().unwrap_or_else(|| interfaces(&[ruleset], facts.host()));
        let (line, links) = (settings.line.clone(), settings.links.clone());
        let layout = Layout::on_line(facts.family(), settings.order, names, line, links);
        let encoder = Encoder::new(Bdd::new(settings.budget), layout, ruleset, facts);
        Self { walk: Walk::new(encoder, facts), hooks: Hooks::new(ruleset, facts) }
    }

    /// The same for another ruleset, in the same diagram: sets of both can be compared. `interfaces` in the settings of the
    /// first must have known both.
    #[must_use]
    pub fn beside<'b>(self, ruleset: &'b Ruleset, facts: &'b HostFacts<'b>) -> Engine<'b> {
        let encoder = self.walk.encoder.beside(ruleset, facts);
        Engine { walk: Walk::new(encoder, facts), hooks: Hooks::new(ruleset, facts) }
    }

    /// Hands the diagram to an engine made with the same settings, which has none of its own sets yet or had the diagram before:
    /// sets of both can be compared, and each keeps what it has summed up. This one waits until it gets the diagram back.
    pub fn pass_on(&mut self, other: &mut Engine<'_>) {
        self.walk.encoder.pass_on(&mut other.walk.encoder);
    }

    /// Does `work` with copies of `sets` in a small diagram of their own, which stays in the processor's caches where the large
    /// one does not. Sets mean nothing on the other side, in and out; `work` must not walk.
    pub(crate) fn aside<const N: usize, T>(
        &mut self,
        sets: [Set; N],
        work: impl FnOnce(&mut Self, [Set; N]) -> Built<T>,
    ) -> Built<T> {
        let mut small = Encoder::new(
            Bdd::new(self.bdd_ref().budget()),
            self.layout().clone(),
            self.walk.encoder.ruleset(),
            self.walk.facts,
        );
        let (mut copies, mut known) = ([Set::NONE; N], QuickMap::default());
        for (copy, set) in copies.iter_mut().zip(sets) {
            *copy = small.bdd.copied(self.bdd_ref(), set, &mut known)?;
        }
        std::mem::swap(&mut self.walk.encoder, &mut small);
        let done = work(self, copies);
        self.walk.encoder = small;
        done
    }

    /// From now on packets number `about` are walked: their sets are never compared with those of other numbers, so that
    /// undecidable conditions may share variables ([`Encoder::ask_about`]).
    pub fn ask_about(&mut self, about: usize) {
        if self.walk.encoder.about() == about {
            return;
        }
        if self.walk.encoder.has_asked() {
            self.walk.summaries.clear();
            self.walk.parts.clear();
        }
        self.walk.encoder.ask_about(about);
    }

    /// The diagram.
    pub fn bdd(&mut self) -> &mut Bdd {
        &mut self.walk.encoder.bdd
    }

    /// The host's facts.
    #[must_use]
    pub fn facts(&self) -> &'a HostFacts<'a> {
        self.walk.facts
    }

    /// The diagram, to look at.
    #[must_use]
    pub fn bdd_ref(&self) -> &Bdd {
        &self.walk.encoder.bdd
    }

    /// Its variables.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.walk.encoder.layout
    }

    /// Diagram and encoder, to make sets of conditions and bindings.
    pub fn encoder(&mut self) -> &mut Encoder<'a> {
        &mut self.walk.encoder
    }

    /// All variables but those of the dimensions `shown`.
    pub fn hidden(&mut self, shown: &[Dimension]) -> Group {
        let layout = &self.walk.encoder.layout;
        let dimensions: Vec<Dimension> = layout.dimensions().filter(|one| !shown.contains(one)).collect();
        let variables: Vec<u16> = dimensions.into_iter().flat_map(|one| layout.variables(one)).collect();
        self.walk.encoder.bdd.group(variables)
    }

    /// Leads the packets of `start` that look like `header` on their way.
    ///
    /// # Errors
    /// When the node budget is used up.
    pub fn walk(&mut self, way: Way, header: Header, start: Set) -> Built<Verdicts> {
        let (left, ended) = self.drive(way, header, start)?;
        let alike = self.walk.encoder.answers_alike();
        let bdd = &mut self.walk.encoder.bdd;
        let accepted = bdd.union(left.iter().map(|flow| flow.set))?;
        let accepted = bdd.or(accepted, ended.lost)?;
        // where every doubt has an answer the walk has told the two apart
        let refused = if alike { ended.refused } else { bdd.or(ended.refused, ended.lost)? };
        let ends = left.iter().map(|flow| (self.walk.header(flow.header), flow.set)).collect();
        Ok(Verdicts { accepted, refused, lost: ended.lost, ends })
    }

    /// Those of `start` that may get through: what [`Self::walk`] calls accepted, without the work for what is refused.
    ///
    /// # Errors
    /// When the node budget is used up.
    pub fn accepted(&mut self, way: Way, header: Header, start: Set) -> Built {
        // what a flowtable holds passes rules that would refuse it
        self.walk.refusals = !self.hooks.offloads.is_empty();
        let driven = self.drive(way, header, start);
        self.walk.refusals = true;
        let (left, ended) = driven?;
        let bdd = &mut self.walk.encoder.bdd;
        let accepted = bdd.union(left.iter().map(|flow| flow.set))?;
        bdd.or(accepted, ended.lost)
    }

    /// Those of `start` that connection tracking really gives the state of `header`: a TCP packet with impossible flags is
    /// invalid whatever its connection.
    ///
    /// # Errors
    /// When the node budget is used up.
    pub fn in_its_state(&mut self, header: &Header, start: Set) -> Built {
        let parts = self.walk.corrected(header.clone(), start)?;
        let own = parts.into_iter().filter(|(found, _)| found.state == header.state);
        self.walk.encoder.bdd.union(own.map(|(_, set)| set).collect::<Vec<_>>())
    }

    fn drive(&mut self, way: Way, header: Header, start: Set) -> Built<(Vec<Flow>, Passed)> {
        if start.is_empty() {
            return Ok((Vec::new(), Passed::nothing()));
        }
        let tag = self.walk.no_tag();
        let parts = self.walk.corrected(header, start)?;
        let flows =
            parts.into_iter().map(|(header, set)| Flow { header: self.walk.number(header), tag, set }).collect();
        let mut drive = Drive { walk: &mut self.walk, hooks: &self.hooks, ended: Passed::nothing() };
        let left = match way {
            Way::In => drive.arriving(flows, true)?,
            Way::Forward => drive.arriving(flows, false)?,
            Way::Out => drive.leaving(flows)?,
            Way::At(hook) => drive.only(hook, flows)?,
            Way::Chain { table, chain, hook } => drive.alone(table, chain, hook, flows)?,
        };
        Ok((left, drive.ended))
    }

    /// Follows the packets of `start` rule by rule and notes what decides. `hidden`: variables nobody asks about; what
    /// depends on them counts as undecided.
    ///
    /// # Errors
    /// When the node budget is used up.
    pub fn follow(&mut self, way: Way, header: Header, start: Set, hidden: Group) -> Built<Account> {
        self.account(way, header, start, Notes::new(hidden, None))
    }

    /// The first `most` conditions that could not be decided about the packets of `start`, in the order they are met; where
    /// there are more, their sets need not be whole. Like [`Self::follow`], but rules that leave nothing open are passed over
    /// without a closer look.
    ///
    /// # Errors
    /// When the node budget is used up.
    pub fn questions(
        &mut self,
        way: Way,
        header: Header,
        start: Set,
        hidden: Group,
        most: usize,
    ) -> Built<Vec<Question>> {
        let mut questions = self.account(way, header, start, Notes::new(hidden, Some(most)))?.questions;
        questions.truncate(most);
        Ok(questions)
    }

    fn account(&mut self, way: Way, header: Header, start: Set, mut notes: Notes) -> Built<Account> {
        // what a flowtable holds passes rules that would refuse it
        notes.joins = !self.hooks.offloads.is_empty();
        self.walk.notes = Some(notes);
        let driven = self.drive(way, header, start);
        let notes = self.walk.notes.take();
        let (left, _) = driven?;
        let Some(notes) = notes else { return Ok(Account::default()) };
        let mut account =
            Account { refused: notes.refusals.clone(), stopped: notes.stopped.clone(), ..Account::default() };
        for flow in left {
            account.admitted.push((notes.of(flow.tag).decided.map(|(_, decision)| decision), flow.set));
        }
        for Asked { rule, words, set } in notes.questions {
            match account.questions.iter_mut().find(|known| known.rule == rule && known.reason == words) {
                Some(known) => known.set = self.walk.encoder.bdd.or(known.set, set)?,
                None => account.questions.push(Question { rule, reason: words, set }),
            }
        }
        Ok(account)
    }
}
