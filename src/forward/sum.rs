//! Denies of one kind as one message: the first of them with how many there were, and the packets and bytes of all.
//!
//! A kind is what an admin would call the same deny: source, direction, tier, policy, rule, prefix, protocol, addresses and
//! service port; the caller's port and how large a packet was are left out. Sums are closed by told time, never by the clock.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::encode::message::id_of;
use crate::logs::event::{Action, Direction, Event, Source};
use crate::logs::time::Micros;

/// Most kinds summed at once: beyond, sums are closed early. A flood with forged addresses makes a kind of each packet.
const MOST_KINDS: usize = 4096;

/// Longest line kept with a sum, in bytes.
const MAX_LINE: usize = 2048;

#[derive(Clone, PartialEq, Eq, Hash)]
struct Kind {
    source: Source,
    action: Action,
    direction: Option<Direction>,
    proto: Option<u8>,
    src: Option<IpAddr>,
    dst: Option<IpAddr>,
    dport: Option<u16>,
    icmp: (Option<u8>, Option<u8>),
    rule: Option<i32>,
    names: [Option<Box<[u8]>>; 6],
}

impl Kind {
    fn of(event: &Event<'_>) -> Self {
        let own = |bytes: Option<&[u8]>| bytes.map(Box::from);
        Self {
            source: event.source,
            action: event.action,
            direction: event.direction,
            proto: event.proto,
            src: event.src_ip,
            dst: event.dst_ip,
            dport: event.dst_port,
            icmp: (event.icmp_type, event.icmp_code),
            rule: event.rule_index,
            names: [
                own(event.host),
                own(event.tier.as_deref()),
                own(event.policy.as_deref()),
                own(event.log_prefix),
                own(event.in_iface),
                own(event.out_iface),
            ],
        }
    }
}

/// A sum: the first event of its kind, and what came after it.
pub struct Sum {
    kind: Kind,
    first: Option<Micros>,
    src_port: Option<u16>,
    failsafe: bool,
    count: u64,
    repeats: u64,
    /// Packets and bytes of the first event, and of all.
    size: (u64, u64),
    totals: (u64, u64),
    line: Vec<u8>,
    id: String,
    order: u64,
}

impl Sum {
    /// The sum as an event.
    #[must_use]
    pub fn event(&self) -> Event<'_> {
        let kind = &self.kind;
        let name = |at: usize| kind.names.get(at).and_then(|name| name.as_deref());
        Event {
            time: self.first,
            host: name(0),
            source: kind.source,
            action: kind.action,
            direction: kind.direction,
            proto: kind.proto,
            src_ip: kind.src,
            // several callers' ports have no one number
            src_port: self.src_port,
            dst_ip: kind.dst,
            dst_port: kind.dport,
            icmp_type: kind.icmp.0,
            icmp_code: kind.icmp.1,
            in_iface: name(4),
            out_iface: name(5),
            tier: name(1).map(Cow::Borrowed),
            policy: name(2).map(Cow::Borrowed),
            rule_index: kind.rule,
            log_prefix: name(3),
            packets: self.size.0,
            bytes: self.size.1,
            count: self.count,
            repeats: self.repeats,
            totals: Some(self.totals),
            workload: false,
            failsafe: self.failsafe,
        }
    }

    /// The line of the first event.
    #[must_use]
    pub fn line(&self) -> &[u8] {
        &self.line
    }

    /// Its id: of the place of its first event, so that a sum made again from the same lines is the same message.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}

/// A sum on its way from the process that reads logs to the one that sends: names and numbers, no line to be read again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    source: String,
    action: String,
    direction: Option<String>,
    proto: Option<u8>,
    src: Option<IpAddr>,
    dst: Option<IpAddr>,
    sport: Option<u16>,
    dport: Option<u16>,
    icmp: (Option<u8>, Option<u8>),
    rule: Option<i32>,
    size: (u64, u64),
    /// As kept by a version that summed events of one size only: none.
    totals: Option<(u64, u64)>,
    names: [Option<String>; 6],
    first: Option<Micros>,
    failsafe: bool,
    count: u64,
    repeats: u64,
    line: String,
    id: String,
}

impl From<&Sum> for Told {
    fn from(sum: &Sum) -> Self {
        let kind = &sum.kind;
        let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            source: kind.source.name().to_owned(),
            action: kind.action.name().to_owned(),
            direction: kind.direction.map(|way| way.name().to_owned()),
            proto: kind.proto,
            src: kind.src,
            dst: kind.dst,
            sport: sum.src_port,
            dport: kind.dport,
            icmp: kind.icmp,
            rule: kind.rule,
            size: sum.size,
            totals: Some(sum.totals),
            names: kind.names.each_ref().map(|name| name.as_deref().map(lossy)),
            first: sum.first,
            failsafe: sum.failsafe,
            count: sum.count,
            repeats: sum.repeats,
            line: lossy(&sum.line),
            id: sum.id.clone(),
        }
    }
}

impl Told {
    /// The sum; `None` for words that are not ours.
    #[must_use]
    pub fn sum(self, order: u64) -> Option<Sum> {
        let direction = match self.direction {
            Some(name) => Some(Direction::ALL.into_iter().find(|known| known.name() == name)?),
            None => None,
        };
        let own = |text: String| text.into_bytes().into_boxed_slice();
        let mut line = self.line.into_bytes();
        line.truncate(MAX_LINE);
        Some(Sum {
            kind: Kind {
                source: Source::ALL.into_iter().find(|known| known.name() == self.source)?,
                action: Action::ALL.into_iter().find(|known| known.name() == self.action)?,
                direction,
                proto: self.proto,
                src: self.src,
                dst: self.dst,
                dport: self.dport,
                icmp: self.icmp,
                rule: self.rule,
                names: self.names.map(|name| name.map(own)),
            },
            first: self.first,
            src_port: self.sport,
            failsafe: self.failsafe,
            count: self.count,
            repeats: self.repeats,
            size: self.size,
            totals: self.totals.unwrap_or_else(|| times(self.size, self.count)),
            line,
            id: self.id,
            order,
        })
    }
}

fn times((packets, bytes): (u64, u64), count: u64) -> (u64, u64) {
    (packets.saturating_mul(count), bytes.saturating_mul(count))
}

fn plus(one: (u64, u64), other: (u64, u64)) -> (u64, u64) {
    (one.0.saturating_add(other.0), one.1.saturating_add(other.1))
}

/// Sums that are open.
pub struct Summer {
    over: Duration,
    open: HashMap<Kind, Sum>,
    since: Option<Micros>,
    seen: u64,
}

impl Summer {
    /// Sums over `over`; zero makes each event a sum of its own.
    #[must_use]
    pub fn new(over: Duration) -> Self {
        Self { over, open: HashMap::new(), since: None, seen: 0 }
    }

    /// Whether each event is a sum of its own.
    #[must_use]
    pub fn is_each(&self) -> bool {
        self.over.is_zero()
    }

    /// Takes an event that stood at `place` (log and offset) with its line. Returns sums that had to be closed.
    pub fn add(&mut self, event: &Event<'_>, line: &[u8], place: &[u8], now: Micros) -> Vec<Sum> {
        let mut closed = self.begin(now);
        let kind = Kind::of(event);
        let count = event.count.max(1);
        let order = self.seen;
        let sum = self.open.entry(kind).or_insert_with_key(|kind| Sum {
            kind: kind.clone(),
            first: event.time,
            src_port: event.src_port,
            failsafe: event.failsafe,
            count: 0,
            repeats: 0,
            size: (event.packets, event.bytes),
            totals: (0, 0),
            line: line.get(..MAX_LINE).unwrap_or(line).to_vec(),
            id: id_of(&[b"deny", place, line]),
            order,
        });
        sum.count = sum.count.saturating_add(count);
        sum.totals = plus(sum.totals, event.totals.unwrap_or_else(|| times((event.packets, event.bytes), count)));
        sum.repeats = sum.repeats.saturating_add(event.repeats);
        if sum.src_port != event.src_port {
            sum.src_port = None;
        }
        if self.over.is_zero() {
            closed.extend(self.close());
        }
        closed
    }

    /// Takes a sum that another process made, or that was open when this one ended. Nothing is closed by that, so that a kind
    /// has one sum for all that is read between two places that are kept; [`Self::is_full`] says when it is time to keep one.
    pub fn take(&mut self, told: Told, now: Micros) {
        let Some(sum) = told.sum(self.seen) else { return };
        self.since.get_or_insert(now);
        self.seen += 1;
        match self.open.get_mut(&sum.kind) {
            Some(known) => {
                known.count = known.count.saturating_add(sum.count);
                known.repeats = known.repeats.saturating_add(sum.repeats);
                known.totals = plus(known.totals, sum.totals);
                if known.src_port != sum.src_port {
                    known.src_port = None;
                }
            }
            None => {
                let _ = self.open.insert(sum.kind.clone(), sum);
            }
        }
    }

    /// Whether as many kinds are open as should be.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.open.len() >= MOST_KINDS
    }

    /// How long until the open sums are to be closed, in microseconds; `None` when none is.
    #[must_use]
    pub fn left(&self, now: Micros) -> Option<Micros> {
        let over = i64::try_from(self.over.as_micros()).unwrap_or(i64::MAX);
        let since = self.since.filter(|_| !self.open.is_empty())?;
        // a clock that went back closes them, too
        Some(if now < since { 0 } else { over.saturating_sub(now - since).max(0) })
    }

    /// The open sums, which stay open.
    #[must_use]
    pub fn opened(&self) -> Vec<Told> {
        let mut all: Vec<&Sum> = self.open.values().collect();
        all.sort_by_key(|sum| sum.order);
        all.into_iter().map(Told::from).collect()
    }

    /// Makes room for one more. Returns sums that had to be closed.
    fn begin(&mut self, now: Micros) -> Vec<Sum> {
        let closed = if self.open.len() >= MOST_KINDS { self.close() } else { self.due(now) };
        self.since.get_or_insert(now);
        self.seen += 1;
        closed
    }

    /// Sums whose time is over.
    pub fn due(&mut self, now: Micros) -> Vec<Sum> {
        if self.left(now) == Some(0) { self.close() } else { Vec::new() }
    }

    /// All sums, in the order their kinds were first met.
    pub fn close(&mut self) -> Vec<Sum> {
        self.since = None;
        let mut all: Vec<Sum> = self.open.drain().map(|(_, sum)| sum).collect();
        all.sort_by_key(|sum| sum.order);
        all
    }

    /// Whether nothing is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::query::Filter;
    use crate::logs::scan::Scan;
    use crate::logs::tally::{Origin, Query, Sink};
    use crate::logs::time::Clock;

    const LAB: &str = include_str!("../../tests/fixtures/logs/lab-syslog.log");

    struct Into(Summer, Vec<Sum>, Micros);

    impl Sink for Into {
        fn event(&mut self, event: &Event<'_>, origin: Origin<'_>) {
            let closed = self.0.add(event, origin.line, b"syslog:0", self.2);
            self.1.extend(closed);
        }
    }

    fn summed(over: u64) -> (Summer, Vec<Sum>) {
        let query = Query { filter: Filter { action: Vec::new(), ..Filter::default() }, ..Query::new() };
        let mut sink = Into(Summer::new(Duration::from_secs(over)), Vec::new(), 5_000_000);
        Scan::new(&query, Clock::utc(1_659_632_400), 0, true).block(LAB.as_bytes(), LAB.len(), 0, &mut sink);
        (sink.0, sink.1)
    }

    #[test]
    fn denies_of_one_kind_are_one_message_with_their_number() {
        let (mut open, early) = summed(10);
        assert!(early.is_empty() && open.due(14_999_999).is_empty());
        let sums = open.due(15_000_000);
        assert!(open.is_empty());
        let counts: Vec<(u64, Option<u16>)> =
            sums.iter().map(|sum| (sum.event().count, sum.event().dst_port)).collect();
        let all: u64 = counts.iter().map(|(count, _)| count).sum();
        let (_, each) = summed(0);
        assert_eq!(all, each.iter().map(|sum| sum.event().count).sum::<u64>());
        assert!(sums.len() < each.len(), "{counts:?}");
        assert_eq!(sums[0].id(), each[0].id(), "the first of a kind names it");
    }

    #[test]
    fn a_flood_of_kinds_is_bounded() {
        let (_, each) = summed(0);
        let mut event = each[0].event();
        let mut summer = Summer::new(Duration::from_secs(3600));
        let mut closed = 0;
        for number in 0..20_000_u32 {
            event.src_ip = Some(IpAddr::from(number.to_be_bytes()));
            closed += summer.add(&event, b"x", &number.to_le_bytes(), 1).len();
            assert!(summer.open.len() <= MOST_KINDS);
        }
        assert_eq!(closed + summer.close().len(), 20_000);
    }

    #[test]
    fn packets_are_neither_lost_nor_made() {
        let (_, each) = summed(0);
        let mut event = each[0].event();
        let mut summer = Summer::new(Duration::from_secs(10));
        let mut wanted = (0, 0);
        for (packets, bytes, count) in [(1, 60, 1), (2, 120, 1), (4, 9000, 3), (2, 120, 1)] {
            (event.packets, event.bytes, event.count, event.totals) = (packets, bytes, count, None);
            wanted = plus(wanted, times((packets, bytes), count));
            let _ = summer.add(&event, b"x", b"p", 1);
        }
        let told = summer.opened();
        let sums = summer.close();
        let sum = sums[0].event();
        assert_eq!((sums.len(), sum.count, sum.packets, sum.bytes), (1, 6, 1, 60), "one kind, the first for all");
        assert_eq!((sum.totals(), wanted), ((17, 27_300), (17, 27_300)));
        // on its way to another process, and to one that did not know totals
        let mut there = Summer::new(Duration::from_secs(10));
        there.take(told[0].clone(), 1);
        there.take(told[0].clone(), 1);
        assert_eq!(there.close()[0].event().totals(), (34, 54_600));
        let mut old: serde_json::Value = serde_json::to_value(&told[0]).expect("JSON");
        old.as_object_mut().expect("an object").remove("totals");
        there.take(serde_json::from_value(old).expect("as it was kept before"), 1);
        assert_eq!(there.close()[0].event().totals(), (6, 360), "they were of one size then");
    }

    #[test]
    fn what_another_process_summed_goes_on_here() {
        let (_, each) = summed(0);
        let mut summer = Summer::new(Duration::from_secs(10));
        for sum in &each {
            let text = serde_json::to_string(&Told::from(sum)).expect("JSON");
            let told: Told = serde_json::from_str(&text).expect("read back");
            assert_eq!(told, Told::from(sum));
            summer.take(told, 1);
        }
        let (mut direct, _) = summed(10);
        // as they are kept for a restart they go on, too
        let mut again = Summer::new(Duration::from_secs(10));
        for told in summer.opened() {
            again.take(told, 1);
        }
        assert_eq!((again.left(1), again.left(4_000_001), again.left(0)), (Some(10_000_000), Some(6_000_000), Some(0)));
        assert_eq!(again.opened(), summer.opened());
        assert!(!again.is_full() && again.due(10_000_000).is_empty() && !again.due(10_000_001).is_empty());
        assert_eq!(again.left(1), None);
        let (here, there) = (summer.close(), direct.close());
        let shown = |sums: &[Sum]| sums.iter().map(Told::from).collect::<Vec<_>>();
        assert_eq!(shown(&here), shown(&there));
        let mut bad = Told::from(&each[0]);
        bad.action = "obey".to_owned();
        summer.take(bad, 1);
        assert!(summer.is_empty());
    }
}
