//! Values in iptables' spelling.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::packet::{CtState, CtStatus, Family, TcpFlags};
use crate::ruleset::Interval;
use crate::ruleset::readers::iptables_save::values::all_ones;

/// A string as xtables' own printer quotes it: only letters, digits, `-` and `_` go without quotes.
pub(super) fn quoted(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if !text.is_empty() && text.bytes().all(plain) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\' | '\'') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

/// A chain's name, which goes without quotes; `None` when it would not read as one word.
pub(super) fn chain(name: &str) -> Option<&str> {
    let breaks = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\\' | '\'');
    (!name.is_empty() && !name.starts_with(['-', '!']) && !name.contains(breaks)).then_some(name)
}

/// An address.
pub(super) fn address(value: u128, family: Family) -> Option<String> {
    if family == Family::Ipv4 {
        return Some(Ipv4Addr::from(u32::try_from(value).ok()?).to_string());
    }
    Some(Ipv6Addr::from(value).to_string())
}

/// `address/length`, when the interval is a prefix.
pub(super) fn prefix(interval: Interval, family: Family) -> Option<String> {
    let free = interval.low ^ interval.high;
    if free & free.wrapping_add(1) != 0 || interval.low & free != 0 || interval.high > all_ones(family) {
        return None;
    }
    let length = all_ones(family).count_ones() - free.count_ones();
    Some(format!("{}/{length}", address(interval.low, family)?))
}

/// `low-high`.
pub(super) fn address_range(interval: Interval, family: Family) -> Option<String> {
    Some(format!("{}-{}", address(interval.low, family)?, address(interval.high, family)?))
}

/// `22` or `22:23`.
pub(super) fn range(interval: Interval, separator: char) -> String {
    if interval.low == interval.high {
        return interval.low.to_string();
    }
    format!("{}{separator}{}", interval.low, interval.high)
}

/// An interface's name or `prefix+`.
pub(super) fn interface(interval: Interval) -> Option<String> {
    let bytes = interval.low.to_be_bytes();
    let length = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let (name, rest) = bytes.split_at_checked(length)?;
    if rest.iter().any(|byte| *byte != 0) {
        return None;
    }
    let name = std::str::from_utf8(name).ok()?;
    if name.contains(|c: char| c.is_whitespace() || c == '"') || name == "!" {
        return None;
    }
    if interval.low == interval.high {
        // a plus at the end would be read as a wildcard
        let exact = !name.ends_with('+');
        return exact.then(|| if name.is_empty() { "\"\"".to_owned() } else { name.to_owned() });
    }
    let free = 128 - 8 * u32::try_from(length).ok()?;
    let span = u128::MAX.checked_shr(128 - free).unwrap_or(0);
    (interval.high == interval.low | span).then(|| format!("{name}+"))
}

/// `SYN,ACK`, `NONE`.
pub(super) fn tcp_flags(bits: u128) -> Option<String> {
    let flags = TcpFlags(u8::try_from(bits).ok()?);
    Some(flags.to_string().replace("ecn", "ece").to_ascii_uppercase())
}

/// States and virtual states, in the tool's order.
pub(super) fn states(state: u128, status: u128) -> Option<String> {
    let real = [CtState::INVALID, CtState::NEW, CtState::RELATED, CtState::ESTABLISHED, CtState::UNTRACKED];
    let mut names: Vec<String> = Vec::new();
    let mut known = 0;
    for one in real {
        known |= u128::from(one.0);
        if state & u128::from(one.0) != 0 {
            names.push(one.to_string().to_ascii_uppercase());
        }
    }
    for one in [CtStatus::SNAT, CtStatus::DNAT] {
        if status & u128::from(one.0) != 0 {
            names.push(one.to_string().to_ascii_uppercase());
        }
    }
    let virtual_states = u128::from(CtStatus::SNAT.0 | CtStatus::DNAT.0);
    (state & !known == 0 && status & !virtual_states == 0 && !names.is_empty()).then(|| names.join(","))
}

/// `ASSURED,CONFIRMED`, `NONE`.
pub(super) fn statuses(status: u128) -> Option<String> {
    let all = [CtStatus::EXPECTED, CtStatus::SEEN_REPLY, CtStatus::ASSURED, CtStatus::CONFIRMED];
    let known: u128 = all.iter().map(|one| u128::from(one.0)).sum();
    if status == 0 {
        return Some("NONE".into());
    }
    let names: Vec<String> = all
        .iter()
        .filter(|one| status & u128::from(one.0) != 0)
        .map(|one| one.to_string().replace('-', "_").to_ascii_uppercase())
        .collect();
    (status & !known == 0).then(|| names.join(","))
}

/// `00:11:22:33:44:55`.
pub(super) fn mac(value: u128) -> String {
    let bytes = value.to_be_bytes();
    let digits: Vec<String> = bytes.iter().skip(10).map(|byte| format!("{byte:02x}")).collect();
    digits.join(":")
}
