//! The configuration file, `/etc/hepguard/hepguard.toml`: TOML, kebab-case; every key has a default, so an empty file works.
//!
//! What is unknown is refused, with its line and the nearest word that is known: a key without effect must not look as if it
//! had one. `packaging/hepguard.toml` is the commented example; a test holds it against the defaults here.

mod forward;
mod protect;
mod sections;
mod values;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use toml::Spanned;

pub use forward::{Collector, Denies, Format, Forward, Transport};
pub use protect::{Protect, write};
pub use sections::{Alerts, Audit, From, Journal, Logs, Metrics, State};
pub use values::Span;

use crate::calico::failsafe::Weight;
use crate::calico::settings::params::edit_distance;
use forward::RawForward;
use protect::RawProtect;

/// Where the file usually is.
pub const PATH: &str = "/etc/hepguard/hepguard.toml";

/// Largest file read, in bytes.
const MAX_BYTES: usize = 1 << 20;

/// Most `[[protect]]` entries: each makes flows that are judged in every world.
const MAX_ENTRIES: usize = 256;

/// Most `[[forward]]` entries: each has a thread and queues.
const MAX_OUTPUTS: usize = 8;

/// What is configured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Config {
    /// Logs that the daemon follows.
    pub logs: Logs,
    /// When the daemon looks at the firewall.
    pub audit: Audit,
    /// What becomes an alert, and where it goes.
    pub alerts: Alerts,
    /// Where figures can be read.
    pub metrics: Metrics,
    /// What the daemon keeps.
    pub state: State,
    /// Flows that must work whatever the host's own files say.
    pub protect: Vec<Protect>,
    /// Where findings and denies are sent.
    pub forward: Vec<Forward>,
}

impl Config {
    /// Where findings and denies go on the network.
    #[must_use]
    pub fn collectors(&self) -> Vec<Collector> {
        self.forward.iter().filter_map(Forward::collector).collect()
    }
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
    logs: Logs,
    #[serde(default)]
    audit: Audit,
    #[serde(default)]
    alerts: Alerts,
    #[serde(default)]
    metrics: Metrics,
    #[serde(default)]
    state: State,
    #[serde(default)]
    protect: Vec<Spanned<RawProtect>>,
    #[serde(default)]
    forward: Vec<Spanned<RawForward>>,
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
    let RawConfig { logs, audit, alerts, metrics, state, .. } = &raw;
    let mut config = Config {
        logs: logs.clone(),
        audit: audit.clone(),
        alerts: alerts.clone(),
        metrics: metrics.clone(),
        state: state.clone(),
        protect: Vec::new(),
        forward: Vec::new(),
    };
    for entry in raw.forward {
        let line = line_at(bytes, entry.span().start);
        let at = |span: Range<usize>| line_at(bytes, span.start);
        let output = forward::forward(entry.into_inner(), format!("{file}:{line}"), &at);
        let output = output.map_err(|(line, text)| fail(line, text))?;
        if config.forward.iter().any(|known: &Forward| known.name == output.name) {
            return Err(fail(line, format!("name: a second [[forward]] has the name {:?}", output.name)));
        }
        if config.forward.len() >= MAX_OUTPUTS {
            return Err(fail(line, format!("expected at most {MAX_OUTPUTS} [[forward]] entries")));
        }
        config.forward.push(output);
    }
    for entry in raw.protect {
        let line = line_at(bytes, entry.span().start);
        let entry = entry.into_inner();
        let at = |span: Range<usize>| line_at(bytes, span.start);
        config
            .protect
            .push(protect::protect(entry, format!("{file}:{line}"), &at).map_err(|(line, text)| fail(line, text))?);
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
    let kinds = [("unknown field `", "key"), ("unknown variant `", "value")];
    let found = kinds.iter().find_map(|(start, kind)| Some((message.strip_prefix(start)?, kind)));
    let Some((rest, kind)) = found else { return plain(message) };
    let Some((found, expected)) = rest.split_once('`') else { return message.to_owned() };
    let known: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
    let message = format!("unknown {kind} {found:?}; expected {}", list(&known));
    match nearest(found, &known) {
        Some(near) => format!("{message}; did you mean {near:?}?"),
        None => message,
    }
}

/// Words of serde for people: no names of Rust types.
fn plain(message: &str) -> String {
    message.replace("u64", "a whole number").replace("a boolean", "true or false").replace("a sequence", "a list")
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{Direction, PortRange};

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
            (
                "[[protects]]\n".to_owned(),
                ":1: unknown key \"protects\"; expected one of logs, audit, alerts, metrics, state, protect, forward; did you mean \"protect\"?",
            ),
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

    const EXAMPLE: &str = include_str!("../../packaging/hepguard.toml");

    /// Lines with a word behind `#` are keys.
    fn uncommented() -> String {
        let key =
            |line: &&str| line.strip_prefix('#').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()));
        let lines = EXAMPLE.lines().map(|line| if key(&line) { &line[1..] } else { line });
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_shipped_example_is_the_defaults() {
        assert_eq!(parse(EXAMPLE), Ok(Config::default()));
        let text = uncommented();
        assert_eq!(parse(&text), Ok(Config::default()), "{text}");
        let table: toml::Table = toml::from_str(&text).expect("TOML");
        let known = serde_json::to_value(Config::default()).expect("JSON");
        for (section, keys) in known.as_object().expect("an object") {
            for key in keys.as_object().into_iter().flatten().map(|(key, _)| key) {
                let shown = table.get(section).and_then(|table| table.get(key));
                assert!(shown.is_some(), "the example should show {section}.{key}");
            }
        }
    }

    #[test]
    fn the_entries_of_the_example_are_sound() {
        let mut inside = false;
        let mut entry = String::new();
        for line in EXAMPLE.lines() {
            inside = line.starts_with("# [[") || inside && line.starts_with("# ");
            if inside {
                entry.push_str(&format!("{}\n", line.trim_start_matches("# ")));
            }
        }
        let config = parse(&entry).expect("sound");
        assert_eq!((config.protect.len(), config.forward.len()), (1, 2));
    }

    #[test]
    fn an_output_says_where_and_how() {
        let entry = |more: &str| format!("[[forward]]\nname = \"siem\"\n{more}");
        let config = parse(&entry("transport = \"relp\"\naddress = \"[2001:db8::1]:2514\"\n")).expect("sound");
        let output = &config.forward[0];
        assert_eq!(
            (output.transport, output.format, output.denies),
            (Transport::Relp, Format::Rfc5424, Denies::Summed)
        );
        assert_eq!((output.max_bytes, output.place.as_str()), (256 << 20, "hepguard.toml:1"));
        let at = |more: &str| {
            parse(&entry(more)).expect(more).forward.remove(0).collector().map(|one| (one.protocol, one.address))
        };
        for (url, expected) in [
            ("https://siem.example/x", "siem.example:443"),
            ("http://[::1]", "[::1]:80"),
            ("http://[::1]:9200/_x?y", "[::1]:9200"),
            ("http://10.0.9.9:9200", "10.0.9.9:9200"),
        ] {
            let ca = if url.starts_with("https") { "ca = \"/ca\"\n" } else { "" };
            let found = at(&format!("transport = \"otlp\"\nurl = \"{url}\"\n{ca}"));
            assert_eq!(found, Some((6, expected.to_owned())));
        }
        assert_eq!(at("transport = \"file\"\npath = \"/x\"\n"), None);
        // journald has a place of its own, which may be told
        assert_eq!(at("transport = \"journald\"\n"), None);
        assert_eq!(at("transport = \"journald\"\npath = \"/run/systemd/journal.siem/socket\"\n"), None);
        let tls = "transport = \"tls\"\naddress = \"a:1\"\n";
        let http = "transport = \"elasticsearch\"\nurl = \"http://a\"\n";
        let cases = [
            (entry("transport = \"tcp\"\n"), ":3: address: transport \"tcp\" needs one"),
            (entry("transport = \"file\"\npath = \"x\"\n"), ":4: path: expected an absolute path"),
            (entry("transport = \"journald\"\npath = \"x\"\n"), ":4: path: expected an absolute path"),
            (entry("transport = \"tcp\"\naddress = \"a\"\n"), ":4: address: expected \"host:port\""),
            (entry("transport = \"tcp\"\naddress = \"::1:5\"\n"), ":4: address: expected \"host:port\""),
            (entry("transport = \"otlp\"\nurl = \"siem:4318\"\n"), ":4: url: expected \"http://host\""),
            (entry("transport = \"pigeon\"\n"), ":3: unknown value \"pigeon\""),
            (entry(tls), ":3: ca: TLS needs the authorities"),
            (entry(&format!("{tls}ca = \"/a\"\nkey = \"/k\"\n")), ":6: certificate: a key needs"),
            (entry(&format!("{http}server-name = \"a\"\n")), ":5: server-name: has no use here"),
            (entry(&format!("{http}ca = \"/a\"\n")), ":5: certificates have no use without TLS"),
            (entry(&format!("{http}format = \"cef\"\n")), ":5: format: expected json, ecs or ocsf"),
            (entry(&format!("{http}facility = 24\n")), ":5: facility: expected 0 to 23, found 24"),
            (entry(&format!("{http}max-bytes = 5\n")), ":5: max-bytes: expected "),
            (entry(&format!("{http}max-per-second = 0\n")), ":5: max-per-second: expected 1 to 1000000, found 0"),
            (entry(&format!("{http}sum-over = \"0s\"\n")), ":5: sum-over: expected 1s to 1h"),
            (entry(&format!("{http}minimum = \"x\"\n")), ":5: minimum: expected critical"),
            ("[[forward]]\nname = \"../x\"\ntransport = \"udp\"\n".to_owned(), ":2: name: expected 1 to 64 letters"),
            (entry(http) + &entry(http), ":5: name: a second [[forward]] has the name \"siem\""),
        ];
        for (text, expected) in cases {
            let found = parse(&text).expect_err(&text);
            assert!(found.contains(expected), "{found} should contain {expected}\n{text}");
        }
    }

    #[test]
    fn every_section_refuses_what_it_does_not_know() {
        let cases = [
            ("[log]\n", ":1: unknown key \"log\""),
            (
                "[logs]\nfile = []\n",
                ":2: unknown key \"file\"; expected one of files, journal, from; did you mean \"files\"?",
            ),
            (
                "[logs]\nfiles = [\"syslog\"]\n",
                ":2: expected an absolute path such as \"/var/log/syslog\", found \"syslog\"",
            ),
            ("[logs]\njournal = \"yes\"\n", ":2: unknown value \"yes\"; expected one of auto, on, off"),
            ("[logs]\nfrom = \"begining\"\n", "did you mean \"beginning\"?"),
            ("[audit]\nsettle = 5\n", ":2: invalid type: integer `5`, expected a string"),
            ("[audit]\nsettle = \"5 s\"\n", ":2: expected a span of time such as"),
            ("[audit]\ncompare-every = \"1s\"\n", ":2: expected at least 10s, found \"1s\""),
            ("[alerts]\nminimum = \"worst\"\n", ":2: expected critical, high, medium, low or info, found \"worst\""),
            ("[alerts]\nburst = -1\n", ":2: invalid value: integer `-1`, expected a whole number"),
            ("[alerts]\nwall = \"no\"\n", ":2: invalid type: string \"no\", expected true or false"),
            ("[alerts]\nmotd = \"motd\"\n", "or \"off\""),
            ("[metrics]\nlisten = \"9707\"\n", ":2: expected an address and port"),
            ("[state]\ndirectory = \"off\"\n", ":2: expected an absolute path"),
            ("[state]\ndirectory = \"/a\"\ndirectory = \"/b\"\n", ":3: duplicate key"),
        ];
        for (text, expected) in cases {
            let found = parse(text).expect_err(text);
            assert!(found.contains(expected), "{found} should contain {expected}");
        }
    }
}
