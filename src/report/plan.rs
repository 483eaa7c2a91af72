//! A plan for the terminal and for code review: verdict first, what to do, every protected flow, the calendar last.

use serde::Serialize;

use super::audit::{calendar, one};
use super::diff::{Both, PieceJson, Shown, cause, direction, piece_json};
use super::text::{Style, Tone, count};
use crate::analysis::diff::{Changes, Piece};
use crate::audit::finding::{Finding, Severity};
use crate::calico::names::Meanings;
use crate::diagnostic::printable;
use crate::packet::{Direction, Family};
use crate::plan::difference::{Difference, hook};
use crate::plan::findings::is_about;
use crate::plan::impact::{Impact, State};
use crate::plan::{Plan, Rules, Verdict};

/// Lines of one set of packets, and sets of one list, in a text; `-v` shows all.
const SHOWN: usize = 4;

#[derive(Serialize)]
struct Document<'t> {
    #[serde(flatten)]
    plan: &'t Plan,
    newly_denied: Vec<Packets<'t>>,
    newly_allowed: Vec<Packets<'t>>,
    newly_undecided: Vec<Packets<'t>>,
    not_compared: &'t [String],
}

#[derive(Serialize)]
struct Packets<'t> {
    family: Family,
    direction: &'static str,
    hook: &'static str,
    #[serde(flatten)]
    piece: PieceJson<'t>,
}

/// What rules mean on both sides, in the words of those who wrote the policies.
fn sides(difference: &Difference) -> Both<'_> {
    let [before, after] = &difference.authors;
    Both::new(Meanings::with(&difference.before, before), Meanings::with(&difference.after, after))
}

/// The plan as a JSON document (`hepguard/plan/v1`).
#[must_use]
pub fn document(plan: &Plan) -> String {
    let difference = &plan.difference;
    let both = &sides(difference);
    let list = |of: List| -> Vec<Packets<'_>> {
        let packets = difference.pieces(of).map(|(family, way, piece)| Packets {
            family,
            direction: direction(way),
            hook: hook(way),
            piece: piece_json(both, piece),
        });
        packets.collect()
    };
    super::json_pretty(&Document {
        plan,
        newly_denied: list(|changes| &changes.lost),
        newly_allowed: list(|changes| &changes.gained),
        newly_undecided: list(|changes| &changes.undecided),
        not_compared: &difference.not_compared,
    })
}

/// The plan as text.
#[must_use]
pub fn text(plan: &Plan, style: Style, verbose: bool) -> String {
    let mut out = headline(plan, style);
    for part in &plan.change {
        out.push_str(&style.wrap("  change  ", part));
    }
    for finding in plan.findings.iter().filter(|finding| verbose || finding.severity > Severity::Info) {
        out.push('\n');
        out.push_str(&one(finding, style));
    }
    out.push('\n');
    out.push_str(&protected(plan, style, verbose));
    out.push('\n');
    out.push_str(&packets(plan, style, verbose));
    out.push('\n');
    out.push_str(&looked_at(plan, style));
    out.push('\n');
    out.push_str(&calendar(&plan.calendar, style));
    out
}

/// Verdict and calendar only.
#[must_use]
pub fn brief(plan: &Plan, style: Style) -> String {
    headline(plan, style) + &calendar(&plan.calendar, style)
}

fn headline(plan: &Plan, style: Style) -> String {
    let tone = match plan.verdict {
        Verdict::Safe => Tone::Good,
        Verdict::Unknown | Verdict::Risky => Tone::Warn,
        Verdict::Lockout => Tone::Bad,
    };
    let host = plan.host.as_deref().unwrap_or("this host");
    let word = plan.verdict.name().to_uppercase();
    // wrapped as one text, so that the word counts; painted afterwards
    let text = style.wrap("", &format!("{word} \u{a0}{host}: {}", sentence(plan))).replace('\u{a0}', " ");
    match text.strip_prefix(&word) {
        Some(rest) => style.paint(tone, &word) + rest,
        None => text,
    }
}

/// The verdict in a sentence.
fn sentence(plan: &Plan) -> String {
    let flows = plan.protected.len();
    let told = [State::Lost, State::Masked, State::Unguarded, State::Unknown, State::Gained];
    let parts: Vec<String> = told
        .into_iter()
        .filter(|state| plan.count(*state) > 0)
        .map(|state| format!("{} {}", plan.count(state), words(state)))
        .collect();
    let advice = match plan.verdict {
        Verdict::Safe => "no protected flow gets worse",
        Verdict::Unknown => "not everything could be decided",
        Verdict::Risky => "do not apply it without a second look",
        Verdict::Lockout => "do not apply it",
    };
    let of = if parts.is_empty() { String::new() } else { format!(": {}", parts.join(", ")) };
    format!("{advice}; of {}{of}", count(flows, "protected flow"))
}

fn words(state: State) -> &'static str {
    match state {
        State::Lost => "lost",
        State::Masked => "held by a failsafe alone",
        State::Unguarded => "without failsafe from then on",
        State::Unknown => "undecided",
        State::Gained => "gained",
        State::Refused => "refused as before",
        State::Kept => "kept",
    }
}

fn protected(plan: &Plan, style: Style, verbose: bool) -> String {
    let mut out = style.paint(Tone::Strong, "Protected flows");
    out.push('\n');
    let quiet = |impact: &&Impact| matches!(impact.state, State::Kept) && !verbose;
    for impact in plan.protected.iter().filter(|impact| !quiet(impact)) {
        let code = impact.finding.map(|code| format!(" ({code})")).unwrap_or_default();
        let line = style.wrap(&format!("  {:<10} ", impact.state.name()), &format!("{}{code}", impact.name));
        out.push_str(&line);
    }
    let kept: Vec<&str> = plan.protected.iter().filter(quiet).map(|impact| impact.name.as_str()).collect();
    match kept.as_slice() {
        [] if plan.protected.is_empty() => {
            out.push_str("  none: nothing on this host points to a flow that must work\n");
        }
        [] => {}
        names if names.len() <= 6 => out.push_str(&style.wrap("  kept       ", &names.join(", "))),
        names => {
            let some = names.iter().take(5).copied().collect::<Vec<_>>().join(", ");
            out.push_str(&style.wrap("  kept       ", &format!("{some} and {} more; -v lists them", names.len() - 5)));
        }
    }
    if plan.left_out > 0 {
        out.push_str(
            &style.wrap("  ", &format!("{} were left out, because there are so many", count(plan.left_out, "flow"))),
        );
    }
    out
}

/// One of the lists of packets.
type List = fn(&Changes) -> &[Piece];

/// The lists, as people call them.
const LISTS: [(&str, Tone, List); 3] = [
    ("newly denied", Tone::Bad, |changes| &changes.lost),
    ("newly allowed", Tone::Warn, |changes| &changes.gained),
    ("cannot be decided", Tone::Warn, |changes| &changes.undecided),
];

/// Every packet that is treated differently.
fn packets(plan: &Plan, style: Style, verbose: bool) -> String {
    let mut out = style.paint(Tone::Strong, "All packets");
    out.push('\n');
    let difference = &plan.difference;
    let both = &sides(difference);
    let limit = if verbose { usize::MAX } else { SHOWN };
    for (label, tone, of) in LISTS {
        let all: Vec<(Family, Direction, &Piece)> = difference.pieces(of).collect();
        let mut last = None;
        for (family, way, piece) in all.iter().take(limit) {
            if last.replace((family, way)) != Some((family, way)) {
                out.push_str(&format!("  {} {family} {}\n", style.paint(tone, label), direction(*way)));
            }
            Shown { out: &mut out, both, style, limit }.piece(piece);
        }
        if let Some(hidden) = all.len().checked_sub(limit).filter(|hidden| *hidden > 0) {
            out.push_str(
                &style.wrap("    ", &format!("and {} {label} by other rules (-v)", count(hidden, "more set"))),
            );
        }
    }
    for part in &difference.not_compared {
        out.push_str(&style.wrap("  not compared  ", part));
    }
    if difference.is_whole() && difference.diff.parts.iter().all(|part| !part.is_different()) {
        out.push_str("  none is treated differently\n");
    }
    out
}

fn looked_at(plan: &Plan, style: Style) -> String {
    let mut out = style.paint(Tone::Strong, "How it was found");
    out.push('\n');
    let fidelity = &plan.fidelity;
    let proven = match fidelity.rules {
        _ if plan.ruleset == Rules::Rendered => {
            "none: the rules before the change are rendered, too, and no live ones prove the model".to_owned()
        }
        0 => "no rules of Felix on this host".to_owned(),
        rules if fidelity.verified == rules && fidelity.differing.is_empty() => {
            format!(
                "all {rules} rules of Felix are rendered again, hash for hash, from what is known: the model is exact here"
            )
        }
        rules => format!(
            "{} of {rules} rules of Felix are rendered again, hash for hash, from what is known; {} stand as Felix wrote \
             them, by their own hashes",
            fidelity.verified, fidelity.intact
        ),
    };
    out.push_str(&style.wrap("  fidelity ", &proven));
    if let Some(first) = fidelity.differing.first() {
        let more = fidelity.differing.len() - 1;
        let more = if more > 0 { format!(" and {more} more (--format json)") } else { String::new() };
        out.push_str(&style.wrap("           ", &format!("rendered otherwise than it stands: {first}{more}")));
    }
    for note in &plan.notes {
        out.push_str(&style.wrap("  note     ", note));
    }
    for limit in &plan.limits {
        out.push_str(&style.wrap("  missing  ", limit));
    }
    out
}

/// Text for a table cell or paragraph of Markdown: nothing in it is markup, nothing invisible gets through.
fn plain(text: &str) -> String {
    let mut out = String::new();
    for c in printable(text).chars() {
        if "\\`*_{}[]<>()#+!|~&".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// The plan as Markdown, for code review.
#[must_use]
pub fn markdown(plan: &Plan) -> String {
    let mut out = format!("## hepguard plan: {}\n\n{}\n", plan.verdict.name(), plain(&sentence(plan)));
    if !plan.change.is_empty() {
        out.push('\n');
    }
    for part in &plan.change {
        out.push_str(&format!("- change: {}\n", plain(part)));
    }
    if !plan.findings.is_empty() {
        out.push_str("\n| finding | severity | bites | what | fix |\n|---|---|---|---|---|\n");
    }
    for finding in &plan.findings {
        let cells = [finding.code, finding.severity.name(), finding.bites.name(), &finding.title, &finding.fix];
        out.push_str(&format!("| {} |\n", cells.map(plain).join(" | ")));
    }
    out.push_str("\n| protected flow | before | after | state |\n|---|---|---|---|\n");
    for impact in &plan.protected {
        let cells = [&impact.name, impact.before.name(), impact.after.name(), impact.state.name()];
        out.push_str(&format!("| {} |\n", cells.map(plain).join(" | ")));
    }
    out.push_str(&packets_markdown(&plan.difference));
    for limit in &plan.limits {
        out.push_str(&format!("\n> missing: {}\n", plain(limit)));
    }
    out
}

/// The lists of packets as a table.
fn packets_markdown(difference: &Difference) -> String {
    let both = &sides(difference);
    let mut out = String::new();
    for (label, _, of) in LISTS {
        for (family, way, piece) in difference.pieces(of) {
            if out.is_empty() {
                out.push_str("\n| packets | | before | after | such as |\n|---|---|---|---|---|\n");
            }
            let shown = Shown { out: &mut String::new(), both, style: Style::default(), limit: SHOWN };
            let mut lines: Vec<String> = piece.lines.iter().take(SHOWN).map(|line| shown.line(line)).collect();
            if piece.more || piece.lines.len() > SHOWN {
                lines.push("and more".to_owned());
            }
            let told = |before: bool| {
                let side = if before { &piece.before } else { &piece.after };
                cause(both.side(before), side).unwrap_or_default()
            };
            let witness = piece.witness.as_ref().map(ToString::to_string).unwrap_or_default();
            let cells =
                [format!("{label}: {family} {}", direction(way)), lines.join("; "), told(true), told(false), witness];
            out.push_str(&format!("| {} |\n", cells.map(|cell| plain(&cell)).join(" | ")));
        }
    }
    for part in &difference.not_compared {
        out.push_str(&format!("\n> not compared: {}\n", plain(part)));
    }
    out
}

/// The plan as JUnit XML: a case a protected flow.
#[must_use]
pub fn junit(plan: &Plan) -> String {
    let bad = |impact: &&Impact| matches!(impact.state, State::Lost | State::Masked | State::Unguarded);
    let failures = plan.protected.iter().filter(bad).count();
    let skipped = plan.count(State::Unknown);
    let other = plan.findings.iter().filter(|finding| {
        finding.severity >= Severity::Medium && plan.protected.iter().all(|impact| impact.finding != Some(finding.code))
    });
    let other: Vec<_> = other.collect();
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    out.push_str(&format!(
        "<testsuites>\n  <testsuite name=\"hepguard plan\" tests=\"{}\" failures=\"{}\" skipped=\"{skipped}\">\n",
        plan.protected.len() + other.len(),
        failures + other.len(),
    ));
    for impact in &plan.protected {
        let name = xml(&impact.name);
        let own = |finding: &&Finding| impact.finding == Some(finding.code) && is_about(finding, &impact.name);
        let about = plan.findings.iter().find(own);
        let title = about.map_or(impact.state.name(), |finding| finding.title.as_str());
        let fix = about.map_or("", |finding| finding.fix.as_str());
        let state = impact.state.name();
        out.push_str(&format!("    <testcase classname=\"protected\" name=\"{name}\""));
        match impact.state {
            State::Lost | State::Masked | State::Unguarded => out.push_str(&format!(
                ">\n      <failure type=\"{state}\" message=\"{}\">{}</failure>\n    </testcase>\n",
                xml(title),
                xml(fix)
            )),
            State::Unknown => {
                out.push_str(&format!(">\n      <skipped message=\"{}\"/>\n    </testcase>\n", xml(title)));
            }
            State::Gained | State::Refused | State::Kept => out.push_str("/>\n"),
        }
    }
    for finding in other {
        out.push_str(&format!(
            "    <testcase classname=\"{}\" name=\"{}\">\n      <failure type=\"{}\" message=\"{}\">{}</failure>\n    </testcase>\n",
            finding.code,
            xml(finding.name),
            finding.severity.name(),
            xml(&finding.title),
            xml(&finding.fix)
        ));
    }
    out.push_str("  </testsuite>\n</testsuites>\n");
    out
}

/// Text of XML: control characters are not allowed there in any form, so they are escaped as everywhere else.
fn xml(text: &str) -> String {
    let text = printable(text);
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_names_stays_text() {
        assert_eq!(xml("a<b>&\"\u{1b}"), "a&lt;b&gt;&amp;&quot;\\u{1b}");
        assert_eq!(plain("a|b`<x>"), "a\\|b\\`\\<x\\>");
    }
}
