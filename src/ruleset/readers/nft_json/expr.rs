//! Expressions, constants and conditions.

use super::json::Json;
use super::rule::RuleReader;
use crate::packet::{Family, Protocol};
use crate::ruleset::nft_words::kind::{parse_address, prefix_interval};
use crate::ruleset::nft_words::{Kind, Needs, kind_of, kinds_of, word};
use crate::ruleset::print::nft;
use crate::ruleset::{
    Elements, Expr, FibField, FibResult, Field, Interval, Match, OpaqueKind, Operator, PayloadBase, SetRef,
};

/// Why something could not be decoded: what was found and what was expected.
pub(super) type Unknown = String;

/// A constant or a range of constants.
pub(super) fn interval(json: &Json<'_>, kind: Kind) -> Result<Interval, Unknown> {
    match json.single() {
        Some(("prefix", body)) => {
            let address = body.get("addr").ok_or("a prefix without addr")?;
            let length = body.get("len").and_then(Json::number).ok_or("a prefix without len")?;
            let length = u32::try_from(length).map_err(|_| "a prefix longer than any address")?;
            only(body, "prefix", &["addr", "len"])?;
            let low = constant(address, kind)?;
            prefix_interval(low, length, kind.bits()).ok_or_else(|| format!("a prefix length of {length}"))
        }
        Some(("range", body)) => match body.array() {
            Some([low, high]) => {
                let (low, high) = (constant(low, kind)?, constant(high, kind)?);
                if low <= high { Ok(Interval { low, high }) } else { Err(format!("the backward range {body}")) }
            }
            _ => Err(format!("expected two ends of a range, found {body}")),
        },
        _ => match (json, kind) {
            (Json::Text(text), Kind::Interface) => {
                kind.parse(text).ok_or_else(|| format!("expected an interface name, found {json}"))
            }
            _ => constant(json, kind).map(Interval::single),
        },
    }
}

/// One constant; lists of flags are or-ed.
pub(super) fn constant(json: &Json<'_>, kind: Kind) -> Result<u128, Unknown> {
    let bad = || format!("expected {}, found {json}", describe(kind));
    match json {
        Json::Number(number) => {
            u128::try_from(*number).ok().and_then(|number| kind.number_value(number)).ok_or_else(bad)
        }
        Json::Bool(value) => Ok(u128::from(*value)),
        Json::Text(text) => match kind.parse(text) {
            Some(Interval { low, high }) if low == high => Ok(low),
            _ => Err(bad()),
        },
        Json::Array(items) if kind.is_flags() => {
            items.iter().try_fold(0, |bits, item| Ok(bits | constant(item, kind)?))
        }
        Json::Object(_) => match json.single() {
            Some(("|", Json::Array(items))) if !items.is_empty() => {
                items.iter().try_fold(0, |bits, item| Ok(bits | constant(item, kind)?))
            }
            Some(("&", Json::Array(items))) if !items.is_empty() => {
                items.iter().try_fold(u128::MAX, |bits, item| Ok(bits & constant(item, kind)?))
            }
            Some(("^", Json::Array(items))) if !items.is_empty() => {
                items.iter().try_fold(0, |bits, item| Ok(bits ^ constant(item, kind)?))
            }
            _ => Err(bad()),
        },
        _ => Err(bad()),
    }
}

fn describe(kind: Kind) -> String {
    match kind {
        Kind::Ipv4 => "an IPv4 address".into(),
        Kind::Ipv6 => "an IPv6 address".into(),
        Kind::Ether => "a link-layer address".into(),
        Kind::Protocol => "a protocol".into(),
        Kind::Port => "a port".into(),
        Kind::Interface => "an interface".into(),
        Kind::Names(_) => "a known name or a number".into(),
        Kind::Text => "a text of up to 16 bytes".into(),
        Kind::Day | Kind::Hour | Kind::Time => "a time".into(),
        _ => format!("a number of up to {} bits", kind.bits()),
    }
}

/// A key of a set: as many intervals as there are kinds.
pub(super) fn key(json: &Json<'_>, kinds: &[Kind]) -> Result<Vec<Interval>, Unknown> {
    let parts = match json.single() {
        Some(("concat", Json::Array(parts))) => parts.as_slice(),
        _ => std::slice::from_ref(json),
    };
    if parts.len() != kinds.len() {
        return Err(format!("expected {} values side by side, found {}", kinds.len(), parts.len()));
    }
    parts.iter().zip(kinds).map(|(part, kind)| interval(part, *kind)).collect()
}

/// Refuses objects with keys nobody looks at: they may change the meaning.
pub(super) fn only(json: &Json<'_>, what: &str, known: &[&str]) -> Result<(), Unknown> {
    match (json, json.unknown_key(known)) {
        (Json::Object(_), None) => Ok(()),
        (Json::Object(_), Some(key)) => Err(format!("{what} has the unknown key {key:?}")),
        _ => Err(format!("expected the parts of {what}, found {json}")),
    }
}

impl RuleReader {
    /// A value computed from the packet. What it silently requires is added to `self.needs`.
    pub(super) fn expr(&mut self, json: &Json<'_>) -> Result<Expr, Unknown> {
        let Some((name, body)) = json.single() else {
            return Err(format!("expected an expression, found {json}"));
        };
        match name {
            "payload" => self.payload(body),
            "meta" => {
                only(body, "meta", &["key"])?;
                self.word("meta", text(body, "key")?)
            }
            "ct" => self.ct(body),
            "fib" => fib(body),
            "rt" => {
                only(body, "rt", &["key", "family"])?;
                let key = text(body, "key")?;
                let group = match (body.text_at("family"), self.family_of_address().filter(|_| key == "nexthop")) {
                    (Some(family), _) => format!("rt {family}"),
                    (None, Some(family)) => format!("rt {}", family.nft_name()),
                    (None, None) => "rt".into(),
                };
                self.word(&group, key)
            }
            "socket" => {
                only(body, "socket", &["key"])?;
                self.word("socket", text(body, "key")?)
            }
            "exthdr" => self.exthdr(body),
            "tcp option" | "sctp chunk" | "dccp option" | "ip option" => header_option(name, body),
            "numgen" => {
                only(body, name, &["mode", "mod", "offset"])?;
                let offset = body.get("offset").and_then(Json::number).filter(|offset| *offset != 0);
                let offset = offset.map(|offset| format!(" offset {offset}")).unwrap_or_default();
                let modulus = body.get("mod").and_then(Json::number).ok_or("numgen without mod")?;
                Ok(other(format!("numgen {} mod {modulus}{offset}", text(body, "mode")?)))
            }
            "jhash" | "symhash" => self.hash(name, body),
            "osf" => {
                only(body, name, &["key", "ttl"])?;
                let ttl = body.text_at("ttl").map(|ttl| format!("ttl {ttl} ")).unwrap_or_default();
                Ok(other(format!("osf {ttl}{}", text(body, "key")?)))
            }
            "ipsec" => {
                only(body, name, &["key", "family", "dir", "spnum"])?;
                let number = body.get("spnum").and_then(Json::number).filter(|number| *number != 0);
                let number = number.map(|number| format!("spnum {number} ")).unwrap_or_default();
                let family = body.text_at("family").map(|family| format!("{family} ")).unwrap_or_default();
                Ok(other(format!("ipsec {} {number}{family}{}", text(body, "dir")?, text(body, "key")?)))
            }
            "concat" => match body.array() {
                Some([only]) => self.expr(only),
                Some(parts) if !parts.is_empty() => {
                    let mut parts = parts.iter().map(|part| self.expr(part)).collect::<Result<Vec<_>, _>>()?;
                    name_ports(&mut parts);
                    Ok(Expr::Concat(parts))
                }
                _ => Err(format!("expected several keys, found {body}")),
            },
            "&" | "|" | "^" | "<<" | ">>" => self.binary(name, body),
            "map" => Err("a map in a place where its values' kind is not known".into()),
            _ => Err(format!("the unknown expression {name:?}")),
        }
    }

    fn hash(&mut self, name: &str, body: &Json<'_>) -> Result<Expr, Unknown> {
        only(body, name, &["mod", "expr", "seed", "offset"])?;
        let mut words = vec![name.to_owned()];
        if let Some(key) = body.get("expr") {
            let key = self.expr(key)?;
            self.require();
            words.push(nft::expression(&self.known, &key));
        }
        for (part, kind) in [("mod", Kind::Integer(32)), ("seed", Kind::Hex(32)), ("offset", Kind::Integer(32))] {
            let number = body.get(part).and_then(Json::number).filter(|number| *number != 0);
            words.extend(number.map(|number| format!("{part} {}", kind.print(number))));
        }
        Ok(other(words.join(" ")))
    }

    fn word(&mut self, group: &str, name: &str) -> Result<Expr, Unknown> {
        let Some(word) = word(group, name) else { return Err(format!("the unknown key \"{group} {name}\"")) };
        self.need(word.needs);
        Ok(Expr::Field(word.field()))
    }

    fn payload(&mut self, body: &Json<'_>) -> Result<Expr, Unknown> {
        if body.get("base").is_some() {
            return self.raw_payload(body);
        }
        only(body, "payload", &["protocol", "field"])?;
        let (protocol, field) = (text(body, "protocol")?, text(body, "field")?);
        if protocol == "th" {
            let offset = match field {
                "sport" => 0,
                "dport" => 16,
                _ => return Err(format!("the unknown field \"th {field}\"")),
            };
            return Ok(self.known_payload(PayloadBase::Transport, offset, 16));
        }
        self.word(protocol, field)
    }

    fn raw_payload(&mut self, body: &Json<'_>) -> Result<Expr, Unknown> {
        only(body, "payload", &["base", "offset", "len"])?;
        let number = |key: &str| {
            let number = body.get(key).and_then(Json::number).and_then(|number| u32::try_from(number).ok());
            number.ok_or_else(|| format!("a payload without {key}"))
        };
        let base = match text(body, "base")? {
            "ll" => PayloadBase::Link,
            "nh" => PayloadBase::Network,
            "th" => PayloadBase::Transport,
            "ih" => PayloadBase::Inner,
            other => return Err(format!("the unknown payload base {other:?}")),
        };
        Ok(self.known_payload(base, number("offset")?, number("len")?))
    }

    /// Raw bits as the field they are, where the rule makes sure what header they are in.
    fn known_payload(&self, base: PayloadBase, offset: u32, length: u32) -> Expr {
        let place = (offset, length);
        let field = match (base, self.known.ip()) {
            (PayloadBase::Network, Some(Family::Ipv4)) => match place {
                (16, 16) => Some(Field::Ip4Length),
                (32, 16) => Some(Field::Ip4Id),
                (48, 16) => Some(Field::Ip4FragOff),
                (64, 8) => Some(Field::Ip4Ttl),
                (72, 8) => Some(Field::Ip4Protocol),
                (96, 32) => Some(Field::Ip4Saddr),
                (128, 32) => Some(Field::Ip4Daddr),
                _ => None,
            },
            (PayloadBase::Network, Some(Family::Ipv6)) => match place {
                (32, 16) => Some(Field::Ip6Length),
                (48, 8) => Some(Field::Ip6Nexthdr),
                (56, 8) => Some(Field::Ip6Hoplimit),
                (64, 128) => Some(Field::Ip6Saddr),
                (192, 128) => Some(Field::Ip6Daddr),
                _ => None,
            },
            (PayloadBase::Transport, _) => match (self.known.protocol(), place) {
                (_, (0, 16)) if self.known.has_ports() => Some(Field::Sport),
                (_, (16, 16)) if self.known.has_ports() => Some(Field::Dport),
                (Some(Protocol::TCP), (32, 32)) => Some(Field::TcpSequence),
                (Some(Protocol::TCP), (64, 32)) => Some(Field::TcpAckseq),
                (Some(Protocol::TCP), (104, 8)) => Some(Field::TcpFlags),
                (Some(Protocol::TCP), (112, 16)) => Some(Field::TcpWindow),
                (Some(Protocol::UDP), (32, 16)) => Some(Field::UdpLength),
                (Some(Protocol::ICMP), (0, 8)) => Some(Field::IcmpType),
                (Some(Protocol::ICMP), (8, 8)) => Some(Field::IcmpCode),
                (Some(Protocol::ICMPV6), (0, 8)) => Some(Field::Icmp6Type),
                (Some(Protocol::ICMPV6), (8, 8)) => Some(Field::Icmp6Code),
                _ => None,
            },
            _ => None,
        };
        field.map_or(Expr::Payload { base, offset, length }, Expr::Field)
    }

    fn ct(&mut self, body: &Json<'_>) -> Result<Expr, Unknown> {
        only(body, "ct", &["key", "dir", "family"])?;
        let key = text(body, "key")?;
        let Some(direction) = body.text_at("dir") else { return self.word("ct", key) };
        let group = format!("ct {direction}");
        // older listings leave the family of addresses to the table or to a key of its own
        match (key, body.text_at("family"), self.family_of_address()) {
            ("saddr" | "daddr", Some(family), _) => self.word(&group, &format!("{family} {key}")),
            ("saddr" | "daddr", None, Some(family)) => self.word(&group, &format!("{} {key}", family.nft_name())),
            _ => self.word(&group, key),
        }
    }

    /// The family an address without one is of.
    fn family_of_address(&self) -> Option<Family> {
        self.known.ip().or(self.address)
    }

    fn exthdr(&mut self, body: &Json<'_>) -> Result<Expr, Unknown> {
        only(body, "exthdr", &["name", "field"])?;
        self.need(Needs::Ipv6);
        let name = text(body, "name")?;
        match body.text_at("field") {
            None => Ok(other(format!("exthdr {name}"))),
            Some(field) => match word(&format!("exthdr {name}"), field) {
                Some(word) => Ok(Expr::Field(word.field())),
                None => Ok(other(format!("{name} {field}"))),
            },
        }
    }

    fn binary(&mut self, operator: &str, body: &Json<'_>) -> Result<Expr, Unknown> {
        let Some([first, rest @ ..]) = body.array() else {
            return Err(format!("expected operands of {operator:?}, found {body}"));
        };
        if rest.is_empty() {
            return Err(format!("expected two operands of {operator:?}"));
        }
        let mut left = self.expr(first)?;
        let kind = kind_of(&left);
        let combine = match operator {
            "&" => Expr::And,
            "|" => Expr::Or,
            "^" => Expr::Xor,
            "<<" => Expr::Shl,
            _ => Expr::Shr,
        };
        let operand_kind = if matches!(operator, "<<" | ">>") { Kind::Integer(8) } else { kind };
        for operand in rest {
            let right = self.operand(operand, operand_kind)?;
            left = combine(Box::new(left), Box::new(right));
        }
        Ok(left)
    }

    /// A constant of `kind` or an expression.
    pub(super) fn operand(&mut self, json: &Json<'_>, kind: Kind) -> Result<Expr, Unknown> {
        match json.single() {
            Some(("map", body)) => self.map(body, &[kind]),
            Some((name, _)) if !matches!(name, "prefix" | "range") => {
                constant(json, kind).map(Expr::Number).or_else(|_| self.expr(json))
            }
            _ => constant(json, kind).map(Expr::Number),
        }
    }

    /// `KEY map DATA` whose values are of `kinds`.
    pub(super) fn map(&mut self, body: &Json<'_>, kinds: &[Kind]) -> Result<Expr, Unknown> {
        only(body, "map", &["key", "data"])?;
        let key = self.expr(body.get("key").ok_or("a map without key")?)?;
        let data = body.get("data").ok_or("a map without data")?;
        let map = self.set_ref(data, &kinds_of(&key), &super::set::DataKinds::Values(kinds.to_vec()))?;
        Ok(Expr::Map { key: Box::new(key), map })
    }

    /// A named or anonymous set or map.
    pub(super) fn set_ref(
        &mut self,
        json: &Json<'_>,
        kinds: &[Kind],
        data: &super::set::DataKinds,
    ) -> Result<SetRef, Unknown> {
        if let Some(name) = json.text().and_then(|text| text.strip_prefix('@')) {
            return Ok(SetRef::Named(name.into()));
        }
        let Some(("set", body)) = json.single() else {
            return Err(format!("expected a set, found {json}"));
        };
        let items = body.array().unwrap_or(std::slice::from_ref(body));
        let mut elements = Elements::new(kinds.len());
        for item in items {
            super::set::element(&mut elements, item, kinds, data)?;
        }
        Ok(SetRef::Anonymous(Box::new(elements)))
    }

    /// A `match` statement. What it requires is in `self.needs` even when it is not understood.
    pub(super) fn condition(&mut self, body: &Json<'_>) -> Result<Match, Unknown> {
        only(body, "match", &["op", "left", "right"])?;
        let operator = text(body, "op")?;
        let left = body.get("left").ok_or("a match without left")?;
        let right = body.get("right").ok_or("a match without right")?;
        self.address = first_text(right).and_then(parse_address).map(|(_, kind)| match kind {
            Kind::Ipv4 => Family::Ipv4,
            _ => Family::Ipv6,
        });
        let mut left = self.expr(left)?;
        if let (Expr::Fib(fib), true) = (&mut left, contains_bool(right)) {
            fib.result = FibResult::Present;
        }
        if let ([kind], Some(names)) = (kinds_of(&left).as_slice(), host_names(right))
            && kind.named_by_host()
            && names.iter().any(|name| kind.parse(name).is_none())
        {
            let key = nft::expression(&self.known, &left);
            let operator = if operator == "==" { String::new() } else { format!("{operator} ") };
            let text = format!("{key} {operator}{}", listed_names(&names, right)).into();
            return Ok(Match::Opaque { kind: OpaqueKind::Property, text });
        }
        let condition = self.compare(operator, left, right)?;
        Ok(stateful(condition))
    }

    fn compare(&mut self, operator: &str, left: Expr, right: &Json<'_>) -> Result<Match, Unknown> {
        let kinds = kinds_of(&left);
        let negate = operator == "!=";
        let membership = matches!(operator, "==" | "!=" | "in");
        let is_set = matches!(right.single(), Some(("set", _))) || right.text().is_some_and(|t| t.starts_with('@'));
        if is_set && membership {
            let set = self.set_ref(right, &kinds, &super::set::DataKinds::None)?;
            return Ok(Match::Lookup { left, negate, set });
        }
        let [kind] = kinds.as_slice() else {
            if !membership || operator == "in" {
                return Err(format!("the operator {operator:?} on several keys"));
            }
            let mut elements = Elements::new(kinds.len());
            elements.push(&key(right, &kinds)?, None, None);
            return Ok(Match::Lookup { left, negate, set: SetRef::Anonymous(Box::new(elements)) });
        };
        let right = match right.single() {
            Some(("concat", Json::Array(parts))) if parts.len() == 1 => parts.first().unwrap_or(right),
            _ => right,
        };
        let compared = match interval(right, *kind) {
            Ok(Interval { low, high }) if low == high => Expr::Number(low),
            Ok(interval) if matches!(operator, "==" | "!=") => {
                let set = SetRef::Anonymous(Box::new(Elements::from_intervals([interval])));
                return Ok(Match::Lookup { left, negate, set });
            }
            Ok(_) => return Err(format!("the operator {operator:?} with a range")),
            Err(why) => match right.single() {
                Some((name, _)) if !matches!(name, "prefix" | "range") => self.expr(right).map_err(|_| why)?,
                _ => return Err(why),
            },
        };
        let operator = match operator {
            "==" => Operator::Eq,
            "!=" => Operator::Ne,
            "<" => Operator::Lt,
            ">" => Operator::Gt,
            "<=" => Operator::Le,
            ">=" => Operator::Ge,
            "in" => Operator::AnyBit,
            "!" => Operator::NoBit,
            other => return Err(format!("the unknown operator {other:?}")),
        };
        Ok(Match::Compare { left, operator, right: compared })
    }

    /// Kind of an address given as text, or of the table's family.
    pub(super) fn address_kind(&self, json: &Json<'_>, family: Option<&str>) -> Kind {
        match (family, self.known.ip(), first_text(json).and_then(parse_address)) {
            (Some("ip"), _, _) | (None, Some(Family::Ipv4), _) => Kind::Ipv4,
            (Some("ip6"), _, _) | (None, Some(Family::Ipv6), _) => Kind::Ipv6,
            (_, _, Some((_, kind))) => kind,
            _ => Kind::Ipv4,
        }
    }
}

/// `meta l4proto . th dport`: the protocol beside it says whether there are ports.
fn name_ports(parts: &mut [Expr]) {
    if !parts.iter().any(|part| matches!(part, Expr::Field(Field::L4proto | Field::Ip4Protocol))) {
        return;
    }
    for part in parts {
        match part {
            Expr::Payload { base: PayloadBase::Transport, offset: 0, length: 16 } => *part = Expr::Field(Field::Sport),
            Expr::Payload { base: PayloadBase::Transport, offset: 16, length: 16 } => *part = Expr::Field(Field::Dport),
            _ => {}
        }
    }
}

/// The words of a constant or of an anonymous set.
fn host_names<'j>(right: &'j Json<'_>) -> Option<Vec<&'j str>> {
    match right.single() {
        Some(("set", set)) => set.words(),
        _ => right.text().filter(|text| !text.starts_with('@')).map(|text| vec![text]),
    }
}

fn listed_names(names: &[&str], right: &Json<'_>) -> String {
    let quoted: Vec<String> = names.iter().map(|name| nft::quoted(name)).collect();
    if right.text().is_some() { quoted.concat() } else { format!("{{ {} }}", quoted.join(", ")) }
}

/// The first text inside.
fn first_text<'j>(json: &'j Json<'_>) -> Option<&'j str> {
    match json {
        Json::Text(text) => Some(text),
        Json::Array(items) => items.iter().find_map(first_text),
        Json::Object(fields) => fields.iter().find_map(|(_, value)| first_text(value)),
        _ => None,
    }
}

fn contains_bool(json: &Json<'_>) -> bool {
    match json {
        Json::Bool(_) => true,
        Json::Object(_) => match json.single() {
            Some(("concat" | "set", inner)) => contains_bool(inner),
            _ => false,
        },
        Json::Array(items) => items.iter().any(contains_bool),
        _ => false,
    }
}

pub(super) fn text<'j>(json: &'j Json<'_>, key: &str) -> Result<&'j str, Unknown> {
    json.text_at(key).ok_or_else(|| format!("expected a text at {key:?} in {json}"))
}

pub(super) fn other(text: String) -> Expr {
    Expr::Field(Field::Other(text.into()))
}

fn header_option(kind: &str, body: &Json<'_>) -> Result<Expr, Unknown> {
    if body.get("base").is_some() {
        only(body, kind, &["base", "offset", "len"])?;
        let number = |key: &str| body.get(key).and_then(Json::number).ok_or_else(|| format!("{kind} without {key}"));
        let (base, offset, length) = (number("base")?, number("offset")?, number("len")?);
        // asked for its first byte, the option's own number: whether it is there
        return Ok(other(match (offset, length) {
            (0, 8) | (_, 0) => format!("{kind} {base}"),
            _ => format!("{kind} @{base},{offset},{length}"),
        }));
    }
    only(body, kind, &["name", "type", "field"])?;
    let name = match body.get("type").and_then(Json::number) {
        Some(number) => number.to_string(),
        None => text(body, "name")?.to_owned(),
    };
    Ok(other(match body.text_at("field") {
        Some(field) => format!("{kind} {name} {field}"),
        None => format!("{kind} {name}"),
    }))
}

fn fib(body: &Json<'_>) -> Result<Expr, Unknown> {
    only(body, "fib", &["result", "flags"])?;
    let result = match text(body, "result")? {
        "type" => FibResult::Type,
        "oif" => FibResult::Oif,
        "oifname" => FibResult::Oifname,
        "check" => FibResult::Present,
        other => return Err(format!("the unknown fib result {other:?}")),
    };
    let mut field = FibField { source: false, mark: false, iif: false, oif: false, result };
    let flags = body.get("flags").and_then(Json::words).ok_or("fib without flags")?;
    for flag in flags {
        match flag {
            "saddr" => field.source = true,
            "daddr" => {}
            "mark" => field.mark = true,
            "iif" => field.iif = true,
            "oif" => field.oif = true,
            other => return Err(format!("the unknown fib flag {other:?}")),
        }
    }
    Ok(Expr::Fib(field))
}

/// Conditions that answer anew each time they are asked.
fn stateful(condition: Match) -> Match {
    let left = match &condition {
        Match::Compare { left, .. } | Match::Lookup { left, .. } => left,
        _ => return condition,
    };
    if !mentions_chance(left) {
        return condition;
    }
    let text = nft::condition(Family::Inet, &condition);
    Match::Opaque { kind: OpaqueKind::Stateful, text: text.into() }
}

fn mentions_chance(expr: &Expr) -> bool {
    match expr {
        Expr::Field(Field::Random) => true,
        Expr::Field(Field::Other(text)) => text.starts_with("numgen"),
        Expr::Concat(parts) => parts.iter().any(mentions_chance),
        Expr::And(a, b) | Expr::Or(a, b) | Expr::Xor(a, b) | Expr::Shl(a, b) | Expr::Shr(a, b) => {
            mentions_chance(a) || mentions_chance(b)
        }
        Expr::Map { key, .. } => mentions_chance(key),
        _ => false,
    }
}

/// Kinds of a `typeof` expression.
pub(super) fn kinds_of_typeof(json: &Json<'_>, family: Family) -> Result<Vec<Kind>, Unknown> {
    let mut reader = RuleReader::new(family);
    let expr = reader.expr(json)?;
    Ok(kinds_of(&expr))
}
