//! How the Felix of this host renders: its version family, its mark bits and its actions, told from what it wrote.

use std::collections::BTreeMap;

use crate::calico::integrity::{comment_hash, is_felix_chain, is_felix_table, plain_name};
use crate::calico::names::{ChainRole, Generation, chain_role};
use crate::calico::render::rule::RuleAction;
use crate::calico::render::{AllowAction, Dataplane, DenyAction, Marks, Settings};
use crate::calico::settings::{self, Value};
use crate::packet::Family;
use crate::ruleset::{Backend, Effect, Expr, Field, Match, Operator, Rule, Ruleset, Step, Table, Verdict};

/// The tables of Felix that a family has.
pub(super) const LAYERS: [&str; 4] = ["raw", "mangle", "nat", "filter"];

/// Where Felix writes on this host, in one family.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) backend: Backend,
    pub(super) family: Family,
    /// Indices into [`Ruleset::tables`] by layer; in nft mode all the same.
    pub(super) tables: BTreeMap<&'static str, usize>,
}

impl Place {
    /// The live name of a chain.
    pub(super) fn name(&self, layer: &str, chain: &str) -> String {
        if self.backend == Backend::Nft { format!("{layer}-{chain}") } else { chain.to_owned() }
    }

    /// Layer and plain name of a live chain of `table`.
    pub(super) fn plain<'n>(&self, table: &'n Table, name: &'n str) -> Option<(&'static str, &'n str)> {
        let layer = match self.backend {
            Backend::Nft => name.split_once('-')?.0,
            _ => &*table.name,
        };
        let layer = LAYERS.into_iter().find(|known| *known == layer)?;
        Some((layer, if self.backend == Backend::Nft { plain_name(name) } else { name }))
    }
}

/// Where Felix writes: one backend, and what speaks against that.
pub(super) fn places(ruleset: &Ruleset) -> (Vec<Place>, Vec<String>) {
    let mut chains: BTreeMap<Backend, usize> = BTreeMap::new();
    for table in &ruleset.tables {
        let own = table.chains.iter().filter(|chain| is_felix_chain(table, &chain.name)).count();
        if own > 0 {
            *chains.entry(table.backend).or_default() += own;
        }
    }
    let Some((backend, _)) = chains.iter().max_by_key(|(_, count)| **count) else { return (Vec::new(), Vec::new()) };
    let mut doubts = Vec::new();
    for other in chains.keys().filter(|other| *other != backend) {
        doubts.push(format!(
            "Felix's chains stand in {} and in {}: taken to be written in {}, the others to stay",
            backend.name(),
            other.name(),
            backend.name()
        ));
    }
    let place = |family| {
        let mut tables = BTreeMap::new();
        for (index, table) in ruleset.tables.iter().enumerate() {
            if table.backend != *backend || table.family != family {
                continue;
            }
            if is_felix_table(table) && &*table.name == "calico" {
                tables.extend(LAYERS.map(|layer| (layer, index)));
            } else if *backend != Backend::Nft && table.chains.iter().any(|chain| is_felix_chain(table, &chain.name)) {
                tables.extend(LAYERS.into_iter().find(|layer| *layer == &*table.name).map(|layer| (layer, index)));
            }
        }
        (!tables.is_empty()).then_some(Place { backend: *backend, family, tables })
    };
    ([Family::Ipv4, Family::Ipv6].into_iter().filter_map(place).collect(), doubts)
}

/// All rules of Felix in one place, with layer and plain chain name.
fn rules<'r>(ruleset: &'r Ruleset, place: &'r Place) -> impl Iterator<Item = (&'static str, &'r str, &'r Rule)> {
    let mut indices: Vec<usize> = place.tables.values().copied().collect();
    indices.dedup();
    let tables = indices.into_iter().filter_map(|index| ruleset.tables.get(index));
    tables.flat_map(move |table| {
        table.chains.iter().filter_map(move |chain| Some((place.plain(table, &chain.name)?, chain))).flat_map(
            |((layer, name), chain)| {
                let own = chain.rules.iter().filter(|rule| comment_hash(rule).is_some());
                own.map(move |rule| (layer, name, rule))
            },
        )
    })
}

fn says(rule: &Rule, text: &str) -> bool {
    rule.comments.iter().any(|comment| comment.contains(text))
}

fn verdict(rule: &Rule) -> Option<&Verdict> {
    rule.steps.iter().find_map(|step| match step {
        Step::Verdict(verdict) => Some(verdict),
        _ => None,
    })
}

/// The bits a rule clears without setting any.
fn cleared(rule: &Rule) -> Option<u32> {
    rule.steps.iter().find_map(|step| match step {
        Step::Effect(Effect::Set { field: Field::Mark, value }) => {
            let kept = |expr: &Expr| match expr {
                Expr::And(left, right) => match (&**left, &**right) {
                    (Expr::Field(Field::Mark), Expr::Number(kept)) => u32::try_from(*kept).ok(),
                    _ => None,
                },
                _ => None,
            };
            let kept = match value {
                // iptables: (mark & kept) ^ 0
                Expr::Xor(left, right) if **right == Expr::Number(0) => kept(left),
                other => kept(other),
            };
            kept.map(|kept| !kept)
        }
        _ => None,
    })
}

/// The bits a rule tests to be set, all of them.
fn tested(rule: &Rule) -> Option<u32> {
    rule.steps.iter().find_map(|step| match step {
        Step::Match(Match::Compare {
            left: Expr::And(left, mask),
            operator: Operator::Eq,
            right: Expr::Number(bits),
        }) if **left == Expr::Field(Field::Mark) && **mask == Expr::Number(*bits) => u32::try_from(*bits).ok(),
        _ => None,
    })
}

/// The version family that the chains speak of. `None` when they could be of several.
pub(super) fn generation(ruleset: &Ruleset, place: &Place) -> Option<Generation> {
    let mut seen = [false; 6];
    let [kinds, policies, end_of_tier, start_of_tier, start_of_policies, plain_end] = &mut seen;
    let mut all_bits = None;
    let mut accept = None;
    for (layer, chain, rule) in rules(ruleset, place) {
        if matches!(chain_role(chain), Some(ChainRole::Policy(..))) {
            *policies |= says(rule, "Policy ") && !says(rule, "NetworkPolicy ");
            *kinds |= says(rule, "NetworkPolicy ");
        }
        *end_of_tier |= says(rule, "End of tier ");
        *start_of_tier |= says(rule, "Start of tier ");
        *start_of_policies |= says(rule, "Start of policies");
        *plain_end |= says(rule, " if no policies passed packet") && !says(rule, "End of tier ");
        if says(rule, "Policy explicitly accepted packet.") {
            accept = tested(rule);
        }
        if layer == "raw" && chain == "cali-PREROUTING" && all_bits.is_none() {
            all_bits = cleared(rule);
        }
    }
    let drop_bit = accept.zip(all_bits).map(|(accept, all)| all & (accept << 2) == 0);
    Some(match (*kinds, *policies, drop_bit) {
        _ if *start_of_policies => Generation::UpTo327,
        (true, ..) => Generation::From332,
        (_, true, _) if *end_of_tier => Generation::V330,
        (_, _, Some(false)) if *start_of_tier => Generation::V329,
        (_, _, Some(false)) if *plain_end => Generation::V328,
        (_, true, Some(true)) => Generation::V330,
        _ => return None,
    })
}

/// Parameters that change Felix's rules, or where it keeps them, in ways that are not modelled: a changed value is told.
/// Those that shape the rules of workloads alone are not among them.
pub(super) const NOT_MODELLED: [&str; 28] = [
    "AllowIPIPPacketsFromWorkloads",
    "AllowVXLANPacketsFromWorkloads",
    "BPFEnabled",
    "ChainInsertMode",
    "DataplaneDriver",
    "ExternalNodesCIDRList",
    "FloatingIPs",
    "GenericXDPEnabled",
    "IPForwarding",
    "IpInIpEnabled",
    "Ipv6Support",
    "IptablesBackend",
    "IptablesNATOutgoingInterfaceFilter",
    "IstioAmbientMode",
    "IstioDSCPMark",
    "KubeNodePortRanges",
    "NATOutgoingAddress",
    "NATOutgoingExclusions",
    "NATPortRange",
    "NFTablesFlowTableOffload",
    "NFTablesMode",
    "ServiceLoopPrevention",
    "UseInternalDataplaneDriver",
    "VXLANEnabled",
    "VXLANPort",
    "WireguardEnabled",
    "WireguardEnabledV6",
    "XDPEnabled",
];

/// The settings that shape rules, as configured.
pub(super) fn configured(known: &settings::Settings, generation: Generation, dataplane: Dataplane) -> Settings {
    let mut settings = Settings::defaults(generation);
    settings.dataplane = dataplane;
    let nft = dataplane == Dataplane::Nft;
    let name = |suffix: &str| format!("{}{suffix}", if nft { "Nftables" } else { "Iptables" });
    let word = |name: &str| known.text(name).map(|word| word.to_ascii_uppercase());
    let allow = |name: String| match word(&name).as_deref() {
        Some("RETURN") => AllowAction::Return,
        _ => AllowAction::Accept,
    };
    settings.filter_allow = allow(name("FilterAllowAction"));
    settings.mangle_allow = allow(name("MangleAllowAction"));
    if word(&name("FilterDenyAction")).as_deref() == Some("REJECT") {
        settings.deny = DenyAction::Reject;
    }
    let mask = known.mask(&name("MarkMask"));
    settings.marks = mask.and_then(|mask| Marks::from_mask(mask, generation)).unwrap_or(settings.marks);
    settings.endpoint_to_host = match word("DefaultEndpointToHostAction").as_deref() {
        Some("ACCEPT") => RuleAction::Accept,
        Some("RETURN") => RuleAction::Return,
        _ => RuleAction::Drop,
    };
    settings.drop_invalid = known.bool("DisableConntrackInvalidCheck") != Some(true);
    let reporter = word("FlowLogsLocalReporter").as_deref() == Some("ENABLED");
    let goldmane = known.text("FlowLogsGoldmaneServer").is_some_and(|server| !server.is_empty());
    settings.flow_logs = generation >= Generation::V330 && (reporter || goldmane);
    if let Some(prefixes) = known.text("InterfacePrefix") {
        settings.workload_prefixes = prefixes.split(',').map(|prefix| prefix.trim().to_owned()).collect();
    }
    if let Some(excluded) = known.text("InterfaceExclude") {
        settings.excluded_interfaces = excluded.split(',').map(|name| name.trim().to_owned()).collect();
    }
    let list = |name: &str| known.entries(name);
    settings.failsafe_in = list("FailsafeInboundHostPorts").unwrap_or(settings.failsafe_in);
    settings.failsafe_out = list("FailsafeOutboundHostPorts").unwrap_or(settings.failsafe_out);
    settings.log_prefix = known.text("LogPrefix").map_or(settings.log_prefix, String::from);
    settings.log_limit = known.text("LogActionRateLimit").filter(|rate| !rate.is_empty()).map(|rate| {
        let burst = known.get("LogActionRateLimitBurst").and_then(|setting| match setting.value {
            Value::Int(burst) => u16::try_from(burst).ok(),
            _ => None,
        });
        (rate.into_string(), burst.unwrap_or(5))
    });
    settings
}

/// Puts what Felix wrote in the place of what is configured, where the two can differ: other files, another version.
pub(super) fn observe(settings: &mut Settings, ruleset: &Ruleset, place: &Place) {
    let mut endpoint = false;
    let (mut flow_logs, mut drop_invalid) = (false, false);
    settings.ipip = false;
    settings.vxlan_port = None;
    settings.egress_dscp = false;
    for (layer, chain, rule) in rules(ruleset, place) {
        let text = &*rule.text;
        if let Some(ChainRole::HostEndpoint { .. }) = chain_role(chain) {
            endpoint = true;
            flow_logs |= matches!(rule.steps.last(), Some(Step::Effect(Effect::Log { group: Some(_), .. })));
            drop_invalid |= text.contains("--ctstate INVALID") || text.contains("ct state invalid");
            if says(rule, " if no profiles matched") {
                settings.deny = deny(rule);
            }
        }
        settings.nflog_range |= text.contains("--nflog-range ");
        if says(rule, "Policy explicitly accepted packet.") {
            settings.filter_allow = allow(rule);
            if let Some(bit) = tested(rule) {
                let (mask, generation) = (u32::MAX << bit.trailing_zeros(), settings.generation);
                settings.marks = Marks::from_mask(mask, generation).unwrap_or(settings.marks);
            }
        }
        match (layer, chain) {
            ("mangle", "cali-PREROUTING") if text.contains("RELATED") || text.contains("related") => {
                settings.mangle_allow = allow(rule);
            }
            ("mangle", "cali-POSTROUTING") if says(rule, "set dscp for traffic") => {
                settings.egress_dscp = true;
                settings.pools_set =
                    if text.contains("all-ipam-pools") { "all-ipam-pools" } else { settings.pools_set };
            }
            ("filter", "cali-INPUT") => {
                settings.ipip |= says(rule, "IPIP packets from Calico hosts");
                if says(rule, "VXLAN packets from allowed hosts") {
                    settings.vxlan_port = port(rule);
                }
            }
            ("filter", "cali-from-wl-dispatch") if says(rule, "Unknown interface") => settings.deny = deny(rule),
            ("filter", "cali-wl-to-host") if says(rule, "Configured DefaultEndpointToHostAction") => {
                settings.endpoint_to_host = match verdict(rule) {
                    Some(Verdict::Accept) => RuleAction::Accept,
                    Some(Verdict::Return) => RuleAction::Return,
                    _ => RuleAction::Drop,
                };
            }
            _ => {}
        }
    }
    if endpoint {
        (settings.flow_logs, settings.drop_invalid) = (flow_logs, drop_invalid);
    }
}

fn allow(rule: &Rule) -> AllowAction {
    if verdict(rule) == Some(&Verdict::Return) { AllowAction::Return } else { AllowAction::Accept }
}

fn deny(rule: &Rule) -> DenyAction {
    if matches!(verdict(rule), Some(Verdict::Reject(_))) { DenyAction::Reject } else { DenyAction::Drop }
}

/// The number behind `dport` or `--dports`.
fn port(rule: &Rule) -> Option<u16> {
    let mut words = rule.text.split_ascii_whitespace();
    words.find(|word| matches!(*word, "--dports" | "--dport" | "dport"))?;
    words.find_map(|word| word.trim_matches(['{', '}', ',']).parse().ok())
}
