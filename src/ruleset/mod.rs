//! The neutral model of a host firewall: what every dialect is read into and both engines read from.
//!
//! ```text
//! Ruleset > Table > Chain (hook, priority, policy) > Rule > Step: match, effect, vmap or verdict
//!         > Set (ipsets, shared by all tables)
//! ```
//! iptables is the special case "matches, then one action". Nothing read is lost: what a reader does not understand stays
//! in its place as [`Match::Opaque`], [`Effect::Opaque`] or [`Verdict::Opaque`], with its text.
//!
//! **Numbers.** Every value a rule compares is an unsigned number of up to 128 bits, and every set of values a list of
//! intervals: addresses are host order numbers, an interface name is its bytes padded with zeros to 16 and read big-endian
//! (so `cali*` is one interval), see [`interface_number`].

#[cfg(test)]
pub(crate) mod coverage;
pub mod expr;
pub mod joined;
pub mod kernel;
pub mod merge;
pub(crate) mod nft_words;
pub mod print;
pub mod readers;
mod query;
pub mod rules;
mod same;
pub mod second_opinion;
pub mod set;
pub mod xtables;

use std::sync::Arc;

pub use expr::{
    DataType, Expr, FibField, FibResult, Field, Match, OpaqueKind, Operator, PayloadBase, SetDirection, SetRef,
};
pub use expr::{asks_counters, asks_exceptions, interface_interval, interface_number};
pub use nft_words::place::{Part, Place, place_of};
pub use query::without_comments;
pub use rules::Rules;
pub use set::{CreateOptions, Data, ElementExtra, Elements, Interval, Set, SetKind};

use crate::packet::{Family, Hook};

/// Names of tables, chains and sets; cheap to share.
pub type Name = Arc<str>;

/// Who keeps the rules in the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// x_tables (`iptables-legacy-save`).
    IptablesLegacy,
    /// nf_tables through iptables-nft (`iptables-nft-save`).
    IptablesNft,
    /// `iptables-save` of unknown variant.
    Iptables,
    /// Native nf_tables.
    Nft,
}

impl Backend {
    /// hepguard's name, as in its JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::IptablesLegacy => "iptables-legacy",
            Self::IptablesNft => "iptables-nft",
            Self::Iptables => "iptables",
            Self::Nft => "nft",
        }
    }
}

/// Everything the host's firewall holds, in all backends together.
#[derive(Clone, Debug, Default)]
pub struct Ruleset {
    /// Tables of every backend and family.
    pub tables: Vec<Table>,
    /// ipsets; rules of iptables tables refer to them by name. nft sets live in their table.
    pub ipsets: Vec<Set>,
}

/// A table of one backend and family.
#[derive(Clone, Debug)]
pub struct Table {
    /// Who keeps it.
    pub backend: Backend,
    /// Its family.
    pub family: Family,
    /// Its name; `?` where a fragment of a listing did not say.
    pub name: Name,
    /// nft's dormant flag: the table has no effect.
    pub dormant: bool,
    /// Chains in listing order.
    pub chains: Vec<Chain>,
    /// nft sets and maps of this table.
    pub sets: Vec<Set>,
    /// nft flowtables of this table.
    pub flowtables: Vec<Flowtable>,
    /// Where it was read: a snapshot file name.
    pub source: Name,
    /// Named objects and whatever else the reader only keeps as text (counters, quotas, helpers, …).
    pub other: Vec<Box<str>>,
}

/// Connections that skip the rules: packets of those in it are forwarded from the ingress hook of its devices
/// (Documentation/networking/nf_flowtable.rst).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flowtable {
    /// Its name.
    pub name: Name,
    /// Its devices as nft writes them; empty when the listing does not tell.
    pub devices: Vec<Box<str>>,
}

/// A chain.
#[derive(Clone, Debug)]
pub struct Chain {
    /// Its name.
    pub name: Name,
    /// Where it hangs; `None` for chains that are only jumped to.
    pub base: Option<BaseChain>,
    /// Rules in order.
    pub rules: Rules,
    /// Line of its declaration, 1-based; 0 when the source has no lines.
    pub line: u32,
}

/// How a base chain hangs in the stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseChain {
    /// `filter`, `nat` or `route`.
    pub kind: ChainKind,
    /// The hook.
    pub hook: Hook,
    /// Lower runs earlier.
    pub priority: i32,
    /// What happens to packets that reach the end.
    pub policy: Policy,
    /// netdev and ingress chains: the devices; empty when the listing does not tell.
    pub devices: Vec<Box<str>>,
}

/// Type of a base chain.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ChainKind {
    /// Filters.
    Filter,
    /// Sees only the first packet of a connection and sets up NAT.
    Nat,
    /// Like filter at output; a changed mark or address routes again.
    Route,
}

/// A base chain's policy.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// Accept.
    Accept,
    /// Drop.
    Drop,
}

/// One rule.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    /// What it does, in order. A match that fails ends the rule.
    pub steps: Vec<Step>,
    /// Its comments, in order; undecodable bytes are replaced.
    pub comments: Vec<Box<str>>,
    /// Packets and bytes so far, when the listing has them.
    pub counters: Option<Counters>,
    /// nft's handle.
    pub handle: Option<u64>,
    /// Line it was read from, 1-based; 0 when the source has no lines.
    pub line: u32,
    /// Its text as listed: iptables' from `-A` on without counters, nft's as `nft list` would print it. Undecodable bytes
    /// are replaced; control characters are still in it.
    pub text: Box<str>,
}

/// Packet and byte counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Counters {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// One step of a rule.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Go on only when it holds.
    Match(Match),
    /// Do something and go on.
    Effect(Effect),
    /// Look the key up; its verdict applies, no entry means go on.
    Vmap {
        /// What is looked up.
        key: Expr,
        /// Where.
        map: SetRef,
    },
    /// End the rule.
    Verdict(Verdict),
}

/// What a rule does besides deciding.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Assign a field: marks above all, also header fields, priority, pkttype. iptables' `MARK --set-xmark V/M` is
    /// `mark = (mark & !M) ^ V`.
    Set {
        /// What is assigned.
        field: Field,
        /// The value.
        value: Expr,
    },
    /// Take the packet out of conntrack.
    NoTrack,
    /// LOG, NFLOG, nft `log`.
    Log {
        /// Prefix text.
        prefix: Option<Box<str>>,
        /// NFLOG group; `None` for the kernel log.
        group: Option<u16>,
        /// What else the rule says of the line (level, flags, sizes), in its own words; may be empty.
        options: Box<str>,
    },
    /// Count (anonymous or named counter); never decides anything.
    Count,
    /// Add to, update or delete from a set by packet.
    UpdateSet {
        /// The set's name.
        set: Name,
        /// What happens to which key, where the rule says.
        change: Option<Box<SetChange>>,
        /// The rule's own words.
        text: Box<str>,
    },
    /// Put the packet's connection into this flowtable of the table (`flow add`).
    Offload(Name),
    /// Known, and known not to change which packets are accepted (CLASSIFY, ct helper, dup, …).
    Harmless(Box<str>),
    /// Not understood; may do anything, even decide.
    Opaque(Box<str>),
}

/// How packets change a set of nft.
#[derive(Clone, Debug, PartialEq)]
pub struct SetChange {
    /// What happens.
    pub operation: SetOperation,
    /// To which key.
    pub key: Expr,
}

/// What happens to a key of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SetOperation {
    /// It is in the set from now on, unless the set is full: then the rule ends. `update` also starts its time anew.
    Add,
    /// It is in the set no more.
    Delete,
}

/// A decision.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Accept: ends this base chain, later base chains still see the packet.
    Accept,
    /// Drop, final.
    Drop,
    /// Drop and tell the sender. The text says how (`icmp-port-unreachable`, `tcp reset`).
    Reject(Box<str>),
    /// Back to the caller; in a base chain the policy.
    Return,
    /// Go on with the next rule (nft `continue`, iptables rules without target have no verdict at all).
    Continue,
    /// Call a chain of the same table.
    Jump(Name),
    /// Call a chain of the same table, without coming back here.
    Goto(Name),
    /// Set up NAT and accept.
    Nat(Nat),
    /// Hand to userspace; what happens then is unknown. `bypass`: accept when nobody listens.
    Queue {
        /// The bypass flag.
        bypass: bool,
        /// Which queues, in the rule's own words; may be empty.
        options: Box<str>,
    },
    /// Not understood, or decided outside the ruleset (TPROXY, SYNPROXY); any outcome is possible.
    Opaque(Box<str>),
}

/// Address translation.
#[derive(Clone, Debug, PartialEq)]
pub struct Nat {
    /// Which end is rewritten, and how the new address is found.
    pub kind: NatKind,
    /// New address or addresses; `None` keeps the address (port only, masquerade, redirect).
    pub address: Option<NatTarget>,
    /// New port or ports; `None` keeps the port where possible.
    pub port: Option<NatTarget>,
    /// How the kernel chooses among them (`--random`, `--persistent`), in the rule's own words; may be empty.
    pub options: Box<str>,
}

/// The translations.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum NatKind {
    /// Source to a given address.
    Snat,
    /// Destination to a given address.
    Dnat,
    /// Source to the outgoing interface's address.
    Masquerade,
    /// Destination to this host.
    Redirect,
    /// The network part is replaced: of the destination where destinations are translated, else of the source (`NETMAP`).
    Netmap,
    /// The network part of the source is replaced (nft's `snat prefix to`).
    SnatPrefix,
    /// The network part of the destination is replaced (nft's `dnat prefix to`).
    DnatPrefix,
}

impl NatKind {
    /// Whether the destination is rewritten at `hook`, else the source.
    #[must_use]
    pub fn rewrites_destination(self, hook: Hook) -> bool {
        match self {
            Self::Dnat | Self::DnatPrefix | Self::Redirect => true,
            Self::Snat | Self::SnatPrefix | Self::Masquerade => false,
            Self::Netmap => matches!(hook, Hook::Prerouting | Hook::Output),
        }
    }

    /// Whether only the network part of an address is replaced.
    #[must_use]
    pub fn keeps_host_part(self) -> bool {
        matches!(self, Self::Netmap | Self::SnatPrefix | Self::DnatPrefix)
    }
}

/// New addresses or ports.
#[derive(Clone, Debug, PartialEq)]
pub enum NatTarget {
    /// Between two values, the kernel chooses.
    Range(Interval),
    /// Computed, for instance from a map.
    Expr(Expr),
}

/// A place in a [`Ruleset`]: indices, not numbers for people.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct RuleRef {
    /// Index into [`Ruleset::tables`].
    pub table: usize,
    /// Index into [`Table::chains`].
    pub chain: usize,
    /// Index into [`Chain::rules`]; [`RuleRef::POLICY`] stands for the chain's policy.
    pub rule: usize,
}

impl RuleRef {
    /// Stands for "the policy of this base chain".
    pub const POLICY: usize = usize::MAX;
}

impl Table {
    /// The chain called `name`.
    #[must_use]
    pub fn chain(&self, name: &str) -> Option<(usize, &Chain)> {
        self.chains.iter().enumerate().find(|(_, chain)| &*chain.name == name)
    }

    /// The nft set or map called `name`.
    #[must_use]
    pub fn set(&self, name: &str) -> Option<&Set> {
        self.sets.iter().find(|set| &*set.name == name)
    }
}

impl Ruleset {
    /// The ipset called `name`.
    #[must_use]
    pub fn ipset(&self, name: &str) -> Option<&Set> {
        self.ipsets.iter().find(|set| &*set.name == name)
    }

    /// The rule at `place`; `None` for a policy or a stale reference.
    #[must_use]
    pub fn rule(&self, place: RuleRef) -> Option<&Rule> {
        self.tables.get(place.table)?.chains.get(place.chain)?.rules.get(place.rule)
    }

    /// How many rules there are in all tables.
    #[must_use]
    pub fn rule_count(&self) -> usize {
        self.tables.iter().flat_map(|table| &table.chains).map(|chain| chain.rules.len()).sum()
    }
}
