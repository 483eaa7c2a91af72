//! One line, whatever it is.

use memchr::memmem;

use super::felix::{self, Flow};
use super::flowlog::Record;
use super::header::{self, Envelope, Wrap, decimal};
use super::json;
use super::kernel::{self, Packet};
use super::time::Stamper;

/// What a line holds.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "one value at a time, on the stack; a box would cost an allocation a line"
)]
pub enum What<'a> {
    /// A report line of Felix; look at its `flaw` before counting it.
    Flow(Flow<'a>),
    /// A packet line of the kernel.
    Packet(Packet<'a>),
    /// A flow log.
    FlowLog(Box<Record>),
    /// JSON that ends too early or is no JSON.
    BrokenJson,
    /// `last message repeated N times`.
    RepeatPrevious(u64),
    /// The writer says that it lost this many messages.
    Loss(u64),
    /// Another line of Felix.
    FelixOp {
        /// Level word.
        level: &'a [u8],
        /// Source file and line.
        caller: &'a [u8],
    },
    /// Another line of the kernel.
    KernelOther,
    /// Anything else.
    Other,
}

/// A line as read.
#[derive(Clone, Debug)]
pub struct Read<'a> {
    /// What stands around it.
    pub envelope: Envelope<'a>,
    /// `message repeated N times: [ … ]` around it.
    pub repeat: Option<u64>,
    /// What it holds.
    pub what: What<'a>,
}

/// Room for what a line does not hold as plain text: strings taken out of JSON. Reused from line to line.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(super) message: Vec<u8>,
    pub(super) host: Vec<u8>,
    pub(super) tag: Vec<u8>,
}

/// Reads one line, without or with its line end.
pub fn read<'a>(line: &'a [u8], scratch: &'a mut Scratch, stamper: &mut Stamper<'_>) -> Read<'a> {
    // journalctl's json-seq has a record separator in front
    let text = line.strip_prefix(b"\x1e").unwrap_or(line);
    if text.first() == Some(&b'{') {
        return json::read(text, scratch, stamper);
    }
    let envelope = header::open(line, stamper);
    let read = classify(envelope, false);
    if envelope.wrap == Wrap::None
        && matches!(read.what, What::Other | What::Packet(_))
        && let Some(unusual) = header::open_unusual(line, stamper)
    {
        return classify(unusual, false);
    }
    read
}

/// Reads the message of an envelope. `from_kernel`: the envelope itself says that the kernel wrote it.
pub(super) fn classify(envelope: Envelope<'_>, from_kernel: bool) -> Read<'_> {
    let (repeat, message) = repetition(envelope.message);
    let what = what(&envelope, message, from_kernel);
    Read { envelope, repeat, what }
}

fn what<'a>(envelope: &Envelope<'a>, message: &'a [u8], from_kernel: bool) -> What<'a> {
    if let Some(rest) = message.strip_prefix(b"last message repeated ") {
        return leading_number(rest).map_or(What::Other, What::RepeatPrevious);
    }
    if let Some(flow) = felix::read(message) {
        return What::Flow(flow);
    }
    let kernel = from_kernel || is_kernel(envelope, message);
    if kernel && let Some(packet) = kernel::read(message) {
        return What::Packet(packet);
    }
    if let Some(count) = loss(message) {
        return What::Loss(count);
    }
    if let Some((level, caller)) = felix_file(message) {
        return What::FelixOp { level, caller };
    }
    if envelope.tag == Some(b"calico-felix")
        && let Some((level, caller, _)) = felix::caller(message)
    {
        return What::FelixOp { level, caller };
    }
    if kernel && envelope.wrap != Wrap::None { What::KernelOther } else { What::Other }
}

/// `WARNING][61] felix/endpoint_mgr.go 1334: …`: what follows the first bracket in Felix's own file.
fn felix_file(message: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = message.strip_prefix(b"[").unwrap_or(message);
    let close = text.iter().take(10).position(|byte| *byte == b']')?;
    let level = text.get(..close).filter(|level| header::is_level(level))?;
    let rest = text.get(close + 1..)?.strip_prefix(b"[")?;
    let close = rest.iter().take(12).position(|byte| *byte == b']')?;
    let rest = rest.get(close + 1..)?.trim_ascii_start();
    let colon = rest.iter().take(160).position(|byte| *byte == b':')?;
    Some((level, rest.get(..colon)?))
}

/// Only the kernel (or ulogd, in the same form) writes packet lines; any program may quote one.
fn is_kernel(envelope: &Envelope<'_>, message: &[u8]) -> bool {
    match envelope.tag {
        Some(tag) => matches!(tag, b"kernel" | b"ulogd"),
        None => match envelope.wrap {
            Wrap::Dmesg => true,
            // no header at all (`dmesg -t`, `journalctl -o cat`), but nothing that names a process either
            Wrap::None => {
                let before = memmem::find(message, b" OUT=").and_then(|at| message.get(..at)).unwrap_or_default();
                memmem::find(before, b"]: ").is_none()
            }
            _ => false,
        },
    }
}

/// Takes `message repeated N times: [ … ]` off; a cut line has lost the closing bracket.
fn repetition(message: &[u8]) -> (Option<u64>, &[u8]) {
    let inner = message.strip_prefix(b"message repeated ").and_then(|rest| {
        let count = leading_number(rest)?;
        let open = rest.iter().take(40).position(|byte| *byte == b'[')?;
        let inner = rest.get(open + 1..)?.trim_ascii();
        Some((count, inner.strip_suffix(b"]").unwrap_or(inner)))
    });
    inner.map_or((None, message), |(count, inner)| (Some(count), inner))
}

fn leading_number(text: &[u8]) -> Option<u64> {
    let digits = text.iter().take(11).take_while(|byte| byte.is_ascii_digit()).count();
    decimal(text.get(..digits)?).map(u64::from)
}

/// The number in front of the words of a loss notice.
fn loss(message: &[u8]) -> Option<u64> {
    const AFTER: [&[u8]; 5] = [
        b" messages lost due to rate-limiting",
        b" callbacks suppressed",
        b" messages suppressed",
        b" logs ...",
        b" kernel messages",
    ];
    if let Some(at) = memmem::find(message, b"Suppressed ") {
        let rest = message.get(at + 11..)?;
        return leading_number(rest).filter(|_| memmem::find(rest, b" messages from ").is_some());
    }
    AFTER.iter().find_map(|words| {
        let end = memmem::find(message, words)?;
        let before = message.get(..end)?;
        let start = before.iter().rposition(|byte| !byte.is_ascii_digit()).map_or(0, |at| at + 1);
        decimal(before.get(start..)?).map(u64::from)
    })
}

/// The whole line that a torn write left behind a broken report line of Felix on the same physical line. Only Felix's own
/// broken lines are searched: other programs quote what they like.
#[must_use]
pub fn torn_second(line: &[u8]) -> Option<&[u8]> {
    let first = memmem::find(line, b"action=\"")?;
    let after = first + 8;
    let tag = after + memmem::find(line.get(after..)?, b" calico-felix[")?;
    let before = line.get(..tag)?;
    let host = memchr::memrchr(b' ', before)?;
    let stamp = before.get(..host)?;
    // `Aug  4 16:14:12` has fifteen bytes; an RFC 3339 stamp ten before its `T`
    let classic = stamp.len().checked_sub(15).filter(|at| *at > after);
    let iso = memchr::memrchr(b'T', stamp).and_then(|at| at.checked_sub(10)).filter(|at| *at > after);
    let is_stamp = |at: &usize| {
        let text = line.get(*at..).unwrap_or_default();
        let colons = text.iter().take(20).filter(|byte| **byte == b':').count();
        colons >= 2 && text.first().is_some_and(u8::is_ascii_alphanumeric)
    };
    let start = [iso, classic].into_iter().flatten().find(is_stamp)?;
    line.get(start..)
}

#[cfg(test)]
mod tests {
    use super::super::time::Clock;
    use super::*;

    fn kind(line: &str) -> String {
        let mut scratch = Scratch::default();
        let mut stamper = Stamper::new(Clock::utc(1_787_300_000));
        let read = read(line.as_bytes(), &mut scratch, &mut stamper);
        match read.what {
            What::Flow(_) => "flow".to_owned(),
            What::Packet(_) => "packet".to_owned(),
            What::RepeatPrevious(count) => format!("previous {count}"),
            What::Loss(count) => format!("loss {count}"),
            What::FelixOp { .. } => "felix".to_owned(),
            What::KernelOther => "kernel".to_owned(),
            What::FlowLog(_) => "flowlog".to_owned(),
            What::BrokenJson => "broken".to_owned(),
            What::Other => "other".to_owned(),
        }
    }

    #[test]
    fn only_felix_and_the_kernel_are_believed() {
        let report = r#"INFO <nil> <nil>:  action="deny" dstIP="1.1.1.1" srcIP="2.2.2.2""#;
        let packet = "x: IN=eth0 OUT= SRC=1.1.1.1 DST=2.2.2.2 PROTO=TCP";
        for (line, expected) in [
            (format!("Aug  4 16:14:12 h calico-felix[1]: {report}"), "flow"),
            (format!("Aug  4 16:14:12 h calico-node.service[1]: {report}"), "flow"),
            (format!("Aug  4 16:14:12 h sshd[1]: Invalid user {report} from 1.2.3.4"), "other"),
            (format!("Aug  4 16:14:12 h myapp[1]: request rejected: {report}"), "other"),
            (format!("Aug  4 16:14:12 h kernel: {packet}"), "packet"),
            (format!("Aug  4 16:14:12 h kernel: [  12.5] {packet}"), "packet"),
            (format!("Aug  4 16:14:12 h sshd[1]: Invalid user {packet}"), "other"),
            (format!("Aug  4 16:14:12 h sudo: COMMAND={packet}"), "other"),
            (format!("[  12.5] {packet}"), "packet"),
            (format!("<5>[  12.5] {packet}"), "packet"),
            (format!("kern  :notice: [  12.5] {packet}"), "packet"),
            (packet.to_owned(), "packet"),
            (format!("odd header sshd[1]: {packet}"), "other"),
            ("Aug  4 16:14:12 h systemd-journald[3]: Missed 12 kernel messages".to_owned(), "loss 12"),
        ] {
            assert_eq!(kind(&line), expected, "{line}");
        }
    }

    #[test]
    fn the_second_half_of_a_torn_line_is_found() {
        let whole = r#"Aug  4 16:14:12 bastion calico-felix[1]: INFO <nil> <nil>:  action="deny" dstIP="1.1.1.1""#;
        let torn =
            format!("Aug  4 16:14:12 bastion calico-felix[1]: INFO <nil> <nil>:  action=\"deny\" dstIP=\"147.7{whole}");
        assert_eq!(torn_second(torn.as_bytes()), Some(whole.as_bytes()));
        let iso = whole.replace("Aug  4 16:14:12", "2022-08-04T16:14:12.000001+00:00");
        let torn = format!("{iso} dstPort=\"4{iso}");
        assert_eq!(torn_second(torn.as_bytes()), Some(iso.as_bytes()));
        assert_eq!(torn_second(whole.as_bytes()), None);
    }
}
