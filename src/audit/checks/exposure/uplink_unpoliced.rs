//! # HG604 uplink-unpoliced
//!
//! ## What it checks
//! Interfaces of default routes against the host endpoints in force: some interface is policed, and the one that leads
//! outside is not.
//!
//! ## Why it matters
//! An interface that was renamed or added is not in any endpoint: policy is in force, audits of policy look right, and
//! the outside comes in by another door (causes C07, C18).
//!
//! ## How to fix
//! Add a host endpoint for the interface, or use `interfaceName: *`; before that see that policy admits SSH on it.
//!
//! ## Limits
//! Only where endpoints are bound to interfaces by name. Long interface names appear as hashes in chain names and are
//! not compared.

use std::collections::BTreeSet;

use serde_json::json;

use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Bites, Finding, Severity};
use crate::calico::integrity::plain_name;
use crate::calico::names::{ChainRole, WILDCARD_ENDPOINT, chain_role};

/// The check.
pub const CHECK: Check = Check {
    code: "HG604",
    name: "uplink-unpoliced",
    severity: Severity::High,
    summary: "the way to the internet goes by an interface that no host endpoint polices, while another one does",
    source: include_str!("uplink_unpoliced.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let mut policed: BTreeSet<&str> = BTreeSet::new();
    for chain in context.ruleset().tables.iter().flat_map(|table| &table.chains) {
        if let Some(ChainRole::HostEndpoint { interface, forward: false, .. }) = chain_role(plain_name(&chain.name)) {
            policed.insert(interface);
        }
    }
    let hashed = |name: &&str| name.starts_with('_');
    if policed.is_empty() || policed.contains(WILDCARD_ENDPOINT) || policed.iter().any(hashed) {
        return Vec::new();
    }
    let host = &context.snapshot.host;
    let default = host.routes.iter().flatten().filter(|route| route.destination.length() == 0 && route.table == 254);
    let devices: BTreeSet<&str> = default.flat_map(|route| route.devices().collect::<Vec<_>>()).collect();
    let bare = devices.into_iter().filter(|device| !policed.contains(device));
    let known = bare.filter(|device| host.interface(device).is_some_and(|interface| !interface.loopback));
    let finding = |device: &str| {
        let names: Vec<&str> = policed.iter().copied().collect();
        let title =
            format!("{device}, which a default route goes by, is policed by no host endpoint; {} is", names.join(", "));
        Finding::new(check, json!({ "interface": device }), title)
            .bites(Bites::Now)
            .evidence("ip-route.json", format!("default route by {device}"))
            .fix("add a host endpoint for the interface once policy admits SSH on it; `hepguard reach in tcp/22` shows who gets in now")
    };
    known.map(finding).collect()
}
