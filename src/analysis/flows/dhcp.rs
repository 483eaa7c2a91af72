//! Leases and router advertisements: addresses that go away unless somebody answers in time.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use chrono::{DateTime, SecondsFormat, Utc};

use super::{Flow, FlowKind, Moment, Seeker};
use crate::host::services::leases::{self, Lease};
use crate::host::{Interface, InterfaceAddress};
use crate::packet::{Direction, Packet, Protocol};

/// Client and server ports of DHCP (RFC 2131) and DHCPv6 (RFC 8415).
const CLIENT: u16 = 68;
const SERVER: u16 = 67;
const CLIENT6: u16 = 546;
const SERVER6: u16 = 547;

/// All DHCP relays and servers on the link.
const SERVERS6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);

/// All nodes on the link.
pub(super) const NODES6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

impl Seeker<'_> {
    pub(super) fn dhcp(&mut self) {
        let files = self.texts(|name| name.starts_with("leases/"));
        let leases: Vec<(String, Lease)> = files
            .into_iter()
            .flat_map(|(file, text)| leases::read(&text).into_iter().map(move |lease| (file.clone(), lease)))
            .collect();
        let mut found = Vec::new();
        for interface in self.host.interfaces.iter().flatten() {
            for address in interface.addresses.iter().filter(|address| address.dynamic) {
                if address.address.is_ipv4() {
                    let lease = leases.iter().find(|(_, lease)| lease.address == Some(address.address));
                    found.extend(self.lease(interface, address, lease));
                } else {
                    found.extend(self.dynamic6(interface, address));
                }
            }
        }
        self.found.extend(found);
    }

    /// Renewal to the server, rebinding to everybody, and the answer, which may come from a relay: a broadcast has no
    /// connection that it could belong to.
    fn lease(&self, interface: &Interface, own: &InterfaceAddress, lease: Option<&(String, Lease)>) -> Vec<Flow> {
        let name = &interface.name;
        let clock = self.clock(own, lease.map(|(_, lease)| lease));
        let (source, evidence) = match lease {
            Some((file, lease)) => {
                let by = lease.server.map(|server| format!(" from {server}")).unwrap_or_default();
                (format!("{file}:{}", lease.line), format!("{} is leased{by} on {name}", own.address))
            }
            None => ("ip-addr.json".to_owned(), format!("{} is a DHCP lease on {name}", own.address)),
        };
        let out = |to: IpAddr| {
            let mut packet = Packet::first(Direction::Out, Protocol::UDP, (own.address, CLIENT), (to, SERVER));
            packet.oif = Some(name.clone());
            packet
        };
        let flow = |what: String, packet: Packet| {
            let mut flow = Flow::new(FlowKind::Dhcp, what, source.clone(), evidence.clone(), packet).timer("lease");
            flow.clock.clone_from(&clock);
            flow
        };
        let mut found = vec![flow(format!("DHCP out (udp/67) on {name}"), out(IpAddr::V4(Ipv4Addr::BROADCAST)))];
        if let Some(server) = lease.and_then(|(_, lease)| lease.server) {
            found.push(flow(format!("DHCP renewal (udp/67) to {server} on {name}"), out(server)));
            let mut answer = Packet::first(Direction::In, Protocol::UDP, (server, SERVER), (own.address, CLIENT));
            answer.iif = Some(name.clone());
            found.push(flow(format!("DHCP answer in (udp/68) from {server} on {name}"), answer));
        }
        found
    }

    /// When the address is renewed, rebound and gone. The kernel's remaining time says when it was had; T1 and T2 are half
    /// and seven eighths of the lease where the file does not tell (RFC 2131).
    fn clock(&self, own: &InterfaceAddress, lease: Option<&Lease>) -> Vec<Moment> {
        const WHAT: [&str; 3] = ["T1: renewal", "T2: rebinding", "expiry: the address goes"];
        let now = self.snapshot.meta.time.as_deref().and_then(|time| DateTime::parse_from_rfc3339(time).ok());
        let now = now.map(|time| time.timestamp());
        let mut times = lease.map(|lease| lease.clock).unwrap_or_default();
        if times.iter().all(Option::is_none)
            && let (Some(now), Some(valid)) = (now, own.valid)
        {
            let end = now + i64::from(valid);
            times[2] = Some(end);
            if let Some(lease) = lease
                && let Some(lifetime) = lease.lifetime
            {
                let start = end - i64::from(lifetime);
                times[0] = Some(start + lease.renew.map_or(i64::from(lifetime) / 2, i64::from));
                times[1] = Some(start + lease.rebind.map_or(i64::from(lifetime) * 7 / 8, i64::from));
            }
        }
        let to_come = |at: &i64| now.is_none_or(|now| *at >= now);
        let moments = WHAT.iter().zip(times).filter_map(|(what, at)| Some((what, at.filter(to_come)?)));
        let moments = moments.filter_map(|(what, at)| {
            let at = DateTime::<Utc>::from_timestamp(at, 0)?.to_rfc3339_opts(SecondsFormat::Secs, true);
            Some(Moment { what: (*what).to_owned(), at })
        });
        moments.collect()
    }

    /// An IPv6 address with a life time: from a router's advertisements, or as one whole address from DHCPv6.
    fn dynamic6(&self, interface: &Interface, own: &InterfaceAddress) -> Vec<Flow> {
        let name = &interface.name;
        let evidence = format!("{} on {name} has a life time", own.address);
        let clock = self.clock(own, None);
        let link = interface.addresses.iter().find(|address| super::is_link_local(address.address));
        let router = self.host.routes.iter().flatten().find(|route| {
            &*route.origin == "ra"
                && route.gateway.is_some_and(|gateway| gateway.is_ipv6())
                && route.device.as_ref() == Some(name)
        });
        let mut found = Vec::new();
        if let Some(router) = router.and_then(|route| route.gateway) {
            let packet = super::network::icmp6((134, 0), Direction::In, router, IpAddr::V6(NODES6), name);
            let what = format!("router advertisements in from {router} on {name}");
            found.push(Flow::new(FlowKind::Dhcp, what, "ip-addr.json", evidence.clone(), packet).timer("lease"));
        }
        if let Some(link) = link.filter(|_| own.prefix_length == 128) {
            let mut packet =
                Packet::first(Direction::Out, Protocol::UDP, (link.address, CLIENT6), (IpAddr::V6(SERVERS6), SERVER6));
            packet.oif = Some(name.clone());
            let what = format!("DHCPv6 out (udp/547) on {name}");
            found.push(Flow::new(FlowKind::Dhcp, what, "ip-addr.json", evidence.clone(), packet).timer("lease"));
            let server = IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1));
            let mut answer = Packet::first(Direction::In, Protocol::UDP, (server, SERVER6), (link.address, CLIENT6));
            answer.iif = Some(name.clone());
            let what = format!("DHCPv6 answer in (udp/546) on {name}");
            found.push(Flow::new(FlowKind::Dhcp, what, "ip-addr.json", evidence, answer).timer("lease"));
        }
        for flow in &mut found {
            flow.clock.clone_from(&clock);
        }
        found
    }
}
