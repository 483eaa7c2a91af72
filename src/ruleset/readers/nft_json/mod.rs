//! `nft -j list ruleset` into tables.
//!
//! The listing is read one object at a time, so that a listing cut in half still gives everything before the cut, and a huge
//! one costs no more memory than its largest object. Nothing here fails as a whole: an unknown statement or expression
//! becomes an opaque step of its rule, an unknown kind of object a line of [`Table::other`].
//!
//! What listings leave unsaid is said again: `tcp dport 22` of an `inet` table becomes two conditions, `meta l4proto tcp`
//! and the port (nft drops what it can derive when it prints). `iif`/`oif` are listed by interface *name*, so their values
//! are [`crate::ruleset::interface_number`]s; a bare index is an interface that is gone and equals no name.
//!
//! `th dport` names no protocol: the kernel compares bytes 2 and 3 of whatever transport header there is. It is
//! [`Field::Dport`](crate::ruleset::Field::Dport) where the rule makes sure that there are ports, else
//! [`Expr::Payload`](crate::ruleset::Expr::Payload).

mod counting;
mod expr;
mod json;
mod remarks;
mod rule;
mod set;
mod statement;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::diagnostic::{Level, Parsed};
use crate::packet::{Family, Hook};
use crate::ruleset::second_opinion::FLAG_UNKNOWN;
use crate::ruleset::{Backend, BaseChain, Chain, ChainKind, Flowtable, Name, Policy, Rules, Table};
use json::{Fields, Json, Key};
use remarks::{Place, Remarks};

/// Reads a JSON listing. Everything understood is in `value`; what was not is in the diagnostics, and where it could matter
/// as an opaque step in its rule.
///
/// An empty text or one without nft's `metainfo` is an error, never "no rules".
#[must_use]
pub fn read(source: &Arc<str>, text: &[u8]) -> Parsed<Vec<Table>> {
    let mut remarks = Remarks::new(source);
    let decoded = String::from_utf8_lossy(text);
    if let Cow::Owned(_) = decoded {
        remarks.add(
            Level::Warning,
            Place::default(),
            "the listing is not valid UTF-8; bad bytes were replaced, names with them may not match",
        );
    }
    let mut reader = Reader::new(source, &decoded, remarks);
    reader.run();
    reader.remarks.with(reader.tables)
}

/// State while reading one listing.
struct Reader<'a> {
    text: &'a str,
    source: Name,
    remarks: Remarks,
    tables: Vec<Table>,
    table_index: HashMap<(Family, String), usize>,
    chain_index: HashMap<(usize, String), usize>,
    /// nft's version; `None` before `metainfo` was seen or when it cannot be read.
    version: Option<Vec<u32>>,
    metainfo: bool,
    list_seen: bool,
    /// Which of several listings in one text is being read.
    listing: usize,
    /// The listing each chain was announced in, by table and chain.
    announced: HashMap<(usize, usize), usize>,
    /// Place of the object being read, and the offset where line counting stopped.
    place: Place,
    counted: usize,
    line_start: usize,
    line: u32,
}

impl<'a> Reader<'a> {
    fn new(source: &Arc<str>, text: &'a str, remarks: Remarks) -> Self {
        Self {
            text,
            source: Arc::clone(source),
            remarks,
            tables: Vec::new(),
            table_index: HashMap::new(),
            chain_index: HashMap::new(),
            version: None,
            metainfo: false,
            list_seen: false,
            listing: 0,
            announced: HashMap::new(),
            place: Place::default(),
            counted: 0,
            line_start: 0,
            line: 1,
        }
    }

    fn run(&mut self) {
        if self.text.trim().is_empty() {
            self.remarks.add(
                Level::Error,
                Place::default(),
                "the listing is empty: nft prints at least its metainfo, so the firewall's state is unknown; run \
                 `nft -j list ruleset` again and look at its exit status",
            );
            return;
        }
        let mut deserializer = serde_json::Deserializer::from_str(self.text);
        // listings of pieces (tables, chains, sets) may stand one after the other
        let result = loop {
            let read = (&mut deserializer).deserialize_map(Top(self));
            if read.is_err() || deserializer.end().is_ok() {
                break read;
            }
            self.listing += 1;
        };
        if let Err(error) = result {
            let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
            let place = Place { line: number(error.line()), column: number(error.column()) };
            let count =
                self.tables.iter().flat_map(|table| &table.chains).map(|chain| chain.rules.len()).sum::<usize>();
            let what =
                if error.is_eof() { "the listing ends in the middle (cut off?)" } else { "this is not JSON of nft" };
            self.remarks.add(
                Level::Error,
                place,
                format!("{what}: {error}; only what comes before was read ({count} rules), list the ruleset again"),
            );
        } else if !self.list_seen {
            let message = "expected an object with the key \"nftables\", as `nft -j list ruleset` prints";
            self.remarks.add(Level::Error, Place::default(), message);
            return;
        }
        if !self.metainfo {
            self.remarks.add(
                Level::Error,
                Place::default(),
                "nft's metainfo is missing: this is not a whole listing, so the firewall's state is unknown",
            );
        }
    }

    /// Takes the place of an object from where its text lies in the input.
    fn locate(&mut self, raw: &RawValue) {
        let offset = raw.get().as_ptr().addr().wrapping_sub(self.text.as_ptr().addr());
        let Some(between) = self.text.as_bytes().get(self.counted..offset) else { return };
        for newline in memchr::memchr_iter(b'\n', between) {
            self.line = self.line.saturating_add(1);
            self.line_start = self.counted + newline + 1;
        }
        self.counted = offset;
        let column = u32::try_from(offset - self.line_start + 1).unwrap_or(u32::MAX);
        self.place = Place { line: self.line, column };
    }

    fn warn(&mut self, message: impl Into<String>) {
        self.remarks.add(Level::Warning, self.place, message);
    }

    /// One object of the list.
    fn object(&mut self, kind: &str, raw: &'a RawValue) {
        self.locate(raw);
        let fields = match Fields::split(raw) {
            Ok(fields) => fields,
            Err(why) => {
                let message = format!("cannot read this {kind}: {why}; what it does is unknown");
                self.remarks.add(Level::Error, self.place, message);
                return;
            }
        };
        match kind {
            "metainfo" => self.metainfo(&fields),
            "table" => self.table(&fields),
            "chain" => self.chain(&fields),
            "rule" => self.rule(&fields),
            "set" | "map" => self.set(&fields, kind == "map"),
            "flowtable" => self.flowtable(&fields),
            _ => self.other(kind, &fields, raw),
        }
    }

    fn metainfo(&mut self, fields: &Fields<'_>) {
        self.metainfo = true;
        let version = fields.text("version").unwrap_or_default();
        let numbers: Vec<u32> =
            version.split('.').map_while(|part| part.split(['-', '~', '+']).next()?.parse().ok()).collect();
        self.version = (numbers.len() >= 2).then_some(numbers);
        let schema = fields.json("json_schema_version").and_then(|json| json.number());
        if schema.is_some_and(|schema| schema != 1) {
            self.warn(
                "the listing has a newer JSON schema than 1; parts of it may be misread, check for a newer hepguard",
            );
        }
    }

    /// Whether nft is older than 1.1.0, which printed whatever lay in freed memory as table flags.
    fn lies_about_flags(&self) -> bool {
        self.version.as_deref().is_none_or(|version| version < [1, 1].as_slice())
    }

    fn table(&mut self, fields: &Fields<'_>) {
        let (Some(family), Some(name)) = (self.family(fields, "table"), fields.text("name")) else {
            self.remarks.add(Level::Error, self.place, "a table without family or name; it cannot be placed");
            return;
        };
        let (mut dormant, mut unknown) = (false, false);
        if let Some(flags) = fields.json("flags") {
            if self.lies_about_flags() {
                unknown = true;
                self.warn(format!(
                    "table {} {name} has a flag that nft before 1.1.0 cannot print: it may be dormant (without effect); \
                     check with `nft list table {} {name}`",
                    family.nft_name(),
                    family.nft_name()
                ));
            } else {
                let words = flags.words().unwrap_or_default();
                dormant = words.contains(&"dormant");
                if words.is_empty() || words.iter().any(|word| !["dormant", "owner", "persist"].contains(word)) {
                    unknown = words.is_empty();
                    self.warn(format!("table {} {name}: flags {flags} are not known", family.nft_name()));
                }
            }
        }
        let index = self.table_at(family, &name);
        if let Some(table) = self.tables.get_mut(index) {
            table.dormant |= dormant;
            if unknown {
                table.other.push(format!("{FLAG_UNKNOWN} nft before 1.1.0 cannot print it").into());
            }
        }
        self.surface("table", fields, &["family", "name", "handle", "flags", "comment"]);
    }

    /// The family of an object, with a remark when it is none.
    fn family(&mut self, fields: &Fields<'_>, kind: &str) -> Option<Family> {
        let name = fields.text("family")?;
        let family = Family::from_nft_name(&name);
        if family.is_none() {
            self.warn(format!("{kind}: the family {name:?} is not known"));
        }
        family
    }

    /// Index of a table, made when it was not announced.
    fn table_at(&mut self, family: Family, name: &str) -> usize {
        if let Some(index) = self.table_index.get(&(family, name.to_owned())) {
            return *index;
        }
        let index = self.tables.len();
        self.tables.push(Table {
            backend: Backend::Nft,
            family,
            name: name.into(),
            dormant: false,
            chains: Vec::new(),
            sets: Vec::new(),
            source: Arc::clone(&self.source),
            flowtables: Vec::new(),
            other: Vec::new(),
        });
        self.table_index.insert((family, name.to_owned()), index);
        index
    }

    /// The table an object says it belongs to.
    fn owner(&mut self, fields: &Fields<'_>, kind: &str) -> Option<usize> {
        let family = self.family(fields, kind);
        match (family, fields.text("table")) {
            (Some(family), Some(table)) => Some(self.table_at(family, &table)),
            _ => {
                let message = format!("this {kind} does not say its family and table; what it does is unknown");
                self.remarks.add(Level::Error, self.place, message);
                None
            }
        }
    }

    /// Index of a chain of a table, made when it was not announced.
    fn chain_at(&mut self, table: usize, name: &str) -> Option<usize> {
        if let Some(index) = self.chain_index.get(&(table, name.to_owned())) {
            return Some(*index);
        }
        let chains = &mut self.tables.get_mut(table)?.chains;
        let index = chains.len();
        chains.push(Chain { name: name.into(), base: None, rules: Rules::default(), line: self.place.line });
        self.chain_index.insert((table, name.to_owned()), index);
        Some(index)
    }

    fn chain(&mut self, fields: &Fields<'_>) {
        let Some(table) = self.owner(fields, "chain") else { return };
        let Some(name) = fields.text("name") else {
            self.remarks.add(Level::Error, self.place, "a chain without a name; what it does is unknown");
            return;
        };
        let family = self.tables.get(table).map_or(Family::Inet, |table| table.family);
        let base = self.base_chain(fields, &name, family);
        let Some(index) = self.chain_at(table, &name) else { return };
        let listing = self.listing;
        if self.announced.insert((table, index), listing).is_some_and(|before| before != listing) {
            let message = format!("chain {name} is listed twice, its rules are here twice: give each listing once");
            self.remarks.add(Level::Error, self.place, message);
        }
        let line = self.place.line;
        if let Some(chain) = self.tables.get_mut(table).and_then(|table| table.chains.get_mut(index)) {
            chain.base = base.or(chain.base.take());
            chain.line = line;
        }
        let known = ["family", "table", "name", "handle", "type", "hook", "prio", "policy", "dev", "comment", "flags"];
        self.surface("chain", fields, &known);
    }

    fn base_chain(&mut self, fields: &Fields<'_>, name: &str, family: Family) -> Option<BaseChain> {
        let hook_name = fields.text("hook")?;
        let Some(hook) = Hook::from_name(&hook_name) else {
            let message =
                format!("chain {name}: the hook {hook_name:?} is not known, so the chain is never reached here");
            self.remarks.add(Level::Error, self.place, message);
            return None;
        };
        let kind_name = fields.text("type").unwrap_or_default();
        let kind = match &*kind_name {
            "filter" => ChainKind::Filter,
            "nat" => ChainKind::Nat,
            "route" => ChainKind::Route,
            other => {
                self.warn(format!("chain {name}: the type {other:?} is not known, read as filter"));
                ChainKind::Filter
            }
        };
        let priority = fields.json("prio").and_then(|json| priority(&json, family)).unwrap_or_else(|| {
            self.warn(format!("chain {name}: expected a priority (a number or a name such as filter), read as 0"));
            0
        });
        let policy = match fields.text("policy").as_deref() {
            Some("drop") => Policy::Drop,
            Some("accept") | None => Policy::Accept,
            Some(other) => {
                let message = format!("chain {name}: the policy {other:?} is not known, read as accept");
                self.remarks.add(Level::Error, self.place, message);
                Policy::Accept
            }
        };
        let devices = devices(fields);
        Some(BaseChain { kind, hook, priority, policy, devices })
    }

    fn flowtable(&mut self, fields: &Fields<'_>) {
        let Some(table) = self.owner(fields, "flowtable") else { return };
        let flowtable =
            Flowtable { name: fields.text("name").unwrap_or_default().as_ref().into(), devices: devices(fields) };
        if let Some(table) = self.tables.get_mut(table) {
            table.flowtables.push(flowtable);
        }
    }

    /// Objects the model has no place for: kept as text.
    fn other(&mut self, kind: &str, fields: &Fields<'_>, raw: &RawValue) {
        const KNOWN: [&str; 11] = [
            "counter",
            "quota",
            "limit",
            "ct helper",
            "ct timeout",
            "ct expectation",
            "secmark",
            "synproxy",
            "tunnel",
            "element",
            "hook",
        ];
        if !KNOWN.contains(&kind) {
            self.warn(format!("objects of kind {kind:?} are not known; it is kept as text only"));
        }
        let Some(table) = self.owner(fields, kind) else { return };
        let text = match serde_json::from_str::<Json<'_>>(raw.get()) {
            Ok(json) => format!("{kind} {json}"),
            Err(_) => format!("{kind} {}", raw.get()),
        };
        if let Some(table) = self.tables.get_mut(table) {
            table.other.push(text.into());
        }
    }

    /// Says once which fields of a known kind of object nobody looked at.
    fn surface(&mut self, kind: &str, fields: &Fields<'_>, known: &[&str]) {
        for name in fields.unknown(known) {
            let message = format!("{kind}: the field {name:?} is not known and was not looked at");
            self.remarks.add_once(Level::Warning, self.place, message);
        }
    }
}

/// A chain priority: a number, or a name with an optional offset (`mangle`, `filter + 10`, `dstnat - 5`).
fn priority(json: &Json<'_>, family: Family) -> Option<i32> {
    if let Json::Number(number) = json {
        return i32::try_from(*number).ok();
    }
    let text = json.text()?.trim();
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let end = text.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(text.len());
    let (name, offset) = text.split_at_checked(end)?;
    let base: i32 = match (family, name) {
        (Family::Bridge, "dstnat") => -300,
        (Family::Bridge, "filter") => -200,
        (Family::Bridge, "out") => 100,
        (Family::Bridge, "srcnat") => 300,
        (_, "raw") => -300,
        (_, "mangle") => -150,
        (_, "dstnat") => -100,
        (_, "filter") => 0,
        (_, "security") => 50,
        (_, "srcnat") => 100,
        _ => return None,
    };
    let offset: String = offset.chars().filter(|c| !c.is_whitespace()).collect();
    if offset.is_empty() {
        return Some(base);
    }
    base.checked_add(offset.strip_prefix('+').unwrap_or(&offset).parse().ok()?)
}

/// Visits the outermost object.
struct Top<'r, 'a>(&'r mut Reader<'a>);

impl<'a> Visitor<'a> for Top<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with the key \"nftables\"")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Key(key)) = map.next_key()? {
            if key == "nftables" {
                self.0.list_seen = true;
                map.next_value_seed(List(&mut *self.0))?;
            } else {
                map.next_value::<IgnoredAny>()?;
                let message = format!("the listing has the unknown key {key:?}, which was not looked at");
                self.0.remarks.add_once(Level::Note, Place::default(), message);
            }
        }
        Ok(())
    }
}

/// Visits the list of objects.
struct List<'r, 'a>(&'r mut Reader<'a>);

impl<'a> DeserializeSeed<'a> for List<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'a> Visitor<'a> for List<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of tables, chains and rules")
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut items: A) -> Result<(), A::Error> {
        while let Some(raw) = items.next_element::<&'a RawValue>()? {
            self.0.item(raw);
        }
        Ok(())
    }
}

impl<'a> Reader<'a> {
    /// One item of the list: an object with one key, its kind.
    fn item(&mut self, raw: &'a RawValue) {
        match Fields::split(raw).map(Fields::into_single) {
            Ok(Some((kind, body))) => self.object(&kind, body),
            _ => {
                self.locate(raw);
                let message = "expected an object with one key, such as {\"rule\": …}; it was not read";
                self.remarks.add(Level::Error, self.place, message);
            }
        }
    }
}

/// Devices of a base chain or flowtable; none where the listing does not tell.
fn devices(fields: &Fields<'_>) -> Vec<Box<str>> {
    let devices = fields.json("dev");
    let devices = devices.as_ref().and_then(Json::words).unwrap_or_default();
    devices.into_iter().map(Into::into).collect()
}
