//! One deny as a line of JSON (`hepguard/event/v1`).

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::denies::Json;
use super::json_text;
use crate::logs::event::Event;
use crate::logs::query::Field;
use crate::logs::tally::value;
use crate::logs::time::rfc3339;

struct EventJson<'a> {
    event: &'a Event<'a>,
    line: &'a [u8],
}

impl Serialize for EventJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let event = self.event;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("schema", "hepguard/event/v1")?;
        map.serialize_entry("time", &event.time.and_then(rfc3339))?;
        for field in Field::of_event() {
            map.serialize_entry(field.name(), &Json(&value(field, event)))?;
        }
        map.serialize_entry("packets", &event.packets)?;
        map.serialize_entry("bytes", &event.bytes)?;
        map.serialize_entry("failsafe", &event.failsafe)?;
        map.serialize_entry("log_prefix", &Json(&value(Field::LogPrefix, event)))?;
        map.serialize_entry("count", &event.count)?;
        let (packets, bytes) = event.totals();
        map.serialize_entry("packets_total", &packets)?;
        map.serialize_entry("bytes_total", &bytes)?;
        map.serialize_entry("raw", &String::from_utf8_lossy(self.line))?;
        map.end()
    }
}

/// One event as a line of JSON. Control characters in it are escaped as JSON does.
#[must_use]
pub fn event_line(event: &Event<'_>, line: &[u8]) -> String {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    json_text(&EventJson { event, line })
}
