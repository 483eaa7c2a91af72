//! xtables matches that look at packets in a way of their own, as the kernel does it (net/netfilter/xt_*.c,
//! net/ipv6/netfilter/ip6t_*.c). `None` is "not known": the packet does not tell, or is malformed and dropped for that.

use super::eval::{Eval, Truth};
use super::fields::View;
use super::state::Value;
use crate::packet::{ExtensionHeader, Hook, Protocol, address_bits};
use crate::ruleset::xtables::{
    Bound, Chunks, ExtensionTest, Segment, SegmentNumber, SegmentTest, TimeTest, XtTest, extension_bit,
};
use crate::ruleset::{Field, Interval, interface_number};

const SECONDS_A_DAY: i64 = 86_400;

impl Eval<'_, '_> {
    /// Whether `test` holds.
    pub(super) fn xtables(&mut self, test: &XtTest, text: &str) -> Truth {
        if let Some(holds) = self.view.xtables(test) {
            return holds.into();
        }
        let key = format!("x:{}:{text}", self.view.state.flow.epoch);
        self.ask(key, || format!("asks for {}, which is not known: {text}", test.needs()))
    }
}

impl View<'_, '_> {
    fn xtables(&self, test: &XtTest) -> Option<bool> {
        match test {
            XtTest::TcpOption { number, negate } => {
                let options = self.tcp_options()?;
                Some(options.is_some_and(|options| option(options, *number).is_some()) != *negate)
            }
            XtTest::TcpMss { sizes, negate } => self.tcp_mss(*sizes, *negate),
            XtTest::SctpChunks { which, chunks, negate } => Some(self.chunks(*which, chunks)? != *negate),
            XtTest::DccpTypes { types, negate } => {
                let kind = self.told_transport()?.get(8)? >> 1 & 15;
                Some((types >> kind & 1 != 0) != *negate)
            }
            XtTest::DccpOption { number, negate } => Some(self.dccp_option(*number)? != *negate),
            // every number will do
            XtTest::Association { place: (_, length), numbers, negate: false }
                if numbers.low == 0 && numbers.high >= (1 << (8 * length)) - 1 =>
            {
                Some(true)
            }
            XtTest::Association { place: (start, length), numbers, negate } => {
                let bytes = self.told_transport()?.get(*start..start + length)?;
                Some(numbers.contains(big_endian(bytes)) != *negate)
            }
            XtTest::Mobility { types, negate } => {
                Some(types.contains((*self.told_transport()?.get(2)?).into()) != *negate)
            }
            XtTest::Extension(test) => self.extension_test(test),
            XtTest::ExtensionSet { wanted, soft, negate } => {
                let found = self.extension_bits()?;
                Some(match (soft, negate) {
                    (true, false) => found & wanted == *wanted,
                    (true, true) => found & wanted == 0,
                    (false, negate) => (found == *wanted) != *negate,
                })
            }
            XtTest::Eui64 => self.eui64(),
            XtTest::Time(test) => time(test, self.packet.details.time?),
            XtTest::Groups { groups, negate } => self.groups(*groups, *negate),
            XtTest::CgroupPath { path, negate } => self.of_socket(|view| {
                let own = view.packet.details.cgroup.as_deref()?.trim_matches('/');
                let below = own.strip_prefix(&**path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
                Some((path.is_empty() || below) != *negate)
            }),
            XtTest::CgroupClass { class, negate } => {
                self.of_socket(|view| Some((view.packet.details.classid? == *class) != *negate))
            }
            XtTest::BridgePort { positive } => self.is_off_bridges().then_some(!positive),
            XtTest::Policy { none, elements } => match self.packet.details.ipsec? {
                false => Some(*none),
                true if *none => Some(false),
                true => (!elements).then_some(true),
            },
        }
    }

    /// The packet from its transport header on, unless rules have rewritten more of it than ports and checksums, or take
    /// another header for it.
    pub(super) fn told_transport(&self) -> Option<&[u8]> {
        use Field::{Icmp6Code, Icmp6Type, IcmpCode, IcmpType, Other};
        use Field::{TcpAckseq, TcpDoff, TcpFlags, TcpSequence, TcpWindow, UdpLength};
        let rewritten = self.state.flow.assigned.iter().any(|(field, _)| {
            matches!(field, Other(_) | TcpAckseq | TcpDoff | TcpFlags | TcpSequence | TcpWindow | UdpLength)
                || matches!(field, Icmp6Code | Icmp6Type | IcmpCode | IcmpType)
        });
        self.packet.details.transport.as_deref().filter(|_| !rewritten && !self.stops_at_authentication())
    }

    /// The TCP header's options; `Some(None)` without any.
    fn tcp_options(&self) -> Option<Option<&[u8]>> {
        let header = self.told_transport()?;
        let length = usize::from(header.get(12)? >> 4) * 4;
        let options = header.get(20..length)?;
        Some((!options.is_empty()).then_some(options))
    }

    fn tcp_mss(&self, sizes: Interval, negate: bool) -> Option<bool> {
        let Some(options) = self.tcp_options()? else { return Some(negate) };
        let mut at = 0;
        while let Some(kind) = options.get(at) {
            if let ([2, 4, high, low], 2) = (options.get(at..at + 4).unwrap_or_default(), kind) {
                let size = u128::from(*high) << 8 | u128::from(*low);
                return Some(sizes.contains(size) != negate);
            }
            at += step(options, at);
        }
        Some(negate)
    }

    fn chunks(&self, which: Chunks, wanted: &[(u8, Option<(u8, u8)>)]) -> Option<bool> {
        let packet = self.told_transport()?;
        let mut missing: Vec<u8> = wanted.iter().map(|one| one.0).collect();
        let mut at = 12;
        loop {
            let [kind, flags, high, low] = *packet.get(at..at + 4)? else { return None };
            let length = usize::from(u16::from_be_bytes([high, low]));
            if length == 0 {
                return None;
            }
            let named = wanted.iter().find(|one| one.0 == kind);
            let fits = named.is_some_and(|one| one.1.is_none_or(|(mask, value)| flags & mask == value));
            match which {
                Chunks::Any if fits => return Some(true),
                Chunks::Only if !fits => return Some(false),
                Chunks::All if fits => missing.retain(|one| *one != kind),
                _ => {}
            }
            at += length.next_multiple_of(4);
            if at >= packet.len() {
                break;
            }
        }
        Some(match which {
            Chunks::Any => false,
            Chunks::All => missing.is_empty(),
            Chunks::Only => true,
        })
    }

    fn dccp_option(&self, number: u8) -> Option<bool> {
        let packet = self.told_transport()?;
        let end = usize::from(*packet.get(4)?) * 4;
        let options = packet.get(dccp_options_start(packet)?..end)?;
        Some(option(options, number).is_some())
    }

    /// The extension headers; unknown when one says that the packet is a fragment: it may have been put together before.
    fn extensions(&self) -> Option<&[ExtensionHeader]> {
        let headers = self.packet.details.extensions.as_deref()?;
        headers.iter().all(|header| header.header != Protocol(44)).then_some(headers)
    }

    fn extension_bits(&self) -> Option<u8> {
        let headers = self.extensions()?;
        let seen = headers.iter().filter_map(|header| extension_bit(header.header.0)).fold(0, |all, bit| all | bit);
        Some(match self.packet.protocol {
            Protocol(59) => seen | 0x02,
            Protocol(50) => seen,
            _ => seen | 0x01,
        })
    }

    fn extension_test(&self, test: &ExtensionTest) -> Option<bool> {
        let number = match test {
            ExtensionTest::Options { header, .. } => *header,
            ExtensionTest::Routing { .. } | ExtensionTest::Segments(_) => 43,
            ExtensionTest::Fragment => 44,
            ExtensionTest::Authentication { .. } => 51,
        };
        let found = self.extensions()?.iter().find(|header| header.header.0 == number);
        // what stands behind the last header of the chain is the packet's protocol
        if number == 51 && found.is_none() && self.packet.protocol == Protocol(51) {
            return None;
        }
        let Some(found) = found else { return Some(false) };
        let bytes = &*found.bytes;
        let length = usize::from(*bytes.get(1)?);
        match test {
            ExtensionTest::Fragment => None,
            ExtensionTest::Segments(test) => segments(test, bytes),
            ExtensionTest::Authentication { index, length: wanted, reserved } => {
                let spi = big_endian(bytes.get(4..8)?);
                let free = big_endian(bytes.get(2..4)?) == 0;
                Some(holds(index, spi) && holds(wanted, ((length + 2) * 4) as u128) && (free || !reserved))
            }
            ExtensionTest::Options { length: wanted, options, .. } => {
                let size = (length + 1) * 8;
                let content = bytes.get(2..size)?;
                Some(holds(wanted, size as u128) && has_options(content, options))
            }
            ExtensionTest::Routing { kind, segments, length: wanted, reserved, addresses, strict } => {
                let size = (length + 1) * 8;
                let all: Vec<u128> = bytes.get(8..size)?.chunks_exact(16).map(big_endian).collect();
                let fields = holds(kind, (*bytes.get(2)?).into())
                    && holds(segments, (*bytes.get(3)?).into())
                    && holds(wanted, size as u128);
                let free = !reserved || big_endian(bytes.get(4..8)?) == 0;
                Some(fields && free && has_addresses(&all, addresses, *strict))
            }
        }
    }

    fn eui64(&self) -> Option<bool> {
        if self.interface_type(self.state.flow.iif) != Value::Known(1) {
            return None;
        }
        let [a, b, c, d, e, f] = self.packet.details.source_mac?;
        let wanted = u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
        let source = self.state.flow.src.known().unwrap_or_else(|| address_bits(self.packet.src));
        Some(source & u128::from(u64::MAX) == u128::from(wanted))
    }

    /// A condition on the packet's socket: without one it fails.
    fn of_socket(&self, condition: impl Fn(&Self) -> Option<bool>) -> Option<bool> {
        match self.owner(Some(0)) {
            Value::Known(_) => condition(self),
            Value::Missing => Some(false),
            Value::Unknown(_) => None,
        }
    }

    fn groups(&self, groups: Interval, negate: bool) -> Option<bool> {
        self.of_socket(|view| {
            let inside = |group: &u32| groups.contains((*group).into());
            let primary = view.packet.gid.as_ref().map(inside);
            let others = view.packet.details.groups.as_ref().map(|groups| groups.iter().any(inside));
            match (primary, others) {
                (Some(true), _) | (_, Some(true)) => Some(!negate),
                (Some(false), Some(false)) => Some(negate),
                _ => None,
            }
        })
    }

    /// The packet came through no bridge for sure, so that nobody noted bridge ports.
    fn is_off_bridges(&self) -> bool {
        let iif = self.state.flow.iif;
        if iif == Value::Known(0) {
            return matches!(self.site.hook, Hook::Output | Hook::Postrouting);
        }
        let all = self.engine.router.host().interfaces.as_deref().unwrap_or_default();
        let found = all.iter().find(|one| Value::Known(interface_number(one.name.as_bytes())) == iif);
        found.is_some_and(|one| one.loopback || matches!(&*one.kind, "" | "veth" | "tun" | "dummy" | "wireguard"))
    }
}

/// `srh` on a routing header. `None` where the kernel would read addresses behind the header's end, and where the answer
/// hangs on the processor's byte order, in which it compares the tag.
fn segments(test: &SegmentTest, header: &[u8]) -> Option<bool> {
    let [next, length, kind, left, last, _, high, low, list @ ..] = header else { return None };
    if *kind != 4 || left > last {
        return Some(false);
    }
    let number = |which| match which {
        SegmentNumber::NextHeader => u128::from(*next),
        SegmentNumber::Length => u128::from(*length),
        SegmentNumber::Left => u128::from(*left),
        SegmentNumber::Last => u128::from(*last),
        SegmentNumber::Tag => big_endian(&[*high, *low]),
    };
    for (which, numbers, negate) in &test.numbers {
        let holds = numbers.contains(number(*which)) != *negate;
        if *which == SegmentNumber::Tag && holds != (numbers.contains(big_endian(&[*low, *high])) != *negate) {
            return None;
        }
        if !holds {
            return Some(false);
        }
    }
    for (which, (value, mask), negate) in &test.addresses {
        let place = match which {
            Segment::Previous if left == last => return Some(false),
            Segment::Previous => usize::from(*left) + 1,
            Segment::Next => match left.checked_sub(1) {
                None => return Some(false),
                Some(place) => usize::from(place),
            },
            Segment::Last => 0,
        };
        let address = big_endian(list.get(16 * place..16 * (place + 1))?);
        if ((address ^ value) & mask == 0) == *negate {
            return Some(false);
        }
    }
    Some(true)
}

/// Where the options of a DCCP packet begin (RFC 4340 §5): what its type adds stands behind the generic header.
pub(super) fn dccp_options_start(packet: &[u8]) -> Option<usize> {
    let kind = packet.get(8)? >> 1 & 15;
    let basic = if packet.get(8)? & 1 != 0 { 16 } else { 12 };
    let more = match kind {
        2 => 0,
        3..=6 | 8 | 9 => 8,
        0 => 4,
        _ => 12,
    };
    Some(basic + more)
}

fn big_endian(bytes: &[u8]) -> u128 {
    bytes.iter().fold(0, |number, byte| number << 8 | u128::from(*byte))
}

fn holds(bound: &Bound, number: u128) -> bool {
    bound.is_none_or(|(interval, negate)| interval.contains(number) != negate)
}

/// How far the next option is: two kinds are one byte long, others say their length.
fn step(options: &[u8], at: usize) -> usize {
    match (options.get(at), options.get(at + 1)) {
        (Some(0 | 1), _) | (_, None | Some(0)) => 1,
        (_, Some(length)) => usize::from(*length),
    }
}

/// Where option `number` stands.
fn option(options: &[u8], number: u8) -> Option<usize> {
    let mut at = 0;
    while let Some(kind) = options.get(at) {
        if *kind == number {
            return Some(at);
        }
        at += step(options, at);
    }
    None
}

/// Whether an options header begins with these options.
fn has_options(mut content: &[u8], wanted: &[(u8, Option<u8>)]) -> bool {
    for (index, (kind, length)) in wanted.iter().enumerate() {
        let Some(found) = content.first() else { return false };
        if found != kind {
            return false;
        }
        let size = if *found == 0 {
            1
        } else {
            let Some(found) = content.get(1) else { return false };
            if length.is_some_and(|length| length != *found) {
                return false;
            }
            usize::from(*found) + 2
        };
        match content.get(size..) {
            Some(rest) => content = rest,
            None if index + 1 == wanted.len() => content = &[],
            None => return false,
        }
    }
    true
}

/// Whether a routing header's addresses begin with these, and are no more; or, not strictly, hold these in this order.
fn has_addresses(all: &[u128], wanted: &[u128], strict: bool) -> bool {
    if wanted.is_empty() {
        return true;
    }
    if strict {
        return all == wanted;
    }
    let mut left = wanted.iter().peekable();
    for address in all {
        if left.peek() == Some(&address) {
            left.next();
        }
    }
    left.peek().is_none()
}

fn time(test: &TimeTest, now: i64) -> Option<bool> {
    if test.local {
        return None;
    }
    if !(test.dates.0..=test.dates.1).contains(&now) {
        return Some(false);
    }
    let (start, stop) = (i64::from(test.day.0), i64::from(test.day.1));
    let second = now.rem_euclid(SECONDS_A_DAY);
    let mut day = now;
    if start < stop {
        if !(start..=stop).contains(&second) {
            return Some(false);
        }
    } else {
        if second < start && second > stop {
            return Some(false);
        }
        if test.contiguous && second <= stop {
            day -= SECONDS_A_DAY;
        }
    }
    // 1970-01-01 was a Thursday
    let weekday = (day.div_euclid(SECONDS_A_DAY) + 3).rem_euclid(7) + 1;
    let monthday = chrono::DateTime::from_timestamp(day, 0).map(|date| chrono::Datelike::day(&date))?;
    Some(test.weekdays >> weekday & 1 != 0 && test.monthdays >> monthday & 1 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_past_midnight_belong_to_the_day_before_when_asked() {
        let at = |text: &str| chrono::DateTime::parse_from_rfc3339(text).expect("a time").timestamp();
        let friday = 1 << 5;
        let night = |contiguous, weekdays| TimeTest {
            dates: (0, i32::MAX.into()),
            day: (22 * 3600, 6 * 3600),
            contiguous,
            weekdays,
            monthdays: 0xffff_fffe,
            local: false,
        };
        // 2026-11-20 is a Friday
        for (text, alone, contiguous) in [
            ("2026-11-20T21:59:59Z", false, false),
            ("2026-11-20T22:00:00Z", true, true),
            ("2026-11-21T05:00:00Z", false, true),
            ("2026-11-20T06:00:00Z", true, false),
            ("2026-11-20T06:00:01Z", false, false),
            ("2038-01-19T23:00:00Z", false, false),
        ] {
            assert_eq!(time(&night(false, friday), at(text)), Some(alone), "{text}");
            assert_eq!(time(&night(true, friday), at(text)), Some(contiguous), "{text}");
        }
        let sunday = 1 << 7;
        assert_eq!(time(&night(false, sunday), at("2026-11-22T23:00:00Z")), Some(true));
        assert_eq!(time(&TimeTest { local: true, ..night(false, sunday) }, at("2026-11-22T23:00:00Z")), None);
    }

    #[test]
    fn options_that_end_early_are_not_read_beyond_their_end() {
        assert_eq!(option(&[1, 1, 8], 8), Some(2));
        assert_eq!(option(&[3, 200, 8], 8), None);
        assert_eq!(option(&[3, 0, 8], 8), Some(2), "a length of nothing is one byte");
        assert!(!has_options(&[1, 9, 0], &[(1, None), (0, None)]));
        assert!(has_options(&[1, 9, 0], &[(1, None)]), "the last one may be cut short");
        assert!(!has_options(&[], &[(0, None)]));
    }
}
