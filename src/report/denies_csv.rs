//! Denies as a table for spreadsheets.

use std::fmt::Write as _;

use super::denies::Answer;
use crate::diagnostic::printable;
use crate::logs::query::Value;
use crate::logs::tally::text_of;

/// A line a group, RFC 4180. Text that a spreadsheet would take for a formula gets a quote in front.
#[must_use]
pub fn csv(answer: &Answer) -> String {
    if let Some(histogram) = &answer.histogram {
        return super::histogram::csv(histogram);
    }
    let mut out = String::new();
    let fields: Vec<&str> =
        answer.groups.first().map(|row| row.key.0.iter().map(|(field, _)| field.name()).collect()).unwrap_or_default();
    let head = fields.into_iter().chain(["count", "packets", "bytes", "first", "last", "failsafe", "why"]);
    out.push_str(&head.collect::<Vec<_>>().join(","));
    out.push_str("\r\n");
    for row in &answer.groups {
        for (_, value) in &row.key.0 {
            match value {
                Value::Null => {}
                Value::Text(text) => out.push_str(&cell(text)),
                other => out.push_str(&text_of(other)),
            }
            out.push(',');
        }
        let text = |text: &Option<String>| text.as_deref().map(cell).unwrap_or_default();
        let _ = write!(out, "{},{},{},{},{},", row.count, row.packets, row.bytes, text(&row.first), text(&row.last));
        let _ = write!(out, "{},{}\r\n", row.failsafe, text(&row.why));
    }
    out
}

fn cell(text: &str) -> String {
    let mut text = printable(text);
    if text.starts_with(['=', '+', '-', '@']) {
        text.insert(0, '\'');
    }
    if text.contains([',', '"', ' ']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}
