//! iptables' `-m set`: which part of the packet each dimension of an ipset takes (ipset(8), xt_set), exceptions, lists.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::value::{Number, Truth, Value};
use super::{Encoder, Eval};
use crate::packet::{Family, Protocol};
use crate::ruleset::{
    CreateOptions, Elements, Field, Interval, Name, Set as NamedSet, SetDirection, SetKind, asks_counters,
    asks_exceptions,
};
use crate::space::bdd::{Built, Set};
use crate::space::header::Binding;
use crate::space::ranges::mask;

/// list:set holds sets that are no lists; deeper nesting is not a kernel's.
const MAX_LISTS: u32 = 2;

impl<'r> Eval<'_, 'r> {
    /// Whether packets are in the ipset; `options` ask for counters of the entry, which nobody knows.
    pub(super) fn ipset(&mut self, name: &Name, directions: &[SetDirection], options: Option<&str>) -> Built<Truth> {
        self.ipset_at(name, directions, options, 0)
    }

    fn ipset_at(
        &mut self,
        name: &Name,
        directions: &[SetDirection],
        options: Option<&str>,
        level: u32,
    ) -> Built<Truth> {
        if self.header.touched.iter().any(|(place, touched)| *place == usize::MAX && touched == name) {
            return Ok(Truth::OPEN);
        }
        let Some(set) = self.encoder.ipsets.get(&**name).copied() else { return Ok(Truth::OPEN) };
        let SetKind::Ipset { type_name, options: create } = &set.kind else { return Ok(Truth::OPEN) };
        if &**type_name == "list:set" {
            return self.list(set, directions, options, level);
        }
        let Some((method, parts)) = type_name.split_once(':') else { return Ok(Truth::OPEN) };
        let family = self.encoder.layout.family();
        let only_ipv4 = method == "bitmap" && parts.starts_with("ip");
        let other_family = set.family.is_some_and(|of| of != family && of != Family::Inet);
        // the kernel answers "no" to a rule with too few directions and to packets of the other family
        if parts.split(',').count() > directions.len() || other_family || (only_ipv4 && family != Family::Ipv4) {
            return Ok(Truth::NO);
        }
        let create = CreateOptions(create);
        let mut keys = Vec::new();
        for (part, direction) in parts.split(',').zip(directions) {
            if !self.dimension(part, *direction, create, &mut keys)? {
                return Ok(Truth::OPEN);
            }
        }
        let missing = self.encoder.bdd.union(keys.iter().map(|key| key.missing))?;
        if keys.len() != set.elements.dimensions() {
            return Truth::OPEN.and(&mut self.encoder.bdd, Truth::exactly(!missing));
        }
        let exceptions = parts.contains("net") && asks_exceptions(options);
        let mut inside = self.members(set, parts, &keys, exceptions)?;
        if asks_counters(options) {
            inside.certain = Set::NONE;
        }
        if set.incomplete.is_some() {
            // what is not seen may also be an exception
            let sure = set.without_exceptions || !parts.contains("net");
            let certain = if sure { inside.certain } else { Set::NONE };
            inside = Truth { certain, possible: Set::ALL };
        }
        inside.and(&mut self.encoder.bdd, Truth::exactly(!missing))
    }

    fn list(
        &mut self,
        list: &NamedSet,
        directions: &[SetDirection],
        options: Option<&str>,
        level: u32,
    ) -> Built<Truth> {
        if level >= MAX_LISTS {
            return Ok(Truth::OPEN);
        }
        if directions.is_empty() {
            return Ok(Truth::NO);
        }
        let mut any = if list.incomplete.is_some() { Truth::OPEN } else { Truth::NO };
        for member in &list.member_sets {
            let one = self.ipset_at(member, directions, options, level + 1)?;
            any = any.or(&mut self.encoder.bdd, one)?;
        }
        Ok(any)
    }

    /// Whether `keys` are in the set, or, when asked so, whether an exception takes them out of it.
    fn members(&mut self, set: &'r NamedSet, parts: &str, keys: &[Value], exceptions: bool) -> Built<Truth> {
        let elements = &set.elements;
        let excepted = (0..elements.len()).any(|at| elements.extra(at).is_some_and(|extra| extra.nomatch));
        let covering = if parts == "net,iface" { 1 } else { keys.len() };
        if exceptions {
            return self.encoder.layered(elements, keys, covering, true);
        }
        if !excepted && covering == keys.len() {
            return self.encoder.inside(elements, keys);
        }
        self.encoder.remembered(elements, keys, |encoder| encoder.layered(elements, keys, covering, false))
    }

    /// Adds what `part` (`ip`, `net`, `port`, …) takes from the packet; `false` when hepguard does not know the part.
    fn dimension(
        &mut self,
        part: &str,
        direction: SetDirection,
        create: CreateOptions<'_>,
        keys: &mut Vec<Value>,
    ) -> Built<bool> {
        let header = self.header;
        let source = direction == SetDirection::Src;
        let (address, port, interface) = match source {
            true => (header.ends.src, header.ends.sport, header.iif),
            false => (header.ends.dst, header.ends.dport, header.oif),
        };
        match part {
            "ip" | "net" => {
                let width = if self.encoder.layout.family() == Family::Ipv4 { 32 } else { 128 };
                let Some(kept) = create.address_mask(width) else { return Ok(false) };
                let value = self.bound(address)?;
                keys.push(if kept == mask(width) { value } else { value.masked(kept) });
            }
            "port" => {
                keys.push(self.bound(header.protocol)?);
                keys.push(self.port_or_type(port)?);
            }
            "iface" => {
                let binding = if interface == Binding::Known(0) { Binding::Missing } else { interface };
                keys.push(self.bound(binding)?);
            }
            "mark" => {
                let Some(kept) = create.number("markmask", 0xffff_ffff) else { return Ok(false) };
                keys.push(self.bound(header.mark)?.masked(kept));
            }
            "mac" => {
                keys.push(self.field(if source { &Field::EtherSaddr } else { &Field::EtherDaddr })?);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The port; ICMP's type and code take its place, other protocols have 0.
    fn port_or_type(&mut self, port: Binding) -> Built<Value> {
        let header = self.header;
        let with_ports = self.of_protocols(&[Protocol::TCP, Protocol::UDP, Protocol::SCTP, Protocol::UDPLITE])?;
        let own = if self.encoder.layout.family() == Family::Ipv4 { Protocol::ICMP } else { Protocol::ICMPV6 };
        let icmp = self.of_protocols(&[own])?;
        let (port, kind, code) = (self.bound(port)?, self.bound(header.icmp_type)?, self.bound(header.icmp_code)?);
        if with_ports == Set::ALL {
            return Ok(port);
        }
        let bdd = &mut self.encoder.bdd;
        let ports = port.to_bits(bdd, 16)?;
        let mut types = kind.to_bits(bdd, 8)?;
        types.extend(code.to_bits(bdd, 8)?);
        let bits = ports.into_iter().zip(types).map(|(port, kind)| {
            let kind = bdd.and(icmp, kind)?;
            bdd.choose(with_ports, port, kind)
        });
        let bits = bits.collect::<Built<Vec<Set>>>()?;
        let of_icmp = bdd.or(kind.unknown, code.unknown)?;
        let unknown = [bdd.and(of_icmp, icmp)?, bdd.and(port.unknown, with_ports)?];
        Ok(Value { number: Number::Bits(bits), missing: Set::NONE, unknown: bdd.union(unknown)? })
    }
}

impl Encoder<'_> {
    /// The most specific entry decides: from the widest to the narrowest, each layer replaces what wider ones said for the
    /// packets that its entries cover in their first `covering` dimensions. With `exceptions` those that are taken out.
    fn layered(&mut self, elements: &Elements, keys: &[Value], covering: usize, exceptions: bool) -> Built<Truth> {
        type Rows = Vec<Vec<Interval>>;
        let mut layers: BTreeMap<Reverse<Vec<u128>>, (Rows, Rows)> = BTreeMap::new();
        for (at, key) in elements.keys().enumerate() {
            let widths = key.iter().take(covering).map(|interval| interval.high - interval.low).collect();
            let (matches, taken_out) = layers.entry(Reverse(widths)).or_default();
            let excepted = elements.extra(at).is_some_and(|extra| extra.nomatch);
            if excepted { taken_out } else { matches }.push(key.to_vec());
        }
        let mut inside = Truth::NO;
        for (matches, taken_out) in layers.into_values() {
            let rows = matches.iter().chain(&taken_out);
            let covered = rows.map(|row| row.iter().take(covering).copied().collect()).collect();
            let covered = self.of_keys(covered, keys.get(..covering).unwrap_or_default())?;
            let matched = self.of_keys(if exceptions { taken_out } else { matches }, keys)?;
            let bdd = &mut self.bdd;
            inside = inside.and(bdd, !covered)?;
            inside = inside.or(bdd, matched)?;
        }
        Ok(inside)
    }
}
