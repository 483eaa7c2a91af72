//! Rules in a row that look at one address each: summed up piece of the address line by piece, without a diagram for any
//! single rule.
//!
//! The ends of the rules' prefixes cut the line into pieces. On a piece the same rules apply, so what is left to decide does
//! not depend on the address; pieces with the same rules left share the answer. Long lists of addresses (spoofing checks,
//! block lists) so cost one pass over their sorted ends.

use std::collections::{BTreeSet, HashMap};

use super::chains::Summary;
use super::walk::{Flow, Walk};
use crate::packet::Family;
use crate::ruleset::{Effect, Expr, Field, Interval, Match, Operator, Rule, SetRef, Step, Verdict};
use crate::space::Dimension;
use crate::space::bdd::{Built, Set};
use crate::space::encode::{Site, Truth};
use crate::space::header::Binding;
use crate::space::line::Line;
use crate::space::ranges::{gaps, joined, mask};

/// Larger sets are built once and looked up.
const MAX_ELEMENTS: usize = 64;
/// Rules that apply, over all pieces, for each rule: nested prefixes are few, and where they are many diagrams are better.
const MAX_OVERLAP: usize = 16;

/// Which address a rule looks at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    Source,
    Destination,
}

/// What a rule does to packets it matches.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Outcome {
    Accepted,
    Returned,
    Refused,
}

/// A rule on a piece of the address line: packets it certainly and possibly matches.
type Left = (Set, Set, Outcome);

/// A rule of a run.
struct Entry {
    truth: Truth,
    outcome: Outcome,
    addresses: Vec<Interval>,
}

/// The address line cut up, each piece with the number of its class.
type Pieces = Vec<(Interval, usize)>;

/// What happens on a piece: accepted, returned, refused, next.
type Answer = [Set; 4];

/// The address a rule looks at, when it looks at one, everything else it asks is of other fields, and all it does is to give a
/// verdict.
pub(super) fn side(rule: &Rule) -> Option<Side> {
    let mut found = None;
    for (at, step) in rule.steps.iter().enumerate() {
        match step {
            Step::Match(condition) => match address(condition) {
                Some((_, side)) if found.is_none_or(|known| known == side) => found = Some(side),
                Some(_) => return None,
                None if is_about_others(condition) => {}
                None => return None,
            },
            Step::Effect(Effect::Log { .. } | Effect::Count | Effect::Harmless(_) | Effect::Offload(_)) => {}
            Step::Verdict(Verdict::Accept | Verdict::Drop | Verdict::Reject(_) | Verdict::Return)
                if at + 1 == rule.steps.len() => {}
            _ => return None,
        }
    }
    found
}

/// The address a condition looks at.
fn address(condition: &Match) -> Option<(&Field, Side)> {
    let field = match condition {
        Match::Compare { left: Expr::Field(field), operator: Operator::Eq | Operator::Ne, right: Expr::Number(_) } => {
            field
        }
        Match::Lookup { left: Expr::Field(field), set: SetRef::Anonymous(elements), .. }
            if elements.dimensions() == 1 && elements.is_plain() && elements.len() <= MAX_ELEMENTS =>
        {
            field
        }
        _ => return None,
    };
    match field {
        Field::Ip4Saddr | Field::Ip6Saddr => Some((field, Side::Source)),
        Field::Ip4Daddr | Field::Ip6Daddr => Some((field, Side::Destination)),
        _ => None,
    }
}

/// Addresses for which it holds.
fn addresses(condition: &Match, width: u32) -> Vec<Interval> {
    let (inside, negate) = match condition {
        Match::Compare { operator, right: Expr::Number(number), .. } => {
            (vec![Interval::single(*number)], *operator == Operator::Ne)
        }
        Match::Lookup { negate, set: SetRef::Anonymous(elements), .. } => {
            (joined(elements.keys().filter_map(|key| key.first().copied()).collect()), *negate)
        }
        _ => return Vec::new(),
    };
    if negate { gaps(&inside, width) } else { inside }
}

/// Whether a condition depends on no address.
fn is_about_others(condition: &Match) -> bool {
    match condition {
        Match::Opaque { .. } | Match::Xtables { .. } => true,
        Match::Compare { left: Expr::Field(Field::EtherSaddr | Field::EtherDaddr), right: Expr::Number(_), .. } => true,
        condition => is_cheap(condition),
    }
}

/// Whether a condition asks for a few bits only.
pub(super) fn is_cheap(condition: &Match) -> bool {
    match condition {
        Match::Compare { left, right, .. } => of_few_bits(left) && of_few_bits(right),
        Match::Lookup { left, set: SetRef::Anonymous(elements), .. } => {
            of_few_bits(left) && elements.len() <= MAX_ELEMENTS
        }
        Match::Not(inner) => is_cheap(inner),
        Match::Any(all) | Match::All(all) => all.iter().all(is_cheap),
        _ => false,
    }
}

fn of_few_bits(expr: &Expr) -> bool {
    use Field as F;
    match expr {
        Expr::Number(_) => true,
        Expr::And(left, right) => of_few_bits(left) && of_few_bits(right),
        Expr::Field(field) => matches!(
            field,
            F::L4proto
                | F::Ip4Protocol
                | F::Ip6Nexthdr
                | F::Nfproto
                | F::Sport
                | F::Dport
                | F::TcpFlags
                | F::IcmpType
                | F::IcmpCode
                | F::Icmp6Type
                | F::Icmp6Code
                | F::CtState
                | F::CtStatus
                | F::CtDirection
                | F::Mark
                | F::Iifname
                | F::Oifname
        ),
        _ => false,
    }
}

impl<'a> Walk<'a> {
    /// Whether a rule certainly matches no packet with a header, as far as conditions tell that cost little. They may come
    /// last in the rule.
    pub(super) fn is_out(&mut self, rule: &'a Rule, site: Site, header: usize) -> Built<bool> {
        let mut dear = false;
        for step in &rule.steps {
            match step {
                Step::Match(condition) if !is_cheap(condition) => dear = true,
                // conditions before the first dear one come first anyway
                Step::Match(condition) if dear => {
                    let header = self.header(header);
                    if self.encoder.truth(condition, site, &header)?.possible.is_empty() {
                        return Ok(true);
                    }
                }
                Step::Match(_) | Step::Effect(Effect::Count) => {}
                _ => break,
            }
        }
        Ok(false)
    }

    /// Sums up rules that all look at the address of one side; `None` where that is not open, or the prefixes overlap too
    /// much.
    pub(super) fn run(&mut self, site: Site, rules: &'a [Rule], side: Side, number: usize) -> Built<Option<Summary>> {
        let header = self.header(number);
        let end = if side == Side::Source { header.ends.src } else { header.ends.dst };
        let Binding::Free(dimension @ (Dimension::Source | Dimension::Destination)) = end else { return Ok(None) };
        let mut entries = Vec::with_capacity(rules.len());
        for rule in rules {
            if let Some(entry) = self.entry(rule, site, &header)? {
                entries.push(entry);
            }
        }
        let most = mask(self.width());
        let Some((pieces, classes)) = pieces(&entries, most) else { return Ok(None) };
        let mut answers = Vec::with_capacity(classes.len());
        let mut in_doubt = false;
        for class in &classes {
            let (answer, doubtful) = self.answer_of(class)?;
            answers.push(answer);
            in_doubt |= doubtful;
        }
        let place = self.encoder.layout.place(dimension);
        let pieces = match self.encoder.layout.line() {
            Some(line) => on_line(line, pieces, classes.len()),
            None => pieces,
        };
        let mut spread = |kind: usize| -> Built {
            let of = |(interval, class): &(Interval, usize)| {
                (*interval, answers.get(*class).map_or(Set::NONE, |one| one[kind]))
            };
            let spread: Vec<(Interval, Set)> = pieces.iter().map(of).collect();
            self.encoder.bdd.spread(place, &spread)
        };
        let [accepted, returned] = [spread(0)?, spread(1)?];
        let refused = if in_doubt { Some(spread(2)?) } else { None };
        let next = spread(3)?;
        let flow = |set: Set| (!set.is_empty()).then_some(Flow { header: number, tag: 0, set });
        Ok(Some(Summary {
            accepted: flow(accepted).into_iter().collect(),
            returned: flow(returned).into_iter().collect(),
            next: flow(next).into_iter().collect(),
            refused: refused.filter(|_| self.refusals),
            lost: Set::NONE,
        }))
    }

    fn width(&self) -> u32 {
        if self.facts.family() == Family::Ipv4 { 32 } else { 128 }
    }

    /// A rule of a run; `None` when it does nothing.
    fn entry(&mut self, rule: &'a Rule, site: Site, header: &crate::space::header::Header) -> Built<Option<Entry>> {
        let outcome = match rule.steps.last() {
            Some(Step::Verdict(Verdict::Accept)) => Outcome::Accepted,
            Some(Step::Verdict(Verdict::Return)) => Outcome::Returned,
            Some(Step::Verdict(Verdict::Drop | Verdict::Reject(_))) => Outcome::Refused,
            _ => return Ok(None),
        };
        let width = self.width();
        let mut truth = Truth::YES;
        let mut addresses_left = vec![Interval { low: 0, high: mask(width) }];
        for step in &rule.steps {
            let Step::Match(condition) = step else { continue };
            match address(condition) {
                Some((field, _)) => {
                    // a packet of the other family has no such address
                    let is_ipv4 = matches!(field, Field::Ip4Saddr | Field::Ip4Daddr);
                    if is_ipv4 != (width == 32) {
                        return Ok(None);
                    }
                    addresses_left = common(&addresses_left, &addresses(condition, width));
                }
                None => {
                    let one = self.encoder.truth(condition, site, header)?;
                    truth = truth.and(&mut self.encoder.bdd, one)?;
                }
            }
            if truth.possible.is_empty() || addresses_left.is_empty() {
                return Ok(None);
            }
        }
        Ok(Some(Entry { truth, outcome, addresses: addresses_left }))
    }

    /// What the rules left on a piece do, and whether a packet may have several outcomes.
    fn answer_of(&mut self, class: &[Left]) -> Built<(Answer, bool)> {
        let bdd = &mut self.encoder.bdd;
        let mut answer = [Set::NONE; 4];
        let mut next = Set::ALL;
        let mut in_doubt = false;
        for (certain, possible, outcome) in class {
            let matched = bdd.and(next, *possible)?;
            let slot = &mut answer[*outcome as usize];
            *slot = bdd.or(*slot, matched)?;
            next = bdd.minus(next, *certain)?;
            in_doubt |= certain != possible;
        }
        answer[3] = next;
        if in_doubt {
            in_doubt = false;
            let mut seen = Set::NONE;
            for set in answer {
                in_doubt |= !bdd.and(seen, set)?.is_empty();
                seen = bdd.or(seen, set)?;
            }
        }
        Ok((answer, in_doubt))
    }
}

/// The pieces by the numbers of a line instead of addresses, for so many classes of pieces.
fn on_line(line: &Line, pieces: Pieces, classes: usize) -> Pieces {
    let mut by_class: Vec<Vec<Interval>> = vec![Vec::new(); classes];
    for (interval, class) in pieces {
        if let Some(intervals) = by_class.get_mut(class) {
            intervals.push(interval);
        }
    }
    // the class in most places is the rest
    let rest = (0..classes).max_by_key(|class| by_class.get(*class).map_or(0, Vec::len)).unwrap_or(0);
    let mut numbered = Pieces::new();
    for (class, intervals) in by_class.iter().enumerate().filter(|(class, _)| *class != rest) {
        numbered.extend(line.numbers(intervals).into_iter().map(|interval| (interval, class)));
    }
    numbered.sort_unstable();
    let (mut all, mut next) = (Pieces::with_capacity(2 * numbered.len() + 1), Some(0));
    for (Interval { low, high }, class) in numbered {
        let Some(start) = next.filter(|start| *start <= high) else { continue };
        if start < low {
            all.push((Interval { low: start, high: low - 1 }, rest));
        }
        // they overlap only where they do not fit the line, and then nothing of it counts
        all.push((Interval { low: low.max(start), high }, class));
        next = high.checked_add(1);
    }
    all.extend(next.map(|low| (Interval { low, high: u128::MAX }, rest)));
    all
}

/// What is in both; each as from [`joined`].
fn common(left: &[Interval], right: &[Interval]) -> Vec<Interval> {
    let mut both = Vec::new();
    for one in left {
        let from = right.partition_point(|other| other.high < one.low);
        let overlapping = right.iter().skip(from).take_while(|other| other.low <= one.high);
        both.extend(overlapping.map(|other| Interval { low: one.low.max(other.low), high: one.high.min(other.high) }));
    }
    both
}

/// The address line in pieces, each with the number of its class, and what is left to decide on each class. `None` when the
/// rules overlap too much.
fn pieces(entries: &[Entry], most: u128) -> Option<(Pieces, Vec<Vec<Left>>)> {
    let mut events: Vec<(u128, usize, bool)> = Vec::new();
    for (number, entry) in entries.iter().enumerate() {
        for interval in &entry.addresses {
            events.push((interval.low, number, true));
            events.extend(interval.high.checked_add(1).filter(|end| *end <= most).map(|end| (end, number, false)));
        }
    }
    events.sort_unstable();
    let mut pieces = Pieces::new();
    let (mut classes, mut numbers): (Vec<Vec<Left>>, HashMap<Vec<Left>, usize>) = (Vec::new(), HashMap::new());
    let mut active: BTreeSet<usize> = BTreeSet::new();
    let mut allowed = MAX_OVERLAP * (entries.len() + events.len()) + 1024;
    let mut at = 0;
    let mut start = 0u128;
    loop {
        // an interval may end where another of the same rule starts
        let end = at + events.iter().skip(at).take_while(|(position, _, _)| *position == start).count();
        let here = events.get(at..end).unwrap_or_default();
        for (_, number, _) in here.iter().filter(|(_, _, starts)| !starts) {
            active.remove(number);
        }
        for (_, number, _) in here.iter().filter(|(_, _, starts)| *starts) {
            active.insert(*number);
        }
        at = end;
        let mut left: Vec<Left> = Vec::new();
        for entry in active.iter().filter_map(|number| entries.get(*number)) {
            left.push((entry.truth.certain, entry.truth.possible, entry.outcome));
            if entry.truth == Truth::YES {
                break;
            }
        }
        allowed = allowed.checked_sub(left.len())?;
        let class = *numbers.entry(left.clone()).or_insert_with(|| {
            classes.push(left);
            classes.len() - 1
        });
        let next = events.get(at).map(|(position, _, _)| *position);
        let high = next.map_or(most, |next| next - 1);
        match pieces.last_mut() {
            Some((interval, known)) if *known == class => interval.high = high,
            _ => pieces.push((Interval { low: start, high }, class)),
        }
        match next {
            Some(next) => start = next,
            None => return Some((pieces, classes)),
        }
    }
}
