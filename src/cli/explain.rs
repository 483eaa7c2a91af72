//! `hepguard explain [CODE]`: what a check looks at, why it matters, how to fix what it finds.

use std::io::Write;

use serde_json::json;

use super::args::{Common, ExplainArgs};
use super::exit::{CliError, Outcome};
use crate::audit::registry::{self, CHECKS};
use crate::lint::registry::{self as lints, LINTS};
use crate::monitor::codes as watch_codes;
use crate::plan::codes;
use crate::report::explain::{self, Page};

/// Runs the command.
///
/// # Errors
/// An unknown code or format is a usage error.
pub fn run(common: &Common, args: &ExplainArgs, out: &mut dyn Write) -> Result<Outcome, CliError> {
    let checks: Vec<Page> = match &args.code {
        None => all(),
        Some(code) => {
            let found =
                registry::find(code).or_else(|| codes::find(code)).or_else(|| watch_codes::find(code)).map(Page::from);
            let found = found.or_else(|| lints::find(code).map(Page::from));
            vec![found.ok_or_else(|| unknown(code))?]
        }
    };
    match common.format.as_str() {
        "text" => {
            let style = super::style(common);
            match args.code {
                None => write!(out, "{}", explain::list(&checks, style))?,
                Some(_) => checks.iter().try_for_each(|check| write!(out, "{}", explain::page(check, style)))?,
            }
        }
        "markdown" => {
            for line in checks.iter().flat_map(|check| &check.lines) {
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
                        "page": check.lines.join("\n"),
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

/// Every page, in the order of the codes.
pub(super) fn all() -> Vec<Page> {
    let mut pages: Vec<Page> = CHECKS
        .iter()
        .chain(codes::CODES)
        .chain(watch_codes::CODES)
        .map(Page::from)
        .chain(LINTS.iter().map(Page::from))
        .collect();
    pages.sort_by_key(|page| page.code);
    pages
}

fn unknown(code: &str) -> CliError {
    let all = all();
    let near: Vec<&str> = all
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
