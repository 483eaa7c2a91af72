//! The part of the daemon that reads logs: a process without any right but to read them. It follows files and the journal,
//! and tells the daemon kinds of denies with counts, never a line to act on. Where denies are forwarded it reads them, too: what goes
//! on to the collector are fields, and the line only as text.
//!
//! While lines come it reads four times a second: a notice of the kernel for each written line would cost more than reading.
//! When nothing came for a while it waits for such a notice.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use serde::{Deserialize, Serialize};

use super::counter::{Counter, Found};
use super::journal::Journal;
use super::rights;
use crate::forward::sum::Told;
use crate::logs::scan::Scan;
use crate::logs::tally::Query;
use crate::logs::time::Clock;
use crate::system::local_to_utc;
use crate::tail::{Follower, Notice, Places, Start};

/// Rest while lines come.
const SHORT: Duration = Duration::from_millis(250);
/// After so long without a line the kernel is asked to wake us.
const IDLE: Duration = Duration::from_secs(1);
/// Longest wait: files that are missing are looked for so often, and renamed ones let go.
const LONG: Duration = Duration::from_secs(60);
/// A renamed file is let go after that, so it is looked at once more.
const LINGER: Duration = Duration::from_secs(6);

/// What is to be followed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Task {
    /// Files.
    pub(super) files: Vec<PathBuf>,
    /// The journal, too.
    pub(super) journal: bool,
    /// Begin with the first line of what was never followed.
    pub(super) from_beginning: bool,
    /// Where to go on.
    pub(super) places: BTreeMap<PathBuf, Places>,
    /// Where to go on in the journal.
    pub(super) cursor: Option<String>,
    /// Denies are forwarded, so they are told, too: those of one kind in one (`false`), or each (`true`).
    #[serde(default)]
    pub(super) denies: Option<bool>,
}

/// What the reader tells, one line each.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Report {
    /// Denies, and the place behind them.
    Read {
        /// What was found.
        found: Found,
        /// A file's place.
        file: Option<Box<(PathBuf, Places)>>,
        /// The journal's.
        cursor: Option<String>,
        /// The denies themselves, those of one kind together, when they are forwarded.
        #[serde(default)]
        denies: Vec<Told>,
    },
    /// Something is wrong with a log. `lost`: lines are missing for good.
    Trouble {
        /// The log.
        subject: String,
        /// In words.
        why: String,
        /// Whether lines are lost.
        lost: bool,
    },
    /// It is well again.
    Mended {
        /// The log.
        subject: String,
    },
}

/// Reads the task from standard input, follows, and reports on standard output until standard input is closed.
///
/// # Errors
/// No task, or nobody listens.
pub fn run() -> io::Result<()> {
    rights::drop_all_but_reading()?;
    rights::end_with_daemon()?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    let task: Task = serde_json::from_str(&line)?;
    Reader::new(task)?.follow()
}

/// A file that is followed, or waited for.
struct Followed {
    path: PathBuf,
    follower: Option<Follower>,
    places: Option<Places>,
    /// The last line, in case the next one says that it was repeated.
    last: Vec<u8>,
    /// What was told of it.
    trouble: bool,
    /// It is followed already, or the only log: that it is missing is worth a word.
    expected: bool,
    missing_since: Option<Instant>,
}

struct Reader {
    files: Vec<Followed>,
    journal: Option<Journal>,
    /// Files that appear later begin with their first line.
    start: Start,
    counter: Counter,
    query: Query,
    inotify: Inotify,
}

impl Reader {
    fn new(task: Task) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let mut places = task.places;
        let alone = task.files.len() == 1 && !task.journal;
        let one = |path: PathBuf| {
            let places = places.remove(&path);
            let expected = alone || places.is_some();
            Followed { path, follower: None, places, last: Vec::new(), trouble: false, expected, missing_since: None }
        };
        let files = task.files.into_iter().map(one).collect();
        let journal = task.journal.then(|| Journal::new(task.cursor, task.from_beginning));
        let start = if task.from_beginning { Start::Beginning } else { Start::End };
        Ok(Self { files, journal, start, counter: Counter::new(task.denies), query: Query::new(), inotify })
    }

    fn follow(mut self) -> io::Result<()> {
        let mut grew_at = Instant::now();
        let mut first = true;
        loop {
            let now = Instant::now();
            let mut grew = self.read(now, first)?;
            first = false;
            if grew {
                grew_at = now;
            }
            let idle = now.duration_since(grew_at) >= IDLE;
            if idle {
                self.watch();
                // what came before the watch was there
                grew |= self.read(Instant::now(), false)?;
            }
            let wait = match (grew, idle) {
                (true, _) if self.files.iter().any(Followed::is_behind) => Duration::ZERO,
                (true, _) => SHORT,
                (false, false) => SHORT,
                (false, true) if now.duration_since(grew_at) < LINGER * 2 => LINGER,
                (false, true) if self.files.iter().any(Followed::is_missed) => LINGER * 2,
                (false, true) => LONG,
            };
            if !self.wait(wait, idle)? {
                return Ok(());
            }
        }
    }

    /// Waits; false when the daemon is gone.
    fn wait(&mut self, time: Duration, idle: bool) -> io::Result<bool> {
        let stdin = io::stdin();
        let mut fds = vec![PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        if idle {
            fds.push(PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN));
            if let Some(fd) = self.journal.as_ref().and_then(Journal::fd) {
                fds.push(PollFd::new(fd, PollFlags::POLLIN));
            }
        }
        let timeout = PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        // the daemon says nothing after the task: anything here is its end
        let gone = fds.first().and_then(PollFd::revents).is_some_and(|events| !events.is_empty());
        drop(fds);
        while self.inotify.read_events().is_ok_and(|events| !events.is_empty()) {}
        Ok(!gone)
    }

    /// Asks to be woken by the next line, and by what happens in the folders.
    fn watch(&self) {
        for file in &self.files {
            // which of them exist is found out by reading; here each is only a hint
            let _ = self.inotify.add_watch(&file.path, AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_ONESHOT);
            let folder = file.path.parent().unwrap_or(Path::new("/"));
            let changes = AddWatchFlags::IN_CREATE
                | AddWatchFlags::IN_MOVED_TO
                | AddWatchFlags::IN_MOVED_FROM
                | AddWatchFlags::IN_ONLYDIR
                | AddWatchFlags::IN_ONESHOT;
            let _ = self.inotify.add_watch(folder, changes);
        }
    }

    /// Reads everything there is; true when there was something.
    fn read(&mut self, now: Instant, first: bool) -> io::Result<bool> {
        let mut grew = false;
        for file in &mut self.files {
            // a file that appears later was never followed, and all of it is new
            let start = if first { self.start } else { Start::Beginning };
            grew |= file.read(&self.query, &mut self.counter, start, now)?;
        }
        if let Some(journal) = &mut self.journal {
            grew |= journal_read(journal, &self.query, &mut self.counter)?;
        }
        Ok(grew)
    }
}

impl Followed {
    /// There is more to read at once.
    fn is_behind(&self) -> bool {
        self.follower.as_ref().is_some_and(Follower::is_behind)
    }

    /// It should be there, and is not.
    fn is_missed(&self) -> bool {
        self.expected && self.missing_since.is_some()
    }

    fn read(&mut self, query: &Query, counter: &mut Counter, start: Start, now: Instant) -> io::Result<bool> {
        let fresh = self.follower.is_none();
        if fresh {
            let opened = match self.places.take() {
                Some(places) => Follower::resume(&self.path, &places, now).inspect_err(|_| self.places = Some(places)),
                None => Follower::open(&self.path, start, now),
            };
            match opened {
                Ok(follower) => {
                    self.follower = Some(follower);
                    self.expected = true;
                }
                Err(error) => {
                    // the moment between a rename and the new file is no trouble
                    let since = *self.missing_since.get_or_insert(now);
                    let waited = self.expected && now.duration_since(since) >= LINGER;
                    if error.kind() != io::ErrorKind::NotFound || waited {
                        self.trouble(&error.to_string())?;
                    }
                    return Ok(false);
                }
            }
        }
        let Some(follower) = &mut self.follower else { return Ok(false) };
        let mut lost = Vec::new();
        let last = &mut self.last;
        let clock = Clock { reference: seconds(), to_utc: &local_to_utc };
        let mut scan = Scan::new(query, clock, 0, true);
        let polled = follower.poll(
            now,
            &mut |at, text| {
                counter.is_at(self.path.as_os_str().as_encoded_bytes(), at);
                counter.late_notice(query, last, text);
                scan.block(text, text.len(), 0, counter);
                remember(text, last);
            },
            &mut |notice| {
                lost.extend(match notice {
                    Notice::Rotated | Notice::TruncatedAndFound => None,
                    Notice::TruncatedAndLost => Some("was truncated or replaced, and no copy of the rest was found"),
                    Notice::Unreadable => Some("the renamed file could not be read to its end"),
                });
            },
        );
        let places = follower.places();
        for why in lost {
            send(&Report::Trouble { subject: self.path.display().to_string(), why: why.to_owned(), lost: true })?;
        }
        // what was read before an error counts
        if fresh || !matches!(polled, Ok(false)) {
            let (found, denies) = (counter.found(&scan.counts), counter.denies());
            send(&Report::Read {
                found,
                file: Some(Box::new((self.path.clone(), places.clone()))),
                cursor: None,
                denies,
            })?;
        }
        let grew = match polled {
            Ok(grew) => grew,
            Err(error) => {
                self.trouble(&error.to_string())?;
                self.follower = None;
                self.places = Some(places);
                return Ok(false);
            }
        };
        self.check(now)?;
        Ok(grew)
    }

    /// Whether the name still stands for something that is read.
    fn check(&mut self, now: Instant) -> io::Result<()> {
        let why = match self.follower.as_ref().and_then(Follower::refused) {
            Some(error) => format!("cannot be opened: {error}; the file that had the name before is read on"),
            None if self.path.exists() => {
                self.missing_since = None;
                if std::mem::take(&mut self.trouble) {
                    send(&Report::Mended { subject: self.path.display().to_string() })?;
                }
                return Ok(());
            }
            None => "is not there any more; the old file is read on until another one is there".to_owned(),
        };
        let since = *self.missing_since.get_or_insert(now);
        if now.duration_since(since) >= LINGER {
            self.trouble(&why)?;
        }
        Ok(())
    }

    fn trouble(&mut self, why: &str) -> io::Result<()> {
        if std::mem::replace(&mut self.trouble, true) {
            return Ok(());
        }
        send(&Report::Trouble { subject: self.path.display().to_string(), why: why.to_owned(), lost: false })
    }
}

fn journal_read(journal: &mut Journal, query: &Query, counter: &mut Counter) -> io::Result<bool> {
    let clock = Clock { reference: seconds(), to_utc: &local_to_utc };
    let mut scan = Scan::new(query, clock, 0, true);
    // each entry names its own place
    counter.is_at(b"journal", 0);
    let (grew, trouble) = journal.read(&mut |line| scan.block(line, line.len(), 0, counter));
    match trouble {
        Some(why) => send(&Report::Trouble { subject: "journal".to_owned(), why, lost: false })?,
        None if grew && journal.mended() => send(&Report::Mended { subject: "journal".to_owned() })?,
        None => {}
    }
    if grew {
        let (found, denies) = (counter.found(&scan.counts), counter.denies());
        send(&Report::Read { found, file: None, cursor: journal.cursor(), denies })?;
    }
    Ok(grew)
}

/// Keeps the last line.
fn remember(text: &[u8], last: &mut Vec<u8>) {
    let end = text.len().saturating_sub(1);
    let start = text.get(..end).and_then(|text| memchr::memrchr(b'\n', text)).map_or(0, |at| at + 1);
    last.clear();
    last.extend_from_slice(text.get(start..).unwrap_or_default());
}

fn send(report: &Report) -> io::Result<()> {
    // in one piece: the buffer of standard output looks for line ends in each
    let mut line = serde_json::to_vec(report)?;
    line.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&line)?;
    out.flush()
}

/// Seconds since 1970.
pub(super) fn seconds() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
