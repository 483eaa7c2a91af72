//! `hepguard denies [FILE...]`: who was denied what, by which policy.
//!
//! Denies that are found are data, not findings: the exit code is 0 when everything was read, 3 when part of it was not
//! (a file missing or cut, too many groups for memory), 2 when no file could be read at all.

use std::io::{self, Write};
use std::path::PathBuf;

use super::args::{Common, DeniesArgs};
use super::exit::{CliError, Outcome};
use super::log_reader::{FileResult, Log, clock, now, scan, scan_in_order};
use crate::calico::settings::{Loaded, Settings, envfile, ini};
use crate::diagnostic::printable;
use crate::logs::event::Event;
use crate::logs::moment;
use crate::logs::query::{Failsafes, Field, Filter};
use crate::logs::tally::{Origin, Query, Sink, Tally};
use crate::report::denies::{Answer, FileLine, Row, Unreadable, csv, event_line, text};

const FORMATS: [&str; 4] = ["text", "json", "csv", "jsonl"];
/// Groups shown as text when nothing is said.
const TOP: usize = 20;
const DEFAULT_FILES: [&str; 2] = ["/var/log/syslog", "/var/log/messages"];

/// Runs the command.
///
/// # Errors
/// Unknown format or time, no readable log at all, or the answer cannot be written.
pub fn run(common: &Common, args: &DeniesArgs, out: &mut dyn Write) -> Result<Outcome, CliError> {
    if !FORMATS.contains(&common.format.as_str()) {
        return Err(super::unknown_format(&common.format, &FORMATS));
    }
    let query = query(common, args)?;
    let paths = paths(args)?;
    let (logs, mut unreadable) = open(&paths);
    if logs.iter().all(Option::is_none) {
        let reasons: Vec<String> = unreadable.iter().map(|file| format!("{}: {}", file.path, file.error)).collect();
        return Err(CliError::Input(format!("no log could be read: {}", reasons.join("; "))));
    }
    let answer = if common.format == "jsonl" {
        let mut lines = EventLines { out, error: None };
        let files = scan_in_order(&logs, &query, &mut lines);
        if let Some(error) = lines.error {
            return Err(error.into());
        }
        note_errors(&paths, &files, &mut unreadable);
        None
    } else {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(16);
        let (tallies, files) = scan(&logs, &query, threads, || Tally::new(&query));
        note_errors(&paths, &files, &mut unreadable);
        let tally = tallies.into_iter().reduce(|mut sum, one| {
            sum.merge(one);
            sum
        });
        Some(answer(common, args, &query, &paths, &logs, &files, tally.unwrap_or_else(|| Tally::new(&query))))
    };
    for file in &unreadable {
        let words = printable(&format!("{}: {}", file.path, file.error));
        let _ = writeln!(io::stderr(), "hepguard: {words}");
    }
    let mut incomplete = !unreadable.is_empty();
    if let Some(mut answer) = answer {
        incomplete |= answer.given_up > 0;
        answer.unreadable = unreadable;
        match common.format.as_str() {
            "json" => {
                serde_json::to_writer_pretty(&mut *out, &answer).map_err(io::Error::from)?;
                writeln!(out)?;
            }
            "csv" => out.write_all(csv(&answer).as_bytes())?,
            _ => out.write_all(text(&answer, super::style(common)).as_bytes())?,
        }
    }
    Ok(Outcome { findings: false, incomplete })
}

fn query(common: &Common, args: &DeniesArgs) -> Result<Query, CliError> {
    let usage = |error: String| CliError::Usage(error);
    let time = |option: &str, text: &Option<String>| {
        let read = text.as_ref().map(|text| moment::parse(text, now(), clock(now())));
        read.transpose().map_err(|error| usage(format!("{option}: {error}")))
    };
    let default = Filter::default();
    let filter = Filter {
        source: args.source.clone(),
        action: if args.action.is_empty() { default.action } else { args.action.clone() },
        direction: args.direction.clone(),
        proto: args.proto.clone(),
        src_ip: args.src_ip.clone(),
        dst_ip: args.dst_ip.clone(),
        src_port: args.src_port.clone(),
        dst_port: args.dst_port.clone(),
        icmp_type: args.icmp_type.clone(),
        in_iface: args.in_iface.clone(),
        out_iface: args.out_iface.clone(),
        tier: args.tier.clone(),
        policy: args.policy.clone(),
        rule_index: args.rule_index.clone(),
        host: args.host.clone(),
        log_prefix: args.log_prefix.clone(),
        failsafe: args.failsafe,
        since: time("--since", &args.since)?,
        until: time("--until", &args.until)?,
    };
    let group_by = if args.group_by.is_empty() { Field::DEFAULT.to_vec() } else { args.group_by.clone() };
    Ok(Query { filter, group_by, failsafes: failsafes(common)?, ..Query::new() })
}

/// The failsafe lists of the snapshot, the running Felix's before those on disk; else Felix's defaults.
fn failsafes(common: &Common) -> Result<Failsafes, CliError> {
    if common.snapshot.is_none() {
        return Ok(Failsafes::defaults());
    }
    let files = super::load::snapshot(common)?.files;
    let mut loaded = Loaded::default();
    let mut from = Vec::new();
    if let Some(bytes) = files.bytes("felix/environ") {
        loaded.extend(envfile::environ(&files.label("felix/environ").into(), bytes).felix());
        from.push(files.label("felix/environ"));
    } else if let Some(bytes) = files.bytes("felix/calico.env") {
        loaded.extend(envfile::systemd(&files.label("felix/calico.env").into(), bytes).felix());
        from.push(files.label("felix/calico.env"));
    }
    if let Some(bytes) = files.bytes("felix/felix.cfg") {
        loaded.extend(ini::read(&files.label("felix/felix.cfg").into(), bytes));
        from.push(files.label("felix/felix.cfg"));
    }
    if from.is_empty() {
        return Ok(Failsafes::defaults());
    }
    Ok(Failsafes::of(&Settings::resolve(&loaded.assignments), &from.join(" and ")))
}

fn paths(args: &DeniesArgs) -> Result<Vec<PathBuf>, CliError> {
    if !args.files.is_empty() {
        return Ok(args.files.clone());
    }
    let found = DEFAULT_FILES.into_iter().map(PathBuf::from).find(|path| path.exists());
    found.map(|path| vec![path]).ok_or_else(|| {
        let words =
            "name a log file; on a host that keeps its log in the journal only: journalctl -o json | hepguard denies -";
        CliError::Input(format!("neither {} exists: {words}", DEFAULT_FILES.join(" nor ")))
    })
}

fn open(paths: &[PathBuf]) -> (Vec<Option<Log>>, Vec<Unreadable>) {
    let mut unreadable = Vec::new();
    let logs = paths
        .iter()
        .map(|path| match Log::open(path) {
            Ok(log) => Some(log),
            Err(error) => {
                unreadable.push(Unreadable { path: path.display().to_string(), error: error.to_string() });
                None
            }
        })
        .collect();
    (logs, unreadable)
}

fn note_errors(paths: &[PathBuf], files: &[FileResult], unreadable: &mut Vec<Unreadable>) {
    for (path, file) in paths.iter().zip(files) {
        if let Some(error) = &file.error {
            let lines = file.counts.lines;
            let error = format!("stopped after {lines} lines: {error}");
            unreadable.push(Unreadable { path: path.display().to_string(), error });
        }
    }
}

fn answer(
    common: &Common,
    args: &DeniesArgs,
    query: &Query,
    paths: &[PathBuf],
    logs: &[Option<Log>],
    files: &[FileResult],
    tally: Tally,
) -> Answer {
    let (events, repeats, given_up, range) = (tally.events, tally.repeats, tally.given_up, tally.range);
    let groups_total = tally.len();
    let top = args.top.unwrap_or(if common.format == "text" { TOP } else { usize::MAX });
    let groups = tally
        .rows(top)
        .into_iter()
        .map(|(key, group)| {
            let place = group.example;
            let log = usize::try_from(place.file).ok().and_then(|file| logs.get(file)).and_then(Option::as_ref);
            let length = usize::try_from(place.length).unwrap_or(0).min(4096);
            let example = group.text.as_deref().map(<[u8]>::to_vec);
            let example = example.or_else(|| log?.reread(place.offset, length));
            Row::new(&query.group_by, key, &group, example.as_deref(), &query.failsafes)
        })
        .collect();
    let read = paths.iter().zip(logs).zip(files).filter(|((_, log), _)| log.is_some());
    let files = read.map(|((path, _), file)| FileLine::new(path.display().to_string(), file.counts)).collect();
    Answer::new(files, events, repeats, given_up, range, groups, groups_total, &query.failsafes)
}

/// Writes each event as it comes.
struct EventLines<'a> {
    out: &'a mut dyn Write,
    error: Option<io::Error>,
}

impl Sink for EventLines<'_> {
    fn event(&mut self, event: &Event<'_>, origin: Origin<'_>) {
        if self.error.is_none()
            && let Err(error) = writeln!(self.out, "{}", event_line(event, origin.line))
        {
            self.error = Some(error);
        }
    }

    fn stopped(&self) -> bool {
        self.error.is_some()
    }
}
