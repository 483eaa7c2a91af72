//! `hepguard plan`: dry-run a change, and say what it cuts.

use std::io::{Read, Write};
use std::path::Path;

use super::args::{Common, FelixAction, PlanArgs};
use super::exit::{CliError, Outcome};
use crate::audit::finding::Severity;
use crate::plan::change::Setting;
use crate::plan::{Plan, Rehearsal, Verdict, plan};
use crate::report;
use crate::snapshot::{self, Snapshot};

/// Largest file of a change: 64 MiB.
const MAX_FILE: u64 = 64 * 1024 * 1024;

/// Runs the command.
///
/// # Errors
/// When the change cannot be made at all, no snapshot can be had, or the format is unknown.
pub fn run(common: &Common, args: &PlanArgs, out: &mut dyn Write) -> Result<Outcome, CliError> {
    if !FORMATS.contains(&common.format.as_str()) {
        return Err(super::unknown_format(&common.format, &FORMATS));
    }
    let settings = settings(args)?;
    if settings.is_empty() && args.felix.is_none() {
        return Err(CliError::Usage(
            "no change was given; expected for example --felix-env FILE, --set NAME=VALUE or --felix restart (see --help)".to_owned(),
        ));
    }
    let before = super::load::snapshot(common)?;
    let rehearsal = rehearse(&before, &settings, args)?;
    let plan = plan(&before, &rehearsal);
    print(common, &plan, out)?;
    Ok(outcome(common, &plan))
}

const FORMATS: [&str; 5] = ["text", "json", "sarif", "markdown", "junit"];

/// Makes the change on a copy.
fn rehearse(before: &Snapshot, settings: &[Setting], args: &PlanArgs) -> Result<Rehearsal, CliError> {
    let mut rehearsal = Rehearsal { after: before.clone(), ..Rehearsal::default() };
    let mut files = before.files.clone();
    for setting in settings {
        setting.apply(&mut files).map_err(CliError::Input)?;
        rehearsal.parts.push(setting.describe());
        rehearsal.restarts_felix = true;
    }
    match args.felix {
        Some(FelixAction::Restart) => {
            rehearsal.parts.push("Felix restarts".to_owned());
            rehearsal.restarts_felix = true;
        }
        Some(FelixAction::Stop) => {
            rehearsal.parts.push("Felix stops".to_owned());
            rehearsal.restarts_felix = false;
            rehearsal.notes.push(
                "Felix leaves its rules in the kernel when it stops: they decide as before, but changes of policy and of IP \
                 sets' members reach them no more"
                    .to_owned(),
            );
        }
        None => {}
    }
    if files != before.files {
        rehearsal.after = Snapshot { protect: before.protect.clone(), ..snapshot::read(files) };
    }
    Ok(rehearsal)
}

fn settings(args: &PlanArgs) -> Result<Vec<Setting>, CliError> {
    let mut all = Vec::new();
    for path in &args.felix_env {
        all.push(Setting::Environment { label: path.display().to_string(), text: content(path)? });
    }
    for path in &args.felix_cfg {
        all.push(Setting::Config { label: path.display().to_string(), text: content(path)? });
    }
    for text in &args.set {
        let (name, value) = text.split_once('=').ok_or_else(|| {
            CliError::Usage(format!("--set {text:?}: expected NAME=VALUE, such as FailsafeInboundHostPorts=tcp:22"))
        })?;
        all.push(Setting::Parameter { name: name.trim().to_owned(), value: value.to_owned() });
    }
    Ok(all)
}

/// A file of the change; `-` is standard input.
fn content(path: &Path) -> Result<Vec<u8>, CliError> {
    let cannot = |why: &dyn std::fmt::Display| CliError::Input(format!("cannot read {}: {why}", path.display()));
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(MAX_FILE + 1).read_to_end(&mut bytes)
    } else {
        let file = std::fs::File::open(path).map_err(|error| cannot(&error))?;
        file.take(MAX_FILE + 1).read_to_end(&mut bytes)
    };
    read.map_err(|error| cannot(&error))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(cannot(&"it is larger than 64 MiB; give the part that changes"));
    }
    Ok(bytes)
}

/// Writes the plan in the wanted format.
pub(super) fn print(common: &Common, plan: &Plan, out: &mut dyn Write) -> Result<(), CliError> {
    match common.format.as_str() {
        "text" => {
            let style = super::style(common);
            let text = if common.quiet {
                report::plan::brief(plan, style)
            } else {
                report::plan::text(plan, style, common.verbose)
            };
            out.write_all(text.as_bytes())?;
        }
        "json" => {
            serde_json::to_writer_pretty(&mut *out, plan).map_err(std::io::Error::from)?;
            writeln!(out)?;
        }
        "sarif" => {
            let document = report::sarif::document(&plan.findings);
            serde_json::to_writer_pretty(&mut *out, &document).map_err(std::io::Error::from)?;
            writeln!(out)?;
        }
        "markdown" => out.write_all(report::plan::markdown(plan).as_bytes())?,
        "junit" => out.write_all(report::plan::junit(plan).as_bytes())?,
        other => return Err(super::unknown_format(other, &FORMATS)),
    }
    Ok(())
}

/// 1: do not apply. A risk counts from `--fail-on` on; a lockout always.
fn outcome(common: &Common, plan: &Plan) -> Outcome {
    let worst = plan.findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Info);
    Outcome {
        findings: plan.verdict == Verdict::Lockout
            || (plan.verdict == Verdict::Risky && worst >= common.fail_on.severity().min(Severity::Medium)),
        incomplete: plan.verdict == Verdict::Unknown || !plan.limits.is_empty(),
    }
}
