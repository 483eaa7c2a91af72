//! `hepguard flows`: the inventory of flows that must work, judged in every world.

use std::io::Write;
use std::sync::Arc;

use super::args::{Common, FlowsArgs};
use super::exit::{CliError, Outcome};
use crate::analysis::flows::export;
use crate::audit::flows::report;
use crate::{config, report as words};

/// Runs the command.
///
/// # Errors
/// Nothing to read, an unknown format, a configuration that cannot be used, a file that cannot be written.
pub fn run(common: &Common, args: &FlowsArgs, out: &mut dyn Write) -> Result<Outcome, CliError> {
    if !["text", "json"].contains(&common.format.as_str()) {
        return Err(super::unknown_format(&common.format, &["text", "json"]));
    }
    let mut snapshot = super::load::snapshot(common)?;
    for path in &args.import {
        snapshot.protect.extend(super::load::config(path)?.protect);
    }
    let report = report(&snapshot);
    if let Some(path) = &args.export {
        let text = config::write(&export(&report.inventory));
        // what is written must be what is read
        let read = config::read(&Arc::from("the export"), text.as_bytes());
        read.map_err(|error| CliError::Input(format!("the flows cannot be written as a configuration: {error}")))?;
        super::load::create(path, text.as_bytes())?;
        super::note(&format!("{}: written; read it with --import or --config", path.display()));
    }
    if common.format == "json" {
        serde_json::to_writer_pretty(&mut *out, &report).map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else {
        let style = super::style(common);
        let text = if common.quiet {
            words::flows::brief(&report, style)
        } else {
            words::flows::text(&report, style, common.verbose)
        };
        out.write_all(text.as_bytes())?;
    }
    let least = common.fail_on.severity();
    Ok(Outcome {
        findings: report.flows.iter().filter_map(|flow| flow.severity).any(|severity| severity >= least),
        incomplete: report.summary.unknown > 0 || !report.unresolved.is_empty() || report.left_out > 0,
    })
}
