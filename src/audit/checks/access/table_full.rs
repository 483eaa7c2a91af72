//! # HG221 connection-table-nearly-full
//!
//! ## What it checks
//! The number of tracked connections (`nf_conntrack_count`) against the most the table takes (`nf_conntrack_max`): from 80
//! percent on.
//!
//! ## Why it matters
//! When the table is full the kernel drops every packet of a new connection, before any rule and any failsafe: not even
//! SSH gets in (cause F22). A scan or a burst of short connections fills it in seconds.
//!
//! ## How to fix
//! Raise `net.netfilter.nf_conntrack_max` (each entry takes about 320 bytes), shorten
//! `nf_conntrack_tcp_timeout_established`, and find who opens the connections: `conntrack -L | awk '{print $5}' | sort
//! | uniq -c | sort -n`.
//!
//! ## Limits
//! A moment's figure. The trend is what matters; look again in a minute.

use serde_json::json;

use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Bites, Finding, Severity};

/// The check.
pub const CHECK: Check = Check {
    code: "HG221",
    name: "connection-table-nearly-full",
    severity: Severity::High,
    summary: "the kernel's connection table is nearly full: new connections will be dropped, SSH too",
    source: include_str!("table_full.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let Some(sysctls) = &context.snapshot.host.sysctls else { return Vec::new() };
    let number = |name: &str| sysctls.get(name).and_then(|value| value.trim().parse::<u64>().ok());
    let (Some(count), Some(most)) =
        (number("net.netfilter.nf_conntrack_count"), number("net.netfilter.nf_conntrack_max"))
    else {
        return Vec::new();
    };
    if most == 0 || count.saturating_mul(100) < most.saturating_mul(80) {
        return Vec::new();
    }
    let percent = count.saturating_mul(100) / most;
    let title = format!("the connection table holds {count} of at most {most} connections ({percent} %)");
    let finding = Finding::new(check, json!({ "table": "nf_conntrack" }), title).bites(Bites::Reconnect);
    let finding = if count >= most { finding.severity(Severity::Critical).bites(Bites::Now) } else { finding };
    vec![finding.evidence("sysctl.txt", format!("net.netfilter.nf_conntrack_count = {count}, _max = {most}")).fix(
        format!(
            "`sysctl -w net.netfilter.nf_conntrack_max={}`, then find who opens them; safe over SSH",
            most.saturating_mul(2)
        ),
    )]
}
