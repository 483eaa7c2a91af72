//! The classes and edges of `hepguard matrix`, packet by packet: for every pair of hosts a SYN is sent, and it must get
//! through exactly when the class of the one may open connections to the class of the other.

use fastrand::Rng;
use hepguard::analysis::matrix::{self, Bound, Matrix, Query};
use hepguard::analysis::reach::{HostFacts, Way};
use hepguard::packet::{Direction, Family, Hook, Protocol};
use hepguard::ruleset::interface_number;

use crate::firewall::{self, Firewall};
use crate::harness::in_namespace;
use crate::judge::Listings;
use crate::lab::{Lab, Shot};
use crate::self_check::shot;

/// Hosts by the interface that leads to them.
pub(crate) const HOSTS: [(&str, &str); 10] = [
    ("ens5", "10.0.1.76"),
    ("ens5", "10.0.1.77"),
    ("ens5", "10.0.1.200"),
    ("ens5", "203.0.113.7"),
    ("eth1", "192.168.7.77"),
    ("eth1", "198.51.100.9"),
    ("docker0", "172.17.0.9"),
    ("docker0", "172.17.0.10"),
    ("docker0", "172.17.3.1"),
    ("cali0a1b2c3d4e5", "10.65.0.2"),
];

/// Rules about some of them, some of their networks, and interfaces.
pub(crate) fn rules(rng: &mut Rng) -> String {
    let policy = rng.choice(["ACCEPT", "DROP"]).expect("one");
    let mut text = format!("*filter\n:FORWARD {policy} [0:0]\n:web - [0:0]\n");
    let mut line = |rng: &mut Rng, chain: &str, targets: &[&str]| {
        let end = |rng: &mut Rng| {
            let (_, address) = rng.choice(HOSTS).expect("one");
            format!("{address}/{}", rng.choice([8, 16, 24, 31, 32, 32]).expect("one"))
        };
        text += &format!("-A {chain}");
        if rng.u8(0..4) > 0 {
            text += &format!(" -s {}", end(rng));
        }
        if rng.u8(0..4) > 0 {
            text += &format!(" -d {}", end(rng));
        }
        if rng.u8(0..5) == 0 {
            text += &format!(" -i {}", rng.choice(["ens5", "eth1", "cali+"]).expect("one"));
        }
        if rng.u8(0..5) == 0 {
            text += " -p tcp -m tcp --dport 22";
        }
        text += &format!(" -j {}\n", rng.choice(targets).expect("one"));
    };
    for _ in 0..10 {
        line(rng, "FORWARD", &["ACCEPT", "DROP", "web"]);
    }
    for _ in 0..4 {
        line(rng, "web", &["ACCEPT", "DROP", "RETURN"]);
    }
    text + "COMMIT\n"
}

fn class_of(matrix: &Matrix, address: &str) -> u32 {
    let address = address.parse().expect("an address");
    let holds = |class: &Vec<hepguard::packet::Prefix>| class.iter().any(|prefix| prefix.contains(address));
    matrix.classes.iter().position(holds).expect("every address has a class") as u32
}

/// Sends a packet between any two hosts; how many passed, and how many did not.
fn compare(firewall: &Firewall, totals: &mut [usize; 2]) {
    let mut lab = Lab::build().expect("a lab");
    firewall.load().expect("the rules load");
    let listings = Listings::read(firewall::list().expect("the rules are listed"));
    let snapshot = listings.snapshot();
    let facts = HostFacts::new(&snapshot.host, Family::Ipv4);
    lab.open_eyes().expect("the probe loads");
    for (iif, src) in HOSTS {
        for (oif, dst) in HOSTS.into_iter().filter(|(_, dst)| *dst != src) {
            let query = Query {
                protocol: Protocol::TCP,
                port: Some(22),
                source_port: 40_000,
                way: Way::At(Hook::Forward),
                hook: Hook::Forward,
                iif: Some(interface_number(iif.as_bytes())),
                oif: Some(interface_number(oif.as_bytes())),
                bound: Bound::Must,
            };
            let matrix = matrix::answer(&snapshot.ruleset, &facts, &query).expect("small");
            assert!(matrix.certain, "{}", firewall.describe());
            let edge = matrix.edges.contains(&(class_of(&matrix, src), class_of(&matrix, dst)));
            let mut shot: Shot = shot(Direction::Forward, Protocol::TCP, src, dst, 40_000, 22);
            shot.packet.iif = Some(iif.into());
            lab.reset_connections(std::slice::from_ref(&shot)).expect("no old connections");
            let outcome = lab.shoot(&shot).expect("the probe works");
            assert_eq!(outcome.passed(), edge, "{src} to {dst}: {outcome:?}\n{}", firewall.describe());
            totals[usize::from(edge)] += 1;
        }
    }
}

#[test]
fn packets_pass_exactly_along_the_edges() {
    for seed in 0..4 {
        let rules = || [rules(&mut Rng::with_seed(seed)), String::new()];
        for firewall in [
            Firewall { legacy: rules(), ..Firewall::default() },
            Firewall { xtables_nft: rules(), ..Firewall::default() },
        ] {
            in_namespace("matrix", || {
                let mut totals = [0; 2];
                compare(&firewall, &mut totals);
                println!("matrix, seed {seed}: {} passed, {} did not, as told", totals[1], totals[0]);
                assert!(totals.iter().all(|count| *count > 3), "both kinds: {totals:?}\n{}", firewall.describe());
            });
        }
    }
}
