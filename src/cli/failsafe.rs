//! `hepguard failsafe`: the failsafe lists four ways.

use std::io::Write;

use crate::audit::finding::Severity;
use crate::calico::failsafe;
use crate::cli::args::{Common, FailsafeArgs};
use crate::cli::exit::{CliError, Outcome};
use crate::cli::load;
use crate::report;

/// Compares the failsafe lists and writes the answer.
///
/// # Errors
/// Unknown format, nothing to read, or a failing writer.
pub fn run(common: &Common, _args: &FailsafeArgs, out: &mut dyn Write) -> Result<Outcome, CliError> {
    let format = match common.format.as_str() {
        format @ ("text" | "json") => format,
        other => return Err(super::unknown_format(other, &["text", "json"])),
    };
    let snapshot = load::snapshot(common)?;
    let report = failsafe::compare(&snapshot.files, &snapshot.ruleset, &snapshot.host);
    if format == "json" {
        serde_json::to_writer_pretty(&mut *out, &report).map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else {
        out.write_all(report::failsafe::text(&report, super::style(common), common.quiet).as_bytes())?;
    }
    let least = common.fail_on.severity();
    Ok(Outcome {
        findings: report.problems.iter().any(|problem| Severity::from(problem.severity) >= least),
        incomplete: !report.incomplete.is_empty(),
    })
}
