//! The outside world: run a command, read a file, list a folder, tell the time.
//!
//! Everything that looks at the host goes through [`System`], so that tests can put another world in its place.

mod ipsets;
mod netlink;
pub mod notices;
mod real;
#[cfg(test)]
pub(crate) mod scripted;
mod zone;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

pub use ipsets::{Sets, ipsets};
pub use real::Real;
pub use zone::local_to_utc;

use crate::files::NOT_INSTALLED;
use crate::ruleset::kernel::KernelTables;

/// Most bytes taken from one command or file: 512 MiB, as for files of a snapshot.
pub const MAX_BYTES: u64 = 512 * 1024 * 1024;

/// What a command left behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Exit status; `None` when a signal ended it.
    pub status: Option<i32>,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error, undecodable bytes replaced.
    pub stderr: String,
}

/// Why a command gave nothing to judge.
#[derive(Debug)]
pub enum RunError {
    /// Not in any of the standard folders of programs.
    NotInstalled,
    /// Not done in time; it was ended.
    Timeout(Duration),
    /// More output than [`MAX_BYTES`].
    TooMuch,
    /// Could not be started.
    Io(io::Error),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInstalled => f.write_str(NOT_INSTALLED),
            Self::Timeout(limit) => write!(f, "is not done within {} s", limit.as_secs()),
            Self::TooMuch => write!(f, "gives more than {} MiB of output", MAX_BYTES / (1024 * 1024)),
            Self::Io(error) => write!(f, "cannot be started: {error}"),
        }
    }
}

impl std::error::Error for RunError {}

/// The host, or what stands in for it.
pub trait System {
    /// Runs a program of the standard folders with a clean environment (`LC_ALL=C`, `TZ=UTC`), no input, and a time limit.
    ///
    /// # Errors
    /// When it could not be started or did not end by itself; a bad exit status is no error here.
    fn run(&self, program: &str, arguments: &[&str], limit: Duration) -> Result<Output, RunError>;

    /// A file's bytes, at most [`MAX_BYTES`].
    ///
    /// # Errors
    /// As the system reports them; [`io::ErrorKind::FileTooLarge`] above the limit.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// What stands in a folder, sorted.
    ///
    /// # Errors
    /// As the system reports them.
    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>>;

    /// Where a symbolic link points.
    ///
    /// # Errors
    /// As the system reports them.
    fn link(&self, path: &Path) -> io::Result<PathBuf>;

    /// What the kernel itself says about nf_tables. Asking would load the module where it is not.
    ///
    /// # Errors
    /// As the kernel reports them; [`io::ErrorKind::Interrupted`] when the rules never stood still.
    fn nf_tables(&self) -> io::Result<KernelTables>;

    /// nf_tables' generation, which any change moves on.
    ///
    /// # Errors
    /// As the kernel reports them.
    fn nf_generation(&self) -> io::Result<u32>;

    /// The time now.
    fn now(&self) -> SystemTime;
}
