//! Which policy routing rules apply (`ip-rule(8)`, the kernel's `fib_rule_match`).

use super::{NotTold, RouteQuery, Router, TOS_MASK};
use crate::host::RoutingRule;
use crate::ruleset::interface_number;

impl Router<'_> {
    /// Whether `rule` is of the query's family.
    pub(super) fn same(&self, rule: &RoutingRule, query: &RouteQuery) -> bool {
        rule.ipv6.is_none_or(|v6| v6 == query.destination.is_ipv6())
    }

    /// Whether a policy rule applies.
    pub(super) fn applies(&self, rule: &RoutingRule, query: &RouteQuery) -> Result<bool, NotTold> {
        if !self.same(rule, query) {
            return Ok(false);
        }
        let mut unknown: Option<&str> = None;
        for (name, holds) in self.selectors(rule, query) {
            match holds {
                Some(true) => {}
                Some(false) => return Ok(rule.inverted),
                None => unknown = Some(name),
            }
        }
        match unknown {
            None => Ok(!rule.inverted),
            Some(name) => Err(format!("policy routing rule {} depends on {name}", rule.priority)),
        }
    }

    /// Each selector with whether it holds; `None` where that is not known.
    fn selectors<'r>(&self, rule: &'r RoutingRule, query: &RouteQuery) -> [(&'r str, Option<bool>); 11] {
        let v4 = query.destination.is_ipv4();
        let named = |name: &str| interface_number(name.as_bytes());
        let is_device = |wanted: &Option<Box<str>>, have: Option<u128>| match wanted {
            None => Some(true),
            Some(wanted) => have.map(|have| have == named(wanted)),
        };
        let tos = |wanted: u8| query.tos.map(|tos| if v4 { tos & TOS_MASK == wanted } else { tos & !3 == wanted });
        let port = |range: Option<(u16, u16)>, of: fn((u16, u16)) -> u16| match range {
            None => Some(true),
            Some((low, high)) => query.ports.map(|ports| (low..=high).contains(&of(ports))),
        };
        // a socket bound to nothing is on no interface
        let bound = query.bound.map(Option::unwrap_or_default);
        [
            ("the source address", when(rule.source, |prefix| query.source.map(|source| prefix.contains(source)))),
            ("", when(rule.destination, |prefix| Some(prefix.contains(query.destination)))),
            ("the incoming interface", is_device(&rule.iif, query.iif)),
            ("the interface its socket is bound to", is_device(&rule.oif, bound)),
            ("the mark", when(rule.mark, |(value, mask)| query.mark.map(|mark| mark & mask == value & mask))),
            ("the type of service", when(rule.tos.filter(|tos| *tos != 0), tos)),
            ("the user of the socket", when(rule.uids, |(low, high)| query.uid.map(|uid| (low..=high).contains(&uid)))),
            ("the protocol", when(rule.protocol, |wanted| query.protocol.map(|protocol| protocol == wanted))),
            ("the source port", port(rule.sports, |ports| ports.0)),
            ("the destination port", port(rule.dports, |ports| ports.1)),
            (
                rule.other.as_deref().unwrap_or("the VRF of an interface"),
                match (&rule.other, rule.l3mdev) {
                    (Some(_), _) => None,
                    (None, false) => Some(true),
                    (None, true) => self.in_vrf(query),
                },
            ),
        ]
    }

    /// Whether an interface of the packet is, or belongs to, a VRF; `Some(true)` is never told: its table is not modelled.
    fn in_vrf(&self, query: &RouteQuery) -> Option<bool> {
        let interfaces = self.host().interfaces.as_deref()?;
        if !interfaces.iter().any(|interface| &*interface.kind == "vrf") {
            return Some(false);
        }
        let [iif, bound] = [query.iif?, query.bound?.unwrap_or_default()];
        let is_vrf = |name: &str| self.host().interface(name).is_none_or(|interface| &*interface.kind == "vrf");
        let touched =
            interfaces.iter().filter(|interface| [iif, bound].contains(&interface_number(interface.name.as_bytes())));
        let clear = touched.clone().all(|interface| {
            &*interface.kind != "vrf" && interface.master.as_deref().is_none_or(|master| !is_vrf(master))
        });
        clear.then_some(false)
    }
}

fn when<T>(selector: Option<T>, holds: impl FnOnce(T) -> Option<bool>) -> Option<bool> {
    selector.map_or(Some(true), holds)
}
