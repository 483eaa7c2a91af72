//! # HG232 multiplexing-hides-refusal
//!
//! ## What it checks
//! Live sessions of this host's SSH client that would not be admitted as new ones, where the client's configuration shares one
//! connection among many logins (`ControlMaster`).
//!
//! ## Why it matters
//! A second `ssh` to the same host takes the open connection: it works, whatever the rules say of new ones. Who tests a change so
//! believes the port is open, and it is dead for everybody else, and for him after the master ends (cause F24).
//!
//! ## How to fix
//! Test with `ssh -S none HOST true`, which opens a connection of its own. Then repair policy as HG202 says.
//!
//! ## Limits
//! Only the system's configuration is read, not `~/.ssh/config`, and conditions (`Host`, `Match`) are not evaluated.

use serde_json::json;

use crate::audit::check::Check;
use crate::audit::context::Context;
use crate::audit::finding::{Bites, Finding, Severity};
use crate::audit::judged::Reason;
use crate::packet::{Direction, Protocol};

/// The check.
pub const CHECK: Check = Check {
    code: "HG232",
    name: "multiplexing-hides-refusal",
    severity: Severity::Medium,
    summary: "SSH logins share an open connection, and a new one would be refused: a test proves nothing",
    source: include_str!("multiplexed.rs"),
    run,
};

fn run(context: &Context<'_>, check: &Check) -> Vec<Finding> {
    let Some((place, text)) = shares(context) else { return Vec::new() };
    let refused = context.judged.iter().filter(|judged| judged.is_refused());
    let ssh = refused.filter_map(|judged| match &judged.reason {
        Reason::Flow(flow) if flow.live && judged.packet.direction == Direction::Out => Some((judged, flow)),
        _ => None,
    });
    let ssh = ssh.filter(|(judged, _)| {
        let packet = &judged.packet;
        let client = |socket: &crate::host::Socket| {
            socket.peer.is_some_and(|(peer, port)| peer == packet.dst && Some(port) == packet.dport)
                && socket.process.as_deref() == Some("ssh")
        };
        let mut sockets = context.snapshot.host.sockets.iter().flatten();
        packet.protocol == Protocol::TCP && (packet.dport == Some(22) || sockets.any(client))
    });
    ssh.map(|(judged, flow)| {
        let title = format!("{} would be refused anew, and a shared connection hides that", flow.name);
        Finding::new(check, json!({ "flow": flow.name }), title)
            .bites(Bites::Reconnect)
            .witness(judged.witness())
            .evidence(&place, &text)
            .evidence(&flow.source, &flow.evidence)
            .fix(format!("test with `ssh -S none {} true`; safe over SSH", flow.peer()))
    })
    .collect()
}

/// The line that has connections shared.
fn shares(context: &Context<'_>) -> Option<(String, String)> {
    let files = &context.snapshot.files;
    let named = |name: &str| name == "etc/ssh/ssh_config" || name.starts_with("etc/ssh/ssh_config.d/");
    files.below("etc/ssh/").filter(|(name, _)| named(name)).find_map(|(name, bytes)| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let found = text.lines().zip(1..).find(|(line, _)| {
            let mut words = line.split(|c: char| c.is_whitespace() || c == '=').filter(|word| !word.is_empty());
            let key = words.next().is_some_and(|word| word.eq_ignore_ascii_case("ControlMaster"));
            key && words.next().is_some_and(|word| !word.eq_ignore_ascii_case("no"))
        });
        found.map(|(line, number)| (format!("{}:{number}", files.label(name)), line.trim().to_owned()))
    })
}
