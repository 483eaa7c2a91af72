//! # HG206 neighbour-discovery-refused
//!
//! ## What it checks
//! On every interface with an IPv6 address that reaches beyond the link: neighbour solicitations and advertisements, both
//! ways, with the gateway or a neighbour.
//!
//! ## Why it matters
//! Without them no link address is found. Connections go on while the neighbour cache is warm, seconds to minutes; then all of
//! IPv6 is dead, SSH included (cause S04). Felix's chains for host endpoints do not exempt ICMPv6.
//!
//! ## How to fix
//! Accept ICMPv6 133, 134, 135 and 136 in both directions. In Calico policy: protocol ICMPv6, types 133 to 136, Allow, ingress
//! and egress.
//!
//! ## Limits
//! A neighbour that is not the gateway is an example address of the same network.

use crate::analysis::flows::FlowKind;
use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Bites, Finding, Severity};
use crate::audit::lost::refused;

/// The check.
pub const CHECK: Check = Check {
    code: "HG206",
    name: "neighbour-discovery-refused",
    severity: Severity::High,
    summary: "IPv6 neighbour discovery is refused: IPv6 works only while caches are warm",
    source: include_str!("neighbours_refused.rs"),
    run,
};

const FIX: &str = "accept ICMPv6 types 133 to 136 in and out with hop limit 255, ahead of policy or in it: Felix's host endpoint \
    chains have no exemption for them; safe over SSH";

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    refused(context, check, Bites::Renewal, |flow| flow.kind == FlowKind::Neighbour, FIX)
}
