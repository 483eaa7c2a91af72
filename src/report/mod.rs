//! Words for people and machines; each part only formats.

pub mod conversation;
pub mod decided;
pub mod denies;
pub mod denies_csv;
pub mod denies_event;
pub mod denies_text;
pub mod audit;
pub mod events;
pub mod diff;
pub mod explain;
pub mod html;
pub mod lint;
pub mod manual;
pub mod failsafe;
pub mod flows;
pub mod histogram;
pub mod matrix;
pub mod plan;
pub mod reach;
pub mod sarif;
pub mod status;
pub mod text;
pub mod trace;

use serde::Serialize;

/// The JSON Schema of `hepguard forward`.
pub const FORWARD_SCHEMA: &str = include_str!("schemas/forward.v1.json");

/// The JSON Schema of a finding on its way to a SIEM.
pub const ALERT_SCHEMA: &str = include_str!("schemas/alert.v1.json");

/// The JSON Schema of a word about hepguard itself on its way to a SIEM.
pub const NOTICE_SCHEMA: &str = include_str!("schemas/notice.v1.json");

/// The schema of what `config check --format json` prints, as shipped.
pub const CONFIG_SCHEMA: &str = include_str!("schemas/config.v1.json");

/// Compact JSON without a character that a terminal would obey or hide: JSON's own escapes leave some of them raw.
#[must_use]
pub fn json_text(value: &impl Serialize) -> String {
    // values of this program always serialise: keys are text, numbers are finite
    escaped(serde_json::to_string(value).unwrap_or_default())
}

/// The same in several lines.
#[must_use]
pub fn json_pretty(value: &impl Serialize) -> String {
    escaped(serde_json::to_string_pretty(value).unwrap_or_default())
}

/// In JSON such characters stand in strings only, line ends between values apart.
fn escaped(json: String) -> String {
    use std::fmt::Write as _;
    let must = |c: char| c != '\n' && crate::diagnostic::is_hidden(c);
    if json.is_ascii() && !json.contains('\u{7f}') || !json.contains(must) {
        return json;
    }
    let mut out = String::with_capacity(json.len() + 64);
    for c in json.chars() {
        if must(c) {
            // all of them have four hex digits
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}
