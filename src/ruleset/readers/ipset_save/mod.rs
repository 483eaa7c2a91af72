//! `ipset save`, and the restore files people write for it.
//!
//! A set has one key dimension more than its type names for each `port`: protocol and service. For ICMP and ICMPv6 the
//! service number is `type << 8 | code`, and 0 for protocols without ports, as the kernel has it. A `bitmap:port` entry holds
//! for TCP and UDP and becomes an element for each.

mod kinds;
mod lines;

use std::collections::HashMap;
use std::sync::Arc;

use self::kinds::{Dimension, Masks};
use self::lines::{Lines, word};
use super::iptables_save::values::{self, Expected, ICMP_NAMES, ICMPV6_NAMES, number, split_once};
use super::name_text;
use crate::diagnostic::{Level, Parsed, Remarks, excerpt};
use crate::packet::{Family, InterfacePattern, Protocol};
use crate::ruleset::{ElementExtra, Elements, Interval, Set, SetKind, interface_interval, interface_number};

#[cfg(test)]
mod tests;

/// Reads a listing. What could not be read of a set is named in its [`Set::incomplete`].
#[must_use]
pub fn read(source: &Arc<str>, text: &[u8]) -> Parsed<Vec<Set>> {
    let mut reader = Reader {
        source: Arc::clone(source),
        remarks: Remarks::new(source),
        sets: Vec::new(),
        index: HashMap::new(),
        last: None,
    };
    let mut lines = Lines::new(text);
    while let Some((line, number)) = lines.next() {
        reader.line(line, number);
    }
    if let Some(number) = lines.open_quote() {
        reader.remarks.add(Level::Error, number, 0, "this quote never closes; everything behind it is lost");
        for set in &mut reader.sets {
            set.lose("the listing ends within a quote");
        }
    }
    let value = reader.sets.into_iter().map(OpenSet::finish).collect();
    Parsed { value, diagnostics: reader.remarks.finish() }
}

/// A set while its elements come in.
struct OpenSet {
    set: Set,
    dimensions: &'static [Dimension],
    masks: Masks,
    unreadable: usize,
    reason: Option<String>,
}

impl OpenSet {
    fn lose(&mut self, reason: impl Into<String>) {
        self.unreadable = self.unreadable.saturating_add(1);
        self.reason.get_or_insert_with(|| reason.into());
    }

    fn finish(mut self) -> Set {
        self.set.incomplete = self.reason.map(|reason| match self.unreadable {
            0 | 1 => reason.into(),
            more => format!("{reason} (and {} more)", more - 1).into(),
        });
        self.set
    }
}

struct Reader<'a> {
    source: Arc<str>,
    remarks: Remarks,
    sets: Vec<OpenSet>,
    index: HashMap<&'a [u8], usize>,
    /// The set of the line before: listings keep elements together.
    last: Option<(&'a [u8], usize)>,
}

impl<'a> Reader<'a> {
    fn line(&mut self, line: &'a [u8], number: u32) {
        let (command, rest) = word(line);
        match command {
            b"add" | b"-A" => self.element(rest, number),
            b"create" | b"-N" => self.create(rest, number),
            b"" | b"COMMIT" | b"quit" => {}
            comment if comment.starts_with(b"#") => {}
            _ => {
                let message = format!("expected create or add, found \"{}\"", excerpt(line));
                self.remarks.add(Level::Error, number, 1, message);
                // del, flush, destroy, swap, rename: what it names, or all when that is unclear, is not as read
                let named = self.index.get(word(rest).0).copied();
                for (index, set) in self.sets.iter_mut().enumerate() {
                    if named.is_none_or(|named| named == index) {
                        set.lose(format!("line {number} is not understood"));
                    }
                }
            }
        }
    }

    fn create(&mut self, line: &'a [u8], number: u32) {
        let (name, rest) = word(line);
        let (type_name, options) = word(rest);
        if name.is_empty() || type_name.is_empty() {
            let message = format!("expected create NAME TYPE, found \"{}\"", excerpt(line));
            self.remarks.add(Level::Error, number, 1, message);
            return;
        }
        let kind = kinds::named(type_name);
        let read = kinds::options(options);
        let family = kind.and_then(|kind| kind.family(read.family));
        let address_family = family.unwrap_or(Family::Ipv4);
        let dimensions = kind.map_or(&[][..], |kind| kind.dimensions);
        let key = kinds::key(dimensions, address_family);
        let mut open = OpenSet {
            set: Set {
                name: name_text(name).into(),
                family,
                kind: SetKind::Ipset {
                    type_name: kind.map_or_else(|| String::from_utf8_lossy(type_name), |kind| kind.name.into()).into(),
                    options: String::from_utf8_lossy(options).into(),
                },
                elements: Elements::new(key.len()),
                key,
                member_sets: Vec::new(),
                incomplete: None,
                without_exceptions: false,
                source: Arc::clone(&self.source),
                line: number,
            },
            dimensions,
            masks: Masks::default(),
            unreadable: 0,
            reason: None,
        };
        if kind.is_none() {
            open.lose(format!("type {} is not known", excerpt(type_name)));
        }
        match read.masks(address_family) {
            Ok(masks) => open.masks = masks,
            Err(expected) => open.lose(format!("expected {expected}")),
        }
        if let Some(option) = read.unknown {
            open.lose(format!("option {} is not known", excerpt(option)));
        }
        if let Some(reason) = &open.reason {
            let message = format!("set {}: {reason}; its contents are unknown", excerpt(name));
            self.remarks.add(Level::Warning, number, 1, message);
        }
        if let Some(old) = self.index.insert(name, self.sets.len())
            && let Some(old) = self.sets.get_mut(old)
        {
            self.remarks.add(Level::Warning, number, 1, format!("set {} is created twice", excerpt(name)));
            old.lose("created twice");
            open.lose("created twice");
        }
        self.last = Some((name, self.sets.len()));
        self.sets.push(open);
    }

    fn element(&mut self, line: &'a [u8], number: u32) {
        let (name, rest) = word(line);
        let found = match self.last {
            Some((last, index)) if last == name => Some(index),
            _ => self.index.get(name).copied(),
        };
        let Some(index) = found else {
            let message = format!("set {} is not created here; its elements are lost", excerpt(name));
            self.remarks.add(Level::Error, number, 1, message);
            return;
        };
        self.last = Some((name, index));
        let Some(open) = self.sets.get_mut(index) else { return };
        if open.set.key.is_empty() && !matches!(open.dimensions, [Dimension::Set]) {
            // the type is unknown; said once at its creation
            return;
        }
        if let Err(expected) = add(open, rest) {
            let message = format!("expected {expected}, found \"{}\"", excerpt(rest));
            open.lose(format!("line {number}: {message}"));
            self.remarks.add(Level::Error, number, 1, message);
        }
    }
}

/// Widest key any type has.
const MAX_KEYS: usize = 4;

fn add(open: &mut OpenSet, line: &[u8]) -> Result<(), Expected> {
    let (element, options) = word(line);
    let options = lines::element_options(options)?;
    if matches!(open.dimensions, [Dimension::Set]) {
        open.set.member_sets.push(name_text(element).into());
        return Ok(());
    }
    let family = open.set.family.unwrap_or(Family::Ipv4);
    let mut keys = [Interval::single(0); MAX_KEYS];
    let mut slots = keys.iter_mut();
    let mut slot = || slots.next().ok_or("fewer dimensions");
    let mut parts = element.splitn(open.dimensions.len(), |byte| *byte == b',');
    let mut extra = options.extra;
    let mut both_protocols = false;
    for dimension in open.dimensions {
        let part = parts.next();
        let text = part.ok_or("one value for each dimension, separated by commas");
        match dimension {
            Dimension::Address => *slot()? = open.masks.widen(address(text?, family)?),
            Dimension::Port => {
                let (protocol, service) = protocol_and_port(text?)?;
                *slot()? = protocol;
                *slot()? = service;
            }
            Dimension::BarePort => {
                both_protocols = true;
                *slot()? = Interval::single(Protocol::TCP.0.into());
                *slot()? = values::ports(text?, b'-')?;
            }
            Dimension::Mark => *slot()? = open.masks.widen_mark(values::word(text?)?),
            Dimension::Mac => *slot()? = Interval::single(values::mac(text?)?),
            Dimension::OptionalMac => {
                let any = Interval { low: 0, high: 0xffff_ffff_ffff };
                *slot()? = part.map_or(Ok(any), |text| values::mac(text).map(Interval::single))?;
            }
            Dimension::Interface => *slot()? = interface(text?, options.wildcard, &mut extra),
            Dimension::Set => {}
        }
    }
    let Some(keys) = keys.get_mut(..open.set.key.len()) else { return Err("fewer dimensions") };
    let extra = (extra != ElementExtra::default()).then_some(extra);
    open.set.elements.push(keys, None, extra.clone());
    if both_protocols && let Some(protocol) = keys.first_mut() {
        *protocol = Interval::single(Protocol::UDP.0.into());
        open.set.elements.push(keys, None, extra);
    }
    Ok(())
}

/// `address`, `address/length` or `low-high`.
fn address(text: &[u8], family: Family) -> Result<Interval, Expected> {
    if memchr::memchr(b'-', text).is_some() {
        return values::address_range(text, family);
    }
    let masked = values::masked_address(text, family)?;
    let free = values::all_ones(family) & !masked.mask;
    if free & free.wrapping_add(1) != 0 {
        return Err("a prefix");
    }
    Ok(Interval { low: masked.value, high: masked.value | free })
}

/// `tcp:80`, `udp:1-5`, `icmp:echo-request`, `gre:0`; TCP when no protocol is named.
fn protocol_and_port(text: &[u8]) -> Result<(Interval, Interval), Expected> {
    let Some((protocol, port)) = split_once(text, b':') else {
        return Ok((Interval::single(Protocol::TCP.0.into()), values::ports(text, b'-')?));
    };
    let protocol: Protocol = std::str::from_utf8(protocol)
        .ok()
        .and_then(|name| name.parse().ok())
        .ok_or("a protocol's name or number before the colon")?;
    let service = match protocol {
        Protocol::ICMP | Protocol::ICMPV6 => {
            let names = if protocol == Protocol::ICMP { ICMP_NAMES } else { ICMPV6_NAMES };
            let (kind, code) = values::icmp(port, names)?;
            Interval::single(u128::from(kind) << 8 | u128::from(code.unwrap_or(0)))
        }
        _ => values::ports(port, b'-')?,
    };
    Ok((Interval::single(protocol.0.into()), service))
}

/// An interface's name; `physdev:` asks for the bridge port, which is another name than the packet's interface.
fn interface(text: &[u8], wildcard: bool, extra: &mut ElementExtra) -> Interval {
    if text.starts_with(b"physdev:") {
        extra.other = Some(String::from_utf8_lossy(text).into());
        extra.stateful = true;
        return Interval { low: 0, high: u128::MAX };
    }
    if wildcard {
        return interface_interval(&InterfacePattern::prefix(text));
    }
    Interval::single(interface_number(text))
}

/// A decimal number of seconds; 0 means never.
fn seconds(text: &[u8]) -> Option<Option<u64>> {
    number(text).map(|seconds| (seconds > 0).then_some(seconds))
}
