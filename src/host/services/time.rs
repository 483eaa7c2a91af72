//! Whom the clock is set by: chrony, ntpd, systemd-timesyncd.

use super::{Destination, Peer, lines};
use crate::packet::Protocol;

/// NTP.
const NTP: u16 = 123;
/// NTS key establishment (RFC 8915).
const NTS: u16 = 4460;

/// Sources of `chrony.conf`, chrony's `*.sources` and `ntp.conf`: `server`, `pool`, `peer` lines, with the port they name and
/// the key exchange that `nts` needs.
#[must_use]
pub fn servers(text: &str) -> Vec<Destination> {
    let mut found = Vec::new();
    for (line, content) in lines(text, &['#', '!', ';', '%']) {
        let words: Vec<&str> = content.split_whitespace().collect();
        let (Some(key), Some(peer)) = (words.first(), words.get(1).copied()) else { continue };
        if !["server", "pool", "peer"].iter().any(|word| key.eq_ignore_ascii_case(word)) {
            continue;
        }
        // ntpd: server -4 name
        let peer = if matches!(peer, "-4" | "-6") { words.get(2).copied().unwrap_or_default() } else { peer };
        // a reference clock of ntpd, no host
        let Some(peer) = Peer::read(peer).filter(|peer| !is_clock(peer)) else { continue };
        let option = |name: &str| words.iter().position(|word| word.eq_ignore_ascii_case(name));
        let number = |name: &str| words.get(option(name)? + 1)?.parse().ok();
        found.push(Destination {
            peer: peer.clone(),
            protocol: Protocol::UDP,
            port: number("port").unwrap_or(NTP),
            line,
        });
        if option("nts").is_some() {
            found.push(Destination { peer, protocol: Protocol::TCP, port: number("ntsport").unwrap_or(NTS), line });
        }
    }
    found.truncate(super::MAX_FOUND);
    found
}

fn is_clock(peer: &Peer) -> bool {
    matches!(peer, Peer::Address(std::net::IpAddr::V4(address)) if address.octets().starts_with(&[127, 127]))
}

/// Servers of `timesyncd.conf`: `NTP=`; `FallbackNTP=` where it names none.
#[must_use]
pub fn timesyncd(text: &str) -> Vec<Destination> {
    let of = |name: &str| -> Vec<Destination> {
        let values =
            lines(text, &['#', ';']).filter_map(|(line, content)| Some((line, super::value_of(content, name)?)));
        let peers = values.flat_map(|(line, value)| {
            value.split_whitespace().filter_map(Peer::read).map(move |peer| (line, peer)).collect::<Vec<_>>()
        });
        let found = peers.map(|(line, peer)| Destination { peer, protocol: Protocol::UDP, port: NTP, line });
        found.take(super::MAX_FOUND).collect()
    };
    let named = of("NTP");
    if named.is_empty() { of("FallbackNTP") } else { named }
}

/// Sources that a running chrony uses: `chronyc -c -n sources`, one CSV line each.
#[must_use]
pub fn chrony_sources(text: &str) -> Vec<Destination> {
    let mut found = Vec::new();
    for (line, content) in lines(text, &[]) {
        let fields: Vec<&str> = content.split(',').collect();
        // mode, state, address, …; '#' is a reference clock
        let (Some("^" | "="), Some(Some(peer @ Peer::Address(_)))) =
            (fields.first().copied(), fields.get(2).map(|text| Peer::read(text)))
        else {
            continue;
        };
        found.push(Destination { peer, protocol: Protocol::UDP, port: NTP, line });
    }
    found.truncate(super::MAX_FOUND);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(found: &[Destination]) -> Vec<String> {
        found.iter().map(|one| format!("{} {}/{} {}", one.line, one.protocol, one.port, one.peer)).collect()
    }

    #[test]
    fn each_daemons_sources() {
        let chrony = "# server a\npool ntp.example.org iburst\nserver 10.0.0.5 nts\nserver 10.0.0.6 port 1123\nrefclock PHC /dev/ptp0\n";
        assert_eq!(
            shown(&servers(chrony)),
            ["2 udp/123 ntp.example.org", "3 udp/123 10.0.0.5", "3 tcp/4460 10.0.0.5", "4 udp/1123 10.0.0.6"]
        );
        assert_eq!(shown(&servers("server 127.127.1.0\npeer -4 b.example\n")), ["2 udp/123 b.example"]);
        assert_eq!(
            shown(&timesyncd("[Time]\n#NTP=x\nNTP=a.example 10.0.0.5\nFallbackNTP=c\n")),
            ["3 udp/123 a.example", "3 udp/123 10.0.0.5"]
        );
        assert_eq!(shown(&timesyncd("[Time]\nFallbackNTP=c.example\n")), ["2 udp/123 c.example"]);
        assert_eq!(
            shown(&chrony_sources("^,*,169.254.169.123,3,4,377,12,0.1,0.1,0.1\n#,x,PPS0,0\n")),
            ["1 udp/123 169.254.169.123"]
        );
    }
}
