//! # HG233 job-flushes-connections
//!
//! ## What it checks
//! Lines of cron tables, cron scripts and local systemd units that empty the kernel's connection table: `firewall-cmd
//! --complete-reload`, `conntrack -F`, `conntrack -D` without a filter.
//!
//! ## Why it matters
//! Every session then has to be admitted anew. Where rules admit its packets only because the connection is known, the job cuts
//! it, SSH sessions and Felix's connection to its datastore among them, at a time when nobody is watching (cause F15).
//!
//! ## How to fix
//! `firewall-cmd --reload` keeps connections; `conntrack -D` with `-s`, `-d` or `-p` deletes what is meant. Allow flows in policy
//! that must live through it.
//!
//! ## Limits
//! Jobs are found by their words, not run. Scripts that a job calls are not looked into.

use serde_json::json;

use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Bites, Finding, Severity};
use crate::audit::judged::Reason;

/// The check.
pub const CHECK: Check = Check {
    code: "HG233",
    name: "job-flushes-connections",
    severity: Severity::Low,
    summary: "a job empties the connection table: sessions that rules do not admit anew are cut",
    source: include_str!("connections_flushed.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let files = &context.snapshot.files;
    let is_job = |name: &str| name.starts_with("etc/cron") || name.starts_with("etc/systemd/system/");
    let mut findings = Vec::new();
    for (name, bytes) in files.below("etc/").filter(|(name, _)| is_job(name)) {
        let text = String::from_utf8_lossy(bytes).into_owned();
        for (line, number) in text.lines().zip(1..).filter(|(line, _)| empties(line)) {
            let place = format!("{}:{number}", files.label(name));
            let title = format!("{place} empties the kernel's connection table");
            let mut finding = Finding::new(check, json!({ "place": place }), title)
                .bites(Bites::Reconnect)
                .evidence(place, line.trim());
            // what is known to die with it
            let cut = context.judged.iter().filter(|judged| judged.is_refused() && judged.established == Some(true));
            for judged in cut.take(3) {
                if let Reason::Flow(flow) = &judged.reason {
                    finding = finding.severity(Severity::High).evidence(&flow.source, &flow.evidence);
                }
            }
            findings.push(finding.fix(
                "use `firewall-cmd --reload`, or `conntrack -D` with a filter, in that job; editing it is safe over SSH",
            ));
        }
    }
    findings
}

/// Whether a line of a job empties the table.
fn empties(line: &str) -> bool {
    let line = line.trim();
    if line.starts_with('#') {
        return false;
    }
    let words: Vec<&str> = line.split(|c: char| c.is_whitespace() || matches!(c, ';' | '&' | '|' | '=')).collect();
    let runs = |program: &str| words.iter().any(|word| word.rsplit('/').next() == Some(program));
    let has = |options: &[&str]| words.iter().any(|word| options.contains(word));
    let filtered =
        words.iter().any(|word| word.starts_with('-') && !["-D", "--delete", "-f"].contains(word) && word.len() > 1);
    runs("firewall-cmd") && has(&["--complete-reload"])
        || runs("conntrack") && (has(&["-F", "--flush"]) || has(&["-D", "--delete"]) && !filtered)
}
