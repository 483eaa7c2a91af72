//! The map of flows: who, through what, to what. Denied ones are red with a cross, masked ones dashed, undecided ones dotted:
//! never colour alone.

use super::flows::decides;
use super::markup::Html;
use crate::analysis::conversation::Outcome;
use crate::analysis::flows::FlowKind;
use crate::audit::flows::{FlowsReport, JudgedFlow};
use crate::report::text::{Style, count};

/// Flows drawn; the table below has all.
const MOST: usize = 24;

/// Left edge, width and characters of each column.
const COLUMNS: [(usize, usize, usize); 3] = [(10, 230, 29), (330, 370, 47), (790, 200, 25)];
/// Height of a box, and of a row of the fullest column.
const BOX: usize = 32;
const ROW: usize = 46;

/// How a flow is drawn, the worst last: it lies on top.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Works,
    Unknown,
    Masked,
    Denied,
}

impl State {
    const ALL: [Self; 4] = [Self::Works, Self::Unknown, Self::Masked, Self::Denied];

    fn of(flow: &JudgedFlow) -> Self {
        match flow.worlds.new.verdict {
            Outcome::Broken => Self::Denied,
            Outcome::Unknown => Self::Unknown,
            Outcome::Works if flow.held_by.is_some() || flow.bites.is_some() => Self::Masked,
            Outcome::Works => Self::Works,
        }
    }

    /// Class of its lines, and what they mean.
    fn shown(self) -> (&'static str, &'static str) {
        match self {
            Self::Works => ("edge works", "works"),
            Self::Unknown => ("edge unknown", "cannot be decided"),
            Self::Masked => ("edge masked", "masked: works, and hangs on one thing"),
            Self::Denied => ("edge denied", "denied"),
        }
    }
}

/// A flow as three boxes.
struct Drawn {
    ends: [usize; 3],
    state: State,
}

/// Boxes of one column, each once.
#[derive(Default)]
struct Column {
    names: Vec<String>,
}

impl Column {
    fn place(&mut self, name: String) -> usize {
        self.names.iter().position(|known| *known == name).unwrap_or_else(|| {
            self.names.push(name);
            self.names.len() - 1
        })
    }
}

pub(super) fn draw(html: &mut Html, report: &FlowsReport) {
    // a failsafe entry is no flow of anybody; the table and the matrix have it
    let mut flows: Vec<&JudgedFlow> = report.flows.iter().filter(|flow| flow.kind != FlowKind::Failsafe).collect();
    let all = flows.len();
    // the worst are drawn whatever there is; of the rest the most important
    flows.sort_by_key(|flow| std::cmp::Reverse(State::of(flow)));
    flows.truncate(MOST);
    let mut columns = [Column::default(), Column::default(), Column::default()];
    let [from, through, to] = &mut columns;
    let drawn: Vec<Drawn> = flows
        .iter()
        .map(|flow| {
            let (left, right) = ends(flow);
            let ends = [from.place(left), through.place(author(flow)), to.place(right)];
            Drawn { ends, state: State::of(flow) }
        })
        .collect();
    let told: Vec<String> = State::ALL
        .iter()
        .rev()
        .map(|state| (state, drawn.iter().filter(|flow| flow.state == *state).count()))
        .filter(|(_, number)| *number > 0)
        .map(|(state, number)| format!("{number} {}", state.shown().1))
        .collect();
    let label = [("class", "scroll"), ("tabindex", "0"), ("role", "region"), ("aria-label", "Map of flows")];
    html.tag("figure", &[], |html| {
        html.tag("div", &label, |html| picture(html, &columns, &drawn, &told));
        html.tag("figcaption", &[], |html| {
            html.text(&format!("Who, through what, to what: {}. ", told.join(", ")));
            if all > drawn.len() {
                html.text(&format!("{} more are not drawn. ", count(all - drawn.len(), "flow")));
            }
            html.text("The table below tells all of it in words.");
        });
    });
    html.tag("ul", &[("class", "legend")], |html| {
        for state in State::ALL.iter().rev() {
            let (class, words) = state.shown();
            html.tag("li", &[], |html| {
                let size = [("viewBox", "0 0 48 12"), ("width", "48"), ("height", "12"), ("aria-hidden", "true")];
                html.tag("svg", &size, |html| {
                    html.tag("path", &[("class", class), ("d", "M2 6H46")], |_| ());
                    if *state == State::Denied {
                        cross(html, 24, 6);
                    }
                });
                html.text(&format!(" {words}"));
            });
        }
    });
}

/// What decides, short enough for a box: a policy and its rule, without the words that all of them share.
fn author(flow: &JudgedFlow) -> String {
    let words = decides(&flow.worlds.new);
    let Some((_, policy)) = words.split_once("NetworkPolicy ") else { return words };
    match policy.split_once(" in tier ") {
        Some((name, rest)) => format!("{name}{}", rest.trim_start_matches(|c| c != ',')),
        None => policy.to_owned(),
    }
}

/// Who opens it, and to what.
fn ends(flow: &JudgedFlow) -> (String, String) {
    let service = match flow.port {
        Some(port) => format!("{}/{port}", flow.proto),
        None => flow.proto.clone(),
    };
    let peer = match flow.kind {
        FlowKind::SshIn => "anybody".to_owned(),
        _ => flow.peer.to_string(),
    };
    if flow.direction == "in" {
        (peer, format!("this host {service}"))
    } else {
        ("this host".to_owned(), format!("{peer} {service}"))
    }
}

fn picture(html: &mut Html, columns: &[Column; 3], drawn: &[Drawn], told: &[String]) {
    let most = columns.iter().map(|column| column.names.len()).max().unwrap_or(1).max(1);
    let height = most * ROW + 8;
    let view = format!("0 0 1000 {height}");
    let picture =
        [("viewBox", view.as_str()), ("role", "img"), ("class", "map"), ("aria-labelledby", "map-title map-text")];
    html.tag("svg", &picture, |html| {
        html.leaf("title", &[("id", "map-title")], "Map of flows that must work");
        html.leaf("desc", &[("id", "map-text")], &told.join(", "));
        // the middle of a box, boxes of a column spread over the height
        let middle = |column: usize, at: usize| {
            let number = columns.get(column).map_or(1, |column| column.names.len()).max(1);
            (2 * at + 1) * height / (2 * number)
        };
        for state in State::ALL {
            let mut done: Vec<(usize, usize, usize)> = Vec::new();
            for flow in drawn.iter().filter(|flow| flow.state == state) {
                let [left, through, right] = flow.ends;
                for (gap, from, to) in [(0, left, through), (1, through, right)] {
                    if done.contains(&(gap, from, to)) {
                        continue;
                    }
                    done.push((gap, from, to));
                    let start = COLUMNS[gap].0 + COLUMNS[gap].1;
                    let end = COLUMNS[gap + 1].0;
                    let (y, z, half) = (middle(gap, from), middle(gap + 1, to), usize::midpoint(start, end));
                    let way = format!("M{start} {y}C{half} {y} {half} {z} {end} {z}");
                    html.tag("path", &[("class", state.shown().0), ("d", &way)], |_| ());
                    if state == State::Denied && gap == 1 {
                        cross(html, half, usize::midpoint(y, z));
                    }
                }
            }
        }
        for (number, (column, (x, width, room))) in columns.iter().zip(COLUMNS).enumerate() {
            for (at, name) in column.names.iter().enumerate() {
                node(html, (x, middle(number, at)), (width, room), name);
            }
        }
    });
}

fn node(html: &mut Html, (x, y): (usize, usize), (width, room): (usize, usize), name: &str) {
    let top = y.saturating_sub(BOX / 2).to_string();
    let (left, wide, high) = (x.to_string(), width.to_string(), BOX.to_string());
    html.tag("g", &[("class", "node")], |html| {
        html.leaf("title", &[], name);
        let shape = [("x", left.as_str()), ("y", &top), ("width", &wide), ("height", &high), ("rx", "6")];
        html.tag("rect", &shape, |_| ());
        let (x, y) = ((x + 10).to_string(), (y + 5).to_string());
        html.leaf("text", &[("x", &x), ("y", &y)], &Style::default().clip(name, room));
    });
}

fn cross(html: &mut Html, x: usize, y: usize) {
    let (left, right, top, end) = (x.saturating_sub(5), x + 5, y.saturating_sub(5), y + 5);
    let way = format!("M{left} {top}L{right} {end}M{right} {top}L{left} {end}");
    html.tag("path", &[("class", "cross"), ("d", &way)], |_| ());
}
