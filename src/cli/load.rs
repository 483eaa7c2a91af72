//! Where a command's snapshot comes from.

use std::fs::OpenOptions;
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;

use crate::calico::resources::{Problem, Resources};
use crate::cli::args::{Common, KnownPolicies};
use crate::cli::exit::CliError;
use crate::collect;
use crate::config::{self, Config, ConfigError};
use crate::files::{FileState, SnapshotFiles};
use crate::snapshot::{self, Snapshot};
use crate::system::Real;

/// The snapshot the options ask for: `--snapshot DIR|FILE`, else the live host; with what the configuration protects.
///
/// # Errors
/// When there is nothing to judge at all. What of a host or folder cannot be read is no error but a state of that file.
pub fn snapshot(common: &Common) -> Result<Snapshot, CliError> {
    snapshot_with(common, &KnownPolicies::default())
}

/// The same, with the policy files that are given beside it.
///
/// # Errors
/// Those of [`snapshot()`], and when a policy file cannot be read or holds nothing of Calico.
pub fn snapshot_with(common: &Common, known: &KnownPolicies) -> Result<Snapshot, CliError> {
    let config = match (&common.config, &common.snapshot) {
        (Some(path), _) => config(path)?,
        // the usual file is about this host
        (None, None) if Path::new(config::PATH).exists() => self::config(Path::new(config::PATH))?,
        (None, _) => Config::default(),
    };
    // what is given is read before the host is looked at
    let given = policies(known)?;
    let mut files = files(common.snapshot.as_deref())?;
    for (number, (label, bytes)) in given.into_iter().enumerate() {
        let name = format!("calico/~given/{number:05}.yaml");
        files.labels.insert(name.clone(), label);
        files.files.insert(name, FileState::Present(bytes));
    }
    let outputs = config.collectors();
    Ok(Snapshot { protect: config.protect, outputs, ..snapshot::read(files) })
}

/// The snapshot at `path`, else the live host.
///
/// # Errors
/// When there is nothing at `path` that could be judged.
pub fn from(path: Option<&Path>) -> Result<Snapshot, CliError> {
    Ok(snapshot::read(files(path)?))
}

fn files(path: Option<&Path>) -> Result<SnapshotFiles, CliError> {
    match path {
        Some(path) => collect::saved(path).map_err(|error| CliError::Input(error.to_string())),
        None => {
            if !nix::unistd::geteuid().is_root() {
                super::note("not root, so much of this host cannot be read; with sudo all of it can");
            }
            Ok(collect::live(&Real))
        }
    }
}

/// The policy files that are given, with their names.
///
/// # Errors
/// When one cannot be read, or holds nothing of Calico.
pub fn policies(known: &KnownPolicies) -> Result<Vec<(String, Vec<u8>)>, CliError> {
    let mut wrong = None;
    let paths = super::lint::listed(&known.policies, &mut |note| wrong = wrong.take().or(Some(note)));
    if let Some(wrong) = wrong {
        return Err(CliError::Input(wrong));
    }
    let mut given = Vec::new();
    for path in paths {
        let label = path.display().to_string();
        let bytes = super::lint::bytes(&path)
            .map_err(|error| CliError::Input(format!("cannot read the policies {label}: {error}")))?;
        let read = Resources::of([(label.as_str(), bytes.as_slice())]);
        if read.is_empty() {
            let why = read.problems.first().map_or_else(|| "it is empty".to_owned(), Problem::text);
            return Err(CliError::Input(format!("{label} holds no resource of Calico: {why}")));
        }
        given.push((label, bytes));
    }
    Ok(given)
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
