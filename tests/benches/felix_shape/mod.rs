//! Snapshots in Felix's shape, as `policies.py` writes them: policies of five rules over sixty sets, two of them large.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use fastrand::Rng;
use hepguard::files::{FileState, SnapshotFiles};
use hepguard::packet::Family;

const SETS: usize = 60;
const LARGE: usize = 2;
const MEMBERS: usize = 100_000;

/// The listings of a host with this many policies.
pub(crate) fn files(policies: usize, family: Family) -> SnapshotFiles {
    let mut rng = Rng::with_seed(1);
    let (name, number) = match family {
        Family::Ipv4 => ("iptables-legacy-save.txt", '4'),
        _ => ("ip6tables-legacy-save.txt", '6'),
    };
    let mut files = SnapshotFiles::default();
    for (name, text) in [("ipset-save.txt", sets(&mut rng, number)), (name, rules(&mut rng, policies, number))] {
        files.files.insert(name.to_owned(), FileState::Present(text.into_bytes()));
    }
    files
}

fn sets(rng: &mut Rng, family: char) -> String {
    let mut text = String::new();
    for number in 0..SETS {
        let inet = if family == '4' { "inet" } else { "inet6" };
        let _ = writeln!(
            text,
            "create cali{family}0s:set{number:03} hash:net family {inet} hashsize 65536 maxelem 1048576"
        );
        let members = if number < LARGE { MEMBERS } else { rng.usize(1..=200) };
        for _ in 0..members {
            let member = if family == '4' {
                let length = rng.u32(16..=32);
                format!("{}/{length}", Ipv4Addr::from(rng.u32(..) & u32::MAX << (32 - length)))
            } else {
                let length = rng.u32(32..=128);
                format!("{}/{length}", Ipv6Addr::from(rng.u128(..) & u128::MAX << (128 - length)))
            };
            let _ = writeln!(text, "add cali{family}0s:set{number:03} {member}");
        }
    }
    text
}

fn rules(rng: &mut Rng, policies: usize, family: char) -> String {
    let mut text = String::from("*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n");
    text += ":cali-INPUT - [0:0]\n:cali-fh-ens5 - [0:0]\n";
    for policy in 0..policies {
        let _ = writeln!(text, ":cali-pi-{policy} - [0:0]");
    }
    text += "-A INPUT -j cali-INPUT\n-A cali-INPUT -j MARK --set-xmark 0x0/0xf0000\n-A cali-INPUT -j cali-fh-ens5\n\
             -A cali-INPUT -m mark --mark 0x10000/0x10000 -j ACCEPT\n-A cali-INPUT -j DROP\n\
             -A cali-fh-ens5 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
             -A cali-fh-ens5 -m conntrack --ctstate INVALID -j DROP\n";
    for policy in 0..policies {
        let _ = writeln!(text, "-A cali-fh-ens5 -m mark --mark 0x0/0x20000 -j cali-pi-{policy}");
        let _ = writeln!(text, "-A cali-fh-ens5 -m mark --mark 0x10000/0x10000 -j RETURN");
    }
    for policy in 0..policies {
        for number in 0..5 {
            let port = [22, 22, 80, 443, rng.u16(1..)][rng.usize(..5)];
            let (protocol, set) = (if rng.bool() { "tcp" } else { "udp" }, rng.usize(..SETS));
            let matched = format!(
                "-A cali-pi-{policy} -p {protocol} -m set --match-set cali{family}0s:set{set:03} src -m multiport --dports {port}"
            );
            if number == 4 {
                let _ = writeln!(text, "{matched} -j DROP");
                continue;
            }
            let _ = writeln!(text, "{matched} -j MARK --set-xmark 0x10000/0x10000");
            let _ = writeln!(text, "-A cali-pi-{policy} -m mark --mark 0x10000/0x10000 -j RETURN");
        }
    }
    text + "COMMIT\n"
}
