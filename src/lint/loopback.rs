//! Loopback and the host's own addresses, which a host endpoint for every interface polices like any other.

use std::net::IpAddr;

use super::context::{Class, Context, DIRECTIONS};
use super::{At, Findings, JUDGED, Lint, define};
use crate::calico::names::Direction;
use crate::calico::order::judge::{Decision, Flow};

define!(
    LOOPBACK, "HG461", "loopback-denied", High, "a host endpoint for every interface denies loopback",
    what: "Host endpoints with `interfaceName: \"*\"`: TCP and UDP from 127.0.0.1 to 127.0.0.1, on the way out and on the way in.",
    why: "A packet over `lo` leaves through egress policy and arrives through ingress policy. Where one of them denies, local resolvers (127.0.0.53), health probes and agents of the node stop answering.",
    fix: "Allow 127.0.0.0/8 to 127.0.0.0/8 in egress and in ingress, in a tier before the deny.",
    limits: JUDGED
);
define!(
    LOOPBACK_IPV6, "HG462", "loopback-ipv6-denied", Medium, "a host endpoint for every interface denies ::1",
    what: "As HG461, from ::1 to ::1.",
    why: "`localhost` resolves to ::1 first on many hosts; programs that do not fall back to IPv4 fail, others hang until they do. A rule for 127.0.0.0/8 does not exist in IPv6.",
    fix: "Allow ::1/128 in egress and in ingress, in rules of their own: a rule holds nets of one family.",
    limits: JUDGED
);
define!(
    OWN_ADDRESS, "HG463", "own-address-denied", Medium, "a host endpoint for every interface denies the host's own addresses",
    what: "Host endpoints with `interfaceName: \"*\"` and `expectedIPs`: TCP from each address to itself, both ways.",
    why: "A program that calls its own host by address goes over `lo` with that address on both ends: a rule for 127.0.0.0/8 does not cover it. Kubelet probes, exporters and API servers do it all the time.",
    fix: "Allow the hosts' own selector as source and destination, with `namespaceSelector: global()`, in both directions.",
    limits: JUDGED
);

/// In the order of their codes.
pub(super) fn lints() -> impl Iterator<Item = Lint> {
    [LOOPBACK, LOOPBACK_IPV6, OWN_ADDRESS].into_iter()
}

/// Ports that nobody's failsafe list or rule for a known service names.
const PORTS: [(u8, u16); 2] = [(6, 10_248), (17, 53)];

pub(super) fn look(context: &Context<'_>, found: &mut Findings) {
    for class in context.classes.iter().filter(|class| class.is_wildcard()) {
        // without any policy the whole direction is open or dropped, and that is said elsewhere
        if !DIRECTIONS.into_iter().any(|direction| context.governed(class, direction)) {
            continue;
        }
        for (lint, address) in [(&LOOPBACK, "127.0.0.1"), (&LOOPBACK_IPV6, "::1")] {
            if let Ok(address) = address.parse::<IpAddr>() {
                itself(context, class, lint, address, found);
            }
        }
        for own in &class.endpoint.spec.expected_ips {
            itself(context, class, &OWN_ADDRESS, own.value, found);
        }
    }
}

fn itself(context: &Context<'_>, class: &Class<'_, '_>, lint: &Lint, address: IpAddr, found: &mut Findings) {
    let denied = DIRECTIONS.into_iter().find_map(|direction| {
        PORTS.into_iter().find_map(|(protocol, port)| denial(context, class, direction, address, protocol, port))
    });
    let Some((direction, decision)) = denied else { return };
    let title = class.title();
    let text = format!("{title}: {address} to itself is denied on {} by {}", direction.calico(), context.by(&decision));
    match context.culprit(&decision) {
        Some(resource) => {
            let policy = resource.meta.title();
            found.add(lint, At::resource(resource, &policy), text, lint.fix);
        }
        None => {
            let at = At { place: &class.endpoint.place, column: 0, resource: &title, field: "" };
            found.add(lint, at, text, lint.fix);
        }
    }
}

fn denial(
    context: &Context<'_>,
    class: &Class<'_, '_>,
    direction: Direction,
    address: IpAddr,
    protocol: u8,
    port: u16,
) -> Option<(Direction, Decision)> {
    let judgement = context.judged(class, direction, &Flow::to_port(protocol, address, address, port));
    let end = judgement.ends.first().filter(|_| judgement.denies())?;
    Some((direction, end.by.clone()))
}
