//! Hints that something may have changed which sends no notice of its own: the lock of legacy iptables, programs that change IP
//! sets, files of Felix and of what boot loads. All through one inotify handle.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

/// Whatever the hint is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Hint {
    /// Legacy iptables let go of its lock: compare.
    Lock,
    /// A program that changes IP sets ended: compare.
    Program,
    /// A file that the audit reads changed: judge.
    File,
}

/// The lock of legacy iptables.
const LOCK: &str = "/run/xtables.lock";

/// Programs whose end may mean other sets or rules. Looks do not run them to compare.
const PROGRAMS: [&str; 3] = ["/usr/sbin/ipset", "/sbin/ipset", "/usr/local/sbin/ipset"];

/// Folders whose files the audit reads.
const FOLDERS: [&str; 10] = [
    "/etc/calico",
    "/etc/default",
    "/etc/iptables",
    "/etc/ufw",
    "/etc/firewalld/zones",
    "/etc/ssh",
    "/etc/systemd/system",
    "/etc/systemd/system/calico-felix.service.d",
    "/var/lib/dhcp",
    "/run/systemd/netif/leases",
];

/// Files of `/etc` itself that the audit reads.
const FILES: [&str; 3] = ["nftables.conf", "resolv.conf", "ipset.conf"];

enum Place {
    Lock,
    /// `/run`, because the lock is not there yet or not ours to read.
    LockFolder,
    Program,
    Folder,
    Etc,
}

pub(super) struct Hints {
    inotify: Option<Inotify>,
    places: Vec<(WatchDescriptor, Place)>,
    lock: bool,
}

impl Hints {
    /// Watches what is there; `extra`: more folders.
    pub(super) fn new(extra: &[PathBuf]) -> Self {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).ok();
        let mut hints = Self { inotify, places: Vec::new(), lock: false };
        hints.lock();
        // a program has ended when the last mapping of it is closed
        for program in PROGRAMS {
            if let Ok(path) = std::fs::canonicalize(program) {
                hints.add(&path, AddWatchFlags::IN_CLOSE_NOWRITE, Place::Program);
            }
        }
        let written = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_ONLYDIR;
        for folder in FOLDERS.iter().map(Path::new).chain(extra.iter().map(PathBuf::as_path)) {
            hints.add(folder, written, Place::Folder);
        }
        hints.add(Path::new("/etc"), written, Place::Etc);
        hints
    }

    /// Whether anything is watched.
    pub(super) fn work(&self) -> bool {
        !self.places.is_empty()
    }

    fn add(&mut self, path: &Path, flags: AddWatchFlags, place: Place) -> bool {
        let Some(inotify) = &self.inotify else { return false };
        let Ok(descriptor) = inotify.add_watch(path, flags) else { return false };
        if self.places.iter().all(|(known, _)| *known != descriptor) {
            self.places.push((descriptor, place));
        }
        true
    }

    fn lock(&mut self) {
        // iptables opens it to read, and closes it when it is done
        let closed = AddWatchFlags::IN_CLOSE_NOWRITE | AddWatchFlags::IN_CLOSE_WRITE;
        self.lock = self.add(Path::new(LOCK), closed, Place::Lock);
        if !self.lock {
            self.add(Path::new("/run"), closed | AddWatchFlags::IN_ONLYDIR, Place::LockFolder);
        }
    }

    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.inotify.as_ref().map(AsFd::as_fd)
    }

    /// Takes what there is.
    pub(super) fn read(&mut self) -> Vec<Hint> {
        let mut found = Vec::new();
        while let Some(events) = self.inotify.as_ref().and_then(|inotify| inotify.read_events().ok()) {
            if events.is_empty() {
                break;
            }
            for event in events {
                let name = event.name.as_deref().and_then(std::ffi::OsStr::to_str).unwrap_or_default();
                if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                    found.push(Hint::File);
                    continue;
                }
                let Some((_, place)) = self.places.iter().find(|(descriptor, _)| *descriptor == event.wd) else {
                    continue;
                };
                match place {
                    Place::Lock => found.push(Hint::Lock),
                    Place::LockFolder if name == "xtables.lock" => found.push(Hint::Lock),
                    Place::Program => found.push(Hint::Program),
                    // editors' own files are nobody's
                    Place::Folder if !name.starts_with('.') && !name.ends_with('~') => found.push(Hint::File),
                    Place::Etc if FILES.contains(&name) => found.push(Hint::File),
                    _ => {}
                }
            }
        }
        if !self.lock && found.contains(&Hint::Lock) {
            // it is there now
            self.lock();
        }
        found.dedup();
        found
    }
}
