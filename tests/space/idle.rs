//! Rules that no packet hits: against every packet of a small universe, one by one, and against random packets.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;

use fastrand::Rng;
use hepguard::analysis::rules::{Limits, Outcome, Why, judge};
use hepguard::analysis::trace::{Engine, RuleOutcome, StepKind, TraceOptions, TraceStep, TraceVerdict};
use hepguard::packet::{CtState, Direction, Hook, Packet, Protocol};
use hepguard::ruleset::{RuleRef, Ruleset, Step, Verdict};
use hepguard::snapshot::Snapshot;

use crate::against_trace::{Words, read};
use crate::generate;

/// Every address rules speak of, and one they do not.
const ADDRESSES: [&str; 4] = ["10.0.0.0", "10.0.0.1", "10.0.0.2", "192.0.2.9"];
const NETS: [&str; 6] = ["10.0.0.0/32", "10.0.0.1/32", "10.0.0.2/32", "10.0.0.0/31", "10.0.0.0/30", "10.0.0.2/31"];
/// 22 to 80, one in between, one outside.
const PORTS: [u16; 4] = [22, 50, 80, 9];
const INTERFACES: [&str; 4] = ["eth0", "eth1", "eth2", "wlan0"];
const STATES: [CtState; 5] =
    [CtState::NEW, CtState::ESTABLISHED, CtState::RELATED, CtState::INVALID, CtState::UNTRACKED];

/// A forward chain and two that it calls, of conditions that the universe tells apart.
fn ruleset(rng: &mut Rng) -> String {
    let policy = rng.choice(["ACCEPT", "DROP"]).expect("one");
    let mut text = format!("*filter\n:FORWARD {policy} [0:0]\n:a - [0:0]\n:b - [0:0]\n");
    let mut line = |rng: &mut Rng, chain: &str, target: &str| {
        let _ = write!(text, "-A {chain}");
        for flag in ["-s", "-d"] {
            if rng.u8(..5) < 2 {
                let not = if rng.u8(..4) == 0 { "! " } else { "" };
                let _ = write!(text, " {not}{flag} {}", rng.choice(NETS).expect("one"));
            }
        }
        if rng.u8(..6) == 0 {
            let _ = write!(text, " -i {}", rng.choice(["eth0", "eth1", "eth+"]).expect("one"));
        }
        match rng.u8(..6) {
            0 => text += " -p icmp",
            protocol @ 1..4 => {
                let name = if protocol == 3 { "udp" } else { "tcp" };
                let _ = write!(text, " -p {name} -m {name}");
                let ports = rng.choice(["", " --dport 22", " --dport 22:80", " ! --dport 80"]).expect("one");
                text += ports;
            }
            _ => {}
        }
        if rng.u8(..6) == 0 {
            let states = ["RELATED,ESTABLISHED", "NEW", "INVALID", "NEW,UNTRACKED"];
            let _ = write!(text, " -m conntrack --ctstate {}", rng.choice(states).expect("one"));
        }
        let _ = writeln!(text, " {target}");
    };
    let any = |rng: &mut Rng| {
        rng.choice(["-j ACCEPT", "-j ACCEPT", "-j DROP", "-j DROP", "-j RETURN", "-j LOG", "-j REJECT"]).expect("one")
    };
    for _ in 0..3 {
        let target = any(rng);
        line(rng, "FORWARD", target);
    }
    line(rng, "FORWARD", "-j a");
    line(rng, "FORWARD", "-g b");
    for chain in ["FORWARD", "a", "b"] {
        for _ in 0..4 {
            let target = any(rng);
            line(rng, chain, target);
        }
    }
    line(rng, "a", "-j b");
    text + "COMMIT\n"
}

fn universe() -> Vec<Packet> {
    let address = |text: &str| text.parse::<IpAddr>().expect("an address");
    let mut all = Vec::new();
    for (src, dst) in ADDRESSES.iter().flat_map(|src| ADDRESSES.iter().map(move |dst| (src, dst))) {
        for (protocol, ports) in [(Protocol::TCP, &PORTS[..]), (Protocol::UDP, &PORTS), (Protocol::ICMP, &[0])] {
            for port in ports {
                let ends = ((address(src), 40_000), (address(dst), *port));
                let mut packet = Packet::first(Direction::Forward, protocol, ends.0, ends.1);
                packet.icmp = (protocol == Protocol::ICMP).then_some((8, 0));
                for iif in INTERFACES {
                    packet.iif = Some(iif.into());
                    for state in STATES {
                        packet.state = state;
                        all.push(packet.clone());
                    }
                }
            }
        }
    }
    all
}

fn hits(steps: &[TraceStep], found: &mut BTreeSet<RuleRef>, open: &mut bool) {
    for step in steps {
        if let StepKind::Rule(place, outcome) = step.kind
            && outcome != RuleOutcome::Failed
        {
            *open |= outcome == RuleOutcome::Possible;
            found.insert(place);
        }
        hits(&step.inner, found, open);
    }
}

#[test]
fn a_rule_is_dead_exactly_when_no_packet_of_the_universe_hits_it() {
    let universe = universe();
    let (mut dead_rules, mut live_rules, mut redundant_rules) = (0, 0, 0);
    for seed in 0..24 {
        let text = ruleset(&mut Rng::with_seed(seed));
        let snapshot = read("", &[("iptables-legacy-save.txt", &text)]);
        let engine = Engine::new(&snapshot.ruleset, &snapshot.host);
        let (mut hit, mut open) = (BTreeSet::new(), false);
        let options = TraceOptions { at: Some(Hook::Forward), record: true, ..TraceOptions::default() };
        for packet in &universe {
            hits(&engine.trace(packet, &options).steps, &mut hit, &mut open);
        }
        assert!(!open, "everything can be decided\n{text}");
        let report = judge(&snapshot.ruleset, &snapshot.host, &Limits::default(), &|_| true);
        assert!(report.unjudged.is_empty(), "{report:?}");
        let dead: BTreeSet<RuleRef> = report.dead.iter().map(|dead| dead.place).collect();
        let all = snapshot.ruleset.tables.iter().enumerate().flat_map(|(table, content)| {
            content.chains.iter().enumerate().flat_map(move |(chain, content)| {
                (0..content.rules.len()).map(move |rule| RuleRef { table, chain, rule })
            })
        });
        for place in all {
            let rule = snapshot.ruleset.rule(place).map(|rule| &rule.text);
            assert_ne!(dead.contains(&place), hit.contains(&place), "seed {seed}: {place:?} {rule:?}\n{text}");
        }
        dead_rules += dead.len();
        live_rules += hit.len();
        redundant_rules += report.redundant.len();
        let verdicts = |ruleset: &Ruleset| -> Vec<TraceVerdict> {
            let engine = Engine::new(ruleset, &snapshot.host);
            universe.iter().map(|packet| engine.trace(packet, &options).verdict).collect()
        };
        let before = verdicts(&snapshot.ruleset);
        for one in report.redundant.iter().take(2) {
            let mut without = snapshot.ruleset.clone();
            without.tables[one.place.table].chains[one.place.chain].rules.remove(one.place.rule);
            assert!(verdicts(&without) == before, "seed {seed}: {one:?} changes something\n{text}");
        }
        check_causes(&snapshot, &universe, seed);
    }
    assert!(dead_rules > 20 && live_rules > 100, "both kinds: {dead_rules} dead, {live_rules} live");
    assert!(redundant_rules > 3, "some are redundant: {redundant_rules}");
}

/// A rule that is covered by others comes alive when its causes go, and one cause alone is not enough where two are named.
fn check_causes(snapshot: &Snapshot, universe: &[Packet], seed: u64) {
    let report = judge(&snapshot.ruleset, &snapshot.host, &Limits::default(), &|_| true);
    for dead in report.dead.iter().filter(|dead| dead.why == Why::Covered) {
        assert!(!dead.causes.is_empty(), "seed {seed}: {dead:?}");
        for cause in &dead.causes {
            assert!(cause.outcome != Outcome::Nothing, "seed {seed}: {cause:?} of {dead:?}");
            assert_ne!(cause.place, dead.place);
        }
        // without the causes and all else that may take its packets, something hits it
        let mut without = snapshot.ruleset.clone();
        for table in &mut without.tables {
            for (chain, content) in table.chains.iter_mut().enumerate() {
                for (rule, content) in content.rules.iter_mut().enumerate() {
                    let own = (chain, rule) == (dead.place.chain, dead.place.rule);
                    if let Some(Step::Verdict(verdict @ Verdict::Goto(_))) = content.steps.last_mut() {
                        *verdict = Verdict::Jump(content.text.rsplit(' ').next().expect("a chain").into());
                    } else if !own && content.target().is_none() {
                        content.steps.clear();
                    }
                }
            }
        }
        let engine = Engine::new(&without, &snapshot.host);
        let options = TraceOptions { at: Some(Hook::Forward), record: true, ..TraceOptions::default() };
        let alive = universe.iter().any(|packet| {
            let (mut hit, mut open) = (BTreeSet::new(), false);
            hits(&engine.trace(packet, &options).steps, &mut hit, &mut open);
            hit.contains(&dead.place)
        });
        assert!(alive, "seed {seed}: {dead:?} is not covered, it is impossible");
    }
}

#[test]
fn no_packet_hits_a_dead_rule_of_a_random_ruleset() {
    let (mut dead_rules, mut packets) = (0, 0);
    for seed in 100..116 {
        let (sets4, tables4) = generate::iptables(seed, true);
        let (sets6, tables6) = generate::iptables(seed, false);
        let ipsets = sets4 + &sets6;
        let listings = [("iptables-legacy-save.txt", &*tables4), ("ip6tables-legacy-save.txt", &*tables6)];
        let snapshot = read(&ipsets, &listings);
        let report = judge(&snapshot.ruleset, &snapshot.host, &Limits::default(), &|_| true);
        let dead: BTreeSet<RuleRef> = report.dead.iter().map(|dead| dead.place).collect();
        dead_rules += dead.len();
        let text = format!("{ipsets}{tables4}{tables6}");
        let (words, mut rng) = (Words::of(&text), Rng::with_seed(seed));
        let engine = Engine::new(&snapshot.ruleset, &snapshot.host);
        let options = TraceOptions { record: true, ..TraceOptions::default() };
        for _ in 0..250 {
            let packet = words.packet(&mut rng);
            let (mut hit, mut open) = (BTreeSet::new(), false);
            hits(&engine.trace(&packet, &options).steps, &mut hit, &mut open);
            if open {
                // a rule may then be told to match on a way that the packet does not take
                continue;
            }
            packets += hit.len();
            let wrong = hit.intersection(&dead).next();
            let rule = wrong.and_then(|place| snapshot.ruleset.rule(*place)).map(|rule| &rule.text);
            assert!(wrong.is_none(), "seed {seed}: {wrong:?} {rule:?}\n{packet:?}\n{text}");
        }
    }
    assert!(dead_rules > 20 && packets > 500, "{dead_rules} dead rules, {packets} hits");
}
