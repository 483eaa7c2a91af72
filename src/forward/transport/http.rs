//! HTTP collectors: Elasticsearch and OpenSearch (bulk), Splunk's HTTP Event Collector, Grafana Loki, OTLP.
//!
//! The payloads are JSON documents. Their id travels where the collector drops what it has already: Elasticsearch's `_id`,
//! OTLP's `log.record.uid`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use ureq::Agent;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

use super::tls::Tls;
use super::{CONNECT, Failure, Link, PATIENCE, Refusal, head};

/// Longest answer read, in bytes.
const MAX_ANSWER: u64 = 4 << 20;

/// The collector takes no more just now.
const BUSY: &str = "elasticsearch: too busy";

/// The collector's interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// `POST /_bulk` of Elasticsearch and OpenSearch.
    Elastic,
    /// `POST /services/collector/event` of Splunk.
    Splunk,
    /// `POST /loki/api/v1/push` of Grafana Loki.
    Loki,
    /// `POST /v1/logs` of OpenTelemetry, JSON.
    Otlp,
}

impl Api {
    /// All interfaces with their names in the configuration.
    pub const NAMES: [(Self, &'static str); 4] =
        [(Self::Elastic, "elasticsearch"), (Self::Splunk, "splunk-hec"), (Self::Loki, "loki"), (Self::Otlp, "otlp")];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(api, _)| *api == self).map_or("", |(_, name)| name)
    }

    fn path(self) -> &'static str {
        match self {
            Self::Elastic => "/_bulk",
            Self::Splunk => "/services/collector/event",
            Self::Loki => "/loki/api/v1/push",
            Self::Otlp => "/v1/logs",
        }
    }
}

/// An HTTP output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// The interface.
    pub api: Api,
    /// `http://host:port` or `https://host:port`, with a path in front of the interface's own if there is one.
    pub url: String,
    /// Index or data stream (Elasticsearch, Splunk); empty: the collector's default, for Elasticsearch `hepguard`.
    pub index: String,
    /// A file with the value of the Authorization header, such as `ApiKey …`, `Splunk …`, `Bearer …`.
    pub authorization: Option<PathBuf>,
    /// Certificates for `https`.
    pub tls: Option<Tls>,
    /// Splunk: wait until an indexer acknowledges (the token must have acknowledgement on).
    pub acknowledge: bool,
}

pub(super) struct HttpLink {
    http: Http,
    agent: Agent,
    authorization: Option<String>,
    /// Messages the collector took for bad: they are not sent again.
    refused: Vec<Refusal>,
    /// The collector took only the first of what was sent last.
    left: bool,
    /// Splunk's acknowledgements still open: number and messages.
    channel: String,
}

impl HttpLink {
    pub(super) fn open(http: &Http) -> Result<Self, Failure> {
        let authorization = match &http.authorization {
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| Failure::Refused(format!("{}: {error}", path.display())))?;
                Some(text.trim().to_owned())
            }
            None => None,
        };
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .user_agent(concat!("hepguard/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(CONNECT))
            .timeout_global(Some(2 * PATIENCE));
        let config = match &http.tls {
            Some(tls) => config.tls_config(tls_config(tls)?),
            None => config,
        };
        // a channel is any GUID that is ours
        let hash = crate::forward::encode::message::id_of(&[http.url.as_bytes(), b"channel"]);
        let channel = [&hash[..8], &hash[8..12], &hash[12..16], &hash[16..20], &hash[20..]].join("-");
        Ok(Self {
            http: http.clone(),
            agent: config.build().into(),
            authorization,
            refused: Vec::new(),
            left: false,
            channel,
        })
    }

    /// What went wrong. In TLS 1.3 a collector that wants a certificate of ours may end the connection before its word is read.
    fn trouble(&self, error: &ureq::Error) -> Failure {
        match trouble(error) {
            Failure::Lost(text) if self.http.tls.as_ref().is_some_and(|tls| tls.certificate.is_none()) => match error {
                ureq::Error::Io(inner) if is_cut(inner) => {
                    Failure::Lost(format!("{text}: it may want a client certificate it knows"))
                }
                _ => Failure::Lost(text),
            },
            other => other,
        }
    }

    fn post(&self, path: &str, kind: &str, body: &[u8]) -> Result<(u16, Value), Failure> {
        let url = format!("{}{path}", self.http.url.trim_end_matches('/'));
        let mut request = self.agent.post(&url).header("Content-Type", kind);
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization);
        }
        if self.http.api == Api::Splunk {
            request = request.header("X-Splunk-Request-Channel", &self.channel);
        }
        let mut answer = request.send(body).map_err(|error| self.trouble(&error))?;
        let status = answer.status().as_u16();
        let text =
            answer.body_mut().with_config().limit(MAX_ANSWER).read_to_vec().map_err(|error| self.trouble(&error))?;
        let value =
            serde_json::from_slice(&text).unwrap_or_else(|_| Value::String(head(&String::from_utf8_lossy(&text))));
        match status {
            200..=299 => Ok((status, value)),
            429 | 500..=599 => Err(Failure::Lost(format!("{url}: HTTP {status}: {}", head(&value.to_string())))),
            401 | 403 => {
                Err(Failure::Refused(format!("{url}: HTTP {status}: the collector does not accept our authorization")))
            }
            _ => Err(Failure::Refused(format!("{url}: HTTP {status}: {}", head(&value.to_string())))),
        }
    }

    /// Each item of a bulk answer speaks for itself: there already is as good as taken, and too busy means once more.
    fn elastic(&mut self, documents: &[Value]) -> Result<usize, Failure> {
        let index = if self.http.index.is_empty() { "hepguard" } else { &self.http.index };
        let mut body = Vec::new();
        for document in documents {
            let action = json!({ "create": { "_index": index, "_id": id(document) } });
            body.extend_from_slice(format!("{action}\n{document}\n").as_bytes());
        }
        let (_, answer) = self.post(Api::Elastic.path(), "application/x-ndjson", &body)?;
        let items = answer.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
        if items.len() != documents.len() {
            return Err(Failure::Refused(format!("elasticsearch: no bulk answer: {}", head(&answer.to_string()))));
        }
        for (taken, item) in items.iter().enumerate() {
            let item = item.get("create").unwrap_or(&Value::Null);
            match item.get("status").and_then(Value::as_u64).unwrap_or(0) {
                200..=299 | 409 => {}
                429 | 500..=599 | 0 => {
                    self.left = taken > 0;
                    return if self.left { Ok(taken) } else { Err(Failure::Lost(BUSY.to_owned())) };
                }
                status => {
                    let reason = item.pointer("/error/reason").and_then(Value::as_str).unwrap_or("no reason given");
                    let why = format!("elasticsearch refuses a document: {status}: {}", head(reason));
                    // neighbours share one word
                    match self.refused.last_mut().filter(|before| before.among.end == taken) {
                        Some(before) => (before.among.end, before.count) = (taken + 1, before.count + 1),
                        None => self.refused.push(Refusal { why, among: taken..taken + 1, count: 1 }),
                    }
                }
            }
        }
        Ok(documents.len())
    }

    fn splunk(&mut self, documents: &[Value]) -> Result<usize, Failure> {
        let mut body = String::new();
        for document in documents {
            let mut event = json!({
                "time": seconds(document), "host": host(document), "source": "hepguard", "sourcetype": "hepguard:json",
                "event": document,
            });
            if let (false, Some(fields)) = (self.http.index.is_empty(), event.as_object_mut()) {
                fields.insert("index".to_owned(), self.http.index.as_str().into());
            }
            body.push_str(&event.to_string());
        }
        let (_, answer) = self.post(Api::Splunk.path(), "application/json", body.as_bytes())?;
        if answer.get("code").and_then(Value::as_i64) != Some(0) {
            return Err(Failure::Refused(format!("splunk: {}", head(&answer.to_string()))));
        }
        if self.http.acknowledge {
            let number = answer.get("ackId").and_then(Value::as_u64).ok_or_else(|| {
                Failure::Refused(
                    "splunk: the token has no indexer acknowledgement: turn it on, or acknowledge = false".to_owned(),
                )
            })?;
            self.acknowledged(number)?;
        }
        Ok(documents.len())
    }

    /// Asks until an indexer has it.
    fn acknowledged(&self, number: u64) -> Result<(), Failure> {
        let end = Instant::now() + 2 * PATIENCE;
        let mut pause = Duration::from_millis(100);
        loop {
            let body = json!({ "acks": [number] }).to_string();
            let (_, answer) = self.post("/services/collector/ack", "application/json", body.as_bytes())?;
            if answer.pointer(&format!("/acks/{number}")).and_then(Value::as_bool) == Some(true) {
                return Ok(());
            }
            if Instant::now() >= end {
                return Err(Failure::Lost("splunk: no acknowledgement within a minute".to_owned()));
            }
            std::thread::sleep(pause);
            pause = (2 * pause).min(Duration::from_secs(5));
        }
    }

    fn loki(&mut self, documents: &[Value]) -> Result<usize, Failure> {
        let values: Vec<Value> =
            documents.iter().map(|document| json!([nanos(document).to_string(), document.to_string()])).collect();
        let name = documents.first().map(host).unwrap_or_default();
        let body = json!({ "streams": [{ "stream": { "job": "hepguard", "host": name }, "values": values }] });
        let _ = self.post(Api::Loki.path(), "application/json", body.to_string().as_bytes())?;
        Ok(documents.len())
    }

    fn otlp(&mut self, documents: &[Value]) -> Result<usize, Failure> {
        let text = |value: &str| json!({ "stringValue": value });
        let records: Vec<Value> = documents
            .iter()
            .map(|document| {
                let time = nanos(document).to_string();
                json!({
                    "timeUnixNano": time, "observedTimeUnixNano": time, "severityNumber": 13,
                    "body": text(&document.to_string()), "eventName": "hepguard",
                    "attributes": [{ "key": "log.record.uid", "value": text(&id(document)) }],
                })
            })
            .collect();
        let name = documents.first().map(host).unwrap_or_default();
        let body = json!({ "resourceLogs": [{
            "resource": { "attributes": [
                { "key": "service.name", "value": text("hepguard") }, { "key": "host.name", "value": text(&name) },
            ] },
            "scopeLogs": [{ "scope": { "name": "hepguard" }, "logRecords": records }],
        }] });
        let (_, answer) = self.post(Api::Otlp.path(), "application/json", body.to_string().as_bytes())?;
        let rejected = answer.pointer("/partialSuccess/rejectedLogRecords");
        let rejected = rejected.and_then(|n| n.as_u64().or_else(|| n.as_str()?.parse().ok())).unwrap_or(0);
        if rejected > 0 {
            let why = format!("otlp: {rejected} records refused: {}", head(&answer.to_string()));
            let count = usize::try_from(rejected).unwrap_or(usize::MAX).min(documents.len());
            self.refused.push(Refusal { why, among: 0..documents.len(), count });
        }
        Ok(documents.len())
    }
}

fn is_cut(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

fn trouble(error: &ureq::Error) -> Failure {
    match error {
        ureq::Error::Io(inner) => super::tls::failure("http", inner),
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => Failure::Refused(format!("http: {error}")),
        _ => Failure::lost("http", error),
    }
}

fn tls_config(tls: &Tls) -> Result<TlsConfig, Failure> {
    let refused = |path: &std::path::Path, error: &dyn std::fmt::Display| {
        Failure::Refused(format!("{}: {error}", path.display()))
    };
    let owned = |path: &std::path::Path| -> Result<Vec<Certificate<'static>>, Failure> {
        Ok(super::tls::certificates(path)?.iter().map(|one| Certificate::from_der(one).to_owned()).collect())
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = TlsConfig::builder()
        .unversioned_rustls_crypto_provider(provider)
        .root_certs(RootCerts::new_with_certs(&owned(&tls.ca)?));
    if let (Some(certificate), Some(key)) = (&tls.certificate, &tls.key) {
        let pem = std::fs::read(key).map_err(|error| refused(key, &error))?;
        let private = PrivateKey::from_pem(&pem).map_err(|error| refused(key, &error))?;
        config = config.client_cert(Some(ClientCert::new_with_certs(&owned(certificate)?, private)));
    }
    Ok(config.build())
}

fn first<'v>(document: &'v Value, pointers: &[&str]) -> Option<&'v Value> {
    pointers.iter().find_map(|pointer| document.pointer(pointer)).filter(|value| !value.is_object())
}

fn id(document: &Value) -> String {
    let found = first(document, &["/id", "/event/id", "/metadata/uid"]);
    found.and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn host(document: &Value) -> String {
    let found = document
        .get("host")
        .and_then(Value::as_str)
        .or_else(|| first(document, &["/host/name", "/device/hostname"]).and_then(Value::as_str));
    found.unwrap_or_default().to_owned()
}

/// Nanoseconds since 1970: OCSF has milliseconds, the others RFC 3339.
fn nanos(document: &Value) -> i64 {
    match first(document, &["/@timestamp", "/time"]) {
        Some(Value::Number(millis)) => millis.as_i64().unwrap_or(0).saturating_mul(1_000_000),
        Some(Value::String(text)) => {
            chrono::DateTime::parse_from_rfc3339(text).ok().and_then(|time| time.timestamp_nanos_opt()).unwrap_or(0)
        }
        _ => 0,
    }
}

fn seconds(document: &Value) -> f64 {
    // doubles hold milliseconds of this century
    (nanos(document) / 1_000_000) as f64 / 1000.0
}

impl Link for HttpLink {
    fn send(&mut self, messages: &[Vec<u8>]) -> Result<usize, Failure> {
        let documents: Vec<Value> = messages
            .iter()
            .map(|message| serde_json::from_slice(message).unwrap_or_else(|_| json!(String::from_utf8_lossy(message))))
            .collect();
        if self.left {
            // what comes behind it would count as it
            return Err(Failure::Lost(BUSY.to_owned()));
        }
        if documents.is_empty() {
            return Ok(0);
        }
        match self.http.api {
            Api::Elastic => self.elastic(&documents),
            Api::Splunk => self.splunk(&documents),
            Api::Loki => self.loki(&documents),
            Api::Otlp => self.otlp(&documents),
        }
    }

    fn settle(&mut self, _: Duration) -> Result<usize, Failure> {
        // what is left is to be sent again, after a while
        if self.left { Err(Failure::Lost(BUSY.to_owned())) } else { Ok(0) }
    }

    fn refused(&mut self) -> Vec<Refusal> {
        std::mem::take(&mut self.refused)
    }
}
