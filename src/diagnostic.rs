//! What a reader has to say about its input: where, what was expected, what to do.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

/// How much a remark on an input matters.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Good to know, nothing lost.
    Note,
    /// Kept as opaque or read with doubt; answers that need it say *unknown*.
    Warning,
    /// Part of the input could not be read at all.
    Error,
}

/// One remark on an input, with its place.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Diagnostic {
    /// How much it matters.
    pub level: Level,
    /// Snapshot file name or path.
    pub source: Arc<str>,
    /// Line, 1-based; 0 when the place has no line.
    pub line: u32,
    /// Column in bytes, 1-based; 0 when unknown.
    pub column: u32,
    /// What was found, what was expected, what to do; lower case, no full stop. May hold input text: escape before showing.
    pub message: String,
}

impl Diagnostic {
    /// A remark at a place.
    #[must_use]
    pub fn new(level: Level, source: &Arc<str>, line: u32, column: u32, message: impl Into<String>) -> Self {
        Self { level, source: Arc::clone(source), line, column, message: message.into() }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
            if self.column > 0 {
                write!(f, ":{}", self.column)?;
            }
        }
        write!(f, ": {}", self.message)
    }
}

/// A value and everything there is to say about how it was read.
#[derive(Clone, Debug, Default)]
pub struct Parsed<T> {
    /// The good part.
    pub value: T,
    /// Remarks, in input order. At most [`MAX_DIAGNOSTICS`]; the last one then says how many were left out.
    pub diagnostics: Vec<Diagnostic>,
}

impl<T> Parsed<T> {
    /// The same remarks on what `change` makes of the value.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Parsed<U> {
        Parsed { value: change(self.value), diagnostics: self.diagnostics }
    }
}

/// Remarks kept for one input.
pub const MAX_DIAGNOSTICS: usize = 200;

/// Collects the remarks on one input and keeps them bounded; errors push lesser remarks out.
#[derive(Debug)]
pub struct Remarks {
    source: Arc<str>,
    kept: Vec<Diagnostic>,
    /// Kept ones that are not errors.
    lesser: usize,
    left_out: usize,
    /// The worst level of those left out.
    worst: Level,
}

impl Remarks {
    /// None yet.
    #[must_use]
    pub fn new(source: &Arc<str>) -> Self {
        Self { source: Arc::clone(source), kept: Vec::new(), lesser: 0, left_out: 0, worst: Level::Note }
    }

    /// Adds one; `line` and `column` as in [`Diagnostic`].
    pub fn add(&mut self, level: Level, line: u32, column: u32, message: impl Into<String>) {
        if self.kept.len() + 1 >= MAX_DIAGNOSTICS {
            self.left_out = self.left_out.saturating_add(1);
            let last_lesser = if level == Level::Error && self.lesser > 0 {
                self.kept.iter().rposition(|known| known.level != Level::Error)
            } else {
                None
            };
            let Some(at) = last_lesser else {
                self.worst = self.worst.max(level);
                return;
            };
            let gone = self.kept.remove(at);
            self.worst = self.worst.max(gone.level);
            self.lesser -= 1;
        }
        self.lesser += usize::from(level != Level::Error);
        self.kept.push(Diagnostic::new(level, &self.source, line, column, message));
    }

    /// The remarks; the last one says how many more there were.
    #[must_use]
    pub fn finish(mut self) -> Vec<Diagnostic> {
        if self.left_out > 0 {
            let message = format!("{} more remarks were left out", self.left_out);
            self.kept.push(Diagnostic::new(self.worst, &self.source, 0, 0, message));
        }
        self.kept
    }

    /// The remarks together with what was read.
    #[must_use]
    pub fn with<T>(self, value: T) -> Parsed<T> {
        Parsed { value, diagnostics: self.finish() }
    }
}

/// Longest piece of input a remark quotes, in bytes.
const EXCERPT: usize = 80;

/// The start of `bytes` as text, for a remark.
pub(crate) fn excerpt(bytes: &[u8]) -> String {
    match bytes.get(..EXCERPT) {
        Some(start) if bytes.len() > EXCERPT => format!("{}…", String::from_utf8_lossy(start)),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    }
}

/// Control characters, bidirectional overrides and other invisible characters.
pub(crate) fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

/// `text` with control characters, bidirectional overrides and other invisible characters escaped: safe for a terminal, a
/// log or a report.
#[must_use]
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hidden(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_read_like_a_compiler() {
        let source: Arc<str> = Arc::from("iptables-save.txt");
        let full = Diagnostic::new(Level::Error, &source, 3, 7, "expected -j");
        assert_eq!(full.to_string(), "iptables-save.txt:3:7: expected -j");
        assert_eq!(Diagnostic::new(Level::Note, &source, 0, 0, "empty").to_string(), "iptables-save.txt: empty");
    }

    #[test]
    fn remarks_stay_bounded_and_errors_push_lesser_ones_out() {
        let mut remarks = Remarks::new(&Arc::from("x"));
        for line in 0..1000 {
            remarks.add(if line == 230 { Level::Error } else { Level::Warning }, line, 1, "odd");
        }
        let kept = remarks.finish();
        assert_eq!(kept.len(), MAX_DIAGNOSTICS);
        assert_eq!(kept.iter().filter(|one| one.level == Level::Error && one.line == 230).count(), 1);
        let last = kept.last().expect("not empty");
        assert_eq!((last.level, last.message.as_str()), (Level::Warning, "801 more remarks were left out"));

        let mut errors = Remarks::new(&Arc::from("x"));
        for line in 0..1000 {
            errors.add(Level::Error, line, 1, "bad");
        }
        let kept = errors.finish();
        assert_eq!(kept.len(), MAX_DIAGNOSTICS);
        assert!(kept.last().is_some_and(|last| last.level == Level::Error && last.message.starts_with("801 ")));
    }

    #[test]
    fn nothing_invisible_gets_through() {
        assert_eq!(printable("a\x1b[31mb\nc\u{202e}d\u{feff}"), "a\\u{1b}[31mb\\nc\\u{202e}d\\u{feff}");
        assert_eq!(printable("plain ü 漢"), "plain ü 漢");
    }
}
