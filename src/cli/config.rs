//! `hepguard config check`: is the configuration one the daemon can use?

use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::args::{Common, ConfigArgs, ConfigVerb};
use super::exit::{CliError, Outcome};
use super::load;
use crate::config::{self, Config, Journal};
use crate::report::json_pretty;
use crate::report::text::count;

/// Runs the command.
///
/// # Errors
/// When the file cannot be read, or the format is unknown.
pub fn run(common: &Common, args: &ConfigArgs, out: &mut dyn Write) -> Result<Outcome, CliError> {
    let ConfigVerb::Check { file } = &args.verb;
    let path = file.clone().or_else(|| common.config.clone()).unwrap_or_else(|| PathBuf::from(config::PATH));
    let missing = file.is_none() && common.config.is_none() && !path.exists();
    let read = if missing { Ok(Config::default()) } else { load::checked(&path)? };
    let remarks = read.as_ref().map(remarks).unwrap_or_default();
    match common.format.as_str() {
        "json" => {
            let mistake = read.as_ref().err().map(|error| json!({"line": error.line, "message": error.message}));
            let document = json!({
                "schema": "hepguard/config/v1",
                "file": path.display().to_string(),
                "exists": !missing,
                "sound": mistake.is_none(),
                "mistake": mistake,
                "remarks": remarks,
                "config": read.as_ref().ok(),
            });
            writeln!(out, "{}", json_pretty(&document))?;
        }
        "text" => match &read {
            Err(error) => writeln!(out, "{}", crate::diagnostic::printable(&error.to_string()))?,
            Ok(config) => text(common, &path, missing, config, &remarks, out)?,
        },
        other => return Err(super::unknown_format(other, &["text", "json"])),
    }
    Ok(Outcome { findings: read.is_err(), incomplete: false })
}

fn text(
    common: &Common,
    path: &Path,
    missing: bool,
    config: &Config,
    remarks: &[String],
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let style = super::style(common);
    let name = path.display();
    let head = if missing {
        format!("{name}: is not there, so every key has its default")
    } else {
        format!("{name}: sound, {}", count(config.protect.len(), "protected flow"))
    };
    write!(out, "{}", style.wrap("", &crate::diagnostic::printable(&head)))?;
    for remark in remarks.iter().filter(|_| !common.quiet) {
        write!(out, "{}", style.wrap("  ", &crate::diagnostic::printable(remark)))?;
    }
    Ok(())
}

/// What of this host does not fit the configuration. The daemon starts all the same.
fn remarks(config: &Config) -> Vec<String> {
    let mut remarks = Vec::new();
    let logs = &config.logs;
    let there: Vec<&PathBuf> = logs.files.iter().filter(|file| file.exists()).collect();
    for file in logs.files.iter().filter(|file| !file.exists() && (there.is_empty() || logs.journal == Journal::Off)) {
        remarks.push(format!("logs.files: {} is not there; it is waited for", file.display()));
    }
    match logs.journal {
        Journal::On if !there.is_empty() => remarks.push(
            "logs.journal: on, with log files: where rsyslog writes them from the journal, each deny counts twice"
                .to_owned(),
        ),
        Journal::Auto if there.is_empty() => {
            remarks.push("logs.journal: auto, and no log file is there, so the journal is followed".to_owned());
        }
        Journal::Off if logs.files.is_empty() => {
            remarks.push("logs: neither files nor the journal are followed, so denies are not seen".to_owned());
        }
        _ => {}
    }
    let folders =
        [("alerts.motd", config.alerts.motd.as_deref()), ("metrics.textfile", config.metrics.textfile.as_deref())];
    for (key, path) in folders {
        let Some(folder) = path.and_then(Path::parent) else { continue };
        if !folder.is_dir() {
            remarks.push(format!("{key}: the folder {} is not there", folder.display()));
        }
    }
    if let Some(address) = config.metrics.listen.filter(|address| !address.ip().is_loopback()) {
        remarks.push(format!("metrics.listen: {address} is reachable from other hosts"));
    }
    remarks
}
