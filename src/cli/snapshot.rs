//! `hepguard snapshot DIR`: everything an audit needs, as plain files.

use std::io::Write;

use serde_json::json;

use super::args::{Common, SnapshotArgs};
use super::exit::{CliError, Outcome};
use crate::collect;
use crate::diagnostic::printable;
use crate::files::{FileState, SnapshotFiles};
use crate::snapshot::meta::SCHEMA;
use crate::system::Real;

/// Runs the command.
///
/// # Errors
/// When the folder cannot be written, or holds something else.
pub fn run(common: &Common, args: &SnapshotArgs, out: &mut dyn Write) -> Result<Outcome, CliError> {
    if !["text", "json"].contains(&common.format.as_str()) {
        return Err(super::unknown_format(&common.format, &["text", "json"]));
    }
    if common.snapshot.is_some() {
        let message = "'hepguard snapshot' looks at the live host; copy an existing snapshot with cp -r";
        return Err(CliError::Usage(message.to_owned()));
    }
    let files = collect::live(&Real);
    collect::save(&files, &args.dir, args.force).map_err(|error| CliError::Input(error.to_string()))?;
    if common.format == "json" {
        let document = json!({
            "schema": SCHEMA,
            "dir": args.dir.to_string_lossy(),
            "files": files.files.iter().map(|(name, state)| describe(name, state)).collect::<Vec<_>>(),
        });
        writeln!(out, "{document}")?;
    } else {
        text(common, args, &files, out)?;
    }
    let incomplete = files.files.values().any(|state| matches!(state, FileState::Unreadable(_)));
    Ok(Outcome { incomplete, ..Outcome::CLEAN })
}

fn describe(name: &str, state: &FileState) -> serde_json::Value {
    match state {
        FileState::Present(bytes) => json!({ "name": name, "state": "present", "bytes": bytes.len() }),
        FileState::Absent => json!({ "name": name, "state": "absent" }),
        FileState::Unreadable(why) => json!({ "name": name, "state": "unreadable", "why": why }),
    }
}

fn text(common: &Common, args: &SnapshotArgs, files: &SnapshotFiles, out: &mut dyn Write) -> Result<(), CliError> {
    let count = |wanted: fn(&FileState) -> bool| files.files.values().filter(|state| wanted(state)).count();
    let present = count(|state| matches!(state, FileState::Present(_)));
    let absent = count(|state| matches!(state, FileState::Absent));
    let unreadable = count(|state| matches!(state, FileState::Unreadable(_)));
    let dir = printable(&args.dir.to_string_lossy());
    writeln!(out, "{dir}: {present} files saved, {absent} not on this host, {unreadable} unreadable")?;
    for (name, state) in &files.files {
        match state {
            FileState::Unreadable(why) => writeln!(out, "  unreadable  {}: {}", printable(name), printable(why))?,
            FileState::Present(bytes) if common.verbose => {
                writeln!(out, "  saved       {} ({} bytes)", printable(name), bytes.len())?;
            }
            FileState::Absent if common.verbose => writeln!(out, "  absent      {}", printable(name))?,
            _ => {}
        }
    }
    if !common.quiet {
        writeln!(out, "Judge it anywhere with: hepguard audit --snapshot {dir}")?;
    }
    Ok(())
}
