//! The resources, typed. Every value knows its line.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Deref;

use super::kind::Kind;
use crate::calico::names::{Action, Direction};
use crate::calico::settings::{Loaded, Place};
use crate::packet::{Family, PortRange, Prefix};

/// A value and where it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Field<T> {
    /// The value.
    pub value: T,
    /// Line in its file, 1-based.
    pub line: u32,
    /// Column in characters, 1-based; 0 when unknown.
    pub column: u32,
}

impl<T> Deref for Field<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// The API group a resource was written for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Api {
    /// `projectcalico.org/v3`: what people write.
    V3,
    /// `crd.projectcalico.org/v1`: what is stored.
    Crd,
    /// Another group: Kubernetes' own, or none was given.
    Other,
}

/// What all resources have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Meta {
    /// API group.
    pub api: Api,
    /// Kind.
    pub kind: Kind,
    /// `metadata.name`.
    pub name: Field<String>,
    /// `metadata.namespace`; `default` for namespaced kinds that say none.
    pub namespace: Option<String>,
    /// `metadata.labels`, those of a stored resource's annotation included.
    pub labels: BTreeMap<String, Field<String>>,
    /// `metadata.annotations`.
    pub annotations: BTreeMap<String, Field<String>>,
    /// File and line of the resource's first line.
    pub place: Place,
}

impl Meta {
    /// Kind and name as people write them: `GlobalNetworkPolicy security.ssh`, `NetworkPolicy ns/web`.
    #[must_use]
    pub fn title(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{} {namespace}/{}", self.kind.name(), self.name.value),
            None => format!("{} {}", self.kind.name(), self.name.value),
        }
    }
}

/// One resource.
#[derive(Clone, Debug)]
pub struct Resource {
    /// Kind, name, labels, place.
    pub meta: Meta,
    /// What it says.
    pub spec: Spec,
    /// The API server or Felix refuses it: it does not take effect.
    pub refused: bool,
}

/// What a resource says, by kind.
#[derive(Clone, Debug)]
pub enum Spec {
    /// GlobalNetworkPolicy, NetworkPolicy and their staged twins.
    Policy(Box<Policy>),
    /// Tier.
    Tier(Tier),
    /// HostEndpoint.
    HostEndpoint(HostEndpoint),
    /// GlobalNetworkSet, NetworkSet.
    NetworkSet(NetworkSet),
    /// Profile.
    Profile(Box<Profile>),
    /// FelixConfiguration.
    Felix(Box<Felix>),
    /// KubeControllersConfiguration.
    KubeControllers(Box<KubeControllers>),
    /// ClusterInformation.
    ClusterInformation(ClusterInformation),
    /// BGPPeer.
    BgpPeer(BgpPeer),
    /// Node, Kubernetes' or Calico's.
    Node(Node),
    /// Policies for pods only and other kinds: known to be there, not looked into.
    Other,
}

/// `GlobalNetworkPolicy.spec` and its kin.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Policy {
    /// `tier`; missing is `default`.
    pub tier: Option<Field<String>>,
    /// `order`; missing comes after all that have one.
    pub order: Option<Field<f64>>,
    /// `selector`, as written.
    pub selector: Option<Field<String>>,
    /// `namespaceSelector`, as written.
    pub namespace_selector: Option<Field<String>>,
    /// `serviceAccountSelector`, as written.
    pub service_account_selector: Option<Field<String>>,
    /// `types`; `None` when the field is missing.
    pub types: Option<Field<Vec<Field<Direction>>>>,
    /// `ingress`; `None` when the field is missing.
    pub ingress: Option<Field<Vec<Rule>>>,
    /// `egress`; `None` when the field is missing.
    pub egress: Option<Field<Vec<Rule>>>,
    /// `doNotTrack`.
    pub do_not_track: Option<Field<bool>>,
    /// `preDNAT`.
    pub pre_dnat: Option<Field<bool>>,
    /// `applyOnForward`.
    pub apply_on_forward: Option<Field<bool>>,
    /// `stagedAction` of staged policies.
    pub staged_action: Option<Field<String>>,
}

impl Policy {
    /// The tier's name.
    #[must_use]
    pub fn tier(&self) -> &str {
        self.tier.as_ref().map_or("default", |tier| &tier.value)
    }

    /// The rules of a direction.
    #[must_use]
    pub fn rules(&self, direction: Direction) -> &[Rule] {
        let rules = if direction == Direction::In { &self.ingress } else { &self.egress };
        rules.as_ref().map_or(&[], |rules| &rules.value)
    }

    /// Whether a switch is on.
    #[must_use]
    pub fn is(switch: &Option<Field<bool>>) -> bool {
        switch.as_ref().is_some_and(|switch| switch.value)
    }
}

/// One rule.
#[derive(Clone, PartialEq, Debug)]
pub struct Rule {
    /// Line of its first field.
    pub line: u32,
    /// `action`; `None` when it is missing or not understood.
    pub action: Option<Field<Action>>,
    /// `ipVersion`: 4 or 6.
    pub ip_version: Option<Field<u8>>,
    /// `protocol`.
    pub protocol: Option<Field<Protocol>>,
    /// `notProtocol`.
    pub not_protocol: Option<Field<Protocol>>,
    /// `icmp`.
    pub icmp: Option<Field<Icmp>>,
    /// `notICMP`.
    pub not_icmp: Option<Field<Icmp>>,
    /// `source`.
    pub source: Entity,
    /// `destination`.
    pub destination: Entity,
    /// `http` is given: matched by a sidecar only, not by the host's rules.
    pub http: Option<Field<()>>,
    /// `metadata.annotations`: Felix writes them into the comments of the rule.
    pub annotations: BTreeMap<String, Field<String>>,
}

impl Rule {
    /// Nothing but an action: matches every packet of both families.
    #[must_use]
    pub fn matches_everything(&self) -> bool {
        self.ip_version.is_none()
            && self.protocol.is_none()
            && self.not_protocol.is_none()
            && self.icmp.is_none()
            && self.not_icmp.is_none()
            && self.source.is_empty()
            && self.destination.is_empty()
    }

    /// Whether Felix writes it among the rules of a family: its version, its protocol's and its nets' are that one.
    #[must_use]
    pub fn is_written_in(&self, family: Family) -> bool {
        let number = if family == Family::Ipv6 { 6 } else { 4 };
        let implied = match self.protocol.as_ref().map(|protocol| protocol.value) {
            Some(Protocol::Name("ICMP")) => Some(4),
            Some(Protocol::Name("ICMPv6")) => Some(6),
            _ => None,
        };
        let ours = |net: &Field<Net>| net.value.prefix.is_ipv4() == (family == Family::Ipv4);
        let some = |nets: &[Field<Net>]| nets.is_empty() || nets.iter().any(ours);
        self.ip_version.as_ref().map(|version| version.value).or(implied).is_none_or(|wanted| wanted == number)
            && [&self.source, &self.destination].into_iter().all(|entity| {
                let nothing_left = entity.not_nets.iter().any(|net| ours(net) && net.value.prefix.length() == 0);
                some(&entity.nets) && some(&entity.not_nets) && !nothing_left
            })
    }
}

/// A protocol as policy writes it. A name implies a family for ICMP; a number does not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// `TCP`, `UDP`, `ICMP`, `ICMPv6`, `SCTP`, `UDPLite`.
    Name(&'static str),
    /// 1 to 255.
    Number(u8),
}

impl Protocol {
    /// Names with their numbers.
    pub const NAMES: [(&'static str, u8); 6] =
        [("TCP", 6), ("UDP", 17), ("ICMP", 1), ("ICMPv6", 58), ("SCTP", 132), ("UDPLite", 136)];

    /// The number on the wire.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Number(number) => number,
            Self::Name(name) => Self::NAMES.iter().find(|(known, _)| *known == name).map_or(0, |(_, number)| *number),
        }
    }

    /// TCP, UDP and SCTP have ports in policy.
    #[must_use]
    pub fn has_ports(self) -> bool {
        matches!(self.number(), 6 | 17 | 132)
    }
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

/// `icmp` and `notICMP`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Icmp {
    /// `type`.
    pub kind: Option<u8>,
    /// `code`.
    pub code: Option<u8>,
}

/// One end of a rule; all that is given must hold.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Entity {
    /// Line of the field; 0 when it is missing.
    pub line: u32,
    /// `nets`: any of them; `None` when the field is missing or empty.
    pub nets: Vec<Field<Net>>,
    /// `notNets`: none of them.
    pub not_nets: Vec<Field<Net>>,
    /// `selector`, as written.
    pub selector: Option<Field<String>>,
    /// `notSelector`, as written.
    pub not_selector: Option<Field<String>>,
    /// `namespaceSelector`, as written.
    pub namespace_selector: Option<Field<String>>,
    /// `serviceAccounts.names`.
    pub service_account_names: Vec<Field<String>>,
    /// `serviceAccounts.selector`, as written.
    pub service_account_selector: Option<Field<String>>,
    /// `ports`: any of them.
    pub ports: Vec<Field<Port>>,
    /// `notPorts`: none of them.
    pub not_ports: Vec<Field<Port>>,
    /// `services`: namespace and name.
    pub services: Option<Field<Service>>,
    /// `domains` (Calico Enterprise).
    pub domains: Vec<Field<String>>,
}

impl Entity {
    /// Nothing is asked of this end.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        Self { line: 0, ..self.clone() } == Self::default()
    }

    /// It names endpoints, namespaces, accounts or services, not only addresses and ports.
    #[must_use]
    pub fn has_selector(&self) -> bool {
        self.selector.is_some()
            || self.namespace_selector.is_some()
            || self.service_account_selector.is_some()
            || !self.service_account_names.is_empty()
    }
}

/// A net of a rule or network set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Net {
    /// The addresses.
    pub prefix: Prefix,
    /// As written.
    pub text: String,
}

/// One entry of `ports`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Port {
    /// A port or a range.
    Range(PortRange),
    /// A named port, looked up in the `ports` of endpoints.
    Name(String),
}

/// `services`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Service {
    /// `name`.
    pub name: String,
    /// `namespace`.
    pub namespace: Option<String>,
}

/// `Tier.spec`.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Tier {
    /// `order`.
    pub order: Option<Field<f64>>,
    /// `defaultAction` is `Pass`; `None` when the field is missing (Deny).
    pub default_pass: Option<Field<bool>>,
}

/// `HostEndpoint.spec`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HostEndpoint {
    /// `node`.
    pub node: Option<Field<String>>,
    /// `interfaceName`; `*` is every interface.
    pub interface: Option<Field<String>>,
    /// `expectedIPs`.
    pub expected_ips: Vec<Field<IpAddr>>,
    /// `profiles`, in order.
    pub profiles: Vec<Field<String>>,
    /// `ports`.
    pub ports: Vec<Field<NamedPort>>,
}

/// One entry of a host endpoint's `ports`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamedPort {
    /// `name`.
    pub name: String,
    /// `protocol`.
    pub protocol: Protocol,
    /// `port`.
    pub port: u16,
}

/// `GlobalNetworkSet.spec`, `NetworkSet.spec`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NetworkSet {
    /// `nets`.
    pub nets: Vec<Field<Net>>,
    /// `allowedEgressDomains` (Calico Enterprise).
    pub domains: Vec<Field<String>>,
}

/// `Profile.spec`.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Profile {
    /// `ingress`.
    pub ingress: Vec<Rule>,
    /// `egress`.
    pub egress: Vec<Rule>,
    /// `labelsToApply`.
    pub labels_to_apply: BTreeMap<String, Field<String>>,
}

/// `FelixConfiguration.spec`.
#[derive(Clone, Debug, Default)]
pub struct Felix {
    /// The settings as Felix gets them from its datastore.
    pub loaded: Loaded,
    /// `nodeSelector` (3.32 and newer).
    pub node_selector: Option<Field<String>>,
}

/// `KubeControllersConfiguration.spec`, as far as host endpoints depend on it.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct KubeControllers {
    /// `controllers.node.hostEndpoint.autoCreate` is Enabled; missing is Disabled.
    pub auto_create: Option<Field<bool>>,
    /// `controllers.node.hostEndpoint.createDefaultHostEndpoint` is Enabled; missing is Enabled.
    pub create_default: Option<Field<bool>>,
    /// `controllers.node.syncLabels` is Enabled; missing is Enabled.
    pub sync_labels: Option<Field<bool>>,
    /// `controllers.node.hostEndpoint.templates`.
    pub templates: Vec<Template>,
}

/// A template of automatic host endpoints.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Template {
    /// Line of its first field.
    pub line: u32,
    /// `generateName`.
    pub generate_name: Option<Field<String>>,
    /// `interfaceCIDRs`.
    pub interface_cidrs: Vec<Field<Net>>,
    /// `interfacePattern`: a regular expression of Go's.
    pub interface_pattern: Option<Field<String>>,
    /// `labels`.
    pub labels: BTreeMap<String, Field<String>>,
    /// `nodeSelector`.
    pub node_selector: Option<Field<String>>,
}

/// `ClusterInformation.spec`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ClusterInformation {
    /// `calicoVersion`.
    pub calico_version: Option<Field<String>>,
    /// `calicoEnterpriseVersion` or `cnxVersion`.
    pub enterprise_version: Option<Field<String>>,
}

/// `BGPPeer.spec`, as far as it names an address.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BgpPeer {
    /// `node`; without it and without a selector every node has the peer.
    pub node: Option<Field<String>>,
    /// `nodeSelector`, as written.
    pub node_selector: Option<Field<String>>,
    /// `peerIP`: an address, with a port behind it or not.
    pub peer_ip: Option<Field<String>>,
}

/// A node, as far as automatic host endpoints depend on it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Node {
    /// BGP, tunnel and internal addresses.
    pub addresses: Vec<IpAddr>,
}
