//! DHCP leases as dhclient, systemd-networkd, NetworkManager and dhcpcd's exports keep them.

use std::net::IpAddr;

/// A lease. Times are seconds: of life from when it was had, or clock times where the file tells them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// The address held.
    pub address: Option<IpAddr>,
    /// Who gave it.
    pub server: Option<IpAddr>,
    /// The interface, where the file tells.
    pub interface: Option<String>,
    /// Seconds from the start after which it is renewed by unicast.
    pub renew: Option<u32>,
    /// Seconds after which everybody is asked.
    pub rebind: Option<u32>,
    /// Seconds after which the address is gone.
    pub lifetime: Option<u32>,
    /// Clock times of the same three, Unix seconds in UTC.
    pub clock: [Option<i64>; 3],
    /// Line where it begins, 1-based.
    pub line: u32,
}

/// Reads a lease file of either form; dhclient's holds several leases, of which the last one for an interface counts.
#[must_use]
pub fn read(text: &str) -> Vec<Lease> {
    if text.lines().any(|line| line.trim_start().starts_with("lease {")) { dhclient(text) } else { assignments(text) }
}

/// `ADDRESS=`, `SERVER_ADDRESS=`, `T1=`, … (systemd-networkd, NetworkManager's own client).
fn assignments(text: &str) -> Vec<Lease> {
    let mut lease = Lease { line: 1, ..Lease::default() };
    for line in text.lines().take(1000) {
        let Some((name, value)) = line.trim().split_once('=') else { continue };
        let value = value.trim_matches('\'');
        match name {
            "ADDRESS" => lease.address = value.parse().ok(),
            "SERVER_ADDRESS" => lease.server = value.parse().ok(),
            "T1" => lease.renew = value.parse().ok(),
            "T2" => lease.rebind = value.parse().ok(),
            "LIFETIME" => lease.lifetime = value.parse().ok(),
            _ => {}
        }
    }
    // Infinite leases have all bits set
    for seconds in [&mut lease.renew, &mut lease.rebind, &mut lease.lifetime] {
        *seconds = seconds.filter(|seconds| *seconds < u32::MAX);
    }
    if lease.address.is_some() { vec![lease] } else { Vec::new() }
}

fn dhclient(text: &str) -> Vec<Lease> {
    let mut found: Vec<Lease> = Vec::new();
    let mut open: Option<Lease> = None;
    for (line, number) in text.lines().zip(1..) {
        let line = line.trim().split(';').next().unwrap_or_default();
        if line.starts_with("lease {") {
            open = Some(Lease { line: number, ..Lease::default() });
            continue;
        }
        let Some(lease) = open.as_mut() else { continue };
        if line == "}" {
            let done = open.take().unwrap_or_default();
            // the last one of an interface counts
            found.retain(|old| old.interface != done.interface);
            found.push(done);
            if found.len() > super::MAX_FOUND {
                found.remove(0);
            }
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["interface", name] => lease.interface = Some(name.trim_matches('"').to_owned()),
            ["fixed-address", address] => lease.address = address.parse().ok(),
            ["option", "dhcp-server-identifier", server] => lease.server = server.parse().ok(),
            ["option", "dhcp-lease-time", seconds] => lease.lifetime = seconds.parse().ok(),
            ["option", "dhcp-renewal-time", seconds] => lease.renew = seconds.parse().ok(),
            ["option", "dhcp-rebinding-time", seconds] => lease.rebind = seconds.parse().ok(),
            ["renew", rest @ ..] => lease.clock[0] = clock(rest),
            ["rebind", rest @ ..] => lease.clock[1] = clock(rest),
            ["expire", rest @ ..] => lease.clock[2] = clock(rest),
            _ => {}
        }
    }
    found
}

/// `4 2022/08/04 18:21:30` (weekday first, UTC), or `epoch 1659637290`.
fn clock(words: &[&str]) -> Option<i64> {
    match words {
        ["epoch", seconds, ..] => seconds.parse().ok(),
        [_, day, time] => {
            let stamp = format!("{day} {time}");
            Some(chrono::NaiveDateTime::parse_from_str(&stamp, "%Y/%m/%d %H:%M:%S").ok()?.and_utc().timestamp())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networkd_tells_seconds_and_dhclient_clock_times() {
        let networkd = read("# private\nADDRESS=10.0.1.10\nSERVER_ADDRESS=10.0.1.1\nT1=1800\nT2=3150\nLIFETIME=3600\n");
        assert_eq!(networkd.len(), 1);
        assert_eq!((networkd[0].renew, networkd[0].rebind, networkd[0].lifetime), (Some(1800), Some(3150), Some(3600)));
        let text = "lease {\n  interface \"eth0\";\n  fixed-address 10.0.0.8;\n}\nlease {\n  interface \"eth0\";\n  fixed-address 10.0.0.9;\n  \
            option dhcp-server-identifier 10.0.0.1;\n  renew 4 2022/08/04 18:21:30;\n  rebind epoch 1659640000; # x\n  expire never;\n}\n";
        let dhclient = read(text);
        assert_eq!(dhclient.len(), 1, "the last lease of an interface counts");
        assert_eq!(dhclient[0].clock, [Some(1_659_637_290), Some(1_659_640_000), None]);
        assert_eq!(dhclient[0].line, 5);
        assert!(read("").is_empty() && read("lease {\nfixed-address x;\n").is_empty());
    }
}
