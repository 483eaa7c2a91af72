//! What a check is: a code, a page of prose, a function from what is known to findings.

use super::context::Context;
use super::finding::{Finding, Severity};

/// One check. Each lives in a file of its own below `checks/`; the file's `//!` text is its `explain` page, with the
/// headings *What it checks*, *Why it matters*, *How to fix* and *Limits*.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// Code for ever.
    pub code: &'static str,
    /// Name for people, kebab-case.
    pub name: &'static str,
    /// Usual severity; single findings may differ.
    pub severity: Severity,
    /// One line.
    pub summary: &'static str,
    /// The check's own source file, for its page.
    pub source: &'static str,
    /// Looks and reports.
    pub run: fn(&Context<'_>, &Check) -> Vec<Finding>,
}

impl Check {
    /// The page for people: the `//!` text of the check's file, as Markdown.
    pub fn page(&self) -> impl Iterator<Item = &'static str> {
        let source: &'static str = self.source;
        source
            .lines()
            .take_while(|line| line.starts_with("//!"))
            .map(|line| line.trim_start_matches("//!").strip_prefix(' ').unwrap_or(""))
    }
}
