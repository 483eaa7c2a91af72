//! `hepguard audit`: check this host, or a snapshot of one.

use std::io::Write;

use super::args::{AuditArgs, Common};
use super::exit::{CliError, Outcome};
use crate::audit::{Audit, audit};
use crate::lint::{grouped, lint};
use crate::report;

/// Runs the command.
///
/// # Errors
/// When no snapshot can be had at all, or the format is unknown.
pub fn run(common: &Common, args: &AuditArgs, out: &mut dyn Write) -> Result<Outcome, CliError> {
    let snapshot = super::load::snapshot_with(common, &args.known)?;
    let mut audit = audit(&snapshot);
    if !snapshot.resources.is_empty() {
        audit.policies = grouped(&lint(&snapshot.resources, Vec::new(), &[]));
    }
    print(common, &audit, out)?;
    if common.verbose {
        for diagnostic in &snapshot.diagnostics {
            super::note(&diagnostic.to_string());
        }
    }
    Ok(outcome(common, &audit))
}

/// Writes the audit in the wanted format.
pub(super) fn print(common: &Common, audit: &Audit, out: &mut dyn Write) -> Result<(), CliError> {
    match common.format.as_str() {
        "text" => {
            let style = super::style(common);
            let text = if common.quiet {
                report::audit::brief(audit, style)
            } else {
                report::audit::text(audit, style, common.verbose)
            };
            out.write_all(text.as_bytes())?;
        }
        "json" => {
            serde_json::to_writer_pretty(&mut *out, audit).map_err(std::io::Error::from)?;
            writeln!(out)?;
        }
        "jsonl" => {
            for finding in &audit.findings {
                serde_json::to_writer(&mut *out, finding).map_err(std::io::Error::from)?;
                writeln!(out)?;
            }
        }
        other => return Err(super::unknown_format(other, &["text", "json", "jsonl"])),
    }
    Ok(())
}

/// The exit code: findings at or above `--fail-on`, else whether everything could be read and decided.
pub(super) fn outcome(common: &Common, audit: &Audit) -> Outcome {
    let worst = audit.findings.iter().map(|finding| finding.severity).max();
    Outcome {
        findings: worst.is_some_and(|worst| worst >= common.fail_on.severity()),
        incomplete: !audit.summary.complete
            || audit.findings.iter().any(|f| ["HG203", "HG903", "HG904", "HG905"].contains(&f.code)),
    }
}
