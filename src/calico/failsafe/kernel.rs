//! Failsafe chains in the kernel, read back into entries.

use std::sync::Arc;

use serde::Serialize;

use super::Direction;
use crate::calico::settings::{Entry, Place};
use crate::packet::{Family, Prefix, Protocol};
use crate::ruleset::{
    Backend, Chain, Data, Effect, Expr, Field, Interval, Match, Operator, Rule, Ruleset, SetRef, Step, Table, Verdict,
};

/// Table of Felix's layout a chain belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Layer {
    /// Ordinary policy: the one that decides for new connections.
    Filter,
    /// Policy before DNAT.
    Mangle,
    /// Policy without connection tracking.
    Raw,
    /// No table: the map of the eBPF dataplane.
    Map,
    /// A fragment of a listing does not say.
    #[serde(rename = "?")]
    Unknown,
}

impl Layer {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Mangle => "mangle",
            Self::Raw => "raw",
            Self::Map => "map",
            Self::Unknown => "?",
        }
    }

    /// The layer of a chain in the table of this name; in Felix's one nft table the chain's name tells.
    #[must_use]
    pub fn of_table(table: &str, chain: &str) -> Option<Self> {
        Self::of(table).or_else(|| Self::of(chain.split_once("-cali-")?.0))
    }

    fn of(name: &str) -> Option<Self> {
        [Self::Filter, Self::Mangle, Self::Raw, Self::Unknown].into_iter().find(|layer| layer.name() == name)
    }
}

/// Who keeps a list in the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum Keeper {
    /// Rules of a backend.
    Rules(Backend),
    /// Felix's eBPF dataplane.
    Bpf,
}

impl Keeper {
    /// Its name, as in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rules(backend) => backend.name(),
            Self::Bpf => "bpf",
        }
    }
}

impl Serialize for Keeper {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// An entry that a rule stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KernelEntry {
    /// The entry; its net is `None` where the rule takes every address of its family.
    pub entry: Entry,
    /// Number of the rule in its chain, 1-based.
    pub rule: usize,
    /// Line of the listing; 0 when it has none.
    pub line: u32,
}

/// A rule in a failsafe chain that is no failsafe entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ForeignRule {
    /// Number of the rule in its chain, 1-based.
    pub rule: usize,
    /// Where it is listed.
    pub place: Place,
    /// The rule.
    pub text: String,
    /// What Felix would not write.
    pub why: &'static str,
}

/// One failsafe chain, or the map that stands for it in the eBPF dataplane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KernelChain {
    /// Who keeps it.
    pub backend: Keeper,
    /// Its family.
    pub family: Family,
    /// Its layer.
    pub table: Layer,
    /// Its name.
    pub chain: Arc<str>,
    /// Where it is declared.
    pub place: Place,
    /// Rules that jump to it; `None` when a fragment of a listing shows none, which says nothing.
    pub references: Option<usize>,
    /// Entries in rule order.
    pub entries: Vec<KernelEntry>,
    /// In the raw table: entries of the other direction whose answers are let through.
    pub replies: Vec<KernelEntry>,
    /// Everything else in the chain.
    pub foreign: Vec<ForeignRule>,
    /// The listing withholds what its rules ask, so that nothing is known of its entries.
    pub withheld: bool,
}

impl KernelChain {
    /// Its entries without their places.
    pub fn list(&self) -> impl Iterator<Item = Entry> {
        self.entries.iter().map(|entry| entry.entry)
    }

    /// How people name it: `iptables-legacy ipv4 filter cali-failsafe-in`.
    #[must_use]
    pub fn title(&self) -> String {
        format!("{} {} {} {}", self.backend.name(), self.family, self.table.name(), self.chain)
    }
}

/// The failsafe chains of one direction, in table order.
#[must_use]
pub fn chains(ruleset: &Ruleset, direction: Direction) -> Vec<KernelChain> {
    let mut found = Vec::new();
    for table in ruleset.tables.iter().filter(|table| matches!(table.family, Family::Ipv4 | Family::Ipv6)) {
        for chain in &table.chains {
            if let Some(layer) = layer_of(table, chain, direction) {
                found.push(read(table, chain, layer, direction));
            }
        }
    }
    found
}

fn layer_of(table: &Table, chain: &Chain, direction: Direction) -> Option<Layer> {
    let wanted = match direction {
        Direction::In => "cali-failsafe-in",
        Direction::Out => "cali-failsafe-out",
    };
    if &*chain.name == wanted {
        return Layer::of(&table.name);
    }
    let layer = chain.name.strip_suffix(wanted)?.strip_suffix('-')?;
    (table.backend == Backend::Nft).then(|| Layer::of(layer)).flatten()
}

fn read(table: &Table, chain: &Chain, layer: Layer, direction: Direction) -> KernelChain {
    let place = |line| Place { file: Arc::clone(&table.source), line };
    let references = table.chains.iter().flat_map(|c| &c.rules).filter(|rule| jumps_to(rule, &chain.name)).count();
    let mut out = KernelChain {
        backend: Keeper::Rules(table.backend),
        family: table.family,
        table: layer,
        chain: Arc::clone(&chain.name),
        place: place(chain.line),
        references: if layer == Layer::Unknown && references == 0 { None } else { Some(references) },
        entries: Vec::new(),
        replies: Vec::new(),
        foreign: Vec::new(),
        withheld: chain.rules.iter().any(Rule::is_withheld),
    };
    if out.withheld {
        return out;
    }
    for (rule, number) in chain.rules.iter().zip(1..) {
        match entry_of(rule, table.family, direction) {
            Ok((entry, reply)) => {
                let entry = KernelEntry { entry, rule: number, line: rule.line };
                // a fragment may be of any table
                if !reply {
                    out.entries.push(entry);
                } else if matches!(layer, Layer::Raw | Layer::Unknown) {
                    out.replies.push(entry);
                } else {
                    let why = "lets answers through, which Felix does in the raw table only";
                    out.foreign.push(foreign(rule, number, place(rule.line), why));
                }
            }
            Err(why) => out.foreign.push(foreign(rule, number, place(rule.line), why)),
        }
    }
    out
}

fn foreign(rule: &Rule, number: usize, place: Place, why: &'static str) -> ForeignRule {
    let text: String = rule.text.chars().take(300).collect();
    ForeignRule { rule: number, place, text, why }
}

fn jumps_to(rule: &Rule, chain: &str) -> bool {
    rule.steps.iter().any(|step| match step {
        Step::Verdict(Verdict::Jump(name) | Verdict::Goto(name)) => &**name == chain,
        Step::Vmap { map: SetRef::Anonymous(elements), .. } => (0..elements.len()).any(|index| {
            matches!(elements.data(index), Some(Data::Verdict(Verdict::Jump(name) | Verdict::Goto(name))) if &**name == chain)
        }),
        _ => false,
    })
}

/// The entry that a rule stands for, and whether it is about answers.
fn entry_of(rule: &Rule, family: Family, direction: Direction) -> Result<(Entry, bool), &'static str> {
    let mut parts = Parts { family, direction, ..Parts::default() };
    let mut accepted = false;
    for step in &rule.steps {
        match step {
            _ if accepted => return Err("does something behind its verdict"),
            Step::Match(condition) => parts.condition(condition)?,
            Step::Effect(Effect::Count) => {}
            Step::Effect(_) => return Err("does more than accept"),
            Step::Verdict(Verdict::Accept) => accepted = true,
            Step::Verdict(_) | Step::Vmap { .. } => return Err("does something else than accept"),
        }
    }
    if !accepted {
        return Err("has no verdict");
    }
    let protocol = parts.protocol.ok_or("names no protocol")?;
    match (parts.dport, parts.sport) {
        (Some(port), None) => Ok((Entry { protocol, port, net: parts.net }, false)),
        (None, Some(port)) => Ok((Entry { protocol, port, net: parts.net }, true)),
        (None, None) => Err("names no port"),
        (Some(_), Some(_)) => Err("names both ports"),
    }
}

struct Parts {
    family: Family,
    direction: Direction,
    protocol: Option<Protocol>,
    dport: Option<u16>,
    sport: Option<u16>,
    net: Option<Prefix>,
}

impl Default for Parts {
    fn default() -> Self {
        Self { family: Family::Ipv4, direction: Direction::In, protocol: None, dport: None, sport: None, net: None }
    }
}

impl Parts {
    fn condition(&mut self, condition: &Match) -> Result<(), &'static str> {
        const TWICE: &str = "names the same thing twice";
        if let Match::All(all) = condition {
            // one level is all that readers make
            return all.iter().try_for_each(|inner| match inner {
                Match::All(_) => Err("holds a condition Felix does not write there"),
                inner => self.condition(inner),
            });
        }
        let (field, interval) = interval_of(condition).ok_or("holds a condition Felix does not write there")?;
        let single = (interval.low == interval.high).then_some(interval.low);
        let port = || single.and_then(|port| u16::try_from(port).ok()).ok_or("takes several ports at once");
        match (field, self.family) {
            (Field::L4proto, _) | (Field::Ip4Protocol, Family::Ipv4) | (Field::Ip6Nexthdr, Family::Ipv6) => {
                let number = single.and_then(|number| u8::try_from(number).ok()).ok_or("takes several protocols")?;
                if self.protocol.replace(Protocol(number)).is_some_and(|before| before.0 != number) {
                    return Err(TWICE);
                }
            }
            (Field::Nfproto, Family::Ipv4) if single == Some(2) => {}
            (Field::Nfproto, Family::Ipv6) if single == Some(10) => {}
            (Field::Dport, _) => {
                if self.dport.replace(port()?).is_some() {
                    return Err(TWICE);
                }
            }
            (Field::Sport, _) => {
                if self.sport.replace(port()?).is_some() {
                    return Err(TWICE);
                }
            }
            (Field::Ip4Saddr | Field::Ip6Saddr | Field::Ip4Daddr | Field::Ip6Daddr, _) => {
                let source = matches!(field, Field::Ip4Saddr | Field::Ip6Saddr);
                if source != (self.direction == Direction::In) {
                    return Err("takes this host's address, not the peer's");
                }
                let net = prefix_of(interval, self.family).ok_or("takes a range of addresses that is no net")?;
                if self.net.is_some() {
                    return Err(TWICE);
                }
                self.net = (net.length() > 0).then_some(net);
            }
            _ => return Err("holds a condition Felix does not write there"),
        }
        Ok(())
    }
}

/// The field and the one interval that a condition takes.
fn interval_of(condition: &Match) -> Option<(&Field, Interval)> {
    match condition {
        Match::Compare { left: Expr::Field(field), operator: Operator::Eq, right: Expr::Number(number) } => {
            Some((field, Interval::single(*number)))
        }
        Match::Compare { left: Expr::And(field, mask), operator: Operator::Eq, right: Expr::Number(number) } => {
            let (Expr::Field(field), Expr::Number(mask)) = (&**field, &**mask) else { return None };
            let width = match field {
                Field::Ip4Saddr | Field::Ip4Daddr => 32,
                Field::Ip6Saddr | Field::Ip6Daddr => 128,
                _ => return None,
            };
            let all = if width == 128 { u128::MAX } else { (1u128 << width) - 1 };
            let free = all & !mask;
            // a net's mask leaves the low bits free
            (free & free.wrapping_add(1) == 0 && number & free == 0)
                .then(|| (field, Interval { low: *number, high: number | free }))
        }
        Match::Lookup { left: Expr::Field(field), negate: false, set: SetRef::Anonymous(elements) } => {
            let mut keys = elements.keys();
            match (keys.next(), keys.next(), elements.catch_all(), elements.data(0)) {
                (Some([interval]), None, None, None) => Some((field, *interval)),
                _ => None,
            }
        }
        _ => None,
    }
}

/// The net that holds exactly the addresses of `interval`.
fn prefix_of(interval: Interval, family: Family) -> Option<Prefix> {
    let span = interval.low ^ interval.high;
    if span & span.wrapping_add(1) != 0 || interval.low & span != 0 {
        return None;
    }
    let free = u8::try_from(128 - span.leading_zeros()).ok()?;
    let (address, width) = match family {
        Family::Ipv4 => (std::net::Ipv4Addr::from(u32::try_from(interval.low).ok()?).into(), 32u8),
        _ => (std::net::Ipv6Addr::from(interval.low).into(), 128),
    };
    Prefix::new(address, width.checked_sub(free)?)
}
