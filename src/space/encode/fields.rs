//! Fields of the header, raw bytes and routing lookups.

use crate::packet::{CtState, Family, Hook, Protocol};
use crate::ruleset::{FibField, FibResult, Field, Interval, Part, PayloadBase, Place, place_of};

use super::value::{Number, Value};
use super::{Eval, Facts, FibQuestion};
use crate::space::bdd::{Built, Set};
use crate::space::header::{Binding, Ends};
use crate::space::layout::EXTENSIONS;
use crate::space::ranges::joined;

/// Protocols whose header starts with ports.
const WITH_PORTS: [Protocol; 5] = [Protocol::TCP, Protocol::UDP, Protocol::DCCP, Protocol::SCTP, Protocol::UDPLITE];

/// Where the IPv6 header says what comes next, in bits.
const NEXT_HEADER: u32 = 48;

impl Eval<'_, '_> {
    fn v6(&self) -> bool {
        self.encoder.layout.family() != Family::Ipv4
    }

    fn of_family(&mut self, v6: bool, binding: Binding) -> Built<Value> {
        if self.v6() == v6 { self.bound(binding) } else { Ok(Value::absent()) }
    }

    /// Packets of one of these protocols; none where the protocol is not known.
    pub(super) fn of_protocols(&mut self, protocols: &[Protocol]) -> Built<Set> {
        let numbers = joined(protocols.iter().map(|protocol| Interval::single(protocol.0.into())).collect());
        Ok(self.encoder.bound_within(self.header.protocol, &numbers)?.certain)
    }

    /// What a packet of `protocol` has; others do not have it.
    fn of(&mut self, protocol: Protocol, binding: Binding) -> Built<Value> {
        let present = self.of_protocols(&[protocol])?;
        let value = self.bound(binding)?;
        value.only(&mut self.encoder.bdd, present)
    }

    /// Reads `field`.
    pub(super) fn field(&mut self, field: &Field) -> Built<Value> {
        let header = self.header;
        if let Some((_, binding)) = header.assigned.iter().find(|(assigned, _)| assigned == field) {
            return self.bound(*binding);
        }
        match field {
            Field::Ip4Saddr => self.of_family(false, header.ends.src),
            Field::Ip4Daddr => self.of_family(false, header.ends.dst),
            Field::Ip6Saddr => self.of_family(true, header.ends.src),
            Field::Ip6Daddr => self.of_family(true, header.ends.dst),
            Field::L4proto => self.bound(header.protocol),
            Field::Ip4Protocol => self.of_family(false, header.protocol),
            Field::Ip6Nexthdr if self.v6() => self.next_header(),
            Field::Ip6Nexthdr => Ok(Value::absent()),
            Field::Ip4Ttl => self.of_family(false, header.ttl),
            Field::Ip6Hoplimit => self.of_family(true, header.ttl),
            Field::Tos => self.bound(header.tos),
            Field::Dscp => Ok(bits_of(self.bound(header.tos)?, 2, 6)),
            Field::Ecn => Ok(bits_of(self.bound(header.tos)?, 0, 2)),
            Field::Length => self.bound(header.length),
            Field::Ip4Length => self.of_family(false, header.length),
            Field::Ip6Length => match header.length {
                Binding::Known(length) => self.of_family(true, Binding::Known(length.saturating_sub(40))),
                _ => self.of_family(true, Binding::Unknown),
            },
            Field::Ip4Id | Field::Ip4FragOff => self.of_family(false, Binding::Unknown),
            Field::Sport => self.port(header.ends.sport),
            Field::Dport => self.port(header.ends.dport),
            Field::TcpFlags => self.of(Protocol::TCP, header.tcp_flags),
            Field::TcpSequence | Field::TcpAckseq | Field::TcpWindow | Field::TcpDoff => {
                self.of(Protocol::TCP, Binding::Unknown)
            }
            Field::UdpLength => self.of(Protocol::UDP, Binding::Unknown),
            Field::IcmpType => self.of(Protocol::ICMP, header.icmp_type),
            Field::IcmpCode => self.of(Protocol::ICMP, header.icmp_code),
            Field::Icmp6Type => self.of(Protocol::ICMPV6, header.icmp_type),
            Field::Icmp6Code => self.of(Protocol::ICMPV6, header.icmp_code),
            // what egress hooks are told about it differs between kernels
            Field::Iifname | Field::Iif if self.site.hook == Hook::Egress => Ok(Value::unknown()),
            Field::Iifname | Field::Iif => self.bound(header.iif),
            Field::Oifname | Field::Oif => self.bound(header.oif),
            Field::Mark => self.bound(header.mark),
            other => self.meta(other),
        }
    }

    /// A port; protocols without ports have other bytes in its place, which are not known.
    fn port(&mut self, binding: Binding) -> Built<Value> {
        let told = self.of_protocols(&WITH_PORTS)?;
        let value = self.bound(binding)?;
        value.told(&mut self.encoder.bdd, told)
    }

    /// What the IPv6 header says comes next: an extension header, where there is one, else the protocol.
    fn next_header(&mut self) -> Built<Value> {
        let first = self.bound(self.header.extension)?;
        let protocol = self.bound(self.header.protocol)?;
        let Number::Cases(classes) = &first.number else { return Ok(Value::unknown()) };
        let bdd = &mut self.encoder.bdd;
        let mut bits = vec![Set::NONE; 8];
        for (set, class) in classes {
            let extension = usize::try_from(*class).ok().and_then(|class| EXTENSIONS.get(class)).copied().flatten();
            let number = match extension {
                Some(extension) => Value::constant(extension.0.into()),
                None => protocol.clone(),
            };
            for (bit, of_number) in bits.iter_mut().zip(number.to_bits(bdd, 8)?) {
                let here = bdd.and(*set, of_number)?;
                *bit = bdd.or(*bit, here)?;
            }
        }
        Ok(Value { unknown: bdd.or(first.unknown, protocol.unknown)?, ..Value::bits(bits) })
    }

    /// A part of an IPv6 extension header: there is none without such headers, and the first is there for sure.
    fn extension(&mut self, header: u8, part: Part) -> Built<Value> {
        let first = self.bound(self.header.extension)?;
        let (mut known, mut without) = (Vec::new(), Set::NONE);
        if let Number::Cases(classes) = &first.number {
            for (set, class) in classes {
                let extension = usize::try_from(*class).ok().and_then(|class| EXTENSIONS.get(class)).copied().flatten();
                match (extension, part) {
                    (None, Part::Presence) => known.push((*set, 0)),
                    (None, _) => without = *set,
                    (Some(first), Part::Presence) if first.0 == header => known.push((*set, 1)),
                    _ => {}
                }
            }
        }
        let bdd = &mut self.encoder.bdd;
        let told = bdd.union(known.iter().map(|(set, _)| *set).collect::<Vec<_>>())?;
        let told = bdd.or(told, without)?;
        Ok(Value { missing: without, unknown: !told, ..Value::cases(known) })
    }

    fn meta(&mut self, field: &Field) -> Built<Value> {
        let header = self.header;
        match field {
            Field::Other(_) if !self.v6() => Ok(Value::unknown()),
            Field::Other(_) => match place_of(field) {
                Some(Place::Extension(number, part)) => self.extension(number, part),
                _ => Ok(Value::unknown()),
            },
            Field::Nfproto => Ok(match self.site.family {
                Family::Ipv4 | Family::Ipv6 | Family::Inet if self.site.hook != Hook::Ingress => {
                    Value::constant(if self.v6() { 10 } else { 2 })
                }
                Family::Netdev => Value::constant(5),
                Family::Bridge => Value::constant(7),
                _ => Value::unknown(),
            }),
            Field::EtherType => Ok(Value::constant(if self.v6() { 0x86dd } else { 0x0800 })),
            Field::EtherSaddr | Field::EtherDaddr if self.site.hook == Hook::Output => Ok(Value::absent()),
            Field::EtherSaddr => self.link_address(header.link_source),
            Field::EtherDaddr => self.link_address(header.link_destination),
            Field::Pkttype => self.packet_type(),
            Field::Iiftype => self.of_interface(header.iif, |facts, name| facts.interface_type(name)),
            Field::Oiftype => self.of_interface(header.oif, |facts, name| facts.interface_type(name)),
            Field::Iifgroup => self.of_interface(header.iif, |facts, name| facts.interface_group(name)),
            Field::Oifgroup => self.of_interface(header.oif, |facts, name| facts.interface_group(name)),
            Field::Ibrname if header.iif == Binding::Known(0) => Ok(Value::absent()),
            Field::Obrname if header.oif == Binding::Known(0) => Ok(Value::absent()),
            Field::Skuid => self.owner(header.user),
            Field::Skgid => self.owner(header.user_group),
            other => self.conntrack(other),
        }
    }

    /// 0 host, 1 broadcast, 2 multicast: told by the packet, else by its address where that is one host's.
    fn packet_type(&mut self) -> Built<Value> {
        let header = self.header;
        if header.packet_type != Binding::Unknown {
            return self.bound(header.packet_type);
        }
        let fib = FibField { source: false, mark: false, iif: false, oif: false, result: FibResult::Type };
        let question = FibQuestion { fib, hook: self.site.hook, mark: Some(0), other: None, iif: None, oif: None };
        let to_many = |kind: &Option<u128>| matches!(kind, Some(3 | 5));
        let pieces = self.encoder.facts.fib(&question);
        let mut many: Vec<Interval> =
            pieces.iter().filter(|(_, kind)| to_many(kind)).map(|(interval, _)| *interval).collect();
        if !self.v6() {
            many.push(Interval::single(0xffff_ffff));
        }
        // as it was sent: NAT does not change what the link layer said
        let open = self.encoder.bound_within(Binding::Free(crate::space::Dimension::Destination), &joined(many))?;
        Value::constant(0).told(&mut self.encoder.bdd, !open.possible)
    }

    /// What `tell` says of each interface.
    fn of_interface(&mut self, interface: Binding, tell: fn(&dyn Facts, u128) -> Option<u128>) -> Built<Value> {
        if interface == Binding::Known(0) {
            return Ok(Value::absent());
        }
        let value = self.bound(interface)?;
        let (unknown, missing) = (value.unknown, value.missing);
        let Number::Cases(cases) = value.number else { return Ok(Value::unknown()) };
        let mut found = Value { number: Number::Cases(Vec::new()), missing, unknown };
        let mut typed = Vec::new();
        for (set, name) in cases {
            match tell(self.encoder.facts, name) {
                Some(kind) => typed.push((set, kind)),
                None => found.unknown = self.encoder.bdd.or(found.unknown, set)?,
            }
        }
        found.number = Number::Cases(typed);
        Ok(found)
    }

    /// Owner of the socket: only packets of this host have one for sure; before delivery a connection's may be known early.
    fn owner(&mut self, owner: Binding) -> Built<Value> {
        let header = self.header;
        match self.site.hook {
            Hook::Output => self.bound(owner),
            Hook::Postrouting | Hook::Egress if header.iif == Binding::Known(0) => self.bound(owner),
            Hook::Input => {
                let with_ports = self.of_protocols(&WITH_PORTS)?;
                let tcp = self.of_protocols(&[Protocol::TCP])?;
                let early =
                    if header.state == CtState::NEW { self.encoder.bdd.minus(with_ports, tcp)? } else { with_ports };
                Value::unknown().only(&mut self.encoder.bdd, early)
            }
            _ => Ok(Value::absent()),
        }
    }

    fn conntrack(&mut self, field: &Field) -> Built<Value> {
        let header = self.header;
        if *field == Field::CtState {
            return Ok(Value::constant(header.seen_state().0.into()));
        }
        let reply = if header.opens_connection() { header.ends.turned() } else { header.reply };
        let Ends { src, sport, dst, dport } = header.original;
        let six = |field: &Field| {
            use Field as F;
            matches!(field, F::CtOrigSaddr6 | F::CtOrigDaddr6 | F::CtReplySaddr6 | F::CtReplyDaddr6)
        };
        let four = |field: &Field| {
            use Field as F;
            matches!(field, F::CtOrigSaddr4 | F::CtOrigDaddr4 | F::CtReplySaddr4 | F::CtReplyDaddr4)
        };
        let binding = match field {
            Field::CtStatus => header.status.map_or(Binding::Unknown, |bits| Binding::Known(bits.into())),
            Field::CtMark => header.ct_mark,
            Field::CtZone => Binding::Known(0),
            Field::CtDirection => {
                header.direction.map_or(Binding::Unknown, |direction| Binding::Known(direction as u128))
            }
            // of an ICMP error it is the protocol of the connection the error is about
            Field::CtOrigProto if header.state == CtState::RELATED => Binding::Unknown,
            Field::CtOrigProto => header.protocol,
            Field::CtOrigSaddr4 | Field::CtOrigSaddr6 => src,
            Field::CtOrigDaddr4 | Field::CtOrigDaddr6 => dst,
            Field::CtOrigSport => sport,
            Field::CtOrigDport => dport,
            Field::CtReplySaddr4 | Field::CtReplySaddr6 => reply.src,
            Field::CtReplyDaddr4 | Field::CtReplyDaddr6 => reply.dst,
            Field::CtReplySport => reply.sport,
            Field::CtReplyDport => reply.dport,
            Field::CtExpiration | Field::CtHelper | Field::CtBytes | Field::CtPackets => Binding::Unknown,
            _ => return Ok(Value::unknown()),
        };
        if !header.is_tracked() || (if self.v6() { four(field) } else { six(field) }) {
            return Ok(Value::absent());
        }
        match field {
            Field::CtOrigSport | Field::CtOrigDport | Field::CtReplySport | Field::CtReplyDport => self.port(binding),
            _ => self.bound(binding),
        }
    }

    /// Bits of the packet by position, where they are modelled.
    pub(super) fn payload(&mut self, base: PayloadBase, offset: u32, length: u32) -> Built<Value> {
        if length == 0 || length > 128 || offset > 1024 {
            return Ok(Value::unknown());
        }
        let header = self.header;
        let parts: Vec<(u32, u32, Binding)> = match base {
            PayloadBase::Network if self.v6() => vec![
                (NEXT_HEADER, 8, header.extension),
                (56, 8, header.ttl),
                (64, 128, header.ends.src),
                (192, 128, header.ends.dst),
            ],
            PayloadBase::Network => vec![
                (8, 8, header.tos),
                (64, 8, header.ttl),
                (72, 8, header.protocol),
                (96, 32, header.ends.src),
                (128, 32, header.ends.dst),
            ],
            PayloadBase::Transport => match header.known_protocol() {
                Some(Protocol::TCP) => {
                    vec![(0, 16, header.ends.sport), (16, 16, header.ends.dport), (104, 8, header.tcp_flags)]
                }
                Some(protocol) if protocol.has_ports() => {
                    vec![(0, 16, header.ends.sport), (16, 16, header.ends.dport)]
                }
                Some(Protocol::ICMP | Protocol::ICMPV6) => {
                    vec![(0, 8, header.icmp_type), (8, 8, header.icmp_code)]
                }
                _ => return Ok(Value::unknown()),
            },
            PayloadBase::Link | PayloadBase::Inner => return Ok(Value::unknown()),
        };
        let mut bits = Vec::with_capacity(length as usize);
        for at in offset..offset.saturating_add(length) {
            let Some((start, width, binding)) =
                parts.iter().find(|(start, width, _)| (*start..start + width).contains(&at))
            else {
                return Ok(Value::unknown());
            };
            let value = match *start {
                NEXT_HEADER if self.v6() && base == PayloadBase::Network => self.next_header()?,
                _ => self.bound(*binding)?,
            };
            if !value.unknown.is_empty() || !value.missing.is_empty() {
                return Ok(Value::unknown());
            }
            let all = value.to_bits(&mut self.encoder.bdd, *width)?;
            bits.extend(all.get((at - start) as usize).copied());
        }
        Ok(Value::bits(bits))
    }

    /// A routing lookup.
    pub(super) fn fib(&mut self, fib: FibField) -> Built<Value> {
        let header = self.header;
        let (wanted, other) =
            if fib.source { (header.ends.src, header.ends.dst) } else { (header.ends.dst, header.ends.src) };
        if wanted == Binding::Unknown {
            return Ok(Value::unknown());
        }
        // an open interface is looked at class by class where the lookup depends on it
        let asks_iif = fib.iif || fib.result != FibResult::Type;
        let iifs = self.interface_cases(header.iif, asks_iif)?;
        let oifs = self.interface_cases(header.oif, fib.oif && !fib.iif)?;
        let mut found = Value::cases(Vec::new());
        let mut cases = Vec::new();
        for (of_iif, iif) in &iifs {
            for (of_oif, oif) in &oifs {
                let place = self.encoder.bdd.and(*of_iif, *of_oif)?;
                let question = FibQuestion {
                    fib,
                    hook: self.site.hook,
                    mark: if fib.mark { header.mark.known() } else { Some(0) },
                    other: other.known(),
                    iif: *iif,
                    oif: *oif,
                };
                for (answer, intervals) in by_answer(&self.encoder.facts.fib(&question)) {
                    let inside = self.encoder.bound_within(wanted, &intervals)?.certain;
                    let inside = self.encoder.bdd.and(inside, place)?;
                    match answer {
                        Some(number) => cases.push((inside, number)),
                        None => found.unknown = self.encoder.bdd.or(found.unknown, inside)?,
                    }
                }
            }
        }
        found.number = Number::Cases(cases);
        Ok(found)
    }

    /// Each possible interface with the packets that have it; just "not known" for all when it does not matter.
    fn interface_cases(&mut self, binding: Binding, matters: bool) -> Built<Vec<(Set, Option<u128>)>> {
        if !matters {
            return Ok(vec![(Set::ALL, binding.known())]);
        }
        match binding {
            Binding::Free(_) => match self.bound(binding)?.number {
                Number::Cases(cases) => Ok(cases.into_iter().map(|(set, number)| (set, Some(number))).collect()),
                Number::Bits(_) | Number::Class(..) => Ok(vec![(Set::ALL, None)]),
            },
            other => Ok(vec![(Set::ALL, other.known())]),
        }
    }
}

/// `width` bits of a number from bit `low` up.
fn bits_of(value: Value, low: u32, width: u32) -> Value {
    let most = (1u128 << width) - 1;
    value.mapped(|number| match number.by_bits() {
        Number::Cases(cases) => Number::Cases(cases.into_iter().map(|(set, n)| (set, n >> low & most)).collect()),
        Number::Class(bits, _) | Number::Bits(bits) => {
            let end = bits.len() - low as usize;
            let start = end - width as usize;
            Number::Bits(bits.get(start..end).unwrap_or_default().to_vec())
        }
    })
}

/// Pieces of the address line grouped by what was found there.
fn by_answer(pieces: &[super::Piece]) -> Vec<(Option<u128>, Vec<Interval>)> {
    let mut sorted: Vec<_> = pieces.to_vec();
    sorted.sort_by_key(|(interval, answer)| (*answer, *interval));
    let groups = sorted.chunk_by(|one, next| one.1 == next.1);
    groups
        .filter_map(|group| {
            let answer = group.first()?.1;
            Some((answer, joined(group.iter().map(|(interval, _)| *interval).collect())))
        })
        .collect()
}
