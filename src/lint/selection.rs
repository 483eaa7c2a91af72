//! Who is selected: endpoints, labels, interfaces, profiles.

use std::collections::BTreeMap;

use super::context::{Context, DIRECTIONS};
use super::{At, EXACT, FILES_ONLY, Findings, Lint, define};
use crate::calico::order::{Endpoint, Ordered, ProfileInForce};
use crate::calico::resources::{Spec, nearest};
use crate::calico::selector::Selector;

define!(
    SELECTS_NOTHING, "HG431", "selector-matches-no-endpoint", Medium, "a policy selects none of the host endpoints given",
    what: "The selector of every global policy is evaluated on the labels of all host endpoints among the files, labels of their profiles included.",
    why: "The policy does nothing for these hosts: on an automatic host endpoint traffic stays open, on one without profile it stays denied. The cause is often a typing error in a key or value, or `==` where a label has an empty value and `has()` is meant.",
    fix: "Compare with the labels the endpoints have; the nearest one is suggested. Labels of nodes reach automatic endpoints only while `syncLabels` is enabled.",
    limits: FILES_ONLY
);
define!(
    CONTRADICTORY, "HG432", "selector-never-matches", High, "a selector that nothing can satisfy",
    what: "Selectors such as `a == 'x' && a == 'y'`, `has(a) && !has(a)`, `a in {}` or `!all()`, by logic alone.",
    why: "The policy selects nobody, or the rule matches nothing: an Allow stays closed, a Deny stays open.",
    fix: "Use `||` or `in {'x', 'y'}` where one of several values is meant.",
    limits: "Only what follows from equality and presence is seen; selectors of more than 64 cases are not multiplied out."
);
define!(
    SELECTS_ALL, "HG433", "policy-for-everything", High, "an enforced policy selects every endpoint there is",
    what: "Global policies whose selector is empty, `all()` or true for any labels, in a tier that denies at its end, or with a rule that denies everything.",
    why: "It selects every host and every pod, the control plane and this bastion included. In a tier that denies at its end everything else it does not allow is dropped.",
    fix: "Restrict it by a label. For pods alone write `has(projectcalico.org/namespace)`, for hosts alone `!has(projectcalico.org/namespace)`.",
    limits: "A default-deny that is really meant for everything is reported as well; then check that HG464 to HG473 stay silent."
);
define!(
    NAMESPACE_SELECTOR, "HG434", "namespace-selector-excludes-hosts", Medium, "a policy that selects a host by label excludes it by namespaceSelector",
    what: "Global policies with `namespaceSelector` or `serviceAccountSelector` whose plain selector would select a host endpoint.",
    why: "Host endpoints are in no namespace: with such a selector, even `all()`, the policy does not act on them.",
    fix: "Remove the field from policies that are meant for hosts.",
    limits: "A policy for the pods of the same label is reported too; then nothing is wrong."
);
define!(
    NAMESPACED, "HG435", "namespaced-policy-never-selects-hosts", Info, "a namespaced policy does not act on hosts",
    what: "NetworkPolicy and its staged kinds, Kubernetes' NetworkPolicy and ClusterNetworkPolicy.",
    why: "They select pods only. One that is meant to protect a host does nothing there.",
    fix: "For hosts write a GlobalNetworkPolicy. For pods there is nothing to do.",
    limits: "Pods on the host's own network count as the host."
);
define!(
    HAND_LABEL, "HG436", "hand-label-selects-nodes", Medium, "automatic host endpoints are selected by a label that new nodes do not have",
    what: "Policies and rules that tell automatic host endpoints by a label which Kubernetes and Calico do not set by themselves.",
    why: "A new node is born without it: it stays open to everything, and the other nodes refuse it as a peer.",
    fix: "Select by `kubernetes.io/os`, `has(kubernetes.io/hostname)` or `projectcalico.org/created-by`, or let the node's bootstrap set the label.",
    limits: "A label that the provisioning of nodes sets is reported too: which labels that are is not known."
);
define!(
    NODE_NAME, "HG437", "endpoint-of-unknown-node", High, "a host endpoint names a node that is not Felix's name of a host",
    what: "`spec.node` is compared with the Node resources given; it must be lower case, as Felix's own hostname is.",
    why: "The endpoint is for a host that does not exist. The real host has none, and everything is open there.",
    fix: "Write the host's name as Felix has it: the output of `hostname` in lower case, or the value of FELIX_FELIXHOSTNAME.",
    limits: "Bastions outside the cluster have no Node resource; without any Node among the files only the case is checked."
);
define!(
    COMPETING, "HG438", "endpoints-compete", High, "two host endpoints for one interface of a node",
    what: "Host endpoints of one node with the same interface, two for `*`, or one by name and one by an address on the same interface.",
    why: "The first name in the alphabet wins; the other, and every policy aimed at it, has no effect.",
    fix: "Keep one endpoint an interface; put the labels of both on it.",
    limits: "Whether an address is on the interface of another endpoint is only known where both list it."
);
define!(
    NO_ADDRESS, "HG439", "peer-without-addresses", High, "a rule names a host endpoint that has no addresses",
    what: "Selectors of rules that select a host endpoint without `expectedIPs`.",
    why: "A rule by label matches the addresses in `expectedIPs`, nothing else: this host is never matched, on any node.",
    fix: "Add `expectedIPs` with all addresses of the host, of both families.",
    limits: EXACT
);
define!(
    UNGOVERNED, "HG440", "direction-without-policy", High, "a host endpoint without profile has no policy for a direction",
    what: "Host endpoints whose profiles allow nothing and for which no enforced policy acts on ingress, or on egress.",
    why: "What no policy decides goes to the profiles, and without one it is dropped: a policy for ingress alone kills DNS over TCP, time, updates and log shipping. Failsafe ports and established connections hide it at first.",
    fix: "Add a policy for that direction, or the profile `projectcalico-default-allow` while rolling out.",
    limits: FILES_ONLY
);
define!(
    PROFILE_MISSING, "HG441", "profile-missing", Critical, "a host endpoint lists a profile that does not exist",
    what: "`spec.profiles` of host endpoints are looked up among the profiles given and the built-in one.",
    why: "Felix puts a profile that drops everything in its place, failsafe ports excepted.",
    fix: "Correct the name (`projectcalico-default-allow`), or remove it.",
    limits: FILES_ONLY
);
define!(
    OPEN_PROFILE, "HG442", "allow-all-profile-on-host", Low, "a host endpoint made by hand keeps the profile that allows everything",
    what: "Host endpoints that were not made by Calico's controllers and list `projectcalico-default-allow`.",
    why: "A direction that no policy governs is open; and what Calico accepts skips the host's own ufw, firewalld or iptables rules.",
    fix: "Remove the profile once policies govern both directions (HG440 says when they do not), or set `iptablesFilterAllowAction: Return`.",
    limits: "Useful while rolling out; whether that is over is not known."
);
define!(
    ONE_INTERFACE, "HG443", "other-interfaces-unpoliced", Low, "only named interfaces of a host are policed",
    what: "Nodes whose host endpoints all name an interface or addresses, with none for `*`.",
    why: "Every other interface (a second network card, docker0, a VPN) is open to everything, whatever policies say. A `default deny` is not one for the host.",
    fix: "Write `interfaceName: \"*\"`; then loopback needs rules too (HG461).",
    limits: "Interfaces of the host are not known from policy files."
);
define!(
    UNTRACKED_WILDCARD, "HG444", "untracked-policy-on-wildcard", Medium, "doNotTrack policy selects a host endpoint for every interface",
    what: "Policies with `doNotTrack: true` that select a host endpoint whose interface is `*`.",
    why: "Felix ignores them there and logs a warning: what they allow is tracked and judged by normal policy, what they deny is not stopped.",
    fix: "Define a host endpoint for the interface by name, or use normal policy.",
    limits: EXACT
);

const LINTS: [Lint; 14] = [
    SELECTS_NOTHING,
    CONTRADICTORY,
    SELECTS_ALL,
    NAMESPACE_SELECTOR,
    NAMESPACED,
    HAND_LABEL,
    NODE_NAME,
    COMPETING,
    NO_ADDRESS,
    UNGOVERNED,
    PROFILE_MISSING,
    OPEN_PROFILE,
    ONE_INTERFACE,
    UNTRACKED_WILDCARD,
];

/// In the order of their codes.
pub(super) fn lints() -> impl Iterator<Item = Lint> {
    LINTS.into_iter()
}

pub(super) fn look(context: &Context<'_>, found: &mut Findings) {
    for policy in &context.model.policies {
        one_policy(context, policy, found);
    }
    for resource in context.resources.iter().filter(|resource| resource.meta.kind.is_for_pods_only()) {
        let title = resource.meta.title();
        let text = format!("{title} selects pods only: it does nothing for hosts");
        found.add(&NAMESPACED, At::resource(resource, &title), text, NAMESPACED.fix);
    }
    peers(context, found);
    endpoints(context, found);
    classes(context, found);
}

fn one_policy(context: &Context<'_>, policy: &Ordered<'_>, found: &mut Findings) {
    let title = policy.resource.meta.title();
    let selector = policy.policy.selector.as_ref();
    let place = crate::calico::settings::Place {
        file: std::sync::Arc::clone(&policy.resource.meta.place.file),
        line: selector.map_or(policy.resource.meta.place.line, |selector| selector.line),
    };
    let column = selector.map_or(0, |selector| selector.column);
    let at = At { place: &place, column, resource: &title, field: "spec.selector" };
    let text = selector.map_or("", |selector| &selector.value);
    let plain = Selector::parse(text).unwrap_or_else(|_| Selector::all());
    if plain.is_contradictory() {
        found.add(&CONTRADICTORY, at, format!("{title}: nothing can satisfy {}", plain.canonical()), CONTRADICTORY.fix);
        return;
    }
    let elsewhere = policy.policy.namespace_selector.is_some() || policy.policy.service_account_selector.is_some();
    if plain.is_everything() && !elsewhere && !policy.staged {
        let denies = !context.model.tiers.get(policy.tier).is_some_and(|tier| tier.default_pass);
        if denies {
            let text = format!("{title} selects every host and pod, and its tier denies what it does not allow");
            found.add(&SELECTS_ALL, at, text, SELECTS_ALL.fix);
        }
    }
    let endpoints = &context.model.endpoints;
    let selects = |selector: &Selector| endpoints.iter().any(|endpoint| selector.matches(&endpoint.labels));
    if elsewhere && selects(&plain) && !selects(&policy.selector) {
        let text = format!("{title} would select a host endpoint, but for its namespace or service account selector");
        found.add(&NAMESPACE_SELECTOR, at, text, NAMESPACE_SELECTOR.fix);
    }
    let pods_only = asks_for_pods(&plain);
    if !endpoints.is_empty() && !elsewhere && !pods_only && !selects(&plain) {
        let text = format!("{title} selects none of the {} host endpoints given", endpoints.len());
        let fix = suggestion(&plain, endpoints).unwrap_or_else(|| SELECTS_NOTHING.fix.to_owned());
        found.add(&SELECTS_NOTHING, at, text, fix);
    }
    hand_labels(context, &plain, at, &title, found);
}

/// It asks for a label that only pods have.
fn asks_for_pods(selector: &Selector) -> bool {
    let pods = ["projectcalico.org/namespace", "projectcalico.org/orchestrator", "k8s-app", "app"];
    selector.terms().iter().any(|term| term.positive && pods.contains(&term.key.as_str()))
}

/// The label that may have been meant.
fn suggestion(selector: &Selector, endpoints: &[Endpoint]) -> Option<String> {
    for term in selector.terms() {
        let keys: Vec<&str> =
            endpoints.iter().flat_map(|endpoint| endpoint.labels.keys().map(String::as_str)).collect();
        if !keys.contains(&term.key.as_str()) {
            let near = nearest(&term.key, &keys);
            return Some(match near {
                Some(near) => format!("no host endpoint has the label {}; did you mean {near}?", term.key),
                None => {
                    format!("no host endpoint has the label {}; label the endpoint, or select by another", term.key)
                }
            });
        }
        let values: Vec<&str> =
            endpoints.iter().filter_map(|endpoint| endpoint.labels.get(&term.key).map(String::as_str)).collect();
        for value in term.values.iter().filter(|value| term.positive && !values.contains(&value.as_str())) {
            if values.iter().all(|value| value.is_empty()) {
                return Some(format!("the label {} is there with an empty value: write has({})", term.key, term.key));
            }
            if let Some(near) = nearest(value, &values) {
                return Some(format!(
                    "no host endpoint has {} with the value {value:?}; did you mean {near:?}?",
                    term.key
                ));
            }
        }
    }
    None
}

/// Domains of labels that Kubernetes, its clouds and Calico set on nodes by themselves.
fn sets_itself(key: &str) -> bool {
    let domain = key.split_once('/').map_or("", |(domain, _)| domain);
    let known = ["kubernetes.io", "k8s.io"];
    let own = ["projectcalico.org/created-by", "projectcalico.org/namespace", "projectcalico.org/orchestrator"];
    own.contains(&key) || known.iter().any(|end| domain == *end || domain.ends_with(&format!(".{end}")))
}

fn hand_labels(context: &Context<'_>, selector: &Selector, at: At<'_>, title: &str, found: &mut Findings) {
    let automatic: Vec<&Endpoint> = context
        .model
        .endpoints
        .iter()
        .filter(|endpoint| endpoint.automatic && selector.matches(&endpoint.labels))
        .collect();
    if automatic.is_empty() {
        return;
    }
    let terms = selector.terms();
    let by_hand = terms.iter().filter(|term| term.positive && !sets_itself(&term.key));
    if let Some(term) = by_hand.into_iter().find(|term| automatic.iter().all(|e| e.labels.contains_key(&term.key))) {
        let text = format!("{title} selects nodes by the label {}, which a new node does not have by itself", term.key);
        found.add(&HAND_LABEL, at, text, HAND_LABEL.fix);
    }
}

fn peers(context: &Context<'_>, found: &mut Findings) {
    for (policy, direction, index, rule) in context.rules() {
        let title = policy.resource.meta.title();
        for (side, entity) in [("source", &rule.source), ("destination", &rule.destination)] {
            let Some(selector) = entity.selector.as_ref().or(entity.not_selector.as_ref()) else { continue };
            let place = crate::calico::settings::Place {
                file: std::sync::Arc::clone(&policy.resource.meta.place.file),
                line: selector.line,
            };
            let field = format!("{}.{side}.selector", super::context::rule_path(direction, index));
            let at = At { place: &place, column: selector.column, resource: &title, field: &field };
            let Ok(parsed) = Selector::parse(&selector.value) else { continue };
            if parsed.is_contradictory() {
                let text = format!("{title}: {field}: nothing can satisfy {}", parsed.canonical());
                found.add(&CONTRADICTORY, at, text, CONTRADICTORY.fix);
                continue;
            }
            let (positive, negative) = context.judge.sets_of(entity);
            for members in [positive, negative].into_iter().flatten() {
                if let Some(first) = members.without_addresses.first().filter(|_| !parsed.is_everything()) {
                    let text =
                        format!("{title}: {field} selects {first}, which has no expectedIPs and is never matched");
                    found.add(&NO_ADDRESS, at, text, NO_ADDRESS.fix);
                }
            }
            if !parsed.is_everything() {
                hand_labels(context, &parsed, at, &title, found);
            }
        }
    }
}

fn endpoints(context: &Context<'_>, found: &mut Findings) {
    let nodes: Vec<&str> = context
        .resources
        .iter()
        .filter(|resource| matches!(resource.spec, Spec::Node(_)))
        .map(|resource| resource.meta.name.value.as_str())
        .collect();
    let mut by_node: BTreeMap<&str, Vec<&Endpoint>> = BTreeMap::new();
    for endpoint in &context.model.endpoints {
        by_node.entry(endpoint.node()).or_default().push(endpoint);
        let Some(node) = &endpoint.spec.node else { continue };
        let title = format!("HostEndpoint {}", endpoint.name);
        let at = At { place: &endpoint.place, column: 0, resource: &title, field: "spec.node" };
        if node.value.chars().any(|c| c.is_ascii_uppercase()) {
            let text = format!("{title} is for node {}, but Felix's name of a host is in lower case", node.value);
            found.add(&NODE_NAME, at, text, format!("write {}", node.value.to_ascii_lowercase()));
        } else if !nodes.is_empty() && !nodes.contains(&node.value.as_str()) {
            let short = node.value.split('.').next().unwrap_or_default();
            let near = nodes.iter().find(|known| known.split('.').next() == Some(short)).copied();
            let near = near.or_else(|| nearest(&node.value, &nodes));
            if let Some(near) = near {
                let text = format!("{title} is for node {}, and no node given has this name", node.value);
                found.add(&NODE_NAME, at, text, format!("did you mean {near}?"));
            }
        }
    }
    for (node, endpoints) in by_node {
        compete(node, &endpoints, found);
        let wild = endpoints.iter().any(|endpoint| endpoint.interface() == Some("*"));
        if !wild && let Some(first) = endpoints.first() {
            let title = format!("HostEndpoint {}", first.name);
            let at = At { place: &first.place, column: 0, resource: &title, field: "spec.interfaceName" };
            let text =
                format!("interfaces of {node} other than those of its {} host endpoint(s) are open", endpoints.len());
            found.add(&ONE_INTERFACE, at, text, ONE_INTERFACE.fix);
        }
    }
}

fn compete(node: &str, endpoints: &[&Endpoint], found: &mut Findings) {
    for (index, loser) in endpoints.iter().enumerate() {
        // by name, so whoever comes before wins
        let winner = endpoints.iter().take(index).find(|winner| {
            let shared = || {
                winner
                    .spec
                    .expected_ips
                    .iter()
                    .any(|ip| loser.spec.expected_ips.iter().any(|other| other.value == ip.value))
            };
            match (winner.interface(), loser.interface()) {
                (Some(a), Some(b)) => a == b,
                (Some("*"), None) | (None, Some("*")) => false,
                _ => shared(),
            }
        });
        if let Some(winner) = winner {
            let title = format!("HostEndpoint {}", loser.name);
            let at = At { place: &loser.place, column: 0, resource: &title, field: "spec.interfaceName" };
            let text =
                format!("{title} has no effect: HostEndpoint {} takes the same interface of {node}", winner.name);
            found.add(&COMPETING, at, text, COMPETING.fix);
        }
    }
}

fn classes(context: &Context<'_>, found: &mut Findings) {
    for class in &context.classes {
        let title = class.title();
        let at = |field| At { place: &class.endpoint.place, column: 0, resource: &title, field };
        for profile in &class.force.profiles {
            if let ProfileInForce::Missing(name) = profile {
                let text = format!("{title} lists the profile {name:?}, which does not exist: everything is dropped");
                let fix =
                    nearest(name, &[crate::calico::order::ALLOW_PROFILE]).map(|near| format!("did you mean {near}?"));
                found.add(&PROFILE_MISSING, at("spec.profiles"), text, fix.unwrap_or(PROFILE_MISSING.fix.to_owned()));
            }
        }
        if class.is_open() && !class.endpoint.automatic {
            let text = format!("{title} allows whatever no policy governs, past the host's own firewall");
            found.add(&OPEN_PROFILE, at("spec.profiles"), text, OPEN_PROFILE.fix);
        }
        if class.force.profiles.is_empty() {
            for direction in DIRECTIONS {
                if !context.governed(class, direction) {
                    let word = direction.calico();
                    let text = format!(
                        "{title} has no enforced policy for {word} and no profile: all {word} but failsafe ports is dropped"
                    );
                    found.add(&UNGOVERNED, at("spec.profiles"), text, UNGOVERNED.fix);
                }
            }
        }
        if class.is_wildcard() {
            for tier in class.force.tiers(crate::calico::order::Layer::Untracked) {
                let policies = tier.ingress.iter().chain(&tier.egress).filter_map(|index| context.model.policy(*index));
                for policy in policies.filter(|policy| !policy.staged) {
                    let name = policy.resource.meta.title();
                    let text = format!("{name} is doNotTrack and selects {title}, where Felix ignores it");
                    found.add(&UNTRACKED_WILDCARD, At::resource(policy.resource, &name), text, UNTRACKED_WILDCARD.fix);
                }
            }
        }
    }
}
