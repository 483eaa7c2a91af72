//! Notices of the kernel: changes of nf_tables with who made them (`NFNLGRP_NFTABLES`, needs CAP_NET_ADMIN), and of links,
//! addresses, routes and routing rules (rtnetlink). Legacy tables and IP sets send none.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, setsockopt, socket, sockopt,
};

use super::netlink::{Attributes, half, word};
use crate::monitor::look::{Change, Rules};

/// `NFNL_SUBSYS_NFTABLES` and its notices.
const SUBSYSTEM: u16 = 10 << 8;
const NEW_RULE: u16 = SUBSYSTEM | 6;
const DELETED_RULE: u16 = SUBSYSTEM | 8;
const NEW_GENERATION: u16 = SUBSYSTEM | 15;

/// `NFNLGRP_NFTABLES` as a bit.
const NF_TABLES: u32 = 1 << (7 - 1);
/// Links, addresses, routes and rules of both families, as bits.
const ROUTING: u32 = 0x1 | 0x10 | 0x40 | 0x80 | 0x100 | 0x400 | (1 << (19 - 1));

/// Bytes the kernel may keep for us: a large ruleset that is replaced sends megabytes.
const QUEUE: usize = 8 << 20;
const BUFFER: usize = 128 * 1024;

/// Tables told apart in one change.
const MAX_TABLES: usize = 64;

/// Messages taken in one go, so that a flood does not keep others waiting.
const MAX_AT_ONCE: usize = 4096;

fn open(protocol: SockProtocol, groups: u32) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
    // the larger one needs a right that others may lack
    if setsockopt(&socket, sockopt::RcvBufForce, &QUEUE).is_err() {
        let _ = setsockopt(&socket, sockopt::RcvBuf, &QUEUE);
    }
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
    Ok(socket)
}

/// What was read at once.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Notices {
    /// Changes that are complete.
    pub changes: Vec<Change>,
    /// Some were lost: look without knowing who it was.
    pub overflow: bool,
}

/// Changes of nf_tables.
pub struct NfTables {
    socket: OwnedFd,
    buffer: Vec<u8>,
    /// What of the change that is being told is known.
    tables: BTreeMap<String, Rules>,
}

impl NfTables {
    /// Listens.
    ///
    /// # Errors
    /// As the kernel reports them: without CAP_NET_ADMIN, without nf_tables.
    pub fn open() -> io::Result<Self> {
        let socket = open(SockProtocol::NetlinkNetFilter, NF_TABLES)?;
        Ok(Self { socket, buffer: vec![0; BUFFER], tables: BTreeMap::new() })
    }

    /// Takes what there is.
    pub fn read(&mut self) -> Notices {
        let mut notices = Notices::default();
        for _ in 0..MAX_AT_ONCE {
            match recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
                Ok(got) => take(self.buffer.get(..got).unwrap_or_default(), &mut self.tables, &mut notices),
                Err(Errno::EINTR) => {}
                Err(Errno::ENOBUFS) => {
                    self.tables.clear();
                    notices.overflow = true;
                }
                Err(_) => break,
            }
        }
        for change in &mut notices.changes {
            change.parent = change.pid.and_then(parent);
        }
        notices
    }
}

impl AsFd for NfTables {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn take(datagram: &[u8], tables: &mut BTreeMap<String, Rules>, notices: &mut Notices) {
    let mut rest = datagram;
    while let Some(length) = word(rest, 0).and_then(|length| usize::try_from(length).ok()) {
        let length = length.clamp(16, rest.len().max(16));
        let Some((message, behind)) = rest.split_at_checked(length.next_multiple_of(4).min(rest.len())) else { break };
        rest = behind;
        let family = message.get(16).copied().unwrap_or_default();
        let attributes = Attributes(message.get(20..).unwrap_or_default());
        match half(message, 4) {
            Some(kind @ (NEW_RULE | DELETED_RULE)) => {
                let felix = attributes.find(2).is_some_and(is_felix_chain);
                let table = format!("{} {}", super::netlink::family_name(family), attributes.text(1));
                if tables.len() < MAX_TABLES || tables.contains_key(&table) {
                    let rules = tables.entry(table).or_default();
                    let (all, own) = match kind {
                        NEW_RULE => (&mut rules.added, &mut rules.felix_added),
                        _ => (&mut rules.deleted, &mut rules.felix_deleted),
                    };
                    *all += 1;
                    *own += u64::from(felix);
                }
            }
            Some(NEW_GENERATION) => notices.changes.push(Change {
                generation: attributes.number(1).unwrap_or(0),
                pid: attributes.number(2),
                process: attributes.find(3).map(|_| attributes.text(3)),
                parent: None,
                tables: std::mem::take(tables),
            }),
            _ => {}
        }
        if rest.is_empty() {
            break;
        }
    }
}

/// `cali-INPUT`, and in Felix's own table `filter-cali-INPUT`.
fn is_felix_chain(name: &[u8]) -> bool {
    name.starts_with(b"cali-") || memchr::memmem::find(name, b"-cali-").is_some()
}

/// The process that started this one, as long as it can be seen.
fn parent(pid: u32) -> Option<(u32, String)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let parent: u32 = status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()?;
    let name = fs::read(format!("/proc/{parent}/comm")).ok()?;
    Some((parent, String::from_utf8_lossy(&name).trim_end().to_owned()))
}

/// Changes of links, addresses and routes.
pub struct Routing {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl Routing {
    /// Listens.
    ///
    /// # Errors
    /// As the kernel reports them.
    pub fn open() -> io::Result<Self> {
        Ok(Self { socket: open(SockProtocol::NetlinkRoute, ROUTING)?, buffer: vec![0; BUFFER] })
    }

    /// Takes what there is; true when something changed, or notices were lost.
    pub fn read(&mut self) -> bool {
        let mut changed = false;
        for _ in 0..MAX_AT_ONCE {
            match recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
                Ok(_) | Err(Errno::ENOBUFS) => changed = true,
                Err(Errno::EINTR) => {}
                Err(_) => break,
            }
        }
        changed
    }
}

impl AsFd for Routing {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = u16::try_from(value.len() + 4).expect("short").to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn message(kind: u16, family: u8, attributes: &[Vec<u8>]) -> Vec<u8> {
        let body = attributes.concat();
        let mut bytes = u32::try_from(20 + body.len()).expect("short").to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend([family, 0, 0, 0]);
        bytes.extend(body);
        bytes
    }

    #[test]
    fn a_transaction_is_told_with_its_tables_and_its_process() {
        let rule = |kind, chain: &[u8]| message(kind, 2, &[attribute(1, b"filter\0"), attribute(2, chain)]);
        let end = message(
            NEW_GENERATION,
            0,
            &[attribute(1, &9_u32.to_be_bytes()), attribute(2, &4_000_000_u32.to_be_bytes()), attribute(3, b"nft\0")],
        );
        let datagram = [rule(NEW_RULE, b"INPUT\0"), rule(DELETED_RULE, b"cali-INPUT\0"), end].concat();
        let (mut tables, mut notices) = (BTreeMap::new(), Notices::default());
        take(&datagram, &mut tables, &mut notices);
        let [change] = notices.changes.as_slice() else { panic!("{notices:?}") };
        assert_eq!((change.generation, change.pid, change.process.as_deref()), (9, Some(4_000_000), Some("nft")));
        let rules = change.tables["ip filter"];
        assert_eq!((rules.added, rules.deleted, rules.felix_added, rules.felix_deleted), (1, 1, 0, 1));
        assert!(tables.is_empty() && change.felix_lost() == 1);
    }

    #[test]
    fn damaged_messages_end_and_do_no_harm() {
        let good = message(NEW_GENERATION, 0, &[attribute(1, &9_u32.to_be_bytes())]);
        for length in 0..good.len() {
            take(&good[..length], &mut BTreeMap::new(), &mut Notices::default());
        }
        for byte in [0_u8, 1, 3, 0xff] {
            take(&[byte; 64], &mut BTreeMap::new(), &mut Notices::default());
        }
    }
}
