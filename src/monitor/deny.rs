//! Denies by kind: what the reader of logs tells the daemon, and what is remembered of it.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::logs::event::{Direction, Event};

/// Kinds remembered at most.
pub const MAX_KINDS: usize = 4096;
/// Ports of one policy and protocol that are told apart; beyond them any port is one kind, or a scan would fill memory.
pub const MAX_PORTS: usize = 64;
/// Bytes of a name that are kept.
const MAX_NAME: usize = 256;
/// Bytes of an example line that are kept.
pub const EXAMPLE: usize = 512;

/// What makes denies alike.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Kind {
    /// `felix`, `kernel` or `flowlog`.
    pub source: String,
    /// `ingress`, `egress`, `forward`, or nothing.
    pub direction: String,
    /// Tier.
    pub tier: String,
    /// Policy as logged, or the prefix of a kernel line.
    pub policy: String,
    /// Index of the rule.
    pub rule: Option<i32>,
    /// Protocol number.
    pub proto: Option<u8>,
    /// Port of the service; for ICMP the type; `None` also when there are too many to tell apart.
    pub port: Option<u16>,
}

/// How often, and an example.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Denies.
    pub count: u64,
    /// A line, cut.
    pub example: Arc<str>,
}

/// What a reader found since it told last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Kinds of denies, each once.
    pub kinds: Vec<(Arc<Kind>, Seen)>,
    /// Lines read.
    pub lines: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Deny lines that are broken.
    pub malformed: u64,
}

impl Batch {
    /// Denies of all kinds.
    #[must_use]
    pub fn denies(&self) -> u64 {
        self.kinds.iter().fold(0, |sum, (_, seen)| sum.saturating_add(seen.count))
    }
}

/// Puts `bytes`, cut to a bound, in the place of what is in `name`.
fn rename(name: &mut String, bytes: Option<&[u8]>) {
    name.clear();
    let bytes = bytes.unwrap_or_default();
    name.push_str(&String::from_utf8_lossy(bytes.get(..MAX_NAME).unwrap_or(bytes)));
}

impl Kind {
    /// The kind of an event.
    #[must_use]
    pub fn of(event: &Event<'_>) -> Self {
        let mut kind = Self::default();
        kind.become_that_of(event);
        kind
    }

    /// Makes this the kind of `event`, in the memory it has.
    pub fn become_that_of(&mut self, event: &Event<'_>) {
        rename(&mut self.source, Some(event.source.name().as_bytes()));
        rename(&mut self.direction, event.direction.map(|direction| Direction::name(direction).as_bytes()));
        rename(&mut self.tier, event.tier.as_deref());
        rename(&mut self.policy, event.policy.as_deref().or(event.log_prefix));
        self.rule = event.rule_index;
        self.proto = event.proto;
        self.port = event.dst_port.or(event.icmp_type.map(u16::from));
    }

    /// The same with any port.
    #[must_use]
    pub fn any_port(&self) -> Self {
        Self { port: None, ..self.clone() }
    }

    /// In words: `egress tcp/443 by default.hep-external rule 0`.
    #[must_use]
    pub fn words(&self) -> String {
        let proto = self.proto.map_or("a packet".to_owned(), |proto| crate::packet::Protocol(proto).to_string());
        let mut words = String::new();
        if !self.direction.is_empty() {
            words = format!("{} ", self.direction);
        }
        words.push_str(&proto);
        if let Some(port) = self.port {
            words.push_str(&format!("/{port}"));
        }
        if !self.policy.is_empty() {
            words.push_str(&format!(" by {}", self.policy));
        }
        match self.rule {
            Some(-1) => words.push_str(" at the end of the tier"),
            Some(rule) => words.push_str(&format!(" rule {rule}")),
            None => {}
        }
        crate::diagnostic::printable(&words)
    }
}

/// What is remembered of a kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// Denies of it.
    pub count: u64,
    /// First and last seen, milliseconds since 1970.
    pub first: i64,
    /// Last seen.
    pub last: i64,
    /// Denies in the minute that began then.
    #[serde(skip)]
    pub minute: (i64, u64),
}

/// The kinds that were seen.
#[derive(Clone, Debug, Default)]
pub struct Kinds {
    known: HashMap<Arc<Kind>, Known>,
    /// How many ports are told apart, by kind without port.
    ports: HashMap<Kind, usize>,
    /// Kinds that were forgotten to stay within memory.
    pub given_up: u64,
}

impl Known {
    /// Counts, and says how many there were in the minute that runs.
    fn add(&mut self, count: u64, now: i64) -> u64 {
        self.count = self.count.saturating_add(count);
        self.last = now;
        if now.saturating_sub(self.minute.0) >= 60_000 || now < self.minute.0 {
            self.minute = (now, 0);
        }
        self.minute.1 = self.minute.1.saturating_add(count);
        self.minute.1
    }
}

impl Kinds {
    /// Counts, and says under which kind, and whether that is new; and the denies of it in the minute that runs.
    pub fn add(&mut self, kind: &Arc<Kind>, count: u64, now: i64) -> (Arc<Kind>, bool, u64) {
        if let Some(known) = self.known.get_mut(kind) {
            return (Arc::clone(kind), false, known.add(count, now));
        }
        let kind = self.told_apart(kind);
        let new = !self.known.contains_key(&kind);
        if new {
            self.make_room();
            if kind.port.is_some() {
                *self.ports.entry(kind.any_port()).or_default() += 1;
            }
        }
        let known = self.known.entry(Arc::clone(&kind)).or_insert_with(|| Known { first: now, ..Known::default() });
        let minute = known.add(count, now);
        (kind, new, minute)
    }

    /// With too many ports the port is left out.
    fn told_apart(&self, kind: &Arc<Kind>) -> Arc<Kind> {
        if kind.port.is_none() {
            return Arc::clone(kind);
        }
        let any = kind.any_port();
        let many = self.ports.get(&any).copied().unwrap_or(0) >= MAX_PORTS;
        if many { Arc::new(any) } else { Arc::clone(kind) }
    }

    fn make_room(&mut self) {
        if self.known.len() < MAX_KINDS {
            return;
        }
        let Some(oldest) = self.known.iter().min_by_key(|(_, known)| known.last).map(|(kind, _)| kind.clone()) else {
            return;
        };
        self.known.remove(&oldest);
        self.given_up += 1;
        if let Some(ports) = self.ports.get_mut(&oldest.any_port()).filter(|_| oldest.port.is_some()) {
            *ports -= 1;
            if *ports == 0 {
                self.ports.remove(&oldest.any_port());
            }
        }
    }

    /// All, the most frequent first.
    #[must_use]
    pub fn sorted(&self) -> Vec<(&Kind, &Known)> {
        self.top(usize::MAX)
    }

    /// So many, the most frequent first.
    #[must_use]
    pub fn top(&self, most: usize) -> Vec<(&Kind, &Known)> {
        let mut all: Vec<_> = self.all().collect();
        let order = |a: &(&Kind, &Known), b: &(&Kind, &Known)| b.1.count.cmp(&a.1.count).then_with(|| a.0.cmp(b.0));
        if most < all.len() {
            all.select_nth_unstable_by(most, order);
            all.truncate(most);
        }
        all.sort_by(order);
        all
    }

    /// All, in no order.
    pub fn all(&self) -> impl Iterator<Item = (&Kind, &Known)> {
        self.known.iter().map(|(kind, known)| (kind.as_ref(), known))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Denies of a kind in the minute that runs.
    #[must_use]
    pub fn in_this_minute(&self, kind: &Kind, now: i64) -> u64 {
        let known = self.known.get(kind).filter(|known| now.saturating_sub(known.minute.0) < 60_000);
        known.map_or(0, |known| known.minute.1)
    }

    /// Puts back what was written down.
    pub fn restore(&mut self, all: impl IntoIterator<Item = (Kind, Known)>) {
        for (kind, known) in all.into_iter().take(MAX_KINDS) {
            if kind.port.is_some() {
                *self.ports.entry(kind.any_port()).or_default() += 1;
            }
            self.known.insert(Arc::new(kind), known);
        }
    }
}
