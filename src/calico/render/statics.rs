//! The chains Felix has on every host, and its rules in kernel chains.

use std::collections::BTreeMap;

use super::rule::{Criterion, FelixRule, ProtocolName, RuleAction, Side};
use super::{RenderedTable, Settings};
use crate::calico::names::set_name;
use crate::packet::{Family, PortRange};

const HEP_ACCEPTED: &str = "Host endpoint policy accepted packet.";

fn jump(chain: &str) -> RuleAction {
    RuleAction::Jump(chain.to_owned())
}

fn hook(kernel: &'static str) -> (&'static str, FelixRule) {
    (kernel, FelixRule::always(jump(&format!("cali-{kernel}"))))
}

fn table(
    name: &'static str,
    chains: Vec<(&str, Vec<FelixRule>)>,
    inserts: Vec<(&'static str, FelixRule)>,
    appends: Vec<(&'static str, FelixRule)>,
) -> RenderedTable {
    let chains: BTreeMap<String, Vec<FelixRule>> =
        chains.into_iter().map(|(name, rules)| (name.to_owned(), rules)).collect();
    RenderedTable { name, chains, inserts, appends }
}

fn interface(prefix: &str) -> String {
    format!("{prefix}*")
}

fn set(side: Side, id: &str, family: Family, negate: bool) -> Criterion {
    Criterion::Set { side, set: set_name(id, family), negate }
}

fn udp_port(port: u16) -> [Criterion; 2] {
    [
        Criterion::Protocol { protocol: ProtocolName::Number(17), negate: false },
        Criterion::Ports { side: Side::Destination, ports: vec![PortRange::single(port)], negate: false },
    ]
}

pub(super) fn raw(settings: &Settings) -> RenderedTable {
    let marks = settings.marks;
    let clear = FelixRule::always(RuleAction::ClearMark(marks.all()));
    let accept = FelixRule::new(vec![Criterion::MarkSet(marks.accept)], RuleAction::Accept);
    let no_track: Vec<FelixRule> = settings
        .vxlan_port
        .map(|port| {
            let udp = Criterion::Protocol { protocol: ProtocolName::Name("udp".to_owned()), negate: false };
            FelixRule::new(vec![udp, Criterion::DestinationPort(port)], RuleAction::NoTrack)
        })
        .into_iter()
        .collect();

    let mut prerouting = vec![clear.clone()];
    prerouting.extend(no_track.iter().cloned());
    for prefix in &settings.workload_prefixes {
        let from = Criterion::InInterface(interface(prefix));
        prerouting.push(FelixRule::new(vec![from], RuleAction::SetMark(marks.scratch0)));
    }
    let workload = Criterion::MarkSet(marks.scratch0);
    prerouting.push(FelixRule::new(vec![workload.clone()], jump("cali-rpf-skip")));
    prerouting.push(FelixRule::new(vec![workload, Criterion::ReversePathFails], settings.deny.rule()));
    prerouting.push(FelixRule::new(vec![Criterion::MarkClear(marks.scratch0)], jump("cali-from-host-endpoint")));
    prerouting.push(accept.clone());

    let mut output = vec![clear, FelixRule::always(jump("cali-to-host-endpoint"))];
    output.extend(no_track);
    output.push(accept);
    let chains = vec![("cali-PREROUTING", prerouting), ("cali-OUTPUT", output), ("cali-rpf-skip", Vec::new())];
    table("raw", chains, vec![hook("PREROUTING"), hook("OUTPUT")], Vec::new())
}

pub(super) fn mangle(settings: &Settings, family: Family) -> RenderedTable {
    let marks = settings.marks;
    let accepted = || vec![Criterion::MarkSet(marks.accept)];
    let allow = settings.mangle_allow.rule();
    let prerouting = vec![
        FelixRule::new(vec![Criterion::State("RELATED,ESTABLISHED")], allow.clone()),
        FelixRule::new(accepted(), allow.clone()),
        FelixRule::always(jump("cali-from-host-endpoint")),
        FelixRule::new(accepted(), allow).comment(HEP_ACCEPTED),
    ];
    let mut postrouting = Vec::new();
    if settings.egress_dscp {
        let criteria = vec![
            set(Side::Source, "dscp-src-net", family, false),
            set(Side::Destination, settings.pools_set, family, true),
            set(Side::Destination, "this-host", family, true),
        ];
        postrouting
            .push(FelixRule::new(criteria, jump("cali-egress-dscp")).comment("set dscp for traffic leaving cluster."));
    }
    postrouting.extend([
        FelixRule::new(accepted(), RuleAction::Return),
        FelixRule::always(RuleAction::ClearMark(marks.all())),
        FelixRule::new(vec![Criterion::Dnat { negate: false }], jump("cali-to-host-endpoint")),
        FelixRule::new(accepted(), RuleAction::Return).comment(HEP_ACCEPTED),
    ]);
    let chains =
        vec![("cali-PREROUTING", prerouting), ("cali-POSTROUTING", postrouting), ("cali-egress-dscp", Vec::new())];
    table("mangle", chains, vec![hook("PREROUTING"), hook("POSTROUTING")], Vec::new())
}

pub(super) fn nat() -> RenderedTable {
    let dnat = || vec![FelixRule::always(jump("cali-fip-dnat"))];
    let postrouting = vec![FelixRule::always(jump("cali-fip-snat")), FelixRule::always(jump("cali-nat-outgoing"))];
    let chains = vec![
        ("cali-PREROUTING", dnat()),
        ("cali-OUTPUT", dnat()),
        ("cali-POSTROUTING", postrouting),
        ("cali-fip-dnat", Vec::new()),
        ("cali-fip-snat", Vec::new()),
        ("cali-nat-outgoing", Vec::new()),
    ];
    table("nat", chains, vec![hook("PREROUTING"), hook("OUTPUT")], vec![hook("POSTROUTING")])
}

pub(super) fn filter(settings: &Settings, family: Family) -> RenderedTable {
    let unknown = vec![FelixRule::always(settings.deny.rule()).comment("Unknown interface")];
    let chains = vec![
        ("cali-INPUT", input(settings, family)),
        ("cali-OUTPUT", output(settings, family)),
        ("cali-FORWARD", forward(settings)),
        ("cali-cidr-block", Vec::new()),
        ("cali-wl-to-host", workload_to_host(settings, family)),
        ("cali-from-wl-dispatch", unknown.clone()),
        ("cali-to-wl-dispatch", unknown),
    ];
    let accept = settings.marks.accept;
    let appends = vec![
        (
            "FORWARD",
            FelixRule::new(vec![Criterion::MarkSet(accept)], settings.filter_allow.rule())
                .comment("Policy explicitly accepted packet."),
        ),
        ("FORWARD", FelixRule::always(RuleAction::SetMark(accept))),
    ];
    table("filter", chains, vec![hook("INPUT"), hook("FORWARD"), hook("OUTPUT")], appends)
}

fn input(settings: &Settings, family: Family) -> Vec<FelixRule> {
    let marks = settings.marks;
    let (allow, deny) = (settings.filter_allow.rule(), settings.deny.rule());
    let local = Criterion::LocalAddress(Side::Destination);
    let mut rules = Vec::new();
    if settings.ipip && family == Family::Ipv4 {
        let ipip = Criterion::Protocol { protocol: ProtocolName::Number(4), negate: false };
        let peers = set(Side::Source, "all-hosts-net", family, false);
        rules.push(
            FelixRule::new(vec![ipip.clone(), peers, local.clone()], allow.clone())
                .comment("Allow IPIP packets from Calico hosts"),
        );
        let word = settings.deny.word();
        rules.push(
            FelixRule::new(vec![ipip], deny.clone()).comment(format!("{word} IPIP packets from non-Calico hosts")),
        );
    }
    if let Some(port) = settings.vxlan_port {
        let (version, drop, word) = match family {
            Family::Ipv6 => ("IPv6", deny, settings.deny.word()),
            _ => ("IPv4", RuleAction::Drop, "Drop"),
        };
        let [udp, ports] = udp_port(port);
        let peers = set(Side::Source, "all-vxlan-net", family, false);
        rules.push(
            FelixRule::new(vec![udp.clone(), ports.clone(), peers, local.clone()], allow.clone())
                .comment(format!("Allow {version} VXLAN packets from allowed hosts")),
        );
        rules.push(
            FelixRule::new(vec![udp, ports, local], drop)
                .comment(format!("{word} {version} VXLAN packets from non-allowed hosts")),
        );
    }
    for prefix in &settings.workload_prefixes {
        let from = Criterion::InInterface(interface(prefix));
        rules.push(FelixRule::new(vec![from], RuleAction::Goto("cali-wl-to-host".to_owned())));
    }
    rules.extend([
        FelixRule::new(vec![Criterion::MarkSet(marks.accept)], allow.clone()),
        FelixRule::always(RuleAction::ClearMark(marks.all())),
        FelixRule::always(jump("cali-from-host-endpoint")),
        FelixRule::new(vec![Criterion::MarkSet(marks.accept)], allow).comment(HEP_ACCEPTED),
    ]);
    rules
}

fn output(settings: &Settings, family: Family) -> Vec<FelixRule> {
    let marks = settings.marks;
    let allow = settings.filter_allow.rule();
    let local = Criterion::LocalAddress(Side::Source);
    let mut rules = vec![FelixRule::new(vec![Criterion::MarkSet(marks.accept)], allow.clone())];
    for prefix in &settings.workload_prefixes {
        rules.push(FelixRule::new(vec![Criterion::OutInterface(interface(prefix))], RuleAction::Return));
    }
    if settings.ipip && family == Family::Ipv4 {
        let ipip = Criterion::Protocol { protocol: ProtocolName::Number(4), negate: false };
        let peers = set(Side::Destination, "all-hosts-net", family, false);
        rules.push(
            FelixRule::new(vec![ipip, peers, local.clone()], allow.clone())
                .comment("Allow IPIP packets to other Calico hosts"),
        );
    }
    if let Some(port) = settings.vxlan_port {
        let version = if family == Family::Ipv6 { "IPv6" } else { "IPv4" };
        let [udp, ports] = udp_port(port);
        let peers = set(Side::Destination, "all-vxlan-net", family, false);
        rules.push(
            FelixRule::new(vec![udp, ports, local, peers], allow.clone())
                .comment(format!("Allow {version} VXLAN packets to other allowed hosts")),
        );
    }
    rules.extend([
        FelixRule::always(RuleAction::ClearMark(marks.all())),
        FelixRule::new(vec![Criterion::Dnat { negate: true }], jump("cali-to-host-endpoint")),
        FelixRule::new(vec![Criterion::MarkSet(marks.accept)], allow).comment(HEP_ACCEPTED),
    ]);
    rules
}

fn forward(settings: &Settings) -> Vec<FelixRule> {
    let marks = settings.marks;
    let mut rules = vec![
        FelixRule::always(RuleAction::ClearMark(marks.all() & !marks.accept)),
        FelixRule::new(vec![Criterion::MarkClear(marks.accept)], jump("cali-from-hep-forward")),
    ];
    for prefix in &settings.workload_prefixes {
        let (from, to) = (Criterion::InInterface(interface(prefix)), Criterion::OutInterface(interface(prefix)));
        rules.push(FelixRule::new(vec![from], jump("cali-from-wl-dispatch")));
        rules.push(FelixRule::new(vec![to], jump("cali-to-wl-dispatch")));
    }
    rules.push(FelixRule::always(jump("cali-to-hep-forward")));
    rules.push(FelixRule::always(jump("cali-cidr-block")));
    rules
}

fn workload_to_host(settings: &Settings, family: Family) -> Vec<FelixRule> {
    let mut rules = Vec::new();
    if family == Family::Ipv6 {
        // multicast listener and neighbour discovery messages a router must hear
        for kind in [130, 131, 132, 133, 135, 136] {
            let criteria = vec![
                Criterion::Protocol { protocol: ProtocolName::Number(58), negate: false },
                Criterion::Icmp { version: family, kind, code: None, negate: false },
            ];
            rules.push(FelixRule::new(criteria, settings.filter_allow.rule()));
        }
    }
    rules.push(FelixRule::always(jump("cali-from-wl-dispatch")));
    rules.push(FelixRule::always(settings.endpoint_to_host.clone()).comment("Configured DefaultEndpointToHostAction"));
    rules
}
