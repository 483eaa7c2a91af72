//! The failsafe chains.

use super::rule::{Criterion, FelixRule, ProtocolName, RuleAction, Side};
use super::{RenderedTable, Settings};
use crate::calico::settings::ports::Entry;
use crate::packet::{Family, PortRange, Protocol};

/// Felix's default inbound list.
pub(super) fn default_inbound() -> Vec<Entry> {
    entries(&[(Protocol::TCP, 22), (Protocol::UDP, 68)])
}

/// Felix's default outbound list.
pub(super) fn default_outbound() -> Vec<Entry> {
    entries(&[(Protocol::UDP, 53), (Protocol::UDP, 67)])
}

/// The given entries and those that both default lists end with: BGP, etcd, Typha, the API server.
fn entries(first: &[(Protocol, u16)]) -> Vec<Entry> {
    let common = [179, 2379, 2380, 5473, 6443, 6666, 6667].map(|port| (Protocol::TCP, port));
    first.iter().copied().chain(common).map(|(protocol, port)| Entry::any(protocol, port)).collect()
}

/// Adds both chains; in raw they also let the replies of the other list's connections through.
pub(super) fn add(table: &mut RenderedTable, settings: &Settings, family: Family) {
    let lists = [
        ("cali-failsafe-in", Side::Source, &settings.failsafe_in, &settings.failsafe_out),
        ("cali-failsafe-out", Side::Destination, &settings.failsafe_out, &settings.failsafe_in),
    ];
    if table.name == "nat" {
        return;
    }
    for (chain, peer, entries, replies) in lists {
        let mut rules: Vec<FelixRule> =
            entries.iter().filter_map(|entry| rule(entry, Side::Destination, peer, settings, family)).collect();
        if table.name == "raw" {
            rules.extend(replies.iter().filter_map(|entry| rule(entry, Side::Source, peer, settings, family)));
        }
        table.chains.insert(chain.to_owned(), rules);
    }
}

fn rule(entry: &Entry, port_side: Side, peer: Side, settings: &Settings, family: Family) -> Option<FelixRule> {
    let applies = entry.applies_to(family);
    if !applies && !settings.failsafe_leaks {
        return None;
    }
    let mut criteria = vec![
        Criterion::Protocol { protocol: ProtocolName::Name(entry.protocol.to_string()), negate: false },
        Criterion::Ports { side: port_side, ports: vec![PortRange::single(entry.port)], negate: false },
    ];
    criteria.extend(entry.net.filter(|_| applies).map(|net| Criterion::Net { side: peer, net, negate: false }));
    Some(FelixRule::new(criteria, RuleAction::Accept))
}
