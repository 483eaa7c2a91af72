//! Chains on devices: below the device the IP hooks see, and behind every rule, on the way out. What those let through is read
//! from the wire, which is the far side of a TUN or TAP device. The kernel these tests are written on has no VLAN devices: what
//! is below one is held against the kernel only where it has.

use hepguard::analysis::trace::TraceVerdict::{self, Accept, Drop, Reject};
use hepguard::packet::{Direction, Protocol};

use crate::cases::{agree_with, arriving, packet, with};
use crate::firewall::{self, Firewall};
use crate::harness::{in_namespace, tool};
use crate::judge::Listings;
use crate::lab::{Lab, Shot};

/// Whether this kernel has VLAN devices.
fn has_vlans(test: &str) -> bool {
    let mut has = true;
    in_namespace("vlans", || {
        let mut lab = Lab::build().expect("a lab");
        lab.attach_ethernet("port0", "10.9.0.1/24").expect("an Ethernet device");
        let made = tool("ip", &["link", "add", "link", "port0", "name", "v5", "type", "vlan", "id", "5"], "");
        has = made.map_err(|error| println!("{test}: SKIPPED: {error}")).is_ok();
    });
    has
}

/// A lab with a VLAN on an Ethernet device; who is behind it has an address of the link layer.
fn lab_with_vlan() -> Lab {
    let mut lab = Lab::build().expect("a lab");
    lab.attach_ethernet("port0", "10.9.0.1/24").expect("an Ethernet device");
    lab.attach_vlan("v5", "port0", 5, "10.55.0.1/24").expect("a VLAN");
    for (address, device) in [("10.55.0.9", "v5"), ("10.9.0.9", "port0")] {
        let neighbour = ["neigh", "add", address, "lladdr", "02:11:22:33:44:55", "dev", device, "nud", "permanent"];
        tool("ip", &neighbour, "").expect("a neighbour");
    }
    lab
}

fn native(nft: &str) -> Firewall {
    Firewall { nft: nft.to_owned(), ..Firewall::default() }
}

/// nft 1.0.6 lists chains without their devices: `chains` are priorities and devices.
fn with_devices(listing: String, chains: &[(i32, &str)]) -> String {
    if listing.contains("\"dev\"") {
        return listing;
    }
    chains.iter().fold(listing, |listing, (priority, device)| {
        ["ingress", "egress"].iter().fold(listing, |listing, hook| {
            let told = format!("\"hook\": \"{hook}\", \"prio\": {priority},");
            listing.replace(&told, &format!("{told} \"dev\": \"{device}\","))
        })
    })
}

#[test]
fn chains_below_a_vlan_see_its_packets_first() {
    if !has_vlans("below a vlan") {
        return;
    }
    let chains = [(-500, "port0"), (-400, "v5")];
    let firewall = native(
        "table netdev d {\nchain e { type filter hook ingress device port0 priority -500;\n\
         tcp dport 100 drop\n iifname v5 tcp dport 101 drop\n iifname port0 tcp dport 102 drop\n\
         tcp dport 103 meta mark set 5\n tcp dport 104 accept\n ip saddr 10.55.0.9 udp dport 105 drop\n}\n\
         chain f { type filter hook ingress device v5 priority -400;\n tcp dport 104 drop\n iifname v5 tcp dport 106 drop\n}\n}\n\
         table inet t {\nchain i { type filter hook input priority 0; meta mark 5 reject\n iifname port0 tcp dport 107 reject\n}\n}\n",
    );
    let expected = [Drop, Accept, Drop, Reject, Drop, Accept, Drop, Accept, Accept];
    let tagged = |dport| with(arriving("10.55.0.9", "10.55.0.1", dport), |packet| packet.iif = Some("v5".into()));
    let plain = |dport| with(arriving("10.9.0.9", "10.9.0.1", dport), |packet| packet.iif = Some("port0".into()));
    let mut shots: Vec<(Shot, TraceVerdict)> = (100..).map(tagged).zip(expected).collect();
    let datagram = packet(Direction::In, Protocol::UDP, "10.55.0.9", "10.55.0.1", 105);
    shots.push((with(datagram, |packet| packet.iif = Some("v5".into())), Drop));
    let expected = [Drop, Accept, Drop, Reject, Accept, Accept, Accept, Reject];
    shots.extend((100..).map(plain).zip(expected));
    agree_with("below a vlan", lab_with_vlan, &firewall, shots, |listing| with_devices(listing, &chains));
}

/// Whether the packet comes out by `device`.
fn comes_out(lab: &mut Lab, shot: &Shot, device: &str) -> bool {
    lab.sent(device).expect("the wire is read");
    // without the probe, which stops what it has seen
    lab.shoot(shot).expect("it is sent");
    let ports: Vec<u8> =
        [shot.packet.sport, shot.packet.dport].into_iter().flatten().flat_map(u16::to_be_bytes).collect();
    let frames = lab.sent(device).expect("the wire is read");
    frames.iter().any(|frame| frame.windows(ports.len()).any(|window| window == ports))
}

#[test]
fn egress_chains_have_the_last_word() {
    let chains = [(-500, "eth1"), (-400, "v5"), (-300, "port0")];
    let vlans = has_vlans("egress of a vlan");
    let mut firewall = native(
        "table netdev d {\nchain e { type filter hook egress device eth1 priority -500;\n\
         tcp dport 100 drop\n ip daddr 198.51.100.9 udp dport 101 drop\n oifname eth1 tcp dport 102 drop\n\
         oifname ens5 tcp dport 103 drop\n meta mark 6 drop\n tcp dport 105 accept\n ip ttl 63 tcp dport 106 drop\n\
         ip6 daddr fd00:51::9 tcp dport 107 drop\n}\n}\n\
         table inet t {\nchain p { type filter hook postrouting priority 0; tcp dport 104 meta mark set 6\n}\n}\n",
    );
    if vlans {
        firewall.nft += "table netdev v {\nchain f { type filter hook egress device v5 priority -400;\n tcp dport 100 drop\n oifname port0 tcp dport 101 drop\n}\n\
         chain g { type filter hook egress device port0 priority -300;\n tcp dport 102 drop\n oifname port0 tcp dport 103 drop\n\
         oifname v5 tcp dport 104 drop\n}\n}\n";
    }
    in_namespace("egress", || {
        let mut lab = if vlans { lab_with_vlan() } else { Lab::build().expect("a lab") };
        firewall.load().expect("the rules load");
        let mut files = firewall::list().expect("the rules are listed");
        if let Some(hepguard::files::FileState::Present(listing)) = files.files.get_mut("nft-ruleset.json") {
            *listing = with_devices(String::from_utf8_lossy(listing).into_owned(), &chains).into_bytes();
        }
        let listings = Listings::read(files);
        let judge = listings.judge();
        let to = |direction, protocol, dst: &str, dport| {
            let src = match (direction, dst.contains(':')) {
                (Direction::Out, false) => "10.0.1.10",
                (Direction::Out, true) => "fd00:1::10",
                (_, false) => "10.0.1.77",
                (_, true) => "fd00:1::77",
            };
            packet(direction, protocol, src, dst, dport)
        };
        let (tcp, udp) = (Protocol::TCP, Protocol::UDP);
        let mut cases: Vec<(Shot, &str, bool)> = Vec::new();
        for direction in [Direction::Forward, Direction::Out] {
            let forwarded = direction == Direction::Forward;
            // ports from 100 on: whether the packet comes out
            for (dport, out) in (100..).zip([false, true, false, true, false, true, !forwarded, true]) {
                cases.push((to(direction, tcp, "198.51.100.9", dport), "eth1", out));
            }
            cases.push((to(direction, udp, "198.51.100.9", 101), "eth1", false));
            for (dport, out) in [(100, false), (102, false), (103, true), (106, true), (107, false)] {
                cases.push((to(direction, tcp, "fd00:51::9", dport), "eth1", out));
            }
            let by_vlan = (100..).zip([false, true, false, false, true, true]);
            for (dport, out) in by_vlan.filter(|_| vlans) {
                cases.push((to(direction, tcp, "10.55.0.9", dport), "port0", out));
            }
        }
        for (shot, device, out) in cases {
            lab.reset_connections(&[]).expect("no connections");
            let story = judge.explain(&shot.packet);
            assert_eq!(comes_out(&mut lab, &shot, device), out, "{:?}\n{story}", shot.packet);
            assert_eq!(judge.verdict(&shot.packet), if out { Accept } else { Drop }, "{:?}\n{story}", shot.packet);
        }
    });
}
