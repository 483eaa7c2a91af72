//! Denies as a document (`hepguard/denies/v1`).

use std::net::IpAddr;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::decided::Decided;
use crate::analysis::denied::failsafe::Known;
use crate::analysis::denied::{Denied, Suggestion};
use crate::analysis::flows::Inventory;
use crate::calico::names::Authors;
use crate::calico::settings::ports::Entry;
use crate::host::names::Names;
use crate::logs::event::Source;
use crate::logs::histogram::Bars;
use crate::logs::line::{Scratch, What, read};
use crate::logs::query::{Failsafes, Field, Value};
use crate::logs::scan::Counts;
use crate::logs::tally::{self, Group};
use crate::logs::time::{Clock, Micros, Stamper, rfc3339};

/// One log that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileLine {
    /// As it was named.
    pub path: String,
    /// Lines.
    pub lines: u64,
    /// Bytes, decompressed.
    pub bytes: u64,
    /// Broken deny lines; they are in no group.
    pub malformed: u64,
    /// Lines of which only the first 64 KiB were read.
    pub truncated: u64,
    /// Packet lines whose rule says nothing about the verdict, not counted as denies.
    pub no_verdict: u64,
    /// Events left out because a time was asked for and they have none.
    pub undated: u64,
}

impl FileLine {
    /// From what a scan met.
    #[must_use]
    pub fn new(path: String, counts: Counts) -> Self {
        let Counts { lines, bytes, malformed, truncated, no_verdict, undated } = counts;
        Self { path, lines, bytes, malformed, truncated, no_verdict, undated }
    }
}

/// One log that was not read, or not to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unreadable {
    /// As it was named.
    pub path: String,
    /// Why.
    pub error: String,
}

/// Values of the fields a group is made by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key(pub Vec<(Field, Value)>);

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (field, value) in &self.0 {
            map.serialize_entry(field.name(), &Json(value))?;
        }
        map.end()
    }
}

pub(super) struct Json<'a>(pub(super) &'a Value);

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Null => serializer.serialize_none(),
            Value::Text(text) => serializer.serialize_str(text),
            Value::Number(number) => serializer.serialize_i64(*number),
            Value::Flag(flag) => serializer.serialize_bool(*flag),
            Value::Address(address) => serializer.collect_str(address),
        }
    }
}

impl Key {
    pub(super) fn get(&self, field: Field) -> &Value {
        self.0.iter().find(|(known, _)| *known == field).map_or(&Value::Null, |(_, value)| value)
    }

    pub(super) fn text(&self, field: Field) -> Option<&str> {
        match self.get(field) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    fn number(&self, field: Field) -> Option<i64> {
        match self.get(field) {
            Value::Number(number) => Some(*number),
            _ => None,
        }
    }
}

/// One group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// What its events share.
    pub key: Key,
    /// Events, repeats included.
    pub count: u64,
    /// Packets.
    pub packets: u64,
    /// Bytes; for denies of Felix a lower bound.
    pub bytes: u64,
    /// Earliest, RFC 3339 UTC.
    pub first: Option<String>,
    /// Latest, RFC 3339 UTC.
    pub last: Option<String>,
    /// Some of the events are on a failsafe port.
    pub failsafe: bool,
    /// In words: what decided, as far as the key tells.
    pub why: Option<String>,
    /// File and line of the rule that denied, where the policies are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written: Option<String>,
    /// Lines.
    pub examples: Vec<String>,
    /// Of denies on a failsafe port: why they came about nevertheless, as far as that can be told.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub despite_failsafe: Vec<String>,
    /// The other end's name, where this host knows one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<Peer>,
    /// The flow that must work on this host and that these denies hit, where the host is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub needed: Option<Needed>,
    /// With `--suggest`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<Suggested>,
}

/// A name that this host was told or resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// What gave it.
    pub source: String,
}

/// A flow of the inventory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Needed {
    /// The flow.
    pub name: String,
    /// Where the evidence stands.
    pub source: String,
    /// The evidence.
    pub evidence: String,
}

/// A rule that would admit a group, or why none is suggested.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Suggested {
    /// A rule.
    Rule {
        /// Where it belongs.
        place: String,
        /// YAML, an item of `ingress` or `egress`.
        rule: String,
        /// What else it would admit.
        admits: String,
        /// The command that says what it changes, once it is in the policy's file.
        plan: String,
    },
    /// None.
    Refused {
        /// Why.
        refused: String,
    },
}

impl Row {
    /// A group and the text of its first line.
    #[must_use]
    pub fn new(
        fields: &[Field],
        key: Vec<Value>,
        group: &Group,
        example: Option<&[u8]>,
        failsafes: &Failsafes,
    ) -> Self {
        let key = Key(fields.iter().copied().zip(key).collect());
        let mut why = decided(&key, example).words();
        if group.failsafe > 0 {
            let words = format!(
                "The port is on the failsafe list ({}), so Felix should not have denied it (`hepguard failsafe` compares the \
                 lists)",
                failsafes.source
            );
            why = Some(why.map_or(words.clone(), |why| format!("{why}. {words}")));
        }
        Self {
            count: group.count,
            packets: group.packets,
            bytes: group.bytes,
            first: group.first.and_then(rfc3339),
            last: group.last.and_then(rfc3339),
            failsafe: group.failsafe > 0,
            why,
            written: None,
            examples: example.map(|line| String::from_utf8_lossy(line).into_owned()).into_iter().collect(),
            despite_failsafe: Vec::new(),
            peer: None,
            needed: None,
            suggestion: None,
            key,
        }
    }

    /// Looks the rule up in the policies that are known.
    pub fn find_author(&mut self, authors: &Authors) {
        self.written = decided(&self.key, None).written(authors).map(|place| place.to_string());
    }

    /// The address of the other end, where the key tells it.
    #[must_use]
    pub fn far_end(&self) -> Option<IpAddr> {
        Denied::of_key(self.key.0.iter().map(|(field, value)| (*field, value))).far_end()
    }

    /// Adds the other end's name.
    pub fn named(&mut self, names: &Names) {
        let name = self.far_end().and_then(|address| names.of(address));
        self.peer = name.map(|name| Peer { name: name.name.clone(), source: name.source.clone() });
    }

    /// Adds what the host's inventory and its failsafe lists say, and a rule when one is asked for.
    pub fn judge(&mut self, inventory: Option<&Inventory>, known: Option<&Known<'_>>, suggest: bool) {
        let denied = Denied::of_key(self.key.0.iter().map(|(field, value)| (*field, value)));
        if self.failsafe {
            self.despite_failsafe = denied.despite_failsafe(known, self.last.as_deref());
        }
        self.needed = inventory.and_then(|inventory| denied.needed(inventory)).map(|flow| Needed {
            name: flow.name.clone(),
            source: flow.source.clone(),
            evidence: flow.evidence.clone(),
        });
        if suggest {
            self.suggestion = Some(match denied.suggestion() {
                Ok(Suggestion { place, rule, admits, plan }) => Suggested::Rule { place, rule, admits, plan },
                Err(refused) => Suggested::Refused { refused },
            });
        }
    }
}

/// What a key tells about the decision; the prefix of a kernel line also from an example.
fn decided(key: &Key, example: Option<&[u8]>) -> Decided {
    let text = |field| key.text(field).map(str::to_owned);
    let source = key.text(Field::Source).and_then(|name| tally::source(name).ok());
    Decided {
        source,
        action: key.text(Field::Action).and_then(|name| tally::action(name).ok()),
        direction: text(Field::Direction),
        tier: text(Field::Tier),
        policy: text(Field::Policy),
        rule: key.number(Field::RuleIndex),
        prefix: match text(Field::LogPrefix) {
            None if source == Some(Source::Kernel) => example.and_then(prefix_of),
            prefix => prefix,
        },
    }
}

fn prefix_of(line: &[u8]) -> Option<String> {
    let mut scratch = Scratch::default();
    match read(line, &mut scratch, &mut Stamper::new(Clock::utc(0))).what {
        What::Packet(packet) => Some(String::from_utf8_lossy(packet.prefix).into_owned()),
        _ => None,
    }
}

/// A time range, RFC 3339 UTC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TimeRange {
    /// Earliest event.
    pub first: String,
    /// Latest event.
    pub last: String,
}

/// The failsafe lists used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FailsafeLists {
    /// Inbound.
    #[serde(rename = "in")]
    pub inbound: Vec<Entry>,
    /// Outbound.
    pub out: Vec<Entry>,
    /// Where they are from.
    pub source: String,
}

/// The document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// `hepguard/denies/v1`.
    pub schema: &'static str,
    /// Logs that were read.
    pub files: Vec<FileLine>,
    /// Logs that were not, or not to their end.
    pub unreadable: Vec<Unreadable>,
    /// Denies, those that repeat notices stand for included.
    pub events: u64,
    /// Those of them that only a repeat notice tells of.
    pub repeats: u64,
    /// Groups, of which `groups` may show fewer.
    pub groups_total: usize,
    /// Events of groups that were given up because there were too many for memory; the counts of the others are then lower
    /// bounds.
    pub given_up: u64,
    /// Groups, largest first.
    pub groups: Vec<Row>,
    /// From the earliest to the latest event.
    pub time_range: Option<TimeRange>,
    /// Failsafe lists that `failsafe` is judged by.
    pub failsafe_lists: FailsafeLists,
    /// With `--new-since`: which groups count as new.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_since: Option<NewSince>,
    /// With `--histogram`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub histogram: Option<Histogram>,
}

/// What was not new.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NewSince {
    /// Groups seen before it are left out, RFC 3339 UTC.
    pub time: Option<String>,
    /// How many groups that were.
    pub seen_before: usize,
}

/// Denies over time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Histogram {
    /// Width of a bar.
    pub width_seconds: i64,
    /// Bars with events.
    pub bars: Vec<Bar>,
    /// Events without a time.
    pub undated: u64,
    /// Events in no bar, for the stamps are spread over too long a time.
    pub left_out: u64,
}

/// One bar.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Bar {
    /// Its start, RFC 3339 UTC.
    pub start: String,
    /// Events.
    pub count: u64,
}

impl Histogram {
    /// Of counts.
    #[must_use]
    pub fn new(bars: &Bars) -> Self {
        let bar = |(start, count): &(Micros, u64)| Some(Bar { start: rfc3339(*start)?, count: *count });
        Self {
            width_seconds: bars.width,
            bars: bars.bars.iter().filter_map(bar).collect(),
            undated: bars.undated,
            left_out: bars.left_out,
        }
    }
}

impl Answer {
    /// Puts the parts together.
    #[must_use]
    #[expect(clippy::too_many_arguments, reason = "each is one field of the document")]
    pub fn new(
        files: Vec<FileLine>,
        events: u64,
        repeats: u64,
        given_up: u64,
        range: Option<(Micros, Micros)>,
        groups: Vec<Row>,
        groups_total: usize,
        failsafes: &Failsafes,
    ) -> Self {
        let range = range.and_then(|(first, last)| Some(TimeRange { first: rfc3339(first)?, last: rfc3339(last)? }));
        Self {
            schema: "hepguard/denies/v1",
            files,
            unreadable: Vec::new(),
            events,
            repeats,
            groups_total,
            given_up,
            groups,
            time_range: range,
            failsafe_lists: FailsafeLists {
                inbound: failsafes.inbound.clone(),
                out: failsafes.outbound.clone(),
                source: failsafes.source.clone(),
            },
            new_since: None,
            histogram: None,
        }
    }

    pub(super) fn sum(&self, part: impl Fn(&FileLine) -> u64) -> u64 {
        self.files.iter().map(part).sum()
    }
}
