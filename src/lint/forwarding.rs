//! Policies that act on traffic through the host, before conntrack, or before NAT.

use super::context::{Context, DIRECTIONS};
use super::{At, EXACT, Findings, JUDGED, Lint, define};
use crate::calico::names::{Action, Direction};
use crate::calico::order::{Layer, Ordered};
use crate::calico::resources::Rule;
use crate::calico::settings::Place;

define!(
    FORWARD_DENIES, "HG487", "forward-policy-denies-the-rest", High, "policy for forwarded traffic denies all that it does not allow",
    what: "Enforced policies with `applyOnForward: true`, neither doNotTrack nor preDNAT, in a tier that denies at its end and without a final rule for everything.",
    why: "Without such a policy forwarded traffic passes a host endpoint freely. The first one turns that into a default deny: containers, VPN clients and NodePorts behind this host are cut off. Failsafe ports do not help, and profiles have no say.",
    fix: "End the policy with `action: Allow` or `Pass` for what is forwarded, or move local rules to a policy without applyOnForward.",
    limits: JUDGED
);
define!(
    FORWARD_ONE_WAY, "HG488", "forward-policy-one-way", Medium, "policy for forwarded traffic acts on one direction only",
    what: "Host endpoints with `applyOnForward` policy for ingress and none for egress, or the other way round.",
    why: "In the other direction packets get no verdict of Calico: they fall through to the host's own FORWARD rules. Where Docker has set these to DROP, forwarding stops.",
    fix: "Write rules for both directions.",
    limits: "The host's own rules are not known from policy files."
);
define!(
    UNTRACKED_ONE_WAY, "HG489", "untracked-policy-one-way", High, "doNotTrack policy without rules for the answers",
    what: "Policies with `doNotTrack: true` that allow in one direction and have no rule in the other.",
    why: "Untracked traffic has no established state: answers are packets like any other. Without a rule of their own, by source port, they are tracked as unknown and dropped.",
    fix: "Add the mirror rule: ingress TCP to port 9999 needs egress TCP from source port 9999.",
    limits: "Whether the rules of the two directions mirror each other is not compared."
);
define!(
    UNTRACKED_DENY, "HG490", "untracked-deny-cuts-sessions", Medium, "a Deny in doNotTrack policy cuts established sessions at once",
    what: "Deny rules in policies with `doNotTrack: true`.",
    why: "Normal policy spares connections that are up. Untracked policy sees every packet: the Deny takes effect on sessions in the middle.",
    fix: "Deny in normal policy, unless that is what is meant (floods).",
    limits: EXACT
);
define!(
    PREDNAT_ALLOW, "HG491", "prednat-allow-skips-policy", Medium, "an Allow in preDNAT policy skips all later policy",
    what: "Allow rules in policies with `preDNAT: true`.",
    why: "What preDNAT policy allows is accepted there: the host's normal ingress policy never sees it.",
    fix: "Deny in preDNAT policy and leave allowing to normal policy, or check that the Allow is as narrow as it has to be.",
    limits: EXACT
);

/// In the order of their codes.
pub(super) fn lints() -> impl Iterator<Item = Lint> {
    [FORWARD_DENIES, FORWARD_ONE_WAY, UNTRACKED_ONE_WAY, UNTRACKED_DENY, PREDNAT_ALLOW].into_iter()
}

pub(super) fn look(context: &Context<'_>, found: &mut Findings) {
    for policy in context.enforced() {
        let title = policy.resource.meta.title();
        let at = At::resource(policy.resource, &title);
        if policy.acts_in(Layer::Untracked) {
            untracked(policy, &title, found);
        }
        if policy.acts_in(Layer::PreDnat) {
            single(policy, &title, Action::Allow, &PREDNAT_ALLOW, "what it allows skips normal policy", found);
        }
        if !policy.acts_in(Layer::Forward) || context.model.tiers.get(policy.tier).is_some_and(|tier| tier.default_pass)
        {
            continue;
        }
        for direction in DIRECTIONS.into_iter().filter(|direction| policy.directions.has(*direction)) {
            let decides = |rule: &&Rule| rule.action.as_ref().is_some_and(|action| action.value != Action::Log);
            let rules = policy.policy.rules(direction);
            if !rules.iter().filter(decides).any(Rule::matches_everything) {
                let word = direction.calico();
                let text = format!("{title} denies all forwarded {word} that it does not allow");
                found.add(&FORWARD_DENIES, at, text, FORWARD_DENIES.fix);
            }
        }
    }
    for class in &context.classes {
        let tiers = class.force.tiers(Layer::Forward);
        let has = |direction| tiers.iter().any(|tier| !context.enforced_in(tier, direction).is_empty());
        let (ingress, egress) = (has(Direction::In), has(Direction::Out));
        if ingress != egress {
            let (with, without) = if ingress { ("ingress", "egress") } else { ("egress", "ingress") };
            let title = class.title();
            let at = At { place: &class.endpoint.place, column: 0, resource: &title, field: "" };
            let text = format!("{title} has policy for forwarded {with} and none for forwarded {without}");
            found.add(&FORWARD_ONE_WAY, at, text, FORWARD_ONE_WAY.fix);
        }
    }
}

fn untracked(policy: &Ordered<'_>, title: &str, found: &mut Findings) {
    let allows = |direction| {
        let rules = policy.policy.rules(direction).iter();
        rules.filter_map(|rule| rule.action.as_ref()).any(|action| action.value == Action::Allow)
    };
    let (ingress, egress) = (allows(Direction::In), allows(Direction::Out));
    if ingress != egress {
        let word = if ingress { "egress" } else { "ingress" };
        let text = format!("{title} is doNotTrack and allows nothing in {word}: answers are dropped");
        found.add(&UNTRACKED_ONE_WAY, At::resource(policy.resource, title), text, UNTRACKED_ONE_WAY.fix);
    }
    single(policy, title, Action::Deny, &UNTRACKED_DENY, "it cuts sessions that are up", found);
}

fn single(policy: &Ordered<'_>, title: &str, action: Action, lint: &Lint, effect: &str, found: &mut Findings) {
    for direction in DIRECTIONS {
        for (index, rule) in policy.policy.rules(direction).iter().enumerate() {
            if rule.action.as_ref().is_some_and(|found| found.value == action) {
                let field = super::context::rule_path(direction, index);
                let place = Place { file: std::sync::Arc::clone(&policy.resource.meta.place.file), line: rule.line };
                let at = At { place: &place, column: 0, resource: title, field: &field };
                found.add(lint, at, format!("{title}: {field}: {effect}"), lint.fix);
            }
        }
    }
}
