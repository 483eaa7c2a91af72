//! Interfaces, routes, sockets, connections, BPF programs, kernel settings.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use procfs::FromBufReadSI;
use procfs::net::{TcpNetEntries, TcpState, UdpNetEntries};

use super::{Live, unreadable};
use crate::calico::failsafe::bpf::{MAPS, PINS};
use crate::files::FileState;
use crate::host::{Socket, sockets};
use crate::packet::Protocol;

/// Interfaces whose tc filters are listed.
const MAX_FILTERED: usize = 64;

impl Live<'_> {
    pub(super) fn network(&mut self) {
        self.links();
        self.put("sockets.txt", self.sockets());
        self.put("conntrack.txt", self.conntrack());
        self.put("tc.txt", self.traffic_control());
        // without the tool, `ip -d link` still tells XDP, and tc its filters
        match self.tool("bpftool", &["-j", "net"]) {
            FileState::Unreadable(why) if why.ends_with("not installed") => {}
            FileState::Present(mut text) => {
                // its names and tags; without them programs still have numbers
                if let FileState::Present(programs) = self.tool("bpftool", &["-j", "prog"]) {
                    text.extend(programs);
                }
                self.put("bpf.json", FileState::Present(text));
            }
            state => self.put("bpf.json", state),
        }
        self.failsafe_maps();
    }

    /// The failsafe maps of Felix's eBPF dataplane, where they are pinned.
    fn failsafe_maps(&mut self) {
        let pins = self.system.list(Path::new(PINS));
        for map in MAPS {
            let path = format!("{PINS}/{}", map.name);
            let state = match &pins {
                Ok(pins) if pins.iter().any(|pin| *pin == Path::new(&path)) => {
                    self.tool("bpftool", &["-j", "map", "dump", "pinned", &path])
                }
                Ok(_) => FileState::Absent,
                Err(error) if error.kind() == io::ErrorKind::NotFound => FileState::Absent,
                Err(error) => FileState::Unreadable(unreadable(Path::new(PINS), error)),
            };
            self.put(map.file, state);
        }
    }

    /// Interfaces, addresses, routes and kernel settings.
    pub(super) fn links(&mut self) {
        self.put("ip-addr.json", self.tool("ip", &["-j", "addr"]));
        self.put("ip-link.json", self.tool("ip", &["-j", "-d", "link"]));
        self.put("ip-maddr.json", self.tool("ip", &["-j", "maddr"]));
        self.put("ip-route.json", self.tool("ip", &["-j", "route", "show", "table", "all"]));
        self.put("ip-rule.json", self.rules());
        self.put("sysctl.txt", self.sysctls());
    }

    /// IPv4's rules, then IPv6's. A kernel without IPv6 policy routing has none.
    fn rules(&self) -> FileState {
        let mut text = match self.tool("ip", &["-j", "rule"]) {
            FileState::Present(text) => text,
            state => return state,
        };
        match self.output("ip", &["-6", "-j", "rule"], |_| false) {
            Ok(more) => text.extend(more),
            Err(failure) if failure.why.contains("not supported") => text.extend(b"[]\n"),
            Err(failure) => return FileState::Unreadable(failure.why),
        }
        FileState::Present(text)
    }

    /// From procfs: `ss` would load the kernel's socket diagnosis modules.
    fn sockets(&self) -> FileState {
        let mut found: Vec<(Socket, u64)> = Vec::new();
        for (path, protocol) in
            [("tcp", Protocol::TCP), ("tcp6", Protocol::TCP), ("udp", Protocol::UDP), ("udp6", Protocol::UDP)]
        {
            let path = format!("/proc/net/{path}");
            match self.system.read(Path::new(&path)) {
                Ok(bytes) => found.extend(table(&bytes, protocol)),
                // no IPv6
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return FileState::Unreadable(unreadable(Path::new(&path), &error)),
            }
        }
        let v4: BTreeSet<(Protocol, u16)> = found
            .iter()
            .filter(|(socket, _)| socket.listening && socket.local.is_ipv4() && socket.local.is_unspecified())
            .map(|(socket, _)| (socket.protocol, socket.local_port))
            .collect();
        let listening = found.iter().filter(|(socket, _)| socket.listening).map(|(_, inode)| *inode);
        let owners = self.owners(&listening.collect());
        let mut text = String::new();
        for (mut socket, inode) in found {
            // procfs does not tell IPV6_V6ONLY; two sockets on one port mean it is set
            socket.dual_stack = socket.listening
                && socket.local.is_ipv6()
                && socket.local.is_unspecified()
                && !v4.contains(&(socket.protocol, socket.local_port));
            if let Some((pid, name)) = owners.get(&inode) {
                socket.pid = Some(*pid);
                socket.process = Some(name.as_str().into());
            }
            text.push_str(&sockets::line(&socket));
            text.push('\n');
        }
        FileState::Present(text.into_bytes())
    }

    /// Process of each socket, as far as it may be looked at.
    fn owners(&self, wanted: &BTreeSet<u64>) -> BTreeMap<u64, (u32, String)> {
        let mut owners = BTreeMap::new();
        for (pid, process) in self.processes() {
            for file in self.system.list(&process.join("fd")).unwrap_or_default() {
                let Ok(target) = self.system.link(&file) else { continue };
                let inode =
                    target.to_str().and_then(|text| text.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
                let Some(inode) = inode.filter(|inode| wanted.contains(inode)) else { continue };
                let name = self.system.read(&process.join("comm")).unwrap_or_default();
                owners.entry(inode).or_insert_with(|| (pid, String::from_utf8_lossy(&name).trim().to_owned()));
            }
        }
        owners
    }

    /// Numbers and `/proc` folders of all processes.
    pub(super) fn processes(&self) -> Vec<(u32, PathBuf)> {
        let all = self.system.list(Path::new("/proc")).unwrap_or_default();
        let mut found: Vec<(u32, PathBuf)> =
            all.into_iter().filter_map(|path| Some((path.file_name()?.to_str()?.parse().ok()?, path))).collect();
        found.sort();
        found
    }

    fn conntrack(&self) -> FileState {
        let path = Path::new("/proc/net/nf_conntrack");
        match self.system.read(path) {
            Ok(bytes) => FileState::Present(bytes),
            Err(error) if error.kind() != io::ErrorKind::NotFound => FileState::Unreadable(unreadable(path, &error)),
            Err(_) if self.surely_not_loaded("nf_conntrack") => FileState::Absent,
            Err(_) if self.surely_not_loaded("nf_conntrack_netlink") => {
                let why =
                    "the kernel shows connections only through its module nf_conntrack_netlink, which is not loaded";
                FileState::Unreadable(format!(
                    "{why}; 'modprobe nf_conntrack_netlink' and install conntrack to see them"
                ))
            }
            Err(_) => {
                let listing =
                    self.output("conntrack", &["-L", "-o", "extended"], |line| line.ends_with("have been shown."));
                listing.map_or_else(|failure| FileState::Unreadable(failure.why), FileState::Present)
            }
        }
    }

    fn sysctls(&self) -> FileState {
        const SINGLE: [&str; 8] = [
            "net/ipv4/ip_forward",
            "net/ipv4/ip_local_port_range",
            "net/ipv4/tcp_l3mdev_accept",
            "net/ipv6/bindv6only",
            "net/bridge/bridge-nf-call-iptables",
            "net/bridge/bridge-nf-call-ip6tables",
            "net/netfilter/nf_conntrack_count",
            "net/netfilter/nf_conntrack_max",
        ];
        const MORE: [&str; 6] = [
            "net/netfilter/nf_conntrack_helper",
            "net/netfilter/nf_conntrack_tcp_be_liberal",
            "net/netfilter/nf_conntrack_tcp_loose",
            "net/netfilter/nf_conntrack_tcp_timeout_established",
            "net/netfilter/nf_conntrack_udp_timeout",
            "net/netfilter/nf_conntrack_udp_timeout_stream",
        ];
        const V4: [&str; 7] = [
            "accept_local",
            "bc_forwarding",
            "forwarding",
            "route_localnet",
            "rp_filter",
            "send_redirects",
            "src_valid_mark",
        ];
        const V6: [&str; 5] = ["accept_ra", "disable_ipv6", "force_forwarding", "forwarding", "use_tempaddr"];
        let mut paths: Vec<PathBuf> =
            SINGLE.iter().chain(&MORE).map(|name| Path::new("/proc/sys").join(name)).collect();
        for (folder, names) in [("/proc/sys/net/ipv4/conf", &V4[..]), ("/proc/sys/net/ipv6/conf", &V6[..])] {
            for interface in self.system.list(Path::new(folder)).unwrap_or_default() {
                paths.extend(names.iter().map(|name| interface.join(name)));
            }
        }
        let mut text = String::new();
        for path in paths {
            let (Ok(value), Ok(name)) = (self.system.read(&path), path.strip_prefix("/proc/sys")) else { continue };
            // as sysctl prints: dots between, slashes inside names
            let name: String = name.to_string_lossy().chars().map(swap_dots).collect();
            text.push_str(&format!("{name} = {}\n", String::from_utf8_lossy(&value).trim()));
        }
        FileState::Present(text.into_bytes())
    }

    /// Queueing disciplines, and the filters of interfaces that have a place for them.
    fn traffic_control(&self) -> FileState {
        let listing = match self.tool("tc", &["qdisc", "show"]) {
            FileState::Present(text) => String::from_utf8_lossy(&text).into_owned(),
            state => return state,
        };
        let mut text = format!("# tc qdisc show\n{listing}");
        let hooked =
            listing.lines().filter(|line| line.starts_with("qdisc clsact ") || line.starts_with("qdisc ingress "));
        let devices: BTreeSet<&str> = hooked.filter_map(|line| line.split(" dev ").nth(1)?.split(' ').next()).collect();
        for device in devices.into_iter().take(MAX_FILTERED) {
            for way in ["ingress", "egress"] {
                let arguments = ["filter", "show", "dev", device, way];
                text.push_str(&format!("# tc {}\n", arguments.join(" ")));
                match self.tool("tc", &arguments) {
                    FileState::Present(filters) => text.push_str(&String::from_utf8_lossy(&filters)),
                    state => return state,
                }
            }
        }
        FileState::Present(text.into_bytes())
    }
}

fn swap_dots(c: char) -> char {
    match c {
        '/' => '.',
        '.' => '/',
        other => other,
    }
}

/// Sockets of one table with their inodes. A line that is odd costs only itself, hence line by line.
fn table(bytes: &[u8], protocol: Protocol) -> Vec<(Socket, u64)> {
    let text = String::from_utf8_lossy(bytes);
    text.lines().skip(1).filter_map(|line| entry(line, protocol)).collect()
}

fn entry(line: &str, protocol: Protocol) -> Option<(Socket, u64)> {
    // the reader passes over a header line
    let line = format!("\n{line}\n");
    let system = procfs::current_system_info();
    let (local, remote, listening, inode) = if protocol == Protocol::TCP {
        let entry = TcpNetEntries::from_buf_read(line.as_bytes(), system).ok()?.0.pop()?;
        (entry.local_address, entry.remote_address, entry.state == TcpState::Listen, entry.inode)
    } else {
        let entry = UdpNetEntries::from_buf_read(line.as_bytes(), system).ok()?.0.pop()?;
        let connected = entry.remote_address.port() != 0 || !entry.remote_address.ip().is_unspecified();
        (entry.local_address, entry.remote_address, !connected, entry.inode)
    };
    let address = |socket: SocketAddr| socket.ip().to_canonical();
    let socket = Socket {
        protocol,
        local: address(local),
        dual_stack: false,
        local_port: local.port(),
        device: None,
        peer: (!listening).then(|| (address(remote), remote.port())),
        listening,
        process: None,
        pid: None,
    };
    Some((socket, inode))
}
