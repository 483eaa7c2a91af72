//! Walking a document: typed values out of the tree, a problem for whatever does not fit.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::problem::{Problem, ProblemKind, Problems};
use super::types::Field;
use crate::calico::settings::Place;
use crate::calico::settings::params::edit_distance;
use crate::calico::settings::ports::shortened;
use crate::calico::yaml::{Form, Node, Value};

/// Reads one resource.
pub(super) struct Cursor<'a> {
    pub(super) file: &'a Arc<str>,
    /// The resource's title, for its problems.
    pub(super) resource: String,
    /// Columns to add: the indentation that was taken off.
    pub(super) indent: u32,
    pub(super) problems: &'a mut Problems,
    /// A problem so far that makes the API refuse the resource.
    pub(super) refused: bool,
}

impl Cursor<'_> {
    /// Reports a problem at `node`.
    pub(super) fn problem(
        &mut self,
        kind: ProblemKind,
        (line, column): (u32, u32),
        path: &str,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.add(kind, (line, column), path, message.into(), fix.into(), false);
    }

    /// Reports a problem for which the whole resource is refused.
    pub(super) fn refuse(
        &mut self,
        kind: ProblemKind,
        (line, column): (u32, u32),
        path: &str,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.refused = true;
        self.add(kind, (line, column), path, message.into(), fix.into(), true);
    }

    fn add(&mut self, kind: ProblemKind, at: (u32, u32), field: &str, message: String, fix: String, refused: bool) {
        let column = if at.1 == 0 { 0 } else { at.1.saturating_add(self.indent) };
        self.problems.add(Problem {
            kind,
            place: Place { file: Arc::clone(self.file), line: at.0 },
            column,
            resource: self.resource.clone(),
            field: field.to_owned(),
            message,
            fix,
            refused,
        });
    }

    pub(super) fn field<T>(&self, node: &Node, value: T) -> Field<T> {
        let column = if node.column == 0 { 0 } else { node.column.saturating_add(self.indent) };
        Field { value, line: node.line, column }
    }

    /// The value under `key`; nothing when it is missing or null.
    pub(super) fn child<'n>(&self, node: &'n Node, key: &str) -> Option<&'n Node> {
        node.get(key).filter(|node| node.value != Value::Null)
    }

    fn wrong_type(&mut self, node: &Node, path: &str, expected: &str) {
        let found = match &node.value {
            Value::Scalar(text) => format!("{:?}", shortened(text)),
            Value::Null => "nothing".to_owned(),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a map".to_owned(),
        };
        let message = format!("found {found}, expected {expected}");
        self.refuse(ProblemKind::WrongType, (node.line, node.column), path, message, "");
    }

    /// Whether `node` is a map; reports keys that are not in `known`, with the nearest that is.
    pub(super) fn map(&mut self, node: &Node, path: &str, known: &[&str]) -> bool {
        if !matches!(node.value, Value::Map(_)) {
            self.wrong_type(node, path, "a map");
            return false;
        }
        for (key, line, _) in node.entries() {
            if !known.contains(&key.as_str()) {
                self.unknown(key, (*line, 0), path, known);
            }
        }
        true
    }

    fn unknown(&mut self, key: &str, at: (u32, u32), path: &str, known: &[&str]) {
        let fix = match nearest(key, known) {
            Some(near) => format!("did you mean {near}?"),
            None => {
                "remove it; kubectl drops it without a word on some clusters, calicoctl refuses the file".to_owned()
            }
        };
        let message = format!("no field of this name; expected one of {}", known.join(", "));
        self.problem(ProblemKind::UnknownField, at, &join(path, &shortened(key)), message, fix);
    }

    /// The elements of a list.
    pub(super) fn list<'n>(&mut self, node: &'n Node, path: &str) -> &'n [Node] {
        match &node.value {
            Value::List(items) => items,
            Value::Null => &[],
            _ => {
                self.wrong_type(node, path, "a list");
                &[]
            }
        }
    }

    /// A text. Numbers and truth values without quotes are not texts to the API.
    pub(super) fn text(&mut self, node: &Node, path: &str) -> Option<Field<String>> {
        match (&node.value, node.form) {
            (Value::Scalar(text), Form::Plain | Form::Quoted) => Some(self.field(node, text.clone())),
            (Value::Scalar(text), form) => {
                let message = if form == Form::Bool {
                    "found a truth value (y, n, yes, no, on, off count as such), expected a text".to_owned()
                } else {
                    format!("found the number {}, expected a text", shortened(text))
                };
                let fix = "put it in quotes";
                self.refuse(ProblemKind::WrongType, (node.line, node.column), path, message, fix);
                Some(self.field(node, text.clone()))
            }
            _ => {
                self.wrong_type(node, path, "a text");
                None
            }
        }
    }

    /// The text under `key`.
    pub(super) fn text_at(&mut self, node: &Node, path: &str, key: &str) -> Option<Field<String>> {
        let child = self.child(node, key)?;
        self.text(child, &join(path, key))
    }

    /// The texts under `key`.
    pub(super) fn texts_at(&mut self, node: &Node, path: &str, key: &str) -> Vec<Field<String>> {
        let Some(child) = self.child(node, key) else { return Vec::new() };
        let path = join(path, key);
        let items = self.list(child, &path);
        items.iter().enumerate().filter_map(|(index, item)| self.text(item, &format!("{path}[{index}]"))).collect()
    }

    /// The truth value under `key`.
    pub(super) fn bool_at(&mut self, node: &Node, path: &str, key: &str) -> Option<Field<bool>> {
        let child = self.child(node, key)?;
        match (child.form, child.text()) {
            (Form::Bool, Some(text)) => Some(self.field(child, text == "true")),
            _ => {
                self.wrong_type(child, &join(path, key), "true or false, without quotes");
                None
            }
        }
    }

    /// The number under `key`.
    pub(super) fn number_at(&mut self, node: &Node, path: &str, key: &str) -> Option<Field<f64>> {
        let child = self.child(node, key)?;
        let number = child.text().filter(|_| child.form == Form::Number).and_then(|text| text.parse::<f64>().ok());
        match number.filter(|number| number.is_finite()) {
            Some(number) => Some(self.field(child, number)),
            None => {
                self.wrong_type(child, &join(path, key), "a number, without quotes");
                None
            }
        }
    }

    /// A small whole number within `range`.
    pub(super) fn small_at(
        &mut self,
        node: &Node,
        path: &str,
        key: &str,
        range: std::ops::RangeInclusive<u8>,
    ) -> Option<Field<u8>> {
        let child = self.child(node, key)?;
        let number = child.text().filter(|_| child.form == Form::Number).and_then(|text| text.parse::<u8>().ok());
        match number.filter(|number| range.contains(number)) {
            Some(number) => Some(self.field(child, number)),
            None => {
                let expected = format!("a number of {} to {}", range.start(), range.end());
                self.wrong_type(child, &join(path, key), &expected);
                None
            }
        }
    }

    /// One of the words in `choices`, in the exact case; the index of the one found.
    pub(super) fn word(&mut self, node: &Node, path: &str, choices: &[&str]) -> Option<usize> {
        let Some(text) = node.text().filter(|_| matches!(node.form, Form::Plain | Form::Quoted)) else {
            self.wrong_type(node, path, &format!("one of {}", choices.join(", ")));
            return None;
        };
        if let Some(index) = choices.iter().position(|choice| *choice == text) {
            return Some(index);
        }
        let at = (node.line, node.column);
        let found = shortened(text);
        let other_case = choices.iter().position(|choice| choice.eq_ignore_ascii_case(text));
        match other_case {
            Some(index) => {
                let right = choices.get(index).copied().unwrap_or_default();
                let message = format!("found {found:?}, expected {right:?}: the API distinguishes case");
                self.refuse(ProblemKind::LetterCase, at, path, message, format!("write {right}"));
            }
            None => {
                let message = format!("found {found:?}, expected one of {}", choices.join(", "));
                let fix = nearest(text, choices).map(|near| format!("did you mean {near}?"));
                self.refuse(ProblemKind::BadValue, at, path, message, fix.unwrap_or_default());
            }
        }
        other_case
    }

    /// A map of texts: labels, annotations.
    pub(super) fn texts_map(&mut self, node: &Node, path: &str, key: &str) -> BTreeMap<String, Field<String>> {
        let Some(child) = self.child(node, key) else { return BTreeMap::new() };
        let path = join(path, key);
        if !matches!(child.value, Value::Map(_)) {
            self.wrong_type(child, &path, "a map of texts");
            return BTreeMap::new();
        }
        let entries = child.entries().iter().filter_map(|(key, _, value)| {
            if value.value == Value::Null {
                // the API reads null as an empty text
                return Some((key.clone(), self.field(value, String::new())));
            }
            Some((key.clone(), self.text(value, &join(&path, &shortened(key)))?))
        });
        entries.collect()
    }
}

/// `spec` and `order`: `spec.order`.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// The candidate nearest to `word`: the same but for case, or a third of its letters different at most, three at most.
#[must_use]
pub fn nearest<'c>(word: &str, candidates: &[&'c str]) -> Option<&'c str> {
    if word.is_empty() || word.len() > 80 {
        return None;
    }
    let lower = word.to_ascii_lowercase();
    let most = 3.min(word.len().div_ceil(3));
    let distance = |candidate: &str| edit_distance(lower.as_bytes(), candidate.to_ascii_lowercase().as_bytes());
    let near = candidates.iter().filter(|candidate| candidate.len().abs_diff(word.len()) <= most);
    let best = near.min_by_key(|candidate| distance(candidate))?;
    (distance(best) <= most).then_some(best)
}
