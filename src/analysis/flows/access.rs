//! The way in: the caller's own session, sshd's ports, live sessions.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::{EPHEMERAL, Flow, FlowKind, Links, Seeker, is_link_local, somebody};
use crate::host::services::sshd;
use crate::host::{Host, Socket};
use crate::packet::{Family, Protocol};

/// Ports on which an sshd listens: by process name, else port 22 when somebody listens there. Empty when sockets are
/// unknown or no sshd listens.
#[must_use]
pub fn sshd_ports(host: &Host) -> BTreeSet<u16> {
    let listening = host.sockets.iter().flatten().filter(|s| s.listening && s.protocol == Protocol::TCP);
    listening
        .filter(|socket| !socket.local.is_loopback())
        .filter(|socket| match socket.process.as_deref() {
            Some(process) => process == "sshd" || process.starts_with("sshd-") || process == "dropbear",
            None => socket.local_port == 22,
        })
        .map(|socket| socket.local_port)
        .collect()
}

/// Whether somebody listens on `port` in `family`.
fn listens(host: &Host, port: u16, family: Family) -> bool {
    host.sockets.iter().flatten().any(|socket| {
        socket.listening
            && socket.local_port == port
            && (Family::of(socket.local) == family || (socket.local.is_unspecified() && socket.local.is_ipv6()))
    })
}

/// Beginnings of the names of agents that bring an administrator in; the kernel keeps 15 bytes of a name.
const FALLBACKS: [&str; 8] = [
    "amazon-ssm",
    "ssm-agent",
    "ssm-session",
    "tailscaled",
    "cloudflared",
    "teleport",
    "google_osconfig",
    "AADSSHLogin",
];

impl Seeker<'_> {
    /// `SSH_CONNECTION` of whoever called hepguard, else of the one session that `who` shows.
    pub(super) fn caller(&mut self) {
        let Some(text) = self.text("caller.txt") else { return };
        for (line, number) in text.lines().zip(1..).take(16) {
            let Some(value) = line.trim().strip_prefix("SSH_CONNECTION=") else { continue };
            let words: Vec<&str> = value.split_whitespace().collect();
            let [peer, _, local, port] = words.as_slice() else { continue };
            let ends = (peer.parse::<IpAddr>(), local.parse::<IpAddr>(), port.parse::<u16>());
            let (Ok(peer), Ok(local), Ok(port)) = ends else { continue };
            let Some(packet) = self.links.incoming(Protocol::TCP, (peer, EPHEMERAL), Some(local), port) else {
                continue;
            };
            let mut flow = Flow::new(
                FlowKind::Caller,
                format!("your SSH session (tcp/{port}) from {peer}"),
                format!("caller.txt:{number}"),
                format!("hepguard was called from this session, {peer} to {local}:{port}"),
                packet,
            );
            flow.live = true;
            self.found.push(flow);
        }
    }

    /// Ports sshd listens on, or is to listen on when it starts next.
    pub(super) fn ssh_in(&mut self) {
        let mut ports: BTreeMap<u16, (String, String)> = BTreeMap::new();
        for port in sshd_ports(self.host) {
            ports.insert(port, ("sockets.txt".to_owned(), format!("sshd listens on port {port}")));
        }
        let config = |name: &str| {
            name == "etc/ssh/sshd_config" || (name.starts_with("etc/ssh/sshd_config.d/") && name.ends_with(".conf"))
        };
        let unit = |name: &str| matches!(name, "units/ssh.socket" | "units/sshd.socket");
        // a socket unit listens in place of what the configuration says
        let sockets = self.texts(unit);
        let (files, socket) = if sockets.is_empty() { (self.texts(config), false) } else { (sockets, true) };
        for (file, text) in files {
            let found = if socket { sshd::socket_ports(&text) } else { sshd::ports(&text) };
            for (port, line) in found {
                let evidence = format!("sshd is to listen on port {port}");
                ports.entry(port).or_insert_with(|| (format!("{file}:{line}"), evidence));
            }
        }
        for (port, (source, evidence)) in ports {
            let configured = source != "sockets.txt";
            for family in [Family::Ipv4, Family::Ipv6] {
                if !configured && !listens(self.host, port, family) {
                    continue;
                }
                let Some(packet) = self.links.incoming(Protocol::TCP, (somebody(family), EPHEMERAL), None, port) else {
                    continue;
                };
                if is_link_local(packet.dst) {
                    continue;
                }
                let name = format!("SSH in (tcp/{port}, {family})");
                self.found.push(Flow::new(FlowKind::SshIn, name, source.clone(), evidence.clone(), packet));
            }
        }
    }

    /// Sessions between this host and others, from the socket table and from conntrack.
    pub(super) fn sessions(&mut self) {
        let host = self.host;
        let sockets = || host.sockets.iter().flatten();
        let listening: BTreeSet<(u8, u16)> =
            sockets().filter(|s| s.listening).map(|s| (s.protocol.0, s.local_port)).collect();
        for socket in sockets().filter(|socket| !socket.local.is_loopback()) {
            let Some(peer) = socket.peer else { continue };
            let mine = (socket.local, socket.local_port);
            let flow = session(&self.links, &listening, socket.protocol, mine, peer, Some(socket));
            self.found.extend(flow);
        }
        for tracked in host.sessions.iter().flatten() {
            let (Some(sport), Some(dport)) = (tracked.original.sport, tracked.original.dport) else { continue };
            let ends = [(tracked.original.src, sport), (tracked.reply.src, dport)];
            let local: Vec<bool> = ends.iter().map(|(address, _)| host.is_local(*address) == Some(true)).collect();
            let (mine, theirs) = match local.as_slice() {
                [true, false] => (ends[0], ends[1]),
                [false, true] => (ends[1], ends[0]),
                _ => continue,
            };
            self.found.extend(session(&self.links, &listening, tracked.protocol, mine, theirs, None));
        }
    }
}

fn session(
    links: &Links<'_>,
    listening: &BTreeSet<(u8, u16)>,
    protocol: Protocol,
    (local, local_port): (IpAddr, u16),
    (peer, peer_port): (IpAddr, u16),
    socket: Option<&Socket>,
) -> Option<Flow> {
    let process = socket.and_then(|socket| socket.process.as_deref());
    let who = process.map(|name| format!(" of {name}")).unwrap_or_default();
    let source = if socket.is_some() { "sockets.txt" } else { "conntrack.txt" };
    let evidence = format!("live session{who} {local}:{local_port} with {peer}:{peer_port}");
    let (name, packet) = if listening.contains(&(protocol.0, local_port)) {
        let name = format!("{protocol}/{local_port} in from {peer}");
        (name, links.incoming(protocol, (peer, EPHEMERAL), Some(local), local_port)?)
    } else {
        let name = format!("{protocol}/{peer_port} out to {peer}");
        (name, links.outgoing(protocol, Some(local), EPHEMERAL, (peer, peer_port))?)
    };
    let is_fallback = process.is_some_and(|name| FALLBACKS.iter().any(|known| name.starts_with(known)));
    let kind = if is_fallback { FlowKind::Fallback } else { FlowKind::Session };
    let mut flow = Flow::new(kind, name, source, evidence, packet);
    flow.live = true;
    Some(flow)
}
