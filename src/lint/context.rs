//! What all lints share: the order of policies, a judge of flows, endpoints that behave alike.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::calico::names::{Direction, Generation};
use crate::calico::order::judge::{Decision, Flow, Judge, Judgement};
use crate::calico::order::{Endpoint, InForce, Layer, Model, Ordered, ProfileInForce, TierInForce};
use crate::calico::resources::{Kind, Net, Resource, Resources, Rule, Spec};
use crate::calico::selector::entity_selectors;
use crate::calico::settings::Settings;
use crate::calico::settings::ports::Entry;

/// Both directions.
pub(super) const DIRECTIONS: [Direction; 2] = [Direction::In, Direction::Out];

/// Peers that a question is asked for, at most.
const MAX_PEERS: usize = 200;

/// Endpoints with the same policies, profiles and sort of interface.
pub(super) struct Class<'m, 'r> {
    /// The first of them, which stands for all.
    pub(super) endpoint: &'m Endpoint,
    /// Names of the others.
    pub(super) others: Vec<&'m str>,
    /// What is in force for them.
    pub(super) force: InForce<'r>,
}

impl Class<'_, '_> {
    /// The tiers of the normal layer.
    pub(super) fn tiers(&self) -> &[TierInForce] {
        self.force.tiers(Layer::Normal)
    }

    /// It has the profile that allows everything.
    pub(super) fn is_open(&self) -> bool {
        self.force.profiles.iter().any(|profile| matches!(profile, ProfileInForce::AllowAll))
    }

    /// `HostEndpoint b1`, `HostEndpoint b1 (and 3 more)`.
    pub(super) fn title(&self) -> String {
        match self.others.len() {
            0 => format!("HostEndpoint {}", self.endpoint.name),
            more => format!("HostEndpoint {} (and {more} more)", self.endpoint.name),
        }
    }

    pub(super) fn is_wildcard(&self) -> bool {
        self.endpoint.interface() == Some("*")
    }
}

/// What lints look at.
pub(super) struct Context<'m> {
    pub(super) resources: &'m Resources,
    pub(super) model: &'m Model<'m>,
    pub(super) judge: Judge<'m, 'm>,
    pub(super) classes: Vec<Class<'m, 'm>>,
    /// Failsafe lists: those of the FelixConfiguration `default`, else Felix's own.
    pub(super) failsafe_in: Vec<Entry>,
    pub(super) failsafe_out: Vec<Entry>,
    /// Addresses that rules and sets talk about, and two that none does.
    pub(super) peers: Vec<IpAddr>,
}

/// The order of the resources, for the version they say they are of.
pub(super) fn model(resources: &Resources) -> Model<'_> {
    let version = resources.iter().find_map(|resource| match &resource.spec {
        Spec::ClusterInformation(information) => information.calico_version.as_ref(),
        _ => None,
    });
    let generation = version.and_then(|version| Generation::of_version(&version.value)).unwrap_or(Generation::From332);
    Model::of(resources, generation)
}

/// The settings that the FelixConfiguration `default` among the resources gives.
fn settings(resources: &Resources) -> Settings {
    let felix = resources.get(&Kind::FelixConfiguration, None, "default").map(|resource| &resource.spec);
    match felix {
        Some(Spec::Felix(felix)) => Settings::resolve(&felix.loaded.assignments),
        _ => Settings::resolve(&[]),
    }
}

impl<'m> Context<'m> {
    pub(super) fn new(resources: &'m Resources, model: &'m Model<'m>) -> Self {
        let settings = settings(resources);
        let list = |name: &str| settings.entries(name).unwrap_or_default();
        let (failsafe_in, failsafe_out) = (list("FailsafeInboundHostPorts"), list("FailsafeOutboundHostPorts"));
        let judge = Judge::new(model, failsafe_in.clone(), failsafe_out.clone());
        Self {
            resources,
            model,
            judge,
            classes: classes(model),
            failsafe_in,
            failsafe_out,
            peers: peers(resources, model),
        }
    }

    /// Policies that are enforced, with their titles.
    pub(super) fn enforced(&self) -> impl Iterator<Item = &Ordered<'m>> {
        self.model.policies.iter().filter(|policy| !policy.staged)
    }

    /// The enforced policies of a tier, for a direction.
    pub(super) fn enforced_in(&self, tier: &TierInForce, direction: Direction) -> Vec<&Ordered<'m>> {
        let policies = tier.policies(direction).iter().filter_map(|index| self.model.policy(*index));
        policies.filter(|policy| !policy.staged).collect()
    }

    /// Whether any enforced policy acts on a direction of a class.
    pub(super) fn governed(&self, class: &Class<'_, '_>, direction: Direction) -> bool {
        class.tiers().iter().any(|tier| !self.enforced_in(tier, direction).is_empty())
    }

    /// What the normal layer says of a flow.
    pub(super) fn judged(&self, class: &Class<'m, 'm>, direction: Direction, flow: &Flow) -> Judgement {
        self.judge.judge(&class.force, Layer::Normal, direction, flow, false)
    }

    /// An address of the endpoint in the family of `peer`, made up where it has none.
    pub(super) fn own_address(class: &Class<'_, '_>, peer: IpAddr) -> IpAddr {
        let own = class.endpoint.spec.expected_ips.iter().map(|ip| ip.value);
        let made_up = if peer.is_ipv4() { "198.51.100.254" } else { "2001:db8:ffff::fe" };
        own.into_iter().find(|own| own.is_ipv4() == peer.is_ipv4()).or_else(|| made_up.parse().ok()).unwrap_or(peer)
    }

    /// The flow between the endpoint and a peer.
    pub(super) fn flow(class: &Class<'_, '_>, direction: Direction, peer: IpAddr, protocol: u8, port: u16) -> Flow {
        let own = Self::own_address(class, peer);
        let (source, destination) = if direction == Direction::In { (peer, own) } else { (own, peer) };
        Flow::to_port(protocol, source, destination, port)
    }

    /// Whether some peer of a family may get through; rules that cannot be decided count as letting it through.
    pub(super) fn any_peer(
        &self,
        class: &Class<'m, 'm>,
        direction: Direction,
        protocol: u8,
        port: u16,
        ipv4: bool,
    ) -> bool {
        self.peers.iter().filter(|peer| peer.is_ipv4() == ipv4).any(|peer| {
            let flow = Self::flow(class, direction, *peer, protocol, port);
            !self.judged(class, direction, &flow).denies()
        })
    }

    /// In words, what decides.
    pub(super) fn by(&self, decision: &Decision) -> String {
        let policy = |index: usize| self.model.policy(index).map_or(String::new(), |p| p.resource.meta.title());
        match decision {
            Decision::Failsafe(entry) => format!("failsafe {entry}"),
            Decision::Rule { policy: index, rule } => format!("rule {rule} of {}", policy(*index)),
            Decision::EndOfTier { tier, policy: index } => {
                let name = self.model.tiers.get(*tier).map_or("", |tier| &tier.name);
                format!("the end of tier {name} (last policy: {})", policy(*index))
            }
            Decision::Profile { name, .. } => format!("profile {name}"),
            Decision::MissingProfile(name) => format!("profile {name}, which does not exist"),
            Decision::NoProfile => "the end of policy: no profile allows it".to_owned(),
            Decision::ForwardDefault => "the default for forwarded traffic".to_owned(),
            Decision::NoVerdict => "no policy".to_owned(),
        }
    }

    /// The resource to mend: the policy that decides, else the endpoint.
    pub(super) fn culprit(&self, decision: &Decision) -> Option<&'m Resource> {
        match decision {
            Decision::Rule { policy, .. } | Decision::EndOfTier { policy, .. } => {
                self.model.policy(*policy).map(|policy| policy.resource)
            }
            _ => None,
        }
    }

    /// Every rule of every policy that could select hosts: policy, direction, index, rule.
    pub(super) fn rules(&self) -> impl Iterator<Item = (&Ordered<'m>, Direction, usize, &'m Rule)> {
        self.model.policies.iter().flat_map(|policy| {
            DIRECTIONS.into_iter().flat_map(move |direction| {
                let rules = policy.policy.rules(direction).iter().enumerate();
                rules.map(move |(index, rule)| (policy, direction, index, rule))
            })
        })
    }
}

/// `spec.ingress[0]`.
pub(super) fn rule_path(direction: Direction, index: usize) -> String {
    format!("spec.{}[{index}]", direction.calico())
}

fn classes<'m>(model: &'m Model<'m>) -> Vec<Class<'m, 'm>> {
    let mut classes: Vec<Class<'m, 'm>> = Vec::new();
    let mut known: BTreeMap<String, usize> = BTreeMap::new();
    for endpoint in &model.endpoints {
        let force = model.for_endpoint(endpoint);
        let layers = Layer::ALL.map(|layer| force.tiers(layer));
        let profiles: Vec<&str> = endpoint.spec.profiles.iter().map(|profile| profile.value.as_str()).collect();
        let wildcard = endpoint.interface() == Some("*");
        let families = [true, false].map(|ipv4| endpoint.spec.expected_ips.iter().any(|ip| ip.is_ipv4() == ipv4));
        let key = format!("{layers:?} {profiles:?} {wildcard} {families:?} {}", endpoint.automatic);
        match known.get(&key).and_then(|index| classes.get_mut(*index)) {
            Some(class) => class.others.push(&endpoint.name),
            None => {
                known.insert(key, classes.len());
                classes.push(Class { endpoint, others: Vec::new(), force });
            }
        }
    }
    classes
}

fn peers(resources: &Resources, model: &Model<'_>) -> Vec<IpAddr> {
    let mut peers: Vec<IpAddr> = Vec::new();
    for known in ["203.0.113.7", "2001:db8::7"] {
        peers.extend(known.parse::<IpAddr>().ok());
    }
    let mut add = |net: &Net| {
        let address = net.prefix.address();
        // loopback is no peer: what is allowed there says nothing of others
        if peers.len() < MAX_PEERS && !address.is_loopback() && net.prefix.length() > 0 && !peers.contains(&address) {
            peers.push(address);
        }
    };
    for policy in &model.policies {
        for rule in DIRECTIONS.iter().flat_map(|direction| policy.policy.rules(*direction)) {
            rule.source.nets.iter().chain(&rule.destination.nets).for_each(|net| add(&net.value));
        }
    }
    for resource in resources.iter() {
        if let Spec::NetworkSet(set) = &resource.spec {
            set.nets.iter().for_each(|net| add(&net.value));
        }
    }
    let own = model.endpoints.iter().flat_map(|endpoint| endpoint.spec.expected_ips.iter().map(|ip| ip.value));
    for address in own.take(MAX_PEERS) {
        if !peers.contains(&address) {
            peers.push(address);
        }
    }
    peers
}

/// The selector text of one end of a rule as Felix computes it, for messages.
pub(super) fn shown_selector(entity: &crate::calico::resources::Entity) -> String {
    let found = entity_selectors(entity, None).unwrap_or_default();
    found.positive.or(found.negative).map_or(String::new(), |selector| selector.canonical())
}
