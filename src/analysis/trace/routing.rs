//! Routing: where packets that came in go on to, where packets of this host leave, and what ends on the way.

use std::net::IpAddr;

pub(super) use crate::host::Route;

use super::arrival::{Goes, Received, Stop, ends};
use super::drive::{NONE, lo};
use super::record::StepKind;
use super::state::{Flow, State, Value, address, merge};
use super::walk::Walk;
use super::{TraceVerdict, words};
use crate::analysis::route::{Found, NotTold, RouteQuery};
use crate::host::RouteKind;
use crate::packet::{Direction, Protocol, address_bits};
use crate::ruleset::interface_number;

/// What a lookup is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Lookup<'a> {
    /// A packet that came in.
    Arrived,
    /// A packet of this host; whether a source was chosen before is told by `source`.
    Sent {
        /// The socket knows its source address.
        source: bool,
    },
    /// A packet of this host that a raw socket made up: routing sees neither its source nor its protocol nor its ports.
    Raw,
    /// A packet of this host that rules have changed: neither protocol nor ports are looked at again.
    Again,
    /// The way back, to judge a source address.
    Reverse {
        /// The address judged.
        source: IpAddr,
        /// The packet's own destination; `None` counts as no address.
        destination: Option<IpAddr>,
        /// The mark that counts.
        mark: Option<u32>,
        /// Where a forwarded packet leaves; the answer would come in by it.
        out: Option<Option<&'a str>>,
    },
}

impl<'e> Walk<'e, '_> {
    /// An address of the packet, where it is known.
    pub(super) fn address(&self, value: Value) -> Option<IpAddr> {
        value.known().map(|bits| address(bits, self.packet.dst.is_ipv6()))
    }

    /// Looks a route up for the packet as it is now.
    pub(super) fn lookup(&self, flow: &Flow, purpose: Lookup<'_>) -> Result<Option<Found<'e>>, NotTold> {
        let destination = self.address(flow.dst).ok_or("the translated destination is not known")?;
        let port = |value: Value| value.known().and_then(|port| u16::try_from(port).ok());
        let ports = match self.packet.protocol.has_ports() {
            true => port(flow.sport).zip(port(flow.dport)),
            // a message's type and code take the place of ports in lookups of this host's own packets
            false => (self.packet.direction != Direction::Out).then_some((0, 0)),
        };
        let query = RouteQuery {
            source: self.address(flow.src),
            mark: flow.mark.known().and_then(|mark| u32::try_from(mark).ok()),
            iif: if flow.iif == NONE { lo().known() } else { flow.iif.known() },
            tos: flow.tos.known().and_then(|tos| u8::try_from(tos).ok()),
            uid: Some(0),
            protocol: Some(self.packet.protocol),
            ports,
            ..RouteQuery::from_here(destination)
        };
        let any = if destination.is_ipv4() { IpAddr::from([0u8; 4]) } else { IpAddr::from([0u8; 16]) };
        let query = match purpose {
            Lookup::Arrived => query,
            Lookup::Sent { source } => {
                RouteQuery { uid: self.packet.uid, source: if source { query.source } else { Some(any) }, ..query }
            }
            Lookup::Raw => {
                RouteQuery { uid: self.packet.uid, protocol: Some(Protocol(255)), ports: Some((0, 0)), ..query }
            }
            Lookup::Again => RouteQuery {
                uid: self.packet.uid,
                protocol: Some(Protocol(0)),
                ports: Some((0, 0)),
                bound: self.bound_when_routed_again(),
                ..query
            },
            Lookup::Reverse { source, destination, mark, out } => RouteQuery {
                destination: source,
                source: Some(destination.unwrap_or(any)),
                mark,
                iif: match out {
                    None => lo().known(),
                    Some(device) => device.map(|name| interface_number(name.as_bytes())),
                },
                ports: query.ports.map(|(sport, dport)| (dport, sport)),
                ..query
            },
        };
        self.engine.router.find(&query)
    }

    /// The interface a socket of this host is bound to. Nobody tells; where a packet is said to leave by another interface
    /// than routing alone would choose, its socket must be bound to that one, else it is taken to be bound to none.
    fn bound_when_routed_again(&self) -> Option<Option<u128>> {
        let Some(told) = self.packet.oif.as_deref() else { return Some(None) };
        let first = State::new(self.packet, self.hidden).flow;
        let free = self.lookup(&Flow { iif: NONE, ..first }, Lookup::Sent { source: true }).ok()?;
        let told = interface_number(told.as_bytes());
        let chosen = free.as_ref().and_then(number_of);
        Some((chosen != Some(told)).then_some(told))
    }

    /// The kernel itself ends the packet's way.
    pub(super) fn stop(&mut self, stop: &Stop) {
        self.end_by_kernel(stop.verdict, stop.why.clone());
        self.recorder.add(StepKind::Routing, || format!("{}: {}", stop.verdict.name(), stop.why));
    }

    /// Leads one state past `stops`; gives it back when it may have passed.
    pub(super) fn past(&mut self, state: State, stops: &[Stop]) -> Vec<State> {
        let mut left = vec![state];
        for stop in stops {
            if left.is_empty() {
                break;
            }
            if stop.sure {
                self.stop(stop);
                return Vec::new();
            }
            let (stopped, passed) = self.ask(left, &stop.why, &stop.why);
            if !stopped.is_empty() {
                self.stop(stop);
            }
            left = passed;
        }
        left
    }

    /// Routing of packets that came in: to this host or through it.
    pub(super) fn route_arrived(&mut self, states: Vec<State>, local: bool) -> (Vec<State>, Vec<State>) {
        let (mut to_host, mut through) = (Vec::new(), Vec::new());
        for state in states {
            let Received { stops, goes } = self.arrival(&state.flow);
            let dst = state.flow.dst;
            let same = dst == Value::Known(address_bits(self.packet.dst)) || dst == Value::Unknown(0);
            // of an answer nobody said where it goes
            let said = same && !self.answers;
            for state in self.past(state, &stops) {
                match &goes {
                    _ if state.flow.redirected => to_host.push(state),
                    Goes::Nowhere => {}
                    Goes::Here => {
                        self.remark_destination(said && !local, true);
                        to_host.push(state);
                    }
                    Goes::On(found) => {
                        self.remark_destination(said && local, false);
                        if self.is_told_to_forward() && self.forwards(&state.flow).is_none() {
                            self.note("whether forwarding is on was not read (sysctl.txt); taken to be".to_owned());
                        }
                        through.push(self.onward(state, found.device, same));
                    }
                    Goes::NotTold(_) if said && local => to_host.push(state),
                    Goes::NotTold(_) if said => through.push(self.onward(state, None, same)),
                    Goes::NotTold(_) if self.to_host == Some(true) => to_host.push(state),
                    Goes::NotTold(_) if self.to_host == Some(false) => through.push(self.onward(state, None, same)),
                    Goes::NotTold(why) => {
                        let new = self.address(state.flow.dst).map_or_else(
                            || "the translated destination".to_owned(),
                            |new| format!("{new}, the translated destination,"),
                        );
                        let words = format!("whether {new} is this host is not known: {why}");
                        let (yes, no) = self.ask(vec![state], &format!("local {new}"), &words);
                        to_host.extend(yes);
                        for state in no {
                            through.push(self.onward(state, None, same));
                        }
                    }
                }
            }
        }
        if !to_host.is_empty() {
            self.recorder.add(StepKind::Routing, || "goes to this host".to_owned());
        }
        (to_host, through)
    }

    fn remark_destination(&mut self, otherwise: bool, here: bool) {
        if otherwise {
            let (not, then) = if here { ("", "goes to this host") } else { ("not ", "is forwarded") };
            self.note(format!("{} is {not}an address of this host: the packet {then}", self.packet.dst));
        }
    }

    /// A packet that is forwarded.
    fn onward(&mut self, mut state: State, device: Option<&str>, said: bool) -> State {
        let given = self.packet.oif.as_deref().filter(|_| said || self.to_host.is_some());
        state.flow.oif = Value::from_option(given.or(device).map(|name| interface_number(name.as_bytes())));
        // forwarding takes one off before the rules of the hook see the packet
        state.flow.ttl = state.flow.ttl.map(|ttl| ttl.saturating_sub(1));
        self.explain_oif(state.flow.oif);
        state
    }

    fn explain_oif(&mut self, oif: Value) {
        let why = match oif {
            Value::Known(number) => format!("leaves by {}", words::interface(number)),
            _ => "the outgoing interface is not known: give it with -o".to_owned(),
        };
        if !matches!(oif, Value::Known(_)) {
            self.note(why.clone());
        }
        self.recorder.add(StepKind::Routing, || why);
    }

    /// The interface packets of this host, or at a hook asked alone, leave by. States that cannot be sent end here.
    pub(super) fn complete_oif(&mut self, states: &mut Vec<State>) {
        if self.packet.oif.is_some() {
            return;
        }
        let Some(first) = states.first().map(|state| state.flow.clone()) else { return };
        let oif = if self.packet.direction == Direction::Out {
            match self.departure(&first) {
                Ok(oif) => oif,
                Err(stop) => {
                    self.stop(&stop);
                    states.clear();
                    return;
                }
            }
        } else {
            let found = self.lookup(&first, Lookup::Arrived).ok().flatten();
            found.and_then(|found| number_of(&found)).map_or(Value::Unknown(0), Value::Known)
        };
        self.explain_oif(oif);
        for state in states {
            state.flow.oif = oif;
        }
    }

    /// Where a packet of this host leaves, or why it cannot.
    fn departure(&self, flow: &Flow) -> Result<Value, Stop> {
        let (src, dst) = (self.packet.src, self.packet.dst);
        if src == dst || dst.is_loopback() {
            return Ok(lo());
        }
        let Ok(told) = self.lookup(flow, Lookup::Sent { source: true }) else { return Ok(Value::Unknown(0)) };
        let free = self.lookup(flow, Lookup::Sent { source: false });
        let raw = self.lookup(flow, Lookup::Raw);
        let ends = |found: &Option<Found<'_>>| found.is_none_or(|found| is_end(found.kind));
        let Some(found) = told.filter(|found| !is_end(found.kind)) else {
            // a socket that did not choose its source, or that makes its own headers, may be routed otherwise
            let all = [&free, &raw].into_iter().all(|other| other.as_ref().is_ok_and(ends));
            return if all { Err(unsendable(dst, told)) } else { Ok(Value::Unknown(0)) };
        };
        let oif = number_of(&found);
        let same = |other: &Found<'_>| number_of(other) == oif;
        // TCP looks up again with the source it chose; another protocol's socket that chose none keeps the first answer
        let agree = [free, raw].iter().all(|other| matches!(other, Ok(Some(other)) if same(other)));
        let certain = self.packet.protocol == Protocol::TCP || agree;
        // a group, or everybody, is spoken to by the interface that has the source address
        let everybody = matches!(dst, IpAddr::V4(v4) if v4.is_multicast() || v4.is_broadcast());
        let by_source = match self.engine.router.host().interface_of(src) {
            Some(name) if everybody => Some(interface_number(name.as_bytes())) == oif,
            _ => true,
        };
        Ok(oif.filter(|_| certain && by_source).map_or(Value::Unknown(0), Value::Known))
    }

    /// After output: changed packets are routed once more.
    pub(super) fn route_again(&mut self, states: Vec<State>) -> Vec<State> {
        let before = State::new(self.packet, self.hidden).flow;
        let mut routed = Vec::new();
        for mut state in states {
            let flow = &state.flow;
            let moved = flow.dst != before.dst;
            let changed = flow.mark != before.mark || flow.src != before.src || flow.tos != before.tos;
            if !(moved || changed && self.engine.reroutes) {
                routed.push(state);
                continue;
            }
            if flow.redirected {
                state.flow.oif = lo();
                routed.push(state);
                continue;
            }
            match self.lookup(&state.flow, Lookup::Again) {
                Ok(Some(found)) if !is_end(found.kind) => {
                    state.flow.oif = number_of(&found).map_or(Value::Unknown(0), Value::Known);
                    routed.push(state);
                }
                Ok(found) => {
                    let dst = self.address(state.flow.dst).unwrap_or(self.packet.dst);
                    // the packet is dropped where it was changed: its sender hears of no route
                    self.stop(&Stop { verdict: TraceVerdict::Drop, ..unsendable(dst, found) });
                }
                // a mark alone sends it elsewhere only where policy routing knows marks
                Err(_) if !moved && self.packet.oif.is_some() && self.engine.router.host().rules.is_none() => {
                    routed.push(state);
                }
                Err(_) if moved => {
                    state.flow.oif = Value::Unknown(0);
                    let key = format!("local {:?}", state.flow.dst);
                    let words = "whether the translated destination is this host is not known";
                    let (yes, no) = self.ask(vec![state], &key, words);
                    for mut state in yes {
                        state.flow.oif = lo();
                        routed.push(state);
                    }
                    routed.extend(no);
                }
                Err(_) => {
                    state.flow.oif = Value::Unknown(0);
                    routed.push(state);
                }
            }
        }
        merge(&mut routed);
        routed
    }
}

/// The device packets leave by; what is this host's own stays inside.
fn number_of(found: &Found<'_>) -> Option<u128> {
    match found.kind {
        // IPv6 anycast addresses (the subnet-router address of each network of a router) stay inside like its own
        RouteKind::Local | RouteKind::Anycast => lo().known(),
        _ => found.device.map(|name| interface_number(name.as_bytes())),
    }
}

fn is_end(kind: RouteKind) -> bool {
    matches!(kind, RouteKind::Blackhole | RouteKind::Unreachable | RouteKind::Prohibit | RouteKind::Throw)
}

fn unsendable(destination: IpAddr, found: Option<Found<'_>>) -> Stop {
    let kind = found.map_or(RouteKind::Unreachable, |found| found.kind);
    let verdict = if kind == RouteKind::Blackhole { TraceVerdict::Drop } else { TraceVerdict::Reject };
    Stop { verdict, why: format!("it cannot be sent: {}", ends(destination, kind, found)), sure: true }
}
