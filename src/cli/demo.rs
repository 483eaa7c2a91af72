//! `hepguard demo`: the lab bastion, embedded. No root, no firewall, nothing is changed.
//!
//! Its findings are about the lab, not about this host, so the exit code is 0.

use std::io::Write;
use std::path::Path;

use serde_json::json;

use super::args::{Common, DemoArgs};
use super::exit::{CliError, Outcome};
use super::log_reader::clock;
use crate::audit::audit;
use crate::demo::{SYSLOG, World};
use crate::logs::query::{Failsafes, Field, Filter};
use crate::logs::scan::Scan;
use crate::logs::tally::{Query, Tally};
use crate::packet::PortRange;
use crate::plan::{Plan, Rehearsal, plan};
use crate::report;
use crate::report::denies::{Answer, FileLine, Row};
use crate::report::text::{Style, Tone};
use crate::snapshot;

/// 2022-08-04T16:21:30Z, when the lab's snapshots were taken: the syslog lines have no year.
const LAB_TIME: i64 = 1_659_630_090;

/// Runs the command.
///
/// # Errors
/// An unknown format, or a folder that cannot be written.
pub fn run(common: &Common, args: &DemoArgs, out: &mut dyn Write) -> Result<Outcome, CliError> {
    if let Some(folder) = &args.write {
        return write_lab(folder, out);
    }
    let denies = denies()?;
    let audits = World::ALL.map(|world| audit(&snapshot::read(world.files())));
    match common.format.as_str() {
        "text" => {
            let style = super::style(common);
            let [before, after] = &audits;
            let told = |audit| report::audit::text(audit, style, common.verbose);
            let plan = report::plan::text(&upgrade(), style, common.verbose);
            chapter(out, style, &LOG, &report::denies_text::text(&denies, style))?;
            chapter(out, style, &BEFORE, &told(before))?;
            chapter(out, style, &UPGRADE, &plan)?;
            chapter(out, style, &AFTER, &told(after))?;
            out.write_all(style.wrap("", LAST).as_bytes())?;
        }
        "json" => {
            let [before, after] = audits;
            let plan: serde_json::Value =
                serde_json::from_str(&report::plan::document(&upgrade())).map_err(std::io::Error::from)?;
            let document = json!({ "schema": "hepguard/demo/v1", "denies": denies, "before": before, "plan": plan, "after": after });
            serde_json::to_writer_pretty(&mut *out, &document).map_err(std::io::Error::from)?;
            writeln!(out)?;
        }
        other => return Err(super::unknown_format(other, &["text", "json"])),
    }
    Ok(Outcome::CLEAN)
}

/// What the package upgrade will do, which restarts Felix.
fn upgrade() -> Plan {
    let before = snapshot::read(World::Before.files());
    let rehearsal = Rehearsal {
        parts: vec!["Felix restarts".to_owned()],
        after: before.clone(),
        restarts_felix: true,
        ..Rehearsal::default()
    };
    plan(&before, &rehearsal)
}

/// Title, what happened, the command that shows it.
struct Chapter(&'static str, &'static str, &'static str);

const LOG: Chapter = Chapter(
    "1. Who was denied what",
    "On the bastion, curl https://kubernetes.io times out. The admin greps the syslog for deny, the source address and the \
     port, and gets four lines to decipher.",
    "hepguard denies syslog --src-ip 10.0.1.10 --dst-port 443",
);
const BEFORE: Chapter = Chapter(
    "2. One step before the lockout",
    "Somebody took tcp:0.0.0.0/0:22 off the outbound failsafe list in Felix's environment file. Felix still runs with the \
     old list, so SSH to the workers works, and nothing looks wrong.",
    "hepguard audit --snapshot before",
);
const UPGRADE: Chapter = Chapter(
    "3. What the upgrade would cut",
    "A package upgrade is due, and it restarts Felix. Asked before it runs, hepguard says what that cuts, and how to keep it.",
    "hepguard plan --felix restart --snapshot before",
);
const AFTER: Chapter = Chapter(
    "4. After Felix restarted",
    "A package upgrade restarted Felix. The open session to worker1 goes on; the next one will time out.",
    "hepguard audit --snapshot after",
);
const LAST: &str = "This was the lab, not this host. Write its files with `hepguard demo --write DIR` and try the commands \
                    on them, `hepguard failsafe --snapshot DIR/before` for instance; check this host with `sudo hepguard \
                    audit`.";

fn chapter(out: &mut dyn Write, style: Style, chapter: &Chapter, answer: &str) -> std::io::Result<()> {
    let Chapter(title, story, command) = chapter;
    writeln!(out, "{}", style.paint(Tone::Strong, title))?;
    out.write_all(style.wrap("", story).as_bytes())?;
    writeln!(out, "\n{}\n", style.paint(Tone::Strong, &format!("$ {command}")))?;
    writeln!(out, "{}", answer.trim_end_matches('\n'))?;
    writeln!(out)
}

/// The admin's three greps, as one query.
fn denies() -> Result<Answer, CliError> {
    let prefix = "10.0.1.10".parse().map_err(|error| CliError::Usage(format!("{error}")))?;
    let filter = Filter { src_ip: vec![prefix], dst_port: vec![PortRange::single(443)], ..Filter::default() };
    let query = Query { filter, group_by: Field::DEFAULT.to_vec(), failsafes: Failsafes::defaults(), ..Query::new() };
    let mut tally = Tally::new(&query);
    let mut scan = Scan::new(&query, clock(LAB_TIME), 0, true);
    scan.block(SYSLOG, SYSLOG.len(), 0, &mut tally);
    let counts = scan.counts;
    let (events, repeats, given_up, range) = (tally.events, tally.repeats, tally.given_up, tally.range);
    let rows = tally.rows(usize::MAX);
    let total = rows.len();
    let groups = rows
        .into_iter()
        .map(|(key, group)| Row::new(&query.group_by, key, &group, group.text.as_deref(), &query.failsafes))
        .collect();
    let files = vec![FileLine::new("syslog".to_owned(), counts)];
    Ok(Answer::new(files, events, repeats, given_up, range, groups, total, &query.failsafes))
}

/// Writes both snapshots and the syslog below `folder`.
fn write_lab(folder: &Path, out: &mut dyn Write) -> Result<Outcome, CliError> {
    let cannot = |path: &Path, error: &std::io::Error| {
        CliError::Input(format!("cannot write {}: {error}; name a new folder you may write", path.display()))
    };
    for world in World::ALL {
        for (name, bytes) in world.embedded() {
            let path = folder.join(world.name()).join(name);
            if path.exists() {
                return Err(CliError::Input(format!("{} exists already; name a new folder", path.display())));
            }
            let parent = path.parent().unwrap_or(folder);
            std::fs::create_dir_all(parent).map_err(|error| cannot(parent, &error))?;
            std::fs::write(&path, bytes).map_err(|error| cannot(&path, &error))?;
        }
    }
    let syslog = folder.join("syslog");
    std::fs::write(&syslog, SYSLOG).map_err(|error| cannot(&syslog, &error))?;
    let folder = crate::diagnostic::printable(&folder.display().to_string());
    writeln!(out, "wrote {folder}/before, {folder}/after and {folder}/syslog; try")?;
    writeln!(out, "  hepguard audit --snapshot {folder}/before")?;
    writeln!(out, "  hepguard failsafe --snapshot {folder}/before")?;
    writeln!(out, "  hepguard trace out tcp 10.0.1.10:51522 10.0.1.30:22 --snapshot {folder}/after")?;
    writeln!(out, "  hepguard denies {folder}/syslog --src-ip 10.0.1.10 --dst-port 443")?;
    Ok(Outcome::CLEAN)
}
