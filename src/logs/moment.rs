//! Points in time as people type them: `--since "2h ago"`, `--until 2026-08-21T07:00:00Z`.

use super::time::{Clock, Micros, Stamper};

const DAY: i64 = 86_400;

/// Reads a point in time: RFC 3339, `2026-08-21 07:00[:00]` with `Z`, `UTC` or an offset (else local time), a date alone
/// (its midnight), `07:00` today, `today`, `yesterday`, `now`, and `90s`, `30m`, `2h`, `3d`, `1w` with or without `ago`.
/// `now` in seconds since 1970 UTC.
///
/// # Errors
/// Says which forms exist.
pub fn parse(text: &str, now: i64, clock: Clock<'_>) -> Result<Micros, String> {
    let text = text.trim();
    let mut stamper = Stamper::new(clock);
    let local_now = now.saturating_add(stamper.reference_offset());
    let midnight = local_now - local_now.rem_euclid(DAY);
    let seconds = match text {
        "now" => Some(now),
        "today" => Some((clock.to_utc)(midnight)),
        "yesterday" => Some((clock.to_utc)(midnight - DAY)),
        _ => ago(text).map(|seconds| now.saturating_sub(seconds)),
    };
    if let Some(seconds) = seconds {
        return Ok(seconds.saturating_mul(1_000_000));
    }
    let (date, rest) = text.split_at_checked(10).filter(|(date, _)| date.contains('-')).unwrap_or(("", text));
    let day = match date {
        "" => super::time::rfc3339(midnight * 1_000_000).and_then(|day| day.get(..10).map(str::to_owned)),
        date => Some(date.to_owned()),
    };
    let rest = rest.trim_start_matches(['T', 't', ' ']);
    let (clock_text, zone) = match rest.find(|c: char| !c.is_ascii_digit() && c != ':' && c != '.') {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    let time = match clock_text.len() {
        0 if !date.is_empty() => "00:00:00".to_owned(),
        5 => format!("{clock_text}:00"),
        _ => clock_text.to_owned(),
    };
    let zone = zone.trim();
    let zone = if zone.eq_ignore_ascii_case("utc") { "Z" } else { zone };
    let whole = format!("{}T{time}{zone}", day.unwrap_or_default());
    match stamper.iso(whole.as_bytes()) {
        Some((Some(time), [])) => Ok(time),
        _ => Err(format!(
            "expected a time such as 2026-08-21T07:00:00Z, \"2026-08-21 07:00\" (local), 07:00 (today), or \"2h ago\", found {text:?}"
        )),
    }
}

fn ago(text: &str) -> Option<i64> {
    duration(text.strip_suffix("ago").unwrap_or(text).trim())
}

/// Seconds of `90s`, `30m`, `2 hours`, `3d`, `1w`.
#[must_use]
pub fn duration(text: &str) -> Option<i64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(digits)?;
    let unit = match unit.trim() {
        "s" | "sec" | "second" | "seconds" => 1,
        "m" | "min" | "minute" | "minutes" => 60,
        "h" | "hour" | "hours" => 3600,
        "d" | "day" | "days" => DAY,
        "w" | "week" | "weeks" => 7 * DAY,
        _ => return None,
    };
    number.parse::<i64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::super::time::rfc3339;
    use super::*;

    /// 2026-08-21T12:00:00Z
    const NOW: i64 = 1_787_313_600;

    #[test]
    fn every_form_is_understood() {
        let east = |local: i64| local - 7200;
        let clock = Clock { reference: NOW, to_utc: &east };
        for (text, expected) in [
            ("now", "2026-08-21T12:00:00Z"),
            ("2h ago", "2026-08-21T10:00:00Z"),
            ("2 hours ago", "2026-08-21T10:00:00Z"),
            ("30m", "2026-08-21T11:30:00Z"),
            ("1w", "2026-08-14T12:00:00Z"),
            ("today", "2026-08-20T22:00:00Z"),
            ("yesterday", "2026-08-19T22:00:00Z"),
            ("2026-08-20", "2026-08-19T22:00:00Z"),
            ("2026-08-20 07:00", "2026-08-20T05:00:00Z"),
            ("2026-08-20T07:00:01", "2026-08-20T05:00:01Z"),
            ("2026-08-20T07:00:01Z", "2026-08-20T07:00:01Z"),
            ("2026-08-20 07:00 UTC", "2026-08-20T07:00:00Z"),
            ("2026-08-20T07:00:01.5+02:00", "2026-08-20T05:00:01.5Z"),
            ("07:00", "2026-08-21T05:00:00Z"),
        ] {
            let time = parse(text, NOW, clock).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(rfc3339(time).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused_with_the_forms_that_exist() {
        for text in
            ["", "soon", "2026-13-01", "25:00", "2h later", "99999999999999999999h ago", "2026-08-20T07:00:01 CEST"]
        {
            let error = parse(text, NOW, Clock::utc(NOW)).expect_err(text);
            assert!(error.contains("2h ago"), "{error}");
        }
    }
}
