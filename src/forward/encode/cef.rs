//! ArcSight's Common Event Format, version 0: IPv6 addresses go into the custom fields made for them.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::findings::number;
use super::message::{Body, Message};
use super::rfc5424::words;
use super::{Fate, fate, lossy};
use crate::diagnostic::printable;
use crate::logs::event::{Direction, Event};
use crate::packet::Protocol;
use crate::report::events::reason;

/// One line, without line end.
pub(super) fn line(event: &Event<'_>) -> String {
    let fate = fate(event.action);
    let (name, severity) = match fate {
        Fate::Denied => ("Firewall deny", 3),
        Fate::Allowed => ("Firewall allow", 1),
        Fate::Observed => ("Firewall log", 1),
    };
    let version = env!("CARGO_PKG_VERSION");
    let mut out = format!("CEF:0|hepguard|hepguard|{version}|{}|{name}|{severity}|", event.action.name());
    let mut pairs = Pairs(&mut out);
    let time = event.time.map(|time| time.div_euclid(1000));
    pairs.number("rt", time);
    pairs.text("act", event.action.name());
    pairs.text(
        "outcome",
        match fate {
            Fate::Denied => "failure",
            Fate::Allowed => "success",
            Fate::Observed => "unknown",
        },
    );
    pairs.address(event.src_ip, ["src", "c6a2"], "Source IPv6 Address");
    pairs.number("spt", event.src_port);
    pairs.address(event.dst_ip, ["dst", "c6a3"], "Destination IPv6 Address");
    pairs.number("dpt", event.dst_port);
    if let Some(proto) = event.proto {
        pairs.text("proto", &Protocol(proto).to_string().to_ascii_uppercase());
    }
    let direction = match event.direction {
        Some(Direction::Ingress) => Some(0),
        Some(Direction::Egress) => Some(1),
        Some(Direction::Forward) | None => None,
    };
    pairs.number("deviceDirection", direction);
    let (packets, bytes) = event.totals();
    // "in" is what flows from the source; of what is denied there is nothing else
    pairs.number("in", (fate == Fate::Denied).then_some(bytes));
    pairs.number("cnt", Some(event.count));
    let labelled = [
        ("cs1", "tier", event.tier.as_deref()),
        ("cs2", "policy", event.policy.as_deref()),
        ("cs3", "logPrefix", event.log_prefix),
    ];
    for (key, label, value) in labelled {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            pairs.text(&format!("{key}Label"), label);
            pairs.text(key, &lossy(value));
        }
    }
    if let Some(index) = event.rule_index {
        pairs.text("cn1Label", "ruleIndex");
        pairs.number("cn1", Some(index));
    }
    pairs.text("cn2Label", "packets");
    pairs.number("cn2", Some(packets));
    for (key, value) in [
        ("deviceInboundInterface", event.in_iface),
        ("deviceOutboundInterface", event.out_iface),
        ("dvchost", event.host),
    ] {
        if let Some(value) = value {
            pairs.text(key, &lossy(value));
        }
    }
    if let Some(reason) = reason(event) {
        pairs.text("reason", &reason);
    }
    out.truncate(out.trim_end().len());
    out
}

/// A message of any kind, without line end.
pub(super) fn message(message: &Message<'_>) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let (id, name) = match &message.body {
        Body::Event { event, .. } => {
            let mut out = line(event);
            out.push(' ');
            let mut pairs = Pairs(&mut out);
            pairs.text("externalId", &message.id);
            if event.host.is_none() {
                pairs.text("dvchost", message.host);
            }
            out.truncate(out.trim_end().len());
            return out;
        }
        Body::Finding { finding, .. } => (finding.code, finding.name),
        Body::Notice(notice) => ("health", notice.kind.name()),
    };
    let severity = number(message.severity());
    let mut out = format!("CEF:0|hepguard|hepguard|{version}|{id}|{name}|{severity}|");
    let mut pairs = Pairs(&mut out);
    pairs.number("rt", Some(message.time.div_euclid(1000)));
    pairs.text("dvchost", message.host);
    pairs.text("externalId", &message.id);
    match &message.body {
        Body::Finding { finding, state } => {
            pairs.text("cat", "finding");
            pairs.text("act", state.name());
            let labelled = [
                ("cs1", "bites", finding.bites.name()),
                ("cs2", "fingerprint", &finding.fingerprint),
                ("cs3", "fix", &finding.fix),
            ];
            for (key, label, value) in labelled {
                if !value.is_empty() {
                    pairs.text(&format!("{key}Label"), label);
                    pairs.text(key, value);
                }
            }
        }
        Body::Notice(notice) => {
            pairs.text("cat", "health");
            for (at, (name, value)) in notice.fields.iter().take(6).enumerate() {
                pairs.text(&format!("cs{}Label", at + 1), name);
                pairs.text(&format!("cs{}", at + 1), value);
            }
        }
        Body::Event { .. } => {}
    }
    pairs.text("msg", &words(message).chars().take(1023).collect::<String>());
    out.truncate(out.trim_end().len());
    out
}

/// Longest value: what the format allows for custom strings.
const LONGEST: usize = 4000;

struct Pairs<'o>(&'o mut String);

impl Pairs<'_> {
    fn number(&mut self, key: &str, value: Option<impl std::fmt::Display>) {
        if let Some(value) = value {
            let _ = write!(self.0, "{key}={value} ");
        }
    }

    /// A value: backslash and equals sign are escaped; control characters are spelled out, line ends among them.
    fn text(&mut self, key: &str, value: &str) {
        let value: String = printable(value).chars().take(LONGEST).collect();
        let value = value.replace('\\', "\\\\").replace('=', "\\=");
        let _ = write!(self.0, "{key}={} ", value.trim());
    }

    fn address(&mut self, address: Option<IpAddr>, [v4, v6]: [&str; 2], label: &str) {
        match address {
            Some(IpAddr::V4(address)) => self.number(v4, Some(address)),
            Some(IpAddr::V6(address)) => {
                self.number(v6, Some(address));
                self.text(&format!("{v6}Label"), label);
            }
            None => {}
        }
    }
}
