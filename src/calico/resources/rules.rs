//! Rules: their fields, and what the API refuses in them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::cursor::{Cursor, join};
use super::problem::ProblemKind;
use super::types::{Entity, Field, Icmp, Net, Port, Protocol, Rule, Service};
use crate::calico::names::{Action, Direction};
use crate::calico::selector::Selector;
use crate::calico::settings::ports::shortened;
use crate::calico::yaml::{Form, Node, Value};
use crate::packet::{PortRange, Prefix};

const RULE: [&str; 11] = [
    "action",
    "ipVersion",
    "protocol",
    "notProtocol",
    "icmp",
    "notICMP",
    "source",
    "destination",
    "http",
    "metadata",
    // not of the API, but printed by some exports
    "order",
];
const ENTITY: [&str; 10] = [
    "nets",
    "notNets",
    "selector",
    "notSelector",
    "namespaceSelector",
    "ports",
    "notPorts",
    "serviceAccounts",
    "services",
    "domains",
];
const ACTIONS: [(&str, Action); 4] =
    [("Allow", Action::Allow), ("Deny", Action::Deny), ("Log", Action::Log), ("Pass", Action::Pass)];
/// Most rules of one direction.
const MAX_RULES: usize = 1024;
/// Most nets of one list.
const MAX_NETS: usize = 256;
/// Most ports of one list.
const MAX_PORTS: usize = 50;
/// Longest selector, in bytes.
const MAX_SELECTOR: usize = 1024;

/// Where a rule stands.
#[derive(Clone, Copy)]
pub(super) struct Setting {
    pub(super) direction: Direction,
    /// A namespaced policy: services need no namespace.
    pub(super) namespaced: bool,
}

/// The rules under `key`; `None` when it is missing.
pub(super) fn rules_at(
    cursor: &mut Cursor<'_>,
    node: &Node,
    path: &str,
    key: &str,
    setting: Setting,
) -> Option<Field<Vec<Rule>>> {
    let child = cursor.child(node, key)?;
    let path = join(path, key);
    let items = cursor.list(child, &path);
    too_many(cursor, child, &path, items.len(), MAX_RULES, "rules");
    let rules =
        items.iter().enumerate().filter_map(|(index, item)| rule(cursor, item, &format!("{path}[{index}]"), setting));
    let rules = rules.collect();
    Some(cursor.field(child, rules))
}

fn too_many(cursor: &mut Cursor<'_>, node: &Node, path: &str, found: usize, most: usize, what: &str) {
    if found > most {
        let message = format!("found {found} {what}, at most {most} are allowed");
        cursor.refuse(ProblemKind::TooMany, (node.line, node.column), path, message, "split the list");
    }
}

fn rule(cursor: &mut Cursor<'_>, node: &Node, path: &str, setting: Setting) -> Option<Rule> {
    if !cursor.map(node, path, &RULE) {
        return None;
    }
    let action = match cursor.child(node, "action") {
        Some(child) => {
            let names = ACTIONS.map(|(name, _)| name);
            let index = cursor.word(child, &join(path, "action"), &names);
            index.and_then(|index| ACTIONS.get(index)).map(|(_, action)| cursor.field(child, *action))
        }
        None => {
            let fix = "write action: Allow, Deny, Log or Pass";
            cursor.refuse(ProblemKind::Missing, (node.line, node.column), &join(path, "action"), "is missing", fix);
            None
        }
    };
    let ip_version = ip_version(cursor, node, path);
    let rule = Rule {
        line: node.line,
        action,
        ip_version,
        protocol: protocol_at(cursor, node, path, "protocol"),
        not_protocol: protocol_at(cursor, node, path, "notProtocol"),
        icmp: icmp_at(cursor, node, path, "icmp"),
        not_icmp: icmp_at(cursor, node, path, "notICMP"),
        source: entity_at(cursor, node, path, "source"),
        destination: entity_at(cursor, node, path, "destination"),
        http: cursor.child(node, "http").map(|child| cursor.field(child, ())),
        annotations: annotations(cursor, node, path),
    };
    super::validate::rule(cursor, &rule, path, setting);
    Some(rule)
}

fn annotations(cursor: &mut Cursor<'_>, node: &Node, path: &str) -> BTreeMap<String, Field<String>> {
    let path = join(path, "metadata");
    let Some(child) = cursor.child(node, "metadata") else { return BTreeMap::new() };
    if !cursor.map(child, &path, &["annotations"]) {
        return BTreeMap::new();
    }
    cursor.texts_map(child, &path, "annotations")
}

fn ip_version(cursor: &mut Cursor<'_>, node: &Node, path: &str) -> Option<Field<u8>> {
    let version = cursor.small_at(node, path, "ipVersion", 0..=255)?;
    if !matches!(version.value, 4 | 6) {
        let message = format!("found {}, expected 4 or 6", version.value);
        cursor.refuse(ProblemKind::BadValue, (version.line, version.column), &join(path, "ipVersion"), message, "");
        return None;
    }
    Some(version)
}

/// A protocol by name or number.
pub(super) fn protocol_at(cursor: &mut Cursor<'_>, node: &Node, path: &str, key: &str) -> Option<Field<Protocol>> {
    let child = cursor.child(node, key)?;
    let path = join(path, key);
    let at = (child.line, child.column);
    if let Some(number) = child.text().and_then(|text| text.parse::<u64>().ok()) {
        return match u8::try_from(number) {
            Ok(number @ 1..) => Some(cursor.field(child, Protocol::Number(number))),
            _ => {
                let message = format!("found {number}, expected 1 to 255");
                cursor.refuse(ProblemKind::BadValue, at, &path, message, "");
                None
            }
        };
    }
    let names = Protocol::NAMES.map(|(name, _)| name);
    let index = cursor.word(child, &path, &names)?;
    names.get(index).map(|name| cursor.field(child, Protocol::Name(name)))
}

fn icmp_at(cursor: &mut Cursor<'_>, node: &Node, path: &str, key: &str) -> Option<Field<Icmp>> {
    let child = cursor.child(node, key)?;
    let path = join(path, key);
    if !cursor.map(child, &path, &["type", "code"]) {
        return None;
    }
    let kind = cursor.small_at(child, &path, "type", 0..=254);
    let code = cursor.small_at(child, &path, "code", 0..=255);
    if let (None, Some(code)) = (&kind, &code) {
        let (at, path) = ((code.line, code.column), join(&path, "code"));
        cursor.refuse(ProblemKind::Icmp, at, &path, "a code without a type", "add the type");
    }
    Some(cursor.field(child, Icmp { kind: kind.map(|f| f.value), code: code.map(|f| f.value) }))
}

fn entity_at(cursor: &mut Cursor<'_>, node: &Node, path: &str, key: &str) -> Entity {
    let Some(child) = cursor.child(node, key) else { return Entity::default() };
    let path = join(path, key);
    if !cursor.map(child, &path, &ENTITY) {
        return Entity::default();
    }
    let mut entity = Entity {
        line: child.line,
        nets: nets_at(cursor, child, &path, "nets", true),
        not_nets: nets_at(cursor, child, &path, "notNets", true),
        selector: selector_at(cursor, child, &path, "selector"),
        not_selector: selector_at(cursor, child, &path, "notSelector"),
        namespace_selector: selector_at(cursor, child, &path, "namespaceSelector"),
        ports: ports_at(cursor, child, &path, "ports"),
        not_ports: ports_at(cursor, child, &path, "notPorts"),
        domains: cursor.texts_at(child, &path, "domains"),
        ..Entity::default()
    };
    if let Some(accounts) = cursor.child(child, "serviceAccounts") {
        let path = join(&path, "serviceAccounts");
        if cursor.map(accounts, &path, &["names", "selector"]) {
            entity.service_account_names = cursor.texts_at(accounts, &path, "names");
            entity.service_account_selector = selector_at(cursor, accounts, &path, "selector");
        }
    }
    if let Some(service) = cursor.child(child, "services") {
        let path = join(&path, "services");
        if cursor.map(service, &path, &["name", "namespace"]) {
            let name = cursor.text_at(service, &path, "name");
            let namespace = cursor.text_at(service, &path, "namespace").map(|field| field.value);
            entity.services = name.map(|name| cursor.field(service, Service { name: name.value, namespace }));
        }
    }
    entity
}

/// A selector, checked; an empty one counts as missing.
pub(super) fn selector_at(cursor: &mut Cursor<'_>, node: &Node, path: &str, key: &str) -> Option<Field<String>> {
    let field = cursor.text_at(node, path, key)?;
    let path = join(path, key);
    let at = (field.line, node.get(key).map_or(0, |child| child.column));
    if field.value.len() > MAX_SELECTOR {
        let message = format!("found {} characters, at most {MAX_SELECTOR} are allowed", field.value.len());
        cursor.refuse(ProblemKind::TooMany, at, &path, message, "use shorter labels or `in {…}`");
    }
    match Selector::parse(&field.value) {
        Ok(_) if field.value.is_empty() => None,
        Ok(selector) => {
            // `global()` is for rules' namespaceSelector, and alone
            let alone =
                path.ends_with("].source.namespaceSelector") || path.ends_with("].destination.namespaceSelector");
            if selector.mentions_global() && !(alone && field.value.trim() == "global()") {
                let message = "global() is only allowed alone, in a rule's namespaceSelector";
                let fix = "for host endpoints and global sets alone write namespaceSelector: global() in the rule";
                cursor.refuse(ProblemKind::GlobalSelector, at, &path, message, fix);
            }
            Some(field)
        }
        Err(error) => {
            let message = format!("{:?} at character {}: {}", shortened(&field.value), error.column, error.message);
            cursor.refuse(ProblemKind::Selector, at, &path, message, error.fix);
            Some(field)
        }
    }
}

/// Nets; in rules (`strict`) without host bits and with a length.
pub(super) fn nets_at(cursor: &mut Cursor<'_>, node: &Node, path: &str, key: &str, strict: bool) -> Vec<Field<Net>> {
    let texts = cursor.texts_at(node, path, key);
    let path = join(path, key);
    if strict && let Some(child) = node.get(key) {
        too_many(cursor, child, &path, texts.len(), MAX_NETS, "nets");
    }
    let mut nets = Vec::with_capacity(texts.len());
    for (index, text) in texts.into_iter().enumerate() {
        let path = format!("{path}[{index}]");
        let at = (text.line, text.column);
        let Some((prefix, exact)) = net(&text.value) else {
            let message = format!("found {:?}, expected a net such as 10.0.0.0/8 or fd00::/8", shortened(&text.value));
            cursor.refuse(ProblemKind::Net, at, &path, message, "names are not resolved: write addresses");
            continue;
        };
        if strict && !exact {
            let bare = !text.value.contains('/');
            let what = if bare { "an address without a length" } else { "host bits are set" };
            let fix = format!("write {prefix}");
            cursor.refuse(ProblemKind::LooseNet, at, &path, format!("{}: {what}", text.value), fix);
        }
        nets.push(Field { value: Net { prefix, text: text.value }, line: text.line, column: text.column });
    }
    nets
}

/// A CIDR or an address, and whether it is written as the API wants it in rules.
fn net(text: &str) -> Option<(Prefix, bool)> {
    let Some((address, length)) = text.split_once('/') else {
        let address: IpAddr = text.parse().ok()?;
        return Some((Prefix::host(address), false));
    };
    let address: IpAddr = address.parse().ok()?;
    if length.is_empty() || !length.bytes().all(|byte| byte.is_ascii_digit()) || length.len() > 3 {
        return None;
    }
    let prefix = Prefix::new(address, length.parse().ok()?)?;
    Some((prefix, prefix.address() == address))
}

fn ports_at(cursor: &mut Cursor<'_>, node: &Node, path: &str, key: &str) -> Vec<Field<Port>> {
    let Some(child) = cursor.child(node, key) else { return Vec::new() };
    let path = join(path, key);
    let items = cursor.list(child, &path);
    too_many(cursor, child, &path, items.len(), MAX_PORTS, "ports");
    let ports = items.iter().enumerate().filter_map(|(index, item)| {
        let port = port(cursor, item, &format!("{path}[{index}]"))?;
        Some(cursor.field(item, port))
    });
    ports.collect()
}

/// One entry of `ports`: a number, `low:high`, or a name.
fn port(cursor: &mut Cursor<'_>, node: &Node, path: &str) -> Option<Port> {
    let at = (node.line, node.column);
    let Value::Scalar(text) = &node.value else {
        cursor.refuse(ProblemKind::Port, at, path, "expected a port, a range \"low:high\" or a name", "");
        return None;
    };
    let bad = |cursor: &mut Cursor<'_>, why: &str| {
        let message = format!("found {:?}: {why}", shortened(text));
        cursor.refuse(ProblemKind::Port, at, path, message, "write a port of 1 to 65535, or \"low:high\"");
        None
    };
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u16>().ok());
    if let Some((low, high)) = text.split_once(':') {
        let (Some(Some(low)), Some(Some(high))) = (number(low), number(high)) else {
            return bad(cursor, "no range of ports");
        };
        if low > high {
            return bad(cursor, "the range is backwards");
        }
        if low == 0 {
            return bad(cursor, "port 0 is not allowed");
        }
        if node.form != Form::Quoted {
            let message = format!("{text} without quotes: some YAML readers take it for one number of base 60");
            cursor.problem(ProblemKind::UnquotedPort, at, path, message, format!("write \"{text}\""));
        }
        return Some(Port::Range(PortRange { low, high }));
    }
    match number(text) {
        Some(Some(0)) => bad(cursor, "port 0 is not allowed"),
        Some(Some(port)) => Some(Port::Range(PortRange { low: port, high: port })),
        Some(None) => bad(cursor, "no port"),
        None => {
            let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
            if text.len() > 128 || !text.chars().all(fits) || node.form == Form::Bool {
                return bad(cursor, "neither a port nor a name of one");
            }
            if let Some((low, high)) = text.split_once('-')
                && number(low).flatten().is_some()
                && number(high).flatten().is_some()
            {
                let message =
                    format!("{text} is read as the name of a port, which no endpoint has: the rule never matches");
                cursor.problem(ProblemKind::DashedPort, at, path, message, format!("write \"{low}:{high}\""));
            }
            Some(Port::Name(text.clone()))
        }
    }
}
