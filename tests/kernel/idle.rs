//! Rules that no packet is said to hit: packets are sent, and the kernel's own counters of these rules stay at zero. Rules
//! that are said to be alive are hit where a packet for them is sent.

use std::collections::BTreeMap;

use fastrand::Rng;
use hepguard::analysis::rules::{Limits, judge};
use hepguard::packet::{Direction, Protocol};
use hepguard::ruleset::{RuleRef, Ruleset};

use crate::firewall::{self, Firewall};
use crate::harness::in_namespace;
use crate::judge::Listings;
use crate::lab::{Lab, Shot};
use crate::matrix::{HOSTS, rules};
use crate::self_check::shot;

/// What dead rules of `ruleset` the kernel has counted packets for in `counted`, the same ruleset listed later, in words.
pub(crate) fn counted_dead(listed: &Listings, counted: &Listings) -> Vec<String> {
    let snapshot = listed.snapshot();
    let report = judge(&snapshot.ruleset, &snapshot.host, &Limits::default(), &|_| true);
    let hit = |place: RuleRef| packets(&counted.snapshot().ruleset, place).filter(|count| *count > 0);
    let wrong = report.dead.iter().filter_map(|dead| {
        let rule = snapshot.ruleset.rule(dead.place)?;
        Some(format!(
            "--- {} packets hit a rule that is called dead ({:?}): {}\n",
            hit(dead.place)?,
            dead.why,
            rule.text
        ))
    });
    wrong.collect()
}

/// The kernel's counter of a rule.
fn packets(ruleset: &Ruleset, place: RuleRef) -> Option<u64> {
    ruleset.rule(place)?.counters.map(|counters| counters.packets)
}

/// Sends a SYN between any two hosts to each port; gives the listings before and after.
fn storm(firewall: &Firewall, ports: &[u16]) -> [Listings; 2] {
    let mut lab = Lab::build().expect("a lab");
    let empty = firewall::list().expect("the empty namespace is listed");
    firewall.load().expect("the rules load");
    let list = || Listings::read(firewall.list_onto(&empty).expect("the rules are listed"));
    let before = list();
    lab.open_eyes().expect("the probe loads");
    for (iif, src) in HOSTS {
        for (_, dst) in HOSTS.into_iter().filter(|(_, dst)| *dst != src) {
            for port in ports {
                let mut shot: Shot = shot(Direction::Forward, Protocol::TCP, src, dst, 40_000, *port);
                shot.packet.iif = Some(iif.into());
                lab.reset_connections(std::slice::from_ref(&shot)).expect("no old connections");
                lab.shoot(&shot).expect("the probe works");
            }
        }
    }
    [before, list()]
}

const BY_HAND: &str = "*filter
:FORWARD DROP [0:0]
:web - [0:0]
-A FORWARD -s 10.0.1.0/24 -j web
-A FORWARD -s 203.0.113.7/32 -p tcp -m tcp --dport 22 -j ACCEPT
-A FORWARD -s 203.0.113.0/24 -j DROP
-A FORWARD -s 203.0.113.7/32 -p tcp -m tcp --dport 22 -j DROP
-A FORWARD -s 203.0.113.128/25 -j ACCEPT
-A FORWARD -s 192.168.7.0/24 -d 172.17.0.0/16 -j ACCEPT
-A FORWARD -s 192.168.7.77/32 -d 172.17.0.9/32 -j REJECT
-A web -p tcp -m tcp --dport 22:80 -j ACCEPT
-A web -s 10.0.1.76/32 -p tcp -m tcp --dport 80 -j DROP
-A web -s 192.168.0.0/16 -j ACCEPT
-A web -p tcp -m tcp --dport 443 -j DROP
COMMIT
";

#[test]
fn the_kernel_never_counts_a_packet_for_a_dead_rule_and_counts_them_for_live_ones() {
    let text = || [BY_HAND.to_owned(), String::new()];
    for firewall in
        [Firewall { legacy: text(), ..Firewall::default() }, Firewall { xtables_nft: text(), ..Firewall::default() }]
    {
        in_namespace("dead rules by hand", || {
            let [before, after] = storm(&firewall, &[22, 80, 443]);
            assert_eq!(counted_dead(&before, &after), [""; 0], "{}", firewall.describe());
            let mut counted: BTreeMap<String, u64> = BTreeMap::new();
            for (table, content) in after.snapshot().ruleset.tables.iter().enumerate() {
                for (chain, content) in content.chains.iter().enumerate() {
                    for rule in 0..content.rules.len() {
                        let count = packets(&after.snapshot().ruleset, RuleRef { table, chain, rule });
                        let name = format!("{} {}", content.name, rule + 1);
                        counted.insert(name, count.expect("iptables counts"));
                    }
                }
            }
            let zero: Vec<&str> =
                counted.iter().filter(|(_, count)| **count == 0).map(|(name, _)| name.as_str()).collect();
            assert_eq!(zero, ["FORWARD 4", "FORWARD 5", "FORWARD 7", "web 2", "web 3"]);
            let report = {
                let snapshot = before.snapshot();
                judge(&snapshot.ruleset, &snapshot.host, &Limits::default(), &|_| true)
            };
            assert_eq!(report.dead.len(), zero.len(), "{report:?}");
            println!(
                "dead rules by hand: {} counted nothing, {} counted packets",
                zero.len(),
                counted.len() - zero.len()
            );
        });
    }
}

#[test]
fn the_kernel_never_counts_a_packet_for_a_dead_rule_of_random_rules() {
    for seed in 0..6 {
        let text = [rules(&mut Rng::with_seed(seed)), String::new()];
        let firewall = match seed % 2 {
            0 => Firewall { legacy: text, ..Firewall::default() },
            _ => Firewall { xtables_nft: text, ..Firewall::default() },
        };
        in_namespace("dead rules", || {
            let [before, after] = storm(&firewall, &[22]);
            assert_eq!(counted_dead(&before, &after), [""; 0], "{}", firewall.describe());
            let snapshot = before.snapshot();
            let report = judge(&snapshot.ruleset, &snapshot.host, &Limits::default(), &|_| true);
            println!("dead rules, seed {seed}: {} of {} dead", report.dead.len(), report.judged);
        });
    }
}
