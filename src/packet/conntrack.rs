//! Connection tracking as rules see it: state and status bits of `linux/netfilter/nf_conntrack_common.h`.

use std::fmt;

/// A set of conntrack states. A packet has exactly one; rules name several. The bit values are nft's (`ct state`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct CtState(pub u32);

impl CtState {
    /// No valid state: wrong flags, unknown reply, table full.
    pub const INVALID: Self = Self(1);
    /// Packets were seen both ways.
    pub const ESTABLISHED: Self = Self(2);
    /// Belongs to another connection, an ICMP error for instance.
    pub const RELATED: Self = Self(4);
    /// First packet of a connection.
    pub const NEW: Self = Self(8);
    /// Taken out of tracking by `notrack`, or never tracked (IPv6 neighbour discovery).
    pub const UNTRACKED: Self = Self(64);
    /// Every state with its name, in nft's bit order.
    pub const NAMES: [(Self, &'static str); 5] = [
        (Self::INVALID, "invalid"),
        (Self::ESTABLISHED, "established"),
        (Self::RELATED, "related"),
        (Self::NEW, "new"),
        (Self::UNTRACKED, "untracked"),
    ];

    /// The state called `name` (any case).
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known)| known.eq_ignore_ascii_case(name)).map(|(bit, _)| *bit)
    }

    /// Whether the sets share a state.
    #[must_use]
    pub fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Both sets together.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Display for CtState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_bits(f, self.0, Self::NAMES.iter().map(|(bit, name)| (bit.0, *name)))
    }
}

impl fmt::Debug for CtState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CtState({self})")
    }
}

/// Conntrack status bits (`IPS_*`). A packet's connection carries several at once.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct CtStatus(pub u32);

impl CtStatus {
    /// The connection was expected by a helper.
    pub const EXPECTED: Self = Self(1);
    /// A reply was seen.
    pub const SEEN_REPLY: Self = Self(2);
    /// Never evicted early.
    pub const ASSURED: Self = Self(4);
    /// Left the machine or reached a socket; the entry is in the table.
    pub const CONFIRMED: Self = Self(8);
    /// The source is rewritten.
    pub const SNAT: Self = Self(16);
    /// The destination is rewritten.
    pub const DNAT: Self = Self(32);
    /// The entry is being torn down.
    pub const DYING: Self = Self(512);
    /// Every status rules can name.
    pub const NAMES: [(Self, &'static str); 7] = [
        (Self::EXPECTED, "expected"),
        (Self::SEEN_REPLY, "seen-reply"),
        (Self::ASSURED, "assured"),
        (Self::CONFIRMED, "confirmed"),
        (Self::SNAT, "snat"),
        (Self::DNAT, "dnat"),
        (Self::DYING, "dying"),
    ];

    /// The status called `name` (any case; iptables writes `SEEN_REPLY`, nft `seen-reply`).
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let name = name.replace('_', "-");
        Self::NAMES.iter().find(|(_, known)| known.eq_ignore_ascii_case(&name)).map(|(bit, _)| *bit)
    }
}

impl fmt::Display for CtStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_bits(f, self.0, Self::NAMES.iter().map(|(bit, name)| (bit.0, *name)))
    }
}

impl fmt::Debug for CtStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CtStatus({self})")
    }
}

/// Which side of a connection a packet travels on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord, Default)]
pub enum CtDirection {
    /// As the first packet.
    #[default]
    Original,
    /// Against it.
    Reply,
}

fn write_bits(
    f: &mut fmt::Formatter<'_>,
    mut bits: u32,
    names: impl Iterator<Item = (u32, &'static str)>,
) -> fmt::Result {
    let mut separator = "";
    for (bit, name) in names {
        if bits & bit != 0 {
            write!(f, "{separator}{name}")?;
            separator = ",";
            bits &= !bit;
        }
    }
    if bits != 0 || separator.is_empty() {
        write!(f, "{separator}{bits:#x}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for (state, name) in CtState::NAMES {
            assert_eq!(CtState::from_name(&name.to_uppercase()), Some(state));
        }
        assert_eq!(CtStatus::from_name("SEEN_REPLY"), Some(CtStatus::SEEN_REPLY));
        assert_eq!(CtState::NEW.union(CtState::ESTABLISHED).to_string(), "established,new");
        assert_eq!(CtState(0).to_string(), "0x0");
    }
}
