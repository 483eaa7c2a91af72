//! What decides about packets, noted while a walk follows them.

use std::collections::{HashMap, HashSet};

use crate::ruleset::{Expr, Field, Match, Operator, Rule, RuleRef, Step};
use crate::space::bdd::{Group, Set};
use crate::space::header::Binding;
use crate::space::quick::QuickMap;

/// What decided.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct Decision {
    /// The rule or policy that made up its mind.
    pub rule: RuleRef,
    /// The rule that carried it out, when all it did was to read the other's mark.
    pub carried_out_by: Option<RuleRef>,
}

impl Decision {
    /// A rule that decides by itself.
    pub(super) fn by(rule: RuleRef) -> Self {
        Self { rule, carried_out_by: None }
    }
}

/// Mark bits remembered on one way.
const MAX_MARKED: usize = 8;

/// What a flow carries for the explanation.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Tag {
    /// Mark bits set on the way and the rules that set them, latest last.
    marked: Vec<(u32, RuleRef)>,
    /// What accepted in the current base chain.
    accepted_by: Option<Decision>,
    /// Best candidate for "what let it through", with its rank.
    pub(super) decided: Option<(u8, Decision)>,
}

/// A question nobody could answer, and the packets it was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Asked {
    pub(super) rule: Option<RuleRef>,
    pub(super) words: String,
    pub(super) set: Set,
}

/// The notes of one walk.
#[derive(Debug)]
pub(super) struct Notes {
    /// Variables nobody shows: what depends on them is in doubt.
    pub(super) hidden: Group,
    /// Nodes of which it is known whether they depend on them.
    pub(super) depend: QuickMap<usize, bool>,
    /// Only open questions are asked for, not what decides: this many of them.
    pub(super) questions_only: Option<usize>,
    /// Whether somebody asks for all that was refused together.
    pub(super) joins: bool,
    tags: Vec<Tag>,
    numbers: HashMap<Tag, usize>,
    /// Packets each rule or policy refused.
    pub(super) refusals: Vec<(Decision, Set)>,
    /// Packets the kernel itself refused and why.
    pub(super) stopped: Vec<(String, Set)>,
    /// Open questions in the order they were met.
    pub(super) questions: Vec<Asked>,
    /// The different ones among them.
    different: HashSet<(Option<RuleRef>, String)>,
}

impl Notes {
    pub(super) fn new(hidden: Group, questions_only: Option<usize>) -> Self {
        Self {
            hidden,
            depend: QuickMap::default(),
            questions_only,
            joins: true,
            tags: Vec::new(),
            numbers: HashMap::new(),
            refusals: Vec::new(),
            stopped: Vec::new(),
            questions: Vec::new(),
            different: HashSet::new(),
        }
    }

    /// The number of a tag.
    pub(super) fn tag(&mut self, tag: Tag) -> usize {
        if let Some(known) = self.numbers.get(&tag) {
            return *known;
        }
        self.tags.push(tag.clone());
        self.numbers.insert(tag, self.tags.len() - 1);
        self.tags.len() - 1
    }

    /// The tag with a number.
    pub(super) fn of(&self, number: usize) -> Tag {
        self.tags.get(number).cloned().unwrap_or_default()
    }

    /// `decision` accepted in this base chain.
    pub(super) fn accepted(&mut self, tag: usize, decision: Decision) -> usize {
        let tag = Tag { accepted_by: Some(decision), ..self.of(tag) };
        self.tag(tag)
    }

    /// Remembers what let the flow pass this base chain (`policy`, else what accepted), unless something weightier did before.
    pub(super) fn credited(&mut self, tag: usize, rank: u8, policy: Option<Decision>) -> usize {
        let mut tag = self.of(tag);
        let decision = policy.or(tag.accepted_by);
        tag.accepted_by = None;
        if let Some(decision) = decision.filter(|_| tag.decided.is_none_or(|(best, _)| best <= rank)) {
            tag.decided = Some((rank, decision));
        }
        self.tag(tag)
    }

    /// Remembers who set mark bits.
    pub(super) fn marked(&mut self, tag: usize, before: Binding, after: Binding, rule: RuleRef) -> usize {
        let bits = |mark: Binding| mark.known().and_then(|mark| u32::try_from(mark).ok()).unwrap_or(0);
        let new = bits(after) & !bits(before);
        let mut tag = self.of(tag);
        // who set bits that are gone now matters no more
        let left = bits(after);
        tag.marked.retain(|(bits, _)| bits & left != 0);
        if new != 0 && tag.marked.len() < MAX_MARKED {
            tag.marked.push((new, rule));
        }
        self.tag(tag)
    }

    /// Who decides when `rule` gives a verdict that depends on `wanted` mark bits being set.
    pub(super) fn decision(&self, tag: usize, rule: RuleRef, wanted: u32) -> Decision {
        match self.of(tag).marked.iter().rev().find(|(bits, _)| bits & wanted != 0) {
            Some((_, marker)) => Decision { rule: *marker, carried_out_by: Some(rule) },
            None => Decision::by(rule),
        }
    }

    /// `by` refused these packets.
    pub(super) fn refused(&mut self, by: Decision, set: Set) {
        if !set.is_empty() {
            self.refusals.push((by, set));
        }
    }

    /// The kernel itself refused these packets.
    pub(super) fn refused_by_kernel(&mut self, why: &str, set: Set) {
        if !set.is_empty() {
            self.stopped.push((why.to_owned(), set));
        }
    }

    /// Whether as many different questions are noted as were asked for.
    pub(super) fn is_full(&self) -> bool {
        self.questions_only.is_some_and(|most| self.different.len() >= most)
    }

    /// A question was open for these packets.
    pub(super) fn asked(&mut self, rule: Option<RuleRef>, words: String, set: Set) {
        if !set.is_empty() {
            if self.questions_only.is_some() {
                self.different.insert((rule, words.clone()));
            }
            self.questions.push(Asked { rule, words, set });
        }
    }
}

/// Mark bits a rule needs to be set (`mark & 0x10000 == 0x10000`).
pub(super) fn wanted_marks(rule: &Rule) -> u32 {
    let wanted = |step: &Step| match step {
        Step::Match(Match::Compare { left, operator: Operator::Eq | Operator::AnyBit, right: Expr::Number(bits) }) => {
            let mark = match left {
                Expr::And(left, _) => **left == Expr::Field(Field::Mark),
                left => *left == Expr::Field(Field::Mark),
            };
            if mark { u32::try_from(*bits).unwrap_or(0) } else { 0 }
        }
        _ => 0,
    };
    rule.steps.iter().map(wanted).fold(0, |all, bits| all | bits)
}
