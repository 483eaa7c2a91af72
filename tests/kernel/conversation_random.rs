//! Random rulesets, and whole conversations through them: each packet must fare as the library foretells, in the state the
//! library foretells. `HEPGUARD_ORACLE_SECONDS` and `HEPGUARD_ORACLE_SEED` as in `random.rs`.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use fastrand::Rng;
use hepguard::packet::{Direction, Packet, Protocol};

use crate::dialogue::{self, Score, talk};
use crate::draw::Pools;
use crate::firewall::{self, Firewall};
use crate::generate;
use crate::harness::in_namespace;
use crate::judge::Listings;
use crate::lab::{Lab, Outcome};
use crate::random::{both_families, setting};

/// Conversations drawn for each ruleset.
const CONVERSATIONS: usize = 120;
/// Disagreements described in full before the search stops.
const SHOWN: usize = 3;

/// Figures of one or more rulesets.
#[derive(Default, Clone, Copy)]
struct Tally {
    rulesets: usize,
    conversations: usize,
    /// Let through as a whole by the kernel.
    works: usize,
    /// Stopped after the first packet.
    later: usize,
    unknown: usize,
    packets: usize,
    certain: usize,
}

impl Tally {
    fn add(&mut self, score: Score) {
        self.conversations += 1;
        self.works += usize::from(score.works);
        self.later += usize::from(!score.works && score.packets > 1);
        self.unknown += usize::from(!score.decided);
        self.packets += score.packets;
        self.certain += score.certain;
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { rulesets, conversations, works, later, unknown, packets, certain } = self;
        write!(
            f,
            "{rulesets} rulesets, {conversations} conversations ({works} work, {later} broken after the first packet, \
             {unknown} unknown), {packets} packets, {certain} of them certain"
        )
    }
}

/// First packets that open a whole conversation when no rules are loaded, each with an identifier of its own.
fn openings(lab: &mut Lab, rng: &mut Rng, pools: &Pools) -> Result<Vec<(Packet, u16)>, String> {
    lab.watch()?;
    lab.reset_connections(&[])?;
    let mut kept = Vec::new();
    let (mut ports, mut pairs) = (HashSet::new(), HashSet::new());
    for number in 0..CONVERSATIONS {
        let ipv4 = rng.bool();
        let mut first = pools.fresh(rng, ipv4);
        if !dialogue::speaks(&first) {
            continue;
        }
        // connections become permanent here: each has a source port of its own, so that NAT never has to move it
        while first.sport.is_some_and(|port| !ports.insert((first.protocol.0, port))) {
            first.sport = Some(rng.u16(1024..));
        }
        let portless = !first.protocol.has_ports() && !matches!(first.protocol, Protocol::ICMP | Protocol::ICMPV6);
        if portless && !pairs.insert((first.protocol.0, [first.src.min(first.dst), first.src.max(first.dst)])) {
            continue;
        }
        first.ct.original = None;
        first.ct.reply = None;
        let echo_id = u16::try_from(number + 1).expect("few conversations");
        let told = talk(lab, &Packet { oif: None, ..first.clone() }, echo_id)?;
        let Some(seen) = told.first().and_then(dialogue::Said::seen) else { continue };
        let whole = hepguard::analysis::conversation::script(&first).len();
        if told.len() < whole || told.iter().any(|said| !matches!(said.outcome, Outcome::Passed(_))) {
            continue;
        }
        first.direction = match (first.direction, seen.leaving) {
            (Direction::Out, _) => Direction::Out,
            (_, false) => Direction::In,
            (_, true) => Direction::Forward,
        };
        if let Some(told) = &mut first.oif {
            *told = lab.interface(seen.oif).unwrap_or("lo").into();
        }
        kept.push((first, echo_id));
    }
    lab.close_eyes()?;
    Ok(kept)
}

fn examine(lab: &mut Lab, firewall: &Firewall, seed: u64, tally: &mut Tally) -> Result<(), String> {
    let pools = Pools::of(&firewall.describe());
    let mut rng = Rng::with_seed(seed);
    let openings = openings(lab, &mut rng, &pools)?;
    firewall.load().map_err(|error| format!("{error}\nseed {seed}\n{}", firewall.describe()))?;
    let listings = Listings::read(firewall::list()?);
    let judge = listings.judge();
    lab.watch()?;
    lab.reset_connections(&[])?;
    tally.rulesets += 1;
    let mut disagreements = Vec::new();
    for (first, echo_id) in &openings {
        match dialogue::ask(lab, &judge, first, *echo_id) {
            Ok((_, score)) => tally.add(score),
            Err(report) => disagreements.push(report),
        }
    }
    firewall.unload()?;
    if disagreements.is_empty() {
        return Ok(());
    }
    let shown: String = disagreements.iter().take(SHOWN).map(|report| format!("--- {report}\n")).collect();
    Err(format!(
        "{} disagreements of {} conversations, seed {seed}\n{shown}--- remarks of the readers\n{}\n--- ruleset\n{}",
        disagreements.len(),
        openings.len(),
        listings.remarks(),
        firewall.describe()
    ))
}

fn search(name: &str, rulesets: u64, make: impl Fn(u64) -> Firewall + Send + Sync) {
    in_namespace(name, || {
        let first = setting("HEPGUARD_ORACLE_SEED").unwrap_or(1);
        let until = setting("HEPGUARD_ORACLE_SECONDS").map(|seconds| Instant::now() + Duration::from_secs(seconds));
        let mut lab = Lab::build().expect("a lab");
        let mut tally = Tally::default();
        let mut seed = first;
        while until.map_or(seed < first + rulesets, |until| Instant::now() < until) {
            if let Err(report) = examine(&mut lab, &make(seed), seed, &mut tally) {
                panic!("{name}: {report}\nrepeat with HEPGUARD_ORACLE_SEED={seed}");
            }
            seed += 1;
        }
        println!("{name}: {tally}");
        assert!(tally.works * 20 > tally.conversations, "hardly any conversation works: {tally}");
        assert!(tally.later * 50 > tally.conversations, "hardly any conversation breaks later: {tally}");
        assert!(tally.unknown * 8 < tally.conversations, "too much is unknown: {tally}");
    });
}

#[test]
fn conversations_through_random_legacy_tables_go_as_the_kernel_lets_them() {
    search("conversations, iptables-legacy", 20, |seed| {
        let (ipsets, legacy) = both_families(seed);
        Firewall { ipsets, legacy, ..Firewall::default() }
    });
}

#[test]
fn conversations_through_random_native_tables_go_as_the_kernel_lets_them() {
    search("conversations, nft", 20, |seed| Firewall { nft: generate::nft(seed), ..Firewall::default() });
}

#[test]
fn conversations_through_random_tables_of_both_kinds_go_as_the_kernel_lets_them() {
    search("conversations, mixture", 15, |seed| {
        let (ipsets, xtables_nft) = both_families(seed);
        Firewall { ipsets, xtables_nft, nft: generate::nft(seed), ..Firewall::default() }
    });
}
