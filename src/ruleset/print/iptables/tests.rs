use std::sync::Arc;

use super::*;
use crate::diagnostic::Diagnostic;
use crate::ruleset::Backend;
use crate::ruleset::readers::iptables_save::read;

fn parse(text: &[u8], family: Family) -> (Vec<Table>, Vec<Diagnostic>) {
    let parsed = read(&Arc::from("test"), text, Backend::Iptables, family);
    (parsed.value, parsed.diagnostics)
}

/// Reads, prints, reads again: everything the model holds must be the same.
fn round_trip(text: &[u8], family: Family) -> usize {
    let (tables, _) = parse(text, family);
    let mut rules = 0;
    for first in &tables {
        let printed = table(first).unwrap_or_else(|| panic!("no text for {:?}", first.name));
        let (again, _) = parse(printed.as_bytes(), family);
        let [second] = &again[..] else { panic!("{} tables in\n{printed}", again.len()) };
        assert_eq!(first.chains.len(), second.chains.len(), "{printed}");
        for (a, b) in first.chains.iter().zip(&second.chains) {
            assert_eq!((&a.name, &a.base, a.rules.len()), (&b.name, &b.base, b.rules.len()));
            for (x, y) in a.rules.iter().zip(&b.rules) {
                assert_eq!(x.steps, y.steps, "{}\nprinted as\n{}", x.text, y.text);
                assert_eq!((&x.comments, x.counters), (&y.comments, y.counters), "{}", x.text);
                rules += 1;
            }
        }
    }
    rules
}

fn fixture(name: &str) -> Vec<u8> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/nft-json").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_fixture_survives_printing() {
    for (name, rules) in [
        ("30-iptables-basic.legacy-save.txt", 24),
        ("30-iptables-basic.nft-save.txt", 24),
        ("31-calico-iptables-like.legacy-save.txt", 45),
        ("31-calico-iptables-like.nft-save.txt", 45),
        ("33-comment-injection.legacy-save.txt", 3),
        ("34-native-rules-in-xt-table.nft-save.txt", 8),
        ("fragment-grep-failsafe.txt", 8),
    ] {
        assert_eq!(round_trip(&fixture(name), Family::Ipv4), rules, "{name}");
    }
    assert_eq!(round_trip(&fixture("32-ip6tables-basic.legacy-save.txt"), Family::Ipv6), 8);
}

#[test]
fn what_the_tool_printed_is_printed_again_word_for_word() {
    let same = |text: &[u8], family: Family| -> Vec<String> {
        let (tables, _) = parse(text, family);
        let all = tables.iter().flat_map(|table| &table.chains);
        let lines = all.flat_map(|chain| chain.rules.iter().map(move |one| (chain, one)));
        lines
            .filter_map(|(chain, one)| {
                let printed = rule(family, &chain.name, one).unwrap_or_default();
                (printed != *one.text).then(|| format!("{}\n{printed}", one.text))
            })
            .collect()
    };
    let different = same(&fixture("31-calico-iptables-like.legacy-save.txt"), Family::Ipv4);
    assert!(different.iter().all(|line| line.contains("NFLOG")), "{different:#?}");
    let different = same(&fixture("32-ip6tables-basic.legacy-save.txt"), Family::Ipv6);
    assert_eq!(different, Vec::<String>::new());
}

/// Pieces of rules; any mixture of them is a rule.
const PROTOCOLS: [&str; 6] = ["", "-p tcp", "-p udp", "-p icmp", "! -p sctp", "-p 200"];
const BASICS: [&str; 8] = [
    "",
    "-s 10.0.0.0/8",
    "! -s 10.1.2.3/32",
    "-s 10.0.5.0/255.0.255.0",
    "-d 192.0.2.0/24 -i eth0",
    "! -i cali+ ! -o lo",
    "-s 10.0.0.1,10.0.0.2",
    "! -d 198.51.100.0/24 -f",
];
const PORTS: [&str; 8] = [
    "-m multiport --dports 22",
    "-m multiport ! --sports 1:5,9",
    "-m multiport --ports 1:65535",
    "--dport 22",
    "! --sport 1024:",
    "--sport 5:6 --dport 7",
    "--dport 0",
    "-m multiport --dports 5:6",
];
const MATCHES: [&str; 42] = [
    "-m comment --comment \"it's \\\"x\\\" \\\\\"",
    "-m comment --comment plain",
    "-m conntrack --ctstate NEW,DNAT",
    "-m conntrack ! --ctstate INVALID --ctdir REPLY --ctexpire 5",
    "-m conntrack ! --ctstate SNAT",
    "-m conntrack --ctstatus NONE",
    "-m conntrack ! --ctstatus EXPECTED,CONFIRMED",
    "-m conntrack --ctorigsrc 10.0.0.0/8 ! --ctorigdstport 22:23 --ctproto tcp",
    "-m conntrack --ctorigsrc 0.0.0.0/0",
    "-m state --state RELATED,ESTABLISHED",
    "-m mark --mark 0x1/0xf",
    "-m mark ! --mark 0x0",
    "-m connmark --mark 7",
    "-m set --match-set a src,dst",
    "-m set ! --match-set b dst --return-nomatch ! --bytes-lt 7",
    "-m addrtype --src-type LOCAL,UNICAST --limit-iface-in",
    "-m addrtype ! --dst-type BROADCAST",
    "-m addrtype --src-type LOCAL ! --dst-type MULTICAST",
    "-m iprange --src-range 10.0.0.0-10.0.0.255 ! --dst-range 10.0.0.1-10.0.0.1",
    "-m owner --uid-owner 0-99 ! --gid-owner 5",
    "-m owner ! --socket-exists",
    "-m pkttype --pkt-type broadcast",
    "-m mac ! --mac-source 00:00:00:00:00:01",
    "-m length --length 5:",
    "-m ttl --ttl-gt 5",
    "-m ttl ! --ttl-eq 5",
    "-m dscp --dscp-class EF",
    "-m tos ! --tos 0x10/0x10",
    "-m ecn --ecn-ip-ect 0",
    "-m rpfilter --loose --validmark",
    "-m rpfilter --invert",
    "-m rpfilter --accept-local",
    "-m devgroup --src-group 0x3/0x3",
    "-m limit --limit 5/min",
    "-m recent --set --name x",
    "-m recent ! --rcheck --name x",
    "-m string --string \"a b\" --algo bm",
    "-m socket --restore-skmark",
    "-m frobnicate --deep nonsense ! --too",
    "-m mark --mark what",
    "-m physdev --physdev-is-bridged",
    "-m time --weekdays Mon,Tue",
];
const TARGETS: [&str; 38] = [
    "",
    "-j ACCEPT",
    "-j DROP",
    "-j RETURN",
    "-j REJECT",
    "-j REJECT --reject-with tcp-reset",
    "-j USER",
    "-g USER",
    "-j QUEUE",
    "-j NFQUEUE --queue-balance 0:3 --queue-bypass",
    "-j MARK --set-mark 1",
    "-j MARK --set-xmark 0x3/0x1",
    "-j MARK --xor-mark 0x3",
    "-j MARK --and-mark 0x3",
    "-j CONNMARK --set-xmark 0x3/0x7",
    "-j CONNMARK --save-mark",
    "-j CONNMARK --restore-mark --nfmask 0xf0 --ctmask 0xf",
    "-j CONNMARK --restore-mark --ctmask 0xf",
    "-j CONNMARK --save-mark --left-shift-mark 2",
    "-j LOG --log-prefix \"a'b\" --log-level 7",
    "-j LOG",
    "-j NFLOG --nflog-group 3",
    "-j ULOG --ulog-prefix x",
    "-j NOTRACK",
    "-j CT --zone 5",
    "-j DNAT --to-destination 10.0.0.1-10.0.0.2:5-6",
    "-j DNAT --to-destination :5",
    "-j SNAT --to-source 10.0.0.1",
    "-j MASQUERADE --to-ports 5",
    "-j REDIRECT",
    "-j NETMAP --to 10.0.0.0/24",
    "-j TOS --set-tos 0x10/0x1f",
    "-j DSCP --set-dscp 5",
    "-j TTL --ttl-set 5",
    "-j TTL --ttl-dec 1",
    "-j SET --add-set a src --exist",
    "-j TPROXY --on-port 5 --on-ip 0.0.0.0",
    "-j NONSENSE --deeply",
];

#[test]
fn generated_rules_survive_printing() {
    let mut random = fastrand::Rng::with_seed(30);
    let mut text = String::from("*filter\n:INPUT DROP [0:0]\n:USER - [0:0]\n");
    for _ in 0..4000 {
        let mut words = vec!["-A INPUT", random.choice(BASICS).unwrap_or_default()];
        let protocol = random.choice(PROTOCOLS).unwrap_or_default();
        words.push(protocol);
        if matches!(protocol, "-p tcp" | "-p udp") && random.bool() {
            words.push(random.choice(PORTS).unwrap_or_default());
        }
        if protocol == "-p tcp" && random.bool() {
            words.push(random.choice(["! --syn", "--tcp-flags ALL FIN,SYN", "--tcp-option 8"]).unwrap_or_default());
        }
        if protocol == "-p icmp" && random.bool() {
            let types = ["--icmp-type 8", "! --icmp-type 3/1", "--icmp-type any", "! --icmp-type any"];
            words.push(random.choice(types).unwrap_or_default());
        }
        for _ in 0..random.usize(..4) {
            words.push(random.choice(MATCHES).unwrap_or_default());
        }
        words.push(random.choice(TARGETS).unwrap_or_default());
        words.retain(|word| !word.is_empty());
        text.push_str(&format!("[{}:{}] {}\n", random.u32(..), random.u64(..), words.join(" ")));
    }
    text.push_str("COMMIT\n");
    assert_eq!(round_trip(text.as_bytes(), Family::Ipv4), 4000);
}

#[test]
fn generated_ipv6_conditions_survive_printing() {
    let mut random = fastrand::Rng::with_seed(31);
    let pieces = [
        "-m addrtype --src-type UNICAST",
        "-m addrtype ! --dst-type UNICAST,LOCAL --limit-iface-out",
        "-m addrtype --dst-type MULTICAST,ANYCAST",
        "-m addrtype --src-type UNSPEC",
        "-m rpfilter",
        "-m rpfilter --validmark --invert",
        "-m hl --hl-eq 255",
        "-m hl --hl-lt 5",
        "-m rt --rt-type 0",
        "-m iprange --src-range ::1-::5",
        "-m conntrack ! --ctreplsrc fd00::/8",
        "-m icmp6 --icmpv6-type 1/3",
        "-m icmp6 ! --icmpv6-type 135",
    ];
    let targets =
        ["-j DNAT --to-destination [::1]:5", "-j SNAT --to-source ::1-::2", "-j REJECT", "-j HL --hl-set 3", ""];
    let mut text = String::from("*filter\n:INPUT DROP [0:0]\n");
    for _ in 0..300 {
        let basics = ["-s fd00::/8", "! -d ::1/128", "-s ::1/::ffff", "-i eth+"];
        text.push_str(&format!("-A INPUT {} -p ipv6-icmp", random.choice(basics).unwrap_or_default()));
        for _ in 0..random.usize(..3) {
            text.push_str(&format!(" {}", random.choice(pieces).unwrap_or_default()));
        }
        text.push_str(&format!(" {}\n", random.choice(targets).unwrap_or_default()));
    }
    text.push_str("COMMIT\n");
    assert_eq!(round_trip(text.as_bytes(), Family::Ipv6), 300);
}

#[test]
fn what_iptables_cannot_say_has_no_text() {
    use crate::ruleset::{Expr, Field, Operator, Verdict};
    let drop = Step::Verdict(Verdict::Drop);
    let vlan = Match::equals(Field::VlanId, 5);
    let compare = Match::Compare { left: Expr::Field(Field::Mark), operator: Operator::Gt, right: Expr::Number(5) };
    for steps in [
        vec![Step::Match(vlan)],
        vec![Step::Match(compare)],
        vec![drop.clone(), drop],
        vec![Step::Match(Match::equals(Field::Dport, 22))],
    ] {
        let one = Rule { steps, ..Rule::default() };
        assert_eq!(rule(Family::Ipv4, "INPUT", &one), None, "{:?}", one.steps);
    }
}
