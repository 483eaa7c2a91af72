//! # HG309 endpoint-without-interface
//!
//! ## What it checks
//! Host endpoints of this node in the exported resources: `interfaceName` against the interfaces that exist.
//!
//! ## Why it matters
//! The endpoint never comes into force, and Felix says so at debug level only. A renamed interface (a new kernel,
//! another driver, a replaced card) opens the host at the next boot (cause C18).
//!
//! ## How to fix
//! Correct `interfaceName` by `ip -br link`, or use expectedIPs, or `*` for every interface.
//!
//! ## Limits
//! Only where resources were exported (`calico/*.yaml`) and interfaces listed. Interfaces that come and go (tunnels)
//! may be away at the moment.

use serde_json::json;

use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Bites, Finding, Severity};
use crate::calico::resources::Spec;

/// The check.
pub const CHECK: Check = Check {
    code: "HG309",
    name: "endpoint-without-interface",
    severity: Severity::High,
    summary: "a host endpoint names an interface that this host does not have",
    source: include_str!("endpoint_interface.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let (Some(interfaces), Some(host)) = (&context.snapshot.host.interfaces, &context.failsafe.host) else {
        return Vec::new();
    };
    let resources = &context.snapshot.resources;
    let mut findings = Vec::new();
    for resource in resources.iter() {
        let Spec::HostEndpoint(endpoint) = &resource.spec else { continue };
        let (Some(node), Some(interface)) = (&endpoint.node, &endpoint.interface) else { continue };
        let known = interface.value == "*" || interfaces.iter().any(|known| *known.name == *interface.value);
        if known || !node.value.eq_ignore_ascii_case(host) || interface.value.is_empty() {
            continue;
        }
        let title =
            format!("{} names interface {:?}, which this host does not have", resource.meta.title(), interface.value);
        let names: Vec<&str> = interfaces.iter().map(|interface| &*interface.name).take(12).collect();
        findings.push(
            Finding::new(check, json!({ "endpoint": resource.meta.name.value, "interface": interface.value }), title)
                .bites(Bites::Now)
                .evidence(format!("{}:{}", resource.meta.place.file, interface.line), format!("interfaceName: {}", interface.value))
                .evidence("ip-addr.json", names.join(" "))
                .fix("correct interfaceName by `ip -br link`; the endpoint polices from then on, so see first that policy admits SSH"),
        );
    }
    findings
}
