//! Figures of a search, by hook, family and state.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use hepguard::analysis::trace::Undecided;
use hepguard::packet::{CtState, Direction, Packet};

use crate::generate::UNTRACKED_TOS;
use crate::lab::Outcome;

/// Figures of one kind of packet.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Cell {
    /// Packets compared.
    pub(crate) verdicts: u64,
    /// Of them the kernel let through.
    pub(crate) passed: u64,
    /// Undecided by the library.
    pub(crate) unknown: u64,
    /// Decided otherwise than the kernel did.
    pub(crate) wrong: u64,
}

impl Cell {
    /// Adds the figures of others.
    pub(crate) fn add(&mut self, other: Self) {
        self.verdicts += other.verdicts;
        self.passed += other.passed;
        self.unknown += other.unknown;
        self.wrong += other.wrong;
    }

    /// Percent of the verdicts that are undecided.
    pub(crate) fn unknown_percent(self) -> f64 {
        self.unknown as f64 * 100.0 / self.verdicts.max(1) as f64
    }

    fn columns(self) -> String {
        let stopped = self.verdicts - self.passed;
        let percent = self.unknown_percent();
        format!("{:>11} {:>10} {:>10} {percent:>8.3}% {:>6}", self.verdicts, self.passed, stopped, self.wrong)
    }
}

/// Reasons shown.
const REASONS: usize = 5;

/// Hook, IPv6, and place of the state in [`CtState::NAMES`].
type Kind = (&'static str, bool, usize);

/// Figures of one or more rulesets.
#[derive(Default, Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Rulesets loaded.
    pub(crate) rulesets: u64,
    /// Not compared: judged outside the firewall, or their connection could not be set up.
    pub(crate) excluded: u64,
    /// Packets sent again.
    pub(crate) second_looks: u64,
    cells: BTreeMap<Kind, Cell>,
    /// First reasons of undecided verdicts, numbers and addresses taken out.
    reasons: BTreeMap<String, u64>,
}

impl Tally {
    /// Where `packet` counts: by the state the kernel last gave it, where it was seen.
    pub(crate) fn cell(&mut self, packet: &Packet, outcome: Outcome) -> &mut Cell {
        let hook = HOOKS[packet.direction as usize];
        let state = match outcome {
            Outcome::Passed(seen) => seen.state,
            _ if packet.tos == Some(UNTRACKED_TOS) => CtState::UNTRACKED,
            _ => packet.state,
        };
        let state = CtState::NAMES.iter().position(|(known, _)| *known == state).unwrap_or(0);
        self.cells.entry((hook, packet.dst.is_ipv6(), state)).or_default()
    }

    /// Adds the figures of other rulesets.
    pub(crate) fn add(&mut self, other: &Self) {
        self.rulesets += other.rulesets;
        self.excluded += other.excluded;
        self.second_looks += other.second_looks;
        for (kind, cell) in &other.cells {
            self.cells.entry(*kind).or_default().add(*cell);
        }
        for (reason, count) in &other.reasons {
            *self.reasons.entry(reason.clone()).or_default() += count;
        }
    }

    /// Counts why a packet's verdict is undecided.
    pub(crate) fn undecided(&mut self, because: &[Undecided]) {
        let reason = because.first().map(|undecided| undecided.reason.as_str()).unwrap_or_default();
        let words = reason.split_ascii_whitespace().filter(|word| !word.contains(|c: char| c.is_ascii_digit()));
        let words: Vec<&str> = words.collect();
        *self.reasons.entry(words.join(" ")).or_default() += 1;
    }

    /// All packets together.
    pub(crate) fn total(&self) -> Cell {
        let mut total = Cell::default();
        self.cells.values().for_each(|cell| total.add(*cell));
        total
    }

    /// One line a kind, and one for all together.
    pub(crate) fn lines(&self) -> String {
        let mut text = String::new();
        for ((hook, v6, state), cell) in &self.cells {
            let family = if *v6 { "IPv6" } else { "IPv4" };
            let _ = writeln!(text, "{hook:<7} {family} {:<11} {}", CtState::NAMES[*state].1, cell.columns());
        }
        let rulesets = format!("{} rulesets", self.rulesets);
        let _ = writeln!(text, "{rulesets:<24} {}", self.total().columns());
        let mut reasons: Vec<_> = self.reasons.iter().collect();
        reasons.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        for (reason, count) in reasons.into_iter().take(REASONS) {
            let _ = writeln!(text, "  {count:>9} unknown: {reason:.58}");
        }
        text
    }

    /// Everything, for [`Self::read`].
    pub(crate) fn write(&self) -> String {
        let mut text = format!("rulesets {} {} {}\n", self.rulesets, self.excluded, self.second_looks);
        for ((hook, v6, state), Cell { verdicts, passed, unknown, wrong }) in &self.cells {
            let hook = HOOKS.iter().position(|known| known == hook).unwrap_or(0);
            let _ = writeln!(text, "cell {hook} {} {state} {verdicts} {passed} {unknown} {wrong}", u8::from(*v6));
        }
        for (reason, count) in &self.reasons {
            let _ = writeln!(text, "reason {count} {reason}");
        }
        text
    }

    /// Adds a line that [`Self::write`] made; `None` when it is not one.
    pub(crate) fn read(&mut self, line: &str) -> Option<()> {
        let (word, numbers) = line.split_once(' ')?;
        if word == "reason" {
            let (count, reason) = numbers.split_once(' ')?;
            *self.reasons.entry(reason.to_owned()).or_default() += count.parse::<u64>().ok()?;
            return Some(());
        }
        let numbers: Vec<u64> = numbers.split(' ').map(|number| number.parse().ok()).collect::<Option<_>>()?;
        match (word, numbers.as_slice()) {
            ("rulesets", [rulesets, excluded, second_looks]) => {
                self.rulesets += rulesets;
                self.excluded += excluded;
                self.second_looks += second_looks;
            }
            ("cell", [hook, v6, state, verdicts, passed, unknown, wrong]) => {
                let kind = (*HOOKS.get(usize::try_from(*hook).ok()?)?, *v6 == 1, usize::try_from(*state).ok()?);
                CtState::NAMES.get(kind.2)?;
                let cell = Cell { verdicts: *verdicts, passed: *passed, unknown: *unknown, wrong: *wrong };
                self.cells.entry(kind).or_default().add(cell);
            }
            _ => return None,
        }
        Some(())
    }
}

/// Names of [`Direction`]s, in their order.
const HOOKS: [&str; 3] = ["INPUT", "OUTPUT", "FORWARD"];
const _: () = assert!(Direction::In as usize == 0 && Direction::Out as usize == 1 && Direction::Forward as usize == 2);

/// The head of the table [`Tally::lines`] makes.
pub(crate) fn head(of: &str) -> String {
    format!("{of:<24} {:>11} {:>10} {:>10} {:>9} {:>6}\n", "verdicts", "passed", "stopped", "unknown", "wrong")
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Cell { verdicts, passed, unknown, wrong } = self.total();
        let (rulesets, excluded) = (self.rulesets, self.excluded);
        let stopped = verdicts - passed;
        write!(
            f,
            "{rulesets} rulesets, {verdicts} packets ({passed} passed, {stopped} stopped), {unknown} unknown, {wrong} \
             wrong; {excluded} drawn but not compared"
        )
    }
}

#[test]
fn figures_read_back_are_the_figures_written() {
    let mut tally = Tally { rulesets: 3, excluded: 4, second_looks: 1, ..Tally::default() };
    let cell = Cell { verdicts: 10, passed: 7, unknown: 1, wrong: 0 };
    tally.cells.insert(("FORWARD", true, 4), cell);
    tally.undecided(&[Undecided { rule: None, reason: "whether 10.0.0.1 is this host is not known".to_owned() }]);
    assert!(tally.lines().contains("1 unknown: whether is this host is not known"), "{}", tally.lines());
    let mut read = Tally::default();
    tally.write().lines().for_each(|line| read.read(line).expect("a line of figures"));
    assert_eq!(read, tally);
    assert_eq!(read.read("cell 9 0 0 1 1 1 1"), None, "no such hook");
    assert_eq!(read.read("some words"), None);
}
