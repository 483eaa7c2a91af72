//! Reads a snapshot folder, or one file of it, from disk; writes a folder.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use crate::files::{FileState, SnapshotFiles};
use crate::snapshot::kind::{self, Kind};
use crate::snapshot::meta::{self, Meta};
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
    // a damaged meta.json is its reader's business
    if let Ok(Some(meta)) = Meta::of(&walk.found) {
        meta.restore(&mut walk.found);
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
    let file = File::open(path)?;
    // a pipe tells no length
    let told = file.metadata()?.len();
    if told <= limit {
        file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    }
    if told > limit || bytes.len() as u64 > limit {
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

/// Writes a snapshot folder: the folder for its owner only (0700), so its files (0600).
///
/// An existing folder must be empty; with `replace` it may also be an older snapshot, whose files are removed first.
///
/// # Errors
/// When the folder is something else, is not this user's, or cannot be written.
pub fn save(files: &SnapshotFiles, path: &Path, replace: bool) -> Result<(), CollectError> {
    let cannot = |path: &Path, error: &io::Error| {
        CollectError(format!("cannot write the snapshot to {}: {}", path.display(), reason(error)))
    };
    prepare(path, replace).map_err(|error| cannot(path, &error))?;
    // meta.json last: a folder without it was not finished
    let (last, others): (Vec<_>, Vec<_>) = files.files.iter().partition(|(name, _)| *name == meta::NAME);
    for (name, state) in others.into_iter().chain(last) {
        let FileState::Present(bytes) = state else { continue };
        let path = path.join(name);
        let written = path.parent().map_or(Ok(()), make_folder).and_then(|()| {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
            file.write_all(bytes)
        });
        written.map_err(|error| cannot(&path, &error))?;
    }
    Ok(())
}

fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Makes the folder, or checks and empties the one that is there.
fn prepare(path: &Path, replace: bool) -> io::Result<()> {
    let refuse = |why: &str| Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return make_folder(path),
        other => other?,
    };
    if !metadata.is_dir() {
        return refuse("it is no folder");
    }
    if metadata.uid() != nix::unistd::geteuid().as_raw() {
        return refuse("the folder belongs to another user");
    }
    fs::set_permissions(path, Permissions::from_mode(0o700))?;
    if fs::read_dir(path)?.next().is_none() {
        return Ok(());
    }
    let old = folder(path, &|error| CollectError(reason(error))).unwrap_or_default();
    let is_snapshot = matches!(Meta::of(&old), Ok(Some(meta)) if meta.schema.starts_with("hepguard/snapshot/"));
    if !is_snapshot {
        return refuse("the folder is not empty and no snapshot; name another one");
    }
    if !replace {
        return refuse("the folder holds an older snapshot; --force replaces it");
    }
    for (name, state) in &old.files {
        if matches!(state, FileState::Present(_)) {
            fs::remove_file(path.join(name))?;
        }
    }
    Ok(())
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

    fn sample() -> SnapshotFiles {
        let mut files = SnapshotFiles::default();
        let mut put = |name: &str, state: FileState| files.files.insert(name.to_owned(), state);
        put("iptables-save.txt", FileState::Present(b"*filter\nCOMMIT\n".to_vec()));
        put("persisted/ufw/ufw.conf", FileState::Present(b"\xff\0\r\n".to_vec()));
        put("leases/empty", FileState::Present(Vec::new()));
        put("ipset-save.txt", FileState::Absent);
        put("conntrack.txt", FileState::Unreadable("no rights".to_owned()));
        Meta { schema: meta::SCHEMA.to_owned(), ..Meta::default() }.store(&mut files);
        files
    }

    #[test]
    fn what_is_saved_reads_back_the_same() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("deep/snap");
        save(&sample(), &path, false).expect("written");
        assert_eq!(saved(&path).expect("a snapshot"), sample());
        let mode = |path: &Path| fs::metadata(path).expect("there").mode() & 0o777;
        assert_eq!((mode(&path), mode(&path.join("persisted"))), (0o700, 0o700));
        assert_eq!((mode(&path.join("iptables-save.txt")), mode(&path.join("meta.json"))), (0o600, 0o600));
    }

    #[test]
    fn only_an_older_snapshot_is_replaced_and_only_when_told() {
        let dir = tempfile::tempdir().expect("a folder");
        let refused = |replace| save(&sample(), dir.path(), replace).expect_err("refused").to_string();
        fs::write(dir.path().join("letter.txt"), "dear").expect("written");
        assert!(refused(true).contains("no snapshot"));
        fs::remove_file(dir.path().join("letter.txt")).expect("removed");
        save(&sample(), dir.path(), false).expect("an empty folder will do");
        assert!(refused(false).contains("--force"));
        fs::write(dir.path().join("sockets.txt"), "old").expect("written");
        save(&sample(), dir.path(), true).expect("replaced");
        assert_eq!(saved(dir.path()).expect("a snapshot"), sample(), "nothing of the old one is left");
        let file = dir.path().join("iptables-save.txt");
        assert!(save(&sample(), &file, true).expect_err("refused").to_string().contains("no folder"));
    }
}
