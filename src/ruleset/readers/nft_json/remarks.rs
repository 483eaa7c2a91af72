//! Remarks on a listing: bounded in number, each kind of surprise once.

use std::collections::HashSet;
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Level, MAX_DIAGNOSTICS};

/// Where an object starts.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Place {
    pub(super) line: u32,
    pub(super) column: u32,
}

/// Collects remarks.
pub(super) struct Remarks {
    source: Arc<str>,
    list: Vec<Diagnostic>,
    left_out: usize,
    worst_left_out: Level,
    once: HashSet<String>,
}

impl Remarks {
    pub(super) fn new(source: &Arc<str>) -> Self {
        Self {
            source: Arc::clone(source),
            list: Vec::new(),
            left_out: 0,
            worst_left_out: Level::Note,
            once: HashSet::new(),
        }
    }

    /// Adds a remark.
    pub(super) fn add(&mut self, level: Level, place: Place, message: impl Into<String>) {
        if self.list.len() + 1 >= MAX_DIAGNOSTICS {
            self.left_out += 1;
            self.worst_left_out = self.worst_left_out.max(level);
        } else {
            self.list.push(Diagnostic::new(level, &self.source, place.line, place.column, message));
        }
    }

    /// Adds a remark unless the same words were said before.
    pub(super) fn add_once(&mut self, level: Level, place: Place, message: String) {
        if self.once.len() < MAX_DIAGNOSTICS && self.once.insert(message.clone()) {
            self.add(level, place, message);
        }
    }

    /// All remarks; the last one counts what did not fit.
    pub(super) fn finish(mut self) -> Vec<Diagnostic> {
        if self.left_out > 0 {
            let message = format!("{} more remarks on this listing are left out", self.left_out);
            self.list.push(Diagnostic::new(self.worst_left_out, &self.source, 0, 0, message));
        }
        self.list
    }
}
