//! From the configuration's `[[forward]]` to outputs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::encode::rfc5424::Header;
use super::encode::{Encoding, Envelope, Shape};
use super::frame::Framing;
use super::sender::Output;
use super::transport::{Api, Http, Target, Tls};
use crate::audit::finding::Severity;
use crate::config::{Denies, Format, Forward, Transport};

/// Where journald takes entries, unless told otherwise.
const JOURNAL: &str = "/run/systemd/journal/socket";

/// Waits between attempts: from a second to a minute.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The output that an entry describes; the configuration has checked it.
#[must_use]
pub fn output(entry: &Forward) -> Output {
    let address = entry.address.clone().unwrap_or_default();
    let path = entry.path.clone().unwrap_or_default();
    let tls = entry.ca.clone().map(|ca: PathBuf| Tls {
        ca,
        certificate: entry.certificate.clone(),
        key: entry.key.clone(),
        name: entry.server_name.clone(),
    });
    let http = |api| {
        Target::Http(Http {
            api,
            url: entry.url.clone().unwrap_or_default(),
            index: entry.index.clone().unwrap_or_default(),
            authorization: entry.authorization_file.clone(),
            tls: tls.clone(),
            acknowledge: entry.acknowledge,
        })
    };
    let framing = if entry.line_feed { Framing::LineFeed } else { Framing::OctetCounting };
    let target = match entry.transport {
        Transport::File => Target::File(path),
        Transport::Unix => Target::Unix(path),
        Transport::Journald => Target::Journald(entry.path.clone().unwrap_or_else(|| JOURNAL.into())),
        Transport::Udp => Target::Udp(address),
        Transport::Tcp => Target::Tcp { address, framing },
        Transport::Tls => Target::Tls { address, tls: tls.clone().unwrap_or_default() },
        Transport::Relp => Target::Relp { address, tls: None },
        Transport::RelpTls => Target::Relp { address, tls: tls.clone() },
        Transport::Elasticsearch => http(Api::Elastic),
        Transport::SplunkHec => http(Api::Splunk),
        Transport::Loki => http(Api::Loki),
        Transport::Otlp => http(Api::Otlp),
    };
    let shape = match entry.format {
        Format::Rfc5424 => Shape::Text,
        Format::Cef => Shape::Cef,
        Format::Leef => Shape::Leef,
        Format::Json => Shape::Json,
        Format::Ecs => Shape::Ecs,
        Format::Ocsf => Shape::Ocsf,
    };
    let header = Header {
        facility: entry.facility,
        enterprise: entry.enterprise_number,
        pid: std::process::id(),
        bom: entry.bom,
        max_bytes: entry.max_message_bytes,
    };
    // a file of documents is a file of lines of JSON; the journal has entries; everything else that is not HTTP is syslog
    let bare = entry.transport.is_http() || entry.transport == Transport::File && entry.format != Format::Rfc5424;
    let envelope = match entry.transport {
        Transport::Journald => Envelope::Journal(header),
        Transport::Unix if entry.path.as_deref() == Some(Path::new("/dev/log")) => Envelope::Local(header),
        _ if bare => Envelope::Bare,
        _ => Envelope::Syslog(header),
    };
    Output {
        name: entry.name.clone(),
        target,
        encoding: Encoding { shape, envelope },
        max_bytes: entry.max_bytes,
        max_per_second: entry.max_per_second,
        least: Severity::from(entry.minimum),
        denies: entry.denies != Denies::Off,
        retry: RETRY,
    }
}
