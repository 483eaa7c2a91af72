//! What checks look at: the snapshot, the answers computed from it once, and questions several checks ask.

use std::cell::OnceCell;
use std::collections::HashSet;

use super::idle::{Idle, idle};
use super::judged::{Judged, judge};
use crate::analysis::reboot::{self, Rehearsal};
use crate::analysis::worlds;
use crate::calico::failsafe::{self, FailsafeReport};
use crate::calico::integrity::{self, Integrity, plain_name};
use crate::diagnostic::Level;
use crate::packet::{Family, Hook};
use crate::ruleset::{Backend, Chain, ChainKind, Effect, Rule, RuleRef, Ruleset, Step, Table, Verdict};
use crate::snapshot::{FileState, Snapshot};

/// Everything a check may look at.
#[derive(Clone, Debug)]
pub struct Context<'a> {
    /// What is known about the host.
    pub snapshot: &'a Snapshot,
    /// The failsafe lists four ways.
    pub failsafe: FailsafeReport,
    /// The flows that must work, judged.
    pub judged: Vec<Judged>,
    /// What boot loads.
    pub boot: Rehearsal,
    integrity: OnceCell<Integrity>,
    idle: OnceCell<Idle>,
}

/// A kernel chain (or a base chain of Felix's own nft table) through which packets come to Felix's chains.
#[derive(Clone, Copy, Debug)]
pub struct FelixHook<'a> {
    /// The table.
    pub table: &'a Table,
    /// The base chain.
    pub chain: &'a Chain,
    /// Where it hangs.
    pub hook: Hook,
    /// Place of the jump into Felix's chains.
    pub place: RuleRef,
}

impl<'a> Context<'a> {
    /// Computes what checks share.
    #[must_use]
    pub fn new(snapshot: &'a Snapshot) -> Self {
        let failsafe = failsafe::compare(&snapshot.files, &snapshot.ruleset, &snapshot.host);
        let restarted = worlds::after_felix_restart(&snapshot.ruleset, &failsafe);
        let boot = reboot::rehearse(snapshot, restarted.as_ref());
        let judged = judge(snapshot, &failsafe, restarted.as_ref(), &boot);
        Self { snapshot, failsafe, judged, boot, integrity: OnceCell::new(), idle: OnceCell::new() }
    }

    /// The firewall.
    #[must_use]
    pub fn ruleset(&self) -> &'a Ruleset {
        &self.snapshot.ruleset
    }

    /// Felix's rules against their hashes.
    #[must_use]
    pub fn integrity(&self) -> &Integrity {
        self.integrity.get_or_init(|| integrity::check(&self.snapshot.ruleset))
    }

    /// Rules that do nothing.
    #[must_use]
    pub fn idle(&self) -> &Idle {
        self.idle.get_or_init(|| idle(self.snapshot))
    }

    /// State of a snapshot file; `None` when nobody looked for it.
    #[must_use]
    pub fn file(&self, name: &str) -> Option<&'a FileState> {
        self.snapshot.files.files.get(name)
    }

    /// Jumps from base chains into Felix's chains.
    pub fn felix_hooks(&self) -> impl Iterator<Item = FelixHook<'a>> {
        self.ruleset().tables.iter().enumerate().flat_map(|(t, table)| {
            table.chains.iter().enumerate().filter_map(move |(c, chain)| {
                let base = chain.base.as_ref()?;
                let rule = chain.rules.iter().position(|rule| rule.target().is_some_and(is_felix_chain))?;
                Some(FelixHook { table, chain, hook: base.hook, place: RuleRef { table: t, chain: c, rule } })
            })
        })
    }

    /// Whether any Felix chain exists in a table that sees packets of `family`.
    #[must_use]
    pub fn has_felix_chains(&self, family: Family) -> bool {
        self.ruleset().tables.iter().any(|table| table.family.sees(family) && table.has_felix_chains())
    }

    /// Whether some listing of `family`'s filter rules was read, so that "no rules" is an answer.
    #[must_use]
    pub fn was_listed(&self, family: Family) -> bool {
        let names: [&str; 4] = match family {
            Family::Ipv6 => {
                ["ip6tables-save.txt", "ip6tables-legacy-save.txt", "ip6tables-nft-save.txt", "nft-ruleset.json"]
            }
            _ => ["iptables-save.txt", "iptables-legacy-save.txt", "iptables-nft-save.txt", "nft-ruleset.json"],
        };
        names.iter().any(|name| matches!(self.file(name), Some(FileState::Present(_) | FileState::Absent)))
    }

    /// Whether some listing of `family`'s rules could not be read, wholly or in part, so that what is missing in the model
    /// may be in the kernel.
    #[must_use]
    pub fn is_blind(&self, family: Family) -> bool {
        let disagree = |table: &Table| table.family.sees(family) && table.disagreements().next().is_some();
        if self.ruleset().tables.iter().any(disagree) {
            return true;
        }
        let of_family =
            |name: &str| name.starts_with("ip6tables") == (family == Family::Ipv6) && name.contains("tables");
        let listing = |name: &str| name == "nft-ruleset.json" || of_family(name);
        self.snapshot.files.files.iter().any(|(name, state)| {
            let damaged = || {
                let label = self.snapshot.files.label(name);
                self.snapshot.diagnostics.iter().any(|d| d.level == Level::Error && *d.source == *label)
            };
            listing(name) && (matches!(state, FileState::Unreadable(_)) || damaged())
        })
    }
}

impl FelixHook<'_> {
    /// Whether the jump is in table `filter`; in nftables mode Felix's one table has chains of all layers.
    #[must_use]
    pub fn is_filter(&self) -> bool {
        &*self.table.name == "filter" || self.chain.name.starts_with("filter-")
    }

    /// Whether the jump is in a chain of NAT.
    #[must_use]
    pub fn is_nat(&self) -> bool {
        self.chain.base.as_ref().is_some_and(|base| base.kind == ChainKind::Nat)
    }

    /// The command that lists the chain.
    #[must_use]
    pub fn list_command(&self) -> String {
        let (table, chain) = (self.table, &self.chain.name);
        match table.backend {
            Backend::Nft => format!("nft -a list chain {} {} {chain}", table.family.nft_name(), table.name),
            _ => format!("{} -t {} | grep -- '-A {chain}'", table.save_command(), table.name),
        }
    }
}

/// Whether a chain name is one Felix gives (`cali-INPUT`, `filter-cali-INPUT`).
#[must_use]
pub fn is_felix_chain(name: &str) -> bool {
    plain_name(name).starts_with("cali-")
}

impl Table {
    /// Whether it holds chains named as Felix names them, in a table Felix programs.
    #[must_use]
    pub fn has_felix_chains(&self) -> bool {
        self.chains.iter().any(|chain| is_felix_chain(&chain.name))
    }
}

/// What a foreign rule or chain may do to packets that come by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// Some packets are accepted.
    pub accept: bool,
    /// Some packets are dropped or rejected.
    pub drop: bool,
    /// Something is not understood, or left to userspace.
    pub unknown: bool,
}

/// What `rule` of `table` may do, chains it jumps to included (each looked at once, so loops end).
#[must_use]
pub fn outcomes(table: &Table, rule: &Rule) -> Outcomes {
    let mut result = Outcomes::default();
    let mut seen: HashSet<&str> = HashSet::new();
    let mut todo: Vec<&Rule> = vec![rule];
    while let Some(rule) = todo.pop() {
        for step in &rule.steps {
            match step {
                Step::Verdict(Verdict::Accept | Verdict::Nat(_)) => result.accept = true,
                Step::Verdict(Verdict::Drop | Verdict::Reject(_)) => result.drop = true,
                Step::Verdict(Verdict::Jump(name) | Verdict::Goto(name)) => {
                    if seen.insert(name)
                        && let Some((_, chain)) = table.chain(name)
                    {
                        todo.extend(&chain.rules);
                    }
                }
                Step::Verdict(Verdict::Queue { .. } | Verdict::Opaque(_)) | Step::Effect(Effect::Opaque(_)) => {
                    result.unknown = true;
                }
                // the map's verdicts are not followed here: anything may happen
                Step::Vmap { .. } => result = Outcomes { accept: true, drop: true, unknown: true },
                Step::Verdict(Verdict::Return | Verdict::Continue) | Step::Match(_) | Step::Effect(_) => {}
            }
        }
    }
    result
}

/// Backends that keep rules in x_tables, nf_tables through iptables, or nf_tables natively.
#[must_use]
pub fn uses_nf_tables(backend: Backend) -> Option<bool> {
    match backend {
        Backend::IptablesLegacy => Some(false),
        Backend::IptablesNft | Backend::Nft => Some(true),
        Backend::Iptables => None,
    }
}

/// `place` in words: `iptables-legacy ipv4 filter INPUT rule 3 (iptables-legacy-save.txt:12)`.
#[must_use]
pub fn place_text(table: &Table, chain: &Chain, rule: usize) -> String {
    let line = chain.rules.get(rule).map_or(0, |rule| rule.line);
    let position = if rule == RuleRef::POLICY { "policy".to_owned() } else { format!("rule {}", rule + 1) };
    let lines = if line > 0 { format!(" ({}:{line})", table.source) } else { String::new() };
    format!("{} {} {position}{lines}", table.title(), chain.name)
}

/// `1 rule`, `2 rules`.
#[must_use]
pub fn rules(count: usize) -> String {
    if count == 1 { "1 rule".to_owned() } else { format!("{count} rules") }
}
