//! The tables iptables has and where their built-in chains hang (`linux/netfilter_ipv4.h`, `NF_IP_PRI_*`).

use crate::packet::Hook;
use crate::ruleset::{BaseChain, ChainKind, Policy};

/// Every table of iptables.
pub(crate) const TABLES: [&str; 5] = ["raw", "mangle", "nat", "filter", "security"];

/// Whether iptables has a table of that name.
pub(crate) fn is_table(name: &[u8]) -> bool {
    TABLES.iter().any(|table| table.as_bytes() == name)
}

/// The hooks of a table; empty for a table iptables does not have.
pub(crate) fn hooks(table: &str) -> &'static [Hook] {
    use Hook::{Forward, Input, Output, Postrouting, Prerouting};
    match table {
        "raw" => &[Prerouting, Output],
        "mangle" => &[Prerouting, Input, Forward, Output, Postrouting],
        "nat" => &[Prerouting, Input, Output, Postrouting],
        "filter" | "security" => &[Input, Forward, Output],
        _ => &[],
    }
}

/// Where the built-in chain of that name hangs; `None` when the table has no such chain.
pub(crate) fn base_chain(table: &str, chain: &str, policy: Policy) -> Option<BaseChain> {
    // built-in names are upper case; `input` is a chain like another
    let hook = *hooks(table).iter().find(|hook| hook.name().to_ascii_uppercase() == chain)?;
    let (kind, priority) = match (table, hook) {
        ("raw", _) => (ChainKind::Filter, -300),
        ("mangle", Hook::Output) => (ChainKind::Route, -150),
        ("mangle", _) => (ChainKind::Filter, -150),
        ("nat", Hook::Prerouting | Hook::Output) => (ChainKind::Nat, -100),
        ("nat", _) => (ChainKind::Nat, 100),
        ("security", _) => (ChainKind::Filter, 50),
        _ => (ChainKind::Filter, 0),
    };
    Some(BaseChain { kind, hook, priority, policy, devices: Vec::new() })
}
