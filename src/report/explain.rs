//! A check's page for the terminal: headings in bold, paragraphs wrapped, lists kept.

use super::text::{Style, Tone};
use crate::audit::check::Check;

/// The page of `check`.
#[must_use]
pub fn page(check: &Check, style: Style) -> String {
    let mut out = String::new();
    let mut paragraph = String::new();
    let flush = |paragraph: &mut String, out: &mut String| {
        if !paragraph.is_empty() {
            out.push_str(&style.wrap("  ", paragraph));
            paragraph.clear();
        }
    };
    for line in check.page() {
        if let Some(title) = line.strip_prefix("# ") {
            out.push_str(&style.paint(Tone::Strong, title));
            out.push_str(&format!("  ({}): {}\n", check.severity.name(), check.summary));
        } else if let Some(heading) = line.strip_prefix("## ") {
            flush(&mut paragraph, &mut out);
            out.push('\n');
            out.push_str(&style.paint(Tone::Strong, heading));
            out.push('\n');
        } else if line.is_empty() {
            flush(&mut paragraph, &mut out);
        } else {
            if line.starts_with("- ") {
                flush(&mut paragraph, &mut out);
            }
            if !paragraph.is_empty() {
                paragraph.push(' ');
            }
            paragraph.push_str(line.trim());
        }
    }
    flush(&mut paragraph, &mut out);
    out
}

/// All checks, a line each.
#[must_use]
pub fn list(checks: &[Check], style: Style) -> String {
    let mut out = String::new();
    for check in checks {
        let head = format!("{}  {:<9} ", check.code, check.severity.name());
        out.push_str(&style.paint(Tone::of(check.severity), &head));
        let words = style.wrap(&" ".repeat(head.len()), &format!("{}: {}", check.name, check.summary));
        out.push_str(words.trim_start_matches(' '));
    }
    out
}
