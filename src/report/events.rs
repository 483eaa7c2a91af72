//! One event in words: what became of it, and what decided.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::decided::Decided;
use crate::diagnostic::printable;
use crate::logs::event::{Action, Event};
use crate::logs::time::rfc3339;
use crate::packet::Protocol;

/// What decided, as far as the event tells.
#[must_use]
pub fn reason(event: &Event<'_>) -> Option<String> {
    Decided::of_event(event).words()
}

/// `denied egress 10.0.1.10:57312 -> 147.75.40.148:443 tcp`.
#[must_use]
pub fn sentence(event: &Event<'_>) -> String {
    let mut out = match event.action {
        Action::Deny => "denied",
        Action::Drop => "dropped",
        Action::Reject => "rejected",
        Action::Allow => "allowed",
        Action::Pass => "passed on",
        Action::Log => "logged",
        Action::Unknown => "seen",
    }
    .to_owned();
    if let Some(direction) = event.direction {
        let _ = write!(out, " {}", direction.name());
    }
    let end = |address: Option<IpAddr>, port: Option<u16>| match (address, port) {
        (Some(address), Some(port)) => std::net::SocketAddr::new(address, port).to_string(),
        (Some(address), None) => address.to_string(),
        (None, Some(port)) => format!("?:{port}"),
        (None, None) => "?".to_owned(),
    };
    let _ = write!(out, " {} -> {}", end(event.src_ip, event.src_port), end(event.dst_ip, event.dst_port));
    if let Some(proto) = event.proto {
        let _ = write!(out, " {}", Protocol(proto));
    }
    if let Some(kind) = event.icmp_type {
        let _ = write!(out, " type {kind}");
        if let Some(code) = event.icmp_code {
            let _ = write!(out, " code {code}");
        }
    }
    out
}

/// A line for the terminal: when, which host, what, how often, and what decided. Nothing in it is raw.
#[must_use]
pub fn text_line(event: &Event<'_>) -> String {
    let mut out = event.time.and_then(rfc3339).unwrap_or_else(|| "(no time)".to_owned());
    if let Some(host) = event.host {
        let _ = write!(out, " {}", String::from_utf8_lossy(host));
    }
    let _ = write!(out, "  {}", sentence(event));
    if event.count > 1 {
        let _ = write!(out, ", {} times", event.count);
    }
    if let Some(reason) = reason(event) {
        let _ = write!(out, ": {reason}");
    }
    if event.failsafe {
        out.push_str(" (a failsafe port)");
    }
    printable(&out)
}
