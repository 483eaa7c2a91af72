//! Every packet at once, on real office firewalls and on hosts in Felix's shape: `cargo bench --bench office -- DIR`, or
//! `HEPGUARD_OFFICE=DIR`.
//!
//! `DIR` is a checkout of github.com/diekmann/net-network, or any folder of `iptables-save` and `ip6tables-save` outputs. Its
//! files are read where they are; nothing of them is kept. The hosts are made up (`felix_shape`). Prints cpu seconds of one thread and the memory each answer took
//! at most, beyond what was there before. Without a folder it measures the made-up hosts alone, and says so.

#![expect(clippy::print_stdout, reason = "the figures are what it is run for")]

mod felix_shape;
#[path = "../fuzz/memory.rs"]
mod memory;

use std::path::Path;

use hepguard::analysis::diff::{Wanted, compare};
use hepguard::analysis::matrix::{self, Bound, Query};
use hepguard::analysis::reach::conversation::Question;
use hepguard::analysis::reach::peers;
use hepguard::analysis::reach::{Engine, HostFacts, Settings, Way, cuts};
use hepguard::analysis::rules::{self, Limits};
use hepguard::files::{FileState, SnapshotFiles};
use hepguard::packet::{CtState, Family, Hook, Protocol};
use hepguard::ruleset::Interval;
use hepguard::snapshot::{self, Snapshot};
use hepguard::space::bdd::{Bdd, Built};
use hepguard::space::header::Header;
use hepguard::space::layout::STATES;
use hepguard::space::{Dimension, Order, Set, address_width, line, ranges};

#[global_allocator]
static MEMORY: memory::Counting = memory::Counting::new();

/// Listings with fewer rules are no offices.
const LEAST_RULES: usize = 2_000;

/// A listing of a firewall, read.
struct Office {
    name: String,
    family: Family,
    rules: usize,
    snapshot: Snapshot,
}

fn main() {
    let given = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    match given.or_else(|| std::env::var("HEPGUARD_OFFICE").ok()) {
        Some(folder) => measure_offices(&folder),
        None => println!("office: no firewalls: give the path of a checkout of github.com/diekmann/net-network"),
    }
    // 106 to 49,507 rules
    for policies in [9, 90, 200, 900, 4500] {
        measure_host(policies, Family::Ipv4);
    }
    measure_host(200, Family::Ipv6);
    measure_set(Family::Ipv4, 16);
    measure_set(Family::Ipv6, 32);
    measure_set(Family::Ipv6, 128);
}

/// One set of 100,000 random members, prefixes of this length or longer, by all bits of the address: as where no line of pieces
/// will do.
fn measure_set(family: Family, shortest: u32) {
    let width = address_width(family);
    let mut rng = fastrand::Rng::with_seed(1);
    let members = (0..100_000).map(|_| {
        let free = width - rng.u32(shortest.min(width)..=width);
        let low = rng.u128(..) >> (128 - width) >> free << free;
        Interval { low, high: low | ranges::mask(free) }
    });
    let members = ranges::joined(members.collect());
    measured(&format!("a set of {family} members from /{shortest} on"), || {
        let mut bdd = Bdd::new(Bdd::BUDGET);
        let bits: Built<Vec<Set>> = (0..u16::try_from(width).unwrap_or(128)).map(|bit| bdd.variable(bit)).collect();
        match bits.and_then(|bits| bdd.within(&bits, &members)) {
            Ok(_) => format!("{} intervals, {} nodes made", members.len(), bdd.nodes()),
            Err(too_large) => too_large.to_string(),
        }
    });
}

fn measure_offices(folder: &str) {
    let offices = offices(Path::new(folder));
    if offices.is_empty() {
        println!("office: no listing with {LEAST_RULES} rules or more in {folder}");
    }
    let mut last: [Option<&Office>; 2] = [None; 2];
    for office in &offices {
        println!("{}: {}, {} rules", office.name, office.family, office.rules);
        measured("matrix tcp/22", || services(office, 22));
        measured("matrix tcp/80", || services(office, 80));
        measured("everything FORWARD accepts", || accept_set(&office.snapshot, office.family, Hook::Forward));
        measured("rules that do nothing", || idle_rules(office));
        let before = &mut last[usize::from(office.family == Family::Ipv6)];
        if let Some(before) = before.replace(office) {
            measured("diff with the one before", || difference(before, office));
        }
    }
}

/// A host with policies: `reach in tcp/22` from the listings on, and everything INPUT accepts.
fn measure_host(policies: usize, family: Family) {
    let files = felix_shape::files(policies, family);
    let mut read = None;
    println!("{policies} policies, {family}");
    measured("reach in tcp/22, with reading", || {
        let snapshot = snapshot::read(files);
        let said = reachable(&snapshot, family);
        read = Some(snapshot);
        said
    });
    let Some(snapshot) = read else { return };
    measured("everything INPUT accepts", || accept_set(&snapshot, family, Hook::Input));
}

fn reachable(snapshot: &Snapshot, family: Family) -> String {
    let facts = HostFacts::new(&snapshot.host, family);
    let question = Question { outgoing: false, protocol: Protocol::TCP, port: Some(22), state: CtState::NEW };
    let rules: usize =
        snapshot.ruleset.tables.iter().flat_map(|table| &table.chains).map(|chain| chain.rules.len()).sum();
    match peers::answer(&snapshot.ruleset, &facts, &question, peers::Wanted::default()) {
        Ok(answer) => format!("{rules} rules, {} prefixes allowed", answer.all.allowed.total),
        Err(too_large) => too_large.to_string(),
    }
}

fn difference(before: &Office, after: &Office) -> String {
    let wanted = Wanted { families: vec![after.family], ..Wanted::default() };
    let diff = compare(&before.snapshot, &after.snapshot, &wanted);
    let told = diff.parts.iter().map(|part| match &part.changes {
        Ok(changes) => format!(
            "{:?}: {} gained, {} lost, {} undecided",
            part.way,
            changes.gained.len(),
            changes.lost.len(),
            changes.undecided.len()
        ),
        Err(too_large) => format!("{:?}: {too_large}", part.way),
    });
    told.collect::<Vec<_>>().join("; ")
}

/// Runs `work` and prints what it says and what it cost.
fn measured(name: &str, work: impl FnOnce() -> String) {
    let start = cpu_seconds();
    let (said, peak) = MEMORY.peak_of(work);
    let seconds = cpu_seconds() - start;
    println!("  {name:34} {seconds:7.3} s {:6.1} MB  {said}", peak as f64 / 1e6);
}

/// Cpu time of this thread, from the kernel's accounts.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text.split_whitespace().next().and_then(|word| word.parse::<f64>().ok());
    nanoseconds.expect("the kernel counts cpu time") / 1e9
}

fn services(office: &Office, port: u16) -> String {
    let facts = HostFacts::new(&office.snapshot.host, office.family);
    let query = Query {
        protocol: Protocol::TCP,
        port: Some(port),
        source_port: 10_000,
        way: Way::At(Hook::Forward),
        hook: Hook::Forward,
        iif: None,
        oif: None,
        bound: Bound::May,
    };
    match matrix::answer(&office.snapshot.ruleset, &facts, &query) {
        Ok(matrix) => format!("{} classes, {} edges", matrix.classes.len(), matrix.edges.len()),
        Err(too_big) => too_big.to_string(),
    }
}

/// The set of all packets of the hook that may get through: every field, every state.
fn accept_set(snapshot: &Snapshot, family: Family, hook: Hook) -> String {
    let facts = HostFacts::new(&snapshot.host, family);
    let order = if hook == Hook::Forward { Order::Forward } else { Order::Host };
    line::exactly(address_width(family), cuts(&snapshot.ruleset, &facts), |line| {
        let settings = Settings { order, line: line.cloned(), ..Settings::default() };
        let mut engine = Engine::new(&snapshot.ruleset, &facts, &settings);
        match accepted(&mut engine, hook) {
            Ok(set) => format!("{} nodes of {} made", engine.bdd().size(set), engine.bdd().nodes()),
            Err(too_large) => too_large.to_string(),
        }
    })
}

/// Every rule of every chain, with the causes of each dead one.
fn idle_rules(office: &Office) -> String {
    let report = rules::judge(&office.snapshot.ruleset, &office.snapshot.host, &Limits::default(), &|_| true);
    let why: Vec<String> = report.unjudged.iter().map(|one| one.why.clone()).collect();
    format!("{} of {} judged are dead; not judged: {why:?}", report.dead.len(), report.judged)
}

fn accepted(engine: &mut Engine<'_>, hook: Hook) -> Built<Set> {
    let mut all = Vec::new();
    for (number, state) in STATES.into_iter().enumerate() {
        let header = Header::open().in_state(state);
        let accepted = engine.accepted(Way::At(hook), header, Set::ALL)?;
        let encoder = engine.encoder();
        let class = encoder.layout.of_classes(&mut encoder.bdd, Dimension::State, |one| one == number)?;
        all.push(encoder.bdd.and(accepted, class)?);
    }
    engine.bdd().union(all)
}

/// Every listing in the folder that is large enough, by name.
fn offices(folder: &Path) -> Vec<Office> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for path in entries.flatten().map(|entry| entry.path()).filter(|path| !path.is_symlink()) {
            if path.is_dir() { &mut folders } else { &mut files }.push(path);
        }
    }
    files.sort();
    files.iter().filter_map(|path| office(path)).collect()
}

fn office(path: &Path) -> Option<Office> {
    let name = path.file_name()?.to_string_lossy().into_owned();
    let (family, kind) = match () {
        () if name.starts_with("iptables") => (Family::Ipv4, "iptables-save.txt"),
        () if name.starts_with("ip6tables") => (Family::Ipv6, "ip6tables-save.txt"),
        () => return None,
    };
    let text = std::fs::read(path).ok()?;
    // listings of `iptables -L` have no line of this form
    if !text.windows(8).any(|line| line == b"\n*filter") {
        return None;
    }
    let mut files = SnapshotFiles::default();
    files.files.insert(kind.to_owned(), FileState::Present(text));
    let snapshot = snapshot::read(files);
    let rules = snapshot.ruleset.tables.iter().flat_map(|table| &table.chains).map(|chain| chain.rules.len()).sum();
    (rules >= LEAST_RULES).then_some(Office { name, family, rules, snapshot })
}
