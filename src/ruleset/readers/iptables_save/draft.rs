//! The words of one rule sorted: basic conditions, one group per `-m`, one for the target. No meaning yet.
//!
//! Follows the tools' own option handling: options belong to the most recently named extension that has them, `-p tcp`
//! brings tcp's options along, `!` may stand before the option (new style) or before the value (old style), long options may
//! be cut short or carry their value after `=`.

use super::extensions::{Extension, OPTIONAL, Resolved, match_named, target_named};
use super::tokens::Token;

/// A range of words, by index.
pub(crate) type Span = std::ops::Range<usize>;

/// The conditions every rule can have.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub(crate) enum Basic {
    /// `-s`
    Source,
    /// `-d`
    Destination,
    /// `-i`
    InInterface,
    /// `-o`
    OutInterface,
    /// `-p`
    Protocol,
    /// `-f`
    Fragment,
}

/// An option with its values.
#[derive(Clone, Debug)]
pub(crate) struct Arg {
    /// Canonical spelling without dashes.
    pub(crate) name: &'static str,
    /// Whether `!` was there.
    pub(crate) negate: bool,
    /// Index of the option's word.
    pub(crate) word: usize,
    /// Its values.
    pub(crate) values: Span,
}

/// A match or target with its options.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    /// `None`: nobody knows it.
    pub(crate) extension: Option<&'static Extension>,
    /// Index of its name's word; `None` for options that `-p` brought along.
    pub(crate) name: Option<usize>,
    /// Options in order.
    pub(crate) args: Vec<Arg>,
    /// Every word that belongs to it, in order.
    pub(crate) spans: Vec<Span>,
    /// An option's value is missing.
    pub(crate) cut_short: bool,
}

/// A rule's words, sorted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Draft {
    /// Basic conditions: which, negated, index of the value's word.
    pub(crate) basics: Vec<(Basic, bool, usize)>,
    /// Matches in the order they were named.
    pub(crate) matches: Vec<Group>,
    /// `-j` or `-g`.
    pub(crate) target: Option<Group>,
    /// It was `-g`.
    pub(crate) goto: bool,
    /// `-c PACKETS BYTES`.
    pub(crate) counters: Option<Span>,
    /// `-4` (true) or `-6` (false) was given.
    pub(crate) only_ipv4: Option<bool>,
    /// Words nobody knows.
    pub(crate) strays: Vec<Span>,
}

/// What an option word of the tool itself asks for.
#[derive(Clone, Copy)]
enum Generic {
    Basic(Basic),
    Match,
    Jump,
    Goto,
    Counters,
    Ipv4,
    Ipv6,
    /// `-v`, `-n`, `-w`, …: of no meaning for the rule.
    Ignored,
}

fn generic(word: &[u8]) -> Option<Generic> {
    Some(match word {
        b"-s" | b"--source" | b"--src" => Generic::Basic(Basic::Source),
        b"-d" | b"--destination" | b"--dst" => Generic::Basic(Basic::Destination),
        b"-i" | b"--in-interface" => Generic::Basic(Basic::InInterface),
        b"-o" | b"--out-interface" => Generic::Basic(Basic::OutInterface),
        b"-p" | b"--protocol" | b"--proto" => Generic::Basic(Basic::Protocol),
        b"-f" | b"--fragment" | b"--fragments" => Generic::Basic(Basic::Fragment),
        b"-m" | b"--match" => Generic::Match,
        b"-j" | b"--jump" => Generic::Jump,
        b"-g" | b"--goto" => Generic::Goto,
        b"-c" | b"--set-counters" => Generic::Counters,
        b"-4" | b"--ipv4" => Generic::Ipv4,
        b"-6" | b"--ipv6" => Generic::Ipv6,
        b"-n" | b"--numeric" | b"-v" | b"--verbose" | b"-x" | b"--exact" => Generic::Ignored,
        _ => return None,
    })
}

/// Sorts the words from `first` on.
pub(crate) fn sort(words: &mut Vec<Token<'_>>, first: usize) -> Draft {
    let mut sorter = Sorter { words, draft: Draft::default(), at: first, bang: None };
    while sorter.at < sorter.words.len() {
        sorter.step();
    }
    if let Some(bang) = sorter.bang {
        sorter.draft.strays.push(bang..bang + 1);
    }
    sorter.draft
}

/// Where an option was found.
enum Owner {
    Target,
    Match(usize),
    Implied(&'static Extension),
}

struct Sorter<'w, 'a> {
    words: &'w mut Vec<Token<'a>>,
    draft: Draft,
    at: usize,
    bang: Option<usize>,
}

impl Sorter<'_, '_> {
    fn raw(&self, index: usize) -> &[u8] {
        self.words.get(index).map_or(b"", |word| word.raw)
    }

    fn step(&mut self) {
        if self.raw(self.at) == b"!" && self.bang.is_none() {
            self.bang = Some(self.at);
            self.at += 1;
            return;
        }
        self.part_attached_value();
        let first = self.bang.unwrap_or(self.at);
        if let Some((owner, option)) = self.owner() {
            self.extension_option(first, &owner, option);
        } else if let Some(kind) = generic(self.raw(self.at)) {
            self.generic_option(first, kind);
        } else {
            self.unknown_option(first);
        }
        self.bang = None;
    }

    /// Makes two words of `--option=value` and `-s10.0.0.1`.
    fn part_attached_value(&mut self) {
        let Some(word) = self.words.get(self.at) else { return };
        let (raw_cut, text_cut, skip) = if word.raw.starts_with(b"--") {
            let find = |bytes: &[u8]| memchr::memchr(b'=', bytes);
            match (find(word.raw), find(&word.text)) {
                (Some(raw), Some(text)) => (raw, text, 1),
                _ => return,
            }
        } else if let [b'-', b's' | b'd' | b'i' | b'o' | b'p' | b'j' | b'g' | b'm', _, ..] = word.raw {
            (2, 2, 0)
        } else {
            return;
        };
        let (Some(option), Some(value), Some(text)) =
            (word.raw.get(..raw_cut), word.raw.get(raw_cut + skip..), word.text.get(text_cut + skip..))
        else {
            return;
        };
        let shift = u32::try_from(raw_cut + skip).unwrap_or(u32::MAX);
        let value = Token {
            raw: value,
            text: text.to_vec().into(),
            start: word.start.saturating_add(raw_cut + skip),
            place: (word.place.0, word.place.1.saturating_add(shift)),
        };
        let option = Token { raw: option, text: option.into(), start: word.start, place: word.place };
        self.words.splice(self.at..=self.at, [option, value]);
    }

    /// The extension that the long option at hand belongs to.
    fn owner(&self) -> Option<(Owner, Resolved)> {
        let word = self.raw(self.at).strip_prefix(b"--").filter(|word| !word.is_empty())?;
        self.owner_by(|extension| extension.option(word)).or_else(|| {
            // cut-short spellings only where the tool has no option of that very name
            if generic(self.raw(self.at)).is_some() {
                return None;
            }
            self.owner_by(|extension| extension.abbreviated(word))
        })
    }

    fn owner_by(&self, find: impl Fn(&'static Extension) -> Option<Resolved>) -> Option<(Owner, Resolved)> {
        let in_target = self.draft.target.as_ref().and_then(|group| group.extension).and_then(&find);
        if let Some(option) = in_target {
            return Some((Owner::Target, option));
        }
        for (index, group) in self.draft.matches.iter().enumerate().rev() {
            if let Some(option) = group.extension.and_then(&find) {
                return Some((Owner::Match(index), option));
            }
        }
        let implied = self.implied()?;
        find(implied).map(|option| (Owner::Implied(implied), option))
    }

    /// The match that `-p` brings along.
    fn implied(&self) -> Option<&'static Extension> {
        let protocol = self.draft.basics.iter().find(|basic| basic.0 == Basic::Protocol && !basic.1)?;
        let name = self.words.get(protocol.2)?.text.to_ascii_lowercase();
        let name: &[u8] = match &*name {
            b"6" => b"tcp",
            b"17" => b"udp",
            b"1" => b"icmp",
            b"58" => b"icmp6",
            b"132" => b"sctp",
            b"33" => b"dccp",
            b"136" => b"udplite",
            other => other,
        };
        match_named(name)
    }

    fn extension_option(&mut self, first: usize, owner: &Owner, option: Resolved) {
        let word = self.at;
        let mut negate = self.bang.is_some();
        self.at += 1;
        if option.values > 0 && !negate && self.raw(self.at) == b"!" {
            negate = true;
            self.at += 1;
        }
        let wanted = match option.values {
            OPTIONAL if matches!(self.raw(self.at), [] | [b'!'] | [b'-', _, ..]) => 0,
            OPTIONAL => 1,
            number => usize::from(number),
        };
        let end = self.words.len().min(self.at + wanted);
        let values = self.at..end;
        self.at = end;
        let cut_short = values.len() < wanted;
        let arg = Arg { name: option.name, negate, word, values };
        let span = first..end;
        let group = match owner {
            Owner::Target => self.draft.target.as_mut(),
            Owner::Match(index) => self.draft.matches.get_mut(*index),
            Owner::Implied(extension) => {
                self.draft.matches.push(Group {
                    extension: Some(*extension),
                    name: None,
                    args: Vec::new(),
                    spans: Vec::new(),
                    cut_short: false,
                });
                self.draft.matches.last_mut()
            }
        };
        if let Some(group) = group {
            group.args.push(arg);
            group.spans.push(span);
            group.cut_short |= cut_short;
        }
    }

    fn generic_option(&mut self, first: usize, kind: Generic) {
        self.at += 1;
        let mut negate = self.bang.is_some();
        match kind {
            Generic::Basic(Basic::Fragment) => {
                self.draft.basics.push((Basic::Fragment, negate, self.at - 1));
                return;
            }
            Generic::Ipv4 | Generic::Ipv6 => {
                self.draft.only_ipv4 = Some(matches!(kind, Generic::Ipv4));
                return;
            }
            Generic::Ignored => return,
            Generic::Counters => {
                // older tools also take both numbers in one word
                let together = self.raw(self.at).contains(&b',');
                let end = self.words.len().min(self.at + if together { 1 } else { 2 });
                self.draft.counters = Some(self.at..end);
                self.at = end;
                return;
            }
            Generic::Basic(_) | Generic::Match | Generic::Jump | Generic::Goto => {}
        }
        if !negate && matches!(kind, Generic::Basic(_)) && self.raw(self.at) == b"!" {
            negate = true;
            self.at += 1;
        }
        if self.at >= self.words.len() {
            self.draft.strays.push(first..self.at);
            return;
        }
        let value = self.at;
        self.at += 1;
        if let Generic::Basic(basic) = kind {
            self.draft.basics.push((basic, negate, value));
            return;
        }
        let name = self.words.get(value).map_or(&b""[..], |word| &word.text);
        let is_match = matches!(kind, Generic::Match);
        let extension = match kind {
            Generic::Match => match_named(name),
            Generic::Jump => target_named(name),
            _ => None,
        };
        let group = Group {
            extension,
            name: Some(value),
            args: Vec::new(),
            spans: std::iter::once(first..self.at).collect(),
            cut_short: negate,
        };
        if is_match {
            self.draft.matches.push(group);
        } else if self.draft.target.is_some() {
            self.draft.strays.push(first..self.at);
        } else {
            self.draft.goto = matches!(kind, Generic::Goto);
            self.draft.target = Some(group);
        }
    }

    /// A word nobody knows goes, with the values behind it, to the newest extension nobody knows.
    fn unknown_option(&mut self, first: usize) {
        self.at += 1;
        while self.at < self.words.len() && !matches!(self.raw(self.at), [b'!'] | [b'-', _, ..]) {
            self.at += 1;
        }
        let span = first..self.at;
        let unknown_target = self.draft.target.as_mut().filter(|group| group.extension.is_none());
        let unknown_match = self.draft.matches.iter_mut().rev().find(|group| group.extension.is_none());
        match unknown_target.or(unknown_match) {
            Some(group) => group.spans.push(span),
            None => self.draft.strays.push(span),
        }
    }
}
