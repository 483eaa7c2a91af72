//! What neighbouring lines of a log begin with: the same stamp, but for its fraction, and the same host.
//!
//! A line with the head of the one before is told by its tag and the first word it says, without being taken apart.

use std::ops::Range;

use super::header::{Envelope, Wrap, is_level, tagged, trim_end};
use super::time::Micros;
use super::vector::Vector;

/// Longest head remembered.
const LONGEST: usize = 192;

/// Lines that are not learnt from after a head that no second line had, so that sparse logs cost no more than without.
const REST: u32 = 16;

/// Callers of report lines remembered: an update of Felix changes what it writes, or its process.
const REPORTS: usize = 4;

/// Lines in a row with another caller, after which that one is looked for first.
const MANY: u32 = 8;

/// Stamp and host of a line, with the blank behind the host.
#[derive(Default)]
pub(super) struct Heads {
    vector: Vector,
    text: Vec<u8>,
    /// Digits of the stamp's fraction, which differ from line to line.
    fraction: Range<usize>,
    /// The time without the fraction.
    time: Option<Micros>,
    /// Where the time of day begins, and the latest time that a stamp of its form, without a year, may have.
    clock: Option<(usize, Micros)>,
    host: Range<usize>,
    /// What stands between the head and the pairs of report lines: tag, process and caller. The first is the usual one.
    reports: Vec<Vec<u8>>,
    /// How many lines in a row had another than the first.
    others: u32,
    /// Head and first report, in logs whose stamps have no fraction.
    start: Vec<u8>,
    used: bool,
    rest: u32,
}

/// A line with the head of one before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Known<'l> {
    /// What the line is of.
    pub(super) kind: Kind<'l>,
    /// Its time.
    pub(super) time: Option<Micros>,
    /// Its host.
    pub(super) host: Option<&'l [u8]>,
}

/// The start of a line with a known head, and all that follows it.
#[derive(Clone, Copy)]
pub(super) struct Start<'l> {
    /// Time of the line.
    pub(super) time: Option<Micros>,
    /// Its host.
    pub(super) host: Option<&'l [u8]>,
    /// What it says, and the lines behind it.
    pub(super) rest: &'l [u8],
}

/// What a line with a known head is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind<'l> {
    /// A program whose line is no event, whatever it says.
    Other,
    /// The kernel.
    Kernel {
        /// Where its message begins.
        from: usize,
        /// The message, which begins with the time since boot.
        message: &'l [u8],
    },
    /// Felix, as the report line before; its pairs, from `action=` on.
    Report(&'l [u8]),
    /// It must be read to be told.
    Unknown,
}

impl Heads {
    /// Whether the next line with another head should be learnt from.
    pub(super) fn wants_another(&mut self) -> bool {
        if !self.used && !self.text.is_empty() {
            self.rest = REST;
            self.text.clear();
            self.start.clear();
        }
        self.rest = self.rest.saturating_sub(1);
        self.rest == 0
    }

    /// Remembers the head of a line, when it is one whose meaning does not depend on what follows. `latest` is the latest time
    /// that a stamp without a year is taken for.
    pub(super) fn learn(&mut self, line: &[u8], envelope: &Envelope<'_>, latest: Micros) {
        self.text.clear();
        self.start.clear();
        self.used = false;
        let dated = matches!(envelope.wrap, Wrap::Rfc3339 | Wrap::ShortIso);
        // a year may stand in front of the month, and then a level behind the host
        let classic = envelope.wrap == Wrap::Rfc3164 && line.first().is_some_and(u8::is_ascii_alphabetic);
        let Some(host) = envelope.host.filter(|_| dated || classic) else { return };
        let Some(from) = host.as_ptr().addr().checked_sub(line.as_ptr().addr()) else { return };
        let host = from..from + host.len();
        let Some(head) = line.get(..=host.end).filter(|head| head.ends_with(b" ") && head.len() <= LONGEST) else {
            return;
        };
        let name = head.get(host.clone()).unwrap_or_default();
        // Go's form without a host, and a container's streams, are told by what follows
        if name.is_empty() || name.ends_with(b":") || matches!(name, b"stdout" | b"stderr") {
            return;
        }
        let stamp = head.get(..host.start).unwrap_or_default();
        let point = stamp.iter().position(|byte| matches!(byte, b'.' | b',')).map_or(0, |at| at + 1);
        let digits = stamp.get(point..).unwrap_or_default().iter().take_while(|byte| byte.is_ascii_digit()).count();
        let fraction = if point > 0 { point..point + digits } else { 0..0 };
        let behind = head.get(fraction.clone()).map_or(0, micros);
        self.text.extend_from_slice(head);
        self.time = envelope.time.map(|time| time - behind);
        let hours = stamp.windows(OF_DAY).position(|word| second_of_hour(word).is_some());
        self.clock = hours.map(|hours| (hours, if dated { Micros::MAX } else { latest }));
        (self.fraction, self.host) = (fraction, host);
        self.join();
    }

    /// As [`Heads::renew`], unless the head is the known one.
    #[inline]
    pub(super) fn follow(&mut self, line: &[u8]) {
        if self.vector.strip(line, &self.text).is_none() {
            self.renew(line);
        }
    }

    /// Makes the known head that of a line which has another second of the same quarter of an hour, and nothing else that is
    /// different; says whether it did. Without a year, only of a later one: it is of the same year, then.
    #[inline]
    fn renew(&mut self, line: &[u8]) -> bool {
        let Self { text, fraction, time: Some(time), clock: Some((from, latest)), .. } = &*self else { return false };
        let Some(head) = line.get(..text.len()) else { return false };
        let (minutes, to) = (from + 3, from + OF_DAY);
        let [own, known] = [head, text].map(|text| text.get(*from..to).and_then(second_of_hour));
        let (Some(own), Some(known)) = (own, known) else { return false };
        let time = time + (own - known) * 1_000_000;
        let sure = *latest == Micros::MAX || (own > known && time <= *latest);
        let near = own / 900 == known / 900 && sure;
        let same = |from: usize, to: usize| head.get(from..to) == text.get(from..to);
        // no fraction stands in front of the time of day
        let (before, behind) = (fraction.start.max(to), fraction.end.max(to));
        let digits = head.get(fraction.clone()).is_some_and(|digits| digits.iter().all(u8::is_ascii_digit));
        if !near || !digits || !same(0, minutes) || !same(to, before) || !same(behind, text.len()) {
            return false;
        }
        self.time = Some(time);
        for kept in [&mut self.text, &mut self.start] {
            for (to, from) in kept.iter_mut().zip(head).take(to).skip(minutes) {
                *to = *from;
            }
        }
        true
    }

    /// Remembers what stands in front of a report line's pairs; `said` is their length with that of nothing behind them.
    pub(super) fn learn_report(&mut self, line: &[u8], said: usize) {
        let length = trim_end(line).len().saturating_sub(said);
        let between = self.after(line).map(|(_, head)| head).and_then(|head| line.get(head..length));
        if let Some(between) = between.filter(|between| said > 0 && (1..=LONGEST).contains(&between.len())) {
            if self.reports.iter().any(|report| report == between) {
                return;
            }
            // the one learnt last makes room
            self.reports.truncate(REPORTS - 1);
            self.reports.push(between.to_vec());
            self.join();
        }
    }

    fn join(&mut self) {
        self.start.clear();
        if let Some(report) = self.reports.first()
            && !self.text.is_empty()
            && self.fraction.is_empty()
        {
            self.start.extend_from_slice(&self.text);
            self.start.extend_from_slice(report);
        }
    }

    /// A report line with the known head and what stood between it and the pairs before; the rest begins with the pairs.
    #[inline]
    pub(super) fn report<'l>(&mut self, text: &'l [u8]) -> Option<Start<'l>> {
        let host = text.get(self.host.clone());
        if !self.start.is_empty()
            && let Some(rest) = self.vector.strip(text, &self.start)
        {
            (self.used, self.others) = (true, 0);
            return Some(Start { time: self.time, host, rest });
        }
        let (time, length) = self.after(text)?;
        let rest = text.get(length..)?;
        let (place, pairs) = self
            .reports
            .iter()
            .enumerate()
            .find_map(|(at, report)| Some((at, rest.strip_prefix(report.as_slice())?)))?;
        self.used = true;
        self.others += u32::from(place > 0);
        if self.others > MANY {
            self.others = 0;
            self.reports.swap(0, place);
            self.join();
        }
        Some(Start { time, host, rest: pairs })
    }

    /// A line of the kernel with the known head, whose message begins with a bracket.
    #[inline]
    pub(super) fn kernel<'l>(&mut self, text: &'l [u8]) -> Option<Start<'l>> {
        let (time, length) = self.after(text)?;
        let message = text.get(length..)?.strip_prefix(b"kernel: ").filter(|message| message.first() == Some(&b'['))?;
        self.used = true;
        Some(Start { time, host: text.get(self.host.clone()), rest: message })
    }

    /// The line's time and the length of its head, when that is the known one.
    fn after(&self, line: &[u8]) -> Option<(Option<Micros>, usize)> {
        let Range { start, end } = self.fraction;
        let length = self.text.len();
        let head = line.get(..length).filter(|_| length > 0)?;
        if start == end {
            return self.vector.same(head, &self.text).then_some((self.time, length));
        }
        let same = head.get(..start)? == self.text.get(..start)? && head.get(end..)? == self.text.get(end..)?;
        let digits = head.get(start..end)?;
        (same && digits.iter().all(u8::is_ascii_digit)).then(|| (self.time.map(|time| time + micros(digits)), length))
    }

    /// Tells what a line is of by its head; `None` when that is another one.
    #[inline]
    pub(super) fn look<'l>(&mut self, line: &'l [u8]) -> Option<Known<'l>> {
        let known = self.look_first(line)?;
        self.used = true;
        Some(known)
    }

    /// As [`Heads::look`], of the line that was just learnt from.
    #[inline]
    pub(super) fn look_first<'l>(&self, line: &'l [u8]) -> Option<Known<'l>> {
        let (time, length) = self.after(line)?;
        let kind = self.kind(line, line.get(length..)?);
        Some(Known { kind, time, host: line.get(self.host.clone()) })
    }

    #[inline]
    fn kind<'l>(&self, line: &[u8], rest: &'l [u8]) -> Kind<'l> {
        if let Some(pairs) = self.reports.iter().find_map(|report| rest.strip_prefix(report.as_slice()))
            && pairs.starts_with(b"action=\"")
        {
            return Kind::Report(trim_end(pairs));
        }
        if let Some(message) = rest.strip_prefix(b"kernel: ")
            && message.first() == Some(&b'[')
        {
            return Kind::Kernel { from: line.len() - message.len(), message: trim_end(message) };
        }
        match tagged(rest) {
            Some((b"kernel" | b"ulogd", ..)) | None => Kind::Unknown,
            Some((_, _, message)) if may_be_report(message) => Kind::Unknown,
            Some(_) => Kind::Other,
        }
    }
}

/// Length of `hh:mm:ss`.
const OF_DAY: usize = 8;

/// The second of the hour of a time of day.
fn second_of_hour(text: &[u8]) -> Option<i64> {
    let [g, h, b':', m, n, b':', s, t] = text else { return None };
    let number = |tens: &u8, ones: &u8| {
        let digits = tens.is_ascii_digit() && ones.is_ascii_digit();
        digits.then(|| i64::from(tens - b'0') * 10 + i64::from(ones - b'0'))
    };
    number(g, h)?;
    let (minute, second) = (number(m, n)?, number(s, t)?);
    (minute < 60 && second < 60).then_some(minute * 60 + second)
}

/// Whether a message begins as report lines and notices of repetition do.
fn may_be_report(message: &[u8]) -> bool {
    match message.first() {
        Some(b'D' | b'I' | b'N' | b'W' | b'E' | b'F' | b'P') => {
            let word = message.iter().take(10).position(|byte| *byte == b' ').and_then(|end| message.get(..end));
            word.is_some_and(is_level)
        }
        Some(b'm') => message.starts_with(b"message repeated "),
        _ => false,
    }
}

/// The first six digits of a fraction of a second as microseconds.
fn micros(digits: &[u8]) -> Micros {
    (0..6).fold(0, |value, place| value * 10 + digits.get(place).map_or(0, |digit| i64::from(*digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::super::felix;
    use super::super::header::open;
    use super::super::line::{Scratch, What, read};
    use super::super::time::{Clock, Stamper};
    use super::*;

    const CLOCK: i64 = 1_787_300_000;
    const LATEST: Micros = (CLOCK + 86_400) * 1_000_000;
    const REPORT: &str = r#"INFO <nil> <nil>:  action="deny" dstIP="1.1.1.1" dstPort="443" inBytes=0 inPackets=0 outBytes=0 outPackets=0 policy="p" proto="6" rule="-1" ruleDir="egress" srcIP="2.2.2.2" srcPort="1" tier="t" trafficDir="outbound" updateType=report"#;
    const PACKET: &str = "[  12.5] x: IN=eth0 OUT= SRC=1.1.1.1 DST=2.2.2.2 PROTO=TCP";

    /// What is known by the head must be what the reader finds.
    fn check(heads: &mut Heads, line: &[u8]) -> bool {
        let mut stamper = Stamper::new(Clock::utc(CLOCK));
        let Some(known) = heads.look(line) else { return false };
        let mut scratch = Scratch::default();
        let text = String::from_utf8_lossy(line);
        let read = read(line, &mut scratch, &mut stamper);
        match known.kind {
            Kind::Unknown => return false,
            Kind::Other => assert!(
                !matches!(read.what, What::Flow(_) | What::Packet(_) | What::FlowLog(_) | What::BrokenJson),
                "an event is passed over: {text}"
            ),
            Kind::Kernel { from, message } => {
                assert_eq!(read.envelope.message, message, "{text}");
                assert!(line[from..].starts_with(message), "{text}");
                assert_eq!(read.envelope.tag, Some(&b"kernel"[..]), "{text}");
                assert!(!matches!(read.what, What::Flow(_)), "{text}");
            }
            Kind::Report(pairs) => assert_eq!(felix::pairs(read.envelope.message), Some(pairs), "{text}"),
        }
        assert_eq!((read.envelope.time, read.envelope.host), (known.time, known.host), "{text}");
        true
    }

    #[test]
    fn lines_are_known_by_their_heads_for_what_they_are() {
        for stamp in [
            "Aug  4 16:14:12",
            "Aug  4 16:14:12.5",
            "Aug  4 16:14:12 2025",
            "Aug 32 16:14:12",
            "Fri 2026-08-21 07:02:11 UTC",
            "2026-08-21T07:02:11.482913+02:00",
            "2026-08-21T07:02:11.010551207Z",
            "2026-08-21T07:02:11+0000",
            "2026-08-21 07:02:11,5",
        ] {
            for host in ["bastion", "10.0.1.10", "stdout", "INFO", "a:", "UTC", "2022"] {
                let tails = [
                    "sshd[12]: Invalid user x".to_owned(),
                    format!("sshd: {PACKET}"),
                    format!("sshd[1]: {REPORT}"),
                    format!("calico-felix[1]: {REPORT}"),
                    format!("calico-felix[1]: {}", REPORT.replace("<nil> <nil>", "a.go 12")),
                    format!("kernel: {PACKET} "),
                    format!("kernel: {REPORT}"),
                    format!("message repeated 2 times: [ {REPORT}]"),
                    format!("calico-felix[1]: message repeated 2 times: [ {REPORT}]"),
                    format!("F {PACKET}"),
                    format!("INFO sshd: {PACKET}"),
                    REPORT.to_owned(),
                    "last message repeated 3 times".to_owned(),
                    "ulogd[3]: x IN=a OUT= SRC=1.1.1.1".to_owned(),
                ];
                let mut heads = Heads::default();
                for tail in &tails {
                    let line = format!("{stamp} {host} {tail}");
                    let mut stamper = Stamper::new(Clock::utc(CLOCK));
                    let envelope = open(line.as_bytes(), &mut stamper);
                    heads.learn(line.as_bytes(), &envelope, LATEST);
                    let said = felix::pairs(envelope.message).map_or(0, <[u8]>::len);
                    heads.learn_report(line.as_bytes(), said);
                    for tail in &tails {
                        check(&mut heads, format!("{stamp} {host} {tail}").as_bytes());
                    }
                }
            }
        }
    }

    #[test]
    fn a_changed_byte_makes_no_line_another() {
        let first = format!("2026-08-21T07:02:11.482913+02:00 bastion calico-felix[1]: {REPORT}");
        let mut heads = Heads::default();
        let mut stamper = Stamper::new(Clock::utc(CLOCK));
        let envelope = open(first.as_bytes(), &mut stamper);
        let said = felix::pairs(envelope.message).expect("a report line").len();
        heads.learn(first.as_bytes(), &envelope, LATEST);
        heads.learn_report(first.as_bytes(), said);
        let mut known = 0;
        for tail in [REPORT, "sshd[12]: Accepted", "kernel: [ 12.5] x IN=a OUT= SRC=1.1.1.1 DST=2.2.2.2"] {
            let line =
                if tail == REPORT { first.clone() } else { format!("2026-08-21T07:02:11.0+02:00 bastion {tail}") };
            let line = line.replace(":11.0+", ":11.000017+");
            assert!(check(&mut heads, line.as_bytes()), "{line}");
            for at in 0..line.len().min(120) {
                for byte in *b"09.:[] mIkT\"\\\x00\xff" {
                    let mut changed = line.clone().into_bytes();
                    changed[at] = byte;
                    known += usize::from(check(&mut heads, &changed));
                    changed.insert(at, byte);
                    known += usize::from(check(&mut heads, &changed));
                }
                known += usize::from(check(&mut heads, &line.as_bytes()[..at]));
            }
        }
        assert!(known > 500, "only {known} of the changed lines were known");
    }

    #[test]
    fn heads_that_no_second_line_has_are_not_learnt_for_a_while() {
        let mut heads = Heads::default();
        let mut stamper = Stamper::new(Clock::utc(CLOCK));
        let mut learnt = 0;
        for second in 0..60 {
            let line = format!("Aug  4 16:14:{second:02} bastion sshd[12]: Accepted");
            assert_eq!(heads.look(line.as_bytes()), None);
            if heads.wants_another() {
                heads.learn(line.as_bytes(), &open(line.as_bytes(), &mut stamper), LATEST);
                learnt += 1;
            }
        }
        assert_eq!(learnt, 4);
    }
}
