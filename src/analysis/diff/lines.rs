//! A product of fields in people's terms.

use std::collections::HashMap;

use crate::analysis::reach::Engine;
use crate::packet::{CtState, Prefix, Protocol};
use crate::ruleset::Interval;
use crate::space::Dimension;
use crate::space::bdd::{Built, Set};
use crate::space::cover::Product;
use crate::space::describe::{self, Listing};
use crate::space::layout::{EXTENSIONS, STATES};

/// Prefixes or intervals of one field.
const MAX_VALUES: usize = 1000;

/// Packets that have one of the values in every field named; other fields may be anything.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// Fields that matter.
    pub fields: Vec<Field>,
}

/// A field and what it may be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Field {
    /// Which one.
    pub dimension: Dimension,
    /// Everything but these, where that is the shorter list.
    pub except: bool,
    /// The values.
    pub values: Values,
}

/// Values of a field.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Values {
    /// Addresses.
    Prefixes(Listing<Prefix>),
    /// Interface names; a name with a sign stands for others like it. Of IPv6 extension headers nft's names, and `none`.
    Names(Vec<String>),
    /// Conntrack states.
    States(Vec<CtState>),
    /// Bits that are set among those looked at (TCP flags): value and mask.
    Bits(u8, u8),
    /// Numbers, and whether there are more.
    Numbers(Vec<Interval>, bool),
}

impl Values {
    fn length(&self) -> u128 {
        match self {
            Self::Prefixes(list) => list.total,
            Self::Names(names) => names.len() as u128,
            Self::States(states) => states.len() as u128,
            Self::Bits(..) => 0,
            Self::Numbers(intervals, more) => intervals.len() as u128 + if *more { MAX_VALUES as u128 } else { 0 },
        }
    }
}

/// Fields told before, by what they hold: all of the first set and nothing outside the second.
pub(super) type Known = HashMap<(Dimension, Set, Set), Field>;

/// Tells a product; `needed` are the packets it stands for.
pub(super) fn line(engine: &mut Engine<'_>, product: &Product, needed: Set, known: &mut Known) -> Built<Line> {
    let mut fields = Vec::with_capacity(product.fields.len());
    let inside = engine.bdd().and(product.set, needed)?;
    for (dimension, set) in &product.fields {
        let must = if inside == product.set {
            // fields of a product do not depend on each other
            *set
        } else {
            let group = engine.hidden(&[*dimension]);
            engine.bdd().exists(inside, group)?
        };
        let name = (*dimension, must, *set);
        if let Some(field) = known.get(&name) {
            fields.push(field.clone());
            continue;
        }
        let plain = values(engine, *dimension, must, *set)?;
        let field = Field { dimension: *dimension, except: false, values: plain };
        let field = match field.values.length() {
            // nothing is shorter than one, but bits
            0 | 1 if *dimension != Dimension::TcpFlags => field,
            length => match values(engine, *dimension, !*set, !must)? {
                rest if rest.length() < length => Field { except: true, values: rest, ..field },
                _ => field,
            },
        };
        known.insert(name, field.clone());
        fields.push(field);
    }
    Ok(Line { fields })
}

/// Values that hold all of `must` and nothing outside `may`.
fn values(engine: &mut Engine<'_>, dimension: Dimension, must: Set, may: Set) -> Built<Values> {
    Ok(match dimension {
        Dimension::Source | Dimension::Destination => {
            Values::Prefixes(describe::prefixes(engine.bdd_ref(), engine.layout(), (must, may), dimension, MAX_VALUES))
        }
        Dimension::InInterface | Dimension::OutInterface => {
            let classes = classes(engine, dimension, must);
            Values::Names(classes.into_iter().map(|class| engine.interface_words(class)).collect())
        }
        Dimension::State => {
            let classes = classes(engine, dimension, must);
            Values::States(classes.into_iter().filter_map(|class| STATES.get(class).copied()).collect())
        }
        Dimension::Extension => {
            let words = |class: usize| match EXTENSIONS.get(class)? {
                Some(header) => Some(extension_word(*header)),
                None => Some("none"),
            };
            let classes = classes(engine, dimension, must);
            Values::Names(classes.into_iter().filter_map(words).map(str::to_owned).collect())
        }
        Dimension::TcpFlags => match bits(engine, may)? {
            Some((value, mask)) => Values::Bits(value, mask),
            None => numbers(engine, dimension, may),
        },
        _ => numbers(engine, dimension, may),
    })
}

fn numbers(engine: &Engine<'_>, dimension: Dimension, set: Set) -> Values {
    let (intervals, more) = describe::intervals(engine.bdd_ref(), engine.layout(), set, dimension, MAX_VALUES);
    Values::Numbers(intervals, more)
}

/// An IPv6 extension header as nft calls it.
fn extension_word(header: Protocol) -> &'static str {
    match header.0 {
        0 => "hbh",
        43 => "rt",
        44 => "frag",
        _ => "dst",
    }
}

/// Numbers of classes in `set`, which depends on their dimension alone.
fn classes(engine: &Engine<'_>, dimension: Dimension, set: Set) -> Vec<usize> {
    let count = engine.layout().classes(dimension).unwrap_or(0);
    let place = engine.layout().place(dimension);
    let inside = |class: &usize| engine.bdd_ref().descend(set, place, *class as u128) == Set::ALL;
    (0..count).filter(inside).collect()
}

/// TCP flags as value and mask, where that is all there is to say.
fn bits(engine: &mut Engine<'_>, set: Set) -> Built<Option<(u8, u8)>> {
    let layout = engine.layout().clone();
    let bdd = engine.bdd();
    let (mut value, mut mask, mut cube) = (0, 0, Set::ALL);
    for (at, bit) in layout.bits(bdd, Dimension::TcpFlags)?.into_iter().enumerate() {
        let flag = 0x80u8 >> at;
        let (with, without) = (bdd.and(set, bit)?, bdd.minus(set, bit)?);
        if without.is_empty() || with.is_empty() {
            mask |= flag;
            value |= if without.is_empty() { flag } else { 0 };
            cube = bdd.and(cube, if without.is_empty() { bit } else { !bit })?;
        }
    }
    Ok((cube == set && !set.is_empty()).then_some((value, mask)))
}
