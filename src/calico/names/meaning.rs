//! What a rule of Felix means, in the words of whoever caused it to be written.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::rc::Rc;
use std::sync::LazyLock;

use serde::Serialize;

use super::units::{Marks, Unit, takes_accept_mark, unit};
use super::{Authors, ChainRole, PolicyName, RuleNumber, chain_role};
use crate::calico::hash::COMMENT_PREFIX;
use crate::calico::integrity::plain_name;
use crate::calico::spelling::words;
use crate::packet::Prefix;
use crate::ruleset::{Chain, Rule, RuleRef, Ruleset, Step, Table, Verdict};

/// Seen from the host: into it, or out of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Into the host; Calico's ingress.
    In,
    /// Out of the host; Calico's egress.
    Out,
}

impl Direction {
    /// Calico's word.
    #[must_use]
    pub fn calico(self) -> &'static str {
        match self {
            Self::In => "ingress",
            Self::Out => "egress",
        }
    }
}

/// What a policy or profile rule does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Allow.
    Allow,
    /// Deny.
    Deny,
    /// Go on with the next tier.
    Pass,
    /// Log and go on.
    Log,
}

impl Action {
    /// Its name.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Pass => "pass",
            Self::Log => "log",
        }
    }
}

/// What a rule means.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Meaning {
    /// An entry of a failsafe list.
    Failsafe {
        /// Which list the chain stands for.
        direction: Direction,
        /// The entry in Felix's own grammar: `tcp:22`, `tcp:10.0.0.0/8:22`.
        entry: String,
        /// Lets replies of the other direction's entry through (raw table only).
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        reply: bool,
    },
    /// A rule of a policy, or the jump to it.
    Policy {
        /// Resource kind; `Policy` where Felix is older than 3.32 and does not say.
        resource: String,
        /// Namespace of namespaced kinds.
        #[serde(skip_serializing_if = "Option::is_none")]
        namespace: Option<String>,
        /// Resource name; the hash in the chain's name when nothing says more.
        policy: String,
        /// Its tier, when a host endpoint's chain leads to it.
        #[serde(skip_serializing_if = "Option::is_none")]
        tier: Option<String>,
        /// Ingress or egress rules.
        direction: Direction,
        /// Which of its rules, from 0, among those that apply to this IP version; none for the jump to the policy.
        #[serde(skip_serializing_if = "Option::is_none")]
        rule: Option<u32>,
        /// What that rule does.
        #[serde(skip_serializing_if = "Option::is_none")]
        action: Option<Action>,
        /// File and line of the rule, or of its policy, where resources tell.
        #[serde(skip_serializing_if = "Option::is_none")]
        written: Option<String>,
        /// What the sets that the rule asks hold, by their names: selectors in canonical text, where resources tell.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        sets: BTreeMap<String, String>,
    },
    /// A rule of a profile, or the jump to it.
    Profile {
        /// Profile name; the hash in the chain's name when nothing says more.
        profile: String,
        /// Ingress or egress rules.
        direction: Direction,
        /// Which of its rules, from 0.
        #[serde(skip_serializing_if = "Option::is_none")]
        rule: Option<u32>,
        /// What that rule does.
        #[serde(skip_serializing_if = "Option::is_none")]
        action: Option<Action>,
    },
    /// A tier begins.
    StartOfTier {
        /// The tier.
        tier: String,
        /// Direction of the endpoint's chain.
        direction: Direction,
    },
    /// A policy of a tier accepted.
    PolicyAccepted {
        /// The tier.
        #[serde(skip_serializing_if = "Option::is_none")]
        tier: Option<String>,
        /// Direction of the endpoint's chain.
        direction: Direction,
    },
    /// No policy of the tier decided, and the tier denies what it does not know.
    EndOfTier {
        /// The tier.
        tier: String,
        /// Direction of the endpoint's chain.
        direction: Direction,
    },
    /// A profile accepted.
    ProfileAccepted {
        /// Direction of the endpoint's chain.
        direction: Direction,
    },
    /// Neither a policy nor a profile allowed it.
    NoProfileMatched {
        /// Direction of the endpoint's chain.
        direction: Direction,
    },
    /// Packets of known connections, or of none that makes sense, are decided before policy.
    Conntrack {
        /// `established` or `invalid`.
        state: &'static str,
        /// Direction of the endpoint's chain.
        direction: Direction,
    },
    /// The jump to a failsafe list.
    FailsafeList {
        /// Which list.
        direction: Direction,
    },
    /// The way to the host endpoint of an interface.
    Dispatch {
        /// The interface, `*` for the wildcard endpoint, a name with `*` on the way to several.
        interface: String,
        /// Seen from the host.
        direction: Direction,
        /// Forwarded traffic.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        forward: bool,
    },
    /// Forwarded traffic that no forward policy is about is let through.
    ForwardDefault {
        /// Direction of the endpoint's chain.
        direction: Direction,
    },
    /// The jump from a kernel chain into Felix's.
    Hook {
        /// The kernel chain.
        chain: String,
    },
    /// The packet was accepted before, in another table or chain: the accept mark is set.
    AcceptMark,
    /// The interface looks like a workload's, but no workload has it.
    UnknownInterface,
    /// Written by Felix for its own working; decides nothing for host endpoints by itself.
    Plumbing {
        /// The chain it stands in.
        chain: String,
        /// Felix's own comment on it.
        #[serde(skip_serializing_if = "Option::is_none")]
        comment: Option<String>,
    },
}

impl fmt::Display for Meaning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failsafe { direction, entry, reply: false } => {
                write!(f, "failsafe {entry} ({})", inbound(*direction))
            }
            Self::Failsafe { entry, .. } => write!(f, "replies of failsafe {entry}"),
            Self::Policy { resource, namespace, policy, tier, direction, rule, action, written, sets } => {
                write!(f, "{resource} ")?;
                if let Some(namespace) = namespace {
                    write!(f, "{namespace}/")?;
                }
                f.write_str(policy)?;
                if let Some(tier) = tier {
                    write!(f, " in tier {tier}")?;
                }
                write_rule(f, *direction, *rule, *action)?;
                if let Some(place) = written {
                    write!(f, " at {place}")?;
                }
                let mut sets = sets.iter();
                sets.try_for_each(|(set, holds)| write!(f, "; {set} is {holds}"))
            }
            Self::Profile { profile, direction, rule, action } => {
                write!(f, "Profile {profile}")?;
                write_rule(f, *direction, *rule, *action)
            }
            Self::StartOfTier { tier, direction } => write!(f, "start of tier {tier}, {}", direction.calico()),
            Self::PolicyAccepted { tier: Some(tier), direction } => {
                write!(f, "accepted by a policy of tier {tier}, {}", direction.calico())
            }
            Self::PolicyAccepted { direction, .. } => write!(f, "accepted by policy, {}", direction.calico()),
            Self::EndOfTier { tier, direction } => {
                write!(f, "end of tier {tier}, {}: no policy of the tier allowed it", direction.calico())
            }
            Self::ProfileAccepted { direction } => write!(f, "accepted by a profile, {}", direction.calico()),
            Self::NoProfileMatched { direction } => {
                write!(f, "no policy and no profile allowed it, {}", direction.calico())
            }
            Self::Conntrack { state, .. } => write!(f, "conntrack state {state}"),
            Self::FailsafeList { direction } => write!(f, "{} failsafe list", inbound(*direction)),
            Self::Dispatch { interface, forward, direction } => {
                let forwarded = if *forward { " for forwarded traffic" } else { "" };
                write!(f, "host endpoint of interface {interface}, {}{forwarded}", direction.calico())
            }
            Self::ForwardDefault { .. } => f.write_str("forwarded traffic is allowed: no forward policy"),
            Self::Hook { chain } => write!(f, "Felix's hook in {chain}"),
            Self::AcceptMark => f.write_str("accepted before: the accept mark is set"),
            Self::UnknownInterface => f.write_str("workload interface unknown to Felix"),
            Self::Plumbing { chain, comment: Some(comment) } => write!(f, "{chain}: {comment}"),
            Self::Plumbing { chain, comment: None } => write!(f, "Felix's own working in {chain}"),
        }
    }
}

fn inbound(direction: Direction) -> &'static str {
    match direction {
        Direction::In => "inbound",
        Direction::Out => "outbound",
    }
}

fn write_rule(
    f: &mut fmt::Formatter<'_>,
    direction: Direction,
    rule: Option<u32>,
    action: Option<Action>,
) -> fmt::Result {
    write!(f, ", {}", direction.calico())?;
    if let Some(rule) = rule {
        write!(f, " rule {rule}")?;
    }
    match action {
        Some(action) => write!(f, " ({})", action.word()),
        None => Ok(()),
    }
}

/// The meanings of one ruleset's rules, each worked out once: for whoever asks about many packets.
pub struct Meanings<'r> {
    ruleset: &'r Ruleset,
    authors: &'r Authors,
    facts: Vec<OnceCell<Facts<'r>>>,
    known: RefCell<HashMap<RuleRef, Option<Rc<Meaning>>>>,
}

/// What a look at a whole table tells about its rules.
struct Facts<'r> {
    table: &'r Table,
    authors: &'r Authors,
    marks: Marks,
    /// Chain and rule of each call of a chain, in listing order.
    callers: HashMap<&'r str, Vec<(&'r Chain, usize)>>,
}

impl<'r> Meanings<'r> {
    /// Nothing worked out yet; hashes stay hashes.
    #[must_use]
    pub fn new(ruleset: &'r Ruleset) -> Self {
        static NOBODY: LazyLock<Authors> = LazyLock::new(Authors::default);
        Self::with(ruleset, &NOBODY)
    }

    /// Nothing worked out yet; what is known of the authors of policies and sets names them.
    #[must_use]
    pub fn with(ruleset: &'r Ruleset, authors: &'r Authors) -> Self {
        let facts = ruleset.tables.iter().map(|_| OnceCell::new()).collect();
        Self { ruleset, authors, facts, known: RefCell::default() }
    }

    /// The ruleset asked about.
    #[must_use]
    pub fn ruleset(&self) -> &'r Ruleset {
        self.ruleset
    }

    /// What the rule at `place` means; `None` when it is not Felix's, or a policy of a chain.
    #[must_use]
    pub fn of(&self, place: RuleRef) -> Option<Rc<Meaning>> {
        if let Some(known) = self.known.borrow().get(&place) {
            return known.clone();
        }
        let meaning = self.work_out(place).map(Rc::new);
        self.known.borrow_mut().insert(place, meaning.clone());
        meaning
    }

    fn work_out(&self, place: RuleRef) -> Option<Meaning> {
        let table = self.ruleset.tables.get(place.table)?;
        let chain = table.chains.get(place.chain)?;
        let rule = chain.rules.get(place.rule)?;
        match chain_role(plain_name(&chain.name)) {
            Some(role) => {
                let facts = self.facts.get(place.table)?.get_or_init(|| Facts::of(table, self.authors));
                facts.meaning(role, chain, place.rule, rule)
            }
            None => kernel_chain_rule(rule, &chain.name),
        }
    }
}

/// What the rule at `place` means; `None` when it is not Felix's, or a policy of a chain. [`Meanings`] answers many such
/// questions about one ruleset.
#[must_use]
pub fn meaning(ruleset: &Ruleset, place: RuleRef) -> Option<Meaning> {
    Meanings::new(ruleset).work_out(place)
}

impl<'r> Facts<'r> {
    fn of(table: &'r Table, authors: &'r Authors) -> Self {
        let mut callers: HashMap<&str, Vec<(&Chain, usize)>> = HashMap::new();
        for chain in &table.chains {
            for (index, rule) in chain.rules.iter().enumerate() {
                if let Some(called) = target(rule) {
                    callers.entry(called).or_default().push((chain, index));
                }
            }
        }
        Self { table, authors, marks: Marks::of(table), callers }
    }

    fn meaning(&self, role: ChainRole<'_>, chain: &Chain, index: usize, rule: &Rule) -> Option<Meaning> {
        let plain = plain_name(&chain.name);
        Some(match role {
            ChainRole::Failsafe(direction) => failsafe(rule, direction)?,
            ChainRole::Policy(direction, id) => {
                let unit = unit(&chain.rules, index, self.marks);
                self.policy(&chain.name, &chain.rules, id, direction, unit)
            }
            ChainRole::Profile(direction, id) => {
                let Unit { number: rule, action, .. } = unit(&chain.rules, index, self.marks);
                let profile = named_in_comment(&chain.rules).map_or_else(|| id.to_owned(), |name| name.name);
                Meaning::Profile { profile, direction, rule, action }
            }
            ChainRole::Group(direction, _) => match target(rule) {
                Some(next) => self.policy_jump(next, direction)?,
                None => Meaning::PolicyAccepted { tier: self.tier_of(&chain.name), direction },
            },
            ChainRole::HostEndpoint { direction, .. } | ChainRole::Workload(direction, _) => {
                self.endpoint_rule(&chain.rules, index, rule, direction).unwrap_or_else(|| plumbing(plain, rule))
            }
            ChainRole::Dispatch { direction, forward } => {
                dispatch(rule, direction, forward).unwrap_or_else(|| plumbing(plain, rule))
            }
            ChainRole::WorkloadDispatch(_) if text_comment(rule) == Some("Unknown interface") => {
                Meaning::UnknownInterface
            }
            ChainRole::Hook(_) if takes_accept_mark(rule, self.marks) => Meaning::AcceptMark,
            _ => plumbing(plain, rule),
        })
    }

    /// A rule of a host endpoint's chain.
    fn endpoint_rule(&self, rules: &[Rule], index: usize, rule: &Rule, direction: Direction) -> Option<Meaning> {
        if let Some(comment) = text_comment(rule) {
            let tier = |rest: &str| rest.to_owned();
            if let Some(rest) = comment.strip_prefix("Start of tier ") {
                return Some(Meaning::StartOfTier { tier: tier(rest), direction });
            }
            if let Some(rest) = comment.strip_prefix("End of tier ") {
                // "End of tier T. Drop if no policies passed packet": a tier's name may hold dots itself
                let name = rest.rsplit_once(". ").map_or(rest, |(name, _)| name);
                return Some(Meaning::EndOfTier { tier: tier(name), direction });
            }
            match comment {
                "Return if policy accepted" | "Return on verdict" => {
                    return Some(Meaning::PolicyAccepted { tier: tier_before(rules, index), direction });
                }
                "Return if profile accepted" => return Some(Meaning::ProfileAccepted { direction }),
                "Allow forwarded traffic by default" | "Return for accepted forward traffic" => {
                    return Some(Meaning::ForwardDefault { direction });
                }
                _ if comment.ends_with(" if no profiles matched") => {
                    return Some(Meaning::NoProfileMatched { direction });
                }
                _ => {}
            }
        }
        if let Some(next) = target(rule) {
            return self.policy_jump(next, direction);
        }
        let text = rule.text.to_ascii_lowercase();
        if !text.contains("ctstate") && !text.contains("ct state") {
            return None;
        }
        let state = if text.contains("invalid") { "invalid" } else { "established" };
        Some(Meaning::Conntrack { state, direction })
    }

    /// A jump from an endpoint's or group's chain.
    fn policy_jump(&self, next: &str, direction: Direction) -> Option<Meaning> {
        let rules = self.table.chain(next).map_or(&[][..], |(_, chain)| &chain.rules);
        match chain_role(plain_name(next))? {
            ChainRole::Failsafe(direction) => Some(Meaning::FailsafeList { direction }),
            ChainRole::Policy(direction, id) => Some(self.policy(next, rules, id, direction, Unit::default())),
            ChainRole::Profile(direction, id) => {
                let profile = named_in_comment(rules).map_or_else(|| id.to_owned(), |name| name.name);
                Some(Meaning::Profile { profile, direction, rule: None, action: None })
            }
            ChainRole::Group(_, id) => Some(Meaning::Plumbing {
                chain: next.to_owned(),
                comment: Some(format!("group {id} of policies, {}", direction.calico())),
            }),
            _ => None,
        }
    }

    /// A policy, named by its resource, else by its chain, or one of its rules.
    fn policy(&self, chain: &str, rules: &[Rule], id: &str, direction: Direction, unit: Unit) -> Meaning {
        let told = named_in_comment(rules);
        let author = self.authors.of_chain(id, told.as_ref());
        let tier = self.tier_of(chain).or_else(|| author.map(|author| author.tier.clone()));
        let Unit { number: rule, logged, action, rules: own } = unit;
        let written = author.map(|author| {
            let number = match rule {
                Some(number) if logged => RuleNumber::OfAll(number),
                Some(number) => RuleNumber::OfFamily(number, self.table.family),
                None => return author.place.to_string(),
            };
            author.place_of(direction, number, action).to_string()
        });
        let own = rules.get(own).unwrap_or_default();
        let sets = own.iter().flat_map(|rule| self.authors.sets_in(&rule.text)).collect();
        let name = author.map(|author| author.name.clone()).or(told).unwrap_or_else(|| PolicyName {
            kind: "Policy".to_owned(),
            namespace: None,
            name: id.to_owned(),
        });
        let PolicyName { kind: resource, namespace, name: policy } = name;
        Meaning::Policy { resource, namespace, policy, tier, direction, rule, action, written, sets }
    }

    /// The tier in which some endpoint's chain calls `chain`, directly or through a group.
    fn tier_of(&self, chain: &str) -> Option<String> {
        let callers = |wanted: &str| self.callers.get(wanted).into_iter().flatten();
        for (caller, index) in callers(chain) {
            if let Some(tier) = tier_before(&caller.rules, *index) {
                return Some(tier);
            }
            if let Some(ChainRole::Group(..)) = chain_role(plain_name(&caller.name)) {
                let tier = callers(&caller.name).find_map(|(caller, index)| tier_before(&caller.rules, *index));
                if tier.is_some() {
                    return tier;
                }
            }
        }
        None
    }
}

fn plumbing(chain: &str, rule: &Rule) -> Meaning {
    Meaning::Plumbing { chain: chain.to_owned(), comment: text_comment(rule).map(str::to_owned) }
}

/// Rules of Felix in kernel chains carry its hash.
fn kernel_chain_rule(rule: &Rule, chain: &str) -> Option<Meaning> {
    crate::calico::integrity::comment_hash(rule)?;
    Some(match target(rule) {
        Some(_) => Meaning::Hook { chain: plain_name(chain).to_owned() },
        None if text_comment(rule).is_some() => Meaning::AcceptMark,
        None => plumbing(plain_name(chain), rule),
    })
}

/// The first comment that is not a hash; in nft the text behind the hash.
pub(super) fn text_comment(rule: &Rule) -> Option<&str> {
    rule.comments.iter().find_map(|comment| {
        if !comment.starts_with(COMMENT_PREFIX) {
            return Some(&**comment);
        }
        Some(crate::calico::hash::ShortHash::text_behind(comment)).filter(|text| !text.is_empty())
    })
}

/// The chain a rule calls.
pub(super) fn target(rule: &Rule) -> Option<&str> {
    rule.steps.iter().find_map(|step| match step {
        Step::Verdict(Verdict::Jump(chain) | Verdict::Goto(chain)) => Some(&**chain),
        _ => None,
    })
}

pub(super) fn verdict(rule: &Rule) -> Option<&Verdict> {
    rule.steps.iter().find_map(|step| match step {
        Step::Verdict(verdict) => Some(verdict),
        _ => None,
    })
}

fn failsafe(rule: &Rule, direction: Direction) -> Option<Meaning> {
    let (mut protocol, mut port, mut net, mut reply) = (None, None, None, false);
    let words = words(&rule.text);
    let mut words = words.iter().map(|(word, _)| word.as_str()).filter(|word| *word != "{").peekable();
    while let Some(word) = words.next() {
        match word {
            "tcp" | "udp" => protocol = Some(word),
            "-p" | "l4proto" => protocol = words.next(),
            "--dports" | "--dport" | "dport" => port = words.next(),
            "--sports" | "--sport" | "sport" => (port, reply) = (words.next(), true),
            "-s" | "-d" | "saddr" | "daddr" => net = words.next(),
            _ => {}
        }
    }
    let (protocol, port) = (protocol?, port?);
    // a net of every address, which nft prints and iptables does not, is no net
    let net: Option<Prefix> = net.and_then(|net| net.parse().ok()).filter(|net: &Prefix| net.length() > 0);
    let entry = match net {
        Some(net) if net.is_ipv4() => format!("{protocol}:{net}:{port}"),
        Some(net) => format!("{protocol}:[{net}]:{port}"),
        None => format!("{protocol}:{port}"),
    };
    Some(Meaning::Failsafe { direction, entry, reply })
}

fn dispatch(rule: &Rule, direction: Direction, forward: bool) -> Option<Meaning> {
    let interface = match chain_role(plain_name(target(rule)?))? {
        ChainRole::HostEndpoint { interface, .. } => {
            // long names are hashed, the match has the real one
            interface_of(rule).unwrap_or_else(|| {
                if interface.starts_with('_') || interface == super::WILDCARD_ENDPOINT {
                    "*".to_owned()
                } else {
                    interface.to_owned()
                }
            })
        }
        _ => interface_of(rule)?,
    };
    Some(Meaning::Dispatch { interface, direction, forward })
}

fn interface_of(rule: &Rule) -> Option<String> {
    let words = words(&rule.text);
    let place = words.iter().position(|(word, _)| matches!(word.as_str(), "-i" | "-o" | "iifname" | "oifname"))?;
    let name = &words.get(place + 1)?.0;
    Some(name.strip_suffix('+').map_or_else(|| name.clone(), |prefix| format!("{prefix}*")))
}

/// The first rule of a policy's or profile's chain says whose it is: `GlobalNetworkPolicy ns/name ingress`.
fn named_in_comment(rules: &[Rule]) -> Option<PolicyName> {
    let comment = text_comment(rules.first()?)?;
    let (kind, rest) = comment.split_once(' ')?;
    let name = rest.strip_suffix(" ingress").or_else(|| rest.strip_suffix(" egress"))?;
    let (namespace, name) = match name.split_once('/') {
        Some((namespace, name)) => (Some(namespace.to_owned()), name),
        None => (None, name),
    };
    Some(PolicyName { kind: kind.to_owned(), namespace, name: name.to_owned() })
}

/// The tier under whose heading rule `index` stands.
fn tier_before(rules: &[Rule], index: usize) -> Option<String> {
    let before = rules.get(..index)?;
    before.iter().rev().find_map(|rule| Some(text_comment(rule)?.strip_prefix("Start of tier ")?.to_owned()))
}

#[cfg(test)]
mod tests;
