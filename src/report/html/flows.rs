//! The flows that must work: a map, and each with its verdict in every world.

use super::markup::Html;
use super::{badge, class, map, table};
use crate::analysis::conversation::Outcome;
use crate::audit::flows::{FlowsReport, JudgedFlow, Verdict};
use crate::report::text::count;

/// Worlds as columns.
const WORLDS: [&str; 6] = ["Now", "New", "Policy alone", "Felix restarts", "Boot, before Felix", "After a boot"];

/// Flows shown in the table.
const MOST: usize = 200;

pub(super) fn section(html: &mut Html, report: &FlowsReport) {
    if report.flows.is_empty() {
        html.leaf(
            "p",
            &[],
            "No flow is known that must work here; a [[protect]] entry of the configuration names one.",
        );
        return;
    }
    map::draw(html, report);
    html.tag("details", &[], |html| {
        html.leaf(
            "summary",
            &[],
            &format!("All {} with their verdicts and evidence", count(report.flows.len(), "flow")),
        );
        let heads: Vec<&str> = ["Flow"].into_iter().chain(WORLDS).chain(["What decides", "Evidence"]).collect();
        table(html, "Flows that must work, each in every world", &heads, |html| {
            report.flows.iter().take(MOST).for_each(|flow| row(html, flow));
        });
        if report.flows.len() > MOST {
            html.leaf("p", &[], &format!("{} more are not shown.", count(report.flows.len() - MOST, "flow")));
        }
    });
}

fn row(html: &mut Html, flow: &JudgedFlow) {
    let worlds = &flow.worlds;
    html.tag("tr", &[], |html| {
        html.tag("th", &[("scope", "row")], |html| {
            html.text(&flow.name);
            if let Some(severity) = flow.severity {
                html.text(" ");
                badge(html, class(severity), severity.name());
            }
        });
        for verdict in [
            Some(&worlds.now),
            Some(&worlds.new),
            worlds.no_failsafe.as_ref(),
            worlds.felix_restart.as_ref(),
            worlds.reboot_before_felix.as_ref(),
            worlds.reboot.as_ref(),
        ] {
            let (class, words) = match verdict.map(|verdict| verdict.verdict) {
                Some(Outcome::Works) => ("good", "✓ works"),
                Some(Outcome::Broken) => ("bad", "✕ broken"),
                Some(Outcome::Unknown) => ("warn", "? unknown"),
                None => ("low", "· same as new"),
            };
            html.leaf("td", &[("class", class)], words);
        }
        html.tag("td", &[], |html| {
            html.text(&decides(&flow.worlds.new));
            if let Some(held) = &flow.held_by {
                html.text(&format!("; held by {held}"));
            }
        });
        html.leaf("td", &[], &format!("{}: {}", flow.source, flow.evidence));
    });
}

/// What decided, in the words of who wrote it: `failsafe tcp:22 (outbound)`, `GlobalNetworkPolicy …, egress rule 0 (deny)`.
pub(super) fn decides(verdict: &Verdict) -> String {
    let rule = verdict.rule.as_deref().filter(|rule| !rule.starts_with("-A ") && *rule != "the chain's policy");
    match (rule, &verdict.place) {
        (Some(rule), _) => {
            let words = rule.split_once(": -A ").map_or(rule, |(words, _)| words);
            words.split_once(" at ").map_or(words, |(words, _)| words).to_owned()
        }
        (None, Some(place)) => place.split_once(" (").map_or(place.as_str(), |(place, _)| place).to_owned(),
        (None, None) => match verdict.because.first() {
            Some(because) => because.clone(),
            None => "no rule".to_owned(),
        },
    }
}
