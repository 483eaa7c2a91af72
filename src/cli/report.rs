//! `hepguard report`: one page about this host, or a snapshot of one.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::args::{BarWidth, Common, DeniesArgs, ReportArgs};
use super::exit::{CliError, Outcome};
use super::{audit as audit_command, denies, log_reader};
use crate::analysis::flows::FlowKind;
use crate::analysis::trace::{Engine, TraceOptions, blind_spots};
use crate::audit::audit;
use crate::audit::flows::{FlowsReport, JudgedFlow, report as judge_flows};
use crate::calico::failsafe;
use crate::lint::{grouped, lint};
use crate::logs::time::rfc3339;
use crate::packet::text::from_json;
use crate::report::denies::Answer;
use crate::report::html::{Page, Walk, page};
use crate::snapshot::Snapshot;

/// Flows whose first packet is followed rule by rule.
const MOST_WALKS: usize = 6;

/// Runs the command.
///
/// # Errors
/// Nothing to judge, no log of those named can be read, a format, a file that cannot be written.
pub fn run(common: &Common, args: &ReportArgs, out: &mut dyn Write) -> Result<Outcome, CliError> {
    if !["text", "html"].contains(&common.format.as_str()) {
        return Err(super::unknown_format(&common.format, &["html"]));
    }
    let snapshot = super::load::snapshot_with(common, &args.known)?;
    let denies = logs(common, args)?;
    let mut audit = audit(&snapshot);
    if !snapshot.resources.is_empty() {
        audit.policies = grouped(&lint(&snapshot.resources, Vec::new(), &[]));
    }
    let failsafe = failsafe::compare(&snapshot.files, &snapshot.ruleset, &snapshot.host);
    let flows = judge_flows(&snapshot);
    let judged = common.snapshot.as_ref().map_or_else(|| "this host".to_owned(), |path| path.display().to_string());
    let text = page(&Page {
        version: env!("CARGO_PKG_VERSION"),
        made: &rfc3339(log_reader::now().saturating_mul(1_000_000)).unwrap_or_default(),
        judged: &judged,
        audit: &audit,
        failsafe: &failsafe,
        flows: &flows,
        denies: denies.as_ref(),
        walks: &walks(&snapshot, &flows),
        meanings: &snapshot.meanings(),
    });
    if args.output == Path::new("-") {
        out.write_all(text.as_bytes())?;
    } else {
        write(&args.output, text.as_bytes())?;
        if !common.quiet {
            super::note(&format!("{}: written; open it in a browser", args.output.display()));
        }
    }
    let of_audit = audit_command::outcome(common, &audit);
    let least = common.fail_on.severity();
    let unread = !failsafe.incomplete.is_empty()
        || flows.summary.unknown > 0
        || !flows.unresolved.is_empty()
        || flows.left_out > 0
        || denies.is_some_and(|denies| !denies.unreadable.is_empty() || denies.given_up > 0);
    Ok(Outcome {
        findings: of_audit.findings
            || flows.flows.iter().filter_map(|flow| flow.severity).any(|severity| severity >= least),
        incomplete: of_audit.incomplete || unread,
    })
}

/// What the logs tell that are named, or the log of this host.
fn logs(common: &Common, args: &ReportArgs) -> Result<Option<Answer>, CliError> {
    let mut files = args.files.clone();
    if files.is_empty() && common.snapshot.is_none() {
        files.extend(denies::DEFAULT_FILES.into_iter().map(PathBuf::from).find(|path| path.exists()));
    }
    if files.is_empty() {
        return Ok(None);
    }
    let histogram = Some(BarWidth(None));
    let args = DeniesArgs { files, histogram, known: args.known.clone(), ..DeniesArgs::default() };
    // one document has all groups: the page sums over them
    let common = Common { format: "json".to_owned(), ..common.clone() };
    denies::summary(&common, &args).map(Some)
}

/// The first packets of the flows that matter most: those that bite, then the way in.
fn walks(snapshot: &Snapshot, flows: &FlowsReport) -> Vec<Walk> {
    let mut chosen: Vec<&JudgedFlow> = flows.flows.iter().collect();
    chosen.sort_by_key(|flow| {
        let rank = match flow.kind {
            FlowKind::Caller | FlowKind::SshIn => 0,
            FlowKind::Failsafe => 2,
            _ => 1,
        };
        (std::cmp::Reverse(flow.severity), rank)
    });
    let engine = Engine::new(&snapshot.ruleset, &snapshot.host);
    let options = TraceOptions { record: true, ..TraceOptions::default() };
    let mut walks: Vec<Walk> = Vec::new();
    for flow in chosen {
        let text = flow.witness.to_string();
        let Ok(asked) = from_json(text.as_bytes()) else { continue };
        if walks.iter().any(|walk| walk.packet == asked.packet) {
            continue;
        }
        let spots = blind_spots(snapshot, asked.packet.family());
        let trace = engine.trace(&asked.packet, &options).blinded(&spots);
        walks.push(Walk { name: flow.name.clone(), packet: asked.packet, trace });
        if walks.len() == MOST_WALKS {
            break;
        }
    }
    walks
}

/// Writes the page whole or not at all, for its owner alone.
fn write(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    let cannot = |error: std::io::Error| {
        CliError::Input(format!("cannot write {}: {error}; name a file in a folder you may write", path.display()))
    };
    // a pipe or a device is written as it is
    if path.metadata().is_ok_and(|data| !data.is_file()) {
        return std::fs::write(path, bytes).map_err(cannot);
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let part = PathBuf::from(name);
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part);
    let written = file.and_then(|mut file| file.write_all(bytes)).and_then(|()| std::fs::rename(&part, path));
    written.map_err(|error| {
        let _ = std::fs::remove_file(&part);
        cannot(error)
    })
}
