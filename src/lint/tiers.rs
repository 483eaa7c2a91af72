//! Directions, tiers, order: what a policy's place makes of it.

use super::context::{Class, Context, DIRECTIONS};
use super::{At, EXACT, FILES_ONLY, Findings, Lint, define};
use crate::calico::names::{Action, Direction};
use crate::calico::order::{DEFAULT_TIER_ORDER, Ordered};
use crate::calico::resources::{Api, Policy, Rule};
use crate::calico::settings::Place;

define!(
    TYPES_MISSING, "HG445", "types-missing", Low, "a policy does not say for which directions it is",
    what: "Global policies without `types`.",
    why: "The API fills it in: Ingress alone unless there are egress rules. A `default deny` without types leaves egress open; the same object written straight as a stored resource acts both ways.",
    fix: "Write `types: [Ingress]`, `[Egress]` or both.",
    limits: EXACT
);
define!(
    EMPTY_LISTS, "HG446", "empty-list-without-types", High, "an empty list of rules and no types: its meaning depends on how Calico is installed",
    what: "`ingress: []`, `egress: []` or `types: []` in a policy without types.",
    why: "With the API server of Calico an empty list counts as missing; with native v3 CRDs (3.32 and newer) it counts as given, and the policy then denies that direction. An upgrade can lock a host out.",
    fix: "Write `types`, and remove the empty list.",
    limits: EXACT
);
define!(
    RULES_WITHOUT_TYPE, "HG447", "rules-never-programmed", High, "rules for a direction that the policy's types leave out",
    what: "Policies with `types: [Ingress]` and egress rules, or the other way round.",
    why: "The API takes it, and the rules are never programmed: a Deny is no deny, an Allow opens nothing.",
    fix: "Add the direction to `types`, or remove the rules.",
    limits: EXACT
);
define!(
    TYPE_WITHOUT_RULES, "HG448", "type-without-rules", Medium, "a direction in types, and rules only for the other",
    what: "Enforced policies with rules for one direction and both directions in `types`, in a tier that denies at its end.",
    why: "The policy takes charge of the other direction and allows nothing there: all of it that no other policy of the tier allows is dropped at the end of the tier.",
    fix: "Remove the direction from `types`, or write its rules. A default deny belongs into a policy of its own.",
    limits: "Where other policies of the tier allow what is needed this is as it should be."
);
define!(
    END_OF_TIER, "HG449", "end-of-tier-deny", Medium, "what a tier does not allow never reaches what comes after it",
    what: "For each host endpoint and direction: tiers that deny at their end, with enforced policies that do not decide everything, before later tiers or an allow-all profile.",
    why: "As soon as one policy of the tier selects the endpoint, everything it does not match is dropped there. Later tiers never see it, and a profile that allows everything no longer does.",
    fix: "End the tier with a rule `action: Pass`, or give the tier `defaultAction: Pass`. Where the deny is meant, write it as a rule, so that it shows.",
    limits: FILES_ONLY
);
define!(
    DENY_HIDES, "HG450", "deny-hides-later-tiers", High, "a rule that denies everything hides the Allows of later tiers",
    what: "A `Deny` without conditions in a tier, when later tiers hold Allow rules for the same host endpoint and direction.",
    why: "The later tiers can never allow anything: whoever writes there is not told.",
    fix: "Write `action: Pass` where the next tier is to decide.",
    limits: EXACT
);
define!(
    PASS_TO_PROFILES, "HG451", "pass-into-profiles", Medium, "a Pass in the last tier hands over to the profiles",
    what: "Rules with `action: Pass` in the last tier that has policy for a host endpoint.",
    why: "Behind the last tier come the profiles: on an automatic host endpoint that means allowed, on one without profile denied.",
    fix: "Write `Allow` or `Deny`, whichever is meant.",
    limits: FILES_ONLY
);
define!(
    AFTER_DEFAULT, "HG452", "tier-after-default", High, "a tier comes at or after the tier default",
    what: "Tiers without order, or with an order of 1000000 or more, that have policies.",
    why: "A tier without order is stored with that of `default`, and then names decide: `app` is before `default`, `security` after it. A default deny in `default` drops everything first.",
    fix: "Give the tier an order below 1000000.",
    limits: EXACT
);
define!(
    TIER_MISSING, "HG453", "tier-not-given", Medium, "a policy names a tier that is not among the files",
    what: "`spec.tier` of every policy is looked up among the Tier resources given.",
    why: "In a cluster without that tier the API refuses the policy. Here its order and its end are not known: it is judged as if it came last and denied, as Felix does.",
    fix: "Add the Tier to the files, or correct the name.",
    limits: FILES_ONLY
);
define!(
    EQUAL_ORDER, "HG454", "equal-order", Medium, "policies of equal order that disagree",
    what: "Policies of one tier with the same order (or none) that select a common host endpoint, one with Allow rules, the other with Deny or Pass rules.",
    why: "Names decide who comes first, and how they are compared changed in 3.32: `allow` before `allow-dns` up to 3.31, after it from then on.",
    fix: "Give them different orders.",
    limits: "Whether their rules overlap is not looked into."
);
define!(
    ONLY_STAGED, "HG456", "only-staged", Low, "only staged policies act for a host endpoint's direction",
    what: "Host endpoints for which a direction has staged policies and no enforced one.",
    why: "Staged policies never change a packet: nothing is enforced for that direction, and what the endpoint's profiles say holds.",
    fix: "Promote the staged policy once its flows are clean (`hepguard lint --flow-logs FILE` shows what it would deny).",
    limits: FILES_ONLY
);
define!(
    LOG_ONLY, "HG458", "log-without-verdict", High, "a policy that only logs denies at the end of its tier",
    what: "Enforced policies all of whose rules for a direction are `Log`, in a tier that denies at its end.",
    why: "Log decides nothing. Since the policy selects the endpoint, whatever no other policy of the tier allows is dropped at the end of the tier: a policy meant to watch turns into a default deny.",
    fix: "Add a rule `action: Pass` (or Allow) behind the Log, or put the policy into a tier with `defaultAction: Pass`.",
    limits: EXACT
);
define!(
    STAGED_IGNORED, "HG460", "staged-action-without-effect", Low, "stagedAction Learn or Ignore",
    what: "Staged policies whose action is `Learn` or `Ignore`.",
    why: "Felix does not read the action: such a policy is evaluated like any other staged one, whatever its action promises.",
    fix: "Write `Set` or `Delete`, or remove the policy.",
    limits: EXACT
);

/// In the order of their codes, those of [`super::rules`] and [`super::staged`] left out.
pub(super) fn lints() -> impl Iterator<Item = Lint> {
    [
        TYPES_MISSING,
        EMPTY_LISTS,
        RULES_WITHOUT_TYPE,
        TYPE_WITHOUT_RULES,
        END_OF_TIER,
        DENY_HIDES,
        PASS_TO_PROFILES,
        AFTER_DEFAULT,
        TIER_MISSING,
        EQUAL_ORDER,
        ONLY_STAGED,
        LOG_ONLY,
        STAGED_IGNORED,
    ]
    .into_iter()
}

pub(super) fn look(context: &Context<'_>, found: &mut Findings) {
    for policy in &context.model.policies {
        directions(context, policy, found);
        tier_of(context, policy, found);
    }
    for class in &context.classes {
        for direction in DIRECTIONS {
            ends(context, class, direction, found);
        }
    }
    equal_orders(context, found);
}

fn at_line(policy: &Ordered<'_>, line: u32) -> Place {
    Place { file: std::sync::Arc::clone(&policy.resource.meta.place.file), line }
}

fn directions(context: &Context<'_>, ordered: &Ordered<'_>, found: &mut Findings) {
    let policy: &Policy = ordered.policy;
    let title = ordered.resource.meta.title();
    let own = At::resource(ordered.resource, &title);
    let denies = !context.model.tiers.get(ordered.tier).is_some_and(|tier| tier.default_pass);
    if ordered.directions.doubtful {
        let text = format!(
            "{title}: an empty list and no types: it depends on the installation whether that direction is denied"
        );
        found.add(&EMPTY_LISTS, own, text, EMPTY_LISTS.fix);
    } else if policy.types.is_none() && ordered.resource.meta.api != Api::Crd {
        let word = match (ordered.directions.ingress, ordered.directions.egress) {
            (true, true) => "both directions",
            (false, true) => "egress alone",
            _ => "ingress alone",
        };
        found.add(&TYPES_MISSING, own, format!("{title} does not say its types: it is for {word}"), TYPES_MISSING.fix);
    }
    if let Some(action) = &policy.staged_action
        && matches!(action.value.as_str(), "Learn" | "Ignore")
    {
        let text = format!("{title}: Felix does not read stagedAction {}", action.value);
        found.add(&STAGED_IGNORED, own, text, STAGED_IGNORED.fix);
    }
    for direction in DIRECTIONS {
        let rules = policy.rules(direction);
        let word = direction.calico();
        if let Some(first) = rules.first()
            && !ordered.directions.has(direction)
        {
            let place = at_line(ordered, first.line);
            let field = format!("spec.{word}");
            let at = At { place: &place, column: 0, resource: &title, field: &field };
            let text = format!("{title} has {} {word} rule(s), but {word} is not among its types", rules.len());
            found.add(&RULES_WITHOUT_TYPE, at, text, RULES_WITHOUT_TYPE.fix);
        }
        let other = if direction == Direction::In { Direction::Out } else { Direction::In };
        let typed = policy.types.is_some() && ordered.directions.has(direction);
        if typed && rules.is_empty() && !policy.rules(other).is_empty() && denies && !ordered.staged {
            let text = format!("{title} is for {word} too and has no rule for it: the end of its tier drops {word}");
            found.add(&TYPE_WITHOUT_RULES, own, text, TYPE_WITHOUT_RULES.fix);
        }
        let logs = |rule: &Rule| rule.action.as_ref().is_some_and(|action| action.value == Action::Log);
        if ordered.directions.has(direction) && !rules.is_empty() && rules.iter().all(logs) && denies && !ordered.staged
        {
            let text = format!("{title} only logs {word}: what no other policy of its tier allows is dropped");
            found.add(&LOG_ONLY, own, text, LOG_ONLY.fix);
        }
    }
}

fn tier_of(context: &Context<'_>, ordered: &Ordered<'_>, found: &mut Findings) {
    let Some(tier) = context.model.tiers.get(ordered.tier) else { return };
    let title = ordered.resource.meta.title();
    match tier.order {
        None => {
            let line = ordered.policy.tier.as_ref().map_or(ordered.resource.meta.place.line, |tier| tier.line);
            let place = at_line(ordered, line);
            let at = At { place: &place, column: 0, resource: &title, field: "spec.tier" };
            let names: Vec<&str> =
                context.model.tiers.iter().filter(|tier| tier.order.is_some()).map(|tier| tier.name.as_str()).collect();
            let near = crate::calico::resources::nearest(&tier.name, &names).filter(|near| *near != "default");
            let fix = near.map_or_else(|| TIER_MISSING.fix.to_owned(), |near| format!("did you mean {near}?"));
            found.add(&TIER_MISSING, at, format!("{title} is in the tier {}, which is not given", tier.name), fix);
        }
        Some(order) if order >= DEFAULT_TIER_ORDER && tier.name != "default" && !tier.name.starts_with("kube-") => {
            let kind = crate::calico::resources::Kind::Tier;
            if let Some(resource) = context.resources.get(&kind, None, &tier.name) {
                let title = resource.meta.title();
                let at = At { field: "spec.order", ..At::resource(resource, &title) };
                let text =
                    format!("{title} has order {order}, that of default or later: a deny in default comes first");
                found.add(&AFTER_DEFAULT, at, text, AFTER_DEFAULT.fix);
            }
        }
        Some(_) => {}
    }
}

/// What becomes of traffic that a tier's rules do not decide.
fn ends(context: &Context<'_>, class: &Class<'_, '_>, direction: Direction, found: &mut Findings) {
    let word = direction.calico();
    let tiers: Vec<_> = class.tiers().iter().filter(|tier| !tier.policies(direction).is_empty()).collect();
    let any_enforced = tiers.iter().any(|tier| !context.enforced_in(tier, direction).is_empty());
    if let (Some(tier), false) = (tiers.first(), any_enforced)
        && let Some(policy) = tier.policies(direction).first().and_then(|index| context.model.policy(*index))
    {
        let title = policy.resource.meta.title();
        let text = format!("only staged policies ({title}) act on {word} of {}: nothing is enforced", class.title());
        found.add(&ONLY_STAGED, At::resource(policy.resource, &title), text, ONLY_STAGED.fix);
    }
    for (index, tier) in tiers.iter().enumerate() {
        let enforced = context.enforced_in(tier, direction);
        let (Some(last), Some(order)) = (enforced.last(), context.model.tiers.get(tier.tier)) else { continue };
        let later = tiers.get(index + 1..).unwrap_or_default();
        let title = last.resource.meta.title();
        let decided = enforced.iter().find_map(|policy| {
            let rules = policy.policy.rules(direction).iter();
            let final_action = |rule: &&Rule| rule.action.as_ref().is_some_and(|action| action.value != Action::Log);
            let rule = rules.filter(final_action).find(|rule| rule.matches_everything())?;
            Some((*policy, rule))
        });
        match decided {
            Some((policy, rule)) if rule.action.as_ref().is_some_and(|action| action.value == Action::Deny) => {
                let allows = later.iter().flat_map(|tier| context.enforced_in(tier, direction)).any(|policy| {
                    let rules = policy.policy.rules(direction).iter();
                    rules.filter_map(|rule| rule.action.as_ref()).any(|action| action.value == Action::Allow)
                });
                if allows {
                    let title = policy.resource.meta.title();
                    let place = at_line(policy, rule.line);
                    let at = At { place: &place, column: 0, resource: &title, field: "" };
                    let text = format!("{title} denies all {word} of {}, though later tiers allow some", class.title());
                    found.add(&DENY_HIDES, at, text, DENY_HIDES.fix);
                }
            }
            Some(_) => {}
            None if !order.default_pass && (!later.is_empty() || class.is_open()) => {
                let after =
                    if later.is_empty() { "the allow-all profile never sees it" } else { "later tiers never see it" };
                let text = format!(
                    "tier {} drops all {word} of {} that its rules do not match: {after}",
                    order.name,
                    class.title()
                );
                found.add(&END_OF_TIER, At::resource(last.resource, &title), text, END_OF_TIER.fix);
            }
            None => {}
        }
        if later.iter().all(|tier| context.enforced_in(tier, direction).is_empty()) {
            passes(&enforced, class, direction, found);
        }
    }
}

/// Pass rules in the last tier.
fn passes(enforced: &[&Ordered<'_>], class: &Class<'_, '_>, direction: Direction, found: &mut Findings) {
    for policy in enforced {
        let rules = policy.policy.rules(direction).iter().enumerate();
        let pass = |rule: &Rule| rule.action.as_ref().is_some_and(|action| action.value == Action::Pass);
        for (number, rule) in rules.filter(|(_, rule)| pass(rule)) {
            let title = policy.resource.meta.title();
            let place = at_line(policy, rule.line);
            let field = super::context::rule_path(direction, number);
            let at = At { place: &place, column: 0, resource: &title, field: &field };
            let verdict = if class.is_open() { "allowed" } else { "denied, but for what profiles allow" };
            let text = format!("{title}: {field} passes in the last tier: on {} that means {verdict}", class.title());
            found.add(&PASS_TO_PROFILES, at, text, PASS_TO_PROFILES.fix);
        }
    }
}

fn equal_orders(context: &Context<'_>, found: &mut Findings) {
    let order = |policy: &Ordered<'_>| policy.policy.order.as_ref().map(|order| order.value.to_bits());
    let has = |policy: &Ordered<'_>, direction: Direction, wanted: &[Action]| {
        let rules = policy.policy.rules(direction).iter();
        rules.filter_map(|rule| rule.action.as_ref()).any(|action| wanted.contains(&action.value))
    };
    for class in &context.classes {
        for direction in DIRECTIONS {
            for tier in class.tiers() {
                let policies = context.enforced_in(tier, direction);
                for pair in policies.windows(2) {
                    let [first, second] = pair else { continue };
                    let refuses = [Action::Deny, Action::Pass];
                    let disagree = (has(first, direction, &[Action::Allow]) && has(second, direction, &refuses))
                        || (has(second, direction, &[Action::Allow]) && has(first, direction, &refuses));
                    if order(first) == order(second) && disagree {
                        let title = second.resource.meta.title();
                        let text = format!(
                            "{title} and {} have the same order and disagree: their names decide",
                            first.resource.meta.title()
                        );
                        let at = At { field: "spec.order", ..At::resource(second.resource, &title) };
                        found.add(&EQUAL_ORDER, at, text, EQUAL_ORDER.fix);
                    }
                }
            }
        }
    }
}
