//! `hepguard matrix` for people and machines.

use serde::Serialize;

use super::reach::prefixes;
use super::text::{Style, Tone, count};
use super::trace::{Because, place, words};
use crate::analysis::matrix::{Bound, Matrix, Query, TooBig};
use crate::analysis::reach::Way;
use crate::calico::names::Meanings;
use crate::packet::{Family, Prefix};
use crate::ruleset::{RuleRef, Ruleset};

/// The schema of [`line()`], as shipped.
pub const SCHEMA: &str = include_str!("schemas/matrix.v1.json");

/// Prefixes of one class in a text; `-v` shows all.
const SHOWN: usize = 24;

/// An answer for one family.
#[derive(Debug)]
pub struct Told {
    /// The family.
    pub family: Family,
    /// What was asked.
    pub query: Query,
    /// Incoming interface asked for.
    pub iif: Option<String>,
    /// Outgoing interface asked for.
    pub oif: Option<String>,
    /// The answer, or why there is none.
    pub answer: Result<Matrix, TooBig>,
    /// Why the rules are not all known; empty when they are.
    pub blind: Vec<String>,
    /// Chains at other hooks the packets meet, as places of their policies.
    pub beside: Vec<RuleRef>,
}

impl Told {
    /// Whether everything needed was readable and every pair is decided.
    #[must_use]
    pub fn is_certain(&self) -> bool {
        self.blind.is_empty() && self.answer.as_ref().is_ok_and(|matrix| matrix.certain)
    }

    fn service(&self) -> String {
        let Query { protocol, port, .. } = self.query;
        port.map_or_else(|| protocol.to_string(), |port| format!("{protocol}/{port}"))
    }

    fn bound(&self) -> &'static str {
        if self.query.bound == Bound::May { "may" } else { "must" }
    }

    /// Nobody knows: all addresses in one class, which may talk to itself.
    fn nobody_knows(&self) -> (Vec<Vec<String>>, Vec<(u32, u32)>) {
        let edges = if self.query.bound == Bound::May { vec![(0, 0)] } else { Vec::new() };
        (vec![vec![Prefix::any(self.family).to_string()]], edges)
    }

    fn chain(&self) -> Option<RuleRef> {
        match self.query.way {
            Way::Chain { table, chain, .. } => Some(RuleRef { table, chain, rule: RuleRef::POLICY }),
            _ => None,
        }
    }
}

#[derive(Serialize)]
struct Document<'t> {
    schema: &'static str,
    family: Family,
    proto: String,
    port: Option<u16>,
    sport: Option<u16>,
    hook: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    chain: Option<ChainJson<'t>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iif: Option<&'t str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    oif: Option<&'t str>,
    bound: &'static str,
    certain: bool,
    classes: Vec<Vec<String>>,
    edges: Vec<(u32, u32)>,
    because: Vec<Because<'t>>,
    not_judged: Vec<ChainJson<'t>>,
}

#[derive(Serialize)]
struct ChainJson<'t> {
    backend: &'static str,
    family: Family,
    table: &'t str,
    chain: &'t str,
}

fn chain_json(ruleset: &Ruleset, at: RuleRef) -> Option<ChainJson<'_>> {
    let table = ruleset.tables.get(at.table)?;
    let chain = table.chains.get(at.chain)?;
    Some(ChainJson { backend: table.backend.name(), family: table.family, table: &table.name, chain: &chain.name })
}

/// The answer as one line of JSON (`hepguard/matrix/v1`).
#[must_use]
pub fn line(meanings: &Meanings<'_>, told: &Told) -> String {
    let ruleset = meanings.ruleset();
    let too_big = told.answer.as_ref().err().map(ToString::to_string);
    let (classes, edges) = match &told.answer {
        Ok(matrix) if told.blind.is_empty() => {
            let class = |class: &Vec<Prefix>| class.iter().map(ToString::to_string).collect();
            (matrix.classes.iter().map(class).collect(), matrix.edges.clone())
        }
        _ => told.nobody_knows(),
    };
    let mut because: Vec<Because<'_>> =
        told.blind.iter().chain(&too_big).map(|reason| Because { rule: None, reason }).collect();
    if let Ok(matrix) = &told.answer {
        because.extend(matrix.because.iter().map(|question| Because {
            rule: question.rule.and_then(|rule| place(meanings, rule, true)),
            reason: &question.reason,
        }));
    }
    super::json_text(&Document {
        schema: "hepguard/matrix/v1",
        family: told.family,
        proto: told.query.protocol.to_string(),
        port: told.query.port,
        sport: told.query.port.map(|_| told.query.source_port),
        hook: told.query.hook.name(),
        chain: told.chain().and_then(|at| chain_json(ruleset, at)),
        iif: told.iif.as_deref(),
        oif: told.oif.as_deref(),
        bound: told.bound(),
        certain: told.is_certain(),
        classes,
        edges,
        because,
        not_judged: told.beside.iter().filter_map(|at| chain_json(ruleset, *at)).collect(),
    })
}

/// The answer for people.
#[must_use]
pub fn text(ruleset: &Ruleset, told: &Told, style: Style, verbose: bool) -> String {
    let at = match told.chain().and_then(|at| chain_json(ruleset, at)) {
        Some(chain) => format!("chain {} of {} {}", chain.chain, chain.backend, chain.table),
        None => told.query.hook.name().to_owned(),
    };
    let from = told.iif.iter().map(|name| format!(" from {name}"));
    let links: String = from.chain(told.oif.iter().map(|name| format!(" to {name}"))).collect();
    let title = format!("matrix {} at {at}{links} ({})", told.service(), told.family);
    let mut out = format!("{}\n", style.paint(Tone::Strong, &title));
    if !told.blind.is_empty() {
        out.push_str(&style.wrap("  unknown  ", "everybody: not all rules could be read"));
        for spot in &told.blind {
            out.push_str(&style.wrap("           because ", spot));
        }
        out.push_str(&style.wrap("  ", "the rules that were read say:"));
    }
    match &told.answer {
        Ok(matrix) => classes(&mut out, matrix, style, verbose),
        Err(too_big) => out.push_str(&style.wrap("  unknown  ", &format!("everybody: {too_big}"))),
    }
    if let Ok(matrix) =
        told.answer.as_ref().map_err(|_| ()).and_then(|matrix| (!matrix.certain).then_some(matrix).ok_or(()))
    {
        let (says, other) = match told.query.bound {
            Bound::May => ("what cannot be decided counts as let through", "must"),
            Bound::Must => ("what cannot be decided counts as stopped", "may"),
        };
        out.push_str(&style.wrap("not certain: ", &format!("{says} here; --bound {other} shows the other answer")));
        for question in &matrix.because {
            let at = question.rule.map(|rule| format!("{}: ", words(ruleset, rule))).unwrap_or_default();
            out.push_str(&style.wrap("  because ", &format!("{at}{}", question.reason)));
        }
    }
    let beside: Vec<String> = told
        .beside
        .iter()
        .filter_map(|at| chain_json(ruleset, *at))
        .map(|chain| format!("{} {} {}", chain.backend, chain.table, chain.chain))
        .collect();
    if !beside.is_empty() {
        out.push_str(&style.wrap("judged at this hook alone; also on the way: ", &beside.join(", ")));
    }
    out
}

/// Each class with whom it may reach.
fn classes(out: &mut String, matrix: &Matrix, style: Style, verbose: bool) {
    let number_width = matrix.classes.len().saturating_sub(1).to_string().len();
    // the one that needs most words is what is left when the others are named
    let rest = matrix.classes.iter().enumerate().max_by_key(|(number, class)| (class.len(), usize::MAX - number));
    let rest =
        rest.filter(|(_, class)| class.len() > 1 && !verbose && matrix.classes.len() > 1).map(|(number, _)| number);
    let mut edges = matrix.edges.iter().peekable();
    for (number, class) in matrix.classes.iter().enumerate() {
        let mut to = Vec::new();
        while let Some((_, other)) = edges.next_if(|(from, _)| *from as usize == number) {
            to.push(*other);
        }
        let limit = if verbose { usize::MAX } else { SHOWN };
        let who = match rest == Some(number) {
            true => format!("everybody else ({})", count(class.len(), "prefix").replace("prefixs", "prefixes")),
            false => prefixes(class, class.len() as u128, limit),
        };
        out.push_str(&style.wrap(&format!("  {number:number_width$}  "), &who));
        let (tone, to) = match to.len() {
            0 => (Tone::Bad, "nobody".to_owned()),
            all if all == matrix.classes.len() => (Tone::Good, "everybody".to_owned()),
            _ => (Tone::Good, runs(&to)),
        };
        let head = format!("  {:number_width$}    to ", "");
        let mut line = style.wrap(&head, &to);
        if tone == Tone::Bad {
            line = line.replace("nobody", &style.paint(tone, "nobody"));
        }
        out.push_str(&line);
    }
}

/// Sorted numbers in few words: `0-3, 7`.
fn runs(numbers: &[u32]) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *number => *last = *number,
            _ => runs.push((*number, *number)),
        }
    }
    let words = runs.iter().map(|(first, last)| match last - first {
        0 => first.to_string(),
        1 => format!("{first}, {last}"),
        _ => format!("{first}-{last}"),
    });
    words.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::runs;

    #[test]
    fn neighbours_are_told_as_runs() {
        assert_eq!(runs(&[0, 1, 2, 3, 7, 9, 10]), "0-3, 7, 9, 10");
        assert_eq!(runs(&[]), "");
    }
}
