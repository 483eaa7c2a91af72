//! Named sets and maps, and elements of anonymous ones.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, SeqAccess, Visitor};

use super::Reader;
use super::expr::{Unknown, key, kinds_of_typeof};
use super::json::{Fields, Json};
use super::statement::verdict;
use crate::diagnostic::Level;
use crate::packet::Family;
use crate::ruleset::nft_words::Kind;
use crate::ruleset::nft_words::kind_of_type;
use crate::ruleset::{Data, DataType, ElementExtra, Elements, Set, SetKind};

/// What hangs on the elements of a set.
pub(super) enum DataKinds {
    /// Nothing: a set.
    None,
    /// Verdicts.
    Verdict,
    /// Values of these kinds.
    Values(Vec<Kind>),
    /// Names of objects.
    Object,
}

/// Adds one element of a listing: `value`, `{"elem": …}`, or `[key, data]` for maps.
pub(super) fn element(
    elements: &mut Elements,
    json: &Json<'_>,
    kinds: &[Kind],
    data_kinds: &DataKinds,
) -> Result<(), Unknown> {
    let (key_json, data) = match (data_kinds, json) {
        (DataKinds::None, _) => (json, None),
        (_, Json::Array(pair)) => match pair.as_slice() {
            [key, data] => (key, Some(self::data(data, data_kinds)?)),
            _ => return Err(format!("expected key and data, found {json}")),
        },
        _ => return Err(format!("expected key and data, found {json}")),
    };
    let (value, extra) = match key_json.single() {
        Some(("elem", body)) => (body.get("val").ok_or("an element without val")?, Some(extra(body)?)),
        _ => (key_json, None),
    };
    if value.text() == Some("*") {
        elements.set_catch_all(data.unwrap_or(Data::Object("".into())));
        return Ok(());
    }
    let key = key(value, kinds)?;
    if elements.push(&key, data, extra) { Ok(()) } else { Err(format!("the element {json} has another shape")) }
}

fn extra(body: &Json<'_>) -> Result<ElementExtra, Unknown> {
    let mut extra = ElementExtra {
        expires: body.get("expires").and_then(Json::number).and_then(|seconds| u64::try_from(seconds).ok()),
        comment: body.text_at("comment").map(Into::into),
        ..ElementExtra::default()
    };
    let Json::Object(fields) = body else { return Err(format!("expected an element, found {body}")) };
    let mut other = Vec::new();
    for (name, value) in fields {
        match &**name {
            "val" | "expires" | "comment" => {}
            "timeout" => other.push(format!("timeout {value}s")),
            "counter" => other.push(format!("counter {value}")),
            // limits and quotas refuse hits; so may what nobody knows
            _ => {
                extra.stateful = true;
                other.push(format!("{name} {value}"));
            }
        }
    }
    extra.other = (!other.is_empty()).then(|| other.join(" ").into());
    Ok(extra)
}

fn data(json: &Json<'_>, kinds: &DataKinds) -> Result<Data, Unknown> {
    match kinds {
        DataKinds::None => Err(format!("data {json} in a set without data")),
        DataKinds::Verdict => verdict(json).map(Data::Verdict),
        DataKinds::Values(kinds) => key(json, kinds).map(Data::Value),
        DataKinds::Object => match json.text() {
            Some(name) => Ok(Data::Object(name.into())),
            None => Err(format!("expected an object's name, found {json}")),
        },
    }
}

/// Type names, or expressions, of a set's dimensions.
struct Types {
    kinds: Vec<Kind>,
    names: Vec<DataType>,
}

/// `"ipv4_addr"`, `"ipv4_addr . inet_service"`, `["ipv4_addr", "inet_service"]` or `{"typeof": …}`.
fn types(json: &Json<'_>, family: Family) -> Result<Types, Unknown> {
    if let Some(("typeof", expr)) = json.single() {
        let expr = match expr {
            Json::Array(parts) => &Json::Object(vec![("concat".into(), Json::Array(parts.clone()))]),
            expr => expr,
        };
        let kinds = kinds_of_typeof(expr, family)?;
        return Ok(Types { names: kinds.iter().map(|kind| type_of_kind(*kind)).collect(), kinds });
    }
    let names: Vec<&str> = json
        .words()
        .ok_or_else(|| format!("expected a data type, found {json}"))?
        .into_iter()
        .flat_map(|word| word.split(" . "))
        .collect();
    let kinds = names
        .iter()
        .map(|name| kind_of_type(name).ok_or_else(|| format!("the unknown data type {name:?}")))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Types { kinds, names: names.into_iter().map(data_type).collect() })
}

fn data_type(name: &str) -> DataType {
    match name {
        "ipv4_addr" => DataType::Ipv4Addr,
        "ipv6_addr" => DataType::Ipv6Addr,
        "inet_proto" => DataType::InetProto,
        "inet_service" => DataType::InetService,
        "ifname" => DataType::Ifname,
        "mark" => DataType::Mark,
        "ct_state" => DataType::CtState,
        "ether_addr" => DataType::EtherAddr,
        "ether_type" => DataType::EtherType,
        "icmp_type" => DataType::IcmpType,
        "icmpv6_type" => DataType::Icmpv6Type,
        "integer" => DataType::Integer,
        other => DataType::Other(other.into()),
    }
}

fn type_of_kind(kind: Kind) -> DataType {
    use crate::ruleset::nft_words::names;
    match kind {
        Kind::Ipv4 => DataType::Ipv4Addr,
        Kind::Ipv6 => DataType::Ipv6Addr,
        Kind::Protocol => DataType::InetProto,
        Kind::Port => DataType::InetService,
        Kind::Interface => DataType::Ifname,
        Kind::Mark => DataType::Mark,
        Kind::Ether => DataType::EtherAddr,
        Kind::Names(list) if std::ptr::eq(list, &raw const names::CT_STATE) => DataType::CtState,
        Kind::Names(list) if std::ptr::eq(list, &raw const names::ETHER_TYPE) => DataType::EtherType,
        Kind::Names(list) if std::ptr::eq(list, &raw const names::ICMP_TYPE) => DataType::IcmpType,
        Kind::Names(list) if std::ptr::eq(list, &raw const names::ICMP6_TYPE) => DataType::Icmpv6Type,
        _ => DataType::Integer,
    }
}

impl<'a> Reader<'a> {
    /// A `set` or `map` object.
    pub(super) fn set(&mut self, fields: &Fields<'a>, map: bool) {
        let word = if map { "map" } else { "set" };
        let Some(table) = self.owner(fields, word) else { return };
        let Some(name) = fields.text("name") else {
            self.remarks.add(Level::Error, self.place, format!("a {word} without a name; what it holds is unknown"));
            return;
        };
        let family = self.tables.get(table).map_or(Family::Inet, |table| table.family);
        let types = fields.json("type").ok_or_else(|| "no data type".to_owned()).and_then(|json| types(&json, family));
        let data = if map { data_kinds(fields, family) } else { Ok(DataKinds::None) };
        let flags = fields.json("flags");
        let flags = flags.as_ref().and_then(Json::words).unwrap_or_default().into_iter().map(Into::into).collect();
        let size = fields.json("size").and_then(|size| size.number()).and_then(|size| u64::try_from(size).ok());
        let mut set = Set {
            name: (&*name).into(),
            family: None,
            kind: SetKind::Nft { map, flags, size },
            key: Vec::new(),
            elements: Elements::default(),
            member_sets: Vec::new(),
            incomplete: None,
            without_exceptions: false,
            source: self.source.clone(),
            line: self.place.line,
        };
        match (types, data) {
            (Ok(types), Ok(data)) => {
                set.family = if types.names.contains(&DataType::Ipv4Addr) {
                    Some(Family::Ipv4)
                } else {
                    types.names.contains(&DataType::Ipv6Addr).then_some(Family::Ipv6)
                };
                set.elements = Elements::new(types.kinds.len());
                set.key = types.names;
                let bad = self.elements(fields, &mut set.elements, &types.kinds, &data);
                self.complain(&mut set, word, bad);
            }
            (Err(why), _) | (_, Err(why)) => {
                set.elements = Elements::new(1);
                self.warn(format!("{word} {name}: {why}; its contents are unknown"));
                set.incomplete = Some(why.into());
            }
        }
        let known = [
            "family",
            "table",
            "name",
            "handle",
            "type",
            "map",
            "flags",
            "elem",
            "timeout",
            "size",
            "gc-interval",
            "auto-merge",
            "comment",
            "policy",
            "stmt",
            "count",
        ];
        self.surface(word, fields, &known);
        let Some(table) = self.tables.get_mut(table) else { return };
        // a listing without contents (`nft -t`) may come first, those of single sets behind it
        match table.sets.iter_mut().find(|known| known.name == set.name).filter(|_| self.listing > 0) {
            Some(known) => *known = set,
            None => table.sets.push(set),
        }
    }

    fn complain(&mut self, set: &mut Set, word: &str, bad: Bad) {
        if let Some(first) = bad.first {
            let message = format!(
                "{word} {}: {} of its elements could not be read, the first because of {first}; its contents are incomplete",
                set.name, bad.count
            );
            self.warn(message);
            set.incomplete = Some(first.into());
        }
    }

    /// Reads the elements one by one.
    fn elements(&mut self, fields: &Fields<'a>, into: &mut Elements, kinds: &[Kind], data: &DataKinds) -> Bad {
        let mut bad = Bad::default();
        let Some(raw) = fields.raw("elem") else { return bad };
        let mut deserializer = serde_json::Deserializer::from_str(raw.get());
        let visit = ElementList { into, kinds, data, bad: &mut bad };
        if let Err(error) = visit.deserialize(&mut deserializer) {
            bad.add(error.to_string());
        }
        bad
    }
}

fn data_kinds(fields: &Fields<'_>, family: Family) -> Result<DataKinds, Unknown> {
    let json = fields.json("map").ok_or("no type of its data")?;
    match json.text() {
        Some("verdict") => Ok(DataKinds::Verdict),
        Some(
            "counter" | "quota" | "limit" | "ct helper" | "ct timeout" | "ct expectation" | "secmark" | "synproxy"
            | "tunnel",
        ) => Ok(DataKinds::Object),
        _ => types(&json, family).map(|types| DataKinds::Values(types.kinds)),
    }
}

/// Elements that could not be read.
#[derive(Default)]
struct Bad {
    count: usize,
    first: Option<String>,
}

impl Bad {
    fn add(&mut self, why: String) {
        self.count += 1;
        self.first.get_or_insert(why);
    }
}

struct ElementList<'s> {
    into: &'s mut Elements,
    kinds: &'s [Kind],
    data: &'s DataKinds,
    bad: &'s mut Bad,
}

impl<'de> DeserializeSeed<'de> for ElementList<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ElementList<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of elements")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while let Some(item) = items.next_element::<Json<'de>>()? {
            if let Err(why) = element(self.into, &item, self.kinds, self.data) {
                self.bad.add(why);
            }
        }
        Ok(())
    }
}
