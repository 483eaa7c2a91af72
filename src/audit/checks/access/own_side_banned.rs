//! # HG223 own-side-banned
//!
//! ## What it checks
//! Sets and chains of automatic bans (fail2ban's `f2b-`, CrowdSec's `crowdsec`, sets called ban, black or block list)
//! against the host's own addresses, its gateways, resolvers, host endpoints and the peers of live SSH sessions.
//!
//! ## Why it matters
//! Bans are written by machines. One that hits the office, the proxy in front or the host itself locks out everybody
//! behind it, until it runs out or for good (cause F21).
//!
//! ## How to fix
//! Take the address off: `fail2ban-client set sshd unbanip ADDRESS`, `cscli decisions delete --ip ADDRESS`; then put it
//! on the ignore list (`ignoreip`, a whitelist).
//!
//! ## Limits
//! Ban lists are told by their names. Addresses in nft sets with intervals count as well.

use std::net::IpAddr;

use serde_json::json;

use crate::analysis::flows::FlowKind;
use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Bites, Finding, Severity};
use crate::audit::judged::Reason;
use crate::packet::{Direction, Family, address_bits};
use crate::ruleset::{Rule, Step, Verdict};

/// The check.
pub const CHECK: Check = Check {
    code: "HG223",
    name: "own-side-banned",
    severity: Severity::High,
    summary: "a ban list holds an address this host lives by: its own, its gateway, a resolver or a live session's",
    source: include_str!("own_side_banned.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let ruleset = context.ruleset();
    let sets = ruleset.ipsets.iter().chain(ruleset.tables.iter().flat_map(|table| &table.sets));
    let mut findings = Vec::new();
    for set in sets.filter(|set| is_ban_list(&set.name)) {
        for (address, what) in own_side(context) {
            if set.family.is_some_and(|family| family != Family::of(address)) {
                continue;
            }
            let bits = address_bits(address);
            if set.elements.keys().any(|key| key.first().is_some_and(|range| range.contains(bits))) {
                findings.push(finding(check, &set.source, set.line, &format!("set {}", set.name), address, &what));
            }
        }
    }
    for table in &ruleset.tables {
        for chain in table.chains.iter().filter(|chain| is_ban_list(&chain.name)) {
            for (address, what) in own_side(context) {
                let text = address.to_string();
                let names = |rule: &&Rule| {
                    let source = rule.text.split_whitespace().collect::<Vec<_>>();
                    let drops =
                        rule.steps.iter().any(|step| matches!(step, Step::Verdict(Verdict::Drop | Verdict::Reject(_))));
                    drops
                        && source
                            .windows(2)
                            .any(|pair| matches!(pair, ["-s" | "saddr", net] if net.split('/').next() == Some(&text)))
                };
                if let Some(rule) = chain.rules.iter().find(names) {
                    findings.push(finding(
                        check,
                        &table.source,
                        rule.line,
                        &format!("chain {}", chain.name),
                        address,
                        &what,
                    ));
                }
            }
        }
    }
    findings
}

fn finding(check: &Check, source: &str, line: u32, list: &str, address: IpAddr, what: &str) -> Finding {
    let title = format!("{list} bans {address}, {what}");
    Finding::new(check, json!({ "list": list, "address": address }), title)
        .bites(Bites::Reconnect)
        .evidence(if line > 0 { format!("{source}:{line}") } else { source.to_owned() }, format!("{list} holds {address}"))
        .fix(format!(
            "take it off (`fail2ban-client set JAIL unbanip {address}`, or the tool's own word) and put it on the tool's ignore list; \
             safe over SSH"
        ))
}

fn is_ban_list(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    !lower.starts_with("cali")
        && ["f2b", "fail2ban", "crowdsec", "banned", "blacklist", "blocklist", "denyhosts"]
            .iter()
            .any(|word| lower.contains(word))
}

/// Addresses whose ban hurts, with what they are.
fn own_side(context: &Context<'_>) -> Vec<(IpAddr, String)> {
    let host = &context.snapshot.host;
    let own = host.interfaces.iter().flatten().flat_map(|interface| &interface.addresses);
    let mut found: Vec<(IpAddr, String)> = own
        .filter(|own| &*own.scope == "global")
        .map(|own| (own.address, "this host's own address".to_owned()))
        .collect();
    let gateways =
        host.routes.iter().flatten().filter(|route| route.destination.length() == 0).filter_map(|route| route.gateway);
    found.extend(gateways.map(|gateway| (gateway, "the default gateway".to_owned())));
    for judged in &context.judged {
        let Reason::Flow(flow) = &judged.reason else { continue };
        let what = match flow.kind {
            FlowKind::Resolver => "a resolver",
            FlowKind::Datastore | FlowKind::Typha => "Felix's datastore",
            FlowKind::Caller => "where you come from",
            FlowKind::Session if flow.live && judged.packet.direction == Direction::In => "the peer of a live session",
            _ => continue,
        };
        found.push((flow.peer(), what.to_owned()));
    }
    found.sort();
    found.dedup_by_key(|(address, _)| *address);
    found
}
