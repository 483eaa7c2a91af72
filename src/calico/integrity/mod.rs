//! Live chains against the hash chain in their comments: what is proven to be as Felix wrote it, and what is not.
//!
//! Each hash builds on the full hash before it, of which the comment shows less than half. So after the first rule that
//! does not fit, nothing later can be proven from the live text alone. The check then looks for the text Felix must have
//! written (see `suspects`): a text whose hash equals the comment is the original, as surely as 96 bits can say, the
//! cause has a name, and the rest of the chain can be judged again.

mod budget;
mod sequence;
mod suspects;
#[cfg(test)]
pub(crate) mod tests;

use serde::Serialize;

use super::hash::{self, ShortHash};
use crate::packet::Family;
use crate::ruleset::{Backend, Chain, Rule, RuleRef, Ruleset, Step, Table, Verdict};
use budget::{Budget, ROUNDS};
use sequence::{Live, Place, Sequence};
use suspects::Pool;

/// What the check of all Felix chains gave.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Integrity {
    /// Chains checked: Felix's own, and kernel chains with rules of Felix.
    pub chains: usize,
    /// Rules in them that are Felix's or stand where only Felix's should.
    pub rules: usize,
    /// Rules whose hash follows from the live text.
    pub verified: usize,
    /// Rules about which nothing can be said: the listing is a fragment, or holds words Felix is not known to write.
    pub not_provable: usize,
    /// Everything that does not fit, in listing order.
    pub mismatches: Vec<Mismatch>,
    /// Each chain.
    #[serde(skip)]
    pub reports: Vec<ChainReport>,
    /// Texts put together and hashed: the work it took. It is bounded by the number and length of the rules, and where it
    /// ended the search for causes, mismatches that may have had a provable one say `proven: false`.
    #[serde(skip)]
    pub work: usize,
}

/// What the check of one chain gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainReport {
    /// Index into [`Ruleset::tables`].
    pub table: usize,
    /// Index into [`Table::chains`].
    pub chain: usize,
    /// Rules checked.
    pub rules: usize,
    /// Rules verified.
    pub verified: usize,
    /// Rules about which nothing can be said.
    pub not_provable: usize,
    /// The first rule that does not fit, 1-based as listed.
    pub first_break: Option<usize>,
}

/// How a rule fails the proof.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MismatchKind {
    /// Carries Felix's hash, but its text gives another one.
    Edited,
    /// In Felix's chain, but not by Felix: no hash, or one that fits nowhere.
    Foreign,
    /// A rule that Felix wrote before this one is gone.
    Missing,
    /// Felix's own rule in another place.
    OutOfOrder,
    /// Its hash builds on a rule that does not fit, so it proves nothing about the chain as it is now.
    Follows,
}

/// One rule that fails the proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mismatch {
    /// Its place in the model.
    #[serde(skip)]
    pub place: RuleRef,
    /// Who keeps it.
    pub backend: Backend,
    /// Its family.
    pub family: Family,
    /// Its table.
    pub table: Box<str>,
    /// Its chain.
    pub chain: Box<str>,
    /// Its number in the chain, from 1.
    pub rule: usize,
    /// How it fails.
    pub kind: MismatchKind,
    /// The hash in its comment.
    pub hash: Option<ShortHash>,
    /// The text Felix wrote, in Felix's spelling: of this rule, or for [`MismatchKind::Missing`] of the rule that is gone.
    pub expected: Option<String>,
    /// The cause is proven by a hash; else it is the likeliest reading.
    pub proven: bool,
    /// [`MismatchKind::Follows`]: the rule itself is as Felix wrote it.
    pub intact: bool,
    /// The live rule.
    pub text: Box<str>,
}

/// Checks every chain of Felix in every backend and family.
#[must_use]
pub fn check(ruleset: &Ruleset) -> Integrity {
    let mut sequences = Vec::new();
    let mut withheld = Vec::new();
    for (table_index, table) in ruleset.tables.iter().enumerate() {
        for (chain_index, chain) in table.chains.iter().enumerate() {
            match sequence_of(table, chain, table_index, chain_index) {
                // comments are not told either, so nothing can be said of the chain
                Some(sequence) if chain.rules.iter().any(Rule::is_withheld) => withheld.push(sequence.rules()),
                Some(sequence) => sequences.push(sequence),
                None => {}
            }
        }
    }
    let mut budget = Budget::default();
    let mut pool = Pool::default();
    for sequence in &mut sequences {
        sequence.verify(&mut budget);
        pool.learn(sequence);
    }
    explain(&mut sequences, &mut pool, &mut budget);
    let mut integrity = Integrity { work: budget.spent(), ..Integrity::default() };
    for mut sequence in sequences {
        sequence.close();
        integrity.add(ruleset, &sequence);
    }
    for rules in withheld {
        integrity.chains += 1;
        integrity.rules += rules;
        integrity.not_provable += rules;
    }
    integrity
}

/// Looks for causes, in every broken chain by cheap means before in any by costly ones.
fn explain(sequences: &mut [Sequence<'_>], pool: &mut Pool, budget: &mut Budget) {
    let mut work = 0;
    for (effort, more) in ROUNDS {
        work += more;
        let mut waiting = sequences.iter().filter(|sequence| sequence.gains_from(effort)).count();
        for sequence in sequences.iter_mut().filter(|sequence| sequence.gains_from(effort)) {
            let before = budget.spent();
            budget.open(work / waiting.max(1));
            sequence.explain(effort, pool, budget);
            pool.learn(sequence);
            work = work.saturating_sub(budget.spent() - before);
            waiting = waiting.saturating_sub(1);
        }
    }
}

impl Integrity {
    fn add(&mut self, ruleset: &Ruleset, sequence: &Sequence<'_>) {
        let report = ChainReport {
            table: sequence.table,
            chain: sequence.chain,
            rules: sequence.rules(),
            verified: sequence.verified(),
            not_provable: sequence.not_provable(),
            first_break: sequence.first_break(),
        };
        self.chains += 1;
        self.rules += report.rules;
        self.verified += report.verified;
        self.not_provable += report.not_provable;
        self.reports.push(report);
        let Some(table) = ruleset.tables.get(sequence.table) else { return };
        let Some(chain) = table.chains.get(sequence.chain) else { return };
        self.mismatches.extend(sequence.findings().map(|finding| Mismatch {
            place: RuleRef { table: sequence.table, chain: sequence.chain, rule: finding.rule },
            backend: table.backend,
            family: table.family,
            table: Box::from(&*table.name),
            chain: Box::from(&*chain.name),
            rule: finding.rule + 1,
            kind: finding.kind,
            hash: finding.hash,
            expected: finding.expected,
            proven: finding.proven,
            intact: finding.intact,
            text: chain.rules.get(finding.rule).map(|rule| rule.text.clone()).unwrap_or_default(),
        }));
    }
}

/// Whether the whole table belongs to Felix (nft mode).
#[must_use]
pub fn is_felix_table(table: &Table) -> bool {
    table.backend == Backend::Nft && matches!(&*table.name, "calico" | "calico-arp")
}

/// The chain's name without the layer that nft mode puts before it: `cali-INPUT` for `filter-cali-INPUT`.
#[must_use]
pub fn plain_name(name: &str) -> &str {
    ["filter-", "mangle-", "nat-", "raw-"].into_iter().find_map(|layer| name.strip_prefix(layer)).unwrap_or(name)
}

/// Whether this is a chain that Felix made and only Felix fills.
#[must_use]
pub fn is_felix_chain(table: &Table, name: &str) -> bool {
    match table.backend {
        Backend::Nft => is_felix_table(table) && plain_name(name).starts_with("cali-"),
        _ => name.starts_with("cali-"),
    }
}

/// The hash in a rule's comments.
#[must_use]
pub fn comment_hash(rule: &Rule) -> Option<ShortHash> {
    rule.comments.iter().find_map(|comment| ShortHash::from_comment(comment))
}

/// The rules of a chain that take part; `None` when nothing in it is Felix's business.
fn sequence_of<'a>(table: &'a Table, chain: &'a Chain, table_index: usize, chain_index: usize) -> Option<Sequence<'a>> {
    let own = is_felix_chain(table, &chain.name);
    let owned_hook = is_felix_table(table);
    if table.backend == Backend::Nft && !owned_hook {
        return None;
    }
    let takes_part = |rule: &Rule| own || owned_hook || comment_hash(rule).is_some() || jumps_to_felix(rule);
    let live: Vec<Live<'a>> = chain
        .rules
        .iter()
        .enumerate()
        .filter(|(_, rule)| takes_part(rule))
        .map(|(index, rule)| Live::new(index, rule, comment_hash(rule)))
        .collect();
    if live.is_empty() && !own {
        return None;
    }
    let place = Place {
        table: table_index,
        chain: chain_index,
        name: &chain.name,
        appends: (!own).then(|| hash::appends(&chain.name)),
        backend: table.backend,
        family: table.family,
        fragment: &*table.name == "?",
    };
    Some(Sequence::new(place, live))
}

fn jumps_to_felix(rule: &Rule) -> bool {
    rule.steps.iter().any(
        |step| matches!(step, Step::Verdict(Verdict::Jump(chain) | Verdict::Goto(chain)) if chain.starts_with("cali-")),
    )
}
