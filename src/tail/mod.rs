//! Follows a log file through rotation, by rename and by copy and truncation.
//!
//! A file is its device and inode, not its name. After a rename the old file is read on until it has been quiet for a while:
//! rsyslog goes on writing to it until it is told. After a truncation the rest is looked for in the copy that was made, by the
//! last bytes read; what cannot be found is said to be lost. A file that is created and renamed away again between two looks is
//! found by its name and the time it was written. Only whole lines are given.
//!
//! The follower polls: an event of the kernel for each written line costs twenty times the processor time of reading once in
//! a while. Where it has come to ([`Places`]) can be written down, and [`Follower::resume`] goes on from there, through whatever
//! rotation happened meanwhile.

mod resume;

use std::collections::VecDeque;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use resume::{Place, Places};

/// Longest line that is held until its end comes; of longer ones the start is given.
pub const LINE_LIMIT: usize = 64 * 1024;

/// Bytes read at once.
const BLOCK: usize = 256 * 1024;

/// Bytes given in one turn, about: what comes after that is for the next one, so that places are told while much is read.
const TURN: u64 = 8 << 20;

/// A renamed file that has not grown for so long is let go.
const QUIET: Duration = Duration::from_secs(5);

/// Bytes at the start of a file and in front of the place reached, by which it and its copies are known.
const MARK: usize = 64;
const HEAD: usize = 256;

/// Copies that are looked at after a truncation.
const MAX_COPIES: usize = 64;

/// Where to begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    /// With the first line there is.
    Beginning,
    /// With the next line that is written.
    End,
}

/// What happened to the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Notice {
    /// The name stands for a new file now; the old one is read to its end.
    Rotated,
    /// The file was truncated; what had not been read was found in a copy.
    TruncatedAndFound,
    /// The file was truncated, and no copy of it was found: lines may be lost.
    TruncatedAndLost,
    /// The old file could not be read to its end.
    Unreadable,
}

/// One file under whatever name.
struct Source {
    file: File,
    identity: (u64, u64),
    /// Bytes read so far.
    offset: u64,
    /// The first bytes of the file.
    head: Vec<u8>,
    /// The last bytes read.
    mark: Vec<u8>,
    /// A line without its end, and its offset.
    held: Vec<u8>,
    held_at: u64,
    /// Where the last line that was given ends, and the bytes in front of that.
    whole: (u64, Vec<u8>),
    /// The rest of a line too long to hold is skipped.
    skipping: bool,
    /// When it last grew.
    grew: Instant,
}

/// Follows one path.
pub struct Follower {
    path: PathBuf,
    current: Source,
    /// Renamed files, oldest first.
    old: Vec<Source>,
    /// Compressed files that were rotated away while nobody followed, with the bytes of them that were given before.
    backlog: VecDeque<(PathBuf, u64)>,
    /// What resuming met.
    pending: Vec<Notice>,
    /// Why the file that has the name now is not read.
    refused: Option<String>,
    /// The last turn ended before everything was read.
    behind: bool,
    buffer: Vec<u8>,
}

/// A length as an offset.
fn bytes(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

fn identity(meta: &Metadata) -> (u64, u64) {
    (meta.dev(), meta.ino())
}

impl Source {
    fn open(path: &Path, start: Start, now: Instant) -> io::Result<Self> {
        let file = File::open(path)?;
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "is no regular file; only such can be followed"));
        }
        let mut source = Self {
            identity: identity(&meta),
            file,
            offset: 0,
            head: Vec::new(),
            mark: Vec::new(),
            held: Vec::new(),
            held_at: 0,
            whole: (0, Vec::new()),
            skipping: false,
            grew: now,
        };
        if start == Start::End {
            source.skip_to(meta.len())?;
        }
        Ok(source)
    }

    /// Goes to an offset; what stands before it was not asked for, but for the line it cuts.
    fn skip_to(&mut self, offset: u64) -> io::Result<()> {
        let length = usize::try_from(offset).unwrap_or(MARK).min(MARK);
        let mut mark = vec![0; length];
        self.file.read_exact_at(&mut mark, offset.saturating_sub(u64::try_from(length).unwrap_or(0)))?;
        // a line that is being written is none of those that come
        self.skipping = mark.last().is_some_and(|last| *last != b'\n');
        self.whole = (offset, mark.clone());
        (self.mark, self.offset) = (mark, offset);
        self.learn_head()
    }

    /// Keeps the first bytes, as far as they were read.
    fn learn_head(&mut self) -> io::Result<()> {
        let wanted = usize::try_from(self.offset).unwrap_or(HEAD).min(HEAD);
        if self.head.len() < wanted {
            let mut head = vec![0; wanted];
            self.file.read_exact_at(&mut head, 0)?;
            self.head = head;
        }
        Ok(())
    }

    /// Whether the first bytes, and those in front of the place reached, are still those that were read there.
    fn is_as_read(&self, file: &File) -> bool {
        let is = |bytes: &[u8], from: u64| {
            let mut found = vec![0; bytes.len()];
            file.read_exact_at(&mut found, from).is_ok() && found == bytes
        };
        let from = self.offset.saturating_sub(u64::try_from(self.mark.len()).unwrap_or(0));
        is(&self.head, 0) && is(&self.mark, from)
    }

    /// Reads what there is, as far as there is room, and gives whole lines with the offset of the first.
    fn drain(
        &mut self,
        buffer: &mut [u8],
        now: Instant,
        room: &mut u64,
        give: &mut dyn FnMut(u64, &[u8]),
    ) -> io::Result<bool> {
        let mut grew = false;
        while *room > 0 {
            let read = match self.file.read_at(buffer, self.offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            let Some(text) = buffer.get(..read).filter(|text| !text.is_empty()) else { return Ok(grew) };
            (grew, self.grew) = (true, now);
            let before = (self.offset, self.mark.clone());
            self.offset += u64::try_from(read).unwrap_or(0);
            self.mark.extend_from_slice(text.get(text.len().saturating_sub(MARK)..).unwrap_or(text));
            self.mark.drain(..self.mark.len().saturating_sub(MARK));
            self.lines(text, &before, give);
            // a file that shrank meanwhile is met as such the next time
            let _ = self.learn_head();
            *room = room.saturating_sub(u64::try_from(read).unwrap_or(0));
        }
        Ok(grew)
    }

    /// `before`: the offset of `text`, and the bytes in front of it.
    fn lines(&mut self, text: &[u8], before: &(u64, Vec<u8>), give: &mut dyn FnMut(u64, &[u8])) {
        let all = text;
        let mut text = text;
        if self.skipping {
            let Some(end) = memchr::memchr(b'\n', text) else { return self.whole_up_to(all, before) };
            self.skipping = false;
            text = text.get(end + 1..).unwrap_or_default();
        }
        if let Some(end) = memchr::memrchr(b'\n', all) {
            self.whole_up_to(all.get(..=end).unwrap_or(all), before);
        }
        let whole = memchr::memrchr(b'\n', text).map_or(0, |end| end + 1);
        let at = before.0 + bytes(all.len() - text.len());
        let (lines, rest) = text.split_at(whole);
        if !lines.is_empty() {
            let mut first = 0;
            if !self.held.is_empty() {
                first = memchr::memchr(b'\n', lines).map_or(lines.len(), |end| end + 1);
                self.held.extend_from_slice(lines.get(..first).unwrap_or(lines));
                give(self.held_at, &std::mem::take(&mut self.held));
            }
            if let Some(others) = lines.get(first..).filter(|others| !others.is_empty()) {
                give(at + bytes(first), others);
            }
        }
        if self.held.is_empty() {
            self.held_at = at + bytes(whole);
        }
        self.held.extend_from_slice(rest);
        // the hole that a writer leaves who goes on at its old place after a truncation
        if self.held.first() == Some(&0) && self.held.iter().all(|byte| *byte == 0) {
            self.held.clear();
            self.whole_up_to(all, before);
        }
        if self.held.len() > LINE_LIMIT {
            self.held.truncate(LINE_LIMIT);
            self.finish(give);
            self.skipping = true;
            self.whole_up_to(all, before);
        }
    }

    /// Everything up to the end of `text` was given or passed over.
    fn whole_up_to(&mut self, text: &[u8], (offset, mark): &(u64, Vec<u8>)) {
        let mut bytes = mark.clone();
        bytes.extend_from_slice(text.get(text.len().saturating_sub(MARK)..).unwrap_or(text));
        bytes.drain(..bytes.len().saturating_sub(MARK));
        self.whole = (offset + u64::try_from(text.len()).unwrap_or(0), bytes);
    }

    /// Gives what is held as a line: its end will not come.
    fn finish(&mut self, give: &mut dyn FnMut(u64, &[u8])) {
        if !self.held.is_empty() {
            self.held.push(b'\n');
            give(self.held_at, &std::mem::take(&mut self.held));
        }
    }
}

impl Follower {
    /// Opens a file to follow.
    ///
    /// # Errors
    /// Those of the system, and that it is no regular file.
    pub fn open(path: &Path, start: Start, now: Instant) -> io::Result<Self> {
        let current = Source::open(path, start, now)?;
        Ok(Self::with(path, current))
    }

    fn with(path: &Path, current: Source) -> Self {
        let (backlog, pending) = (VecDeque::new(), Vec::new());
        Self {
            path: path.to_owned(),
            current,
            old: Vec::new(),
            backlog,
            pending,
            refused: None,
            behind: false,
            buffer: vec![0; BLOCK],
        }
    }

    /// Reads what was written since the last call and gives it in blocks of whole lines, each with its offset in the file; true
    /// when there was something. The offset of a line is the same in a copy, under another name, and after a restart. Of very
    /// much it gives a part ([`Self::is_behind`]). `notice` is told what happened to the file.
    ///
    /// # Errors
    /// The file cannot be read any more.
    pub fn poll(
        &mut self,
        now: Instant,
        give: &mut dyn FnMut(u64, &[u8]),
        notice: &mut dyn FnMut(Notice),
    ) -> io::Result<bool> {
        self.pending.drain(..).for_each(&mut *notice);
        let mut grew = false;
        while let Some((path, given)) = self.backlog.pop_front() {
            grew = true;
            if resume::unpack(&path, given, give).is_err() {
                notice(Notice::Unreadable);
            }
        }
        let (buffer, mut room) = (&mut self.buffer, TURN);
        self.old.retain_mut(|source| match source.drain(buffer, now, &mut room, give) {
            _ if room == 0 => true,
            Ok(more) => {
                grew |= more;
                let over = now.duration_since(source.grew) >= QUIET;
                if over {
                    source.finish(give);
                }
                !over
            }
            Err(_) => {
                notice(Notice::Unreadable);
                false
            }
        });
        self.behind = room == 0;
        if self.behind {
            return Ok(true);
        }
        let size = self.current.file.metadata()?.len();
        if size < self.current.offset || !self.current.is_as_read(&self.current.file) {
            notice(match self.rest_of_copy(now, give)? {
                true => Notice::TruncatedAndFound,
                false => Notice::TruncatedAndLost,
            });
            grew = true;
        }
        grew |= self.current.drain(&mut self.buffer, now, &mut room, give)?;
        self.behind = room == 0;
        if self.behind {
            return Ok(true);
        }
        // until the new file is there the old one is all there is
        let renamed = fs::metadata(&self.path).is_ok_and(|meta| identity(&meta) != self.current.identity);
        self.refused = None;
        if renamed {
            match Source::open(&self.path, Start::Beginning, now) {
                Ok(new) => {
                    notice(Notice::Rotated);
                    let before = std::mem::replace(&mut self.current, new);
                    let since = before.file.metadata().map_or(i128::MAX, |meta| written(&meta));
                    self.old.push(before);
                    let meanwhile = self.came_and_went(since, now);
                    self.old.extend(meanwhile);
                    for source in &mut self.old {
                        grew |= source.drain(&mut self.buffer, now, &mut room, give).unwrap_or(false);
                    }
                    grew |= self.current.drain(&mut self.buffer, now, &mut room, give)?;
                    self.behind = room == 0;
                }
                Err(error) => self.refused = Some(error.to_string()),
            }
        }
        Ok(grew)
    }

    /// Files that had the name for a while and were renamed away again, all between two looks: the oldest first.
    fn came_and_went(&self, since: i128, now: Instant) -> Vec<Source> {
        let mut known: Vec<(u64, u64)> = self.old.iter().map(|source| source.identity).collect();
        known.push(self.current.identity);
        let mut found = Vec::new();
        for copy in copies(&self.path).into_iter().rev() {
            if !copy.is_rotated
                || copy.written < since
                || known.contains(&copy.identity)
                || resume::is_packed(&copy.path)
            {
                continue;
            }
            if let Ok(source) = Source::open(&copy.path, Start::Beginning, now)
                && !known.contains(&source.identity)
            {
                known.push(source.identity);
                found.push(source);
            }
        }
        found
    }

    /// Whether there is more to read at once.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.behind
    }

    /// Why the file that has the name now could not be opened when it was looked at last; the one that had it before is read on.
    #[must_use]
    pub fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }

    /// After a truncation: gives what the copy holds beyond the place reached, and begins the file anew. False when no copy
    /// is found.
    fn rest_of_copy(&mut self, now: Instant, give: &mut dyn FnMut(u64, &[u8])) -> io::Result<bool> {
        let copy = self.copies().into_iter().find_map(|path| {
            let file = File::open(path).ok()?;
            // without a byte read there is nothing to know the copy by, and nothing was passed over
            (!self.current.mark.is_empty() && self.current.is_as_read(&file)).then_some(file)
        });
        let found = copy.is_some();
        if let Some(copy) = copy {
            let live = std::mem::replace(&mut self.current.file, copy);
            // the copy is not met again, so it is read to its end
            let read = self.current.drain(&mut self.buffer, now, &mut { u64::MAX }, give);
            self.current.file = live;
            read?;
        }
        self.current.finish(give);
        self.current.offset = 0;
        self.current.whole = (0, Vec::new());
        self.current.skipping = false;
        self.current.mark.clear();
        self.current.head.clear();
        Ok(found)
    }

    /// Files whose names begin like this one's, the latest first.
    fn copies(&self) -> Vec<PathBuf> {
        copies(&self.path).into_iter().map(|copy| copy.path).collect()
    }
}

/// A file whose name begins like that of a log.
struct Sibling {
    path: PathBuf,
    /// When it was last written, in nanoseconds.
    written: i128,
    identity: (u64, u64),
    /// Its name goes on as rotation makes it: with a number or a date, and not with a word, as another log's may.
    is_rotated: bool,
}

fn written(meta: &Metadata) -> i128 {
    i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec())
}

/// Files whose names begin like this one's, the latest first.
fn copies(path: &Path) -> Vec<Sibling> {
    let (Some(name), Some(folder)) = (path.file_name().and_then(|name| name.to_str()), path.parent()) else {
        return Vec::new();
    };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let mut found: Vec<_> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let rest = entry.file_name().to_str()?.strip_prefix(name)?.to_owned();
            let meta = entry.metadata().ok()?;
            let is_rotated = rest.chars().nth(1).is_some_and(|first| first.is_ascii_digit());
            (rest.starts_with(['.', '-']) && meta.is_file()).then(|| Sibling {
                path: entry.path(),
                written: written(&meta),
                identity: identity(&meta),
                is_rotated,
            })
        })
        .collect();
    found.sort_by(|a, b| (b.written, &b.path).cmp(&(a.written, &a.path)));
    found.truncate(MAX_COPIES);
    found
}

#[cfg(test)]
mod tests;
