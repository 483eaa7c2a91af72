//! Host endpoints: dispatch by interface, and each endpoint's chains.

use std::collections::BTreeMap;

use super::group::{Group, groups};
use super::policy::{policy_chain, profile_chain};
use super::rule::{Criterion, FelixRule, RuleAction};
use super::{HostEndpoint, Input, RenderedTable, Settings, TierPolicies};
use crate::calico::names::{Direction, Generation, WILDCARD_ENDPOINT, chain_name, nflog_prefix};

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
            let name = endpoint_chain(variety.prefix, endpoint.interface.as_deref(), &input.settings);
            table.chains.insert(name, endpoint_rules(endpoint, variety, input));
        }
        add_dispatch(table, variety, &members, &input.settings);
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

/// Name of an endpoint's chain; `prefix` is `cali-fh-` or one of its kin, `None` the wildcard endpoint.
#[must_use]
pub fn endpoint_chain(prefix: &str, interface: Option<&str>, settings: &Settings) -> String {
    chain_name(prefix, interface.unwrap_or(WILDCARD_ENDPOINT), settings.longest_chain())
}

/// The tree that finds an endpoint's chain: names that share a letter behind the common prefix share a child chain.
fn add_dispatch(table: &mut RenderedTable, variety: &Variety, members: &[&HostEndpoint], settings: &Settings) {
    let matches = |name: String| match variety.direction {
        Direction::In => Criterion::InInterface(name),
        Direction::Out => Criterion::OutInterface(name),
    };
    let mut end = Vec::new();
    if members.iter().any(|endpoint| endpoint.interface.is_none()) {
        if table.name == "mangle" && variety.direction == Direction::Out {
            end.extend(settings.workload_prefixes.iter().map(|prefix| {
                FelixRule::new(vec![matches(format!("{prefix}*"))], RuleAction::Return)
                    .comment("Skip egress WHEP policy for traffic to local workload")
            }));
        }
        end.push(FelixRule::always(RuleAction::Goto(endpoint_chain(variety.prefix, None, settings))));
    }
    let mut names: Vec<&str> = members.iter().filter_map(|endpoint| endpoint.interface.as_deref()).collect();
    names.sort_unstable();
    names.dedup();
    let leaf = |name: &str| {
        let target = endpoint_chain(variety.prefix, Some(name), settings);
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
    let pass = if settings.generation == Generation::UpTo327 { 0 } else { marks.pass };
    rules.push(FelixRule::always(RuleAction::ClearMark(marks.accept | pass)));
    for tier in tiers {
        add_tier(&mut rules, tier, variety, input);
    }
    // before tiers, each direction was looked at by itself
    let by_direction = settings.generation <= Generation::V328;
    let none = |tier: &TierPolicies| by_direction && of_direction(tier, variety).is_empty();
    if tiers.iter().all(none) && variety.kind == Kind::Forward {
        rules.push(FelixRule::always(RuleAction::SetMark(marks.accept)).comment("Allow forwarded traffic by default"));
        rules.push(FelixRule::always(RuleAction::Return).comment("Return for accepted forward traffic"));
    }
    if variety.kind == Kind::Normal {
        add_profiles(&mut rules, endpoint, variety, input);
    }
    rules
}

fn nflog(settings: &Settings, direction: Direction, prefix: &str) -> RuleAction {
    settings.nflog(nflog_group(direction), nflog_prefix(prefix))
}

fn of_direction<'t>(tier: &'t TierPolicies, variety: &Variety) -> &'t [usize] {
    if variety.direction == Direction::In { &tier.ingress } else { &tier.egress }
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
    let policies = of_direction(tier, variety);
    if policies.is_empty() {
        return;
    }
    let start = match settings.generation {
        Generation::UpTo327 => Some("Start of policies".to_owned()),
        Generation::V328 => None,
        _ => Some(format!("Start of tier {}", tier.tier)),
    };
    rules.extend(start.map(|text| FelixRule::always(RuleAction::ClearMark(marks.pass)).comment(text)));
    let undecided = || vec![Criterion::MarkClear(marks.pass)];
    let groups = groups(&tier.tier, policies, variety.direction, input);
    for chain in groups.iter().flat_map(|group| called(group, variety.direction, settings)) {
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
    let denies = !tier.default_pass && groups.iter().any(|group| group.enforced().next().is_some());
    if settings.flow_logs {
        let (ending, direction) = (if denies { 'D' } else { 'P' }, letter(variety.direction));
        let prefix = format!("{ending}P{direction}|{}", tier.tier);
        rules.push(FelixRule::new(undecided(), nflog(settings, variety.direction, &prefix)));
    }
    if denies {
        let end = format!("{} if no policies passed packet", settings.deny.word());
        let end = match settings.generation {
            Generation::V330 | Generation::From332 => format!("End of tier {}. {end}", tier.tier),
            _ => end,
        };
        rules.push(FelixRule::new(undecided(), settings.deny.rule()).comment(end));
    }
}

/// The chains that an endpoint's chain calls for a group: the group's own, or those of its few members.
fn called(group: &Group<'_>, direction: Direction, settings: &Settings) -> Vec<String> {
    match &group.chain {
        Some(chain) => vec![chain.clone()],
        None => group.enforced().map(|policy| policy_chain(policy, direction, settings)).collect(),
    }
}

fn add_profiles(rules: &mut Vec<FelixRule>, endpoint: &HostEndpoint, variety: &Variety, input: &Input) {
    let settings = &input.settings;
    for profile in &endpoint.profiles {
        rules.push(FelixRule::always(RuleAction::Jump(profile_chain(profile, variety.direction, settings))));
        let accepted = vec![Criterion::MarkSet(settings.marks.accept)];
        rules.push(FelixRule::new(accepted, RuleAction::Return).comment("Return if profile accepted"));
    }
    if settings.flow_logs {
        let prefix = format!("DR{}", letter(variety.direction));
        rules.push(FelixRule::always(nflog(settings, variety.direction, &prefix)));
    }
    let text = format!("{} if no profiles matched", settings.deny.word());
    rules.push(FelixRule::always(settings.deny.rule()).comment(text));
}
