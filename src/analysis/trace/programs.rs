//! Programs outside netfilter: XDP and tc ingress before the rules, tc egress behind them. What they do is not known: in
//! front of the rules a packet may be changed, sent elsewhere or dropped; behind them it may still be dropped.

use super::TraceVerdict;
use super::state::{State, Value};
use super::walk::Walk;
use crate::analysis::devices::{MAX_LEVELS, below};
use crate::host::bpf::{Program, ProgramHook};
use crate::ruleset::interface_number;

impl<'e> Walk<'e, '_> {
    /// XDP, tc ingress and programs at netfilter's hooks.
    pub(super) fn programs_before(&mut self, states: Vec<State>) -> Vec<State> {
        self.programs_before_on(states, MAX_LEVELS)
    }

    /// The same on the master of the device they came in by alone.
    pub(super) fn programs_of(&mut self, states: Vec<State>) -> Vec<State> {
        self.programs_before_on(states, 0)
    }

    fn programs_before_on(&mut self, states: Vec<State>, levels: usize) -> Vec<State> {
        let hooks = [ProgramHook::Xdp, ProgramHook::Ingress, ProgramHook::Netfilter];
        let met = states.first().map(|state| self.met(state.flow.iif, &hooks, levels)).unwrap_or_default();
        for program in met {
            self.lose(None, format!("what the {} does to it is not known", program.words()));
        }
        states
    }

    /// tc egress, and programs at netfilter's hooks.
    pub(super) fn programs_behind(&mut self, states: Vec<State>) -> Vec<State> {
        for oif in states.iter().map(|state| state.flow.oif).collect::<Vec<_>>() {
            for program in self.met(oif, &[ProgramHook::Egress, ProgramHook::Netfilter], MAX_LEVELS) {
                self.undecided(None, format!("what the {} does to it is not known", program.words()));
                self.end(TraceVerdict::Drop, None);
            }
        }
        states
    }

    /// Programs at `hooks` that a packet of this device meets, on the device itself or one below it.
    fn met(&self, device: Value, hooks: &[ProgramHook], levels: usize) -> Vec<&'e Program> {
        let host = self.engine.router.host();
        if host.programs.is_empty() {
            return Vec::new();
        }
        let below = device.known().map(|number| below(host, number, levels));
        let on = |program: &Program| match (&program.device, &below) {
            (Some(name), Some(below)) => below.contains(&interface_number(name.as_bytes())),
            // by every device, or the packet's is not known
            _ => true,
        };
        host.programs.iter().filter(|program| hooks.contains(&program.hook) && on(program)).collect()
    }
}
