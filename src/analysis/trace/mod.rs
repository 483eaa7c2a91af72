//! One packet through all the rules, exactly as the kernel would walk it, with the reasons.
//!
//! **Three values.** A condition holds, does not hold, or is *open*: the rule asks for something hepguard cannot know (a
//! string match, a rate, a set that was not listed, a field the packet does not state). An open condition forks the walk:
//! both answers are followed, and the same question met again on a path keeps its answer. Paths whose packets have become
//! equal are folded together after each rule. When all paths end alike the verdict is certain whatever the answers are;
//! otherwise it is *unknown*, with the verdicts that are possible and the rules that could not be decided.
//!
//! **Walk.** [`crate::analysis::path`] says which base chains hang at a hook; `drive` leads the packet through the hooks
//! (routing, loopback, NAT), `walk` through chains and rules, `eval` decides conditions.

mod arrival;
mod assign;
mod below;
mod blind;
mod bytes;
mod drive;
mod eval;
mod fields;
mod growth;
mod index;
mod ipset;
mod masters;
mod nat;
mod offload;
mod programs;
mod record;
mod routing;
mod session;
mod simple;
mod state;
#[cfg(test)]
mod tests;
mod tracking;
mod walk;
mod words;
mod xtables;

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

pub use blind::{blind_spots, is_listed};
pub use record::{RuleOutcome, StepKind, TraceStep};

use super::devices::{Devices, custom_routing4};
use super::offload::{Offload, offloads};
use super::path::{self, BaseRef, Group};
use super::route::Router;
use crate::host::Host;
use crate::packet::{CtState, CtStatus, Family, Hook, Packet};
use crate::ruleset::{Elements, Name, RuleRef, Ruleset, Set, SetRef};
use index::SetIndex;
use session::SessionIndex;

/// What happens to the packet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TraceVerdict {
    /// Every base chain lets it pass.
    Accept,
    /// Dropped without a word.
    Drop,
    /// Dropped, and the sender is told.
    Reject,
    /// Depends on what hepguard cannot decide.
    Unknown,
}

impl TraceVerdict {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Drop => "drop",
            Self::Reject => "reject",
            Self::Unknown => "unknown",
        }
    }
}

/// Something that could not be decided.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Undecided {
    /// The rule; `None` when the path itself is in doubt.
    pub rule: Option<RuleRef>,
    /// Why, in words; may hold text of the ruleset.
    pub reason: String,
}

/// How to trace.
#[derive(Clone, Copy, Debug)]
pub struct TraceOptions {
    /// Only this hook, instead of the packet's whole path.
    pub at: Option<Hook>,
    /// Keep the steps for people.
    pub record: bool,
    /// Keep the rules that did not match too.
    pub verbose: bool,
    /// Rules looked at for one packet, over all paths; beyond it the answer is *unknown*.
    pub max_rules: u32,
}

impl Default for TraceOptions {
    fn default() -> Self {
        Self { at: None, record: false, verbose: false, max_rules: 4_000_000 }
    }
}

/// The answer.
#[derive(Clone, Debug)]
pub struct Trace {
    /// What happens.
    pub verdict: TraceVerdict,
    /// Whether it happens for sure; the same as "not unknown".
    pub certain: bool,
    /// The rule or policy that decided. For *accept* the rule that let it pass at input, forward or output; `None` when no
    /// base chain saw the packet, and for *unknown*.
    pub decided_by: Option<RuleRef>,
    /// The rule that carried the decision out, when it only read a mark that `decided_by` had set: Felix's policies decide
    /// by mark bits, and its hook chains act on them.
    pub carried_out_by: Option<RuleRef>,
    /// Why the kernel itself stops it, outside the rules (routing, `rp_filter`, martian addresses, …), when that is what
    /// decided; names the setting or route.
    pub stopped_by: Option<String>,
    /// What could not be decided, in the order it was met; empty when the verdict is certain.
    pub because: Vec<Undecided>,
    /// The verdicts that are possible; just the one when it is certain.
    pub may: Vec<TraceVerdict>,
    /// Remarks on the packet's path.
    pub notes: Vec<String>,
    /// Hooks, chains and rules it met, when asked for.
    pub steps: Vec<TraceStep>,
    /// Rules looked at, over all paths: what the answer cost, as [`TraceOptions::max_rules`] counts.
    pub rules_seen: u32,
}

/// Ends of a packet whose address is not known, whatever its fields say: an address translation chose it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Hidden {
    /// The source.
    pub src: bool,
    /// The destination.
    pub dst: bool,
}

/// A packet of a conversation, with what the conversation tells about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Arrival {
    /// The packet.
    pub packet: Packet,
    /// Its addresses that are not known.
    pub hidden: Hidden,
    /// Whether it ends at this host, where routing does not tell.
    pub to_host: Option<bool>,
    /// It answers another packet: where it goes is routing's to say, not its direction's.
    pub answers: bool,
}

/// How a packet leaves the rules: what the other side sees of it, and what connection tracking has kept. `None` is not known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Passage {
    /// Source address and port.
    pub src: (Option<IpAddr>, Option<u16>),
    /// Destination address and port.
    pub dst: (Option<IpAddr>, Option<u16>),
    /// It went to a socket of this host; else it left by `oif`.
    pub delivered: bool,
    /// The interface it left by.
    pub oif: Option<Box<str>>,
    /// Its connection is tracked.
    pub tracked: bool,
    /// The zone its connection is in.
    pub zone: Option<u16>,
    /// Rules rewrote its addresses or ports without connection tracking.
    pub rewritten: bool,
    /// Mark of its connection.
    pub ct_mark: Option<u32>,
    /// Status of its connection.
    pub status: Option<CtStatus>,
}

/// A trace, and what the rest of the packet's conversation needs of it.
#[derive(Clone, Debug)]
pub struct Followed {
    /// The answer.
    pub trace: Trace,
    /// The ways it leaves on the paths that let it pass.
    pub passages: Vec<Passage>,
    /// The states connection tracking may have given it.
    pub states: CtState,
    /// The conntrack zones it may have been looked up in; `None` is not known.
    pub zones: Vec<Option<u16>>,
    /// Everything that was open, although the verdict may not depend on it.
    pub open: Vec<Undecided>,
}

/// Traces one packet. For many packets build an [`Engine`] once.
#[must_use]
pub fn trace(ruleset: &Ruleset, host: &Host, packet: &Packet, options: &TraceOptions) -> Trace {
    Engine::new(ruleset, host).trace(packet, options)
}

/// A ruleset and a host, made ready for many packets.
#[derive(Debug)]
pub struct Engine<'a> {
    ruleset: &'a Ruleset,
    router: Router<'a>,
    devices: Devices,
    /// IPv4 has policy rules or local routes beyond the kernel's own, which makes source checks go by routes.
    custom_routing4: bool,
    /// By table: chain name to index.
    chains: Vec<HashMap<&'a str, usize>>,
    /// By table: nft sets.
    sets: Vec<HashMap<&'a str, Prepared<'a>>>,
    ipsets: HashMap<&'a str, Prepared<'a>>,
    /// Indexes of sets written in rules, by the address of their elements, which the borrowed ruleset cannot move.
    anonymous: HashMap<usize, OnceLock<SetIndex>>,
    hooks: HashMap<(Family, Hook), Vec<Group>>,
    ingress: Vec<Group>,
    egress: Vec<Group>,
    bridge: Vec<BaseRef>,
    offloads: Vec<Offload>,
    /// Some chain at output sends changed packets through routing again.
    reroutes: bool,
    sessions: OnceLock<SessionIndex<'a>>,
}

/// A set and its index, built when first asked.
#[derive(Debug)]
struct Prepared<'a> {
    set: &'a Set,
    index: Arc<OnceLock<SetIndex>>,
}

/// Sets written in a rule get an index from this size on.
const INDEX_FROM: usize = 9;

impl<'a> Engine<'a> {
    /// Makes everything ready that does not depend on the packet.
    #[must_use]
    pub fn new(ruleset: &'a Ruleset, host: &'a Host) -> Self {
        let prepared = |sets: &'a [Set]| -> HashMap<&'a str, Prepared<'a>> {
            // of equal names the first counts, as everywhere
            sets.iter().rev().map(|set| (&*set.name, Prepared { set, index: Arc::default() })).collect()
        };
        let names = |table: &'a crate::ruleset::Table| {
            table.chains.iter().enumerate().rev().map(|(index, chain)| (&*chain.name, index)).collect()
        };
        let mut anonymous = HashMap::new();
        for step in ruleset.tables.iter().flat_map(|t| &t.chains).flat_map(|c| &c.rules).flat_map(|r| &r.steps) {
            words::sets_of(step, &mut |set| match set {
                SetRef::Anonymous(elements) if elements.len() >= INDEX_FROM => {
                    anonymous.insert(identity(elements), OnceLock::new());
                }
                _ => {}
            });
        }
        let mut hooks = HashMap::new();
        for family in [Family::Ipv4, Family::Ipv6] {
            for hook in [Hook::Prerouting, Hook::Input, Hook::Forward, Hook::Output, Hook::Postrouting] {
                hooks.insert((family, hook), path::hook_groups(ruleset, family, hook));
            }
        }
        Self {
            ruleset,
            router: Router::new(host),
            devices: Devices::new(host),
            custom_routing4: custom_routing4(host),
            chains: ruleset.tables.iter().map(names).collect(),
            sets: ruleset.tables.iter().map(|table| prepared(&table.sets)).collect(),
            ipsets: prepared(&ruleset.ipsets),
            anonymous,
            hooks,
            ingress: path::device_groups(ruleset, Hook::Ingress),
            egress: path::device_groups(ruleset, Hook::Egress),
            bridge: path::bridge_chains(ruleset),
            offloads: offloads(ruleset, host),
            reroutes: path::any_reroutes(ruleset),
            sessions: OnceLock::new(),
        }
    }

    /// Like [`Engine::new`] for the same firewall in another world: indexes of sets that both have are built once.
    #[must_use]
    pub fn beside<'b>(&self, world: &'b Ruleset, host: &'b Host) -> Engine<'b> {
        let mut other = Engine::new(world, host);
        let tables = other.sets.iter_mut().zip(&self.sets);
        for (theirs, ours) in tables.chain(std::iter::once((&mut other.ipsets, &self.ipsets))) {
            for (name, prepared) in theirs {
                if let Some(known) = ours.get(name)
                    && known.set.elements.shares_keys(&prepared.set.elements)
                {
                    prepared.index = Arc::clone(&known.index);
                }
            }
        }
        other
    }

    /// The ruleset packets are traced through.
    #[must_use]
    pub fn ruleset(&self) -> &'a Ruleset {
        self.ruleset
    }

    /// Traces one packet.
    #[must_use]
    pub fn trace(&self, packet: &Packet, options: &TraceOptions) -> Trace {
        self.walk(packet, None, options).trace
    }

    /// Traces one packet of a conversation.
    #[must_use]
    pub fn follow(&self, arrival: &Arrival, options: &TraceOptions) -> Followed {
        self.walk(&arrival.packet, Some(arrival), options)
    }

    fn walk(&self, packet: &Packet, arrival: Option<&Arrival>, options: &TraceOptions) -> Followed {
        let mut packet = Cow::Borrowed(packet);
        let mut notes = Vec::new();
        session::complete(self, &mut packet, &mut notes);
        let picked_up = tracking::correct(self.router.host(), &mut packet, &mut notes);
        let mut walk = walk::Walk::new(self, &packet, *options);
        (walk.notes, walk.picked_up) = (notes, picked_up);
        if let Some(arrival) = arrival {
            (walk.hidden, walk.to_host, walk.answers) = (arrival.hidden, arrival.to_host, arrival.answers);
        }
        walk.drive()
    }

    fn groups(&self, family: Family, hook: Hook) -> &[Group] {
        self.hooks.get(&(family, hook)).map(Vec::as_slice).unwrap_or_default()
    }

    fn chain(&self, table: usize, name: &str) -> Option<usize> {
        self.chains.get(table)?.get(name).copied()
    }

    fn set(&self, table: usize, name: &Name) -> Option<(&'a Set, &SetIndex)> {
        self.sets.get(table)?.get(&**name).map(Prepared::ready)
    }

    fn ipset(&self, name: &Name) -> Option<(&'a Set, &SetIndex)> {
        self.ipsets.get(&**name).map(Prepared::ready)
    }

    fn anonymous(&self, elements: &Elements) -> Option<&SetIndex> {
        let index = self.anonymous.get(&identity(elements))?;
        Some(index.get_or_init(|| SetIndex::new(elements)))
    }
}

impl<'a> Prepared<'a> {
    fn ready(&self) -> (&'a Set, &SetIndex) {
        (self.set, self.index.get_or_init(|| SetIndex::new(&self.set.elements)))
    }
}

fn identity(elements: &Elements) -> usize {
    std::ptr::from_ref(elements).addr()
}
