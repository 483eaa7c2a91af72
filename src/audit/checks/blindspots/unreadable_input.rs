//! # HG901 unreadable-input
//!
//! ## What it checks
//! Inputs that could not be read, or only in part: a tool failed, a file is not readable, a listing is cut off or damaged.
//!
//! ## Why it matters
//! "No findings" about something nobody could look at is not good news. A firewall listing that fails halfway looks exactly
//! like an empty firewall.
//!
//! ## How to fix
//! The evidence says what failed. Run as root (or with the capabilities named in the README), install the missing tool, or
//! take the snapshot again. A damaged table (`… is incompatible, use 'nft' tool`) is listed by `nft -j list ruleset`.
//!
//! ## Limits
//! Inputs nobody looked for (a hand-made snapshot of few files) are not listed here unless another answer needs them.

use serde_json::json;

use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Finding, Severity};
use crate::diagnostic::{Diagnostic, Level};
use crate::snapshot::FileState;

/// The check.
pub const CHECK: Check = Check {
    code: "HG901",
    name: "unreadable-input",
    severity: Severity::Medium,
    summary: "something the audit needs could not be read, or only in part",
    source: include_str!("unreadable_input.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, state) in &context.snapshot.files.files {
        let mut remarks: Vec<&Diagnostic> = Vec::new();
        if matches!(state, FileState::Present(_)) {
            let of_file = |d: &&Diagnostic| d.level == Level::Error && *d.source == *context.snapshot.files.label(name);
            remarks.extend(context.snapshot.diagnostics.iter().filter(of_file));
            if remarks.is_empty() {
                continue;
            }
        }
        let title = match state {
            FileState::Absent => continue,
            FileState::Present(_) => format!("{name} was read only in part"),
            FileState::Unreadable(_) => format!("{name} could not be read"),
        };
        let mut finding = Finding::new(check, json!({ "input": name }), title);
        if let FileState::Unreadable(why) = state {
            finding = finding.evidence(name, why);
        }
        for remark in remarks.iter().take(5) {
            let place =
                if remark.line > 0 { format!("{name}:{}:{}", remark.line, remark.column) } else { name.clone() };
            finding = finding.evidence(place, &*remark.message);
        }
        if is_minor(name) {
            finding = finding.severity(Severity::Low);
        }
        findings.push(
            finding
                .fix("repair the cause above and run the audit again; what rests on this input is unknown until then"),
        );
    }
    findings
}

/// Inputs that only add detail.
fn is_minor(name: &str) -> bool {
    ["conntrack.txt", "sysctl.txt", "bpf.json", "tc.txt", "resolv.conf", "meta.json", "nft-ruleset.txt"].contains(&name)
        || name.starts_with("persisted/")
        || name.starts_with("leases/")
}
