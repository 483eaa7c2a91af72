//! Values after options: numbers, ports, addresses with any mask, names of ICMP types and services.

use std::net::{IpAddr, Ipv4Addr};

use crate::packet::{Family, address_bits};
use crate::ruleset::{Expr, Field, Interval, Match, Operator};

/// A value could not be read: what was expected.
pub(crate) type Expected = &'static str;

/// A number as strtoul(3) with base 0 reads it: decimal, `0x…`, or octal with a leading zero.
pub(crate) fn number(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => (hex, 16),
        None if text.len() > 1 && text.starts_with('0') => (text.get(1..)?, 8),
        None => (text, 10),
    };
    // from_str_radix would take a sign
    if digits.starts_with(['+', '-']) { None } else { u64::from_str_radix(digits, radix).ok() }
}

/// A number of 32 bits.
pub(crate) fn word(text: &[u8]) -> Result<u32, Expected> {
    number(text).and_then(|n| u32::try_from(n).ok()).ok_or("a number of 32 bits")
}

/// `value` or `value/mask`; the default mask is all ones.
pub(crate) fn masked_word(text: &[u8]) -> Result<(u32, u32), Expected> {
    match split_once(text, b'/') {
        Some((value, mask)) => Ok((word(value)?, word(mask)?)),
        None => Ok((word(text)?, u32::MAX)),
    }
}

/// `text` around the first `separator`.
pub(crate) fn split_once(text: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = memchr::memchr(separator, text)?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

/// `a`, `a:b`, `:b` or `a:` with numbers up to `max`.
pub(crate) fn number_range(text: &[u8], separator: u8, max: u64) -> Result<Interval, Expected> {
    let bounded = |text: &[u8]| number(text).filter(|n| *n <= max).map(u128::from);
    range_by(text, separator, max, bounded).ok_or("a number or a range of numbers, low first")
}

fn range_by(text: &[u8], separator: u8, max: u64, read: impl Fn(&[u8]) -> Option<u128>) -> Option<Interval> {
    let (low, high) = match split_once(text, separator) {
        None => {
            let value = read(text)?;
            (value, value)
        }
        Some((low, high)) => {
            (if low.is_empty() { 0 } else { read(low)? }, if high.is_empty() { u128::from(max) } else { read(high)? })
        }
    };
    (low <= high).then_some(Interval { low, high })
}

/// A port or a range of ports, by number or well-known name.
pub(crate) fn ports(text: &[u8], separator: u8) -> Result<Interval, Expected> {
    let read = |text: &[u8]| match number(text) {
        Some(n) => u16::try_from(n).ok().map(u128::from),
        None => service(text).map(u128::from),
    };
    // names may hold a hyphen, which also separates ports
    if let Some(port) = service(text) {
        return Ok(Interval::single(port.into()));
    }
    range_by(text, separator, 65535, read).ok_or("a port from 0 to 65535 or a range, low first")
}

fn service(text: &[u8]) -> Option<u16> {
    SERVICES.iter().find(|(name, _)| name.as_bytes() == text).map(|(_, port)| *port)
}

/// Service names people write in rule files, with the number every `/etc/services` gives them.
const SERVICES: &[(&str, u16)] = &[
    ("ftp-data", 20),
    ("ftp", 21),
    ("ssh", 22),
    ("telnet", 23),
    ("smtp", 25),
    ("domain", 53),
    ("bootps", 67),
    ("bootpc", 68),
    ("tftp", 69),
    ("http", 80),
    ("www", 80),
    ("kerberos", 88),
    ("pop3", 110),
    ("sunrpc", 111),
    ("auth", 113),
    ("ntp", 123),
    ("netbios-ns", 137),
    ("netbios-dgm", 138),
    ("netbios-ssn", 139),
    ("imap2", 143),
    ("imap", 143),
    ("snmp", 161),
    ("snmp-trap", 162),
    ("bgp", 179),
    ("ldap", 389),
    ("https", 443),
    ("microsoft-ds", 445),
    ("isakmp", 500),
    ("syslog", 514),
    ("dhcpv6-client", 546),
    ("dhcpv6-server", 547),
    ("submission", 587),
    ("ldaps", 636),
    ("imaps", 993),
    ("pop3s", 995),
    ("openvpn", 1194),
    ("nfs", 2049),
    ("mysql", 3306),
    ("postgresql", 5432),
    ("mdns", 5353),
];

/// An address and its mask, as numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Masked {
    /// The address, host bits cleared.
    pub(crate) value: u128,
    /// Ones where the packet's address must agree.
    pub(crate) mask: u128,
}

/// All ones in the width of `family`'s addresses.
pub(crate) fn all_ones(family: Family) -> u128 {
    if family == Family::Ipv4 { u128::from(u32::MAX) } else { u128::MAX }
}

/// A literal address of `family` as a number.
pub(crate) fn address(text: &[u8], family: Family) -> Result<u128, Expected> {
    let parsed: Option<IpAddr> = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    match parsed {
        Some(address) if Family::of(address) == family => Ok(address_bits(address)),
        _ if family == Family::Ipv4 => Err("an IPv4 address (names are not resolved)"),
        _ => Err("an IPv6 address (names are not resolved)"),
    }
}

/// `address`, `address/length` or `address/netmask`; missing octets of IPv4 are zero, as in `10/8`.
pub(crate) fn masked_address(text: &[u8], family: Family) -> Result<Masked, Expected> {
    let ones = all_ones(family);
    let Some((host, mask)) = split_once(text, b'/') else {
        return Ok(Masked { value: address(text, family)?, mask: ones });
    };
    let value = match short_ipv4(host) {
        Some(value) if family == Family::Ipv4 => value,
        _ => address(host, family)?,
    };
    let width: u64 = if family == Family::Ipv4 { 32 } else { 128 };
    let mask = match number(mask) {
        Some(length) if length <= width && mask.iter().all(u8::is_ascii_digit) => {
            let zeros = u32::try_from(width - length).unwrap_or(128);
            ones & u128::MAX.checked_shl(zeros).unwrap_or(0)
        }
        _ => address(mask, family).map_err(|_| "a prefix length or a netmask after the slash")?,
    };
    Ok(Masked { value: value & mask, mask })
}

fn short_ipv4(text: &[u8]) -> Option<u128> {
    let text = std::str::from_utf8(text).ok()?;
    let mut octets = [0u8; 4];
    let mut slots = octets.iter_mut();
    for part in text.split('.') {
        *slots.next()? = part.parse().ok()?;
    }
    Some(u128::from(u32::from(Ipv4Addr::from(octets))))
}

/// The condition that `field` (as wide as `family`'s addresses) agrees with `wanted`; `None` when that always holds.
pub(crate) fn address_match(field: Field, wanted: Masked, negate: bool, family: Family) -> Option<Match> {
    let ones = all_ones(family);
    let free = ones & !wanted.mask;
    if free == ones && !negate {
        return None;
    }
    if free & free.wrapping_add(1) == 0 {
        return Some(interval_match(field, Interval { low: wanted.value, high: wanted.value | free }, negate));
    }
    let left = Expr::And(Box::new(Expr::Field(field)), Box::new(Expr::Number(wanted.mask)));
    Some(compare(left, negate, wanted.value))
}

/// The condition that `field` lies in `interval`: a comparison for one value, else a look-up.
pub(crate) fn interval_match(field: Field, interval: Interval, negate: bool) -> Match {
    if interval.low == interval.high {
        return compare(Expr::Field(field), negate, interval.low);
    }
    Match::within(field, negate, [interval])
}

/// `left == value`, or `!=`.
pub(crate) fn compare(left: Expr, negate: bool, value: u128) -> Match {
    let operator = if negate { Operator::Ne } else { Operator::Eq };
    Match::Compare { left, operator, right: Expr::Number(value) }
}

/// `field & mask == value`, without the mask when it is all ones in `width` bits.
pub(crate) fn masked_compare(field: Field, value: u128, mask: u128, full: u128, negate: bool) -> Match {
    let field = Expr::Field(field);
    let left = if mask == full { field } else { Expr::And(Box::new(field), Box::new(Expr::Number(mask))) };
    compare(left, negate, value)
}

/// `low-high` or one address.
pub(crate) fn address_range(text: &[u8], family: Family) -> Result<Interval, Expected> {
    let (low, high) = split_once(text, b'-').unwrap_or((text, text));
    let range = Interval { low: address(low, family)?, high: address(high, family)? };
    if range.low <= range.high { Ok(range) } else { Err("a range of addresses, low first") }
}

/// A hardware address.
pub(crate) fn mac(text: &[u8]) -> Result<u128, Expected> {
    const EXPECTED: Expected = "a hardware address such as 00:11:22:33:44:55";
    let mut value = 0;
    let mut count = 0;
    for part in text.split(|byte| *byte == b':').take(7) {
        let part = std::str::from_utf8(part).ok().filter(|part| (1..=2).contains(&part.len())).ok_or(EXPECTED)?;
        value = value << 8 | u128::from(u8::from_str_radix(part, 16).map_err(|_| EXPECTED)?);
        count += 1;
    }
    if count == 6 { Ok(value) } else { Err(EXPECTED) }
}

/// Type and codes of an ICMP option: `8`, `3/1`, or a name. No codes means any.
pub(crate) fn icmp(text: &[u8], names: &[IcmpName]) -> Result<(u8, Option<u8>), Expected> {
    let byte = |text: &[u8]| number(text).and_then(|n| u8::try_from(n).ok());
    if let Some((kind, code)) = split_once(text, b'/')
        && let (Some(kind), Some(code)) = (byte(kind), byte(code))
    {
        return Ok((kind, Some(code)));
    }
    if let Some(kind) = byte(text) {
        return Ok((kind, None));
    }
    let mut matching = names.iter().filter(|known| known.0.as_bytes().eq_ignore_ascii_case(text));
    matching.next().map(|known| (known.1, known.2)).ok_or("an ICMP type (a number, type/code, or a name)")
}

/// Name, type, code.
pub(crate) type IcmpName = (&'static str, u8, Option<u8>);

/// Names of `--icmp-type`.
pub(crate) const ICMP_NAMES: &[IcmpName] = &[
    ("echo-reply", 0, None),
    ("pong", 0, None),
    ("destination-unreachable", 3, None),
    ("network-unreachable", 3, Some(0)),
    ("host-unreachable", 3, Some(1)),
    ("protocol-unreachable", 3, Some(2)),
    ("port-unreachable", 3, Some(3)),
    ("fragmentation-needed", 3, Some(4)),
    ("source-route-failed", 3, Some(5)),
    ("network-unknown", 3, Some(6)),
    ("host-unknown", 3, Some(7)),
    ("network-prohibited", 3, Some(9)),
    ("host-prohibited", 3, Some(10)),
    ("TOS-network-unreachable", 3, Some(11)),
    ("TOS-host-unreachable", 3, Some(12)),
    ("communication-prohibited", 3, Some(13)),
    ("host-precedence-violation", 3, Some(14)),
    ("precedence-cutoff", 3, Some(15)),
    ("source-quench", 4, None),
    ("redirect", 5, None),
    ("network-redirect", 5, Some(0)),
    ("host-redirect", 5, Some(1)),
    ("TOS-network-redirect", 5, Some(2)),
    ("TOS-host-redirect", 5, Some(3)),
    ("echo-request", 8, None),
    ("ping", 8, None),
    ("router-advertisement", 9, None),
    ("router-solicitation", 10, None),
    ("time-exceeded", 11, None),
    ("ttl-exceeded", 11, None),
    ("ttl-zero-during-transit", 11, Some(0)),
    ("ttl-zero-during-reassembly", 11, Some(1)),
    ("parameter-problem", 12, None),
    ("ip-header-bad", 12, Some(0)),
    ("required-option-missing", 12, Some(1)),
    ("timestamp-request", 13, None),
    ("timestamp-reply", 14, None),
    ("address-mask-request", 17, None),
    ("address-mask-reply", 18, None),
];

/// Names of `--icmpv6-type`.
pub(crate) const ICMPV6_NAMES: &[IcmpName] = &[
    ("destination-unreachable", 1, None),
    ("no-route", 1, Some(0)),
    ("communication-prohibited", 1, Some(1)),
    ("beyond-scope", 1, Some(2)),
    ("address-unreachable", 1, Some(3)),
    ("port-unreachable", 1, Some(4)),
    ("failed-policy", 1, Some(5)),
    ("reject-route", 1, Some(6)),
    ("packet-too-big", 2, None),
    ("time-exceeded", 3, None),
    ("ttl-exceeded", 3, None),
    ("ttl-zero-during-transit", 3, Some(0)),
    ("ttl-zero-during-reassembly", 3, Some(1)),
    ("parameter-problem", 4, None),
    ("bad-header", 4, Some(0)),
    ("unknown-header-type", 4, Some(1)),
    ("unknown-option", 4, Some(2)),
    ("echo-request", 128, None),
    ("ping", 128, None),
    ("echo-reply", 129, None),
    ("pong", 129, None),
    ("router-solicitation", 133, None),
    ("router-advertisement", 134, None),
    ("neighbour-solicitation", 135, None),
    ("neighbor-solicitation", 135, None),
    ("neighbour-advertisement", 136, None),
    ("neighbor-advertisement", 136, None),
    ("redirect", 137, None),
    ("mld-listener-query", 130, None),
    ("mld-listener-report", 131, None),
    ("mld-listener-done", 132, None),
    ("mld-listener-reduction", 132, None),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_bases_and_no_sign() {
        assert_eq!(number(b"10"), Some(10));
        assert_eq!(number(b"0x10"), Some(16));
        assert_eq!(number(b"010"), Some(8));
        assert_eq!(number(b"0"), Some(0));
        for bad in [&b"-1"[..], b"+1", b"0x", b"", b"1x", b"0x+1", b"99999999999999999999"] {
            assert_eq!(number(bad), None, "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn addresses_with_every_kind_of_mask() {
        let v4 = |text: &[u8]| masked_address(text, Family::Ipv4).map(|masked| (masked.value, masked.mask));
        assert_eq!(v4(b"10/8"), Ok((0x0a00_0000, 0xff00_0000)));
        assert_eq!(v4(b"0/0"), Ok((0, 0)));
        assert_eq!(v4(b"10.1.2.3/255.0.255.0"), Ok((0x0a00_0200, 0xff00_ff00)));
        assert_eq!(v4(b"10.1.2.3"), Ok((0x0a01_0203, 0xffff_ffff)));
        for bad in [&b"10.0.0.0/33"[..], b"host.example", b"::1", b"10.0.0.0/", b"1.2.3.4.5/8", b"10.0.0.0/-1"] {
            assert!(v4(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
        let v6 = |text: &[u8]| masked_address(text, Family::Ipv6).map(|masked| masked.mask);
        assert_eq!(v6(b"fd00::/8"), Ok(0xff << 120));
        assert_eq!(v6(b"::/0"), Ok(0));
        assert_eq!(v6(b"::1/::ffff"), Ok(0xffff));
    }

    #[test]
    fn ranges_may_be_open_but_not_upside_down() {
        assert_eq!(ports(b":1024", b':'), Ok(Interval { low: 0, high: 1024 }));
        assert_eq!(ports(b"1024:", b':'), Ok(Interval { low: 1024, high: 65535 }));
        assert_eq!(ports(b"ssh", b':'), Ok(Interval::single(22)));
        for bad in [&b"2:1"[..], b"65536", b"x", b"-1", b"1:2:3"] {
            assert!(ports(bad, b':').is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn icmp_names_and_codes() {
        assert_eq!(icmp(b"echo-request", ICMP_NAMES), Ok((8, None)));
        assert_eq!(icmp(b"3/1", ICMP_NAMES), Ok((3, Some(1))));
        assert_eq!(icmp(b"port-unreachable", ICMPV6_NAMES), Ok((1, Some(4))));
        assert!(icmp(b"256", ICMP_NAMES).is_err() && icmp(b"3/", ICMP_NAMES).is_err());
    }
}
