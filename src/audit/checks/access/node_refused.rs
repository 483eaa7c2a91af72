//! # HG216 node-service-refused
//!
//! ## What it checks
//! On hosts where kubelet (10250), Felix (9091), Typha (9093), kube-proxy (10256) or a node exporter (9100) listens to others:
//! whether the control plane's address gets in.
//!
//! ## Why it matters
//! Automatic host endpoints police every node. The default failsafe lists do not hold kubelet's port: with a default deny
//! `kubectl logs`, `exec` and metrics stop at once, and image pulls and probes soon after (cause C12).
//!
//! ## How to fix
//! Add a policy for the platform's own flows before the default deny (kubelet from the control plane, metrics from the
//! monitoring).
//!
//! ## Limits
//! The peer is the datastore's address when it is known, else an address from outside: who fetches metrics is not known.

use crate::analysis::flows::FlowKind;
use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Bites, Finding, Severity};
use crate::audit::lost::refused;

/// The check.
pub const CHECK: Check = Check {
    code: "HG216",
    name: "node-service-refused",
    severity: Severity::High,
    summary: "the control plane cannot reach this node's kubelet, or nobody its metrics",
    source: include_str!("node_refused.rs"),
    run,
};

const FIX: &str = "allow tcp/10250 from the control plane, and the metrics ports from where they are fetched, in policy: they are \
    on no failsafe list; safe over SSH";

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    refused(context, check, Bites::Now, |flow| flow.kind == FlowKind::Node, FIX)
}
