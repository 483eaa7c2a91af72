//! # HG204 datastore-refused
//!
//! ## What it checks
//! The flows Felix itself needs, from its settings, its kubeconfig and its live sessions: the Kubernetes API or etcd, and
//! Typha. Each is judged as a new connection.
//!
//! ## Why it matters
//! A running Felix keeps its old connection, so nothing shows. At its next start it gets no policy: rules stay frozen as they
//! are, after a boot there are none, and the policy that would repair it can never arrive. A port that is not on the failsafe
//! list (443 of managed clusters, etcd's own) or a documented deny-all policy is enough (causes C09, C10, C11).
//!
//! ## How to fix
//! Let policy admit the flow, or add its port to `FELIX_FAILSAFEOUTBOUNDHOSTPORTS`, before Felix restarts. Prove it with
//! `hepguard trace` and the packet given.
//!
//! ## Limits
//! A server known by name only is listed by `hepguard flows`, not judged. Names also need a resolver, see HG201.

use crate::analysis::flows::FlowKind;
use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Bites, Finding, Severity};
use crate::audit::lost::refused;

/// The check.
pub const CHECK: Check = Check {
    code: "HG204",
    name: "datastore-refused",
    severity: Severity::Critical,
    summary: "Felix cannot reach its datastore or Typha anew",
    source: include_str!("datastore_refused.rs"),
    run,
};

const FIX: &str = "allow the flow in policy before the rule named above, or put its port on the outbound failsafe list before Felix \
    restarts; check the port first: managed clusters answer on 443, etcd may stand on a port of its own; safe over \
    SSH";

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    refused(context, check, Bites::FelixRestart, |flow| matches!(flow.kind, FlowKind::Datastore | FlowKind::Typha), FIX)
}
