//! A table while its lines come in.

use std::collections::HashMap;
use std::sync::Arc;

use super::{UNREAD, builtin};
use crate::packet::Family;
use crate::ruleset::readers::name_text;
use crate::ruleset::{Backend, Chain, Effect, Name, Policy, Rule, Rules, Step, Table};

/// Each `-I` moves all rules behind it; no listing has any, and rule files a handful. This many moves take milliseconds.
const MAX_MOVED: usize = 10_000_000;

/// A table under construction.
pub(crate) struct OpenTable {
    table: Table,
    index: HashMap<Box<[u8]>, usize>,
    fragment: bool,
    line: u32,
    /// Chains whose rules are over because a rule of another chain came; only kept for fragments.
    finished: Vec<bool>,
    last: Option<usize>,
    /// How often a rule was moved by another put in front of it.
    moved: usize,
    /// Why every chain must be taken as unknown from its first rule on.
    blind: Option<&'static str>,
    /// Chains whose end is unknown, and why.
    blind_ends: Vec<(usize, &'static str)>,
}

impl OpenTable {
    /// An empty table.
    pub(crate) fn new(backend: Backend, family: Family, name: &str, source: &Name, fragment: bool, line: u32) -> Self {
        Self {
            table: empty(backend, family, name, source),
            index: HashMap::new(),
            fragment,
            line,
            finished: Vec::new(),
            last: None,
            moved: 0,
            blind: None,
            blind_ends: Vec::new(),
        }
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.table.name
    }

    /// Line it begins at.
    pub(crate) fn line(&self) -> u32 {
        self.line
    }

    /// Whether it is a piece of a listing without a `*table` line.
    pub(crate) fn is_fragment(&self) -> bool {
        self.fragment
    }

    /// Whether chain `index` hangs at a hook.
    pub(crate) fn is_base(&self, index: usize) -> bool {
        self.table.chains.get(index).is_some_and(|chain| chain.base.is_some())
    }

    /// In a listing declarations come before rules and only once: otherwise another table has begun.
    pub(crate) fn restarts_by_declaration(&self, name: &[u8]) -> bool {
        self.fragment && (self.last.is_some() || self.index.contains_key(name))
    }

    /// In a listing the rules of a chain stand together: otherwise another table has begun.
    pub(crate) fn restarts_by_rule(&self, name: &[u8]) -> bool {
        let finished = |index: &usize| self.finished.get(*index).copied().unwrap_or(false);
        self.fragment && self.index.get(name).is_some_and(finished)
    }

    /// The chain's shared name.
    pub(crate) fn chain_name(&self, name: &[u8]) -> Option<Name> {
        let chain = self.table.chains.get(*self.index.get(name)?)?;
        Some(Arc::clone(&chain.name))
    }

    /// Declares a chain; a built-in one that is declared again gets the new policy.
    pub(crate) fn declare(&mut self, name: &[u8], policy: Option<Policy>, line: u32) -> usize {
        let (index, new) = self.chain(name, line);
        if let Some(chain) = self.table.chains.get_mut(index) {
            let base = policy.and_then(|policy| builtin::base_chain(&self.table.name, &chain.name, policy));
            if new || base.is_some() {
                chain.base = base;
            }
        }
        index
    }

    /// The chain a rule belongs to, and whether nobody declared it.
    pub(crate) fn chain_for_rule(&mut self, name: &[u8], line: u32) -> (usize, bool) {
        let (index, new) = self.chain(name, line);
        if new && let Some(chain) = self.table.chains.get_mut(index) {
            chain.base = builtin::base_chain(&self.table.name, &chain.name, Policy::Accept);
        }
        (index, new)
    }

    fn chain(&mut self, name: &[u8], line: u32) -> (usize, bool) {
        if let Some(index) = self.index.get(name) {
            return (*index, false);
        }
        let index = self.table.chains.len();
        self.index.insert(name.into(), index);
        self.finished.push(false);
        let name = name_text(name).into();
        self.table.chains.push(Chain { name, base: None, rules: Rules::default(), line });
        (index, true)
    }

    /// Adds a rule at the end of the chain, or before the rule `at` (from 0).
    pub(crate) fn add(&mut self, index: usize, rule: Rule, at: Option<usize>) {
        if let Some(last) = self.last.replace(index)
            && last != index
            && let Some(finished) = self.finished.get_mut(last)
        {
            *finished = true;
        }
        let Some(chain) = self.table.chains.get_mut(index) else { return };
        match at {
            Some(at) if at < chain.rules.len() && self.moved < MAX_MOVED => {
                self.moved += chain.rules.len() - at;
                chain.rules.insert(at, rule);
            }
            Some(at) if at < chain.rules.len() => self.blind = Some("too many rules inserted with -I"),
            _ => chain.rules.push(rule),
        }
    }

    /// Something unreadable could have changed any chain.
    pub(crate) fn blind(&mut self, reason: &'static str) {
        self.blind = Some(reason);
    }

    /// What happens at the end of chain `index` is unknown.
    pub(crate) fn blind_end(&mut self, index: usize, reason: &'static str) {
        self.blind_ends.push((index, reason));
    }

    /// Rules may be missing at the end of every chain, and whole chains.
    pub(crate) fn cut_short(&mut self, reason: &str) {
        for hook in builtin::hooks(&self.table.name) {
            let name = hook.name().to_ascii_uppercase();
            self.chain_for_rule(name.as_bytes(), 0);
        }
        for chain in &mut self.table.chains {
            chain.rules.push(blind_rule(&format!("# {reason}"), 0));
        }
        self.table.other.push(format!("{UNREAD} {reason}").into());
    }

    /// The table as read.
    pub(crate) fn finish(mut self) -> Table {
        for (index, reason) in &self.blind_ends {
            if let Some(chain) = self.table.chains.get_mut(*index) {
                chain.rules.push(blind_rule(&format!("# {reason}"), chain.line));
            }
        }
        if let Some(reason) = self.blind {
            for chain in &mut self.table.chains {
                chain.rules.insert(0, blind_rule(&format!("# {reason}"), chain.line));
            }
            self.table.other.push(format!("{UNREAD} {reason}").into());
        }
        self.table
    }
}

fn empty(backend: Backend, family: Family, name: &str, source: &Name) -> Table {
    Table {
        backend,
        family,
        name: name.into(),
        dormant: false,
        chains: Vec::new(),
        sets: Vec::new(),
        source: Arc::clone(source),
        flowtables: Vec::new(),
        other: Vec::new(),
    }
}

/// A rule that may do anything.
fn blind_rule(text: &str, line: u32) -> Rule {
    Rule { steps: vec![Step::Effect(Effect::Opaque(text.into()))], text: text.into(), line, ..Rule::default() }
}

/// A table that exists, or may exist, and of which nothing is known: each of its hooks may do anything.
pub(crate) fn unread_table(
    backend: Backend,
    family: Family,
    name: &str,
    source: &Name,
    text: &str,
    line: u32,
) -> Table {
    let mut table = empty(backend, family, name, source);
    for hook in builtin::hooks(name) {
        let name = hook.name().to_ascii_uppercase();
        let base = builtin::base_chain(&table.name, &name, Policy::Accept);
        table.chains.push(Chain { name: name.into(), base, rules: vec![blind_rule(text, line)].into(), line });
    }
    table.other.push(format!("{UNREAD} {}", text.trim_start_matches(['#', ' '])).into());
    table
}
