//! The inventory of flows for the terminal: verdict first, a line a flow by kind, what hangs on one thread, the calendar last.

use super::text::{Style, Tone, count};
use crate::analysis::conversation::Outcome;
use crate::analysis::flows::FlowKind;
use crate::audit::finding::Severity;
use crate::audit::flows::{FlowsReport, JudgedFlow, Verdict};

/// The schema of the JSON form, as shipped.
pub const SCHEMA: &str = include_str!("schemas/flows.v1.json");

/// Columns of the worlds: heading and verdict.
const WORLDS: [&str; 6] = ["now", "new", "no-fs", "felix", "boot", "up"];

/// The report as text. `verbose` shows the rules that decide for every flow, not only for those that fail somewhere.
#[must_use]
pub fn text(report: &FlowsReport, style: Style, verbose: bool) -> String {
    let mut out = headline(report, style);
    if !report.flows.is_empty() {
        out.push('\n');
        out.push_str(&table(report, style));
    }
    let told: Vec<&JudgedFlow> =
        report.flows.iter().filter(|flow| verbose || flow.bites.is_some() || needs_words(flow)).collect();
    for flow in told {
        out.push('\n');
        out.push_str(&one(flow, style));
    }
    if !report.unresolved.is_empty() {
        out.push('\n');
        out.push_str(
            &style.paint(Tone::Strong, "Not judged: nothing here tells the address, and hepguard asks no resolver"),
        );
        out.push('\n');
        for flow in &report.unresolved {
            out.push_str(&style.wrap("  ", &format!("{} ({})", flow.name, flow.source)));
        }
        out.push_str(
            &style.wrap("  ", "name its addresses in a [[protect]] entry of the configuration to have it judged"),
        );
    }
    if report.left_out > 0 {
        out.push('\n');
        out.push_str(&style.wrap("", &format!("{} more were seen and are not judged", count(report.left_out, "flow"))));
    }
    if !report.assumptions.is_empty() {
        out.push('\n');
        out.push_str(&style.paint(Tone::Strong, "Not known"));
        out.push('\n');
        for line in &report.assumptions {
            out.push_str(&style.wrap("  ", line));
        }
    }
    out.push('\n');
    out.push_str(&calendar(report, style));
    out
}

/// Verdict and calendar only.
#[must_use]
pub fn brief(report: &FlowsReport, style: Style) -> String {
    headline(report, style) + &calendar(report, style)
}

fn headline(report: &FlowsReport, style: Style) -> String {
    let worst = report.flows.iter().filter_map(|flow| flow.severity).max();
    let summary = &report.summary;
    let (tone, word) = match worst {
        Some(severity) => (Tone::of(severity), severity.name().to_uppercase()),
        None if summary.unknown > 0 => (Tone::Warn, "UNKNOWN".to_owned()),
        None => (Tone::Good, "WORKS".to_owned()),
    };
    let mut parts = vec![format!("{} must work", count(summary.flows, "flow"))];
    for (number, words) in [
        (summary.broken, "broken"),
        (summary.hang, "held up by one thing"),
        (summary.unknown, "cannot be decided"),
        (report.unresolved.len(), "known by name only"),
    ] {
        if number > 0 {
            parts.push(format!("{number} {words}"));
        }
    }
    let host = report.host.as_deref().unwrap_or("this host");
    style.headline(tone, &word, &format!("{host}: {}", parts.join(", ")))
}

fn mark(verdict: Option<&Verdict>) -> (Tone, &'static str) {
    match verdict.map(|verdict| verdict.verdict) {
        Some(Outcome::Works) => (Tone::Good, "+"),
        Some(Outcome::Broken) => (Tone::Bad, "-"),
        Some(Outcome::Unknown) => (Tone::Warn, "?"),
        None => (Tone::Dim, "."),
    }
}

fn marks(flow: &JudgedFlow) -> [(Tone, &'static str); 6] {
    let worlds = &flow.worlds;
    [
        mark(Some(&worlds.now)),
        mark(Some(&worlds.new)),
        mark(worlds.no_failsafe.as_ref()),
        mark(worlds.felix_restart.as_ref()),
        mark(worlds.reboot_before_felix.as_ref()),
        mark(worlds.reboot.as_ref()),
    ]
}

fn table(report: &FlowsReport, style: Style) -> String {
    let columns: usize = WORLDS.iter().map(|world| world.len() + 1).sum();
    let room = style.width.saturating_sub(columns + 3).max(20);
    let mut out = String::new();
    let head: String = WORLDS.iter().map(|world| format!(" {world}")).collect();
    out.push_str(&style.paint(Tone::Dim, &format!("  {:<room$}{head}", "")));
    out.push('\n');
    let mut kind: Option<FlowKind> = None;
    for flow in &report.flows {
        if kind != Some(flow.kind) {
            kind = Some(flow.kind);
            out.push_str(&style.paint(Tone::Strong, flow.kind.title()));
            out.push('\n');
        }
        let name = style.clip(&flow.name, room);
        out.push_str(&format!("  {name:<room$}"));
        for ((tone, sign), world) in marks(flow).into_iter().zip(WORLDS) {
            out.push(' ');
            out.push_str(&style.paint(tone, sign));
            out.push_str(&" ".repeat(world.len() - 1));
        }
        while out.ends_with(' ') {
            out.pop();
        }
        out.push('\n');
    }
    out.push_str(&style.wrap("  ", "+ works   - broken   ? cannot be decided   . no different, or not known"));
    out.push_str(&style.wrap(
        "  ",
        "now: as it is; new: as a new connection; no-fs: by policy alone; felix: after Felix restarts; boot: as the host \
         comes up, before Felix; up: after a boot, with Felix",
    ));
    out
}

/// Masked or undecided: worth words, though nothing is lost yet. Failsafe entries are masked by their nature.
fn needs_words(flow: &JudgedFlow) -> bool {
    flow.kind != FlowKind::Failsafe && (flow.held_by.is_some() || flow.worlds.new.verdict == Outcome::Unknown)
}

fn one(flow: &JudgedFlow, style: Style) -> String {
    let (tone, word) = match (flow.severity, flow.held_by.is_some()) {
        (Some(severity), _) => (Tone::of(severity), severity.name()),
        (None, true) => (Tone::of(Severity::Medium), "held up"),
        (None, false) if flow.worlds.new.verdict == Outcome::Unknown => (Tone::Warn, "unknown"),
        (None, false) => (Tone::Good, "works"),
    };
    let when = match (flow.bites, &flow.bites_at) {
        (Some(bites), Some(at)) => format!(" · bites {} ({at})", bites.name()),
        (Some(bites), None) => format!(" · bites {}", bites.name()),
        _ => String::new(),
    };
    let mut out = style.paint(tone, word) + &style.paint(Tone::Dim, &when) + "\n";
    out.push_str(&style.wrap("  ", &flow.name));
    if let Some(held) = &flow.held_by {
        out.push_str(&style.wrap("    held by ", held));
    }
    out.push_str(&style.wrap("    seen    ", &format!("{}: {}", flow.source, flow.evidence)));
    out.push_str(&decided("now", &flow.worlds.new, style));
    if let Some(alone) = flow.worlds.no_failsafe.as_ref().filter(|alone| alone.verdict != flow.worlds.new.verdict) {
        out.push_str(&decided("policy", alone, style));
    }
    let told = flow.worlds.no_failsafe.as_ref().and_then(|alone| alone.place.as_ref());
    let news = |boot: &&Verdict| boot.verdict == Outcome::Broken && boot.place.as_ref() != told;
    if let Some(boot) = flow.worlds.reboot.as_ref().filter(news) {
        out.push_str(&decided("reboot", boot, style));
    }
    out.push_str(&style.wrap("    try     ", &super::audit::witness_command(&flow.witness)));
    out
}

fn decided(world: &str, verdict: &Verdict, style: Style) -> String {
    let first = format!("    {world:<7} ");
    let packet = match (verdict.verdict, verdict.packet) {
        (Outcome::Broken, Some(packet)) => format!("stops the {packet}"),
        (Outcome::Works, _) => "lets it through".to_owned(),
        (outcome, _) => outcome.name().to_owned(),
    };
    let mut text = match (&verdict.place, &verdict.rule) {
        (Some(place), Some(rule)) => format!("{place} {packet}: {rule}"),
        _ if verdict.verdict == Outcome::Works => "no rule stops it".to_owned(),
        _ => packet,
    };
    if verdict.verdict != Outcome::Works && !verdict.because.is_empty() {
        text.push_str(&format!(" ({})", verdict.because.join("; ")));
    }
    style.wrap(&first, &text)
}

fn calendar(report: &FlowsReport, style: Style) -> String {
    let mut out = style.paint(Tone::Strong, "Calendar");
    out.push('\n');
    if report.calendar.is_empty() {
        out.push_str("  nothing is known to bite\n");
    }
    for entry in &report.calendar {
        let at = entry.at.as_deref().map(|at| format!("{at} ")).unwrap_or_default();
        out.push_str(&style.wrap(&format!("  {:<14}", entry.bites.name()), &format!("{at}{}", entry.what)));
    }
    out
}
