//! A page a command, subcommands included.

use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::{Edition, Manual, see_also, verbatim};

/// The pages of a program and of all its commands that are not hidden, in the order of their names.
#[must_use]
pub fn pages(program: clap::Command, edition: &Edition) -> Vec<Manual> {
    let mut program = program.disable_help_subcommand(true);
    program.build();
    let mut pages = Vec::new();
    walk(&program, edition, &mut pages);
    pages.sort_by(|a, b| a.file.cmp(&b.file));
    pages
}

fn walk(command: &clap::Command, edition: &Edition, pages: &mut Vec<Manual>) {
    pages.push(one(command, edition));
    for part in command.get_subcommands().filter(|part| !part.is_hide_set()) {
        walk(part, edition, pages);
    }
}

fn one(command: &clap::Command, edition: &Edition) -> Manual {
    let top = command.get_version().is_some();
    let man = Man::new(command.clone())
        .date(&edition.date)
        .source(format!("hepguard {}", edition.version))
        .manual("hepguard");
    let mut out: Vec<u8> = Vec::new();
    // writing to memory does not fail
    let _ = man.render_title(&mut out);
    let _ = man.render_name_section(&mut out);
    // clap_mangen's own synopsis names every option, the common ones on every page
    let mut synopsis = Roff::new();
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
    synopsis.control("SH", ["SYNOPSIS"]).text([bold(name), roman(format!(" {}", usage(command, name)))]);
    out.extend(synopsis.to_roff().into_bytes());
    let _ = man.render_description_section(&mut out);
    if command.get_subcommands().any(|part| !part.is_hide_set()) {
        let _ = man.render_subcommands_section(&mut out);
    }
    let _ = man.render_options_section(&mut out);
    let mut roff = Roff::new();
    if let Some(help) = command.get_after_help() {
        tail(&mut roff, &help.to_string());
    }
    if top {
        files(&mut roff);
    }
    exit_status(&mut roff, command.get_after_help().is_some_and(|help| help.to_string().contains("\nExit codes:")));
    let other = if top {
        ["hepguard-audit.1", "hepguard.toml.5", "hepguard-findings.7"]
    } else {
        ["hepguard.1", "hepguard.toml.5", "hepguard-findings.7"]
    };
    see_also(&mut roff, &other);
    let mut text = String::from_utf8_lossy(&out).into_owned();
    text.push_str(&roff.to_roff());
    Manual { file: man.get_filename(), text }
}

/// `[OPTIONS] [FILES]...`, as the help has it behind the command's name.
fn usage(command: &clap::Command, name: &str) -> String {
    let text = command.clone().render_usage().to_string();
    let line = text.lines().next().unwrap_or_default().trim_start_matches("Usage: ");
    line.strip_prefix(name).unwrap_or(line).trim().to_owned()
}

/// The text behind the options: its examples as a section, paragraphs, and indented lines as they are.
fn tail(roff: &mut Roff, help: &str) {
    let lines: Vec<&str> = help.lines().collect();
    for block in lines.split(|line| line.is_empty()) {
        let mut text = String::new();
        let mut kept: Vec<&str> = Vec::new();
        for line in block {
            if let Some(line) = line.strip_prefix("  ") {
                kept.push(line);
                continue;
            }
            match line.strip_suffix(':') {
                Some("Examples") => drop(roff.control("SH", ["EXAMPLES"])),
                _ => {
                    text.push_str(if text.is_empty() { "" } else { " " });
                    text.push_str(line);
                }
            }
        }
        if let Some(codes) = text.strip_prefix("Exit codes: ") {
            roff.control("SH", ["EXIT STATUS"]).text([roman(codes)]);
        } else if !text.is_empty() {
            roff.control("PP", []).text([roman(text)]);
        }
        if !kept.is_empty() {
            verbatim(roff, kept);
        }
    }
}

fn exit_status(roff: &mut Roff, told: bool) {
    if told {
        return;
    }
    roff.control("SH", ["EXIT STATUS"]);
    for (code, meaning) in [
        ("0", "Nothing at or above --fail-on was found, and everything needed was readable."),
        ("1", "Something at or above --fail-on was found."),
        ("2", "The job could not be done: bad usage, or an input that cannot be read."),
        ("3", "Done, but something could not be read or decided: a clean result is then no clean bill."),
    ] {
        roff.control("TP", []).text([bold(code)]).text([roman(meaning)]);
    }
}

fn files(roff: &mut Roff) {
    roff.control("SH", ["FILES"]);
    for (path, what) in [
        ("/etc/hepguard/hepguard.toml", "The configuration; without it every key has its default."),
        ("/var/lib/hepguard", "Places in logs, known kinds of denies, open alerts and queues of the daemon."),
        ("/run/hepguard/status.sock", "Where hepguard status asks the daemon."),
        ("/run/hepguard/metrics.sock", "Figures of the daemon in OpenMetrics form, over HTTP."),
    ] {
        roff.control("TP", []).text([bold(path)]).text([roman(what)]);
    }
}
