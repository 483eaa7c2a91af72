//! # HG101 failsafe-in-missing
//!
//! ## What it checks
//! That the port of every listening sshd is in the inbound failsafe chain of each family it listens on (port 22 when no
//! sockets were read).
//!
//! ## Why it matters
//! The inbound failsafe for SSH is the way back in when a policy is wrong. Without it a single policy, tier order or label
//! change can lock every admin out. Live sessions hide it: they are ESTABLISHED and go on until they break.
//!
//! ## How to fix
//! Add the port to `FELIX_FAILSAFEINBOUNDHOSTPORTS` (the variable replaces the whole default list, so write all entries),
//! restart Felix, and check with `hepguard failsafe`.
//!
//! ## Limits
//! Looks at the chain that decides (the filter table's). Entries limited to a network count as present.

use serde_json::json;

use crate::analysis::flows::sshd_ports;
use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Bites, Finding, Severity};
use crate::calico::failsafe::{Direction, FAMILIES, KernelState};
use crate::packet::{Family, Protocol};

/// The check.
pub const CHECK: Check = Check {
    code: "HG101",
    name: "failsafe-in-missing",
    severity: Severity::High,
    summary: "sshd's port is not in the inbound failsafe list of the kernel",
    source: include_str!("missing_in.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let report = context.failsafe.direction(Direction::In);
    let mut findings = Vec::new();
    for family in FAMILIES.into_iter().filter(|family| report.kernel_state(*family) == KernelState::Programmed) {
        for port in ports(context, family) {
            let listed = |entry: &crate::calico::settings::Entry| entry.protocol == Protocol::TCP && entry.port == port;
            let chains: Vec<_> = report.deciding(family).collect();
            if chains.iter().any(|chain| chain.list().any(|entry| listed(&entry))) {
                continue;
            }
            let mut finding = Finding::new(
                check,
                json!({ "family": family.name(), "direction": "in", "proto": "tcp", "port": port }),
                format!("SSH (tcp/{port}) is not in the inbound failsafe list of the kernel ({family})"),
            )
            .bites(Bites::Reconnect);
            for chain in &chains {
                let entries: Vec<String> = chain.list().map(|entry| entry.to_string()).collect();
                let text = if entries.is_empty() { "no entries".to_owned() } else { entries.join(" ") };
                finding = finding.evidence(chain.title(), text);
            }
            // IPv6 matters only to those who come over IPv6; HG103 says the rest
            let in_use = family == Family::Ipv4 || has_global_ipv6(context);
            findings.push(if in_use { finding } else { finding.severity(Severity::Low) }.fix(format!(
                "add tcp:{port} to FELIX_FAILSAFEINBOUNDHOSTPORTS (write the whole list, it replaces the defaults) and \
                 restart Felix; safe over SSH while policy admits your session"
            )));
        }
    }
    findings
}

/// sshd's ports in this family; 22 when no socket is known.
fn ports(context: &Context<'_>, family: Family) -> Vec<u16> {
    let host = &context.snapshot.host;
    if host.sockets.is_none() {
        return vec![22];
    }
    let listens = |port: u16| {
        host.sockets.iter().flatten().any(|socket| {
            let dual = socket.local.is_ipv6() && socket.local.is_unspecified();
            socket.listening && socket.local_port == port && (Family::of(socket.local) == family || dual)
        })
    };
    sshd_ports(host).into_iter().filter(|port| listens(*port)).collect()
}

fn has_global_ipv6(context: &Context<'_>) -> bool {
    let interfaces = context.snapshot.host.interfaces.iter().flatten();
    interfaces.flat_map(|i| &i.addresses).any(|a| a.address.is_ipv6() && &*a.scope == "global")
}
