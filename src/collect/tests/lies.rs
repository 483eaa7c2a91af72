//! Tools that fail, stop halfway or tell of different moments.

use super::{NFT, state, text, why};
use crate::collect::live;
use crate::files::{Doubt, FileState, SnapshotFiles};
use crate::ruleset::kernel::{KernelChain, KernelSet, KernelTable, KernelTables};
use crate::system::scripted::Scripted;

const SAVE: &str = "*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n";

fn kernel(generation: u32, names: &[&str]) -> KernelTables {
    let tables = names.iter().map(|name| KernelTable {
        family: "ip".to_owned(),
        name: (*name).to_owned(),
        chains: vec![KernelChain { name: "c".to_owned(), rules: 1, ..KernelChain::default() }],
        ..KernelTable::default()
    });
    KernelTables { generation, tables: tables.collect(), ..KernelTables::default() }
}

fn crash(host: &mut Scripted, line: &str) {
    host.fails(line, 0, "ended by signal 11");
    host.commands.get_mut(line).expect("just set").status = None;
}

fn doubt(files: &SnapshotFiles, name: &str) -> String {
    match files.doubts.get(name) {
        Some(Doubt::Partial(why)) => format!("partial: {why}"),
        Some(Doubt::Changed(why)) => format!("changed: {why}"),
        None => panic!("{name} is not doubted: {:?}", files.doubts),
    }
}

fn times(host: &Scripted, line: &str) -> usize {
    host.ran.borrow().iter().filter(|ran| *ran == line).count()
}

#[test]
fn listings_of_one_generation_are_taken_once() {
    let mut host = Scripted::default();
    host.kernel.get_mut().push(kernel(7, &["filter"]));
    host.command("nft -j list ruleset", NFT);
    host.command("iptables-nft-save -c", SAVE);
    let files = live(&host);
    assert_eq!((times(&host, "nft -j list ruleset"), files.doubts.len()), (1, 0));
    assert!(text(&files, "nft-kernel.json").contains("\"generation\":7"));
}

#[test]
fn rules_that_change_meanwhile_are_listed_again_at_most_three_times() {
    for (generations, takes, doubted) in [(2, 2, false), (3, 3, false), (4, 3, true)] {
        let mut host = Scripted::default();
        host.kernel.get_mut().extend((1..=generations).map(|generation| kernel(generation, &["filter"])));
        host.command("nft -j list ruleset", NFT);
        host.command("iptables-nft-save -c", SAVE);
        let files = live(&host);
        assert_eq!(times(&host, "nft -j list ruleset"), takes, "{generations}");
        assert_eq!(files.doubts.contains_key("iptables-nft-save.txt"), doubted, "{generations}");
        // nft's own listing is of one generation; the kernel's count of another is not held against it
        assert!(!files.doubts.contains_key("nft-ruleset.json"));
        assert_eq!(files.files.contains_key("nft-kernel.json"), !doubted);
    }
}

#[test]
fn rules_that_never_stand_still_for_the_kernels_count_are_changing() {
    let mut host = Scripted { restless: true, ..Scripted::default() };
    host.command("nft -j list ruleset", NFT);
    host.command("iptables-nft-save -c", SAVE);
    let files = live(&host);
    assert!(doubt(&files, "iptables-nft-save.txt").starts_with("changed: "));
    assert_eq!(times(&host, "iptables-nft-save -c"), 3);
}

#[test]
fn legacy_tables_are_saved_twice_and_compared_without_their_counters() {
    let line = "iptables-legacy-save -c";
    let rule = |number: u32| format!("*filter\n:INPUT ACCEPT [{number}:9]\n[{number}:9] -A INPUT -j ACCEPT\nCOMMIT\n");
    let mut host = Scripted::default();
    host.file("/proc/net/ip_tables_names", "filter\n");
    host.command(line, &rule(2));
    host.says_first(line, &[&rule(1)]);
    assert!(live(&host).doubts.is_empty());
    assert_eq!(times(&host, line), 2);

    // changed during the first round, at rest in the second
    host.says_first(line, &[SAVE]);
    host.ran.get_mut().clear();
    assert!(live(&host).doubts.is_empty());
    assert_eq!(times(&host, line), 4);

    host.says_first(line, &[SAVE, &rule(1), SAVE, &rule(1), SAVE, &rule(1)]);
    let files = live(&host);
    assert!(doubt(&files, "iptables-legacy-save.txt").starts_with("changed: the rules changed each of the 3 times"));
}

#[test]
fn where_nft_dies_of_one_table_the_others_are_listed() {
    let mut host = Scripted::default();
    host.kernel.get_mut().push(kernel(1, &["good", "bad", "od; d"]));
    crash(&mut host, "nft -j list ruleset");
    host.command("nft -j list table ip good", NFT);
    crash(&mut host, "nft -j list table ip bad");
    crash(&mut host, "nft -j list chain ip bad c");
    let files = live(&host);
    assert_eq!(text(&files, "nft-ruleset.json"), format!("{NFT}\n"));
    let doubt = doubt(&files, "nft-ruleset.json");
    let expected = "partial: 'nft -j list ruleset' was ended by signal 11; it was listed table by table without \
                    chain ip bad c, chain ip od; d c";
    assert_eq!(doubt, expected);
    assert!(!host.ran.borrow().iter().any(|line| line.contains(';')), "a table's name is no command");
}

#[test]
fn nft_that_fails_without_a_second_opinion_leaves_the_rules_unknown() {
    let mut host = Scripted::default();
    crash(&mut host, "nft -j list ruleset");
    assert_eq!(why(&live(&host), "nft-ruleset.json"), "'nft -j list ruleset' was ended by signal 11");
    host.kernel.get_mut().push(kernel(1, &["bad"]));
    let files = live(&host);
    assert!(why(&files, "nft-ruleset.json").contains("signal 11"), "no part could be listed");
    assert!(files.doubts.is_empty());
}

#[test]
fn a_save_that_stops_halfway_is_kept_with_the_reason() {
    let mut host = Scripted::default();
    host.kernel.get_mut().push(kernel(1, &["filter"]));
    host.command("nft -j list ruleset", NFT);
    host.fails("iptables-nft-save -c", 3, "unknown meta key\n");
    host.commands.get_mut("iptables-nft-save -c").expect("just set").stdout =
        b"*filter\n:INPUT ACCEPT [0:0]\n".to_vec();
    let files = live(&host);
    assert_eq!(text(&files, "iptables-nft-save.txt"), "*filter\n:INPUT ACCEPT [0:0]\n");
    let doubt = doubt(&files, "iptables-nft-save.txt");
    assert_eq!(doubt, "partial: 'iptables-nft-save -c' failed with status 3: unknown meta key");
    // with nothing said there is nothing to keep
    host.fails("iptables-nft-save -c", 3, "");
    assert!(matches!(state(&live(&host), "iptables-nft-save.txt"), FileState::Unreadable(_)));
}

#[test]
fn large_sets_are_listed_without_their_members_and_the_others_with() {
    let mut host = Scripted::default();
    let mut tables = kernel(1, &["t"]);
    let set = |name: &str, elements, more| KernelSet { name: name.to_owned(), elements, more, map: name == "m" };
    tables.tables[0].sets =
        vec![set("big", 1_000_000, true), set("s", 10, false), set("m", 10, false), set("empty", 0, false)];
    host.kernel.get_mut().push(tables);
    host.command("nft -j -t list ruleset", NFT);
    host.command("nft -j list set ip t s", "{\"nftables\": [1]}");
    host.command("nft -j list map ip t m", "{\"nftables\": [2]}");
    let files = live(&host);
    assert_eq!(text(&files, "nft-ruleset.json"), format!("{NFT}{{\"nftables\": [1]}}\n{{\"nftables\": [2]}}\n"));
    let ran = host.ran.borrow();
    assert!(!ran.iter().any(|line| line == "nft -j list ruleset" || line.contains("big") || line.contains("empty")));
}

#[test]
fn a_registered_table_that_the_save_leaves_out_is_noticed() {
    let mut host = Scripted::default();
    host.file("/proc/net/ip_tables_names", "nat\nfilter\n");
    host.command("iptables-legacy-save -c", "*nat\nCOMMIT\n*filter\nCOMMIT\n");
    assert!(live(&host).doubts.is_empty());
    // exit status 0 and nothing said: what the tool says where no table exists
    host.command("iptables-legacy-save -c", "");
    let doubt = doubt(&live(&host), "iptables-legacy-save.txt");
    assert!(doubt.contains("leaves out the table nat, which /proc/net/ip_tables_names has"), "{doubt}");
}

#[test]
fn members_that_ipset_save_leaves_out_are_noticed() {
    let mut host = Scripted::default();
    host.command("ipset save", "create a hash:ip family inet\nadd a 10.0.0.1\n");
    host.command("ipset list -t", "Name: a\nHeader: family inet\nNumber of entries: 1\n");
    assert!(live(&host).doubts.is_empty());
    host.command("ipset list -t", "Name: a\nHeader: family inet\nNumber of entries: 2\n");
    let files = live(&host);
    assert!(doubt(&files, "ipset-save.txt").contains("shows 1 of the 2 members of a"));
    assert_eq!(times(&host, "ipset save"), 1 + 3, "perhaps it was only changing");
    let snapshot = crate::snapshot::read(files);
    assert!(snapshot.ruleset.ipsets.iter().all(|set| set.incomplete.is_some()));
}

#[test]
fn each_of_several_environment_files_keeps_its_own_text() {
    let mut host = Scripted::default();
    let unit = "[Service]\nEnvironmentFile=/etc/felix/extra.env\nEnvironmentFile=/etc/calico/calico.env\n\
                EnvironmentFile=/a/same.env\nEnvironmentFile=/b/same.env\nEnvironmentFile=-/etc/felix.d/*.conf\n";
    host.file("/etc/systemd/system/calico-felix.service", unit);
    host.file("/etc/felix/extra.env", "FELIX_A=extra\n");
    host.file("/etc/calico/calico.env", "FELIX_B=calico\n");
    host.file("/a/same.env", "FELIX_C=a\n");
    host.file("/b/same.env", "FELIX_C=b\n");
    host.file("/etc/felix.d/1.conf", "FELIX_D=1\n");
    host.file("/etc/felix.d/2.conf", "FELIX_D=2\n");
    host.file("/etc/felix.d/.3.conf", "FELIX_D=3\n");
    let files = live(&host);
    for (name, expected) in [
        ("extra.env", "FELIX_A=extra\n"),
        ("calico.env", "FELIX_B=calico\n"),
        ("a-same.env", "FELIX_C=a\n"),
        ("b-same.env", "FELIX_C=b\n"),
        ("*.conf", "FELIX_D=1\n\nFELIX_D=2\n\n"),
    ] {
        assert_eq!(text(&files, &format!("felix/{name}")), expected, "{name}");
    }
    let sources = crate::calico::settings::sources::read(&files);
    let given = |name: &str| {
        let all = sources.files.iter().filter(|file| file.what.contains("environment"));
        all.filter(|file| file.file.contains(name)).count()
    };
    assert!(["a-same.env", "b-same.env", "calico.env", "extra.env", "*.conf"].iter().all(|name| given(name) > 0));
}
