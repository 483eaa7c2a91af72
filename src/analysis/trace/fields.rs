//! What a rule reads from the packet: fields, raw bytes, routing lookups.

use super::state::{Ct, State, Value, address};
use super::{Engine, Hidden};
use crate::analysis::route::{RouteQuery, Routed, route_type};
use crate::host::{Interface, RouteKind};
use crate::packet::{CtDirection, CtState, Direction, Family, Hook, Packet, Protocol, Tuple, address_bits};
use crate::ruleset::{Backend, FibField, FibResult, Field, interface_number};

/// Where a rule is met.
#[derive(Clone, Copy, Debug)]
pub(super) struct Site {
    pub(super) hook: Hook,
    /// Index of the rule's table.
    pub(super) table: usize,
    /// Family of that table.
    pub(super) family: Family,
}

/// The packet at one place of its walk.
#[derive(Clone, Copy)]
pub(super) struct View<'e, 'w> {
    pub(super) engine: &'w Engine<'e>,
    pub(super) packet: &'w Packet,
    pub(super) state: &'w State,
    pub(super) site: Site,
}

impl View<'_, '_> {
    fn v6(&self) -> bool {
        self.packet.dst.is_ipv6()
    }

    fn only(&self, holds: bool, value: Value) -> Value {
        if holds { value } else { Value::Missing }
    }

    /// Reads `field`.
    pub(super) fn field(&self, field: &Field) -> Value {
        let flow = &self.state.flow;
        if let Some((_, value)) = flow.assigned.iter().find(|(assigned, _)| assigned == field) {
            return *value;
        }
        let (v4, v6) = (!self.v6(), self.v6());
        let protocol = self.packet.protocol;
        if let Some(value) = self.at_authentication(field) {
            return value;
        }
        match field {
            Field::Ip4Saddr => self.only(v4, flow.src),
            Field::Ip4Daddr => self.only(v4, flow.dst),
            Field::Ip6Saddr => self.only(v6, flow.src),
            Field::Ip6Daddr => self.only(v6, flow.dst),
            Field::L4proto => Value::Known(protocol.0.into()),
            Field::Ip4Protocol => self.only(v4, Value::Known(protocol.0.into())),
            Field::Ip6Nexthdr => self.only(v6, self.placed(field).unwrap_or(Value::Unknown(0))),
            Field::Ip4Ttl => self.only(v4, flow.ttl),
            Field::Ip6Hoplimit => self.only(v6, flow.ttl),
            Field::Dscp => flow.tos.map(|tos| tos >> 2),
            Field::Ecn => flow.tos.map(|tos| tos & 3),
            Field::Tos => flow.tos,
            Field::Ip4Length => self.only(v4, Value::from_option(self.packet.length)),
            Field::Ip6Length => {
                self.only(v6, Value::from_option(self.packet.length).map(|length| length.saturating_sub(40)))
            }
            Field::Ip4Id | Field::Ip4FragOff => self.only(v4, self.placed(field).unwrap_or(Value::Unknown(0))),
            Field::Sport => self.port(flow.sport),
            Field::Dport => self.port(flow.dport),
            Field::TcpFlags => self.only(protocol == Protocol::TCP, Value::Known(self.packet.tcp_flags.0.into())),
            Field::TcpSequence | Field::TcpAckseq | Field::TcpWindow | Field::TcpDoff => {
                self.only(protocol == Protocol::TCP, self.placed(field).unwrap_or(Value::Unknown(0)))
            }
            Field::UdpLength => self.only(protocol == Protocol::UDP, self.placed(field).unwrap_or(Value::Unknown(0))),
            Field::IcmpType => self.icmp(Protocol::ICMP, |icmp| icmp.0),
            Field::IcmpCode => self.icmp(Protocol::ICMP, |icmp| icmp.1),
            Field::Icmp6Type => self.icmp(Protocol::ICMPV6, |icmp| icmp.0),
            Field::Icmp6Code => self.icmp(Protocol::ICMPV6, |icmp| icmp.1),
            // what egress hooks are told about it differs between kernels
            Field::Iifname | Field::Iif if self.site.hook == Hook::Egress => Value::Unknown(0),
            Field::Iifname | Field::Iif => flow.iif,
            Field::Oifname | Field::Oif => flow.oif,
            Field::Mark => flow.mark,
            Field::Other(_) => self.placed(field).unwrap_or(Value::Unknown(0)),
            other => self.meta(other),
        }
    }

    /// What nf_tables takes for the upper-layer header where an IPv6 authentication header stands in front: that very
    /// header. x_tables looks behind it.
    fn at_authentication(&self, field: &Field) -> Option<Value> {
        if !self.stops_at_authentication() {
            return None;
        }
        let unknown_variant = self.backend() == Some(Backend::Iptables);
        match field {
            Field::L4proto if unknown_variant => Some(Value::Unknown(0)),
            Field::L4proto => Some(Value::Known(51)),
            Field::Sport | Field::Dport | Field::TcpFlags | Field::TcpSequence | Field::TcpAckseq => {
                Some(Value::Unknown(0))
            }
            Field::TcpWindow | Field::TcpDoff | Field::UdpLength | Field::Icmp6Type | Field::Icmp6Code => {
                Some(Value::Unknown(0))
            }
            _ => None,
        }
    }

    /// Whether rules of this table may see the packet end at an IPv6 authentication header.
    pub(super) fn stops_at_authentication(&self) -> bool {
        let headers = self.packet.details.extensions.as_deref().unwrap_or_default();
        self.v6()
            && headers.iter().any(|header| header.header == Protocol(51))
            && self.backend() != Some(Backend::IptablesLegacy)
    }

    fn backend(&self) -> Option<Backend> {
        self.engine.ruleset().tables.get(self.site.table).map(|table| table.backend)
    }

    /// A port; protocols without ports have other bytes in its place, which are not known.
    fn port(&self, value: Value) -> Value {
        if self.packet.protocol.has_ports() { value } else { Value::Unknown(0) }
    }

    fn icmp(&self, protocol: Protocol, part: impl Fn((u8, u8)) -> u8) -> Value {
        self.only(self.packet.protocol == protocol, Value::from_option(self.packet.icmp.map(part)))
    }

    fn meta(&self, field: &Field) -> Value {
        let flow = &self.state.flow;
        match field {
            Field::Nfproto => match self.site.family {
                Family::Ipv4 | Family::Ipv6 | Family::Inet => Value::Known(if self.v6() { 10 } else { 2 }),
                Family::Netdev => Value::Known(5),
                Family::Bridge => Value::Known(7),
                _ => Value::Unknown(0),
            },
            Field::EtherType => Value::Known(if self.v6() { 0x86dd } else { 0x0800 }),
            Field::EtherSaddr => self.mac(self.packet.details.source_mac),
            Field::EtherDaddr => self.mac(self.packet.details.destination_mac),
            Field::Length => Value::from_option(self.packet.length),
            Field::Pkttype => self.packet_type(),
            Field::Iiftype => self.interface_type(flow.iif),
            Field::Oiftype => self.interface_type(flow.oif),
            Field::Iifgroup => self.interface_group(flow.iif),
            Field::Oifgroup => self.interface_group(flow.oif),
            Field::Ibrname if flow.iif == Value::Known(0) => Value::Missing,
            Field::Obrname if flow.oif == Value::Known(0) => Value::Missing,
            Field::Skuid => self.owner(self.packet.uid),
            Field::Skgid => self.owner(self.packet.gid),
            Field::Time | Field::Day | Field::Hour => self.clock(field),
            Field::Secpath if self.packet.direction == Direction::In => {
                Value::from_option(self.packet.details.ipsec.map(u8::from))
            }
            other => self.conntrack(other),
        }
    }

    /// The time a packet is told to come at, as nftables counts it: seconds since 1970 (the start of that second), seconds of
    /// the day in UTC, days of the week (Sunday is 0) in the kernel's own time zone. What a rule compares is known when its
    /// listing tells it in UTC.
    fn clock(&self, field: &Field) -> Value {
        let clocks = self.engine.router.host().clocks;
        let Some(now) = self.packet.details.time.filter(|now| *now >= 0) else { return Value::Unknown(0) };
        let (known, number) = match field {
            Field::Time => (clocks.listed_in_utc, now),
            Field::Hour => (clocks.listed_in_utc, now % 86_400),
            // 1970-01-01 was a Thursday
            _ => (clocks.kernel_in_utc, (now / 86_400 + 4) % 7),
        };
        Value::from_option(known.then(|| u128::from(number.unsigned_abs())))
    }

    /// A hardware address: what came in by a device without one, or from this host, has none.
    fn mac(&self, mac: Option<[u8; 6]>) -> Value {
        let told = mac.map(|mac| mac.iter().fold(0, |all, byte| all << 8 | u128::from(*byte)));
        if matches!(self.site.hook, Hook::Output | Hook::Postrouting) {
            return if self.site.hook == Hook::Output { Value::Missing } else { Value::Unknown(0) };
        }
        let native = self.backend() == Some(Backend::Nft);
        match self.interface_type(self.state.flow.iif) {
            Value::Known(1) => Value::from_option(told),
            Value::Known(0xfffe) => Value::Missing,
            // xtables asks for Ethernet, nft for any link layer's header
            Value::Known(_) | Value::Missing if !native => Value::Missing,
            _ => Value::Unknown(0),
        }
    }

    /// 0 host, 1 broadcast, 2 multicast: told by the packet, else by its address.
    fn packet_type(&self) -> Value {
        let flow = &self.state.flow;
        if flow.pkttype != Value::Unknown(0) {
            return flow.pkttype;
        }
        let address = self.packet.dst;
        let multicast = address.is_multicast();
        let incoming = !matches!(self.site.hook, Hook::Output | Hook::Postrouting | Hook::Egress);
        // the link layer says it; a device without one (TUN, WireGuard) hands everything over as meant for the host
        let told = |kind| match self.interface_type(flow.iif) {
            Value::Known(1) if incoming => Value::Known(kind),
            Value::Known(0xfffe) if incoming => Value::Known(0),
            _ => Value::Unknown(0),
        };
        if multicast {
            return told(2);
        }
        match self.engine.router.address_type(address, None) {
            Some(RouteKind::Broadcast) => told(1),
            _ if address.is_ipv4() && address_bits(address) == 0xffff_ffff => Value::Unknown(0),
            _ => Value::Known(0),
        }
    }

    /// `ARPHRD_*` of an interface.
    pub(super) fn interface_type(&self, interface: Value) -> Value {
        self.of_interface(interface, |number, found| match found.map(|interface| &*interface.link_type) {
            Some("ether") => Value::Known(1),
            Some("loopback") => Value::Known(772),
            Some("none") => Value::Known(0xfffe),
            _ if number == interface_number(b"lo") => Value::Known(772),
            _ => Value::Unknown(0),
        })
    }

    /// An interface's group, which `ip link` tells.
    fn interface_group(&self, interface: Value) -> Value {
        self.of_interface(interface, |_, found| Value::from_option(found.and_then(|interface| interface.group)))
    }

    /// What `tell` makes of an interface by its number, and of what the host says of it.
    fn of_interface(&self, interface: Value, tell: impl FnOnce(u128, Option<&Interface>) -> Value) -> Value {
        match interface {
            Value::Known(0) | Value::Missing => Value::Missing,
            Value::Unknown(id) => Value::Unknown(id),
            Value::Known(number) => {
                let all = self.engine.router.host().interfaces.as_deref().unwrap_or_default();
                tell(number, all.iter().find(|interface| interface_number(interface.name.as_bytes()) == number))
            }
        }
    }

    /// Owner of the socket: only packets of this host have one for sure; before delivery a connection's may be known early.
    pub(super) fn owner(&self, id: Option<u32>) -> Value {
        match self.site.hook {
            Hook::Output => Value::from_option(id),
            Hook::Postrouting | Hook::Egress if self.state.flow.iif == Value::Known(0) => Value::from_option(id),
            Hook::Input if !self.new_tcp_or_portless() => Value::Unknown(0),
            _ => Value::Missing,
        }
    }

    fn new_tcp_or_portless(&self) -> bool {
        let protocol = self.packet.protocol;
        !protocol.has_ports() || (protocol == Protocol::TCP && self.packet.state == CtState::NEW)
    }

    /// Conntrack state as a bit.
    pub(super) fn ct_state(&self) -> CtState {
        match self.state.flow.ct {
            Ct::Before | Ct::Invalid => CtState::INVALID,
            Ct::Untracked => CtState::UNTRACKED,
            Ct::Tracked => self.packet.state,
        }
    }

    fn conntrack(&self, field: &Field) -> Value {
        let flow = &self.state.flow;
        if *field == Field::CtState {
            return Value::Known(self.ct_state().0.into());
        }
        let tracked = flow.ct == Ct::Tracked;
        let view = &self.packet.ct;
        let new = self.packet.opens_connection();
        let value = match field {
            Field::CtStatus => flow.status,
            Field::CtMark => flow.ct_mark,
            // one that rules have chosen is among the assigned fields
            Field::CtZone => Value::Known(0),
            Field::CtDirection => {
                let direction = view.direction.or(new.then_some(CtDirection::Original));
                Value::from_option(direction.map(|direction| u8::from(direction == CtDirection::Reply)))
            }
            // of an ICMP error it is the protocol of the connection the error is about
            Field::CtOrigProto if self.packet.state == CtState::RELATED && self.is_icmp() => Value::Unknown(0),
            Field::CtOrigProto => Value::Known(self.packet.protocol.0.into()),
            Field::CtOrigSaddr4 | Field::CtOrigSaddr6 => self.original(|tuple| Some(address_bits(tuple.src))),
            Field::CtOrigDaddr4 | Field::CtOrigDaddr6 => self.original(|tuple| Some(address_bits(tuple.dst))),
            Field::CtOrigSport => self.original(|tuple| tuple.sport.map(u128::from)),
            Field::CtOrigDport => self.original(|tuple| tuple.dport.map(u128::from)),
            // the answer goes back to where the packet seems to come from now
            Field::CtReplySaddr4 | Field::CtReplySaddr6 if new => flow.dst,
            Field::CtReplyDaddr4 | Field::CtReplyDaddr6 if new => flow.src,
            Field::CtReplySport if new => self.port(flow.dport),
            Field::CtReplyDport if new => self.port(flow.sport),
            Field::CtReplySaddr4 | Field::CtReplySaddr6 => reply(view.reply, |tuple| Some(address_bits(tuple.src))),
            Field::CtReplyDaddr4 | Field::CtReplyDaddr6 => reply(view.reply, |tuple| Some(address_bits(tuple.dst))),
            Field::CtReplySport => reply(view.reply, |tuple| tuple.sport.map(u128::from)),
            Field::CtReplyDport => reply(view.reply, |tuple| tuple.dport.map(u128::from)),
            Field::CtExpiration | Field::CtHelper | Field::CtBytes | Field::CtPackets => Value::Unknown(0),
            _ => return Value::Unknown(0),
        };
        let four =
            matches!(field, Field::CtOrigSaddr4 | Field::CtOrigDaddr4 | Field::CtReplySaddr4 | Field::CtReplyDaddr4);
        let six =
            matches!(field, Field::CtOrigSaddr6 | Field::CtOrigDaddr6 | Field::CtReplySaddr6 | Field::CtReplyDaddr6);
        let other_family = if self.v6() { four } else { six };
        self.only(tracked && !other_family, value)
    }

    fn is_icmp(&self) -> bool {
        matches!(self.packet.protocol, Protocol::ICMP | Protocol::ICMPV6)
    }

    fn original(&self, part: impl Fn(Tuple) -> Option<u128>) -> Value {
        let packet = self.packet;
        let own = Tuple { src: packet.src, sport: packet.sport, dst: packet.dst, dport: packet.dport };
        let known = self.state.hidden == Hidden::default() && packet.opens_connection();
        Value::from_option(packet.ct.original.or(known.then_some(own)).and_then(part))
    }

    /// A FIB lookup.
    pub(super) fn fib(&self, fib: FibField) -> Value {
        let flow = &self.state.flow;
        let (wanted, other) = if fib.source { (flow.src, flow.dst) } else { (flow.dst, flow.src) };
        let Some(wanted) = wanted.known().map(|bits| address(bits, self.v6())) else { return Value::Unknown(0) };
        let device = match (fib.iif, fib.oif) {
            (true, _) => Some(flow.iif),
            (_, true) => Some(flow.oif),
            _ => None,
        };
        let device = match device {
            Some(Value::Known(0)) | None => None,
            Some(Value::Known(number)) => Some(number),
            Some(_) => return Value::Unknown(0),
        };
        if fib.result == FibResult::Type {
            let kind = self.engine.router.address_type(wanted, device);
            return Value::from_option(kind.and_then(route_type));
        }
        // on loopback the answer is the interface itself; at input older kernels look the route up all the same
        if flow.iif == Value::Known(interface_number(b"lo")) {
            match self.site.hook {
                Hook::Prerouting if fib.result == FibResult::Present => return Value::Known(1),
                Hook::Prerouting => return flow.iif,
                Hook::Input => return Value::Unknown(0),
                _ => {}
            }
        }
        let query = RouteQuery {
            source: other.known().map(|bits| address(bits, self.v6())),
            mark: if fib.mark { flow.mark.known().and_then(|mark| u32::try_from(mark).ok()) } else { Some(0) },
            tos: flow.tos.known().and_then(|tos| u8::try_from(tos).ok()),
            uid: Some(0),
            ..RouteQuery::from_here(wanted)
        };
        let routed = self.engine.router.lookup(&query);
        let found = match routed {
            Routed::Route { kind: RouteKind::Unicast, .. } => match routed.device_number() {
                Some(found) => device.is_none_or(|device| device == found).then_some(found),
                None => return Value::Unknown(0),
            },
            // a local address answers nothing in IPv4; in IPv6 it depends on the kernel
            Routed::Route { .. } if self.v6() => return Value::Unknown(0),
            Routed::Unknown => return Value::Unknown(0),
            _ => None,
        };
        match fib.result {
            FibResult::Present => Value::Known(found.is_some().into()),
            _ => Value::Known(found.unwrap_or(0)),
        }
    }
}

fn reply(tuple: Option<Tuple>, part: impl Fn(Tuple) -> Option<u128>) -> Value {
    Value::from_option(tuple.and_then(part))
}
