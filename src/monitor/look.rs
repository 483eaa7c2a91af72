//! What one look at the host gives: the process that looks tells the daemon in one JSON document.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One look.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Look {
    /// What can be compared cheaply, by part: `iptables-legacy ipv4`, `nf_tables`, `ipset`.
    pub parts: BTreeMap<String, Part>,
    /// What was judged; `None` when nothing had changed, so nothing was.
    pub judged: Option<Judged>,
    /// Milliseconds it took.
    pub took: u64,
}

/// A part of the firewall as it can be compared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Changes with anything that decides about packets; counters are no part of it.
    pub digest: String,
    /// Rules, or members of sets.
    pub size: u64,
    /// Rules in Felix's chains.
    pub felix: u64,
    /// Packets counted by rules that log denies; `None` where that was not read.
    pub logged: Option<u64>,
}

/// What an audit found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// Findings as `hepguard audit` tells them.
    pub findings: Vec<Value>,
    /// Inputs that could not be read: then a finding that is gone may only be out of sight.
    pub unreadable: Vec<String>,
    /// Failsafe entries in the kernel, inbound, in Felix's spelling.
    pub failsafe_in: Vec<String>,
    /// Outbound.
    pub failsafe_out: Vec<String>,
    /// Felix's process.
    pub felix: Option<u32>,
    /// Whether processes could be seen at all.
    pub processes: bool,
    /// Rules in Felix's chains, all backends together.
    pub felix_rules: u64,
    /// Rules, all backends together.
    pub rules: u64,
    /// Members of all sets.
    pub members: u64,
    /// Packets counted by rules that log denies; `None` where counters could not be read.
    pub logged: Option<u64>,
    /// Flows that must work and are refused as new connections.
    pub refused: u64,
}

/// Who changed nf_tables, and what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Generation after it.
    pub generation: u32,
    /// The process, when the kernel told.
    pub pid: Option<u32>,
    /// Its name.
    pub process: Option<String>,
    /// The process that started it, when it could still be seen: pid and name.
    pub parent: Option<(u32, String)>,
    /// Rules added and deleted by table: `ip filter`.
    pub tables: BTreeMap<String, Rules>,
}

/// Rules of one table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// Added.
    pub added: u64,
    /// Deleted.
    pub deleted: u64,
    /// Of those added, in Felix's chains.
    pub felix_added: u64,
    /// Of those deleted, in Felix's chains.
    pub felix_deleted: u64,
}

impl Change {
    /// Felix's rules that this change took away for good.
    #[must_use]
    pub fn felix_lost(&self) -> u64 {
        let (deleted, added) = self.tables.values().fold((0_u64, 0_u64), |(deleted, added), rules| {
            (deleted.saturating_add(rules.felix_deleted), added.saturating_add(rules.felix_added))
        });
        deleted.saturating_sub(added)
    }

    /// Who, in words.
    #[must_use]
    pub fn who(&self) -> String {
        let name = |pid: u32, name: &str| format!("{} (pid {pid})", crate::diagnostic::printable(name));
        match (self.pid, &self.process, &self.parent) {
            (Some(pid), Some(process), Some((parent, of))) => {
                format!("{}, started by {}", name(pid, process), name(*parent, of))
            }
            (Some(pid), Some(process), None) => name(pid, process),
            (Some(pid), None, _) => format!("pid {pid}"),
            (None, ..) => "somebody".to_owned(),
        }
    }

    /// What, in words.
    #[must_use]
    pub fn what(&self) -> String {
        if self.tables.is_empty() {
            return "no rules, only sets, chains or objects".to_owned();
        }
        let one = |(table, rules): (&String, &Rules)| {
            format!("{} +{} -{}", crate::diagnostic::printable(table), rules.added, rules.deleted)
        };
        let mut words: Vec<String> = self.tables.iter().take(4).map(one).collect();
        if self.tables.len() > 4 {
            words.push(format!("{} more tables", self.tables.len() - 4));
        }
        words.join(", ")
    }
}
