//! Forwarding against real collectors: rsyslog over TCP, TLS and RELP, small HTTP servers, in a network namespace of its own
//! with nothing but a loopback.
//!
//! Needs root, ip(8), rsyslogd with its RELP and TLS modules, openssl(1). Fails under `CI` when they cannot be had, and says
//! SKIPPED elsewhere.

mod commands;
mod content;
mod crash;
mod formats;
mod http;
mod journald;
mod local;
mod outage;
mod refusal;
mod rig;
mod syslog;
mod syslog_ng;
