//! Conditions of rules as sets: what a match holds for, for all packets of a header at once.
//!
//! A condition that cannot be decided holds *certainly* for some packets and *possibly* for more ([`Truth`]). An undecidable
//! property of the packet (a string, a BPF program) gets a variable of its own, so that asking twice gives one answer; what
//! depends on state (rates, recent lists) is open anew at each meeting.

mod alike;
mod counted;
mod fields;
mod grown;
mod ipset;
mod lookup;
mod value;

use std::collections::HashMap;
use std::rc::Rc;

use crate::packet::{Family, Hook};
use crate::ruleset::{
    Data, Expr, FibField, Field, Interval, Match, Name, OpaqueKind, Ruleset, Set as NamedSet, SetRef,
};

use super::bdd::{Bdd, Built, Set};
use super::header::{Binding, Header};
use super::layout::{Dimension, EXTENSIONS, Layout, MAX_QUESTIONS, STATES, address_width};
pub use alike::is_about_links;
use grown::{Grown, grown_sets};
pub use lookup::Found;
use value::Number;
pub use value::{Truth, Value};

/// `IPS_SRC_NAT_DONE` and `IPS_DST_NAT_DONE` of the conntrack status.
const NAT_DONE: u32 = 0x180;

/// Expressions and conditions nest no deeper in any real ruleset.
const MAX_NESTING: u32 = 64;

/// Where a rule is met.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Site {
    /// The hook.
    pub hook: Hook,
    /// Index of the rule's table.
    pub table: usize,
    /// Family of that table.
    pub family: Family,
}

/// What a routing lookup depends on besides the address looked up.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FibQuestion {
    /// The lookup as the rule words it.
    pub fib: FibField,
    /// Where.
    pub hook: Hook,
    /// The packet's mark; `None` when not known.
    pub mark: Option<u128>,
    /// The other address, when it is one and known.
    pub other: Option<u128>,
    /// Incoming interface; 0 for none, `None` when not known.
    pub iif: Option<u128>,
    /// Outgoing interface, likewise.
    pub oif: Option<u128>,
}

/// A part of the address line and the number found for it; `None` when it is not known.
pub type Piece = (Interval, Option<u128>);

/// What the host says, where rules ask for it.
pub trait Facts {
    /// A routing lookup of every address: pieces in order, without gaps.
    fn fib(&self, question: &FibQuestion) -> std::rc::Rc<Vec<Piece>>;
    /// `ARPHRD_*` of an interface by its number; `None` when not known.
    fn interface_type(&self, interface: u128) -> Option<u128>;
    /// The group of an interface by its number; `None` when it is not known.
    fn interface_group(&self, interface: u128) -> Option<u128>;
}

/// Turns conditions into sets of one diagram.
pub struct Encoder<'r> {
    /// The diagram.
    pub bdd: Bdd,
    /// Its variables.
    pub layout: Layout,
    ruleset: &'r Ruleset,
    facts: &'r dyn Facts,
    sets: Vec<HashMap<&'r str, &'r NamedSet>>,
    ipsets: HashMap<&'r str, &'r NamedSet>,
    /// Truths of lookups, by the place of the elements in memory and the keys.
    looked_up: HashMap<(usize, Vec<Value>), Truth>,
    fields: HashMap<Dimension, Value>,
    /// Numbers of undecidable conditions, each for one [`Self::ask_about`].
    questions: HashMap<(usize, String), u16>,
    /// Conditions numbered, by what is asked about.
    asked: HashMap<usize, u16>,
    about: usize,
    /// Where every undecided condition gets an answer of its own.
    answers: Option<Answers>,
    /// Sets that rules change, by table, where asked before.
    grown: HashMap<usize, Rc<Grown>>,
}

/// Which of several conditions with the same words is meant: by place in memory, in the order they were met.
#[derive(Debug, Default)]
struct Answers {
    met: HashMap<usize, u32>,
    times: HashMap<String, u32>,
}

impl<'r> Encoder<'r> {
    /// For the conditions of one ruleset.
    #[must_use]
    pub fn new(bdd: Bdd, layout: Layout, ruleset: &'r Ruleset, facts: &'r dyn Facts) -> Self {
        // of equal names the first counts
        let by_name = |sets: &'r [NamedSet]| sets.iter().rev().map(|set| (&*set.name, set)).collect();
        Self {
            bdd,
            layout,
            ruleset,
            facts,
            sets: ruleset.tables.iter().map(|table| by_name(&table.sets)).collect(),
            ipsets: by_name(&ruleset.ipsets),
            looked_up: HashMap::new(),
            fields: HashMap::new(),
            questions: HashMap::new(),
            asked: HashMap::new(),
            about: 0,
            answers: None,
            grown: HashMap::new(),
        }
    }

    /// The same for another ruleset and in the same diagram: an undecidable property is the same question in both.
    #[must_use]
    pub fn beside<'b>(self, ruleset: &'b Ruleset, facts: &'b dyn Facts) -> Encoder<'b> {
        let answers = self.answers.map(|_| Answers::default());
        Encoder {
            questions: self.questions,
            asked: self.asked,
            answers,
            ..Encoder::new(self.bdd, self.layout, ruleset, facts)
        }
    }

    /// Swaps the diagram and the questions asked with those of `other`, which gets what is built so far.
    pub(crate) fn pass_on(&mut self, other: &mut Encoder<'_>) {
        std::mem::swap(&mut self.bdd, &mut other.bdd);
        std::mem::swap(&mut self.questions, &mut other.questions);
        std::mem::swap(&mut self.asked, &mut other.asked);
    }

    /// From now on every condition that cannot be decided has one answer, a variable of [`Dimension::Question`]: the n-th
    /// condition of the same words, asked of the same header at the same hook, answers the same in this ruleset and in those
    /// [`Self::beside`] it. So rulesets that hang on the same conditions in the same way are equal. (One condition that a packet
    /// meets twice with nothing changed between counts as met once.)
    pub fn answer_alike(&mut self) {
        self.answers = Some(Answers::default());
    }

    /// From now on packets number `about` are asked about: sets of packets with different numbers are never compared, so that
    /// their undecidable conditions may share variables.
    pub fn ask_about(&mut self, about: usize) {
        self.about = about;
    }

    /// Which packets are asked about.
    #[must_use]
    pub fn about(&self) -> usize {
        self.about
    }

    /// Whether some condition has a variable.
    #[must_use]
    pub fn has_asked(&self) -> bool {
        !self.questions.is_empty()
    }

    /// Whether [`Self::answer_alike`] holds.
    #[must_use]
    pub fn answers_alike(&self) -> bool {
        self.answers.is_some()
    }

    /// The answer to what cannot be decided about `words` by the rule or condition at `place`; open where answers are not
    /// kept or variables ran out.
    ///
    /// # Errors
    /// When the budget is used up.
    pub fn answer(&mut self, place: usize, words: &str, hook: Hook, header: Option<&Header>) -> Built<Truth> {
        let Some(answers) = &mut self.answers else { return Ok(Truth::OPEN) };
        let number = *answers.met.entry(place).or_insert_with(|| {
            let times = answers.times.entry(words.to_owned()).or_default();
            *times += 1;
            *times
        });
        // whether somebody has thought about translating it makes no other packet of it
        let header = header.map(|header| {
            let status = header.status.map(|status| status & !NAT_DONE);
            Header { status, destination_done: false, source_done: false, ..header.clone() }
        });
        self.question(format!("same:{number}:{hook}:{header:?}:{words}"))
    }

    /// The ruleset.
    #[must_use]
    pub fn ruleset(&self) -> &'r Ruleset {
        self.ruleset
    }

    /// Whether `condition` holds.
    ///
    /// # Errors
    /// When the budget is used up.
    pub fn truth(&mut self, condition: &'r Match, site: Site, header: &Header) -> Built<Truth> {
        let truth = Eval { encoder: self, site, header, depth: 0 }.truth(condition)?;
        let place = std::ptr::from_ref(condition) as usize;
        if truth.is_exact() || self.answers.is_none() {
            return Ok(truth);
        }
        let (grown, width) = (self.grown(site.table), address_width(self.layout.family()));
        let words = || alike::words(condition, width, &|set| grown.get(set) == Some(&(1, false)));
        self.settled(truth, place, words, site.hook, header)
    }

    /// Whether rules that look at a native set of a table can find what others have put into it or taken out.
    pub fn is_looked_up(&mut self, table: usize, set: &Name) -> bool {
        self.grown(table).get(set).is_none_or(|(_, looked_up)| *looked_up)
    }

    fn grown(&mut self, table: usize) -> Rc<Grown> {
        if let Some(known) = self.grown.get(&table) {
            return Rc::clone(known);
        }
        let grown = Rc::new(self.ruleset.tables.get(table).map(grown_sets).unwrap_or_default());
        self.grown.insert(table, Rc::clone(&grown));
        grown
    }

    /// `truth`, and where it is open the one answer that the rule or condition at `place` gets; the same where answers are
    /// not kept.
    ///
    /// # Errors
    /// When the budget is used up.
    pub fn settled(
        &mut self,
        truth: Truth,
        place: usize,
        words: impl FnOnce() -> String,
        hook: Hook,
        header: &Header,
    ) -> Built<Truth> {
        if truth.is_exact() || self.answers.is_none() {
            return Ok(truth);
        }
        let answer = self.answer(place, &words(), hook, Some(header))?;
        let open = self.bdd.minus(truth.possible, truth.certain)?;
        let (surely, maybe) = (self.bdd.and(open, answer.certain)?, self.bdd.and(open, answer.possible)?);
        Ok(Truth { certain: self.bdd.or(truth.certain, surely)?, possible: self.bdd.or(truth.certain, maybe)? })
    }

    /// The number `expr` is.
    ///
    /// # Errors
    /// When the budget is used up.
    pub fn value(&mut self, expr: &'r Expr, site: Site, header: &Header) -> Built<Value> {
        Eval { encoder: self, site, header, depth: 0 }.value(expr)
    }

    /// What `map` holds under `key`: each entry with the packets that find it.
    ///
    /// # Errors
    /// When the budget is used up.
    pub fn find(&mut self, key: &'r Expr, map: &'r SetRef, site: Site, header: &Header) -> Built<Found<'r>> {
        Eval { encoder: self, site, header, depth: 0 }.find(key, map)
    }

    /// The set of packets with one answer to an undecidable question, and what is left when variables ran out.
    fn question(&mut self, key: String) -> Built<Truth> {
        let (first, width) = self.layout.place(Dimension::Question);
        let most = if self.answers.is_some() { width } else { width.min(MAX_QUESTIONS) };
        let key = (self.about, key);
        let next = self.asked.entry(self.about).or_default();
        let number = match self.questions.get(&key) {
            Some(number) => *number,
            None if *next < most => {
                let number = *next;
                *next += 1;
                self.questions.insert(key, number);
                number
            }
            None => return Ok(Truth::OPEN),
        };
        Ok(Truth::exactly(self.bdd.variable(first + number)?))
    }

    fn named(&self, table: usize, name: &Name) -> Option<&'r NamedSet> {
        self.sets.get(table)?.get(&**name).copied()
    }
}

/// One condition for one header.
struct Eval<'e, 'r> {
    encoder: &'e mut Encoder<'r>,
    site: Site,
    header: &'e Header,
    depth: u32,
}

impl<'r> Eval<'_, 'r> {
    fn truth(&mut self, condition: &'r Match) -> Built<Truth> {
        if self.depth >= MAX_NESTING {
            return Ok(Truth::OPEN);
        }
        self.depth += 1;
        let truth = match self.link_truth(condition) {
            Ok(None) => self.truth_at(condition),
            Ok(Some(truth)) => Ok(truth),
            Err(too_large) => Err(too_large),
        };
        self.depth -= 1;
        truth
    }

    fn truth_at(&mut self, condition: &'r Match) -> Built<Truth> {
        match condition {
            Match::Compare { left, operator, right } => {
                let (left, right) = (self.value(left)?, self.value(right)?);
                left.compare(&mut self.encoder.bdd, *operator, &right)
            }
            Match::Lookup { left, negate, set } => self.lookup_truth(left, *negate, set),
            Match::Ipset { name, directions, negate, options } => {
                let inside = self.ipset(name, directions, options.as_deref())?;
                Ok(if *negate { !inside } else { inside })
            }
            Match::Any(conditions) => {
                let mut any = Truth::NO;
                for condition in conditions {
                    let one = self.truth(condition)?;
                    any = any.or(&mut self.encoder.bdd, one)?;
                }
                Ok(any)
            }
            Match::All(conditions) => {
                let mut all = Truth::YES;
                for condition in conditions {
                    let one = self.truth(condition)?;
                    all = all.and(&mut self.encoder.bdd, one)?;
                }
                Ok(all)
            }
            Match::Not(inner) => Ok(!self.truth(inner)?),
            Match::Opaque { kind: OpaqueKind::Stateful, .. } => Ok(Truth::OPEN),
            Match::Xtables { text, .. } => {
                let epoch = self.header.epoch;
                self.encoder.question(format!("{epoch}:x:{text}"))
            }
            Match::Opaque { kind: OpaqueKind::Property, text } => {
                let header = self.header;
                // what looks at marks is another question once the mark has changed
                let marks = text.contains("mark") || text.contains("bpf");
                let marks = marks.then_some((header.mark, header.ct_mark));
                self.encoder.question(format!("{}:{marks:?}:{text}", header.epoch))
            }
        }
    }

    fn value(&mut self, expr: &'r Expr) -> Built<Value> {
        if self.depth >= MAX_NESTING {
            return Ok(Value::unknown());
        }
        self.depth += 1;
        let value = self.value_at(expr);
        self.depth -= 1;
        value
    }

    fn value_at(&mut self, expr: &'r Expr) -> Built<Value> {
        match expr {
            Expr::Field(field) => self.field(field),
            Expr::Number(number) => Ok(Value::constant(*number)),
            // conntrack has put fragments together before any rule that matters
            Expr::And(left, right) if is_fragment_test(left, right) => {
                let offset = self.value(left)?;
                let bdd = &mut self.encoder.bdd;
                Value::constant(0).only(bdd, !offset.missing)
            }
            Expr::And(left, right) => self.bitwise(left, right, Bdd::and, |a, b| a & b),
            Expr::Or(left, right) => self.bitwise(left, right, Bdd::or, |a, b| a | b),
            Expr::Xor(left, right) => self.bitwise(left, right, |bdd, a, b| bdd.choose(a, !b, b), |a, b| a ^ b),
            Expr::Shl(left, right) => {
                self.shifted(left, right, |number, by| number.checked_shl(by).unwrap_or(0) & 0xffff_ffff)
            }
            Expr::Shr(left, right) => self.shifted(left, right, |number, by| number.checked_shr(by).unwrap_or(0)),
            Expr::Map { key, map } => self.mapped(key, map),
            Expr::Fib(fib) => self.fib(*fib),
            Expr::Payload { base, offset, length } => self.payload(*base, *offset, *length),
            Expr::Concat(_) | Expr::Opaque(_) => Ok(Value::unknown()),
        }
    }

    fn bitwise(
        &mut self,
        left: &'r Expr,
        right: &'r Expr,
        on_bits: impl Fn(&mut Bdd, Set, Set) -> Built,
        on_numbers: impl Fn(u128, u128) -> u128,
    ) -> Built<Value> {
        let (left, right) = (self.value(left)?, self.value(right)?);
        let bdd = &mut self.encoder.bdd;
        let missing = bdd.or(left.missing, right.missing)?;
        let unknown = bdd.or(left.unknown, right.unknown)?;
        let number = match (&left.number, left.known(), &right.number, right.known()) {
            (Number::Cases(cases), _, _, Some(right)) => {
                Number::Cases(cases.iter().map(|(set, left)| (*set, on_numbers(*left, right))).collect())
            }
            (_, Some(left), Number::Cases(cases), _) => {
                Number::Cases(cases.iter().map(|(set, right)| (*set, on_numbers(left, *right))).collect())
            }
            _ => {
                let width = left.width().max(right.width());
                let (left, right) = (left.to_bits(bdd, width)?, right.to_bits(bdd, width)?);
                let bits = left.into_iter().zip(right).map(|(a, b)| on_bits(bdd, a, b));
                Number::Bits(bits.collect::<Built<_>>()?)
            }
        };
        Ok(Value { number, missing, unknown })
    }

    fn shifted(&mut self, left: &'r Expr, right: &'r Expr, shift: impl Fn(u128, u32) -> u128) -> Built<Value> {
        let (left, right) = (self.value(left)?, self.value(right)?);
        let Some(by) = right.known() else { return Ok(Value::unknown()) };
        // a shift by the whole width or more gives nothing to compare with
        let Some(by) = u32::try_from(by).ok().filter(|by| *by < 128) else { return Ok(Value::absent()) };
        let number = match left.number.by_bits() {
            Number::Cases(cases) => {
                Number::Cases(cases.into_iter().map(|(set, number)| (set, shift(number, by))).collect())
            }
            Number::Class(bits, _) | Number::Bits(bits) => {
                // each bit moves where a number with that bit alone would move
                let width = bits.len();
                let mut moved = vec![Set::NONE; 128];
                for (at, bit) in bits.into_iter().enumerate() {
                    let to = shift(1 << (width - 1 - at), by);
                    if let Some(slot) = (to != 0).then(|| moved.get_mut(to.leading_zeros() as usize)).flatten() {
                        *slot = bit;
                    }
                }
                Number::Bits(moved)
            }
        };
        Ok(Value { number, ..left })
    }

    fn mapped(&mut self, key: &'r Expr, map: &'r SetRef) -> Built<Value> {
        let found = self.find(key, map)?;
        let bdd = &mut self.encoder.bdd;
        let mut cases = Vec::new();
        let mut unknown = found.lost;
        let mut possible = found.lost;
        for (data, truth) in found.entries {
            possible = bdd.or(possible, truth.possible)?;
            match data {
                Data::Value(values) => match values.as_slice() {
                    [one] if one.low == one.high => {
                        cases.push((truth.certain, one.low));
                        let doubt = bdd.minus(truth.possible, truth.certain)?;
                        unknown = bdd.or(unknown, doubt)?;
                    }
                    _ => unknown = bdd.or(unknown, truth.possible)?,
                },
                _ => unknown = bdd.or(unknown, truth.possible)?,
            }
        }
        Ok(Value { number: Number::Cases(cases), missing: !possible, unknown })
    }

    fn bound(&mut self, binding: Binding) -> Built<Value> {
        self.encoder.bound(binding)
    }
}

impl Encoder<'_> {
    /// What a binding is for every packet.
    ///
    /// # Errors
    /// When the budget is used up.
    pub fn bound(&mut self, binding: Binding) -> Built<Value> {
        let dimension = match binding {
            Binding::Known(number) => return Ok(Value::constant(number)),
            Binding::Missing => return Ok(Value::absent()),
            Binding::Unknown => return Ok(Value::unknown()),
            Binding::Free(dimension) => dimension,
        };
        if let Some(known) = self.fields.get(&dimension) {
            return Ok(known.clone());
        }
        let value = if self.layout.classes(dimension).is_some() {
            let names = match dimension {
                Dimension::State => STATES.iter().map(|state| state.0.into()).collect(),
                Dimension::Extension => (0..EXTENSIONS.len() as u128).collect(),
                _ => self.layout.interfaces().names().to_vec(),
            };
            let mut cases = Vec::with_capacity(names.len());
            for (number, name) in names.into_iter().enumerate() {
                cases.push((self.layout.of_classes(&mut self.bdd, dimension, |class| class == number)?, name));
            }
            Value::cases(cases)
        } else {
            let bits = self.layout.bits(&mut self.bdd, dimension)?;
            match self.layout.line_of(dimension) {
                Some(line) => {
                    Value { number: Number::Class(bits, line.clone()), missing: Set::NONE, unknown: Set::NONE }
                }
                None => Value::bits(bits),
            }
        };
        self.fields.insert(dimension, value.clone());
        Ok(value)
    }

    /// Whether the value of a binding lies in `intervals`.
    ///
    /// # Errors
    /// When the budget is used up.
    pub fn bound_within(&mut self, binding: Binding, intervals: &[Interval]) -> Built<Truth> {
        self.bound(binding)?.within(&mut self.bdd, intervals)
    }
}

/// `ip frag-off & MASK` where the mask leaves out the don't-fragment bit: zero for whole packets.
fn is_fragment_test(left: &Expr, right: &Expr) -> bool {
    matches!((left, right), (Expr::Field(Field::Ip4FragOff), Expr::Number(mask)) if mask & 0xc000 == 0)
}
