//! The daemon: one loop that waits for what happens, hands it to [`crate::monitor`], and does what that says.
//!
//! ```text
//! logs ───► reader (a process without rights) ─┐
//! nf_tables, routing notices, hints, Felix ────┼─► Daemon::turn ─► Monitor::step ─► journal, status, metrics, state, SIEM
//! look (a process that collects and audits) ───┘
//! ```
//!
//! Nothing is asked for more often than once a minute while nothing happens. What is large or hostile is read in other
//! processes (`child.rs`); one that dies or hangs is a finding. State is one file replaced whole (`state.rs`).

mod act;
mod child;
mod counter;
mod forwarding;
mod hints;
mod journal;
pub mod look;
mod notify;
mod outlets;
pub mod reader;
mod rights;
mod serve;
mod sources;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::config::{self, Config};
use crate::monitor::{Event, Moment, Monitor, Trouble};
use crate::report::status::Health;
use crate::tail::Places;
use child::Helper;
use counter::Names;
use forwarding::{Forwarding, Kept};
use hints::Hints;
use notify::Notify;
use outlets::Journal;
use serve::Server;
use sources::{Felix, NfNotices, RoutingNotices};
use state::{Refused, Saved, Store};

/// How often time passes for the monitor, and the watchdog is told that the loop goes round.
const MINUTE: Duration = Duration::from_secs(60);

/// State is written at most so often while denies come: after a crash so much is read again.
const SAVE: Duration = Duration::from_secs(10);

/// And so often for alerts, and where denies are forwarded, which only a place that is kept sets free.
const SAVE_SOON: Duration = Duration::from_secs(1);

/// State that could not be written is tried again after that.
const FULL: Duration = Duration::from_secs(15);

/// A reader that ended is started again after that, longer each time.
const AGAIN: Duration = Duration::from_secs(1);

/// Reads the configuration anew.
pub type Reload = Box<dyn Fn() -> Result<Config, String>>;

/// What the daemon is started with.
pub struct Setup {
    /// The configuration.
    pub config: Config,
    /// Where it was read, `None` without a file.
    pub path: Option<PathBuf>,
    /// Reads it anew.
    pub reload: Reload,
}

/// Why the daemon cannot start.
#[derive(Debug)]
pub enum StartError {
    /// Another one runs.
    Taken(PathBuf),
    /// The system refuses what cannot be done without.
    Io(io::Error),
}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<nix::errno::Errno> for StartError {
    fn from(error: nix::errno::Errno) -> Self {
        Self::Io(error.into())
    }
}

struct Daemon {
    setup: Setup,
    monitor: Monitor,
    store: Store,
    server: Server,
    journal: Journal,
    forwarding: Forwarding,
    notify: Notify,
    nf_tables: NfNotices,
    routing: RoutingNotices,
    hints: Hints,
    felix: Felix,
    reader: Option<Helper>,
    /// The kinds of denies it told.
    names: Names,
    reader_failures: u32,
    /// When a reader that ended is started again.
    reader_at: Option<Instant>,
    places: BTreeMap<PathBuf, Places>,
    /// Sums of an earlier life, until the outputs take them.
    sums: Kept,
    cursor: Option<String>,
    follows_journal: bool,
    look: Option<(Helper, bool)>,
    /// When to look next, and whether to judge in any case.
    look_at: Option<(Instant, bool)>,
    /// When the last look ended, and how long it took.
    looked: Option<(Instant, Duration)>,
    looks: u64,
    /// Milliseconds the last look took that judged.
    judging: Option<u64>,
    /// Changes that came in a row without rest.
    in_a_row: u32,
    compare_at: Instant,
    full_at: Instant,
    minute_at: Instant,
    /// When systemd's watchdog is told next that the loop goes round.
    alive_at: Instant,
    save_at: Option<Instant>,
    saved_at: Option<Instant>,
    began: Instant,
    started: i64,
    troubles: BTreeSet<(Trouble, String)>,
    walls: Vec<Child>,
    stop: bool,
}

/// Runs the daemon until it is told to end.
///
/// # Errors
/// Another daemon has the state folder, or signals cannot be taken.
pub fn run(setup: Setup) -> Result<(), StartError> {
    let mut mask = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        mask.add(signal);
    }
    mask.thread_block()?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let mut daemon = Daemon::new(setup)?;
    daemon.start();
    while !daemon.stop {
        daemon.wait(&signals);
        daemon.turn(&signals);
    }
    daemon.end();
    Ok(())
}

fn wall_clock() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// This host's name.
fn host() -> String {
    nix::unistd::gethostname().map_or_else(|_| String::new(), |name| name.to_string_lossy().into_owned())
}

fn readable(fd: BorrowedFd<'_>) -> PollFd<'_> {
    PollFd::new(fd, PollFlags::POLLIN)
}

impl Daemon {
    fn new(setup: Setup) -> Result<Self, StartError> {
        let now = Instant::now();
        let moment = Moment { wall: wall_clock(), steady: 0 };
        let mut store = Store::new(&setup.config.state.directory);
        let store_trouble = match store.take() {
            Ok(()) => None,
            Err(Refused::Taken) => return Err(StartError::Taken(setup.config.state.directory.clone())),
            Err(Refused::Io(error)) => Some(error.to_string()),
        };
        let mut monitor = Monitor::new(setup.config.alerts.clone(), moment);
        let (saved, damage) = store.load();
        monitor.restore(&saved.monitor);
        let mut daemon = Self {
            monitor,
            store,
            server: Server::new(),
            journal: Journal::open(),
            forwarding: Forwarding::default(),
            notify: Notify::from_environment(),
            nf_tables: NfNotices::default(),
            routing: RoutingNotices::default(),
            hints: Hints::new(
                &setup.path.as_deref().and_then(Path::parent).map(Path::to_owned).into_iter().collect::<Vec<_>>(),
            ),
            felix: Felix::default(),
            reader: None,
            names: Names::new(),
            reader_failures: 0,
            reader_at: None,
            places: saved.places,
            cursor: saved.cursor,
            sums: saved.sums,
            follows_journal: false,
            look: None,
            look_at: Some((now, true)),
            looked: None,
            looks: 0,
            judging: None,
            in_a_row: 0,
            compare_at: now + setup.config.audit.compare_every.0,
            full_at: now + setup.config.audit.full_every.0,
            minute_at: now + MINUTE,
            alive_at: now + MINUTE,
            save_at: None,
            saved_at: None,
            began: now,
            started: moment.wall,
            troubles: BTreeSet::new(),
            walls: Vec::new(),
            stop: false,
            setup,
        };
        let folder = daemon.setup.config.state.directory.display().to_string();
        for why in store_trouble.into_iter().chain(damage) {
            daemon.trouble(Trouble::Outlet, &folder, &why);
        }
        Ok(daemon)
    }

    fn start(&mut self) {
        self.listen();
        self.start_forwarding();
        let (sums, steady) = (std::mem::take(&mut self.sums), self.now().steady);
        let resumed = self.forwarding.resume(sums, steady);
        self.report(Trouble::Outlet, "forward", resumed);
        self.open_notices();
        self.start_reader();
        self.start_look();
        self.alive(Instant::now());
        self.notify.ready(&format!("watching {}", self.logs().join(", ")));
    }

    /// The sockets of the configuration.
    fn listen(&mut self) {
        self.server = Server::new();
        let config = self.setup.config.clone();
        let mut tried = vec![(
            config.state.socket.display().to_string(),
            self.server.unix(&config.state.socket, serve::Ask::Status, 0o600),
        )];
        if let Some(path) = &config.metrics.socket {
            tried.push((path.display().to_string(), self.server.unix(path, serve::Ask::Metrics, 0o666)));
        }
        if let Some(address) = config.metrics.listen {
            tried.push((address.to_string(), self.server.tcp(address, serve::Ask::Metrics)));
        }
        for (subject, result) in tried {
            self.report(
                Trouble::Outlet,
                &subject,
                result.map_err(|error| format!("nobody can be served here: {error}")),
            );
        }
    }

    /// Followed logs, in words.
    fn logs(&self) -> Vec<String> {
        let files = self.setup.config.logs.files.iter().map(|path| path.display().to_string());
        files.chain(self.follows_journal.then(|| "journal".to_owned())).collect()
    }

    fn now(&self) -> Moment {
        let steady = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Moment { wall: wall_clock(), steady }
    }

    /// Waits for the first thing to happen.
    fn wait(&mut self, signals: &SignalFd) {
        let now = Instant::now();
        let mut deadline = self.alive_at.min(self.minute_at).min(self.compare_at).min(self.full_at);
        let look_at = self.look_at.filter(|_| self.look.is_none()).map(|(at, _)| at);
        let timeout = self.look.as_ref().map(|(look, _)| look.started + self.setup.config.audit.timeout.0);
        let others = [look_at, timeout, self.save_at, self.reader_at, self.server.deadline()];
        for other in others.into_iter().flatten() {
            deadline = deadline.min(other);
        }
        // a millisecond more, so that the deadline has passed then
        let rest = deadline.saturating_duration_since(now) + Duration::from_millis(u64::from(deadline > now));
        let timeout = PollTimeout::try_from(rest).unwrap_or(PollTimeout::MAX);
        let readers = [self.nf_tables.fd(), self.routing.fd(), self.hints.fd(), self.felix.fd()];
        let helpers = [self.reader.as_ref(), self.look.as_ref().map(|(look, _)| look)];
        let mut fds: Vec<PollFd<'_>> = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        fds.extend(readers.into_iter().flatten().map(readable));
        fds.extend(helpers.into_iter().flatten().map(|helper| readable(helper.as_fd())));
        fds.extend(
            self.server
                .fds()
                .into_iter()
                .map(|(fd, write)| PollFd::new(fd, if write { PollFlags::POLLOUT } else { PollFlags::POLLIN })),
        );
        if let Err(error) = poll(&mut fds, timeout)
            && error != nix::errno::Errno::EINTR
        {
            // without waiting the loop would spin
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// One turn of the loop: takes everything there is.
    fn turn(&mut self, signals: &SignalFd) {
        while let Ok(Some(signal)) = signals.read_signal() {
            match Signal::try_from(i32::try_from(signal.ssi_signo).unwrap_or(0)) {
                Ok(Signal::SIGHUP) => self.reload(),
                _ => self.stop = true,
            }
        }
        self.take_notices();
        self.take_reports();
        self.take_look();
        let now = Instant::now();
        if now >= self.minute_at {
            self.minute(now);
        }
        if now >= self.alive_at {
            self.alive(now);
        }
        if now >= self.compare_at {
            self.compare_at = now + self.setup.config.audit.compare_every.0;
            self.want_look(now, false);
        }
        if now >= self.full_at {
            self.full_at = now + self.setup.config.audit.full_every.0;
            self.want_look(now, true);
        }
        if self.reader_at.is_some_and(|at| now >= at) {
            self.start_reader();
        }
        if self.look.is_none() && self.look_at.is_some_and(|(at, _)| now >= at) {
            self.start_look();
        }
        if self.save_at.is_some_and(|at| now >= at) {
            self.save(false);
        }
        self.serve();
    }

    fn minute(&mut self, now: Instant) {
        self.minute_at = now + MINUTE;
        self.step(Event::Tick);
        self.open_notices();
        self.walls.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
        self.textfile();
        self.motd();
        let open = self.monitor.open_by_severity().iter().map(|(_, count)| count).sum();
        self.forwarding.minute(&self.monitor.totals, open);
        self.outputs();
    }

    fn alive(&mut self, now: Instant) {
        self.alive_at = now + self.notify.watchdog.map_or(MINUTE, |limit| (limit / 2).min(MINUTE));
        self.notify.alive();
    }

    /// Takes an event to the monitor, and does what it says.
    fn step(&mut self, event: Event) {
        let moment = self.now();
        let actions = self.monitor.step(event, moment);
        if !actions.is_empty() {
            self.act(actions);
        }
    }

    /// Something does not work; told once until it does.
    fn trouble(&mut self, kind: Trouble, subject: &str, why: &str) {
        if self.troubles.insert((kind, subject.to_owned())) {
            self.step(Event::Trouble { kind, subject: subject.to_owned(), why: why.to_owned() });
        }
    }

    fn mended(&mut self, kind: Trouble, subject: &str) {
        if self.troubles.remove(&(kind, subject.to_owned())) {
            self.step(Event::Mended { kind, subject: subject.to_owned() });
        }
    }

    fn report(&mut self, kind: Trouble, subject: &str, result: Result<(), String>) {
        match result {
            Ok(()) => self.mended(kind, subject),
            Err(why) => self.trouble(kind, subject, &why),
        }
    }

    fn reload(&mut self) {
        self.notify.reloading();
        let subject = self.setup.path.as_deref().unwrap_or(Path::new(config::PATH)).display().to_string();
        match (self.setup.reload)() {
            Ok(config) => {
                self.mended(Trouble::Configuration, &subject);
                let before = std::mem::replace(&mut self.setup.config, config);
                let config = &self.setup.config;
                self.monitor.set(config.alerts.clone());
                let moved = before.metrics != config.metrics || before.state.socket != config.state.socket;
                let outputs = before.forward != config.forward || before.state.directory != config.state.directory;
                let logs = before.logs != config.logs || outputs;
                if moved {
                    self.listen();
                }
                if logs {
                    self.stop_reader();
                }
                if outputs {
                    self.save(true);
                    self.forwarding.stop();
                    self.start_forwarding();
                }
                if logs {
                    self.start_reader();
                }
                self.want_look(Instant::now(), true);
                self.journal.tell("the configuration was read anew");
                self.notify.ready("configuration read anew");
            }
            Err(why) => {
                self.trouble(Trouble::Configuration, &subject, &why);
                self.notify.ready(&format!("configuration refused: {why}"));
            }
        }
    }

    fn save(&mut self, last: bool) {
        self.save_at = None;
        self.saved_at = Some(Instant::now());
        let steady = self.now().steady;
        let wait = self.forwarding.ready(steady);
        if wait > 0 && !last {
            return self.save_later(Duration::from_millis(wait));
        }
        // denies that are sent each by itself stand in no sum: they are safe before the place behind them is
        let each = self.forwarding.flush();
        let sums = self.forwarding.cut(steady, last);
        let mut result = self.write(sums.clone());
        // only now: sums that are sent without a place behind them would be made again from the same lines, as others
        let secured = self.forwarding.secure(&sums).and(each);
        if last && secured.is_ok() && result.is_ok() {
            result = self.write(Kept::new());
        }
        self.report(Trouble::Outlet, "forward", secured);
        if result.is_err() {
            // a full disk leaves little to try for
            self.save_later(FULL);
        }
        let folder = self.setup.config.state.directory.display().to_string();
        self.report(Trouble::Outlet, &folder, result);
    }

    /// Not before that, whatever wants it.
    fn save_later(&mut self, wait: Duration) {
        let at = Instant::now() + wait;
        (self.save_at, self.saved_at) = (Some(at), Some(at));
    }

    fn write(&mut self, sums: Kept) -> Result<(), String> {
        let saved = Saved {
            schema: String::new(),
            places: self.places.clone(),
            cursor: self.cursor.clone(),
            sums,
            monitor: self.monitor.written(),
        };
        self.store.save(saved).map_err(|error| format!("state cannot be written: {error}"))
    }

    /// Wants state to be written, this long after it was written last.
    fn want_save(&mut self, after: Duration) {
        let now = Instant::now();
        let at = self.saved_at.map_or(now, |at| now.max(at + after));
        self.save_at = Some(self.save_at.map_or(at, |before| before.min(at)));
    }

    fn end(&mut self) {
        self.notify.stopping();
        self.stop_reader();
        if let Some((look, _)) = self.look.take() {
            look.end();
        }
        self.save(true);
        self.forwarding.stop();
    }

    fn health(&self) -> Health {
        let mut notices = Vec::new();
        let have = [
            ("nf_tables", self.nf_tables.fd().is_some()),
            ("routing", self.routing.fd().is_some()),
            ("files", self.hints.work()),
            ("felix", self.felix.fd().is_some()),
        ];
        notices.extend(have.iter().filter(|(_, have)| *have).map(|(name, _)| (*name).to_owned()));
        Health {
            host: host(),
            pid: std::process::id(),
            started: self.started,
            now: wall_clock(),
            config: self.setup.path.as_deref().map(|path| path.display().to_string()),
            logs: self.logs(),
            notices,
            conntrack: sources::conntrack(),
            took: self.judging,
            looks: self.looks,
            outputs: self.forwarding.outputs(),
        }
    }
}
