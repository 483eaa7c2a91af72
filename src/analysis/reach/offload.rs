//! Forwarded packets of connections that are in a flowtable: the rules may never see them.

use super::drive::Drive;
use super::walk::Flow;
use crate::analysis::offload::{PROTOCOLS, may_be_offloaded};
use crate::packet::CtDirection;
use crate::ruleset::Interval;
use crate::space::bdd::{Built, Set};
use crate::space::header::{Binding, Header};

impl Drive<'_, '_> {
    /// Packets that may get through whatever the rules say, and why.
    pub(super) fn offloaded(&mut self, flows: &[Flow], local: bool) -> Built<Vec<(Set, String)>> {
        let hooks = self.hooks;
        let mut found = Vec::new();
        for offload in &hooks.offloads {
            for flow in flows {
                let header = self.walk.header(flow.header);
                let later = may_be_offloaded(header.state, header.opens_connection());
                if !later || local && (!hooks.translates || is_untranslated(&header)) {
                    continue;
                }
                let encoder = &mut self.walk.encoder;
                let numbers = PROTOCOLS.map(|protocol| Interval::single(protocol.0.into()));
                let offloads = encoder.bound_within(header.protocol, &numbers)?.possible;
                let on = match &offload.devices {
                    Some(devices) => encoder.bound_within(header.iif, devices)?.possible,
                    None => Set::ALL,
                };
                let set = encoder.bdd.and(offloads, on)?;
                let set = encoder.bdd.and(set, flow.set)?;
                if !set.is_empty() {
                    found.push((set, offload.words()));
                }
            }
        }
        Ok(found)
    }
}

/// Whether the packets go to the very address they name.
fn is_untranslated(header: &Header) -> bool {
    let other_end = match header.direction {
        Some(CtDirection::Original) => header.reply.src,
        Some(CtDirection::Reply) => header.original.src,
        None => Binding::Unknown,
    };
    other_end != Binding::Unknown && other_end == header.ends.dst
}
