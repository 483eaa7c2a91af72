//! Messages that a collector refuses again and again: set aside in a file, so that the queue behind them goes on.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// How often a message is offered before it is set aside: a collector may be in trouble itself.
pub(super) const TRIES: u32 = 3;

/// Size at which the file is begun anew; the one before is kept.
const MAX_BYTES: u64 = 1 << 20;

/// Counts how often the message in front was refused, and keeps those that are given up.
pub(super) struct Aside {
    path: PathBuf,
    /// Queue and number of the message refused last, and how often in a row.
    front: Option<(usize, u64, u32)>,
}

impl Aside {
    /// In the folder of an output.
    pub(super) fn new(folder: &Path) -> Self {
        Self { path: folder.join("refused.log"), front: None }
    }

    /// Where they are.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A message was refused; true when it is to be given up.
    pub(super) fn refused(&mut self, lane: usize, number: u64) -> bool {
        let before = self.front.filter(|(queue, known, _)| (*queue, *known) == (lane, number));
        let tries = before.map_or(0, |(.., tries)| tries) + 1;
        self.front = Some((lane, number, tries));
        tries >= TRIES
    }

    /// Keeps messages that were given up, a line each.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn keep(&mut self, messages: &[&[u8]]) -> io::Result<()> {
        self.front = None;
        if fs::metadata(&self.path).is_ok_and(|meta| meta.len() >= MAX_BYTES) {
            fs::rename(&self.path, self.path.with_extension("log.1"))?;
        }
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path)?;
        // encoders leave no line feed inside a message
        let lines: Vec<&[u8]> = messages.iter().flat_map(|message| [*message, b"\n"]).collect();
        file.write_all(&lines.concat())?;
        file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_message_refused_in_a_row_is_given_up_and_files_are_bounded() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut aside = Aside::new(dir.path());
        for number in 1..10 {
            assert!(!aside.refused(0, number) && !aside.refused(1, number));
        }
        let given_up: Vec<bool> = (0..TRIES).map(|_| aside.refused(0, 10)).collect();
        assert_eq!(given_up, [false, false, true]);
        for _ in 0..5 {
            aside.keep(&[&[b'x'; 400 << 10]]).expect("written");
        }
        let size = |path: &Path| fs::metadata(path).expect("there").len();
        assert!(size(aside.path()) < 2 * MAX_BYTES && size(&aside.path().with_extension("log.1")) < 2 * MAX_BYTES);
        assert_eq!(fs::read_dir(dir.path()).expect("a folder").count(), 2);
    }
}
