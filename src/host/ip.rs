//! Readers of iproute2's JSON: `ip -j addr`, `ip -j link`, `ip -j route show table all`, `ip -j rule`.
//!
//! A file may hold several listings one after the other (IPv4's and IPv6's). What one element has wrong costs that element
//! only, and a listing cut short gives what stands before the cut.

mod groups;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde::de::{DeserializeSeed, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

pub use groups::{Groups, groups};

use super::{Interface, InterfaceAddress, Route, RouteKind, RoutingRule, RuleAction};
use crate::diagnostic::{Level, Parsed, Remarks};
use crate::packet::{Family, Prefix};

/// Numbers of routing tables that a listing only names.
///
/// `local`, `main` and `default` are the kernel's; other names come from `/etc/iproute2/rt_tables`, which a snapshot does
/// not hold. Such a name gets a number of its own, the same in routes and rules, from the top of the number space.
#[derive(Clone, Debug, Default)]
pub struct TableNumbers {
    named: BTreeMap<String, u32>,
}

impl TableNumbers {
    /// The number of the table listed as `text`.
    pub fn number(&mut self, text: &str) -> u32 {
        match text {
            "local" => 255,
            "main" => 254,
            "default" => 253,
            _ => text.parse().unwrap_or_else(|_| {
                let next = u32::MAX - u32::try_from(self.named.len()).unwrap_or(0);
                *self.named.entry(text.to_owned()).or_insert(next)
            }),
        }
    }
}

/// Reads `ip -j addr` or `ip -j link`, with or without `-d`.
#[must_use]
pub fn interfaces(source: &Arc<str>, text: &[u8]) -> Parsed<Vec<Interface>> {
    let mut reader = Reader::new(source, text);
    let mut found: Vec<Interface> = Vec::new();
    reader.each(|element, _| {
        let interface = interface(element)?;
        merge(&mut found, interface);
        Ok(())
    });
    reader.remarks.with(found)
}

/// Adds what `more` tells to `known`: new interfaces, and kind, master and addresses of known ones.
pub fn merge(known: &mut Vec<Interface>, more: Interface) {
    let Some(old) = known.iter_mut().find(|old| old.name == more.name) else {
        known.push(more);
        return;
    };
    if old.kind.is_empty() {
        old.kind = more.kind;
    }
    if old.master.is_none() {
        old.master = more.master;
    }
    old.group = old.group.or(more.group);
    old.lower = old.lower.take().or(more.lower);
    old.frames_cross = old.frames_cross.or(more.frames_cross);
    super::bpf::merge(&mut old.programs, more.programs);
    for address in more.addresses {
        if !old.addresses.contains(&address) {
            old.addresses.push(address);
        }
    }
}

/// Reads `ip -j route show table all`, of both families.
#[must_use]
pub fn routes(source: &Arc<str>, text: &[u8], tables: &mut TableNumbers) -> Parsed<Vec<Route>> {
    let mut reader = Reader::new(source, text);
    let mut found = Vec::new();
    let mut dead = 0_usize;
    reader.each(|element, _| {
        if flags(element, "flags").any(|flag| flag == "dead") {
            dead += 1; // its interface is down: the kernel never takes it
            return Ok(());
        }
        found.push(route(element, tables)?);
        Ok(())
    });
    if dead > 0 {
        reader.remarks.add(Level::Note, 0, 0, format!("{dead} dead routes (interface down) are left out"));
    }
    reader.remarks.with(found)
}

/// Reads `ip -j rule`, followed or not by `ip -6 -j rule`.
#[must_use]
pub fn rules(source: &Arc<str>, text: &[u8], tables: &mut TableNumbers) -> Parsed<Vec<RoutingRule>> {
    let mut reader = Reader::new(source, text);
    let mut listings: BTreeMap<usize, Vec<RoutingRule>> = BTreeMap::new();
    reader.each(|element, listing| {
        let rule = rule(element, tables)?;
        listings.entry(listing).or_default().push(rule);
        Ok(())
    });
    let several = listings.len() > 1;
    let mut found = Vec::new();
    for (listing, mut rules) in listings {
        let ipv6 = family_of_rules(&rules).unwrap_or(several && listing > 0);
        for rule in &mut rules {
            // one listing alone: the standard three stand for both families
            let standard =
                matches!((rule.priority, rule.table()), (0, Some(255)) | (32766, Some(254)) | (32767, Some(253)));
            let plain = rule.source.is_none() && rule.destination.is_none() && rule.mark.is_none();
            rule.ipv6 = if !several && standard && plain { None } else { Some(ipv6) };
        }
        found.append(&mut rules);
    }
    if !several && !found.is_empty() {
        let message = "one family's rules only; the other's are taken to be the kernel's standard ones; \
                       append the output of 'ip -6 -j rule' to know";
        reader.remarks.add(Level::Note, 0, 0, message);
    }
    found.sort_by_key(|rule| rule.priority);
    reader.remarks.with(found)
}

/// The family a listing of rules is of, where an address or the table only IPv4 has tells.
fn family_of_rules(rules: &[RoutingRule]) -> Option<bool> {
    let of_addresses = rules.iter().flat_map(|rule| [rule.source, rule.destination]).flatten().next();
    of_addresses
        .map(|prefix| !prefix.is_ipv4())
        .or_else(|| rules.iter().any(|rule| rule.priority == 32767 && rule.table() == Some(253)).then_some(false))
}

type Object = Map<String, Value>;

fn interface(element: &Object) -> Result<Interface, String> {
    let name = text(element, "ifname").ok_or("expected an interface with \"ifname\"")?;
    let mut addresses = Vec::new();
    for info in element.get("addr_info").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object) {
        addresses.extend(interface_address(info)?);
    }
    let has = |wanted: &str| flags(element, "flags").any(|flag| flag == wanted);
    let info = element.get("linkinfo");
    let kind = info.and_then(|info| info.get("info_kind")).and_then(Value::as_str);
    let option = |name: &str| Some(info?.get("info_data")?.get(name)?.as_u64()? != 0);
    Ok(Interface {
        index: number(element, "ifindex")?.unwrap_or(0),
        name: name.into(),
        up: has("UP"),
        loopback: has("LOOPBACK"),
        link_type: text(element, "link_type").unwrap_or_default().into(),
        group: match text(element, "group") {
            // the one name every list has
            Some("default") => Some(0),
            group => group.and_then(|group| group.parse().ok()),
        },
        kind: kind.unwrap_or_default().into(),
        master: text(element, "master").map(Into::into),
        // the other end of a pair is no device below
        lower: text(element, "link").filter(|_| !matches!(kind, Some("veth" | "netkit"))).map(Into::into),
        frames_cross: option("nf_call_iptables").zip(option("nf_call_ip6tables")).map(<[bool; 2]>::from),
        programs: super::bpf::of_link(element, name),
        addresses,
    })
}

/// `None` for an empty object, which old versions print for addresses they filter out.
fn interface_address(info: &Object) -> Result<Option<InterfaceAddress>, String> {
    let Some(local) = text(info, "local") else {
        return if info.is_empty() { Ok(None) } else { Err("expected \"local\" in \"addr_info\"".to_owned()) };
    };
    let address: IpAddr = local.parse().map_err(|_| format!("expected an address in \"local\", found {local:?}"))?;
    let length: u8 = number(info, "prefixlen")?.unwrap_or(if address.is_ipv4() { 32 } else { 128 });
    if Prefix::new(address, length).is_none() {
        return Err(format!("expected a prefix length that fits {address}, found {length}"));
    }
    Ok(Some(InterfaceAddress {
        address,
        prefix_length: length,
        broadcast: text(info, "broadcast").and_then(|text| text.parse().ok()),
        scope: text(info, "scope").unwrap_or_default().into(),
        dynamic: info.get("dynamic").and_then(Value::as_bool).unwrap_or(false),
        valid: number(info, "valid_life_time").unwrap_or(None).filter(|seconds| *seconds < u32::MAX),
    }))
}

fn route(element: &Object, tables: &mut TableNumbers) -> Result<Route, String> {
    let address = |key: &str| -> Result<Option<IpAddr>, String> {
        let Some(text) = text(element, key) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| format!("expected an address in {key:?}, found {text:?}"))
    };
    let via = element.get("via").and_then(|via| via.get("host")).and_then(Value::as_str);
    let gateway = address("gateway")?.or_else(|| via.and_then(|host| host.parse().ok()));
    let source = address("prefsrc")?;
    let nexthops: Vec<&Object> =
        element.get("nexthops").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object).collect();
    let first = |key: &str| nexthops.first().and_then(|hop| text(hop, key));
    let destination = match text(element, "dst").ok_or("expected a route with \"dst\"")? {
        "default" | "all" => {
            let near = source.or(gateway).or_else(|| first("gateway").and_then(|text| text.parse().ok()));
            // without an address: the kernel tells a router preference for IPv6 routes only
            let ipv6 = element.contains_key("pref") || (via.is_none() && near.is_some_and(|address| address.is_ipv6()));
            Prefix::any(if ipv6 { Family::Ipv6 } else { Family::Ipv4 })
        }
        text => text.parse().map_err(|error| format!("in \"dst\": {error}"))?,
    };
    let kind = match text(element, "type").unwrap_or("unicast") {
        "unicast" => RouteKind::Unicast,
        "local" => RouteKind::Local,
        "broadcast" => RouteKind::Broadcast,
        "anycast" => RouteKind::Anycast,
        "multicast" => RouteKind::Multicast,
        "blackhole" => RouteKind::Blackhole,
        "unreachable" => RouteKind::Unreachable,
        "prohibit" => RouteKind::Prohibit,
        "throw" => RouteKind::Throw,
        other => return Err(format!("expected a route type such as unicast or local, found {other:?}")),
    };
    Ok(Route {
        destination,
        kind,
        table: tables.number(text(element, "table").unwrap_or("main")),
        device: text(element, "dev").or_else(|| first("dev")).map(Into::into),
        gateway: gateway.or_else(|| first("gateway").and_then(|text| text.parse().ok())),
        source,
        metric: number(element, "metric")?.unwrap_or(0),
        more_devices: nexthops.iter().skip(1).filter_map(|hop| text(hop, "dev")).map(Into::into).collect(),
        tos: text(element, "tos").map(type_of_service).transpose()?,
        from: match text(element, "from") {
            None | Some("all" | "default") => None,
            Some(text) => Some(text.parse().map_err(|error| format!("in \"from\": {error}"))?),
        },
        origin: text(element, "protocol").unwrap_or_default().into(),
    })
}

/// A type of service as `0x10`, or by a name of iproute2's `rt_dsfield`.
fn type_of_service(text: &str) -> Result<u8, String> {
    let name = text.to_ascii_lowercase();
    let digits = |from: &str| name.strip_prefix(from).filter(|rest| rest.bytes().all(|b| (b'1'..=b'7').contains(&b)));
    // class selectors are eight apart; assured forwarding has a class and a drop precedence (RFC 2597)
    let named = match (name.as_str(), digits("cs").map(str::as_bytes), digits("af").map(str::as_bytes)) {
        ("default", ..) => Some(0),
        ("lowdelay", ..) => Some(0x10),
        ("throughput", ..) => Some(0x08),
        ("reliability", ..) => Some(0x04),
        ("mincost", ..) => Some(0x02),
        ("ef", ..) => Some(0xb8),
        (_, Some([class]), _) => Some((class - b'0') << 5),
        (_, _, Some([class @ b'1'..=b'4', drop @ b'1'..=b'3'])) => Some((class - b'0') << 5 | (drop - b'0') << 3),
        _ => None,
    };
    let number = named.or_else(|| hexadecimal(text).ok().and_then(|number| u8::try_from(number).ok()));
    number.ok_or_else(|| format!("expected a type of service such as 0x10, found {text:?}"))
}

fn rule(element: &Object, tables: &mut TableNumbers) -> Result<RoutingRule, String> {
    const SELECTORS: [&str; 26] = [
        "priority",
        "src",
        "srclen",
        "dst",
        "dstlen",
        "iif",
        "oif",
        "iif_detached",
        "oif_detached",
        "fwmark",
        "fwmask",
        "tos",
        "uid_start",
        "uid_end",
        "ipproto",
        "sport",
        "sport_start",
        "sport_end",
        "dport",
        "dport_start",
        "dport_end",
        "l3mdev",
        "not",
        "protocol",
        "suppress_prefixlen",
        "unresolved",
    ];
    const ACTIONS: [&str; 6] = ["table", "action", "goto", "nop", "realms", "flow_to"];
    let prefix = |key: &str, length: &str| -> Result<Option<Prefix>, String> {
        let Some(address) = text(element, key).filter(|text| *text != "all") else { return Ok(None) };
        let listed = match number::<u8>(element, length)? {
            Some(length) => format!("{address}/{length}"),
            None => address.to_owned(),
        };
        listed.parse().map(Some).map_err(|error| format!("in {key:?}: {error}"))
    };
    let mark = match text(element, "fwmark") {
        None => None,
        Some(value) => {
            let mask = text(element, "fwmask").map_or(Ok(u32::MAX), hexadecimal)?;
            Some((hexadecimal(value)?, mask))
        }
    };
    let ports = |one: &str, low: &str, high: &str| -> Result<Option<(u16, u16)>, String> {
        let one = number(element, one)?;
        let range = number(element, low)?.zip(number(element, high)?);
        Ok(one.map(|port| (port, port)).or(range))
    };
    let others =
        element.iter().filter(|(key, _)| !SELECTORS.contains(&key.as_str()) && !ACTIONS.contains(&key.as_str()));
    let others: Vec<String> = others.map(|(key, value)| format!("{key} {value}")).collect();
    let protocol = match text(element, "ipproto") {
        None => None,
        Some(name) => Some(name.parse().map_err(|error| format!("in \"ipproto\": {error}"))?),
    };
    Ok(RoutingRule {
        priority: number(element, "priority")?.ok_or("expected a rule with \"priority\"")?,
        ipv6: None,
        source: prefix("src", "srclen")?,
        destination: prefix("dst", "dstlen")?,
        iif: text(element, "iif").map(Into::into),
        oif: text(element, "oif").map(Into::into),
        mark,
        tos: text(element, "tos").map(type_of_service).transpose()?,
        uids: number(element, "uid_start")?.zip(number(element, "uid_end")?),
        protocol,
        sports: ports("sport", "sport_start", "sport_end")?,
        dports: ports("dport", "dport_start", "dport_end")?,
        l3mdev: element.contains_key("l3mdev"),
        inverted: element.contains_key("not"),
        action: action(element, tables)?,
        suppress_prefix_length: number(element, "suppress_prefixlen")?,
        other: (!others.is_empty()).then(|| others.join(", ").into()),
    })
}

fn action(element: &Object, tables: &mut TableNumbers) -> Result<RuleAction, String> {
    if let Some(target) = number(element, "goto")? {
        return Ok(RuleAction::Goto(target));
    }
    if element.contains_key("nop") {
        return Ok(RuleAction::Nop);
    }
    Ok(match (text(element, "action"), text(element, "table")) {
        (None | Some("to_tbl"), Some(name)) => RuleAction::Table(tables.number(name)),
        (Some("blackhole"), _) => RuleAction::End(RouteKind::Blackhole),
        (Some("unreachable"), _) => RuleAction::End(RouteKind::Unreachable),
        (Some("prohibit"), _) => RuleAction::End(RouteKind::Prohibit),
        (Some("nop"), _) => RuleAction::Nop,
        // the table is the VRF's
        (None, None) if element.contains_key("l3mdev") => RuleAction::Opaque("l3mdev".into()),
        (other, _) => RuleAction::Opaque(other.unwrap_or("no action").into()),
    })
}

fn hexadecimal(text: &str) -> Result<u32, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| format!("expected a mark of 32 bits, found {text:?}"))
}

fn text<'a>(element: &'a Object, key: &str) -> Option<&'a str> {
    element.get(key).and_then(Value::as_str)
}

/// A number; some versions write it as a string.
fn number<T: TryFrom<u64>>(element: &Object, key: &str) -> Result<Option<T>, String> {
    let Some(value) = element.get(key) else { return Ok(None) };
    let number = value.as_u64().or_else(|| value.as_str().and_then(|text| text.parse().ok()));
    let fits = number.and_then(|number| T::try_from(number).ok());
    fits.map(Some).ok_or_else(|| format!("expected a number that fits in {key:?}, found {value}"))
}

fn flags<'a>(element: &'a Object, key: &str) -> impl Iterator<Item = &'a str> {
    element.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// Walks the elements of the arrays in a text.
struct Reader<'a> {
    text: Cow<'a, str>,
    remarks: Remarks,
}

impl<'a> Reader<'a> {
    fn new(source: &Arc<str>, text: &'a [u8]) -> Self {
        let mut remarks = Remarks::new(source);
        let text = String::from_utf8_lossy(text);
        if matches!(text, Cow::Owned(_)) {
            remarks.add(
                Level::Warning,
                0,
                0,
                "bytes that are not UTF-8 are replaced; a name that holds them never matches",
            );
        }
        Self { text, remarks }
    }

    /// Calls `read` for each element with the number of its array; what it says about an element becomes a remark.
    fn each(&mut self, mut read: impl FnMut(&Object, usize) -> Result<(), String>) {
        let text: &str = &self.text;
        let mut elements: Vec<(usize, &RawValue)> = Vec::new();
        let mut stream = serde_json::Deserializer::from_str(text);
        let mut listing = 0;
        while stream.end().is_err() {
            let end = Elements { listing, found: &mut elements }.deserialize(&mut stream);
            if let Err(error) = end {
                let (line, column) = (as_u32(error.line()), as_u32(error.column()));
                let message = format!("expected the output of 'ip -j', whole: {error}; what stands before is used");
                self.remarks.add(Level::Error, line, column, message);
                break;
            }
            listing += 1;
        }
        if listing == 0 && elements.is_empty() && text.trim().is_empty() {
            self.remarks.add(Level::Error, 0, 0, "empty; expected the output of 'ip -j', at least []");
        }
        for (listing, raw) in elements {
            let result = match serde_json::from_str::<Object>(raw.get()) {
                Ok(object) if object.is_empty() => Ok(()), // printed by old versions for what they filter out
                Ok(object) => read(&object, listing),
                Err(error) => Err(format!("expected an object: {error}")),
            };
            if let Err(message) = result {
                let (line, column) = place(text, raw.get());
                self.remarks.add(Level::Error, line, column, format!("{message}; this element is not used"));
            }
        }
    }
}

/// Line and column of `part`, a slice of `whole`.
fn place(whole: &str, part: &str) -> (u32, u32) {
    let offset = (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize);
    let before = whole.as_bytes().get(..offset).unwrap_or_default();
    let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    (as_u32(line), as_u32(offset - line_start + 1))
}

fn as_u32(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Collects the elements of one array up to the first that is not JSON.
struct Elements<'v, 'de> {
    listing: usize,
    found: &'v mut Vec<(usize, &'de RawValue)>,
}

impl<'de> DeserializeSeed<'de> for Elements<'_, 'de> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Elements<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        while let Some(element) = elements.next_element::<&'de RawValue>()? {
            self.found.push((self.listing, element));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
