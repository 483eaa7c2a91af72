//! Address translation: what nat chains do to first packets, and what a connection does to later ones.

use std::net::IpAddr;

use super::chains::Passed;
use super::notes::Decision;
use super::walk::{Flow, Turn, Walk};
use crate::analysis::path::BaseRef;
use crate::packet::{CtDirection, CtState, CtStatus, Hook, Protocol, address_bits};
use crate::ruleset::{Data, Expr, Interval, Nat, NatKind, NatTarget, interface_number};
use crate::space::bdd::{Built, Set};
use crate::space::encode::Truth;
use crate::space::header::{Binding, Header};

/// Chains of equal priority are tried in every order up to this many; then nobody knows.
pub(super) const MAX_PERMUTED: usize = 4;
/// Different targets of one rule followed each on its own.
const MAX_TARGETS: usize = 64;
/// `IPS_DST_NAT_DONE`, `IPS_SRC_NAT_DONE`.
const DESTINATION_DONE: u32 = 0x100;
const SOURCE_DONE: u32 = 0x80;

/// New address and port, each `None` when it stays, for some packets.
#[derive(Clone, Copy, Debug)]
struct Target {
    set: Set,
    address: Option<Binding>,
    port: Option<Binding>,
}

fn destination_at(hook: Hook) -> bool {
    matches!(hook, Hook::Prerouting | Hook::Output)
}

/// Every order of `0..count`.
pub(super) fn orders(count: usize) -> Vec<Vec<usize>> {
    let mut orders: Vec<Vec<usize>> = vec![Vec::new()];
    for _ in 0..count {
        let longer = |order: &Vec<usize>| -> Vec<Vec<usize>> {
            let left = (0..count).filter(|at| !order.contains(at));
            left.map(|at| [order.as_slice(), &[at]].concat()).collect()
        };
        orders = orders.iter().flat_map(longer).collect();
    }
    orders
}

fn told_apart() -> Vec<Interval> {
    let known = [Protocol::ICMP, Protocol::TCP, Protocol::UDP, Protocol::DCCP];
    let more = [Protocol::ICMPV6, Protocol::SCTP, Protocol::UDPLITE];
    known.iter().chain(&more).map(|protocol| Interval::single(protocol.0.into())).collect()
}

impl<'a> Walk<'a> {
    /// The NAT hook: nat chains for first packets, the connection's own mapping for others.
    pub(super) fn nat(&mut self, bases: &[BaseRef], hook: Hook, flows: Vec<Flow>) -> Built<Passed> {
        let destination = destination_at(hook);
        let mut passed = Passed::nothing();
        let mut pending = Vec::new();
        for flow in flows {
            let header = self.header(flow.header);
            if self.settled(&flow, destination) || !header.is_tracked() {
                passed.accepted.push(flow);
                continue;
            }
            match header.state {
                CtState::NEW if header.opens_connection() => pending.push(flow),
                CtState::RELATED => {
                    let icmp = [Protocol::ICMP, Protocol::ICMPV6].map(|one| Interval::single(one.0.into()));
                    let icmp = self.encoder.bound_within(header.protocol, &icmp)?.possible;
                    let bdd = &mut self.encoder.bdd;
                    let (errors, others) = (bdd.and(flow.set, icmp)?, bdd.minus(flow.set, icmp)?);
                    if !others.is_empty() {
                        pending.push(Flow { set: others, ..flow });
                    }
                    if !errors.is_empty() {
                        self.mapped(destination, Flow { set: errors, ..flow }, hook, &mut passed)?;
                    }
                }
                _ => self.mapped(destination, flow, hook, &mut passed)?,
            }
        }
        for equals in bases.chunk_by(|one, next| one.priority == next.priority) {
            if pending.is_empty() {
                break;
            }
            if equals.len() > MAX_PERMUTED {
                let set = self.encoder.bdd.union(pending.iter().map(|flow| flow.set))?;
                let why = || format!("{} nat chains of one priority hang at {hook}", equals.len());
                self.lose(&mut passed, set, None, why)?;
                return Ok(passed);
            }
            let mut rest = Vec::new();
            let orders = orders(equals.len());
            let mut left = pending;
            for (at, order) in orders.iter().enumerate() {
                let mut open = std::mem::take(&mut left);
                if at + 1 < orders.len() {
                    (open, left) = self.either_way(open, &format!("the order of the nat chains: {order:?}"), hook)?;
                }
                for base in order.iter().filter_map(|&at| equals.get(at)) {
                    let one = self.base(*base, hook, open)?;
                    self.add(&mut passed, &one)?;
                    let (settled, unsettled) = one.accepted.iter().partition(|flow| self.settled(flow, destination));
                    passed.accepted.extend::<Vec<Flow>>(settled);
                    open = unsettled;
                }
                rest.append(&mut open);
            }
            pending = self.merged(rest)?;
        }
        // the kernel settles what no rule translated
        let pending = self.rewrite(pending, |header| settle(header, destination, CtStatus(0)));
        passed.accepted.extend(pending);
        passed.accepted = self.merged(passed.accepted)?;
        Ok(passed)
    }

    fn settled(&self, flow: &Flow, destination: bool) -> bool {
        let header = self.header(flow.header);
        if destination { header.destination_done } else { header.source_done }
    }

    /// Adds what ended in `other`.
    pub(super) fn add(&mut self, passed: &mut Passed, other: &Passed) -> Built<()> {
        passed.refused = self.encoder.bdd.or(passed.refused, other.refused)?;
        passed.lost = self.encoder.bdd.or(passed.lost, other.lost)?;
        Ok(())
    }

    /// A NAT verdict.
    pub(super) fn translate(&mut self, nat: &'a Nat, flow: Flow, decision: Decision, turn: &mut Turn<'_>) -> Built<()> {
        let destination = nat.kind.rewrites_destination(turn.place.site.hook);
        let header = self.header(flow.header);
        let mut flow = flow;
        // what an address or port is afterwards is one of several things
        turn.passed.in_doubt = true;
        if nat.kind == NatKind::Redirect && turn.place.site.hook != Hook::Output {
            let nowhere = self.no_address_on(&header)?;
            let of_rule = std::ptr::from_ref(nat) as usize;
            let words = || "an address for a redirect".to_owned();
            let nowhere = self.encoder.settled(nowhere, of_rule, words, turn.place.site.hook, &header)?;
            let words = || "redirect drops when the incoming interface has no address, which is not known".to_owned();
            self.note_doubt(turn.place, nowhere, flow.set, words)?;
            let dropped = self.encoder.bdd.and(flow.set, nowhere.possible)?;
            self.refuse(turn.passed, Flow { set: dropped, ..flow }, decision);
            flow.set = self.encoder.bdd.minus(flow.set, nowhere.certain)?;
        }
        if let Some(notes) = &mut self.notes {
            flow.tag = notes.accepted(flow.tag, decision);
        }
        for target in self.targets(nat, &flow, &header, turn)? {
            let set = self.encoder.bdd.and(target.set, flow.set)?;
            if !set.is_empty() {
                self.move_to(nat, Flow { set, ..flow }, &header, destination, target, turn)?;
            }
        }
        Ok(())
    }

    /// Rewrites one end of a flow and accepts it.
    fn move_to(
        &mut self,
        nat: &Nat,
        flow: Flow,
        header: &Header,
        destination: bool,
        target: Target,
        turn: &mut Turn<'_>,
    ) -> Built<()> {
        let ends = header.ends;
        let (old_address, old_port) = if destination { (ends.dst, ends.dport) } else { (ends.src, ends.sport) };
        let address = target.address.unwrap_or(old_address);
        let port = match target.port {
            Some(port) => port,
            // a source port may have to change to keep connections apart
            None if !destination => Binding::Unknown,
            None => old_port,
        };
        let same_address = self.same(old_address, address)?;
        let no_ports = !self.encoder.bound_within(header.protocol, &with_ports())?.certain;
        let same_port = self.same(old_port, port)?.or(&mut self.encoder.bdd, Truth::exactly(no_ports))?;
        let same = same_address.and(&mut self.encoder.bdd, same_port)?;
        let clash = self.encoder.bound_within(header.protocol, &told_apart())?;
        let bit = if destination { CtStatus::DNAT } else { CtStatus::SNAT };
        let bdd = &mut self.encoder.bdd;
        let doubt = bdd.minus(same.possible, same.certain)?;
        for (part, status) in [(same.certain, Some(CtStatus(0))), (!same.possible, Some(bit)), (doubt, None)] {
            let bdd = &mut self.encoder.bdd;
            let mut set = bdd.and(flow.set, part)?;
            if set.is_empty() {
                continue;
            }
            if status != Some(CtStatus(0)) {
                // a protocol without ports or identifiers is dropped when its translated connection is there already
                let dropped = bdd.minus(set, clash.certain)?;
                if !dropped.is_empty() {
                    let words = || "dropped if another connection has the translated addresses".to_owned();
                    self.note_doubt(turn.place, Truth::OPEN, dropped, words)?;
                    let place = std::ptr::from_ref(nat) as usize;
                    let hook = turn.place.site.hook;
                    let clashes =
                        self.encoder.answer(place, "the translated connection is there", hook, Some(header))?;
                    let bdd = &mut self.encoder.bdd;
                    let (surely, maybe) = (bdd.and(dropped, clashes.certain)?, bdd.and(dropped, clashes.possible)?);
                    set = bdd.minus(set, surely)?;
                    self.refuse(turn.passed, Flow { set: maybe, ..flow }, Decision::by(turn.place.rule));
                }
            }
            let mut changed = header.clone();
            let ends = &mut changed.ends;
            if destination {
                (ends.dst, ends.dport) = (address, port);
            } else {
                (ends.src, ends.sport) = (address, port);
            }
            changed.redirected |= nat.kind == NatKind::Redirect;
            changed.epoch += u32::from(status != Some(CtStatus(0)));
            settle(&mut changed, destination, status.unwrap_or(CtStatus(0)));
            if status.is_none() {
                changed.status = None;
            }
            let header = self.number(changed);
            turn.passed.accepted.push(Flow { header, set, ..flow });
        }
        Ok(())
    }

    /// For which packets two bindings are the same number.
    fn same(&mut self, old: Binding, new: Binding) -> Built<Truth> {
        match (old, new) {
            (Binding::Unknown, _) | (_, Binding::Unknown) => Ok(Truth::OPEN),
            (old, new) if old == new => Ok(Truth::YES),
            (old, Binding::Known(number)) => self.encoder.bound_within(old, &[Interval::single(number)]),
            _ => Ok(Truth::OPEN),
        }
    }

    /// What a rule rewrites to. Packets for which a map has nothing go on to the next rule.
    fn targets(&mut self, nat: &'a Nat, flow: &Flow, header: &Header, turn: &mut Turn<'_>) -> Built<Vec<Target>> {
        let site = turn.place.site;
        let own = |binding: Binding| vec![(Set::ALL, Some(binding))];
        let mut pairs = None;
        let addresses = match (&nat.address, nat.kind) {
            // the host part stays, which no binding says
            (Some(NatTarget::Range(_)), kind) if kind.keeps_host_part() => own(Binding::Unknown),
            (Some(NatTarget::Range(range)), _) => own(fixed(*range)),
            (Some(NatTarget::Expr(Expr::Map { key, map })), _) => {
                let (found, two) = self.map_targets(key, map, flow, header, turn)?;
                // each address gets the network of its own
                if nat.kind.keeps_host_part() {
                    let unknown = |target: Target| (target.set, target.address.map(|_| Binding::Unknown));
                    found.into_iter().map(unknown).collect()
                } else {
                    pairs = two.then(|| found.clone());
                    found.into_iter().map(|target| (target.set, target.address)).collect()
                }
            }
            (Some(NatTarget::Expr(expression)), _) => {
                let value = self.encoder.value(expression, site, header)?;
                self.end_for(flow, value.missing(), turn)?;
                let bindings = value.bindings(&mut self.encoder.bdd, MAX_TARGETS)?;
                bindings.into_iter().map(|(set, binding)| (set, Some(binding))).collect()
            }
            (None, NatKind::Redirect | NatKind::Masquerade) => own(self.own_address(nat.kind, site.hook, header)),
            (None, _) => vec![(Set::ALL, None)],
        };
        if let Some(pairs) = pairs.filter(|_| nat.port.is_none()) {
            return Ok(pairs);
        }
        let ports = match &nat.port {
            None => vec![(Set::ALL, None)],
            Some(NatTarget::Range(range)) => own(fixed(*range)),
            Some(NatTarget::Expr(expression)) => {
                let value = self.encoder.value(expression, site, header)?;
                self.end_for(flow, value.missing(), turn)?;
                let bindings = value.bindings(&mut self.encoder.bdd, MAX_TARGETS)?;
                bindings.into_iter().map(|(set, binding)| (set, Some(binding))).collect()
            }
        };
        let mut targets = Vec::new();
        for (set, address) in addresses {
            for (of_port, port) in &ports {
                let set = self.encoder.bdd.and(set, *of_port)?;
                if !set.is_empty() {
                    targets.push(Target { set, address, port: *port });
                }
            }
        }
        Ok(targets)
    }

    /// The rule ends for these packets of a flow.
    fn end_for(&mut self, flow: &Flow, set: Set, turn: &mut Turn<'_>) -> Built<()> {
        let set = self.encoder.bdd.and(flow.set, set)?;
        if !set.is_empty() {
            turn.next.push(Flow { set, ..*flow });
        }
        Ok(())
    }

    /// Addresses, and ports where the map holds both, which the flag tells.
    fn map_targets(
        &mut self,
        key: &'a Expr,
        map: &'a crate::ruleset::SetRef,
        flow: &Flow,
        header: &Header,
        turn: &mut Turn<'_>,
    ) -> Built<(Vec<Target>, bool)> {
        let found = self.encoder.find(key, map, turn.place.site, header)?;
        let mut none = !found.lost;
        let (mut targets, mut two) = (Vec::new(), false);
        let unknown = Target { set: found.lost, address: Some(Binding::Unknown), port: Some(Binding::Unknown) };
        if !found.lost.is_empty() {
            targets.push(unknown);
        }
        for (data, truth) in found.entries {
            none = self.encoder.bdd.minus(none, truth.certain)?;
            let set = truth.possible;
            targets.push(match data {
                Data::Value(values) if targets.len() < MAX_TARGETS => match values.as_slice() {
                    [address] => Target { set, address: Some(fixed(*address)), port: None },
                    [address, port] => {
                        two = true;
                        Target { set, address: Some(fixed(*address)), port: Some(fixed(*port)) }
                    }
                    _ => Target { set, ..unknown },
                },
                _ => Target { set, ..unknown },
            });
        }
        self.end_for(flow, none, turn)?;
        Ok((targets, two || !found.lost.is_empty()))
    }

    /// The address a redirect or masquerade takes, where the host's facts leave one.
    fn own_address(&self, kind: NatKind, hook: Hook, header: &Header) -> Binding {
        let v4 = self.facts.family() == crate::packet::Family::Ipv4;
        if kind == NatKind::Redirect && hook == Hook::Output {
            return Binding::Known(if v4 { 0x7f00_0001 } else { 1 });
        }
        let interface = if kind == NatKind::Redirect { header.iif } else { header.oif };
        let Some(interface) = interface.known() else { return Binding::Unknown };
        // an address of scope host never goes out: the kernel borrows one of another interface
        if kind == NatKind::Masquerade && interface == interface_number(b"lo") {
            return Binding::Unknown;
        }
        match self.addresses_on(interface).as_deref() {
            // in IPv6 scope decides; only where there is one address it is sure
            Some([one]) if v4 => Binding::Known(address_bits(*one)),
            _ => Binding::Unknown,
        }
    }

    /// Addresses of an interface in this family; `None` when not known.
    fn addresses_on(&self, interface: u128) -> Option<Vec<IpAddr>> {
        let all = self.facts.host().interfaces.as_deref()?;
        let found = all.iter().find(|one| interface_number(one.name.as_bytes()) == interface)?;
        let v4 = self.facts.family() == crate::packet::Family::Ipv4;
        Some(found.addresses.iter().map(|own| own.address).filter(|address| address.is_ipv4() == v4).collect())
    }

    /// Packets whose incoming interface has no address that a redirect could take.
    fn no_address_on(&mut self, header: &Header) -> Built<Truth> {
        let truth = |addresses: Option<Vec<IpAddr>>| match addresses {
            Some(found) if found.is_empty() => Truth::YES,
            Some(found) if found.iter().any(IpAddr::is_ipv4) => Truth::NO,
            // which of them fits depends on the packet's scope
            _ => Truth::OPEN,
        };
        match header.iif {
            Binding::Known(number) => Ok(truth(self.addresses_on(number))),
            Binding::Free(dimension) => {
                let names = self.encoder.layout.interfaces().names().to_vec();
                let mut all = Truth::NO;
                for (class, name) in names.into_iter().enumerate() {
                    let layout = &self.encoder.layout;
                    let of = layout.of_classes(&mut self.encoder.bdd, dimension, |number| number == class)?;
                    let one = truth(self.addresses_on(name)).and(&mut self.encoder.bdd, Truth::exactly(of))?;
                    all = all.or(&mut self.encoder.bdd, one)?;
                }
                Ok(all)
            }
            _ => Ok(Truth::OPEN),
        }
    }

    /// Applies the mapping of a connection that exists.
    fn mapped(&mut self, destination: bool, flow: Flow, hook: Hook, passed: &mut Passed) -> Built<()> {
        let header = self.header(flow.header);
        let ends = header.status.map(|bits| (bits & CtStatus::SNAT.0 != 0, bits & CtStatus::DNAT.0 != 0));
        // the answer to a translated source is translated at its destination, and the other way round
        let here = ends.zip(header.direction).map(|((source, target), direction)| {
            if destination == (direction == CtDirection::Original) { target } else { source }
        });
        if here == Some(false) || ends == Some((false, false)) {
            passed.accepted.push(flow);
            return Ok(());
        }
        // each direction's packets end up as the other direction's ends, turned round
        let other = match header.direction {
            Some(CtDirection::Original) => Some(header.reply),
            Some(CtDirection::Reply) => Some(header.original),
            None => None,
        };
        let mut flow = flow;
        if other.is_none() && here != Some(true) {
            let words = "whether the connection is translated";
            let (unchanged, mapped) = self.either(flow.set, words, hook, Some(&header))?;
            passed.accepted.push(Flow { set: unchanged, ..flow });
            flow.set = mapped;
        }
        let mut changed = header;
        let ends = &mut changed.ends;
        let end = if destination { (&mut ends.dst, &mut ends.dport) } else { (&mut ends.src, &mut ends.sport) };
        let (address, port) = match other {
            Some(other) if destination => (other.src, other.sport),
            Some(other) => (other.dst, other.dport),
            None => (Binding::Unknown, Binding::Unknown),
        };
        if (*end.0, *end.1) != (address, port) {
            (*end.0, *end.1) = (address, port);
            changed.epoch += 1;
        }
        let header = self.number(changed);
        passed.accepted.push(Flow { header, ..flow });
        Ok(())
    }
}

fn with_ports() -> Vec<Interval> {
    let all = [Protocol::TCP, Protocol::UDP, Protocol::DCCP, Protocol::SCTP, Protocol::UDPLITE];
    all.iter().map(|protocol| Interval::single(protocol.0.into())).collect()
}

fn fixed(range: Interval) -> Binding {
    if range.low == range.high { Binding::Known(range.low) } else { Binding::Unknown }
}

/// Marks one end as dealt with; `bit` says it was translated.
fn settle(header: &mut Header, destination: bool, bit: CtStatus) {
    let done = if destination { DESTINATION_DONE } else { SOURCE_DONE };
    header.status = header.status.map(|status| status | done | bit.0);
    if destination {
        header.destination_done = true;
    } else {
        header.source_done = true;
    }
}
