//! Sections of the daemon, with their defaults.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::values::{Span, path, path_or_off, paths, show_path};
use crate::calico::failsafe::Weight;

/// `[logs]`: what is followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Logs {
    /// Log files with denies of Felix and packets the kernel logs. Those that are not there yet are waited for.
    #[serde(deserialize_with = "paths")]
    pub files: Vec<PathBuf>,
    /// Whether the journal is followed, too.
    pub journal: Journal,
    /// Where to begin in a file that was never followed.
    pub from: From,
}

/// When the journal is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Journal {
    /// When none of the files is there at the start.
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum From {
    /// With what is written from now on.
    End,
    /// With the first line there is.
    Beginning,
}

impl Default for Logs {
    fn default() -> Self {
        Self {
            files: vec!["/var/log/syslog".into(), "/var/log/messages".into()],
            journal: Journal::Auto,
            from: From::End,
        }
    }
}

/// `[audit]`: when the firewall is looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Audit {
    /// How long a change is given to be complete before it is judged.
    pub settle: Span,
    /// How often what sends no notice (legacy tables, IP sets) is compared.
    #[serde(deserialize_with = "ten_seconds")]
    pub compare_every: Span,
    /// How often everything is judged without any change.
    #[serde(deserialize_with = "one_minute")]
    pub full_every: Span,
    /// Longest time one look may take.
    #[serde(deserialize_with = "one_second")]
    pub timeout: Span,
}

impl Default for Audit {
    fn default() -> Self {
        Self {
            settle: Span::milliseconds(50),
            compare_every: Span::seconds(60),
            full_every: Span::seconds(3600),
            timeout: Span::seconds(60),
        }
    }
}

/// `[alerts]`: what is raised, and where to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Alerts {
    /// Alerts below this severity are kept for `hepguard status`, and not written to journal, message of the day and wall.
    #[serde(serialize_with = "show_severity", deserialize_with = "severity")]
    pub minimum: Weight,
    /// For so long after the first start, kinds of denies are learnt and not raised.
    pub learn: Span,
    /// Denies of one kind in a minute that make a burst; 0 turns bursts off.
    pub burst: u64,
    /// The kernel counts denies, and the logs tell of none for so long.
    pub silence: Span,
    /// Time Felix has to put back rules that somebody else removed.
    pub repair: Span,
    /// How long resolved alerts are remembered.
    pub remember: Span,
    /// File with a few lines for the message of the day.
    #[serde(serialize_with = "show_path", deserialize_with = "path_or_off")]
    pub motd: Option<PathBuf>,
    /// Whether critical alerts are written to every terminal.
    pub wall: bool,
}

impl Default for Alerts {
    fn default() -> Self {
        Self {
            minimum: Weight::Low,
            learn: Span::seconds(3600),
            burst: 1000,
            silence: Span::seconds(600),
            repair: Span::seconds(30),
            remember: Span::seconds(30 * 86_400),
            motd: None,
            wall: false,
        }
    }
}

/// `[metrics]`: figures in OpenMetrics form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Metrics {
    /// Unix socket that answers HTTP requests for /metrics.
    #[serde(serialize_with = "show_path", deserialize_with = "path_or_off")]
    pub socket: Option<PathBuf>,
    /// File for the textfile collector of the node exporter.
    #[serde(serialize_with = "show_path", deserialize_with = "path_or_off")]
    pub textfile: Option<PathBuf>,
    /// Address and port that answer HTTP requests for /metrics.
    #[serde(serialize_with = "show_address", deserialize_with = "address")]
    pub listen: Option<SocketAddr>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { socket: Some("/run/hepguard/metrics.sock".into()), textfile: None, listen: None }
    }
}

/// `[state]`: what the daemon keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct State {
    /// Folder for places in logs, known kinds of denies and open alerts.
    #[serde(deserialize_with = "path")]
    pub directory: PathBuf,
    /// Socket that `hepguard status` asks.
    #[serde(deserialize_with = "path")]
    pub socket: PathBuf,
}

impl Default for State {
    fn default() -> Self {
        Self { directory: "/var/lib/hepguard".into(), socket: "/run/hepguard/status.sock".into() }
    }
}

fn at_least<'de, D: serde::Deserializer<'de>>(deserializer: D, least: Span) -> Result<Span, D::Error> {
    let found = Span::deserialize(deserializer)?;
    let wrong = || serde::de::Error::custom(format!("expected at least {least}, found \"{found}\""));
    if found < least { Err(wrong()) } else { Ok(found) }
}

fn one_second<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
    at_least(deserializer, Span::seconds(1))
}

fn ten_seconds<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
    at_least(deserializer, Span::seconds(10))
}

fn one_minute<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
    at_least(deserializer, Span::seconds(60))
}

fn severity<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Weight, D::Error> {
    let text = String::deserialize(deserializer)?;
    let expected = || format!("expected critical, high, medium, low or info, found {text:?}");
    super::severity(&text).ok_or_else(|| serde::de::Error::custom(expected()))
}

fn show_severity<S: serde::Serializer>(severity: &Weight, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(severity.name())
}

fn address<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text == "off" {
        return Ok(None);
    }
    let expected = || format!("expected an address and port such as \"127.0.0.1:9707\", or \"off\", found {text:?}");
    text.parse().map(Some).map_err(|_| serde::de::Error::custom(expected()))
}

fn show_address<S: serde::Serializer>(address: &Option<SocketAddr>, serializer: S) -> Result<S::Ok, S::Error> {
    match address {
        Some(address) => serializer.collect_str(address),
        None => serializer.serialize_str("off"),
    }
}
