//! A digest of all IP sets through netlink (`linux/netfilter/ipset/ip_set.h`): the tool would be seen by who watches the tool.

use std::hash::{DefaultHasher, Hasher as _};
use std::io;

use super::netlink::{Attributes, Netlink};

/// `NFNL_SUBSYS_IPSET` and `IPSET_CMD_LIST`.
const LIST: u16 = (6 << 8) | 7;
/// `IPSET_ATTR_PROTOCOL`, `_SETNAME`, `_TYPENAME`, `_FAMILY`, `_DATA`, `_ADT`.
const PROTOCOL: u16 = 1;
const SET_NAME: u16 = 2;
const TYPE_NAME: u16 = 3;
const FAMILY: u16 = 5;
const DATA: u16 = 7;
const MEMBERS: u16 = 8;
/// Of a member: what runs down or counts up by itself (`IPSET_ATTR_TIMEOUT`, `_BYTES`, `_PACKETS`).
const MOVING: [u16; 3] = [6, 24, 25];

/// All sets as one number that changes with any set or member, and how many members there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Sets {
    /// Does not depend on the order of members.
    pub digest: u64,
    /// Members of all sets.
    pub members: u64,
}

/// Asks for all sets. Where the module `ip_set` is not loaded, asking loads it.
///
/// # Errors
/// As the kernel reports them; without CAP_NET_ADMIN above all.
pub fn ipsets() -> io::Result<Sets> {
    let mut protocol = 5_u16.to_ne_bytes().to_vec();
    protocol.extend(PROTOCOL.to_ne_bytes());
    protocol.extend([6, 0, 0, 0]);
    let mut sets = Sets::default();
    Netlink::open()?.dump(LIST, 2, &protocol, &mut |_, attributes| {
        let name = attributes.find(SET_NAME).unwrap_or_default();
        // a large set comes in several messages; only the first tells what it is
        if attributes.find(TYPE_NAME).is_some() {
            let mut header = DefaultHasher::new();
            header.write(name);
            header.write(attributes.find(TYPE_NAME).unwrap_or_default());
            header.write(attributes.find(FAMILY).unwrap_or_default());
            sets.digest = sets.digest.wrapping_add(header.finish());
        }
        for (_, member) in Attributes(attributes.find(MEMBERS).unwrap_or_default()).filter(|(kind, _)| *kind == DATA) {
            let mut hasher = DefaultHasher::new();
            hasher.write(name);
            for (kind, value) in Attributes(member).filter(|(kind, _)| !MOVING.contains(kind)) {
                hasher.write_u16(kind);
                hasher.write(value);
            }
            sets.digest = sets.digest.wrapping_add(hasher.finish());
            sets.members += 1;
        }
        true
    })?;
    Ok(sets)
}
