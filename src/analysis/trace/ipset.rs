//! iptables' `-m set`: which part of the packet each dimension of an ipset takes (ipset(8), xt_set), and list:set.

use super::eval::{Eval, Keys, Reason};
use super::index::Found;
use super::state::Value;
use crate::packet::{Family, Protocol};
use crate::ruleset::{
    CreateOptions, Elements, Field, Interval, Name, Set, SetDirection, SetKind, asks_counters, asks_exceptions,
};

/// list:set holds sets that are no lists; deeper nesting is not a kernel's.
pub(super) const MAX_LISTS: u32 = 2;

/// Yes, no, or why it is open and with which values.
type Answer = Result<bool, (Reason, Vec<Value>)>;

impl<'e> Eval<'e, '_> {
    /// Whether the packet is in the ipset; why not decidable, and the values asked with, when it is open.
    pub(super) fn ipset(&mut self, name: &'e Name, directions: &'e [SetDirection], options: Option<&str>) -> Answer {
        self.ipset_at(name, directions, options, 0)
    }

    fn ipset_at(
        &mut self,
        name: &'e Name,
        directions: &'e [SetDirection],
        options: Option<&str>,
        level: u32,
    ) -> Answer {
        let engine = self.view.engine;
        let open = |reason| Err((reason, Vec::new()));
        if self.view.state.flow.touched.iter().any(|touched| touched.is_of(usize::MAX, name)) {
            return open(Reason::Touched);
        }
        let Some((set, index)) = engine.ipset(name) else { return open(Reason::NoSet) };
        let SetKind::Ipset { type_name, options: create } = &set.kind else { return open(Reason::Shape) };
        if &**type_name == "list:set" {
            return self.list(set, directions, options, level);
        }
        let Some((method, parts)) = type_name.split_once(':') else { return open(Reason::Shape) };
        let family = if self.view.packet.dst.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 };
        let only_ipv4 = method == "bitmap" && parts.starts_with("ip");
        let other_family = set.family.is_some_and(|of| of != family && of != Family::Inet);
        // the kernel answers "no" to a rule with too few directions and to packets of the other family
        if parts.split(',').count() > directions.len() || other_family || (only_ipv4 && family != Family::Ipv4) {
            return Ok(false);
        }
        let mut keys = Keys::new();
        let create = CreateOptions(create);
        for (part, direction) in parts.split(',').zip(directions) {
            if !self.dimension(part, *direction, create, &mut keys) {
                return open(Reason::Shape);
            }
        }
        if keys.missing() {
            return Ok(false);
        }
        let (numbers, length) = keys.numbers();
        let Some(numbers) = numbers.get(..length).filter(|_| length == set.elements.dimensions()) else {
            return Err((Reason::Shape, keys.as_slice().to_vec()));
        };
        let nested = parts.contains("net");
        let open = |reason| Err((reason, keys.as_slice().to_vec()));
        match index.find_partly(&set.elements, numbers) {
            Found::Open => open(Reason::Key),
            Found::Element(_) if set.incomplete.is_some() && nested && !set.without_exceptions => {
                open(Reason::Incomplete)
            }
            // only the most specific network counts, whichever interfaces its entries name
            Found::Element(at) if parts == "net,iface" && outdone(&set.elements, at, numbers) => Ok(false),
            Found::Element(at) if nested && asks_exceptions(options) => {
                let exception = set.elements.extra(at).is_some_and(|extra| extra.nomatch);
                if exception && asks_counters(options) { open(Reason::Stateful) } else { Ok(exception) }
            }
            Found::Element(_) if asks_counters(options) => open(Reason::Stateful),
            Found::Element(at) => Ok(!set.elements.extra(at).is_some_and(|extra| extra.nomatch)),
            Found::Nothing if set.incomplete.is_some() => open(Reason::Incomplete),
            Found::Nothing => Ok(false),
        }
    }

    fn list(&mut self, list: &'e Set, directions: &'e [SetDirection], options: Option<&str>, level: u32) -> Answer {
        if level >= MAX_LISTS {
            return Err((Reason::Nested, Vec::new()));
        }
        if directions.is_empty() {
            return Ok(false);
        }
        let mut open = list.incomplete.is_some().then_some((Reason::Incomplete, Vec::new()));
        for member in &list.member_sets {
            match self.ipset_at(member, directions, options, level + 1) {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(reason) => open = open.or(Some(reason)),
            }
        }
        open.map_or(Ok(false), Err)
    }

    /// Adds what `part` (`ip`, `net`, `port`, …) takes from the packet; `false` when hepguard does not know the part.
    fn dimension(&mut self, part: &str, direction: SetDirection, create: CreateOptions<'_>, keys: &mut Keys) -> bool {
        let view = self.view;
        let flow = &view.state.flow;
        let source = direction == SetDirection::Src;
        match part {
            "ip" | "net" => {
                let address = if source { flow.src } else { flow.dst };
                let Some(mask) = create.address_mask(if view.packet.dst.is_ipv6() { 128 } else { 32 }) else {
                    return false;
                };
                keys.push(address.map(|address| address & mask));
            }
            "port" => {
                keys.push(Value::Known(view.packet.protocol.0.into()));
                keys.push(port_or_type(view.packet, if source { flow.sport } else { flow.dport }));
            }
            "iface" => {
                let interface = if source { flow.iif } else { flow.oif };
                keys.push(if interface == Value::Known(0) { Value::Missing } else { interface });
            }
            "mark" => {
                let Some(mask) = create.number("markmask", 0xffff_ffff) else { return false };
                keys.push(flow.mark.map(|mark| mark & mask));
            }
            "mac" => {
                let field = if source { Field::EtherSaddr } else { Field::EtherDaddr };
                keys.push(view.field(&field));
            }
            _ => return false,
        }
        true
    }
}

/// Whether some element's first part holds the key and is narrower than the first part of element `at`.
fn outdone(elements: &Elements, at: usize, key: &[Option<u128>]) -> bool {
    let first = |element: &[Interval]| element.first().copied();
    let (Some(found), Some(Some(value))) = (elements.key(at).and_then(first), key.first()) else { return false };
    let narrower = |other: Interval| other.contains(*value) && other.high - other.low < found.high - found.low;
    elements.keys().filter_map(first).any(narrower)
}

/// The port; ICMP's type and code take its place, other protocols have 0.
fn port_or_type(packet: &crate::packet::Packet, port: Value) -> Value {
    if matches!(packet.protocol, Protocol::TCP | Protocol::UDP | Protocol::SCTP | Protocol::UDPLITE) {
        return port;
    }
    let own = if packet.dst.is_ipv4() { Protocol::ICMP } else { Protocol::ICMPV6 };
    if packet.protocol == own {
        return Value::from_option(packet.icmp.map(|(kind, code)| u16::from(kind) << 8 | u16::from(code)));
    }
    Value::Known(0)
}
