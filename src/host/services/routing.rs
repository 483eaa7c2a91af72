//! Whom routing daemons talk to: BIRD and FRR.

use super::{Peer, lines};

/// What a routing daemon's configuration says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routing {
    /// BGP neighbours, with lines.
    pub bgp: Vec<(Peer, u32)>,
    /// Line that turns BFD on.
    pub bfd: Option<u32>,
    /// Line that turns OSPF on.
    pub ospf: Option<u32>,
    /// BGP hold time in seconds, where the file sets one.
    pub hold: Option<u32>,
}

/// Reads `bird.cfg`, `bird6.cfg` or `frr.conf`; the statements looked for differ in form only.
#[must_use]
pub fn read(text: &str) -> Routing {
    let mut found = Routing::default();
    for (number, line) in lines(text, &['#', '!']) {
        let line = line.trim_end_matches([';', '{', ' ']);
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["neighbor", peer, ..] => {
                // FRR's peer groups have names, too
                let peer = Peer::read(peer.trim_end_matches(';')).filter(|peer| matches!(peer, Peer::Address(_)));
                if let Some(peer) = peer
                    && found.bgp.len() < super::MAX_FOUND
                    && found.bgp.iter().all(|(known, _)| *known != peer)
                {
                    found.bgp.push((peer, number));
                }
                if words.last() == Some(&"bfd") {
                    found.bfd = found.bfd.or(Some(number));
                }
            }
            ["protocol", kind, ..] if kind.starts_with("bfd") => found.bfd = found.bfd.or(Some(number)),
            ["bfd", "on" | "yes"] | ["bfd", "graceful"] => found.bfd = found.bfd.or(Some(number)),
            ["protocol", "ospf", ..] | ["router", "ospf" | "ospf6", ..] => found.ospf = found.ospf.or(Some(number)),
            ["hold", "time", seconds] => found.hold = seconds.parse().ok(),
            ["timers", "bgp", _, seconds] => found.hold = seconds.parse().ok(),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bird_and_frr_name_their_neighbours() {
        let bird = "# x\nprotocol bfd {\n}\nprotocol bgp w1 {\n  neighbor 10.0.1.30 as 64512;\n  hold time 90;\n}\nprotocol ospf v2 a {\n}\n";
        let found = read(bird);
        assert_eq!((found.bgp.len(), found.bfd, found.ospf, found.hold), (1, Some(2), Some(8), Some(90)));
        let frr = "router bgp 65000\n timers bgp 3 9\n neighbor 10.0.0.1 remote-as 65001\n neighbor 10.0.0.1 bfd\n neighbor LEAF peer-group\n";
        let found = read(frr);
        assert_eq!(
            (found.bgp, found.bfd, found.hold),
            (vec![(Peer::read("10.0.0.1").expect("an address"), 3)], Some(4), Some(9))
        );
    }
}
