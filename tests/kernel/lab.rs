//! A small host in a namespace: interfaces, addresses, routes, and a way to send it packets and see what comes of them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};

use hepguard::packet::{Direction, Packet, Protocol};
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, sendto, setsockopt, socket,
    sockopt,
};
use nix::unistd::{Gid, Uid, setfsgid, setfsuid};

use crate::harness::{sysctl, tool};
use crate::nflog::{self, Log, PROBE_TABLE, Refusal, Seen};
use crate::tun::Tun;
use crate::wire::{self, Extra, Tag};

/// Interfaces besides `lo`, each a TUN device.
pub(crate) const DEVICES: [&str; 4] = ["ens5", "eth1", "docker0", "cali0a1b2c3d4e5"];

/// `ip -batch` lines. Local are the interface addresses and everything below 10.20.0.0/16 and fd00:20::/32.
const ADDRESSES: &str = "
link set lo up
link set ens5 up
link set eth1 up
link set docker0 up
link set cali0a1b2c3d4e5 up
addr add 10.0.1.10/24 dev ens5
addr add 10.0.1.11/24 dev ens5
addr add 192.168.7.10/24 dev eth1
addr add 172.17.0.1/16 dev docker0
route add local 10.20.0.0/16 dev lo
route add 10.65.0.2/32 dev cali0a1b2c3d4e5
route add 198.51.100.0/24 dev eth1
route add blackhole 203.0.113.128/25
route add default dev ens5
";

const ADDRESSES6: &str = "
addr add fd00:1::10/64 dev ens5 nodad
addr add fd00:7::10/64 dev eth1 nodad
addr add fd00:17::1/64 dev docker0 nodad
route add local fd00:20::/32 dev lo
route add fd00:65::2/128 dev cali0a1b2c3d4e5
route add fd00:51::/64 dev eth1
route add default dev ens5
";

/// Sysctls of the namespace before devices are made, by path below `/proc/sys/net`: packets are judged by the firewall alone.
const SYSCTLS: [(&str, &str); 14] = [
    ("ipv4/ip_forward", "1"),
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    ("ipv4/conf/all/accept_local", "1"),
    ("ipv4/conf/default/accept_local", "1"),
    ("ipv4/conf/all/send_redirects", "0"),
    ("ipv4/conf/default/send_redirects", "0"),
    ("ipv6/conf/all/forwarding", "1"),
    ("ipv6/conf/default/forwarding", "1"),
    ("ipv6/conf/default/accept_ra", "0"),
    ("ipv6/conf/default/router_solicitations", "0"),
    // no link-local addresses of chance
    ("ipv6/conf/default/addr_gen_mode", "1"),
    // every refusal is answered: neither each peer's limit nor the one for all applies to "unreachable"
    ("ipv4/icmp_ratemask", "0"),
    ("ipv6/icmp/ratemask", "3"),
];

/// A conntrack entry that must exist before a packet is sent: a line of `conntrack -R`.
pub(crate) type Entry = String;

/// A packet to send.
#[derive(Clone, Debug)]
pub(crate) struct Shot {
    /// What it is, as the library is told.
    pub(crate) packet: Packet,
    /// What only the wire needs.
    pub(crate) extra: Extra,
    /// Its connection, where one must be known.
    pub(crate) entry: Option<Entry>,
}

impl Shot {
    /// What its connection is known by, the same for both directions.
    pub(crate) fn connection(&self) -> (u8, [(IpAddr, u16); 2]) {
        let (protocol, tuple) = match self.extra.quoted {
            Some((protocol, tuple)) => (protocol, (tuple.src, tuple.sport, tuple.dst, tuple.dport)),
            None => (self.packet.protocol, (self.packet.src, self.packet.sport, self.packet.dst, self.packet.dport)),
        };
        // one protocol's ports, another's identifier
        let port = |port: Option<u16>| port.unwrap_or(self.extra.echo_id);
        let mut ends = [(tuple.0, port(tuple.1)), (tuple.2, port(tuple.3))];
        ends.sort_unstable();
        (protocol.0, ends)
    }
}

/// What became of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// Everything let it through.
    Passed(Seen),
    /// Seen twice: what goes out to a broadcast address also comes back to the host, as a copy without its socket.
    Doubled,
    /// It did not get through; what its sender was told, if anything.
    Stopped(Option<Refusal>),
    /// The kernel refused to send it for a reason that is not the firewall's (no route, bad address).
    Refused(nix::Error),
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Sender {
    ipv4: bool,
    uid: u32,
    gid: u32,
    mark: u32,
}

/// The host under test.
pub(crate) struct Lab {
    indices: BTreeMap<u32, &'static str>,
    devices: BTreeMap<&'static str, Tun>,
    senders: BTreeMap<Sender, OwnedFd>,
    log: Log,
    tag: Tag,
}

impl Lab {
    /// Builds the host in the calling thread's namespace.
    pub(crate) fn build() -> Result<Self, String> {
        for (path, value) in SYSCTLS {
            sysctl(&format!("net/{path}"), value)?;
        }
        let (mut devices, mut indices) = (BTreeMap::new(), BTreeMap::new());
        for name in DEVICES {
            devices.insert(name, Tun::create(name)?);
            indices.insert(if_nametoindex(name).map_err(|error| format!("{name}: {error}"))?, name);
        }
        tool("ip", &["-batch", "-"], ADDRESSES)?;
        tool("ip", &["-6", "-batch", "-"], ADDRESSES6)?;
        let mut lab = Self { indices, devices, senders: BTreeMap::new(), log: Log::open()?, tag: 0 };
        lab.settle()?;
        Ok(lab)
    }

    /// Adds an Ethernet device with this address, by which packets of [`crate::tun::PEER_MAC`] arrive.
    pub(crate) fn attach_ethernet(&mut self, name: &'static str, address: &str) -> Result<(), String> {
        let device = Tun::create_ethernet(name)?;
        tool("ip", &["link", "set", name, "up"], "")?;
        tool("ip", &["addr", "add", address, "dev", name, "nodad"], "")
            .or_else(|_| tool("ip", &["addr", "add", address, "dev", name], ""))?;
        self.devices.insert(name, device);
        self.indices.insert(if_nametoindex(name).map_err(|error| format!("{name}: {error}"))?, name);
        self.settle()
    }

    /// Name of the device with this index, unless it is the loopback device.
    pub(crate) fn interface(&self, index: Option<u32>) -> Option<&'static str> {
        self.indices.get(&index?).copied()
    }

    /// Loads the probe.
    pub(crate) fn open_eyes(&mut self) -> Result<(), String> {
        tool("nft", &["-f", "-"], &nflog::probe_rules())?;
        self.settle()
    }

    /// Loads the eye for conversations, and silences what the host's own stack would say.
    pub(crate) fn watch(&mut self) -> Result<(), String> {
        sysctl("net/ipv4/icmp_echo_ignore_all", "1")?;
        sysctl("net/ipv6/icmp/echo_ignore_all", "1")?;
        tool("nft", &["-f", "-"], &nflog::watch_rules())?;
        self.settle()
    }

    /// Removes the probe, so that the ruleset can be listed without it.
    pub(crate) fn close_eyes(&mut self) -> Result<(), String> {
        tool("nft", &["delete", "table", "inet", PROBE_TABLE], "").map(|_| ())
    }

    /// Forgets what the stack itself sent.
    fn settle(&mut self) -> Result<(), String> {
        self.log.drain().map(|_| ())
    }

    /// Empties the conntrack table and fills it with the entries of `shots`.
    pub(crate) fn reset_connections(&self, shots: &[Shot]) -> Result<(), String> {
        tool("conntrack", &["-F"], "")?;
        let mut lines = String::new();
        for entry in shots.iter().filter_map(|shot| shot.entry.as_ref()) {
            lines += entry;
            lines.push('\n');
        }
        if lines.is_empty() {
            return Ok(());
        }
        let file = tempfile::NamedTempFile::new().map_err(|error| error.to_string())?;
        std::fs::write(file.path(), lines).map_err(|error| error.to_string())?;
        tool("conntrack", &["-R", &file.path().to_string_lossy()], "").map(|_| ())
    }

    /// Sends one packet and says what became of it.
    pub(crate) fn shoot(&mut self, shot: &Shot) -> Result<Outcome, String> {
        self.tag = self.tag.wrapping_add(1).max(1);
        let bytes = wire::encode(&shot.packet, &shot.extra, self.tag);
        let sent = match shot.packet.direction {
            Direction::Out => self.send(&shot.packet, &bytes),
            Direction::In | Direction::Forward => {
                let name = shot.packet.iif.as_deref().unwrap_or("ens5");
                let device = self.devices.get(name).ok_or_else(|| format!("no device {name}"))?;
                if shot.extra.in_pieces {
                    for piece in wire::fragments(&bytes, self.tag) {
                        device.arrive(&piece).map_err(|error| format!("{name}: {error}"))?;
                    }
                } else {
                    device.arrive(&bytes).map_err(|error| format!("{name}: {error}"))?;
                }
                Ok(())
            }
        };
        let length = bytes.len();
        // of IPv6 the probe sees the first header's number
        let first = if shot.packet.dst.is_ipv6() { Protocol(bytes[6]) } else { shot.packet.protocol };
        let is_ours =
            |seen: &Seen| seen.tag == self.tag && seen.protocol == first && usize::from(seen.length) == length;
        let (ours, others): (Vec<Seen>, Vec<Seen>) = self.log.drain()?.into_iter().partition(is_ours);
        Ok(match (ours.as_slice(), sent) {
            ([seen], _) => Outcome::Passed(*seen),
            // the kernel answers before it returns, so what else was seen is its answer
            ([], Ok(()) | Err(nix::Error::EPERM)) => Outcome::Stopped(others.iter().find_map(|seen| seen.refusal)),
            ([], Err(error)) => Outcome::Refused(error),
            _ => Outcome::Doubled,
        })
    }

    fn send(&mut self, packet: &Packet, bytes: &[u8]) -> Result<(), nix::Error> {
        let key = Sender {
            ipv4: packet.dst.is_ipv4(),
            uid: packet.uid.unwrap_or(0),
            gid: packet.gid.unwrap_or(0),
            mark: packet.mark,
        };
        let socket = match self.senders.get(&key) {
            Some(socket) => socket.as_raw_fd(),
            None => {
                let socket = open_sender(&key)?;
                let fd = socket.as_raw_fd();
                self.senders.insert(key, socket);
                fd
            }
        };
        match packet.dst {
            IpAddr::V4(dst) => {
                let address = SockaddrIn::from(SocketAddrV4::new(dst, 0));
                sendto(socket, bytes, &address, MsgFlags::MSG_DONTWAIT).map(|_| ())
            }
            IpAddr::V6(dst) => {
                let address = SockaddrIn6::from(SocketAddrV6::new(dst, 0, 0, 0));
                sendto(socket, bytes, &address, MsgFlags::MSG_DONTWAIT).map(|_| ())
            }
        }
    }
}

/// A raw socket that writes its own IP headers; its owner is who this thread is while it opens.
fn open_sender(key: &Sender) -> Result<OwnedFd, nix::Error> {
    let family = if key.ipv4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
    setfsgid(Gid::from_raw(key.gid));
    setfsuid(Uid::from_raw(key.uid));
    let opened = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw);
    setfsuid(Uid::from_raw(0));
    setfsgid(Gid::from_raw(0));
    let socket = opened?;
    if key.mark != 0 {
        setsockopt(&socket, sockopt::Mark, &key.mark)?;
    }
    setsockopt(&socket, sockopt::Broadcast, &true)?;
    setsockopt(&socket, sockopt::SndBuf, &(1 << 20))?;
    Ok(socket)
}
