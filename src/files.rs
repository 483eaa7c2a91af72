//! The raw files of a snapshot, before anything is read from them.
//!
//! Every room that reads text of its own (host, calico) starts from these; [`crate::snapshot`] puts the answers together.

use std::collections::BTreeMap;

/// Ends the reason of an input that more rights would have opened.
pub const RIGHTS_HINT: &str =
    "; run as root, or with the capabilities CAP_NET_ADMIN, CAP_NET_RAW, CAP_DAC_READ_SEARCH and CAP_SYS_PTRACE";

/// Ends the reason of an input whose tool is missing, behind the tool's name in single quotes.
pub const NOT_INSTALLED: &str = "is not installed";

/// One file of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileState {
    /// Its bytes.
    Present(Vec<u8>),
    /// Nothing of that kind exists on the host (no legacy tables, no Felix): known to be empty.
    Absent,
    /// Could not be read or the tool failed: why.
    Unreadable(String),
}

/// Why the text of a file is not the whole answer, though there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// The tool failed after it had said something, or only parts were to be had: how.
    Partial(String),
    /// The rules changed each time they were listed: how often.
    Changed(String),
}

/// The raw files, by their name in the snapshot folder (`iptables-legacy-save.txt`, `felix/calico.env`, …).
/// A name that is not here was not looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotFiles {
    /// Files by relative name.
    pub files: BTreeMap<String, FileState>,
    /// Why a file that is there is not the whole answer.
    pub doubts: BTreeMap<String, Doubt>,
    /// What a person knows a file as, where that is not its name here: one file given alone keeps its own path.
    pub labels: BTreeMap<String, String>,
    /// Names found beside the others that no snapshot has; not looked at.
    pub ignored: Vec<String>,
}

impl SnapshotFiles {
    /// Bytes of a file that is present.
    #[must_use]
    pub fn bytes(&self, name: &str) -> Option<&[u8]> {
        match self.files.get(name) {
            Some(FileState::Present(bytes)) => Some(bytes),
            _ => None,
        }
    }

    /// What to call the file in front of people.
    #[must_use]
    pub fn label<'a>(&'a self, name: &'a str) -> &'a str {
        self.labels.get(name).map_or(name, String::as_str)
    }

    /// Names and bytes of present files below `folder` (`"calico/"`), in name order.
    pub fn below<'a>(&'a self, folder: &'a str) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.files.iter().filter_map(move |(name, state)| match state {
            FileState::Present(bytes) if name.starts_with(folder) => Some((name.as_str(), bytes.as_slice())),
            _ => None,
        })
    }
}
