//! What policy says of one flow, by the resources alone: no rules of the kernel are needed.
//!
//! Three-valued: where a rule asks for pods, services, domains or ports by name that the resources do not tell, both ways
//! are followed and both ends reported.

use std::cell::OnceCell;
use std::net::IpAddr;

use super::{InForce, Layer, Members, Model, ProfileInForce, TierInForce, members};
use crate::calico::names::{Action, Direction};
use crate::calico::resources::{Entity, Field, Icmp, Labels, Net, Port, Protocol, Rule};
use crate::calico::selector::{EntitySelectors, Selector, entity_selectors};
use crate::calico::settings::ports::Entry;
use crate::packet::{Family, Protocol as IpProtocol};

/// A new connection, or a single packet that belongs to none.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Flow {
    /// Protocol number.
    pub protocol: u8,
    /// Who opens it.
    pub source: IpAddr,
    /// Whom to.
    pub destination: IpAddr,
    /// Source port, for protocols that have ports.
    pub source_port: u16,
    /// Destination port, for protocols that have ports.
    pub destination_port: u16,
    /// ICMP type and code, for ICMP and ICMPv6.
    pub icmp: Option<(u8, u8)>,
}

impl Flow {
    /// A TCP connection or UDP exchange from an ephemeral port.
    #[must_use]
    pub fn to_port(protocol: u8, source: IpAddr, destination: IpAddr, port: u16) -> Self {
        Self { protocol, source, destination, source_port: 50_000, destination_port: port, icmp: None }
    }

    fn family(&self) -> Family {
        if self.destination.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 }
    }
}

/// Whether a rule matches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Matches {
    /// Certainly.
    Yes,
    /// Certainly not.
    No,
    /// The resources do not tell.
    Unknown,
}

impl Matches {
    fn of(yes: bool) -> Self {
        if yes { Self::Yes } else { Self::No }
    }

    fn not(self) -> Self {
        match self {
            Self::Yes => Self::No,
            Self::No => Self::Yes,
            Self::Unknown => Self::Unknown,
        }
    }

    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::Yes, Self::Yes) => Self::Yes,
            _ => Self::Unknown,
        }
    }

    fn or(self, other: Self) -> Self {
        self.not().and(other.not()).not()
    }
}

/// What decides a flow.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decision {
    /// A failsafe entry.
    Failsafe(Entry),
    /// A rule of a policy.
    Rule {
        /// Index into [`Model::policies`].
        policy: usize,
        /// Index of the rule in its direction.
        rule: usize,
    },
    /// The end of a tier that denies: index into [`Model::tiers`], and the last enforced policy, which Felix blames.
    EndOfTier {
        /// The tier.
        tier: usize,
        /// Index into [`Model::policies`].
        policy: usize,
    },
    /// A profile's rule; `None` for the built-in profile.
    Profile {
        /// The profile.
        name: String,
        /// Index of the rule.
        rule: Option<usize>,
    },
    /// A profile that does not exist denies everything.
    MissingProfile(String),
    /// No profile let it through.
    NoProfile,
    /// Forwarding through an endpoint without policy for it.
    ForwardDefault,
    /// Policy has no say: later layers or the host's own rules decide.
    NoVerdict,
}

/// A possible end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct End {
    /// Let through; `None` when policy has no say.
    pub allowed: Option<bool>,
    /// By what.
    pub by: Decision,
}

/// What policy says of a flow.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Judgement {
    /// Possible ends, in the order they would be reached; one when it is certain.
    pub ends: Vec<End>,
    /// Rules on the way that could not be decided: policy and rule index.
    pub undecided: Vec<(usize, usize)>,
    /// Log rules on the way that match: policy and rule index.
    pub logged: Vec<(usize, usize)>,
}

impl Judgement {
    /// Allowed for certain.
    #[must_use]
    pub fn allows(&self) -> bool {
        self.ends.iter().all(|end| end.allowed != Some(false))
    }

    /// Denied for certain.
    #[must_use]
    pub fn denies(&self) -> bool {
        self.ends.iter().all(|end| end.allowed == Some(false))
    }

    fn end(&mut self, allowed: Option<bool>, by: Decision) {
        self.ends.push(End { allowed, by });
    }
}

/// Members of the sets behind one end of a rule.
#[derive(Clone, Debug, Default)]
struct EntityMembers {
    positive: Option<(Selector, Members)>,
    negative: Option<(Selector, Members)>,
}

/// Judges flows over a model; sets are worked out once.
pub struct Judge<'m, 'r> {
    model: &'m Model<'r>,
    /// Failsafe lists, inbound and outbound.
    failsafes: [Vec<Entry>; 2],
    /// Per policy, per direction, per rule: source and destination.
    sets: Vec<OnceCell<[Vec<[EntityMembers; 2]>; 2]>>,
}

impl<'m, 'r> Judge<'m, 'r> {
    /// Over a model, with these failsafe lists.
    #[must_use]
    pub fn new(model: &'m Model<'r>, failsafe_in: Vec<Entry>, failsafe_out: Vec<Entry>) -> Self {
        let sets = model.policies.iter().map(|_| OnceCell::new()).collect();
        Self { model, failsafes: [failsafe_in, failsafe_out], sets }
    }

    /// What a layer of an endpoint says of a new flow in a direction. With `staged`, as if staged policies were enforced.
    #[must_use]
    pub fn judge(
        &self,
        force: &InForce<'_>,
        layer: Layer,
        direction: Direction,
        flow: &Flow,
        staged: bool,
    ) -> Judgement {
        let mut judgement = Judgement::default();
        if layer != Layer::Forward
            && let Some(entry) = self.failsafe(direction, flow)
        {
            judgement.end(Some(true), Decision::Failsafe(entry));
            return judgement;
        }
        let tiers = force.tiers(layer);
        if layer == Layer::Forward && tiers.is_empty() {
            judgement.end(Some(true), Decision::ForwardDefault);
            return judgement;
        }
        for tier in tiers {
            if self.tier(tier, layer, direction, flow, staged, &mut judgement) {
                return judgement;
            }
        }
        if layer != Layer::Normal {
            judgement.end(None, Decision::NoVerdict);
            return judgement;
        }
        if !self.profiles(force, direction, flow, &mut judgement) {
            judgement.end(Some(false), Decision::NoProfile);
        }
        judgement
    }

    /// The failsafe entry that lets a flow through.
    #[must_use]
    pub fn failsafe(&self, direction: Direction, flow: &Flow) -> Option<Entry> {
        let [inbound, outbound] = &self.failsafes;
        let (list, peer) =
            if direction == Direction::In { (inbound, flow.source) } else { (outbound, flow.destination) };
        let fits = |entry: &&Entry| {
            entry.protocol == IpProtocol(flow.protocol)
                && entry.port == flow.destination_port
                && entry.net.is_none_or(|net| net.contains(peer))
        };
        list.iter().find(fits).copied()
    }

    /// Follows a tier; whether every way ends in it.
    fn tier(
        &self,
        tier: &TierInForce,
        layer: Layer,
        direction: Direction,
        flow: &Flow,
        staged: bool,
        judgement: &mut Judgement,
    ) -> bool {
        let enforced = |index: &&usize| self.model.policy(**index).is_some_and(|policy| staged || !policy.staged);
        let policies: Vec<usize> = tier.policies(direction).iter().filter(enforced).copied().collect();
        let Some(last) = policies.last() else { return false };
        let mut may_pass = false;
        for index in &policies {
            let Some(policy) = self.model.policy(*index) else { continue };
            for (number, rule) in policy.policy.rules(direction).iter().enumerate() {
                let matches = self.rule_matches(*index, direction, number, rule, flow);
                let Some(action) = rule.action.as_ref().filter(|_| matches != Matches::No) else { continue };
                if matches == Matches::Unknown {
                    judgement.undecided.push((*index, number));
                }
                let allowed = match action.value {
                    Action::Log => {
                        judgement.logged.push((*index, number));
                        continue;
                    }
                    Action::Pass if matches == Matches::Yes => return false,
                    Action::Pass => {
                        may_pass = true;
                        continue;
                    }
                    Action::Allow => true,
                    Action::Deny => false,
                };
                judgement.end(Some(allowed), Decision::Rule { policy: *index, rule: number });
                if matches == Matches::Yes {
                    return !may_pass;
                }
            }
        }
        if self.model.passes_on(layer, tier) {
            return false;
        }
        judgement.end(Some(false), Decision::EndOfTier { tier: tier.tier, policy: *last });
        !may_pass
    }

    /// Follows the profiles; whether every way ends in them.
    fn profiles(&self, force: &InForce<'_>, direction: Direction, flow: &Flow, judgement: &mut Judgement) -> bool {
        for profile in &force.profiles {
            match profile {
                ProfileInForce::AllowAll => {
                    let name = super::ALLOW_PROFILE.to_owned();
                    judgement.end(Some(true), Decision::Profile { name, rule: None });
                    return true;
                }
                ProfileInForce::Missing(name) => {
                    judgement.end(Some(false), Decision::MissingProfile(name.clone()));
                    return true;
                }
                ProfileInForce::Given(resource, profile) => {
                    let rules = if direction == Direction::In { &profile.ingress } else { &profile.egress };
                    for (number, rule) in rules.iter().enumerate() {
                        let sets = [&rule.source, &rule.destination].map(|entity| self.entity_members(entity));
                        let matches = self.matches(rule, &sets, flow);
                        let allowed = match rule.action.as_ref().map(|action| action.value) {
                            Some(Action::Allow) => true,
                            Some(Action::Deny) => false,
                            Some(Action::Pass) if matches == Matches::Yes => break,
                            _ => continue,
                        };
                        if matches == Matches::No {
                            continue;
                        }
                        let name = resource.meta.name.value.clone();
                        judgement.end(Some(allowed), Decision::Profile { name, rule: Some(number) });
                        if matches == Matches::Yes {
                            return true;
                        }
                    }
                }
            }
        }
        false
    }

    fn entity_members(&self, entity: &Entity) -> EntityMembers {
        let EntitySelectors { positive, negative } = entity_selectors(entity, None).unwrap_or_default();
        let with = |selector: Option<Selector>| {
            selector.map(|selector| {
                let found = members(self.model, &selector);
                (selector, found)
            })
        };
        EntityMembers { positive: with(positive), negative: with(negative) }
    }

    /// Whether a rule of a policy matches a flow.
    #[must_use]
    pub fn rule_matches(
        &self,
        policy: usize,
        direction: Direction,
        number: usize,
        rule: &Rule,
        flow: &Flow,
    ) -> Matches {
        let sets = self.sets.get(policy).map(|cell| {
            cell.get_or_init(|| {
                [Direction::In, Direction::Out].map(|direction| {
                    let rules = self.model.policy(policy).map_or(&[][..], |policy| policy.policy.rules(direction));
                    let ends = |rule: &Rule| [&rule.source, &rule.destination].map(|end| self.entity_members(end));
                    rules.iter().map(ends).collect()
                })
            })
        });
        let sets =
            sets.and_then(|[ingress, egress]| (if direction == Direction::In { ingress } else { egress }).get(number));
        sets.map_or(Matches::Unknown, |sets| self.matches(rule, sets, flow))
    }

    /// Whether a rule of one of the model's policies certainly matches a flow.
    #[must_use]
    pub fn certainly_matches(
        &self,
        policy: &super::Ordered<'_>,
        direction: Direction,
        number: usize,
        rule: &Rule,
        flow: &Flow,
    ) -> bool {
        let index = self.model.policies.iter().position(|known| std::ptr::eq(known.resource, policy.resource));
        index.is_some_and(|index| self.rule_matches(index, direction, number, rule, flow) == Matches::Yes)
    }

    /// The set behind the positive selector of one end of a rule, and the one behind the lone negative selector.
    #[must_use]
    pub fn sets_of(&self, entity: &Entity) -> (Option<Members>, Option<Members>) {
        let found = self.entity_members(entity);
        (found.positive.map(|(_, members)| members), found.negative.map(|(_, members)| members))
    }

    fn matches(&self, rule: &Rule, sets: &[EntityMembers; 2], flow: &Flow) -> Matches {
        let family = if flow.family() == Family::Ipv4 { 4 } else { 6 };
        let version = rule.ip_version.as_ref().is_none_or(|version| version.value == family);
        let protocol = |protocol: Protocol| {
            let of_family = match protocol {
                Protocol::Name("ICMP") => family == 4,
                Protocol::Name("ICMPv6") => family == 6,
                _ => true,
            };
            of_family && protocol.number() == flow.protocol
        };
        let icmp = |icmp: Icmp| {
            flow.icmp.is_some_and(|(kind, code)| {
                icmp.kind.is_none_or(|wanted| wanted == kind) && icmp.code.is_none_or(|wanted| wanted == code)
            })
        };
        let plain = version
            && rule.protocol.as_ref().is_none_or(|wanted| protocol(wanted.value))
            && rule.not_protocol.as_ref().is_none_or(|unwanted| unwanted.number() != flow.protocol)
            && rule.icmp.as_ref().is_none_or(|wanted| icmp(wanted.value))
            && rule.not_icmp.as_ref().is_none_or(|unwanted| !icmp(unwanted.value));
        let [source, destination] = sets;
        Matches::of(plain)
            .and(self.end_matches(&rule.source, source, flow.source, flow.source_port, flow))
            .and(self.end_matches(&rule.destination, destination, flow.destination, flow.destination_port, flow))
    }

    fn end_matches(&self, entity: &Entity, sets: &EntityMembers, address: IpAddr, port: u16, flow: &Flow) -> Matches {
        let within = |nets: &[Field<Net>]| nets.iter().any(|net| net.prefix.contains(address));
        // a rule whose nets are all of the other family does not exist in this one
        let of_family = |net: &Field<Net>| net.prefix.is_ipv4() == address.is_ipv4();
        let foreign = !entity.not_nets.is_empty() && !entity.not_nets.iter().any(of_family);
        let mut all =
            Matches::of((entity.nets.is_empty() || within(&entity.nets)) && !within(&entity.not_nets) && !foreign);
        let in_set = |members: &Members| {
            if members.nets.iter().any(|net| net.contains(address)) {
                Matches::Yes
            } else if members.complete() {
                Matches::No
            } else {
                Matches::Unknown
            }
        };
        if let Some((_, members)) = &sets.positive {
            all = all.and(in_set(members));
        }
        if let Some((_, members)) = &sets.negative {
            all = all.and(in_set(members).not());
        }
        let selector = sets.positive.as_ref().map(|(selector, _)| selector);
        if !entity.ports.is_empty() {
            all = all.and(self.port_matches(&entity.ports, selector, address, port, flow));
        }
        if !entity.not_ports.is_empty() {
            all = all.and(self.port_matches(&entity.not_ports, selector, address, port, flow).not());
        }
        if entity.services.is_some() || !entity.domains.is_empty() {
            all = all.and(Matches::Unknown);
        }
        all
    }

    fn port_matches(
        &self,
        ports: &[Field<Port>],
        selector: Option<&Selector>,
        address: IpAddr,
        port: u16,
        flow: &Flow,
    ) -> Matches {
        let mut any = Matches::No;
        for wanted in ports {
            any = any.or(match &wanted.value {
                Port::Range(range) => Matches::of((range.low..=range.high).contains(&port)),
                Port::Name(name) => self.named_port(name, selector, address, port, flow),
            });
        }
        any
    }

    /// A port by name: any endpoint's that the selector selects, at the address.
    fn named_port(&self, name: &str, selector: Option<&Selector>, address: IpAddr, port: u16, flow: &Flow) -> Matches {
        let selected = |labels: &Labels| selector.is_none_or(|selector| selector.matches(labels));
        let mut known_address = false;
        for endpoint in &self.model.endpoints {
            if !endpoint.spec.expected_ips.iter().any(|ip| ip.value == address) {
                continue;
            }
            known_address = true;
            let has = endpoint
                .spec
                .ports
                .iter()
                .any(|named| named.name == name && named.port == port && named.protocol.number() == flow.protocol);
            if has && selected(&endpoint.labels) {
                return Matches::Yes;
            }
        }
        // any other address may be a pod's
        if known_address || address.is_loopback() { Matches::No } else { Matches::Unknown }
    }
}
