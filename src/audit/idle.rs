//! Rules that do nothing, in the words of those who wrote them, for the checks that report them.
//!
//! Rules that Felix and other generators write for their own working are left out: Felix's dispatch, mark and end-of-tier
//! rules, kube-proxy's, Docker's and the like are made by rote, and nobody but their maker can change them. A rule of a Calico
//! policy is several rules of the dataplane: it does nothing when none of those that carry it out is ever hit, in any table.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::context::place_text;
use crate::analysis::rules::{self, Dead, Limits, Outcome, Report, Unjudged, Why};
use crate::calico::integrity::plain_name;
use crate::calico::names::{Action, ChainRole, Direction, Meaning, Meanings, chain_role};
use crate::packet::Family;
use crate::ruleset::{Rule, RuleRef, Ruleset, Step, Table, Verdict, without_comments};
use crate::snapshot::Snapshot;

/// The checks that tell of such rules.
pub const CODES: [&str; 5] = ["HG606", "HG607", "HG608", "HG609", "HG611"];

/// Nodes an audit spends on one base chain: some 10 MB. Rules that need more need ten times more, too.
const NODES: usize = 200_000;
/// Nodes it spends on all of them.
const ALL_NODES: usize = 400_000;
/// Rules an audit looks at for this: each costs about as much as all the rest of an audit does.
const RULES: usize = 4_000;
/// Rules an audit explains.
const EXPLAINED: usize = 1_000;

/// What is wrong with a rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum Fault {
    /// It refuses what earlier rules accept.
    DenyOverruled,
    /// It accepts what earlier rules refuse.
    AcceptOverruled,
    /// Earlier rules decide all it asks for as it would, or lead it away.
    Shadowed,
    /// No packet it asks for comes to it.
    NeverAsked,
}

/// Those who wrote rules together: a policy, or a chain.
#[derive(Clone, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum Author {
    /// A Calico policy and its direction, in words.
    Policy {
        /// Kind, namespace and name.
        name: String,
        /// `ingress` or `egress`.
        direction: &'static str,
    },
    /// A chain, as the place of its policy.
    Chain(RuleRef),
}

/// A rule that does nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IdleRule {
    /// Who wrote it.
    pub author: Author,
    /// The rule, or the first of those that carry it out.
    pub place: RuleRef,
    /// What is wrong.
    pub fault: Fault,
    /// What it is called: `rule 3`, `ingress rule 1 (deny)`.
    pub called: String,
    /// What sees to it, in the order packets meet it.
    pub causes: Vec<Named>,
}

/// A rule by name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Named {
    /// Its place.
    pub place: RuleRef,
    /// What it is called, in a sentence.
    pub called: String,
    /// What it does.
    pub outcome: Outcome,
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub struct Idle {
    /// Rules, by author and place.
    pub rules: Vec<IdleRule>,
    /// Rules that later ones do again, by author and place; their causes are those later ones.
    pub redundant: Vec<IdleRule>,
    /// Base chains that were not judged.
    pub unjudged: Vec<Unjudged>,
}

/// Looks for them.
#[must_use]
pub fn idle(snapshot: &Snapshot) -> Idle {
    let ruleset = &snapshot.ruleset;
    let view = View { ruleset, meanings: Meanings::new(ruleset) };
    let limits = Limits { nodes: NODES, all_nodes: ALL_NODES, explained: EXPLAINED, rules: RULES };
    let report = rules::judge(ruleset, &snapshot.host, &limits, &|place| view.is_somebodys(place));
    let mut rules = view.rules(&report);
    rules.sort_by(|one, other| (&one.author, one.place).cmp(&(&other.author, other.place)));
    let redundant = report.redundant.iter().filter_map(|one| view.redundant(one.place, &one.by)).collect();
    Idle { rules, redundant, unjudged: report.unjudged }
}

/// Chains that programs fill by rote.
const GENERATED: [&str; 9] = ["KUBE-", "DOCKER", "LIBVIRT_", "CNI-", "CILIUM_", "ufw-", "ufw6-", "FLANNEL-", "cali-"];
/// Chains among them in which people's own rules stand.
const BY_PEOPLE: [&str; 3] = ["ufw-user-", "ufw6-user-", "DOCKER-USER"];

/// Whether a program fills the chain by rote.
fn is_generated(table: &Table, chain: &str) -> bool {
    if &*table.name == "firewalld" {
        return !["_allow", "_deny", "_pre", "_post"].iter().any(|end| chain.ends_with(end));
    }
    let starts = |all: &[&str]| all.iter().any(|prefix| chain.starts_with(prefix));
    starts(&GENERATED) && !starts(&BY_PEOPLE)
}

struct View<'r> {
    ruleset: &'r Ruleset,
    meanings: Meanings<'r>,
}

/// One rule of a policy in one family.
type Unit = (Family, String, Direction, u32);

impl View<'_> {
    /// Whether people would want to hear that a rule does nothing.
    fn is_somebodys(&self, place: RuleRef) -> bool {
        let Some(table) = self.ruleset.tables.get(place.table) else { return false };
        let Some(chain) = table.chains.get(place.chain) else { return false };
        let Some(rule) = chain.rules.get(place.rule) else { return false };
        let plain = plain_name(&chain.name);
        match chain_role(plain) {
            Some(ChainRole::Policy(..)) => true,
            Some(_) => false,
            None => !is_generated(table, &chain.name) && does_something(rule) && self.meanings.of(place).is_none(),
        }
    }

    fn rules(&self, report: &Report) -> Vec<IdleRule> {
        let mut found = Vec::new();
        let mut units: BTreeMap<Unit, Vec<&Dead>> = BTreeMap::new();
        for dead in &report.dead {
            match self.meanings.of(dead.place).as_deref() {
                Some(meaning) => {
                    if let Some(unit) = self.unit(dead.place, meaning) {
                        units.entry(unit).or_default().push(dead);
                    }
                }
                None if dead.behind_dead => {}
                None => found.extend(self.plain(dead)),
            }
        }
        let known: BTreeSet<RuleRef> = report.dead.iter().map(|dead| dead.place).collect();
        let carried_out = self.carried_out(units.keys().map(|(_, policy, direction, _)| (policy.as_str(), *direction)));
        for (unit, dead) in units {
            let all_dead =
                carried_out.get(&unit).is_some_and(|places| places.iter().all(|place| known.contains(place)));
            if all_dead {
                found.extend(self.policy_rule(&unit, &dead));
            }
        }
        found
    }

    fn unit(&self, place: RuleRef, meaning: &Meaning) -> Option<Unit> {
        let Meaning::Policy { direction, rule: Some(rule), .. } = meaning else { return None };
        let family = self.ruleset.tables.get(place.table)?.family;
        Some((family, policy_name(meaning)?, *direction, *rule))
    }

    /// The dataplane's rules that carry out each rule of these policies, in all tables: those that decide, else all.
    fn carried_out<'n>(&self, wanted: impl Iterator<Item = (&'n str, Direction)>) -> BTreeMap<Unit, Vec<RuleRef>> {
        let wanted: BTreeSet<(&str, Direction)> = wanted.collect();
        let mut found: BTreeMap<Unit, Vec<RuleRef>> = BTreeMap::new();
        if wanted.is_empty() {
            return found;
        }
        let mut deciding: BTreeSet<Unit> = BTreeSet::new();
        for (table, content) in self.ruleset.tables.iter().enumerate().filter(|(_, table)| !table.dormant) {
            for (chain, content) in content.chains.iter().enumerate() {
                let Some(ChainRole::Policy(..)) = chain_role(plain_name(&content.name)) else { continue };
                for (index, rule) in content.rules.iter().enumerate() {
                    let place = RuleRef { table, chain, rule: index };
                    let Some(unit) = self.meanings.of(place).and_then(|meaning| self.unit(place, &meaning)) else {
                        continue;
                    };
                    if !wanted.contains(&(unit.1.as_str(), unit.2)) {
                        continue;
                    }
                    let places = found.entry(unit.clone()).or_default();
                    match (decides(rule), deciding.contains(&unit)) {
                        (true, false) => {
                            *places = vec![place];
                            deciding.insert(unit);
                        }
                        (true, true) | (false, false) => places.push(place),
                        (false, true) => {}
                    }
                }
            }
        }
        found
    }

    /// A rule outside of Felix's chains.
    fn plain(&self, dead: &Dead) -> Option<IdleRule> {
        let rule = self.ruleset.rule(dead.place)?;
        let causes = self.causes(dead);
        let fault = fault(rules::outcome(rule), dead, &causes);
        let author = Author::Chain(RuleRef { rule: RuleRef::POLICY, ..dead.place });
        let called = format!("rule {} ({})", dead.place.rule + 1, verb(rule));
        Some(IdleRule { author, place: dead.place, fault, called, causes })
    }

    /// A rule that later ones do again, outside of Felix's chains.
    fn redundant(&self, place: RuleRef, by: &[RuleRef]) -> Option<IdleRule> {
        let rule = self.ruleset.rule(place)?;
        if self.meanings.of(place).is_some() || rules::is_about_known_connections(rule) {
            return None;
        }
        let named = |by: &RuleRef| Named {
            place: *by,
            called: self.called(place, *by, self.meanings.of(*by).as_ref()),
            outcome: rules::outcome(rule),
        };
        Some(IdleRule {
            author: Author::Chain(RuleRef { rule: RuleRef::POLICY, ..place }),
            place,
            fault: Fault::Shadowed,
            called: format!("rule {} ({})", place.rule + 1, verb(rule)),
            causes: by.iter().map(named).collect(),
        })
    }

    /// A rule of a policy, told by one of those that carry it out and has causes.
    fn policy_rule(&self, (_, name, direction, number): &Unit, dead: &[&Dead]) -> Option<IdleRule> {
        let told = dead.iter().find(|one| self.marks(one.place) && !one.causes.is_empty());
        let told = told.or_else(|| dead.iter().find(|one| !one.causes.is_empty())).or_else(|| dead.first())?;
        let meaning = self.meanings.of(told.place)?;
        let Meaning::Policy { action, .. } = &*meaning else { return None };
        let own = match action {
            Some(Action::Allow) => Outcome::Accept,
            Some(Action::Deny) => Outcome::Refuse,
            Some(Action::Pass) => Outcome::Leave,
            _ => Outcome::Nothing,
        };
        let causes = self.causes(told);
        // a part behind a match block asks for a mark that no packet brings along
        let why = if told.causes.is_empty() { Why::Covered } else { told.why };
        let word = action.map(|action| format!(" ({})", action.word())).unwrap_or_default();
        Some(IdleRule {
            author: Author::Policy { name: name.clone(), direction: direction.calico() },
            place: told.place,
            fault: fault(own, &Dead { why, causes: told.causes.clone(), ..**told }, &causes),
            called: format!("rule {number}{word}"),
            causes,
        })
    }

    /// Whether a rule only prepares: it has conditions of its own and sets marks.
    fn marks(&self, place: RuleRef) -> bool {
        self.ruleset.rule(place).is_some_and(|rule| !decides(rule))
    }

    /// The causes by name; those about known connections only where there is no other.
    fn causes(&self, dead: &Dead) -> Vec<Named> {
        let others: Vec<_> = dead.causes.iter().filter(|cause| !cause.known_connections).collect();
        let causes = if others.is_empty() { dead.causes.iter().collect() } else { others };
        let mut named: Vec<Named> = Vec::new();
        for cause in causes {
            let meaning = self.meanings.of(cause.place);
            let called = self.called(dead.place, cause.place, meaning.as_ref());
            let outcome = meaning.as_deref().and_then(decided).unwrap_or(cause.outcome);
            if !named.iter().any(|known| known.called == called) {
                named.push(Named { place: cause.place, called, outcome });
            }
        }
        named
    }

    /// What a rule is called in a sentence about another.
    fn called(&self, of: RuleRef, place: RuleRef, meaning: Option<&Rc<Meaning>>) -> String {
        if let Some(meaning) = meaning {
            return meaning.to_string();
        }
        let number = place.rule + 1;
        let verb = self.ruleset.rule(place).map_or("policy", verb);
        if (of.table, of.chain) == (place.table, place.chain) {
            return format!("rule {number} ({verb})");
        }
        let chain = self.ruleset.tables.get(place.table).and_then(|table| table.chains.get(place.chain));
        format!("{} rule {number} ({verb})", chain.map_or("?", |chain| &chain.name))
    }
}

/// A policy's kind, namespace and name.
fn policy_name(meaning: &Meaning) -> Option<String> {
    let Meaning::Policy { resource, namespace, policy, .. } = meaning else { return None };
    Some(match namespace {
        Some(namespace) => format!("{resource} {namespace}/{policy}"),
        None => format!("{resource} {policy}"),
    })
}

/// What Felix's rules decide, where the rule that carries it out does not tell.
fn decided(meaning: &Meaning) -> Option<Outcome> {
    match meaning {
        Meaning::Policy { action: Some(action), .. } | Meaning::Profile { action: Some(action), .. } => {
            Some(match action {
                Action::Allow => Outcome::Accept,
                Action::Deny => Outcome::Refuse,
                Action::Pass => Outcome::Leave,
                Action::Log => Outcome::Nothing,
            })
        }
        Meaning::Failsafe { .. }
        | Meaning::PolicyAccepted { .. }
        | Meaning::ProfileAccepted { .. }
        | Meaning::AcceptMark => Some(Outcome::Accept),
        Meaning::EndOfTier { .. } | Meaning::NoProfileMatched { .. } => Some(Outcome::Refuse),
        _ => None,
    }
}

fn fault(own: Outcome, dead: &Dead, causes: &[Named]) -> Fault {
    // what only takes known connections overrules nobody
    let weighty = |outcome| {
        let known = dead.causes.iter().all(|cause| cause.known_connections);
        !known && causes.iter().any(|cause| cause.outcome == outcome)
    };
    match (dead.why, own) {
        (Why::Impossible | Why::NotSent, _) => Fault::NeverAsked,
        (Why::Covered, Outcome::Refuse) if weighty(Outcome::Accept) => Fault::DenyOverruled,
        (Why::Covered, Outcome::Accept) if weighty(Outcome::Refuse) => Fault::AcceptOverruled,
        (Why::Covered, _) => Fault::Shadowed,
    }
}

/// Whether a rule ends the way of packets through its chain.
fn decides(rule: &Rule) -> bool {
    rule.steps.iter().any(|step| {
        matches!(step, Step::Verdict(verdict) if !matches!(verdict, Verdict::Continue | Verdict::Jump(_)))
            || matches!(step, Step::Vmap { .. })
    })
}

/// Whether it is worth a word that a rule is never hit: a return at the end of a chain is not.
fn does_something(rule: &Rule) -> bool {
    rule.steps.iter().any(|step| match step {
        Step::Verdict(verdict) => !matches!(verdict, Verdict::Return | Verdict::Continue),
        Step::Effect(effect) => !matches!(effect, crate::ruleset::Effect::Count),
        Step::Vmap { .. } => true,
        Step::Match(_) => false,
    })
}

/// What a rule does, in a word.
fn verb(rule: &Rule) -> &'static str {
    let verb = |step: &Step| match step {
        Step::Verdict(Verdict::Accept) => Some("accept"),
        Step::Verdict(Verdict::Drop) => Some("drop"),
        Step::Verdict(Verdict::Reject(_)) => Some("reject"),
        Step::Verdict(Verdict::Return) => Some("return"),
        Step::Verdict(Verdict::Jump(_)) => Some("jump"),
        Step::Verdict(Verdict::Goto(_)) => Some("goto"),
        Step::Verdict(Verdict::Nat(_)) => Some("NAT"),
        Step::Verdict(Verdict::Queue { .. }) => Some("queue"),
        Step::Vmap { .. } => Some("verdict map"),
        _ => None,
    };
    rule.steps.iter().rev().find_map(verb).unwrap_or("no verdict")
}

impl IdleRule {
    /// The rule's place and text, then those of its causes behind `word`, as evidence.
    #[must_use]
    pub fn evidence(&self, ruleset: &Ruleset, word: &str, most: usize) -> Vec<(String, String)> {
        let mut lines = vec![told(ruleset, self.place)];
        lines.extend(self.causes.iter().take(most).map(|cause| {
            let (place, text) = told(ruleset, cause.place);
            (format!("  {word} {place}"), text)
        }));
        lines
    }

    /// What sees to it, in a few words.
    #[must_use]
    pub fn because(&self) -> String {
        let names: Vec<&str> = self.causes.iter().take(2).map(|cause| cause.called.as_str()).collect();
        let more = self.causes.len().saturating_sub(names.len());
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        format!("{}{more}", names.join(" and "))
    }
}

fn told(ruleset: &Ruleset, place: RuleRef) -> (String, String) {
    let Some(table) = ruleset.tables.get(place.table) else { return Default::default() };
    let Some(chain) = table.chains.get(place.chain) else { return Default::default() };
    let text = ruleset.rule(place).map(|rule| without_comments(&rule.text)).unwrap_or_default();
    (place_text(table, chain, place.rule), text)
}

impl Author {
    /// In words.
    #[must_use]
    pub fn words(&self, ruleset: &Ruleset) -> String {
        match self {
            Self::Policy { name, direction } => format!("{name}, {direction}"),
            Self::Chain(place) => {
                let table = ruleset.tables.get(place.table);
                let chain = table.and_then(|table| table.chains.get(place.chain));
                let names = table.zip(chain).map(|(table, chain)| format!("{} {}", table.title(), chain.name));
                names.unwrap_or_default()
            }
        }
    }
}
