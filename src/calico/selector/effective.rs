//! The selectors that Felix makes of a rule's fields, and of a policy's.

use super::Selector;
use crate::calico::resources::{Entity, Field, Policy};

const NAMESPACE: &str = "projectcalico.org/namespace";
const SERVICE_ACCOUNT: &str = "projectcalico.org/serviceaccount";
/// Before the keys of a namespace's labels.
const NAMESPACE_PREFIX: &str = "pcns.";
/// Before the keys of a service account's labels.
const ACCOUNT_PREFIX: &str = "pcsa.";

/// What one end of a rule asks of endpoints and network sets.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct EntitySelectors {
    /// Addresses of what this selects match.
    pub positive: Option<Selector>,
    /// Addresses of what this selects do not match; any other address does, known or not.
    pub negative: Option<Selector>,
}

/// The selectors of one end of a rule, as Felix computes them. `namespace` is the policy's, for namespaced policies. `None`
/// when a selector does not parse: the policy has no effect then.
#[must_use]
pub fn entity_selectors(entity: &Entity, namespace: Option<&str>) -> Option<EntitySelectors> {
    let namespaces = match text(&entity.namespace_selector) {
        Some(text) => {
            let printed = prefixed(text, NAMESPACE_PREFIX)?;
            let printed = printed.replace("all()", &format!("has({NAMESPACE})"));
            Some(printed.replace("global()", &format!("!has({NAMESPACE})")))
        }
        None => namespace.map(|namespace| format!("{NAMESPACE} == '{namespace}'")),
    };
    let mut own: Vec<String> = Vec::new();
    own.extend(accounts(entity)?);
    own.extend(text(&entity.selector).map(str::to_owned));
    let own = match own.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        more => Some(format!("({})", more.join(") && ("))),
    };
    let negative = text(&entity.not_selector);
    let asks = own.is_some() || negative.is_some() || entity.namespace_selector.is_some();
    let positive = match (namespaces.filter(|_| asks), own) {
        (Some(namespaces), Some(own)) => Some(format!("({namespaces}) && ({own})")),
        (Some(namespaces), None) => Some(namespaces),
        (None, own) => own,
    };
    let parse = |text: Option<String>| text.map(|text| Selector::parse(&text)).transpose().ok();
    match (positive, negative) {
        // with a positive selector only known addresses can match: the negative one thins them out
        (Some(positive), Some(negative)) => {
            let positive = parse(Some(format!("({positive}) && (!({negative}))")))?;
            Some(EntitySelectors { positive, negative: None })
        }
        (positive, negative) => {
            Some(EntitySelectors { positive: parse(positive)?, negative: parse(negative.map(str::to_owned))? })
        }
    }
}

fn text(field: &Option<Field<String>>) -> Option<&str> {
    field.as_ref().map(|field| field.value.as_str()).filter(|text| !text.is_empty())
}

/// Canonical text with `prefix` before every key; `None` when it does not parse.
fn prefixed(text: &str, prefix: &str) -> Option<String> {
    Some(Selector::parse(text).ok()?.prefixed(prefix).canonical())
}

/// What `serviceAccounts` asks: at most one selector. `None` when one does not parse.
fn accounts(entity: &Entity) -> Option<Option<String>> {
    let labels = match text(&entity.service_account_selector) {
        Some(text) => Some(prefixed(text, ACCOUNT_PREFIX)?),
        None => None,
    };
    if entity.service_account_names.is_empty() {
        return Some(labels);
    }
    let names: Vec<&str> = entity.service_account_names.iter().map(|name| name.value.as_str()).collect();
    let names = Selector::parse(&format!("{SERVICE_ACCOUNT} in {{ '{}' }}", names.join("', '"))).ok()?.canonical();
    Some(Some(match labels {
        Some(labels) => format!("({labels}) && ({names})"),
        None => names,
    }))
}

/// The selector of endpoints that a policy selects, its namespace and account selectors included, as Felix computes it.
/// `namespace` is the policy's, for namespaced policies. `None` when a part does not parse.
#[must_use]
pub fn policy_selector(policy: &Policy, namespace: Option<&str>) -> Option<Selector> {
    let mut whole = text(&policy.selector).unwrap_or_default().to_owned();
    if let Some(namespace) = namespace {
        let own = format!("{NAMESPACE} == '{namespace}'");
        whole = if whole.is_empty() { own } else { format!("({whole}) && {own}") };
    }
    for (field, prefix, all) in [
        (&policy.namespace_selector, NAMESPACE_PREFIX, NAMESPACE),
        (&policy.service_account_selector, ACCOUNT_PREFIX, SERVICE_ACCOUNT),
    ] {
        let Some(text) = text(field) else { continue };
        let more = prefixed(text, prefix)?;
        whole = if whole.is_empty() { more } else { format!("({whole}) && {more}") };
        whole = whole.replace("all()", &format!("has({all})"));
    }
    Selector::parse(&whole).ok()
}
