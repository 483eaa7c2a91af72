//! Findings: what, why it is believed, what to do.

use super::markup::Html;
use super::{badge, class, table, verdict};
use crate::audit::LintedPolicies;
use crate::audit::finding::{Confidence, Finding};
use crate::report::audit::witness_command;

pub(super) fn section(html: &mut Html, findings: &[Finding], policies: &[LintedPolicies]) {
    if findings.is_empty() {
        html.leaf("p", &[], "None.");
    }
    for (number, finding) in findings.iter().enumerate() {
        one(html, number + 1, finding);
    }
    if policies.is_empty() {
        return;
    }
    html.leaf("h3", &[], "In the policies themselves");
    table(html, "What lint says of Calico’s policies", &["Code", "Severity", "Number", "The first of them"], |html| {
        for lint in policies {
            html.tag("tr", &[], |html| {
                html.leaf("th", &[("scope", "row")], &format!("{} {}", lint.code, lint.name));
                html.tag("td", &[], |html| badge(html, class(lint.severity), lint.severity.name()));
                html.leaf("td", &[("class", "number")], &lint.count.to_string());
                html.leaf("td", &[], &format!("{} ({})", lint.first, lint.at));
            });
        }
    });
}

fn one(html: &mut Html, number: usize, finding: &Finding) {
    let id = format!("finding-{number}");
    html.tag("article", &[("id", &id), ("class", &format!("finding {}", class(finding.severity)))], |html| {
        html.tag("h3", &[], |html| {
            badge(html, class(finding.severity), finding.severity.name());
            html.text(&format!(" {} {}", finding.code, finding.title));
        });
        html.tag("p", &[("class", "meta")], |html| {
            html.text(&format!("{} · bites {}", finding.name, verdict::when(finding.bites)));
            if let Some(at) = &finding.bites_at {
                html.text(", ").time(at);
            }
            if finding.confidence == Confidence::Bounded {
                html.text(" · rests on a bound: something on the way could not be decided");
            }
        });
        if !finding.fix.is_empty() {
            html.tag("p", &[("class", "fix")], |html| {
                html.leaf("strong", &[], "Fix").text(" ").text(&finding.fix);
            });
        }
        html.tag("details", &[], |html| {
            html.leaf("summary", &[], "What it rests on");
            html.tag("dl", &[("class", "evidence")], |html| {
                for evidence in &finding.evidence {
                    html.leaf("dt", &[], &evidence.source);
                    html.tag("dd", &[], |html| {
                        html.leaf("code", &[], &evidence.text);
                    });
                }
                if let Some(packet) = &finding.witness {
                    html.leaf("dt", &[], "Try");
                    html.tag("dd", &[], |html| {
                        html.leaf("code", &[], &witness_command(packet));
                    });
                }
                html.leaf("dt", &[], "More");
                html.tag("dd", &[], |html| {
                    html.leaf("code", &[], &format!("hepguard explain {}", finding.code));
                });
            });
        });
    });
}
