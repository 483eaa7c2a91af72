//! Everything that is wrong with the lists, or worth knowing.

use std::collections::{BTreeMap, BTreeSet};

use super::changes::rules_of;
use super::kernel::{Keeper, KernelChain, Layer};
use super::{Direction, FAMILIES, FailsafeReport, ListState, Problem, ProblemKind, Weight, When, cut};
use crate::calico::settings::sources::World;
use crate::calico::settings::{Assignment, Entry, Ignored, Outcome, Place, Source, Why};
use crate::packet::{Family, Protocol};
use crate::ruleset::Backend;

/// Problems of one kind kept; more of them are one input gone bad.
const MOST: usize = 50;

/// Finds them all, the worst first.
pub(super) fn find(report: &FailsafeReport) -> Vec<Problem> {
    let mut found = Found { report, problems: Vec::new(), counts: BTreeMap::new() };
    found.stops();
    found.without_effect();
    found.dataplane();
    for direction in Direction::ALL {
        found.restart(direction);
        found.list_off(direction);
        found.one_family(direction);
        found.duplicates(direction);
        found.drift(direction);
        found.chains(direction);
    }
    found.remarks();
    found.problems.sort_by_key(|problem| std::cmp::Reverse(problem.severity));
    found.problems
}

struct Found<'a> {
    report: &'a FailsafeReport,
    problems: Vec<Problem>,
    counts: BTreeMap<ProblemKind, usize>,
}

/// A problem about nothing in particular.
fn problem(kind: ProblemKind, severity: Weight, bites: When, title: String, fix: String) -> Problem {
    Problem {
        kind,
        severity,
        bites,
        direction: None,
        family: None,
        entries: Vec::new(),
        title,
        place: None,
        text: None,
        fix,
        certain: true,
    }
}

/// `tcp:22, udp:53 and 7 more`.
fn few(entries: &[Entry]) -> String {
    let mut text: Vec<String> = entries.iter().take(6).map(ToString::to_string).collect();
    if entries.len() > 6 {
        text.push(format!("{} more", entries.len() - 6));
    }
    text.join(", ")
}

fn shown(assignment: &Assignment) -> Option<String> {
    Some(cut(&format!("{}={}", assignment.name, assignment.value)))
}

fn is_failsafe(name: &str) -> bool {
    Direction::ALL.iter().any(|direction| direction.param() == name)
}

impl Found<'_> {
    fn push(&mut self, problem: Problem) {
        let count = self.counts.entry(problem.kind).or_default();
        *count += 1;
        if *count <= MOST {
            self.problems.push(problem);
        }
    }

    /// Path of the environment file, for commands.
    fn env_path(&self) -> &str {
        self.report.sources.environment_path.as_deref().unwrap_or("/etc/calico/calico.env")
    }

    fn restart_command(&self) -> String {
        format!("systemctl restart {}", self.report.sources.unit_name.as_deref().unwrap_or("calico-felix"))
    }

    /// Where a list is set for good, in words.
    fn where_to_edit(&self, direction: Direction) -> String {
        match self.report.direction(direction).disk.source {
            Some(Source::ConfigFile) => format!("{} in /etc/calico/felix.cfg", direction.param()),
            Some(Source::DatastoreGlobal | Source::DatastorePerSelector | Source::DatastorePerHost) => {
                format!("{} with: calicoctl edit felixconfiguration", field_name(direction))
            }
            Some(Source::Environment) | Some(Source::Default) | None => {
                format!("FELIX_{} in {}", direction.param().to_uppercase(), self.env_path())
            }
        }
    }

    fn worlds(&self) -> impl Iterator<Item = (&World, bool)> {
        let sources = &self.report.sources;
        [(&sources.disk, true)].into_iter().chain(sources.running.as_ref().map(|world| (world, false)))
    }

    /// Values and files that stop Felix.
    fn stops(&mut self) {
        let mut all: Vec<Problem> = Vec::new();
        let mut seen: BTreeSet<Place> = BTreeSet::new();
        let bites = |outcome: Outcome, disk: bool| match (outcome, disk) {
            (_, true) => When::FelixRestart,
            (_, false) => When::Now,
        };
        for (world, disk) in self.worlds() {
            for broken in world.broken.iter().filter(|broken| seen.insert(broken.place.clone())) {
                let title = format!("Felix cannot start: {}", broken.reason);
                let fix = format!(
                    "mend the line before any restart or reboot: {}, the rules in force stay frozen and a boot starts \
                     without any. Safe over SSH: nothing changes until Felix restarts",
                    broken.outcome.words()
                );
                let place = Some(broken.place.clone());
                let when = bites(broken.outcome, disk);
                all.push(Problem { place, ..problem(ProblemKind::StopsFelix, Weight::Critical, when, title, fix) });
            }
            for fatal in world.settings.fatal.iter().filter(|fatal| seen.insert(fatal.assignment.place.clone())) {
                let title = format!("Felix cannot start with {}: {}", fatal.param, fatal.reason);
                let quotes = if fatal.assignment.value.starts_with(['"', '\'']) {
                    " The quotes are part of the value here: take them away."
                } else {
                    ""
                };
                let overridden = world.settings.get(fatal.param).is_some_and(|s| s.source > fatal.assignment.source);
                let also = if overridden { " It does so although a higher source overrides the value." } else { "" };
                let fix = format!(
                    "mend the value before any restart or reboot: {}, the rules in force stay frozen and a boot starts \
                     without any.{also}{quotes} Safe over SSH: nothing changes until Felix restarts",
                    fatal.outcome.words()
                );
                all.push(Problem {
                    direction: Direction::ALL.into_iter().find(|direction| direction.param() == fatal.param),
                    place: Some(fatal.assignment.place.clone()),
                    text: shown(&fatal.assignment),
                    ..problem(ProblemKind::StopsFelix, Weight::Critical, bites(fatal.outcome, disk), title, fix)
                });
            }
        }
        all.into_iter().for_each(|problem| self.push(problem));
    }

    /// Assignments that Felix ignores or replaces.
    fn without_effect(&mut self) {
        let mut all: Vec<Problem> = Vec::new();
        let mut seen: BTreeSet<(Place, Box<str>)> = BTreeSet::new();
        for (world, _) in self.worlds() {
            for Ignored { assignment, why } in &world.settings.ignored {
                if seen.insert((assignment.place.clone(), assignment.name.clone())) {
                    let place = Some(assignment.place.clone());
                    all.push(Problem { place, text: shown(assignment), ..self.ignored(assignment, why) });
                }
            }
        }
        all.into_iter().for_each(|problem| self.push(problem));
    }

    fn ignored(&self, assignment: &Assignment, why: &Why) -> Problem {
        use ProblemKind::{EmptyIgnored, LocalOnly, SetTwice, UnknownName, ValueReplaced};
        let name = cut(&assignment.name);
        let list = |param: &str| if is_failsafe(param) { Weight::Medium } else { Weight::Low };
        let now = When::Now;
        match why {
            Why::Empty { param } => {
                let severity = param.map_or(Weight::Info, list);
                let title = format!("{name} is empty, which Felix ignores: a lower source or the default holds");
                let fix =
                    "write none to switch a list off, or delete the line to say that the default is meant".to_owned();
                problem(EmptyIgnored, severity, now, title, fix)
            }
            Why::Unknown(None) => {
                let title = format!("{name} is no parameter of open-source Felix, which ignores it");
                let fix = "check the name; Calico Enterprise and other versions know more parameters".to_owned();
                problem(UnknownName, Weight::Info, now, title, fix)
            }
            Why::Unknown(Some(near)) => {
                let title = format!("{name} is no parameter of Felix, which ignores it without a warning");
                let prefix = if assignment.source == Source::Environment { "FELIX_" } else { "" };
                let near_name = if prefix.is_empty() { (*near).to_owned() } else { near.to_uppercase() };
                let fix = format!("write {prefix}{near_name} if {near} is meant");
                let severity = if is_failsafe(near) { Weight::High } else { Weight::Low };
                problem(UnknownName, severity, now, title, fix)
            }
            Why::LocalOnly(param) => {
                let title = format!("{param} cannot be set from the datastore; Felix ignores it");
                problem(LocalOnly, Weight::Low, now, title, format!("set FELIX_{} on the host", param.to_uppercase()))
            }
            Why::Replaced(param, reason) => {
                let title = format!("Felix takes its default for {param}: {reason}");
                problem(ValueReplaced, Weight::Low, now, title, "mend the value".to_owned())
            }
            Why::SameName(param, other) => {
                let title =
                    format!("{param} is set again in {other} in another letter case; Felix takes one by chance");
                problem(SetTwice, list(param), When::FelixRestart, title, "keep one of the two lines".to_owned())
            }
        }
    }

    /// What the next restart takes away or brings.
    fn restart(&mut self, direction: Direction) {
        use ProblemKind::{AddedAtRestart, OrderChanges, RemovedAtRestart};
        let lists = self.report.direction(direction);
        let edit = self.where_to_edit(direction);
        for change in &lists.next_restart {
            let family = change.family;
            let base = |kind, severity, entries: &[Entry], title: String, fix: String| Problem {
                direction: Some(direction),
                family: Some(family),
                entries: entries.to_vec(),
                place: lists.disk.place.clone(),
                text: lists.disk.raw.clone(),
                certain: change.certain,
                ..problem(kind, severity, When::FelixRestart, title, fix)
            };
            if !change.removes.is_empty() {
                let ssh = |entry: &Entry| entry.protocol == Protocol::TCP && entry.port == 22;
                let severity = if direction == Direction::In && change.removes.iter().any(ssh) {
                    Weight::Critical
                } else {
                    Weight::High
                };
                let title = format!(
                    "the next restart of Felix removes {} {direction} ({})",
                    few(&change.removes),
                    family_name(family)
                );
                let fix = format!(
                    "put {} back into {edit}, or make sure that policy allows the traffic before you restart Felix. \
                     Editing is safe over SSH; the restart is what bites",
                    few(&change.removes)
                );
                self.push(base(RemovedAtRestart, severity, &change.removes, title, fix));
            }
            if !change.adds.is_empty() {
                let title = format!(
                    "the next restart of Felix adds {} {direction} ({})",
                    few(&change.adds),
                    family_name(family)
                );
                let fix = format!("{} when this is wanted; safe over SSH", self.restart_command());
                self.push(base(AddedAtRestart, Weight::Info, &change.adds, title, fix));
            }
            if change.reorders {
                let title = format!("the {direction} entries come in another order ({})", family_name(family));
                let fix = "nothing to do: all entries accept, so their order does not matter".to_owned();
                self.push(base(OrderChanges, Weight::Info, &[], title, fix));
            }
        }
    }

    /// A list that is switched off.
    fn list_off(&mut self, direction: Direction) {
        let disk = &self.report.direction(direction).disk;
        if disk.state != ListState::Set || !disk.entries.is_empty() {
            return;
        }
        let raw = disk.raw.as_deref().unwrap_or_default();
        let blank = raw.trim_matches([' ', ',']).is_empty();
        let how = if blank { "a value of blanks and commas" } else { "none" };
        let title = format!("the {direction} failsafe list is switched off by {how}");
        let fix = format!(
            "write the entries you need into {}, tcp:22 inbound above all, or delete the line for Felix's default. Safe over \
             SSH until Felix restarts",
            self.where_to_edit(direction)
        );
        let (place, text, certain) = (disk.place.clone(), disk.raw.clone(), disk.certain);
        let base = problem(ProblemKind::ListOff, Weight::High, When::FelixRestart, title, fix);
        self.push(Problem { direction: Some(direction), place, text, certain, ..base });
    }

    /// Ports that only one family's peers reach.
    fn one_family(&mut self, direction: Direction) {
        let lists = self.report.direction(direction);
        let (view, world) = if lists.disk.is_known() {
            (&lists.disk, &self.report.sources.disk)
        } else if let Some(world) = self.report.sources.running.as_ref().filter(|_| lists.running.is_known()) {
            (&lists.running, world)
        } else {
            return;
        };
        if world.settings.bool("Ipv6Support") == Some(false) {
            return;
        }
        let (place, text, certain) = (view.place.clone(), view.raw.clone(), view.certain);
        let mut found = Vec::new();
        for family in FAMILIES {
            let here: BTreeSet<(Protocol, u16)> =
                view.entries.iter().filter(|e| e.applies_to(family)).map(|e| (e.protocol, e.port)).collect();
            let mut told = BTreeSet::new();
            let missing: Vec<Entry> = view
                .entries
                .iter()
                .filter(|e| !here.contains(&(e.protocol, e.port)) && told.insert((e.protocol, e.port)))
                .copied()
                .collect();
            if missing.is_empty() {
                continue;
            }
            let (name, any) = if family == Family::Ipv6 { ("IPv6", "[::/0]") } else { ("IPv4", "0.0.0.0/0") };
            let ports: Vec<Entry> = missing.iter().map(|entry| Entry { net: None, ..*entry }).collect();
            let title = format!("no {direction} failsafe over {name} for {}", few(&ports));
            let example = ports.first().map_or_else(String::new, ToString::to_string);
            let fix = format!(
                "an entry with a net has no rule in the other family: drop the net ({example}) or add an entry such as {} to {}. \
                 Safe over SSH",
                example.replace(':', &format!(":{any}:")),
                self.where_to_edit(direction)
            );
            let severity = if family == Family::Ipv6 { Weight::Medium } else { Weight::High };
            let base = problem(ProblemKind::OneFamily, severity, When::Reconnect, title, fix);
            let (place, text) = (place.clone(), text.clone());
            found.push(Problem {
                direction: Some(direction),
                family: Some(family),
                entries: missing,
                place,
                text,
                certain,
                ..base
            });
        }
        found.into_iter().for_each(|problem| self.push(problem));
    }

    fn duplicates(&mut self, direction: Direction) {
        let disk = &self.report.direction(direction).disk;
        let mut seen = BTreeSet::new();
        let mut told = BTreeSet::new();
        let twice: Vec<Entry> =
            disk.entries.iter().filter(|entry| !seen.insert(**entry) && told.insert(**entry)).copied().collect();
        if twice.is_empty() {
            return;
        }
        let title = format!("the {direction} list names {} more than once", few(&twice));
        let fix = "harmless: Felix writes a rule for each; delete the copies when you next edit the list".to_owned();
        let (place, text) = (disk.place.clone(), disk.raw.clone());
        let base = problem(ProblemKind::Duplicate, Weight::Info, When::Now, title, fix);
        self.push(Problem { direction: Some(direction), entries: twice, place, text, ..base });
    }

    /// The kernel against the running Felix.
    fn drift(&mut self, direction: Direction) {
        let lists = self.report.direction(direction);
        if !lists.running.is_known() || !self.report.sources.running.as_ref().is_some_and(World::starts) {
            return;
        }
        let mut found = Vec::new();
        for family in FAMILIES {
            let wanted: BTreeSet<Entry> = rules_of(&lists.running.entries, family).into_iter().collect();
            for chain in lists.deciding(family) {
                let programmed: BTreeSet<Entry> = chain.list().collect();
                let missing: Vec<Entry> = wanted.difference(&programmed).copied().collect();
                let extra: Vec<Entry> = programmed.difference(&wanted).copied().collect();
                let stale = chains_in_two_backends(lists.deciding(family));
                if (missing.is_empty() && extra.is_empty()) || stale {
                    continue;
                }
                let mut parts = Vec::new();
                if !missing.is_empty() {
                    parts.push(format!("lacks {}", few(&missing)));
                }
                if !extra.is_empty() {
                    parts.push(format!("has {} beyond it", few(&extra)));
                }
                let title = format!("{} is not what the running Felix wants: {}", chain.title(), parts.join(" and "));
                let fix = if chain.backend == Keeper::Bpf {
                    "Felix fills its maps when it starts; look into its log (journalctl -u calico-felix). Safe over SSH"
                } else {
                    "Felix repairs its chains within 180 s by default; when this stays, someone edits them or Felix does \
                     not write: look into its log (journalctl -u calico-felix). Safe over SSH"
                }
                .to_owned();
                let severity = if missing.is_empty() { Weight::Medium } else { Weight::High };
                let base = problem(ProblemKind::KernelDrift, severity, When::Now, title, fix);
                found.push(Problem {
                    direction: Some(direction),
                    family: Some(family),
                    entries: missing.into_iter().chain(extra).collect(),
                    place: Some(chain.place.clone()),
                    certain: lists.running.certain,
                    ..base
                });
            }
        }
        found.into_iter().for_each(|problem| self.push(problem));
    }

    /// The chains themselves.
    fn chains(&mut self, direction: Direction) {
        let lists = self.report.direction(direction);
        let mut found = Vec::new();
        for chain in &lists.kernel {
            let base = |kind, severity, title: String, fix: &str| Problem {
                direction: Some(direction),
                family: Some(chain.family),
                place: Some(chain.place.clone()),
                ..problem(kind, severity, When::Now, title, fix.to_owned())
            };
            for rule in &chain.foreign {
                let title = format!("rule {} of {} is not one of Felix's: it {}", rule.rule, chain.title(), rule.why);
                let fix = "find out who wrote it; Felix throws it out when it next rewrites the chain";
                found.push(Problem {
                    place: Some(rule.place.clone()),
                    text: Some(rule.text.clone()),
                    ..base(ProblemKind::ForeignRule, Weight::High, title, fix)
                });
            }
            if chain.references == Some(0) {
                let title = format!("nothing jumps to {}: the list has no effect", chain.title());
                let list = match (chain.backend, chain.family) {
                    (Keeper::Rules(Backend::Nft), _) => "nft list ruleset".to_owned(),
                    (backend, Family::Ipv6) => format!("{}-save", backend.name().replacen("iptables", "ip6tables", 1)),
                    (backend, _) => format!("{}-save", backend.name()),
                };
                let fix = format!(
                    "Felix removes unused chains, so this is a leftover or the rule that jumps here was deleted; look \
                     with: {list} | grep cali-failsafe. Felix, when it runs, repairs this within 180 s by default"
                );
                found.push(base(ProblemKind::Unreferenced, Weight::High, title, &fix));
            }
        }
        for family in FAMILIES {
            if chains_in_two_backends(lists.deciding(family)) {
                let title = format!("{direction} failsafe chains live in two backends ({})", family_name(family));
                let fix = "a packet must pass both, and Felix keeps only one up to date: remove the stale one after checking \
                           which backend Felix uses (its log names it at start). Not safe over SSH without a way back"
                    .to_owned();
                let base = problem(ProblemKind::TwoBackends, Weight::High, When::Now, title, fix);
                found.push(Problem { direction: Some(direction), family: Some(family), ..base });
            }
            found.extend(tables_differ(direction, family, &lists.kernel));
        }
        found.into_iter().for_each(|problem| self.push(problem));
    }

    /// The eBPF dataplane: as it is set on disk, and as it is.
    fn dataplane(&mut self) {
        let disk = &self.report.sources.disk;
        let set = disk.settings.bool("BPFEnabled");
        let place = disk.settings.get("BPFEnabled").and_then(|setting| setting.place);
        let (title, fix) = match (set, self.report.ebpf) {
            (Some(true), Some(false)) => (
                "BPFEnabled is true, and no BPF program of Felix's is attached: failsafe chains decide",
                "Felix falls back to rules where the kernel is too old, and a changed value waits for its restart: look into \
                 its log (journalctl -u calico-felix). Safe over SSH",
            ),
            (Some(false), Some(true)) => (
                "Felix's eBPF dataplane is attached, and BPFEnabled is false on disk: the next restart moves the failsafes to \
                 chains",
                "set FELIX_BPFENABLED=true to keep the dataplane; else restart Felix with a console at hand, not over SSH alone",
            ),
            _ => return,
        };
        let base = problem(ProblemKind::Remark, Weight::Low, When::FelixRestart, title.to_owned(), fix.to_owned());
        let certain = disk.is_certain("BPFEnabled");
        self.push(Problem { place, certain, ..base });
    }

    /// What readers of the sources remarked.
    fn remarks(&mut self) {
        let mut seen = BTreeSet::new();
        let mut all = Vec::new();
        for (world, _) in self.worlds() {
            for remark in world.remarks.iter().filter(|remark| seen.insert((remark.place.clone(), remark.text.clone())))
            {
                let fix = "check that the line says what you mean".to_owned();
                let base = problem(ProblemKind::Remark, Weight::Low, When::FelixRestart, remark.text.clone(), fix);
                all.push(Problem { place: Some(remark.place.clone()), ..base });
            }
        }
        all.into_iter().for_each(|problem| self.push(problem));
    }
}

/// The field of a FelixConfiguration's spec.
fn field_name(direction: Direction) -> &'static str {
    match direction {
        Direction::In => "failsafeInboundHostPorts",
        Direction::Out => "failsafeOutboundHostPorts",
    }
}

/// A family's name as people write it.
fn family_name(family: Family) -> &'static str {
    if family == Family::Ipv4 { "IPv4" } else { "IPv6" }
}

fn chains_in_two_backends<'a>(chains: impl Iterator<Item = &'a KernelChain>) -> bool {
    let backends: BTreeSet<Keeper> =
        chains.filter(|chain| chain.table == Layer::Filter).map(|chain| chain.backend).collect();
    backends.len() > 1
}

/// Chains of raw and mangle that differ from the filter table's, or fragments that differ from one another.
fn tables_differ(direction: Direction, family: Family, chains: &[KernelChain]) -> Vec<Problem> {
    let here: Vec<&KernelChain> = chains.iter().filter(|chain| chain.family == family).collect();
    let Some(first) = here.iter().find(|chain| chain.table == Layer::Filter).or(here.first()) else {
        return Vec::new();
    };
    let expected: Vec<Entry> = first.list().collect();
    here.iter()
        .filter(|chain| chain.backend == first.backend && chain.list().ne(expected.iter().copied()))
        .map(|chain| {
            let title = format!("{} differs from {}", chain.title(), first.title());
            let fix =
                "Felix writes the same list into every table: look for edits by hand; Felix repairs its chains within \
                       180 s by default. Safe over SSH"
                    .to_owned();
            let base = problem(ProblemKind::TablesDiffer, Weight::Medium, When::Now, title, fix);
            let place = Some(chain.place.clone());
            Problem { direction: Some(direction), family: Some(family), place, ..base }
        })
        .collect()
}
