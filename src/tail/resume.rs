//! Going on after a restart: the place that was written down is found again, under whatever name its file has now.
//!
//! A place is known by what stands in its file: the first bytes, and those in front of it. So a file is found after it was
//! renamed, copied and truncated, or compressed with gzip; and a new file with the number of an old one is not taken for it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Instant;

use flate2::read::MultiGzDecoder;
use serde::{Deserialize, Serialize};

use super::{Follower, LINE_LIMIT, Notice, Source, Start, copies};

/// A place in a file, behind the last whole line that was given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Device and inode it had.
    pub identity: (u64, u64),
    /// Bytes in front of it.
    pub offset: u64,
    /// The first bytes of the file, in hexadecimal digits.
    pub head: String,
    /// The bytes in front of the place, in hexadecimal digits.
    pub mark: String,
    /// The rest of a line too long is to be passed over.
    pub skipping: bool,
}

/// Where a follower has come to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Places {
    /// In the file that has the name.
    pub current: Place,
    /// In files that had it and may still grow.
    pub old: Vec<Place>,
}

fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(digits: &str) -> Vec<u8> {
    let pairs = digits.as_bytes().chunks(2);
    pairs.filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

impl Source {
    fn place(&self) -> Place {
        let (offset, mark) = &self.whole;
        let head = self.head.get(..usize::try_from(*offset).unwrap_or(usize::MAX).min(self.head.len()));
        Place {
            identity: self.identity,
            offset: *offset,
            head: digits(head.unwrap_or_default()),
            mark: digits(mark),
            skipping: self.skipping,
        }
    }

    /// A file with this place in it; `None` when it is another one.
    fn at(path: &Path, place: &Place, now: Instant) -> Option<Self> {
        let mut source = Self::open(path, Start::Beginning, now).ok()?;
        source.offset = place.offset;
        source.head = bytes(&place.head);
        source.mark = bytes(&place.mark);
        source.whole = (place.offset, source.mark.clone());
        source.skipping = place.skipping;
        // of a file nobody had read from, only the number is known
        let is_same = || !source.mark.is_empty() && source.is_as_read(&source.file);
        let known = if place.offset == 0 { source.identity == place.identity } else { is_same() };
        known.then_some(source)
    }
}

impl Follower {
    /// Where it has come to, to be written down.
    #[must_use]
    pub fn places(&self) -> Places {
        Places { current: self.current.place(), old: self.old.iter().map(Source::place).collect() }
    }

    /// Goes on from where another follower of the same path had come to. What was rotated away meanwhile is read first.
    ///
    /// # Errors
    /// Those of the system; the file that has the name must be there.
    pub fn resume(path: &Path, places: &Places, now: Instant) -> io::Result<Self> {
        let live = Source::open(path, Start::Beginning, now)?;
        let copies = copies(path);
        let mut old: Vec<Source> = Vec::new();
        for place in &places.old {
            old.extend(find(&copies, place, now).map(|(_, _, source)| source));
        }
        if let Some(current) = Source::at(path, &places.current, now).filter(|source| source.identity == live.identity)
        {
            let mut follower = Self::with(path, current);
            follower.old = old;
            return Ok(follower);
        }
        let mut follower = Self::with(path, live);
        let place = &places.current;
        let taken: Vec<(u64, u64)> = old.iter().map(|source| source.identity).collect();
        follower.old = old;
        let plain = find(&copies, place, now);
        let (since, found) = if let Some((written, path, source)) = plain {
            follower.old.push(source);
            (written, Some(path))
        } else if let Some((written, path)) = copies.iter().find(|(_, path)| is_packed_copy(path, place)) {
            follower.backlog.push_back((path.clone(), place.offset));
            (*written, Some(path))
        } else {
            // nothing was read of it, or nothing is left of it
            follower.pending.extend((place.offset > 0).then_some(Notice::TruncatedAndLost));
            return Ok(follower);
        };
        // files that came and went meanwhile, the oldest first
        for (written, path) in copies.iter().rev() {
            if *written <= since || Some(path) == found {
                continue;
            }
            if is_packed(path) {
                follower.backlog.push_back((path.clone(), 0));
            } else if let Ok(source) = Source::open(path, Start::Beginning, now)
                && !taken.contains(&source.identity)
                && source.identity != follower.current.identity
            {
                follower.old.push(source);
            }
        }
        follower.pending.push(Notice::Rotated);
        Ok(follower)
    }
}

/// The file with this place in it among `copies`: the one with the same number if that is one, for logs may repeat themselves.
fn find<'c>(copies: &'c [(i128, PathBuf)], place: &Place, now: Instant) -> Option<(i128, &'c PathBuf, Source)> {
    let with = |same: bool| {
        copies.iter().find_map(|(written, path)| {
            let source = Source::at(path, place, now)?;
            (!same || source.identity == place.identity).then_some((*written, path, source))
        })
    };
    with(true).or_else(|| with(false))
}

fn is_packed(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "gz")
}

/// Whether a compressed file holds this place. It is unpacked up to there, and nothing of it is kept.
fn is_packed_copy(path: &Path, place: &Place) -> bool {
    let holds = || -> io::Result<bool> {
        let (head, mark) = (bytes(&place.head), bytes(&place.mark));
        let mut text = MultiGzDecoder::new(BufReader::new(File::open(path)?));
        let mut found = vec![0; head.len()];
        text.read_exact(&mut found)?;
        if found != head {
            return Ok(false);
        }
        let length = |bytes: &[u8]| u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let between = place.offset.checked_sub(length(&head));
        let Some(between) = between else { return Ok(false) };
        // head and mark overlap in a short file
        let mut behind = head;
        let skipped = between.saturating_sub(length(&mark));
        if skipped > 0 {
            behind.clear();
            if io::copy(&mut (&mut text).take(skipped), &mut io::sink())? < skipped {
                return Ok(false);
            }
        }
        let mut rest = vec![0; usize::try_from(between - skipped).unwrap_or(0)];
        text.read_exact(&mut rest)?;
        behind.extend(rest);
        Ok(behind.ends_with(&mark))
    };
    place.offset > 0 && is_packed(path) && holds().unwrap_or(false)
}

/// Gives the lines of a compressed file from an offset on, in blocks with their offsets.
pub(super) fn unpack(path: &Path, given: u64, give: &mut dyn FnMut(u64, &[u8])) -> io::Result<()> {
    let mut text = BufReader::with_capacity(64 * 1024, MultiGzDecoder::new(BufReader::new(File::open(path)?)));
    io::copy(&mut (&mut text).take(given), &mut io::sink())?;
    let limit = super::bytes(LINE_LIMIT);
    let (mut at, mut block) = (given, Vec::new());
    loop {
        let before = block.len();
        let mut read = (&mut text).take(limit).read_until(b'\n', &mut block)?;
        let end = read == 0;
        // the rest of a giant is passed over
        let giant = read >= LINE_LIMIT && block.last() != Some(&b'\n');
        if giant {
            let mut rest = Vec::new();
            loop {
                let more = (&mut text).take(limit).read_until(b'\n', &mut rest)?;
                read += more;
                if more == 0 || rest.last() == Some(&b'\n') {
                    break;
                }
                rest.clear();
            }
        }
        if end || giant || block.len() >= 256 * 1024 {
            if block.last().is_some_and(|last| *last != b'\n') {
                block.push(b'\n');
            }
            if !block.is_empty() {
                give(at, &block);
                block.clear();
            }
            at += super::bytes(before + read);
        }
        if end {
            return Ok(());
        }
    }
}
