//! Which lines of JSON are worth parsing: most objects of a flow log tell of nothing denied, and parsing one takes as long as
//! searching twenty.

use std::sync::LazyLock;

use memchr::memmem::{Finder, FinderBuilder};
use memchr::{memchr, memchr_iter};

/// Bytes of our needles that are rare in logs, hence the ones to look for first.
pub(super) struct Rare;

impl memchr::arch::all::packedpair::HeuristicFrequencyRank for Rare {
    fn rank(&self, byte: u8) -> u8 {
        match byte {
            b'y' | b'{' | b'U' => 0,
            b'd' | b'\n' | b'O' => 1,
            b'"' | b'=' | b' ' => 255,
            _ => 128,
        }
    }
}

struct Marks {
    packet: Finder<'static>,
    action: Finder<'static>,
    message: Finder<'static>,
}

static MARKS: LazyLock<Marks> = LazyLock::new(|| {
    let finder = |mark: &'static [u8]| FinderBuilder::new().build_forward_with_ranker(Rare, mark);
    Marks { packet: finder(b" OUT="), action: finder(b"action"), message: finder(b"\"MESSAGE\"") }
});

/// Whether a line of JSON may hold a packet line, a report line or a flow log; with `only_denies`, a report line or flow log
/// of something denied. A line that it says no to holds none, however it is written.
#[must_use]
pub(super) fn may_hold_event(line: &[u8], only_denies: bool) -> bool {
    let Marks { packet, action, message } = &*MARKS;
    let mut actions = action.find_iter(line);
    packet.find(line).is_some()
        || actions.any(|at| !only_denies || may_be_deny(line, at))
        || message.find(line).is_some_and(|at| {
            let rest = line.get(at + message.needle().len()..).unwrap_or_default();
            // a message of byte values hides its words; of two fields of that name the last counts
            value(rest).first() == Some(&b'[') || message.find(rest).is_some()
        })
        || hides_words(line)
}

/// Whether the word `action` at `at` may be of a deny: a key with such a value, or the first word of a report line's pairs.
fn may_be_deny(line: &[u8], at: usize) -> bool {
    let (before, rest) = line.split_at_checked(at).unwrap_or_default();
    let rest = rest.get(b"action".len()..).unwrap_or_default();
    match rest.strip_prefix(b"\"") {
        Some(after) if before.ends_with(b"\"") => {
            let word = value(after).strip_prefix(b"\"").and_then(|word| word.first_chunk::<4>());
            word.is_some_and(|word| word.eq_ignore_ascii_case(b"deny"))
        }
        Some(_) => false,
        None => rest.strip_prefix(b"=").is_some_and(|value| {
            let quotes = [&b"\\\""[..], b"\\u0022", b"\""];
            let word = quotes.into_iter().find_map(|quote| value.strip_prefix(quote)).unwrap_or(value);
            word.starts_with(b"deny")
        }),
    }
}

/// What follows a key's closing quote, from the value on.
fn value(after_key: &[u8]) -> &[u8] {
    let start = after_key.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b':'));
    after_key.get(start.unwrap_or(after_key.len())..).unwrap_or_default()
}

/// Whether letters, blanks or equals signs are written as `\u` and a number, so that words cannot be searched for.
/// `<`, `>`, `&` and both quotes often are, in JSON that a web page may show, and control characters must be.
fn hides_words(line: &[u8]) -> bool {
    if memchr(b'\\', line).is_none() {
        return false;
    }
    memchr_iter(b'\\', line).any(|at| {
        let code = line.get(at + 1..at + 6).and_then(|escape| escape.strip_prefix(b"u00"));
        code.is_some_and(|code| {
            !matches!(code, [b'0' | b'1', _] | b"22" | b"26" | b"27" | [b'3', b'c' | b'C' | b'e' | b'E'])
        })
    })
}

#[cfg(test)]
mod tests {
    use super::super::event::{Action, Event};
    use super::super::line::{Scratch, What, read};
    use super::super::time::{Clock, Stamper};
    use super::*;

    const FELIX: &str = r#"INFO <nil> <nil>:  action=\"deny\" dstIP=\"147.75.40.148\" dstPort=\"443\" inBytes=0 inPackets=0 outBytes=120 outPackets=2 policy=\"p\" proto=\"6\" rule=\"-1\" ruleDir=\"egress\" srcIP=\"10.0.1.10\" srcPort=\"57312\" tier=\"t\" trafficDir=\"outbound\" updateType=report"#;

    fn lines() -> Vec<String> {
        let packet = "x: IN=eth0 OUT= SRC=1.1.1.1 DST=2.2.2.2 PROTO=TCP";
        let bytes: Vec<String> = packet.bytes().map(|byte| byte.to_string()).collect();
        vec![
            format!(r#"{{"log":"{FELIX}\n","stream":"stdout","time":"2026-08-21T07:02:11Z"}}"#),
            format!(r#"{{"MESSAGE":"{FELIX}","SYSLOG_IDENTIFIER":"calico-felix"}}"#),
            format!(r#"{{"MESSAGE":"{packet}","_TRANSPORT":"kernel"}}"#),
            format!(r#"{{"MESSAGE" : [{}],"_TRANSPORT":"kernel"}}"#, bytes.join(",")),
            format!(r#"{{"MESSAGE":"","MESSAGE":[[{}]],"_TRANSPORT":"kernel"}}"#, bytes.join(",")),
            r#"{"action":"deny","dest_ip":"1.1.1.1","policies":{"all_policies":["0|t|t.p|deny|-1"]}}"#.to_owned(),
            r#"{"policies":{"enforced":[{"action":"Deny"}]},"action" : "Deny"}"#.to_owned(),
            r#"{"action":"allow","policies":[],"action":"DENY"}"#.to_owned(),
        ]
    }

    /// What the reader takes a line for: a deny (1), another event (2), or none of either (0).
    fn told(line: &[u8]) -> u8 {
        let mut scratch = Scratch::default();
        let read = read(line, &mut scratch, &mut Stamper::new(Clock::utc(1_787_300_000)));
        let of = |action: Action| if Action::DENIES.contains(&action) { 1 } else { 2 };
        match &read.what {
            What::Flow(flow) => of(Event::of_flow(flow).action),
            // whatever its rule says, it is counted
            What::Packet(_) => 1,
            What::FlowLog(record) => of(record.action),
            _ => 0,
        }
    }

    fn check(line: &[u8]) -> u8 {
        let told = told(line);
        let text = String::from_utf8_lossy(line);
        assert!(told != 1 || may_hold_event(line, true), "a deny is passed over: {text}");
        assert!(told == 0 || may_hold_event(line, false), "an event is passed over: {text}");
        told
    }

    #[test]
    fn no_line_that_the_reader_takes_for_an_event_is_passed_over() {
        let mut events = 0;
        for line in lines() {
            assert_eq!(check(line.as_bytes()), 1, "{line}");
            let line = line.as_bytes();
            for at in 0..line.len() {
                for byte in *b"dDyY09 \t=:\"\\[]{},u\x00\xff" {
                    let mut changed = line.to_vec();
                    changed[at] = byte;
                    events += usize::from(check(&changed) > 0);
                    changed[at] = line[at];
                    changed.insert(at, byte);
                    events += usize::from(check(&changed) > 0);
                }
                // the same character in JSON's other spelling, either way
                if line[at].is_ascii() && line[at] != b'\\' {
                    for escape in [format!("\\u{:04x}", line[at]), format!("\\u{:04X}", line[at])] {
                        events += usize::from(check(&[&line[..at], escape.as_bytes(), &line[at + 1..]].concat()) > 0);
                    }
                }
                events += usize::from(check(&[&line[..at], &line[at + 1..]].concat()) > 0);
                events += usize::from(check(&[&line[..at], b"\r\n \t", &line[at..]].concat()) > 0);
            }
        }
        assert!(events > 10_000, "only {events} of the changed lines were events");
    }

    #[test]
    fn flow_logs_that_only_name_a_deny_are_passed_over() {
        for (line, denies, any) in [
            (r#"{"action":"allow","policies":{"all_policies":["0|t|t.default-deny|pass|0"]}}"#, false, true),
            (
                r#"{"action":"allow","policies":{"all_policies":["0|t|t.p|deny|-1","1|t|t.action=deny|allow|0"]}}"#,
                true,
                true,
            ),
            (r#"{"log":"INFO <nil> <nil>:  action=\"allow\" policy=\"default-deny\""}"#, false, true),
            (r#"{"log":"INFO <nil> <nil>:  action=\u0022deny\u0022"}"#, true, true),
            (r#"{"xaction":"deny","dest_name":"reaction\u0026\u003cdeny\u003e"}"#, false, true),
            (r#"{"MESSAGE":"said \"deny\" and left \u001b[0m","PRIORITY":"6"}"#, false, false),
            (r#"{"MESSAGE":"d\u0065ny","PRIORITY":"6"}"#, true, true),
        ] {
            assert_eq!(may_hold_event(line.as_bytes(), true), denies, "{line}");
            assert_eq!(may_hold_event(line.as_bytes(), false), any, "{line}");
        }
    }
}
