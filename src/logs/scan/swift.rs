//! Lines that are like those before: taken without being taken apart, or with little of that.
//!
//! Whatever is unusual about a line, even in one byte, leaves it to the rest of the scan, which reads it to the same result.

use memchr::memchr;

use super::super::event::{Action, Event};
use super::super::header::trim_end;
use super::super::heads::Start;
use super::super::memo::{Key, Outcome};
use super::super::tally::{Again, Origin, Place, Sink};
use super::super::time::Micros;
use super::super::usual::{self, Said};
use super::{LINE_LIMIT, Scan, found, repeated_after};

/// Usual report lines looked up at once.
pub(super) const BATCH: usize = 16;

/// A usual report line that waits to be looked up.
pub(super) struct Waiting<'t> {
    line: &'t [u8],
    /// Its pairs and what follows them.
    pairs: &'t [u8],
    pub(super) said: Said<'t>,
    pub(super) key: Key,
    time: Option<Micros>,
    host: Option<&'t [u8]>,
    place: Place,
    following: &'t [u8],
    /// The next line is another report, hence no notice of repetition.
    report_follows: bool,
}

impl<'t> Waiting<'t> {
    fn origin(&self, keep: bool) -> Origin<'t> {
        Origin { line: self.line, place: self.place, keep }
    }
}

impl Scan<'_> {
    /// Takes the usual report lines from `start` on, one behind the other, without a search; gives where they end. When
    /// nothing but denies is wanted, a line of something else is left alone: the rest of a torn line may be behind it.
    pub(super) fn take_usual<'t>(
        &mut self,
        (own, text, base): (&'t [u8], &'t [u8], u64),
        start: usize,
        waiting: &mut Vec<Waiting<'t>>,
        sink: &mut impl Sink,
    ) -> usize {
        let [cri, _] = &self.parts;
        let mut at = start;
        if self.joiner.waits() || cri.finder.is_some() {
            return at;
        }
        let Some(seed) = sink.memo().map(|memo| memo.seed()) else { return at };
        while let Some(rest) = own.get(at..)
            && let Some(Start { time, host, rest: pairs }) = self.heads.report(rest)
            && let Some(said) = usual::cut(pairs)
            && (said.action == Action::Deny || !self.only_denies)
            && let Some(key) = Key::of(&said, seed)
        {
            let length = rest.len() - pairs.len() + said.length;
            let place = Place {
                file: self.file,
                offset: base + u64::try_from(at).unwrap_or(0),
                length: u32::try_from(length).unwrap_or(u32::MAX),
            };
            if at > start
                && let Some(before) = waiting.last_mut()
            {
                before.report_follows = true;
            }
            let following = text.get(at + length + 1..).unwrap_or_default();
            let line = rest.get(..length).unwrap_or_default();
            waiting.push(Waiting { line, pairs, said, key, time, host, place, following, report_follows: false });
            if waiting.len() == BATCH {
                self.settle(waiting, sink);
            }
            at += length + 1;
        }
        at
    }

    /// Takes the packet line at `start`, with ` OUT=` at `out` of it, when all of it is usual; gives its length with line end.
    pub(super) fn take_packet(
        &mut self,
        (own, text, base): (&[u8], &[u8], u64),
        start: usize,
        out: usize,
        sink: &mut impl Sink,
    ) -> Option<usize> {
        let [cri, _] = &self.parts;
        if self.joiner.waits() || cri.finder.is_some() {
            return None;
        }
        let own = own.get(start..)?;
        let Start { time, host, rest: message } = self.heads.kernel(own)?;
        let from = own.len() - message.len();
        let stop = out + memchr(b'\n', own.get(out..)?)?;
        let message = trim_end(own.get(from..stop)?);
        let (action, opening) = self.prefixes.usual(message, out.checked_sub(from)?)?;
        if stop > LINE_LIMIT {
            return None;
        }
        let following = text.get(start + stop + 1..).unwrap_or_default();
        if action == Action::Log && self.by_action {
            if !opening.has_source() {
                return None;
            }
            let times = self.repeated_after(following, host);
            self.counts.no_verdict += times.unwrap_or(0).saturating_add(1);
            return Some(stop + 1);
        }
        if self.may_want(action) && self.skim.may_be_wanted(message) {
            let packet = opening.brief()?;
            let event = Event { time, host, ..Event::of_judged_packet(&packet, action) };
            let length = u32::try_from(stop).unwrap_or(u32::MAX);
            let place = Place { file: self.file, offset: base + u64::try_from(start).unwrap_or(0), length };
            let origin = Origin { line: own.get(..stop)?, place, keep: self.keep };
            // no line of the kernel is a notice of repetition
            let following = if self.heads.kernel(following).is_some() { &[] } else { following };
            found(event, following, origin, self.query, &mut self.stamper, &mut self.counts, sink);
        }
        Some(stop + 1)
    }

    /// Whether a packet line with this verdict may be wanted, or counted as one without.
    pub(super) fn may_want(&self, action: Action) -> bool {
        let wanted = &self.query.filter.action;
        action == Action::Log || wanted.is_empty() || wanted.contains(&action)
    }

    /// `last message repeated N times` of the same host as the next line.
    #[inline]
    fn repeated_after(&mut self, following: &[u8], host: Option<&[u8]>) -> Option<u64> {
        // which no line of the kernel is
        if self.heads.kernel(following).is_some() {
            return None;
        }
        repeated_after(following, host, &mut self.stamper)
    }

    /// Counts the lines that wait. What became of them is looked up for all before it is used, so that the places where
    /// that is kept come from memory together.
    pub(super) fn settle(&mut self, waiting: &mut Vec<Waiting<'_>>, sink: &mut impl Sink) {
        let mut outcomes = [None; BATCH];
        if let Some(memo) = sink.memo() {
            for (outcome, line) in outcomes.iter_mut().zip(&*waiting) {
                *outcome = memo.recall(&line.said, &line.key);
            }
        }
        for (outcome, line) in outcomes.iter().zip(&*waiting) {
            if let Some(Outcome::Counted { group, failsafe }) = *outcome {
                let Waiting { said: Said { packets, bytes, .. }, time, host, following, report_follows, .. } = *line;
                let repeats = match report_follows {
                    true => 0,
                    false => repeated_after(following, host, &mut self.stamper).unwrap_or(0),
                };
                let count = repeats.saturating_add(1);
                let origin = line.origin(self.keep);
                sink.again(group, &Again { time, count, repeats, packets, bytes, failsafe, origin });
            }
        }
        // a new group may give others new numbers
        for (outcome, line) in outcomes.iter().zip(waiting.drain(..)) {
            if outcome.is_none() {
                let origin = line.origin(self.keep);
                let pairs = line.pairs.get(..line.said.length).unwrap_or_default();
                self.report(pairs, Some(&line), (line.time, line.host), line.following, origin, sink);
            }
        }
    }
}
