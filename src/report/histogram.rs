//! Denies over time, as bars of text or as a table.

use std::fmt::Write as _;

use super::denies::Histogram;
use super::text::{Style, Tone};
use crate::logs::time::Micros;

/// Bars of text; times without events are one line.
pub fn text(histogram: &Histogram, style: Style, out: &mut String) {
    let width = histogram.width_seconds;
    let _ = writeln!(out, "\n{}", style.paint(Tone::Strong, &format!("denies by {} (UTC)", unit(width))));
    let most = histogram.bars.iter().map(|bar| bar.count).max().unwrap_or(0);
    let digits = most.to_string().len().max(5);
    let room = style.width.saturating_sub(20 + 2 + digits + 1).max(10);
    let mut next: Option<Micros> = None;
    for bar in &histogram.bars {
        let start = parse(&bar.start);
        if let (Some(next), Some(start)) = (next, start)
            && start > next
        {
            let empty = (start - next).checked_div(width.saturating_mul(1_000_000)).unwrap_or(0);
            let _ = writeln!(out, "{:20}  {:>digits$}", if empty == 1 { "" } else { "…" }, 0);
        }
        next = start.map(|start| start.saturating_add(width.saturating_mul(1_000_000)));
        let length = u128::from(bar.count) * room as u128 / u128::from(most.max(1));
        // something is never nothing
        let length = usize::try_from(length).unwrap_or(room).max(1);
        let _ = writeln!(out, "{:20}  {:>digits$} {}", bar.start, bar.count, "#".repeat(length));
    }
    if histogram.undated > 0 {
        out.push_str(&style.wrap("note: ", &format!("{} events without a time are in no bar", histogram.undated)));
    }
    if histogram.left_out > 0 {
        let words = format!("{} events are in no bar: the stamps are spread over centuries", histogram.left_out);
        out.push_str(&style.wrap("note: ", &words));
    }
}

pub(super) fn parse(stamp: &str) -> Option<Micros> {
    use crate::logs::time::{Clock, Stamper};
    Stamper::new(Clock::utc(0)).iso(stamp.as_bytes())?.0
}

pub(super) fn unit(seconds: i64) -> String {
    for (length, one) in [(86_400, "day"), (3_600, "hour"), (60, "minute")] {
        if seconds % length == 0 {
            let number = seconds / length;
            return if number == 1 { one.to_owned() } else { format!("{number} {one}s") };
        }
    }
    if seconds == 1 { "second".to_owned() } else { format!("{seconds} seconds") }
}

/// A line a bar, RFC 4180.
#[must_use]
pub fn csv(histogram: &Histogram) -> String {
    let mut out = String::from("start,count\r\n");
    for bar in &histogram.bars {
        let _ = write!(out, "{},{}\r\n", bar.start, bar.count);
    }
    out
}
