//! The packet's way through the hooks: device, tracking, routing, NAT, loopback.

use super::record::StepKind;
use super::state::{Ct, State, Value, address, merge};
use super::tracking::PickUp;
use super::walk::Walk;
use super::{Followed, Passage, Trace, TraceVerdict};
use crate::analysis::path::{CONNTRACK_PRIORITY, Group, Unit};
use crate::packet::{CtState, CtStatus, Direction, Hook, InterfacePattern};
use crate::ruleset::{interface_interval, interface_number};

/// Chains of equal priority are tried in every order up to this many; then nobody knows.
pub(super) const MAX_PERMUTED: usize = 4;

pub(super) fn lo() -> Value {
    Value::Known(interface_number(b"lo"))
}

/// No interface.
pub(super) const NONE: Value = Value::Known(0);

impl<'e> Walk<'e, '_> {
    /// Walks the whole path, or the one hook asked for, and sums up.
    pub(super) fn drive(mut self) -> Followed {
        let start = vec![State::new(self.packet, self.hidden)];
        let left = match (self.options.at, self.packet.direction) {
            (Some(hook), _) => self.only(hook, start),
            (None, Direction::In) => self.arriving(start, true),
            (None, Direction::Forward) => self.arriving(start, false),
            (None, Direction::Out) => self.leaving(start),
        };
        for state in &left {
            self.end(TraceVerdict::Accept, state.decided.map(|(_, decision)| decision));
        }
        let passages = left.iter().map(|state| passage(state, self.packet.dst.is_ipv6())).collect();
        self.sum_up(passages)
    }

    fn sum_up(self, passages: Vec<Passage>) -> Followed {
        let mut may: Vec<TraceVerdict> = self.ends.iter().map(|end| end.verdict).collect();
        may.sort_unstable();
        may.dedup();
        let certain = may.len() == 1;
        let verdict =
            if certain { may.first().copied().unwrap_or(TraceVerdict::Unknown) } else { TraceVerdict::Unknown };
        let decision = if certain { self.ends.iter().find_map(|end| end.by) } else { None };
        let stopped_by = if certain && decision.is_none() { self.stopped.first().cloned() } else { None };
        let open = self.because;
        let because = if certain { Vec::new() } else { open.clone() };
        let states = if self.states == CtState(0) { self.packet.state } else { self.states };
        let trace = Trace {
            verdict,
            certain,
            decided_by: decision.map(|decision| decision.rule),
            carried_out_by: decision.and_then(|decision| decision.carried_out_by),
            stopped_by,
            because,
            may,
            notes: self.notes,
            steps: self.recorder.finish(),
            rules_seen: self.options.max_rules.saturating_sub(self.rules_left),
        };
        Followed { trace, passages, states, zones: self.zones, open }
    }

    pub(super) fn note(&mut self, text: String) {
        if !self.notes.contains(&text) {
            self.notes.push(text);
        }
    }

    /// One hook alone.
    fn only(&mut self, hook: Hook, mut states: Vec<State>) -> Vec<State> {
        let out = self.packet.direction == Direction::Out;
        for state in &mut states {
            let flow = &mut state.flow;
            match hook {
                Hook::Ingress | Hook::Prerouting | Hook::Input => flow.oif = NONE,
                Hook::Output | Hook::Egress => flow.iif = NONE,
                Hook::Postrouting if out => flow.iif = NONE,
                Hook::Forward | Hook::Postrouting => {}
            }
        }
        if matches!(hook, Hook::Forward | Hook::Output | Hook::Postrouting | Hook::Egress) {
            self.complete_oif(&mut states);
        }
        match hook {
            Hook::Ingress | Hook::Egress => return self.devices(hook, states),
            Hook::Prerouting | Hook::Output => {}
            _ => self.track(&mut states),
        }
        self.hook(hook, states)
    }

    /// From a device: to this host, or through it.
    fn arriving(&mut self, mut states: Vec<State>, local: bool) -> Vec<State> {
        for state in &mut states {
            state.flow.oif = NONE;
        }
        let states = self.programs_before(states);
        self.offloaded(&states);
        let states = self.devices(Hook::Ingress, states);
        let states = self.bridged(states);
        let (states, bridge) = self.taken(states);
        if let Some(bridge) = bridge.as_deref().filter(|bridge| self.stays_on(bridge)) {
            return self.passed_on(bridge, states);
        }
        let states = self.received(states);
        let states = self.hook(Hook::Prerouting, states);
        let (to_host, through) = self.route_arrived(states, local);
        let through = self.sent_by_master(through);
        let through = match bridge {
            Some(bridge) => self.unless_passed_on(&bridge, through),
            None => through,
        };
        let mut left = if to_host.is_empty() { to_host } else { self.hook(Hook::Input, to_host) };
        if !through.is_empty() {
            let states = self.hook(Hook::Forward, through);
            let states = self.hook(Hook::Postrouting, states);
            left.append(&mut self.sent(states));
        }
        left
    }

    /// What the stack refuses before it asks any rule.
    fn received(&mut self, states: Vec<State>) -> Vec<State> {
        let mut passed = Vec::new();
        for state in states {
            let stop = self.refused_at_once(&state.flow);
            passed.extend(self.past(state, stop.as_slice()));
        }
        passed
    }

    /// From a local process.
    fn leaving(&mut self, mut states: Vec<State>) -> Vec<State> {
        for state in &mut states {
            state.flow.iif = NONE;
        }
        self.complete_oif(&mut states);
        let states = self.sent_by_master(states);
        let states = self.hook(Hook::Output, states);
        let states = self.route_again(states);
        let mut states = self.sent_by_master(states);
        if self.packet.dst.is_multicast() {
            // the kernel hands multicast on with the outgoing device in both places
            for state in &mut states {
                state.flow.iif = Value::Unknown(0);
            }
        }
        let states = self.hook(Hook::Postrouting, states);
        let states = self.sent(states);
        let (mut looped, mut left): (Vec<State>, Vec<State>) =
            states.into_iter().partition(|state| state.flow.oif == lo());
        if looped.is_empty() {
            return left;
        }
        for state in &mut looped {
            state.flow.iif = lo();
            state.flow.oif = NONE;
            // its connection was confirmed on the way out
            if state.flow.ct == Ct::Tracked {
                state.flow.status = state.flow.status.map(|status| status | 8);
            }
        }
        let looped = self.programs_before(looped);
        let looped = self.device(Hook::Ingress, looped);
        let looped = self.hook(Hook::Prerouting, looped);
        left.append(&mut self.hook(Hook::Input, looped));
        left
    }

    /// All base chains of a hook of the IP stack.
    fn hook(&mut self, hook: Hook, mut states: Vec<State>) -> Vec<State> {
        if states.is_empty() {
            return states;
        }
        let engine = self.engine;
        self.recorder.enter(StepKind::Hook(hook), String::new);
        let mut tracked = !matches!(hook, Hook::Prerouting | Hook::Output);
        for group in engine.groups(self.packet.family(), hook) {
            if !tracked && group.priority >= CONNTRACK_PRIORITY {
                tracked = true;
                if group.priority == CONNTRACK_PRIORITY {
                    let words =
                        "a chain hangs at the very priority of connection tracking; which runs first is not known";
                    let (mut first, second) = self.ask(states, &format!("tracking first {hook}"), words);
                    self.track(&mut first);
                    states = first;
                    states.extend(second);
                    states = self.group(group, hook, states);
                    self.track(&mut states);
                    continue;
                }
                self.track(&mut states);
            }
            states = self.group(group, hook, states);
            if states.is_empty() {
                break;
            }
        }
        if !tracked {
            self.track(&mut states);
        }
        self.recorder.leave();
        states
    }

    /// Connection tracking sees the packet.
    fn track(&mut self, states: &mut Vec<State>) {
        if self.picked_up == PickUp::No {
            for state in states {
                if state.flow.ct == Ct::Before {
                    state.flow.ct = self.tracked();
                }
                self.note_tracking(state);
            }
            return;
        }
        let (before, mut done): (Vec<State>, Vec<State>) =
            states.drain(..).partition(|state| state.flow.ct == Ct::Before);
        let (mut taken, refused) = match self.picked_up {
            PickUp::Unknown if !before.is_empty() => {
                let words = "whether tracking picks connections up half way (net.netfilter.nf_conntrack_tcp_loose) is not \
                             in the snapshot";
                self.ask(before, "picked up", words)
            }
            _ => (before, Vec::new()),
        };
        for state in &mut taken {
            state.flow.ct = self.tracked();
        }
        done.append(&mut taken);
        done.extend(refused.into_iter().map(|mut state| {
            state.flow.ct = Ct::Invalid;
            state
        }));
        for state in &done {
            self.note_tracking(state);
        }
        *states = done;
    }

    /// What tracking makes of a packet it can place.
    fn tracked(&self) -> Ct {
        match self.packet.state {
            CtState::INVALID => Ct::Invalid,
            CtState::UNTRACKED => Ct::Untracked,
            _ => Ct::Tracked,
        }
    }

    /// Keeps what tracking made of the packet.
    fn note_tracking(&mut self, state: &State) {
        let seen = match state.flow.ct {
            Ct::Untracked => CtState::UNTRACKED,
            Ct::Before | Ct::Invalid => CtState::INVALID,
            Ct::Tracked => self.packet.state,
        };
        self.states = self.states.union(seen);
        let zone = state.flow.zone().known().and_then(|zone| u16::try_from(zone).ok());
        if state.flow.ct != Ct::Untracked && !self.zones.contains(&zone) {
            self.zones.push(zone);
        }
    }

    fn group(&mut self, group: &Group, hook: Hook, states: Vec<State>) -> Vec<State> {
        if !group.order_matters {
            return group.units.iter().fold(states, |states, unit| self.unit(unit, hook, states));
        }
        if group.units.len() > MAX_PERMUTED {
            let words = format!("{} chains hang at priority {} of {hook}", group.units.len(), group.priority);
            self.lose(None, words);
            return Vec::new();
        }
        self.note(format!("chains at priority {} of {hook} are equal; every order was followed", group.priority));
        let mut all = Vec::new();
        for order in orders(group.units.len()) {
            let mut walked = states.clone();
            for unit in order.iter().filter_map(|&at| group.units.get(at)) {
                walked = self.unit(unit, hook, walked);
            }
            all.append(&mut walked);
        }
        merge(&mut all);
        all
    }

    fn unit(&mut self, unit: &Unit, hook: Hook, states: Vec<State>) -> Vec<State> {
        if states.is_empty() {
            return states;
        }
        match unit {
            Unit::Chain(base) => self.base(*base, hook, states),
            Unit::Nat(bases) => self.nat(bases, hook, states),
        }
    }

    /// Chains on the packet's device.
    pub(super) fn device(&mut self, hook: Hook, states: Vec<State>) -> Vec<State> {
        let engine = self.engine;
        let groups = if hook == Hook::Ingress { &engine.ingress } else { &engine.egress };
        if groups.is_empty() || states.is_empty() {
            return states;
        }
        self.recorder.enter(StepKind::Hook(hook), String::new);
        let mut states = states;
        for unit in groups.iter().flat_map(|group| &group.units) {
            let Unit::Chain(base) = unit else { continue };
            let chain = engine.ruleset.tables.get(base.table).and_then(|table| table.chains.get(base.chain));
            let Some((chain, settings)) = chain.and_then(|chain| Some((chain, chain.base.as_ref()?))) else { continue };
            let (mut there, mut elsewhere, mut open) = (Vec::new(), Vec::new(), Vec::new());
            for state in states {
                let device = if hook == Hook::Ingress { state.flow.iif } else { state.flow.oif };
                let pattern = |name: &str| interface_interval(&InterfacePattern::from_nft(name));
                let on = |number| settings.devices.iter().any(|name| pattern(name).contains(number));
                match device {
                    Value::Known(number) if !settings.devices.is_empty() => {
                        if on(number) { &mut there } else { &mut elsewhere }.push(state);
                    }
                    _ => open.push(state),
                }
            }
            let words = format!("whether the {hook} chain {} hangs on the packet's device is not known", chain.name);
            let (yes, no) = self.ask(open, &format!("device {base:?}"), &words);
            there.extend(yes);
            elsewhere.extend(no);
            if !there.is_empty() {
                elsewhere.append(&mut self.base(*base, hook, there));
            }
            states = elsewhere;
        }
        self.recorder.leave();
        states
    }

    /// Frames that come in over a bridge meet its tables first; those are not evaluated.
    fn bridged(&mut self, states: Vec<State>) -> Vec<State> {
        let engine = self.engine;
        let Some(first) = engine.bridge.first() else { return states };
        let host = engine.router.host();
        let interface = self.packet.iif.as_deref().and_then(|name| host.interface(name));
        if interface.is_some_and(|interface| &*interface.kind != "bridge" && interface.master.is_none()) {
            return states;
        }
        let name = engine.ruleset.tables.get(first.table).map(|table| &*table.name).unwrap_or_default();
        let words = format!("bridge table {name} may refuse the frame before it gets here");
        let (refused, states) = self.ask(states, "bridge", &words);
        if !refused.is_empty() {
            self.end(TraceVerdict::Drop, None);
        }
        states
    }
}

/// What the other side sees of a packet that passed.
fn passage(state: &State, v6: bool) -> Passage {
    let flow = &state.flow;
    let address_of = |value: Value| value.known().map(|bits| address(bits, v6));
    let port_of = |value: Value| value.known().and_then(|port| u16::try_from(port).ok());
    let word = |value: Value| value.known().and_then(|word| u32::try_from(word).ok());
    let tracked = flow.ct == Ct::Tracked;
    Passage {
        src: (address_of(flow.src), port_of(flow.sport)),
        dst: (address_of(flow.dst), port_of(flow.dport)),
        delivered: flow.oif == NONE,
        oif: flow.oif.known().map(|number| super::words::interface(number).into()),
        tracked,
        zone: flow.zone().known().and_then(|zone| u16::try_from(zone).ok()),
        rewritten: flow.rewritten,
        ct_mark: word(flow.ct_mark).filter(|_| tracked),
        status: word(flow.status).filter(|_| tracked).map(CtStatus),
    }
}

/// Every order of `0..count`.
pub(super) fn orders(count: usize) -> Vec<Vec<usize>> {
    let mut orders = vec![Vec::new()];
    for _ in 0..count {
        orders = orders
            .into_iter()
            .flat_map(|order: Vec<usize>| {
                (0..count)
                    .filter(|at| !order.contains(at))
                    .map(|at| [order.as_slice(), &[at]].concat())
                    .collect::<Vec<_>>()
            })
            .collect();
    }
    orders
}
