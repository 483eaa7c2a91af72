//! Address translation: what nat chains do to the first packet of a connection, and what the connection does to later ones.

use std::net::IpAddr;

use super::drive::{MAX_PERMUTED, orders};
use super::eval::Truth;
use super::fields::Site;
use super::state::{Ct, DST_NAT_DONE, SRC_NAT_DONE, State, Value, Var, merge};
use super::walk::{Place, Walk};
use crate::analysis::path::BaseRef;
use crate::packet::{ConntrackView, CtDirection, CtState, CtStatus, Hook, Protocol, Tuple, address_bits};
use crate::ruleset::{Expr, Nat, NatKind, NatTarget, interface_number};

/// How a translation went.
pub(super) enum Translated {
    /// The packet is accepted, with its new addresses.
    Done,
    /// A map had nothing for it; the next rule follows.
    RuleEnds,
    /// A redirect found no address on the interface, or another connection has what this one gets: the kernel drops it.
    Nowhere,
    /// It depends on this question.
    Open(Var),
}

/// New address and port; `None` leaves it.
type Target = (Option<Value>, Option<Value>);

/// Whether a hook translates destinations (else sources).
fn destination_at(hook: Hook) -> bool {
    matches!(hook, Hook::Prerouting | Hook::Output)
}

impl<'e> Walk<'e, '_> {
    /// The NAT hook: nat chains for first packets, the connection's own mapping for others.
    pub(super) fn nat(&mut self, bases: &[BaseRef], hook: Hook, states: Vec<State>) -> Vec<State> {
        let destination = destination_at(hook);
        let settled = |state: &State| {
            let done = if destination { state.flow.dnat_done } else { state.flow.snat_done };
            done || state.flow.ct != Ct::Tracked
        };
        let (mut done, open): (Vec<State>, Vec<State>) = states.into_iter().partition(settled);
        let icmp = matches!(self.packet.protocol, Protocol::ICMP | Protocol::ICMPV6);
        let first = self.packet.opens_connection() || (self.packet.state == CtState::RELATED && !icmp);
        if !first {
            done.append(&mut self.mapped(destination, open));
            return done;
        }
        let mut pending = open;
        for equals in bases.chunk_by(|one, next| one.priority == next.priority) {
            if pending.is_empty() {
                break;
            }
            if equals.len() > MAX_PERMUTED {
                self.lose(None, format!("{} nat chains of one priority hang at {hook}", equals.len()));
                return done;
            }
            if equals.len() > 1 {
                self.note(format!("nat chains of one priority hang at {hook}; every order was followed"));
            }
            let mut rest = Vec::new();
            for order in orders(equals.len()) {
                let mut open = pending.clone();
                for base in order.iter().filter_map(|&at| equals.get(at)) {
                    let passed = self.base(*base, hook, open);
                    let (settled, unsettled): (Vec<State>, Vec<State>) = passed.into_iter().partition(settled);
                    done.extend(settled);
                    open = unsettled;
                }
                rest.append(&mut open);
            }
            merge(&mut rest);
            pending = rest;
        }
        // the kernel settles what no rule translated
        for state in &mut pending {
            settle(state, destination, CtStatus(0));
        }
        done.append(&mut pending);
        merge(&mut done);
        done
    }

    /// A NAT verdict for one state.
    pub(super) fn translate(&mut self, place: Place, nat: &'e Nat, state: &mut State) -> Translated {
        let destination = nat.kind.rewrites_destination(place.site.hook);
        if nat.kind == NatKind::Redirect && place.site.hook != Hook::Output {
            match self.nowhere_to_redirect(place, state) {
                Truth::Yes => return Translated::Nowhere,
                Truth::No => {}
                Truth::Open(var) => return Translated::Open(var),
            }
        }
        let unknown = format!("nat:{:?}:{}", place.rule, state.clock);
        let Some((address, port)) = self.target(place, nat, state, &unknown) else { return Translated::RuleEnds };
        let has_ports = self.packet.protocol.has_ports();
        let flow = &state.flow;
        let (old_address, old_port) = if destination { (flow.dst, flow.dport) } else { (flow.src, flow.sport) };
        let address = address.unwrap_or(old_address);
        let port = match port {
            Some(port) if has_ports => port,
            // a source port may have to change to keep connections apart
            None if has_ports && !destination => self.questions.unknown_for(format!("{unknown}:port")),
            _ => old_port,
        };
        let given_port = nat.port.is_some() && has_ports;
        let changed = match (old_address, address) {
            (Value::Known(old), Value::Known(new)) if old != new => Some(true),
            (Value::Known(_), Value::Known(_)) => match (old_port, port) {
                (Value::Known(old), Value::Known(new)) => Some(old != new),
                _ if !has_ports => Some(false),
                _ => None,
            },
            _ if given_port && matches!((old_port, port), (Value::Known(a), Value::Known(b)) if a != b) => Some(true),
            _ => None,
        };
        match self.clash(place, changed, state) {
            Truth::Yes => return Translated::Nowhere,
            Truth::No => {}
            Truth::Open(var) => return Translated::Open(var),
        }
        let flow = &mut state.flow;
        if destination {
            (flow.dst, flow.dport) = (address, port);
        } else {
            (flow.src, flow.sport) = (address, port);
        }
        flow.redirected |= nat.kind == NatKind::Redirect;
        flow.epoch += u32::from(changed != Some(false));
        let bit = if destination { CtStatus::DNAT } else { CtStatus::SNAT };
        match changed {
            Some(true) => settle(state, destination, bit),
            Some(false) => settle(state, destination, CtStatus(0)),
            None => {
                settle(state, destination, CtStatus(0));
                state.flow.status = self.questions.unknown_for(format!("{unknown}:status"));
            }
        }
        Translated::Done
    }

    /// Whether the incoming interface has no address that a redirect could take: the kernel drops the packet then.
    fn nowhere_to_redirect(&mut self, place: Place, state: &State) -> Truth {
        let found = self.addresses_of(state.flow.iif).map(|mut addresses| addresses.next().is_some());
        match found {
            Some(true) => Truth::No,
            Some(false) => Truth::Yes,
            None => {
                let words =
                    || "redirect drops when the incoming interface has no address, which is not known".to_owned();
                self.eval(place, state).ask("no address to redirect to".to_owned(), words)
            }
        }
    }

    /// Whether another connection already has the addresses this one gets. Ports and identifiers are chosen so that they tell
    /// connections apart; a protocol without them is dropped when its connection is confirmed.
    fn clash(&mut self, place: Place, changed: Option<bool>, state: &State) -> Truth {
        let protocol = self.packet.protocol;
        let told_apart = protocol.has_ports() || matches!(protocol, Protocol::ICMP | Protocol::ICMPV6);
        if told_apart || changed == Some(false) {
            return Truth::No;
        }
        let words = || format!("{protocol} has no ports: dropped if another connection has the translated addresses");
        self.eval(place, state).ask("translated addresses are taken".to_owned(), words)
    }

    /// What `nat` rewrites to; `None` when a map has no entry.
    fn target(&mut self, place: Place, nat: &'e Nat, state: &State, unknown: &str) -> Option<Target> {
        let mut address = match (&nat.address, nat.kind) {
            (Some(NatTarget::Range(range)), kind) if kind.keeps_host_part() => {
                Some(self.moved(place, kind, *range, state))
            }
            (Some(NatTarget::Range(range)), _) if range.low == range.high => Some(Value::Known(range.low)),
            (Some(NatTarget::Range(_)), _) => Some(self.questions.unknown_for(format!("{unknown}:address"))),
            (Some(NatTarget::Expr(expression)), _) => {
                return self.computed(place, nat, expression, state, unknown);
            }
            (None, NatKind::Redirect | NatKind::Masquerade) => {
                let own = self.own_address(place.site, nat.kind, state);
                Some(own.unwrap_or_else(|| self.questions.unknown_for(format!("{unknown}:address"))))
            }
            (None, _) => None,
        };
        let port = self.port(place, nat, state, unknown)?;
        if address == Some(Value::Missing) {
            address = None;
        }
        Some((address, port))
    }

    /// The address with its network part replaced by that of `network`.
    fn moved(&mut self, place: Place, kind: NatKind, network: crate::ruleset::Interval, state: &State) -> Value {
        let flow = &state.flow;
        let old = if kind.rewrites_destination(place.site.hook) { flow.dst } else { flow.src };
        let host = network.low ^ network.high;
        match old {
            Value::Known(old) => Value::Known(old & host | network.low & !host),
            old => self.questions.unknown_for(format!("netmap:{network:?}:{old:?}")),
        }
    }

    fn port(&mut self, place: Place, nat: &'e Nat, state: &State, unknown: &str) -> Option<Option<Value>> {
        Some(match &nat.port {
            None => None,
            Some(NatTarget::Range(range)) if range.low == range.high => Some(Value::Known(range.low)),
            Some(NatTarget::Range(_)) => Some(self.questions.unknown_for(format!("{unknown}:port"))),
            Some(NatTarget::Expr(expression)) => match self.eval(place, state).value(expression) {
                Value::Missing => return None,
                value => Some(value),
            },
        })
    }

    /// An address (and port, when the map holds both) from an expression.
    fn computed(
        &mut self,
        place: Place,
        nat: &'e Nat,
        expression: &'e Expr,
        state: &State,
        unknown: &str,
    ) -> Option<Target> {
        if let Expr::Map { key, map } = expression {
            let values = self.eval(place, state).map_data(key, map);
            let value = |walk: &mut Self, interval: &crate::ruleset::Interval, name: &str| {
                if interval.low == interval.high {
                    Value::Known(interval.low)
                } else {
                    walk.questions.unknown_for(format!("{unknown}:{name}"))
                }
            };
            match values {
                Ok(None) => return None,
                Ok(Some([address, port])) if nat.port.is_none() => {
                    let target = (value(self, address, "address"), value(self, port, "port"));
                    return Some((Some(target.0), Some(target.1)));
                }
                Ok(Some([network])) if nat.kind.keeps_host_part() => {
                    let port = self.port(place, nat, state, unknown)?;
                    return Some((Some(self.moved(place, nat.kind, *network, state)), port));
                }
                Ok(Some([address])) => {
                    let address = value(self, address, "address");
                    let port = self.port(place, nat, state, unknown)?;
                    return Some((Some(address), port));
                }
                _ => {
                    let address = self.questions.unknown_for(format!("{unknown}:address"));
                    let port = self.questions.unknown_for(format!("{unknown}:port"));
                    return Some((Some(address), Some(port)));
                }
            }
        }
        match self.eval(place, state).value(expression) {
            Value::Missing => None,
            address => {
                let port = self.port(place, nat, state, unknown)?;
                Some((Some(address), port))
            }
        }
    }

    /// The address a redirect or masquerade takes, where the host's facts leave one.
    fn own_address(&self, site: Site, kind: NatKind, state: &State) -> Option<Value> {
        let v6 = self.packet.dst.is_ipv6();
        if kind == NatKind::Redirect && site.hook == Hook::Output {
            return Some(Value::Known(if v6 { 1 } else { 0x7f00_0001 }));
        }
        let interface = if kind == NatKind::Redirect { state.flow.iif } else { state.flow.oif };
        if kind == NatKind::Masquerade && interface == Value::Known(interface_number(b"lo")) {
            // an address of scope host never goes out: the kernel borrows one of another interface
            return None;
        }
        let mut addresses = self.addresses_of(interface)?;
        let one = addresses.next()?;
        // a redirect takes the first, in the order they are listed
        (kind == NatKind::Redirect || addresses.next().is_none()).then_some(one)
    }

    /// Addresses of an interface that fit the packet: its family, and in IPv6 its scope. `None` when not known.
    fn addresses_of(&self, interface: Value) -> Option<impl Iterator<Item = Value>> {
        let destination = self.packet.dst;
        let link = |address: IpAddr| matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        let fits =
            move |address: IpAddr| address.is_ipv6() == destination.is_ipv6() && link(address) == link(destination);
        let number = interface.known()?;
        let all = self.engine.router.host().interfaces.as_deref()?;
        let found = all.iter().find(|interface| interface_number(interface.name.as_bytes()) == number)?;
        let addresses = found.addresses.iter().map(|address| address.address);
        Some(addresses.filter(move |address| fits(*address)).map(|address| Value::Known(address_bits(address))))
    }

    /// Applies the mapping of a connection that exists.
    fn mapped(&mut self, destination: bool, mut states: Vec<State>) -> Vec<State> {
        let ct = self.packet.ct;
        let ends = translated_ends(&ct);
        if ends == Some((false, false)) {
            return states;
        }
        // the answer to a translated source is translated at its destination, and the other way round
        let here = ends.zip(ct.direction).map(|((source, target), direction)| {
            if destination == (direction == CtDirection::Original) { target } else { source }
        });
        if here == Some(false) {
            return states;
        }
        let turned = |tuple: Tuple| {
            if destination { (tuple.src, tuple.sport) } else { (tuple.dst, tuple.dport) }
        };
        // each direction's packets end up as the other direction's tuple, turned round
        let other = match ct.direction {
            Some(CtDirection::Original) => ct.reply,
            Some(CtDirection::Reply) => ct.original,
            None => None,
        };
        if let Some((address, port)) = other.map(turned) {
            let port = match port {
                Some(port) => Value::Known(port.into()),
                None => self.questions.unknown_for(format!("mapped:{destination}:port")),
            };
            let ported = self.packet.protocol.has_ports();
            for state in &mut states {
                let port = if ported { port } else { Value::Unknown(0) };
                rewrite(state, destination, Value::Known(address_bits(address)), port);
            }
            return states;
        }
        let (yes, mut states) = if here == Some(true) {
            (states, Vec::new())
        } else {
            let words = "whether the connection's addresses are translated is not known";
            self.ask(states, "connection translated", words)
        };
        for mut state in yes {
            let end = if destination { "dst" } else { "src" };
            let address = self.questions.unknown_for(format!("mapped:{end}"));
            let port = self.questions.unknown_for(format!("mapped:{end}:port"));
            rewrite(&mut state, destination, address, port);
            states.push(state);
        }
        states
    }
}

/// Whether a connection's source and destination are translated: told by its status, else by its addresses.
fn translated_ends(ct: &ConntrackView) -> Option<(bool, bool)> {
    if let Some(CtStatus(bits)) = ct.status {
        return Some((bits & CtStatus::SNAT.0 != 0, bits & CtStatus::DNAT.0 != 0));
    }
    let (original, reply) = ct.original.zip(ct.reply)?;
    let source = (original.src, original.sport) != (reply.dst, reply.dport);
    let target = (original.dst, original.dport) != (reply.src, reply.sport);
    Some((source, target))
}

fn rewrite(state: &mut State, destination: bool, address: Value, port: Value) {
    let flow = &mut state.flow;
    let end = if destination { (&mut flow.dst, &mut flow.dport) } else { (&mut flow.src, &mut flow.sport) };
    if *end.0 != address || *end.1 != port {
        (*end.0, *end.1) = (address, port);
        flow.epoch += 1;
    }
}

/// Marks one end as dealt with; `bit` says it was translated.
fn settle(state: &mut State, destination: bool, bit: CtStatus) {
    let done = if destination { DST_NAT_DONE } else { SRC_NAT_DONE };
    state.flow.status = state.flow.status.map(|status| status | done | u128::from(bit.0));
    if destination {
        state.flow.dnat_done = true;
    } else {
        state.flow.snat_done = true;
    }
}
