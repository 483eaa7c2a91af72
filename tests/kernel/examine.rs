//! The comparison: what the library says of each packet, and what the kernel did with it.

use std::collections::HashSet;
use std::fmt::Write as _;

use fastrand::Rng;
use hepguard::files::SnapshotFiles;
use hepguard::packet::{CtState, Direction};
use hepguard::space::Order;

use crate::draw::{Drawn, Pools};
use crate::firewall::{self, Firewall};
use crate::judge::{Judge, Listings};
use crate::lab::{Lab, Outcome};
use crate::sets::{Sets, facts};
use crate::tally::{Cell, Tally};
use crate::wire::Tag;

/// Disagreements described in full.
const SHOWN: usize = 3;
/// Every how manieth packet is held against the set engine, too.
const SETS_ASKED: usize = 4;
/// Times a packet that came to another end than the library says is sent again, alone: what the kernel left for later
/// under load has come by then.
const SECOND_LOOKS: u32 = 3;

/// Sends packets through firewalls, one after the other, in one namespace.
pub(crate) struct Examiner<'l> {
    lab: &'l mut Lab,
    empty: SnapshotFiles,
}

/// What came of a ruleset.
pub(crate) struct Examined {
    /// Its figures.
    pub(crate) tally: Tally,
    /// The first disagreements, so that they can be repeated.
    pub(crate) report: Option<String>,
}

impl<'l> Examiner<'l> {
    /// `lab` has no rules.
    pub(crate) fn new(lab: &'l mut Lab) -> Result<Self, String> {
        Ok(Self { lab, empty: firewall::list()? })
    }

    /// Draws `count` packets from all of `firewalls`, and asks kernel and library what each of these does with them.
    pub(crate) fn examine(&mut self, firewalls: &[Firewall], seed: u64, count: Tag) -> Result<Vec<Examined>, String> {
        let of = |firewall: &Firewall| Pools::of(&firewall.describe()).with_ethernet(self.lab.ethernet());
        let pools: Vec<Pools> = firewalls.iter().map(of).collect();
        let mut rng = Rng::with_seed(seed);
        let mut used = HashSet::new();
        let drawn = (1..=count).map(|tag| pools[usize::from(tag) % pools.len()].packet(&mut rng, tag));
        // a connection of one end with itself has no direction
        let drawn = drawn.filter(|drawn| drawn.ends().1[0] != drawn.ends().1[1]);
        let drawn: Vec<Drawn> = drawn.filter(|drawn| used.insert(drawn.ends())).collect();
        let drawn = self.control(drawn)?;
        let (mut examined, mut before) = (Vec::new(), Firewall::default());
        for firewall in firewalls {
            let told = |error| format!("{error}\nseed {seed}\n{}", firewall.describe());
            firewall.replace(&before).map_err(told)?;
            before = firewall.clone();
            // the set engine takes long for a single packet: it is asked about rulesets that stand alone
            let sets = firewalls.len() == 1;
            let mut one = self.compare(firewall, &drawn, sets).map_err(told)?;
            one.tally.excluded += u64::from(count) - drawn.len() as u64;
            examined.push(one);
        }
        before.unload()?;
        Ok(examined)
    }

    /// Sends every packet with no rules loaded and keeps those that pass in the state they were made for: of these, one
    /// that is not seen later was stopped by the rules. A state that follows from flags alone is taken as the kernel
    /// tells it.
    fn control(&mut self, drawn: Vec<Drawn>) -> Result<Vec<Drawn>, String> {
        self.lab.open_eyes()?;
        self.lab.connect(drawn.iter().filter_map(|one| one.connection.as_ref()))?;
        let outcomes = self.lab.volley(&drawn)?;
        let mut kept = Vec::new();
        for (mut one, outcome) in drawn.into_iter().zip(outcomes) {
            let Outcome::Passed(seen) = outcome else { continue };
            one.packet.direction = match (one.packet.direction, seen.leaving) {
                (Direction::Out, _) => Direction::Out,
                // broadcast and anycast addresses are the host's own too
                (_, false) => Direction::In,
                (_, true) => Direction::Forward,
            };
            if let Some(told) = &mut one.packet.oif {
                // told as routing chose it: for packets that stay inside, the loopback device
                *told = self.lab.interface(seen.oif).unwrap_or("lo").into();
            }
            let initial = CtState::NEW.union(CtState::INVALID).union(CtState::UNTRACKED);
            match one.connection {
                Some(_) if seen.state == one.packet.state => {}
                None if seen.state.intersects(initial) => {
                    one.packet.state = seen.state;
                    if seen.state != CtState::NEW {
                        one.packet.ct = Default::default();
                    }
                }
                _ => continue,
            }
            kept.push(one);
        }
        Ok(kept)
    }

    /// Sends `drawn` through `firewall`, which is loaded.
    fn compare(&mut self, firewall: &Firewall, drawn: &[Drawn], sets: bool) -> Result<Examined, String> {
        let listings = Listings::read(firewall.list_onto(&self.empty)?);
        let judge = listings.judge();
        let facts = facts(&listings.snapshot().host);
        let ruleset = &listings.snapshot().ruleset;
        let mut sets = sets.then(|| facts.each_ref().map(|facts| Sets::new(ruleset, facts, Order::Host)));
        self.lab.connect(drawn.iter().filter_map(|one| one.connection.as_ref()))?;
        let outcomes = self.lab.volley(drawn)?;
        let mut tally = Tally::default();
        tally.rulesets = 1;
        let mut told = Vec::new();
        for (number, (one, mut outcome)) in drawn.iter().zip(outcomes).enumerate() {
            let judgement = judge.judge(&one.packet);
            let mut agrees = judgement.allows(outcome);
            for _ in 0..SECOND_LOOKS {
                if agrees {
                    break;
                }
                outcome = self.again(one)?;
                agrees = judgement.allows(outcome);
                tally.second_looks += 1;
            }
            let cell = tally.cell(&one.packet, outcome);
            cell.add(Cell {
                verdicts: 1,
                passed: outcome.passed().into(),
                unknown: judgement.unknown().into(),
                wrong: (!agrees).into(),
            });
            if judgement.unknown() {
                tally.undecided(&judgement.because);
            }
            // the sets speak of packets without extension headers, and say so
            let plain = one.packet.details.extensions.as_ref().is_none_or(|all| all.is_empty());
            if let Some([four, six]) = sets.as_mut().filter(|_| plain && number % SETS_ASKED == 0) {
                let (may_pass, may_stop) = if one.packet.dst.is_ipv4() { four } else { six }.judge(&one.packet);
                if !(if outcome.passed() { may_pass } else { may_stop }) {
                    told.push(format!("--- the sets disagree\n{}", describe(one, outcome, &judge)));
                }
            }
            if !agrees {
                told.push(describe(one, outcome, &judge));
            }
        }
        told.extend(crate::idle::counted_dead(&listings, &Listings::read(firewall.list_onto(&self.empty)?)));
        if told.is_empty() {
            return Ok(Examined { tally, report: None });
        }
        let mut report = format!("{} disagreements of {} packets\n", told.len(), drawn.len());
        told.iter().take(SHOWN).for_each(|text| report += text);
        let _ =
            write!(report, "--- remarks of the readers\n{}\n--- ruleset\n{}", listings.remarks(), firewall.describe());
        Ok(Examined { tally, report: Some(report) })
    }

    /// Sends one packet alone.
    fn again(&mut self, one: &Drawn) -> Result<Outcome, String> {
        std::thread::sleep(std::time::Duration::from_millis(5));
        self.lab.connect(one.connection.iter())?;
        let outcomes = self.lab.volley(std::slice::from_ref(one))?;
        outcomes.first().copied().ok_or_else(|| "no outcome".to_owned())
    }
}

fn describe(one: &Drawn, outcome: Outcome, judge: &Judge<'_>) -> String {
    let Drawn { packet, extra, connection, .. } = one;
    format!("--- kernel: {outcome:?}\n{packet:?}\n{extra:?}\n{connection:?}\n{}", judge.explain(packet))
}
