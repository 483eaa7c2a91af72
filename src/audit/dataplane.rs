//! Which machinery Felix uses on this host, as the kernel shows it.

use serde::Serialize;

use super::context::Context;
use crate::packet::Family;
use crate::ruleset::Backend;
use crate::snapshot::FileState;

/// Felix's dataplane.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Chains in iptables tables.
    Iptables,
    /// The nft table `calico`.
    Nftables,
    /// BPF programs; rules are only a helper.
    Bpf,
    /// No trace of Felix.
    None,
}

/// What was found of Felix in the kernel and among the processes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Dataplane {
    /// The mode.
    pub mode: Mode,
    /// Backends that hold any rules.
    pub backends: Vec<&'static str>,
    /// Backend and family of each ruleset with Felix chains: `iptables-legacy ipv4`.
    pub felix: Vec<String>,
    /// Whether a Felix process was found; `None` when nobody looked.
    pub running: Option<bool>,
    /// Some listing of rules could not be read: there may be more than this.
    pub partial: bool,
}

impl Dataplane {
    /// Looks.
    #[must_use]
    pub fn of(context: &Context<'_>) -> Self {
        let tables = &context.ruleset().tables;
        let mut backends: Vec<&'static str> = Vec::new();
        let mut felix: Vec<String> = Vec::new();
        let mut native = false;
        for table in tables {
            if table.chains.iter().any(|chain| !chain.rules.is_empty()) && !backends.contains(&table.backend.name()) {
                backends.push(table.backend.name());
            }
            if table.has_felix_chains() {
                native |= table.backend == Backend::Nft;
                let text = format!("{} {}", table.backend.name(), table.family);
                if !felix.contains(&text) {
                    felix.push(text);
                }
            }
        }
        let bpf = context.failsafe.ebpf == Some(true);
        let mode = match (bpf, felix.is_empty(), native) {
            (true, _, _) => Mode::Bpf,
            (false, true, _) => Mode::None,
            (false, false, true) => Mode::Nftables,
            (false, false, false) => Mode::Iptables,
        };
        let running = match context.file("felix/environ") {
            Some(FileState::Present(_)) => Some(true),
            Some(FileState::Absent) => Some(false),
            Some(FileState::Unreadable(_)) | None => None,
        };
        let partial = [Family::Ipv4, Family::Ipv6].into_iter().any(|family| context.is_blind(family));
        Self { mode, backends, felix, running, partial }
    }

    /// In a line for people.
    #[must_use]
    pub fn describe(&self) -> String {
        let mode = match self.mode {
            Mode::Iptables => "Felix with iptables",
            Mode::Nftables => "Felix with nftables",
            Mode::Bpf => "Felix with eBPF",
            Mode::None => "no Felix chains",
        };
        let place = if self.felix.is_empty() { String::new() } else { format!(" in {}", self.felix.join(", ")) };
        let running = match self.running {
            Some(true) => ", running",
            Some(false) => ", not running",
            None => "",
        };
        let partial = if self.partial { "; some rules could not be read" } else { "" };
        format!("{mode}{place}{running}{partial}")
    }
}
