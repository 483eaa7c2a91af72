//! A file that others rotate: before each batch its name is looked at, and it is opened again when it names another file.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Failure, Link};

pub(super) struct FileLink {
    path: PathBuf,
    file: File,
}

impl FileLink {
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        Ok(Self { path: path.to_owned(), file: append(path)? })
    }

    /// Whether the name still means the open file.
    fn is_current(&self) -> bool {
        let named = std::fs::metadata(&self.path);
        let open = self.file.metadata();
        matches!((named, open), (Ok(a), Ok(b)) if (a.dev(), a.ino()) == (b.dev(), b.ino()))
    }
}

fn append(path: &Path) -> Result<File, Failure> {
    let opened = OpenOptions::new().append(true).create(true).mode(0o640).open(path);
    opened.map_err(|error| Failure::lost(path.display(), error))
}

impl Link for FileLink {
    fn send(&mut self, messages: &[Vec<u8>]) -> Result<usize, Failure> {
        if !self.is_current() {
            self.file = append(&self.path)?;
        }
        let mut lines = Vec::with_capacity(messages.iter().map(|message| message.len() + 1).sum());
        for message in messages {
            lines.extend_from_slice(message);
            lines.push(b'\n');
        }
        let written = self.file.write_all(&lines).and_then(|()| self.file.sync_data());
        written.map_err(|error| Failure::lost(self.path.display(), error))?;
        Ok(messages.len())
    }

    fn settle(&mut self, _: Duration) -> Result<usize, Failure> {
        Ok(0)
    }
}
