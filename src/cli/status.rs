//! `hepguard status`: what the running daemon sees.

use std::io::{self, Read as _, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::args::{Common, StatusArgs};
use super::exit::{CliError, Outcome};
use super::load;
use crate::config::{self, Config};
use crate::report::{json_pretty, status};

/// Longest time the daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Largest answer.
const MAX_BYTES: u64 = 64 << 20;

/// Runs the command.
///
/// # Errors
/// When no daemon answers, or the format is unknown.
pub fn run(common: &Common, args: &StatusArgs, out: &mut dyn Write) -> Result<Outcome, CliError> {
    if !["text", "json"].contains(&common.format.as_str()) {
        return Err(super::unknown_format(&common.format, &["text", "json"]));
    }
    let path = socket(common, args)?;
    let document = ask(&path).map_err(|error| CliError::Input(no_answer(&path, &error)))?;
    if common.format == "json" {
        writeln!(out, "{}", json_pretty(&document))?;
    } else {
        let style = super::style(common);
        let text =
            if common.quiet { status::brief(&document, style) } else { status::text(&document, style, common.verbose) };
        out.write_all(text.as_bytes())?;
    }
    let worst = status::open(&document).filter_map(status::severity).max();
    let unreadable =
        document.pointer("/firewall/unreadable").and_then(Value::as_array).is_some_and(|all| !all.is_empty());
    let judged = document.pointer("/firewall/judged").is_some_and(|at| !at.is_null());
    Ok(Outcome {
        findings: worst.is_some_and(|worst| worst >= common.fail_on.severity()),
        incomplete: unreadable || !judged,
    })
}

fn socket(common: &Common, args: &StatusArgs) -> Result<PathBuf, CliError> {
    if let Some(path) = &args.socket {
        return Ok(path.clone());
    }
    let usual = Path::new(config::PATH);
    let config = match &common.config {
        Some(path) => load::config(path)?,
        None if usual.exists() => load::config(usual)?,
        None => Config::default(),
    };
    Ok(config.state.socket)
}

fn ask(path: &Path) -> io::Result<Value> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut bytes = Vec::new();
    stream.take(MAX_BYTES).read_to_end(&mut bytes)?;
    let document: Value = serde_json::from_slice(&bytes)?;
    match document.get("schema").and_then(Value::as_str) {
        Some("hepguard/status/v1") => Ok(document),
        other => Err(io::Error::new(io::ErrorKind::InvalidData, format!("answers with schema {other:?}"))),
    }
}

fn no_answer(path: &Path, error: &io::Error) -> String {
    let hint = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => "; start it with `systemctl start hepguard`",
        io::ErrorKind::PermissionDenied => "; run as root",
        _ => "",
    };
    format!("no daemon answers on {}: {error}{hint}", path.display())
}
