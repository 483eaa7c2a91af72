//! Devices that belong to another: the IP hooks see packets of a bridge's or bond's ports arrive by the bridge or bond
//! (`br_pass_frame_up`, `bond_handle_frame`). What frames do between two ports of a bridge, and in a VRF, is not followed.

use super::TraceVerdict;
use super::record::StepKind;
use super::state::{State, Value};
use super::walk::Walk;
use crate::analysis::devices::{MAX_LEVELS, Master};
use crate::analysis::path;
use crate::packet::{Direction, Hook};
use crate::ruleset::interface_number;

/// More than [`MAX_LEVELS`].
const ENDLESS: &str = "devices stand on each other without end";

pub(super) fn number(name: &str) -> u128 {
    interface_number(name.as_bytes())
}

impl Walk<'_, '_> {
    /// Leads packets from the device they came in by to the one the IP hooks see, past what waits there. Also the bridge
    /// whose port they came in by.
    pub(super) fn taken(&mut self, mut states: Vec<State>) -> (Vec<State>, Option<Box<str>>) {
        let engine = self.engine;
        let mut bridge = None;
        for _ in 0..MAX_LEVELS {
            let Some(first) = states.first() else { return (states, bridge) };
            let Value::Known(iif) = first.flow.iif else {
                if let Some(why) = engine.devices.any_not_followed() {
                    self.lose(None, format!("the interface it comes in by is not told, and {why}"));
                    return (Vec::new(), None);
                }
                return (states, bridge);
            };
            let device = engine.devices.get(iif);
            let master = match &device.master {
                None => return (states, bridge),
                Some(Master::Other(why)) => {
                    self.lose(None, why.clone());
                    return (Vec::new(), None);
                }
                Some(Master::Bond(master)) => master,
                Some(Master::Bridge(master)) => {
                    bridge = Some(master.clone());
                    // with br_netfilter, prerouting comes before the bridge's own ingress chains
                    if self.frames_cross(master) != Some(false)
                        && path::hangs_on(engine.ruleset, &engine.ingress, number(master))
                    {
                        let words = "whether the rules of prerouting come before its ingress chains is not followed";
                        self.lose(None, format!("{} is a port of bridge {master}: {words}", device.name));
                        return (Vec::new(), None);
                    }
                    master
                }
            };
            self.recorder.add(StepKind::Routing, || format!("{} hands it to {master}", device.name));
            for state in &mut states {
                state.flow.iif = Value::Known(number(master));
            }
            states = self.programs_of(states);
            states = self.device(Hook::Ingress, states);
        }
        self.lose(None, ENDLESS.to_owned());
        (Vec::new(), None)
    }

    /// Whether frames between ports of a bridge cross the IP hooks.
    fn frames_cross(&self, bridge: &str) -> Option<bool> {
        let [four, six] = self.engine.devices.get(number(bridge)).frames_cross;
        if self.packet.dst.is_ipv6() { six } else { four }
    }

    /// Whether the packet is said to go from one port of `bridge` to another, or back.
    pub(super) fn stays_on(&self, bridge: &str) -> bool {
        let told = self.packet.oif.as_deref().filter(|_| self.packet.direction == Direction::Forward);
        told.is_some_and(|told| {
            let master = &self.engine.devices.get(number(told)).master;
            told == bridge || matches!(master, Some(Master::Bridge(other)) if **other == *bridge)
        })
    }

    /// What becomes of frames that a bridge passes on itself.
    pub(super) fn passed_on(&mut self, bridge: &str, mut states: Vec<State>) -> Vec<State> {
        let setting = if self.packet.dst.is_ipv6() { "ip6tables" } else { "iptables" };
        if self.frames_cross(bridge) == Some(false) {
            let off = format!("net.bridge.bridge-nf-call-{setting}=0");
            self.note(format!("bridge {bridge} passes it on: no rule of the IP hooks sees it ({off})"));
            for state in &mut states {
                state.flow.oif = Value::from_option(self.packet.oif.as_deref().map(number));
            }
            return states;
        }
        if !states.is_empty() {
            let words = "which rules see the frame is not followed";
            self.lose(None, format!("bridge {bridge} may pass it on itself: {words} (bridge-nf-call-{setting})"));
        }
        Vec::new()
    }

    /// Packets that came in by a port of `bridge` and go on by it, or by what is not known, may have been frames it passed
    /// on without routing.
    pub(super) fn unless_passed_on(&mut self, bridge: &str, through: Vec<State>) -> Vec<State> {
        let own = number(bridge);
        let (doubtful, routed): (Vec<State>, Vec<State>) =
            through.into_iter().partition(|state| state.flow.oif.known().is_none_or(|oif| oif == own));
        if !doubtful.is_empty() {
            let words = "whether it is routed or passed on, and which rules see it, is not followed";
            self.lose(None, format!("it comes in by a port of bridge {bridge} and goes on by it: {words}"));
        }
        routed
    }

    /// Packets on their way out by the port of a bridge or bond leave by that, to the IP hooks. Those of a VRF are lost.
    pub(super) fn sent_by_master(&mut self, states: Vec<State>) -> Vec<State> {
        let engine = self.engine;
        let mut left = Vec::new();
        'states: for mut state in states {
            for _ in 0..MAX_LEVELS {
                let why = match state.flow.oif {
                    Value::Known(oif) => match &engine.devices.get(oif).master {
                        None => {
                            left.push(state);
                            continue 'states;
                        }
                        Some(Master::Bridge(master) | Master::Bond(master)) => {
                            state.flow.oif = Value::Known(number(master));
                            continue;
                        }
                        Some(Master::Other(why)) => why.clone(),
                    },
                    _ => match engine.devices.any_not_followed() {
                        Some(why) => format!("the interface it leaves by is not known, and {why}"),
                        None => {
                            left.push(state);
                            continue 'states;
                        }
                    },
                };
                self.lose(None, why);
                continue 'states;
            }
            self.lose(None, ENDLESS.to_owned());
        }
        left
    }

    /// Chains and programs on the way out: those of the device, and of the port it is said to leave by.
    pub(super) fn sent(&mut self, states: Vec<State>) -> Vec<State> {
        let engine = self.engine;
        let mut states = self.devices(Hook::Egress, states);
        if let Some(told) = self.packet.oif.as_deref().map(number)
            && let Some(Master::Bridge(master) | Master::Bond(master)) = &engine.devices.get(told).master
        {
            let by = |state: &State, device| state.flow.oif == Value::Known(device);
            let (mut own, others): (Vec<State>, Vec<State>) =
                states.into_iter().partition(|state| by(state, number(master)));
            for state in &mut own {
                state.flow.oif = Value::Known(told);
            }
            states = self.device(Hook::Egress, own);
            for state in &mut states {
                state.flow.oif = Value::Known(number(master));
            }
            states.extend(others);
        }
        let states = self.out_of_bridge(states);
        self.programs_behind(states)
    }

    /// Bridge tables see frames that leave by a bridge; those are not evaluated.
    fn out_of_bridge(&mut self, states: Vec<State>) -> Vec<State> {
        let engine = self.engine;
        let Some(first) = engine.bridge.first() else { return states };
        let all = engine.router.host().interfaces.as_deref();
        let kind = |oif: u128| all?.iter().find(|one| number(&one.name) == oif).map(|one| &*one.kind);
        let plain = |state: &State| state.flow.oif.known().and_then(kind).is_some_and(|kind| kind != "bridge");
        let (mut left, over): (Vec<State>, Vec<State>) = states.into_iter().partition(plain);
        let name = engine.ruleset.tables.get(first.table).map(|table| &*table.name).unwrap_or_default();
        let words = format!("bridge table {name} may refuse the frame on its way out");
        let (refused, passed) = self.ask(over, "bridge out", &words);
        if !refused.is_empty() {
            self.end(TraceVerdict::Drop, None);
        }
        left.extend(passed);
        left
    }
}
