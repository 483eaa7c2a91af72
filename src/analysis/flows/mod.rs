//! The flows that must work on a host, each with its evidence and its first packet.
//!
//! Taken from what is there: sshd's ports, live sessions, resolvers, leases, time sources, the datastore, routing peers,
//! mounts, log collectors, failsafe entries, and what the configuration protects. A flow that nothing points to is not
//! invented; a peer that is known by name only and that nothing resolves is reported as such.

mod access;
mod calico;
mod cloud;
mod dhcp;
mod links;
mod network;
mod node;
mod protect;
mod services;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::Serialize;

use crate::calico::failsafe::Weight;
use crate::host::Host;
use crate::host::services::{Destination, Peer, in_hosts_file};
use crate::packet::{Direction, Packet, Protocol};
use crate::snapshot::Snapshot;
pub use access::sshd_ports;
pub use links::{EPHEMERAL, Links, is_link_local, somebody};
pub use protect::export;

/// Most flows an inventory holds; what is left out is counted.
pub const MAX_FLOWS: usize = 192;

/// Most flows of one kind.
const MAX_OF_KIND: usize = 48;

/// Why a flow must work; the most important first.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FlowKind {
    /// The SSH session hepguard is called from.
    Caller,
    /// New SSH logins.
    SshIn,
    /// A session that lives now, to a listening daemon or from this host.
    Session,
    /// The configuration protects it.
    Protect,
    /// Calico's datastore.
    Datastore,
    /// Typha, in front of the datastore.
    Typha,
    /// Name resolution.
    Resolver,
    /// DHCP lease renewal, router advertisements.
    Dhcp,
    /// IPv6 neighbour discovery.
    Neighbour,
    /// The default gateway's errors, path MTU above all.
    Gateway,
    /// Routing peers: BGP, BFD, OSPF.
    Routing,
    /// Tunnels through which others come: their outer flow.
    Tunnel,
    /// Heartbeats of a cluster of hosts.
    Cluster,
    /// Agents that bring an administrator in when SSH does not.
    Fallback,
    /// Directories that know the users.
    Directory,
    /// The clock.
    Time,
    /// The cloud's own services on the link.
    Cloud,
    /// File systems and disks on other hosts.
    Storage,
    /// Where logs and alarms go.
    Siem,
    /// Kubelet and metrics of a cluster node.
    Node,
    /// This host with itself.
    Loopback,
    /// An entry of the failsafe lists.
    Failsafe,
}

impl FlowKind {
    /// In a word or two, as a heading.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Caller => "Your session",
            Self::SshIn => "SSH in",
            Self::Session => "Sessions",
            Self::Protect => "Protected",
            Self::Datastore => "Datastore",
            Self::Typha => "Typha",
            Self::Resolver => "Name resolution",
            Self::Dhcp => "DHCP and router advertisements",
            Self::Neighbour => "Neighbour discovery",
            Self::Gateway => "Gateway",
            Self::Routing => "Routing peers",
            Self::Tunnel => "Tunnels",
            Self::Cluster => "Heartbeats",
            Self::Fallback => "Fallback access",
            Self::Directory => "Directories",
            Self::Time => "Time",
            Self::Cloud => "Cloud services",
            Self::Storage => "Storage",
            Self::Siem => "Logs and alarms",
            Self::Node => "Cluster node",
            Self::Loopback => "This host with itself",
            Self::Failsafe => "Failsafe entries",
        }
    }
}

/// A clock time that matters to a flow.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Moment {
    /// What happens then: `T1: renewal`, `expiry`.
    pub what: String,
    /// When, RFC 3339 in UTC.
    pub at: String,
}

/// A flow that must work.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Flow {
    /// Why it must.
    pub kind: FlowKind,
    /// In people's words: `SSH in (tcp/22) from 198.51.100.20`.
    pub name: String,
    /// Where the evidence stands (`sockets.txt`, `etc/rsyslog.conf:12`, …).
    pub source: String,
    /// The evidence.
    pub evidence: String,
    /// The first packet of a new conversation.
    pub packet: Packet,
    /// It is a session that lives now.
    pub live: bool,
    /// How bad its loss is, where the configuration says.
    pub severity: Option<Weight>,
    /// Clock times at which it is needed next, soonest first.
    pub clock: Vec<Moment>,
    /// What needs it next, where that is a timer: `lease`, `neighbour cache`, `BGP hold timer`.
    pub timer: Option<&'static str>,
}

impl Flow {
    fn new(
        kind: FlowKind,
        name: impl Into<String>,
        source: impl Into<String>,
        evidence: impl Into<String>,
        packet: Packet,
    ) -> Self {
        Self {
            kind,
            name: name.into(),
            source: source.into(),
            evidence: evidence.into(),
            packet,
            live: false,
            severity: None,
            clock: Vec::new(),
            timer: None,
        }
    }

    fn timer(mut self, timer: &'static str) -> Self {
        self.timer = Some(timer);
        self
    }

    /// The other side.
    #[must_use]
    pub fn peer(&self) -> IpAddr {
        if self.packet.direction == Direction::In { self.packet.src } else { self.packet.dst }
    }

    /// What makes it the same flow as another.
    fn key(&self) -> Key {
        let packet = &self.packet;
        // these speak of anybody, whatever address stands for them
        let anybody = match self.kind {
            FlowKind::SshIn => 1,
            FlowKind::Failsafe => 2,
            _ => 0,
        };
        (anybody, packet.direction == Direction::In, packet.protocol, packet.src, packet.dst, packet.dport, packet.icmp)
    }
}

type Key = (u8, bool, Protocol, IpAddr, IpAddr, Option<u16>, Option<(u8, u8)>);

/// A flow whose other side is known by name only.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Unresolved {
    /// Why it must work.
    pub kind: FlowKind,
    /// In people's words: `time (udp/123) from ntp.example.org`.
    pub name: String,
    /// The name that is not resolved here.
    pub host: String,
    /// Where it is named.
    pub source: String,
}

/// The inventory, most important first.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Inventory {
    /// The flows.
    pub flows: Vec<Flow>,
    /// Flows that could not be judged: nothing here tells the address. hepguard asks no resolver.
    pub unresolved: Vec<Unresolved>,
    /// How many more were seen and left out.
    pub left_out: usize,
}

/// What the collectors of flows share.
struct Seeker<'a> {
    snapshot: &'a Snapshot,
    host: &'a Host,
    links: Links<'a>,
    found: Vec<Flow>,
    unresolved: Vec<Unresolved>,
}

impl<'a> Seeker<'a> {
    /// The text of a snapshot file.
    fn text(&self, name: &str) -> Option<String> {
        Some(beginning(self.snapshot.files.bytes(name)?))
    }

    /// Names and texts of the files that `wanted` takes.
    fn texts(&self, wanted: impl Fn(&str) -> bool) -> Vec<(String, String)> {
        let files = self.snapshot.files.below("").filter(|(name, _)| wanted(name));
        files.map(|(name, bytes)| (self.snapshot.files.label(name).to_owned(), beginning(bytes))).collect()
    }

    /// Addresses of a peer as far as this host's own files tell, or a session with the port does.
    fn addresses(&self, peer: &Peer) -> Vec<IpAddr> {
        match peer {
            Peer::Address(address) => vec![*address],
            Peer::Name(name) => {
                let text = self.text("etc/hosts").unwrap_or_default();
                in_hosts_file(&text, name)
            }
        }
    }

    /// Flows out to a destination that a file names; by name only when nothing resolves it.
    fn out(&mut self, kind: FlowKind, what: &str, file: &str, to: &Destination, timer: Option<&'static str>) {
        if to.peer.is_loopback() {
            return;
        }
        let source = if to.line == 0 { file.to_owned() } else { format!("{file}:{}", to.line) };
        let service = format!("{}/{}", to.protocol, to.port);
        let addresses = self.addresses(&to.peer);
        if let (true, Peer::Name(host)) = (addresses.is_empty(), &to.peer) {
            let name = format!("{what} ({service}) to {host}");
            self.unresolved.push(Unresolved { kind, name, host: host.clone(), source });
            return;
        }
        for address in addresses.into_iter().take(8) {
            let Some(packet) = self.links.outgoing(to.protocol, None, EPHEMERAL, (address, to.port)) else { continue };
            let evidence = match &to.peer {
                Peer::Name(name) => format!("names {name}, {address} in etc/hosts"),
                Peer::Address(_) => format!("names {address}"),
            };
            let mut flow =
                Flow::new(kind, format!("{what} ({service}) to {address}"), source.clone(), evidence, packet);
            flow.timer = timer;
            self.found.push(flow);
        }
    }
}

/// Most bytes looked at of one file: no configuration that a person wrote is longer.
const MAX_TEXT: usize = 4 << 20;

fn beginning(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.get(..MAX_TEXT).unwrap_or(bytes)).into_owned()
}

/// Takes the inventory of a host.
#[must_use]
pub fn inventory(snapshot: &Snapshot) -> Inventory {
    let host = &snapshot.host;
    let mut seeker = Seeker { snapshot, host, links: Links::new(host), found: Vec::new(), unresolved: Vec::new() };
    // who says more about a flow comes first: of two that are the same the first one stays
    seeker.caller();
    seeker.ssh_in();
    seeker.protected();
    seeker.calico();
    seeker.resolvers();
    seeker.dhcp();
    seeker.discovery();
    seeker.gateways();
    seeker.routing();
    seeker.tunnels();
    seeker.heartbeats();
    seeker.directories();
    seeker.time();
    seeker.cloud();
    seeker.storage();
    seeker.siem();
    seeker.node();
    seeker.loopback();
    seeker.sessions();
    seeker.failsafes();
    assemble(seeker.found, seeker.unresolved)
}

/// Each flow once, the most important first, bounded.
fn assemble(found: Vec<Flow>, unresolved: Vec<Unresolved>) -> Inventory {
    let mut at: BTreeMap<Key, usize> = BTreeMap::new();
    let mut names: BTreeSet<String> = BTreeSet::new();
    let mut flows: Vec<Flow> = Vec::new();
    for flow in found {
        if let Some(known) = at.get(&flow.key()).and_then(|at| flows.get_mut(*at)) {
            known.live |= flow.live;
        } else if names.insert(flow.name.clone()) {
            at.insert(flow.key(), flows.len());
            flows.push(flow);
        }
    }
    flows.sort_by_key(|flow| flow.kind);
    let all = flows.len();
    let mut of_kind: BTreeMap<FlowKind, usize> = BTreeMap::new();
    flows.retain(|flow| {
        let count = of_kind.entry(flow.kind).or_default();
        *count += 1;
        *count <= MAX_OF_KIND
    });
    flows.truncate(MAX_FLOWS);
    let mut unresolved: Vec<Unresolved> = unresolved.into_iter().filter(|one| names.insert(one.name.clone())).collect();
    let unnamed = unresolved.len().saturating_sub(MAX_OF_KIND);
    unresolved.truncate(MAX_OF_KIND);
    Inventory { left_out: all - flows.len() + unnamed, flows, unresolved }
}

#[cfg(test)]
mod tests;
