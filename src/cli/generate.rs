//! `hepguard generate`: man pages and completions, for packages.

use std::io::Write;
use std::path::Path;

use clap::CommandFactory;

use super::args::{Cli, GenerateArgs, GenerateWhat};
use super::exit::{CliError, Outcome};
use crate::report::manual::{self, Edition};

/// Runs the command.
///
/// # Errors
/// A folder that cannot be written.
pub fn run(args: &GenerateArgs, out: &mut dyn Write) -> Result<Outcome, CliError> {
    match &args.what {
        GenerateWhat::Man { dir } => {
            let number = man(dir)?;
            let shown = crate::diagnostic::printable(&dir.display().to_string());
            writeln!(out, "wrote {number} man pages into {shown}")?;
        }
        GenerateWhat::Completions { shell } => {
            // into memory first: the generators panic when a pipe breaks
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "hepguard", &mut text);
            out.write_all(&text)?;
        }
    }
    Ok(Outcome::CLEAN)
}

fn man(dir: &Path) -> Result<usize, CliError> {
    let cannot = |path: &Path, error: &std::io::Error| {
        CliError::Input(format!("cannot write {}: {error}; name a folder you may write", path.display()))
    };
    let edition = Edition { version: env!("CARGO_PKG_VERSION").to_owned(), date: day() };
    let mut pages = manual::commands(Cli::command(), &edition);
    pages.push(manual::configuration(&edition));
    pages.push(manual::findings(&super::explain::all(), &edition));
    std::fs::create_dir_all(dir).map_err(|error| cannot(dir, &error))?;
    for page in &pages {
        let path = dir.join(&page.file);
        std::fs::write(&path, &page.text).map_err(|error| cannot(&path, &error))?;
    }
    Ok(pages.len())
}

/// The day of `SOURCE_DATE_EPOCH`, else nothing: the same source then gives the same page on any day.
fn day() -> String {
    let epoch = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.parse::<i64>().ok());
    let time = epoch.and_then(|seconds| chrono::DateTime::from_timestamp(seconds, 0));
    time.map_or_else(String::new, |time| time.format("%Y-%m-%d").to_string())
}
