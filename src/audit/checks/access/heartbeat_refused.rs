//! # HG210 cluster-heartbeat-refused
//!
//! ## What it checks
//! VRRP of keepalived (protocol 112, from its configuration) and the ports of corosync where a socket listens on them, both
//! ways.
//!
//! ## Why it matters
//! A host that no longer hears its partner takes the shared address within seconds. Two masters answer, and connections to
//! the shared address, SSH to a bastion among them, break at random (cause S11).
//!
//! ## How to fix
//! Allow the protocol in both directions on the interface that keepalived names.
//!
//! ## Limits
//! Unicast peers of keepalived are taken where the configuration names them in one line.

use crate::analysis::flows::FlowKind;
use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Bites, Finding, Severity};
use crate::audit::lost::refused;

/// The check.
pub const CHECK: Check = Check {
    code: "HG210",
    name: "cluster-heartbeat-refused",
    severity: Severity::High,
    summary: "the heartbeat of a cluster of hosts is refused: both sides will be masters",
    source: include_str!("heartbeat_refused.rs"),
    run,
};

const FIX: &str = "allow protocol 112 (VRRP) to 224.0.0.18, or UDP 5404 to 5406 of corosync, in and out on the interface; safe over \
    SSH";

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    refused(context, check, Bites::Now, |flow| flow.kind == FlowKind::Cluster, FIX)
}
