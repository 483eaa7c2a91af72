//! `hepguard diff A B`: what packets two snapshots treat differently.

use std::io::Write;
use std::path::Path;

use super::args::{Common, DiffArgs};
use super::exit::{CliError, Outcome};
use super::load;
use crate::analysis::diff::{Part, Wanted, compare};
use crate::analysis::trace::is_listed;
use crate::audit::finding::Severity;
use crate::packet::{Direction, Family};
use crate::report::diff::{self as report, Compared};
use crate::snapshot::Snapshot;

/// What a difference counts as against `--fail-on`: who may get in now, or cannot any more, deserves a look; whether somebody
/// is locked out is for `plan` to say. What cannot be decided is no finding, it makes the answer incomplete.
const SEVERITY: Severity = Severity::High;

/// Runs the command.
///
/// # Errors
/// A snapshot that cannot be opened is an input error; options that do not fit together a usage error.
pub fn run(common: &Common, args: &DiffArgs, out: &mut dyn Write) -> Result<Outcome, CliError> {
    if !["text", "json"].contains(&common.format.as_str()) {
        return Err(super::unknown_format(&common.format, &["text", "json"]));
    }
    if args.after.is_some() && common.snapshot.is_some() {
        return Err(CliError::Usage("both B and --snapshot name the second snapshot: leave one out".to_owned()));
    }
    let (before, name_before) = open(Some(&args.before))?;
    let (after, name_after) = open(args.after.as_deref().or(common.snapshot.as_deref()))?;
    let families: Vec<Family> = [Family::Ipv4, Family::Ipv6]
        .into_iter()
        .filter(|family| match args.family.as_deref() {
            Some(name) => family.name() == name,
            None => is_listed(&before, *family) || is_listed(&after, *family),
        })
        .collect();
    if families.is_empty() {
        return Err(CliError::Input(format!(
            "neither {name_before} nor {name_after} lists a firewall: add the output of `iptables-save -c`, \
             `ip6tables-save -c` or `nft -j list ruleset`"
        )));
    }
    let ways = [(Direction::In, "in"), (Direction::Out, "out"), (Direction::Forward, "forward")];
    let ways = ways.into_iter().filter(|(_, name)| args.direction.as_deref().is_none_or(|wanted| wanted == *name));
    let wanted = Wanted { families, ways: ways.map(|(way, _)| way).collect(), ..Wanted::default() };
    let diff = compare(&before, &after, &wanted);
    let compared =
        Compared { before: &before, after: &after, name_before: &name_before, name_after: &name_after, diff: &diff };
    if common.format == "text" {
        write!(out, "{}", report::text(&compared, super::style(common), common.verbose))?;
    } else {
        writeln!(out, "{}", report::document(&compared))?;
    }
    Ok(Outcome {
        findings: SEVERITY >= common.fail_on.severity() && diff.parts.iter().any(Part::is_different),
        incomplete: diff.parts.iter().any(|part| !part.is_certain()),
    })
}

/// A snapshot and its name for people.
fn open(path: Option<&Path>) -> Result<(Snapshot, String), CliError> {
    match path.filter(|path| path.as_os_str() != "live") {
        Some(path) => Ok((load::from(Some(path))?, path.display().to_string())),
        None => Ok((load::from(None)?, "this host".to_owned())),
    }
}
