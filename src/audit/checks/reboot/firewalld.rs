//! # HG709 firewalld-beside-felix
//!
//! ## What it checks
//! firewalld is set up and starts at boot, on a host with Felix's chains.
//!
//! ## Why it matters
//! With its iptables backend every reload flushes all chains, Felix's too, and Felix repairs them up to three minutes
//! later. With its nftables backend its own base chain comes after Felix's and rejects what Felix accepted (causes F12,
//! F17).
//!
//! ## How to fix
//! Calico asks for firewalld to be off on policed hosts: `systemctl disable --now firewalld`, once Calico policy holds
//! what its zones held. Else set `FlushAllOnReload=no` and open in its zones what policy opens.
//!
//! ## Limits
//! Where the list of units was not taken, the configuration alone makes the finding, and it says so.

use serde_json::json;

use crate::analysis::reboot::starts_at_boot;
use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Bites, Finding, Severity};
use crate::packet::Family;

/// The check.
pub const CHECK: Check = Check {
    code: "HG709",
    name: "firewalld-beside-felix",
    severity: Severity::High,
    summary: "firewalld runs beside Felix: its reloads remove or overrule Felix's rules",
    source: include_str!("firewalld.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let files = &context.snapshot.files;
    let name = "persisted/firewalld/firewalld.conf";
    let starts = starts_at_boot(files, "firewalld.service");
    let felix = [Family::Ipv4, Family::Ipv6].iter().any(|family| context.has_felix_chains(*family));
    let (Some(bytes), true) = (files.bytes(name), felix && starts != Some(false)) else { return Vec::new() };
    let text = String::from_utf8_lossy(bytes).into_owned();
    let setting = |key: &str| {
        let mut lines = text.lines().zip(1..);
        lines.find_map(|(line, number)| {
            let (found, value) = line.split_once('=')?;
            (found.trim() == key).then(|| (number, value.trim().to_ascii_lowercase(), line.to_owned()))
        })
    };
    let (backend, flush) = (setting("FirewallBackend"), setting("FlushAllOnReload"));
    let mut finding =
        Finding::new(check, json!({ "firewalld": "beside Felix" }), "firewalld is set up on a host that Felix polices");
    for (line, _, text) in [&backend, &flush].into_iter().flatten() {
        finding = finding.evidence(format!("{name}:{line}"), text);
    }
    if backend.is_none() && flush.is_none() {
        finding = finding.evidence(name, "there, with neither FirewallBackend nor FlushAllOnReload set");
    }
    if starts.is_none() {
        finding = finding.severity(Severity::Medium).bounded();
    }
    vec![finding.bites(Bites::Reboot).fix(
        "move what its zones open into Calico policy, then `systemctl disable --now firewalld` with a console at hand; do not \
         reload firewalld over SSH before that",
    )]
}
