//! Events of several logs as one stream in the order of time.
//!
//! Each log is read by a thread of its own, from front to back, a few batches ahead of the output at most: memory does not
//! grow with the logs. Within a log its own order stands; an event without a time comes where it stands in its log.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::log_reader::{FileResult, Log, scan_one};
use crate::logs::event::Event;
use crate::logs::tally::{Origin, Query, Sink};
use crate::logs::time::Micros;

/// Bytes of a batch.
const BATCH: usize = 32 * 1024;

/// Events as they will be printed, with the time they are ordered by.
type Batch = Vec<(Micros, String)>;

/// Sends events of one log.
struct Sender<'r, R> {
    render: &'r R,
    batch: Batch,
    bytes: usize,
    latest: Micros,
    channel: SyncSender<Batch>,
    gone: bool,
}

impl<R> Sender<'_, R> {
    fn flush(&mut self) {
        self.bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        self.gone |= !batch.is_empty() && self.channel.send(batch).is_err();
    }
}

impl<R: Fn(&Event<'_>, &[u8]) -> String> Sink for Sender<'_, R> {
    fn event(&mut self, event: &Event<'_>, origin: Origin<'_>) {
        self.latest = self.latest.max(event.time.unwrap_or(self.latest));
        let line = (self.render)(event, origin.line);
        self.bytes += line.len();
        self.batch.push((self.latest, line));
        if self.bytes >= BATCH {
            self.flush();
        }
    }

    fn stopped(&self) -> bool {
        self.gone
    }
}

/// Where one log stands.
struct Head {
    ready: VecDeque<(Micros, String)>,
    channel: Receiver<Batch>,
}

impl Head {
    /// The time of the next event; waits for it.
    fn time(&mut self) -> Option<Micros> {
        while self.ready.is_empty() {
            self.ready.extend(self.channel.recv().ok()?);
        }
        self.ready.front().map(|(time, _)| *time)
    }
}

/// Reads all logs and hands `write` the events in the order of time, each as `render` puts it.
///
/// # Errors
/// The first error of `write`; reading stops then.
pub(super) fn merge(
    logs: &[Option<Log>],
    query: &Query,
    done: &AtomicU64,
    render: impl Fn(&Event<'_>, &[u8]) -> String + Sync,
    mut write: impl FnMut(&str) -> io::Result<()>,
) -> io::Result<Vec<FileResult>> {
    std::thread::scope(|scope| {
        let mut heads = Vec::new();
        let mut readers = Vec::new();
        for (log, opened) in logs.iter().enumerate() {
            let (channel, ready) = sync_channel(2);
            heads.push(Head { ready: VecDeque::new(), channel: ready });
            if opened.is_none() {
                readers.push(None);
                continue;
            }
            let render = &render;
            readers.push(Some(scope.spawn(move || {
                let mut sender =
                    Sender { render, batch: Batch::new(), bytes: 0, latest: Micros::MIN, channel, gone: false };
                let result = scan_one(logs, log, query, &mut sender, done);
                sender.flush();
                result
            })));
        }
        let mut written = Ok(());
        while let Some(head) = earliest(&mut heads) {
            if let Some((_, line)) = head.ready.pop_front() {
                written = write(&line);
            }
            if written.is_err() {
                break;
            }
        }
        // readers end when nobody takes what they send
        drop(heads);
        let result = |reader: std::thread::ScopedJoinHandle<'_, FileResult>| {
            reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        let files = readers.into_iter().map(|reader| reader.map(result).unwrap_or_default()).collect();
        written.map(|()| files)
    })
}

/// The log whose next event is the earliest; of equal ones the first named.
fn earliest(heads: &mut [Head]) -> Option<&mut Head> {
    let times = heads.iter_mut().enumerate().filter_map(|(at, head)| Some((head.time()?, at)));
    let (_, at) = times.min()?;
    heads.get_mut(at)
}
