//! The calendar: findings by when they bite.

use serde::Serialize;

use super::finding::{Bites, Finding, Severity};

/// One line of the calendar.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// When.
    pub bites: Bites,
    /// Clock time, RFC 3339, when known: the earliest of its findings.
    pub at: Option<String>,
    /// Worst severity among its findings.
    pub severity: Severity,
    /// Codes of its findings, worst first, each once.
    pub codes: Vec<&'static str>,
    /// How many findings.
    pub findings: usize,
}

/// Findings by when they bite, soonest first. Findings of severity `info` are left out.
#[must_use]
pub fn calendar(findings: &[Finding]) -> Vec<Entry> {
    let mut entries = Vec::new();
    for bites in Bites::ALL {
        let mut then: Vec<&Finding> =
            findings.iter().filter(|f| f.bites == bites && f.severity > Severity::Info).collect();
        then.sort_by(|a, b| b.severity.cmp(&a.severity).then(a.code.cmp(b.code)));
        let Some(worst) = then.first() else { continue };
        let mut codes: Vec<&'static str> = Vec::new();
        for finding in &then {
            if !codes.contains(&finding.code) {
                codes.push(finding.code);
            }
        }
        let at = then.iter().filter_map(|finding| finding.bites_at.clone()).min();
        entries.push(Entry { bites, at, severity: worst.severity, codes, findings: then.len() });
    }
    entries
}
