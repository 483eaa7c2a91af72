//! A conversation's sets told as people ask for them: which peers, over which interfaces, to which addresses, and why.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::conversation::{Conversation, Question};
use super::{Decision, Engine, HostFacts, Settings, cuts};
use crate::packet::Prefix;
use crate::ruleset::{Interval, RuleRef, Ruleset, interface_number};
use crate::space::bdd::{Built, Set, TooLarge};
use crate::space::describe::{self, Listing};
use crate::space::header::Binding;
use crate::space::{Dimension, Order, address_width, line};

/// Prefixes listed of one set of peers.
pub const MAX_PREFIXES: usize = 10_000;
/// Pairs of interface and address told apart.
const MAX_PAIRS: usize = 4096;
/// Open questions that tell groups of peers apart.
const MAX_REASONS: usize = 24;

/// Interfaces and addresses of this host that behave alike, and who gets a conversation there.
#[derive(Clone, Debug)]
pub struct Part {
    /// Names of the interfaces; empty: all there are.
    pub interfaces: Vec<String>,
    /// Addresses of this host; empty: all there are, or not known.
    pub addresses: Vec<IpAddr>,
    /// Peers that get one for certain.
    pub allowed: Listing<Prefix>,
    /// Peers that certainly get none.
    pub denied: Listing<Prefix>,
    /// Peers for which it cannot be decided.
    pub unknown: Vec<Doubt>,
    /// What lets the packets through and what stops them; empty where nobody asked.
    pub causes: Vec<Cause>,
}

/// Peers whose conversation hangs on the same conditions.
#[derive(Clone, Debug)]
pub struct Doubt {
    /// The peers.
    pub peers: Listing<Prefix>,
    /// The conditions: the rule, when it is one, and why it cannot be decided.
    pub because: Vec<(Option<RuleRef>, String)>,
}

/// A decision about one packet of the conversation.
#[derive(Clone, Debug)]
pub struct Cause {
    /// Which packet.
    pub packet: &'static str,
    /// Whether it was let through.
    pub admitted: bool,
    /// What decided; `None` when no chain saw the packet, or the kernel itself refused it.
    pub decision: Option<Decision>,
    /// Why the kernel itself refused it.
    pub kernel: Option<String>,
    /// For these peers.
    pub peers: Listing<Prefix>,
}

/// What to tell.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    /// Only these peers.
    pub from: Option<Prefix>,
    /// What decides, too.
    pub explain: bool,
}

/// The whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Over all interfaces and addresses of this host: allowed where there is a way, denied where there is none.
    pub all: Part,
    /// Interfaces and addresses that behave alike, the part with most of them first; just one when all do.
    pub parts: Vec<Part>,
    /// Addresses no link has a peer at (own, loopback, groups, broadcast): the lists run across them.
    pub aside: Listing<Prefix>,
}

/// Answers a question about a ruleset on a host; where one order of variables is too large, the other is tried.
///
/// # Errors
/// When the node budget is used up in both.
pub fn answer(
    ruleset: &Ruleset,
    facts: &HostFacts<'_>,
    question: &Question,
    wanted: Wanted,
) -> Result<Answer, TooLarge> {
    let mut cuts = cuts(ruleset, facts);
    if let Some((low, high)) = wanted.from.map(Prefix::range) {
        cuts.set(&[Interval { low, high }]);
    }
    line::exactly(address_width(facts.family()), cuts, |line| {
        let with = |order| {
            let settings = Settings { order, line: line.cloned(), ..Settings::default() };
            let mut engine = Engine::new(ruleset, facts, &settings);
            let talk = engine.conversation(question)?;
            engine.told(&talk, wanted)
        };
        with(Order::Host).or_else(|_| with(Order::Forward))
    })
}

/// One kind of behaviour: may get a conversation, may not.
type Behaviour = (Set, Set);

impl Engine<'_> {
    /// Tells a conversation in people's terms.
    ///
    /// # Errors
    /// When the node budget is used up.
    pub fn told(&mut self, talk: &Conversation, wanted: Wanted) -> Built<Answer> {
        let aside = self.no_peers(talk.peer)?;
        let asked = match wanted.from {
            None => Set::ALL,
            Some(prefix) => {
                let (low, high) = prefix.range();
                self.encoder().bound_within(Binding::Free(talk.peer), &[Interval { low, high }])?.certain
            }
        };
        let mut alike: Vec<(Behaviour, Vec<Place>)> = Vec::new();
        for place in self.places(talk)? {
            let (allowed, refused) = (self.at(talk, talk.allowed, &place)?, self.at(talk, talk.refused, &place)?);
            let behaviour = (self.bdd().minus(allowed, aside)?, self.bdd().minus(refused, aside)?);
            // an interface that leads to none of the peers has no say
            if behaviour == (Set::NONE, Set::NONE) {
                continue;
            }
            match alike.iter_mut().find(|(known, _)| *known == behaviour) {
                Some((_, places)) => places.push(place),
                None => alike.push((behaviour, vec![place])),
            }
        }
        alike.sort_by_key(|(_, places)| std::cmp::Reverse(places.len()));
        let (mut way, mut no_way) = (Set::NONE, Set::NONE);
        for ((allowed, refused), _) in &alike {
            let bdd = self.bdd();
            let certainly = bdd.minus(*allowed, *refused)?;
            way = bdd.or(way, certainly)?;
            no_way = bdd.or(no_way, *allowed)?;
        }
        let any = self.bdd().union(alike.iter().map(|((_, refused), _)| *refused))?;
        let no_way = self.bdd().minus(any, no_way)?;
        let mut all = self.part(talk, (!no_way, !way), (asked, aside))?;
        let mut parts = Vec::new();
        let single = alike.len() == 1;
        for ((allowed, refused), places) in alike {
            let mut part = self.part(talk, (allowed, refused), (asked, aside))?;
            let Some(place) = places.first() else { continue };
            let unknown = self.bdd().and(allowed, refused)?;
            let unknown = self.bdd().and(unknown, asked)?;
            part.unknown = self.doubts(talk, place, unknown, aside)?;
            let undecided = self.bdd().minus(unknown, way)?;
            all.unknown.extend(self.doubts(talk, place, undecided, aside)?);
            if wanted.explain {
                part.causes = self.causes(talk, place, asked, aside)?;
            }
            if single {
                parts.push(part);
                break;
            }
            for (interfaces, addresses) in rectangles(&places) {
                parts.push(Part { interfaces, addresses, ..part.clone() });
            }
        }
        let aside = self.listed(talk.peer, aside, asked, Set::NONE)?;
        Ok(Answer { all, parts, aside })
    }

    fn part(&mut self, talk: &Conversation, (allowed, refused): Behaviour, (asked, aside): (Set, Set)) -> Built<Part> {
        let certainly = self.bdd().minus(allowed, refused)?;
        let denied = self.bdd().minus(refused, allowed)?;
        Ok(Part {
            interfaces: Vec::new(),
            addresses: Vec::new(),
            allowed: self.listed(talk.peer, certainly, asked, aside)?,
            denied: self.listed(talk.peer, denied, asked, aside)?,
            unknown: Vec::new(),
            causes: Vec::new(),
        })
    }

    /// Peers in `set` among those asked for, as few prefixes; those put aside may be in it or not.
    fn listed(&mut self, peer: Dimension, set: Set, asked: Set, aside: Set) -> Built<Listing<Prefix>> {
        let bdd = self.bdd();
        let may = bdd.or(set, aside)?;
        let may = bdd.and(may, asked)?;
        let must = bdd.minus(may, aside)?;
        Ok(describe::prefixes(self.bdd_ref(), self.layout(), (must, may), peer, MAX_PREFIXES))
    }

    /// Pairs of interface and own address worth telling apart.
    fn places(&mut self, talk: &Conversation) -> Built<Vec<Place>> {
        let names = self.layout().interfaces().names().to_vec();
        let links: Vec<usize> = (0..names.len()).filter(|class| self.is_link(*class)).collect();
        let own = self.own_addresses();
        let together = own.is_empty() || own.len() * links.len() > MAX_PAIRS;
        let own: Vec<Option<u128>> = if together { vec![None] } else { own.iter().map(|one| Some(one.low)).collect() };
        let mut places = Vec::new();
        for &class in &links {
            for address in &own {
                let encoder = self.encoder();
                let mut set = encoder.layout.of_classes(&mut encoder.bdd, talk.interface, |number| number == class)?;
                if let Some(number) = address {
                    let of = encoder.bound_within(Binding::Free(talk.own), &[Interval::single(*number)])?;
                    set = encoder.bdd.and(set, of.certain)?;
                }
                places.push(Place {
                    interface: self.interface_words(class),
                    address: address.map(|number| describe::address(number, self.layout().family())),
                    set,
                });
            }
        }
        Ok(places)
    }

    /// Whether a class of interfaces leads to other hosts.
    fn is_link(&self, class: usize) -> bool {
        let Some(&name) = self.layout().interfaces().names().get(class) else { return false };
        match &self.facts().host().interfaces {
            Some(all) => {
                let found = all.iter().find(|one| interface_number(one.name.as_bytes()) == name);
                found.is_some_and(|one| !one.loopback)
            }
            None => name != interface_number(b"lo"),
        }
    }

    /// A class of interfaces in words.
    #[must_use]
    pub fn interface_words(&self, class: usize) -> String {
        let interfaces = self.layout().interfaces();
        let name = interfaces.names().get(class).copied().unwrap_or_default().to_be_bytes();
        let name: Vec<u8> = name.into_iter().take_while(|byte| *byte != 0).collect();
        let name = String::from_utf8_lossy(&name).into_owned();
        if interfaces.is_named(class) { name } else { format!("others like {name}") }
    }

    /// A set of the conversation at one place, in terms of peers.
    fn at(&mut self, talk: &Conversation, set: Set, place: &Place) -> Built {
        let group = self.hidden(&[talk.peer]);
        let set = self.bdd().and(set, place.set)?;
        self.bdd().exists(set, group)
    }

    /// Groups `unknown` peers by the conditions their conversation hangs on.
    fn doubts(&mut self, talk: &Conversation, place: &Place, unknown: Set, aside: Set) -> Built<Vec<Doubt>> {
        let peers = self.bdd().minus(unknown, aside)?;
        if peers.is_empty() {
            return Ok(Vec::new());
        }
        let mut reasons: Vec<(Option<RuleRef>, String, Set)> = Vec::new();
        for leg in &talk.legs {
            let set = self.bdd().and(leg.set, place.set)?;
            let set = self.bdd().and(set, peers)?;
            let hidden = self.hidden(&[talk.peer]);
            for question in self.questions(leg.way, leg.header.clone(), set, hidden, usize::MAX)? {
                let set = self.bdd().exists(question.set, hidden)?;
                let known = reasons.iter_mut().find(|one| one.0 == question.rule && one.1 == question.reason);
                match known {
                    Some((_, _, known)) => *known = self.bdd().or(*known, set)?,
                    None => reasons.push((question.rule, question.reason, set)),
                }
            }
        }
        let mut groups: Vec<(Set, Vec<usize>)> = vec![(peers, Vec::new())];
        for (number, (_, _, set)) in reasons.iter().enumerate().take(MAX_REASONS) {
            let mut split = Vec::new();
            for (peers, because) in groups {
                let (with, without) = (self.bdd().and(peers, *set)?, self.bdd().minus(peers, *set)?);
                if !with.is_empty() {
                    let mut longer = because.clone();
                    longer.push(number);
                    split.push((with, longer));
                }
                if !without.is_empty() {
                    split.push((without, because));
                }
            }
            groups = split;
        }
        let mut doubts = Vec::new();
        for (peers, because) in groups {
            let because = because.into_iter().filter_map(|number| reasons.get(number));
            doubts.push(Doubt {
                peers: self.listed(talk.peer, peers, Set::ALL, aside)?,
                because: because.map(|(rule, reason, _)| (*rule, reason.clone())).collect(),
            });
        }
        Ok(doubts)
    }

    /// What lets the packets of a conversation through, and what stops them.
    fn causes(&mut self, talk: &Conversation, place: &Place, asked: Set, aside: Set) -> Built<Vec<Cause>> {
        let peers = self.bdd().minus(asked, aside)?;
        let mut sets: Vec<(&'static str, Decided, Set)> = Vec::new();
        let hidden = self.hidden(&[talk.peer]);
        for leg in &talk.legs {
            let set = self.bdd().and(leg.set, place.set)?;
            let set = self.bdd().and(set, peers)?;
            let account = self.follow(leg.way, leg.header.clone(), set, hidden)?;
            let refused = account.refused.into_iter().map(|(decision, set)| ((false, Some(decision), None), set));
            let admitted = account.admitted.into_iter().map(|(decision, set)| ((true, decision, None), set));
            let stopped = account.stopped.into_iter().map(|(why, set)| ((false, None, Some(why)), set));
            for (decided, set) in admitted.chain(refused).chain(stopped) {
                let set = self.bdd().exists(set, hidden)?;
                // what decided about earlier packets need not be said again of later ones
                let later = !["first packet", "answer"].contains(&leg.name);
                let known = sets.iter_mut().find(|one| one.1 == decided && (later || one.0 == leg.name));
                match known {
                    Some((_, _, known)) => *known = self.bdd().or(*known, set)?,
                    None => sets.push((leg.name, decided, set)),
                }
            }
        }
        let mut causes = Vec::new();
        for (packet, (admitted, decision, kernel), set) in sets {
            let peers = self.listed(talk.peer, set, Set::ALL, aside)?;
            if !peers.items.is_empty() {
                causes.push(Cause { packet, admitted, decision, kernel, peers });
            }
        }
        Ok(causes)
    }
}

/// Whether a packet passed, what decided, and why the kernel itself refused it.
type Decided = (bool, Option<Decision>, Option<String>);

/// An interface and an address of this host.
#[derive(Clone, Debug)]
struct Place {
    interface: String,
    address: Option<IpAddr>,
    set: Set,
}

/// Pairs as few products of interfaces and addresses: interfaces with the same addresses are one.
fn rectangles(places: &[Place]) -> Vec<(Vec<String>, Vec<IpAddr>)> {
    let mut addresses: BTreeMap<&str, Vec<IpAddr>> = BTreeMap::new();
    for place in places {
        addresses.entry(&place.interface).or_default().extend(place.address);
    }
    let mut products: Vec<(Vec<String>, Vec<IpAddr>)> = Vec::new();
    for (interface, addresses) in addresses {
        match products.iter_mut().find(|(_, known)| *known == addresses) {
            Some((interfaces, _)) => interfaces.push(interface.to_owned()),
            None => products.push((vec![interface.to_owned()], addresses)),
        }
    }
    products
}
