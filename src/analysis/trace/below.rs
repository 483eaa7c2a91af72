//! Chains on devices below the one the IP hooks see: a packet of a VLAN or macvlan has crossed those of the device that
//! carries it first, and crosses them last on its way out (`__netif_receive_skb_core`, `__dev_queue_xmit`).

use super::state::{State, Value};
use super::walk::Walk;
use crate::analysis::devices::{carriers, ports};
use crate::analysis::path::{self, Group};
use crate::packet::Hook;

impl Walk<'_, '_> {
    /// Chains on the packets' devices and on what carries those.
    pub(super) fn devices(&mut self, hook: Hook, states: Vec<State>) -> Vec<State> {
        if self.chains_at(hook).is_empty() {
            return states;
        }
        let (mut left, mut rest) = (Vec::new(), states);
        while let Some(first) = rest.first() {
            let device = device_of(hook, first);
            let (own, others) = rest.into_iter().partition(|state| device_of(hook, state) == device);
            left.append(&mut self.carried(hook, device, own));
            rest = others;
        }
        left
    }

    fn chains_at(&self, hook: Hook) -> &[Group] {
        if hook == Hook::Ingress { &self.engine.ingress } else { &self.engine.egress }
    }

    fn carried(&mut self, hook: Hook, device: Value, mut states: Vec<State>) -> Vec<State> {
        let Value::Known(number) = device else { return self.device(hook, states) };
        let host = self.engine.router.host();
        let mut stack = carriers(host, number);
        let told = self.packet.oif.as_deref().filter(|_| hook == Hook::Egress).map(super::masters::number);
        let of_ports = ports(host, &stack);
        let hidden = of_ports.iter().find(|(port, _)| path::hangs_on(self.engine.ruleset, self.chains_at(hook), *port));
        // one that is told has its turn where masters are followed
        if let Some((_, name)) =
            hidden.filter(|_| told.is_none_or(|told| of_ports.iter().all(|(port, _)| *port != told)))
        {
            let words = format!("{hook} chains hang on {name}, and by which port it goes is not told");
            self.lose(None, words);
            return Vec::new();
        }
        if hook == Hook::Ingress {
            stack.reverse();
        }
        for carrier in stack {
            move_to(hook, &mut states, Value::Known(carrier));
            states = self.device(hook, states);
        }
        move_to(hook, &mut states, device);
        states
    }
}

/// The device that chains at `hook` hang on.
fn device_of(hook: Hook, state: &State) -> Value {
    if hook == Hook::Ingress { state.flow.iif } else { state.flow.oif }
}

fn move_to(hook: Hook, states: &mut [State], device: Value) {
    for state in states {
        *if hook == Hook::Ingress { &mut state.flow.iif } else { &mut state.flow.oif } = device;
    }
}
