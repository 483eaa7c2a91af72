//! What survives a restart: places in logs and what the monitor knows, in one file that is replaced whole. So a crash at any
//! moment leaves counts and places that belong together: no line is lost, none counts twice.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::forwarding::Kept;
use crate::tail::Places;

/// Largest state that is read.
const MAX_BYTES: u64 = 64 << 20;

/// The file's content.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Saved<M = Value> {
    /// `hepguard/state/v1`.
    pub(super) schema: String,
    /// Places in files.
    #[serde(default)]
    pub(super) places: BTreeMap<PathBuf, Places>,
    /// Place in the journal.
    #[serde(default)]
    pub(super) cursor: Option<String>,
    /// Sums of the denies before these places.
    #[serde(default)]
    pub(super) sums: Kept,
    /// What the monitor knows.
    #[serde(default)]
    pub(super) monitor: M,
}

const SCHEMA: &str = "hepguard/state/v1";

/// The folder, and the lock that keeps a second daemon out.
pub(super) struct Store {
    folder: PathBuf,
    lock: Option<Flock<File>>,
}

/// Why a store cannot be had.
pub(super) enum Refused {
    /// Another daemon has it.
    Taken,
    /// It cannot be written; the daemon works without.
    Io(io::Error),
}

impl Store {
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), lock: None }
    }

    /// Takes the lock, making the folder where it is missing.
    pub(super) fn take(&mut self) -> Result<(), Refused> {
        if self.lock.is_some() {
            return Ok(());
        }
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder).map_err(Refused::Io)?;
        let path = self.folder.join("lock");
        let file =
            OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path).map_err(Refused::Io)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => self.lock = Some(lock),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => return Err(Refused::Taken),
            Err((_, error)) => return Err(Refused::Io(error.into())),
        }
        Ok(())
    }

    /// Reads what was written last; what is no state is put aside and said.
    pub(super) fn load(&self) -> (Saved, Option<String>) {
        let path = self.folder.join("state.json");
        let mut bytes = Vec::new();
        match File::open(&path).and_then(|file| file.take(MAX_BYTES).read_to_end(&mut bytes)) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return (Saved::default(), None),
            Err(error) => return (Saved::default(), Some(format!("cannot be read: {error}"))),
        }
        match serde_json::from_slice::<Saved>(&bytes) {
            Ok(saved) if saved.schema == SCHEMA => (saved, None),
            other => {
                let why = other.map_or_else(|error| error.to_string(), |saved| format!("schema {:?}", saved.schema));
                let aside = self.folder.join("state.corrupt.json");
                let _ = fs::rename(&path, &aside);
                (
                    Saved::default(),
                    Some(format!("is no state of hepguard ({why}); it was renamed to state.corrupt.json")),
                )
            }
        }
    }

    /// Replaces what was written.
    pub(super) fn save<M: Serialize>(&mut self, mut saved: Saved<M>) -> io::Result<()> {
        self.take().map_err(|refused| match refused {
            Refused::Taken => io::Error::other("another hepguard holds its lock"),
            Refused::Io(error) => error,
        })?;
        SCHEMA.clone_into(&mut saved.schema);
        replace(&self.folder.join("state.json"), &serde_json::to_vec(&saved)?, 0o600, true)
    }
}

/// Writes a file beside the old one and puts it in its place. `sync`: it is on the disk afterwards.
pub(super) fn replace(path: &Path, bytes: &[u8], mode: u32, sync: bool) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut new = std::ffi::OsString::from(".");
    new.push(name);
    new.push(".new");
    let new = folder.join(new);
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&new)?;
        file.write_all(bytes)?;
        if sync {
            file.sync_data()?;
        }
        fs::rename(&new, path)?;
        if sync {
            File::open(folder)?.sync_all()?;
        }
        Ok(())
    };
    // what is left of a full disk is no use to anybody
    write().inspect_err(|_| drop(fs::remove_file(&new)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_loaded_and_nobody_else_gets_in() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut store = Store::new(folder.path());
        assert!(store.take().is_ok());
        assert!(store.load().1.is_none());
        let saved: Saved = Saved { cursor: Some("s=1".to_owned()), ..Saved::default() };
        store.save(saved).expect("saved");
        assert_eq!(store.load().0.cursor.as_deref(), Some("s=1"));
        assert!(matches!(Store::new(folder.path()).take(), Err(Refused::Taken)));
        fs::write(folder.path().join("state.json"), "{\"schema\": 3").expect("written");
        let (saved, why) = store.load();
        assert!(saved.cursor.is_none() && why.is_some_and(|why| why.contains("no state of hepguard")));
        assert!(folder.path().join("state.corrupt.json").exists());
    }

    #[test]
    fn a_file_that_cannot_be_replaced_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(replace(&folder.path().join("no/such/file"), b"x", 0o600, true).is_err());
        assert!(replace(Path::new("/"), b"x", 0o600, false).is_err());
        let path = folder.path().join("f");
        replace(&path, b"one", 0o644, false).expect("written");
        replace(&path, b"two", 0o644, true).expect("written");
        assert_eq!(fs::read(&path).expect("read"), b"two");
        assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 1);
    }
}
