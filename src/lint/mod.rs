//! Checks Calico's policy files by themselves: no host, no cluster.
//!
//! ```text
//! Resources + problems of reading ─► Context (order, judge, classes of endpoints) ─► families of lints ─► Report
//! ```
//!
//! A family is a file: its lints with their pages, and one function that looks. A new lint is a `define!` and a line in
//! [`registry`].

mod context;
mod flows;
mod forwarding;
mod loopback;
mod matches;
mod rules;
mod reading;
pub mod registry;
mod selection;
mod settings;
mod staged;
#[cfg(test)]
mod tests;
mod tiers;

use std::collections::HashSet;

use serde::Serialize;
use serde_json::json;

use crate::audit::LintedPolicies;
use crate::audit::finding::{Bites, Finding, Severity};
use crate::calico::resources::{Resource, Resources};
use crate::calico::settings::Place;
use crate::logs::flowlog::Record;
use context::Context;

/// One lint: what it is called, and its page.
#[derive(Clone, Copy, Debug)]
pub struct Lint {
    /// Code for ever, `HG410`.
    pub code: &'static str,
    /// Name for people.
    pub name: &'static str,
    /// Usual severity.
    pub severity: Severity,
    /// One line.
    pub summary: &'static str,
    /// *What it checks*.
    pub what: &'static str,
    /// *Why it matters*.
    pub why: &'static str,
    /// *How to fix*.
    pub fix: &'static str,
    /// *Limits*.
    pub limits: &'static str,
}

impl Lint {
    /// Whether the text alone decides, and not what else may be in the cluster or on the host.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.limits == EXACT
    }

    /// When it is noticed once the files are applied: flows that are judged are those of new connections.
    #[must_use]
    pub fn bites(&self) -> Bites {
        if self.limits == JUDGED { Bites::Reconnect } else { Bites::Now }
    }

    /// The page for people, as Markdown.
    #[must_use]
    pub fn page(&self) -> Vec<String> {
        let mut lines = vec![format!("# {} {}", self.code, self.name)];
        let parts = [
            ("What it checks", self.what),
            ("Why it matters", self.why),
            ("How to fix", self.fix),
            ("Limits", self.limits),
        ];
        for (heading, text) in parts {
            lines.extend([String::new(), format!("## {heading}"), text.to_owned()]);
        }
        lines
    }
}

/// A lint with its page: code, name, severity, summary, then the four parts of the page.
macro_rules! define {
    ($id:ident, $code:literal, $name:literal, $severity:ident, $summary:literal,
     what: $what:literal, why: $why:literal, fix: $fix:literal, limits: $limits:expr) => {
        #[doc = $summary]
        pub(super) const $id: super::Lint = super::Lint {
            code: $code,
            name: $name,
            severity: crate::audit::finding::Severity::$severity,
            summary: $summary,
            what: $what,
            why: $why,
            fix: $fix,
            limits: $limits,
        };
    };
}
use define;

/// Limits of lints that look for something among the files.
const FILES_ONLY: &str = "Only the files given are known: what is in the cluster and not in them counts as absent. Give an export of the \
     whole policy set (tiers, host endpoints, network sets, profiles, policies) for a sure answer.";
/// Limits of lints that read one field.
const EXACT: &str =
    "None known: the field is read as Calico's API server and Felix read it, version differences aside.";
/// Limits of lints that judge flows.
const JUDGED: &str = "Judged from the files alone: traffic that other rules of the host stop, or accept before Felix, is not seen; \
     rules that ask for pods, services or domains count as if they let the flow through. `hepguard plan` looks at the host itself.";

/// A finding and where in the files it is.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Located {
    /// The finding; its fields stand beside the location.
    #[serde(flatten)]
    pub finding: Finding,
    /// Where.
    pub location: Location,
}

/// A place in a file.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
pub struct Location {
    /// The file.
    pub file: String,
    /// Line, 1-based; `null` for the whole file.
    pub line: Option<u32>,
    /// Column in characters, 1-based.
    pub column: Option<u32>,
    /// The resource: kind and name.
    pub resource: Option<String>,
    /// The field, `spec.egress[0].destination.ports`.
    pub field: Option<String>,
}

/// What was linted and what was found (schema `hepguard/lint/v1`).
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// `hepguard/lint/v1`.
    pub schema: &'static str,
    /// The files.
    pub files: Vec<FileRead>,
    /// Worst first.
    pub findings: Vec<Located>,
    /// Counts.
    pub summary: Summary,
}

/// One file that was read.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct FileRead {
    /// Its path; `-` for standard input.
    pub path: String,
    /// Resources found in it.
    pub resources: usize,
}

/// Counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[expect(missing_docs, reason = "the names are the severities'")]
pub struct Summary {
    pub critical: usize,
    pub high: usize,
    pub medium: usize,
    pub low: usize,
    pub info: usize,
    /// Resources in all files.
    pub resources: usize,
    /// Policies that could select hosts, staged ones included.
    pub policies: usize,
    /// Host endpoints, automatic ones included.
    pub endpoints: usize,
    /// Flow logs compared with staged policies.
    pub flows: usize,
    /// Every document could be read.
    pub complete: bool,
}

/// Lints a set of resources; `flows` are observed flows, for staged policies.
#[must_use]
pub fn lint(resources: &Resources, files: Vec<FileRead>, flows: &[Record]) -> Report {
    let model = context::model(resources);
    let context = Context::new(resources, &model);
    let mut found = Findings::default();
    reading::look(&context, &mut found);
    selection::look(&context, &mut found);
    tiers::look(&context, &mut found);
    loopback::look(&context, &mut found);
    flows::look(&context, &mut found);
    rules::look(&context, &mut found);
    matches::look(&context, &mut found);
    forwarding::look(&context, &mut found);
    settings::look(&context, &mut found);
    staged::look(&context, flows, &mut found);
    let findings = found.finish();
    let count = |severity| findings.iter().filter(|found| found.finding.severity == severity).count();
    let unread = [reading::NOT_YAML.code, reading::NOT_A_RESOURCE.code];
    let summary = Summary {
        critical: count(Severity::Critical),
        high: count(Severity::High),
        medium: count(Severity::Medium),
        low: count(Severity::Low),
        info: count(Severity::Info),
        resources: resources.len(),
        policies: model.policies.len(),
        endpoints: model.endpoints.len(),
        flows: flows.len(),
        complete: !findings.iter().any(|found| unread.contains(&found.finding.code)),
    };
    Report { schema: "hepguard/lint/v1", files, findings, summary }
}

/// Findings of medium severity and above, one entry a code, worst first.
#[must_use]
pub fn grouped(report: &Report) -> Vec<LintedPolicies> {
    let mut groups: Vec<LintedPolicies> = Vec::new();
    for Located { finding, location } in &report.findings {
        if finding.severity < Severity::Medium {
            continue;
        }
        if let Some(group) = groups.iter_mut().find(|group| group.code == finding.code) {
            group.count += 1;
            continue;
        }
        let line = location.line.map(|line| format!(":{line}")).unwrap_or_default();
        groups.push(LintedPolicies {
            code: finding.code,
            name: finding.name,
            severity: finding.severity,
            count: 1,
            first: finding.title.clone(),
            at: format!("{}{line}", location.file),
        });
    }
    groups
}

/// Where a finding is, while it is made.
#[derive(Clone, Copy)]
struct At<'a> {
    place: &'a Place,
    column: u32,
    resource: &'a str,
    field: &'a str,
}

impl<'a> At<'a> {
    /// A resource as a whole; `title` is its title.
    fn resource(resource: &'a Resource, title: &'a str) -> Self {
        Self { place: &resource.meta.place, column: 0, resource: title, field: "" }
    }
}

/// Collects findings.
#[derive(Default)]
struct Findings {
    found: Vec<Located>,
    /// Fingerprint and location of each.
    known: HashSet<(String, Location)>,
}

impl Findings {
    /// Adds one; `title` says what is wrong, `fix` what to do.
    fn add(&mut self, lint: &Lint, at: At<'_>, title: impl Into<String>, fix: impl Into<String>) {
        self.add_as(lint, lint.severity, at, title, fix);
    }

    /// Adds one of another severity than usual.
    fn add_as(
        &mut self,
        lint: &Lint,
        severity: Severity,
        at: At<'_>,
        title: impl Into<String>,
        fix: impl Into<String>,
    ) {
        let title = title.into();
        let subject = json!({"resource": at.resource, "field": at.field, "title": title});
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let what = [at.resource, at.field].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
        let mut finding = Finding::coded(lint.code, lint.name, severity, subject, title)
            .evidence(at.place.to_string(), what)
            .fix(fix)
            .bites(lint.bites());
        if !lint.is_exact() {
            finding = finding.bounded();
        }
        let location = Location {
            file: at.place.file.to_string(),
            line: Some(at.place.line).filter(|line| *line > 0),
            column: Some(at.column).filter(|column| *column > 0),
            resource: some(at.resource),
            field: some(at.field),
        };
        if self.known.insert((finding.fingerprint.clone(), location.clone())) {
            self.found.push(Located { finding, location });
        }
    }

    /// Worst first, then by place.
    fn finish(mut self) -> Vec<Located> {
        self.found.sort_by(|a, b| {
            b.finding
                .severity
                .cmp(&a.finding.severity)
                .then_with(|| a.location.cmp(&b.location))
                .then_with(|| a.finding.code.cmp(b.finding.code))
        });
        self.found
    }
}
