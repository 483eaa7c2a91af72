//! # HG211 routing-peer-refused
//!
//! ## What it checks
//! BGP neighbours of BIRD and FRR that have no session, BFD where it is on, OSPF's hello.
//!
//! ## Why it matters
//! A session that is up goes on as an established connection. After the next reset it does not come back, and when the hold
//! timer ends (90 to 180 seconds, with BFD under one) the routes go, the default route perhaps among them: the host vanishes
//! (cause S12). Failsafe lists have TCP 179 and nothing of BFD or OSPF.
//!
//! ## How to fix
//! Allow the peer's flows in policy. `birdc show protocols` or `vtysh -c 'show bgp summary'` shows who is up.
//!
//! ## Limits
//! Live sessions that would not be admitted again are HG202's. Peers without an address in the configuration are not seen.

use crate::analysis::flows::FlowKind;
use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Bites, Finding, Severity};
use crate::audit::lost::refused;

/// The check.
pub const CHECK: Check = Check {
    code: "HG211",
    name: "routing-peer-refused",
    severity: Severity::High,
    summary: "a routing peer is refused: its routes go when the hold timer ends",
    source: include_str!("routing_refused.rs"),
    run,
};

const FIX: &str = "allow TCP 179 with the peer in one direction at least, and BFD (UDP 3784, 4784) in both; OSPF is protocol 89; \
    safe over SSH";

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    refused(context, check, Bites::Renewal, |flow| flow.kind == FlowKind::Routing && !flow.live, FIX)
}
