//! `hepguard explain [CODE]`: what a check looks at, why it matters, how to fix what it finds.

use std::io::Write;

use serde_json::json;

use super::args::{Common, ExplainArgs};
use super::exit::{CliError, Outcome};
use crate::audit::check::Check;
use crate::audit::registry::{CHECKS, find};
use crate::report::explain;

/// Runs the command.
///
/// # Errors
/// An unknown code or format is a usage error.
pub fn run(common: &Common, args: &ExplainArgs, out: &mut dyn Write) -> Result<Outcome, CliError> {
    let checks: Vec<&Check> = match &args.code {
        None => CHECKS.iter().collect(),
        Some(code) => vec![find(code).ok_or_else(|| unknown(code))?],
    };
    match common.format.as_str() {
        "text" => {
            let style = super::style(common);
            match args.code {
                None => write!(out, "{}", explain::list(CHECKS, style))?,
                Some(_) => checks.iter().try_for_each(|check| write!(out, "{}", explain::page(check, style)))?,
            }
        }
        "markdown" => {
            for line in checks.iter().flat_map(|check| check.page()) {
                writeln!(out, "{line}")?;
            }
        }
        "json" => {
            let pages: Vec<_> = checks
                .iter()
                .map(|check| {
                    json!({
                        "code": check.code,
                        "name": check.name,
                        "severity": check.severity,
                        "summary": check.summary,
                        "page": check.page().collect::<Vec<_>>().join("\n"),
                    })
                })
                .collect();
            serde_json::to_writer_pretty(&mut *out, &pages).map_err(std::io::Error::from)?;
            writeln!(out)?;
        }
        other => return Err(super::unknown_format(other, &["text", "markdown", "json"])),
    }
    Ok(Outcome::CLEAN)
}

fn unknown(code: &str) -> CliError {
    let near: Vec<&str> = CHECKS
        .iter()
        .filter(|check| code.len() >= 3 && check.code.get(..3) == code.to_ascii_uppercase().get(..3))
        .map(|check| check.code)
        .collect();
    let hint = if near.is_empty() {
        "`hepguard explain` lists all".to_owned()
    } else {
        format!("near it: {}", near.join(", "))
    };
    CliError::Usage(format!("no finding is called {code:?}; expected a code such as HG303 or its name; {hint}"))
}
