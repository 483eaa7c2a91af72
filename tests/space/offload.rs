//! Flowtables: what rules refuse of a forwarded connection may get through all the same.

use hepguard::packet::{CtState, Direction, Packet, Protocol, TcpFlags};
use hepguard::space::Order;

use crate::against_trace::{Tally, compare, read};
use crate::sets::{Sets, facts};

/// Connections to port 443 are let through and put into the flowtable; everything else is dropped.
const RULES: &str = r#"{"nftables":[{"metainfo":{"version":"1.0.6","json_schema_version":1}},
{"table":{"family":"inet","name":"filter","handle":1}},
{"flowtable":{"family":"inet","name":"ft","table":"filter","handle":2,"hook":"ingress","prio":0,"dev":["ens5"]}},
{"chain":{"family":"inet","table":"filter","name":"forward","handle":3,"type":"filter","hook":"forward","prio":0,"policy":"drop"}},
{"chain":{"family":"inet","table":"filter","name":"input","handle":4,"type":"filter","hook":"input","prio":0,"policy":"drop"}},
{"rule":{"family":"inet","table":"filter","chain":"forward","handle":5,"expr":[{"flow":{"op":"add","flowtable":"@ft"}}]}},
{"rule":{"family":"inet","table":"filter","chain":"forward","handle":6,"expr":[{"match":{"op":"==","left":{"payload":{"protocol":"tcp","field":"dport"}},"right":443}},{"accept":null}]}}
]}"#;

#[test]
fn what_a_flowtable_may_forward_is_in_both_sets() {
    let snapshot = read("", &[("nft-ruleset.json", RULES)]);
    let facts = facts(&snapshot.host);
    let mut sets = Sets::new(&snapshot.ruleset, &facts[0], Order::Host);
    let address = |text: &str| text.parse().expect("an address");
    let peers = ((address("203.0.113.7"), 40000), (address("8.8.8.8"), 22));
    let later = Packet {
        iif: Some("ens5".into()),
        state: CtState::ESTABLISHED,
        tcp_flags: TcpFlags::ACK,
        ..Packet::first(Direction::Forward, Protocol::TCP, peers.0, peers.1)
    };
    let mut judge = |change: &dyn Fn(&mut Packet)| {
        let mut packet = later.clone();
        change(&mut packet);
        sets.judge(&packet)
    };
    let (accepted, dropped, unknown) = ((true, false), (false, true), (true, true));
    assert_eq!(judge(&|_| ()), unknown);
    assert_eq!(judge(&|packet| packet.dport = Some(443)), accepted);
    assert_eq!(judge(&|packet| packet.state = CtState::NEW), dropped);
    assert_eq!(judge(&|packet| packet.state = CtState::INVALID), dropped);
    assert_eq!(judge(&|packet| packet.iif = Some("eth1".into())), dropped);
    assert_eq!(judge(&|packet| packet.protocol = Protocol::SCTP), dropped);
    assert_eq!(
        judge(&|packet| (packet.direction, packet.dst) = (Direction::In, address("10.0.1.10"))),
        dropped,
        "nothing translates: this host's packets stay its own"
    );
}

#[test]
fn flowtables_are_judged_as_the_trace_judges_them() {
    let mut tally = Tally::default();
    for seed in 0..16 {
        let snapshot = read("", &[("nft-ruleset.json", RULES)]);
        compare(&snapshot, RULES, seed, if seed % 2 == 0 { Order::Host } else { Order::Forward }, &mut tally);
    }
    assert!(tally.unknown >= 8, "{tally:?}");
}
