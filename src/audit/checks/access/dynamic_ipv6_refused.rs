//! # HG205 dynamic-ipv6-refused
//!
//! ## What it checks
//! For IPv6 addresses with a life time: router advertisements from the router that gave them, and DHCPv6 both ways where the
//! address is a single one.
//!
//! ## Why it matters
//! The address works until its life time ends, hours later; then every IPv6 session stops and nobody thinks of the firewall
//! (cause S03).
//!
//! ## How to fix
//! Accept ICMPv6 134 with hop limit 255 from link-local addresses, and UDP 546 and 547 on the link.
//!
//! ## Limits
//! The router is the one of the default route that came by advertisement. Answers of DHCPv6 are judged from fe80::1, which
//! stands for any server on the link.

use crate::analysis::flows::FlowKind;
use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Bites, Finding, Severity};
use crate::audit::lost::refused;

/// The check.
pub const CHECK: Check = Check {
    code: "HG205",
    name: "dynamic-ipv6-refused",
    severity: Severity::High,
    summary: "an IPv6 address with a life time is not renewed: its router or DHCPv6 server is refused",
    source: include_str!("dynamic_ipv6_refused.rs"),
    run,
};

const FIX: &str = "accept ICMPv6 type 134 from the router, and UDP 547 out and 546 in for DHCPv6; safe over SSH";

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    refused(context, check, Bites::Renewal, |flow| flow.kind == FlowKind::Dhcp && flow.packet.src.is_ipv6(), FIX)
}
