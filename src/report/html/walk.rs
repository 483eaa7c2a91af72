//! A packet's walk through the chains, with the counters of the rules it meets.

use super::markup::Html;
use super::{Walk, badge};
use crate::analysis::trace::{RuleOutcome, StepKind, TraceStep, TraceVerdict};
use crate::calico::names::Meanings;
use crate::report::trace::{reason, short, told, words};

pub(super) fn section(html: &mut Html, meanings: &Meanings<'_>, walks: &[Walk]) {
    if walks.is_empty() {
        html.leaf("p", &[], "No flow is known whose packet could be sent.");
        return;
    }
    html.leaf(
        "p",
        &[],
        "The first packet of the flows that matter most, rule by rule. Only rules that matched are shown; numbers are packets \
         and bytes that each has counted since it was written.",
    );
    for (at, walk) in walks.iter().enumerate() {
        let (class, word) = match walk.trace.verdict {
            TraceVerdict::Accept => ("good", "accept"),
            TraceVerdict::Drop => ("bad", "drop"),
            TraceVerdict::Reject => ("bad", "reject"),
            TraceVerdict::Unknown => ("warn", "unknown"),
        };
        html.tag("article", &[], |html| {
            html.tag("h3", &[], |html| {
                badge(html, class, word);
                html.text(&format!(" {}", walk.name));
            });
            html.tag("p", &[], |html| {
                html.leaf("code", &[], &walk.packet.to_string());
            });
            html.leaf("p", &[], &format!("{word}: {}", reason(meanings, &walk.trace)));
            for undecided in &walk.trace.because {
                html.leaf("p", &[], &format!("because {}", undecided.reason));
            }
            let open: &[(&'static str, &str)] = if at == 0 { &[("open", "open")] } else { &[] };
            html.tag("details", open, |html| {
                html.leaf("summary", &[], "Its way");
                html.tag("div", &[("class", "walk")], |html| steps(html, meanings, &walk.trace.steps));
            });
        });
    }
}

fn steps(html: &mut Html, meanings: &Meanings<'_>, of: &[TraceStep]) {
    html.tag("ol", &[], |html| {
        for step in of {
            html.tag("li", &[], |html| {
                one(html, meanings, step);
                if !step.inner.is_empty() {
                    steps(html, meanings, &step.inner);
                }
            });
        }
    });
}

fn one(html: &mut Html, meanings: &Meanings<'_>, step: &TraceStep) {
    let ruleset = meanings.ruleset();
    match step.kind {
        StepKind::Hook(hook) => drop(html.leaf("strong", &[], hook.name())),
        StepKind::Chain(at) => {
            let place = words(ruleset, at);
            html.text("chain ").leaf("code", &[], place.strip_suffix(" policy").unwrap_or(&place));
        }
        StepKind::Policy(_) => drop(html.text(&format!("end of the chain: policy {}", step.why))),
        StepKind::Routing => drop(html.text(&format!("route: {}", step.why))),
        StepKind::Rule(at, outcome) => {
            let rule = ruleset.rule(at);
            html.text(&format!("rule {} ", at.rule + 1));
            match outcome {
                RuleOutcome::Matched => {}
                RuleOutcome::Possible => drop(html.text("perhaps ")),
                RuleOutcome::Failed => drop(html.text("not ")),
            }
            match (told(meanings, at), rule) {
                (Some(told), _) => drop(html.text(&told)),
                (None, Some(rule)) => drop(html.leaf("code", &[], &short(rule))),
                (None, None) => {}
            }
            if !step.why.is_empty() {
                html.leaf("span", &[("class", "why")], &format!(" because {}", step.why));
            }
            if let Some(counters) = rule.and_then(|rule| rule.counters) {
                html.leaf(
                    "span",
                    &[("class", "count")],
                    &format!(" · {} packets, {} bytes", counters.packets, counters.bytes),
                );
            }
        }
    }
}
