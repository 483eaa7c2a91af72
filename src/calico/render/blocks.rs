//! The conditions of a policy rule. What one dataplane rule cannot say (several nets on a side, more than 15 port slots,
//! named ports beside numbers) becomes match blocks: rules that leave their answer in two scratch bits of the mark.
//!
//! The first positive block writes the result bit itself; each later one collects in the second bit and clears the result
//! where that is clear. **The second bit is never cleared between blocks**: once a second block matched, a third one and
//! those behind it count as matched too. That is what Felix writes in every version known, so it is what stands here;
//! [`unenforced_blocks`] tells the rules it concerns.

use super::rule::{Criterion, FelixRule, ProtocolName, RuleAction, Side};
use super::{Entity, Marks, PolicyRule};
use crate::calico::names::{named_port_set_id, selector_set_name, service_set_id, set_name};
use crate::packet::{Family, PortRange, Prefix};

/// Ports of one `multiport` match: a single port takes one slot, a range two.
const SLOTS: usize = 15;

/// Canonical text of the selector of everything.
const ALL: &str = "all()";

/// A rule in one family: its match blocks, and the conditions of the rule behind them.
pub(super) struct Conditions {
    pub(super) blocks: Vec<FelixRule>,
    pub(super) criteria: Vec<Criterion>,
}

/// The conditions of a rule in one family. `None` when Felix writes nothing there.
pub(super) fn conditions(rule: &PolicyRule, marks: Marks, family: Family) -> Option<Conditions> {
    let parts = Parts::new(rule, family)?;
    let mut builder = Builder { marks, rules: Vec::new(), begun: false, positive: false };
    let named = rule.protocol.as_ref().map(ToString::to_string);
    let named = named.as_deref();
    let mut sides = [
        SideConditions::new(Side::Source, &rule.source, &parts.source_nets, named, family),
        SideConditions::new(Side::Destination, &rule.destination, &parts.destination_nets, named, family),
    ];
    let protocol = parts.protocol.as_ref();
    for side in &mut sides {
        side.take_port_block(&mut builder, protocol);
    }
    for side in &mut sides {
        side.take_net_block(&mut builder);
    }
    for side in &mut sides {
        side.take_negated_block(&mut builder);
    }
    let mut criteria: Vec<Criterion> = protocol.cloned().into_iter().collect();
    for side in &sides {
        side.positive(&mut criteria);
    }
    criteria.extend(rule.icmp.map(|(kind, code)| Criterion::Icmp { version: family, kind, code, negate: false }));
    criteria.extend(rule.not_protocol.clone().map(|protocol| Criterion::Protocol { protocol, negate: true }));
    for side in &sides {
        side.negative(&mut criteria);
    }
    criteria.extend(rule.not_icmp.map(|(kind, code)| Criterion::Icmp { version: family, kind, code, negate: true }));
    if builder.begun {
        criteria.push(Criterion::MarkSet(marks.scratch0));
    }
    Some(Conditions { blocks: builder.rules, criteria })
}

/// The positive blocks from the third on, by what they ask: Felix writes them so that they cannot fail once the second
/// matched. Empty for nearly every rule.
#[must_use]
pub fn unenforced_blocks(rule: &PolicyRule, family: Family) -> Vec<&'static str> {
    let Some(parts) = Parts::new(rule, family) else { return Vec::new() };
    let ports = |entity: &Entity| slices(&entity.ports).len() + entity.named_ports.len() > 1;
    let blocks = [
        (ports(&rule.source), "source ports"),
        (ports(&rule.destination), "destination ports"),
        (parts.source_nets.nets.len() > 1, "source nets"),
        (parts.destination_nets.nets.len() > 1, "destination nets"),
    ];
    blocks.into_iter().filter(|(needed, _)| *needed).map(|(_, what)| what).skip(2).collect()
}

/// What family decides.
struct Parts {
    protocol: Option<Criterion>,
    source_nets: Nets,
    destination_nets: Nets,
}

impl Parts {
    fn new(rule: &PolicyRule, family: Family) -> Option<Self> {
        let implied = match &rule.protocol {
            Some(ProtocolName::Name(name)) if name == "icmp" => Some(Family::Ipv4),
            Some(ProtocolName::Name(name)) if name == "icmpv6" => Some(Family::Ipv6),
            _ => None,
        };
        if rule.ip_version.or(implied).is_some_and(|wanted| wanted != family) {
            return None;
        }
        Some(Self {
            protocol: rule.protocol.clone().map(|protocol| Criterion::Protocol { protocol, negate: false }),
            source_nets: Nets::of(&rule.source, family)?,
            destination_nets: Nets::of(&rule.destination, family)?,
        })
    }
}

/// The nets of one family.
struct Nets {
    nets: Vec<Prefix>,
    not_nets: Vec<Prefix>,
}

impl Nets {
    /// `None` when a list is given and nothing of it is of this family, and when everything is excluded.
    fn of(entity: &Entity, family: Family) -> Option<Self> {
        let filter = |all: &[Prefix]| -> Option<Vec<Prefix>> {
            let ours: Vec<Prefix> =
                all.iter().copied().filter(|net| net.is_ipv4() == (family == Family::Ipv4)).collect();
            (all.is_empty() || !ours.is_empty()).then_some(ours)
        };
        let not_nets = filter(&entity.not_nets)?;
        if not_nets.iter().any(|net| net.length() == 0) {
            return None;
        }
        Some(Self { nets: filter(&entity.nets)?, not_nets })
    }
}

/// Ports in lists of at most 15 slots.
fn slices(ports: &[PortRange]) -> Vec<Vec<PortRange>> {
    let mut slices: Vec<Vec<PortRange>> = Vec::new();
    let mut free = 0;
    for port in ports {
        let needed = if port.low == port.high { 1 } else { 2 };
        match slices.last_mut() {
            Some(last) if free >= needed => last.push(*port),
            _ => {
                free = SLOTS;
                slices.push(vec![*port]);
            }
        }
        free -= needed;
    }
    slices
}

/// What is still to be said of one side.
struct SideConditions {
    side: Side,
    ports: Vec<Vec<PortRange>>,
    named: Vec<String>,
    nets: Vec<Prefix>,
    not_nets: Vec<Prefix>,
    sets: Vec<String>,
    service: Option<Criterion>,
    not_sets: Vec<String>,
    not_ports: Vec<Vec<PortRange>>,
    not_named: Vec<String>,
}

impl SideConditions {
    fn new(side: Side, entity: &Entity, nets: &Nets, protocol: Option<&str>, family: Family) -> Self {
        let selector = entity.selector.as_deref();
        let set = |id: &str| set_name(id, family);
        let named = |names: &[String]| -> Vec<String> {
            let id = |name: &String| named_port_set_id(selector.unwrap_or(ALL), protocol, name);
            names.iter().map(|name| set(&id(name))).collect()
        };
        // the sets of named ports hold only endpoints that the selector selects
        let covered = entity.ports.is_empty() && !entity.named_ports.is_empty();
        let selected = selector.filter(|_| !covered).map(|selector| selector_set_name(selector, family));
        let mut sets: Vec<String> = selected.into_iter().collect();
        let mut service = None;
        if let Some((namespace, name)) = &entity.service {
            let id = set(&service_set_id(namespace, name, side == Side::Destination));
            match side {
                Side::Source => sets.push(id),
                Side::Destination => service = Some(Criterion::PortSet { side, set: id, negate: false }),
            }
        }
        sets.extend(entity.other_sets.iter().map(|id| set(id)));
        Self {
            side,
            ports: slices(&entity.ports),
            named: named(&entity.named_ports),
            nets: nets.nets.clone(),
            not_nets: nets.not_nets.clone(),
            sets,
            service,
            not_sets: entity.not_selector.iter().map(|selector| selector_set_name(selector, family)).collect(),
            not_ports: slices(&entity.not_ports),
            not_named: named(&entity.not_named_ports),
        }
    }

    fn port_set(&self, set: &str, negate: bool) -> Criterion {
        Criterion::PortSet { side: self.side, set: set.to_owned(), negate }
    }

    fn take_port_block(&mut self, builder: &mut Builder, protocol: Option<&Criterion>) {
        if self.ports.len() + self.named.len() < 2 {
            return;
        }
        let numbers = std::mem::take(&mut self.ports).into_iter().map(|ports| {
            let ports = Criterion::Ports { side: self.side, ports, negate: false };
            protocol.cloned().into_iter().chain([ports]).collect()
        });
        let mut alternatives: Vec<Vec<Criterion>> = numbers.collect();
        alternatives.extend(self.named.iter().map(|set| vec![self.port_set(set, false)]));
        self.named.clear();
        builder.positive_block(alternatives);
    }

    fn take_net_block(&mut self, builder: &mut Builder) {
        if self.nets.len() > 1 {
            let nets = std::mem::take(&mut self.nets);
            let side = self.side;
            builder.positive_block(nets.into_iter().map(|net| vec![Criterion::Net { side, net, negate: false }]));
        }
    }

    fn take_negated_block(&mut self, builder: &mut Builder) {
        // at most one net is left of the positive ones; a rule has room for one in all
        if self.nets.len() + self.not_nets.len() > 1 {
            builder.negated_block(self.side, std::mem::take(&mut self.not_nets));
        }
    }

    fn positive(&self, criteria: &mut Vec<Criterion>) {
        let side = self.side;
        criteria.extend(self.nets.iter().map(|net| Criterion::Net { side, net: *net, negate: false }));
        criteria.extend(self.sets.iter().map(|set| Criterion::Set { side, set: set.clone(), negate: false }));
        criteria.extend(self.service.clone());
        criteria.extend(self.ports.iter().map(|ports| Criterion::Ports { side, ports: ports.clone(), negate: false }));
        criteria.extend(self.named.iter().map(|set| self.port_set(set, false)));
    }

    fn negative(&self, criteria: &mut Vec<Criterion>) {
        let side = self.side;
        criteria.extend(self.not_nets.iter().map(|net| Criterion::Net { side, net: *net, negate: true }));
        criteria.extend(self.not_sets.iter().map(|set| Criterion::Set { side, set: set.clone(), negate: true }));
        let ports = |ports: &Vec<PortRange>| Criterion::Ports { side, ports: ports.clone(), negate: true };
        criteria.extend(self.not_ports.iter().map(ports));
        criteria.extend(self.not_named.iter().map(|set| self.port_set(set, true)));
    }
}

struct Builder {
    marks: Marks,
    rules: Vec<FelixRule>,
    /// The rule that resets both bits is there.
    begun: bool,
    /// A positive block is there.
    positive: bool,
}

impl Builder {
    /// `start` is what the result bit begins with.
    fn begin(&mut self, start: u32) {
        if !self.begun {
            let mask = self.marks.scratch0 | self.marks.scratch1;
            self.rules.push(FelixRule::always(RuleAction::SetMaskedMark { mark: start, mask }));
            self.begun = true;
        }
    }

    /// One of the alternatives must hold.
    fn positive_block(&mut self, alternatives: impl IntoIterator<Item = Vec<Criterion>>) {
        self.begin(0);
        let (result, scratch) = (self.marks.scratch0, self.marks.scratch1);
        let bit = if self.positive { scratch } else { result };
        self.rules.extend(alternatives.into_iter().map(|all| FelixRule::new(all, RuleAction::SetMark(bit))));
        if self.positive {
            self.rules.push(FelixRule::new(vec![Criterion::MarkClear(scratch)], RuleAction::ClearMark(result)));
        }
        self.positive = true;
    }

    /// None of the nets may hold.
    fn negated_block(&mut self, side: Side, nets: Vec<Prefix>) {
        let result = self.marks.scratch0;
        self.begin(result);
        let clear =
            |net| FelixRule::new(vec![Criterion::Net { side, net, negate: false }], RuleAction::ClearMark(result));
        self.rules.extend(nets.into_iter().map(clear));
    }
}
