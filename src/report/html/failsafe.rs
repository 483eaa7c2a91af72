//! The failsafe lists: on disk, in the running Felix, in the datastore, in the kernel of both families.

use super::markup::Html;
use super::{badge, capital, list, table};
use crate::calico::failsafe::{Change, Direction, FailsafeReport, ListState};
use crate::packet::Family;
use crate::report::failsafe::{kernel_words, source_words, verdict};

/// Entries shown of one list.
const MOST: usize = 200;

pub(super) fn section(html: &mut Html, report: &FailsafeReport) {
    html.leaf("p", &[], &format!("{}.", capital(&verdict(report).1)));
    for direction in Direction::ALL {
        let title = if direction == Direction::In { "Inbound" } else { "Outbound" };
        html.leaf("h3", &[], &format!("{title} ({})", direction.param()));
        let lists = report.direction(direction);
        list(
            html,
            [
                format!("On disk: {}", source_words(&lists.disk)),
                format!("Running Felix: {}", source_words(&lists.running)),
                format!("Datastore: {}", source_words(&lists.datastore)),
                format!("Kernel: {}", kernel_words(lists)),
            ],
        );
        let heads = ["Entry", "On disk", "Running", "Datastore", "Kernel IPv4", "Kernel IPv6"];
        let caption = format!("{title} failsafe entries, four ways and two families");
        if lists.entries.is_empty() {
            html.leaf("p", &[], "No entries are known.");
            continue;
        }
        table(html, &caption, &heads, |html| {
            for row in lists.entries.iter().take(MOST) {
                let cell = |of: Option<bool>, asked: bool| if asked { Cell::of(of) } else { Cell::Elsewhere };
                let cells = [
                    Cell::of(row.disk),
                    cell(row.running, lists.running.state != ListState::NotRunning),
                    cell(row.datastore, lists.datastore.state != ListState::NotSet),
                    cell(row.kernel_ipv4, row.entry.applies_to(Family::Ipv4)),
                    cell(row.kernel_ipv6, row.entry.applies_to(Family::Ipv6)),
                ];
                let differs = cells.contains(&Cell::In) && cells.contains(&Cell::Out);
                html.tag("tr", &[("class", if differs { "differs" } else { "" })], |html| {
                    html.tag("th", &[("scope", "row")], |html| {
                        html.leaf("code", &[], &row.entry.to_string());
                        if differs {
                            html.text(" ");
                            badge(html, "warn", "differs");
                        }
                    });
                    for cell in cells {
                        let (class, sign, words) = cell.shown();
                        html.tag("td", &[("class", class)], |html| {
                            html.leaf("span", &[("aria-hidden", "true")], sign);
                            html.leaf("span", &[("class", "words")], words);
                        });
                    }
                });
            }
        });
        if lists.entries.len() > MOST {
            html.leaf("p", &[], &format!("{} more entries are not shown.", lists.entries.len() - MOST));
        }
    }
    html.leaf("h3", &[], "What the next restart of Felix changes");
    let changes = Direction::ALL.iter().flat_map(|direction| {
        let changes = report.direction(*direction).next_restart.iter();
        changes
            .filter(|change| !change.adds.is_empty() || !change.removes.is_empty())
            .map(move |change| (direction, change))
    });
    let lines: Vec<String> = changes.map(|(direction, change)| words(*direction, change)).collect();
    if lines.is_empty() {
        html.leaf("p", &[], "Nothing, as far as is known.");
    } else {
        list(html, lines);
    }
    let problems: Vec<_> =
        report.problems.iter().map(|problem| format!("{}: {}", problem.severity.name(), problem.title)).collect();
    if !problems.is_empty() {
        html.leaf("h3", &[], "What is wrong with the lists");
        list(html, problems);
    }
}

/// Whether an entry is in a list.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cell {
    In,
    Out,
    Unknown,
    /// The list does not exist, or the entry is of the other family.
    Elsewhere,
}

impl Cell {
    fn of(present: Option<bool>) -> Self {
        match present {
            Some(true) => Self::In,
            Some(false) => Self::Out,
            None => Self::Unknown,
        }
    }

    /// Class, sign and words.
    fn shown(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::In => ("good", "✓ ", "in it"),
            Self::Out => ("bad", "✕ ", "not in it"),
            Self::Unknown => ("warn", "? ", "not known"),
            Self::Elsewhere => ("low", "· ", "does not apply"),
        }
    }
}

fn words(direction: Direction, change: &Change) -> String {
    let entries = |entries: &[crate::calico::settings::Entry]| {
        entries.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    let mut parts = Vec::new();
    if !change.removes.is_empty() {
        parts.push(format!("removes {}", entries(&change.removes)));
    }
    if !change.adds.is_empty() {
        parts.push(format!("adds {}", entries(&change.adds)));
    }
    format!("{direction} {}: {}", change.family, parts.join("; "))
}
