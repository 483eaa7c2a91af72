//! Felix's report lines: `INFO <nil> <nil>:  action="deny" dstIP="147.75.40.148" …`.
//!
//! An empty message with sixteen `key=value` pairs in byte order, strings quoted as Go does. The 2018 reporter knew fewer
//! keys; newer ones may know more. Keys are read by name, not by place.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};

use super::event::{Action, Direction};
use super::header::{decimal, is_level};
use super::usual;

/// Why a report line cannot be counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flaw {
    /// It ends too early: keys that every release writes are missing.
    Truncated,
    /// A value cannot be what its key says, or its quotes do not close.
    Value,
}

/// One report line as written.
#[derive(Clone, PartialEq, Debug)]
pub struct Flow<'a> {
    /// `action`.
    pub action: Action,
    /// `ruleDir`; the 2018 reporter does not write it.
    pub direction: Option<Direction>,
    /// `proto`, an IP protocol number (for IPv6 the first next header).
    pub proto: Option<u8>,
    /// `srcIP`.
    pub src_ip: Option<IpAddr>,
    /// `dstIP`.
    pub dst_ip: Option<IpAddr>,
    /// `srcPort` as written: the echo identifier for ICMP, 0 where Felix knows none.
    pub src_port: Option<u16>,
    /// `dstPort` as written: type × 256 + code for ICMP, 0 where Felix knows none.
    pub dst_port: Option<u16>,
    /// `tier`.
    pub tier: Option<Cow<'a, [u8]>>,
    /// `policy`.
    pub policy: Option<Cow<'a, [u8]>>,
    /// `rule`: index in the policy's list, -1 for the end of the tier, -2 for unknown.
    pub rule: Option<i32>,
    /// Packets towards the local endpoint since the last report.
    pub in_packets: u64,
    /// Bytes of them.
    pub in_bytes: u64,
    /// Packets away from the local endpoint since the last report.
    pub out_packets: u64,
    /// Bytes of them (for denies at most 80 a packet: a lower bound).
    pub out_bytes: u64,
    /// `packets` of the 2018 reporter.
    pub packets: Option<u64>,
    /// `bytes` of the 2018 reporter.
    pub bytes: Option<u64>,
    /// `updateType`.
    pub update: Option<&'a [u8]>,
    /// What is wrong with the line.
    pub flaw: Option<Flaw>,
}

/// Splits `LEVEL file line:  rest`; `None` when the message does not begin like a line of Felix.
#[must_use]
pub fn caller(message: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let blank = message.iter().take(10).position(|byte| *byte == b' ')?;
    let level = message.get(..blank)?;
    if !is_level(level) {
        return None;
    }
    let rest = message.get(blank + 1..)?;
    // `<nil> <nil>:` or `name.go 123:`; no colon occurs in either word
    let colon = rest.iter().take(160).position(|byte| *byte == b':')?;
    let caller = rest.get(..colon)?;
    let words = caller.iter().filter(|byte| **byte == b' ').count();
    (words == 1).then(|| (level, caller, rest.get(colon + 1..).unwrap_or_default()))
}

/// Reads a report line's message; `None` when it is not one.
#[must_use]
pub fn read(message: &[u8]) -> Option<Flow<'_>> {
    pairs(message).map(read_any)
}

/// Reads pairs, the usual ones fast.
pub(super) fn read_any(pairs: &[u8]) -> Flow<'_> {
    usual::read(pairs).unwrap_or_else(|| read_pairs(pairs))
}

/// The pairs of a report line's message; `None` when it is not one.
pub(super) fn pairs(message: &[u8]) -> Option<&[u8]> {
    // what nearly every line begins with
    if let Some(pairs) = message.strip_prefix(b"INFO <nil> <nil>:  ")
        && pairs.starts_with(b"action=\"")
    {
        return Some(pairs);
    }
    let (_, _, rest) = caller(message)?;
    let pairs = rest.trim_ascii_start();
    // the message proper is empty, so that the first pair follows the colon at once
    pairs.starts_with(b"action=\"").then_some(pairs)
}

/// Keys that matter.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Key {
    Action,
    Bytes,
    DstIp,
    DstPort,
    InBytes,
    InPackets,
    OutBytes,
    OutPackets,
    Packets,
    Policy,
    Proto,
    Rule,
    RuleDir,
    SrcIp,
    SrcPort,
    Tier,
    UpdateType,
    Other,
}

/// Keys in the order they are written, so that the next one is mostly known before it is read.
const KEYS: [(&[u8], Key); 18] = [
    (b"action=", Key::Action),
    (b"dstIP=", Key::DstIp),
    (b"dstPort=", Key::DstPort),
    (b"inBytes=", Key::InBytes),
    (b"inPackets=", Key::InPackets),
    (b"outBytes=", Key::OutBytes),
    (b"outPackets=", Key::OutPackets),
    (b"policy=", Key::Policy),
    (b"proto=", Key::Proto),
    (b"rule=", Key::Rule),
    (b"ruleDir=", Key::RuleDir),
    (b"srcIP=", Key::SrcIp),
    (b"srcPort=", Key::SrcPort),
    (b"tier=", Key::Tier),
    (b"trafficDir=", Key::Other),
    (b"updateType=", Key::UpdateType),
    (b"bytes=", Key::Bytes),
    (b"packets=", Key::Packets),
];

/// Reads pairs, whatever their order.
pub(super) fn read_pairs(pairs: &[u8]) -> Flow<'_> {
    let mut flow = Flow {
        action: Action::Unknown,
        direction: None,
        proto: None,
        src_ip: None,
        dst_ip: None,
        src_port: None,
        dst_port: None,
        tier: None,
        policy: None,
        rule: None,
        in_packets: 0,
        in_bytes: 0,
        out_packets: 0,
        out_bytes: 0,
        packets: None,
        bytes: None,
        update: None,
        flaw: None,
    };
    let mut rest = pairs;
    let mut expected = 0;
    loop {
        match pair(rest, &mut expected) {
            Next::Pair { key, value, escaped, after } => {
                if set(&mut flow, key, value, escaped).is_none() {
                    flow.flaw = Some(Flaw::Value);
                }
                rest = after;
            }
            Next::Bad => {
                flow.flaw = Some(Flaw::Value);
                break;
            }
            Next::Cut => {
                flow.flaw = flow.flaw.or(Some(Flaw::Truncated));
                break;
            }
            Next::End => break,
        }
    }
    let whole = flow.src_ip.is_some()
        && flow.dst_ip.is_some()
        && flow.proto.is_some()
        && flow.policy.is_some()
        && flow.tier.is_some()
        && flow.rule.is_some();
    if !whole {
        flow.flaw = flow.flaw.or(Some(Flaw::Truncated));
    }
    flow
}

enum Next<'a> {
    Pair {
        key: Key,
        value: &'a [u8],
        escaped: bool,
        after: &'a [u8],
    },
    /// A quote closes in the middle of a word.
    Bad,
    /// The text ends within a value or key.
    Cut,
    /// No further pair.
    End,
}

/// The next `key=value`; `expected` is the place in [`KEYS`] where its key is looked for first.
fn pair<'a>(text: &'a [u8], expected: &mut usize) -> Next<'a> {
    let text = match text.split_first() {
        Some((b' ', rest)) => rest,
        _ => text,
    };
    let guess = KEYS.get(*expected).and_then(|(name, key)| Some((*key, text.strip_prefix(*name)?)));
    let (key, rest) = match guess {
        Some(read) => {
            *expected += 1;
            read
        }
        None => {
            let text = text.trim_ascii_start();
            let length = text.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
            if text.get(length) != Some(&b'=') {
                // what follows the last pair: `]`, `#012`, an escape sequence; a word that ends the line is a key cut short
                return if length == 0 || length < text.len() { Next::End } else { Next::Cut };
            }
            let (name, rest) = text.split_at(length + 1);
            let place = KEYS.iter().position(|(known, _)| *known == name);
            *expected = place.map_or(*expected, |place| place + 1);
            (place.and_then(|place| KEYS.get(place)).map_or(Key::Other, |(_, key)| *key), rest)
        }
    };
    let Some(quoted) = rest.strip_prefix(b"\"") else {
        let length = rest.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'-').count();
        let (value, after) = rest.split_at(length);
        if rest.is_empty() {
            return Next::Cut;
        }
        return Next::Pair { key, value, escaped: false, after };
    };
    let mut escaped = false;
    let mut at = 0;
    loop {
        match quoted.get(at) {
            Some(b'"') => break,
            Some(b'\\') => {
                escaped = true;
                at += 2;
            }
            Some(_) => at += 1,
            None => return Next::Cut,
        }
    }
    let (value, after) = quoted.split_at(at);
    let after = after.get(1..).unwrap_or_default();
    match after.first() {
        None | Some(b' ' | b']' | b'#' | 0x1b | b'\n' | b'\r') => Next::Pair { key, value, escaped, after },
        Some(_) => Next::Bad,
    }
}

/// Stores one pair; `None` when the value cannot be read. Unknown keys are fine.
fn set<'a>(flow: &mut Flow<'a>, key: Key, value: &'a [u8], escaped: bool) -> Option<()> {
    match key {
        Key::Action => {
            flow.action = match value {
                b"allow" => Action::Allow,
                b"deny" => Action::Deny,
                b"pass" => Action::Pass,
                _ => return None,
            }
        }
        Key::DstIp => flow.dst_ip = Some(address(value)?),
        Key::SrcIp => flow.src_ip = Some(address(value)?),
        Key::DstPort => flow.dst_port = Some(u16::try_from(decimal(value)?).ok()?),
        Key::SrcPort => flow.src_port = Some(u16::try_from(decimal(value)?).ok()?),
        Key::InBytes => flow.in_bytes = counter(value)?,
        Key::InPackets => flow.in_packets = counter(value)?,
        Key::OutBytes => flow.out_bytes = counter(value)?,
        Key::OutPackets => flow.out_packets = counter(value)?,
        Key::Bytes => flow.bytes = Some(counter(value)?),
        Key::Packets => flow.packets = Some(counter(value)?),
        Key::Policy => flow.policy = Some(text(value, escaped)),
        Key::Tier => flow.tier = Some(text(value, escaped)),
        Key::Proto => flow.proto = Some(u8::try_from(decimal(value)?).ok()?),
        Key::Rule => {
            flow.rule = Some(match value.strip_prefix(b"-") {
                Some(digits) => -i32::try_from(decimal(digits)?).ok()?,
                None => i32::try_from(decimal(value)?).ok()?,
            });
        }
        Key::RuleDir => {
            flow.direction = Some(match value {
                b"ingress" => Direction::Ingress,
                b"egress" => Direction::Egress,
                _ => return None,
            });
        }
        Key::UpdateType => flow.update = Some(value),
        Key::Other => {}
    }
    Some(())
}

fn counter(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 20 {
        return None;
    }
    value.iter().try_fold(0u64, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

/// An address; IPv4 by hand, since nearly all are, and IPv4-mapped IPv6 as the IPv4 it is.
#[must_use]
pub fn address(text: &[u8]) -> Option<IpAddr> {
    let mut octets = [0u8; 4];
    let (mut part, mut value, mut digits) = (0usize, 0u16, 0u8);
    let mut plain = text.len() <= 15;
    for byte in text {
        match byte {
            b'0'..=b'9' if digits < 3 && !(digits > 0 && value == 0) => {
                value = value * 10 + u16::from(byte - b'0');
                digits += 1;
            }
            b'.' if digits > 0 && part < 3 => {
                *octets.get_mut(part)? = u8::try_from(value).ok()?;
                (part, value, digits) = (part + 1, 0, 0);
            }
            _ => {
                plain = false;
                break;
            }
        }
    }
    if plain && part == 3 && digits > 0 {
        *octets.get_mut(3)? = u8::try_from(value).ok()?;
        return Some(IpAddr::V4(Ipv4Addr::from(octets)));
    }
    let address: IpAddr = std::str::from_utf8(text).ok()?.parse().ok()?;
    Some(address.to_canonical())
}

/// A string value, Go's escapes undone.
fn text(value: &[u8], escaped: bool) -> Cow<'_, [u8]> {
    if escaped { Cow::Owned(unquote(value)) } else { Cow::Borrowed(value) }
}

/// Undoes Go's `strconv.Quote`; what is no escape stays.
fn unquote(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'\\' {
            out.push(*byte);
            continue;
        }
        let Some((kind, after)) = rest.split_first() else {
            out.push(b'\\');
            break;
        };
        rest = after;
        let hex = |digits: usize| {
            let text = std::str::from_utf8(after.get(..digits)?).ok()?;
            u32::from_str_radix(text, 16).ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_hexdigit()))
        };
        let (code, digits) = match kind {
            b'n' => (Some(10), 0),
            b't' => (Some(9), 0),
            b'r' => (Some(13), 0),
            b'a' => (Some(7), 0),
            b'b' => (Some(8), 0),
            b'f' => (Some(12), 0),
            b'v' => (Some(11), 0),
            b'\\' | b'"' => (Some(u32::from(*kind)), 0),
            b'x' => (hex(2), 2),
            b'u' => (hex(4), 4),
            b'U' => (hex(8), 8),
            _ => (None, 0),
        };
        match (kind, code.and_then(char::from_u32)) {
            (b'x', Some(byte)) => out.extend(u8::try_from(u32::from(byte))),
            (_, Some(read)) => out.extend_from_slice(read.encode_utf8(&mut [0; 4]).as_bytes()),
            (_, None) => out.extend_from_slice(&[b'\\', *kind]),
        }
        if code.is_some() {
            rest = rest.get(digits..).unwrap_or_default();
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_both_families() {
        let read = |text: &str| address(text.as_bytes()).map(|address| address.to_string());
        assert_eq!(read("10.0.1.10").as_deref(), Some("10.0.1.10"));
        assert_eq!(read("255.255.255.255").as_deref(), Some("255.255.255.255"));
        assert_eq!(read("2606:4700::6810:84e5").as_deref(), Some("2606:4700::6810:84e5"));
        assert_eq!(read("2001:0db8:0000:0000:0000:0000:0000:0077").as_deref(), Some("2001:db8::77"));
        assert_eq!(read("::ffff:10.0.1.10").as_deref(), Some("10.0.1.10"));
        assert_eq!(read("::10.0.1.10").as_deref(), Some("::a00:10a"));
        for bad in
            ["", "10.0.1", "10.0.1.", "10.0.1.999", "10.0.1.1.1", "10.0..1", "192.XXX.XX.X", "1e.0.0.1", "01.2.3.4"]
        {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn go_quotes_are_undone() {
        let pairs = br#"action="deny" policy="a\"b\\c\n\x1b\u00e9" newField="x action=\"allow\"" rule="3""#;
        let flow = read_pairs(pairs);
        assert_eq!(flow.policy.as_deref(), Some("a\"b\\c\n\u{1b}é".as_bytes()));
        assert_eq!((flow.action, flow.rule), (Action::Deny, Some(3)));
        assert_eq!(unquote(br"\q\"), br"\q\");
        assert_eq!(unquote(br"\xZZ"), br"\xZZ");
    }

    #[test]
    fn only_an_empty_message_makes_a_report() {
        assert!(read(br#"INFO <nil> <nil>:  action="deny""#).is_some());
        assert!(read(br#"INFO reporter.go 107:  action="deny""#).is_some());
        for other in [
            r#"INFO rule_convert.go 88: Programming rule with action="deny" for policy="x""#,
            r#"request rejected: INFO <nil> <nil>:  action="deny""#,
            r#"Invalid user action="deny" dstIP="1.1.1.1""#,
        ] {
            assert!(read(other.as_bytes()).is_none(), "{other}");
        }
    }

    #[test]
    fn a_line_cut_at_any_byte_before_its_end_is_never_taken_for_whole() {
        let whole =
            br#"action="deny" dstIP="1.1.1.1" dstPort="4" policy="p" proto="6" rule="-1" srcIP="2.2.2.2" tier="t""#;
        assert_eq!(read_pairs(whole).flaw, None);
        for end in 0..whole.len() {
            let cut = read_pairs(&whole[..end]);
            assert!(cut.flaw.is_some(), "{}", String::from_utf8_lossy(&whole[..end]));
        }
    }

    #[test]
    fn a_quote_that_closes_in_the_wrong_place_is_a_flaw() {
        let lost =
            br#"action="deny" dstIP="1.1.1.1" policy="hep-external proto="6" rule="-1" srcIP="2.2.2.2" tier="t""#;
        assert_eq!(read_pairs(lost).flaw, Some(Flaw::Value));
        let bad = br#"action="deny" dstIP="1.1.1.1" policy="p" proto="6" rule="-1" srcIP="10.0.1.999" tier="t""#;
        assert_eq!(read_pairs(bad).flaw, Some(Flaw::Value));
        let good = br#"action="deny" dstIP="1.1.1.1" policy="p" proto="6" rule="-1" srcIP="10.0.1.9" tier="t"]"#;
        assert_eq!(read_pairs(good).flaw, None);
    }
}
