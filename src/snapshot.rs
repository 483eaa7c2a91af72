//! Everything known about one host at one time: the raw files of a snapshot folder, and what they say.
//!
//! The live host and a saved folder go the same way: [`crate::collect`] (or a person with standard tools) gives
//! [`SnapshotFiles`], and reading them gives a [`Snapshot`]. What is missing is known too.

use crate::diagnostic::Diagnostic;
pub use crate::files::{FileState, SnapshotFiles};
use crate::host::Host;
use crate::ruleset::Ruleset;

/// What the files say.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The raw files it was read from.
    pub files: SnapshotFiles,
    /// The firewall.
    pub ruleset: Ruleset,
    /// The host around it.
    pub host: Host,
    /// Remarks of all readers, in file order.
    pub diagnostics: Vec<Diagnostic>,
}
