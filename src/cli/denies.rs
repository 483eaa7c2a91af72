//! `hepguard denies [FILE...]`: who was denied what, by which policy.
//!
//! Denies that are found are data, not findings: the exit code is 0 when everything was read, 3 when part of it was not
//! (a file missing or cut, too many groups for memory), 2 when no file could be read at all.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::args::{Common, DeniesArgs};
use super::exit::{CliError, Outcome};
use super::log_merge::merge;
use super::log_reader::{FileResult, Log, clock, now, scan};
use super::{follow, names, progress, recommend, rotated};
use crate::analysis::denied::failsafe::Known;
use crate::analysis::flows;
use crate::calico::names::Authors;
use crate::calico::resources::Resources;
use crate::calico::settings::{Loaded, Settings, envfile, ini};
use crate::diagnostic::printable;
use crate::forward::encode::Form;
use crate::logs::gather::Gather;
use crate::logs::moment;
use crate::logs::query::{Failsafes, Field, Filter};
use crate::logs::tally::Query;
use crate::logs::time::rfc3339;
use crate::report::denies::{Answer, FileLine, Histogram, NewSince, Row, Unreadable};
use crate::report::denies_csv::csv;
use crate::report::denies_text::text;

const FORMATS: [&str; 7] = ["text", "json", "csv", "jsonl", "ecs", "ocsf", "cef"];
/// Groups shown as text when nothing is said.
const TOP: usize = 20;
pub(super) const DEFAULT_FILES: [&str; 2] = ["/var/log/syslog", "/var/log/messages"];

/// Runs the command.
///
/// # Errors
/// Unknown format or time, no readable log at all, or the answer cannot be written.
pub fn run(common: &Common, args: &DeniesArgs, out: &mut dyn Write) -> Result<Outcome, CliError> {
    if !FORMATS.contains(&common.format.as_str()) {
        return Err(super::unknown_format(&common.format, &FORMATS));
    }
    let form = Form::parse(&common.format);
    if form.is_some() && args.suggest {
        return Err(CliError::Usage("--suggest is about groups; use --format text or json".to_owned()));
    }
    if form.is_some() && (args.histogram.is_some() || args.new_since.is_some() || args.top.is_some()) {
        let words = "--histogram, --new-since and --top are about groups; use --format text, json or csv";
        return Err(CliError::Usage(words.to_owned()));
    }
    let query = query(common, args)?;
    let paths = paths(args, common.snapshot.is_some())?;
    if args.follow {
        return follow::run(common, args, &query, &paths, out);
    }
    let (logs, mut unreadable) = open(&paths);
    if !paths.is_empty() && logs.iter().all(Option::is_none) {
        let reasons: Vec<String> = unreadable.iter().map(|file| format!("{}: {}", file.path, file.error)).collect();
        return Err(CliError::Input(format!("no log could be read: {}", reasons.join("; "))));
    }
    if args.recommend {
        if common.format != "text" {
            return Err(CliError::Usage("--recommend prints YAML; leave --format out".to_owned()));
        }
        let files = recommend::run(common, args, &query, &logs, out)?;
        note_errors(&paths, &files, &mut unreadable);
        tell(&unreadable);
        return Ok(Outcome { findings: false, incomplete: !unreadable.is_empty() });
    }
    let answer = if let Some(form) = form {
        let total = logs.iter().flatten().map(Log::size).sum();
        let files = progress::shown(common.quiet, total, |done| {
            merge(&logs, &query, done, |event, line| form.line(event, line), |line| writeln!(out, "{line}"))
        })?;
        note_errors(&paths, &files, &mut unreadable);
        None
    } else {
        Some(counted(common, args, &query, (&paths, &logs), &mut unreadable)?)
    };
    tell(&unreadable);
    let mut incomplete = !unreadable.is_empty();
    if let Some(mut answer) = answer {
        incomplete |= answer.given_up > 0;
        answer.unreadable = unreadable;
        match common.format.as_str() {
            "json" => {
                writeln!(out, "{}", crate::report::json_pretty(&answer))?;
            }
            "csv" => out.write_all(csv(&answer).as_bytes())?,
            _ => out.write_all(text(&answer, super::style(common)).as_bytes())?,
        }
    }
    Ok(Outcome { findings: false, incomplete })
}

/// What the logs that are named tell, groups and bars, for a page about more than logs.
///
/// # Errors
/// No readable log at all, or policies that cannot be read.
pub(super) fn summary(common: &Common, args: &DeniesArgs) -> Result<Answer, CliError> {
    let query = query(common, args)?;
    let (logs, mut unreadable) = open(&args.files);
    if logs.iter().all(Option::is_none) {
        let reasons: Vec<String> = unreadable.iter().map(|file| format!("{}: {}", file.path, file.error)).collect();
        return Err(CliError::Input(format!("no log could be read: {}", reasons.join("; "))));
    }
    let answer = counted(common, args, &query, (&args.files, &logs), &mut unreadable)?;
    Ok(Answer { unreadable, ..answer })
}

/// Reads the logs and counts.
fn counted(
    common: &Common,
    args: &DeniesArgs,
    query: &Query,
    (paths, logs): (&[PathBuf], &[Option<Log>]),
    unreadable: &mut Vec<Unreadable>,
) -> Result<Answer, CliError> {
    let authors = authors(common, args)?;
    let total = logs.iter().flatten().map(Log::size).sum();
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(16);
    let new = || Gather::new(query, args.histogram.is_some());
    let (gathered, files) = progress::shown(common.quiet, total, |done| scan(logs, query, threads, done, new));
    note_errors(paths, &files, unreadable);
    let gathered = gathered.into_iter().reduce(|mut sum, one| {
        sum.merge(one);
        sum
    });
    let logs = Logs { paths, logs, files: &files };
    Ok(answer(common, args, query, &authors, &logs, gathered.unwrap_or_else(new)))
}

fn tell(unreadable: &[Unreadable]) {
    for file in unreadable {
        let words = printable(&format!("{}: {}", file.path, file.error));
        let _ = writeln!(io::stderr(), "hepguard: {words}");
    }
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
    let new_since = time("--new-since", &args.new_since)?;
    Ok(Query { filter, group_by, failsafes: failsafes(common)?, new_since, ..Query::new() })
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

fn paths(args: &DeniesArgs, snapshot: bool) -> Result<Vec<PathBuf>, CliError> {
    let named = if args.files.is_empty() {
        let found = DEFAULT_FILES.into_iter().map(PathBuf::from).find(|path| path.exists());
        if args.recommend && (found.is_none() || snapshot) {
            // the host itself shows traffic too, and a snapshot's is not in the log of this machine
            return Ok(Vec::new());
        }
        vec![found.ok_or_else(|| {
            let words = "name a log file; on a host that keeps its log in the journal only: journalctl -o json | \
                         hepguard denies -";
            CliError::Input(format!("neither {} exists: {words}", DEFAULT_FILES.join(" nor ")))
        })?]
    } else {
        args.files.clone()
    };
    if !args.rotated {
        return Ok(named);
    }
    let older = |path: &PathBuf| {
        if path == Path::new("-") { vec![path.clone()] } else { rotated::with_older(path) }
    };
    let mut paths: Vec<PathBuf> = Vec::new();
    // `syslog*` names some of them already
    for path in named.iter().flat_map(older) {
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    Ok(paths)
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

/// The logs that were named, and how reading each ended.
struct Logs<'a> {
    paths: &'a [PathBuf],
    logs: &'a [Option<Log>],
    files: &'a [FileResult],
}

/// Who wrote the policies: those of the snapshot, and those that are given.
fn authors(common: &Common, args: &DeniesArgs) -> Result<Authors, CliError> {
    let given = super::load::policies(&args.known)?;
    let mut resources = match &common.snapshot {
        Some(_) => Arc::unwrap_or_clone(super::load::snapshot(common)?.resources),
        None => Resources::default(),
    };
    for (label, bytes) in given {
        resources.read(&Arc::from(label), &bytes);
    }
    Ok(Authors::of(&resources))
}

fn answer(
    common: &Common,
    args: &DeniesArgs,
    query: &Query,
    authors: &Authors,
    logs: &Logs<'_>,
    gathered: Gather,
) -> Answer {
    let &Logs { paths, logs, files } = logs;
    let Gather { mut tally, histogram } = gathered;
    // the inventory is of the host the snapshot was taken on; a live host's log may be of any host
    let snapshot = common.snapshot.as_ref().and_then(|_| super::load::snapshot(common).ok());
    let known = snapshot.as_ref().map(Known::of);
    let inventory = snapshot.as_ref().map(flows::inventory);
    let new_since =
        query.new_since.map(|since| NewSince { time: rfc3339(since), seen_before: tally.retain_new(since) });
    let (events, repeats, given_up, range) = (tally.events, tally.repeats, tally.given_up, tally.range);
    let groups_total = tally.len();
    let top = args.top.unwrap_or(if common.format == "text" { TOP } else { usize::MAX });
    let mut groups: Vec<Row> = tally
        .rows(top)
        .into_iter()
        .map(|(key, group)| {
            let place = group.example;
            let log = usize::try_from(place.file).ok().and_then(|file| logs.get(file)).and_then(Option::as_ref);
            let length = usize::try_from(place.length).unwrap_or(0).min(4096);
            let example = group.text.as_deref().map(<[u8]>::to_vec);
            let example = example.or_else(|| log?.reread(place.offset, length));
            let mut row = Row::new(&query.group_by, key, &group, example.as_deref(), &query.failsafes);
            row.judge(inventory.as_ref(), known.as_ref(), args.suggest);
            row.find_author(authors);
            row
        })
        .collect();
    let mut names = names::local(snapshot.as_ref());
    if args.reverse_lookup {
        names::look_up(groups.iter().filter_map(Row::far_end), &mut names);
    }
    groups.iter_mut().for_each(|row| row.named(&names));
    let read = paths.iter().zip(logs).zip(files).filter(|((_, log), _)| log.is_some());
    let files = read.map(|((path, _), file)| FileLine::new(path.display().to_string(), file.counts)).collect();
    let answer = Answer::new(files, events, repeats, given_up, range, groups, groups_total, &query.failsafes);
    let bars = histogram.map(|histogram| histogram.bars(args.histogram.and_then(|width| width.0)));
    Answer { new_since, histogram: bars.as_ref().map(Histogram::new), ..answer }
}
