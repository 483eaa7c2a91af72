//! From dataplane rules back to the policy rules they were made of, by the mark bits they set and test.

use std::ops::Range;

use super::Action;
use super::meaning::{target, text_comment, verdict};
use crate::calico::spelling::words;
use crate::ruleset::{Effect, Rule, Step, Table, Verdict};

/// Felix's verdict bits in one table.
#[derive(Clone, Copy)]
pub(super) struct Marks {
    accept: u32,
    pass: u32,
    /// From 3.30 on.
    deny: Option<u32>,
}

impl Marks {
    /// Read from the rules that say what they test for, and from those that clear the bits of a packet that starts afresh:
    /// the deny bit is never cleared.
    pub(super) fn of(table: &Table) -> Self {
        const TESTS: [&str; 4] = [
            "Policy explicitly accepted packet.",
            "Host endpoint policy accepted packet.",
            "Return if policy accepted",
            "Return if profile accepted",
        ];
        let rules = || table.chains.iter().flat_map(|chain| &chain.rules);
        let says = |rule: &&Rule| text_comment(rule).is_some_and(|comment| TESTS.contains(&comment));
        let accept = rules().filter(says).find_map(tested_mark).filter(|bit| *bit < 1 << 28).unwrap_or(0x10000);
        let deny = accept << 2;
        let old = rules().filter_map(cleared_marks).any(|mask| mask & deny != 0 && mask & accept != 0);
        Self { accept, pass: accept << 1, deny: (!old).then_some(deny) }
    }

    fn holds(self, bits: u32) -> bool {
        bits == self.accept || bits == self.pass || Some(bits) == self.deny
    }
}

pub(super) fn takes_accept_mark(rule: &Rule, marks: Marks) -> bool {
    tested_mark(rule) == Some(marks.accept) && target(rule).is_none()
}

/// The bits a rule clears.
fn cleared_marks(rule: &Rule) -> Option<u32> {
    let words = words(&rule.text);
    let words: Vec<&str> = words.iter().map(|(word, _)| word.as_str()).collect();
    words.windows(3).find_map(|three| match three {
        ["MARK", "--set-xmark", value] => hex(value.strip_prefix("0x0/")?),
        ["mark", "&" | "and", kept] if words.contains(&"set") => hex(kept).map(|kept| !kept),
        _ => None,
    })
}

fn hex(text: &str) -> Option<u32> {
    u32::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

/// `X` of a rule that tests `mark & X == X`.
fn tested_mark(rule: &Rule) -> Option<u32> {
    let words = words(&rule.text);
    let words: Vec<&str> = words.iter().map(|(word, _)| word.as_str()).collect();
    words
        .windows(5)
        .find_map(|five| match five {
            ["mark", "&" | "and", mask, "==", value] => (hex(mask) == hex(value)).then(|| hex(mask)).flatten(),
            _ => None,
        })
        .or_else(|| {
            words.windows(3).find_map(|three| match three {
                ["mark", "--mark", value] => {
                    let (value, mask) = value.split_once('/')?;
                    (value == mask).then(|| hex(mask)).flatten()
                }
                _ => None,
            })
        })
}

/// `X` of a rule that sets bits `X`.
fn set_mark(rule: &Rule) -> Option<u32> {
    let words = words(&rule.text);
    let words: Vec<&str> = words.iter().map(|(word, _)| word.as_str()).collect();
    if let Some(value) = words.windows(3).find_map(|three| match three {
        ["MARK", "--set-xmark" | "--set-mark", value] => Some(*value),
        _ => None,
    }) {
        let (value, mask) = value.split_once('/')?;
        return (value == mask).then(|| hex(mask)).flatten();
    }
    words.windows(3).find_map(|three| match three {
        ["mark", "|" | "or", value] => hex(value),
        _ => None,
    })
}

/// The policy rule that a dataplane rule belongs to.
#[derive(Clone, Debug, Default)]
pub(super) struct Unit {
    /// Which of the policy's; `None` in the chain of a policy without rules.
    pub(super) number: Option<u32>,
    /// A log prefix tells the number, which counts all rules then.
    pub(super) logged: bool,
    /// What it does.
    pub(super) action: Option<Action>,
    /// The dataplane rules it is made of.
    pub(super) rules: Range<usize>,
}

/// Which rule of the policy a dataplane rule belongs to, and what it does. A policy rule is some scratch-mark rules, then
/// "set a mark" and what follows from the mark, or a log rule, or (before 3.30) a bare drop. A log prefix names it outright.
pub(super) fn unit(rules: &[Rule], index: usize, marks: Marks) -> Unit {
    let mut number = 0u32;
    let mut start = 0;
    while start < rules.len() {
        let length = unit_length(rules.get(start..).unwrap_or_default(), marks);
        let members = rules.get(start..start + length).unwrap_or_default();
        if (start..start + length).contains(&index) {
            let named = members.iter().find_map(log_prefix_index);
            let action = members.iter().rev().find_map(|rule| action_of(rule, marks));
            // a lone comment rule stands for a policy without rules
            return Unit {
                number: action.map(|_| named.unwrap_or(number)),
                logged: named.is_some(),
                action,
                rules: start..start + length,
            };
        }
        start += length;
        number = number.saturating_add(1);
    }
    Unit::default()
}

fn action_of(rule: &Rule, marks: Marks) -> Option<Action> {
    if let Some(bits) = set_mark(rule) {
        if bits == marks.accept {
            return Some(Action::Allow);
        }
        if bits == marks.pass {
            return Some(Action::Pass);
        }
        if Some(bits) == marks.deny {
            return Some(Action::Deny);
        }
    }
    match verdict(rule) {
        Some(Verdict::Drop | Verdict::Reject(_)) => return Some(Action::Deny),
        Some(_) => return None,
        None => {}
    }
    rule.steps.iter().any(|step| matches!(step, Step::Effect(Effect::Log { group: None, .. }))).then_some(Action::Log)
}

/// How many dataplane rules the policy rule at the start of `rules` takes; at least 1.
fn unit_length(rules: &[Rule], marks: Marks) -> usize {
    let Some(head) = rules.iter().position(|rule| action_of(rule, marks).is_some()) else { return rules.len().max(1) };
    let follows = |rule: &Rule| tested_mark(rule).is_some_and(|bits| marks.holds(bits)) && set_mark(rule).is_none();
    let tail = rules.iter().skip(head + 1).take_while(|rule| follows(rule)).count();
    head + 1 + tail
}

/// The rule number in an NFLOG prefix such as `DPE3|gnp/locked`.
fn log_prefix_index(rule: &Rule) -> Option<u32> {
    rule.steps.iter().find_map(|step| match step {
        Step::Effect(Effect::Log { prefix: Some(prefix), group: Some(_), .. }) => {
            let (head, _) = prefix.split_once('|')?;
            head.get(3..)?.parse().ok()
        }
        _ => None,
    })
}
