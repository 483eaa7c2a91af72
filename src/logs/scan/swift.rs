//! Lines that are like those before: taken without being taken apart, or with little of that.
//!
//! Whatever is unusual about a line, even in one byte, leaves it to the rest of the scan, which reads it to the same result.

use memchr::memchr;

use super::super::event::{Action, Event};
use super::super::heads::Start;
use super::super::memo::{BATCH, Key, Outcome};
use super::super::tally::{Again, Origin, Place, Sink, Verdict};
use super::super::time::Micros;
use super::super::usual::{self, Said};
use super::super::vector::Mark;
use super::{LINE_LIMIT, Scan, found, repeated_after};

/// Unknown lines read at once.
const UNKNOWN: usize = 64;

/// Lines that wait to be looked up.
pub(super) struct Batch<'t> {
    /// The first ones are taken.
    lines: [Waiting<'t>; BATCH],
    taken: usize,
    /// Lines of which nothing is remembered: they are read many at once, so that what reads them need not be fetched again for
    /// each and drive out what reads the others.
    unknown: Vec<Waiting<'t>>,
}

impl<'t> Batch<'t> {
    /// None yet.
    pub(super) fn new() -> Self {
        Self { lines: std::array::from_fn(|_| Waiting::default()), taken: 0, unknown: Vec::new() }
    }
}

/// A usual line that waits to be looked up. It is made where it is kept, since moving it takes as long as making it.
#[derive(Clone, Copy)]
pub(super) struct Waiting<'t> {
    line: &'t [u8],
    /// Where the pairs of a report begin.
    from: usize,
    /// What the prefix of a packet line says about the verdict.
    action: Action,
    pub(super) said: Said<'t>,
    pub(super) key: Key,
    time: Option<Micros>,
    host: Option<&'t [u8]>,
    place: Place,
    /// The lines behind it, none when the next one is no notice of repetition for sure.
    following: &'t [u8],
}

impl Default for Waiting<'_> {
    fn default() -> Self {
        let place = Place { file: 0, offset: 0, length: 0 };
        let (said, key) = (Said::default(), Key::default());
        Self { line: &[], from: 0, action: Action::Deny, said, key, time: None, host: None, place, following: &[] }
    }
}

impl<'t> Waiting<'t> {
    fn origin(&self, keep: bool) -> Origin<'t> {
        Origin { line: self.line, place: self.place, keep }
    }
}

impl Scan<'_> {
    /// Takes the line at `start`, with this mark, when it is a usual one; gives where it ends.
    #[inline]
    pub(super) fn take<'t>(
        &mut self,
        (own, text, base): (&'t [u8], &'t [u8], u64),
        (start, mark, place): (usize, Mark, usize),
        batch: &mut Batch<'t>,
        sink: &mut impl Sink,
    ) -> Option<usize> {
        match mark {
            Mark::Report => self.take_report((own.len(), text, base), start, batch, sink),
            Mark::Packet => {
                self.take_packet((own, text, base), start, place - start, batch, sink).map(|length| start + length)
            }
            Mark::Other => None,
        }
    }

    /// Takes the report line at `start` when it is a usual one; gives where it ends.
    #[inline]
    fn take_report<'t>(
        &mut self,
        (end, text, base): (usize, &'t [u8], u64),
        start: usize,
        batch: &mut Batch<'t>,
        sink: &mut impl Sink,
    ) -> Option<usize> {
        if self.joiner.waits() || self.cri {
            return None;
        }
        let seed = sink.memo().map(|memo| memo.seed())?;
        let rest = text.get(start..)?;
        let Start { time, host, rest: pairs } = self.heads.report(rest)?;
        if let Some(before) = batch.taken.checked_sub(1).and_then(|last| batch.lines.get_mut(last))
            && before.following.len() == rest.len()
        {
            // a report is behind it, hence no notice
            before.following = &[];
        }
        let line = self.room(batch, sink)?;
        self.vector.cut(pairs, &mut line.said)?;
        line.key.set(&line.said, seed)?;
        line.from = rest.len() - pairs.len();
        let length = line.from + line.said.length;
        // what was cut may be several lines, and those behind the end are somebody else's
        if start + length >= end {
            return None;
        }
        line.place = self.place(base, start, length);
        (line.line, line.following) = (rest.get(..length)?, rest.get(length + 1..)?);
        (line.time, line.host) = (time, host);
        batch.taken += 1;
        Some(start + length + 1)
    }

    /// Room for one more line.
    #[inline]
    fn room<'b, 't>(&mut self, batch: &'b mut Batch<'t>, sink: &mut impl Sink) -> Option<&'b mut Waiting<'t>> {
        if batch.taken == BATCH {
            self.settle(batch, sink);
        }
        batch.lines.get_mut(batch.taken)
    }

    fn place(&self, base: u64, at: usize, length: usize) -> Place {
        let offset = base + u64::try_from(at).unwrap_or(0);
        Place { file: self.file, offset, length: u32::try_from(length).unwrap_or(u32::MAX) }
    }

    /// Takes the packet line at `start`, with ` OUT=` at `out` of it, when all of it is usual; gives its length with line end.
    fn take_packet<'t>(
        &mut self,
        (own, text, base): (&'t [u8], &'t [u8], u64),
        start: usize,
        out: usize,
        batch: &mut Batch<'t>,
        sink: &mut impl Sink,
    ) -> Option<usize> {
        if self.joiner.waits() || self.cri {
            return None;
        }
        let (own, text) = (own.get(start..)?, text.get(start..)?);
        let Start { time, host, rest: message } = self.heads.kernel(own)?;
        let from = own.len() - message.len();
        let (action, opening) = self.prefixes.usual(message, out.checked_sub(from)?)?;
        let (wanted, counted) = (self.may_want(action), action == Action::Log && self.by_action);
        if !wanted {
            let stop = out + memchr(b'\n', own.get(out..)?)?;
            return (stop <= LINE_LIMIT).then_some(stop + 1);
        }
        if counted || self.skim.asks() {
            let stop = out + self.vector.packet_end(own.get(out..)?)?;
            if stop > LINE_LIMIT {
                return None;
            }
            if counted {
                let following = self.notice(text.get(stop + 1..).unwrap_or_default());
                let times = repeated_after(following, host, &mut self.stamper);
                self.counts.no_verdict += times.unwrap_or(0).saturating_add(1);
                return Some(stop + 1);
            }
            if !self.skim.may_be_wanted(own.get(from..stop)?) {
                return Some(stop + 1);
            }
        }
        let seed = sink.memo().filter(|_| self.packets_by_text).map(|memo| memo.seed())?;
        let line = self.room(batch, sink)?;
        opening.cut(text.get(out + 1..)?, (self.vector, &mut self.ends), &mut line.said)?;
        line.key.set(&line.said, seed)?;
        let stop = out + 1 + line.said.length;
        line.place = self.place(base, start, stop);
        (line.line, line.following) = (own.get(..stop)?, text.get(stop + 1..).unwrap_or_default());
        (line.time, line.host, line.action) = (time, host, action);
        batch.taken += 1;
        Some(stop + 1)
    }

    /// Whether a packet line with this verdict may be wanted, or counted as one without.
    pub(super) fn may_want(&self, action: Action) -> bool {
        let wanted = &self.query.filter.action;
        action == Action::Log || wanted.is_empty() || wanted.contains(&action)
    }

    /// The lines behind another, none when the first is no notice of repetition for sure.
    #[inline]
    fn notice<'t>(&self, following: &'t [u8]) -> &'t [u8] {
        if self.vector.may_hold_notice(following) { following } else { &[] }
    }

    /// Counts the lines that wait, the unknown ones too.
    pub(super) fn settle_all(&mut self, batch: &mut Batch<'_>, sink: &mut impl Sink) {
        self.settle(batch, sink);
        self.read_unknown(batch, sink);
    }

    /// Counts the lines that wait. What became of them is looked up for all before it is used, so that the places where
    /// that is kept come from memory together.
    fn settle(&mut self, batch: &mut Batch<'_>, sink: &mut impl Sink) {
        let Batch { lines, taken, unknown } = batch;
        let waiting = lines.get(..*taken).unwrap_or_default();
        let said = waiting.iter().map(|line| (&line.said, &line.key));
        let outcomes = sink.memo().map_or([None; BATCH], |memo| memo.recall_all(said));
        sink.call(outcomes.iter().flatten().copied());
        for (outcome, line) in outcomes.iter().zip(waiting) {
            match outcome {
                Some(outcome) => self.count(line, *outcome, sink),
                None => unknown.push(*line),
            }
        }
        *taken = 0;
        if unknown.len() >= UNKNOWN {
            self.read_unknown(batch, sink);
        }
    }

    /// Counts a line of which it is known what becomes of it.
    #[inline]
    fn count(&mut self, line: &Waiting<'_>, outcome: Outcome, sink: &mut impl Sink) {
        if outcome == Outcome::Unwanted {
            return;
        }
        let Waiting { said: Said { packets, bytes, .. }, time, host, following, .. } = *line;
        let repeats = repeated_after(self.notice(following), host, &mut self.stamper).unwrap_or(0);
        let count = repeats.saturating_add(1);
        match outcome {
            Outcome::Counted { group, failsafe } => {
                let origin = line.origin(self.keep);
                sink.again(group, &Again { time, count, repeats, packets, bytes, failsafe, origin });
            }
            _ => self.counts.no_verdict += count,
        }
    }

    #[cold]
    #[inline(never)]
    fn read_unknown(&mut self, batch: &mut Batch<'_>, sink: &mut impl Sink) {
        for line in batch.unknown.drain(..) {
            // one before may have said the same
            match sink.memo().and_then(|memo| memo.recall(&line.said, &line.key)) {
                Some(outcome) => self.count(&line, outcome, sink),
                None => self.read_waiting(&line, sink),
            }
        }
    }

    /// Reads a line of which nothing is remembered.
    fn read_waiting(&mut self, waiting: &Waiting<'_>, sink: &mut impl Sink) {
        let Waiting { line, from, action, said, time, host, following, .. } = waiting;
        let (time, host, origin) = (*time, *host, waiting.origin(self.keep));
        if memchr(b'\n', line).is_some() {
            return self.read_torn(waiting, sink);
        }
        let following = self.notice(following);
        if said.kind < usual::PACKET {
            let pairs = line.get(*from..).unwrap_or_default();
            return self.report(pairs, Some(waiting), (time, host), following, origin, sink);
        }
        let event = Event { time, host, ..said.packet(*action) };
        let verdict = found(event, following, origin, self.query, &mut self.stamper, &mut self.counts, sink);
        Self::remember(Some(waiting), verdict, sink);
    }

    /// Reads a text that was cut like one line and is several.
    #[cold]
    fn read_torn(&mut self, waiting: &Waiting<'_>, sink: &mut impl Sink) {
        let Waiting { line: text, place, following, .. } = waiting;
        let mut offset = place.offset;
        for line in text.split(|byte| *byte == b'\n') {
            let marks = self.sought.marks(line);
            let length = line.len() + 1;
            if let Some(marks) = marks {
                let behind = usize::try_from(offset - place.offset).ok().and_then(|from| text.get(from + length..));
                self.candidate(line, marks, behind.unwrap_or(following), offset, sink);
            }
            offset += u64::try_from(length).unwrap_or(0);
        }
    }

    /// Remembers what became of a line that waited.
    pub(super) fn remember(waited: Option<&Waiting<'_>>, verdict: Verdict, sink: &mut impl Sink) {
        let outcome = match verdict {
            Verdict::Wanted => sink.outcome(),
            Verdict::Unwanted => Some(Outcome::Unwanted),
            Verdict::NoVerdict => Some(Outcome::NoVerdict),
            Verdict::Undated => None,
        };
        if let (Some(Waiting { said, key, .. }), Some(outcome), Some(memo)) = (waited, outcome, sink.memo()) {
            memo.learn(said, key, outcome);
        }
    }
}
