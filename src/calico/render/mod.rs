//! What Felix writes for given settings, host endpoints and policies: its chains, rule for rule and hash for hash.
//!
//! Covered: the static chains of a host without workloads of its own, failsafe lists, dispatch, host endpoints, groups of
//! policies, profiles and policies with every condition that Felix puts into rules, in iptables mode and in nft mode, for each
//! family of versions ([`Generation`]). Felix's mistakes are rendered too: what counts is what the kernel gets.

mod blocks;
mod endpoint;
mod failsafe;
mod group;
pub mod model;
mod policy;
pub mod rule;
mod save;
mod statics;
#[cfg(test)]
mod block_tests;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use blocks::unenforced_blocks;
pub use endpoint::endpoint_chain;
pub use policy::{policy_chain, policy_tables, profile_chain};

use super::names::{Generation, MAX_IPTABLES_CHAIN, MAX_NFT_CHAIN, PolicyName};
use super::settings::ports::Entry;
use crate::packet::{Family, PortRange, Prefix};
use rule::{FelixRule, ProtocolName, RuleAction};
pub use save::{SaveOptions, save_text};

/// The mark bits Felix uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Marks {
    /// Policy accepted.
    pub accept: u32,
    /// Policy passed to the next tier.
    pub pass: u32,
    /// Policy denied; from 3.30 on.
    pub drop: Option<u32>,
    /// For match blocks.
    pub scratch0: u32,
    /// For match blocks.
    pub scratch1: u32,
}

impl Marks {
    /// Bits are handed out from the mask, lowest first. `None` when the mask has too few.
    #[must_use]
    pub fn from_mask(mask: u32, generation: Generation) -> Option<Self> {
        let mut bits = (0..32).map(|place| 1u32 << place).filter(|bit| mask & bit != 0);
        let (accept, pass) = (bits.next()?, bits.next()?);
        let drop = if generation >= Generation::V330 { Some(bits.next()?) } else { None };
        Some(Self { accept, pass, drop, scratch0: bits.next()?, scratch1: bits.next()? })
    }

    /// Every bit that is cleared when a packet starts afresh; the drop bit is not among them.
    #[must_use]
    pub fn all(self) -> u32 {
        self.accept | self.pass | self.scratch0 | self.scratch1
    }
}

/// What becomes of packets that policy allows (`IptablesFilterAllowAction`, `IptablesMangleAllowAction`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AllowAction {
    /// Accept at once.
    Accept,
    /// Leave them to later rules.
    Return,
}

/// What becomes of packets that policy denies (`IptablesFilterDenyAction`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DenyAction {
    /// Silently.
    Drop,
    /// With an ICMP error.
    Reject,
}

impl AllowAction {
    fn rule(self) -> RuleAction {
        match self {
            Self::Accept => RuleAction::Accept,
            Self::Return => RuleAction::Return,
        }
    }
}

impl DenyAction {
    fn rule(self) -> RuleAction {
        match self {
            Self::Drop => RuleAction::Drop,
            Self::Reject => RuleAction::Reject,
        }
    }

    /// The word in comments.
    fn word(self) -> &'static str {
        match self {
            Self::Drop => "Drop",
            Self::Reject => "Reject",
        }
    }
}

/// What Felix writes into.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Dataplane {
    /// The tables of iptables, of either backend.
    Iptables,
    /// Its own table of nf_tables, `calico`.
    Nft,
}

/// Names that versions give the set of all pools, newest first.
const POOLS_SETS: [&str; 2] = ["network-ip-pools", "all-ipam-pools"];

/// Felix's settings, as far as they shape rules.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Version family.
    pub generation: Generation,
    /// What it writes into.
    pub dataplane: Dataplane,
    /// Whether mangle marks packets with a DSCP value for traffic leaving the cluster (from 3.31 on).
    pub egress_dscp: bool,
    /// Identifier of the set of all pools that rule asks: `all-ipam-pools` up to 3.32.
    pub pools_set: &'static str,
    /// Mark bits.
    pub marks: Marks,
    /// Filter allow action.
    pub filter_allow: AllowAction,
    /// Mangle allow action.
    pub mangle_allow: AllowAction,
    /// Deny action.
    pub deny: DenyAction,
    /// `DefaultEndpointToHostAction`.
    pub endpoint_to_host: RuleAction,
    /// Drop packets whose conntrack state is INVALID.
    pub drop_invalid: bool,
    /// Flow logs are on: NFLOG rules appear.
    pub flow_logs: bool,
    /// Interface prefixes of workloads.
    pub workload_prefixes: Vec<String>,
    /// Interfaces that host endpoints do not govern: names, and patterns between slashes.
    pub excluded_interfaces: Vec<String>,
    /// IPIP tunnels are on (IPv4 only).
    pub ipip: bool,
    /// Port of VXLAN, when it is on for the family.
    pub vxlan_port: Option<u16>,
    /// `FailsafeInboundHostPorts`.
    pub failsafe_in: Vec<Entry>,
    /// `FailsafeOutboundHostPorts`.
    pub failsafe_out: Vec<Entry>,
    /// Up to 3.27, some releases: an entry of a failsafe list with a net opens the port to everybody in the other family.
    pub failsafe_leaks: bool,
    /// `LogPrefix`; from 3.32 on with placeholders.
    pub log_prefix: String,
    /// `LogActionRateLimit` and its burst; from 3.32 on.
    pub log_limit: Option<(String, u16)>,
    /// Flow logs say their size as iptables did before 1.6 (`--nflog-range`).
    pub nflog_range: bool,
}

impl Settings {
    /// Felix's defaults for a version family.
    #[must_use]
    pub fn defaults(generation: Generation) -> Self {
        let (marks, drop) = if generation >= Generation::V330 { (3, Some(0x40000)) } else { (2, None) };
        Self {
            generation,
            dataplane: Dataplane::Iptables,
            egress_dscp: generation >= Generation::From332,
            pools_set: POOLS_SETS[0],
            marks: Marks {
                accept: 0x10000,
                pass: 0x20000,
                drop,
                scratch0: 0x10000 << marks,
                scratch1: 0x20000 << marks,
            },
            filter_allow: AllowAction::Accept,
            mangle_allow: AllowAction::Accept,
            deny: DenyAction::Drop,
            endpoint_to_host: RuleAction::Drop,
            drop_invalid: true,
            flow_logs: false,
            workload_prefixes: vec!["cali".to_owned()],
            excluded_interfaces: vec!["kube-ipvs0".to_owned()],
            ipip: false,
            vxlan_port: None,
            failsafe_in: failsafe::default_inbound(),
            failsafe_out: failsafe::default_outbound(),
            failsafe_leaks: false,
            log_prefix: "calico-packet".to_owned(),
            log_limit: None,
            nflog_range: false,
        }
    }

    fn is_nft(&self) -> bool {
        self.dataplane == Dataplane::Nft
    }

    /// Longest name of an endpoint's chain, before nft mode's layer.
    fn longest_chain(&self) -> usize {
        if self.is_nft() { MAX_NFT_CHAIN } else { MAX_IPTABLES_CHAIN }
    }

    /// Longest name of a policy's or profile's chain: 3.29 kept them short in nft mode, too.
    fn longest_policy_chain(&self) -> usize {
        if self.generation <= Generation::V329 { MAX_IPTABLES_CHAIN } else { self.longest_chain() }
    }

    fn nflog(&self, group: u16, prefix: String) -> RuleAction {
        RuleAction::Nflog { group, prefix, range: self.nflog_range }
    }
}

/// One rule of a policy or profile.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PolicyRule {
    /// What it does.
    pub action: super::names::Action,
    /// Only this family.
    pub ip_version: Option<Family>,
    /// Protocol.
    pub protocol: Option<ProtocolName>,
    /// Any other protocol.
    pub not_protocol: Option<ProtocolName>,
    /// ICMP type and code.
    pub icmp: Option<(u8, Option<u8>)>,
    /// Any other ICMP type or code.
    pub not_icmp: Option<(u8, Option<u8>)>,
    /// Sender.
    pub source: Entity,
    /// Receiver.
    pub destination: Entity,
    /// `metadata.annotations`: comments on every rule. Felix writes several in no certain order.
    pub annotations: Vec<(String, String)>,
}

impl PolicyRule {
    /// A rule without conditions.
    #[must_use]
    pub fn any(action: super::names::Action) -> Self {
        Self {
            action,
            ip_version: None,
            protocol: None,
            not_protocol: None,
            icmp: None,
            not_icmp: None,
            source: Entity::default(),
            destination: Entity::default(),
            annotations: Vec::new(),
        }
    }
}

/// One end of a policy rule; all that is given must hold.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Entity {
    /// Nets, any of them.
    pub nets: Vec<Prefix>,
    /// Nets, none of them.
    pub not_nets: Vec<Prefix>,
    /// Canonical text of the selector, with what namespace and service accounts add to it.
    pub selector: Option<String>,
    /// Canonical text of the selector that must not select.
    pub not_selector: Option<String>,
    /// Ports, any of them or of the named ones.
    pub ports: Vec<PortRange>,
    /// Names that endpoints give ports.
    pub named_ports: Vec<String>,
    /// Ports, none of them.
    pub not_ports: Vec<PortRange>,
    /// Names of ports, none of them.
    pub not_named_ports: Vec<String>,
    /// Namespace and name of a service.
    pub service: Option<(String, String)>,
    /// Identifiers of other sets that must hold the address.
    pub other_sets: Vec<String>,
}

/// A policy as far as one host endpoint is concerned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Its name.
    pub name: PolicyName,
    /// Its tier.
    pub tier: String,
    /// Its selector as written: policies that follow each other with the same are a group. `None` is in no group.
    pub selector: Option<String>,
    /// Staged: it counts in its group's name, and nothing else of it is written.
    pub staged: bool,
    /// Ingress rules, in order.
    pub ingress: Vec<PolicyRule>,
    /// Egress rules, in order.
    pub egress: Vec<PolicyRule>,
}

/// A profile.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// Ingress rules.
    pub ingress: Vec<PolicyRule>,
    /// Egress rules.
    pub egress: Vec<PolicyRule>,
}

/// A tier with the policies that apply to an endpoint: indices into [`Input::policies`], in order of evaluation.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TierPolicies {
    /// The tier.
    pub tier: String,
    /// The tier passes what no policy decided, instead of denying it.
    pub default_pass: bool,
    /// Policies with ingress rules.
    pub ingress: Vec<usize>,
    /// Policies with egress rules.
    pub egress: Vec<usize>,
}

/// A host endpoint.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HostEndpoint {
    /// Its interface; `None` for the wildcard endpoint.
    pub interface: Option<String>,
    /// Normal policy.
    pub tiers: Vec<TierPolicies>,
    /// Policy for forwarded traffic.
    pub forward_tiers: Vec<TierPolicies>,
    /// doNotTrack policy.
    pub untracked_tiers: Vec<TierPolicies>,
    /// preDNAT policy.
    pub pre_dnat_tiers: Vec<TierPolicies>,
    /// Profiles, in order.
    pub profiles: Vec<String>,
}

/// Everything Felix writes rules from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Input {
    /// Settings.
    pub settings: Settings,
    /// Active host endpoints.
    pub endpoints: Vec<HostEndpoint>,
    /// Policies that some endpoint uses.
    pub policies: Vec<Policy>,
    /// Profiles that some endpoint uses.
    pub profiles: Vec<Profile>,
}

/// A policy rule that Felix cannot render.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unrendered {
    /// The policy or profile.
    pub owner: String,
    /// Its rule, from 0.
    pub rule: usize,
    /// What it needs.
    pub needs: &'static str,
}

impl std::fmt::Display for Unrendered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "rule {} of {} needs {}", self.rule, self.owner, self.needs)
    }
}

impl std::error::Error for Unrendered {}

/// One table as Felix fills it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RenderedTable {
    /// `raw`, `mangle`, `nat` or `filter`.
    pub name: &'static str,
    /// Felix's chains by name.
    pub chains: BTreeMap<String, Vec<FelixRule>>,
    /// Rules at the top of kernel chains.
    pub inserts: Vec<(&'static str, FelixRule)>,
    /// Rules at the end of kernel chains.
    pub appends: Vec<(&'static str, FelixRule)>,
}

/// The tables Felix fills in one family.
///
/// # Errors
/// The first policy rule at which Felix would stop.
pub fn render(input: &Input, family: Family) -> Result<Vec<RenderedTable>, Unrendered> {
    let mut tables = vec![
        statics::raw(&input.settings),
        statics::mangle(&input.settings, family),
        statics::nat(),
        statics::filter(&input.settings, family),
    ];
    for table in &mut tables {
        failsafe::add(table, &input.settings, family);
        endpoint::add(table, input);
        group::add(table, input);
        policy::add(table, input, family)?;
        remove_unreferenced(table);
    }
    Ok(tables)
}

/// Texts of rules by the table's name in nft mode, `""` in iptables mode, and the chain's.
pub(super) type KnownRules = BTreeMap<(&'static str, String), Vec<String>>;

/// Rules that Felix is known to write into static chains and kernel chains, over versions and settings: their texts as
/// hashed, behind `-A chain HASH` in iptables mode.
#[must_use]
pub(super) fn known_rules(nft: bool, family: Family) -> KnownRules {
    let mut known = KnownRules::new();
    for settings in known_settings() {
        let tables = [
            statics::raw(&settings),
            statics::mangle(&settings, family),
            statics::nat(),
            statics::filter(&settings, family),
        ];
        for table in tables {
            let own = table.chains.iter().flat_map(|(chain, rules)| rules.iter().map(|rule| (chain.as_str(), rule)));
            let hooks = table.inserts.iter().chain(&table.appends).map(|(kernel, rule)| (*kernel, rule));
            for (chain, rule) in own.chain(hooks) {
                let (layer, text) = if nft {
                    (table.name, rule.nft_text(table.name, family))
                } else {
                    ("", rule.iptables_text("").trim_start_matches("-A  HASH").trim_start().to_owned())
                };
                let texts = known.entry((layer, chain.to_owned())).or_default();
                if !texts.contains(&text) {
                    texts.push(text);
                }
            }
        }
    }
    known
}

/// Settings whose static chains differ.
fn known_settings() -> Vec<Settings> {
    let mut all = Vec::new();
    for generation in [Generation::From332, Generation::V329] {
        for (allow, deny) in [
            (AllowAction::Accept, DenyAction::Drop),
            (AllowAction::Return, DenyAction::Drop),
            (AllowAction::Accept, DenyAction::Reject),
            (AllowAction::Return, DenyAction::Reject),
        ] {
            let to_host = [RuleAction::Drop, RuleAction::Accept, RuleAction::Return];
            for (endpoint_to_host, pools_set) in to_host.into_iter().zip(POOLS_SETS.into_iter().cycle()) {
                all.push(Settings {
                    egress_dscp: true,
                    pools_set,
                    filter_allow: allow,
                    mangle_allow: allow,
                    deny,
                    ipip: true,
                    vxlan_port: Some(4789),
                    endpoint_to_host,
                    ..Settings::defaults(generation)
                });
            }
        }
    }
    all
}

/// Felix programs a chain only where something jumps to it.
fn remove_unreferenced(table: &mut RenderedTable) {
    let mut wanted: Vec<String> = Vec::new();
    let hooks = table.inserts.iter().chain(&table.appends).filter_map(|(_, rule)| rule.target());
    let mut queue: Vec<String> = hooks.map(str::to_owned).collect();
    while let Some(name) = queue.pop() {
        if wanted.contains(&name) {
            continue;
        }
        let rules = table.chains.get(&name).map_or(&[][..], Vec::as_slice);
        queue.extend(rules.iter().filter_map(FelixRule::target).map(str::to_owned));
        wanted.push(name);
    }
    table.chains.retain(|name, _| wanted.contains(name));
}
