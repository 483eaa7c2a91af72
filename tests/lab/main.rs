//! The lab bastion of `src/demo`: its rules and sets are what Felix writes for its settings and policies.
//!
//! `HEPGUARD_UPDATE=1 cargo test --test lab` writes them anew; without it, drift between the renderer and the embedded
//! snapshots is a failure. One test loads them into a private network namespace with the real tools.

mod nft_mode;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hepguard::calico::integrity::check;
use hepguard::calico::names::{Action, Generation, PolicyName, meaning, selector_set_name, set_name};
use hepguard::calico::render::rule::ProtocolName;
use hepguard::calico::render::{
    Entity, HostEndpoint, Input, Policy, PolicyRule, SaveOptions, Settings, TierPolicies, render, save_text,
};
use hepguard::calico::settings::ports::parse_list;
use hepguard::files::FileState;
use hepguard::packet::{Family, PortRange};
use hepguard::ruleset::{Counters, RuleRef};

const INBOUND: &str = "tcp:0.0.0.0/0:22,udp:0.0.0.0/0:68,udp:0.0.0.0/0:53,tcp:0.0.0.0/0:179,tcp:0.0.0.0/0:80";
/// What the environment file says since the break; before it, the list began with [`SSH_OUT`].
const OUTBOUND: &str = "udp:0.0.0.0/0:53,udp:0.0.0.0/0:67,tcp:0.0.0.0/0:179,tcp:0.0.0.0/0:6443";
const SSH_OUT: &str = "tcp:0.0.0.0/0:22,";

const WORKER1: &str = "kubernetes.io/hostname == \"ip-10-0-1-30.ca-central-1.compute.internal\"";

/// Before Felix was restarted, and after.
#[derive(Clone, Copy, PartialEq, Eq)]
enum World {
    Before,
    After,
}

impl World {
    fn folder(self) -> PathBuf {
        let name = if self == Self::Before { "before" } else { "after" };
        Path::new(env!("CARGO_MANIFEST_DIR")).join("src/demo").join(name)
    }
}

fn policy(tier: &str, name: &str, ingress: Vec<PolicyRule>, egress: Vec<PolicyRule>) -> Policy {
    let name = PolicyName { kind: "GlobalNetworkPolicy".to_owned(), namespace: None, name: name.to_owned() };
    Policy { name, tier: tier.to_owned(), selector: None, staged: false, ingress, egress }
}

fn rule(action: Action, protocol: Option<&str>, selector: Option<&str>, ports: &[u16]) -> PolicyRule {
    PolicyRule {
        protocol: protocol.map(|name| ProtocolName::Name(name.to_owned())),
        destination: Entity {
            selector: selector.map(str::to_owned),
            ports: ports.iter().copied().map(PortRange::single).collect(),
            ..Entity::default()
        },
        ..PolicyRule::any(action)
    }
}

/// The lab's `security.hep-external` with the deny of its break 9.
fn hep_external() -> Policy {
    let allow = |protocol, selector, ports| rule(Action::Allow, protocol, selector, ports);
    let mut from_all = allow(None, None, &[]);
    from_all.source.selector = Some("all()".to_owned());
    let ingress = vec![
        allow(Some("tcp"), None, &[443]),
        allow(Some("udp"), None, &[68]),
        allow(Some("icmp"), None, &[]),
        from_all,
    ];
    let egress = vec![
        rule(Action::Deny, Some("tcp"), Some(WORKER1), &[22]),
        allow(None, Some("all()"), &[]),
        allow(Some("tcp"), Some("hep-external-domains == \"true\""), &[443]),
        allow(Some("icmp"), None, &[]),
        allow(None, Some("loopback-cidr == \"true\""), &[]),
        allow(Some("tcp"), None, &[53, 67]),
        allow(Some("udp"), None, &[53]),
        allow(Some("tcp"), Some("kube-api == \"true\""), &[6443]),
        allow(None, Some("external-ep == \"trusted-repos\""), &[]),
    ];
    policy("security", "security.hep-external", ingress, egress)
}

fn input(world: World) -> Input {
    let outbound = if world == World::Before { format!("{SSH_OUT}{OUTBOUND}") } else { OUTBOUND.to_owned() };
    let settings = Settings {
        flow_logs: true,
        failsafe_in: parse_list(INBOUND).expect("the lab's list"),
        failsafe_out: parse_list(&outbound).expect("the lab's list"),
        ..Settings::defaults(Generation::From332)
    };
    let tier = |name: &str, index| TierPolicies {
        tier: name.to_owned(),
        ingress: vec![index],
        egress: vec![index],
        default_pass: false,
    };
    let endpoint = HostEndpoint {
        interface: Some("ens5".to_owned()),
        tiers: vec![tier("security", 0), tier("default", 1)],
        ..HostEndpoint::default()
    };
    let policies = vec![hep_external(), policy("default", "default-deny", Vec::new(), Vec::new())];
    Input { settings, endpoints: vec![endpoint], policies, profiles: Vec::new() }
}

/// Members of the sets that selectors select in the lab's cluster, and of Felix's own.
fn sets(family: Family) -> Vec<(String, &'static str, Vec<&'static str>)> {
    let v4 = family == Family::Ipv4;
    let selected: [(&str, &[&str]); 6] = [
        (
            "all()",
            &[
                "10.0.1.10",
                "10.0.1.20",
                "10.0.1.30",
                "10.0.1.31",
                "10.48.116.157",
                "10.48.127.195",
                "10.48.127.224",
                "10.48.244.65",
                "127.0.0.0/8",
                "142.250.0.0/15",
                "192.0.2.128/25",
                "198.51.100.20",
            ],
        ),
        (WORKER1, &["10.0.1.30"]),
        ("hep-external-domains == \"true\"", &["142.250.0.0/15", "198.51.100.20"]),
        ("loopback-cidr == \"true\"", &["127.0.0.0/8"]),
        ("kube-api == \"true\"", &["10.0.1.20"]),
        ("external-ep == \"trusted-repos\"", &["192.0.2.128/25"]),
    ];
    let local = if v4 { vec!["10.0.1.10", "127.0.0.0", "127.0.0.1"] } else { vec!["::1", "fe80::5e:7aff:fe10:10a"] };
    let pools = if v4 { vec!["10.48.0.0/16"] } else { Vec::new() };
    let mut sets = vec![
        (set_name("dscp-src-net", family), "hash:net", Vec::new()),
        (set_name("network-ip-pools", family), "hash:net", pools),
        (set_name("this-host", family), "hash:ip", local),
    ];
    for (selector, members) in selected {
        let members = if v4 { members.to_vec() } else { Vec::new() };
        sets.push((selector_set_name(selector, family), "hash:net", members));
    }
    sets
}

/// The text of `ipset save`.
fn ipset_text() -> String {
    let mut text = String::new();
    for (family, word) in [(Family::Ipv4, "inet"), (Family::Ipv6, "inet6")] {
        for (number, (name, kind, members)) in (1u32..).zip(sets(family)) {
            let seed = 0x1f3a_5c00 + number;
            text.push_str(&format!(
                "create {name} {kind} family {word} hashsize 1024 maxelem 1048576 bucketsize 12 initval {seed:#010x}\n"
            ));
            for member in members {
                text.push_str(&format!("add {name} {member}\n"));
            }
        }
    }
    text
}

fn save_options(world: World, family: Family) -> SaveOptions {
    let minute = if world == World::Before { "16:21:29" } else { "16:31:29" };
    let version = if family == Family::Ipv4 { "iptables-save v1.8.7" } else { "ip6tables-save v1.8.7" };
    let frame = (
        format!("Generated by {version} on Thu Aug  4 {minute} 2022"),
        format!("Completed on Thu Aug  4 {minute} 2022"),
    );
    let mut counters = BTreeMap::new();
    let mut count = |chain: &str, rule: usize, packets: u64, bytes: u64| {
        counters.insert(("filter".to_owned(), chain.to_owned(), rule), Counters { packets, bytes });
    };
    if family == Family::Ipv4 {
        count("INPUT", 1, 918_204, 214_730_116);
        count("OUTPUT", 1, 871_977, 160_442_803);
        count("cali-fh-ens5", 1, 917_610, 214_690_882);
        count("cali-th-ens5", 1, 870_125, 160_310_447);
        count("cali-failsafe-in", 1, 311, 18_660);
        if world == World::Before {
            count("cali-failsafe-out", 1, 97, 5_820);
            count("cali-failsafe-out", 2, 1_204, 89_410);
        } else {
            count("cali-failsafe-out", 1, 36, 2_690);
        }
    }
    SaveOptions { frame: Some(frame), counters: Some(counters), ..SaveOptions::default() }
}

fn save_file(world: World, family: Family) -> String {
    let tables = render(&input(world), family).expect("the lab's policies are simple");
    save_text(&tables, family, &save_options(world, family))
}

/// The files that are made, with their content.
fn made(world: World) -> [(&'static str, String); 3] {
    [
        ("iptables-legacy-save.txt", save_file(world, Family::Ipv4)),
        ("ip6tables-legacy-save.txt", save_file(world, Family::Ipv6)),
        ("ipset-save.txt", ipset_text()),
    ]
}

#[test]
fn embedded_rules_are_what_felix_writes() {
    for world in [World::Before, World::After] {
        for (name, text) in made(world) {
            let path = world.folder().join(name);
            if std::env::var_os("HEPGUARD_UPDATE").is_some() {
                fs::write(&path, text).expect("writable source folder");
                continue;
            }
            let stored = fs::read_to_string(&path).expect(name);
            assert!(stored == text, "{} differs from the renderer: run with HEPGUARD_UPDATE=1", path.display());
        }
    }
}

#[test]
fn the_break_changes_the_outbound_failsafe_list_alone() {
    let (before, after) = (save_file(World::Before, Family::Ipv4), save_file(World::After, Family::Ipv4));
    let rules = |text: &str| -> Vec<String> {
        let of = |line: &str| line.split_once(" -A ").map(|(_, rule)| rule.to_owned());
        text.lines().filter_map(of).filter(|rule| !rule.starts_with("cali-failsafe-out ")).collect()
    };
    assert_eq!(rules(&before), rules(&after));
    let entries = |text: &str| text.matches("-A cali-failsafe-out ").count();
    // filter and mangle hold the chain
    assert_eq!((entries(&before), entries(&after)), (10, 8));
    let v6 = save_file(World::Before, Family::Ipv6);
    assert_eq!(
        (entries(&v6), v6.matches(":cali-failsafe-in ").count()),
        (0, 1),
        "entries of 0.0.0.0/0 have no IPv6 rule"
    );
}

/// Whether this process may make namespaces; a missing tool or right is a failure in CI.
fn can_use_namespaces() -> bool {
    let tools = ["unshare", "ipset", "nft", "iptables-legacy-restore", "ip6tables-legacy-restore"];
    let there = tools.iter().all(|tool| Command::new(tool).arg("--version").stdout(Stdio::null()).status().is_ok());
    let able = there && Command::new("unshare").args(["-n", "true"]).status().is_ok_and(|status| status.success());
    assert!(able || std::env::var_os("CI").is_none(), "needs root, unshare, ipset, nft and the iptables-legacy tools");
    able
}

#[test]
fn real_tools_load_the_lab_and_print_the_same_rules() {
    if !can_use_namespaces() {
        return;
    }
    for world in [World::Before, World::After] {
        let script = "ipset restore -file ipset-save.txt && iptables-legacy-restore -w 10 iptables-legacy-save.txt && \
                      ip6tables-legacy-restore -w 10 ip6tables-legacy-save.txt && \
                      iptables-legacy-save && echo ==== && ip6tables-legacy-save && echo ==== && ipset save";
        let run = Command::new("timeout")
            .args(["60", "unshare", "-n", "sh", "-c", script])
            .current_dir(world.folder())
            .output()
            .expect("unshare runs");
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        let printed = String::from_utf8(run.stdout).expect("text");
        let parts: Vec<&str> = printed.split("====\n").collect();
        for (part, (name, text)) in parts.iter().zip(made(world)).take(2) {
            assert_eq!(rules_by_table(part), rules_by_table(&text), "{name}");
        }
        let members = |text: &str| {
            let mut lines: Vec<String> =
                text.lines().filter(|line| line.starts_with("add ")).map(str::to_owned).collect();
            lines.sort();
            lines
        };
        assert_eq!(members(parts.last().expect("three parts")), members(&ipset_text()));
    }
}

/// Declarations and rules of each table, without counters and remarks.
fn rules_by_table(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut tables: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('*') {
            current = name.to_owned();
        } else if let Some(chain) = line.strip_prefix(':') {
            let name = chain.split(" [").next().unwrap_or(chain);
            tables.entry(current.clone()).or_default().push(name.to_owned());
        } else if let Some(start) = line.find("-A ") {
            tables.entry(current.clone()).or_default().push(line[start..].to_owned());
        }
    }
    tables
}

/// The lab's files.
fn files(world: World) -> hepguard::files::SnapshotFiles {
    let mut files = hepguard::files::SnapshotFiles::default();
    let mut folders = vec![world.folder()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("the lab's folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(world.folder()).expect("below the folder").to_string_lossy().into_owned();
            files.files.insert(name, FileState::Present(fs::read(&path).expect("readable")));
        }
    }
    files
}

/// The lab's snapshot as the program reads it.
fn snapshot(world: World) -> hepguard::snapshot::Snapshot {
    hepguard::snapshot::read(files(world))
}

#[test]
fn the_lab_is_read_without_a_remark_and_proven_to_the_last_rule() {
    for world in [World::Before, World::After] {
        let snapshot = snapshot(world);
        let remarks: Vec<String> = snapshot.diagnostics.iter().map(ToString::to_string).collect();
        assert_eq!(remarks, Vec::<String>::new());
        let integrity = check(&snapshot.ruleset);
        assert_eq!(integrity.mismatches, Vec::new());
        assert!(integrity.rules > 300 && integrity.verified == integrity.rules, "{} rules", integrity.rules);
    }
}

#[test]
fn the_lab_speaks_in_its_authors_words() {
    let snapshot = snapshot(World::Before);
    let ruleset = &snapshot.ruleset;
    let said: Vec<(String, String)> = ruleset
        .tables
        .iter()
        .enumerate()
        .filter(|(_, table)| table.family == Family::Ipv4 && &*table.name == "filter")
        .flat_map(|(table, found)| {
            found.chains.iter().enumerate().flat_map(move |(chain, found)| {
                (0..found.rules.len()).map(move |rule| (found.name.to_string(), RuleRef { table, chain, rule }))
            })
        })
        .map(|(chain, place)| {
            let meaning = meaning(ruleset, place).expect("every rule of the lab is Felix's");
            (chain, serde_json::to_string(&meaning).expect("plain data"))
        })
        .collect();
    let of = |chain: &str| -> Vec<&str> {
        said.iter().filter(|(name, _)| name.starts_with(chain)).map(|(_, json)| json.as_str()).collect()
    };
    assert_eq!(of("cali-failsafe-out")[0], r#"{"kind":"failsafe","direction":"out","entry":"tcp:22"}"#);
    let deny = r#"{"kind":"policy","resource":"GlobalNetworkPolicy","policy":"security.hep-external","tier":"security","direction":"out","rule":0,"action":"deny"}"#;
    assert_eq!(of("cali-po-_")[..3], [deny; 3]);
    let last = r#"{"kind":"policy","resource":"GlobalNetworkPolicy","policy":"security.hep-external","tier":"security","direction":"out","rule":8,"action":"allow"}"#;
    assert_eq!(of("cali-po-_").last(), Some(&last));
    assert!(of("cali-th-ens5").contains(&r#"{"kind":"end-of-tier","tier":"security","direction":"out"}"#));
    assert!(of("cali-to-host-endpoint").contains(&r#"{"kind":"dispatch","interface":"ens5","direction":"out"}"#));
    assert_eq!(
        of("cali-po-gnp/default-deny"),
        [
            r#"{"kind":"policy","resource":"GlobalNetworkPolicy","policy":"default-deny","tier":"default","direction":"out"}"#
        ]
    );
}
