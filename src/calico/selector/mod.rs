//! Calico's label selectors: parsed as Felix parses them, evaluated, and printed in the canonical text that Felix hashes.
//!
//! ```text
//! selector := "" | or            or  := and { "||" and }          and := op { "&&" op }
//! op := { "!" } atom             atom := has(k) | all() | global() | k == 'v' | k != 'v' | k contains 'v'
//!                                     | k starts with 'v' | k ends with 'v' | k in {'v', …} | k not in {…} | "(" or ")"
//! ```
//!
//! Blanks are space and tab only. Word operators count right behind a label and need an end of word.

mod effective;
mod parse;
mod restrict;
#[cfg(test)]
mod tests;
mod token;

use std::fmt;

pub use effective::{EntitySelectors, entity_selectors, policy_selector};
pub use restrict::Term;

/// Deepest nesting of parentheses.
const MAX_DEPTH: usize = 300;
/// Longest selector that is read, in bytes; the API's limit of 1024 is checked by the reader of resources.
const MAX_LENGTH: usize = 64 << 10;

/// What a selector looks at.
pub trait LabelSource {
    /// The value of a label; `None` when there is no such label.
    fn label(&self, key: &str) -> Option<&str>;
}

impl LabelSource for std::collections::BTreeMap<String, String> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}

/// Why a text is no selector.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SelectorError {
    /// Where, in characters from the start of the selector, 1-based.
    pub column: u32,
    /// What was found and expected.
    pub message: String,
    /// What to do; may be empty.
    pub fix: String,
}

impl SelectorError {
    fn new(text: &str, at: usize, message: impl Into<String>, fix: impl Into<String>) -> Self {
        let column = text.get(..at).unwrap_or_default().chars().count() + 1;
        Self { column: u32::try_from(column).unwrap_or(u32::MAX), message: message.into(), fix: fix.into() }
    }
}

impl fmt::Display for SelectorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "character {}: {}", self.column, self.message)?;
        if self.fix.is_empty() { Ok(()) } else { write!(f, "; {}", self.fix) }
    }
}

impl std::error::Error for SelectorError {}

/// A selector's tree.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Expression {
    All,
    Global,
    Has(String),
    Equal(String, String),
    NotEqual(String, String),
    Contains(String, String),
    StartsWith(String, String),
    EndsWith(String, String),
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Not(Box<Expression>),
    And(Vec<Expression>),
    Or(Vec<Expression>),
}

/// A selector.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Selector(Expression);

impl Selector {
    /// Selects everything; so does the empty text.
    #[must_use]
    pub fn all() -> Self {
        Self(Expression::All)
    }

    /// Reads a selector.
    ///
    /// # Errors
    /// The first thing that does not fit, with its column.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        parse::parse(text).map(Self)
    }

    /// Whether it selects something with these labels.
    #[must_use]
    pub fn matches(&self, labels: &impl LabelSource) -> bool {
        self.0.matches(labels)
    }

    /// The text that Felix prints and hashes: double quotes, sorted sets, parentheses around every `&&` and `||`.
    #[must_use]
    pub fn canonical(&self) -> String {
        let mut text = String::new();
        self.0.print(&mut text);
        text
    }

    /// Whether `global()` occurs in it.
    #[must_use]
    pub fn mentions_global(&self) -> bool {
        let mut found = false;
        self.0.visit(&mut |expression| found |= *expression == Expression::Global);
        found
    }

    /// The same with `prefix` before every label.
    #[must_use]
    pub fn prefixed(mut self, prefix: &str) -> Self {
        self.0.rename(&mut |key| *key = format!("{prefix}{key}"));
        self
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.canonical())
    }
}

impl Expression {
    fn matches(&self, labels: &impl LabelSource) -> bool {
        let has = |key: &str, test: &dyn Fn(&str) -> bool| labels.label(key).is_some_and(test);
        match self {
            Self::All | Self::Global => true,
            Self::Has(key) => labels.label(key).is_some(),
            Self::Equal(key, value) => has(key, &|found| found == value),
            Self::NotEqual(key, value) => !has(key, &|found| found == value),
            Self::Contains(key, value) => has(key, &|found| found.contains(value)),
            Self::StartsWith(key, value) => has(key, &|found| found.starts_with(value)),
            Self::EndsWith(key, value) => has(key, &|found| found.ends_with(value)),
            Self::In(key, values) => has(key, &|found| values.iter().any(|value| value == found)),
            Self::NotIn(key, values) => !has(key, &|found| values.iter().any(|value| value == found)),
            Self::Not(inside) => !inside.matches(labels),
            Self::And(operands) => operands.iter().all(|operand| operand.matches(labels)),
            Self::Or(operands) => operands.iter().any(|operand| operand.matches(labels)),
        }
    }

    fn print(&self, out: &mut String) {
        let quoted = |out: &mut String, value: &str| {
            let quote = if value.contains('"') { '\'' } else { '"' };
            out.push(quote);
            out.push_str(value);
            out.push(quote);
        };
        let compared = |out: &mut String, key: &str, operator: &str, value: &str| {
            out.push_str(key);
            out.push_str(operator);
            quoted(out, value);
        };
        let listed = |out: &mut String, key: &str, operator: &str, values: &[String]| {
            out.push_str(key);
            out.push_str(operator);
            for (index, value) in values.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { ", " });
                quoted(out, value);
            }
            out.push('}');
        };
        match self {
            Self::All => out.push_str("all()"),
            Self::Global => out.push_str("global()"),
            Self::Has(key) => {
                out.push_str("has(");
                out.push_str(key);
                out.push(')');
            }
            Self::Equal(key, value) => compared(out, key, " == ", value),
            Self::NotEqual(key, value) => compared(out, key, " != ", value),
            Self::Contains(key, value) => compared(out, key, " contains ", value),
            Self::StartsWith(key, value) => compared(out, key, " starts with ", value),
            Self::EndsWith(key, value) => compared(out, key, " ends with ", value),
            Self::In(key, values) => listed(out, key, " in {", values),
            Self::NotIn(key, values) => listed(out, key, " not in {", values),
            Self::Not(inside) => {
                out.push('!');
                inside.print(out);
            }
            Self::And(operands) | Self::Or(operands) => {
                let between = if matches!(self, Self::And(_)) { " && " } else { " || " };
                out.push('(');
                for (index, operand) in operands.iter().enumerate() {
                    out.push_str(if index == 0 { "" } else { between });
                    operand.print(out);
                }
                out.push(')');
            }
        }
    }

    fn visit(&self, look: &mut impl FnMut(&Self)) {
        look(self);
        match self {
            Self::Not(inside) => inside.visit(look),
            Self::And(operands) | Self::Or(operands) => operands.iter().for_each(|operand| operand.visit(look)),
            _ => {}
        }
    }

    fn rename(&mut self, change: &mut impl FnMut(&mut String)) {
        match self {
            Self::All | Self::Global => {}
            Self::Has(key)
            | Self::Equal(key, _)
            | Self::NotEqual(key, _)
            | Self::Contains(key, _)
            | Self::StartsWith(key, _)
            | Self::EndsWith(key, _)
            | Self::In(key, _)
            | Self::NotIn(key, _) => change(key),
            Self::Not(inside) => inside.rename(change),
            Self::And(operands) | Self::Or(operands) => operands.iter_mut().for_each(|operand| operand.rename(change)),
        }
    }
}
