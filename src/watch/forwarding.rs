//! What the daemon sends on: alerts at once, denies summed, a sign of life each hour.
//!
//! With a place in a log the sums of the denies before it are kept, closed and open ones ([`Forwarding::cut`]); only then do the
//! closed ones go into the queues. So a daemon that dies in between sends the same sums again, and never others of the same
//! lines: what comes twice has one id and says the same.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::outlets::What;
use crate::config::{Config, Denies, Forward};
use crate::forward::encode::message::{Body, Message, Notice, NoticeKind, State, id_of};
use crate::forward::sender::{Forwarder, OutputStatus};
use crate::forward::settings;
use crate::forward::sum::{Summer, Told};
use crate::monitor::Totals;
use crate::monitor::alert::Alert;
use crate::report::status::Output;

/// Between signs of life, in minutes.
const HEARTBEAT: u64 = 60;

/// Longest time a place in a log waits for sums to close: after a crash so much is read again.
const LONGEST: i64 = 60_000_000;

/// Denies sent each by itself that wait in memory for the disk, at most.
const MOST_UNFLUSHED: usize = 16_384;

/// Time to deliver what is left when the daemon ends.
const LAST: Duration = Duration::from_secs(3);

/// A way that fails for so long is told: collectors restart.
const PATIENCE: Duration = Duration::from_secs(60);

/// For so long a refused message is told.
const REFUSED: Duration = Duration::from_secs(3600);

#[derive(Default)]
pub(super) struct Forwarding {
    forwarder: Option<Forwarder>,
    /// One for each output; `None` where denies are not sent.
    sums: Vec<(String, Option<Summer>)>,
    /// When something was first read behind the place that is kept, in microseconds of the steady clock.
    since: Option<i64>,
    /// Messages of denies that were put into a queue since the disk had it.
    unflushed: usize,
    /// Sums of an earlier life that no queue could be had for.
    unsent: Kept,
    host: String,
    minutes: u64,
}

/// Sums of an output that belong to a place in a log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sums {
    /// Closed: to be sent, if that was not done yet.
    closed: Vec<Told>,
    /// Open: to be gone on with.
    open: Vec<Told>,
}

/// Sums by the names of their outputs.
pub(super) type Kept = BTreeMap<String, Sums>;

/// Microseconds since 1970.
fn now() -> i64 {
    super::wall_clock().saturating_mul(1000)
}

impl Forwarding {
    /// Opens the queues and begins to deliver. Remarks tell what was damaged.
    pub(super) fn start(config: &Config, host: String) -> (Self, Vec<String>) {
        if config.forward.is_empty() {
            return (Self::default(), Vec::new());
        }
        let folder = config.state.directory.join("spool");
        let outputs = config.forward.iter().map(settings::output).collect();
        let over = |entry: &Forward| match entry.denies {
            Denies::Off => None,
            Denies::Each => Some(Duration::ZERO),
            Denies::Summed => Some(entry.sum_over.0),
        };
        let sums = config.forward.iter().map(|entry| (entry.name.clone(), over(entry).map(Summer::new))).collect();
        match Forwarder::start(&folder, outputs, &host, now) {
            Ok((forwarder, remarks)) => (Self { forwarder: Some(forwarder), sums, host, ..Self::default() }, remarks),
            Err(error) => (Self::default(), vec![format!("nothing is forwarded: {error}")]),
        }
    }

    /// Whether denies are wanted, and then whether each.
    pub(super) fn takes_denies(&self) -> Option<bool> {
        let mut wanted = self.sums.iter().filter_map(|(_, summer)| summer.as_ref()).peekable();
        wanted.peek()?;
        Some(wanted.any(Summer::is_each))
    }

    /// Takes denies that were read.
    pub(super) fn denies(&mut self, told: Vec<Told>, steady: u64) {
        let Some(forwarder) = &self.forwarder else { return };
        let time = micros(steady);
        for one in told {
            for (index, (_, summer)) in self.sums.iter_mut().enumerate() {
                match summer {
                    // each goes on as it is, whatever is read again
                    Some(summer) if summer.is_each() => {
                        self.unflushed += 1;
                        send(forwarder, index, one.clone(), &self.host);
                    }
                    Some(summer) => summer.take(one.clone(), time),
                    None => {}
                }
            }
            self.since.get_or_insert(time);
        }
    }

    /// Whether so much is open that a place should be kept now.
    pub(super) fn is_full(&self) -> bool {
        self.unflushed >= MOST_UNFLUSHED
            || self.sums.iter().filter_map(|(_, summer)| summer.as_ref()).any(Summer::is_full)
    }

    /// How many milliseconds to wait until a place in a log is to be kept: until the first sums close.
    pub(super) fn ready(&self, steady: u64) -> u64 {
        let time = micros(steady);
        let left = self.sums.iter().filter_map(|(_, summer)| summer.as_ref()?.left(time)).min();
        let latest = self.since.map(|since| LONGEST - (time - since).clamp(0, LONGEST));
        match left {
            Some(_) if self.is_full() => 0,
            Some(left) => u64::try_from(left.min(latest.unwrap_or(left)) / 1000).unwrap_or(0),
            None => 0,
        }
    }

    /// The sums that belong to the place read up to: those whose time is over, or `all`, are closed by it.
    pub(super) fn cut(&mut self, steady: u64, all: bool) -> Kept {
        let time = micros(steady);
        let all = all || self.is_full();
        self.since = None;
        let mut kept = self.unsent.clone();
        for (name, summer) in &mut self.sums {
            let Some(summer) = summer.as_mut().filter(|summer| !summer.is_each()) else { continue };
            let closed = if all { summer.close() } else { summer.due(time) };
            let sums = Sums { closed: closed.iter().map(Told::from).collect(), open: summer.opened() };
            if sums != Sums::default() {
                kept.insert(name.clone(), sums);
            }
        }
        kept
    }

    /// Puts closed sums into the queues, and waits until the disk has everything.
    ///
    /// # Errors
    /// An output's queue cannot be written.
    pub(super) fn secure(&mut self, kept: &Kept) -> Result<(), String> {
        let Some(forwarder) = &self.forwarder else { return Ok(()) };
        for (index, (name, _)) in self.sums.iter().enumerate() {
            for told in kept.get(name).into_iter().flat_map(|sums| &sums.closed) {
                send(forwarder, index, told.clone(), &self.host);
            }
        }
        forwarder.flush().map_err(|failed| failed.join("; "))
    }

    /// Waits until the disk has the denies that are sent each by itself.
    ///
    /// # Errors
    /// An output's queue cannot be written.
    pub(super) fn flush(&mut self) -> Result<(), String> {
        match &self.forwarder {
            Some(forwarder) if std::mem::take(&mut self.unflushed) > 0 => {
                forwarder.flush().map_err(|failed| failed.join("; "))
            }
            _ => Ok(()),
        }
    }

    /// Goes on with the sums of the place that was kept last.
    pub(super) fn resume(&mut self, mut kept: Kept, steady: u64) -> Result<(), String> {
        if self.forwarder.is_none() {
            self.unsent = kept;
            return Ok(());
        }
        for (name, summer) in &mut self.sums {
            let Some(summer) = summer.as_mut().filter(|summer| !summer.is_each()) else { continue };
            for told in kept.get_mut(name).map(|sums| std::mem::take(&mut sums.open)).unwrap_or_default() {
                summer.take(told, micros(steady));
            }
        }
        self.secure(&kept)
    }

    /// An alert goes on at once.
    pub(super) fn alert(&self, what: What, alert: &Alert) {
        let Some(forwarder) = &self.forwarder else { return };
        let (state, at) = match what {
            What::Raised => (State::New, alert.last_seen),
            What::Reminded => (State::Open, alert.last_seen),
            What::Resolved => (State::Resolved, alert.resolved.unwrap_or(alert.last_seen)),
        };
        let finding = &alert.finding;
        let id = id_of(&[b"alert", finding.fingerprint.as_bytes(), state.name().as_bytes(), &at.to_le_bytes()]);
        let body = Body::Finding { finding, state };
        forwarder.submit(&Message { id, time: at.saturating_mul(1000), host: &self.host, body });
        // what cannot be kept is told with the next state
        let _ = forwarder.flush();
    }

    /// A minute passed: each hour a sign of life, so that the collector's silence means something.
    pub(super) fn minute(&mut self, totals: &Totals, open: usize) {
        let Some(forwarder) = &self.forwarder else { return };
        self.minutes += 1;
        if self.minutes % HEARTBEAT != 1 {
            return;
        }
        let time = now();
        let number = |value: u64| value.to_string();
        let notice = Notice {
            kind: NoticeKind::Heartbeat,
            text: format!("hepguard watches {}: {open} open alerts, {} denies so far", self.host, totals.denies),
            fields: vec![
                ("open", open.to_string()),
                ("lines", number(totals.lines)),
                ("denies", number(totals.denies)),
                ("changes", number(totals.changes)),
                ("audits", number(totals.audits)),
            ],
        };
        let id = id_of(&[b"heartbeat", self.host.as_bytes(), &time.to_le_bytes()]);
        forwarder.submit(&Message { id, time, host: &self.host, body: Body::Notice(notice) });
        let _ = forwarder.flush();
    }

    /// How the outputs are doing.
    pub(super) fn outputs(&self) -> Vec<Output> {
        self.forwarder.as_ref().map(|forwarder| forwarder.status().iter().map(shown).collect()).unwrap_or_default()
    }

    /// Outputs with whether their way works, and why not; and whether their collectors lately took messages for bad.
    pub(super) fn troubles(&self) -> Vec<(String, Result<(), String>)> {
        let status = self.forwarder.as_ref().map(Forwarder::status).unwrap_or_default();
        let refused = status.iter().map(|output| {
            let lately = output.refused_ago.is_some_and(|ago| ago < REFUSED);
            let told = output.last_refused.as_ref().filter(|_| lately).map(|(_, path)| {
                let (count, target, path) = (output.refused, &output.target, path.display());
                format!("{target}: the collector refused {count} messages; those set aside are in {path}")
            });
            (format!("forward {}: messages", output.name), told.map_or(Ok(()), Err))
        });
        let ways = status.iter().map(|output| {
            let waits = output.lanes.iter().any(|lane| lane.waiting > 0);
            let (why, act) = output.last_failure.as_ref().map_or(("", false), |(_, why, act)| (why.as_str(), *act));
            let silent = waits && output.failing.is_some_and(|time| act || time >= PATIENCE);
            (format!("forward {}", output.name), if silent { Err(format!("{}: {why}", output.target)) } else { Ok(()) })
        });
        ways.chain(refused).collect()
    }

    /// Delivers what can be delivered quickly, and ends.
    pub(super) fn stop(&mut self) {
        if let Some(forwarder) = self.forwarder.take() {
            let _ = forwarder.stop(LAST);
        }
    }
}

fn micros(steady: u64) -> i64 {
    i64::try_from(steady).unwrap_or(i64::MAX / 1000).saturating_mul(1000)
}

fn send(forwarder: &Forwarder, output: usize, told: Told, host: &str) {
    let Some(sum) = told.sum(0) else { return };
    let event = sum.event();
    let time = event.time.unwrap_or_else(now);
    let body = Body::Event { event: &event, raw: sum.line() };
    forwarder.submit_to(output, &Message { id: sum.id().to_owned(), time, host, body });
}

fn shown(status: &OutputStatus) -> Output {
    let milliseconds = |micros: i64| micros / 1000;
    Output {
        name: status.name.clone(),
        target: status.target.clone(),
        connected: status.connected,
        waiting: status.lanes.iter().map(|lane| lane.waiting).sum(),
        bytes: status.lanes.iter().map(|lane| lane.bytes).sum(),
        delivered: status.delivered,
        refused: status.refused,
        lost: status.lost,
        delivered_at: status.last_success.map(milliseconds),
        failed_at: status.last_failure.as_ref().map(|(at, _, _)| milliseconds(*at)),
        failure: status.last_failure.as_ref().map(|(_, why, _)| why.clone()),
    }
}
