//! `nft -j`: the whole ruleset in one go where that works, else its parts.

use std::time::SystemTime;

use super::{Failure, LIMIT, Live};
use crate::ruleset::kernel::{KernelSet, KernelTable, KernelTables};

/// Elements of a set that are listed, as the kernel counts them (of an interval both ends). nft takes 1 to 3 seconds for
/// these, and time grows with the square of their number.
const EXPANDED: usize = 200_000;

/// Elements listed of all sets together.
const ALL_EXPANDED: usize = 1_000_000;

/// Parts listed one by one; more are left out, and the kernel's count tells which.
const MAX_PARTS: usize = 512;

/// What nft lists.
pub(super) struct Listing {
    /// One listing, or several one after the other.
    pub(super) text: Vec<u8>,
    /// It was put together.
    pub(super) of_parts: bool,
    /// Why it is not whole.
    pub(super) wrong: Option<String>,
}

/// Failures told.
const MAX_TOLD: usize = 5;

/// Listings one after the other, and what went wrong.
#[derive(Default)]
struct Parts {
    text: Vec<u8>,
    tried: usize,
    listed: usize,
    /// Chains and sets that are missing.
    wrong: Vec<String>,
    /// When there was time enough.
    until: Option<SystemTime>,
    /// A tool that hangs hangs again.
    hung: bool,
}

impl Live<'_> {
    /// The listing, whole or in parts.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn nft_listing(&self, kernel: Option<&KernelTables>) -> Result<Listing, String> {
        let big = kernel.is_some_and(|kernel| {
            let sets = || kernel.tables.iter().flat_map(|table| &table.sets);
            sets().any(is_big) || sets().map(|set| set.elements).sum::<usize>() > ALL_EXPANDED
        });
        let whole = if big { self.structure(kernel) } else { self.listing(&["list", "ruleset"]) };
        let failure = match whole {
            Ok(text) => return Ok(Listing { text, of_parts: big, wrong: None }),
            Err(failure) => failure,
        };
        // whoever may not ask the kernel may not list parts either, and who hangs does it again
        let (Some(kernel), Some(_)) = (kernel, &failure.said) else { return Err(failure.why) };
        let mut parts = Parts { until: Some(self.system.now() + LIMIT), ..Parts::default() };
        for table in &kernel.tables {
            self.table(table, &mut parts);
        }
        if parts.listed == 0 {
            return Err(failure.why);
        }
        let mut why = format!("{}; it was listed table by table", failure.why);
        if let [told @ .., last] = parts.wrong.get(..MAX_TOLD).unwrap_or(&parts.wrong) {
            why.push_str(" without ");
            told.iter().for_each(|name| why.push_str(&format!("{name}, ")));
            why.push_str(last);
        }
        if let Some(more) = parts.wrong.len().checked_sub(MAX_TOLD + 1) {
            why.push_str(&format!(" and {} more", more + 1));
        }
        Ok(Listing { text: parts.text, of_parts: true, wrong: Some(why) })
    }

    fn listing(&self, arguments: &[&str]) -> Result<Vec<u8>, Failure> {
        self.output("nft", &[&["-j"], arguments].concat(), |_| false)
    }

    /// Everything but the contents of sets, then the contents of those that are not too large. That of the others stays
    /// unknown: the kernel's count tells that they are not empty.
    fn structure(&self, kernel: Option<&KernelTables>) -> Result<Vec<u8>, Failure> {
        let mut parts = Parts { text: self.listing(&["-t", "list", "ruleset"])?, ..Parts::default() };
        let mut room = ALL_EXPANDED;
        for table in kernel.into_iter().flat_map(|kernel| &kernel.tables) {
            for set in table.sets.iter().filter(|set| set.elements > 0 && !is_big(set)) {
                if let Some(left) = room.checked_sub(set.elements) {
                    room = left;
                    self.part(set_kind(set), table, Some(&set.name), &mut parts);
                }
            }
        }
        Ok(parts.text)
    }

    /// A table, or what of it can be listed.
    fn table(&self, table: &KernelTable, parts: &mut Parts) {
        let small = !table.sets.iter().any(is_big);
        if small && self.part("table", table, None, parts) {
            return;
        }
        for chain in &table.chains {
            self.part("chain", table, Some(&chain.name), parts);
        }
        for set in table.sets.iter().filter(|set| !is_big(set)) {
            self.part(set_kind(set), table, Some(&set.name), parts);
        }
    }

    /// Lists one thing; says whether that worked.
    fn part(&self, kind: &str, table: &KernelTable, name: Option<&str>, parts: &mut Parts) -> bool {
        let words = [&["list", kind, &table.family, &table.name], name.as_slice()].concat();
        // names of others' making are words of nft's language, or could be more than one
        let plain = |word: &&str| is_plain(word);
        let late = parts.until.is_some_and(|until| self.system.now() > until);
        let listed = if parts.hung || late || parts.tried >= MAX_PARTS || !words.iter().all(plain) {
            None
        } else {
            parts.tried += 1;
            let listing = self.listing(&words);
            parts.hung |= listing.as_ref().is_err_and(|failure| failure.said.is_none());
            listing.ok()
        };
        let Some(text) = listed else {
            if let Some(name) = name {
                parts.wrong.push(format!("{kind} {} {} {name}", table.family, table.name));
            }
            return false;
        };
        parts.text.extend(text);
        parts.text.push(b'\n');
        parts.listed += 1;
        true
    }
}

fn set_kind(set: &KernelSet) -> &'static str {
    if set.map { "map" } else { "set" }
}

fn is_big(set: &KernelSet) -> bool {
    set.more || set.elements > EXPANDED
}

/// One word of nft's language.
fn is_plain(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && word.chars().all(|c| c.is_ascii_alphanumeric() || "/-_.".contains(c))
}
