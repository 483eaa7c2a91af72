//! Foretold rules as the kernel has them: loaded by the real tools, and attacked.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use hepguard::analysis::trace::{Engine, TraceOptions, TraceVerdict};
use hepguard::calico::failsafe::Weight;
use hepguard::calico::predict::{Knowledge, Prediction, Situation, predict};
use hepguard::calico::resources::Resources;
use hepguard::calico::settings::{Assignment, Place, Settings, Source};
use hepguard::config::Protect;
use hepguard::packet::{Direction, Family, PortRange, Prefix, Protocol};
use hepguard::plan::impact::State;
use hepguard::plan::{Plan, Rehearsal, plan};
use hepguard::ruleset::{Backend, ChainKind, Ruleset, Set, Table, print};
use hepguard::snapshot::Snapshot;

use crate::cases::packet;
use crate::firewall::{self, Firewall};
use crate::harness::in_namespace;
use crate::judge::Listings;
use crate::lab::{Lab, Shot};

const HOST: &str = "
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: bastion, labels: {role: bastion}}
spec: {node: bastion, interfaceName: ens5, expectedIPs: [10.0.1.10]}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkSet
metadata: {name: admins, labels: {who: admins}}
spec: {nets: [10.0.1.64/26, 'fd00:1::/64']}
";

const BEFORE: &str = "
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: ways-in}
spec:
  selector: role == 'bastion'
  types: [Ingress]
  ingress:
  - {action: Allow, protocol: TCP, source: {selector: who == 'admins', namespaceSelector: global()}, destination: {ports: [2222]}}
  - {action: Allow, protocol: TCP, destination: {ports: [80, 443, 8000, 8001, 8002, 8003, 8004, 8005, 8006, 8007, 8008, 8009, 8010, 8011, 8012, 8013]}}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: ways-out}
spec:
  selector: role == 'bastion'
  order: 5
  types: [Egress]
  egress: [{action: Allow, protocol: UDP, destination: {notNets: [10.0.1.64/26]}}, {action: Allow, protocol: TCP}]
";

/// Web only from two nets, which are not enforced behind two other blocks; no TCP out but to two ports.
const AFTER: &str = "
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: ways-in}
spec:
  selector: role == 'bastion'
  types: [Ingress]
  ingress:
  - action: Allow
    protocol: TCP
    source: {nets: [10.0.1.77/32, 10.0.1.78/32]}
    destination:
      nets: [192.0.2.1/32, 192.0.2.2/32]
      ports: [80, 8000, 8001, 8002, 8003, 8004, 8005, 8006, 8007, 8008, 8009, 8010, 8011, 8012, 8013, 8014]
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: ways-out}
spec:
  selector: role == 'bastion'
  order: 5
  types: [Egress]
  egress: [{action: Deny, protocol: TCP, destination: {notPorts: [53, 443]}}, {action: Allow}]
";

fn knowledge(texts: &[&str], settings: &[(&str, &str)]) -> Knowledge {
    let mut resources = Resources::default();
    texts.iter().for_each(|text| resources.read(&Arc::from("a.yaml"), text.as_bytes()));
    assert_eq!(resources.problems, Vec::new());
    let place = Place { file: Arc::from("calico.env"), line: 1 };
    let assign = |(name, value): &(&str, &str)| Assignment {
        source: Source::Environment,
        name: (*name).into(),
        value: (*value).into(),
        place: place.clone(),
    };
    let assignments: Vec<Assignment> = settings.iter().map(assign).collect();
    let settings = Settings::resolve(&assignments);
    Knowledge { resources, settings, node: Some("bastion".to_owned()), ..Knowledge::default() }
}

fn addresses(set: &Set) -> Vec<String> {
    let one = |low: u128, high: u128| {
        let (address, width) = match set.family {
            Some(Family::Ipv6) => (IpAddr::from(low.to_be_bytes()), 128),
            _ => (IpAddr::from(u32::try_from(low).expect("an IPv4 address").to_be_bytes()), 32),
        };
        format!("{address}/{}", width - (high - low + 1).ilog2())
    };
    set.elements.keys().map(|key| one(key[0].low, key[0].high)).collect()
}

/// What the tools load for these rules; sets in `there` are loaded already.
fn firewall_of(ruleset: &Ruleset, there: &mut BTreeSet<String>) -> Firewall {
    let mut firewall = Firewall::default();
    for set in ruleset.ipsets.iter().filter(|set| there.insert(set.name.to_string())) {
        let word = if set.family == Some(Family::Ipv6) { "inet6" } else { "inet" };
        writeln!(firewall.ipsets, "create {} hash:net family {word}", set.name).expect("a string");
        for address in addresses(set) {
            writeln!(firewall.ipsets, "add {} {address}", set.name).expect("a string");
        }
    }
    for table in &ruleset.tables {
        match table.backend {
            Backend::Nft => firewall.nft += &nft_table(table),
            _ => {
                firewall.legacy[usize::from(table.family == Family::Ipv6)] +=
                    &print::iptables::table(table).expect("iptables");
            }
        }
    }
    firewall
}

fn nft_table(table: &Table) -> String {
    let (word, address) = if table.family == Family::Ipv6 { ("ip6", "ipv6_addr") } else { ("ip", "ipv4_addr") };
    let mut text = format!("table {word} {} {{\n", table.name);
    for set in &table.sets {
        let elements = addresses(set).join(", ");
        let elements = if elements.is_empty() { elements } else { format!("elements = {{ {elements} }}") };
        writeln!(text, "set {} {{ type {address}; flags interval; {elements} }}", set.name).expect("a string");
    }
    for chain in &table.chains {
        let hook = chain.base.as_ref().map(|base| {
            let kind = match base.kind {
                ChainKind::Filter => "filter",
                ChainKind::Nat => "nat",
                ChainKind::Route => "route",
            };
            format!("type {kind} hook {} priority {}; policy accept;", base.hook, base.priority)
        });
        writeln!(text, "chain {} {{ {} }}", chain.name, hook.unwrap_or_default()).expect("a string");
    }
    for chain in &table.chains {
        let rules: String = chain.rules.iter().map(|rule| format!("{}\n", rule.text)).collect();
        writeln!(text, "chain {} {{\n{rules}}}", chain.name).expect("a string");
    }
    text + "}\n"
}

/// Flows by name: some are lost, some kept, some gained.
fn flows() -> Vec<(&'static str, Shot)> {
    let tcp = |direction, src, dst, port| packet(direction, Protocol::TCP, src, dst, port);
    use Direction::{In, Out};
    vec![
        ("failsafe ssh", tcp(In, "10.0.1.99", "10.0.1.10", 22)),
        ("admins' port", tcp(In, "10.0.1.77", "10.0.1.10", 2222)),
        ("admins' port, IPv6", tcp(In, "fd00:1::77", "fd00:1::10", 2222)),
        ("admins' port for others", tcp(In, "198.51.100.9", "10.0.1.10", 2222)),
        ("web from a net", tcp(In, "10.0.1.77", "10.0.1.10", 80)),
        ("web from a net, IPv6", tcp(In, "fd00:1::77", "fd00:1::10", 8014)),
        ("web from elsewhere", tcp(In, "198.51.100.9", "10.0.1.10", 80)),
        ("a port no longer listed", tcp(In, "10.0.1.77", "10.0.1.10", 443)),
        ("a port newly listed", tcp(In, "10.0.1.78", "10.0.1.10", 8014)),
        ("tcp out", tcp(Out, "10.0.1.10", "10.0.1.77", 8080)),
        ("https out", tcp(Out, "10.0.1.10", "10.0.1.77", 443)),
        ("udp out, excluded net", packet(Out, Protocol::UDP, "10.0.1.10", "10.0.1.77", 123)),
        ("udp out", packet(Out, Protocol::UDP, "10.0.1.10", "10.0.1.20", 123)),
        ("out by another interface", tcp(Out, "10.0.1.10", "198.51.100.9", 8080)),
    ]
}

/// What `plan` says of the flows when these rules take the place of those that are there.
fn planned(live: &Snapshot, foretold: &Ruleset, shots: &[(&str, Shot)]) -> Plan {
    let protect = |(name, shot): &(&str, Shot)| {
        let packet = &shot.packet;
        let peer = if packet.direction == Direction::In { packet.src } else { packet.dst };
        Protect {
            name: (*name).to_owned(),
            direction: packet.direction,
            protocol: packet.protocol,
            ports: packet.dport.map(PortRange::single).into_iter().collect(),
            peers: vec![Prefix::host(peer)],
            interface: packet.iif.as_deref().map(str::to_owned),
            severity: Weight::High,
            because: None,
            place: "the test".to_owned(),
        }
    };
    let before = Snapshot { protect: shots.iter().map(protect).collect(), ..live.clone() };
    let after = Snapshot { ruleset: foretold.clone(), ..before.clone() };
    plan(&before, &Rehearsal { parts: vec!["the policies change".to_owned()], after, ..Rehearsal::default() })
}

fn attack(name: &str, mode: &[(&str, &str)]) {
    in_namespace(name, || {
        let mut lab = Lab::build().expect("a lab");
        let empty = Listings::read(firewall::list().expect("a listing"));
        let (known, mut settings) = (knowledge(&[HOST, BEFORE], mode), mode.to_vec());
        settings.push(("FailsafeOutboundHostPorts", "none"));
        let wanted = knowledge(&[HOST, AFTER], &settings);
        let host = &empty.snapshot().host;
        let nothing = Ruleset::default();
        let written = predict(&Situation { ruleset: &nothing, host, known: &known }, &known);
        let mut there = BTreeSet::new();
        let before = firewall_of(&written.ruleset, &mut there);
        before.load().expect("what Felix writes now is loaded");
        // the probe's own table is no part of the host's rules
        let live = Listings::read(firewall::list().expect("a listing"));
        let situation = Situation { ruleset: &live.snapshot().ruleset, host, known: &known };
        let Prediction { ruleset, fidelity, unknown, .. } = predict(&situation, &wanted);
        assert!(fidelity.is_exact() && fidelity.rules > 100, "{fidelity:?}");
        assert_eq!(unknown, Vec::<String>::new());
        let shots: Vec<(&str, Shot)> = flows();
        let planned = planned(live.snapshot(), &ruleset, &shots);
        let all: Vec<Shot> = shots.iter().map(|(_, shot)| shot.clone()).collect();
        lab.open_eyes().expect("the probe loads");
        lab.reset_connections(&all).expect("entries");
        let outcomes = |lab: &mut Lab, engine: &Engine<'_>, when: &str| -> Vec<bool> {
            let mut passed = Vec::new();
            for (name, shot) in &shots {
                let outcome = lab.shoot(shot).expect("the probe works");
                let told = engine.trace(&shot.packet, &TraceOptions::default()).verdict;
                assert_eq!(told == TraceVerdict::Accept, outcome.passed(), "{when}: {name}: {told:?}, {outcome:?}");
                assert!(told != TraceVerdict::Unknown, "{when}: {name}");
                passed.push(outcome.passed());
            }
            passed
        };
        let now = outcomes(&mut lab, &Engine::new(&live.snapshot().ruleset, host), "before");
        lab.close_eyes().expect("the probe goes");
        let after = firewall_of(&ruleset, &mut there);
        after.replace(&before).expect("what is foretold is loaded");
        lab.open_eyes().expect("the probe loads");
        lab.reset_connections(&all).expect("entries");
        let then = outcomes(&mut lab, &Engine::new(&ruleset, host), "after");
        let both = || now.iter().copied().zip(then.iter().copied());
        for ((name, _), seen) in shots.iter().zip(both()) {
            let state = planned
                .protected
                .iter()
                .find(|flow| flow.name.starts_with(&format!("{name} (")))
                .map(|flow| flow.state);
            let told = match state {
                Some(State::Lost) => (true, false),
                Some(State::Kept | State::Masked | State::Unguarded) => (true, true),
                Some(State::Gained) => (false, true),
                Some(State::Refused) => (false, false),
                Some(State::Unknown) | None => panic!("{name}: the plan says {state:?}"),
            };
            assert_eq!(told, seen, "{name}: the plan says {state:?}");
        }
        let named = |wanted: (bool, bool)| -> Vec<&str> {
            both().zip(&shots).filter(|(one, _)| *one == wanted).map(|(_, (name, _))| *name).collect()
        };
        println!(
            "{name}: lost {:?}\n  gained {:?}\n  kept {:?}",
            named((true, false)),
            named((false, true)),
            named((true, true))
        );
        assert_eq!(
            named((true, false)),
            ["admins' port", "admins' port, IPv6", "web from elsewhere", "a port no longer listed", "tcp out"]
        );
        assert_eq!(
            named((false, true)),
            ["a port newly listed", "udp out, excluded net"],
            "the destination nets are not enforced: Felix's third block"
        );
        lab.close_eyes().expect("the probe goes");
    });
}

#[test]
fn losses_foretold_on_iptables_are_losses_in_the_kernel() {
    attack("predicted, iptables", &[]);
}

#[test]
fn losses_foretold_on_nftables_are_losses_in_the_kernel() {
    attack("predicted, nft", &[("NFTablesMode", "Enabled")]);
}
