//! Everything known about one host at one time: the raw files of a snapshot folder, and what they say.
//!
//! The live host and a saved folder go the same way: [`crate::collect`] (or a person with standard tools) gives
//! [`SnapshotFiles`], and [`read`] gives a [`Snapshot`]. What is missing is known too.

pub mod kind;
pub mod meta;
pub mod secrets;

use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Level, Parsed, Remarks};
pub use crate::files::{FileState, SnapshotFiles};
use crate::host::{self, Host};
use crate::ruleset::Ruleset;
use meta::Meta;

/// What the files say.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The raw files it was read from.
    pub files: SnapshotFiles,
    /// Which host, when, with which tools.
    pub meta: Meta,
    /// The firewall.
    pub ruleset: Ruleset,
    /// The host around it.
    pub host: Host,
    /// Remarks of all readers, in file order.
    pub diagnostics: Vec<Diagnostic>,
}

/// Files of a snapshot folder that have one fixed name.
pub const FILE_NAMES: [&str; 20] = [
    "meta.json",
    "iptables-save.txt",
    "ip6tables-save.txt",
    "iptables-legacy-save.txt",
    "ip6tables-legacy-save.txt",
    "iptables-nft-save.txt",
    "ip6tables-nft-save.txt",
    "nft-ruleset.json",
    "nft-ruleset.txt",
    "ipset-save.txt",
    "ip-addr.json",
    "ip-link.json",
    "ip-route.json",
    "ip-rule.json",
    "sockets.txt",
    "conntrack.txt",
    "bpf.json",
    "tc.txt",
    "resolv.conf",
    "sysctl.txt",
];

/// Folders of a snapshot folder; any file in them belongs to it.
pub const FOLDERS: [&str; 4] = ["felix/", "calico/", "persisted/", "leases/"];

/// Whether a snapshot may hold a file of this name.
#[must_use]
pub fn is_known_name(name: &str) -> bool {
    FILE_NAMES.contains(&name) || FOLDERS.iter().any(|folder| name.starts_with(folder))
}

/// Reads every file with its reader. Never fails: what is wrong is among the diagnostics, what is missing stays `None`.
#[must_use]
pub fn read(files: SnapshotFiles) -> Snapshot {
    let mut reading = Reading { files: &files, diagnostics: Vec::new() };
    let meta = reading.file(meta::NAME, read_meta).unwrap_or_default();
    let host = reading.host();
    reading.file("bpf.json", check_json);
    reading.ignored();
    let diagnostics = reading.diagnostics;
    Snapshot { meta, ruleset: Ruleset::default(), host, diagnostics, files }
}

fn read_meta(source: &Arc<str>, text: &[u8]) -> Parsed<Meta> {
    read_json(source, text)
}

fn check_json(source: &Arc<str>, text: &[u8]) -> Parsed<()> {
    read_json::<serde::de::IgnoredAny>(source, text).map(|_| ())
}

fn read_json<T: serde::de::DeserializeOwned + Default>(source: &Arc<str>, text: &[u8]) -> Parsed<T> {
    let mut remarks = Remarks::new(source);
    let value = serde_json::from_slice(text).unwrap_or_else(|error| {
        let number = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        remarks.add(Level::Error, number(error.line()), number(error.column()), format!("not used: {error}"));
        T::default()
    });
    remarks.with(value)
}

struct Reading<'a> {
    files: &'a SnapshotFiles,
    diagnostics: Vec<Diagnostic>,
}

impl Reading<'_> {
    /// The file's content as `reader` reads it; `None` when it is not there or cannot be read.
    fn file<T>(&mut self, name: &str, reader: impl FnOnce(&Arc<str>, &[u8]) -> Parsed<T>) -> Option<T> {
        let bytes = self.files.bytes(name)?;
        let source: Arc<str> = Arc::from(self.files.label(name));
        let parsed = reader(&source, bytes);
        self.diagnostics.extend(parsed.diagnostics);
        Some(parsed.value)
    }

    fn host(&mut self) -> Host {
        let mut interfaces = self.file("ip-addr.json", host::ip::interfaces);
        for link in self.file("ip-link.json", host::ip::interfaces).into_iter().flatten() {
            host::ip::merge(interfaces.get_or_insert_default(), link);
        }
        let mut tables = host::ip::TableNumbers::default();
        Host {
            interfaces,
            routes: self.file("ip-route.json", |source, text| host::ip::routes(source, text, &mut tables)),
            rules: self.file("ip-rule.json", |source, text| host::ip::rules(source, text, &mut tables)),
            sockets: self.file("sockets.txt", host::sockets::read),
            sessions: self.file("conntrack.txt", host::conntrack::read),
            sysctls: self.file("sysctl.txt", host::sysctl::read),
        }
    }

    fn ignored(&mut self) {
        for name in &self.files.ignored {
            let source: Arc<str> = Arc::from(name.as_str());
            let message = "not a file name of a snapshot; not looked at";
            self.diagnostics.push(Diagnostic::new(Level::Note, &source, 0, 0, message));
        }
    }
}
