//! Packets as people write them: the words of `hepguard trace` and the JSON lines of `--batch`.
//!
//! ```text
//! in tcp 203.0.113.7:51522 10.0.1.10:22 -i ens5
//! {"dir":"in","proto":"tcp","src":"203.0.113.7","sport":51522,"dst":"10.0.1.10","dport":22,"iif":"ens5"}
//! ```
//! Both become a [`PacketSpec`], the parts as given, and that becomes a [`Packet`] with the defaults: state new, TCP flags
//! SYN (ACK on a connection that exists), an echo request for a new ICMP packet.

mod details;

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde_json::{Map, Value, json};

use super::{
    ConntrackView, CtDirection, CtState, CtStatus, Details, Direction, Hook, MAX_INTERFACE_NAME, Packet, PacketType,
    Protocol, TcpFlags,
};

/// Why a text is no packet: which part, what was expected.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PacketError(String);

impl fmt::Display for PacketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PacketError {}

fn wrong<T>(what: &str, expected: &str, found: &str) -> Result<T, PacketError> {
    Err(PacketError(format!("{what}: expected {expected}, found {found:?}")))
}

/// A packet's parts as given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PacketSpec {
    /// Which way it goes.
    pub direction: Direction,
    /// Protocol.
    pub protocol: Protocol,
    /// Source.
    pub src: IpAddr,
    /// Source port.
    pub sport: Option<u16>,
    /// Destination.
    pub dst: IpAddr,
    /// Destination port.
    pub dport: Option<u16>,
    /// Incoming interface.
    pub iif: Option<String>,
    /// Outgoing interface.
    pub oif: Option<String>,
    /// Conntrack state.
    pub state: Option<CtState>,
    /// Connection details.
    pub ct: ConntrackView,
    /// Packet mark.
    pub mark: u32,
    /// TCP flags.
    pub flags: Option<TcpFlags>,
    /// ICMP type and code.
    pub icmp: Option<(u8, u8)>,
    /// Owner of the socket.
    pub uid: Option<u32>,
    /// Its group.
    pub gid: Option<u32>,
    /// TTL or hop limit.
    pub ttl: Option<u8>,
    /// TOS or traffic class.
    pub tos: Option<u8>,
    /// IP length.
    pub length: Option<u16>,
    /// Link-layer type.
    pub packet_type: Option<PacketType>,
    /// Whatever else is known.
    pub details: Details,
}

/// A packet, and the one hook it is asked for, if so.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AskedPacket {
    /// The packet.
    pub packet: Packet,
    /// Only this hook.
    pub at: Option<Hook>,
}

impl PacketSpec {
    /// A packet of which only direction, protocol and endpoints (`address` or `address:port`) are known.
    ///
    /// # Errors
    /// When a part cannot be read; the message names it and says what was expected.
    pub fn new(direction: &str, protocol: &str, src: &str, dst: &str) -> Result<Self, PacketError> {
        let ((src, sport), (dst, dport)) = (endpoint("source", src)?, endpoint("destination", dst)?);
        Ok(Self {
            direction: read_direction(direction)?,
            protocol: protocol.parse().map_err(|error| PacketError(format!("protocol: {error}")))?,
            src,
            sport,
            dst,
            dport,
            iif: None,
            oif: None,
            state: None,
            ct: ConntrackView::default(),
            mark: 0,
            flags: None,
            icmp: None,
            uid: None,
            gid: None,
            ttl: None,
            tos: None,
            length: None,
            packet_type: None,
            details: Details::ordinary(),
        })
    }

    /// Takes out the interfaces that are not the packet's own but its answers': where they come in, where they leave.
    #[must_use]
    pub fn take_answers_ways(&mut self) -> (Option<String>, Option<String>) {
        match self.direction {
            Direction::In => (None, self.oif.take()),
            Direction::Out => (self.iif.take(), None),
            Direction::Forward => (None, None),
        }
    }

    /// The packet, with defaults filled in.
    ///
    /// # Errors
    /// When parts contradict each other, such as a port for ICMP.
    pub fn build(mut self) -> Result<Packet, PacketError> {
        if self.src.is_ipv4() != self.dst.is_ipv4() {
            return Err(PacketError("source and destination are of different families".to_owned()));
        }
        let v6 = self.dst.is_ipv6();
        let protocol = match (self.protocol, v6) {
            (Protocol::ICMP, true) => Protocol::ICMPV6,
            (protocol, _) => protocol,
        };
        if !protocol.has_ports() && (self.sport.is_some() || self.dport.is_some()) {
            return Err(PacketError(format!("protocol {protocol} has no ports")));
        }
        if self.flags.is_some() && protocol != Protocol::TCP {
            return Err(PacketError("flags are TCP's".to_owned()));
        }
        let icmp = matches!(protocol, Protocol::ICMP | Protocol::ICMPV6);
        if self.icmp.is_some() && !icmp {
            return Err(PacketError("an ICMP type is ICMP's".to_owned()));
        }
        match self.direction {
            Direction::In if self.oif.is_some() => {
                return Err(PacketError("a packet to this host has no outgoing interface".to_owned()));
            }
            Direction::Out if self.iif.is_some() => {
                return Err(PacketError("a packet of this host has no incoming interface".to_owned()));
            }
            Direction::In | Direction::Forward if self.uid.is_some() || self.gid.is_some() => {
                return Err(PacketError("only packets of this host have an owner".to_owned()));
            }
            _ => {}
        }
        let state = self.state.unwrap_or(CtState::NEW);
        let continues = matches!(state, CtState::ESTABLISHED | CtState::RELATED);
        details::check(&self.details, self.direction, protocol, v6)?;
        details::read_transport(&mut self, protocol)?;
        let echo = (if v6 { 128 } else { 8 }, 0);
        Ok(Packet {
            direction: self.direction,
            src: self.src,
            dst: self.dst,
            protocol,
            sport: self.sport,
            dport: self.dport,
            tcp_flags: self.flags.unwrap_or(if continues { TcpFlags::ACK } else { TcpFlags::SYN }),
            icmp: self.icmp.or((icmp && state == CtState::NEW).then_some(echo)),
            iif: self.iif.map(String::into_boxed_str),
            oif: self.oif.map(String::into_boxed_str),
            state,
            ct: self.ct,
            mark: self.mark,
            uid: self.uid,
            gid: self.gid,
            ttl: self.ttl,
            tos: self.tos,
            length: self.length,
            packet_type: self.packet_type,
            details: self.details,
        })
    }
}

/// `address`, `address:port`, `[address]:port`.
fn endpoint(what: &str, text: &str) -> Result<(IpAddr, Option<u16>), PacketError> {
    let expected = "an address such as 10.0.1.10, 10.0.1.10:22, 2001:db8::1 or [2001:db8::1]:22";
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok((address, None));
    }
    let (address, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, "")) => (address, None),
        Some((address, rest)) => (address, rest.strip_prefix(':').or(Some(""))),
        None => match text.split_once(':') {
            Some((address, port)) => (address, Some(port)),
            None => (text, None),
        },
    };
    let Ok(address) = address.parse::<IpAddr>() else { return wrong(what, expected, text) };
    match port.map(str::parse::<u16>) {
        None => Ok((address, None)),
        Some(Ok(port)) => Ok((address, Some(port))),
        Some(Err(_)) => wrong(what, "a port of 0 to 65535 after the colon", text),
    }
}

/// `in`, `out`, `forward`.
fn read_direction(text: &str) -> Result<Direction, PacketError> {
    match text {
        "in" => Ok(Direction::In),
        "out" => Ok(Direction::Out),
        "forward" => Ok(Direction::Forward),
        other => wrong("direction", "in, out or forward", other),
    }
}

/// A conntrack state by name.
///
/// # Errors
/// Names the states there are.
pub fn read_state(text: &str) -> Result<CtState, PacketError> {
    match CtState::from_name(text) {
        Some(state) => Ok(state),
        None => wrong("state", "new, established, related, invalid or untracked", text),
    }
}

/// A mark, decimal or with `0x`.
///
/// # Errors
/// Says what a mark looks like.
pub fn read_mark(text: &str) -> Result<u32, PacketError> {
    let number = match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    };
    number.map_or_else(|| wrong("mark", "a number of 32 bits such as 0x10000", text), Ok)
}

/// An ICMP type, or type and code: `8`, `3/4`.
///
/// # Errors
/// Says what a type looks like.
pub fn read_icmp(text: &str) -> Result<(u8, u8), PacketError> {
    let (kind, code) = text.split_once('/').unwrap_or((text, "0"));
    match (kind.parse(), code.parse()) {
        (Ok(kind), Ok(code)) => Ok((kind, code)),
        _ => wrong("icmp-type", "a number of 0 to 255, or type/code", text),
    }
}

/// TCP flags by name: `syn,ack`.
///
/// # Errors
/// Names the flags there are.
pub fn read_flags(text: &str) -> Result<TcpFlags, PacketError> {
    TcpFlags::from_str(text).map_err(|error| PacketError(format!("flags: {error}")))
}

/// An interface name as the kernel takes it.
///
/// # Errors
/// Says what a name looks like.
pub fn read_interface(text: &str) -> Result<String, PacketError> {
    let fits = !text.is_empty() && text.len() <= MAX_INTERFACE_NAME && text != "." && text != "..";
    if fits && !text.contains(|c: char| c == '/' || c == ':' || c.is_whitespace()) {
        return Ok(text.to_owned());
    }
    wrong("interface", "a name of 1 to 15 bytes without blanks, slashes and colons", text)
}

/// A hook of the IP stack by name.
///
/// # Errors
/// Names the hooks there are.
pub fn read_hook(text: &str) -> Result<Hook, PacketError> {
    match Hook::from_name(text).filter(|hook| !matches!(hook, Hook::Ingress | Hook::Egress)) {
        Some(hook) => Ok(hook),
        None => wrong("at", "prerouting, input, forward, output or postrouting", text),
    }
}

/// Fields of a batch line.
const FIELDS: [&str; 32] = [
    "dir",
    "proto",
    "src",
    "sport",
    "dst",
    "dport",
    "iif",
    "oif",
    "state",
    "mark",
    "flags",
    "icmp_type",
    "icmp_code",
    "uid",
    "gid",
    "ttl",
    "tos",
    "length",
    "pkttype",
    "ct_mark",
    "ct_status",
    "ct_direction",
    "at",
    "mac_src",
    "mac_dst",
    "ext_headers",
    "transport",
    "groups",
    "cgroup",
    "classid",
    "time",
    "ipsec",
];

/// Names of link-layer packet types.
const PACKET_TYPES: [(PacketType, &str); 4] = [
    (PacketType::Host, "host"),
    (PacketType::Broadcast, "broadcast"),
    (PacketType::Multicast, "multicast"),
    (PacketType::OtherHost, "otherhost"),
];

/// One line of a batch.
///
/// # Errors
/// When it is no JSON object, a field is not known, missing or has a value that cannot be read.
pub fn from_json(line: &[u8]) -> Result<AskedPacket, PacketError> {
    let (spec, at) = spec_from_json(line)?;
    Ok(AskedPacket { packet: spec.build()?, at })
}

/// One line of a batch, its parts as given.
///
/// # Errors
/// As [`from_json`], except for parts that contradict each other.
pub fn spec_from_json(line: &[u8]) -> Result<(PacketSpec, Option<Hook>), PacketError> {
    let value: Value = serde_json::from_slice(line).map_err(|error| PacketError(format!("not JSON: {error}")))?;
    let Value::Object(map) = value else {
        return Err(PacketError("expected a JSON object such as {\"dir\":\"in\",…}".to_owned()));
    };
    let fields = Fields(&map);
    if let Some(name) = map.keys().find(|name| !FIELDS.contains(&name.as_str())) {
        return Err(PacketError(format!("unknown field {name:?}; known are {}", FIELDS.join(", "))));
    }
    let (src, dst) = (fields.need("src")?, fields.need("dst")?);
    let mut spec = PacketSpec::new(fields.need("dir")?, &fields.protocol()?, src, dst)?;
    if spec.sport.is_some() || spec.dport.is_some() {
        return Err(PacketError("src and dst are addresses; ports go into sport and dport".to_owned()));
    }
    spec.sport = fields.number("sport")?;
    spec.dport = fields.number("dport")?;
    spec.iif = fields.text("iif")?.map(read_interface).transpose()?;
    spec.oif = fields.text("oif")?.map(read_interface).transpose()?;
    spec.state = fields.text("state")?.map(read_state).transpose()?;
    spec.mark = fields.mark("mark")?.unwrap_or(0);
    spec.flags = fields.flags()?;
    spec.icmp = match (fields.number("icmp_type")?, fields.number("icmp_code")?) {
        (Some(kind), code) => Some((kind, code.unwrap_or(0))),
        (None, Some(_)) => return Err(PacketError("icmp_code needs icmp_type".to_owned())),
        (None, None) => None,
    };
    spec.uid = fields.number("uid")?;
    spec.gid = fields.number("gid")?;
    spec.ttl = fields.number("ttl")?;
    spec.tos = fields.number("tos")?;
    spec.length = fields.number("length")?;
    spec.packet_type = fields.one_of("pkttype", &PACKET_TYPES)?;
    spec.ct.mark = fields.mark("ct_mark")?;
    spec.ct.status = fields.text("ct_status")?.map(read_status).transpose()?;
    spec.ct.direction =
        fields.one_of("ct_direction", &[(CtDirection::Original, "original"), (CtDirection::Reply, "reply")])?;
    details::from_fields(&fields, &mut spec.details)?;
    let at = fields.text("at")?.map(read_hook).transpose()?;
    Ok((spec, at))
}

fn read_status(text: &str) -> Result<CtStatus, PacketError> {
    let mut status = CtStatus(0);
    for name in text.split(',').filter(|name| !name.is_empty()) {
        match CtStatus::from_name(name) {
            Some(bit) => status.0 |= bit.0,
            None => return wrong("ct_status", "names such as confirmed,seen-reply,assured,dnat", text),
        }
    }
    Ok(status)
}

struct Fields<'j>(&'j Map<String, Value>);

impl<'j> Fields<'j> {
    fn get(&self, name: &str) -> Option<&'j Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn text(&self, name: &str) -> Result<Option<&'j str>, PacketError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => wrong(name, "a text", &other.to_string()),
        }
    }

    fn need(&self, name: &str) -> Result<&'j str, PacketError> {
        self.text(name)?.ok_or_else(|| PacketError(format!("{name} is missing")))
    }

    fn protocol(&self) -> Result<String, PacketError> {
        match self.get("proto") {
            Some(Value::Number(number)) => Ok(number.to_string()),
            _ => self.need("proto").map(str::to_owned),
        }
    }

    fn number<N: TryFrom<u64>>(&self, name: &str) -> Result<Option<N>, PacketError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match value.as_u64().and_then(|number| N::try_from(number).ok()) {
            Some(number) => Ok(Some(number)),
            None => {
                let bits = 8 * size_of::<N>();
                wrong(name, &format!("a number of {bits} bits"), &value.to_string())
            }
        }
    }

    fn mark(&self, name: &str) -> Result<Option<u32>, PacketError> {
        match self.get(name) {
            Some(Value::String(text)) => read_mark(text).map(Some),
            _ => self.number(name),
        }
    }

    fn flags(&self) -> Result<Option<TcpFlags>, PacketError> {
        match self.get("flags") {
            Some(Value::Array(names)) => {
                let names: Option<Vec<&str>> = names.iter().map(Value::as_str).collect();
                let Some(names) = names else { return wrong("flags", "names of flags", "something else") };
                read_flags(&names.join(",")).map(Some)
            }
            Some(Value::Number(_)) => Ok(self.number("flags")?.map(TcpFlags)),
            _ => self.text("flags")?.map(read_flags).transpose(),
        }
    }

    fn one_of<T: Copy>(&self, name: &str, known: &[(T, &str)]) -> Result<Option<T>, PacketError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        match known.iter().find(|(_, word)| *word == text) {
            Some((value, _)) => Ok(Some(*value)),
            None => {
                let words: Vec<&str> = known.iter().map(|(_, word)| *word).collect();
                wrong(name, &words.join(", "), text)
            }
        }
    }
}

/// A packet as a batch line. Known connection addresses have no field and are left out.
#[must_use]
pub fn to_json(packet: &Packet) -> Value {
    let mut map = Map::new();
    let mut put = |name: &str, value: Value| {
        if !value.is_null() {
            map.insert(name.to_owned(), value);
        }
    };
    let direction = match packet.direction {
        Direction::In => "in",
        Direction::Out => "out",
        Direction::Forward => "forward",
    };
    put("dir", json!(direction));
    put("proto", json!(packet.protocol.to_string()));
    put("src", json!(packet.src));
    put("sport", json!(packet.sport));
    put("dst", json!(packet.dst));
    put("dport", json!(packet.dport));
    put("iif", json!(packet.iif));
    put("oif", json!(packet.oif));
    put("state", json!(packet.state.to_string()));
    put("mark", json!(packet.mark));
    if packet.protocol == Protocol::TCP {
        put("flags", json!(packet.tcp_flags.to_string()));
    }
    put("icmp_type", json!(packet.icmp.map(|icmp| icmp.0)));
    put("icmp_code", json!(packet.icmp.map(|icmp| icmp.1)));
    put("uid", json!(packet.uid));
    put("gid", json!(packet.gid));
    put("ttl", json!(packet.ttl));
    put("tos", json!(packet.tos));
    put("length", json!(packet.length));
    let name = packet.packet_type.and_then(|kind| PACKET_TYPES.iter().find(|(known, _)| *known == kind));
    put("pkttype", json!(name.map(|(_, name)| *name)));
    put("ct_mark", json!(packet.ct.mark));
    put("ct_status", json!(packet.ct.status.filter(|status| status.0 != 0).map(|status| status.to_string())));
    put(
        "ct_direction",
        json!(packet.ct.direction.map(|direction| match direction {
            CtDirection::Original => "original",
            CtDirection::Reply => "reply",
        })),
    );
    details::put_fields(&packet.details, &mut put);
    Value::Object(map)
}

impl fmt::Display for Packet {
    /// The words of `hepguard trace`: `in tcp 203.0.113.7:51522 10.0.1.10:22 -i ens5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = match self.direction {
            Direction::In => "in",
            Direction::Out => "out",
            Direction::Forward => "forward",
        };
        write!(f, "{direction} {}", self.protocol)?;
        for (address, port) in [(self.src, self.sport), (self.dst, self.dport)] {
            match port {
                Some(port) => write!(f, " {}", std::net::SocketAddr::new(address, port))?,
                None => write!(f, " {address}")?,
            }
        }
        if let Some(iif) = &self.iif {
            write!(f, " -i {iif}")?;
        }
        if let Some(oif) = &self.oif {
            write!(f, " -o {oif}")?;
        }
        if self.state != CtState::NEW {
            write!(f, " --state {}", self.state)?;
        }
        if self.mark != 0 {
            write!(f, " --mark {:#x}", self.mark)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
