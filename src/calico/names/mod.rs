//! Names in the dataplane: how Felix makes chain, set and log names, and what they say about their authors.

mod authors;
mod meaning;
mod units;

pub use authors::{Author, Authors, RuleNumber, backend_name};
pub use meaning::{Action, Direction, Meaning, Meanings, meaning};

use super::hash::{sha3_224_base64, sha224_base64, sha256_base64};
use crate::packet::Family;

/// Longest chain name in iptables mode, in bytes.
pub const MAX_IPTABLES_CHAIN: usize = 28;

/// Longest chain name in nft mode, before the layer prefix.
pub const MAX_NFT_CHAIN: usize = 256;

/// Longest IP set name.
pub const MAX_SET_NAME: usize = 31;

/// Longest NFLOG prefix.
pub const MAX_NFLOG_PREFIX: usize = 63;

/// How policies are named in chains and log prefixes; changes with Felix's version.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Generation {
    /// Up to 3.27: the backend name alone, `default.allow-ssh`; no groups of policies, no drop mark.
    UpTo327,
    /// 3.28: the same names; policies with one selector are grouped.
    V328,
    /// 3.29: tiers; `<tier>/<name>`, policy names cut to 28 bytes in nft mode as well; no drop mark.
    V329,
    /// 3.30 and 3.31: `<tier>/<name>`; drop mark.
    V330,
    /// From 3.32 on: `<kind>/[<namespace>/]<name>`.
    From332,
}

impl Generation {
    /// Every family, newest first.
    pub const ALL: [Self; 5] = [Self::From332, Self::V330, Self::V329, Self::V328, Self::UpTo327];

    /// The family of a version such as `v3.29.1`, `3.33.0-0.dev`. Versions before 3 are of the first.
    #[must_use]
    pub fn of_version(version: &str) -> Option<Self> {
        let mut parts = version.trim().trim_start_matches('v').split(['.', '-', '+']);
        let (major, minor): (u32, u32) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some(match (major, minor) {
            (..3, _) | (3, ..=27) => Self::UpTo327,
            (3, 28) => Self::V328,
            (3, 29) => Self::V329,
            (3, 30 | 31) => Self::V330,
            _ => Self::From332,
        })
    }

    /// The versions, for people.
    #[must_use]
    pub fn versions(self) -> &'static str {
        match self {
            Self::UpTo327 => "up to 3.27",
            Self::V328 => "3.28",
            Self::V329 => "3.29",
            Self::V330 => "3.30 or 3.31",
            Self::From332 => "3.32 or newer",
        }
    }
}

/// A policy, as its author names it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PolicyName {
    /// Resource kind: `GlobalNetworkPolicy`, `NetworkPolicy`, …
    pub kind: String,
    /// Namespace of namespaced kinds.
    pub namespace: Option<String>,
    /// Resource name.
    pub name: String,
}

/// Short form of a policy's resource kind in identifiers.
#[must_use]
pub fn short_kind(kind: &str) -> &str {
    match kind {
        "GlobalNetworkPolicy" => "gnp",
        "NetworkPolicy" => "np",
        "KubernetesNetworkPolicy" => "knp",
        "KubernetesClusterNetworkPolicy" | "ClusterNetworkPolicy" => "kcnp",
        "StagedGlobalNetworkPolicy" => "sgnp",
        "StagedNetworkPolicy" => "snp",
        "StagedKubernetesNetworkPolicy" => "sknp",
        "Profile" => "pro",
        other => other,
    }
}

impl PolicyName {
    /// Name behind its namespace.
    #[must_use]
    pub fn full(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{namespace}/{}", self.name),
            None => self.name.clone(),
        }
    }

    /// Felix's identifier of the policy.
    #[must_use]
    pub fn id(&self, generation: Generation, tier: &str) -> String {
        let full = self.full();
        match generation {
            Generation::UpTo327 | Generation::V328 => full,
            Generation::V329 | Generation::V330 => format!("{tier}/{full}"),
            Generation::From332 => format!("{}/{full}", short_kind(&self.kind)),
        }
    }

    /// What log prefixes say of it: up to 3.31 its name without the tier.
    #[must_use]
    pub fn log_id(&self, generation: Generation, tier: &str) -> String {
        if generation == Generation::From332 { self.id(generation, tier) } else { self.full() }
    }

    /// The comment on the first rule of the policy's chain.
    #[must_use]
    pub fn comment(&self, generation: Generation, ingress: bool) -> String {
        let kind = if generation == Generation::From332 { self.kind.as_str() } else { "Policy" };
        let direction = if ingress { "ingress" } else { "egress" };
        format!("{kind} {} {direction}", self.full())
    }
}

/// A chain's name: `prefix` and `id`, or a hash of `id` when that is too long. An id that fits exactly but starts with `_`
/// is hashed too, lest it be taken for a hash.
#[must_use]
pub fn chain_name(prefix: &str, id: &str, max: usize) -> String {
    let length = prefix.len() + id.len();
    if length > max || (length == max && id.starts_with('_')) {
        let hash = sha256_base64(id);
        let room = max.saturating_sub(prefix.len() + 1);
        return format!("{prefix}_{}", hash.get(..room).unwrap_or(&hash));
    }
    format!("{prefix}{id}")
}

/// The name of the IP set that holds what a selector selects, from the selector's canonical text.
#[must_use]
pub fn selector_set_name(canonical: &str, family: Family) -> String {
    set_name(&selector_set_id(canonical), family)
}

/// Felix's identifier of the set of what a selector selects.
#[must_use]
pub fn selector_set_id(canonical: &str) -> String {
    unique_id("s", canonical)
}

/// Felix's identifier of the set of addresses and ports that endpoints call `port`. `protocol` is the rule's, in lower case;
/// without one any. Only TCP, UDP and SCTP have ports: any other protocol is taken for TCP.
#[must_use]
pub fn named_port_set_id(canonical: &str, protocol: Option<&str>, port: &str) -> String {
    let protocol = match protocol {
        None => "any",
        Some("udp" | "17") => "udp",
        Some("sctp" | "132") => "sctp",
        Some(_) => "tcp",
    };
    unique_id("n", &format!("{},{protocol},{port}", selector_set_id(canonical)))
}

/// Felix's identifier of a service's set: of its addresses and ports (destinations), or of its addresses alone (sources).
#[must_use]
pub fn service_set_id(namespace: &str, name: &str, with_ports: bool) -> String {
    unique_id(if with_ports { "svc" } else { "svcnoport" }, &format!("{namespace}/{name}"))
}

fn unique_id(prefix: &str, content: &str) -> String {
    format!("{prefix}:{}", sha224_base64(&format!("{prefix}:{content}")))
}

/// The name of the chain of a group of policies: those that follow each other in a tier and have one selector, as written.
/// `members` are Felix's names of all of them, staged ones included.
#[must_use]
pub fn group_chain(
    generation: Generation,
    tier: &str,
    selector: &str,
    direction: Direction,
    members: &[&PolicyName],
) -> String {
    let mut lines = Vec::new();
    if generation < Generation::From332 {
        lines.push(tier.to_owned());
    }
    lines.push(selector.to_owned());
    lines.push(if direction == Direction::In { "inbound" } else { "outbound" }.to_owned());
    lines.push(members.len().to_string());
    lines.extend(members.iter().map(|member| match generation {
        Generation::From332 => {
            let namespace = member.namespace.as_deref().unwrap_or_default();
            format!("{{Name: {}, Namespace: {namespace}, Kind: {}}}", member.name, member.kind)
        }
        _ => member.full(),
    }));
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let prefix = if direction == Direction::In { "cali-gi-" } else { "cali-go-" };
    let hash = sha3_224_base64(&text);
    format!("{prefix}{}", hash.get(..MAX_IPTABLES_CHAIN - prefix.len()).unwrap_or(&hash))
}

/// The name of the IP set with this id (`this-host`, `s:…`), in iptables mode.
#[must_use]
pub fn set_name(id: &str, family: Family) -> String {
    let mut name = format!("{}{id}", if family == Family::Ipv6 { "cali60" } else { "cali40" });
    let end = (0..=MAX_SET_NAME.min(name.len())).rev().find(|end| name.is_char_boundary(*end)).unwrap_or(0);
    name.truncate(end);
    name
}

/// A set's name in nft mode, where `:` is not allowed.
#[must_use]
pub fn nft_set_name(iptables_name: &str) -> String {
    iptables_name.replace(':', "-")
}

/// A log prefix as Felix shortens it: a hash between the first and the last ten bytes.
#[must_use]
pub fn nflog_prefix(full: &str) -> String {
    if full.len() < MAX_NFLOG_PREFIX {
        return full.to_owned();
    }
    let hash = sha256_base64(full);
    let bytes = full.as_bytes();
    let first = String::from_utf8_lossy(bytes.get(..10).unwrap_or(bytes));
    let last = String::from_utf8_lossy(bytes.get(bytes.len() - 10..).unwrap_or(bytes));
    format!("{first}_{}_{last}", hash.get(..41).unwrap_or(&hash))
}

/// What a chain of Felix is for, told from its name without layer prefix.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChainRole<'a> {
    /// `cali-failsafe-in`, `cali-failsafe-out`.
    Failsafe(Direction),
    /// Rules of a policy; the rest of the name is its id or a hash.
    Policy(Direction, &'a str),
    /// Rules of a profile.
    Profile(Direction, &'a str),
    /// Several policies of a tier with one selector.
    Group(Direction, &'a str),
    /// Everything for one host endpoint; the rest is the interface's name.
    HostEndpoint {
        /// Seen from the host: in for packets that come in.
        direction: Direction,
        /// Forwarded traffic only.
        forward: bool,
        /// The interface, or `any-interface-at-all`; a hash when long.
        interface: &'a str,
    },
    /// Finds the host endpoint of an interface.
    Dispatch {
        /// Seen from the host.
        direction: Direction,
        /// Forwarded traffic only.
        forward: bool,
    },
    /// Finds the workload of an interface.
    WorkloadDispatch(Direction),
    /// Everything for one workload.
    Workload(Direction, &'a str),
    /// What a kernel chain jumps to first (`cali-INPUT`): the kernel chain.
    Hook(&'a str),
    /// Another static chain of Felix.
    Other(&'a str),
}

/// The wildcard host endpoint's name in place of an interface.
pub const WILDCARD_ENDPOINT: &str = "any-interface-at-all";

/// What a chain of Felix is for. `None` when the name is not one of Felix's. `plain` is the name without nft's layer prefix.
#[must_use]
pub fn chain_role(plain: &str) -> Option<ChainRole<'_>> {
    use Direction::{In, Out};
    let rest = plain.strip_prefix("cali-")?;
    Some(match rest {
        "failsafe-in" => ChainRole::Failsafe(In),
        "failsafe-out" => ChainRole::Failsafe(Out),
        "INPUT" | "OUTPUT" | "FORWARD" | "PREROUTING" | "POSTROUTING" => ChainRole::Hook(rest),
        _ => named_role(rest).unwrap_or_else(|| static_role(rest)),
    })
}

/// Chains made for something that has a name of its own.
fn named_role(rest: &str) -> Option<ChainRole<'_>> {
    use Direction::{In, Out};
    let endpoint = |direction, forward, interface| ChainRole::HostEndpoint { direction, forward, interface };
    let (prefix, name) = rest.split_once('-')?;
    Some(match prefix {
        "pi" => ChainRole::Policy(In, name),
        "po" => ChainRole::Policy(Out, name),
        "pri" => ChainRole::Profile(In, name),
        "pro" => ChainRole::Profile(Out, name),
        "gi" => ChainRole::Group(In, name),
        "go" => ChainRole::Group(Out, name),
        "fh" => endpoint(In, false, name),
        "th" => endpoint(Out, false, name),
        "fhfw" => endpoint(In, true, name),
        "thfw" => endpoint(Out, true, name),
        "fw" => ChainRole::Workload(Out, name),
        "tw" => ChainRole::Workload(In, name),
        _ => return None,
    })
}

/// Dispatch chains have children: the root's name, `-` and what the interfaces' names go on with.
fn static_role(rest: &str) -> ChainRole<'_> {
    let roots = [
        ("from-host-endpoint", ChainRole::Dispatch { direction: Direction::In, forward: false }),
        ("to-host-endpoint", ChainRole::Dispatch { direction: Direction::Out, forward: false }),
        ("from-hep-forward", ChainRole::Dispatch { direction: Direction::In, forward: true }),
        ("to-hep-forward", ChainRole::Dispatch { direction: Direction::Out, forward: true }),
        ("from-wl-dispatch", ChainRole::WorkloadDispatch(Direction::Out)),
        ("to-wl-dispatch", ChainRole::WorkloadDispatch(Direction::In)),
    ];
    for (root, role) in roots {
        if rest.strip_prefix(root).is_some_and(|tail| tail.is_empty() || tail.starts_with('-')) {
            return role;
        }
    }
    ChainRole::Other(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gnp(name: &str) -> PolicyName {
        PolicyName { kind: "GlobalNetworkPolicy".to_owned(), namespace: None, name: name.to_owned() }
    }

    #[test]
    fn chains_are_named_as_felix_names_them() {
        for (name, chain) in [
            ("allow-ssh", "cali-pi-gnp/allow-ssh"),
            ("default.allow-ssh", "cali-pi-_i2F5fN5kctRd7ahYH1c"),
            ("allow-cluster-internal-ingress", "cali-pi-_XQFvijs3xDd52G-IsTU"),
        ] {
            let id = gnp(name).id(Generation::From332, "default");
            assert_eq!(chain_name("cali-pi-", &id, MAX_IPTABLES_CHAIN), chain);
        }
        assert_eq!(chain_name("cali-fh-", WILDCARD_ENDPOINT, MAX_IPTABLES_CHAIN), "cali-fh-any-interface-at-all");
        for (prefix, name) in
            [("cali-fhfw-", "cali-fhfw-_Nqh4HyA73udmyanQI"), ("cali-thfw-", "cali-thfw-_Nqh4HyA73udmyanQI")]
        {
            assert_eq!(chain_name(prefix, WILDCARD_ENDPOINT, MAX_IPTABLES_CHAIN), name);
        }
        let profile = "projectcalico-default-allow";
        assert_eq!(chain_name("cali-pri-", profile, MAX_IPTABLES_CHAIN), "cali-pri-_TI1Jm4dJqQzYb0Rx3u");
        assert_eq!(chain_name("cali-pri-", profile, MAX_NFT_CHAIN), "cali-pri-projectcalico-default-allow");
    }

    #[test]
    fn a_name_of_full_length_that_looks_hashed_is_hashed() {
        let id = "_".repeat(20);
        assert!(chain_name("cali-pi-", &id, MAX_IPTABLES_CHAIN).starts_with("cali-pi-_"));
        assert_ne!(chain_name("cali-pi-", &id, MAX_IPTABLES_CHAIN), format!("cali-pi-{id}"));
        let plain = "a".repeat(20);
        assert_eq!(chain_name("cali-pi-", &plain, MAX_IPTABLES_CHAIN), format!("cali-pi-{plain}"));
    }

    #[test]
    fn ids_and_comments_of_each_generation() {
        let policy = gnp("default.allow-ssh");
        assert_eq!(policy.id(Generation::V328, "default"), "default.allow-ssh");
        assert_eq!(policy.id(Generation::V330, "default"), "default/default.allow-ssh");
        assert_eq!(policy.comment(Generation::V330, true), "Policy default.allow-ssh ingress");
        let np =
            PolicyName { kind: "NetworkPolicy".to_owned(), namespace: Some("ns".to_owned()), name: "p".to_owned() };
        assert_eq!(np.id(Generation::From332, "default"), "np/ns/p");
        assert_eq!(np.comment(Generation::From332, false), "NetworkPolicy ns/p egress");
    }

    #[test]
    fn sets_are_named_after_their_selector() {
        assert_eq!(selector_set_name("all()", Family::Ipv4), "cali40s:5y5I3VdRZfDU01O--xXAPx2");
        assert_eq!(selector_set_name("role == \"bastion\"", Family::Ipv4), "cali40s:M6pEbt8MIjuTGua4u9Rnchx");
        assert_eq!(nft_set_name("cali40s:5y5I"), "cali40s-5y5I");
        assert_eq!(set_name("this-host", Family::Ipv6), "cali60this-host");
    }

    #[test]
    fn a_real_listing_names_the_policy_and_the_selector_of_its_lab() {
        // Calico Enterprise of 2022: `/` behind the tier, as in 3.29 to 3.31
        let policy = PolicyName {
            kind: "NetworkPolicy".to_owned(),
            namespace: Some("hipstershop".to_owned()),
            name: "app-hipstershop.checkoutservice".to_owned(),
        };
        let id = policy.id(Generation::V330, "app-hipstershop");
        assert_eq!(chain_name("cali-pi-", &id, MAX_IPTABLES_CHAIN), "cali-pi-_sQdl6e7ekf9DS2UYNem");
        assert_eq!(policy.log_id(Generation::V330, "app-hipstershop"), "hipstershop/app-hipstershop.checkoutservice");
        let selector = "(projectcalico.org/namespace == \"hipstershop\" && app == \"frontend\")";
        assert_eq!(selector_set_name(selector, Family::Ipv4), "cali40s:_DJYf5MR3V3B4fL2YDPlFn7");
    }

    #[test]
    fn version_families() {
        for (version, generation) in [
            ("v3.26.4", Generation::UpTo327),
            ("3.28.0", Generation::V328),
            ("v3.29.1-8-gabc", Generation::V329),
            ("v3.31.7", Generation::V330),
            ("v3.34.0-0.dev", Generation::From332),
        ] {
            assert_eq!(Generation::of_version(version), Some(generation), "{version}");
        }
        assert_eq!(Generation::of_version("unknown"), None);
    }

    #[test]
    fn long_log_prefixes_keep_both_ends() {
        assert_eq!(nflog_prefix("API0|gnp/allow-ssh"), "API0|gnp/allow-ssh");
        let full = format!("DPI12|gnp/{}", "x".repeat(60));
        let short = nflog_prefix(&full);
        assert_eq!(short.len(), 63);
        assert!(short.starts_with("DPI12|gnp/_") && short.ends_with("_xxxxxxxxxx"));
        assert_eq!(nflog_prefix(&"y".repeat(62)).len(), 62);
    }

    #[test]
    fn roles_are_told_from_names() {
        use Direction::{In, Out};
        for (name, role) in [
            ("cali-failsafe-out", ChainRole::Failsafe(Out)),
            ("cali-pri-x", ChainRole::Profile(In, "x")),
            ("cali-pi-gnp/x", ChainRole::Policy(In, "gnp/x")),
            ("cali-thfw-eth0", ChainRole::HostEndpoint { direction: Out, forward: true, interface: "eth0" }),
            ("cali-from-host-endpoint-t", ChainRole::Dispatch { direction: In, forward: false }),
            ("cali-INPUT", ChainRole::Hook("INPUT")),
            ("cali-rpf-skip", ChainRole::Other("rpf-skip")),
        ] {
            assert_eq!(chain_role(name), Some(role), "{name}");
        }
        assert_eq!(chain_role("DOCKER"), None);
    }
}
