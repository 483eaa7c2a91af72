//! A queue on the disk for one output: bounded, checksummed, and sound whenever the process or the host dies.
//!
//! Each message gets a number that is never given twice. Messages stand in segments, files named by their first number. When
//! there is no room, the oldest segment goes; what is damaged is passed over: either way the reader meets a [`Item::Gap`],
//! exact by number, which the receiver is told. A queue that cannot be written goes on counting: the gap then tells how many
//! messages it could not keep.
//!
//! | state | where |
//! |---|---|
//! | `%020d.seg` | messages, see `record.rs` |
//! | `state` | last number written, last number delivered |
//! | `lock` | held by the process that writes |

mod record;
mod state;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

pub use self::record::MAX_PAYLOAD;
use self::record::{HEADER, Record};
use self::state::{Marks, StateFile};

/// Most delivered segments kept: each start of the process begins a new one.
const MOST_DELIVERED: usize = 64;

/// Bounds of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes on the disk, delivered messages that are kept for a replay included.
    pub max_bytes: u64,
    /// Bytes of a segment: what is dropped at once.
    pub segment_bytes: u64,
    /// Most bytes of delivered messages kept for a replay.
    pub keep_bytes: u64,
    /// Room on the file system that is left alone.
    pub keep_free: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_bytes: 256 << 20, segment_bytes: 4 << 20, keep_bytes: 32 << 20, keep_free: 256 << 20 }
    }
}

impl Limits {
    /// Bounds around `max_bytes`: segments of a sixteenth, 64 KiB to 4 MiB, and an eighth for replays.
    #[must_use]
    pub fn of(max_bytes: u64) -> Self {
        let segment_bytes = (max_bytes / 16).clamp(64 << 10, 4 << 20);
        Self {
            max_bytes: max_bytes.max(2 * segment_bytes),
            segment_bytes,
            keep_bytes: max_bytes / 8,
            ..Self::default()
        }
    }
}

/// What the reader meets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Item {
    /// A message.
    Message {
        /// Its number.
        sequence: u64,
        /// Its bytes, as put in.
        payload: Vec<u8>,
    },
    /// Messages that are no longer there, first and last number.
    Gap {
        /// First that is missing.
        from: u64,
        /// Last that is missing.
        to: u64,
    },
}

impl Item {
    /// How many messages it tells the loss of.
    #[must_use]
    pub fn lost(&self) -> u64 {
        match self {
            Self::Message { .. } => 0,
            Self::Gap { from, to } => to - from + 1,
        }
    }

    /// The last number it stands for: delivered, nothing up to it is sent again.
    #[must_use]
    pub fn last(&self) -> u64 {
        match self {
            Self::Message { sequence, .. } => *sequence,
            Self::Gap { to, .. } => *to,
        }
    }
}

/// How a queue is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Status {
    /// Messages written and not yet delivered, lost ones among them not counted apart.
    pub waiting: u64,
    /// Last number given.
    pub last: u64,
    /// Last number delivered.
    pub acked: u64,
    /// Bytes on the disk.
    pub bytes: u64,
    /// Most bytes there may be.
    pub max_bytes: u64,
    /// Messages this process could not keep: no room, or the disk failed.
    pub unkept: u64,
}

struct Segment {
    first: u64,
    path: PathBuf,
    bytes: u64,
}

/// Where the reader stands.
#[derive(Default)]
struct Reader {
    /// The next number it wants.
    wants: u64,
    /// The segment it reads, by first number, with its bytes so far and the place of the next record.
    open: Option<(u64, Vec<u8>, usize)>,
}

/// The queue.
pub struct Spool {
    folder: PathBuf,
    limits: Limits,
    _lock: Flock<File>,
    state: StateFile,
    segments: VecDeque<Segment>,
    writer: Option<File>,
    /// The next number to give.
    next: u64,
    marks: Marks,
    /// Records given a number and not yet written.
    pending: Vec<u8>,
    pending_first: u64,
    reader: Reader,
    unkept: u64,
    /// Most bytes while the file system is short of room.
    most: Option<u64>,
}

impl Spool {
    /// Opens the queue in `folder`, making it when it is not there. Whatever is damaged is passed over and told in the
    /// remarks: a queue never refuses to start because of its content.
    ///
    /// # Errors
    /// The folder cannot be made or written, or another process holds it (`WouldBlock`).
    pub fn open(folder: &Path, limits: Limits) -> io::Result<(Self, Vec<String>)> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(folder.join("lock"))?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| io::Error::from(errno))?;
        let (state, known) = StateFile::open(&folder.join("state"))?;
        let mut remarks = Vec::new();
        let (segments, damaged) = segments(folder)?;
        set_aside(&damaged, &mut remarks);
        let mut marks = known.unwrap_or_else(|| Marks {
            durable: 0,
            acked: segments.front().map_or(0, |segment| segment.first.saturating_sub(1)),
        });
        if known.is_none() && !segments.is_empty() {
            remarks.push(
                "how far the queue was delivered is not known any more: all that is there is sent again".to_owned(),
            );
        }
        let mut spool = Self {
            folder: folder.to_owned(),
            limits,
            _lock: lock,
            state,
            segments,
            writer: None,
            next: 1,
            marks,
            pending: Vec::new(),
            pending_first: 1,
            reader: Reader::default(),
            unkept: 0,
            most: None,
        };
        // records may be there that no mark tells of: the process died between the two writes
        let last = spool.last_written(&mut remarks);
        marks.durable = marks.durable.max(last).max(marks.acked);
        spool.marks = marks;
        spool.next = marks.durable + 1;
        spool.pending_first = spool.next;
        spool.rewind();
        Ok((spool, remarks))
    }

    /// The last sound record of the newest segments.
    fn last_written(&self, remarks: &mut Vec<String>) -> u64 {
        for segment in self.segments.iter().rev() {
            let Ok(bytes) = fs::read(&segment.path) else { continue };
            let (mut last, mut place) = (None, HEADER);
            while let Some(record) = record::next(&bytes, place, 0) {
                place = record.end;
                last = Some(record.sequence);
            }
            if place < bytes.len() {
                let name = segment.path.display();
                remarks.push(format!("{name}: the last {} bytes are no whole record", bytes.len() - place));
            }
            if let Some(last) = last {
                return last;
            }
        }
        0
    }

    /// Gives `message` its number and takes its bytes. It is safe after the next [`Self::flush`]. A message longer than
    /// [`MAX_PAYLOAD`] is cut: encoders stay far below.
    pub fn put(&mut self, message: impl FnOnce(u64) -> Vec<u8>) -> u64 {
        let sequence = self.next;
        self.next += 1;
        let mut payload = message(sequence);
        payload.truncate(MAX_PAYLOAD);
        record::write(sequence, &payload, &mut self.pending);
        sequence
    }

    /// Writes what was put and waits until the disk has it. What cannot be kept, because the disk is full or fails, is
    /// counted, and the receiver will meet a gap.
    ///
    /// # Errors
    /// Why it was not kept. The queue goes on.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return self.save();
        }
        let pending = std::mem::take(&mut self.pending);
        let (first, last) = (self.pending_first, self.next - 1);
        self.pending_first = self.next;
        let mut outcome = self.write(first, &pending);
        // a full disk may have room once the oldest is gone
        while outcome.as_ref().is_err_and(is_full) && self.segments.len() > 1 {
            self.drop_oldest();
            outcome = self.write(first, &pending);
        }
        if outcome.is_err() {
            self.writer = None;
            self.unkept += last + 1 - first;
        }
        self.marks.durable = last;
        let marked = self.state.write(self.marks, true);
        outcome.and(marked)
    }

    fn write(&mut self, first: u64, records: &[u8]) -> io::Result<()> {
        self.make_room(records.len() as u64);
        let full = self.segments.back().is_some_and(|segment| segment.bytes >= self.limits.segment_bytes);
        if self.writer.is_none() || full {
            self.writer = None;
            self.start_segment(first)?;
        }
        let (Some(file), Some(segment)) = (&mut self.writer, self.segments.back_mut()) else {
            return Err(io::Error::other("no segment to write to"));
        };
        let outcome = file.write_all(records).and_then(|()| file.sync_data());
        match outcome {
            Ok(()) => segment.bytes += records.len() as u64,
            Err(_) => {
                // what came of it is not known: nothing more is written behind it
                let _ = file.set_len(segment.bytes);
                self.writer = None;
            }
        }
        outcome
    }

    fn start_segment(&mut self, first: u64) -> io::Result<()> {
        let path = self.folder.join(format!("{first:020}.seg"));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        let written = file.write_all(&record::header(first)).and_then(|()| sync_folder(&self.folder));
        if let Err(error) = written {
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        self.segments.retain(|segment| segment.first != first);
        self.segments.push_back(Segment { first, path, bytes: HEADER as u64 });
        self.writer = Some(file);
        Ok(())
    }

    /// Deletes delivered segments beyond those kept for a replay, and the oldest ones when there is no room.
    fn make_room(&mut self, need: u64) {
        loop {
            let (count, bytes) = self.delivered();
            if bytes <= self.limits.keep_bytes && count <= MOST_DELIVERED {
                break;
            }
            self.drop_oldest();
        }
        // on a file system that fills up the queue no longer grows: its oldest messages go for new ones
        let scarce = nix::sys::statvfs::statvfs(&self.folder).is_ok_and(|fs| {
            fs.blocks_available().saturating_mul(fs.fragment_size()) < self.limits.keep_free.saturating_add(need)
        });
        let grown = self.bytes().max(2 * self.limits.segment_bytes);
        let most = if scarce { *self.most.get_or_insert(grown) } else { self.limits.max_bytes };
        if !scarce {
            self.most = None;
        }
        while self.bytes() + need > most.min(self.limits.max_bytes) && self.segments.len() > 1 {
            self.drop_oldest();
        }
    }

    fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Segments whose messages are all delivered, and their bytes; the newest is never one.
    fn delivered(&self) -> (usize, u64) {
        let next_firsts = self.segments.iter().skip(1).map(|segment| segment.first);
        let done = self.segments.iter().zip(next_firsts).take_while(|(_, next)| *next <= self.marks.acked + 1);
        done.fold((0, 0), |(count, bytes), (one, _)| (count + 1, bytes + one.bytes))
    }

    fn drop_oldest(&mut self) {
        if let Some(segment) = self.segments.pop_front() {
            let _ = fs::remove_file(&segment.path);
        }
    }

    /// The next messages, at most `most` of them and about `bytes` long; empty when all were read. They count as delivered
    /// only after [`Self::ack`].
    pub fn read(&mut self, most: usize, bytes: usize) -> Vec<Item> {
        let mut out = Vec::new();
        let mut size = 0;
        while out.len() < most && size < bytes {
            let Some(item) = self.read_one() else { break };
            if let Item::Message { payload, .. } = &item {
                size += payload.len();
            }
            self.reader.wants = item.last() + 1;
            out.push(item);
        }
        out
    }

    fn read_one(&mut self) -> Option<Item> {
        let wants = self.reader.wants;
        if wants > self.marks.durable {
            return None;
        }
        // the segments that may hold it: the last that starts at it or before it, and those behind
        let start = self.segments.iter().rposition(|segment| segment.first <= wants).unwrap_or(0);
        for index in start..self.segments.len() {
            let Some(segment) = self.segments.get(index) else { break };
            let (first, size) = (segment.first, segment.bytes);
            if self.reader.open.as_ref().is_none_or(|(open, _, _)| *open != first) {
                self.reader.open = Some((first, Vec::new(), HEADER));
            }
            if let Some((_, bytes, _)) = &mut self.reader.open
                && (bytes.len() as u64) < size
            {
                // only what the disk has for sure: a write that failed may stand behind it
                let _ = read_on(&segment.path, bytes, size);
            }
            let Some((_, bytes, place)) = &mut self.reader.open else { continue };
            if let Some(Record { sequence, payload, end }) = record::next(bytes, *place, wants) {
                if sequence > wants {
                    return Some(Item::Gap { from: wants, to: sequence - 1 });
                }
                let payload = payload.to_vec();
                *place = end;
                return Some(Item::Message { sequence, payload });
            }
        }
        // whatever else was written up to the mark is not there any more
        Some(Item::Gap { from: wants, to: self.marks.durable })
    }

    /// The receiver has everything up to `sequence`. The mark reaches the disk with the next [`Self::flush`]; until then a
    /// crash means that messages are sent twice.
    pub fn ack(&mut self, sequence: u64) {
        self.marks.acked = self.marks.acked.max(sequence.min(self.marks.durable));
    }

    /// Writes the marks without waiting for the disk.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn save(&mut self) -> io::Result<()> {
        self.state.write(self.marks, false)
    }

    /// Reads again from the first message that was not delivered.
    pub fn rewind(&mut self) {
        self.reader = Reader { wants: self.marks.acked + 1, open: None };
    }

    /// How it is doing.
    #[must_use]
    pub fn status(&self) -> Status {
        Status {
            waiting: self.marks.durable - self.marks.acked,
            last: self.next - 1,
            acked: self.marks.acked,
            bytes: self.bytes(),
            max_bytes: self.limits.max_bytes,
            unkept: self.unkept,
        }
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        let _ = self.flush();
    }
}

/// Reads a file from where `bytes` ends up to `size`.
fn read_on(path: &Path, bytes: &mut Vec<u8>, size: u64) -> io::Result<usize> {
    let mut file = File::open(path)?;
    let start = file.seek(SeekFrom::Start(bytes.len() as u64))?;
    file.take(size - start).read_to_end(bytes)
}

/// The marks of a queue that another process may be writing: last number, last delivered, bytes on the disk.
///
/// # Errors
/// There is no such queue, or it cannot be read.
pub fn peek(folder: &Path) -> io::Result<Status> {
    if !folder.is_dir() {
        return Err(io::Error::from(io::ErrorKind::NotFound));
    }
    let marks = StateFile::peek(&folder.join("state"))?.unwrap_or_default();
    let bytes = segments(folder)?.0.iter().map(|segment| segment.bytes).sum();
    Ok(Status {
        waiting: marks.durable - marks.acked,
        last: marks.durable,
        acked: marks.acked,
        bytes,
        ..Status::default()
    })
}

/// All messages that are still on the disk, delivered or not, oldest first, from `from` on: for a replay. Reads without the
/// lock.
///
/// # Errors
/// The folder cannot be read, or `each` fails.
pub fn kept(folder: &Path, from: u64, mut each: impl FnMut(u64, &[u8]) -> io::Result<()>) -> io::Result<u64> {
    let mut count = 0;
    for segment in segments(folder)?.0 {
        let bytes = match fs::read(&segment.path) {
            Ok(bytes) => bytes,
            // the writer made room meanwhile
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let mut place = HEADER;
        while let Some(record) = record::next(&bytes, place, from) {
            place = record.end;
            each(record.sequence, record.payload)?;
            count += 1;
        }
    }
    Ok(count)
}

/// The segments of a folder, oldest first, and files that should be segments and have no sound header.
fn segments(folder: &Path) -> io::Result<(VecDeque<Segment>, Vec<PathBuf>)> {
    let (mut found, mut damaged) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some(first) = name.strip_suffix(".seg").and_then(|digits| digits.parse::<u64>().ok()) else { continue };
        let mut head = [0; HEADER];
        let read = File::open(&path).and_then(|mut file| {
            file.read_exact(&mut head)?;
            Ok(file.metadata()?.len())
        });
        match read {
            Ok(bytes) if record::read_header(&head) == Some(first) => found.push(Segment { first, path, bytes }),
            // the process that writes may delete a segment meanwhile
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            _ => damaged.push(path),
        }
    }
    found.sort_by_key(|segment| segment.first);
    damaged.sort();
    Ok((found.into(), damaged))
}

/// Renames damaged segments to `*.corrupt`, for someone to look at; only the last one stays.
fn set_aside(damaged: &[PathBuf], remarks: &mut Vec<String>) {
    for path in damaged {
        let aside = path.with_file_name("damaged.corrupt");
        remarks.push(match fs::rename(path, &aside) {
            Ok(()) => format!("{}: its header is damaged; set aside as {}", path.display(), aside.display()),
            Err(error) => format!("{}: its header is damaged, and it cannot be set aside: {error}", path.display()),
        });
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
