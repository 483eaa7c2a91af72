//! Where a command's snapshot comes from.

use crate::cli::args::Common;
use crate::cli::exit::CliError;
use crate::collect;
use crate::snapshot::{self, Snapshot};

/// The snapshot the options ask for: `--snapshot DIR|FILE`.
///
/// # Errors
/// When there is nothing to judge at all.
pub fn snapshot(common: &Common) -> Result<Snapshot, CliError> {
    let files = match &common.snapshot {
        Some(path) => collect::saved(path).map_err(|error| CliError::Input(error.to_string()))?,
        None => return Err(CliError::Usage("say which snapshot: --snapshot DIR|FILE".to_owned())),
    };
    Ok(snapshot::read(files))
}
