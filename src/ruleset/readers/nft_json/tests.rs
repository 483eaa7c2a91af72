use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::*;
use crate::diagnostic::Parsed;
use crate::ruleset::{
    Data, DataType, Effect, Expr, FibField, FibResult, Field, Interval, Match, Operator, PayloadBase, Rule, Step,
    Verdict, interface_interval, interface_number,
};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/nft-json")
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(name)).expect(name)
}

fn read_fixture(name: &str) -> Parsed<Vec<Table>> {
    read(&Arc::from(name), &fixture(name))
}

/// Rules of a text listing by `family table chain`.
fn listed_rules(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut rules: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let (mut table, mut chain) = (String::new(), None);
    for line in text.lines() {
        let depth = line.len() - line.trim_start_matches('\t').len();
        let line = line.trim();
        match (depth, line) {
            (0, line) => {
                if let Some(name) = line.strip_prefix("table ") {
                    table = name.trim_end_matches(" {").to_owned();
                }
            }
            (1, line) => chain = line.strip_prefix("chain ").map(|name| name.trim_end_matches(" {").to_owned()),
            (2, line) => {
                if let Some(chain) = &chain
                    && !line.starts_with("type ")
                    && !line.starts_with("comment \"a chain")
                {
                    rules.entry(format!("{table} {chain}")).or_default().push(normal(line));
                }
            }
            _ => {}
        }
    }
    rules
}

/// A listed rule without counter values.
fn normal(line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let mut out = Vec::new();
    let mut index = 0;
    while let Some(word) = words.get(index) {
        out.push(*word);
        index += if *word == "counter" && words.get(index + 1) == Some(&"packets") { 5 } else { 1 };
    }
    let mut text = out.join(" ");
    for (theirs, ours) in WORDINGS {
        text = text.replace(theirs, ours);
    }
    text
}

/// Where versions of nft word the same thing differently and JSON does not tell which.
const WORDINGS: &[(&str, &str)] = &[
    (" burst 5 packets", ""),
    ("tcp flags & (fin | syn | rst | ack) == syn", "tcp flags syn / fin,syn,rst,ack"),
    ("tcp flags & (fin | syn | rst | ack) != syn", "tcp flags != syn / fin,syn,rst,ack"),
    ("tcp flags & (syn | ack) == syn | ack", "tcp flags syn,ack / syn,ack"),
    ("ip frag-off & 0x1fff != 0x0", "ip frag-off & 8191 != 0"),
    ("ip frag-off & 0x1fff == 0x0", "ip frag-off & 8191 == 0"),
    ("icmp code 3", "icmp code port-unreachable"),
    ("icmp code 4", "icmp code frag-needed"),
    ("iif check", "iif oif"),
    ("dnat ip to ip daddr . meta l4proto . th dport map @svcs", "dnat to ip daddr . meta l4proto . th dport map @svcs"),
];

fn read_rules(tables: &[Table]) -> BTreeMap<String, Vec<String>> {
    let mut rules: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for table in tables {
        for chain in &table.chains {
            for rule in &chain.rules {
                let key = format!("{} {} {}", table.family.nft_name(), table.name, chain.name);
                rules.entry(key).or_default().push(rule.text.to_string());
            }
        }
    }
    rules
}

#[test]
fn every_rule_reads_as_the_text_listing_says() {
    let mut differences = Vec::new();
    for entry in std::fs::read_dir(folder()).expect("fixtures") {
        let path = entry.expect("entry").path();
        let name = path.file_name().expect("name").to_string_lossy().into_owned();
        let Some(stem) = name.strip_suffix(".json") else { continue };
        if name.starts_with("91-") {
            continue; // nft itself left parts out
        }
        let base = stem.trim_end_matches(".nft117");
        let list = [format!("{stem}.list.txt"), format!("{base}.list.txt")];
        let Some(list) = list.iter().find(|list| folder().join(list).exists()) else { continue };
        let parsed = read_fixture(&name);
        let expected = listed_rules(&String::from_utf8_lossy(&fixture(list)));
        let got = read_rules(&parsed.value);
        for (chain, rules) in &expected {
            let read = got.get(chain).cloned().unwrap_or_default();
            for index in 0..rules.len().max(read.len()) {
                // text listings translate xt rules back, JSON cannot: they are merge's business
                let xt = read.get(index).is_some_and(|read| read.contains("xt match") || read.contains("xt target"));
                if rules.get(index) != read.get(index) && !xt {
                    differences.push(format!(
                        "{name} {chain} {index}\n  list {:?}\n  read {:?}",
                        rules.get(index),
                        read.get(index)
                    ));
                }
            }
        }
    }
    differences.sort();
    assert!(differences.is_empty(), "{} differences\n{}", differences.len(), differences.join("\n"));
}

fn listing(version: &str, objects: &str) -> Parsed<Vec<Table>> {
    let text = format!(
        "{{\"nftables\": [{{\"metainfo\": {{\"version\": \"{version}\", \"json_schema_version\": 1}}}}, {objects}]}}"
    );
    read(&Arc::from("nft-ruleset.json"), text.as_bytes())
}

/// Steps of one rule of an `inet` (or other) table.
fn steps_in(family: &str, statements: &str) -> Parsed<Vec<Step>> {
    let parsed = listing(
        "1.1.3",
        &format!(
            "{{\"table\": {{\"family\": \"{family}\", \"name\": \"t\"}}}}, \
             {{\"chain\": {{\"family\": \"{family}\", \"table\": \"t\", \"name\": \"c\"}}}}, \
             {{\"rule\": {{\"family\": \"{family}\", \"table\": \"t\", \"chain\": \"c\", \"handle\": 7, \
             \"expr\": [{statements}]}}}}"
        ),
    );
    parsed.map(|tables| first_rule(&tables).steps.clone())
}

fn first_rule(tables: &[Table]) -> &Rule {
    tables.first().and_then(|table| table.chains.first()).and_then(|chain| chain.rules.first()).expect("a rule")
}

fn steps(statements: &str) -> Vec<Step> {
    let parsed = steps_in("inet", statements);
    assert_eq!(parsed.diagnostics, [], "{statements}");
    parsed.value
}

fn is(field: Field, value: u128) -> Step {
    Step::Match(Match::equals(field, value))
}

const DPORT_22: &str = r#"{"match":{"op":"==","left":{"payload":{"protocol":"tcp","field":"dport"}},"right":22}}"#;

#[test]
fn implied_conditions_are_said_again() {
    assert_eq!(steps(DPORT_22), [is(Field::L4proto, 6), is(Field::Dport, 22)]);
    let ip = r#"{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"saddr"}},"right":"10.0.0.1"}}"#;
    assert_eq!(steps(ip), [is(Field::Nfproto, 2), is(Field::Ip4Saddr, 0x0a00_0001)]);
    assert_eq!(steps_in("ip", ip).value, [is(Field::Ip4Saddr, 0x0a00_0001)], "an ip table sees only IPv4");
    assert_eq!(steps_in("ip", DPORT_22).value, [is(Field::L4proto, 6), is(Field::Dport, 22)], "but any protocol");
    assert_eq!(steps_in("bridge", ip).value, [is(Field::EtherType, 0x0800), is(Field::Ip4Saddr, 0x0a00_0001)]);
    let twice = format!("{DPORT_22},{}", DPORT_22.replace("dport", "sport"));
    assert_eq!(steps(&twice), [is(Field::L4proto, 6), is(Field::Dport, 22), is(Field::Sport, 22)], "once is enough");
    let ping =
        r#"{"match":{"op":"==","left":{"payload":{"protocol":"icmpv6","field":"type"}},"right":"echo-request"}}"#;
    assert_eq!(steps(ping), [is(Field::Nfproto, 10), is(Field::L4proto, 58), is(Field::Icmp6Type, 128)]);
}

#[test]
fn a_reject_by_icmpv6_does_not_hit_ipv4() {
    let reject = |how: &str| Step::Verdict(Verdict::Reject(how.into()));
    assert_eq!(
        steps(r#"{"reject":{"type":"icmpv6","expr":"no-route"}}"#),
        [is(Field::Nfproto, 10), reject("icmpv6 no-route")]
    );
    assert_eq!(steps(r#"{"reject":{"type":"tcp reset"}}"#), [is(Field::L4proto, 6), reject("tcp reset")]);
    assert_eq!(steps(r#"{"reject":null}"#), [reject("icmpx port-unreachable")]);
}

#[test]
fn bit_tests_and_comparisons_are_told_apart() {
    let state = |op: &str, right: &str| {
        steps(&format!(r#"{{"match":{{"op":"{op}","left":{{"ct":{{"key":"status"}}}},"right":{right}}}}}"#))
    };
    let compare = |operator: Operator, value: u128| {
        let (left, right) = (Expr::Field(Field::CtStatus), Expr::Number(value));
        vec![Step::Match(Match::Compare { left, operator, right })]
    };
    assert_eq!(state("in", r#"["dnat","snat"]"#), compare(Operator::AnyBit, 48));
    assert_eq!(state("in", r#"{"|":["dnat","snat"]}"#), compare(Operator::AnyBit, 48), "newer spelling");
    assert_eq!(state("!=", r#""dnat""#), compare(Operator::Ne, 32), "compares all bits");
    assert_eq!(state("!", r#""dnat""#), compare(Operator::NoBit, 32), "asks for this bit");
}

#[test]
fn ports_without_a_protocol_are_raw_bytes() {
    let th = r#"{"match":{"op":"==","left":{"payload":{"protocol":"th","field":"dport"}},"right":53}}"#;
    let raw = Expr::Payload { base: PayloadBase::Transport, offset: 16, length: 16 };
    let compare = |left: Expr| Step::Match(Match::Compare { left, operator: Operator::Eq, right: Expr::Number(53) });
    assert_eq!(steps(th), [compare(raw)], "an ICMP packet has bytes there too");
    let guard = r#"{"match":{"op":"==","left":{"meta":{"key":"l4proto"}},"right":{"set":["tcp","udp"]}}}"#;
    let guarded = steps(&format!("{guard},{th}"));
    assert_eq!(guarded.last(), Some(&compare(Expr::Field(Field::Dport))));
    let icmp_too = guard.replace("udp", "icmp");
    assert_ne!(steps(&format!("{icmp_too},{th}")).last(), Some(&compare(Expr::Field(Field::Dport))));
}

#[test]
fn raw_payload_is_the_field_it_is_where_the_header_is_certain() {
    let raw = r#"{"match":{"op":"==","left":{"payload":{"base":"nh","offset":96,"len":32}},"right":167772161}}"#;
    assert_eq!(steps_in("ip", raw).value, [is(Field::Ip4Saddr, 0x0a00_0001)]);
    let payload = Expr::Payload { base: PayloadBase::Network, offset: 96, length: 32 };
    let (operator, right) = (Operator::Eq, Expr::Number(0x0a00_0001));
    assert_eq!(
        steps(raw),
        [Step::Match(Match::Compare { left: payload, operator, right })],
        "IPv6 has bytes there too"
    );
}

#[test]
fn interface_names_indexes_and_wildcards_are_told_apart() {
    let meta = |key: &str, right: &str| {
        steps(&format!(r#"{{"match":{{"op":"==","left":{{"meta":{{"key":"{key}"}}}},"right":"{right}"}}}}"#))
    };
    assert_eq!(meta("iifname", "eth0"), [is(Field::Iifname, interface_number(b"eth0"))]);
    assert_eq!(meta("iifname", r"eth\\*"), [is(Field::Iifname, interface_number(b"eth*"))]);
    assert_eq!(meta("iif", "lo"), [is(Field::Iif, interface_number(b"lo"))]);
    assert_eq!(meta("iif", "7"), [is(Field::Iif, 7)], "the interface is gone");
    let wild = interface_interval(&crate::packet::InterfacePattern::prefix("cali"));
    assert_eq!(meta("iifname", "cali*"), [Step::Match(Match::within(Field::Iifname, false, [wild]))]);
}

#[test]
fn a_route_check_is_presence_and_a_zero_index_is_a_number() {
    let fib = |right: &str| {
        let left = r#"{"fib":{"result":"oif","flags":["saddr","mark","iif"]}}"#;
        steps(&format!(r#"{{"match":{{"op":"==","left":{left},"right":{right}}}}}"#))
    };
    let expect = |result: FibResult, value: u128| {
        let left = Expr::Fib(FibField { source: true, mark: true, iif: true, oif: false, result });
        vec![Step::Match(Match::Compare { left, operator: Operator::Eq, right: Expr::Number(value) })]
    };
    assert_eq!(fib(r#""0""#), expect(FibResult::Oif, 0));
    assert_eq!(fib("false"), expect(FibResult::Present, 0));
    assert_eq!(fib(r#"{"concat":[true]}"#), expect(FibResult::Present, 1));
}

#[test]
fn unknown_parts_stay_in_their_place_and_are_named() {
    for (statement, opaque) in [
        (r#"{"frobnicate":{"x":1}}"#, r#"{"frobnicate":{"x":1}}"#),
        (r#"{"match":{"op":"~","left":{"meta":{"key":"mark"}},"right":1}}"#, r#""op":"~""#),
        (r#"{"match":{"op":"==","left":{"meta":{"key":"moon"}},"right":1}}"#, "moon"),
        (
            r#"{"match":{"op":"==","left":{"payload":{"tunnel":"gre","protocol":"ip","field":"saddr"}},"right":"1.1.1.1"}}"#,
            "gre",
        ),
        (r#"{"match":{"op":"==","left":{"meta":{"key":"mark"}},"right":4294967296}}"#, "4294967296"),
        (r#"{"match":{"op":"==","left":{"meta":{"key":"mark"}},"right":-1}}"#, "-1"),
        (r#"{"match":{"op":"==","left":{"meta":{"key":"mark"}},"right":1e300}}"#, "match"),
        (r#"{"xt":null}"#, "xt"),
        (r#""accept""#, "accept"),
        (r#"{"accept":null,"drop":null}"#, "drop"),
        (r#"{"jump":{}}"#, "jump"),
        (r#"{"limit":{"rate":1,"per":"second","shape":"round"}}"#, "round"),
    ] {
        let parsed = steps_in("inet", &format!("{statement},{{\"accept\":null}}"));
        let text = match parsed.value.as_slice() {
            [
                Step::Match(Match::Opaque { text, .. }) | Step::Effect(Effect::Opaque(text)),
                Step::Verdict(Verdict::Accept),
            ] => text,
            other => panic!("{statement}: {other:?}"),
        };
        assert!(text.contains(opaque), "{statement}: {text}");
        if !statement.contains("xt") {
            let remark = parsed.diagnostics.first().unwrap_or_else(|| panic!("{statement}: no remark")).to_string();
            assert!(remark.starts_with("nft-ruleset.json:1:") && remark.contains("rule inet t c handle 7"), "{remark}");
        }
    }
}

#[test]
fn a_rule_whose_statements_cannot_be_decoded_is_opaque_not_missing() {
    for expr in [
        r#"[{"match":{"op":"==","op":"!=","left":{"meta":{"key":"mark"}},"right":1}}]"#.to_owned(),
        r#"{"accept":null}"#.to_owned(),
        "7".to_owned(),
        format!("[{}1{}]", "[".repeat(200), "]".repeat(200)),
    ] {
        let parsed = listing(
            "1.1.3",
            &format!(
                r#"{{"rule":{{"family":"ip","table":"t","chain":"c","expr":{expr}}}}},
                {{"rule":{{"family":"ip","table":"t","chain":"c","expr":[{{"drop":null}}]}}}}"#
            ),
        );
        let rules = &parsed.value.first().expect("table").chains.first().expect("chain").rules;
        assert!(matches!(rules.first().expect("kept").steps.as_slice(), [Step::Effect(Effect::Opaque(_))]), "{expr}");
        assert_eq!(rules.get(1).expect("next").steps, [Step::Verdict(Verdict::Drop)], "the next rule is read");
        assert!(parsed.diagnostics.iter().any(|remark| remark.level >= Level::Warning), "{expr}");
    }
}

#[test]
fn dormant_tables_are_known_and_old_garbage_is_not_believed() {
    let dormant = |name: &str| {
        let parsed = read_fixture(name);
        let table = parsed.value.iter().find(|table| &*table.name == "dormant_t").expect("table").dormant;
        (table, parsed.diagnostics.iter().any(|remark| remark.message.contains("dormant")))
    };
    assert_eq!(dormant("15-tables-chains.nft117.json"), (true, false));
    assert_eq!(dormant("15-tables-chains.json"), (false, true), "unknown, and said so");
}

#[test]
fn base_chains_have_their_place() {
    let parsed = read_fixture("15-tables-chains.nft117.json");
    let chain = |table: &str, name: &str| {
        let table = parsed.value.iter().find(|t| &*t.name == table).expect("table");
        table.chain(name).expect("chain").1.base.clone()
    };
    let b = chain("prios", "b").expect("base");
    assert_eq!((b.kind, b.hook, b.priority, b.policy), (ChainKind::Filter, Hook::Input, -155, Policy::Accept));
    assert_eq!(chain("prios", "d").expect("base").policy, Policy::Drop);
    assert_eq!(chain("prios", "g").expect("base").kind, ChainKind::Route);
    assert_eq!(chain("prios", "jumps"), None);
    let devices = chain("nd", "ing2").expect("base").devices;
    assert_eq!(devices, ["lo".into(), "v0".into()]);
    for (text, family, expected) in [
        ("\"filter\"", Family::Inet, Some(0)),
        ("\"mangle - 5\"", Family::Ipv4, Some(-155)),
        ("\"srcnat+10\"", Family::Ipv4, Some(110)),
        ("\"filter\"", Family::Bridge, Some(-200)),
        ("\"-300\"", Family::Ipv4, Some(-300)),
        ("99999999999", Family::Ipv4, None),
        ("\"nonsense\"", Family::Ipv4, None),
    ] {
        let json: Json<'_> = serde_json::from_str(text).expect("json");
        assert_eq!(priority(&json, family), expected, "{text}");
    }
}

#[test]
fn sets_hold_what_was_listed() {
    for name in ["05-named-sets.json", "05-named-sets.nft117.json"] {
        let parsed = read_fixture(name);
        let table = parsed.value.first().expect("table");
        let set = |name: &str| table.set(name).unwrap_or_else(|| panic!("{name}"));
        let keys = |name: &str| set(name).elements.keys().map(<[Interval]>::to_vec).collect::<Vec<_>>();
        let ip = |low: u128, high: u128| vec![Interval { low, high }];
        assert_eq!(keys("hosts"), [ip(0x0a00_0001, 0x0a00_0001), ip(0x0a00_0002, 0x0a00_0002)]);
        assert_eq!(keys("nets").get(1), Some(&ip(0x4000_0000, 0x7fff_ffff)), "64.0.0.0/2");
        assert_eq!(keys("ports"), [ip(22, 22), ip(80, 90), ip(1024, 65535)]);
        let cci = keys("cci");
        assert_eq!(
            cci.first().expect("element"),
            &[Interval { low: 0x0a00_0000, high: 0x0a00_00ff }, Interval::single(6), Interval { low: 22, high: 25 }]
        );
        assert_eq!(set("cci").key, [DataType::Ipv4Addr, DataType::InetProto, DataType::InetService]);
        assert_eq!(set("ty").key.len(), 2, "{name}: typeof");
        let two = set("tmo").elements.extra(1).expect("extra");
        assert_eq!((two.comment.as_deref(), two.expires.is_some(), two.stateful), (Some("two"), true, false));
        let wild = interface_interval(&crate::packet::InterfacePattern::prefix("cali"));
        assert!(keys("ifsw").contains(&vec![wild]));
        assert_eq!(set("cst").elements.key(0), Some([Interval::single(2)].as_slice()));
        assert!(set("empty").elements.is_empty() && set("empty").incomplete.is_none());
        assert!(table.sets.iter().all(|set| set.incomplete.is_none()), "{name}");
    }
}

#[test]
fn maps_hold_verdicts_values_and_the_default() {
    for name in ["06-maps-vmaps.json", "06-maps-vmaps.nft117.json"] {
        let parsed = read_fixture(name);
        assert_eq!(parsed.diagnostics, [], "{name}");
        let table = parsed.value.first().expect("table");
        let map = |name: &str| &table.set(name).expect("map").elements;
        assert_eq!(map("vm").data(2), Some(&Data::Verdict(Verdict::Jump("sub".into()))));
        assert_eq!(map("vm").data(5), Some(&Data::Verdict(Verdict::Continue)));
        assert_eq!(map("deflt").catch_all(), Some(&Data::Verdict(Verdict::Drop)));
        let service = Data::Value(vec![Interval::single(0x0a00_0001), Interval::single(6443)]);
        assert_eq!(map("svcs").data(0), Some(&service));
        assert_eq!(map("cm").extra(0).and_then(|extra| extra.comment.as_deref()), Some("x"));
    }
}

#[test]
fn bad_elements_make_a_set_incomplete() {
    let parsed = listing(
        "1.1.3",
        r#"{"set":{"family":"ip","name":"s","table":"t","type":"ipv4_addr",
            "elem":["10.0.0.1","10.0.0.300",{"range":["10.0.0.9","10.0.0.2"]},{"concat":["1.1.1.1",2]}]}},
           {"set":{"family":"ip","name":"u","table":"t","type":"hologram","elem":[1]}},
           {"set":{"family":"ip","name":"v","table":"t","type":"mark","elem":{"a":1}}},
           {"map":{"family":"ip","name":"w","table":"t","type":"mark","map":"verdict","elem":[[1,{"explode":null}],5]}}"#,
    );
    let table = parsed.value.first().expect("table");
    assert_eq!(table.set("s").expect("s").elements.len(), 1);
    for name in ["s", "u", "v", "w"] {
        assert!(table.set(name).expect(name).incomplete.is_some(), "{name}");
    }
    assert_eq!(parsed.diagnostics.len(), 4, "{:?}", parsed.diagnostics);
}

#[test]
fn nothing_and_half_of_something_are_errors() {
    let worst = |text: &[u8]| {
        let parsed = read(&Arc::from("x"), text);
        parsed.diagnostics.iter().map(|remark| remark.level).max()
    };
    let texts: [&[u8]; 7] = [
        b"",
        b"  \n",
        b"{}",
        b"[]",
        b"null",
        br#"{"nftables":[]}"#,
        br#"{"nftables":[{"table":{"family":"ip","name":"t"}}]}"#,
    ];
    for text in texts {
        assert_eq!(worst(text), Some(Level::Error), "{}", String::from_utf8_lossy(text));
    }
    assert_eq!(listing("1.0.6", r#"{"table":{"family":"ip","name":"t"}}"#).diagnostics, []);
}

#[test]
fn a_listing_cut_anywhere_gives_what_came_before() {
    let text = fixture("22-calico-nft-like.json");
    let whole = read_rules(&read_fixture("22-calico-nft-like.json").value);
    let count = |rules: &BTreeMap<String, Vec<String>>| rules.values().map(Vec::len).sum::<usize>();
    let mut before = 0;
    for end in (0..text.len()).step_by(997) {
        let cut = read(&Arc::from("cut.json"), &text[..end]);
        let last = cut.diagnostics.last().expect("a remark");
        let remark = cut.diagnostics.iter().find(|remark| remark.level == Level::Error).unwrap_or(last);
        assert_eq!(remark.level, Level::Error, "at {end}");
        assert!(remark.line > 0 || end == 0, "at {end}: {remark}");
        let rules = read_rules(&cut.value);
        assert!(count(&rules) >= before, "at {end}");
        before = count(&rules);
        for (chain, rules) in rules {
            assert_eq!(Some(rules.as_slice()), whole.get(&chain).and_then(|all| all.get(..rules.len())), "at {end}");
        }
    }
    assert!(before + 2 >= count(&whole), "{before} of {}", count(&whole));
}

#[test]
fn mangled_listings_never_panic_and_remarks_stay_few() {
    let mut random = fastrand::Rng::with_seed(7);
    for name in
        ["22-calico-nft-like.json", "05-named-sets.nft117.json", "14-fib-rt-socket.json", "13-nat-dup-tproxy.json"]
    {
        // decoded values instead of bytes: most mangled texts are no JSON at all
        let text = String::from_utf8(fixture(name)).expect("text");
        for _ in 0..300 {
            let mut bytes = text.clone().into_bytes();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(0..bytes.len());
                let with: &[u8] =
                    [&b"9"[..], b"\"", b"null", b"[", b"-", b"\xff", b"{}", b"1e9", b"99999999999999999999"]
                        [random.usize(0..9)];
                let end = (at + random.usize(0..6)).min(bytes.len());
                bytes.splice(at..end, with.iter().copied());
            }
            let parsed = read(&Arc::from(name), &bytes);
            assert!(parsed.diagnostics.len() <= crate::diagnostic::MAX_DIAGNOSTICS);
        }
    }
    let many = vec![r#"{"rule":{"family":"ip","table":"t","chain":"c","expr":[{"what":1}]}}"#; 5000].join(",");
    let parsed = listing("1.1.3", &many);
    assert_eq!(parsed.diagnostics.len(), crate::diagnostic::MAX_DIAGNOSTICS);
    assert_eq!(first_rule(&parsed.value).steps.len(), 1);
    let deep = format!("{{\"nftables\":[{}", "[".repeat(100_000));
    assert!(!read(&Arc::from("deep"), deep.as_bytes()).diagnostics.is_empty());
}

#[test]
fn a_remark_on_a_huge_statement_stays_short() {
    let parsed = steps_in("ip", &format!(r#"{{"frobnicate":"{}"}}"#, "x".repeat(100_000)));
    assert!(parsed.diagnostics.iter().all(|remark| remark.message.len() < 1000));
    let names = parsed.diagnostics.first().expect("a remark").message.clone();
    assert!(names.contains("frobnicate"), "{names}");
    let parsed = steps_in(
        "ip",
        &format!(r#"{{"match":{{"op":"==","left":{{"meta":{{"key":"mark"}}}},"right":"{}"}}}}"#, "x".repeat(100_000)),
    );
    assert!(parsed.diagnostics.iter().all(|remark| remark.message.len() < 1000));
}

#[test]
fn bytes_that_are_no_text_are_said_and_survived() {
    let text =
        br#"{"nftables":[{"metainfo":{"version":"1.1.3","json_schema_version":1}},{"table":{"family":"ip","name":"t"}},
        {"rule":{"family":"ip","table":"t","chain":"c","comment":"a"#;
    let mut bytes = text.to_vec();
    bytes.extend(b"\xff\xfe\",\"expr\":[{\"drop\":null}]}}]}");
    let parsed = read(&Arc::from("x"), &bytes);
    assert_eq!(first_rule(&parsed.value).steps, [Step::Verdict(Verdict::Drop)]);
    assert_eq!(parsed.diagnostics.iter().map(|remark| remark.level).collect::<Vec<_>>(), [Level::Warning]);
}

#[test]
fn listings_of_parts_may_stand_one_after_the_other_each_chain_once() {
    const INFO: &str = r#"{"metainfo": {"version": "1.0.6", "json_schema_version": 1}}"#;
    let part = |objects: &str| format!("{{\"nftables\": [{INFO}, {objects}]}}\n");
    let chain = r#"{"chain": {"family": "ip", "table": "t", "name": "c", "handle": 1}},
        {"rule": {"family": "ip", "table": "t", "chain": "c", "handle": 2, "expr": [{"drop": null}]}}"#;
    let set = |elements: &str| {
        format!(
            r#"{{"set": {{"family": "ip", "name": "s", "table": "t", "type": "ipv4_addr", "handle": 3{elements}}}}}"#
        )
    };
    let text = part(&format!("{chain}, {}", set(""))) + &part(&set(r#", "elem": ["10.0.0.1"]"#));
    let parsed = read(&Arc::from("x"), text.as_bytes());
    assert_eq!(parsed.diagnostics, []);
    assert_eq!((parsed.value.len(), parsed.value[0].chains[0].rules.len()), (1, 1));
    assert_eq!((parsed.value[0].sets.len(), parsed.value[0].sets[0].elements.len()), (1, 1));

    let twice = part(chain) + &part(chain);
    let parsed = read(&Arc::from("x"), twice.as_bytes());
    assert!(parsed.diagnostics.iter().any(|remark| remark.level == Level::Error && remark.message.contains("twice")));
    let half = part(chain) + "{\"nftables\": [{";
    let parsed = read(&Arc::from("x"), half.as_bytes());
    assert!(parsed.diagnostics.iter().any(|remark| remark.level == Level::Error && remark.message.contains("cut off")));
}

#[test]
fn every_fixture_reads_without_errors_and_knows_its_own_words() {
    for entry in std::fs::read_dir(folder()).expect("fixtures") {
        let name = entry.expect("entry").file_name().to_string_lossy().into_owned();
        if !name.ends_with(".json") {
            continue;
        }
        let parsed = read_fixture(&name);
        let bad: Vec<String> = parsed
            .diagnostics
            .iter()
            .filter(|remark| remark.level > Level::Note && !remark.message.contains("before 1.1.0"))
            .map(ToString::to_string)
            .collect();
        assert!(bad.is_empty(), "{bad:?}");
    }
}
