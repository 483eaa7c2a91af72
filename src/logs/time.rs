//! Time stamps of log headers, many of which lack a year or a zone.
//!
//! RFC 3164 stamps (`Aug  4 16:14:12`) have neither. The year is the latest one that does not put the stamp more than a
//! day after the time the log was last written; the zone is the reader's. Both come in through a [`Clock`], because this
//! room asks neither the clock nor the environment.

/// Microseconds since 1970-01-01T00:00:00Z.
pub type Micros = i64;

const DAY: i64 = 86_400;

/// What a header without a year or a zone needs to become a point in time.
#[derive(Clone, Copy)]
pub struct Clock<'a> {
    /// When the log was last written, in seconds since 1970 UTC (for a file, its modification time).
    pub reference: i64,
    /// Turns local wall-clock seconds (as if the wall clock showed UTC) into seconds since 1970 UTC.
    pub to_utc: &'a (dyn Fn(i64) -> i64 + Sync),
}

impl Clock<'static> {
    /// A clock in UTC.
    #[must_use]
    pub fn utc(reference: i64) -> Self {
        Self { reference, to_utc: &|seconds| seconds }
    }
}

/// Reads stamps, and remembers the last one: neighbouring lines mostly share it.
pub struct Stamper<'a> {
    clock: Clock<'a>,
    /// The last RFC 3164 stamp and what it meant.
    classic: ([u8; 15], Option<Micros>),
    /// The last local quarter of an hour that was turned into UTC, and its offset.
    zone: Option<(i64, i64)>,
}

/// A stamp as read and the text after it.
pub type Stamped<'a> = Option<(Option<Micros>, &'a [u8])>;

impl<'c> Stamper<'c> {
    /// A stamper for one log.
    #[must_use]
    pub fn new(clock: Clock<'c>) -> Self {
        Self { clock, classic: ([0; 15], None), zone: None }
    }

    /// The local zone's offset at the time the log was last written, in seconds east of UTC.
    #[must_use]
    pub fn reference_offset(&self) -> i64 {
        let guess = (self.clock.to_utc)(self.clock.reference);
        self.clock.reference.saturating_sub(guess)
    }

    /// The year to give to a stamp without one, for readers that ask.
    #[must_use]
    pub fn year_of(&mut self, month: u32, day: u32, second_of_day: i64) -> Option<i64> {
        let (now, _, _) = civil_from_days(self.clock.reference.div_euclid(DAY));
        // nine years reach the last 29 February in any case
        (0..=9).map(|back| now + 1 - back).find(|&year| {
            is_date(year, month, day)
                && self.utc(days_from_civil(year, month, day) * DAY + second_of_day) <= self.clock.reference + DAY
        })
    }

    fn utc(&mut self, local: i64) -> i64 {
        let quarter = local.div_euclid(900);
        match self.zone {
            Some((known, offset)) if known == quarter => local - offset,
            _ => {
                let utc = (self.clock.to_utc)(local);
                self.zone = Some((quarter, local - utc));
                utc
            }
        }
    }

    /// `Mmm dd hh:mm:ss`, with one or two blanks or a zero before a one-digit day, an optional year before the time
    /// (`Aug  4 2022 16:14:12`) or after it, and an optional fraction.
    pub fn classic<'a>(&mut self, text: &'a [u8]) -> Stamped<'a> {
        if let Some((head, rest)) = text.split_first_chunk::<15>()
            && *head == self.classic.0
            && rest.first() == Some(&b' ')
        {
            return Some((self.classic.1, rest));
        }
        let month = month(text.get(..3)?)?;
        let mut rest = blanks(text.get(3..)?)?;
        let day;
        (day, rest) = number(rest, 2)?;
        rest = blanks(rest)?;
        let mut year = None;
        if rest.get(2) != Some(&b':') {
            let read;
            (read, rest) = number(rest, 4)?;
            year = Some(read);
            rest = blanks(rest)?;
        }
        let (second, fraction, mut rest) = time_of_day(rest)?;
        if year.is_none()
            && let Some((read, after)) = rest.strip_prefix(b" ").and_then(|after| number(after, 4))
            && (1970..=2200).contains(&read)
            && after.first() == Some(&b' ')
        {
            (year, rest) = (Some(read), after);
        }
        let (month, day) = (u32::try_from(month).ok()?, u32::try_from(day).ok()?);
        let time = match year {
            Some(year) => is_date(year, month, day).then(|| days_from_civil(year, month, day) * DAY + second),
            None => self.year_of(month, day, second).map(|year| days_from_civil(year, month, day) * DAY + second),
        };
        let time = time.map(|local| micros(self.utc(local), fraction));
        if year.is_none()
            && fraction == 0
            && rest.len() + 15 == text.len()
            && let Some((head, _)) = text.split_first_chunk::<15>()
        {
            self.classic = (*head, time);
        }
        Some((time, rest))
    }

    /// The latest time that a stamp without a year is taken for.
    pub(super) fn latest(&self) -> Micros {
        self.clock.reference.saturating_add(DAY).saturating_mul(1_000_000)
    }

    /// RFC 3339 and its relatives: `2026-08-21T07:02:11`, a blank instead of the `T`, up to nine digits of fraction behind
    /// a dot or comma, then `Z`, `+02:00`, `+0200`, ` UTC`, or nothing (local time).
    pub fn iso<'a>(&mut self, text: &'a [u8]) -> Stamped<'a> {
        let (year, rest) = number_exact(text, 4)?;
        let (month, rest) = number_exact(rest.strip_prefix(b"-")?, 2)?;
        let (day, rest) = number_exact(rest.strip_prefix(b"-")?, 2)?;
        let rest = match rest.split_first()? {
            (b'T' | b't' | b' ', rest) => rest,
            _ => return None,
        };
        let (second, fraction, rest) = time_of_day(rest)?;
        let (month, day) = (u32::try_from(month).ok()?, u32::try_from(day).ok()?);
        let local = is_date(year, month, day).then(|| days_from_civil(year, month, day) * DAY + second);
        let (zone, rest) = zone(rest);
        let time = match zone {
            Some(offset) => local.map(|local| local - offset),
            None => local.map(|local| self.utc(local)),
        };
        Some((time.map(|seconds| micros(seconds, fraction)), rest))
    }
}

/// RFC 3339 in UTC, with a fraction only when there is one. `None` outside the years 0 to 9999.
#[must_use]
pub fn rfc3339(time: Micros) -> Option<String> {
    let (seconds, fraction) = (time.div_euclid(1_000_000), time.rem_euclid(1_000_000));
    let (year, month, day) = civil_from_days(seconds.div_euclid(DAY));
    if !(0..=9999).contains(&year) {
        return None;
    }
    let second = seconds.rem_euclid(DAY);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let mut text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    if fraction > 0 {
        text.push_str(format!(".{fraction:06}").trim_end_matches('0'));
    }
    text.push('Z');
    Some(text)
}

fn micros(seconds: i64, fraction: i64) -> Micros {
    seconds.saturating_mul(1_000_000).saturating_add(fraction)
}

fn month(text: &[u8]) -> Option<usize> {
    const NAMES: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
    NAMES.chunks_exact(3).position(|name| name.eq_ignore_ascii_case(text)).map(|at| at + 1)
}

/// At least one blank, skipped.
fn blanks(text: &[u8]) -> Option<&[u8]> {
    let rest = text.trim_ascii_start();
    (rest.len() < text.len()).then_some(rest)
}

/// Up to `most` digits, at least one.
fn number(text: &[u8], most: usize) -> Option<(i64, &[u8])> {
    let digits = text.iter().take(most).take_while(|byte| byte.is_ascii_digit()).count();
    (digits > 0).then(|| number_exact(text, digits)).flatten()
}

fn number_exact(text: &[u8], digits: usize) -> Option<(i64, &[u8])> {
    let (head, rest) = text.split_at_checked(digits)?;
    let mut value = 0i64;
    for byte in head {
        if !byte.is_ascii_digit() {
            return None;
        }
        value = value * 10 + i64::from(byte - b'0');
    }
    Some((value, rest))
}

/// `hh:mm:ss[.fraction]` as second of the day and microseconds.
fn time_of_day(text: &[u8]) -> Option<(i64, i64, &[u8])> {
    let (hour, rest) = number_exact(text, 2)?;
    let (minute, rest) = number_exact(rest.strip_prefix(b":")?, 2)?;
    let (second, mut rest) = number_exact(rest.strip_prefix(b":")?, 2)?;
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut fraction = 0;
    if let Some((b'.' | b',', after)) = rest.split_first()
        && after.first().is_some_and(u8::is_ascii_digit)
    {
        let digits = after.iter().take(9).take_while(|byte| byte.is_ascii_digit()).count();
        let mut value = 0i64;
        for place in 0..6 {
            let digit = after.get(place).filter(|_| place < digits).map_or(0, |byte| i64::from(byte - b'0'));
            value = value * 10 + digit;
        }
        fraction = value;
        rest = after.get(digits..)?;
    }
    Some((hour * 3600 + minute * 60 + second, fraction, rest))
}

/// Offset east of UTC in seconds, `None` when there is no zone.
fn zone(text: &[u8]) -> (Option<i64>, &[u8]) {
    match text.split_first() {
        Some((b'Z' | b'z', rest)) => (Some(0), rest),
        Some((sign @ (b'+' | b'-'), rest)) => {
            let read = number_exact(rest, 2).and_then(|(hour, rest)| {
                let rest = rest.strip_prefix(b":").unwrap_or(rest);
                number_exact(rest, 2).map(|(minute, rest)| (hour * 3600 + minute * 60, rest))
            });
            match read {
                Some((seconds, rest)) => (Some(if *sign == b'-' { -seconds } else { seconds }), rest),
                None => (None, text),
            }
        }
        _ => match text.strip_prefix(b" UTC") {
            Some(rest) => (Some(0), rest),
            None => (None, text),
        },
    }
}

fn is_date(year: i64, month: u32, day: u32) -> bool {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return false,
    };
    (1..=days).contains(&day)
}

/// Days since 1970-01-01 of a date of the proleptic Gregorian calendar, counting in 400-year eras from 1 March 0000.
#[must_use]
pub fn days_from_civil(year: i64, month: u32, day: u32) -> i64 {
    let shifted = year - i64::from(month <= 2);
    let era = shifted.div_euclid(400);
    let year_of_era = shifted.rem_euclid(400);
    let month_from_march = i64::from((month + 9) % 12);
    let day_of_year = (153 * month_from_march + 2) / 5 + i64::from(day) - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The date of a day count since 1970-01-01; the inverse of [`days_from_civil`].
#[must_use]
pub fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march + 2) / 5 + 1;
    let month = if march < 10 { march + 3 } else { march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-01-02T00:00:00Z
    const NEW_YEAR: i64 = 1_767_312_000;

    fn shown(stamp: Stamped<'_>) -> String {
        stamp.and_then(|(time, _)| time).and_then(rfc3339).expect("a stamp")
    }

    #[test]
    fn a_missing_year_rolls_back_over_new_year() {
        let mut stamper = Stamper::new(Clock::utc(NEW_YEAR));
        assert_eq!(shown(stamper.classic(b"Dec 31 23:59:59 h")), "2025-12-31T23:59:59Z");
        assert_eq!(shown(stamper.classic(b"Jan  1 00:00:01 h")), "2026-01-01T00:00:01Z");
        // a clock that runs a few hours ahead is believed, one that runs a month ahead is last year's
        assert_eq!(shown(stamper.classic(b"Jan  2 20:00:00 h")), "2026-01-02T20:00:00Z");
        assert_eq!(shown(stamper.classic(b"Feb  2 20:00:00 h")), "2025-02-02T20:00:00Z");
        assert_eq!(shown(stamper.classic(b"Feb 29 12:00:00 h")), "2024-02-29T12:00:00Z");
    }

    #[test]
    fn every_spelling_of_a_stamp() {
        let mut stamper = Stamper::new(Clock::utc(NEW_YEAR));
        for (text, expected) in [
            ("Sep 5 14:34:40 h", "2025-09-05T14:34:40Z"),
            ("Sep 05 14:34:40.482913 h", "2025-09-05T14:34:40.482913Z"),
            ("Aug  4 2022 16:14:12 h", "2022-08-04T16:14:12Z"),
            ("Aug  4 16:14:12 2022 h", "2022-08-04T16:14:12Z"),
        ] {
            assert_eq!(shown(stamper.classic(text.as_bytes())), expected, "{text}");
            assert_eq!(shown(stamper.classic(text.as_bytes())), expected, "{text} again");
        }
        for (text, expected) in [
            ("2026-08-21T07:02:11.482913+02:00 h", "2026-08-21T05:02:11.482913Z"),
            ("2026-08-21T07:02:11.010551207Z h", "2026-08-21T07:02:11.010551Z"),
            ("2026-08-21T07:11:00+0000 h", "2026-08-21T07:11:00Z"),
            ("2026-08-21 07:02:11 UTC h", "2026-08-21T07:02:11Z"),
            ("2026-08-21 07:02:11,5 h", "2026-08-21T07:02:11.5Z"),
        ] {
            assert_eq!(shown(stamper.iso(text.as_bytes())), expected, "{text}");
        }
    }

    #[test]
    fn local_time_is_turned_into_utc() {
        let east = |local: i64| local - 7200;
        let mut stamper = Stamper::new(Clock { reference: NEW_YEAR, to_utc: &east });
        assert_eq!(shown(stamper.classic(b"Dec 31 01:30:00 h")), "2025-12-30T23:30:00Z");
        assert_eq!(shown(stamper.iso(b"2025-12-31T01:30:00 h")), "2025-12-30T23:30:00Z");
        assert_eq!(stamper.reference_offset(), 7200);
    }

    #[test]
    fn what_is_no_time_is_not_read() {
        let mut stamper = Stamper::new(Clock::utc(NEW_YEAR));
        for text in ["", "Foo  4 16:14:12 h", "Aug 4", "Aug  4 25:14:12 h", "Aug  4 16:14", "Aug"] {
            assert!(stamper.classic(text.as_bytes()).is_none(), "{text}");
        }
        // a date that does not exist is a stamp without a time, so that the rest of the line is still read
        assert_eq!(stamper.classic(b"Aug 32 16:14:12 h").map(|(time, _)| time), Some(None));
        assert!(stamper.iso(b"2026-08-21x07:02:11Z").is_none());
        assert_eq!(stamper.iso(b"2026-13-21T07:02:11Z").map(|(time, _)| time), Some(None));
    }

    #[test]
    fn calendar_arithmetic_is_its_own_inverse() {
        for days in (-800_000..800_000).step_by(97) {
            let (year, month, day) = civil_from_days(days);
            let (month, day) = (u32::try_from(month).expect("month"), u32::try_from(day).expect("day"));
            assert!(is_date(year, month, day));
            assert_eq!(days_from_civil(year, month, day), days);
        }
        assert_eq!(days_from_civil(2026, 1, 2) * DAY, NEW_YEAR);
    }
}
