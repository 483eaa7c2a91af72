//! `[[protect]]`: flows that must work whatever the host's own files say.

use std::ops::Range;

use serde::{Deserialize, Serialize, Serializer};
use toml::Spanned;

use super::{Mistake, quoted, severity};
use crate::calico::failsafe::Weight;
use crate::packet::{Direction, MAX_INTERFACE_NAME, PortRange, Prefix, Protocol};

/// Most ports or peers of one entry: each makes flows that are judged in every world.
const MAX_PARTS: usize = 64;

/// A `[[protect]]` entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protect {
    /// In people's words.
    pub name: String,
    /// To this host or from it.
    pub direction: Direction,
    /// Protocol.
    pub protocol: Protocol,
    /// Ports of the receiving side; empty for protocols without ports.
    pub ports: Vec<PortRange>,
    /// The other side; empty: anybody.
    pub peers: Vec<Prefix>,
    /// The interface it comes in or leaves by; without it routes tell.
    pub interface: Option<String>,
    /// How bad its loss is.
    pub severity: Weight,
    /// Why it must work.
    pub because: Option<String>,
    /// File and line: `hepguard.toml:3`.
    pub place: String,
}

impl Serialize for Protect {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap as _;
        let texts = |all: &mut dyn Iterator<Item = String>| all.collect::<Vec<_>>();
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", &self.name)?;
        map.serialize_entry("direction", if self.direction == Direction::In { "in" } else { "out" })?;
        map.serialize_entry("proto", &self.protocol.to_string())?;
        map.serialize_entry("port", &texts(&mut self.ports.iter().map(ToString::to_string)))?;
        map.serialize_entry("peers", &texts(&mut self.peers.iter().map(ToString::to_string)))?;
        map.serialize_entry("interface", &self.interface)?;
        map.serialize_entry("severity", self.severity.name())?;
        map.serialize_entry("because", &self.because)?;
        map.end()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct RawProtect {
    name: Spanned<String>,
    direction: Spanned<String>,
    proto: Spanned<String>,
    port: Option<Spanned<RawPort>>,
    #[serde(default)]
    peers: Vec<Spanned<String>>,
    interface: Option<Spanned<String>>,
    severity: Option<Spanned<String>>,
    because: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawPort {
    Number(i64),
    Text(String),
    List(Vec<RawPort>),
}

/// Checks an entry; `line` gives the line of a place in the text.
pub(super) fn protect(
    raw: RawProtect,
    place: String,
    line: &dyn Fn(Range<usize>) -> usize,
) -> Result<Protect, Mistake> {
    let direction = match raw.direction.get_ref().as_str() {
        "in" => Direction::In,
        "out" => Direction::Out,
        other => {
            return Err((
                line(raw.direction.span()),
                format!("direction: expected \"in\" or \"out\", found {other:?}"),
            ));
        }
    };
    let name = raw.name.get_ref().trim().to_owned();
    if name.is_empty() {
        return Err((line(raw.name.span()), "name: expected words that say what it is, found nothing".to_owned()));
    }
    let protocol: Protocol =
        raw.proto.get_ref().parse().map_err(|error| (line(raw.proto.span()), format!("proto: {error}")))?;
    let ports = match &raw.port {
        Some(port) if protocol.has_ports() => {
            let mut ports = Vec::new();
            read_ports(port.get_ref(), &mut ports).map_err(|text| (line(port.span()), format!("port: {text}")))?;
            ports
        }
        Some(port) => return Err((line(port.span()), format!("port: {protocol} has no ports; leave it out"))),
        None if protocol.has_ports() => {
            let text = format!("port: {protocol} needs one: a number, \"a-b\" or a list of them");
            return Err((line(raw.proto.span()), text));
        }
        None => Vec::new(),
    };
    if ports.len() > MAX_PARTS || raw.peers.len() > MAX_PARTS {
        let text = format!("expected at most {MAX_PARTS} ports and {MAX_PARTS} peers; split the entry");
        return Err((line(raw.name.span()), text));
    }
    let mut peers = Vec::new();
    for peer in &raw.peers {
        let prefix: Prefix = peer.get_ref().parse().map_err(|error| (line(peer.span()), format!("peers: {error}")))?;
        peers.push(prefix);
    }
    if let Some(interface) = &raw.interface {
        let text = interface.get_ref();
        if text.is_empty() || text.len() > MAX_INTERFACE_NAME || text.contains(|c: char| c == '/' || c.is_whitespace())
        {
            let expected = format!("expected an interface's name of 1 to {MAX_INTERFACE_NAME} bytes, found {text:?}");
            return Err((line(interface.span()), format!("interface: {expected}")));
        }
    }
    let severity = match &raw.severity {
        None => Weight::Critical,
        Some(text) => severity(text.get_ref()).ok_or_else(|| {
            let expected = "expected critical, high, medium, low or info";
            (line(text.span()), format!("severity: {expected}, found {:?}", text.get_ref()))
        })?,
    };
    Ok(Protect {
        name,
        direction,
        protocol,
        ports,
        peers,
        interface: raw.interface.map(Spanned::into_inner),
        severity,
        because: raw.because,
        place,
    })
}

fn read_ports(raw: &RawPort, ports: &mut Vec<PortRange>) -> Result<(), String> {
    let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port > 0);
    match raw {
        RawPort::Number(number) => {
            let found = u16::try_from(*number).ok().filter(|port| *port > 0);
            ports.push(PortRange::single(found.ok_or_else(|| format!("expected 1 to 65535, found {number}"))?));
        }
        RawPort::Text(text) => {
            let (low, high) = text.split_once('-').unwrap_or((text, text));
            let range = port(low).zip(port(high)).filter(|(low, high)| low <= high);
            let (low, high) =
                range.ok_or_else(|| format!("expected a port or a range such as \"8000-8099\", found {text:?}"))?;
            ports.push(PortRange { low, high });
        }
        RawPort::List(all) if all.len() > MAX_PARTS => return Err(format!("expected at most {MAX_PARTS} ports")),
        RawPort::List(all) => {
            for one in all {
                if matches!(one, RawPort::List(_)) {
                    return Err("expected numbers or ranges, found a list in the list".to_owned());
                }
                read_ports(one, ports)?;
            }
        }
    }
    Ok(())
}

/// The entries as a configuration file that reads back as the same.
#[must_use]
pub fn write(entries: &[Protect]) -> String {
    let mut out = String::new();
    for entry in entries {
        let strings =
            |all: &mut dyn Iterator<Item = String>| all.map(|one| quoted(&one)).collect::<Vec<_>>().join(", ");
        let way = if entry.direction == Direction::In { "in" } else { "out" };
        out.push_str(&format!("[[protect]]\nname = {}\ndirection = \"{way}\"\n", quoted(&entry.name)));
        out.push_str(&format!("proto = {}\n", quoted(&entry.protocol.to_string())));
        match entry.ports.as_slice() {
            [] => {}
            [one] if one.low == one.high => out.push_str(&format!("port = {}\n", one.low)),
            [one] => out.push_str(&format!("port = \"{}-{}\"\n", one.low, one.high)),
            all => {
                let all = strings(&mut all.iter().map(|range| format!("{}-{}", range.low, range.high)));
                out.push_str(&format!("port = [{all}]\n"));
            }
        }
        if !entry.peers.is_empty() {
            out.push_str(&format!("peers = [{}]\n", strings(&mut entry.peers.iter().map(ToString::to_string))));
        }
        if let Some(interface) = &entry.interface {
            out.push_str(&format!("interface = {}\n", quoted(interface)));
        }
        if entry.severity != Weight::Critical {
            out.push_str(&format!("severity = {}\n", quoted(entry.severity.name())));
        }
        if let Some(because) = &entry.because {
            out.push_str(&format!("because = {}\n", quoted(because)));
        }
        out.push('\n');
    }
    out
}
