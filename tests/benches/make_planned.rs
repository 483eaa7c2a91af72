//! Writes what `tests/benches/plan.sh` plans on: `make_planned FOLDER POLICIES`. A bastion with that many policies, in force and
//! exported, as Felix renders them; and files of changes beside it.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use hepguard::calico::predict::{Knowledge, Situation, predict};
use hepguard::packet::Family;
use hepguard::ruleset::{Ruleset, Set, print};
use hepguard::{collect, snapshot};

/// Address sets that rules speak of, and nets in each.
const SETS: usize = 12;
const NETS: usize = 200;

const HOST: &str = "\
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: bastion-ens5, labels: {role: bastion}}
spec: {node: bastion, interfaceName: ens5, expectedIPs: [10.0.1.10]}
---
apiVersion: projectcalico.org/v3
kind: Tier
metadata: {name: security}
spec: {order: 100}
---
apiVersion: projectcalico.org/v3
kind: ClusterInformation
metadata: {name: default}
spec: {calicoVersion: v3.30.1}
";

fn export(policies: usize) -> String {
    let mut text = HOST.to_owned();
    for set in 0..SETS {
        let nets: Vec<String> = (0..NETS).map(|net| format!("10.{}.{}.0/24", 64 + set, net)).collect();
        let _ = write!(
            text,
            "---\napiVersion: projectcalico.org/v3\nkind: GlobalNetworkSet\nmetadata: {{name: s{set}, labels: {{set: s{set}}}}}\nspec: {{nets: [{}]}}\n",
            nets.join(", ")
        );
    }
    for number in 0..policies {
        text.push_str(&policy(number, "Deny"));
    }
    text
}

/// A few rules of each kind: by set, by net, by port, in both directions.
fn policy(number: usize, verb: &str) -> String {
    let (set, port, net) = (number % SETS, 10_000 + number * 8, number % 200);
    format!(
        "---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {{name: security.p{number}}}
spec:
  tier: security
  order: {number}
  selector: role == 'bastion'
  types: [Ingress, Egress]
  ingress:
  - {{action: {verb}, protocol: TCP, source: {{nets: [10.200.{net}.0/24]}}, destination: {{ports: [{port}]}}}}
  - {{action: Allow, protocol: TCP, source: {{selector: set == 's{set}', namespaceSelector: global()}}, destination: {{ports: [{port}, {}]}}}}
  - {{action: Allow, protocol: UDP, source: {{selector: set == 's{set}', namespaceSelector: global(), notNets: [10.201.{net}.0/24]}}, destination: {{ports: [{port}]}}}}
  - {{action: Allow, protocol: ICMP, source: {{nets: [10.202.{net}.0/24, 10.203.{net}.0/24]}}}}
  egress:
  - {{action: Allow, protocol: TCP, destination: {{selector: set == 's{set}', namespaceSelector: global(), ports: ['{port}:{}']}}}}
  - {{action: {verb}, destination: {{nets: [10.204.{net}.0/24]}}}}
",
        port + 1,
        port + 7,
    )
}

fn ipset(set: &Set, into: &mut String) {
    let six = set.family == Some(Family::Ipv6);
    let _ = writeln!(into, "create {} hash:net family {}", set.name, if six { "inet6" } else { "inet" });
    for interval in set.elements.keys().filter_map(|key| key.first()) {
        let bits = (interval.high - interval.low + 1).ilog2();
        let net = match u32::try_from(interval.low) {
            Ok(low) if !six => format!("{}/{}", Ipv4Addr::from(low), 32 - bits),
            _ => format!("{}/{}", Ipv6Addr::from(interval.low), 128 - bits),
        };
        let _ = writeln!(into, "add {} {net}", set.name);
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("writable");
    for entry in fs::read_dir(from).expect("the demo's folder").flatten() {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(path, target).expect("writable");
        }
    }
}

#[allow(clippy::print_stdout, clippy::print_stderr, reason = "a tool")]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, policies] = arguments.as_slice() else {
        eprintln!("usage: make_planned FOLDER POLICIES");
        return ExitCode::from(2);
    };
    let (folder, policies) = (PathBuf::from(folder), policies.parse::<usize>().expect("a number"));
    let host = folder.join("host");
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/demo/after"), &host);
    for entry in fs::read_dir(host.join("calico")).expect("the export").flatten() {
        fs::remove_file(entry.path()).expect("removed");
    }
    let write = |path: PathBuf, text: &str| fs::write(path, text).expect("writable");
    write(host.join("calico/export.yaml"), &export(policies));
    let middle = policies / 2;
    write(folder.join("changed.yaml"), policy(middle, "Allow").trim_start_matches("---\n"));
    let new = policy(middle, "Deny").replace(&format!("security.p{middle}"), "security.new");
    write(folder.join("new.yaml"), new.trim_start_matches("---\n"));

    let read = snapshot::read(collect::saved(&host).expect("a snapshot"));
    let (known, nothing) = (Knowledge::running(&read.files), Ruleset::default());
    let written = predict(&Situation { ruleset: &nothing, host: &read.host, known: &known }, &known);
    assert!(written.unknown.is_empty(), "{:?}", written.unknown);
    let mut rules = 0;
    for (family, name) in [(Family::Ipv4, "iptables-legacy-save.txt"), (Family::Ipv6, "ip6tables-legacy-save.txt")] {
        let tables = written.ruleset.tables.iter().filter(|table| table.family == family);
        let text: String = tables.map(|table| print::iptables::table(table).expect("a listing")).collect();
        rules += text.lines().filter(|line| line.starts_with("-A ")).count();
        write(host.join(name), &text);
    }
    let mut sets = String::new();
    written.ruleset.ipsets.iter().for_each(|set| ipset(set, &mut sets));
    write(host.join("ipset-save.txt"), &sets);
    println!("{rules}");
    ExitCode::SUCCESS
}
