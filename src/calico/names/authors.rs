//! Who wrote what Felix names by a hash: the policies behind chains and the selectors behind sets, told by resources.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::{
    Action, Direction, Generation, MAX_IPTABLES_CHAIN, MAX_NFT_CHAIN, PolicyName, chain_name, named_port_set_id,
    nft_set_name, selector_set_id, service_set_id, set_name,
};
use crate::calico::resources::{Entity, Policy, Port, Protocol, Resource, Resources, Rule, Spec};
use crate::calico::selector::entity_selectors;
use crate::calico::settings::Place;
use crate::packet::Family;

/// Prefix of the chains of policies; the other direction's is as long, so their ends are the same.
const POLICY_CHAIN: &str = "cali-pi-";

/// What resources tell about Felix's names.
#[derive(Clone, Debug, Default)]
pub struct Authors {
    /// By the end of the chain's name, in every version family and mode.
    policies: HashMap<String, Vec<Arc<Author>>>,
    /// By what logs call the policy: its name, with its tier behind a blank.
    logged: HashMap<String, Vec<Arc<Author>>>,
    /// What a set holds, by the end of its name as nft has it.
    sets: HashMap<String, String>,
}

/// A policy in its file.
#[derive(Debug)]
pub struct Author {
    /// Its name as written.
    pub name: PolicyName,
    /// Its tier.
    pub tier: String,
    /// Where it begins.
    pub place: Place,
    ingress: Vec<Written>,
    egress: Vec<Written>,
}

/// A rule in its file.
#[derive(Debug)]
struct Written {
    line: u32,
    action: Option<Action>,
    /// Whether Felix writes it in IPv4, and in IPv6.
    families: [bool; 2],
}

/// A number that stands for a rule of a policy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RuleNumber {
    /// Among all rules of the direction, as log prefixes count.
    OfAll(u32),
    /// Among those that Felix writes in this family.
    OfFamily(u32, Family),
}

impl Author {
    /// Where a rule stands; the policy's place when the file has no such rule with this action, as when it was changed since.
    #[must_use]
    pub fn place_of(&self, direction: Direction, number: RuleNumber, action: Option<Action>) -> Place {
        let rules = if direction == Direction::In { &self.ingress } else { &self.egress };
        let at = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        let found = match number {
            RuleNumber::OfAll(number) => rules.get(at(number)),
            RuleNumber::OfFamily(number, family) => {
                let written = |rule: &&Written| rule.families[usize::from(family == Family::Ipv6)];
                rules.iter().filter(written).nth(at(number))
            }
        };
        let found = found.filter(|rule| action.is_none() || rule.action == action);
        Place { file: Arc::clone(&self.place.file), line: found.map_or(self.place.line, |rule| rule.line) }
    }
}

impl Authors {
    /// Everything that resources in force can be called by. Staged policies have no chains; refused resources have no effect.
    #[must_use]
    pub fn of(resources: &Resources) -> Self {
        let mut authors = Self::default();
        for resource in resources.iter().filter(|resource| !resource.refused) {
            match &resource.spec {
                Spec::Policy(policy) => authors.add(resource, policy),
                Spec::Profile(profile) => {
                    profile.ingress.iter().chain(&profile.egress).for_each(|rule| authors.sets_of(rule, None));
                }
                _ => {}
            }
        }
        authors
    }

    /// Nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.policies.is_empty() && self.sets.is_empty()
    }

    fn add(&mut self, resource: &Resource, policy: &Policy) {
        let meta = &resource.meta;
        let rules = |direction| policy.rules(direction).iter().map(written).collect();
        let author = Arc::new(Author {
            name: PolicyName {
                kind: meta.kind.name().to_owned(),
                namespace: meta.namespace.clone(),
                name: meta.name.value.clone(),
            },
            tier: policy.tier().to_owned(),
            place: meta.place.clone(),
            ingress: rules(Direction::In),
            egress: rules(Direction::Out),
        });
        let put = |known: &mut HashMap<String, Vec<Arc<Author>>>, key: String| {
            let all = known.entry(key).or_default();
            if !all.iter().any(|known| Arc::ptr_eq(known, &author)) {
                all.push(Arc::clone(&author));
            }
        };
        let staged = meta.kind.is_staged();
        for generation in Generation::ALL {
            let backend = PolicyName {
                name: backend_name(&author.name.name, &author.tier, staged, generation),
                ..author.name.clone()
            };
            put(&mut self.logged, logged_as(&backend.log_id(generation, &author.tier), &author.tier));
            if staged {
                continue;
            }
            let id = backend.id(generation, &author.tier);
            for longest in [MAX_IPTABLES_CHAIN, MAX_NFT_CHAIN] {
                let chain = chain_name(POLICY_CHAIN, &id, longest);
                put(&mut self.policies, chain.get(POLICY_CHAIN.len()..).unwrap_or_default().to_owned());
            }
        }
        for direction in [Direction::In, Direction::Out] {
            policy.rules(direction).iter().for_each(|rule| self.sets_of(rule, meta.namespace.as_deref()));
        }
    }

    fn sets_of(&mut self, rule: &Rule, namespace: Option<&str>) {
        let protocol = rule.protocol.as_ref().map(|protocol| match protocol.value {
            Protocol::Name(name) => name.to_ascii_lowercase(),
            Protocol::Number(number) => number.to_string(),
        });
        for (entity, is_destination) in [(&rule.source, false), (&rule.destination, true)] {
            self.sets_of_entity(entity, namespace, protocol.as_deref(), is_destination);
        }
    }

    fn sets_of_entity(
        &mut self,
        entity: &Entity,
        namespace: Option<&str>,
        protocol: Option<&str>,
        is_destination: bool,
    ) {
        let Some(selectors) = entity_selectors(entity, namespace) else { return };
        let positive = selectors.positive.map(|selector| selector.canonical());
        for text in positive.iter().cloned().chain(selectors.negative.map(|selector| selector.canonical())) {
            self.sets.insert(set_key(&selector_set_id(&text)), text);
        }
        let of_ports = positive.as_deref().unwrap_or("all()");
        for port in entity.ports.iter().chain(&entity.not_ports) {
            if let Port::Name(name) = &port.value {
                let id = named_port_set_id(of_ports, protocol, name);
                self.sets.insert(set_key(&id), format!("port {name} of {of_ports}"));
            }
        }
        if let Some(service) = &entity.services {
            let own = service.value.namespace.as_deref().or(namespace).unwrap_or_default();
            let id = service_set_id(own, &service.value.name, is_destination);
            self.sets.insert(set_key(&id), format!("service {own}/{}", service.value.name));
        }
    }

    /// The policy whose chain's name ends so (`gnp/ssh`, `_sQdl6e7ekf9DS2UYNem`); `told` is the name that the chain itself
    /// tells. `None` when several could be meant.
    #[must_use]
    pub fn of_chain(&self, end: &str, told: Option<&PolicyName>) -> Option<&Arc<Author>> {
        let is_told = |author: &&Arc<Author>| {
            told.is_none_or(|told| {
                let names = Generation::ALL.map(|generation| PolicyName {
                    name: backend_name(&author.name.name, &author.tier, false, generation),
                    ..author.name.clone()
                });
                let full = told.full();
                names.iter().any(|name| name.full() == full)
            })
        };
        single(self.policies.get(end)?.iter().filter(is_told))
    }

    /// The policy that logs call `policy` in `tier`, be it by a hash. `None` when several could be meant.
    #[must_use]
    pub fn of_log(&self, policy: &str, tier: &str) -> Option<&Arc<Author>> {
        single(self.logged.get(&logged_as(policy, tier))?.iter())
    }

    /// What a set of Felix (`cali40s:…`, in nft `cali40s-…`) holds: the selector's canonical text, or the ports or service.
    #[must_use]
    pub fn of_set(&self, name: &str) -> Option<&str> {
        let end = name.strip_prefix("cali40").or_else(|| name.strip_prefix("cali60"))?;
        self.sets.get(&nft_set_name(end)).map(String::as_str)
    }

    /// The sets that a rule's text speaks of, with what they hold.
    #[must_use]
    pub fn sets_in(&self, text: &str) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        if self.sets.is_empty() {
            return found;
        }
        for (at, _) in text.match_indices("cali") {
            let rest = text.get(at..).unwrap_or_default();
            let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '-' | '_');
            let name = rest.split(|c| !is_part(c)).next().unwrap_or_default();
            if let Some(holds) = self.of_set(name) {
                found.insert(name.to_owned(), holds.to_owned());
            }
        }
        found
    }
}

/// The only one.
fn single<'a>(mut all: impl Iterator<Item = &'a Arc<Author>>) -> Option<&'a Arc<Author>> {
    let first = all.next()?;
    all.next().is_none().then_some(first)
}

fn logged_as(policy: &str, tier: &str) -> String {
    format!("{policy} {tier}")
}

/// The part of a set's name that both families and both modes share.
fn set_key(id: &str) -> String {
    let name = nft_set_name(&set_name(id, Family::Ipv4));
    name.strip_prefix("cali40").unwrap_or(&name).to_owned()
}

/// Up to 3.31 policies of the tier `default` are called so, whatever they are called in files; staged ones are marked.
#[must_use]
pub fn backend_name(name: &str, tier: &str, staged: bool, generation: Generation) -> String {
    if generation == Generation::From332 {
        return name.to_owned();
    }
    let full =
        if tier == "default" && !name.starts_with("default.") { format!("default.{name}") } else { name.to_owned() };
    if staged { format!("staged:{full}") } else { full }
}

fn written(rule: &Rule) -> Written {
    Written {
        line: rule.line,
        action: rule.action.as_ref().map(|action| action.value),
        families: [Family::Ipv4, Family::Ipv6].map(|family| rule.is_written_in(family)),
    }
}
