//! Reads a snapshot folder, or one file of it, from disk.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use crate::files::{FileState, SnapshotFiles};
use crate::snapshot::kind::{self, Kind};
use crate::snapshot::{FOLDERS, is_known_name};

/// Largest file read: 512 MiB, several times what 50,000 rules or a million set members take. A larger one counts as
/// unreadable.
pub const MAX_FILE: u64 = 512 * 1024 * 1024;

/// Most bytes read from one folder.
const MAX_FOLDER: u64 = 4 * MAX_FILE;

/// Most files looked at in one folder, and how deep.
const MAX_ENTRIES: usize = 10_000;
const MAX_DEPTH: usize = 6;

/// Why there is nothing to judge.
#[derive(Debug)]
pub struct CollectError(String);

impl fmt::Display for CollectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CollectError {}

/// Reads what `path` names: a snapshot folder, or one file whose kind is told from its content.
///
/// # Errors
/// When nothing could be read at all: no such path, no permission, an empty folder, a file of unknown kind. A file of a
/// folder that cannot be read is no error but [`FileState::Unreadable`].
pub fn saved(path: &Path) -> Result<SnapshotFiles, CollectError> {
    let cannot = |error: &io::Error| {
        let hint = match error.kind() {
            io::ErrorKind::NotFound => "expected a folder made by 'hepguard snapshot DIR', or one file of it",
            io::ErrorKind::PermissionDenied => {
                "run as a user who may read it (snapshots are readable by their owner only)"
            }
            _ => "check the path",
        };
        CollectError(format!("cannot read the snapshot {}: {}; {hint}", path.display(), reason(error)))
    };
    let metadata = fs::metadata(path).map_err(|error| cannot(&error))?;
    if metadata.is_dir() { folder(path, &cannot) } else { file(path, &cannot) }
}

fn folder(path: &Path, cannot: &dyn Fn(&io::Error) -> CollectError) -> Result<SnapshotFiles, CollectError> {
    let mut walk = Walk { found: SnapshotFiles::default(), room: MAX_FOLDER, entries: MAX_ENTRIES };
    walk.folder(path, "", 0).map_err(|error| cannot(&error))?;
    if walk.found.files.is_empty() {
        let expected = "a snapshot folder has files such as iptables-save.txt, nft-ruleset.json, ip-addr.json, \
                        felix/calico.env";
        let ignored = match walk.found.ignored.first() {
            Some(name) => format!("holds no file of a snapshot (found {name} among others)"),
            None => "is empty".to_owned(),
        };
        return Err(CollectError(format!("the folder {} {ignored}; {expected}", path.display())));
    }
    Ok(walk.found)
}

struct Walk {
    found: SnapshotFiles,
    room: u64,
    entries: usize,
}

impl Walk {
    fn folder(&mut self, path: &Path, prefix: &str, depth: usize) -> io::Result<()> {
        let mut entries: Vec<_> = fs::read_dir(path)?.collect::<io::Result<_>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if self.entries == 0 {
                self.found.ignored.push(format!("{name} and what follows: more than {MAX_ENTRIES} files"));
                return Ok(());
            }
            self.entries -= 1;
            let path = entry.path();
            let below = format!("{name}/");
            let is_folder = fs::metadata(&path).is_ok_and(|metadata| metadata.is_dir());
            if is_folder && FOLDERS.iter().any(|folder| below.starts_with(folder)) && depth < MAX_DEPTH {
                if let Err(error) = self.folder(&path, &below, depth + 1) {
                    self.found.files.insert(name, FileState::Unreadable(reason(&error)));
                }
            } else if !is_known_name(&name) || is_folder {
                self.found.ignored.push(name);
            } else {
                let state = self.file(&path);
                self.found.files.insert(name, state);
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path) -> FileState {
        match fs::metadata(path) {
            // a pipe would wait for ever
            Ok(metadata) if !metadata.is_file() => FileState::Unreadable("not a regular file".to_owned()),
            Ok(_) => match read(path, MAX_FILE.min(self.room)) {
                Ok(bytes) => {
                    self.room = self.room.saturating_sub(bytes.len() as u64);
                    FileState::Present(bytes)
                }
                Err(error) => FileState::Unreadable(reason(&error)),
            },
            Err(error) => FileState::Unreadable(reason(&error)),
        }
    }
}

fn file(path: &Path, cannot: &dyn Fn(&io::Error) -> CollectError) -> Result<SnapshotFiles, CollectError> {
    let bytes = read(path, MAX_FILE).map_err(|error| cannot(&error))?;
    let fail = |why: &str| Err(CollectError(format!("cannot judge {}: {why}", path.display())));
    let name = match kind::of(&bytes) {
        Kind::File(name) => name,
        Kind::Useless(instead) => return fail(instead),
        Kind::Unknown if bytes.iter().all(u8::is_ascii_whitespace) => return fail("it is empty"),
        Kind::Unknown => {
            return fail(
                "its content is none of: iptables-save, nft -j list ruleset, ipset save, ip -j addr|link|route|rule, \
                 ss -H -tuanp, conntrack -L, Felix's environment or felix.cfg, Calico YAML; put it in a folder under its \
                 name in the snapshot format if it is one of them",
            );
        }
    };
    let mut found = SnapshotFiles::default();
    found.labels.insert(name.to_owned(), path.display().to_string());
    found.files.insert(name.to_owned(), FileState::Present(bytes));
    Ok(found)
}

/// At most `limit` bytes of a file or pipe; more is an error.
fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        let message = format!("larger than the {} MiB this program reads", limit / (1024 * 1024));
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(bytes)
}

/// The system's words without "(os error 13)".
pub(super) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    text.chars().next().map_or_else(String::new, |first| first.to_lowercase().chain(text.chars().skip(1)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(path: &Path) -> String {
        saved(path).expect_err("nothing to judge").to_string()
    }

    #[test]
    fn a_folder_gives_its_files_and_names_the_rest() {
        let dir = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).expect("written");
        fs::create_dir_all(dir.path().join("persisted/iptables")).expect("made");
        fs::create_dir(dir.path().join("ip-rule.json")).expect("made");
        write("iptables-save.txt", "*filter\nCOMMIT\n");
        write("notes.txt", "mine");
        write("persisted/iptables/rules.v4", "*filter\n");
        std::os::unix::fs::symlink("/nonexistent", dir.path().join("sockets.txt")).expect("linked");
        let found = saved(dir.path()).expect("a snapshot");
        assert_eq!(found.bytes("iptables-save.txt"), Some(&b"*filter\nCOMMIT\n"[..]));
        assert_eq!(found.bytes("persisted/iptables/rules.v4"), Some(&b"*filter\n"[..]));
        assert_eq!(
            found.files.get("sockets.txt"),
            Some(&FileState::Unreadable("no such file or directory".to_owned()))
        );
        assert_eq!(found.ignored, ["ip-rule.json", "notes.txt"]);
    }

    #[test]
    fn a_file_alone_is_told_by_its_content_and_keeps_its_own_name() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("grep.out");
        fs::write(&path, "-A cali-failsafe-in -p tcp -j ACCEPT\n").expect("written");
        let found = saved(&path).expect("a snapshot");
        assert!(found.bytes("iptables-save.txt").is_some());
        assert_eq!(found.label("iptables-save.txt"), path.display().to_string());
    }

    #[test]
    fn nothing_to_judge_is_an_error_that_says_what_to_do() {
        let dir = tempfile::tempdir().expect("a folder");
        assert!(error(dir.path()).contains("is empty; a snapshot folder has files such as"));
        assert!(error(&dir.path().join("none")).contains("no such file or directory; expected a folder made by"));
        let path = dir.path().join("x");
        fs::write(&path, b"\x7fELF\0\0").expect("written");
        assert!(error(&path).contains("its content is none of"));
        assert!(error(dir.path()).contains("holds no file of a snapshot (found x among others)"));
        fs::write(&path, b"\n").expect("written");
        assert!(error(&path).ends_with("it is empty"));
        fs::write(&path, b"Chain INPUT (policy ACCEPT)\n").expect("written");
        assert!(error(&path).contains("use 'iptables-save -c'"));
    }
}
