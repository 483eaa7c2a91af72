//! What the kernel itself says about nf_tables: which tables and chains there are, and how much is in them.
//!
//! A second opinion on listings made by tools, which crash, leave things out and misprint flags with exit status 0.
//! `nft-kernel.json` of a snapshot holds it; [`crate::system`] asks for it through netlink.

use serde::{Deserialize, Serialize};

use super::{BaseChain, ChainKind, Policy};
use crate::packet::{Family, Hook};

/// The schema of `nft-kernel.json`.
pub const SCHEMA: &str = "hepguard/nft-kernel/v1";

/// Tables of nf_tables as the kernel tells them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KernelTables {
    /// [`SCHEMA`].
    pub schema: String,
    /// The ruleset's generation: any transaction moves it on.
    pub generation: u32,
    /// The tables.
    pub tables: Vec<KernelTable>,
}

/// A table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KernelTable {
    /// nft's name of its family (`ip`, `inet`, …).
    pub family: String,
    /// Its name; undecodable bytes are replaced.
    pub name: String,
    /// It has no effect.
    pub dormant: bool,
    /// Its chains.
    pub chains: Vec<KernelChain>,
    /// Its named sets and maps.
    pub sets: Vec<KernelSet>,
}

/// A chain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KernelChain {
    /// Its name.
    pub name: String,
    /// Its rules, counted.
    pub rules: usize,
    /// Where it hangs; `None` for chains that are only jumped to.
    pub base: Option<KernelHook>,
    /// What its rules ask to be unequal, rule by rule and in the rules' order; `None` when that was not asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unequal: Option<Vec<KernelUnequal>>,
}

/// Bytes of the packet that a rule compares with one value, and that must be unequal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KernelUnequal {
    /// Number of the rule in its chain, from 1.
    pub rule: usize,
    /// The header: `link`, `network`, `transport` or `inner`.
    pub header: String,
    /// First byte behind the start of the header.
    pub offset: u32,
    /// Number of bytes.
    pub length: u32,
}

/// How a base chain hangs in the stack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KernelHook {
    /// `filter`, `nat` or `route`.
    pub kind: String,
    /// The hook's name.
    pub hook: String,
    /// Lower runs earlier.
    pub priority: i32,
    /// Whether what reaches the end is dropped.
    pub drops: bool,
    /// Devices of netdev, ingress and egress chains, `eth*` for all that begin so.
    pub devices: Vec<String>,
}

/// A named set or map.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KernelSet {
    /// Its name.
    pub name: String,
    /// It is a map.
    pub map: bool,
    /// Its elements, counted; of intervals the kernel may count both ends.
    pub elements: usize,
    /// There are more: counting ended.
    pub more: bool,
}

impl KernelTables {
    /// The table of this family and name.
    #[must_use]
    pub fn table(&self, family: Family, name: &str) -> Option<&KernelTable> {
        self.tables.iter().find(|table| table.family == family.nft_name() && table.name == name)
    }
}

impl KernelHook {
    /// The same in the model's words; `None` when the hook or the type is not known.
    #[must_use]
    pub fn base_chain(&self) -> Option<BaseChain> {
        let kind = match self.kind.as_str() {
            "filter" => ChainKind::Filter,
            "nat" => ChainKind::Nat,
            "route" => ChainKind::Route,
            _ => return None,
        };
        Some(BaseChain {
            kind,
            hook: Hook::from_name(&self.hook)?,
            priority: self.priority,
            policy: if self.drops { Policy::Drop } else { Policy::Accept },
            devices: self.devices.iter().map(|name| name.as_str().into()).collect(),
        })
    }
}
