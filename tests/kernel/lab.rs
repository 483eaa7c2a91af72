//! A small host in a namespace: interfaces, addresses, routes, and a way to send it packets and see what comes of them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use hepguard::packet::{Direction, Packet, Protocol};
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, sendto, setsockopt, socket,
    sockopt,
};
use nix::unistd::{Gid, Uid, setfsgid, setfsuid};

use crate::conntrack::{self, Connection};
use crate::draw::Drawn;
use crate::firewall::Firewall;
use crate::harness::{sysctl, tool};
use crate::netlink::Netlink;
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

impl Outcome {
    /// It got through.
    pub(crate) fn passed(self) -> bool {
        matches!(self, Self::Passed(_) | Self::Doubled)
    }
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
    netlink: Netlink,
    tag: Tag,
}

/// What was seen of one packet of a volley.
#[derive(Clone, Copy, Default)]
struct Fate {
    error: Option<nix::Error>,
    seen: Option<Seen>,
    again: bool,
    refusal: Option<Refusal>,
}

/// The kernel enters the routes of new IPv6 addresses a little later; a busy one, after the rules are listed.
fn await_addresses6() -> Result<(), String> {
    let until = Instant::now() + Duration::from_secs(20);
    let own = ADDRESSES6.lines().filter_map(|line| line.strip_prefix("addr add ")?.split('/').next());
    loop {
        let table = tool("ip", &["-6", "route", "show", "table", "local"], "")?;
        let table = String::from_utf8_lossy(&table);
        let missing = own.clone().find(|own| !table.lines().any(|line| line.starts_with(&format!("local {own} "))));
        match missing {
            None => return Ok(()),
            Some(own) if Instant::now() > until => return Err(format!("{own} never became an address: {table}")),
            Some(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
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
        await_addresses6()?;
        let (log, netlink) = (Log::open()?, Netlink::open()?);
        let mut lab = Self { indices, devices, senders: BTreeMap::new(), log, netlink, tag: 0 };
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

    /// Adds a VLAN on an Ethernet device, with this address.
    pub(crate) fn attach_vlan(
        &mut self,
        name: &'static str,
        below: &str,
        id: u16,
        address: &str,
    ) -> Result<(), String> {
        let carrier = self.devices.get(below).ok_or_else(|| format!("no device {below}"))?;
        let device = carrier.tagged(id).map_err(|error| format!("{below}: {error}"))?;
        tool("ip", &["link", "add", "link", below, "name", name, "type", "vlan", "id", &id.to_string()], "")?;
        tool("ip", &["link", "set", name, "up"], "")?;
        tool("ip", &["addr", "add", address, "dev", name], "")?;
        self.devices.insert(name, device);
        self.indices.insert(if_nametoindex(name).map_err(|error| format!("{name}: {error}"))?, name);
        self.settle()
    }

    /// What has gone out by a device since this was asked last, link-layer headers included.
    pub(crate) fn sent(&self, device: &str) -> Result<Vec<Vec<u8>>, String> {
        self.devices.get(device).ok_or_else(|| format!("no device {device}"))?.sent()
    }

    /// The Ethernet device, when there is one.
    pub(crate) fn ethernet(&self) -> Option<&'static str> {
        self.devices.iter().find(|(_, device)| device.is_ethernet()).map(|(name, _)| *name)
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

    /// Removes every rule, set and connection.
    pub(crate) fn clear(&mut self) -> Result<(), String> {
        Firewall::everything().unload()?;
        conntrack::forget_all(&mut self.netlink)?;
        self.settle()
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

    /// Empties the conntrack table and fills it with `connections`.
    pub(crate) fn connect<'c>(&mut self, connections: impl Iterator<Item = &'c Connection>) -> Result<(), String> {
        conntrack::forget_all(&mut self.netlink)?;
        conntrack::make_known(&mut self.netlink, connections)
    }

    /// Sends many packets and says what became of each.
    pub(crate) fn volley(&mut self, drawn: &[Drawn]) -> Result<Vec<Outcome>, String> {
        let most = drawn.iter().map(|one| usize::from(one.tag)).max().unwrap_or(0);
        let mut places = vec![usize::MAX; most + 1];
        let mut fates = vec![Fate::default(); drawn.len()];
        let mut seen = Vec::new();
        self.settle()?;
        self.log.in_bulk(true)?;
        for (place, one) in drawn.iter().enumerate() {
            places[usize::from(one.tag)] = place;
            fates[place].error = match one.extra.in_pieces {
                true => {
                    let pieces = wire::fragments(&one.bytes, one.tag);
                    pieces.iter().try_fold(Ok(()), |_, piece| self.launch(&one.packet, piece))?.err()
                }
                false => self.launch(&one.packet, &one.bytes)?.err(),
            };
            if place % UNREAD == UNREAD - 1 {
                while self.log.read(false, &mut seen)? {}
                tell(&mut fates, &places, drawn, &mut seen);
            }
        }
        self.devices["ens5"].arrive(&end_packet()).map_err(|error| error.to_string())?;
        let mut ended = false;
        while !ended {
            if !self.log.read(true, &mut seen)? {
                return Err("the packet that ends a volley was not seen: nothing can be trusted".to_owned());
            }
            ended = seen.iter().any(|seen| seen.end);
        }
        tell(&mut fates, &places, drawn, &mut seen);
        self.log.in_bulk(false)?;
        Ok(fates.into_iter().map(outcome).collect())
    }

    /// Lets a packet arrive from its device or leave through its socket; inside is why it could not be sent.
    fn launch(&mut self, packet: &Packet, bytes: &[u8]) -> Result<Result<(), nix::Error>, String> {
        match packet.direction {
            Direction::Out => Ok(self.send(packet, bytes)),
            Direction::In | Direction::Forward => {
                let name = packet.iif.as_deref().unwrap_or("ens5");
                let device = self.devices.get(name).ok_or_else(|| format!("no device {name}"))?;
                device.arrive(bytes).map_err(|error| format!("{name}: {error}"))?;
                Ok(Ok(()))
            }
        }
    }

    /// Sends one packet and says what became of it.
    pub(crate) fn shoot(&mut self, shot: &Shot) -> Result<Outcome, String> {
        self.tag = self.tag.wrapping_add(1).max(1);
        let bytes = wire::encode(&shot.packet, &shot.extra, self.tag);
        let sent = if shot.extra.in_pieces {
            for piece in wire::fragments(&bytes, self.tag) {
                self.launch(&shot.packet, &piece)?.map_err(|error| error.to_string())?;
            }
            Ok(())
        } else {
            self.launch(&shot.packet, &bytes)?
        };
        let length = bytes.len();
        let first = first_protocol(&shot.packet, &bytes);
        let is_ours =
            |seen: &Seen| seen.tag == self.tag && seen.protocol == first && usize::from(seen.length) == length;
        let (ours, others): (Vec<Seen>, Vec<Seen>) = self.log.drain()?.into_iter().partition(is_ours);
        Ok(match (ours.as_slice(), sent) {
            ([seen], _) => Outcome::Passed(*seen),
            // the kernel answers before it returns, so what else was seen is its answer
            ([], Ok(()) | Err(nix::Error::EPERM)) => {
                Outcome::Stopped(others.iter().find_map(|seen| seen.refusal).map(|(how, _)| how))
            }
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

/// The protocol the probe sees: in IPv6 the first header's number.
fn first_protocol(packet: &Packet, bytes: &[u8]) -> Protocol {
    if packet.dst.is_ipv6() { Protocol(bytes[6]) } else { packet.protocol }
}

/// Packets sent before the log is read again.
const UNREAD: usize = 256;

/// Tells each packet's fate what was seen.
fn tell(fates: &mut [Fate], places: &[usize], drawn: &[Drawn], seen: &mut Vec<Seen>) {
    let place_of = |tag: Tag| places.get(usize::from(tag)).copied().filter(|place| *place < drawn.len());
    for seen in seen.drain(..) {
        let own = place_of(seen.tag).filter(|place| {
            let one = &drawn[*place];
            first_protocol(&one.packet, &one.bytes) == seen.protocol && one.bytes.len() == usize::from(seen.length)
        });
        match (own, seen.refusal.and_then(|(how, tag)| Some((how, place_of(tag)?)))) {
            (Some(place), _) => {
                fates[place].again |= fates[place].seen.is_some();
                fates[place].seen = Some(seen);
            }
            // the kernel's answer to another packet
            (None, Some((how, place))) => fates[place].refusal = fates[place].refusal.or(Some(how)),
            (None, None) => {}
        }
    }
}

fn outcome(fate: Fate) -> Outcome {
    match fate {
        Fate { again: true, .. } => Outcome::Doubled,
        Fate { seen: Some(seen), .. } => Outcome::Passed(seen),
        Fate { error: None | Some(nix::Error::EPERM), refusal, .. } => Outcome::Stopped(refusal),
        Fate { error: Some(error), .. } => Outcome::Refused(error),
    }
}

fn end_packet() -> Vec<u8> {
    let (from, to) = nflog::END;
    let packet = Packet::first(Direction::In, Protocol::UDP, (from.into(), 9), (to.into(), 9));
    wire::encode(&packet, &Extra::default(), 0)
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
