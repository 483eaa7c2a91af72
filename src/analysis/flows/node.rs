//! What a cluster node owes its cluster, and what a host owes itself where the wildcard endpoint polices loopback.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{EPHEMERAL, Flow, FlowKind, Links, Seeker, somebody};
use crate::calico::integrity::plain_name;
use crate::calico::names::{ChainRole, WILDCARD_ENDPOINT, chain_role};
use crate::packet::{Family, Protocol};

const KUBELET: u16 = 10_250;

/// Metrics that others fetch: port and what it is.
const METRICS: [(u16, &str); 4] =
    [(9091, "Felix's metrics"), (9100, "node metrics"), (9093, "Typha's metrics"), (10_256, "kube-proxy's health")];

impl Seeker<'_> {
    /// Kubelet from the control plane, and metrics from wherever they are fetched.
    pub(super) fn node(&mut self) {
        let listening = |port: u16| {
            let mut sockets = self.host.sockets.iter().flatten();
            sockets
                .find(|s| s.listening && s.protocol == Protocol::TCP && s.local_port == port && !s.local.is_loopback())
        };
        let datastore = self.found.iter().find(|flow| flow.kind == FlowKind::Datastore);
        let control = datastore.map_or_else(|| somebody(Family::Ipv4), Flow::peer);
        let mut found = Vec::new();
        let services = [(KUBELET, "kubelet")].into_iter().chain(METRICS);
        for (port, what) in services {
            let Some(socket) = listening(port) else { continue };
            let who = socket.process.as_deref().unwrap_or("somebody");
            let Some(packet) = self.links.incoming(Protocol::TCP, (control, EPHEMERAL), None, port) else { continue };
            let name = format!("{what} (tcp/{port}) in from {control}");
            let evidence = format!("{who} listens on port {port}");
            found.push(Flow::new(FlowKind::Node, name, "sockets.txt", evidence, packet));
        }
        self.found.extend(found);
    }

    /// The chain of the wildcard endpoint, which polices every interface, `lo` too.
    fn wildcard(&self) -> Option<String> {
        for table in &self.snapshot.ruleset.tables {
            for chain in &table.chains {
                if let Some(ChainRole::HostEndpoint { interface: WILDCARD_ENDPOINT, forward: false, .. }) =
                    chain_role(plain_name(&chain.name))
                {
                    return Some(format!("{} {}", table.source, chain.name));
                }
            }
        }
        None
    }

    pub(super) fn loopback(&mut self) {
        let Some(source) = self.wildcard() else { return };
        let sockets: Vec<_> =
            self.host.sockets.iter().flatten().filter(|s| s.listening && s.protocol == Protocol::TCP).collect();
        let own =
            self.host.interfaces.iter().flatten().filter(|one| one.up && !one.loopback).flat_map(|one| &one.addresses);
        let own: Vec<IpAddr> = own.filter(|own| &*own.scope == "global").map(|own| own.address).collect();
        let local = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        let mut first = own.iter().filter(|own| own.is_ipv4()).take(1).collect::<Vec<_>>();
        first.extend(own.iter().filter(|own| own.is_ipv6()).take(1));
        for address in local.iter().chain(first) {
            let reaches = |socket: &&&crate::host::Socket| {
                socket.local == *address
                    || (socket.local.is_unspecified() && (socket.local.is_ipv6() || address.is_ipv4()))
            };
            let Some(socket) = sockets.iter().find(reaches) else { continue };
            let port = socket.local_port;
            let packet = Links::looped(Protocol::TCP, *address, (*address, port));
            let who = socket.process.as_deref().unwrap_or("somebody");
            let name = format!("{address} to itself (tcp/{port})");
            let evidence = format!("the wildcard host endpoint polices loopback; {who} listens on port {port}");
            self.found.push(Flow::new(FlowKind::Loopback, name, source.clone(), evidence, packet));
        }
    }
}
