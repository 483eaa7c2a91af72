//! Where a command's snapshot comes from.

use std::fs::OpenOptions;
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;

use crate::cli::args::Common;
use crate::cli::exit::CliError;
use crate::collect;
use crate::config::{self, Config, ConfigError};
use crate::snapshot::{self, Snapshot};
use crate::system::Real;

/// The snapshot the options ask for: `--snapshot DIR|FILE`, else the live host; with what the configuration protects.
///
/// # Errors
/// When there is nothing to judge at all. What of a host or folder cannot be read is no error but a state of that file.
pub fn snapshot(common: &Common) -> Result<Snapshot, CliError> {
    let config = match (&common.config, &common.snapshot) {
        (Some(path), _) => config(path)?,
        // the usual file is about this host
        (None, None) if Path::new(config::PATH).exists() => self::config(Path::new(config::PATH))?,
        (None, _) => Config::default(),
    };
    Ok(Snapshot { protect: config.protect, ..from(common.snapshot.as_deref())? })
}

/// The snapshot at `path`, else the live host.
///
/// # Errors
/// When there is nothing at `path` that could be judged.
pub fn from(path: Option<&Path>) -> Result<Snapshot, CliError> {
    let files = match path {
        Some(path) => collect::saved(path).map_err(|error| CliError::Input(error.to_string()))?,
        None => collect::live(&Real),
    };
    Ok(snapshot::read(files))
}

/// Reads a configuration file.
///
/// # Errors
/// When it cannot be read, or holds a mistake: the message names file and line.
pub fn config(path: &Path) -> Result<Config, CliError> {
    checked(path)?.map_err(|error| CliError::Input(error.to_string()))
}

/// The same, with the mistake apart.
///
/// # Errors
/// When it cannot be read.
pub fn checked(path: &Path) -> Result<Result<Config, ConfigError>, CliError> {
    // one byte above the limit is enough to see that it is too large
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take((1 << 20) + 1).read_to_end(&mut bytes));
    read.map_err(|error| CliError::Input(format!("cannot read the configuration {}: {error}", path.display())))?;
    let name: Arc<str> = Arc::from(path.display().to_string());
    Ok(config::read(&name, &bytes))
}

/// Writes a new file, for its owner only.
///
/// # Errors
/// When it exists already or cannot be written.
pub fn create(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(bytes)).map_err(|error| {
        let hint = if error.kind() == io::ErrorKind::AlreadyExists { "; name a new file" } else { "" };
        CliError::Input(format!("cannot write {}: {error}{hint}", path.display()))
    })
}
