//! Lines that are JSON objects: `journalctl -o json`, Docker's json-file, flow logs. Which one is told by their keys.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::flowlog;
use super::header::{Envelope, Wrap};
use super::line::{Read, Scratch, What, classify};
use super::time::{Micros, Stamper};

/// Whether a key is read; a flow log has three times as many that are not. Lengths and words are compared in place, which takes
/// half as long as a search in a table.
fn is_read(key: &str) -> bool {
    matches!(
        key,
        "MESSAGE"
            | "SYSLOG_IDENTIFIER"
            | "SYSLOG_PID"
            | "_COMM"
            | "_HOSTNAME"
            | "_PID"
            | "_SOURCE_REALTIME_TIMESTAMP"
            | "_TRANSPORT"
            | "__REALTIME_TIMESTAMP"
            | "action"
            | "bytes_in"
            | "bytes_out"
            | "dest_ip"
            | "dest_port"
            | "dest_type"
            | "end_time"
            | "host"
            | "log"
            | "packets_in"
            | "packets_out"
            | "policies"
            | "proto"
            | "protocol"
            | "reporter"
            | "source_ip"
            | "source_port"
            | "source_type"
            | "time"
    )
}

/// An object without the keys that nobody reads: they are passed over, not stored.
struct Wanted(Map<String, Value>);

impl<'de> Deserialize<'de> for Wanted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Wanted;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Wanted, A::Error> {
                let mut wanted = Map::new();
                while let Some(Key(key)) = map.next_key()? {
                    if is_read(&key) {
                        wanted.insert(key.into_owned(), map.next_value()?);
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(Wanted(wanted))
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

/// A key, borrowed unless it is escaped.
#[derive(serde::Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// Reads a line that begins with `{`.
pub(super) fn read<'a>(line: &'a [u8], scratch: &'a mut Scratch, stamper: &mut Stamper<'_>) -> Read<'a> {
    let Ok(Wanted(object)) = serde_json::from_slice::<Wanted>(line) else {
        return Read { envelope: Envelope::bare(line), repeat: None, what: What::BrokenJson };
    };
    if object.contains_key("policies") && object.contains_key("action") {
        let record = flowlog::read(&object, stamper);
        let mut envelope = Envelope::bare(line);
        envelope.time = record.end;
        scratch.host = record.host.clone().unwrap_or_default().into_bytes();
        envelope.host = (!scratch.host.is_empty()).then_some(scratch.host.as_slice());
        return Read { envelope, repeat: None, what: What::FlowLog(Box::new(record)) };
    }
    if let Some(message) = object.get("MESSAGE") {
        return journal(&object, message, scratch);
    }
    if let Some(Value::String(log)) = object.get("log") {
        scratch.message.clear();
        scratch.message.extend_from_slice(log.as_bytes());
        let outer = object.get("time").and_then(Value::as_str);
        let time = outer.and_then(|time| stamper.iso(time.as_bytes())).and_then(|(time, _)| time);
        let inner = super::header::open(&scratch.message, stamper);
        let envelope = Envelope { wrap: Wrap::DockerJson, time: inner.time.or(time), ..inner };
        return classify(envelope, false);
    }
    Read { envelope: Envelope::bare(line), repeat: None, what: What::Other }
}

/// A field of the journal as text; repeated fields are arrays, of which the first counts.
fn text<'v>(object: &'v Map<String, Value>, key: &str) -> Option<&'v str> {
    match object.get(key)? {
        Value::String(text) => Some(text),
        Value::Array(values) => values.first()?.as_str(),
        _ => None,
    }
}

fn journal<'a>(object: &Map<String, Value>, message: &Value, scratch: &'a mut Scratch) -> Read<'a> {
    scratch.message.clear();
    bytes(message, &mut scratch.message);
    scratch.host.clear();
    scratch.host.extend_from_slice(text(object, "_HOSTNAME").unwrap_or_default().as_bytes());
    let tag = text(object, "SYSLOG_IDENTIFIER").or_else(|| text(object, "_COMM")).unwrap_or_default();
    scratch.tag.clear();
    scratch.tag.extend_from_slice(tag.as_bytes());
    let stamp = text(object, "_SOURCE_REALTIME_TIMESTAMP").or_else(|| text(object, "__REALTIME_TIMESTAMP"));
    let pid = text(object, "SYSLOG_PID").or_else(|| text(object, "_PID"));
    let kernel = text(object, "_TRANSPORT") == Some("kernel");
    let scratch: &'a Scratch = scratch;
    let envelope = Envelope {
        wrap: Wrap::JournalJson,
        time: stamp.and_then(|stamp| stamp.parse::<Micros>().ok()),
        pri: None,
        host: (!scratch.host.is_empty()).then_some(scratch.host.as_slice()),
        tag: (!scratch.tag.is_empty()).then_some(scratch.tag.as_slice()),
        pid: pid.and_then(|pid| pid.parse().ok()),
        message: scratch.message.trim_ascii(),
    };
    classify(envelope, kernel)
}

/// A message is a string, or an array of byte values when it holds control characters or is no UTF-8, or an array of
/// either when the field was repeated, or null when it was too large.
fn bytes(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::String(text) => out.extend_from_slice(text.as_bytes()),
        Value::Array(values) => match values.first() {
            Some(Value::Number(_)) => {
                out.extend(values.iter().filter_map(|value| u8::try_from(value.as_u64()?).ok()));
            }
            // serde_json bounds the depth of what it reads
            Some(first) => bytes(first, out),
            None => {}
        },
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_nobody_reads_are_passed_over_and_the_last_of_two_counts() {
        let line = br#"{"x":{"log":"no"},"lo\u0067":"first","log":"second","y":[1,{"z":null}]}"#;
        let Wanted(object) = serde_json::from_slice(line).expect("an object");
        assert_eq!(Value::from(object), serde_json::json!({ "log": "second" }));
        assert!(serde_json::from_slice::<Wanted>(&line[..line.len() - 1]).is_err());
        assert!(serde_json::from_slice::<Wanted>(b"{\"a\":1}}").is_err());
    }
}
