//! What stands around a message: syslog headers, journal and kernel ring buffer forms, container wrappers.
//!
//! The kind is decided for each line, since one file may hold several. Nothing here fails: a line without a header that is
//! known is all message.

use memchr::{memchr, memchr3};

use super::time::{Micros, Stamper};

/// The form of a line's envelope.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wrap {
    /// No header was recognised.
    None,
    /// `Aug  4 16:14:12 host tag[pid]: ` (RFC 3164, journalctl short).
    Rfc3164,
    /// `2026-08-21T07:02:11.482913+02:00 host tag[pid]: `.
    Rfc3339,
    /// As `Rfc3339` with a zone without colon (journalctl short-iso).
    ShortIso,
    /// `<14>1 time host app procid msgid sd `.
    Rfc5424,
    /// `[98765.432101] `: the kernel ring buffer, or journalctl short-monotonic.
    Dmesg,
    /// A line of a container's log file (CRI), or of `kubectl logs --timestamps`.
    Cri,
    /// A line of Felix's own log file.
    FelixFile,
    /// `journalctl -o json`.
    JournalJson,
    /// Docker's json-file.
    DockerJson,
    /// Something only the tolerant reader understood.
    Unusual,
}

/// A line taken apart.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    /// Form.
    pub wrap: Wrap,
    /// Time of the header.
    pub time: Option<Micros>,
    /// Syslog priority (`facility * 8 + severity`).
    pub pri: Option<u8>,
    /// Host name.
    pub host: Option<&'a [u8]>,
    /// Program.
    pub tag: Option<&'a [u8]>,
    /// Process id.
    pub pid: Option<u32>,
    /// The rest, without blanks in front.
    pub message: &'a [u8],
}

impl<'a> Envelope<'a> {
    /// An envelope around nothing but `message`.
    #[must_use]
    pub fn bare(message: &'a [u8]) -> Self {
        Self { wrap: Wrap::None, time: None, pri: None, host: None, tag: None, pid: None, message }
    }
}

/// Takes a line apart. Line end, trailing blanks, NUL bytes in front (holes of a crash) and a byte order mark are dropped.
pub fn open<'a>(line: &'a [u8], stamper: &mut Stamper<'_>) -> Envelope<'a> {
    let mut line = trim_end(line);
    if line.first() == Some(&0) {
        let nuls = line.iter().take_while(|byte| **byte == 0).count();
        line = line.get(nuls..).unwrap_or_default();
    }
    line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
    let (pri, rest) = priority(line);
    if pri.is_some()
        && let Some(after) = rest.strip_prefix(b"1 ")
        && let Some(mut envelope) = rfc5424(after, stamper)
    {
        envelope.pri = pri;
        return envelope;
    }
    let known = match rest.first() {
        Some(byte) if byte.is_ascii_uppercase() => classic(rest, stamper),
        Some(byte) if byte.is_ascii_digit() => dated(rest, stamper),
        Some(b'[') => ring_buffer(rest, stamper),
        _ => dmesg_decoded(rest, stamper),
    };
    let mut envelope = known.unwrap_or_else(|| Envelope::bare(rest));
    envelope.pri = pri;
    envelope
}

/// The tolerant reader, for the few candidate lines whose header [`open`] does not know.
pub fn open_unusual<'a>(line: &'a [u8], stamper: &mut Stamper<'_>) -> Option<Envelope<'a>> {
    let text = std::str::from_utf8(trim_end(line)).ok().filter(|text| text.len() <= 16 * 1024)?;
    let reference = stamper.reference_offset();
    let zone = i32::try_from(reference).ok().and_then(chrono::FixedOffset::east_opt)?;
    // the reader wants a year from a function it may call once, without our state
    let year = std::cell::RefCell::new(stamper);
    let read = syslog_loose::parse_message_with_year_exact_tz(
        text,
        |(month, day, hour, minute, second)| {
            let second = i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second);
            let year = year.borrow_mut().year_of(month, day, second);
            year.and_then(|year| i32::try_from(year).ok()).unwrap_or(1970)
        },
        Some(zone),
        syslog_loose::Variant::Either,
    )
    .ok()?;
    let tag = read.appname?.as_bytes();
    Some(Envelope {
        wrap: Wrap::Unusual,
        time: read.timestamp.map(|time| time.timestamp_micros()),
        pri: None,
        host: read.hostname.map(str::as_bytes),
        tag: Some(tag),
        pid: match read.procid {
            Some(syslog_loose::ProcId::PID(pid)) => u32::try_from(pid).ok(),
            _ => None,
        },
        message: read.msg.as_bytes().trim_ascii_start(),
    })
}

/// `line` without line end and trailing blanks.
#[must_use]
pub fn trim_end(line: &[u8]) -> &[u8] {
    line.trim_ascii_end()
}

/// `<14>`.
fn priority(line: &[u8]) -> (Option<u8>, &[u8]) {
    let read = line.strip_prefix(b"<").and_then(|rest| {
        let close = rest.iter().take(4).position(|byte| *byte == b'>')?;
        let value = decimal(rest.get(..close)?)?;
        Some((u8::try_from(value).ok().filter(|value| *value <= 191)?, rest.get(close + 1..)?))
    });
    read.map_or((None, line), |(value, rest)| (Some(value), rest))
}

fn rfc5424<'a>(text: &'a [u8], stamper: &mut Stamper<'_>) -> Option<Envelope<'a>> {
    let (stamp, rest) = word(text)?;
    let time = if stamp == b"-" { None } else { stamper.iso(stamp)?.0 };
    let (host, rest) = word(rest)?;
    let (tag, rest) = word(rest)?;
    let (pid, rest) = word(rest)?;
    let (_message_id, rest) = word(rest)?;
    let message = structured_data(rest)?;
    let nil = |text: &'a [u8]| (text != b"-").then_some(text);
    Some(Envelope {
        wrap: Wrap::Rfc5424,
        time,
        pri: None,
        host: nil(host),
        tag: nil(tag),
        pid: decimal(pid),
        message: message.strip_prefix(b"\xef\xbb\xbf").unwrap_or(message).trim_ascii_start(),
    })
}

/// Skips `-` or `[id name="value"][…]`; quotes may hold `\]` and `\"`.
fn structured_data(text: &[u8]) -> Option<&[u8]> {
    if let Some(rest) = text.strip_prefix(b"-") {
        return Some(rest.trim_ascii_start());
    }
    let mut rest = text;
    while let Some(element) = rest.strip_prefix(b"[") {
        let (mut quoted, mut escaped, mut end) = (false, false, None);
        for (at, byte) in element.iter().enumerate() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                b']' if !quoted => {
                    end = Some(at);
                    break;
                }
                _ => {}
            }
        }
        rest = element.get(end? + 1..)?;
    }
    (rest.len() < text.len()).then(|| rest.trim_ascii_start())
}

/// `Aug  4 16:14:12 host tag[pid]: …`, also without a host (Go's local syslog) and `Fri 2026-08-21 07:02:11 UTC host …`.
fn classic<'a>(text: &'a [u8], stamper: &mut Stamper<'_>) -> Option<Envelope<'a>> {
    if let Some((time, rest)) = stamper.classic(text) {
        return Some(after_time(Wrap::Rfc3164, time, rest.strip_prefix(b" ")?));
    }
    let weekday = text.get(..3)?.iter().all(u8::is_ascii_alphabetic);
    if weekday && text.get(3) == Some(&b' ') {
        let (time, rest) = stamper.iso(text.get(4..)?)?;
        let rest = rest.trim_ascii_start();
        // a zone name we do not know: the stamp was taken as local time, which is what it is
        let rest = match word(rest) {
            Some((zone, after)) if zone.len() <= 5 && zone.iter().all(u8::is_ascii_uppercase) => after,
            _ => rest,
        };
        return Some(after_time(Wrap::Rfc3164, time, rest));
    }
    None
}

/// Everything that begins with a digit.
fn dated<'a>(text: &'a [u8], stamper: &mut Stamper<'_>) -> Option<Envelope<'a>> {
    if let Some((time, rest)) = stamper.iso(text) {
        let stamp = text.len() - rest.len();
        let rest = rest.strip_prefix(b" ")?;
        if text.get(10) == Some(&b' ')
            && let Some(message) = rest.strip_prefix(b"[")
        {
            return Some(felix_file(time, message));
        }
        for stream in [b"stdout ", b"stderr "] {
            if let Some((b"F" | b"P", message)) = rest.strip_prefix(stream).and_then(word) {
                return Some(inner(Wrap::Cri, time, message, stamper));
            }
        }
        let short_iso = text.get(stamp.saturating_sub(5)).is_some_and(|byte| matches!(byte, b'+' | b'-'));
        return Some(after_time(if short_iso { Wrap::ShortIso } else { Wrap::Rfc3339 }, time, rest));
    }
    // `2026 May 14 05:41:28.000183 host LEVEL tag: `
    let (year, rest) = text.split_at_checked(4)?;
    let rest = rest.strip_prefix(b" ")?;
    if !year.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let (_, after) = stamper.classic(rest)?;
    let moved = rest.get(..rest.len() - after.len())?;
    // month and day, then the year where the stamper looks for it
    let clock = memchr::memrchr(b' ', moved)?;
    let mut joined = moved.get(..clock)?.to_vec();
    joined.push(b' ');
    joined.extend_from_slice(year);
    joined.extend_from_slice(moved.get(clock..)?);
    let (time, _) = stamper.classic(&joined)?;
    let (host, rest) = word(after.strip_prefix(b" ")?)?;
    let rest = match word(rest) {
        Some((level, after)) if is_level(level) => after,
        _ => rest,
    };
    let (tag, pid, message) = tagged(rest)?;
    let (host, tag) = (Some(host), Some(tag));
    Some(Envelope { wrap: Wrap::Rfc3164, time, pri: None, host, tag, pid, message })
}

/// `[INFO][61] felix/file.go 12: …` of Felix's own log file, from behind the first bracket.
fn felix_file(time: Option<Micros>, text: &[u8]) -> Envelope<'_> {
    let pid = text.split(|byte| matches!(byte, b'[' | b']')).nth(2).and_then(decimal);
    Envelope { wrap: Wrap::FelixFile, time, pri: None, host: None, tag: None, pid, message: text }
}

/// A line within a line; the outer time stands in when the inner has none.
fn inner<'a>(wrap: Wrap, time: Option<Micros>, message: &'a [u8], stamper: &mut Stamper<'_>) -> Envelope<'a> {
    let nested = match message.first() {
        Some(byte) if byte.is_ascii_digit() => {
            stamper.iso(message).and_then(|(time, rest)| Some(felix_file(time, rest.strip_prefix(b" [")?)))
        }
        _ => None,
    };
    match nested {
        Some(nested) => Envelope { wrap, ..nested },
        None => Envelope { wrap, time, ..Envelope::bare(message.trim_ascii_start()) },
    }
}

/// Kernel ring buffer: `[  398.12] …` and `[Fri Aug 21 07:20:26 2026] …`. journalctl's short-monotonic has host and tag
/// behind the bracket; they are taken for such only when unmistakable, since log prefixes look alike.
fn ring_buffer<'a>(text: &'a [u8], stamper: &mut Stamper<'_>) -> Option<Envelope<'a>> {
    let close = text.iter().take(40).position(|byte| *byte == b']')?;
    let (stamp, rest) = (text.get(1..close)?, text.get(close + 1..)?.strip_prefix(b" ")?);
    let mut envelope = Envelope { wrap: Wrap::Dmesg, ..Envelope::bare(rest) };
    if stamp.trim_ascii_start().iter().all(|byte| byte.is_ascii_digit() || *byte == b'.') {
        // since boot: a time only with the boot's, which the line does not have
        if let Some((host, after)) = word(rest)
            && let Some((tag, pid, message)) = tagged(after)
            && (pid.is_some() || tag == b"kernel")
        {
            envelope.host = Some(host);
            (envelope.tag, envelope.pid, envelope.message) = (Some(tag), pid, message);
            return Some(envelope);
        }
        // the uptime belongs to the kernel's message
        envelope.message = text;
        return Some(envelope);
    }
    envelope.time = stamper.classic(stamp.get(4..)?)?.0;
    Some(envelope)
}

/// `kern  :notice: [  398.12] …` of `dmesg -x`.
fn dmesg_decoded<'a>(text: &'a [u8], stamper: &mut Stamper<'_>) -> Option<Envelope<'a>> {
    let rest = text.strip_prefix(b"kern")?.trim_ascii_start().strip_prefix(b":")?;
    let colon = rest.iter().take(8).position(|byte| *byte == b':')?;
    ring_buffer(rest.get(colon + 1..)?.trim_ascii_start(), stamper)
}

/// `host tag[pid]: message` behind a time. `kubectl logs --timestamps` and remote writers may leave out host and tag.
fn after_time<'a>(wrap: Wrap, time: Option<Micros>, text: &'a [u8]) -> Envelope<'a> {
    let bare = Envelope { wrap, time, ..Envelope::bare(text.trim_ascii_start()) };
    let Some((first, rest)) = word(text) else { return bare };
    if is_level(first) {
        return bare;
    }
    // a first word that is a whole tag: Go's local syslog form, without host
    if first.ends_with(b":")
        && let Some((tag, pid, message)) = tagged(text)
        && (pid.is_some() || tag == b"kernel")
    {
        return Envelope { tag: Some(tag), pid, message, ..bare };
    }
    match tagged(rest) {
        Some((tag, pid, message)) => Envelope { host: Some(first), tag: Some(tag), pid, message, ..bare },
        None => Envelope { host: Some(first), message: rest.trim_ascii_start(), ..bare },
    }
}

/// `tag[pid]: ` or `tag: `.
pub(super) fn tagged(text: &[u8]) -> Option<(&[u8], Option<u32>, &[u8])> {
    let end = memchr3(b':', b'[', b' ', text.get(..128).unwrap_or(text))?;
    let (tag, rest) = text.split_at_checked(end)?;
    let (pid, rest) = match rest.strip_prefix(b"[") {
        Some(rest) => {
            let close = memchr(b']', rest.get(..32).unwrap_or(rest))?;
            (decimal(rest.get(..close)?), rest.get(close + 1..)?)
        }
        None => (None, rest),
    };
    let message = rest.strip_prefix(b":")?;
    (!tag.is_empty()).then(|| (tag, pid, message.trim_ascii_start()))
}

/// Up to the next blank, and what follows it.
fn word(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let blank = text.iter().take(512).position(|byte| *byte == b' ')?;
    Some((text.get(..blank)?, text.get(blank + 1..)?))
}

/// Felix's level words.
#[must_use]
pub fn is_level(word: &[u8]) -> bool {
    matches!(word, b"DEBUG" | b"INFO" | b"NOTICE" | b"WARNING" | b"WARN" | b"ERROR" | b"FATAL" | b"PANIC")
}

/// A decimal number of at most ten digits.
#[must_use]
pub fn decimal(text: &[u8]) -> Option<u32> {
    if text.is_empty() || text.len() > 10 {
        return None;
    }
    text.iter().try_fold(0u32, |value, byte| {
        let digit = byte.is_ascii_digit().then(|| u32::from(byte - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}
