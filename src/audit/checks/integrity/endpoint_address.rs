//! # HG310 endpoint-address-gone
//!
//! ## What it checks
//! Host endpoints of this node in the exported resources: `expectedIPs` against the addresses of its interfaces.
//!
//! ## Why it matters
//! Selectors find the host by these addresses: other hosts' rules for it hold an address that is not its own any more,
//! and rules by selector leave the real one out. Without `interfaceName` the endpoint does not come into force at all
//! (cause C17).
//!
//! ## How to fix
//! Bring expectedIPs up to date, best by whatever assigns the addresses.
//!
//! ## Limits
//! Only where resources were exported and addresses listed. Addresses of a partner that may fail over to this host are
//! expected on purpose.

use serde_json::json;

use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Bites, Finding, Severity};
use crate::calico::resources::Spec;

/// The check.
pub const CHECK: Check = Check {
    code: "HG310",
    name: "endpoint-address-gone",
    severity: Severity::Medium,
    summary: "a host endpoint expects an address that this host does not have",
    source: include_str!("endpoint_address.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let (Some(_), Some(host)) = (&context.snapshot.host.interfaces, &context.failsafe.host) else { return Vec::new() };
    let resources = &context.snapshot.resources;
    let mut findings = Vec::new();
    for resource in resources.iter() {
        let Spec::HostEndpoint(endpoint) = &resource.spec else { continue };
        if !endpoint.node.as_ref().is_some_and(|node| node.value.eq_ignore_ascii_case(host)) {
            continue;
        }
        for address in
            endpoint.expected_ips.iter().filter(|address| context.snapshot.host.is_local(address.value) == Some(false))
        {
            let title = format!("{} expects {}, which this host does not have", resource.meta.title(), address.value);
            let finding =
                Finding::new(check, json!({ "endpoint": resource.meta.name.value, "address": address.value }), title);
            // nothing else binds it
            let finding = if endpoint.interface.is_none() { finding.severity(Severity::High) } else { finding };
            findings.push(
                finding
                    .bites(Bites::Now)
                    .evidence(
                        format!("{}:{}", resource.meta.place.file, address.line),
                        format!("expectedIPs: {}", address.value),
                    )
                    .fix(
                        "bring expectedIPs up to date by `ip -br addr`; safe over SSH when policy admits your session",
                    ),
            );
        }
    }
    findings
}
