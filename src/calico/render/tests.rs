//! Rendered chains against hashes that real Felixes wrote.

use super::*;
use crate::calico::integrity;
use crate::calico::integrity::tests::ruleset;
use crate::calico::names::Action;
use crate::calico::settings::ports::parse_list;
use crate::ruleset::Backend;

/// A node with VXLAN whose workloads may reach the host.
pub(super) fn node() -> Input {
    let settings = Settings {
        vxlan_port: Some(4789),
        egress_dscp: false,
        endpoint_to_host: RuleAction::Accept,
        ..Settings::defaults(Generation::From332)
    };
    Input { settings, endpoints: Vec::new(), policies: Vec::new(), profiles: Vec::new() }
}

pub(super) fn endpoint(interface: Option<&str>) -> HostEndpoint {
    HostEndpoint { interface: interface.map(str::to_owned), ..HostEndpoint::default() }
}

pub(super) fn tables(input: &Input, family: Family) -> Vec<RenderedTable> {
    render(input, family).expect("renders")
}

pub(super) fn table<'a>(tables: &'a [RenderedTable], name: &str) -> &'a RenderedTable {
    tables.iter().find(|table| table.name == name).expect("the table")
}

pub(super) fn iptables_hashes(rules: &[FelixRule], chain: &str) -> Vec<String> {
    let texts = rules.iter().map(|rule| rule.iptables_text(chain));
    rule::hashes(chain, texts).iter().map(ToString::to_string).collect()
}

fn nft_hashes(rules: &[FelixRule], layer: &str, chain: &str) -> Vec<String> {
    let texts = rules.iter().map(|rule| rule.nft_text(layer, Family::Ipv4));
    rule::hashes(&format!("{layer}-{chain}"), texts).iter().map(ToString::to_string).collect()
}

/// Hashes of static chains on a node with VXLAN: table, chain, hashes in iptables mode, in nft mode.
const STATIC: [(&str, &str, &str, &str); 6] = [
    (
        "raw",
        "cali-PREROUTING",
        "DQ6LK2guiBRMyrLK sIsu2aAqNN6K3YYn W0qKAga6QivxLxL1 QOYCZUivPyJL6Dp1 uvipz_NmQPrGYnTB pj4jqF0K2OCNLmzX Jefg6QI5khJcHnVl",
        "_m5XxTROnUC3kwU9 KSSCpT-T9DVdO0Iq MfbbuIABLCdEyuDF WkruAv78Jz9mDykg -AqscjC9Vg6h2HXv s5qWstZtZZWDC7hD el99SHzsxDHcC0i6",
    ),
    (
        "raw",
        "cali-OUTPUT",
        "clI8WObfCl4yhr60 ZbkN6P8OdRcBRPpU ry5_UEpt1OaPPCxO MGhICIksKDnYMIkW",
        "e2BVX_cHZ6ITRbRX VWMOize4AGqDOd8U 27f-hiVuGN6Hixm2 C_dtFa4FZl3n3guC",
    ),
    (
        "mangle",
        "cali-PREROUTING",
        "6BJqBjBC7crtA-7- KX7AGNd6rMcDUai6 wNH7KsA3ILKJBsY9 Cg96MgVuoPm7UMRo",
        "hRS28YpQh4sf7lSw IwtMN-rc3DmNzBzY 3IqyhzcAvEfc5ghM pt2vpkSdeEEZuFJW",
    ),
    (
        "mangle",
        "cali-POSTROUTING",
        "NX-7roTexQ3fGRfU JkYr4aB8O4_N8NBS nO0nbHA3Or7V6l7t mgxNjIoKySH7TEGH",
        "mS7Pbp4wnbne4NEE BC0Ti2X7IhbvY97T QNi0wuz0doF36FlX aleSM6VBsY-WKEx_",
    ),
    (
        "filter",
        "cali-FORWARD",
        "W_vvds1Nw3n9QE2f ZfgmjuiLaA8Pg0kp tAzwBLPaV-j53OOZ 4Z0Pf0byo05NFe-P hQ7Oc16wmUtLuneJ rnKNH2WxGcRQcIlD",
        "DjLNGAdnReheqqCp nYRf9HAGIu4qv2zI otxs2Q4D05BNLIsQ j573pOiV4ETpv7o4 spaMQnRTjqphyAAs gPO_isDuaIy0xfd5",
    ),
    ("filter", "cali-wl-to-host", "Ee9Sbo10IpVujdIY nSZbcOoG1xPONxb8", "Ny8jNeS1ncqmgkwL m-f8F_F3sZQBn4vu"),
];

#[test]
fn static_chains_hash_as_on_a_real_node() {
    let tables = tables(&node(), Family::Ipv4);
    for (name, chain, iptables, nft) in STATIC {
        let rules = table(&tables, name).chains.get(chain).expect(chain);
        assert_eq!(iptables_hashes(rules, chain).join(" "), iptables, "{name} {chain}");
        assert_eq!(nft_hashes(rules, name, chain).join(" "), nft, "nft {name} {chain}");
    }
}

#[test]
fn filter_input_and_output_hash_as_on_a_real_node() {
    let tables = tables(&node(), Family::Ipv4);
    let filter = table(&tables, "filter");
    let input = filter.chains.get("cali-INPUT").expect("cali-INPUT");
    // the first rule is of the node's VXLAN set and not listed in every dump
    assert_eq!(
        iptables_hashes(input, "cali-INPUT")[1..].join(" "),
        "EDCNTTxYfggApx8C H03xYXARh4e8pwd4 MN6K3isIWBigb1Va aKDQAoV0P_FFAIwV vIx3xkWzuvLW9fr4 5W9XghKma9wuz47x"
    );
    assert_eq!(
        nft_hashes(input, "filter", "cali-INPUT").join(" "),
        "Gtn781KKHXqD1ZWy uwBdMK7MloVtOKLK bQPg3nrC7bqqlzEy y9q5TVbyVOp08Pbf g94iaS8uaXhlEYN1 r1yiSr9IJXTbVonm Bw-drvME99fwv09t"
    );
    let output = filter.chains.get("cali-OUTPUT").expect("cali-OUTPUT");
    let hashes = iptables_hashes(output, "cali-OUTPUT");
    assert_eq!(
        (hashes[..2].join(" "), hashes[3..].join(" ")),
        (
            "Mq1_rAdXXH3YkrzW 69FkRTJDvD5Vu6Vl".to_owned(),
            "6T0hFtymUtXMOfEV IpTGXsDHURPUaLjJ wgnULo2gucg1umsA".to_owned()
        )
    );
    assert_eq!(
        nft_hashes(output, "filter", "cali-OUTPUT").join(" "),
        "98uiW9xxCe92G9L3 XeexzRpdwsnmqftJ gAwQMXeaURLLhMud aLINYsbhdLorP87H lcOFavYL6gslb8h_ VV3w_F7Dkj1IHDev"
    );
}

#[test]
fn default_failsafe_chains_hash_as_on_real_hosts() {
    let mut input = node();
    let untracked = vec![TierPolicies::default()];
    input.endpoints.push(HostEndpoint { untracked_tiers: untracked, ..endpoint(Some("eth0")) });
    let inbound = "wWFQM43tJU7wwnFZ LwNV--R8MjeUYacw QOO5NUOqOSS1_Iw0 cwZWoBSwVeIAZmVN 7FbNXT91kugE_upR 8Ftbkk2dRH2eEeq1 -JoRSaAQZPJAegMo PUKij4Rn9njHfVTi vSprVE-4rient0wc";
    let outbound = "82hjfji-wChFhAqL TNM3RfEjbNr72hgH ycxKitIl4u3dK0HR hxjEWyxdkXXkdvut cA_GLtruuvG88KiO ALz4foMyfue7vaqK zvCXe1uOiQ8adzhn Lppo9JuKR7AyZoWQ EoOkKdH0fekirfk8";
    let in_replies = "5FMJxeFRJfisGvcj oFvJCuh5JYJWtOxJ tB3k-uOYKx5Eojo1 g8ehpdolb2tqoKZq Xq497yMLKgOppNs8 n5ydGurw6_3FeGBL LW8T61IMKSNx_sl0 7eZAxCiiFv6o92sE r2XbJ4DDeEDLpH9E";
    let out_replies = "OKOusAMdhzXNpc88 9huBPZ4ACnEa0-t2 sNCio3RqSSibg3zV 4RoNCr6sQRAtTuOY COcyrSEuFzf_rQto QEdUWWbsmT9jiwxv C6RKSHTJzL_Okvgj b2uUvxeFtT57Rhtt sjYTW34xQM8oL0Bg";
    for family in [Family::Ipv4, Family::Ipv6] {
        let tables = tables(&input, family);
        let of = |table_name: &str, chain: &str| {
            let rules = table(&tables, table_name).chains.get(chain).expect(chain).clone();
            (iptables_hashes(&rules, chain).join(" "), nft_hashes(&rules, table_name, chain).join(" "))
        };
        assert_eq!(of("filter", "cali-failsafe-in").0, inbound);
        assert_eq!(of("mangle", "cali-failsafe-out").0, outbound);
        assert_eq!(of("raw", "cali-failsafe-in").0, format!("{inbound} {in_replies}"));
        assert_eq!(of("raw", "cali-failsafe-out").0, format!("{outbound} {out_replies}"));
        assert_eq!(
            of("filter", "cali-failsafe-in").1,
            "HlTa1PD_-4eyg5XK -iM2t8TQ--2sZcxe kOyilmFN_60cWijk IZII6Se8nUVR1FX_ vci2L29xhfbtiphO Ax9FQg3aZlj_gty2 GZ8fk8qVbl1fDAJj 7uoq8QU43g3YrUqW p6aeCSMRv8GG7f8u"
        );
        assert_eq!(
            of("filter", "cali-failsafe-out").1,
            "66Stvb_nsg4J4D5w f3WRNRtB55aa0v6B b74F372NjzsuLzY9 nhqBJoaTvnq90JMV zuuh--UzLbmdsSVS zJyGzA2O4gEOKItz 9jxR3Gcdbd4hFEiD -QSaledXhpXncfJr iiQ8Hii4WKjWSdB2"
        );
        assert!(of("mangle", "cali-failsafe-out").1.starts_with("xQP6TlPNdrkAvl19 "));
        assert!(of("raw", "cali-failsafe-in").1.starts_with("6wExcI5LcrzVb5En "));
        assert!(of("raw", "cali-failsafe-out").1.starts_with("kq0KfAOAQOjgiUm8 "));
    }
}

#[test]
fn entries_with_a_net_exist_in_its_family_only() {
    let mut input = node();
    input.settings.failsafe_in = parse_list("tcp:10.0.0.0/8:22,tcp:[fd00::/8]:22,udp:68").expect("a list");
    input.endpoints.push(endpoint(Some("eth0")));
    for (family, nets) in [(Family::Ipv4, "-s 10.0.0.0/8 "), (Family::Ipv6, "-s fd00::/8 ")] {
        let text = save_text(&tables(&input, family), family, &SaveOptions::default());
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("-A cali-failsafe-in ")).collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].contains(nets), "{}", lines[0]);
    }
}

pub(super) fn gnp(name: &str, rules: Vec<PolicyRule>) -> Policy {
    let name = PolicyName { kind: "GlobalNetworkPolicy".to_owned(), namespace: None, name: name.to_owned() };
    Policy { name, tier: "default".to_owned(), selector: None, staged: false, ingress: rules.clone(), egress: rules }
}

fn ssh_then_deny() -> Vec<PolicyRule> {
    let ssh = PolicyRule {
        protocol: Some(ProtocolName::Name("tcp".to_owned())),
        source: Entity { nets: vec!["10.0.0.0/8".parse().expect("a net")], ..Entity::default() },
        destination: Entity { ports: vec![PortRange::single(22)], ..Entity::default() },
        ..PolicyRule::any(Action::Allow)
    };
    vec![ssh, PolicyRule::any(Action::Deny)]
}

#[test]
fn policies_render_as_in_the_known_sample() {
    let mut input = node();
    input.policies.push(gnp("allow-ssh", ssh_then_deny()));
    let tiers = vec![TierPolicies { tier: "default".to_owned(), ingress: vec![0], ..TierPolicies::default() }];
    input.endpoints.push(HostEndpoint { tiers, ..endpoint(Some("eth0")) });
    let text = save_text(&tables(&input, Family::Ipv4), Family::Ipv4, &SaveOptions::default());
    let without_hash = |line: &str| {
        let start = line.find("\"cali:").expect("a hash");
        format!("{}{}", &line[..start], &line[start + "\"cali:0123456789abcdef\"".len()..])
    };
    let lines: Vec<String> =
        text.lines().filter(|line| line.starts_with("-A cali-pi-gnp/allow-ssh ")).map(without_hash).collect();
    assert_eq!(
        lines,
        [
            "-A cali-pi-gnp/allow-ssh -s 10.0.0.0/8 -p tcp -m comment --comment  -m comment --comment \"GlobalNetworkPolicy allow-ssh ingress\" -m multiport --dports 22 -j MARK --set-xmark 0x10000/0x10000",
            "-A cali-pi-gnp/allow-ssh -m comment --comment  -m mark --mark 0x10000/0x10000 -j RETURN",
            "-A cali-pi-gnp/allow-ssh -m comment --comment  -j MARK --set-xmark 0x40000/0x40000",
            "-A cali-pi-gnp/allow-ssh -m comment --comment  -m mark --mark 0x40000/0x40000 -j DROP",
        ]
    );
    let tables = tables(&input, Family::Ipv6);
    let v6 = table(&tables, "filter").chains.get("cali-pi-gnp/allow-ssh").expect("the chain");
    assert_eq!(v6.len(), 2, "the rule with an IPv4 net is left out");
    assert!(table(&tables, "mangle").chains.keys().all(|name| !name.contains("-pi-")));
}

#[test]
fn interfaces_are_dispatched_by_a_tree() {
    let mut input = node();
    input.endpoints = vec![endpoint(Some("eth0")), endpoint(Some("eth1")), endpoint(Some("ens5")), endpoint(None)];
    let text = save_text(&tables(&input, Family::Ipv4), Family::Ipv4, &SaveOptions::default());
    for line in [
        "-A cali-from-host-endpoint -i ens5 ",
        "-A cali-from-host-endpoint -i et+ ",
        "-A cali-from-host-endpoint-t -i eth0 ",
        "-A cali-to-hep-forward-t -o eth1 ",
    ] {
        assert!(text.lines().any(|other| other.starts_with(line)), "{line}");
    }
    assert_eq!(text.matches(" -g cali-fh-any-interface-at-all\n").count(), 2);
    assert_eq!(text.matches("Skip egress WHEP policy").count(), 2, "root and child of mangle's egress dispatch");
}

#[test]
fn everything_rendered_passes_the_integrity_check() {
    let mut input = node();
    input.settings.egress_dscp = true;
    input.settings.flow_logs = true;
    input.settings.ipip = true;
    input.settings.failsafe_in = parse_list("tcp:0.0.0.0/0:22,tcp:10.1.2.3:2222,udp:68").expect("a list");
    input.policies.push(gnp("allow-ssh", ssh_then_deny()));
    let mut log = ssh_then_deny();
    log[0].action = Action::Log;
    log[1].action = Action::Pass;
    log[1].source.selector = Some("all()".to_owned());
    log[1].destination.ports = vec![PortRange { low: 1000, high: 2000 }, PortRange::single(53)];
    log[1].protocol = Some(ProtocolName::Name("udp".to_owned()));
    input.policies.push(gnp("a-policy-with-a-long-name.really", log));
    let tiers =
        vec![TierPolicies { tier: "default".to_owned(), ingress: vec![0, 1], egress: vec![1, 0], default_pass: false }];
    let profiles = vec!["projectcalico-default-allow".to_owned()];
    let all = HostEndpoint {
        tiers: tiers.clone(),
        forward_tiers: tiers.clone(),
        untracked_tiers: tiers.clone(),
        pre_dnat_tiers: tiers,
        profiles,
        ..endpoint(Some("eth0"))
    };
    input.endpoints = vec![all, endpoint(None)];
    let allow = vec![PolicyRule::any(Action::Allow)];
    input.profiles.push(Profile {
        name: "projectcalico-default-allow".to_owned(),
        ingress: allow.clone(),
        egress: allow,
    });
    for family in [Family::Ipv4, Family::Ipv6] {
        for deny in [DenyAction::Drop, DenyAction::Reject] {
            for allow in [AllowAction::Accept, AllowAction::Return] {
                input.settings.deny = deny;
                (input.settings.filter_allow, input.settings.mangle_allow) = (allow, allow);
                let text = save_text(&tables(&input, family), family, &SaveOptions::default());
                let checked = integrity::check(&ruleset(&text, Backend::IptablesLegacy, family));
                assert_eq!(checked.mismatches, Vec::new(), "{deny:?} {allow:?}");
                assert!(checked.rules > 100 && checked.verified == checked.rules);
            }
        }
    }
}

#[test]
fn marks_are_taken_from_the_mask() {
    let new = Marks::from_mask(0xffff_0000, Generation::From332).expect("enough bits");
    assert_eq!((new.drop, new.all()), (Some(0x40000), 0x1b_0000));
    assert_eq!(new, Settings::defaults(Generation::From332).marks);
    let old = Marks::from_mask(0xffff_0000, Generation::V329).expect("enough bits");
    assert_eq!((old.drop, old.all()), (None, 0xf_0000));
    assert_eq!(old, Settings::defaults(Generation::V329).marks);
    assert_eq!(Marks::from_mask(0xf, Generation::From332), None);
}
