//! What the reader counts: denies by kind, and sums of those that are forwarded.
//!
//! A kind is told once, with an example; from then on it has a number, and only how often it came is told. Lines that say what
//! another has said go by their text ([`Memo`]) and are not taken apart again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::reader::seconds;
use crate::forward::sum::{Sum, Summer, Told};
use crate::logs::event::Event;
use crate::logs::memo::{Memo, Outcome};
use crate::logs::scan::{Counts, Scan};
use crate::logs::tally::{Again, Origin, Query, Sink};
use crate::logs::time::Clock;
use crate::monitor::deny::{Batch, EXAMPLE, Kind, MAX_KINDS, Seen};
use crate::system::local_to_utc;

/// What was found since the last report, with kinds by their numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Found {
    /// Kinds never told before, with an example of each; the first has the number `from`, and what had it before is forgotten.
    new: Vec<(Kind, String)>,
    from: usize,
    /// Denies by number.
    counts: Vec<(usize, u64)>,
    lines: u64,
    bytes: u64,
    malformed: u64,
}

/// The kinds a reader told, by number.
pub(super) type Names = Vec<(Arc<Kind>, Arc<str>)>;

impl Found {
    /// With the kinds themselves; `None` for a number that was not told.
    pub(super) fn batch(self, names: &mut Names) -> Option<Batch> {
        if self.from > names.len() {
            return None;
        }
        if !self.new.is_empty() {
            names.truncate(self.from);
            names.extend(self.new.into_iter().map(|(kind, example)| (Arc::new(kind), example.into())));
        }
        let named = |(number, count): (usize, u64)| {
            let (kind, example) = names.get(number)?;
            Some((Arc::clone(kind), Seen { count, example: Arc::clone(example) }))
        };
        let kinds = self.counts.into_iter().map(named).collect::<Option<Vec<_>>>()?;
        Some(Batch { kinds, lines: self.lines, bytes: self.bytes, malformed: self.malformed })
    }
}

/// Counts by kind since the last report.
#[derive(Default)]
pub(super) struct Counter {
    numbers: HashMap<Kind, usize>,
    /// By number.
    counts: Vec<u64>,
    /// Numbers whose count is not zero.
    met: Vec<usize>,
    new: Vec<(Kind, String)>,
    /// The kind of the event at hand: most are known, and need no memory of their own.
    kind: Kind,
    /// What became of lines by their text; `None` where each event is wanted whole.
    memo: Option<Memo>,
    outcome: Option<Outcome>,
    only_repeats: bool,
    /// The log, and the offset of the block at hand: with its place there an event has a name of its own.
    log: Vec<u8>,
    at: u64,
    /// Denies to forward, each by itself or summed.
    sums: Option<Summer>,
    closed: Vec<Sum>,
}

impl Counter {
    pub(super) fn new(denies: Option<bool>) -> Self {
        // this process closes sums when it tells them; for how long they go on is the daemon's business
        let over = |each| if each { Duration::ZERO } else { Duration::MAX };
        let memo = denies.is_none().then(Memo::new);
        Self { sums: denies.map(|each| Summer::new(over(each))), memo, ..Self::default() }
    }

    /// From here on lines are those of `log`, from this offset on.
    pub(super) fn is_at(&mut self, log: &[u8], at: u64) {
        if self.log != log {
            log.clone_into(&mut self.log);
        }
        self.at = at;
    }

    /// Denies to forward.
    pub(super) fn denies(&mut self) -> Vec<Told> {
        if let Some(sums) = &mut self.sums {
            self.closed.extend(sums.close());
        }
        self.closed.drain(..).map(|sum| Told::from(&sum)).collect()
    }

    /// What was counted since the last call; the rest of it is in the scan's own counts.
    pub(super) fn found(&mut self, scanned: &Counts) -> Found {
        let new = std::mem::take(&mut self.new);
        let from = self.counts.len() - new.len();
        let counts = &mut self.counts;
        let taken = self.met.drain(..).filter_map(|number| Some((number, std::mem::take(counts.get_mut(number)?))));
        let found = Found {
            new,
            from,
            counts: taken.collect(),
            lines: scanned.lines,
            bytes: scanned.bytes,
            malformed: scanned.malformed,
        };
        // forged lines make new kinds without end: the numbers begin anew
        if self.numbers.len() >= MAX_KINDS {
            self.numbers.clear();
            self.counts.clear();
            self.memo = self.memo.as_ref().map(|_| Memo::new());
        }
        found
    }

    /// A notice at the start of a block that the line before it was repeated: only the repeats are new.
    pub(super) fn late_notice(&mut self, query: &Query, last: &mut Vec<u8>, text: &[u8]) {
        let end = memchr::memchr(b'\n', text).map_or(text.len(), |end| end + 1);
        let first = text.get(..end).unwrap_or(text);
        if last.is_empty() || first.len() > 256 || memchr::memmem::find(first, b"last message repeated ").is_none() {
            return;
        }
        let own = last.len();
        last.extend_from_slice(first);
        self.only_repeats = true;
        let clock = Clock { reference: seconds(), to_utc: &local_to_utc };
        Scan::new(query, clock, 0, true).block(last, own, 0, self);
        self.only_repeats = false;
    }

    /// Takes an event for the outputs. A line and a notice that it was repeated are two events, whether they are read together or
    /// one after the other.
    fn forward(&mut self, event: &Event<'_>, origin: Origin<'_>) {
        let Some(sums) = &mut self.sums else { return };
        // a notice stands behind its line; one that came late, at the start of the block
        let length = u64::try_from(origin.line.len()).unwrap_or(0);
        let line = self.at + origin.place.offset;
        let notice = if self.only_repeats { self.at } else { line + length + 1 };
        let own = if self.only_repeats { 0 } else { event.count.saturating_sub(event.repeats) };
        let parts = [(own, 0, line), (event.repeats.min(event.count), event.repeats, notice)];
        for (count, repeats, at) in parts.into_iter().filter(|(count, ..)| *count > 0) {
            let told = Event { count, repeats, ..event.clone() };
            // with its text, too: after a rotation another line stands there
            let place = [self.log.as_slice(), &at.to_le_bytes()].concat();
            self.closed.extend(sums.add(&told, origin.line, &place, 0));
        }
    }

    /// How many of these events are new.
    fn fresh(&self, count: u64, repeats: u64) -> u64 {
        match self.only_repeats {
            false => count,
            true if repeats >= count => 0,
            true => repeats,
        }
    }

    /// The number of the event's kind.
    fn number(&mut self, event: &Event<'_>, line: &[u8]) -> usize {
        self.kind.become_that_of(event);
        if let Some(number) = self.numbers.get(&self.kind) {
            return *number;
        }
        let kind = if self.numbers.len() < MAX_KINDS { self.kind.clone() } else { self.kind.any_port() };
        if let Some(number) = self.numbers.get(&kind) {
            return *number;
        }
        let number = self.counts.len();
        self.counts.push(0);
        let example = String::from_utf8_lossy(line.get(..EXAMPLE).unwrap_or(line)).into_owned();
        self.new.push((kind.clone(), example));
        self.numbers.insert(kind, number);
        number
    }

    fn count(&mut self, number: usize, count: u64) {
        if let Some(sum) = self.counts.get_mut(number).filter(|_| count > 0) {
            if *sum == 0 {
                self.met.push(number);
            }
            *sum = sum.saturating_add(count);
        }
    }
}

impl Sink for Counter {
    fn event(&mut self, event: &Event<'_>, origin: Origin<'_>) {
        self.outcome = None;
        let count = self.fresh(event.count, event.repeats);
        if count == 0 {
            return;
        }
        if self.sums.is_some() {
            self.forward(event, origin);
        }
        let number = self.number(event, origin.line);
        self.count(number, count);
        self.outcome = u32::try_from(number).ok().map(|group| Outcome::Counted { group, failsafe: event.failsafe });
    }

    fn memo(&mut self) -> Option<&mut Memo> {
        self.memo.as_mut()
    }

    fn outcome(&self) -> Option<Outcome> {
        self.outcome
    }

    fn again(&mut self, group: u32, again: &Again<'_>) {
        let count = self.fresh(again.count, again.repeats);
        self.count(usize::try_from(group).unwrap_or(usize::MAX), count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(port: u16, policy: &str) -> String {
        format!(
            "2026-08-04T16:14:12.123456+00:00 b calico-felix[3]: INFO <nil> <nil>:  action=\"deny\" dstIP=\"192.0.2.1\" \
             dstPort=\"{port}\" inBytes=0 inPackets=0 outBytes=1 outPackets=1 policy=\"{policy}\" proto=\"6\" rule=\"-1\" \
             ruleDir=\"egress\" srcIP=\"10.0.1.10\" srcPort=\"1\" tier=\"t\" trafficDir=\"outbound\" updateType=report\n"
        )
    }

    fn take(counter: &mut Counter, text: &str, names: &mut Names) -> Vec<(Option<u16>, u64)> {
        let query = Query::new();
        let mut scan = Scan::new(&query, Clock { reference: seconds(), to_utc: &local_to_utc }, 0, true);
        scan.block(text.as_bytes(), text.len(), 0, counter);
        let found = counter.found(&scan.counts);
        // as it goes over the pipe
        let found: Found = serde_json::from_slice(&serde_json::to_vec(&found).expect("JSON")).expect("JSON");
        let batch = found.batch(names).expect("numbers that were told");
        assert_eq!(batch.lines, u64::try_from(text.lines().count()).expect("few"));
        assert!(batch.kinds.iter().all(|(_, seen)| seen.example.contains("action=\"deny\"")));
        batch.kinds.iter().map(|(kind, seen)| (kind.port, seen.count)).collect()
    }

    #[test]
    fn kinds_are_told_once_and_counted_by_number() {
        for denies in [None, Some(false)] {
            let (mut counter, mut names) = (Counter::new(denies), Names::new());
            let text = line(22, "a").repeat(3) + &line(443, "a");
            assert_eq!(take(&mut counter, &text, &mut names), [(Some(22), 3), (Some(443), 1)]);
            let more = line(443, "a").repeat(2) + "Aug  4 16:14:12 b cron[1]: x\n";
            assert_eq!(take(&mut counter, &more, &mut names), [(Some(443), 2)]);
            assert_eq!(names.len(), 2, "nothing is told again");
            assert_eq!(take(&mut counter, "x\n", &mut names), []);
            assert_eq!(counter.denies().len(), if denies.is_some() { 2 } else { 0 });
        }
    }

    #[test]
    fn too_many_kinds_begin_anew() {
        let (mut counter, mut names) = (Counter::new(None), Names::new());
        let many: String = (0..MAX_KINDS + 10).map(|number| line(22, &format!("p{number}"))).collect();
        let told = take(&mut counter, &many, &mut names);
        assert_eq!(told.iter().map(|(_, count)| *count).sum::<u64>(), u64::try_from(MAX_KINDS + 10).expect("few"));
        assert_eq!(take(&mut counter, &line(443, "p5"), &mut names), [(Some(443), 1)]);
        assert_eq!(names.len(), 1);
        let unknown = Found { counts: vec![(7, 1)], ..Found::default() };
        assert!(unknown.batch(&mut names).is_none(), "a number that was not told");
        assert!(Found { from: 9, ..Found::default() }.batch(&mut names).is_none());
    }

    #[test]
    fn a_notice_that_comes_late_counts_only_the_repeats() {
        for denies in [None, Some(true)] {
            let (mut counter, mut names) = (Counter::new(denies), Names::new());
            let text = line(22, "a");
            counter.is_at(b"log", 100);
            assert_eq!(take(&mut counter, &text, &mut names), [(Some(22), 1)]);
            let notice = "2026-08-04T16:14:13.123456+00:00 b last message repeated 4 times\n";
            let mut last = text.clone().into_bytes();
            counter.is_at(b"log", 100 + u64::try_from(text.len()).expect("short"));
            counter.late_notice(&Query::new(), &mut last, notice.as_bytes());
            assert_eq!(take(&mut counter, "", &mut names), [(Some(22), 4)]);
            // read together it is the same
            let late = counter.denies();
            let (mut counter, mut names) = (Counter::new(denies), Names::new());
            counter.is_at(b"log", 100);
            assert_eq!(take(&mut counter, &(text + notice), &mut names), [(Some(22), 5)]);
            assert_eq!(counter.denies(), late);
            assert_eq!(late.len(), if denies.is_some() { 2 } else { 0 });
        }
    }
}
