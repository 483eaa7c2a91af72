//! # HG213 tunnel-refused
//!
//! ## What it checks
//! For every WireGuard interface: its listening port (UDP, a socket that no process owns), from anywhere.
//!
//! ## Why it matters
//! Admins who come through a tunnel see only inner addresses, and so do policies written from session lists. The outer packets
//! are another flow; when it is refused the tunnel and every session in it die at the next handshake, two minutes later
//! (cause S14).
//!
//! ## How to fix
//! Allow the outer port on the interface towards the internet, ahead of policy that denies.
//!
//! ## Limits
//! The port is that of a UDP socket without an owner, which is how the kernel's own sockets look; IPsec and user-space tunnels
//! are not told.

use crate::analysis::flows::FlowKind;
use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Bites, Finding, Severity};
use crate::audit::lost::refused;

/// The check.
pub const CHECK: Check = Check {
    code: "HG213",
    name: "tunnel-refused",
    severity: Severity::High,
    summary: "the outer flow of a tunnel is refused: whoever comes through it loses access",
    source: include_str!("tunnel_refused.rs"),
    run,
};

const FIX: &str = "allow the tunnel's UDP port from outside (WireGuard's `wg show` tells it); not safe over an SSH session that \
    comes through the tunnel itself";

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    refused(context, check, Bites::Reconnect, |flow| flow.kind == FlowKind::Tunnel, FIX)
}
