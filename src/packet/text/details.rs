//! A batch line's fields for a packet's details.

use std::fmt::Write;

use chrono::DateTime;
use serde_json::{Value, json};

use super::{Fields, PacketError, PacketSpec, wrong};
use crate::packet::{Details, Direction, ExtensionHeader, Protocol, TcpFlags};

/// Longest byte string of a packet: no IP packet is larger.
const MAX_BYTES: usize = 65_535;
/// Headers and groups beyond which nothing sensible follows.
const MAX_ITEMS: usize = 1024;

/// Refuses details that do not go with the packet.
pub(super) fn check(details: &Details, direction: Direction, protocol: Protocol, v6: bool) -> Result<(), PacketError> {
    let refuse = |text: &str| Err(PacketError(text.to_owned()));
    let owned = details.groups.is_some() || details.cgroup.is_some() || details.classid.is_some();
    if owned && direction != Direction::Out {
        return refuse("only packets of this host have an owner");
    }
    if !v6 && details.extensions.as_ref().is_some_and(|headers| !headers.is_empty()) {
        return refuse("ext_headers are IPv6's");
    }
    let shortest = match protocol {
        Protocol::TCP => 20,
        Protocol::UDP | Protocol::UDPLITE => 8,
        _ => 4,
    };
    if details.transport.as_ref().is_some_and(|bytes| bytes.len() < shortest) {
        return refuse(&format!("transport: expected at least {shortest} bytes of {protocol}"));
    }
    Ok(())
}

/// What the transport header's bytes say of ports, flags and ICMP type; both may be given when they agree.
pub(super) fn read_transport(spec: &mut PacketSpec, protocol: Protocol) -> Result<(), PacketError> {
    let Some(bytes) = &spec.details.transport else { return Ok(()) };
    let [a, b, c, d, ..] = **bytes else { return Ok(()) };
    if protocol.has_ports() {
        agree(&mut spec.sport, u16::from_be_bytes([a, b]), "sport")?;
        agree(&mut spec.dport, u16::from_be_bytes([c, d]), "dport")?;
    }
    match (protocol, bytes.get(13)) {
        (Protocol::TCP, Some(flags)) => agree(&mut spec.flags, TcpFlags(*flags), "flags"),
        (Protocol::ICMP | Protocol::ICMPV6, _) => agree(&mut spec.icmp, (a, b), "icmp_type"),
        _ => Ok(()),
    }
}

fn agree<T: PartialEq>(given: &mut Option<T>, read: T, name: &str) -> Result<(), PacketError> {
    match given {
        Some(given) if *given != read => Err(PacketError(format!("{name} and transport say different things"))),
        _ => {
            *given = Some(read);
            Ok(())
        }
    }
}

/// Reads the fields that are there.
pub(super) fn from_fields(fields: &Fields<'_>, details: &mut Details) -> Result<(), PacketError> {
    details.source_mac = fields.text("mac_src")?.map(|text| mac("mac_src", text)).transpose()?;
    details.destination_mac = fields.text("mac_dst")?.map(|text| mac("mac_dst", text)).transpose()?;
    if let Some(value) = fields.get("ext_headers") {
        details.extensions = Some(extensions(value)?);
    }
    details.transport = fields.text("transport")?.map(|text| bytes("transport", text)).transpose()?;
    if let Some(value) = fields.get("groups") {
        details.groups = Some(groups(value)?);
    }
    details.cgroup = fields.text("cgroup")?.map(cgroup).transpose()?;
    details.classid = fields.number("classid")?;
    details.time = fields.text("time")?.map(time).transpose()?;
    details.ipsec = match fields.get("ipsec") {
        None => None,
        Some(Value::Bool(protected)) => Some(*protected),
        Some(other) => return wrong("ipsec", "true or false", &other.to_string()),
    };
    Ok(())
}

/// Writes what is known.
pub(super) fn put_fields(details: &Details, put: &mut impl FnMut(&str, Value)) {
    let mac = |mac: &[u8; 6]| mac.map(|byte| format!("{byte:02x}")).join(":");
    put("mac_src", json!(details.source_mac.as_ref().map(mac)));
    put("mac_dst", json!(details.destination_mac.as_ref().map(mac)));
    if let Some(headers) = details.extensions.as_ref().filter(|headers| !headers.is_empty()) {
        let one = |header: &ExtensionHeader| json!({"header": header.header.0, "bytes": hex(&header.bytes)});
        put("ext_headers", headers.iter().map(one).collect());
    }
    put("transport", json!(details.transport.as_ref().map(|bytes| hex(bytes))));
    put("groups", json!(details.groups));
    put("cgroup", json!(details.cgroup));
    put("classid", json!(details.classid));
    let time = details.time.and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    put("time", json!(time.map(|time| time.format("%Y-%m-%dT%H:%M:%SZ").to_string())));
    put("ipsec", json!(details.ipsec));
}

fn mac(name: &str, text: &str) -> Result<[u8; 6], PacketError> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    let read = |slot: &mut u8| {
        let part = parts.next().filter(|part| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        *slot = u8::from_str_radix(part, 16).ok()?;
        Some(())
    };
    let read = mac.iter_mut().map(read).collect::<Option<()>>();
    match (read, parts.next()) {
        (Some(()), None) => Ok(mac),
        _ => wrong(name, "a hardware address such as 00:11:22:33:44:55", text),
    }
}

fn bytes(name: &str, text: &str) -> Result<Box<[u8]>, PacketError> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = text.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    });
    match pairs.collect::<Option<Box<[u8]>>>() {
        Some(bytes) if bytes.len() <= MAX_BYTES => Ok(bytes),
        _ => wrong(name, "hexadecimal digits, two a byte", text.get(..text.len().min(40)).unwrap_or_default()),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn extensions(value: &Value) -> Result<Box<[ExtensionHeader]>, PacketError> {
    let expected = "a list such as [{\"header\":43,\"bytes\":\"0600040000000000\"}]";
    let one = |value: &Value| -> Result<ExtensionHeader, PacketError> {
        let number = value.get("header").and_then(Value::as_u64).and_then(|number| u8::try_from(number).ok());
        let known = number.filter(|number| [0, 43, 44, 51, 60].contains(number));
        let Some(number) = known else { return wrong("ext_headers", "header 0, 43, 44, 51 or 60", &value.to_string()) };
        let bytes = match value.get("bytes").and_then(Value::as_str) {
            Some(text) => bytes("ext_headers", text)?,
            None => return wrong("ext_headers", expected, &value.to_string()),
        };
        if bytes.len() < 8 || bytes.len() % 4 != 0 {
            return wrong("ext_headers", "8 bytes or more, a multiple of 4", &value.to_string());
        }
        Ok(ExtensionHeader { header: Protocol(number), bytes })
    };
    match value {
        Value::Array(list) if list.len() <= MAX_ITEMS => list.iter().map(one).collect(),
        other => wrong("ext_headers", expected, &other.to_string()),
    }
}

fn groups(value: &Value) -> Result<Box<[u32]>, PacketError> {
    let number = |value: &Value| value.as_u64().and_then(|number| u32::try_from(number).ok());
    let list = value.as_array().filter(|list| list.len() <= MAX_ITEMS);
    match list.and_then(|list| list.iter().map(number).collect()) {
        Some(groups) => Ok(groups),
        None => wrong("groups", "a list of numbers such as [4,27]", &value.to_string()),
    }
}

fn cgroup(text: &str) -> Result<Box<str>, PacketError> {
    let plain = text.starts_with('/') && text.len() <= 4096 && !text.contains(char::is_control);
    if plain { Ok(text.into()) } else { wrong("cgroup", "a path such as /system.slice/ssh.service", text) }
}

fn time(text: &str) -> Result<i64, PacketError> {
    match DateTime::parse_from_rfc3339(text) {
        Ok(time) => Ok(time.timestamp()),
        Err(_) => wrong("time", "a moment such as 2026-01-31T08:30:00Z", text),
    }
}
