//! The comparison on small hosts, built file by file and rule by rule.

use std::sync::Arc;

use super::kernel::Layer;
use super::*;
use crate::packet::{Prefix, Protocol};
use crate::ruleset::{Backend, Chain, Effect, Expr, Field, Interval, Match, Operator, Rule, Step, Table, Verdict};

/// The lab bastion's environment file.
const LAB: &str = concat!(
    "FELIX_DATASTORETYPE=kubernetes\n",
    "KUBECONFIG=/home/tigera/.kube/config\n",
    "CALICO_NETWORKING_BACKEND=none\n",
    "FELIX_FAILSAFEINBOUNDHOSTPORTS=\"tcp:0.0.0.0/0:22,udp:0.0.0.0/0:68,udp:0.0.0.0/0:53,tcp:0.0.0.0/0:179,tcp:0.0.0.0/0:80\"\n",
    "FELIX_FAILSAFEOUTBOUNDHOSTPORTS=\"tcp:0.0.0.0/0:22,udp:0.0.0.0/0:53,udp:0.0.0.0/0:67,tcp:0.0.0.0/0:179,tcp:0.0.0.0/0:6443\"\n",
);
const LAB_IN: &str = "tcp:22,udp:68,udp:53,tcp:179,tcp:80";
const LAB_OUT: &str = "tcp:22,udp:53,udp:67,tcp:179,tcp:6443";

fn snapshot(all: &[(&str, &[u8])]) -> SnapshotFiles {
    let mut files = SnapshotFiles::default();
    for (name, bytes) in all {
        files.files.insert((*name).to_owned(), FileState::Present(bytes.to_vec()));
    }
    files
}

/// On a host of which nothing else is known.
fn compared(files: &SnapshotFiles, ruleset: &Ruleset) -> FailsafeReport {
    compare(files, ruleset, &Host::default())
}

fn rule(entry: &Entry, direction: Direction, reply: bool) -> Rule {
    let mut steps = Vec::new();
    if let Some(net) = entry.net {
        let field = match (direction, net.is_ipv4()) {
            (Direction::In, true) => Field::Ip4Saddr,
            (Direction::In, false) => Field::Ip6Saddr,
            (Direction::Out, true) => Field::Ip4Daddr,
            (Direction::Out, false) => Field::Ip6Daddr,
        };
        let (low, high) = net.range();
        steps.push(Step::Match(Match::within(field, false, [Interval { low, high }])));
    }
    steps.push(Step::Match(Match::equals(Field::L4proto, u128::from(entry.protocol.0))));
    let port = if reply { Field::Sport } else { Field::Dport };
    steps.push(Step::Match(Match::within(port, false, [Interval::single(u128::from(entry.port))])));
    steps.push(Step::Effect(Effect::Count));
    steps.push(Step::Verdict(Verdict::Accept));
    Rule { steps, text: entry.to_string().into(), line: 1, ..Rule::default() }
}

fn chain(name: &str, rules: Vec<Rule>) -> Chain {
    Chain { name: name.into(), base: None, rules: rules.into(), line: 1 }
}

fn jump(to: &str) -> Rule {
    Rule { steps: vec![Step::Verdict(Verdict::Jump(to.into()))], ..Rule::default() }
}

fn table(backend: Backend, family: Family, name: &str, chains: Vec<Chain>) -> Table {
    let source = Arc::from("rules.txt");
    Table {
        backend,
        family,
        name: name.into(),
        dormant: false,
        chains,
        sets: Vec::new(),
        flowtables: Vec::new(),
        source,
        other: Vec::new(),
    }
}

fn entries(text: &str) -> Vec<Entry> {
    crate::calico::settings::ports::parse_list(text).expect("a good list")
}

/// A filter table with both failsafe chains, each jumped to once.
fn filter(backend: Backend, family: Family, inbound: &str, outbound: &str) -> Table {
    let prefix = if backend == Backend::Nft { "filter-" } else { "" };
    let name = if backend == Backend::Nft { "calico" } else { "filter" };
    let (in_name, out_name) = (format!("{prefix}cali-failsafe-in"), format!("{prefix}cali-failsafe-out"));
    let list = |text: &str, direction| entries(text).iter().map(|entry| rule(entry, direction, false)).collect();
    let chains = vec![
        chain("cali-fh-eth0", vec![jump(&in_name)]),
        chain("cali-th-eth0", vec![jump(&out_name)]),
        chain(&in_name, list(inbound, Direction::In)),
        chain(&out_name, list(outbound, Direction::Out)),
    ];
    table(backend, family, name, chains)
}

fn ruleset(tables: Vec<Table>) -> Ruleset {
    Ruleset { tables, ..Ruleset::default() }
}

fn kinds(report: &FailsafeReport) -> Vec<ProblemKind> {
    report.problems.iter().map(|problem| problem.kind).collect()
}

fn find(report: &FailsafeReport, kind: ProblemKind) -> &Problem {
    report.problems.iter().find(|problem| problem.kind == kind).unwrap_or_else(|| panic!("{kind:?}: {report:#?}"))
}

fn both_families(inbound: &str, outbound: &str) -> Ruleset {
    ruleset(vec![
        filter(Backend::IptablesLegacy, Family::Ipv4, inbound, outbound),
        filter(Backend::IptablesLegacy, Family::Ipv6, "", ""),
    ])
}

#[test]
fn the_lab_break_is_seen_before_the_restart() {
    let broken = LAB.replace("HOSTPORTS=\"tcp:0.0.0.0/0:22,udp:0.0.0.0/0:53", "HOSTPORTS=\"udp:0.0.0.0/0:53");
    let environ = LAB.replace('"', "").replace('\n', "\0");
    let files = snapshot(&[("felix/calico.env", broken.as_bytes()), ("felix/environ", environ.as_bytes())]);
    let report = compared(&files, &both_families(LAB_IN, LAB_OUT));

    let [change, six] = report.outbound.next_restart.as_slice() else { panic!("{:?}", report.outbound.next_restart) };
    assert_eq!((change.family, change.removes.as_slice()), (Family::Ipv4, [Entry::any(Protocol::TCP, 22)].as_slice()));
    assert!(change.adds.is_empty() && !change.reorders && change.certain && six.is_none());
    assert!(report.inbound.next_restart.iter().all(Change::is_none));

    let problem = report.problems.first().expect("a problem");
    assert_eq!((problem.kind, problem.severity), (ProblemKind::RemovedAtRestart, Weight::High));
    assert_eq!(problem.title, "the next restart of Felix removes tcp:22 outbound (IPv4)");
    assert_eq!(problem.place.as_ref().map(ToString::to_string).as_deref(), Some("felix/calico.env:5"));

    let row = report.outbound.entries.iter().find(|row| row.entry.port == 22).expect("a row");
    assert_eq!(row.entry.to_string(), "tcp:0.0.0.0/0:22");
    assert_eq!((row.disk, row.running, row.datastore), (Some(false), Some(true), None));
    assert_eq!((row.kernel_ipv4, row.kernel_ipv6), (Some(true), None));
    assert_eq!(report.starts, None, "felix.cfg and the datastore were not read");
    assert!(report.incomplete.is_empty(), "{:?}", report.incomplete);
}

#[test]
fn the_healthy_lab_lacks_ipv6_only() {
    let environ = LAB.replace('"', "").replace('\n', "\0");
    let files = snapshot(&[("felix/calico.env", LAB.as_bytes()), ("felix/environ", environ.as_bytes())]);
    let report = compared(&files, &both_families(LAB_IN, LAB_OUT));
    assert_eq!(kinds(&report), [ProblemKind::OneFamily, ProblemKind::OneFamily], "{:#?}", report.problems);
    let problem = find(&report, ProblemKind::OneFamily);
    assert_eq!((problem.family, problem.severity), (Some(Family::Ipv6), Weight::Medium));
    assert!(problem.title.contains("tcp:22") && problem.fix.contains("tcp:[::/0]:22"), "{problem:?}");
    let without = LAB.to_owned() + "FELIX_IPV6SUPPORT=false\n";
    let report = compared(&snapshot(&[("felix/calico.env", without.as_bytes())]), &both_families(LAB_IN, LAB_OUT));
    assert!(!kinds(&report).contains(&ProblemKind::OneFamily), "without IPv6 support nothing is missing");
}

#[test]
fn losing_ssh_inbound_is_critical_and_a_host_net_does_not_hide_it() {
    let env = b"FELIX_FAILSAFEINBOUNDHOSTPORTS=tcp:10.0.0.0/8:22\nFELIX_FAILSAFEOUTBOUNDHOSTPORTS=udp:53\n";
    let rules = ruleset(vec![
        filter(Backend::IptablesNft, Family::Ipv4, "tcp:22", "udp:53"),
        filter(Backend::IptablesNft, Family::Ipv6, "tcp:22", "udp:53"),
    ]);
    let report = compared(&snapshot(&[("felix/calico.env", env)]), &rules);
    let [four, six] = report.inbound.next_restart.as_slice() else { panic!("two families") };
    assert_eq!(four.removes, [Entry::any(Protocol::TCP, 22)]);
    assert_eq!(four.adds, entries("tcp:10.0.0.0/8:22"));
    assert_eq!((six.removes.len(), six.adds.len()), (1, 0));
    assert_eq!(find(&report, ProblemKind::RemovedAtRestart).severity, Weight::Critical);
}

#[test]
fn nft_chains_nets_and_replies_are_read_back() {
    let mut table = filter(Backend::Nft, Family::Ipv6, "tcp:[fd00::/8]:22,tcp:[fd00::1]:23", "udp:53");
    let masked = Match::Compare {
        left: Expr::And(Box::new(Expr::Field(Field::Ip6Saddr)), Box::new(Expr::Number(u128::MAX << 120))),
        operator: Operator::Eq,
        right: Expr::Number(0xfd << 120),
    };
    let mut with_mask = rule(&Entry::any(Protocol::TCP, 24), Direction::In, false);
    with_mask.steps.insert(0, Step::Match(masked));
    table.chains[2].rules.push(with_mask);
    let raw_in = vec![
        rule(&entries("tcp:22")[0], Direction::In, false),
        rule(&entries("udp:[fd00::/8]:53")[0], Direction::In, true),
    ];
    table.chains.push(chain("raw-cali-failsafe-in", raw_in));
    let chains = kernel::chains(&ruleset(vec![table]), Direction::In);
    let [filter, raw] = chains.as_slice() else { panic!("{chains:?}") };
    let list: Vec<String> = filter.list().map(|entry| entry.to_string()).collect();
    assert_eq!(list, ["tcp:[fd00::/8]:22", "tcp:[fd00::1/128]:23", "tcp:[fd00::/8]:24"]);
    assert_eq!((raw.table, raw.references), (Layer::Raw, Some(0)));
    assert_eq!(raw.replies.first().map(|reply| reply.entry.to_string()).as_deref(), Some("udp:[fd00::/8]:53"));
    assert!(filter.foreign.is_empty() && raw.foreign.is_empty());
}

#[test]
fn rules_that_are_no_entries_are_told_with_a_reason() {
    let ssh = Entry::any(Protocol::TCP, 22);
    let with = |change: &dyn Fn(&mut Vec<Step>)| {
        let mut rule = rule(&ssh, Direction::In, false);
        change(&mut rule.steps);
        rule
    };
    let local = Match::within(Field::Ip4Daddr, false, [Interval::single(1)]);
    let opaque = Match::Opaque { kind: crate::ruleset::OpaqueKind::Property, text: "string".into() };
    let ports = Match::within(Field::Dport, false, [Interval { low: 1, high: 2 }]);
    let crooked = Match::within(Field::Ip4Saddr, false, [Interval { low: 1, high: 2 }]);
    let rules = vec![
        with(&|steps| *steps.last_mut().expect("verdict") = Step::Verdict(Verdict::Drop)),
        with(&|steps| drop(steps.pop())),
        with(&|steps| drop(steps.remove(0))),
        with(&|steps| drop(steps.remove(1))),
        with(&|steps| steps.insert(0, Step::Match(local.clone()))),
        with(&|steps| steps.insert(0, Step::Match(opaque.clone()))),
        with(&|steps| steps[1] = Step::Match(ports.clone())),
        with(&|steps| steps.insert(0, Step::Match(crooked.clone()))),
        with(&|steps| steps.insert(0, Step::Effect(Effect::NoTrack))),
        with(&|steps| steps.push(Step::Verdict(Verdict::Drop))),
        rule(&ssh, Direction::In, true),
    ];
    let count = rules.len();
    let chains = vec![chain("cali-failsafe-in", rules)];
    let table = table(Backend::IptablesLegacy, Family::Ipv4, "filter", chains);
    let read = kernel::chains(&ruleset(vec![table.clone()]), Direction::In);
    assert_eq!((read[0].entries.len(), read[0].foreign.len()), (0, count), "{read:#?}");
    let report = compared(&SnapshotFiles::default(), &ruleset(vec![table]));
    assert!(kinds(&report).contains(&ProblemKind::ForeignRule));
    assert!(kinds(&report).contains(&ProblemKind::Unreferenced));
}

#[test]
fn a_fragment_without_tables_is_enough_for_the_lists() {
    let list = "tcp:22,udp:68,tcp:179,tcp:2379,tcp:2380,tcp:5473,tcp:6443,tcp:6666,tcp:6667";
    let mut one = filter(Backend::Iptables, Family::Ipv4, list, "udp:53");
    one.name = "?".into();
    one.chains.retain(|chain| chain.name.contains("failsafe"));
    let report = compared(&SnapshotFiles::default(), &ruleset(vec![one]));
    assert_eq!(report.inbound.entries.len(), 9);
    assert_eq!(report.inbound.kernel_ipv4, KernelState::Programmed);
    assert_eq!(report.inbound.kernel_ipv6, KernelState::Unknown);
    assert_eq!(report.inbound.kernel[0].references, None, "a fragment does not show who jumps there");
    assert!(report.inbound.next_restart.is_empty() && report.starts.is_none());
    assert!(report.problems.is_empty() && !report.incomplete.is_empty(), "{report:#?}");
}

#[test]
fn malformed_values_stop_felix_and_freeze_the_rules() {
    for (value, words) in [("sctp:22", "tries again every second"), ("tcp:[fd00::/8]", "crashes at every start")] {
        let env = format!("FELIX_FAILSAFEINBOUNDHOSTPORTS={value}\n");
        let report = compared(&snapshot(&[("felix/calico.env", env.as_bytes())]), &both_families(LAB_IN, LAB_OUT));
        let problem = report.problems.first().expect("a problem");
        assert_eq!((problem.kind, problem.severity), (ProblemKind::StopsFelix, Weight::Critical));
        assert!(problem.fix.contains(words), "{problem:?}");
        assert_eq!(problem.place.as_ref().map(ToString::to_string).as_deref(), Some("felix/calico.env:1"));
        assert_eq!(report.starts, Some(false));
        assert_eq!(report.inbound.disk.state, ListState::Invalid);
        let frozen = report.inbound.next_restart.iter().all(|change| change.frozen.is_some() && change.is_none());
        assert!(frozen, "{:?}", report.inbound.next_restart);
    }
}

#[test]
fn garbage_in_a_lower_source_stops_felix_too() {
    let yaml = b"kind: FelixConfiguration\nmetadata: {name: default}\nspec:\n  failsafeInboundHostPorts:\n  - {protocol: SCTP, port: 22}\n";
    let env = b"FELIX_FAILSAFEINBOUNDHOSTPORTS=tcp:22\n";
    let report = compared(&snapshot(&[("felix/calico.env", env), ("calico/felix.yaml", yaml)]), &Ruleset::default());
    let problem = find(&report, ProblemKind::StopsFelix);
    assert_eq!(problem.place.as_ref().map(ToString::to_string).as_deref(), Some("calico/felix.yaml:4"));
    assert!(problem.fix.contains("overrides"), "{problem:?}");
    assert_eq!(report.inbound.disk.entries, entries("22"), "the list that would win is still shown");
}

#[test]
fn off_empty_and_unknown_names_are_three_traps() {
    for (env, kind, severity) in [
        ("FELIX_FAILSAFEINBOUNDHOSTPORTS=none\n", ProblemKind::ListOff, Weight::High),
        ("FELIX_FAILSAFEINBOUNDHOSTPORTS=\" \"\n", ProblemKind::ListOff, Weight::High),
        ("FELIX_FAILSAFEINBOUNDHOSTPORTS=,\n", ProblemKind::ListOff, Weight::High),
        ("FELIX_FAILSAFEINBOUNDHOSTPORTS=\n", ProblemKind::EmptyIgnored, Weight::Medium),
        ("FELIX_FAILSAFE_INBOUND_HOST_PORTS=tcp:2222\n", ProblemKind::UnknownName, Weight::High),
        ("FELIX_NOSUCHTHING=1\n", ProblemKind::UnknownName, Weight::Info),
    ] {
        let report = compared(&snapshot(&[("felix/calico.env", env.as_bytes())]), &Ruleset::default());
        assert_eq!(find(&report, kind).severity, severity, "{env}");
    }
    let yaml = b"kind: FelixConfiguration\nmetadata: {name: default}\nspec: {failsafeInboundHostPorts: []}\n";
    let report = compared(&snapshot(&[("calico/f.yaml", yaml), ("felix/calico.env", b"A=1\n")]), &Ruleset::default());
    assert_eq!(find(&report, ProblemKind::ListOff).direction, Some(Direction::In));
    assert_eq!(report.inbound.datastore.state, ListState::Set);
    assert_eq!(report.outbound.datastore.state, ListState::NotSet);
}

#[test]
fn drift_duplicates_order_and_two_backends() {
    let env = b"FELIX_FAILSAFEINBOUNDHOSTPORTS=tcp:22,tcp:23,tcp:22\nFELIX_FAILSAFEOUTBOUNDHOSTPORTS=udp:53\n";
    let environ = b"FELIX_FAILSAFEINBOUNDHOSTPORTS=tcp:22,tcp:23\0FELIX_FAILSAFEOUTBOUNDHOSTPORTS=udp:53\0";
    let files = snapshot(&[("felix/calico.env", env), ("felix/environ", environ)]);
    let report =
        compared(&files, &ruleset(vec![filter(Backend::IptablesLegacy, Family::Ipv4, "tcp:23,tcp:24", "udp:53")]));
    let drift = find(&report, ProblemKind::KernelDrift);
    assert_eq!((drift.severity, drift.entries.as_slice()), (Weight::High, entries("tcp:22,tcp:24").as_slice()));
    assert_eq!(find(&report, ProblemKind::Duplicate).entries, entries("tcp:22"));

    let report =
        compared(&files, &ruleset(vec![filter(Backend::IptablesLegacy, Family::Ipv4, "tcp:23,tcp:22", "udp:53")]));
    assert!(report.inbound.next_restart[0].reorders);
    assert!(!kinds(&report).contains(&ProblemKind::KernelDrift), "order alone is no drift");

    let two = ruleset(vec![
        filter(Backend::IptablesLegacy, Family::Ipv4, "tcp:22,tcp:23", "udp:53"),
        filter(Backend::IptablesNft, Family::Ipv4, "tcp:23", "udp:53"),
    ]);
    let report = compared(&files, &two);
    assert!(kinds(&report).contains(&ProblemKind::TwoBackends));
    let row = report.inbound.entries.iter().find(|row| row.entry.port == 22).expect("a row");
    assert_eq!(row.kernel_ipv4, Some(false), "a packet must pass both backends");
}

#[test]
fn tables_that_differ_are_told() {
    let mut filter_table = filter(Backend::IptablesLegacy, Family::Ipv4, "tcp:22", "udp:53");
    let mut mangle = filter(Backend::IptablesLegacy, Family::Ipv4, "tcp:23", "udp:53");
    mangle.name = "mangle".into();
    filter_table.chains[0].rules.push(jump("cali-failsafe-in"));
    let report = compared(&SnapshotFiles::default(), &ruleset(vec![filter_table, mangle]));
    assert_eq!(find(&report, ProblemKind::TablesDiffer).direction, Some(Direction::In));
    assert_eq!(report.inbound.kernel[0].references, Some(2));
}

#[test]
fn unreadable_sources_leave_no_clean_bill() {
    let mut files = snapshot(&[("felix/calico.env", LAB.as_bytes())]);
    files.files.insert("felix/environ".to_owned(), FileState::Unreadable("permission denied".to_owned()));
    let report = compared(&files, &both_families(LAB_IN, LAB_OUT));
    assert!(report.incomplete.iter().any(|text| text.contains("permission denied")), "{:?}", report.incomplete);
    let default = compared(&snapshot(&[("felix/calico.env", b"A=1\n")]), &both_families(LAB_IN, LAB_OUT));
    assert!(default.inbound.next_restart.iter().all(|change| !change.certain), "the datastore may set the list");
}

#[test]
fn hostile_sources_are_survived_in_bounded_time() {
    let mut garbage: Vec<u8> = (0..=255u8).cycle().take(100_000).collect();
    garbage.extend(b"\nFELIX_FAILSAFEINBOUNDHOSTPORTS=\xff\xfe\n");
    let list = format!("FELIX_FAILSAFEINBOUNDHOSTPORTS={}\n", "tcp:22,".repeat(30_000));
    let names: String = (0..30_000).map(|n| format!("FELIX_FAILSAFE{n}=x\n")).collect();
    let long = format!("FELIX_FAILSAFEINBOUNDHOSTPORTS={}", "x".repeat(3_000_000));
    for bytes in [garbage.as_slice(), list.as_bytes(), names.as_bytes(), long.as_bytes()] {
        for name in
            ["felix/calico.env", "felix/felix.cfg", "felix/unit.txt", "felix/environ", "calico/x.yaml", "meta.json"]
        {
            let report = compared(&snapshot(&[(name, bytes)]), &Ruleset::default());
            let json = serde_json::to_string(&report).expect("it serialises");
            assert!(json.len() < 20_000_000, "{name}");
        }
    }
    let distinct: String = (1..=20_000).map(|port| format!("tcp:{port},udp:{port},")).collect();
    let environ = format!("FELIX_FAILSAFEINBOUNDHOSTPORTS={distinct}\0");
    let kernel = distinct.trim_end_matches(',').to_owned();
    let rules = ruleset(vec![filter(Backend::IptablesLegacy, Family::Ipv4, &kernel, "udp:53")]);
    let report = compared(&snapshot(&[("felix/environ", environ.as_bytes())]), &rules);
    assert_eq!(report.inbound.entries.len(), 40_000);
}

#[test]
fn a_net_of_everything_is_the_same_rule_as_no_net() {
    let any = Entry::any(Protocol::TCP, 22);
    let four = Entry { net: Some(Prefix::any(Family::Ipv4)), ..any };
    assert_eq!(in_family(four, Family::Ipv4), Some(any));
    assert_eq!(in_family(four, Family::Ipv6), None);
    assert_eq!(in_family(any, Family::Ipv6), Some(any));
}

/// A key of the IPv4 map as bpftool prints it: prefix length, port, protocol, flags, address.
fn key(bits: u8, port: u16, protocol: u8, flags: u8, address: [u8; 4]) -> String {
    let [low, high] = port.to_le_bytes();
    let bytes = [&[32 + bits, 0, 0, 0, low, high, protocol, flags], &address[..]].concat();
    let bytes: Vec<String> = bytes.iter().map(|byte| format!("\"{byte:#04x}\"")).collect();
    format!(r#"{{"key":[{}],"value":["0x00","0x00","0x00","0x00"]}}"#, bytes.join(","))
}

/// A host with Felix's eBPF dataplane on one device.
fn ebpf_host() -> Host {
    let text =
        br#"[{"xdp":[],"tc":[{"devname":"eth0","ifindex":2,"kind":"tcx/ingress","name":"cali_tc_preamble","id":7}]}]"#;
    Host { programs: crate::host::bpf::attached(&Arc::from("bpf.json"), text).value, ..Host::default() }
}

#[test]
fn in_the_ebpf_dataplane_the_maps_decide() {
    let env = format!("{LAB}FELIX_BPFENABLED=true\n");
    let any = [0; 4];
    let keys = [
        key(0, 22, 6, 0, any),
        key(0, 68, 17, 0, any),
        key(0, 53, 17, 0, any),
        key(0, 179, 6, 0, any),
        key(8, 8443, 6, 0, [10, 0, 0, 0]),
        key(0, 22, 6, 1, any),
    ];
    let map = format!("[{}]", keys.join(","));
    let mut files = snapshot(&[
        ("felix/calico.env", env.as_bytes()),
        ("felix/environ", env.replace('"', "").replace('\n', "\0").as_bytes()),
        ("bpf.json", b"[]"),
        ("bpf-failsafe-v4.json", map.as_bytes()),
    ]);
    files.files.insert("bpf-failsafe-v6.json".to_owned(), FileState::Absent);
    // chains that were left behind
    let stale = ruleset(vec![filter(Backend::IptablesLegacy, Family::Ipv4, LAB_IN, LAB_OUT)]);
    let report = compare(&files, &stale, &ebpf_host());
    let lists = &report.inbound;
    assert_eq!((lists.kernel_ipv4, lists.kernel_ipv6), (KernelState::Programmed, KernelState::NotProgrammed));
    assert_eq!(
        lists.deciding(Family::Ipv4).map(KernelChain::title).collect::<Vec<_>>(),
        ["bpf ipv4 map cali_v4_fsafes2"]
    );
    let change = lists.next_restart.first().expect("one family");
    let texts = |entries: &[Entry]| entries.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        (texts(&change.adds), texts(&change.removes)),
        (vec!["tcp:80".to_owned()], vec!["tcp:10.0.0.0/8:8443".to_owned()])
    );
    assert!(!change.reorders, "a map has no order");
    let drift = report.problems.iter().find(|one| one.kind == ProblemKind::KernelDrift).expect("told");
    assert!(drift.title.starts_with("bpf ipv4 map cali_v4_fsafes2 is not what the running Felix wants: lacks tcp:80"));
    assert!(!report.problems.iter().any(|one| one.title.contains("BPFEnabled")), "as it is set");
    assert!(report.incomplete.iter().all(|line| !line.contains("map")), "{:?}", report.incomplete);
}

#[test]
fn maps_that_were_not_read_leave_the_lists_unknown() {
    let chains = || both_families(LAB_IN, LAB_OUT);
    let broken: &[u8] = b"[{\"key\":[\"0x20\"]}]";
    let with_map = snapshot(&[("felix/calico.env", LAB.as_bytes()), ("bpf-failsafe-v4.json", broken)]);
    let without = snapshot(&[("felix/calico.env", LAB.as_bytes())]);
    for (files, why) in
        [(with_map, "key 1 is none of cali_v4_fsafes2: 1 bytes, expected 12"), (without, "bpftool -j map dump")]
    {
        let report = compare(&files, &chains(), &ebpf_host());
        assert_eq!(report.inbound.kernel_state(Family::Ipv4), KernelState::Unknown);
        assert!(report.incomplete.iter().any(|line| line.contains(why)), "{:?}", report.incomplete);
        // on disk the eBPF dataplane is off
        assert!(report.problems.iter().any(|one| one.title.contains("BPFEnabled")), "{:?}", report.problems);
    }
}

#[test]
fn an_ebpf_dataplane_that_is_set_and_not_there_is_said() {
    let env = format!("{LAB}FELIX_BPFENABLED=true\n");
    let files = |bpf: &[(&str, &[u8])]| snapshot(&[&[("felix/calico.env", env.as_bytes())], bpf].concat());
    let looked = compared(&files(&[("bpf.json", b"[]"), ("tc.txt", b"")]), &both_families(LAB_IN, LAB_OUT));
    let told = looked.problems.iter().find(|one| one.title.contains("BPFEnabled")).expect("said");
    assert!(told.title.contains("no BPF program of Felix's is attached"), "{}", told.title);
    assert_eq!(looked.inbound.kernel_state(Family::Ipv4), KernelState::Programmed, "the chains decide");
    let not_looked = compared(&files(&[]), &both_families(LAB_IN, LAB_OUT));
    assert!(not_looked.incomplete.iter().any(|line| line.contains("BPFEnabled")), "{:?}", not_looked.incomplete);
}
