//! The failsafe lists four ways: on disk, in the running Felix, in the datastore, in the kernel; what differs, what the next
//! restart of Felix will change, and what would stop Felix.
//!
//! ```text
//! SnapshotFiles ─► settings::sources ─► worlds (disk, running, datastore) ─┐
//! Ruleset ───────► kernel::chains, or in the eBPF dataplane the maps (bpf) ┴─► compare ─► FailsafeReport
//! ```
//! The report is also the base of the audit's HG1xx checks: [`FailsafeReport::problems`] holds one value per thing that is
//! wrong, [`DirectionReport`] the lists themselves, and [`FailsafeReport::sources`] every other setting of Felix.

pub mod bpf;
mod changes;
pub mod kernel;
mod problems;

use std::fmt;

use serde::Serialize;

use crate::calico::settings::sources::{self, Known, Sources, World};
use crate::calico::settings::{Entry, Place, Source};
use crate::files::{FileState, SnapshotFiles};
use crate::host::Host;
use crate::packet::Family;
use crate::ruleset::Ruleset;
pub use changes::{Change, in_family};
use kernel::{KernelChain, Layer};

/// Both families that Felix programs.
pub const FAMILIES: [Family; 2] = [Family::Ipv4, Family::Ipv6];

/// Which list.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// To this host.
    In,
    /// From this host.
    Out,
}

impl Direction {
    /// Both.
    pub const ALL: [Self; 2] = [Self::In, Self::Out];

    /// The parameter that holds the list.
    #[must_use]
    pub fn param(self) -> &'static str {
        match self {
            Self::In => "FailsafeInboundHostPorts",
            Self::Out => "FailsafeOutboundHostPorts",
        }
    }

    /// In words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::In => "inbound",
            Self::Out => "outbound",
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How much a problem matters; the names are those of the findings' severities.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are the severities'")]
pub enum Weight {
    Info,
    Low,
    Medium,
    High,
    Critical,
}

impl Weight {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

/// When a problem bites; the names are those of the findings.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names are the findings'")]
pub enum When {
    Now,
    Reconnect,
    FelixRestart,
    Reboot,
}

/// What is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProblemKind {
    /// A value or file that stops Felix at its next start.
    StopsFelix,
    /// The next restart takes entries away.
    RemovedAtRestart,
    /// The list is switched off by `none`, `[]`, or a value of blanks and commas.
    ListOff,
    /// An empty value is ignored: the default, or a lower source, holds.
    EmptyIgnored,
    /// A name Felix does not know.
    UnknownName,
    /// A bad value replaced by the default.
    ValueReplaced,
    /// Set twice in one source in different letter case: Felix takes one by chance.
    SetTwice,
    /// A local parameter in the datastore.
    LocalOnly,
    /// Ports open for one family only.
    OneFamily,
    /// The kernel differs from what the running Felix wants.
    KernelDrift,
    /// A rule in a failsafe chain that Felix did not write.
    ForeignRule,
    /// A chain that nothing jumps to.
    Unreferenced,
    /// Failsafe chains in two backends: a packet must pass both.
    TwoBackends,
    /// The chains of raw or mangle differ from the filter table's.
    TablesDiffer,
    /// The same entry twice.
    Duplicate,
    /// The next restart adds entries.
    AddedAtRestart,
    /// The same entries in another order.
    OrderChanges,
    /// A line of a source without the effect it seems to have.
    Remark,
}

/// One thing that is wrong or worth knowing.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Problem {
    /// What.
    pub kind: ProblemKind,
    /// How bad.
    pub severity: Weight,
    /// When it bites.
    pub bites: When,
    /// Which list, when it is about one.
    pub direction: Option<Direction>,
    /// Which family, when it is about one.
    pub family: Option<Family>,
    /// The entries it is about.
    pub entries: Vec<Entry>,
    /// One line.
    pub title: String,
    /// Where it stands.
    pub place: Option<Place>,
    /// What stands there; may hold any text.
    pub text: Option<String>,
    /// What to do.
    pub fix: String,
    /// It follows from what was read; `false` where an unread source may change the answer.
    pub certain: bool,
}

/// State of a list in one source.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ListState {
    /// Set, and read.
    Set,
    /// Not set anywhere: Felix's default.
    Default,
    /// This source does not set it.
    NotSet,
    /// The value that wins does not parse.
    Invalid,
    /// No Felix runs.
    NotRunning,
    /// Nothing is known.
    Unknown,
}

/// A list in one of the four ways.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ListView {
    /// What is known.
    pub state: ListState,
    /// The entries, in order.
    pub entries: Vec<Entry>,
    /// Where the value comes from.
    pub source: Option<Source>,
    /// File and line.
    pub place: Option<Place>,
    /// The raw value, cut to a length fit for a message.
    pub raw: Option<String>,
    /// Every source that could override it was read.
    pub certain: bool,
}

impl ListView {
    const UNKNOWN: Self =
        Self { state: ListState::Unknown, entries: Vec::new(), source: None, place: None, raw: None, certain: false };

    /// Whether its entries are those Felix would use.
    #[must_use]
    pub fn is_known(&self) -> bool {
        matches!(self.state, ListState::Set | ListState::Default)
    }
}

/// Where one entry is present: `None` where that is unknown or, for a family, where the entry's net is of the other one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The entry.
    pub entry: Entry,
    /// In the list on disk.
    pub disk: Option<bool>,
    /// In the running Felix's list.
    pub running: Option<bool>,
    /// In the datastore's list.
    pub datastore: Option<bool>,
    /// In the kernel's IPv4 chain.
    pub kernel_ipv4: Option<bool>,
    /// In the kernel's IPv6 chain.
    pub kernel_ipv6: Option<bool>,
}

/// What is known of one family's chains.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum KernelState {
    /// The chain that decides was read.
    Programmed,
    /// The rules were listed, and there is no such chain: no host endpoint is in force, or Felix never ran.
    NotProgrammed,
    /// The rules were not listed.
    Unknown,
}

/// One list in all ways.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DirectionReport {
    /// What Felix reads at its next start.
    pub disk: ListView,
    /// What the running Felix has read.
    pub running: ListView,
    /// What the datastore says by itself.
    pub datastore: ListView,
    /// State of the IPv4 chain.
    pub kernel_ipv4: KernelState,
    /// State of the IPv6 chain.
    pub kernel_ipv6: KernelState,
    /// Every failsafe chain of this direction.
    pub kernel: Vec<KernelChain>,
    /// The matrix: every entry that is anywhere.
    pub entries: Vec<Row>,
    /// What the next restart changes, one a family whose chain is programmed.
    pub next_restart: Vec<Change>,
}

impl DirectionReport {
    /// State of a family's chain.
    #[must_use]
    pub fn kernel_state(&self, family: Family) -> KernelState {
        if family == Family::Ipv4 { self.kernel_ipv4 } else { self.kernel_ipv6 }
    }

    /// The chains that decide for new connections in `family`: the map of the eBPF dataplane, else the filter table's, or a
    /// fragment's.
    pub fn deciding(&self, family: Family) -> impl Iterator<Item = &KernelChain> {
        deciding(&self.kernel, family)
    }
}

/// A source and what is known about it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SourceReport {
    /// Its name in the snapshot.
    pub file: String,
    /// What it is.
    pub what: &'static str,
    /// `read`, `absent`, `not-looked-for` or `unreadable`.
    pub state: &'static str,
    /// Why it could not be read.
    pub why: Option<String>,
}

/// The failsafe lists of a host.
#[derive(Clone, Debug, Serialize)]
pub struct FailsafeReport {
    /// `hepguard/failsafe/v1`.
    pub schema: &'static str,
    /// This host's name to Felix.
    pub host: Option<String>,
    /// The list for traffic to the host.
    #[serde(rename = "in")]
    pub inbound: DirectionReport,
    /// The list for traffic from the host.
    #[serde(rename = "out")]
    pub outbound: DirectionReport,
    /// Whether Felix starts with what is on disk and in the datastore; `None` when nothing read stops it, but not every
    /// source was read.
    pub starts: Option<bool>,
    /// Everything wrong or worth knowing, the worst first.
    pub problems: Vec<Problem>,
    /// What could not be read or decided, so that a clean result is no clean bill.
    pub incomplete: Vec<String>,
    /// The sources.
    #[serde(rename = "sources")]
    pub source_files: Vec<SourceReport>,
    /// Whether Felix's eBPF dataplane is attached: then its maps decide, not chains. `None` when nobody looked.
    pub ebpf: Option<bool>,
    /// Every setting of Felix, for checks that ask about more than the lists.
    #[serde(skip)]
    pub sources: Sources,
}

impl FailsafeReport {
    /// One list.
    #[must_use]
    pub fn direction(&self, direction: Direction) -> &DirectionReport {
        match direction {
            Direction::In => &self.inbound,
            Direction::Out => &self.outbound,
        }
    }
}

/// Compares the lists in all four ways.
#[must_use]
pub fn compare(files: &SnapshotFiles, ruleset: &Ruleset, host: &Host) -> FailsafeReport {
    let sources = sources::read(files);
    let ebpf = bpf::is_attached(host, files);
    let maps = if ebpf == Some(true) { bpf::MAPS.map(|map| (map, bpf::told(files, map))).into() } else { Vec::new() };
    let direction = |direction| direction_report(&sources, files, ruleset, &maps, direction);
    let (inbound, outbound) = (direction(Direction::In), direction(Direction::Out));
    let source_files = sources
        .files
        .iter()
        .map(|source| {
            let (state, why) = match &source.state {
                Known::Read => ("read", None),
                Known::Absent => ("absent", None),
                Known::NotLooked => ("not-looked-for", None),
                Known::Unreadable(why) => ("unreadable", Some(why.clone())),
            };
            SourceReport { file: files.label(&source.file).to_owned(), what: source.what, state, why }
        })
        .collect();
    let mut report = FailsafeReport {
        schema: "hepguard/failsafe/v1",
        host: sources.host.clone(),
        starts: starts(&sources),
        inbound,
        outbound,
        problems: Vec::new(),
        incomplete: Vec::new(),
        source_files,
        ebpf,
        sources,
    };
    report.problems = problems::find(&report);
    report.incomplete = incomplete(&report, &maps);
    report
}

fn starts(sources: &Sources) -> Option<bool> {
    let World { environment_known, config_known, datastore_known, .. } = sources.disk;
    match sources.disk.starts() {
        false => Some(false),
        true => (environment_known && config_known && datastore_known && sources.disk.settings.unchecked.is_empty())
            .then_some(true),
    }
}

fn disk_was_read(sources: &Sources) -> bool {
    let local = |name: &str| name.starts_with("felix/") && name != "felix/environ";
    sources.files.iter().any(|source| local(&source.file) && source.state == Known::Read)
        || sources.disk.environment_known
        || sources.disk.config_known
}

fn direction_report(
    sources: &Sources,
    files: &SnapshotFiles,
    ruleset: &Ruleset,
    maps: &[(bpf::Map, bpf::Told)],
    direction: Direction,
) -> DirectionReport {
    let mut chains = kernel::chains(ruleset, direction);
    for (map, told) in maps {
        if let bpf::Told::Read(entries) = told {
            chains.push(bpf::as_chain(files, *map, entries, direction));
        }
    }
    let disk = if disk_was_read(sources) { view(&sources.disk, direction) } else { ListView::UNKNOWN };
    let running = match (&sources.running, files.files.get("felix/environ")) {
        (Some(world), _) => view(world, direction),
        (None, Some(FileState::Absent)) => {
            ListView { state: ListState::NotRunning, certain: true, ..ListView::UNKNOWN }
        }
        (None, _) => ListView::UNKNOWN,
    };
    let datastore = sources.datastore.as_ref().map_or(ListView::UNKNOWN, |world| {
        let mut view = view(world, direction);
        if view.state == ListState::Default {
            view = ListView { state: ListState::NotSet, source: None, entries: Vec::new(), ..view };
        }
        view
    });
    let map_of = |family| maps.iter().find(|(map, _)| map.family == family).map(|(_, told)| told);
    let state = |family| match deciding(&chains, family).next() {
        _ if matches!(map_of(family), Some(bpf::Told::Unknown(_))) => KernelState::Unknown,
        _ if matches!(map_of(family), Some(bpf::Told::None)) => KernelState::NotProgrammed,
        Some(_) if deciding(&chains, family).any(|chain| chain.withheld) => KernelState::Unknown,
        Some(_) => KernelState::Programmed,
        None if was_listed(files, ruleset, family) => KernelState::NotProgrammed,
        None => KernelState::Unknown,
    };
    let mut report = DirectionReport {
        kernel_ipv4: state(Family::Ipv4),
        kernel_ipv6: state(Family::Ipv6),
        disk,
        running,
        datastore,
        kernel: chains,
        entries: Vec::new(),
        next_restart: Vec::new(),
    };
    report.entries = changes::matrix(&report);
    report.next_restart = changes::next_restart(&report, sources);
    report
}

/// The list of one world.
fn view(world: &World, direction: Direction) -> ListView {
    let name = direction.param();
    let Some(setting) = world.settings.get(name) else { return ListView::UNKNOWN };
    // a value that does not parse wins over what stands below it: Felix never gets that far
    let fatal = world.settings.fatal.iter().filter(|fatal| fatal.param == name).max_by_key(|f| f.assignment.source);
    if let Some(fatal) = fatal.filter(|fatal| fatal.assignment.source >= setting.source) {
        return ListView {
            state: ListState::Invalid,
            entries: Vec::new(),
            source: Some(fatal.assignment.source),
            place: Some(fatal.assignment.place.clone()),
            raw: Some(cut(&fatal.assignment.value)),
            certain: world.is_certain(name),
        };
    }
    ListView {
        state: if setting.source == Source::Default { ListState::Default } else { ListState::Set },
        entries: world.settings.entries(name).unwrap_or_default(),
        source: Some(setting.source),
        place: setting.place,
        raw: setting.raw.as_deref().map(cut),
        certain: world.is_certain(name),
    }
}

/// `text`, cut to 400 characters.
fn cut(text: &str) -> String {
    match text.char_indices().nth(400) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
    }
}

fn deciding(chains: &[KernelChain], family: Family) -> impl Iterator<Item = &KernelChain> {
    let of = move |layer: Layer| chains.iter().filter(move |chain| chain.family == family && chain.table == layer);
    let first = [Layer::Map, Layer::Filter].into_iter().find(|layer| of(*layer).next().is_some());
    of(first.unwrap_or(Layer::Unknown))
}

/// Whether some listing of the family's rules was read, so that "no chain" is an answer.
fn was_listed(files: &SnapshotFiles, ruleset: &Ruleset, family: Family) -> bool {
    let four: [&str; 4] =
        ["iptables-save.txt", "iptables-legacy-save.txt", "iptables-nft-save.txt", "nft-ruleset.json"];
    let six: [&str; 4] =
        ["ip6tables-save.txt", "ip6tables-legacy-save.txt", "ip6tables-nft-save.txt", "nft-ruleset.json"];
    let names = if family == Family::Ipv4 { four } else { six };
    ruleset.tables.iter().any(|table| table.family == family && &*table.name != "?")
        || names.iter().any(|name| matches!(files.files.get(*name), Some(FileState::Present(_) | FileState::Absent)))
            && !ruleset.tables.iter().any(|table| &*table.name == "?")
}

/// What keeps a clean result from being a clean bill.
fn incomplete(report: &FailsafeReport, maps: &[(bpf::Map, bpf::Told)]) -> Vec<String> {
    let mut out = Vec::new();
    for source in &report.source_files {
        if let Some(why) = &source.why {
            out.push(format!("{} ({}) could not be read: {why}", source.file, source.what));
        }
    }
    for diagnostic in &report.sources.export.diagnostics {
        out.push(diagnostic.to_string());
    }
    for remark in &report.sources.export.undecided {
        out.push(format!("{}: {}", remark.place, remark.text));
    }
    if report.ebpf.is_none() && report.sources.disk.settings.bool("BPFEnabled") == Some(true) {
        out.push(
            "BPFEnabled is true, and whether Felix's BPF programs are attached is not known (bpf.json, tc.txt): where they \
             are, failsafe chains have no say"
                .to_owned(),
        );
    }
    for (map, told) in maps {
        if let bpf::Told::Unknown(why) = told {
            out.push(format!(
                "Felix's eBPF dataplane is attached, and its failsafe map {} ({}) was not read: {why}",
                map.name, map.family
            ));
        }
    }
    for direction in Direction::ALL {
        let lists = report.direction(direction);
        match (lists.disk.state, lists.disk.certain) {
            (ListState::Unknown, _) => out.push(format!(
                "the {direction} list on disk is unknown: neither environment file, unit nor felix.cfg is among the files"
            )),
            (_, false) => out.push(format!(
                "a source of the {direction} list that was not read may override {}",
                lists.disk.source.map_or("it", Source::name)
            )),
            _ => {}
        }
        for family in FAMILIES {
            if lists.kernel_state(family) == KernelState::Unknown && maps.is_empty() {
                out.push(format!(
                    "the {family} rules were not listed completely, so the {direction} {family} chain is unknown"
                ));
            }
        }
    }
    for assignment in &report.sources.disk.settings.unchecked {
        let name = &assignment.name;
        out.push(format!("{}: the value of {name} could stop Felix and is not checked", assignment.place));
    }
    out
}

#[cfg(test)]
mod tests;
