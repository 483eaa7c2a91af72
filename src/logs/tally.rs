//! Counting events by key, without an allocation for a key seen before, in bounded memory.

use std::borrow::Cow;
use std::net::IpAddr;

use super::event::{Action, Direction, Event, Source};
use super::groups::Groups;
use super::memo::{Memo, Outcome};
use super::query::{Failsafes, Field, Filter, Value};
use super::time::Micros;
use crate::packet::Protocol;

/// What is asked of the logs.
#[derive(Clone, Debug)]
pub struct Query {
    /// Which events.
    pub filter: Filter,
    /// Key of a group.
    pub group_by: Vec<Field>,
    /// Ports that should never be denied.
    pub failsafes: Failsafes,
    /// Groups kept at most.
    pub max_groups: usize,
    /// Only groups first seen at this time or later are wanted, so that events must tell their time.
    pub new_since: Option<Micros>,
}

/// Groups kept when nothing else is said: some 60 MB of keys and counts.
pub const MAX_GROUPS: usize = 250_000;

/// Where a line is, so that it can be shown later without having been kept.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place {
    /// Index of the file among those asked for.
    pub file: u32,
    /// Offset of the line's first byte.
    pub offset: u64,
    /// Length without line end.
    pub length: u32,
}

/// The line of an event.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// Its text, cut to the line limit.
    pub line: &'a [u8],
    /// Where it is.
    pub place: Place,
    /// Whether it cannot be read again later (pipes, compressed files).
    pub keep: bool,
}

/// What is new about an event of a group known.
#[derive(Clone, Copy, Debug)]
pub struct Again<'a> {
    /// When.
    pub time: Option<Micros>,
    /// How many events.
    pub count: u64,
    /// Those of them that only a repeat notice tells of.
    pub repeats: u64,
    /// Packets of one event.
    pub packets: u64,
    /// Bytes of one event.
    pub bytes: u64,
    /// On a failsafe port.
    pub failsafe: bool,
    /// Its line.
    pub origin: Origin<'a>,
}

/// What takes the wanted events.
pub trait Sink {
    /// One event and where it is from.
    fn event(&mut self, event: &Event<'_>, origin: Origin<'_>);

    /// What became of earlier lines, where the question allows to go by that.
    fn memo(&mut self) -> Option<&mut Memo> {
        None
    }

    /// What became of the event given last.
    fn outcome(&self) -> Option<Outcome> {
        None
    }

    /// These groups will be named to [`Sink::again`] next.
    fn call(&self, _outcomes: impl Iterator<Item = Outcome>) {}

    /// One more event of a group that [`Sink::outcome`] named, since the memo last forgot.
    fn again(&mut self, _group: u32, _again: &Again<'_>) {}

    /// No more events come: what only makes them quicker can go.
    fn end(&mut self) {}

    /// Whether more events are of no use (the reader of the answer went away).
    fn stopped(&self) -> bool {
        false
    }
}

/// Sums of one group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Group {
    /// Events, repeats included.
    pub count: u64,
    /// Packets of them.
    pub packets: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Earliest.
    pub first: Option<Micros>,
    /// Latest.
    pub last: Option<Micros>,
    /// Events on a failsafe port.
    pub failsafe: u64,
    /// First line of the group.
    pub example: Place,
    /// Its text, when it cannot be read again (pipes, compressed files); cut to [`EXAMPLE_LENGTH`].
    pub text: Option<Box<[u8]>>,
}

/// Bytes kept of a line that cannot be read again.
pub const EXAMPLE_LENGTH: usize = 1024;

/// Counts by key.
pub struct Tally {
    fields: Vec<Field>,
    groups: Groups,
    memo: Option<Memo>,
    outcome: Option<Outcome>,
    key: Vec<u8>,
    limit: usize,
    /// Events, repeats included.
    pub events: u64,
    /// Those of them that only a repeat notice tells of.
    pub repeats: u64,
    /// Events of groups that were given up to stay within memory.
    pub given_up: u64,
    /// Earliest and latest time.
    pub range: Option<(Micros, Micros)>,
}

impl Tally {
    /// An empty count.
    #[must_use]
    pub fn new(query: &Query) -> Self {
        Self {
            fields: query.group_by.clone(),
            groups: Groups::new(),
            memo: query.goes_by_text().then(Memo::new),
            outcome: None,
            key: Vec::with_capacity(128),
            limit: query.max_groups.max(2),
            events: 0,
            repeats: 0,
            given_up: 0,
            range: None,
        }
    }

    /// Adds what another thread counted.
    pub fn merge(&mut self, other: Self) {
        self.events += other.events;
        self.repeats += other.repeats;
        self.given_up += other.given_up;
        self.range = widest(self.range, other.range);
        let Self { groups, memo, limit, given_up, .. } = self;
        groups.merge(other.groups, Group::add, |groups| *given_up += make_room(groups, memo.as_mut(), *limit));
    }

    /// How many groups there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether nothing was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Drops the groups that were seen before a time, and says how many that were.
    pub fn retain_new(&mut self, since: Micros) -> usize {
        let all = self.groups.len();
        self.groups.retain(|group| group.first.is_some_and(|first| first >= since));
        all - self.groups.len()
    }

    /// So many groups, largest first; equal ones in the order of their keys.
    #[must_use]
    pub fn rows(self, top: usize) -> Vec<(Vec<Value>, Group)> {
        let fields = self.fields;
        let size = |group: &Group| (group.count, group.packets);
        // keys are only read and compared of those that can be among the first
        let mut sizes: Vec<_> = self.groups.iter().map(size).collect();
        let least = match top.checked_sub(1).filter(|last| *last < sizes.len()) {
            Some(last) => *sizes.select_nth_unstable_by(last, |a, b| b.cmp(a)).1,
            None => (0, 0),
        };
        let groups = self.groups.into_rows(|group| size(group) >= least);
        let mut rows: Vec<_> = groups.map(|(key, group)| (decode(&fields, &key), group)).collect();
        rows.sort_by(|(a_key, a), (b_key, b)| size(b).cmp(&size(a)).then_with(|| a_key.cmp(b_key)));
        rows.truncate(top);
        rows
    }
}

/// Gives up the smaller half of the groups when there are too many; says how many events that were.
fn make_room(groups: &mut Groups, memo: Option<&mut Memo>, limit: usize) -> u64 {
    if groups.len() < limit {
        return 0;
    }
    let mut counts: Vec<u64> = groups.iter().map(|group| group.count).collect();
    let middle = counts.len() / 2;
    let median = *counts.select_nth_unstable(middle).1;
    let mut equal = limit / 4;
    let mut given_up = 0;
    groups.retain(|group| {
        let keep = group.count > median || (group.count == median && equal > 0);
        if group.count == median {
            equal = equal.saturating_sub(1);
        }
        if !keep {
            given_up += group.count;
        }
        keep
    });
    if let Some(memo) = memo {
        memo.forget();
    }
    given_up
}

impl Sink for Tally {
    fn event(&mut self, event: &Event<'_>, origin: Origin<'_>) {
        encode(&self.fields, event, &mut self.key);
        let hash = self.groups.hash(&self.key);
        let row = match self.groups.find(&self.key, hash) {
            Some(row) => row,
            None => {
                self.given_up += make_room(&mut self.groups, self.memo.as_mut(), self.limit);
                self.groups.insert(&self.key, hash, Group::new(origin))
            }
        };
        let group = u32::try_from(row).unwrap_or(u32::MAX);
        let Event { time, count, repeats, packets, bytes, failsafe, .. } = *event;
        self.again(group, &Again { time, count, repeats, packets, bytes, failsafe, origin });
        self.outcome = Some(Outcome::Counted { group, failsafe });
    }

    fn memo(&mut self) -> Option<&mut Memo> {
        self.memo.as_mut()
    }

    fn outcome(&self) -> Option<Outcome> {
        self.outcome
    }

    fn end(&mut self) {
        self.memo = None;
    }

    fn call(&self, outcomes: impl Iterator<Item = Outcome>) {
        let touched = |outcome| match outcome {
            // what a sum and a place are in is more than one line of a cache
            Outcome::Counted { group, .. } => {
                let Group { count, example, .. } = self.groups.get(usize::try_from(group).ok()?)?;
                Some(count ^ example.offset)
            }
            Outcome::Unwanted | Outcome::NoVerdict => None,
        };
        // waited for together
        std::hint::black_box(outcomes.filter_map(touched).fold(0, |sum, one| sum ^ one));
    }

    fn again(&mut self, group: u32, again: &Again<'_>) {
        self.events += again.count;
        self.repeats += again.repeats;
        self.range = widest(self.range, again.time.map(|time| (time, time)));
        let Some(group) = usize::try_from(group).ok().and_then(|row| self.groups.get_mut(row)) else { return };
        group.count += again.count;
        group.packets = group.packets.saturating_add(again.packets.saturating_mul(again.count));
        group.bytes = group.bytes.saturating_add(again.bytes.saturating_mul(again.count));
        group.failsafe += if again.failsafe { again.count } else { 0 };
        if let Some(time) = again.time {
            group.first = Some(group.first.map_or(time, |first| first.min(time)));
            group.last = Some(group.last.map_or(time, |last| last.max(time)));
        }
        // parts of one file are not read in order
        if again.origin.place < group.example {
            group.example = again.origin.place;
            group.text = again.origin.text();
        }
    }
}

impl Origin<'_> {
    fn text(&self) -> Option<Box<[u8]>> {
        self.keep.then(|| self.line.get(..EXAMPLE_LENGTH).unwrap_or(self.line).into())
    }
}

impl Group {
    fn new(origin: Origin<'_>) -> Self {
        let (example, text) = (origin.place, origin.text());
        Self { count: 0, packets: 0, bytes: 0, first: None, last: None, failsafe: 0, example, text }
    }

    fn add(&mut self, other: Self) {
        self.count += other.count;
        self.packets = self.packets.saturating_add(other.packets);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.failsafe += other.failsafe;
        self.first = [self.first, other.first].into_iter().flatten().min();
        self.last = [self.last, other.last].into_iter().flatten().max();
        if other.example < self.example {
            self.example = other.example;
            self.text = other.text;
        }
    }
}

fn widest(a: Option<(Micros, Micros)>, b: Option<(Micros, Micros)>) -> Option<(Micros, Micros)> {
    match (a, b) {
        (Some((first, last)), Some((low, high))) => Some((first.min(low), last.max(high))),
        (one, other) => one.or(other),
    }
}

/// A field's value, borrowed from the event.
enum Part<'a> {
    Null,
    Number(i64),
    Flag(bool),
    Name(&'static str),
    Bytes(&'a [u8]),
    Address(IpAddr),
    Proto(u8),
}

fn part<'a>(field: Field, event: &'a Event<'_>) -> Part<'a> {
    let number = |value: Option<i64>| value.map_or(Part::Null, Part::Number);
    let bytes = |value: Option<&'a [u8]>| value.map_or(Part::Null, Part::Bytes);
    let address = |value: Option<IpAddr>| value.map_or(Part::Null, Part::Address);
    match field {
        Field::Host => bytes(event.host),
        Field::Source => Part::Name(event.source.name()),
        Field::Action => Part::Name(event.action.name()),
        Field::Direction => event.direction.map_or(Part::Null, |direction| Part::Name(direction.name())),
        Field::Family => event.src_ip.or(event.dst_ip).map_or(Part::Null, |ip| Part::Name(family(ip))),
        Field::Proto => event.proto.map_or(Part::Null, Part::Proto),
        Field::SrcIp => address(event.src_ip),
        Field::SrcPort => number(event.src_port.map(i64::from)),
        Field::DstIp => address(event.dst_ip),
        Field::DstPort => number(event.dst_port.map(i64::from)),
        Field::IcmpType => number(event.icmp_type.map(i64::from)),
        Field::IcmpCode => number(event.icmp_code.map(i64::from)),
        Field::InIface => bytes(event.in_iface),
        Field::OutIface => bytes(event.out_iface),
        Field::Tier => bytes(event.tier.as_deref()),
        Field::Policy => bytes(event.policy.as_deref()),
        Field::RuleIndex => number(event.rule_index.map(i64::from)),
        Field::EndOfTier => event.rule_index.map_or(Part::Null, |_| Part::Flag(event.end_of_tier())),
        Field::Failsafe => Part::Flag(event.failsafe),
        Field::LogPrefix => bytes(event.log_prefix),
    }
}

/// `ipv4` or `ipv6`.
#[must_use]
pub fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "ipv4" } else { "ipv6" }
}

/// A field's value on its own.
#[must_use]
pub fn value(field: Field, event: &Event<'_>) -> Value {
    match part(field, event) {
        Part::Null => Value::Null,
        Part::Number(number) => Value::Number(number),
        Part::Flag(flag) => Value::Flag(flag),
        Part::Name(name) => Value::Text(name.to_owned()),
        Part::Bytes(bytes) => Value::Text(String::from_utf8_lossy(bytes).into_owned()),
        Part::Address(address) => Value::Address(address),
        Part::Proto(proto) => Value::Text(Protocol(proto).to_string()),
    }
}

/// Longest name kept in a key.
const NAME_LENGTH: usize = 255;

/// Writes an event's key: for each field a byte for its kind, then its value.
fn encode(fields: &[Field], event: &Event<'_>, key: &mut Vec<u8>) {
    key.clear();
    for field in fields {
        match part(*field, event) {
            Part::Null => key.push(0),
            Part::Number(number) => {
                key.push(1);
                key.extend_from_slice(&number.to_le_bytes());
            }
            Part::Flag(flag) => key.extend_from_slice(&[2, u8::from(flag)]),
            Part::Name(name) => named(3, name.as_bytes(), key),
            Part::Bytes(bytes) => named(3, bytes.get(..NAME_LENGTH).unwrap_or(bytes), key),
            Part::Address(IpAddr::V4(address)) => {
                key.push(4);
                key.extend_from_slice(&address.octets());
            }
            Part::Address(IpAddr::V6(address)) => {
                key.push(5);
                key.extend_from_slice(&address.octets());
            }
            Part::Proto(proto) => key.extend_from_slice(&[6, proto]),
        }
    }
}

fn named(kind: u8, bytes: &[u8], key: &mut Vec<u8>) {
    key.push(kind);
    key.push(u8::try_from(bytes.len()).unwrap_or(u8::MAX));
    key.extend_from_slice(bytes);
}

/// Reads a key back.
fn decode(fields: &[Field], key: &[u8]) -> Vec<Value> {
    fn next(key: &mut &[u8]) -> Option<Value> {
        let (kind, rest) = key.split_first()?;
        let mut take = |length: usize| {
            let (head, tail) = rest.split_at_checked(length)?;
            *key = tail;
            Some(head)
        };
        Some(match kind {
            1 => Value::Number(i64::from_le_bytes(take(8)?.try_into().ok()?)),
            2 => Value::Flag(take(1)? == [1]),
            3 => {
                let length = usize::from(*rest.first()?);
                let text = take(length + 1)?.get(1..)?;
                Value::Text(String::from_utf8_lossy(text).into_owned())
            }
            4 => Value::Address(<[u8; 4]>::try_from(take(4)?).ok()?.into()),
            5 => Value::Address(<[u8; 16]>::try_from(take(16)?).ok()?.into()),
            6 => Value::Text(Protocol(*take(1)?.first()?).to_string()),
            _ => {
                take(0)?;
                Value::Null
            }
        })
    }
    let mut rest = key;
    fields.iter().map(|_| next(&mut rest).unwrap_or(Value::Null)).collect()
}

/// The owner's words for what an event's verdict rests on.
#[must_use]
pub fn text_of(value: &Value) -> Cow<'_, str> {
    match value {
        Value::Null => Cow::Borrowed("-"),
        Value::Text(text) => Cow::Borrowed(text),
        Value::Number(number) => Cow::Owned(number.to_string()),
        Value::Flag(flag) => Cow::Borrowed(if *flag { "yes" } else { "no" }),
        Value::Address(address) => Cow::Owned(address.to_string()),
    }
}

/// Whether an event passes a query.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Wanted.
    Wanted,
    /// A packet line that says nothing about the verdict, otherwise wanted.
    NoVerdict,
    /// Without a time, otherwise wanted.
    Undated,
    /// Not wanted.
    Unwanted,
}

impl Query {
    /// The default question: all denies, by the default key.
    #[must_use]
    pub fn new() -> Self {
        Self {
            filter: Filter::default(),
            group_by: Field::DEFAULT.to_vec(),
            failsafes: Failsafes::defaults(),
            max_groups: MAX_GROUPS,
            new_since: None,
        }
    }

    /// Whether what becomes of a report line depends on nothing but what it says, source port and counters excepted.
    fn goes_by_text(&self) -> bool {
        let Filter { src_port, host, since, until, .. } = &self.filter;
        let timeless = since.is_none() && until.is_none() && self.new_since.is_none();
        let others = [Field::Host, Field::SrcPort];
        timeless && src_port.is_empty() && host.is_empty() && !self.group_by.iter().any(|field| others.contains(field))
    }

    /// Whether what becomes of a packet line depends on nothing but its prefix, addresses, protocol, destination port, and
    /// whether it names interfaces.
    pub(super) fn packets_go_by_text(&self) -> bool {
        let Filter { in_iface, out_iface, .. } = &self.filter;
        let named = [Field::InIface, Field::OutIface];
        let unnamed =
            in_iface.is_empty() && out_iface.is_empty() && !self.group_by.iter().any(|field| named.contains(field));
        self.goes_by_text() && unnamed
    }

    /// Judges an event, and notes whether it is on a failsafe port.
    pub fn judge(&self, event: &mut Event<'_>) -> Verdict {
        let filter = &self.filter;
        let action = filter.action.is_empty() || filter.action.contains(&event.action);
        let silent = event.action == Action::Log;
        if !action && !silent {
            return Verdict::Unwanted;
        }
        event.failsafe = self.failsafes.covers(event);
        if !filter.matches(event) {
            return Verdict::Unwanted;
        }
        let dated = event.time.is_some() || self.new_since.is_none();
        match (dated && filter.in_time(event.time), event.time) {
            (false, Some(_)) => Verdict::Unwanted,
            (false, None) if action => Verdict::Undated,
            _ if !action => Verdict::NoVerdict,
            _ => Verdict::Wanted,
        }
    }
}

impl Default for Query {
    fn default() -> Self {
        Self::new()
    }
}

/// Names that filters take, for messages: `a, b, c`.
#[must_use]
pub fn names<T: Copy>(all: &[T], name: fn(T) -> &'static str) -> String {
    all.iter().map(|one| name(*one)).collect::<Vec<_>>().join(", ")
}

/// A source by name.
///
/// # Errors
/// Names the known ones.
pub fn source(text: &str) -> Result<Source, String> {
    let found = Source::ALL.into_iter().find(|source| source.name() == text);
    found.ok_or_else(|| format!("expected a source ({}), found {text:?}", names(&Source::ALL, Source::name)))
}

/// An action by name; `accept` is the kernel's word for `allow`.
///
/// # Errors
/// Names the known ones.
pub fn action(text: &str) -> Result<Action, String> {
    let wanted = if text == "accept" { "allow" } else { text };
    let found = Action::ALL.into_iter().find(|action| action.name() == wanted);
    found.ok_or_else(|| format!("expected an action ({}), found {text:?}", names(&Action::ALL, Action::name)))
}

/// A direction by name; `in`, `out`, `inbound` and `outbound` are understood.
///
/// # Errors
/// Names the known ones.
pub fn direction(text: &str) -> Result<Direction, String> {
    let wanted = match text {
        "in" | "inbound" => "ingress",
        "out" | "outbound" => "egress",
        other => other,
    };
    let found = Direction::ALL.into_iter().find(|direction| direction.name() == wanted);
    found.ok_or_else(|| format!("expected a direction ({}), found {text:?}", names(&Direction::ALL, Direction::name)))
}
