//! The lab bastion with the same Felix in nftables mode: everything is told as it is on iptables.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::process::Command;

use hepguard::analysis::trace::{Engine, TraceOptions};
use hepguard::audit::audit;
use hepguard::calico::hash::appends;
use hepguard::calico::integrity::check;
use hepguard::calico::names::{meaning, nft_set_name};
use hepguard::calico::render::model::ruleset_tables;
use hepguard::calico::render::rule::{FelixRule, hashes};
use hepguard::calico::render::{RenderedTable, render};
use hepguard::files::{FileState, SnapshotFiles};
use hepguard::packet::{Direction, Family, Packet, Protocol};
use hepguard::ruleset::{Backend, RuleRef};
use hepguard::snapshot::{self, Snapshot};

use crate::{World, can_use_namespaces, files, input, sets, snapshot};

/// Felix's base chains in nftables mode: layer, hook, type, priority.
const BASES: [(&str, &str, &str, i32); 14] = [
    ("filter", "INPUT", "filter", 0),
    ("filter", "FORWARD", "filter", 0),
    ("filter", "OUTPUT", "filter", 0),
    ("raw", "PREROUTING", "filter", -300),
    ("raw", "OUTPUT", "filter", -300),
    ("mangle", "PREROUTING", "filter", -150),
    ("mangle", "INPUT", "filter", -150),
    ("mangle", "FORWARD", "filter", -150),
    ("mangle", "OUTPUT", "route", -150),
    ("mangle", "POSTROUTING", "filter", -150),
    ("nat", "PREROUTING", "nat", -100),
    ("nat", "INPUT", "nat", -100),
    ("nat", "OUTPUT", "nat", 110),
    ("nat", "POSTROUTING", "nat", 110),
];

/// What Felix sends to nft for the lab.
fn script(world: World, family: Family) -> String {
    let (word, address) = if family == Family::Ipv4 { ("ip", "ipv4_addr") } else { ("ip6", "ipv6_addr") };
    let mut text = format!("table {word} calico {{\n");
    for (name, kind, members) in sets(family) {
        let flags = if kind == "hash:net" { " flags interval;" } else { "" };
        let elements = match members.is_empty() {
            true => String::new(),
            false => format!(" elements = {{ {} }}", members.join(", ")),
        };
        text.push_str(&format!("set {} {{ type {address};{flags}{elements} }}\n", nft_set_name(&name)));
    }
    for (layer, hook, kind, priority) in BASES {
        let hooked = format!("type {kind} hook {} priority {priority}; policy accept;", hook.to_ascii_lowercase());
        text.push_str(&format!("chain {layer}-{hook} {{ {hooked} }}\n"));
    }
    for table in render(&input(world), family).expect("the lab's policies are simple") {
        layer(&table, family, &mut text);
    }
    text.push_str("}\n");
    text
}

fn layer(table: &RenderedTable, family: Family, text: &mut String) {
    let layer = table.name;
    let mut rules: BTreeMap<String, (String, Vec<FelixRule>)> = BTreeMap::new();
    let inserts = table.inserts.iter().map(|rule| (false, rule));
    for (appended, (kernel, rule)) in inserts.chain(table.appends.iter().map(|rule| (true, rule))) {
        let name = format!("{layer}-{kernel}");
        let hashed = if appended { appends(&name) } else { name.clone() };
        let key = if appended { format!("{name} appended") } else { name };
        rules.entry(key).or_insert_with(|| (hashed, Vec::new())).1.push(rule.clone());
    }
    for (chain, list) in &table.chains {
        let name = format!("{layer}-{chain}");
        rules.insert(name.clone(), (name, list.clone()));
    }
    for (key, (hashed, list)) in rules {
        let name = key.trim_end_matches(" appended");
        text.push_str(&format!("chain {name} {{\n"));
        let hashes = hashes(&hashed, list.iter().map(|rule| rule.nft_text(layer, family)));
        for (rule, hash) in list.iter().zip(hashes) {
            let comment = format!("cali:{hash}; {}", rule.comments.join(" "));
            text.push_str(&format!("{} comment \"{}\"\n", rule.nft_text(layer, family), comment.trim_end()));
        }
        text.push_str("}\n");
    }
}

/// What nft lists once it has loaded `script`.
fn listing(script: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("felix.nft"), script).expect("writable");
    let run = Command::new("timeout")
        .args(["60", "unshare", "-n", "sh", "-c", "nft -f felix.nft && nft -j list ruleset"])
        .current_dir(folder.path())
        .output()
        .expect("unshare runs");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    run.stdout
}

/// All of Felix's tables.
fn both(world: World) -> String {
    let arp = "table arp calico-arp {\nchain filter-OUTPUT { type filter hook output priority 0; policy accept; }\n}\n";
    script(world, Family::Ipv4) + &script(world, Family::Ipv6) + arp
}

/// The lab's files with this ruleset instead of its own.
fn on_nft(world: World, script: &str) -> SnapshotFiles {
    let mut files = files(world);
    for name in ["iptables-legacy-save.txt", "ip6tables-legacy-save.txt", "ipset-save.txt"] {
        files.files.insert(name.to_owned(), FileState::Absent);
    }
    files.files.insert("nft-ruleset.json".to_owned(), FileState::Present(listing(script)));
    files
}

/// Code, severity and title of what an audit finds.
fn findings(snapshot: &Snapshot) -> Vec<(&'static str, &'static str, String)> {
    let found = audit(snapshot).findings;
    found.into_iter().map(|finding| (finding.code, finding.severity.name(), finding.title)).collect()
}

/// What each rule of Felix's means, by table and chain as iptables has them.
fn meanings(snapshot: &Snapshot) -> BTreeMap<(Family, String), Vec<String>> {
    let mut said: BTreeMap<(Family, String), Vec<String>> = BTreeMap::new();
    let ruleset = &snapshot.ruleset;
    for (table, found) in ruleset.tables.iter().enumerate() {
        for (chain, content) in found.chains.iter().enumerate().filter(|(_, chain)| !chain.rules.is_empty()) {
            let layer = if &*found.name == "calico" { "" } else { &*found.name };
            let name = format!("{layer}-{}", content.name);
            let of = |rule| meaning(ruleset, RuleRef { table, chain, rule }).expect("every rule of the lab is Felix's");
            let words = (0..content.rules.len()).map(|rule| of(rule).to_string()).collect();
            said.insert((found.family, name.trim_start_matches('-').to_owned()), words);
        }
    }
    said
}

#[test]
fn felix_on_nftables_is_read_proven_and_told_as_on_iptables() {
    if !can_use_namespaces() {
        return;
    }
    for world in [World::Before, World::After] {
        let (iptables, nft) = (snapshot(world), snapshot::read(on_nft(world, &both(world))));
        let remarks: Vec<String> = nft.diagnostics.iter().map(ToString::to_string).collect();
        assert_eq!(remarks, Vec::<String>::new());
        let integrity = check(&nft.ruleset);
        assert_eq!(integrity.mismatches, Vec::new());
        assert!(integrity.rules > 300 && integrity.verified == integrity.rules, "{} rules", integrity.rules);
        assert_eq!(meanings(&nft), meanings(&iptables));
        assert_eq!(findings(&nft), findings(&iptables));
    }
}

#[test]
fn packets_meet_the_same_policy_on_nftables_as_on_iptables() {
    if !can_use_namespaces() {
        return;
    }
    let (iptables, nft) = (snapshot(World::Before), snapshot::read(on_nft(World::Before, &both(World::Before))));
    let engines = [Engine::new(&iptables.ruleset, &iptables.host), Engine::new(&nft.ruleset, &nft.host)];
    let bastion: IpAddr = "10.0.1.10".parse().expect("an address");
    let mut words = BTreeSet::new();
    for peer in ["10.0.1.30", "10.0.1.20", "203.0.113.7", "142.250.1.1", "192.0.2.130"] {
        let peer = peer.parse().expect("an address");
        for protocol in [Protocol::TCP, Protocol::UDP] {
            for port in [22, 53, 67, 68, 80, 179, 443, 6443, 8080] {
                let inward = Packet::first(Direction::In, protocol, (peer, 40000), (bastion, port));
                let inward = Packet { iif: Some("ens5".into()), ..inward };
                let outward = Packet::first(Direction::Out, protocol, (bastion, 40000), (peer, port));
                for packet in [inward, outward] {
                    let told = engines.each_ref().map(|engine| {
                        let trace = engine.trace(&packet, &TraceOptions::default());
                        let rule = trace.decided_by.and_then(|rule| meaning(engine.ruleset(), rule));
                        (trace.verdict, rule.map(|meaning| meaning.to_string()))
                    });
                    assert_eq!(told[0], told[1], "{packet:?}");
                    assert!(told[0].1.is_some(), "{packet:?}: {told:?}");
                    words.extend(told[0].1.clone());
                }
            }
        }
    }
    let said = |wanted: &str| words.iter().any(|words| words.contains(wanted));
    assert!(said("failsafe tcp:22") && said("end of tier security") && said("egress rule 1 (allow)"), "{words:?}");
}

/// A change made behind Felix's back: old words of its script and new ones, and what an audit says of it.
const BREAKS: [(&str, &str, &str, &str); 10] = [
    ("tcp dport { 179 }", "tcp dport { 1790 }", "HG301", "mangle-cali-failsafe-out"),
    (
        "chain filter-cali-INPUT {\n",
        "chain filter-cali-INPUT {\nip saddr 198.51.100.9 counter accept\n",
        "HG302",
        "filter-cali-INPUT",
    ),
    (
        "chain filter-INPUT {\ncounter jump",
        "chain filter-INPUT {\nip saddr 198.51.100.9 counter drop\ncounter jump",
        "HG303",
        "filter-INPUT",
    ),
    (
        "chain filter-INPUT {\ncounter jump",
        "chain filter-INPUT {\ntcp dport 8080 counter accept\ncounter jump",
        "HG602",
        "filter-INPUT",
    ),
    (
        "table ip calico {\n",
        "table inet host {\nchain early { type filter hook input priority -10; ip saddr 198.51.100.9 drop; }\n}\ntable ip calico {\n",
        "HG303",
        "early",
    ),
    (
        "table ip calico {\n",
        "table inet host {\nchain input { type filter hook input priority -10; limit rate 5/minute drop; }\n}\ntable ip calico {\n",
        "HG203",
        "tcp/22",
    ),
    (
        "table ip calico {\n",
        "table inet host {\nchain out { type filter hook output priority 5; udp dport 53 drop; }\n}\ntable ip calico {\n",
        "HG201",
        "udp/53",
    ),
    ("counter jump filter-cali-failsafe-out", "counter accept", "HG301", "filter-cali-th-ens5"),
    ("counter jump filter-cali-INPUT", "counter return", "HG301", "filter-INPUT"),
    (
        "chain raw-cali-PREROUTING {\n",
        "chain raw-cali-PREROUTING {\ntcp dport 80 notrack\n",
        "HG302",
        "raw-cali-PREROUTING",
    ),
];

#[test]
fn changes_behind_felix_are_found_on_nftables() {
    if !can_use_namespaces() {
        return;
    }
    let sound = both(World::Before);
    for (old, new, code, words) in BREAKS {
        assert!(sound.contains(old), "{old}");
        let mut files = on_nft(World::Before, &sound.replacen(old, new, 1));
        files.files.insert("resolv.conf".to_owned(), FileState::Present(b"nameserver 10.0.0.2\n".to_vec()));
        let found = findings(&snapshot::read(files));
        assert!(found.iter().any(|(known, _, title)| *known == code && title.contains(words)), "{new}: {found:#?}");
    }
}

#[test]
fn an_accept_in_a_chain_of_its_own_does_not_pass_felix_by() {
    if !can_use_namespaces() {
        return;
    }
    let early = "table inet host {\nchain early { type filter hook input priority -10; tcp dport 8080 accept; }\n}\n";
    let with = snapshot::read(on_nft(World::Before, &(early.to_owned() + &both(World::Before))));
    assert_eq!(findings(&with), findings(&snapshot(World::Before)));
}

#[test]
fn rules_gone_or_out_of_order_are_found_on_nftables() {
    if !can_use_namespaces() {
        return;
    }
    let sound = both(World::Before);
    let lines: Vec<&str> = sound.lines().collect();
    let first = lines.iter().position(|line| *line == "chain filter-cali-failsafe-in {").expect("the chain") + 1;
    let mut gone = lines.clone();
    gone.remove(first + 1);
    let mut swapped = lines;
    swapped.swap(first + 1, first + 2);
    for (lines, code) in [(gone, "HG306"), (swapped, "HG307")] {
        let found = findings(&snapshot::read(on_nft(World::Before, &(lines.join("\n") + "\n"))));
        let there = found.iter().any(|(known, _, title)| *known == code && title.contains("filter-cali-failsafe-in"));
        assert!(there, "{code}: {found:#?}");
    }
}

#[test]
fn what_the_host_has_become_is_found_on_nftables() {
    if !can_use_namespaces() {
        return;
    }
    let sound = on_nft(World::Before, &both(World::Before));
    let edited = |name: &str, old: &str, new: &str| {
        let mut files = sound.clone();
        let Some(FileState::Present(bytes)) = files.files.get(name) else { panic!("{name}") };
        let text = String::from_utf8(bytes.clone()).expect("text");
        assert!(text.contains(old), "{name}: {old}");
        files.files.insert(name.to_owned(), FileState::Present(text.replacen(old, new, 1).into_bytes()));
        files
    };
    let environment = |value: &str| {
        let old = "FELIX_FAILSAFEINBOUNDHOSTPORTS=\"tcp:0.0.0.0/0:22,udp:0.0.0.0/0:68,udp:0.0.0.0/0:53,tcp:0.0.0.0/0:179,tcp:0.0.0.0/0:80\"";
        edited("felix/calico.env", old, &format!("FELIX_FAILSAFEINBOUNDHOSTPORTS={value}"))
    };
    let mut second = sound.clone();
    let drops = "*filter\n:INPUT DROP [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT\nCOMMIT\n";
    second.files.insert("iptables-legacy-save.txt".to_owned(), FileState::Present(drops.as_bytes().to_vec()));
    let mut gone = sound.clone();
    gone.files.insert("felix/environ".to_owned(), FileState::Absent);
    let cases = [
        (edited("sockets.txt", "0.0.0.0:22    ", "0.0.0.0:2222  "), "HG101", "tcp/2222"),
        (environment("none"), "HG102", ""),
        (environment("tcp:0.0.0.0/0:22-25"), "HG106", ""),
        (second, "HG304", ""),
        (gone, "HG305", ""),
    ];
    for (files, code, words) in cases {
        let found = findings(&snapshot::read(files));
        assert!(found.iter().any(|(known, _, title)| *known == code && title.contains(words)), "{code}: {found:#?}");
    }
}

/// The values made of rendered rules are those that nft's listing of them is read as.
#[test]
fn rendered_rules_are_what_nft_lists() {
    if !can_use_namespaces() {
        return;
    }
    let files = on_nft(World::Before, &both(World::Before));
    let listed = snapshot::read(files).ruleset;
    for family in [Family::Ipv4, Family::Ipv6] {
        let rendered = render(&input(World::Before), family).expect("the lab's policies are simple");
        let made = ruleset_tables(&rendered, Backend::Nft, family).remove(0);
        let table = listed.tables.iter().find(|table| table.family == family && &*table.name == "calico");
        for chain in &table.expect("Felix's table").chains {
            let (_, own) = made.chain(&chain.name).unwrap_or_else(|| panic!("{} is missing", chain.name));
            assert_eq!(own.base, chain.base, "{}", chain.name);
            assert_eq!(own.rules.len(), chain.rules.len(), "{}", chain.name);
            for (made, read) in own.rules.iter().zip(&chain.rules) {
                assert_eq!((&made.steps, &made.comments, &made.text), (&read.steps, &read.comments, &read.text));
            }
        }
    }
}
