//! The matrix of entries, and what the next restart of Felix changes in the kernel.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::kernel::Layer;
use super::{DirectionReport, FAMILIES, KernelState, ListState, ListView, Row};
use crate::calico::settings::Entry;
use crate::calico::settings::sources::Sources;
use crate::packet::Family;

/// What the next restart of Felix does to one family's chains.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// The family.
    pub family: Family,
    /// Entries that come.
    pub adds: Vec<Entry>,
    /// Entries that go.
    pub removes: Vec<Entry>,
    /// The entries that stay come in another order.
    pub reorders: bool,
    /// Why nothing can change although Felix restarts: it does not start, or leaves this family alone.
    pub frozen: Option<&'static str>,
    /// Every source that could change the answer was read.
    pub certain: bool,
}

impl Change {
    /// Whether the restart leaves the chains as they are.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.adds.is_empty() && self.removes.is_empty() && !self.reorders
    }
}

/// The rule that `entry` is in `family`: a net of all addresses is no condition. `None` when it has no rule there.
#[must_use]
pub fn in_family(entry: Entry, family: Family) -> Option<Entry> {
    entry.applies_to(family).then(|| Entry { net: entry.net.filter(|net| net.length() > 0), ..entry })
}

/// The rules of a list in `family`, in order.
pub(super) fn rules_of(entries: &[Entry], family: Family) -> Vec<Entry> {
    entries.iter().filter_map(|entry| in_family(*entry, family)).collect()
}

/// Entries that are in every chain that decides in `family`; a packet passes all of them.
fn in_every_chain(report: &DirectionReport, family: Family) -> BTreeSet<Entry> {
    let mut chains = report.deciding(family).map(|chain| chain.list().collect::<BTreeSet<Entry>>());
    let first = chains.next().unwrap_or_default();
    chains.fold(first, |all, chain| all.intersection(&chain).copied().collect())
}

/// Where every entry is present. Entries of the lists come first, in their order; what only the kernel has comes last.
pub(super) fn matrix(report: &DirectionReport) -> Vec<Row> {
    let mut order: Vec<Entry> = Vec::new();
    let mut known: BTreeSet<Entry> = BTreeSet::new();
    for entry in report.disk.entries.iter().chain(&report.running.entries).chain(&report.datastore.entries) {
        if known.insert(*entry) {
            order.push(*entry);
        }
    }
    let kernel: BTreeMap<Family, BTreeSet<Entry>> =
        FAMILIES.into_iter().map(|family| (family, in_every_chain(report, family))).collect();
    let covered: BTreeSet<(Family, Entry)> = order
        .iter()
        .flat_map(|entry| FAMILIES.into_iter().filter_map(|family| Some((family, in_family(*entry, family)?))))
        .collect();
    for family in FAMILIES {
        for entry in report.deciding(family).flat_map(|chain| chain.list().collect::<Vec<_>>()) {
            if !covered.contains(&(family, entry)) && known.insert(entry) {
                order.push(entry);
            }
        }
    }
    let lists = [&report.disk, &report.running, &report.datastore].map(|view| {
        let entries: BTreeSet<Entry> = view.entries.iter().copied().collect();
        (view, entries)
    });
    let in_list = |(view, entries): &(&ListView, BTreeSet<Entry>), entry: Entry| match view.state {
        ListState::Set | ListState::Default => Some(entries.contains(&entry)),
        ListState::NotSet | ListState::NotRunning | ListState::Unknown | ListState::Invalid => None,
    };
    let in_kernel = |family: Family, entry: Entry| {
        let rule = in_family(entry, family)?;
        match report.kernel_state(family) {
            KernelState::Programmed => Some(kernel.get(&family).is_some_and(|entries| entries.contains(&rule))),
            KernelState::NotProgrammed => Some(false),
            KernelState::Unknown => None,
        }
    };
    let [disk, running, datastore] = &lists;
    order
        .into_iter()
        .map(|entry| Row {
            entry,
            disk: in_list(disk, entry),
            running: in_list(running, entry),
            datastore: in_list(datastore, entry),
            kernel_ipv4: in_kernel(Family::Ipv4, entry),
            kernel_ipv6: in_kernel(Family::Ipv6, entry),
        })
        .collect()
}

/// What the next restart changes in each family whose chain is programmed, when the list on disk is known.
pub(super) fn next_restart(report: &DirectionReport, sources: &Sources) -> Vec<Change> {
    let ipv6 = sources.disk.settings.bool("Ipv6Support").unwrap_or(true);
    let known = matches!(report.disk.state, ListState::Set | ListState::Default | ListState::Invalid);
    let families =
        FAMILIES.into_iter().filter(|family| known && report.kernel_state(*family) == KernelState::Programmed);
    families
        .map(|family| {
            let frozen = if !sources.disk.starts() {
                Some("Felix does not start, so the rules stay as they are until the host boots")
            } else if family == Family::Ipv6 && !ipv6 {
                Some("Ipv6Support is false: Felix leaves the IPv6 rules as they are")
            } else {
                None
            };
            let mut old = Vec::new();
            let mut seen = BTreeSet::new();
            for chain in report.deciding(family) {
                old.extend(chain.list().filter(|entry| seen.insert(*entry)));
            }
            let new = rules_of(&report.disk.entries, family);
            let wanted: BTreeSet<Entry> = new.iter().copied().collect();
            let mut change = Change {
                family,
                adds: Vec::new(),
                removes: Vec::new(),
                reorders: false,
                frozen,
                certain: report.disk.certain,
            };
            if frozen.is_none() {
                let mut added = BTreeSet::new();
                change.adds =
                    new.iter().copied().filter(|entry| !seen.contains(entry) && added.insert(*entry)).collect();
                change.removes = old.iter().copied().filter(|entry| !wanted.contains(entry)).collect();
                let mut first = BTreeSet::new();
                let stay_new: Vec<Entry> =
                    new.into_iter().filter(|entry| seen.contains(entry) && first.insert(*entry)).collect();
                let stay_old: Vec<Entry> = old.into_iter().filter(|entry| wanted.contains(entry)).collect();
                // a map has no order
                let is_map = report.deciding(family).any(|chain| chain.table == Layer::Map);
                change.reorders = stay_new != stay_old && !is_map;
            }
            change
        })
        .collect()
}
