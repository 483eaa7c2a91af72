//! File systems that live on other hosts (`/proc/self/mounts`), and iSCSI sessions.

use super::{Destination, Peer, host_and_port, lines};
use crate::packet::Protocol;

/// A mounted file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Where its data come from.
    pub destination: Destination,
    /// Its type: `nfs4`, `cifs`, `ceph`, …
    pub kind: String,
    /// Where it is mounted.
    pub folder: String,
}

/// Network file systems of a mount table.
#[must_use]
pub fn network(text: &str) -> Vec<Mount> {
    let mut found = Vec::new();
    for (line, content) in lines(text, &['#']) {
        let words: Vec<&str> = content.split_whitespace().collect();
        let [device, folder, kind, options, ..] = words.as_slice() else { continue };
        let option = |name: &str| options.split(',').find_map(|option| option.strip_prefix(name)?.strip_prefix('='));
        let usual = match *kind {
            "nfs" | "nfs4" => 2049,
            "cifs" | "smb3" => 445,
            "ceph" => 6789,
            "fuse.glusterfs" => 24007,
            _ => continue,
        };
        let host = device.trim_start_matches('/').split(['/', ',']).next().unwrap_or_default();
        let named = match *kind {
            // server:/export, [address]:/export
            "nfs" | "nfs4" | "fuse.glusterfs" => {
                let host = device.split_once(":/").map_or(*device, |(host, _)| host);
                Peer::read(host).map(|peer| (peer, None))
            }
            "ceph" => host_and_port(host.trim_end_matches(':')),
            _ => Peer::read(host).map(|peer| (peer, None)),
        };
        let address = option("addr").and_then(Peer::read).map(|peer| (peer, None));
        let Some((peer, port)) = address.or(named) else { continue };
        let port = option("port").and_then(|port| port.parse().ok()).filter(|port| *port > 0).or(port).unwrap_or(usual);
        let protocol =
            if option("proto").is_some_and(|proto| proto.starts_with("udp")) { Protocol::UDP } else { Protocol::TCP };
        let destination = Destination { peer, protocol, port, line };
        found.push(Mount { destination, kind: (*kind).to_owned(), folder: (*folder).replace("\\040", " ") });
    }
    found.truncate(super::MAX_FOUND);
    found
}

/// Portals of `iscsi.txt`, an `address port` a line.
#[must_use]
pub fn iscsi(text: &str) -> Vec<Destination> {
    let portal = |(line, content): (u32, &str)| {
        let (address, port) = content.split_once(' ')?;
        let peer = Peer::read(address).filter(|peer| matches!(peer, Peer::Address(_)))?;
        Some(Destination { peer, protocol: Protocol::TCP, port: port.trim().parse().ok()?, line })
    };
    lines(text, &['#']).filter_map(portal).take(super::MAX_FOUND).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_from_elsewhere_count() {
        let text = "/dev/vda1 / ext4 rw 0 0\nnas.example:/srv /mnt nfs4 rw,vers=4.2,proto=tcp,port=0,addr=10.0.0.7 0 0\n\
            //10.0.0.8/share /s\\040x cifs rw,addr=10.0.0.8 0 0\n10.0.0.9:6789:/ /c ceph rw 0 0\n[fd00::1]:/v /n nfs rw,proto=udp6 0 0\nbroken\n";
        let shown: Vec<String> = network(text)
            .iter()
            .map(|one| {
                format!("{} {} {}/{}", one.folder, one.destination.peer, one.destination.protocol, one.destination.port)
            })
            .collect();
        assert_eq!(
            shown,
            ["/mnt 10.0.0.7 tcp/2049", "/s x 10.0.0.8 tcp/445", "/c 10.0.0.9 tcp/6789", "/n fd00::1 udp/2049"]
        );
        assert_eq!(iscsi("169.254.2.2 3260\nx 1\n").len(), 1);
    }
}
