//! What changes while a packet walks through the rules, and the open questions it carries.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Hidden;
use super::growth::Touched;
use crate::packet::{Packet, address_bits};
use crate::ruleset::{Field, RuleRef, interface_number};

/// A value of the packet, as far as it is known.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Value {
    /// This number.
    Known(u128),
    /// The packet has no such thing; reading it ends the rule.
    Missing,
    /// Not known. Equal numbers are the same unknown; 0 stands for what the packet came with.
    Unknown(u32),
}

impl Value {
    /// The number, when there is one.
    pub(super) fn known(self) -> Option<u128> {
        match self {
            Self::Known(number) => Some(number),
            _ => None,
        }
    }

    /// `None` is unknown as the packet came.
    pub(super) fn from_option(value: Option<impl Into<u128>>) -> Self {
        value.map_or(Self::Unknown(0), |value| Self::Known(value.into()))
    }

    /// Applies `f` to a known number.
    pub(super) fn map(self, f: impl FnOnce(u128) -> u128) -> Self {
        match self {
            Self::Known(number) => Self::Known(f(number)),
            other => other,
        }
    }
}

/// The packet's place in connection tracking.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Ct {
    /// Tracking has not seen it yet.
    Before,
    /// Part of a connection.
    Tracked,
    /// Seen and found invalid: no connection.
    Invalid,
    /// Left out.
    Untracked,
}

/// Which end NAT hooks have dealt with (`IPS_DST_NAT_DONE`, `IPS_SRC_NAT_DONE`).
pub(super) const DST_NAT_DONE: u128 = 0x100;
/// See [`DST_NAT_DONE`].
pub(super) const SRC_NAT_DONE: u128 = 0x80;

/// The packet as rules see it now: the part that decides what happens next.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Flow {
    pub(super) src: Value,
    pub(super) dst: Value,
    pub(super) sport: Value,
    pub(super) dport: Value,
    /// Interfaces as [`interface_number`]s; 0 where there is none.
    pub(super) iif: Value,
    pub(super) oif: Value,
    pub(super) mark: Value,
    pub(super) ct_mark: Value,
    pub(super) tos: Value,
    pub(super) ttl: Value,
    pub(super) pkttype: Value,
    pub(super) ct: Ct,
    /// Conntrack status bits, the NAT bits of this traversal included.
    pub(super) status: Value,
    /// Destination NAT and source NAT are settled for this connection.
    pub(super) dnat_done: bool,
    pub(super) snat_done: bool,
    /// NAT said it goes to this host.
    pub(super) redirected: bool,
    /// Rules wrote addresses or ports into it.
    pub(super) rewritten: bool,
    /// Fields rules have assigned that have no place above.
    pub(super) assigned: Vec<(Field, Value)>,
    /// What rules have changed in sets on the way, in order.
    pub(super) touched: Vec<Touched>,
    /// Goes up when the packet's bytes change: opaque conditions met before and after are different questions.
    pub(super) epoch: u32,
}

impl Flow {
    /// The conntrack zone rules have chosen for the packet; zone 0 where none did.
    pub(super) fn zone(&self) -> Value {
        let chosen = self.assigned.iter().find(|(field, _)| *field == Field::CtZone);
        chosen.map_or(Value::Known(0), |(_, zone)| *zone)
    }
}

/// An open question, by number.
pub(super) type Var = u32;

/// A flow, the answers assumed on its way, and what decided so far.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) flow: Flow,
    pub(super) assumed: Vec<(Var, bool)>,
    /// Rules met so far: tells two meetings with a stateful rule apart.
    pub(super) clock: u32,
    /// Step of the current rule to go on with.
    pub(super) resume: usize,
    /// What accepted in the current base chain.
    pub(super) accepted_by: Option<Decision>,
    /// Best candidate for "what let it through", with its rank.
    pub(super) decided: Option<(u8, Decision)>,
    /// Mark bits set on the way and the rules that set them, latest last.
    pub(super) marked: Vec<(u32, RuleRef)>,
    /// Addresses the packet came with that are not known.
    pub(super) hidden: Hidden,
}

/// What decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Decision {
    /// The rule or policy that made up its mind.
    pub(super) rule: RuleRef,
    /// The rule that carried it out, when all it did was to read the other's mark.
    pub(super) carried_out_by: Option<RuleRef>,
}

impl Decision {
    /// A rule that decides by itself.
    pub(super) fn by(rule: RuleRef) -> Self {
        Self { rule, carried_out_by: None }
    }
}

/// Mark bits remembered on one path.
const MAX_MARKED: usize = 32;

impl State {
    /// The packet before its first hook.
    pub(super) fn new(packet: &Packet, hidden: Hidden) -> Self {
        let new = packet.opens_connection();
        Self {
            flow: Flow {
                src: unless(hidden.src, address_bits(packet.src)),
                dst: unless(hidden.dst, address_bits(packet.dst)),
                sport: Value::from_option(packet.sport),
                dport: Value::from_option(packet.dport),
                iif: interface(packet.iif.as_deref()),
                oif: interface(packet.oif.as_deref()),
                mark: Value::Known(packet.mark.into()),
                ct_mark: Value::from_option(packet.ct.mark.or(new.then_some(0))),
                tos: Value::from_option(packet.tos),
                ttl: Value::from_option(packet.ttl),
                pkttype: Value::from_option(packet.packet_type.map(|kind| kind as u8)),
                ct: Ct::Before,
                status: Value::from_option(packet.ct.status.map(|bits| bits.0).or(new.then_some(0))),
                dnat_done: false,
                snat_done: false,
                redirected: false,
                rewritten: false,
                assigned: Vec::new(),
                touched: Vec::new(),
                epoch: 0,
            },
            assumed: Vec::new(),
            clock: 0,
            resume: 0,
            accepted_by: None,
            decided: None,
            marked: Vec::new(),
            hidden,
        }
    }

    /// The answer assumed for `var`.
    pub(super) fn answer(&self, var: Var) -> Option<bool> {
        self.assumed.iter().find(|(known, _)| *known == var).map(|(_, answer)| *answer)
    }

    /// A copy that assumes `answer`.
    pub(super) fn assuming(&self, var: Var, answer: bool) -> Self {
        let mut copy = self.clone();
        copy.assumed.push((var, answer));
        copy
    }

    /// Remembers `decision` as the one that let the packet through, unless a weightier one did.
    pub(super) fn credit(&mut self, rank: u8, decision: Decision) {
        if self.decided.is_none_or(|(best, _)| best <= rank) {
            self.decided = Some((rank, decision));
        }
    }

    /// Gives the packet another mark and remembers who did it.
    pub(super) fn set_mark(&mut self, mark: Value, rule: RuleRef) {
        let bits = |value: Value| value.known().and_then(|mark| u32::try_from(mark).ok()).unwrap_or(0);
        let new = bits(mark) & !bits(self.flow.mark);
        if new != 0 && self.marked.len() < MAX_MARKED {
            self.marked.push((new, rule));
        }
        self.flow.mark = mark;
    }

    /// Who decided when `rule` gives a verdict that depends on `wanted` mark bits being set.
    pub(super) fn decision(&self, rule: RuleRef, wanted: u32) -> Decision {
        match self.marked.iter().rev().find(|(bits, _)| bits & wanted != 0) {
            Some((_, marker)) => Decision { rule: *marker, carried_out_by: Some(rule) },
            None => Decision::by(rule),
        }
    }

    /// Puts `other` and `self`, which have the same flow, into one: only shared assumptions stay.
    fn absorb(&mut self, other: &Self) {
        self.assumed.retain(|assumption| other.assumed.contains(assumption));
        self.clock = self.clock.max(other.clock);
        if self.decided.map(|(rank, _)| rank) < other.decided.map(|(rank, _)| rank) {
            self.decided = other.decided;
        }
    }
}

fn unless(hidden: bool, number: u128) -> Value {
    if hidden { Value::Unknown(0) } else { Value::Known(number) }
}

fn interface(name: Option<&str>) -> Value {
    name.map_or(Value::Unknown(0), |name| Value::Known(interface_number(name.as_bytes())))
}

/// An address from its number.
pub(super) fn address(bits: u128, v6: bool) -> IpAddr {
    if v6 {
        IpAddr::V6(Ipv6Addr::from(bits))
    } else {
        IpAddr::V4(Ipv4Addr::from(u32::try_from(bits).unwrap_or(u32::MAX)))
    }
}

/// Folds states with equal flows together. `accepted_by` must not matter any more.
pub(super) fn merge(states: &mut Vec<State>) {
    let mut kept = 0;
    let mut at = 0;
    while at < states.len() {
        let (done, rest) = states.split_at_mut(at);
        let Some(state) = rest.first_mut() else { break };
        match done.iter_mut().take(kept).find(|other| other.flow == state.flow) {
            Some(other) => other.absorb(state),
            None => {
                states.swap(kept, at);
                kept += 1;
            }
        }
        at += 1;
    }
    states.truncate(kept);
}

/// A question nobody could answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Question {
    /// The rule that asked; `None` for questions of path and host.
    pub(super) rule: Option<RuleRef>,
    /// In words.
    pub(super) text: String,
}

/// The open questions of one trace: the same key is the same variable.
#[derive(Debug, Default)]
pub(super) struct Questions {
    numbers: HashMap<String, Var>,
    asked: Vec<Question>,
    /// Numbers of unknown values by what they stand for.
    unknowns: HashMap<String, u32>,
}

impl Questions {
    /// The variable for `key`; `question` says what it is when it is asked first.
    pub(super) fn var(&mut self, key: String, question: impl FnOnce() -> Question) -> Var {
        let next = Var::try_from(self.asked.len()).unwrap_or(Var::MAX);
        *self.numbers.entry(key).or_insert_with(|| {
            self.asked.push(question());
            next
        })
    }

    /// What was asked.
    pub(super) fn question(&self, var: Var) -> Option<&Question> {
        self.asked.get(usize::try_from(var).ok()?)
    }

    /// The unknown value that `key` stands for.
    pub(super) fn unknown_for(&mut self, key: String) -> Value {
        let next = u32::try_from(self.unknowns.len()).unwrap_or(u32::MAX - 1) + 1;
        Value::Unknown(*self.unknowns.entry(key).or_insert(next))
    }
}
