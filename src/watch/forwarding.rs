//! Alerts on their way to SIEMs ([`crate::forward`]). They are on the disk before the state that knows them is written, so that
//! a crash between the two repeats an alert, with the same id, and loses none.

use std::time::Duration;

use super::outlets::What;
use crate::config::Config;
use crate::forward::encode::message::{Body, Message, State, id_of};
use crate::forward::sender::{Forwarder, OutputStatus};
use crate::forward::settings;
use crate::logs::time::Micros;
use crate::monitor::alert::Alert;

/// How long the outputs may go on delivering when the daemon ends.
const PATIENCE: Duration = Duration::from_secs(5);

/// The outputs of the configuration, at work.
#[derive(Default)]
pub(super) struct Forwarding {
    forwarder: Option<Forwarder>,
    host: String,
}

fn now() -> Micros {
    super::wall_clock().saturating_mul(1000)
}

impl Forwarding {
    /// Starts the outputs. What was damaged on the disk is told, and why they cannot be started.
    pub(super) fn start(config: &Config, host: &str) -> (Self, Vec<String>) {
        if config.forward.is_empty() {
            return (Self::default(), Vec::new());
        }
        let outputs = config.forward.iter().map(settings::output).collect();
        match Forwarder::start(&config.state.directory.join("spool"), outputs, host, now) {
            Ok((forwarder, remarks)) => (Self { forwarder: Some(forwarder), host: host.to_owned() }, remarks),
            Err(error) => (Self::default(), vec![format!("nothing is forwarded: {error}")]),
        }
    }

    /// Puts an alert into the queues.
    pub(super) fn alert(&self, what: What, alert: &Alert) {
        let Some(forwarder) = &self.forwarder else { return };
        let (state, at) = match what {
            What::Raised => (State::New, alert.last_seen),
            What::Reminded => (State::Open, alert.last_seen),
            What::Resolved => (State::Resolved, alert.resolved.unwrap_or(alert.last_seen)),
        };
        let id = id_of(&[alert.finding.fingerprint.as_bytes(), state.name().as_bytes(), &at.to_le_bytes()]);
        let body = Body::Finding { finding: &alert.finding, state };
        forwarder.submit(&Message { id, time: at.saturating_mul(1000), host: &self.host, body });
    }

    /// Waits until the disk has them.
    pub(super) fn flush(&self) -> Result<(), String> {
        self.forwarder.as_ref().map_or(Ok(()), |forwarder| forwarder.flush().map_err(|failed| failed.join("; ")))
    }

    /// How the outputs are doing.
    pub(super) fn status(&self) -> Vec<OutputStatus> {
        self.forwarder.as_ref().map(Forwarder::status).unwrap_or_default()
    }

    /// Delivers what can be delivered in a few seconds; the rest stays on the disk.
    pub(super) fn stop(&mut self) {
        if let Some(forwarder) = self.forwarder.take() {
            forwarder.stop(PATIENCE);
        }
    }
}
