//! `hepguard denies --follow`: denies as they are logged.
//!
//! Ends with the reader of its output, with the end of standard input, or by a signal.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use memchr::{memchr, memrchr};

use super::args::{Common, DeniesArgs};
use super::exit::{CliError, Outcome};
use super::log_reader::{clock, now};
use super::note;
use crate::forward::encode::Form;
use crate::logs::event::Event;
use crate::logs::scan::Scan;
use crate::logs::tally::{Origin, Query, Sink};
use crate::report::events::text_line;
use crate::tail::{Follower, Notice, Start};

/// Rest after something was read: more is probably on its way, and waking up is what costs.
const SHORT: Duration = Duration::from_millis(10);
/// Rest while nothing comes.
const LONG: Duration = Duration::from_millis(100);
/// How long the last line waits for a notice that it was repeated.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often the year of stamps without one is looked at anew.
const SPELL: Duration = Duration::from_secs(3600);

/// Runs the command.
///
/// # Errors
/// A format that is no line an event, no file that can be followed, or the answer cannot be written.
pub(super) fn run(
    common: &Common,
    args: &DeniesArgs,
    query: &Query,
    paths: &[PathBuf],
    out: &mut dyn Write,
) -> Result<Outcome, CliError> {
    let form = Form::parse(&common.format);
    if form.is_none() && common.format != "text" {
        let words = "--follow prints a line an event: use --format text, jsonl, ecs, ocsf or cef";
        return Err(CliError::Usage(words.to_owned()));
    }
    let mut lines = Lines { form, out, error: None, only_repeats: false };
    if paths.iter().any(|path| path == Path::new("-")) {
        if paths.len() > 1 {
            return Err(CliError::Usage("--follow takes standard input alone, or files".to_owned()));
        }
        return stream(query, &mut lines);
    }
    let start = if args.since.is_some() { Start::Beginning } else { Start::End };
    let mut followed = Vec::new();
    let mut unreadable = Vec::new();
    for (path, file) in paths.iter().zip(0..) {
        match Follower::open(path, start, Instant::now()) {
            Ok(follower) => followed.push(Followed { path, follower, lines: Pending::new(query, file) }),
            Err(error) => unreadable.push(format!("{}: {error}", path.display())),
        }
    }
    if followed.is_empty() {
        return Err(CliError::Input(format!("no log could be followed: {}", unreadable.join("; "))));
    }
    unreadable.iter().for_each(|why| note(why));
    // what is wrong with a file is said once
    let mut told = BTreeSet::new();
    loop {
        let mut grew = false;
        for one in &mut followed {
            match one.poll(query, &mut lines) {
                Ok(more) => grew |= more,
                Err(error) => {
                    let words = format!("{}: {error}", one.path.display());
                    if told.insert(words.clone()) {
                        note(&words);
                    }
                }
            }
        }
        lines.flush()?;
        if !followed.iter().any(|one| one.follower.is_behind()) {
            std::thread::sleep(if grew { SHORT } else { LONG });
        }
    }
}

struct Followed<'p, 'q> {
    path: &'p Path,
    follower: Follower,
    lines: Pending<'q>,
}

impl<'q> Followed<'_, 'q> {
    fn poll(&mut self, query: &'q Query, sink: &mut Lines<'_>) -> io::Result<bool> {
        let Self { path, follower, lines } = self;
        let time = Instant::now();
        let mut notice = |notice: Notice| {
            let words = match notice {
                Notice::Rotated => return,
                Notice::TruncatedAndFound => "was truncated; the rest was read from its copy",
                Notice::TruncatedAndLost => "was truncated, and no copy of it was found: lines may be lost",
                Notice::Unreadable => "the renamed file could not be read to its end: lines may be lost",
            };
            note(&format!("{}: {words}", path.display()));
        };
        let grew = follower.poll(time, &mut |_, text| lines.take(text, time, sink), &mut notice)?;
        lines.settle(query, time, sink);
        Ok(grew)
    }
}

/// Standard input, line by line as it comes.
fn stream(query: &Query, sink: &mut Lines<'_>) -> Result<Outcome, CliError> {
    let mut input = io::stdin().lock();
    let mut lines = Pending::new(query, 0);
    let mut buffer = vec![0; 64 * 1024];
    let mut held = Vec::new();
    loop {
        let read = match input.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(CliError::Input(format!("standard input: {error}"))),
            Ok(read) => read,
        };
        held.extend_from_slice(buffer.get(..read).unwrap_or_default());
        if read == 0 && !held.is_empty() {
            held.push(b'\n');
        }
        if let Some(end) = memrchr(b'\n', &held) {
            let rest = held.split_off(end + 1);
            lines.take(&held, Instant::now(), sink);
            held = rest;
        } else if held.len() > crate::tail::LINE_LIMIT * 2 {
            // of a giant only the start is of use
            held.truncate(crate::tail::LINE_LIMIT);
        }
        // nobody knows when more comes
        lines.flush(sink);
        sink.flush()?;
        if read == 0 {
            return Ok(Outcome::CLEAN);
        }
        lines.renew(query, Instant::now());
    }
}

/// Lines that were read and not looked at yet: the last one waits for a notice of its repeats.
struct Pending<'q> {
    scan: Scan<'q>,
    file: u32,
    since: Instant,
    began: Instant,
    text: Vec<u8>,
    /// The line looked at last, in case a notice of its repeats comes late.
    last: Vec<u8>,
}

impl<'q> Pending<'q> {
    fn new(query: &'q Query, file: u32) -> Self {
        let scan = Scan::new(query, clock(now()), file, true);
        let since = Instant::now();
        Self { scan, file, since, began: since, text: Vec::new(), last: Vec::new() }
    }

    /// Looks at whole lines, but for the last.
    fn take(&mut self, lines: &[u8], time: Instant, sink: &mut Lines<'_>) {
        if self.text.is_empty() && !self.last.is_empty() {
            self.late_notice(lines, sink);
        }
        self.text.extend_from_slice(lines);
        self.since = time;
        let last = self.text.len().saturating_sub(1);
        let start = self.text.get(..last).and_then(|text| memrchr(b'\n', text)).map_or(0, |end| end + 1);
        self.scan.block(&self.text, start, 0, sink);
        self.text.drain(..start);
    }

    /// A notice that comes after its line was printed: only the repeats are new.
    fn late_notice(&mut self, lines: &[u8], sink: &mut Lines<'_>) {
        let end = memchr(b'\n', lines).map_or(lines.len(), |end| end + 1);
        let mut text = std::mem::take(&mut self.last);
        let own = text.len();
        text.extend_from_slice(lines.get(..end).unwrap_or(lines));
        sink.only_repeats = true;
        self.scan.block(&text, own, 0, sink);
        sink.only_repeats = false;
    }

    /// Looks at the last line once it has waited long enough.
    fn settle(&mut self, query: &'q Query, time: Instant, sink: &mut Lines<'_>) {
        if !self.text.is_empty() && time.duration_since(self.since) >= PATIENCE {
            self.flush(sink);
        }
        self.renew(query, time);
    }

    fn flush(&mut self, sink: &mut Lines<'_>) {
        if !self.text.is_empty() {
            self.scan.block(&self.text, self.text.len(), 0, sink);
            self.last = std::mem::take(&mut self.text);
        }
    }

    fn renew(&mut self, query: &'q Query, time: Instant) {
        if time.duration_since(self.began) >= SPELL {
            self.began = time;
            self.scan = Scan::new(query, clock(now()), self.file, true);
        }
    }
}

/// Writes each event as it comes.
struct Lines<'a> {
    form: Option<Form>,
    out: &'a mut dyn Write,
    error: Option<io::Error>,
    /// The event itself was written before.
    only_repeats: bool,
}

impl Lines<'_> {
    fn flush(&mut self) -> io::Result<()> {
        match self.error.take() {
            Some(error) => Err(error),
            None => self.out.flush(),
        }
    }

    fn write(&mut self, event: &Event<'_>, line: &[u8]) {
        let text = match self.form {
            Some(form) => form.line(event, line),
            None => text_line(event),
        };
        if self.error.is_none()
            && let Err(error) = writeln!(self.out, "{text}")
        {
            self.error = Some(error);
        }
    }
}

impl Sink for Lines<'_> {
    fn event(&mut self, event: &Event<'_>, origin: Origin<'_>) {
        if !self.only_repeats {
            self.write(event, origin.line);
        } else if event.repeats > 0 && event.repeats < event.count {
            self.write(&Event { count: event.repeats, ..event.clone() }, origin.line);
        }
    }

    fn stopped(&self) -> bool {
        self.error.is_some()
    }
}
