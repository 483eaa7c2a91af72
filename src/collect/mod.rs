//! From the outside world to the raw files of a snapshot: the live host, a saved folder, or a single file.
//!
//! Looking changes nothing: legacy tables are listed only where they are already registered (`iptables-legacy -L` would
//! register them), no tool runs whose kernel module is known to be absent (it would be loaded), no counter is reset.
//!
//! No tool is believed because it ended well. Listings of rules that changed meanwhile are taken again; where `nft` fails on
//! the whole ruleset its parts are listed one by one; the kernel's own count of rules goes along (`nft-kernel.json`).

mod felix;
mod firewall;
mod ipset_counts;
mod network;
mod nft;
mod services;
mod stored;
pub mod saved;

use std::io;
use std::path::Path;
use std::time::Duration;

pub use firewall::surely_not_loaded;
pub use saved::{CollectError, MAX_FILE, save, saved};

use crate::files::{FileState, RIGHTS_HINT, SnapshotFiles};
use crate::snapshot::meta::{Meta, SCHEMA};
use crate::system::{RunError, System};

/// Time for one tool. `nft` restarts its listing while somebody changes rules, and needs seconds for 50,000 of them.
const LIMIT: Duration = Duration::from_secs(60);

/// Time for a tool to tell its version.
const SOON: Duration = Duration::from_secs(5);

/// Looks at the live host. Each item is there, known to be absent, or unreadable with the reason.
#[must_use]
pub fn live(system: &dyn System) -> SnapshotFiles {
    let mut live = Live { system, found: SnapshotFiles::default() };
    live.firewall();
    live.network();
    live.felix();
    live.stored();
    live.services();
    let meta = live.meta();
    let mut found = live.found;
    meta.store(&mut found);
    found
}

/// Looks at the network and at what boot loads, and at nothing else: at a private copy of a host, which has no services.
#[must_use]
pub fn network_state(system: &dyn System) -> SnapshotFiles {
    let mut live = Live { system, found: SnapshotFiles::default() };
    live.firewall();
    live.links();
    live.stored();
    live.found
}

/// A tool that gave no answer to rely on.
struct Failure {
    /// In words.
    why: String,
    /// It is there.
    installed: bool,
    /// Its standard output when it came to an end by itself, however bad.
    said: Option<Vec<u8>>,
}

struct Live<'a> {
    system: &'a dyn System,
    found: SnapshotFiles,
}

impl Live<'_> {
    fn put(&mut self, name: impl Into<String>, state: FileState) {
        self.found.files.insert(name.into(), state);
    }

    /// The file at `path`, passed through `clean`.
    fn file(&self, path: impl AsRef<Path>, clean: fn(&[u8]) -> Vec<u8>) -> FileState {
        match self.system.read(path.as_ref()) {
            Ok(bytes) => FileState::Present(clean(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => FileState::Absent,
            Err(error) => FileState::Unreadable(unreadable(path.as_ref(), &error)),
        }
    }

    /// Standard output of a tool that must succeed without a word on standard error.
    fn tool(&self, program: &str, arguments: &[&str]) -> FileState {
        match self.output(program, arguments, |_| false) {
            Ok(bytes) => FileState::Present(bytes),
            Err(failure) => FileState::Unreadable(failure.why),
        }
    }

    /// The same, with lines on standard error that are known to be `harmless`.
    fn output(&self, program: &str, arguments: &[&str], harmless: fn(&str) -> bool) -> Result<Vec<u8>, Failure> {
        let line = [&[program], arguments].concat().join(" ");
        let output = self.system.run(program, arguments, LIMIT).map_err(|error| Failure {
            why: format!("'{program}' {error}"),
            installed: !matches!(error, RunError::NotInstalled),
            said: None,
        })?;
        let complaints = output.stderr.lines().map(str::trim).filter(|line| !line.is_empty() && !harmless(line));
        let words: String = complaints.collect::<Vec<_>>().join(" ").chars().take(400).collect();
        let why = match output.status {
            Some(0) if words.is_empty() => return Ok(output.stdout),
            Some(0) => format!("'{line}' says: {words}"),
            Some(status) => format!("'{line}' failed with status {status}: {words}{}", hint(&words)),
            // what ended it stands behind its own words
            None => match words.rsplit_once("ended by") {
                Some(("", how)) => format!("'{line}' was ended by{how}"),
                Some((own, how)) => format!("'{line}' was ended by{how}: {}", own.trim_end()),
                None => format!("'{line}' was ended: {words}"),
            },
        };
        Err(Failure { why, installed: true, said: Some(output.stdout) })
    }

    fn meta(&self) -> Meta {
        let text = |path: &str| {
            let bytes = self.system.read(Path::new(path)).ok()?;
            Some(String::from_utf8_lossy(&bytes).trim().to_owned())
        };
        let mut tools: std::collections::BTreeMap<String, String> = [
            ("nft", &["--version"][..]),
            ("iptables-nft-save", &["--version"]),
            ("iptables-legacy-save", &["--version"]),
            ("ip", &["-V"]),
        ]
        .into_iter()
        .filter_map(|(tool, arguments)| {
            let output = self.system.run(tool, arguments, SOON).ok().filter(|output| output.status == Some(0))?;
            let text = String::from_utf8_lossy(&output.stdout);
            Some((tool.to_owned(), text.lines().next()?.trim().to_owned()))
        })
        .collect();
        tools.insert("hepguard".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
        let now = chrono::DateTime::<chrono::Utc>::from(self.system.now());
        Meta {
            schema: SCHEMA.to_owned(),
            host: text("/proc/sys/kernel/hostname"),
            kernel: text("/proc/sys/kernel/osrelease"),
            time: Some(now.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)),
            tools,
            ..Meta::default()
        }
    }
}

/// `clean` for files without secrets.
fn as_is(bytes: &[u8]) -> Vec<u8> {
    bytes.to_vec()
}

fn unreadable(path: &Path, error: &io::Error) -> String {
    let why = saved::reason(error);
    format!("{}: {why}{}", path.display(), hint(&why))
}

/// What to do about a lack of rights.
fn hint(why: &str) -> &'static str {
    let lower = why.to_ascii_lowercase();
    let rights = ["not permitted", "permission denied", "must be root", "need to be root"];
    if rights.iter().any(|words| lower.contains(words)) { RIGHTS_HINT } else { "" }
}

#[cfg(test)]
mod tests;
