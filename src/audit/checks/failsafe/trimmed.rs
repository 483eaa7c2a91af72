//! # HG108 failsafe-trimmed-below-sshd
//!
//! ## What it checks
//! That the inbound list Felix will read at its next start still holds the port of every listening sshd that the kernel's
//! list holds now.
//!
//! ## Why it matters
//! The file was edited, nothing happened, everybody forgot. At the next restart of Felix the way in goes. This is the
//! outage of the training lab, one step before it happens.
//!
//! ## How to fix
//! Put the entry back into the file before Felix restarts; nothing needs restarting for that.
//!
//! ## Limits
//! Only sshd's ports; every other entry that goes is HG105.

use serde_json::json;

use crate::analysis::flows::sshd_ports;
use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Bites, Finding, Severity};
use crate::calico::failsafe::Direction;
use crate::packet::Protocol;

/// The check.
pub const CHECK: Check = Check {
    code: "HG108",
    name: "failsafe-trimmed-below-sshd",
    severity: Severity::Critical,
    summary: "the next restart of Felix takes sshd's port off the inbound failsafe list",
    source: include_str!("trimmed.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let report = context.failsafe.direction(Direction::In);
    if !report.disk.is_known() {
        return Vec::new();
    }
    let ports = match &context.snapshot.host.sockets {
        None => vec![22],
        Some(_) => sshd_ports(&context.snapshot.host).into_iter().collect(),
    };
    let mut findings = Vec::new();
    for port in ports {
        let mine = |protocol: Protocol, entry_port: u16| protocol == Protocol::TCP && entry_port == port;
        let in_kernel = report.entries.iter().any(|row| {
            mine(row.entry.protocol, row.entry.port) && (row.kernel_ipv4 == Some(true) || row.kernel_ipv6 == Some(true))
        });
        let on_disk = report.disk.entries.iter().any(|entry| mine(entry.protocol, entry.port));
        if !in_kernel || on_disk {
            continue;
        }
        let place = report.disk.place.as_ref().map_or_else(|| "Felix's defaults".to_owned(), ToString::to_string);
        let finding = Finding::new(
            check,
            json!({ "direction": "in", "proto": "tcp", "port": port }),
            format!("the next restart of Felix takes SSH (tcp/{port}) off the inbound failsafe list"),
        )
        .bites(Bites::FelixRestart)
        .evidence(place.clone(), report.disk.raw.clone().unwrap_or_default())
        .fix(format!("put tcp:{port} back into the list at {place} before Felix restarts; safe over SSH"));
        findings.push(if report.disk.certain { finding } else { finding.bounded() });
    }
    findings
}
