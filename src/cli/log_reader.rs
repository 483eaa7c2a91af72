//! Reads log files for a scan: plain ones in parts on all cores, compressed ones and pipes from front to back.
//!
//! Nothing is held but one block a thread, whatever the size of the file.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use flate2::read::MultiGzDecoder;
use memchr::{memchr, memrchr};

use crate::logs::scan::{Counts, LINE_LIMIT, Scan, goes_on};
use crate::logs::tally::{Query, Sink};
use crate::logs::time::Clock;

/// How a log is cut for reading.
#[derive(Clone, Copy)]
struct Sizes {
    /// Bytes read at once.
    block: usize,
    /// Bytes of a plain file that one thread takes at a time.
    part: u64,
}

const SIZES: Sizes = Sizes { block: 512 << 10, part: 32 << 20 };

/// Parts that are left when smaller ones are taken, and by how much they are smaller.
const LAST: u64 = 4;

/// Block size where every log has a thread of its own; it holds two of the longest lines that are read whole.
const SMALL_BLOCK: usize = 256 << 10;

/// A log that could be opened.
pub(super) struct Log {
    kind: Kind,
    /// When it was last written, in seconds since 1970 UTC.
    reference: i64,
    /// A container's log: its lines may go on in the next one, so that it is read from front to back.
    in_order: bool,
}

enum Kind {
    /// A regular file of this many bytes at the time of opening.
    Plain(File, u64),
    Gzip(File),
    /// Compressed by a tool that takes it apart again.
    Packed(File, &'static str),
    Stream(File),
    Stdin,
}

impl Log {
    /// Opens a file; `-` is standard input.
    ///
    /// # Errors
    /// Those of the system, and a directory.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        if path == Path::new("-") {
            return Ok(Self { kind: Kind::Stdin, reference: now(), in_order: true });
        }
        let file = File::open(path)?;
        let meta = file.metadata()?;
        if meta.is_dir() {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, "is a directory; name the files in it"));
        }
        let reference = meta.modified().map_or_else(|_| now(), seconds);
        let mut magic = [0; 64];
        // shorter files end in zeros, which begin no compressed file
        let packed = if meta.is_file() && file.read_at(&mut magic, 0).is_ok() { packing(&magic) } else { None };
        let kind = if !meta.is_file() {
            Kind::Stream(file)
        } else if magic.starts_with(&[0x1f, 0x8b]) {
            Kind::Gzip(file)
        } else if let Some(tool) = packed {
            Kind::Packed(file, tool)
        } else if meta.len() == 0 {
            // files of /proc say 0 and are not
            Kind::Stream(file)
        } else {
            Kind::Plain(file, meta.len())
        };
        Ok(Self { kind, reference, in_order: goes_on(&magic) })
    }

    /// Bytes to read, as far as the file system tells; compressed ones count as they are stored.
    #[must_use]
    pub(super) fn size(&self) -> u64 {
        match &self.kind {
            Kind::Plain(_, size) => *size,
            Kind::Gzip(file) | Kind::Packed(file, _) => file.metadata().map_or(0, |meta| meta.len()),
            Kind::Stream(_) | Kind::Stdin => 0,
        }
    }

    /// Reads a part of a plain file again.
    #[must_use]
    pub(super) fn reread(&self, offset: u64, length: usize) -> Option<Vec<u8>> {
        let Kind::Plain(file, _) = &self.kind else { return None };
        let mut text = vec![0; length];
        file.read_exact_at(&mut text, offset).ok()?;
        Some(text)
    }
}

/// The tool that takes a file with this start apart: whoever compresses logs with it has it.
fn packing(magic: &[u8]) -> Option<&'static str> {
    const STARTS: [(&[u8], &str); 3] = [(b"\xfd7zXZ\0", "xz"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"BZh", "bzip2")];
    STARTS.into_iter().find(|(start, _)| magic.starts_with(start)).map(|(_, tool)| tool)
}

/// Now, in seconds since 1970 UTC.
#[must_use]
pub(super) fn now() -> i64 {
    seconds(SystemTime::now())
}

fn seconds(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |seconds| -seconds),
    }
}

/// The clock of this machine's zone.
#[must_use]
pub(super) fn clock(reference: i64) -> Clock<'static> {
    Clock { reference, to_utc: &crate::system::local_to_utc }
}

/// What one file gave.
#[derive(Debug, Default)]
pub(super) struct FileResult {
    /// Lines, bytes and so on.
    pub(super) counts: Counts,
    /// Why it could not be read to its end.
    pub(super) error: Option<io::Error>,
}

/// A piece of work: a file, or a part of a plain one.
struct Piece {
    log: usize,
    part: Option<(u64, u64)>,
}

fn pieces(logs: &[Option<Log>], sizes: Sizes) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for (log, opened) in logs.iter().enumerate() {
        match opened.as_ref().map(|opened| &opened.kind) {
            Some(Kind::Plain(_, size)) => {
                let mut from = 0;
                let part = if opened.as_ref().is_some_and(|log| log.in_order) { u64::MAX } else { sizes.part.max(1) };
                while from < *size {
                    // small ones at the end, so that no thread waits long for another
                    let left = *size - from;
                    let part = if left / LAST < part { part.div_ceil(LAST) } else { part };
                    let to = from.saturating_add(part).min(*size);
                    pieces.push(Piece { log, part: Some((from, to)) });
                    from = to;
                }
            }
            Some(_) => pieces.push(Piece { log, part: None }),
            None => {}
        }
    }
    pieces
}

/// Work that threads share.
struct Work<'w> {
    logs: &'w [Option<Log>],
    pieces: Vec<Piece>,
    next: AtomicUsize,
    sizes: Sizes,
    query: &'w Query,
    /// Bytes read so far, for whoever shows progress.
    done: &'w AtomicU64,
}

/// Takes pieces until none is left.
fn take(work: &Work<'_>, sink: &mut impl Sink) -> Vec<(usize, FileResult)> {
    let Work { logs, pieces, next, sizes, query, done } = work;
    let mut results = Vec::new();
    let mut buffer = vec![0; sizes.block];
    while let Some(piece) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
        let Some(log) = logs.get(piece.log).and_then(Option::as_ref) else { continue };
        let file = u32::try_from(piece.log).unwrap_or(u32::MAX);
        let mut scan = Scan::new(query, clock(log.reference), file, !matches!(log.kind, Kind::Plain(..)));
        let error = read_piece(log, piece.part, &mut buffer, &mut scan, sink, done).err();
        scan.finish();
        results.push((piece.log, FileResult { counts: scan.counts, error }));
        if sink.stopped() {
            break;
        }
    }
    results
}

/// Adds what the pieces of a file gave.
fn join(logs: &[Option<Log>], results: impl IntoIterator<Item = (usize, FileResult)>) -> Vec<FileResult> {
    let mut files: Vec<FileResult> = logs.iter().map(|_| FileResult::default()).collect();
    for (log, result) in results {
        if let Some(file) = files.get_mut(log) {
            file.counts.add(result.counts);
            file.error = file.error.take().or(result.error);
        }
    }
    files
}

/// Scans one of the logs from front to back.
pub(super) fn scan_one(
    logs: &[Option<Log>],
    log: usize,
    query: &Query,
    sink: &mut impl Sink,
    done: &AtomicU64,
) -> FileResult {
    let sizes = Sizes { block: SMALL_BLOCK, part: u64::MAX };
    let pieces = pieces(logs, sizes).into_iter().filter(|piece| piece.log == log).collect();
    let work = Work { logs, pieces, next: AtomicUsize::new(0), sizes, query, done };
    join(logs, take(&work, sink)).into_iter().nth(log).unwrap_or_default()
}

/// Scans all logs with one sink a thread, in no order, and gives the sinks back, and what each log gave.
pub(super) fn scan<S: Sink + Send>(
    logs: &[Option<Log>],
    query: &Query,
    threads: usize,
    done: &AtomicU64,
    sink: impl Fn() -> S + Sync,
) -> (Vec<S>, Vec<FileResult>) {
    scan_cut(logs, query, threads, SIZES, done, sink)
}

fn scan_cut<S: Sink + Send>(
    logs: &[Option<Log>],
    query: &Query,
    threads: usize,
    sizes: Sizes,
    done: &AtomicU64,
    sink: impl Fn() -> S + Sync,
) -> (Vec<S>, Vec<FileResult>) {
    let work = Work { logs, pieces: pieces(logs, sizes), next: AtomicUsize::new(0), sizes, query, done };
    let run = || {
        let mut sink = sink();
        let results = take(&work, &mut sink);
        sink.end();
        (sink, results)
    };
    let done: Vec<_> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads.min(work.pieces.len())).map(|_| scope.spawn(run)).collect();
        let own = run();
        let others =
            others.into_iter().map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        std::iter::once(own).chain(others).collect()
    });
    let (sinks, results): (Vec<S>, Vec<_>) = done.into_iter().unzip();
    (sinks, join(logs, results.into_iter().flatten()))
}

/// A plain file from an offset on.
struct Section<'f> {
    file: &'f File,
    offset: u64,
    end: u64,
    done: &'f AtomicU64,
}

/// Counts what is read of a compressed file.
struct Counted<'f, R>(R, &'f AtomicU64);

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read(buffer)?;
        self.1.fetch_add(wide(read), Ordering::Relaxed);
        Ok(read)
    }
}

impl Read for Section<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // what is written after the file was opened belongs to the next run
        let left = usize::try_from(self.end.saturating_sub(self.offset)).unwrap_or(usize::MAX);
        let length = buffer.len().min(left);
        let read = self.file.read_at(buffer.get_mut(..length).unwrap_or_default(), self.offset)?;
        self.offset += wide(read);
        self.done.fetch_add(wide(read), Ordering::Relaxed);
        Ok(read)
    }
}

fn read_piece(
    log: &Log,
    part: Option<(u64, u64)>,
    buffer: &mut [u8],
    scan: &mut Scan<'_>,
    sink: &mut impl Sink,
    done: &AtomicU64,
) -> io::Result<()> {
    let whole = Lines { base: 0, until: u64::MAX, skip: false };
    match (&log.kind, part) {
        (Kind::Plain(file, size), Some((from, until))) => {
            // a line belongs to the part it begins in: look at the byte before
            let base = from.saturating_sub(1);
            let reader = Section { file, offset: base, end: *size, done };
            Lines { base, until, skip: from > 0 }.feed(reader, buffer, scan, sink)
        }
        (Kind::Gzip(file), _) => {
            let reader = MultiGzDecoder::new(io::BufReader::new(Counted(file, done)));
            whole.feed(reader, buffer, scan, sink)
        }
        (Kind::Packed(file, tool), _) => {
            let result = unpack(file, tool, |reader| whole.feed(reader, buffer, scan, sink));
            done.fetch_add(log.size(), Ordering::Relaxed);
            result
        }
        (Kind::Stdin, _) => whole.feed(io::stdin().lock(), buffer, scan, sink),
        (Kind::Stream(file) | Kind::Plain(file, _), _) => whole.feed(file, buffer, scan, sink),
    }
}

/// Lets a tool take a file apart, and reads what it gives.
fn unpack(file: &File, tool: &str, read: impl FnOnce(&mut dyn Read) -> io::Result<()>) -> io::Result<()> {
    let mut input = file.try_clone()?;
    input.seek(SeekFrom::Start(0))?;
    let start = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => io::Error::new(error.kind(), format!("needs {tool}, which is not installed")),
        _ => error,
    };
    let mut child = Command::new(tool)
        .arg("-dc")
        .stdin(input)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(start)?;
    let result = match &mut child.stdout {
        Some(output) => read(output),
        None => Ok(()),
    };
    // whoever stopped reading early ends the tool by that
    drop(child.stdout.take());
    let status = child.wait()?;
    result?;
    match status.code() {
        Some(0) | None => Ok(()),
        Some(code) => Err(io::Error::other(format!("{tool} ended with status {code}: the file is damaged or cut"))),
    }
}

/// Cuts what a reader gives into blocks of whole lines.
struct Lines {
    /// Offset of the reader's first byte.
    base: u64,
    /// Lines that begin here or later are somebody else's.
    until: u64,
    /// The first line is somebody else's.
    skip: bool,
}

impl Lines {
    fn feed(
        self,
        mut reader: impl Read,
        buffer: &mut [u8],
        scan: &mut Scan<'_>,
        sink: &mut impl Sink,
    ) -> io::Result<()> {
        let Self { mut base, until, mut skip } = self;
        // the rest of a line too long for the buffer is skipped, but its end is counted
        let mut too_long = false;
        let mut filled = 0;
        loop {
            let (read, ended) = fill(&mut reader, buffer.get_mut(filled..).unwrap_or_default());
            filled += read;
            let text = buffer.get(..filled).unwrap_or_default();
            let mut start = 0;
            let at_end = !matches!(ended, Ok(false));
            if skip || too_long {
                start = memchr(b'\n', text).map_or(filled, |newline| newline + 1);
                if too_long {
                    scan.counts.bytes += wide(start);
                    scan.counts.lines += u64::from(start > 0 && text.get(start - 1) == Some(&b'\n'));
                }
                let found = start > 0 && text.get(start - 1) == Some(&b'\n');
                skip &= !found;
                too_long &= !found;
            }
            let lines = text.get(start..).unwrap_or_default();
            let limit = usize::try_from(until.saturating_sub(base + wide(start))).unwrap_or(usize::MAX);
            let mut consumed = start;
            if !skip && !too_long && !lines.is_empty() && limit > 0 {
                consumed += match cut(lines, at_end) {
                    Some(end) => {
                        let end = last_start(lines, end, limit);
                        scan.block(lines, end, base + wide(start), sink);
                        end
                    }
                    None if start == 0 && filled == buffer.len() => {
                        scan.long_line(lines.get(..LINE_LIMIT).unwrap_or(lines), base, sink);
                        scan.counts.bytes += wide(lines.len());
                        too_long = true;
                        lines.len()
                    }
                    None => 0,
                };
            }
            let past = base + wide(consumed) >= until && !too_long;
            match ended {
                Err(error) => return Err(error),
                Ok(true) => return Ok(()),
                Ok(false) if sink.stopped() => return Ok(()),
                Ok(false) if past => return Ok(()),
                Ok(false) => {}
            }
            buffer.copy_within(consumed..filled, 0);
            filled -= consumed;
            base += wide(consumed);
        }
    }
}

fn wide(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// Fills a buffer; true when the reader has no more.
fn fill(reader: &mut impl Read, mut buffer: &mut [u8]) -> (usize, io::Result<bool>) {
    let mut filled = 0;
    while !buffer.is_empty() {
        match reader.read(buffer) {
            Ok(0) => return (filled, Ok(true)),
            Ok(read) => {
                filled += read;
                buffer = buffer.get_mut(read..).unwrap_or_default();
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (filled, Err(error)),
        }
    }
    (filled, Ok(false))
}

/// Where the last line begins that has another whole line behind it, so that a repeat notice is always in sight; the end
/// of the text when nothing follows. `None` without a whole line.
fn cut(lines: &[u8], at_end: bool) -> Option<usize> {
    if at_end {
        return Some(lines.len());
    }
    let last = memrchr(b'\n', lines)?;
    let before = memrchr(b'\n', lines.get(..last)?);
    Some(before.map_or(last, |newline| newline) + 1)
}

/// Where the first line begins that lies at or beyond `limit`, but at most `end`.
fn last_start(lines: &[u8], end: usize, limit: usize) -> usize {
    if end <= limit {
        return end;
    }
    let from = limit.saturating_sub(1);
    lines.get(from..end).and_then(|rest| memchr(b'\n', rest)).map_or(end, |newline| from + newline + 1)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::logs::query::Value;
    use crate::logs::tally::Tally;

    const LAB: &str = include_str!("../../tests/fixtures/logs/lab-syslog.log");

    /// Report lines with foreign lines, repeat notices, broken and empty lines between them, in all lengths.
    fn log(lines: usize) -> String {
        let mut text = String::new();
        for (number, line) in LAB.lines().cycle().take(lines).enumerate() {
            text.push_str(&line.replacen("dstPort=\"443\"", &format!("dstPort=\"{}\"", number % 7 + 1), 1));
            text.push('\n');
            let stamp = line.get(..15).expect("a stamp");
            match number % 5 {
                0 => text.push_str(&format!("{stamp} bastion last message repeated {} times\n", number % 3 + 1)),
                1 => text.push_str(&format!("{stamp} bastion sshd[1]: {}\n", "x".repeat(number * 7 % 190))),
                2 => text.push_str(&format!("{}\n", line.get(..200).expect("a long line"))),
                3 => text.push('\n'),
                _ => {}
            }
        }
        text
    }

    /// Everything that an answer says.
    type Seen = (Vec<(Vec<Value>, u64, u64, u32)>, u64, u64, Counts);

    fn seen(path: &Path, threads: usize, sizes: Sizes) -> Seen {
        let logs = [Some(Log::open(path).expect("the log opens"))];
        of_open(&logs, threads, sizes)
    }

    fn of_open(logs: &[Option<Log>], threads: usize, sizes: Sizes) -> Seen {
        let query = Query::new();
        let done = AtomicU64::new(0);
        let (tallies, files) = scan_cut(logs, &query, threads, sizes, &done, || Tally::new(&query));
        assert!(files.iter().all(|file| file.error.is_none()));
        let tally = tallies.into_iter().reduce(|mut sum, one| {
            sum.merge(one);
            sum
        });
        let tally = tally.expect("a tally");
        let (events, repeats) = (tally.events, tally.repeats);
        let rows = tally.rows(usize::MAX).into_iter();
        let rows = rows.map(|(key, group)| (key, group.count, group.example.offset, group.example.length)).collect();
        (rows, events, repeats, files.first().expect("a file").counts)
    }

    #[test]
    fn parts_and_blocks_of_any_size_lose_and_double_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("syslog");
        for end in ["", "no end"] {
            let text = log(60) + end;
            std::fs::write(&path, &text).expect("the log is written");
            let whole = seen(&path, 1, SIZES);
            let (_, events, repeats, counts) = &whole;
            assert_eq!((*events, *repeats), (60 + 24, 24), "twelve notices of one to three");
            assert_eq!((counts.malformed, counts.lines, counts.bytes), (12, 108, wide(text.len())));
            for part in (1..700).step_by(17).chain([1 << 12, 1 << 14]) {
                assert_eq!(seen(&path, 1, Sizes { part, ..SIZES }), whole, "parts of {part}");
            }
            // a block holds two lines at least, which is what looking behind a line for its repeats needs
            for block in (1100..1500).step_by(7).chain([1 << 12]) {
                assert_eq!(seen(&path, 1, Sizes { block, ..SIZES }), whole, "blocks of {block}");
                let both = Sizes { block, part: 1000 };
                assert_eq!(seen(&path, 2, both), whole, "blocks of {block} in parts on two threads");
            }
        }
    }

    #[test]
    fn what_is_written_after_opening_is_left_to_the_next_run() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("syslog");
        std::fs::write(&path, log(40)).expect("the log is written");
        let before = seen(&path, 1, SIZES);
        let small = Sizes { block: 2048, part: 3000 };
        let logs = [Some(Log::open(&path).expect("the log opens"))];
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut file = File::options().append(true).open(&path).expect("the log opens for appending");
                while !stop.load(Ordering::Relaxed) {
                    file.write_all(log(10).as_bytes()).expect("the log grows");
                    std::thread::sleep(std::time::Duration::from_micros(200));
                }
            });
            for _ in 0..50 {
                assert_eq!(of_open(&logs, 2, small), before);
            }
            stop.store(true, Ordering::Relaxed);
        });
        let after = seen(&path, 1, SIZES);
        assert_eq!(seen(&path, 2, small), after);
        assert!(after.1 > before.1, "the log did not grow while it was read");
    }
}
