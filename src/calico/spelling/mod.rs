//! From a live rule back to the text Felix wrote.
//!
//! The kernel and its tools normalise: `--destination-ports` comes back as `--dports`, `--source` moves to the front, a
//! `0.0.0.0/0` vanishes, nft folds `meta l4proto tcp tcp dport { 22 }`. What was lost is little, so a live rule has few
//! possible originals: a [`Spelling`] lists them, likeliest first, and a hash tells which one it was.

pub mod iptables;
pub mod nft;

use crate::packet::Family;
use crate::ruleset::{Backend, Rule};

/// Possible texts tried for one rule before giving up; far more than any rule of Felix has.
pub const MAX_TEXTS: usize = 4_000;

/// Parts put together for each text tried, at most, over a whole search: hostile rules make many parts and few texts.
const STEPS_PER_TEXT: usize = 16;

/// A part of a rule's text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    /// Ways to spell it, likeliest first; an empty one means that it may not have been there.
    pub spellings: Vec<String>,
    /// Its place was lost: it may have stood anywhere between its neighbours.
    pub free: bool,
    /// Where Felix's policy rules put it; the first guess for a free part.
    pub rank: i8,
}

impl Part {
    /// A part that kept its place.
    #[must_use]
    pub fn fixed(rank: i8, spellings: Vec<String>) -> Self {
        Self { spellings, free: false, rank }
    }

    /// A part whose place was lost.
    #[must_use]
    pub fn free(rank: i8, spellings: Vec<String>) -> Self {
        Self { spellings, free: true, rank }
    }
}

/// Everything Felix may have written for one live rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spelling {
    /// What stands before the parts (`-A chain HASH -m comment …`); empty in nft.
    pub head: String,
    /// Matches.
    pub parts: Vec<Part>,
    /// The action; empty when the rule has none.
    pub actions: Vec<String>,
    /// Whether every word of the live rule is one Felix is known to write; else a hash that does not fit proves little.
    pub understood: bool,
}

impl Spelling {
    /// The spelling of a live rule: iptables rules from their save line, nft rules from their listing.
    /// `chain` is the name under which Felix hashed it.
    #[must_use]
    pub fn of(rule: &Rule, chain: &str, backend: Backend, family: Family) -> Option<Self> {
        match backend {
            Backend::Nft => nft::spelling(&rule.text, family),
            _ => iptables::spelling(&rule.text, chain, family),
        }
    }

    /// The first possible text that `accept` takes, among the likeliest [`MAX_TEXTS`].
    pub fn find(&self, accept: impl FnMut(&str) -> bool) -> Option<String> {
        self.find_among(MAX_TEXTS, accept).0
    }

    /// The first text that `accept` takes, among the likeliest `most`; and how many texts the search was worth.
    pub fn find_among(&self, most: usize, mut accept: impl FnMut(&str) -> bool) -> (Option<String>, usize) {
        let most = most.min(MAX_TEXTS);
        if most == 0 {
            return (None, 0);
        }
        let steps = most * STEPS_PER_TEXT;
        let mut search = Search { spelling: self, accept: &mut accept, left: most, steps, text: self.head.clone() };
        let (free, fixed): (Vec<&Part>, Vec<&Part>) = self.parts.iter().partition(|part| part.free);
        let found = search.in_order(&merge_by_rank(&free, &fixed))
            || search.in_order(&nets_behind(&free, &fixed))
            || (!free.is_empty() && search.any_order(&free, &fixed, &mut Vec::new()));
        let worth = (most - search.left).max((steps - search.steps) / STEPS_PER_TEXT);
        (found.then_some(search.text), worth)
    }

    /// Bytes of the longest text, about.
    #[must_use]
    pub fn length(&self) -> usize {
        let longest = |texts: &[String]| texts.iter().map(|text| text.len() + 1).max().unwrap_or(0);
        self.head.len() + self.parts.iter().map(|part| longest(&part.spellings)).sum::<usize>() + longest(&self.actions)
    }

    /// The likeliest text.
    #[must_use]
    pub fn likeliest(&self) -> String {
        self.find(|_| true).unwrap_or_default()
    }
}

/// Free parts put where Felix's policy rules have them.
fn merge_by_rank<'a>(free: &[&'a Part], fixed: &[&'a Part]) -> Vec<&'a Part> {
    let mut free: Vec<&Part> = free.to_vec();
    free.sort_by_key(|part| part.rank);
    let mut waiting = free.into_iter().peekable();
    let mut order = Vec::with_capacity(fixed.len() + 4);
    for part in fixed {
        while let Some(next) = waiting.next_if(|next| next.rank <= part.rank) {
            order.push(next);
        }
        order.push(part);
    }
    order.extend(waiting);
    order
}

/// Free parts put where Felix's failsafe rules have them: the protocol before everything, nets behind everything.
fn nets_behind<'a>(free: &[&'a Part], fixed: &[&'a Part]) -> Vec<&'a Part> {
    let (front, behind): (Vec<&Part>, Vec<&Part>) = free.iter().partition(|part| part.rank <= 0);
    [&front, fixed, &behind].into_iter().flatten().copied().collect()
}

struct Search<'a> {
    spelling: &'a Spelling,
    accept: &'a mut dyn FnMut(&str) -> bool,
    /// Texts it may still try.
    left: usize,
    /// Parts it may still place.
    steps: usize,
    text: String,
}

impl Search<'_> {
    /// Whether the search goes on; each call is a step.
    fn goes_on(&mut self) -> bool {
        if self.is_over() {
            return false;
        }
        self.steps -= 1;
        true
    }

    fn is_over(&self) -> bool {
        self.left == 0 || self.steps == 0
    }

    /// Tries every order of free parts among the fixed ones.
    fn any_order<'p>(&mut self, free: &[&'p Part], fixed: &[&'p Part], order: &mut Vec<&'p Part>) -> bool {
        if !self.goes_on() {
            return false;
        }
        if free.is_empty() {
            let length = order.len();
            order.extend(fixed);
            let found = self.in_order(order);
            order.truncate(length);
            return found;
        }
        for index in 0..free.len() {
            if self.is_over() {
                return false;
            }
            let mut rest = free.to_vec();
            order.push(rest.remove(index));
            if self.any_order(&rest, fixed, order) {
                return true;
            }
            order.pop();
        }
        if let Some((first, rest)) = fixed.split_first() {
            order.push(first);
            if self.any_order(free, rest, order) {
                return true;
            }
            order.pop();
        }
        false
    }

    /// Tries every spelling of parts in this order, then of the action.
    fn in_order(&mut self, order: &[&Part]) -> bool {
        if !self.goes_on() {
            return false;
        }
        let spelling = self.spelling;
        let (spellings, rest) = match order.split_first() {
            Some((part, rest)) => (&part.spellings, Some(rest)),
            None => (&spelling.actions, None),
        };
        if rest.is_none() && spellings.is_empty() {
            return self.leaf();
        }
        let length = self.text.len();
        for text in spellings {
            if !text.is_empty() {
                if length > 0 {
                    self.text.push(' ');
                }
                self.text.push_str(text);
            }
            let found = match rest {
                Some(rest) => self.in_order(rest),
                None => self.leaf(),
            };
            if found {
                return true;
            }
            self.text.truncate(length);
        }
        false
    }

    fn leaf(&mut self) -> bool {
        let Some(left) = self.left.checked_sub(1) else { return false };
        self.left = left;
        (self.accept)(&self.text)
    }
}

/// Splits a listing line into words: blanks separate, double quotes group, a backslash in quotes keeps the next character.
/// Each word comes with whether it was quoted.
pub(crate) fn words(line: &str) -> Vec<(String, bool)> {
    let mut words = Vec::new();
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        if c.is_ascii_whitespace() {
            continue;
        }
        let mut word = String::new();
        let quoted = c == '"';
        if !quoted {
            word.push(c);
        }
        let mut in_quotes = quoted;
        while let Some(c) = chars.next_if(|c| in_quotes || !c.is_ascii_whitespace()) {
            match c {
                '"' => in_quotes = !in_quotes,
                '\\' if in_quotes => word.extend(chars.next()),
                _ => word.push(c),
            }
        }
        words.push((word, quoted));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(spelling: &Spelling) -> Vec<String> {
        let mut texts = Vec::new();
        spelling.find(|text| {
            texts.push(text.to_owned());
            false
        });
        texts
    }

    #[test]
    fn words_know_quotes() {
        let words: Vec<String> =
            words(r#"-A c --comment "a \"b\" c" -j X"#).into_iter().map(|(word, _)| word).collect();
        assert_eq!(words, ["-A", "c", "--comment", r#"a "b" c"#, "-j", "X"]);
    }

    #[test]
    fn free_parts_are_tried_everywhere_and_the_likeliest_place_first() {
        let part = |free, rank, text: &str| Part { spellings: vec![text.to_owned()], free, rank };
        let spelling = Spelling {
            head: "H".to_owned(),
            parts: vec![part(true, 5, "dst"), part(false, 3, "sport"), part(false, 7, "dport")],
            actions: vec!["go".to_owned(), "stop".to_owned()],
            understood: true,
        };
        let texts = all(&spelling);
        assert_eq!(texts.first().map(String::as_str), Some("H sport dst dport go"));
        for order in ["H dst sport dport stop", "H sport dport dst stop"] {
            assert!(texts.iter().any(|text| text == order), "{order}");
        }
    }

    #[test]
    fn hostile_rules_end_at_the_bound() {
        let parts = (0..40).map(|index| Part::free(0, vec![index.to_string(), String::new()])).collect();
        let spelling = Spelling { head: String::new(), parts, actions: Vec::new(), understood: true };
        assert!(all(&spelling).len() <= MAX_TEXTS);
        // a part that cannot be spelled leaves no text at all, and 40 parts more orders than there is time for
        let mut parts: Vec<Part> = (0..40).map(|index| Part::free(0, vec![index.to_string()])).collect();
        parts.push(Part::fixed(0, Vec::new()));
        let spelling = Spelling { parts, ..spelling };
        assert_eq!(all(&spelling).len(), 0);
    }
}
