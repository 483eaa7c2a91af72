//! The fields of each kind but policies' rules.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::cursor::{Cursor, join};
use super::problem::ProblemKind;
use super::rules::{Setting, nets_at, protocol_at, rules_at, selector_at};
use super::types::{
    BgpPeer, ClusterInformation, Felix, Field, HostEndpoint, KubeControllers, Meta, NamedPort, NetworkSet,
    Node as NodeSpec, Policy, Profile, Template, Tier,
};
use super::validate;
use crate::calico::names::Direction;
use crate::calico::settings::datastore;
use crate::calico::settings::ports::shortened;
use crate::calico::yaml::{Node, Value};

/// The resource's `spec`, or an empty one at its own line.
pub(super) fn spec(root: &Node) -> Node {
    root.get("spec").filter(|node| node.value != Value::Null).cloned().unwrap_or_else(|| {
        let mut empty = Node::null(root.line);
        empty.value = Value::Map(Vec::new());
        empty
    })
}

const POLICY: [&str; 13] = [
    "tier",
    "order",
    "selector",
    "namespaceSelector",
    "serviceAccountSelector",
    "types",
    "ingress",
    "egress",
    "doNotTrack",
    "preDNAT",
    "applyOnForward",
    "performanceHints",
    "stagedAction",
];

pub(super) fn policy(cursor: &mut Cursor<'_>, root: &Node, meta: &Meta) -> Option<Policy> {
    let spec = spec(root);
    if !cursor.map(&spec, "spec", &POLICY) {
        return None;
    }
    let namespaced = meta.kind.is_namespaced();
    let rules = |cursor: &mut Cursor<'_>, key: &str, direction: Direction| {
        rules_at(cursor, &spec, "spec", key, Setting { direction, namespaced })
    };
    let policy = Policy {
        tier: cursor.text_at(&spec, "spec", "tier"),
        order: cursor.number_at(&spec, "spec", "order"),
        selector: selector_at(cursor, &spec, "spec", "selector"),
        namespace_selector: selector_at(cursor, &spec, "spec", "namespaceSelector"),
        service_account_selector: selector_at(cursor, &spec, "spec", "serviceAccountSelector"),
        types: types(cursor, &spec),
        ingress: rules(cursor, "ingress", Direction::In),
        egress: rules(cursor, "egress", Direction::Out),
        do_not_track: cursor.bool_at(&spec, "spec", "doNotTrack"),
        pre_dnat: cursor.bool_at(&spec, "spec", "preDNAT"),
        apply_on_forward: cursor.bool_at(&spec, "spec", "applyOnForward"),
        staged_action: staged_action(cursor, &spec),
    };
    let only_global = [
        ("doNotTrack", policy.do_not_track.as_ref().map(|field| field.line)),
        ("preDNAT", policy.pre_dnat.as_ref().map(|field| field.line)),
        ("applyOnForward", policy.apply_on_forward.as_ref().map(|field| field.line)),
        ("namespaceSelector", policy.namespace_selector.as_ref().map(|field| field.line)),
    ];
    if namespaced {
        for (key, line) in only_global {
            let Some(line) = line else { continue };
            let message = format!("a {} has no {key}", meta.kind.name());
            let fix = "for hosts write a GlobalNetworkPolicy";
            cursor.problem(ProblemKind::UnknownField, (line, 0), &join("spec", key), message, fix);
        }
    }
    validate::policy(cursor, &policy, meta);
    Some(policy)
}

fn types(cursor: &mut Cursor<'_>, spec: &Node) -> Option<Field<Vec<Field<Direction>>>> {
    let child = cursor.child(spec, "types")?;
    let items = cursor.list(child, "spec.types");
    let types = items.iter().enumerate().filter_map(|(index, item)| {
        let index = cursor.word(item, &format!("spec.types[{index}]"), &["Ingress", "Egress"])?;
        Some(cursor.field(item, if index == 0 { Direction::In } else { Direction::Out }))
    });
    let types = types.collect();
    Some(cursor.field(child, types))
}

fn staged_action(cursor: &mut Cursor<'_>, spec: &Node) -> Option<Field<String>> {
    let child = cursor.child(spec, "stagedAction")?;
    let choices = ["Set", "Delete", "Learn", "Ignore"];
    let index = cursor.word(child, "spec.stagedAction", &choices)?;
    Some(cursor.field(child, choices.get(index).copied().unwrap_or_default().to_owned()))
}

pub(super) fn tier(cursor: &mut Cursor<'_>, root: &Node, meta: &Meta) -> Option<Tier> {
    let spec = spec(root);
    if !cursor.map(&spec, "spec", &["order", "defaultAction"]) {
        return None;
    }
    let default_pass = cursor.child(&spec, "defaultAction").and_then(|child| {
        let index = cursor.word(child, "spec.defaultAction", &["Deny", "Pass"])?;
        Some(cursor.field(child, index == 1))
    });
    let tier = Tier { order: cursor.number_at(&spec, "spec", "order"), default_pass };
    validate::tier(cursor, &tier, meta);
    Some(tier)
}

pub(super) fn host_endpoint(cursor: &mut Cursor<'_>, root: &Node) -> Option<HostEndpoint> {
    let spec = spec(root);
    if !cursor.map(&spec, "spec", &["node", "interfaceName", "expectedIPs", "profiles", "ports"]) {
        return None;
    }
    let mut endpoint = HostEndpoint {
        node: cursor.text_at(&spec, "spec", "node"),
        interface: cursor.text_at(&spec, "spec", "interfaceName"),
        profiles: cursor.texts_at(&spec, "spec", "profiles"),
        ..HostEndpoint::default()
    };
    for (index, text) in cursor.texts_at(&spec, "spec", "expectedIPs").into_iter().enumerate() {
        match text.value.parse::<IpAddr>() {
            Ok(address) => {
                endpoint.expected_ips.push(Field { value: address, line: text.line, column: text.column });
            }
            Err(_) => {
                let message = format!("found {:?}, expected an address without a length", shortened(&text.value));
                let fix = text.value.split_once('/').map_or(String::new(), |(address, _)| format!("write {address}"));
                let path = format!("spec.expectedIPs[{index}]");
                cursor.refuse(ProblemKind::BadValue, (text.line, text.column), &path, message, fix);
            }
        }
    }
    endpoint.ports = named_ports(cursor, &spec);
    let addressed = spec.get("expectedIPs").is_some_and(|ips| !ips.items().is_empty());
    validate::host_endpoint(cursor, &endpoint, addressed, spec.line);
    Some(endpoint)
}

fn named_ports(cursor: &mut Cursor<'_>, spec: &Node) -> Vec<Field<NamedPort>> {
    let Some(child) = cursor.child(spec, "ports") else { return Vec::new() };
    let items = cursor.list(child, "spec.ports");
    let ports = items.iter().enumerate().filter_map(|(index, item)| {
        let path = format!("spec.ports[{index}]");
        if !cursor.map(item, &path, &["name", "protocol", "port"]) {
            return None;
        }
        let name = cursor.text_at(item, &path, "name");
        let protocol = protocol_at(cursor, item, &path, "protocol");
        let port = item.get("port").and_then(Node::text).and_then(|text| text.parse::<u16>().ok());
        let (Some(name), Some(protocol), Some(port @ 1..)) = (name, protocol, port) else {
            let message = "expected name, protocol (TCP, UDP or SCTP) and a port of 1 to 65535";
            cursor.refuse(ProblemKind::Missing, (item.line, item.column), &path, message, "");
            return None;
        };
        Some(cursor.field(item, NamedPort { name: name.value, protocol: protocol.value, port }))
    });
    ports.collect()
}

pub(super) fn network_set(cursor: &mut Cursor<'_>, root: &Node) -> Option<NetworkSet> {
    let spec = spec(root);
    if !cursor.map(&spec, "spec", &["nets", "allowedEgressDomains"]) {
        return None;
    }
    let set = NetworkSet {
        nets: nets_at(cursor, &spec, "spec", "nets", false),
        domains: cursor.texts_at(&spec, "spec", "allowedEgressDomains"),
    };
    for domain in &set.domains {
        if let Some(why) = validate::bad_domain(&domain.value) {
            let message = format!("{:?}: {why}", shortened(&domain.value));
            let at = (domain.line, domain.column);
            cursor.refuse(ProblemKind::Domains, at, "spec.allowedEgressDomains", message, "write *.example.com");
        }
    }
    Some(set)
}

pub(super) fn profile(cursor: &mut Cursor<'_>, root: &Node) -> Option<Profile> {
    let spec = spec(root);
    if !cursor.map(&spec, "spec", &["ingress", "egress", "labelsToApply"]) {
        return None;
    }
    let rules = |cursor: &mut Cursor<'_>, key: &str, direction: Direction| {
        let rules = rules_at(cursor, &spec, "spec", key, Setting { direction, namespaced: false });
        rules.map(|rules| rules.value).unwrap_or_default()
    };
    Some(Profile {
        ingress: rules(cursor, "ingress", Direction::In),
        egress: rules(cursor, "egress", Direction::Out),
        labels_to_apply: cursor.texts_map(&spec, "spec", "labelsToApply"),
    })
}

pub(super) fn felix(cursor: &mut Cursor<'_>, root: &Node) -> Felix {
    let mut root = root.clone();
    if let Value::Map(entries) = &mut root.value
        && !entries.iter().any(|(key, _, _)| key == "kind")
    {
        // items of typed lists need not say it
        let kind = Node { value: Value::Scalar("FelixConfiguration".to_owned()), ..Node::null(root.line) };
        entries.push(("kind".to_owned(), root.line, kind));
    }
    let loaded = datastore::one(&root, cursor.file);
    for remark in &loaded.remarks {
        let at = (remark.place.line, 0);
        cursor.problem(ProblemKind::BadValue, at, "spec", remark.text.clone(), "");
    }
    for broken in &loaded.broken {
        let at = (broken.place.line, 0);
        cursor.refuse(ProblemKind::BadValue, at, "spec", broken.reason.clone(), "mend it before Felix restarts");
    }
    let node_selector = root.get("spec").and_then(|spec| selector_at(cursor, spec, "spec", "nodeSelector"));
    Felix { loaded, node_selector }
}

pub(super) fn kube_controllers(cursor: &mut Cursor<'_>, root: &Node) -> KubeControllers {
    let spec = spec(root);
    let node = spec.get("controllers").and_then(|controllers| controllers.get("node"));
    let Some(node) = node else { return KubeControllers::default() };
    let path = "spec.controllers.node";
    let switch = |cursor: &mut Cursor<'_>, node: &Node, path: &str, key: &str| {
        let child = cursor.child(node, key)?;
        let index = cursor.word(child, &join(path, key), &["Enabled", "Disabled"])?;
        Some(cursor.field(child, index == 0))
    };
    let mut read = KubeControllers { sync_labels: switch(cursor, node, path, "syncLabels"), ..Default::default() };
    let Some(endpoint) = cursor.child(node, "hostEndpoint") else { return read };
    let path = "spec.controllers.node.hostEndpoint";
    if !cursor.map(endpoint, path, &["autoCreate", "createDefaultHostEndpoint", "templates"]) {
        return read;
    }
    read.auto_create = switch(cursor, endpoint, path, "autoCreate");
    read.create_default = switch(cursor, endpoint, path, "createDefaultHostEndpoint");
    if let Some(templates) = cursor.child(endpoint, "templates") {
        let path = join(path, "templates");
        for (index, item) in cursor.list(templates, &path).iter().enumerate() {
            let path = format!("{path}[{index}]");
            let known = ["generateName", "interfaceCIDRs", "interfacePattern", "labels", "annotations", "nodeSelector"];
            if cursor.map(item, &path, &known) {
                read.templates.push(Template {
                    line: item.line,
                    generate_name: cursor.text_at(item, &path, "generateName"),
                    interface_cidrs: nets_at(cursor, item, &path, "interfaceCIDRs", false),
                    interface_pattern: cursor.text_at(item, &path, "interfacePattern"),
                    labels: cursor.texts_map(item, &path, "labels"),
                    node_selector: selector_at(cursor, item, &path, "nodeSelector"),
                });
            }
        }
    }
    read
}

pub(super) fn cluster_information(cursor: &mut Cursor<'_>, root: &Node) -> ClusterInformation {
    let spec = spec(root);
    let enterprise = ["calicoEnterpriseVersion", "cnxVersion"];
    ClusterInformation {
        calico_version: cursor.text_at(&spec, "spec", "calicoVersion"),
        enterprise_version: enterprise.into_iter().find_map(|key| cursor.text_at(&spec, "spec", key)),
    }
}

pub(super) fn bgp_peer(cursor: &mut Cursor<'_>, root: &Node) -> BgpPeer {
    let spec = spec(root);
    BgpPeer {
        node: cursor.text_at(&spec, "spec", "node"),
        node_selector: cursor.text_at(&spec, "spec", "nodeSelector"),
        peer_ip: cursor.text_at(&spec, "spec", "peerIP"),
    }
}

/// The addresses that automatic host endpoints get from a node.
pub(super) fn node(root: &Node) -> NodeSpec {
    let mut texts: Vec<String> = Vec::new();
    let spec = spec(root);
    let mut text = |node: Option<&Node>| texts.extend(node.and_then(Node::text).map(str::to_owned));
    for key in ["ipv4Address", "ipv6Address", "ipv4IPIPTunnelAddr"] {
        text(spec.get("bgp").and_then(|bgp| bgp.get(key)));
    }
    for key in ["ipv4VXLANTunnelAddr", "ipv6VXLANTunnelAddr"] {
        text(spec.get(key));
    }
    for key in ["interfaceIPv4Address", "interfaceIPv6Address"] {
        text(spec.get("wireguard").and_then(|wireguard| wireguard.get(key)));
    }
    for item in spec.get("addresses").map(Node::items).unwrap_or_default() {
        text(item.get("address"));
    }
    let status = root.get("status").and_then(|status| status.get("addresses"));
    for item in status.map(Node::items).unwrap_or_default() {
        if item.get("type").and_then(Node::text) == Some("InternalIP") {
            text(item.get("address"));
        }
    }
    let annotations = root.get("metadata").and_then(|metadata| metadata.get("annotations"));
    let annotation = |key: &str| annotations.and_then(|all| all.get(key));
    for key in ["IPv4Address", "IPv6Address", "IPv4IPIPTunnelAddr", "IPv4VXLANTunnelAddr", "IPv6VXLANTunnelAddr"] {
        text(annotation(&format!("projectcalico.org/{key}")));
    }
    let mut addresses: Vec<IpAddr> = Vec::new();
    for text in texts {
        let address = text.split('/').next().unwrap_or_default();
        if let Ok(address) = address.parse()
            && !addresses.contains(&address)
        {
            addresses.push(address);
        }
    }
    NodeSpec { addresses }
}

/// The labels and annotations that a stored resource keeps as JSON in an annotation.
pub(super) fn stored_metadata(text: &Field<String>) -> Option<(BTreeMap<String, String>, BTreeMap<String, String>)> {
    #[derive(serde::Deserialize)]
    struct Stored {
        #[serde(default)]
        labels: Option<BTreeMap<String, String>>,
        #[serde(default)]
        annotations: Option<BTreeMap<String, String>>,
    }
    let stored: Stored = serde_json::from_str(&text.value).ok()?;
    Some((stored.labels.unwrap_or_default(), stored.annotations.unwrap_or_default()))
}
