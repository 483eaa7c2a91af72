//! Matches that look at packets in a way of their own: their parameters as the kernel keeps them.

use super::draft::{Arg, Group};
use super::matches::{Context, Trouble};
use super::rule::{opaque_text, text_of};
use super::values::{self, Expected, number_range, split_once};
use crate::packet::Family;
use crate::ruleset::xtables::{
    Bound, Chunks, ExtensionTest, Segment, SegmentNumber, SegmentTest, TimeTest, XtTest, extension_bit,
};
use crate::ruleset::{Interval, Match, OpaqueKind};

/// The condition of a whole match; `None` when it is not one of these.
pub(crate) fn group(context: &Context<'_, '_>, name: &str, group: &Group) -> Option<Result<Match, Trouble>> {
    let test = match name {
        "esp" => association(context, group, "espspi", (0, 4)),
        "ah" if context.family == Family::Ipv4 => association(context, group, "ahspi", (4, 4)),
        "ipcomp" => {
            let understood = group.args.len() == 1 && group.args.iter().all(|arg| arg.name == "ipcompspi");
            if !understood {
                // listed for every index, yet loaded as index 0; and the flags are never looked at
                let kind = OpaqueKind::Property;
                return Some(Ok(Match::Opaque { kind, text: text_of(context, group) }));
            }
            association(context, group, "ipcompspi", (2, 2))
        }
        "ah" => authentication(context, group),
        "mh" => mobility(context, group),
        "rt" => routing(context, group),
        "srh" => segments(context, group),
        "frag" => Ok(XtTest::Extension(ExtensionTest::Fragment)),
        // no kernel takes it
        "hbh" | "dst" if group.args.iter().any(|arg| arg.name.ends_with("-not-strict")) => {
            return Some(Ok(Match::Opaque { kind: OpaqueKind::Property, text: text_of(context, group) }));
        }
        "hbh" => options(context, group, 0),
        "dst" => options(context, group, 60),
        "ipv6header" => headers(context, group),
        "eui64" => Ok(XtTest::Eui64),
        "time" => time(context, group),
        "cgroup" => cgroup(context, group),
        "physdev" => Ok(XtTest::BridgePort { positive: group.args.iter().any(|arg| !arg.negate) }),
        "policy" => policy(context, group),
        "tcpmss" => tcpmss(context, group),
        _ => return None,
    };
    Some(test.map(|test| Match::Xtables { test: Box::new(test), text: text_of(context, group) }))
}

/// The condition of one option; `None` when it is not one of these.
pub(crate) fn option(context: &Context<'_, '_>, module: &str, arg: &Arg) -> Option<Result<Match, Trouble>> {
    let negate = arg.negate;
    let byte = || context.read(arg, |text| number(text, 255)).map(|number| number.low as u8);
    let test = match arg.name {
        "tcp-option" => byte().map(|number| XtTest::TcpOption { number, negate }),
        "dccp-option" => byte().map(|number| XtTest::DccpOption { number, negate }),
        "dccp-types" => context.read(arg, dccp_types).map(|types| XtTest::DccpTypes { types, negate }),
        "chunk-types" => chunks(context, arg),
        _ => return None,
    };
    Some(test.map(|test| Match::Xtables { test: Box::new(test), text: opaque_text(context, module, arg) }))
}

/// `owner --gid-owner` with the supplementary groups.
pub(crate) fn groups(context: &Context<'_, '_>, arg: &Arg, groups: Interval) -> Match {
    let text = format!("{} --suppl-groups", opaque_text(context, "owner", arg)).into();
    Match::Xtables { test: Box::new(XtTest::Groups { groups, negate: arg.negate }), text }
}

fn number(text: &[u8], max: u64) -> Result<Interval, Expected> {
    values::number(text).filter(|number| *number <= max).map(|n| Interval::single(n.into())).ok_or("a smaller number")
}

fn range(max: u64) -> impl Fn(&[u8]) -> Result<Interval, Expected> {
    move |text| number_range(text, b':', max)
}

const WORD: u64 = u32::MAX as u64;

fn bound<F>(context: &Context<'_, '_>, group: &Group, name: &str, read: F) -> Result<Bound, Trouble>
where
    F: Fn(&[u8]) -> Result<Interval, Expected>,
{
    let Some(arg) = group.args.iter().find(|arg| arg.name == name) else { return Ok(None) };
    Ok(Some((context.read(arg, read)?, arg.negate)))
}

fn association(context: &Context<'_, '_>, group: &Group, name: &str, place: (usize, usize)) -> Result<XtTest, Trouble> {
    // the tool takes 32 bits even where the header has 16
    let all = (Interval { low: 0, high: WORD.into() }, false);
    let (numbers, negate) = bound(context, group, name, range(WORD))?.unwrap_or(all);
    Ok(XtTest::Association { place, numbers, negate })
}

fn authentication(context: &Context<'_, '_>, group: &Group) -> Result<XtTest, Trouble> {
    Ok(XtTest::Extension(ExtensionTest::Authentication {
        index: bound(context, group, "ahspi", range(WORD))?,
        length: bound(context, group, "ahlen", |text| number(text, WORD))?.filter(|length| length.0.low != 0),
        reserved: group.args.iter().any(|arg| arg.name == "ahres"),
    }))
}

fn mobility(context: &Context<'_, '_>, group: &Group) -> Result<XtTest, Trouble> {
    let all = (Interval { low: 0, high: 255 }, false);
    let (types, negate) = bound(context, group, "mh-type", mobility_types)?.unwrap_or(all);
    Ok(XtTest::Mobility { types, negate })
}

/// Types of the mobility header (RFC 6275 §6.1) by name or number.
fn mobility_types(text: &[u8]) -> Result<Interval, Expected> {
    const NAMES: [(&str, u8); 15] = [
        ("binding-refresh-request", 0),
        ("brr", 0),
        ("home-test-init", 1),
        ("hoti", 1),
        ("careof-test-init", 2),
        ("coti", 2),
        ("home-test", 3),
        ("hot", 3),
        ("careof-test", 4),
        ("cot", 4),
        ("binding-update", 5),
        ("bu", 5),
        ("binding-acknowledgement", 6),
        ("ba", 6),
        ("binding-error", 7),
    ];
    let named = |text: &[u8]| NAMES.iter().find(|one| one.0.as_bytes().eq_ignore_ascii_case(text)).map(|one| one.1);
    let one = |text: &[u8]| named(text).map(u128::from).or_else(|| number(text, 255).ok().map(|one| one.low));
    let (low, high) = match split_once(text, b':') {
        Some((low, high)) => {
            (if low.is_empty() { Some(0) } else { one(low) }, if high.is_empty() { Some(255) } else { one(high) })
        }
        None => (one(text), one(text)),
    };
    match (low, high) {
        (Some(low), Some(high)) if low <= high => Ok(Interval { low, high }),
        _ => Err("a mobility header type or a range, low first"),
    }
}

fn routing(context: &Context<'_, '_>, group: &Group) -> Result<XtTest, Trouble> {
    let has = |name: &str| group.args.iter().any(|arg| arg.name == name);
    let addresses = match group.args.iter().find(|arg| arg.name == "rt-0-addrs") {
        None => Vec::new(),
        Some(arg) => context.read(arg, |text| {
            text.split(|byte| *byte == b',').map(|one| values::address(one, Family::Ipv6)).collect()
        })?,
    };
    Ok(XtTest::Extension(ExtensionTest::Routing {
        kind: bound(context, group, "rt-type", |text| number(text, WORD))?,
        segments: bound(context, group, "rt-segsleft", range(WORD))?,
        length: bound(context, group, "rt-len", |text| number(text, WORD))?,
        reserved: has("rt-0-res"),
        addresses,
        strict: !has("rt-0-not-strict"),
    }))
}

fn segments(context: &Context<'_, '_>, group: &Group) -> Result<XtTest, Trouble> {
    let mut test = SegmentTest { numbers: Vec::new(), addresses: Vec::new() };
    for arg in &group.args {
        let (which, max) = match arg.name {
            "srh-psid" | "srh-nsid" | "srh-lsid" => {
                let place = match arg.name {
                    "srh-psid" => Segment::Previous,
                    "srh-nsid" => Segment::Next,
                    _ => Segment::Last,
                };
                let masked = context.read(arg, |text| values::masked_address(text, Family::Ipv6))?;
                test.addresses.push((place, (masked.value, masked.mask), arg.negate));
                continue;
            }
            "srh-next-hdr" => (SegmentNumber::NextHeader, 255),
            "srh-tag" => (SegmentNumber::Tag, 0xffff),
            name if name.starts_with("srh-hdr-len") => (SegmentNumber::Length, 255),
            name if name.starts_with("srh-segs-left") => (SegmentNumber::Left, 255),
            _ => (SegmentNumber::Last, 255),
        };
        let value = context.read(arg, |text| number(text, max))?.low;
        let numbers = match arg.name {
            name if name.ends_with("-gt") => Interval { low: value + 1, high: u128::MAX },
            // nothing is less than 0, and an interval has at least one number
            name if name.ends_with("-lt") && value == 0 => Interval::single(u128::MAX),
            name if name.ends_with("-lt") => Interval { low: 0, high: value - 1 },
            _ => Interval::single(value),
        };
        test.numbers.push((which, numbers, arg.negate));
    }
    Ok(XtTest::Extension(ExtensionTest::Segments(test)))
}

fn options(context: &Context<'_, '_>, group: &Group, header: u8) -> Result<XtTest, Trouble> {
    let (length, list) = if header == 0 { ("hbh-len", "hbh-opts") } else { ("dst-len", "dst-opts") };
    let one = |text: &[u8]| -> Result<(u8, Option<u8>), Expected> {
        let byte = |text| number(text, 255).map(|number| number.low as u8);
        match split_once(text, b':') {
            Some((kind, length)) => Ok((byte(kind)?, Some(byte(length)?).filter(|length| *length != 255))),
            None => Ok((byte(text)?, None)),
        }
    };
    let options = match group.args.iter().find(|arg| arg.name == list) {
        None => Vec::new(),
        Some(arg) => context.read(arg, |text| text.split(|byte| *byte == b',').map(one).collect())?,
    };
    let length = bound(context, group, length, |text| number(text, WORD))?;
    Ok(XtTest::Extension(ExtensionTest::Options { header, length, options }))
}

fn headers(context: &Context<'_, '_>, group: &Group) -> Result<XtTest, Trouble> {
    const NAMES: [(&str, u8); 15] = [
        ("hop-by-hop", 0),
        ("hop", 0),
        ("ipv6-opts", 60),
        ("dst", 60),
        ("ipv6-route", 43),
        ("route", 43),
        ("ipv6-frag", 44),
        ("frag", 44),
        ("ah", 51),
        ("auth", 51),
        ("esp", 50),
        ("ipv6-nonxt", 59),
        ("none", 59),
        ("protocol", 255),
        ("prot", 255),
    ];
    let one = |text: &[u8]| {
        let named = NAMES.iter().find(|name| name.0.as_bytes() == text).map(|name| name.1);
        let number = named.or_else(|| number(text, 255).ok().map(|number| number.low as u8));
        number
            .and_then(extension_bit)
            .ok_or("IPv6 extension headers such as hop-by-hop,dst,route,frag,auth,esp,none,prot")
    };
    let Some(arg) = group.args.iter().find(|arg| arg.name == "header") else {
        return Err(Trouble { word: group.spans.first().map_or(0, |span| span.start), expected: "--header" });
    };
    let bits = |text: &[u8]| text.split(|byte| *byte == b',').map(one).try_fold(0, |all, bit| Ok(all | bit?));
    let soft = group.args.iter().any(|arg| arg.name == "soft");
    Ok(XtTest::ExtensionSet { wanted: context.read(arg, bits)?, soft, negate: arg.negate })
}

fn tcpmss(context: &Context<'_, '_>, group: &Group) -> Result<XtTest, Trouble> {
    match bound(context, group, "mss", range(0xffff))? {
        Some((sizes, negate)) => Ok(XtTest::TcpMss { sizes, negate }),
        None => Err(Trouble { word: group.spans.first().map_or(0, |span| span.start), expected: "--mss" }),
    }
}

fn dccp_types(text: &[u8]) -> Result<u16, Expected> {
    const NAMES: [&str; 11] =
        ["REQUEST", "RESPONSE", "DATA", "ACK", "DATAACK", "CLOSEREQ", "CLOSE", "RESET", "SYNC", "SYNCACK", "INVALID"];
    text.split(|byte| *byte == b',').try_fold(0, |bits, name| {
        let at = NAMES.iter().position(|known| known.as_bytes().eq_ignore_ascii_case(name));
        at.map(|at| bits | 1u16 << at).ok_or("DCCP packet types such as REQUEST,RESPONSE,DATA")
    })
}

fn chunks(context: &Context<'_, '_>, arg: &Arg) -> Result<XtTest, Trouble> {
    let which = match context.value(arg, 0).to_ascii_lowercase().as_slice() {
        b"any" => Chunks::Any,
        b"all" => Chunks::All,
        b"only" => Chunks::Only,
        _ => return Err(arg.trouble("any, all or only")),
    };
    let list = context.value(arg, 1);
    let chunks = if list.eq_ignore_ascii_case(b"ALL") {
        Ok((0..=255).map(|kind| (kind, None)).collect())
    } else if list.eq_ignore_ascii_case(b"NONE") {
        Ok(Vec::new())
    } else {
        list.split(|byte| *byte == b',').map(chunk).collect()
    };
    let chunks = chunks.map_err(|expected| Trouble { word: arg.values.start + 1, expected })?;
    Ok(XtTest::SctpChunks { which, chunks, negate: arg.negate })
}

/// `DATA` or `DATA:uBE`: a capital letter is a flag that is set, a small one a flag that is not (RFC 9260 §3.2).
fn chunk(text: &[u8]) -> Result<(u8, Option<(u8, u8)>), Expected> {
    const NAMES: [(&str, u8, &[u8]); 22] = [
        ("DATA", 0, b"EBUI"),
        ("INIT", 1, b""),
        ("INIT_ACK", 2, b""),
        ("SACK", 3, b""),
        ("HEARTBEAT", 4, b""),
        ("HEARTBEAT_ACK", 5, b""),
        ("ABORT", 6, b"T"),
        ("SHUTDOWN", 7, b""),
        ("SHUTDOWN_ACK", 8, b""),
        ("ERROR", 9, b""),
        ("COOKIE_ECHO", 10, b""),
        ("COOKIE_ACK", 11, b""),
        ("ECN_ECNE", 12, b""),
        ("ECN_CWR", 13, b""),
        ("SHUTDOWN_COMPLETE", 14, b"T"),
        ("I_DATA", 64, b"EBUI"),
        ("ASCONF_ACK", 128, b""),
        ("RE_CONFIG", 130, b""),
        ("PAD", 132, b""),
        ("FORWARD_TSN", 192, b""),
        ("ASCONF", 193, b""),
        ("I_FORWARD_TSN", 194, b""),
    ];
    const EXPECTED: Expected = "SCTP chunk types such as DATA:Be,INIT";
    let (name, letters) = split_once(text, b':').unwrap_or((text, b""));
    let (_, kind, flags) = NAMES.iter().find(|one| one.0.as_bytes().eq_ignore_ascii_case(name)).ok_or(EXPECTED)?;
    let mut looked_at = (0, 0);
    for letter in letters {
        let at = flags.iter().position(|flag| flag.eq_ignore_ascii_case(letter)).ok_or(EXPECTED)?;
        looked_at.0 |= 1 << at;
        looked_at.1 |= u8::from(letter.is_ascii_uppercase()) << at;
    }
    Ok((*kind, (looked_at.0 != 0).then_some(looked_at)))
}

fn cgroup(context: &Context<'_, '_>, group: &Group) -> Result<XtTest, Trouble> {
    match group.args.as_slice() {
        [arg] if arg.name == "cgroup" => {
            Ok(XtTest::CgroupClass { class: context.read(arg, values::word)?, negate: arg.negate })
        }
        [arg] => {
            let path = String::from_utf8_lossy(context.value(arg, 0));
            Ok(XtTest::CgroupPath { path: path.trim_matches('/').into(), negate: arg.negate })
        }
        _ => {
            let word = group.spans.first().map_or(0, |span| span.start);
            Err(Trouble { word, expected: "either --cgroup or --path" })
        }
    }
}

fn policy(context: &Context<'_, '_>, group: &Group) -> Result<XtTest, Trouble> {
    let none = match group.args.iter().find(|arg| arg.name == "pol") {
        None => false,
        Some(arg) => context.read(arg, |text| match text {
            b"none" => Ok(true),
            b"ipsec" => Ok(false),
            _ => Err("none or ipsec"),
        })?,
    };
    Ok(XtTest::Policy { none, elements: group.args.iter().any(|arg| !matches!(arg.name, "dir" | "pol")) })
}

const SECONDS_A_DAY: u32 = 86_400;

fn time(context: &Context<'_, '_>, group: &Group) -> Result<XtTest, Trouble> {
    let mut test = TimeTest {
        dates: (0, i32::MAX.into()),
        day: (0, SECONDS_A_DAY - 1),
        contiguous: false,
        weekdays: 0xfe,
        monthdays: 0xffff_fffe,
        local: false,
    };
    for arg in &group.args {
        match arg.name {
            "datestart" => test.dates.0 = context.read(arg, date)?,
            "datestop" => test.dates.1 = context.read(arg, date)?,
            "timestart" => test.day.0 = context.read(arg, time_of_day)?,
            "timestop" => test.day.1 = context.read(arg, time_of_day)?,
            "weekdays" => {
                let days = context.read(arg, weekdays)?;
                test.weekdays = if arg.negate { days ^ 0xfe } else { days };
            }
            "monthdays" => {
                let days = context.read(arg, monthdays)?;
                test.monthdays = if arg.negate { days ^ 0xffff_fffe } else { days };
            }
            "contiguous" => test.contiguous = true,
            "kerneltz" | "localtz" => test.local = true,
            _ => {}
        }
    }
    Ok(XtTest::Time(test))
}

/// Numbers between separators, `count` at most.
fn numbers(text: &[u8], separators: &[u8], count: usize) -> Option<Vec<u32>> {
    let parts = text.split(|byte| separators.contains(byte));
    let read = |part: &[u8]| -> Option<u32> { std::str::from_utf8(part).ok()?.parse().ok() };
    let numbers: Vec<u32> = parts.take(count + 1).map(read).collect::<Option<_>>()?;
    (numbers.len() <= count).then_some(numbers)
}

/// `YYYY[-MM[-DD[Thh[:mm[:ss]]]]]` as seconds since 1970.
fn date(text: &[u8]) -> Result<i64, Expected> {
    const EXPECTED: Expected = "a date such as 2026-01-31T08:30:00";
    let parts = numbers(text, b"-T:", 6).ok_or(EXPECTED)?;
    let part = |at: usize, default: u32| parts.get(at).copied().unwrap_or(default);
    let year = i32::try_from(part(0, 0)).map_err(|_| EXPECTED)?;
    let date = chrono::NaiveDate::from_ymd_opt(year, part(1, 1), part(2, 1)).ok_or(EXPECTED)?;
    let time = date.and_hms_opt(part(3, 0), part(4, 0), part(5, 0)).ok_or(EXPECTED)?;
    Ok(time.and_utc().timestamp())
}

/// `hh:mm[:ss]` as seconds since midnight.
fn time_of_day(text: &[u8]) -> Result<u32, Expected> {
    match numbers(text, b":", 3).as_deref() {
        Some([hour @ ..=23, minute @ ..=59]) => Ok(hour * 3600 + minute * 60),
        Some([hour @ ..=23, minute @ ..=59, second @ ..=59]) => Ok(hour * 3600 + minute * 60 + second),
        _ => Err("a time such as 08:30 or 08:30:00"),
    }
}

fn weekdays(text: &[u8]) -> Result<u8, Expected> {
    const NAMES: [&[u8]; 7] = [b"mon", b"tue", b"wed", b"thu", b"fri", b"sat", b"sun"];
    text.split(|byte| *byte == b',').try_fold(0, |days, day| {
        let named = NAMES.iter().position(|name| day.to_ascii_lowercase().starts_with(&name[..2]));
        let number = match day {
            [digit @ b'1'..=b'7'] => Some(usize::from(digit - b'1')),
            _ => named,
        };
        number.map(|at| days | 2u8 << at).ok_or("days such as Mon,Tue or 1,2")
    })
}

fn monthdays(text: &[u8]) -> Result<u32, Expected> {
    text.split(|byte| *byte == b',').try_fold(0, |days, day| match number(day, 31) {
        Ok(Interval { low: day @ 1.., .. }) => Ok(days | 1u32 << day),
        _ => Err("days of the month such as 1,15,31"),
    })
}
