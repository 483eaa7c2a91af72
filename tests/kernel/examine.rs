//! The comparison: what the library says of each packet, and what the kernel did with it.

use std::fmt::Write as _;

use fastrand::Rng;
use hepguard::packet::{CtState, Direction};
use hepguard::space::Order;

use crate::draw::Pools;
use crate::firewall::{self, Firewall};
use crate::judge::{Judge, Listings};
use crate::lab::{Lab, Outcome, Shot};
use crate::sets::{Sets, facts};

/// Disagreements described in full before the search stops.
const SHOWN: usize = 5;
/// Every how manieth packet is held against the set engine, too.
const SETS_ASKED: usize = 4;

/// Figures of one or more rulesets.
#[derive(Default, Debug, Clone, Copy)]
pub(crate) struct Tally {
    /// Rulesets loaded.
    pub(crate) rulesets: usize,
    /// Packets compared.
    pub(crate) packets: usize,
    /// Of them the kernel let through.
    pub(crate) passed: usize,
    /// Certain, and as the kernel did.
    pub(crate) agreed: usize,
    /// Undecided by the library.
    pub(crate) unknown: usize,
    /// Not compared: judged outside the firewall, or their connection could not be set up.
    pub(crate) excluded: usize,
}

impl Tally {
    /// Adds the figures of another ruleset.
    pub(crate) fn add(&mut self, other: Self) {
        self.rulesets += other.rulesets;
        self.packets += other.packets;
        self.passed += other.passed;
        self.agreed += other.agreed;
        self.unknown += other.unknown;
        self.excluded += other.excluded;
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} rulesets, {} packets ({} passed, {} stopped), {} agreed, {} unknown; {} drawn but not compared",
            self.rulesets,
            self.packets,
            self.passed,
            self.packets - self.passed,
            self.agreed,
            self.unknown,
            self.excluded
        )
    }
}

/// Draws packets for `firewall`, asks kernel and library, and gives the figures. `Err` describes disagreements so that they
/// can be repeated.
pub(crate) fn examine(lab: &mut Lab, firewall: &Firewall, seed: u64, count: usize) -> Result<Tally, String> {
    let mut tally = Tally { rulesets: 1, ..Tally::default() };
    let pools = Pools::of(&firewall.describe());
    let mut rng = Rng::with_seed(seed);
    let drawn: Vec<Shot> = (0..count).map(|_| pools.shot(&mut rng)).collect();
    let shots = control(lab, drawn)?;
    tally.excluded = count - shots.len();
    firewall.load().map_err(|error| format!("{error}\nseed {seed}\n{}", firewall.describe()))?;
    let files = firewall::list()?;
    let listings = Listings::read(files);
    let judge = listings.judge();
    let facts = facts(&listings.snapshot().host);
    let ruleset = &listings.snapshot().ruleset;
    let mut sets = facts.each_ref().map(|facts| Sets::new(ruleset, facts, Order::Host));
    lab.open_eyes()?;
    lab.reset_connections(&shots)?;
    let mut disagreements = Vec::new();
    for (number, shot) in shots.iter().enumerate() {
        let outcome = lab.shoot(shot)?;
        let passed = matches!(outcome, Outcome::Passed(_) | Outcome::Doubled);
        let judgement = judge.judge(&shot.packet);
        tally.packets += 1;
        tally.passed += usize::from(passed);
        let possible = match outcome {
            _ if passed => judgement.may_pass,
            Outcome::Stopped(Some(_)) => judgement.may_reject,
            _ => judgement.may_stop,
        };
        // the set engine takes long for a single packet: it is asked about some
        if number % SETS_ASKED == 0 {
            let [four, six] = &mut sets;
            let (may_pass, may_stop) = if shot.packet.dst.is_ipv4() { four } else { six }.judge(&shot.packet);
            if !(if passed { may_pass } else { may_stop }) {
                disagreements.push(format!("--- the sets disagree\n{}", describe(shot, outcome, &judge)));
            }
        }
        match (possible, judgement.may_pass && judgement.may_stop) {
            (false, _) => disagreements.push(describe(shot, outcome, &judge)),
            (true, true) => tally.unknown += 1,
            (true, false) => tally.agreed += 1,
        }
    }
    firewall.unload()?;
    if disagreements.is_empty() {
        return Ok(tally);
    }
    let mut report = format!("{} disagreements of {} packets, seed {seed}\n", disagreements.len(), tally.packets);
    for text in disagreements.iter().take(SHOWN) {
        report += text;
    }
    let _ = write!(report, "--- remarks of the readers\n{}\n--- ruleset\n{}", listings.remarks(), firewall.describe());
    Err(report)
}

/// Sends every packet with no rules loaded and keeps those that pass in the state they were made for: of these, one that
/// is not seen later was stopped by the rules. A state that follows from flags alone is taken as the kernel tells it.
fn control(lab: &mut Lab, drawn: Vec<Shot>) -> Result<Vec<Shot>, String> {
    let mut used = std::collections::HashSet::new();
    let drawn: Vec<Shot> = drawn.into_iter().filter(|shot| used.insert(shot.connection())).collect();
    lab.open_eyes()?;
    lab.reset_connections(&drawn)?;
    let mut kept = Vec::new();
    for mut shot in drawn {
        let Outcome::Passed(seen) = lab.shoot(&shot)? else { continue };
        shot.packet.direction = match (shot.packet.direction, seen.leaving) {
            (Direction::Out, _) => Direction::Out,
            // broadcast and anycast addresses are the host's own too
            (_, false) => Direction::In,
            (_, true) => Direction::Forward,
        };
        if let Some(told) = &mut shot.packet.oif {
            // told as routing chose it: for packets that stay inside, the loopback device
            *told = lab.interface(seen.oif).unwrap_or("lo").into();
        }
        let initial = CtState::NEW.union(CtState::INVALID).union(CtState::UNTRACKED);
        match shot.entry {
            Some(_) if seen.state == shot.packet.state => {}
            None if seen.state.intersects(initial) => {
                shot.packet.state = seen.state;
                if seen.state != CtState::NEW {
                    shot.packet.ct = Default::default();
                }
            }
            _ => continue,
        }
        kept.push(shot);
    }
    lab.close_eyes()?;
    Ok(kept)
}

fn describe(shot: &Shot, outcome: Outcome, judge: &Judge<'_>) -> String {
    let Shot { packet, extra, entry } = shot;
    format!("--- kernel: {outcome:?}\n{packet:?}\n{extra:?}\n{entry:?}\n{}", judge.explain(packet))
}
