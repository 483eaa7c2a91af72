//! `hepguard matrix` as an admin calls it; its classes held against brute force over all pairs of addresses, and against another
//! library's diagrams.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, Output};

use biodivine_lib_bdd::{Bdd as Oracle, BddVariable, BddVariableSet};
use fastrand::Rng;
use hepguard::analysis::matrix::{self, Bound, Matrix, Query, TooBig};
use hepguard::analysis::reach::{Engine as ReachEngine, HostFacts, Settings, Way};
use hepguard::analysis::trace::{Engine, TraceOptions, TraceVerdict};
use hepguard::files::{FileState, SnapshotFiles};
use hepguard::packet::text::PacketSpec;
use hepguard::packet::{Family, Hook, Prefix, Protocol, address_bits};
use hepguard::snapshot::{self, Snapshot};
use hepguard::space::Order;
use serde_json::{Value, json};

const LAB: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/demo/before");

/// A server that clients reach, a chain with a rate limit, and a door for loopback.
const SAVE: &str = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n:lab - [0:0]\n\
    -A FORWARD -i lo -j ACCEPT\n\
    -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
    -A FORWARD -s 10.0.0.0/8 -d 10.1.2.3 -p tcp --dport 22 -j ACCEPT\n\
    -A FORWARD -i eth0 -s 10.0.0.0/8 -d 10.1.2.3 -p tcp --dport 25 -j ACCEPT\n\
    -A FORWARD -d 192.168.7.0/24 -p tcp --dport 80 -m limit --limit 3/min -m comment --comment \"the \x1b[31mlab\" -j lab\n\
    -A lab -s 192.168.0.0/16 -j ACCEPT\nCOMMIT\n";

fn hepguard(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hepguard")).arg("matrix").args(arguments).output().expect("hepguard runs")
}

/// Calls it with the firewall above.
fn on_save(arguments: &[&str], code: i32) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("iptables-legacy-save.txt"), SAVE).expect("a file");
    let path = folder.path().to_string_lossy().into_owned();
    let output = hepguard(&[arguments, &["--snapshot", &path]].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    let text = String::from_utf8(if code == 2 { output.stderr } else { output.stdout }).expect("UTF-8");
    assert!(!text.contains('\x1b'), "a raw escape: {text:?}");
    text
}

fn document(text: &str) -> Value {
    let value: Value = serde_json::from_str(text.lines().next().expect("a line")).expect("JSON");
    let schema: Value = serde_json::from_str(hepguard::report::matrix::SCHEMA).expect("the schema is JSON");
    let mut schemas = boon::Schemas::new();
    let mut compiler = boon::Compiler::new();
    compiler.add_resource("matrix.v1.json", schema).expect("a resource");
    let index = compiler.compile("matrix.v1.json", &mut schemas).expect("a schema");
    if let Err(error) = schemas.validate(&value, index) {
        panic!("{error}\n{value:#}");
    }
    value
}

#[test]
fn the_text_names_classes_and_whom_they_reach() {
    let text = on_save(&["tcp/22", "--family", "ipv4"], 0);
    let expected = "matrix tcp/22 at forward (ipv4)\n  \
        0  0.0.0.0/5, 8.0.0.0/7, 11.0.0.0/8, 12.0.0.0/6, 16.0.0.0/4, 32.0.0.0/3,\n     \
        64.0.0.0/3, 96.0.0.0/4, 112.0.0.0/5, 120.0.0.0/6, 124.0.0.0/7, 126.0.0.0/8,\n     \
        128.0.0.0/1\n       to nobody\n  1  everybody else (24 prefixes)\n       to 2\n  \
        2  10.1.2.3\n       to 2\n  3  127.0.0.0/8\n       to everybody\n";
    assert_eq!(text, expected);
    let whole = on_save(&["tcp/22", "--family", "ipv4", "-v"], 0);
    assert!(whole.contains("1  10.0.0.0/16, 10.1.0.0/23, 10.1.2.0/31, 10.1.2.2"), "{whole}");
    assert!(whole.lines().all(|line| line.chars().count() <= 80), "{whole}");
}

#[test]
fn the_json_is_as_promised() {
    let told = document(&on_save(&["tcp/25", "--family", "ipv4", "--format", "json"], 0));
    assert_eq!(told["schema"], "hepguard/matrix/v1");
    assert_eq!((&told["proto"], &told["port"], &told["hook"]), (&json!("tcp"), &json!(25), &json!("forward")));
    assert_eq!(told["classes"][2], json!(["10.1.2.3/32"]));
    assert_eq!(told["edges"], json!([[1, 2], [2, 2], [3, 0], [3, 1], [3, 2], [3, 3]]));
    let from = |interface| document(&on_save(&["tcp/25", "--family", "ipv4", "--format", "json", "-i", interface], 0));
    assert_eq!(from("eth1")["classes"], json!([["0.0.0.0/0"]]), "only eth0 and lo may");
    assert_eq!(from("eth1")["edges"], json!([]));
    assert_eq!(from("eth0")["edges"], json!([[1, 2], [2, 2]]));
    assert_eq!(from("lo")["classes"].as_array().map(Vec::len), Some(2), "loopback carries loopback's addresses");
}

#[test]
fn what_cannot_be_decided_counts_as_the_bound_says() {
    let may = document(&on_save(&["tcp/80", "--family", "ipv4", "--format", "json"], 3));
    let must = document(&on_save(&["tcp/80", "--family", "ipv4", "--format", "json", "--bound", "must"], 3));
    assert_eq!((may["classes"].as_array().map(Vec::len), &may["certain"]), (Some(4), &json!(false)));
    assert_eq!(must["classes"].as_array().map(Vec::len), Some(2), "loopback and the others");
    for told in [may, must] {
        let because = &told["because"][0];
        assert_eq!((&because["rule"]["chain"], &because["rule"]["rule"]), (&json!("FORWARD"), &json!(5)));
    }
    let text = on_save(&["tcp/80", "--family", "ipv4"], 3);
    assert!(text.contains("not certain: ") && text.contains("FORWARD rule 5"), "{text}");
}

#[test]
fn a_chain_alone_and_other_hooks() {
    let lab = |more: &[&str]| {
        document(&on_save(&[&["tcp/80", "--family", "ipv4", "--format", "json", "--chain"], more].concat(), 3))
    };
    assert_eq!(lab(&["lab", "--bound", "must"])["edges"], json!([[1, 0], [1, 1]]), "who comes from 192.168/16");
    assert_eq!(lab(&["lab"])["edges"], json!([[0, 0]]), "what the chain returns its caller may accept");
    let forward = document(&on_save(
        &["tcp/22", "--family", "ipv4", "--format", "json", "--chain", "FORWARD", "--table", "iptables-legacy filter"],
        0,
    ));
    assert_eq!(forward["chain"]["chain"], "FORWARD");
    assert_eq!(forward["classes"].as_array().map(Vec::len), Some(4));
    let input = document(&on_save(&["tcp/22", "--family", "ipv4", "--format", "json", "--hook", "input"], 0));
    assert_eq!((&input["hook"], &input["edges"]), (&json!("input"), &json!([[0, 0]])));
}

#[test]
fn rules_that_were_not_read_let_nobody_be_certain() {
    let text = on_save(&["tcp/22", "--family", "ipv6", "--format", "json"], 3);
    let told = document(&text);
    assert_eq!((&told["classes"], &told["edges"]), (&json!([["::/0"]]), &json!([[0, 0]])));
    assert!(told["because"][0]["reason"].as_str().is_some_and(|why| why.contains("ip6tables-save")), "{told:#}");
    let must = document(&on_save(&["tcp/22", "--family", "ipv6", "--format", "json", "--bound", "must"], 3));
    assert_eq!(must["edges"], json!([]));
}

#[test]
fn bad_calls_say_what_was_expected() {
    for (arguments, words) in [
        (&["icmp", "--sport", "7"][..], "leave --sport out"),
        (&["tcp/22", "-o", "eth0", "--hook", "input"], "leave -o out"),
        (&["tcp/22", "-i", "eth0/1"], "1 to 15 bytes"),
        (&["tcp/22", "--chain", "nosuch"], "no chain nosuch"),
        (&["tcp/22", "--chain", "FORWARD", "--hook", "input"], "hangs at forward"),
        (&["icmpv6", "--family", "ipv4"], "leave one out"),
        (&["tcp"], "needs a port"),
    ] {
        let text = on_save(arguments, 2);
        assert!(text.contains(words), "{arguments:?}: {text}");
    }
    let output = hepguard(&["tcp/22", "--snapshot", LAB, "--chain", "cali-FORWARD", "--family", "ipv4"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_ne!(output.status.code(), Some(1), "{text}");
}

fn read(text: &str) -> Snapshot {
    let mut files = SnapshotFiles::default();
    files.files.insert("iptables-legacy-save.txt".to_owned(), FileState::Present(text.as_bytes().to_vec()));
    snapshot::read(files)
}

fn query(bound: Bound) -> Query {
    Query {
        protocol: Protocol::TCP,
        port: Some(22),
        source_port: 40_000,
        way: Way::At(Hook::Forward),
        hook: Hook::Forward,
        iif: None,
        oif: None,
        bound,
    }
}

fn answer(snapshot: &Snapshot, bound: Bound) -> Result<Matrix, TooBig> {
    let facts = HostFacts::new(&snapshot.host, Family::Ipv4);
    matrix::answer(&snapshot.ruleset, &facts, &query(bound))
}

/// Prefixes near each other, so that rules cut each other's.
fn a_prefix(rng: &mut Rng) -> String {
    let length = *rng.choice(&[7, 8, 15, 16, 24, 29, 30, 31, 31, 32, 32, 32]).expect("one");
    let first = *rng.choice(&[10u32, 10, 11, 127, 192]).expect("one");
    let number = first << 24 | rng.u32(0..2) << 16 | rng.u32(0..2) << 8 | rng.u32(0..8);
    let kept = if length == 0 { 0 } else { u32::MAX << (32 - length) };
    format!("{}/{length}", Ipv4Addr::from(number & kept))
}

/// A rule of a small firewall: what decides is the addresses, and a bit of everything that goes along with them.
fn a_rule(rng: &mut Rng, chain: &str, targets: &[&str]) -> String {
    let mut rule = format!("-A {chain}");
    let not = |rng: &mut Rng| if rng.u8(0..8) == 0 { "! " } else { "" };
    if rng.u8(0..8) > 0 {
        rule += &format!(" {}-s {}", not(rng), a_prefix(rng));
    }
    if rng.u8(0..8) > 0 {
        rule += &format!(" {}-d {}", not(rng), a_prefix(rng));
    }
    if rng.u8(0..6) == 0 {
        let names = ["eth0", "eth1", "vlan+", "lo"];
        rule += &format!(" {}-i {}", not(rng), rng.choice(&names).expect("one"));
    }
    if rng.u8(0..8) == 0 {
        rule += &format!(" {}-o {}", not(rng), rng.choice(&["eth0", "lo"]).expect("one"));
    }
    rule += match rng.u8(0..10) {
        0 => " -p tcp -m tcp --dport 22",
        1 => " -p tcp -m tcp --dport 1:21",
        2 => " -p udp",
        3 => " -p tcp -m multiport --dports 80,22",
        4 => " -m conntrack --ctstate NEW",
        5 => " -m limit --limit 3/min",
        _ => "",
    };
    format!("{rule} -j {}\n", rng.choice(targets).expect("one"))
}

fn a_firewall(rng: &mut Rng) -> String {
    let policy = rng.choice(&["ACCEPT", "DROP"]).expect("one");
    let mut text = format!(
        "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD {policy} [0:0]\n:OUTPUT ACCEPT [0:0]\n:a - [0:0]\n:b - [0:0]\n"
    );
    for _ in 0..rng.usize(2..12) {
        text += &a_rule(rng, "FORWARD", &["ACCEPT", "DROP", "a", "b", "REJECT"]);
    }
    for _ in 0..rng.usize(0..5) {
        text += &a_rule(rng, "a", &["ACCEPT", "DROP", "RETURN", "b"]);
    }
    for _ in 0..rng.usize(0..5) {
        text += &a_rule(rng, "b", &["ACCEPT", "DROP", "RETURN"]);
    }
    text + "COMMIT\n"
}

/// Addresses that stand for all: the first one of each stretch no prefix of the rules cuts.
fn stand_ins(text: &str) -> Vec<u32> {
    let mut cuts = BTreeSet::from([0, 0x7f00_0000, 0x8000_0000]);
    for prefix in text.split_whitespace().filter_map(|word| word.parse::<Prefix>().ok()) {
        let (low, high) = prefix.range();
        cuts.extend([u32::try_from(low).ok(), u32::try_from(high + 1).ok()].into_iter().flatten());
    }
    cuts.into_iter().collect()
}

/// Whether some packet between two addresses is let through, by tracing one over each pair of interfaces.
fn accepts(engine: &Engine<'_>, src: u32, dst: u32, bound: Bound) -> bool {
    let loopback = |address: u32| address >> 24 == 127;
    for iif in ["eth0", "eth1", "vlan7", "zz9", "lo"] {
        for oif in ["eth0", "zz9", "lo"] {
            if iif == "lo" && !loopback(src) || oif == "lo" && !loopback(dst) {
                continue;
            }
            let end = |address: u32, port| format!("{}:{port}", Ipv4Addr::from(address));
            let mut spec = PacketSpec::new("forward", "tcp", &end(src, 40_000), &end(dst, 22)).expect("a packet");
            (spec.iif, spec.oif) = (Some(iif.to_owned()), Some(oif.to_owned()));
            let packet = spec.build().expect("a packet");
            let options = TraceOptions { at: Some(Hook::Forward), ..TraceOptions::default() };
            let trace = engine.trace(&packet, &options);
            let accepted = match trace.verdict {
                TraceVerdict::Unknown => bound == Bound::May && trace.may.contains(&TraceVerdict::Accept),
                verdict => verdict == TraceVerdict::Accept,
            };
            if accepted {
                return true;
            }
        }
    }
    false
}

/// The number of the class that holds an address.
fn class_of(matrix: &Matrix, address: u32) -> usize {
    let address = IpAddr::V4(Ipv4Addr::from(address));
    let mut found = matrix.classes.iter().enumerate().filter(|(_, class)| class.iter().any(|p| p.contains(address)));
    let (number, _) = found.next().unwrap_or_else(|| panic!("{address} is in no class"));
    assert!(found.next().is_none(), "{address} is in two classes");
    number
}

#[test]
fn classes_and_edges_are_those_of_brute_force() {
    let rounds = if cfg!(debug_assertions) { 60 } else { 300 };
    let mut classes = BTreeSet::new();
    for seed in 0..rounds {
        let mut rng = Rng::with_seed(seed);
        let text = a_firewall(&mut rng);
        let snapshot = read(&text);
        let engine = Engine::new(&snapshot.ruleset, &snapshot.host);
        let addresses = stand_ins(&text);
        for bound in [Bound::May, Bound::Must] {
            let matrix = answer(&snapshot, bound).expect("small");
            let edges: BTreeSet<(u32, u32)> = matrix.edges.iter().copied().collect();
            let numbers: Vec<usize> = addresses.iter().map(|address| class_of(&matrix, *address)).collect();
            let row = |src: &u32| addresses.iter().map(|dst| accepts(&engine, *src, *dst, bound)).collect();
            let decided: Vec<Vec<bool>> = addresses.iter().map(row).collect();
            let mut alike: BTreeMap<Vec<bool>, usize> = BTreeMap::new();
            for (from, row) in decided.iter().enumerate() {
                for (to, accepted) in row.iter().enumerate() {
                    let told = edges.contains(&(numbers[from] as u32, numbers[to] as u32));
                    let pair = (Ipv4Addr::from(addresses[from]), Ipv4Addr::from(addresses[to]));
                    assert_eq!(told, *accepted, "seed {seed}, {bound:?}, {pair:?}\n{text}");
                }
                let behaviour: Vec<bool> = row.iter().copied().chain(decided.iter().map(|row| row[from])).collect();
                let known = *alike.entry(behaviour).or_insert(numbers[from]);
                assert_eq!(known, numbers[from], "seed {seed}, {bound:?}: alike in two classes\n{text}");
            }
            assert_eq!(alike.len(), matrix.classes.len(), "seed {seed}, {bound:?}: as many as differ\n{text}");
            classes.insert(matrix.classes.len());
        }
    }
    assert!(classes.len() > 5 && classes.last().is_some_and(|most| *most > 6), "the firewalls differ: {classes:?}");
}

/// Members of sets near the prefixes of [`a_prefix`]: networks with an exception, addresses with ports, a list of sets.
const SETS: &str = "create nets hash:net family inet hashsize 64 maxelem 64\nadd nets 10.0.0.0/29\nadd nets 10.1.0.0/16\n\
    add nets 10.1.1.4/30 nomatch\ncreate doors hash:ip,port family inet hashsize 64 maxelem 64\n\
    add doors 10.0.0.3,tcp:22\nadd doors 192.0.1.1,udp:22\nadd doors 11.1.0.2,tcp:22\n\
    create wide hash:ip family inet netmask 30 hashsize 64 maxelem 64\nadd wide 10.0.1.4\n\
    create all list:set size 8\nadd all nets\nadd all wide\n";

/// What the addresses' own bits say, whatever the answer was made of.
fn by_bits(snapshot: &Snapshot, family: Family, bound: Bound) -> (Vec<Vec<Prefix>>, Vec<(u32, u32)>) {
    let facts = HostFacts::new(&snapshot.host, family);
    let settings = Settings { order: Order::Forward, ..Settings::default() };
    let mut engine = ReachEngine::new(&snapshot.ruleset, &facts, &settings);
    let pairs = matrix::pairs(&mut engine, &query(bound)).expect("small");
    matrix::classes(&engine, if bound == Bound::May { pairs.may } else { pairs.must }).expect("small")
}

#[test]
fn the_line_as_rules_cut_it_says_what_all_bits_say() {
    let rounds = if cfg!(debug_assertions) { 60 } else { 500 };
    let mut most = 0;
    for seed in 0..rounds {
        let mut rng = Rng::with_seed(seed);
        let mut text = a_firewall(&mut rng);
        let more = [
            " -m set --match-set nets src",
            " -m set ! --match-set nets dst",
            " -m set --match-set doors dst,dst -p tcp",
            " -m set --match-set all src",
            " -m set --match-set wide dst",
            " -m set --match-set nets src --return-nomatch",
            " -s 10.0.0.1/255.255.255.253",
            " -m iprange --src-range 10.0.0.2-10.0.1.1",
            " -m addrtype --dst-type MULTICAST",
            " -m addrtype --src-type LOCAL",
            " -p tcp -m u32 --u32 0xc=0xa000001",
        ];
        for _ in 0..rng.usize(1..4) {
            let condition = rng.choice(more).expect("one");
            let rule = format!("-A FORWARD{condition} -j {}\n", rng.choice(["ACCEPT", "DROP", "a"]).expect("one"));
            let lines: Vec<usize> = text.match_indices("-A ").map(|(at, _)| at).collect();
            text.insert_str(*rng.choice(&lines).expect("one"), &rule);
        }
        let mut files = SnapshotFiles::default();
        for (name, text) in [("iptables-legacy-save.txt", &*text), ("ipset-save.txt", SETS)] {
            files.files.insert(name.to_owned(), FileState::Present(text.as_bytes().to_vec()));
        }
        let snapshot = snapshot::read(files);
        for bound in [Bound::May, Bound::Must] {
            let told = answer(&snapshot, bound).expect("small");
            most = most.max(told.classes.len());
            assert_eq!(
                (told.classes, told.edges),
                by_bits(&snapshot, Family::Ipv4, bound),
                "seed {seed}, {bound:?}\n{text}"
            );
        }
    }
    assert!(most > 8, "{most} classes at most");
}

#[test]
fn ipv6_lines_say_what_all_bits_say() {
    let mut most = 0;
    for seed in 0..if cfg!(debug_assertions) { 20 } else { 200 } {
        let mut rng = Rng::with_seed(seed);
        let mut text = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n".to_owned();
        for _ in 0..rng.usize(2..14) {
            let mut prefix = || {
                let length = *rng.choice(&[0, 10, 48, 64, 64, 127, 128, 128]).expect("one");
                format!("2001:db8:{}::{}:{}/{length}", rng.u8(0..3), rng.u8(0..2), rng.u8(0..3))
            };
            let (from, to) = (prefix(), prefix());
            text += &format!("-A FORWARD -s {from} -d {to} -j {}\n", rng.choice(["ACCEPT", "DROP"]).expect("one"));
        }
        text += "-A FORWARD -s fe80::/10 -m limit --limit 3/min -j ACCEPT\nCOMMIT\n";
        let mut files = SnapshotFiles::default();
        files.files.insert("ip6tables-legacy-save.txt".to_owned(), FileState::Present(text.as_bytes().to_vec()));
        let snapshot = snapshot::read(files);
        for bound in [Bound::May, Bound::Must] {
            let facts = HostFacts::new(&snapshot.host, Family::Ipv6);
            let told = matrix::answer(&snapshot.ruleset, &facts, &query(bound)).expect("small");
            most = most.max(told.classes.len());
            assert_eq!(
                (told.classes, told.edges),
                by_bits(&snapshot, Family::Ipv6, bound),
                "seed {seed}, {bound:?}\n{text}"
            );
        }
    }
    assert!(most > 6, "{most} classes at most");
}

/// Sets of pairs of addresses in another library's diagrams: 32 bits of source, then 32 of destination.
struct Pairs {
    world: BddVariableSet,
    variables: Vec<BddVariable>,
}

impl Pairs {
    fn new() -> Self {
        let world = BddVariableSet::new_anonymous(64);
        Self { variables: world.variables(), world }
    }

    fn within(&self, prefix: Prefix, first: usize) -> Oracle {
        let bits = address_bits(prefix.address()) as u32;
        let mut all = self.world.mk_true();
        for at in 0..usize::from(prefix.length()) {
            all = all.and(&self.world.mk_literal(self.variables[first + at], bits >> (31 - at) & 1 == 1));
        }
        all
    }

    fn class(&self, class: &[Prefix], first: usize) -> Oracle {
        let mut sets: Vec<Oracle> = class.iter().map(|prefix| self.within(*prefix, first)).collect();
        while sets.len() > 1 {
            sets = sets.chunks(2).map(|pair| pair.iter().skip(1).fold(pair[0].clone(), |a, b| a.or(b))).collect();
        }
        sets.pop().unwrap_or_else(|| self.world.mk_false())
    }

    /// What is in `set` once one end is `address`.
    fn at(&self, set: &Oracle, address: IpAddr, first: usize) -> Oracle {
        let bits = address_bits(address) as u32;
        let fixed: Vec<(BddVariable, bool)> =
            (0..32).map(|at| (self.variables[first + at], bits >> (31 - at) & 1 == 1)).collect();
        set.restrict(&fixed)
    }
}

/// The first rule that fits decides, of hundreds; built again by another library from the rules alone.
#[test]
fn large_matrices_are_exact_and_minimal_by_another_library() {
    let rules = if cfg!(debug_assertions) { 60 } else { 400 };
    for seed in 0..2 {
        let mut rng = Rng::with_seed(seed);
        let pairs = Pairs::new();
        let mut text = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n".to_owned();
        let (mut accepted, mut decided) = (pairs.world.mk_false(), pairs.world.mk_false());
        for _ in 0..rules {
            let mut prefix = || {
                let length = rng.u8(9..33);
                let number = 10 << 24 | rng.u32(0..1 << 24);
                format!("{}/{length}", Ipv4Addr::from(number & u32::MAX << (32 - length)))
                    .parse::<Prefix>()
                    .expect("one")
            };
            let (src, dst) = (prefix(), prefix());
            let accept = rng.bool();
            text += &format!("-A FORWARD -s {src} -d {dst} -j {}\n", if accept { "ACCEPT" } else { "DROP" });
            let fits = pairs.within(src, 0).and(&pairs.within(dst, 32)).and_not(&decided);
            decided = decided.or(&fits);
            accepted = if accept { accepted.or(&fits) } else { accepted };
        }
        text += "COMMIT\n";
        let matrix = answer(&read(&text), Bound::May).expect("not too big");
        assert!(matrix.certain && matrix.classes.len() > 20, "{} classes", matrix.classes.len());
        let mut by_source: BTreeMap<u32, Vec<Prefix>> = BTreeMap::new();
        for (from, to) in &matrix.edges {
            by_source.entry(*from).or_default().extend(&matrix.classes[*to as usize]);
        }
        let mut told = pairs.world.mk_false();
        for (from, to) in by_source {
            told = told.or(&pairs.class(&matrix.classes[from as usize], 0).and(&pairs.class(&to, 32)));
        }
        assert!(told == accepted, "seed {seed}: the edges are what the rules accept");
        let mut seen = BTreeSet::new();
        for class in &matrix.classes {
            let address = class[0].address();
            let behaviour = (pairs.at(&accepted, address, 0), pairs.at(&accepted, address, 32));
            let words = (behaviour.0.to_string(), behaviour.1.to_string());
            assert!(seen.insert(words), "seed {seed}: two classes behave alike");
        }
    }
}

#[test]
fn what_is_too_big_is_said() {
    // every address by itself: bits in the middle that nothing before them decides
    let mut text = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n".to_owned();
    text += "-A FORWARD -s 0.0.0.1/0.0.0.1 -d 10.0.0.0/8 -j ACCEPT\nCOMMIT\n";
    assert_eq!(answer(&read(&text), Bound::May), Err(TooBig::Prefixes));
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("iptables-legacy-save.txt"), text).expect("a file");
    let path = folder.path().to_string_lossy().into_owned();
    let output = hepguard(&["tcp/22", "--family", "ipv4", "--snapshot", &path, "--format", "json"]);
    assert_eq!(output.status.code(), Some(3));
    let told = document(&String::from_utf8(output.stdout).expect("UTF-8"));
    assert_eq!((&told["classes"], &told["edges"]), (&json!([["0.0.0.0/0"]]), &json!([[0, 0]])));
    assert!(told["because"][0]["reason"].as_str().is_some_and(|why| why.contains("prefixes")), "{told:#}");
}
