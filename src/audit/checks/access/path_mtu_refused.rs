//! # HG215 path-mtu-refused
//!
//! ## What it checks
//! "Fragmentation needed" (ICMP 3/4) and "packet too big" (ICMPv6 2) from the default gateway about a connection that exists,
//! hence in state RELATED.
//!
//! ## Why it matters
//! Small packets pass and large ones vanish. The handshake and the banner come through, then the session hangs: behind a tunnel
//! or a cloud's gateway with a smaller path this is every session (cause S16).
//!
//! ## How to fix
//! Accept RELATED, or the two types by themselves.
//!
//! ## Limits
//! Judged from the default gateway; any router on the way may send them.

use crate::analysis::flows::FlowKind;
use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Bites, Finding, Severity};
use crate::audit::lost::refused;

/// The check.
pub const CHECK: Check = Check {
    code: "HG215",
    name: "path-mtu-refused",
    severity: Severity::Medium,
    summary: "errors about packets that are too big are refused: SSH hangs after its banner",
    source: include_str!("path_mtu_refused.rs"),
    run,
};

const FIX: &str =
    "accept ICMP type 3 code 4 and ICMPv6 type 2 for connections that exist (state RELATED); safe over SSH";

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    refused(context, check, Bites::Reconnect, |flow| flow.kind == FlowKind::Gateway, FIX)
}
