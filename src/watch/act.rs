//! What the loop does with what it met: helpers are started and heard, alerts go to the outlets.

use std::time::{Duration, Instant};

use super::child::Helper;
use super::forwarding::Forwarding;
use super::hints::Hint;
use super::look::Task as LookTask;
use super::outlets::{self, What};
use super::reader::{Report, Task as ReaderTask};
use super::serve::{Ask, Server};
use super::state::replace;
use super::{AGAIN, Daemon, MINUTE, SAVE, SAVE_SOON};
use crate::audit::finding::Severity;
use crate::config::{self, From, Journal};
use crate::monitor::alert::Alert;
use crate::monitor::look::Look;
use crate::monitor::{Action, Event, Trouble};
use crate::report::status;

/// Looks in a row after which the host gets rest between them.
const IN_A_ROW: u32 = 3;

/// Longest rest between looks while changes come.
const REST: Duration = Duration::from_secs(30);

impl Daemon {
    pub(super) fn open_notices(&mut self) {
        let nf_tables = self.nf_tables.open();
        self.report(Trouble::Notices, "nf_tables", nf_tables);
        let routing = self.routing.open();
        self.report(Trouble::Notices, "routing", routing);
        let files = if self.hints.work() { Ok(()) } else { Err("changes of files are not told".to_owned()) };
        self.report(Trouble::Notices, "files", files);
    }

    pub(super) fn take_notices(&mut self) {
        let now = Instant::now();
        let notices = self.nf_tables.read();
        if notices.overflow || !notices.changes.is_empty() {
            self.want_look(now, true);
        }
        for change in notices.changes {
            self.step(Event::Changed(change));
        }
        if self.routing.read() {
            self.want_look(now, true);
        }
        for hint in self.hints.read() {
            // the looks' own tools are no news; what they find is compared with what was there
            self.want_look(now, hint == Hint::File);
        }
        if let Some(pid) = self.felix.ended() {
            self.step(Event::FelixEnded(pid));
            self.want_look(now, true);
        }
    }

    /// A look is wanted, once things have settled. In a flood the host gets as much rest as a look takes, and more.
    pub(super) fn want_look(&mut self, now: Instant, judge: bool) {
        let mut at = now + self.setup.config.audit.settle.0;
        if let Some((ended, took)) = self.looked
            && self.in_a_row >= IN_A_ROW
        {
            at = at.max(ended + (took * 4).min(REST));
        }
        self.look_at = Some(match self.look_at {
            Some((before, judged)) => (before.min(at), judged || judge),
            None => (at, judge),
        });
    }

    pub(super) fn start_look(&mut self) {
        let judge = self.look_at.take().is_some_and(|(_, judge)| judge);
        let now = Instant::now();
        let close = self.looked.is_some_and(|(ended, took)| now.duration_since(ended) < took * 2);
        self.in_a_row = if close { self.in_a_row.saturating_add(1) } else { 0 };
        let protect = config::write(&self.setup.config.protect);
        let outputs = self.setup.config.collectors();
        let task = LookTask { judge, parts: self.monitor.parts().clone(), protect, outputs };
        let started = serde_json::to_vec(&task).map_err(Into::into).and_then(|task| Helper::start("look", &task));
        match started {
            Ok(helper) => {
                self.looks += 1;
                self.look = Some((helper, judge));
            }
            Err(error) => {
                self.looked = Some((now, MINUTE));
                self.step(Event::NotLooked(format!("no process could be started: {error}")));
            }
        }
    }

    pub(super) fn take_look(&mut self) {
        let Some((mut helper, judge)) = self.look.take() else { return };
        let started = helper.started;
        let limit = self.setup.config.audit.timeout.0;
        let said = match helper.read() {
            Ok(said) => said,
            Err(error) => return self.look_failed(started, format!("{error} ({})", helper.end())),
        };
        if let Some(line) = said.lines.first() {
            let look = serde_json::from_slice::<Look>(line);
            let _ = helper.ended();
            self.looked = Some((Instant::now(), started.elapsed()));
            self.own_hints(judge);
            match look {
                Ok(look) => self.looked(look),
                Err(error) => self.look_failed(started, format!("its answer cannot be read: {error}")),
            }
        } else if said.ended {
            let how = helper.ended();
            self.look_failed(started, format!("it ended without an answer ({how})"));
        } else if started.elapsed() >= limit {
            helper.end();
            self.look_failed(started, format!("not done within {}", self.setup.config.audit.timeout));
        } else {
            self.look = Some((helper, judge));
        }
    }

    /// A look that collects runs the tools that are watched, so it is compared once more; one that compares is believed.
    fn own_hints(&mut self, judged: bool) {
        for hint in self.hints.read() {
            if hint == Hint::File || judged {
                self.want_look(Instant::now(), hint == Hint::File);
            }
        }
    }

    fn look_failed(&mut self, started: Instant, why: String) {
        self.looked = Some((Instant::now(), started.elapsed()));
        self.step(Event::NotLooked(why));
    }

    fn looked(&mut self, look: Look) {
        let judged = look.judged.is_some();
        if let Some(pid) = look.judged.as_ref().and_then(|judged| judged.felix) {
            self.felix.follow(pid);
        }
        if judged {
            self.judging = Some(look.took);
        }
        self.step(Event::Looked(Box::new(look)));
        if judged {
            self.want_save(SAVE_SOON);
        }
    }

    pub(super) fn start_reader(&mut self) {
        self.reader_at = None;
        let logs = &self.setup.config.logs;
        self.follows_journal = match logs.journal {
            Journal::On => true,
            Journal::Off => false,
            Journal::Auto => !logs.files.iter().any(|file| file.exists()),
        };
        let task = ReaderTask {
            files: logs.files.clone(),
            journal: self.follows_journal,
            from_beginning: logs.from == From::Beginning,
            places: self.places.clone(),
            cursor: self.cursor.clone(),
            denies: self.forwarding.takes_denies(),
        };
        let started = serde_json::to_vec(&task).map_err(Into::into).and_then(|task| Helper::start("read", &task));
        self.names.clear();
        match started {
            Ok(helper) => self.reader = Some(helper),
            Err(error) => self.reader_failed(&format!("cannot be started: {error}")),
        }
    }

    /// Takes what the reader still has to say: what it read counts, and the place goes with it.
    pub(super) fn stop_reader(&mut self) {
        self.take_reports();
        if let Some(reader) = self.reader.take() {
            reader.end();
        }
    }

    fn reader_failed(&mut self, why: &str) {
        self.reader = None;
        let wait = AGAIN * 2_u32.saturating_pow(self.reader_failures.min(6));
        self.reader_failures = self.reader_failures.saturating_add(1);
        self.reader_at = Some(Instant::now() + wait);
        self.trouble(Trouble::Log, "reader", &format!("the reader of logs {why}; it is started again"));
    }

    pub(super) fn take_reports(&mut self) {
        let Some(reader) = &mut self.reader else { return };
        let said = match reader.read() {
            Ok(said) => said,
            Err(error) => {
                if let Some(reader) = self.reader.take() {
                    reader.end();
                }
                return self.reader_failed(&error.to_string());
            }
        };
        for line in said.lines {
            let report = serde_json::from_slice::<Report>(&line).map_err(|error| error.to_string());
            if let Err(error) = report.and_then(|report| self.hear(report)) {
                if let Some(reader) = self.reader.take() {
                    reader.end();
                }
                return self.reader_failed(&format!("says what cannot be read: {error}"));
            }
        }
        if said.ended
            && let Some(reader) = self.reader.take()
        {
            let how = reader.ended();
            self.reader_failed(&format!("ended ({how})"));
        }
    }

    fn hear(&mut self, report: Report) -> Result<(), String> {
        match report {
            Report::Read { found, file, cursor, denies } => {
                let batch = found.batch(&mut self.names).ok_or("a kind of denies without a name")?;
                self.reader_failures = 0;
                let steady = self.now().steady;
                self.forwarding.denies(denies, steady);
                self.mended(Trouble::Log, "reader");
                if let Some(file) = file {
                    let (path, places) = *file;
                    self.places.insert(path, places);
                }
                self.cursor = cursor.or_else(|| self.cursor.take());
                self.step(Event::Logs(batch));
                if self.forwarding.is_full() {
                    self.save(false);
                } else {
                    self.want_save(if self.forwarding.takes_denies().is_some() { SAVE_SOON } else { SAVE });
                }
            }
            Report::Trouble { subject, why, lost: false } => self.trouble(Trouble::Log, &subject, &why),
            // each loss counts
            Report::Trouble { subject, why, lost: true } => {
                self.step(Event::Trouble { kind: Trouble::Lost, subject, why });
            }
            Report::Mended { subject } => self.mended(Trouble::Log, &subject),
        }
        Ok(())
    }

    pub(super) fn act(&mut self, actions: Vec<Action>) {
        let mut alerts = false;
        for action in actions {
            match action {
                Action::Raise(alert) => {
                    alerts = true;
                    self.say(What::Raised, &alert);
                    if self.setup.config.alerts.wall && alert.finding.severity == Severity::Critical {
                        let result = outlets::wall(&alert).map(|child| self.walls.push(child));
                        self.report(Trouble::Outlet, "wall", result.map_err(|error| error.to_string()));
                    }
                }
                Action::Resolve(alert) => {
                    alerts = true;
                    self.say(What::Resolved, &alert);
                }
                Action::Remind(alert) => self.say(What::Reminded, &alert),
                Action::Tell(text) => self.journal.tell(&text),
                Action::LookIn(milliseconds) => {
                    let at = Instant::now() + Duration::from_millis(milliseconds);
                    let (before, judge) = self.look_at.unwrap_or((at, true));
                    self.look_at = Some((before.min(at), judge));
                }
            }
        }
        if alerts {
            self.want_save(SAVE_SOON);
            self.motd();
            self.textfile();
            let open: usize = self.monitor.open_by_severity().iter().map(|(_, count)| count).sum();
            self.notify.status(&format!("{open} open alerts"));
        }
    }

    fn say(&self, what: What, alert: &Alert) {
        if self.monitor.is_loud(alert) {
            self.journal.alert(what, alert);
            self.forwarding.alert(what, alert);
        }
    }

    pub(super) fn start_forwarding(&mut self) {
        let (forwarding, troubles) = Forwarding::start(&self.setup.config, super::host());
        self.forwarding = forwarding;
        let result = if troubles.is_empty() { Ok(()) } else { Err(troubles.join("; ")) };
        self.report(Trouble::Outlet, "forward queues", result);
    }

    /// Outputs that do not deliver.
    pub(super) fn outputs(&mut self) {
        for (subject, works) in self.forwarding.troubles() {
            self.report(Trouble::Outlet, &subject, works);
        }
    }

    pub(super) fn motd(&mut self) {
        let Some(path) = self.setup.config.alerts.motd.clone() else { return };
        let sorted = self.monitor.book.sorted();
        let worst: Vec<&Alert> =
            sorted.into_iter().filter(|alert| alert.is_open() && alert.finding.severity >= Severity::High).collect();
        let result = outlets::motd(&path, &self.monitor.open_by_severity(), &worst);
        self.report(Trouble::Outlet, &path.display().to_string(), result.map_err(|error| error.to_string()));
    }

    pub(super) fn textfile(&mut self) {
        let Some(path) = self.setup.config.metrics.textfile.clone() else { return };
        let text = status::metrics(&self.monitor, &self.health());
        let result = replace(&path, text.as_bytes(), 0o644, true).map_err(|error| error.to_string());
        self.report(Trouble::Outlet, &path.display().to_string(), result);
    }

    pub(super) fn serve(&mut self) {
        // out of the way, so that an answer may look at everything else
        let mut server = std::mem::replace(&mut self.server, Server::new());
        server.serve(Instant::now(), &mut |ask| match ask {
            Ask::Status => crate::report::json_text(&status::document(&self.monitor, &self.health())),
            Ask::Metrics => status::metrics(&self.monitor, &self.health()),
        });
        self.server = server;
    }
}
