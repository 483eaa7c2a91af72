//! Judgement: findings, the registry of checks, the calendar.
//!
//! ```text
//! Snapshot ─► Context (failsafe lists, integrity, judged flows) ─► checks ─► findings ─► Audit
//! ```

pub mod calendar;
pub mod check;
pub mod checks;
pub mod context;
pub mod dataplane;
pub mod finding;
pub mod flows;
pub mod idle;
pub mod judged;
pub mod lost;
pub mod registry;

use serde::Serialize;

use crate::calico::failsafe::kernel::KernelChain;
use crate::calico::failsafe::{Direction, FAMILIES, FailsafeReport};
use crate::calico::integrity::Integrity;
use crate::files::FileState;
use crate::snapshot::Snapshot;
use calendar::{Entry, calendar};
use check::Check;
use context::Context;
use dataplane::Dataplane;
use finding::{Finding, Severity};

/// An audit: what `hepguard audit` prints (schema `hepguard/audit/v1`).
#[derive(Clone, Debug, Serialize)]
pub struct Audit {
    /// `hepguard/audit/v1`.
    pub schema: &'static str,
    /// The host's name, when the snapshot tells.
    pub host: Option<String>,
    /// What was looked at.
    pub snapshot: Taken,
    /// Felix's machinery.
    pub dataplane: Dataplane,
    /// The failsafe lists of the kernel.
    pub failsafe: Lists,
    /// Felix's rules against their hashes.
    pub integrity: Integrity,
    /// Worst first.
    pub findings: Vec<Finding>,
    /// What lints say of Calico's policies in the snapshot, worst first, one entry a code; whoever has them linted fills it.
    pub policies: Vec<LintedPolicies>,
    /// Inputs that could not be read.
    pub unreadable: Vec<Unreadable>,
    /// Findings by when they bite.
    pub calendar: Vec<Entry>,
    /// Counts.
    pub summary: Summary,
}

/// When the snapshot was taken and what is in it.
#[derive(Clone, Debug, Serialize)]
pub struct Taken {
    /// RFC 3339, UTC; `null` when the snapshot does not tell.
    pub time: Option<String>,
    /// Files that were read.
    pub files: Vec<String>,
}

/// The failsafe lists as the kernel has them, both families together.
#[derive(Clone, Debug, Serialize)]
pub struct Lists {
    /// Inbound entries in Felix's spelling.
    #[serde(rename = "in")]
    pub inbound: Vec<String>,
    /// Outbound entries.
    #[serde(rename = "out")]
    pub outbound: Vec<String>,
    /// Where Felix's configuration was read.
    pub sources: Vec<String>,
}

/// Findings of one lint in the snapshot's policies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LintedPolicies {
    /// The lint's code.
    pub code: &'static str,
    /// Its name.
    pub name: &'static str,
    /// The worst of them.
    pub severity: Severity,
    /// How many.
    pub count: usize,
    /// What the first says.
    pub first: String,
    /// Where it is: `calico/policies.yaml:12`.
    pub at: String,
}

/// An input that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unreadable {
    /// Its name in the snapshot.
    pub input: String,
    /// Why.
    pub why: String,
}

/// How many findings of each severity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the names are the severities'")]
pub struct Summary {
    pub critical: usize,
    pub high: usize,
    pub medium: usize,
    pub low: usize,
    pub info: usize,
    /// Worst severity; `null` without findings.
    pub worst: Option<Severity>,
    /// Everything the audit needs was readable.
    pub complete: bool,
}

/// Audits a host.
#[must_use]
pub fn audit(snapshot: &Snapshot) -> Audit {
    let context = Context::new(snapshot);
    let findings = findings(&context);
    let unreadable = unreadable(&context);
    let summary = summary(&findings, unreadable.is_empty());
    let meta = &snapshot.meta;
    let files = snapshot.files.files.iter().filter(|(_, state)| matches!(state, FileState::Present(_)));
    Audit {
        schema: "hepguard/audit/v1",
        host: meta.host.clone().or_else(|| context.failsafe.host.clone()),
        snapshot: Taken { time: meta.time.clone(), files: files.map(|(name, _)| name.clone()).collect() },
        dataplane: Dataplane::of(&context),
        failsafe: lists(&context.failsafe),
        calendar: calendar(&findings),
        findings,
        policies: Vec::new(),
        unreadable,
        summary,
        integrity: context.integrity().clone(),
    }
}

/// Runs every check. Findings come worst first, then by code and subject: the order is the same on every run.
#[must_use]
pub fn findings(context: &Context<'_>) -> Vec<Finding> {
    findings_of(context, |_| true)
}

/// Runs the checks that are wanted, in the same order.
#[must_use]
pub fn findings_of(context: &Context<'_>, wanted: impl Fn(&Check) -> bool) -> Vec<Finding> {
    let checks = registry::CHECKS.iter().filter(|check| wanted(check));
    let mut findings: Vec<Finding> = checks.flat_map(|check| (check.run)(context, check)).collect();
    findings.sort_by(|a, b| {
        b.severity.cmp(&a.severity).then_with(|| a.code.cmp(b.code)).then_with(|| a.fingerprint.cmp(&b.fingerprint))
    });
    findings
}

fn summary(findings: &[Finding], complete: bool) -> Summary {
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    Summary {
        critical: count(Severity::Critical),
        high: count(Severity::High),
        medium: count(Severity::Medium),
        low: count(Severity::Low),
        info: count(Severity::Info),
        worst: findings.iter().map(|finding| finding.severity).max(),
        complete,
    }
}

/// Inputs that could not be read, wholly or in part, each once: its finding is HG901, or HG906 where listings disagree.
fn unreadable(context: &Context<'_>) -> Vec<Unreadable> {
    use crate::diagnostic::Level;
    let files = context.snapshot.files.files.iter().filter_map(|(name, state)| match state {
        FileState::Unreadable(why) => Some(Unreadable { input: name.clone(), why: why.clone() }),
        FileState::Present(_) => {
            let label = context.snapshot.files.label(name);
            let mut errors =
                context.snapshot.diagnostics.iter().filter(|d| d.level == Level::Error && *d.source == *label);
            let first = errors.next()?;
            Some(Unreadable { input: name.clone(), why: first.message.clone() })
        }
        FileState::Absent => None,
    });
    let tables = context.ruleset().tables.iter();
    let parts = tables.filter_map(|table| Some((table, table.disagreements().next()?)));
    let parts = parts
        .map(|(table, how)| Unreadable { input: table.source.to_string(), why: format!("{}: {how}", table.title()) });
    let mut all: Vec<Unreadable> = Vec::new();
    for unreadable in files.chain(parts) {
        if !all.iter().any(|known| known.input == unreadable.input) {
            all.push(unreadable);
        }
    }
    all
}

fn lists(failsafe: &FailsafeReport) -> Lists {
    let of = |direction: Direction| {
        let mut entries: Vec<String> = Vec::new();
        let report = failsafe.direction(direction);
        for entry in FAMILIES.iter().flat_map(|family| report.deciding(*family)).flat_map(KernelChain::list) {
            let text = entry.to_string();
            if !entries.contains(&text) {
                entries.push(text);
            }
        }
        entries
    };
    let sources = failsafe.source_files.iter().filter(|source| source.state == "read");
    Lists {
        inbound: of(Direction::In),
        outbound: of(Direction::Out),
        sources: sources.map(|source| source.file.clone()).collect(),
    }
}
