//! Random rulesets of every dialect. `HEPGUARD_ORACLE_SECONDS` makes each test search that long instead of its fixed number of
//! rulesets, and `HEPGUARD_ORACLE_SEED` chooses where it starts.

use std::time::{Duration, Instant};

use crate::examine::{Tally, examine};
use crate::firewall::Firewall;
use crate::generate;
use crate::harness::in_namespace;
use crate::lab::Lab;

/// Packets drawn for each ruleset.
const PACKETS: usize = 300;

pub(crate) fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}: expected a number, found {text:?}")))
}

fn search(name: &str, rulesets: u64, make: impl Fn(u64) -> Firewall + Send + Sync) {
    in_namespace(name, || {
        let first = setting("HEPGUARD_ORACLE_SEED").unwrap_or(1);
        let until = setting("HEPGUARD_ORACLE_SECONDS").map(|seconds| Instant::now() + Duration::from_secs(seconds));
        let mut lab = Lab::build().expect("a lab");
        let mut total = Tally::default();
        let mut seed = first;
        while until.map_or(seed < first + rulesets, |until| Instant::now() < until) {
            match examine(&mut lab, &make(seed), seed, PACKETS) {
                Ok(tally) => total.add(tally),
                Err(report) => panic!("{name}: {report}\nrepeat with HEPGUARD_ORACLE_SEED={seed}"),
            }
            seed += 1;
        }
        println!("{name}: {total}");
        assert!(total.passed * 20 > total.packets && total.passed * 20 < total.packets * 19, "one-sided: {total}");
        assert!(total.unknown * 50 < total.packets, "too much is unknown: {total}");
    });
}

/// Both families of random iptables tables, and the sets they name.
pub(crate) fn both_families(seed: u64) -> (String, [String; 2]) {
    let (sets4, tables4) = generate::iptables(seed, true);
    let (sets6, tables6) = generate::iptables(seed, false);
    (sets4 + &sets6, [tables4, tables6])
}

#[test]
fn random_legacy_tables_are_judged_as_the_kernel_judges_them() {
    search("random iptables-legacy", 40, |seed| {
        let (ipsets, legacy) = both_families(seed);
        Firewall { ipsets, legacy, ..Firewall::default() }
    });
}

#[test]
fn random_iptables_nft_tables_are_judged_as_the_kernel_judges_them() {
    search("random iptables-nft", 40, |seed| {
        let (ipsets, xtables_nft) = both_families(seed);
        Firewall { ipsets, xtables_nft, ..Firewall::default() }
    });
}

#[test]
fn random_native_tables_are_judged_as_the_kernel_judges_them() {
    search("random nft", 70, |seed| Firewall { nft: generate::nft(seed), ..Firewall::default() });
}

#[test]
fn random_tables_of_all_kinds_together_are_judged_as_the_kernel_judges_them() {
    search("random mixture", 30, |seed| {
        let (ipsets, legacy) = both_families(seed);
        Firewall { ipsets, legacy, nft: generate::nft(seed), ..Firewall::default() }
    });
}
