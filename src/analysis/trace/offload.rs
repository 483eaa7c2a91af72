//! Forwarded packets of connections that are in a flowtable: the rules may never see them.

use super::TraceVerdict;
use super::state::{State, Value};
use super::walk::Walk;
use crate::analysis::offload::{PROTOCOLS, may_be_offloaded};
use crate::analysis::path;
use crate::analysis::route::RouteQuery;
use crate::packet::{CtDirection, Direction};

impl Walk<'_, '_> {
    /// A packet that may be of a connection in a flowtable may get through whatever the rules say.
    pub(super) fn offloaded(&mut self, states: &[State]) {
        let packet = self.packet;
        let later = may_be_offloaded(packet.state, packet.opens_connection());
        let engine = self.engine;
        if engine.offloads.is_empty() || !later || !PROTOCOLS.contains(&packet.protocol) || !self.may_go_on() {
            return;
        }
        let iif = states.first().and_then(|state: &State| Value::known(state.flow.iif));
        for offload in &engine.offloads {
            if !offload.sees(packet.family()) || !offload.is_on(iif) {
                continue;
            }
            if engine.egress.is_empty() {
                self.undecided(None, offload.words());
                self.end(TraceVerdict::Accept, None);
            } else {
                // the chains at the outgoing device see it without mark and state
                self.lose(None, offload.words());
            }
        }
    }

    /// Whether the packet may be for another host; where rules translate, its address alone does not tell.
    fn may_go_on(&self) -> bool {
        if self.to_host == Some(true) {
            return false;
        }
        let packet = self.packet;
        let routed = self.engine.router.lookup(&RouteQuery::from_here(packet.dst));
        if !routed.is_local().unwrap_or(packet.direction == Direction::In) {
            return true;
        }
        let other_end = match packet.ct.direction {
            Some(CtDirection::Original) => packet.ct.reply.map(|reply| reply.src),
            Some(CtDirection::Reply) => packet.ct.original.map(|original| original.src),
            None => None,
        };
        path::nat_is_set_up(self.engine.ruleset, packet.family()) && other_end != Some(packet.dst)
    }
}
