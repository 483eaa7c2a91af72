//! Finds the few lines of a block of text that can hold an event, and reads only those.
//!
//! A block is searched with vector instructions for what every such line must contain; the other lines are only counted.

mod swift;

use memchr::{memchr, memmem};

use super::event::{Action, Event, Source};
use super::felix;
use super::header::{open, trim_end};
use super::heads::{Heads, Kind, Known};
use super::kernel::{Opening, Prefixes};
use super::line::{Read, Scratch, What, read, torn_second};
use super::partial::{Joined, Joiner, Whole, is_cri};
use super::sift::may_hold_event;
use super::skim::Skim;
use super::tally::{Origin, Place, Query, Sink, Verdict};
use super::time::{Clock, Micros, Stamper};
use super::usual;
use super::vector::{Ends, Hit, Mark, NOTICE_LENGTH, Reports, Sought, Vector, hit, holds_notice, kinds};
use swift::{Batch, Waiting};

/// Bytes of a line that are read; what lies beyond is ignored and counted as truncated.
pub const LINE_LIMIT: usize = 64 * 1024;

/// What was met on the way, besides events.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Lines.
    pub lines: u64,
    /// Bytes.
    pub bytes: u64,
    /// Deny lines that are broken: cut, torn, or with impossible values, and all JSON lines that are cut, since what is missing
    /// may tell of a deny. They are in no group.
    pub malformed: u64,
    /// Lines longer than [`LINE_LIMIT`] of which only the start was read.
    pub truncated: u64,
    /// Wanted packet lines whose rule says nothing about the verdict.
    pub no_verdict: u64,
    /// Wanted events without a time, left out because a time was asked for.
    pub undated: u64,
}

impl Counts {
    /// Adds another part of the same file.
    pub fn add(&mut self, other: Self) {
        self.lines += other.lines;
        self.bytes += other.bytes;
        self.malformed += other.malformed;
        self.truncated += other.truncated;
        self.no_verdict += other.no_verdict;
        self.undated += other.undated;
    }
}

/// Bytes that are searched for everything before the next ones are: few enough for the fastest cache, with room for tables.
const SEGMENT: usize = 32 << 10;

/// Reads the blocks of one file, or of one part of it.
pub struct Scan<'q> {
    query: &'q Query,
    stamper: Stamper<'q>,
    scratch: Scratch,
    heads: Heads,
    prefixes: Prefixes,
    skim: Skim<'q>,
    /// Packet lines whose rule says nothing about the verdict need only be counted, and allowed ones not even that.
    by_action: bool,
    /// What becomes of a packet line depends on nothing but what `Opening::cut` makes of it.
    packets_by_text: bool,
    file: u32,
    keep: bool,
    vector: Vector,
    sought: Sought,
    hits: Vec<Hit>,
    ends: Ends,
    /// Marks of the lines that few files have, in files where such were met: objects behind a separator, and first parts of
    /// container lines.
    rare: Vec<memmem::Finder<'static>>,
    separated: bool,
    cri: bool,
    joiner: Joiner,
    /// What was met.
    pub counts: Counts,
}

impl<'q> Scan<'q> {
    /// A scan of the file with this index. `keep`: its lines cannot be read again later.
    #[must_use]
    pub fn new(query: &'q Query, clock: Clock<'q>, file: u32, keep: bool) -> Self {
        let wants = |source| query.filter.wants(source);
        let reports = match query.filter.only_denies() {
            _ if !wants(Source::Felix) => Reports::No,
            true => Reports::Denies,
            false => Reports::All,
        };
        Self {
            query,
            stamper: Stamper::new(clock),
            scratch: Scratch::default(),
            heads: Heads::default(),
            prefixes: Prefixes::default(),
            skim: Skim::new(&query.filter),
            by_action: query.filter.only_by_action() && query.filter.only_denies(),
            packets_by_text: query.packets_go_by_text(),
            file,
            keep,
            vector: Vector::new(),
            sought: Sought { reports, packets: wants(Source::Kernel) },
            hits: Vec::new(),
            ends: Ends::new(),
            rare: Vec::new(),
            separated: false,
            cri: false,
            joiner: Joiner::default(),
            counts: Counts::default(),
        }
    }

    /// Reads the lines of `text` that begin before `end`; `text` must begin at the start of a line and hold these lines
    /// whole. What follows is only looked at for `last message repeated`. `base` is the offset of `text` in its file.
    pub fn block(&mut self, text: &[u8], end: usize, base: u64, sink: &mut impl Sink) {
        let own = text.get(..end).unwrap_or(text);
        self.counts.bytes += u64::try_from(own.len()).unwrap_or(0);
        if own.first() == Some(&0x1e) && !self.separated {
            self.separated = true;
            self.rare.push(memmem::Finder::new(b"\n\x1e{"));
        }
        // only a file that begins as one is taken for a container's log, so that its parts are looked for
        if base == 0 && own.split(|byte| *byte == b'\n').next().is_some_and(is_cri) {
            self.cri = true;
            self.rare.extend([b" stdout P", b" stderr P"].map(memmem::Finder::new));
        }
        // several searches pass over each byte, so that it should be near from the second one on
        let (mut at, mut batch) = (0, Batch::new());
        while at < own.len() {
            let near = own.get(at + SEGMENT..).and_then(|rest| memchr(b'\n', rest));
            let next = near.map_or(own.len(), |newline| at + SEGMENT + newline + 1);
            let place = base + u64::try_from(at).unwrap_or(0);
            self.segment((text.get(at..).unwrap_or_default(), next - at, place), &mut batch, sink);
            at = next;
        }
        self.settle_all(&mut batch, sink);
    }

    /// As [`Scan::block`], a part of it.
    fn segment<'t>(&mut self, (text, end, base): (&'t [u8], usize, u64), batch: &mut Batch<'t>, sink: &mut impl Sink) {
        let own = text.get(..end).unwrap_or(text);
        let mut hits = std::mem::take(&mut self.hits);
        self.seek(text, end, &mut hits);
        let mut at = 0;
        let mut left = hits.as_slice();
        while let Some((start, mark, place)) = self.next(at, own, &mut left) {
            self.heads.follow(own.get(start..).unwrap_or_default());
            if let Some(end) = self.take((own, text, base), (start, mark, place), batch, sink) {
                at = end;
                continue;
            }
            let rest = own.get(place..).unwrap_or_default();
            let stop = memchr(b'\n', rest).map_or(own.len(), |newline| place + newline);
            let line = own.get(start..stop).unwrap_or_default();
            let following = text.get(stop + 1..).unwrap_or_default();
            let offset = base + u64::try_from(start).unwrap_or(0);
            if !self.part(line, offset, sink)
                && let Some(marks) = self.marks(own, (start, stop), left)
            {
                self.candidate(line, marks, following, offset, sink);
            }
            at = stop + 1;
        }
        self.hits = hits;
    }

    /// Where to look in the first `end` bytes of a text.
    fn seek(&mut self, text: &[u8], end: usize, hits: &mut Vec<Hit>) {
        hits.clear();
        if matches!(text.first(), Some(b'{' | 0x1e)) {
            hits.push(Hit { at: 0, start: 0 });
        }
        self.counts.lines += self.vector.sweep(text, end, self.sought, hits);
        if !self.rare.is_empty() {
            let own = text.get(..end).unwrap_or(text);
            hits.extend(self.rare.iter().flat_map(|mark| mark.find_iter(own)).map(|at| hit(own, at)));
            hits.sort_unstable();
        }
    }

    /// The next line that must be looked at, from `at` on, and for what: while parts wait for their rest it is each one. The
    /// hits in front of its mark are dropped.
    fn next(&self, at: usize, own: &[u8], left: &mut &[Hit]) -> Option<(usize, Mark, usize)> {
        if self.joiner.waits() && at < own.len() {
            return Some((at, Mark::Other, at));
        }
        while let Some((hit, others)) = left.split_first() {
            if let Some((mark, place)) = self.sought.mark(own, hit.place()).filter(|(_, place)| *place >= at) {
                let start =
                    if mark == Mark::Other && own.get(hit.place()) == Some(&b'\n') { place } else { hit.start() };
                return (start < own.len()).then_some((start, mark, place));
            }
            *left = others;
        }
        None
    }

    /// The marks of the line between two places, as [`kinds`] tells them.
    fn marks(&self, own: &[u8], (start, stop): (usize, usize), left: &[Hit]) -> Option<(bool, Option<usize>)> {
        let near = left.iter().take_while(|hit| hit.place() < stop);
        let marks = near.filter_map(|hit| self.sought.mark(own, hit.place()));
        let (report, packet) = kinds(marks.filter(|(_, at)| (start..stop).contains(at)))?;
        Some((report, packet.map(|at| at - start)))
    }

    /// A line that holds what events do: told by its head where that is known, else taken apart. `report` and `packet` say
    /// which needles were found in it, and where the latter's was.
    #[inline]
    fn candidate(
        &mut self,
        line: &[u8],
        (report, packet): (bool, Option<usize>),
        following: &[u8],
        offset: u64,
        sink: &mut impl Sink,
    ) {
        if is_json(line) || line.len() > LINE_LIMIT {
            return self.line(line, following, offset, sink);
        }
        let mut known = self.heads.look(line);
        if known.is_none() && self.heads.wants_another() {
            let envelope = open(line, &mut self.stamper);
            self.heads.learn(line, &envelope, self.stamper.latest());
            known = self.heads.look_first(line);
        }
        if let Some(Known { kind, time, host }) = known {
            let place = Place { file: self.file, offset, length: u32::try_from(line.len()).unwrap_or(u32::MAX) };
            let origin = Origin { line, place, keep: self.keep };
            match kind {
                Kind::Other => return,
                // an allowed one counts too, when the rest of a torn line is behind it
                Kind::Report(pairs) if report => {
                    return self.report(pairs, None, (time, host), following, origin, sink);
                }
                Kind::Kernel { from, message } => match packet.map(|at| at.checked_sub(from)) {
                    Some(Some(out)) => return self.packet(message, out, (time, host), following, origin, sink),
                    // a host may have the name
                    Some(None) => {}
                    None => return,
                },
                Kind::Report(_) | Kind::Unknown => {}
            }
        }
        if report || self.skim.may_be_wanted(line) {
            self.line(line, following, offset, sink);
        }
    }

    /// Ends a file: parts of lines whose rest did not come are broken lines.
    pub fn finish(&mut self) {
        let only_denies = self.query.filter.only_denies();
        let broken = self.joiner.rest().filter(|whole| may_hold_event(&whole.line, only_denies)).count();
        self.counts.malformed += u64::try_from(broken).unwrap_or(0);
    }

    /// Takes a part of a container's line; false when the line is none.
    fn part(&mut self, line: &[u8], offset: u64, sink: &mut impl Sink) -> bool {
        if line.first() != Some(&b'{') && !self.cri {
            return false;
        }
        let line = line.get(..LINE_LIMIT).unwrap_or(line);
        match self.joiner.take(line, offset) {
            Joined::Alone => false,
            Joined::Held => true,
            Joined::Whole(Whole { line, offset, length, cut }) => {
                self.counts.truncated += u64::from(cut);
                if may_hold_event(&line, self.query.filter.only_denies()) {
                    let place = Place { file: self.file, offset, length: u32::try_from(length).unwrap_or(u32::MAX) };
                    self.whole(&line, &[], place, sink);
                }
                true
            }
        }
    }

    /// Reads the start of a line that is longer than any block.
    pub fn long_line(&mut self, start: &[u8], base: u64, sink: &mut impl Sink) {
        self.counts.truncated += 1;
        self.line(start.get(..LINE_LIMIT).unwrap_or(start), &[], base, sink);
    }

    fn line(&mut self, line: &[u8], following: &[u8], offset: u64, sink: &mut impl Sink) {
        let whole = line.len();
        let line = line.get(..LINE_LIMIT).unwrap_or(line);
        if whole > LINE_LIMIT {
            self.counts.truncated += 1;
        }
        if is_json(line) && !may_hold_event(line, self.query.filter.only_denies()) {
            self.counts.malformed += u64::from(whole <= LINE_LIMIT && is_cut(line));
            return;
        }
        let length = u32::try_from(line.len()).unwrap_or(u32::MAX);
        self.whole(line, following, Place { file: self.file, offset, length }, sink);
    }

    /// Reads a line of bearable length.
    fn whole(&mut self, line: &[u8], following: &[u8], place: Place, sink: &mut impl Sink) {
        let origin = Origin { line, place, keep: self.keep };
        let Read { envelope, repeat, what } = read(line, &mut self.scratch, &mut self.stamper);
        let mut event = match &what {
            What::Flow(flow) => {
                if repeat.is_none() {
                    self.heads.learn_report(line, felix::pairs(envelope.message).map_or(0, <[u8]>::len));
                }
                if flow.flaw.is_some() {
                    return self.broken(line, following, place.offset, sink);
                }
                Event::of_flow(flow)
            }
            What::Packet(packet) => Event::of_packet(packet),
            What::FlowLog(record) => record.event(),
            What::BrokenJson => {
                self.counts.malformed += 1;
                return;
            }
            _ => return,
        };
        event.time = envelope.time;
        event.host = envelope.host;
        if let Some(times) = repeat {
            (event.count, event.repeats) = (times, times);
        }
        found(event, following, origin, self.query, &mut self.stamper, &mut self.counts, sink);
    }

    /// A report line with the head of the one before; if it `waited`, what becomes of it is remembered.
    fn report(
        &mut self,
        pairs: &[u8],
        waited: Option<&Waiting<'_>>,
        (time, host): (Option<Micros>, Option<&[u8]>),
        following: &[u8],
        origin: Origin<'_>,
        sink: &mut impl Sink,
    ) {
        let usual = usual::read(pairs);
        let sound = usual.is_some();
        let flow = usual.unwrap_or_else(|| felix::read_pairs(pairs));
        if flow.flaw.is_some() {
            return self.broken(origin.line, following, origin.place.offset, sink);
        }
        let event = Event { time, host, ..Event::of_flow(&flow) };
        let verdict = found(event, following, origin, self.query, &mut self.stamper, &mut self.counts, sink);
        // only of usual lines is it known that those cut alike are read alike
        Self::remember(waited.filter(|_| sound), verdict, sink);
    }

    /// A line of the kernel with ` OUT=` at this place of its message.
    fn packet(
        &mut self,
        message: &[u8],
        out: usize,
        (time, host): (Option<Micros>, Option<&[u8]>),
        following: &[u8],
        origin: Origin<'_>,
        sink: &mut impl Sink,
    ) {
        let Some(opening) = Opening::before(message, out) else { return };
        let action = self.prefixes.action(&opening);
        if self.by_action && action == Action::Log {
            // without the usual key it may be an ARP packet, or none
            if opening.has_source() || opening.packet().is_some() {
                let times = repeated_after(following, host, &mut self.stamper);
                self.counts.no_verdict += times.unwrap_or(0).saturating_add(1);
            }
            return;
        }
        if !self.may_want(action) || !self.skim.may_be_wanted(message) {
            return;
        }
        let Some(packet) = opening.brief() else { return };
        let event = Event { time, host, ..Event::of_judged_packet(&packet, action) };
        found(event, following, origin, self.query, &mut self.stamper, &mut self.counts, sink);
    }

    /// Counts a broken report line, and reads the whole one behind it, if any.
    fn broken(&mut self, line: &[u8], following: &[u8], offset: u64, sink: &mut impl Sink) {
        self.counts.malformed += 1;
        if let Some(second) = torn_second(line) {
            let skipped = u64::try_from(line.len() - second.len()).unwrap_or(0);
            // the second is shorter than the first, so that this ends
            self.line(second, following, offset + skipped, sink);
        }
    }
}

/// Judges an event, hands it on when it is wanted, and says how it was judged.
fn found(
    mut event: Event<'_>,
    following: &[u8],
    origin: Origin<'_>,
    query: &Query,
    stamper: &mut Stamper<'_>,
    counts: &mut Counts,
    sink: &mut impl Sink,
) -> Verdict {
    let verdict = query.judge(&mut event);
    if verdict == Verdict::Unwanted {
        return verdict;
    }
    if let Some(times) = repeated_after(following, event.host, stamper) {
        event.count = event.count.saturating_add(times);
        event.repeats = event.repeats.saturating_add(times);
    }
    match verdict {
        Verdict::Wanted => sink.event(&event, origin),
        Verdict::NoVerdict => counts.no_verdict += event.count,
        Verdict::Undated => counts.undated += event.count,
        Verdict::Unwanted => {}
    }
    verdict
}

/// Whether a file that begins so is a container's log, in which long lines are cut and go on in the next one.
#[must_use]
pub fn goes_on(start: &[u8]) -> bool {
    start.starts_with(b"{\"log\":\"") || start.split(|byte| *byte == b'\n').next().is_some_and(is_cri)
}

/// Whether a line is JSON, or would be.
fn is_json(line: &[u8]) -> bool {
    matches!(line.first(), Some(b'{' | 0x1e))
}

/// Whether a line that begins like a JSON object is not one to its end. A line that ends as objects of logs do is believed.
fn is_cut(line: &[u8]) -> bool {
    let line = trim_end(line.strip_prefix(b"\x1e").unwrap_or(line));
    if !line.starts_with(b"{\"") {
        return false;
    }
    match line {
        // an inner object's end, maybe
        [.., b']' | b'}', b'}'] => serde_json::from_slice::<serde::de::IgnoredAny>(line).is_err(),
        [.., last] => *last != b'}',
        [] => false,
    }
}

/// `last message repeated N times` of the same host as the next line.
#[inline]
fn repeated_after(following: &[u8], host: Option<&[u8]>, stamper: &mut Stamper<'_>) -> Option<u64> {
    if following.is_empty() { None } else { repeated_behind(following, host, stamper) }
}

fn repeated_behind(following: &[u8], host: Option<&[u8]>, stamper: &mut Stamper<'_>) -> Option<u64> {
    let head = following.get(..NOTICE_LENGTH).unwrap_or(following);
    let end = memchr(b'\n', head).or((head.len() < NOTICE_LENGTH).then_some(head.len()))?;
    let next = head.get(..end)?;
    if !holds_notice(next) {
        return None;
    }
    let mut scratch = Scratch::default();
    let read = read(next, &mut scratch, stamper);
    match read.what {
        What::RepeatPrevious(times) if read.envelope.host == host => Some(times),
        _ => None,
    }
}
