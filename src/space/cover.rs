//! A set as few products: each fixes what some fields may be, one by one, so that people can read it.
//!
//! A product is as wide as it can be (a prime implicant over fields instead of bits), so products may overlap; together they
//! are the set exactly. Which field takes a wide list and which one is left out follows [`WIDEN`].

use std::collections::HashMap;

use super::bdd::{Bdd, Built, Group, Set};
use super::layout::{Dimension, Layout};

use Dimension as D;

/// Fields in the order in which a product is made wider: the first ones are the first not to matter any more.
pub const WIDEN: [Dimension; 21] = [
    D::PacketType,
    D::Length,
    D::Tos,
    D::Ttl,
    D::ConnectionMark,
    D::UserGroup,
    D::User,
    D::IcmpCode,
    D::IcmpType,
    D::DestinationLink,
    D::SourceLink,
    D::TcpFlags,
    D::Extension,
    D::State,
    D::OutInterface,
    D::InInterface,
    D::SourcePort,
    D::DestinationPort,
    D::Protocol,
    D::Source,
    D::Destination,
];

/// Values of single fields; what is not in it may be anything.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Product {
    /// Fields that matter, in the order of [`WIDEN`] turned round, each with its values as a set of that field alone.
    pub fields: Vec<(Dimension, Set)>,
    /// All its packets.
    pub set: Set,
}

/// Products that make up a set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cover {
    /// The products.
    pub products: Vec<Product>,
    /// What the limit left out.
    pub rest: Set,
}

/// Products that hold all of `must` and nothing outside `may`, at most `limit` of them. Both must not depend on questions.
///
/// # Errors
/// When the node budget is used up.
pub fn cover(bdd: &mut Bdd, layout: &Layout, (must, may): (Set, Set), limit: usize) -> Built<Cover> {
    let may = bdd.or(may, must)?;
    let matters: Vec<Dimension> = {
        let support = bdd.support(may);
        let depends = |one: &Dimension| layout.variables(*one).any(|variable| support.binary_search(&variable).is_ok());
        WIDEN.into_iter().filter(depends).collect()
    };
    let others: HashMap<Dimension, Group> = matters.iter().map(|one| (*one, but(bdd, layout, *one))).collect();
    let (mut products, mut rest) = (Vec::new(), must);
    let mut seeds = Vec::new();
    while !rest.is_empty() && products.len() < limit {
        let mut values = one_of(bdd, layout, rest)?;
        seeds.push(a_point(bdd, rest));
        // what is allowed does not depend on the others
        values.retain(|(known, _)| others.contains_key(known));
        for dimension in &matters {
            let Some(group) = others.get(dimension) else { continue };
            // it cannot be wider
            if values.iter().any(|(known, set)| known == dimension && *set == Set::ALL) {
                continue;
            }
            let beside = product(bdd, values.iter().filter(|(known, _)| known != dimension))?;
            let barred = bdd.and_exists(beside, !may, *group)?;
            if let Some((_, set)) = values.iter_mut().find(|(known, _)| known == dimension) {
                *set = !barred;
            }
        }
        values.retain(|(_, set)| *set != Set::ALL);
        values.sort_by_key(|(known, _)| std::cmp::Reverse(WIDEN.iter().position(|one| one == known)));
        let set = product(bdd, values.iter())?;
        rest = bdd.minus(rest, set)?;
        products.push(Product { fields: values, set });
    }
    without_needless(bdd, must, &mut products, &seeds)?;
    Ok(Cover { products, rest })
}

/// Packets that have one of the values in every field; from the last variables up, so that each step is small.
fn product<'v>(bdd: &mut Bdd, values: impl Iterator<Item = &'v (Dimension, Set)>) -> Built {
    let mut sets: Vec<Set> = values.map(|(_, set)| *set).collect();
    sets.sort_by_key(|set| std::cmp::Reverse(bdd.level(*set)));
    let mut all = Set::ALL;
    for set in sets {
        all = bdd.and(set, all)?;
    }
    Ok(all)
}

/// Leaves out products whose packets the others hold, too. Each has a seed: variables that are one at a point of `must` that it holds
/// and those before it do not.
fn without_needless(bdd: &mut Bdd, must: Set, products: &mut Vec<Product>, seeds: &[Vec<u16>]) -> Built<()> {
    let mut needed = vec![true; products.len()];
    for (at, seed) in seeds.iter().enumerate() {
        let is_one = |variable: u16| seed.binary_search(&variable).is_ok();
        if !products.iter().skip(at + 1).any(|later| bdd.contains(later.set, is_one)) {
            continue;
        }
        let mut own = bdd.and(products[at].set, must)?;
        for (other, product) in products.iter().enumerate() {
            if other != at && needed[other] && !own.is_empty() {
                own = bdd.minus(own, product.set)?;
            }
        }
        needed[at] = !own.is_empty();
    }
    let mut needed = needed.into_iter();
    products.retain(|_| needed.next().unwrap_or(true));
    Ok(())
}

/// The variables that are one at a point of `set`, which must not be empty: zeros where there can be.
fn a_point(bdd: &Bdd, mut set: Set) -> Vec<u16> {
    let mut ones = Vec::new();
    while set != Set::ALL && !set.is_empty() {
        let (low, high) = bdd.branches(set);
        if low.is_empty() {
            ones.push(bdd.level(set));
        }
        set = if low.is_empty() { high } else { low };
    }
    ones
}

/// All variables but those of one dimension.
fn but(bdd: &mut Bdd, layout: &Layout, dimension: Dimension) -> Group {
    let others: Vec<Dimension> = layout.dimensions().filter(|one| *one != dimension).collect();
    let variables: Vec<u16> = others.into_iter().flat_map(|one| layout.variables(one)).collect();
    bdd.group(variables)
}

/// One product within `set`, which must not be empty: field after field in the order of the variables.
fn one_of(bdd: &mut Bdd, layout: &Layout, set: Set) -> Built<Vec<(Dimension, Set)>> {
    let mut values = Vec::new();
    let mut set = set;
    for dimension in layout.dimensions() {
        let (first, width) = layout.place(dimension);
        let end = first + width;
        let mut below = set;
        while below != Set::ALL && bdd.level(below) < end {
            let (low, high) = bdd.branches(below);
            below = if low.is_empty() { high } else { low };
        }
        let of_field = leading_to(bdd, set, below, end, &mut HashMap::new())?;
        if dimension != Dimension::Question {
            values.push((dimension, of_field));
        }
        set = below;
    }
    Ok(values)
}

/// The values above variable `end` under which `set` is `below`. Recursion is as deep as a field is wide.
fn leading_to(bdd: &mut Bdd, set: Set, below: Set, end: u16, known: &mut HashMap<Set, Set>) -> Built {
    if bdd.level(set) >= end {
        return Ok(if set == below { Set::ALL } else { Set::NONE });
    }
    if let Some(found) = known.get(&set) {
        return Ok(*found);
    }
    let level = bdd.level(set);
    let (low, high) = bdd.branches(set);
    let low = leading_to(bdd, low, below, end, known)?;
    let high = leading_to(bdd, high, below, end, known)?;
    let found = bdd.node(level, low, high)?;
    known.insert(set, found);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Family;
    use crate::ruleset::Interval;
    use crate::space::{Interfaces, Order};

    fn layout() -> Layout {
        Layout::new(Family::Ipv4, Order::Host, Interfaces::new(&[1 << 120], []))
    }

    fn of(bdd: &mut Bdd, layout: &Layout, dimension: Dimension, low: u128, high: u128) -> Set {
        let bits = layout.bits(bdd, dimension).expect("room");
        bdd.within(&bits, &[Interval { low, high }]).expect("room")
    }

    #[test]
    fn products_are_wide_and_make_up_the_set() {
        let layout = layout();
        let mut bdd = Bdd::new(100_000);
        let ssh = of(&mut bdd, &layout, D::DestinationPort, 22, 22);
        let tcp = of(&mut bdd, &layout, D::Protocol, 6, 6);
        let ssh = bdd.and(ssh, tcp).expect("room");
        let office = of(&mut bdd, &layout, D::Source, 0x0a00_0000, 0x0aff_ffff);
        let set = bdd.or(ssh, office).expect("room");
        let found = cover(&mut bdd, &layout, (set, set), 100).expect("room");
        let mut fields: Vec<Vec<Dimension>> =
            found.products.iter().map(|product| product.fields.iter().map(|(one, _)| *one).collect()).collect();
        fields.sort();
        assert_eq!(fields, [vec![D::Source], vec![D::Protocol, D::DestinationPort]]);
        let all = bdd.union(found.products.iter().map(|product| product.set)).expect("room");
        assert_eq!((all, found.rest), (set, Set::NONE));
        // what does not count makes products wider; the limit says what it left out
        let found = cover(&mut bdd, &layout, (ssh, !office), 100).expect("room");
        assert_eq!(found.products.len(), 1);
        let one = cover(&mut bdd, &layout, (set, set), 1).expect("room");
        assert!(one.products.len() == 1 && !one.rest.is_empty());
    }

    #[test]
    fn random_sets_are_their_products() {
        let layout = layout();
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..40 {
            let mut bdd = Bdd::new(1_000_000);
            let mut set = Set::NONE;
            for _ in 0..6 {
                let mut product = Set::ALL;
                for dimension in [D::Source, D::Destination, D::DestinationPort, D::Protocol, D::State] {
                    if rng.bool() {
                        let low = rng.u128(..200);
                        let one = of(&mut bdd, &layout, dimension, low, low + rng.u128(..60));
                        product = bdd.and(product, one).expect("room");
                    }
                }
                set = if rng.u8(..4) == 0 { bdd.minus(set, product) } else { bdd.or(set, product) }.expect("room");
            }
            let found = cover(&mut bdd, &layout, (set, set), 10_000).expect("room");
            let all = bdd.union(found.products.iter().map(|product| product.set)).expect("room");
            assert_eq!((all, found.rest), (set, Set::NONE));
        }
    }
}
