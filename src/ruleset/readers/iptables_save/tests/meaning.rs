//! What single options mean, and that all spellings of a thing mean the same.

use super::*;
use crate::packet::{CtState, CtStatus};
use crate::ruleset::{
    Expr, FibField, FibResult, Field, Interval, Match, Nat, NatKind, NatTarget, OpaqueKind, Operator, SetDirection,
};

fn rule_and_remarks(words: &str, family: Family) -> (Rule, Vec<crate::diagnostic::Diagnostic>) {
    let text = format!("*filter\n:INPUT ACCEPT [0:0]\n:USER - [0:0]\n-A INPUT {words}\nCOMMIT\n");
    let parsed = read(&Arc::from("test"), text.as_bytes(), Backend::Iptables, family);
    (parsed.value[0].chains[0].rules[0].clone(), parsed.diagnostics)
}

fn steps(words: &str) -> Vec<Step> {
    let (rule, remarks) = rule_and_remarks(words, Family::Ipv4);
    assert_eq!(remarks, vec![], "{words}");
    rule.steps
}

fn steps6(words: &str) -> Vec<Step> {
    let (rule, remarks) = rule_and_remarks(words, Family::Ipv6);
    assert_eq!(remarks, vec![], "{words}");
    rule.steps
}

/// The only match of the rule, after `-p` if there is one.
fn last_match(words: &str) -> Match {
    match steps(words).pop() {
        Some(Step::Match(one)) => one,
        other => panic!("{words}: {other:?}"),
    }
}

fn compare(field: Field, operator: Operator, value: u128) -> Match {
    Match::Compare { left: Expr::Field(field), operator, right: Expr::Number(value) }
}

fn masked(field: Field, mask: u128, operator: Operator, value: u128) -> Match {
    let left = Expr::And(Box::new(Expr::Field(field)), Box::new(Expr::Number(mask)));
    Match::Compare { left, operator, right: Expr::Number(value) }
}

fn range(low: u128, high: u128) -> Interval {
    Interval { low, high }
}

const TEN: u128 = 10 << 24;

#[test]
fn spellings_of_every_age_mean_the_same() {
    for (old, new) in [
        ("-s ! 10.0.0.0/8 -j DROP", "! -s 10.0.0.0/8 -j DROP"),
        ("-i ! lo -j DROP", "! -i lo -j DROP"),
        ("-p ! tcp -j DROP", "! -p tcp -j DROP"),
        ("--source 10.0.0.0/255.0.0.0 --jump DROP", "-s 10.0.0.0/8 -j DROP"),
        ("-s10/8 -jDROP", "-s 10.0.0.0/8 -j DROP"),
        ("-d 0/0 -j DROP", "-j DROP"),
        ("-m state --state NEW,ESTABLISHED", "-m conntrack --ctstate ESTABLISHED,NEW"),
        ("-m state ! --state INVALID", "-m conntrack ! --ctstate INVALID"),
        ("-m state --state ! INVALID", "-m conntrack ! --ctstate INVALID"),
        ("-p tcp --dport 22", "-p tcp -m tcp --dport 22"),
        ("-p 6 --destination-port ssh", "-p tcp -m tcp --dport 22"),
        ("-m state --state NEW -m tcp -p tcp --dport 22", "-p tcp -m conntrack --ctstate NEW -m tcp --dport 22"),
        ("-p tcp -m tcp --dport ! 22", "-p tcp -m tcp ! --dport 22"),
        ("-p tcp --syn", "-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN"),
        ("-p tcp ! --syn", "-p tcp -m tcp ! --tcp-flags SYN,ACK,RST,FIN SYN"),
        ("-p tcp --tcp-flags ! ALL NONE", "-p tcp -m tcp ! --tcp-flags FIN,SYN,RST,PSH,ACK,URG NONE"),
        ("-p tcp -m multiport --destination-ports 22,80:81", "-p tcp -m multiport --dports 22,80:81"),
        ("-m set --set trusted src", "-m set --match-set trusted src"),
        ("-p icmp --icmp-type ping", "-p icmp -m icmp --icmp-type 8"),
        ("-p icmp --icmp-type port-unreachable", "-p icmp -m icmp --icmp-type 3/3"),
        ("-p icmp -m icmp --icmp-type any", "-p icmp"),
        ("-j MARK --set-mark 0x10", "-j MARK --set-xmark 0x10/0xffffffff"),
        ("-j MARK --set-mark 0x10/0x1f", "-j MARK --set-xmark 0x10/0x1f"),
        ("-j MARK --set-mark 0x30/0x1f", "-j MARK --set-xmark 0x30/0x3f"),
        ("-j MARK --and-mark 0xff", "-j MARK --set-xmark 0x0/0xffffff00"),
        ("-j MARK --or-mark 0x4", "-j MARK --set-xmark 0x4/0x4"),
        ("-j MARK --xor-mark 0x4", "-j MARK --set-xmark 0x4/0x0"),
        ("-j CONNMARK --save-mark --mask 0xff", "-j CONNMARK --save-mark --nfmask 0xff --ctmask 0xff"),
        ("-j NOTRACK", "-j CT --notrack"),
        ("-j REJECT", "-j REJECT --reject-with icmp-port-unreachable"),
        ("-j REJECT --reject-with tcp-rst", "-j REJECT --reject-with tcp-reset"),
        ("-j DNAT --to-dest 10.0.0.1", "-j DNAT --to-destination 10.0.0.1"),
        ("-m comment --comment=\"a b\" -j DROP", "-m comment --comment \"a b\" -j DROP"),
        ("-m ttl --ttl 5", "-m ttl --ttl-eq 5"),
        ("-m dscp --dscp-class AF21", "-m dscp --dscp 0x12"),
        ("-m tos --tos Minimize-Delay", "-m tos --tos 0x10/0x3f"),
        ("-m owner --uid-owner root", "-m owner --uid-owner 0"),
        ("-m mac --mac-source 00:11:22:33:44:55", "-m mac --mac-source 00:11:22:33:44:55"),
        ("-4 -j DROP", "-j DROP"),
        ("--in-interface eth0 --goto USER", "-i eth0 -g USER"),
    ] {
        assert_eq!(steps(old), steps(new), "{old}");
    }
}

#[test]
fn addresses_and_interfaces() {
    assert_eq!(last_match("-s 10.0.0.1/32"), compare(Field::Ip4Saddr, Operator::Eq, TEN + 1));
    assert_eq!(last_match("! -d 10.0.0.0/8"), Match::within(Field::Ip4Daddr, true, [range(TEN, TEN + 0xff_ffff)]));
    assert_eq!(last_match("-s 10.0.7.0/255.0.255.0"), masked(Field::Ip4Saddr, 0xff00_ff00, Operator::Eq, TEN + 0x700));
    assert_eq!(last_match("! -i lo"), compare(Field::Iifname, Operator::Ne, crate::ruleset::interface_number(b"lo")));
    assert!(matches!(last_match("-o cali+"), Match::Lookup { left: Expr::Field(Field::Oifname), negate: false, .. }));
    assert_eq!(last_match("-p 4"), compare(Field::L4proto, Operator::Eq, 4));
    assert_eq!(last_match("-f"), masked(Field::Ip4FragOff, 0x1fff, Operator::Ne, 0));
    assert_eq!(steps("-i + -p all -s 0.0.0.0/0"), vec![]);
    let list = [range(TEN, TEN), range(TEN + 256, TEN + 511)];
    assert_eq!(last_match("-s 10.0.0.0,10.0.1.0/24"), Match::within(Field::Ip4Saddr, false, list));
}

#[test]
fn a_negated_list_of_ports_excludes_all_of_them() {
    let list = [range(22, 22), range(80, 90)];
    assert_eq!(last_match("-p tcp -m multiport ! --dports 22,80:90"), Match::within(Field::Dport, true, list));
    let each = |negate| [Field::Sport, Field::Dport].map(|field| Match::within(field, negate, list)).into();
    assert_eq!(last_match("-p tcp -m multiport --ports 22,80:90"), Match::Any(each(false)));
    assert_eq!(last_match("-p tcp -m multiport ! --ports 22,80:90"), Match::All(each(true)));
    assert_eq!(last_match("-p udp -m udp --sport :1023"), Match::within(Field::Sport, false, [range(0, 1023)]));
}

#[test]
fn states_and_the_two_that_are_status_bits() {
    let state = |operator, bits: u32| compare(Field::CtState, operator, bits.into());
    let dnat = compare(Field::CtStatus, Operator::AnyBit, CtStatus::DNAT.0.into());
    let established = CtState::ESTABLISHED.0 | CtState::RELATED.0;
    assert_eq!(last_match("-m conntrack --ctstate RELATED,ESTABLISHED"), state(Operator::AnyBit, established));
    assert_eq!(last_match("-m conntrack ! --ctstate RELATED,ESTABLISHED"), state(Operator::NoBit, established));
    assert_eq!(last_match("-m conntrack --ctstate DNAT"), dnat);
    assert_eq!(last_match("-m conntrack ! --ctstate DNAT"), Match::Not(Box::new(dnat.clone())));
    let either = Match::Any(vec![state(Operator::AnyBit, CtState::NEW.0), dnat]);
    assert_eq!(last_match("-m conntrack --ctstate NEW,DNAT"), either);
    assert_eq!(last_match("-m conntrack ! --ctstate NEW,DNAT"), Match::Not(Box::new(either)));
}

#[test]
fn an_untracked_packet_that_passes_the_state_is_asked_nothing_more() {
    let direction = compare(Field::CtDirection, Operator::Eq, 1);
    let without = compare(Field::CtState, Operator::AnyBit, (CtState::INVALID.0 | CtState::UNTRACKED.0).into());
    let with = last_match("-m conntrack --ctstate INVALID --ctdir REPLY");
    assert_eq!(with, Match::Any(vec![without, Match::All(vec![direction.clone()])]));
    assert_eq!(last_match("-m conntrack --ctstate ESTABLISHED --ctdir REPLY"), direction);
}

#[test]
fn connections_have_addresses_and_ports_of_their_own() {
    for (words, expected) in [
        ("--ctorigdst 10.0.0.1", compare(Field::CtOrigDaddr4, Operator::Eq, TEN + 1)),
        ("! --ctreplsrc 10.0.0.1", compare(Field::CtReplySaddr4, Operator::Ne, TEN + 1)),
        ("--ctorigdstport 22", compare(Field::CtOrigDport, Operator::Eq, 22)),
        ("--ctproto udp", compare(Field::CtOrigProto, Operator::Eq, 17)),
        ("--ctstatus ASSURED", compare(Field::CtStatus, Operator::AnyBit, 4)),
        ("! --ctstatus CONFIRMED", compare(Field::CtStatus, Operator::NoBit, 8)),
    ] {
        assert_eq!(last_match(&format!("-m conntrack {words}")), expected, "{words}");
    }
    let left = last_match("-m conntrack --ctexpire 5:10");
    assert_eq!(left, Match::within(Field::CtExpiration, false, [range(5, 10)]));
}

#[test]
fn an_icmp_type_without_code_means_any_code() {
    let kind = |operator| compare(Field::IcmpType, operator, 3);
    assert_eq!(last_match("-p icmp -m icmp --icmp-type 3"), kind(Operator::Eq));
    assert_eq!(last_match("-p icmp -m icmp ! --icmp-type 3"), kind(Operator::Ne));
    let both = Match::All(vec![kind(Operator::Eq), compare(Field::IcmpCode, Operator::Eq, 1)]);
    assert_eq!(last_match("-p icmp -m icmp ! --icmp-type 3/1"), Match::Not(Box::new(both)));
    assert_eq!(last_match("-p icmp -m icmp ! --icmp-type any"), Match::Any(vec![]));
    let six = steps6("-p ipv6-icmp -m icmp6 --icmpv6-type router-advertisement");
    assert_eq!(six[1], Step::Match(compare(Field::Icmp6Type, Operator::Eq, 134)));
}

#[test]
fn marks_are_compared_under_their_mask() {
    assert_eq!(last_match("-m mark --mark 0x10000/0x10000"), masked(Field::Mark, 0x10000, Operator::Eq, 0x10000));
    assert_eq!(last_match("-m mark ! --mark 0x0/0x300"), masked(Field::Mark, 0x300, Operator::Ne, 0));
    assert_eq!(last_match("-m connmark --mark 0x1"), compare(Field::CtMark, Operator::Eq, 1));
}

#[test]
fn marks_are_set_under_their_mask() {
    let field = |field| Box::new(Expr::Field(field));
    let number = |n: u128| Box::new(Expr::Number(n));
    let and = |of, n| Box::new(Expr::And(field(of), number(n)));
    let set = |field, value| vec![Step::Effect(Effect::Set { field, value })];
    let xmark = Expr::Xor(and(Field::Mark, 0xffff_00ff), number(0x1200));
    assert_eq!(steps("-j MARK --set-xmark 0x1200/0xff00"), set(Field::Mark, xmark));
    assert_eq!(steps("-j MARK --set-xmark 0x1/0xffffffff"), set(Field::Mark, Expr::Number(1)));
    let restored = Expr::Xor(and(Field::Mark, 0xffff_ff00), and(Field::CtMark, 0xf));
    assert_eq!(steps("-j CONNMARK --restore-mark --nfmask 0xff --ctmask 0xf"), set(Field::Mark, restored));
    assert_eq!(steps("-j CONNMARK --save-mark"), set(Field::CtMark, Expr::Field(Field::Mark)));
    let shifted = Expr::Shl(Box::new(Expr::Field(Field::CtMark)), Box::new(Expr::Number(2)));
    assert_eq!(steps("-j CONNMARK --restore-mark --left-shift-mark 2"), set(Field::Mark, shifted));
}

#[test]
fn sets_have_a_direction_for_each_dimension() {
    let ipset = |negate, options: Option<&str>| Match::Ipset {
        name: "cali40s:abc".into(),
        directions: vec![SetDirection::Src, SetDirection::Dst, SetDirection::Dst],
        negate,
        options: options.map(Into::into),
    };
    assert_eq!(last_match("-m set ! --match-set cali40s:abc src,dst,dst"), ipset(true, None));
    let options = "--return-nomatch ! --packets-eq 5";
    let words = format!("-m set --match-set cali40s:abc src,dst,dst {options}");
    assert_eq!(last_match(&words), ipset(false, Some(options)));
}

#[test]
fn routing_is_asked_for_address_types() {
    let fib = |source, iif, oif, result| Expr::Fib(FibField { source, mark: false, iif, oif, result });
    let local = |source, oif, operator| {
        let left = fib(source, false, oif, FibResult::Type);
        Match::Compare { left, operator, right: Expr::Number(2) }
    };
    assert_eq!(last_match("-m addrtype --dst-type LOCAL"), local(false, false, Operator::Eq));
    let masquerade = "-m addrtype ! --src-type LOCAL --limit-iface-out";
    assert_eq!(last_match(masquerade), local(true, true, Operator::Ne));
    let Match::Lookup { set: crate::ruleset::SetRef::Anonymous(types), .. } =
        last_match("-m addrtype --dst-type MULTICAST,BROADCAST")
    else {
        panic!("a look-up")
    };
    assert_eq!(types.keys().map(|key| key[0].low).collect::<Vec<_>>(), [3, 5]);
    let reverse = last_match("-m rpfilter --invert");
    let left = fib(true, true, false, FibResult::Present);
    assert_eq!(reverse, Match::Compare { left, operator: Operator::Eq, right: Expr::Number(0) });
    let local = Match::Compare {
        left: fib(true, true, false, FibResult::Type),
        operator: Operator::Eq,
        right: Expr::Number(2),
    };
    let Match::Any(either) = last_match("-m rpfilter --accept-local") else { panic!("two ways") };
    assert_eq!(either, [last_match("-m rpfilter"), local]);
}

#[test]
fn ipv6_answers_address_types_from_the_address_and_wants_all_of_them() {
    let one = |words: &str| match steps6(words).pop() {
        Some(Step::Match(one)) => one,
        other => panic!("{words}: {other:?}"),
    };
    let multicast = Match::within(Field::Ip6Daddr, false, [range(0xff << 120, u128::MAX)]);
    assert_eq!(one("-m addrtype --dst-type MULTICAST"), multicast);
    assert!(matches!(one("-m addrtype --src-type UNICAST,LOCAL"), Match::All(both) if both.len() == 2));
    let (_, remarks) = rule_and_remarks("-m addrtype --dst-type BROADCAST", Family::Ipv6);
    assert_eq!(remarks.len(), 1, "the kernel refuses this type");
}

#[test]
fn packets_without_a_socket_pass_a_negated_owner() {
    let owned = Match::within(Field::Skuid, false, [range(1000, 2000)]);
    assert_eq!(last_match("-m owner --uid-owner 1000-2000"), owned);
    assert_eq!(last_match("-m owner ! --uid-owner 1000-2000"), Match::Not(Box::new(owned)));
}

#[test]
fn other_header_fields() {
    for (words, expected) in [
        ("-m length --length 64:1500", Match::within(Field::Length, false, [range(64, 1500)])),
        ("-m ttl --ttl-lt 5", compare(Field::Ip4Ttl, Operator::Lt, 5)),
        ("-m dscp ! --dscp 0x2e", compare(Field::Dscp, Operator::Ne, 46)),
        ("-m tos --tos 0x10/0x3f", masked(Field::Tos, 0x3f, Operator::Eq, 16)),
        ("-m pkttype --pkt-type multicast", compare(Field::Pkttype, Operator::Eq, 2)),
        ("-m mac ! --mac-source 01:02:03:04:05:06", compare(Field::EtherSaddr, Operator::Ne, 0x0102_0304_0506)),
        ("-m iprange --src-range 10.0.0.1-10.0.0.9", Match::within(Field::Ip4Saddr, false, [range(TEN + 1, TEN + 9)])),
        ("-p tcp -m tcp --tcp-flags SYN,RST SYN", masked(Field::TcpFlags, 6, Operator::Eq, 2)),
        ("-m ecn --ecn-ip-ect 3", compare(Field::Ecn, Operator::Eq, 3)),
    ] {
        assert_eq!(last_match(words), expected, "{words}");
    }
}

#[test]
fn verdicts_and_translations() {
    let verdict = |one| vec![Step::Verdict(one)];
    let exactly = |n| Some(NatTarget::Range(Interval::single(n)));
    let nat = |kind, address, port| verdict(Verdict::Nat(Nat { kind, address, port, options: Box::default() }));
    assert_eq!(steps("-j DNAT --to-destination 10.0.0.1:80"), nat(NatKind::Dnat, exactly(TEN + 1), exactly(80)));
    assert_eq!(steps("-j DNAT --to-destination :80"), nat(NatKind::Dnat, None, exactly(80)));
    let pool = Some(NatTarget::Range(range(TEN + 1, TEN + 5)));
    let ports = Some(NatTarget::Range(range(1024, 2048)));
    assert_eq!(steps("-j SNAT --to-source 10.0.0.1-10.0.0.5:1024-2048"), nat(NatKind::Snat, pool, ports.clone()));
    let options = "--random".into();
    let masquerade = Nat { kind: NatKind::Masquerade, address: None, port: ports, options };
    assert_eq!(steps("-j MASQUERADE --to-ports 1024-2048 --random"), verdict(Verdict::Nat(masquerade)));
    assert_eq!(steps("-j REDIRECT"), nat(NatKind::Redirect, None, None));
    let six = |words| steps6(words);
    assert_eq!(six("-j DNAT --to-destination [::1]:80"), nat(NatKind::Dnat, exactly(1), exactly(80)));
    assert_eq!(six("-j DNAT --to-destination ::1"), nat(NatKind::Dnat, exactly(1), None));
    assert_eq!(six("-j REJECT"), verdict(Verdict::Reject("icmp6-port-unreachable".into())));
    assert_eq!(steps("-j REJECT --reject-with tcp-reset"), verdict(Verdict::Reject("tcp reset".into())));
    assert_eq!(
        steps("-j NFQUEUE --queue-num 3 --queue-bypass"),
        verdict(Verdict::Queue { bypass: true, options: "--queue-num 3".into() })
    );
    assert_eq!(steps("-j QUEUE"), verdict(Verdict::Queue { bypass: false, options: "--queue-num 0".into() }));
    assert_eq!(steps("-j USER"), verdict(Verdict::Jump("USER".into())));
    assert_eq!(steps("-g USER"), verdict(Verdict::Goto("USER".into())));
    assert!(matches!(steps("-j TPROXY --on-port 3129")[..], [Step::Verdict(Verdict::Opaque(_))]));
    assert_eq!(steps(""), vec![]);
}

#[test]
fn effects() {
    let one = |words: &str| match &steps(words)[..] {
        [Step::Effect(one)] | [Step::Match(_), Step::Effect(one)] => one.clone(),
        other => panic!("{words}: {other:?}"),
    };
    let log = |prefix: &str, group| Effect::Log { prefix: Some(prefix.into()), group, options: Box::default() };
    assert_eq!(one(r#"-j LOG --log-prefix "calico-packet: ""#), log("calico-packet: ", None));
    assert_eq!(one("-j NFLOG --nflog-prefix D --nflog-group 2"), log("D", Some(2)));
    assert_eq!(one("-j CT --notrack"), Effect::NoTrack);
    assert!(matches!(one("-j CT --helper ftp"), Effect::Harmless(_)));
    assert!(matches!(one("-p tcp -j TCPMSS --clamp-mss-to-pmtu"), Effect::Set { value: Expr::Opaque(_), .. }));
    assert!(matches!(one("-p tcp -j ECN --ecn-tcp-remove"), Effect::Set { field: Field::TcpFlags, .. }));
    assert!(matches!(one("-j SET --add-set bad src --exist"), Effect::UpdateSet { set, .. } if &*set == "bad"));
    assert!(matches!(one("-m recent --set --name x --rsource"), Effect::Harmless(_)));
    let skmark = steps("-m socket --restore-skmark");
    assert!(matches!(
        skmark[..],
        [Step::Match(Match::Opaque { .. }), Step::Effect(Effect::Set { field: Field::Mark, .. })]
    ));
}

#[test]
fn undecidable_matches_are_kept_with_their_words() {
    for (words, kind) in [
        ("-m limit --limit 5/min --limit-burst 3", OpaqueKind::Stateful),
        ("-m recent --update --seconds 60 --hitcount 4 --name ssh --rsource", OpaqueKind::Stateful),
        ("-m statistic --mode random --probability 0.5", OpaqueKind::Stateful),
        (r#"-m string --string "a \" b" --algo bm"#, OpaqueKind::Property),
        ("-m helper --helper ftp", OpaqueKind::Property),
        ("-m bpf --object-pinned /sys/fs/bpf/x", OpaqueKind::Property),
    ] {
        assert_eq!(last_match(words), Match::Opaque { kind, text: words.into() }, "{words}");
    }
}

#[test]
fn what_is_not_understood_is_opaque_and_told_with_its_place() {
    for (words, column, text) in [
        ("-m frobnicate --level 3 -j DROP", 10, "-m frobnicate --level 3"),
        ("-s host.example -j DROP", 13, "-s host.example"),
        ("-p tcp -m tcp --dport 99999 -j DROP", 32, "-m tcp --dport 99999"),
        ("-m tcp --dport 22 -j DROP", 10, "-m tcp --dport 22"),
        ("-p tcp --frob 3 -j DROP", 17, "--frob 3"),
        ("-p tcp --dport", 17, "-m tcp --dport"),
        ("-j FROBNICATE --hard", 10, "-j FROBNICATE --hard"),
        ("-j DNAT", 13, "-j DNAT"),
        ("-j REJECT --reject-with kindly", 34, "-j REJECT --reject-with kindly"),
        ("-m owner --uid-owner nobody -j DROP", 31, "-m owner --uid-owner nobody"),
    ] {
        let (rule, remarks) = rule_and_remarks(words, Family::Ipv4);
        assert_eq!(rule.opaque_parts(), [text], "{words}");
        assert_eq!(remarks.len(), 1, "{words}: {remarks:?}");
        assert_eq!((remarks[0].level, remarks[0].line, remarks[0].column), (Level::Warning, 4, column), "{words}");
    }
}
