//! # HG104 flow-masked-by-failsafe
//!
//! ## What it checks
//! Flows that must work, and entries that the next restart of Felix takes off the list: whether policy alone would admit
//! them. Each is judged twice, with the failsafe chains and without, as a whole conversation: answers must come through,
//! too.
//!
//! ## Why it matters
//! A deny behind a failsafe does nothing, so nobody notices it. When somebody trims the list later, the flow dies, and
//! neither change alone looks dangerous. This is the outage of the training lab: a policy denies SSH, the failsafe masks
//! it, an edit of the environment file and a restart of Felix take the failsafe away (cause C01).
//!
//! ## How to fix
//! Let policy admit the flow (an Allow rule before the Deny, in the tier that denies), or keep the failsafe entry and write
//! down why. Check with `hepguard trace` and the packet given.
//!
//! ## Limits
//! For entries that go, the peers tried are those that rules and IP sets speak of, and one address for everybody else.
//! Flows nobody would miss (a default port nothing uses) are not reported.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde_json::json;

use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Bites, Finding, Severity};
use crate::audit::judged::{Judged, Reason};
use crate::packet::{Direction, Protocol};

/// The check.
pub const CHECK: Check = Check {
    code: "HG104",
    name: "flow-masked-by-failsafe",
    severity: Severity::Medium,
    summary: "policy denies a flow that only the failsafe list keeps alive",
    source: include_str!("masked.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let mut groups: BTreeMap<(bool, &'static str, u8, u16), Vec<&Judged>> = BTreeMap::new();
    for judged in context.judged.iter().filter(|judged| judged.is_masked()) {
        let inbound = judged.packet.direction == Direction::In;
        let key = (inbound, judged.packet.family().name(), judged.packet.protocol.0, judged.packet.dport.unwrap_or(0));
        groups.entry(key).or_default().push(judged);
    }
    groups.into_iter().filter_map(|(key, group)| finding(check, key, &group)).collect()
}

fn finding(check: &Check, key: (bool, &'static str, u8, u16), group: &[&Judged]) -> Option<Finding> {
    let (inbound, family, protocol, port) = key;
    let first = group.iter().find(|judged| matches!(judged.reason, Reason::Flow(_))).or(group.first())?;
    let goes = group.iter().any(|judged| judged.removed_at_restart);
    let needed = group.iter().any(|judged| matches!(judged.reason, Reason::Flow(_)));
    let service = service(protocol, port);
    let (way, word) = if inbound { ("in", "from") } else { ("out", "to") };
    let peer_of = |judged: &&Judged| if inbound { judged.packet.src } else { judged.packet.dst };
    let peers: BTreeSet<IpAddr> = group.iter().map(peer_of).collect();
    let others = if peers.len() > 1 { format!(" and {} more", peers.len() - 1) } else { String::new() };
    let peer = peer_of(first);
    let fate = if goes { "; the next restart of Felix removes the entry" } else { "" };
    let protocol_name = Protocol(protocol);
    let title =
        format!("{service} {way} ({protocol_name}/{port}) {word} {peer}{others} lives only by the failsafe list{fate}");
    let subject = json!({ "family": family, "direction": way, "proto": protocol_name.to_string(), "port": port });
    let severity = match (goes, needed || port == 22) {
        (true, true) => Severity::Critical,
        (true, false) => Severity::High,
        (false, _) => Severity::Medium,
    };
    let mut finding =
        Finding::new(check, subject, title).severity(severity).bites(Bites::FelixRestart).witness(first.witness());
    if let Some((place, text)) = &first.decided {
        finding = finding.evidence(place, format!("admits it now: {text}"));
    }
    if let Some((place, text)) = &first.no_failsafe_decided {
        finding = finding.evidence(place, format!("would refuse {}: {text}", first.refused_alone()));
    }
    if let Reason::Flow(flow) = &first.reason {
        finding = finding.evidence(&flow.source, &flow.evidence);
    }
    if peers.len() > 1 {
        let shown: Vec<String> = peers.iter().take(8).map(ToString::to_string).collect();
        finding = finding.evidence("peers that policy refuses", shown.join(", "));
    }
    let keep = if goes {
        format!(
            "put the entry for {protocol_name}/{port} back into the list before Felix restarts, or let policy admit it"
        )
    } else {
        "let policy admit it (an Allow before the Deny named above), or keep the entry and write down why".to_owned()
    };
    Some(finding.fix(format!("{keep}; both are safe over SSH")))
}

/// What people call the port.
fn service(protocol: u8, port: u16) -> &'static str {
    match (protocol, port) {
        (6, 22) => "SSH",
        (6 | 17, 53) => "DNS",
        (17, 67 | 68) => "DHCP",
        (17, 123) => "NTP",
        (6, 179) => "BGP",
        (6, 2379 | 2380 | 6666 | 6667) => "etcd",
        (6, 5473) => "Typha",
        (6, 6443) => "the Kubernetes API",
        (6, 443) => "HTTPS",
        _ => "traffic",
    }
}
