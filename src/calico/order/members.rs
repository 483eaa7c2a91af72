//! The addresses that a selector of a rule stands for, as far as the resources tell.

use super::Model;
use crate::calico::resources::{Kind, Labels, NetworkSet, Resource, Spec};
use crate::calico::selector::Selector;
use crate::packet::Prefix;

/// The members of a selector's IP set.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Members {
    /// Addresses of host endpoints and nets of network sets, sorted.
    pub nets: Vec<Prefix>,
    /// Pods may be members too; they are not among the resources.
    pub pods: bool,
    /// Selected network sets give names, whose addresses Felix learns (Calico Enterprise).
    pub domains: bool,
    /// Titles of what is selected: host endpoints and network sets.
    pub titles: Vec<String>,
    /// Selected host endpoints without addresses: they are no members at all.
    pub without_addresses: Vec<String>,
}

impl Members {
    /// Nothing else can be in the set.
    #[must_use]
    pub fn complete(&self) -> bool {
        !self.pods && !self.domains
    }
}

/// The members of the IP set of a rule's effective selector.
#[must_use]
pub fn members(model: &Model<'_>, selector: &Selector) -> Members {
    let mut found = Members { pods: may_select_pods(selector), ..Members::default() };
    for endpoint in model.endpoints.iter().filter(|endpoint| selector.matches(&endpoint.labels)) {
        let title = format!("HostEndpoint {}", endpoint.name);
        if endpoint.spec.expected_ips.is_empty() {
            found.without_addresses.push(title);
        } else {
            found.nets.extend(endpoint.spec.expected_ips.iter().map(|address| Prefix::host(address.value)));
            found.titles.push(title);
        }
    }
    for resource in model.resources.iter().filter(|resource| !resource.refused) {
        let Spec::NetworkSet(set) = &resource.spec else { continue };
        if selector.matches(&set_labels(resource)) {
            add_set(&mut found, resource, set);
        }
    }
    found.nets.sort_unstable();
    found.nets.dedup();
    found
}

fn add_set(found: &mut Members, resource: &Resource, set: &NetworkSet) {
    found.nets.extend(set.nets.iter().map(|net| net.prefix));
    found.domains |= !set.domains.is_empty();
    found.titles.push(resource.meta.title());
}

/// A network set's labels; one in a namespace has the namespace among them.
fn set_labels(resource: &Resource) -> Labels {
    let mut labels = resource.meta.plain_labels();
    if resource.meta.kind == Kind::NetworkSet
        && let Some(namespace) = &resource.meta.namespace
    {
        labels.insert("projectcalico.org/namespace".to_owned(), namespace.clone());
        labels.insert("pcns.projectcalico.org/name".to_owned(), namespace.clone());
    }
    labels
}

/// Pods always carry their namespace and are of Kubernetes; a selector that rules that out selects none.
fn may_select_pods(selector: &Selector) -> bool {
    let pod = "has(projectcalico.org/namespace) && projectcalico.org/orchestrator == 'k8s'";
    Selector::parse(&format!("({}) && {pod}", selector.canonical())).is_ok_and(|both| !both.is_contradictory())
}
