//! QRadar's Log Event Extended Format 2.0, tabs between the pairs. It has no escapes: what would be taken for structure is
//! replaced by a blank.

use std::fmt::Write as _;

use super::findings::number;
use super::lossy;
use super::message::{Body, Message};
use super::rfc5424::words;
use crate::diagnostic::printable;
use crate::packet::Protocol;

/// Longest value, in characters.
const LONGEST: usize = 1023;

/// One line, without line end.
pub(super) fn line(message: &Message<'_>) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let (event_id, category) = match &message.body {
        Body::Event { event, .. } => (event.action.name(), "deny"),
        Body::Finding { finding, .. } => (finding.code, "finding"),
        Body::Notice(notice) => (notice.kind.name(), "health"),
    };
    let mut out = format!("LEEF:2.0|hepguard|hepguard|{version}|{event_id}|x09|");
    let mut pairs = Pairs(&mut out, false);
    pairs.put("cat", category);
    pairs.put("sev", &number(message.severity()).to_string());
    pairs.put("devTime", &message.time.div_euclid(1000).to_string());
    pairs.put("identHostName", message.host);
    pairs.put("eventUid", &message.id);
    match &message.body {
        Body::Event { event, .. } => {
            let (packets, bytes) = event.totals();
            let address = |ip: Option<std::net::IpAddr>| ip.map(|ip| ip.to_string()).unwrap_or_default();
            let port = |port: Option<u16>| port.map(|port| port.to_string()).unwrap_or_default();
            let text = |bytes: Option<&[u8]>| bytes.map(lossy).unwrap_or_default();
            pairs.put("src", &address(event.src_ip));
            pairs.put("dst", &address(event.dst_ip));
            pairs.put("srcPort", &port(event.src_port));
            pairs.put("dstPort", &port(event.dst_port));
            let protocol = event.proto.map(|proto| Protocol(proto).to_string().to_ascii_uppercase());
            pairs.put("proto", &protocol.unwrap_or_default());
            pairs.put("realm", &text(event.tier.as_deref()));
            pairs.put("policy", &text(event.policy.as_deref().or(event.log_prefix)));
            pairs.put("srcPackets", &packets.to_string());
            pairs.put("srcBytes", &bytes.to_string());
            pairs.put("eventCount", &event.count.to_string());
        }
        Body::Finding { finding, state } => {
            pairs.put("state", state.name());
            pairs.put("bites", finding.bites.name());
            pairs.put("fingerprint", &finding.fingerprint);
            pairs.put("resource", message.host);
        }
        Body::Notice(notice) => {
            for (key, value) in &notice.fields {
                pairs.put(key, value);
            }
        }
    }
    pairs.put("reason", &words(message));
    out
}

struct Pairs<'o>(&'o mut String, bool);

impl Pairs<'_> {
    fn put(&mut self, key: &str, value: &str) {
        let value: String = printable(value).chars().take(LONGEST).collect();
        if value.is_empty() {
            return;
        }
        let gap = if self.1 { "\t" } else { "" };
        self.1 = true;
        let _ = write!(self.0, "{gap}{key}={value}");
    }
}
