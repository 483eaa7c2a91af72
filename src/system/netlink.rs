//! nf_tables through netlink (`linux/netfilter/nf_tables.h`, `nfnetlink.h`): tables, chains, numbers of rules and
//! elements, and what rules compare where listings do not tell. Only questions are asked; each needs CAP_NET_ADMIN.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

use crate::ruleset::kernel::{KernelChain, KernelHook, KernelSet, KernelTable, KernelTables, KernelUnequal, SCHEMA};

/// `NFNL_SUBSYS_NFTABLES` and its questions.
const SUBSYSTEM: u16 = 10 << 8;
const GET_TABLE: u16 = SUBSYSTEM | 1;
const GET_CHAIN: u16 = SUBSYSTEM | 4;
const GET_RULE: u16 = SUBSYSTEM | 7;
const GET_SET: u16 = SUBSYSTEM | 10;
const GET_ELEMENT: u16 = SUBSYSTEM | 13;
const GET_GENERATION: u16 = SUBSYSTEM | 16;

/// `NLM_F_REQUEST`, `NLM_F_DUMP`; `NLM_F_DUMP_INTR` of answers.
const REQUEST: u16 = 1;
const DUMP: u16 = 0x300;
const INTERRUPTED: u16 = 0x10;
/// `NLMSG_ERROR`, `NLMSG_DONE`.
const ERROR: u16 = 2;
const DONE: u16 = 3;

/// `NFT_SET_ANONYMOUS`; `NFT_SET_MAP` and `NFT_SET_OBJECT`.
const ANONYMOUS: u32 = 1;
const MAP: u32 = 0x48;
/// `NFT_CHAIN_BINDING`.
const BINDING: u32 = 4;

/// Elements counted of one set; whether there are more is all anybody needs to know then.
const MOST_COUNTED: usize = 1_000_000;

/// How often a dump begins anew when a transaction came between.
const TRIES: usize = 10;
/// A kernel that keeps silent for longer is not going to answer.
const SECONDS: i64 = 10;
/// The kernel fills at most 32 KiB a message.
const BUFFER: usize = 64 * 1024;

/// The ruleset's generation.
///
/// # Errors
/// As the kernel reports them: without CAP_NET_ADMIN, without nf_tables.
pub(super) fn generation() -> io::Result<u32> {
    let mut generation = None;
    Netlink::open()?.ask(GET_GENERATION, REQUEST, 0, &[], &mut |_, attributes| {
        generation = attributes.number(1);
        true
    })?;
    generation.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the kernel tells no generation of nf_tables"))
}

/// Every table with its chains and sets, of one generation.
///
/// # Errors
/// As the kernel reports them; [`io::ErrorKind::Interrupted`] when the rules changed each time they were asked for.
pub(super) fn tables() -> io::Result<KernelTables> {
    let mut before = generation()?;
    for _ in 0..TRIES {
        let tables = all();
        let after = generation()?;
        match tables {
            Ok(tables) if before == after => {
                return Ok(KernelTables { schema: SCHEMA.to_owned(), generation: after, tables });
            }
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => before = after,
        }
    }
    Err(io::ErrorKind::Interrupted.into())
}

/// Family number and name: how the kernel tells tables apart.
type TableKey = (u8, String);

fn all() -> io::Result<Vec<KernelTable>> {
    let mut netlink = Netlink::open()?;
    let mut tables: Vec<KernelTable> = Vec::new();
    let mut index: HashMap<TableKey, usize> = HashMap::new();
    netlink.dump(GET_TABLE, 0, &[], &mut |family, attributes| {
        let name = attributes.text(1);
        index.insert((family, name.clone()), tables.len());
        let dormant = attributes.number(2).unwrap_or(0) & 1 != 0;
        tables.push(KernelTable { family: family_name(family), name, dormant, ..KernelTable::default() });
        true
    })?;
    let mut rules = rules(&mut netlink)?;
    netlink.dump(GET_CHAIN, 0, &[], &mut |family, attributes| {
        // `jump { … }`: listings show such chains inside their rule
        if attributes.number(10).unwrap_or(0) & BINDING != 0 {
            return true;
        }
        let (table, name) = (attributes.text(1), attributes.text(3));
        let base = attributes.find(4).map(|hook| hook_of(family, Attributes(hook), attributes));
        let Some(at) = index.get(&(family, table.clone())) else { return true };
        let (rules, unequal) = rules.remove(&(family, table, name.clone())).unwrap_or_default();
        if let Some(table) = tables.get_mut(*at) {
            table.chains.push(KernelChain { name, rules, base, unequal: Some(unequal) });
        }
        true
    })?;
    let mut sets: Vec<(u8, usize, KernelSet, Option<u32>)> = Vec::new();
    netlink.dump(GET_SET, 0, &[], &mut |family, attributes| {
        let flags = attributes.number(3).unwrap_or(0);
        let set = KernelSet { name: attributes.text(2), map: flags & MAP != 0, ..KernelSet::default() };
        if let Some(at) = index.get(&(family, attributes.text(1))).filter(|_| flags & ANONYMOUS == 0) {
            // newer kernels tell the number of elements
            sets.push((family, *at, set, attributes.number(20)));
        }
        true
    })?;
    for (family, at, mut set, told) in sets {
        let Some(table) = tables.get_mut(at) else { continue };
        let elements = match told {
            Some(number) => usize::try_from(number).unwrap_or(usize::MAX),
            None => elements(family, &table.name, &set.name)?,
        };
        (set.elements, set.more) = (elements.min(MOST_COUNTED), elements > MOST_COUNTED);
        table.sets.push(set);
    }
    Ok(tables)
}

/// The rules of a chain: their number, and what they ask to be unequal.
type Rules = (usize, Vec<KernelUnequal>);

/// What chains hold, by family, table and name.
fn rules(netlink: &mut Netlink) -> io::Result<HashMap<(u8, String, String), Rules>> {
    let mut all: HashMap<(u8, String, String), Rules> = HashMap::new();
    // rules of one chain come together
    let mut run: ((u8, Vec<u8>, Vec<u8>), Rules) = Default::default();
    let mut end = |(family, table, chain): (u8, Vec<u8>, Vec<u8>), (count, unequal): Rules| {
        if count > 0 {
            let (before, known) = all.entry((family, text(&table), text(&chain))).or_default();
            known.extend(unequal.into_iter().map(|one| KernelUnequal { rule: *before + one.rule, ..one }));
            *before += count;
        }
    };
    netlink.dump(GET_RULE, 0, &[], &mut |family, attributes| {
        let (table, chain) = (attributes.find(1).unwrap_or_default(), attributes.find(2).unwrap_or_default());
        let ((of, in_table, in_chain), _) = &run;
        if *of != family || in_table.as_slice() != table || in_chain.as_slice() != chain {
            let fresh = ((family, table.to_vec(), chain.to_vec()), Rules::default());
            let (before, rules) = std::mem::replace(&mut run, fresh);
            end(before, rules);
        }
        let (count, unequal) = &mut run.1;
        *count += 1;
        unequal_loads(*count, Attributes(attributes.find(4).unwrap_or_default()), unequal);
        true
    })?;
    end(run.0, run.1);
    Ok(all)
}

/// Notes which bytes of the packet the expressions of rule `rule` compare, as they are, with a value they must not equal.
fn unequal_loads(rule: usize, expressions: Attributes<'_>, found: &mut Vec<KernelUnequal>) {
    /// `NFT_CMP_NEQ`.
    const NOT_EQUAL: u32 = 1;
    let mut loaded: Option<(u32, KernelUnequal)> = None;
    for (_, expression) in expressions {
        let expression = Attributes(expression);
        let data = Attributes(expression.find(2).unwrap_or_default());
        let before = loaded.take();
        match (expression.text(1).as_str(), before) {
            // NFTA_PAYLOAD_DREG, _BASE, _OFFSET, _LEN
            ("payload", _) => {
                let numbers = (data.number(1), data.number(2), data.number(3), data.number(4));
                let (Some(register), Some(base), Some(offset), Some(length)) = numbers else { continue };
                let header = header_name(base).to_owned();
                loaded = Some((register, KernelUnequal { rule, header, offset, length }));
            }
            // NFTA_CMP_SREG, _OP
            ("cmp", Some((register, load)))
                if data.number(1) == Some(register) && data.number(2) == Some(NOT_EQUAL) =>
            {
                found.push(load);
            }
            _ => {}
        }
    }
}

/// Headers (`NFT_PAYLOAD_*_HEADER`) by nft's names.
fn header_name(number: u32) -> &'static str {
    match number {
        0 => "link",
        1 => "network",
        2 => "transport",
        3 => "inner",
        _ => "",
    }
}

/// Elements of a set, counted up to one more than [`MOST_COUNTED`].
fn elements(family: u8, table: &str, set: &str) -> io::Result<usize> {
    let mut question = attribute(1, table.as_bytes());
    question.extend(attribute(2, set.as_bytes()));
    let mut count = 0_usize;
    // a socket of its own: an answer cut short would be in the way of the next one
    Netlink::open()?.dump(GET_ELEMENT, family, &question, &mut |_, attributes| {
        count += attributes.find(3).map_or(0, |list| Attributes(list).count());
        count <= MOST_COUNTED
    })?;
    Ok(count)
}

fn hook_of(family: u8, hook: Attributes<'_>, chain: Attributes<'_>) -> KernelHook {
    let list = hook.find(4).or_else(|| hook.find(3).map(|_| hook.0)).unwrap_or_default();
    // NFTA_HOOK_DEV; in a list NFTA_DEVICE_NAME and NFTA_DEVICE_PREFIX
    let name = if hook.find(4).is_some() { 1 } else { 3 };
    let devices = Attributes(list).filter_map(|(kind, bytes)| match kind {
        _ if kind == name => {
            Some(text(bytes).strip_suffix('*').map_or_else(|| text(bytes), |star| format!("{star}\\*")))
        }
        2 if name == 1 => Some(format!("{}*", text(bytes))),
        _ => None,
    });
    let devices: Vec<String> = devices.collect();
    // a name that is not text equals nobody's: better none than a wrong one
    let devices = if devices.iter().any(|name| name.contains('\u{fffd}')) { Vec::new() } else { devices };
    KernelHook {
        kind: chain.text(7),
        hook: hook_name(family, hook.number(1).unwrap_or(u32::MAX)).to_owned(),
        priority: hook.number(2).unwrap_or(0).cast_signed(),
        drops: chain.number(5) == Some(0),
        devices,
    }
}

/// Families (`NFPROTO_*`) by nft's names.
pub(super) fn family_name(family: u8) -> String {
    let name = match family {
        1 => "inet",
        2 => "ip",
        3 => "arp",
        5 => "netdev",
        7 => "bridge",
        10 => "ip6",
        _ => return family.to_string(),
    };
    name.to_owned()
}

fn hook_name(family: u8, number: u32) -> &'static str {
    match (family, number) {
        (3, 0) => "input",
        (3, 1) => "output",
        (5, 0) => "ingress",
        (5, 1) => "egress",
        (3 | 5, _) => "",
        (_, 0) => "prerouting",
        (_, 1) => "input",
        (_, 2) => "forward",
        (_, 3) => "output",
        (_, 4) => "postrouting",
        (_, 5) => "ingress",
        _ => "",
    }
}

/// A socket to nfnetlink.
pub(super) struct Netlink {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl Netlink {
    pub(super) fn open() -> io::Result<Self> {
        let (family, protocol) = (AddressFamily::Netlink, SockProtocol::NetlinkNetFilter);
        let socket = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(SECONDS))?;
        Ok(Self { socket, buffer: vec![0; BUFFER] })
    }

    pub(super) fn dump(&mut self, question: u16, family: u8, body: &[u8], take: &mut Taker<'_>) -> io::Result<()> {
        self.ask(question, REQUEST | DUMP, family, body, take)
    }

    /// Asks and hands each answer to `take`, which says whether it wants more.
    fn ask(&mut self, question: u16, flags: u16, family: u8, body: &[u8], take: &mut Taker<'_>) -> io::Result<()> {
        let length = u32::try_from(20 + body.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut message = length.to_ne_bytes().to_vec();
        message.extend(question.to_ne_bytes());
        message.extend(flags.to_ne_bytes());
        message.extend([0; 8]);
        message.extend([family, 0, 0, 0]);
        message.extend(body);
        send(self.socket.as_raw_fd(), &message, MsgFlags::empty())?;
        loop {
            let got = recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty())?;
            let mut rest = self.buffer.get(..got).unwrap_or_default();
            while let Some(length) = word(rest, 0).and_then(|length| usize::try_from(length).ok()) {
                let length = length.clamp(16, rest.len());
                let Some((message, behind)) = rest.split_at_checked(length.next_multiple_of(4).min(rest.len())) else {
                    break;
                };
                rest = behind;
                if !answer(message, take)? || flags & DUMP == 0 {
                    return Ok(());
                }
            }
        }
    }
}

/// Receives an answer's family and attributes; says whether it wants more.
pub(super) type Taker<'t> = dyn FnMut(u8, Attributes<'_>) -> bool + 't;

/// Whether more is to come.
fn answer(message: &[u8], take: &mut Taker<'_>) -> io::Result<bool> {
    let interrupted = half(message, 6).is_some_and(|flags| flags & INTERRUPTED != 0);
    if interrupted {
        return Err(io::ErrorKind::Interrupted.into());
    }
    match half(message, 4) {
        Some(ERROR | DONE) => match word(message, 16).map(u32::cast_signed) {
            None | Some(0) => Ok(false),
            Some(code) => Err(io::Error::from_raw_os_error(code.wrapping_neg())),
        },
        _ => {
            let family = message.get(16).copied().unwrap_or_default();
            Ok(take(family, Attributes(message.get(20..).unwrap_or_default())))
        }
    }
}

pub(super) fn half(bytes: &[u8], place: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(place..place + 2)?.try_into().ok()?))
}

pub(super) fn word(bytes: &[u8], place: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(place..place + 4)?.try_into().ok()?))
}

/// A text of the kernel without its zero byte.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.strip_suffix(&[0]).unwrap_or(bytes)).into_owned()
}

/// An attribute holding a zero-terminated text.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len() + 5).unwrap_or(u16::MAX);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.push(0);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Attributes one after the other: kind without flags, and value.
#[derive(Clone, Copy)]
pub(super) struct Attributes<'a>(pub(super) &'a [u8]);

impl<'a> Attributes<'a> {
    pub(super) fn find(self, wanted: u16) -> Option<&'a [u8]> {
        let mut all = self;
        all.find_map(|(kind, value)| (kind == wanted).then_some(value))
    }

    pub(super) fn text(self, wanted: u16) -> String {
        self.find(wanted).map(text).unwrap_or_default()
    }

    /// A number in network order.
    pub(super) fn number(self, wanted: u16) -> Option<u32> {
        Some(u32::from_be_bytes(self.find(wanted)?.try_into().ok()?))
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(half(self.0, 0)?);
        let kind = half(self.0, 2)? & 0x3fff;
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}
