//! Where a command's snapshot comes from.

use crate::cli::args::Common;
use crate::cli::exit::CliError;
use crate::collect;
use crate::snapshot::{self, Snapshot};
use crate::system::Real;

/// The snapshot the options ask for: `--snapshot DIR|FILE`, else the live host.
///
/// # Errors
/// When there is nothing to judge at all. What of a host or folder cannot be read is no error but a state of that file.
pub fn snapshot(common: &Common) -> Result<Snapshot, CliError> {
    let files = match &common.snapshot {
        Some(path) => collect::saved(path).map_err(|error| CliError::Input(error.to_string()))?,
        None => collect::live(&Real),
    };
    Ok(snapshot::read(files))
}
