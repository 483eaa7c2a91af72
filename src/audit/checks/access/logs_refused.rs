//! # HG209 log-path-refused
//!
//! ## What it checks
//! Every destination that rsyslog, syslog-ng, journald's upload, Fluent Bit, Vector, Filebeat, Promtail, Wazuh, auditd and
//! Falco's sidekick are configured to send to.
//!
//! ## Why it matters
//! The alarm cannot ring: what the firewall denies from now on, and every intrusion, is written to a queue that nobody reads
//! (cause S10).
//!
//! ## How to fix
//! Allow the flow and prove it with a test message (`logger -p auth.notice test`) that arrives.
//!
//! ## Limits
//! Destinations known by name only are listed by `hepguard flows`. Shippers in containers keep their configuration elsewhere.

use crate::analysis::flows::FlowKind;
use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Bites, Finding, Severity};
use crate::audit::lost::refused;

/// The check.
pub const CHECK: Check = Check {
    code: "HG209",
    name: "log-path-refused",
    severity: Severity::High,
    summary: "the collector of logs and alarms is refused",
    source: include_str!("logs_refused.rs"),
    run,
};

const FIX: &str = "allow the collector in policy before the rule named above; until then alarms of this host reach nobody; safe \
    over SSH";

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    refused(context, check, Bites::Now, |flow| flow.kind == FlowKind::Siem, FIX)
}
