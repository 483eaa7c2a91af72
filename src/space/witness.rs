//! One packet of a set: an example to show, to trace and to send.

use super::bdd::{Bdd, Built, Set};
use super::layout::{Dimension, Layout};

/// One point of the space.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Witness {
    /// By variable.
    bits: Vec<bool>,
}

impl Witness {
    /// The number it has in `dimension`; of classes the class, of classes of a line their first address.
    #[must_use]
    pub fn number(&self, layout: &Layout, dimension: Dimension) -> u128 {
        let bits = layout.variables(dimension).map(|variable| self.bit(variable));
        let number = bits.fold(0u128, |number, bit| number << 1 | u128::from(bit));
        match layout.classes(dimension) {
            Some(count) => number.min(count.saturating_sub(1) as u128),
            None => layout.line_of(dimension).map_or(number, |line| line.first_of(number)),
        }
    }

    /// Its bit of `variable`.
    #[must_use]
    pub fn bit(&self, variable: u16) -> bool {
        self.bits.get(usize::from(variable)).copied().unwrap_or(false)
    }
}

/// A point of `set`, within as many of `wishes` as there is one, earlier wishes first; `None` when the set is empty.
///
/// The same set and wishes always give the same point: zeros where nothing asks for a one.
///
/// # Errors
/// When the budget is used up.
pub fn witness(bdd: &mut Bdd, set: Set, wishes: &[Set]) -> Built<Option<Witness>> {
    if set.is_empty() {
        return Ok(None);
    }
    let mut set = set;
    for wish in wishes {
        let narrower = bdd.and(set, *wish)?;
        if !narrower.is_empty() {
            set = narrower;
        }
    }
    let mut bits = vec![false; usize::from(super::bdd::MAX_VARIABLES)];
    while set != Set::ALL {
        let (low, high) = bdd.branches(set);
        let one = low.is_empty();
        if let Some(bit) = bits.get_mut(usize::from(bdd.level(set))) {
            *bit = one;
        }
        set = if one { high } else { low };
    }
    Ok(Some(Witness { bits }))
}
