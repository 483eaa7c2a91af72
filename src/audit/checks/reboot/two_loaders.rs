//! # HG708 boot-two-loaders
//!
//! ## What it checks
//! Units that start at boot and load firewall rules: netfilter-persistent, iptables, nftables, ufw, firewalld. More
//! than one of them on the same host.
//!
//! ## Why it matters
//! They are ordered before the network, not among each other: which one comes last differs from boot to boot, and with
//! `flush ruleset` the last one decides alone (causes F16, F18). After a boot with another order the host is open, or
//! closed.
//!
//! ## How to fix
//! Keep one, and disable the others (`systemctl disable --now ufw`): only after the rules of the one you keep hold
//! everything.
//!
//! ## Limits
//! Only where the list of units was taken. Docker and Felix, which add to what is there, do not count.

use serde_json::json;

use crate::analysis::reboot::starts_at_boot;
use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Bites, Finding, Severity};

/// The check.
pub const CHECK: Check = Check {
    code: "HG708",
    name: "boot-two-loaders",
    severity: Severity::Medium,
    summary: "several programs load firewall rules at boot, in no certain order",
    source: include_str!("two_loaders.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    const UNITS: [&str; 6] = [
        "firewalld.service",
        "ip6tables.service",
        "iptables.service",
        "netfilter-persistent.service",
        "nftables.service",
        "ufw.service",
    ];
    let files = &context.snapshot.files;
    let mut on: Vec<&str> = UNITS.into_iter().filter(|unit| starts_at_boot(files, unit) == Some(true)).collect();
    // the two families of one program
    if on.contains(&"iptables.service") {
        on.retain(|unit| *unit != "ip6tables.service");
    }
    // ufw's unit starts on every Ubuntu; switched off it loads nothing
    let ufw = files.bytes("persisted/ufw/ufw.conf").map(|bytes| String::from_utf8_lossy(bytes).to_ascii_lowercase());
    if !ufw.is_some_and(|text| text.lines().any(|line| line.trim().starts_with("enabled=yes"))) {
        on.retain(|unit| *unit != "ufw.service");
    }
    if on.len() < 2 {
        return Vec::new();
    }
    let title = format!("{} all load rules at boot, in no certain order", on.join(", "));
    let finding = Finding::new(check, json!({ "units": on }), title).bites(Bites::Reboot);
    vec![finding.evidence("units/list.txt", on.join(", ")).fix(
        "keep one and disable the others, once the rules of the one you keep hold everything; `systemctl disable` without \
         `--now` is safe over SSH",
    )]
}
