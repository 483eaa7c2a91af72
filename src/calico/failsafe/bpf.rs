//! Failsafe maps of Felix's eBPF dataplane (`felix/bpf/failsafes`), read back into entries.
//!
//! Where Felix runs its eBPF dataplane, its programs look failsafe ports up in one map a family, before policy; chains of
//! rules have no say then. A snapshot holds each map as `bpftool -j map dump pinned PIN` prints it ([`MAPS`]).

use std::sync::Arc;

use serde::Deserialize;

use super::Direction;
use super::kernel::{Keeper, KernelChain, KernelEntry, Layer};
use crate::calico::settings::{Entry, Place};
use crate::diagnostic::{Level, Parsed, Remarks};
use crate::files::{FileState, SnapshotFiles};
use crate::host::Host;
use crate::packet::{Family, Prefix, Protocol};

/// The map of one family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Map {
    /// The family.
    pub family: Family,
    /// Its name, which is also its pin's.
    pub name: &'static str,
    /// Its file in a snapshot.
    pub file: &'static str,
    /// Bytes of a key.
    key: usize,
}

/// Where Felix pins its maps.
pub const PINS: &str = "/sys/fs/bpf/tc/globals";

/// Both maps.
pub const MAPS: [Map; 2] = [
    Map { family: Family::Ipv4, name: "cali_v4_fsafes2", file: "bpf-failsafe-v4.json", key: 12 },
    Map { family: Family::Ipv6, name: "cali_v6_fsafes2", file: "bpf-failsafe-v6.json", key: 24 },
];

/// Felix's limit for each map; more is no map of Felix's.
const MOST: usize = 65_536;
/// Keys that cannot be read, told one by one.
const TOLD: usize = 5;

impl Map {
    /// The command whose output its file is.
    #[must_use]
    pub fn command(self) -> String {
        format!("bpftool -j map dump pinned {PINS}/{}", self.name)
    }
}

/// Whether Felix's eBPF dataplane is attached on this host; `None` when nobody looked.
#[must_use]
pub fn is_attached(host: &Host, files: &SnapshotFiles) -> Option<bool> {
    // devices that Felix makes for its eBPF dataplane alone
    let devices = ["bpfin.cali", "bpfout.cali"].iter().any(|name| host.interface(name).is_some());
    // XDP programs alone also speed up the other dataplanes
    let attached =
        devices || host.programs.iter().any(|program| program.is_calico() && !program.name.starts_with("prefilter"));
    let looked = ["bpf.json", "tc.txt"].iter().any(|name| files.bytes(name).is_some());
    (attached || looked).then_some(attached)
}

/// What is known of a family's map.
pub(super) enum Told {
    /// Entries of both directions.
    Read(Vec<(Direction, Entry)>),
    /// There is no such map.
    None,
    /// Why nothing is known.
    Unknown(String),
}

/// Reads the map of `family` among the files.
pub(super) fn told(files: &SnapshotFiles, map: Map) -> Told {
    match files.files.get(map.file) {
        Some(FileState::Present(bytes)) => {
            let source: Arc<str> = Arc::from(files.label(map.file));
            let read = entries(&source, bytes, map);
            match read.diagnostics.first() {
                Some(remark) => Told::Unknown(remark.to_string()),
                None => Told::Read(read.value),
            }
        }
        Some(FileState::Absent) => Told::None,
        Some(FileState::Unreadable(why)) => Told::Unknown(format!("{}: {why}", map.file)),
        None => Told::Unknown(format!("add the output of '{}' as {}", map.command(), map.file)),
    }
}

/// The map of one direction as a list like those of the chains.
pub(super) fn as_chain(
    files: &SnapshotFiles,
    map: Map,
    all: &[(Direction, Entry)],
    direction: Direction,
) -> KernelChain {
    let of_direction = all.iter().filter(|(of, _)| *of == direction);
    KernelChain {
        backend: Keeper::Bpf,
        family: map.family,
        table: Layer::Map,
        chain: Arc::from(map.name),
        place: Place { file: Arc::from(files.label(map.file)), line: 0 },
        references: None,
        entries: of_direction.zip(1..).map(|((_, entry), rule)| KernelEntry { entry: *entry, rule, line: 0 }).collect(),
        replies: Vec::new(),
        foreign: Vec::new(),
        withheld: false,
    }
}

/// An element as bpftool prints it; with type information it adds the same again in words.
#[derive(Deserialize)]
struct Element {
    key: Vec<String>,
}

/// Reads `bpftool -j map dump`: entries by port, then protocol and net; the map itself has no order.
///
/// Errors are remarks with the number of the element, from 1.
fn entries(source: &Arc<str>, text: &[u8], map: Map) -> Parsed<Vec<(Direction, Entry)>> {
    let mut remarks = Remarks::new(source);
    let elements: Vec<Element> = match serde_json::from_slice(text) {
        Ok(elements) => elements,
        Err(error) => {
            let at = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
            let message = format!("no list of keys as '{}' prints it: {error}", map.command());
            remarks.add(Level::Error, at(error.line()), at(error.column()), message);
            return remarks.with(Vec::new());
        }
    };
    if elements.len() > MOST {
        let message = format!("{} keys; Felix's map holds at most {MOST}", elements.len());
        remarks.add(Level::Error, 0, 0, message);
        return remarks.with(Vec::new());
    }
    let mut found = Vec::with_capacity(elements.len());
    let mut failed = 0;
    for (element, number) in elements.iter().zip(1..) {
        match entry(&element.key, map) {
            Ok(entry) => found.push(entry),
            Err(why) => {
                failed += 1;
                if failed <= TOLD {
                    remarks.add(Level::Error, 0, 0, format!("key {number} is none of {}: {why}", map.name));
                }
            }
        }
    }
    found.sort_by_key(|(direction, entry)| (*direction, entry.port, entry.protocol, entry.net));
    found.dedup();
    remarks.with(found)
}

/// A key: the number of bits that count as a little-endian word, 32 of them in front of the address; the port, little-endian;
/// the protocol; flags, bit 0 for the outbound list; the address in network order.
fn entry(key: &[String], map: Map) -> Result<(Direction, Entry), String> {
    if key.len() != map.key {
        return Err(format!("{} bytes, expected {}", key.len(), map.key));
    }
    let bytes: Vec<u8> = key.iter().map(|text| byte(text)).collect::<Option<_>>().ok_or("expected bytes like 0x1f")?;
    let (Some((head, address)), true) = (bytes.split_first_chunk::<8>(), bytes.len() == map.key) else {
        return Err("too short".to_owned());
    };
    let [a, b, c, d, port_low, port_high, protocol, flags] = *head;
    let width = if map.family == Family::Ipv4 { 32 } else { 128 };
    let bits = u32::from_le_bytes([a, b, c, d]).checked_sub(32).filter(|bits| *bits <= width);
    let bits = bits.ok_or_else(|| format!("its prefix length is not from 32 to {}", 32 + width))?;
    let address = match <[u8; 16]>::try_from(address) {
        Ok(address) => std::net::Ipv6Addr::from(address).into(),
        Err(_) => <[u8; 4]>::try_from(address)
            .map(|address| std::net::Ipv4Addr::from(address).into())
            .map_err(|_| "no address".to_owned())?,
    };
    let direction = match flags {
        0 => Direction::In,
        1 => Direction::Out,
        other => return Err(format!("flags {other:#04x}, expected 0 (inbound) or 1 (outbound)")),
    };
    let net = u8::try_from(bits).ok().and_then(|bits| Prefix::new(address, bits)).ok_or("no net")?;
    let net = (net.length() > 0).then_some(net);
    let port = u16::from_le_bytes([port_low, port_high]);
    Ok((direction, Entry { protocol: Protocol(protocol), port, net }))
}

fn byte(text: &str) -> Option<u8> {
    u8::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A dump of these keys, as hexadecimal bytes in a row.
    fn dump(keys: &[&str]) -> String {
        let element = |key: &&str| {
            let bytes: Vec<String> = key.split(' ').map(|byte| format!("\"0x{byte}\"")).collect();
            format!(r#"{{"key":[{}],"value":["0x00","0x00","0x00","0x00"]}}"#, bytes.join(","))
        };
        format!("[{}]", keys.iter().map(element).collect::<Vec<_>>().join(","))
    }

    fn read(text: &str, map: Map) -> Result<Vec<String>, String> {
        let read = entries(&Arc::from(map.file), text.as_bytes(), map);
        match read.diagnostics.first() {
            Some(remark) => Err(remark.to_string()),
            None => Ok(read.value.iter().map(|(direction, entry)| format!("{direction} {entry}")).collect()),
        }
    }

    #[test]
    fn keys_are_entries_of_either_list() {
        let [four, six] = MAPS;
        let text = dump(&[
            "28 00 00 00 16 00 06 00 0a 00 00 00",
            "20 00 00 00 44 00 11 00 00 00 00 00",
            "40 00 00 00 2b 19 06 01 c0 00 02 01",
        ]);
        assert_eq!(
            read(&text, four).expect("read"),
            ["inbound tcp:10.0.0.0/8:22", "inbound udp:68", "outbound tcp:192.0.2.1/32:6443"]
        );
        let text = dump(&["40 00 00 00 16 00 06 00 20 01 0d b8 00 00 00 00 00 00 00 00 00 00 00 00"]);
        assert_eq!(read(&text, six).expect("read"), ["inbound tcp:[2001:db8::/32]:22"]);
        assert_eq!(read("[]", four).expect("read"), [""; 0]);
    }

    #[test]
    fn what_is_no_such_map_is_an_error() {
        let [four, six] = MAPS;
        for (text, map, why) in [
            ("{}", four, "no list of keys"),
            ("[{}]", four, "no list of keys"),
            (&*dump(&["20 00 00 00 16 00 06 00 00 00 00 00"]), six, "12 bytes, expected 24"),
            (&*dump(&["1f 00 00 00 16 00 06 00 00 00 00 00"]), four, "its prefix length is not from 32 to 64"),
            (&*dump(&["41 00 00 00 16 00 06 00 00 00 00 00"]), four, "its prefix length is not from 32 to 64"),
            (&*dump(&["20 00 00 00 16 00 06 02 00 00 00 00"]), four, "flags 0x02"),
            (&*dump(&["20 00 00 00 16 00 06 zz 00 00 00 00"]), four, "expected bytes like 0x1f"),
        ] {
            let error = read(text, map).expect_err(why);
            assert!(error.contains(why), "{error}");
        }
    }
}
