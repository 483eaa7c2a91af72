//! What Felix wrote, from nft's listing of a rule.

use super::Spelling;
use crate::packet::Family;

/// The spelling of one listed rule, `None` when it is too long to be one of Felix's.
#[must_use]
pub fn spelling(_listing: &str, _family: Family) -> Option<Spelling> {
    None
}
