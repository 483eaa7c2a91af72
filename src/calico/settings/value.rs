//! What the values of Felix's parameters look like, read as Go reads them.

use std::net::IpAddr;

use super::ports::{self, Entry};
use crate::packet::Prefix;

/// Type of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true`, `1`, `yes`, `y`, `t` and their opposites, any case.
    Bool,
    /// A whole number, decimal, hexadecimal, octal or binary.
    Int,
    /// A whole number between two bounds.
    IntIn(i64, i64),
    /// One of these words, any case; the spelling here is the one used afterwards.
    OneOf(&'static str),
    /// Seconds, with a fraction.
    Seconds,
    /// Milliseconds, with a fraction.
    Millis,
    /// 32 bits, at least two of them set.
    Mask,
    /// A failsafe list.
    PortList,
    /// Interface name prefixes, separated by commas.
    InterfaceList,
    /// Interface names or `/patterns/`, separated by commas.
    InterfacePatterns,
    /// One interface name.
    InterfaceName,
    /// A host name.
    Hostname,
    /// A host name or an address.
    HostAddress,
    /// `N/second` and the like.
    LogRate,
    /// `host:port`.
    Authority,
    /// IPv4 addresses and nets, separated by commas.
    Ipv4List,
    /// An IPv4 address.
    Ipv4,
    /// An IPv6 address.
    Ipv6,
    /// One line of text.
    Text,
    /// A form that is not checked here (patterns, key-value lists, files that must exist).
    Unchecked,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A duration in seconds.
    Seconds(f64),
    /// Mark bits.
    Mask(u32),
    /// A failsafe list.
    Entries(Vec<Entry>),
    /// Anything else, as text.
    Text(Box<str>),
    /// No value: neither a default nor a setting.
    Unset,
}

/// Why a value does not parse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueError {
    /// Felix says no: what was expected.
    Refused(String),
    /// Felix crashes on it.
    Panics(String),
}

impl ValueError {
    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Refused(text) | Self::Panics(text) => text,
        }
    }
}

/// `raw` as a value of `kind`. The empty value and `none` are the caller's business.
///
/// # Errors
/// What was expected.
pub fn parse(kind: Kind, raw: &str) -> Result<Value, ValueError> {
    let found = ports::shortened(raw);
    let refused = |expected: &str| Err(ValueError::Refused(format!("expected {expected}, found {found:?}")));
    let text = || Ok(Value::Text(raw.into()));
    let checked = |good: bool, expected: &str| if good { text() } else { refused(expected) };
    match kind {
        Kind::Bool => match raw.to_lowercase().as_str() {
            "true" | "1" | "yes" | "y" | "t" => Ok(Value::Bool(true)),
            "false" | "0" | "no" | "n" | "f" => Ok(Value::Bool(false)),
            _ => refused("true or false"),
        },
        Kind::Int => int(raw).map_or_else(|| refused("a whole number"), |number| Ok(Value::Int(number))),
        Kind::IntIn(low, high) => match int(raw) {
            Some(number) if (low..=high).contains(&number) => Ok(Value::Int(number)),
            _ if high == i64::MAX => refused(&format!("a whole number of at least {low}")),
            _ => refused(&format!("a whole number from {low} to {high}")),
        },
        Kind::OneOf(words) => {
            let known = words.split(' ').find(|word| word.to_lowercase() == raw.to_lowercase());
            known.map_or_else(
                || refused(&format!("one of {}", words.replace(' ', ", "))),
                |word| Ok(Value::Text(word.into())),
            )
        }
        Kind::Seconds => duration(raw, 1.0).map_or_else(|| refused("seconds, as in 90 or 0.5"), Ok),
        Kind::Millis => duration(raw, 1000.0).map_or_else(|| refused("milliseconds, as in 50"), Ok),
        Kind::Mask => match unsigned(raw).and_then(|bits| u32::try_from(bits).ok()) {
            Some(bits) if bits.count_ones() >= 2 => Ok(Value::Mask(bits)),
            Some(_) => refused("a mask with at least two bits set"),
            None => refused("32 mark bits, as in 0xffff0000"),
        },
        Kind::PortList => match ports::parse_list(raw) {
            Ok(entries) => Ok(Value::Entries(entries)),
            Err(error) if error.panics() => Err(ValueError::Panics(error.to_string())),
            Err(error) => Err(ValueError::Refused(error.to_string())),
        },
        Kind::InterfaceList => checked(raw.split(',').all(|name| word(name, "_-", 15)), "interface name prefixes"),
        Kind::InterfacePatterns => {
            let good = |part: &str| word(part, "_-", 15) || is_pattern(part);
            checked(raw.split(',').all(good), "interface names or /patterns/")
        }
        Kind::InterfaceName => checked(word(raw, ":._+-", 15), "an interface name"),
        Kind::Hostname => checked(word(raw, "_.-", usize::MAX), "a host name"),
        Kind::HostAddress => checked(word(raw, ":._+-", 64), "a host name or an address"),
        Kind::LogRate => checked(is_log_rate(raw), "N/second, N/minute, N/hour or N/day, N from 1 to 9999"),
        Kind::Authority => checked(is_authority(raw), "host:port"),
        Kind::Ipv4List => {
            let good = |part: &str| part.is_empty() || ports::parse_net(part).is_some_and(Prefix::is_ipv4);
            checked(raw.split(',').map(|part| part.trim_matches(' ')).all(good), "IPv4 addresses or nets")
        }
        Kind::Ipv4 => checked(address(raw).is_some_and(|a| a.is_ipv4()), "an IPv4 address"),
        Kind::Ipv6 => checked(address(raw).is_some_and(|a| a.is_ipv6()), "an IPv6 address"),
        Kind::Text => checked(!raw.contains('\n'), "one line"),
        Kind::Unchecked => text(),
    }
}

/// What `none` means for `kind`: its zero.
#[must_use]
pub fn zero(kind: Kind) -> Value {
    match kind {
        Kind::Bool => Value::Bool(false),
        Kind::Int | Kind::IntIn(..) => Value::Int(0),
        Kind::Seconds | Kind::Millis => Value::Seconds(0.0),
        Kind::Mask => Value::Mask(0),
        Kind::PortList => Value::Entries(Vec::new()),
        _ => Value::Text("".into()),
    }
}

fn address(raw: &str) -> Option<IpAddr> {
    raw.parse().ok().map(|address: IpAddr| address.to_canonical())
}

fn word(text: &str, extra: &str, longest: usize) -> bool {
    (1..=longest).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || extra.contains(c))
}

fn is_pattern(text: &str) -> bool {
    text.len() > 2 && text.starts_with('/') && text.ends_with('/') && !text.contains(['\t', '\n', '\x0c', '\r', ' '])
}

fn is_log_rate(text: &str) -> bool {
    let Some((number, unit)) = text.split_once('/') else { return text.is_empty() };
    matches!(unit, "second" | "minute" | "hour" | "day")
        && (1..=4).contains(&number.len())
        && !number.starts_with('0')
        && number.bytes().all(|b| b.is_ascii_digit())
}

fn is_authority(text: &str) -> bool {
    text.split_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains('/') && !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit())
    })
}

/// Go's `Atoi`: an optional sign and decimal digits.
#[must_use]
pub fn atoi(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// Go's `ParseInt` with base 0: a sign, then [`unsigned`].
fn int(text: &str) -> Option<i64> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    let number = i128::from(unsigned(digits)?);
    i64::try_from(if negative { -number } else { number }).ok()
}

/// Go's `ParseUint` with base 0: reads the prefix (`0x`, `0b`, `0o`, `0`) and allows single underscores between digits.
fn unsigned(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let (digits, base, prefixed) = match lower.get(..2) {
        Some("0x") => (lower.get(2..)?, 16, true),
        Some("0b") => (lower.get(2..)?, 2, true),
        Some("0o") => (lower.get(2..)?, 8, true),
        _ if lower.starts_with('0') && lower.len() > 1 => (lower.get(1..)?, 8, true),
        _ => (lower.as_str(), 10, false),
    };
    let mut after_digit = prefixed;
    for c in digits.chars() {
        if !c.is_digit(base) && (c != '_' || !after_digit) {
            return None;
        }
        after_digit = c != '_';
    }
    if !after_digit || digits.is_empty() {
        return None;
    }
    u64::from_str_radix(&digits.replace('_', ""), base).ok()
}

/// Go's `ParseFloat`, in parts of a second. Hexadecimal floats are good for Felix but not read here.
fn duration(text: &str, parts: f64) -> Option<Value> {
    let lower = text.to_ascii_lowercase();
    if lower.contains("0x") && lower.contains('p') {
        return Some(Value::Text(text.into()));
    }
    let number: f64 = text.parse().ok()?;
    (number.is_finite() || lower.contains("inf") || lower.contains("nan")).then_some(Value::Seconds(number / parts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_truth_in_any_case() {
        for good in ["true", "YES", "1", "y", "T"] {
            assert_eq!(parse(Kind::Bool, good), Ok(Value::Bool(true)), "{good}");
        }
        for good in ["false", "No", "0", "n", "F"] {
            assert_eq!(parse(Kind::Bool, good), Ok(Value::Bool(false)), "{good}");
        }
        for bad in ["on", "off", "enabled", " true", "\"true\"", "2"] {
            assert!(parse(Kind::Bool, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_are_gos() {
        for (text, number) in [
            ("10", 10),
            ("-1", -1),
            ("+7", 7),
            ("0x10", 16),
            ("010", 8),
            ("0b11", 3),
            ("1_000", 1000),
            ("0x_f", 15),
            ("0", 0),
        ] {
            assert_eq!(parse(Kind::Int, text), Ok(Value::Int(number)), "{text}");
        }
        for bad in ["", "1.5", "08", "1__0", "_1", "1_", "0x", "ten", " 1", "99999999999999999999", "+-1"] {
            assert!(parse(Kind::Int, bad).is_err(), "{bad:?}");
        }
        assert_eq!(atoi("-0"), Some(0));
        assert_eq!(atoi("0x1"), None);
    }

    #[test]
    fn masks_need_two_bits() {
        assert_eq!(parse(Kind::Mask, "0xffff0000"), Ok(Value::Mask(0xffff_0000)));
        assert_eq!(parse(Kind::Mask, "4278190080"), Ok(Value::Mask(0xff00_0000)));
        for bad in ["1", "0", "0x1ffffffff", "-1", "+3", "ffff0000"] {
            assert!(parse(Kind::Mask, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn words_take_their_canonical_spelling() {
        let kind = Kind::OneOf("DROP RETURN ACCEPT");
        assert_eq!(parse(kind, "return"), Ok(Value::Text("RETURN".into())));
        let error = parse(kind, "deny").expect_err("not a word of the list");
        assert_eq!(error.text(), "expected one of DROP, RETURN, ACCEPT, found \"deny\"");
    }

    #[test]
    fn durations_lists_and_names() {
        assert_eq!(parse(Kind::Seconds, "0.5"), Ok(Value::Seconds(0.5)));
        assert_eq!(parse(Kind::Millis, "50"), Ok(Value::Seconds(0.05)));
        for bad in ["90s", "1e999", "", "1_0"] {
            assert!(parse(Kind::Seconds, bad).is_err(), "{bad:?}");
        }
        assert!(parse(Kind::InterfaceList, "cali,tap").is_ok());
        for bad in ["cali,", "cali, tap", "", "a-name-that-is-too-long"] {
            assert!(parse(Kind::InterfaceList, bad).is_err(), "{bad:?}");
        }
        assert!(parse(Kind::InterfacePatterns, "kube-ipvs0,/veth.*/").is_ok());
        assert!(parse(Kind::LogRate, "10/minute").is_ok() && parse(Kind::LogRate, "10000/minute").is_err());
        assert!(parse(Kind::Ipv4, "::ffff:10.0.0.1").is_ok() && parse(Kind::Ipv6, "10.0.0.1").is_err());
    }

    #[test]
    fn a_bracket_crash_is_told_apart_from_a_refusal() {
        assert!(matches!(parse(Kind::PortList, "[::1]"), Err(ValueError::Panics(_))));
        assert!(matches!(parse(Kind::PortList, "sctp:22"), Err(ValueError::Refused(_))));
    }
}
