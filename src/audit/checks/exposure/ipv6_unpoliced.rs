//! # HG601 ipv6-unpoliced
//!
//! ## What it checks
//! Felix has chains for IPv4 and none for IPv6, while the host has a global IPv6 address.
//!
//! ## Why it matters
//! Every service that listens on `::` is reachable over IPv6 without any Calico policy, whatever the policies say. Causes:
//! `Ipv6Support=false`, `ip6tables` missing when Felix started, or IPv6 enabled after the host was set up.
//!
//! ## How to fix
//! Set `FELIX_IPV6SUPPORT=true` and restart Felix, or take the global IPv6 addresses off the host, or filter IPv6 in
//! another way. Before Felix starts to police IPv6, make sure that neighbour discovery (ICMPv6 133 to 136) and SSH are
//! admitted for IPv6 too: failsafe entries with an IPv4 network do not count there.
//!
//! ## Limits
//! Says nothing when the IPv6 rules could not be listed (that is a blind spot, HG901). Rules of other tools for IPv6 are
//! shown as evidence but not judged.

use serde_json::json;

use crate::audit::check::Check;
use crate::audit::context::{Context, rules};
use crate::audit::finding::{Finding, Severity};
use crate::packet::Family;

/// The check.
pub const CHECK: Check = Check {
    code: "HG601",
    name: "ipv6-unpoliced",
    severity: Severity::High,
    summary: "the host has global IPv6 addresses, and Felix polices only IPv4",
    source: include_str!("ipv6_unpoliced.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let policed = context.has_felix_chains(Family::Ipv4) && !context.has_felix_chains(Family::Ipv6);
    if !policed || !context.was_listed(Family::Ipv6) {
        return Vec::new();
    }
    let interfaces = context.snapshot.host.interfaces.iter().flatten();
    let global: Vec<String> = interfaces
        .flat_map(|interface| interface.addresses.iter().map(move |address| (interface, address)))
        .filter(|(_, address)| address.address.is_ipv6() && &*address.scope == "global")
        .map(|(interface, address)| format!("{} on {}", address.address, interface.name))
        .collect();
    if global.is_empty() {
        return Vec::new();
    }
    let mut finding = Finding::new(
        check,
        json!({ "family": "ipv6" }),
        "IPv6 is not policed: Felix has chains for IPv4 only, and this host has global IPv6 addresses",
    )
    .evidence("ip-addr.json", global.join(", "));
    for table in context.ruleset().tables.iter().filter(|table| table.family.sees(Family::Ipv6)) {
        let count = table.chains.iter().map(|chain| chain.rules.len()).sum();
        finding = finding.evidence(table.title(), format!("{}, none of them Felix's", rules(count)));
    }
    let listening: Vec<String> = context
        .snapshot
        .host
        .sockets
        .iter()
        .flatten()
        .filter(|socket| socket.listening && socket.local.is_ipv6() && !socket.local.is_loopback())
        .map(|socket| format!("{}/{}", socket.protocol, socket.local_port))
        .collect();
    if !listening.is_empty() {
        finding = finding.evidence("sockets.txt", format!("listening on IPv6: {}", listening.join(", ")));
    }
    vec![finding.fix(
        "set FELIX_IPV6SUPPORT=true in Felix's environment file and restart Felix, after checking with `hepguard \
         failsafe` that SSH is on the IPv6 failsafe list; safe over an IPv4 SSH session",
    )]
}
