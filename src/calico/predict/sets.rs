//! IP sets in the world to come: those that are there keep their members, others are filled from the resources.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::observe::Place;
use crate::calico::names::{nft_set_name, set_name};
use crate::calico::order::{Model, members};
use crate::calico::render::RenderedTable;
use crate::calico::render::model::SOURCE;
use crate::calico::render::rule::Criterion;
use crate::calico::selector::Selector;
use crate::host::Host;
use crate::packet::{Family, Prefix};
use crate::ruleset::{Backend, DataType, Elements, Interval, Ruleset, Set, SetKind};

/// What rendered rules ask of a set: whether its elements hold ports.
fn asked(rendered: &[RenderedTable]) -> BTreeMap<String, bool> {
    let rules = rendered.iter().flat_map(|table| {
        let hooks = table.inserts.iter().chain(&table.appends).map(|(_, rule)| rule);
        table.chains.values().flatten().chain(hooks)
    });
    let mut asked = BTreeMap::new();
    for criterion in rules.flat_map(|rule| &rule.criteria) {
        match criterion {
            Criterion::Set { set, .. } => asked.insert(set.clone(), false),
            Criterion::PortSet { set, .. } => asked.insert(set.clone(), true),
            _ => None,
        };
    }
    asked
}

/// The sets of selectors, from their names back.
fn names(selectors: &BTreeMap<String, Selector>, family: Family) -> BTreeMap<String, &Selector> {
    selectors.iter().map(|(id, selector)| (set_name(id, family), selector)).collect()
}

fn list<'w>(world: &'w mut Ruleset, place: &Place) -> Option<&'w mut Vec<Set>> {
    if place.backend != Backend::Nft {
        return Some(&mut world.ipsets);
    }
    let index = place.tables.values().next()?;
    world.tables.get_mut(*index).map(|table| &mut table.sets)
}

/// Adds what rendered rules ask and the world lacks. Gives what of it is not known.
pub(super) fn add(
    world: &mut Ruleset,
    place: &Place,
    rendered: &[RenderedTable],
    selectors: &BTreeMap<String, Selector>,
    model: Option<&Model<'_>>,
    host: &Host,
) -> Vec<String> {
    let known = names(selectors, place.family);
    let nft = place.backend == Backend::Nft;
    let mut unknown = Vec::new();
    let Some(sets) = list(world, place) else { return unknown };
    let there: BTreeSet<String> = sets.iter().map(|set| set.name.to_string()).collect();
    for (name, with_ports) in asked(rendered) {
        let real = if nft { nft_set_name(&name) } else { name.clone() };
        if there.contains(&real) {
            continue;
        }
        let mut set = empty(&real, with_ports, place);
        if let Some(known) = of_host(&name, host, place.family) {
            // what a host without workloads marks for other routers decides about no packet
            match known {
                Some(addresses) => fill(&mut set, &addresses, place.family),
                None => set.incomplete = Some(format!("the members of set {real}").into()),
            }
            sets.push(set);
            continue;
        }
        let what = match known.get(&name) {
            Some(selector) => format!("the members of {}", selector.canonical()),
            None => format!("the members of set {real}"),
        };
        match known.get(&name).zip(model) {
            Some((selector, model)) => {
                let found = members(model, selector);
                fill(&mut set, &found.nets, place.family);
                if !found.complete() {
                    let why = "pods or names it may select are not among the resources, and the host has no such set";
                    set.incomplete = Some(format!("{what}: {why}").into());
                }
            }
            None => set.incomplete = Some(format!("{what}: the host has no such set, and no resources tell").into()),
        }
        unknown.extend(set.incomplete.as_deref().map(str::to_owned));
        sets.push(set);
    }
    unknown
}

/// Members of the sets that DSCP marking asks, which decide about no packet; `None` inside where they are not known.
fn of_host(name: &str, host: &Host, family: Family) -> Option<Option<Vec<Prefix>>> {
    match name.strip_prefix(if family == Family::Ipv6 { "cali60" } else { "cali40" })? {
        // of workloads and endpoints with a mark of their own
        "dscp-src-net" => Some(Some(Vec::new())),
        "network-ip-pools" | "all-ipam-pools" => Some(None),
        "this-host" => {
            let addresses = |interfaces: &Vec<crate::host::Interface>| {
                let all = interfaces.iter().flat_map(|interface| &interface.addresses);
                all.map(|address| Prefix::host(address.address)).collect()
            };
            Some(host.interfaces.as_ref().map(addresses))
        }
        _ => None,
    }
}

fn empty(name: &str, with_ports: bool, place: &Place) -> Set {
    let (address, word) = match place.family {
        Family::Ipv6 => (DataType::Ipv6Addr, "inet6"),
        _ => (DataType::Ipv4Addr, "inet"),
    };
    let key = if with_ports { vec![address, DataType::InetProto, DataType::InetService] } else { vec![address] };
    let kind = match place.backend {
        Backend::Nft => SetKind::Nft {
            map: false,
            flags: if with_ports { Vec::new() } else { vec!["interval".into()] },
            size: None,
        },
        _ => SetKind::Ipset {
            type_name: if with_ports { "hash:ip,port" } else { "hash:net" }.into(),
            options: format!("family {word} hashsize 1024 maxelem 1048576").into(),
        },
    };
    Set {
        name: Arc::from(name),
        family: Some(place.family),
        kind,
        elements: Elements::new(key.len()),
        key,
        member_sets: Vec::new(),
        incomplete: None,
        // Felix never adds one
        without_exceptions: true,
        source: Arc::from(SOURCE),
        line: 0,
    }
}

fn interval(net: Prefix) -> Interval {
    let (low, high) = net.range();
    Interval { low, high }
}

fn of_family(nets: &[Prefix], family: Family) -> impl Iterator<Item = Interval> {
    nets.iter().filter(move |net| net.is_ipv4() == (family == Family::Ipv4)).map(|net| interval(*net))
}

fn fill(set: &mut Set, nets: &[Prefix], family: Family) {
    if set.key.len() == 1 {
        for net in of_family(nets, family) {
            set.elements.push(&[net], None, None);
        }
    }
}

/// Members that resources bring or take: the live sets follow.
pub(super) fn follow(
    world: &mut Ruleset,
    place: &Place,
    selectors: &BTreeMap<String, Selector>,
    old: &Model<'_>,
    new: &Model<'_>,
) -> Vec<String> {
    let nft = place.backend == Backend::Nft;
    let mut notes = Vec::new();
    let Some(sets) = list(world, place) else { return notes };
    for (name, selector) in names(selectors, place.family) {
        let name = if nft { nft_set_name(&name) } else { name };
        let Some(set) = sets.iter_mut().find(|set| *set.name == *name) else { continue };
        let (before, after) = (members(old, selector), members(new, selector));
        if before.nets == after.nets || set.key.len() != 1 {
            continue;
        }
        let (before, after): (BTreeSet<Interval>, BTreeSet<Interval>) =
            (of_family(&before.nets, place.family).collect(), of_family(&after.nets, place.family).collect());
        let mut elements = Elements::new(1);
        let mut there = BTreeSet::new();
        for (index, key) in set.elements.keys().enumerate() {
            let gone = key.first().is_some_and(|net| before.contains(net) && !after.contains(net));
            if !gone {
                elements.push(key, None, set.elements.extra(index).cloned());
                there.extend(key.first().copied());
            }
        }
        for net in after.difference(&before).filter(|net| !there.contains(net)) {
            elements.push(&[*net], None, None);
        }
        if elements.len() != set.elements.len() || there.len() != set.elements.len() {
            notes.push(format!("the members of {} change", selector.canonical()));
        }
        set.elements = elements;
    }
    notes
}
