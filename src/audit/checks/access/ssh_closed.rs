//! # HG219 ssh-closed
//!
//! ## What it checks
//! For every port that sshd listens on, or is configured to listen on: a new connection from an address out there, and from
//! where SSH sessions come now (`who`, live sessions); where nobody is here, from every address that rules and sets speak of
//! (causes C02, F04, F05, F06). Not one of them gets through.
//!
//! ## Why it matters
//! The session you hold is the last one. An sshd on another port than 22 is the usual reason: the failsafe list and
//! policy open 22, and tooling that resets the port closes the one in use.
//!
//! ## How to fix
//! Admit the port from where admins come, in policy and on the inbound failsafe list. Prove it with a second, new
//! connection.
//!
//! ## Limits
//! At most 48 addresses are tried for each port. `hepguard reach in tcp/PORT` gives the exact set of who gets in.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::json;

use crate::analysis::conversation::{Outcome, Ways, converse};
use crate::analysis::flows::{EPHEMERAL, FlowKind, Links, sshd_ports};
use crate::analysis::trace::{Engine, TraceOptions};
use crate::analysis::worlds::spoken_of;
use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Bites, Finding, Severity};
use crate::audit::judged::Reason;
use crate::packet::{Family, Protocol};

/// The check.
pub const CHECK: Check = Check {
    code: "HG219",
    name: "ssh-closed",
    severity: Severity::Critical,
    summary: "no new SSH login gets in, neither from outside nor from where admins come now",
    source: include_str!("ssh_closed.rs"),
    run,
};

/// Addresses tried for each port.
const MAX_TRIED: usize = 48;

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let snapshot = context.snapshot;
    let mut findings = Vec::new();
    let mut engine: Option<Engine<'_>> = None;
    for judged in &context.judged {
        let Reason::Flow(flow) = &judged.reason else { continue };
        let (FlowKind::SshIn, true, Some(port)) = (flow.kind, judged.is_refused(), judged.packet.dport) else {
            continue;
        };
        let family = judged.packet.family();
        let engine = engine.get_or_insert_with(|| Engine::new(&snapshot.ruleset, &snapshot.host));
        let links = Links::new(&snapshot.host);
        // HG228 tells of one version that works
        let other = context.judged.iter().any(|other| {
            let ssh = matches!(&other.reason, Reason::Flow(flow) if flow.kind == FlowKind::SshIn);
            let twin = ssh && other.packet.dport == Some(port) && other.packet.family() != family;
            twin && !other.is_refused() && family == Family::Ipv6
        });
        if other {
            continue;
        }
        let peers = peers(context, family);
        let shut = |peer: &IpAddr| {
            let Some(packet) = links.incoming(Protocol::TCP, (*peer, EPHEMERAL), None, port) else { return true };
            converse(engine, &packet, &Ways::default(), &TraceOptions::default()).outcome == Outcome::Broken
        };
        if !peers.iter().all(shut) {
            continue;
        }
        let subject = json!({ "family": family.name(), "direction": "in", "proto": "tcp", "port": port });
        let title =
            format!("no new SSH login gets in on tcp/{port} over {family}: {} addresses tried", peers.len() + 1);
        let mut finding = Finding::new(check, subject, title).bites(Bites::Reconnect).witness(judged.witness());
        // few have IPv6 as their only way in
        if family == Family::Ipv6 {
            finding = finding.severity(Severity::High);
        }
        if let Some((place, text)) = &judged.decided {
            finding = finding.evidence(place, text);
        }
        let fix = format!(
            "keep this session open; admit tcp/{port} from where admins come, in policy or as tcp:{port} on the inbound failsafe \
             list, and prove it with a second connection; `hepguard reach in tcp/{port}` shows who gets in"
        );
        findings.push(finding.evidence(&flow.source, &flow.evidence).fix(fix));
    }
    findings
}

/// Where admins come from now; where nobody is here, addresses that rules speak of.
fn peers(context: &Context<'_>, family: Family) -> BTreeSet<IpAddr> {
    let spoken = spoken_of(&context.snapshot.ruleset, family, MAX_TRIED);
    let address = |bits: u128| match family {
        Family::Ipv6 => Some(IpAddr::V6(bits.into())),
        _ => Some(IpAddr::V4(u32::try_from(bits).ok()?.into())),
    };
    let ports = sshd_ports(&context.snapshot.host);
    let sockets = context.snapshot.host.sockets.iter().flatten().filter(|socket| ports.contains(&socket.local_port));
    let live: Vec<IpAddr> = sockets.filter_map(|socket| Some(socket.peer?.0)).collect();
    let who = context.snapshot.files.bytes("who.txt").map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let who: Vec<IpAddr> = who
        .iter()
        .flat_map(|text| text.split(|c: char| c.is_whitespace() || matches!(c, '(' | ')')))
        .filter_map(|word| word.parse().ok())
        .collect();
    let usable = |peer: &IpAddr| {
        Family::of(*peer) == family
            && !peer.is_loopback()
            && !peer.is_unspecified()
            && !peer.is_multicast()
            && context.snapshot.host.is_local(*peer) != Some(true)
    };
    let admins: BTreeSet<IpAddr> = live.into_iter().chain(who).filter(usable).take(MAX_TRIED).collect();
    if admins.is_empty() { spoken.into_iter().filter_map(address).filter(usable).collect() } else { admins }
}
