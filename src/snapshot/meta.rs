//! `meta.json`: which host, when, with which tools; and what was looked for and not found, which plain files cannot say.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::files::{Doubt, FileState, SnapshotFiles};

/// Its name in the snapshot folder.
pub const NAME: &str = "meta.json";

/// The schema this program writes.
pub const SCHEMA: &str = "hepguard/snapshot/v1";

/// What the file holds. Every part may be missing: the file can be made by hand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Meta {
    /// `hepguard/snapshot/v1`.
    pub schema: String,
    /// Host name.
    pub host: Option<String>,
    /// Kernel release.
    pub kernel: Option<String>,
    /// When it was taken, RFC 3339 in UTC.
    pub time: Option<String>,
    /// Versions as the tools tell them, `hepguard` among them.
    pub tools: BTreeMap<String, String>,
    /// Files of which nothing exists on the host.
    pub absent: Vec<String>,
    /// Files that could not be read, and why.
    pub unreadable: BTreeMap<String, String>,
    /// Files whose tool failed halfway, or that were put together from parts, and why.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub partial: BTreeMap<String, String>,
    /// Listings whose rules changed each time they were taken.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub changed: BTreeMap<String, String>,
}

impl Meta {
    /// The file's content; `None` when there is none.
    ///
    /// # Errors
    /// When it is not JSON of this form: the line, the column and what is wrong.
    pub fn of(files: &SnapshotFiles) -> Result<Option<Self>, serde_json::Error> {
        files.bytes(NAME).map(serde_json::from_slice).transpose()
    }

    /// Puts itself into `files`, with what they say about missing ones.
    pub fn store(mut self, files: &mut SnapshotFiles) {
        self.absent.clear();
        self.unreadable.clear();
        self.partial.clear();
        self.changed.clear();
        for (name, doubt) in &files.doubts {
            match doubt {
                Doubt::Partial(why) => self.partial.insert(name.clone(), why.clone()),
                Doubt::Changed(why) => self.changed.insert(name.clone(), why.clone()),
            };
        }
        for (name, state) in &files.files {
            match state {
                FileState::Present(_) => {}
                FileState::Absent => self.absent.push(name.clone()),
                FileState::Unreadable(why) => {
                    self.unreadable.insert(name.clone(), why.clone());
                }
            }
        }
        // a map of strings always serialises
        let mut text = serde_json::to_vec_pretty(&self).unwrap_or_default();
        text.push(b'\n');
        files.files.insert(NAME.to_owned(), FileState::Present(text));
    }

    /// Gives `files` the states that plain files cannot have. Files that are there keep theirs.
    pub fn restore(&self, files: &mut SnapshotFiles) {
        for name in &self.absent {
            files.files.entry(name.clone()).or_insert(FileState::Absent);
        }
        for (name, why) in &self.unreadable {
            files.files.entry(name.clone()).or_insert_with(|| FileState::Unreadable(why.clone()));
        }
        let partial = self.partial.iter().map(|(name, why)| (name, Doubt::Partial(why.clone())));
        let changed = self.changed.iter().map(|(name, why)| (name, Doubt::Changed(why.clone())));
        for (name, doubt) in partial.chain(changed) {
            if files.bytes(name).is_some() {
                files.doubts.insert(name.clone(), doubt);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_survive_a_folder() {
        let mut files = SnapshotFiles::default();
        files.files.insert("ipset-save.txt".to_owned(), FileState::Absent);
        files.files.insert("conntrack.txt".to_owned(), FileState::Unreadable("permission denied".to_owned()));
        files.files.insert("sockets.txt".to_owned(), FileState::Present(Vec::new()));
        files.doubts.insert("sockets.txt".to_owned(), Doubt::Partial("half".to_owned()));
        Meta { schema: SCHEMA.to_owned(), host: Some("b".to_owned()), ..Meta::default() }.store(&mut files);
        // a folder holds the present ones only
        let mut folder = files.clone();
        folder.files.retain(|_, state| matches!(state, FileState::Present(_)));
        folder.doubts.clear();
        let meta = Meta::of(&folder).expect("readable").expect("there");
        meta.restore(&mut folder);
        assert_eq!(folder, files);
    }

    #[test]
    fn hand_made_and_damaged_ones() {
        let mut files = SnapshotFiles::default();
        assert!(matches!(Meta::of(&files), Ok(None)));
        files.files.insert(NAME.to_owned(), FileState::Present(b"{\"host\":\"b\",\"more\":1}".to_vec()));
        assert_eq!(Meta::of(&files).expect("readable").and_then(|meta| meta.host).as_deref(), Some("b"));
        files.files.insert(NAME.to_owned(), FileState::Present(b"{\"host\":".to_vec()));
        assert!(Meta::of(&files).is_err());
    }
}
