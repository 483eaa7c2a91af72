//! # HG711 firewalld-backend-changed
//!
//! ## What it checks
//! `FirewallBackend` of firewalld.conf against the kernel: a table `firewalld` of nft, or chains such as `IN_public` in
//! iptables tables.
//!
//! ## Why it matters
//! The next restart of firewalld switches: it builds its rules in the other place, and what the old one left stays or
//! goes depending on the version. Connections break in between (cause F14).
//!
//! ## How to fix
//! Put the setting back, or plan the switch with a console at hand: stop firewalld, see that its rules are gone, start
//! it.
//!
//! ## Limits
//! Silent where firewalld's rules are in neither place, which says that it does not run.

use serde_json::json;

use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Bites, Finding, Severity};
use crate::ruleset::{Backend, Table};

/// The check.
pub const CHECK: Check = Check {
    code: "HG711",
    name: "firewalld-backend-changed",
    severity: Severity::Medium,
    summary: "firewalld's backend on disk is not the one whose rules are in the kernel",
    source: include_str!("firewalld_backend.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let name = "persisted/firewalld/firewalld.conf";
    let Some(bytes) = context.snapshot.files.bytes(name) else { return Vec::new() };
    let text = String::from_utf8_lossy(bytes).into_owned();
    let mut lines = text.lines().zip(1..);
    let wanted = lines
        .find_map(|(line, number)| Some((number, line.trim().strip_prefix("FirewallBackend=")?.trim().to_owned())));
    let Some((line, wanted)) = wanted else { return Vec::new() };
    let tables = &context.ruleset().tables;
    let native = tables.iter().find(|table| table.backend == Backend::Nft && &*table.name == "firewalld");
    let chains = |table: &&Table| {
        table.chains.iter().any(|chain| chain.name.starts_with("IN_public") || &*chain.name == "INPUT_ZONES")
    };
    let old = tables.iter().find(|table| table.backend != Backend::Nft && chains(table));
    let (live, table) = match (native, old) {
        (Some(table), None) => ("nftables", table),
        (None, Some(table)) => ("iptables", table),
        _ => return Vec::new(),
    };
    if live == wanted {
        return Vec::new();
    }
    let title = format!("firewalld is to use {wanted} at its next start; its rules in the kernel are of {live}");
    let finding = Finding::new(check, json!({ "disk": wanted, "kernel": live }), title).bites(Bites::Reboot);
    vec![
        finding
            .evidence(format!("{name}:{line}"), format!("FirewallBackend={wanted}"))
            .evidence(&*table.source, table.title())
            .fix(
                "put the setting back, or switch with a console at hand; restarting firewalld now is not safe over SSH",
            ),
    ]
}
