//! # HG231 fallback-access-refused
//!
//! ## What it checks
//! Agents that bring an administrator in when SSH does not (Amazon SSM, Tailscale, cloudflared, Teleport, Google's OS Config):
//! where one has a session now, the same connection as a new one.
//!
//! ## Why it matters
//! The fallback is what is left after a lockout. Its session goes on while the kernel knows it, so it looks well; after a
//! restart of the agent or of its server it does not come back, and nobody notices before it is needed (cause S17).
//!
//! ## How to fix
//! Allow the agent's connections out in policy: most dial TCP 443. A name in policy needs Felix to trust the resolver.
//!
//! ## Limits
//! Agents are told by their processes' names in the list of sockets. A serial console, or a management board with a network of
//! its own, is beyond this host's rules.

use crate::analysis::flows::FlowKind;
use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Bites, Finding, Severity};
use crate::audit::lost::refused;

/// The check.
pub const CHECK: Check = Check {
    code: "HG231",
    name: "fallback-access-refused",
    severity: Severity::High,
    summary: "the way in that is left when SSH fails would not come back",
    source: include_str!("fallback_refused.rs"),
    run,
};

const FIX: &str = "allow the agent's connections in policy before the rule named above, restart the agent, and see that it comes \
    back while SSH still works; safe over SSH";

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    refused(context, check, Bites::Reconnect, |flow| flow.kind == FlowKind::Fallback, FIX)
}
