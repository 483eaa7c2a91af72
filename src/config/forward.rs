//! `[[forward]]`: where findings and denies are sent.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::values::Span;
use crate::calico::failsafe::Weight;
use crate::packet::Protocol;

/// An output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Forward {
    /// Its name: letters, digits, `-` and `_`. Queues are kept under it.
    pub name: String,
    /// How it is sent.
    pub transport: Transport,
    /// In which form: `rfc5424`, `cef`, `leef`, `json`, `ecs`, `ocsf`.
    pub format: Format,
    /// `host:port` of syslog and RELP.
    pub address: Option<String>,
    /// File or socket.
    pub path: Option<PathBuf>,
    /// URL of an HTTP collector.
    pub url: Option<String>,
    /// Whether messages on TCP end with a line feed instead of being counted.
    pub line_feed: bool,
    /// PEM file of the authorities whose certificates are believed.
    pub ca: Option<PathBuf>,
    /// PEM file of our certificate.
    pub certificate: Option<PathBuf>,
    /// PEM file of our key.
    pub key: Option<PathBuf>,
    /// The name the collector's certificate must have.
    pub server_name: Option<String>,
    /// File with the value of the Authorization header.
    pub authorization_file: Option<PathBuf>,
    /// Index or data stream.
    pub index: Option<String>,
    /// Whether Splunk's indexers have to acknowledge.
    pub acknowledge: bool,
    /// Syslog facility, 0 to 23.
    pub facility: u8,
    /// Private enterprise number in structured data.
    pub enterprise_number: u32,
    /// A byte order mark before the text.
    pub bom: bool,
    /// Longest syslog message in bytes.
    pub max_message_bytes: usize,
    /// Room for the queues on the disk, in bytes.
    pub max_bytes: u64,
    /// Messages a second at most, such as after an outage.
    pub max_per_second: u32,
    /// Findings below are not sent.
    #[serde(serialize_with = "show")]
    pub minimum: Weight,
    /// Whether denies are sent: one by one, summed, or not at all.
    pub denies: Denies,
    /// For how long denies of one kind are summed.
    pub sum_over: Span,
    /// `hepguard.toml:3`.
    #[serde(skip)]
    pub place: String,
}

/// Where an output's messages go on the network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collector {
    /// The output's name.
    pub name: String,
    /// IP protocol number.
    pub protocol: u8,
    /// `host:port`.
    pub address: String,
    /// File and line of its entry.
    pub place: String,
}

impl Forward {
    /// The collector. `None` for what stays on this host.
    #[must_use]
    pub fn collector(&self) -> Option<Collector> {
        let (protocol, address) = self.destination()?;
        Some(Collector { name: self.name.clone(), protocol: protocol.0, address, place: self.place.clone() })
    }

    fn destination(&self) -> Option<(Protocol, String)> {
        match self.transport {
            Transport::File | Transport::Unix | Transport::Journald => None,
            Transport::Udp => self.address.clone().map(|address| (Protocol::UDP, address)),
            Transport::Tcp | Transport::Tls | Transport::Relp | Transport::RelpTls => {
                self.address.clone().map(|address| (Protocol::TCP, address))
            }
            _ => {
                let url = self.url.as_deref()?;
                let (rest, port) = match url.strip_prefix("https://") {
                    Some(rest) => (rest, 443),
                    None => (url.strip_prefix("http://")?, 80),
                };
                let host = rest.split(['/', '?']).next()?;
                let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
                let bracket = host.rfind(']').unwrap_or(0);
                let has_port = host[bracket..].contains(':');
                Some((Protocol::TCP, if has_port { host.to_owned() } else { format!("{host}:{port}") }))
            }
        }
    }
}

/// How messages travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// A file, a message a line.
    File,
    /// A datagram socket.
    Unix,
    /// systemd's journal.
    Journald,
    /// Syslog over UDP.
    Udp,
    /// Syslog over TCP.
    Tcp,
    /// Syslog over TLS.
    Tls,
    /// RELP.
    Relp,
    /// RELP over TLS.
    RelpTls,
    /// Elasticsearch or OpenSearch, bulk.
    Elasticsearch,
    /// Splunk's HTTP Event Collector.
    SplunkHec,
    /// Grafana Loki.
    Loki,
    /// OpenTelemetry logs over HTTP.
    Otlp,
}

impl Transport {
    /// Whether documents travel in HTTP requests.
    #[must_use]
    pub fn is_http(self) -> bool {
        matches!(self, Self::Elasticsearch | Self::SplunkHec | Self::Loki | Self::Otlp)
    }
}

/// How messages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// A sentence, with structured data in syslog.
    Rfc5424,
    /// ArcSight.
    Cef,
    /// QRadar.
    Leef,
    /// hepguard's own JSON.
    Json,
    /// Elastic Common Schema.
    Ecs,
    /// OCSF.
    Ocsf,
}

/// What becomes of denies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Denies {
    /// Those of one kind as one message with their number.
    Summed,
    /// Each.
    Each,
    /// None.
    Off,
}

fn show<S: serde::Serializer>(severity: &Weight, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(severity.name())
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct RawForward {
    name: Spanned<String>,
    transport: Spanned<Transport>,
    format: Option<Spanned<Format>>,
    address: Option<Spanned<String>>,
    path: Option<Spanned<PathBuf>>,
    url: Option<Spanned<String>>,
    #[serde(default)]
    line_feed: bool,
    ca: Option<Spanned<PathBuf>>,
    certificate: Option<Spanned<PathBuf>>,
    key: Option<Spanned<PathBuf>>,
    server_name: Option<Spanned<String>>,
    authorization_file: Option<Spanned<PathBuf>>,
    index: Option<String>,
    acknowledge: Option<bool>,
    facility: Option<Spanned<u8>>,
    enterprise_number: Option<u32>,
    #[serde(default)]
    bom: bool,
    max_message_bytes: Option<Spanned<usize>>,
    max_bytes: Option<Spanned<u64>>,
    max_per_second: Option<Spanned<u32>>,
    minimum: Option<Spanned<String>>,
    denies: Option<Denies>,
    sum_over: Option<Spanned<Span>>,
}

/// The enterprise number that RFC 5612 sets aside for documentation: until one is registered.
const DOCUMENTATION: u32 = 32473;

/// Shortest syslog message that has to hold all structured data.
const LEAST_MESSAGE: usize = 2048;

/// Smallest queue: two segments for each of its two parts.
const LEAST_QUEUE: u64 = 2 << 20;

type Mistake = (usize, String);

/// Checks an entry; `line` tells the line of a place.
pub(super) fn forward(
    raw: RawForward,
    place: String,
    line: &dyn Fn(std::ops::Range<usize>) -> usize,
) -> Result<Forward, Mistake> {
    let at = line(raw.transport.span());
    let transport = *raw.transport.get_ref();
    let name = raw.name.get_ref();
    let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if name.is_empty() || name.len() > 64 || !name.chars().all(sound) {
        let text = format!("name: expected 1 to 64 letters, digits, \"-\" or \"_\", found {name:?}");
        return Err((line(raw.name.span()), text));
    }
    destination(&raw, transport, line)?;
    certificates(&raw, transport, line)?;
    let format = match &raw.format {
        Some(format) => *format.get_ref(),
        None if transport.is_http() => Format::Ecs,
        None => Format::Rfc5424,
    };
    if transport.is_http() && !matches!(format, Format::Json | Format::Ecs | Format::Ocsf) {
        let text = "format: expected json, ecs or ocsf: HTTP collectors take documents".to_owned();
        return Err((raw.format.as_ref().map_or(at, |format| line(format.span())), text));
    }
    let facility = bounded(raw.facility.as_ref(), 16, 0, 23, "facility", line)?;
    let max_message_bytes =
        bounded(raw.max_message_bytes.as_ref(), 8000, LEAST_MESSAGE, 65_000, "max-message-bytes", line)?;
    let max_bytes = bounded(raw.max_bytes.as_ref(), 256 << 20, LEAST_QUEUE, 1 << 40, "max-bytes", line)?;
    let max_per_second = bounded(raw.max_per_second.as_ref(), 10_000, 1, 1_000_000, "max-per-second", line)?;
    let minimum = match &raw.minimum {
        None => Weight::Low,
        Some(text) => super::severity(text.get_ref()).ok_or_else(|| {
            let expected = "minimum: expected critical, high, medium, low or info";
            (line(text.span()), format!("{expected}, found {:?}", text.get_ref()))
        })?,
    };
    let sum_over = match &raw.sum_over {
        Some(span) if *span.get_ref() < Span::seconds(1) || *span.get_ref() > Span::seconds(3600) => {
            return Err((line(span.span()), format!("sum-over: expected 1s to 1h, found \"{}\"", span.get_ref())));
        }
        Some(span) => *span.get_ref(),
        None => Span::seconds(10),
    };
    Ok(Forward {
        name: name.clone(),
        transport,
        format,
        address: raw.address.map(Spanned::into_inner),
        path: raw.path.map(Spanned::into_inner),
        url: raw.url.map(Spanned::into_inner),
        line_feed: raw.line_feed,
        ca: raw.ca.map(Spanned::into_inner),
        certificate: raw.certificate.map(Spanned::into_inner),
        key: raw.key.map(Spanned::into_inner),
        server_name: raw.server_name.map(Spanned::into_inner),
        authorization_file: raw.authorization_file.map(Spanned::into_inner),
        index: raw.index,
        acknowledge: raw.acknowledge.unwrap_or(true),
        facility,
        enterprise_number: raw.enterprise_number.unwrap_or(DOCUMENTATION),
        bom: raw.bom,
        max_message_bytes,
        max_bytes,
        max_per_second,
        minimum,
        denies: raw.denies.unwrap_or(Denies::Summed),
        sum_over,
        place,
    })
}

/// A number within its bounds.
fn bounded<N: Copy + PartialOrd + std::fmt::Display>(
    found: Option<&Spanned<N>>,
    default: N,
    least: N,
    most: N,
    name: &str,
    line: &dyn Fn(std::ops::Range<usize>) -> usize,
) -> Result<N, Mistake> {
    match found {
        Some(number) if *number.get_ref() < least || *number.get_ref() > most => {
            Err((line(number.span()), format!("{name}: expected {least} to {most}, found {}", number.get_ref())))
        }
        Some(number) => Ok(*number.get_ref()),
        None => Ok(default),
    }
}

/// Each transport has exactly one kind of destination.
fn destination(
    raw: &RawForward,
    transport: Transport,
    line: &dyn Fn(std::ops::Range<usize>) -> usize,
) -> Result<(), Mistake> {
    let at = line(raw.transport.span());
    let name =
        serde_json::to_value(transport).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default();
    let missing =
        |key: &str, example: &str| Err((at, format!("{key}: transport \"{name}\" needs one, such as {example}")));
    match transport {
        Transport::File | Transport::Unix | Transport::Journald => match &raw.path {
            // journald has a place of its own
            None if transport == Transport::Journald => Ok(()),
            None => missing("path", "\"/var/log/hepguard.log\" or \"/dev/log\""),
            Some(path) if !path.get_ref().is_absolute() => {
                Err((line(path.span()), format!("path: expected an absolute path, found {:?}", path.get_ref())))
            }
            Some(_) => Ok(()),
        },
        Transport::Udp | Transport::Tcp | Transport::Tls | Transport::Relp | Transport::RelpTls => match &raw.address {
            None => missing("address", "\"siem.example.net:6514\""),
            Some(address) if !is_address(address.get_ref()) => {
                let text = format!("address: expected \"host:port\" or \"[IPv6]:port\", found {:?}", address.get_ref());
                Err((line(address.span()), text))
            }
            Some(_) => Ok(()),
        },
        _ => match &raw.url {
            None => missing("url", "\"https://siem.example.net:9200\""),
            Some(url) if !is_url(url.get_ref()) => {
                let text = format!("url: expected \"http://host\" or \"https://host\", found {:?}", url.get_ref());
                Err((line(url.span()), text))
            }
            Some(_) => Ok(()),
        },
    }
}

fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let host_is_sound = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => is_host(host),
    };
    host_is_sound && port.parse::<u16>().is_ok_and(|port| port > 0)
}

fn is_host(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 253
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

fn is_url(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|rest| !rest.is_empty() && text.len() <= 2048 && rest.chars().all(|c| c.is_ascii_graphic()))
}

/// TLS needs authorities, and a certificate its key.
fn certificates(
    raw: &RawForward,
    transport: Transport,
    line: &dyn Fn(std::ops::Range<usize>) -> usize,
) -> Result<(), Mistake> {
    let at = line(raw.transport.span());
    let https = raw.url.as_ref().is_some_and(|url| url.get_ref().starts_with("https://"));
    let tls = matches!(transport, Transport::Tls | Transport::RelpTls) || transport.is_http() && https;
    if tls && raw.ca.is_none() {
        let example = "\"/etc/ssl/certs/ca-certificates.crt\"";
        return Err((at, format!("ca: TLS needs the authorities to believe, such as {example}")));
    }
    if !tls && let Some(ca) = raw.ca.as_ref().or(raw.certificate.as_ref()).or(raw.key.as_ref()) {
        return Err((
            line(ca.span()),
            "certificates have no use without TLS: choose a transport with TLS or an https url".to_owned(),
        ));
    }
    if let Some(name) = raw.server_name.as_ref().filter(|_| !tls || transport.is_http()) {
        let text = "server-name: has no use here: HTTPS asks for the name in the url, and nothing else but TLS for one";
        return Err((line(name.span()), text.to_owned()));
    }
    match (&raw.certificate, &raw.key) {
        (Some(one), None) => Err((line(one.span()), "key: a certificate needs its key".to_owned())),
        (None, Some(one)) => Err((line(one.span()), "certificate: a key needs its certificate".to_owned())),
        _ => Ok(()),
    }
}
