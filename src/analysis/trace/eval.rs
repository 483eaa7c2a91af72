//! Expressions and conditions, in three values: yes, no, open.

use super::fields::View;
use super::growth::{self, Remembered};
use super::index::{Found, MAX_DIMENSIONS, SCAN, SetIndex};
use super::ipset::MAX_LISTS;
use super::state::{Question, Questions, Value, Var};
use crate::ruleset::{Data, Elements, Expr, Field, Match, Name, OpaqueKind, Operator, RuleRef, SetRef, place_of};

/// Expressions and conditions nest no deeper in any real ruleset.
const MAX_NESTING: u32 = 64;

/// Whether a condition holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Truth {
    Yes,
    No,
    /// It depends on this question.
    Open(Var),
}

impl From<bool> for Truth {
    fn from(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }
}

/// Keys of a lookup.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keys {
    values: [Value; MAX_DIMENSIONS],
    length: usize,
}

impl Keys {
    pub(super) fn new() -> Self {
        Self { values: [Value::Missing; MAX_DIMENSIONS], length: 0 }
    }

    /// Adds a key; too many make the lookup fail as unknown.
    pub(super) fn push(&mut self, value: Value) {
        if let Some(slot) = self.values.get_mut(self.length) {
            *slot = value;
        }
        self.length += 1;
    }

    pub(super) fn as_slice(&self) -> &[Value] {
        self.values.get(..self.length).unwrap_or_default()
    }

    pub(super) fn missing(&self) -> bool {
        self.as_slice().contains(&Value::Missing)
    }

    /// Numbers, `None` where not known; the slice is as long as the keys.
    pub(super) fn numbers(&self) -> ([Option<u128>; MAX_DIMENSIONS], usize) {
        (self.values.map(Value::known), self.length)
    }
}

/// Result of a lookup.
#[derive(Clone, Copy, Debug)]
pub(super) enum Looked<'e> {
    /// This element of these.
    Element(&'e Elements, usize),
    /// The `*` element.
    CatchAll(&'e Data),
    /// The packet itself has put it in.
    Grown,
    /// Not in it.
    Nothing,
    /// Not decidable, although all keys are there.
    Open(Reason),
}

/// Why a lookup is open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reason {
    /// A key is not known.
    Key,
    /// The set is not in the snapshot.
    NoSet,
    /// The set's contents are not all known.
    Incomplete,
    /// A rule on the way may have changed it.
    Touched,
    /// The element has a limit or quota.
    Stateful,
    /// Key and set do not fit.
    Shape,
    /// Lists of sets hold lists again.
    Nested,
}

impl Reason {
    /// Whether the set may hold elements hepguard does not see.
    pub(super) fn may_grow(self) -> bool {
        !matches!(self, Self::Key | Self::Stateful)
    }

    pub(super) fn words(self, set: &str) -> String {
        match self {
            Self::Key => format!("what is looked up in {set} is not known"),
            Self::NoSet => format!("set {set} is not in the snapshot"),
            Self::Incomplete => format!("the members of set {set} are not all known"),
            Self::Touched => format!("set {set} may be changed by the packet itself on its way"),
            Self::Stateful => format!("the element of {set} has a limit of its own"),
            Self::Shape => format!("the key does not fit set {set}"),
            Self::Nested => {
                format!("set {set} is a list of lists of lists; the kernel nests them no deeper than {MAX_LISTS}")
            }
        }
    }
}

/// Evaluates the conditions of one rule for one state.
pub(super) struct Eval<'e, 'w> {
    pub(super) view: View<'e, 'w>,
    pub(super) rule: RuleRef,
    pub(super) questions: &'w mut Questions,
    pub(super) depth: u32,
}

impl<'e> Eval<'e, '_> {
    /// Whether `condition` holds.
    pub(super) fn truth(&mut self, condition: &'e Match) -> Truth {
        match condition {
            Match::Compare { left, operator, right } => {
                let (left, right) = (self.value(left), self.value(right));
                match (left, right) {
                    (Value::Known(left), Value::Known(right)) => compare(left, *operator, right).into(),
                    (Value::Missing, _) | (_, Value::Missing) => Truth::No,
                    _ => self.ask_match(condition, &[left, right], None),
                }
            }
            Match::Lookup { left, negate, set } => self.lookup_truth(condition, left, *negate, set),
            Match::Ipset { name, directions, negate, options } => {
                let looked = self.ipset(name, directions, options.as_deref());
                match looked {
                    Ok(inside) => (inside != *negate).into(),
                    Err((reason, keys)) => {
                        let text = if reason == Reason::Stateful {
                            format!("the entry's counters in set {name} decide")
                        } else {
                            reason.words(name)
                        };
                        self.ask_match(condition, &keys, Some(text))
                    }
                }
            }
            Match::Any(conditions) => self.nested(|eval| eval.any(conditions)),
            Match::All(conditions) => self.nested(|eval| eval.all(conditions)),
            Match::Not(inner) => match self.nested(|eval| eval.truth(inner)) {
                Truth::Yes => Truth::No,
                Truth::No => Truth::Yes,
                open => open,
            },
            Match::Xtables { test, text } => self.xtables(test, text),
            Match::Opaque { kind, text } => self.opaque(*kind, text),
        }
    }

    fn nested(&mut self, inner: impl FnOnce(&mut Self) -> Truth) -> Truth {
        if self.depth >= MAX_NESTING {
            let rule = self.rule;
            return self.ask(format!("nesting:{rule:?}"), || {
                format!("the condition nests too deep: more than {MAX_NESTING} levels")
            });
        }
        self.depth += 1;
        let truth = inner(self);
        self.depth -= 1;
        truth
    }

    fn any(&mut self, conditions: &'e [Match]) -> Truth {
        let mut result = Truth::No;
        for condition in conditions {
            match self.truth(condition) {
                Truth::Yes => return Truth::Yes,
                Truth::No => {}
                open => result = if result == Truth::No { open } else { result },
            }
        }
        result
    }

    fn all(&mut self, conditions: &'e [Match]) -> Truth {
        let mut result = Truth::Yes;
        for condition in conditions {
            match self.truth(condition) {
                Truth::No => return Truth::No,
                Truth::Yes => {}
                open => result = if result == Truth::Yes { open } else { result },
            }
        }
        result
    }

    /// The answer assumed on this path, or the question.
    pub(super) fn ask(&mut self, key: String, words: impl FnOnce() -> String) -> Truth {
        let rule = self.rule;
        let var = self.questions.var(key, || Question { rule: Some(rule), text: words() });
        match self.view.state.answer(var) {
            Some(answer) => answer.into(),
            None => Truth::Open(var),
        }
    }

    fn opaque(&mut self, kind: OpaqueKind, text: &str) -> Truth {
        let state = self.view.state;
        let key = match kind {
            OpaqueKind::Stateful => format!("s:{:?}:{}:{text}", self.rule, state.clock),
            // what looks at marks is another question once the mark has changed
            OpaqueKind::Property if text.contains("mark") || text.contains("bpf") => {
                format!("p:{}:{:?}:{:?}:{text}", state.flow.epoch, state.flow.mark, state.flow.ct_mark)
            }
            OpaqueKind::Property => format!("p:{}:{text}", state.flow.epoch),
        };
        self.ask(key, || match kind {
            OpaqueKind::Stateful if text.starts_with("xt ") => format!("nft's listing hides what it asks: {text}"),
            OpaqueKind::Stateful => format!("depends on what was counted so far: {text}"),
            OpaqueKind::Property => format!("cannot be decided: {text}"),
        })
    }

    /// Asks whether `condition` holds with `values`, some of which are not known.
    pub(super) fn ask_match(&mut self, condition: &'e Match, values: &[Value], words: Option<String>) -> Truth {
        let fresh = changes_each_time(condition).then_some((self.rule, self.view.state.clock));
        let key = format!("m:{}:{condition:?}:{values:?}:{fresh:?}", self.view.state.flow.epoch);
        let unknown = self.unknown_fields(condition);
        self.ask(key, || {
            words.unwrap_or_else(|| match unknown.as_slice() {
                [] => "asks for something that is not known".to_owned(),
                names => format!("asks for {}, which is not known", names.join(" and ")),
            })
        })
    }

    fn unknown_fields(&mut self, condition: &Match) -> Vec<String> {
        let mut names = Vec::new();
        super::words::fields_of(condition, &mut |field| {
            let name = super::words::field(field);
            if matches!(self.view.field(field), Value::Unknown(_)) && !names.contains(&name) {
                names.push(name);
            }
        });
        names
    }

    fn lookup_truth(&mut self, condition: &'e Match, left: &'e Expr, negate: bool, set: &'e SetRef) -> Truth {
        if let Some(holds) = self.view.simply(condition) {
            return holds.into();
        }
        let keys = self.keys(left);
        if keys.missing() {
            return Truth::No;
        }
        match self.lookup(set, &keys) {
            Looked::Element(..) | Looked::CatchAll(_) | Looked::Grown => (!negate).into(),
            Looked::Nothing => negate.into(),
            Looked::Open(Reason::Key) => self.ask_match(condition, keys.as_slice(), None),
            Looked::Open(reason) => {
                let text = reason.words(super::words::set_name(set));
                self.ask_match(condition, keys.as_slice(), Some(text))
            }
        }
    }

    /// The values side by side in `expr`.
    pub(super) fn keys(&mut self, expr: &'e Expr) -> Keys {
        let mut keys = Keys::new();
        match expr {
            Expr::Concat(parts) => parts.iter().for_each(|part| {
                let value = self.value(part);
                keys.push(value);
            }),
            single => {
                let value = self.value(single);
                keys.push(value);
            }
        }
        keys
    }

    /// Looks `keys` up in `set`.
    pub(super) fn lookup(&mut self, set: &'e SetRef, keys: &Keys) -> Looked<'e> {
        match set {
            SetRef::Anonymous(elements) if elements.len() <= SCAN => find(elements, None, false, keys),
            SetRef::Anonymous(elements) => find(elements, self.view.engine.anonymous(elements), false, keys),
            SetRef::Named(name) => self.named(name, keys),
        }
    }

    /// Looks `keys` up in a set of the rule's table.
    pub(super) fn named(&mut self, name: &Name, keys: &Keys) -> Looked<'e> {
        let table = self.view.site.table;
        match growth::remembered(&self.view.state.flow.touched, table, name, keys.as_slice()) {
            Remembered::Nothing => {}
            Remembered::Gone => return Looked::Nothing,
            Remembered::There => return Looked::Grown,
            Remembered::Open => return Looked::Open(Reason::Touched),
        }
        match self.view.engine.set(table, name) {
            Some((set, index)) => find(&set.elements, Some(index), set.incomplete.is_some(), keys),
            None => Looked::Open(Reason::NoSet),
        }
    }

    /// The number `expr` stands for.
    pub(super) fn value(&mut self, expr: &'e Expr) -> Value {
        match expr {
            Expr::Field(field @ Field::Other(text)) => match self.view.field(field) {
                Value::Unknown(_) if steady(text) => {
                    let flow = &self.view.state.flow;
                    // the packet's own bytes are the same at every hook, what the host knows of it is not
                    let host = place_of(field).is_none().then_some((self.view.site.hook, flow.mark));
                    self.questions.unknown_for(format!("{text}:{}:{host:?}", flow.epoch))
                }
                Value::Unknown(_) => {
                    self.questions.unknown_for(format!("{text}:{:?}:{}", self.rule, self.view.state.clock))
                }
                known => known,
            },
            Expr::Field(field @ Field::Random) => {
                self.questions.unknown_for(format!("{field:?}:{:?}:{}", self.rule, self.view.state.clock))
            }
            Expr::Field(field) => self.view.field(field),
            Expr::Number(number) => Value::Known(*number),
            Expr::And(left, right) if is_fragment_test(left, right) => match self.value(left) {
                // conntrack has put fragments together before any rule that matters
                Value::Unknown(_) => Value::Known(0),
                other => other,
            },
            Expr::And(left, right) => self.binary(expr, left, right, |a, b| Some(a & b)),
            Expr::Or(left, right) => self.binary(expr, left, right, |a, b| Some(a | b)),
            Expr::Xor(left, right) => self.binary(expr, left, right, |a, b| Some(a ^ b)),
            Expr::Shl(left, right) => {
                self.binary(expr, left, right, |a, b| a.checked_shl(u32::try_from(b).ok()?).map(|v| v & 0xffff_ffff))
            }
            Expr::Shr(left, right) => self.binary(expr, left, right, |a, b| a.checked_shr(u32::try_from(b).ok()?)),
            Expr::Map { key, map } => self.map_value(expr, key, map),
            Expr::Fib(fib) => self.view.fib(*fib),
            Expr::Payload { base, offset, length } => self.view.payload(*base, *offset, *length),
            Expr::Concat(_) => Value::Unknown(0),
            Expr::Opaque(text) => {
                self.questions.unknown_for(format!("{text}:{:?}:{}", self.rule, self.view.state.clock))
            }
        }
    }

    fn binary(
        &mut self,
        expr: &Expr,
        left: &'e Expr,
        right: &'e Expr,
        f: impl Fn(u128, u128) -> Option<u128>,
    ) -> Value {
        if self.depth >= MAX_NESTING {
            return self.questions.unknown_for(format!("nesting:{:?}:{}", self.rule, self.view.state.clock));
        }
        self.depth += 1;
        let (left, right) = (self.value(left), self.value(right));
        self.depth -= 1;
        match (left, right) {
            (Value::Known(a), Value::Known(b)) => f(a, b).map_or(Value::Missing, Value::Known),
            (Value::Missing, _) | (_, Value::Missing) => Value::Missing,
            _ => self.questions.unknown_for(format!("{expr:?}:{left:?}:{right:?}")),
        }
    }

    fn map_value(&mut self, expr: &Expr, key: &'e Expr, map: &'e SetRef) -> Value {
        let data = self.map_data(key, map);
        match data {
            Ok(Some(values)) => match values {
                [one] if one.low == one.high => Value::Known(one.low),
                _ => self.questions.unknown_for(format!("{expr:?}:{:?}:{}", self.rule, self.view.state.clock)),
            },
            Ok(None) => Value::Missing,
            Err(keys) => self.questions.unknown_for(format!("{expr:?}:{keys:?}")),
        }
    }

    /// The values `map` holds under `key`; `None` when there are none, the keys when it is open.
    pub(super) fn map_data(
        &mut self,
        key: &'e Expr,
        map: &'e SetRef,
    ) -> Result<Option<&'e [crate::ruleset::Interval]>, Vec<Value>> {
        if self.depth >= MAX_NESTING {
            return Err(Vec::new());
        }
        self.depth += 1;
        let keys = self.keys(key);
        self.depth -= 1;
        if keys.missing() {
            return Ok(None);
        }
        let data = match self.lookup(map, &keys) {
            Looked::Element(elements, at) => elements.data(at),
            Looked::CatchAll(data) => Some(data),
            Looked::Nothing => return Ok(None),
            Looked::Grown | Looked::Open(_) => return Err(keys.as_slice().to_vec()),
        };
        match data {
            Some(Data::Value(values)) => Ok(Some(values)),
            _ => Err(keys.as_slice().to_vec()),
        }
    }
}

/// Looks `keys` up among `elements`, which may not be all there are.
fn find<'e>(elements: &'e Elements, index: Option<&SetIndex>, incomplete: bool, keys: &Keys) -> Looked<'e> {
    let (numbers, length) = keys.numbers();
    let Some(numbers) = numbers.get(..length).filter(|_| length == elements.dimensions()) else {
        return Looked::Open(Reason::Shape);
    };
    match index.unwrap_or(&SetIndex::Scan).find_partly(elements, numbers) {
        Found::Element(at) if elements.extra(at).is_some_and(|extra| extra.stateful) => Looked::Open(Reason::Stateful),
        Found::Element(at) => Looked::Element(elements, at),
        Found::Open => Looked::Open(Reason::Key),
        Found::Nothing if incomplete => Looked::Open(Reason::Incomplete),
        Found::Nothing => elements.catch_all().map_or(Looked::Nothing, Looked::CatchAll),
    }
}

/// `ip frag-off & MASK` where the mask leaves out the don't-fragment bit: zero for whole packets.
pub(super) fn is_fragment_test(left: &Expr, right: &Expr) -> bool {
    matches!((left, right), (Expr::Field(Field::Ip4FragOff), Expr::Number(mask)) if mask & 0xc000 == 0)
}

pub(super) fn compare(left: u128, operator: Operator, right: u128) -> bool {
    match operator {
        Operator::Eq => left == right,
        Operator::Ne => left != right,
        Operator::Lt => left < right,
        Operator::Gt => left > right,
        Operator::Le => left <= right,
        Operator::Ge => left >= right,
        Operator::AnyBit => left & right != 0,
        Operator::NoBit => left & right == 0,
    }
}

/// Whether a field that is only known by its text has one value as long as the packet does not change.
fn steady(text: &str) -> bool {
    !["numgen", "ct ", "meta "].iter().any(|start| text.starts_with(start))
}

/// Whether asking the same question twice on one path can give two answers.
fn changes_each_time(condition: &Match) -> bool {
    let mut changes = false;
    super::words::fields_of(condition, &mut |field| {
        changes |= matches!(field, Field::Random | Field::Time | Field::Cpu | Field::CtBytes | Field::CtPackets);
    });
    changes
}
