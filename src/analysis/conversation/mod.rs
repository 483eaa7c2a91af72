//! A whole conversation, packet by packet, both ways: a SYN that gets in is no use if the SYN-ACK is dropped.
//!
//! The first packet is given. The others follow from it and from what the rules did to it: the answer comes from where the
//! first packet went, translated addresses included, and goes to where it seemed to come from; connection tracking knows
//! each packet by the entry the first one left behind (`entry.rs`); marks saved in that entry are read by later packets.
//!
//! What comes from outside arrives by the interface its counterpart left by; what this host sends takes its routes. A
//! packet that can pass in several ways (open questions, chains whose order is not known) makes several situations, which
//! are followed side by side.

mod entry;
mod script;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use super::trace::{Arrival, Engine, Followed, Hidden, Passage, Trace, TraceOptions, TraceVerdict, Undecided};
use crate::packet::{ConntrackView, CtState, Direction, Packet};
use entry::Entry;
use script::Leg;
pub use script::script;

/// Situations followed side by side.
const MAX_SITUATIONS: usize = 16;

/// How a conversation ends.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Every packet passes.
    Works,
    /// Some packet is stopped for sure.
    Broken,
    /// Depends on what hepguard cannot decide.
    Unknown,
}

impl Outcome {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Works => "works",
            Self::Broken => "broken",
            Self::Unknown => "unknown",
        }
    }
}

/// Interfaces that routing and packets do not tell.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ways {
    /// Where answers come in; without it where the first packet left.
    pub answers_in: Option<Box<str>>,
    /// Where answers leave; without it where routes lead.
    pub answers_out: Option<Box<str>>,
}

/// One packet of the conversation.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// What it is: `SYN`, `SYN-ACK`, `request`, …
    pub name: &'static str,
    /// It goes against the first packet.
    pub reply: bool,
    /// The packet before its first hook, in its most likely form.
    pub packet: Packet,
    /// Addresses of it that are not known.
    pub hidden: Hidden,
    /// The states connection tracking may have given it; just one where nothing was open.
    pub states: CtState,
    /// What happens to it.
    pub trace: Trace,
}

/// The answer: the packets as far as they get.
#[derive(Clone, Debug)]
pub struct Conversation {
    /// How it ends.
    pub outcome: Outcome,
    /// The packets, in order, up to one that is stopped for sure.
    pub exchanges: Vec<Exchange>,
    /// How many packets the whole conversation has.
    pub length: usize,
    /// Remarks on the conversation as a whole.
    pub notes: Vec<String>,
}

impl Conversation {
    /// The packet that is stopped for sure, by number from 1; earlier ones may be stopped already where they are not certain.
    #[must_use]
    pub fn broken_at(&self) -> Option<usize> {
        (self.outcome == Outcome::Broken).then_some(self.exchanges.len())
    }

    /// The packet that decides: the one that is stopped, else the first that is not certain, else the first.
    #[must_use]
    pub fn decisive(&self) -> Option<&Exchange> {
        match self.outcome {
            Outcome::Works => self.exchanges.first(),
            Outcome::Broken => self.exchanges.last(),
            Outcome::Unknown => self.exchanges.iter().find(|exchange| !exchange.trace.certain),
        }
    }

    /// The same answer when some rules were not seen: nothing is certain any more.
    #[must_use]
    pub fn blinded(mut self, spots: &[String]) -> Self {
        if !spots.is_empty() {
            self.outcome = Outcome::Unknown;
            self.exchanges =
                self.exchanges.into_iter().map(|one| Exchange { trace: one.trace.blinded(spots), ..one }).collect();
        }
        self
    }

    /// What becomes of the conversation in a packet's words: accept when it works, else how the deciding packet ends.
    #[must_use]
    pub fn verdict(&self) -> TraceVerdict {
        self.decisive().map_or(TraceVerdict::Unknown, |exchange| exchange.trace.verdict)
    }
}

/// What has become of the conversation so far, in one of the ways it can have gone.
#[derive(Clone, PartialEq, Debug)]
struct Situation {
    entry: Option<Entry>,
    /// The answering side's packets.
    answer: Option<Arrival>,
    /// Whether the first packet ended at this host.
    delivered: Option<bool>,
}

/// Follows the conversation that `first` opens.
#[must_use]
pub fn converse(engine: &Engine<'_>, first: &Packet, ways: &Ways, options: &TraceOptions) -> Conversation {
    let legs = script(first);
    let mut conversation =
        Conversation { outcome: Outcome::Works, exchanges: Vec::new(), length: legs.len(), notes: Vec::new() };
    let mut run = Run { engine, first, ways, options, open: Vec::new() };
    let mut situations = vec![Situation { entry: None, answer: None, delivered: None }];
    for leg in &legs {
        let Some(exchange) = run.exchange(leg, &mut situations) else { break };
        let stopped = !exchange.trace.may.contains(&TraceVerdict::Accept);
        let certain = exchange.trace.certain;
        conversation.exchanges.push(exchange);
        if stopped {
            conversation.outcome = Outcome::Broken;
            return conversation;
        }
        if !certain {
            conversation.outcome = Outcome::Unknown;
        }
    }
    if script::answers_from_anywhere(first) {
        conversation
            .notes
            .push("who answers a broadcast or a group is not known: only the first packet was judged".to_owned());
    }
    conversation
}

/// One conversation under way.
struct Run<'c, 'e> {
    engine: &'c Engine<'e>,
    first: &'c Packet,
    ways: &'c Ways,
    options: &'c TraceOptions,
    /// What was open so far: the reasons when situations part later.
    open: Vec<Undecided>,
}

impl Run<'_, '_> {
    /// Sends one packet in every situation; those it passes in become the new ones. `None` when no situation is left.
    fn exchange(&mut self, leg: &Leg, situations: &mut Vec<Situation>) -> Option<Exchange> {
        let mut next: Vec<Situation> = Vec::new();
        let mut told: Option<Exchange> = None;
        for situation in situations.drain(..) {
            let arrival = self.arrival(leg, &situation)?;
            for (arrival, followed) in self.follow(leg, arrival, &situation) {
                for passage in &followed.passages {
                    let after = self.after(leg, &arrival, &situation, passage);
                    if !next.contains(&after) {
                        next.push(after);
                    }
                }
                self.open.extend(followed.open);
                let exchange = Exchange {
                    name: leg.name,
                    reply: leg.reply,
                    packet: arrival.packet,
                    hidden: arrival.hidden,
                    states: followed.states,
                    trace: followed.trace,
                };
                told = Some(match told {
                    None => exchange,
                    Some(before) => together(before, &exchange),
                });
            }
        }
        let mut told = told?;
        if next.len() > MAX_SITUATIONS {
            let reason = format!("the conversation can go on in more than {MAX_SITUATIONS} ways");
            undecide(&mut told.trace, vec![Undecided { rule: None, reason }]);
            next.clear();
        } else if !told.trace.certain && told.trace.because.is_empty() {
            told.trace.because.clone_from(&self.open);
        }
        *situations = next;
        Some(told)
    }

    /// Traces a packet in the states it may have.
    fn follow(&self, leg: &Leg, arrival: Arrival, situation: &Situation) -> Vec<(Arrival, Followed)> {
        if situation.answer.is_none() {
            let followed = self.engine.follow(&arrival, self.options);
            return vec![(arrival, followed)];
        }
        let Some(entry) = &situation.entry else { return self.unheard(leg, &arrival) };
        let followed = self.engine.follow(&arrival, self.options);
        let known = |zone: &Option<u16>| zone.is_some() && entry.zone.is_some();
        let there = followed.zones.iter().filter(|zone| known(zone) && **zone == entry.zone).count();
        if !entry.foreign && there == followed.zones.len() {
            return vec![(arrival, followed)];
        }
        // looked up in another zone, or by other addresses, nobody has heard of the connection
        let mut all = self.unheard(leg, &arrival);
        let elsewhere = followed.zones.iter().filter(|zone| known(zone) && **zone != entry.zone).count();
        if entry.foreign || elsewhere < followed.zones.len() {
            all.push((arrival, followed));
        }
        all
    }

    /// Traces a packet that tracking has no entry for.
    fn unheard(&self, leg: &Leg, arrival: &Arrival) -> Vec<(Arrival, Followed)> {
        let follow = |state: &CtState| {
            let mut arrival = arrival.clone();
            (arrival.packet.state, arrival.packet.ct) = (*state, ConntrackView::default());
            let followed = self.engine.follow(&arrival, self.options);
            (arrival, followed)
        };
        leg.unheard().iter().map(follow).collect()
    }

    /// The packet of `leg` before its first hook; `None` when there is nobody to answer.
    fn arrival(&self, leg: &Leg, situation: &Situation) -> Option<Arrival> {
        let mut arrival = if leg.reply {
            situation.answer.clone()?
        } else {
            let to_host = situation.delivered;
            Arrival { packet: self.first.clone(), hidden: Hidden::default(), to_host, answers: false }
        };
        let packet = &mut arrival.packet;
        leg.dress(packet);
        if let Some(entry) = situation.entry.as_ref() {
            (packet.state, packet.ct) = entry.view(leg);
        }
        Some(arrival)
    }

    /// The situation once a packet has passed.
    fn after(&self, leg: &Leg, arrival: &Arrival, before: &Situation, passage: &Passage) -> Situation {
        let own = arrival.packet.ct != ConntrackView::default();
        let entry = match &before.entry {
            Some(entry) if passage.tracked && own => Some(entry.seen(leg, passage)),
            None if passage.tracked => Some(Entry::opened(leg, arrival, passage)),
            // not tracked, or in a zone of its own
            entry => entry.clone(),
        };
        let answer = before.answer.clone().unwrap_or_else(|| self.answer(passage));
        Situation { entry, answer: Some(answer), delivered: before.delivered.or(Some(passage.delivered)) }
    }

    /// The packets of the answering side, seen from where the first packet went.
    fn answer(&self, passage: &Passage) -> Arrival {
        let first = self.first;
        let placeholder = |ipv4: bool| -> IpAddr {
            if ipv4 { IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED) }
        };
        let ipv4 = first.dst.is_ipv4();
        let hidden = Hidden { src: passage.dst.0.is_none(), dst: passage.src.0.is_none() };
        let direction = match (passage.delivered, first.direction) {
            (true, _) => Direction::Out,
            (false, Direction::Out) => Direction::In,
            (false, _) => Direction::Forward,
        };
        let mut packet = Packet::first(
            direction,
            first.protocol,
            (passage.dst.0.unwrap_or_else(|| placeholder(ipv4)), 0),
            (passage.src.0.unwrap_or_else(|| placeholder(ipv4)), 0),
        );
        (packet.sport, packet.dport) = (passage.dst.1, passage.src.1);
        let looped = passage.delivered && first.direction == Direction::Out;
        if passage.delivered {
            packet.oif = match &self.ways.answers_out {
                Some(name) => Some(name.clone()),
                // it came from this host, so it goes back there
                None if looped && passage.src.0 == Some(first.src) => Some("lo".into()),
                None => None,
            };
        } else {
            packet.iif = self.ways.answers_in.clone().or_else(|| passage.oif.clone());
            packet.oif = self.ways.answers_out.clone();
        }
        let to_host = (!passage.delivered).then_some(first.direction == Direction::Out);
        Arrival { packet, hidden, to_host, answers: true }
    }
}

/// Takes the certainty from a trace.
fn undecide(trace: &mut Trace, because: Vec<Undecided>) {
    (trace.verdict, trace.certain) = (TraceVerdict::Unknown, false);
    (trace.decided_by, trace.carried_out_by) = (None, None);
    trace.because = because;
}

/// Two situations' views of one packet.
fn together(mut one: Exchange, other: &Exchange) -> Exchange {
    one.states = one.states.union(other.states);
    let mut because = one.trace.because.clone();
    because.extend(other.trace.because.iter().filter(|reason| !one.trace.because.contains(reason)).cloned());
    let same = one.trace.certain && other.trace.certain && one.trace.verdict == other.trace.verdict;
    let may: Vec<TraceVerdict> = one.trace.may.iter().chain(&other.trace.may).copied().collect();
    if !same {
        undecide(&mut one.trace, because);
        one.trace.may = may;
        one.trace.may.sort_unstable();
        one.trace.may.dedup();
    }
    one
}
