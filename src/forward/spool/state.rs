//! How far a queue is written and delivered: two slots in one file, written in turn, so that a torn write leaves the other.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// Length of a slot: generation, durable, acked (u64 each), CRC-32 (u32), four bytes of room.
const SLOT: usize = 32;

/// What is known for sure.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Marks {
    /// Last number that was given away and written, or dropped: no number up to it is given again.
    pub(super) durable: u64,
    /// Last number the receiver has.
    pub(super) acked: u64,
}

/// The file.
pub(super) struct StateFile {
    file: File,
    generation: u64,
    written: Option<Marks>,
}

impl StateFile {
    /// Opens or makes it. `None` for the marks when there are none that can be trusted.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Option<Marks>)> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let best = newest(&file);
        let (generation, marks) = best.map_or((0, None), |(generation, marks)| (generation, Some(marks)));
        Ok((Self { file, generation, written: marks }, marks))
    }

    /// The marks in a file that another process writes.
    pub(super) fn peek(path: &Path) -> io::Result<Option<Marks>> {
        Ok(newest(&File::open(path)?).map(|(_, marks)| marks))
    }

    /// Writes the marks unless they stand there. `sync` waits for the disk.
    pub(super) fn write(&mut self, marks: Marks, sync: bool) -> io::Result<()> {
        if self.written != Some(marks) {
            let generation = self.generation + 1;
            self.file.write_all_at(&encode(generation, marks), generation % 2 * SLOT as u64)?;
            self.generation = generation;
            self.written = Some(marks);
        }
        if sync { self.file.sync_data() } else { Ok(()) }
    }
}

/// The newer of the two slots, of those that are sound.
fn newest(file: &File) -> Option<(u64, Marks)> {
    let slots = (0..2).filter_map(|slot| {
        let mut bytes = [0; SLOT];
        file.read_exact_at(&mut bytes, slot * SLOT as u64).ok()?;
        decode(&bytes)
    });
    slots.max_by_key(|(generation, _)| *generation)
}

fn encode(generation: u64, marks: Marks) -> [u8; SLOT] {
    let mut out = [0; SLOT];
    out[..8].copy_from_slice(&generation.to_le_bytes());
    out[8..16].copy_from_slice(&marks.durable.to_le_bytes());
    out[16..24].copy_from_slice(&marks.acked.to_le_bytes());
    let crc = crc32fast::hash(&out[..24]);
    out[24..28].copy_from_slice(&crc.to_le_bytes());
    out
}

fn decode(bytes: &[u8; SLOT]) -> Option<(u64, Marks)> {
    let number = |at: usize| bytes.get(at..)?.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes));
    let crc = u32::from_le_bytes(*bytes.get(24..)?.first_chunk::<4>()?);
    let generation = number(0)?;
    (crc == crc32fast::hash(&bytes[..24]) && generation > 0)
        .then_some((generation, Marks { durable: number(8)?, acked: number(16)? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_slot_leaves_the_one_before() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("state");
        let (mut state, none) = StateFile::open(&path).expect("made");
        assert_eq!(none, None);
        for acked in 1..=5 {
            state.write(Marks { durable: 9, acked }, true).expect("written");
        }
        let sound = std::fs::read(&path).expect("there");
        // generation 5 stands in the second slot
        for place in 0..2 * SLOT {
            let mut bytes = sound.clone();
            bytes[place] ^= 0x10;
            std::fs::write(&path, &bytes).expect("written");
            let (_, marks) = StateFile::open(&path).expect("opened");
            let acked = marks.expect("one slot is sound").acked;
            let room = place % SLOT >= 28;
            assert_eq!(acked, if place >= SLOT && !room { 4 } else { 5 }, "byte {place}");
        }
    }
}
