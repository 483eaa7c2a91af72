//! Host endpoints: dispatch by interface, and each endpoint's chains.

use std::collections::BTreeMap;

use super::policy::policy_chain;
use super::rule::{Criterion, FelixRule, RuleAction};
use super::{HostEndpoint, Input, RenderedTable, TierPolicies};
use crate::calico::names::{Direction, MAX_IPTABLES_CHAIN, WILDCARD_ENDPOINT, chain_name, nflog_prefix};

/// What an endpoint's chain is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Normal,
    Forward,
    Untracked,
    PreDnat,
}

/// One of an endpoint's chains in one table.
struct Variety {
    prefix: &'static str,
    dispatch: &'static str,
    direction: Direction,
    kind: Kind,
    /// What becomes of established connections.
    allow: RuleAction,
    tiers: fn(&HostEndpoint) -> &[TierPolicies],
}

pub(super) fn add(table: &mut RenderedTable, input: &Input) {
    use Direction::{In, Out};
    let variety =
        |prefix, dispatch, direction, kind, allow, tiers| Variety { prefix, dispatch, direction, kind, allow, tiers };
    let filter_allow = input.settings.filter_allow.rule();
    let varieties = match table.name {
        "filter" => vec![
            variety("cali-fh-", "cali-from-host-endpoint", In, Kind::Normal, filter_allow.clone(), normal as _),
            variety("cali-th-", "cali-to-host-endpoint", Out, Kind::Normal, filter_allow.clone(), normal),
            variety("cali-fhfw-", "cali-from-hep-forward", In, Kind::Forward, filter_allow.clone(), forward),
            variety("cali-thfw-", "cali-to-hep-forward", Out, Kind::Forward, filter_allow, forward),
        ],
        "mangle" => vec![
            variety(
                "cali-fh-",
                "cali-from-host-endpoint",
                In,
                Kind::PreDnat,
                input.settings.mangle_allow.rule(),
                pre_dnat as _,
            ),
            variety("cali-th-", "cali-to-host-endpoint", Out, Kind::Normal, RuleAction::Return, normal),
        ],
        "raw" => vec![
            variety("cali-fh-", "cali-from-host-endpoint", In, Kind::Untracked, RuleAction::Accept, untracked as _),
            variety("cali-th-", "cali-to-host-endpoint", Out, Kind::Untracked, RuleAction::Accept, untracked),
        ],
        _ => return,
    };
    for variety in &varieties {
        let members: Vec<&HostEndpoint> =
            input.endpoints.iter().filter(|endpoint| takes_part(endpoint, variety)).collect();
        for endpoint in &members {
            let name = endpoint_chain(variety.prefix, endpoint);
            table.chains.insert(name, endpoint_rules(endpoint, variety, input));
        }
        add_dispatch(table, variety, &members, &input.settings.workload_prefixes);
    }
}

fn normal(endpoint: &HostEndpoint) -> &[TierPolicies] {
    &endpoint.tiers
}

fn forward(endpoint: &HostEndpoint) -> &[TierPolicies] {
    &endpoint.forward_tiers
}

fn untracked(endpoint: &HostEndpoint) -> &[TierPolicies] {
    &endpoint.untracked_tiers
}

fn pre_dnat(endpoint: &HostEndpoint) -> &[TierPolicies] {
    &endpoint.pre_dnat_tiers
}

/// doNotTrack policy needs an interface of its own; it and preDNAT policy only reach endpoints that have some.
fn takes_part(endpoint: &HostEndpoint, variety: &Variety) -> bool {
    match variety.kind {
        Kind::Normal | Kind::Forward => true,
        Kind::Untracked => endpoint.interface.is_some() && !endpoint.untracked_tiers.is_empty(),
        Kind::PreDnat => !endpoint.pre_dnat_tiers.is_empty(),
    }
}

fn endpoint_chain(prefix: &str, endpoint: &HostEndpoint) -> String {
    chain_name(prefix, endpoint.interface.as_deref().unwrap_or(WILDCARD_ENDPOINT), MAX_IPTABLES_CHAIN)
}

/// The tree that finds an endpoint's chain: names that share a letter behind the common prefix share a child chain.
fn add_dispatch(table: &mut RenderedTable, variety: &Variety, members: &[&HostEndpoint], workload_prefixes: &[String]) {
    let matches = |name: String| match variety.direction {
        Direction::In => Criterion::InInterface(name),
        Direction::Out => Criterion::OutInterface(name),
    };
    let mut end = Vec::new();
    if let Some(wildcard) = members.iter().find(|endpoint| endpoint.interface.is_none()) {
        if table.name == "mangle" && variety.direction == Direction::Out {
            end.extend(workload_prefixes.iter().map(|prefix| {
                FelixRule::new(vec![matches(format!("{prefix}*"))], RuleAction::Return)
                    .comment("Skip egress WHEP policy for traffic to local workload")
            }));
        }
        end.push(FelixRule::always(RuleAction::Goto(endpoint_chain(variety.prefix, wildcard))));
    }
    let mut names: Vec<&str> = members.iter().filter_map(|endpoint| endpoint.interface.as_deref()).collect();
    names.sort_unstable();
    names.dedup();
    let leaf = |name: &str| {
        let target = chain_name(variety.prefix, name, MAX_IPTABLES_CHAIN);
        FelixRule::new(vec![matches(name.to_owned())], RuleAction::Goto(target))
    };
    let common = common_prefix(&names);
    let mut buckets: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for name in &names {
        let next = name.get(common..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
        buckets.entry(name.get(..common + next).unwrap_or(name)).or_default().push(name);
    }
    let mut root = Vec::new();
    for (prefix, names) in buckets {
        if let [name] = names.as_slice() {
            root.push(leaf(name));
            continue;
        }
        let child = format!("{}-{}", variety.dispatch, prefix.get(common..).unwrap_or_default());
        root.push(FelixRule::new(vec![matches(format!("{prefix}*"))], RuleAction::Goto(child.clone())));
        table.chains.insert(child, names.iter().map(|name| leaf(name)).chain(end.iter().cloned()).collect());
    }
    root.extend(end);
    table.chains.insert(variety.dispatch.to_owned(), root);
}

/// Length in bytes of the longest common prefix of sorted names.
fn common_prefix(names: &[&str]) -> usize {
    let (Some(first), Some(last)) = (names.first(), names.last()) else { return 0 };
    let mut length = 0;
    for (a, b) in first.chars().zip(last.chars()) {
        if a != b {
            break;
        }
        length += a.len_utf8();
    }
    length
}

fn endpoint_rules(endpoint: &HostEndpoint, variety: &Variety, input: &Input) -> Vec<FelixRule> {
    let settings = &input.settings;
    let marks = settings.marks;
    let tiers = (variety.tiers)(endpoint);
    let mut rules = Vec::new();
    if variety.kind != Kind::Untracked {
        let known = || vec![Criterion::State("RELATED,ESTABLISHED")];
        if variety.allow != RuleAction::Accept {
            rules.push(FelixRule::new(known(), RuleAction::SetMark(marks.accept)));
        }
        rules.push(FelixRule::new(known(), variety.allow.clone()));
        if settings.drop_invalid {
            rules.push(FelixRule::new(vec![Criterion::State("INVALID")], settings.deny.rule()));
        }
    }
    if variety.kind != Kind::Forward {
        let list = if variety.direction == Direction::In { "cali-failsafe-in" } else { "cali-failsafe-out" };
        rules.push(FelixRule::always(RuleAction::Jump(list.to_owned())));
    }
    rules.push(FelixRule::always(RuleAction::ClearMark(marks.accept | marks.pass)));
    for tier in tiers {
        add_tier(&mut rules, tier, variety, input);
    }
    if tiers.is_empty() && variety.kind == Kind::Forward {
        rules.push(FelixRule::always(RuleAction::SetMark(marks.accept)).comment("Allow forwarded traffic by default"));
        rules.push(FelixRule::always(RuleAction::Return).comment("Return for accepted forward traffic"));
    }
    if variety.kind == Kind::Normal {
        add_profiles(&mut rules, endpoint, variety, input);
    }
    rules
}

fn nflog(direction: Direction, prefix: &str) -> RuleAction {
    RuleAction::Nflog { group: nflog_group(direction), prefix: nflog_prefix(prefix) }
}

/// Listener group of a direction.
pub(super) fn nflog_group(direction: Direction) -> u16 {
    match direction {
        Direction::In => 1,
        Direction::Out => 2,
    }
}

/// Direction letter of log prefixes.
pub(super) fn letter(direction: Direction) -> char {
    match direction {
        Direction::In => 'I',
        Direction::Out => 'E',
    }
}

fn add_tier(rules: &mut Vec<FelixRule>, tier: &TierPolicies, variety: &Variety, input: &Input) {
    let settings = &input.settings;
    let marks = settings.marks;
    let policies = if variety.direction == Direction::In { &tier.ingress } else { &tier.egress };
    if policies.is_empty() {
        return;
    }
    let undecided = || vec![Criterion::MarkClear(marks.pass)];
    rules.push(FelixRule::always(RuleAction::ClearMark(marks.pass)).comment(format!("Start of tier {}", tier.tier)));
    for policy in policies.iter().filter_map(|index| input.policies.get(*index)) {
        let chain = policy_chain(policy, variety.direction, settings.generation);
        rules.push(FelixRule::new(undecided(), RuleAction::Jump(chain)));
        let accepted = || vec![Criterion::MarkSet(marks.accept)];
        if variety.kind == Kind::Untracked {
            rules.push(FelixRule::new(accepted(), RuleAction::NoTrack));
        }
        rules.push(FelixRule::new(accepted(), RuleAction::Return).comment("Return if policy accepted"));
    }
    if !matches!(variety.kind, Kind::Normal | Kind::Forward) {
        return;
    }
    let direction = letter(variety.direction);
    let ending = if tier.default_pass { 'P' } else { 'D' };
    if settings.flow_logs {
        let prefix = format!("{ending}P{direction}|{}", tier.tier);
        rules.push(FelixRule::new(undecided(), nflog(variety.direction, &prefix)));
    }
    if !tier.default_pass {
        let text = format!("End of tier {}. {} if no policies passed packet", tier.tier, settings.deny.word());
        rules.push(FelixRule::new(undecided(), settings.deny.rule()).comment(text));
    }
}

fn add_profiles(rules: &mut Vec<FelixRule>, endpoint: &HostEndpoint, variety: &Variety, input: &Input) {
    let settings = &input.settings;
    let prefix = if variety.direction == Direction::In { "cali-pri-" } else { "cali-pro-" };
    for profile in &endpoint.profiles {
        rules.push(FelixRule::always(RuleAction::Jump(chain_name(prefix, profile, MAX_IPTABLES_CHAIN))));
        let accepted = vec![Criterion::MarkSet(settings.marks.accept)];
        rules.push(FelixRule::new(accepted, RuleAction::Return).comment("Return if profile accepted"));
    }
    if settings.flow_logs {
        rules.push(FelixRule::always(nflog(variety.direction, &format!("DR{}", letter(variety.direction)))));
    }
    let text = format!("{} if no profiles matched", settings.deny.word());
    rules.push(FelixRule::always(settings.deny.rule()).comment(text));
}
