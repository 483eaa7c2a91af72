//! From resources to what Felix renders: the host endpoints that are active here, with the policies in force for each.

use std::collections::BTreeMap;

use crate::calico::names::{Generation, PolicyName, backend_name, selector_set_id};
use crate::calico::order::{
    ALLOW_PROFILE, Endpoint, Exclusions, Governed, Layer, Model, Ordered, ProfileInForce, governing,
};
use crate::calico::render::rule::ProtocolName;
use crate::calico::render::{self, HostEndpoint, Input, PolicyRule, TierPolicies};
use crate::calico::resources::{self, Field, Port, Protocol};
use crate::calico::selector::{Selector, entity_selectors};
use crate::host::Host;
use crate::packet::{Family, PortRange, Prefix};

/// What Felix renders from, and what of the resources it does not.
#[derive(Clone, Debug)]
pub(super) struct Compiled {
    pub(super) input: Input,
    /// Selectors by the identifier of their set.
    pub(super) selectors: BTreeMap<String, Selector>,
    /// What the resources say that no rule of the host says.
    pub(super) notes: Vec<String>,
    /// What could not be told.
    pub(super) unknown: Vec<String>,
}

/// Everything for the endpoints of `node` on `host`.
pub(super) fn compile(model: &Model<'_>, node: Option<&str>, host: &Host, settings: &render::Settings) -> Compiled {
    let mut compiled = Compiled {
        input: Input { settings: settings.clone(), endpoints: Vec::new(), policies: Vec::new(), profiles: Vec::new() },
        selectors: BTreeMap::new(),
        notes: Vec::new(),
        unknown: Vec::new(),
    };
    compiled.unknown.extend(model.doubts.iter().cloned());
    let active = active(model, node, host, settings, &mut compiled.unknown);
    let mut indices: BTreeMap<usize, usize> = BTreeMap::new();
    for (interface, endpoint) in active {
        let in_force = model.for_endpoint(endpoint);
        let mut made = HostEndpoint { interface, ..HostEndpoint::default() };
        for (layer, slot) in [
            (Layer::Normal, &mut made.tiers),
            (Layer::Forward, &mut made.forward_tiers),
            (Layer::Untracked, &mut made.untracked_tiers),
            (Layer::PreDnat, &mut made.pre_dnat_tiers),
        ] {
            for tier in in_force.tiers(layer) {
                let mut index = |all: &[usize]| -> Vec<usize> {
                    all.iter().filter_map(|policy| compiled.policy(model, *policy, &mut indices)).collect()
                };
                slot.push(TierPolicies {
                    ingress: index(&tier.ingress),
                    egress: index(&tier.egress),
                    tier: model.tiers.get(tier.tier).map(|tier| tier.name.clone()).unwrap_or_default(),
                    default_pass: model.passes_on(layer, tier),
                });
            }
        }
        made.profiles = in_force.profiles.iter().map(|profile| compiled.profile(profile)).collect();
        compiled.input.endpoints.push(made);
    }
    compiled.unknown.sort();
    compiled.unknown.dedup();
    compiled.notes.sort();
    compiled.notes.dedup();
    compiled
}

/// The endpoints that are active, by interface; `None` is every other interface.
fn active<'m>(
    model: &'m Model<'_>,
    node: Option<&str>,
    host: &Host,
    settings: &render::Settings,
    unknown: &mut Vec<String>,
) -> Vec<(Option<String>, &'m Endpoint)> {
    let endpoints: Vec<&Endpoint> = match node {
        Some(node) => model.endpoints.iter().filter(|endpoint| endpoint.node() == node).collect(),
        None => {
            let first = model.endpoints.first().map(Endpoint::node);
            if model.endpoints.iter().any(|endpoint| Some(endpoint.node()) != first) {
                unknown.push("which host endpoints are this host's: its name is not known".to_owned());
                return Vec::new();
            }
            model.endpoints.iter().collect()
        }
    };
    let mut found: Vec<(Option<String>, &Endpoint)> = Vec::new();
    let exclusions =
        Exclusions { prefixes: settings.workload_prefixes.clone(), excluded: settings.excluded_interfaces.clone() };
    match &host.interfaces {
        Some(interfaces) => {
            for interface in interfaces {
                let addresses: Vec<_> = interface.addresses.iter().map(|address| address.address).collect();
                match governing(endpoints.iter().copied(), &interface.name, &addresses, &exclusions) {
                    Governed::By(endpoint, _) if endpoint.interface() != Some("*") => {
                        found.push((Some(interface.name.to_string()), endpoint));
                    }
                    Governed::Undecided(pattern) => unknown.push(format!(
                        "whether a host endpoint governs {}: InterfaceExclude has the pattern {pattern}",
                        interface.name
                    )),
                    Governed::By(..) | Governed::Excluded | Governed::Unpoliced => {}
                }
            }
        }
        None => {
            unknown.push(
                "which interfaces the host has: each host endpoint that names one is taken to be active".to_owned(),
            );
            let mut named: BTreeMap<&str, &Endpoint> = BTreeMap::new();
            for endpoint in endpoints.iter().copied() {
                if let Some(name) = endpoint.interface().filter(|name| *name != "*") {
                    let first = named.entry(name).or_insert(endpoint);
                    if endpoint.name < first.name {
                        *first = endpoint;
                    }
                }
            }
            found.extend(named.into_iter().map(|(name, endpoint)| (Some(name.to_owned()), endpoint)));
        }
    }
    let wild = endpoints.iter().copied().filter(|endpoint| endpoint.interface() == Some("*"));
    found.extend(wild.min_by(|a, b| a.name.cmp(&b.name)).map(|endpoint| (None, endpoint)));
    found
}

impl Compiled {
    /// The index of a policy in the input.
    fn policy(&mut self, model: &Model<'_>, index: usize, known: &mut BTreeMap<usize, usize>) -> Option<usize> {
        if let Some(known) = known.get(&index) {
            return Some(*known);
        }
        let made = self.render_policy(model.policy(index)?, self.input.settings.generation)?;
        let place = self.input.policies.len();
        self.input.policies.push(made);
        known.insert(index, place);
        Some(place)
    }

    /// A policy as Felix gets it. `None` when a selector does not parse: then it has no effect.
    pub(super) fn render_policy(&mut self, ordered: &Ordered<'_>, generation: Generation) -> Option<render::Policy> {
        let (meta, policy) = (&ordered.resource.meta, ordered.policy);
        let tier = policy.tier();
        let plain = policy.namespace_selector.is_none() && policy.service_account_selector.is_none();
        let written = policy.selector.as_ref().map(|selector| selector.value.clone()).unwrap_or_default();
        let owner = meta.title();
        let mut rules = |direction| -> Option<Vec<PolicyRule>> {
            let all = policy.rules(direction).iter().enumerate();
            all.map(|(number, rule)| self.rule(rule, &format!("rule {number} of {owner}"))).collect()
        };
        use crate::calico::names::Direction;
        let (ingress, egress) = (rules(Direction::In)?, rules(Direction::Out)?);
        Some(render::Policy {
            name: PolicyName {
                kind: meta.kind.name().to_owned(),
                namespace: None,
                name: backend_name(&meta.name.value, tier, ordered.staged, generation),
            },
            tier: tier.to_owned(),
            selector: Some(if plain { written } else { ordered.selector.canonical() }),
            staged: ordered.staged,
            ingress,
            egress,
        })
    }

    /// The name of a profile, which is put into the input.
    fn profile(&mut self, profile: &ProfileInForce<'_>) -> String {
        let (name, rules) = match profile {
            ProfileInForce::AllowAll => {
                let allow = vec![PolicyRule::any(crate::calico::names::Action::Allow)];
                (ALLOW_PROFILE.to_owned(), Some((allow.clone(), allow)))
            }
            ProfileInForce::Given(resource, profile) => {
                let name = resource.meta.name.value.clone();
                let owner = resource.meta.title();
                let mut all = |rules: &[resources::Rule]| -> Option<Vec<PolicyRule>> {
                    rules
                        .iter()
                        .enumerate()
                        .map(|(number, rule)| self.rule(rule, &format!("rule {number} of {owner}")))
                        .collect()
                };
                let both = all(&profile.ingress).zip(all(&profile.egress));
                (name, both)
            }
            ProfileInForce::Missing(name) => (name.clone(), None),
        };
        // Felix denies both ways in the place of a profile that it does not know
        let deny = || vec![PolicyRule::any(crate::calico::names::Action::Deny)];
        let (ingress, egress) = rules.unwrap_or_else(|| (deny(), deny()));
        if !self.input.profiles.iter().any(|known| known.name == name) {
            self.input.profiles.push(render::Profile { name: name.clone(), ingress, egress });
        }
        name
    }

    fn rule(&mut self, rule: &resources::Rule, title: &str) -> Option<PolicyRule> {
        if rule.http.is_some() {
            self.notes.push(format!(
                "{title}: http is not matched by the host's rules, which let through all it else matches"
            ));
        }
        let action = rule.action.as_ref().map_or(crate::calico::names::Action::Allow, |action| action.value);
        Some(PolicyRule {
            ip_version: rule.ip_version.as_ref().map(|version| match version.value {
                6 => Family::Ipv6,
                _ => Family::Ipv4,
            }),
            protocol: rule.protocol.as_ref().map(|protocol| name_of(protocol.value)),
            not_protocol: rule.not_protocol.as_ref().map(|protocol| name_of(protocol.value)),
            icmp: rule.icmp.as_ref().and_then(icmp),
            not_icmp: rule.not_icmp.as_ref().and_then(icmp),
            source: self.entity(&rule.source, title)?,
            destination: self.entity(&rule.destination, title)?,
            annotations: rule.annotations.iter().map(|(key, value)| (key.clone(), value.value.clone())).collect(),
            ..PolicyRule::any(action)
        })
    }

    fn entity(&mut self, entity: &resources::Entity, title: &str) -> Option<render::Entity> {
        let selectors = entity_selectors(entity, None)?;
        let mut canonical = |selector: &Option<Selector>| {
            selector.as_ref().map(|selector| {
                let text = selector.canonical();
                self.selectors.insert(selector_set_id(&text), selector.clone());
                text
            })
        };
        let (selector, not_selector) = (canonical(&selectors.positive), canonical(&selectors.negative));
        let mut other_sets = Vec::new();
        if !entity.domains.is_empty() {
            // Calico Enterprise alone has them, and does not tell how it names their sets
            other_sets.push("d:names".to_owned());
            let names: Vec<&str> = entity.domains.iter().map(|domain| domain.value.as_str()).collect();
            self.unknown.push(format!("{title}: the addresses of {}", names.join(", ")));
        }
        let (ports, named_ports) = split(&entity.ports);
        let (not_ports, not_named_ports) = split(&entity.not_ports);
        let nets = |all: &[Field<resources::Net>]| -> Vec<Prefix> { all.iter().map(|net| net.value.prefix).collect() };
        Some(render::Entity {
            nets: nets(&entity.nets),
            not_nets: nets(&entity.not_nets),
            selector,
            not_selector,
            ports,
            named_ports,
            not_ports,
            not_named_ports,
            service: entity
                .services
                .as_ref()
                .map(|service| (service.value.namespace.clone().unwrap_or_default(), service.value.name.clone())),
            other_sets,
        })
    }
}

fn name_of(protocol: Protocol) -> ProtocolName {
    match protocol {
        Protocol::Name(name) => ProtocolName::Name(name.to_ascii_lowercase()),
        Protocol::Number(number) => ProtocolName::Number(number),
    }
}

/// A code without a type asks nothing.
fn icmp(icmp: &Field<resources::Icmp>) -> Option<(u8, Option<u8>)> {
    icmp.value.kind.map(|kind| (kind, icmp.value.code))
}

fn split(ports: &[Field<Port>]) -> (Vec<PortRange>, Vec<String>) {
    let (mut numbers, mut names) = (Vec::new(), Vec::new());
    for port in ports {
        match &port.value {
            Port::Range(range) => numbers.push(*range),
            Port::Name(name) => names.push(name.clone()),
        }
    }
    (numbers, names)
}
