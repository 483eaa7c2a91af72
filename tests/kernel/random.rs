//! The differential fuzzer: random rulesets of every dialect, and packets that hit them where they decide.
//! `tests/kernel/README.md` says how to run it at length and how to repeat what it finds.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::examine::Examiner;
use crate::firewall::Firewall;
use crate::generate;
use crate::harness::in_namespaces;
use crate::lab::Lab;
use crate::tally::{Tally, head};

/// How rulesets are written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Dialect {
    Legacy,
    IptablesNft,
    Nft,
    Mixture,
    Opaque,
}

impl Dialect {
    const ALL: [(Self, &str); 5] = [
        (Self::Legacy, "iptables-legacy"),
        (Self::IptablesNft, "iptables-nft"),
        (Self::Nft, "nft"),
        (Self::Mixture, "legacy and nft"),
        (Self::Opaque, "opaque"),
    ];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(dialect, _)| *dialect == self).map_or("", |(_, name)| name)
    }

    /// The ruleset with this seed, in both families.
    fn ruleset(self, seed: u64) -> Firewall {
        let iptables = || both_families(seed);
        match self {
            Self::Legacy => {
                let (ipsets, legacy) = iptables();
                Firewall { ipsets, legacy, ..Firewall::default() }
            }
            Self::IptablesNft => {
                let (ipsets, xtables_nft) = iptables();
                Firewall { ipsets, xtables_nft, ..Firewall::default() }
            }
            Self::Opaque => {
                let (sets4, tables4) = generate::opaque_iptables(seed, true);
                let (sets6, tables6) = generate::opaque_iptables(seed, false);
                let xtables_nft = [tables4, tables6];
                Firewall { ipsets: sets4 + &sets6, xtables_nft, nft: generate::opaque_nft(seed), ..Firewall::default() }
            }
            Self::Nft => Firewall { nft: generate::nft(seed), ..Firewall::default() },
            Self::Mixture => {
                let (ipsets, legacy) = iptables();
                Firewall { ipsets, legacy, nft: generate::nft(seed), ..Firewall::default() }
            }
        }
    }
}

/// Both families of random iptables tables, and the sets they name.
pub(crate) fn both_families(seed: u64) -> (String, [String; 2]) {
    let (sets4, tables4) = generate::iptables(seed, true);
    let (sets6, tables6) = generate::iptables(seed, false);
    (sets4 + &sets6, [tables4, tables6])
}

/// A number from the environment; underscores may group its digits.
pub(crate) fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = text.replace('_', "").parse();
    Some(number.unwrap_or_else(|_| panic!("{name}: expected a number, found {text:?}")))
}

/// Rulesets that share their packets.
const GROUP: u64 = 4;
/// Disagreements described before the search ends early.
const REPORTS: usize = 20;

/// What is searched, from the environment.
struct Settings {
    /// Ends when so many packets are compared.
    verdicts: u64,
    /// Ends after so long.
    until: Option<Instant>,
    /// Packets drawn for each ruleset.
    packets: u16,
    /// Seed of the first ruleset.
    seed: u64,
    /// Namespaces side by side.
    workers: usize,
    /// One dialect instead of all.
    dialect: Option<Dialect>,
    /// Where to keep figures, to go on from there.
    state: Option<PathBuf>,
}

/// Where nothing else is said. Unoptimised builds of the library are slow: they look at less.
const VERDICTS: u64 = if cfg!(debug_assertions) { 300_000 } else { 2_000_000 };

impl Settings {
    fn read() -> Self {
        let text = |name: &str| std::env::var(format!("HEPGUARD_ORACLE_{name}")).ok();
        let number = |name: &str| setting(&format!("HEPGUARD_ORACLE_{name}"));
        let dialect = |name: String| {
            let found = Dialect::ALL.iter().find(|(_, known)| *known == name);
            found.unwrap_or_else(|| panic!("HEPGUARD_ORACLE_DIALECT: expected one of {:?}", Dialect::ALL)).0
        };
        let packets = number("PACKETS").unwrap_or(5_000);
        let seconds = number("SECONDS");
        Self {
            verdicts: number("VERDICTS").unwrap_or(if seconds.is_some() { u64::MAX } else { VERDICTS }),
            until: seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds)),
            packets: u16::try_from(packets).expect("HEPGUARD_ORACLE_PACKETS: at most 65535"),
            seed: number("SEED").unwrap_or(1),
            workers: number("WORKERS").map_or_else(
                || std::thread::available_parallelism().map_or(2, std::num::NonZero::get),
                |workers| usize::try_from(workers.clamp(1, 64)).unwrap_or(1),
            ),
            dialect: text("DIALECT").map(dialect),
            state: text("STATE").map(PathBuf::from),
        }
    }

    fn dialect(&self, group: u64) -> Dialect {
        // one group in seventeen has conditions that nobody can decide
        let turn = usize::try_from(group % 17).unwrap_or(0);
        let drawn = if turn == 16 { Dialect::Opaque } else { Dialect::ALL[turn % 4].0 };
        self.dialect.unwrap_or(drawn)
    }
}

/// What is known so far.
#[derive(Default)]
struct Search {
    /// The next group to look at.
    next: u64,
    /// Groups below this one are counted in `tallies`.
    counted: u64,
    /// Groups that came to an end before an earlier one.
    early: BTreeMap<u64, Tally>,
    tallies: BTreeMap<Dialect, Tally>,
    verdicts: u64,
    reports: Vec<String>,
    spent: Duration,
    saved: Option<Instant>,
}

impl Search {
    /// Counts a group, in order.
    fn count(&mut self, settings: &Settings, group: u64, tally: Tally) {
        self.verdicts += tally.total().verdicts;
        self.early.insert(group, tally);
        while let Some(tally) = self.early.remove(&self.counted) {
            self.tallies.entry(settings.dialect(self.counted)).or_default().add(&tally);
            self.counted += 1;
        }
    }

    fn save(&self, settings: &Settings, spent: Duration) -> std::io::Result<()> {
        let Some(path) = &settings.state else { return Ok(()) };
        let mut text = format!(
            "seed {} packets {}\ngroups {} {}\n",
            settings.seed,
            settings.packets,
            self.counted,
            spent.as_secs()
        );
        for (dialect, tally) in &self.tallies {
            let _ = write!(text, "dialect {}\n{}", dialect.name(), tally.write());
        }
        let new = path.with_extension("new");
        std::fs::write(&new, text)?;
        std::fs::rename(new, path)
    }

    /// Goes on where a search with the same settings stopped.
    fn resume(settings: &Settings) -> Self {
        let text = settings.state.as_ref().and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
        let mut search = Self::default();
        let mut dialect = None;
        for line in text.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            match words.as_slice() {
                ["seed", seed, "packets", packets] => assert!(
                    *seed == settings.seed.to_string() && *packets == settings.packets.to_string(),
                    "HEPGUARD_ORACLE_STATE: {line:?} is another search's"
                ),
                ["groups", counted, seconds] => {
                    search.counted = counted.parse().expect("a number of groups");
                    search.spent = Duration::from_secs(seconds.parse().expect("a number of seconds"));
                }
                ["dialect", ..] => {
                    let name = line.trim_start_matches("dialect ");
                    dialect = Dialect::ALL.iter().find(|(_, known)| *known == name).map(|(dialect, _)| *dialect);
                }
                _ => {
                    let read = dialect.and_then(|dialect| search.tallies.entry(dialect).or_default().read(line));
                    assert!(read.is_some(), "HEPGUARD_ORACLE_STATE: {line:?} is no figure of a search");
                }
            }
        }
        search.next = search.counted;
        search.verdicts = search.tallies.values().map(|tally| tally.total().verdicts).sum();
        search
    }

    /// The last lines of a search.
    fn table(&self, settings: &Settings, spent: Duration) -> String {
        let (mut text, mut all) = (String::new(), Tally::default());
        for (dialect, tally) in &self.tallies {
            text += &head(dialect.name());
            text += &tally.lines();
            text.push('\n');
            all.add(tally);
        }
        text += &head("all");
        let _ = write!(text, "{}", all.lines());
        let seconds = spent.as_secs_f64().max(0.001);
        let _ = writeln!(
            text,
            "\nseed {}, {} packets for each ruleset, {} drawn but not compared, {} sent again\n\
             {} disagreements in {} verdicts over {} rulesets; {:.0} s, {:.0} verdicts/s, {} workers",
            settings.seed,
            settings.packets,
            all.excluded,
            all.second_looks,
            all.total().wrong,
            all.total().verdicts,
            all.rulesets,
            seconds,
            all.total().verdicts as f64 / seconds,
            settings.workers
        );
        text
    }
}

/// One group of rulesets. The text tells of disagreements.
fn look(examiner: &mut Examiner<'_>, settings: &Settings, group: u64) -> (Tally, Option<String>) {
    let dialect = settings.dialect(group);
    let first = settings.seed + group * GROUP;
    let firewalls: Vec<Firewall> = (first..first + GROUP).map(|seed| dialect.ruleset(seed)).collect();
    let repeat = || {
        format!(
            "repeat with HEPGUARD_ORACLE_SEED={first} HEPGUARD_ORACLE_DIALECT='{}' HEPGUARD_ORACLE_PACKETS={} \
             HEPGUARD_ORACLE_VERDICTS=1\n",
            dialect.name(),
            settings.packets
        )
    };
    let (mut tally, mut told) = (Tally::default(), None);
    match examiner.examine(&firewalls, first, settings.packets) {
        Ok(examined) => {
            for one in examined {
                tally.add(&one.tally);
                told = told.or(one.report.map(|report| format!("{}, {report}{}", dialect.name(), repeat())));
            }
        }
        Err(error) => told = Some(format!("{}: {error}\n{}", dialect.name(), repeat())),
    }
    (tally, told)
}

/// Looks at groups until the search is over.
fn work(settings: &Settings, search: &Mutex<Search>, begun: Instant) {
    let mut lab = Lab::build().expect("a lab");
    lab.attach_ethernet("tap0", "10.9.0.1/24").expect("an Ethernet device");
    let mut examiner = Examiner::new(&mut lab).expect("an empty firewall");
    loop {
        let group = {
            let mut search = search.lock().expect("no worker panics while it counts");
            let over = search.verdicts >= settings.verdicts
                || settings.until.is_some_and(|until| Instant::now() >= until)
                || search.reports.len() >= REPORTS;
            if over {
                return;
            }
            search.next += 1;
            search.next - 1
        };
        let (tally, told) = look(&mut examiner, settings, group);
        let lost = told.is_some();
        let mut search = search.lock().expect("no worker panics while it counts");
        search.count(settings, group, tally);
        search.reports.extend(told);
        progress(settings, &search, begun);
        if search.saved.is_none_or(|saved| saved.elapsed() > Duration::from_secs(10)) {
            search.save(settings, search.spent + begun.elapsed()).expect("the figures are kept");
            search.saved = Some(Instant::now());
        }
        drop(search);
        if lost {
            // rules may be left over
            drop(examiner);
            lab.clear().expect("rules go");
            examiner = Examiner::new(&mut lab).expect("an empty firewall");
        }
    }
}

/// On a terminal, says how far it is.
#[expect(clippy::print_stderr, reason = "progress is for a terminal")]
fn progress(settings: &Settings, search: &Search, begun: Instant) {
    if std::io::stderr().is_terminal() {
        let goal = if settings.verdicts == u64::MAX { "?".to_owned() } else { settings.verdicts.to_string() };
        let wrong = search.reports.len();
        eprint!("\r{} of {goal} verdicts, {} s, {wrong} problems ", search.verdicts, begun.elapsed().as_secs());
    }
}

#[test]
fn random_rulesets_are_judged_as_the_kernel_judges_them() {
    let settings = Settings::read();
    let search = Mutex::new(Search::resume(&settings));
    let begun = Instant::now();
    if !in_namespaces("random rulesets", settings.workers, || work(&settings, &search, begun)) {
        return;
    }
    let search = search.into_inner().expect("no worker panics while it counts");
    let spent = search.spent + begun.elapsed();
    search.save(&settings, spent).expect("the figures are kept");
    println!("\n{}", search.table(&settings, spent));
    assert!(search.reports.is_empty(), "{}", search.reports.join("\n"));
    for (dialect, tally) in &search.tallies {
        let total = tally.total();
        let name = dialect.name();
        assert!(total.passed * 20 > total.verdicts && total.passed * 20 < total.verdicts * 19, "{name}: one-sided");
        let some_are_open = *dialect == Dialect::Opaque;
        assert!(some_are_open || total.unknown * 50 < total.verdicts, "{name}: too much is unknown");
    }
}
