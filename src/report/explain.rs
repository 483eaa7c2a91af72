//! A check's page for the terminal: headings in bold, paragraphs wrapped, lists kept.

use super::text::{Style, Tone};
use crate::audit::check::Check;
use crate::audit::finding::Severity;
use crate::lint::Lint;

/// What there is to say about a code.
#[derive(Clone, Debug)]
pub struct Page {
    /// Code for ever.
    pub code: &'static str,
    /// Name for people.
    pub name: &'static str,
    /// Usual severity.
    pub severity: Severity,
    /// One line.
    pub summary: &'static str,
    /// The page, as Markdown.
    pub lines: Vec<String>,
}

impl From<&Check> for Page {
    fn from(check: &Check) -> Self {
        let lines = check.page().map(str::to_owned).collect();
        let Check { code, name, severity, summary, .. } = *check;
        Self { code, name, severity, summary, lines }
    }
}

impl From<&Lint> for Page {
    fn from(lint: &Lint) -> Self {
        let Lint { code, name, severity, summary, .. } = *lint;
        Self { code, name, severity, summary, lines: lint.page() }
    }
}

/// The page for the terminal.
#[must_use]
pub fn page(check: &Page, style: Style) -> String {
    let mut out = String::new();
    let mut paragraph = String::new();
    let flush = |paragraph: &mut String, out: &mut String| {
        if !paragraph.is_empty() {
            out.push_str(&style.wrap("  ", paragraph));
            paragraph.clear();
        }
    };
    for line in check.lines.iter().map(String::as_str) {
        if let Some(title) = line.strip_prefix("# ") {
            out.push_str(&style.paint(Tone::Strong, title));
            out.push('\n');
            out.push_str(&style.wrap("  ", &format!("{}: {}", check.severity.name(), check.summary)));
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
pub fn list(checks: &[Page], style: Style) -> String {
    let mut out = String::new();
    for check in checks {
        let head = format!("{}  {:<9} ", check.code, check.severity.name());
        out.push_str(&style.paint(Tone::of(check.severity), &head));
        let words = style.wrap(&" ".repeat(head.len()), &format!("{}: {}", check.name, check.summary));
        out.push_str(words.trim_start_matches(' '));
    }
    out
}
