//! IP prefixes (CIDR notation, RFC 4632 and RFC 4291 §2.3).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::Family;

/// An IP prefix. Host bits are always zero, so equal sets of addresses compare equal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

/// Why a text is not a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PrefixError {
    /// The part before the slash is not an IPv4 or IPv6 address.
    Address(String),
    /// The part after the slash is not a length in `0..=32` (IPv4) or `0..=128` (IPv6), nor a contiguous netmask.
    Length(String),
}

impl fmt::Display for PrefixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(text) => write!(f, "expected an IPv4 or IPv6 address, found {text:?}"),
            Self::Length(text) => {
                write!(f, "expected a prefix length of 0 to 32 (IPv4) or 0 to 128 (IPv6), found {text:?}")
            }
        }
    }
}

impl std::error::Error for PrefixError {}

impl Prefix {
    /// A prefix; host bits of `address` are cleared. `None` when `length` exceeds the family's width.
    #[must_use]
    pub fn new(address: IpAddr, length: u8) -> Option<Self> {
        let width = if address.is_ipv4() { 32 } else { 128 };
        if length > width {
            return None;
        }
        let address = match address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from(u32::from(v4) & mask))
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from(u128::from(v6) & mask))
            }
        };
        Some(Self { address, length })
    }

    /// The prefix that holds one address.
    #[must_use]
    pub fn host(address: IpAddr) -> Self {
        let length = if address.is_ipv4() { 32 } else { 128 };
        Self { address, length }
    }

    /// All addresses of a family (`0.0.0.0/0` or `::/0`); every family but IPv4 gives IPv6's.
    #[must_use]
    pub fn any(family: Family) -> Self {
        match family {
            Family::Ipv4 => Self { address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), length: 0 },
            _ => Self { address: IpAddr::V6(Ipv6Addr::UNSPECIFIED), length: 0 },
        }
    }

    /// The lowest address.
    #[must_use]
    pub fn address(self) -> IpAddr {
        self.address
    }

    /// The prefix length in bits.
    #[must_use]
    pub fn length(self) -> u8 {
        self.length
    }

    /// Whether the prefix is of IPv4.
    #[must_use]
    pub fn is_ipv4(self) -> bool {
        self.address.is_ipv4()
    }

    /// Whether it holds a single address.
    #[must_use]
    pub fn is_host(self) -> bool {
        self.length == if self.is_ipv4() { 32 } else { 128 }
    }

    /// Whether `address` lies in the prefix. Addresses of the other family never do.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        self.is_ipv4() == address.is_ipv4() && Self::new(address, self.length) == Some(self)
    }

    /// Whether every address of `other` lies in this prefix.
    #[must_use]
    pub fn covers(self, other: Self) -> bool {
        self.length <= other.length && self.contains(other.address)
    }

    /// First and last address as numbers.
    #[must_use]
    pub fn range(self) -> (u128, u128) {
        let low = address_bits(self.address);
        let width: u32 = if self.is_ipv4() { 32 } else { 128 };
        let free = width - u32::from(self.length);
        let span = if free == 128 { u128::MAX } else { (1u128 << free) - 1 };
        (low, low | span)
    }
}

/// An address as a number (IPv4 in the low 32 bits).
#[must_use]
pub fn address_bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    /// `10.0.0.0/8`, `fd00::/8`, a bare address, or IPv4 with a contiguous netmask (`10.0.0.0/255.0.0.0`).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| PrefixError::Address(text.to_owned()))?;
        let Some(length) = length else { return Ok(Self::host(address)) };
        let bad = || PrefixError::Length(text.to_owned());
        let bits = if length.bytes().all(|b| b.is_ascii_digit()) && !length.is_empty() {
            length.parse().map_err(|_| bad())?
        } else {
            let mask: IpAddr = length.parse().map_err(|_| bad())?;
            if mask.is_ipv4() != address.is_ipv4() {
                return Err(bad());
            }
            let (ones, zeros) = match mask {
                IpAddr::V4(m) => (u32::from(m).leading_ones(), u32::from(m).trailing_zeros().min(32)),
                IpAddr::V6(m) => (u128::from(m).leading_ones(), u128::from(m).trailing_zeros().min(128)),
            };
            let width = if mask.is_ipv4() { 32 } else { 128 };
            if ones + zeros != width {
                return Err(bad());
            }
            u8::try_from(ones).map_err(|_| bad())?
        };
        Self::new(address, bits).ok_or_else(bad)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().expect(text)
    }

    #[test]
    fn host_bits_are_cleared_and_masks_read() {
        assert_eq!(prefix("10.1.2.3/8").to_string(), "10.0.0.0/8");
        assert_eq!(prefix("10.1.2.3/255.255.0.0").to_string(), "10.1.0.0/16");
        assert_eq!(prefix("10.1.2.3").to_string(), "10.1.2.3/32");
        assert_eq!(prefix("fd00::1/8").to_string(), "fd00::/8");
        assert_eq!(prefix("0.0.0.0/0.0.0.0"), Prefix::any(Family::Ipv4));
    }

    #[test]
    fn bad_texts_say_what_was_expected() {
        for bad in ["10.0.0.0/33", "::/129", "10.0.0.0/255.0.255.0", "10.0.0.0/", "x/8", "10.0.0.0/+8"] {
            assert!(bad.parse::<Prefix>().is_err(), "{bad}");
        }
    }

    #[test]
    fn containment_and_range() {
        let ten = prefix("10.0.0.0/8");
        assert!(ten.contains("10.255.0.1".parse().expect("address")));
        assert!(!ten.contains("::a00:1".parse().expect("address")));
        assert!(ten.covers(prefix("10.3.0.0/16")) && !prefix("10.3.0.0/16").covers(ten));
        assert_eq!(prefix("::/0").range(), (0, u128::MAX));
        assert_eq!(ten.range(), (0x0a00_0000, 0x0aff_ffff));
    }
}
