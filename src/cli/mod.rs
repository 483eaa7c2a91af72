//! The command line: one file a command, each a function from arguments to an [`Outcome`].
//!
//! Data goes to standard output, everything else to standard error. A broken pipe is a quiet success.

pub mod args;
pub mod denies;
pub mod audit;
pub mod config;
pub mod demo;
pub mod diff;
pub mod exit;
pub mod explain;
pub mod failsafe;
mod families;
pub mod flows;
pub mod forward;
pub mod generate;
pub mod lint;
pub mod load;
pub mod matrix;
pub mod plan;
pub mod report;
pub mod reach;
pub mod snapshot;
pub mod status;
pub mod watch;
mod follow;
mod log_merge;
mod log_reader;
mod progress;
mod names;
mod recommend;
mod rotated;
pub mod trace;

use std::ffi::OsString;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};
use exit::{CliError, Outcome};

/// Parses the command line, runs the command and gives the exit code of the contract.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // clap prints help to stdout and usage errors to stderr; neither failing matters here
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let mut out = BufWriter::with_capacity(64 * 1024, io::stdout().lock());
    let result = dispatch(&cli, &mut out).and_then(|outcome| {
        out.flush()?;
        Ok(outcome)
    });
    // dropping the writer must not try again what just failed
    drop(out.into_parts());
    match result {
        Ok(outcome) => ExitCode::from(outcome.code()),
        Err(CliError::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            let text = crate::diagnostic::printable(&error.to_string());
            let _ = writeln!(io::stderr(), "hepguard: {text}");
            ExitCode::from(2)
        }
    }
}

fn dispatch(cli: &Cli, out: &mut dyn Write) -> Result<Outcome, CliError> {
    match &cli.command {
        Command::Audit(args) => audit::run(&cli.common, args, out),
        Command::Failsafe(args) => failsafe::run(&cli.common, args, out),
        Command::Flows(args) => flows::run(&cli.common, args, out),
        Command::Forward(args) => forward::run(&cli.common, args, out),
        Command::Config(args) => config::run(&cli.common, args, out),
        Command::Denies(args) => denies::run(&cli.common, args, out),
        Command::Diff(args) => diff::run(&cli.common, args, out),
        Command::Demo(args) => demo::run(&cli.common, args, out),
        Command::Explain(args) => explain::run(&cli.common, args, out),
        Command::Generate(args) => generate::run(args, out),
        Command::Matrix(args) => matrix::run(&cli.common, args, out),
        Command::Lint(args) => lint::run(&cli.common, args, out),
        Command::Plan(args) => plan::run(&cli.common, args, out),
        Command::Reach(args) => reach::run(&cli.common, args, out),
        Command::Report(args) => report::run(&cli.common, args, out),
        Command::Trace(args) => trace::run(&cli.common, args, out),
        Command::Status(args) => status::run(&cli.common, args, out),
        Command::Watch(args) => watch::run(&cli.common, args),
        Command::Snapshot(args) => snapshot::run(&cli.common, args, out),
    }
}

/// Width and colour for standard output, from the options, the environment and the terminal.
#[must_use]
pub fn style(common: &args::Common) -> crate::report::text::Style {
    use std::io::IsTerminal;
    let terminal = io::stdout().is_terminal();
    let color = match common.color {
        args::ColorChoice::Always => true,
        args::ColorChoice::Never => false,
        args::ColorChoice::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
    };
    let width = terminal_size::terminal_size().map_or(80, |(columns, _)| usize::from(columns.0));
    crate::report::text::Style { color, width: width.clamp(40, 160) }
}

/// The usage error for a format a command does not have.
#[must_use]
pub fn unknown_format(found: &str, known: &[&str]) -> CliError {
    CliError::Usage(format!("--format {found:?} is not known here; expected one of {}", known.join(", ")))
}

/// A remark on standard error, escaped. A closed standard error is nobody's loss.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr(), "hepguard: {}", crate::diagnostic::printable(text));
}
