//! The configuration file, `/etc/hepguard/hepguard.toml`: TOML, kebab-case; every key has a default, so an empty file works.
//!
//! What is unknown is refused, with its line and the nearest word that is known: a key without effect must not look as if it
//! had one. So far `[[protect]]` is read.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde::Deserialize;
use toml::Spanned;

use crate::calico::failsafe::Weight;
use crate::calico::settings::params::edit_distance;
use crate::packet::{Direction, MAX_INTERFACE_NAME, PortRange, Prefix, Protocol};

/// Where the file usually is.
pub const PATH: &str = "/etc/hepguard/hepguard.toml";

/// Largest file read, in bytes.
const MAX_BYTES: usize = 1 << 20;

/// Most entries, and most ports or peers of one: each makes flows that are judged in every world.
const MAX_ENTRIES: usize = 256;
const MAX_PARTS: usize = 64;

/// What is configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Flows that must work whatever the host's own files say.
    pub protect: Vec<Protect>,
}

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

/// A file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file.
    pub file: Arc<str>,
    /// 1-based; 0 when it is about the whole file.
    pub line: usize,
    /// What was found, what was expected, what to do.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.message),
            line => write!(f, "{}:{line}: {}", self.file, self.message),
        }
    }
}

impl std::error::Error for ConfigError {}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawConfig {
    #[serde(default)]
    protect: Vec<Spanned<RawProtect>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawProtect {
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

/// Reads a configuration file.
///
/// # Errors
/// The first mistake, with its line.
pub fn read(file: &Arc<str>, bytes: &[u8]) -> Result<Config, ConfigError> {
    let fail = |line, message: String| ConfigError { file: Arc::clone(file), line, message };
    if bytes.len() > MAX_BYTES {
        return Err(fail(0, format!("larger than the {MAX_BYTES} bytes a configuration may have")));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let line = line_at(bytes, error.valid_up_to());
        fail(line, "expected UTF-8 text".to_owned())
    })?;
    let raw: RawConfig = toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        fail(line_at(bytes, at), with_suggestion(error.message()))
    })?;
    if raw.protect.len() > MAX_ENTRIES {
        return Err(fail(
            0,
            format!("expected at most {MAX_ENTRIES} [[protect]] entries, found {}", raw.protect.len()),
        ));
    }
    let mut config = Config::default();
    for entry in raw.protect {
        let line = line_at(bytes, entry.span().start);
        let entry = entry.into_inner();
        let at = |span: Range<usize>| line_at(bytes, span.start);
        config.protect.push(protect(entry, format!("{file}:{line}"), &at).map_err(|(line, text)| fail(line, text))?);
    }
    Ok(config)
}

/// 1-based line of a byte.
fn line_at(bytes: &[u8], at: usize) -> usize {
    1 + bytes.get(..at.min(bytes.len())).unwrap_or_default().iter().filter(|byte| **byte == b'\n').count()
}

/// The parser's words, with the nearest known key for an unknown one.
fn with_suggestion(message: &str) -> String {
    let message = message.lines().next().unwrap_or("not TOML");
    let Some(rest) = message.strip_prefix("unknown field `") else { return message.to_owned() };
    let Some((found, expected)) = rest.split_once('`') else { return message.to_owned() };
    let known: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
    let message = format!("unknown key {found:?}; expected {}", list(&known));
    match nearest(found, &known) {
        Some(near) => format!("{message}; did you mean {near:?}?"),
        None => message,
    }
}

fn list(words: &[&str]) -> String {
    match words {
        [] => "none".to_owned(),
        [one] => (*one).to_owned(),
        _ => format!("one of {}", words.join(", ")),
    }
}

fn nearest<'a>(found: &str, known: &[&'a str]) -> Option<&'a str> {
    if found.len() > 64 {
        return None;
    }
    let distance = |word: &&&str| edit_distance(found.to_ascii_lowercase().as_bytes(), word.as_bytes());
    let best = known.iter().min_by_key(distance)?;
    (distance(&best) <= 3.min(1 + found.len() / 3)).then_some(*best)
}

type Mistake = (usize, String);

fn protect(raw: RawProtect, place: String, line: &dyn Fn(Range<usize>) -> usize) -> Result<Protect, Mistake> {
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

fn severity(text: &str) -> Option<Weight> {
    Some(match text {
        "critical" => Weight::Critical,
        "high" => Weight::High,
        "medium" => Weight::Medium,
        "low" => Weight::Low,
        "info" => Weight::Info,
        _ => return None,
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

/// `text` as a TOML string.
#[must_use]
pub fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        read(&Arc::from("hepguard.toml"), text.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn an_empty_file_works_and_an_entry_has_few_duties() {
        assert_eq!(parse(""), Ok(Config::default()));
        let config = parse(
            "# mine\n[[protect]]\nname = \"backup\"\ndirection = \"in\"\nproto = \"tcp\"\nport = [873, \"9000-9010\"]\n\
             peers = [\"10.0.0.0/8\", \"2001:db8::1\"]\ninterface = \"ens5\"\nseverity = \"high\"\nbecause = \"nightly\"\n",
        )
        .expect("sound");
        let entry = &config.protect[0];
        assert_eq!((entry.name.as_str(), entry.direction, entry.severity), ("backup", Direction::In, Weight::High));
        assert_eq!(entry.ports, [PortRange::single(873), PortRange { low: 9000, high: 9010 }]);
        assert_eq!((entry.peers.len(), entry.place.as_str()), (2, "hepguard.toml:2"));
    }

    #[test]
    fn mistakes_have_their_line_and_a_suggestion() {
        let entry = |more: &str| format!("[[protect]]\nname = \"a\"\ndirection = \"in\"\nproto = \"tcp\"\n{more}");
        let cases = [
            ("[[protects]]\n".to_owned(), ":1: unknown key \"protects\"; expected protect; did you mean \"protect\"?"),
            (entry("prot = 1\n"), ":5: unknown key \"prot\""),
            (entry("port = 0\n"), ":5: port: expected 1 to 65535, found 0"),
            (entry("port = \"9-1\"\n"), ":5: port: expected a port or a range"),
            (entry(""), ":4: port: tcp needs one"),
            (entry("port = 1\npeers = [\"10.0.0.0/99\"]\n"), ":6: peers: "),
            (entry("port = 1\nseverity = \"bad\"\n"), ":6: severity: expected critical"),
            (entry("port = 1\ninterface = \"a b\"\n"), ":6: interface: expected an interface's name"),
            (
                "[[protect]]\nname = \"a\"\ndirection = \"up\"\nproto = \"tcp\"\nport = 1\n".to_owned(),
                ":3: direction: expected",
            ),
            (
                "[[protect]]\nname = \"a\"\ndirection = \"in\"\nproto = \"icmp\"\nport = 1\n".to_owned(),
                ":5: port: icmp has no ports",
            ),
            ("[[protect]]\nname = 3\n".to_owned(), ":2: invalid type"),
            ("x = [".to_owned(), ":1: "),
        ];
        for (text, expected) in cases {
            let found = parse(&text).expect_err(&text);
            assert!(found.contains(expected), "{found} should contain {expected}");
        }
    }

    #[test]
    fn what_no_person_writes_is_refused_in_words() {
        let deep = format!("x = {}", "[".repeat(200_000));
        let many = "[[protect]]\nname=\"a\"\ndirection=\"in\"\nproto=\"icmp\"\n".repeat(MAX_ENTRIES + 1);
        for text in [&deep, &"#".repeat(MAX_BYTES + 1), &many] {
            assert!(parse(text).is_err());
        }
        assert!(read(&Arc::from("x"), b"\n\xff").expect_err("no UTF-8").to_string().starts_with("x:2: expected UTF-8"));
    }

    #[test]
    fn what_is_written_reads_back() {
        let text = "[[protect]]\nname = \"a \\\"b\\\" \\\\ \\u0007\"\ndirection = \"out\"\nproto = \"udp\"\nport = \"5-9\"\npeers = [\"10.0.0.1\"]\n\n\
            [[protect]]\nname = \"c\"\ndirection = \"in\"\nproto = \"tcp\"\nport = [1, 2]\nseverity = \"low\"\nbecause = \"x\"\n";
        let mut read_once = parse(text).expect("sound").protect;
        let mut again = parse(&write(&read_once)).expect("sound").protect;
        for entry in read_once.iter_mut().chain(&mut again) {
            entry.place.clear();
        }
        assert_eq!(read_once, again);
    }
}
