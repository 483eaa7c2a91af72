//! `hepguard report`: one page that stands alone. No script, nothing from elsewhere; `markup` escapes every text by type.
//!
//! ```text
//! verdict and calendar · failsafe lists · map of flows · denies · a packet's walk · findings · what could not be read
//! ```
//! One file a section; each takes an analysis that is done and writes it down.

mod denies;
mod failsafe;
mod findings;
mod flows;
mod map;
mod markup;
mod unread;
mod verdict;
mod walk;

use crate::analysis::trace::Trace;
use crate::audit::Audit;
use crate::audit::finding::Severity;
use crate::audit::flows::FlowsReport;
use crate::calico::failsafe::FailsafeReport;
use crate::calico::hash::sha256_base64;
use crate::calico::names::Meanings;
use crate::packet::Packet;
use crate::report::denies::Answer;
use markup::Html;

/// The page's only style sheet.
const STYLE: &str = include_str!("style.css");

/// What the page is made of.
pub struct Page<'a> {
    /// Version of hepguard.
    pub version: &'a str,
    /// When the page was made, RFC 3339.
    pub made: &'a str,
    /// What was judged, in words: `this host`, or the snapshot's path.
    pub judged: &'a str,
    /// The audit.
    pub audit: &'a Audit,
    /// The failsafe lists.
    pub failsafe: &'a FailsafeReport,
    /// The flows that must work.
    pub flows: &'a FlowsReport,
    /// What logs tell; `None` when none was given.
    pub denies: Option<&'a Answer>,
    /// Packets of the flows that matter most.
    pub walks: &'a [Walk],
    /// What rules mean.
    pub meanings: &'a Meanings<'a>,
}

/// A packet and what became of it.
pub struct Walk {
    /// The flow's name.
    pub name: String,
    /// Its first packet.
    pub packet: Packet,
    /// Its way.
    pub trace: Trace,
}

/// Sections in their order: anchor and title.
const SECTIONS: [(&str, &str); 7] = [
    ("verdict", "Verdict"),
    ("failsafe", "Failsafe lists"),
    ("flows", "Flows that must work"),
    ("denies", "Denies"),
    ("walk", "A packet’s walk"),
    ("findings", "Findings"),
    ("unread", "What could not be read"),
];

/// The page.
#[must_use]
pub fn page(page: &Page<'_>) -> String {
    let mut html = Html::document();
    html.tag("html", &[("lang", "en")], |html| {
        html.tag("head", &[], |html| head(html, page));
        html.tag("body", &[], |html| body(html, page));
    });
    html.finish()
}

fn head(html: &mut Html, page: &Page<'_>) {
    html.void("meta", &[("charset", "utf-8")]);
    html.void("meta", &[("http-equiv", "Content-Security-Policy"), ("content", &policy())]);
    html.void("meta", &[("name", "viewport"), ("content", "width=device-width, initial-scale=1")]);
    html.void("meta", &[("name", "color-scheme"), ("content", "light dark")]);
    html.void("meta", &[("name", "referrer"), ("content", "no-referrer")]);
    html.leaf("title", &[], &format!("{}: {}", verdict::host(page.audit), verdict::sentence(page.audit)));
    html.style(STYLE);
}

/// Nothing is loaded, nothing runs, and only this style sheet counts.
fn policy() -> String {
    let hash = sha256_base64(STYLE).replace('-', "+").replace('_', "/");
    format!("default-src 'none'; style-src 'sha256-{hash}='; base-uri 'none'; form-action 'none'")
}

fn body(html: &mut Html, page: &Page<'_>) {
    html.leaf("a", &[("class", "skip"), ("href", "#main")], "Skip to the verdict");
    html.tag("header", &[], |html| verdict::header(html, page));
    html.tag("nav", &[("aria-label", "Sections")], |html| {
        html.tag("ul", &[], |html| {
            for (anchor, title) in SECTIONS {
                html.tag("li", &[], |html| {
                    html.leaf("a", &[("href", &format!("#{anchor}"))], title);
                });
            }
        });
    });
    html.tag("main", &[("id", "main"), ("tabindex", "-1")], |html| {
        for (anchor, title) in SECTIONS {
            let heading = format!("{anchor}-title");
            html.tag("section", &[("id", anchor), ("aria-labelledby", &heading)], |html| {
                html.leaf("h2", &[("id", &heading)], title);
                match anchor {
                    "verdict" => verdict::section(html, page),
                    "failsafe" => failsafe::section(html, page.failsafe),
                    "flows" => flows::section(html, page.flows),
                    "denies" => denies::section(html, page.denies),
                    "walk" => walk::section(html, page.meanings, page.walks),
                    "findings" => findings::section(html, &page.audit.findings, &page.audit.policies),
                    _ => unread::section(html, page),
                }
            });
        }
    });
    html.tag("footer", &[], |html| {
        html.tag("p", &[], |html| {
            html.text(&format!("Made by hepguard {} at ", page.version)).time(page.made);
            html.text(&format!(" from {}. This page needs no network and runs no script.", page.judged));
        });
    });
}

/// Class of a severity; its word always stands beside the colour.
fn class(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical | Severity::High => "bad",
        Severity::Medium => "warn",
        Severity::Low | Severity::Info => "low",
    }
}

fn badge(html: &mut Html, class: &str, word: &str) {
    html.leaf("span", &[("class", &format!("badge {class}"))], word);
}

/// A table with its caption and heads of columns, in a box of its own that scrolls where the window is narrow.
fn table(html: &mut Html, caption: &str, heads: &[&str], rows: impl FnOnce(&mut Html)) {
    let label = [("class", "scroll"), ("tabindex", "0"), ("role", "region"), ("aria-label", caption)];
    html.tag("div", &label, |html| {
        html.tag("table", &[], |html| {
            html.leaf("caption", &[], caption);
            html.tag("thead", &[], |html| {
                html.tag("tr", &[], |html| {
                    for head in heads {
                        html.leaf("th", &[("scope", "col")], head);
                    }
                });
            });
            html.tag("tbody", &[], rows);
        });
    });
}

/// A sentence's first letter.
fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// Lines that tell what a section has to say when it has no table.
fn list(html: &mut Html, lines: impl IntoIterator<Item = String>) {
    html.tag("ul", &[], |html| {
        for line in lines {
            html.leaf("li", &[], &line);
        }
    });
}

#[cfg(test)]
mod tests;
