//! The packet's bytes, as far as they are known: those it came with, and over them what its fields and the rules say.

use super::fields::View;
use super::state::Value;
use super::xtables::dccp_options_start;
use crate::packet::{ExtensionHeader, Protocol};
use crate::ruleset::{Field, Part, PayloadBase, Place, place_of};

type Byte = Option<u8>;

impl View<'_, '_> {
    /// The bits of a field with a fixed place. `None` when it has none, or nobody knows them.
    pub(super) fn placed(&self, field: &Field) -> Option<Value> {
        let value = match place_of(field)? {
            Place::Header(base, offset, length) => self.payload(base, offset, length),
            Place::Extension(header, part) => self.extension(header, part),
            Place::TcpOption(kind, part) => self.tcp_option(kind, part),
            Place::SctpChunk(kind, part) => self.sctp_chunk(kind, part),
            Place::DccpOption(kind) => self.dccp_option_there(kind),
        };
        (value != Value::Unknown(0)).then_some(value)
    }

    /// Bits of the packet by position, when all of them are known.
    pub(super) fn payload(&self, base: PayloadBase, offset: u32, length: u32) -> Value {
        match base {
            PayloadBase::Network => bits(&self.network(), offset, length),
            PayloadBase::Transport if self.stops_at_authentication() => Value::Unknown(0),
            PayloadBase::Transport => bits(&self.transport(), offset, length),
            PayloadBase::Link => self.link_layer(offset, length),
            PayloadBase::Inner if self.stops_at_authentication() => Value::Unknown(0),
            PayloadBase::Inner => match (self.packet.protocol, self.inner_start()) {
                (_, Some(start)) => bits(&self.transport(), offset.saturating_add(8 * start), length),
                (Protocol::TCP | Protocol::UDP, None) => Value::Unknown(0),
                // newer kernels look into tunnels, too
                (Protocol(4 | 47), None) => Value::Unknown(0),
                _ => Value::Missing,
            },
        }
    }

    /// The packet from its network header on.
    fn network(&self) -> Vec<Byte> {
        let flow = &self.state.flow;
        let v6 = self.packet.dst.is_ipv6();
        let width = if v6 { 16 } else { 4 };
        let addresses = if v6 { 8 } else { 12 };
        let mut bytes: Vec<Byte> = vec![None; addresses + 2 * width];
        let byte = |value: Value| value.known().and_then(|value| u8::try_from(value).ok());
        if v6 {
            put(&mut bytes, 0, byte(flow.tos).map(|tos| 0x60 | tos >> 4));
            put(&mut bytes, 7, byte(flow.ttl));
        } else {
            put(&mut bytes, 1, byte(flow.tos));
            put(&mut bytes, 8, byte(flow.ttl));
            put(&mut bytes, 9, Some(self.packet.protocol.0));
        }
        if v6 {
            let first =
                |headers: &[ExtensionHeader]| headers.first().map_or(self.packet.protocol, |first| first.header);
            put(&mut bytes, 6, self.packet.details.extensions.as_deref().map(first).map(|first| first.0));
        }
        for (place, address) in [(addresses, flow.src), (addresses + width, flow.dst)] {
            let address = address.known().map(u128::to_be_bytes);
            for at in 0..width {
                put(&mut bytes, place + at, address.and_then(|address| address.get(16 - width + at).copied()));
            }
        }
        bytes
    }

    /// The packet from its transport header on.
    fn transport(&self) -> Vec<Byte> {
        let known = self.told_transport().unwrap_or_default();
        let mut bytes: Vec<Byte> = known.iter().copied().map(Some).collect();
        bytes.resize(bytes.len().max(20), None);
        let flow = &self.state.flow;
        let protocol = self.packet.protocol;
        if protocol.has_ports() {
            for (at, port) in [(0, flow.sport), (2, flow.dport)] {
                let port = port.known().map(u128::to_be_bytes);
                put(&mut bytes, at, port.map(|port| port[14]));
                put(&mut bytes, at + 1, port.map(|port| port[15]));
            }
        }
        if protocol == Protocol::TCP {
            put(&mut bytes, 13, Some(self.packet.tcp_flags.0));
        }
        if let (Protocol::ICMP | Protocol::ICMPV6, Some((kind, code))) = (protocol, self.packet.icmp) {
            put(&mut bytes, 0, Some(kind));
            put(&mut bytes, 1, Some(code));
        }
        let checksum = match protocol {
            Protocol::TCP => 16,
            Protocol::UDP | Protocol::UDPLITE => 6,
            Protocol::ICMP | Protocol::ICMPV6 => 2,
            _ => return bytes,
        };
        put(&mut bytes, checksum, None);
        put(&mut bytes, checksum + 1, None);
        bytes
    }

    /// Bits of an Ethernet header; without a link layer there are none.
    fn link_layer(&self, offset: u32, length: u32) -> Value {
        let [receiver, sender, kind] = [Field::EtherDaddr, Field::EtherSaddr, Field::EtherType].map(|f| self.field(&f));
        if receiver == Value::Missing || sender == Value::Missing {
            return Value::Missing;
        }
        let mut bytes: Vec<Byte> = Vec::with_capacity(14);
        for (part, width) in [(receiver, 6), (sender, 6), (kind, 2)] {
            let part = part.known().map(u128::to_be_bytes);
            bytes.extend((16 - width..16).map(|at| part.map(|part| part[at])));
        }
        bits(&bytes, offset, length)
    }

    /// Where nft sees the inner header begin, in bytes behind the transport header's start.
    fn inner_start(&self) -> Option<u32> {
        match self.packet.protocol {
            Protocol::UDP => Some(8),
            Protocol::TCP => {
                let told = self.told_transport()?.get(12)?;
                Some(u32::from(told >> 4) * 4)
            }
            _ => None,
        }
    }

    /// What of an IPv6 extension header is asked.
    fn extension(&self, header: u8, part: Part) -> Value {
        let absent = absent(part);
        if !self.packet.dst.is_ipv6() {
            return absent;
        }
        let Some(headers) = self.packet.details.extensions.as_deref() else { return Value::Unknown(0) };
        let found = match headers.iter().position(|found| found.header.0 == header) {
            // the kernel reads on behind the header's end
            Some(place) => {
                let headers = headers.iter().skip(place).flat_map(|header| header.bytes.iter().copied().map(Some));
                headers.chain(self.transport()).collect()
            }
            // what carries nothing else is the upper-layer header (mobility)
            None if self.packet.protocol.0 == header => self.transport(),
            None => return absent,
        };
        match part {
            Part::Presence => Value::Known(1),
            Part::Bits(offset, length) => bits(&found, offset, length),
            Part::Inside => Value::Unknown(0),
        }
    }

    /// What of a TCP option is asked; the kernel looks through the header option by option.
    fn tcp_option(&self, kind: u8, part: Part) -> Value {
        let absent = absent(part);
        if self.packet.protocol != Protocol::TCP {
            return absent;
        }
        let Some(header) = self.told_transport() else { return Value::Unknown(0) };
        let length = usize::from(header.get(12).copied().unwrap_or(0) >> 4) * 4;
        let Some(header) = header.get(..length).filter(|header| header.len() >= 20) else { return absent };
        let mut at = 20;
        while at + 1 < length {
            let (Some(&found), Some(&told)) = (header.get(at), header.get(at + 1)) else { return absent };
            let long = if found <= 1 || told == 0 { 1 } else { usize::from(told) };
            if found == kind {
                let Some(option) = header.get(at..at + long) else { return absent };
                let option: Vec<Byte> = option.iter().copied().map(Some).collect();
                return match part {
                    Part::Presence => Value::Known(1),
                    Part::Bits(offset, length) if offset as usize + length as usize <= option.len() * 8 => {
                        bits(&option, offset, length)
                    }
                    Part::Bits(..) => Value::Missing,
                    Part::Inside => Value::Unknown(0),
                };
            }
            at += long;
        }
        absent
    }

    /// What of an SCTP chunk is asked; the kernel looks at the first of its type alone.
    fn sctp_chunk(&self, kind: u8, part: Part) -> Value {
        let absent = absent(part);
        if self.packet.protocol != Protocol::SCTP {
            return absent;
        }
        let Some(packet) = self.told_transport() else { return Value::Unknown(0) };
        let mut at = 12;
        while let Some([found, _, high, low]) = packet.get(at..at + 4) {
            let long = usize::from(u16::from_be_bytes([*high, *low]));
            if long == 0 {
                return absent;
            }
            if *found == kind {
                let chunk: Vec<Byte> = packet.iter().skip(at).take(long).copied().map(Some).collect();
                return match part {
                    Part::Presence => Value::Known(1),
                    Part::Bits(offset, length) if chunk.len() == long && (offset + length) as usize <= long * 8 => {
                        bits(&chunk, offset, length)
                    }
                    Part::Bits(..) | Part::Inside => Value::Missing,
                };
            }
            at += long.next_multiple_of(4);
        }
        absent
    }

    /// Whether a DCCP option is there, as nft looks for it: types below 32 are one byte long (RFC 4340 §5.8).
    fn dccp_option_there(&self, kind: u8) -> Value {
        if self.packet.protocol != Protocol::DCCP {
            return Value::Known(0);
        }
        let Some(packet) = self.told_transport() else { return Value::Unknown(0) };
        let (Some(start), Some(words)) = (dccp_options_start(packet), packet.get(4)) else { return Value::Unknown(0) };
        let mut at = start;
        while at < usize::from(*words) * 4 {
            let Some(found) = packet.get(at) else { return Value::Unknown(0) };
            at += match (found, packet.get(at + 1)) {
                (found, _) if *found == kind => return Value::Known(1),
                (0..32, _) => 1,
                (_, Some(length @ 2..)) => usize::from(*length),
                _ => break,
            };
        }
        Value::Known(0)
    }
}

fn absent(part: Part) -> Value {
    if part == Part::Presence { Value::Known(0) } else { Value::Missing }
}

fn bits(bytes: &[Byte], offset: u32, length: u32) -> Value {
    if length == 0 || length > 128 {
        return Value::Unknown(0);
    }
    let mut value = 0u128;
    for bit in offset..offset.saturating_add(length) {
        let byte = usize::try_from(bit / 8).ok().and_then(|at| bytes.get(at)).copied().flatten();
        let Some(byte) = byte else { return Value::Unknown(0) };
        value = value << 1 | u128::from(byte >> (7 - bit % 8) & 1);
    }
    Value::Known(value)
}

fn put(bytes: &mut [Byte], at: usize, byte: Byte) {
    if let Some(slot) = bytes.get_mut(at) {
        *slot = byte;
    }
}
