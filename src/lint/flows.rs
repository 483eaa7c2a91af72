//! Flows that a host needs: access, names, time, the datastore, the node's own services.

use std::net::IpAddr;

use super::context::{Class, Context};
use super::{At, Findings, JUDGED, Lint, define};
use crate::audit::finding::Severity;
use crate::calico::names::{Action, Direction};
use crate::calico::order::judge::{Flow, Judgement};
use crate::calico::resources::Port;

define!(
    SSH_IN, "HG464", "ssh-not-allowed", Critical, "no peer at all can open SSH to a host",
    what: "TCP 22 into each host endpoint that has ingress policy, from every address that rules and sets name and from unknown ones, in each family that has a failsafe or rule.",
    why: "Sessions that are up stay up; the next login fails. The usual cause is a failsafe list that was replaced by one without 22, or one with a net.",
    fix: "Allow TCP 22 from the administrators' nets, or put 22 back into `failsafeInboundHostPorts`, before applying.",
    limits: JUDGED
);
define!(
    SSH_OUT, "HG465", "ssh-out-not-allowed", Low, "a host made by hand cannot open SSH to anyone",
    what: "TCP 22 out of host endpoints that were not made by Calico's controllers and have egress policy.",
    why: "The default failsafe list has no outbound 22. A bastion that cannot reach its hosts is no bastion.",
    fix: "Allow egress TCP 22 to the hosts behind the bastion.",
    limits: JUDGED
);
define!(
    DNS_OUT, "HG466", "dns-not-allowed", High, "a host cannot ask a resolver",
    what: "UDP 53 and TCP 53 out of each host endpoint that has egress policy.",
    why: "UDP 53 is on the default failsafe list, TCP 53 is not: answers that do not fit into a datagram are lost, which looks like a resolver that fails now and then. With a list of one's own UDP 53 is gone as well.",
    fix: "Allow egress UDP and TCP 53 to the resolvers.",
    limits: JUDGED
);
define!(
    WRONG_PROTOCOL, "HG467", "known-port-with-wrong-protocol", Medium, "a well-known port with a protocol that does not use it",
    what: "Rules for one port that belongs to one protocol alone: DHCP 67 and 68, NTP 123, SNMP 161, TFTP 69, VXLAN 4789 and WireGuard 51820 are UDP; SSH 22, BGP 179, LDAP 389, API server 6443 and kubelet 10250 are TCP.",
    why: "The rule allows something nobody uses, and the service it was written for stays denied.",
    fix: "Correct the protocol of the rule.",
    limits: "A service of one's own on that port is reported as well."
);
define!(
    DATASTORE, "HG468", "datastore-cut", Critical, "a host cannot reach the datastore",
    what: "TCP 6443, 443, 5473 and 2379 out of each host endpoint that has egress policy: at least one must get through to some peer.",
    why: "Felix learns of changes from the API server, Typha or etcd. Cut off it keeps the rules it has, the mistake included, and cannot receive the fix. A managed API server on 443 is on no failsafe list.",
    fix: "Allow egress to the datastore's address and port, or keep 6443 and 5473 in `failsafeOutboundHostPorts`.",
    limits: JUDGED
);
define!(
    KUBELET, "HG469", "kubelet-cut", High, "nodes cannot reach each other's kubelet",
    what: "TCP 10250 into automatic host endpoints that have ingress policy, from the addresses of the nodes given.",
    why: "`kubectl logs`, `exec`, metrics and webhooks go from the control plane to port 10250 of every node. It is on no failsafe list.",
    fix: "Allow ingress TCP 10250 from the control plane's host endpoints, and egress on these.",
    limits: JUDGED
);
define!(
    METRICS, "HG470", "node-metrics-cut", Low, "metrics of calico-node or Felix cannot be read",
    what: "TCP 9081, 9091 and 9900 into automatic host endpoints that have ingress policy.",
    why: "Prometheus loses its targets in silence. A list of ports with 9900 twice and without 9091 is a known typing error.",
    fix: "Allow ingress TCP 9081, 9091 and 9900 from the nodes or from Prometheus.",
    limits: JUDGED
);
define!(
    NTP, "HG471", "time-not-allowed", Low, "a host cannot ask for the time",
    what: "UDP 123 out of each host endpoint that has egress policy.",
    why: "Clocks drift for days before anything fails; then certificates and Kerberos do.",
    fix: "Allow egress UDP 123 to the time servers.",
    limits: JUDGED
);
define!(
    NEIGHBOURS, "HG472", "neighbour-discovery-denied", High, "IPv6 neighbour discovery is denied",
    what: "ICMPv6 135 and 136 in and out of host endpoints that have policy and an IPv6 address.",
    why: "Host endpoints have no exception for it. Without neighbour discovery IPv6 of the host works until the neighbour cache runs out, minutes later.",
    fix: "Allow ICMPv6 types 133 to 136 in ingress and egress: `protocol: ICMPv6` without a type is simplest.",
    limits: JUDGED
);
define!(
    PATH_MTU, "HG473", "path-mtu-messages-denied", Low, "messages that a packet is too big are denied",
    what: "ICMP type 3 code 4 into host endpoints with ingress policy, ICMPv6 type 2 likewise.",
    why: "Conntrack lets them in for connections it knows. For others, and behind doNotTrack, large packets vanish without a word.",
    fix: "Allow ICMP type 3 and ICMPv6 type 2 in ingress.",
    limits: JUDGED
);
define!(
    ONE_SIDED, "HG474", "allowed-on-one-side-only", Medium, "one host may open a connection that the other refuses",
    what: "Egress rules that allow one TCP or UDP port to another host endpoint given, whose ingress policy then denies it.",
    why: "Both ends must allow a connection. It hangs, and the log line is on the other host.",
    fix: "Add the matching ingress rule on the other host.",
    limits: JUDGED
);
define!(
    FAILSAFE_OPEN, "HG475", "failsafe-open-to-everyone", Low, "failsafe ports are open to everyone",
    what: "The inbound failsafe list in force (Felix's own where no FelixConfiguration gives one) has ports of etcd or Typha without a net.",
    why: "Failsafe ports are accepted before any policy, from anywhere the network allows. etcd's ports have no business on a bastion.",
    fix: "Set `failsafeInboundHostPorts` with the ports this host needs, each with `net`, and keep SSH among them.",
    limits: "Which services the host runs is not known from policy files; a list in the environment of Felix wins over the resource."
);
define!(
    DENY_FAILSAFE, "HG476", "deny-on-failsafe-port", Medium, "a Deny for a failsafe port has no effect",
    what: "Deny rules for TCP or UDP ports all of which are on the failsafe list of their direction, without a net.",
    why: "Failsafe ports are accepted first. The rule looks as if it closed the port, and it starts to bite on the day the failsafe is removed: the lab's lockout is just that.",
    fix: "Remove the rule, or restrict the failsafe entry with `net`.",
    limits: "A list in the environment of Felix wins over the resource and is not known here."
);

/// In the order of their codes.
pub(super) fn lints() -> impl Iterator<Item = Lint> {
    [
        SSH_IN,
        SSH_OUT,
        DNS_OUT,
        WRONG_PROTOCOL,
        DATASTORE,
        KUBELET,
        METRICS,
        NTP,
        NEIGHBOURS,
        PATH_MTU,
        ONE_SIDED,
        FAILSAFE_OPEN,
        DENY_FAILSAFE,
    ]
    .into_iter()
}

const TCP: u8 = 6;
const UDP: u8 = 17;

pub(super) fn look(context: &Context<'_>, found: &mut Findings) {
    for class in &context.classes {
        if context.governed(class, Direction::In) {
            inbound(context, class, found);
        }
        if context.governed(class, Direction::Out) {
            outbound(context, class, found);
        }
        neighbours(context, class, found);
    }
    rules(context, found);
    one_sided(context, found);
    failsafes(context, found);
}

/// Reports that a class lacks a flow, at the policy that ends the judgement of an unknown peer.
fn lacks(
    context: &Context<'_>,
    class: &Class<'_, '_>,
    lint: &Lint,
    severity: Severity,
    what: &str,
    judgement: &Judgement,
    found: &mut Findings,
) {
    let title = class.title();
    let end = judgement.ends.first();
    let by = end.map_or(String::new(), |end| format!("; {} decides", context.by(&end.by)));
    let text = format!("{title}: {what}{by}");
    match end.and_then(|end| context.culprit(&end.by)) {
        Some(resource) => {
            let policy = resource.meta.title();
            found.add_as(lint, severity, At::resource(resource, &policy), text, lint.fix);
        }
        None => {
            let at = At { place: &class.endpoint.place, column: 0, resource: &title, field: "" };
            found.add_as(lint, severity, at, text, lint.fix);
        }
    }
}

fn unknown_peer() -> IpAddr {
    IpAddr::from([203, 0, 113, 7])
}

/// A port that no peer at all can use over IPv4.
#[derive(Clone, Copy)]
struct Needed {
    direction: Direction,
    protocol: u8,
    port: u16,
}

fn needs(context: &Context<'_>, class: &Class<'_, '_>, needed: Needed, lint: &Lint, what: &str, found: &mut Findings) {
    let Needed { direction, protocol, port } = needed;
    if context.any_peer(class, direction, protocol, port, true) {
        return;
    }
    let flow = Context::flow(class, direction, unknown_peer(), protocol, port);
    let judgement = context.judged(class, direction, &flow);
    lacks(context, class, lint, lint.severity, what, &judgement, found);
}

fn inbound(context: &Context<'_>, class: &Class<'_, '_>, found: &mut Findings) {
    let needed = |port| Needed { direction: Direction::In, protocol: TCP, port };
    needs(context, class, needed(22), &SSH_IN, "no peer can open TCP 22", found);
    if class.endpoint.automatic {
        needs(context, class, needed(10_250), &KUBELET, "no peer can reach the kubelet, TCP 10250", found);
        for port in [9_081, 9_091, 9_900] {
            let what = format!("no peer can read the metrics on TCP {port}");
            needs(context, class, needed(port), &METRICS, &what, found);
        }
    }
    for (peer, protocol, icmp) in [("203.0.113.7", 1, (3, 4)), ("2001:db8::7", 58, (2, 0))] {
        let Ok(peer) = peer.parse::<IpAddr>() else { continue };
        let ipv6 = class.endpoint.spec.expected_ips.iter().any(|ip| ip.is_ipv6());
        if peer.is_ipv6() && !ipv6 {
            continue;
        }
        let flow = Flow { icmp: Some(icmp), ..Context::flow(class, Direction::In, peer, protocol, 0) };
        let judgement = context.judged(class, Direction::In, &flow);
        if judgement.denies() {
            let what = format!("ICMP{} type {} is denied", if protocol == 58 { "v6" } else { "" }, icmp.0);
            lacks(context, class, &PATH_MTU, PATH_MTU.severity, &what, &judgement, found);
        }
    }
}

fn outbound(context: &Context<'_>, class: &Class<'_, '_>, found: &mut Findings) {
    let needed = |protocol, port| Needed { direction: Direction::Out, protocol, port };
    if !class.endpoint.automatic {
        needs(context, class, needed(TCP, 22), &SSH_OUT, "it can open TCP 22 to nobody", found);
    }
    for (protocol, name) in [(UDP, "UDP"), (TCP, "TCP")] {
        if !context.any_peer(class, Direction::Out, protocol, 53, true) {
            let flow = Context::flow(class, Direction::Out, unknown_peer(), protocol, 53);
            let judgement = context.judged(class, Direction::Out, &flow);
            let severity = if protocol == UDP { Severity::High } else { Severity::Medium };
            lacks(
                context,
                class,
                &DNS_OUT,
                severity,
                &format!("it can ask no resolver over {name} 53"),
                &judgement,
                found,
            );
        }
    }
    needs(context, class, needed(UDP, 123), &NTP, "it can ask nobody for the time, UDP 123", found);
    let datastore = [6_443, 443, 5_473, 2_379];
    if !datastore.into_iter().any(|port| context.any_peer(class, Direction::Out, TCP, port, true)) {
        needs(context, class, needed(TCP, 6_443), &DATASTORE, "it can reach no API server, Typha or etcd", found);
    }
}

fn neighbours(context: &Context<'_>, class: &Class<'_, '_>, found: &mut Findings) {
    let own = class.endpoint.spec.expected_ips.iter().map(|ip| ip.value).find(IpAddr::is_ipv6);
    let (Some(own), Ok(peer)) = (own, "fe80::1".parse::<IpAddr>()) else { return };
    for direction in [Direction::In, Direction::Out] {
        if !context.governed(class, direction) {
            continue;
        }
        let (source, destination) = if direction == Direction::In { (peer, own) } else { (own, peer) };
        let denied = [135, 136].into_iter().find_map(|kind| {
            let flow =
                Flow { protocol: 58, source, destination, source_port: 0, destination_port: 0, icmp: Some((kind, 0)) };
            let judgement = context.judged(class, direction, &flow);
            judgement.denies().then_some((kind, judgement))
        });
        if let Some((kind, judgement)) = denied {
            let what = format!("ICMPv6 type {kind} is denied on {}", direction.calico());
            lacks(context, class, &NEIGHBOURS, NEIGHBOURS.severity, &what, &judgement, found);
        }
    }
}

/// Port, the protocol that uses it, the service.
const KNOWN: [(u16, u8, &str); 15] = [
    (22, TCP, "SSH"),
    (67, UDP, "DHCP"),
    (68, UDP, "DHCP"),
    (69, UDP, "TFTP"),
    (123, UDP, "NTP"),
    (161, UDP, "SNMP"),
    (162, UDP, "SNMP traps"),
    (179, TCP, "BGP"),
    (2_379, TCP, "etcd"),
    (4_789, UDP, "VXLAN"),
    (5_473, TCP, "Typha"),
    (6_443, TCP, "the API server"),
    (10_250, TCP, "the kubelet"),
    (51_820, UDP, "WireGuard"),
    (51_821, UDP, "WireGuard"),
];

/// What single rules say.
fn rules(context: &Context<'_>, found: &mut Findings) {
    for (policy, direction, index, rule) in context.rules() {
        let title = policy.resource.meta.title();
        let path = super::context::rule_path(direction, index);
        let Some(protocol) = rule.protocol.as_ref().map(|protocol| protocol.number()) else { continue };
        for port in &rule.destination.ports {
            let Port::Range(range) = &port.value else { continue };
            let known = KNOWN.iter().find(|(known, _, _)| range.low == range.high && *known == range.low);
            let Some((number, right, service)) = known.filter(|(_, right, _)| *right != protocol) else { continue };
            let place = crate::calico::settings::Place {
                file: std::sync::Arc::clone(&policy.resource.meta.place.file),
                line: port.line,
            };
            let at = At { place: &place, column: port.column, resource: &title, field: &path };
            let name = |number: u8| if number == TCP { "TCP" } else { "UDP" };
            let found_name = rule.protocol.as_ref().map_or(String::new(), |protocol| protocol.to_string());
            let text = format!("{title}: {path} is for {found_name} {number}, but {service} is {}", name(*right));
            found.add(&WRONG_PROTOCOL, at, text, format!("write protocol: {}", name(*right)));
        }
        deny_on_failsafe(context, policy, direction, index, rule, found);
    }
}

fn deny_on_failsafe(
    context: &Context<'_>,
    policy: &crate::calico::order::Ordered<'_>,
    direction: Direction,
    index: usize,
    rule: &crate::calico::resources::Rule,
    found: &mut Findings,
) {
    let (Some(action), Some(protocol)) = (&rule.action, &rule.protocol) else { return };
    let ports = &rule.destination.ports;
    let plain = crate::calico::order::Layer::Normal;
    if action.value != Action::Deny || ports.is_empty() || !policy.acts_in(plain) {
        return;
    }
    let list = if direction == Direction::In { &context.failsafe_in } else { &context.failsafe_out };
    let open = |port: &Port| match port {
        Port::Range(range) => list.iter().any(|entry| {
            entry.net.is_none()
                && entry.protocol.0 == protocol.number()
                && (range.low, range.high) == (entry.port, entry.port)
        }),
        Port::Name(_) => false,
    };
    if ports.iter().all(|port| open(&port.value)) {
        let title = policy.resource.meta.title();
        let path = super::context::rule_path(direction, index);
        let place = crate::calico::settings::Place {
            file: std::sync::Arc::clone(&policy.resource.meta.place.file),
            line: rule.line,
        };
        let at = At { place: &place, column: 0, resource: &title, field: &path };
        let text = format!("{title}: {path} denies ports that are on the failsafe list: they stay open");
        found.add(&DENY_FAILSAFE, at, text, DENY_FAILSAFE.fix);
    }
}

fn one_sided(context: &Context<'_>, found: &mut Findings) {
    for (policy, direction, index, rule) in context.rules() {
        let allows = rule.action.as_ref().is_some_and(|action| action.value == Action::Allow);
        let Some(protocol) = rule.protocol.as_ref().map(|protocol| protocol.number()) else { continue };
        if direction != Direction::Out || !allows || policy.staged || !rule.destination.has_selector() {
            continue;
        }
        let Some(from) = context.classes.iter().find(|class| context.model.selects(policy, class.endpoint)) else {
            continue;
        };
        for port in &rule.destination.ports {
            let Port::Range(range) = port.value else { continue };
            for class in context.classes.iter().filter(|class| class.endpoint.name != from.endpoint.name) {
                let Some(own) = class.endpoint.spec.expected_ips.first() else { continue };
                let source = Context::own_address(from, own.value);
                let flow = Flow::to_port(protocol, source, own.value, range.low);
                let sent = context.judge.certainly_matches(policy, direction, index, rule, &flow);
                let judgement = context.judged(class, Direction::In, &flow);
                if !sent || !judgement.denies() || !context.governed(class, Direction::In) {
                    continue;
                }
                let title = policy.resource.meta.title();
                let what =
                    format!("it refuses port {} from {}, which {title} allows it to open", range.low, from.title());
                lacks(context, class, &ONE_SIDED, ONE_SIDED.severity, &what, &judgement, found);
            }
        }
    }
}

fn failsafes(context: &Context<'_>, found: &mut Findings) {
    let Some(class) = context.classes.iter().find(|class| !class.endpoint.automatic) else { return };
    let open: Vec<String> = context
        .failsafe_in
        .iter()
        .filter(|entry| entry.net.is_none() && [2_379, 2_380, 5_473, 6_666, 6_667].contains(&entry.port))
        .map(ToString::to_string)
        .collect();
    if !open.is_empty() {
        let title = class.title();
        let at = At { place: &class.endpoint.place, column: 0, resource: &title, field: "" };
        let text = format!("{title}: failsafe ports {} are open to everyone, whatever policy says", open.join(" "));
        found.add(&FAILSAFE_OPEN, at, text, FAILSAFE_OPEN.fix);
    }
}
