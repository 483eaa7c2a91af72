use super::*;
use crate::files::{FileState, SnapshotFiles};
use crate::snapshot::{self, Snapshot};

fn read(name: &str, text: &str) -> Snapshot {
    let mut files = SnapshotFiles::default();
    files.files.insert(name.to_owned(), FileState::Present(text.as_bytes().to_vec()));
    snapshot::read(files)
}

/// `CHAIN RULE WHY: CAUSE, CAUSE` for each dead rule, rules counted from 1.
fn dead(snapshot: &Snapshot) -> Vec<String> {
    let report = judge(&snapshot.ruleset, &snapshot.host, &Limits::default(), &|_| true);
    assert!(report.unjudged.is_empty(), "{:?}", report.unjudged);
    let name = |place: RuleRef| {
        let chain = &snapshot.ruleset.tables[place.table].chains[place.chain];
        format!("{} {}", chain.name, place.rule + 1)
    };
    let line = |dead: &Dead| {
        let causes: Vec<String> = dead.causes.iter().map(|cause| name(cause.place)).collect();
        format!("{} {:?}: {}", name(dead.place), dead.why, causes.join(", "))
    };
    report.dead.iter().map(line).collect()
}

fn filter(input: &str) -> Vec<String> {
    dead(&read(
        "iptables-save.txt",
        &format!("*filter\n:INPUT DROP [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n{input}COMMIT\n"),
    ))
}

#[test]
fn earlier_rules_cover_later_ones() {
    let found = filter(
        "-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -s 10.0.0.0/8 -p tcp -m tcp --dport 22 -j ACCEPT
-A INPUT -s 10.1.0.0/16 -p tcp -m tcp --dport 22 -j DROP
-A INPUT -s 10.2.0.0/16 -p tcp -m multiport --dports 22,80 -j DROP
-A INPUT -p udp -m udp --dport 53 -j ACCEPT
-A INPUT -s 192.0.2.1/32 -p udp -m udp --dport 53 -j ACCEPT
",
    );
    assert_eq!(found, ["INPUT 3 Covered: INPUT 2", "INPUT 6 Covered: INPUT 5"]);
}

#[test]
fn as_few_rules_as_take_all_are_named() {
    let found = filter(
        "-A INPUT -s 10.0.0.0/24 -j ACCEPT
-A INPUT -s 10.0.0.0/9 -j ACCEPT
-A INPUT -s 10.128.0.0/9 -j ACCEPT
-A INPUT -s 10.0.0.0/8 -j DROP
",
    );
    assert_eq!(found, ["INPUT 4 Covered: INPUT 2, INPUT 3"]);
}

#[test]
fn what_cannot_be_decided_covers_nothing() {
    let limited = "-A INPUT -s 10.0.0.0/8 -m limit --limit 5/min -j ACCEPT\n";
    assert_eq!(filter(&format!("{limited}-A INPUT -s 10.0.0.0/8 -j DROP\n")), [""; 0]);
    // a property of the packet is the same property twice
    let text = "-A INPUT -m string --string \"x\" --algo bm --to 65535 -j ACCEPT\n";
    assert_eq!(filter(&format!("{text}{}", text.replace("ACCEPT", "DROP"))), ["INPUT 2 Covered: INPUT 1"]);
    // marks come from anywhere
    assert_eq!(filter("-A INPUT -m mark --mark 0x1 -j ACCEPT\n-A INPUT -m mark --mark 0x2 -j DROP\n"), [""; 0]);
    // what a target does that nobody knows
    assert_eq!(filter("-A INPUT -j SOMETHING --new\n-A INPUT -j DROP\n"), [""; 0]);
}

#[test]
fn members_of_sets_come_and_go() {
    let mut snapshot = read(
        "iptables-save.txt",
        "*filter\n:INPUT DROP [0:0]
-A INPUT -m set --match-set empty src -j ACCEPT
-A INPUT -m set --match-set empty src -m tcp -p tcp --dport 22 -j DROP
-A INPUT -m set --match-set one src -j DROP
-A INPUT -s 192.0.2.1/32 -j ACCEPT
COMMIT\n",
    );
    assert_eq!(dead(&snapshot), ["INPUT 2 Covered: INPUT 1"]);
    let mut files = std::mem::take(&mut snapshot.files);
    let sets = "create empty hash:ip family inet\ncreate one hash:ip family inet\nadd one 192.0.2.1\n";
    files.files.insert("ipset-save.txt".to_owned(), FileState::Present(sets.as_bytes().to_vec()));
    assert_eq!(dead(&snapshot::read(files)), ["INPUT 2 Covered: INPUT 1"]);
}

#[test]
fn a_chain_called_twice_is_dead_only_where_no_call_reaches_it() {
    let found = dead(&read(
        "iptables-save.txt",
        "*filter\n:INPUT DROP [0:0]\n:FORWARD DROP [0:0]\n:both - [0:0]\n:one - [0:0]
-A INPUT -p tcp -j ACCEPT
-A INPUT -j both
-A INPUT -p udp -j one
-A FORWARD -j both
-A both -p tcp -m tcp --dport 22 -j DROP
-A both -p udp -j RETURN
-A one -p tcp -j DROP
-A one -p udp -m udp --dport 53 -j ACCEPT
COMMIT\n",
    ));
    assert_eq!(found, ["one 1 NotSent: INPUT 3"]);
}

#[test]
fn causes_stand_in_callers_and_in_chains_called_before() {
    let found = dead(&read(
        "iptables-save.txt",
        "*filter\n:INPUT DROP [0:0]\n:first - [0:0]\n:second - [0:0]
-A INPUT -i eth0 -j first
-A INPUT -p udp -j ACCEPT
-A INPUT -j second
-A first -s 10.0.0.0/8 -j DROP
-A first -p tcp -j ACCEPT
-A second -i eth0 -p tcp -m tcp --dport 22 -j DROP
-A second -p udp -m udp --dport 53 -j DROP
-A second -i eth0 -s 10.1.0.0/16 -j DROP
-A second -i eth0 -s 10.0.0.0/7 -p tcp -m tcp --dport 0:80 -j DROP
COMMIT\n",
    ));
    // one rule of a chain called before is enough where it would take all by itself
    let [tcp, udp, ten] = ["second 1 Covered: first 2", "second 2 Covered: INPUT 2", "second 3 Covered: first 1"];
    assert_eq!(found, [tcp, udp, ten, "second 4 Covered: first 2"]);
}

#[test]
fn the_fewest_causes_are_looked_for_along_every_way() {
    let found = dead(&read(
        "iptables-save.txt",
        "*filter\n:INPUT DROP [0:0]\n:first - [0:0]\n:second - [0:0]\n:third - [0:0]
-A INPUT -s 10.0.0.0/8 -j first
-A INPUT -p tcp -j DROP
-A INPUT -s 10.0.0.0/9 -j second
-A INPUT -s 10.128.0.0/9 -j third
-A first -s 10.1.0.0/16 -p tcp -m tcp --dport 22 -j REJECT
-A first -s 10.200.0.0/16 -j RETURN
-A third -j second
-A second -s 10.0.0.0/8 -p tcp -m tcp --dport 22 -j ACCEPT
COMMIT\n",
    ));
    assert_eq!(found, ["second 1 Covered: INPUT 2"]);
}

#[test]
fn the_first_header_of_an_ipv6_packet_need_not_be_its_protocol() {
    let rules = r#"{"nftables":[
{"table":{"family":"ip6","name":"t"}},
{"chain":{"family":"ip6","table":"t","name":"in","type":"filter","hook":"input","prio":0,"policy":"accept"}},
{"rule":{"family":"ip6","table":"t","chain":"in","expr":[{"match":{"op":"==","left":{"payload":{"protocol":"ip6","field":"nexthdr"}},"right":{"set":["ip","tcp"]}}},{"accept":null}]}},
{"rule":{"family":"ip6","table":"t","chain":"in","expr":[{"match":{"op":"==","left":{"payload":{"protocol":"tcp","field":"dport"}},"right":22}},{"drop":null}]}},
{"rule":{"family":"ip6","table":"t","chain":"in","expr":[{"match":{"op":"==","left":{"meta":{"key":"l4proto"}},"right":"tcp"}},{"accept":null}]}},
{"rule":{"family":"ip6","table":"t","chain":"in","expr":[{"match":{"op":"==","left":{"payload":{"protocol":"tcp","field":"dport"}},"right":23}},{"drop":null}]}}
]}"#;
    let found = dead(&read("nft-ruleset.json", rules));
    // found by the differential fuzzer: destination options, then TCP
    assert_eq!(found, ["in 4 Covered: in 3"]);
}

#[test]
fn a_first_fragment_may_come_before_it_is_put_together() {
    let rule = |left: &str, right: &str| {
        let tcp = r#"{"match":{"op":"==","left":{"payload":{"protocol":"tcp","field":"dport"}},"right":22}}"#;
        let other = format!(r#"{{"match":{{"op":"==","left":{left},"right":{right}}}}}"#);
        format!(r#"{{"rule":{{"family":"ip6","table":"t","chain":"in","expr":[{tcp},{other},{{"accept":null}}]}}}}"#)
    };
    let next = r#"{"payload":{"protocol":"ip6","field":"nexthdr"}}"#;
    let rules = [
        rule(next, r#""ipv6-frag""#),
        rule(r#"{"exthdr":{"name":"frag"}}"#, "true"),
        rule(next, "17"),
        rule(next, r#"{"set":[6,17]}"#),
        rule(next, "6"),
    ];
    let found = dead(&read(
        "nft-ruleset.json",
        &format!(
            r#"{{"nftables":[{{"table":{{"family":"ip6","name":"t"}}}},
{{"chain":{{"family":"ip6","table":"t","name":"in","type":"filter","hook":"prerouting","prio":-450,"policy":"accept"}}}},{}]}}"#,
            rules.join(",\n")
        ),
    ));
    assert_eq!(found, ["in 3 Impossible: ", "in 5 Covered: in 4"]);
}

#[test]
fn an_answer_to_an_untracked_packet_stays_invalid_whatever_notrack_says() {
    let found = dead(&read(
        "iptables-save.txt",
        "*raw
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A PREROUTING -j CT --notrack
-A OUTPUT -j CT --notrack
-A OUTPUT -m conntrack --ctstate INVALID -j DROP
COMMIT
",
    ));
    // found by the differential fuzzer: resets of REJECT
    assert_eq!(found, [""; 0]);
}

#[test]
fn what_no_packet_can_be_is_named() {
    let found = dead(&read(
        "nft-ruleset.json",
        r#"{"nftables":[{"table":{"family":"inet","name":"f"}},
{"chain":{"family":"inet","table":"f","name":"input","type":"filter","hook":"input","prio":0,"policy":"drop"}},
{"chain":{"family":"inet","table":"f","name":"tcp_only"}},
{"rule":{"family":"inet","table":"f","chain":"input","expr":[{"match":{"op":"==","left":{"meta":{"key":"l4proto"}},"right":"tcp"}},{"match":{"op":"==","left":{"meta":{"key":"l4proto"}},"right":"udp"}},{"accept":null}]}},
{"rule":{"family":"inet","table":"f","chain":"input","expr":[{"match":{"op":"==","left":{"meta":{"key":"l4proto"}},"right":"tcp"}},{"jump":{"target":"tcp_only"}}]}},
{"rule":{"family":"inet","table":"f","chain":"tcp_only","expr":[{"match":{"op":"==","left":{"payload":{"protocol":"udp","field":"dport"}},"right":53}},{"accept":null}]}},
{"rule":{"family":"inet","table":"f","chain":"tcp_only","expr":[{"match":{"op":"==","left":{"payload":{"protocol":"ip6","field":"saddr"}},"right":"2001:db8::1"}},{"accept":null}]}}]}"#,
    ));
    assert_eq!(found, ["input 1 Impossible: ", "tcp_only 1 NotSent: input 2"]);
}
