//! `hepguard diff` for people and machines.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::text::{Style, Tone, count};
use super::trace::{Place, place, short, told, words};
use crate::analysis::diff::{Cause, Changes, Condition, Diff, Field, Line, Part, Piece, Values};
use crate::calico::names::Meanings;
use crate::packet::text::to_json;
use crate::packet::{Direction, Packet, Prefix, Protocol, TcpFlags};
use crate::ruleset::Interval;
use crate::snapshot::Snapshot;
use crate::space::Dimension;
use crate::space::describe::Listing;

/// The schema of [`document`], as shipped.
pub const SCHEMA: &str = include_str!("schemas/diff.v1.json");

/// Lines of a piece, and values of a field, in a text; `-v` shows all.
const SHOWN: usize = 8;

/// Two snapshots, their names for people, and what differs.
#[derive(Debug, Clone, Copy)]
pub struct Compared<'t> {
    /// The first.
    pub before: &'t Snapshot,
    /// The second.
    pub after: &'t Snapshot,
    /// Name of the first.
    pub name_before: &'t str,
    /// Name of the second.
    pub name_after: &'t str,
    /// What differs.
    pub diff: &'t Diff,
}

impl Compared<'_> {
    /// `Some(true)` when every packet is treated as before, `None` when that could not be decided.
    fn equal(&self) -> Option<bool> {
        if self.diff.parts.iter().any(Part::is_different) {
            return Some(false);
        }
        self.diff.parts.iter().all(Part::is_certain).then_some(true)
    }
}

#[derive(Serialize)]
struct Document<'t> {
    schema: &'static str,
    before: &'t str,
    after: &'t str,
    equal: Option<bool>,
    parts: Vec<PartJson<'t>>,
}

#[derive(Serialize)]
struct PartJson<'t> {
    family: crate::packet::Family,
    direction: &'static str,
    certain: bool,
    unreadable_before: &'t [String],
    unreadable_after: &'t [String],
    too_large: Option<String>,
    newly_accepted: Vec<PieceJson<'t>>,
    newly_dropped: Vec<PieceJson<'t>>,
    undecided: Vec<PieceJson<'t>>,
    left_out: usize,
}

#[derive(Serialize)]
pub(super) struct PieceJson<'t> {
    packets: Vec<Value>,
    more: bool,
    before: CauseJson<'t>,
    after: CauseJson<'t>,
    witness: Option<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    because: Vec<ConditionJson<'t>>,
}

#[derive(Serialize)]
struct CauseJson<'t> {
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<Place<'t>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'t str>,
}

#[derive(Serialize)]
struct ConditionJson<'t> {
    snapshot: &'static str,
    rule: Option<Place<'t>>,
    reason: &'t str,
}

/// Both sides' names of things.
pub(super) struct Both<'r> {
    before: Meanings<'r>,
    after: Meanings<'r>,
}

impl<'r> Both<'r> {
    pub(super) fn new(before: Meanings<'r>, after: Meanings<'r>) -> Self {
        Self { before, after }
    }

    pub(super) fn side(&self, before: bool) -> &Meanings<'r> {
        if before { &self.before } else { &self.after }
    }
}

/// The answer as a JSON document (`hepguard/diff/v1`).
#[must_use]
pub fn document(compared: &Compared<'_>) -> String {
    let both = Both::new(compared.before.meanings(), compared.after.meanings());
    let parts = compared.diff.parts.iter().map(|part| part_json(&both, part)).collect();
    super::json_pretty(&Document {
        schema: "hepguard/diff/v1",
        before: compared.name_before,
        after: compared.name_after,
        equal: compared.equal(),
        parts,
    })
}

fn part_json<'t, 'r: 't>(both: &Both<'r>, part: &'t Part) -> PartJson<'t> {
    let none = &[];
    let changes = part.changes.as_ref().ok();
    let pieces = |of: fn(&Changes) -> &[Piece]| -> Vec<PieceJson<'t>> {
        changes.map_or(none.as_slice(), of).iter().map(|piece| piece_json(both, piece)).collect()
    };
    PartJson {
        family: part.family,
        direction: direction(part.way),
        certain: part.is_certain(),
        unreadable_before: &part.blind_before,
        unreadable_after: &part.blind_after,
        too_large: part.changes.as_ref().err().map(ToString::to_string),
        newly_accepted: pieces(|changes| &changes.gained),
        newly_dropped: pieces(|changes| &changes.lost),
        undecided: pieces(|changes| &changes.undecided),
        left_out: changes.map_or(0, |changes| changes.left_out),
    }
}

pub(super) fn piece_json<'t, 'r: 't>(both: &Both<'r>, piece: &'t Piece) -> PieceJson<'t> {
    let cause = |meanings: &Meanings<'r>, cause: &'t Cause| {
        let (kind, rule, reason) = match cause {
            Cause::Decided(decision) => ("rule", place(meanings, decision.rule, true), None),
            Cause::Kernel(why) => ("kernel", None, Some(&**why)),
            Cause::Nothing => ("none", None, None),
            Cause::NotTold => ("unknown", None, None),
        };
        CauseJson { kind, rule, reason }
    };
    let because = piece.because.iter().map(|condition| ConditionJson {
        snapshot: if condition.before { "before" } else { "after" },
        rule: condition.rule.and_then(|rule| place(both.side(condition.before), rule, true)),
        reason: &condition.reason,
    });
    PieceJson {
        packets: piece.lines.iter().map(line_json).collect(),
        more: piece.more,
        before: cause(&both.before, &piece.before),
        after: cause(&both.after, &piece.after),
        witness: piece.witness.as_ref().map(to_json),
        because: because.collect(),
    }
}

fn line_json(line: &Line) -> Value {
    let fields = line.fields.iter().map(|field| {
        let values = json!({ "except": field.except, "values": words_of(field, usize::MAX) });
        (name(field.dimension).to_owned(), values)
    });
    Value::Object(fields.collect::<Map<_, _>>())
}

/// A field's name, as in the JSON of packets.
fn name(dimension: Dimension) -> &'static str {
    match dimension {
        Dimension::InInterface => "iif",
        Dimension::OutInterface => "oif",
        Dimension::Source => "src",
        Dimension::Destination => "dst",
        Dimension::SourcePort => "sport",
        Dimension::DestinationPort => "dport",
        Dimension::Protocol => "proto",
        Dimension::Extension => "extension",
        Dimension::SourceLink => "mac_src",
        Dimension::DestinationLink => "mac_dst",
        Dimension::State => "state",
        Dimension::TcpFlags => "flags",
        Dimension::IcmpType => "icmp_type",
        Dimension::IcmpCode => "icmp_code",
        Dimension::Ttl => "ttl",
        Dimension::Tos => "tos",
        Dimension::Length => "length",
        Dimension::PacketType => "pkttype",
        Dimension::User => "uid",
        Dimension::UserGroup => "gid",
        Dimension::ConnectionMark => "ct_mark",
        Dimension::Question => "condition",
    }
}

/// A link-layer address.
fn mac_text(number: u128) -> String {
    let bytes = number.to_be_bytes();
    let bytes: Vec<String> = bytes.iter().skip(10).map(|byte| format!("{byte:02x}")).collect();
    bytes.join(":")
}

/// The values of a field, at most `limit` and a word on the others.
fn words_of(field: &Field, limit: usize) -> Vec<String> {
    let number = |number: u128| match field.dimension {
        Dimension::Protocol => {
            u8::try_from(number).map_or_else(|_| number.to_string(), |one| Protocol(one).to_string())
        }
        Dimension::SourceLink | Dimension::DestinationLink => mac_text(number),
        _ => number.to_string(),
    };
    let interval = |interval: &Interval| match (interval.low, interval.high) {
        (low, high) if low == high => number(low),
        (low, high) => format!("{low}-{high}"),
    };
    let (mut all, more): (Vec<String>, u128) = match &field.values {
        Values::Prefixes(Listing { items, total }) => {
            (items.iter().map(prefix).collect(), total.saturating_sub(items.len() as u128))
        }
        Values::Names(names) => (names.clone(), 0),
        Values::States(states) => (states.iter().map(ToString::to_string).collect(), 0),
        Values::Bits(value, mask) => {
            let set = if *value == 0 { "none".to_owned() } else { TcpFlags(*value).to_string() };
            (vec![format!("{set} of {}", TcpFlags(*mask))], 0)
        }
        Values::Numbers(intervals, more) => (intervals.iter().map(interval).collect(), u128::from(*more)),
    };
    let hidden = all.len().saturating_sub(limit) as u128 + more;
    all.truncate(limit);
    if hidden > 0 {
        all.push(if more > 0 && matches!(field.values, Values::Numbers(..)) {
            "and more".to_owned()
        } else {
            format!("and {hidden} more")
        });
    }
    all
}

fn prefix(prefix: &Prefix) -> String {
    if prefix.is_host() { prefix.address().to_string() } else { prefix.to_string() }
}

pub(super) fn direction(way: Direction) -> &'static str {
    match way {
        Direction::In => "in",
        Direction::Out => "out",
        Direction::Forward => "forward",
    }
}

/// The answer for people.
#[must_use]
pub fn text(compared: &Compared<'_>, style: Style, verbose: bool) -> String {
    let both = &Both::new(compared.before.meanings(), compared.after.meanings());
    let verdict = match compared.equal() {
        Some(true) => style.paint(Tone::Good, "equal: every packet is treated as before"),
        Some(false) => style.paint(Tone::Bad, "different"),
        None => style.paint(Tone::Warn, "undecided"),
    };
    let mut out = format!("{verdict}\n");
    out.push_str(&style.wrap("  before: ", compared.name_before));
    out.push_str(&style.wrap("  after:  ", compared.name_after));
    let mut shown = Shown { out: &mut out, both, style, limit: if verbose { usize::MAX } else { SHOWN } };
    for part in &compared.diff.parts {
        shown.part(part);
    }
    out
}

/// Writes parts of the answer.
pub(super) struct Shown<'o, 'r> {
    pub(super) out: &'o mut String,
    pub(super) both: &'o Both<'r>,
    pub(super) style: Style,
    /// Lines of a piece.
    pub(super) limit: usize,
}

impl Shown<'_, '_> {
    fn wrap(&mut self, first: &str, text: &str) {
        self.out.push_str(&self.style.wrap(first, text));
    }

    fn part(&mut self, part: &Part) {
        let title = format!("{} {}", part.family, direction(part.way));
        let changes = match &part.changes {
            Ok(changes) => changes,
            Err(too_large) => return self.wrap(&format!("{title}: "), &format!("not compared: {too_large}")),
        };
        if changes.is_empty() {
            self.wrap(&format!("{title}: "), "no difference");
        } else {
            self.out.push_str(&format!("{}\n", self.style.paint(Tone::Strong, &title)));
        }
        for (side, spots) in [("before", &part.blind_before), ("after", &part.blind_after)] {
            for spot in spots {
                self.wrap(&format!("  not all rules known {side}: "), spot);
            }
        }
        let lists = [
            (&changes.gained, "newly accepted", Tone::Warn),
            (&changes.lost, "newly dropped", Tone::Bad),
            (&changes.undecided, "cannot be decided", Tone::Warn),
        ];
        for (pieces, label, tone) in lists.into_iter().filter(|(pieces, ..)| !pieces.is_empty()) {
            self.out.push_str(&format!("  {}\n", self.style.paint(tone, label)));
            for piece in pieces {
                self.piece(piece);
            }
        }
        if changes.left_out > 0 {
            let more = count(changes.left_out, "more difference");
            self.wrap("  ", &format!("and {more} by other rules"));
        }
    }

    pub(super) fn piece(&mut self, piece: &Piece) {
        for line in piece.lines.iter().take(self.limit) {
            let words = self.line(line);
            self.wrap("    ", &words);
        }
        let hidden = piece.lines.len().saturating_sub(self.limit);
        if hidden > 0 || piece.more {
            let more = if hidden > 0 && !piece.more { count(hidden, "more line") } else { "more".to_owned() };
            self.wrap("    ", &format!("and {more} (-v)"));
        }
        let (before, after) = (self.both.side(true), self.both.side(false));
        let told_before = cause(before, &piece.before);
        let told_after = cause(after, &piece.after);
        for (label, told) in [("      before: ", told_before), ("      after:  ", told_after)] {
            if let Some(told) = told {
                self.wrap(label, &told);
            }
        }
        for condition in &piece.because {
            let text = self.condition(condition);
            self.wrap("      because ", &text);
        }
        if let Some(packet) = &piece.witness {
            self.wrap("      such as ", &format!("{packet}{}", beside(piece, packet)));
        }
    }

    fn condition(&self, condition: &Condition) -> String {
        let side = if condition.before { "before" } else { "after" };
        let ruleset = self.both.side(condition.before).ruleset();
        let at = condition.rule.map(|rule| format!(" [{}]", words(ruleset, rule))).unwrap_or_default();
        format!("{side}: {}{at}", condition.reason)
    }

    /// `tcp, to port 22, from 10.0.0.0/8, over ens5`.
    pub(super) fn line(&self, line: &Line) -> String {
        if line.fields.is_empty() {
            return "every packet".to_owned();
        }
        let mut protocols: Vec<&Field> = line.fields.iter().collect();
        protocols.sort_by_key(|field| rank(field.dimension));
        let all: Vec<String> = protocols.into_iter().map(|field| self.field(field)).collect();
        all.join(", ")
    }

    fn field(&self, field: &Field) -> String {
        let values = words_of(field, self.limit.saturating_mul(2)).join(" ");
        let before = match field.dimension {
            Dimension::Protocol => "",
            Dimension::Extension => "first extension header ",
            Dimension::SourceLink => "from MAC ",
            Dimension::DestinationLink => "to MAC ",
            Dimension::DestinationPort => "to port ",
            Dimension::SourcePort => "from port ",
            Dimension::Source => "from ",
            Dimension::Destination => "to ",
            Dimension::InInterface => "in by ",
            Dimension::OutInterface => "out by ",
            Dimension::State => "state ",
            Dimension::TcpFlags => "flags ",
            Dimension::IcmpType => "ICMP type ",
            Dimension::IcmpCode => "ICMP code ",
            Dimension::Ttl => "TTL ",
            Dimension::Tos => "TOS ",
            Dimension::Length => "length ",
            Dimension::PacketType => "link-layer type ",
            Dimension::User => "of user ",
            Dimension::UserGroup => "of group ",
            Dimension::ConnectionMark => "connection mark ",
            Dimension::Question => "if ",
        };
        format!("{before}{}{values}", if field.except { "any but " } else { "" })
    }
}

/// What of an example is not among the words of `hepguard trace`: its link-layer addresses, where they matter, and extension headers.
fn beside(piece: &Piece, packet: &Packet) -> String {
    let asks = |dimension| piece.lines.iter().flat_map(|line| &line.fields).any(|field| field.dimension == dimension);
    let links = [
        (Dimension::SourceLink, "from", packet.details.source_mac),
        (Dimension::DestinationLink, "to", packet.details.destination_mac),
    ];
    let mut words = String::new();
    for (_, word, mac) in links.into_iter().filter(|(dimension, ..)| asks(*dimension)) {
        let number = |mac: [u8; 6]| mac.into_iter().fold(0u128, |all, byte| all << 8 | u128::from(byte));
        words.extend(mac.map(|mac| format!(", {word} MAC {}", mac_text(number(mac)))));
    }
    for header in packet.details.extensions.as_deref().unwrap_or_default() {
        words.push_str(&format!(", behind extension header {}", header.header.0));
    }
    words
}

/// Order of fields in a line.
fn rank(dimension: Dimension) -> usize {
    use Dimension as D;
    let order = [D::Protocol, D::DestinationPort, D::SourcePort, D::IcmpType, D::IcmpCode, D::Source, D::Destination];
    let order = order.into_iter().chain([D::InInterface, D::OutInterface, D::State]);
    order.into_iter().position(|one| one == dimension).unwrap_or(usize::MAX)
}

/// What decided, in words.
pub(super) fn cause(meanings: &Meanings<'_>, cause: &Cause) -> Option<String> {
    let ruleset = meanings.ruleset();
    match cause {
        Cause::Decided(decision) => {
            let at = words(ruleset, decision.rule);
            let meant = told(meanings, decision.rule).or_else(|| ruleset.rule(decision.rule).map(short));
            Some(format!("{} [{at}]", meant.unwrap_or_else(|| "policy of the chain".to_owned())))
        }
        Cause::Kernel(why) => Some(format!("by the kernel, not the firewall: {why}")),
        Cause::Nothing => Some("no rule stands in the way".to_owned()),
        Cause::NotTold => None,
    }
}
