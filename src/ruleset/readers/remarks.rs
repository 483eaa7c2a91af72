//! A bounded list of remarks on one input.

use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Level, MAX_DIAGNOSTICS};

/// Longest piece of input a remark quotes, in bytes.
const EXCERPT: usize = 80;

/// Collects [`Diagnostic`]s of one input; never more than [`MAX_DIAGNOSTICS`]. Errors push lesser remarks out.
pub(crate) struct Remarks {
    source: Arc<str>,
    kept: Vec<Diagnostic>,
    /// Kept ones that are not errors.
    lesser: usize,
    left_out: usize,
}

impl Remarks {
    /// No remarks on `source` yet.
    pub(crate) fn new(source: &Arc<str>) -> Self {
        Self { source: Arc::clone(source), kept: Vec::new(), lesser: 0, left_out: 0 }
    }

    /// Adds a remark at `place`: line and column, 1-based.
    pub(crate) fn add(&mut self, level: Level, place: (u32, u32), message: impl Into<String>) {
        let room = MAX_DIAGNOSTICS - 1;
        if self.kept.len() >= room {
            self.left_out = self.left_out.saturating_add(1);
            if level != Level::Error || self.lesser == 0 {
                return;
            }
            if let Some(at) = self.kept.iter().rposition(|known| known.level != Level::Error) {
                self.kept.remove(at);
                self.lesser -= 1;
            }
        }
        self.lesser += usize::from(level != Level::Error);
        self.kept.push(Diagnostic::new(level, &self.source, place.0, place.1, message));
    }

    /// All remarks; the last one says how many were left out.
    pub(crate) fn finish(mut self) -> Vec<Diagnostic> {
        if self.left_out > 0 {
            let worst = self.kept.iter().map(|known| known.level).max().unwrap_or(Level::Note);
            let message = format!("{} more remarks were left out", self.left_out);
            self.kept.push(Diagnostic::new(worst, &self.source, 0, 0, message));
        }
        self.kept
    }
}

/// The start of `bytes` as text, for a remark.
pub(crate) fn excerpt(bytes: &[u8]) -> String {
    match bytes.get(..EXCERPT) {
        Some(start) if bytes.len() > EXCERPT => format!("{}…", String::from_utf8_lossy(start)),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_bounded_and_errors_survive() {
        let mut remarks = Remarks::new(&Arc::from("x"));
        for line in 0..1000 {
            remarks.add(Level::Warning, (line, 1), "w");
        }
        remarks.add(Level::Error, (1001, 1), "e");
        let all = remarks.finish();
        assert_eq!(all.len(), MAX_DIAGNOSTICS);
        assert_eq!(all.iter().filter(|one| one.line == 1001).count(), 1);
        assert!(all.last().is_some_and(|last| last.message.starts_with("802 more")), "{:?}", all.last());
    }
}
