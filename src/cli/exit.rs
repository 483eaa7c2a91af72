//! Exit codes of the contract (`0` clean, `1` findings, `2` could not do the job, `3` done but incomplete).

use std::fmt;
use std::io;

/// How a command ended when it did its job.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Outcome {
    /// Something at or above `--fail-on` was found.
    pub findings: bool,
    /// Something needed could not be read or decided.
    pub incomplete: bool,
}

impl Outcome {
    /// Nothing found, everything read.
    pub const CLEAN: Self = Self { findings: false, incomplete: false };

    /// The exit code; findings win over incompleteness.
    #[must_use]
    pub fn code(self) -> u8 {
        match (self.findings, self.incomplete) {
            (true, _) => 1,
            (false, true) => 3,
            (false, false) => 0,
        }
    }
}

/// Why a command could not do its job: exit code 2.
#[derive(Debug)]
pub enum CliError {
    /// The call's words are off; the text says what was expected.
    Usage(String),
    /// An input without which nothing can be said; the text names it and says what to do.
    Input(String),
    /// Writing the answer failed.
    Io(io::Error),
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) | Self::Input(text) => f.write_str(text),
            Self::Io(error) => write!(f, "cannot write the answer: {error}"),
        }
    }
}

impl std::error::Error for CliError {}

impl From<io::Error> for CliError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
