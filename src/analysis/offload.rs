//! Flowtables of nft: forwarded packets of a connection that a rule has put into one meet no rule of the IP hooks any more
//! (net/netfilter/nf_flow_table_ip.c, nft_flow_offload.c).

use super::devices::{MAX_LEVELS, below};
use crate::host::{Host, Interface};
use crate::packet::{CtState, Family, InterfacePattern, Protocol};
use crate::ruleset::{Effect, Interval, Ruleset, Step, Table, interface_interval, interface_number};
use crate::space::ranges::joined;

/// Protocols whose connections the kernel offloads; the last is GRE.
pub const PROTOCOLS: [Protocol; 3] = [Protocol::TCP, Protocol::UDP, Protocol(47)];

/// A flowtable that rules put connections into.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Offload {
    /// Table family.
    family: Family,
    /// Family, table and name as nft writes them.
    name: String,
    /// Interfaces whose packets may pass it; `None`: any, the listing does not tell.
    pub devices: Option<Vec<Interval>>,
}

impl Offload {
    /// Whether it holds connections of `family` (`Ipv4` or `Ipv6`).
    #[must_use]
    pub fn sees(&self, family: Family) -> bool {
        self.family.sees(family)
    }

    /// Whether packets that come in by this interface may pass it; `None`: not known which that is.
    #[must_use]
    pub fn is_on(&self, interface: Option<u128>) -> bool {
        let Some((devices, interface)) = self.devices.as_ref().zip(interface) else { return true };
        devices.iter().any(|device| device.contains(interface))
    }

    /// Why a refusal by rules is not the last word.
    #[must_use]
    pub fn words(&self) -> String {
        format!("connections in flowtable {} skip the rules", self.name)
    }
}

/// Flowtables that rules put connections into. Dormant tables count: what they hold stays in force.
#[must_use]
pub fn offloads(ruleset: &Ruleset, host: &Host) -> Vec<Offload> {
    let mut found = Vec::new();
    for table in &ruleset.tables {
        for step in table.chains.iter().flat_map(|chain| &chain.rules).flat_map(|rule| &rule.steps) {
            let Step::Effect(Effect::Offload(flowtable)) = step else { continue };
            let name = format!("{} {} {flowtable}", table.family.nft_name(), table.name);
            let offload = Offload { family: table.family, name, devices: interfaces(table, flowtable, host) };
            if !found.contains(&offload) {
                found.push(offload);
            }
        }
    }
    found
}

/// Whether a later packet of a connection may have this state.
#[must_use]
pub fn may_be_offloaded(state: CtState, opens_connection: bool) -> bool {
    !opens_connection && !matches!(state, CtState::INVALID | CtState::UNTRACKED)
}

/// Interfaces the IP stack sees packets come in by that met the flowtable on one of its devices.
fn interfaces(table: &Table, flowtable: &str, host: &Host) -> Option<Vec<Interval>> {
    let declared = table.flowtables.iter().find(|known| &*known.name == flowtable)?;
    let all = host.interfaces.as_ref()?;
    let pattern = |name: &str| interface_interval(&InterfacePattern::from_nft(name));
    let mut devices: Vec<Interval> = declared.devices.iter().map(|name| pattern(name)).collect();
    if devices.is_empty() {
        return None;
    }
    let meets = |number: u128| devices.iter().any(|device| device.contains(number));
    // PPP sessions over Ethernet are looked into; their device is not listed
    let named = |interface: &Interface| interface_number(interface.name.as_bytes());
    let above = all.iter().filter(|interface| {
        &*interface.link_type == "ppp" || below(host, named(interface), MAX_LEVELS).into_iter().any(meets)
    });
    let above: Vec<Interval> = above.map(|interface| Interval::single(named(interface))).collect();
    devices.extend(above);
    Some(joined(devices))
}
