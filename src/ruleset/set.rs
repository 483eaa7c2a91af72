//! Sets and maps: ipsets, nft sets, anonymous sets.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{DataType, Name, Verdict};
use crate::packet::Family;

/// `low..=high`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct Interval {
    /// First value.
    pub low: u128,
    /// Last value.
    pub high: u128,
}

impl Interval {
    /// One value.
    #[must_use]
    pub fn single(value: u128) -> Self {
        Self { low: value, high: value }
    }

    /// Whether `value` is inside.
    #[must_use]
    pub fn contains(self, value: u128) -> bool {
        (self.low..=self.high).contains(&value)
    }
}

/// What a map gives.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// Verdict map.
    Verdict(Verdict),
    /// Values side by side, one per data dimension; an interval is a range the kernel chooses from.
    Value(Vec<Interval>),
    /// Name of an object (counter, quota, …).
    Object(Box<str>),
}

/// What an element carries besides key and data.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct ElementExtra {
    /// ipset's `nomatch`: an exception.
    pub nomatch: bool,
    /// Seconds left, when the listing says.
    pub expires: Option<u64>,
    /// Its comment.
    pub comment: Option<Box<str>>,
    /// Anything else it carries, as text. `stateful` says whether that can refuse a hit (limit, quota).
    pub other: Option<Box<str>>,
    /// See `other`.
    pub stateful: bool,
}

/// Keys, each `dimensions` intervals wide, and what hangs on them. Elements may overlap (ipset nests prefixes).
///
/// A clone shares the keys, so that a ruleset in another world costs no second copy of a large set.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Elements {
    dimensions: usize,
    /// Flat: element `i` is `keys[i * dimensions..][..dimensions]`.
    keys: Arc<Vec<Interval>>,
    /// One a key for maps, else empty.
    data: Vec<Data>,
    /// Sparse.
    extras: BTreeMap<usize, ElementExtra>,
    /// nft's `*` element: everything not listed. For a set `Data::Object("")`.
    catch_all: Option<Data>,
}

impl Elements {
    /// No elements of `dimensions` keys each (at least 1).
    #[must_use]
    pub fn new(dimensions: usize) -> Self {
        Self { dimensions: dimensions.max(1), ..Self::default() }
    }

    /// A set of one dimension.
    #[must_use]
    pub fn from_intervals(intervals: impl IntoIterator<Item = Interval>) -> Self {
        let mut elements = Self::new(1);
        elements.keys = Arc::new(intervals.into_iter().collect());
        elements
    }

    /// Keys side by side in each element.
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.dimensions.max(1)
    }

    /// Whether it is keys alone: no element carries more, and there is no `*`.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.extras.is_empty() && self.catch_all.is_none()
    }

    /// Adds an element. `key` must be as wide as the set; `false` says it was not and nothing was added.
    pub fn push(&mut self, key: &[Interval], data: Option<Data>, extra: Option<ElementExtra>) -> bool {
        if key.len() != self.dimensions() || (data.is_some() && self.data.len() != self.len()) {
            return false;
        }
        if let Some(extra) = extra {
            self.extras.insert(self.len(), extra);
        }
        Arc::make_mut(&mut self.keys).extend_from_slice(key);
        self.data.extend(data);
        true
    }

    /// Sets the `*` element.
    pub fn set_catch_all(&mut self, data: Data) {
        self.catch_all = Some(data);
    }

    /// The `*` element.
    #[must_use]
    pub fn catch_all(&self) -> Option<&Data> {
        self.catch_all.as_ref()
    }

    /// How many elements (without `*`).
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len() / self.dimensions()
    }

    /// Whether the keys are the very same in memory, as a clone's are.
    #[must_use]
    pub fn shares_keys(&self, other: &Self) -> bool {
        self.dimensions() == other.dimensions() && Arc::ptr_eq(&self.keys, &other.keys)
    }

    /// Whether there is none (`*` not counted).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// All keys in listing order.
    pub fn keys(&self) -> impl Iterator<Item = &[Interval]> {
        self.keys.chunks_exact(self.dimensions())
    }

    /// Key of element `index`.
    #[must_use]
    pub fn key(&self, index: usize) -> Option<&[Interval]> {
        self.keys.chunks_exact(self.dimensions()).nth(index)
    }

    /// Data of element `index`, for maps.
    #[must_use]
    pub fn data(&self, index: usize) -> Option<&Data> {
        self.data.get(index)
    }

    /// Extras of element `index`.
    #[must_use]
    pub fn extra(&self, index: usize) -> Option<&ElementExtra> {
        self.extras.get(&index)
    }
}

/// Where a set comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetKind {
    /// ipset of this type (`hash:net`, `list:set`, …), with its create options as text.
    Ipset {
        /// Type name.
        type_name: Box<str>,
        /// Everything after the type on the `create` line.
        options: Box<str>,
    },
    /// nft set or map.
    Nft {
        /// Whether it is a map.
        map: bool,
        /// Flags as listed (`interval`, `timeout`, `dynamic`, `constant`).
        flags: Vec<Box<str>>,
        /// How many elements it may hold; `None` when the listing does not say.
        size: Option<u64>,
    },
}

impl Set {
    /// How many elements packets may still add; `None` where there is no limit. Elements whose time is over may count for a
    /// moment longer than they are listed.
    #[must_use]
    pub fn room(&self) -> Option<u64> {
        let SetKind::Nft { size: Some(size), .. } = &self.kind else { return None };
        Some(if self.incomplete.is_some() { 0 } else { size.saturating_sub(self.elements.len() as u64) })
    }
}

/// A named set or map.
#[derive(Clone, Debug)]
pub struct Set {
    /// Its name.
    pub name: Name,
    /// Address family of its addresses; `None` where it has none.
    pub family: Option<Family>,
    /// Origin and type.
    pub kind: SetKind,
    /// Types of the key's dimensions. An ipset's `ip,port` port dimension is two here: protocol and port.
    /// There the port of ICMP and ICMPv6 is `type << 8 | code`, and that of protocols without ports 0.
    pub key: Vec<DataType>,
    /// Members. For `list:set` empty: see `members_sets`.
    pub elements: Elements,
    /// `list:set`: names of member sets, in order.
    pub member_sets: Vec<Name>,
    /// Says why the contents are not all here (not listed, too large, unreadable element); `None` when complete.
    pub incomplete: Option<Box<str>>,
    /// No member is an exception, those that are not here included: a packet that fits one that is here is in the set.
    pub without_exceptions: bool,
    /// File it was read from.
    pub source: Name,
    /// Line of its declaration, 1-based; 0 when the source has no lines.
    pub line: u32,
}

/// What the `create` line of an ipset says about keys (ipset(8)).
#[derive(Clone, Copy, Debug)]
pub struct CreateOptions<'s>(pub &'s str);

impl<'s> CreateOptions<'s> {
    fn option(self, name: &str) -> Option<&'s str> {
        let mut words = self.0.split_ascii_whitespace();
        words.by_ref().find(|word| *word == name)?;
        words.next()
    }

    /// A numeric option, decimal or hexadecimal; `None` when it cannot be read.
    #[must_use]
    pub fn number(self, name: &str, default: u128) -> Option<u128> {
        let Some(text) = self.option(name) else { return Some(default) };
        match text.strip_prefix("0x") {
            Some(hex) => u128::from_str_radix(hex, 16).ok(),
            None => text.parse().ok(),
        }
    }

    /// What `netmask` leaves of an address of `width` bits; `None` when a mask cannot be read.
    #[must_use]
    pub fn address_mask(self, width: u32) -> Option<u128> {
        if self.option("bitmask").is_some() {
            return None;
        }
        let length = u32::try_from(self.number("netmask", width.into())?).ok()?.min(width);
        let ones = |bits: u32| u128::MAX.checked_shr(128 - bits).unwrap_or(0);
        Some(ones(width) & !ones(width - length))
    }
}
