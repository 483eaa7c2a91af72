//! Names in the dataplane: how Felix makes chain, set and log names, and what they say about their authors.

mod meaning;
mod units;

pub use meaning::{Action, Direction, Meaning, Meanings, meaning};

use super::hash::{sha224_base64, sha256_base64};
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
    /// Up to 3.28: the backend name alone, `default.allow-ssh`; no drop mark.
    UpTo328,
    /// 3.29: `<tier>/<name>`, names cut to 28 bytes in nft mode as well; no drop mark.
    V329,
    /// 3.30 and 3.31: `<tier>/<name>`; drop mark.
    V330,
    /// From 3.32 on: `<kind>/[<namespace>/]<name>`.
    From332,
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
    /// Felix's identifier of the policy.
    #[must_use]
    pub fn id(&self, generation: Generation, tier: &str) -> String {
        let full = match &self.namespace {
            Some(namespace) => format!("{namespace}/{}", self.name),
            None => self.name.clone(),
        };
        match generation {
            Generation::UpTo328 => full,
            Generation::V329 | Generation::V330 => format!("{tier}/{full}"),
            Generation::From332 => format!("{}/{full}", short_kind(&self.kind)),
        }
    }

    /// The comment on the first rule of the policy's chain.
    #[must_use]
    pub fn comment(&self, generation: Generation, ingress: bool) -> String {
        let kind = if generation == Generation::From332 { self.kind.as_str() } else { "Policy" };
        let direction = if ingress { "ingress" } else { "egress" };
        match &self.namespace {
            Some(namespace) => format!("{kind} {namespace}/{} {direction}", self.name),
            None => format!("{kind} {} {direction}", self.name),
        }
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
    set_name(&format!("s:{}", sha224_base64(&format!("s:{canonical}"))), family)
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
        assert_eq!(policy.id(Generation::UpTo328, "default"), "default.allow-ssh");
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
