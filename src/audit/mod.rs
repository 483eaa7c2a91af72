//! Judgement: findings, the registry of checks, the calendar.

pub mod calendar;
pub mod check;
pub mod checks;
pub mod context;
pub mod finding;
pub mod registry;

use context::Context;
use finding::Finding;

/// Runs every check. Findings come worst first, then by code and subject: the order is the same on every run.
#[must_use]
pub fn findings(context: &Context<'_>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = registry::CHECKS.iter().flat_map(|check| (check.run)(context, check)).collect();
    findings.sort_by(|a, b| {
        b.severity.cmp(&a.severity).then_with(|| a.code.cmp(b.code)).then_with(|| a.fingerprint.cmp(&b.fingerprint))
    });
    findings
}
