//! Outputs at work: each has two queues on the disk, one for findings and words about hepguard itself, one for denies, so that
//! a flood of denies never pushes a finding out; and a thread that delivers, findings first.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::aside::Aside;
use super::encode::Encoding;
use super::encode::message::{Body, Message, Notice, NoticeKind, id_of};
use super::pace::Pace;
use super::spool::{Item, Limits, Spool, Status};
use super::transport::{self, Failure, Link, Refusal, Target};
use crate::audit::finding::Severity;
use crate::logs::time::Micros;

/// Most bytes handed to a link at once.
const BATCH_BYTES: usize = 256 * 1024;

/// Most messages handed to a link at once.
const BATCH: usize = 256;

/// A connection that lived this long was a good one: the next failure waits the shortest time again.
const HEALTHY: Duration = Duration::from_secs(30);

/// The part of an output's room that is kept for findings.
const VITAL_PART: u64 = 8;

/// Words of the notice about a message that was set aside.
const SET_ASIDE: &str = "refused by the collector and set aside";

/// Names of the queues, which are those of their folders.
pub const LANES: [&str; 2] = ["findings", "denies"];

/// An output as configured.
#[derive(Clone, Debug)]
pub struct Output {
    /// Its name: letters, digits, `-` and `_`; the folder of its queues.
    pub name: String,
    /// Where to.
    pub target: Target,
    /// In which form.
    pub encoding: Encoding,
    /// Room for its queues on the disk, in bytes.
    pub max_bytes: u64,
    /// Messages a second at most.
    pub max_per_second: u32,
    /// Findings below are not sent.
    pub least: Severity,
    /// Whether denies are sent.
    pub denies: bool,
    /// Shortest and longest wait after a failure.
    pub retry: (Duration, Duration),
}

/// How an output is doing.
#[derive(Clone, Debug, Default)]
pub struct OutputStatus {
    /// Its name.
    pub name: String,
    /// Where to, in words.
    pub target: String,
    /// The queues: findings, denies.
    pub lanes: [Status; 2],
    /// Whether there is a connection now.
    pub connected: bool,
    /// Messages delivered by this process.
    pub delivered: u64,
    /// Messages the collector took for bad.
    pub refused: u64,
    /// When it last did, and where a message that only it can judge is kept.
    pub last_refused: Option<(Micros, PathBuf)>,
    /// How long ago that was, by a clock that never jumps.
    pub refused_ago: Option<Duration>,
    /// Messages that were lost before they could be sent, as the collector was told.
    pub lost: u64,
    /// When something was last delivered.
    pub last_success: Option<Micros>,
    /// The last failure: when, what, and whether someone has to act.
    pub last_failure: Option<(Micros, String, bool)>,
    /// For how long nothing was delivered since a first failure, by a clock that never jumps; `None` when it works.
    pub failing: Option<Duration>,
}

#[derive(Default)]
struct Health {
    connected: bool,
    delivered: u64,
    refused: u64,
    last_refused: Option<(Micros, Instant)>,
    lost: u64,
    last_success: Option<Micros>,
    last_failure: Option<(Micros, String, bool)>,
    failing_since: Option<Instant>,
}

struct Shared {
    output: Output,
    host: String,
    now: fn() -> Micros,
    lanes: Mutex<[Spool; 2]>,
    more: Condvar,
    /// Until when to go on delivering once the end is near.
    end: Mutex<Option<Instant>>,
    health: Mutex<Health>,
    aside: Mutex<Aside>,
}

/// A poisoned lock guards plain data that is sound between any two statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All outputs.
pub struct Forwarder {
    outputs: Vec<(Arc<Shared>, JoinHandle<()>)>,
}

impl Forwarder {
    /// Opens the queues below `state` and starts to deliver. `host` is the name messages carry, `now` the clock. Remarks
    /// tell what was damaged.
    ///
    /// # Errors
    /// A queue's folder cannot be made or is held by another process.
    pub fn start(
        state: &Path,
        outputs: Vec<Output>,
        host: &str,
        now: fn() -> Micros,
    ) -> io::Result<(Self, Vec<String>)> {
        let (mut running, mut remarks) = (Vec::new(), Vec::new());
        for output in outputs {
            let folder = state.join(&output.name);
            let (lanes, told) = lanes(&folder, &output)?;
            remarks.extend(told);
            let shared = Arc::new(Shared {
                output,
                host: host.to_owned(),
                now,
                lanes: Mutex::new(lanes),
                more: Condvar::new(),
                end: Mutex::new(None),
                health: Mutex::new(Health::default()),
                aside: Mutex::new(Aside::new(&folder)),
            });
            let theirs = Arc::clone(&shared);
            let thread = std::thread::Builder::new().name("forward".to_owned()).spawn(move || theirs.run())?;
            running.push((shared, thread));
        }
        Ok((Self { outputs: running }, remarks))
    }

    /// Puts a message into the queue of every output that wants it. It is safe after [`Self::flush`].
    pub fn submit(&self, message: &Message<'_>) {
        for (shared, _) in &self.outputs {
            shared.put(message);
        }
    }

    /// Puts a message into the queue of one output, by its place in the list it was started with.
    pub fn submit_to(&self, output: usize, message: &Message<'_>) {
        if let Some((shared, _)) = self.outputs.get(output) {
            shared.put(message);
        }
    }

    /// Waits until the disk has what was submitted; only then may the source's position move on.
    ///
    /// # Errors
    /// An output's queue cannot be written: by name. What it could not keep is counted and told to its collector.
    pub fn flush(&self) -> Result<(), Vec<String>> {
        let mut failed = Vec::new();
        for (shared, _) in &self.outputs {
            for (lane, spool) in lock(&shared.lanes).iter_mut().enumerate() {
                if let Err(error) = spool.flush() {
                    failed.push(format!("{}: {}: {error}", shared.output.name, LANES[lane]));
                }
            }
            shared.more.notify_one();
        }
        if failed.is_empty() { Ok(()) } else { Err(failed) }
    }

    /// How the outputs are doing.
    #[must_use]
    pub fn status(&self) -> Vec<OutputStatus> {
        self.outputs.iter().map(|(shared, _)| shared.status()).collect()
    }

    /// Delivers what is there for up to `patience`, then ends. What is left stays on the disk.
    pub fn stop(self, patience: Duration) -> Vec<OutputStatus> {
        let _ = self.flush();
        for (shared, _) in &self.outputs {
            *lock(&shared.end) = Some(Instant::now() + patience);
            shared.more.notify_one();
        }
        let mut last = Vec::new();
        for (shared, thread) in self.outputs {
            let _ = thread.join();
            last.push(shared.status());
        }
        last
    }
}

/// A message that was handed to a link and is not delivered yet.
struct OnItsWay {
    lane: usize,
    /// The last number it stands for.
    last: u64,
    /// Messages it tells the loss of.
    lost: u64,
    payload: Vec<u8>,
}

/// Whether something is not delivered yet.
fn has_waiting(lanes: &[Spool; 2]) -> bool {
    lanes.iter().any(|spool| spool.status().waiting > 0)
}

/// The two queues of an output.
fn lanes(folder: &Path, output: &Output) -> io::Result<([Spool; 2], Vec<String>)> {
    let vital = output.max_bytes / VITAL_PART;
    let open = |lane: usize, bytes| {
        Spool::open(&folder.join(LANES[lane]), Limits::of(bytes))
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", folder.join(LANES[lane]).display())))
    };
    let (findings, mut remarks) = open(0, vital)?;
    let (denies, more) = open(1, output.max_bytes - vital)?;
    remarks.extend(more);
    Ok(([findings, denies], remarks))
}

impl Output {
    fn wants(&self, message: &Message<'_>) -> bool {
        match &message.body {
            Body::Event { .. } => self.denies,
            // what was told has to be told resolved
            Body::Finding { finding, .. } => finding.severity >= self.least,
            Body::Notice(_) => true,
        }
    }
}

impl Shared {
    /// Puts a message into its queue if the output wants it.
    fn put(&self, message: &Message<'_>) {
        if !self.output.wants(message) {
            return;
        }
        let lane = usize::from(matches!(message.body, Body::Event { .. }));
        let line = |sequence| self.output.encoding.payload(message, (LANES[lane], sequence));
        let _ = lock(&self.lanes)[lane].put(line);
    }

    fn status(&self) -> OutputStatus {
        let lanes = lock(&self.lanes);
        let health = lock(&self.health);
        OutputStatus {
            name: self.output.name.clone(),
            target: self.output.target.to_string(),
            lanes: [lanes[0].status(), lanes[1].status()],
            connected: health.connected,
            delivered: health.delivered,
            refused: health.refused,
            last_refused: health.last_refused.map(|(at, _)| (at, lock(&self.aside).path().to_owned())),
            refused_ago: health.last_refused.map(|(_, at)| at.elapsed()),
            lost: health.lost,
            last_success: health.last_success,
            last_failure: health.last_failure.clone(),
            failing: health.failing_since.map(|since| since.elapsed()),
        }
    }

    /// Whether it is time to end, with work left or without.
    fn is_over(&self, idle: bool) -> bool {
        lock(&self.end).is_some_and(|end| idle || Instant::now() >= end)
    }

    /// Waits for `patience` at most: for messages until there are some or the end is near, else until the end has come.
    fn pause(&self, patience: Duration, for_messages: bool) {
        let until = Instant::now() + patience;
        let mut lanes = lock(&self.lanes);
        loop {
            let last = lock(&self.end).map_or(until, |end| end.min(until));
            let left = last.saturating_duration_since(Instant::now());
            if left.is_zero() || for_messages && has_waiting(&lanes) || self.is_over(for_messages) {
                return;
            }
            lanes = self.more.wait_timeout(lanes, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn run(&self) {
        let (shortest, longest) = self.output.retry;
        let mut wait = shortest;
        let mut pace = Pace::new(self.output.max_per_second, Instant::now());
        loop {
            if !has_waiting(&lock(&self.lanes)) {
                if self.is_over(true) {
                    return;
                }
                self.pause(Duration::from_secs(3600), true);
                continue;
            }
            let started = Instant::now();
            let failure = match transport::open(&self.output.target) {
                Ok(mut link) => {
                    lock(&self.health).connected = true;
                    let outcome = self.deliver(link.as_mut(), &mut pace);
                    lock(&self.health).connected = false;
                    match outcome {
                        Ok(()) if self.is_over(false) => return,
                        Ok(()) => continue,
                        Err(failure) => failure,
                    }
                }
                Err(failure) => failure,
            };
            let refused = matches!(failure, Failure::Refused(_));
            let mut health = lock(&self.health);
            health.failing_since.get_or_insert_with(Instant::now);
            // of one message it was told already
            if !matches!(failure, Failure::Unwanted(_)) {
                health.last_failure = Some(((self.now)(), failure.to_string(), refused));
            }
            drop(health);
            if started.elapsed() >= HEALTHY {
                wait = shortest;
            }
            // chance keeps many hosts from knocking at once
            let most = if refused { longest } else { wait };
            self.pause(shortest.min(most / 2) + most.mul_f64(fastrand::f64()), false);
            wait = (2 * wait).min(longest);
            if self.is_over(false) {
                return;
            }
        }
    }

    /// Delivers over an open way until it breaks, or there is nothing left and the end has come.
    fn deliver(&self, link: &mut dyn Link, pace: &mut Pace) -> Result<(), Failure> {
        for spool in lock(&self.lanes).iter_mut() {
            spool.rewind();
        }
        let mut open: VecDeque<OnItsWay> = VecDeque::new();
        loop {
            if self.is_over(false) {
                return Ok(());
            }
            let room = link.window().saturating_sub(open.len()).min(BATCH);
            let due = pace.take(room, Instant::now());
            let (lane, items) = self.next(due);
            pace.give_back(due - items.len());
            // more waits than is due
            let early = room > 0 && due == 0 && has_waiting(&lock(&self.lanes));
            let outcome = if items.is_empty() {
                if self.is_over(open.is_empty() && !early) {
                    return Ok(());
                }
                let patience = match early {
                    _ if open.is_empty() => Duration::ZERO,
                    true => pace.wait(),
                    false => Duration::from_millis(500),
                };
                match link.settle(patience) {
                    // nothing was on the way: the collector may go as it likes
                    Err(_) if open.is_empty() => return Ok(()),
                    other => other,
                }
            } else {
                let messages: Vec<Vec<u8>> = items.iter().map(|item| self.payload(lane, item)).collect();
                let outcome = link.send(&messages);
                let sent = items.iter().zip(messages);
                open.extend(sent.map(|(item, payload)| OnItsWay {
                    lane,
                    last: item.last(),
                    lost: item.lost(),
                    payload,
                }));
                outcome
            };
            if let (Err(Failure::Unwanted(why)), Some(front)) = (&outcome, open.front()) {
                self.unwanted(front, why);
            }
            let delivered = self.delivered(outcome?, &mut open);
            for refusal in link.refused() {
                self.refused(&refusal, &delivered);
            }
            if items.is_empty() && open.is_empty() {
                match early {
                    true => self.pause(pace.wait(), false),
                    false => self.pause(Duration::from_secs(5), true),
                }
            }
        }
    }

    /// What goes next: findings before denies.
    fn next(&self, room: usize) -> (usize, Vec<Item>) {
        let mut lanes = lock(&self.lanes);
        for (lane, spool) in lanes.iter_mut().enumerate() {
            let items = spool.read(room, BATCH_BYTES);
            if !items.is_empty() {
                return (lane, items);
            }
        }
        (0, Vec::new())
    }

    fn payload(&self, lane: usize, item: &Item) -> Vec<u8> {
        let (from, to) = match item {
            Item::Message { payload, .. } => return payload.clone(),
            Item::Gap { from, to } => (*from, *to),
        };
        let why = format!("{} messages of the queue {} were lost before they could be sent", item.lost(), LANES[lane]);
        self.output.encoding.payload(&self.gap(lane, (from, to), to - from + 1, &why), (LANES[lane], to))
    }

    /// The word about messages that the collector will not get: so many of those from the first number to the last.
    fn gap(&self, lane: usize, (from, to): (u64, u64), lost: u64, why: &str) -> Message<'_> {
        let name = &self.output.name;
        Message {
            id: id_of(&[b"gap", name.as_bytes(), LANES[lane].as_bytes(), &from.to_le_bytes(), &to.to_le_bytes()]),
            time: (self.now)(),
            host: &self.host,
            body: Body::Notice(Notice {
                kind: NoticeKind::Gap,
                text: format!("{why}: {from} to {to}"),
                fields: vec![
                    ("from", from.to_string()),
                    ("to", to.to_string()),
                    ("lost", lost.to_string()),
                    ("queue", LANES[lane].to_owned()),
                ],
            }),
        }
    }

    /// The collector refuses the message in front. After some tries it is set aside and told as a gap, so that what waits
    /// behind it arrives.
    fn unwanted(&self, front: &OnItsWay, why: &str) {
        let mut aside = lock(&self.aside);
        if !aside.refused(front.lane, front.last) {
            lock(&self.health).last_failure = Some(((self.now)(), why.to_owned(), false));
            return;
        }
        drop(aside);
        lock(&self.lanes)[front.lane].ack(front.last);
        self.set_aside(std::slice::from_ref(front), 1, why);
    }

    /// The collector took others of the same request, and not these, or some of these.
    fn refused(&self, refusal: &Refusal, delivered: &[OnItsWay]) {
        if let Some(messages) = delivered.get(refusal.among.clone()).filter(|messages| !messages.is_empty()) {
            self.set_aside(messages, refusal.count, &refusal.why);
        }
    }

    /// Keeps messages of one queue of which the collector will not take `count`, and tells it which numbers it will not see.
    fn set_aside(&self, messages: &[OnItsWay], count: usize, why: &str) {
        let mut aside = lock(&self.aside);
        let kept = aside.keep(&messages.iter().map(|message| message.payload.as_slice()).collect::<Vec<_>>());
        let path = aside.path().display().to_string();
        drop(aside);
        let what = if messages.len() == 1 { "the message is" } else { "they are among the messages" };
        let text = match kept {
            Ok(()) => format!("{why}; {what} in {path}"),
            Err(error) => format!("{why}; what was refused could not be kept in {path}: {error}"),
        };
        let now = (self.now)();
        let mut health = lock(&self.health);
        health.refused += count as u64;
        health.last_refused = Some((now, Instant::now()));
        health.last_failure = Some((now, text, true));
        drop(health);
        // a word about a gap that is refused itself has no other word about it
        let is_word =
            |one: &OnItsWay| one.lost > 0 || memchr::memmem::find(&one.payload, SET_ASIDE.as_bytes()).is_some();
        if let (Some(first), Some(last)) = (messages.first(), messages.last())
            && !messages.iter().all(is_word)
        {
            let some = if count < messages.len() { format!(" among {}", messages.len()) } else { String::new() };
            let plural = if count == 1 { "" } else { "s" };
            let why = format!("{count} message{plural}{some} of the queue {} {SET_ASIDE}", LANES[first.lane]);
            let told = self.gap(first.lane, (first.last, last.last), count as u64, &why);
            self.put(&told);
        }
        for spool in lock(&self.lanes).iter_mut() {
            // what the disk does not take is told as a gap of its own
            let _ = spool.flush();
        }
    }

    /// Takes messages that are delivered off the queues, and gives them.
    fn delivered(&self, count: usize, open: &mut VecDeque<OnItsWay>) -> Vec<OnItsWay> {
        if count == 0 {
            return Vec::new();
        }
        let mut lanes = lock(&self.lanes);
        let mut lost = 0;
        let delivered: Vec<OnItsWay> = open.drain(..count.min(open.len())).collect();
        for one in &delivered {
            lanes[one.lane].ack(one.last);
            lost += one.lost;
        }
        for spool in lanes.iter_mut() {
            // a mark that is not written only means that messages are sent twice
            let _ = spool.save();
        }
        drop(lanes);
        let mut health = lock(&self.health);
        health.delivered += count as u64;
        health.lost += lost;
        health.last_success = Some((self.now)());
        health.failing_since = None;
        delivered
    }
}
