//! The host as it comes up: what boot loads from the persisted files, in the order of its units, before and after Felix has
//! written its chains.
//!
//! A what-if from the snapshot alone. Save files (`rules.v4`, `rules.v6`, ipset files) are read as their tools would load
//! them: a set that is not there fails its table, and tables behind it are not loaded, while those ahead stay. What only a
//! program can tell (a native nftables file with rules, ufw's and firewalld's own scripts) is unknown, by name, unless the
//! loaders were tried out in a private copy of the host ([`Booted`]).

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Serialize;

use crate::calico::integrity::plain_name;
use crate::files::{FileState, SnapshotFiles};
use crate::packet::Family;
use crate::ruleset::readers::{ipset_save, iptables_save};
use crate::ruleset::{Backend, Chain, Policy, Rule, Ruleset, Set, Table};
use crate::snapshot::{Booted, Snapshot};

/// What is wrong with a persisted file, or with there being none.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProblemKind {
    /// A rule asks a set that no file creates: its table is not loaded, nor are those behind it.
    MissingSet,
    /// A rule names a host, which cannot be resolved before there is a network.
    Hostname,
    /// Felix's own chains or sets were saved: they come back as they were then.
    StaleFelix,
    /// Chains that another program keeps up to date were saved.
    StaleForeign,
    /// The file empties the whole nftables ruleset first.
    FlushRuleset,
    /// The file has rules, and its unit does not start at boot.
    NotEnabled,
    /// The file cannot be read as what it is to be.
    Unreadable,
}

/// One problem, with its place.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Problem {
    /// What.
    pub kind: ProblemKind,
    /// The file in the snapshot.
    pub file: String,
    /// Line, 1-based; 0 when it is about the whole file.
    pub line: u32,
    /// What stands there; may hold any text.
    pub text: String,
    /// The set, host, chain or unit it is about.
    pub about: String,
}

/// One step of the boot.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Stage {
    /// The unit that does it.
    pub unit: &'static str,
    /// From which file.
    pub file: String,
    /// What it loads: `ipv4 filter`, `3 sets`.
    pub loads: Vec<String>,
    /// Why it stops before its end, or whether it runs is not known.
    pub note: Option<String>,
}

/// The rehearsal.
#[derive(Clone, Debug, Default)]
pub struct Rehearsal {
    /// Steps in their order.
    pub stages: Vec<Stage>,
    /// The rules between the firewall units and Felix's first sync. `None` when they are not known.
    pub before_felix: Option<Ruleset>,
    /// The rules once Felix is in sync, with the settings on disk.
    pub after_felix: Option<Ruleset>,
    /// What is wrong, in file order.
    pub problems: Vec<Problem>,
    /// What could not be decided, or was taken for granted.
    pub unknown: Vec<String>,
}

/// A file that a restore program loads, with its unit; the order is that of the units.
struct Loader {
    file: &'static str,
    unit: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Sets,
    Rules(Family),
}

const LOADERS: [Loader; 7] = [
    Loader { file: "persisted/ipset.conf", unit: "ipset.service", kind: Kind::Sets },
    Loader { file: "persisted/sysconfig/ipset", unit: "ipset.service", kind: Kind::Sets },
    Loader { file: "persisted/ipsets", unit: "netfilter-persistent.service", kind: Kind::Sets },
    Loader { file: "persisted/rules.v4", unit: "netfilter-persistent.service", kind: Kind::Rules(Family::Ipv4) },
    Loader { file: "persisted/rules.v6", unit: "netfilter-persistent.service", kind: Kind::Rules(Family::Ipv6) },
    Loader { file: "persisted/sysconfig/iptables", unit: "iptables.service", kind: Kind::Rules(Family::Ipv4) },
    Loader { file: "persisted/sysconfig/ip6tables", unit: "ip6tables.service", kind: Kind::Rules(Family::Ipv6) },
];

const NFTABLES: [&str; 2] = ["persisted/nftables.conf", "persisted/sysconfig/nftables.conf"];

/// Beginnings of chain names that other programs write anew at their start.
const FOREIGN: [(&str, &str); 6] = [
    ("KUBE-", "kube-proxy or kubelet"),
    ("DOCKER", "Docker"),
    ("f2b-", "fail2ban"),
    ("cni-", "a CNI plugin"),
    ("CNI-", "a CNI plugin"),
    ("WEAVE", "Weave"),
];

/// A file that a boot loads, with its unit, in the order of the units.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Persisted {
    /// Its name in the snapshot.
    pub file: &'static str,
    /// The unit.
    pub unit: &'static str,
    /// The program that reads it.
    pub program: &'static str,
}

/// What boot loads of these files, in order, and whether only their programs can tell what comes of it.
#[must_use]
pub fn loaders(files: &SnapshotFiles) -> (Vec<Persisted>, bool) {
    let starts = |unit: &str| starts_at_boot(files, unit) != Some(false);
    let text = |name: &str| files.bytes(name).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let mut all = Vec::new();
    for loader in LOADERS.iter().filter(|loader| files.bytes(loader.file).is_some() && starts(loader.unit)) {
        let program = match loader.kind {
            Kind::Sets => "ipset",
            Kind::Rules(Family::Ipv6) => "ip6tables-restore",
            Kind::Rules(_) => "iptables-restore",
        };
        all.push(Persisted { file: loader.file, unit: loader.unit, program });
    }
    let simple = all.len();
    for file in NFTABLES.into_iter().filter(|file| text(file).is_some_and(|text| has_rules(&text))) {
        if starts("nftables.service") {
            all.push(Persisted { file, unit: "nftables.service", program: "nft" });
        }
    }
    if is_ufw_enabled(files) {
        all.push(Persisted { file: "persisted/ufw/ufw.conf", unit: "ufw.service", program: "ufw" });
    }
    let by_programs = all.len() > simple;
    (all, by_programs)
}

fn is_ufw_enabled(files: &SnapshotFiles) -> bool {
    let text = files.bytes("persisted/ufw/ufw.conf").map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let on = |text: &str| text.lines().any(|line| line.trim().to_ascii_lowercase().starts_with("enabled=yes"));
    text.is_some_and(|text| on(&text)) && starts_at_boot(files, "ufw.service") != Some(false)
}

/// Whether a unit starts at boot, by `systemctl list-unit-files`; `None` where that is not known.
#[must_use]
pub fn starts_at_boot(files: &SnapshotFiles, unit: &str) -> Option<bool> {
    let text = String::from_utf8_lossy(files.bytes("units/list.txt")?).into_owned();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if words.next() == Some(unit) {
            return match words.next()? {
                "enabled" | "enabled-runtime" | "generated" | "alias" => Some(true),
                "disabled" | "masked" | "masked-runtime" => Some(false),
                _ => None,
            };
        }
    }
    // not installed
    Some(false)
}

/// Rehearses a boot of the host. `restarted` is the firewall as Felix would have it with the settings on disk, where that is
/// another than the present one: its chains come back as they are there.
#[must_use]
pub fn rehearse(snapshot: &Snapshot, restarted: Option<&Ruleset>) -> Rehearsal {
    let (files, booted) = (&snapshot.files, snapshot.booted.as_ref());
    let live = restarted.unwrap_or(&snapshot.ruleset);
    let mut boot = Boot { files, booted, out: Rehearsal::default(), loaded: Ruleset::default(), known: true };
    if !files.files.keys().any(|name| name.starts_with("persisted/")) {
        boot.out.unknown.push("nobody looked for files that boot loads (persisted/)".to_owned());
        return boot.out;
    }
    for loader in &LOADERS {
        boot.load(loader);
    }
    boot.nftables();
    boot.managers();
    boot.daemons(live);
    let Boot { mut out, mut loaded, known, .. } = boot;
    if let Some(booted) = booted {
        loaded.clone_from(&booted.ruleset);
    }
    if known {
        out.after_felix = Some(with_felix(&loaded, live));
        out.before_felix = Some(loaded);
    }
    out
}

struct Boot<'a> {
    files: &'a SnapshotFiles,
    booted: Option<&'a Booted>,
    out: Rehearsal,
    loaded: Ruleset,
    known: bool,
}

impl Boot<'_> {
    fn unknown(&mut self, why: String) {
        self.known = false;
        self.out.unknown.push(why);
    }

    /// Whether the loader of a unit was tried out.
    fn ran(&self, unit: &str) -> bool {
        self.booted.is_some_and(|booted| booted.units.contains(unit))
    }

    fn problem(&mut self, kind: ProblemKind, file: &str, line: u32, text: &str, about: &str) {
        if self.out.problems.len() < 200 {
            let text: String = text.trim().chars().take(200).collect();
            let file = self.files.label(file).to_owned();
            self.out.problems.push(Problem { kind, file, line, text, about: about.to_owned() });
        }
    }

    fn load(&mut self, loader: &Loader) {
        let bytes = match self.files.files.get(loader.file) {
            Some(FileState::Present(bytes)) if !bytes.iter().all(u8::is_ascii_whitespace) => bytes,
            Some(FileState::Unreadable(why)) => {
                self.unknown(format!("{} could not be read: {why}", loader.file));
                return;
            }
            _ => return,
        };
        let mut stage =
            Stage { unit: loader.unit, file: self.files.label(loader.file).to_owned(), loads: Vec::new(), note: None };
        let text = String::from_utf8_lossy(bytes).into_owned();
        match starts_at_boot(self.files, loader.unit) {
            Some(false) => {
                stage.note = Some(format!("{} does not start at boot: not loaded", loader.unit));
                self.out.stages.push(stage);
                self.problem(ProblemKind::NotEnabled, loader.file, 0, loader.unit, loader.unit);
                return;
            }
            Some(true) => {}
            None => stage.note = Some(format!("whether {} starts at boot is not known; taken as yes", loader.unit)),
        }
        let source: Arc<str> = Arc::from(self.files.label(loader.file));
        match loader.kind {
            Kind::Sets => {
                let sets = ipset_save::read(&source, bytes).value;
                stage.loads.push(format!("{} sets", sets.len()));
                self.stale_sets(loader.file, &text);
                self.loaded.ipsets.extend(sets);
            }
            Kind::Rules(family) => {
                let tables = iptables_save::read(&source, bytes, Backend::Iptables, family).value;
                self.look_at(loader.file, &text);
                self.restore(&mut stage, loader.file, &text, tables);
            }
        }
        self.out.stages.push(stage);
    }

    /// Tables up to the first that fails.
    fn restore(&mut self, stage: &mut Stage, file: &str, text: &str, tables: Vec<Table>) {
        let known: BTreeSet<String> = self.loaded.ipsets.iter().map(|set| set.name.to_string()).collect();
        let mut failed: Option<(String, String)> = None;
        let mut table = "";
        for (line, number) in text.lines().zip(1..) {
            let line = line.trim();
            if let Some(name) = line.strip_prefix('*') {
                table = name;
            }
            if line.starts_with('#') {
                continue;
            }
            for (set, _) in sets_of(line) {
                if !known.contains(set) {
                    self.problem(ProblemKind::MissingSet, file, number, line, set);
                    failed = failed.or_else(|| Some((table.to_owned(), format!("set {set} is not there"))));
                }
            }
            if let Some(host) = host_of(line) {
                self.problem(ProblemKind::Hostname, file, number, line, host);
                failed = failed.or_else(|| Some((table.to_owned(), format!("{host} cannot be resolved yet"))));
            }
        }
        for table in tables {
            let name = format!("{} {}", table.family, table.name);
            if let Some((failing, why)) = failed.as_ref().filter(|(failing, _)| *failing == *table.name) {
                stage.note = Some(format!("stops at table {failing}: {why}; what stands behind it is not loaded"));
                break;
            }
            stage.loads.push(name);
            self.loaded.tables.push(table);
        }
    }

    fn stale_sets(&mut self, file: &str, text: &str) {
        for (line, number) in text.lines().zip(1..) {
            let name = line.strip_prefix("create ").and_then(|rest| rest.split_whitespace().next());
            if let Some(name) = name.filter(|name| name.starts_with("cali")) {
                self.problem(ProblemKind::StaleFelix, file, number, line, name);
            }
        }
    }

    /// Chains in a save file that their owners write themselves.
    fn look_at(&mut self, file: &str, text: &str) {
        for (line, number) in text.lines().zip(1..) {
            let Some(chain) = line.strip_prefix(':').and_then(|rest| rest.split_whitespace().next()) else { continue };
            if plain_name(chain).starts_with("cali-") {
                self.problem(ProblemKind::StaleFelix, file, number, line, chain);
            } else if let Some((_, owner)) = FOREIGN.iter().find(|(start, _)| chain.starts_with(start)) {
                self.problem(ProblemKind::StaleForeign, file, number, line, owner);
            }
        }
    }

    /// A file of nft's own language: an empty skeleton is known to load nothing, what has rules is unknown.
    fn nftables(&mut self) {
        for file in NFTABLES {
            let Some(bytes) = self.files.bytes(file) else {
                if let Some(FileState::Unreadable(why)) = self.files.files.get(file) {
                    self.unknown(format!("{file} could not be read: {why}"));
                }
                continue;
            };
            let text = String::from_utf8_lossy(bytes).into_owned();
            let starts = starts_at_boot(self.files, "nftables.service");
            let mut stage = Stage {
                unit: "nftables.service",
                file: self.files.label(file).to_owned(),
                loads: Vec::new(),
                note: (starts == Some(false)).then(|| "nftables.service does not start at boot: not loaded".to_owned()),
            };
            let rules = has_rules(&text);
            for (line, number) in text.lines().zip(1..) {
                let line = line.trim();
                let word = line.split(|c: char| c.is_whitespace() || c == '{').nth(1).unwrap_or_default();
                if line.starts_with("flush ruleset") {
                    self.problem(ProblemKind::FlushRuleset, file, number, line, "nftables.service");
                } else if line.starts_with("chain ") && plain_name(word).starts_with("cali-") {
                    self.problem(ProblemKind::StaleFelix, file, number, line, word);
                }
            }
            if starts == Some(false) {
                if rules {
                    self.problem(ProblemKind::NotEnabled, file, 0, "nftables.service", "nftables.service");
                }
            } else if rules && self.ran("nftables.service") {
                stage.loads.push("its rules, as nft loads them in a private copy".to_owned());
            } else if rules {
                stage.note = Some("its rules are in nft's own language, which is not read here".to_owned());
                self.unknown(format!(
                    "{} has rules in nft's own language: what they do at boot is unknown",
                    self.files.label(file)
                ));
            }
            self.out.stages.push(stage);
        }
    }

    /// Firewall managers whose scripts build the rules.
    fn managers(&mut self) {
        if is_ufw_enabled(self.files) && !self.ran("ufw.service") {
            self.unknown("ufw is enabled: its script builds rules that are not read here".to_owned());
        }
        if self.files.bytes("persisted/firewalld/firewalld.conf").is_some()
            && starts_at_boot(self.files, "firewalld.service") != Some(false)
        {
            self.unknown("firewalld is installed: the rules it builds are not read here".to_owned());
        }
    }

    /// Chains that daemons add when they start.
    fn daemons(&mut self, live: &Ruleset) {
        let mut owners: BTreeSet<&str> = BTreeSet::new();
        for chain in live.tables.iter().flat_map(|table| &table.chains) {
            owners.extend(FOREIGN.iter().filter(|(start, _)| chain.name.starts_with(start)).map(|(_, owner)| *owner));
        }
        self.out
            .unknown
            .extend(owners.iter().map(|owner| format!("the chains that {owner} adds when it starts are left out")));
    }
}

/// Sets that a line of a save file asks, with the option that names them.
fn sets_of(line: &str) -> impl Iterator<Item = (&str, &str)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let pairs: Vec<(&str, &str)> = words
        .windows(2)
        .filter_map(|pair| match pair {
            [option @ ("--match-set" | "--add-set" | "--del-set"), name] => Some((name.trim_matches('"'), *option)),
            _ => None,
        })
        .collect();
    pairs.into_iter()
}

/// A host's name where an address is meant.
fn host_of(line: &str) -> Option<&str> {
    let words: Vec<&str> = line.split_whitespace().collect();
    words.windows(2).find_map(|pair| match pair {
        ["-s" | "-d" | "--source" | "--destination", value] => {
            let mut parts = value.split(',').filter_map(|part| part.split('/').next());
            parts.find(|part| {
                part.parse::<std::net::IpAddr>().is_err() && part.contains(|c: char| c.is_ascii_alphabetic())
            })
        }
        _ => None,
    })
}

/// Whether a file of nft's language does more than declare empty chains that accept.
fn has_rules(text: &str) -> bool {
    let skeleton = |line: &str| {
        let plain = |line: &str, word: &str| line.starts_with(word) && (line.ends_with('{') || line.ends_with('}'));
        line.is_empty()
            || line.starts_with('#')
            || line == "}"
            || line == "flush ruleset"
            || plain(line, "table ") && !line.contains(';')
            || plain(line, "chain ") && !line.contains(';')
            || line.starts_with("type ") && line.contains(" hook ") && !line.contains("policy drop")
    };
    !text.lines().all(|line| skeleton(line.trim()))
}

/// Whether Felix wrote the rule.
fn is_felix_rule(rule: &Rule) -> bool {
    rule.comments.iter().any(|comment| comment.starts_with("cali:")) || rule.target().is_some_and(is_felix_chain)
}

fn is_felix_chain(name: &str) -> bool {
    plain_name(name).starts_with("cali-")
}

/// The persisted rules with Felix's own as they are in `live`: at its first sync Felix writes its chains anew and puts its
/// jumps where it keeps them.
fn with_felix(persisted: &Ruleset, live: &Ruleset) -> Ruleset {
    let mut world = persisted.clone();
    for table in &mut world.tables {
        table.chains.retain(|chain| !is_felix_chain(&chain.name));
        table.chains.iter_mut().for_each(|chain| chain.rules.retain(|rule| !is_felix_rule(rule)));
    }
    for table in live.tables.iter().filter(|table| table.chains.iter().any(|chain| is_felix_chain(&chain.name))) {
        let same = |known: &&mut Table| (known.family, &known.name) == (table.family, &table.name);
        if let Some(known) = world.tables.iter_mut().find(same) {
            known.backend = table.backend;
            table.chains.iter().for_each(|chain| graft(known, chain));
        } else {
            let mut bare = Table { chains: Vec::new(), ..table.clone() };
            table.chains.iter().for_each(|chain| graft(&mut bare, chain));
            world.tables.push(bare);
        }
    }
    let felix = |set: &&Set| set.name.starts_with("cali");
    world.ipsets.retain(|set| !set.name.starts_with("cali"));
    world.ipsets.extend(live.ipsets.iter().filter(felix).cloned());
    world
}

/// Takes Felix's part of a chain over.
fn graft(table: &mut Table, chain: &Chain) {
    if is_felix_chain(&chain.name) {
        table.chains.push(chain.clone());
        return;
    }
    let first = chain.rules.iter().take_while(|rule| is_felix_rule(rule)).count();
    let top = chain.rules.iter().take(first).cloned();
    let bottom = chain.rules.iter().skip(first).filter(|rule| is_felix_rule(rule)).cloned();
    if let Some(known) = table.chains.iter_mut().find(|known| known.name == chain.name) {
        let own: Vec<Rule> = known.rules.drain(..).collect();
        known.rules.extend(top.chain(own).chain(bottom));
    } else if chain.base.is_some() {
        // nobody else has touched it: the kernel's policy
        let base = chain.base.clone().map(|base| crate::ruleset::BaseChain { policy: Policy::Accept, ..base });
        table.chains.push(Chain { base, rules: top.chain(bottom).collect(), ..chain.clone() });
    }
}

#[cfg(test)]
mod tests;
