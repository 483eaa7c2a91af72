//! Which policies are in force for a host endpoint, in which order.
//!
//! ```text
//! Resources ─► Model: tiers and policies in order, host endpoints with their labels
//!                └► for_endpoint ─► InForce: per layer, the tiers with their policies for each direction; profiles
//! ```
//!
//! Policies that Felix would refuse are left out, as Felix does. Namespaced policies never select a host endpoint.

mod automatic;
mod governs;
pub mod judge;
mod members;
#[cfg(test)]
mod tests;

pub use automatic::{Automatic, OwnNode, automatic_endpoints};
pub use governs::{Exclusions, Governed, governing};
pub use members::{Members, members};

use super::names::{Direction, Generation};
use super::resources::{Api, HostEndpoint, Kind, Labels, Policy, Profile, Resource, Resources, Spec};
use super::selector::{Selector, policy_selector};
use super::settings::Place;

/// The four places where an endpoint's policies act, each with policies of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Layer {
    /// Traffic to and from the host itself, behind NAT and conntrack.
    Normal,
    /// Traffic through the host (`applyOnForward`).
    Forward,
    /// Before conntrack (`doNotTrack`).
    Untracked,
    /// What comes in, before NAT (`preDNAT`).
    PreDnat,
}

impl Layer {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Normal, Self::Forward, Self::Untracked, Self::PreDnat];
}

/// The built-in profile that allows everything.
pub const ALLOW_PROFILE: &str = "projectcalico-default-allow";

/// The order a tier without order is stored with.
pub const DEFAULT_TIER_ORDER: f64 = 1_000_000.0;

/// A host endpoint, given or made by Calico's controllers.
#[derive(Clone, PartialEq, Debug)]
pub struct Endpoint {
    /// Its name.
    pub name: String,
    /// Where it is defined; for automatic ones the node.
    pub place: Place,
    /// Its labels and those its profiles add.
    pub labels: Labels,
    /// Node, interface, addresses, profiles, ports.
    pub spec: HostEndpoint,
    /// Made by the controllers from a node.
    pub automatic: bool,
}

impl Endpoint {
    /// The node it is for.
    #[must_use]
    pub fn node(&self) -> &str {
        self.spec.node.as_ref().map_or("", |node| &node.value)
    }

    /// The interface it names; `*` is every interface.
    #[must_use]
    pub fn interface(&self) -> Option<&str> {
        self.spec.interface.as_ref().map(|interface| interface.value.as_str()).filter(|name| !name.is_empty())
    }
}

/// A tier.
#[derive(Clone, PartialEq, Debug)]
pub struct TierOrder {
    /// Its name.
    pub name: String,
    /// Its order as Felix has it; `None` for tiers that no resource defines, which come last.
    pub order: Option<f64>,
    /// What no policy decided is passed on, not denied.
    pub default_pass: bool,
}

/// For which directions a policy acts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Directions {
    /// On what comes in.
    pub ingress: bool,
    /// On what goes out.
    pub egress: bool,
    /// The policy does not say (`types` is missing and a list is there but empty): it depends on how Calico is installed.
    pub doubtful: bool,
}

impl Directions {
    /// Whether the policy acts on this direction.
    #[must_use]
    pub fn has(self, direction: Direction) -> bool {
        if direction == Direction::In { self.ingress } else { self.egress }
    }

    /// The directions of a policy, as Felix gets them. An object that was stored without `types` acts both ways.
    #[must_use]
    pub fn of(policy: &Policy, api: Api) -> Self {
        let given = policy.types.as_ref().filter(|types| !types.value.is_empty());
        if let Some(types) = given {
            let has = |wanted| types.value.iter().any(|found| found.value == wanted);
            return Self { ingress: has(Direction::In), egress: has(Direction::Out), doubtful: false };
        }
        if api == Api::Crd {
            return Self { ingress: true, egress: true, doubtful: false };
        }
        let ingress = !policy.rules(Direction::In).is_empty();
        let egress = !policy.rules(Direction::Out).is_empty();
        let empty = |present: bool, rules: bool| present && !rules;
        let doubtful = policy.types.is_some()
            || (empty(policy.ingress.is_some(), ingress) && egress)
            || empty(policy.egress.is_some(), egress);
        Self { ingress: ingress || !egress, egress, doubtful }
    }
}

/// A policy in its place.
#[derive(Clone, Debug)]
pub struct Ordered<'r> {
    /// The resource.
    pub resource: &'r Resource,
    /// What it says.
    pub policy: &'r Policy,
    /// Index into [`Model::tiers`].
    pub tier: usize,
    /// Whom it selects, namespace and account selectors included.
    pub selector: Selector,
    /// For which directions it acts.
    pub directions: Directions,
    /// Never enforced.
    pub staged: bool,
}

impl Ordered<'_> {
    /// Whether the policy acts in this layer.
    #[must_use]
    pub fn acts_in(&self, layer: Layer) -> bool {
        let untracked = Policy::is(&self.policy.do_not_track);
        let pre_dnat = !untracked && Policy::is(&self.policy.pre_dnat);
        let plain = !untracked && !pre_dnat;
        match layer {
            Layer::Untracked => untracked,
            Layer::PreDnat => pre_dnat,
            Layer::Normal => plain,
            Layer::Forward => plain && Policy::is(&self.policy.apply_on_forward),
        }
    }

    /// The direction is one of the policy's, and one that the layer has.
    #[must_use]
    pub fn acts_on(&self, layer: Layer, direction: Direction) -> bool {
        self.directions.has(direction) && (layer != Layer::PreDnat || direction == Direction::In)
    }
}

/// Everything about policy for hosts in a set of resources.
#[derive(Clone, Debug)]
pub struct Model<'r> {
    /// The resources.
    pub resources: &'r Resources,
    /// Tiers in order of evaluation.
    pub tiers: Vec<TierOrder>,
    /// Policies that could select a host endpoint, staged ones included, in order of evaluation.
    pub policies: Vec<Ordered<'r>>,
    /// Host endpoints by name, automatic ones included.
    pub endpoints: Vec<Endpoint>,
    /// What of this host's automatic endpoints cannot be told.
    pub doubts: Vec<String>,
}

/// A tier with the policies that act for one endpoint in one layer: indices into [`Model::policies`], staged ones included.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TierInForce {
    /// Index into [`Model::tiers`].
    pub tier: usize,
    /// Policies for what comes in.
    pub ingress: Vec<usize>,
    /// Policies for what goes out.
    pub egress: Vec<usize>,
}

impl TierInForce {
    /// The policies of a direction.
    #[must_use]
    pub fn policies(&self, direction: Direction) -> &[usize] {
        if direction == Direction::In { &self.ingress } else { &self.egress }
    }
}

/// A profile of an endpoint.
#[derive(Clone, Debug)]
pub enum ProfileInForce<'r> {
    /// The built-in one that allows everything.
    AllowAll,
    /// One of the resources.
    Given(&'r Resource, &'r Profile),
    /// Not among the resources, or refused: Felix drops everything in its place.
    Missing(String),
}

/// What is in force for one endpoint.
#[derive(Clone, Debug)]
pub struct InForce<'r> {
    layers: [Vec<TierInForce>; 4],
    /// Profiles, in order; they only count in the normal layer.
    pub profiles: Vec<ProfileInForce<'r>>,
}

impl InForce<'_> {
    /// The tiers of a layer that have a policy for the endpoint, in order.
    #[must_use]
    pub fn tiers(&self, layer: Layer) -> &[TierInForce] {
        let [normal, forward, untracked, pre_dnat] = &self.layers;
        match layer {
            Layer::Normal => normal,
            Layer::Forward => forward,
            Layer::Untracked => untracked,
            Layer::PreDnat => pre_dnat,
        }
    }
}

impl<'r> Model<'r> {
    /// The order that Felix of this version family gives the resources.
    #[must_use]
    pub fn of(resources: &'r Resources, generation: Generation) -> Self {
        Self::made(resources, generation, None)
    }

    /// The same on a node whose interfaces are known: its automatic endpoints may be for interfaces by a pattern.
    #[must_use]
    pub fn of_node(resources: &'r Resources, generation: Generation, node: &OwnNode<'_>) -> Self {
        Self::made(resources, generation, Some(node))
    }

    fn made(resources: &'r Resources, generation: Generation, node: Option<&OwnNode<'_>>) -> Self {
        let tiers = tiers(resources);
        let mut policies: Vec<Ordered<'r>> =
            resources.iter().filter_map(|resource| ordered(resource, &tiers)).collect();
        policies.sort_by(|a, b| {
            let order = |policy: &Ordered<'_>| policy.policy.order.as_ref().map_or(f64::INFINITY, |order| order.value);
            let ties = |policy: &Ordered<'_>| tie_breaker(policy, generation);
            a.tier.cmp(&b.tier).then(order(a).total_cmp(&order(b))).then_with(|| ties(a).cmp(&ties(b)))
        });
        let mut endpoints: Vec<Endpoint> = resources.iter().filter_map(|one| endpoint(resources, one)).collect();
        let Automatic { endpoints: automatic, doubts } = automatic_endpoints(resources, node);
        for automatic in automatic {
            if !endpoints.iter().any(|known| known.name == automatic.name) {
                endpoints.push(automatic);
            }
        }
        endpoints.sort_by(|a, b| a.name.cmp(&b.name));
        Self { resources, tiers, policies, endpoints, doubts }
    }

    /// The host endpoints of a node; names are compared exactly, as Felix does.
    pub fn endpoints_of<'m>(&'m self, node: &'m str) -> impl Iterator<Item = &'m Endpoint> {
        self.endpoints.iter().filter(move |endpoint| endpoint.node() == node)
    }

    /// Whether a policy selects an endpoint.
    #[must_use]
    pub fn selects(&self, policy: &Ordered<'_>, endpoint: &Endpoint) -> bool {
        policy.selector.matches(&endpoint.labels)
    }

    /// What is in force for an endpoint.
    #[must_use]
    pub fn for_endpoint(&self, endpoint: &Endpoint) -> InForce<'r> {
        let layers = Layer::ALL.map(|layer| {
            let mut tiers: Vec<TierInForce> = Vec::new();
            for (index, policy) in self.policies.iter().enumerate() {
                if !policy.acts_in(layer) || !self.selects(policy, endpoint) {
                    continue;
                }
                let (ingress, egress) = (policy.acts_on(layer, Direction::In), policy.acts_on(layer, Direction::Out));
                if !ingress && !egress {
                    continue;
                }
                if tiers.last().is_none_or(|tier| tier.tier != policy.tier) {
                    tiers.push(TierInForce { tier: policy.tier, ..TierInForce::default() });
                }
                if let Some(tier) = tiers.last_mut() {
                    tier.ingress.extend(ingress.then_some(index));
                    tier.egress.extend(egress.then_some(index));
                }
            }
            tiers
        });
        let profiles = endpoint.spec.profiles.iter().map(|name| profile(self.resources, &name.value)).collect();
        InForce { layers, profiles }
    }

    /// Whether what no policy of the tier decided goes on with the next tier: its default action, and always in layers that
    /// only add to normal policy.
    #[must_use]
    pub fn passes_on(&self, layer: Layer, tier: &TierInForce) -> bool {
        matches!(layer, Layer::Untracked | Layer::PreDnat)
            || self.tiers.get(tier.tier).is_some_and(|tier| tier.default_pass)
    }

    /// The policy at an index of [`TierInForce`].
    #[must_use]
    pub fn policy(&self, index: usize) -> Option<&Ordered<'r>> {
        self.policies.get(index)
    }
}

fn tiers(resources: &Resources) -> Vec<TierOrder> {
    let mut tiers: Vec<TierOrder> = resources
        .iter()
        .filter(|resource| !resource.refused)
        .filter_map(|resource| match &resource.spec {
            Spec::Tier(tier) => Some(TierOrder {
                name: resource.meta.name.value.clone(),
                order: Some(tier.order.as_ref().map_or(DEFAULT_TIER_ORDER, |order| order.value)),
                default_pass: tier.default_pass.as_ref().is_some_and(|pass| pass.value),
            }),
            _ => None,
        })
        .collect();
    // the tier of policies that name none is always there
    if !tiers.iter().any(|tier| tier.name == "default") {
        let name = "default".to_owned();
        tiers.push(TierOrder { name, order: Some(DEFAULT_TIER_ORDER), default_pass: false });
    }
    for resource in resources.iter() {
        if let Spec::Policy(policy) = &resource.spec
            && !tiers.iter().any(|tier| tier.name == policy.tier())
        {
            tiers.push(TierOrder { name: policy.tier().to_owned(), order: None, default_pass: false });
        }
    }
    tiers.sort_by(|a, b| {
        let order = |tier: &TierOrder| tier.order.unwrap_or(f64::INFINITY);
        a.order.is_none().cmp(&b.order.is_none()).then(order(a).total_cmp(&order(b))).then_with(|| a.name.cmp(&b.name))
    });
    tiers
}

fn ordered<'r>(resource: &'r Resource, tiers: &[TierOrder]) -> Option<Ordered<'r>> {
    let Spec::Policy(policy) = &resource.spec else { return None };
    let kind = &resource.meta.kind;
    if resource.refused || kind.is_for_pods_only() {
        return None;
    }
    let deletes = policy.staged_action.as_ref().is_some_and(|action| action.value == "Delete");
    // such an object only says which policy would go; Felix never gets it
    if kind.is_staged() && deletes {
        return None;
    }
    let selector = policy_selector(policy, None)?;
    let tier = tiers.iter().position(|tier| tier.name == policy.tier())?;
    let directions = Directions::of(policy, resource.meta.api);
    Some(Ordered { resource, policy, tier, selector, directions, staged: kind.is_staged() })
}

/// What decides between policies of equal order, compared byte by byte.
fn tie_breaker(policy: &Ordered<'_>, generation: Generation) -> String {
    let name = &policy.resource.meta.name.value;
    if generation == Generation::From332 {
        return format!("{name}//{}", policy.resource.meta.kind.name());
    }
    let full = if policy.policy.tier() == "default" && !name.starts_with("default.") {
        format!("default.{name}")
    } else {
        name.clone()
    };
    if policy.staged { format!("staged:{full}") } else { full }
}

fn endpoint(resources: &Resources, resource: &Resource) -> Option<Endpoint> {
    let Spec::HostEndpoint(spec) = &resource.spec else { return None };
    if resource.refused {
        return None;
    }
    let meta = &resource.meta;
    let automatic = meta.labels.get("projectcalico.org/created-by").is_some_and(|by| by.value == automatic::CREATOR);
    Some(Endpoint {
        name: meta.name.value.clone(),
        place: meta.place.clone(),
        labels: effective_labels(resources, meta.plain_labels(), spec),
        spec: spec.clone(),
        automatic,
    })
}

/// An endpoint's labels and those that its profiles add; its own win.
fn effective_labels(resources: &Resources, own: Labels, spec: &HostEndpoint) -> Labels {
    let mut labels = Labels::new();
    for name in &spec.profiles {
        if let ProfileInForce::Given(_, profile) = profile(resources, &name.value) {
            labels.extend(profile.labels_to_apply.iter().map(|(key, value)| (key.clone(), value.value.clone())));
        }
    }
    labels.extend(own);
    labels
}

fn profile<'r>(resources: &'r Resources, name: &str) -> ProfileInForce<'r> {
    if name == ALLOW_PROFILE {
        return ProfileInForce::AllowAll;
    }
    match resources.get(&Kind::Profile, None, name) {
        Some(resource) if !resource.refused => match &resource.spec {
            Spec::Profile(profile) => ProfileInForce::Given(resource, profile),
            _ => ProfileInForce::Missing(name.to_owned()),
        },
        _ => ProfileInForce::Missing(name.to_owned()),
    }
}
