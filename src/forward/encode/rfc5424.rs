//! Syslog messages of RFC 5424, and as the host's own `/dev/log` takes them: header, structured data, then the text. What must not be lost stands in the structured data,
//! because a receiver may cut a message at its end.

use std::fmt::Write as _;

use super::message::{Body, Message};
use crate::audit::finding::Severity;
use crate::diagnostic::printable;
use crate::logs::event::Event;
use crate::logs::time::{Micros, rfc3339};
use crate::report::events::{reason, sentence};

/// The enterprise number RFC 5612 reserves for documentation: ours until one is registered.
pub const DOCUMENTATION_PEN: u32 = 32473;

/// What the header says beside the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Facility number, 0 to 23 (RFC 5424, table 1).
    pub facility: u8,
    /// Private enterprise number behind the names of structured data.
    pub enterprise: u32,
    /// Process id.
    pub pid: u32,
    /// A byte order mark before the text: RFC 5424 asks for it, rsyslog keeps it as three stray bytes.
    pub bom: bool,
    /// Longest message in bytes; the text is cut to fit. Receivers take 8 KiB unless told otherwise.
    pub max_bytes: usize,
}

impl Default for Header {
    fn default() -> Self {
        Self { facility: 16, enterprise: DOCUMENTATION_PEN, pid: 1, bom: false, max_bytes: 8000 }
    }
}

/// The syslog severity: a deny is a warning or notice, findings follow their own scale.
fn level(severity: Severity) -> u8 {
    match severity {
        Severity::Critical => 2,
        Severity::High => 3,
        Severity::Medium => 4,
        Severity::Low => 5,
        Severity::Info => 6,
    }
}

/// The severity of a message in syslog's numbers.
pub(super) fn priority(message: &Message<'_>) -> u8 {
    if message.kind() == "DENY" { 4 } else { level(message.severity()) }
}

/// A message of the lane `lane` with the number `sequence` there. `text` is the part behind the structured data: a sentence,
/// or a document of another form.
pub(super) fn line(message: &Message<'_>, header: &Header, lane: (&str, u64), text: &str) -> String {
    let priority = header.facility.min(23) * 8 + priority(message);
    let (time, host) = (millis(message.time), word(message.host, 255));
    let out = format!("<{priority}>1 {time} {host} hepguard {} {} ", header.pid, message.kind());
    behind(out, message, header, (lane, String::new()), text)
}

/// The same for `/dev/log`: its readers, journald and rsyslog, know no RFC 5424 there. They put time and host in front
/// themselves; when it happened stands in the structured data.
pub(super) fn local(message: &Message<'_>, header: &Header, lane: (&str, u64), text: &str) -> String {
    let priority = header.facility.min(23) * 8 + priority(message);
    let out = format!("<{priority}>hepguard[{}]: {} ", header.pid, message.kind());
    behind(out, message, header, (lane, millis(message.time)), text)
}

/// Structured data and text, behind a header.
fn behind(
    mut out: String,
    message: &Message<'_>,
    header: &Header,
    ((lane, sequence), time): ((&str, u64), String),
    text: &str,
) -> String {
    let _ = write!(out, "[hepguard@{} ", header.enterprise);
    let own = [("id", message.id.clone()), ("lane", lane.to_owned()), ("seq", sequence.to_string()), ("time", time)];
    pairs(&mut out, own.into_iter());
    out.push(']');
    let (name, fields) = structured(message);
    let _ = write!(out, "[{name}@{} ", header.enterprise);
    pairs(&mut out, fields.into_iter());
    out.push_str("] ");
    if header.bom {
        out.push('\u{feff}');
    }
    let room = header.max_bytes.saturating_sub(out.len());
    out.push_str(cut(text, room));
    out
}

/// The longest head of `text` of at most `room` bytes that ends between characters.
pub(super) fn cut(text: &str, room: usize) -> &str {
    if text.len() <= room {
        return text;
    }
    let end = (0..=room).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    &text[..end]
}

/// The text for people.
pub(super) fn words(message: &Message<'_>) -> String {
    let text = match &message.body {
        Body::Event { event, .. } => {
            let times = if event.count > 1 { format!(", {} times", event.count) } else { String::new() };
            match reason(event) {
                Some(reason) => format!("{}{times}: {reason}", sentence(event)),
                None => format!("{}{times}", sentence(event)),
            }
        }
        Body::Finding { finding, state } => {
            let (code, severity) = (finding.code, finding.severity.name());
            format!("{code} {} ({severity}, {}): {}", finding.name, state.name(), finding.title)
        }
        Body::Notice(notice) => notice.text.clone(),
    };
    // nothing that a terminal or a line based receiver could take for more than text
    printable(&text)
}

/// RFC 3339 with exactly three digits of fraction: some receivers know no other number.
fn millis(time: Micros) -> String {
    let milli = time.div_euclid(1000).rem_euclid(1000);
    match rfc3339(time - time.rem_euclid(1_000_000)) {
        Some(text) => format!("{}.{milli:03}Z", text.trim_end_matches('Z')),
        None => "-".to_owned(),
    }
}

/// PRINTUSASCII of at most `most` characters, `-` for nothing.
fn word(text: &str, most: usize) -> String {
    let word: String = text.chars().map(|c| if c.is_ascii_graphic() { c } else { '?' }).take(most).collect();
    if word.is_empty() { "-".to_owned() } else { word }
}

/// Longest value of structured data, in bytes before escaping: all of them leave room in 8 KiB.
const LONGEST: usize = 512;

fn pairs(out: &mut String, fields: impl Iterator<Item = (&'static str, String)>) {
    for (at, (key, value)) in fields.filter(|(_, value)| !value.is_empty()).enumerate() {
        let _ = write!(out, "{}{key}=\"", if at == 0 { "" } else { " " });
        // twice as long when every character is escaped
        for c in cut(&printable(&value), LONGEST).chars() {
            if matches!(c, '"' | '\\' | ']') {
                out.push('\\');
            }
            out.push(c);
        }
        out.push('"');
    }
}

fn structured(message: &Message<'_>) -> (&'static str, Vec<(&'static str, String)>) {
    match &message.body {
        Body::Event { event, .. } => ("deny", event_fields(event)),
        Body::Finding { finding, state } => (
            "finding",
            vec![
                ("code", finding.code.to_owned()),
                ("name", finding.name.to_owned()),
                ("severity", finding.severity.name().to_owned()),
                ("state", state.name().to_owned()),
                ("bites", finding.bites.name().to_owned()),
                ("at", finding.bites_at.clone().unwrap_or_default()),
                ("fingerprint", finding.fingerprint.clone()),
                ("fix", finding.fix.clone()),
            ],
        ),
        Body::Notice(notice) => {
            let mut fields = vec![("kind", notice.kind.name().to_owned())];
            fields.extend(notice.fields.iter().cloned());
            ("health", fields)
        }
    }
}

fn event_fields(event: &Event<'_>) -> Vec<(&'static str, String)> {
    let text = |bytes: Option<&[u8]>| bytes.map(super::lossy).unwrap_or_default();
    let number = |number: Option<i64>| number.map(|number| number.to_string()).unwrap_or_default();
    let address = |ip: Option<std::net::IpAddr>| ip.map(|ip| ip.to_string()).unwrap_or_default();
    let (packets, bytes) = event.totals();
    vec![
        ("act", event.action.name().to_owned()),
        ("src", address(event.src_ip)),
        ("spt", number(event.src_port.map(i64::from))),
        ("dst", address(event.dst_ip)),
        ("dpt", number(event.dst_port.map(i64::from))),
        ("proto", number(event.proto.map(i64::from))),
        ("dir", event.direction.map(|way| way.name().to_owned()).unwrap_or_default()),
        ("tier", text(event.tier.as_deref())),
        ("policy", text(event.policy.as_deref())),
        ("rule", number(event.rule_index.map(i64::from))),
        ("prefix", text(event.log_prefix)),
        ("in", text(event.in_iface)),
        ("out", text(event.out_iface)),
        ("packets", event.packets.to_string()),
        ("bytes", event.bytes.to_string()),
        ("n", event.count.to_string()),
        ("packets_total", packets.to_string()),
        ("bytes_total", bytes.to_string()),
        ("failsafe", if event.failsafe { "1".to_owned() } else { String::new() }),
        ("source", event.source.name().to_owned()),
        ("loghost", text(event.host)),
    ]
}
