//! What the daemon sends on: alerts at once, denies summed, a sign of life each hour.
//!
//! A place in a log is kept only when the denies before it are in the queues on the disk: [`Forwarding::ready`] says when, and
//! [`Forwarding::secure`] sees to it.

use std::time::Duration;

use super::outlets::What;
use crate::config::{Config, Denies, Forward};
use crate::forward::encode::message::{Body, Message, Notice, NoticeKind, State, id_of};
use crate::forward::sender::{Forwarder, OutputStatus};
use crate::forward::settings;
use crate::forward::sum::{Sum, Summer, Told};
use crate::monitor::Totals;
use crate::monitor::alert::Alert;
use crate::report::status::Output;

/// Between signs of life, in minutes.
const HEARTBEAT: u64 = 60;

/// Longest time a place in a log waits for sums to close: after a crash so much is read again.
const LONGEST: u64 = 60_000;

/// Time to deliver what is left when the daemon ends.
const LAST: Duration = Duration::from_secs(3);

/// A way that fails for so long is told, in milliseconds: collectors restart.
const PATIENCE: i64 = 60_000;

#[derive(Default)]
pub(super) struct Forwarding {
    forwarder: Option<Forwarder>,
    /// One for each output; `None` where denies are not sent.
    sums: Vec<Option<Summer>>,
    /// For how long at most sums stay open, and since when some are, in milliseconds of the steady clock.
    longest: u64,
    since: Option<u64>,
    host: String,
    minutes: u64,
}

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
        let over: Vec<Option<Duration>> = config.forward.iter().map(over).collect();
        let longest = over.iter().flatten().max().map_or(0, |over| u64::try_from(over.as_millis()).unwrap_or(LONGEST));
        match Forwarder::start(&folder, outputs, &host, now) {
            Ok((forwarder, remarks)) => {
                let sums = over.into_iter().map(|over| over.map(Summer::new)).collect();
                let longest = longest.min(LONGEST);
                (Self { forwarder: Some(forwarder), sums, longest, since: None, host, minutes: 0 }, remarks)
            }
            Err(error) => (Self::default(), vec![format!("nothing is forwarded: {error}")]),
        }
    }

    /// Whether denies are wanted, and then whether each.
    pub(super) fn takes_denies(&self) -> Option<bool> {
        let mut wanted = self.sums.iter().flatten().peekable();
        wanted.peek()?;
        Some(wanted.any(Summer::is_each))
    }

    /// Takes denies that were read.
    pub(super) fn denies(&mut self, told: Vec<Told>, steady: u64) {
        let Some(forwarder) = &self.forwarder else { return };
        let time = micros(steady);
        for one in told {
            for (index, summer) in self.sums.iter_mut().enumerate() {
                if let Some(summer) = summer {
                    let closed = summer.take(one.clone(), time);
                    send(forwarder, index, &closed, &self.host);
                }
            }
            self.since.get_or_insert(steady);
        }
    }

    /// Sums whose time is over go on.
    pub(super) fn due(&mut self, steady: u64) {
        let Some(forwarder) = &self.forwarder else { return };
        for (index, summer) in self.sums.iter_mut().enumerate() {
            if let Some(summer) = summer {
                let closed = summer.due(micros(steady));
                send(forwarder, index, &closed, &self.host);
            }
        }
    }

    /// How many milliseconds to wait until a place in a log may be kept without cutting sums short; 0: now.
    pub(super) fn ready(&self, steady: u64) -> u64 {
        match self.since {
            Some(since) if self.sums.iter().flatten().any(|summer| !summer.is_empty()) => {
                (since + self.longest).saturating_sub(steady)
            }
            _ => 0,
        }
    }

    /// Closes all sums and waits until the disk has everything.
    ///
    /// # Errors
    /// An output's queue cannot be written.
    pub(super) fn secure(&mut self) -> Result<(), String> {
        let Some(forwarder) = &self.forwarder else { return Ok(()) };
        for (index, summer) in self.sums.iter_mut().enumerate() {
            if let Some(summer) = summer {
                send(forwarder, index, &summer.close(), &self.host);
            }
        }
        self.since = None;
        forwarder.flush().map_err(|failed| failed.join("; "))
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

    /// Outputs with whether their way works, and why not.
    pub(super) fn troubles(&self) -> Vec<(String, Result<(), String>)> {
        self.outputs()
            .into_iter()
            .map(|output| {
                let silent = output.waiting > 0
                    && output.failed_at.is_some_and(|failed| {
                        let good = output.delivered_at.unwrap_or(0);
                        failed > good && (output.act || failed - good.max(output.waiting_since) >= PATIENCE)
                    });
                let why = || format!("{}: {}", output.target, output.failure.clone().unwrap_or_default());
                (format!("forward {}", output.name), if silent { Err(why()) } else { Ok(()) })
            })
            .collect()
    }

    /// Delivers what can be delivered quickly, and ends.
    pub(super) fn stop(&mut self) {
        let _ = self.secure();
        if let Some(forwarder) = self.forwarder.take() {
            let _ = forwarder.stop(LAST);
        }
    }
}

fn micros(steady: u64) -> i64 {
    i64::try_from(steady).unwrap_or(i64::MAX / 1000).saturating_mul(1000)
}

fn send(forwarder: &Forwarder, output: usize, sums: &[Sum], host: &str) {
    for sum in sums {
        let event = sum.event();
        let time = event.time.unwrap_or_else(now);
        let body = Body::Event { event: &event, raw: sum.line() };
        forwarder.submit_to(output, &Message { id: sum.id().to_owned(), time, host, body });
    }
}

fn shown(status: &OutputStatus) -> Output {
    let milliseconds = |micros: i64| micros / 1000;
    Output {
        name: status.name.clone(),
        target: status.target.clone(),
        connected: status.connected,
        waiting: status.lanes.iter().map(|lane| lane.waiting).sum(),
        waiting_since: status.started / 1000,
        bytes: status.lanes.iter().map(|lane| lane.bytes).sum(),
        delivered: status.delivered,
        refused: status.refused,
        lost: status.lost,
        delivered_at: status.last_success.map(milliseconds),
        failed_at: status.last_failure.as_ref().map(|(at, _, _)| milliseconds(*at)),
        failure: status.last_failure.as_ref().map(|(_, why, _)| why.clone()),
        act: status.last_failure.as_ref().is_some_and(|(_, _, act)| *act),
    }
}
