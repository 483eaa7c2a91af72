//! # HG710 firewalld-zone-missing
//!
//! ## What it checks
//! `DefaultZone` of firewalld.conf against the zone files in `/etc/firewalld/zones` and the zones that come with
//! firewalld.
//!
//! ## Why it matters
//! A reload first sets all policies to DROP, then loads the zones. When the default zone cannot be loaded it stops
//! there: everything is dropped (cause F13).
//!
//! ## How to fix
//! Create the zone (`firewall-cmd --permanent --new-zone=NAME`), or name one that exists, and check with `firewall-cmd
//! --check-config` before any reload.
//!
//! ## Limits
//! Zones in /usr/lib are taken to be the ones firewalld ships; a package's own zone there looks missing.

use serde_json::json;

use crate::analysis::reboot::starts_at_boot;
use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Bites, Finding, Severity};

/// The check.
pub const CHECK: Check = Check {
    code: "HG710",
    name: "firewalld-zone-missing",
    severity: Severity::High,
    summary: "firewalld's default zone has no file: a reload fails and leaves everything dropped",
    source: include_str!("firewalld_zone.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    const SHIPPED: [&str; 11] =
        ["block", "dmz", "drop", "external", "home", "internal", "nm-shared", "public", "trusted", "work", "libvirt"];
    let files = &context.snapshot.files;
    let name = "persisted/firewalld/firewalld.conf";
    let Some(bytes) = files.bytes(name) else { return Vec::new() };
    if starts_at_boot(files, "firewalld.service") == Some(false) {
        return Vec::new();
    }
    let text = String::from_utf8_lossy(bytes).into_owned();
    let zone = text
        .lines()
        .zip(1..)
        .find_map(|(line, number)| Some((number, line.trim().strip_prefix("DefaultZone=")?.trim())));
    let Some((line, zone)) = zone.filter(|(_, zone)| !zone.is_empty() && !SHIPPED.contains(zone)) else {
        return Vec::new();
    };
    if files.files.contains_key(&format!("persisted/firewalld/zones/{zone}.xml")) {
        return Vec::new();
    }
    let title = format!("firewalld's default zone {zone:?} has no file: its next reload leaves everything dropped");
    let finding = Finding::new(check, json!({ "zone": zone }), title).bites(Bites::Reboot);
    vec![finding.evidence(format!("{name}:{line}"), format!("DefaultZone={zone}")).fix(
        "create the zone or name one that exists, then `firewall-cmd --check-config`; do not reload firewalld over SSH before \
         that",
    )]
}
