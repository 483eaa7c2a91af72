//! `hepguard watch`: the daemon.

use std::path::{Path, PathBuf};

use super::args::{Common, WatchArgs, WatchPart};
use super::exit::{CliError, Outcome};
use super::load;
use crate::config::{self, Config};
use crate::watch::{self, Setup, StartError};

/// Runs the command; it ends with a signal.
///
/// # Errors
/// A mistake in the configuration, a snapshot instead of the live host, another daemon that runs.
pub fn run(common: &Common, args: &WatchArgs) -> Result<Outcome, CliError> {
    match args.part {
        Some(WatchPart::Look) => return ended(watch::look::run()),
        Some(WatchPart::Read) => return ended(watch::reader::run()),
        None => {}
    }
    if common.snapshot.is_some() {
        return Err(CliError::Usage("watch looks at the live host; a snapshot does not change".to_owned()));
    }
    let path = common.config.clone().or_else(|| Some(PathBuf::from(config::PATH)).filter(|path| path.exists()));
    let config = read(path.as_deref())?;
    let again = path.clone();
    let reload = Box::new(move || read(again.as_deref()).map_err(|error| error.to_string()));
    match watch::run(Setup { config, path, reload }) {
        Ok(()) => Ok(Outcome::CLEAN),
        Err(StartError::Taken(folder)) => Err(CliError::Input(format!(
            "another hepguard watch has {}; ask it with `hepguard status`, or give this one another state.directory",
            folder.display()
        ))),
        Err(StartError::Io(error)) => Err(CliError::Input(format!("cannot start: {error}"))),
    }
}

fn read(path: Option<&Path>) -> Result<Config, CliError> {
    path.map_or_else(|| Ok(Config::default()), load::config)
}

/// A part of the daemon that nobody listens to any more is done.
fn ended(result: std::io::Result<()>) -> Result<Outcome, CliError> {
    match result {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(CliError::Input(format!("part of the daemon: {error}")))
        }
        _ => Ok(Outcome::CLEAN),
    }
}
