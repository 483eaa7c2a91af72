//! Whom the host's services talk to: resolvers, clocks, disks, log collectors.

use std::net::IpAddr;

use super::{EPHEMERAL, Flow, FlowKind, Links, Seeker};
use crate::host::services::{Destination, Peer, collectors, directory, host_and_port, mounts, time};
use crate::packet::Protocol;

const DNS: u16 = 53;

/// Most resolvers looked at.
const MAX_SERVERS: usize = 8;

impl Seeker<'_> {
    /// Servers of `resolv.conf`, those a stub asks, and the stub itself.
    pub(super) fn resolvers(&mut self) {
        let mut servers: Vec<(String, IpAddr, u16)> = Vec::new();
        let text = self.text("resolv.conf").unwrap_or_default();
        for (line, number) in text.lines().zip(1..) {
            let Some(rest) = line.trim().strip_prefix("nameserver") else { continue };
            let Some(server) = rest.split_whitespace().next().and_then(|word| word.parse().ok()) else { continue };
            servers.push((format!("resolv.conf:{number}"), server, DNS));
        }
        let stub = |name: &str| {
            name.starts_with("etc/dnsmasq")
                || name.starts_with("etc/unbound/")
                || name.starts_with("etc/systemd/resolved.conf")
        };
        for (file, text) in self.texts(stub) {
            servers.extend(upstreams(&text).map(|(line, server, port)| (format!("{file}:{line}"), server, port)));
        }
        for (source, server, port) in servers.into_iter().take(2 * MAX_SERVERS) {
            let stub = server.is_loopback();
            for protocol in [Protocol::UDP, Protocol::TCP] {
                let packet = if stub {
                    Some(Links::looped(protocol, server_side(server), (server, port)))
                } else {
                    self.links.outgoing(protocol, None, EPHEMERAL, (server, port))
                };
                let Some(packet) = packet else { continue };
                let what = if stub { "DNS to the stub resolver" } else { "DNS out" };
                let name = if stub {
                    format!("{what} {server} ({protocol}/{port})")
                } else {
                    format!("{what} ({protocol}/{port}) to {server}")
                };
                let evidence = format!("nameserver {server}");
                self.found.push(Flow::new(FlowKind::Resolver, name, source.clone(), evidence, packet));
            }
        }
    }

    /// Sources of chrony, ntpd and timesyncd; where chrony tells whom it uses, those.
    pub(super) fn time(&mut self) {
        if let Some(text) = self.text("time-sources.txt") {
            for to in time::chrony_sources(&text) {
                self.out(FlowKind::Time, "time", "time-sources.txt", &to, Some("clock drift"));
            }
        }
        let known = self.found.iter().any(|flow| flow.kind == FlowKind::Time);
        let chrony = |name: &str| {
            name == "etc/chrony.conf"
                || name.starts_with("etc/chrony/")
                || matches!(name, "etc/ntp.conf" | "etc/ntpsec/ntp.conf")
        };
        for (file, text) in self.texts(chrony) {
            for to in time::servers(&text) {
                // its addresses are those chrony told
                if !(known && to.protocol == Protocol::UDP && matches!(to.peer, Peer::Name(_))) {
                    self.out(FlowKind::Time, "time", &file, &to, Some("clock drift"));
                }
            }
        }
        for (file, text) in self.texts(|name| name.starts_with("etc/systemd/timesyncd.conf")) {
            for to in time::timesyncd(&text) {
                self.out(FlowKind::Time, "time", &file, &to, Some("clock drift"));
            }
        }
    }

    /// Servers that say who a user is: LDAP, Kerberos.
    pub(super) fn directories(&mut self) {
        let wanted = |name: &str| {
            name.starts_with("etc/sssd/")
                || matches!(name, "etc/ldap/ldap.conf" | "etc/openldap/ldap.conf" | "etc/nslcd.conf" | "etc/krb5.conf")
        };
        for (file, text) in self.texts(wanted) {
            for to in directory::read(&text) {
                self.out(FlowKind::Directory, "directory", &file, &to, None);
            }
        }
    }

    /// Network file systems and iSCSI.
    pub(super) fn storage(&mut self) {
        if let Some(text) = self.text("mounts.txt") {
            for mount in mounts::network(&text) {
                let what = format!("{} mount {}", mount.kind, mount.folder);
                self.out(FlowKind::Storage, &what, "mounts.txt", &mount.destination, None);
            }
        }
        if let Some(text) = self.text("iscsi.txt") {
            for to in mounts::iscsi(&text) {
                self.out(FlowKind::Storage, "iSCSI", "iscsi.txt", &to, None);
            }
        }
    }

    /// Collectors of logs and alarms.
    pub(super) fn siem(&mut self) {
        let wanted = |name: &str| COLLECTORS.iter().any(|(folder, _)| name.starts_with(folder));
        for (file, text) in self.texts(wanted) {
            let program =
                COLLECTORS.iter().find(|(folder, _)| file.contains(folder)).map_or("logs", |(_, program)| program);
            for to in collectors::read(&file, &text) {
                self.out(FlowKind::Siem, &format!("logs of {program}"), &file, &to, None);
            }
        }
        // hepguard's own: when this way is cut, nobody hears that it was
        for output in &self.snapshot.outputs {
            if let Some((peer, Some(port))) = host_and_port(&output.address) {
                let to = Destination { peer, protocol: Protocol(output.protocol), port, line: 0 };
                self.out(FlowKind::Siem, &format!("findings to {}", output.name), &output.place, &to, None);
            }
        }
    }
}

/// Where collectors keep their configuration, and their names.
const COLLECTORS: [(&str, &str); 11] = [
    ("etc/rsyslog", "rsyslog"),
    ("etc/syslog-ng", "syslog-ng"),
    ("etc/systemd/journal-upload", "journal-upload"),
    ("etc/fluent-bit", "Fluent Bit"),
    ("etc/td-agent-bit", "Fluent Bit"),
    ("etc/vector", "Vector"),
    ("etc/filebeat", "Filebeat"),
    ("etc/promtail", "Promtail"),
    ("etc/ossec", "Wazuh"),
    ("etc/audit", "auditd"),
    ("etc/falcosidekick", "Falco"),
];

/// The address a packet to a loopback address comes from.
fn server_side(server: IpAddr) -> IpAddr {
    match server {
        IpAddr::V4(_) => IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => server,
    }
}

/// dnsmasq's `server=10.0.0.2#5353`, unbound's `forward-addr: 10.0.0.2@853`, resolved's `DNS=10.0.0.2`.
fn upstreams(text: &str) -> impl Iterator<Item = (u32, IpAddr, u16)> {
    text.lines().zip(1..).flat_map(|(line, number)| {
        let line = line.trim();
        let values = ["server=", "forward-addr:", "DNS=", "FallbackDNS="].iter().find_map(|key| line.strip_prefix(key));
        let words = values.unwrap_or_default().split_whitespace();
        let found = words.filter_map(move |word| {
            // server=/domain/address
            let word = word.rsplit('/').next()?.split('%').next()?;
            let (address, port) = word.split_once(['#', '@']).unwrap_or((word, "53"));
            let digits: String = port.chars().take_while(char::is_ascii_digit).collect();
            let port = digits.parse().unwrap_or(DNS);
            match address.parse::<IpAddr>() {
                Ok(address) => Some((number, address, port)),
                Err(_) => match host_and_port(word)? {
                    (Peer::Address(address), port) => Some((number, address, port.unwrap_or(DNS))),
                    (Peer::Name(_), _) => None,
                },
            }
        });
        found.collect::<Vec<_>>()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stubs_name_their_upstreams_in_three_ways() {
        let text = "server=10.0.0.2#5353\nserver=/corp/10.0.0.3\nforward-addr: 10.0.0.4@853#dns\nDNS=10.0.0.5 fd00::1\nserver=x\n";
        let found: Vec<String> =
            upstreams(text).map(|(line, address, port)| format!("{line} {address} {port}")).collect();
        assert_eq!(found, ["1 10.0.0.2 5353", "2 10.0.0.3 53", "3 10.0.0.4 853", "4 10.0.0.5 53", "4 fd00::1 53"]);
    }
}
