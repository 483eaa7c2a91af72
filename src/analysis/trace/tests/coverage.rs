//! What of nftables is decided: every key and statement is put into a rule, and packets are sent through it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use super::build::*;
use crate::analysis::trace::{TraceOptions, trace};
use crate::host::{Clocks, Host};
use crate::packet::{
    ConntrackView, CtDirection, CtStatus, Details, Direction, ExtensionHeader, Hook, Packet, PacketType, Protocol,
    Tuple,
};
use crate::ruleset::nft_words::{Needs, Word, words};
use crate::ruleset::readers::nft_json;
use crate::ruleset::{BaseChain, ChainKind, Effect, Match, OpaqueKind, Policy, Ruleset, Step, coverage};

/// What a rule's answer depends on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Answer {
    Exact,
    Told,
    Opaque,
    Counts,
    NoEffect,
    Offloads,
    Foreign,
}

impl Answer {
    fn words(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Told => "given the packet's details, its connection or the host's facts",
            Self::Opaque => "opaque",
            Self::Counts => "opaque, each rule by itself",
            Self::NoEffect => "no effect",
            Self::Offloads => "later packets that rules would refuse are unknown",
            Self::Foreign => "read; no IP packet meets it",
        }
    }
}

/// A packet as little is told of it as may be, or with all its details.
fn packet(direction: Direction, v6: bool, protocol: Protocol, detailed: bool) -> Packet {
    let (near, far) = if v6 { ("2001:db8::10", "2001:db8::77") } else { ("10.0.1.10", "203.0.113.7") };
    let (src, dst) = if direction == Direction::Out { (near, far) } else { (far, near) };
    let mut packet = Packet::first(direction, protocol, (ip(src), 51522), (ip(dst), 22));
    match direction {
        Direction::Out => packet.oif = Some("ens5".into()),
        _ => packet.iif = Some("ens5".into()),
    }
    if matches!(protocol, Protocol::ICMP | Protocol::ICMPV6) {
        packet.icmp = Some((if v6 { 128 } else { 8 }, 0));
    }
    if !detailed {
        return packet;
    }
    let tuple = Tuple { src: packet.src, sport: packet.sport, dst: packet.dst, dport: packet.dport };
    let turned = Tuple { src: packet.dst, sport: packet.dport, dst: packet.src, dport: packet.sport };
    packet.ct = ConntrackView {
        status: Some(CtStatus(0)),
        direction: Some(CtDirection::Original),
        original: Some(tuple),
        reply: Some(turned),
        mark: Some(0),
    };
    (packet.ttl, packet.tos, packet.length) = (Some(64), Some(0), Some(60));
    packet.packet_type = Some(PacketType::Host);
    if direction == Direction::Out {
        (packet.uid, packet.gid) = (Some(0), Some(0));
    }
    let header = |number| ExtensionHeader { header: Protocol(number), bytes: vec![0; 24].into() };
    packet.details = Details {
        source_mac: Some([2; 6]),
        destination_mac: Some([4; 6]),
        extensions: Some([0, 60, 43].map(header).into()),
        transport: Some({
            let mut bytes = vec![0; 60];
            bytes[12] = 0xf0;
            bytes.into()
        }),
        groups: Some(Box::default()),
        cgroup: Some("/system.slice".into()),
        classid: Some(0),
        time: Some(1_800_000_000),
        ipsec: Some(false),
    };
    packet
}

/// Whether packets of both directions, as much told as `detailed` says, are certain of a chain with `rules`.
fn certain(rules: &[crate::ruleset::Rule], v6: bool, protocol: Protocol, detailed: bool) -> [bool; 2] {
    [(Direction::In, Hook::Input), (Direction::Out, Hook::Output)].map(|(direction, hook)| {
        let rules = ruleset([table([base(hook, 0, Policy::Accept, rules.to_vec())])]);
        decided(&rules, &packet(direction, v6, protocol, detailed), detailed)
    })
}

/// Whether a packet's fate is certain, with or without the host's facts.
fn decided(rules: &Ruleset, packet: &Packet, detailed: bool) -> bool {
    // the bastion has IPv4 alone
    let clocks = Clocks { listed_in_utc: detailed, kernel_in_utc: detailed };
    let host = if detailed && packet.dst.is_ipv4() { bastion() } else { Host::default() };
    let host = Host { clocks, ..host };
    trace(rules, &host, packet, &TraceOptions::default()).certain
}

fn answer(rules: &[crate::ruleset::Rule], v6: bool, protocol: Protocol) -> Answer {
    match (certain(rules, v6, protocol, false), certain(rules, v6, protocol, true)) {
        ([true, true], _) => Answer::Exact,
        (_, [true, _] | [_, true]) => Answer::Told,
        _ => Answer::Opaque,
    }
}

fn of_word(word: &Word) -> Answer {
    let (v6, protocol) = match word.needs {
        Needs::Ipv6 => (true, Protocol::TCP),
        Needs::Protocol(number) => (false, Protocol(number)),
        Needs::Icmp => (false, Protocol::ICMP),
        Needs::Icmpv6 => (true, Protocol::ICMPV6),
        Needs::Igmp => (false, Protocol(2)),
        Needs::Nothing | Needs::Ipv4 | Needs::Ethernet | Needs::Vlan => (false, Protocol::TCP),
    };
    if matches!(word.group, "arp" | "vlan") {
        return Answer::Foreign;
    }
    answer(&[rule([on(Match::equals(word.field(), 1)), drop()])], v6, protocol)
}

/// Expressions and statements that are no single key: what it is called, and a rule with it as nft lists it.
const SAMPLES: &[(&str, &str)] = &[
    (
        "`@nh` `@th` raw payload",
        r#"{"match":{"op":"==","left":{"payload":{"base":"th","offset":48,"len":8}},"right":1}}"#,
    ),
    (
        "`@ll` `@ih` raw payload",
        r#"{"match":{"op":"==","left":{"payload":{"base":"ll","offset":0,"len":8}},"right":1}}"#,
    ),
    ("`exthdr`", r#"{"match":{"op":"==","left":{"exthdr":{"name":"frag"}},"right":true}}"#),
    ("`tcp option`", r#"{"match":{"op":"==","left":{"tcp option":{"name":"maxseg","field":"size"}},"right":1460}}"#),
    ("`ip option`", r#"{"match":{"op":"==","left":{"ip option":{"name":"lsrr","field":"type"}},"right":1}}"#),
    ("`sctp chunk`", r#"{"match":{"op":"==","left":{"sctp chunk":{"name":"init","field":"type"}},"right":1}}"#),
    ("`dccp option`", r#"{"match":{"op":"==","left":{"dccp option":{"type":1}},"right":true}}"#),
    ("`fib` type", r#"{"match":{"op":"==","left":{"fib":{"result":"type","flags":["daddr"]}},"right":"local"}}"#),
    (
        "`fib` oif, oifname, check",
        r#"{"match":{"op":"==","left":{"fib":{"result":"oif","flags":["saddr","iif"]}},"right":false}}"#,
    ),
    ("`numgen`", r#"{"match":{"op":"==","left":{"numgen":{"mode":"random","mod":2,"offset":0}},"right":1}}"#),
    (
        "`jhash`",
        r#"{"match":{"op":"==","left":{"jhash":{"mod":2,"expr":{"payload":{"protocol":"ip","field":"saddr"}}}},"right":1}}"#,
    ),
    ("`symhash`", r#"{"match":{"op":"==","left":{"symhash":{"mod":2}},"right":1}}"#),
    ("`osf`", r#"{"match":{"op":"==","left":{"osf":{"key":"name"}},"right":"Linux"}}"#),
    ("`ipsec`", r#"{"match":{"op":"==","left":{"ipsec":{"key":"reqid","dir":"in","spnum":0}},"right":1}}"#),
    ("`&` `|` `^` `<<` `>>`", r#"{"match":{"op":"==","left":{"&":[{"meta":{"key":"mark"}},240]},"right":16}}"#),
    (
        "sets, ranges, prefixes",
        r#"{"match":{"op":"==","left":{"payload":{"protocol":"tcp","field":"dport"}},"right":{"set":[22,{"range":[80,90]}]}}}"#,
    ),
    (
        "keys side by side",
        r#"{"match":{"op":"==","left":{"concat":[{"payload":{"protocol":"ip","field":"saddr"}},{"payload":{"protocol":"tcp","field":"dport"}}]},"right":{"concat":["203.0.113.7",22]}}}"#,
    ),
    (
        "`map`",
        r#"{"mangle":{"key":{"meta":{"key":"mark"}},"value":{"map":{"key":{"payload":{"protocol":"tcp","field":"dport"}},"data":{"set":[[22,1]]}}}}}"#,
    ),
    (
        "`vmap`",
        r#"{"vmap":{"key":{"payload":{"protocol":"tcp","field":"dport"}},"data":{"set":[[22,{"accept":null}],["*",{"return":null}]]}}}"#,
    ),
    ("`accept` `drop` `return` `continue` `jump` `goto`", r#"{"accept":null}"#),
    ("`reject`", r#"{"reject":{"type":"icmpx","expr":"port-unreachable"}}"#),
    (
        "`meta mark set`, `ct mark set`, header fields `set`",
        r#"{"mangle":{"key":{"payload":{"protocol":"ip","field":"daddr"}},"value":"10.0.1.11"}}"#,
    ),
    ("`@nh` `@th` `set`", r#"{"mangle":{"key":{"payload":{"base":"th","offset":160,"len":8}},"value":1}}"#),
    (
        "`tcp option` `set`, `exthdr` `set`",
        r#"{"mangle":{"key":{"tcp option":{"name":"maxseg","field":"size"}},"value":1400}}"#,
    ),
    ("`reset tcp option`", r#"{"reset":{"tcp option":{"name":"sack-perm"}}}"#),
    ("`notrack`", r#"{"notrack":null}"#),
    (
        "`add` `update` `delete` `@set`, `meter`",
        r#"{"set":{"op":"add","elem":{"payload":{"protocol":"ip","field":"saddr"}},"set":"@s"}}"#,
    ),
    (
        "the same with `limit`, `quota`, `ct count` inside",
        r#"{"set":{"op":"add","elem":{"payload":{"protocol":"ip","field":"saddr"}},"set":"@s","stmt":[{"limit":{"rate":1,"burst":5,"per":"second"}}]}}"#,
    ),
    ("`limit`", r#"{"limit":{"rate":1,"burst":5,"per":"second"}}"#),
    ("`quota`", r#"{"quota":{"val":1,"val_unit":"mbytes"}}"#),
    ("`ct count`", r#"{"ct count":{"val":1}}"#),
    ("`counter`", r#"{"counter":{"packets":0,"bytes":0}}"#),
    ("`log`", r#"{"log":{"prefix":"x"}}"#),
    ("`last`", r#"{"last":null}"#),
    ("`dup`", r#"{"dup":{"addr":"10.0.1.12"}}"#),
    ("`flow add`", r#"{"flow":{"op":"add","flowtable":"@f"}}"#),
    ("`ct helper` `ct timeout` `ct expectation` `set`", r#"{"ct helper":"h"}"#),
    ("`meta secmark set`", r#"{"secmark":"s"}"#),
    ("`tunnel name`", r#"{"tunnel":"t"}"#),
    ("`queue`", r#"{"queue":{"num":1,"flags":"bypass"}}"#),
    ("`tproxy`", r#"{"tproxy":{"port":80}}"#),
    ("`synproxy`", r#"{"synproxy":{"mss":1460,"wscale":7}}"#),
    ("`fwd`", r#"{"fwd":{"dev":"eth1"}}"#),
    ("`xt` match, without iptables-nft-save", r#"{"xt":{"type":"match","name":"recent"}}"#),
    ("`xt` target, without iptables-nft-save", r#"{"xt":{"type":"target","name":"SET"}}"#),
];

fn of_sample(statement: &str) -> Answer {
    let listing = format!(
        r#"{{"nftables":[{{"metainfo":{{"version":"1.1.7","json_schema_version":1}}}},{{"table":{{"family":"ip","name":"t"}}}},
        {{"set":{{"family":"ip","table":"t","name":"s","type":"ipv4_addr","size":65535,"flags":["dynamic"]}}}},
        {{"rule":{{"family":"ip","table":"t","chain":"c","expr":[{statement},{{"drop":null}}]}}}}]}}"#
    );
    let mut parsed = nft_json::read(&Arc::from("sample"), listing.as_bytes());
    parsed.diagnostics.retain(|remark| remark.level > crate::diagnostic::Level::Note);
    assert_eq!(parsed.diagnostics, [], "{statement}");
    let mut tables = parsed.value;
    let steps = tables[0].chains[0].rules[0].steps.clone();
    let first = |wanted: fn(&Step) -> bool| steps.iter().any(wanted);
    if first(|step| matches!(step, Step::Match(Match::Opaque { kind: OpaqueKind::Stateful, .. }))) {
        return Answer::Counts;
    }
    if first(|step| matches!(step, Step::Effect(Effect::Offload(_)))) {
        return Answer::Offloads;
    }
    if first(|step| matches!(step, Step::Effect(Effect::Harmless(_) | Effect::Log { .. } | Effect::Count))) {
        return Answer::NoEffect;
    }
    let verdicts = [(Hook::Input, Direction::In), (Hook::Output, Direction::Out)];
    let protocol = match statement {
        _ if statement.contains("sctp chunk") => Protocol::SCTP,
        _ if statement.contains("dccp option") => Protocol::DCCP,
        _ => Protocol::TCP,
    };
    let mut certain = |detailed| {
        verdicts.map(|(hook, direction)| {
            let base =
                BaseChain { kind: ChainKind::Filter, hook, priority: 0, policy: Policy::Accept, devices: Vec::new() };
            tables[0].chains[0].base = Some(base);
            let rules = Ruleset { tables: tables.clone(), ipsets: Vec::new() };
            decided(&rules, &packet(direction, false, protocol, detailed), detailed)
        })
    };
    match (certain(false), certain(true)) {
        ([true, true], _) => Answer::Exact,
        (_, [true, _] | [_, true]) => Answer::Told,
        _ => Answer::Opaque,
    }
}

#[test]
fn coverage_of_nftables_is_what_the_table_says() {
    let mut groups: BTreeMap<&str, BTreeMap<Answer, Vec<&str>>> = BTreeMap::new();
    let mut counts: BTreeMap<Answer, usize> = BTreeMap::new();
    for word in words() {
        let answer = of_word(word);
        *counts.entry(answer).or_default() += 1;
        groups.entry(word.group).or_default().entry(answer).or_default().push(word.name);
    }
    let count = |answer| counts.get(&answer).copied().unwrap_or(0);
    let mut text = format!(
        "\n## nftables, 1.0.6 to 1.1.7\n\n{} keys: {} exact, {} decided where it is told what they ask for, {} opaque, {} that no IP \
         packet meets.\n\n### Keys\n\n| Kind | Keys | Answer |\n|---|---|---|\n",
        counts.values().sum::<usize>(),
        count(Answer::Exact),
        count(Answer::Told),
        count(Answer::Opaque),
        count(Answer::Foreign)
    );
    for (group, answers) in groups {
        for (at, (answer, names)) in answers.into_iter().enumerate() {
            let group = if at == 0 { format!("`{group}`") } else { String::new() };
            let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            let _ = writeln!(text, "| {group} | {} | {} |", names.join(" "), answer.words());
        }
    }
    text.push_str("\n### Expressions and statements\n\n| Name | Answer |\n|---|---|\n");
    for (name, statement) in SAMPLES {
        let _ = writeln!(text, "| {name} | {} |", of_sample(statement).words());
    }
    text.push('\n');
    coverage::hold("nftables", &text);
}
