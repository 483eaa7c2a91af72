//! Automatic host endpoints: what Calico's controllers make of nodes.

use std::net::IpAddr;

use super::{ALLOW_PROFILE, Endpoint, effective_labels};
use crate::calico::resources::{
    Field, HostEndpoint, Kind, KubeControllers, Labels, Node, Resource, Resources, Spec, Template,
};
use crate::calico::selector::Selector;

/// Who made them: value of the label `projectcalico.org/created-by`.
pub(super) const CREATOR: &str = "calico-kube-controllers";

/// Longest name of an endpoint; longer ones are hashed by the controllers, which is not followed here.
const MAX_NAME: usize = 253;

/// The node that this host is.
#[derive(Clone, Copy, Debug)]
pub struct OwnNode<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its interfaces with their addresses.
    pub interfaces: &'a [(&'a str, Vec<IpAddr>)],
}

/// What the controllers make.
#[derive(Clone, Debug, Default)]
pub struct Automatic {
    /// The endpoints.
    pub endpoints: Vec<Endpoint>,
    /// What of this host's endpoints cannot be told.
    pub doubts: Vec<String>,
}

/// The host endpoints that the controllers make for the nodes among `resources`, when that is switched on there. Templates
/// with a pattern of interfaces need the interfaces of the node, which are known for `own` at most: for other nodes such
/// endpoints are left out.
#[must_use]
pub fn automatic_endpoints(resources: &Resources, own: Option<&OwnNode<'_>>) -> Automatic {
    let mut made = Automatic::default();
    let Some(controllers) = controllers(resources) else { return made };
    if !controllers.auto_create.as_ref().is_some_and(|on| on.value) {
        return made;
    }
    let synced = controllers.sync_labels.as_ref().is_none_or(|on| on.value);
    for resource in resources.iter() {
        let Spec::Node(node) = &resource.spec else { continue };
        let labels = if synced { resource.meta.plain_labels() } else { Labels::new() };
        let maker = Maker { resources, resource, node, labels };
        if controllers.create_default.as_ref().is_none_or(|on| on.value) {
            let addresses = node.addresses.clone();
            made.endpoints.extend(maker.endpoint("auto-hep", Some("*"), addresses, &Labels::new()));
        }
        let interfaces = own.filter(|own| own.name == resource.meta.name.value).map(|own| own.interfaces);
        for template in &controllers.templates {
            let selector = template.node_selector.as_ref().map_or("", |selector| &selector.value);
            // the controllers give up on the rest of a node's templates here
            let Ok(selector) = Selector::parse(selector) else { break };
            if selector.matches(&maker.labels) {
                maker.apply_template(template, interfaces, &mut made);
            }
        }
    }
    made
}

fn controllers(resources: &Resources) -> Option<&KubeControllers> {
    match &resources.get(&Kind::KubeControllersConfiguration, None, "default")?.spec {
        Spec::KubeControllers(controllers) => Some(controllers),
        _ => None,
    }
}

struct Maker<'r> {
    resources: &'r Resources,
    resource: &'r Resource,
    node: &'r Node,
    labels: Labels,
}

impl Maker<'_> {
    fn apply_template(&self, template: &Template, interfaces: Option<&[(&str, Vec<IpAddr>)]>, made: &mut Automatic) {
        let own = |field: &Field<String>| field.value.clone();
        let labels: Labels = template.labels.iter().map(|(key, value)| (key.clone(), own(value))).collect();
        let name = template.generate_name.as_ref().map(own).unwrap_or_default();
        let inside = |address: &IpAddr| template.interface_cidrs.iter().any(|net| net.prefix.contains(*address));
        let chosen: Vec<IpAddr> = self.node.addresses.iter().copied().filter(inside).collect();
        match &template.interface_pattern {
            None if chosen.is_empty() => {}
            None => made.endpoints.extend(self.endpoint(&format!("{name}-auto-hep"), None, chosen, &labels)),
            Some(pattern) => {
                for (interface, addresses) in interfaces.unwrap_or_default() {
                    match is_found(&pattern.value, interface) {
                        Some(true) => {
                            let mut all = chosen.clone();
                            all.extend(addresses.iter().copied().filter(|address| !chosen.contains(address)));
                            let name = format!("{name}-{interface}-auto-hep");
                            made.endpoints.extend(self.endpoint(&name, Some(interface), all, &labels));
                        }
                        Some(false) => {}
                        None => made.doubts.push(format!(
                            "whether {interface} gets an automatic host endpoint: the template {name:?} has the pattern \
                             {:?}, which is not evaluated here",
                            pattern.value
                        )),
                    }
                }
            }
        }
    }

    fn endpoint(
        &self,
        suffix: &str,
        interface: Option<&str>,
        addresses: Vec<IpAddr>,
        more: &Labels,
    ) -> Option<Endpoint> {
        let meta = &self.resource.meta;
        let name = format!("{}-{suffix}", meta.name.value);
        if name.len() > MAX_NAME {
            return None;
        }
        let mut labels = self.labels.clone();
        labels.extend(more.iter().map(|(key, value)| (key.clone(), value.clone())));
        labels.insert("projectcalico.org/created-by".to_owned(), CREATOR.to_owned());
        let line = meta.place.line;
        fn field<T>(value: T, line: u32) -> Field<T> {
            Field { value, line, column: 0 }
        }
        let spec = HostEndpoint {
            node: Some(field(meta.name.value.clone(), line)),
            interface: interface.map(|name| field(name.to_owned(), line)),
            expected_ips: addresses.into_iter().map(|address| field(address, line)).collect(),
            profiles: vec![field(ALLOW_PROFILE.to_owned(), line)],
            ports: Vec::new(),
        };
        let labels = effective_labels(self.resources, labels, &spec);
        Some(Endpoint { name, place: meta.place.clone(), labels, spec, automatic: true })
    }
}

/// Whether a pattern without special characters but `^`, `$`, `.*` at its ends finds itself in a name; `None` for others.
pub(super) fn is_found(pattern: &str, name: &str) -> Option<bool> {
    let (inner, from_start) = pattern.strip_prefix('^').map_or((pattern, false), |rest| (rest, true));
    let (inner, to_end) = inner.strip_suffix('$').map_or((inner, false), |rest| (rest, true));
    let (inner, to_end) = inner.strip_suffix(".*").map_or((inner, to_end), |rest| (rest, false));
    let (inner, from_start) = inner.strip_prefix(".*").map_or((inner, from_start), |rest| (rest, false));
    if !inner.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')) {
        return None;
    }
    Some(match (from_start, to_end) {
        (true, true) => name == inner,
        (true, false) => name.starts_with(inner),
        (false, true) => name.ends_with(inner),
        (false, false) => name.contains(inner),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_searched_for() {
        for (pattern, name, found) in [
            ("eth", "myeth0", Some(true)),
            ("^eth", "myeth0", Some(false)),
            ("^eth.*", "eth0", Some(true)),
            ("^eth0$", "eth01", Some(false)),
            (".*", "x", Some(true)),
            ("eth[0-9]", "eth0", None),
        ] {
            assert_eq!(is_found(pattern, name), found, "{pattern} {name}");
        }
    }
}
