//! Parse, call, exit code; nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    hepguard::cli::run(std::env::args_os())
}
