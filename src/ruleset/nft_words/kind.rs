//! Kinds of values: how nft writes them and which number they are.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use chrono::{DateTime, NaiveDateTime};

use super::names::{self, Names};
use crate::packet::{InterfacePattern, Protocol, address_bits};
use crate::ruleset::{Interval, interface_interval, interface_number};

/// What kind of value a key holds. Numbers are as a person reads them, whatever the byte order in the kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// IPv4 address.
    Ipv4,
    /// IPv6 address.
    Ipv6,
    /// Link-layer address, 48 bits.
    Ether,
    /// IP protocol by name or number.
    Protocol,
    /// TCP or UDP port.
    Port,
    /// Interface name, quoted, with wildcards; see [`interface_number`].
    Interface,
    /// Interface index; listings print the name it has now, or the bare index of an interface that is gone.
    Index,
    /// Mark, printed as eight hexadecimal digits.
    Mark,
    /// Plain number of so many bits.
    Integer(u32),
    /// Number of 32 bits for which a file of the host may hold a name (users, groups, realms): listings print the name.
    HostName,
    /// Plain number of so many bits, printed hexadecimal.
    Hex(u32),
    /// Named numbers.
    Names(&'static Names),
    /// Text of up to 16 bytes, padded with zeros and read big-endian like interface names.
    Text,
    /// Day of the week, Sunday is 0.
    Day,
    /// Seconds since midnight in the lister's time zone.
    Hour,
    /// Seconds since 1970 on the lister's clock (its time zone is not in the listing).
    Time,
    /// Seconds.
    Seconds,
    /// `major:minor` in hexadecimal.
    TcHandle,
    /// A conntrack label by bit number; the value is the bit.
    Label,
}

impl Kind {
    /// Width in bits.
    pub(crate) fn bits(self) -> u32 {
        match self {
            Self::Ipv4 | Self::Mark | Self::TcHandle | Self::HostName => 32,
            Self::Ether => 48,
            Self::Protocol | Self::Day => 8,
            Self::Port => 16,
            Self::Integer(bits) | Self::Hex(bits) => bits.clamp(1, 128),
            Self::Names(names) => names.bits,
            Self::Hour | Self::Seconds => 32,
            Self::Time => 64,
            Self::Ipv6 | Self::Interface | Self::Index | Self::Text | Self::Label => 128,
        }
    }

    /// The largest value.
    pub(crate) fn max(self) -> u128 {
        u128::MAX >> (128 - self.bits())
    }

    /// Whether values are sets of named bits.
    pub(crate) fn is_flags(self) -> bool {
        matches!(self, Self::Names(names) if names.flags)
    }

    /// A number of the listing as a value.
    pub(crate) fn number_value(self, number: u128) -> Option<u128> {
        match self {
            Self::Label => u32::try_from(number).ok().and_then(|bit| 1u128.checked_shl(bit)),
            _ => (number <= self.max()).then_some(number),
        }
    }

    /// A word of the listing as a value or, for interface wildcards, many.
    pub(crate) fn parse(self, text: &str) -> Option<Interval> {
        if let Self::Interface = self {
            return (text.len() <= 17).then(|| interface_interval(&InterfacePattern::from_nft(text)));
        }
        self.parse_one(text).map(Interval::single)
    }

    fn parse_one(self, text: &str) -> Option<u128> {
        let named = match self {
            // masks may be written as numbers
            Self::Ipv4 => text.parse::<Ipv4Addr>().ok().map(|a| u128::from(u32::from(a))),
            Self::Ipv6 => return text.parse::<Ipv6Addr>().ok().map(u128::from),
            Self::Ether => return parse_ether(text),
            Self::Index if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
            Self::Text | Self::Interface | Self::Index => {
                return (text.len() <= 16).then(|| interface_number(text.as_bytes()));
            }
            // nft's own word for ipcomp
            Self::Protocol if text == "comp" => Some(108),
            Self::Protocol => text.parse::<Protocol>().ok().map(|p| u128::from(p.0)),
            Self::Port => names::SERVICES.number(text),
            Self::Names(names) => names.number(text),
            Self::Day => DAYS.iter().position(|day| day.eq_ignore_ascii_case(text)).map(|day| day as u128),
            Self::Hour => parse_hour(text),
            Self::Time => parse_time(text),
            Self::TcHandle => parse_handle(text),
            Self::Seconds => parse_duration(text),
            Self::Mark | Self::Integer(_) | Self::Hex(_) | Self::Label | Self::HostName => None,
        };
        named.or_else(|| parse_number(text).and_then(|number| self.number_value(number)))
    }

    /// The value as nft writes it.
    pub(crate) fn print(self, value: u128) -> String {
        let low32 = |value: u128| u32::try_from(value & u128::from(u32::MAX)).unwrap_or(0);
        match self {
            Self::Ipv4 => Ipv4Addr::from(low32(value)).to_string(),
            Self::Ipv6 => Ipv6Addr::from(value).to_string(),
            Self::Ether => {
                let bytes = value.to_be_bytes();
                let mut text = String::with_capacity(17);
                for (index, byte) in bytes.iter().skip(10).enumerate() {
                    let colon = if index == 0 { "" } else { ":" };
                    let _ = write!(text, "{colon}{byte:02x}");
                }
                text
            }
            Self::Protocol => u8::try_from(value).map_or_else(|_| value.to_string(), |p| Protocol(p).to_string()),
            Self::Index if value <= u128::from(u32::MAX) => value.to_string(),
            Self::Interface | Self::Index => print_interface(Interval::single(value)),
            Self::Text => format!("\"{}\"", number_text(value)),
            Self::Mark => format!("0x{value:08x}"),
            Self::Hex(_) => format!("{value:#x}"),
            // older versions print these names and take only numbers
            Self::Names(names) if std::ptr::eq(names, &raw const names::MPTCP_SUBTYPE) => value.to_string(),
            Self::Names(names) => print_name(names, value),
            Self::Day => match usize::try_from(value).ok().and_then(|day| DAYS.get(day)) {
                Some(day) => format!("\"{day}\""),
                None => value.to_string(),
            },
            Self::Hour => {
                let (hours, minutes, seconds) = (value / 3600, value / 60 % 60, value % 60);
                if seconds == 0 {
                    format!("\"{hours:02}:{minutes:02}\"")
                } else {
                    format!("\"{hours:02}:{minutes:02}:{seconds:02}\"")
                }
            }
            Self::Time => match i64::try_from(value).ok().and_then(|s| DateTime::from_timestamp(s, 0)) {
                Some(time) => format!("\"{}\"", time.format("%Y-%m-%d %H:%M:%S")),
                None => value.to_string(),
            },
            Self::Seconds => print_duration(value),
            Self::TcHandle => print_handle(value),
            Self::Label => value.trailing_zeros().to_string(),
            Self::Port | Self::Integer(_) | Self::HostName => value.to_string(),
        }
    }

    /// The values `low..=high` as nft writes them: one value, a prefix, a wildcard or a range.
    pub(crate) fn print_interval(self, interval: Interval) -> String {
        if let Self::Interface = self {
            return print_interface(interval);
        }
        if interval.low == interval.high {
            return self.print(interval.low);
        }
        if matches!(self, Self::Ipv4 | Self::Ipv6)
            && let Some(length) = prefix_length(interval, self.bits())
        {
            return format!("{}/{length}", self.print(interval.low));
        }
        let ends = match self {
            // names have dashes of their own
            Self::Protocol => Self::Integer(8),
            Self::Names(names) if names.hex => Self::Hex(names.bits),
            Self::Names(names) => Self::Integer(names.bits),
            other => other,
        };
        format!("{}-{}", ends.print(interval.low), ends.print(interval.high))
    }

    /// Whether files of the host may name values: a name in a listing stands for a number nobody else knows.
    pub(crate) fn named_by_host(self) -> bool {
        match self {
            Self::HostName | Self::Mark => true,
            Self::Names(names) => std::ptr::eq(names, &raw const names::DEVICE_GROUP),
            _ => false,
        }
    }
}

const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// A number as listings write it: decimal, or hexadecimal with `0x`.
pub(crate) fn parse_number(text: &str) -> Option<u128> {
    match text.strip_prefix("0x") {
        Some(hex) => u128::from_str_radix(hex, 16).ok(),
        None if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
        None => None,
    }
}

/// Length of the prefix that is exactly this interval of a value `bits` wide.
pub(crate) fn prefix_length(interval: Interval, bits: u32) -> Option<u32> {
    let span = interval.high ^ interval.low;
    let free = 128 - span.leading_zeros();
    let aligned = span.checked_add(1).is_none_or(u128::is_power_of_two) && interval.low & span == 0;
    (aligned && free <= bits).then(|| bits - free)
}

/// All values of `address/length` in a kind of `bits` width.
pub(crate) fn prefix_interval(low: u128, length: u32, bits: u32) -> Option<Interval> {
    let free = bits.checked_sub(length)?;
    let span = u128::MAX.checked_shr(128 - free).unwrap_or(0);
    Some(Interval { low: low & !span, high: low | span })
}

fn parse_ether(text: &str) -> Option<u128> {
    let mut value = 0u128;
    let mut parts = 0;
    for part in text.split(':') {
        if part.is_empty() || part.len() > 2 {
            return None;
        }
        value = value << 8 | u128::from(u8::from_str_radix(part, 16).ok()?);
        parts += 1;
        if parts > 6 {
            return None;
        }
    }
    (parts == 6).then_some(value)
}

fn parse_hour(text: &str) -> Option<u128> {
    let mut parts = text.split(':').map(|part| part.parse::<u32>().ok());
    let (hours, minutes) = (parts.next()??, parts.next()??);
    let seconds = parts.next().unwrap_or(Some(0))?;
    (hours < 24 && minutes < 60 && seconds < 60 && parts.next().is_none())
        .then(|| u128::from(hours * 3600 + minutes * 60 + seconds))
}

/// `1d2h3m4s`; parts of a second are dropped.
fn parse_duration(text: &str) -> Option<u128> {
    let (mut total, mut rest) = (0u128, text);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at_checked(digits)?;
        let number: u128 = number.parse().ok()?;
        let end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at_checked(end)?;
        let seconds = match unit {
            "w" => number.checked_mul(604_800)?,
            "d" => number.checked_mul(86_400)?,
            "h" => number.checked_mul(3600)?,
            "m" => number.checked_mul(60)?,
            "s" => number,
            "ms" => number / 1000,
            _ => return None,
        };
        total = total.checked_add(seconds)?;
        rest = tail;
    }
    (!text.is_empty()).then_some(total)
}

fn parse_time(text: &str) -> Option<u128> {
    let time = NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S").ok()?;
    u128::try_from(time.and_utc().timestamp()).ok()
}

fn parse_handle(text: &str) -> Option<u128> {
    match text {
        "none" => return Some(0),
        "root" => return Some(0xffff_ffff),
        _ => {}
    }
    let (major, minor) = text.split_once(':')?;
    let part = |text: &str| if text.is_empty() { Some(0) } else { u16::from_str_radix(text, 16).ok() };
    Some(u128::from(part(major)?) << 16 | u128::from(part(minor)?))
}

fn print_handle(value: u128) -> String {
    match value {
        0 => "none".into(),
        0xffff_ffff => "root".into(),
        _ => format!("{:x}:{:x}", value >> 16, value & 0xffff),
    }
}

fn print_name(names: &Names, value: u128) -> String {
    if let Some(name) = names.name(value) {
        return if names.quoted { format!("\"{name}\"") } else { name.to_owned() };
    }
    if names.flags {
        let mut left = value;
        let mut words: Vec<&str> = Vec::new();
        for (bit, name) in names.list {
            if left & bit != 0 {
                words.push(name);
                left &= !bit;
            }
        }
        if left == 0 && !words.is_empty() {
            return words.join(",");
        }
    }
    if names.hex { format!("{value:#x}") } else { value.to_string() }
}

/// Seconds as nft writes a time span (`1d2h3m4s`).
pub(crate) fn print_duration(seconds: u128) -> String {
    let mut text = String::new();
    for (unit, size) in [("d", 86_400), ("h", 3600), ("m", 60)] {
        let count = seconds / size
            % if unit == "d" {
                u128::MAX
            } else if unit == "h" {
                24
            } else {
                60
            };
        if count > 0 {
            let _ = write!(text, "{count}{unit}");
        }
    }
    if !seconds.is_multiple_of(60) || text.is_empty() {
        let _ = write!(text, "{}s", seconds % 60);
    }
    text
}

/// The text whose bytes are the number, as far as they are not padding.
fn number_text(value: u128) -> String {
    let bytes = value.to_be_bytes();
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}

fn print_interface(interval: Interval) -> String {
    if interval.low == interval.high {
        let name = number_text(interval.low);
        return match name.strip_suffix('*') {
            Some(literal) => format!("\"{literal}\\*\""),
            None => format!("\"{name}\""),
        };
    }
    match prefix_length(interval, 128) {
        Some(length) if length % 8 == 0 => {
            let keep = interval.low.to_be_bytes();
            let keep = keep.get(..usize::try_from(length / 8).unwrap_or(0)).unwrap_or_default();
            format!("\"{}*\"", String::from_utf8_lossy(keep))
        }
        _ => format!("\"{}\"-\"{}\"", number_text(interval.low), number_text(interval.high)),
    }
}

/// The number and kind of an address.
pub(crate) fn parse_address(text: &str) -> Option<(u128, Kind)> {
    let address: IpAddr = text.parse().ok()?;
    Some((address_bits(address), if address.is_ipv4() { Kind::Ipv4 } else { Kind::Ipv6 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_the_numbers_people_read() {
        for (kind, text, value) in [
            (Kind::Names(&names::CT_STATE), "established", 2),
            (Kind::Names(&names::ICMP_TYPE), "echo-request", 8),
            (Kind::Names(&names::ICMP6_TYPE), "nd-neighbor-solicit", 135),
            (Kind::Names(&names::DSCP), "0x3f", 63),
            (Kind::Protocol, "ipv6-icmp", 58),
            (Kind::Protocol, "comp", 108),
            (Kind::Ipv4, "0xff", 255),
            (Kind::Seconds, "4d23h59m59s", 431_999),
            (Kind::Seconds, "30000ms", 30),
            (Kind::Port, "https", 443),
            (Kind::TcHandle, "1:2", 0x10002),
            (Kind::Hour, "17:30", 63_000),
            (Kind::Day, "Monday", 1),
            (Kind::Time, "2030-01-01 00:00:00", 1_893_456_000),
            (Kind::Ether, "00:11:22:33:44:55", 0x0011_2233_4455),
        ] {
            assert_eq!(kind.parse(text), Some(Interval::single(value)), "{text}");
        }
        assert_eq!(Kind::Port.parse("65536"), None);
        assert_eq!(Kind::Integer(8).parse("256"), None);
        assert_eq!(Kind::Ipv4.parse("1.2.3"), None);
        assert_eq!(Kind::Label.number_value(128), None);
    }

    #[test]
    fn intervals_print_as_nft_lists_them() {
        let show = |kind: Kind, text: &str| kind.print_interval(kind.parse(text).expect("parses"));
        assert_eq!(show(Kind::Interface, "cali*"), "\"cali*\"");
        assert_eq!(show(Kind::Interface, "eth\\*"), "\"eth\\*\"");
        assert_eq!(show(Kind::Interface, "averylongifname"), "\"averylongifname\"");
        assert_eq!(Kind::Ipv4.print_interval(Interval { low: 0x0a00_0000, high: 0x0aff_ffff }), "10.0.0.0/8");
        assert_eq!(Kind::Ipv4.print_interval(Interval { low: 0, high: 0xffff_ffff }), "0.0.0.0/0");
        assert_eq!(Kind::Ipv6.print_interval(Interval { low: 0, high: u128::MAX }), "::/0");
        assert_eq!(Kind::Ipv4.print_interval(Interval { low: 1, high: 2 }), "0.0.0.1-0.0.0.2");
        assert_eq!(print_duration(172_799), "1d23h59m59s");
        assert_eq!(prefix_interval(0x0a00_0000, 0, 32), Some(Interval { low: 0, high: 0xffff_ffff }));
    }
}
