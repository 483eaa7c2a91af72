//! Denies over time, who was denied most, and what decided.

use std::collections::BTreeMap;

use super::markup::Html;
use super::{badge, list, table};
use crate::logs::query::{Field, Value};
use crate::report::denies::{Answer, Bar, Histogram, Row};
use crate::report::denies_text::flow;
use crate::report::histogram::{parse, unit};
use crate::report::text::count;

/// Groups and talkers shown.
const MOST_GROUPS: usize = 20;
const MOST_TALKERS: usize = 10;
/// Bars drawn.
const MOST_BARS: usize = 120;

pub(super) fn section(html: &mut Html, denies: Option<&Answer>) {
    let Some(answer) = denies else {
        html.leaf(
            "p",
            &[],
            "No log was given, so nothing is said about denies. Name log files behind the command to have them here.",
        );
        return;
    };
    let groups = count(answer.groups_total, "group");
    let number = usize::try_from(answer.events).unwrap_or(usize::MAX);
    html.tag("p", &[], |html| {
        html.text(&format!("{} in {groups}", count(number, "deny")));
        if let Some(range) = &answer.time_range {
            html.text(", from ").time(&range.first).text(" to ").time(&range.last);
        }
        html.text(".");
    });
    if answer.given_up > 0 {
        html.leaf("p", &[], "There were too many groups for memory: counts are lower bounds.");
    }
    list(
        html,
        answer.files.iter().map(|file| format!("{}: {} lines, {} broken", file.path, file.lines, file.malformed)),
    );
    if let Some(histogram) = answer.histogram.as_ref().filter(|histogram| !histogram.bars.is_empty()) {
        timeline(html, histogram);
    }
    if !answer.groups.is_empty() {
        talkers(html, answer);
        groups_table(html, answer);
    }
}

fn timeline(html: &mut Html, histogram: &Histogram) {
    let bars = &histogram.bars[histogram.bars.len().saturating_sub(MOST_BARS)..];
    let most = bars.iter().map(|bar| bar.count).max().unwrap_or(1).max(1);
    let title = format!("Denies by {} (UTC)", unit(histogram.width_seconds));
    html.leaf("h3", &[], &title);
    let (Some(first), Some(last)) = (bars.first(), bars.last()) else { return };
    html.tag("figure", &[], |html| {
        let picture = [
            ("viewBox", "0 0 960 150"),
            ("role", "img"),
            ("class", "chart"),
            ("aria-labelledby", "bars-title bars-text"),
        ];
        // from the start of the first bar to the end of the last one
        let place = |bar: &Bar| parse(&bar.start).unwrap_or_default() / 1_000_000;
        let span = place(last).saturating_sub(place(first)).saturating_add(histogram.width_seconds).max(1);
        let pixels = |seconds: i64| usize::try_from(i128::from(seconds) * 960 / i128::from(span)).unwrap_or(0).min(960);
        let wide = pixels(histogram.width_seconds).saturating_sub(1).clamp(2, 80).to_string();
        html.tag("svg", &picture, |html| {
            html.leaf("title", &[("id", "bars-title")], &title);
            let words = format!("{} bars from {} to {}, at most {most} in one", bars.len(), first.start, last.start);
            html.leaf("desc", &[("id", "bars-text")], &words);
            html.tag("path", &[("class", "axis"), ("d", "M0 120.5H960")], |_| ());
            for bar in bars {
                let high = u128::from(bar.count) * 110 / u128::from(most);
                // something is never nothing
                let high = usize::try_from(high).unwrap_or(110).clamp(2, 110);
                let x = pixels(place(bar).saturating_sub(place(first))).to_string();
                let (y, high) = ((120 - high).to_string(), high.to_string());
                html.tag(
                    "rect",
                    &[("class", "bar"), ("x", &x), ("y", &y), ("width", &wide), ("height", &high)],
                    |html| {
                        html.leaf("title", &[], &format!("{}: {}", bar.start, bar.count));
                    },
                );
            }
            html.leaf("text", &[("x", "0"), ("y", "140")], &first.start);
            if bars.len() > 1 {
                html.leaf("text", &[("x", "960"), ("y", "140"), ("text-anchor", "end")], &last.start);
            }
        });
        html.leaf("figcaption", &[], &format!("At most {most} in one bar."));
    });
    html.tag("details", &[], |html| {
        html.leaf("summary", &[], "The bars as a table");
        table(html, &title, &["Start", "Denies"], |html| {
            for bar in bars {
                html.tag("tr", &[], |html| {
                    html.tag("th", &[("scope", "row")], |html| {
                        html.time(&bar.start);
                    });
                    html.leaf("td", &[("class", "number")], &bar.count.to_string());
                });
            }
        });
    });
}

/// Sources of denied packets, the loudest first.
fn talkers(html: &mut Html, answer: &Answer) {
    let mut sums: BTreeMap<String, u64> = BTreeMap::new();
    for row in &answer.groups {
        let source = match row.key.get(Field::SrcIp) {
            Value::Address(address) => address.to_string(),
            Value::Text(text) => text.clone(),
            _ => "not told".to_owned(),
        };
        let sum = sums.entry(source).or_default();
        *sum = sum.saturating_add(row.count);
    }
    let mut sums: Vec<(String, u64)> = sums.into_iter().collect();
    sums.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let view = format!("0 0 {} 8", sums.first().map_or(1, |(_, most)| *most).max(1));
    html.leaf("h3", &[], "Top talkers");
    table(html, "Sources that were denied most", &["Source", "Denies", "Share of the loudest"], |html| {
        for (source, number) in sums.iter().take(MOST_TALKERS) {
            let number = number.to_string();
            html.tag("tr", &[], |html| {
                html.tag("th", &[("scope", "row")], |html| {
                    html.leaf("code", &[], source);
                });
                html.leaf("td", &[("class", "number")], &number);
                let size = [
                    ("viewBox", view.as_str()),
                    ("class", "share"),
                    ("preserveAspectRatio", "none"),
                    ("aria-hidden", "true"),
                ];
                html.tag("td", &[], |html| {
                    html.tag("svg", &size, |html| {
                        html.tag("rect", &[("class", "bar"), ("width", &number), ("height", "8")], |_| ());
                    });
                });
            });
        }
    });
    if sums.len() > MOST_TALKERS {
        html.leaf("p", &[], &format!("{} more.", count(sums.len() - MOST_TALKERS, "source")));
    }
}

fn groups_table(html: &mut Html, answer: &Answer) {
    html.leaf("h3", &[], "What was denied, and by what");
    table(html, "Denied flows, the most frequent first", &["Denies", "What", "What decided", "Last"], |html| {
        for row in answer.groups.iter().take(MOST_GROUPS) {
            html.tag("tr", &[], |html| group(html, row));
        }
    });
    let shown = answer.groups.len().min(MOST_GROUPS);
    if answer.groups_total > shown {
        html.leaf("p", &[], &format!("{} more.", count(answer.groups_total - shown, "group")));
    }
}

fn group(html: &mut Html, row: &Row) {
    html.leaf("td", &[("class", "number")], &row.count.to_string());
    html.tag("th", &[("scope", "row")], |html| {
        html.leaf("code", &[], &flow(&row.key).0);
        if row.needed.is_some() || row.failsafe {
            html.text(" ");
            badge(html, "bad", if row.needed.is_some() { "must work" } else { "failsafe port" });
        }
    });
    html.tag("td", &[], |html| {
        html.text(row.why.as_deref().unwrap_or("not told"));
        if let Some(place) = &row.written {
            html.text(&format!(" ({place})"));
        }
    });
    html.tag("td", &[], |html| match &row.last {
        Some(last) => drop(html.time(last)),
        None => drop(html.text("not told")),
    });
}
