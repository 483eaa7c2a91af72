//! What Felix itself needs: its datastore, Typha, the failsafe lists.

use super::{EPHEMERAL, Flow, FlowKind, Seeker, somebody};
use crate::calico::failsafe::{Direction as ListDirection, kernel};
use crate::calico::settings::sources;
use crate::calico::settings::{Entry, envfile};
use crate::host::services::{Destination, host_and_port, url};
use crate::packet::{Family, Packet, Prefix, Protocol};

/// Typha's port.
const TYPHA: u16 = 5473;

/// Processes that are Felix.
const FELIX: [&str; 4] = ["calico-node", "cnx-node", "calico-felix", "felix"];

impl Seeker<'_> {
    /// Datastore and Typha, from Felix's settings, its kubeconfig and its sessions.
    pub(super) fn calico(&mut self) {
        let settings = sources::read(&self.snapshot.files).disk.settings;
        let setting = |name: &str| -> Option<(String, String)> {
            let value = settings.text(name).filter(|value| !value.is_empty())?;
            let place = settings.get(name)?.place?;
            Some((value.into_string(), place.to_string()))
        };
        if let Some((value, place)) = setting("TyphaAddr")
            && let Some((peer, port)) = host_and_port(&value)
        {
            let to = Destination { peer, protocol: Protocol::TCP, port: port.unwrap_or(TYPHA), line: 0 };
            self.named(FlowKind::Typha, "Typha", &place, &to);
        }
        let kubernetes = setting("DatastoreType").is_some_and(|(value, _)| value.eq_ignore_ascii_case("kubernetes"));
        if !kubernetes {
            for name in ["EtcdEndpoints", "EtcdAddr"] {
                let Some((value, place)) = setting(name) else { continue };
                for part in value.split(',').map(str::trim) {
                    let peer = url(part).or_else(|| host_and_port(part).and_then(|(peer, port)| Some((peer, port?))));
                    let Some((peer, port)) = peer else { continue };
                    let to = Destination { peer, protocol: Protocol::TCP, port, line: 0 };
                    self.named(FlowKind::Datastore, "Calico datastore (etcd)", &place, &to);
                }
            }
        }
        self.kubernetes();
        self.felix_sessions();
    }

    /// The API server, from the cleaned kubeconfig or from the environment.
    fn kubernetes(&mut self) {
        if let Some(text) = self.text("felix/kubeconfig") {
            for (line, number) in text.lines().zip(1..) {
                let Some(value) = line.trim().trim_start_matches("- ").strip_prefix("server:") else { continue };
                let Some((peer, port)) = url(value.trim()) else { continue };
                let to = Destination { peer, protocol: Protocol::TCP, port, line: number };
                self.out(FlowKind::Datastore, "Calico datastore (Kubernetes API)", "felix/kubeconfig", &to, None);
            }
        }
        let Some(bytes) = self.snapshot.files.bytes("felix/calico.env") else { return };
        let file = std::sync::Arc::from(self.snapshot.files.label("felix/calico.env"));
        let variables = envfile::systemd(&file, bytes).variables;
        let value = |name: &str| variables.iter().rev().find(|variable| variable.name == name);
        let endpoint = value("K8S_API_ENDPOINT").or_else(|| value("FELIX_K8S_API_ENDPOINT"));
        if let Some(variable) = endpoint
            && let Some((peer, port)) = url(&variable.value)
        {
            let to = Destination { peer, protocol: Protocol::TCP, port, line: 0 };
            self.named(FlowKind::Datastore, "Calico datastore (Kubernetes API)", &variable.place.to_string(), &to);
        } else if let Some(host) = value("KUBERNETES_SERVICE_HOST")
            && let Some((peer, _)) = host_and_port(&host.value)
        {
            let port = value("KUBERNETES_SERVICE_PORT").and_then(|port| port.value.parse().ok()).unwrap_or(443);
            let to = Destination { peer, protocol: Protocol::TCP, port, line: 0 };
            self.named(FlowKind::Datastore, "Calico datastore (Kubernetes API)", &host.place.to_string(), &to);
        }
    }

    /// A destination whose place is known as a whole.
    fn named(&mut self, kind: FlowKind, what: &str, place: &str, to: &Destination) {
        let (file, line) = place.rsplit_once(':').unwrap_or((place, "0"));
        let to = Destination { line: line.parse().unwrap_or(0), ..to.clone() };
        self.out(kind, what, file, &to, None);
    }

    /// Whom the running Felix talks to: Typha by its port, else the datastore.
    fn felix_sessions(&mut self) {
        for socket in self.host.sockets.iter().flatten().filter(|socket| !socket.local.is_loopback()) {
            let (Some((peer, port)), Some(process)) = (socket.peer, socket.process.as_deref()) else { continue };
            if !FELIX.contains(&process) || socket.protocol != Protocol::TCP {
                continue;
            }
            let (kind, what) = match port {
                TYPHA => (FlowKind::Typha, "Typha"),
                2379 | 4001 => (FlowKind::Datastore, "Calico datastore (etcd)"),
                443 | 6443 | 8443 => (FlowKind::Datastore, "Calico datastore (Kubernetes API)"),
                _ => continue,
            };
            let local = Some(socket.local);
            let Some(packet) = self.links.outgoing(Protocol::TCP, local, EPHEMERAL, (peer, port)) else { continue };
            let evidence =
                format!("live session of {process} {}:{} with {peer}:{port}", socket.local, socket.local_port);
            let mut flow = Flow::new(kind, format!("{what} (tcp/{port}) to {peer}"), "sockets.txt", evidence, packet);
            flow.live = true;
            self.found.push(flow);
        }
    }

    /// Every entry of the failsafe lists in the kernel.
    pub(super) fn failsafes(&mut self) {
        for direction in ListDirection::ALL {
            let chains = kernel::chains(&self.snapshot.ruleset, direction);
            for chain in chains.iter().filter(|chain| chain.table == kernel::Layer::Filter) {
                for entry in &chain.entries {
                    let Some(packet) = self.entry_packet(direction, entry.entry, chain.family) else { continue };
                    let name = format!(
                        "failsafe {} {} ({})",
                        if direction == ListDirection::In { "in" } else { "out" },
                        entry.entry,
                        chain.family
                    );
                    let source = match entry.line {
                        0 => chain.title(),
                        line => format!("{}:{line}", chain.place.file),
                    };
                    let evidence = format!("rule {} of {}", entry.rule, chain.title());
                    self.found.push(Flow::new(FlowKind::Failsafe, name, source, evidence, packet));
                }
            }
        }
    }

    fn entry_packet(&self, direction: ListDirection, entry: Entry, family: Family) -> Option<Packet> {
        let peer = entry.net.map_or_else(|| somebody(family), |net| a_host_of(net, family));
        let sport = if entry.protocol == Protocol::UDP && entry.port == 67 { 68 } else { EPHEMERAL };
        match direction {
            ListDirection::In => self.links.incoming(entry.protocol, (peer, sport), None, entry.port),
            ListDirection::Out => self.links.outgoing(entry.protocol, None, sport, (peer, entry.port)),
        }
    }
}

/// An address of a net that a host may have: not the net's own; for a net of all addresses anybody's.
pub(super) fn a_host_of(net: Prefix, family: Family) -> std::net::IpAddr {
    if net.length() == 0 {
        return somebody(family);
    }
    match net.address() {
        std::net::IpAddr::V4(address) if net.length() < 31 => {
            std::net::IpAddr::V4(std::net::Ipv4Addr::from(u32::from(address).saturating_add(1)))
        }
        std::net::IpAddr::V6(address) if net.length() < 127 => {
            std::net::IpAddr::V6(std::net::Ipv6Addr::from(u128::from(address).saturating_add(1)))
        }
        address => address,
    }
}
