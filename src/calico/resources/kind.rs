//! Kinds of resources, by the names they have in Calico and Kubernetes.

/// The kinds this model knows.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[expect(missing_docs, reason = "the names are the kinds'")]
pub enum Kind {
    GlobalNetworkPolicy,
    StagedGlobalNetworkPolicy,
    NetworkPolicy,
    StagedNetworkPolicy,
    StagedKubernetesNetworkPolicy,
    /// `networking.k8s.io/v1` NetworkPolicy.
    KubernetesNetworkPolicy,
    /// ClusterNetworkPolicy, AdminNetworkPolicy, BaselineAdminNetworkPolicy: of Kubernetes, for pods only.
    ClusterNetworkPolicy,
    Tier,
    HostEndpoint,
    GlobalNetworkSet,
    NetworkSet,
    Profile,
    FelixConfiguration,
    KubeControllersConfiguration,
    ClusterInformation,
    BgpPeer,
    Node,
    /// Any other, by its name.
    Other(String),
}

impl Kind {
    /// The kind's name in `kind:`.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::GlobalNetworkPolicy => "GlobalNetworkPolicy",
            Self::StagedGlobalNetworkPolicy => "StagedGlobalNetworkPolicy",
            Self::NetworkPolicy | Self::KubernetesNetworkPolicy => "NetworkPolicy",
            Self::StagedNetworkPolicy => "StagedNetworkPolicy",
            Self::StagedKubernetesNetworkPolicy => "StagedKubernetesNetworkPolicy",
            Self::ClusterNetworkPolicy => "ClusterNetworkPolicy",
            Self::Tier => "Tier",
            Self::HostEndpoint => "HostEndpoint",
            Self::GlobalNetworkSet => "GlobalNetworkSet",
            Self::NetworkSet => "NetworkSet",
            Self::Profile => "Profile",
            Self::FelixConfiguration => "FelixConfiguration",
            Self::KubeControllersConfiguration => "KubeControllersConfiguration",
            Self::ClusterInformation => "ClusterInformation",
            Self::BgpPeer => "BGPPeer",
            Self::Node => "Node",
            Self::Other(name) => name,
        }
    }

    /// The kind of a resource with this `apiVersion` and `kind`.
    #[must_use]
    pub fn of(api_version: &str, kind: &str) -> Self {
        match kind {
            "GlobalNetworkPolicy" => Self::GlobalNetworkPolicy,
            "StagedGlobalNetworkPolicy" => Self::StagedGlobalNetworkPolicy,
            "NetworkPolicy" if api_version.starts_with("networking.k8s.io/") => Self::KubernetesNetworkPolicy,
            "NetworkPolicy" => Self::NetworkPolicy,
            "StagedNetworkPolicy" => Self::StagedNetworkPolicy,
            "StagedKubernetesNetworkPolicy" => Self::StagedKubernetesNetworkPolicy,
            "ClusterNetworkPolicy" | "AdminNetworkPolicy" | "BaselineAdminNetworkPolicy" => Self::ClusterNetworkPolicy,
            "Tier" => Self::Tier,
            "HostEndpoint" => Self::HostEndpoint,
            "GlobalNetworkSet" => Self::GlobalNetworkSet,
            "NetworkSet" => Self::NetworkSet,
            "Profile" => Self::Profile,
            "FelixConfiguration" => Self::FelixConfiguration,
            "KubeControllersConfiguration" => Self::KubeControllersConfiguration,
            "ClusterInformation" => Self::ClusterInformation,
            "BGPPeer" => Self::BgpPeer,
            "Node" => Self::Node,
            other => Self::Other(other.to_owned()),
        }
    }

    /// The kind that a person calls so: full names in any case, plurals, and the short names of kubectl.
    #[must_use]
    pub fn called(word: &str) -> Option<Self> {
        let word = word.to_ascii_lowercase();
        let word = word.split('.').next().unwrap_or_default();
        let short = [
            ("gnp", Self::GlobalNetworkPolicy),
            ("sgnp", Self::StagedGlobalNetworkPolicy),
            ("np", Self::NetworkPolicy),
            ("snp", Self::StagedNetworkPolicy),
            ("sknp", Self::StagedKubernetesNetworkPolicy),
            ("hep", Self::HostEndpoint),
            ("heps", Self::HostEndpoint),
            ("gns", Self::GlobalNetworkSet),
            ("netset", Self::NetworkSet),
            ("felixconfig", Self::FelixConfiguration),
            ("felixconfigs", Self::FelixConfiguration),
        ];
        let named = Self::KNOWN.into_iter().find(|kind| {
            let name = kind.name().to_ascii_lowercase();
            let plural = name.strip_suffix('y').map_or_else(|| format!("{name}s"), |stem| format!("{stem}ies"));
            word == name || word == plural
        });
        named.or_else(|| short.into_iter().find(|(known, _)| *known == word).map(|(_, kind)| kind))
    }

    /// Kinds with names of their own.
    const KNOWN: [Self; 15] = [
        Self::GlobalNetworkPolicy,
        Self::StagedGlobalNetworkPolicy,
        Self::NetworkPolicy,
        Self::StagedNetworkPolicy,
        Self::StagedKubernetesNetworkPolicy,
        Self::Tier,
        Self::HostEndpoint,
        Self::GlobalNetworkSet,
        Self::NetworkSet,
        Self::Profile,
        Self::FelixConfiguration,
        Self::KubeControllersConfiguration,
        Self::ClusterInformation,
        Self::BgpPeer,
        Self::Node,
    ];

    /// Resources of this kind live in a namespace.
    #[must_use]
    pub fn is_namespaced(&self) -> bool {
        self.is_policy_of_a_namespace() || *self == Self::NetworkSet
    }

    /// A policy that can never select a host endpoint, whatever it says.
    #[must_use]
    pub fn is_for_pods_only(&self) -> bool {
        self.is_policy_of_a_namespace() || *self == Self::ClusterNetworkPolicy
    }

    fn is_policy_of_a_namespace(&self) -> bool {
        matches!(
            self,
            Self::NetworkPolicy
                | Self::StagedNetworkPolicy
                | Self::StagedKubernetesNetworkPolicy
                | Self::KubernetesNetworkPolicy
        )
    }

    /// A policy in a tier, enforced or staged.
    #[must_use]
    pub fn has_tier(&self) -> bool {
        matches!(
            self,
            Self::GlobalNetworkPolicy
                | Self::StagedGlobalNetworkPolicy
                | Self::NetworkPolicy
                | Self::StagedNetworkPolicy
        )
    }

    /// The kind that a staged policy has once it is enforced; `None` for kinds that are not staged, or about pods alone.
    #[must_use]
    pub fn enforced(&self) -> Option<Self> {
        match self {
            Self::StagedGlobalNetworkPolicy => Some(Self::GlobalNetworkPolicy),
            Self::StagedNetworkPolicy => Some(Self::NetworkPolicy),
            _ => None,
        }
    }

    /// Staged kinds never change a packet.
    #[must_use]
    pub fn is_staged(&self) -> bool {
        matches!(
            self,
            Self::StagedGlobalNetworkPolicy | Self::StagedNetworkPolicy | Self::StagedKubernetesNetworkPolicy
        )
    }
}
