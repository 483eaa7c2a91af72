//! Why a port on a failsafe list was denied nevertheless, as far as the state of the host and the log tell.

use std::net::IpAddr;

use super::Denied;
use crate::calico::failsafe::{Direction, FailsafeReport, ProblemKind, Row};
use crate::calico::predict::Knowledge;
use crate::calico::resources::{Policy, Spec};
use crate::logs;
use crate::logs::event::Source;
use crate::packet::Family;
use crate::snapshot::Snapshot;

/// What is known about a host, worked out once for all groups.
pub struct Known<'s> {
    snapshot: &'s Snapshot,
    report: FailsafeReport,
    resources: Knowledge,
}

impl<'s> Known<'s> {
    /// Of a snapshot.
    #[must_use]
    pub fn of(snapshot: &'s Snapshot) -> Self {
        Self {
            snapshot,
            report: crate::calico::failsafe::compare(&snapshot.files, &snapshot.ruleset, &snapshot.host),
            resources: Knowledge::of(&snapshot.files),
        }
    }
}

impl Denied {
    /// Reasons for which a port on a failsafe list was denied, the most telling first; `last` is the time of the latest deny.
    #[must_use]
    pub fn despite_failsafe(&self, known: Option<&Known<'_>>, last: Option<&str>) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.source == Some(Source::Kernel) {
            reasons.push(
                "the line is from a firewall rule that logs, not from Felix: a rule of somebody else can drop packets before \
                 Felix's chains see them (`hepguard trace` names it)"
                    .to_owned(),
            );
        }
        let Some(known) = known else {
            reasons.push(
                "the host that logged it is not known here: with --snapshot DIR, made on it, the lists on disk, in the running \
                 Felix and in the kernel are compared"
                    .to_owned(),
            );
            return reasons;
        };
        let direction = match self.direction {
            Some(logs::event::Direction::Ingress) => Direction::In,
            Some(logs::event::Direction::Egress) => Direction::Out,
            _ => return reasons,
        };
        reasons.extend(self.elsewhere(known, direction));
        let rows = known.report.direction(direction).entries.iter().filter(|row| self.is_of(row, direction));
        let rows: Vec<&Row> = rows.collect();
        reasons.extend(self.not_everywhere(&rows, direction, last));
        reasons.extend(problems(known, &rows, direction));
        reasons.extend(self.kind_of_policy(known));
        reasons
    }

    fn peer(&self, direction: Direction) -> Option<IpAddr> {
        if direction == Direction::In { self.src } else { self.dst }
    }

    /// The packet is not the host's own.
    fn elsewhere(&self, known: &Known<'_>, direction: Direction) -> Option<String> {
        let (own, side) = match direction {
            Direction::In => (self.dst?, "destination"),
            Direction::Out => (self.src?, "source"),
        };
        (known.snapshot.host.is_local(own) == Some(false)).then(|| {
            format!(
                "the {side} {own} is no address of this host: failsafes let through only what a host itself sends or receives, \
                 not what it forwards and not its workloads"
            )
        })
    }

    fn is_of(&self, row: &Row, direction: Direction) -> bool {
        let entry = &row.entry;
        Some(entry.port) == self.port
            && Some(entry.protocol) == self.protocol
            && entry.net.is_none_or(|net| self.peer(direction).is_some_and(|peer| net.contains(peer)))
    }

    /// Which of the lists lack the entry.
    fn not_everywhere(&self, rows: &[&Row], direction: Direction, last: Option<&str>) -> Vec<String> {
        let family = if self.dst.or(self.src).is_some_and(|ip| ip.is_ipv6()) { Family::Ipv6 } else { Family::Ipv4 };
        let kernel = |row: &Row| if family == Family::Ipv6 { row.kernel_ipv6 } else { row.kernel_ipv4 };
        // any entry that covers the packet is enough
        let in_none =
            |view: &dyn Fn(&Row) -> Option<bool>| !rows.is_empty() && rows.iter().all(|row| view(row) == Some(false));
        let in_some = |view: &dyn Fn(&Row) -> Option<bool>| rows.iter().any(|row| view(row) == Some(true));
        let mut reasons = Vec::new();
        if rows.is_empty() {
            reasons.push(format!(
                "no list of this host ({}) has the entry: the denies were judged by other lists, or it was removed since",
                direction.param()
            ));
        }
        if in_none(&|row| row.running) {
            let disk = if in_some(&|row| row.disk) {
                ", but the list on disk does: it counts once Felix restarts"
            } else {
                ""
            };
            reasons.push(format!("the list of the running Felix does not have the entry{disk}"));
        }
        if in_none(&kernel) {
            reasons.push(format!(
                "the kernel's {} rules do not have the entry: chain {} lets nothing through for it",
                family.name(),
                if direction == Direction::In { "cali-failsafe-in" } else { "cali-failsafe-out" }
            ));
        }
        if reasons.is_empty() && in_some(&kernel) {
            let until = last.map(|last| format!(" (the last deny is of {last})")).unwrap_or_default();
            reasons.push(format!(
                "the entry is in the kernel now{until}: it was added after the denies, or the packet did not come to the chain"
            ));
        }
        reasons
    }

    /// A policy of a kind that decides elsewhere than where people look.
    fn kind_of_policy(&self, known: &Known<'_>) -> Option<String> {
        let (name, tier) = (self.policy.as_deref()?, self.tier.as_deref()?);
        let bare = |name: &str| name.strip_prefix(tier).and_then(|rest| rest.strip_prefix('.')).map(str::to_owned);
        let same = |other: &str| bare(other).as_deref().unwrap_or(other) == bare(name).as_deref().unwrap_or(name);
        let policy = known.resources.resources.iter().find_map(|resource| match &resource.spec {
            Spec::Policy(policy) if policy.tier() == tier && same(&resource.meta.name.value) => Some(policy),
            _ => None,
        })?;
        if Policy::is(&policy.do_not_track) {
            return Some(format!(
                "policy {name} is a doNotTrack policy: it decides in the raw table, where answers count as connections of their \
                 own and must be let through by source port"
            ));
        }
        if Policy::is(&policy.pre_dnat) {
            return Some(format!(
                "policy {name} is a preDNAT policy: it sees packets before their destination is translated, so that the port may \
                 be another one on the host"
            ));
        }
        Policy::is(&policy.apply_on_forward).then(|| {
            format!("policy {name} also applies to forwarded traffic (applyOnForward), and that has no failsafes")
        })
    }
}

/// What is wrong with the list, as `hepguard failsafe` says it.
fn problems(known: &Known<'_>, rows: &[&Row], direction: Direction) -> Vec<String> {
    let telling = |kind: ProblemKind| {
        matches!(
            kind,
            ProblemKind::ListOff
                | ProblemKind::ForeignRule
                | ProblemKind::Unreferenced
                | ProblemKind::TwoBackends
                | ProblemKind::TablesDiffer
                | ProblemKind::OneFamily
        )
    };
    known
        .report
        .problems
        .iter()
        .filter(|problem| telling(problem.kind) && problem.direction.is_none_or(|one| one == direction))
        .filter(|problem| problem.entries.is_empty() || rows.iter().any(|row| problem.entries.contains(&row.entry)))
        .map(|problem| problem.title.clone())
        .take(4)
        .collect()
}
