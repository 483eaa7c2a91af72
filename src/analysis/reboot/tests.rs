//! Boots of the lab with other files.

use super::*;
use crate::demo::World;
use crate::snapshot;

fn boot(files: &[(&str, &str)]) -> Rehearsal {
    let mut all = World::Before.files();
    for (name, text) in files {
        all.files.insert((*name).to_owned(), FileState::Present(text.as_bytes().to_vec()));
    }
    let snapshot = snapshot::read(all);
    rehearse(&snapshot, None)
}

fn kinds(boot: &Rehearsal) -> Vec<(ProblemKind, u32)> {
    boot.problems.iter().map(|problem| (problem.kind, problem.line)).collect()
}

#[test]
fn a_host_that_persists_nothing_is_open_until_felix_is_in_sync() {
    let boot = boot(&[]);
    assert!(boot.problems.is_empty() && boot.unknown.is_empty(), "{:?} {:?}", boot.problems, boot.unknown);
    assert!(boot.before_felix.expect("known").tables.is_empty());
    let after = boot.after_felix.expect("known");
    assert!(after.tables.iter().any(|table| table.chains.iter().any(|chain| &*chain.name == "cali-INPUT")));
}

#[test]
fn nobody_looked_is_not_nothing_there() {
    let boot = rehearse(&Snapshot::default(), None);
    assert!(boot.before_felix.is_none() && !boot.unknown.is_empty());
}

#[test]
fn a_missing_set_fails_its_table_and_those_behind_it() {
    let rules = "*raw\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n*filter\n:INPUT DROP [0:0]\n:cali-INPUT - [0:0]\n-A INPUT -m set --match-set gone src -j ACCEPT\nCOMMIT\n*nat\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n";
    let boot = boot(&[("persisted/rules.v4", rules)]);
    assert_eq!(kinds(&boot), [(ProblemKind::StaleFelix, 6), (ProblemKind::MissingSet, 7)]);
    assert_eq!(boot.stages[0].loads, ["ipv4 raw"]);
    assert!(
        boot.stages[0].note.as_deref().is_some_and(|note| note.contains("stops at table filter")),
        "{:?}",
        boot.stages
    );
    let with_set = [("persisted/rules.v4", rules), ("persisted/ipsets", "create gone hash:net family inet\n")];
    assert_eq!(self::boot(&with_set).stages[1].loads, ["ipv4 raw", "ipv4 filter", "ipv4 nat"]);
}

#[test]
fn names_disabled_units_and_other_languages_are_told() {
    let rules = "*filter\n:INPUT DROP [0:0]\n-A INPUT -s admin.example/32 -j ACCEPT\nCOMMIT\n";
    assert_eq!(kinds(&boot(&[("persisted/rules.v4", rules)])), [(ProblemKind::Hostname, 3)]);
    let disabled =
        [("persisted/rules.v4", rules), ("units/list.txt", "netfilter-persistent.service disabled enabled\n")];
    assert_eq!(kinds(&boot(&disabled)), [(ProblemKind::NotEnabled, 0)]);
    let skeleton = "#!/usr/sbin/nft -f\nflush ruleset\ntable inet filter {\n\tchain input {\n\t\ttype filter hook input priority filter;\n\t}\n}\n";
    let found = boot(&[("persisted/nftables.conf", skeleton)]);
    assert_eq!((kinds(&found), found.before_felix.is_some()), (vec![(ProblemKind::FlushRuleset, 2)], true));
    let dropping = skeleton.replace("priority filter;", "priority filter; policy drop;");
    let found = boot(&[("persisted/nftables.conf", &dropping)]);
    assert!(found.before_felix.is_none() && found.unknown[0].contains("nft's own language"), "{:?}", found.unknown);
}

#[test]
fn felix_comes_back_on_top_of_what_was_persisted() {
    let rules = "*filter\n:INPUT DROP [0:0]\n:mine - [0:0]\n-A INPUT -j mine\nCOMMIT\n";
    let after = boot(&[("persisted/rules.v4", rules)]).after_felix.expect("known");
    let filter =
        after.tables.iter().find(|table| table.family == Family::Ipv4 && &*table.name == "filter").expect("there");
    let (_, input) = filter.chain("INPUT").expect("there");
    let targets: Vec<&str> = input.rules.iter().filter_map(Rule::target).collect();
    assert_eq!(targets, ["cali-INPUT", "mine"]);
    assert_eq!(input.base.as_ref().map(|base| base.policy), Some(Policy::Drop));
}
