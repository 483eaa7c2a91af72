//! Rules in iptables' own syntax, as `iptables-save` prints them.
//!
//! Reading the text gives the rule's steps and comments back. What the model does not hold (log levels, NAT flags, queue
//! numbers) is not in it; [`Rule::text`] has all. `None` says that iptables has no words for something in the rule.

mod matches;
mod names;
mod targets;

use std::fmt::Write;

use self::matches::Printer;
use crate::packet::Family;
use crate::ruleset::{Effect, Match, Policy, Rule, Step, Table};

#[cfg(test)]
mod tests;

/// The rule from `-A CHAIN` on, without counters.
#[must_use]
pub fn rule(family: Family, chain: &str, rule: &Rule) -> Option<String> {
    let chain = names::chain(chain)?;
    let mut printer = Printer::new(family, &rule.comments);
    let mut target: Option<String> = None;
    let mut before: Option<&Match> = None;
    for step in &rule.steps {
        if target.is_some() {
            // iptables' rules have one target, at the end
            return None;
        }
        match step {
            Step::Match(condition) => printer.condition(condition)?,
            Step::Effect(effect) if before.is_some_and(|before| targets::is_part_of(effect, before)) => {}
            Step::Effect(Effect::Harmless(text)) if text.starts_with("-m ") => printer.opaque(text),
            Step::Effect(effect) => target = Some(targets::effect(effect)?),
            Step::Verdict(verdict) => target = Some(targets::verdict(family, verdict)?),
            Step::Vmap { .. } => return None,
        }
        before = if let Step::Match(condition) = step { Some(condition) } else { None };
    }
    printer.comments();
    let words = printer.finish();
    let mut text = format!("-A {chain}");
    for part in [words, target.unwrap_or_default()] {
        if !part.is_empty() {
            text.push(' ');
            text.push_str(&part);
        }
    }
    Some(text)
}

/// One condition as it would read in a rule of its own.
#[must_use]
pub fn condition(family: Family, condition: &Match) -> Option<String> {
    let mut printer = Printer::new(family, &[]);
    printer.condition(condition)?;
    Some(printer.finish())
}

/// The whole table as `iptables-save -c` prints it, chain policies' own counters excepted.
#[must_use]
pub fn table(table: &Table) -> Option<String> {
    let fragment = &*table.name == "?";
    let mut text = String::new();
    if !fragment {
        let _ = writeln!(text, "*{}", table.name);
    }
    for chain in &table.chains {
        let policy = match chain.base.as_ref().map(|base| base.policy) {
            Some(Policy::Accept) => "ACCEPT",
            Some(Policy::Drop) => "DROP",
            None => "-",
        };
        let _ = writeln!(text, ":{} {policy} [0:0]", names::chain(&chain.name)?);
    }
    for chain in &table.chains {
        for one in &chain.rules {
            if let Some(counters) = one.counters {
                let _ = write!(text, "[{}:{}] ", counters.packets, counters.bytes);
            }
            let _ = writeln!(text, "{}", rule(table.family, &chain.name, one)?);
        }
    }
    if !fragment {
        text.push_str("COMMIT\n");
    }
    Some(text)
}
