//! # HG603 host-unpoliced
//!
//! ## What it checks
//! Felix is here (its process runs, or its configuration is on disk), and no host endpoint is in force: the rules were
//! listed, and no `cali-fh-` chain exists.
//!
//! ## Why it matters
//! Policies, tiers and failsafe lists look right in Calico and do nothing here: every port is open as far as Calico is
//! concerned. Causes: no HostEndpoint for this host, `spec.node` unlike Felix's hostname, an `interfaceName` that does not
//! exist (any more), `expectedIPs` that changed, or Felix that never came into sync.
//!
//! ## How to fix
//! Compare `calicoctl get hostendpoint -o yaml` with `hostname` and `ip -br addr`: the node, and then the interface name or
//! one of the addresses must fit. With no such endpoint wanted, there is nothing to do.
//!
//! ## Limits
//! Nodes that police only their pods have no host endpoint on purpose. In eBPF mode there are no such chains; then this
//! check stays silent.

use serde_json::json;

use crate::audit::check::Check;
use crate::audit::context::{Context, rules};
use crate::audit::dataplane::{Dataplane, Mode};
use crate::audit::finding::{Finding, Severity};
use crate::packet::Family;

/// The check.
pub const CHECK: Check = Check {
    code: "HG603",
    name: "host-unpoliced",
    severity: Severity::High,
    summary: "Felix is here, and no host endpoint is in force",
    source: include_str!("host_unpoliced.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let files = &context.snapshot.files;
    let signs = ["felix/environ", "felix/calico.env", "felix/felix.cfg"];
    let present: Vec<&str> = signs.into_iter().filter(|name| files.bytes(name).is_some()).collect();
    let tables = &context.ruleset().tables;
    let fragment = tables.iter().any(|table| &*table.name == "?");
    let endpoint = |name: &str| name.starts_with("cali-fh-") || name.starts_with("filter-cali-fh-");
    let in_force = tables.iter().flat_map(|table| &table.chains).any(|chain| endpoint(&chain.name));
    let listed = context.was_listed(Family::Ipv4) && !context.is_blind(Family::Ipv4);
    if present.is_empty() || in_force || fragment || !listed || Dataplane::of(context).mode == Mode::Bpf {
        return Vec::new();
    }
    let what = if context.has_felix_chains(Family::Ipv4) {
        "Felix has written its chains, but no host endpoint is in force on this host"
    } else {
        "Felix is set up here, and has written no chains: this host is not policed"
    };
    let mut finding = Finding::new(check, json!({ "felix": "no host endpoint" }), what);
    for name in present {
        finding = finding.evidence(files.label(name), "Felix is set up here");
    }
    for table in tables.iter().filter(|table| table.has_felix_chains()) {
        let count = table.chains.iter().map(|chain| chain.rules.len()).sum();
        finding = finding.evidence(table.title(), format!("{}, none for a host endpoint", rules(count)));
    }
    vec![finding.fix(
        "compare `calicoctl get hostendpoint -o yaml` with `hostname` and `ip -br addr`: spec.node, then interfaceName or \
         expectedIPs must fit; before an endpoint comes into force, check that policy admits SSH, the failsafe list is \
         the only way in otherwise",
    )]
}
