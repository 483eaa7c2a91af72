//! The verdict, and the calendar: what bites when.

use super::markup::Html;
use super::{Page, badge, capital, class};
use crate::audit::Audit;
use crate::audit::calendar::Entry;
use crate::audit::finding::{Bites, Finding, Severity};
use crate::audit::flows::CalendarEntry;
use crate::report::audit::verdict;
use crate::report::text::{Tone, count};

/// The host's name.
pub(super) fn host(audit: &Audit) -> &str {
    audit.host.as_deref().unwrap_or("this host")
}

/// `CRITICAL, 1 critical, 2 medium`.
pub(super) fn sentence(audit: &Audit) -> String {
    let (_, word, found) = verdict(audit);
    format!("{word}, {found}")
}

pub(super) fn header(html: &mut Html, page: &Page<'_>) {
    let audit = page.audit;
    let (tone, word, found) = verdict(audit);
    let class = match tone {
        Tone::Good => "good",
        Tone::Bad => "bad",
        Tone::Warn => "warn",
        Tone::Strong | Tone::Dim | Tone::Plain => "low",
    };
    html.leaf("p", &[("class", "product")], "hepguard report");
    html.tag("h1", &[], |html| {
        badge(html, class, &word);
        html.text(" ").leaf("span", &[], host(audit));
    });
    html.tag("p", &[("class", "lead")], |html| {
        html.text(&found).text(". ").text(&worst(audit));
    });
    if let Some(first) =
        audit.findings.first().filter(|first| first.severity >= Severity::Medium && !first.fix.is_empty())
    {
        html.tag("p", &[("class", "fix")], |html| {
            html.leaf("strong", &[], "What to do:").text(" ").text(&first.fix);
        });
    }
    html.tag("dl", &[("class", "facts")], |html| {
        let mut fact = |name: &str, value: &dyn Fn(&mut Html)| {
            html.tag("div", &[], |html| {
                html.leaf("dt", &[], name);
                html.tag("dd", &[], value);
            });
        };
        if let Some(time) = &audit.snapshot.time {
            fact("Judged as of", &|html| {
                html.time(time);
            });
        }
        fact("Read", &|html| {
            html.text(&count(audit.snapshot.files.len(), "file"));
        });
        fact("Flows", &|html| {
            html.text(&flows(page));
        });
        fact("Rules of Felix", &|html| {
            html.text(&integrity(audit));
        });
    });
}

/// The worst finding in one line.
fn worst(audit: &Audit) -> String {
    match audit.findings.first().filter(|finding| finding.severity >= Severity::Medium) {
        Some(finding) => format!("First of all: {}.", finding.title),
        None if audit.unreadable.is_empty() => "Nothing that was looked for was found.".to_owned(),
        None => "Not everything could be read, so this is no clean bill.".to_owned(),
    }
}

fn flows(page: &Page<'_>) -> String {
    let summary = &page.flows.summary;
    let mut parts = vec![format!("{} must work", summary.flows)];
    for (number, words) in
        [(summary.broken, "broken"), (summary.hang, "held up by one thing"), (summary.unknown, "undecided")]
    {
        if number > 0 {
            parts.push(format!("{number} {words}"));
        }
    }
    parts.join(", ")
}

fn integrity(audit: &Audit) -> String {
    let integrity = &audit.integrity;
    match integrity.rules {
        0 => "none seen".to_owned(),
        rules => format!("{} of {rules} verified by their hashes", integrity.verified),
    }
}

/// When something bites, in words.
pub(super) fn when(bites: Bites) -> &'static str {
    match bites {
        Bites::Now => "now",
        Bites::Reconnect => "at the next new connection",
        Bites::Renewal => "at the next renewal of a lease, cache or credential",
        Bites::FelixRestart => "when Felix restarts",
        Bites::Reboot => "at the next boot",
    }
}

pub(super) fn section(html: &mut Html, page: &Page<'_>) {
    html.leaf("h3", &[], "Calendar");
    let audit = page.audit;
    if audit.calendar.is_empty() && page.flows.calendar.is_empty() {
        html.leaf("p", &[], "Nothing is known to bite.");
        return;
    }
    html.tag("ol", &[("class", "calendar")], |html| {
        for bites in Bites::ALL {
            let entry = audit.calendar.iter().find(|entry| entry.bites == bites);
            let flows: Vec<&CalendarEntry> = page.flows.calendar.iter().filter(|entry| entry.bites == bites).collect();
            if entry.is_some() || !flows.is_empty() {
                html.tag("li", &[], |html| moment(html, (bites, entry), &flows, &audit.findings));
            }
        }
    });
}

/// One moment of the calendar and what bites then.
fn moment(html: &mut Html, (bites, entry): (Bites, Option<&Entry>), flows: &[&CalendarEntry], findings: &[Finding]) {
    html.tag("div", &[("class", "when")], |html| {
        html.leaf("strong", &[], &capital(when(bites)));
        if let Some(entry) = entry {
            html.text(" ");
            badge(html, class(entry.severity), entry.severity.name());
            if let Some(at) = &entry.at {
                html.text(" ").time(at);
            }
        }
    });
    html.tag("ul", &[], |html| {
        for (number, finding) in findings.iter().enumerate() {
            if finding.bites == bites && finding.severity > Severity::Info {
                html.tag("li", &[], |html| {
                    html.leaf("a", &[("href", &format!("#finding-{}", number + 1))], finding.code);
                    html.text(&format!(" {}", finding.title));
                });
            }
        }
        for flow in flows {
            html.tag("li", &[], |html| {
                if let Some(at) = &flow.at {
                    html.time(at).text(" ");
                }
                html.text(&flow.what);
            });
        }
    });
}
