//! Rules that earlier rules leave nothing for.

use super::context::{Context, DIRECTIONS, rule_path};
use super::{At, Findings, Lint, define};
use crate::calico::names::{Action, Direction};
use crate::calico::order::Ordered;
use crate::calico::resources::{Entity, Field, Net, Port, Rule};
use crate::calico::selector::entity_selectors;
use crate::calico::settings::Place;

define!(
    UNREACHABLE, "HG455", "rule-unreachable", Medium, "a rule that an earlier one leaves nothing for",
    what: "Rules all of whose packets an earlier rule of the same policy decides, or one without conditions of an earlier policy of the tier that selects everything this one does.",
    why: "The rule never acts. A Deny behind an Allow of the same is no deny; `Allow destination.selector: all()` in front makes port-specific Allows behind it idle talk.",
    fix: "Move the more specific rule up, or remove it.",
    limits: "Compared are protocol, ports, nets and selectors as they are written; two selectors that come to the same in other words are not seen as equal."
);
define!(
    LOG_UNREACHABLE, "HG459", "log-unreachable", Low, "a Log rule behind one that decides everything it would log",
    what: "As HG455, for rules with `action: Log`.",
    why: "The line that is waited for never comes.",
    fix: "Put the Log in front of the rule that decides.",
    limits: "As for HG455: conditions are compared as they are written, not by the addresses they stand for."
);

/// Those of this family, in the order of their codes.
pub(super) fn lints() -> impl Iterator<Item = Lint> {
    [UNREACHABLE, LOG_UNREACHABLE].into_iter()
}

pub(super) fn look(context: &Context<'_>, found: &mut Findings) {
    for policy in &context.model.policies {
        for direction in DIRECTIONS {
            within(policy, direction, found);
            across(context, policy, direction, found);
        }
    }
}

fn decides(rule: &Rule) -> bool {
    rule.action.as_ref().is_some_and(|action| action.value != Action::Log)
}

fn within(policy: &Ordered<'_>, direction: Direction, found: &mut Findings) {
    let rules = policy.policy.rules(direction);
    let title = policy.resource.meta.title();
    for (index, rule) in rules.iter().enumerate() {
        let earlier = rules.iter().take(index).enumerate();
        let Some((by, _)) = earlier.filter(|(_, other)| decides(other)).find(|(_, other)| covers(other, rule)) else {
            continue;
        };
        let path = rule_path(direction, index);
        let text = format!("{title}: {path} never acts: {} decides all it matches", rule_path(direction, by));
        report(policy, rule, &title, &path, text, found);
    }
}

fn report(policy: &Ordered<'_>, rule: &Rule, title: &str, path: &str, text: String, found: &mut Findings) {
    let log = rule.action.as_ref().is_some_and(|action| action.value == Action::Log);
    let lint = if log { &LOG_UNREACHABLE } else { &UNREACHABLE };
    let place = Place { file: std::sync::Arc::clone(&policy.resource.meta.place.file), line: rule.line };
    found.add(lint, At { place: &place, column: 0, resource: title, field: path }, text, lint.fix);
}

/// A rule without conditions in an earlier policy.
fn across(context: &Context<'_>, policy: &Ordered<'_>, direction: Direction, found: &mut Findings) {
    let rules = policy.policy.rules(direction);
    let Some(first) = rules.first().filter(|_| policy.directions.has(direction)) else { return };
    let earlier = context.model.policies.iter().take_while(|other| !std::ptr::eq(*other, policy));
    let hides = |other: &&Ordered<'_>| {
        let same_layers =
            crate::calico::order::Layer::ALL.into_iter().all(|layer| !policy.acts_in(layer) || other.acts_in(layer));
        let wider = other.selector == policy.selector || other.selector.is_everything();
        let all = || {
            let rules = other.policy.rules(direction).iter();
            rules.filter(|rule| decides(rule)).any(Rule::matches_everything)
        };
        other.tier == policy.tier && !other.staged && same_layers && wider && other.directions.has(direction) && all()
    };
    let Some(by) = earlier.into_iter().find(hides) else { return };
    let title = policy.resource.meta.title();
    let path = rule_path(direction, 0);
    let text = format!(
        "{title}: no {} rule ever acts: {} comes first and decides everything",
        direction.calico(),
        by.resource.meta.title()
    );
    report(policy, first, &title, &path, text, found);
}

/// Whether `wide` matches everything that `narrow` does, as far as the fields tell.
pub(super) fn covers(wide: &Rule, narrow: &Rule) -> bool {
    let version = wide
        .ip_version
        .as_ref()
        .is_none_or(|version| narrow.ip_version.as_ref().is_some_and(|other| other.value == version.value));
    let protocol = wide
        .protocol
        .as_ref()
        .is_none_or(|protocol| narrow.protocol.as_ref().is_some_and(|other| other.value == protocol.value));
    let not_protocol = wide
        .not_protocol
        .as_ref()
        .is_none_or(|unwanted| narrow.protocol.as_ref().is_some_and(|other| other.number() != unwanted.number()));
    let icmp = wide.icmp.as_ref().is_none_or(|icmp| {
        narrow
            .icmp
            .as_ref()
            .is_some_and(|other| icmp.kind == other.kind && (icmp.code.is_none() || icmp.code == other.code))
    });
    let not_icmp = wide
        .not_icmp
        .as_ref()
        .is_none_or(|unwanted| narrow.not_icmp.as_ref().is_some_and(|other| other.value == unwanted.value));
    version
        && protocol
        && not_protocol
        && icmp
        && not_icmp
        && entity_covers(&wide.source, &narrow.source)
        && entity_covers(&wide.destination, &narrow.destination)
}

fn entity_covers(wide: &Entity, narrow: &Entity) -> bool {
    let nets = wide.nets.is_empty()
        || (!narrow.nets.is_empty()
            && narrow.nets.iter().all(|net| wide.nets.iter().any(|other| other.prefix.covers(net.prefix))));
    let excluded = |net: &Field<Net>| narrow.not_nets.iter().any(|other| other.prefix.covers(net.prefix));
    let not_nets = wide.not_nets.iter().all(excluded);
    let range = |port: &Field<Port>, ports: &[Field<Port>]| {
        ports.iter().any(|other| match (&other.value, &port.value) {
            (Port::Range(wide), Port::Range(narrow)) => wide.low <= narrow.low && narrow.high <= wide.high,
            (wide, narrow) => wide == narrow,
        })
    };
    let ports =
        wide.ports.is_empty() || (!narrow.ports.is_empty() && narrow.ports.iter().all(|port| range(port, &wide.ports)));
    let not_ports = wide.not_ports.iter().all(|port| range(port, &narrow.not_ports));
    let others = wide.services.is_none() && wide.domains.is_empty()
        || (wide.services == narrow.services && wide.domains == narrow.domains);
    nets && not_nets && ports && not_ports && others && selectors_cover(wide, narrow)
}

fn selectors_cover(wide: &Entity, narrow: &Entity) -> bool {
    let (Some(wide), Some(narrow)) = (entity_selectors(wide, None), entity_selectors(narrow, None)) else {
        return false;
    };
    let positive = wide.positive.as_ref().is_none_or(|selector| {
        narrow.positive.as_ref().is_some_and(|other| other == selector || selector.is_everything())
    });
    let negative = wide.negative.as_ref().is_none_or(|selector| narrow.negative.as_ref() == Some(selector));
    positive && negative
}
