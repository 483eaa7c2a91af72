//! # HG226 dns-policy-without-resolver
//!
//! ## What it checks
//! Rules with `destination.domains` in the exported policies, or Felix's sets of domains in the kernel, against the
//! resolvers of resolv.conf and `DNSTrustedServers`.
//!
//! ## Why it matters
//! Felix learns the addresses of names from answers of trusted servers only. Asking another one works, no address is
//! learned, the set stays empty and the Allow does nothing (cause C19).
//!
//! ## How to fix
//! Add the resolvers to `dnsTrustedServers` of the FelixConfiguration, behind a stub its upstreams.
//!
//! ## Limits
//! The default, `k8s-service:kube-dns`, has no address here: on a host that does not use it, no resolver is trusted.

use std::net::IpAddr;

use serde_json::json;

use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Bites, Finding, Severity};
use crate::calico::names::Direction;
use crate::calico::resources::Spec;

/// The check.
pub const CHECK: Check = Check {
    code: "HG226",
    name: "dns-policy-without-resolver",
    severity: Severity::High,
    summary: "policy allows by domain names, and the host asks resolvers that Felix does not trust",
    source: include_str!("untrusted_resolver.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let files = &context.snapshot.files;
    let resources = &context.snapshot.resources;
    let mut evidence: Vec<(String, String)> = Vec::new();
    for resource in resources.iter() {
        let Spec::Policy(policy) = &resource.spec else { continue };
        for rule in policy.rules(Direction::Out).iter().filter(|rule| !rule.destination.domains.is_empty()) {
            let place = format!("{}:{}", resource.meta.place.file, rule.line);
            evidence.push((
                place,
                format!("{} allows by {} domain names", resource.meta.title(), rule.destination.domains.len()),
            ));
        }
    }
    let sets = context
        .ruleset()
        .ipsets
        .iter()
        .filter(|set| set.name.starts_with("cali40d:") || set.name.starts_with("cali60d:"));
    evidence.extend(sets.map(|set| (set.source.to_string(), format!("set {} of domain names", set.name))));
    let trusted = trusted(context).unwrap_or_else(|| "k8s-service:kube-dns".to_owned());
    let text = files.bytes("resolv.conf").map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default();
    let servers = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver")?.split_whitespace().next()?.parse::<IpAddr>().ok());
    let named = |server: &IpAddr| {
        trusted.split([',', ' ']).any(|entry| {
            let entry = entry.trim_matches(['"', '\'', ' ', '[', ']']);
            entry.parse::<IpAddr>() == Ok(*server)
                || entry
                    .rsplit_once(':')
                    .is_some_and(|(address, _)| address.trim_matches(['[', ']']).parse::<IpAddr>() == Ok(*server))
        })
    };
    let untrusted: Vec<IpAddr> = servers.filter(|server| !server.is_loopback() && !named(server)).collect();
    if evidence.is_empty() || untrusted.is_empty() {
        return Vec::new();
    }
    let list: Vec<String> = untrusted.iter().map(ToString::to_string).collect();
    let title = format!(
        "policy allows by domain names, and Felix does not trust the resolver {}: nothing is learned from it",
        list.join(", ")
    );
    let mut finding = Finding::new(check, json!({ "resolvers": list }), title).bites(Bites::Now);
    for (source, text) in evidence.into_iter().take(4) {
        finding = finding.evidence(source, text);
    }
    let finding = finding.evidence("dnsTrustedServers", &*trusted);
    vec![finding.fix(format!("add {} to dnsTrustedServers of the FelixConfiguration; safe over SSH", list.join(", ")))]
}

/// The parameter where a file sets it, in whatever form; open-source Felix does not know it.
fn trusted(context: &Context<'_>) -> Option<String> {
    let names = ["felix/environ", "felix/calico.env", "felix/felix.cfg"];
    let files = &context.snapshot.files;
    let texts = names.iter().filter_map(|name| files.bytes(name)).chain(files.below("calico/").map(|(_, bytes)| bytes));
    for text in texts.map(String::from_utf8_lossy) {
        let mut lines = text.split(['\n', '\0']);
        while let Some(line) = lines.next() {
            let Some(at) = line.to_ascii_lowercase().find("dnstrustedservers") else { continue };
            let first = line.get(at + "dnstrustedservers".len()..).unwrap_or_default();
            let mut value = first.trim_start_matches([':', '=', ' ']).to_owned();
            for item in lines.by_ref().take(32).map_while(|line| line.trim().strip_prefix("- ")) {
                value.push(' ');
                value.push_str(item);
            }
            return Some(value);
        }
    }
    None
}
