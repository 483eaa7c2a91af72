//! `hepguard lint FILE...`: checks Calico policy files by themselves.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::args::{Common, LintArgs};
use super::exit::{CliError, Outcome};
use super::log_reader::{clock, now};
use crate::calico::resources::{MAX_BYTES, Resources};
use crate::lint::registry::LINTS;
use crate::lint::{FileRead, lint};
use crate::logs::flowlog::Record;
use crate::logs::line::{Scratch, What, read};
use crate::logs::time::Stamper;
use crate::report::lint as report;

const FORMATS: [&str; 4] = ["text", "json", "sarif", "markdown"];
/// Deepest folder below one that is given.
const MAX_DEPTH: usize = 16;
/// Most files of one run.
const MAX_FILES: usize = 20_000;
/// Most flow logs that are compared with staged policies.
const MAX_FLOWS: usize = 1_000_000;
/// Longest line of a flow log, in bytes.
const MAX_LINE: u64 = 1 << 20;

/// Runs the command.
///
/// # Errors
/// Unknown format, nothing that can be read, or the answer cannot be written.
pub fn run(common: &Common, args: &LintArgs, out: &mut dyn Write) -> Result<Outcome, CliError> {
    if !FORMATS.contains(&common.format.as_str()) {
        return Err(super::unknown_format(&common.format, &FORMATS));
    }
    let mut incomplete = false;
    let mut note = |text: String| {
        incomplete = true;
        super::note(&text);
    };
    let mut resources = Resources::default();
    let mut files = Vec::new();
    for path in listed(&args.files, &mut note) {
        let name = path.display().to_string();
        match bytes(&path) {
            Ok(bytes) => {
                let before = resources.len();
                resources.read(&Arc::from(name.as_str()), &bytes);
                files.push(FileRead { path: name, resources: resources.len() - before });
            }
            Err(error) => note(format!("{name}: {error}")),
        }
    }
    if files.is_empty() {
        return Err(CliError::Input(
            "no policy file could be read: name files, folders, or - for standard input".into(),
        ));
    }
    let mut flows = Vec::new();
    for path in &args.flow_logs {
        if let Err(error) = flow_logs(path, &mut flows) {
            note(format!("{}: {error}", path.display()));
        }
    }
    let told = lint(&resources, files, &flows);
    match common.format.as_str() {
        "json" => {
            serde_json::to_writer_pretty(&mut *out, &told).map_err(io::Error::from)?;
            writeln!(out)?;
        }
        "sarif" => {
            serde_json::to_writer_pretty(&mut *out, &report::sarif(&told, &LINTS)).map_err(io::Error::from)?;
            writeln!(out)?;
        }
        "markdown" => out.write_all(report::markdown(&told).as_bytes())?,
        _ => out.write_all(report::text(&told, super::style(common), common.verbose).as_bytes())?,
    }
    let worst = told.findings.first().map(|found| found.finding.severity);
    let findings = worst.is_some_and(|worst| worst >= common.fail_on.severity());
    Ok(Outcome { findings, incomplete: incomplete || !told.summary.complete })
}

/// The files to read, in order: those given, and all YAML and JSON files below folders that are given.
pub(super) fn listed(given: &[PathBuf], note: &mut dyn FnMut(String)) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for path in given {
        if path.as_os_str() != "-" && path.is_dir() {
            let before = files.len();
            below(path, 0, &mut files, note);
            if files.len() == before {
                note(format!("{}: no file that ends in .yaml, .yml or .json is in this folder", path.display()));
            }
        } else {
            files.push(path.clone());
        }
    }
    if files.len() > MAX_FILES {
        note(format!("{} files were found, the first {MAX_FILES} are read", files.len()));
        files.truncate(MAX_FILES);
    }
    files
}

/// Links to folders are not followed: they may lead in circles.
fn below(folder: &Path, depth: usize, files: &mut Vec<PathBuf>, note: &mut dyn FnMut(String)) {
    if depth > MAX_DEPTH || files.len() > MAX_FILES {
        note(format!("{}: not read, folders nest deeper than {MAX_DEPTH}", folder.display()));
        return;
    }
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            note(format!("{}: {error}", folder.display()));
            return;
        }
    };
    let mut entries: Vec<fs::DirEntry> = entries.flatten().collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path();
        let known = path.extension().is_some_and(|end| ["yaml", "yml", "json"].iter().any(|known| end == *known));
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => below(&path, depth + 1, files, note),
            Ok(_) if known && path.is_file() => files.push(path),
            _ => {}
        }
    }
}

pub(super) fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let most = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    if path.as_os_str() == "-" {
        io::stdin().lock().take(most).read_to_end(&mut bytes)?;
    } else {
        let file = fs::File::open(path)?;
        // a pipe is fine (`<(kubectl get …)`), a folder or device is not
        if file.metadata()?.is_dir() {
            return Err(io::Error::other("is a folder"));
        }
        file.take(most).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// Adds the flow logs of a file: one JSON object a line.
fn flow_logs(path: &Path, flows: &mut Vec<Record>) -> io::Result<()> {
    let mut reader: Box<dyn io::BufRead> = if path.as_os_str() == "-" {
        Box::new(io::BufReader::new(io::stdin()))
    } else {
        Box::new(io::BufReader::new(fs::File::open(path)?))
    };
    let before = flows.len();
    let mut stamper = Stamper::new(clock(now()));
    let mut scratch = Scratch::default();
    let mut line = Vec::new();
    let mut lines = 0_u64;
    loop {
        line.clear();
        let taken = io::BufRead::read_until(&mut (&mut reader).take(MAX_LINE), b'\n', &mut line)?;
        if taken == 0 {
            break;
        }
        lines += 1;
        if let What::FlowLog(record) = read(line.trim_ascii_end(), &mut scratch, &mut stamper).what {
            flows.push(*record);
        }
        if flows.len() >= MAX_FLOWS {
            return Err(io::Error::other(format!("the first {MAX_FLOWS} flow logs are compared, there are more")));
        }
    }
    if flows.len() == before {
        return Err(io::Error::other(format!("no flow log in {lines} line(s), expected one JSON object a line")));
    }
    Ok(())
}
