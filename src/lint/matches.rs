//! Conditions of rules that are not what they seem.

use super::context::{Class, Context, DIRECTIONS, rule_path, shown_selector};
use super::{At, EXACT, FILES_ONLY, Findings, Lint, define};
use crate::audit::finding::Severity;
use crate::calico::names::{Action, Direction};
use crate::calico::order::Ordered;
use crate::calico::resources::{Entity, Field, Net, Port, Rule, Spec, nearest};
use crate::calico::selector::{Selector, entity_selectors};
use crate::calico::settings::Place;

define!(
    NOBODY, "HG477", "peer-selects-nobody", High, "a rule's selector matches no endpoint and no network set",
    what: "Selectors of rules that cannot match pods, or that ask for a label nothing given has, evaluated on all host endpoints and network sets.",
    why: "The set of addresses is empty: an Allow never matches and access is lost, a Deny never matches and the port is open.",
    fix: "Compare with the labels of the sets and endpoints; the nearest is suggested. Sets need `nets`, endpoints `expectedIPs`.",
    limits: FILES_ONLY
);
define!(
    ALL_PEERS, "HG478", "all-taken-for-any-address", Medium, "all() as a peer does not mean any address",
    what: "Rules whose only condition on a side is `selector: all()`.",
    why: "It matches every pod, host endpoint and network set that Calico knows, and nobody else: the internet is not among them. Conversely it opens every network set on every port, whatever other rules say of them.",
    fix: "Leave the selector out to mean any address; name a set's label to mean that set.",
    limits: EXACT
);
define!(
    LONE_NOT, "HG479", "lone-not-selector", Medium, "a lone notSelector matches unknown addresses too",
    what: "`notSelector` without a `selector` or `nets` beside it.",
    why: "It is the negation of a set of known addresses: everything unknown, the internet included, matches. `selector: \"!…\"` matches known endpoints only. The two look alike and are opposites for strangers.",
    fix: "Say which is meant: `selector: \"!(…)\"` for known endpoints, or `nets` beside the notSelector.",
    limits: EXACT
);
define!(
    NAMED_PORT, "HG480", "named-port-undefined", High, "a named port that no endpoint given defines",
    what: "Names in `ports` are looked up in `spec.ports` of the host endpoints, which need `expectedIPs` for it.",
    why: "A name that nobody defines never matches: an Allow stays closed, a Deny open.",
    fix: "Write the number, or define the port on the host endpoint.",
    limits: "Pods may define it; a rule whose selector can match pods is reported with lower severity."
);
define!(
    REPEATED, "HG481", "entry-repeated", Low, "the same port, net or rule twice",
    what: "Equal entries in one list of ports or nets, and equal rules in one direction of a policy.",
    why: "Harmless by itself, but one of the two was often meant to be something else: the lab's policy has 9900 twice and misses 9091.",
    fix: "Remove the entry, or write what was meant.",
    limits: EXACT
);
define!(
    ONE_FAMILY, "HG482", "rules-for-one-family", Medium, "rules with nets of one family where the host has both",
    what: "Policies that allow, or deny, by nets of IPv4 alone (or IPv6 alone) and select a host endpoint with addresses of both families.",
    why: "Such a rule does not exist for the other family. With Allows the other family is denied at the end of the tier; with Denies it stays open.",
    fix: "Add the same rule for the other family.",
    limits: "A host without addresses in `expectedIPs` is not known to have both families."
);
define!(
    DOMAIN_ANY_PORT, "HG483", "domains-on-any-port", Medium, "a rule allows domains on every port and protocol",
    what: "Rules with `domains` and neither protocol nor ports.",
    why: "Domains are learned as addresses, which they share with everything else on the same content network: the rule opens these addresses on every port.",
    fix: "Add `protocol: TCP` and `ports: [443]`.",
    limits: "Calico Enterprise only: open-source Calico drops the field (HG485)."
);
define!(
    DOMAIN_APEX, "HG484", "wildcard-without-its-domain", Low, "*.example.com does not cover example.com",
    what: "Lists of domains with `*.` and a domain that is not in the list itself.",
    why: "The `*` stands for one or more names in front; the domain itself is not matched.",
    fix: "Add the domain itself where it is needed.",
    limits: "Whether the bare domain is ever asked for is not known."
);
define!(
    ENTERPRISE, "HG485", "enterprise-only-field", Low, "a field that open-source Calico drops",
    what: "`domains` in rules and `allowedEgressDomains` in network sets.",
    why: "The CRDs of open-source Calico drop unknown fields. A rule with `domains` alone becomes one for any destination; a set with domains alone becomes empty. The effects are opposite, and nobody is told.",
    fix: "Use these files with Calico Enterprise only, or write nets.",
    limits: "Which product the cluster runs is known only from a ClusterInformation among the files: with one of open-source Calico the severity is high."
);
define!(
    BROAD, "HG486", "broad-allow", Medium, "an Allow for a very large net without ports",
    what: "Allow rules with a net of /8 or shorter (IPv6: /16 or shorter), or two halves of everything, and neither ports nor ICMP type.",
    why: "It opens every port of every protocol to, or from, millions of addresses.",
    fix: "Add protocol and ports, or narrow the net.",
    limits: "127.0.0.0/8 is not reported."
);
define!(
    NEVER_OWN, "HG492", "own-side-never-matches", Medium, "a rule restricts the host's own side to addresses it does not have",
    what: "`source.nets` of egress rules and `destination.nets` of ingress rules that hold none of the addresses of the host endpoints the policy selects, loopback and broadcast aside.",
    why: "In egress the host is the source, in ingress the destination. Source and destination were probably swapped; the rule never matches.",
    fix: "Put the peer's nets on the other side.",
    limits: "Addresses that are not in `expectedIPs` are not known; forwarded traffic (applyOnForward) and multicast are left out."
);

/// Those of this family, in the order of their codes.
pub(super) fn lints() -> impl Iterator<Item = Lint> {
    [
        NOBODY,
        ALL_PEERS,
        LONE_NOT,
        NAMED_PORT,
        REPEATED,
        ONE_FAMILY,
        DOMAIN_ANY_PORT,
        DOMAIN_APEX,
        ENTERPRISE,
        BROAD,
        NEVER_OWN,
    ]
    .into_iter()
}

/// A rule and where it stands.
struct Here<'a, 'r> {
    policy: &'a Ordered<'r>,
    direction: Direction,
    title: &'a str,
    path: &'a str,
}

impl Here<'_, '_> {
    fn report(
        &self,
        lint: &Lint,
        (severity, line): (Severity, u32),
        field: &str,
        text: &str,
        fix: &str,
        found: &mut Findings,
    ) {
        let place = Place { file: std::sync::Arc::clone(&self.policy.resource.meta.place.file), line };
        let at = At { place: &place, column: 0, resource: self.title, field };
        found.add_as(lint, severity, at, format!("{}: {field}: {text}", self.title), fix);
    }
}

pub(super) fn look(context: &Context<'_>, found: &mut Findings) {
    for (policy, direction, index, rule) in context.rules() {
        let title = policy.resource.meta.title();
        let path = rule_path(direction, index);
        let at = Here { policy, direction, title: &title, path: &path };
        for (side, entity) in [("source", &rule.source), ("destination", &rule.destination)] {
            let path = format!("{path}.{side}");
            entity_selector(context, &at, rule, entity, &path, found);
            entity_ports(context, &at, entity, &path, found);
            repeated(&at, entity, &path, found);
            domains(context, &at, rule, entity, &path, found);
        }
        broad(&at, rule, found);
        never_own(context, &at, rule, found);
    }
    repeated_rules(context, found);
    for policy in &context.model.policies {
        one_family(context, policy, found);
    }
    sets(context, found);
}

fn entity_selector(
    context: &Context<'_>,
    at: &Here<'_, '_>,
    rule: &Rule,
    entity: &Entity,
    path: &str,
    found: &mut Findings,
) {
    let usual = |lint: &Lint, line, text: String, fix: &str, found: &mut Findings| {
        at.report(lint, (lint.severity, line), path, &text, fix, found);
    };
    if let Some(selector) = &entity.selector
        && Selector::parse(&selector.value).is_ok_and(|parsed| parsed.is_everything())
        && entity.nets.is_empty()
        && entity.namespace_selector.is_none()
    {
        let text = "all() is every pod, host and network set, not any address".to_owned();
        usual(&ALL_PEERS, selector.line, text, ALL_PEERS.fix, found);
    }
    if let Some(selector) = &entity.not_selector
        && !entity.has_selector()
        && entity.nets.is_empty()
    {
        let text = format!("a lone notSelector {:?} matches every unknown address too", selector.value);
        usual(&LONE_NOT, selector.line, text, LONE_NOT.fix, found);
    }
    let Some(selectors) = entity_selectors(entity, None) else { return };
    let Some(selector) = selectors.positive.filter(|selector| !selector.is_contradictory()) else { return };
    let (Some(members), _) = context.judge.sets_of(entity) else { return };
    // with neither endpoints nor sets among the files nothing can be said
    if !members.titles.is_empty() || !members.without_addresses.is_empty() || !knows_peers(context) {
        return;
    }
    let line = entity.selector.as_ref().or(entity.namespace_selector.as_ref()).map_or(entity.line, |s| s.line);
    let near = near_label(context, &selector);
    if !members.pods || near.is_some() {
        let action = rule.action.as_ref().map(|action| action.value);
        let effect = if action == Some(Action::Deny) { "denies nothing" } else { "matches nobody" };
        let text = format!("{} selects nobody: the rule {effect}", shown_selector(entity));
        usual(&NOBODY, line, text, near.as_deref().unwrap_or(NOBODY.fix), found);
    }
}

fn knows_peers(context: &Context<'_>) -> bool {
    let sets = context.resources.iter().any(|resource| matches!(resource.spec, Spec::NetworkSet(_)));
    sets || !context.model.endpoints.is_empty()
}

/// A label of a set or endpoint that is nearly the one asked for.
fn near_label(context: &Context<'_>, selector: &Selector) -> Option<String> {
    let of_sets = context.resources.iter().filter(|resource| matches!(resource.spec, Spec::NetworkSet(_)));
    let mut labels: Vec<(&str, &str)> =
        of_sets.flat_map(|resource| resource.meta.labels.iter().map(|(k, v)| (k.as_str(), v.value.as_str()))).collect();
    let own = context.model.endpoints.iter();
    labels.extend(own.flat_map(|endpoint| endpoint.labels.iter().map(|(k, v)| (k.as_str(), v.as_str()))));
    let keys: Vec<&str> = labels.iter().map(|(key, _)| *key).collect();
    for term in selector.terms().into_iter().filter(|term| term.positive) {
        if !keys.contains(&term.key.as_str()) {
            let own = term.key.starts_with("pcns.") || term.key.starts_with("pcsa.");
            let near = nearest(&term.key, &keys).filter(|_| !own && !term.key.starts_with("projectcalico.org/n"));
            if let Some(near) = near {
                return Some(format!("nothing has the label {}; did you mean {near}?", term.key));
            }
            continue;
        }
        let values: Vec<&str> = labels.iter().filter(|(key, _)| *key == term.key).map(|(_, value)| *value).collect();
        for value in term.values.iter().filter(|value| !values.contains(&value.as_str())) {
            if let Some(near) = nearest(value, &values) {
                return Some(format!("nothing has {} with the value {value:?}; did you mean {near:?}?", term.key));
            }
        }
    }
    None
}

fn entity_ports(context: &Context<'_>, at: &Here<'_, '_>, entity: &Entity, path: &str, found: &mut Findings) {
    for port in entity.ports.iter().chain(&entity.not_ports) {
        let Port::Name(name) = &port.value else { continue };
        let dashed = name.split_once('-').is_some_and(|(a, b)| a.parse::<u16>().is_ok() && b.parse::<u16>().is_ok());
        let defined = context.model.endpoints.iter().any(|endpoint| {
            !endpoint.spec.expected_ips.is_empty() && endpoint.spec.ports.iter().any(|port| port.name == *name)
        });
        if dashed || defined {
            continue;
        }
        let (positive, _) = context.judge.sets_of(entity);
        let pods = positive.is_none_or(|members| members.pods);
        let severity = if pods { Severity::Medium } else { Severity::High };
        let text = format!("no host endpoint given has a port called {name:?}");
        at.report(&NAMED_PORT, (severity, port.line), path, &text, NAMED_PORT.fix, found);
    }
}

fn repeated(at: &Here<'_, '_>, entity: &Entity, path: &str, found: &mut Findings) {
    let twice = |line: u32, what: String, found: &mut Findings| {
        at.report(&REPEATED, (REPEATED.severity, line), path, &format!("{what} is there twice"), REPEATED.fix, found);
    };
    for ports in [&entity.ports, &entity.not_ports] {
        for (index, port) in ports.iter().enumerate() {
            if ports.iter().take(index).any(|other| other.value == port.value) {
                let shown = match &port.value {
                    Port::Name(name) => name.clone(),
                    Port::Range(range) if range.low == range.high => range.low.to_string(),
                    Port::Range(range) => format!("{}:{}", range.low, range.high),
                };
                twice(port.line, format!("port {shown}"), found);
            }
        }
    }
    for nets in [&entity.nets, &entity.not_nets] {
        for (index, net) in nets.iter().enumerate() {
            if nets.iter().take(index).any(|other| other.prefix == net.prefix) {
                twice(net.line, format!("net {}", net.prefix), found);
            }
        }
    }
}

fn repeated_rules(context: &Context<'_>, found: &mut Findings) {
    for policy in &context.model.policies {
        let title = policy.resource.meta.title();
        for direction in DIRECTIONS {
            let rules = policy.policy.rules(direction);
            for (index, rule) in rules.iter().enumerate() {
                let same = |other: &Rule| {
                    let action = |rule: &Rule| rule.action.as_ref().map(|action| action.value);
                    action(other) == action(rule)
                        && super::rules::covers(other, rule)
                        && super::rules::covers(rule, other)
                };
                if rules.iter().take(index).any(same) {
                    let path = rule_path(direction, index);
                    let at = Here { policy, direction, title: &title, path: &path };
                    let text = "the same rule is there before".to_owned();
                    at.report(&REPEATED, (REPEATED.severity, rule.line), at.path, &text, REPEATED.fix, found);
                }
            }
        }
    }
}

fn domains(context: &Context<'_>, at: &Here<'_, '_>, rule: &Rule, entity: &Entity, path: &str, found: &mut Findings) {
    let Some(first) = entity.domains.first() else { return };
    let path = format!("{path}.domains");
    if rule.protocol.is_none() && entity.ports.is_empty() {
        let text = "every port and protocol of these addresses is open".to_owned();
        at.report(&DOMAIN_ANY_PORT, (DOMAIN_ANY_PORT.severity, first.line), &path, &text, DOMAIN_ANY_PORT.fix, found);
    }
    for domain in &entity.domains {
        if let Some(apex) = domain.value.strip_prefix("*.")
            && !entity.domains.iter().any(|other| other.value == apex)
        {
            let text = format!("{} does not cover {apex} itself", domain.value);
            at.report(&DOMAIN_APEX, (DOMAIN_APEX.severity, domain.line), &path, &text, DOMAIN_APEX.fix, found);
        }
    }
    let alone = entity.nets.is_empty() && !entity.has_selector();
    let text = if alone {
        "open-source Calico drops this field: the rule then allows any destination".to_owned()
    } else {
        "open-source Calico drops this field".to_owned()
    };
    at.report(&ENTERPRISE, (enterprise_severity(context), first.line), &path, &text, ENTERPRISE.fix, found);
}

/// High where the files say that the cluster runs open-source Calico, nothing to worry about where it runs Enterprise.
fn enterprise_severity(context: &Context<'_>) -> Severity {
    let information = context.resources.iter().find_map(|resource| match &resource.spec {
        Spec::ClusterInformation(information) => Some(information),
        _ => None,
    });
    match information {
        Some(information) if information.enterprise_version.is_some() => Severity::Info,
        Some(_) => Severity::High,
        None => ENTERPRISE.severity,
    }
}

fn sets(context: &Context<'_>, found: &mut Findings) {
    for resource in context.resources.iter() {
        let Spec::NetworkSet(set) = &resource.spec else { continue };
        let title = resource.meta.title();
        let place = |line: u32| Place { file: std::sync::Arc::clone(&resource.meta.place.file), line };
        if let Some(first) = set.domains.first() {
            let place = place(first.line);
            let field = "spec.allowedEgressDomains";
            let at = At { place: &place, column: 0, resource: &title, field };
            let rest = if set.nets.is_empty() { "the set is then empty" } else { "only its nets stay" };
            let text = format!("{title}: open-source Calico drops its domains: {rest}");
            found.add_as(&ENTERPRISE, enterprise_severity(context), at, text, ENTERPRISE.fix);
        }
        for (index, net) in set.nets.iter().enumerate() {
            if set.nets.iter().take(index).any(|other: &Field<Net>| other.prefix == net.prefix) {
                let place = place(net.line);
                let at = At { place: &place, column: 0, resource: &title, field: "spec.nets" };
                found.add(&REPEATED, at, format!("{title}: net {} is there twice", net.prefix), REPEATED.fix);
            }
        }
    }
}

fn broad(at: &Here<'_, '_>, rule: &Rule, found: &mut Findings) {
    let allows = rule.action.as_ref().is_some_and(|action| action.value == Action::Allow);
    let narrowed = !rule.destination.ports.is_empty() || !rule.source.ports.is_empty() || rule.icmp.is_some();
    let icmp = rule.protocol.as_ref().is_some_and(|protocol| matches!(protocol.number(), 1 | 58));
    if !allows || narrowed || icmp || at.policy.staged {
        return;
    }
    let (side, peer) =
        if at.direction == Direction::In { ("source", &rule.source) } else { ("destination", &rule.destination) };
    let wide = peer.nets.iter().find(|net| {
        let limit = if net.prefix.is_ipv4() { 8 } else { 16 };
        net.prefix.length() <= limit && !net.prefix.address().is_loopback()
    });
    if let Some(net) = wide {
        let field = format!("{}.{side}.nets", at.path);
        let text = format!("every port is open for {}", net.prefix);
        at.report(&BROAD, (BROAD.severity, net.line), &field, &text, BROAD.fix, found);
    }
}

fn never_own(context: &Context<'_>, at: &Here<'_, '_>, rule: &Rule, found: &mut Findings) {
    let forward = crate::calico::resources::Policy::is(&at.policy.policy.apply_on_forward);
    let (side, own) =
        if at.direction == Direction::In { ("destination", &rule.destination) } else { ("source", &rule.source) };
    let ordinary = |net: &Field<Net>| {
        let address = net.prefix.address();
        !address.is_loopback() && !address.is_multicast() && address.to_string() != "255.255.255.255"
    };
    let Some(first) = own.nets.first().filter(|_| !forward && own.nets.iter().all(ordinary)) else { return };
    let selected: Vec<&Class<'_, '_>> =
        context.classes.iter().filter(|class| context.model.selects(at.policy, class.endpoint)).collect();
    let mut addresses = context
        .model
        .endpoints
        .iter()
        .filter(|endpoint| context.model.selects(at.policy, endpoint))
        .flat_map(|endpoint| endpoint.spec.expected_ips.iter().map(|ip| ip.value))
        .peekable();
    let all_known = selected
        .iter()
        .all(|class| class.endpoint.spec.expected_ips.iter().any(|ip| ip.is_ipv4() == first.prefix.is_ipv4()));
    if selected.is_empty() || !all_known || addresses.peek().is_none() {
        return;
    }
    if !addresses.any(|address| own.nets.iter().any(|net| net.prefix.contains(address))) {
        let field = format!("{}.{side}.nets", at.path);
        let text = format!("the host is the {side} here, and none of its addresses is in {}", first.prefix);
        at.report(&NEVER_OWN, (NEVER_OWN.severity, first.line), &field, &text, NEVER_OWN.fix, found);
    }
}

fn one_family(context: &Context<'_>, policy: &Ordered<'_>, found: &mut Findings) {
    let both = context.model.endpoints.iter().any(|endpoint| {
        let ips = &endpoint.spec.expected_ips;
        context.model.selects(policy, endpoint)
            && ips.iter().any(|ip| ip.is_ipv4())
            && ips.iter().any(|ip| ip.is_ipv6())
    });
    if !both || policy.staged {
        return;
    }
    let title = policy.resource.meta.title();
    for direction in DIRECTIONS {
        for action in [Action::Allow, Action::Deny] {
            let rules = policy.policy.rules(direction).iter().enumerate();
            let of_action = rules.filter(|(_, rule)| rule.action.as_ref().is_some_and(|a| a.value == action));
            let mut seen: [Option<(usize, u32)>; 2] = [None, None];
            let mut any = false;
            for (index, rule) in of_action {
                let mut nets = rule.source.nets.iter().chain(&rule.destination.nets);
                match nets.next() {
                    Some(net) => {
                        let slot = usize::from(!net.prefix.is_ipv4());
                        if let Some(first) = seen.get_mut(slot) {
                            first.get_or_insert((index, net.line));
                        }
                    }
                    None => any = true,
                }
            }
            let (first, other) = match seen {
                [Some(first), None] => (first, "IPv6"),
                [None, Some(first)] => (first, "IPv4"),
                _ => continue,
            };
            if any {
                continue;
            }
            let path = rule_path(direction, first.0);
            let at = Here { policy, direction, title: &title, path: &path };
            let effect = if action == Action::Allow { "is denied" } else { "stays open" };
            let text = format!("nets of one family, but the host has both: {other} {effect}");
            at.report(&ONE_FAMILY, (ONE_FAMILY.severity, first.1), &path, &text, ONE_FAMILY.fix, found);
        }
    }
}
