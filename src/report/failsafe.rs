//! The failsafe comparison for a terminal: the verdict, a matrix a list, what the next restart changes, problems with fixes.

use std::fmt::Write as _;

use super::text::{Style, Tone, count};
use crate::audit::finding::Severity;
use crate::calico::failsafe::kernel::Layer;
use crate::calico::failsafe::{
    Direction, DirectionReport, FAMILIES, FailsafeReport, KernelState, ListState, ListView, Problem, ProblemKind, Row,
    Weight,
};
use crate::packet::Family;

/// Rows of a matrix and entries of a line that are shown; JSON has them all.
const MOST_ROWS: usize = 200;
const MOST_ENTRIES: usize = 12;

/// The whole report as text; never wider than the style. `quiet` leaves out everything below [`Weight::Medium`].
#[must_use]
pub fn text(report: &FailsafeReport, style: Style, quiet: bool) -> String {
    let mut out = String::new();
    let (tone, verdict) = verdict(report);
    let host = report.host.as_deref().map_or_else(String::new, |host| format!("{host}: "));
    out.push_str(&painted(style, tone, &style.wrap("", &format!("{host}{verdict}"))));
    for direction in Direction::ALL {
        out.push('\n');
        list(&mut out, report.direction(direction), direction, style);
    }
    out.push('\n');
    restart(&mut out, report, style);
    problems(&mut out, report, style, quiet);
    if !report.incomplete.is_empty() {
        let _ = writeln!(out, "\n{}", style.paint(Tone::Strong, "Not known"));
        for text in &report.incomplete {
            out.push_str(&style.wrap("  - ", text));
        }
    }
    out
}

/// Paints text that is escaped already, line by line.
fn painted(style: Style, tone: Tone, text: &str) -> String {
    text.lines().map(|line| style.paint(tone, line) + "\n").collect()
}

pub(super) fn verdict(report: &FailsafeReport) -> (Tone, String) {
    let changes = Direction::ALL.into_iter().flat_map(|direction| &report.direction(direction).next_restart);
    let removed: usize = changes.map(|change| change.removes.len()).sum();
    let removals: Vec<&Problem> =
        report.problems.iter().filter(|problem| problem.kind == ProblemKind::RemovedAtRestart).collect();
    let worst = report.problems.first();
    if report.starts == Some(false) {
        (Tone::Bad, "Felix does not start with the configuration on disk".to_owned())
    } else if let [only] = removals.as_slice() {
        (Tone::Bad, only.title.clone())
    } else if removed > 0 {
        (Tone::Bad, format!("the next restart of Felix removes {}", count(removed, "failsafe entry")))
    } else if let Some(worst) = worst.filter(|worst| worst.severity >= Weight::Medium) {
        let more = report.problems.iter().filter(|problem| problem.severity >= Weight::Medium).count() - 1;
        let more = if more == 0 { String::new() } else { format!("; and {}", count(more, "further problem")) };
        (Tone::of(Severity::from(worst.severity)), format!("{}{more}", worst.title))
    } else if report.incomplete.is_empty() {
        (Tone::Good, "the failsafe lists agree, and the next restart of Felix changes nothing".to_owned())
    } else {
        (Tone::Warn, "nothing wrong in what could be read, but not everything could be read".to_owned())
    }
}

fn list(out: &mut String, lists: &DirectionReport, direction: Direction, style: Style) {
    let title = format!("{} ({})", capital(direction.name()), direction.param());
    let _ = writeln!(out, "{}", style.paint(Tone::Strong, &title));
    for (name, view) in [("disk", &lists.disk), ("running", &lists.running), ("datastore", &lists.datastore)] {
        out.push_str(&style.wrap(&format!("  {name:<11}"), &source_words(view)));
    }
    out.push_str(&style.wrap("  kernel     ", &kernel_words(lists)));
    if lists.entries.is_empty() {
        let known = lists.disk.is_known() || lists.running.is_known();
        out.push_str(if known { "  no entries\n" } else { "  no entries known\n" });
        return;
    }
    let entry_width = style.width.saturating_sub(44).clamp(16, 40);
    let head = format!(
        "  {:<entry_width$} {:<5} {:<8} {:<10} {:<5} {:<5}",
        "entry", "disk", "running", "datastore", "IPv4", "IPv6"
    );
    let _ = writeln!(out, "{}", style.paint(Tone::Dim, head.trim_end()));
    for row in lists.entries.iter().take(MOST_ROWS) {
        matrix_row(out, row, lists, entry_width, style);
    }
    if lists.entries.len() > MOST_ROWS {
        let _ = writeln!(out, "  … {} more; --format json has them all", lists.entries.len() - MOST_ROWS);
    }
    let _ = writeln!(out, "{}", style.paint(Tone::Dim, "  + in it   - not in it   . other family   ? not known"));
}

fn matrix_row(out: &mut String, row: &Row, lists: &DirectionReport, width: usize, style: Style) {
    let mark = |present: Option<bool>| match present {
        Some(true) => "+",
        Some(false) => "-",
        None => "?",
    };
    let kernel = |family: Family, present| if row.entry.applies_to(family) { mark(present) } else { "." };
    let datastore = if lists.datastore.state == ListState::NotSet { "" } else { mark(row.datastore) };
    let running = if lists.running.state == ListState::NotRunning { "" } else { mark(row.running) };
    let cells = [
        mark(row.disk),
        running,
        datastore,
        kernel(Family::Ipv4, row.kernel_ipv4),
        kernel(Family::Ipv6, row.kernel_ipv6),
    ];
    let yes = cells.contains(&"+");
    let no = cells.contains(&"-");
    let entry = row.entry.to_string();
    let line = if entry.chars().count() > width {
        let _ = writeln!(out, "  {}", style.paint(Tone::Plain, &entry));
        format!("  {:<width$}", "")
    } else {
        format!("  {entry:<width$}")
    };
    let [disk, running, datastore, four, six] = cells;
    let line = format!("{line} {disk:<5} {running:<8} {datastore:<10} {four:<5} {six:<5}");
    let tone = if yes && no { Tone::Warn } else { Tone::Plain };
    let _ = writeln!(out, "{}", style.paint(tone, line.trim_end()));
}

pub(super) fn source_words(view: &ListView) -> String {
    let from = |view: &ListView| {
        let place = view.place.as_ref().map_or_else(String::new, |place| format!(", {place}"));
        format!("{}{place}", view.source.map_or("nothing", crate::calico::settings::Source::name))
    };
    let doubt = if view.certain { "" } else { "; a source that was not read may override it" };
    match view.state {
        ListState::Set | ListState::Default => format!("{}: {}{doubt}", from(view), count(view.entries.len(), "entry")),
        ListState::NotSet => "not set there".to_owned(),
        ListState::Invalid => format!("{}: malformed, Felix does not start", from(view)),
        ListState::NotRunning => "no Felix runs; the rules stay as they are".to_owned(),
        ListState::Unknown => "not known".to_owned(),
    }
}

pub(super) fn kernel_words(lists: &DirectionReport) -> String {
    let mut parts: Vec<String> = lists
        .kernel
        .iter()
        .map(|chain| {
            let table = match chain.table {
                Layer::Unknown => "table not told",
                Layer::Map => &*chain.chain,
                table => table.name(),
            };
            format!("{} {} {table} ({})", chain.backend.name(), chain.family, count(chain.entries.len(), "entry"))
        })
        .collect();
    for family in FAMILIES {
        match lists.kernel_state(family) {
            KernelState::Programmed => {}
            KernelState::NotProgrammed => parts.push(format!("no {family} chain")),
            KernelState::Unknown => parts.push(format!("{family} not known")),
        }
    }
    parts.join(", ")
}

fn restart(out: &mut String, report: &FailsafeReport, style: Style) {
    let _ = writeln!(out, "{}", style.paint(Tone::Strong, "What the next restart of Felix changes"));
    let mut nothing = true;
    for direction in Direction::ALL {
        let lists = report.direction(direction);
        for change in &lists.next_restart {
            let head = format!("  {direction} {}: ", if change.family == Family::Ipv4 { "IPv4" } else { "IPv6" });
            let doubt = if change.certain { "" } else { " (unless a source that was not read says otherwise)" };
            let entries = |all: &[crate::calico::settings::Entry]| {
                let mut text: Vec<String> = all.iter().take(MOST_ENTRIES).map(ToString::to_string).collect();
                if all.len() > MOST_ENTRIES {
                    text.push(format!("{} more", all.len() - MOST_ENTRIES));
                }
                text.join(", ")
            };
            let mut lines: Vec<(Tone, String)> = Vec::new();
            if !change.removes.is_empty() {
                lines.push((Tone::Bad, format!("removes {}{doubt}", entries(&change.removes))));
            }
            if !change.adds.is_empty() {
                lines.push((Tone::Plain, format!("adds {}{doubt}", entries(&change.adds))));
            }
            if change.reorders {
                lines.push((Tone::Dim, "the order, which does not matter".to_owned()));
            }
            if let Some(why) = change.frozen {
                lines.push((Tone::Warn, why.to_owned()));
            }
            for (tone, text) in lines {
                nothing = false;
                out.push_str(&painted(style, tone, &style.wrap(&head, &text)));
            }
        }
    }
    if nothing {
        let any = |test: &dyn Fn(&DirectionReport) -> bool| Direction::ALL.iter().any(|d| test(report.direction(*d)));
        let listed = |lists: &DirectionReport| {
            FAMILIES.into_iter().any(|family| lists.kernel_state(family) == KernelState::NotProgrammed)
        };
        out.push_str(if any(&|lists| !lists.next_restart.is_empty()) {
            "  nothing\n"
        } else if any(&|lists| lists.disk.is_known()) && any(&listed) {
            "  nothing now: no failsafe chain is programmed\n"
        } else {
            "  not known: the list on disk or the chains were not read\n"
        });
    }
}

fn problems(out: &mut String, report: &FailsafeReport, style: Style, quiet: bool) {
    let least = if quiet { Weight::Medium } else { Weight::Info };
    let shown: Vec<&Problem> = report.problems.iter().filter(|problem| problem.severity >= least).collect();
    if shown.is_empty() {
        return;
    }
    let _ = writeln!(out, "\n{}", style.paint(Tone::Strong, "Problems"));
    for problem in shown {
        let severity = Severity::from(problem.severity);
        let doubt = if problem.certain { "" } else { " (as far as the sources were read)" };
        let head = format!("  {:<9}", severity.name());
        out.push_str(&painted(style, Tone::of(severity), &style.wrap(&head, &format!("{}{doubt}", problem.title))));
        let indent = " ".repeat(11);
        if let Some(place) = &problem.place {
            let text = problem.text.as_deref().map_or_else(String::new, |text| format!(": {text}"));
            let room = style.width.saturating_sub(14).max(20);
            out.push_str(&format!("{indent}at {}\n", style.clip(&format!("{place}{text}"), room)));
        }
        out.push_str(&style.wrap(&format!("{indent}fix: "), &problem.fix));
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
