//! One rule line into a rule of the model.

use super::draft::{Arg, Basic, Draft, Group, Span, sort};
use super::extensions::Meaning;
use super::matches::{self, Context, Trouble};
use super::targets;
use super::tokens::Token;
use super::values;
use crate::diagnostic::{Level, Remarks, excerpt};
use crate::packet::Family;
use crate::ruleset::readers::name_text;
use crate::ruleset::{Counters, Effect, Expr, Field, Match, Name, OpaqueKind, Rule, Step, Verdict};

/// What a rule needs to know of the table it stands in.
pub(crate) struct Surroundings<'s> {
    /// IPv4 or IPv6.
    pub(crate) family: Family,
    /// The table's chain of that name.
    pub(crate) chain: &'s dyn Fn(&[u8]) -> Option<Name>,
    /// The table is a fragment: any unknown target is a chain that is not shown.
    pub(crate) fragment: bool,
}

/// Reads the words behind `-A CHAIN` (from index `first`). `None` when the rule is for the other family only.
pub(crate) fn read(
    words: &mut Vec<Token<'_>>,
    first: usize,
    surroundings: &Surroundings<'_>,
    remarks: &mut Remarks,
) -> Option<Rule> {
    let draft = sort(words, first);
    if draft.only_ipv4.is_some_and(|ipv4| ipv4 != (surroundings.family == Family::Ipv4)) {
        return None;
    }
    let protocol = draft
        .basics
        .iter()
        .find(|basic| basic.0 == Basic::Protocol && !basic.1)
        .and_then(|basic| matches::protocol(&words.get(basic.2)?.text).ok());
    let context = Context { words, family: surroundings.family, protocol };
    let mut reader = Reader { context, surroundings, remarks, rule: Rule::default() };
    reader.basics(&draft);
    for group in &draft.matches {
        reader.matching(group);
    }
    reader.strays(&draft.strays);
    if let Some(group) = &draft.target {
        reader.target(group, draft.goto);
    }
    let mut rule = reader.rule;
    if let Some(span) = &draft.counters {
        rule.counters = words.get(span.clone()).and_then(counters);
        let option = span.start.saturating_sub(1);
        rule.text = words_text(words, &[first.saturating_sub(2)..option, span.end..words.len()]).into();
    }
    Some(rule)
}

/// Packets and bytes of `-c`.
fn counters(words: &[Token<'_>]) -> Option<Counters> {
    let (packets, bytes) = match words {
        [both] => values::split_once(&both.text, b',')?,
        [packets, bytes] => (&*packets.text, &*bytes.text),
        _ => return None,
    };
    let number = |text: &[u8]| std::str::from_utf8(text).ok()?.parse().ok();
    Some(Counters { packets: number(packets)?, bytes: number(bytes)? })
}

struct Reader<'r, 'w, 'a, 's> {
    context: Context<'w, 'a>,
    surroundings: &'r Surroundings<'s>,
    remarks: &'r mut Remarks,
    rule: Rule,
}

impl Reader<'_, '_, '_, '_> {
    fn basics(&mut self, draft: &Draft) {
        let mut basics = draft.basics.clone();
        basics.sort_by_key(|basic| basic.0);
        for (kind, negate, word) in basics {
            let value = self.context.words.get(word).map_or(&b""[..], |word| &word.text);
            match matches::basic(&self.context, kind, negate, value) {
                Ok(condition) => self.rule.steps.extend(condition.map(Step::Match)),
                Err(expected) => {
                    let option = match kind {
                        Basic::Source => "-s",
                        Basic::Destination => "-d",
                        Basic::InInterface => "-i",
                        Basic::OutInterface => "-o",
                        Basic::Protocol => "-p",
                        Basic::Fragment => "-f",
                    };
                    let bang = if negate { "! " } else { "" };
                    let text = if kind == Basic::Fragment {
                        format!("{bang}-f")
                    } else {
                        format!(
                            "{bang}{option} {}",
                            words_text(self.context.words, std::slice::from_ref(&(word..word + 1)))
                        )
                    };
                    self.warn(&Trouble { word, expected });
                    self.opaque_match(OpaqueKind::Property, text.into());
                }
            }
        }
    }

    fn matching(&mut self, group: &Group) {
        let Some(extension) = group.extension else {
            self.warn_group(group, "the match is unknown");
            let text = text_of(&self.context, group);
            return self.opaque_match(OpaqueKind::Stateful, text);
        };
        let needed = matches::needs(extension.name, self.context.family);
        if !needed.is_empty() && !self.context.protocol.is_some_and(|protocol| needed.contains(&protocol)) {
            self.warn_group(group, "this match needs -p with its protocol, without ! in front");
            let text = text_of(&self.context, group);
            return self.opaque_match(OpaqueKind::Property, text);
        }
        if group.cut_short {
            self.warn_group(group, "a value is missing or there is a ! too many");
            let text = text_of(&self.context, group);
            return self.opaque_match(OpaqueKind::Property, text);
        }
        if let Meaning::Opaque(kind) = extension.meaning {
            let text = text_of(&self.context, group);
            if extension.name == "recent" && group.args.iter().any(|arg| arg.name == "set" && !arg.negate) {
                // it writes the address down and always matches
                return self.rule.steps.push(Step::Effect(Effect::Harmless(text)));
            }
            return self.opaque_match(kind, text);
        }
        match matches::group(&self.context, group) {
            Ok(conditions) => self.rule.steps.extend(conditions.into_iter().map(Step::Match)),
            Err(trouble) => {
                self.warn(&trouble);
                let text = text_of(&self.context, group);
                self.opaque_match(OpaqueKind::Property, text);
            }
        }
        self.side_effects(group, extension.name);
    }

    /// Matches that say or do something besides matching.
    fn side_effects(&mut self, group: &Group, name: &str) {
        if name == "comment" {
            for arg in &group.args {
                self.rule.comments.push(String::from_utf8_lossy(self.context.value(arg, 0)).into());
            }
        }
        if name == "socket" && group.args.iter().any(|arg| arg.name == "restore-skmark") {
            let value = Expr::Opaque(text_of(&self.context, group));
            self.rule.steps.push(Step::Effect(Effect::Set { field: Field::Mark, value }));
        }
    }

    fn target(&mut self, group: &Group, goto: bool) {
        let name: &[u8] = group.name.and_then(|word| self.context.words.get(word)).map_or(b"", |word| &word.text);
        if group.extension.is_none() {
            let chain = (self.surroundings.chain)(name);
            let chain = chain.or_else(|| self.surroundings.fragment.then(|| name_text(name).into()));
            if let Some(chain) = chain {
                self.strays(group.spans.get(1..).unwrap_or_default());
                let verdict = if goto { Verdict::Goto(chain) } else { Verdict::Jump(chain) };
                return self.rule.steps.push(Step::Verdict(verdict));
            }
            self.warn_group(group, "neither a chain of this table nor a target hepguard knows");
            let text = text_of(&self.context, group);
            return self.rule.steps.push(Step::Verdict(Verdict::Opaque(text)));
        }
        let step = if group.cut_short {
            let word = group.name.unwrap_or(0);
            Err(Trouble { word, expected: "every option's value and no ! before a target" })
        } else {
            targets::lower(&self.context, group)
        };
        let step = step.unwrap_or_else(|trouble| {
            self.warn(&trouble);
            Step::Verdict(Verdict::Opaque(text_of(&self.context, group)))
        });
        self.rule.steps.push(step);
    }

    fn strays(&mut self, spans: &[Span]) {
        for span in spans {
            let text = words_text(self.context.words, std::slice::from_ref(span));
            self.warn(&Trouble { word: span.start, expected: "an option that hepguard knows" });
            self.opaque_match(OpaqueKind::Stateful, text.into());
        }
    }

    fn opaque_match(&mut self, kind: OpaqueKind, text: Box<str>) {
        self.rule.steps.push(Step::Match(Match::Opaque { kind, text }));
    }

    fn warn_group(&mut self, group: &Group, what: &str) {
        let start = group.spans.first().map_or(0, |span| span.start);
        let place = self.context.words.get(start).map_or((0, 0), |word| word.place);
        let text = text_of(&self.context, group);
        let message = format!("{what}, its answer is unknown: {}", excerpt(text.as_bytes()));
        self.remarks.add(Level::Warning, place.0, place.1, message);
    }

    fn warn(&mut self, trouble: &Trouble) {
        let words = self.context.words;
        let found = words.get(trouble.word);
        let place = found.or(words.last()).map_or((0, 0), |word| word.place);
        let found = found.map_or_else(|| "the end of the rule".to_owned(), |word| format!("\"{}\"", excerpt(word.raw)));
        self.remarks.add(
            Level::Warning,
            place.0,
            place.1,
            format!("expected {}, found {found}; kept as unknown", trouble.expected),
        );
    }
}

/// The group's words as they stand, from `-m` or `-j` on; the name of a match that `-p` brought along is added.
pub(crate) fn text_of(context: &Context<'_, '_>, group: &Group) -> Box<str> {
    let text = words_text(context.words, &group.spans);
    match (group.name, group.extension) {
        (None, Some(extension)) => format!("-m {} {text}", extension.name).into(),
        _ => text.into(),
    }
}

/// One option of a known match that hepguard cannot decide.
pub(crate) fn opaque_option(context: &Context<'_, '_>, module: &str, arg: &Arg) -> Match {
    Match::Opaque { kind: OpaqueKind::Property, text: opaque_text(context, module, arg) }
}

/// One option of a match as it stands, with the match's name.
pub(crate) fn opaque_text(context: &Context<'_, '_>, module: &str, arg: &Arg) -> Box<str> {
    let option = words_text(context.words, &[arg.word..arg.word + 1, arg.values.clone()]);
    let bang = if arg.negate { "! " } else { "" };
    format!("-m {module} {bang}{option}").into()
}

/// Words as they stand, separated by blanks; undecodable bytes are replaced.
pub(crate) fn words_text(words: &[Token<'_>], spans: &[Span]) -> String {
    let mut text = String::new();
    for word in spans.iter().filter_map(|span| words.get(span.clone())).flatten() {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(&String::from_utf8_lossy(word.raw));
    }
    text
}
