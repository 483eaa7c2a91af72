//! What one rule cannot say, groups, staged policies, and the version families, against what real Felixes wrote.

use super::tests::{endpoint, gnp, iptables_hashes, node, table, tables};
use super::*;
use crate::calico::integrity;
use crate::calico::integrity::tests::ruleset;
use crate::calico::names::{Action, Direction};
use crate::ruleset::Backend;

fn nets(texts: &[&str]) -> Vec<Prefix> {
    texts.iter().map(|text| text.parse().expect("a net")).collect()
}

fn ports(all: &[u16]) -> Vec<PortRange> {
    all.iter().copied().map(PortRange::single).collect()
}

fn tcp(action: Action) -> PolicyRule {
    PolicyRule { protocol: Some(ProtocolName::Name("tcp".to_owned())), ..PolicyRule::any(action) }
}

/// The ingress rules of a policy with one rule, as `iptables-save` words without chain and comments.
fn rendered(rule: PolicyRule, family: Family) -> Vec<String> {
    let mut input = node();
    input.policies.push(gnp("p", vec![rule]));
    let tiers = vec![TierPolicies { tier: "default".to_owned(), ingress: vec![0], ..TierPolicies::default() }];
    input.endpoints.push(HostEndpoint { tiers, ..endpoint(Some("eth0")) });
    let text = save_text(&tables(&input, family), family, &SaveOptions::default());
    let checked = integrity::check(&ruleset(&text, Backend::IptablesLegacy, family));
    assert_eq!((checked.mismatches, checked.verified), (Vec::new(), checked.rules), "every form is known to the proof");
    let lines = text.lines().filter_map(|line| line.strip_prefix("-A cali-pi-gnp/p "));
    lines.map(|line| crate::ruleset::without_comments(line).replace(" -m comment --comment", "")).collect()
}

#[test]
fn one_block_sets_the_result_itself() {
    let mut rule = tcp(Action::Allow);
    rule.source.nets = nets(&["10.0.0.0/8", "192.168.0.0/16", "fd00::/8"]);
    rule.destination.ports = ports(&[22]);
    assert_eq!(
        rendered(rule.clone(), Family::Ipv4),
        [
            "-j MARK --set-xmark 0x0/0x180000",
            "-s 10.0.0.0/8 -j MARK --set-xmark 0x80000/0x80000",
            "-s 192.168.0.0/16 -j MARK --set-xmark 0x80000/0x80000",
            "-p tcp -m multiport --dports 22 -m mark --mark 0x80000/0x80000 -j MARK --set-xmark 0x10000/0x10000",
        ]
    );
    assert_eq!(
        rendered(rule, Family::Ipv6),
        ["-s fd00::/8 -p tcp -m multiport --dports 22 -j MARK --set-xmark 0x10000/0x10000"]
    );
}

#[test]
fn three_blocks_are_written_with_felixs_mistake() {
    let mut rule = tcp(Action::Allow);
    rule.destination.ports = ports(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
    rule.source.nets = nets(&["10.0.0.0/8", "10.1.0.0/16"]);
    rule.destination.nets = nets(&["172.16.0.1/32", "172.16.0.2/32"]);
    rule.destination.not_nets = nets(&["172.16.0.9/32", "172.16.0.10/32"]);
    assert_eq!(unenforced_blocks(&rule, Family::Ipv4), ["destination nets"]);
    assert_eq!(unenforced_blocks(&rule, Family::Ipv6), Vec::<&str>::new());
    assert_eq!(
        rendered(rule, Family::Ipv4),
        [
            "-j MARK --set-xmark 0x0/0x180000",
            "-p tcp -m multiport --dports 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15 -j MARK --set-xmark 0x80000/0x80000",
            "-p tcp -m multiport --dports 16 -j MARK --set-xmark 0x80000/0x80000",
            "-s 10.0.0.0/8 -j MARK --set-xmark 0x100000/0x100000",
            "-s 10.1.0.0/16 -j MARK --set-xmark 0x100000/0x100000",
            "-m mark --mark 0x0/0x100000 -j MARK --set-xmark 0x0/0x80000",
            "-d 172.16.0.1/32 -j MARK --set-xmark 0x100000/0x100000",
            "-d 172.16.0.2/32 -j MARK --set-xmark 0x100000/0x100000",
            "-m mark --mark 0x0/0x100000 -j MARK --set-xmark 0x0/0x80000",
            "-d 172.16.0.9/32 -j MARK --set-xmark 0x0/0x80000",
            "-d 172.16.0.10/32 -j MARK --set-xmark 0x0/0x80000",
            "-p tcp -m mark --mark 0x80000/0x80000 -j MARK --set-xmark 0x10000/0x10000",
        ]
    );
}

#[test]
fn a_negated_block_begins_with_the_result_set() {
    let mut rule = PolicyRule::any(Action::Deny);
    rule.source.not_nets = nets(&["10.0.0.0/8", "192.168.0.0/16"]);
    assert_eq!(
        rendered(rule, Family::Ipv4)[..3],
        [
            "-j MARK --set-xmark 0x80000/0x180000",
            "-s 10.0.0.0/8 -j MARK --set-xmark 0x0/0x80000",
            "-s 192.168.0.0/16 -j MARK --set-xmark 0x0/0x80000",
        ]
    );
}

#[test]
fn one_excluded_net_fits_only_where_no_other_net_stands() {
    let mut rule = PolicyRule::any(Action::Allow);
    rule.source.not_nets = nets(&["10.9.0.0/16"]);
    assert_eq!(rendered(rule.clone(), Family::Ipv4), ["! -s 10.9.0.0/16 -j MARK --set-xmark 0x10000/0x10000"]);
    rule.source.nets = nets(&["10.0.0.0/8"]);
    assert_eq!(
        rendered(rule.clone(), Family::Ipv4),
        [
            "-j MARK --set-xmark 0x80000/0x180000",
            "-s 10.9.0.0/16 -j MARK --set-xmark 0x0/0x80000",
            "-s 10.0.0.0/8 -m mark --mark 0x80000/0x80000 -j MARK --set-xmark 0x10000/0x10000",
        ]
    );
    // nothing is left when everything is excluded
    rule.source.not_nets = nets(&["0.0.0.0/0"]);
    assert_eq!(rendered(rule, Family::Ipv4), [""]);
}

#[test]
fn everything_else_stands_in_felixs_order() {
    let mut rule = PolicyRule::any(Action::Allow);
    rule.ip_version = Some(Family::Ipv4);
    rule.not_protocol = Some(ProtocolName::Name("udp".to_owned()));
    rule.source.selector = Some("all()".to_owned());
    rule.source.not_selector = Some("role == \"bastion\"".to_owned());
    rule.destination.not_ports = ports(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
    rule.destination.service = Some(("kube-system".to_owned(), "dns".to_owned()));
    rule.annotations = vec![("why".to_owned(), "because \"so\"".to_owned())];
    let service = crate::calico::names::service_set_id("kube-system", "dns", true);
    let service = crate::calico::names::set_name(&service, Family::Ipv4);
    assert_eq!(
        rendered(rule.clone(), Family::Ipv4),
        [format!(
            "! -p udp -m set --match-set cali40s:5y5I3VdRZfDU01O--xXAPx2 src -m set --match-set {service} dst,dst \
             -m set ! --match-set cali40s:M6pEbt8MIjuTGua4u9Rnchx src \
             -m multiport ! --dports 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15 -m multiport ! --dports 16 \
             -j MARK --set-xmark 0x10000/0x10000"
        )]
    );
    assert_eq!(rendered(rule, Family::Ipv6), [""], "of the other family only the policy's name is left");
    let mut icmp = PolicyRule::any(Action::Allow);
    icmp.protocol = Some(ProtocolName::Name("icmpv6".to_owned()));
    icmp.icmp = Some((1, Some(4)));
    icmp.not_icmp = Some((2, None));
    assert_eq!(
        rendered(icmp.clone(), Family::Ipv6),
        ["-p ipv6-icmp -m icmp6 --icmpv6-type 1/4 -m icmp6 ! --icmpv6-type 2 -j MARK --set-xmark 0x10000/0x10000"]
    );
    assert_eq!(rendered(icmp, Family::Ipv4), [""]);
}

#[test]
fn named_ports_are_sets_that_hold_the_selector_already() {
    let mut rule = tcp(Action::Allow);
    rule.destination.selector = Some("all()".to_owned());
    rule.destination.named_ports = vec!["ssh".to_owned()];
    let id = crate::calico::names::named_port_set_id("all()", Some("tcp"), "ssh");
    let set = crate::calico::names::set_name(&id, Family::Ipv4);
    assert_eq!(
        rendered(rule.clone(), Family::Ipv4),
        [format!("-p tcp -m set --match-set {set} dst,dst -j MARK --set-xmark 0x10000/0x10000")]
    );
    rule.destination.ports = ports(&[22]);
    assert_eq!(
        rendered(rule, Family::Ipv4)[1..],
        [
            "-p tcp -m multiport --dports 22 -j MARK --set-xmark 0x80000/0x80000".to_owned(),
            format!("-m set --match-set {set} dst,dst -j MARK --set-xmark 0x80000/0x80000"),
            "-p tcp -m set --match-set cali40s:5y5I3VdRZfDU01O--xXAPx2 dst -m mark --mark 0x80000/0x80000 \
             -j MARK --set-xmark 0x10000/0x10000"
                .to_owned(),
        ]
    );
}

#[test]
fn policies_of_one_selector_share_a_chain() {
    let mut input = node();
    let policy = |number: usize, selector: &str| Policy {
        selector: Some(selector.to_owned()),
        ..gnp(&format!("p{number}"), vec![PolicyRule::any(Action::Pass)])
    };
    input.policies = (0..8).map(|number| policy(number, if number < 7 { "all()" } else { "x == 'y'" })).collect();
    input.policies[1].staged = true;
    let tiers = vec![TierPolicies { tier: "default".to_owned(), ingress: (0..8).collect(), ..TierPolicies::default() }];
    input.endpoints.push(HostEndpoint { tiers, ..endpoint(Some("eth0")) });
    let tables = tables(&input, Family::Ipv4);
    let filter = table(&tables, "filter");
    let names: Vec<&PolicyName> = input.policies[..7].iter().map(|policy| &policy.name).collect();
    let group = crate::calico::names::group_chain(Generation::From332, "default", "all()", Direction::In, &names);
    let text = save_text(&tables, Family::Ipv4, &SaveOptions::default());
    let of = |chain: &str| -> Vec<String> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(&format!("-A {chain} ")));
        lines.map(crate::ruleset::without_comments).collect()
    };
    let undecided = "-m mark --mark 0x0/0x30000 -j cali-pi-gnp/p";
    assert_eq!(
        of(&group),
        [
            "-j cali-pi-gnp/p0".to_owned(),
            format!("{undecided}2"),
            format!("{undecided}3"),
            format!("{undecided}4"),
            format!("{undecided}5"),
            "-m mark ! --mark 0x0/0x30000 -j RETURN".to_owned(),
            "-j cali-pi-gnp/p6".to_owned(),
        ]
    );
    let endpoint = of("cali-fh-eth0");
    assert!(endpoint.contains(&format!("-m mark --mark 0x0/0x20000 -j {group}")), "{endpoint:?}");
    assert!(endpoint.contains(&"-m mark --mark 0x0/0x20000 -j cali-pi-gnp/p7".to_owned()));
    assert!(filter.chains.keys().all(|name| !name.contains("gnp/p1")), "staged policies are not written");
}

#[test]
fn tiers_with_staged_policies_alone_deny_nothing() {
    let mut input = node();
    input.settings.flow_logs = true;
    input.policies.push(Policy { staged: true, ..gnp("s", vec![PolicyRule::any(Action::Deny)]) });
    let tiers = vec![TierPolicies { tier: "t".to_owned(), ingress: vec![0], ..TierPolicies::default() }];
    input.endpoints.push(HostEndpoint { tiers: tiers.clone(), forward_tiers: tiers, ..endpoint(Some("eth0")) });
    let text = save_text(&tables(&input, Family::Ipv4), Family::Ipv4, &SaveOptions::default());
    assert!(text.contains("--nflog-prefix \"PPI|t\"") && !text.contains("End of tier"));
    assert!(
        !text.contains("-A cali-fhfw-eth0 -m comment --comment \"Allow forwarded"),
        "and forwarding is decided elsewhere"
    );
}

/// Issue 9290 of projectcalico/calico: a workload's chain of a Felix of September 2024.
#[test]
fn chains_before_3_28_hash_as_on_a_real_host() {
    let mut input = node();
    input.settings = Settings::defaults(Generation::UpTo327);
    input.policies.push(gnp("unknown", vec![]));
    let tiers = vec![TierPolicies { tier: "default".to_owned(), ingress: vec![0], ..TierPolicies::default() }];
    input.endpoints.push(HostEndpoint { tiers, ..endpoint(Some("eth0")) });
    let tables = tables(&input, Family::Ipv4);
    let mut rules = table(&tables, "filter").chains.get("cali-fh-eth0").expect("the chain").clone();
    // workloads have no failsafes, and the policy's name is only known by its hash
    rules.remove(2);
    rules[4].action = Some(RuleAction::Jump("cali-pi-_DGlcbEzkd1cvh5X1F7M".to_owned()));
    assert_eq!(
        iptables_hashes(&rules[..5], "cali-tw-cali11239f98883").join(" "),
        "63AiEhcKlL4J9x0W U_uF6VQoKAohXmTC 11psZo1M6h3_eNzY 6lKycZxeeZ1PugZz cV0qHtGkHxu9syl8"
    );
}

/// A bastion lab of 2022 with automatic host endpoints (Calico Enterprise).
#[test]
fn wildcard_endpoints_hash_as_on_a_real_node() {
    let mut input = node();
    input.endpoints.push(endpoint(None));
    let tables = tables(&input, Family::Ipv4);
    for (name, chain, rule, hash) in [
        ("filter", "cali-fh-any-interface-at-all", 2, "NnqjZhu9yccY4C7-"),
        ("filter", "cali-th-any-interface-at-all", 2, "Pk4AU-xuUwtwrLN6"),
        ("mangle", "cali-th-any-interface-at-all", 3, "isLh7I8mMajLdhSv"),
    ] {
        let rules = table(&tables, name).chains.get(chain).expect(chain);
        assert_eq!(iptables_hashes(rules, chain)[rule], hash, "{name} {chain}");
    }
}

/// The same lab's policy of a namespace: its first rule each way, the second of which begins a match block.
#[test]
fn a_labs_policy_hashes_as_on_its_node() {
    let mut allow = tcp(Action::Allow);
    allow.source.selector = Some("(projectcalico.org/namespace == \"hipstershop\" && app == \"frontend\")".to_owned());
    allow.destination.ports = ports(&[5050]);
    let mut block = tcp(Action::Allow);
    block.destination.ports = (7000..7016).map(PortRange::single).collect();
    let name = PolicyName {
        kind: "NetworkPolicy".to_owned(),
        namespace: Some("hipstershop".to_owned()),
        name: "app-hipstershop.checkoutservice".to_owned(),
    };
    let mut input = node();
    input.settings = Settings { flow_logs: true, ..Settings::defaults(Generation::V330) };
    input.policies.push(Policy {
        name,
        tier: "app-hipstershop".to_owned(),
        selector: None,
        staged: false,
        ingress: vec![allow, PolicyRule::any(Action::Deny)],
        egress: vec![block],
    });
    let tier =
        TierPolicies { tier: "app-hipstershop".to_owned(), ingress: vec![0], egress: vec![0], default_pass: false };
    input.endpoints.push(HostEndpoint { tiers: vec![tier], ..endpoint(Some("eth0")) });
    let tables = tables(&input, Family::Ipv4);
    let hashes = |chain: &str| iptables_hashes(table(&tables, "filter").chains.get(chain).expect(chain), chain);
    assert_eq!(
        hashes("cali-pi-_sQdl6e7ekf9DS2UYNem")[..3],
        ["fwIMoHrbCWNN0i6y", "jtt9uTELeZiK6HTc", "49i8yZ9WeeBJcJFx"],
        "set, NFLOG, RETURN"
    );
    assert_eq!(hashes("cali-po-_sQdl6e7ekf9DS2UYNem")[0], "NrlO0UOCu-NgEXYU");
}

#[test]
fn log_prefixes_name_who_logs() {
    let text = |generation, prefix: &str| {
        let mut input = node();
        input.settings = Settings::defaults(generation);
        input.settings.log_prefix = prefix.to_owned();
        input.settings.log_limit = Some(("10/minute".to_owned(), 5));
        input.policies.push(gnp("p", vec![tcp(Action::Log)]));
        let tiers = vec![TierPolicies { tier: "t".to_owned(), ingress: vec![0], ..TierPolicies::default() }];
        input.endpoints.push(HostEndpoint { tiers, ..endpoint(Some("eth0")) });
        let text = save_text(&tables(&input, Family::Ipv4), Family::Ipv4, &SaveOptions::default());
        text.lines().find(|line| line.contains("-j LOG")).expect("a rule").to_owned()
    };
    let new = text(Generation::From332, "%t|%k|%n%x%");
    assert!(new.contains("-m limit --limit 10/min -j LOG --log-prefix \"default|gnp|p%x%: \" --log-level 5"), "{new}");
    let old = text(Generation::V330, "%t");
    assert!(old.contains("-j LOG --log-prefix \"%t: \"") && !old.contains("limit"), "{old}");
    assert!(text(Generation::From332, "").contains("\"calico-packet: \""));
}

#[test]
fn nft_mode_spells_names_out_and_refuses_what_felix_cannot_send() {
    let mut input = node();
    input.settings.dataplane = Dataplane::Nft;
    let mut rule = tcp(Action::Allow);
    rule.destination.ports = ports(&[22]);
    input.policies.push(gnp("a-policy-with-a-long-name.really", vec![rule]));
    let tiers = vec![TierPolicies { tier: "t".to_owned(), ingress: vec![0], ..TierPolicies::default() }];
    input.endpoints.push(HostEndpoint { tiers, ..endpoint(None) });
    let tables = tables(&input, Family::Ipv4);
    let filter = table(&tables, "filter");
    for chain in ["cali-pi-gnp/a-policy-with-a-long-name.really", "cali-fhfw-any-interface-at-all"] {
        assert!(filter.chains.contains_key(chain), "{chain}");
    }
    input.policies[0].ingress[0].protocol = None;
    let refused = render(&input, Family::Ipv4).expect_err("no protocol");
    assert_eq!(refused.rule, 0);
}

#[test]
fn old_failsafes_open_the_other_family() {
    let mut input = node();
    input.settings.failsafe_in = crate::calico::settings::ports::parse_list("tcp:10.0.0.0/8:22").expect("a list");
    input.settings.failsafe_leaks = true;
    input.endpoints.push(endpoint(Some("eth0")));
    let text = save_text(&tables(&input, Family::Ipv6), Family::Ipv6, &SaveOptions::default());
    assert!(text.contains("-A cali-failsafe-in -p tcp "), "{text}");
}

/// Every form a rule can have, in both dialects, proves itself.
#[test]
fn everything_rendered_for_nft_passes_the_integrity_check() {
    let mut input = node();
    input.settings.dataplane = Dataplane::Nft;
    input.settings.flow_logs = true;
    input.settings.log_limit = Some(("10/minute".to_owned(), 7));
    let mut wide = tcp(Action::Allow);
    wide.source.nets = nets(&["10.0.0.0/8", "10.1.0.0/16", "fd00::/8", "fd01::/16"]);
    wide.source.not_nets = nets(&["10.1.2.3/32", "10.1.2.4/32"]);
    wide.destination.ports = (1..20).map(PortRange::single).collect();
    wide.destination.named_ports = vec!["ssh".to_owned()];
    wide.destination.selector = Some("all()".to_owned());
    let mut other = PolicyRule::any(Action::Deny);
    other.source.not_nets = nets(&["10.1.2.3/32", "10.1.2.4/32"]);
    other.not_protocol = Some(ProtocolName::Name("udp".to_owned()));
    let mut ping = PolicyRule::any(Action::Pass);
    ping.protocol = Some(ProtocolName::Name("icmp".to_owned()));
    ping.icmp = Some((8, None));
    input.policies.push(gnp("everything", vec![wide, tcp(Action::Log), other, ping]));
    let tiers = vec![TierPolicies { tier: "t".to_owned(), ingress: vec![0], egress: vec![0], default_pass: false }];
    let all = HostEndpoint {
        tiers: tiers.clone(),
        forward_tiers: tiers.clone(),
        untracked_tiers: tiers.clone(),
        pre_dnat_tiers: tiers,
        ..endpoint(Some("eth0"))
    };
    input.endpoints = vec![all, endpoint(None)];
    for family in [Family::Ipv4, Family::Ipv6] {
        let tables = model::ruleset_tables(&tables(&input, family), Backend::Nft, family);
        let checked = integrity::check(&crate::ruleset::Ruleset { tables, ipsets: Vec::new() });
        assert_eq!(checked.mismatches, Vec::new());
        assert!(checked.rules > 150 && checked.verified == checked.rules, "{} of {}", checked.verified, checked.rules);
    }
}
