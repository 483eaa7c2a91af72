//! What a selector asks of single labels: for contradictions, and for typing errors.

use super::{Expression, Selector};

/// One comparison in a selector.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Term {
    /// The label.
    pub key: String,
    /// The values it is compared with as a whole; none for `has`, `contains` and the like.
    pub values: Vec<String>,
    /// The label must be there for the comparison to hold.
    pub positive: bool,
}

/// What a label must be for an expression to hold.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Restriction {
    present: bool,
    absent: bool,
    /// One of these.
    values: Option<Vec<String>>,
    /// None of these.
    not: Vec<String>,
}

/// Expressions that must hold together, at most; more are not multiplied out.
const MAX_CASES: usize = 64;

impl Selector {
    /// Its comparisons, in order. Under a `!` a comparison counts as its opposite.
    #[must_use]
    pub fn terms(&self) -> Vec<Term> {
        let mut terms = Vec::new();
        collect(&self.0, false, &mut terms);
        terms
    }

    /// Whether it can be shown that no labels at all satisfy it (`a == 'x' && a == 'y'`, `!all()`).
    #[must_use]
    pub fn is_contradictory(&self) -> bool {
        cases(&self.0, false).is_some_and(|cases| cases.iter().all(|case| !satisfiable(case)))
    }

    /// Whether it can be shown that every set of labels satisfies it.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        cases(&self.0, true).is_some_and(|cases| cases.iter().all(|case| !satisfiable(case)))
    }
}

fn collect(expression: &Expression, negated: bool, terms: &mut Vec<Term>) {
    let mut term = |key: &str, values: &[String], positive: bool| {
        terms.push(Term { key: key.to_owned(), values: values.to_vec(), positive: positive != negated });
    };
    match expression {
        Expression::All | Expression::Global => {}
        Expression::Has(key)
        | Expression::Contains(key, _)
        | Expression::StartsWith(key, _)
        | Expression::EndsWith(key, _) => term(key, &[], true),
        Expression::Equal(key, value) => term(key, std::slice::from_ref(value), true),
        Expression::NotEqual(key, value) => term(key, std::slice::from_ref(value), false),
        Expression::In(key, values) => term(key, values, true),
        Expression::NotIn(key, values) => term(key, values, false),
        Expression::Not(inside) => collect(inside, !negated, terms),
        Expression::And(operands) | Expression::Or(operands) => {
            operands.iter().for_each(|operand| collect(operand, negated, terms));
        }
    }
}

/// A conjunction: single comparisons, each negated or not.
type Case<'e> = Vec<(&'e Expression, bool)>;

/// The expression as alternatives of conjunctions; `None` when there are too many.
fn cases(expression: &Expression, negated: bool) -> Option<Vec<Case<'_>>> {
    match (expression, negated) {
        (Expression::Not(inside), _) => cases(inside, !negated),
        (Expression::Or(operands), false) | (Expression::And(operands), true) => {
            let mut all = Vec::new();
            for operand in operands {
                all.extend(cases(operand, negated)?);
                if all.len() > MAX_CASES {
                    return None;
                }
            }
            Some(all)
        }
        (Expression::And(operands), false) | (Expression::Or(operands), true) => {
            let mut all: Vec<Case<'_>> = vec![Vec::new()];
            for operand in operands {
                let more = cases(operand, negated)?;
                if all.len() * more.len() > MAX_CASES {
                    return None;
                }
                all = all
                    .iter()
                    .flat_map(|case| more.iter().map(|other| [case.as_slice(), other.as_slice()].concat()))
                    .collect();
            }
            Some(all)
        }
        (single, negated) => Some(vec![vec![(single, negated)]]),
    }
}

/// Whether some labels may satisfy all of these; substrings are only looked at as asking for the label.
fn satisfiable(case: &Case<'_>) -> bool {
    let mut labels: std::collections::BTreeMap<&str, Restriction> = std::collections::BTreeMap::new();
    for (expression, negated) in case {
        match expression {
            Expression::All | Expression::Global => {
                if *negated {
                    return false;
                }
            }
            Expression::Has(key) => {
                let label = labels.entry(key).or_default();
                if *negated { label.absent = true } else { label.present = true }
            }
            Expression::Equal(key, value) => {
                restrict(labels.entry(key).or_default(), std::slice::from_ref(value), !negated);
            }
            Expression::NotEqual(key, value) => {
                restrict(labels.entry(key).or_default(), std::slice::from_ref(value), *negated);
            }
            Expression::In(key, values) => restrict(labels.entry(key).or_default(), values, !negated),
            Expression::NotIn(key, values) => restrict(labels.entry(key).or_default(), values, *negated),
            Expression::Contains(key, value)
            | Expression::StartsWith(key, value)
            | Expression::EndsWith(key, value) => {
                let label = labels.entry(key).or_default();
                match (negated, value.is_empty()) {
                    (false, _) => label.present = true,
                    // an empty part is in every value
                    (true, true) => label.absent = true,
                    (true, false) => {}
                }
                if !negated && let Some(values) = &mut label.values {
                    values.retain(|known| substring(expression, known));
                }
            }
            Expression::Not(_) | Expression::And(_) | Expression::Or(_) => {}
        }
    }
    labels.values().all(|label| {
        let values = label.values.as_ref();
        let some = values.is_none_or(|values| values.iter().any(|value| !label.not.contains(value)));
        !label.present || (!label.absent && some)
    })
}

fn substring(expression: &Expression, found: &str) -> bool {
    match expression {
        Expression::Contains(_, value) => found.contains(value.as_str()),
        Expression::StartsWith(_, value) => found.starts_with(value.as_str()),
        Expression::EndsWith(_, value) => found.ends_with(value.as_str()),
        _ => true,
    }
}

/// The label must have one of `values` (`one_of`), or must not.
fn restrict(label: &mut Restriction, values: &[String], one_of: bool) {
    if !one_of {
        label.not.extend(values.iter().cloned());
        return;
    }
    label.present = true;
    match &mut label.values {
        Some(known) => known.retain(|value| values.contains(value)),
        None => label.values = Some(values.to_vec()),
    }
}
