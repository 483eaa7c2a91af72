//! # HG217 loopback-refused
//!
//! ## What it checks
//! Where the host endpoint is the wildcard (`*`, automatic host endpoints): 127.0.0.1, ::1 and the host's own addresses, each
//! to a port somebody listens on there. The stub resolver on 127.0.0.53 everywhere.
//!
//! ## Why it matters
//! The wildcard polices every interface, loopback too. A default deny then cuts the stub resolver, health probes and databases
//! on the same machine (cause C13). Failsafe lists may open some ports and hide the rest.
//!
//! ## How to fix
//! Allow the host's traffic with itself in a policy of its own that comes first.
//!
//! ## Limits
//! One port per address is tried, one that somebody listens on. Rules for single ports may treat others differently.

use crate::analysis::flows::FlowKind;
use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Bites, Finding, Severity};
use crate::audit::lost::refused;

/// The check.
pub const CHECK: Check = Check {
    code: "HG217",
    name: "loopback-refused",
    severity: Severity::High,
    summary: "this host's traffic with itself is refused",
    source: include_str!("loopback_refused.rs"),
    run,
};

const FIX: &str = "allow 127.0.0.0/8, ::1 and the host's own addresses in policy, both directions, before the default deny; or bind \
    the host endpoint to interfaces by name instead of `*`; safe over SSH";

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    refused(
        context,
        check,
        Bites::Now,
        |flow| flow.kind == FlowKind::Loopback || flow.packet.oif.as_deref() == Some("lo"),
        FIX,
    )
}
