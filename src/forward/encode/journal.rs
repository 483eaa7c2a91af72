//! Entries of systemd's journal in its native form: fields that a query finds by name, and that hold any bytes.
//!
//! `MESSAGE` is one printable line, as in every other form; what a log or a finding says of its own stands in fields exactly as
//! it is, line feeds and escapes included. Fields of denies have the names of `hepguard/event/v1` in capitals, with `HEPGUARD_`
//! in front. A value that is longer than it may be is cut, and `HEPGUARD_CUT` names its field.

use super::message::{Body, Message};
use super::rfc5424::{Header, cut, priority};
use crate::audit::finding::Finding;
use crate::logs::event::Event;
use crate::logs::query::{Field, Value};
use crate::logs::tally::value;
use crate::logs::time::rfc3339;

/// What kind of message it is, for ever (`MESSAGE_ID`): a deny, a finding, a word about hepguard itself.
const KINDS: [&str; 3] =
    ["6f1d0a5be3f34ec19f2f6b1a0d7c5511", "6f1d0a5be3f34ec19f2f6b1a0d7c5512", "6f1d0a5be3f34ec19f2f6b1a0d7c5513"];

/// Longest value beside `MESSAGE`, in bytes: with it an entry fits the queues on the disk.
const LONGEST: usize = 8 << 10;

/// Writes a field; the long form, for values with a line feed, holds any byte.
pub fn field(entry: &mut Vec<u8>, name: &str, value: &[u8]) {
    entry.extend_from_slice(name.as_bytes());
    if value.contains(&b'\n') {
        entry.push(b'\n');
        entry.extend(u64::try_from(value.len()).unwrap_or(0).to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend_from_slice(value);
    entry.push(b'\n');
}

struct Entry {
    bytes: Vec<u8>,
    cut: Vec<String>,
}

impl Entry {
    /// A field of ours; nothing for an empty value.
    fn own(&mut self, name: &str, value: &[u8]) {
        let sound = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
        let name = format!("HEPGUARD_{}", name.chars().map(sound).collect::<String>());
        if value.is_empty() {
            return;
        }
        let kept = match std::str::from_utf8(value) {
            Ok(text) => cut(text, LONGEST).as_bytes(),
            Err(_) => value.get(..LONGEST).unwrap_or(value),
        };
        field(&mut self.bytes, &name, kept);
        if kept.len() < value.len() {
            self.cut.push(name);
        }
    }
}

/// A message of the lane `lane` with the number `sequence` there; `text` is its `MESSAGE`.
pub(super) fn entry(message: &Message<'_>, header: &Header, (lane, sequence): (&str, u64), text: &str) -> Vec<u8> {
    let mut entry = Entry { bytes: Vec::with_capacity(1024), cut: Vec::new() };
    let shown = cut(text, header.max_bytes);
    field(&mut entry.bytes, "MESSAGE", shown.as_bytes());
    if shown.len() < text.len() {
        entry.cut.push("MESSAGE".to_owned());
    }
    let kind = match message.body {
        Body::Event { .. } => KINDS[0],
        Body::Finding { .. } => KINDS[1],
        Body::Notice(_) => KINDS[2],
    };
    for (name, value) in [
        ("PRIORITY", priority(message).to_string()),
        ("SYSLOG_FACILITY", header.facility.to_string()),
        ("SYSLOG_IDENTIFIER", "hepguard".to_owned()),
        ("SYSLOG_PID", header.pid.to_string()),
        ("MESSAGE_ID", kind.to_owned()),
    ] {
        field(&mut entry.bytes, name, value.as_bytes());
    }
    entry.own("id", message.id.as_bytes());
    entry.own("lane", lane.as_bytes());
    entry.own("seq", sequence.to_string().as_bytes());
    entry.own("kind", message.kind().as_bytes());
    entry.own("time", rfc3339(message.time).unwrap_or_default().as_bytes());
    match &message.body {
        Body::Event { event, raw } => of_event(&mut entry, message.host, event, raw),
        Body::Finding { finding, state } => {
            entry.own("host", message.host.as_bytes());
            entry.own("state", state.name().as_bytes());
            of_finding(&mut entry, finding);
        }
        Body::Notice(notice) => {
            entry.own("host", message.host.as_bytes());
            entry.own("notice", notice.kind.name().as_bytes());
            entry.own("text", notice.text.as_bytes());
            for (name, value) in &notice.fields {
                entry.own(name, value.as_bytes());
            }
        }
    }
    if !entry.cut.is_empty() {
        let names = entry.cut.join(" ");
        field(&mut entry.bytes, "HEPGUARD_CUT", names.as_bytes());
    }
    entry.bytes
}

fn of_event(entry: &mut Entry, host: &str, event: &Event<'_>, raw: &[u8]) {
    entry.own("host", event.host.unwrap_or(host.as_bytes()));
    // the host is told, whoever it is
    for name in Field::of_event().filter(|field| *field != Field::Host).chain([Field::LogPrefix]) {
        let text = match value(name, event) {
            Value::Null => continue,
            Value::Text(text) => text,
            Value::Number(number) => number.to_string(),
            Value::Flag(flag) => flag.to_string(),
            Value::Address(address) => address.to_string(),
        };
        entry.own(name.name(), text.as_bytes());
    }
    let (packets, bytes) = event.totals();
    for (name, number) in [
        ("packets", event.packets),
        ("bytes", event.bytes),
        ("count", event.count),
        ("packets_total", packets),
        ("bytes_total", bytes),
    ] {
        entry.own(name, number.to_string().as_bytes());
    }
    entry.own("failsafe", event.failsafe.to_string().as_bytes());
    entry.own("raw", raw);
}

fn of_finding(entry: &mut Entry, finding: &Finding) {
    let evidence: Vec<String> = finding.evidence.iter().map(|one| format!("{}: {}", one.source, one.text)).collect();
    for (name, value) in [
        ("code", finding.code),
        ("name", finding.name),
        ("severity", finding.severity.name()),
        ("fingerprint", &finding.fingerprint),
        ("bites", finding.bites.name()),
        ("bites_at", finding.bites_at.as_deref().unwrap_or_default()),
        ("title", &finding.title),
        ("subject", &finding.subject.to_string()),
        ("fix", &finding.fix),
        ("evidence", &evidence.join("\n")),
    ] {
        entry.own(name, value.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::encode::message::{Notice, NoticeKind};

    #[test]
    fn fields_hold_any_text() {
        let mut entry = Vec::new();
        field(&mut entry, "A", b"plain=1");
        field(&mut entry, "B", b"two\nlines");
        assert_eq!(entry, b"A=plain=1\nB\n\x09\0\0\0\0\0\0\0two\nlines\n");
    }

    #[test]
    fn what_is_cut_is_named_and_an_entry_stays_within_the_queues() {
        let notice = Notice {
            kind: NoticeKind::Gap,
            text: "é\n".repeat(1 << 20),
            fields: vec![("lost", "3".to_owned()), ("queue", "x".repeat(1 << 20))],
        };
        let message = Message { id: "1".to_owned(), time: 0, host: "b", body: Body::Notice(notice) };
        let header = Header { max_bytes: 65_000, ..Header::default() };
        let bytes = entry(&message, &header, ("findings", 1), &"y".repeat(1 << 20));
        assert!(bytes.len() < crate::forward::spool::MAX_PAYLOAD / 2, "{}", bytes.len());
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.ends_with("HEPGUARD_CUT=MESSAGE HEPGUARD_TEXT HEPGUARD_QUEUE\n"), "{}", &text[text.len() - 80..]);
        assert!(text.contains("\nHEPGUARD_LOST=3\n") && text.contains("\nPRIORITY=3\n"));
    }
}
