//! What the IPv6 header says comes next, and extension headers: sets against traces of packets that have some.

use fastrand::Rng;
use hepguard::analysis::diff::{Wanted, compare};
use hepguard::analysis::trace::{Engine, TraceOptions, TraceVerdict};
use hepguard::packet::{Direction, ExtensionHeader, Family, Packet, Protocol};
use hepguard::snapshot::Snapshot;
use hepguard::space::{Dimension, Order};

use crate::against_trace::read;
use crate::sets::{Sets, facts};

fn host(rules: &[String]) -> Snapshot {
    let rules: Vec<String> = rules
        .iter()
        .map(|expr| format!(r#"{{"rule":{{"family":"ip6","table":"t","chain":"in","expr":[{expr}]}}}}"#))
        .collect();
    let text = format!(
        r#"{{"nftables":[{{"table":{{"family":"ip6","name":"t"}}}},
{{"chain":{{"family":"ip6","table":"t","name":"in","type":"filter","hook":"input","prio":0,"policy":"drop"}}}},{}]}}"#,
        rules.join(",\n")
    );
    read("", &[("nft-ruleset.json", &text)])
}

fn matching(left: &str, operator: &str, right: &str) -> String {
    format!(r#"{{"match":{{"op":"{operator}","left":{left},"right":{right}}}}}"#)
}

const NEXT: &str = r#"{"payload":{"protocol":"ip6","field":"nexthdr"}}"#;
const PROTOCOL: &str = r#"{"meta":{"key":"l4proto"}}"#;
const PORT: &str = r#"{"payload":{"protocol":"tcp","field":"dport"}}"#;

fn condition(rng: &mut Rng) -> String {
    let pick = |rng: &mut Rng, of: &[&str]| of[rng.usize(..of.len())].to_owned();
    let sign = pick(rng, &["==", "!="]);
    match rng.u8(..6) {
        0 | 1 => matching(NEXT, &sign, &pick(rng, &["6", "17", "58", "0", "43", "60", "44"])),
        2 => matching(NEXT, &sign, &pick(rng, &[r#"{"set":[0,6]}"#, r#"{"set":[17,43,58]}"#, r#"{"range":[6,50]}"#])),
        3 => matching(PROTOCOL, &sign, &pick(rng, &["6", "17", "58"])),
        4 => matching(PORT, &sign, "22"),
        _ => {
            let name = pick(rng, &["hbh", "rt", "dst", "frag"]);
            matching(&format!(r#"{{"exthdr":{{"name":"{name}"}}}}"#), "==", &pick(rng, &["true", "false"]))
        }
    }
}

/// Every protocol behind no extension header, one, and two.
fn packets() -> Vec<Packet> {
    let [src, dst] = ["2001:db8::7", "fd00:1::10"].map(|text| text.parse().expect("an address"));
    let mut packets = Vec::new();
    for (protocol, port) in [(Protocol::TCP, 22), (Protocol::TCP, 80), (Protocol::UDP, 53), (Protocol::ICMPV6, 0)] {
        for numbers in [&[][..], &[0], &[43], &[60], &[0, 60], &[0, 43], &[60, 43], &[44], &[0, 44]] {
            let mut packet = Packet::first(Direction::In, protocol, (src, 40_000), (dst, port));
            packet.iif = Some("ens5".into());
            (packet.ttl, packet.tos, packet.length) = (Some(64), Some(0), Some(100));
            packet.icmp = (protocol == Protocol::ICMPV6).then_some((128, 0));
            let behind = numbers.iter().copied().skip(1).chain([protocol.0]);
            let header = |(number, next): (&u8, u8)| ExtensionHeader {
                header: Protocol(*number),
                // the first of two fragments, where it is one
                bytes: vec![next, 0, 0, 1, 0, 0, 0, 0].into(),
            };
            packet.details.extensions = Some(numbers.iter().zip(behind).map(header).collect());
            packets.push(packet);
        }
    }
    packets
}

#[test]
fn a_packet_with_extension_headers_is_in_the_set_when_its_trace_accepts_it() {
    let (mut accepted, mut stopped, mut open) = (0, 0, 0);
    for seed in 0..120 {
        let mut rng = Rng::with_seed(seed);
        let rules: Vec<String> = (0..rng.usize(1..6))
            .map(|_| {
                let mut parts: Vec<String> = (0..rng.usize(1..3)).map(|_| condition(&mut rng)).collect();
                parts.push(if rng.bool() { r#"{"accept":null}"# } else { r#"{"drop":null}"# }.to_owned());
                parts.join(",")
            })
            .collect();
        let snapshot = host(&rules);
        let [_, six] = &facts(&snapshot.host);
        let mut sets = Sets::new(&snapshot.ruleset, six, if seed % 2 == 0 { Order::Host } else { Order::Forward });
        let trace = Engine::new(&snapshot.ruleset, &snapshot.host);
        for packet in packets() {
            let answer = trace.trace(&packet, &TraceOptions::default());
            let told = || format!("seed {seed}: {answer:?}\n{packet:?}\n{rules:#?}");
            assert!(answer.certain, "{}", told());
            let pass = answer.verdict == TraceVerdict::Accept;
            let (may_pass, may_stop) = sets.judge(&packet);
            assert!(if pass { may_pass } else { may_stop }, "{}", told());
            let headers = packet.details.extensions.as_deref().unwrap_or_default();
            // which headers stand behind the first is not told
            let asks_behind = !headers.is_empty() && rules.iter().any(|rule| rule.contains("exthdr"));
            assert!(asks_behind || may_pass != may_stop, "open: {}", told());
            accepted += usize::from(pass && !may_stop);
            stopped += usize::from(!pass && !may_pass);
            open += usize::from(may_pass && may_stop);
        }
    }
    assert!(accepted > 500 && stopped > 500 && open > 50, "{accepted} {stopped} {open}");
}

#[test]
fn a_rule_about_the_next_header_differs_from_one_about_the_protocol_by_packets_with_extension_headers() {
    let ssh = |field: &str| {
        vec![[matching(field, "==", "6"), matching(PORT, "==", "22"), r#"{"accept":null}"#.to_owned()].join(",")]
    };
    let (next, protocol) = (host(&ssh(NEXT)), host(&ssh(PROTOCOL)));
    let wanted = Wanted { families: vec![Family::Ipv6], ways: vec![Direction::In], ..Wanted::default() };
    let changes = |before: &Snapshot, after: &Snapshot| {
        let mut diff = compare(before, after, &wanted);
        diff.parts.pop().expect("one").changes.expect("room")
    };
    let found = changes(&next, &protocol);
    assert!(found.lost.is_empty() && found.undecided.is_empty(), "{found:#?}");
    let [piece] = found.gained.as_slice() else { panic!("{found:#?}") };
    let of = |dimension| {
        let fields = piece.lines.iter().flat_map(|line| &line.fields);
        fields.filter(|field| field.dimension == dimension).collect::<Vec<_>>()
    };
    let extension = of(Dimension::Extension);
    let is_some = |names: &[String]| names == ["none"];
    assert!(
        extension.iter().all(|field| field.except
            && matches!(&field.values, hepguard::analysis::diff::Values::Names(names) if is_some(names))),
        "{piece:#?}"
    );
    assert_eq!(extension.len(), piece.lines.len());
    let witness = piece.witness.as_ref().expect("one");
    assert_eq!(witness.details.extensions.as_ref().map(|headers| headers.len()), Some(1));
    for (snapshot, verdict) in [(&next, TraceVerdict::Drop), (&protocol, TraceVerdict::Accept)] {
        let trace = Engine::new(&snapshot.ruleset, &snapshot.host).trace(witness, &TraceOptions::default());
        assert_eq!(trace.verdict, verdict, "{witness:?}");
    }
    // both at once are the same as the protocol alone
    let both = [ssh(NEXT), ssh(PROTOCOL)].concat();
    assert!(changes(&host(&both), &protocol).is_empty());
}
