//! Remarks on a listing, each surprise about its format once.

use std::collections::HashSet;
use std::sync::Arc;

use crate::diagnostic::{Level, MAX_DIAGNOSTICS, Parsed};

/// Longest remark in characters.
const LONGEST: usize = 600;

/// Where an object starts.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Place {
    pub(super) line: u32,
    pub(super) column: u32,
}

/// Collects remarks.
pub(super) struct Remarks {
    all: crate::diagnostic::Remarks,
    once: HashSet<String>,
}

impl Remarks {
    pub(super) fn new(source: &Arc<str>) -> Self {
        Self { all: crate::diagnostic::Remarks::new(source), once: HashSet::new() }
    }

    /// Adds a remark; what it quotes of the listing is cut when long.
    pub(super) fn add(&mut self, level: Level, place: Place, message: impl Into<String>) {
        let mut message: String = message.into();
        if let Some((end, _)) = message.char_indices().nth(LONGEST) {
            message.truncate(end);
            message.push('…');
        }
        self.all.add(level, place.line, place.column, message);
    }

    /// Adds a remark unless the same words were said before.
    pub(super) fn add_once(&mut self, level: Level, place: Place, message: String) {
        if self.once.len() < MAX_DIAGNOSTICS && self.once.insert(message.clone()) {
            self.add(level, place, message);
        }
    }

    /// The remarks together with what was read.
    pub(super) fn with<T>(self, value: T) -> Parsed<T> {
        self.all.with(value)
    }
}
