//! Going on after a restart: the place that was written down is found again, under whatever name its file has now.
//!
//! A place is known by what stands in its file: the first bytes, and those in front of it. So a file is found after it was
//! renamed, copied and truncated, or compressed with gzip; and a new file with the number of an old one is not taken for it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::time::Instant;

use flate2::read::MultiGzDecoder;
use serde::{Deserialize, Serialize};

use super::{Follower, LINE_LIMIT, Notice, Sibling, Source, Start, copies};

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

    /// Goes to this place of a file that was just opened; false, and nothing is changed, when it is a place of another file.
    fn go_to(&mut self, place: &Place) -> bool {
        self.offset = place.offset;
        self.head = bytes(&place.head);
        self.mark = bytes(&place.mark);
        // of a file nobody had read from, only the number is known
        let is_same = || !self.mark.is_empty() && self.is_as_read(&self.file);
        let known = if place.offset == 0 { self.identity == place.identity } else { is_same() };
        if known {
            self.whole = (place.offset, self.mark.clone());
            self.skipping = place.skipping;
        } else {
            self.offset = 0;
            self.head.clear();
            self.mark.clear();
        }
        known
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
        // opened once: what has the name a moment later may be another file
        let mut live = Source::open(path, Start::Beginning, now)?;
        let is_known = live.go_to(&places.current);
        let copies = copies(path);
        let mut old: Vec<Source> = Vec::new();
        for place in &places.old {
            let found = find(&copies, place, now).map(|(_, source)| source);
            old.extend(found.filter(|source| old.iter().all(|known| known.identity != source.identity)));
        }
        if is_known {
            let mut follower = Self::with(path, live);
            follower.old = old;
            return Ok(follower);
        }
        let mut follower = Self::with(path, live);
        let place = &places.current;
        let mut taken: Vec<(u64, u64)> = old.iter().map(|source| source.identity).collect();
        taken.push(follower.current.identity);
        follower.old = old;
        let (since, found) = if let Some((copy, source)) = find(&copies, place, now) {
            taken.push(source.identity);
            follower.old.push(source);
            (copy.written, Some(&copy.path))
        } else if let Some(copy) = copies.iter().find(|copy| is_packed_copy(&copy.path, place)) {
            follower.backlog.push_back((copy.path.clone(), place.offset));
            (copy.written, Some(&copy.path))
        } else {
            // nothing was read of it, or nothing is left of it
            follower.pending.extend((place.offset > 0).then_some(Notice::TruncatedAndLost));
            return Ok(follower);
        };
        // files that came and went meanwhile, the oldest first
        for copy in copies.iter().rev() {
            if copy.written <= since || Some(&copy.path) == found || !copy.is_rotated {
                continue;
            }
            if is_packed(&copy.path) {
                follower.backlog.push_back((copy.path.clone(), 0));
            } else if let Ok(source) = Source::open(&copy.path, Start::Beginning, now)
                && !taken.contains(&source.identity)
            {
                taken.push(source.identity);
                follower.old.push(source);
            }
        }
        follower.pending.push(Notice::Rotated);
        Ok(follower)
    }
}

/// The file with this place in it among `copies`: the one with the same number if that is one, for logs may repeat themselves.
fn find<'c>(copies: &'c [Sibling], place: &Place, now: Instant) -> Option<(&'c Sibling, Source)> {
    let at = |copy: &'c Sibling| {
        let mut source = Source::open(&copy.path, Start::Beginning, now).ok()?;
        source.go_to(place).then_some((copy, source))
    };
    let own = copies.iter().filter(|copy| copy.identity == place.identity);
    let others = copies.iter().filter(|copy| copy.identity != place.identity);
    own.chain(others).find_map(at)
}

pub(super) fn is_packed(path: &Path) -> bool {
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
