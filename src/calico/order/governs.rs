//! Which host endpoint governs an interface.

use std::net::IpAddr;

use super::Endpoint;
use super::automatic::is_found;

/// Interfaces that no host endpoint governs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Exclusions {
    /// `InterfacePrefix`: names of workloads' interfaces start so.
    pub prefixes: Vec<String>,
    /// `InterfaceExclude`: names, and regular expressions between slashes.
    pub excluded: Vec<String>,
}

impl Default for Exclusions {
    fn default() -> Self {
        Self { prefixes: vec!["cali".to_owned()], excluded: vec!["kube-ipvs0".to_owned()] }
    }
}

/// What governs an interface.
#[derive(Clone, PartialEq, Debug)]
pub enum Governed<'m> {
    /// A workload's interface, or an excluded one: host endpoints have no say.
    Excluded,
    /// Whether it is excluded depends on a regular expression that is not evaluated here.
    Undecided(String),
    /// No host endpoint: nothing is policed, in both directions.
    Unpoliced,
    /// This endpoint; the others that would, but for their names, are inactive on the interface.
    By(&'m Endpoint, Vec<&'m Endpoint>),
}

/// What governs `interface` with these addresses, among the host endpoints of its node: by name or address the first in the
/// alphabet, else the first of those for every interface.
#[must_use]
pub fn governing<'m>(
    endpoints: impl IntoIterator<Item = &'m Endpoint>,
    interface: &str,
    addresses: &[IpAddr],
    exclusions: &Exclusions,
) -> Governed<'m> {
    let workload =
        exclusions.prefixes.iter().any(|prefix| !prefix.is_empty() && interface.starts_with(prefix.as_str()));
    if workload || exclusions.excluded.iter().any(|name| name == interface) {
        return Governed::Excluded;
    }
    let patterns =
        exclusions.excluded.iter().filter_map(|name| Some((name, name.strip_prefix('/')?.strip_suffix('/')?)));
    let mut open = None;
    for (name, pattern) in patterns {
        match is_found(pattern, interface) {
            Some(true) => return Governed::Excluded,
            Some(false) => {}
            None => open = open.or(Some(name)),
        }
    }
    if let Some(pattern) = open {
        return Governed::Undecided(pattern.clone());
    }
    let mut endpoints: Vec<&Endpoint> = endpoints.into_iter().collect();
    endpoints.sort_by(|a, b| a.name.cmp(&b.name));
    let specific = |endpoint: &&&Endpoint| match endpoint.interface() {
        Some(name) => name == interface,
        None => endpoint.spec.expected_ips.iter().any(|ip| addresses.contains(&ip.value)),
    };
    let wild = |endpoint: &&&Endpoint| endpoint.interface() == Some("*");
    let mut candidates: Vec<&Endpoint> = endpoints.iter().filter(specific).copied().collect();
    if candidates.is_empty() {
        candidates = endpoints.iter().filter(wild).copied().collect();
    }
    if candidates.is_empty() {
        return Governed::Unpoliced;
    }
    let first = candidates.remove(0);
    Governed::By(first, candidates)
}
